//! What an idle session costs in heap: signed in over TLS, available, a roster of ten contacts.
//!
//! DESIGN 13. The server is in this process, under a counting allocator; the clients are in a second
//! one, which is this program again.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::env;
use xmpp_server::config::Storage;
use xmpp_testkit::load::process::{Child, parent_is_done};
use xmpp_testkit::load::server::{DOMAIN, PASSWORD, address, local, populate, start};
use xmpp_testkit::load::{Scheme, Target};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What tables of the server grow by is shared by so many.
const SESSIONS: usize = 500;
const CONTACTS: usize = 10;
/// DESIGN 13.
const HEAP_MAX: usize = 12_288;

const ADDRESS: &str = "IDLE_HEAP_ADDRESS";
const CA: &str = "IDLE_HEAP_CA";

#[test]
fn an_idle_session_is_small() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    match env::var(ADDRESS) {
        Ok(address) => runtime.block_on(clients(&address)),
        Err(_) => runtime.block_on(server()),
    }
}

async fn server() {
    let server = start(Storage::Memory, |_| ()).await;
    populate(&server, SESSIONS, CONTACTS).await;
    let address = address(&server).to_string();
    let ca = server.ca_pem().expect("a development CA").to_owned();
    let region = Region::new(ALLOCATOR);
    let name = "an_idle_session_is_small";
    let child = tokio::task::spawn_blocking(move || {
        let arguments = ["--exact", name, "--nocapture"];
        let mut child = Child::start(&arguments, &[(ADDRESS, &address), (CA, &ca)]);
        child.hear("online");
        child
    });
    let child = child.await.expect("the clients sign in");
    let change = region.change();
    let held = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    let each = held / SESSIONS as isize;
    println!("heap of an idle session: {each} bytes");
    let ended = tokio::task::spawn_blocking(move || drop(child));
    ended.await.expect("the clients end");
    server.shutdown().await;
    assert!(
        each <= HEAP_MAX as isize,
        "{each} bytes, at most {HEAP_MAX}"
    );
}

async fn clients(address: &str) {
    let ca = env::var(CA).expect("the CA of the server");
    let target = Target::new(address.parse().expect("an address"), DOMAIN, &ca);
    let mut peers = Vec::new();
    for number in 0..SESSIONS {
        let mut peer = target.connect(None).await.expect("a connection");
        peer.login((&local(number), PASSWORD, "phone"), Scheme::Sha256)
            .await
            .expect("a login");
        peer.come_online().await.expect("presence");
        peers.push(peer);
    }
    for peer in &mut peers {
        peer.barrier().await.expect("an answer");
    }
    println!("online");
    parent_is_done().await;
}
