//! The command xmpp-lab: what it prints, who can use what it starts, how it ends.

use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use xmpp_client::{Events, Stanza, Ty, XmppClient};
use xmpp_server::config::{CertificateFiles, Dialback};
use xmpp_stream::ns;
use xmpp_stream::resolve::{Dns, NameServers};
use xmpp_testkit::laboratory::{LabProcess, path};
use xmpp_testkit::{TestLab, Trust, Wire};

const PATIENCE: Duration = Duration::from_secs(20);

async fn available(client: &XmppClient) -> Events {
    let heard = client.events();
    let sent = client.send_stanza(Stanza::presence(Ty::None)).await;
    sent.expect("sent");
    heard
}

/// The body of the next message.
async fn body(mut heard: Events) -> String {
    let body = timeout(PATIENCE, async {
        loop {
            let stanza = heard.next_stanza().await.expect("the stream is open");
            if let Some(body) = stanza.body() {
                return body;
            }
        }
    });
    body.await.expect("in time")
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_xmpp-lab");

async fn up(words: &[&str]) -> LabProcess {
    LabProcess::up(PROGRAM, words).await
}

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    let output = command.args(words).stdin(Stdio::null()).output();
    output.expect("the command")
}

#[test]
fn the_demonstration_plays_a_conversation_and_ends_well() {
    let output = run(&["demo"]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}");
    let lines = [
        "Ann: Good morning from a.test!",
        "Ben: And to you, from b.test.",
        "the link between the two servers is cut",
        "what Ann said has arrived",
    ];
    let mut rest = said.as_str();
    for line in lines {
        let at = rest.find(line).unwrap_or_else(|| panic!("{line}: {said}"));
        rest = &rest[at..];
    }
}

#[tokio::test]
async fn clients_find_both_domains_by_its_name_server_and_talk() {
    let mut lab = up(&["a.test", "b.test"]).await;
    let names = NameServers::new(&[lab.names()]);
    for service in [
        "_xmpp-client",
        "_xmpps-client",
        "_xmpp-server",
        "_xmpps-server",
    ] {
        let found = names.srv(&format!("{service}._tcp.b.test")).await;
        assert_eq!(found.map(|found| found.len()), Ok(1), "{service}");
    }
    let (ann, ben) = (
        lab.client("ann@a.test").await,
        lab.client("ben@b.test").await,
    );
    let heard = available(&ben).await;
    let hello = Stanza::chat(ben.jid().as_str(), "across").expect("a stanza");
    ann.send_stanza(hello).await.expect("sent");
    assert_eq!(body(heard).await, "across");
    // It is shown where it left and where it came in, and so is the link that carries it.
    for (domain, way) in [("a.test", "out"), ("b.test", "in")] {
        lab.until(|event| {
            event["event"] == "stanza"
                && event["domain"] == domain
                && event["way"] == way
                && event["xml"]
                    .as_str()
                    .is_some_and(|xml| xml.contains("across"))
        })
        .await;
    }
    let link = lab.until(|event| event["event"] == "link").await;
    assert_eq!(
        (&link["condition"], &link["connections"]),
        (&"up".into(), &1.into())
    );
    lab.order("sever a.test b.test");
    let done = lab.until(|event| event["event"] == "done").await;
    assert_eq!(done["text"], "done, on 2 links");
    lab.until(|event| event["event"] == "link" && event["condition"] == "cut")
        .await;
    lab.order("burn all");
    let refused = lab.until(|event| event["event"] == "refused").await;
    assert_eq!(refused["text"], "\"burn\" is no order; help lists them");
    lab.order("quit");
    lab.until(|event| event["event"] == "ending").await;
    assert!(lab.ends().await);
}

#[tokio::test]
async fn signals_end_it_in_order_and_a_temporary_folder_goes() {
    for signal in ["-TERM", "-INT"] {
        let mut lab = up(&["a.test"]).await;
        let ca = lab.find("event", "ca");
        let ca = path(&ca["file"]);
        assert!(ca.exists());
        lab.signal(signal);
        assert!(lab.ends().await, "{signal}");
        assert!(!ca.exists());
    }
}

#[tokio::test]
async fn a_data_folder_keeps_authority_and_passwords() {
    let folder = std::env::temp_dir().join(format!("xmpp-lab-test-{}", std::process::id()));
    let words = ["a.test", "--data", folder.to_str().expect("a path")];
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut lab = up(&words).await;
        lab.client("ann@a.test").await;
        let ca = std::fs::read_to_string(folder.join("ca/ca.pem")).expect("a CA");
        kept.push((ca, lab.find("jid", "ann@a.test")));
        let passwords = std::fs::metadata(folder.join("accounts.txt")).expect("a file");
        assert_eq!(passwords.permissions().mode() & 0o777, 0o600);
        lab.order("quit");
        assert!(lab.ends().await);
    }
    assert_eq!(kept[0], kept[1]);
    std::fs::remove_dir_all(folder).expect("a folder");
}

/// A server of somebody else's: it shows the certificate that it was given, finds the laboratory by its
/// name server, is found with all that is below it, and its link has faults too.
#[tokio::test]
async fn a_server_joins() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address");
    let join = format!("c.test={address}");
    let mut lab = up(&["a.test", "--join", &join]).await;
    drop(port);
    let given = lab.find("event", "certificate");
    assert_eq!(given["domain"], "c.test");
    let [certificate, key, ca] = ["file", "key", "ca"].map(|one| path(&given[one]));
    let names = NameServers::new(&[lab.names()]);
    let found = names.srv("_xmpp-server._tcp.c.test").await;
    assert_eq!(found.expect("a record")[0].port, address.port());
    let theirs = TestLab::builder().server(["c.test", "rooms.c.test"]);
    let theirs = theirs.config(|config| {
        for domain in &mut config.domains {
            let (certificate, key) = (certificate.clone(), key.clone());
            domain.certificate = Some(CertificateFiles { certificate, key });
        }
        config.s2s.enabled = true;
        config.s2s.listen = vec![address];
        config.s2s.dialback = Dialback::Never;
        config.s2s.ca = vec![ca.clone()];
        config.given.resolver = None;
        config.dns.servers = vec![lab.names()];
    });
    let theirs = theirs.start().await.expect("a server");
    let trust = Trust::pem(&std::fs::read_to_string(&ca).expect("a file"));
    let ann = lab.client("ann@a.test").await;
    let mut heard = available(&ann).await;
    for there in ["cat@c.test", "cat@rooms.c.test"] {
        let password = theirs.account(there).await;
        let domain = there.trim_start_matches("cat@");
        let mut cat = theirs.raw(domain).await.trusting(trust.clone());
        cat.login("cat", &password, "x").await;
        cat.presence("").await;
        let hello = Stanza::chat(there, "hello").expect("a stanza");
        ann.send_stanza(hello).await.expect("sent");
        let got = cat.next_of("message").await;
        assert_eq!(got.attr("from"), Some(ann.jid().as_str()), "{got}");
        cat.chat(ann.jid().as_str(), there).await;
        let came = timeout(PATIENCE, async {
            while let Some(stanza) = heard.next_stanza().await {
                if stanza.head.id.as_deref() == Some(there) {
                    return true;
                }
            }
            false
        });
        assert_eq!(came.await, Ok(true), "{there}");
    }
    lab.order("links");
    let link = lab
        .until(|event| event["event"] == "link" && event["connections"] != 0)
        .await;
    assert_eq!(
        (&link["from"], &link["to"]),
        (&"a.test".into(), &"c.test".into())
    );
    lab.order("kill c.test");
    let refused = lab.until(|event| event["event"] == "refused").await;
    assert_eq!(refused["text"], "c.test is served by somebody else");
    // What comes from elsewhere is shown as that.
    let out = |event: &&Value| event["way"] == "out" && event["domain"] == "a.test";
    for event in lab.seen().iter().filter(out) {
        let from = event["from"].as_str().unwrap_or_default();
        assert!(from.starts_with("ann@a.test"), "{event}");
    }
}

/// A component comes to its domain's server and is found from the other one's.
#[tokio::test]
async fn a_component_comes_in() {
    let mut lab = up(&["a.test", "b.test", "--component", "gw.a.test"]).await;
    let given = lab.find("event", "component");
    assert_eq!(given["domain"], "gw.a.test");
    let secret = given["secret"].as_str().expect("text").to_owned();
    let names = NameServers::new(&[lab.names()]);
    let found = names.srv("_xmpp-server._tcp.gw.a.test").await;
    assert_eq!(&*found.expect("a record")[0].target, "a.test");
    let mut gateway = component(lab.address("a.test", "component"), "gw.a.test", &secret).await;
    let ben = lab.client("ben@b.test").await;
    let heard = available(&ben).await;
    let hello = Stanza::chat("x@gw.a.test", "hello").expect("a stanza");
    ben.send_stanza(hello).await.expect("sent");
    let got = gateway.next_of("message").await;
    assert_eq!(got.attr("to"), Some("x@gw.a.test"));
    gateway
        .send(format!(
            "<message from='x@gw.a.test' to='{}' type='chat'><body>back</body></message>",
            ben.jid().as_str()
        ))
        .await;
    assert_eq!(body(heard).await, "back");
    lab.order("quit");
    assert!(lab.ends().await);
}

async fn component(address: SocketAddr, domain: &str, secret: &str) -> Wire {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let mut wire = Wire::over(stream, domain);
    wire.send_component_header().await;
    wire.shake_hands(secret).await;
    let agreed = wire.next().await;
    assert!(agreed.is(ns::COMPONENT, "handshake"), "{agreed}");
    wire
}

/// Every listener is on `::1` too, where the name server sends those who like that better.
#[tokio::test]
async fn it_listens_by_ipv6_too() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("this system has no IPv6");
        return;
    }
    let mut lab = up(&["a.test", "b.test", "--ipv6"]).await;
    let there = lab.listening("b.test", "c2s-starttls");
    let there = there.into_iter().find(SocketAddr::is_ipv6);
    let there = there.expect("a listener");
    let names = NameServers::new(&[lab.names()]);
    let found = names.srv("_xmpp-client._tcp.b.test").await;
    let mut found = found.expect("records").into_iter();
    let record = found.find(|record| record.port == there.port());
    let target = record.expect("a record").target;
    let addresses = names.ipv6(&target).await.expect("an address");
    assert_eq!(addresses, [std::net::Ipv6Addr::LOCALHOST]);
    let builder = lab.builder("ben@b.test").connect_to(&there.to_string());
    let ben = builder.connect().await.expect("a client");
    let heard = available(&ben).await;
    let ann = lab.client("ann@a.test").await;
    let hello = Stanza::chat("ben@b.test", "by six").expect("a stanza");
    ann.send_stanza(hello).await.expect("sent");
    assert_eq!(body(heard).await, "by six");
    lab.order("quit");
    assert!(lab.ends().await);
}

/// Where the name server has the port that programs ask, there is a file that says so.
#[tokio::test]
async fn a_name_server_at_its_usual_port_has_a_file() {
    const NAMES: &str = "127.0.53.7:53";
    if std::net::UdpSocket::bind(NAMES).is_err() {
        println!("this process may not have port 53");
        return;
    }
    let lab = up(&["a.test", "--dns", NAMES]).await;
    let file = lab.find("event", "resolver");
    let text = std::fs::read_to_string(file["file"].as_str().expect("a path"));
    assert_eq!(text.expect("a file"), "nameserver 127.0.53.7\n");
}

#[test]
fn mistakes_are_named_and_end_it() {
    #[track_caller]
    fn check(words: &[&str], code: i32, why: &str) {
        let output = run(words);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(why), "{words:?}: {said}");
    }
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("an address").to_string();
    check(&["up"], 2, "DOMAIN");
    check(&["up", "ann@a.test"], 2, "\"ann@a.test\" is no domain");
    check(&["up", "a.test", "a.test"], 2, "a.test is named twice");
    check(&["up", "a.test", "--join", "c.test"], 2, "DOMAIN=HOST:PORT");
    check(
        &["up", "a.test", "--any-port", "--dns", &taken],
        1,
        &format!("name server at {taken}"),
    );
    check(
        &["up", "a.test", "--data", "/proc/nowhere"],
        1,
        "/proc/nowhere",
    );
    for words in [&["--help"][..], &["up", "--help"], &["demo", "--help"]] {
        let output = run(words);
        assert!(
            output.status.success() && output.stdout.len() > 200,
            "{words:?}"
        );
    }
}
