//! One account's ordered state: its sessions and its roster view.
//!
//! DESIGN 5 rules 1, 2, 5, 7, 8: everything a stanza does at its recipient is one critical section
//! under `Account::lock`, with no await inside; ending a session is another.

use super::Sid;
use super::due::DueRows;
use super::feed::Feed;
use super::outbox::{Class, Delivery, OutItem, Outbox, Push};
pub use super::roster::RosterView;
use super::rules::{self, Rule};
use crate::clock::Clock;
use crate::effect::{Effect, Which};
use crate::limits::Limits;
use crate::sessions::Link;
use crate::store::{AccountRecord, Cleared, RowId, Watermark, WriteOp};
use smallvec::SmallVec;
use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Item, Rendered, Stanza, To, Ty};
use xmpp_stream::xml::Element;

/// What the account knows of one bound session.
#[derive(Clone)]
pub struct SessionEntry {
    /// Its number.
    pub sid: Sid,
    /// Its address.
    pub jid: FullJid,
    /// Its queue.
    pub outbox: Arc<Outbox>,
    /// The connection that it came by, for operators.
    pub link: Arc<Link>,
    /// Last broadcast available presence; `None`: connected, not available.
    pub presence: Option<Arc<Stanza>>,
    /// Priority of that presence (RFC 6121 section 4.7.2.3).
    pub priority: i8,
    /// It asked for the roster.
    pub interested: bool,
    /// Whom it sent directed presence outside of its roster (RFC 6121 section 4.6).
    pub directed: HashSet<Jid>,
    /// What it is drawing from the store.
    pub feed: Option<Box<Feed>>,
    /// By what its stream may be resumed (XEP-0198).
    pub token: Option<Arc<str>>,
    /// It has no transport and waits for its client.
    pub hibernating: bool,
}

impl std::fmt::Debug for SessionEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionEntry")
            .field("jid", &self.jid)
            .finish_non_exhaustive()
    }
}

impl SessionEntry {
    /// A session that has just been bound.
    #[must_use]
    pub fn new(sid: Sid, jid: FullJid) -> Self {
        Self {
            sid,
            jid,
            outbox: Arc::default(),
            link: Arc::default(),
            presence: None,
            priority: 0,
            interested: false,
            directed: HashSet::new(),
            feed: None,
            token: None,
            hibernating: false,
        }
    }

    /// It is available with a priority that messages to the bare JID may go to (RFC 6121 section
    /// 8.5.2.1).
    #[must_use]
    pub fn wants_messages(&self) -> bool {
        self.presence.is_some() && self.priority >= 0
    }

    /// It sent initial presence.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.presence.is_some()
    }
}

/// The part of an account that is under its lock.
#[derive(Default)]
pub struct AccountState {
    /// Bound sessions, oldest first.
    pub sessions: Vec<SessionEntry>,
    /// The account was removed: nothing is bound or delivered any more.
    pub removed: bool,
    /// Messages that nobody has taken yet.
    pub due: DueRows,
    /// The session that draws them, or would (rules 9 to 12).
    pub claim: Option<Sid>,
    /// The message in hand was kept: what is pushed now shares this mark.
    pub(crate) in_hand: Option<Arc<Delivery>>,
    /// Whom to wake once the lock is free (DESIGN 5 rule 1: no lock across a wake).
    wakes: SmallVec<[Arc<Outbox>; 4]>,
}

/// An account's state under its lock; sessions that got something are woken when it is free again.
pub struct Locked<'a> {
    // The order of the fields is the order of their end: unlock, then wake.
    state: MutexGuard<'a, AccountState>,
    wakes: Wakes,
}

#[derive(Default)]
struct Wakes(SmallVec<[Arc<Outbox>; 4]>);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.wakes.0 = std::mem::take(&mut self.state.wakes);
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        for outbox in &self.0 {
            outbox.wake();
        }
    }
}

impl Deref for Locked<'_> {
    type Target = AccountState;

    fn deref(&self) -> &AccountState {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut AccountState {
        &mut self.state
    }
}

/// Where in the store it stands when an account was left.
pub(super) const LEFT_SPACE: &str = "last";
/// The key there.
pub(super) const LEFT_KEY: &str = "left";

/// A local account that somebody named lately. There is one value for an account (rule 2).
pub struct Account {
    /// Its address.
    pub jid: BareJid,
    /// Credentials and ban, as last committed.
    record: RwLock<Arc<AccountRecord>>,
    roster: RwLock<Arc<RosterView>>,
    /// When its last available resource went, in seconds since 1970; 0: unknown.
    left: AtomicU64,
    state: Mutex<AccountState>,
    /// Held over the commit of a change to roster or subscriptions, so that changes of one account
    /// happen one after the other.
    pub changes: tokio::sync::Mutex<()>,
    /// Held from before such a change until contacts have been told, so that two sessions' changes
    /// reach a contact in the order in which they were committed. Taken before `changes`, and never
    /// while any `changes` is held.
    pub telling: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("jid", &self.jid)
            .finish_non_exhaustive()
    }
}

impl Account {
    /// An account as loaded, with the numbers of its due messages.
    #[must_use]
    pub fn new(
        jid: BareJid,
        record: Arc<AccountRecord>,
        roster: RosterView,
        due: Vec<RowId>,
    ) -> Self {
        let state = AccountState {
            due: DueRows::loaded(due),
            ..AccountState::default()
        };
        Self {
            jid,
            record: RwLock::new(record),
            roster: RwLock::new(Arc::new(roster)),
            left: AtomicU64::new(0),
            state: Mutex::new(state),
            changes: tokio::sync::Mutex::default(),
            telling: tokio::sync::Mutex::default(),
        }
    }

    /// When its last available resource went, in seconds since 1970; `None`: never, or unknown.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        Some(self.left.load(Ordering::Relaxed)).filter(|left| *left > 0)
    }

    /// The same as somebody is told of it now: a clock that was put back makes no future.
    pub fn left_by(&self, now: u64) -> Option<u64> {
        self.left().map(|left| left.min(now))
    }

    /// Takes over what was stored when the account was last left.
    pub fn set_left(&self, stored: &[u8]) {
        let text = std::str::from_utf8(stored).ok();
        if let Some(left) = text.and_then(|text| text.parse().ok()) {
            self.left.store(left, Ordering::Relaxed);
        }
    }

    /// The last available resource has gone, now; gives the wish to store that.
    pub fn leave(&self, now: u64) -> Effect {
        self.left.store(now, Ordering::Relaxed);
        Effect::Note(WriteOp::Kv {
            space: LEFT_SPACE,
            owner: self.jid.clone(),
            key: LEFT_KEY.to_owned(),
            val: Some(now.to_string().into()),
            expect: None,
        })
    }

    /// The lock of rule 1. A poisoned lock is entered all the same: one failed handler must not take
    /// an account away from its owner.
    pub fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked {
            state,
            wakes: Wakes::default(),
        }
    }

    /// The roster as last committed.
    pub fn roster(&self) -> Arc<RosterView> {
        Arc::clone(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a committed roster in force.
    pub fn set_roster(&self, view: RosterView) {
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// Credentials and ban as last committed.
    pub fn record(&self) -> Arc<AccountRecord> {
        Arc::clone(&self.record.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts committed credentials in force.
    pub fn set_record(&self, record: Arc<AccountRecord>) {
        *self.record.write().unwrap_or_else(PoisonError::into_inner) = record;
    }
}

impl Watermark for Account {
    fn cleared(&self) -> Option<Cleared> {
        self.lock().due.cleared(&self.jid)
    }
}

impl AccountState {
    /// A session by number.
    #[must_use]
    pub fn session(&self, sid: Sid) -> Option<&SessionEntry> {
        self.sessions.iter().find(|entry| entry.sid == sid)
    }

    /// A session by number, to change.
    pub fn session_mut(&mut self, sid: Sid) -> Option<&mut SessionEntry> {
        self.sessions.iter_mut().find(|entry| entry.sid == sid)
    }

    /// A session by resource.
    #[must_use]
    pub fn resource(&self, resource: &str) -> Option<&SessionEntry> {
        self.sessions
            .iter()
            .find(|entry| entry.jid.resource_str() == resource)
    }

    /// Applies an effect that concerns this account's sessions; gives others back, and
    /// `Effect::Pause` when a queue is over its soft bound. `received` is when the stanza came
    /// (seconds since 1970).
    pub fn apply(&mut self, effect: Effect, limits: &Limits, received: u64) -> Option<Effect> {
        match effect {
            Effect::Local(which, to, rendered) => {
                return self
                    .push(&which, to, &rendered, limits, received)
                    .then_some(Effect::Pause);
            }
            Effect::SetInterested(sid) => {
                if let Some(entry) = self.session_mut(sid) {
                    entry.interested = true;
                }
            }
            Effect::SetDirected(sid, jid, on) => {
                if let Some(entry) = self.session_mut(sid) {
                    if !on {
                        entry.directed.remove(&jid);
                    } else if entry.directed.len() < limits.directed_max {
                        entry.directed.insert(jid);
                    }
                }
            }
            other => return Some(other),
        }
        None
    }

    /// Pushes one rendering to some sessions, which share its delivery mark; true when a queue is
    /// over its soft bound.
    fn push(
        &mut self,
        which: &Which,
        to: To,
        rendered: &Arc<Rendered>,
        limits: &Limits,
        received: u64,
    ) -> bool {
        let is_message = rendered.class() == Class::Message;
        let delivery = is_message.then(|| match &self.in_hand {
            Some(delivery) => Arc::clone(delivery),
            None => Arc::new(Delivery::new(received)),
        });
        let mut soft = false;
        let present = |entry: &&SessionEntry| !entry.hibernating || rules::hold(Rule::Hibernating);
        let sessions = self.sessions.iter().filter(|entry| which.has(entry));
        let mut late = None;
        for entry in sessions.filter(present) {
            let rendered = match entry.hibernating && is_message {
                // It is read some time later, and clients show when it was read.
                true => late.get_or_insert_with(|| stamped(rendered, &entry.jid, received)),
                false => rendered,
            };
            let item = Item::Shared(to, Arc::clone(rendered), delivery.clone());
            // Nobody can take anything from one that hibernates: no reason to hold up who sends.
            soft |= entry.outbox.push(item, limits) == Push::Soft && !entry.hibernating;
            self.wakes.push(Arc::clone(&entry.outbox));
        }
        soft
    }

    /// Pushes an item to one session; true when its queue is over its soft bound.
    pub fn push_one(&mut self, sid: Sid, item: OutItem, limits: &Limits) -> bool {
        let Some(entry) = self.sessions.iter().find(|entry| entry.sid == sid) else {
            return false;
        };
        let soft = entry.outbox.push(item, limits) == Push::Soft && !entry.hibernating;
        self.wakes.push(Arc::clone(&entry.outbox));
        soft
    }

    /// The last presence of each available session, on its way to `to`.
    pub fn current_presence(&self, to: &Jid) -> impl Iterator<Item = Effect> {
        current_presence(&self.sessions, to)
    }

    /// Unavailable presence of each available session, on its way to a contact that loses sight of
    /// the account; directed presence to it is forgotten.
    pub fn vanish(&mut self, contact: &Jid) -> Vec<Effect> {
        let mut effects = Vec::new();
        for entry in self
            .sessions
            .iter_mut()
            .filter(|entry| entry.presence.is_some())
        {
            entry
                .directed
                .retain(|jid| jid.bare_str() != contact.as_str());
            let gone = Stanza::presence(Ty::Unavailable)
                .with_from(entry.jid.clone())
                .with_to(contact.clone());
            effects.push(Effect::route(gone));
        }
        effects
    }

    /// Takes a session out and gives it back with what nobody took (rule 8, first half).
    pub fn end(&mut self, sid: Sid) -> Option<(SessionEntry, Vec<OutItem>)> {
        let at = self.sessions.iter().position(|entry| entry.sid == sid)?;
        let entry = self.sessions.remove(at);
        let items = entry.outbox.close();
        self.wakes.push(Arc::clone(&entry.outbox));
        Some((entry, items))
    }

    /// A session that was marked at the hard bound (rule 7).
    #[must_use]
    pub fn marked(&self) -> Option<Sid> {
        let mut sessions = self.sessions.iter();
        sessions
            .find(|entry| entry.outbox.is_marked())
            .map(|entry| entry.sid)
    }

    /// The session's task is to look at its queue once the lock is free.
    pub fn wake_later(&mut self, outbox: &Arc<Outbox>) {
        self.wakes.push(Arc::clone(outbox));
    }
}

/// The same message with the time when it came (XEP-0203), unless it has one.
fn stamped(rendered: &Arc<Rendered>, to: &FullJid, received: u64) -> Arc<Rendered> {
    let stanza = rendered.stanza();
    if stanza.has(ns::id::DELAY, ns::name::DELAY) {
        return Arc::clone(rendered);
    }
    let delay = Element::new(ns::DELAY, "delay")
        .with_attr("from", to.as_jid().domain())
        .with_attr("stamp", &Clock::stamp_of(received));
    let mut extra = Vec::new();
    delay.write(&mut extra, ns::CLIENT);
    let stanza = Arc::clone(stanza);
    Arc::new(Rendered::with_extra(stanza, rendered.class(), extra.into()))
}

/// The last presence of each available session, on its way to `to`. It is looked at again once it is
/// there: an update may have overtaken it, as the two come from different tasks.
pub fn current_presence(sessions: &[SessionEntry], to: &Jid) -> impl Iterator<Item = Effect> {
    let available = sessions
        .iter()
        .filter_map(|entry| Some((entry, entry.presence.as_ref()?)));
    available.flat_map(|(entry, presence)| {
        let shown = Shown {
            jid: entry.jid.clone(),
            presence: Arc::clone(presence),
            to: to.clone(),
        };
        let stanza = Stanza::clone(presence).with_to(to.clone());
        [Effect::route(stanza), Effect::Recheck(Box::new(shown))]
    })
}

/// A presence that somebody was shown.
#[derive(Debug)]
pub struct Shown {
    /// Whose it is.
    pub jid: FullJid,
    /// As it was then.
    pub presence: Arc<Stanza>,
    /// Who was shown it.
    pub to: Jid,
}

/// Priority of a presence: -128..=127, absent or unreadable is 0 (RFC 6121 section 4.7.2.3).
#[must_use]
pub fn priority(presence: &Stanza) -> i8 {
    presence
        .child_text(ns::name::PRIORITY)
        .and_then(|text| text.trim().parse::<i64>().ok())
        .map_or(0, |value| value.clamp(-128, 127) as i8)
}
