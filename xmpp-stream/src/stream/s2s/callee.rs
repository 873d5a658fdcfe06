//! The accepting side of a stream between servers: any number of proven domain pairs.
//!
//! RFC 6120 sections 4.3, 5 and 6 for the receiving server, with SASL EXTERNAL (XEP-0178 section 3)
//! and dialback (XEP-0220 section 2.2), both at once where a peer multiplexes. Nothing of a domain
//! passes before the pair is proven. Deliberately absent: version 0 streams.

mod dialback;
mod greeting;
mod login;
mod open;

use super::flow::{self, Flow};
use super::{Dialback, Distrust, Event, Pair, PeerLimits, PeerVerdict, Proof, Secret};
use crate::error::{SaslCondition, StreamCondition, StreamError};
use crate::features::{sm, starttls};
use crate::limits::Limits;
use crate::ns;
use crate::stanza::Item;
use crate::stream::header::LANG;
use crate::stream::wire::Wire;
use crate::stream::{CloseReason, Machine, Output, RandomSource, TlsInfo, TlsRule};
use crate::xml::writer::StreamOpen;
use crate::xml::{Element, Frame};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Domains for which stanzas are taken.
pub trait Domains: Send + Sync {
    /// True for a domain (in prepared form) that is served here.
    fn is_served(&self, domain: &str) -> bool;
    /// What `from` says when `to` names nothing we serve.
    fn fallback(&self) -> Box<str>;
}

/// Fixed facts of an accepted stream of another server.
#[derive(Clone)]
pub struct CalleeConfig {
    /// Served domains.
    pub domains: Arc<dyn Domains>,
    /// TLS policy.
    pub tls: TlsRule,
    /// Where dialback proves who the peer is.
    pub dialback: Dialback,
    /// Our own dialback keys are made of it: the peer may ask whether one is ours.
    pub secret: Secret,
    /// Stanzas may go back on this stream (XEP-0288).
    pub bidi: bool,
    /// Stream management is offered (XEP-0198).
    pub manage: bool,
    /// Bounds; shared. `after_auth` has to be `XmlLimits::s2s()`.
    pub limits: Arc<Limits>,
}

/// The accepting side, from the first byte to the closing tag.
///
/// ```text
///             ┌── after TLS, after EXTERNAL ──┐
///             ▼                               │
///        AwaitHeader ──► AwaitPeer ──► AwaitFeature ──► AwaitTls
///             │ signed in               │  └──► AwaitResponse
///             └───────────► Open ◄──────┘ a pair proven by dialback
///                            ├──► AwaitResumed
///                            └──► AwaitClose, Closing ──► Closed
/// ```
///
/// In `AwaitTls`, `AwaitPeer`, `AwaitResumed` and `AwaitClose` it waits for our own side and takes
/// no input. While keys are verified it goes on.
pub struct Callee {
    config: CalleeConfig,
    wire: Wire,
    state: State,
    tls: Option<TlsInfo>,
    /// The id that we have given the stream.
    stream_id: Box<str>,
    /// The domain for which the peer's certificate is good.
    trusted: Option<Box<str>>,
    distrust: Option<Distrust>,
    /// Who has signed in by EXTERNAL.
    signed_in: Option<Pair>,
    proven: BTreeMap<Pair, Proof>,
    /// The proven pair of the last stanza: mostly that of the next too.
    last: Option<Pair>,
    /// Pairs whose keys are being verified.
    pending: Vec<Pair>,
    is_bidi: bool,
    peer_limits: PeerLimits,
    refusals: u32,
    verified: u32,
    /// Until when a pair has to be proven.
    deadline: Option<Instant>,
}

enum State {
    AwaitHeader,
    AwaitTls,
    AwaitPeer(Box<Stage>),
    AwaitFeature(Box<Stage>),
    /// EXTERNAL was chosen without saying for whom.
    AwaitResponse(Box<Stage>),
    /// An earlier stream is looked for, by its id.
    AwaitResumed(Box<Flow>, Box<str>),
    Open(Box<Flow>),
    AwaitClose(Box<Flow>),
    Closing(Option<Instant>),
    Closed,
}

/// What the stream header in force said.
struct Stage {
    local: Box<str>,
    peer: Option<Box<str>>,
}

impl Callee {
    /// Waits for the peer's header, or for TLS where that comes first. `random`: stream ids.
    pub fn new(config: CalleeConfig, random: RandomSource, now: Instant) -> Self {
        let deadline = now.checked_add(config.limits.negotiation_max);
        let wire = Wire::between(ns::SERVER, config.limits.before_auth, random);
        let state = match config.tls {
            TlsRule::Direct => State::AwaitTls,
            TlsRule::Required | TlsRule::Optional => State::AwaitHeader,
        };
        Self {
            config,
            wire,
            state,
            tls: None,
            stream_id: Box::default(),
            trusted: None,
            distrust: None,
            signed_in: None,
            proven: BTreeMap::new(),
            last: None,
            pending: Vec::new(),
            is_bidi: false,
            peer_limits: PeerLimits::default(),
            refusals: 0,
            verified: 0,
            deadline,
        }
    }

    /// Answers `Event::CheckPeer`.
    pub fn peer_checked(&mut self, verdict: PeerVerdict, now: Instant) {
        match self.take_state() {
            State::AwaitPeer(stage) => {
                let state = match verdict {
                    PeerVerdict::Trusted => {
                        self.trusted.clone_from(&stage.peer);
                        self.features(stage)
                    }
                    PeerVerdict::Untrusted(cause) => {
                        self.distrust = Some(cause);
                        self.features(stage)
                    }
                    PeerVerdict::Refused(error) => Err(error),
                };
                self.settle(state);
                self.resume(now);
            }
            other => self.state = other,
        }
    }

    /// Sends a stanza or element; false, and nothing is sent, when the stream is not open for it: a
    /// stanza goes only where the peer has asked for both directions, against a proven pair.
    pub fn send<D>(&mut self, item: &Item<D>) -> bool {
        let (State::Open(flow) | State::AwaitClose(flow)) = &mut self.state else {
            return false;
        };
        if let Some(stanza) = flow::stanza_of(item) {
            let pair = flow::pair_of(stanza).map(|pair| pair.reversed());
            if !self.is_bidi || !pair.is_some_and(|pair| self.proven.contains_key(&pair)) {
                return false;
            }
            flow.sent();
        }
        if let Some(error) = flow::write_item(item, &mut self.wire.out) {
            self.fail(error);
        }
        true
    }

    /// Asks how many stanzas the peer has handled; nothing where it does not count.
    pub fn ask(&mut self) {
        if matches!(&self.state, State::Open(flow) if flow.is_managed()) {
            sm::write_ask(&mut self.wire.out);
        }
    }

    /// Closes from our side, with an error or cleanly.
    pub fn close(&mut self, error: Option<StreamError>, now: Instant) {
        match (self.take_state(), error) {
            (state @ (State::Closed | State::Closing(_)), _) => self.state = state,
            // Nothing may be written in clear any more.
            (State::AwaitTls, _) => self.end(CloseReason::TlsFailed),
            (_, Some(error)) => self.fail(error),
            (State::AwaitClose(_), None) => self.answer_close(CloseReason::Clean),
            (_, None) => {
                self.open_for_closing();
                self.wire.footer();
                let until = now.checked_add(self.config.limits.close_max);
                self.state = State::Closing(until);
                self.resume(now);
            }
        }
    }

    /// Answers `Output::PeerClosing`: with stream management, so many stanzas were handled.
    pub fn finish_close(&mut self, h: Option<u32>) {
        if matches!(self.state, State::AwaitClose(_)) {
            if let Some(h) = h {
                sm::write_ack(&mut self.wire.out, h);
            }
            self.answer_close(CloseReason::Clean);
        }
    }

    /// True once a pair is proven, and not closing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// What TLS gave us.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()
    }

    /// What is wrong with the peer's certificate.
    #[must_use]
    pub fn distrust(&self) -> Option<&Distrust> {
        self.distrust.as_ref()
    }

    /// The id that we have given the stream.
    #[must_use]
    pub fn stream_id(&self) -> &str {
        &self.stream_id
    }

    /// The proven pairs, and how.
    pub fn proven(&self) -> impl Iterator<Item = (&Pair, Proof)> {
        self.proven.iter().map(|(pair, proof)| (pair, *proof))
    }

    /// Stanzas may go back on this stream.
    #[must_use]
    pub fn is_bidi(&self) -> bool {
        self.is_bidi
    }

    /// What the peer takes of ours, where it has said so with the wish for both directions (XEP-0478).
    #[must_use]
    pub fn peer_limits(&self) -> PeerLimits {
        self.peer_limits
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }

    /// Handles what was held back while we waited for our own side.
    fn resume(&mut self, now: Instant) {
        let held = std::mem::take(&mut self.wire.held);
        if !held.is_empty() {
            self.run(&held, now);
        }
    }

    fn run(&mut self, mut data: &[u8], now: Instant) {
        while self.wants_input() {
            match self.wire.next(&mut data) {
                Ok(Some(frame)) => {
                    let state = self.take_state();
                    let state = self.step(state, frame, !data.is_empty(), now);
                    self.settle(state);
                }
                Ok(None) => return,
                Err(error) => return self.fail(StreamError::from(&error)),
            }
        }
        if !matches!(self.state, State::Closed) {
            self.wire.held.extend_from_slice(data);
        }
    }

    fn settle(&mut self, state: Result<State, StreamError>) {
        match state {
            Ok(state) => self.state = state,
            Err(error) => self.fail(error),
        }
        if self.is_open() {
            self.deadline = None;
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.pending.clear();
        self.wire.over(reason);
    }

    /// The stream error and the end (RFC 6120 section 4.9.1). The opening tag comes first (4.9.1.2).
    fn fail(&mut self, error: StreamError) {
        self.open_for_closing();
        self.wire.write_error(&error);
        self.end(CloseReason::Ours(error));
    }

    fn answer_close(&mut self, reason: CloseReason) {
        self.open_for_closing();
        self.wire.footer();
        self.end(reason);
    }

    fn open_for_closing(&mut self) {
        if !self.wire.opened {
            let fallback = self.config.domains.fallback();
            self.open(&fallback, None, true);
        }
    }

    fn open(&mut self, from: &str, to: Option<&str>, version: bool) {
        self.stream_id = self.wire.token().into();
        let opening = StreamOpen {
            content_ns: ns::SERVER,
            from: Some(from),
            to,
            id: Some(&self.stream_id),
            lang: Some(LANG),
            version,
        };
        self.wire.open(&opening);
    }

    /// One change: what came, in the state it came in.
    fn step(
        &mut self,
        state: State,
        frame: Frame,
        more: bool,
        now: Instant,
    ) -> Result<State, StreamError> {
        match (state, frame) {
            (State::Closing(until), frame) => Ok(self.closing(until, frame)),
            (_, Frame::Nonza(element)) if element.is(ns::STREAMS, "error") => {
                self.answer_close(CloseReason::Theirs(StreamError::from_element(&element)));
                Ok(State::Closed)
            }
            (State::Open(flow), frame) => self.opened(flow, frame),
            (_, Frame::Footer) => {
                self.answer_close(CloseReason::Clean);
                Ok(State::Closed)
            }
            (State::AwaitHeader, Frame::Header(header)) => self.header(&header, now),
            (State::AwaitFeature(stage), Frame::Nonza(element)) => {
                self.feature(stage, &element, more, now)
            }
            (State::AwaitResponse(stage), Frame::Nonza(element)) => self.response(stage, &element),
            // RFC 6120 section 4.3.5: nothing but negotiation before its end.
            (_, Frame::Stanza(_) | Frame::Refused(_)) => Err(not_authorized()),
            (_, Frame::Nonza(_) | Frame::Header(_)) => {
                Err(StreamError::new(StreamCondition::BadFormat))
            }
        }
    }

    /// We have closed: the peer may finish what it was saying, which is not heard any more.
    fn closing(&mut self, until: Option<Instant>, frame: Frame) -> State {
        let reason = match frame {
            Frame::Footer => CloseReason::Clean,
            Frame::Nonza(element) if element.is(ns::STREAMS, "error") => {
                CloseReason::Theirs(StreamError::from_element(&element))
            }
            _ => return State::Closing(until),
        };
        self.wire.over(reason);
        State::Closed
    }

    fn feature(
        &mut self,
        stage: Box<Stage>,
        element: &Element,
        more: bool,
        now: Instant,
    ) -> Result<State, StreamError> {
        match (element.ns(), element.name()) {
            (ns::TLS, "starttls") => self.start_tls(&stage, element, more),
            (ns::SASL, "auth") => self.auth(stage, element),
            (ns::BIDI, "bidi") => {
                self.ask_for_bidi(element)?;
                Ok(State::AwaitFeature(stage))
            }
            (ns::DIALBACK, _) => {
                self.dialback(element)?;
                Ok(match self.proven.is_empty() {
                    true => State::AwaitFeature(stage),
                    false => State::Open(Box::new(Flow::new(&self.config.limits, now))),
                })
            }
            (ns::SASL, "abort" | "response") => self.refuse(stage, SaslCondition::MalformedRequest),
            (ns::SM, _) => {
                self.unmanaged("unexpected-request")?;
                Ok(State::AwaitFeature(stage))
            }
            _ => Err(StreamError::new(StreamCondition::UnsupportedStanzaType)),
        }
    }

    /// Row bi-02: after TLS, before anybody has signed in.
    fn ask_for_bidi(&mut self, element: &Element) -> Result<(), StreamError> {
        if !self.config.bidi || self.is_bidi || !self.is_secured() {
            return Err(StreamError::new(StreamCondition::UnsupportedStanzaType));
        }
        self.is_bidi = true;
        self.peer_limits = PeerLimits::of(element);
        Ok(())
    }

    fn start_tls(
        &mut self,
        stage: &Stage,
        element: &Element,
        more: bool,
    ) -> Result<State, StreamError> {
        if self.tls.is_some() || !element.nodes().is_empty() || !self.pending.is_empty() {
            // RFC 6120 section 5.4.2.2: failure, then the closing tag.
            starttls::write(&mut self.wire.out, "failure");
            self.answer_close(CloseReason::TlsFailed);
            return Ok(State::Closed);
        }
        if more {
            // Row tl-03: what was sent in clear must never be read as if it had come over TLS.
            let error = StreamError::new(StreamCondition::PolicyViolation);
            return Err(error.with_text("data after starttls"));
        }
        starttls::write(&mut self.wire.out, "proceed");
        self.wire.tell(Output::StartTls {
            to: stage.local.clone(),
        });
        Ok(State::AwaitTls)
    }

    /// A refused proof; not for ever.
    fn refused(&mut self) -> Result<(), StreamError> {
        self.refusals += 1;
        if self.refusals < self.config.limits.s2s.refusals_max {
            return Ok(());
        }
        let error = StreamError::new(StreamCondition::PolicyViolation);
        Err(error.with_text("too many refused proofs of identity"))
    }

    fn prove(&mut self, pair: Pair, proof: Proof) {
        self.proven.insert(pair.clone(), proof);
        self.wire.tell(Output::Server(Event::Proven(pair, proof)));
    }
}

fn not_authorized() -> StreamError {
    StreamError::new(StreamCondition::NotAuthorized)
}

impl Machine for Callee {
    fn handle_bytes(&mut self, data: &[u8], now: Instant) {
        match &mut self.state {
            State::Closed => return,
            State::Open(flow) => flow.heard(now),
            // Row tl-03, when the bytes come in a later read.
            State::AwaitTls if !data.is_empty() => return self.end(CloseReason::TlsFailed),
            _ => {}
        }
        if self.wire.held.is_empty() {
            self.run(data, now);
        } else {
            let mut held = std::mem::take(&mut self.wire.held);
            held.extend_from_slice(data);
            self.run(&held, now);
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        match self.state {
            State::Closed => {}
            State::AwaitClose(_) => self.end(CloseReason::Clean),
            _ => self.end(CloseReason::Eof),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|due| due <= now);
        match &mut self.state {
            State::Closed => {}
            State::Open(flow) => {
                if let Err(error) = flow.timeout(&mut self.wire, now) {
                    self.fail(error);
                }
            }
            State::Closing(until) => {
                if is_over(*until) {
                    self.end(CloseReason::CloseTimeout);
                }
            }
            _ if !is_over(self.deadline) => {}
            // Row tl-06: no closing tag when TLS does not come about.
            State::AwaitTls => self.end(CloseReason::TlsFailed),
            // It came to have keys verified, and has had its answers.
            State::AwaitFeature(_) if self.verified > 0 && self.pending.is_empty() => {
                self.answer_close(CloseReason::Clean);
            }
            _ => self.fail(StreamError::new(StreamCondition::ConnectionTimeout)),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.wire.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Closed => None,
            State::Open(flow) => flow.deadline(),
            State::Closing(until) => *until,
            _ => self.deadline,
        }
    }

    fn poll_timeout_unread(&self) -> Option<Instant> {
        match &self.state {
            State::Open(_) => None,
            _ => self.poll_timeout(),
        }
    }

    fn take_bytes(&mut self, out: &mut Vec<u8>) {
        self.wire.take_bytes(out);
    }

    fn pending_bytes(&self) -> usize {
        self.wire.out.len()
    }

    fn wants_input(&self) -> bool {
        matches!(
            self.state,
            State::AwaitHeader
                | State::AwaitFeature(_)
                | State::AwaitResponse(_)
                | State::Open(_)
                | State::Closing(_)
        )
    }

    fn tls_established(&mut self, info: TlsInfo, now: Instant) {
        if matches!(self.state, State::AwaitTls) {
            // Row tl-07: what was said in clear is forgotten with the old state.
            self.tls = Some(info);
            self.trusted = None;
            self.distrust = None;
            self.is_bidi = false;
            self.peer_limits = PeerLimits::default();
            self.wire.restart(self.config.limits.before_auth);
            self.state = State::AwaitHeader;
            self.resume(now);
        }
    }

    fn release(&mut self) {
        self.wire.release();
    }
}
