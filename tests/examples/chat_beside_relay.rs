//! What the server's processor time for chat, presence, login and offline messages is, beside a bare
//! TLS relay and a bare TLS handshake.
//!
//! `cargo run --release -p xmpp-testkit --example chat_beside_relay -- [--sm] [--rounds N]
//! [--seconds N] [ROW]...` runs relay and servers as child processes of one thread each, by turns,
//! and prints medians, the ratio to the relay and the target of DESIGN 13. With `--sm` clients use
//! stream management. Rows: those whose name contains one of the words given; without, all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::interval_at;
use xmpp_server::config::Storage;
use xmpp_testkit::load::process::{Child, parent_is_done};
use xmpp_testkit::load::relay::Relay;
use xmpp_testkit::load::server::{DOMAIN, PASSWORD, address, local, populate, start};
use xmpp_testkit::load::{Peer, Scheme, Target, announce};

/// Accounts of a measured server.
const ACCOUNTS: usize = 260;
const FANOUT: usize = 50;
/// Accounts from here on never sign in.
const OFFLINE: usize = 250;
/// Connections made one after the other.
const CONNECTIONS: usize = 200;
const SETTLE: Duration = Duration::from_millis(500);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    match words.as_slice() {
        ["child", "relay"] => runtime.block_on(relay()),
        ["child", contacts, dir @ ..] => {
            let contacts = contacts.parse().expect("a number of contacts");
            runtime.block_on(server(contacts, dir.first().copied()));
        }
        _ => {
            let plan = Plan::read(&words);
            runtime
                .block_on(runtime.spawn(compare(plan)))
                .expect("no panic");
        }
    }
}

async fn relay() {
    let relay = Relay::start().await;
    announce(relay.address(), relay.ca_pem());
    tokio::spawn(relay.run());
    parent_is_done().await;
}

async fn server(contacts: usize, dir: Option<&str>) {
    let storage = dir.map_or(Storage::Memory, |_| Storage::Sqlite);
    let server = start(storage, |config| config.data_dir = dir.map(Into::into)).await;
    populate(&server, ACCOUNTS, contacts).await;
    announce(address(&server), server.ca_pem().expect("a development CA"));
    parent_is_done().await;
    server.shutdown().await;
}

struct Plan {
    sm: bool,
    rounds: usize,
    seconds: f64,
    rows: Vec<String>,
}

impl Plan {
    fn read(words: &[&str]) -> Self {
        let mut plan = Self {
            sm: false,
            rounds: 5,
            seconds: 3.0,
            rows: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|word| word.parse::<f64>().ok());
            match *word {
                "--sm" => plan.sm = true,
                "--rounds" => plan.rounds = number().expect("a number") as usize,
                "--seconds" => plan.seconds = number().expect("a number"),
                row => plan.rows.push(row.to_owned()),
            }
        }
        plan
    }

    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// What is done to the other end.
#[derive(Clone, Copy)]
enum Work {
    /// Pairs that keep so many messages in flight.
    Chat { pairs: usize, in_flight: usize },
    /// Messages a second by so many pairs, whatever the answers; the figure is a time on the way.
    Steady { pairs: usize, rate: u32, share: f64 },
    /// Presence of one account to its contacts.
    Presence,
    /// Connections, held: with a login, or with the handshake alone.
    Connect { login: bool },
    /// Connections, held, over which a relay passes so many messages each.
    Turns(usize),
    /// Messages to accounts that are not there.
    Offline,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Other {
    Relay,
    Memory,
    /// In memory, and the clients use stream management.
    Managed,
    Sqlite,
}

struct Row {
    name: &'static str,
    /// Measured at each of these; the first is what the others are compared with.
    at: &'static [Other],
    work: Work,
    /// Work of the first, where it is another.
    base: Option<Work>,
    target: &'static str,
}

const CHAT_4: Work = Work::Chat {
    pairs: 50,
    in_flight: 4,
};
const CHAT_1: Work = Work::Chat {
    pairs: 100,
    in_flight: 1,
};
const ALL: &[Other] = &[Other::Relay, Other::Memory, Other::Sqlite];
const WITH_MANAGED: &[Other] = &[Other::Relay, Other::Memory, Other::Managed, Other::Sqlite];
const SERVERS: &[Other] = &[Other::Memory, Other::Sqlite];

fn rows() -> Vec<Row> {
    let steady = |share| Work::Steady {
        pairs: 50,
        rate: 1000,
        share,
    };
    let row = |name, at, work, target| Row {
        name,
        at,
        work,
        base: None,
        target,
    };
    vec![
        row(
            "chat-4: 50 pairs, 4 in flight",
            WITH_MANAGED,
            CHAT_4,
            "7 x relay; SQLite 11 x; managed 1.15 x memory",
        ),
        row(
            "chat-1: 100 pairs, 1 in flight",
            ALL,
            CHAT_1,
            "3 x relay (memory)",
        ),
        row("steady-p50: 1,000/s", ALL, steady(0.50), "1.5 x relay"),
        row("steady-p99: 1,000/s", ALL, steady(0.99), "1.5 x relay"),
        row(
            "presence to 50, a delivery",
            SERVERS,
            Work::Presence,
            "8 us",
        ),
        Row {
            base: Some(Work::Connect { login: false }),
            ..row(
                "login, beside a handshake",
                ALL,
                Work::Connect { login: true },
                "1.2 x handshake + 200 us",
            )
        },
        // A login takes six turns: what those cost with nothing to do in them.
        Row {
            base: Some(Work::Turns(6)),
            ..row(
                "login, beside six bare turns",
                ALL,
                Work::Connect { login: true },
                "-",
            )
        },
        row(
            "offline, a message",
            SERVERS,
            Work::Offline,
            "40 us (SQLite)",
        ),
    ]
}

async fn compare(plan: Plan) {
    let sm = if plan.sm { ", stream management" } else { "" };
    println!(
        "medians of {} rounds of {} s{sm}; us",
        plan.rounds, plan.seconds
    );
    println!(
        "{:<32} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}  target",
        "", "relay", "memory", "sqlite", "managed", "m/r", "s/r", "mg/m"
    );
    for row in rows() {
        let chosen = plan.rows.is_empty()
            || plan
                .rows
                .iter()
                .any(|word| row.name.contains(word.as_str()));
        if !chosen {
            continue;
        }
        let mut found: Vec<Vec<f64>> = row.at.iter().map(|_| Vec::new()).collect();
        for _ in 0..plan.rounds {
            for (at, other) in row.at.iter().enumerate() {
                let work = row.base.filter(|_| at == 0).unwrap_or(row.work);
                found[at].push(measure(*other, work, &plan).await);
            }
        }
        let of = |other: Other| {
            let at = row.at.iter().position(|at| *at == other)?;
            let mut times = found[at].clone();
            times.sort_by(f64::total_cmp);
            Some(times[times.len() / 2])
        };
        let show = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
        };
        let (relay, memory, sqlite) = (of(Other::Relay), of(Other::Memory), of(Other::Sqlite));
        let managed = of(Other::Managed);
        let ratio = |value: Option<f64>| Some(value? / relay?);
        println!(
            "{:<32} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}  {}",
            row.name,
            show(relay),
            show(memory),
            show(sqlite),
            show(managed),
            show(ratio(memory)),
            show(ratio(sqlite)),
            show(managed.and_then(|managed| Some(managed / memory?))),
            row.target
        );
    }
}

/// Microseconds: of the other end's processor a unit of work, or of time on the way.
async fn measure(other: Other, work: Work, plan: &Plan) -> f64 {
    let dir = std::env::temp_dir().join(format!("chat_beside_relay-{}", std::process::id()));
    let path = dir.to_string_lossy().into_owned();
    let contacts = match work {
        Work::Presence => FANOUT.to_string(),
        _ => "0".to_owned(),
    };
    let arguments = match other {
        Other::Relay => vec!["child", "relay"],
        Other::Memory | Other::Managed => vec!["child", &contacts],
        Other::Sqlite => vec!["child", &contacts, &path],
    };
    let mut child = Child::start(&arguments, &[]);
    let target = Target::announced(&child.hear("ready"));
    let bench = Bench {
        target: Arc::new(target),
        other,
        sm: other == Other::Managed || (plan.sm && other != Other::Relay),
        count: Arc::default(),
        peers: JoinSet::new(),
    };
    let figure = match work {
        Work::Chat { pairs, in_flight } => bench.chat(&child, pairs, in_flight, plan.span()).await,
        Work::Steady { pairs, rate, share } => bench.steady(pairs, rate, share, plan.span()).await,
        Work::Presence => bench.presence(&child, plan.span()).await,
        Work::Connect { login } => bench.connect(&child, login).await,
        Work::Turns(turns) => bench.turns(&child, turns).await,
        Work::Offline => bench.offline(&child, plan.span()).await,
    };
    drop(child);
    let _ = std::fs::remove_dir_all(&dir);
    figure
}

struct Bench {
    target: Arc<Target>,
    other: Other,
    sm: bool,
    count: Arc<AtomicU64>,
    peers: JoinSet<()>,
}

impl Bench {
    /// A peer that is ready to talk to its neighbour, whose number is the same but for the last bit.
    async fn peer(&self, number: usize) -> Peer {
        let mut peer = self.target.connect(None).await.expect("a connection");
        if self.other == Other::Relay {
            peer.send(&format!("{}\n", number / 2))
                .await
                .expect("a first line");
            return peer;
        }
        peer.login((&local(number), PASSWORD, "c"), Scheme::Sha1)
            .await
            .expect("a login");
        peer
    }

    /// Signs in many, each available, and lets what their coming causes pass.
    async fn online(&self, peers: usize) -> Vec<Peer> {
        let mut all = Vec::new();
        for number in 0..peers {
            let mut peer = self.peer(number).await;
            if self.other != Other::Relay {
                peer.come_online().await.expect("presence");
            }
            all.push(peer);
        }
        for peer in &mut all {
            if self.other != Other::Relay {
                peer.barrier().await.expect("an answer");
            }
            if self.sm {
                peer.enable_sm().await.expect("stream management");
            }
        }
        all
    }

    /// Processor time of the child a count, over a span in the middle.
    async fn cost(&self, child: &Child, span: Duration, units: f64) -> f64 {
        pass(SETTLE).await;
        let (cpu, count) = (child.cpu(), self.count.load(Ordering::Relaxed));
        pass(span).await;
        let cpu = child.cpu() - cpu;
        let count = self.count.load(Ordering::Relaxed) - count;
        cpu.as_secs_f64() * 1e6 / count as f64 / units
    }

    async fn chat(mut self, child: &Child, pairs: usize, in_flight: usize, span: Duration) -> f64 {
        for (number, mut peer) in self.online(pairs * 2).await.into_iter().enumerate() {
            let count = Arc::clone(&self.count);
            self.peers.spawn(async move {
                let text = message(number, "");
                if number % 2 == 0 {
                    peer.send(&text.repeat(in_flight)).await.expect("sent");
                }
                while let Ok(came) = peer.count("</message>").await {
                    count.fetch_add(came as u64, Ordering::Relaxed);
                    if peer.send(&text.repeat(came)).await.is_err() {
                        return;
                    }
                }
            });
        }
        self.cost(child, span, 1.0).await
    }

    async fn steady(self, pairs: usize, rate: u32, share: f64, span: Duration) -> f64 {
        let start = now();
        let peers = self.online(pairs * 2).await;
        let pause = Duration::from_secs(1) * (pairs as u32 * 2) / rate;
        let number_of = peers.len() as u32;
        let first = now() + SETTLE;
        let rounds = (span.as_secs_f64() / pause.as_secs_f64()) as usize;
        let mut times = JoinSet::new();
        for (number, mut peer) in peers.into_iter().enumerate() {
            let mine = first + pause * number as u32 / number_of;
            times.spawn(async move {
                let mut ticks = interval_at(mine.into(), pause);
                let mut found = Vec::new();
                let mut sent = 0;
                while found.len() < rounds || sent < rounds {
                    tokio::select! {
                        _ = ticks.tick(), if sent < rounds => {
                            sent += 1;
                            let stamp = (now() - start).as_micros();
                            let text = message(number, &format!("#{stamp}#"));
                            peer.send(&text).await.expect("sent");
                        }
                        text = peer.until("</message>") => {
                            let text = text.expect("a message");
                            let stamp = text.split('#').nth(1).expect("a stamp");
                            let sent = Duration::from_micros(stamp.parse().expect("a number"));
                            found.push((now() - start).saturating_sub(sent));
                        }
                    }
                }
                // The neighbour may still wait: nobody leaves before all are done.
                (found, peer)
            });
        }
        let (all, peers): (Vec<_>, Vec<_>) = times.join_all().await.into_iter().unzip();
        drop(peers);
        let mut all: Vec<Duration> = all.into_iter().flatten().collect();
        all.sort_unstable();
        all[((all.len() as f64 * share) as usize).min(all.len() - 1)].as_secs_f64() * 1e6
    }

    async fn presence(mut self, child: &Child, span: Duration) -> f64 {
        // Half of the contacts of the one in the middle stand before it, half behind.
        let mut peers = self.online(FANOUT + 1).await;
        let mut sender = peers.remove(FANOUT / 2);
        for mut peer in peers {
            self.peers
                .spawn(async move { while peer.count("</presence>").await.is_ok() {} });
        }
        let count = Arc::clone(&self.count);
        self.peers.spawn(async move {
            let text = "<presence><show>away</show><status>Out for lunch</status></presence>";
            sender.send(&text.repeat(4)).await.expect("sent");
            while let Ok(came) = sender.count("</presence>").await {
                count.fetch_add(came as u64, Ordering::Relaxed);
                if sender.send(&text.repeat(came)).await.is_err() {
                    return;
                }
            }
        });
        self.cost(child, span, FANOUT as f64).await
    }

    async fn turns(self, child: &Child, turns: usize) -> f64 {
        let cpu = child.cpu();
        let mut held = Vec::new();
        for pair in 0..CONNECTIONS / 2 {
            let mut one = self.peer(pair * 2).await;
            let mut other = self.peer(pair * 2).await;
            for _ in 0..turns {
                for _ in 0..2 {
                    one.send("<message>a turn of one side</message>")
                        .await
                        .expect("sent");
                    other.until("</message>").await.expect("the message");
                    std::mem::swap(&mut one, &mut other);
                }
            }
            held.push((one, other));
        }
        pass(SETTLE).await;
        (child.cpu() - cpu).as_secs_f64() * 1e6 / CONNECTIONS as f64
    }

    async fn connect(self, child: &Child, login: bool) -> f64 {
        let cpu = child.cpu();
        let mut held = Vec::new();
        for number in 0..CONNECTIONS {
            let mut peer = self.target.connect(None).await.expect("a connection");
            if login {
                peer.login((&local(number), PASSWORD, "c"), Scheme::Sha1)
                    .await
                    .expect("a login");
                peer.send("<presence/>").await.expect("sent");
                peer.until("<presence").await.expect("own presence");
            } else {
                // A byte there: the handshake has ended on both sides.
                peer.send("x").await.expect("sent");
            }
            held.push(peer);
        }
        pass(SETTLE).await;
        (child.cpu() - cpu).as_secs_f64() * 1e6 / CONNECTIONS as f64
    }

    async fn offline(mut self, child: &Child, span: Duration) -> f64 {
        const SENDERS: usize = 20;
        const BATCH: usize = 16;
        for (number, mut peer) in self.online(SENDERS).await.into_iter().enumerate() {
            let count = Arc::clone(&self.count);
            self.peers.spawn(async move {
                let absent = OFFLINE + number % (ACCOUNTS - OFFLINE);
                let text = message_to(&format!("{}@{DOMAIN}", local(absent)), "");
                loop {
                    peer.send(&text.repeat(BATCH)).await.expect("sent");
                    if peer.barrier().await.is_err() {
                        return;
                    }
                    count.fetch_add(BATCH as u64, Ordering::Relaxed);
                }
            });
        }
        self.cost(child, span, 1.0).await
    }
}

/// A chat message of about 410 bytes to the neighbour.
fn message(number: usize, body: &str) -> String {
    message_to(&format!("{}@{DOMAIN}/c", local(number ^ 1)), body)
}

fn message_to(to: &str, body: &str) -> String {
    format!(
        "<message to='{to}' type='chat' id='4c1bd5ec-8f3a-4d6c-a1c3-1f1d2b1c7a55' xml:lang='en'>\
         <body>{body:.<16}Are we still meeting at the station at half past seven?</body>\
         <active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='4c1bd5ec-8f3a-4d6c-a1c3-1f1d2b1c7a55'/></message>"
    )
}

async fn pass(time: Duration) {
    interval_at(tokio::time::Instant::now() + time, time)
        .tick()
        .await;
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
