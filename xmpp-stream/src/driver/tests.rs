//! Both machines over in-memory pipes and TCP, with real TLS; paused time.

use super::*;
use crate::jid::BareJid;
use crate::limits::{Limits, XmlLimits};
use crate::stanza::{Item, Stanza};
use crate::stream::{
    CloseReason, Credentials, HostView, Hosts, Initiator, InitiatorConfig, Manage, Note, Output,
    Password, RandomSource, Responder, ResponderConfig, ScramHash, StoredKeys, Strength, TlsRule,
    Verdict,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

struct OneHost;

impl Hosts for OneHost {
    fn host(&self, domain: &str) -> Option<HostView> {
        (domain == "d.test").then(|| HostView {
            domain: domain.into(),
            hashes: vec![ScramHash::Sha256],
            plain: true,
            guest_ns: [].into(),
            features_before_auth: bytes::Bytes::new(),
            features_after_auth: bytes::Bytes::new(),
        })
    }

    fn fallback(&self) -> Box<str> {
        "d.test".into()
    }
}

fn random() -> RandomSource {
    let mut count = 0_u8;
    Box::new(move |bytes| {
        count += 1;
        bytes.fill(count);
    })
}

/// A CA of one certificate, for d.test, chosen for any name.
struct Certificate {
    starttls: Arc<ServerConfig>,
    direct: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
    pem: String,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["d.test".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let (starttls, leaf) = tls::server_config(&pem, &key, false).unwrap();
        let (direct, _) = tls::server_config(&pem, &key, true).unwrap();
        Self {
            starttls,
            direct,
            leaf,
            pem,
        }
    }

    fn client(&self, direct: bool) -> Arc<rustls::ClientConfig> {
        tls::client_config(tls::roots(&self.pem).unwrap(), direct).unwrap()
    }
}

impl TlsSource for Certificate {
    fn choose(
        &self,
        sni: Option<&str>,
        to: Option<&str>,
        direct: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        assert_eq!(sni.or(to), Some("d.test"));
        let config = if direct { &self.direct } else { &self.starttls };
        Some((Arc::clone(config), self.leaf.clone()))
    }
}

fn responder(transport: Box<dyn Transport>, tls: TlsRule) -> Driver<Responder> {
    let config = ResponderConfig {
        hosts: Arc::new(OneHost),
        limits: Arc::default(),
        tls,
        downgrade_protection: true,
        manage: true,
    };
    Driver::new(Responder::new(config, random(), now()), transport)
}

fn initiator(transport: Box<dyn Transport>, tls: TlsRule) -> Driver<Initiator> {
    let config = InitiatorConfig {
        account: BareJid::parse("alice@d.test").unwrap(),
        password: Some(Password("pencil".to_owned())),
        name_account: false,
        resource: None,
        lang: None,
        tls,
        plain: false,
        least: Strength::Plain,
        manage: Manage::Off,
        limits: Limits {
            after_auth: XmlLimits::client(),
            ..Limits::default()
        },
    };
    Driver::new(Initiator::new(config, random(), now()), transport)
}

/// Plays a server: answers a message with the same message; what it noted.
async fn serve(
    mut driver: Driver<Responder>,
    certificate: Arc<Certificate>,
    direct: bool,
) -> Vec<Output> {
    let keys = Arc::new(StoredKeys::derive(
        ScramHash::Sha256,
        "pencil",
        b"salt",
        4096,
    ));
    let mut told = Vec::new();
    if direct {
        driver.accept_tls(&*certificate, None, true).await.unwrap();
    }
    loop {
        while let Some(output) = driver.machine.poll_output() {
            match output {
                Output::StartTls { to } => {
                    driver
                        .accept_tls(&*certificate, Some(&to), false)
                        .await
                        .unwrap();
                }
                Output::NeedCredentials { .. } => {
                    driver
                        .machine
                        .credentials(Credentials::Keys(Arc::clone(&keys)), now());
                }
                Output::CheckPassword { .. } => driver.machine.verdict(Verdict::Deny, now()),
                Output::Bind { account, .. } => {
                    driver
                        .machine
                        .bound(Ok(account.with_resource("r").unwrap()), now());
                }
                Output::Stanza(stanza) => {
                    driver.machine.send::<()>(&Item::One(Box::new(stanza)));
                }
                Output::PeerClosing => driver.machine.finish_close(None),
                Output::Closed(reason) => {
                    told.push(Output::Closed(reason));
                    driver.finish(Duration::from_secs(5)).await;
                    return told;
                }
                other => told.push(other),
            }
        }
        let _ = driver.turn(true).await;
    }
}

/// Plays a client: sends one message, closes when it has come back; what it was told.
async fn call(
    mut driver: Driver<Initiator>,
    config: Arc<rustls::ClientConfig>,
    direct: bool,
) -> Vec<Output> {
    let name = ServerName::try_from("d.test").unwrap();
    let mut told = Vec::new();
    if direct {
        driver
            .connect_tls(Arc::clone(&config), name.clone())
            .await
            .unwrap();
    }
    loop {
        while let Some(output) = driver.machine.poll_output() {
            match &output {
                Output::StartTls { .. } => {
                    driver
                        .connect_tls(Arc::clone(&config), name.clone())
                        .await
                        .unwrap();
                }
                Output::Established(_) => {
                    let hi = Stanza::chat("bob@d.test", &"hi ".repeat(30_000)).unwrap();
                    driver.machine.send::<()>(&Item::One(Box::new(hi)));
                }
                Output::Stanza(_) => driver.machine.close(None, now()),
                Output::Closed(_) => {
                    told.push(output);
                    driver.finish(Duration::from_secs(5)).await;
                    return told;
                }
                _ => {}
            }
            told.push(output);
        }
        let _ = driver.turn(true).await;
    }
}

fn check(server: &[Output], client: &[Output]) {
    let note = server.iter().find_map(|output| match output {
        Output::Note(Note::LoggedIn {
            mechanism,
            channel_binding,
            ..
        }) => Some((*mechanism, *channel_binding)),
        _ => None,
    });
    assert_eq!(note, Some(("SCRAM-SHA-256-PLUS", Some("tls-exporter"))));
    assert!(
        matches!(server.last(), Some(Output::Closed(CloseReason::Clean))),
        "{server:?}"
    );
    assert!(
        matches!(client.last(), Some(Output::Closed(CloseReason::Clean))),
        "{client:?}"
    );
    let echoed = client.iter().find_map(|output| match output {
        Output::Stanza(stanza) => stanza.body(),
        _ => None,
    });
    assert_eq!(echoed.map(|body| body.len()), Some(90_000));
}

#[tokio::test]
async fn c6120_stream_tcp_binding_starttls_scram_bind_message_close() {
    let certificate = Arc::new(Certificate::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outgoing = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (incoming, _) = listener.accept().await.unwrap();
    let server = responder(Box::new(incoming), TlsRule::Required);
    let client = initiator(Box::new(outgoing), TlsRule::Required);
    let config = certificate.client(false);
    let both = tokio::join!(
        serve(server, certificate, false),
        call(client, config, false)
    );
    check(&both.0, &both.1);
}

#[tokio::test]
async fn ats_tu_08_direct_tls_with_alpn_over_a_narrow_pipe() {
    let certificate = Arc::new(Certificate::new());
    let (incoming, outgoing) = duplex(1000);
    let server = responder(Box::new(incoming), TlsRule::Direct);
    let client = initiator(Box::new(outgoing), TlsRule::Direct);
    let config = certificate.client(true);
    let both = tokio::join!(serve(server, certificate, true), call(client, config, true));
    check(&both.0, &both.1);
}

#[tokio::test]
async fn ats_tu_08_alpn_absent_is_fine_and_another_is_refused() {
    for (alpn, fine) in [(vec![], true), (vec![b"h2".to_vec()], false)] {
        let certificate = Certificate::new();
        let (incoming, outgoing) = duplex(10_000);
        let mut server = responder(Box::new(incoming), TlsRule::Direct);
        let mut client = initiator(Box::new(outgoing), TlsRule::Direct);
        let mut config = (*certificate.client(true)).clone();
        config.alpn_protocols = alpn;
        let name = ServerName::try_from("d.test").unwrap();
        let (accepted, _) = tokio::join!(
            server.accept_tls(&certificate, None, true),
            client.connect_tls(Arc::new(config), name)
        );
        assert_eq!(accepted.is_ok(), fine);
    }
}

#[tokio::test]
async fn ats_sc_13_both_ends_have_the_same_binding_data() {
    let certificate = Certificate::new();
    let (incoming, outgoing) = duplex(10_000);
    let mut server = responder(Box::new(incoming), TlsRule::Direct);
    let mut client = initiator(Box::new(outgoing), TlsRule::Direct);
    let name = ServerName::try_from("d.test").unwrap();
    let (accepted, connected) = tokio::join!(
        server.accept_tls(&certificate, None, true),
        client.connect_tls(certificate.client(true), name)
    );
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
    assert_eq!(accepted.version, "TLSv1.3");
    assert!(accepted.exporter.is_some());
    assert_eq!(accepted.exporter, connected.exporter);
    assert_eq!(accepted.sni.as_deref(), Some("d.test"), "row tu-07");
    // Row sc-16: ECDSA with SHA-256, so SHA-256 of the leaf.
    let expected = ring::digest::digest(&ring::digest::SHA256, &certificate.leaf);
    assert_eq!(
        accepted.server_end_point.as_deref(),
        Some(expected.as_ref())
    );
    assert_eq!(accepted.server_end_point, connected.server_end_point);
}

#[tokio::test]
async fn ats_tu_21_tls_12_works_without_exporter() {
    let certificate = Certificate::new();
    let (incoming, outgoing) = duplex(10_000);
    let mut server = responder(Box::new(incoming), TlsRule::Direct);
    let mut client = initiator(Box::new(outgoing), TlsRule::Direct);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(tls::roots(&certificate.pem).unwrap())
        .with_no_client_auth();
    let name = ServerName::try_from("d.test").unwrap();
    let (accepted, connected) = tokio::join!(
        server.accept_tls(&certificate, None, true),
        client.connect_tls(Arc::new(config), name)
    );
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
    assert_eq!(
        (accepted.version, accepted.exporter),
        ("TLSv1.2", None),
        "row sc-15"
    );
    assert_eq!(connected.exporter, None);
    assert!(accepted.server_end_point.is_some());
}

#[tokio::test]
async fn a_certificate_for_another_name_or_of_another_issuer_is_refused() {
    for (name, own_root) in [("e.test", true), ("d.test", false)] {
        let certificate = Certificate::new();
        let other = Certificate::new();
        let (incoming, outgoing) = duplex(10_000);
        let mut server = responder(Box::new(incoming), TlsRule::Direct);
        let mut client = initiator(Box::new(outgoing), TlsRule::Direct);
        let trusted = if own_root {
            certificate.client(true)
        } else {
            other.client(true)
        };
        let any = AnyName(certificate);
        let (accepted, connected) = tokio::join!(
            server.accept_tls(&any, None, true),
            client.connect_tls(trusted, ServerName::try_from(name).unwrap())
        );
        assert!(connected.is_err(), "{name}");
        drop(accepted);
    }
}

struct AnyName(Certificate);

impl TlsSource for AnyName {
    fn choose(
        &self,
        _: Option<&str>,
        to: Option<&str>,
        direct: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        self.0.choose(Some("d.test"), to, direct)
    }
}

const OPEN: &[u8] = b"<stream:stream to='d.test' version='1.0' xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams'>";

#[tokio::test]
async fn c6120_tl_06_garbage_instead_of_tls_ends_the_connection() {
    let (incoming, mut outgoing) = duplex(10_000);
    let mut server = responder(Box::new(incoming), TlsRule::Required);
    outgoing.write_all(OPEN).await.unwrap();
    server.turn(true).await.unwrap();
    let starttls = format!("<starttls xmlns='{}'/>", crate::ns::TLS);
    outgoing.write_all(starttls.as_bytes()).await.unwrap();
    while !matches!(server.machine.poll_output(), Some(Output::StartTls { .. })) {
        server.turn(true).await.unwrap();
    }
    outgoing
        .write_all(b"this is no client hello")
        .await
        .unwrap();
    let certificate = Certificate::new();
    assert!(
        server
            .accept_tls(&certificate, Some("d.test"), false)
            .await
            .is_err()
    );
    drop(server);
    let mut all = Vec::new();
    outgoing.read_to_end(&mut all).await.unwrap();
    let text = String::from_utf8_lossy(&all);
    assert!(
        text.contains("<proceed") && !text.contains("</stream:stream>"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_is_bounded_by_the_deadline() {
    let (incoming, _outgoing) = duplex(10_000);
    let mut server = responder(Box::new(incoming), TlsRule::Direct);
    let error = server
        .accept_tls(&Certificate::new(), None, true)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn deadlines_run_on_tokios_clock() {
    let (incoming, _outgoing) = duplex(10_000);
    let begun = tokio::time::Instant::now();
    let mut server = responder(Box::new(incoming), TlsRule::Required);
    while !matches!(server.machine.poll_output(), Some(Output::Closed(_))) {
        server.turn(true).await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    let begun = tokio::time::Instant::now();
    server.finish(Duration::from_secs(7)).await;
    assert_eq!(
        begun.elapsed(),
        Duration::from_secs(7),
        "the peer never closes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_ends_when_the_alarm_rings_and_it_rings_once() {
    let (ours, _theirs) = duplex(64);
    let mut driver = responder(Box::new(ours), TlsRule::Optional);
    let (before, second) = (now(), Duration::from_secs(1));
    driver.set_alarm(Some(before + second));
    assert_eq!(driver.turn(true).await.unwrap(), Turn::Handled);
    assert_eq!(now() - before, second);
    assert!(
        driver.machine.poll_output().is_none(),
        "the machine's time goes on"
    );
    assert!(driver.has_rung() && !driver.has_rung());
    driver.set_alarm(Some(now() + second));
    driver.set_alarm(None);
    driver.turn(true).await.unwrap();
    assert!(now() - before > 2 * second, "the machine's own deadline");
    assert!(!driver.has_rung());
}

#[tokio::test(start_paused = true)]
async fn the_alarm_rings_also_while_bytes_never_stop() {
    let (ours, mut theirs) = duplex(64);
    let mut driver = responder(Box::new(ours), TlsRule::Optional);
    driver.set_alarm(Some(now() + Duration::from_secs(1)));
    theirs.write_all(b" ").await.unwrap();
    driver.turn(true).await.unwrap();
    assert!(!driver.has_rung(), "it is not due");
    tokio::time::advance(Duration::from_secs(1)).await;
    theirs.write_all(b" ").await.unwrap();
    driver.turn(true).await.unwrap();
    assert!(driver.has_rung());
}

#[tokio::test(start_paused = true)]
async fn negotiation_ends_in_time_also_while_the_caller_does_not_read() {
    let (incoming, _outgoing) = duplex(10_000);
    let mut server = responder(Box::new(incoming), TlsRule::Required);
    let begun = tokio::time::Instant::now();
    while !matches!(server.machine.poll_output(), Some(Output::Closed(_))) {
        server.turn(false).await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}

#[tokio::test]
async fn others_have_their_turn_after_so_many_bytes() {
    let (incoming, mut outgoing) = duplex(200_000);
    let mut server = responder(Box::new(incoming), TlsRule::Required);
    let mut text = OPEN.to_vec();
    text.resize(READ_BYTES * 4, b' ');
    outgoing.write_all(&text).await.unwrap();
    let mut reads = 0;
    while reads < 4 {
        let turn = server.turn(true).await.unwrap();
        reads += usize::from(turn == Turn::Handled);
        assert_eq!(server.had_its_turn(READ_BYTES * 4), reads == 4, "{reads}");
    }
    assert!(!server.had_its_turn(1), "it counts anew");
    outgoing.write_all(&text[..READ_BYTES]).await.ok();
    // Waiting gives way as well.
    let waits = tokio::time::timeout(Duration::from_millis(1), async {
        loop {
            server.turn(true).await.unwrap();
        }
    });
    assert!(waits.await.is_err());
    assert!(!server.had_its_turn(1));
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_05_bytes_are_read_so_fast() {
    let (incoming, mut outgoing) = duplex(200_000);
    let mut server = responder(Box::new(incoming), TlsRule::Required);
    server.set_read_rate(1000);
    let begun = tokio::time::Instant::now();
    let mut text = OPEN.to_vec();
    // Read by then: what is over a second's worth is waited for before the next.
    for (bytes, at) in [(1000, 0), (1, 0), (2999, 1), (1000, 3000), (1, 4000)] {
        text.resize(bytes, b' ');
        outgoing.write_all(&text).await.unwrap();
        let mut read = false;
        while !read {
            read = server.turn(true).await.unwrap() == Turn::Handled && server.had_its_turn(1);
        }
        assert_eq!(begun.elapsed().as_millis(), at, "{bytes}");
        text = vec![b' '];
    }
}

#[tokio::test]
async fn eof_without_a_closing_tag_is_told() {
    let (incoming, mut outgoing) = duplex(10_000);
    let mut server = responder(Box::new(incoming), TlsRule::Required);
    outgoing.write_all(OPEN).await.unwrap();
    drop(outgoing);
    loop {
        if let Some(Output::Closed(reason)) = server.machine.poll_output() {
            assert!(matches!(reason, CloseReason::Eof));
            break;
        }
        let _ = server.turn(true).await;
    }
}

#[tokio::test]
async fn a_turn_is_cancel_safe_in_the_middle_of_a_write() {
    let (incoming, mut outgoing) = duplex(16);
    let mut server = responder(Box::new(incoming), TlsRule::Required);
    let peer = async move {
        let mut all = Vec::new();
        for part in OPEN.chunks(5) {
            outgoing.write_all(part).await.unwrap();
        }
        let mut byte = [0; 3];
        while !all.ends_with(b"</stream:features>") {
            let n = outgoing.read(&mut byte).await.unwrap();
            all.extend_from_slice(&byte[..n]);
        }
        String::from_utf8(all).unwrap()
    };
    let server = async move {
        loop {
            // Every wait is given up again and again.
            tokio::select! {
                biased;
                turn = server.turn(true) => { turn.unwrap(); }
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let answer = tokio::select! {
        answer = peer => answer,
        () = server => unreachable!(),
    };
    assert!(
        answer.starts_with("<?xml") && answer.contains("<required/>"),
        "{answer}"
    );
}

/// A peer that is none of ours: raw bytes over a TLS connection of its own.
struct RawPeer(tokio_rustls::client::TlsStream<tokio::io::DuplexStream>);

impl RawPeer {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn hear_until(&mut self, end: &str) -> String {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&all).contains(end) {
            let n = self.0.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "ended after {}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&buffer[..n]);
        }
        String::from_utf8(all).unwrap()
    }

    fn payload(answer: &str) -> Vec<u8> {
        let text = answer
            .split('>')
            .nth(1)
            .and_then(|rest| rest.split('<').next())
            .unwrap();
        crate::features::sasl::unbase64(text).unwrap()
    }
}

#[tokio::test]
async fn ats_sc_13_14_an_independent_client_binds_to_a_real_tls_13_session() {
    use ::sasl::client::Mechanism as _;
    use ::sasl::client::mechanisms::Scram;
    use ::sasl::common::scram::Sha256;
    use ::sasl::common::{ChannelBinding, Credentials as Login};
    for (tampered, expected) in [(false, "<success"), (true, "<failure")] {
        let certificate = Arc::new(Certificate::new());
        let config = certificate.client(true);
        let (incoming, outgoing) = duplex(10_000);
        let server = responder(Box::new(incoming), TlsRule::Direct);
        let peer = async move {
            let name = ServerName::try_from("d.test").unwrap();
            let stream = TlsConnector::from(config)
                .connect(name, outgoing)
                .await
                .unwrap();
            let mut peer = RawPeer(stream);
            peer.say(std::str::from_utf8(OPEN).unwrap()).await;
            let features = peer.hear_until("</stream:features>").await;
            assert!(features.contains("SCRAM-SHA-256-PLUS") && features.contains("tls-exporter"));
            let label = b"EXPORTER-Channel-Binding";
            let connection = peer.0.get_ref().1;
            let mut data = connection
                .export_keying_material([0; 32], label, Some(b""))
                .unwrap();
            data[0] ^= u8::from(tampered);
            let login = Login::default()
                .with_username("alice")
                .with_password("pencil");
            let login = login.with_channel_binding(ChannelBinding::TlsExporter(data.to_vec()));
            let mut scram = Scram::<Sha256>::from_credentials(login).unwrap();
            let (name, first) = (scram.name().to_owned(), scram.initial());
            let encode = crate::features::sasl::base64;
            let sasl = crate::ns::SASL;
            let first = encode(&first);
            peer.say(&format!(
                "<auth xmlns='{sasl}' mechanism='{name}'>{first}</auth>"
            ))
            .await;
            let challenge = peer.hear_until("</challenge>").await;
            let last = encode(&scram.response(&RawPeer::payload(&challenge)).unwrap());
            peer.say(&format!("<response xmlns='{sasl}'>{last}</response>"))
                .await;
            let answer = peer.hear_until(expected).await;
            if !tampered {
                scram.success(&RawPeer::payload(&answer)).unwrap();
            }
            peer.say(if tampered {
                "</stream:stream>"
            } else {
                "<bad>"
            })
            .await;
            // Row st-06: our side ends TLS properly, else this read is an error.
            let mut rest = Vec::new();
            peer.0.read_to_end(&mut rest).await.unwrap();
            assert!(
                rest.ends_with(b"</stream:stream>"),
                "{}",
                String::from_utf8_lossy(&rest)
            );
        };
        tokio::join!(serve(server, certificate, true), peer);
    }
}

/// Notes what it is asked for.
struct Asked(std::sync::Mutex<Vec<Question>>);

/// Server name, header's `to`, direct TLS.
type Question = (Option<String>, Option<String>, bool);

impl TlsSource for Asked {
    fn choose(
        &self,
        sni: Option<&str>,
        to: Option<&str>,
        direct: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        let asked = (sni.map(str::to_owned), to.map(str::to_owned), direct);
        self.0.lock().unwrap().push(asked);
        None
    }
}

#[tokio::test]
async fn c6120_tl_05_the_certificate_is_chosen_by_sni_and_to() {
    for (name, sni) in [("e.test", Some("e.test".to_owned())), ("127.0.0.1", None)] {
        let (incoming, outgoing) = duplex(10_000);
        let mut server = responder(Box::new(incoming), TlsRule::Direct);
        let mut client = initiator(Box::new(outgoing), TlsRule::Direct);
        let asked = Asked(std::sync::Mutex::default());
        let trusted = Certificate::new().client(true);
        let accept = async {
            let accepted = server.accept_tls(&asked, Some("d.test"), false).await;
            drop(server);
            accepted
        };
        let name = ServerName::try_from(name).unwrap();
        let (accepted, connected) = tokio::join!(accept, client.connect_tls(trusted, name));
        assert!(
            accepted.is_err() && connected.is_err(),
            "there is no certificate"
        );
        let asked = asked.0.into_inner().unwrap();
        assert_eq!(asked, [(sni, Some("d.test".to_owned()), false)]);
    }
}
