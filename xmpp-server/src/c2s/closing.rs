//! The client has closed its stream: what it is still owed goes out before our closing tag.
//!
//! RFC 6120 section 4.4: the other side may finish what it was sending. Answers that are queued, and
//! errors of writes under way, are written; then the machine says what was handled and closes.

use super::live::Live;
use super::{Connection, FLUSH, Next, WRITE_BYTES};
use crate::core::Core;
use crate::effect::Effect;
use crate::im;
use crate::session::Session;
use crate::session::outbox::{Class, OutItem};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use tracing::{info, warn};
use xmpp_stream::driver::{Driver, Turn};
use xmpp_stream::error::{StanzaError, StreamCondition};
use xmpp_stream::stanza::{Item, Stanza};
use xmpp_stream::stream::{CloseReason, Machine, Responder};

impl Live {
    /// Finishes what came, as long as a ticket lasts, and writes meanwhile what is queued, which may
    /// then take as long as a close may. Gives `h` where the client counts.
    pub(super) async fn see_off(
        &mut self,
        driver: &mut Driver<Responder>,
        core: &Arc<Core>,
    ) -> Option<u32> {
        let limits = &core.limits;
        let work = self.settle(driver, core);
        let _ = tokio::time::timeout(limits.ticket_max, work).await;
        let _ = tokio::time::timeout(limits.stream.close_max, self.write_out(driver, core)).await;
        self.is_managed().then(|| self.inbound.h())
    }

    /// Until everything that came is done (rule 22: the queue is written meanwhile).
    async fn settle(&mut self, driver: &mut Driver<Responder>, core: &Arc<Core>) {
        let managed = self.is_managed();
        while !self.inbound.is_done() {
            fill(driver, &self.session, managed, core).await;
            let idle = driver.pending() == 0;
            let (session, inbound) = (&self.session, &mut self.inbound);
            let settled = poll_fn(|cx| {
                let more = session.outbox.poll_more(cx, &core.limits);
                let done = inbound.poll_done(cx, &session.jid, &session.outbox, &core.limits);
                match done.is_pending() && idle {
                    true => more,
                    false => done,
                }
            });
            let turn = tokio::select! {
                biased;
                turn = driver.turn(false), if !idle => turn,
                () = settled => continue,
            };
            match turn {
                Ok(Turn::Flushed) => {
                    core.took(&self.session.account, &self.session.outbox.flushed())
                }
                Ok(Turn::Handled) => {}
                // Nobody hears us any more; what came is done to its end all the same.
                Err(_) => {
                    self.finished(core).await;
                    return;
                }
            }
        }
    }

    async fn write_out(&mut self, driver: &mut Driver<Responder>, core: &Arc<Core>) {
        loop {
            let refused = fill(driver, &self.session, self.is_managed(), core).await;
            if driver.pending() == 0 {
                match refused {
                    // One of them may have been its own.
                    true => continue,
                    false => return,
                }
            }
            match driver.turn(false).await {
                Ok(Turn::Flushed) => {
                    let rows = self.session.outbox.flushed();
                    core.took(&self.session.account, &rows);
                }
                Ok(Turn::Handled) => {}
                Err(_) => return,
            }
        }
    }
}

/// Hands what is queued to a machine whose peer has closed. Requests are refused: it answers nothing
/// any more. With stream management it acknowledges nothing either: messages stay, for another
/// session or for later, and so do requests, to be refused with the session's end. True when some
/// were refused.
pub(super) async fn fill(
    driver: &mut Driver<Responder>,
    session: &Session,
    managed: bool,
    core: &Arc<Core>,
) -> bool {
    if driver.pending() > 0 {
        return false;
    }
    let (machine, mut refused) = (&mut driver.machine, VecDeque::new());
    session.outbox.send(&core.limits, |item| {
        match request(item) {
            Some(_) if managed => {}
            Some(request) => {
                let error = request.error_reply(&StanzaError::service_unavailable());
                refused.extend(error.map(Effect::route));
            }
            None if managed && is_message(item) => {}
            None => {
                session.tap.sent(&session.jid, item);
                machine.send(item);
            }
        }
        machine.pending_bytes() < WRITE_BYTES
    });
    session.tap.wake();
    let some = !refused.is_empty();
    if some {
        core.run(None, refused).await;
    }
    some
}

fn request(item: &OutItem) -> Option<&Stanza> {
    match item {
        Item::Shared(_, rendered, _) if rendered.class() == Class::Iq => {
            Some(&**rendered.stanza()).filter(|stanza| im::is_request(stanza))
        }
        _ => None,
    }
}

fn is_message(item: &OutItem) -> bool {
    matches!(item, Item::Shared(_, rendered, _) if rendered.class() == Class::Message)
}

impl<F: FnOnce() + Send> Connection<F> {
    /// The stream is over: what follows.
    pub(super) async fn closed(&mut self, reason: &CloseReason) -> Next {
        if let CloseReason::Ours(error) = reason {
            let at = error.condition as usize;
            self.shared.core.tap.metrics.stream_errors.count_at(at);
        }
        log(reason);
        let condition = match reason {
            CloseReason::Eof => return Next::Lost,
            CloseReason::Ours(error) => error.condition,
            _ => return Next::Closed,
        };
        let is_resumable = || self.live.as_ref().is_some_and(|live| live.is_resumable());
        match condition {
            StreamCondition::ConnectionTimeout => {
                // The peer is told, in case it hears us; the session goes on without it.
                self.driver.flush_within(FLUSH).await;
                Next::Lost
            }
            StreamCondition::Reset if is_resumable() => Next::Reset,
            _ => Next::Closed,
        }
    }
}

/// Why a stream has ended.
fn log(reason: &CloseReason) {
    match reason {
        CloseReason::Ours(error) => {
            warn!(condition = %error.condition, reason = error.text.as_deref(), "stream closed by us");
        }
        CloseReason::Theirs(error) => {
            info!(condition = %error.condition, "stream closed by the peer with an error");
        }
        CloseReason::Eof => info!("connection ended without a closing tag"),
        CloseReason::Clean => info!("stream closed"),
        CloseReason::CloseTimeout => info!(reason = "no closing tag in time", "stream closed"),
        CloseReason::TlsFailed => info!(reason = "TLS did not come about", "stream closed"),
        _ => info!("stream closed"),
    }
}
