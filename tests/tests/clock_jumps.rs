//! The wall clock goes back and forward by hours while the server is in use (DESIGN 10): order,
//! delay stamps, deadlines and what is remembered stay as they are. Deadlines have a clock of their
//! own; the wall is an input.

use std::time::{Duration, SystemTime};
use tokio::time::{Instant, advance};
use xmpp_stream::ns;
use xmpp_stream::payload::delay::stamp;
use xmpp_testkit::managed::ids;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Over, TestLab, Tree};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

fn wall(lab: &TestLab) -> SystemTime {
    lab.handle().core().clock.system_now()
}

/// Puts the wall so many hours ahead, or back.
fn jump(lab: &TestLab, hours: i32) {
    let by = HOUR * hours.unsigned_abs();
    let now = wall(lab);
    let now = if hours < 0 { now - by } else { now + by };
    lab.handle().core().clock.put_right(now);
}

fn delay(message: &Tree) -> &str {
    let delay = message.child_ns(ns::DELAY, "delay").expect("a delay");
    delay.attr("stamp").expect("its time")
}

/// The messages that wait for an account: they come before the echo of its presence.
async fn waiting(lab: &TestLab, jid: &str) -> Vec<Tree> {
    let mut wire = lab.wire_in_memory(jid).await;
    wire.send("<presence/>").await;
    let mut messages = Vec::new();
    loop {
        let got = wire.next().await;
        if got.name() != "message" {
            wire.close().await;
            return messages;
        }
        messages.push(got);
    }
}

fn number(messages: &[Tree]) -> Vec<String> {
    let ids = messages.iter().map(|message| message.attr("id"));
    ids.map(|id| id.unwrap_or_default().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn im_of_05_what_waits_keeps_its_order_and_no_stamp_is_of_the_future() {
    for hours in [5, -5, 30, -30, 24 * 400] {
        let lab = lab().await;
        lab.account("ben@a.test").await;
        let mut ann = lab.wire_in_memory("ann@a.test/one").await;
        let mut walls = Vec::new();
        for (id, by) in [0, hours, -hours, 0].into_iter().enumerate() {
            jump(&lab, by);
            walls.push(wall(&lab));
            ann.chat("ben@a.test", id).await;
            ann.barrier().await;
            advance(SECOND * 2).await;
        }
        let messages = waiting(&lab, "ben@a.test/one").await;
        assert_eq!(number(&messages), ids(0..4), "{hours} h");
        let now = stamp(wall(&lab));
        let first = stamp(*walls.iter().min().expect("four") - SECOND);
        for message in &messages {
            let stamp = delay(message);
            assert!(*first <= *stamp, "{hours} h: {stamp} is before {first}");
            assert!(*stamp <= *now, "{hours} h: {stamp} is after {now}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn im_of_05_rows_of_before_a_restart_come_first_whatever_the_clock_says() {
    for hours in [5, -5] {
        let first = lab().await;
        first.account("ben@a.test").await;
        let mut ann = first.wire_in_memory("ann@a.test/one").await;
        jump(&first, hours);
        for id in 0..2 {
            ann.chat("ben@a.test", id).await;
        }
        ann.barrier().await;
        let store = first.memory().reopen();
        let second = TestLab::with(["a.test"], |config| config.store = Some(store)).await;
        let second = second.expect("a server");
        let mut ann = second.wire_in_memory("ann@a.test/one").await;
        for id in 2..4 {
            ann.chat("ben@a.test", id).await;
        }
        ann.barrier().await;
        let messages = waiting(&second, "ben@a.test/one").await;
        assert_eq!(number(&messages), ids(0..4), "{hours} h");
        let now = stamp(wall(&second) + SECOND);
        assert!(messages.iter().all(|message| *delay(message) <= *now));
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_13_a_session_waits_for_its_client_by_no_wall() {
    for hours in [6, -6] {
        let lab = TestLab::with(["a.test"], |config| config.limits.sm_resume = SECOND * 100);
        let lab = lab.await.expect("a server");
        let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
        let mut ben = lab.wire_in_memory("ben@a.test/one").await;
        ann.befriend(&mut ben).await;
        ann.ack().await;
        let lost = ann.lose();
        jump(&lab, hours);
        ben.chat("ann@a.test/one", 1).await;
        ben.barrier().await;
        let mut ann = lab.resume(Over::Memory, lost).await;
        assert_eq!(ann.message_ids(1).await, ids(1..2));
        ann.ack().await;
        ann.ask().await;
        let lost = ann.lose();
        jump(&lab, -hours);
        ben.barrier().await;
        let since = Instant::now();
        advance(SECOND * 95).await;
        ben.expect_presence_unavailable("ann@a.test/one").await;
        let waited = since.elapsed();
        assert!(
            waited >= SECOND * 100 && waited < SECOND * 102,
            "{waited:?}"
        );
        // What was handled is told for two days, by no wall either.
        jump(&lab, 30 * hours);
        for (after, told) in [(47, true), (1, false)] {
            advance(HOUR * after).await;
            let mut back = lab.unbound(Over::Memory, "ann@a.test").await;
            back.send_resume(lost.id(), 0).await;
            let h = back.expect_failed("item-not-found").await;
            assert_eq!(h.is_some(), told, "{hours} h");
            back.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_11_what_is_sent_again_is_recognised_also_when_the_clock_moved() {
    for hours in [5, -5] {
        let lab = TestLab::with(["a.test"], |config| config.limits.sm_resume = SECOND).await;
        let lab = lab.expect("a server");
        let mut ben = lab.wire_in_memory("ben@a.test/one").await;
        ben.presence("").await;
        let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
        ann.chat("ben@a.test", 1).await;
        assert_eq!(ben.message_ids(1).await, ids(1..2));
        drop(ann.lose());
        jump(&lab, hours);
        advance(SECOND * 5).await;
        let mut ann = lab.managed(Over::Memory, "ann@a.test/two").await;
        for id in 1..3 {
            ann.chat("ben@a.test", id).await;
        }
        assert_eq!(ben.message_ids(1).await, ids(2..3), "{hours} h");
    }
}

async fn guess(wire: &mut Wire) -> Duration {
    let began = Instant::now();
    let mut plain = sasl::client::mechanisms::Plain::new("ann", "guess");
    wire.authenticate(&mut plain)
        .await
        .expect_err("it is wrong");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_07_logins_wait_by_no_wall() {
    let lab = TestLab::with(["a.test"], |config| config.limits.loopback_exempt = false).await;
    let lab = lab.expect("a server");
    lab.account("ann@a.test").await;
    let mut wire = lab.raw_in_memory("a.test");
    wire.open_secure().await;
    let small = Duration::from_millis(100);
    assert!(guess(&mut wire).await < small);
    jump(&lab, 6);
    let waited = guess(&mut wire).await;
    assert!(
        waited >= SECOND / 2 - small && waited < SECOND / 2 + small,
        "{waited:?}"
    );
    jump(&lab, -12);
    let waited = guess(&mut wire).await;
    assert!(
        waited >= SECOND - small && waited < SECOND + small,
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn im_la_01_nobody_has_been_away_since_the_future() {
    let lab = lab().await;
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    ann.befriend(&mut ben).await;
    jump(&lab, 5);
    ann.close().await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    jump(&lab, -5);
    ben.send("<presence type='probe' to='ann@a.test' id='p'/>")
        .await;
    let away = ben.next().await;
    assert_eq!(away.attr("type"), Some("unavailable"), "{away}");
    let now = stamp(wall(&lab));
    assert!(*delay(&away) <= *now, "{away}: it is {now}");
    let query = format!("<query xmlns='{}'/>", ns::LAST);
    ben.send(format!(
        "<iq type='get' id='l' to='ann@a.test'>{query}</iq>"
    ))
    .await;
    let answer = ben.next().await;
    let query = answer.child_ns(ns::LAST, "query").expect("an answer");
    assert_eq!(query.attr("seconds"), Some("0"), "{answer}");
}
