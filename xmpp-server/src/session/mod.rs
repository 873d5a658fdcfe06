//! Sessions: a bound resource, its account, and the queue of what it is to receive.

pub mod account;
pub mod due;
pub mod ended;
pub mod feed;
pub mod inbound;
pub mod outbox;
pub mod rates;
pub mod recipients;
pub mod registry;
pub mod roster;
pub(crate) mod rules;
pub(crate) mod visit;

use crate::effect::Effect;
use crate::host::Host;
use crate::store::Print;
use crate::watch::Tap;
use account::Account;
use inbound::Owed;
use outbox::Outbox;
use rates::Rates;
use recipients::Recipients;
use smallvec::SmallVec;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Where its stanzas are counted and shown.
    pub tap: Arc<Tap>,
    /// Its stream is under TLS.
    pub secure: bool,
    /// Effects that the path without awaits left over.
    pub later: Later,
    /// The last stanza met a queue over its soft bound.
    pub pause: AtomicBool,
    /// Its stream ended while a stanza was in hand: nothing is taken until another goes on with it.
    pub lost: AtomicBool,
    /// Its client has closed its stream: it hears, and acknowledges nothing.
    pub farewell: AtomicBool,
    /// Submits that the stanza in hand has to wait for.
    pub owed: Mutex<SmallVec<[Owed; 1]>>,
    /// Whom its client has written to lately.
    pub recipients: Recipients,
    /// What its client has sent lately of the kinds that cost most.
    pub rates: Rates,
    /// With stream management: what its client may send again (rule 21).
    pub resends: Mutex<Resends>,
}

/// What a client may send again on a new stream.
#[derive(Debug, Default)]
pub struct Resends {
    /// Its stream is managed: messages with an id are remembered.
    pub managed: bool,
    /// Prints of what earlier streams of the account sent.
    pub prints: Option<Box<HashSet<Print>>>,
}

impl Session {
    /// The submits that the stanza in hand has to wait for.
    pub fn take_owed(&self) -> SmallVec<[Owed; 1]> {
        std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its client may take something yet, and nobody wants the stanza in hand to be over.
    pub(crate) fn is_waited_on(&self) -> bool {
        !self.farewell.load(Ordering::Relaxed) && self.is_heard()
    }

    /// The same of a client that may have closed: it hears what its stanzas have brought about.
    pub(crate) fn is_heard(&self) -> bool {
        let outbox = &self.outbox;
        !self.lost.load(Ordering::Relaxed) && !outbox.is_closed() && !outbox.is_visited()
    }

    /// Its stream is managed: what it sends may be sent again, and these were sent before.
    pub fn resend(&self, prints: HashSet<Print>) {
        let mut resends = self.resends.lock().unwrap_or_else(PoisonError::into_inner);
        resends.managed = true;
        resends.prints = (!prints.is_empty()).then(|| Box::new(prints));
    }

    /// The stanza in hand has to wait for this.
    pub fn owe(&self, owed: Owed) {
        let mut all = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(owed);
    }
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
