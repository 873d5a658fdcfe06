//! What comes over a stream of another server, on its way to the core: one stanza after the other,
//! and when which count is told.

use super::arrived::Arrived;
use super::receive::{Now, Origin};
use super::resent::{Known, Look};
use crate::core::Core;
use crate::effect::Effect;
use crate::limits::Limits;
use crate::random;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;
use tracing::warn;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::xml::Refused;

/// One stream's.
pub(super) struct Intake {
    /// What has come and is not done.
    pub(super) arrived: Arrived,
    /// Errors to be sent for what could not be stored.
    failed: Vec<Stanza>,
    /// What its senders sent on earlier streams.
    known: Known,
    /// The peer wants to know how much was handled: all up to here, then at the latest.
    asked: Option<(u32, Instant)>,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            arrived: Arrived::default(),
            failed: Vec::new(),
            known: Known::new(random::number()),
            asked: None,
        }
    }

    /// As much is waiting as may: nothing more is read.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.arrived.is_full(limits)
    }

    /// One stanza of a proven pair.
    pub(super) async fn stanza(&mut self, core: &Arc<Core>, stanza: Stanza) {
        core.tap.metrics.s2s_received.count();
        let bytes = stanza.wire_len();
        let sent = match self.known.look_now(&stanza) {
            Some(sent) => sent,
            None => match Box::pin(self.known.look(core, &stanza)).await {
                Look::Known => return self.arrived.push(Default::default(), bytes),
                Look::New(sent) => sent,
            },
        };
        let received = match core.remote_now(stanza, sent) {
            Now::Done(received, rest) if rest.is_empty() => received,
            Now::Done(received, rest) => {
                Box::pin(core.run(None, rest.into())).await;
                received
            }
            Now::Not(stanza) => {
                let (stanza, sent) = *stanza;
                Box::pin(core.from_remote(stanza, sent, Origin::Server)).await
            }
        };
        self.arrived.push(received.owed, bytes);
        if received.soft {
            tokio::time::sleep(core.limits.outbox_pause_max).await;
        }
    }

    /// A stanza that the reader refused is answered in its place in the order.
    pub(super) async fn refused(&mut self, core: &Arc<Core>, refused: Refused) {
        warn!(condition = %refused.condition, "stanza refused");
        if let Some(reply) = refused.reply() {
            Box::pin(core.run(None, vec![Effect::route(reply)].into())).await;
        }
        self.arrived.push(Default::default(), 0);
    }

    /// The peer asks for the count.
    pub(super) fn ask(&mut self, core: &Core) {
        let until = core.clock.now() + core.limits.sm_ack_wait;
        let until = self.asked.map_or(until, |(_, until)| until);
        self.asked = Some((self.arrived.received(), until));
    }

    /// The count, when the peer has asked and that is done.
    pub(super) fn answer(&mut self) -> Option<u32> {
        let (upto, _) = self.asked?;
        let reached = (upto.wrapping_sub(self.arrived.h()) as i32) <= 0;
        reached.then(|| self.answer_now())
    }

    /// The count as it is: what is not done yet the peer asks for again.
    pub(super) fn answer_now(&mut self) -> u32 {
        self.asked = None;
        self.arrived.h()
    }

    /// When the peer is to be answered at the latest.
    pub(super) fn answer_by(&self) -> Option<Instant> {
        self.asked.map(|(_, until)| until)
    }

    /// Resolves when something more is done; for ever pending when nothing waits.
    pub(super) async fn progress(&mut self) {
        let (arrived, failed) = (&mut self.arrived, &mut self.failed);
        poll_fn(|cx| arrived.poll_done(cx, failed)).await;
    }

    /// Waits until everything that came is done.
    pub(super) async fn settle(&mut self, core: &Arc<Core>) {
        while !self.arrived.is_done() {
            self.progress().await;
        }
        self.tell_failed(core).await;
    }

    /// Tells senders of what could not be stored.
    pub(super) async fn tell_failed(&mut self, core: &Arc<Core>) {
        for reply in std::mem::take(&mut self.failed) {
            Box::pin(core.run(None, vec![Effect::route(reply)].into())).await;
        }
    }

    /// The peer was told that all was handled, and closes: nothing is sent again.
    pub(super) fn closed_in_order(&self, core: &Core) {
        if self.arrived.is_managed() && self.arrived.is_done() {
            core.ended.closed(self.known.stream(), &core.limits);
        }
    }
}
