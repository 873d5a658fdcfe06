//! The promise that a submit was committed, or the reason why not.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::{Instant, Sleep};

use super::CommitError;
use crate::clock;

/// Resolves when the operations of one submit are committed or refused, after `ticket_max` (10 s) at
/// the latest.
/// Dropping it changes nothing: what was submitted is still written.
#[must_use = "nothing is known to be stored until its ticket says so"]
#[derive(Debug)]
pub struct Ticket {
    state: State,
}

#[derive(Debug)]
enum State {
    Done(Result<(), CommitError>),
    Waiting {
        slot: Arc<Slot>,
        deadline: Instant,
        timer: Option<Pin<Box<Sleep>>>,
    },
}

/// Where the writer puts the outcome.
#[derive(Debug, Default)]
pub(super) struct Slot {
    outcome: OnceLock<Result<(), CommitError>>,
    waiting: Mutex<SmallVec<[Waker; 1]>>,
}

/// A look at the same outcome for others than the asker: it knows no time-out, as a write that took
/// too long may still take effect.
#[derive(Clone, Debug)]
pub struct TicketView(ViewState);

#[derive(Clone, Debug)]
enum ViewState {
    Done(Result<(), CommitError>),
    Waiting(Arc<Slot>),
}

impl TicketView {
    /// Of something that was committed before.
    #[must_use]
    pub const fn committed() -> Self {
        Self(ViewState::Done(Ok(())))
    }

    /// What became of it, once that is known.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), CommitError>> {
        match &self.0 {
            ViewState::Done(outcome) => Some(*outcome),
            ViewState::Waiting(slot) => slot.outcome.get().copied(),
        }
    }

    /// Resolves when it is known.
    pub async fn settled(&self) -> Result<(), CommitError> {
        poll_fn(|cx| match &self.0 {
            ViewState::Done(outcome) => Poll::Ready(*outcome),
            ViewState::Waiting(slot) => slot.poll(cx),
        })
        .await
    }
}

impl Ticket {
    /// What is known without waiting.
    pub fn outcome(&self) -> Option<Result<(), CommitError>> {
        match &self.state {
            State::Done(outcome) => Some(*outcome),
            State::Waiting { slot, .. } => slot.outcome.get().copied(),
        }
    }

    /// A wait for what somebody else submitted, at most for so long.
    #[must_use]
    pub fn of(view: TicketView, at_most: Duration) -> Self {
        match view.0 {
            ViewState::Done(outcome) => Self::done(outcome),
            ViewState::Waiting(slot) => Self::waiting(slot, at_most),
        }
    }

    /// The same outcome for somebody else to look at.
    #[must_use]
    pub fn view(&self) -> TicketView {
        TicketView(match &self.state {
            State::Done(outcome) => ViewState::Done(*outcome),
            State::Waiting { slot, .. } => ViewState::Waiting(Arc::clone(slot)),
        })
    }

    /// True when awaiting it would not wait.
    pub fn is_done(&self) -> bool {
        self.outcome().is_some()
    }

    pub(super) fn done(outcome: Result<(), CommitError>) -> Self {
        Self {
            state: State::Done(outcome),
        }
    }

    pub(super) fn waiting(slot: Arc<Slot>, at_most: Duration) -> Self {
        let deadline = Instant::from_std(clock::now()) + at_most;
        Self {
            state: State::Waiting {
                slot,
                deadline,
                timer: None,
            },
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), CommitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let State::Waiting {
            slot,
            deadline,
            timer,
        } = &mut self.state
        else {
            return Poll::Ready(self.outcome().unwrap_or(Err(CommitError::Failed)));
        };
        let outcome = if let Poll::Ready(outcome) = slot.poll(cx) {
            outcome
        } else {
            let deadline = *deadline;
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            ready!(timer.as_mut().poll(cx));
            Err(CommitError::TimedOut)
        };
        self.state = State::Done(outcome);
        Poll::Ready(outcome)
    }
}

impl Slot {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), CommitError>> {
        if self.outcome.get().is_none() {
            let mut waiting = self.waiting();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        // Looked at after registering: an outcome in between has woken nobody.
        match self.outcome.get() {
            Some(outcome) => Poll::Ready(*outcome),
            None => Poll::Pending,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, SmallVec<[Waker; 1]>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles the outcome; only the first one counts.
    pub(super) fn finish(&self, outcome: Result<(), CommitError>) {
        if self.outcome.set(outcome).is_ok() {
            let waiting = std::mem::take(&mut *self.waiting());
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET_MAX: Duration = Duration::from_secs(7);

    #[tokio::test(start_paused = true)]
    async fn waits_its_time_and_no_longer() {
        let slot = Arc::new(Slot::default());
        let mut ticket = Ticket::waiting(Arc::clone(&slot), TICKET_MAX);
        let start = clock::now();
        assert!(!ticket.is_done());
        assert_eq!((&mut ticket).await, Err(CommitError::TimedOut));
        assert_eq!(clock::now().duration_since(start), TICKET_MAX);
        slot.finish(Ok(()));
        assert_eq!(ticket.outcome(), Some(Err(CommitError::TimedOut)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_outcome_counts_and_wakes() {
        let slot = Arc::new(Slot::default());
        let ticket = Ticket::waiting(Arc::clone(&slot), TICKET_MAX);
        let waiting = tokio::spawn(ticket);
        tokio::task::yield_now().await;
        slot.finish(Err(CommitError::Expect));
        slot.finish(Ok(()));
        assert_eq!(waiting.await.unwrap(), Err(CommitError::Expect));
    }
}
