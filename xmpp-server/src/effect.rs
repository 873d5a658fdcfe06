//! What handlers can wish. The executor is `core::Core::run`: the only code that sends.

use crate::session::Sid;
use crate::session::account::{Account, SessionEntry, Shown};
use crate::session::outbox::Class;
use crate::store::{RosterRow, Ticket, WriteOp};
use smallvec::SmallVec;
use std::sync::Arc;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::stanza::{Rendered, Stanza, To};

/// Which sessions of the account in hand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Which {
    /// Exactly this one.
    One(Sid),
    /// Every available resource.
    Available,
    /// Every interested resource (asked for the roster).
    Interested,
    /// These, e.g. the available resources of the highest priority.
    Sids(SmallVec<[Sid; 4]>),
}

impl Which {
    /// True for a session that is meant.
    #[must_use]
    pub fn has(&self, entry: &SessionEntry) -> bool {
        match self {
            Self::One(sid) => entry.sid == *sid,
            Self::Available => entry.is_available(),
            Self::Interested => entry.interested,
            Self::Sids(sids) => sids.contains(&entry.sid),
        }
    }
}

/// A wish of a handler. Effects of one run are applied in order; when some of them are writes, all
/// the others wait for the commit.
#[derive(Debug)]
pub enum Effect {
    // Of the account in hand, under its lock:
    /// Into the queues of sessions of the account in hand.
    Local(Which, To, Arc<Rendered>),
    /// The session's last broadcast presence; `None`: no longer available.
    SetPresence(Sid, Option<Arc<Stanza>>),
    /// The session asked for the roster.
    SetInterested(Sid),
    /// The session sent directed presence: available (true) or unavailable.
    SetDirected(Sid, Jid, bool),
    /// The last available resource of the account in hand has gone: the time is noted.
    Left,

    /// The last presence of each available session of the account in hand goes to this contact: as
    /// it is when the change that lets it is in force.
    Show(Jid),
    /// Unavailable presence of each available session goes to a contact that loses sight of the
    /// account; whoever got directed presence there has then been told (RFC 6121 section 4.6.1).
    Vanish(Jid),

    /// The message is kept until a session has taken it; whoever gets it follows.
    Keep(Arc<Stanza>),

    // Durable changes of the account in hand:
    /// A roster item of the account in hand, as it is to be.
    Roster(RosterRow),
    /// A roster item of the account in hand is to go.
    RosterRemove(BareJid),
    /// Any other write.
    Write(WriteOp),

    // Beyond the account in hand:
    /// A stanza with `from` set, passed on as if it had just arrived from there (local or remote).
    Route(Box<Stanza>),
    /// The same presence to many accounts, rendered once; recipients see their bare JID in `to`.
    /// No stages run at the recipients: they are told only because their roster says so.
    Fan(Arc<Rendered>, Vec<Jid>),
    /// To the sender of the stanza in hand.
    Reply(Box<Stanza>),
    /// A session ended: what is owed to others follows (made by the core only).
    Ended(Arc<Account>, Box<SessionEntry>),
    /// What was shown is compared with what is so now; a difference is told.
    Recheck(Box<Shown>),
    /// The sender's stanza waits for this submit (made by the core only).
    Owed(Ticket, Arc<Stanza>),
    /// An account was removed from the store: once whoever asked for that has the answer, its
    /// sessions end (made by the core only).
    Gone(BareJid),
    /// A queue is over its soft bound: whoever made the stanza is to pause (made by the core only).
    Pause,
}

impl Effect {
    /// A stanza of our own making into queues of the account in hand.
    #[must_use]
    pub fn local(which: Which, to: To, stanza: Stanza, class: Class) -> Self {
        Self::Local(which, to, Arc::new(Rendered::new(Arc::new(stanza), class)))
    }

    /// Passes a stanza on.
    #[must_use]
    pub fn route(stanza: Stanza) -> Self {
        Self::Route(Box::new(stanza))
    }

    /// Must the commit come first?
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Roster(_) | Self::RosterRemove(_) | Self::Write(_)
        )
    }
}
