//! The group writer: one thread that commits whatever waits when its last commit has ended.
//!
//! DESIGN 10. A submit is never split over two transactions and commits or fails alone: when a
//! group meets a fault, its submits are tried again one at a time. There is no timer; a commit in
//! progress is what lets the next group grow. Watermarks travel with a group, or alone when none
//! comes; nobody waits for them, so they are tried again until they are written.

mod queue;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, warn};

use self::queue::{Queue, Submit};
use super::permit::Room;
use super::ticket::{Slot, Ticket};
use super::{Cleared, Clearing, CommitError, Ops, Permit, StoreLimits, WriteOp};
use crate::clock;
use crate::metrics::StoreCounters;

/// Watermarks of one transaction.
const CLEARS_MAX: usize = 512;
/// From a fault to the next try of the watermarks that it met.
const CLEAR_RETRY: Duration = Duration::from_secs(1);
/// From the end of one round of tidying up to the next one.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// What the writer's thread writes to.
pub(super) trait Backend: Send + 'static {
    /// Carries out a group in one transaction. A submit whose `expect` does not hold leaves no
    /// trace and is told so in its place; the others are committed when this returns, and so are
    /// the watermarks.
    ///
    /// # Errors
    /// `Fault`: nothing of the whole group was written.
    fn commit(&mut self, group: &[&Ops], cleared: &[Cleared]) -> Result<Vec<Verdict>, Fault>;

    /// Does a bounded piece of what can wait: a step of a round, now and then, true when it has
    /// more of them; or after a commit just what has become urgent.
    fn tidy(&mut self, round: bool) -> bool;

    /// Called once, after the last commit.
    fn close(&mut self);
}

/// The store failed; the backend has logged how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// Something in this group: less of it may succeed.
    Group,
    /// Nothing can be written now.
    Store,
}

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

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    room: Room,
    counters: StoreCounters,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says when it has no thread to give.
    pub(super) fn start(backend: impl Backend, limits: &StoreLimits) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            room: Room::new(limits),
            counters: StoreCounters::default(),
        });
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

    /// The room in its queue.
    pub(super) fn room(&self) -> &Room {
        &self.shared.room
    }

    /// What it has done.
    pub(super) fn counters(&self) -> &StoreCounters {
        let Shared { counters, room, .. } = &*self.shared;
        counters.waiting.store(room.taken(), Relaxed);
        counters
    }

    /// Puts operations into the queue, if there is room at once.
    pub(super) fn submit(&self, ops: Ops) -> Ticket {
        let room = &self.shared.room;
        match room.try_reserve(ops.len(), bytes(&ops)) {
            Some(permit) => self.submit_with(permit, ops),
            None => {
                self.shared.counters.refused.fetch_add(1, Relaxed);
                warn!(full = !room.is_closed(), "write refused");
                Ticket::done(Err(CommitError::Failed))
            }
        }
    }

    /// Puts operations into the queue, into room that they have.
    pub(super) fn submit_with(&self, mut permit: Permit, ops: Ops) -> Ticket {
        if ops.is_empty() {
            return Ticket::done(Ok(()));
        }
        let bytes = bytes(&ops);
        permit.shrink(ops.len(), bytes);
        self.push(permit, ops, bytes)
    }

    /// Done when all that waits now is committed or refused.
    pub(super) fn barrier(&self) -> Ticket {
        self.push(Permit::free(), Ops::new(), 0)
    }

    /// Puts an account into the list of watermarks to be written.
    pub(super) fn clear(&self, clearing: Clearing) {
        let first = self.shared.lock().list(clearing, clock::now());
        if first {
            self.shared.arrived.notify_one();
        }
    }

    /// Takes nothing more in and waits until all that waited is written.
    pub(super) async fn close(&self) {
        self.shared.close();
        // Nothing is ever sent: an error means that the thread has ended.
        let _ = self.ended.clone().changed().await;
    }

    fn push(&self, permit: Permit, ops: Ops, bytes: usize) -> Ticket {
        let slot = Arc::new(Slot::default());
        let submit = Submit {
            ops,
            bytes,
            slot: Arc::clone(&slot),
            _permit: permit,
        };
        if !self.shared.lock().push(submit) {
            return Ticket::done(Err(CommitError::Failed));
        }
        self.shared.arrived.notify_one();
        Ticket::waiting(slot, self.shared.room.limits().ticket_max)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn count(group: &[&Ops]) -> usize {
    group.iter().map(|ops| ops.len()).sum()
}

/// What the operations of a submit count as.
pub(super) fn bytes(ops: &Ops) -> usize {
    ops.iter().map(WriteOp::bytes).sum()
}

/// What the thread does next; nothing of anything: the queue is closed and drained.
struct Work {
    group: Vec<Submit>,
    clearings: Vec<Clearing>,
    /// Watermarks may be written with it.
    clears: bool,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.arrived.notify_one();
    }

    /// Waits for submits, for the time of the watermarks, or for the time to tidy up.
    fn next(&self, retry_at: Option<Instant>, tidy_at: Instant, clears_max: usize) -> Work {
        let mut queue = self.lock();
        let mut now = clock::now();
        while queue.submits.is_empty() && !queue.closed {
            let clears_at = retry_at.or(queue.clear_at).unwrap_or(tidy_at);
            let left = clears_at.min(tidy_at).saturating_duration_since(now);
            if left.is_zero() {
                break;
            }
            let waited = self.arrived.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            now = clock::now();
        }
        let clears = queue.closed || retry_at.is_none_or(|at| now >= at);
        Work {
            group: queue.take_group(self.room.limits()),
            clearings: queue.take_clearings(if clears { clears_max } else { 0 }),
            clears,
            closed: queue.closed,
        }
    }
}

/// Closes and empties the queue however the thread ends, so that no ticket waits in vain.
struct AtEnd<'a>(&'a Shared);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.room.close();
        let left = self.0.lock().end();
        // Settled outside of the lock: wakers run here.
        drop(left);
    }
}

/// The thread's side.
struct Thread<'a, B> {
    backend: B,
    counters: &'a StoreCounters,
    /// Watermarks that are to be written, in the order of asking.
    cleared: Vec<Cleared>,
    /// Set after a fault: watermarks wait for it.
    retry_at: Option<Instant>,
    tidy_at: Instant,
}

fn run(shared: &Shared, backend: impl Backend) {
    let _at_end = AtEnd(shared);
    let mut thread = Thread {
        backend,
        counters: &shared.counters,
        cleared: Vec::new(),
        retry_at: None,
        tidy_at: clock::now(),
    };
    loop {
        let clears_max = CLEARS_MAX.saturating_sub(thread.cleared.len());
        let work = shared.next(thread.retry_at, thread.tidy_at, clears_max);
        let idle = work.group.is_empty() && work.clearings.is_empty();
        if work.closed && idle && thread.cleared.is_empty() {
            break;
        }
        thread.write(&work);
        if work.closed && idle && !thread.cleared.is_empty() {
            // The last try has failed.
            break;
        }
        if !work.closed {
            thread.tidy();
        }
    }
    thread.backend.close();
}

impl<B: Backend> Thread<'_, B> {
    fn write(&mut self, work: &Work) {
        // Asked here, outside of the queue's lock: the answer is given under the account's, under
        // which others submit.
        let asked = work.clearings.iter();
        self.cleared.extend(asked.filter_map(|one| one.cleared()));
        if !work.clears || self.cleared.is_empty() {
            self.commit(&work.group);
            return;
        }
        let ops: Vec<&Ops> = work.group.iter().map(|submit| &submit.ops).collect();
        match self.backend.commit(&ops, &self.cleared) {
            Ok(verdicts) => {
                self.counters.committed(count(&ops));
                self.cleared.clear();
                self.retry_at = None;
                settle(&work.group, verdicts);
            }
            Err(fault) => {
                let watermarks = self.cleared.len();
                warn!(watermarks, "watermarks not written, tried again later");
                self.retry_at = Some(clock::now() + CLEAR_RETRY);
                self.refuse(&work.group, fault, false);
            }
        }
    }

    fn commit(&mut self, group: &[Submit]) {
        let ops: Vec<&Ops> = group.iter().map(|submit| &submit.ops).collect();
        // A barrier alone has nothing to write.
        if ops.iter().all(|ops| ops.is_empty()) {
            group.iter().for_each(|submit| submit.slot.finish(Ok(())));
            return;
        }
        match self.backend.commit(&ops, &[]) {
            Ok(verdicts) => {
                self.counters.committed(count(&ops));
                settle(group, verdicts);
            }
            Err(fault) => self.refuse(group, fault, true),
        }
    }

    /// `alone`: it failed without watermarks beside it.
    fn refuse(&mut self, group: &[Submit], fault: Fault, alone: bool) {
        if fault == Fault::Store || (alone && group.len() == 1) {
            let ops: usize = group.iter().map(|submit| submit.ops.len()).sum();
            error!(ops, "write failed");
            self.counters.failed.fetch_add(group.len(), Relaxed);
            for submit in group {
                submit.slot.finish(match submit.ops.is_empty() {
                    // A barrier has not failed: all before it is settled.
                    true => Ok(()),
                    false => Err(CommitError::Failed),
                });
            }
            return;
        }
        if !group.is_empty() {
            warn!(submits = group.len(), "group failed, trying one by one");
        }
        for submit in group {
            self.commit(std::slice::from_ref(submit));
        }
    }

    fn tidy(&mut self) {
        let round = clock::now() >= self.tidy_at;
        if !self.backend.tidy(round) && round {
            self.tidy_at = clock::now() + TIDY_EVERY;
        }
    }
}

fn settle(group: &[Submit], verdicts: Vec<Verdict>) {
    for (submit, verdict) in group.iter().zip(verdicts) {
        submit.slot.finish(match verdict {
            Verdict::Committed => Ok(()),
            Verdict::Unexpected => Err(CommitError::Expect),
        });
    }
}

#[cfg(test)]
mod tests;
