//! Stanzas given to a stream that the server has not acknowledged (XEP-0198 section 4).
//!
//! They outlive the connection: what the server has not got is sent again on the next one. Without
//! stream management a stanza counts as taken once it was written.

use crate::error::{NotAcked, NotAckedReason};
use crate::limits::Limits;
use crate::outbox::{Outgoing, Wants};
use std::collections::VecDeque;

/// Slots kept of an empty queue.
const KEEP: usize = 4;

/// The queue, and the server's count.
#[derive(Default)]
pub(crate) struct Unacked {
    queue: VecDeque<Outgoing>,
    bytes: usize,
    /// What the server has acknowledged since stream management began; wraps around.
    acked: u32,
    /// Sent since an acknowledgement was asked for.
    unasked: usize,
    /// Of the queue, how many the last question for an acknowledgement was about.
    asked: usize,
    /// How many of the queue somebody waits for.
    awaited: usize,
}

/// The server acknowledges more than it was sent (XEP-0198 section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooHigh {
    /// What it was sent.
    pub(crate) sent: u32,
}

impl Unacked {
    /// A new session: the server counts from zero, and has none of these.
    pub(crate) fn restart(&mut self) -> VecDeque<Outgoing> {
        let queue = std::mem::take(&mut self.queue);
        *self = Self::default();
        queue
    }

    pub(crate) fn push(&mut self, outgoing: Outgoing) {
        self.bytes += outgoing.stanza.wire_len();
        self.unasked += 1;
        self.awaited += usize::from(matches!(outgoing.wants, Wants::Acked(_)));
        self.queue.push_back(outgoing);
    }

    /// An acknowledgement of all of it was asked for.
    pub(crate) fn asked(&mut self) {
        self.asked = self.queue.len();
    }

    /// All that an acknowledgement was asked for has one.
    pub(crate) fn is_answered(&self) -> bool {
        self.asked == 0
    }

    /// Takes out what the server has got by now, and tells who waits for it. A count that goes back
    /// is an old one and says nothing.
    pub(crate) fn ack(&mut self, h: u32) -> Result<(), TooHigh> {
        let newly = h.wrapping_sub(self.acked);
        if newly as usize > self.queue.len() {
            let is_old = (newly as i32) < 0;
            let sent = self.acked.wrapping_add(self.queue.len() as u32);
            return if is_old {
                Ok(())
            } else {
                Err(TooHigh { sent })
            };
        }
        self.acked = h;
        for _ in 0..newly {
            self.take_first();
        }
        self.unasked = self.unasked.min(self.queue.len());
        self.shrink();
        Ok(())
    }

    /// Without stream management: all of it has been written, which is all that can be known.
    pub(crate) fn clear(&mut self) {
        while self.take_first() {}
        self.acked = 0;
        self.unasked = 0;
        self.shrink();
    }

    /// There is nothing to wait for: no acknowledgements come.
    pub(crate) fn give_up_waiting(&mut self) {
        for outgoing in &mut self.queue {
            if let Wants::Acked(acked) = std::mem::replace(&mut outgoing.wants, Wants::Written) {
                let stanza = Box::new(outgoing.stanza.clone());
                let reason = NotAckedReason::NoStreamManagement;
                let _ = acked.send(Err(NotAcked { stanza, reason }));
            }
        }
        self.awaited = 0;
    }

    fn take_first(&mut self) -> bool {
        let Some(outgoing) = self.queue.pop_front() else {
            return false;
        };
        self.bytes -= outgoing.stanza.wire_len();
        self.asked = self.asked.saturating_sub(1);
        if let Wants::Acked(acked) = outgoing.wants {
            self.awaited -= 1;
            let _ = acked.send(Ok(()));
        }
        true
    }

    fn shrink(&mut self) {
        if self.queue.is_empty() {
            self.queue.shrink_to(KEEP);
        }
    }

    /// It is time to ask for an acknowledgement: somebody waits, or much was sent. True once.
    pub(crate) fn wants_ask(&mut self, limits: &Limits) -> bool {
        let wants = self.unasked > 0 && self.awaited > 0
            || self.unasked >= limits.ask_every
            || self.unasked > 0 && self.is_full(limits);
        if wants {
            self.unasked = 0;
        }
        wants
    }

    /// Nothing more should be sent.
    pub(crate) fn is_full(&self, limits: &Limits) -> bool {
        self.queue.len() >= limits.unacked_max || self.bytes >= limits.unacked_bytes_max
    }

    /// Not even answers.
    pub(crate) fn is_overfull(&self, limits: &Limits) -> bool {
        self.queue.len() >= 2 * limits.unacked_max || self.bytes >= 2 * limits.unacked_bytes_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Outgoing> {
        self.queue.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;
    use xmpp_stream::stanza::{Stanza, Ty};

    fn outgoing(wants: Wants) -> Outgoing {
        Outgoing {
            stanza: Stanza::message(Ty::None),
            wants,
            ticket: 0,
            since: None,
        }
    }

    fn with(count: usize) -> Unacked {
        let mut unacked = Unacked::default();
        for _ in 0..count {
            unacked.push(outgoing(Wants::Written));
        }
        unacked
    }

    #[test]
    fn ss_03_what_is_acknowledged_leaves_in_order() {
        let mut unacked = with(1);
        let (sender, mut acked) = oneshot::channel();
        unacked.push(outgoing(Wants::Acked(sender)));
        assert_eq!(unacked.ack(1), Ok(()));
        assert!(acked.try_recv().is_err());
        assert_eq!(unacked.ack(2), Ok(()));
        assert!(matches!(acked.try_recv(), Ok(Ok(()))));
        assert!(unacked.is_empty());
    }

    #[test]
    fn ss_06_more_than_was_sent_is_too_high() {
        let mut unacked = with(3);
        assert_eq!(unacked.ack(4), Err(TooHigh { sent: 3 }));
        assert_eq!(unacked.ack(3), Ok(()));
        assert_eq!(unacked.ack(4), Err(TooHigh { sent: 3 }));
        assert_eq!(unacked.ack(2), Ok(()), "an old one");
    }

    #[test]
    fn ss_03_counts_wrap_around() {
        let mut unacked = with(3);
        unacked.acked = u32::MAX - 1;
        assert_eq!(unacked.ack(0), Ok(()));
        assert_eq!(unacked.iter().count(), 1);
        assert_eq!(unacked.ack(2), Err(TooHigh { sent: 1 }));
        assert_eq!(unacked.ack(1), Ok(()));
        assert_eq!(unacked.bytes, 0);
    }

    #[test]
    fn an_acknowledgement_is_asked_for_when_somebody_waits_or_much_was_sent() {
        let limits = Limits::default();
        let mut unacked = with(limits.ask_every - 1);
        assert!(!unacked.wants_ask(&limits));
        unacked.push(outgoing(Wants::Written));
        assert!(unacked.wants_ask(&limits));
        assert!(!unacked.wants_ask(&limits));
        unacked.push(outgoing(Wants::Acked(oneshot::channel().0)));
        assert!(unacked.wants_ask(&limits));
        assert!(!unacked.wants_ask(&limits));
    }
}
