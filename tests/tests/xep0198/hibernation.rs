//! A session that waits for its client, and how that ends.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::advance;
use xmpp_server::config::Conflict;
use xmpp_stream::ns;
use xmpp_testkit::managed::ids;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Lost, Over, TestLab, Tree};

const RESUME: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

/// Nobody is asked after for being silent: the clock runs for hours here.
async fn lab() -> TestLab {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.stream.silence_max = Duration::from_secs(1_000_000);
    });
    lab.await.expect("a server")
}

/// Ann, managed and available, whom ben can see; everything acknowledged.
async fn friends(lab: &TestLab) -> (Wire, Wire) {
    let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    ann.befriend(&mut ben).await;
    ann.ack().await;
    ann.barrier().await;
    ann.ack().await;
    (ann, ben)
}

/// Once the session's task has seen that its connection is gone.
async fn lost(lab: &TestLab, wire: Wire) -> Lost {
    let lost = wire.lose();
    let account = lab.account_of(&lost.jid);
    let resource = lost.jid.split_once('/').expect("a full JID").1.to_owned();
    loop {
        match account.lock().resource(&resource) {
            Some(entry) if !entry.hibernating => {}
            _ => return lost,
        }
        tokio::task::yield_now().await;
    }
}

async fn login_messages(lab: &TestLab, jid: &str) -> Vec<Tree> {
    let mut wire = lab.wire_in_memory(jid).await;
    wire.send("<presence/>").await;
    let mut seen = wire.barrier_seeing().await;
    wire.close().await;
    seen.retain(|tree| tree.name() == "message");
    seen
}

fn bodies(messages: &[Tree]) -> Vec<String> {
    let body = |tree: &Tree| tree.child("body").map(Tree::text).unwrap_or_default();
    messages.iter().map(body).collect()
}

/// Clients show a message without a stamp as written when it was read.
#[tokio::test(start_paused = true)]
async fn im_sm_07_what_waited_for_the_client_says_when_it_came() {
    let lab = lab().await;
    let (ann, mut ben) = friends(&lab).await;
    let lost = lost(&lab, ann).await;
    ben.chat("ann@a.test", "late").await;
    ben.barrier().await;
    advance(60 * SECOND).await;
    let mut ann = lab.resume(Over::Memory, lost).await;
    let late = ann.next().await;
    assert_eq!(late.attr("id"), Some("late"), "{late}");
    let delay = late.child_ns(ns::DELAY, "delay");
    assert_eq!(delay.and_then(|delay| delay.attr("from")), Some("a.test"));
    ben.chat("ann@a.test", "now").await;
    loop {
        let next = ann.next().await;
        if next.attr("id") == Some("now") {
            assert!(next.child_ns(ns::DELAY, "delay").is_none(), "{next}");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_13_contacts_see_no_end_before_the_time_is_over_and_one_then() {
    let lab = lab().await;
    let (ann, mut ben) = friends(&lab).await;
    let lost = lost(&lab, ann).await;
    ben.barrier().await;
    advance(RESUME - SECOND).await;
    ben.barrier().await;
    advance(SECOND).await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    let mut back = lab.unbound(Over::Memory, "ann@a.test").await;
    back.send_resume(lost.id(), lost.managed.received).await;
    assert!(back.expect_failed("item-not-found").await.is_some());
    ben.barrier().await;
}

#[tokio::test(start_paused = true)]
async fn im_sm_13_each_absence_has_its_time() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    for _ in 0..3 {
        let lost = lost(&lab, ann).await;
        advance(RESUME - SECOND).await;
        ann = lab.resume(Over::Memory, lost).await;
        ann.barrier().await;
        ann.ack().await;
        ben.barrier().await;
    }
    drop(ann);
    ben.barrier().await;
    advance(RESUME).await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
}

#[tokio::test(start_paused = true)]
async fn im_sm_03_the_time_that_the_client_asked_for_is_kept() {
    let lab = lab().await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    for (number, asked, seconds) in [
        (1, "max='20'", 20),
        (2, "max='3600'", 3600),
        (3, "max='9999'", 3600),
    ] {
        let jid = format!("ann{number}@a.test/one");
        let mut ann = lab.wire_in_memory(&jid).await;
        ann.enable(&format!("resume='true' {asked}")).await;
        ann.befriend(&mut ben).await;
        lost(&lab, ann).await;
        advance(Duration::from_secs(seconds) - SECOND).await;
        ben.barrier().await;
        advance(SECOND).await;
        ben.expect_presence_unavailable(&jid).await;
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_13_without_resumption_a_lost_connection_is_the_end() {
    let lab = lab().await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    ann.enable("").await;
    ann.befriend(&mut ben).await;
    ann.ack().await;
    ann.barrier().await;
    ben.chat("ann@a.test", 1).await;
    ann.message_ids(1).await;
    drop(ann);
    ben.expect_presence_unavailable("ann@a.test/one").await;
    // It was written but not acknowledged: it is not lost.
    assert_eq!(bodies(&login_messages(&lab, "ann@a.test/two").await), ["1"]);
}

#[tokio::test]
async fn im_sm_14_what_came_meanwhile_follows_in_its_order() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ben.send("<message to='ann@a.test/one' id='0'><body>0</body></message>")
        .await;
    ben.barrier().await;
    ann.message_ids(1).await;
    let mut lost = lost(&lab, ann).await;
    lost.managed.received -= 1;
    ben.chat("ann@a.test", 1).await;
    ben.send("<presence><show>away</show></presence>").await;
    ben.next().await;
    ben.send(format!(
        "<iq type='get' id='2' to='ann@a.test/one'><ping xmlns='{}'/></iq>",
        ns::PING
    ))
    .await;
    ben.chat("ann@a.test/one", 3).await;
    ben.send("<presence><show>dnd</show></presence>").await;
    ben.next().await;
    ben.send("<message to='ann@a.test' type='headline' id='4'><body>4</body></message>")
        .await;
    ben.barrier().await;
    let mut ann = lab.resume(Over::Memory, lost).await;
    ann.message_ids(2).await;
    for (name, id) in [
        ("presence", None),
        ("iq", Some("2")),
        ("message", Some("3")),
    ] {
        let got = ann.next().await;
        assert_eq!((got.name(), got.attr("id")), (name, id), "{got}");
    }
    assert_eq!(
        ann.next().await.child("show").map(Tree::text).as_deref(),
        Some("dnd")
    );
    assert_eq!(ann.next().await.attr("id"), Some("4"));
    // The request is still open: its answer is taken.
    ann.send("<iq type='result' id='2' to='ben@a.test/one'/>")
        .await;
    assert_eq!(ben.next().await.attr("id"), Some("2"));
    ann.ack().await;
    ann.barrier().await;
    // Nothing of it waits as well.
    ann.ack().await;
    ann.ask().await;
    assert!(login_messages(&lab, "ann@a.test/two").await.is_empty());
}

#[tokio::test]
async fn im_sm_14_presence_directed_presence_and_roster_interest_survive() {
    let lab = lab().await;
    let (ann, mut ben) = friends(&lab).await;
    let mut carl = lab.wire_in_memory("carl@a.test/one").await;
    let mut ann = ann;
    ann.send("<presence to='carl@a.test/one'/>").await;
    assert_eq!(carl.next().await.attr("from"), Some("ann@a.test/one"));
    let lost = lost(&lab, ann).await;
    let mut ann = lab.resume(Over::Memory, lost).await;
    ann.ask().await;
    let mut two = lab.wire_in_memory("ann@a.test/two").await;
    two.iq(
        "set",
        "ann@a.test",
        &format!(
            "<query xmlns='{}'><item jid='x@a.test'/></query>",
            ns::ROSTER
        ),
    )
    .await;
    let push = ann.next().await;
    assert!(push.child_ns(ns::ROSTER, "query").is_some(), "{push}");
    ben.send("<presence to='ann@a.test' type='probe'/>").await;
    ben.chat("ann@a.test", 1).await;
    ann.message_ids(1).await;
    ann.send("</stream:stream>").await;
    carl.expect_presence_unavailable("ann@a.test/one").await;
    ben.until("unavailable").await;
}

#[tokio::test(start_paused = true)]
async fn im_sm_07_what_was_not_acknowledged_at_the_end_goes_where_it_belongs() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    // Received, not acknowledged.
    ben.chat("ann@a.test/one", "written").await;
    ann.message_ids(1).await;
    lost(&lab, ann).await;
    let kinds = [
        ("chat", "chat@"),
        ("normal", "normal@"),
        ("headline", "no@"),
        ("error", "no@"),
    ];
    for (ty, body) in kinds {
        ben.send(format!(
            "<message to='ann@a.test/one' type='{ty}' id='{ty}'><body>{body}</body></message>"
        ))
        .await;
    }
    ben.send(format!(
        "<message to='ann@a.test/one' type='chat' id='s'><active xmlns='{}'/></message>",
        "http://jabber.org/protocol/chatstates"
    ))
    .await;
    for ty in ["get", "set", "result"] {
        ben.send(format!(
            "<iq type='{ty}' id='{ty}' to='ann@a.test/one'><q xmlns='urn:x'/></iq>"
        ))
        .await;
    }
    ben.barrier().await;
    advance(RESUME - SECOND).await;
    ben.barrier().await;
    advance(SECOND).await;
    let seen = ben.barrier_over(3).await;
    let seen: Vec<_> = seen
        .iter()
        .map(|tree| (tree.name(), tree.attr("id")))
        .collect();
    // Answers to requests, nothing for a result, and the end of the session.
    let expected = [("iq", Some("get")), ("iq", Some("set")), ("presence", None)];
    assert_eq!(seen, expected);
    let waited = login_messages(&lab, "ann@a.test/two").await;
    assert_eq!(bodies(&waited), ["written", "chat@", "normal@"]);
    assert!(
        waited
            .iter()
            .all(|tree| tree.child_ns(ns::DELAY, "delay").is_some())
    );
    assert!(
        login_messages(&lab, "ann@a.test/two").await.is_empty(),
        "once"
    );
}

#[tokio::test(start_paused = true)]
async fn im_sm_07_another_session_gets_it_with_the_time_at_which_it_came() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    let mut two = lab.wire_in_memory("ann@a.test/two").await;
    two.presence("<priority>-1</priority>").await;
    two.barrier_among_others().await;
    ann.barrier_among_others().await;
    ann.ack().await;
    ann.ask().await;
    lost(&lab, ann).await;
    for id in 0..3 {
        ben.chat("ann@a.test", id).await;
    }
    ben.barrier_among_others().await;
    advance(Duration::from_secs(100)).await;
    two.barrier().await;
    // Now it wants messages; those are in the hands of a session that may come back.
    two.presence("<priority>1</priority>").await;
    two.barrier().await;
    advance(Duration::from_secs(200)).await;
    let got: Vec<_> = [two.next().await, two.next().await, two.next().await]
        .into_iter()
        .filter(|tree| tree.name() == "message")
        .collect();
    assert_eq!(bodies(&got), ["0", "1", "2"]);
    for message in got {
        let delay = message.child_ns(ns::DELAY, "delay").expect("a delay");
        assert_eq!(delay.attr("from"), Some("a.test"));
    }
    two.expect_presence_unavailable("ann@a.test/one").await;
    assert!(login_messages(&lab, "ann@a.test/three").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn im_sm_09_the_count_of_an_ended_stream_is_told_for_two_days() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ann.chat("ben@a.test/one", 1).await;
    ben.message_ids(1).await;
    let handled = ann.ask().await;
    let lost = lost(&lab, ann).await;
    advance(RESUME).await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    for (wait, known) in [
        (Duration::ZERO, Some(handled)),
        (Duration::from_secs(48 * 3600 - 60), Some(handled)),
        (Duration::from_secs(60), None),
    ] {
        advance(wait).await;
        let mut back = lab.unbound(Over::Memory, "ann@a.test").await;
        back.send_resume(lost.id(), 0).await;
        assert_eq!(back.expect_failed("item-not-found").await, known);
    }
}

#[tokio::test]
async fn im_sm_13_a_fresh_session_of_the_same_resource_takes_the_place() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ben.chat("ann@a.test/one", 1).await;
    ann.message_ids(1).await;
    let handled = ann.ask().await;
    let lost = lost(&lab, ann).await;
    ben.chat("ann@a.test", 2).await;
    ben.barrier().await;
    let mut fresh = lab.managed(Over::Memory, "ann@a.test/one").await;
    // The old one has ended, and contacts know, before the new one is bound.
    ben.expect_presence_unavailable("ann@a.test/one").await;
    fresh.send("<presence/>").await;
    let seen = fresh.barrier_seeing().await;
    let messages: Vec<_> = seen
        .into_iter()
        .filter(|tree| tree.name() == "message")
        .collect();
    assert_eq!(
        bodies(&messages),
        ["1", "2"],
        "in order, the first perhaps again"
    );
    assert_eq!(ben.next().await.attr("from"), Some("ann@a.test/one"));
    ben.barrier().await;
    let mut back = lab.unbound(Over::Memory, "ann@a.test").await;
    back.send_resume(lost.id(), 0).await;
    assert_eq!(back.expect_failed("item-not-found").await, Some(handled));
}

#[tokio::test]
async fn im_sm_13_a_live_session_keeps_its_resource() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    let mut other = lab.unbound(Over::Memory, "ann@a.test").await;
    assert_ne!(other.bind(Some("one")).await, "ann@a.test/one");
    ben.chat("ann@a.test/one", 1).await;
    ann.message_ids(1).await;
}

#[tokio::test(start_paused = true)]
async fn im_sm_13_a_session_that_is_replaced_is_not_waited_for() {
    for dead in [false, true] {
        let lab = TestLab::with(["a.test"], |config| {
            config.c2s.conflict = Conflict::KickOld;
        });
        let lab = lab.await.expect("a server");
        let (mut ann, link) = lab.managed_over_link("ann@a.test/one").await;
        ann.presence("").await;
        let mut ben = lab.wire_in_memory("ben@a.test/one").await;
        ben.chat("ann@a.test", 1).await;
        ann.message_ids(1).await;
        if dead {
            link.drop_everything();
        }
        let began = tokio::time::Instant::now();
        let mut fresh = lab.unbound(Over::Memory, "ann@a.test").await;
        if dead {
            // Whoever does not answer is given a while to do so.
            advance(Duration::from_secs(4)).await;
        }
        assert_eq!(fresh.bind(Some("one")).await, "ann@a.test/one");
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        if !dead {
            assert_eq!(ann.expect_ack().await, 1);
            ann.expect_stream_error("conflict").await;
        }
        fresh.send("<presence/>").await;
        let seen = fresh.barrier_seeing().await;
        let messages = seen.iter().filter(|tree| tree.name() == "message");
        assert_eq!(messages.count(), 1, "{seen:?}");
    }
}

#[tokio::test]
async fn im_sm_09_a_session_that_the_operator_ends_while_it_waits() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    let handled = ann.ask().await;
    let lost = lost(&lab, ann).await;
    ben.chat("ann@a.test", 1).await;
    ben.barrier().await;
    lab.kick("ann@a.test/one").await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    let mut back = lab.unbound(Over::Memory, "ann@a.test").await;
    back.send_resume(lost.id(), lost.managed.received).await;
    assert_eq!(back.expect_failed("item-not-found").await, Some(handled));
    assert_eq!(bodies(&login_messages(&lab, "ann@a.test/two").await), ["1"]);
}

#[tokio::test]
async fn im_sm_09_a_session_that_the_operator_ends_while_it_is_connected() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ben.chat("ann@a.test", 1).await;
    ann.message_ids(1).await;
    let notes = ann.notes();
    lab.kick("ann@a.test/one").await;
    let handled = ann.expect_ack().await;
    ann.expect_stream_error("policy-violation").await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    let mut back = lab.unbound(Over::Memory, "ann@a.test").await;
    back.send_resume(notes.id(), notes.managed.received).await;
    assert_eq!(back.expect_failed("item-not-found").await, Some(handled));
    // It was not acknowledged.
    assert_eq!(bodies(&login_messages(&lab, "ann@a.test/two").await), ["1"]);
}

#[tokio::test]
async fn im_sm_11_a_removed_account_has_no_session_to_resume() {
    let lab = lab().await;
    let (ann, mut ben) = friends(&lab).await;
    let mut closed = lab.managed(Over::Memory, "ann@a.test/two").await;
    let notes = closed.notes();
    closed.send("</stream:stream>").await;
    closed.expect_ack().await;
    closed.expect_closed().await;
    let lost = lost(&lab, ann).await;
    lab.remove("ann@a.test").await;
    ben.until("unavailable").await;
    // Whoever takes the name later does not get at what was before, and is told nothing of it.
    let mut heir = lab.unbound(Over::Memory, "ann@a.test").await;
    for id in [lost.id(), notes.id()] {
        heir.send_resume(id, 0).await;
        assert_eq!(heir.expect_failed("item-not-found").await, None);
    }
    assert!(login_messages(&lab, "ann@a.test/two").await.is_empty());
}

#[tokio::test]
async fn im_sm_13_the_server_goes_down_without_waiting_for_absent_clients() {
    let lab = lab().await;
    let (ann, mut ben) = friends(&lab).await;
    lost(&lab, ann).await;
    let core = Arc::clone(lab.handle().core());
    let see = async move {
        let seen = ben.until_stream_error().await;
        let error = seen.last().expect("an error");
        assert!(
            error
                .child_ns(ns::STREAM_ERRORS, "system-shutdown")
                .is_some()
        );
    };
    tokio::join!(lab.shutdown(), see);
    assert!(
        core.registry
            .peek("ann@a.test")
            .expect("loaded")
            .lock()
            .sessions
            .is_empty()
    );
}

#[tokio::test]
async fn im_sm_17_a_waiting_session_ends_at_the_hard_bound_and_nothing_is_lost() {
    for (sent, lives) in [(20, true), (21, false)] {
        let lab = TestLab::with(["a.test"], |config| config.limits.outbox_items_hard = 20).await;
        let lab = lab.expect("a server");
        let (ann, mut ben) = friends(&lab).await;
        let lost = lost(&lab, ann).await;
        for id in 0..sent {
            ben.chat("ann@a.test", id).await;
        }
        let seen = ben.barrier_seeing().await;
        assert_eq!(seen.is_empty(), lives, "{seen:?}");
        if lives {
            let mut ann = lab.resume(Over::Memory, lost).await;
            assert_eq!(ann.message_ids(sent as usize).await, ids(0..sent));
        } else {
            let waited = login_messages(&lab, "ann@a.test/two").await;
            assert_eq!(bodies(&waited), ids(0..sent));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_13_sessions_that_want_no_messages_wait_as_well() {
    let lab = lab().await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    for presence in ["", "<presence><priority>-1</priority></presence>"] {
        let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
        ann.send(presence).await;
        ann.barrier_among_others().await;
        ann.ack().await;
        ann.ask().await;
        let lost = lost(&lab, ann).await;
        ben.chat("ann@a.test/one", format!("full{}", presence.len()))
            .await;
        ben.chat("ann@a.test", format!("bare{}", presence.len()))
            .await;
        ben.barrier().await;
        let mut ann = lab.resume(Over::Memory, lost).await;
        assert_eq!(
            ann.message_ids(1).await,
            [format!("full{}", presence.len())]
        );
        ann.ack().await;
        ann.barrier().await;
        ann.ack().await;
        // What was for whoever wants messages has waited: also for this one, once it does.
        ann.send("<presence/>").await;
        let seen = ann.barrier_seeing().await;
        let seen: Vec<_> = seen
            .into_iter()
            .filter(|tree| tree.name() == "message")
            .collect();
        assert_eq!(bodies(&seen), [format!("bare{}", presence.len())]);
        ann.ack().await;
        ann.send("</stream:stream>").await;
        ann.expect_ack().await;
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_13_unavailable_before_the_loss_is_not_told_again() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ann.send("<presence type='unavailable'/>").await;
    ann.barrier_among_others().await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    lost(&lab, ann).await;
    advance(RESUME).await;
    ben.barrier().await;
    advance(SECOND).await;
    ben.barrier().await;
}

/// Ann's login brings more than half of her queue's hard bound at once.
async fn crowded() -> (TestLab, Vec<Wire>) {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.outbox_items_soft = 100;
        config.limits.outbox_items_hard = 40;
    });
    let lab = lab.await.expect("a server");
    let mut ann = lab.wire_in_memory("ann@a.test/first").await;
    let mut ben = lab.wire_in_memory("ben@a.test/0").await;
    ann.befriend(&mut ben).await;
    ann.close().await;
    ben.until("unavailable").await;
    let mut many = vec![ben];
    for number in 1..30 {
        let mut more = lab.wire_in_memory(&format!("ben@a.test/{number}")).await;
        more.presence("<priority>-1</priority>").await;
        many.push(more);
    }
    (lab, many)
}

async fn wait_for_congestion(lab: &TestLab) {
    let account = lab.account_of("ann@a.test");
    while account
        .lock()
        .resource("one")
        .is_none_or(|one| one.outbox.load().0 <= 20)
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_13_a_connection_lost_in_the_middle_of_a_login_leaves_no_ghost() {
    let (lab, mut many) = crowded().await;
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    ann.enable("").await;
    ann.send("<presence/>").await;
    wait_for_congestion(&lab).await;
    let began = tokio::time::Instant::now();
    drop(ann);
    let ben = many.first_mut().expect("a session");
    ben.until("unavailable").await;
    let ghost = began.elapsed();
    assert!(ghost < SECOND, "{ghost:?}");
}

#[tokio::test(start_paused = true)]
async fn im_sm_10_a_client_that_comes_back_is_not_kept_by_what_its_login_brings() {
    let (lab, _many) = crowded().await;
    let (mut ann, link) = lab.managed_over_link("ann@a.test/one").await;
    ann.send("<presence/>").await;
    wait_for_congestion(&lab).await;
    let began = tokio::time::Instant::now();
    link.drop_everything();
    let lost = ann.lose();
    let back = lab.resume(Over::Memory, lost).await;
    let waited = began.elapsed();
    assert!(waited < SECOND, "{waited:?}");
    drop(back);
}
