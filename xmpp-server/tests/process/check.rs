//! `xmpp-server check`: each thing that it must find, and nothing where all is well.

use crate::certificates::today;
use crate::kit::{BINARY, Ended, Temp, binary, check_failed, json, names, ready, run};
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;
use xmpp_certs::{DevCa, Leaf, Variant};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// No listeners, no links, a certificate of its own; `more` stands behind.
fn file(domain: &str, more: &str) -> String {
    format!(
        "data_dir = \"data\"\n[c2s]\nlisten = []\nlisten_tls = []\n[s2s]\nenabled = false\n\
         [[domain]]\nname = \"{domain}\"\ncertificate = \"own.pem\"\nkey = \"own.key\"\n{more}"
    )
}

fn write_pair(temp: &Temp, chain: &str, key: &str) {
    temp.write("own.pem", chain);
    let key = temp.write("own.key", key);
    fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
}

fn leaf_of(names: &[&str]) -> Leaf {
    DevCa::new(today()).unwrap().issue(names, today()).unwrap()
}

/// Runs `check` on a file of this text.
fn check(temp: &Temp, text: &str) -> Ended {
    let file = temp.write("x.toml", text);
    run(Command::new(BINARY).arg("check").arg("--config").arg(file))
}

/// Exit code 1, one error, and it says these words.
#[track_caller]
fn found(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""), "{ended:?}");
    let errors: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{ended:?}");
    for words in words {
        assert!(errors[0].contains(words), "{words}: {ended:?}");
    }
}

/// Exit code 0 and nothing but `ok` lines.
#[track_caller]
fn well(ended: &Ended) {
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    assert!(!ended.stdout.is_empty(), "{ended:?}");
    assert!(
        ended.stdout.lines().all(|line| line.starts_with("ok: ")),
        "{ended:?}"
    );
}

#[test]
fn nothing_is_wrong_and_nothing_is_made() {
    let temp = Temp::new();
    let leaf = leaf_of(&["own.test"]);
    write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
    let ended = check(&temp, &file("own.test", ""));
    well(&ended);
    assert!(ended.stdout.contains("development CA"), "{ended:?}");
    assert_eq!(names(temp.path()), ["own.key", "own.pem", "x.toml"]);
    // The same without a file.
    let line = ["check", "--domain", "a.test", "--listen", "127.0.0.1:0"];
    well(&run(binary(&temp.data()).args(line)));
    assert!(!temp.data().exists());
}

#[test]
fn the_authorities_of_clients_are_read() {
    let temp = Temp::new();
    let leaf = leaf_of(&["own.test"]);
    write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
    let file = |path: &str| file("own.test", &format!("client_ca = [\"{path}\"]\n"));
    temp.write("clients.pem", DevCa::new(today()).unwrap().pem());
    let ended = check(&temp, &file("clients.pem"));
    well(&ended);
    assert!(ended.stdout.contains("certificates of "), "{ended:?}");
    temp.write("bad.pem", "no certificate");
    let bad = check(&temp, &file("bad.pem"));
    found(
        &bad,
        &["certificate own.test", "client_ca", "bad.pem: no readable"],
    );
    let none = check(&temp, &file("none.pem"));
    found(&none, &["client_ca", "none.pem", "No such file"]);
}

#[test]
fn what_is_wrong_with_a_certificate() {
    let temp = Temp::new();
    let ca = DevCa::new(today()).unwrap();
    let check_leaf = |leaf: &Leaf, words: &[&str]| {
        write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
        found(&check(&temp, &file("own.test", "")), words);
    };
    let variant = |variant| ca.issue_variant("own.test", variant, today()).unwrap();
    check_leaf(
        &variant(Variant::Expired),
        &["certificate own.test", "has expired on "],
    );
    check_leaf(
        &variant(Variant::WrongName),
        &["certificate own.test", "does not name own.test"],
    );
    let early = ca.issue(&["own.test"], today() + DAY * 5).unwrap();
    check_leaf(&early, &["certificate own.test", "not valid before "]);
    let mut crossed = leaf_of(&["own.test"]);
    crossed.key_pem = leaf_of(&["own.test"]).key_pem;
    check_leaf(
        &crossed,
        &["certificate own.test", "the key does not belong"],
    );
    let mut disordered = leaf_of(&["own.test"]);
    disordered.chain_pem += ca.pem();
    check_leaf(&disordered, &["certificate 1 of the file is not issued by"]);
    let mut whole = ca.issue(&["own.test"], today()).unwrap();
    whole.chain_pem += ca.pem();
    write_pair(&temp, &whole.chain_pem, &whole.key_pem);
    well(&check(&temp, &file("own.test", "")));
    fs::remove_file(temp.path().join("own.key")).unwrap();
    found(
        &check(&temp, &file("own.test", "")),
        &["own.key", "No such file"],
    );
}

#[test]
fn a_certificate_or_key_is_a_regular_file() {
    let temp = Temp::new();
    let leaf = leaf_of(&["own.test"]);
    for place in ["own.pem", "own.key"] {
        for what in ["/dev/zero", "fifo"] {
            write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
            let (place, fifo) = (temp.path().join(place), temp.path().join("fifo"));
            fs::remove_file(&place).unwrap();
            let what = match what {
                "fifo" if !fifo.exists() => {
                    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
                    assert!(made.success());
                    fifo
                }
                "fifo" => fifo,
                other => other.into(),
            };
            std::os::unix::fs::symlink(what, &place).unwrap();
            let name = place.display().to_string();
            let words = [&*name, "is no regular file"];
            let file = file("own.test", "");
            found(&check(&temp, &file), &words);
            let config = temp.write("x.toml", &file);
            let line = ["--log", "error", "--config"];
            check_failed(&run(Command::new(BINARY).args(line).arg(config)), &words);
            // Or the next pair would be written into it.
            fs::remove_file(&place).unwrap();
        }
    }
}

#[test]
fn service_hosts_have_to_be_named_too() {
    let temp = Temp::new();
    let muc = "[modules]\nmuc.host = \"rooms.own.test\"\n";
    let leaf = leaf_of(&["own.test", "conference.own.test"]);
    write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
    found(
        &check(&temp, &file("own.test", muc)),
        &["does not name rooms.own.test"],
    );
    let leaf = leaf_of(&["own.test", "*.own.test"]);
    write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
    let ended = check(&temp, &file("own.test", muc));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("error"), "{ended:?}");
    // Not built yet, which is no error.
    assert!(
        ended.stdout.contains("`modules.muc` has no effect"),
        "{ended:?}"
    );
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning_with_the_days() {
    let temp = Temp::new();
    for (age, days) in [(334, None), (340, Some("24 days left"))] {
        // An hour over, so that the day does not change meanwhile.
        let then = today() - DAY * age - Duration::from_secs(3600);
        let leaf = DevCa::new(then).unwrap();
        let leaf = leaf.issue(&["own.test"], then).unwrap();
        write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
        let ended = check(&temp, &file("own.test", ""));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let warned = ended
            .stdout
            .lines()
            .find(|line| line.starts_with("warning: "));
        assert_eq!(warned.is_some(), days.is_some(), "{ended:?}");
        let words = days.unwrap_or_default();
        assert!(warned.unwrap_or_default().contains(words), "{ended:?}");
    }
}

#[test]
fn what_is_wrong_with_a_configuration() {
    let temp = Temp::new();
    let leaf = leaf_of(&["own.test"]);
    write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
    let check_more = |more: &str, words: &[&str]| {
        let ended = check(&temp, &file("own.test", more));
        found(&ended, words);
        assert!(ended.stdout.contains("x.toml"), "{ended:?}");
    };
    check_more(
        "admin = []\n",
        &[
            "configuration ",
            "line 11",
            "unknown key `domain.admin`",
            "`domain.admins`",
        ],
    );
    check_more(
        "[limits]\nsessions_max = 0\n",
        &["`limits.sessions_max` is 0"],
    );
    check_more("[modules]\noff = [\"pign\"]\n", &["`pign`", "`ping`"]);
    check_more("[c2s\n", &["not valid TOML"]);
    let missing = temp.path().join("missing.toml");
    let ended = run(Command::new(BINARY)
        .arg("check")
        .arg("--config")
        .arg(missing));
    found(&ended, &["missing.toml", "cannot be read"]);
}

#[test]
fn a_taken_port_unless_the_own_server_has_it() {
    let temp = Temp::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let check = |more: &[&str]| run(binary(&temp.data()).arg("check").args(more));
    found(
        &check(&["--listen", &taken]),
        &["port c2s-starttls", &taken, "taken by another program"],
    );
    drop(other);
    well(&check(&["--listen", &taken]));
    found(
        &check(&["--listen", &taken, "--listen-tls", &taken]),
        &["port c2s-tls", &taken, "another listener of this"],
    );
    let server = ready(&temp.data(), &[]);
    let (own, pid) = (server.starttls().to_string(), server.process.pid());
    let ended = check(&["--listen", &own]);
    well(&ended);
    assert!(ended.stdout.contains(&format!("pid {pid}")), "{ended:?}");
    let elsewhere = temp.path().join("elsewhere");
    let ended = run(binary(&elsewhere).args(["check", "--listen", &own]));
    found(&ended, &["port c2s-starttls", &own, "another program"]);
    server.stop();
}

#[test]
fn findings_as_json() {
    let temp = Temp::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let line = ["check", "--json", "--listen", &taken];
    let ended = run(binary(&temp.data()).args(line));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let objects: Vec<_> = ended.stdout.lines().map(json).collect();
    let topics: Vec<_> = objects
        .iter()
        .map(|o| o["topic"].as_str().unwrap())
        .collect();
    assert_eq!(
        topics,
        [
            "configuration",
            "data directory",
            "certificate",
            "dns",
            "port"
        ]
    );
    let levels: Vec<_> = objects
        .iter()
        .map(|o| o["level"].as_str().unwrap())
        .collect();
    assert_eq!(levels, ["ok", "ok", "ok", "ok", "error"]);
    assert_eq!(objects[2]["subject"], "localhost");
    let unknown = temp.write("x.toml", "data_dri = \"x\"\n");
    let ended = run(Command::new(BINARY)
        .args(["check", "--json", "--config"])
        .arg(unknown));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(json(&ended.stdout)["topic"], "configuration");
}

#[test]
fn a_data_directory_that_cannot_be_one() {
    let temp = Temp::new();
    let plain = temp.write("plain", "");
    let line = ["check", "--listen", "127.0.0.1:0"];
    found(&run(binary(&plain).args(line)), &["is no directory"]);
    let shared = temp.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    found(&run(binary(&shared).args(line)), &["shared with others"]);
    // Where even root makes no file.
    let line = |data: &str| run(binary(Path::new(data)).args(line));
    found(&line("/proc"), &["/proc", "cannot be written to"]);
    found(
        &line("/proc/a/b"),
        &["/proc/a/b", "cannot be made in /proc"],
    );
    let own = temp.path().join("own");
    fs::create_dir(&own).unwrap();
    well(&line(own.to_str().unwrap()));
    assert_eq!(names(&own), [""; 0]);
}

/// Answers every question about an address with one, SRV questions with `srv`, until the test ends.
fn dns_server(srv: &'static [u8]) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((read, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..read].to_vec();
            let is_srv = answer[read - 3] == 33;
            let data: &[u8] = if is_srv { srv } else { &[127, 0, 0, 1] };
            answer[2] |= 0x80;
            if !data.is_empty() {
                answer[7] = 1;
                let kind = if is_srv { 33 } else { 1 };
                answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0]);
                answer.push(u8::try_from(data.len()).unwrap());
                answer.extend(data);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

#[test]
fn dns_records_are_looked_at_and_never_an_error() {
    let temp = Temp::new();
    let leaf = leaf_of(&["own.example"]);
    write_pair(&temp, &leaf.chain_pem, &leaf.key_pem);
    let check_dns = |server: SocketAddr, level: &str, words: &str| {
        let dns = format!("[dns]\nservers = [\"{server}\"]\n");
        let ended = check(&temp, &file("own.example", &dns));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let want = format!("{level}: dns own.example: ");
        let line = ended.stdout.lines().find(|line| line.starts_with(&want));
        assert!(
            line.is_some_and(|line| line.contains(words)),
            "{words}: {ended:?}"
        );
    };
    check_dns(dns_server(&[]), "ok", "its address is used");
    let here = b"\0\x05\0\0\x14\x66\x02im\x07example\0";
    check_dns(dns_server(here), "ok", "im.example:5222");
    check_dns(dns_server(b"\0\0\0\0\0\0\0"), "warning", "no service");
    // Nobody there.
    let gone = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    check_dns(gone, "warning", "no DNS server answers");
    let dns = "[dns.override]\n\"own.example\" = \"127.0.0.2:5222\"\n";
    well(&check(&temp, &file("own.example", dns)));
}
