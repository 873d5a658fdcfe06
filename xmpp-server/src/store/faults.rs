//! Whatever can go wrong with a store, on demand, in the memory store: for tests of the server and
//! of whoever embeds it.
//!
//! While nothing is asked for, a submit is carried out at once. From the first fault on submits pass
//! through a queue with the bounds of the SQLite store's. Delays follow tokio's clock, paused or
//! not. A crash is seen by nobody: what it catches is never settled, as in a process that is gone;
//! `reopen` then gives what the next process would find.
//!
//! ```
//! # async fn example() {
//! use xmpp_server::store::{Crash, Store};
//! let Store::Memory(memory) = Store::memory() else { unreachable!() };
//! memory.fail_next(1); // The next submit fails, those behind it succeed.
//! memory.crash_at(2, Crash::AfterCommit); // Of the two behind it the second is the last.
//! memory.crashed().await;
//! let next_life = memory.reopen();
//! # }
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use xmpp_stream::jid::BareJid;

use super::permit::Room;
use super::ticket::Slot;
use super::{
    Clearing, CommitError, MemoryStore, Ops, Permit, Print, RowId, Store, StoreError, StoreLimits,
    Ticket, writer,
};
use crate::clock;

/// At which side of a commit a store goes down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// Nothing of the submit is kept.
    BeforeCommit,
    /// It is kept, but nobody is told.
    AfterCommit,
}

/// What is to go wrong, and what waits because of it.
pub(super) struct Faults {
    /// Some fault was asked for since the store was made.
    on: AtomicBool,
    state: Mutex<State>,
    crashed: watch::Sender<bool>,
    room: Room,
}

#[derive(Default)]
struct State {
    held: bool,
    full: bool,
    fail_next: usize,
    delay: Option<Duration>,
    /// So many submits from now.
    crash: Option<(usize, Crash)>,
    crashed: bool,
    /// A task waits for the delay of the first submit.
    timed: bool,
    queue: VecDeque<Waiting>,
    clearings: Vec<Clearing>,
}

struct Waiting {
    /// Empty: a barrier.
    ops: Ops,
    slot: Arc<Slot>,
    permit: Permit,
    fate: Fate,
    until: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Fate {
    Commit,
    Fail,
    Crash(Crash),
}

/// What was settled under the lock; its askers are woken behind it.
#[derive(Default)]
struct Settled {
    outcomes: Vec<(Waiting, Result<(), CommitError>)>,
    clearings: Vec<Clearing>,
}

impl MemoryStore {
    /// The next `count` submits fail; nothing of them is written.
    pub fn fail_next(&self, count: usize) {
        self.faults.change(|state| state.fail_next = count);
    }

    /// A full disk: every submit fails from now on, or none any more. Watermarks wait.
    pub fn set_full(self: &Arc<Self>, full: bool) {
        self.faults.change(|state| state.full = full);
        self.advance();
    }

    /// A slow disk: each submit from now on takes this long; `None`: no time.
    pub fn set_delay(&self, delay: Option<Duration>) {
        self.faults.change(|state| state.delay = delay);
    }

    /// A store that hangs: submits wait until `settle` or `release`.
    pub fn hold(&self) {
        self.faults.change(|state| state.held = true);
    }

    /// Settles up to `count` of the submits that wait, in their order: committed, or failed. Gives
    /// the number of those that still wait.
    pub fn settle(&self, count: usize, commit: bool) -> usize {
        let (mut settled, mut state) = (Settled::default(), self.faults.lock());
        let mut left = count;
        while let Some(next) = state.queue.front() {
            let barrier = next.ops.is_empty();
            if left == 0 && !barrier {
                break;
            }
            let Some(next) = state.queue.pop_front() else {
                break;
            };
            left = left.saturating_sub(usize::from(!barrier));
            let outcome = match commit || barrier {
                true => self.commit(&next.ops),
                false => Err(CommitError::Failed),
            };
            settled.outcomes.push((next, outcome));
        }
        if commit && count > 0 {
            settled.clearings = std::mem::take(&mut state.clearings);
        }
        let waiting = state.queue.iter().filter(|one| !one.ops.is_empty());
        let waiting = waiting.count();
        drop(state);
        self.tell(settled);
        waiting
    }

    /// Commits what waits; the store no longer hangs.
    pub fn release(self: &Arc<Self>) {
        self.faults.change(|state| state.held = false);
        self.advance();
    }

    /// The store goes down with the `number`th submit from now, counted from 1.
    pub fn crash_at(&self, number: usize, crash: Crash) {
        let after = number.saturating_sub(1);
        self.faults
            .change(|state| state.crash = Some((after, crash)));
    }

    /// The store goes down now: what waits is lost, and nothing is settled or written any more.
    pub fn crash(&self) {
        self.faults.change(State::go_down);
        self.faults.after_crash();
    }

    /// Resolves when the store has gone down.
    pub async fn crashed(&self) {
        let mut crashed = self.faults.crashed.subscribe();
        // The sender lives as long as `self`.
        let _ = crashed.wait_for(|crashed| *crashed).await;
    }

    /// The store as the next process finds it, without any fault; this one goes down if it has not
    /// yet.
    pub fn reopen(&self) -> Store {
        self.crash();
        let next = Self::over(self.kept(), self.faults.room.limits());
        Store::Memory(Arc::new(next))
    }

    pub(super) async fn sent(
        self: &Arc<Self>,
        sender: &BareJid,
        since: RowId,
    ) -> Result<Vec<(Print, u128)>, StoreError> {
        if self.is_closed() {
            return Err(StoreError::Closed);
        }
        if self.faults.is_on() {
            let barrier = self.enqueue(Permit::free(), Ops::new());
            barrier.await.map_err(|_| StoreError::TimedOut)?;
        }
        Ok(self.sent_rows(sender, since))
    }

    pub(super) fn try_reserve(&self, ops: usize, bytes: usize) -> Option<Permit> {
        match self.faults.is_on() {
            true => self.faults.room.try_reserve(ops, bytes),
            false => Some(Permit::free()),
        }
    }

    pub(super) async fn reserve(&self, ops: usize, bytes: usize) -> Option<Permit> {
        match self.faults.is_on() {
            true => self.faults.room.reserve(ops, bytes).await,
            false => Some(Permit::free()),
        }
    }

    pub(super) fn submit(self: &Arc<Self>, ops: Ops) -> Ticket {
        if !self.faults.is_on() {
            return Ticket::done(self.commit(&ops));
        }
        let room = &self.faults.room;
        match room.try_reserve(ops.len(), writer::bytes(&ops)) {
            Some(permit) => self.submit_with(permit, ops),
            None if self.faults.lock().crashed => self.never(),
            None => Ticket::done(Err(CommitError::Failed)),
        }
    }

    pub(super) fn submit_with(self: &Arc<Self>, mut permit: Permit, ops: Ops) -> Ticket {
        if !self.faults.is_on() || ops.is_empty() {
            return Ticket::done(self.commit(&ops));
        }
        permit.shrink(ops.len(), writer::bytes(&ops));
        self.enqueue(permit, ops)
    }

    pub(super) fn clear(self: &Arc<Self>, clearing: Clearing) {
        if !self.faults.is_on() {
            self.ask(&clearing);
            return;
        }
        let mut state = self.faults.lock();
        let same = |one: &Clearing| Arc::ptr_eq(one, &clearing);
        if !state.crashed && !state.clearings.iter().any(same) {
            state.clearings.push(clearing);
        }
        drop(state);
        self.advance();
    }

    /// A store that hangs is closed all the same: what waits there is lost.
    pub(super) fn close(self: &Arc<Self>) {
        self.faults
            .lock()
            .queue
            .iter_mut()
            .for_each(|one| one.until = None);
        self.advance();
        self.take_no_more();
        self.faults.room.close();
    }

    fn enqueue(self: &Arc<Self>, permit: Permit, ops: Ops) -> Ticket {
        let slot = Arc::new(Slot::default());
        let mut state = self.faults.lock();
        if state.crashed {
            return self.never();
        }
        let (fate, until) = match ops.is_empty() {
            true => (Fate::Commit, None),
            false => (state.fate(), state.delay.map(until)),
        };
        state.queue.push_back(Waiting {
            ops,
            slot: Arc::clone(&slot),
            permit,
            fate,
            until,
        });
        drop(state);
        self.advance();
        Ticket::waiting(slot, self.faults.room.limits().ticket_max)
    }

    /// Settles what need not wait any longer.
    fn advance(self: &Arc<Self>) {
        let (mut settled, mut state) = (Settled::default(), self.faults.lock());
        while !state.held
            && let Some(next) = state.queue.front()
        {
            if let Some(until) = next.until
                && self.wait(&mut state, until)
            {
                break;
            }
            let Some(next) = state.queue.pop_front() else {
                break;
            };
            let outcome = match next.fate {
                Fate::Commit => self.commit(&next.ops),
                Fate::Fail => Err(CommitError::Failed),
                Fate::Crash(crash) => {
                    if crash == Crash::AfterCommit {
                        let _ = self.commit(&next.ops);
                    }
                    state.go_down();
                    break;
                }
            };
            settled.outcomes.push((next, outcome));
        }
        let writes = !state.held && !state.full && state.queue.is_empty();
        if writes && !state.crashed {
            settled.clearings = std::mem::take(&mut state.clearings);
        }
        let crashed = state.crashed;
        drop(state);
        self.tell(settled);
        if crashed {
            self.faults.after_crash();
        }
    }

    /// True: a task goes on with the queue at that time.
    fn wait(self: &Arc<Self>, state: &mut State, until: Instant) -> bool {
        let Ok(runtime) = Handle::try_current() else {
            return false;
        };
        if until <= Instant::from_std(clock::now()) {
            return false;
        }
        if !state.timed {
            state.timed = true;
            let store = Arc::downgrade(self);
            runtime.spawn(async move {
                tokio::time::sleep_until(until).await;
                if let Some(store) = store.upgrade() {
                    store.faults.lock().timed = false;
                    store.advance();
                }
            });
        }
        true
    }

    fn tell(&self, settled: Settled) {
        // Watermarks first: whoever hears of its commit finds them written. They are given under
        // their account's lock, under which others submit: no lock is held here.
        settled.clearings.iter().for_each(|one| self.ask(one));
        for (waiting, outcome) in settled.outcomes {
            waiting.slot.finish(outcome);
            drop(waiting.permit);
        }
    }

    fn ask(&self, clearing: &Clearing) {
        if let Some(cleared) = clearing.cleared() {
            self.set_watermark(cleared);
        }
    }

    /// The ticket of a process that is gone.
    fn never(&self) -> Ticket {
        Ticket::waiting(Arc::default(), self.faults.room.limits().ticket_max)
    }
}

fn until(delay: Duration) -> Instant {
    Instant::from_std(clock::now()) + delay
}

impl Faults {
    pub(super) fn new(limits: &StoreLimits) -> Self {
        Self {
            on: AtomicBool::new(false),
            state: Mutex::default(),
            crashed: watch::Sender::new(false),
            room: Room::new(limits),
        }
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.on.store(true, Ordering::Release);
    }

    fn after_crash(&self) {
        self.room.close();
        self.crashed.send_replace(true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What becomes of the next submit.
    fn fate(&mut self) -> Fate {
        if let Some((after, crash)) = self.crash {
            match after.checked_sub(1) {
                None => return Fate::Crash(crash),
                Some(after) => self.crash = Some((after, crash)),
            }
        }
        let fails = self.full || self.fail_next > 0;
        self.fail_next = self.fail_next.saturating_sub(1);
        match fails {
            true => Fate::Fail,
            false => Fate::Commit,
        }
    }

    fn go_down(&mut self) {
        self.crashed = true;
        self.queue.clear();
        self.clearings.clear();
    }
}
