//! One domain pair's way out: the queue of what goes from a domain of ours to another, and who
//! writes it.
//!
//! The queue outlives the streams that carry it. DESIGN 5 rules 1, 5 and 6 as for a session: what is
//! kept is a row from its receipt until it was taken, the row's order is the queue's. All changes
//! are under the link's lock; nothing waits there.

use super::cause::Cause;
use super::list::Facts;
use super::pings::{self, Pings, Silence};
use super::rows::{is_larger, keep, late, owner, row, stanza};
use crate::core::Core;
use crate::im;
use crate::limits::Limits;
use crate::random;
use crate::session::due::DueRows;
use crate::session::outbox::{OutItem, Outbox};
use crate::store::{Cleared, Permit, RowId, Sent, Ticket, Watermark};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stanza::{Class, Item, Kind, Rendered, Stanza, To};
use xmpp_stream::stream::s2s::Pair;

/// The way from one domain to another.
pub(crate) struct Link {
    /// From a domain of ours to another.
    pub pair: Pair,
    /// What waits and what is not acknowledged.
    pub(super) outbox: Outbox,
    /// Who owns its rows; `None`: the names make none, nothing is kept.
    owner: Option<BareJid>,
    state: Mutex<State>,
    /// Bytes of all links, this one's included.
    all_bytes: Arc<AtomicUsize>,
}

/// The part under the lock.
#[derive(Default)]
pub(super) struct State {
    due: DueRows,
    /// Bytes of this link that `all_bytes` has.
    counted: usize,
    pub(super) phase: Phase,
    /// A task sees to it.
    pub(super) busy: bool,
    /// What happened last, and is not mended.
    pub(super) failed: Option<Failed>,
    /// When it was last up.
    pub(super) up_at: Option<Instant>,
    /// What the log said last.
    pub(super) logged: Option<(Cause, Instant)>,
    /// Its accounts were shown as gone.
    pub(super) shown_gone: bool,
    /// What is acknowledged where the other server has no stream management.
    pub(super) pings: Pings,
    /// Streams of the other server on which ours could go back (XEP-0288), in the order of arrival.
    spares: Vec<Arc<Notify>>,
}

/// A failure that is not mended yet.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) cause: Cause,
    /// Seconds since 1970.
    pub(super) at: u64,
    /// Tries in vain since it was up.
    pub(super) tries: u32,
    /// Until then nothing is tried, unless something waits.
    pub(super) next: Instant,
}

/// How far the link is.
#[derive(Clone, Debug, Default)]
pub(super) enum Phase {
    /// Nobody needs it.
    #[default]
    Idle,
    /// A connection is being made.
    Connecting(Step),
    /// Stanzas flow.
    Up(Arc<Facts>),
    /// It is tried again.
    Waiting,
}

/// What a connection that is being made waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Where the domain's servers are.
    Resolve,
    /// One of them to answer.
    Dial,
    /// TLS, proof of who is who.
    Negotiate,
}

/// What became of a stanza for another domain.
pub(super) enum Queued {
    /// It waits. `soft`: whoever sent it should pause.
    Yes {
        ticket: Option<(Ticket, Arc<Stanza>)>,
        soft: bool,
    },
    /// It does not.
    No(Box<(Stanza, Cause)>),
}

impl Link {
    /// A link that nobody has used.
    pub(super) fn new(pair: Pair, all_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            owner: owner(&pair),
            pair,
            outbox: Outbox::default(),
            state: Mutex::default(),
            all_bytes,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who owns what is kept of it.
    pub(super) fn owner(&self) -> Option<&BareJid> {
        self.owner.as_ref()
    }

    /// Queues a stanza; with `room` it is kept until it was taken.
    pub(super) fn push(
        &self,
        core: &Core,
        stanza: Stanza,
        room: Option<(Permit, Option<Box<Sent>>)>,
    ) -> Queued {
        let limits = &core.limits;
        let mut state = self.lock();
        if let Some(cause) = self.bound(&state, &stanza, core) {
            return Queued::No(Box::new((stanza, cause)));
        }
        let (room, owner) = match (room, &self.owner) {
            (Some(room), Some(owner)) => (Some(room), Some(owner)),
            _ => (None, None),
        };
        let (item, ticket) = match (room, owner) {
            (Some((permit, sent)), Some(owner)) => {
                let (item, ticket, stanza) =
                    keep(core, owner, &mut state.due, stanza, permit, sent);
                (item, Some((ticket, stanza)))
            }
            _ if stanza.kind == Kind::Message => {
                // Whoever is told that it came back has to be told what.
                let stanza = Arc::new(stanza);
                let rendered = Arc::new(Rendered::new(stanza, Class::MessageVolatile));
                (Item::Shared(To::AsWritten, rendered, None), None)
            }
            _ => (Item::One(Box::new(stanza)), None),
        };
        self.outbox.push(item, limits);
        self.count(&mut state);
        drop(state);
        let (items, bytes) = self.outbox.load();
        let soft = items > limits.outbox_items_soft || bytes > limits.outbox_bytes_soft;
        self.outbox.wake();
        Queued::Yes { ticket, soft }
    }

    /// Why nothing more may wait. A link that is or was up holds as much as a session; one that was
    /// never seen to work far less.
    fn bound(&self, state: &State, stanza: &Stanza, core: &Core) -> Option<Cause> {
        let limits = &core.limits;
        if let Some(failed) = &state.failed
            && !state.busy
            && core.clock.now() < failed.next
        {
            return Some(failed.cause.clone());
        }
        if let Some(max) = state.stanza_bytes_max()
            && is_larger(stanza, max)
        {
            return Some(Cause::TooLarge(max));
        }
        let (items, bytes) = self.outbox.load();
        let works = state.up_at.is_some();
        let (items_max, bytes_max) = match works {
            true => (limits.outbox_items_hard, limits.outbox_bytes_hard_total()),
            false => (limits.s2s_pending_max, limits.s2s_pending_bytes_max),
        };
        let all = self.all_bytes.load(Ordering::Relaxed);
        let size = stanza.wire_len();
        let full = items >= items_max
            || (items > 0 && bytes + size > bytes_max)
            || all + size > limits.s2s_pending_bytes_total_max;
        full.then_some(Cause::Full)
    }

    /// Brings the sum of all links up to date.
    fn count(&self, state: &mut State) {
        let now = self.outbox.load().1;
        if now >= state.counted {
            self.all_bytes
                .fetch_add(now - state.counted, Ordering::Relaxed);
        } else {
            self.all_bytes
                .fetch_sub(state.counted - now, Ordering::Relaxed);
        }
        state.counted = now;
    }

    /// These were taken by the other server.
    pub(super) fn took(self: &Arc<Self>, core: &Core, rows: &[RowId]) {
        let mut state = self.lock();
        self.count(&mut state);
        if rows.is_empty() {
            return;
        }
        state.due.taken(rows);
        drop(state);
        core.store.clear(Arc::clone(self) as _);
    }

    /// Takes out what is not to wait any longer; it is nobody's from here on.
    pub(super) fn give_back(
        self: &Arc<Self>,
        core: &Core,
        items: impl FnOnce(&Outbox) -> Vec<OutItem>,
    ) -> Vec<Stanza> {
        self.take_out(core, self.lock(), items)
    }

    fn take_out(
        self: &Arc<Self>,
        core: &Core,
        mut state: MutexGuard<'_, State>,
        items: impl FnOnce(&Outbox) -> Vec<OutItem>,
    ) -> Vec<Stanza> {
        let items = items(&self.outbox);
        let rows: Vec<RowId> = items.iter().filter_map(row).collect();
        state.due.taken(&rows);
        self.count(&mut state);
        drop(state);
        if !rows.is_empty() {
            core.store.clear(Arc::clone(self) as _);
        }
        items.into_iter().filter_map(stanza).collect()
    }

    /// The stream before is gone for good: what it was sent goes again over the next one, marked as
    /// late where it is kept, so that its recipient's server may know it again. Gives requests that
    /// may have been carried out. `managed`: the next one has stream management.
    pub(super) fn begin_anew(self: &Arc<Self>, core: &Core, managed: bool) -> Vec<Stanza> {
        // Before the queue counts anew: no answer may be taken for one on the next stream.
        let pinged = self.begin_pings(core, managed);
        let unanswered = self.give_back(core, |outbox| {
            outbox.remake_sent(|item| match &item {
                Item::One(stanza) if im::is_request(stanza) => Err(item),
                _ => Ok(late(item)),
            })
        });
        self.outbox.begin(managed || pinged);
        if pinged {
            self.outbox.probe();
        }
        unanswered
    }

    /// What has waited and is more than the other server says that it takes, once the link is up.
    pub(super) fn take_larger(self: &Arc<Self>, core: &Core) -> Option<(Vec<Stanza>, Cause)> {
        let state = self.lock();
        let max = state.stanza_bytes_max()?;
        let is = |item: &OutItem| match item {
            Item::Shared(_, rendered, _) => is_larger(rendered.stanza(), max),
            Item::One(stanza) => is_larger(stanza, max),
            Item::Nonza(_) | Item::Close(_) => false,
        };
        let taken = self.take_out(core, state, |outbox| outbox.take_unsent(is));
        Some((taken, Cause::TooLarge(max)))
    }

    /// A stream begins; true when pings tell what of it was read.
    pub(super) fn begin_pings(&self, core: &Core, managed: bool) -> bool {
        let (now, again) = (core.clock.now(), core.limits.s2s_log_again);
        self.lock().pings.begin(managed, now, again)
    }

    /// The other server does not count on this stream after all.
    pub(super) fn unmanaged(&self, core: &Core) {
        match self.begin_pings(core, false) {
            true => self.outbox.probe(),
            false => self.outbox.uncount(),
        }
    }

    /// A ping to stand behind everything that was sent, unless one waits for its answer.
    pub(super) fn ping(&self, now: Instant) -> Option<Stanza> {
        let mut state = self.lock();
        if !state.pings.may_ask() {
            return None;
        }
        let id = random::token();
        let ping = pings::ping(&self.pair, &id)?;
        state.pings.asked(&id, self.outbox.sent_count(), now);
        Some(ping)
    }

    /// Takes an answer with this id: what was sent before its ping was read. False: it is none.
    pub(super) fn answered(self: &Arc<Self>, core: &Core, id: &str) -> bool {
        // All under the lock: the next stream counts anew.
        let mut state = self.lock();
        let Some(upto) = state.pings.answered(id) else {
            return false;
        };
        let rows = self.outbox.acknowledged(upto).unwrap_or_default();
        drop(state);
        self.took(core, &rows);
        self.outbox.wake();
        true
    }

    /// No answer came in time, or `None`. Where there never is any, what was written counts as taken.
    pub(super) fn silent(&self, now: Instant) -> Option<Silence> {
        let silence = self.lock().pings.silent(now);
        if silence == Some(Silence::Deaf) {
            self.outbox.uncount();
        }
        silence
    }

    /// Takes in what an earlier run of the server has left to be sent.
    pub(super) fn restore(&self, rows: Vec<(RowId, Stanza)>, limits: &Limits) {
        let mut state = self.lock();
        state.due = DueRows::loaded(rows.iter().map(|(id, _)| *id).collect());
        for (id, stanza) in rows {
            let Some(delivery) = state.due.draw(id) else {
                continue;
            };
            let rendered = Arc::new(Rendered::new(Arc::new(stanza), Class::Message));
            let item = late(Item::Shared(To::AsWritten, rendered, Some(delivery)));
            self.outbox.push(item, limits);
        }
        self.count(&mut state);
    }

    /// It has work to do at the start, and is waited for like one that was up.
    pub(super) fn wait_for(&self, now: Instant) {
        let mut state = self.lock();
        state.up_at = Some(now);
        state.busy = true;
    }

    /// Stanzas flow.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.lock().phase, Phase::Up(_))
    }

    /// True when something waits and nobody carried it: the caller does from here on. A spare stream
    /// goes before.
    pub(super) fn claim_if_needed(&self) -> bool {
        let mut state = self.lock();
        if state.busy || self.is_empty() || state.hand_over() {
            return false;
        }
        state.busy = true;
        true
    }

    /// Nobody carries it: the caller does, though nothing waits.
    pub(super) fn claim_to_look(&self) -> bool {
        let mut state = self.lock();
        !state.busy && !state.hand_over() && !std::mem::replace(&mut state.busy, true)
    }

    /// Its queue is to go over a stream that the other server has opened; false: it has another.
    pub(super) fn claim(&self, now: Instant, facts: impl FnOnce() -> Facts) -> bool {
        let mut state = self.lock();
        if state.busy {
            return false;
        }
        state.busy = true;
        state.phase = Phase::Up(Arc::new(facts()));
        state.up_at.get_or_insert(now);
        true
    }

    /// That stream is over.
    pub(super) fn carried(&self, progress: bool, now: Instant) {
        let mut state = self.lock();
        state.phase = Phase::Idle;
        state.busy = false;
        if progress {
            state.worked(now);
        }
    }

    /// A stream that could carry the queue.
    pub(super) fn spare(self: &Arc<Self>) -> Spare {
        let wanted = Arc::new(Notify::new());
        let mut state = self.lock();
        state.spares.push(Arc::clone(&wanted));
        if !state.busy {
            wanted.notify_one();
        }
        drop(state);
        Spare {
            link: Arc::clone(self),
            wanted,
        }
    }

    /// Its task ends when there is a spare stream; false: there is none.
    pub(super) fn hand_over(&self) -> bool {
        let mut state = self.lock();
        let handed = state.hand_over();
        if handed {
            state.phase = Phase::Idle;
            state.busy = false;
        }
        handed
    }

    /// Its task ends, unless something came meanwhile: then false.
    pub(super) fn rest(&self) -> bool {
        let mut state = self.lock();
        state.phase = Phase::Idle;
        state.busy = !self.is_empty() && !state.hand_over();
        !state.busy
    }

    /// Its task ends, whatever waits: the next start of the server sends what is kept.
    pub(super) fn rest_for_good(&self) {
        let mut state = self.lock();
        state.phase = Phase::Idle;
        state.busy = false;
    }

    /// What waits is given up, and what comes for a while is not taken in; its task ends.
    pub(super) fn give_up(self: &Arc<Self>, core: &Core, failed: Failed) -> Vec<Stanza> {
        let mut state = self.lock();
        state.failed = Some(failed);
        state.phase = Phase::Waiting;
        state.busy = false;
        state.pings.forget();
        self.take_out(core, state, Outbox::drain)
    }

    /// The next stanza is tried at once.
    pub(super) fn forget_failure(&self) {
        let mut state = self.lock();
        if !state.busy {
            state.failed = None;
        }
    }

    /// Somebody uses it, or has to know what happened to it.
    pub(super) fn is_needed(&self, now: Instant) -> bool {
        let state = self.lock();
        let failed = state.failed.as_ref();
        state.busy || !self.is_empty() || failed.is_some_and(|failed| now < failed.next)
    }

    /// True when it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.outbox.load().0 == 0
    }
}

impl State {
    /// Bytes of one stanza that the other server takes, where a stream is up on which it says so.
    fn stanza_bytes_max(&self) -> Option<usize> {
        match &self.phase {
            Phase::Up(facts) => facts.stanza_bytes_max,
            _ => None,
        }
    }

    /// Tells the first spare stream that it is wanted; false: there is none.
    fn hand_over(&mut self) -> bool {
        let first = self.spares.first();
        first.inspect(|spare| spare.notify_one()).is_some()
    }

    /// Whether the log is to say so: each cause once, and again after a time.
    pub(super) fn is_news(&mut self, cause: &Cause, now: Instant, again: Duration) -> bool {
        let is_news = self.logged.as_ref().is_none_or(|(logged, at)| {
            logged != cause || now.saturating_duration_since(*at) >= again
        });
        if is_news {
            self.logged = Some((cause.clone(), now));
        }
        is_news
    }

    /// It did what it is for: what failed before is mended.
    pub(super) fn worked(&mut self, now: Instant) {
        self.up_at = Some(now);
        self.failed = None;
        self.logged = None;
    }
}

/// A stream of the other server's that could carry a link's queue, while another one does.
pub(super) struct Spare {
    pub(super) link: Arc<Link>,
    wanted: Arc<Notify>,
}

impl Spare {
    /// Resolves when the link has no other stream any more.
    pub(super) async fn is_wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state
            .spares
            .retain(|spare| !Arc::ptr_eq(spare, &self.wanted));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let counted = self.lock().counted;
        self.all_bytes.fetch_sub(counted, Ordering::Relaxed);
    }
}

impl Watermark for Link {
    fn cleared(&self) -> Option<Cleared> {
        let owner = self.owner.as_ref()?;
        self.lock().due.cleared(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_logged_once() {
        let (mut state, now) = (State::default(), crate::clock::now());
        let again = Duration::from_secs(60);
        let mut told =
            |cause: Cause, after| state.is_news(&cause, now + Duration::from_secs(after), again);
        assert!(told(Cause::Lost, 0));
        assert!(!told(Cause::Lost, 59));
        assert!(told(Cause::NoSuchDomain, 59));
        assert!(!told(Cause::NoSuchDomain, 118));
        assert!(told(Cause::NoSuchDomain, 119));
        state.worked(now);
        assert!(
            state.is_news(&Cause::NoSuchDomain, now, again),
            "after it worked"
        );
    }
}
