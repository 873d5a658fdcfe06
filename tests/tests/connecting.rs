//! How xmpp-client finds its server: fake DNS, servers that are dead, wrong or send us elsewhere, and
//! the message that a person gets when nothing helps.

use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use xmpp_certs::{DevCa, Leaf, Variant};
use xmpp_client::{Builder, CertificateFault, ConnectError, Failure, Step, Tried, XmppClient};
use xmpp_stream::ns;
use xmpp_testkit::{FakeServer, TestLab, Zone};

const DIRECT: &str = "_xmpps-client._tcp.a.test";
const STARTTLS: &str = "_xmpp-client._tcp.a.test";

struct World {
    lab: TestLab,
    password: String,
    port: u16,
    port_tls: u16,
}

async fn world() -> World {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let place = lab.place("a.test");
    World {
        password: lab.account("ann@a.test").await,
        port: place.address.port(),
        port_tls: place.address_tls.expect("a listener").port(),
        lab,
    }
}

impl World {
    fn builder(&self, zone: Zone) -> Builder {
        builder(zone, &self.password).ca_pem(self.lab.ca_pem())
    }
}

fn builder(zone: Zone, password: &str) -> Builder {
    XmppClient::builder("ann@a.test/x")
        .password(password)
        .dns(zone.shared())
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates are valid from now on"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A port on which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

/// What each connection to a fake server is served by; the number of those so far is counted.
struct Fake {
    address: SocketAddr,
    served: Arc<AtomicUsize>,
}

impl Fake {
    async fn new<F: Future<Output = ()> + Send>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&served);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                serve(tcp).await;
            }
        });
        Self { address, served }
    }

    /// Says this to whatever comes, and reads on to the end.
    async fn saying(words: String) -> Self {
        Self::new(move |tcp| say(tcp, words.clone())).await
    }

    /// Shows this certificate, by direct TLS.
    async fn showing(leaf: &Leaf) -> Self {
        let config = xmpp_stream::tls::server_config(&leaf.chain_pem, &leaf.key_pem, true);
        let acceptor = TlsAcceptor::from(config.expect("a certificate and its key").0);
        Self::new(move |tcp| {
            let acceptor = acceptor.clone();
            async move {
                let _ = acceptor.accept(tcp).await;
            }
        })
        .await
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

async fn say(mut tcp: TcpStream, words: String) {
    let mut buffer = [0; 1024];
    let _ = tcp.read(&mut buffer).await;
    let _ = tcp.write_all(words.as_bytes()).await;
    while matches!(tcp.read(&mut buffer).await, Ok(1..)) {}
}

/// A server's first words, up to what follows the header.
fn opening(then: &str) -> String {
    format!(
        "<stream:stream xmlns='{}' xmlns:stream='{}' id='1' from='a.test' version='1.0'>{then}",
        ns::CLIENT,
        ns::STREAMS
    )
}

fn other_host(place: &str) -> String {
    let condition = format!(
        "<see-other-host xmlns='{}'>{place}</see-other-host>",
        ns::STREAM_ERRORS
    );
    opening(&format!(
        "<stream:error>{condition}</stream:error></stream:stream>"
    ))
}

async fn refused(builder: Builder) -> ConnectError {
    builder.connect().await.expect_err("no connection")
}

async fn tried(builder: Builder) -> Tried {
    match refused(builder).await {
        ConnectError::Unreachable(tried) => *tried,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn co_01_the_records_lead_to_the_server_by_either_way() {
    let world = world().await;
    let zone = Zone::new()
        .srv(STARTTLS, 1, "x.test.", world.port)
        .host("x.test", "127.0.0.1");
    let client = world.builder(zone).connect().await.expect("STARTTLS");
    assert_eq!(client.jid().as_str(), "ann@a.test/x");
    client.disconnect().await.expect("an end in order");
    let zone = Zone::new()
        .srv(DIRECT, 5, "x.test.", world.port_tls)
        .srv(STARTTLS, 10, "never.test", 1)
        .host("x.test", "127.0.0.1");
    let client = world.builder(zone).connect().await.expect("direct TLS");
    client.disconnect().await.expect("an end in order");
}

#[tokio::test]
async fn c6120_dn_03_dead_addresses_and_targets_are_passed_over() {
    let world = world().await;
    let dead = nobody().await.port();
    // The second address of the second target is the one that lives.
    let zone = Zone::new()
        .srv(DIRECT, 1, "dead.test", dead)
        .srv(STARTTLS, 2, "x.test", world.port)
        .host("dead.test", "127.0.0.1")
        .host("x.test", "127.0.0.77")
        .host("x.test", "127.0.0.1");
    let client = world.builder(zone).connect().await.expect("a way");
    client.disconnect().await.expect("an end in order");
}

#[tokio::test]
async fn c6120_dn_03_a_place_without_xmpp_or_tls_is_passed_over() {
    let world = world().await;
    let web = Fake::saying("HTTP/1.1 400 Bad Request\r\n\r\n".into()).await;
    let silent = Fake::new(|tcp| say(tcp, String::new())).await;
    let zone = Zone::new()
        .srv(DIRECT, 1, "x.test", web.address.port())
        .srv(STARTTLS, 2, "x.test", web.address.port())
        .srv(STARTTLS, 3, "x.test", silent.address.port())
        .srv(STARTTLS, 4, "x.test", world.port)
        .host("x.test", "127.0.0.1");
    let patient = world
        .builder(zone)
        .negotiation_max(Duration::from_millis(500));
    let client = patient.connect().await.expect("a way");
    assert_eq!((web.served(), silent.served()), (2, 1));
    client.disconnect().await.expect("an end in order");
}

#[tokio::test]
async fn c6120_dn_03_a_stream_that_does_not_open_behind_tls_is_passed_over() {
    let world = world().await;
    let fake = FakeServer::new("a.test").await;
    let zone = Zone::new()
        .srv(DIRECT, 1, "x.test", fake.address().port())
        .srv(STARTTLS, 2, "x.test", world.port)
        .host("x.test", "127.0.0.1");
    let both = format!("{}{}", fake.ca_pem(), world.lab.ca_pem());
    let client = world.builder(zone).ca_pem(&both).connect();
    let broken = async {
        let mut stream = fake.accept().await;
        stream.expect(">").await;
        stream.say("<nonsense xmlns='urn:test'/>").await;
        stream.until_closed().await;
    };
    let (client, ()) = tokio::join!(client, broken);
    client
        .expect("a way")
        .disconnect()
        .await
        .expect("an end in order");
}

#[tokio::test]
async fn co_11_a_refused_password_is_tried_nowhere_else() {
    let world = world().await;
    let other = Fake::saying(opening("")).await;
    let zone = Zone::new()
        .srv(STARTTLS, 1, "x.test", world.port)
        .srv(STARTTLS, 2, "x.test", other.address.port())
        .host("x.test", "127.0.0.1");
    let error = refused(world.builder(zone).password("a guess")).await;
    assert_eq!(error.step(), Step::Authentication);
    assert!(
        matches!(error.failure(), Some(Failure::Login { .. })),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "authentication failed: login refused: not-authorized"
    );
    assert_eq!(other.served(), 0);
}

#[tokio::test]
async fn c6120_dn_02_a_domain_without_the_service_is_not_knocked_at() {
    let zone = Zone::new()
        .srv(STARTTLS, 0, ".", 0)
        .host("a.test", "127.0.0.1")
        .shared();
    let error = refused(builder(Zone::new(), "secret").dns(zone.clone())).await;
    assert_eq!(error.step(), Step::Resolve);
    assert_eq!(
        error.to_string(),
        "address lookup failed: the domain says in DNS that it has no such service"
    );
    assert_eq!(zone.asked(), [DIRECT, STARTTLS]);
}

#[tokio::test]
async fn what_was_tried_is_told_place_by_place() {
    let dead = nobody().await.port();
    let zone = Zone::new()
        .srv(DIRECT, 1, "x.test", dead)
        .srv(STARTTLS, 2, "nowhere.test", 5222)
        .srv(STARTTLS, 3, "broken.test", 5222)
        .failing("broken.test")
        .host("x.test", "127.0.0.1")
        .host("x.test", "127.0.0.77");
    let error = refused(builder(zone, "secret").ca_pem(world().await.lab.ca_pem())).await;
    assert_eq!(error.step(), Step::Connect);
    let refused = "connection failed: Connection refused (os error 111)";
    let expected = [
        &format!(
            "no connection to a.test: x.test:{dead} (127.0.0.1:{dead}, direct TLS): {refused}"
        ),
        &format!("x.test:{dead} (127.0.0.77:{dead}, direct TLS): {refused}"),
        "nowhere.test:5222 (STARTTLS): address lookup failed: the host has no address",
        "broken.test:5222 (STARTTLS): address lookup failed: the name server failed (SERVFAIL)",
    ];
    assert_eq!(error.to_string(), expected.join("; "));
    let mut source = std::error::Error::source(&error);
    let mut chain = Vec::new();
    while let Some(error) = source {
        chain.push(error.to_string());
        source = error.source();
    }
    assert_eq!(chain, [refused, "Connection refused (os error 111)"]);
}

#[tokio::test]
async fn c6120_dn_05_a_name_server_that_fails_is_named_where_nothing_else_helps() {
    let zone = Zone::new()
        .failing(DIRECT)
        .failing(STARTTLS)
        .failing("a.test");
    let error = refused(builder(zone, "secret").ca_pem(world().await.lab.ca_pem())).await;
    let failed = "the name server failed (SERVFAIL)";
    let expected = [
        &format!(
            "no connection to a.test: a.test:5222 (STARTTLS): address lookup failed: {failed}"
        ),
        &format!("{DIRECT}: {failed}"),
        &format!("{STARTTLS}: {failed}"),
    ];
    assert_eq!(error.to_string(), expected.map(String::as_str).join("; "));
}

#[tokio::test]
async fn ats_ce_01_the_certificate_is_for_the_domain_of_the_jid() {
    async fn check(leaf: &Leaf, ca: &str, fault: CertificateFault) {
        let fake = Fake::showing(leaf).await;
        let zone = Zone::new()
            .srv(DIRECT, 1, "x.test", fake.address.port())
            .host("x.test", "127.0.0.1");
        let tried = tried(builder(zone, "secret").ca_pem(ca)).await;
        match &tried.attempts[..] {
            [attempt] => match &attempt.error {
                ConnectError::Certificate(found, _) => assert_eq!(*found, fault),
                other => panic!("{other}"),
            },
            _ => panic!("{tried}"),
        }
    }
    let now = now();
    let ca = DevCa::new(now).expect("an authority");
    let of = |names: &[&str]| ca.issue(names, now).expect("a certificate");
    let variant = |variant| {
        ca.issue_variant("a.test", variant, now)
            .expect("a certificate")
    };
    let names = |names: &[&str]| CertificateFault::Name {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    // That of the SRV target alone is nothing: whoever answers DNS chooses the target.
    check(&of(&["x.test"]), ca.pem(), names(&["x.test"])).await;
    check(
        &of(&["b.test", "127.0.0.1"]),
        ca.pem(),
        names(&["b.test", "127.0.0.1"]),
    )
    .await;
    check(
        &variant(Variant::Expired),
        ca.pem(),
        CertificateFault::Expired,
    )
    .await;
    check(
        &variant(Variant::OtherCa),
        ca.pem(),
        CertificateFault::Issuer,
    )
    .await;
    let stranger = DevCa::new(now).expect("an authority");
    check(&of(&["a.test"]), stranger.pem(), CertificateFault::Issuer).await;
}

#[tokio::test]
async fn a_bad_certificate_here_is_no_reason_not_to_look_there() {
    let world = world().await;
    let ca = DevCa::new(now()).expect("an authority");
    let leaf = ca.issue(&["a.test"], now()).expect("a certificate");
    let fake = Fake::showing(&leaf).await;
    let zone = Zone::new()
        .srv(DIRECT, 1, "x.test", fake.address.port())
        .srv(STARTTLS, 2, "x.test", world.port)
        .host("x.test", "127.0.0.1");
    let client = world.builder(zone).connect().await.expect("a way");
    client.disconnect().await.expect("an end in order");
    assert_eq!(fake.served(), 1);
}

#[tokio::test]
async fn a_pin_alone_decides() {
    // Expired, for another name, by nobody known.
    let ca = DevCa::new(now()).expect("an authority");
    let leaf = ca.issue_variant("b.test", Variant::Expired, now());
    let leaf = leaf.expect("a certificate");
    let der = CertificateDer::from(leaf.chain_der().first().expect("a leaf").clone());
    let key = ParsedCertificate::try_from(&der).expect("a certificate");
    let key = key.subject_public_key_info();
    let hash = |bytes: &[u8]| {
        let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
        let hex: Vec<String> = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        hex.join(":")
    };
    for (pins, is_right) in [
        (vec![hash(&der)], true),
        (vec![hash(&key)], true),
        (vec![hash(b"the next one"), hash(&key)], true),
        (vec![hash(b"another")], false),
    ] {
        let fake = Fake::showing(&leaf).await;
        let mut pinned = builder(Zone::new(), "secret").direct_tls();
        pinned = pinned.connect_to(&fake.address.to_string());
        for pin in &pins {
            pinned = pinned.pin(pin);
        }
        let tried = tried(pinned).await;
        let error = &tried.attempts[0].error;
        match is_right {
            // The fake hangs up after the handshake.
            true => assert!(error.step() > Step::Tls, "{tried}"),
            false => assert!(
                matches!(
                    error,
                    ConnectError::Certificate(CertificateFault::NotPinned, _)
                ),
                "{tried}"
            ),
        }
    }
}

#[tokio::test]
async fn c6120_st_21_a_redirection_is_followed_and_checked_as_before() {
    let world = world().await;
    for place in [
        format!("127.0.0.1:{}", world.port),
        format!("x.test:{}", world.port),
        "moved.test".to_owned(),
    ] {
        let fake = Fake::saying(other_host(&place)).await;
        let zone = Zone::new()
            .srv(STARTTLS, 1, "x.test", fake.address.port())
            .srv("_xmpp-client._tcp.moved.test", 1, "x.test", world.port)
            .host("x.test", "127.0.0.1");
        let client = world.builder(zone).connect().await.expect(&place);
        client.disconnect().await.expect("an end in order");
        assert_eq!(fake.served(), 1, "{place}");
    }
}

#[tokio::test]
async fn c6120_st_21_redirections_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let served = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&served);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            say(tcp, other_host(&format!("127.0.0.1:{port}"))).await;
        }
    });
    let ca = world().await;
    let round = builder(Zone::new(), "secret").ca_pem(ca.lab.ca_pem());
    let tried = tried(round.connect_to(&format!("127.0.0.1:{port}"))).await;
    assert_eq!(served.load(Ordering::Relaxed), 4);
    let last = tried.attempts.last().expect("an attempt");
    assert!(
        matches!(last.error, ConnectError::TooManyRedirects(Step::Stream)),
        "{tried}"
    );
    let place = format!("127.0.0.1:{port}");
    let redirected =
        format!("{place} (STARTTLS): stream negotiation failed: redirected to {place}");
    let expected = [
        &format!("no connection to a.test: {redirected}"),
        &*redirected,
        &*redirected,
        &format!("{place} (STARTTLS): stream negotiation failed: redirected too often"),
    ];
    assert_eq!(tried.to_string(), expected.join("; "));
}

#[tokio::test]
async fn c6120_st_21_a_redirection_keeps_the_rules() {
    let world = world().await;
    let refusal = format!(
        "<stream:features/><failure xmlns='{}'/></stream:stream>",
        ns::TLS
    );
    let plain = Fake::saying(opening(&refusal)).await;
    let nonsense = Fake::saying(other_host("no such place")).await;
    let to_plain = Fake::saying(other_host(&plain.address.to_string())).await;
    let zone = Zone::new()
        .srv(STARTTLS, 1, "x.test", nonsense.address.port())
        .srv(STARTTLS, 2, "x.test", to_plain.address.port())
        .host("x.test", "127.0.0.1");
    let tried = tried(world.builder(zone)).await;
    let errors: Vec<&ConnectError> = tried.attempts.iter().map(|tried| &tried.error).collect();
    assert!(
        matches!(
            errors[..],
            [
                ConnectError::Redirected(Step::Stream, None),
                ConnectError::Redirected(Step::Stream, Some(_)),
                ConnectError::Negotiation(_, Failure::NoTls),
            ]
        ),
        "{tried}"
    );
}

#[tokio::test]
async fn the_time_for_all_of_it_is_bounded() {
    let silent = Fake::new(|tcp| say(tcp, String::new())).await;
    let zone = Zone::new()
        .srv(STARTTLS, 1, "x.test", silent.address.port())
        .srv(STARTTLS, 2, "x.test", silent.address.port())
        .host("x.test", "127.0.0.1");
    let hasty = world()
        .await
        .builder(zone)
        .connect_max(Duration::from_millis(200));
    let tried = tried(hasty).await;
    assert!(tried.is_late, "{tried}");
    assert_eq!(tried.attempts.len(), 1, "{tried}");
    assert_eq!(tried.attempts[0].error.step(), Step::Stream, "{tried}");
}

#[tokio::test]
async fn what_cannot_be_used_is_told_before_anything_is_sent() {
    async fn check(builder: Builder, text: &str) {
        let error = refused(builder).await;
        assert_eq!(error.step(), Step::Configuration);
        assert_eq!(error.to_string(), format!("configuration failed: {text}"));
    }
    let plain = || builder(Zone::new(), "secret");
    let place = "not HOST or HOST:PORT, with an IPv6 address in brackets";
    check(plain().connect_to("a b"), place).await;
    check(plain().override_domain("b.test", "", false), place).await;
    let pin = "a SHA-256 fingerprint has 64 hex digits, with or without colons";
    check(plain().pin("abc"), pin).await;
    check(plain().ca_pem("nothing"), "no CA certificates").await;
    check(
        plain().password_from(|| async { None }),
        "no password was given",
    )
    .await;
}

#[tokio::test]
async fn the_password_is_asked_for_and_the_resource_is_set() {
    let world = world().await;
    let password = world.password.clone();
    let zone = Zone::new().host("a.test", "127.0.0.1");
    let client = world
        .builder(zone)
        .connect_to(&format!("127.0.0.1:{}", world.port))
        .password_from(move || std::future::ready(Some(password.clone())))
        .resource("balcony")
        .connect()
        .await
        .expect("a client");
    assert_eq!(client.jid().as_str(), "ann@a.test/balcony");
    client.disconnect().await.expect("an end in order");
}
