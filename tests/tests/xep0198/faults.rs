//! A store that hangs or fails, and clients that send more than is handled.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, advance};
use xmpp_server::store::MemoryStore;
use xmpp_stream::ns;
use xmpp_testkit::managed::ids;
use xmpp_testkit::wire::{Received, Wire};
use xmpp_testkit::{Over, TestLab, Tree};

const TICKET: Duration = Duration::from_secs(10);
const MS: Duration = Duration::from_millis(1);

struct Fault {
    lab: TestLab,
    store: Arc<MemoryStore>,
    ann: Wire,
    ben: Wire,
}

/// Ann and ben, both managed and available, and a store that takes no more.
async fn stuck() -> Fault {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
    let mut ben = lab.managed(Over::Memory, "ben@a.test/one").await;
    for wire in [&mut ann, &mut ben] {
        wire.presence("").await;
        wire.ack().await;
        wire.ask().await;
    }
    let store = lab.memory();
    store.hold();
    Fault {
        lab,
        store,
        ann,
        ben,
    }
}

fn roster_set(id: &str) -> String {
    let item = format!("<item jid='{id}@a.test'/>");
    format!(
        "<iq type='set' id='{id}'><query xmlns='{}'>{item}</query></iq>",
        ns::ROSTER
    )
}

fn is_not_stored(error: &Tree, id: &str) -> bool {
    let child = error.child("error");
    error.attr("id") == Some(id)
        && error.attr("type") == Some("error")
        && child.is_some_and(|child| {
            child.attr("type") == Some("wait")
                && child
                    .child_ns(ns::STANZAS, "internal-server-error")
                    .is_some()
        })
}

#[tokio::test(start_paused = true)]
async fn im_sm_06_a_store_that_hangs_does_not_stop_chat_and_counts_nothing() {
    let Fault {
        store,
        mut ann,
        mut ben,
        lab: _lab,
        ..
    } = stuck().await;
    for id in 0..3 {
        ann.chat("ben@a.test", id).await;
    }
    assert_eq!(ben.message_ids(3).await, ids(0..3));
    let asked = Instant::now();
    // Presence was handled; the messages are delivered, and not stored.
    assert_eq!(ann.ask().await, 1);
    assert_eq!(asked.elapsed().as_millis(), 50);
    // The other way as well, and what needs no store is answered.
    ben.chat("ann@a.test", 9).await;
    ann.message_ids(1).await;
    ann.barrier().await;
    // Committed one by one: the answer that was owed follows, once.
    assert_eq!(store.settle(1, true), 3);
    ann.barrier().await;
    store.release();
    assert_eq!(ann.expect_ack().await, 6, "both barriers are done with it");
    ann.barrier().await;
    assert_eq!(ann.ask().await, 7);
}

#[tokio::test(start_paused = true)]
async fn im_sm_06_an_error_comes_before_the_count_that_covers_it() {
    for failed in [true, false] {
        let Fault {
            store,
            mut ann,
            mut ben,
            lab: _lab,
            ..
        } = stuck().await;
        ann.chat("ben@a.test", 1).await;
        ann.chat("ben@a.test", 2).await;
        ben.message_ids(2).await;
        let sent = Instant::now();
        assert_eq!(ann.ask().await, 1);
        if failed {
            assert_eq!(store.settle(1, false), 1);
            assert_eq!(store.settle(1, true), 0);
        } else {
            // Not before its time.
            advance(TICKET - 100 * MS).await;
            ann.barrier().await;
        }
        let error = ann.next().await;
        assert!(is_not_stored(&error, "1"), "{error}");
        if !failed {
            assert!(sent.elapsed() >= TICKET, "{:?}", sent.elapsed());
            let error = ann.next().await;
            assert!(is_not_stored(&error, "2"), "{error}");
        }
        let handled = if failed { 3 } else { 4 };
        assert_eq!(ann.expect_ack().await, handled.min(3 + u32::from(!failed)));
        ann.ack().await;
        ann.ask().await;
        // What took too long may still take effect; nobody is told again.
        store.release();
        ann.barrier().await;
        ben.barrier().await;
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_06_a_question_behind_a_change_is_answered_in_time() {
    let Fault {
        store,
        mut ann,
        lab: _lab,
        ..
    } = stuck().await;
    // A change holds what comes behind it until it is committed.
    ann.send(roster_set("r1")).await;
    let asked = Instant::now();
    assert_eq!(ann.ask().await, 1);
    assert_eq!(asked.elapsed().as_millis(), 50);
    ann.chat("ann@a.test/one", 1).await;
    assert_eq!(ann.ask().await, 1);
    store.release();
    let mut seen = Vec::new();
    while seen.last() != Some(&Some(3)) {
        let got = ann.next().await;
        seen.push(match got.is(ns::SM, "a") {
            true => got.attr("h").and_then(|h| h.parse::<u32>().ok()),
            false => None,
        });
    }
    // The result, the message to itself, and the count that was owed, however often.
    assert!(seen.len() <= 5, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn im_sm_10_a_live_connection_gives_way_while_a_change_waits_for_the_store() {
    let Fault {
        lab,
        store,
        mut ann,
        mut ben,
    } = stuck().await;
    ann.send(roster_set("r1")).await;
    ann.chat("ben@a.test/one", "behind").await;
    let notes = ann.notes();
    let mut new = lab.unbound(Over::Memory, "ann@a.test").await;
    new.send_resume(notes.id(), notes.managed.received).await;
    // The stanza in hand is finished first: in vain, after ten seconds.
    ben.barrier().await;
    advance(TICKET - 100 * MS).await;
    let h = new.expect_resumed(&notes).await;
    let error = new.next().await;
    assert!(is_not_stored(&error, "r1"), "{error}");
    store.release();
    // What stood behind it was not handled: the client sends it again.
    assert_eq!(h, 2);
    ben.barrier().await;
    new.chat("ben@a.test/one", "behind").await;
    assert_eq!(ben.message_ids(1).await, ["behind"]);
    ben.barrier().await;
}

#[tokio::test(start_paused = true)]
async fn im_sm_08_before_it_goes_on_a_stream_waits_for_its_tickets() {
    for commit in [true, false] {
        let Fault {
            lab,
            store,
            mut ann,
            mut ben,
        } = stuck().await;
        ann.chat("ben@a.test", 1).await;
        ben.message_ids(1).await;
        let lost = ann.lose();
        let mut new = lab.unbound(Over::Memory, "ann@a.test").await;
        new.send_resume(lost.id(), lost.managed.received).await;
        ben.barrier().await;
        store.settle(1, commit);
        assert_eq!(new.expect_resumed(&lost).await, 2);
        if !commit {
            let error = new.next().await;
            assert!(is_not_stored(&error, "1"), "{error}");
        }
        new.barrier().await;
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_08_it_waits_ten_seconds_for_them_and_not_longer() {
    let Fault {
        lab,
        mut ann,
        mut ben,
        ..
    } = stuck().await;
    ann.chat("ben@a.test", 1).await;
    ben.message_ids(1).await;
    let lost = ann.lose();
    let mut new = lab.unbound(Over::Memory, "ann@a.test").await;
    let began = Instant::now();
    new.send_resume(lost.id(), lost.managed.received).await;
    advance(TICKET - 100 * MS).await;
    assert_eq!(new.expect_resumed(&lost).await, 2);
    assert!(began.elapsed() <= TICKET, "{:?}", began.elapsed());
    let error = new.next().await;
    assert!(is_not_stored(&error, "1"), "{error}");
    new.barrier().await;
}

#[tokio::test(start_paused = true)]
async fn im_of_02_a_login_with_a_stuck_store_waits_ten_seconds_for_what_is_being_written() {
    let Fault {
        lab,
        store,
        mut ann,
        ben,
    } = stuck().await;
    ben.close_managed().await;
    ann.chat("ben@a.test", 1).await;
    ann.chat("ben@a.test", 2).await;
    ann.barrier().await;
    let mut ben = lab.wire_in_memory("ben@a.test/two").await;
    let began = Instant::now();
    ben.send("<presence/>").await;
    ann.chat("ben@a.test", 3).await;
    ann.barrier().await;
    advance(TICKET - 100 * MS).await;
    // The gate opens: its presence, and what was sent to it since.
    assert_eq!(ben.next().await.name(), "presence");
    assert_eq!(ben.message_ids(1).await, ["3"]);
    assert!(began.elapsed() >= TICKET && began.elapsed() < TICKET + 100 * MS);
    ben.barrier().await;
    store.release();
    for id in ["1", "2"] {
        let late = ben.next().await;
        assert_eq!(late.attr("id"), Some(id), "{late}");
        assert!(late.child_ns(ns::DELAY, "delay").is_some(), "{late}");
    }
    ben.barrier().await;
}

#[tokio::test]
async fn im_sm_17_a_client_that_answers_gets_whatever_comes() {
    // More than half of the hard bound at once, in items and in bytes.
    for (count, size) in [(500_u32, 1), (300, 3000)] {
        let lab = TestLab::with(["a.test"], |config| {
            config.limits.outbox_pause_max = Duration::ZERO;
            config.limits.outbox_items_hard = 600;
            config.limits.outbox_bytes_hard = 0;
        });
        let lab = lab.await.expect("a server");
        let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
        let mut ben = lab.wire_in_memory("ben@a.test/one").await;
        let body = "x".repeat(size);
        let mut all = String::new();
        for id in 0..count {
            all.push_str(&format!(
                "<message to='ann@a.test/one' type='chat' id='{id}'><body>{body}</body></message>"
            ));
        }
        let sending = tokio::spawn(async move {
            for chunk in all.as_bytes().chunks(16 * 1024) {
                ben.send_bytes(chunk).await;
            }
            ben.barrier_among_others().await;
            ben
        });
        // All of it is there before the first is answered.
        let _ben = sending.await.expect("a sender that is not held up");
        for id in 0..count {
            assert_eq!(ann.message_ids(1).await, [id.to_string()]);
            if id % 100 == 99 {
                ann.ack().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_17_what_is_put_aside_is_bounded() {
    let Fault {
        store,
        mut ann,
        lab: _lab,
        ..
    } = stuck().await;
    // While the first waits for the store no more than the bound is taken of what stands behind.
    ann.send(roster_set("r1")).await;
    let body = "x".repeat(200 * 1024);
    let message = format!("<message to='ann@a.test/one' type='chat'><body>{body}</body></message>");
    let mut taken = 0;
    while taken < 64 {
        let written = tokio::time::timeout(MS, ann.try_send(message.as_bytes())).await;
        if written.is_err() {
            break;
        }
        taken += 1;
    }
    assert!((4..=8).contains(&taken), "{taken} messages of 200 KiB");
    store.release();
}

#[tokio::test(start_paused = true)]
async fn im_sm_16_c6120_st_05_who_closes_is_told_of_what_failed_before_the_count() {
    let Fault {
        store,
        mut ann,
        mut ben,
        lab: _lab,
        ..
    } = stuck().await;
    ann.chat("ben@a.test", "lost").await;
    let ping = format!("<iq type='get' id='p'><ping xmlns='{}'/></iq>", ns::PING);
    ann.send(ping + "</stream:stream>").await;
    ben.message_ids(1).await;
    assert_eq!(
        ann.next().await.attr("id"),
        Some("p"),
        "while the store hangs"
    );
    let asked = Instant::now();
    store.settle(1, false);
    let error = ann.next().await;
    assert!(is_not_stored(&error, "lost"), "{error}");
    // Two at the beginning, then these.
    assert_eq!(ann.expect_ack().await, 3);
    ann.expect_closed().await;
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn im_sm_16_a_message_that_cannot_be_acknowledged_any_more_is_kept() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
    ann.presence("").await;
    ann.ack().await;
    ann.send(
        "<message to='ann@a.test' type='chat' id='m'><body>b</body></message>\
         <iq type='get' id='i'><ping xmlns='PING'/></iq></stream:stream>"
            .replace("PING", ns::PING),
    )
    .await;
    let mut got = Vec::new();
    let received = loop {
        match ann.receive().await {
            Received::Element(tree) if tree.name() == "a" => {
                break tree.attr("h").map(str::to_owned);
            }
            Received::Element(tree) => got.extend(tree.attr("id").map(str::to_owned)),
            _ => break None,
        }
    };
    assert_eq!(received.as_deref(), Some("3"));
    assert!(got.contains(&"i".to_owned()), "{got:?}");
    ann.expect_closed().await;
    let mut back = lab.wire_in_memory("ann@a.test/two").await;
    back.send("<presence/>").await;
    assert_eq!(back.next().await.attr("id"), Some("m"));
}

#[tokio::test(start_paused = true)]
async fn im_sm_10_a_cut_meant_for_the_old_transport_spares_the_new_one() {
    let lab = TestLab::with(["a.test"], |config| config.limits.outbox_items_hard = 16).await;
    let lab = lab.expect("a server");
    let store = lab.memory();
    let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
    let mut ben = lab.managed(Over::Memory, "ben@a.test/one").await;
    ann.presence("").await;
    ann.ask().await;
    ann.ack().await;
    let mut again = lab.unbound(Over::Memory, "ann@a.test").await;
    // The session, on its way to the new transport, waits for what it was given over the old one.
    store.hold();
    ann.chat("ben@a.test", "held").await;
    ann.ask().await;
    let lost = ann.notes();
    again.send_resume(lost.id(), lost.managed.received).await;
    ben.barrier().await;
    for _ in 0..17 {
        ben.send("<message to='ann@a.test/one' type='headline'><body>b</body></message>")
            .await;
    }
    ben.barrier().await;
    store.release();
    again.expect_resumed(&lost).await;
    again.expect_ack().await;
    assert_eq!(again.message_ids(17).await.len(), 17);
    again.ack().await;
    assert!(again.lives().await);
}

#[tokio::test(start_paused = true)]
async fn im_sm_02_enable_does_not_wait_long_for_a_store_that_hangs() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let store = lab.memory();
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    for (hangs, resumable) in [(1999, Some("true")), (2001, None)] {
        let mut ann = lab.wire_in_memory("ann@a.test/one").await;
        store.hold();
        ann.send(format!("<enable xmlns='{}' resume='true'/>", ns::SM))
            .await;
        ben.barrier().await;
        advance(MS * hangs).await;
        ben.barrier().await;
        store.release();
        let enabled = ann.expect_enabled().await;
        assert_eq!(enabled.attr("resume"), resumable, "{hangs} ms: {enabled}");
        // It counts all the same.
        ann.barrier().await;
        assert_eq!(ann.ask().await, 1);
        ann.close_managed().await;
    }
    // It does not wait for the end of that either.
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    store.hold();
    let asked = Instant::now();
    let enabled = ann.enable("resume='true'").await;
    assert_eq!(enabled.attr("resume"), None, "{enabled}");
    assert_eq!(asked.elapsed(), MS * 2000);
    store.release();
}
