//! Ways to sign in over the wire, by SASL libraries and sequences that are not ours.

use sasl::client::mechanisms::{Plain, Scram};
use sasl::common::ChannelBinding;
use sasl::common::scram::{Sha1, Sha256};
use xmpp_testkit::{TestLab, Wire};

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// A stream that stands at its features under TLS, and ann's password.
async fn at_features(lab: &TestLab) -> (Wire, String) {
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    (wire, password)
}

#[tokio::test]
async fn an_independent_client_signs_in_by_every_mechanism_it_has() {
    let lab = lab().await;
    for case in [
        "SCRAM-SHA-1",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256-PLUS",
        "PLAIN",
    ] {
        let (mut wire, password) = at_features(&lab).await;
        let binding = match case.ends_with("-PLUS") {
            true => ChannelBinding::TlsExporter(wire.exporter()),
            false => ChannelBinding::None,
        };
        let mut sha1 =
            Scram::<Sha1>::new("ann", password.as_str(), binding.clone()).expect("random bytes");
        let mut sha256 =
            Scram::<Sha256>::new("ann", password.as_str(), binding).expect("random bytes");
        let mut plain = Plain::new("ann", password.as_str());
        let mechanism: &mut dyn sasl::client::Mechanism = match case {
            "PLAIN" => &mut plain,
            _ if case.starts_with("SCRAM-SHA-1") => &mut sha1,
            _ => &mut sha256,
        };
        assert_eq!(mechanism.name(), case);
        wire.authenticate_and_bind(mechanism, Some("x")).await;
        wire.barrier().await;
        wire.close().await;
    }
}

#[tokio::test]
async fn a_binding_to_another_connection_is_refused() {
    let lab = lab().await;
    let (mut wire, password) = at_features(&lab).await;
    let binding = ChannelBinding::TlsExporter(vec![0; 32]);
    let mut scram = Scram::<Sha256>::new("ann", password.as_str(), binding).expect("random bytes");
    let failure = wire
        .authenticate(&mut scram)
        .await
        .expect_err("no such binding");
    assert!(failure.child("not-authorized").is_some(), "{failure}");
}

/// slixmpp 1.8.3 as in Debian: three -PLUS mechanisms with tls-unique, which TLS 1.3 does not have,
/// three with the flag `y` though -PLUS was offered, then PLAIN.
#[tokio::test]
async fn the_seven_attempts_of_slixmpp_end_signed_in() {
    let lab = lab().await;
    let (mut wire, password) = at_features(&lab).await;
    let sha = ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"];
    let plus = sha.map(|name| (format!("{name}-PLUS"), "p=tls-unique,,n=ann,r=abcdefghij"));
    let flag_y = sha.map(|name| (name.to_owned(), "y,,n=ann,r=abcdefghij"));
    for (name, first) in plus.iter().chain(&flag_y) {
        let first = base64(first);
        wire.send(format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{name}'>{first}</auth>"
        ))
        .await;
        let answer = wire.next().await;
        assert_eq!(answer.name(), "failure", "{name}: {answer}");
    }
    let bound = wire
        .authenticate_and_bind(&mut Plain::new("ann", password.as_str()), Some("slix"))
        .await;
    assert_eq!(bound, "ann@a.test/slix");
}

#[tokio::test]
async fn direct_tls_speaks_alpn_and_offers_no_starttls() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw_tls("a.test").await;
    assert_eq!(
        wire.tls().and_then(|tls| tls.alpn_protocol()),
        Some(b"xmpp-client".as_slice())
    );
    let features = wire.open().await;
    assert!(
        features.child("starttls").is_none() && features.child("mechanisms").is_some(),
        "{features}"
    );
    let mut plain = Plain::new("ann", password.as_str());
    wire.authenticate_and_bind(&mut plain, Some("direct")).await;
}

#[tokio::test]
async fn tls_12_has_no_exporter_binding() {
    let lab = lab().await;
    let mut place = lab.place("a.test");
    place.trust = place.trust.with_versions(&[&rustls::version::TLS12]);
    let mut wire = Wire::connect(&place).await;
    let features = wire.open_secure().await;
    let text = features.to_string();
    assert!(
        text.contains("tls-server-end-point") && !text.contains("tls-exporter"),
        "{text}"
    );
}

#[tokio::test]
async fn registered_in_band_then_signed_in() {
    let lab = lab().await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    wire.register("newcomer", "a password").await;
    let mut plain = Plain::new("newcomer", "a password");
    assert_eq!(
        wire.authenticate_and_bind(&mut plain, Some("x")).await,
        "newcomer@a.test/x"
    );
    assert!(
        lab.accounts()
            .await
            .iter()
            .any(|account| account.as_str() == "newcomer@a.test")
    );
}

#[tokio::test]
async fn a_server_in_memory_serves_like_one_on_a_port() {
    let lab = lab().await;
    let mut ann = lab.wire_in_memory("ann@a.test/x").await;
    let mut ben = lab.wire("ben@a.test/y").await;
    ann.send("<message to='ben@a.test/y'><body>hi</body></message>")
        .await;
    ben.expect(
        "<message from='ann@a.test/x' to='ben@a.test/y' xml:lang='en'><body>hi</body></message>",
    )
    .await;
}

#[tokio::test]
async fn shutdown_tells_every_stream() {
    let lab = lab().await;
    let mut before = lab.raw("a.test").await;
    before.open().await;
    let mut bound = lab.wire("ann@a.test/x").await;
    let down = tokio::spawn(lab.shutdown());
    before.expect_stream_error("system-shutdown").await;
    bound.expect_stream_error("system-shutdown").await;
    // the server waits for the peers' end of the connection
    drop((before, bound));
    down.await.expect("the server ends");
}

fn base64(text: &str) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(text)
}
