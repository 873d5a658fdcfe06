//! Carries a link's queue over a stream, whichever side opened it: fills it, and takes out what the
//! other server has.

use super::link::Link;
use super::pings::Silence;
use crate::core::Core;
use crate::session::outbox::{OutItem, is_asked_about};
use crate::store::RowId;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tracing::{debug, info, warn};
use xmpp_stream::driver::Driver;
use xmpp_stream::error::StreamError;
use xmpp_stream::features::sm;
use xmpp_stream::stanza::Item;
use xmpp_stream::stream::Machine;
use xmpp_stream::stream::s2s::{Callee, Caller};

/// What is worth one write: a TLS record.
const WRITE_BYTES: usize = 16 * 1024;

/// What both machines have for whoever sends.
pub(super) trait Sends: Machine {
    /// False: it was not sent.
    fn put(&mut self, item: &OutItem) -> bool;
    fn is_ready(&self) -> bool;
    fn ask(&mut self);
    fn end(&mut self, error: StreamError, now: Instant);
}

impl Sends for Caller {
    fn put(&mut self, item: &OutItem) -> bool {
        self.send(item)
    }
    fn is_ready(&self) -> bool {
        self.is_open()
    }
    fn ask(&mut self) {
        Self::ask(self);
    }
    fn end(&mut self, error: StreamError, now: Instant) {
        self.close(Some(error), now);
    }
}

impl Sends for Callee {
    fn put(&mut self, item: &OutItem) -> bool {
        self.send(item)
    }
    fn is_ready(&self) -> bool {
        self.is_open()
    }
    fn ask(&mut self) {
        Self::ask(self);
    }
    fn end(&mut self, error: StreamError, now: Instant) {
        self.close(Some(error), now);
    }
}

/// One stream's hold on a link's queue.
pub(super) struct Carrier {
    pub(super) link: Arc<Link>,
    /// Something was taken by the other server.
    pub(super) progress: bool,
    /// Since when our question waits.
    asking: Option<Instant>,
    /// Pings tell what was read.
    pinged: bool,
    /// Messages were sent behind which no ping stands.
    unasked: bool,
}

impl Carrier {
    /// Of a stream on which the link has begun.
    pub(super) fn new(link: Arc<Link>) -> Self {
        let pinged = link.lock().pings.is_on();
        Self {
            link,
            progress: false,
            asking: None,
            pinged,
            unasked: false,
        }
    }

    /// The other server counts from here on, behind `enabled`.
    pub(super) fn managed(&mut self, core: &Core, enabled: Box<[u8]>) {
        self.pinged = self.link.begin_pings(core, true);
        self.link.outbox.count(enabled, &core.limits);
    }

    /// It does not count after all. `written`: all that was sent.
    pub(super) fn unmanaged(&mut self, core: &Core, written: bool) {
        self.asking = None;
        self.link.unmanaged(core);
        self.pinged = self.link.lock().pings.is_on();
        // Whatever was sent so far.
        self.unasked = self.pinged;
        if written {
            self.flushed(core);
        }
    }

    /// Ready when there is something to be sent, or an answer to be looked at.
    pub(super) fn poll_more(&self, cx: &mut Context<'_>, core: &Core) -> Poll<()> {
        if self.link.outbox.poll_more(cx, &core.limits).is_ready() {
            return Poll::Ready(());
        }
        match self.pinged && self.link.lock().pings.has_news() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Copies items of the queue into the machine, a record at most, when the last batch has left.
    pub(super) fn fill<M: Sends>(&mut self, driver: &mut Driver<M>, core: &Core) {
        if driver.pending() > 0 || !driver.machine.is_ready() {
            return;
        }
        if self.pinged && self.link.lock().pings.take_news() {
            self.progress = true;
            self.flushed(core);
        }
        let (machine, metrics) = (&mut driver.machine, &core.tap.metrics);
        let unasked = &mut self.unasked;
        let sent = self.link.outbox.send(&core.limits, |item| {
            machine.put(item);
            *unasked |= is_asked_about(item);
            metrics.s2s_sent.count();
            machine.is_ready() && machine.pending_bytes() < WRITE_BYTES
        });
        if self.pinged {
            self.ping(driver);
        } else if sent.counted {
            driver.machine.ask();
            self.asking.get_or_insert_with(crate::clock::now);
        }
    }

    /// Has a ping stand behind messages, one at a time.
    fn ping<M: Sends>(&mut self, driver: &mut Driver<M>) {
        if self.unasked
            && let Some(ping) = self.link.ping(crate::clock::now())
        {
            self.unasked = false;
            driver.machine.put(&Item::One(Box::new(ping)));
        }
    }

    /// Everything sent so far has been written.
    pub(super) fn flushed(&mut self, core: &Core) {
        let before = self.link.outbox.load().0;
        let rows = self.link.outbox.flushed();
        self.took(core, before, &rows);
    }

    /// The other server has handled so many.
    pub(super) fn acknowledged<M: Sends>(&mut self, driver: &mut Driver<M>, core: &Core, h: u32) {
        let before = self.link.outbox.load().0;
        match self.link.outbox.acknowledged(h) {
            Ok(rows) => {
                self.took(core, before, &rows);
                let left = self.link.outbox.unacknowledged() > Some(0);
                self.asking = left.then(crate::clock::now);
            }
            Err(too_high) => {
                let (sent, what) = (too_high.sent, ("more is acknowledged", ""));
                let (who, now) = (&self.link.pair.to, core.clock.now());
                match core.s2s.repeats.news(who, what, now, &core.limits) {
                    Some(times) => warn!(h, sent, times, "more is acknowledged than was sent"),
                    None => debug!(h, sent, "more is acknowledged than was sent"),
                }
                let error = sm::too_high(h, too_high.sent);
                driver.machine.end(error, core.clock.now());
            }
        }
    }

    fn took(&mut self, core: &Core, before: usize, rows: &[RowId]) {
        self.link.took(core, rows);
        self.progress |= self.link.outbox.load().0 < before;
    }

    /// Until when the other server has to answer.
    pub(super) fn answer_by(&self, core: &Core) -> Option<Instant> {
        let wait = core.limits.stream.silence_answer_max;
        let pinged = || self.link.lock().pings.since();
        let since = match self.pinged {
            true => pinged(),
            false => self.asking,
        };
        since.map(|since| since + wait)
    }

    /// It has not; true: the connection is lost. `written`: all that was sent.
    pub(super) fn is_lost(&mut self, core: &Core, written: bool) -> bool {
        if !self.pinged {
            info!("no acknowledgement: connection lost");
            return true;
        }
        match self.link.silent(crate::clock::now()) {
            None => false,
            Some(Silence::Lost) => {
                info!("no answer to a ping: connection lost");
                true
            }
            Some(Silence::Deaf) => {
                warn!("no answer to pings: what was written counts as taken");
                self.pinged = false;
                if written {
                    self.flushed(core);
                }
                false
            }
        }
    }

    /// Nothing that was sent waits for an acknowledgement. A ping is not waited for: by the time that
    /// the server goes down, nobody takes in its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.pinged || self.link.outbox.unacknowledged().unwrap_or_default() == 0
    }
}
