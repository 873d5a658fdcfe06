//! What a session has received and what of it is done: `h` of stream management.
//!
//! DESIGN 5 rules 18 and 19, DESIGN 10: a stanza counts when its writes are committed or failed, in
//! the order of arrival; one that failed is told to its sender before it is counted.

use super::outbox::Outbox;
use super::rules::{self, Rule};
use crate::core::not_stored;
use crate::limits::Limits;
use crate::store::Ticket;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use xmpp_stream::jid::FullJid;
use xmpp_stream::stanza::{Item, Stanza};

/// A write that a received stanza waits for.
#[derive(Debug)]
pub struct Owed {
    /// Its submit.
    pub ticket: Ticket,
    /// What an error would answer.
    pub stanza: Arc<Stanza>,
}

/// Received stanzas in order, from the first that is not done.
#[derive(Debug, Default)]
pub struct Inbound {
    managed: bool,
    h: u32,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    owed: SmallVec<[Owed; 1]>,
    bytes: usize,
    /// It came after the client began to count.
    counts: bool,
    /// Number in the outbox behind the last error that this stanza brought.
    told: Option<u64>,
}

impl Inbound {
    /// From the next stanza on the client is told how many were handled.
    pub fn manage(&mut self) {
        self.managed = true;
        self.h = 0;
    }

    /// Stanzas that count as handled, modulo 2^32.
    #[must_use]
    pub fn h(&self) -> u32 {
        self.h
    }

    /// What `h` will be when all that came is done.
    #[must_use]
    pub fn received(&self) -> u32 {
        let counting = self.waiting.iter().filter(|waiting| waiting.counts);
        self.h.wrapping_add(counting.count() as u32)
    }

    /// Everything that came is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// As much is waiting as may: nothing more is read.
    #[must_use]
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.waiting.len() >= limits.stanzas_pending_max
            || self.bytes >= limits.stanza_bytes_pending_max
    }

    /// A stanza has had its effects, and these writes are on their way.
    pub fn push(&mut self, owed: SmallVec<[Owed; 1]>, bytes: usize) {
        let counts = self.managed;
        if self.waiting.is_empty() && owed.is_empty() {
            self.h = self.h.wrapping_add(counts.into());
            return;
        }
        self.bytes += bytes;
        self.waiting.push_back(Waiting {
            owed,
            bytes,
            counts,
            told: None,
        });
    }

    /// Ready when no write is waited for any more: everything that came then counts, errors still
    /// to be sent or not, as these stand in the queue that follows (rule 20).
    pub fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        jid: &FullJid,
        outbox: &Outbox,
        limits: &Limits,
    ) -> Poll<()> {
        while let Some(first) = self.waiting.front_mut() {
            if rules::hold(Rule::TicketsBeforeResumed)
                && first.poll_written(cx, jid, outbox, limits).is_pending()
            {
                return Poll::Pending;
            }
            self.pop();
        }
        Poll::Ready(())
    }

    fn pop(&mut self) {
        if let Some(first) = self.waiting.pop_front() {
            self.bytes = self.bytes.saturating_sub(first.bytes);
            self.h = self.h.wrapping_add(first.counts.into());
        }
    }

    /// Ready each time that something more is done, pending when nothing more can be yet.
    pub fn poll_done(
        &mut self,
        cx: &mut Context<'_>,
        jid: &FullJid,
        outbox: &Outbox,
        limits: &Limits,
    ) -> Poll<()> {
        let mut progress = false;
        while let Some(first) = self.waiting.front_mut() {
            if first.poll_written(cx, jid, outbox, limits).is_pending() {
                break;
            }
            // Rule 19: `<a/>` stands behind every error that it covers.
            if first.told.is_some_and(|told| outbox.sent_until() < told) && !outbox.is_closed() {
                break;
            }
            self.pop();
            progress = true;
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(4);
        }
        match progress {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Waiting {
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        jid: &FullJid,
        outbox: &Outbox,
        limits: &Limits,
    ) -> Poll<()> {
        while let Some(owed) = self.owed.first_mut() {
            if rules::hold(Rule::CommittedOnly) {
                match Pin::new(&mut owed.ticket).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        tracing::error!(%error, %jid, "message not stored");
                        let reply = owed.stanza.error_reply(&not_stored());
                        if let Some(reply) = reply.filter(|_| rules::hold(Rule::FailedTold)) {
                            let reply = reply.with_to(jid.clone());
                            outbox.push(Item::One(Box::new(reply)), limits);
                            outbox.wake();
                            self.told = Some(outbox.end_number());
                        }
                    }
                }
            }
            self.owed.remove(0);
        }
        Poll::Ready(())
    }
}
