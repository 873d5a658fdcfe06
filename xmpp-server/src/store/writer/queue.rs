//! What waits for the writer's thread: submits in their order, and accounts whose watermark is to
//! be written, each of them once.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::permit::StoreLimits;
use super::super::ticket::Slot;
use super::super::{Clearing, CommitError, Ops, Permit};

/// How long a watermark waits for operations to be committed with.
const CLEAR_WAIT: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Queue {
    pub(super) submits: VecDeque<Submit>,
    clearings: VecDeque<Clearing>,
    /// The addresses of those in the list, which live as long as they stand there.
    listed: HashSet<usize>,
    /// When the list is written without any operations.
    pub(super) clear_at: Option<Instant>,
    /// Nothing more is taken in; what waits is still written.
    pub(super) closed: bool,
}

pub(super) struct Submit {
    pub(super) ops: Ops,
    pub(super) bytes: usize,
    pub(super) slot: Arc<Slot>,
    pub(super) _permit: Permit,
}

impl Queue {
    /// False: it is closed.
    pub(super) fn push(&mut self, submit: Submit) -> bool {
        if !self.closed {
            self.submits.push_back(submit);
        }
        !self.closed
    }

    /// True: it is the first in the list.
    pub(super) fn list(&mut self, clearing: Clearing, now: Instant) -> bool {
        if self.closed || !self.listed.insert(address(&clearing)) {
            return false;
        }
        self.clearings.push_back(clearing);
        self.clear_at.get_or_insert(now + CLEAR_WAIT);
        self.clearings.len() == 1
    }

    pub(super) fn take_group(&mut self, limits: &StoreLimits) -> Vec<Submit> {
        let (mut group, mut ops, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = self.submits.front() {
            ops += next.ops.len();
            bytes += next.bytes;
            let full = ops > limits.group_ops_max || bytes > limits.group_bytes_max;
            // One submit that is too large for any group goes alone.
            if full && !group.is_empty() {
                break;
            }
            group.extend(self.submits.pop_front());
        }
        group
    }

    /// Whoever is taken may be listed again at once.
    pub(super) fn take_clearings(&mut self, max: usize) -> Vec<Clearing> {
        let count = self.clearings.len().min(max);
        let taken: Vec<Clearing> = self.clearings.drain(..count).collect();
        for clearing in &taken {
            self.listed.remove(&address(clearing));
        }
        if self.clearings.is_empty() {
            self.clear_at = None;
        }
        taken
    }

    /// Closes and empties it.
    pub(super) fn end(&mut self) -> (VecDeque<Submit>, VecDeque<Clearing>) {
        self.closed = true;
        self.listed.clear();
        (mem::take(&mut self.submits), mem::take(&mut self.clearings))
    }
}

fn address(clearing: &Clearing) -> usize {
    Arc::as_ptr(clearing).cast::<()>() as usize
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("submits", &self.submits.len())
            .field("clearings", &self.clearings.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Drop for Submit {
    /// A submit that nobody settled was lost with its thread.
    fn drop(&mut self) {
        self.slot.finish(Err(CommitError::Failed));
    }
}
