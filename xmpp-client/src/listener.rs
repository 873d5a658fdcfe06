//! `XmppListener`: the task that always reads; sole owner of the stream.
//!
//! It hands what is received to every receiver's mailbox, and writes what the clients send. A
//! receiver that does not keep up stops it from reading, for a minute at most (DESIGN 1). When the
//! stream is lost it makes another (listener/gap.rs).

mod gap;

use crate::config::Settings;
use crate::error::{NotAcked, NotAckedReason};
use crate::event::Event;
use crate::handlers::{self, Handled};
use crate::limits::after;
use crate::mailbox::Mailbox;
use crate::negotiate::{Bound, Resumption};
use crate::outbox::{Outgoing, Wants};
use crate::request::Requests;
use crate::session::Session;
pub(crate) use crate::shared::Shared;
use crate::unacked::{TooHigh, Unacked};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, warn};
use xmpp_stream::driver::{Driver, Turn};
use xmpp_stream::error::{StanzaCondition, StanzaError, StreamCondition, StreamError};
use xmpp_stream::features::sm;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::{CloseReason, Initiator, Machine, Output, SmAnswer, SmRequest};

/// The owner of a bound stream.
pub(crate) struct XmppListener {
    settings: Settings,
    shared: Arc<Shared>,
    driver: Driver<Initiator>,
    requests: Requests,
    unacked: Unacked,
    session: Session,
    /// Under which name the stream can be gone on with.
    resumable: Option<Resumable>,
    /// The last number given to the stream.
    ticket: u64,
    /// Our closing tag is out.
    is_closing: bool,
    /// Since when the end is wanted, a receiver is behind, nothing more may be sent.
    closing_since: Option<Instant>,
    stalled_since: Option<Instant>,
    full_since: Option<Instant>,
    /// Since when an acknowledgement is owed that was asked for.
    asked_since: Option<Instant>,
    /// When the stream began, and how many before it did not last.
    since: Instant,
    short_lived: u32,
}

/// What `<enabled/>` says (XEP-0198 section 3).
struct Resumable {
    id: Box<str>,
    location: Option<Box<str>>,
}

impl XmppListener {
    /// Takes up a stream; receivers learn of it first.
    pub(crate) fn new(settings: Settings, bound: Bound, shared: Arc<Shared>) -> Self {
        let mut listener = Self {
            settings,
            requests: Requests::new(bound.jid.clone()),
            shared,
            driver: bound.driver,
            unacked: Unacked::default(),
            session: Session::default(),
            resumable: None,
            ticket: 0,
            is_closing: false,
            closing_since: None,
            stalled_since: None,
            full_since: None,
            asked_since: None,
            since: Instant::now(),
            short_lived: 0,
        };
        listener.begin(bound.jid, Resumption::None);
        listener
    }

    /// Reads and writes until the client is over. Boxed: a task would hold it twice.
    pub(crate) async fn run(mut self: Box<Self>) {
        loop {
            let reason = self.listen().await;
            debug!(?reason, "stream over");
            if self.is_closing || self.shared.outbox.is_closing() {
                self.driver.finish(self.shared.limits.close_max).await;
                return self.end(reason, false);
            }
            // Boxed: it is large, and seldom there.
            if let Err(reason) = Box::pin(self.reconnect(reason)).await {
                return self.end(reason, true);
            }
        }
    }

    async fn listen(&mut self) -> CloseReason {
        loop {
            while let Some(output) = self.driver.machine.poll_output() {
                if let Some(reason) = self.act(output) {
                    return reason;
                }
            }
            self.send_waiting();
            self.close_if_wanted();
            let stalled_until = self.stalled_until();
            let read = stalled_until.is_none() && !self.is_choked();
            if !read {
                // What is not read cannot be missed.
                self.asked_since = self.asked_since.map(|_| Instant::now());
            }
            let deadlines = [
                stalled_until,
                self.full_until(),
                self.asked_until(),
                self.closing_until(),
            ];
            tokio::select! {
                turn = self.driver.turn(read) => match turn {
                    Ok(Turn::Flushed) => self.written(),
                    Ok(Turn::Handled) => {}
                    Err(error) => {
                        debug!(%error, "connection lost");
                        return CloseReason::Eof;
                    }
                },
                () = self.shared.outbox.wake.notified() => {}
                () = self.shared.room.notified(), if stalled_until.is_some() => {}
                () = until(deadlines.into_iter().flatten().min()) => self.overdue(),
            }
        }
    }

    fn act(&mut self, output: Output) -> Option<CloseReason> {
        match output {
            Output::Stanza(stanza) => self.received(stanza),
            // What the reader refuses is answered where an answer is due.
            Output::Refused(refused) => {
                if let Some(reply) = refused.reply() {
                    self.reply(reply);
                }
            }
            Output::Sm(SmRequest::Ack(h)) => self.acknowledged(h),
            Output::Managed(answer) => self.managed(answer),
            Output::Closed(reason) => return Some(reason),
            other => debug!(?other, "nothing to do"),
        }
        None
    }

    fn received(&mut self, stanza: Stanza) {
        if handlers::is_request(&stanza) {
            self.requested(&stanza);
        } else if self.requests.answer(&stanza) && !self.shared.has_receivers() {
            // Who asked has it; it is not kept for a receiver that may never come.
            return;
        }
        self.shared.push(Event::Stanza(stanza));
    }

    /// Every request is answered (row li-1): by its handler, or that there is none.
    fn requested(&mut self, request: &Stanza) {
        if let Some(fault) = handlers::fault(request) {
            return self.refuse(request, &fault.into());
        }
        match self.shared.handlers.handle(&self.shared, request) {
            Handled::Yes => {}
            Handled::No => self.refuse(request, &StanzaCondition::ServiceUnavailable.into()),
            Handled::TooMany => self.refuse(request, &StanzaCondition::ResourceConstraint.into()),
        }
    }

    fn refuse(&mut self, request: &Stanza, error: &StanzaError) {
        if let Some(reply) = request.error_reply(error) {
            self.reply(reply);
        }
    }

    /// An answer of the listener's own goes out at once: what may be read is bounded by what is
    /// unwritten. In a flood of requests acknowledgements come behind them: those that there is no
    /// room for are not answered, or anybody could end the stream who knows our address. A server
    /// that goes on without acknowledging is given up in its time.
    fn reply(&mut self, reply: Stanza) {
        if self.unacked.is_overfull(&self.shared.limits) {
            return debug!("no room for an answer");
        }
        self.hand_over(Outgoing {
            stanza: handlers::unaddressed(reply),
            wants: Wants::Written,
            ticket: self.ticket,
            since: None,
        });
    }

    fn acknowledged(&mut self, h: u32) {
        let before = self.unacked.len();
        if let Err(TooHigh { sent }) = self.unacked.ack(h) {
            warn!(h, sent, "the server acknowledges more than it was sent");
            self.resumable = None;
            self.fail(sm::too_high(h, sent));
        }
        if self.unacked.is_empty() {
            self.driver.machine.expect_nothing();
        }
        if self.unacked.is_answered() {
            self.asked_since = None;
        } else if self.unacked.len() < before {
            // It comes on.
            self.asked_since = Some(Instant::now());
        }
    }

    fn managed(&mut self, answer: SmAnswer) {
        match answer {
            SmAnswer::Enabled { id, location, .. } => {
                self.resumable = id.map(|id| Resumable { id, location });
            }
            SmAnswer::Failed { .. } => {
                debug!("the server does not manage this stream");
                self.unmanaged();
            }
            SmAnswer::Resumed { .. } => {}
        }
    }

    fn fail(&mut self, error: StreamError) {
        let now = Instant::now().into_std();
        self.driver.machine.close(Some(error), now);
    }

    /// What waits goes to the stream, as far as there is room.
    fn send_waiting(&mut self) {
        while self.may_send() {
            let Some(outgoing) = self.shared.outbox.pop() else {
                break;
            };
            self.hand_over(outgoing);
        }
        if let Some(active) = self.shared.outbox.take_active() {
            self.session.active = active;
            self.driver.machine.set_active(active);
        }
        if self.driver.machine.is_managed() {
            if self.unacked.wants_ask(&self.shared.limits) {
                self.ask();
            }
            if !self.unacked.is_empty() {
                self.expect_life();
            }
        }
    }

    fn hand_over(&mut self, outgoing: Outgoing) {
        let limits = &self.shared.limits;
        let (ticket, since) = (outgoing.ticket, outgoing.since);
        self.ticket = self.ticket.max(ticket);
        let (stanza, wants) = match (outgoing.stanza, outgoing.wants) {
            (iq, Wants::Answer(reply)) => {
                match self.requests.begin(iq, reply, limits.requests_max) {
                    Some(iq) => (iq, Wants::Written),
                    None => return,
                }
            }
            (stanza, Wants::Acked(acked)) if !self.driver.machine.is_managed() => {
                let reason = NotAckedReason::NoStreamManagement;
                let stanza = Box::new(stanza);
                let _ = acked.send(Err(NotAcked { stanza, reason }));
                return;
            }
            rest => rest,
        };
        self.session.observe(&stanza);
        self.driver.machine.send_stanza(&stanza);
        if !self.driver.machine.is_managed() {
            self.expect_life();
        }
        self.unacked.push(Outgoing {
            stanza,
            wants,
            ticket,
            since: since.or_else(|| Some(Instant::now())),
        });
    }

    fn ask(&mut self) {
        self.driver.machine.ask();
        self.unacked.asked();
        self.asked_since.get_or_insert_with(Instant::now);
    }

    /// Something was sent: within this time the server shows that it lives, or is asked to.
    fn expect_life(&mut self) {
        let at = after(Instant::now(), self.settings.answer_max / 4);
        self.driver.machine.expect_by(at.into_std());
    }

    fn written(&mut self) {
        if !self.driver.machine.is_managed() {
            self.unacked.clear();
        }
        self.shared.outbox.set_written(self.ticket);
    }

    /// Stream management was asked for and refused: what was written is all that is known.
    fn unmanaged(&mut self) {
        self.resumable = None;
        let written = self.driver.pending() == 0;
        self.unacked.give_up_waiting();
        self.asked_since = None;
        if written {
            self.unacked.clear();
        }
    }

    fn may_send(&self) -> bool {
        !self.is_closing && !self.is_choked() && !self.unacked.is_full(&self.shared.limits)
    }

    /// The transport does not take what is written.
    fn is_choked(&self) -> bool {
        self.driver.pending() >= self.shared.limits.unwritten_bytes_max
    }

    /// The end, once all that was sent before it is written, or after a while.
    fn close_if_wanted(&mut self) {
        if self.is_closing || !self.shared.outbox.is_closing() {
            return;
        }
        let since = *self.closing_since.get_or_insert_with(Instant::now);
        let is_over = Instant::now() >= after(since, self.shared.limits.close_max);
        if is_over || self.shared.outbox.is_empty() {
            self.is_closing = true;
            if !self.unacked.is_empty() {
                self.driver.machine.ask();
            }
            let now = Instant::now().into_std();
            self.driver.machine.close(None, now);
        }
    }

    fn closing_until(&self) -> Option<Instant> {
        let since = self.closing_since.filter(|_| !self.is_closing)?;
        Some(after(since, self.shared.limits.close_max))
    }

    /// A server that acknowledges nothing of so much is as good as dead.
    fn full_until(&mut self) -> Option<Instant> {
        if self.is_closing || !self.unacked.is_full(&self.shared.limits) {
            self.full_since = None;
            return None;
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        Some(after(since, self.settings.answer_max))
    }

    /// A server that talks and does not acknowledge what it was asked about is no better.
    fn asked_until(&self) -> Option<Instant> {
        let since = self.asked_since.filter(|_| !self.is_closing)?;
        Some(after(since, self.settings.answer_max))
    }

    /// Until when reading waits for receivers; `None`: it does not. While a request waits for its
    /// answer, or the stream is closing, receivers are not waited for: they have room by bytes.
    fn stalled_until(&mut self) -> Option<Instant> {
        if !self.shared.any(Mailbox::is_full) {
            self.stalled_since = None;
        } else if self.is_closing || self.requests.any() {
            self.shared.drop_behind(Mailbox::is_overfull);
            self.stalled_since = None;
        } else {
            self.stalled_since.get_or_insert_with(Instant::now);
        }
        Some(after(self.stalled_since?, self.shared.limits.stall_max))
    }

    /// Some deadline has passed.
    fn overdue(&mut self) {
        let now = Instant::now();
        if self.stalled_until().is_some_and(|until| until <= now) {
            self.shared.drop_behind(Mailbox::is_full);
        }
        let owed_until = [self.full_until(), self.asked_until()];
        if owed_until.into_iter().flatten().any(|until| until <= now) {
            warn!("the server acknowledges nothing");
            self.fail(StreamError::new(StreamCondition::ConnectionTimeout));
        }
    }

    /// It is over for good: who waits learns why.
    fn end(&mut self, reason: CloseReason, is_told: bool) {
        let unwritten = self.shared.outbox.end(&reason);
        let unknown = match self.driver.machine.is_managed() {
            true => self.unacked.restart(),
            false => Default::default(),
        };
        let closed = || NotAckedReason::Closed(reason.clone());
        for outgoing in unknown {
            let tell = gap::is_missed(&outgoing.stanza);
            self.hand_back(outgoing, closed(), tell);
        }
        for outgoing in unwritten {
            self.hand_back(outgoing, closed(), false);
        }
        self.shared.end((!is_told).then_some(reason));
    }

    /// Gives a stanza back to its sender; `tell`: where nobody waits, as an event.
    fn hand_back(&self, outgoing: Outgoing, reason: NotAckedReason, tell: bool) {
        let stanza = Box::new(outgoing.stanza);
        let not_acked = NotAcked { stanza, reason };
        match outgoing.wants {
            Wants::Acked(acked) => {
                let _ = acked.send(Err(not_acked));
            }
            Wants::Written if tell => self.shared.push(Event::NotSent(Box::new(not_acked))),
            Wants::Written | Wants::Answer(_) => {}
        }
    }
}

/// Whatever ends the task, nobody waits for ever.
impl Drop for XmppListener {
    fn drop(&mut self) {
        self.shared.outbox.end(&CloseReason::Eof);
        self.shared.end(None);
    }
}

/// Waits until then; for ever without a deadline.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A stream that was up for so long has lasted.
const STEADY: Duration = Duration::from_secs(60);
