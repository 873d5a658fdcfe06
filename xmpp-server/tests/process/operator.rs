//! Bans, imports, sessions and counters, by the commands that an operator types.

use crate::kit::{
    Ended, Process, Temp, binary, check_done, check_failed, json, ready, run, user, user_with,
};
use crate::peer::Peer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use xmpp_stream::stream::{ScramHash, StoredKeys};

/// `xmpp-server --data DIR` with these words.
fn command(data: &Path, words: &[&str]) -> Ended {
    run(binary(data).args(words))
}

fn add(data: &Path, jid: &str) {
    let added = user_with(data, &["add", jid, "--password-stdin"], "secret\n");
    check_done(&added, "");
}

fn check_bans(data: &Path) {
    add(data, "ann@localhost");
    add(data, "ben@localhost");
    check_done(&user(data, &["ban", "Ann@localhost"]), "");
    let reason = "sold \"pills\"";
    let banned = user(
        data,
        &["ban", "ben@localhost", "--reason", reason, "--json"],
    );
    check_done(&banned, "{\"jid\":\"ben@localhost\"}\n");
    check_done(&user(data, &["list"]), "ann@localhost\nben@localhost\n");
    let ended = user(data, &["list", "--json"]);
    let objects: Vec<_> = ended.stdout.lines().map(json).collect();
    assert_eq!(objects.len(), 2, "{ended:?}");
    for (object, reason) in objects.iter().zip([serde_json::Value::Null, reason.into()]) {
        let got = (&object["banned"], &object["reason"]);
        assert_eq!(got, (&true.into(), &reason), "{ended:?}");
    }
    check_done(&user(data, &["unban", "ben@localhost"]), "");
    let ended = user(data, &["list", "--json", "localhost"]);
    let objects: Vec<_> = ended.stdout.lines().map(json).collect();
    assert_eq!(objects[0]["banned"], true);
    assert_eq!(objects[1], serde_json::json!({ "jid": "ben@localhost" }));
    for word in ["ban", "unban"] {
        let failed = user(data, &[word, "cat@localhost"]);
        check_failed(&failed, &["there is no such account"]);
    }
}

#[test]
fn bans_beside_a_running_server_end_sessions() {
    let temp = Temp::new();
    let data = temp.data();
    let server = ready(&data, &[]);
    let ca = data.join("ca/ca.pem");
    add(&data, "cat@localhost");
    let sign_in = || Peer::sign_in(server.starttls(), &ca, "cat@localhost", "secret");
    let mut cat = sign_in().unwrap();
    check_done(&user(&data, &["ban", "cat@localhost"]), "");
    let text = cat.until("</stream:stream>");
    assert!(text.contains("<not-authorized"), "{text}");
    let refused = sign_in().err().expect("refused");
    assert!(refused.contains("<account-disabled"), "{refused}");
    check_done(&user(&data, &["unban", "cat@localhost"]), "");
    sign_in().unwrap();
    check_done(&user(&data, &["remove", "cat@localhost"]), "");
    check_bans(&data);
    server.stop();
}

#[test]
fn bans_without_a_server() {
    let temp = Temp::new();
    check_bans(&temp.data());
}

fn key_line(jid: &str, hash: ScramHash, name: &str) -> String {
    let keys = StoredKeys::derive(hash, "secret", b"a salt", 4096);
    let [salt, stored, server] =
        [&keys.salt, &keys.stored_key, &keys.server_key].map(|bytes| STANDARD.encode(bytes));
    format!("{jid},{name},4096,{salt},{stored},{server}\n")
}

/// The same import with a server and without one.
fn check_import(temp: &Temp) {
    let data = temp.data();
    let lines = [
        "jid,password\r\n".to_owned(),
        "ann@localhost,secret\n".to_owned(),
        "ben@localhost\n".to_owned(),
        key_line("cat@localhost", ScramHash::Sha256, "SCRAM-SHA-256"),
        key_line("cat@localhost", ScramHash::Sha1, "SCRAM-SHA-1"),
        "dan@localhost,\"secret\"\n".to_owned(),
    ];
    let file = temp.write("users.csv", &lines.concat());
    let file = file.to_str().unwrap();
    let ended = user(&data, &["import", file]);
    let summary = "3 added, 0 unchanged, 1 failed\n";
    assert_eq!(
        (ended.code, &*ended.stdout),
        (Some(1), summary),
        "{ended:?}"
    );
    let line = format!("{file}:3: 1 columns; expected jid,password or");
    assert!(ended.stderr.starts_with(&line), "{ended:?}");
    let last = "xmpp-server: one line was not imported\n";
    assert!(ended.stderr.ends_with(last), "{ended:?}");

    temp.write("users.csv", &lines.concat().replace("ben@localhost\n", ""));
    check_done(&user(&data, &["import", file]), "0 added, 3 unchanged\n");
    let object = "{\"added\":0,\"failed\":0,\"unchanged\":3}\n";
    check_done(&user(&data, &["--json", "import", file]), object);
    let listed = "ann@localhost\ncat@localhost\ndan@localhost\n";
    check_done(&user(&data, &["list"]), listed);
    let missing = temp.path().join("none.csv");
    let failed = user(&data, &["import", missing.to_str().unwrap()]);
    check_failed(&failed, &["cannot read the file"]);
}

#[test]
fn imports_without_a_server_and_who_was_imported_signs_in() {
    let temp = Temp::new();
    check_import(&temp);
    let server = ready(&temp.data(), &[]);
    let ca = temp.data().join("ca/ca.pem");
    for jid in ["ann@localhost", "cat@localhost", "dan@localhost"] {
        Peer::sign_in(server.starttls(), &ca, jid, "secret").unwrap();
    }
    // cat has no keys for SCRAM-SHA-512: it is offered to nobody.
    let mut peer = Peer::starttls(server.starttls(), "localhost", &ca).unwrap();
    peer.send(&crate::peer::header("localhost"));
    let features = peer.until("</stream:features>");
    assert!(features.contains(">SCRAM-SHA-256<"), "{features}");
    assert!(!features.contains("SHA-512"), "{features}");
    server.stop();
}

#[test]
fn imports_beside_a_running_server() {
    let temp = Temp::new();
    let server = ready(&temp.data(), &[]);
    check_import(&temp);
    let ca = temp.data().join("ca/ca.pem");
    for jid in ["ann@localhost", "cat@localhost"] {
        Peer::sign_in(server.starttls(), &ca, jid, "secret").unwrap();
    }
    server.stop();
}

#[test]
fn an_interrupted_import_goes_on() {
    let temp = Temp::new();
    // Seconds of work, however many cores there are.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all = 160 * cores;
    let lines = (0..all).map(|number| format!("user{number}@localhost,secret\n"));
    let file = temp.write("users.csv", &lines.collect::<String>());
    let start = || {
        let mut command = binary(&temp.data());
        Process::spawn(command.args(["user", "import"]).arg(&file))
    };
    let mut killed = start();
    // It tells how far it is; then some are there and some are not.
    while killed.log(" added, ").contains(" 0 added") {}
    killed.signal("KILL");
    killed.end();
    let count = || user(&temp.data(), &["list"]).stdout.lines().count();
    let before = count();
    assert!((1..all).contains(&before), "{before}");
    let ended = start().end();
    let want = format!("{} added, {before} unchanged\n", all - before);
    assert_eq!((ended.code, ended.stdout), (Some(0), want));
    assert_eq!(count(), all);
}

#[test]
fn sessions_are_listed_kicked_and_watched() {
    let temp = Temp::new();
    let data = temp.data();
    let mut server = ready(&data, &[]);
    let ca = data.join("ca/ca.pem");
    add(&data, "ann@localhost");
    check_done(&command(&data, &["session", "list"]), "");
    let mut ann = Peer::sign_in(server.starttls(), &ca, "ann@localhost", "secret").unwrap();
    let ended = command(&data, &["session", "list", "--json"]);
    let object = json(&ended.stdout);
    let jid = object["jid"].as_str().unwrap();
    assert!(jid.starts_with("ann@localhost/"), "{ended:?}");
    assert_eq!(object["mechanism"], "PLAIN");
    let ended = command(&data, &["session", "list"]);
    let begin = format!("{jid}\t127.0.0.1:");
    assert!(ended.stdout.starts_with(&begin), "{ended:?}");

    let mut watching = Process::spawn(binary(&data).args(["session", "watch", jid]));
    let opened = server.process.log("session watch opened");
    assert!(opened.contains(jid), "{opened}");
    ann.send("<message to='nobody@localhost'><body>a\nb</body></message>");
    ann.until("</message>");
    let (there, back) = (watching.line(), watching.line());
    let is_there = there.contains(" in  ") && there.contains("<body>a&#xA;b</body>");
    assert!(is_there, "{there}");
    // There is nobody of that name: the message comes back as an error.
    let is_back = back.contains(" out ") && back.contains("type='error'");
    assert!(is_back, "{back}");

    let kicked = command(&data, &["session", "kick", jid, "--json"]);
    check_done(&kicked, &format!("{}\n", serde_json::json!({ "jid": jid })));
    let text = ann.until("</stream:stream>");
    assert!(text.contains("<policy-violation"), "{text}");
    let ended = watching.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let last = format!("{jid} ended\n");
    assert!(ended.stdout.ends_with(&last), "{ended:?}");
    server.process.log("session watch closed");
    let failed = command(&data, &["session", "kick", "ann@localhost"]);
    check_failed(&failed, &["there is no such session"]);
    let failed = command(&data, &["session", "watch", jid]);
    check_failed(&failed, &["there is no such session"]);

    // The end of the server is the end of a watch.
    let watching = Process::spawn(binary(&data).args(["session", "watch", "ann@localhost"]));
    server.process.log("session watch opened");
    server.stop();
    let ended = watching.end();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
}

#[test]
fn counters_are_printed() {
    let temp = Temp::new();
    let data = temp.data();
    let server = ready(&data, &[]);
    add(&data, "ann@localhost");
    let ended = command(&data, &["stats"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    for wanted in [
        "# TYPE xmpp_server_store_ops_total counter",
        "xmpp_server_store_ops_total 1",
        "xmpp_server_logins_total{mechanism=\"PLAIN\"} 0",
    ] {
        let is_there = ended.stdout.lines().any(|line| line == wanted);
        assert!(is_there, "{wanted}: {ended:?}");
    }
    let ended = command(&data, &["stats", "--json"]);
    let mut objects = ended.stdout.lines().map(json);
    let ops = objects.find(|object| object["name"] == "xmpp_server_store_ops_total");
    assert_eq!(ops.unwrap()["value"], 1);
    server.stop();
}

#[test]
fn what_only_a_running_server_knows() {
    let temp = Temp::new();
    add(&temp.data(), "ann@localhost");
    let nowhere = temp.path().join("nowhere");
    for data in [temp.data(), nowhere] {
        for words in [
            &["session", "list"][..],
            &["session", "kick", "ann@localhost"],
            &["session", "watch", "ann@localhost"],
            &["stats"],
        ] {
            check_failed(&command(&data, words), &["no server answers in "]);
        }
    }
}
