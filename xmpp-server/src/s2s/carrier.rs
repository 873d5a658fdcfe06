//! Carries a link's queue over a stream, whichever side opened it: fills it, and takes out what the
//! other server has.

use super::link::Link;
use crate::core::Core;
use crate::session::outbox::OutItem;
use crate::store::RowId;
use std::sync::Arc;
use std::time::Instant;
use tracing::warn;
use xmpp_stream::driver::Driver;
use xmpp_stream::error::StreamError;
use xmpp_stream::features::sm;
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
    pub(super) asking: Option<Instant>,
}

impl Carrier {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            progress: false,
            asking: None,
        }
    }

    /// Copies items of the queue into the machine, a record at most, when the last batch has left.
    pub(super) fn fill<M: Sends>(&mut self, driver: &mut Driver<M>, core: &Core) {
        if driver.pending() > 0 || !driver.machine.is_ready() {
            return;
        }
        let (machine, metrics) = (&mut driver.machine, &core.tap.metrics);
        let sent = self.link.outbox.send(&core.limits, |item| {
            machine.put(item);
            metrics.s2s_sent.count();
            machine.is_ready() && machine.pending_bytes() < WRITE_BYTES
        });
        if sent.counted {
            driver.machine.ask();
            self.asking.get_or_insert_with(crate::clock::now);
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
                warn!(
                    h,
                    sent = too_high.sent,
                    "more is acknowledged than was sent"
                );
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
        self.asking.map(|since| since + wait)
    }
}
