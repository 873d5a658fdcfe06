//! What a message across two servers of ours costs beside a local one: CPU of this process, which holds
//! servers and clients, for each message. The clients' share is the same in both.
//!
//! `cargo run --release -p xmpp-testkit --example federated_cost [MESSAGES]`

use std::time::Duration;
use tokio::time::Instant;
use xmpp_testkit::{Federated, Wire};

/// Messages under way at a time.
const IN_FLIGHT: usize = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let count = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(20_000);
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut amy = all.online("amy@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    play(&mut ann, &mut amy, "amy@a.test/x", 100).await;
    play(&mut ann, &mut ben, "ben@b.test/y", 100).await;
    for _ in 0..3 {
        let local = play(&mut ann, &mut amy, "amy@a.test/x", count).await;
        let across = play(&mut ann, &mut ben, "ben@b.test/y", count).await;
        print("local", local, count);
        print("across", across, count);
    }
}

fn print(what: &str, (cpu, wall): (Duration, Duration), count: usize) {
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    let rate = count as f64 / wall.as_secs_f64();
    println!("{what}\t{each:.1} us of CPU a message\t{rate:.0} messages/s");
}

async fn play(from: &mut Wire, to: &mut Wire, address: &str, count: usize) -> (Duration, Duration) {
    let (cpu, wall) = (cpu(), Instant::now());
    let mut got = 0;
    while got < count {
        let batch = IN_FLIGHT.min(count - got);
        let mut text = String::new();
        for number in 0..batch {
            text.push_str(&format!(
                "<message to='{address}' type='chat' id='{got}-{number}'>\
                 <body>Neither, fair saint, if either thee dislike.</body></message>"
            ));
        }
        from.send(text).await;
        for _ in 0..batch {
            to.next_of("message").await;
        }
        got += batch;
    }
    (self::cpu() - cpu, wall.elapsed())
}

/// CPU that this process has used.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    // utime and stime, in hundredths of a second.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
