//! `xmpp-script --record`: a session that passes through the recorder becomes a script, which passes
//! when it is played against a new server, and fails when a stanza of it is changed.

use std::future::pending;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use xmpp_client::{Kind, Reconnect, Stanza, Ty, XmppClient};
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::Password;
use xmpp_stream::xml::Element;
use xmpp_testkit::script::record::{Options, RecordError, Recorded, Recorder};
use xmpp_testkit::script::stage::Elsewhere;
use xmpp_testkit::script::{self, Report, find, suite};
use xmpp_testkit::{FakeServer, Proxy, TestLab, Trust};

const PATIENCE: Duration = Duration::from_secs(10);

fn options(elsewhere: Option<Elsewhere>, passwords: [String; 2]) -> Options {
    let jids = ["romeo@localhost", "juliet@localhost"];
    let accounts = jids.iter().zip(passwords).map(|(jid, password)| {
        let jid = BareJid::parse(jid).expect("an address");
        (jid, Password(password))
    });
    Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        elsewhere,
        accounts: accounts.collect(),
        certificate: None,
        patience: PATIENCE,
    }
}

/// A client whose way leads through the recorder.
async fn client(address: SocketAddr, ca: &str, jid: &str, password: &str) -> XmppClient {
    let builder = XmppClient::builder(jid).password(password).ca_pem(ca);
    let builder = builder
        .connect_to(&address.to_string())
        .reconnect(Reconnect::never());
    let connected = builder.connect().await;
    connected.expect("a session through the recorder")
}

async fn say(client: &XmppClient, stanza: Stanza) {
    client.send_stanza(stanza).await.expect("an open stream");
}

/// Takes what comes until it is this.
async fn hear(client: &XmppClient, is_it: impl Fn(&Stanza) -> bool) -> Stanza {
    let hearing = async {
        loop {
            let stanza = client.next_stanza().await.expect("an open stream");
            if is_it(&stanza) {
                return stanza;
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing)
        .await
        .expect("it comes in time")
}

fn roster(ty: Ty, item: Option<Element>) -> Stanza {
    let mut query = Element::new("jabber:iq:roster", "query");
    query = item.into_iter().fold(query, Element::with_child);
    Stanza::iq(ty, "roster-of-romeo").with_child(&query)
}

fn to(stanza: Stanza, jid: &str) -> Stanza {
    stanza.with_to(BareJid::parse(jid).expect("an address"))
}

/// Roster, subscription, presence and a chat, with all that a script cannot know beforehand.
async fn conversation(address: SocketAddr, ca: &str, passwords: &[String; 2]) {
    let romeo = client(address, ca, "romeo@localhost/garden", &passwords[0]).await;
    let juliet = client(address, ca, "juliet@localhost", &passwords[1]).await;
    romeo
        .send_iq(roster(Ty::Get, None))
        .await
        .expect("a roster");
    say(&romeo, Stanza::presence(Ty::None)).await;
    say(&juliet, Stanza::presence(Ty::None)).await;
    let item = Element::new("jabber:iq:roster", "item").with_attr("jid", "juliet@localhost");
    romeo
        .send_iq(roster(Ty::Set, Some(item)))
        .await
        .expect("a contact");
    say(
        &romeo,
        to(Stanza::presence(Ty::Subscribe), "juliet@localhost"),
    )
    .await;
    hear(&juliet, |it| it.head.ty == Ty::Subscribe).await;
    say(
        &juliet,
        to(Stanza::presence(Ty::Subscribed), "romeo@localhost"),
    )
    .await;
    hear(&romeo, |it| it.head.ty == Ty::Subscribed).await;
    let chat = Stanza::chat("juliet@localhost", "Good ${evening},\n'Juliet' <3").expect("a chat");
    say(&romeo, chat.with_id("m1")).await;
    let heard = hear(&juliet, |it| it.kind == Kind::Message).await;
    assert_eq!(
        heard.body().as_deref(),
        Some("Good ${evening},\n'Juliet' <3")
    );
    let version = Element::new("jabber:iq:version", "query");
    let asked = to(Stanza::iq(Ty::Get, "v1"), "localhost").with_child(&version);
    juliet.send_iq(asked).await.expect("a version");
    juliet.disconnect().await.expect("an open stream");
    romeo.disconnect().await.expect("an open stream");
}

fn played(text: &str) -> Report {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("recorded-{}-{number}.scs", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, text).expect("a file");
    let parts = suite::parts(&find(std::slice::from_ref(&file)).expect("the file"));
    let options = script::Options {
        patience: Some(Duration::from_secs(2)),
        ..script::Options::default()
    };
    let mut reports = suite::play(&parts, &options, &|_| ());
    std::fs::remove_file(&file).expect("the file");
    reports.remove(0)
}

async fn recorded(options: Options, passwords: [String; 2]) -> Recorded {
    let recorder = Recorder::listen(options).await.expect("a recorder");
    let address = recorder.address().expect("an address");
    let ca = recorder.ca_pem().expect("a CA").to_owned();
    let both = async {
        let recording = recorder.record(pending());
        let talking = conversation(address, &ca, &passwords);
        tokio::join!(recording, talking).0
    };
    tokio::time::timeout(6 * PATIENCE, both)
        .await
        .expect("it ends with the last session")
}

/// What every recording of the conversation has to be.
fn check(recorded: &Recorded) {
    let text = &recorded.script;
    assert_eq!(recorded.sessions, 2, "{text}");
    assert!(recorded.remarks.is_empty(), "{:?}", recorded.remarks);
    for wanted in [
        "[Client] Romeo\n\tjid: romeo@localhost/garden\n\tpassword: secret\n",
        "[Client] Juliet\n\tjid: juliet@localhost\n\tpassword: secret\n",
        "Romeo connects\n",
        "Juliet connects\n",
        "from=\"${Juliet's full JID}\"",
        "<body>Good &#36;{evening},&#10;&apos;Juliet&apos; &lt;3</body>",
        "<query xmlns='jabber:iq:version' scansion:strict='false'/>",
        "Juliet disconnects\n",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    // neither the real passwords nor what is true of this run only
    for unwanted in [
        "secret of",
        "stream:",
        "urn:ietf:params:xml:ns:xmpp-bind",
        "0.1.0",
    ] {
        assert!(!text.contains(unwanted), "{unwanted}\n{text}");
    }
    let report = played(text);
    assert_eq!(
        report.outcome.word(),
        "passed",
        "{:?}\n{text}",
        report.outcome.why()
    );
    for (is, other) in [
        ("subscription='to'", "subscription='from'"),
        ("<body>Good &#36;{evening}", "<body>Good morning"),
        ("type='subscribed'", "type='unsubscribed'"),
    ] {
        // the last is what is received
        let at = text.rfind(is).unwrap_or_else(|| panic!("{is}\n{text}"));
        let changed = format!("{}{}", &text[..at], text[at..].replacen(is, other, 1));
        let report = played(&changed);
        assert_eq!(report.outcome.word(), "failed", "{is}\n{changed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_server_elsewhere_is_recorded_and_played() {
    let lab = TestLab::new(["localhost"]).await.expect("a server");
    let passwords = [
        lab.account("romeo@localhost").await,
        lab.account("juliet@localhost").await,
    ];
    let elsewhere = Elsewhere {
        servers: [(
            "localhost".into(),
            lab.place("localhost").address.to_string(),
        )]
        .into(),
        trust: Some(Trust::pem(lab.ca_pem())),
        ..Elsewhere::default()
    };
    let options = options(Some(elsewhere), passwords.clone());
    check(&recorded(options, passwords).await);
}

#[tokio::test]
async fn a_session_with_a_server_of_the_recorder_is_recorded_and_played() {
    let passwords = ["secret of romeo".to_owned(), "secret of juliet".to_owned()];
    check(&recorded(options(None, passwords.clone()), passwords).await);
}

/// The server ends the session: so does the recorder, in the same way, and the script says it.
async fn ended_by_server(last_words: &str) -> Recorded {
    let server = FakeServer::new("localhost").await;
    let elsewhere = Elsewhere {
        servers: [("localhost".into(), server.address().to_string())].into(),
        ..Elsewhere::default()
    };
    let mut options = options(Some(elsewhere), ["secret".into(), "other".into()]);
    options.accounts.truncate(1);
    let recorder = Recorder::listen(options).await.expect("a recorder");
    let address = recorder.address().expect("an address");
    let ca = recorder.ca_pem().expect("a CA").to_owned();
    let serving = async {
        let mut stream = server.accept_plain().await;
        stream.sign_in().await;
        stream.features("").await;
        stream.bind("romeo@localhost/garden").await;
        stream.expect("<presence").await;
        stream.say(last_words).await;
    };
    let talking = async {
        let romeo = client(address, &ca, "romeo@localhost/garden", "secret").await;
        say(&romeo, Stanza::presence(Ty::None)).await;
        while romeo.next_stanza().await.is_some() {}
    };
    let all = async { tokio::join!(recorder.record(pending()), serving, talking).0 };
    tokio::time::timeout(3 * PATIENCE, all)
        .await
        .expect("it ends with the session")
}

#[tokio::test]
async fn a_session_that_the_server_ends_is_recorded() {
    let conflict = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                    </stream:error></stream:stream>";
    for (last_words, line) in [
        (conflict, "\nRomeo expects stream error conflict\n"),
        ("</stream:stream>", "\nRomeo expects end\n"),
        ("", "\nRomeo expects end\n"),
        ("<a></b>", "\nRomeo expects end\n"),
    ] {
        let recorded = ended_by_server(last_words).await;
        let script = recorded.script;
        assert!(script.ends_with(line), "{last_words}\n{script}");
        assert_eq!(recorded.sessions, 1, "{script}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut options = options(None, ["a".into(), "b".into()]);
    options.listen = held.local_addr().expect("an address");
    let error = Recorder::listen(options)
        .await
        .err()
        .expect("the port is in use");
    assert!(matches!(error, RecordError::Listen(..)), "{error}");
}

/// The command while it records.
struct Recording {
    child: Child,
    out: BufReader<ChildStdout>,
    folder: PathBuf,
    address: SocketAddr,
    ca: String,
}

impl Recording {
    /// With the password on standard input, towards a server of its own unless told otherwise.
    fn start(more: &[&str], input: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("xmpp-record-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_xmpp-script"))
            .args(["--account", "romeo@localhost", "--listen", "127.0.0.1:0"])
            .arg("--record")
            .arg(folder.join("recorded.scs"))
            .arg("--ca-out")
            .arg(folder.join("ca.pem"))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("it reads");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut address = None;
        while address.is_none() {
            let mut line = String::new();
            assert_ne!(out.read_line(&mut line).expect("text"), 0, "it listens");
            let rest = line.strip_prefix("listening on ");
            address = rest.and_then(|rest| rest.split(' ').next()?.parse().ok());
        }
        let ca = std::fs::read_to_string(folder.join("ca.pem")).expect("a CA");
        let address = address.expect("an address");
        Self {
            child,
            out,
            folder,
            address,
            ca,
        }
    }

    /// Waits for its end: exit code, what it says on standard error, the script.
    fn end(mut self) -> (i32, String, String) {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut rest).expect("text");
        let Output { status, stderr, .. } = self.child.wait_with_output().expect("its end");
        let script = std::fs::read_to_string(self.folder.join("recorded.scs")).expect("a script");
        let _ = std::fs::remove_dir_all(&self.folder);
        let stderr = String::from_utf8(stderr).expect("text");
        (status.code().expect("an exit code"), stderr, script)
    }

    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.expect("kill").success());
    }
}

#[tokio::test]
async fn the_command_ends_with_the_last_session() {
    let recording = Recording::start(&[], "secret of romeo\n");
    let jid = "romeo@localhost/garden";
    let romeo = client(recording.address, &recording.ca, jid, "secret of romeo").await;
    say(&romeo, Stanza::presence(Ty::None)).await;
    hear(&romeo, |it| it.kind == Kind::Presence).await;
    romeo.disconnect().await.expect("an open stream");
    let (code, error, script) = recording.end();
    assert_eq!((code, error.as_str()), (0, ""), "{script}");
    assert!(!script.contains("secret of"), "{script}");
    assert_eq!(played(&script).outcome.word(), "passed", "{script}");
}

/// A login with another password is refused, and not in the script; a connection that ends without a
/// word ends so in the script.
#[tokio::test]
async fn an_interrupt_ends_the_command_in_order() {
    let recording = Recording::start(&[], "secret of romeo\r\n");
    let (address, ca) = (recording.address, recording.ca.clone());
    let builder = XmppClient::builder("romeo@localhost/garden")
        .password("wrong")
        .ca_pem(&ca);
    let refused = builder.connect_to(&address.to_string()).connect().await;
    assert!(refused.is_err());
    let proxy = Proxy::new(address).await;
    let jid = "romeo@localhost/garden";
    let romeo = client(proxy.address, &ca, jid, "secret of romeo").await;
    say(&romeo, Stanza::presence(Ty::None)).await;
    hear(&romeo, |it| it.kind == Kind::Presence).await;
    let other = client(address, &ca, "romeo@localhost/balcony", "secret of romeo").await;
    say(&other, Stanza::presence(Ty::None)).await;
    hear(&other, |it| it.kind == Kind::Presence).await;
    proxy.cut();
    drop(proxy);
    hear(&other, |it| it.head.ty == Ty::Unavailable).await;
    recording.interrupt();
    let (code, error, script) = recording.end();
    assert_eq!(code, 0, "{error}\n{script}");
    assert!(
        error.contains("romeo@localhost cannot sign in: not-authorized"),
        "{error}"
    );
    assert_eq!(script.matches(" connects\n").count(), 2, "{script}");
    assert!(script.contains("Romeo cuts at byte 0\n"), "{script}");
    assert!(script.contains("Romeo 2 disconnects\n"), "{script}");
    assert_eq!(played(&script).outcome.word(), "passed", "{script}");
}

/// Where the server cannot be reached the client is told, and the script is empty: exit code 1.
#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("localhost={}", unused.local_addr().expect("an address"));
    drop(unused);
    let recording = Recording::start(&["--server", &server], "secret\n");
    let builder = XmppClient::builder("romeo@localhost")
        .password("secret")
        .ca_pem(&recording.ca);
    let refused = builder
        .connect_to(&recording.address.to_string())
        .connect()
        .await;
    assert!(refused.is_err());
    recording.interrupt();
    let (code, error, script) = recording.end();
    assert_eq!(code, 1, "{error}\n{script}");
    assert!(error.contains("cannot be reached"), "{error}");
}

#[test]
fn a_command_line_that_is_wrong_is_exit_code_2() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = held.local_addr().expect("an address").to_string();
    let account = [
        "--record",
        "/nonexistent/x.scs",
        "--account",
        "romeo@localhost",
    ];
    for (more, told) in [
        (&["--listen", &*address][..], "cannot be listened on"),
        (&["--account", "a@b@c"], "a@b@c"),
        (
            &[
                "--cert",
                "/nonexistent/c.pem",
                "--key",
                "/nonexistent/k.pem",
            ],
            "/nonexistent/c.pem",
        ),
        (
            &["--listen", "127.0.0.1:0", "--for", "1ms"],
            "/nonexistent/x.scs",
        ),
        (&["some.scs"], "cannot be used with"),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_xmpp-script"))
            .args(account)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command");
        let mut stdin = child.stdin.take().expect("a pipe");
        let _ = stdin.write_all(b"secret\nsecret\n");
        drop(stdin);
        let output = child.wait_with_output().expect("its end");
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(told), "{told}\n{error}");
    }
}
