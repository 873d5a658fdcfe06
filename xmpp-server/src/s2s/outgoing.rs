//! The task of a link: makes its streams, one after the other, and carries its queue over them.
//!
//! RFC 6120 sections 3 and 10.4, XEP-0198. What was sent and not acknowledged stays in the queue; a
//! stream that cannot be resumed gets it again, but for requests, which their senders are told of:
//! nobody can know whether they were carried out.

use super::carrier::Carrier;
use super::cause::Cause;
use super::chance;
use super::connect::{Connected, FLUSH, Outcome, What, Wish, connect};
use super::intake::Intake;
use super::link::{Failed, Link, Phase, Step};
use super::list::Facts;
use super::policy::{self, Next};
use crate::core::Core;
use crate::expiry::Expiry;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{Instrument, debug, info, warn};
use xmpp_stream::driver::{Driver, Turn};
use xmpp_stream::error::{StreamCondition, StreamError};
use xmpp_stream::features::sm;
use xmpp_stream::stanza::Item;
use xmpp_stream::stream::s2s::{Caller, Event, Manage};
use xmpp_stream::stream::{CloseReason, Machine, Output, SmAnswer, SmRequest};

/// A stream that lasted so long was a good one, even if nothing was taken.
const STEADY: Duration = Duration::from_secs(10);

/// How a stream of a link ended.
pub(super) enum Ended {
    /// Nobody needed it any more, or the other server thought so.
    Quiet,
    /// This server goes down.
    Down,
    /// It failed, or there was none.
    Failed(Cause),
}

/// What is kept from one stream to the next.
struct Earlier {
    /// By which the stream before can be resumed, if it can.
    id: Option<Box<str>>,
    /// There was no connection on which to do so.
    was_tried: bool,
    /// What came on it, where both directions are in use.
    intake: Intake,
}

impl Earlier {
    /// True as long as nobody has tried that in vain.
    fn is_resumable(&self) -> bool {
        self.id.is_some() && !self.was_tried
    }
}

/// Sees to a link until nothing waits for it.
pub(super) async fn run(core: Arc<Core>, link: Arc<Link>) {
    let span = tracing::info_span!("s2s-out", from = %link.pair.from, to = %link.pair.to);
    see_to(core, link).instrument(span).await;
}

async fn see_to(core: Arc<Core>, link: Arc<Link>) {
    let mut earlier = Earlier {
        id: None,
        was_tried: false,
        intake: Intake::new(),
    };
    let mut down = core.s2s.down();
    loop {
        let ended = Box::pin(one_stream(&core, &link, &mut earlier, down.clone())).await;
        let delay = match ended {
            Ended::Down => return link.rest_for_good(),
            Ended::Quiet => match link.rest() {
                true => return,
                false => Duration::ZERO,
            },
            Ended::Failed(cause) => match failed(&core, &link, cause, earlier.is_resumable()).await
            {
                Some(delay) => delay,
                None => return,
            },
        };
        tokio::select! {
            _ = down.wait_for(|down| *down) => return link.rest_for_good(),
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// What follows on a failure: after which delay the next try comes, or `None` when what waited has
/// gone back.
async fn failed(
    core: &Arc<Core>,
    link: &Arc<Link>,
    cause: Cause,
    is_resumable: bool,
) -> Option<Duration> {
    // A stream that can be resumed has not ended: only there nothing is sent twice.
    if !is_resumable && link.hand_over() {
        return None;
    }
    let now = core.clock.now();
    let (tries, down_for) = {
        let mut state = link.lock();
        let tries = state.failed.as_ref().map_or(0, |failed| failed.tries) + 1;
        if state.is_news(&cause, now, core.limits.s2s_log_again) {
            warn!(reason = %cause, tries, "no link");
        } else {
            debug!(reason = %cause, tries, "no link");
        }
        let down_for = state.up_at.map(|at| now.saturating_duration_since(at));
        (tries, down_for)
    };
    let what = policy::Failed {
        tries,
        down_for,
        is_passing: cause.is_passing(),
    };
    let failed = |delay| Failed {
        cause: cause.clone(),
        at: core.clock.unix_secs(),
        tries,
        next: now + delay,
    };
    match policy::next(what, core.limits.s2s_wait_max, chance()) {
        Next::Retry(delay) => {
            // Nobody waits for it: what comes is tried at once.
            let watched = link.is_empty() && core.is_watched(&link.pair).await;
            let rests = !watched && link.rest();
            let mut state = link.lock();
            if rests {
                state.failed = Some(failed(Duration::ZERO));
                return None;
            }
            state.failed = Some(failed(delay));
            state.phase = Phase::Waiting;
            Some(delay)
        }
        Next::GiveUp(delay) => {
            let stanzas = link.give_up(core, failed(delay));
            let _ = core.bounce_all(stanzas, &cause).await;
            if down_for.is_some() && !link.lock().shown_gone {
                core.show_gone(link).await;
            }
            None
        }
    }
}

/// Makes one stream and carries the queue over it to its end.
async fn one_stream(
    core: &Arc<Core>,
    link: &Arc<Link>,
    earlier: &mut Earlier,
    mut down: watch::Receiver<bool>,
) -> Ended {
    // What came before is done before it is told how much that was.
    let settled = earlier.intake.settle(core);
    let _ = tokio::time::timeout(core.limits.ticket_max, settled).await;
    let manage = match &earlier.id {
        Some(previd) => Manage::Resume {
            previd: previd.clone(),
            h: earlier.intake.arrived.h(),
        },
        None => Manage::Enable,
    };
    let step = |step: Step| link.lock().phase = Phase::Connecting(step);
    let wish = Wish {
        what: What::Stanzas(manage),
        bidi: true,
    };
    let made = tokio::select! {
        made = Box::pin(connect(core, &link.pair, &wish, &step)) => made,
        _ = down.wait_for(|down| *down) => return Ended::Down,
    };
    let connected = match made {
        Ok(Outcome::Stream(connected)) => *connected,
        Ok(Outcome::Answer(_)) => return Ended::Failed(Cause::Lost),
        Err(cause) => {
            earlier.was_tried = true;
            return Ended::Failed(cause);
        }
    };
    if connected.link.resumed.is_none() {
        *earlier = Earlier {
            id: None,
            was_tried: false,
            intake: Intake::new(),
        };
    }
    earlier.was_tried = false;
    let unanswered = begin(core, link, &connected);
    let back = core.bounce_all(unanswered, &Cause::Lost);
    Box::pin(back).await;
    Box::pin(core.bounce_larger(link)).await;
    let began = core.clock.now();
    let mut stream = Stream {
        core,
        driver: connected.driver,
        carrier: Carrier::new(Arc::clone(link)),
        expiry: Expiry::default(),
        earlier,
    };
    let ended = stream.carry(&mut down).await;
    let Stream {
        driver, carrier, ..
    } = stream;
    tokio::spawn(finish(driver));
    let now = core.clock.now();
    let mut state = link.lock();
    state.phase = Phase::Idle;
    // One that breaks at once each time is no link.
    if carrier.progress || now.saturating_duration_since(began) >= STEADY {
        state.worked(now);
    } else if state.failed.is_none() || state.up_at.is_none() {
        // It was there all the same: what waits is not given up at the first loss.
        state.up_at = Some(now);
    }
    drop(state);
    match ended {
        Ended::Quiet if !link.is_empty() => Ended::Failed(Cause::Lost),
        ended => ended,
    }
}

/// The stream is there: what is to be sent over it. Gives requests that may have been carried out.
fn begin(
    core: &Arc<Core>,
    link: &Arc<Link>,
    connected: &Connected,
) -> Vec<xmpp_stream::stanza::Stanza> {
    let mut unanswered = Vec::new();
    match connected.link.resumed {
        Some(h) => {
            let taken = link.outbox.acknowledged(h).unwrap_or_default();
            link.took(core, &taken);
            link.outbox.rewind();
            link.begin_pings(core, true);
        }
        None => {
            unanswered = link.begin_anew(core, connected.link.is_managed);
        }
    }
    let facts = Arc::new(Facts::of(core, connected));
    info!(
        address = %facts.address,
        tls = facts.tls.version,
        proof = facts.proof,
        resumed = connected.link.resumed.is_some(),
        "link up"
    );
    let mut state = link.lock();
    state.phase = Phase::Up(facts);
    state.up_at.get_or_insert_with(|| core.clock.now());
    let was_gone = std::mem::take(&mut state.shown_gone);
    drop(state);
    if was_gone {
        let asking = Arc::clone(core).ask_again(Arc::clone(link));
        core.s2s.spawn(Box::pin(asking));
    }
    unanswered
}

/// Writes what is left and closes, beside whatever comes next.
async fn finish(mut driver: Box<Driver<Caller>>) {
    driver.finish(FLUSH).await;
}

/// A stream on which the queue flows.
struct Stream<'a> {
    core: &'a Arc<Core>,
    driver: Box<Driver<Caller>>,
    carrier: Carrier,
    /// Of the certificate by which the other server was known.
    expiry: Expiry,
    earlier: &'a mut Earlier,
}

impl Stream<'_> {
    async fn carry(&mut self, down: &mut watch::Receiver<bool>) -> Ended {
        let mut is_down = false;
        self.expiry = self.certificate();
        let mut is_over = self.expiry.is_over(&mut self.driver, &self.core.clock);
        loop {
            if is_over {
                self.reset();
            }
            while !self.earlier.intake.is_full(&self.core.limits)
                && let Some(output) = self.driver.machine.poll_output()
            {
                if let Some(ended) = self.act(output).await {
                    return match is_down {
                        true => Ended::Down,
                        false => ended,
                    };
                }
            }
            if let Some(h) = self.earlier.intake.answer() {
                self.send(sm::ack(h));
            }
            self.carrier.fill(&mut self.driver, self.core);
            if is_down && self.is_done() {
                self.close(None);
            }
            let limits = &self.core.limits;
            let intake = &mut self.earlier.intake;
            let (read, waits) = (!intake.is_full(limits), !intake.arrived.is_done());
            let ack_by = intake.answer_by();
            let idle = self.driver.pending() == 0 && self.driver.machine.is_open();
            let answer_by = self.carrier.answer_by(self.core);
            let carrier = &self.carrier;
            let turn = tokio::select! {
                biased;
                () = going_down(down), if !is_down => {
                    is_down = true;
                    continue;
                }
                turn = self.driver.turn(read) => turn,
                () = poll_fn(|cx| carrier.poll_more(cx, self.core)), if idle => continue,
                () = intake.progress(), if waits => {
                    intake.tell_failed(self.core).await;
                    continue;
                }
                () = until(ack_by), if ack_by.is_some() => {
                    let h = intake.answer_now();
                    self.send(sm::ack(h));
                    continue;
                }
                () = until(answer_by), if answer_by.is_some() => {
                    let written = self.driver.pending() == 0;
                    match self.carrier.is_lost(self.core, written) {
                        true => return Ended::Failed(Cause::Lost),
                        false => continue,
                    }
                }
            };
            is_over =
                self.driver.has_rung() && self.expiry.is_over(&mut self.driver, &self.core.clock);
            match turn {
                Ok(Turn::Flushed) => self.carrier.flushed(self.core),
                Ok(Turn::Handled) if self.driver.had_its_turn(limits.turn_bytes_max) => {
                    tokio::task::yield_now().await;
                }
                Ok(Turn::Handled) => {}
                Err(error) => {
                    debug!(%error, "connection lost");
                    return match is_down {
                        true => Ended::Down,
                        false => Ended::Failed(Cause::Lost),
                    };
                }
            }
        }
    }

    /// Nothing is left that could go out now.
    fn is_done(&self) -> bool {
        self.driver.machine.is_open()
            && self.driver.pending() == 0
            && self.carrier.link.outbox.is_all_sent()
            && self.carrier.is_settled()
    }

    fn send(&mut self, nonza: Box<[u8]>) {
        self.driver.machine.send::<()>(&Item::Nonza(nonza));
    }

    /// When what proves the other server ends; where DNS does, nothing ends.
    fn certificate(&self) -> Expiry {
        let machine = &self.driver.machine;
        let tls = machine.tls().filter(|_| machine.distrust().is_none());
        tls.map_or_else(Expiry::default, |tls| {
            Expiry::of(tls, self.core.clock.unix_secs())
        })
    }

    /// Row ce-14: the next stream sees the next certificate.
    fn reset(&mut self) {
        info!("the other server's certificate is over: stream closed");
        self.close(Some(StreamError::new(StreamCondition::Reset)));
    }

    /// What came is acknowledged before: it is not sent again.
    fn close(&mut self, error: Option<StreamError>) {
        let arrived = &self.earlier.intake.arrived;
        if arrived.is_managed() {
            let h = arrived.h();
            self.send(sm::ack(h));
        }
        self.driver.machine.close(error, self.core.clock.now());
    }

    async fn act(&mut self, output: Output) -> Option<Ended> {
        let core = self.core;
        match output {
            Output::Stanza(stanza) => self.earlier.intake.stanza(core, stanza).await,
            Output::Refused(refused) => {
                let who = Arc::clone(&self.carrier.link);
                let intake = &mut self.earlier.intake;
                intake.refused(core, &who.pair.to, refused).await;
            }
            Output::Sm(SmRequest::Ack(h)) => {
                self.carrier.acknowledged(&mut self.driver, core, h);
            }
            Output::Sm(SmRequest::Ask) => self.earlier.intake.ask(core),
            Output::Managed(SmAnswer::Enabled { id, .. }) => {
                self.earlier.id = id;
                self.earlier.intake.arrived.manage();
            }
            Output::Managed(SmAnswer::Failed { .. }) => {
                let written = self.driver.pending() == 0;
                self.carrier.unmanaged(core, written);
            }
            Output::Server(Event::Idle) if self.carrier.link.is_empty() => self.close(None),
            Output::PeerClosing => {
                let intake = &mut self.earlier.intake;
                let settled = intake.settle(core);
                let _ = tokio::time::timeout(core.limits.ticket_max, settled).await;
                intake.closed_in_order(core);
                let h = intake.arrived.is_managed().then(|| intake.arrived.h());
                self.driver.machine.finish_close(h);
            }
            Output::Closed(reason) => return Some(ended(reason)),
            _ => {}
        }
        None
    }
}

/// The server goes down, or is gone.
async fn going_down(down: &mut watch::Receiver<bool>) {
    let _ = down.wait_for(|down| *down).await;
}

async fn until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn ended(reason: CloseReason) -> Ended {
    match reason {
        CloseReason::Clean | CloseReason::CloseTimeout => Ended::Quiet,
        CloseReason::Theirs(error) => match error.condition {
            // A server that restarts or tidies up; what waits gets another stream.
            StreamCondition::ConnectionTimeout | StreamCondition::Reset => Ended::Quiet,
            _ => Ended::Failed(Cause::Closed(error)),
        },
        CloseReason::Ours(error) => match error.condition {
            StreamCondition::Reset => Ended::Quiet,
            _ => Ended::Failed(Cause::Ours(error)),
        },
        CloseReason::Failed(failure) => Ended::Failed(Cause::Negotiation(failure)),
        _ => Ended::Failed(Cause::Lost),
    }
}
