//! What came over a stream of another server and is not done, and what of it was handled: `h`.
//!
//! DESIGN 5 rules 18 and 19 as for a client's session: a stanza counts when its writes are committed
//! or have failed, in the order of arrival; whoever sent one that failed is told.

use crate::core::not_stored;
use crate::limits::Limits;
use crate::session::inbound::Owed;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use xmpp_stream::stanza::Stanza;

/// Received stanzas in order, from the first that is not done.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    managed: bool,
    h: u32,
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    owed: SmallVec<[Owed; 1]>,
    bytes: usize,
    counts: bool,
}

impl Arrived {
    /// From the next stanza on the peer is told how many were handled.
    pub(crate) fn manage(&mut self) {
        self.managed = true;
        self.h = 0;
    }

    pub(crate) fn is_managed(&self) -> bool {
        self.managed
    }

    /// Stanzas that count as handled, modulo 2^32.
    pub(crate) fn h(&self) -> u32 {
        self.h
    }

    /// What `h` will be when all that came is done.
    pub(crate) fn received(&self) -> u32 {
        let counting = self.waiting.iter().filter(|waiting| waiting.counts);
        self.h.wrapping_add(counting.count() as u32)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    /// As much is waiting as may: nothing more is read.
    pub(crate) fn is_full(&self, limits: &Limits) -> bool {
        self.waiting.len() >= limits.stanzas_pending_max
            || self.bytes >= limits.stanza_bytes_pending_max
    }

    /// A stanza has had its effects, and these writes are on their way.
    pub(crate) fn push(&mut self, owed: SmallVec<[Owed; 1]>, bytes: usize) {
        if self.waiting.is_empty() && owed.is_empty() {
            self.h = self.h.wrapping_add(self.managed.into());
            return;
        }
        self.bytes += bytes;
        self.waiting.push_back(Waiting {
            owed,
            bytes,
            counts: self.managed,
        });
    }

    /// Ready each time that something more is done; errors to be sent are added to `failed`.
    pub(crate) fn poll_done(&mut self, cx: &mut Context<'_>, failed: &mut Vec<Stanza>) -> Poll<()> {
        let mut progress = false;
        while let Some(first) = self.waiting.front_mut() {
            if first.poll_written(cx, failed).is_pending() {
                break;
            }
            self.bytes = self.bytes.saturating_sub(first.bytes);
            self.h = self.h.wrapping_add(first.counts.into());
            self.waiting.pop_front();
            progress = true;
        }
        match progress {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Waiting {
    fn poll_written(&mut self, cx: &mut Context<'_>, failed: &mut Vec<Stanza>) -> Poll<()> {
        while let Some(owed) = self.owed.first_mut() {
            match Pin::new(&mut owed.ticket).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    tracing::error!(%error, "message of another server not stored");
                    failed.extend(owed.stanza.error_reply(&not_stored()));
                }
            }
            self.owed.remove(0);
        }
        Poll::Ready(())
    }
}
