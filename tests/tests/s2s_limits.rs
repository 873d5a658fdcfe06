//! What another server says that it takes is held to before anything is sent (XEP-0478).

use xmpp_stream::ns;
use xmpp_testkit::fake::attr;
use xmpp_testkit::{FakeDomain, FakeStream, Federated, Tree, Wire};

async fn send(ann: &mut Wire, id: &str, bytes: usize) {
    ann.send(format!(
        "<message to='u@c.test' type='chat' id='{id}'><body>{}</body></message>",
        "x".repeat(bytes)
    ))
    .await;
}

/// The error of the spec: of that domain's policy, not of ours.
#[track_caller]
fn is_too_large(error: &Tree, id: &str) {
    assert_eq!(error.attr("id"), Some(id), "{error}");
    assert_eq!(error.attr("from"), Some("u@c.test"), "{error}");
    let error = error.child("error").expect("an error");
    assert_eq!(error.attr("by"), None, "{error}");
    assert!(
        error.child_ns(ns::STANZAS, "policy-violation").is_some(),
        "{error}"
    );
    let text = error.child_ns(ns::STANZAS, "text").expect("a text").text();
    assert_eq!(
        text,
        "c.test: its server takes no stanza of more than 10000 bytes"
    );
}

async fn next_id(stream: &mut FakeStream) -> String {
    let message = stream.expect("</message>").await;
    attr(
        &message[message.find("<message").expect("a message")..],
        "id",
    )
}

fn limits() -> String {
    format!(
        "<limits xmlns='{}'><max-bytes>10000</max-bytes></limits>",
        ns::STREAM_LIMITS
    )
}

#[tokio::test]
async fn x0478_what_is_too_large_comes_back_and_the_link_stays() {
    let all = Federated::new(["a.test"]).await;
    let there = FakeDomain::join(&all, "a.test", "c.test").await;
    let mut ann = all.online("ann@a.test/x").await;
    // Some wait already when the link comes up.
    for (id, bytes) in [("1", 10), ("2", 10_000), ("3", 9_000)] {
        send(&mut ann, id, bytes).await;
    }
    let mut stream = there.called(&limits()).await;
    is_too_large(&ann.next_of("message").await, "2");
    assert_eq!(next_id(&mut stream).await, "1");
    assert_eq!(next_id(&mut stream).await, "3");
    for (id, bytes) in [("4", 10_000), ("5", 10)] {
        send(&mut ann, id, bytes).await;
    }
    is_too_large(&ann.next_of("message").await, "4");
    assert_eq!(next_id(&mut stream).await, "5");
    // What counts are the bytes on the wire: each of these is five.
    let text = "&amp;".repeat(2_500);
    ann.send(format!(
        "<message to='u@c.test' type='chat' id='6'><body>{text}</body></message>"
    ))
    .await;
    is_too_large(&ann.next_of("message").await, "6");
    send(&mut ann, "7", 10).await;
    assert_eq!(next_id(&mut stream).await, "7");
}

/// Row bi-07: who calls says it with the wish for both directions.
#[tokio::test]
async fn ats_bi_07_the_way_back_has_the_callers_limits() {
    let all = Federated::new(["a.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut peer = all.caller("a.test", "c.test").await;
    peer.secure_as_server("c.test").await;
    peer.send(format!("<bidi xmlns='{}'>{}</bidi>", ns::BIDI, limits()))
        .await;
    peer.external("c.test").await;
    peer.send("<message from='u@c.test' to='ann@a.test/x' id='hello'><body>.</body></message>")
        .await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("hello"));
    for (id, bytes) in [("1", 10_000), ("2", 10)] {
        send(&mut ann, id, bytes).await;
    }
    is_too_large(&ann.next_of("message").await, "1");
    assert_eq!(peer.next_of("message").await.attr("id"), Some("2"));
}
