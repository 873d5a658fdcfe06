//! The raw peer against text: what it takes, and how it fails.

use super::*;

const HEADER: &str =
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1'>";

/// A wire whose other end has sent this and its end; keep the other end, else sending fails.
async fn wire(sent: &str) -> (Wire, tokio::io::DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    theirs.write_all(sent.as_bytes()).await.unwrap();
    theirs.shutdown().await.unwrap();
    (Wire::over(ours, "a.test"), theirs)
}

/// The message of the panic that the expectation ends in.
async fn failure<F: Future<Output = ()> + Send + 'static>(expectation: F) -> String {
    let error = tokio::spawn(expectation)
        .await
        .expect_err("the expectation must fail");
    *error.into_panic().downcast::<String>().expect("a message")
}

#[tokio::test]
async fn wire_takes_elements_in_order() {
    let (mut wire, _theirs) = wire(&format!(
        "{HEADER}<stream:features/> <a/><c/><b/></stream:stream>"
    ))
    .await;
    assert_eq!(wire.expect_header().await.attr("id"), Some("1"));
    wire.expect_features().await;
    wire.expect("<a/>").await;
    wire.expect_all(&["<b/>", "<c/>"]).await;
    wire.expect_closed().await;
}

#[tokio::test]
async fn wire_restarts_behind_an_element() {
    let (mut wire, _theirs) = wire(&format!(
        "{HEADER}<success/><?xml version='1.0'?>{HEADER}<a/>"
    ))
    .await;
    wire.expect_header().await;
    wire.expect("<success/>").await;
    wire.restart();
    wire.expect_header().await;
    wire.expect("<a/>").await;
    assert!(matches!(wire.receive().await, Received::Closed(true)));
}

#[tokio::test]
async fn wire_takes_stream_errors() {
    let error =
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let (mut wire, _theirs) = wire(&format!("{HEADER}{error}</stream:stream>")).await;
    wire.expect_header_and_error("conflict").await;
}

#[tokio::test]
async fn wire_tells_a_cut_from_an_end() {
    let (mut wire, _theirs) = wire(&format!("{HEADER}<a>")).await;
    wire.expect_header().await;
    assert!(matches!(wire.receive().await, Received::Closed(false)));
}

#[tokio::test]
async fn wire_fails_with_both_trees_and_the_conversation() {
    let text = failure(async {
        let (mut wire, _theirs) = wire(&format!("{HEADER}<a x='1'/><a x='2'/>")).await;
        wire.send("<hello/>").await;
        wire.expect_header().await;
        wire.expect("<a x='1'/>").await;
        wire.expect("<a x='1'/>").await;
    });
    let text = text.await;
    for part in [
        "expected\n<a x='1'/>",
        "there was\n<a x='2'/>",
        "a/@x",
        "> <hello/>",
        "< <a x='1'/>",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
async fn wire_fails_on_anything_before_the_barrier() {
    let text = failure(async {
        let (mut wire, _theirs) = wire(&format!("{HEADER}<message/>")).await;
        wire.expect_header().await;
        wire.barrier().await;
    });
    assert!(text.await.contains("nothing before the barrier"));
}

#[tokio::test(start_paused = true)]
async fn wire_fails_when_nothing_comes() {
    let text = failure(async {
        let (ours, _theirs) = tokio::io::duplex(4096);
        Wire::over(ours, "a.test").expect("<a/>").await;
    });
    assert!(text.await.contains("nothing for 10s"));
}

#[tokio::test]
async fn wire_fails_on_bad_xml() {
    for bad in ["<a></b>", "text", "<p:a/>", "<!-- -->", "&lt;"] {
        let text = failure(async move {
            let (mut wire, _theirs) = wire(&format!("{HEADER}{bad}<c/>")).await;
            wire.expect_header().await;
            wire.next().await;
        });
        assert!(text.await.contains("well-formed"), "{bad}");
    }
}
