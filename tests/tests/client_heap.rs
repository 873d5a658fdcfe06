//! What a client costs: heap while it is idle, allocations a message.
//!
//! The clients are in this process, under a counting allocator; the server is in a second one, which
//! is this program again.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::env;
use xmpp_client::{Kind, Stanza, Ty, XmppClient};
use xmpp_testkit::TestLab;
use xmpp_testkit::load::process::{Child, parent_is_done};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CLIENTS: usize = 100;
const MESSAGES: usize = 500;
/// Of an idle client: TLS, its task and its settings. rustls alone holds half of it.
const HEAP_MAX: isize = 24 * 1024;
/// Of one message, on its way out and on its way in, acknowledged each time.
const ALLOCATIONS_MAX: usize = 40;

const SERVER: &str = "CLIENT_HEAP_SERVER";

#[test]
fn a_client_is_small() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    match env::var(SERVER) {
        Ok(_) => runtime.block_on(server()),
        Err(_) => runtime.block_on(clients()),
    }
}

fn account(number: usize) -> String {
    format!("u{number}@a.test")
}

async fn server() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    for number in 0..CLIENTS {
        lab.account(&account(number)).await;
    }
    println!("address {}", lab.place("a.test").address);
    println!("ca {}", lab.ca_pem().replace('\n', "|"));
    parent_is_done().await;
    lab.shutdown().await;
}

async fn client(number: usize, address: &str, ca: &str) -> XmppClient {
    let jid = account(number);
    let client = XmppClient::builder(&jid)
        .password(&format!("secret of {jid}"))
        .ca_pem(ca)
        .connect_to(address)
        .connect()
        .await
        .expect("a client");
    client
        .send_stanza(Stanza::presence(Ty::None))
        .await
        .expect("a stream");
    next_presence(&client).await;
    client
}

async fn next_presence(client: &XmppClient) {
    loop {
        let stanza = client.next_stanza().await.expect("own presence");
        if stanza.kind == Kind::Presence {
            return;
        }
    }
}

async fn clients() {
    let starting = tokio::task::spawn_blocking(|| {
        let arguments = ["--exact", "a_client_is_small", "--nocapture"];
        let mut child = Child::start(&arguments, &[(SERVER, "1")]);
        let address = child.hear("address ");
        let ca = child.hear("ca ").replace('|', "\n");
        (child, address, ca)
    });
    let (child, address, ca) = starting.await.expect("a server");
    let first = client(0, &address, &ca).await;
    let region = Region::new(ALLOCATOR);
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 1..CLIENTS {
        clients.push(client(number, &address, &ca).await);
    }
    let change = region.change();
    let held = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    let each = held / clients.len() as isize;
    println!("heap of an idle client: {each} bytes");

    let second = clients.first().expect("a client");
    let to = second.jid();
    let message = Stanza::chat(
        to.as_str(),
        "a message of usual length, as people write them",
    );
    let message = message.expect("an address");
    talk(&first, second, &message, MESSAGES).await;
    let region = Region::new(ALLOCATOR);
    talk(&first, second, &message, MESSAGES).await;
    let change = region.change();
    let allocations = (change.allocations + change.reallocations) / MESSAGES;
    println!("allocations of a message sent and received: {allocations}");
    let ended = tokio::task::spawn_blocking(move || drop(child));
    ended.await.expect("the server ends");
    assert!(each <= HEAP_MAX, "{each} bytes, at most {HEAP_MAX}");
    assert!(
        allocations <= ALLOCATIONS_MAX,
        "{allocations} allocations, at most {ALLOCATIONS_MAX}"
    );
}

/// One after the other.
async fn talk(from: &XmppClient, to: &XmppClient, message: &Stanza, count: usize) {
    for _ in 0..count {
        from.send_stanza(message.clone()).await.expect("a stream");
        let got = to.next_stanza().await.expect("a message");
        assert_eq!(got.kind, Kind::Message);
    }
}
