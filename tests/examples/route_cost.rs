//! What things cost in allocations and instructions, without sockets and TLS: a routed chat message,
//! a presence to fifty contacts, a login, a message to somebody who is not there, a talk over two
//! connections without and with stream management.
//!
//! `route_cost COUNT [chat|presence|login|offline|talk|managed]` prints allocations and bytes a unit; for
//! instructions it is run twice under callgrind with two counts, and the difference divided
//! (docs/perf/measure does both and prints what moved).

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use xmpp_server::config::{Config, Storage};
use xmpp_server::core::Core;
use xmpp_server::session::Session;
use xmpp_server::users::Users;
use xmpp_stream::jid::BareJid;
use xmpp_stream::limits::XmlLimits;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Item, Stanza};
use xmpp_stream::stream::Password;
use xmpp_stream::xml::{Frame, Reader};
use xmpp_testkit::load::{Peer, Scheme, server as load};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A chat message as Gajim and others send it: about 410 bytes.
const MESSAGE: &str = "<message to='bob@localhost' type='chat' id='4c1bd5ec-8f3a-4d6c-a1c3-1f1d2b1c7a55' \
xml:lang='en'><body>Are we still meeting at the station at half past seven?</body>\
<active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>\
<origin-id xmlns='urn:xmpp:sid:0' id='4c1bd5ec-8f3a-4d6c-a1c3-1f1d2b1c7a55'/>\
<markable xmlns='urn:xmpp:chat-markers:0'/></message>";

/// Contacts that a presence goes to.
const FANOUT: usize = 50;
/// Accounts that messages wait for, so that none has too many.
const ABSENT: usize = 100;

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(10_000);
    let work = std::env::args().nth(2);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // A login takes a while on purpose (xmpp-server/src/auth.rs).
        .start_paused(work.as_deref() == Some("login"))
        .build();
    let runtime = runtime.expect("a runtime");
    match work.as_deref() {
        None | Some("chat") => runtime.block_on(chat(count)),
        Some("presence") => runtime.block_on(presence(count)),
        Some("login") => runtime.block_on(login(count)),
        Some("offline") => runtime.block_on(offline(count)),
        Some("talk") => runtime.block_on(talk(count, false)),
        Some("managed") => runtime.block_on(talk(count, true)),
        Some(other) => panic!("no such work: {other}"),
    }
}

/// Allocations since `region`, a unit.
fn report(region: &Region<'_, System>, units: usize) {
    let change = region.change();
    let per = |number: usize| number as f64 / units as f64;
    println!("units {units}");
    println!("allocations {:.2}", per(change.allocations));
    println!("reallocations {:.2}", per(change.reallocations));
    println!("bytes {:.0}", per(change.bytes_allocated));
}

async fn chat(count: usize) {
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
    report(&region, count);
    println!("bytes_in {}", MESSAGE.len());
    println!("bytes_out {}", wire.len());
    server.shutdown().await;
}

/// One presence of one account to fifty contacts, written for each: a unit is the whole of it.
async fn presence(count: usize) {
    let server = load::start(Storage::Memory, |_| ()).await;
    load::populate(&server, FANOUT + 1, FANOUT).await;
    let handle = server.handle();
    let core = handle.core();
    let mut sessions = Vec::new();
    for number in 0..=FANOUT {
        let session = bind(core, number).await;
        let here = Stanza::parse("<presence/>").expect("presence");
        core.from_session(&session, here).await;
        sessions.push(session);
    }
    let away = "<presence><show>away</show><status>Out for lunch</status></presence>";
    let away = Stanza::parse(away).expect("presence");
    let mut wire = Vec::with_capacity(16 * 1024);
    take(core, &sessions, &mut wire);
    let region = Region::new(ALLOCATOR);
    for _ in 0..count {
        core.from_session(&sessions[0], away.clone()).await;
        take(core, &sessions, &mut wire);
    }
    report(&region, count);
    server.shutdown().await;
}

/// A message to an account without a session, stored.
async fn offline(count: usize) {
    let server = load::start(Storage::Memory, |_| ()).await;
    load::populate(&server, ABSENT + 1, 0).await;
    let handle = server.handle();
    let core = handle.core();
    let alice = bind(core, ABSENT).await;
    let text = |number| {
        let to = format!("{}@{}", load::local(number), load::DOMAIN);
        MESSAGE.replace("bob@localhost", &to)
    };
    let messages: Vec<Stanza> = (0..ABSENT)
        .map(|number| Stanza::parse(&text(number)).expect("a message"))
        .collect();
    let send = async |message: &Stanza| {
        if let Some(message) = core.message_now(&alice, message.clone()) {
            core.from_session(&alice, message).await;
        }
        // Memory commits at once.
        drop(alice.take_owed());
    };
    for message in &messages {
        send(message).await;
    }
    let region = Region::new(ALLOCATOR);
    for message in messages.iter().cycle().take(count) {
        send(message).await;
    }
    report(&region, count);
    server.shutdown().await;
}

/// A whole connection in clear over a pipe: SCRAM-SHA-1, bind, presence, end; the client's share
/// included, which does not change.
async fn login(count: usize) {
    let server = load::start(Storage::Memory, |config| config.c2s.require_tls = false).await;
    load::populate(&server, 1, 0).await;
    let handle = server.handle();
    let connect = async || {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let serving = handle.clone();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let serving =
            tokio::spawn(async move { serving.serve(Box::new(theirs), peer, false).await });
        let mut client = Peer::over(ours, load::DOMAIN);
        let name = load::local(0);
        let login = client.login((&name, load::PASSWORD, "c"), Scheme::Sha1);
        login.await.expect("a login");
        client.send("<presence/>").await.expect("sent");
        client.until("<presence").await.expect("own presence");
        drop(client);
        serving.await.expect("no panic");
    };
    connect().await;
    let region = Region::new(ALLOCATOR);
    for _ in 0..count {
        connect().await;
    }
    report(&region, count);
    server.shutdown().await;
}

/// Messages that are on their way in a talk at one time.
const AT_ONCE: usize = 4;

/// Messages over two connections in clear, some at a time; the clients' share included.
async fn talk(count: usize, managed: bool) {
    let server = load::start(Storage::Memory, |config| config.c2s.require_tls = false).await;
    load::populate(&server, 2, 0).await;
    let handle = server.handle();
    let connect = async |number| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let serving = handle.clone();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        tokio::spawn(async move { serving.serve(Box::new(theirs), peer, false).await });
        let mut client = Peer::over(ours, load::DOMAIN);
        let name = load::local(number);
        let login = client.login((&name, load::PASSWORD, "c"), Scheme::Sha1);
        login.await.expect("a login");
        client.come_online().await.expect("presence");
        if managed {
            client.enable_sm().await.expect("stream management");
        }
        client
    };
    let (mut alice, mut bob) = (connect(0).await, connect(1).await);
    let text = |number| {
        let to = format!("{}@{}/c", load::local(number), load::DOMAIN);
        MESSAGE.replace("bob@localhost", &to).repeat(AT_ONCE)
    };
    let (to_bob, to_alice) = (text(1), text(0));
    let region = Region::new(ALLOCATOR);
    for _ in 0..count.div_ceil(2 * AT_ONCE) {
        exchange(&mut alice, &mut bob, &to_bob).await;
        exchange(&mut bob, &mut alice, &to_alice).await;
    }
    report(&region, count);
    server.shutdown().await;
}

async fn exchange(from: &mut Peer, to: &mut Peer, text: &str) {
    from.send(text).await.expect("sent");
    let mut came = 0;
    while came < AT_ONCE {
        came += to.count("</message>").await.expect("messages");
    }
}

async fn bind(core: &Arc<Core>, number: usize) -> Session {
    let account = BareJid::account(&load::local(number), load::DOMAIN).expect("a name");
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    core.bind(&account, Some("balcony"), peer.into())
        .await
        .expect("a session")
}

/// What stands in the queues, written.
fn take(core: &Core, sessions: &[Session], wire: &mut Vec<u8>) {
    for session in sessions {
        wire.clear();
        session.outbox.send(&core.limits, |item| {
            match item {
                Item::Shared(how, rendered, _) => rendered.write(wire, *how, Some(&session.jid)),
                Item::One(stanza) => stanza.write(wire),
                _ => {}
            }
            true
        });
        core.took(&session.account, &session.outbox.flushed());
        black_box(&wire);
    }
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
