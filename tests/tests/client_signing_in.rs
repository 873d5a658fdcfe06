//! xmpp-client against servers that lie while it signs in: each lie is refused with a typed error,
//! and the password is told to nobody who should not have it (rows co-3 to co-6, co-11).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sasl::common::scram::{ScramProvider, Sha256};
use std::time::Duration;
use xmpp_client::{CloseReason, ConnectError, Event, Failure, Pins, Reconnect, Step, XmppClient};
use xmpp_stream::error::{SaslCondition, StreamCondition};
use xmpp_stream::ns;
use xmpp_stream::stream::{ScramHash, StoredKeys};
use xmpp_testkit::fake::attr;
use xmpp_testkit::{FakeServer, FakeStream};

const JID: &str = "ann@a.test/x";
const NOT_AUTHORIZED: &str =
    "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>";

type Connected = Result<XmppClient, ConnectError>;

#[track_caller]
fn failure(result: Connected) -> Failure {
    let error = result.expect_err("a client that believes everything");
    match error.failure() {
        Some(failure) => failure.clone(),
        None => panic!("{error}"),
    }
}

/// The middle of `<auth …>data</auth>` or `<response>`.
fn data(element: &str) -> String {
    let text = element.split('>').nth(1).expect("an element");
    let text = text.split('<').next().expect("its text");
    String::from_utf8(STANDARD.decode(text).expect("base64")).expect("text")
}

/// The server's side of SCRAM-SHA-256 up to the client's proof.
struct Scram {
    auth: String,
    first: String,
    challenge: String,
    last: String,
}

async fn scram(stream: &mut FakeStream) -> Scram {
    let auth = stream.expect("</auth>").await;
    let first = data(&auth);
    let nonce = first.split(",r=").nth(1).expect("a nonce");
    let challenge = format!("r={nonce}more,s={},i=4096", STANDARD.encode("salt"));
    stream
        .say(&format!(
            "<challenge xmlns='{}'>{}</challenge>",
            ns::SASL,
            STANDARD.encode(&challenge)
        ))
        .await;
    let last = data(&stream.expect("</response>").await);
    Scram {
        auth,
        first,
        challenge,
        last,
    }
}

impl Scram {
    /// What a server that knows the password says.
    fn signature(&self, password: &str) -> String {
        let keys = StoredKeys::derive(ScramHash::Sha256, password, b"salt", 4096);
        let bare = self.first.splitn(3, ',').nth(2).expect("behind the header");
        let (without_proof, _) = self.last.rsplit_once(",p=").expect("a proof");
        let message = format!("{bare},{},{without_proof}", self.challenge);
        let signature = Sha256::hmac(message.as_bytes(), &keys.server_key).expect("a key");
        format!("v={}", STANDARD.encode(signature))
    }
}

#[tokio::test]
async fn co_06_defect_of_tokio_xmpp_a_wrong_server_signature_is_no_success() {
    let wrong = format!("v={}", STANDARD.encode([0; 32]));
    let other_password = |scram: &Scram| scram.signature("guess");
    let lies: [&dyn Fn(&Scram) -> String; 5] = [
        &|_| wrong.clone(),
        &other_password,
        &|_| String::new(),
        &|_| "v=".to_owned(),
        &|_| "e=other-error".to_owned(),
    ];
    for lie in lies {
        let server = FakeServer::new("a.test").await;
        let serve = async {
            let mut stream = server.accept().await;
            stream.offer(&["SCRAM-SHA-256"]).await;
            let scram = scram(&mut stream).await;
            stream.succeed(&STANDARD.encode(lie(&scram))).await;
            let after = stream.until_closed().await;
            assert!(!after.contains("<stream:stream"), "{after}");
        };
        let (connected, ()) = tokio::join!(server.builder(JID).connect(), serve);
        assert_eq!(failure(connected), Failure::ServerNotProven);
    }
}

#[tokio::test]
async fn co_06_success_without_any_exchange_is_none() {
    let server = FakeServer::new("a.test").await;
    let serve = async {
        let mut stream = server.accept().await;
        stream.offer(&["SCRAM-SHA-256"]).await;
        stream.expect("</auth>").await;
        stream.succeed("").await;
        stream.until_closed().await;
    };
    let (connected, ()) = tokio::join!(server.builder(JID).connect(), serve);
    assert_eq!(failure(connected), Failure::Unexpected);
}

#[tokio::test]
async fn co_11_defect_of_tokio_xmpp_b_a_refused_password_is_told_once_and_not_tried_again() {
    let server = FakeServer::new("a.test").await;
    let serve = async {
        let mut stream = server.accept().await;
        stream.offer(&["SCRAM-SHA-256"]).await;
        stream.expect("</auth>").await;
        stream.say(NOT_AUTHORIZED).await;
        stream.until_closed().await;
    };
    let patient = server.builder(JID).connect_tries(5, Duration::ZERO);
    let (connected, ()) = tokio::join!(patient.connect(), serve);
    assert!(matches!(
        failure(connected),
        Failure::Login {
            condition: SaslCondition::NotAuthorized,
            ..
        }
    ));

    // The same when the password was changed while the connection was lost.
    let at_once = Reconnect {
        first: Duration::from_millis(1),
        ..Reconnect::default()
    };
    let builder = server.builder(JID).reconnect(at_once);
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    let client = client.expect("a client");
    let mut events = client.events();
    drop(stream);
    let mut stream = server.accept().await;
    stream.offer(&["PLAIN"]).await;
    stream.expect("</auth>").await;
    stream.say(NOT_AUTHORIZED).await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(event);
    }
    assert!(
        matches!(
            told.as_slice(),
            [
                Event::Connected { resumed: false, .. },
                Event::Disconnected {
                    reason: CloseReason::Eof
                },
                Event::Reconnecting { attempt: 1, .. },
                Event::AuthFailed {
                    reason: Failure::Login { .. }
                },
            ]
        ),
        "{told:?}"
    );
}

#[tokio::test]
async fn co_04_defect_of_tokio_xmpp_c_never_plain_where_scram_is_offered() {
    let server = FakeServer::new("a.test").await;
    let serve = async {
        let mut stream = server.accept().await;
        stream
            .offer(&["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
            .await;
        let auth = stream.expect("</auth>").await;
        assert_eq!(attr(&auth, "mechanism"), "SCRAM-SHA-256");
        let first = data(&auth);
        assert!(
            first.starts_with("y,,n=ann,r="),
            "it could bind to the channel, and saw no offer: {first}"
        );
        stream.say(NOT_AUTHORIZED).await;
        let after = stream.until_closed().await;
        assert!(!after.contains("<auth"), "not with less either: {after}");
    };
    let (connected, ()) = tokio::join!(server.builder(JID).connect(), serve);
    assert!(matches!(failure(connected), Failure::Login { .. }));
}

#[tokio::test]
async fn co_05_defect_of_tokio_xmpp_d_signs_in_where_only_scram_without_binding_is_offered() {
    let server = FakeServer::new("a.test").await;
    let serve = async {
        let mut stream = server.accept().await;
        stream.offer(&["SCRAM-SHA-1", "SCRAM-SHA-256"]).await;
        let scram = scram(&mut stream).await;
        assert_eq!(attr(&scram.auth, "mechanism"), "SCRAM-SHA-256");
        let signature = STANDARD.encode(scram.signature("secret"));
        stream.succeed(&signature).await;
        stream.features("").await;
        stream.bind(JID).await;
        stream
    };
    let (connected, _stream) = tokio::join!(server.builder(JID).connect(), serve);
    assert_eq!(connected.expect("a client").jid().as_str(), JID);
}

#[tokio::test]
async fn co_05_the_signature_may_come_as_a_challenge() {
    let server = FakeServer::new("a.test").await;
    let serve = async {
        let mut stream = server.accept().await;
        stream.offer(&["SCRAM-SHA-256"]).await;
        let scram = scram(&mut stream).await;
        let signature = STANDARD.encode(scram.signature("secret"));
        stream
            .say(&format!(
                "<challenge xmlns='{}'>{signature}</challenge>",
                ns::SASL
            ))
            .await;
        stream.expect("<response ").await;
        stream.succeed("").await;
        stream.features("").await;
        stream.bind(JID).await;
        stream
    };
    let (connected, _stream) = tokio::join!(server.builder(JID).connect(), serve);
    assert!(connected.is_ok());
}

#[tokio::test]
async fn co_03_nothing_is_told_to_a_server_without_tls() {
    let server = FakeServer::new("a.test").await;
    let serve = async {
        let mut stream = server.accept_plain().await;
        stream.offer(&["PLAIN", "SCRAM-SHA-256"]).await;
        // TLS is tried all the same: somebody may have removed the offer.
        stream.expect("<starttls ").await;
        stream.say(&format!("<failure xmlns='{}'/>", ns::TLS)).await;
        let after = stream.until_closed().await;
        assert!(!after.contains("<auth"), "{after}");
    };
    let builder = server.builder_starttls(JID);
    let (connected, ()) = tokio::join!(builder.connect(), serve);
    assert_eq!(failure(connected), Failure::NoTls);
}

#[tokio::test]
async fn co_05_only_plain_is_refused_once_scram_was_used() {
    let server = FakeServer::new("a.test").await;
    let pins = Pins::default();
    let serve = async {
        let mut stream = server.accept().await;
        stream.offer(&["SCRAM-SHA-256"]).await;
        let scram = scram(&mut stream).await;
        let signature = STANDARD.encode(scram.signature("secret"));
        stream.succeed(&signature).await;
        stream.features("").await;
        stream.bind(JID).await;
        stream
    };
    let builder = server
        .builder(JID)
        .pins(&pins)
        .reconnect(Reconnect::never());
    let (connected, _stream) = tokio::join!(builder.connect(), serve);
    connected.expect("a client");
    assert_eq!(pins.to_string(), "ann@a.test SCRAM-SHA-256\n");
    // What was stored is enough.
    let stored = Pins::parse(&pins.to_string());
    let builder = server.builder(JID).pins(&stored);
    let refused = refused_offer(&server, builder.connect(), &["PLAIN"]);
    assert_eq!(refused.await, Failure::Weaker);
    let refused = refused_offer(
        &server,
        server.builder(JID).refuse_plain().connect(),
        &["PLAIN"],
    );
    assert_eq!(refused.await, Failure::NoMechanism);
    let refused = refused_offer(
        &server,
        server.builder(JID).connect(),
        &["X-OAUTH", "LOGIN"],
    );
    assert_eq!(refused.await, Failure::NoMechanism);
}

/// The client tells nothing to a server that offers these.
async fn refused_offer(
    server: &FakeServer,
    connecting: impl Future<Output = Connected>,
    mechanisms: &[&str],
) -> Failure {
    let serve = async {
        let mut stream = server.accept().await;
        stream.offer(mechanisms).await;
        let after = stream.until_closed().await;
        assert!(!after.contains("<auth"), "{after}");
    };
    let (connected, ()) = tokio::join!(connecting, serve);
    failure(connected)
}

#[tokio::test]
async fn features_without_end_and_garbage_are_bounded() {
    let element = "<feature xmlns='urn:x'>and another</feature>".repeat(100);
    let lies: [(&str, &str, StreamCondition); 4] = [
        (
            "<stream:features>",
            &element,
            StreamCondition::PolicyViolation,
        ),
        (
            "<stream:features a='",
            &element[1..],
            StreamCondition::NotWellFormed,
        ),
        ("", "garbage ", StreamCondition::BadFormat),
        ("", "<!-- ", StreamCondition::RestrictedXml),
    ];
    for (begin, more, condition) in lies {
        let server = FakeServer::new("a.test").await;
        let serve = async {
            let mut stream = server.accept().await;
            stream.header().await;
            stream.say(begin).await;
            // For ever, if it is let.
            while stream.try_say(more).await {}
        };
        let (connected, ()) = tokio::join!(server.builder(JID).connect(), serve);
        match connected.expect_err("a client that reads for ever") {
            ConnectError::Unreachable(tried) => match &tried.attempts[..] {
                [attempt] => match &attempt.error {
                    ConnectError::Closed(Step::Authentication, CloseReason::Ours(error)) => {
                        assert_eq!(error.condition, condition, "{begin:?}");
                    }
                    other => panic!("{begin:?}: {other:?}"),
                },
                other => panic!("{begin:?}: {other:?}"),
            },
            other => panic!("{begin:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_comes_at_the_wrong_time_is_refused() {
    for early in [
        "<message from='a.test'><body>early</body></message>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<enabled xmlns='urn:xmpp:sm:3' id='x'/>",
        "<resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ] {
        let server = FakeServer::new("a.test").await;
        let serve = async {
            let mut stream = server.accept().await;
            stream.header().await;
            stream.say(early).await;
            let after = stream.until_closed().await;
            assert!(!after.contains("<auth"), "{early}: {after}");
        };
        let (connected, ()) = tokio::join!(server.builder(JID).connect(), serve);
        assert_eq!(failure(connected), Failure::Unexpected, "{early}");
    }
}
