//! The queue itself, under its outbox's lock.

mod anew;

pub(crate) use anew::is_asked_about;

use super::{Delivery, OutItem, Push, Sent, TooHigh};
use crate::limits::Limits;
use crate::session::rules::{self, Rule};
use crate::session::visit::Visit;
use crate::store::RowId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use xmpp_stream::error::StreamError;
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::{Class, Item};

/// Everything under the lock. What few sessions need stands in boxes: most queues are empty.
#[derive(Default)]
pub(super) struct OutQ {
    items: VecDeque<Queued>,
    /// The first so many were copied to the transport's buffer.
    sent: usize,
    /// Number of the next item, counted from the session's begin.
    next: u64,
    /// Items that a newer one has taken the place of, and that are still here.
    gone: usize,
    /// What others pushed, behind the gate too, and what the session brought upon itself: that never
    /// counts against it, since it is not read while it leaves it.
    pushed: Load,
    own: Load,
    /// What waits behind a shut gate.
    gate: Option<Box<Gated>>,
    sm: Option<Box<Counted>>,
    /// What there was when the client came back.
    grace: Load,
    /// Where the newest availability of each sender stands: kept only over the soft bound.
    #[expect(
        clippy::box_collection,
        reason = "most queues have none, and there are many queues"
    )]
    presence: Option<Box<HashMap<Jid, u64>>>,
    /// Over the hard bound, and nothing was done about it yet.
    pub(super) marked: bool,
    pub(super) closed: bool,
    pub(super) cut: bool,
    pub(super) feed_due: bool,
    /// What the peer is told when somebody else ended the session.
    pub(super) farewell: Option<Box<StreamError>>,
    pub(super) visit: Option<Visit>,
}

/// An item with its number: numbers rise, but some may be missing.
struct Queued {
    number: u64,
    item: OutItem,
}

/// Stream management's side of the queue.
struct Counted {
    /// Number of the first item that counts.
    from: u64,
    /// Stanzas acknowledged, modulo 2^32.
    acknowledged: u32,
    /// Sent over this transport and not acknowledged.
    unacknowledged: Load,
    /// Items that were sent over any transport and are still here, and how many of them count.
    reached: usize,
    ever: usize,
    /// Nobody counts at the other end: messages are asked about, and what is no message is taken once
    /// it was written, unless one goes before it.
    probed: bool,
}

/// What waits behind a shut gate.
#[derive(Default)]
struct Gated {
    items: VecDeque<OutItem>,
    load: Load,
}

/// Items and their bytes.
#[derive(Clone, Copy, Default)]
struct Load {
    items: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.items += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Bytes of an item on the wire, about.
fn size(item: &OutItem) -> usize {
    match item {
        Item::Shared(_, rendered, _) => rendered.len(),
        Item::One(stanza) => stanza.wire_len(),
        Item::Nonza(bytes) => bytes.len(),
        Item::Close(_) => 0,
    }
}

fn is_stanza(item: &OutItem) -> bool {
    matches!(item, Item::Shared(..) | Item::One(_))
}

fn delivery(item: &OutItem) -> Option<&Arc<Delivery>> {
    match item {
        Item::Shared(_, _, delivery) => delivery.as_ref(),
        _ => None,
    }
}

/// Where an item used to stand that is not sent after all. It counts for nothing.
fn nothing() -> OutItem {
    Item::Nonza(Box::default())
}

fn is_nothing(item: &OutItem) -> bool {
    matches!(item, Item::Nonza(bytes) if bytes.is_empty())
}

impl OutQ {
    pub(super) fn push(&mut self, item: OutItem, limits: &Limits) -> Push {
        if self.closed {
            return Push::Closed;
        }
        if let Some(delivery) = delivery(&item) {
            delivery.hold();
        }
        let bytes = size(&item);
        let others = matches!(item, Item::Shared(..));
        match others {
            true => self.pushed.add(bytes),
            false => self.own.add(bytes),
        }
        match &mut self.gate {
            Some(gated) if others => {
                gated.load.add(bytes);
                gated.items.push_back(item);
            }
            _ => {
                self.append(item);
                self.coalesce(limits);
            }
        }
        let pushed = self.pushed;
        if self.is_over(limits) {
            self.marked = true;
            Push::Full
        } else if pushed.items > limits.outbox_items_soft || pushed.bytes > limits.outbox_bytes_soft
        {
            Push::Soft
        } else {
            Push::Ok
        }
    }

    /// Over the hard bound. A session that comes back to a full queue may draw it first: a quarter
    /// more fits meanwhile, and twice the bound is the end of it.
    fn is_over(&self, limits: &Limits) -> bool {
        let bound = |hard: usize, grace: usize| {
            let more = grace.saturating_add(hard / 4);
            hard.max(more.min(hard.saturating_mul(2)))
        };
        self.pushed.items > bound(limits.outbox_items_hard, self.grace.items)
            || self.pushed.bytes > bound(limits.outbox_bytes_hard_total(), self.grace.bytes)
    }

    fn append(&mut self, item: OutItem) {
        let number = self.next;
        self.next += 1;
        self.items.push_back(Queued { number, item });
    }

    pub(super) fn is_hopeless(&self, limits: &Limits) -> bool {
        self.pushed.items > limits.outbox_items_hard.saturating_mul(2)
            || self.pushed.bytes > limits.outbox_bytes_hard_total().saturating_mul(2)
    }

    pub(super) fn place(&mut self, item: OutItem) {
        if self.closed {
            return;
        }
        if let Some(delivery) = delivery(&item) {
            delivery.hold();
        }
        // Drawn under the soft bound, and by the session itself.
        self.pushed.add(size(&item));
        self.append(item);
    }

    /// Over the soft bound only the newest availability of each sender is kept, at the tail, so that
    /// the order of what one sender sends stays.
    fn coalesce(&mut self, limits: &Limits) {
        if !self.is_soft(limits) {
            self.presence = None;
            return;
        }
        let fixed = self.fixed();
        let index = self.presence.get_or_insert_with(|| {
            let unsent = self.items.iter().skip(fixed);
            let found = unsent
                .filter_map(|queued| Some((available_from(&queued.item)?.clone(), queued.number)));
            // The last one is the newcomer itself.
            Box::new(found.take(self.items.len() - fixed - 1).collect())
        });
        let Some(newcomer) = self.items.back() else {
            return;
        };
        let Some(from) = available_from(&newcomer.item).cloned() else {
            return;
        };
        let older = index.insert(from, newcomer.number);
        if index.len() > 2 * self.items.len() + 64 {
            let first = self.items.front().map_or(0, |queued| queued.number);
            index.retain(|_, number| *number >= first);
        }
        let Some(older) = older else {
            return;
        };
        // What was sent meanwhile stays, as the client may have counted it.
        let at = self.items.binary_search_by_key(&older, |q| q.number).ok();
        let Some(at) = at.filter(|at| *at >= fixed) else {
            return;
        };
        if let Some(queued) = self.items.get_mut(at) {
            self.pushed.remove(size(&queued.item));
            queued.item = nothing();
            self.gone += 1;
        }
        self.compact();
    }

    /// Items that were sent over any transport: they are not touched.
    fn fixed(&self) -> usize {
        let reached = self.sm.as_ref().map_or(0, |sm| sm.reached);
        self.sent.max(reached)
    }

    /// Gives back the places of items that are gone, once they are the most of the queue.
    fn compact(&mut self) {
        let fixed = self.fixed();
        if self.gone < 64 || self.gone <= self.items.len() / 2 {
            return;
        }
        let mut at = 0;
        self.items.retain(|queued| {
            at += 1;
            at <= fixed || !is_nothing(&queued.item)
        });
        self.gone = 0;
    }

    pub(super) fn shut_gate(&mut self) {
        self.gate.get_or_insert_default();
    }

    pub(super) fn open_gate(&mut self) {
        if let Some(gated) = self.gate.take() {
            gated.items.into_iter().for_each(|item| self.append(item));
        }
    }

    pub(super) fn is_gated(&self) -> bool {
        self.gate.is_some()
    }

    pub(super) fn is_soft(&self, limits: &Limits) -> bool {
        self.pushed.items > limits.outbox_items_soft || self.pushed.bytes > limits.outbox_bytes_soft
    }

    /// The same without what waits behind the gate, which is no reason to draw less.
    pub(super) fn may_draw(&self, limits: &Limits) -> bool {
        let gated = self.gated();
        self.pushed.items.saturating_sub(gated.items) <= limits.outbox_items_soft
            && self.pushed.bytes.saturating_sub(gated.bytes) <= limits.outbox_bytes_soft
    }

    pub(super) fn is_congested(&self, limits: &Limits) -> bool {
        let ((items, bytes), gated) = (self.load(), self.gated());
        items.saturating_sub(gated.items) > limits.outbox_items_hard / 2
            || bytes.saturating_sub(gated.bytes) > limits.outbox_bytes_hard_total() / 2
    }

    fn gated(&self) -> Load {
        let gate = self.gate.as_ref();
        gate.map_or_else(Load::default, |gated| gated.load)
    }

    pub(super) fn load(&self) -> (usize, usize) {
        let items = self.pushed.items + self.own.items;
        (items, self.pushed.bytes + self.own.bytes)
    }

    fn is_paused(&self, limits: &Limits) -> bool {
        self.sm.as_ref().is_some_and(|sm| {
            rules::hold(Rule::SmBound)
                && (sm.unacknowledged.items >= limits.sm_unacked_max
                    || sm.unacknowledged.bytes >= limits.sm_unacked_bytes_max)
        })
    }

    /// Nothing is left to be copied to the transport.
    pub(super) fn is_all_sent(&self) -> bool {
        self.sent == self.items.len() && self.gate.is_none()
    }

    /// Something can be sent now.
    pub(super) fn has_more(&self, limits: &Limits) -> bool {
        match self.items.get(self.sent) {
            None => false,
            Some(queued) if is_stanza(&queued.item) => !self.is_paused(limits),
            Some(_) => true,
        }
    }

    pub(super) fn send(
        &mut self,
        limits: &Limits,
        mut write: impl FnMut(&OutItem) -> bool,
    ) -> Sent {
        let mut done = Sent::default();
        while let Some(Queued { number, item }) = self.items.get(self.sent) {
            let number = *number;
            let counts = is_stanza(item) && self.sm.as_ref().is_some_and(|sm| number >= sm.from);
            if counts && self.is_paused(limits) {
                done.paused = true;
                break;
            }
            let (more, bytes) = (write(item), size(item));
            if counts && let Some(sm) = &mut self.sm {
                sm.unacknowledged.add(bytes);
                done.counted = true;
            }
            self.sent += 1;
            if let Some(sm) = self.sm.as_mut().filter(|sm| sm.reached < self.sent) {
                sm.reached = self.sent;
                sm.ever += usize::from(counts);
            }
            if !more {
                break;
            }
        }
        done
    }

    pub(super) fn flushed(&mut self) -> Vec<RowId> {
        let mut taken = self.take_what_is_not_asked_about();
        while self.sent > 0
            && let Some(first) = self.items.front()
            && !self.counts(first)
        {
            self.pop(&mut taken);
        }
        self.tidy();
        taken
    }

    /// The client acknowledges it.
    fn counts(&self, queued: &Queued) -> bool {
        let sm = self.sm.as_ref();
        is_stanza(&queued.item) && sm.is_some_and(|sm| queued.number >= sm.from)
    }

    /// The first item leaves: it is taken.
    fn pop(&mut self, taken: &mut Vec<RowId>) {
        let Some(Queued { item, .. }) = self.items.pop_front() else {
            return;
        };
        self.sent = self.sent.saturating_sub(1);
        if let Some(sm) = &mut self.sm {
            sm.reached = sm.reached.saturating_sub(1);
        }
        self.forget(&item);
        if let Some(delivery) = delivery(&item) {
            if rules::hold(Rule::TakenMarks) {
                delivery.take();
            } else {
                delivery.let_go();
            }
            taken.extend(delivery.row.as_ref().map(|(id, _)| *id));
        }
    }

    fn forget(&mut self, item: &OutItem) {
        match item {
            Item::Shared(..) => self.pushed.remove(size(item)),
            item if is_nothing(item) => self.gone = self.gone.saturating_sub(1),
            _ => self.own.remove(size(item)),
        }
    }

    fn tidy(&mut self) {
        if self.items.is_empty() {
            self.items.shrink_to(4);
            self.grace = Load::default();
            self.presence = None;
        }
    }

    pub(super) fn count(&mut self, enabled: Box<[u8]>, limits: &Limits) {
        self.push(Item::Nonza(enabled), limits);
        self.sm = Some(Box::new(Counted {
            from: self.end_number(),
            acknowledged: 0,
            unacknowledged: Load::default(),
            reached: 0,
            ever: 0,
            probed: false,
        }));
    }

    pub(super) fn acknowledged(&mut self, h: u32) -> Result<Vec<RowId>, TooHigh> {
        let Some(sm) = &mut self.sm else {
            return Ok(Vec::new());
        };
        let newly = h.wrapping_sub(sm.acknowledged) as usize;
        if newly > sm.ever {
            let sent = sm.acknowledged.wrapping_add(sm.ever as u32);
            return Err(TooHigh { sent });
        }
        sm.acknowledged = h;
        sm.ever -= newly;
        let mut taken = Vec::new();
        let mut left = newly;
        while self.sm.as_ref().is_some_and(|sm| sm.reached > 0)
            && let Some(first) = self.items.front()
        {
            let (counts, bytes) = (self.counts(first), size(&first.item));
            if counts && left == 0 {
                break;
            }
            // Beside stanzas, only what has left is done with.
            if !counts && self.sent == 0 {
                break;
            }
            if counts {
                left -= 1;
                if let Some(sm) = self.sm.as_mut().filter(|_| self.sent > 0) {
                    sm.unacknowledged.remove(bytes);
                }
            }
            self.pop(&mut taken);
        }
        self.tidy();
        Ok(taken)
    }

    #[cfg(test)]
    pub(super) fn pushed(&self) -> usize {
        self.pushed.items
    }

    /// The queue by the ids of its stanzas: sent | unsent | behind the gate.
    #[cfg(test)]
    pub(super) fn ids(&self) -> String {
        let id = |item: &OutItem| match item {
            Item::Shared(_, rendered, _) => rendered
                .stanza()
                .head
                .id
                .as_deref()
                .unwrap_or("-")
                .to_owned(),
            _ => ".".to_owned(),
        };
        let list = |items: &mut dyn Iterator<Item = &OutItem>| -> String {
            items.map(|item| id(item) + " ").collect()
        };
        let sent = list(&mut self.items.iter().take(self.sent).map(|queued| &queued.item));
        let unsent = list(&mut self.items.iter().skip(self.sent).map(|queued| &queued.item));
        let gate = if self.gate.is_some() { "# " } else { "" };
        let gated = list(&mut self.gate.iter().flat_map(|gated| gated.items.iter()));
        format!("{sent}| {unsent}{gate}{gated}")
    }

    #[cfg(test)]
    pub(super) fn set_acknowledged(&mut self, h: u32) {
        if let Some(sm) = &mut self.sm {
            sm.acknowledged = h;
        }
    }

    pub(super) fn unacknowledged(&self) -> Option<usize> {
        self.sm.as_ref().map(|sm| sm.unacknowledged.items)
    }

    pub(super) fn rewind(&mut self) {
        if !rules::hold(Rule::Replay) {
            // What a queue does that forgets what it wrote.
            let mut taken = Vec::new();
            while self.sent > 0 {
                self.pop(&mut taken);
            }
        }
        // What was said beside stanzas was said to the old transport.
        let reached = self.sm.as_ref().map_or(self.sent, |sm| sm.reached);
        for queued in self.items.iter_mut().take(reached) {
            if !is_stanza(&queued.item) && !is_nothing(&queued.item) {
                self.own.remove(size(&queued.item));
                queued.item = nothing();
                self.gone += 1;
            }
        }
        self.sent = 0;
        self.grace = self.pushed;
        if let Some(sm) = &mut self.sm {
            sm.unacknowledged = Load::default();
        }
    }

    pub(super) fn sent_until(&self) -> u64 {
        let first = self.items.get(self.sent);
        first.map_or(self.next, |queued| queued.number)
    }

    pub(super) fn end_number(&self) -> u64 {
        self.next
    }

    pub(super) fn withdraw(&mut self, own: &str) -> Vec<OutItem> {
        self.open_gate();
        // What was sent over an earlier transport was sent, too.
        let unsent = self.items.split_off(self.fixed().min(self.items.len()));
        self.presence = None;
        let mut withdrawn = Vec::new();
        for queued in unsent {
            let message = match &queued.item {
                Item::Shared(_, rendered, _) => {
                    let to = rendered.stanza().head.to.as_ref().map_or("", Jid::as_str);
                    rendered.class() == Class::Message && to != own
                }
                _ => false,
            };
            if message {
                self.forget(&queued.item);
                if let Some(delivery) = delivery(&queued.item) {
                    delivery.let_go();
                }
                withdrawn.push(queued.item);
            } else {
                self.items.push_back(queued);
            }
        }
        withdrawn
    }

    pub(super) fn close(&mut self) -> Vec<OutItem> {
        self.open_gate();
        self.closed = true;
        self.marked = false;
        (self.sent, self.pushed, self.own) = (0, Load::default(), Load::default());
        self.presence = None;
        let items = std::mem::take(&mut self.items);
        let items: Vec<_> = items.into_iter().map(|queued| queued.item).collect();
        self.gone = 0;
        items.iter().filter_map(delivery).for_each(|d| d.let_go());
        items
    }
}

/// Whose availability an item tells: what may be coalesced.
fn available_from(item: &OutItem) -> Option<&Jid> {
    match item {
        Item::Shared(_, rendered, _) if rendered.class() == Class::Presence => {
            rendered.stanza().head.from.as_ref()
        }
        _ => None,
    }
}
