//! Going on with a stream over another connection.

use xmpp_stream::ns;
use xmpp_testkit::managed::ids;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Over, TestLab};

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// Ann with stream management and presence, everything acknowledged, and ben.
async fn pair(lab: &TestLab, over: Over) -> (Wire, Wire) {
    let mut ann = lab.managed(over, "ann@a.test/one").await;
    ann.presence("").await;
    ann.ack().await;
    (ann, lab.wire("ben@a.test/one").await)
}

#[tokio::test]
async fn im_sm_08_what_was_not_acknowledged_is_sent_again_then_the_rest() {
    let lab = lab().await;
    for (round, (first, second)) in [
        (Over::StartTls, Over::StartTls),
        (Over::StartTls, Over::DirectTls),
        (Over::DirectTls, Over::StartTls),
        (Over::Memory, Over::DirectTls),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut ann, mut ben) = pair(&lab, first).await;
        for id in 0..5 {
            ben.chat("ann@a.test/one", id).await;
        }
        let seen = ann.message_ids(5).await;
        let handled = ann.sm().received - 3;
        // Another id each time: the same would be the same message, sent again.
        ann.chat("ben@a.test/one", format!("a{round}")).await;
        assert_eq!(ben.message_ids(1).await, [format!("a{round}")]);
        let mut lost = ann.lose();
        // The last three were lost on the way.
        lost.managed.received = handled;
        for id in 5..8 {
            ben.chat("ann@a.test/one", id).await;
        }
        ben.barrier().await;
        let mut ann = lab.resume(second, lost).await;
        assert_eq!(ann.message_ids(6).await, ids(2..8), "{seen:?}");
        assert_eq!(ann.ask().await, 2, "presence and one message, carried on");
        ann.ack().await;
        ann.barrier().await;
        ann.send("</stream:stream>").await;
        ann.expect_ack().await;
        ann.expect_closed().await;
    }
}

#[tokio::test]
async fn im_sm_08_the_answer_names_the_stream_and_the_count() {
    let lab = lab().await;
    let (ann, _ben) = pair(&lab, Over::StartTls).await;
    let lost = ann.lose();
    let mut back = lab.unbound(Over::StartTls, "ann@a.test").await;
    back.send_resume(lost.id(), lost.managed.received).await;
    back.expect(format!(
        "<resumed xmlns='{}' previd='{}' h='1'/>",
        ns::SM,
        lost.id()
    ))
    .await;
    // The JID is that of the session: it is what `from` is written over with.
    let mut ben = lab.wire("ben@a.test/two").await;
    back.chat("ben@a.test/two", 1).await;
    assert_eq!(ben.next().await.attr("from"), Some("ann@a.test/one"));
}

#[tokio::test]
async fn im_sm_08_a_replay_that_was_cut_short_is_played_again() {
    let lab = lab().await;
    let (ann, mut ben) = pair(&lab, Over::StartTls).await;
    let mut lost = ann.lose();
    for id in 0..4 {
        ben.chat("ann@a.test/one", id).await;
    }
    ben.barrier().await;
    for round in 0..3 {
        let mut ann = lab.resume(Over::StartTls, lost).await;
        // One more each time gets as far as the client.
        assert_eq!(ann.message_ids(2).await, ids(round..round + 2));
        lost = ann.lose();
        lost.managed.received -= 1;
    }
    let mut ann = lab.resume(Over::StartTls, lost).await;
    assert_eq!(ann.message_ids(1).await, ids(3..4));
    ann.barrier().await;
}

#[tokio::test]
async fn im_sm_09_a_stream_that_never_was_cannot_be_resumed_and_binding_follows() {
    let lab = lab().await;
    let mut ann = lab.unbound(Over::StartTls, "ann@a.test").await;
    for id in ["", "x", "0-", &"y".repeat(5000)] {
        ann.send_resume(id, 0).await;
        assert_eq!(ann.expect_failed("item-not-found").await, None);
    }
    ann.bind(Some("one")).await;
    ann.enable("resume='true'").await;
    ann.barrier().await;
}

#[tokio::test]
async fn im_sm_09_tries_to_resume_are_bounded() {
    let lab = lab().await;
    let mut ann = lab.unbound(Over::StartTls, "ann@a.test").await;
    let max = xmpp_stream::limits::Limits::default().bind_tries_max;
    for _ in 0..max {
        ann.send_resume("x", 0).await;
        ann.expect_failed("item-not-found").await;
    }
    ann.expect_stream_error("policy-violation").await;
}

#[tokio::test]
async fn im_sm_11_only_after_login() {
    let lab = lab().await;
    let (ann, mut ben) = pair(&lab, Over::StartTls).await;
    let lost = ann.lose();
    let mut mallory = lab.raw("a.test").await;
    mallory.open_secure().await;
    mallory.send_resume(lost.id(), 0).await;
    mallory.expect_failed("unexpected-request").await;
    ben.chat("ann@a.test/one", 1).await;
    let mut ann = lab.resume(Over::StartTls, lost).await;
    assert_eq!(ann.message_ids(1).await, ["1"]);
}

#[tokio::test]
async fn im_sm_11_only_by_the_same_account_and_the_owner_is_unharmed() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab, Over::StartTls).await;
    let notes = ann.notes();
    let mut mallory = lab.unbound(Over::StartTls, "mallory@a.test").await;
    mallory.send_resume(notes.id(), 0).await;
    assert_eq!(mallory.expect_failed("item-not-found").await, None);
    // Live, then hibernating, then ended.
    ben.chat("ann@a.test/one", 1).await;
    ann.message_ids(1).await;
    ann.ack().await;
    ann.barrier().await;
    let lost = ann.lose();
    mallory.send_resume(lost.id(), 0).await;
    assert_eq!(mallory.expect_failed("item-not-found").await, None);
    let mut ann = lab.resume(Over::StartTls, lost.clone()).await;
    ann.send("</stream:stream>").await;
    ann.expect_ack().await;
    ann.expect_closed().await;
    mallory.send_resume(lost.id(), 0).await;
    assert_eq!(mallory.expect_failed("item-not-found").await, None);
    mallory.bind(Some("m")).await;
    mallory.barrier().await;
}

#[tokio::test]
async fn im_sm_02_resume_on_a_bound_stream_is_too_late() {
    let lab = lab().await;
    let (ann, _ben) = pair(&lab, Over::StartTls).await;
    let lost = ann.lose();
    let mut other = lab.wire("ann@a.test/two").await;
    other.send_resume(lost.id(), 0).await;
    other.expect_failed("unexpected-request").await;
    other.barrier().await;
    lab.resume(Over::StartTls, lost).await;
}

#[tokio::test]
async fn im_sm_12_a_wrong_count_at_resumption_is_refused_and_nothing_is_lost() {
    let lab = lab().await;
    for wrong in [7, u32::MAX] {
        let (mut ann, mut ben) = pair(&lab, Over::StartTls).await;
        ben.chat("ann@a.test", 1).await;
        ann.message_ids(1).await;
        let lost = ann.lose();
        let mut back = lab.unbound(Over::StartTls, "ann@a.test").await;
        back.send_resume(lost.id(), wrong).await;
        let error = back.next().await;
        let app = error.child_ns(ns::SM, "handled-count-too-high");
        let app = app.unwrap_or_else(|| back.fail("handled-count-too-high", &error.to_string()));
        assert_eq!(app.attr("send-count"), Some("2"));
        // The message was not acknowledged: it waits.
        let mut again = lab.wire("ann@a.test/two").await;
        again.send("<presence/>").await;
        let seen = again.barrier_seeing().await;
        let messages: Vec<_> = seen
            .iter()
            .filter(|tree| tree.name() == "message")
            .collect();
        assert_eq!(messages.len(), 1, "{seen:?}");
        again.close().await;
    }
}

#[tokio::test]
async fn im_sm_10_a_live_connection_gives_way_and_nothing_is_lost_or_overtaken() {
    let lab = lab().await;
    let (mut old, mut ben) = pair(&lab, Over::StartTls).await;
    for id in 0..3 {
        ben.chat("ann@a.test/one", id).await;
    }
    old.message_ids(3).await;
    let mut notes = old.notes();
    notes.managed.received -= 2;
    for id in 3..6 {
        ben.chat("ann@a.test/one", id).await;
    }
    ben.barrier().await;
    let mut new = lab.resume(Over::DirectTls, notes).await;
    for id in 6..9 {
        ben.chat("ann@a.test/one", id).await;
    }
    assert_eq!(new.message_ids(8).await, ids(1..9));
    new.ack().await;
    new.barrier().await;
    // What was on its way to the old one may still arrive there; then it is told.
    let mut rest = old.until_stream_error().await;
    let error = rest.pop().expect("an error");
    assert!(
        error.child_ns(ns::STREAM_ERRORS, "conflict").is_some(),
        "{error}"
    );
    let late: Vec<_> = rest.iter().filter_map(|tree| tree.attr("id")).collect();
    assert!(
        ids(3..9)
            .iter()
            .map(String::as_str)
            .zip(late)
            .all(|(a, b)| a == b)
    );
}

#[tokio::test]
async fn im_sm_10_what_the_old_connection_sends_afterwards_is_not_handled() {
    let lab = lab().await;
    let (mut old, mut ben) = pair(&lab, Over::StartTls).await;
    old.chat("ben@a.test/one", 1).await;
    ben.message_ids(1).await;
    let mut new = lab.resume(Over::StartTls, old.notes()).await;
    let _ = old
        .try_send(b"<message to='ben@a.test/one' id='2'><body>b</body></message>")
        .await;
    new.chat("ben@a.test/one", 3).await;
    assert_eq!(ben.message_ids(1).await, ["3"]);
    ben.barrier().await;
    assert_eq!(new.ask().await, 3);
}

#[tokio::test]
async fn im_sm_10_of_racing_resumptions_one_has_the_session_and_the_others_are_told() {
    let lab = lab().await;
    for _ in 0..5 {
        let (mut ann, mut ben) = pair(&lab, Over::StartTls).await;
        ben.chat("ann@a.test/one", 1).await;
        ann.message_ids(1).await;
        let mut lost = ann.lose();
        lost.managed.received -= 1;
        let mut racers = Vec::new();
        for _ in 0..4 {
            racers.push(lab.unbound(Over::StartTls, "ann@a.test").await);
        }
        for racer in &mut racers {
            racer.send_resume(lost.id(), lost.managed.received).await;
        }
        let mut winners = Vec::new();
        for mut racer in racers {
            if racer.resumed_or_not(&lost).await {
                winners.push(racer);
            } else {
                // It may go on and bind.
                racer.bind(None).await;
                racer.close().await;
            }
        }
        // Each but the last was told that another has come.
        let mut last = None;
        for mut racer in winners {
            match racer.lives().await {
                true => assert!(last.replace(racer).is_none(), "two of them live"),
                false => racer.expect_end().await,
            }
        }
        let mut last = last.expect("one has the session");
        ben.chat("ann@a.test/one", 2).await;
        assert_eq!(last.message_ids(1).await, ["2"]);
        last.ack().await;
        last.send("</stream:stream>").await;
        last.expect_ack().await;
        ben.close().await;
    }
}
