//! Enabling, counting, acknowledging, and the bounds of it.

use std::time::Duration;
use xmpp_stream::ns;
use xmpp_testkit::managed::ids;
use xmpp_testkit::{Over, Received, TestLab};

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

#[tokio::test]
async fn im_sm_01_the_feature_is_offered_after_login_and_not_before() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    assert!(wire.open().await.child_ns(ns::SM, "sm").is_none());
    wire.start_tls().await;
    wire.secure().await;
    assert!(wire.open().await.child_ns(ns::SM, "sm").is_none());
    wire.authenticate_scram("ann", &password).await;
    assert!(wire.open().await.child_ns(ns::SM, "sm").is_some());
}

#[tokio::test]
async fn im_sm_02_enable_comes_after_binding_and_once() {
    let lab = lab().await;
    let mut early = lab.raw("a.test").await;
    early.open_secure().await;
    early.send(format!("<enable xmlns='{}'/>", ns::SM)).await;
    early.expect_failed("unexpected-request").await;
    let mut ann = lab.unbound(Over::StartTls, "ann@a.test/one").await;
    ann.send(format!("<enable xmlns='{}'/>", ns::SM)).await;
    ann.expect_failed("unexpected-request").await;
    // The stream goes on: it can be bound and managed.
    ann.bind(Some("one")).await;
    ann.enable("").await;
    ann.barrier().await;
    ann.send(format!("<enable xmlns='{}'/>", ns::SM)).await;
    ann.expect_stream_error("policy-violation").await;
}

#[tokio::test]
async fn im_sm_02_nothing_of_it_before_it_is_enabled() {
    let lab = lab().await;
    for what in [
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='0'/>",
    ] {
        let mut ann = lab.wire("ann@a.test/one").await;
        ann.send(what).await;
        ann.expect_stream_error("unsupported-stanza-type").await;
        let mut early = lab.unbound(Over::StartTls, "ann@a.test").await;
        early.send(what).await;
        early.expect_stream_error("unsupported-stanza-type").await;
    }
}

#[tokio::test]
async fn im_sm_03_ids_are_unique_and_the_time_is_told() {
    let lab = lab().await;
    let mut seen = std::collections::HashSet::new();
    for (asked, told) in [
        ("", "300"),
        ("max='60'", "60"),
        ("max='0'", "300"),
        ("max='3600'", "3600"),
        ("max='3601'", "3600"),
        ("max='4294967295'", "3600"),
    ] {
        let mut ann = lab.wire("ann@a.test").await;
        let enabled = ann.enable(&format!("resume='true' {asked}")).await;
        assert_eq!(enabled.attr("resume"), Some("true"));
        assert_eq!(enabled.attr("max"), Some(told), "{asked}");
        let id = enabled.attr("id").expect("an id").to_owned();
        assert!((22..=4000).contains(&id.len()), "{id}");
        assert!(seen.insert(id));
    }
    let mut ann = lab.wire("ann@a.test").await;
    let enabled = ann.enable("").await;
    assert_eq!((enabled.attr("id"), enabled.attr("resume")), (None, None));
}

#[tokio::test]
async fn im_sm_04_stanzas_count_and_nothing_else() {
    let lab = lab().await;
    let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
    assert_eq!(ann.ask().await, 0);
    ann.presence("").await;
    ann.chat("ann@a.test/one", 1).await;
    ann.message_ids(1).await;
    ann.barrier().await;
    // A refused one was handled all the same.
    ann.send("<iq type='get' id='x'/>").await;
    assert_eq!(ann.next().await.attr("type"), Some("error"));
    for _ in 0..3 {
        assert_eq!(ann.ask().await, 4);
        ann.ack().await;
    }
    // Answers that the stream gives itself are stanzas too.
    ann.send(format!(
        "<iq type='set' id='s'><session xmlns='{}'/></iq>",
        "urn:ietf:params:xml:ns:xmpp-session"
    ))
    .await;
    assert_eq!(ann.next().await.attr("id"), Some("s"));
    assert_eq!(ann.ask().await, 5);
    assert_eq!(
        ann.sm().received,
        5,
        "presence, message, pong, error, result"
    );
    ann.ack().await;
    ann.barrier().await;
}

#[tokio::test]
async fn im_sm_05_stanzas_behind_enable_count_and_those_before_do_not() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let ping = |id: &str| format!("<iq type='get' id='{id}'><ping xmlns='{}'/></iq>", ns::PING);
    // All in one write: nobody waits for anything.
    ann.send(format!(
        "{}<enable xmlns='{sm}' resume='true'/>{}{}<r xmlns='{sm}'/>",
        ping("1"),
        ping("2"),
        ping("3"),
        sm = ns::SM
    ))
    .await;
    ann.answer("1").await;
    ann.expect_enabled().await;
    ann.answer("2").await;
    ann.answer("3").await;
    assert_eq!(ann.expect_ack().await, 2);
    // What was sent before <enabled/> needs no acknowledgement: two are all there is.
    assert_eq!(ann.sm().received, 2);
    ann.ack().await;
    let lost = ann.lose();
    let mut ann = lab.resume(Over::StartTls, lost).await;
    ann.barrier().await;
}

#[tokio::test]
async fn im_sm_06_an_ack_is_asked_for_with_what_was_sent() {
    let lab = lab().await;
    let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ben.chat("ann@a.test/one", 1).await;
    ann.message_ids(1).await;
    ann.expect_asked().await;
    ann.ack().await;
    ann.barrier().await;
}

#[tokio::test]
async fn im_sm_12_an_ack_for_more_than_was_sent_ends_the_stream() {
    let lab = lab().await;
    for wrong in [3, u32::MAX, u32::MAX / 2] {
        let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
        ann.barrier().await;
        ann.barrier().await;
        ann.ack_at(wrong).await;
        let error = ann.next().await;
        let app = error.child_ns(ns::SM, "handled-count-too-high");
        let app = app.unwrap_or_else(|| ann.fail("handled-count-too-high", &error.to_string()));
        assert_eq!(app.attr("h"), Some(wrong.to_string().as_str()));
        assert_eq!(app.attr("send-count"), Some("2"));
        assert!(
            error
                .child_ns(ns::STREAM_ERRORS, "undefined-condition")
                .is_some()
        );
        assert!(matches!(ann.receive().await, Received::Footer));
        ann.expect_end().await;
    }
}

#[tokio::test]
async fn im_sm_12_an_ack_that_goes_back_ends_the_stream() {
    let lab = lab().await;
    let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
    ann.barrier().await;
    ann.barrier().await;
    ann.ack_at(2).await;
    ann.ack_at(1).await;
    let error = ann.next().await;
    assert!(
        error.child_ns(ns::SM, "handled-count-too-high").is_some(),
        "{error}"
    );
}

#[tokio::test]
async fn im_sm_16_the_last_count_is_told_before_the_end() {
    let lab = lab().await;
    let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
    ann.barrier().await;
    ann.ack().await;
    ann.send("<presence type='unavailable'/></stream:stream>")
        .await;
    assert_eq!(ann.expect_ack().await, 2);
    ann.expect_closed().await;
}

#[tokio::test]
async fn im_sm_13_a_closed_stream_has_ended() {
    let lab = lab().await;
    let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ann.befriend(&mut ben).await;
    ann.ack().await;
    let notes = ann.notes();
    ann.send("</stream:stream>").await;
    let h = ann.expect_ack().await;
    ann.expect_closed().await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    let mut back = lab.unbound(Over::StartTls, "ann@a.test").await;
    back.send_resume(notes.id(), notes.managed.received).await;
    assert_eq!(back.expect_failed("item-not-found").await, Some(h));
}

#[tokio::test]
async fn im_sm_17_the_writer_pauses_at_the_bound_and_goes_on_with_the_ack() {
    for (sent, arrive) in [(9, 9), (10, 10), (11, 10), (30, 10)] {
        let lab = TestLab::with(["a.test"], |config| config.limits.sm_unacked_max = 10).await;
        let lab = lab.expect("a server");
        let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
        let mut ben = lab.wire("ben@a.test/one").await;
        for id in 0..sent {
            ben.chat("ann@a.test/one", id).await;
        }
        ben.barrier().await;
        assert_eq!(ann.message_ids(arrive).await, ids(0..arrive as u32));
        // <a/> is no stanza: it comes through, and shows that nothing stands before it.
        assert_eq!(ann.ask().await, 0);
        let mut seen = arrive;
        while seen < sent as usize {
            ann.ack().await;
            let more = 10.min(sent as usize - seen);
            let expected = ids(seen as u32..(seen + more) as u32);
            assert_eq!(ann.message_ids(more).await, expected);
            seen += more;
            assert_eq!(ann.ask().await, 0);
        }
    }
}

#[tokio::test]
async fn im_sm_17_the_same_in_bytes() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.sm_unacked_bytes_max = 4096
    })
    .await;
    let lab = lab.expect("a server");
    let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let body = "x".repeat(1500);
    for id in 0..6 {
        ben.send(format!(
            "<message to='ann@a.test/one' type='chat' id='{id}'><body>{body}</body></message>"
        ))
        .await;
    }
    ben.barrier().await;
    // Two are below the bound, with the third it is passed.
    assert_eq!(ann.message_ids(3).await, ids(0..3));
    assert_eq!(ann.ask().await, 0);
    ann.ack().await;
    assert_eq!(ann.message_ids(3).await, ids(3..6));
}

#[tokio::test(start_paused = true)]
async fn im_sm_17_a_client_that_does_not_answer_is_cut_and_waited_for() {
    let lab = lab().await;
    let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
    ann.presence("").await;
    ann.ack().await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    ben.chat("ann@a.test/one", 1).await;
    ann.message_ids(1).await;
    ann.expect_asked().await;
    // An answer just in time, if only a part of it, is one.
    tokio::time::advance(Duration::from_secs(59)).await;
    ben.chat("ann@a.test/one", 2).await;
    ann.message_ids(1).await;
    let first = ann.sm().received - 1;
    ann.ack_at(first).await;
    ann.ask().await;
    // Other words are no answer.
    tokio::time::advance(Duration::from_secs(59)).await;
    ann.send("<presence/>").await;
    assert_eq!(ann.next().await.name(), "presence");
    tokio::time::advance(Duration::from_secs(2)).await;
    ann.expect_end().await;
    let mut lost = ann.notes();
    lost.managed.received = first;
    let mut ann = lab.resume(Over::Memory, lost).await;
    assert_eq!(ann.message_ids(1).await, ["2"]);
    assert_eq!(ann.next().await.name(), "presence");
    ann.barrier().await;
}

#[tokio::test(start_paused = true)]
async fn im_sm_06_silence_is_asked_after_with_r_and_only_an_answer_helps() {
    let lab = lab().await;
    let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
    ann.presence("").await;
    ann.ack().await;
    assert_eq!(ann.ask().await, 1);
    ann.ack().await;
    assert_eq!(ann.ask().await, 1);
    let silence = Duration::from_secs(300);
    for _ in 0..2 {
        assert_eq!(ann.sm().asked, 0);
        tokio::time::advance(silence - Duration::from_secs(1)).await;
        // The clock runs by itself while everybody waits: the second that is missing.
        let before = tokio::time::Instant::now();
        ann.expect_asked().await;
        assert!(
            before.elapsed() <= Duration::from_secs(2),
            "{:?}",
            before.elapsed()
        );
        ann.ack().await;
        assert_eq!(
            ann.ask().await,
            1,
            "no stanza was sent, and none is counted"
        );
    }
    tokio::time::advance(silence).await;
    ann.expect_asked().await;
    tokio::time::advance(Duration::from_secs(60)).await;
    ann.expect_stream_error("connection-timeout").await;
    let mut ann = lab.resume(Over::Memory, ann.notes()).await;
    ann.barrier().await;
}
