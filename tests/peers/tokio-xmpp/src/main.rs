//! The works of tests/examples/beside_clients.rs, by tokio-xmpp: `ADDRESS DOMAIN WORK N`.
//!
//! Says `begin` when it is prepared, waits for a line, works, says `done` with its figures, and ends
//! with its input. It trusts the CA in SSL_CERT_FILE.

use futures::StreamExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io::BufRead;
use std::time::Instant;
use tokio_xmpp::connect::DnsConfig;
use tokio_xmpp::jid::Jid;
use tokio_xmpp::parsers::message::Message;
use tokio_xmpp::parsers::presence::{Presence, Type};
use tokio_xmpp::xmlstream::Timeouts;
use tokio_xmpp::{Client, Event, Stanza};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PASSWORD: &str = "secret";
const BODY: &str = "What do you say to a walk along the river when the rain is over? \
                    I would bring the letters, and we could read them on the bridge.";

struct Server {
    address: String,
    domain: String,
}

impl Server {
    async fn connect(&self, user: usize, resource: &str) -> Client {
        let jid: Jid = format!("u{user}@{}/{resource}", self.domain)
            .parse()
            .expect("a JID");
        let at = DnsConfig::addr(&self.address);
        let mut client = Client::new_direct_tls_with_config(jid, PASSWORD, at, Timeouts::default());
        loop {
            match client.next().await {
                Some(Event::Online { .. }) => return client,
                Some(_) => {}
                None => panic!("not online"),
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("ADDRESS DOMAIN WORK N");
    let server = Server {
        address: next(),
        domain: next(),
    };
    let work = next();
    let n: usize = next().parse().expect("a number");
    match work.as_str() {
        "connect" => connect(&server, n).await,
        "send" => send(&server, n).await,
        "receive" => receive(&server, n).await,
        "idle" => idle(&server, n).await,
        other => panic!("no work {other}"),
    }
}

fn begin() {
    println!("begin");
    let _ = std::io::stdin().lock().lines().next();
}

fn end() {
    while std::io::stdin()
        .lock()
        .lines()
        .next()
        .is_some_and(|line| line.is_ok())
    {}
}

async fn connect(server: &Server, n: usize) {
    begin();
    let mut times = Vec::new();
    for _ in 0..n {
        let start = Instant::now();
        let client = server.connect(0, "c").await;
        times.push(start.elapsed().as_nanos());
        client.send_end().await.expect("an end");
    }
    times.sort_unstable();
    println!("done {}", times[n / 2]);
    end();
}

async fn send(server: &Server, n: usize) {
    let mut client = server.connect(1, "s").await;
    let to: Jid = format!("u0@{}", server.domain).parse().expect("a JID");
    begin();
    let before = HEAP.stats();
    for _ in 0..n {
        let message =
            Message::chat(Some(to.clone())).with_body(Default::default(), BODY.to_owned());
        client.send_stanza(message.into()).await.expect("sent");
    }
    println!("done {}", (HEAP.stats() - before).allocations / n);
    end();
}

async fn receive(server: &Server, n: usize) {
    let mut client = server.connect(2, "r").await;
    client
        .send_stanza(Presence::new(Type::None).into())
        .await
        .expect("sent");
    begin();
    let before = HEAP.stats();
    let mut bytes = 0;
    let mut got = 0;
    while got < n {
        if let Some(Event::Stanza(Stanza::Message(message))) = client.next().await {
            bytes += message
                .get_best_body(vec![])
                .map_or(0, |(_, body)| body.len());
            got += 1;
        }
    }
    assert!(bytes > n);
    println!("done {}", (HEAP.stats() - before).allocations / n);
    end();
}

async fn idle(server: &Server, n: usize) {
    let first = server.connect(9, "i").await;
    let mut clients = Vec::with_capacity(n);
    let before = HEAP.stats();
    for user in 10..10 + n {
        clients.push(server.connect(user, "i").await);
    }
    let stats = HEAP.stats() - before;
    println!("begin");
    println!(
        "done {}",
        (stats.bytes_allocated - stats.bytes_deallocated) / n
    );
    end();
    drop((first, clients));
}
