//! Messages that another server sends again after it was restarted, or after a stream that could not
//! be resumed: known by what is kept of them (DESIGN 5 rule 21, DESIGN 10).
//!
//! Such a message says itself that it is late, by a delay of its sender's own domain; only then the
//! store is asked. What comes without is new.

use crate::core::{Core, message_id};
use crate::im;
use crate::store::{Print, RowId, Sent};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tracing::debug;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Edit, Kind, Stanza};

/// How far back a message is recognised.
const SPAN: Duration = Duration::from_secs(24 * 3600);
/// Senders of one stream whose messages are remembered: more, and the first are forgotten.
const SENDERS_MAX: usize = 1000;

/// What the senders of one stream have sent on earlier ones.
pub(super) struct Known {
    stream: u128,
    by_sender: HashMap<BareJid, HashSet<Print>>,
}

/// What is known of a stanza.
pub(super) enum Look {
    /// It has come before.
    Known,
    /// It has not; by this it is recognised if it comes again.
    New(Option<Box<Sent>>),
}

impl Known {
    /// Nothing looked up yet; `stream` is this one's number.
    pub(super) fn new(stream: u128) -> Self {
        Self {
            stream,
            by_sender: HashMap::new(),
        }
    }

    /// This stream's number.
    pub(super) fn stream(&self) -> u128 {
        self.stream
    }

    pub(super) async fn look(&mut self, core: &Core, stanza: &Stanza) -> Look {
        let (Some(from), Some(to)) = (&stanza.head.from, &stanza.head.to) else {
            return Look::New(None);
        };
        if stanza.kind != Kind::Message || !im::is_storable(stanza) {
            return Look::New(None);
        }
        let Some(id) = message_id(stanza) else {
            return Look::New(None);
        };
        let delay = delay_by(stanza, from.domain());
        let print = print(stanza, to, &id, delay);
        let sender = from.to_bare();
        if delay.is_some() && self.has(core, &sender, print).await {
            debug!(%sender, %id, "message sent again: it is kept already");
            return Look::Known;
        }
        Look::New(Some(Box::new(Sent {
            sender,
            print,
            stream: self.stream,
        })))
    }

    async fn has(&mut self, core: &Core, sender: &BareJid, print: Print) -> bool {
        if !self.by_sender.contains_key(sender) {
            let since = RowId::first_at(core.clock.system_now() - SPAN);
            let sent = match core.store.sent(sender, since).await {
                Ok(sent) => sent,
                Err(error) => {
                    // Twice is better than not at all.
                    tracing::error!(%error, "what was sent before is not known");
                    return false;
                }
            };
            // Also of streams that were closed in order: their sender was told what was handled, but
            // may have ended before it had written that down.
            let earlier = sent.into_iter().filter(|(_, on)| *on != self.stream);
            let prints = earlier.map(|(print, _)| print).collect();
            if self.by_sender.len() >= SENDERS_MAX {
                self.by_sender.clear();
            }
            self.by_sender.insert(sender.clone(), prints);
        }
        let known = self.by_sender.get_mut(sender);
        known.is_some_and(|prints| prints.remove(&print))
    }
}

/// The same with and without the delay.
fn print(stanza: &Stanza, to: &Jid, id: &str, delay: Option<usize>) -> Print {
    let ty = stanza.head.ty.as_str().unwrap_or_default();
    let of = |payload: &[u8]| {
        Print::of(&[
            to.as_str().as_bytes(),
            id.as_bytes(),
            ty.as_bytes(),
            payload,
        ])
    };
    match delay {
        Some(at) => of(&stanza.splice(&[Edit::Cut(at)]).payload),
        None => of(&stanza.payload),
    }
}

/// Where a delay by this domain stands among the children.
pub(super) fn delay_by(stanza: &Stanza, domain: &str) -> Option<usize> {
    if !stanza.has(ns::id::DELAY, ns::name::DELAY) {
        return None;
    }
    stanza.kids.iter().position(|kid| {
        (kid.ns, kid.name) == (ns::id::DELAY, ns::name::DELAY)
            && stanza.element(kid).attr("from") == Some(domain)
    })
}
