//! A server for figures: accounts in numbers, each with contacts, keys that cost clients nothing.
//!
//! One iteration of PBKDF2 instead of thousands: that work is the client's, and would only stand in
//! the way of what is measured.

use std::net::{Ipv4Addr, SocketAddr};
use xmpp_server::auth::derive_all;
use xmpp_server::config::{Config, Storage};
use xmpp_server::listener::ListenerKind;
use xmpp_server::store::{RosterRow, Subscription, WriteOp};
use xmpp_server::{Running, Server};
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::StoredKeys;

/// The domain of every measured server.
pub const DOMAIN: &str = "load.test";
/// Every account's password.
pub const PASSWORD: &str = "secret";

/// Accounts made in one commit.
const BATCH: usize = 100;

/// The name of an account.
#[must_use]
pub fn local(number: usize) -> String {
    format!("u{number}")
}

/// A server on a free port of the loopback interface, direct TLS only.
///
/// # Panics
/// It does not start.
pub async fn start(storage: Storage, change: impl FnOnce(&mut Config)) -> Running {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::default_zero();
    config.domains[0].name = DOMAIN.to_owned();
    config.c2s.listen = Vec::new();
    config.c2s.listen_tls = vec![any_port];
    config.storage = storage;
    config.sasl.scram_iterations = 1;
    change(&mut config);
    Server::start(config).await.expect("a server")
}

/// Where a started server listens.
///
/// # Panics
/// Not there.
#[must_use]
pub fn address(server: &Running) -> SocketAddr {
    server.address(ListenerKind::C2sTls).expect("a listener")
}

/// Makes accounts `u0`, `u1`, … of which each knows the next `contacts` (in a ring), by subscriptions
/// in both directions.
///
/// # Panics
/// The store fails.
pub async fn populate(server: &Running, accounts: usize, contacts: usize) {
    populate_with(server, accounts, contacts, &derive_all(PASSWORD, 1)).await;
}

/// The same with these keys of their one password.
///
/// # Panics
/// The store fails.
pub async fn populate_with(
    server: &Running,
    accounts: usize,
    contacts: usize,
    keys: &[StoredKeys],
) {
    create(server, DOMAIN, accounts, keys).await;
    if contacts == 0 {
        return;
    }
    let handle = server.handle();
    let jid = |number: usize| account(number % accounts, DOMAIN);
    let store = &handle.core().store;
    for number in 0..accounts {
        let ahead = (1..=contacts / 2).map(|step| jid(number + step));
        let behind = (1..=contacts - contacts / 2).map(|step| jid(number + accounts - step));
        let rows = ahead
            .chain(behind)
            .enumerate()
            .map(|(at, contact)| WriteOp::Roster {
                account: jid(number),
                item: row(contact, at as u64 + 1),
                expect: None,
                ver: at as u64 + 1,
            });
        store.submit(rows.collect()).await.expect("a roster");
    }
}

/// Makes accounts `u0`, `u1`, … of a domain, without contacts.
///
/// # Panics
/// The store fails.
pub async fn create(server: &Running, domain: &str, accounts: usize, keys: &[StoredKeys]) {
    let handle = server.handle();
    let held = xmpp_server::offers::set_of(keys);
    handle.core().offers.narrow(domain, held);
    let create = |number| WriteOp::AccountCreate {
        account: account(number, domain),
        keys: keys.to_vec(),
        created: 0,
    };
    for first in (0..accounts).step_by(BATCH) {
        let ops = (first..accounts.min(first + BATCH)).map(create);
        let made = handle.core().store.submit(ops.collect()).await;
        made.expect("accounts");
    }
}

fn account(number: usize, domain: &str) -> BareJid {
    BareJid::account(&local(number), domain).expect("the name of an account")
}

fn row(jid: BareJid, ver: u64) -> RosterRow {
    RosterRow {
        ver,
        name: jid.local().map(|local| format!("Contact {local}").into()),
        jid,
        groups: vec!["Friends".into()],
        subscription: Subscription::Both,
        ask: false,
        pending_in: None,
        approved: false,
    }
}
