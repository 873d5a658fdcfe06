//! One connection that another server has made: `Callee`, driver, and what of its stanzas is not
//! done. One task each.
//!
//! Who the peer is, is proven on the stream, pair by pair (`xmpp_stream::stream::s2s`); this file
//! answers its questions and takes its stanzas to the core, one after the other: that is the
//! back-pressure. With stream management the count outlives the connection (`resume`).

use super::carrier::Carrier;
use super::cause::Cause;
use super::connect::FLUSH;
use super::intake::Intake;
use super::link::{Link, Spare};
use super::list::{Arrival, Facts};
use super::resume::{Parked, Place};
use super::trust;
use super::verify::verify;
use crate::c2s::Shared;
use crate::config::Dialback as DialbackRule;
use crate::core::Core;
use crate::listener::ForServers;
use crate::random;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info, warn};
use xmpp_stream::driver::{Driver, Transport, Turn};
use xmpp_stream::error::{StreamCondition, StreamError};
use xmpp_stream::features::sm;
use xmpp_stream::stanza::Item;
use xmpp_stream::stream::s2s::{
    Answer, Callee, CalleeConfig, Dialback, DialbackCondition, Domains, Event, KeyCheck, Pair,
    PeerVerdict, Proof,
};
use xmpp_stream::stream::{CloseReason, Machine, NotResumed, Output, SmRequest, TlsRule};

/// Times that a stream may be found unused in a row until we close it: its caller would have.
const IDLE_MAX: u32 = 12;
/// Whoever wants stream management says so at once; then nothing of ours stands in between.
const SETTLED: Duration = Duration::from_secs(1);
/// Bytes that a peer may leave untaken before it is no longer read.
const UNREAD_BYTES: usize = 64 * 1024;

/// Served domains, as a stream asks for them.
struct Served(Arc<Core>);

impl Domains for Served {
    fn is_served(&self, domain: &str) -> bool {
        let host = self.0.host(domain);
        host.map_or_else(
            || self.0.settings().components.contains_key(domain),
            |host| !host.is_leaving(),
        )
    }

    fn fallback(&self) -> Box<str> {
        let settings = self.0.settings();
        let first = settings.config.domains.first();
        first.map_or("", |domain| domain.name.as_str()).into()
    }
}

/// Serves one accepted connection to its end. `on_proven` runs once when a pair is proven.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    transport: Box<dyn Transport>,
    peer: SocketAddr,
    direct_tls: bool,
    on_proven: impl FnOnce() + Send,
) {
    let span = tracing::info_span!("s2s-in", id = %random::token(), peer = %peer);
    let connection = async move {
        debug!("connection accepted");
        let core = Arc::clone(&shared.core);
        let settings = core.settings();
        let s2s = &settings.config.s2s;
        let config = CalleeConfig {
            domains: Arc::new(Served(Arc::clone(&core))),
            tls: match (direct_tls, s2s.require_tls) {
                (true, _) => TlsRule::Direct,
                (false, true) => TlsRule::Required,
                (false, false) => TlsRule::Optional,
            },
            dialback: rule(s2s.dialback),
            secret: core.s2s.secret.clone(),
            bidi: true,
            manage: true,
            limits: Arc::clone(&settings.s2s_limits),
        };
        let machine = Callee::new(config, Box::new(random::fill), core.clock.now());
        let mut driver = Box::new(Driver::new(machine, transport));
        let limits = &settings.config.limits;
        driver.set_stall_max(limits.write_stall_max);
        driver.set_read_rate(limits.read_bytes_per_second_max);
        let arrival = core
            .s2s
            .arrivals
            .begin(peer, direct_tls, core.clock.unix_secs());
        let mut connection = Incoming {
            arrival,
            intake: Intake::new(),
            checks: JoinSet::new(),
            place: None,
            idle: 0,
            back: Back::None,
            on_proven: Some(on_proven),
            core,
            shared,
            driver,
        };
        drop(settings);
        if direct_tls && !connection.handshake(None).await {
            return;
        }
        connection.run().await;
    };
    connection.instrument(span).await;
}

/// The rule of the configuration in the machine's words.
pub(super) fn rule(rule: DialbackRule) -> Dialback {
    match rule {
        DialbackRule::Never => Dialback::Never,
        DialbackRule::Tls => Dialback::Tls,
        DialbackRule::Always => Dialback::Always,
    }
}

struct Incoming<F> {
    core: Arc<Core>,
    shared: Arc<Shared>,
    driver: Box<Driver<Callee>>,
    /// What operators are shown of it.
    arrival: Arc<Arrival>,
    /// What comes.
    intake: Intake,
    /// What goes back.
    back: Back,
    /// Keys that are being verified.
    checks: JoinSet<(Pair, Answer)>,
    /// Where the count is left when the connection is lost.
    place: Option<Place>,
    idle: u32,
    on_proven: Option<F>,
}

/// Whether stanzas of ours go back on the stream (XEP-0288).
enum Back {
    /// Nothing does.
    None,
    /// They will from then on, or as soon as the peer has said what it wants of the stream.
    Later(Arc<Link>, Instant),
    /// The link has another stream, and takes this one when that ends.
    Spare(Spare),
    /// The link's queue.
    Carries(Carrier),
}

/// How a connection ended.
enum Over {
    /// The stream was closed; there may be bytes left to write.
    Closed,
    /// The transport is gone without a word.
    Lost,
}

impl<F: FnOnce() + Send> Incoming<F> {
    async fn run(mut self) {
        let over = self.connected().await;
        self.checks.abort_all();
        let link = self.let_go().filter(|_| matches!(over, Over::Lost));
        let core = Arc::clone(&self.core);
        if let Some(link) = link
            && core.is_watched(&link.pair).await
            && link.claim_to_look()
        {
            // Is it there at all? Whoever watches its accounts has to know.
            core.see_to(&link);
        }
        core.s2s.arrivals.end(&self.arrival);
        match over {
            Over::Lost => {
                if let Some(place) = self.place.take() {
                    let parked = Parked {
                        pairs: self
                            .driver
                            .machine
                            .proven()
                            .map(|(pair, _)| pair.clone())
                            .collect(),
                        arrived: std::mem::take(&mut self.intake.arrived),
                    };
                    debug!("connection lost: its count is kept");
                    place.park(parked, core.clock.now(), &core.limits);
                }
                self.driver.abandon();
            }
            Over::Closed => {
                if let Some(place) = self.place.take() {
                    place.forget();
                }
                self.driver.finish(FLUSH).await;
            }
        }
        // What was not committed yet is told all the same.
        let settled = self.intake.settle(&core);
        let _ = tokio::time::timeout(core.limits.ticket_max, settled).await;
    }

    /// The link is somebody else's to carry; gives it, where this stream has carried it.
    fn let_go(&mut self) -> Option<Arc<Link>> {
        let link = match std::mem::replace(&mut self.back, Back::None) {
            Back::None | Back::Later(..) => return None,
            Back::Spare(spare) => Arc::clone(&spare.link),
            Back::Carries(carrier) => {
                carrier
                    .link
                    .carried(carrier.progress, self.core.clock.now());
                self.core.see_to_if_idle(&carrier.link);
                return Some(carrier.link);
            }
        };
        self.core.see_to_if_idle(&link);
        None
    }

    /// The TLS handshake; false when there is none.
    async fn handshake(&mut self, to: Option<&str>) -> bool {
        let source = ForServers(&self.shared.certificates);
        let mut shutdown = self.shared.shutdown.clone();
        let done = tokio::select! {
            done = self.driver.accept_tls(&source, to, to.is_none()) => done,
            () = down(&mut shutdown) => return false,
        };
        match done {
            Ok(info) => {
                self.arrival.secured(&info);
                true
            }
            Err(error) => {
                self.core.tap.metrics.tls_failed.count();
                info!(%error, "TLS handshake failed");
                false
            }
        }
    }

    async fn connected(&mut self) -> Over {
        let mut shutdown = self.shared.shutdown.clone();
        let mut down = pin!(down(&mut shutdown));
        let mut is_down = false;
        loop {
            while !self.intake.is_full(&self.core.limits)
                && let Some(output) = self.driver.machine.poll_output()
            {
                if let Some(over) = self.act(output).await {
                    return over;
                }
            }
            if let Some(h) = self.intake.answer() {
                self.send(sm::ack(h));
            }
            let core = Arc::clone(&self.core);
            let limits = &core.limits;
            if let Back::Carries(carrier) = &mut self.back {
                carrier.fill(&mut self.driver, &core);
            }
            let read = self.driver.pending() < UNREAD_BYTES && !self.intake.is_full(limits);
            let answer_by = self.intake.answer_by();
            let wanted = self.place.as_ref().map(Place::wanted);
            let waits = !self.intake.arrived.is_done();
            let idle = self.driver.pending() == 0 && self.driver.machine.is_open();
            tokio::select! {
                biased;
                () = &mut down, if !is_down => {
                    is_down = true;
                    let error = StreamError::new(StreamCondition::SystemShutdown);
                    self.close(Some(error));
                }
                turn = self.driver.turn(read) => match turn {
                    Ok(Turn::Flushed) => {
                        if let Back::Carries(carrier) = &mut self.back {
                            carrier.flushed(&core);
                        }
                    }
                    Ok(Turn::Handled) if self.driver.had_its_turn(limits.turn_bytes_max) => {
                        tokio::task::yield_now().await;
                    }
                    Ok(Turn::Handled) => {}
                    Err(error) => {
                        info!(%error, "connection lost");
                        return Over::Lost;
                    }
                },
                () = self.intake.progress(), if waits => self.intake.tell_failed(&core).await,
                Some(checked) = self.checks.join_next() => {
                    if let Ok((pair, answer)) = checked {
                        let now = core.clock.now();
                        self.driver.machine.key_checked(&pair, answer, now);
                    }
                }
                () = wanted_by(wanted) => {
                    info!("the peer goes on over another connection");
                    return Over::Lost;
                }
                () = at(answer_by), if answer_by.is_some() => {
                    let h = self.intake.answer_now();
                    self.send(sm::ack(h));
                }
                event = self.back.event(&core, idle) => match event {
                    BackEvent::More => {}
                    BackEvent::Free(link) => self.carry(link),
                    BackEvent::Silent => {
                        info!("no acknowledgement: connection lost");
                        return Over::Lost;
                    }
                },
            }
        }
    }

    /// Takes the link's queue, unless somebody else has it.
    fn carry(&mut self, link: Arc<Link>) {
        let facts = || {
            let tls = self.driver.machine.tls();
            Facts::back(
                &self.core,
                &self.arrival,
                tls,
                self.intake.arrived.is_managed(),
            )
        };
        match link.claim(self.core.clock.now(), facts) {
            true => {
                debug!(to = %link.pair.to, "stanzas go back on this stream");
                let unanswered = link.begin_anew(&self.core, self.intake.arrived.is_managed());
                let core = Arc::clone(&self.core);
                self.core.s2s.spawn(async move {
                    core.bounce_all(unanswered, &Cause::Lost).await;
                });
                self.back = Back::Carries(Carrier::new(link));
            }
            false => self.back = Back::Spare(link.spare()),
        }
    }

    /// Carries out one output of the machine.
    async fn act(&mut self, output: Output) -> Option<Over> {
        let core = Arc::clone(&self.core);
        match output {
            Output::StartTls { to } => {
                let is_secure = self.handshake(Some(&to)).await;
                return (!is_secure).then_some(Over::Lost);
            }
            Output::Server(event) => self.event(event).await,
            Output::Stanza(stanza) => {
                self.idle = 0;
                self.carry_now();
                self.intake.stanza(&core, stanza).await;
            }
            Output::Refused(refused) => self.intake.refused(&core, refused).await,
            Output::Sm(SmRequest::Enable { resume, .. }) => self.manage(resume),
            Output::Sm(SmRequest::Ask) => self.intake.ask(&core),
            Output::Sm(SmRequest::Ack(h)) => {
                if let Back::Carries(carrier) = &mut self.back {
                    carrier.acknowledged(&mut self.driver, &core, h);
                }
            }
            Output::PeerClosing => {
                let settled = self.intake.settle(&core);
                let _ = tokio::time::timeout(core.limits.ticket_max, settled).await;
                self.intake.closed_in_order(&core);
                let arrived = &self.intake.arrived;
                let h = arrived.is_managed().then(|| arrived.h());
                self.driver.machine.finish_close(h);
            }
            Output::Closed(reason) => {
                if let CloseReason::Ours(error) = &reason {
                    let metrics = &self.core.tap.metrics;
                    metrics.stream_errors.count_at(error.condition as usize);
                }
                return Some(self.closed(&reason));
            }
            _ => {}
        }
        None
    }

    /// The peer wants its stanzas counted, and counts ours.
    fn manage(&mut self, resume: bool) {
        self.intake.arrived.manage();
        let within = self.core.limits.sm_resume;
        self.place = resume.then(|| self.core.s2s.resumable.begin());
        let token = self.place.as_ref().map(Place::token);
        let enabled = sm::enabled(token.map(|token| (token, within.as_secs())));
        match &self.back {
            // Behind what is on its way already.
            Back::Carries(carrier) => carrier.link.outbox.count(enabled, &self.core.limits),
            _ => self.send(enabled),
        }
        self.carry_now();
    }

    fn closed(&self, reason: &CloseReason) -> Over {
        match reason {
            CloseReason::Ours(error) => {
                warn!(condition = %error.condition, reason = error.text.as_deref(), "stream closed by us");
            }
            CloseReason::Theirs(error) => {
                info!(condition = %error.condition, "stream closed by the peer with an error");
            }
            CloseReason::Eof => {
                info!("connection ended without a closing tag");
                return Over::Lost;
            }
            CloseReason::Failed(failure) => warn!(reason = %failure, "stream refused"),
            _ => debug!("stream closed"),
        }
        Over::Closed
    }

    async fn event(&mut self, event: Event) {
        let now = self.core.clock.now();
        match event {
            Event::CheckPeer { peer, .. } => {
                let verdict = self.judge(&peer);
                self.driver.machine.peer_checked(verdict, now);
            }
            Event::CheckKey(check) => self.check_key(check),
            Event::Proven(pair, proof) => self.proven(pair, proof),
            Event::Resume { pairs, previd, .. } => {
                let answer = self.resume(&pairs, &previd).await;
                let answer = answer.ok_or(NotResumed { h: None });
                self.driver.machine.resumed(answer, now);
            }
            Event::Idle => {
                self.idle += 1;
                if self.idle >= IDLE_MAX {
                    self.close(None);
                }
            }
            _ => {}
        }
    }

    /// Is the peer who it says, and do we talk to it?
    fn judge(&self, peer: &str) -> PeerVerdict {
        let settings = self.core.settings();
        if !settings.config.s2s.admits(peer) {
            info!(domain = peer, "link refused by policy");
            let error = StreamError::new(StreamCondition::PolicyViolation);
            return PeerVerdict::Refused(error.with_text("no links with this domain"));
        }
        let tls = self.driver.machine.tls();
        let verdict = trust::verdict(&self.core, &settings, tls, peer);
        if let PeerVerdict::Untrusted(cause) = &verdict {
            debug!(domain = peer, reason = %cause, "certificate does not prove it");
        }
        verdict
    }

    fn check_key(&mut self, check: KeyCheck) {
        let admitted = self.core.settings().config.s2s.admits(&check.pair.from);
        let core = Arc::clone(&self.core);
        self.checks.spawn(async move {
            let pair = check.pair.clone();
            let answer = match admitted {
                true => verify(&core, check).await,
                false => Answer::error(DialbackCondition::PolicyViolation),
            };
            (pair, answer)
        });
    }

    fn proven(&mut self, pair: Pair, proof: Proof) {
        info!(from = %pair.from, to = %pair.to, proof = proof.as_str(), "peer proven");
        if let Some(on_proven) = self.on_proven.take() {
            on_proven();
        }
        let back = pair.reversed();
        self.core.peer_lives(&back);
        self.arrival.proven(pair, proof);
        // One link alone: what is counted is counted for the stream.
        let may = self.driver.machine.is_bidi() && matches!(self.back, Back::None);
        let (now, limits) = (self.core.clock.now(), &self.core.limits);
        if let Some(link) = may.then(|| self.core.s2s.link(back, now, limits)).flatten() {
            self.back = Back::Later(link, now + SETTLED);
        }
    }

    /// The peer has said what it wants of the stream.
    fn carry_now(&mut self) {
        if let Back::Later(link, _) = &self.back {
            let link = Arc::clone(link);
            self.carry(link);
        }
    }

    /// Goes on with the count of an earlier stream of the same pairs; gives what was handled on it.
    async fn resume(&mut self, pairs: &[Pair], previd: &str) -> Option<u32> {
        let core = Arc::clone(&self.core);
        let place = core.s2s.resumable.find(previd)?;
        let parked = place.take(core.limits.replace_max).await?;
        if !parked.pairs.iter().all(|pair| pairs.contains(pair)) {
            warn!("a stream of other domains was to be resumed");
            place.park(parked, core.clock.now(), &core.limits);
            return None;
        }
        self.intake.arrived = parked.arrived;
        // What goes back is counted from another point now.
        self.let_go();
        let settled = self.intake.settle(&core);
        let _ = tokio::time::timeout(core.limits.ticket_max * 2, settled).await;
        self.place = Some(place);
        let h = self.intake.arrived.h();
        info!(h, "stream resumed");
        Some(h)
    }

    fn send(&mut self, nonza: Box<[u8]>) {
        self.driver.machine.send::<()>(&Item::Nonza(nonza));
    }

    fn close(&mut self, error: Option<StreamError>) {
        if self.intake.arrived.is_managed() {
            self.send(sm::ack(self.intake.arrived.h()));
        }
        self.driver.machine.close(error, self.core.clock.now());
    }
}

/// What concerns the way back.
enum BackEvent {
    /// There is more to be sent.
    More,
    /// The link has no other stream any more.
    Free(Arc<Link>),
    /// Our question was not answered.
    Silent,
}

impl Back {
    /// `idle`: something could be sent.
    async fn event(&self, core: &Core, idle: bool) -> BackEvent {
        match self {
            Self::None => std::future::pending().await,
            Self::Later(link, until) => {
                at(Some(*until)).await;
                BackEvent::Free(Arc::clone(link))
            }
            Self::Spare(spare) => {
                spare.is_wanted().await;
                BackEvent::Free(Arc::clone(&spare.link))
            }
            Self::Carries(carrier) => {
                let answer_by = carrier.answer_by(core);
                tokio::select! {
                    () = poll_fn(|cx| carrier.link.outbox.poll_more(cx, &core.limits)), if idle => {
                        BackEvent::More
                    }
                    () = at(answer_by) => BackEvent::Silent,
                }
            }
        }
    }
}

async fn down(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|down| *down).await.is_err() {
        std::future::pending().await
    }
}

async fn at(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn wanted_by(wanted: Option<Arc<tokio::sync::Notify>>) {
    match wanted {
        Some(wanted) => wanted.notified().await,
        None => std::future::pending().await,
    }
}
