//! One connection that another server has made: `Callee`, driver, and what of its stanzas is not
//! done. One task each.
//!
//! Who the peer is, is proven on the stream, pair by pair (`xmpp_stream::stream::s2s`); this file
//! answers its questions and takes its stanzas to the core, one after the other: that is the
//! back-pressure. With stream management the count outlives the connection (`resume`).

use super::back::{Back, BackEvent, at};
use super::carrier::Carrier;
use super::cause::Cause;
use super::connect::FLUSH;
use super::intake::Intake;
use super::link::Link;
use super::list::{Arrival, Facts};
use super::resume::{Parked, Place};
use super::trust;
use super::verify::verify;
use crate::c2s::Shared;
use crate::config::Dialback as DialbackRule;
use crate::core::Core;
use crate::expiry::Expiry;
use crate::listener::ForServers;
use crate::random;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
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
            expiry: Expiry::default(),
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
    /// Of the certificate by which the peer was proven.
    expiry: Expiry,
    on_proven: Option<F>,
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
                    Ok(Turn::Handled) if self.driver.has_rung() => self.look_at_certificate(),
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
                        let written = self.driver.pending() == 0;
                        if let Back::Carries(carrier) = &mut self.back
                            && carrier.is_lost(&core, written)
                        {
                            return Over::Lost;
                        }
                    }
                },
            }
        }
    }

    /// Takes the link's queue, unless somebody else has it.
    fn carry(&mut self, link: Arc<Link>) {
        let facts = || {
            Facts::back(
                &self.core,
                &self.arrival,
                &self.driver.machine,
                self.intake.arrived.is_managed(),
            )
        };
        match link.claim(self.core.clock.now(), facts) {
            true => {
                debug!(to = %link.pair.to, "stanzas go back on this stream");
                let unanswered = link.begin_anew(&self.core, self.intake.arrived.is_managed());
                let larger = link.take_larger(&self.core);
                let core = Arc::clone(&self.core);
                self.core.s2s.spawn(async move {
                    core.bounce_all(unanswered, &Cause::Lost).await;
                    if let Some((stanzas, cause)) = larger {
                        core.bounce_all(stanzas, &cause).await;
                    }
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
            Output::Refused(refused) => {
                let who = self.who();
                self.intake.refused(&core, &who, refused).await;
            }
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
        match &mut self.back {
            // Behind what is on its way already.
            Back::Carries(carrier) => carrier.managed(&self.core, enabled),
            _ => self.send(enabled),
        }
        self.carry_now();
    }

    /// What the log knows the peer by.
    fn who(&self) -> Box<str> {
        let first = self.driver.machine.proven().next();
        first.map_or_else(
            || self.arrival.peer.ip().to_string().into(),
            |(pair, _)| pair.from.clone(),
        )
    }

    /// How often it has happened unsaid; `None`: the log has said the same of this peer already.
    fn news(&self, what: &'static str, cause: &'static str) -> Option<u64> {
        let (core, now) = (&self.core, self.core.clock.now());
        let repeats = &core.s2s.repeats;
        repeats.news(&self.who(), (what, cause), now, &core.limits)
    }

    fn closed(&self, reason: &CloseReason) -> Over {
        match reason {
            CloseReason::Ours(error) if error.condition == StreamCondition::Reset => {}
            CloseReason::Ours(error) => {
                let (condition, reason) = (error.condition.as_str(), error.text.as_deref());
                match self.news("stream closed by us", condition) {
                    Some(times) => warn!(condition, reason, times, "stream closed by us"),
                    None => debug!(condition, reason, "stream closed by us"),
                }
            }
            CloseReason::Theirs(error) => {
                info!(condition = %error.condition, "stream closed by the peer with an error");
            }
            CloseReason::Eof => {
                info!("connection ended without a closing tag");
                return Over::Lost;
            }
            CloseReason::Failed(failure) => match self.news("stream refused", "") {
                Some(times) => warn!(reason = %failure, times, "stream refused"),
                None => debug!(reason = %failure, "stream refused"),
            },
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

    /// Row ce-14: when it is over, the peer has to prove itself anew.
    fn look_at_certificate(&mut self) {
        if self.expiry.is_over(&mut self.driver, &self.core.clock) {
            info!("the peer's certificate is over: stream closed");
            let error = StreamError::new(StreamCondition::Reset);
            self.close(Some(error));
        }
    }

    fn proven(&mut self, pair: Pair, proof: Proof) {
        if proof != Proof::Dialback
            && let Some(tls) = self.driver.machine.tls()
        {
            self.expiry = Expiry::of(tls, self.core.clock.unix_secs());
            self.look_at_certificate();
        }
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
            match self.news("a stream of other domains", "") {
                Some(times) => warn!(times, "a stream of other domains was to be resumed"),
                None => debug!("a stream of other domains was to be resumed"),
            }
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

async fn down(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|down| *down).await.is_err() {
        std::future::pending().await
    }
}

async fn wanted_by(wanted: Option<Arc<tokio::sync::Notify>>) {
    match wanted {
        Some(wanted) => wanted.notified().await,
        None => std::future::pending().await,
    }
}
