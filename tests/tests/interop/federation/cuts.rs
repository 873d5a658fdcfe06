//! The way to the other server cut again and again while messages flow: what becomes of each.
//!
//! A server that has stream management on the way (XEP-0198) says what it has; of one that has not
//! nobody can know whether it read what was written before the cut.

use super::world::{Side, World};
use crate::stage::Outcome;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use xmpp_client::{Events, Jid, Kind, Stanza, XmppClient};

/// Times that the link is cut in one scene.
const ROUNDS: usize = 5;
/// Messages around each cut.
const ROUND: usize = 400;
/// Messages of one scene.
const MESSAGES: usize = ROUNDS * ROUND;
/// Bytes that pass before each cut: in the middle of a message.
const CUT_AFTER: u64 = 30_001;
/// Nothing comes for so long: nothing will.
const QUIET: Duration = Duration::from_secs(3);
/// Tries until the link is up.
const TRIES: usize = 10;
/// The id of what does not count.
const UP: &str = "up";

/// What became of the messages.
#[derive(Debug, Default)]
struct Tally {
    delivered: HashMap<String, usize>,
    bounced: HashMap<String, usize>,
    /// What the sender was told, each text once.
    told: Vec<String>,
}

/// How many of them came to what.
#[derive(Debug, Eq, PartialEq)]
struct Count {
    delivered: usize,
    twice: usize,
    bounced: usize,
    both: usize,
    neither: usize,
}

/// What ours promises: with stream management none is lost. Without it what was written counts as
/// delivered, so that the numbers are only shown.
pub(crate) async fn to_theirs(world: Arc<World>) -> Outcome {
    let (tally, connections) = play(&world.ours, &world.theirs).await;
    let count = tally.count();
    println!(
        "ours to theirs, {connections} connections: {count:?} {:?}",
        tally.told
    );
    assert!(connections >= ROUNDS, "the link was not cut: {connections}");
    if world.is_managed {
        assert_eq!(count.neither, 0, "lost");
        assert_eq!(count.both, 0, "sent again, and bounced");
    }
    Outcome::Done
}

/// The other way what comes of it is theirs.
pub(crate) async fn to_ours(world: Arc<World>) -> Outcome {
    let (tally, connections) = play(&world.theirs, &world.ours).await;
    let count = tally.count();
    println!(
        "theirs to ours, {connections} connections: {count:?} {:?}",
        tally.told
    );
    assert!(connections >= ROUNDS, "the link was not cut: {connections}");
    Outcome::Done
}

async fn play(from: &Side, to: &Side) -> (Tally, usize) {
    let (ann, ben) = (from.online().await, to.online().await);
    let mut heard = (ann.events(), ben.events());
    let mut tally = Tally::default();
    let start = to.ways.starttls.accepted();
    for round in 0..ROUNDS {
        is_up(&mut tally, (&ann, &mut heard.0), (&ben, &mut heard.1)).await;
        to.ways.starttls.cut_after(CUT_AFTER);
        let (to_ben, first) = (ben.jid().into_jid(), round * ROUND);
        let sending = send(&ann, &to_ben, first..first + ROUND);
        tokio::join!(tally.take(&mut heard.0, &mut heard.1), sending);
    }
    (tally, to.ways.starttls.accepted() - start)
}

/// Words that do not count, until one is heard.
async fn is_up(
    tally: &mut Tally,
    (ann, told): (&XmppClient, &mut Events),
    (ben, heard): (&XmppClient, &mut Events),
) {
    for _ in 0..TRIES {
        send_one(ann, ben.jid().as_jid(), UP).await;
        tally.take(told, heard).await;
        if tally.delivered.remove(UP).is_some() {
            return;
        }
    }
    panic!("the link does not come up again");
}

async fn send(ann: &XmppClient, ben: &Jid, numbers: Range<usize>) {
    for number in numbers {
        send_one(ann, ben, &id(number)).await;
    }
}

async fn send_one(ann: &XmppClient, ben: &Jid, id: &str) {
    let message = Stanza::chat(ben.as_str(), "hello").expect("an address");
    ann.send_stanza(message.with_id(id)).await.expect("open");
}

fn id(number: usize) -> String {
    format!("cut-{number}")
}

impl Tally {
    /// Until nothing comes any more.
    async fn take(&mut self, sender: &mut Events, receiver: &mut Events) {
        loop {
            let next = async {
                tokio::select! {
                    stanza = sender.next_stanza() => stanza,
                    stanza = receiver.next_stanza() => stanza,
                }
            };
            match timeout(QUIET, next).await {
                Ok(stanza) => self.add(&stanza.expect("the stream is open")),
                Err(_) => return,
            }
            if self.delivered.contains_key(UP) {
                return;
            }
        }
    }

    fn add(&mut self, stanza: &Stanza) {
        let Some(id) = stanza.head.id.as_deref() else {
            return;
        };
        if stanza.kind != Kind::Message {
            return;
        }
        let Some(error) = stanza.error() else {
            *self.delivered.entry(id.to_owned()).or_default() += 1;
            return;
        };
        *self.bounced.entry(id.to_owned()).or_default() += 1;
        let told = format!("{:?}: {}", error.condition, error.text.unwrap_or_default());
        if !self.told.contains(&told) {
            self.told.push(told);
        }
    }

    fn count(&self) -> Count {
        let of = |is: &dyn Fn(usize, usize) -> bool| {
            let times = |all: &HashMap<String, usize>, id: &str| all.get(id).copied();
            let is = |number: &usize| {
                let id = id(*number);
                let delivered = times(&self.delivered, &id).unwrap_or_default();
                is(delivered, times(&self.bounced, &id).unwrap_or_default())
            };
            (0..MESSAGES).filter(is).count()
        };
        Count {
            delivered: of(&|delivered, _| delivered > 0),
            twice: of(&|delivered, bounced| delivered > 1 || bounced > 1),
            bounced: of(&|_, bounced| bounced > 0),
            both: of(&|delivered, bounced| delivered > 0 && bounced > 0),
            neither: of(&|delivered, bounced| delivered + bounced == 0),
        }
    }
}
