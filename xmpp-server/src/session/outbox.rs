//! The queue of one session: taken | sent | unsent, and what happens at its bounds.
//!
//! DESIGN 5 rules 5 to 7: an item leaves only when it was taken (written to the socket), and a push
//! never ends a session, it marks it.

use crate::limits::Limits;
use atomic_waker::AtomicWaker;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use xmpp_stream::error::StreamError;
pub use xmpp_stream::stanza::Class;
use xmpp_stream::stanza::Item;

/// One message on its way to an account, shared by the sessions that hold it.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Some session has taken it.
    taken: AtomicBool,
    /// Sessions that hold it untaken.
    holders: AtomicUsize,
    /// When it came, in seconds since 1970: what a delay stamp says.
    pub received: u64,
}

impl Delivery {
    /// A mark for a message that came at this time (seconds since 1970).
    #[must_use]
    pub fn new(received: u64) -> Self {
        Self {
            received,
            ..Self::default()
        }
    }

    /// True when the recipient has it.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    /// True when some session still holds it.
    pub fn is_held(&self) -> bool {
        self.holders.load(Ordering::Acquire) > 0
    }
}

/// An item of this server's queues.
pub type OutItem = Item<Delivery>;

/// What became of a push.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Push {
    /// Queued.
    Ok,
    /// Queued, but the producer should pause.
    Soft,
    /// Over the hard bound: queued, and the session is marked for its end.
    Full,
    /// The session is over; the item comes to nothing here.
    Closed,
}

/// The queue of one session.
pub struct Outbox {
    q: Mutex<OutQ>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct OutQ {
    items: VecDeque<OutItem>,
    /// The first `sent` items were copied to the transport's buffer.
    sent: usize,
    bytes: usize,
    /// Of these, answers to the session's own requests: they never count against it, since it is
    /// not read while it leaves them.
    own: Load,
    closed: bool,
    /// What the peer is told when somebody else ended the session.
    farewell: Option<StreamError>,
}

/// Items and their bytes.
#[derive(Default)]
struct Load {
    items: usize,
    bytes: usize,
}

impl OutQ {
    /// What others pushed.
    fn pushed(&self) -> Load {
        Load {
            items: self.items.len().saturating_sub(self.own.items),
            bytes: self.bytes.saturating_sub(self.own.bytes),
        }
    }
}

fn size(item: &OutItem) -> usize {
    match item {
        Item::Shared(_, rendered, _) => rendered.len(),
        Item::One(stanza) => stanza.wire_len(),
        Item::Nonza(bytes) => bytes.len(),
        Item::Close(_) => 0,
    }
}

fn is_over(pushed: &Load, limits: &Limits) -> bool {
    pushed.items > limits.outbox_items_hard || pushed.bytes > limits.outbox_bytes_hard_total()
}

fn mark_taken(item: &OutItem) {
    if let Item::Shared(_, _, Some(delivery)) = item {
        delivery.taken.store(true, Ordering::Release);
        delivery.holders.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            q: Mutex::new(OutQ::default()),
            waker: AtomicWaker::new(),
        }
    }
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, OutQ> {
        self.q.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item; the caller wakes the session with `wake` after its lock section.
    pub fn push(&self, item: OutItem, limits: &Limits) -> Push {
        let mut q = self.lock();
        if q.closed {
            return Push::Closed;
        }
        if let Item::Shared(_, _, Some(delivery)) = &item {
            delivery.holders.fetch_add(1, Ordering::AcqRel);
        }
        let bytes = size(&item);
        q.bytes += bytes;
        if matches!(item, Item::One(_)) {
            q.own.items += 1;
            q.own.bytes += bytes;
        }
        q.items.push_back(item);
        let pushed = q.pushed();
        if is_over(&pushed, limits) {
            Push::Full
        } else if pushed.items > limits.outbox_items_soft || pushed.bytes > limits.outbox_bytes_soft
        {
            Push::Soft
        } else {
            Push::Ok
        }
    }

    /// Wakes the session's task.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// True half-way to the hard bound: the session's own requests wait until it has taken some.
    pub fn is_congested(&self, limits: &Limits) -> bool {
        let q = self.lock();
        q.items.len() > limits.outbox_items_hard / 2
            || q.bytes > limits.outbox_bytes_hard_total() / 2
    }

    /// True while what others pushed is over the hard bound.
    pub fn is_marked(&self, limits: &Limits) -> bool {
        is_over(&self.lock().pushed(), limits)
    }

    /// True when everything was taken.
    pub fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    /// True once the session was ended by someone else.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ready when the session was ended or, with `items`, when there is something unsent.
    pub fn poll_ready(&self, cx: &mut Context<'_>, items: bool) -> Poll<()> {
        self.waker.register(cx.waker());
        let q = self.lock();
        if q.closed || (items && q.items.len() > q.sent) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Hands unsent items to `write` until it says that it has enough; they stay until `taken`.
    pub fn send(&self, mut write: impl FnMut(&OutItem) -> bool) {
        let mut q = self.lock();
        while let Some(item) = q.items.get(q.sent) {
            let more = write(item);
            q.sent += 1;
            if !more {
                break;
            }
        }
    }

    /// Everything sent so far has been written: it leaves the queue.
    pub fn taken(&self) {
        let mut q = self.lock();
        for _ in 0..std::mem::take(&mut q.sent) {
            let Some(item) = q.items.pop_front() else {
                break;
            };
            let bytes = size(&item);
            q.bytes = q.bytes.saturating_sub(bytes);
            if matches!(item, Item::One(_)) {
                q.own.items = q.own.items.saturating_sub(1);
                q.own.bytes = q.own.bytes.saturating_sub(bytes);
            }
            mark_taken(&item);
        }
        if q.items.is_empty() {
            q.items.shrink_to(4);
        }
    }

    /// Ends the queue and gives what nobody took, in order (DESIGN 5 rule 8).
    pub fn close(&self) -> Vec<OutItem> {
        let mut q = self.lock();
        q.closed = true;
        q.sent = 0;
        q.bytes = 0;
        q.own = Load::default();
        let items: Vec<_> = std::mem::take(&mut q.items).into();
        for item in &items {
            if let Item::Shared(_, _, Some(delivery)) = item {
                delivery.holders.fetch_sub(1, Ordering::AcqRel);
            }
        }
        items
    }

    /// Leaves the peer of an ended session an error to be told.
    pub fn set_farewell(&self, error: StreamError) {
        self.lock().farewell = Some(error);
        self.wake();
    }

    /// What the peer is to be told once the session was ended by somebody else.
    pub fn farewell(&self) -> Option<StreamError> {
        self.lock().farewell.take()
    }
}
