//! A queue that outlives the streams that carry it, each with a count of its own: links to other
//! servers.

use super::{Counted, Load, OutItem, OutQ, Queued, delivery, size};
use std::collections::VecDeque;
use xmpp_stream::stanza::Item;

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
            })
        });
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
