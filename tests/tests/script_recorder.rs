//! `xmpp-script --record`: a session that passes through the recorder becomes a script, which passes
//! when it is played against a new server, and fails when a stanza of it is changed.

use std::future::pending;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use xmpp_client::{Kind, Stanza, Ty, XmppClient};
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::Password;
use xmpp_stream::xml::Element;
use xmpp_testkit::script::record::{Options, RecordError, Recorded, Recorder};
use xmpp_testkit::script::stage::Elsewhere;
use xmpp_testkit::script::{self, Report, find, suite};
use xmpp_testkit::{TestLab, Trust};

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
    let connected = builder.connect_to(&address.to_string()).connect().await;
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
    tokio::time::timeout(PATIENCE, hearing).await.expect("it comes in time")
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
    romeo.send_iq(roster(Ty::Get, None)).await.expect("a roster");
    say(&romeo, Stanza::presence(Ty::None)).await;
    say(&juliet, Stanza::presence(Ty::None)).await;
    let item = Element::new("jabber:iq:roster", "item").with_attr("jid", "juliet@localhost");
    romeo.send_iq(roster(Ty::Set, Some(item))).await.expect("a contact");
    say(&romeo, to(Stanza::presence(Ty::Subscribe), "juliet@localhost")).await;
    hear(&juliet, |it| it.head.ty == Ty::Subscribe).await;
    say(&juliet, to(Stanza::presence(Ty::Subscribed), "romeo@localhost")).await;
    hear(&romeo, |it| it.head.ty == Ty::Subscribed).await;
    let chat = Stanza::chat("juliet@localhost", "Good ${evening},\n'Juliet' <3").expect("a chat");
    say(&romeo, chat.with_id("m1")).await;
    let heard = hear(&juliet, |it| it.kind == Kind::Message).await;
    assert_eq!(heard.body().as_deref(), Some("Good ${evening},\n'Juliet' <3"));
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
    tokio::time::timeout(6 * PATIENCE, both).await.expect("it ends with the last session")
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
    for unwanted in ["secret of", "stream:", "urn:ietf:params:xml:ns:xmpp-bind", "0.1.0"] {
        assert!(!text.contains(unwanted), "{unwanted}\n{text}");
    }
    let report = played(text);
    assert_eq!(report.outcome.word(), "passed", "{:?}\n{text}", report.outcome.why());
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
        servers: [("localhost".into(), lab.place("localhost").address.to_string())].into(),
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

#[tokio::test]
async fn a_port_in_use_is_told() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut options = options(None, ["a".into(), "b".into()]);
    options.listen = held.local_addr().expect("an address");
    let error = Recorder::listen(options).await.err().expect("the port is in use");
    assert!(matches!(error, RecordError::Listen(..)), "{error}");
}
