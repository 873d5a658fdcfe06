//! One connection that another server has made: `Callee`, driver, and what of its stanzas is not
//! done. One task each.
//!
//! Who the peer is, is proven on the stream, pair by pair (`xmpp_stream::stream::s2s`); this file
//! answers its questions and takes its stanzas to the core, one after the other: that is the
//! back-pressure. With stream management the count outlives the connection (`resume`).

use super::arrived::Arrived;
use super::connect::FLUSH;
use super::list::Arrival;
use super::receive::Origin;
use super::resent::{Known, Look};
use super::resume::{Parked, Place};
use super::trust;
use super::verify::verify;
use crate::c2s::Shared;
use crate::config::Dialback as DialbackRule;
use crate::core::Core;
use crate::effect::Effect;
use crate::listener::ForServers;
use crate::random;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, debug, info, warn};
use xmpp_stream::driver::{Driver, Transport, Turn};
use xmpp_stream::error::{StreamCondition, StreamError};
use xmpp_stream::features::sm;
use xmpp_stream::stanza::{Item, Stanza};
use xmpp_stream::stream::s2s::{
    Answer, Callee, CalleeConfig, Dialback, DialbackCondition, Domains, Event, KeyCheck, Pair,
    PeerVerdict, Proof,
};
use xmpp_stream::stream::{CloseReason, Machine, NotResumed, Output, SmRequest, TlsRule};

/// Times that a stream may be found unused in a row until we close it: its caller would have.
const IDLE_MAX: u32 = 12;
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
            bidi: false,
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
            arrived: Arrived::default(),
            failed: Vec::new(),
            checks: JoinSet::new(),
            place: None,
            asked: None,
            idle: 0,
            known: Known::new(random::number()),
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
    /// What has come and is not done.
    arrived: Arrived,
    /// Errors to be sent for what could not be stored.
    failed: Vec<Stanza>,
    /// Keys that are being verified.
    checks: JoinSet<(Pair, Answer)>,
    /// Where the count is left when the connection is lost.
    place: Option<Place>,
    /// The peer wants to know how much was handled: all up to here, then at the latest.
    asked: Option<(u32, Instant)>,
    idle: u32,
    /// What its senders sent on earlier streams.
    known: Known,
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
        let core = Arc::clone(&self.core);
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
                        arrived: std::mem::take(&mut self.arrived),
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
        let _ = tokio::time::timeout(core.limits.ticket_max, self.settle()).await;
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
            while !self.arrived.is_full(&self.core.limits)
                && let Some(output) = self.driver.machine.poll_output()
            {
                if let Some(over) = self.act(output).await {
                    return over;
                }
            }
            self.acknowledge();
            let core = Arc::clone(&self.core);
            let limits = &core.limits;
            let read = self.driver.pending() < UNREAD_BYTES && !self.arrived.is_full(limits);
            let until = self.asked.map(|(_, until)| until);
            let wanted = self.place.as_ref().map(Place::wanted);
            let (arrived, failed) = (&mut self.arrived, &mut self.failed);
            let waits = !arrived.is_done();
            tokio::select! {
                biased;
                () = &mut down, if !is_down => {
                    is_down = true;
                    let error = StreamError::new(StreamCondition::SystemShutdown);
                    self.close(Some(error));
                }
                turn = self.driver.turn(read) => match turn {
                    Ok(Turn::Handled) if self.driver.had_its_turn(limits.turn_bytes_max) => {
                        tokio::task::yield_now().await;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        info!(%error, "connection lost");
                        return Over::Lost;
                    }
                },
                () = poll_fn(|cx| arrived.poll_done(cx, failed)), if waits => {
                    self.tell_failed().await;
                }
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
                () = at(until), if until.is_some() => self.answer(),
            }
        }
    }

    /// Carries out one output of the machine.
    async fn act(&mut self, output: Output) -> Option<Over> {
        let now = self.core.clock.now();
        match output {
            Output::StartTls { to } => {
                if !self.handshake(Some(&to)).await {
                    return Some(Over::Lost);
                }
            }
            Output::Server(event) => self.event(event).await,
            Output::Stanza(stanza) => self.stanza(stanza).await,
            Output::Refused(refused) => {
                warn!(condition = %refused.condition, "stanza refused");
                if let Some(reply) = refused.reply() {
                    self.core.run(None, vec![Effect::route(reply)].into()).await;
                }
                self.arrived.push(Default::default(), 0);
            }
            Output::Sm(SmRequest::Enable { resume, .. }) => {
                self.arrived.manage();
                let within = self.core.limits.sm_resume;
                self.place = resume.then(|| self.core.s2s.resumable.begin());
                let token = self.place.as_ref().map(Place::token);
                self.send(sm::enabled(token.map(|token| (token, within.as_secs()))));
            }
            Output::Sm(SmRequest::Ask) => {
                let until = now + self.core.limits.sm_ack_wait;
                let until = self.asked.map_or(until, |(_, until)| until);
                self.asked = Some((self.arrived.received(), until));
            }
            Output::Sm(_) => {}
            Output::PeerClosing => {
                let wait = self.core.limits.ticket_max;
                let _ = tokio::time::timeout(wait, self.settle()).await;
                let h = self.arrived.is_managed().then(|| self.arrived.h());
                if h.is_some() && self.arrived.is_done() {
                    // Its sender knows what was handled, and sends nothing of it again.
                    self.core
                        .ended
                        .closed(self.known.stream(), &self.core.limits);
                }
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
        self.core.peer_lives(&pair.reversed());
        self.arrival.proven(pair, proof);
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
        self.arrived = parked.arrived;
        let _ = tokio::time::timeout(core.limits.ticket_max * 2, self.settle()).await;
        self.place = Some(place);
        info!(h = self.arrived.h(), "stream resumed");
        Some(self.arrived.h())
    }

    /// One stanza of a proven pair.
    async fn stanza(&mut self, stanza: Stanza) {
        self.idle = 0;
        self.core.tap.metrics.s2s_received.count();
        let bytes = stanza.wire_len();
        let core = Arc::clone(&self.core);
        let sent = match self.known.look(&core, &stanza).await {
            Look::Known => return self.arrived.push(Default::default(), bytes),
            Look::New(sent) => sent,
        };
        let received = Box::pin(core.from_remote(stanza, sent, Origin::Server)).await;
        self.arrived.push(received.owed, bytes);
        if received.soft {
            tokio::time::sleep(core.limits.outbox_pause_max).await;
        }
    }

    /// Tells the peer what was handled, when it has asked and that is done.
    fn acknowledge(&mut self) {
        if let Some((upto, _)) = self.asked
            && (upto.wrapping_sub(self.arrived.h()) as i32) <= 0
        {
            self.answer();
        }
    }

    /// What is not done yet the peer asks for again.
    fn answer(&mut self) {
        self.asked = None;
        self.send(sm::ack(self.arrived.h()));
    }

    /// Waits until everything that came is done.
    async fn settle(&mut self) {
        while !self.arrived.is_done() {
            let (arrived, failed) = (&mut self.arrived, &mut self.failed);
            poll_fn(|cx| arrived.poll_done(cx, failed)).await;
        }
        self.tell_failed().await;
    }

    async fn tell_failed(&mut self) {
        for reply in std::mem::take(&mut self.failed) {
            self.core.run(None, vec![Effect::route(reply)].into()).await;
        }
    }

    fn send(&mut self, nonza: Box<[u8]>) {
        self.driver.machine.send::<()>(&Item::Nonza(nonza));
    }

    fn close(&mut self, error: Option<StreamError>) {
        if self.arrived.is_managed() {
            self.send(sm::ack(self.arrived.h()));
        }
        self.driver.machine.close(error, self.core.clock.now());
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
