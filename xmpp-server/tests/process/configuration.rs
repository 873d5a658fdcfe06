//! What a file says, what the command line says, and who wins.

use crate::kit::{BINARY, Ended, Process, Ready, Temp, check_failed, json, run, server_with_file};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Ports that are free, and no other servers: what most files here begin with.
const QUIET: &str = "[c2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = []\n[s2s]\nenabled = false\n";

fn with_file(file: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--config").arg(file).args(more);
    command
}

#[track_caller]
fn check_usage(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""), "{ended:?}");
    for words in words {
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
    }
}

#[test]
fn a_file_and_a_domain_or_listener_is_a_usage_error() {
    let temp = Temp::new();
    let file = temp.write("x.toml", QUIET);
    for (option, value) in [
        ("--domain", "a.test"),
        ("--listen", "127.0.0.1:0"),
        ("--listen-tls", "127.0.0.1:0"),
    ] {
        check_usage(
            &run(&mut with_file(&file, &[option, value])),
            &[option, "--config"],
        );
        check_usage(
            &run(&mut with_file(&file, &["run", option, value])),
            &[option, "--config"],
        );
    }
}

#[test]
fn data_and_log_win_over_the_file() {
    let temp = Temp::new();
    let text = format!("data_dir = \"from-file\"\n[log]\nfilter = \"error\"\n{QUIET}");
    let file = temp.write("x.toml", &text);
    let other = temp.path().join("other");
    let more = ["--data", other.to_str().unwrap(), "--log", "info"];
    let ended = Ready::new(Process::spawn(&mut with_file(&file, &more))).stop();
    assert!(ended.stderr.contains("shutting down"), "{ended:?}");
    assert!(other.join("server.db").exists());
    assert!(!temp.path().join("from-file").exists());
    let ended = Ready::new(server_with_file(&file)).stop();
    assert_eq!(ended.stderr, "", "the file's filter");
    assert!(temp.path().join("from-file/server.db").exists());
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let temp = Temp::new();
    let file = temp.write(
        "etc/x.toml",
        &format!("data_dir = \"../var/data\"\n{QUIET}"),
    );
    let elsewhere = temp.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mut command = with_file(Path::new("../etc/x.toml"), &[]);
    Ready::new(Process::spawn(command.current_dir(&elsewhere))).stop();
    assert!(temp.path().join("var/data/server.db").exists());
    assert!(file.exists());
    // A file named without a folder lies in the current one.
    let mut command = with_file(Path::new("x.toml"), &[]);
    Ready::new(Process::spawn(command.current_dir(temp.path().join("etc")))).stop();
    // `--data` is relative to where the command is given.
    let mut command = with_file(&file, &["--data", "here"]);
    Ready::new(Process::spawn(command.current_dir(&elsewhere))).stop();
    assert!(elsewhere.join("here/server.db").exists());
}

#[test]
fn without_a_word_the_data_directory_is_xmpp_data() {
    let temp = Temp::new();
    let file = temp.write("etc/x.toml", QUIET);
    let mut with = with_file(&file, &[]);
    let mut without = Command::new(BINARY);
    without.args(["--listen", "127.0.0.1:0"]);
    for (name, command) in [("with", &mut with), ("without", &mut without)] {
        let here = temp.path().join(name);
        fs::create_dir(&here).unwrap();
        Ready::new(Process::spawn(command.current_dir(&here))).stop();
        assert!(here.join("xmpp-data/server.db").exists(), "{name} a file");
    }
    assert!(!temp.path().join("etc/xmpp-data").exists());
}

#[test]
fn no_file_is_read_unless_named() {
    let temp = Temp::new();
    for name in ["xmpp-server.toml", "config.toml", "xmpp-data/config.toml"] {
        temp.write(name, "this is = no configuration");
    }
    let mut command = Command::new(BINARY);
    command
        .args(["--listen", "127.0.0.1:0"])
        .current_dir(temp.path());
    Ready::new(Process::spawn(&mut command)).stop();
}

#[test]
fn a_file_that_does_not_load_is_exit_1() {
    let temp = Temp::new();
    let check = |text: &str, words: &[&str]| {
        let file = temp.write("x.toml", text);
        let name = file.display().to_string();
        let ended = run(&mut with_file(&file, &[]));
        check_failed(&ended, words);
        assert!(ended.stderr.contains(&name), "{name}: {ended:?}");
        assert!(!temp.path().join("data").exists());
    };
    check("data_dri = \"data\"\n", &["data_dri", "data_dir", ":1:"]);
    check(
        "data_dir = \"data\"\n[c2s]\nlisten_tsl = []\n",
        &["listen_tsl", "listen_tls", ":3:"],
    );
    check(
        "data_dir = \"data\"\n[c2x]\nlisten = []\n",
        &["c2x", "c2s", ":2:"],
    );
    check(
        "data_dir = \"data\"\n[modules]\noff = [\"pign\"]\n",
        &["pign", "ping"],
    );
    check(
        "data_dir = \"data\"\n[c2s]\nlisten = \"127.0.0.1\"\n",
        &["c2s.listen"],
    );
    check("data_dir = \"data\"\nthis is not TOML\n", &[":2:"]);
    check(
        "data_dir = \"data\"\n[[domain]]\nregistration = \"open\"\n",
        &["domain.name"],
    );
    let missing = temp.path().join("missing.toml");
    check_failed(&run(&mut with_file(&missing, &[])), &["missing.toml"]);
}

#[test]
fn an_empty_list_opens_no_listener() {
    let temp = Temp::new();
    let text = "data_dir = \"data\"\n[c2s]\nlisten = []\nlisten_tls = []\n[s2s]\nenabled = false\n";
    let mut process = server_with_file(&temp.write("x.toml", text));
    assert_eq!(process.until_ready(), [""; 0]);
    let addresses = fs::read_to_string(temp.data().join("addresses.json")).unwrap();
    assert_eq!(
        json(&addresses),
        serde_json::json!({ "pid": process.pid() })
    );
    process.signal("TERM");
    assert_eq!(process.end().code, Some(0));
    let one = "data_dir = \"data\"\n[c2s]\nlisten = []\nlisten_tls = [\"127.0.0.1:0\"]\n\
               [s2s]\nenabled = false\n";
    let ready = Ready::new(server_with_file(&temp.write("x.toml", one)));
    assert!(ready.starttls.is_none() && ready.tls.is_some());
    ready.stop();
}

#[test]
fn keys_of_later_features_are_named_once_and_harmless() {
    let temp = Temp::new();
    let text = "data_dir = \"data\"\n[c2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = []\n\
                [s2s]\nenabled = false\n[modules]\nmuc.host = \"rooms.localhost\"\n";
    let mut process = server_with_file(&temp.write("x.toml", text));
    let lines = process.until_ready();
    assert_eq!(lines.len(), 1, "they open no port: {lines:?}");
    assert!(
        lines[0].starts_with("listening c2s-starttls 127.0.0.1:"),
        "{lines:?}"
    );
    process.signal("TERM");
    let ended = process.end();
    let lines = ended.stderr.lines();
    let named = lines.filter(|line| line.contains("modules.muc")).count();
    assert_eq!(named, 1, "{ended:?}");
}

#[test]
fn the_log_as_json() {
    let temp = Temp::new();
    let text =
        format!("data_dir = \"data\"\n[log]\nformat = \"json\"\nfilter = \"debug\"\n{QUIET}");
    let ended = Ready::new(server_with_file(&temp.write("x.toml", &text))).stop();
    let lines: Vec<_> = ended.stderr.lines().map(json).collect();
    assert!(
        lines.iter().all(|line| line["level"].is_string()),
        "{lines:?}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line["fields"]["message"] == "shutting down"),
        "{lines:?}"
    );
}

#[test]
fn help_and_version() {
    for line in [
        "--help",
        "run --help",
        "check --help",
        "user --help",
        "user add --help",
        "--version",
    ] {
        let ended = run(Command::new(BINARY).args(line.split(' ')));
        assert_eq!(
            (ended.code, &*ended.stderr),
            (Some(0), ""),
            "{line}: {ended:?}"
        );
        assert!(!ended.stdout.is_empty(), "{line}");
        let widest = ended.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{line}: {ended:?}");
    }
    check_usage(
        &run(Command::new(BINARY).arg("frobnicate")),
        &["frobnicate"],
    );
}
