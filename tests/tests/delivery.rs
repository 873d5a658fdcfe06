//! Many messages to an account whose connections come and go: none lost, none twice, order kept
//! (DESIGN 5 and 10).

use std::collections::HashSet;
use std::time::Duration;
use tokio::time::advance;
use xmpp_stream::ns;
use xmpp_testkit::managed::ids;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Over, Received, TestLab, Tree};

/// Numbers that look random and come again with the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

fn message_id(tree: &Tree) -> Option<u32> {
    let is_message = tree.name() == "message" && tree.attr("type") == Some("chat");
    tree.attr("id").filter(|_| is_message)?.parse().ok()
}

/// Receives until so many messages are there; everything else is passed over.
async fn receive(wire: &mut Wire, count: usize, seen: &mut Vec<String>) {
    while seen.len() < count {
        let tree = wire.next().await;
        seen.extend(message_id(&tree).map(|id| id.to_string()));
    }
}

#[tokio::test]
async fn im_sm_08_what_vanished_on_the_way_comes_once_and_in_order_after_resumption() {
    for at in [0, 1, 250, 499, 500] {
        let lab = lab().await;
        let (mut ann, link) = lab.managed_over_link("ann@a.test/one").await;
        ann.presence("").await;
        let mut ben = lab.wire_in_memory("ben@a.test/one").await;
        let mut seen = Vec::new();
        for id in 0..500 {
            if id == at {
                receive(&mut ann, id, &mut seen).await;
                link.drop_everything();
            }
            ben.chat("ann@a.test", id).await;
        }
        ben.barrier().await;
        let missing = 500 - seen.len();
        let mut ann = lab.resume(Over::Memory, ann.notes()).await;
        let mut rest = Vec::new();
        receive(&mut ann, missing, &mut rest).await;
        seen.extend(rest);
        assert_eq!(seen, ids(0..500), "dropped at {at}");
        ann.ack().await;
        ann.barrier().await;
        ann.ack().await;
        ann.close_managed().await;
        assert!(login(&lab, "ann@a.test/two").await.is_empty());
    }
}

#[tokio::test]
async fn im_sm_08_what_the_client_sent_into_the_void_it_sends_again() {
    for at in [0, 1, 250, 499, 500_u32] {
        let lab = lab().await;
        let mut ann = lab.wire_in_memory("ann@a.test/one").await;
        ann.presence("").await;
        let (mut ben, link) = lab.managed_over_link("ben@a.test/one").await;
        for id in 0..500 {
            if id == at {
                // Some may be on their way still: they are handled or vanish.
                link.drop_everything();
            }
            ben.chat("ann@a.test", id).await;
        }
        let notes = ben.notes();
        let mut ben = lab.unbound(Over::Memory, "ben@a.test").await;
        ben.send_resume(notes.id(), notes.managed.received).await;
        let handled = ben.expect_resumed(&notes).await;
        assert!(handled <= at, "{handled}");
        for id in handled..500 {
            ben.chat("ann@a.test", id).await;
        }
        ben.barrier().await;
        let seen = ann.barrier_seeing().await;
        let seen: Vec<_> = seen
            .iter()
            .filter_map(message_id)
            .map(|id| id.to_string())
            .collect();
        assert_eq!(seen, ids(0..500), "dropped at {at}, {handled} handled");
    }
}

#[tokio::test(start_paused = true)]
async fn im_sm_07_what_vanished_and_was_not_resumed_comes_once_at_the_next_login() {
    for at in [0, 1, 250, 499] {
        let lab = TestLab::with(["a.test"], |config| {
            config.limits.outbox_pause_max = Duration::ZERO;
            config.limits.stream.silence_max = Duration::from_secs(1_000_000);
        });
        let lab = lab.await.expect("a server");
        let (mut ann, link) = lab.managed_over_link("ann@a.test/one").await;
        ann.presence("").await;
        ann.ack().await;
        let mut ben = lab.wire_in_memory("ben@a.test/one").await;
        let mut seen = Vec::new();
        for id in 0..500 {
            if id == at {
                receive(&mut ann, id, &mut seen).await;
                ann.ack().await;
                ann.ask().await;
                link.drop_everything();
            }
            ben.chat("ann@a.test", id).await;
        }
        ben.barrier().await;
        // Nothing answers any more: a minute until that is noticed, then the time to come back.
        for wait in [60, 299] {
            advance(Duration::from_secs(wait)).await;
            ben.barrier().await;
            assert!(login(&lab, "ann@a.test/early").await.is_empty());
        }
        advance(Duration::from_secs(1)).await;
        ben.barrier().await;
        let rest = login(&lab, "ann@a.test/two").await;
        seen.extend(rest);
        assert_eq!(seen, ids(0..500), "dropped at {at}");
        assert!(login(&lab, "ann@a.test/three").await.is_empty());
    }
}

async fn login(lab: &TestLab, jid: &str) -> Vec<String> {
    let mut wire = lab.wire_in_memory(jid).await;
    wire.send("<presence/>").await;
    let seen = wire.barrier_seeing().await;
    wire.close().await;
    let messages = seen.iter().filter_map(message_id);
    messages.map(|id| id.to_string()).collect()
}

/// What one device has received and acknowledged, over all its connections.
#[derive(Default)]
struct Device {
    seen: HashSet<u32>,
    /// Newest message of this connection that was not held up elsewhere.
    newest: Option<u32>,
    connections: u32,
}

impl Device {
    fn take(&mut self, tree: &Tree) {
        let Some(id) = message_id(tree) else { return };
        assert!(self.seen.insert(id), "{id} came twice");
        // One that waited, or was first handed to the other device, may stand behind a newer one.
        if tree.child_ns(ns::DELAY, "delay").is_none() {
            assert!(
                self.newest.is_none_or(|newest| newest < id),
                "{id} was overtaken"
            );
            self.newest = Some(id);
        }
    }

    /// One connection: so many messages, then away, in order or not.
    async fn visit(&mut self, lab: &TestLab, name: &str, dice: &mut Dice, done: &Done) {
        self.newest = None;
        self.connections += 1;
        let jid = format!("ann@a.test/{name}{}", self.connections);
        let mut wire = lab.managed(Over::Memory, &jid).await;
        wire.send("<presence/>").await;
        let mut left = dice.below(400);
        while left > 0 && !(done.all_sent() && done.is_complete()) {
            let Some(tree) = next_or_idle(&mut wire).await else {
                continue;
            };
            if message_id(&tree).is_some() {
                left -= 1;
                done.took(message_id(&tree));
            }
            self.take(&tree);
            if wire.sm().asked > 0 && dice.below(8) == 0 {
                wire.ack().await;
            }
            // Now and then the connection is lost, and gone on with.
            if dice.below(300) == 0 {
                let lost = wire.lose();
                self.newest = None;
                wire = lab.resume(Over::Memory, lost).await;
            }
        }
        // What comes from here on was not received: it goes elsewhere.
        let h = wire.sm().received;
        let end = format!("<a xmlns='{}' h='{h}'/></stream:stream>", ns::SM);
        wire.send(end).await;
        while !matches!(wire.receive().await, Received::Closed(_)) {}
    }
}

/// What comes, or nothing if nothing comes for a while: the sender may have finished.
async fn next_or_idle(wire: &mut Wire) -> Option<Tree> {
    let next = tokio::time::timeout(Duration::from_millis(200), wire.next());
    next.await.ok()
}

/// How far sender and devices are.
struct Done {
    sent: std::sync::atomic::AtomicBool,
    taken: std::sync::Mutex<HashSet<u32>>,
    count: usize,
}

impl Done {
    fn all_sent(&self) -> bool {
        self.sent.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn took(&self, id: Option<u32>) {
        self.taken.lock().expect("no panic").extend(id);
    }

    fn is_complete(&self) -> bool {
        self.taken.lock().expect("no panic").len() >= self.count
    }
}

#[tokio::test]
async fn im_of_02_two_devices_come_and_go_while_a_third_party_writes() {
    const MESSAGES: usize = 10_000;
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => 0x1234_5678_9abc,
    };
    println!("SEED={seed}");
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.outbox_pause_max = Duration::ZERO;
        config.limits.offline_messages_max = MESSAGES;
    });
    let lab = lab.await.expect("a server");
    lab.account("ann@a.test").await;
    let done = Done {
        sent: false.into(),
        taken: std::sync::Mutex::default(),
        count: MESSAGES,
    };
    let sending = async {
        let mut ben = lab.managed(Over::Memory, "ben@a.test/one").await;
        for first in (0..MESSAGES).step_by(20) {
            for id in first..first + 20 {
                ben.chat("ann@a.test", id).await;
            }
            let seen = ben.barrier_seeing().await;
            assert!(seen.is_empty(), "refused: {seen:?}");
            ben.ack().await;
        }
        done.sent.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let device = |name: &'static str, seed: u64| {
        let (lab, done) = (&lab, &done);
        async move {
            let (mut device, mut dice) = (Device::default(), Dice(seed));
            while !(done.all_sent() && done.is_complete()) {
                device.visit(lab, name, &mut dice, done).await;
            }
            device
        }
    };
    let ((), one, two) = tokio::join!(sending, device("a", seed), device("b", seed ^ 0x5555));
    let all: HashSet<u32> = one.seen.union(&two.seen).copied().collect();
    assert_eq!(all.len(), MESSAGES, "none is lost");
    assert!(one.connections > 5 && two.connections > 5);
    // Nothing waits any more.
    assert!(login(&lab, "ann@a.test/last").await.is_empty());
}

/// The same ids and words on two streams: a client that lost the first one means the same messages, a
/// client that closed it counts from one again.
#[tokio::test]
async fn im_sm_08_what_is_sent_again_is_recognised_unless_the_stream_was_closed() {
    for (closed, times) in [(false, 1), (true, 2)] {
        let lab = lab().await;
        let mut ann = lab.wire_in_memory("ann@a.test/one").await;
        ann.presence("").await;
        for round in 0..2 {
            let mut ben = lab.managed(Over::Memory, "ben@a.test/one").await;
            for id in 0..3 {
                ben.chat("ann@a.test", id).await;
            }
            assert_eq!(ben.ask_among_others().await % 3, 0, "all three count");
            match closed || round == 1 {
                true => {
                    ben.close_managed().await;
                }
                false => drop(ben.lose()),
            }
        }
        let seen = ann.barrier_seeing().await;
        let seen: Vec<_> = seen.iter().filter_map(message_id).collect();
        assert_eq!(seen.len(), 3 * times, "closed {closed}: {seen:?}");
    }
}
