//! Which messages wait for their recipient (XEP-0160, XEP-0334), and what becomes of the others.
//!
//! A message that a person would miss is kept from the moment it came, whether or not a session is
//! there, until one has taken it (DESIGN 5 rule 4). What only says something of the moment is not:
//! errors, headlines, group chat, and messages that carry nothing but chat states, receipts,
//! markers and hints.

use crate::hooks::{AccountCx, Cx, Filter, Flow, Stage, Undelivered};
use crate::modules::{Coverage, Info, Module, Scope, Spec};
use crate::session::Sid;
use crate::session::account::{Account, SessionEntry};
use smallvec::SmallVec;
use xmpp_stream::error::{ErrorType, StanzaCondition, StanzaError};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns::{id, name};
use xmpp_stream::stanza::{Kid, Kind, Stanza, Ty};

#[cfg(test)]
mod tests;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "offline",
            specs: &[
                Spec {
                    id: "XEP-0160",
                    version: "1.0.1",
                    coverage: Coverage::Complete,
                },
                Spec {
                    id: "XEP-0203",
                    version: "2.0",
                    coverage: Coverage::Complete,
                },
            ],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.feature("msgoffline");
        scope.hook(Stage::Store, Filter::kind(Kind::Message), store);
    }
}

fn store(stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
    let Some(account) = cx.account else {
        return Flow::Continue;
    };
    if is_storable(stanza) && (cx.undelivered.is_none() || may_wait(stanza, account)) {
        cx.keep = true;
        cx.undelivered = None;
    } else if cx.undelivered.is_some() && is_fleeting(stanza) {
        // Of no use to anyone later, and of no interest to its sender's user (row 3).
        cx.undelivered = Some(Undelivered::Silent);
    }
    Flow::Continue
}

/// RFC 6121 section 8.5: what nobody can get now may wait when it was sent to the account, or is a
/// chat with a resource that has gone.
fn may_wait(stanza: &Stanza, account: AccountCx<'_>) -> bool {
    let resource = stanza.head.to.as_ref().and_then(Jid::resource);
    debug_assert!(resource.is_none_or(|resource| {
        let mut sessions = account.sessions.iter();
        !sessions.any(|session| session.jid.resource_str() == resource)
    }));
    resource.is_none() || stanza.head.ty == Ty::Chat
}

/// Column Off of the table of messages.
pub(crate) fn is_storable(stanza: &Stanza) -> bool {
    if matches!(stanza.head.ty, Ty::Error | Ty::Groupchat | Ty::Headline)
        || hint(stanza, name::NO_STORE)
    {
        return false;
    }
    hint(stanza, name::STORE) || stanza.kids.iter().any(|kid| !is_volatile(kid))
}

/// Only chat states, receipts, markers and what goes with them.
fn is_fleeting(stanza: &Stanza) -> bool {
    !stanza.kids.is_empty() && stanza.kids.iter().all(is_volatile)
}

fn hint(stanza: &Stanza, name: xmpp_stream::ns::NameId) -> bool {
    stanza.has(id::HINTS, name)
}

/// A child that alone makes no message worth keeping.
fn is_volatile(kid: &Kid) -> bool {
    match kid.ns {
        id::CHAT_STATES
        | id::CHAT_MARKERS
        | id::RECEIPTS
        | id::HINTS
        | id::STANZA_ID
        | id::DELAY => true,
        id::CLIENT => kid.name == name::THREAD,
        _ => false,
    }
}

/// The sessions of the highest priority that want messages (RFC 6121 section 8.5.2.1.1).
pub(crate) fn most_available(sessions: &[SessionEntry]) -> Option<SmallVec<[Sid; 4]>> {
    let wanting = || sessions.iter().filter(|entry| entry.wants_messages());
    let top = wanting().map(|entry| entry.priority).max()?;
    let sids = wanting().filter(|entry| entry.priority == top);
    Some(sids.map(|entry| entry.sid).collect())
}

/// What the sender of a message is told that a session did not take and nobody will.
pub(crate) fn expired_error(account: &Account, stanza: &Stanza) -> StanzaError {
    let from = stanza.head.from.as_ref().map_or("", Jid::bare_str);
    // Only whoever may know of the account's presence is told that it was there (RFC 6120 section
    // 8.3.3.13).
    match account.roster().may_see_us(from) {
        true => StanzaError::new(ErrorType::Wait, StanzaCondition::RecipientUnavailable),
        false => StanzaError::service_unavailable(),
    }
}
