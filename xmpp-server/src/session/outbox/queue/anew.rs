//! A queue that outlives the streams that carry it, each with a count of its own: links to other
//! servers.

use super::{Counted, Load, OutItem, OutQ, Queued, delivery, is_stanza, size};
use crate::store::RowId;
use std::collections::VecDeque;
use xmpp_stream::stanza::{Item, Kind, Stanza, Ty};

impl OutQ {
    /// A new stream begins: everything is to be sent over it, and counted if somebody counts.
    pub(in super::super) fn begin(&mut self, counted: bool) {
        self.sent = 0;
        self.sm = counted.then(|| {
            let first = self.items.front();
            Box::new(Counted {
                from: first.map_or(self.next, |queued| queued.number),
                acknowledged: 0,
                unacknowledged: Load::default(),
                reached: 0,
                ever: 0,
                probed: false,
            })
        });
    }

    /// The peer does not count, but says when it has read what came before a question.
    pub(in super::super) fn probe(&mut self) {
        if let Some(sm) = &mut self.sm {
            sm.probed = true;
        }
    }

    /// Stanzas sent since the stream began, modulo 2^32: what the peer has acknowledged with the last
    /// of them.
    pub(in super::super) fn sent_count(&self) -> u32 {
        let sm = self.sm.as_ref();
        sm.map_or(0, |sm| sm.acknowledged.wrapping_add(sm.ever as u32))
    }

    /// The first ones, up to a message, where messages alone are asked about. All that was sent has
    /// been written.
    pub(super) fn take_what_is_not_asked_about(&mut self) -> Vec<RowId> {
        let Some(sm) = self.sm.as_ref().filter(|sm| sm.probed) else {
            return Vec::new();
        };
        let sent = self.items.iter().take(self.sent);
        let stanzas = sent.filter(|queued| is_stanza(&queued.item));
        let others = stanzas.take_while(|queued| !is_asked_about(&queued.item));
        match others.count() {
            0 => Vec::new(),
            others => {
                let count = sm.acknowledged.wrapping_add(others as u32);
                self.acknowledged(count).unwrap_or_default()
            }
        }
    }

    pub(in super::super) fn uncount(&mut self) {
        self.sm = None;
    }

    /// What becomes of those that were sent over any transport: in their places stands what `remake`
    /// makes of them, and those that it gives back as errors are taken out.
    pub(in super::super) fn remake_sent(
        &mut self,
        remake: impl Fn(OutItem) -> Result<OutItem, OutItem>,
    ) -> Vec<OutItem> {
        let fixed = self.fixed().min(self.items.len());
        let rest = self.items.split_off(fixed);
        let (mut taken, mut kept) = (Vec::new(), VecDeque::with_capacity(fixed));
        for Queued { number, item } in std::mem::take(&mut self.items) {
            self.forget(&item);
            match remake(item) {
                Ok(item) => {
                    match &item {
                        Item::Shared(..) => self.pushed.add(size(&item)),
                        item => self.own.add(size(item)),
                    }
                    kept.push_back(Queued { number, item });
                }
                Err(item) => {
                    if let Some(delivery) = delivery(&item) {
                        delivery.let_go();
                    }
                    taken.push(item);
                }
            }
        }
        kept.extend(rest);
        self.items = kept;
        self.begin(false);
        taken
    }

    /// Takes out those of which this is so, as far as none was sent over any transport.
    pub(in super::super) fn take_unsent(&mut self, is: impl Fn(&OutItem) -> bool) -> Vec<OutItem> {
        let rest = self.items.split_off(self.fixed().min(self.items.len()));
        let (taken, left): (Vec<_>, Vec<_>) = rest.into_iter().partition(|queued| is(&queued.item));
        self.items.extend(left);
        if !taken.is_empty() {
            self.presence = None;
        }
        let taken: Vec<_> = taken.into_iter().map(|queued| queued.item).collect();
        for item in &taken {
            self.forget(item);
            if let Some(delivery) = delivery(item) {
                delivery.let_go();
            }
        }
        taken
    }

    /// Takes everything out; the queue goes on.
    pub(in super::super) fn drain(&mut self) -> Vec<OutItem> {
        let items = std::mem::take(&mut self.items);
        let items: Vec<_> = items.into_iter().map(|queued| queued.item).collect();
        for item in &items {
            self.forget(item);
            if let Some(delivery) = delivery(item) {
                delivery.let_go();
            }
        }
        self.begin(false);
        self.tidy();
        items
    }
}

/// A message of which somebody has to know that it has arrived: an error nobody is told of.
pub(crate) fn is_asked_about(item: &OutItem) -> bool {
    let stanza: &Stanza = match item {
        Item::Shared(_, rendered, _) => rendered.stanza(),
        Item::One(stanza) => stanza,
        Item::Nonza(_) | Item::Close(_) => return false,
    };
    stanza.kind == Kind::Message && stanza.head.ty != Ty::Error
}
