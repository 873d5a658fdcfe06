//! What a message across two servers of ours costs beside a local one: processor time of the servers
//! alone, which are processes of one thread each, stores in memory.
//!
//! `cargo run --release -p xmpp-testkit --example federated_cost [-- [--rounds N] [--seconds N]]`
//! prints medians, the ratio (at most 2.5) and the messages a second that one core a server carries
//! (5,000 at least): what the busier server's processor time allows, and what was reached, where the
//! clients need cores of their own too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use xmpp_testkit::load::Peer;
use xmpp_testkit::load::sites::{Sites, is_child, local};

const DOMAINS: [&str; 2] = ["a.test", "b.test"];
const SETTLE: Duration = Duration::from_millis(500);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let words: Vec<String> = std::env::args().skip(1).collect();
    runtime.block_on(async move {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if is_child(&words).await {
            return;
        }
        let of = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.parse::<f64>().ok()
        };
        let (rounds, seconds) = (
            of("--rounds").unwrap_or(5.0),
            of("--seconds").unwrap_or(3.0),
        );
        compare(rounds as usize, Duration::from_secs_f64(seconds)).await;
    });
}

/// What a span of chatting has cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Of each server, microseconds a message.
    cpu: [f64; 2],
    /// Messages a second.
    rate: f64,
}

impl Cost {
    fn both(&self) -> f64 {
        self.cpu.iter().sum()
    }

    /// Messages a second that a core a server would carry.
    fn capacity(&self) -> f64 {
        1e6 / self.cpu.iter().fold(0.0, |most: f64, cpu| most.max(*cpu))
    }
}

async fn compare(rounds: usize, span: Duration) {
    println!("medians of {rounds} rounds of {span:?}; us of the servers' processors a message");
    println!(
        "{:<32} {:>8} {:>8} {:>8} {:>7} {:>10} {:>10}  target",
        "", "local", "across", "of each", "ratio", "carried/s", "reached/s"
    );
    for (pairs, in_flight) in [(50, 4), (100, 1)] {
        let (mut local, mut across) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            local.push(measure(pairs, in_flight, false, span).await);
            across.push(measure(pairs, in_flight, true, span).await);
        }
        let (local, across) = (median(local), median(across));
        println!(
            "{:<32} {:>8.1} {:>8.1} {:>8} {:>7.2} {:>10.0} {:>10.0}  2.5; 5,000/s",
            format!("{pairs} pairs, {in_flight} in flight"),
            local.both(),
            across.both(),
            format!("{:.1}+{:.1}", across.cpu[0], across.cpu[1]),
            across.both() / local.both(),
            across.capacity(),
            across.rate,
        );
    }
}

fn median(mut all: Vec<Cost>) -> Cost {
    all.sort_by(|one, other| one.both().total_cmp(&other.both()));
    all[all.len() / 2]
}

/// New servers, pairs that keep so many messages in flight, and what they have used in the middle.
async fn measure(pairs: usize, in_flight: usize, is_across: bool, span: Duration) -> Cost {
    let names = DOMAINS.map(|name| vec![name.to_owned()]);
    let mut sites = Sites::start([&names[0], &names[1]], pairs * 2);
    let count = Arc::new(AtomicU64::new(0));
    let mut chatting = JoinSet::new();
    for number in 0..pairs * 2 {
        let site = |number: usize| if is_across { number % 2 } else { 0 };
        let neighbour = number ^ 1;
        let to = format!("{}@{}/c", local(neighbour), DOMAINS[site(neighbour)]);
        let peer = sites
            .peer(site(number), DOMAINS[site(number)], number)
            .await;
        let starts = if number % 2 == 0 { 0 } else { in_flight };
        chatting.spawn(chat(peer, message(&to), starts, Arc::clone(&count)));
    }
    // The first words are said when the later of a pair is there.
    pass(SETTLE).await;
    let now = || sites.all.each_ref().map(|site| site.child.cpu());
    let (before, done, start) = (now(), count.load(Ordering::Relaxed), Instant::now());
    pass(span).await;
    let (after, done) = (now(), count.load(Ordering::Relaxed) - done);
    let rate = done as f64 / start.elapsed().as_secs_f64();
    let of = |at: usize| (after[at] - before[at]).as_secs_f64() * 1e6 / done as f64;
    chatting.abort_all();
    for site in &mut sites.all {
        // What came back would count as a message that arrived.
        let (_, failed) = site.links();
        assert_eq!(failed, 0, "a link failed");
    }
    Cost {
        cpu: [of(0), if is_across { of(1) } else { 0.0 }],
        rate,
    }
}

async fn chat(mut peer: Peer, text: String, starts: usize, count: Arc<AtomicU64>) {
    if starts > 0 {
        peer.send(&text.repeat(starts)).await.expect("sent");
    }
    while let Ok(came) = peer.count("</message>").await {
        count.fetch_add(came as u64, Ordering::Relaxed);
        if peer.send(&text.repeat(came)).await.is_err() {
            return;
        }
    }
}

/// A chat message of about 410 bytes.
fn message(to: &str) -> String {
    format!(
        "<message to='{to}' type='chat' id='4c1bd5ec-8f3a-4d6c-a1c3-1f1d2b1c7a55' xml:lang='en'>\
         <body>................Are we still meeting at the station at half past seven?</body>\
         <active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='4c1bd5ec-8f3a-4d6c-a1c3-1f1d2b1c7a55'/></message>"
    )
}

async fn pass(time: Duration) {
    interval_at(Instant::now() + time, time).tick().await;
}
