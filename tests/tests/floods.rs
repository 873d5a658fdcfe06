//! More than anybody asked for: what is kept of it stays within the bounds of DESIGN 9, and nobody
//! else is delayed.
//!
//! `FLOOD_MB=200` plays the floods at their full size.

use std::time::Duration;
use tokio::time::{advance, timeout};
use xmpp_server::limits::Limits;
use xmpp_stream::ns;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Over, Received, TestLab, Tree};

/// Bytes of one message's body.
const BODY: usize = 64 * 1024;

fn flood_bytes() -> usize {
    let megabytes = std::env::var("FLOOD_MB").map_or(12, |text| text.parse().expect("a number"));
    megabytes * 1024 * 1024
}

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// Items and bytes in the queues of all sessions of an account.
fn load(lab: &TestLab, jid: &str) -> (usize, usize) {
    let account = lab.account_of(jid);
    let state = account.lock();
    let loads = state.sessions.iter().map(|entry| entry.outbox.load());
    loads.fold((0, 0), |sum, load| (sum.0 + load.0, sum.1 + load.1))
}

/// A session that has nothing to do with any of it is served at once.
async fn unharmed(bystander: &mut Wire) {
    let served = timeout(Duration::from_secs(5), bystander.barrier());
    served.await.expect("nobody waits for another's flood");
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reader {
    Plain,
    Managed,
    Resumable,
}

#[tokio::test]
async fn c6120_3_resource_constraint_a_reader_that_never_reads_costs_no_more_than_its_bound() {
    for reader in [Reader::Plain, Reader::Managed, Reader::Resumable] {
        for ty in ["headline", "chat"] {
            let lab = TestLab::with(["a.test"], |config| {
                config.limits.outbox_pause_max = Duration::ZERO;
                config.limits.offline_messages_max = 50;
            });
            let lab = lab.await.expect("a server");
            let mut by = lab.wire_in_memory("by@a.test/one").await;
            let mut ben = lab.wire_in_memory("ben@a.test/one").await;
            let mut deaf = lab.wire_in_memory("deaf@a.test/one").await;
            match reader {
                Reader::Plain => {}
                Reader::Managed => drop(deaf.enable("").await),
                Reader::Resumable => drop(deaf.enable("resume='true'").await),
            }
            deaf.send("<presence/>").await;
            deaf.barrier_among_others().await;
            let body = "x".repeat(BODY);
            let message =
                format!("<message to='deaf@a.test' type='{ty}'><body>{body}</body></message>");
            let limits = Limits::default();
            let bound = limits.outbox_bytes_hard_total() + message.len() + 1024;
            for sent in 0..flood_bytes() / BODY {
                ben.send(&message).await;
                if sent % 8 == 0 {
                    ben.barrier_among_others().await;
                    let (items, bytes) = load(&lab, "deaf@a.test");
                    assert!(bytes <= bound, "{reader:?}: {bytes} bytes");
                    assert!(items <= limits.outbox_items_hard + 1, "{items} items");
                    unharmed(&mut by).await;
                }
            }
            // Nothing is left of a session that ended, nor are its messages kept beyond the quota.
            let account = lab.account_of("deaf@a.test");
            assert!(account.lock().sessions.is_empty());
            assert!(account.lock().due.count() <= 50);
            let mut back = lab.wire_in_memory("deaf@a.test/two").await;
            back.send("<presence/>").await;
            let seen = back.barrier_seeing().await;
            let waited = seen.iter().filter(|tree| tree.name() == "message").count();
            assert_eq!(waited > 0, ty == "chat", "{reader:?}");
        }
    }
}

#[tokio::test]
async fn im_of_04_sessions_that_take_nothing_over_and_over_leave_a_bounded_backlog() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.outbox_pause_max = Duration::ZERO;
        config.limits.outbox_items_soft = 5;
        config.limits.outbox_items_hard = 100;
        config.limits.offline_messages_max = 10;
    });
    let lab = lab.await.expect("a server");
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    for round in 0..6_u32 {
        let mut deaf = lab.wire_in_memory(&format!("deaf@a.test/{round}")).await;
        deaf.enable("").await;
        deaf.send("<presence/>").await;
        deaf.next().await;
        for number in 0..150 {
            ben.chat("deaf@a.test", round * 150 + number).await;
        }
        ben.barrier_among_others().await;
        let waiting = lab.account_of("deaf@a.test").lock().due.count();
        assert!(waiting <= 10 + 2 * 100, "round {round}: {waiting} messages");
    }
}

#[tokio::test]
async fn c6121_pr_09_a_flood_of_presence_is_kept_once_for_each_sender() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.outbox_items_soft = 20;
        config.limits.outbox_items_hard = 200;
        config.limits.outbox_pause_max = Duration::ZERO;
    });
    let lab = lab.await.expect("a server");
    let mut by = lab.wire_in_memory("by@a.test/one").await;
    let mut deaf = lab.wire_in_memory("deaf@a.test/one").await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    deaf.presence("").await;
    let padding = "x".repeat(500);
    // The pipe in memory takes 64 KiB; everything else has to wait in the queue.
    for round in 0..2000 {
        ben.send(format!(
            "<presence to='deaf@a.test/one' id='{round}'><status>{padding}</status></presence>"
        ))
        .await;
        if round % 100 == 0 {
            ben.barrier().await;
            let (items, _) = load(&lab, "deaf@a.test");
            assert!(items <= 200, "{items}");
            unharmed(&mut by).await;
        }
    }
    ben.barrier().await;
    let seen = deaf.barrier_seeing().await;
    let ids: Vec<u32> = seen
        .iter()
        .filter_map(|tree| tree.attr("id")?.parse().ok())
        .collect();
    assert!(ids.is_sorted(), "the older never stands behind the newer");
    assert_eq!(ids.last(), Some(&1999), "the newest is not lost");
    assert!(ids.len() < 400, "{}", ids.len());
}

#[tokio::test]
async fn c6120_3_policy_violation_a_flood_of_requests_stops_being_read() {
    let lab = lab().await;
    let mut by = lab.wire_in_memory("by@a.test/one").await;
    let mut eve = lab.wire_in_memory("eve@a.test/one").await;
    let ping = format!(
        "<iq type='get' id='{}'><ping xmlns='{}'/></iq>",
        "i".repeat(900),
        ns::PING
    );
    let limits = Limits::default();
    let mut taken = 0;
    // She reads no answer; at some point nothing of hers is taken any more.
    loop {
        let sent = timeout(Duration::from_millis(200), eve.try_send(ping.as_bytes())).await;
        if sent.is_err() {
            break;
        }
        taken += 1;
        assert!(taken < 20_000, "all of it is read");
        if taken % 200 == 0 {
            unharmed(&mut by).await;
        }
    }
    let (items, bytes) = load(&lab, "eve@a.test");
    assert!(items <= limits.outbox_items_hard / 2 + 64, "{items}");
    assert!(
        bytes <= limits.outbox_bytes_hard_total() / 2 + 64 * 1024,
        "{bytes}"
    );
    unharmed(&mut by).await;
}

#[tokio::test(start_paused = true)]
async fn c6120_3_connection_timeout_half_open_connections_and_slow_handshakes() {
    let lab = lab().await;
    let mut by = lab.wire_in_memory("by@a.test/one").await;
    let mut half = Vec::new();
    for nth in 0..200 {
        let mut wire = lab.raw_in_memory("a.test");
        match nth % 4 {
            // Nothing at all; the beginning of a header; TLS that does not begin, or not go on.
            0 => {}
            1 => wire.send("<?xml version='1.0'?><stream:str").await,
            2 => wire.start_tls().await,
            _ => {
                wire.start_tls().await;
                wire.send_bytes(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await;
            }
        }
        half.push(wire);
    }
    unharmed(&mut by).await;
    let mut login = lab.wire_in_memory("late@a.test/one").await;
    login.barrier().await;
    // A byte now and then gains no time.
    for _ in 0..29 {
        for (nth, wire) in half.iter_mut().enumerate() {
            match nth % 4 {
                1 => drop(wire.try_send(b" ").await),
                3 => drop(wire.try_send(&[0]).await),
                _ => {}
            }
        }
        advance(Duration::from_secs(1)).await;
    }
    unharmed(&mut by).await;
    advance(Duration::from_secs(7)).await;
    for mut wire in half {
        while !matches!(wire.receive().await, Received::Closed(_)) {}
    }
    unharmed(&mut by).await;
}

#[tokio::test]
async fn im_sm_02_odd_words_of_stream_management_harm_nobody() {
    let lab = lab().await;
    let mut by = lab.wire_in_memory("by@a.test/one").await;
    let sm = ns::SM;
    for (odd, condition) in [
        (format!("<a xmlns='{sm}'/>"), "bad-format"),
        (format!("<a xmlns='{sm}' h='x'/>"), "bad-format"),
        (format!("<a xmlns='{sm}' h='-1'/>"), "bad-format"),
        (format!("<a xmlns='{sm}' h='4294967296'/>"), "bad-format"),
        (format!("<resume xmlns='{sm}'/>"), "bad-format"),
        (
            format!("<resumed xmlns='{sm}' h='1' previd='x'/>"),
            "unsupported-stanza-type",
        ),
        (
            format!("<enabled xmlns='{sm}'/>"),
            "unsupported-stanza-type",
        ),
        (format!("<enable xmlns='{sm}'/>"), "policy-violation"),
        (
            "<enable xmlns='urn:xmpp:sm:2'/>".into(),
            "unsupported-stanza-type",
        ),
    ] {
        let mut eve = lab.managed(Over::Memory, "eve@a.test").await;
        eve.send(&odd).await;
        let seen: Vec<Tree> = eve.until_stream_error().await;
        let error = seen.last().expect("an error");
        assert!(
            error.child_ns(ns::STREAM_ERRORS, condition).is_some(),
            "{odd}: {error}"
        );
        unharmed(&mut by).await;
    }
    // A flood of questions is answered, and nothing piles up.
    let mut eve = lab.managed(Over::Memory, "eve@a.test").await;
    for _ in 0..1000 {
        eve.send(format!("<r xmlns='{sm}'/>").repeat(10)).await;
        assert_eq!(eve.expect_ack().await, 0);
    }
    unharmed(&mut by).await;
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_05_a_session_sends_so_many_of_a_kind() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.broadcasts_max = 3;
        config.limits.subscribes_max = 2;
    });
    let lab = lab.await.expect("a server");
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    ben.presence("").await;
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    for minute in 0..2 {
        for number in 0..5 {
            ann.send(format!("<presence id='b{number}'/>")).await;
            let got = ann.next().await;
            assert_eq!(got.attr("id"), Some(&*format!("b{number}")), "{got}");
            let error = got.child("error");
            let policy = error.and_then(|it| it.child_ns(ns::STANZAS, "policy-violation"));
            assert_eq!(policy.is_some(), number >= 3, "{minute}: {got}");
            // It may be sent again later, as it is.
            let kind = error.map(|it| it.attr("type"));
            assert!(kind.is_none_or(|it| it == Some("wait")), "{got}");
        }
        for number in 0..4 {
            let request = "<presence type='subscribe' to='ben@a.test'";
            ann.send(format!("{request} id='s{number}'/>")).await;
            let seen = ann.barrier_seeing().await;
            let error = seen.iter().find(|tree| tree.attr("type") == Some("error"));
            assert_eq!(error.is_some(), number >= 2, "{minute}: {seen:?}");
        }
        // What ends something, and what is for one, is never too much.
        for text in [
            "<presence type='unavailable'/>",
            "<presence to='ben@a.test/one'/>",
        ] {
            ann.send(text).await;
        }
        let seen = ann.barrier_seeing().await;
        assert!(
            seen.iter().all(|tree| tree.attr("type") != Some("error")),
            "{seen:?}"
        );
        advance(Duration::from_secs(60)).await;
    }
}
