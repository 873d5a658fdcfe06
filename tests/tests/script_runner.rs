//! The command xmpp-script as people and machines meet it: exit codes, messages, reports; servers
//! that are wrong in every way; nothing hangs.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use xmpp_testkit::{TestLab, Tree};

const GOOD: &str = "[Client] Romeo\n\tjid: romeo@localhost/garden\n\tpassword: secret\n\
    Romeo connects\nRomeo sends:\n\t<presence/>\nRomeo receives:\n\t<presence from=\"${Romeo's full JID}\"/>\n";

/// A folder of a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("xmpp-script-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn played(arguments: &[&str]) -> (i32, String, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_xmpp-script"))
        .args(arguments)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = run.expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        status.code().expect("an exit code"),
        text(stdout),
        text(stderr),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

#[test]
fn a_good_script_is_exit_code_0_and_a_wrong_one_1() {
    let folder = Folder::new();
    let good = folder.file("good.scs", GOOD);
    let (code, out, _) = played(&[text(&good)]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("1 passed") && out.contains("seed "), "{out}");
    let wrong = GOOD.replace("full JID}\"/>", "JID}\"><show>xa</show></presence>");
    let wrong = folder.file("wrong.scs", &wrong);
    let (code, out, _) = played(&["--patience", "200ms", text(&wrong)]);
    assert_eq!(code, 1, "{out}");
    for shown in [
        "wrong.scs:7:1: presence/@from: expected \"romeo@localhost\", got \"romeo@localhost/garden\"",
        "!   from='romeo@localhost' |   from='romeo@localhost/garden'",
        "!   <show>                 | ",
        "received so far (1):",
    ] {
        assert!(out.contains(shown), "{shown}\n{out}");
    }
}

#[test]
fn a_broken_script_is_exit_code_2_with_its_place() {
    let folder = Folder::new();
    let broken = folder.file("broken.scs", &GOOD.replace("<presence/>", "<presence"));
    let (code, out, error) = played(&[text(&broken)]);
    assert_eq!(code, 2, "{out}");
    assert!(out.contains("broken.scs:6:"), "{out}");
    assert!(error.contains("a script is broken"), "{error}");
    let (code, _, error) = played(&["/nonexistent/x.scs"]);
    assert_eq!(code, 2);
    assert!(error.contains("/nonexistent/x.scs"), "{error}");
    assert_eq!(played(&[]).0, 2);
    assert_eq!(played(&[text(&broken), "--server", "nothing"]).0, 2);
    assert_eq!(
        played(&[text(&broken), "--server", "a=b:1", "--ca", text(&broken)]).0,
        2
    );
}

#[test]
fn a_pending_script_must_fail() {
    let folder = Folder::new();
    let surprise = folder.file("surprise.scs", &format!("## pending: later\n{GOOD}"));
    let (code, out, _) = played(&[text(&surprise)]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("remove the mark"), "{out}");
    let failing = GOOD.replace("Romeo receives:", "Romeo receives within 10ms:");
    let failing = failing.replace("full JID", "JID");
    let pending = folder.file("surprise.scs", &format!("## pending: later\n{failing}"));
    let (code, out, _) = played(&[text(&pending)]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("1 pending"), "{out}");
}

#[test]
fn reports_are_what_others_read() {
    let folder = Folder::new();
    folder.file("good.scs", GOOD);
    folder.file("wrong.scs", &GOOD.replace("full JID", "JID"));
    let path = |name: &str| folder.0.join(name);
    let (junit, json, html) = (path("r.xml"), path("r.json"), path("r.html"));
    let options = [
        "--junit",
        text(&junit),
        "--json",
        text(&json),
        "--html",
        text(&html),
    ];
    let arguments = [&options[..], &["--patience", "200ms", text(&folder.0)]].concat();
    assert_eq!(played(&arguments).0, 1);
    let read = |path: &Path| std::fs::read_to_string(path).expect("a report");
    let suite = read(&junit);
    let suite = Tree::parse(
        suite
            .trim_start_matches("<?xml version='1.0' encoding='UTF-8'?>")
            .trim(),
    );
    assert_eq!(
        (suite.attr("tests"), suite.attr("failures")),
        (Some("2"), Some("1"))
    );
    assert!(suite.children().any(|case| case.child("failure").is_some()));
    let value: Value = serde_json::from_str(&read(&json)).expect("JSON");
    assert_eq!(value["passed"], Value::Bool(false));
    assert_eq!(
        value["scripts"][1]["failure"]["rows"][1][2],
        Value::Bool(true)
    );
    let page = read(&html);
    assert!(
        page.contains("1 of 2 scripts failed") && page.contains("class='here'"),
        "{page}"
    );
    // one self-contained page: nothing is fetched
    assert!(!page.contains("src=") && !page.contains("<link"), "{page}");
}

#[test]
fn who_is_not_called_says_so() {
    let folder = Folder::new();
    let script = "[Server] Montague\n\tjid: b.test\n\tdomain: a.test\n\tcalls: by hand\n\
        Montague is called within 50ms\n";
    let waiting = folder.file("waiting.scs", script);
    let (code, out, _) = played(&[text(&waiting)]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("waiting.scs:5:1: nobody has called in 50ms"),
        "{out}"
    );
    let twice = script.replace("[Server] Montague", "[Server] First");
    let twice = twice.replace("Montague is called within 50ms\n", "");
    let second = folder.file("second.scs", &format!("{twice}{script}"));
    let (code, out, _) = played(&[text(&second)]);
    assert_eq!(code, 1, "{out}");
    let told = "second.scs:9:1: another character takes the calls of this domain";
    assert!(out.contains(told), "{out}");
}

/// Plays against a server that does with each connection what it is told.
fn against(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.expect("a connection"));
        }
    });
    failing(address)
}

fn failing(address: SocketAddr) -> String {
    let folder = Folder::new();
    let script = folder.file("good.scs", GOOD);
    let server = format!("localhost={address}");
    let (code, out, _) = played(&["--server", &server, "--patience", "300ms", text(&script)]);
    assert_eq!(code, 1, "{out}");
    out
}

#[test]
fn servers_that_are_wrong_are_told_in_words() {
    let unused = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = unused.local_addr().expect("an address");
    drop(unused);
    assert!(failing(address).contains("cannot be reached"));
    let held = std::sync::Mutex::new(Vec::new());
    let silent = against(move |stream| held.lock().expect("unpoisoned").push(stream));
    assert!(silent.contains("nothing for 300ms"), "{silent}");
    let closing = against(drop);
    assert!(closing.contains("the end of the connection"), "{closing}");
    let garbage = against(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    assert!(garbage.contains("what is no XML"), "{garbage}");
    let deep = against(|mut stream| {
        let _ =
            stream.write_all(b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>");
        for _ in 0..10_000 {
            let _ = stream.write_all(b"<a>");
        }
        let _ = stream.read(&mut [0; 4096]);
    });
    assert!(deep.contains("nested too deeply"), "{deep}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_played_against_a_server_elsewhere() {
    let lab = TestLab::new(["localhost"]).await.expect("a server");
    let folder = Folder::new();
    let ca = folder.file("ca.pem", lab.ca_pem());
    let script = folder.file("good.scs", GOOD);
    let address = lab.place("localhost").address.to_string();
    let server = format!("localhost={address}");
    for more in [&[][..], &["--fresh"], &["--fresh", "--seed", "1f"]] {
        let options = ["--server", &server, "--ca", text(&ca), text(&script)];
        let arguments: Vec<String> = options
            .iter()
            .chain(more)
            .map(|argument| (*argument).to_owned())
            .collect();
        let run = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            played(&arguments)
        });
        let (code, out, _) = run.await.expect("a run");
        assert_eq!(code, 0, "{out}");
    }
    let accounts = lab.accounts().await;
    let names: Vec<&str> = accounts.iter().map(|account| account.as_str()).collect();
    assert!(
        names.contains(&"romeo@localhost") && names.contains(&"romeo-1f@localhost"),
        "{names:?}"
    );
}
