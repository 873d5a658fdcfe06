//! Ten thousand users connected at once: each signs in, sends a message and receives one.
//!
//! `cargo run --release -p xmpp-testkit --example ten_thousand -- [USERS] [memory|sqlite]`. The
//! server is a process of its own. Prints logins a second, how busy the machine was meanwhile (a
//! login that waits for locks would leave it idle), processor time of a login beside that of a bare
//! TLS handshake, and resident memory a session; fails when anything failed.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use xmpp_server::config::Storage;
use xmpp_testkit::load::process::{Child, own_cpu, parent_is_done};
use xmpp_testkit::load::relay::Relay;
use xmpp_testkit::load::server::{DOMAIN, PASSWORD, address, local, populate, start};
use xmpp_testkit::load::{Peer, Scheme, Target, announce};

/// Logins under way at a time.
const AT_ONCE: usize = 64;
/// Handshakes for the comparison.
const HANDSHAKES: usize = 1000;
/// No login or message takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    rlimit::increase_nofile_limit(u64::MAX).expect("more open files");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    match words.as_slice() {
        ["child", "relay"] => runtime.block_on(relay()),
        ["child", users, dir @ ..] => {
            let users = users.parse().expect("a number of users");
            runtime.block_on(server(users, dir.first().copied()));
        }
        words => {
            let users = words
                .first()
                .and_then(|word| word.parse().ok())
                .unwrap_or(10_000);
            let sqlite = words.get(1) == Some(&"sqlite");
            return runtime.block_on(play(users, sqlite));
        }
    }
    ExitCode::SUCCESS
}

async fn relay() {
    let relay = Relay::start().await;
    announce(relay.address(), relay.ca_pem());
    tokio::spawn(relay.run());
    parent_is_done().await;
}

async fn server(users: usize, dir: Option<&str>) {
    let storage = dir.map_or(Storage::Memory, |_| Storage::Sqlite);
    let server = start(storage, |config| config.data_dir = dir.map(Into::into)).await;
    populate(&server, users, 0).await;
    announce(address(&server), server.ca_pem().expect("a development CA"));
    parent_is_done().await;
    server.shutdown().await;
}

async fn play(users: usize, sqlite: bool) -> ExitCode {
    let handshake = {
        let mut child = Child::start(&["child", "relay"], &[]);
        let target = Arc::new(Target::announced(&child.hear("ready")));
        let cpu = child.cpu();
        let (peers, _) = connect(&target, HANDSHAKES, false).await;
        let each = (child.cpu() - cpu).as_secs_f64() * 1e6 / HANDSHAKES as f64;
        drop(peers);
        each
    };
    let dir = std::env::temp_dir().join(format!("ten_thousand-{}", std::process::id()));
    let (path, number) = (dir.to_string_lossy().into_owned(), users.to_string());
    let mut arguments = vec!["child", &number];
    if sqlite {
        arguments.push(&path);
    }
    let mut child = Child::start(&arguments, &[]);
    let target = Arc::new(Target::announced(&child.hear("ready")));
    let (resident, cpu, own, start) = (child.resident(), child.cpu(), own_cpu(), now());
    let (mut peers, failed_logins) = connect(&target, users, true).await;
    let wall = (now() - start).as_secs_f64();
    let (login, own) = (
        (child.cpu() - cpu).as_secs_f64(),
        (own_cpu() - own).as_secs_f64(),
    );
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    println!("users {users}");
    println!("logins_per_second {:.0}", users as f64 / wall);
    println!(
        "machine_busy_percent {:.0}",
        (login + own) * 100.0 / wall / cores
    );
    println!("login_cpu_us {:.0}", login * 1e6 / users as f64);
    println!("handshake_cpu_us {handshake:.0}");
    println!(
        "login_by_handshake {:.2}",
        login * 1e6 / users as f64 / handshake
    );
    let held = child.resident().saturating_sub(resident);
    println!("resident_bytes_per_session {}", held / users as u64);
    let start = now();
    let failed_messages = chat(&mut peers).await;
    println!(
        "messages_per_second {:.0}",
        users as f64 / (now() - start).as_secs_f64()
    );
    println!("errors {}", failed_logins + failed_messages);
    drop(peers);
    drop(child);
    let _ = std::fs::remove_dir_all(&dir);
    match failed_logins + failed_messages {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Connects so many, a few at a time, in the order of their numbers; how many failed beside them.
async fn connect(target: &Arc<Target>, users: usize, login: bool) -> (Vec<(usize, Peer)>, usize) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut coming = JoinSet::new();
    for number in 0..users {
        let (target, places) = (Arc::clone(target), Arc::clone(&places));
        coming.spawn(async move {
            let _place = places.acquire_owned().await.expect("never closed");
            let connected = timeout(PATIENCE, one(&target, number, login)).await;
            (
                number,
                connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())),
            )
        });
    }
    let mut peers = Vec::new();
    let mut failed = 0;
    while let Some(came) = coming.join_next().await {
        match came.expect("no panic") {
            (number, Ok(peer)) => peers.push((number, peer)),
            (number, Err(error)) => {
                failed += 1;
                eprintln!("user {number}: {error}");
            }
        }
    }
    peers.sort_unstable_by_key(|(number, _)| *number);
    (peers, failed)
}

async fn one(target: &Target, number: usize, login: bool) -> std::io::Result<Peer> {
    // Ports of one address would not last for many more.
    let from = Ipv4Addr::new(127, 0, 0, 1 + (number / 5000 % 250) as u8);
    let mut peer = target.connect(Some(IpAddr::V4(from))).await?;
    if login {
        peer.login((&local(number), PASSWORD, "c"), Scheme::Sha1)
            .await?;
        peer.send("<presence/>").await?;
        peer.barrier().await?;
    } else {
        peer.send("x").await?;
    }
    Ok(peer)
}

/// Everyone writes to the neighbour, then everyone reads; how many failed.
async fn chat(peers: &mut [(usize, Peer)]) -> usize {
    let mut failed = 0;
    for (number, peer) in peers.iter_mut() {
        let to = format!("{}@{DOMAIN}/c", local(*number ^ 1));
        let text = format!("<message to='{to}' type='chat'><body>from {number}</body></message>");
        failed += usize::from(peer.send(&text).await.is_err());
    }
    for (number, peer) in peers.iter_mut() {
        let body = format!("<body>from {}</body></message>", *number ^ 1);
        let came = timeout(PATIENCE, peer.until(&body)).await;
        failed += usize::from(!came.is_ok_and(|came| came.is_ok()));
    }
    failed
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
