//! Servers without stream management: a ping behind messages tells what they have read, and what no
//! answer covers is sent again (XEP-0199, DESIGN 10).

use std::time::Duration;
use xmpp_server::config::Config;
use xmpp_stream::ns;
use xmpp_testkit::fake::attr;
use xmpp_testkit::{FakeDomain, FakeStream, Federated, Wire};

/// A server of a.test with somebody there, and c.test, which is the test's own: where it is called,
/// and a stream on which it calls.
struct Scene {
    all: Federated,
    ann: Wire,
    there: FakeDomain,
    back: Wire,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_, _| ()).await
    }

    async fn with(change: impl FnMut(&str, &mut Config)) -> Self {
        let all = Federated::with(["a.test"], change).await;
        let there = FakeDomain::join(&all, "a.test", "c.test").await;
        let ann = all.online("ann@a.test/x").await;
        let back = all.server("a.test", "c.test").await;
        Self {
            all,
            ann,
            there,
            back,
        }
    }

    async fn send(&mut self, id: &str) {
        let text =
            format!("<message to='u@c.test' type='chat' id='{id}'><body>{id}</body></message>");
        self.ann.send(text).await;
    }

    /// The next message on this stream, and the id of the ping behind it.
    async fn message(&mut self, stream: &mut FakeStream, id: &str) -> String {
        let message = stream.expect_next("<message", "</message>").await;
        assert_eq!(attr(&message, "id"), id, "{message}");
        let ping = stream.expect_next("<iq", "</iq>").await;
        assert!(ping.contains("<ping xmlns='urn:xmpp:ping'/>"), "{ping}");
        assert_eq!(attr(&ping, "from"), "a.test", "{ping}");
        assert_eq!(attr(&ping, "to"), "c.test", "{ping}");
        attr(&ping, "id")
    }

    async fn answer(&mut self, ping: &str) {
        let answer = format!("<iq type='result' from='c.test' to='a.test' id='{ping}'/>");
        self.back.send(answer).await;
    }

    /// What was sent to c.test and waits for an answer is so many stanzas.
    async fn until_waiting(&self, stanzas: usize) {
        let like = format!("\t{stanzas} stanzas");
        let is = |line: &String| line.starts_with("a.test -> c.test") && line.contains(&like);
        self.all
            .until_links("a.test", |lines| lines.iter().any(is))
            .await;
    }
}

#[tokio::test]
async fn x0199_what_no_answer_covers_is_sent_again() {
    let mut scene = Scene::new().await;
    scene.send("m1").await;
    let mut stream = scene.there.called("").await;
    let ping = scene.message(&mut stream, "m1").await;
    scene.answer(&ping).await;
    scene.until_waiting(0).await;
    scene.send("m2").await;
    scene.message(&mut stream, "m2").await;
    // While one ping waits, what comes is sent and waits for the next.
    scene.send("m3").await;
    let third = stream.expect_next("<message", "</message>").await;
    assert_eq!(attr(&third, "id"), "m3", "{third}");
    scene.until_waiting(2).await;
    drop(stream);
    let mut stream = scene.there.called("").await;
    for id in ["m2", "m3"] {
        let again = stream.expect_next("<message", "</message>").await;
        assert_eq!(attr(&again, "id"), id, "{again}");
        assert!(again.contains(ns::DELAY), "marked as late: {again}");
    }
    let ping = attr(&stream.expect_next("<iq", "</iq>").await, "id");
    scene.answer(&ping).await;
    scene.until_waiting(0).await;
    scene.send("m4").await;
    scene.message(&mut stream, "m4").await;
}

/// An error is an answer, also on the stream's own end and after that.
#[tokio::test]
async fn x0199_an_answer_counts_as_error_and_after_the_end_of_the_stream() {
    let mut scene = Scene::new().await;
    scene.send("m1").await;
    let mut stream = scene.there.called("").await;
    let ping = scene.message(&mut stream, "m1").await;
    scene
        .back
        .send(format!(
            "<iq type='error' from='c.test' to='a.test' id='{ping}'><error type='cancel'>\
             <service-unavailable xmlns='{}'/></error></iq>",
            ns::STANZAS
        ))
        .await;
    scene.until_waiting(0).await;
    scene.send("m2").await;
    let ping = scene.message(&mut stream, "m2").await;
    drop(stream);
    scene.answer(&ping).await;
    scene.until_waiting(0).await;
    scene.send("m3").await;
    let mut stream = scene.there.called("").await;
    scene.message(&mut stream, "m3").await;
}

/// Only the domain that was asked can answer, not another one and not one of its users.
#[tokio::test]
async fn x0199_a_forged_answer_does_nothing() {
    let mut scene = Scene::new().await;
    scene.send("m1").await;
    let mut stream = scene.there.called("").await;
    let ping = scene.message(&mut stream, "m1").await;
    let mut other = scene.all.server("a.test", "d.test").await;
    other
        .send(format!(
            "<iq type='result' from='d.test' to='a.test' id='{ping}'/>"
        ))
        .await;
    let forged = "<iq type='result' from='u@c.test' to='a.test' id='ID'/>\
                  <iq type='result' from='c.test' to='a.test' id='guess'/>";
    scene.back.send(forged.replace("ID", &ping)).await;
    let hello = "<message from='DOMAIN' to='ann@a.test/x' type='chat'><body>.</body></message>";
    for (peer, domain) in [(&mut other, "d.test"), (&mut scene.back, "c.test")] {
        peer.send(hello.replace("DOMAIN", domain)).await;
        let got = scene.ann.next_of("message").await;
        assert_eq!(got.attr("from"), Some(domain), "{got}");
    }
    scene.until_waiting(1).await;
    drop(stream);
    let mut stream = scene.there.called("").await;
    let ping = scene.message(&mut stream, "m1").await;
    scene.answer(&ping).await;
    scene.until_waiting(0).await;
}

/// Some drop what they do not know. What was written counts as taken then, and operators see it.
#[tokio::test]
async fn x0199_a_server_that_answers_none_is_not_asked_again() {
    let mut scene = Scene::with(|_, config| {
        config.limits.stream.silence_answer_max = Duration::from_millis(200);
    })
    .await;
    scene.send("m1").await;
    let mut stream = scene.there.called("").await;
    scene.message(&mut stream, "m1").await;
    scene.until_waiting(0).await;
    let lines = scene.all.links("a.test");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\tanswers no pings\t")),
        "{lines:#?}"
    );
    for id in ["m2", "m3"] {
        scene.send(id).await;
        let message = stream.expect_next("<message", "</message>").await;
        assert_eq!(attr(&message, "id"), id, "{message}");
    }
    scene.until_waiting(0).await;
    drop(stream);
    scene.send("m4").await;
    let mut stream = scene.there.called("").await;
    let message = stream.expect_next("<message", "</message>").await;
    assert_eq!(attr(&message, "id"), "m4", "{message}");
    scene.until_waiting(0).await;
}

/// One that answers none, and ends its streams before that is sure, does not get the same for ever.
#[tokio::test]
async fn x0199_who_only_ends_its_streams_is_not_asked_again() {
    let mut scene = Scene::new().await;
    scene.send("m1").await;
    for _ in 0..3 {
        let mut stream = scene.there.called("").await;
        scene.message(&mut stream, "m1").await;
    }
    let mut stream = scene.there.called("").await;
    let last = stream.expect_next("<message", "</message>").await;
    assert_eq!(attr(&last, "id"), "m1", "{last}");
    scene.until_waiting(0).await;
    drop(stream);
    scene.send("m2").await;
    let mut stream = scene.there.called("").await;
    let next = stream.expect_next("<message", "</message>").await;
    assert_eq!(attr(&next, "id"), "m2", "{next}");
}

/// One that has answered before and does not now is out of reach: the same once more, over a new
/// connection.
#[tokio::test]
async fn x0199_silence_after_answers_is_a_lost_connection() {
    let mut scene = Scene::with(|_, config| {
        config.limits.stream.silence_answer_max = Duration::from_millis(500);
    })
    .await;
    scene.send("m1").await;
    let mut stream = scene.there.called("").await;
    let ping = scene.message(&mut stream, "m1").await;
    scene.answer(&ping).await;
    scene.until_waiting(0).await;
    scene.send("m2").await;
    scene.message(&mut stream, "m2").await;
    let mut stream = scene.there.called("").await;
    let ping = scene.message(&mut stream, "m2").await;
    scene.answer(&ping).await;
    scene.until_waiting(0).await;
}

/// With stream management nobody is asked twice; without messages nobody is asked at all.
#[tokio::test]
async fn x0199_no_ping_where_none_is_needed() {
    let mut scene = Scene::new().await;
    scene
        .ann
        .send("<iq to='c.test' type='get' id='q'><query xmlns='urn:x:q'/></iq>")
        .await;
    let mut stream = scene.there.called("").await;
    stream.expect_next("<iq", "</iq>").await;
    scene.until_waiting(0).await;
    scene
        .ann
        .send("<presence to='u@c.test' id='p'/><presence to='u@c.test' id='p2'/>")
        .await;
    for _ in 0..2 {
        stream.expect_next("<presence", ">").await;
    }
    // Nobody is told when an error is lost.
    scene
        .ann
        .send(format!(
            "<message to='u@c.test' type='error' id='e'><error type='cancel'>\
             <not-allowed xmlns='{}'/></error></message>",
            ns::STANZAS
        ))
        .await;
    stream.expect_next("<message", "</message>").await;
    scene.until_waiting(0).await;
    drop(stream);
    scene.send("m1").await;
    let mut stream = scene
        .there
        .called(&format!("<sm xmlns='{}'/>", ns::SM))
        .await;
    stream.enable("s").await;
    stream.expect_next("<message", "</message>").await;
    stream.expect_next("<r ", "/>").await;
    scene.until_waiting(1).await;
    stream.ack(1).await;
    scene.until_waiting(0).await;
}

/// It is offered, and then refused: pings tell instead.
#[tokio::test]
async fn x0199_stream_management_that_is_not_to_be_had() {
    let mut scene = Scene::new().await;
    scene.send("m1").await;
    let mut stream = scene
        .there
        .called(&format!("<sm xmlns='{}'/>", ns::SM))
        .await;
    stream.expect_next("<enable ", "/>").await;
    stream.say(&format!("<failed xmlns='{}'/>", ns::SM)).await;
    stream.expect("</message>").await;
    let ping = stream.expect("</iq>").await;
    scene.until_waiting(1).await;
    let ping = attr(&ping[ping.find("<iq").expect("a ping")..], "id");
    scene.answer(&ping).await;
    scene.until_waiting(0).await;
}

/// Both directions on one stream (XEP-0288), and stanzas that wait behind a message go with it: a
/// request of which nobody knows whether it was carried out comes back.
#[tokio::test]
async fn x0199_what_goes_with_a_message_has_its_fate() {
    let mut scene = Scene::new().await;
    scene.send("m1").await;
    let mut stream = scene.there.called("").await;
    scene.message(&mut stream, "m1").await;
    scene
        .ann
        .send(
            "<iq to='c.test' type='get' id='q'><query xmlns='urn:x:q'/></iq>\
             <presence to='u@c.test' id='p'/>",
        )
        .await;
    stream.expect_next("<iq", "</iq>").await;
    stream.expect_next("<presence", ">").await;
    scene.until_waiting(3).await;
    drop(stream);
    let mut stream = scene.there.called("").await;
    let again = stream.expect_next("<message", "</message>").await;
    assert_eq!(attr(&again, "id"), "m1", "{again}");
    let presence = stream.expect_next("<presence", ">").await;
    assert_eq!(attr(&presence, "id"), "p", "{presence}");
    let back = scene.ann.next_of("iq").await;
    assert_eq!(back.attr("type"), Some("error"), "{back}");
    assert_eq!(back.attr("id"), Some("q"), "{back}");
}

/// Where stanzas go back on the stream that the other server has opened (XEP-0288), answers come on it.
#[tokio::test]
async fn x0199_answers_come_on_a_stream_that_goes_both_ways() {
    let mut scene = Scene::new().await;
    let mut both = scene.all.caller("a.test", "c.test").await;
    both.secure_as_server("c.test").await;
    both.send(format!("<bidi xmlns='{}'/>", ns::BIDI)).await;
    both.external("c.test").await;
    both.send("<message from='u@c.test' to='ann@a.test/x' id='hello'><body>.</body></message>")
        .await;
    assert_eq!(scene.ann.next_of("message").await.attr("id"), Some("hello"));
    scene.send("m1").await;
    assert_eq!(both.next_of("message").await.attr("id"), Some("m1"));
    let ping = both.next_of("iq").await;
    scene.until_waiting(1).await;
    let id = ping.attr("id").expect("an id");
    both.send(format!(
        "<iq type='result' from='c.test' to='a.test' id='{id}'/>"
    ))
    .await;
    scene.until_waiting(0).await;
    scene.send("m2").await;
    assert_eq!(both.next_of("message").await.attr("id"), Some("m2"));
    both.next_of("iq").await;
    drop(both);
    let mut stream = scene.there.called("").await;
    scene.message(&mut stream, "m2").await;
}

/// The server ends without a word: what no answer covers is in its store.
#[tokio::test]
async fn x0199_what_no_answer_covers_survives_a_kill() {
    let mut scene = Scene::new().await;
    scene.send("m1").await;
    let mut stream = scene.there.called("").await;
    scene.message(&mut stream, "m1").await;
    scene.ann.barrier_among_others().await;
    scene.all.kill("a.test");
    drop(stream);
    scene.all.start("a.test").await;
    let mut stream = scene.there.called("").await;
    scene.message(&mut stream, "m1").await;
}
