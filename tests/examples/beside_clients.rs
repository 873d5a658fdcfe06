//! What our client costs beside other client libraries: time from `connect()` to bound, processor
//! time and allocations per message sent and received, heap per idle client.
//!
//! Each library works in a process of its own against one server, by direct TLS and the same SASL
//! mechanism, by turns. tests/peers/README.md says how the others are built; those that are not there
//! are left out.
//!
//! `beside_clients [--rounds N] [--messages N] [--clients N]`

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io::BufRead;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::Instant;
use xmpp_client::{Event, Stanza, Ty, XmppClient};
use xmpp_server::auth::derive_all;
use xmpp_server::config::Storage;
use xmpp_stream::stream::ScramHash;
use xmpp_testkit::load::process::{Child, parent_is_done};
use xmpp_testkit::load::server::{DOMAIN, PASSWORD, address, local, populate_with, start};
use xmpp_testkit::load::{Scheme, Target, announce};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// About what a person writes.
const BODY: &str = "What do you say to a walk along the river when the rain is over? \
                    I would bring the letters, and we could read them on the bridge.";
/// What clients pay once a login; the same for all.
const ITERATIONS: u32 = 4096;
/// Accounts for works other than idling.
const FIRST_IDLE: usize = 10;
/// Where the others lie once they are built.
const TOKIO_XMPP: &str = "tests/peers/tokio-xmpp/target/release/peer-tokio-xmpp";
const SLIXMPP: &str = "target/peers/bin/python";
const SLIXMPP_WORKS: &str = "tests/peers/slixmpp/works.py";

struct Plan {
    rounds: usize,
    messages: usize,
    clients: usize,
    connects: usize,
}

/// One library.
#[derive(Clone, Copy)]
enum Library {
    Ours,
    TokioXmpp,
    Slixmpp,
}

/// What one round found.
#[derive(Clone, Copy, Default)]
struct Found {
    connect_us: f64,
    connect_cpu_us: f64,
    sent_us: f64,
    sent_allocations: f64,
    received_us: f64,
    received_allocations: f64,
    idle_heap: f64,
    idle_resident: f64,
}

type Row = (&'static str, fn(&Found) -> f64);

const ROWS: &[Row] = &[
    ("connect() to bound, us", |found| found.connect_us),
    ("connect(), us of CPU", |found| found.connect_cpu_us),
    ("message sent, us of CPU", |found| found.sent_us),
    ("message sent, allocations", |found| found.sent_allocations),
    ("message received, us of CPU", |found| found.received_us),
    ("message received, allocations", |found| {
        found.received_allocations
    }),
    ("idle client, bytes of heap", |found| found.idle_heap),
    ("idle client, bytes resident", |found| found.idle_resident),
];

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server", accounts] => runtime.block_on(serve(accounts.parse().expect("a number"))),
        ["ours", address, domain, work, n] => {
            runtime.block_on(ours(address, domain, work, n.parse().expect("a number")));
        }
        options => runtime.block_on(compare(&plan(options))),
    }
}

fn plan(options: &[&str]) -> Plan {
    let mut plan = Plan {
        rounds: 3,
        messages: 20_000,
        clients: 500,
        connects: 20,
    };
    for pair in options.chunks(2) {
        let value = pair.get(1).and_then(|value| value.parse().ok());
        let value = value.expect("a number behind an option");
        match pair[0] {
            "--rounds" => plan.rounds = value,
            "--messages" => plan.messages = value,
            "--clients" => plan.clients = value,
            "--connects" => plan.connects = value,
            other => panic!("no option {other}"),
        }
    }
    plan
}

async fn compare(plan: &Plan) {
    let mut libraries = vec![("ours", Library::Ours)];
    let others = [
        ("tokio-xmpp", Library::TokioXmpp, TOKIO_XMPP),
        ("slixmpp", Library::Slixmpp, SLIXMPP),
    ];
    for (name, library, path) in others {
        match Path::new(path).exists() {
            true => libraries.push((name, library)),
            false => println!("{name} is not there: see tests/peers/README.md"),
        }
    }
    let mut server = Child::start(&["server", &(plan.clients + FIRST_IDLE).to_string()], &[]);
    let line = server.hear("ready");
    let target = Target::announced(&line);
    let ca = std::env::temp_dir().join(format!("beside_clients-{}.pem", std::process::id()));
    std::fs::write(&ca, &target.ca_pem).expect("a file for the CA");
    let mut found: Vec<Vec<Found>> = vec![Vec::new(); libraries.len()];
    for _ in 0..plan.rounds {
        for ((_, library), found) in libraries.iter().zip(&mut found) {
            found.push(round(*library, plan, &target, &ca).await);
        }
    }
    let _ = std::fs::remove_file(&ca);
    print!("{:<32}", format!("medians of {} rounds", plan.rounds));
    libraries.iter().for_each(|(name, _)| print!("{name:>14}"));
    println!();
    for (name, value) in ROWS {
        print!("{name:<32}");
        for found in &found {
            let mut values: Vec<f64> = found.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            match values[values.len() / 2] {
                none if none.is_nan() => print!("{:>14}", "-"),
                value => print!("{value:>14.1}"),
            }
        }
        println!();
    }
}

/// All works of one library.
async fn round(library: Library, plan: &Plan, target: &Target, ca: &Path) -> Found {
    let begin = |work: &str, n: usize| library.start(target, ca, work, n);
    let mut found = Found::default();

    let mut child = begin("connect", plan.connects);
    let (cpu, done) = worked(&mut child, async {}).await;
    found.connect_us = done / 1000.0;
    found.connect_cpu_us = cpu / plan.connects as f64;
    drop(child);

    let mut sink = target.connect(None).await.expect("a connection");
    sink.login((&local(0), PASSWORD, "sink"), Scheme::Sha256)
        .await
        .expect("a login");
    sink.come_online().await.expect("presence");
    sink.barrier().await.expect("an answer");
    let mut child = begin("send", plan.messages);
    let take = async {
        let mut taken = 0;
        while taken < plan.messages {
            taken += sink.count("</message>").await.expect("messages");
        }
    };
    let (cpu, done) = worked(&mut child, take).await;
    found.sent_us = cpu / plan.messages as f64;
    found.sent_allocations = done;
    drop(child);

    let mut child = begin("receive", plan.messages);
    let message = format!(
        "<message to='{}@{DOMAIN}/r' type='chat' id='0123456789'><body>{BODY}</body></message>",
        local(2)
    );
    let give = async {
        for _ in 0..plan.messages / 10 {
            sink.send(&message.repeat(10)).await.expect("sent");
        }
    };
    let (cpu, done) = worked(&mut child, give).await;
    found.received_us = cpu / plan.messages as f64;
    found.received_allocations = done;
    drop(child);

    let mut child = begin("idle", plan.clients);
    child.hear("begin");
    let resident = child.resident();
    found.idle_heap = child.hear("done").parse().unwrap_or(f64::NAN);
    found.idle_resident = resident as f64 / plan.clients as f64;
    found
}

/// Lets a prepared child work while `beside` runs: microseconds of its processor, and its figure.
async fn worked(child: &mut Child, beside: impl Future<Output = ()>) -> (f64, f64) {
    child.hear("begin");
    let before = child.cpu();
    child.say("go");
    beside.await;
    let done = child.hear("done").parse().unwrap_or(f64::NAN);
    ((child.cpu() - before).as_secs_f64() * 1e6, done)
}

impl Library {
    fn start(self, target: &Target, ca: &Path, work: &str, n: usize) -> Child {
        let mut command = match self {
            Self::Ours => {
                let program = std::env::current_exe().expect("the path of this program");
                let mut command = Command::new(program);
                command.arg("ours");
                command
            }
            Self::TokioXmpp => Command::new(TOKIO_XMPP),
            Self::Slixmpp => {
                let mut command = Command::new(SLIXMPP);
                command.arg(SLIXMPP_WORKS);
                command
            }
        };
        let address = target.address.to_string();
        command
            .args([&address, DOMAIN, work, &n.to_string()])
            .env("SSL_CERT_FILE", ca);
        Child::of(command)
    }
}

/// The server of all: keys for one hash alone, so that everybody signs in by the same mechanism.
async fn serve(accounts: usize) {
    let server = start(Storage::Memory, |_| {}).await;
    let mut keys = derive_all(PASSWORD, ITERATIONS);
    keys.retain(|keys| keys.hash == ScramHash::Sha256);
    populate_with(&server, accounts, 0, &keys).await;
    announce(address(&server), server.ca_pem().expect("a development CA"));
    parent_is_done().await;
}

fn begin() {
    println!("begin");
    let _ = std::io::stdin().lock().lines().next();
}

/// The works by our own client.
async fn ours(address: &str, domain: &str, work: &str, n: usize) {
    let connect = async |user: usize, resource: &str| {
        XmppClient::builder(&format!("{}@{domain}/{resource}", local(user)))
            .password(PASSWORD)
            .connect_to(address)
            .direct_tls()
            .connect()
            .await
            .expect("connected")
    };
    match work {
        "connect" => {
            begin();
            let mut times = Vec::new();
            for _ in 0..n {
                let start = Instant::now();
                let client = connect(0, "c").await;
                times.push(start.elapsed());
                client.disconnect().await.expect("an end");
            }
            times.sort_unstable();
            println!("done {}", times.get(n / 2).map_or(0, Duration::as_nanos));
        }
        "send" => {
            let client = connect(1, "s").await;
            let to = format!("{}@{domain}", local(0));
            begin();
            let before = HEAP.stats();
            for _ in 0..n {
                let message = Stanza::chat(&to, BODY).expect("an address");
                client.send_stanza(message).await.expect("sent");
            }
            println!("done {}", (HEAP.stats() - before).allocations / n);
        }
        "receive" => {
            let client = connect(2, "r").await;
            let presence = Stanza::presence(Ty::None);
            client.send_stanza(presence).await.expect("sent");
            let mut events = client.events();
            begin();
            let before = HEAP.stats();
            let (mut got, mut bytes) = (0, 0);
            while got < n {
                if let Some(Event::Stanza(stanza)) = events.next().await
                    && let Some(body) = stanza.body()
                {
                    bytes += body.len();
                    got += 1;
                }
            }
            assert!(bytes > n, "bodies");
            println!("done {}", (HEAP.stats() - before).allocations / n);
        }
        "idle" => {
            let first = connect(9, "i").await;
            let mut clients = Vec::with_capacity(n);
            let before = HEAP.stats();
            for user in FIRST_IDLE..FIRST_IDLE + n {
                clients.push(connect(user, "i").await);
            }
            let stats = HEAP.stats() - before;
            println!("begin");
            let heap = stats.bytes_allocated - stats.bytes_deallocated;
            println!("done {}", heap / n);
            parent_is_done().await;
            drop((first, clients));
            return;
        }
        other => panic!("no work {other}"),
    }
    parent_is_done().await;
}
