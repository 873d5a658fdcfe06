//! What a session draws from the store when it becomes available: requests that wait for an answer,
//! then messages that are due.
//!
//! DESIGN 5 rules 9 to 13. A cursor, not a queue: a page is drawn only while the client keeps up.

use crate::store::{RowId, TicketView};
use std::time::Instant;
use xmpp_stream::jid::BareJid;

/// Requests or messages of one page: the first screen of a client. Small in unit tests, so that they
/// see what happens between two.
pub(crate) const PAGE: usize = if cfg!(test) { 2 } else { 50 };

/// Where a session is in what it draws.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Subscription requests still to be shown, from behind this contact.
    pub requests: Option<Option<BareJid>>,
    /// Messages still to be drawn.
    pub rows: Option<Rows>,
    /// Until when others' items wait behind the gate: a stuck store never stops chat for longer.
    pub gate_until: Instant,
}

/// A cursor over due rows.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The last one drawn.
    pub after: Option<RowId>,
    /// The newest one when the session became available; later ones are pushed.
    pub upto: RowId,
    /// What was still being written then.
    pub ticket: Option<TicketView>,
}

impl Feed {
    /// Nothing has been drawn or added between the two.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        let rows = match (&self.rows, &other.rows) {
            (Some(one), Some(other)) => one.is_at(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        rows && self.requests == other.requests
    }
}

impl Rows {
    /// The same stretch is still to be drawn.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        (self.after, self.upto) == (other.after, other.upto)
    }
}
