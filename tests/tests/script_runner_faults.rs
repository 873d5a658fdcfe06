//! The command xmpp-script when what is around it is wrong: servers that die, hang or answer garbage
//! after login, helpers that do not end, trust that is missing, files that change.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use xmpp_testkit::{FakeServer, FakeStream, TestLab};

const SCRIPT: &str = "[Client] Romeo\n\tjid: romeo@localhost/garden\n\tpassword: secret\n\ttls: direct\n\
    Romeo connects\nRomeo receives:\n\t<presence/>\n";
/// The same for a server that is right.
const GOOD: &str = "[Client] Romeo\n\tjid: romeo@localhost/garden\n\tpassword: secret\n\
    Romeo connects\nRomeo sends:\n\t<presence/>\nRomeo receives:\n\t<presence/>\n";

/// A folder of a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = format!("xmpp-script-faults-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xmpp-script"));
    command.args(arguments);
    command
}

/// Exit code, and everything it says.
async fn run(mut command: Command) -> (i32, String) {
    let running = move || command.output().expect("the command runs");
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::task::spawn_blocking(running).await.expect("a run");
    let said = [stdout, stderr].concat();
    let said = String::from_utf8(said).expect("text");
    (status.code().expect("an exit code"), said)
}

/// Plays against a server whose part after the login is played by the test.
async fn after_login<F: Future<Output = ()>>(then: impl FnOnce(FakeStream) -> F) -> String {
    let server = FakeServer::new("localhost").await;
    let folder = Folder::new();
    let ca = folder.file("ca.pem", server.ca_pem());
    let accounts = folder.file("accounts", "romeo@localhost,secret\n");
    let script = folder.file("script.scs", SCRIPT);
    let place = format!("localhost={}", server.address());
    let options = ["--server", &place, "--server-tls", &place, "--ca", &ca];
    let more = ["--accounts", &accounts, "--patience", "300ms", &script];
    let playing = run(command(&[&options[..], &more].concat()));
    let serving = async {
        then(server.bound("romeo@localhost/garden").await).await;
    };
    let ((code, said), ()) = tokio::join!(playing, serving);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("script.scs:6:1: "),
        "the step is named: {said}"
    );
    said
}

#[tokio::test]
async fn a_server_that_dies_in_a_session_is_told() {
    let said = after_login(|stream| async move { drop(stream) }).await;
    assert!(said.contains("the end of the connection"), "{said}");
}

#[tokio::test]
async fn a_server_that_hangs_in_a_session_is_told() {
    let hang = |mut stream: FakeStream| async move { drop(stream.until_closed().await) };
    let said = after_login(hang).await;
    assert!(said.contains("nothing more came in 300ms"), "{said}");
}

#[tokio::test]
async fn garbage_in_a_session_is_told() {
    for (garbage, told) in [
        ("<presence", "the end of the connection"),
        ("<presence></message>", "what is no XML"),
        ("HTTP/1.1 400 Bad Request", "what is no XML"),
        ("<presence from='x' from='y'/>", "what is no XML"),
    ] {
        let said = after_login(|mut stream| async move {
            stream.say(garbage).await;
        });
        let said = said.await;
        assert!(said.contains(told), "{garbage}: {said}");
    }
}

/// Without `--ca` the system's CAs count, which SSL_CERT_FILE names.
#[tokio::test(flavor = "multi_thread")]
async fn the_systems_trust_is_used_without_a_ca() {
    let lab = TestLab::new(["localhost"]).await.expect("a server");
    let other = FakeServer::new("localhost").await;
    let folder = Folder::new();
    let script = folder.file("good.scs", GOOD);
    let place = format!("localhost={}", lab.place("localhost").address);
    for (ca, expected) in [(lab.ca_pem(), 0), (other.ca_pem(), 1)] {
        let ca = folder.file("ca.pem", ca);
        let mut command = command(&["--server", &place, "--fresh", &script]);
        command.env("SSL_CERT_FILE", &ca).env_remove("SSL_CERT_DIR");
        let (code, said) = run(command).await;
        assert_eq!(code, expected, "{said}");
        let hint = said.contains("--ca FILE names the CA to trust");
        assert_eq!(hint, expected == 1, "{said}");
    }
}

/// A command that is to make an account, and does not end: it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_does_not_end_is_killed() {
    let lab = TestLab::new(["localhost"]).await.expect("a server");
    let folder = Folder::new();
    let script = folder.file("good.scs", GOOD);
    let ca = folder.file("ca.pem", lab.ca_pem());
    let helper = folder.file("helper", "echo $$ > \"$1\"\nexec tail -f /dev/null\n");
    let pid = folder.0.join("pid").display().to_string();
    let place = format!("localhost={}", lab.place("localhost").address);
    let helper = format!("sh {helper} {pid}");
    let options = ["--server", &place, "--ca", &ca, "--patience", "2s"];
    let more = ["--account-command", &helper, &script];
    let (code, said) = run(command(&[&options[..], &more].concat())).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("sh does not end"), "{said}");
    let pid = std::fs::read_to_string(pid).expect("the helper has run");
    let is_there = Path::new("/proc").join(pid.trim()).exists();
    assert!(!is_there, "no process is left behind");
}

#[tokio::test]
async fn files_that_cannot_be_read_or_written_are_exit_code_2() {
    let folder = Folder::new();
    let script = folder.file("good.scs", GOOD);
    let accounts = folder.file("accounts", "# mine\nromeo@localhost\n");
    let server = ["--server", "localhost=127.0.0.1:1", &script];
    for (arguments, told) in [
        (
            vec!["--html", "/nonexistent/r.html", &script],
            "/nonexistent/r.html",
        ),
        (
            vec!["--junit", "/nonexistent/r.xml", &script],
            "/nonexistent/r.xml",
        ),
        (
            vec!["--json", "/nonexistent/r.json", &script],
            "/nonexistent/r.json",
        ),
        (
            [&server[..], &["--accounts", &accounts]].concat(),
            "accounts:2:1: ",
        ),
        (
            [&server[..], &["--ca", "/nonexistent/ca"]].concat(),
            "/nonexistent/ca",
        ),
        (
            [&server[..], &["--server-tls", "localhost"]].concat(),
            "--server-tls localhost",
        ),
        (vec!["--patience", "soon", &script], "soon"),
    ] {
        let (code, said) = run(command(&arguments)).await;
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains(told), "{told}: {said}");
    }
}

/// `--watch` plays again when a script changes, tells both times, and ends when it is told to.
#[test]
fn watching_plays_again_after_a_change() {
    let folder = Folder::new();
    let script = folder.file("good.scs", GOOD);
    let mut child = command(&["--watch", "--patience", "300ms", &script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut until = |wanted: &str| {
        for line in lines.by_ref() {
            let line = line.expect("text");
            if line.contains(wanted) {
                return;
            }
        }
        panic!("it ends without {wanted:?}");
    };
    until("1 passed");
    until("waiting for a change");
    // a script that cannot be read is told, and does not end it
    folder.file("good.scs", &GOOD.replace("<presence/>", "<presence"));
    until("1 broken");
    until("waiting for a change");
    folder.file("good.scs", &GOOD.replace("receives", "never receives"));
    until("1 failed");
    until("waiting for a change");
    let pid = child.id().to_string();
    let sent = Command::new("kill").arg(&pid).status();
    assert!(sent.expect("kill").success());
    child.wait().expect("its end");
}
