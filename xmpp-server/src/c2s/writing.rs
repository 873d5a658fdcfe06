//! What a session's task does with its transport while it does something else: it writes the queue
//! and reads acknowledgements (DESIGN 5 rule 22).

use super::WRITE_BYTES;
use super::closing;
use super::live::{Aside, Managed};
use crate::core::Core;
use crate::limits::Limits;
use crate::session::Session;
use crate::session::outbox::TooHigh;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use xmpp_stream::driver::{Driver, Turn};
use xmpp_stream::features::sm;
use xmpp_stream::stanza::Item;
use xmpp_stream::stream::{Machine, Output, Responder, SmRequest};

/// The client has handled so many.
pub(super) fn acknowledged(
    session: &Session,
    managed: Option<&mut Managed>,
    core: &Core,
    h: u32,
) -> Result<(), TooHigh> {
    let rows = session.outbox.acknowledged(h)?;
    core.took(&session.account, &rows);
    if let Some(managed) = managed {
        let left = session.outbox.unacknowledged() > Some(0);
        managed.asking = left.then(|| core.clock.now());
    }
    Ok(())
}

pub(super) fn send(driver: &mut Driver<Responder>, nonza: Box<[u8]>) {
    driver.machine.send::<()>(&Item::Nonza(nonza));
}

/// Items stay in the outbox behind what closes the stream: they were not sent.
pub(super) fn fill(
    driver: &mut Driver<Responder>,
    session: &Session,
    managed: Option<&mut Managed>,
    limits: &Limits,
) {
    if driver.pending() > 0 || !driver.machine.is_open() {
        return;
    }
    let machine = &mut driver.machine;
    let sent = session.outbox.send(limits, |item| {
        session.tap.sent(&session.jid, item);
        machine.send(item);
        machine.is_open() && machine.pending_bytes() < WRITE_BYTES
    });
    session.tap.wake();
    if let Some(managed) = managed
        && sent.counted
    {
        driver.machine.ask();
        managed.asking.get_or_insert_with(crate::clock::now);
    }
}

/// Goes on writing the session's queue, and reading acknowledgements, while something else is waited
/// for (DESIGN 5 rule 22).
pub(super) async fn work_on<T>(
    driver: &mut Driver<Responder>,
    session: &Session,
    aside: &mut Aside<'_>,
    core: &Arc<Core>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    let began = crate::clock::now();
    let asking = aside.managed.as_ref().and_then(|managed| managed.asking);
    if aside.managed.is_some() {
        // Acknowledgements may have come in the same packet.
        put_aside(driver, session, aside, core);
    }
    let done = loop {
        if driver.machine.is_peer_closed() {
            // The answer to what is in hand may be all that it still waits for.
            Box::pin(closing::fill(
                driver,
                session,
                aside.managed.is_some(),
                core,
            ))
            .await;
        } else {
            fill(driver, session, aside.managed.as_deref_mut(), &core.limits);
        }
        let read = aside.managed.is_some() && !aside.postponed.is_full(&core.limits);
        let answer = aside.answer_at(session);
        let writes = driver.machine.is_open() || driver.machine.is_peer_closed();
        let idle = driver.pending() == 0 && writes;
        tokio::select! {
            biased;
            done = &mut work => break done,
            turn = driver.turn(read), if !idle || read => match turn {
                Ok(Turn::Flushed) => core.took(&session.account, &session.outbox.flushed()),
                Ok(Turn::Handled) => put_aside(driver, session, aside, core),
                // The transport is gone; what is being done is done to its end all the same.
                Err(_) => {
                    session.lost.store(true, Ordering::Relaxed);
                    return work.await;
                }
            },
            // Whoever else wants something of the session waits for the stanza in hand.
            () = poll_fn(|cx| session.outbox.poll_more(cx, &core.limits)),
                if idle && !session.outbox.is_closed() => {}
            () = until(answer), if answer.is_some() => aside.answer(driver),
        }
    };
    // No deadline of the client's runs meanwhile.
    if let Some(managed) = &mut aside.managed
        && managed.asking == asking
    {
        let waited = crate::clock::now().saturating_duration_since(began);
        managed.asking = asking.map(|since| since + waited);
    }
    done
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Aside<'_> {
    /// When the client is to be told what was handled, if it has asked.
    fn answer_at(&self, session: &Session) -> Option<Instant> {
        let managed = self.managed.as_ref()?;
        let (_, until) = managed.asked?;
        (session.outbox.sent_until() >= managed.enabled).then_some(until)
    }

    /// Tells it, and owes the rest.
    fn answer(&mut self, driver: &mut Driver<Responder>) {
        if let Some(managed) = &mut self.managed
            && let Some((upto, _)) = managed.asked.take()
        {
            managed.owes = Some(upto);
            send(driver, sm::ack(self.h));
        }
    }
}

/// Acts upon what the client says of stream management, and keeps the rest for later.
pub(super) fn put_aside(
    driver: &mut Driver<Responder>,
    session: &Session,
    aside: &mut Aside<'_>,
    core: &Core,
) {
    while let Some(output) = driver.machine.poll_output() {
        if let Output::Sm(SmRequest::Ack(h)) = output
            && acknowledged(session, aside.managed.as_deref_mut(), core, h).is_ok()
        {
            continue;
        }
        if let (Output::Sm(SmRequest::Ask), Some(managed)) = (&output, &mut aside.managed) {
            let upto = aside.received.wrapping_add(aside.postponed.stanzas());
            managed.ask(upto, core.clock.now() + core.limits.sm_ack_wait);
            continue;
        }
        let over = match output {
            Output::Closed(_) => Some(&session.lost),
            Output::PeerClosing => Some(&session.farewell),
            _ => None,
        };
        if let Some(over) = over {
            *aside.closing = true;
            over.store(true, Ordering::Relaxed);
        }
        aside.postponed.push(output);
    }
}
