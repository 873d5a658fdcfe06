//! What a session draws from the store when it becomes available: requests that wait for an answer,
//! then messages that are due.
//!
//! DESIGN 5 rules 9 to 13. A cursor, not a queue: a page is drawn only while the client keeps up.

use crate::store::{RowId, TicketView};
use std::time::Instant;
use xmpp_stream::jid::BareJid;

/// Requests or messages of one page: the first screen of a client.
pub(crate) const PAGE: usize = 50;

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
