//! Sessions: a bound resource, its account, and the queue of what it is to receive.

pub mod account;
pub mod outbox;
pub mod registry;
pub mod roster;

use crate::effect::Effect;
use crate::host::Host;
use account::Account;
use outbox::Outbox;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use xmpp_stream::jid::FullJid;

/// A session's number: 128 random bits, so that nodes never agree on one by chance.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Sid(pub u128);

/// A bound session as its own task holds it.
pub struct Session {
    /// Its number.
    pub sid: Sid,
    /// Its address.
    pub jid: FullJid,
    /// Its account.
    pub account: Arc<Account>,
    /// Its domain.
    pub host: Arc<Host>,
    /// Its queue.
    pub outbox: Arc<Outbox>,
    /// Where the client connects from.
    pub peer: IpAddr,
    /// Its stream is under TLS.
    pub secure: bool,
    /// Effects that the path without awaits left over.
    pub later: Later,
    /// The last stanza met a queue over its soft bound.
    pub pause: AtomicBool,
}

/// Effects to be applied before the next stanza.
#[derive(Default)]
pub struct Later(Mutex<Vec<Effect>>);

impl Later {
    /// Adds one.
    pub fn push(&self, effect: Effect) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(effect);
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Takes all.
    pub fn take(&self) -> Vec<Effect> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
