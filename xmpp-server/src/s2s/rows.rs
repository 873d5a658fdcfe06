//! What of a link's queue is a row in the store, in whose name, and how an item of the queue looks when
//! it is sent late.
//!
//! DESIGN 5 rules 1, 5 and 6, DESIGN 10; XEP-0203.

use crate::clock::Clock;
use crate::core::Core;
use crate::session::due::DueRows;
use crate::session::outbox::{Delivery, OutItem};
use crate::store::{LINK_MARK, MessageRow, Permit, RowId, Sent, Ticket, TicketView, WriteOp};
use smallvec::smallvec;
use std::sync::Arc;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Class, Edit, Item, Rendered, Stanza, To};
use xmpp_stream::stream::s2s::Pair;
use xmpp_stream::xml::Element;

/// Whether it has more bytes than these on the wire.
pub(super) fn is_larger(stanza: &Stanza, max: usize) -> bool {
    // What is guessed is far off only where everything has to be escaped.
    if stanza.wire_len() <= max / 8 {
        return false;
    }
    let mut bytes = Vec::with_capacity(stanza.wire_len());
    stanza.write(&mut bytes);
    bytes.len() > max
}

/// Submits a message as a due row.
pub(super) fn keep(
    core: &Core,
    owner: &BareJid,
    due: &mut DueRows,
    stanza: Stanza,
    permit: Permit,
    sent: Option<Box<Sent>>,
) -> (OutItem, Ticket, Arc<Stanza>) {
    let stanza = Arc::new(stanza);
    let id = core.row_ids.next(core.clock.system_now());
    let mut bytes = Vec::with_capacity(stanza.wire_len());
    stanza.write(&mut bytes);
    let row = MessageRow {
        id,
        stanza: bytes.into(),
    };
    let op = WriteOp::Message {
        account: owner.clone(),
        row,
        sent,
    };
    let ticket = core.store.submit_with(permit, smallvec![op]);
    let view: TicketView = ticket.view();
    let delivery = Arc::new(Delivery::kept(id, view));
    due.add(&delivery);
    let rendered = Arc::new(Rendered::new(Arc::clone(&stanza), Class::Message));
    let item = Item::Shared(To::AsWritten, rendered, Some(delivery));
    (item, ticket, stanza)
}

/// A kept message with the time when it came (XEP-0203), by the sender's domain, unless it has one.
pub(super) fn late(item: OutItem) -> OutItem {
    let Item::Shared(to, rendered, Some(delivery)) = &item else {
        return item;
    };
    let stanza = rendered.stanza();
    let from = stanza.head.from.as_ref().map_or("", Jid::domain);
    if delivery.row.is_none() || super::resent::delay_by(stanza, from).is_some() {
        return item;
    }
    let delay = Element::new(ns::DELAY, "delay")
        .with_attr("from", from)
        .with_attr("stamp", &Clock::stamp_of(delivery.received));
    let stanza = Arc::new(stanza.splice(&[Edit::Append(delay)]));
    let rendered = Arc::new(Rendered::new(stanza, rendered.class()));
    Item::Shared(*to, rendered, Some(Arc::clone(delivery)))
}

pub(super) fn row(item: &OutItem) -> Option<RowId> {
    match item {
        Item::Shared(_, _, Some(delivery)) => delivery.row.as_ref().map(|(id, _)| *id),
        _ => None,
    }
}

pub(super) fn stanza(item: OutItem) -> Option<Stanza> {
    match item {
        Item::Shared(_, rendered, _) => Some(Stanza::clone(rendered.stanza())),
        Item::One(stanza) => Some(*stanza),
        Item::Nonza(_) | Item::Close(_) => None,
    }
}

/// In whose name rows of this pair stand: no account has this mark in its name. A colon of an
/// address in brackets may not stand there.
pub(super) fn owner(pair: &Pair) -> Option<BareJid> {
    let mark = LINK_MARK.to_string();
    let remote = pair.to.replace(':', &mark);
    BareJid::parse(&format!("{mark}{remote}@{}", pair.from)).ok()
}

/// The pair whose rows stand in this name.
pub(super) fn pair_of(owner: &BareJid) -> Option<Pair> {
    let remote = owner.local()?.strip_prefix(LINK_MARK)?;
    Pair::new(owner.domain(), &remote.replace(LINK_MARK, ":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_name_of_their_pair() {
        for (from, to) in [
            ("a.test", "b.test"),
            ("münchen.test", "köln.test"),
            ("a.test", "[::1]"),
            ("127.0.0.1", "127.0.0.2"),
        ] {
            let pair = Pair::new(from, to).unwrap();
            let owner = owner(&pair).unwrap();
            assert!(crate::store::is_link(&owner), "{owner}");
            assert!(crate::users::account_name(owner.as_str()).is_err());
            assert_eq!(pair_of(&owner), Some(pair));
        }
    }
}
