//! The client has closed its stream: what it is still owed goes out before our closing tag.
//!
//! RFC 6120 section 4.4: the other side may finish what it was sending. Answers that are queued, and
//! errors of writes under way, are written; then the machine says what was handled and closes.

use super::WRITE_BYTES;
use super::live::Live;
use crate::core::Core;
use crate::limits::Limits;
use crate::session::Session;
use crate::session::outbox::{Class, OutItem};
use std::future::poll_fn;
use xmpp_stream::driver::{Driver, Turn};
use xmpp_stream::stanza::{Item, Ty};
use xmpp_stream::stream::{Machine, Responder};

impl Live {
    /// Finishes what came, as long as a ticket lasts, and writes meanwhile what is queued, which may
    /// then take as long as a close may. Gives `h` where the client counts.
    pub(super) async fn see_off(
        &mut self,
        driver: &mut Driver<Responder>,
        core: &Core,
    ) -> Option<u32> {
        let limits = &core.limits;
        let work = self.settle(driver, core);
        let _ = tokio::time::timeout(limits.ticket_max, work).await;
        let _ = tokio::time::timeout(limits.stream.close_max, self.write_out(driver, core)).await;
        self.is_managed().then(|| self.inbound.h())
    }

    /// Until everything that came is done (rule 22: the queue is written meanwhile).
    async fn settle(&mut self, driver: &mut Driver<Responder>, core: &Core) {
        let managed = self.is_managed();
        while !self.inbound.is_done() {
            fill(driver, &self.session, managed, &core.limits);
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

    async fn write_out(&mut self, driver: &mut Driver<Responder>, core: &Core) {
        loop {
            fill(driver, &self.session, self.is_managed(), &core.limits);
            if driver.pending() == 0 {
                return;
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

/// Hands what is queued to a machine whose peer has closed. With stream management what another
/// session gets instead, or its sender has to be answered for, stays: the client acknowledges nothing
/// any more.
fn fill(driver: &mut Driver<Responder>, session: &Session, managed: bool, limits: &Limits) {
    if driver.pending() > 0 {
        return;
    }
    let machine = &mut driver.machine;
    session.outbox.send(limits, |item| {
        if !(managed && is_kept(item)) {
            session.tap.sent(&session.jid, item);
            machine.send(item);
        }
        machine.pending_bytes() < WRITE_BYTES
    });
    session.tap.wake();
}

fn is_kept(item: &OutItem) -> bool {
    let Item::Shared(_, rendered, _) = item else {
        return false;
    };
    match rendered.class() {
        Class::Message => true,
        Class::Iq => matches!(rendered.stanza().head.ty, Ty::Get | Ty::Set),
        _ => false,
    }
}
