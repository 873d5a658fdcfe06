//! The task of a link: makes its streams, one after the other, and carries its queue over them.
//!
//! RFC 6120 sections 3 and 10.4, XEP-0198. What was sent and not acknowledged stays in the queue; a
//! stream that cannot be resumed gets it again, but for requests, which their senders are told of:
//! nobody can know whether they were carried out.

use super::cause::Cause;
use super::chance;
use super::connect::{Connected, FLUSH, Outcome, What, Wish, connect};
use super::link::{Failed, Link, Phase, Step};
use super::list::Facts;
use super::policy::{self, Next};
use crate::core::Core;
use crate::store::RowId;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{Instrument, debug, info, warn};
use xmpp_stream::driver::{Driver, Turn};
use xmpp_stream::error::StreamCondition;
use xmpp_stream::features::sm;
use xmpp_stream::stanza::Item;
use xmpp_stream::stream::s2s::{Caller, Event, Manage};
use xmpp_stream::stream::{CloseReason, Machine, Output, SmAnswer, SmRequest};

/// What is worth one write: a TLS record.
const WRITE_BYTES: usize = 16 * 1024;
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

/// The stream before, when it can be resumed.
#[derive(Default)]
struct Earlier {
    id: Option<Box<str>>,
}

/// Sees to a link until nothing waits for it.
pub(super) async fn run(core: Arc<Core>, link: Arc<Link>) {
    let span = tracing::info_span!("s2s-out", from = %link.pair.from, to = %link.pair.to);
    see_to(core, link).instrument(span).await;
}

async fn see_to(core: Arc<Core>, link: Arc<Link>) {
    let mut earlier = Earlier::default();
    let mut down = core.s2s.down();
    loop {
        let ended = Box::pin(one_stream(&core, &link, &mut earlier, down.clone())).await;
        let delay = match ended {
            Ended::Down => return link.rest_for_good(),
            Ended::Quiet => match link.rest() {
                true => return,
                false => Duration::ZERO,
            },
            Ended::Failed(cause) => match failed(&core, &link, cause).await {
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
async fn failed(core: &Arc<Core>, link: &Arc<Link>, cause: Cause) -> Option<Duration> {
    let now = core.clock.now();
    let (tries, down_for) = {
        let mut state = link.lock();
        let tries = state.failed.as_ref().map_or(0, |failed| failed.tries) + 1;
        let told = (&cause, now);
        let is_news = state.logged.as_ref().is_none_or(|(logged, at)| {
            logged != told.0 || now.saturating_duration_since(*at) >= core.limits.s2s_log_again
        });
        if is_news {
            state.logged = Some((cause.clone(), now));
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
            let rests = link.rest();
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
    let manage = match &earlier.id {
        Some(previd) => Manage::Resume {
            previd: previd.clone(),
            h: 0,
        },
        None => Manage::Enable,
    };
    let step = |step: Step| link.lock().phase = Phase::Connecting(step);
    let wish = Wish {
        what: What::Stanzas(manage),
        bidi: false,
    };
    let made = tokio::select! {
        made = Box::pin(connect(core, &link.pair, &wish, &step)) => made,
        _ = down.wait_for(|down| *down) => return Ended::Down,
    };
    let connected = match made {
        Ok(Outcome::Stream(connected)) => *connected,
        Ok(Outcome::Answer(_)) => return Ended::Failed(Cause::Lost),
        Err(cause) => return Ended::Failed(cause),
    };
    if connected.link.resumed.is_none() {
        earlier.id = None;
    }
    let unanswered = begin(core, link, &connected);
    let back = core.bounce_all(unanswered, &Cause::Lost);
    Box::pin(back).await;
    let began = core.clock.now();
    let mut stream = Stream {
        core,
        link,
        driver: connected.driver,
        earlier,
        progress: false,
        asking: None,
    };
    let ended = stream.carry(&mut down).await;
    let Stream {
        driver, progress, ..
    } = stream;
    tokio::spawn(finish(driver));
    let now = core.clock.now();
    let mut state = link.lock();
    state.phase = Phase::Idle;
    // One that breaks at once each time is no link.
    if progress || now.saturating_duration_since(began) >= STEADY {
        state.up_at = Some(now);
        state.failed = None;
        state.logged = None;
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
    drop(state);
    unanswered
}

/// Writes what is left and closes, beside whatever comes next.
async fn finish(mut driver: Box<Driver<Caller>>) {
    driver.finish(FLUSH).await;
}

/// A stream on which the queue flows.
struct Stream<'a> {
    core: &'a Arc<Core>,
    link: &'a Arc<Link>,
    driver: Box<Driver<Caller>>,
    earlier: &'a mut Earlier,
    /// Something was taken by the other server.
    progress: bool,
    /// Since when our question waits.
    asking: Option<std::time::Instant>,
}

impl Stream<'_> {
    async fn carry(&mut self, down: &mut watch::Receiver<bool>) -> Ended {
        let mut is_down = false;
        loop {
            while let Some(output) = self.driver.machine.poll_output() {
                if let Some(ended) = self.act(output) {
                    return match is_down {
                        true => Ended::Down,
                        false => ended,
                    };
                }
            }
            self.fill();
            if is_down && self.is_done() {
                self.close();
            }
            let limits = &self.core.limits;
            let idle = self.driver.pending() == 0 && self.driver.machine.is_open();
            let answer_by = self
                .asking
                .map(|since| since + limits.stream.silence_answer_max);
            let turn = tokio::select! {
                biased;
                _ = down.wait_for(|down| *down), if !is_down => {
                    is_down = true;
                    continue;
                }
                turn = self.driver.turn(true) => turn,
                () = poll_fn(|cx| self.link.outbox.poll_more(cx, limits)), if idle => continue,
                () = until(answer_by), if answer_by.is_some() => {
                    info!("no acknowledgement: connection lost");
                    return Ended::Failed(Cause::Lost);
                }
            };
            match turn {
                Ok(Turn::Flushed) => {
                    let before = self.link.outbox.load().0;
                    let rows = self.link.outbox.flushed();
                    self.took(before, &rows);
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
        let outbox = &self.link.outbox;
        let unacknowledged = outbox.unacknowledged().unwrap_or_default();
        self.driver.machine.is_open()
            && self.driver.pending() == 0
            && outbox.is_all_sent()
            && unacknowledged == 0
    }

    fn close(&mut self) {
        let now = self.core.clock.now();
        self.driver.machine.close(None, now);
    }

    /// Copies items of the queue into the machine, a record at most, when the last batch has left.
    fn fill(&mut self) {
        if self.driver.pending() > 0 || !self.driver.machine.is_open() {
            return;
        }
        let machine = &mut self.driver.machine;
        let metrics = &self.core.tap.metrics;
        let sent = self.link.outbox.send(&self.core.limits, |item| {
            machine.send(item);
            metrics.s2s_sent.count();
            machine.is_open() && machine.pending_bytes() < WRITE_BYTES
        });
        if sent.counted {
            self.driver.machine.ask();
            self.asking.get_or_insert_with(crate::clock::now);
        }
    }

    fn act(&mut self, output: Output) -> Option<Ended> {
        match output {
            Output::Sm(SmRequest::Ack(h)) => self.acknowledged(h),
            Output::Sm(SmRequest::Ask) => {
                // Nothing of theirs comes on this stream.
                let none = Item::<()>::Nonza(sm::ack(0));
                self.driver.machine.send(&none);
            }
            Output::Managed(SmAnswer::Enabled { id, .. }) => self.earlier.id = id,
            Output::Managed(SmAnswer::Failed { .. }) => {
                self.asking = None;
                self.link.outbox.uncount();
            }
            Output::Server(Event::Idle) if self.link.is_empty() => self.close(),
            Output::PeerClosing => self.driver.machine.finish_close(None),
            Output::Stanza(stanza) => {
                debug!(
                    kind = stanza.kind.as_str(),
                    "stanza on a stream of one direction"
                );
            }
            Output::Closed(reason) => return Some(ended(reason)),
            _ => {}
        }
        None
    }

    fn took(&mut self, before: usize, rows: &[RowId]) {
        self.link.took(self.core, rows);
        self.progress |= self.link.outbox.load().0 < before;
    }

    fn acknowledged(&mut self, h: u32) {
        let before = self.link.outbox.load().0;
        match self.link.outbox.acknowledged(h) {
            Ok(rows) => {
                self.took(before, &rows);
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
                self.driver.machine.close(Some(error), crate::clock::now());
            }
        }
    }
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
            StreamCondition::ConnectionTimeout => Ended::Quiet,
            _ => Ended::Failed(Cause::Closed(error)),
        },
        CloseReason::Ours(error) => Ended::Failed(Cause::Ours(error)),
        CloseReason::Failed(failure) => Ended::Failed(Cause::Negotiation(failure)),
        _ => Ended::Failed(Cause::Lost),
    }
}
