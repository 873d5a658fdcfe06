//! The always-on part of RFC 6121, written on the module interface: if it can be, so can anyone's.

use crate::modules::Module;
use std::sync::Arc;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Class, Rendered, Stanza, Ty};

mod message;
mod offline;
mod presence;
mod roster;
mod strip;
pub mod subscription;
#[cfg(test)]
pub(crate) mod testkit;

pub(crate) use offline::{expired_error, is_fleeting, is_storable, most_available};
pub(crate) use subscription::requests;

/// Always loaded; they cannot be switched off.
pub static ALL: &[&dyn Module] = &[
    &message::Feature,
    &offline::Feature,
    &presence::Feature,
    &roster::Feature,
    &strip::Feature,
    &subscription::Feature,
];

/// A request that somebody waits to be answered.
pub(crate) fn is_request(stanza: &Stanza) -> bool {
    matches!(stanza.head.ty, Ty::Get | Ty::Set)
}

/// A presence stanza made ready for queues. Only availability may be coalesced, and not that of
/// rooms, whose status codes each mean something.
fn rendered(presence: Arc<Stanza>) -> Arc<Rendered> {
    let is_room = || presence.kids.iter().any(|kid| kid.ns == ns::id::MUC_USER);
    let class = match presence.head.ty {
        Ty::None | Ty::Unavailable if !is_room() => Class::Presence,
        _ => Class::PresenceOther,
    };
    Arc::new(Rendered::new(presence, class))
}

/// Presence of our own making.
fn presence(ty: Ty, from: impl Into<Jid>, to: impl Into<Jid>) -> Stanza {
    Stanza::presence(ty).with_from(from).with_to(to)
}
