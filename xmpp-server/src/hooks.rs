//! The stages a stanza passes, and the chain that runs what modules registered for them.
//!
//! DESIGN 5: one fixed order; within a stage handlers run by module name. A handler decides and
//! returns effects; it never sends, waits or locks.

use crate::effect::Effect;
use crate::host::Host;
use crate::limits::Limits;
use crate::session::account::{RosterView, SessionEntry};
use std::panic::{AssertUnwindSafe, catch_unwind};
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns::NsId;
use xmpp_stream::stanza::{Edit, Kind, Stanza};

/// Where in a stanza's life a handler looks at it. The first six run for the sender's account, the
/// rest for the recipient's.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Strip what only we may add.
    Strip,
    /// Rate rules.
    Rate,
    /// The sender's own block list.
    Block,
    /// The sender's archive.
    Archive,
    /// Copies to the sender's other sessions.
    Copy,
    /// The sender's side of presence: broadcast, directed, outbound subscriptions.
    Route,
    /// Strip forged marks at the recipient.
    InStrip,
    /// The recipient's block list.
    InBlock,
    /// The recipient's archive.
    InArchive,
    /// Which sessions get it (RFC 6121 section 8).
    Select,
    /// Copies to the recipient's other sessions.
    InCopy,
    /// Keep what nobody could get.
    Store,
    /// Push services.
    Push,
    /// A look at what was delivered.
    Observe,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 14] = [
        Self::Strip,
        Self::Rate,
        Self::Block,
        Self::Archive,
        Self::Copy,
        Self::Route,
        Self::InStrip,
        Self::InBlock,
        Self::InArchive,
        Self::Select,
        Self::InCopy,
        Self::Store,
        Self::Push,
        Self::Observe,
    ];
}

/// What a handler says of the rest of the chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// The stanza ends here, silently (its effects still apply).
    Stop,
    /// The stanza ends here; the sender gets this error when one is due.
    Refuse(StanzaError),
}

/// Which stanzas a handler wants to see.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    /// Kind of stanza.
    pub kind: Kind,
    /// Only with a top-level child of this namespace.
    pub payload: Option<NsId>,
}

impl Filter {
    /// Every stanza of a kind.
    #[must_use]
    pub const fn kind(kind: Kind) -> Self {
        Self {
            kind,
            payload: None,
        }
    }
}

/// The account a stage runs for, as it is at this moment.
#[derive(Clone, Copy)]
pub struct AccountCx<'a> {
    /// Its bare JID.
    pub jid: &'a BareJid,
    /// Its roster, pending inbound requests included.
    pub roster: &'a RosterView,
    /// Its bound sessions in order of binding.
    pub sessions: &'a [SessionEntry],
    /// When its last available resource went, in seconds since 1970, where that is known.
    pub left: Option<u64>,
}

/// What a handler may know and wish.
pub struct Cx<'a> {
    /// The domain whose modules run.
    pub host: &'a Host,
    /// Bounds of this server.
    pub limits: &'a Limits,
    /// The account of this side; `None` when the stanza is to or from the domain itself.
    pub account: Option<AccountCx<'a>>,
    /// The sending session at sender stages (it may have ended: unavailable presence of a lost link).
    pub session: Option<&'a SessionEntry>,
    /// Wishes, applied in order after the chain.
    pub effects: Vec<Effect>,
    /// Changes to the payload, applied between stages.
    pub edits: Vec<Edit>,
    /// At `Select`: why nobody gets the stanza, if so. `Store` may clear it.
    pub undelivered: Option<Undelivered>,
    /// The message is kept until somebody has taken it (set at `Store`).
    pub keep: bool,
}

/// What happens to a stanza that no session gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Undelivered {
    /// Dropped without a word.
    Silent,
    /// The sender gets this error when one is due.
    Error(StanzaError),
}

impl Cx<'_> {
    /// Wishes an effect.
    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Changes the stanza for what comes after this stage.
    pub fn edit(&mut self, edit: Edit) {
        self.edits.push(edit);
    }
}

/// A handler: plain function or closure, never async.
pub type Hook = dyn Fn(&Stanza, &mut Cx<'_>) -> Flow + Send + Sync;

pub(crate) struct Registered {
    pub(crate) module: &'static str,
    pub(crate) payload: Option<NsId>,
    pub(crate) hook: Box<Hook>,
}

impl Registered {
    fn wants(&self, stanza: &Stanza) -> bool {
        let has = |ns| stanza.kids.iter().any(|kid| kid.ns == ns);
        self.payload.is_none_or(has)
    }
}

/// All hooks, by stage and kind: a stanza meets only handlers that asked for its kind.
#[derive(Default)]
pub struct Hooks {
    table: [[Vec<Registered>; 3]; Stage::ALL.len()],
}

impl Hooks {
    pub(crate) fn add(&mut self, stage: Stage, filter: Filter, registered: Registered) {
        debug_assert!(filter.payload == registered.payload);
        if let Some(list) = self.list_mut(stage, filter.kind) {
            let at = list.partition_point(|other| other.module <= registered.module);
            list.insert(at, registered);
        }
    }

    fn list_mut(&mut self, stage: Stage, kind: Kind) -> Option<&mut Vec<Registered>> {
        self.table.get_mut(stage as usize)?.get_mut(kind as usize)
    }

    /// True when some handler of this stage wants to see the stanza.
    pub fn any(&self, stage: Stage, stanza: &Stanza) -> bool {
        let list = self
            .table
            .get(stage as usize)
            .and_then(|kinds| kinds.get(stanza.kind as usize));
        list.into_iter()
            .flatten()
            .any(|registered| registered.wants(stanza))
    }

    /// Runs the handlers of one stage. Edits are applied by the caller through `Cx::edits`.
    pub fn run(&self, stage: Stage, stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
        let list = self
            .table
            .get(stage as usize)
            .and_then(|kinds| kinds.get(stanza.kind as usize));
        for registered in list.into_iter().flatten() {
            if !registered.wants(stanza) {
                continue;
            }
            let hook = AssertUnwindSafe(|| (registered.hook)(stanza, cx));
            let flow = catch_unwind(hook).unwrap_or_else(|_| {
                // A failing handler harms one stanza.
                tracing::error!(module = registered.module, ?stage, "handler panicked");
                Flow::Refuse(StanzaError::internal_server_error())
            });
            if flow != Flow::Continue {
                tracing::debug!(module = registered.module, ?stage, "stanza stopped");
                return flow;
            }
        }
        Flow::Continue
    }
}
