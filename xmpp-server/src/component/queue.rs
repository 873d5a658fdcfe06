//! The queue of each component that is here.

use crate::limits::Limits;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use xmpp_stream::stanza::Stanza;

/// Components that are here or were, by domain: as many as are configured.
#[derive(Debug, Default)]
pub(crate) struct Attachments(Mutex<HashMap<Box<str>, Option<Arc<Queue>>>>);

/// What waits to be written to one component.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    stanzas: VecDeque<Stanza>,
    bytes: usize,
    closed: bool,
}

/// Why a component does not take a stanza.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// It is not here.
    Absent,
    /// Too much waits for it already.
    Full,
}

impl Attachments {
    /// A queue for a component that has come, and whether it was here before; `None`: it is here.
    pub(super) fn attach(&self, domain: &str) -> Option<(Arc<Queue>, bool)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.get(domain);
        let was_here = before.is_some();
        if before.is_some_and(Option::is_some) {
            return None;
        }
        let queue = Arc::<Queue>::default();
        all.insert(domain.into(), Some(Arc::clone(&queue)));
        Some((queue, was_here))
    }

    /// The component has gone; what it did not get.
    pub(super) fn detach(&self, domain: &str) -> Vec<Stanza> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = all.get_mut(domain).and_then(Option::take);
        drop(all);
        queue.map(|queue| queue.close()).unwrap_or_default()
    }

    pub(super) fn find(&self, domain: &str) -> Option<Arc<Queue>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(domain).cloned().flatten()
    }
}

impl Queue {
    /// Appends a stanza; gives it back with the reason where it cannot wait.
    pub(super) fn push(
        &self,
        stanza: Stanza,
        limits: &Limits,
    ) -> Result<(), Box<(Stanza, Refusal)>> {
        let size = stanza.wire_len();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = state.stanzas.len() >= limits.component_pending_max
            || (state.bytes > 0 && state.bytes + size > limits.component_pending_bytes_max);
        if state.closed {
            return Err(Box::new((stanza, Refusal::Absent)));
        }
        if is_full {
            return Err(Box::new((stanza, Refusal::Full)));
        }
        state.bytes += size;
        state.stanzas.push_back(stanza);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// The next stanza, if there is one.
    pub(super) fn pop(&self) -> Option<Stanza> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stanza = state.stanzas.pop_front()?;
        state.bytes = state.bytes.saturating_sub(stanza.wire_len());
        Some(stanza)
    }

    /// Resolves when there is a stanza; only its own task waits.
    pub(super) async fn wait(&self) {
        loop {
            let filled = self.filled.notified();
            if !self.is_empty() {
                return;
            }
            filled.await;
        }
    }

    fn is_empty(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stanzas.is_empty()
    }

    fn close(&self) -> Vec<Stanza> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.bytes = 0;
        state.stanzas.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza() -> Stanza {
        Stanza::chat("x@gw.d.test", "hi").unwrap()
    }

    #[test]
    fn im_cp_02_a_component_is_here_once() {
        let all = Attachments::default();
        let (queue, was_here) = all.attach("gw.d.test").unwrap();
        assert!(!was_here);
        assert!(all.attach("gw.d.test").is_none());
        assert!(all.attach("other.d.test").is_some());
        queue.push(stanza(), &Limits::default()).unwrap();
        assert_eq!(all.detach("gw.d.test").len(), 1);
        assert!(all.find("gw.d.test").is_none());
        assert!(
            all.attach("gw.d.test")
                .is_some_and(|(_, was_here)| was_here)
        );
        // Whoever had the old queue in hand is told.
        let refused = queue.push(stanza(), &Limits::default()).unwrap_err();
        assert_eq!(refused.1, Refusal::Absent);
    }

    #[test]
    fn what_waits_for_a_component_is_bounded() {
        let limits = Limits {
            component_pending_max: 2,
            ..Limits::default()
        };
        let queue = Queue::default();
        queue.push(stanza(), &limits).unwrap();
        queue.push(stanza(), &limits).unwrap();
        assert_eq!(queue.push(stanza(), &limits).unwrap_err().1, Refusal::Full);
        queue.pop().unwrap();
        queue.push(stanza(), &limits).unwrap();
        // By bytes, but one stanza of any size.
        let limits = Limits {
            component_pending_bytes_max: 1,
            ..Limits::default()
        };
        let queue = Queue::default();
        queue.push(stanza(), &limits).unwrap();
        assert_eq!(queue.push(stanza(), &limits).unwrap_err().1, Refusal::Full);
        queue.pop().unwrap();
        queue.push(stanza(), &limits).unwrap();
    }
}
