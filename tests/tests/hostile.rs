//! Bad input over the wire that ends in something else than a stream error.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xmpp_testkit::TestLab;

#[tokio::test]
async fn second_bind_is_not_allowed_and_harmless() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.send("<iq type='set' id='b2'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        .await;
    let got = ann.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("error"), Some("b2")),
        "{got}"
    );
    assert!(got.to_string().contains("not-allowed"), "{got}");
    ann.barrier().await;
}

#[tokio::test]
async fn c6120_tl_06_what_is_no_tls_is_closed_without_a_closing_tag() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let address = lab.place("a.test").address;
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let header = "<stream:stream xmlns='jabber:client' to='a.test' version='1.0' \
                  xmlns:stream='http://etherx.jabber.org/streams'>";
    stream.write_all(header.as_bytes()).await.expect("written");
    stream
        .write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        .await
        .expect("written");
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("<proceed") {
        assert!(stream.read_buf(&mut got).await.expect("proceed") > 0);
    }
    stream
        .write_all(b"<stream:stream this is no handshake, and long enough to be seen")
        .await
        .expect("written");
    stream.read_to_end(&mut got).await.expect("the end");
    assert!(!String::from_utf8_lossy(&got).contains("</stream:stream"));
}

#[tokio::test]
async fn c6120_4_sasl_encryption_required_in_clear() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut wire = lab.raw("a.test").await;
    wire.open().await;
    wire.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>")
        .await;
    wire.expect(
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><encryption-required/></failure>",
    )
    .await;
}
