//! How long a lab takes to start, and to have a client in it.
//!
//! `cargo run --release -p xmpp-testkit --example lab_start`

use std::time::Duration;
use tokio::time::Instant;
use xmpp_testkit::TestLab;

const ROUNDS: usize = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for domains in [
        &["a.test"][..],
        &["a.test", "b.test"],
        &["a.test", "b.test", "c.test"],
    ] {
        let (mut started, mut online) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let lab = TestLab::new(domains.iter().copied()).await.expect("a lab");
            started.push(start.elapsed());
            let start = Instant::now();
            let client = lab.client("ann@a.test").await.expect("a client");
            online.push(start.elapsed());
            drop(client);
        }
        println!(
            "{} domains: started in {:?}, a client is online {:?} later (medians of {ROUNDS})",
            domains.len(),
            median(&mut started),
            median(&mut online)
        );
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
