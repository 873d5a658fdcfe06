//! SIGHUP and changed certificate files: what a running server takes, with no connection dropped.

use crate::certificates::today;
use crate::kit::{Process, Ready, Temp, check_done, server_with_file, user_with};
use crate::peer::{Peer, header};
use std::fs;
use std::path::Path;
use xmpp_certs::{DevCa, Leaf};

const PING: &str = "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>";

/// A file with these domains, and `more`.
fn write(temp: &Temp, domains: &[&str], more: &str) -> std::path::PathBuf {
    let mut text = String::from("data_dir = \"data\"\n[s2s]\nenabled = false\n");
    if !more.contains("[c2s]") {
        text += "[c2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = [\"127.0.0.1:0\"]\n";
    }
    for domain in domains {
        text += &format!("[[domain]]\nname = \"{domain}\"\n");
    }
    temp.write("x.toml", &(text + more))
}

/// SIGHUP, and the line that says how it went.
fn hang_up(process: &mut Process, words: &str) -> String {
    process.signal("HUP");
    process.log(words)
}

fn add(temp: &Temp, jid: &str) {
    let ended = user_with(&temp.data(), &["add", jid, "--password-stdin"], "pw\n");
    check_done(&ended, "");
}

fn sign_in(server: &Ready, temp: &Temp, jid: &str) -> Peer {
    let ca = temp.data().join("ca/ca.pem");
    Peer::sign_in(server.starttls(), &ca, jid, "pw").unwrap()
}

#[track_caller]
fn is_alive(peer: &mut Peer) {
    peer.send(PING);
    peer.until("type='result'");
}

#[test]
fn domains_come_and_go_and_connections_stay() {
    let temp = Temp::new();
    let mut server = Ready::new(server_with_file(&write(&temp, &["a.test", "b.test"], "")));
    add(&temp, "ann@a.test");
    add(&temp, "ben@b.test");
    let mut ann = sign_in(&server, &temp, "ann@a.test");
    let mut ben = sign_in(&server, &temp, "ben@b.test");
    write(&temp, &["a.test", "c.test"], "");
    hang_up(&mut server.process, "configuration reloaded");
    let rest = ben.rest();
    assert!(rest.contains("<host-gone "), "{rest}");
    is_alive(&mut ann);
    add(&temp, "cid@c.test");
    is_alive(&mut sign_in(&server, &temp, "cid@c.test"));
    let refused = user_with(
        &temp.data(),
        &["add", "x@b.test", "--password-stdin"],
        "pw\n",
    );
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("does not serve"), "{refused:?}");
    // What was kept is there when the domain comes back.
    write(&temp, &["a.test", "b.test"], "");
    hang_up(&mut server.process, "configuration reloaded");
    is_alive(&mut sign_in(&server, &temp, "ben@b.test"));
    is_alive(&mut ann);
    server.stop();
}

#[test]
fn a_file_that_does_not_load_leaves_the_old_one_in_force() {
    let temp = Temp::new();
    let mut server = Ready::new(server_with_file(&write(&temp, &["a.test"], "")));
    add(&temp, "ann@a.test");
    let mut ann = sign_in(&server, &temp, "ann@a.test");
    let mut check = |domains: &[&str], more: &str, words: &[&str]| {
        write(&temp, domains, more);
        let line = hang_up(&mut server.process, "configuration not reloaded");
        assert!(line.contains("ERROR"), "{line}");
        for words in words {
            assert!(line.contains(words), "{words}: {line}");
        }
        is_alive(&mut ann);
    };
    check(&["b.test"], "admin = []\n", &["x.toml", "domain.admins"]);
    check(
        &["b.test"],
        "[modules]\noff = [\"pign\"]\n",
        &["pign", "ping"],
    );
    check(
        &["b.test"],
        "certificate = \"b.pem\"\nkey = \"b.key\"\n",
        &["b.pem"],
    );
    is_alive(&mut sign_in(&server, &temp, "ann@a.test"));
    server.stop();
}

#[test]
fn what_belongs_to_the_start_is_named_and_left() {
    let temp = Temp::new();
    let mut server = Ready::new(server_with_file(&write(&temp, &["a.test"], "")));
    add(&temp, "ann@a.test");
    let mut ann = sign_in(&server, &temp, "ann@a.test");
    let changed = "[c2s]\nlisten = []\nlisten_tls = [\"127.0.0.1:0\"]\n[storage]\nurl = \"memory\"\n\
                   [limits]\nroster_items_max = 5\nlogin_failures_max = 3\n[log]\nformat = \"json\"\n";
    let file = write(&temp, &["a.test"], changed);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"data\"", "\"elsewhere\"")).unwrap();
    server.process.signal("HUP");
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(server.process.log("ignored until the next start"));
    }
    for key in [
        "data_dir",
        "c2s.listen",
        "storage.url",
        "log.format",
        "limits.roster_items_max",
    ] {
        let quoted = format!("\"{key}\"");
        assert!(
            keys.iter().any(|line| line.contains(&quoted)),
            "{key}: {keys:?}"
        );
    }
    server.process.log("configuration reloaded");
    is_alive(&mut ann);
    is_alive(&mut sign_in(&server, &temp, "ann@a.test"));
    assert!(!temp.path().join("elsewhere").exists());
    server.stop();
}

#[test]
fn what_the_next_connection_meets() {
    let temp = Temp::new();
    let mut server = Ready::new(server_with_file(&write(&temp, &["a.test"], "")));
    let ca = temp.data().join("ca/ca.pem");
    let features = |server: &Ready| {
        let mut peer = Peer::starttls(server.starttls(), "a.test", &ca).unwrap();
        peer.send(&header("a.test"));
        peer.until("</stream:features>")
    };
    let before = features(&server);
    assert!(
        before.contains("PLAIN") && !before.contains("iq-register"),
        "{before}"
    );
    let mut waiting = Peer::starttls(server.starttls(), "a.test", &ca).unwrap();
    let more = "registration = \"open\"\n[sasl]\nplain = false\n[log]\nfilter = \"debug\"\n";
    write(&temp, &["a.test"], more);
    hang_up(&mut server.process, "configuration reloaded");
    let after = features(&server);
    assert!(
        !after.contains("PLAIN") && after.contains("iq-register"),
        "{after}"
    );
    // A stream that stood before its features meets the new policy too.
    waiting.send(&header("a.test"));
    let late = waiting.until("</stream:features>");
    assert!(!late.contains("PLAIN"), "{late}");
    server.process.log("connection accepted");
    server.stop();
}

/// A server of own.test with a certificate of its own, and the CA that issued it.
fn with_own_pair(temp: &Temp) -> (Ready, DevCa) {
    let ca = DevCa::new(today()).unwrap();
    temp.write("own-ca.pem", ca.pem());
    let leaf = ca.issue(&["own.test"], today()).unwrap();
    temp.write("own.pem", &leaf.chain_pem);
    temp.write("own.key", &leaf.key_pem);
    let file = write(
        temp,
        &["own.test"],
        "certificate = \"own.pem\"\nkey = \"own.key\"\n",
    );
    (Ready::new(server_with_file(&file)), ca)
}

fn shown(server: &Ready, temp: &Temp) -> Vec<u8> {
    let ca = temp.path().join("own-ca.pem");
    Peer::direct(server.tls(), "own.test", &ca).unwrap().leaf()
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn a_certificate_is_read_again_when_it_changed_and_fits_its_key() {
    let temp = Temp::new();
    let (mut server, ca) = with_own_pair(&temp);
    let old_ca = temp.path().join("own-ca.pem");
    let mut open = Peer::direct(server.tls(), "own.test", &old_ca).unwrap();
    let before = shown(&server, &temp);
    let new: Leaf = ca.issue(&["own.test"], today()).unwrap();
    // The certificate alone: its key is not there yet.
    replace(&temp.path().join("own.pem"), &new.chain_pem);
    let line = server.process.log("certificate changed, but is not usable");
    assert!(line.contains("own.test") && line.contains("key"), "{line}");
    assert_eq!(shown(&server, &temp), before);
    replace(&temp.path().join("own.key"), &new.key_pem);
    let line = server.process.log("certificate reloaded");
    assert!(line.contains("own.test"), "{line}");
    assert_eq!(shown(&server, &temp), new.chain_der()[0]);
    // The connection that is there stays.
    open.send(&header("own.test"));
    open.until("</stream:features>");
    // At once by SIGHUP; what clients will not like is said.
    let short = ca.issue(&["other.test"], today()).unwrap();
    replace(&temp.path().join("own.key"), &short.key_pem);
    replace(&temp.path().join("own.pem"), &short.chain_pem);
    server.process.signal("HUP");
    let line = server.process.log("certificate is not in order");
    assert!(line.contains("does not name own.test"), "{line}");
    server.process.log("configuration reloaded");
    let refused = Peer::direct(server.tls(), "own.test", &old_ca);
    assert!(refused.is_err());
    server.stop();
}
