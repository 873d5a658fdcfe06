//! Two hundred sessions chatting at 2,000 messages a second over TLS on loopback.
//!
//! `cargo run --release -p xmpp-testkit --example two_hundred [SESSIONS] [RATE] [SECONDS]` prints
//! one figure a line and fails when a message was lost, doubled or reordered.

use std::process::ExitCode;
use xmpp_testkit::TestLab;
use xmpp_testkit::chat::{Plan, play};

fn argument(at: usize, default: u32) -> u32 {
    std::env::args()
        .nth(at)
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[tokio::main]
async fn main() -> ExitCode {
    let (sessions, rate, seconds) = (argument(1, 200), argument(2, 2000), argument(3, 30));
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let messages = rate * seconds / sessions;
    let plan = Plan {
        sessions: sessions as usize,
        messages,
        rate: Some(rate),
    };
    let report = play(&lab, "a.test", plan).await;
    println!("sessions {sessions}");
    println!("sent {}", report.sent);
    println!("received {}", report.received);
    println!("lost {}", report.lost());
    println!("doubled {}", report.doubled);
    println!("reordered {}", report.reordered);
    println!("seconds {:.1}", report.elapsed.as_secs_f64());
    println!(
        "messages_per_second {:.0}",
        report.received as f64 / report.elapsed.as_secs_f64()
    );
    println!("latency_p50_us {}", report.latency(0.5).as_micros());
    println!("latency_p99_us {}", report.latency(0.99).as_micros());
    match report.lost() + report.doubled + report.reordered {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
