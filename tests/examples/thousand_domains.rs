//! One server of a thousand domains and one of a single domain federate: every pair exchanges messages
//! both ways, each over its own proof, and nothing fails.
//!
//! `cargo run --release -p xmpp-testkit --example thousand_domains [DOMAINS]`

use rlimit::Resource;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use xmpp_testkit::TestLab;
use xmpp_testkit::wire::Wire;

const HUB: &str = "hub.test";
const PATIENCE: Duration = Duration::from_secs(60);
/// Links that are being made at a time.
const AT_ONCE: usize = 50;

#[tokio::main]
async fn main() {
    let count = std::env::args().nth(1);
    let count: usize = count.map_or(1000, |text| text.parse().expect("a number of domains"));
    let _ = rlimit::increase_nofile_limit(Resource::NOFILE.get_hard().unwrap_or(0));
    let names: Vec<String> = (0..count).map(|number| format!("d{number}.test")).collect();
    let start = Instant::now();
    let lab = TestLab::builder()
        .server(names.iter().map(String::as_str))
        .server([HUB]);
    let lab = lab.start().await.expect("two servers");
    println!("started with {count} domains in {:?}", start.elapsed());
    let mut hub = online(&lab, "ann@hub.test/x").await;
    let start = Instant::now();
    let mut peers = Vec::new();
    for name in &names {
        peers.push(online(&lab, &format!("ben@{name}/x")).await);
    }
    println!("{count} sessions, one a domain, in {:?}", start.elapsed());
    let start = Instant::now();
    for some in peers.chunks_mut(AT_ONCE) {
        timeout(PATIENCE, both_ways(&mut hub, some))
            .await
            .expect("messages in time");
    }
    println!("every pair both ways in {:?}", start.elapsed());
    let listed = lab.handle_of(HUB).core().list_links(None);
    let failed = listed.iter().filter(|link| link.last_error.is_some());
    println!(
        "{} streams at {HUB}, {} with an error",
        listed.len(),
        failed.count()
    );
}

async fn online(lab: &TestLab, jid: &str) -> Wire {
    let mut wire = lab.wire_in_memory(jid).await;
    wire.presence("").await;
    wire
}

/// The hub writes to each, each answers.
async fn both_ways(hub: &mut Wire, peers: &mut [Wire]) {
    for peer in peers.iter() {
        hub.chat(peer.jid(), "there").await;
    }
    let back = hub.jid().to_owned();
    for peer in peers.iter_mut() {
        assert_eq!(peer.message_ids(1).await, ["there"]);
        peer.chat(&back, peer_id(peer)).await;
    }
    let mut got = hub.message_ids(peers.len()).await;
    let mut expected: Vec<String> = peers.iter().map(peer_id).collect();
    got.sort();
    expected.sort();
    assert_eq!(got, expected);
}

fn peer_id(peer: &Wire) -> String {
    peer.domain().to_owned()
}
