//! What clients want sent and the listener has not sent yet.
//!
//! Shared by all handles and the listener. It stays when the connection is lost: who waits for a
//! stanza to be written waits on. One lock, held for a push or a pop.

use crate::error::NotAcked;
use crate::limits::Limits;
use crate::request::Reply;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::CloseReason;

/// Slots kept of an empty queue.
const KEEP: usize = 4;

/// What its sender waits for.
pub(crate) enum Wants {
    /// Nothing, or that it is written.
    Written,
    /// That the server has it.
    Acked(oneshot::Sender<Result<(), NotAcked>>),
    /// The answer.
    Answer(Reply),
}

/// A stanza on its way out.
pub(crate) struct Outgoing {
    pub(crate) stanza: Stanza,
    pub(crate) wants: Wants,
    /// Its number, in the order of sending.
    pub(crate) ticket: u64,
    /// When it was first given to a stream.
    pub(crate) since: Option<Instant>,
}

/// The queue, who waits on it, and whether there is a stream.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// For the listener: there is something to send, or the end is wanted.
    pub(crate) wake: Notify,
    /// For senders: there is room, something was written, or it is over.
    moved: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
    tickets: u64,
    written: u64,
    /// There is no stream now, and nobody wants to wait for the next one.
    refusing: Option<CloseReason>,
    /// Whether a person looks at the client, where that has changed.
    active: Option<bool>,
    closing: bool,
    ended: Option<CloseReason>,
}

impl State {
    /// Why nothing more is taken.
    fn over(&self) -> Option<CloseReason> {
        match (&self.ended, self.closing) {
            (Some(reason), _) => Some(reason.clone()),
            (None, true) => Some(CloseReason::Clean),
            (None, false) => self.refusing.clone(),
        }
    }

    fn has_room(&self, bytes: usize, limits: &Limits) -> bool {
        self.waiting.is_empty()
            || self.waiting.len() < limits.waiting_max
                && self.bytes + bytes <= limits.waiting_bytes_max
    }
}

impl Outbox {
    /// Queues a stanza, once there is room; its number. It is handed back where nothing is sent any
    /// more.
    pub(crate) async fn push(
        &self,
        stanza: Stanza,
        wants: Wants,
        limits: &Limits,
    ) -> Result<u64, Box<(Stanza, Wants, CloseReason)>> {
        let bytes = stanza.wire_len();
        loop {
            let moved = self.moved.notified();
            {
                let mut state = self.lock();
                if let Some(reason) = state.over() {
                    return Err(Box::new((stanza, wants, reason)));
                }
                if state.has_room(bytes, limits) {
                    state.tickets += 1;
                    let ticket = state.tickets;
                    state.bytes += bytes;
                    state.waiting.push_back(Outgoing {
                        stanza,
                        wants,
                        ticket,
                        since: None,
                    });
                    drop(state);
                    self.wake.notify_one();
                    return Ok(ticket);
                }
            }
            moved.await;
        }
    }

    /// Waits until the stanza of this number has been written.
    pub(crate) async fn written(&self, ticket: u64) -> Result<(), CloseReason> {
        loop {
            let moved = self.moved.notified();
            {
                let state = self.lock();
                if state.written >= ticket {
                    return Ok(());
                }
                if let Some(reason) = &state.ended {
                    return Err(reason.clone());
                }
            }
            moved.await;
        }
    }

    /// Waits until it is over, and why.
    pub(crate) async fn ended(&self) -> CloseReason {
        loop {
            let moved = self.moved.notified();
            if let Some(reason) = &self.lock().ended {
                return reason.clone();
            }
            moved.await;
        }
    }

    /// The next to be sent.
    pub(crate) fn pop(&self) -> Option<Outgoing> {
        let mut state = self.lock();
        let outgoing = state.waiting.pop_front()?;
        state.bytes -= outgoing.stanza.wire_len();
        if state.waiting.is_empty() {
            state.waiting.shrink_to(KEEP);
        }
        drop(state);
        self.moved.notify_waiters();
        Some(outgoing)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    pub(crate) fn set_active(&self, active: bool) {
        self.lock().active = Some(active);
        self.wake.notify_one();
    }

    pub(crate) fn take_active(&self) -> Option<bool> {
        self.lock().active.take()
    }

    /// Everything up to this number has been written.
    pub(crate) fn set_written(&self, ticket: u64) {
        let mut state = self.lock();
        state.written = state.written.max(ticket);
        drop(state);
        self.moved.notify_waiters();
    }

    /// From now on nothing is taken until there is a stream again, or everything is.
    pub(crate) fn refuse(&self, reason: Option<CloseReason>) {
        self.lock().refusing = reason;
        self.moved.notify_waiters();
    }

    /// Takes nothing more; what waits is still sent.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
        self.moved.notify_waiters();
    }

    /// The end is wanted.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// It is over, for the first reason that is given; what was not sent.
    pub(crate) fn end(&self, reason: &CloseReason) -> VecDeque<Outgoing> {
        let mut state = self.lock();
        state.ended.get_or_insert_with(|| reason.clone());
        state.bytes = 0;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        self.moved.notify_waiters();
        left
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Poll;
    use xmpp_stream::stanza::Ty;

    fn stanza() -> Stanza {
        Stanza::message(Ty::None)
    }

    async fn push(outbox: &Outbox) -> Result<u64, CloseReason> {
        let limits = Limits::default();
        let pushed = outbox.push(stanza(), Wants::Written, &limits).await;
        pushed.map_err(|rejected| rejected.2)
    }

    #[tokio::test]
    async fn senders_wait_for_room_and_for_writing() {
        let outbox = Arc::new(Outbox::default());
        for number in 1..=Limits::default().waiting_max as u64 {
            assert_eq!(push(&outbox).await.unwrap(), number);
        }
        let late = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move {
                let ticket = push(&outbox).await.unwrap();
                outbox.written(ticket).await.unwrap();
                ticket
            }
        });
        tokio::task::yield_now().await;
        assert!(!late.is_finished());
        let mut last = 0;
        while last < 257 {
            match outbox.pop() {
                Some(outgoing) => last = outgoing.ticket,
                None => tokio::task::yield_now().await,
            }
        }
        outbox.set_written(last);
        assert_eq!(late.await.unwrap(), 257);
    }

    #[tokio::test]
    async fn one_larger_than_the_bound_is_taken_alone() {
        let (outbox, limits) = (Outbox::default(), Limits::default());
        let large = Stanza::chat("a.test", &"x".repeat(limits.waiting_bytes_max)).unwrap();
        assert!(outbox.push(large, Wants::Written, &limits).await.is_ok());
        let mut next = Box::pin(push(&outbox));
        std::future::poll_fn(|cx| {
            assert!(next.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(outbox.pop().is_some());
        assert!(next.await.is_ok());
    }

    #[tokio::test]
    async fn nothing_is_taken_after_the_end_and_nobody_waits_for_ever() {
        let outbox = Outbox::default();
        let ticket = push(&outbox).await.unwrap();
        outbox.close();
        assert!(matches!(push(&outbox).await, Err(CloseReason::Clean)));
        let left = outbox.end(&CloseReason::Eof);
        assert_eq!(left.len(), 1);
        assert!(matches!(
            outbox.written(ticket).await,
            Err(CloseReason::Eof)
        ));
        assert!(matches!(push(&outbox).await, Err(CloseReason::Eof)));
        assert!(matches!(outbox.ended().await, CloseReason::Eof));
    }

    #[tokio::test]
    async fn whoever_does_not_want_to_wait_for_the_next_stream_is_refused() {
        let outbox = Outbox::default();
        outbox.refuse(Some(CloseReason::Eof));
        assert!(matches!(push(&outbox).await, Err(CloseReason::Eof)));
        outbox.refuse(None);
        assert!(push(&outbox).await.is_ok());
    }
}
