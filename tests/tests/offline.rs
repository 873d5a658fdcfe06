//! Messages that wait for their recipient (XEP-0160, XEP-0203, XEP-0334), over the wire: rows
//! `im_of_NN`; with them what else a session draws when it becomes available.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use xmpp_server::config::Storage;
use xmpp_stream::ns;
use xmpp_testkit::managed::ids;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Over, TestLab, Tree};

const BODY: &str = "<body>b</body>";
const HINT: &str = "urn:xmpp:hints";
const STATES: &str = "http://jabber.org/protocol/chatstates";

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// The ids of messages among these.
fn messages(seen: &[Tree]) -> Vec<&str> {
    let messages = seen.iter().filter(|tree| tree.name() == "message");
    messages
        .map(|tree| tree.attr("id").unwrap_or("none"))
        .collect()
}

/// Becomes available and gives everything that comes with it.
async fn come(wire: &mut Wire, presence: &str) -> Vec<Tree> {
    wire.send(presence).await;
    wire.barrier_seeing().await
}

async fn send(wire: &mut Wire, attributes: &str, payload: &str) {
    wire.send(format!("<message {attributes}>{payload}</message>"))
        .await;
}

#[tokio::test]
async fn im_of_01_normal_and_chat_wait_and_nothing_else() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let active = format!("<active xmlns='{STATES}'/>");
    let both = format!("{BODY}{active}");
    let receipt = "<received xmlns='urn:xmpp:receipts' id='x'/>";
    let marker = "<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>";
    let stored = format!("{marker}<store xmlns='{HINT}'/>");
    let omemo =
        "<encrypted xmlns='eu.siacs.conversations.axolotl'/><store xmlns='urn:xmpp:hints'/>";
    // id, attributes, payload, kept, answered with an error
    let cases = [
        ("chat", "type='chat'", BODY, true, false),
        ("normal", "", BODY, true, false),
        ("unknown", "type='what'", BODY, true, false),
        (
            "subject",
            "type='normal'",
            "<subject>s</subject>",
            true,
            false,
        ),
        ("both", "type='chat'", &both, true, false),
        ("omemo", "type='chat'", omemo, true, false),
        ("stored", "type='chat'", &stored, true, false),
        ("state", "type='chat'", &active, false, false),
        ("receipt", "type='chat'", receipt, false, false),
        ("marker", "type='chat'", marker, false, false),
        ("groupchat", "type='groupchat'", BODY, false, true),
        ("headline", "type='headline'", BODY, false, false),
        ("error", "type='error'", BODY, false, false),
        ("empty", "type='chat'", "", false, true),
    ];
    for to in ["ann@a.test", "ann@a.test/gone"] {
        let mut expected = Vec::new();
        for (id, attributes, payload, kept, error) in cases {
            // To a resource that has gone only a chat waits (RFC 6121 section 8.5.3.2.1).
            let chat = attributes.contains("'chat'") || to == "ann@a.test";
            let id = format!("{id}{}", to.len());
            send(
                &mut ben,
                &format!("to='{to}' id='{id}' {attributes}"),
                payload,
            )
            .await;
            let seen = ben.barrier_seeing().await;
            let refused = error || (kept && !chat);
            assert_eq!(
                messages(&seen).len(),
                usize::from(refused),
                "{id}: {seen:?}"
            );
            if refused {
                let text = seen[0].to_string();
                assert!(text.contains("service-unavailable"), "{id}: {text}");
            }
            if kept && chat {
                expected.push(id);
            }
        }
        let mut ann = lab.wire("ann@a.test/one").await;
        let seen = come(&mut ann, "<presence/>").await;
        assert_eq!(messages(&seen), expected, "{to}");
        ann.close().await;
    }
}

#[tokio::test]
async fn im_of_02_once_and_in_the_order_in_which_they_came() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let mut carl = lab.wire("carl@a.test/one").await;
    for round in 0..60 {
        ben.chat("ann@a.test", 2 * round).await;
        ben.barrier().await;
        carl.chat("ann@a.test", 2 * round + 1).await;
        carl.barrier().await;
    }
    let mut ann = lab.wire("ann@a.test/one").await;
    // Neither login nor a request brings them: presence does.
    ann.roster_get().await;
    let seen = come(&mut ann, "<presence/>").await;
    assert_eq!(messages(&seen), ids(0..120));
    let next = come(&mut ann, "<presence type='unavailable'/><presence/>").await;
    assert!(messages(&next).is_empty());
    let mut two = lab.wire("ann@a.test/two").await;
    assert!(messages(&come(&mut two, "<presence/>").await).is_empty());
}

#[tokio::test]
async fn im_of_02_a_negative_priority_gets_none_until_it_rises() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ben.chat("ann@a.test", 1).await;
    ben.barrier().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let below = "<presence><priority>-1</priority></presence>";
    assert!(messages(&come(&mut ann, below).await).is_empty());
    // With a negative priority alone there is nobody for a message: it waits as well.
    ben.chat("ann@a.test", 2).await;
    ben.barrier().await;
    assert!(messages(&ann.barrier_seeing().await).is_empty());
    // Nor does directed presence bring any.
    ann.send("<presence to='ben@a.test'/>").await;
    ann.barrier().await;
    let zero = "<presence><priority>0</priority></presence>";
    assert_eq!(messages(&come(&mut ann, zero).await), ["1", "2"]);
    assert!(messages(&come(&mut ann, below).await).is_empty());
    ben.chat("ann@a.test", 3).await;
    ben.barrier_among_others().await;
    assert_eq!(messages(&come(&mut ann, zero).await), ["3"]);
}

#[tokio::test]
async fn im_of_02_the_first_of_several_devices_gets_them() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    for id in 0..3 {
        ben.chat("ann@a.test", id).await;
    }
    ben.barrier().await;
    let mut below = lab.wire("ann@a.test/below").await;
    let mut first = lab.wire("ann@a.test/first").await;
    let mut second = lab.wire("ann@a.test/second").await;
    let low = "<presence><priority>-5</priority></presence>";
    assert!(messages(&come(&mut below, low).await).is_empty());
    assert_eq!(messages(&come(&mut first, "<presence/>").await), ids(0..3));
    let high = "<presence><priority>9</priority></presence>";
    assert!(messages(&come(&mut second, high).await).is_empty());
}

#[tokio::test]
async fn im_of_03_each_bears_the_time_at_which_it_came() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let clock = lab.handle().core().clock.clone();
    let before = clock.stamp();
    ben.chat("ann@a.test", 1).await;
    ben.barrier().await;
    let after = clock.stamp();
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.send("<presence/>").await;
    let seen = ann.barrier_seeing().await;
    let message = seen
        .iter()
        .find(|tree| tree.name() == "message")
        .expect("one");
    assert_eq!(message.attr("from"), Some("ben@a.test/one"));
    assert_eq!(message.attr("to"), Some("ann@a.test"));
    let delay = message.child_ns(ns::DELAY, "delay").expect("a delay");
    assert_eq!(delay.attr("from"), Some("a.test"));
    let stamp = delay.attr("stamp").expect("a stamp");
    // To the second, as UTC.
    assert!(stamp.ends_with('Z') && stamp.len() >= 20, "{stamp}");
    let second = |stamp: &str| stamp[..19].to_owned();
    assert!(second(&before) <= second(stamp) && second(stamp) <= second(&after));
}

#[tokio::test]
async fn im_of_04_a_full_queue_is_told_to_the_sender_alone() {
    let lab = TestLab::with(["a.test"], |config| config.limits.offline_messages_max = 5).await;
    let lab = lab.expect("a server");
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    for id in 0..5 {
        ben.chat("ann@a.test", id).await;
        ben.barrier().await;
    }
    for id in 5..7 {
        ben.chat("ann@a.test", id).await;
        let refused = ben.next().await;
        assert_eq!(refused.attr("id"), Some(id.to_string().as_str()));
        assert!(
            refused.to_string().contains("service-unavailable"),
            "{refused}"
        );
    }
    // Others have room of their own, and so has ann once she took some.
    ben.chat("carl@a.test", 7).await;
    lab.account("carl@a.test").await;
    ben.barrier_among_others().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    assert_eq!(messages(&come(&mut ann, "<presence/>").await), ids(0..5));
    // To whoever is there nothing is refused.
    for id in 10..20 {
        ben.chat("ann@a.test", id).await;
    }
    ben.barrier_among_others().await;
    assert_eq!(messages(&ann.barrier_seeing().await), ids(10..20));
}

#[tokio::test]
async fn im_of_05_one_delay_a_message_and_none_in_our_name_from_outside() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let delay = |from: &str| {
        format!(
            "<delay xmlns='{}' from='{from}' stamp='2001-01-01T00:00:00Z'/>",
            ns::DELAY
        )
    };
    for (id, from) in [("ours", "a.test"), ("other", "b.test"), ("none", "")] {
        let delay = if from.is_empty() {
            String::new()
        } else {
            delay(from)
        };
        let payload = format!("{BODY}{delay}");
        send(
            &mut ben,
            &format!("to='ann@a.test' type='chat' id='{id}'"),
            &payload,
        )
        .await;
    }
    ben.barrier().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let seen = come(&mut ann, "<presence/>").await;
    for (id, from, old) in [
        ("ours", "a.test", false),
        ("other", "b.test", true),
        ("none", "a.test", false),
    ] {
        let message = seen
            .iter()
            .find(|tree| tree.attr("id") == Some(id))
            .expect(id);
        let delays: Vec<_> = message
            .children()
            .filter(|child| child.is(ns::DELAY, "delay"))
            .collect();
        assert_eq!(delays.len(), 1, "{message}");
        assert_eq!(delays[0].attr("from"), Some(from), "{message}");
        let stamp = delays[0].attr("stamp").expect("a stamp");
        assert_eq!(stamp.starts_with("2001"), old, "{message}");
    }
}

#[tokio::test]
async fn im_of_05_a_message_that_did_not_wait_bears_none() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.presence("").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let spoof = format!(
        "{BODY}<delay xmlns='{}' from='a.test' stamp='2001-01-01T00:00:00Z'/>",
        ns::DELAY
    );
    send(&mut ben, "to='ann@a.test' type='chat'", &spoof).await;
    let got = ann.next().await;
    assert!(got.child_ns(ns::DELAY, "delay").is_none(), "{got}");
}

#[tokio::test]
async fn im_of_06_no_store_is_obeyed_and_no_permanent_store_waits() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    for hint in ["no-store", "no-permanent-store", "no-copy", "store"] {
        let payload = format!("{BODY}<{hint} xmlns='{HINT}'/>");
        send(
            &mut ben,
            &format!("to='ann@a.test' type='chat' id='{hint}'"),
            &payload,
        )
        .await;
        let seen = ben.barrier_seeing().await;
        assert_eq!(messages(&seen).len(), usize::from(hint == "no-store"));
    }
    let mut ann = lab.wire("ann@a.test/one").await;
    let seen = come(&mut ann, "<presence/>").await;
    assert_eq!(messages(&seen), ["no-permanent-store", "no-copy", "store"]);
    send(
        &mut ben,
        "to='ann@a.test' type='chat' id='live'",
        &format!("{BODY}<no-store xmlns='{HINT}'/>"),
    )
    .await;
    ben.barrier().await;
    assert_eq!(messages(&ann.barrier_seeing().await), ["live"]);
}

/// A data directory that goes with the value.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("xmpp-offline-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    async fn lab(&self) -> TestLab {
        let lab = TestLab::with(["a.test"], |config| {
            config.storage = Storage::Sqlite;
            config.data_dir = Some(self.0.clone());
        });
        lab.await.expect("a server")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn im_of_02_what_waits_survives_a_restart() {
    let dir = Dir::new();
    let lab = dir.lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.managed(Over::StartTls, "ben@a.test/one").await;
    for id in 0..120 {
        ben.chat("ann@a.test", id).await;
    }
    while ben.ask().await < 120 {}
    drop(ben);
    lab.shutdown().await;
    // What was taken is gone, what was not is there: again over a restart.
    let lab = dir.lab().await;
    let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
    ann.send("<presence/>").await;
    let mut got = Vec::new();
    while got.len() < 70 {
        let tree = ann.next().await;
        if tree.name() == "message" {
            got.push(tree.attr("id").expect("an id").to_owned());
        }
        if got.len() % 10 == 0 {
            ann.ack().await;
        }
    }
    assert_eq!(got, ids(0..70));
    ann.ack().await;
    ann.ask_among_others().await;
    drop(ann);
    lab.shutdown().await;
    let lab = dir.lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let seen = come(&mut ann, "<presence/>").await;
    assert_eq!(messages(&seen), ids(70..120));
    ann.close().await;
    lab.shutdown().await;
    let lab = dir.lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    assert!(messages(&come(&mut ann, "<presence/>").await).is_empty());
}

#[tokio::test]
async fn im_of_02_what_comes_during_the_flush_stands_behind_it() {
    let dir = Dir::new();
    for lab in [lab().await, dir.lab().await] {
        lab.account("ann@a.test").await;
        let mut ben = lab.wire("ben@a.test/one").await;
        for id in 0..300 {
            ben.chat("ann@a.test", id).await;
        }
        ben.barrier().await;
        let mut ann = lab.wire("ann@a.test/one").await;
        ann.send("<presence/>").await;
        for id in 300..400 {
            ben.chat("ann@a.test", id).await;
        }
        ben.barrier().await;
        let mut seen = Vec::new();
        while messages(&seen).len() < 400 {
            seen.push(ann.next().await);
        }
        assert_eq!(messages(&seen), ids(0..400));
        ann.barrier_among_others().await;
    }
}

#[tokio::test]
async fn im_of_02_a_flush_that_is_cut_short_leaves_the_rest_in_order() {
    for managed in [true, false] {
        let lab = lab().await;
        lab.account("ann@a.test").await;
        let mut ben = lab.wire("ben@a.test/one").await;
        let body = "x".repeat(2000);
        for id in 0..200 {
            ben.send(format!(
                "<message to='ann@a.test' type='chat' id='{id}'><body>{body}</body></message>"
            ))
            .await;
        }
        ben.barrier().await;
        let mut got = 0;
        for round in 0.. {
            assert!(round < 100, "the flush gets on");
            let mut ann = lab.wire_in_memory(&format!("ann@a.test/{round}")).await;
            if managed {
                ann.enable("").await;
            }
            ann.send("<presence/>").await;
            let mut seen = Vec::new();
            while messages(&seen).len() < 20 && messages(&seen).last() != Some(&"199") {
                seen.push(ann.next().await);
            }
            let ids_seen = messages(&seen);
            let first: u32 = ids_seen[0].parse().expect("a number");
            // A client that acknowledges gets each once; what was written to one that does not
            // counts as received, though some of it was still on its way.
            assert!(first >= got, "{first} again, after {got}");
            assert!(!managed || first == got, "{first} after {got}");
            assert_eq!(ids_seen, ids(first..first + ids_seen.len() as u32));
            got = first + ids_seen.len() as u32;
            if managed {
                ann.ack().await;
                ann.ask_among_others().await;
            }
            if got == 200 {
                break;
            }
        }
        let mut last = lab.wire("ann@a.test/last").await;
        assert!(messages(&come(&mut last, "<presence/>").await).is_empty());
    }
}

#[tokio::test]
async fn im_of_02_a_stream_that_is_closed_in_the_middle_of_a_flush_ends_at_once() {
    let lab = TestLab::with(["a.test"], |config| config.limits.outbox_items_soft = 20).await;
    let lab = lab.expect("a server");
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    for id in 0..200 {
        ben.chat("ann@a.test", id).await;
    }
    ben.barrier_among_others().await;
    let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
    ann.send("<presence/>").await;
    // A page is on its way, and no more is drawn until some of it was acknowledged.
    assert_eq!(ann.message_ids(50).await, ids(0..50));
    ann.send("</stream:stream>").await;
    ann.expect_ack().await;
    ann.expect_closed().await;
    let mut two = lab.wire("ann@a.test/two").await;
    assert_eq!(messages(&come(&mut two, "<presence/>").await), ids(0..200));
}

#[tokio::test]
async fn im_of_02_another_device_takes_over_an_unfinished_flush() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let body = "x".repeat(2000);
    for id in 0..300 {
        ben.send(format!(
            "<message to='ann@a.test' type='chat' id='{id}'><body>{body}</body></message>"
        ))
        .await;
    }
    ben.barrier().await;
    let mut one = lab.wire_in_memory("ann@a.test/one").await;
    one.enable("").await;
    one.send("<presence/>").await;
    let mut seen = Vec::new();
    while messages(&seen).len() < 30 {
        seen.push(one.next().await);
    }
    one.ack().await;
    // It is there, and gets nothing: the first one draws.
    let mut two = lab.managed(Over::Memory, "ann@a.test/two").await;
    two.send("<presence/>").await;
    assert!(messages(&two.barrier_seeing().await).is_empty());
    ben.chat("ann@a.test", 300).await;
    ben.barrier().await;
    one.ask_among_others().await;
    let acknowledged = one.sm().received;
    one.ack().await;
    one.ask_among_others().await;
    assert!(one.sm().received >= acknowledged);
    one.ack_at(acknowledged).await;
    drop(one);
    // Its own presence waits behind the gate: all that it received were messages.
    let taken = acknowledged;
    // The live one first, if it came first; the rest in order, with the time.
    let mut got = Vec::new();
    while !got.contains(&"299".to_owned()) || !got.contains(&"300".to_owned()) {
        let tree = two.next().await;
        if tree.name() == "message" {
            let id = tree.attr("id").expect("an id").to_owned();
            let delayed = tree.child_ns(ns::DELAY, "delay").is_some();
            assert!(delayed || id == "300", "{tree}");
            got.push(id);
            if got.len() % 20 == 0 {
                two.ack().await;
            }
        }
    }
    got.retain(|id| id != "300");
    let first: u32 = got[0].parse().expect("a number");
    assert_eq!(first, taken);
    assert_eq!(got, ids(first..300));
}

#[tokio::test]
async fn c6121_su_09_requests_wait_and_come_before_messages_page_by_page() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    const REQUESTS: usize = 120;
    let mut ben = lab.wire("ben@a.test/one").await;
    for number in 0..REQUESTS {
        let from = format!("c{number:03}@a.test/one");
        let mut wire = lab.wire_in_memory(&from).await;
        wire.send("<presence type='subscribe' to='ann@a.test'/>")
            .await;
        wire.barrier_among_others().await;
    }
    ben.chat("ann@a.test", "m").await;
    ben.barrier().await;
    for round in 0..2 {
        let mut ann = lab.wire(&format!("ann@a.test/{round}")).await;
        let seen = come(&mut ann, "<presence/>").await;
        let requests: Vec<_> = seen
            .iter()
            .enumerate()
            .filter(|(_, tree)| tree.attr("type") == Some("subscribe"))
            .collect();
        let from: Vec<_> = requests
            .iter()
            .filter_map(|(_, tree)| tree.attr("from"))
            .collect();
        let expected: Vec<_> = (0..REQUESTS).map(|n| format!("c{n:03}@a.test")).collect();
        assert_eq!(from, expected);
        // Until they are answered they come each time; the message came once.
        let message = seen.iter().position(|tree| tree.name() == "message");
        assert_eq!(message.is_some(), round == 0);
        assert!(message.is_none_or(|at| requests.iter().all(|(n, _)| *n < at)));
        ann.close().await;
    }
}
