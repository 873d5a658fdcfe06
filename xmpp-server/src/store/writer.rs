//! The group writer: one thread that commits whatever waits when its last commit has ended.
//!
//! DESIGN 10. A submit is never split over two transactions and commits or fails alone: when a
//! group meets a fault, its submits are tried again one at a time. There is no timer; a commit in
//! progress is what lets the next group grow. The queue is bounded, and a submit that finds it
//! full fails at once.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::watch;
use tracing::{error, warn};

use super::ticket::{Slot, Ticket};
use super::{CommitError, Ops, WriteOp};
use crate::metrics::StoreCounters;

/// One transaction: long enough to share the price of a commit, short enough to wait for.
const GROUP_OPS_MAX: usize = 512;
const GROUP_BYTES_MAX: usize = 1 << 20;
/// The queue (DESIGN 9): 16 full groups, and as many bytes as 32.
const QUEUE_OPS_MAX: usize = 8_192;
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// What the writer's thread writes to.
pub(super) trait Backend: Send + 'static {
    /// Carries out a group in one transaction. A submit whose `expect` does not hold leaves no
    /// trace and is told so in its place; the others are committed when this returns.
    ///
    /// # Errors
    /// `Fault`: nothing of the whole group was written.
    fn commit(&mut self, group: &[&Ops]) -> Result<Vec<Verdict>, Fault>;

    /// Called once, after the last commit.
    fn close(&mut self);
}

/// The store failed; the backend has logged how.
#[derive(Debug)]
pub(super) struct Fault;

/// What became of one submit of a group that was committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Committed,
    Unexpected,
}

/// The sending side of the writer's queue.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    ended: watch::Receiver<()>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    counters: StoreCounters,
}

#[derive(Debug, Default)]
struct Queue {
    submits: VecDeque<Submit>,
    ops: usize,
    bytes: usize,
    /// Nothing more is taken in; what waits is still written.
    closed: bool,
}

struct Submit {
    ops: Ops,
    bytes: usize,
    slot: Arc<Slot>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub(super) fn start(backend: impl Backend) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (ending, ended) = watch::channel(());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let _ending = ending;
                run(&theirs, backend);
            })?;
        Ok(Self { shared, ended })
    }

    /// Puts operations into the queue.
    pub(super) fn submit(&self, ops: Ops) -> Ticket {
        if ops.is_empty() {
            return Ticket::done(Ok(()));
        }
        let bytes = ops.iter().map(WriteOp::bytes).sum::<usize>();
        let mut queue = self.shared.lock();
        let full = queue.ops + ops.len() > QUEUE_OPS_MAX || queue.bytes + bytes > QUEUE_BYTES_MAX;
        if full || queue.closed {
            drop(queue);
            self.shared.counters.refused.fetch_add(1, Relaxed);
            warn!(full, "write refused");
            return Ticket::done(Err(CommitError::Failed));
        }
        let slot = Arc::new(Slot::default());
        queue.ops += ops.len();
        queue.bytes += bytes;
        self.shared.counters.waiting.store(queue.ops, Relaxed);
        queue.submits.push_back(Submit {
            ops,
            bytes,
            slot: Arc::clone(&slot),
        });
        drop(queue);
        self.shared.arrived.notify_one();
        Ticket::waiting(slot)
    }

    pub(super) fn counters(&self) -> &StoreCounters {
        &self.shared.counters
    }

    /// Takes nothing more in and waits until all that waited is written.
    pub(super) async fn close(&self) {
        self.shared.close();
        // Nothing is ever sent: an error means that the thread has ended.
        let _ = self.ended.clone().changed().await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// The next group; empty when the queue is closed and drained.
    fn next_group(&self) -> Vec<Submit> {
        let queue = self.lock();
        let mut queue = self
            .arrived
            .wait_while(queue, |queue| queue.submits.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let group = queue.take_group();
        self.counters.waiting.store(queue.ops, Relaxed);
        group
    }
}

impl Queue {
    fn take_group(&mut self) -> Vec<Submit> {
        let (mut group, mut ops, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = self.submits.front() {
            ops += next.ops.len();
            bytes += next.bytes;
            let full = ops > GROUP_OPS_MAX || bytes > GROUP_BYTES_MAX;
            // One submit that is too large for any group goes alone.
            if full && !group.is_empty() {
                break;
            }
            let Some(next) = self.submits.pop_front() else {
                break;
            };
            self.ops -= next.ops.len();
            self.bytes -= next.bytes;
            group.push(next);
        }
        group
    }
}

impl std::fmt::Debug for Submit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submit")
            .field("ops", &self.ops.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Submit {
    /// A submit that nobody settled was lost with its thread.
    fn drop(&mut self) {
        self.slot.finish(Err(CommitError::Failed));
    }
}

/// Closes and empties the queue however the thread ends, so that no ticket waits in vain.
struct AtEnd<'a>(&'a Shared);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        queue.submits.clear();
    }
}

fn run(shared: &Shared, mut backend: impl Backend) {
    let _at_end = AtEnd(shared);
    loop {
        let group = shared.next_group();
        if group.is_empty() {
            break;
        }
        commit(&mut backend, &group, &shared.counters);
    }
    backend.close();
}

fn commit(backend: &mut impl Backend, group: &[Submit], counters: &StoreCounters) {
    let ops: Vec<&Ops> = group.iter().map(|submit| &submit.ops).collect();
    if let Ok(verdicts) = backend.commit(&ops) {
        counters.committed(ops.iter().map(|ops| ops.len()).sum());
        for (submit, verdict) in group.iter().zip(verdicts) {
            submit.slot.finish(outcome(verdict));
        }
        return;
    }
    if let [only] = group {
        error!(ops = only.ops.len(), "write failed");
        counters.failed.fetch_add(1, Relaxed);
        only.slot.finish(Err(CommitError::Failed));
        return;
    }
    warn!(submits = group.len(), "group failed, trying one by one");
    for submit in group {
        commit(backend, std::slice::from_ref(submit), counters);
    }
}

fn outcome(verdict: Verdict) -> Result<(), CommitError> {
    match verdict {
        Verdict::Committed => Ok(()),
        Verdict::Unexpected => Err(CommitError::Expect),
    }
}

#[cfg(test)]
mod tests;
