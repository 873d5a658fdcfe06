//! STARTTLS and direct TLS over the wire: certificates, versions, ALPN, and nothing carried over.
//!
//! RFC 6120 section 5 (rows tl-*), XEP-0368 and BCP 195 (tu-* of addressing-tls-sasl).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sasl::client::mechanisms::Plain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use xmpp_stream::ns;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{TestLab, Trust};

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// A peer at its features under TLS, and the features.
async fn secured(lab: &TestLab) -> (Wire, Tree) {
    let mut wire = lab.raw("a.test").await;
    let features = wire.open_secure().await;
    (wire, features)
}

fn header(attrs: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='a.test' version='1.0' {attrs}xmlns='{}' \
         xmlns:stream='{}'>",
        ns::CLIENT,
        ns::STREAMS
    )
}

// STARTTLS.

#[tokio::test]
async fn c6120_tl_01_starttls_is_offered_alone_and_as_required() {
    let lab = lab().await;
    let mut wire = lab.raw("a.test").await;
    let features = wire.open().await;
    let names: Vec<&str> = features.children().map(Tree::name).collect();
    assert_eq!(names, ["starttls"]);
    let starttls = features.child_ns(ns::TLS, "starttls").expect("starttls");
    assert!(
        starttls.child_ns(ns::TLS, "required").is_some(),
        "{features}"
    );
}

#[tokio::test]
async fn c6120_tl_02_starttls_under_tls_or_with_content_fails() {
    let lab = lab().await;
    let failure = format!("<failure xmlns='{}'/>", ns::TLS);
    let (mut wire, _) = secured(&lab).await;
    wire.send(format!("<starttls xmlns='{}'/>", ns::TLS)).await;
    wire.expect(&failure).await;
    wire.expect_closed().await;
    let mut wire = lab.raw("a.test").await;
    wire.open().await;
    wire.send(format!("<starttls xmlns='{}'><x/></starttls>", ns::TLS))
        .await;
    wire.expect(&failure).await;
    wire.expect_closed().await;
}

#[tokio::test]
async fn c6120_tl_03_what_is_injected_in_clear_is_never_read_as_tls() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.open().await;
    let injected = STANDARD.encode(format!("\0ann\0{password}"));
    let injected = format!(
        "<auth xmlns='{}' mechanism='PLAIN'>{injected}</auth>",
        ns::SASL
    );
    wire.send(format!(
        "<starttls xmlns='{}'/>{}{injected}",
        ns::TLS,
        header("")
    ))
    .await;
    wire.expect_stream_error("policy-violation").await;
}

#[tokio::test]
async fn c6120_tl_04_no_byte_stands_around_proceed() {
    let lab = lab().await;
    let mut stream = TcpStream::connect(lab.place("a.test").address)
        .await
        .expect("a connection");
    stream
        .write_all(header("").as_bytes())
        .await
        .expect("written");
    let features = read_until(&mut stream, "</stream:features>").await;
    assert!(features.ends_with("</stream:features>"), "{features}");
    let starttls = format!("<starttls xmlns='{}'/>", ns::TLS);
    stream
        .write_all(starttls.as_bytes())
        .await
        .expect("written");
    let proceed = read_until(&mut stream, ">").await;
    assert!(
        proceed.starts_with("<proceed") && proceed.ends_with("/>"),
        "{proceed:?}"
    );
    // The next bytes of the connection answer a handshake: see every test that uses STARTTLS.
    stream.shutdown().await.expect("closed");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("the end");
    assert!(!String::from_utf8_lossy(&rest).contains('<'), "{rest:?}");
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).ends_with(end) {
        assert!(
            stream.read_buf(&mut got).await.expect("more") > 0,
            "{got:?}"
        );
    }
    String::from_utf8(got).expect("UTF-8")
}

#[tokio::test]
async fn c6120_tl_05_the_certificate_is_chosen_by_the_headers_to_where_there_is_no_sni() {
    let lab = TestLab::with(["a.test", "b.test"], |_| ())
        .await
        .expect("a server");
    for domain in ["a.test", "b.test"] {
        let place = lab.place(domain);
        let stream = TcpStream::connect(place.address)
            .await
            .expect("a connection");
        let mut wire = Wire::over(stream, domain).trusting(place.trust.without_sni());
        // The handshake fails unless the certificate is the domain's.
        wire.open_secure().await;
        let password = lab.account(&format!("ann@{domain}")).await;
        wire.authenticate_and_bind(&mut Plain::new("ann", password), None)
            .await;
        assert!(wire.jid().starts_with(&format!("ann@{domain}/")));
    }
}

#[tokio::test]
async fn c6120_tl_07_what_was_said_in_clear_is_forgotten() {
    let lab = lab().await;
    let password = lab.account("ben@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.send(header("from='ann@a.test' ")).await;
    let in_clear = wire.expect_header().await;
    assert_eq!(in_clear.attr("to"), Some("ann@a.test"));
    wire.expect_features().await;
    wire.start_tls().await;
    wire.secure().await;
    wire.send_header().await;
    let secured = wire.expect_header().await;
    assert_eq!(secured.attr("to"), None, "{secured}");
    assert_ne!(secured.attr("id"), in_clear.attr("id"));
    wire.expect_features().await;
    wire.authenticate_and_bind(&mut Plain::new("ben", password), None)
        .await;
}

#[tokio::test]
async fn c6120_tl_08_tls_restart_features_under_tls_have_no_starttls() {
    let lab = lab().await;
    let (_, features) = secured(&lab).await;
    assert!(
        features.child_ns(ns::TLS, "starttls").is_none(),
        "{features}"
    );
    assert!(
        features.child_ns(ns::SASL, "mechanisms").is_some(),
        "{features}"
    );
}

// Direct TLS.

/// A peer over direct TLS with these settings, or why there is none.
async fn direct(lab: &TestLab, domain: &str, trust: Trust) -> std::io::Result<Wire> {
    let address = lab.place(domain).address_tls.expect("a listener");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let mut wire = Wire::over(stream, domain);
    wire.handshake(&trust).await?;
    Ok(wire)
}

#[tokio::test]
async fn ats_tu_07_sni_chooses_the_certificate_on_direct_tls() {
    let lab = TestLab::with(["a.test", "b.test"], |_| ())
        .await
        .expect("a server");
    let trust = || lab.place("a.test").trust;
    for domain in ["a.test", "b.test"] {
        let mut wire = direct(&lab, domain, trust())
            .await
            .expect("the domain's certificate");
        wire.open().await;
    }
    // Nobody named: the first domain's, which is not the other's.
    direct(&lab, "a.test", trust().without_sni())
        .await
        .expect("the first domain's");
    direct(&lab, "b.test", trust().without_sni())
        .await
        .map(|_| ())
        .expect_err("of another domain");
}

#[tokio::test]
async fn ats_tu_08_alpn_absent_or_right_is_accepted_and_another_refused() {
    let lab = lab().await;
    let trust = || lab.place("a.test").trust;
    let mut wire = direct(&lab, "a.test", trust()).await.expect("no ALPN");
    wire.open().await;
    let mut wire = direct(&lab, "a.test", trust().with_alpn("xmpp-client"))
        .await
        .expect("ALPN");
    assert_eq!(
        wire.tls().and_then(|tls| tls.alpn_protocol()),
        Some(&b"xmpp-client"[..])
    );
    wire.open().await;
    for other in ["h2", "http/1.1", "xmpp-server"] {
        let error = direct(&lab, "a.test", trust().with_alpn(other)).await;
        let error = error.map(|_| ()).expect_err(other).to_string();
        assert!(
            error.to_lowercase().contains("applicationprotocol"),
            "{other}: {error}"
        );
    }
}

#[tokio::test]
async fn ats_tu_09_direct_tls_offers_no_starttls_and_signs_in() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw_tls("a.test").await;
    let features = wire.open().await;
    assert!(
        features.child_ns(ns::TLS, "starttls").is_none(),
        "{features}"
    );
    wire.authenticate_and_bind(&mut Plain::new("ann", password), None)
        .await;
    wire.barrier().await;
}

#[tokio::test]
async fn ats_tu_21_tls_1_0_and_1_1_are_refused() {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    let lab = lab().await;
    let address = lab.place("a.test").address_tls.expect("a listener");
    for minor in [1, 2] {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream
            .write_all(&client_hello(minor))
            .await
            .expect("written");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.expect("the end");
        assert_eq!(
            (got.first(), got.get(5)),
            (Some(&ALERT), Some(&FATAL)),
            "{got:?}"
        );
        assert_eq!(got.len(), 7, "an alert and nothing else: {got:?}");
    }
}

/// The hello of a client whose best is TLS 1.`minor - 1`, with signature algorithms and server name
/// so that its age is all there is to object to.
fn client_hello(minor: u8) -> Vec<u8> {
    let server_name = [&[0, 0, 0, 11, 0, 9, 0, 0, 6][..], b"a.test"].concat();
    let signature_algorithms = [0, 13, 0, 6, 0, 4, 4, 3, 4, 1];
    let groups = [0, 10, 0, 4, 0, 2, 0, 23];
    let extensions = [&server_name[..], &signature_algorithms, &groups].concat();
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session; ECDHE-ECDSA and RSA with AES-128-CBC-SHA, AES-128-GCM; no compression.
    body.extend([0, 0, 6, 0xc0, 0x09, 0x00, 0x2f, 0xc0, 0x2b, 1, 0]);
    body.extend(
        u16::try_from(extensions.len())
            .expect("short")
            .to_be_bytes(),
    );
    body.extend(extensions);
    let mut hello = vec![1, 0];
    hello.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    hello.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(hello.len()).expect("short").to_be_bytes());
    record.extend(hello);
    record
}
