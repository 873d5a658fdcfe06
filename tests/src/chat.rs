//! Many sessions chatting at once: nothing lost, doubled or out of order, and how long it took.
//!
//! `cargo test` plays it without a rate (tests/many_sessions.rs); the program
//! tests/examples/two_hundred.rs plays it at a rate and prints the figures.

use crate::lab::TestLab;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use xmpp_client::XmppClient;
use xmpp_stream::stanza::{Kind, Stanza};

/// No message for this long: what has not come is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who chats how much.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Sessions, two and two in conversation.
    pub sessions: usize,
    /// Messages that each session sends.
    pub messages: u32,
    /// Messages a second over all sessions; `None`: as fast as they go.
    pub rate: Option<u32>,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Messages sent.
    pub sent: u64,
    /// Messages that came.
    pub received: u64,
    /// Messages that came again.
    pub doubled: u64,
    /// Messages that came behind a later one.
    pub reordered: u64,
    /// From the first to the last.
    pub elapsed: Duration,
    /// Time from hand-over to the library to receipt, sorted.
    pub latencies: Vec<Duration>,
}

impl Report {
    /// Messages that never came.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent
            .saturating_sub(self.received.saturating_sub(self.doubled))
    }

    /// The latency that this share of messages kept, e.g. 0.99.
    #[must_use]
    pub fn latency(&self, share: f64) -> Duration {
        let at = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies
            .get(at.min(last))
            .copied()
            .unwrap_or_default()
    }
}

/// Plays the plan on a domain of the lab.
///
/// # Panics
/// When a session cannot sign in.
pub async fn play(lab: &TestLab, domain: &str, plan: Plan) -> Report {
    let start = now();
    let mut clients = Vec::new();
    for number in 0..plan.sessions {
        let jid = format!("chat{number}@{domain}/c");
        clients.push(lab.xmpp_client(&jid).await.expect("the session signs in"));
    }
    let signed_in = now();
    let mut talks = Vec::new();
    for number in 0..plan.sessions {
        let client = clients.get(number).expect("one client a session").clone();
        let peer = clients
            .get(number ^ 1)
            .expect("an even number of sessions")
            .jid()
            .to_string();
        let pause = plan.rate.map(|rate| {
            let share = f64::from(rate) / plan.sessions as f64;
            let pause = Duration::from_secs_f64(1.0 / share);
            // One after the other, not all at the same tick.
            let first = signed_in + pause.mul_f64(number as f64 / plan.sessions as f64);
            (first, pause)
        });
        let listening = tokio::spawn(listen(client.clone(), plan.messages, start));
        talks.push((
            tokio::spawn(talk(client, peer, plan.messages, pause, start)),
            listening,
        ));
    }
    let mut report = Report::default();
    for (talking, listening) in talks {
        report.sent += talking.await.expect("a talking task ends");
        let heard = listening.await.expect("a listening task ends");
        report.received += heard.received;
        report.doubled += heard.doubled;
        report.reordered += heard.reordered;
        report.latencies.extend(heard.latencies);
    }
    report.elapsed = now() - signed_in;
    report.latencies.sort_unstable();
    report
}

async fn talk(
    client: XmppClient,
    peer: String,
    messages: u32,
    pause: Option<(Instant, Duration)>,
    start: Instant,
) -> u64 {
    let mut ticks = pause.map(|(first, pause)| {
        let mut ticks = interval_at(first.into(), pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        ticks
    });
    for number in 0..messages {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let body = format!("{number} {}", (now() - start).as_micros());
        let stanza = Stanza::chat(&peer, &body).expect("a JID");
        if client.send_stanza(stanza).await.is_err() {
            return u64::from(number);
        }
    }
    u64::from(messages)
}

async fn listen(client: XmppClient, messages: u32, start: Instant) -> Report {
    let mut report = Report::default();
    let mut seen = vec![false; messages as usize];
    let mut newest = None;
    while report.received - report.doubled < u64::from(messages) {
        let Ok(Some(stanza)) = timeout(PATIENCE, client.next_stanza()).await else {
            break;
        };
        let Some((number, sent)) = numbered(&stanza) else {
            continue;
        };
        report.received += 1;
        report.latencies.push((now() - start).saturating_sub(sent));
        if newest.is_some_and(|newest| number < newest) {
            report.reordered += 1;
        }
        newest = newest.max(Some(number));
        match seen.get_mut(number as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => report.doubled += 1,
        }
    }
    report
}

fn numbered(stanza: &Stanza) -> Option<(u32, Duration)> {
    if stanza.kind != Kind::Message {
        return None;
    }
    let body = stanza.body()?;
    let (number, micros) = body.split_once(' ')?;
    Some((
        number.parse().ok()?,
        Duration::from_micros(micros.parse().ok()?),
    ))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
