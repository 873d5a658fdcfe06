//! The user commands, beside a running server and without one.

use crate::kit::{
    BINARY, BOUND, Ended, Process, Ready, Temp, binary, check_done, check_failed, json, names, now,
    ready, run, run_with, server_with_file, user, user_with,
};
use crate::peer::Peer;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// DESIGN 1: how long a command waits for the lock or the socket.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The same steps with a server and without: each is one process.
fn check_life(data: &Path) {
    let with_password = |word: &str, jid: &str, password: &str| {
        user_with(
            data,
            &[word, jid, "--password-stdin"],
            &format!("{password}\n"),
        )
    };
    check_done(&with_password("add", "ann@localhost", "one"), "");
    check_done(&with_password("add", "Ben@LOCALHOST", "two"), "");
    check_failed(
        &with_password("add", "ann@localhost", "x"),
        &["the account exists already"],
    );
    check_done(&user(data, &["list"]), "ann@localhost\nben@localhost\n");
    check_done(
        &user(data, &["list", "localhost"]),
        "ann@localhost\nben@localhost\n",
    );
    check_done(&user(data, &["list", "other.test"]), "");
    let objects = "{\"jid\":\"ann@localhost\"}\n{\"jid\":\"ben@localhost\"}\n";
    check_done(&user(data, &["list", "--json"]), objects);
    check_done(&with_password("password", "ann@localhost", "three"), "");
    check_done(&user(data, &["remove", "ben@localhost"]), "");
    for line in ["remove ben@localhost", "password ben@localhost --generate"] {
        let arguments: Vec<_> = line.split(' ').collect();
        check_failed(&user(data, &arguments), &["there is no such account"]);
    }
    check_done(&user(data, &["list"]), "ann@localhost\n");
}

/// Which passwords of ann the server takes.
#[track_caller]
fn check_passwords(temp: &Temp, server: &Ready, right: &str, wrong: &[&str]) {
    let ca = temp.data().join("ca/ca.pem");
    let sign_in = |password| Peer::sign_in(server.starttls(), &ca, "ann@localhost", password);
    sign_in(right).unwrap();
    for password in wrong {
        let failure = sign_in(password).err().expect("refused");
        assert!(failure.contains("<not-authorized"), "{failure}");
    }
}

#[test]
fn accounts_beside_a_running_server() {
    let temp = Temp::new();
    let server = ready(&temp.data(), &[]);
    check_life(&temp.data());
    check_passwords(&temp, &server, "three", &["one"]);
    server.stop();
    check_done(&user(&temp.data(), &["list"]), "ann@localhost\n");
}

#[test]
fn accounts_without_a_server() {
    let temp = Temp::new();
    check_life(&temp.data());
    assert_eq!(names(&temp.data()), ["lock", "server.db"]);
    let server = ready(&temp.data(), &[]);
    check_passwords(&temp, &server, "three", &["one"]);
    server.stop();
}

#[test]
fn a_new_password_counts_at_once() {
    let temp = Temp::new();
    let server = ready(&temp.data(), &[]);
    let set = |word, password: &str| {
        let input = format!("{password}\n");
        check_done(
            &user_with(
                &temp.data(),
                &[word, "ann@localhost", "--password-stdin"],
                &input,
            ),
            "",
        );
    };
    set("add", "one");
    check_passwords(&temp, &server, "one", &[]);
    set("password", "two");
    check_passwords(&temp, &server, "two", &["one"]);
    server.stop();
}

#[test]
fn sessions_of_a_removed_account_end() {
    let temp = Temp::new();
    let server = ready(&temp.data(), &[]);
    let ca = temp.data().join("ca/ca.pem");
    let mut peers = Vec::new();
    for jid in ["ann@localhost", "ben@localhost"] {
        let added = user_with(&temp.data(), &["add", jid, "--password-stdin"], "secret\n");
        check_done(&added, "");
        peers.push(Peer::sign_in(server.starttls(), &ca, jid, "secret").unwrap());
    }
    check_done(&user(&temp.data(), &["remove", "ann@localhost"]), "");
    let text = peers[0].until("</stream:stream>");
    assert!(text.contains("<stream:error>"), "{text}");
    // The other one lives.
    peers[1].send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    let text = peers[1].until("/>");
    assert!(
        text.contains("type='result'") && text.contains("id='p'"),
        "{text}"
    );
    let refused = Peer::sign_in(server.starttls(), &ca, "ann@localhost", "secret");
    assert!(refused.err().expect("refused").contains("<not-authorized"));
    server.process.signal("KILL");
}

#[test]
fn password_stdin_leaves_the_rest_unread() {
    let temp = Temp::new();
    let script = "\"$0\" --data \"$1\" user add ann@localhost --password-stdin && cat";
    let mut command = Command::new("sh");
    command.args(["-c", script, BINARY]).arg(temp.data());
    check_done(
        &run_with(&mut command, "pass word\nrest\nmore\n"),
        "rest\nmore\n",
    );
    let server = ready(&temp.data(), &[]);
    check_passwords(&temp, &server, "pass word", &["pass", "pass word\nrest"]);
    server.stop();
}

#[test]
fn a_generated_password_is_printed_and_works() {
    let temp = Temp::new();
    let server = ready(&temp.data(), &[]);
    let added = user(&temp.data(), &["add", "ann@localhost", "--generate"]);
    let first = added.stdout.trim_end().to_owned();
    check_done(&added, &format!("{first}\n"));
    assert!(
        first.len() >= 20 && !first.contains(char::is_whitespace),
        "{first}"
    );
    check_passwords(&temp, &server, &first, &[]);
    let set = user(
        &temp.data(),
        &["password", "ann@localhost", "--generate", "--json"],
    );
    let object = json(&set.stdout);
    let second = object["password"].as_str().unwrap();
    assert_eq!(
        object,
        serde_json::json!({ "jid": "ann@localhost", "password": second })
    );
    check_passwords(&temp, &server, second, &[&first]);
    server.stop();
}

#[test]
fn json_is_an_object_a_line() {
    let temp = Temp::new();
    let with = |arguments: &[&str]| user_with(&temp.data(), arguments, "secret\n");
    let ann = "{\"jid\":\"ann@localhost\"}\n";
    check_done(
        &with(&["--json", "add", "Ann@localhost", "--password-stdin"]),
        ann,
    );
    check_done(
        &with(&["password", "ann@localhost", "--password-stdin", "--json"]),
        ann,
    );
    check_done(&with(&["list", "--json"]), ann);
    check_done(&with(&["remove", "ann@localhost", "--json"]), ann);
    check_done(&with(&["list", "--json"]), "");
    check_failed(
        &with(&["remove", "ann@localhost", "--json"]),
        &["no such account"],
    );
}

#[test]
fn what_is_no_password_is_refused() {
    let temp = Temp::new();
    let check = |input: &str, words: &str| {
        let arguments = ["add", "ann@localhost", "--password-stdin"];
        check_failed(&user_with(&temp.data(), &arguments, input), &[words]);
    };
    check("", "the password is empty");
    check("\nsecret\n", "the password is empty");
    check(&"x".repeat(5000), "longer than 4096 bytes");
    let asked = user(&temp.data(), &["add", "ann@localhost"]);
    check_failed(&asked, &["--password-stdin", "--generate"]);
    assert!(!temp.data().exists(), "nothing was made for it");
}

#[test]
fn usage_errors_are_exit_code_2() {
    let temp = Temp::new();
    let check = |line: &str, words: &str| {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let ended = user(&temp.data(), &arguments);
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(2), ""),
            "{line}: {ended:?}"
        );
        assert!(ended.stderr.contains(words), "{line}: {ended:?}");
    };
    check("add ann", "not an account such as");
    check("add ann@localhost/phone", "not an account such as");
    check("add @localhost", "not an account such as");
    check("add a\"b@localhost", "not an account such as");
    check("remove localhost", "not an account such as");
    check("list a..b", "not a domain name");
    check(
        "add ann@localhost --generate --password-stdin",
        "cannot be used with",
    );
    check("add", "<JID>");
    check("", "Usage");
    check("frobnicate", "frobnicate");
    assert!(!temp.data().exists());
}

#[test]
fn domains_that_are_not_served() {
    let temp = Temp::new();
    let file = temp.write(
        "x.toml",
        "data_dir = \"data\"\n[[domain]]\nname = \"a.test\"\n",
    );
    let config = file.to_str().unwrap();
    let add = |jid: &str| {
        run(Command::new(BINARY).args(["--config", config, "user", "add", jid, "--generate"]))
    };
    // A file says which domains there are.
    check_failed(
        &add("ann@b.test"),
        &["this server does not serve the domain"],
    );
    assert_eq!(add("ann@a.test").code, Some(0));
    // Without one, only a running server knows.
    assert_eq!(
        user(&temp.data(), &["add", "ann@b.test", "--generate"]).code,
        Some(0)
    );
    let server = ready(&temp.data(), &["--domain", "a.test"]);
    let refused = user(&temp.data(), &["add", "ben@b.test", "--generate"]);
    check_failed(&refused, &["this server does not serve the domain"]);
    check_done(&user(&temp.data(), &["list"]), "ann@a.test\nann@b.test\n");
    check_done(&user(&temp.data(), &["list", "B.test"]), "ann@b.test\n");
    server.stop();
}

#[test]
fn without_a_data_directory_there_is_nothing_to_look_into() {
    let temp = Temp::new();
    for arguments in [&["list"][..], &["remove", "ann@localhost"]] {
        check_failed(
            &user(&temp.data(), arguments),
            &["no data directory", "--data"],
        );
    }
    assert!(!temp.data().exists());
}

#[test]
fn with_memory_storage_only_the_socket_works() {
    let temp = Temp::new();
    let text = "data_dir = \"data\"\n[storage]\nurl = \"memory\"\n\
                [c2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = []\n[s2s]\nenabled = false\n";
    let file = temp.write("x.toml", text);
    let command = |arguments: &[&str]| {
        run(Command::new(BINARY)
            .arg("--config")
            .arg(&file)
            .arg("user")
            .args(arguments))
    };
    for _ in 0..2 {
        check_failed(&command(&["list"]), &["memory", "running server"]);
        check_failed(
            &command(&["add", "ann@localhost", "--generate"]),
            &["memory"],
        );
        let server = Ready::new(server_with_file(&file));
        let password = command(&["add", "ann@localhost", "--generate"]).stdout;
        check_done(&command(&["list"]), "ann@localhost\n");
        check_passwords(&temp, &server, password.trim_end(), &["x"]);
        server.stop();
        assert!(!temp.data().join("server.db").exists());
    }
}

/// The lock of a data directory, held by this process as a server that starts would.
fn hold_lock(data: &Path) -> File {
    fs::create_dir_all(data).unwrap();
    let lock = File::create(data.join("lock")).unwrap();
    lock.lock().unwrap();
    lock
}

fn start_add(data: &Path) -> Process {
    Process::spawn(binary(data).args(["user", "add", "ann@localhost", "--generate", "--json"]))
}

#[test]
fn a_command_waits_for_the_lock() {
    let temp = Temp::new();
    let lock = hold_lock(&temp.data());
    let mut command = start_add(&temp.data());
    assert!(!command.ends_within(Duration::from_secs(1)), "it waits");
    drop(lock);
    let ended = command.end();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    check_done(&user(&temp.data(), &["list"]), "ann@localhost\n");
}

#[test]
fn a_command_waits_for_the_socket() {
    let temp = Temp::new();
    let _lock = hold_lock(&temp.data());
    let mut command = start_add(&temp.data());
    assert!(!command.ends_within(Duration::from_millis(500)), "it waits");
    let socket = UnixListener::bind(temp.data().join("admin.sock")).unwrap();
    let (mut stream, _) = socket.accept().unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut request = String::new();
    BufReader::new(&stream).read_line(&mut request).unwrap();
    assert_eq!(json(&request)["jid"], "ann@localhost");
    stream.write_all(b"{\"failed\":\"not today\"}\n").unwrap();
    check_failed(&command.end(), &["not today"]);
}

#[test]
fn a_command_waits_five_seconds_at_most() {
    let temp = Temp::new();
    let _lock = hold_lock(&temp.data());
    let start = now();
    let ended = start_add(&temp.data()).end();
    let took = start.elapsed();
    let data = temp.data().display().to_string();
    check_failed(&ended, &[&data, "in use by another process"]);
    assert!((LOCK_WAIT..LOCK_WAIT * 2).contains(&took), "{took:?}");
    assert!(
        !temp.data().join("server.db").exists(),
        "never without the lock"
    );
}

#[test]
fn a_server_that_goes_away_amid_a_request_is_a_failure() {
    let temp = Temp::new();
    let _lock = hold_lock(&temp.data());
    let socket = UnixListener::bind(temp.data().join("admin.sock")).unwrap();
    let command = start_add(&temp.data());
    drop(socket.accept().unwrap());
    check_failed(&command.end(), &["the server did not answer"]);
}

#[test]
fn two_commands_at_once_take_turns() {
    let temp = Temp::new();
    let add =
        |jid: &str| Process::spawn(binary(&temp.data()).args(["user", "add", jid, "--generate"]));
    let running: Vec<_> = ["a", "b", "c", "d"]
        .map(|user| add(&format!("{user}@localhost")))
        .into();
    let ended: Vec<Ended> = running.into_iter().map(Process::end).collect();
    assert!(ended.iter().all(|ended| ended.code == Some(0)), "{ended:?}");
    let all = "a@localhost\nb@localhost\nc@localhost\nd@localhost\n";
    check_done(&user(&temp.data(), &["list"]), all);
}
