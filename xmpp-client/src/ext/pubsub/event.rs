//! Notifications (XEP-0060 sections 7.1.2.1, 7.2.2.1, 8.4, 8.5).

use super::Item;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// Something happened to a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Notification {
    /// To which node.
    pub node: String,
    /// What.
    pub change: Change,
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// These were published.
    Published(Vec<Item>),
    /// The items with these ids were deleted.
    Retracted(Vec<Box<str>>),
    /// All items were deleted.
    Purged,
    /// The node was deleted.
    Deleted,
    /// The node was configured.
    Configured,
}

/// Reads a notification of this service; `None` where the stanza is none, or is another's.
#[must_use]
pub fn read(service: &Jid, stanza: &Stanza) -> Option<Notification> {
    notification(stanza).filter(|_| stanza.head.from.as_ref() == Some(service))
}

/// A notification, whoever it is from.
pub(in crate::ext) fn notification(stanza: &Stanza) -> Option<Notification> {
    if stanza.kind != Kind::Message || matches!(stanza.head.ty, Ty::Error | Ty::Groupchat) {
        return None;
    }
    let kid = stanza
        .kids
        .iter()
        .find(|kid| kid.ns == ns::id::PUBSUB_EVENT)?;
    let event = stanza.element(kid);
    let what = event
        .children()
        .find(|child| child.ns() == ns::PUBSUB_EVENT);
    let what = what.filter(|_| event.is(ns::PUBSUB_EVENT, "event"))?;
    let node = what.attr("node")?.to_owned();
    let change = match what.name() {
        "items" => items(what)?,
        "purge" => Change::Purged,
        "delete" => Change::Deleted,
        "configuration" => Change::Configured,
        _ => return None,
    };
    Some(Notification { node, change })
}

/// Published or deleted: one notification is about the one or the other.
fn items(items: &Element) -> Option<Change> {
    let of = |name| {
        items
            .children()
            .filter(move |child| child.is(ns::PUBSUB_EVENT, name))
    };
    let published: Vec<Item> = of("item").map(Item::parse).collect();
    if !published.is_empty() {
        return Some(Change::Published(published));
    }
    let retracted: Vec<Box<str>> = of("retract")
        .filter_map(|retract| retract.attr("id").map(Into::into))
        .collect();
    (!retracted.is_empty()).then_some(Change::Retracted(retracted))
}
