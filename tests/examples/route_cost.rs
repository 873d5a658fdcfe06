//! What one routed chat message costs, without sockets and TLS: parse, stages, queue, wire form.
//!
//! Prints allocations and bytes a message; for instructions run it twice under callgrind with two
//! counts and divide the difference (docs/perf/README.md has the commands).

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use xmpp_server::config::Config;
use xmpp_server::core::Core;
use xmpp_server::session::Session;
use xmpp_server::users::Users;
use xmpp_stream::jid::BareJid;
use xmpp_stream::limits::XmlLimits;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Item, Stanza};
use xmpp_stream::stream::Password;
use xmpp_stream::xml::{Frame, Reader};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A chat message as Gajim and others send it: about 410 bytes.
const MESSAGE: &str = "<message to='bob@localhost' type='chat' id='4c1bd5ec-8f3a-4d6c-a1c3-1f1d2b1c7a55' \
xml:lang='en'><body>Are we still meeting at the station at half past seven?</body>\
<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>\
<origin-id xmlns='urn:xmpp:sid:0' id='4c1bd5ec-8f3a-4d6c-a1c3-1f1d2b1c7a55'/>\
<markable xmlns='urn:xmpp:chat-markers:0'/></message>";

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(10_000);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(measure(count));
}

async fn measure(count: usize) {
    let config = Config::default_zero().memory().listen([]).listen_tls([]);
    let server = xmpp_server::Server::start(config).await.expect("a server");
    let handle = server.handle();
    let core = handle.core();
    let alice = sign_in(core, "alice").await;
    let bob = sign_in(core, "bob").await;
    let presence = Stanza::parse("<presence/>").expect("presence");
    core.from_session(&bob, presence).await;
    let mut reader = Reader::new(XmlLimits::c2s(), ns::CLIENT);
    let mut header: &[u8] =
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    reader.next(&mut header).expect("header");
    let mut wire = Vec::with_capacity(16 * 1024);
    for _ in 0..100 {
        one(core, &mut reader, &alice, &bob, &mut wire);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..count {
        one(core, &mut reader, &alice, &bob, &mut wire);
    }
    let change = region.change();
    let per = |number: usize| number as f64 / count as f64;
    println!("messages {count}");
    println!("bytes_in {}", MESSAGE.len());
    println!("bytes_out {}", wire.len());
    println!("allocations_per_message {:.2}", per(change.allocations));
    println!("reallocations_per_message {:.2}", per(change.reallocations));
    println!(
        "bytes_allocated_per_message {:.0}",
        per(change.bytes_allocated)
    );
    server.shutdown().await;
}

async fn sign_in(core: &Arc<Core>, local: &str) -> Session {
    let account = BareJid::account(local, "localhost").expect("a name");
    let users = Users::Running(Arc::clone(core));
    users
        .add(&account, Password("secret".to_owned()))
        .await
        .expect("an account");
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    core.bind(&account, Some("balcony"), peer.into())
        .await
        .expect("a session")
}

fn one(core: &Arc<Core>, reader: &mut Reader, from: &Session, to: &Session, wire: &mut Vec<u8>) {
    let mut input = MESSAGE.as_bytes();
    let Ok(Some(Frame::Stanza(stanza))) = reader.next(&mut input) else {
        panic!("the message is not one stanza");
    };
    assert!(
        core.message_now(from, stanza).is_none(),
        "not the fast path"
    );
    wire.clear();
    to.outbox.send(&core.limits, |item| {
        match item {
            Item::Shared(how, rendered, _) => rendered.write(wire, *how, Some(&to.jid)),
            _ => panic!("not a shared rendering"),
        }
        true
    });
    core.took(&to.account, &to.outbox.flushed());
    drop(from.take_owed());
    black_box(&wire);
}
