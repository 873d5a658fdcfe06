//! A server process of a thousand domains and one of a single domain federate: every pair exchanges
//! chat messages both ways, each over its own proof, and nothing fails.
//!
//! `cargo run --release -p xmpp-testkit --example thousand_domains [DOMAINS [ROUNDS]]`. There is an
//! account in each domain, and its client answers whatever it is told; the clients are a third process.

use rlimit::Resource;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use xmpp_testkit::load::Peer;
use xmpp_testkit::load::sites::{Site, Sites, is_child, local};

const HUB: &str = "hub.test";
const PATIENCE: Duration = Duration::from_secs(60);
/// Pairs that talk at a time: not all of their links are made at once.
const AT_ONCE: usize = 50;

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let _ = rlimit::increase_nofile_limit(Resource::NOFILE.get_hard().unwrap_or(0));
    if is_child(&words).await {
        return;
    }
    let number = |at: usize, otherwise| {
        let word = words.get(at);
        word.map_or(otherwise, |word| word.parse().expect("a number"))
    };
    play(number(0, 1000), number(1, 10)).await;
}

async fn play(count: usize, rounds: usize) {
    let names: Vec<String> = (0..count).map(|number| format!("d{number}.test")).collect();
    let start = Instant::now();
    let mut sites = Sites::start([&names, &[HUB.to_owned()]], 1);
    println!("{count} domains and one started in {:?}", start.elapsed());
    memory("before", &sites);
    let start = Instant::now();
    let mut ann = sites.peer(1, HUB, 0).await;
    let mut answering = JoinSet::new();
    for name in &names {
        let ben = sites.peer(0, name, 0).await;
        answering.spawn(answer(ben));
    }
    println!("{} sessions in {:?}", count + 1, start.elapsed());
    let mut tally = Tally::default();
    for round in 0..=rounds {
        let start = Instant::now();
        for some in names.chunks(AT_ONCE) {
            let talking = talk(&mut ann, some, round, &mut tally);
            timeout(PATIENCE, talking).await.expect("answers in time");
        }
        let time = start.elapsed();
        let rate = 2.0 * count as f64 / time.as_secs_f64();
        let links = if round == 0 { ", links made" } else { "" };
        println!("round {round}: every pair both ways in {time:?}{links}: {rate:.0} messages/s");
    }
    answering.abort_all();
    let sent = (rounds + 1) * count;
    println!(
        "{sent} messages each way: {} answers, {} errors, {} others",
        tally.answers, tally.errors, tally.others
    );
    memory("after", &sites);
    for (site, name) in sites.all.iter_mut().zip(["the thousand", HUB]) {
        let (up, failed) = site.links();
        println!("{name}: {up} links up, {failed} with an error");
    }
    assert_eq!((tally.answers, tally.errors, tally.others), (sent, 0, 0));
}

#[derive(Default)]
struct Tally {
    answers: usize,
    errors: usize,
    /// What nobody waits for: twice, or of somebody else.
    others: usize,
}

/// Ann writes to each, and hears from each.
async fn talk(ann: &mut Peer, names: &[String], round: usize, tally: &mut Tally) {
    let to = |name: &String| message(&format!("{}@{name}/c", local(0)), &id(name, round));
    let text: String = names.iter().map(to).collect();
    ann.send(&text).await.expect("sent");
    let mut awaited: Vec<(String, String)> = names
        .iter()
        .map(|name| (format!("from='{}@{name}/c'", local(0)), id(name, round)))
        .collect();
    while !awaited.is_empty() {
        let got = ann.until("</message>").await.expect("an answer");
        let of = |(from, id): &(String, String)| got.contains(from) && got.contains(id);
        let Some(at) = awaited.iter().position(of) else {
            println!("of nobody who is asked: {got}");
            tally.others += 1;
            continue;
        };
        awaited.swap_remove(at);
        if got.contains("type='error'") {
            println!("{got}");
            tally.errors += 1;
        } else {
            tally.answers += 1;
        }
    }
}

fn id(name: &str, round: usize) -> String {
    format!("id='{round}-{name}'")
}

fn message(to: &str, id: &str) -> String {
    format!("<message to='{to}' type='chat' {id}><body>Good morning, neighbour.</body></message>")
}

/// Says the same back.
async fn answer(mut ben: Peer) {
    let to = format!("{}@{HUB}/c", local(0));
    while let Ok(got) = ben.until("</message>").await {
        let Some((_, rest)) = got.split_once(" id='") else {
            continue;
        };
        let id = rest.split('\'').next().unwrap_or_default();
        let text = message(&to, &format!("id='{id}'"));
        if ben.send(&text).await.is_err() {
            return;
        }
    }
}

fn memory(when: &str, sites: &Sites) {
    let [many, one] = sites.all.each_ref().map(resident);
    println!("resident {when}: {many:.1} MiB (the thousand), {one:.1} MiB (the one)");
}

fn resident(site: &Site) -> f64 {
    site.child.resident() as f64 / 1_048_576.0
}
