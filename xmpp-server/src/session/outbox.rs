//! The queue of one session: taken | sent | unsent, and what happens at its bounds.
//!
//! DESIGN 5 rules 5 to 7, 13, 14: an item leaves only when it was taken (acknowledged by a client
//! with stream management, else written to the socket), and a push never ends a session, it marks
//! it. While the gate is shut, what others send waits behind what the session draws from the store.

mod queue;

use super::rules::{self, Rule};
use super::visit::Visit;
use crate::limits::Limits;
use crate::store::{RowId, TicketView};
use atomic_waker::AtomicWaker;
use queue::OutQ;
pub(crate) use queue::is_asked_about;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use xmpp_stream::error::StreamError;
pub use xmpp_stream::stanza::Class;
use xmpp_stream::stanza::Item;

/// One message on its way to an account, shared by the sessions that hold it.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Its row, when it is kept until somebody has taken it, and what became of the submit.
    pub row: Option<(RowId, TicketView)>,
    /// When it came, in seconds since 1970: what a delay stamp says.
    pub received: u64,
    /// Some session has taken it.
    taken: AtomicBool,
    /// Sessions that hold it untaken.
    holders: AtomicUsize,
}

impl Delivery {
    /// A mark for a message that came at this time (seconds since 1970) and is not kept.
    #[must_use]
    pub fn new(received: u64) -> Self {
        Self {
            received,
            ..Self::default()
        }
    }

    /// A mark for a message with a row.
    #[must_use]
    pub fn kept(id: RowId, submitted: TicketView) -> Self {
        Self {
            row: Some((id, submitted)),
            received: id.received_secs(),
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

    pub(super) fn take(&self) {
        // In this order: whoever finds it no longer held must find it taken.
        self.taken.store(true, Ordering::Release);
        self.holders.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn hold(&self) {
        self.holders.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn let_go(&self) {
        self.holders.fetch_sub(1, Ordering::AcqRel);
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

/// The client acknowledged more than it was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooHigh {
    /// What it was sent.
    pub sent: u32,
}

/// What a copy into the transport brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Stanzas that the client is to acknowledge were among them.
    pub counted: bool,
    /// There is more, but it waits for acknowledgements.
    pub paused: bool,
}

/// How a queue stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Look {
    /// Somebody waits for the session's task.
    pub visited: bool,
    /// The gate is shut.
    pub gated: bool,
    /// It is half-way to the hard bound.
    pub congested: bool,
}

/// The queue of one session.
#[derive(Default)]
pub struct Outbox {
    q: Mutex<OutQ>,
    waker: AtomicWaker,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, OutQ> {
        self.q.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item; the caller wakes the session with `wake` after its lock section.
    pub fn push(&self, item: OutItem, limits: &Limits) -> Push {
        self.lock().push(item, limits)
    }

    /// Appends what the session drew from the store: before what waits behind the gate.
    pub fn place(&self, item: OutItem) {
        self.lock().place(item);
    }

    /// Wakes the session's task.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// From here on what others send waits until the gate is opened (rule 9).
    pub fn shut_gate(&self) {
        if rules::hold(Rule::Gate) {
            self.lock().shut_gate();
        }
    }

    /// There is something to be drawn from the store: the session's task sees to it.
    pub fn begin_feed(&self) {
        self.lock().feed_due = true;
    }

    /// True once after `begin_feed`.
    pub fn feed_due(&self) -> bool {
        std::mem::take(&mut self.lock().feed_due)
    }

    /// What waited follows what was drawn.
    pub fn open_gate(&self) {
        self.lock().open_gate();
    }

    /// What a session's task looks at before each thing that it does.
    pub fn look(&self, limits: &Limits) -> Look {
        let q = self.lock();
        Look {
            visited: q.visit.is_some(),
            gated: q.is_gated(),
            congested: q.is_congested(limits),
        }
    }

    /// True while the gate is shut.
    pub fn is_gated(&self) -> bool {
        self.lock().is_gated()
    }

    /// False over the soft bound: nothing is drawn from the store until the client has taken some.
    /// What waits behind the gate does not count.
    pub fn may_draw(&self, limits: &Limits) -> bool {
        self.lock().may_draw(limits)
    }

    /// True half-way to the hard bound: the session's own requests wait until it has taken some.
    pub fn is_congested(&self, limits: &Limits) -> bool {
        self.lock().is_congested(limits)
    }

    /// True once what others pushed went over the hard bound, until that was acted upon.
    pub fn is_marked(&self) -> bool {
        self.lock().marked
    }

    /// Over twice the hard bound: the client comes back again and again and takes nothing.
    pub fn is_hopeless(&self, limits: &Limits) -> bool {
        self.lock().is_hopeless(limits)
    }

    /// The mark was acted upon: the socket is gone.
    pub fn unmark(&self) {
        self.lock().marked = false;
    }

    /// True when everything was handed to the transport.
    pub fn is_all_sent(&self) -> bool {
        self.lock().is_all_sent()
    }

    /// True once the session was ended by someone else.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ready when somebody wants something of the session's task or, with `items`, when there is
    /// something that can be sent.
    pub fn poll_ready(&self, cx: &mut Context<'_>, items: bool, limits: &Limits) -> Poll<()> {
        self.waker.register(cx.waker());
        let q = self.lock();
        if q.closed || q.cut || q.feed_due || q.visit.is_some() || (items && q.has_more(limits)) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Ready when there is something that can be sent.
    pub fn poll_more(&self, cx: &mut Context<'_>, limits: &Limits) -> Poll<()> {
        self.waker.register(cx.waker());
        match self.lock().has_more(limits) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Hands unsent items to `write` until it says that it has enough; they stay until taken.
    pub fn send(&self, limits: &Limits, write: impl FnMut(&OutItem) -> bool) -> Sent {
        self.lock().send(limits, write)
    }

    /// Everything sent so far has been written: what nobody acknowledges leaves the queue. Gives the
    /// rows that were taken.
    pub fn flushed(&self) -> Vec<RowId> {
        self.lock().flushed()
    }

    /// From the next item on the client counts (XEP-0198 section 3).
    pub fn count(&self, enabled: Box<[u8]>, limits: &Limits) {
        self.lock().count(enabled, limits);
    }

    /// The client has handled so many. Gives the rows that were taken.
    ///
    /// # Errors
    /// `TooHigh`: it was not sent that many.
    pub fn acknowledged(&self, h: u32) -> Result<Vec<RowId>, TooHigh> {
        self.lock().acknowledged(h)
    }

    /// Stanzas that were sent and not acknowledged; `None` where nobody counts.
    pub fn unacknowledged(&self) -> Option<usize> {
        self.lock().unacknowledged()
    }

    /// The transport is gone: what was sent and not acknowledged is sent again, in its order, before
    /// all else (rule 14).
    pub fn rewind(&self) {
        self.lock().rewind();
    }

    /// A new stream to the peer begins: everything is to be sent over it, and stays until it was
    /// acknowledged (`counted`) or written.
    pub(crate) fn begin(&self, counted: bool) {
        self.lock().begin(counted);
    }

    /// The peer does not count, but says when it has read what came before a question: after `begin`
    /// with a count, `acknowledged` takes `sent_count` of that moment.
    pub(crate) fn probe(&self) {
        self.lock().probe();
    }

    /// Stanzas sent over this stream, modulo 2^32.
    pub(crate) fn sent_count(&self) -> u32 {
        self.lock().sent_count()
    }

    /// After the end of a stream: what becomes of those that were sent over it. In their places stands
    /// what `remake` makes of them; those that it gives back as errors are taken out.
    pub(crate) fn remake_sent(
        &self,
        remake: impl Fn(OutItem) -> Result<OutItem, OutItem>,
    ) -> Vec<OutItem> {
        self.lock().remake_sent(remake)
    }

    /// Takes out those of which this is so, as far as none was sent over any transport.
    pub(crate) fn take_unsent(&self, is: impl Fn(&OutItem) -> bool) -> Vec<OutItem> {
        self.lock().take_unsent(is)
    }

    /// The peer does not count after all: what is written is taken.
    pub(crate) fn uncount(&self) {
        self.lock().uncount();
    }

    /// Takes everything out.
    pub(crate) fn drain(&self) -> Vec<OutItem> {
        self.lock().drain()
    }

    /// Sequence number behind the last item that was sent, counted from the session's begin.
    pub fn sent_until(&self) -> u64 {
        self.lock().sent_until()
    }

    /// Sequence number behind the last item.
    pub fn end_number(&self) -> u64 {
        self.lock().end_number()
    }

    /// Takes out messages that were not sent yet, but those to this very resource: the session no
    /// longer wants any (rule 12).
    pub fn withdraw(&self, own: &str) -> Vec<OutItem> {
        self.lock().withdraw(own)
    }

    /// Items that others pushed.
    #[cfg(test)]
    pub(crate) fn pushed(&self) -> usize {
        self.lock().pushed()
    }

    /// The queue by the ids of its stanzas: sent | unsent # behind the gate.
    #[cfg(test)]
    pub(crate) fn ids(&self) -> String {
        self.lock().ids()
    }

    /// Number of items and their bytes.
    pub fn load(&self) -> (usize, usize) {
        self.lock().load()
    }

    /// Ends the queue and gives what nobody took, in order (rule 8).
    pub fn close(&self) -> Vec<OutItem> {
        self.lock().close()
    }

    /// The socket is to be given up; the session goes on without one (rule 7). The caller wakes it
    /// with `wake` after its lock section.
    pub fn cut(&self) {
        self.lock().cut = true;
    }

    /// True once after `cut`.
    pub fn was_cut(&self) -> bool {
        std::mem::take(&mut self.lock().cut)
    }

    /// Leaves the peer of an ended session an error to be told.
    pub fn set_farewell(&self, error: StreamError) {
        self.lock().farewell = Some(Box::new(error));
        self.wake();
    }

    /// What the peer is to be told once the session was ended by somebody else.
    pub fn farewell(&self) -> Option<StreamError> {
        self.lock().farewell.take().map(|error| *error)
    }

    /// Leaves something for the session's task; what was there and not looked at comes back.
    pub(crate) fn visit(&self, visit: Visit) -> Option<Visit> {
        self.lock().visit.replace(visit)
    }

    /// Somebody waits for the session's task.
    pub(crate) fn is_visited(&self) -> bool {
        self.lock().visit.is_some()
    }

    /// What was left for the session's task.
    pub(crate) fn visitor(&self) -> Option<Visit> {
        self.lock().visit.take()
    }
}

#[cfg(test)]
mod tests;
