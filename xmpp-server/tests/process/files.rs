//! The data directory: its files, its lock, and what a killed server leaves.

use crate::kit::{
    BINARY, Process, Ready, Temp, binary, check_done, check_failed, json, mode, names, ready, run,
    server, user, user_with,
};
use crate::peer::Peer;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

#[test]
fn the_data_directory_is_private_whatever_the_umask() {
    let temp = Temp::new();
    let data = temp.path().join("deep/data");
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 000; exec \"$0\" \"$@\"", BINARY, "--data"])
        .arg(&data);
    let server = Ready::new(Process::spawn(command.args(["--listen", "127.0.0.1:0"])));
    let want = [
        ("", 0o700),
        ("ca", 0o700),
        ("ca/ca.key", 0o600),
        ("certs", 0o700),
        ("certs/localhost.key", 0o600),
        ("lock", 0o600),
        ("server.db", 0o600),
        ("server.db-wal", 0o600),
        ("server.db-shm", 0o600),
        ("admin.sock", 0o600),
    ];
    for (name, want) in want {
        assert_eq!(
            mode(&data.join(name)),
            want,
            "{name}: {:o}",
            mode(&data.join(name))
        );
    }
    let running = [
        "addresses.json",
        "admin.sock",
        "ca",
        "certs",
        "lock",
        "server.db",
        "server.db-shm",
        "server.db-wal",
    ];
    assert_eq!(names(&data), running);
    assert_eq!(names(&data.join("ca")), ["ca.key", "ca.pem"]);
    assert_eq!(
        names(&data.join("certs")),
        ["localhost.key", "localhost.pem"]
    );
    server.stop();
    assert_eq!(names(&data), ["ca", "certs", "lock", "server.db"]);
}

#[test]
fn addresses_json_says_what_stdout_says() {
    let temp = Temp::new();
    let mut process = server(&temp.data(), &["--listen", "127.0.0.1:0"]);
    let lines = process.until_ready();
    let file = temp.data().join("addresses.json");
    let got = json(&fs::read_to_string(&file).expect("it is there before `ready`"));
    let list = |name: &str| -> Vec<&str> {
        let prefix = format!("listening {name} ");
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect()
    };
    let want = serde_json::json!({
        "pid": process.pid(),
        "c2s-starttls": list("c2s-starttls"),
        "c2s-tls": list("c2s-tls"),
    });
    assert_eq!(got, want);
    assert_eq!((list("c2s-starttls").len(), list("c2s-tls").len()), (2, 1));
    process.signal("TERM");
    assert_eq!(process.end().code, Some(0));
    assert!(!file.exists(), "removed at exit");
}

#[test]
fn a_second_server_on_the_directory_is_refused() {
    let temp = Temp::new();
    let first = ready(&temp.data(), &[]);
    let second = server(&temp.data(), &["--log", "warn"]).end();
    let pid = format!("(pid {})", first.process.pid());
    let data = temp.data().display().to_string();
    check_failed(&second, &[&data, "in use by a running server", &pid]);
    let left = fs::read_to_string(temp.data().join("addresses.json")).unwrap();
    assert_eq!(json(&left)["pid"], first.process.pid());
    check_done(&user(&temp.data(), &["list"]), "");
    first.stop();
}

#[test]
fn after_kill_9_it_starts_again() {
    let temp = Temp::new();
    let first = ready(&temp.data(), &[]);
    let added = user_with(
        &temp.data(),
        &["add", "ann@localhost", "--password-stdin"],
        "secret\n",
    );
    check_done(&added, "");
    first.process.signal("KILL");
    assert_eq!(first.process.end().code, None);
    for stale in ["addresses.json", "admin.sock", "lock"] {
        assert!(temp.data().join(stale).exists(), "{stale}");
    }
    check_done(&user(&temp.data(), &["list"]), "ann@localhost\n");
    let second = ready(&temp.data(), &[]);
    let addresses = fs::read_to_string(temp.data().join("addresses.json")).unwrap();
    assert_eq!(json(&addresses)["pid"], second.process.pid());
    check_done(&user(&temp.data(), &["list"]), "ann@localhost\n");
    second.stop();
}

#[test]
fn stale_addresses_are_gone_before_anything_else_can_fail() {
    let temp = Temp::new();
    ready(&temp.data(), &[]).stop();
    temp.write("data/addresses.json", "{\"pid\": 1}");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check_failed(
        &run(binary(&temp.data()).args(["--listen", &address])),
        &["cannot listen"],
    );
    assert!(!temp.data().join("addresses.json").exists());
}

#[test]
fn the_socket_of_a_very_long_path_works() {
    let temp = Temp::new();
    let data = temp.path().join("x".repeat(60)).join("y".repeat(60));
    assert!(data.join("admin.sock").as_os_str().len() > 107);
    let server = ready(&data, &[]);
    assert!(names(&data).contains(&"admin.sock".to_owned()));
    assert_eq!(mode(&data.join("admin.sock")), 0o600);
    // The server holds the lock: these go through its socket.
    assert_eq!(
        user(&data, &["add", "ann@localhost", "--generate"]).code,
        Some(0)
    );
    check_done(&user(&data, &["list"]), "ann@localhost\n");
    server.stop();
    assert!(!names(&data).contains(&"admin.sock".to_owned()));
    ready(&data, &[]).stop();
}

#[test]
fn a_start_waits_for_a_user_command_to_end() {
    let temp = Temp::new();
    fs::create_dir(temp.data()).unwrap();
    let mut lock = File::create(temp.data().join("lock")).unwrap();
    lock.lock().unwrap();
    // What a command writes there.
    lock.write_all(format!("{} command\n", std::process::id()).as_bytes())
        .unwrap();
    let mut process = server(&temp.data(), &[]);
    assert!(!process.ends_within(Duration::from_millis(500)), "it waits");
    drop(lock);
    Ready::new(process).stop();
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let temp = Temp::new();
    let first = ready(&temp.data(), &[]);
    let ca = temp.data().join("ca/ca.pem");
    let added = user_with(
        &temp.data(),
        &["add", "ann@localhost", "--password-stdin"],
        "secret\n",
    );
    check_done(&added, "");
    let mut peer = Peer::sign_in(first.starttls(), &ca, "ann@localhost", "secret").unwrap();
    peer.send(
        "<iq type='set' id='s'><query xmlns='jabber:iq:roster'>\
         <item jid='friend@example.org' name='Friend'/></query></iq>",
    );
    let answer = peer.until("id='s'");
    assert!(!answer.contains("type='error'"), "{answer}");
    first.process.signal("KILL");
    assert_eq!(first.process.end().code, None);
    let second = ready(&temp.data(), &[]);
    let mut peer = Peer::sign_in(second.starttls(), &ca, "ann@localhost", "secret").unwrap();
    peer.send("<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>");
    let roster = peer.until("</iq>");
    assert!(roster.contains("friend@example.org"), "{roster}");
    drop(peer);
    second.stop();
}
