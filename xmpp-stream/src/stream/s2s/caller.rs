//! The calling side of a stream between servers: one domain of ours, one of theirs.
//!
//! RFC 6120 sections 4.3, 5 and 6 for the initiating server: STARTTLS, SASL EXTERNAL (XEP-0178
//! section 3), else dialback (XEP-0220 section 2.1). The same machine asks an authoritative server
//! whether a key is its own. Deliberately absent: version 0 streams.

mod login;
mod offer;
mod open;

use self::offer::Offer;
use super::flow::{self, Flow};
use super::{Dialback, Distrust, Event, KeyCheck, Pair, PeerLimits, PeerVerdict, Proof, Secret};
use crate::error::StreamError;
use crate::features::{sm, starttls};
use crate::limits::Limits;
use crate::ns;
use crate::stanza::Item;
use crate::stream::header::{self, Version};
use crate::stream::wire::Wire;
use crate::stream::{CloseReason, Failure, Machine, Output, RandomSource, TlsInfo, TlsRule};
use crate::xml::writer::StreamOpen;
use crate::xml::{Element, Frame, Header};
use std::sync::Arc;
use std::time::Instant;

/// What a stream is opened for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Purpose {
    /// To send stanzas.
    #[default]
    Stanzas,
    /// Only to have keys verified (`Caller::verify`): nobody signs in.
    Verify,
}

/// What the caller wants of stream management, where the peer has it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Manage {
    /// Nothing.
    #[default]
    Off,
    /// To begin it, resumable later.
    Enable,
    /// To go on with an earlier stream; to begin it anew where that is not to be had.
    Resume {
        /// The id of the earlier stream.
        previd: Box<str>,
        /// Stanzas of the peer that were handled on it.
        h: u32,
    },
}

/// Fixed facts of a stream that we open to another server.
#[derive(Clone, Debug)]
pub struct CallerConfig {
    /// Our domain and theirs, in prepared form.
    pub pair: Pair,
    /// What for.
    pub purpose: Purpose,
    /// TLS policy. `Optional` goes on in clear only when the peer has no STARTTLS.
    pub tls: TlsRule,
    /// EXTERNAL may be used, where TLS has shown a certificate of ours.
    pub external: bool,
    /// Where dialback may be used to prove who we are.
    pub dialback: Dialback,
    /// A peer whose certificate is not good is talked to all the same: it is known by DNS alone.
    pub accepts_untrusted: bool,
    /// Dialback keys are made of it.
    pub secret: Secret,
    /// Stanzas may come back on this stream (XEP-0288), from a peer with a good certificate.
    pub bidi: bool,
    /// Stream management.
    pub manage: Manage,
    /// Bounds; shared. `after_auth` has to be `XmlLimits::s2s()`.
    pub limits: Arc<Limits>,
}

/// The negotiated stream of a caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// How we have proven who we are.
    pub proof: Proof,
    /// Stanzas of the peer may come back.
    pub is_bidi: bool,
    /// Stream management was asked for: what is sent from now on is to be kept until it is
    /// acknowledged, or `Output::Managed(SmAnswer::Failed)` says that it is not to be had.
    pub is_managed: bool,
    /// The earlier stream goes on; so many of our stanzas were handled on it.
    pub resumed: Option<u32>,
    /// What the peer takes, as far as it says so (XEP-0478).
    pub limits: PeerLimits,
}

/// The calling side, from our header to the closing tag.
///
/// ```text
///      ┌───────────── after TLS, after EXTERNAL ───────────┐
///      ▼                                                   │
/// AwaitHeader ──► AwaitFeatures ──► AwaitProceed ──► AwaitTls ──► AwaitPeer
///                    │    ├──► AwaitSuccess (EXTERNAL) ─┐
///                    │    └──► AwaitResult (dialback) ◄─┘ refused
///                    ▼              ▼
///            (AwaitResumed) ──► Open ──► AwaitClose, Closing ──► Closed
/// ```
///
/// In `AwaitTls`, `AwaitPeer` and `AwaitClose` it waits for our own side and takes no input.
pub struct Caller {
    config: CallerConfig,
    wire: Wire,
    state: State,
    tls: Option<TlsInfo>,
    distrust: Option<Distrust>,
    proof: Option<Proof>,
    /// The id that the peer has given the stream.
    stream_id: Box<str>,
    offer: Offer,
    is_bidi: bool,
    /// Keys to be verified: those not yet asked about, and those that were.
    keys: Vec<KeyCheck>,
    asked: Vec<KeyCheck>,
    /// Requests of the peer's that belong elsewhere, and were answered so.
    misplaced: u32,
    /// Until when the stream has to be established, or the keys verified.
    deadline: Option<Instant>,
}

enum State {
    AwaitHeader,
    /// The header was of a version that we do not speak.
    AwaitError,
    AwaitFeatures,
    AwaitProceed,
    AwaitTls,
    AwaitPeer,
    AwaitSuccess,
    AwaitResult,
    /// An earlier stream was asked for, by its id.
    AwaitResumed(Box<str>),
    Open(Box<Flow>),
    /// The peer has closed; what it is still owed has yet to be said.
    AwaitClose,
    /// Our closing tag is out.
    Closing(Option<Instant>),
    Closed,
}

/// Why a step ends the stream.
enum End {
    /// With a stream error of ours.
    Error(StreamError),
    /// With a closing tag, and a failure for our caller.
    Failed(Failure),
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Error(error)
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Caller {
    /// Begins with our header, unless TLS comes first. `random` fills from the OS random source.
    pub fn new(config: CallerConfig, random: RandomSource, now: Instant) -> Self {
        let deadline = now.checked_add(config.limits.negotiation_max);
        let wire = Wire::between(ns::SERVER, config.limits.before_auth, random);
        let is_direct = config.tls == TlsRule::Direct;
        let mut caller = Self {
            config,
            wire,
            state: State::AwaitTls,
            tls: None,
            distrust: None,
            proof: None,
            stream_id: Box::default(),
            offer: Offer::default(),
            is_bidi: false,
            keys: Vec::new(),
            asked: Vec::new(),
            misplaced: 0,
            deadline,
        };
        if !is_direct {
            caller.open();
        }
        caller
    }

    /// Answers `Event::CheckPeer`.
    pub fn peer_checked(&mut self, verdict: PeerVerdict, now: Instant) {
        if !matches!(self.state, State::AwaitPeer) {
            return;
        }
        match verdict {
            PeerVerdict::Trusted => self.open(),
            PeerVerdict::Untrusted(cause) => {
                let is_refused = !self.accepts_untrusted();
                self.distrust = Some(cause.clone());
                match is_refused {
                    true => self.end(CloseReason::Failed(Failure::Untrusted(cause))),
                    false => self.open(),
                }
            }
            PeerVerdict::Refused(error) => self.end(CloseReason::Ours(error)),
        }
        let held = std::mem::take(&mut self.wire.held);
        self.run(&held, now);
    }

    /// Asks the peer, as the authoritative server of `check.pair.from`, whether a key is its own:
    /// now, or as soon as the stream is ready. The answer is `Event::Verified`; there is none when
    /// the stream ends first. Never on the connection on which the key came (XEP-0288 section 2.2).
    pub fn verify(&mut self, check: KeyCheck) {
        self.keys.push(check);
        if self.is_ready() {
            self.ask_keys();
        }
    }

    /// Sends a stanza or element; false, and nothing is sent, when the stream is not open for it.
    pub fn send<D>(&mut self, item: &Item<D>) -> bool {
        match &mut self.state {
            State::Open(flow) if self.proof.is_some() => flow.sent(),
            State::AwaitClose if matches!(item, Item::Nonza(_)) => {}
            _ => return false,
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
            (State::AwaitTls | State::AwaitPeer, _) => self.wire.over(CloseReason::TlsFailed),
            (_, Some(error)) => self.fail(error),
            (State::AwaitClose, None) => self.answer_close(CloseReason::Clean),
            (_, None) => {
                self.wire.footer();
                let until = now.checked_add(self.config.limits.close_max);
                self.state = State::Closing(until);
            }
        }
    }

    /// Answers `Output::PeerClosing`: with stream management, so many stanzas were handled.
    pub fn finish_close(&mut self, h: Option<u32>) {
        if matches!(self.state, State::AwaitClose) {
            if let Some(h) = h {
                sm::write_ack(&mut self.wire.out, h);
            }
            self.answer_close(CloseReason::Clean);
        }
    }

    /// True once stanzas may be sent, and not closing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_)) && self.proof.is_some()
    }

    /// What TLS gave us.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()
    }

    /// What is wrong with the peer's certificate, where it is talked to all the same.
    #[must_use]
    pub fn distrust(&self) -> Option<&Distrust> {
        self.distrust.as_ref()
    }

    /// The id that the peer has given the stream; empty before.
    #[must_use]
    pub fn stream_id(&self) -> &str {
        &self.stream_id
    }

    fn accepts_untrusted(&self) -> bool {
        // An authoritative server is found by DNS, whatever else it shows (XEP-0220 section 3).
        self.config.accepts_untrusted || self.config.purpose == Purpose::Verify
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }

    fn open(&mut self) {
        let opening = StreamOpen {
            content_ns: ns::SERVER,
            from: Some(&self.config.pair.from),
            to: Some(&self.config.pair.to),
            id: None,
            lang: Some(header::LANG),
            version: true,
        };
        self.wire.open(&opening);
        self.state = State::AwaitHeader;
    }

    fn run(&mut self, mut data: &[u8], now: Instant) {
        while self.wants_input() {
            match self.wire.next(&mut data) {
                Ok(Some(frame)) => {
                    let state = self.take_state();
                    match self.step(state, frame, !data.is_empty(), now) {
                        Ok(state) => self.state = state,
                        Err(End::Error(error)) => self.fail(error),
                        Err(End::Failed(failure)) => self.give_up(failure),
                    }
                }
                Ok(None) => return,
                Err(error) => return self.fail(StreamError::from(&error)),
            }
        }
        if !matches!(self.state, State::Closed) {
            self.wire.held.extend_from_slice(data);
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.wire.over(reason);
    }

    fn fail(&mut self, error: StreamError) {
        self.wire.write_error(&error);
        self.end(CloseReason::Ours(error));
    }

    fn give_up(&mut self, failure: Failure) {
        self.wire.footer();
        self.end(CloseReason::Failed(failure));
    }

    fn answer_close(&mut self, reason: CloseReason) {
        self.wire.footer();
        self.end(reason);
    }

    fn step(&mut self, state: State, frame: Frame, more: bool, now: Instant) -> Result<State, End> {
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
            (State::AwaitHeader, Frame::Header(header)) => self.header(&header),
            (State::AwaitError, _) => Err(Failure::Header.into()),
            (State::AwaitFeatures, Frame::Nonza(element)) => self.features(&element, now),
            (State::AwaitProceed, Frame::Nonza(element)) => self.proceed(&element, more),
            (State::AwaitSuccess, Frame::Nonza(element)) => self.success(&element),
            (State::AwaitResult, Frame::Nonza(element)) => self.result(&element, now),
            (State::AwaitResumed(previd), Frame::Nonza(element)) if element.ns() == ns::SM => {
                self.resumed(&previd, &element, now)
            }
            _ => Err(Failure::Unexpected.into()),
        }
    }

    fn closing(&mut self, until: Option<Instant>, frame: Frame) -> State {
        match frame {
            Frame::Footer => self.wire.over(CloseReason::Clean),
            Frame::Nonza(element) if element.is(ns::STREAMS, "error") => {
                let error = StreamError::from_element(&element);
                self.wire.over(CloseReason::Theirs(error));
            }
            // Acknowledgements that were under way still count.
            Frame::Nonza(element) if element.is(ns::SM, "a") => {
                if let Ok(ack) = sm::SmRequest::of(&element) {
                    self.wire.tell(Output::Sm(ack));
                }
                return State::Closing(until);
            }
            _ => return State::Closing(until),
        }
        State::Closed
    }

    fn header(&mut self, header: &Header) -> Result<State, End> {
        header::check(header, ns::SERVER).map_err(StreamError::new)?;
        if Version::of(header.version.as_deref()) == Version::Old {
            // No features follow such a header, but the stream error that explains it may.
            return Ok(State::AwaitError);
        }
        self.stream_id = header.id.as_deref().ok_or(Failure::Header)?.into();
        self.wire.set_default_lang(header.lang.as_deref());
        Ok(State::AwaitFeatures)
    }

    fn features(&mut self, features: &Element, now: Instant) -> Result<State, End> {
        if !features.is(ns::STREAMS, "features") {
            return Err(Failure::Unexpected.into());
        }
        self.offer = Offer::of(features);
        if self.tls.is_none() {
            // Row tu-01: the offer may have been removed on the way; where TLS is required it is
            // tried all the same.
            if self.offer.starttls || self.config.tls == TlsRule::Required {
                starttls::write(&mut self.wire.out, "starttls");
                return Ok(State::AwaitProceed);
            }
            if !self.accepts_untrusted() {
                return Err(Failure::NoTls.into());
            }
            self.distrust = Some(Distrust::NoCertificate);
        }
        match (self.config.purpose, self.proof) {
            (Purpose::Verify, _) => Ok(self.ready_to_verify(now)),
            (Purpose::Stanzas, Some(_)) => Ok(self.manage(now)),
            (Purpose::Stanzas, None) => self.sign_in(),
        }
    }

    fn proceed(&mut self, element: &Element, more: bool) -> Result<State, End> {
        if !element.is(ns::TLS, "proceed") {
            // No closing tag needs to follow a failure (RFC 6120 section 5.4.2.2).
            return Err(Failure::NoTls.into());
        }
        if more {
            return Err(Failure::DataBeforeTls.into());
        }
        self.wire.tell(Output::StartTls {
            to: self.config.pair.to.clone(),
        });
        Ok(State::AwaitTls)
    }
}

impl Machine for Caller {
    fn handle_bytes(&mut self, data: &[u8], now: Instant) {
        match &mut self.state {
            State::Closed => return,
            State::Open(flow) => flow.heard(now),
            State::AwaitTls if !data.is_empty() => {
                return self.end(CloseReason::Failed(Failure::DataBeforeTls));
            }
            _ => {}
        }
        let mut held = std::mem::take(&mut self.wire.held);
        if held.is_empty() {
            self.run(data, now);
        } else {
            held.extend_from_slice(data);
            self.run(&held, now);
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        match self.state {
            State::Closed => {}
            State::AwaitClose => self.end(CloseReason::Clean),
            _ => self.end(CloseReason::Eof),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|due| due <= now);
        match &mut self.state {
            State::Closed => {}
            State::Open(_) if is_over(self.deadline) => self.give_up(Failure::Timeout),
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
            State::AwaitTls | State::AwaitPeer => {
                if is_over(self.deadline) {
                    self.end(CloseReason::TlsFailed);
                }
            }
            _ => {
                if is_over(self.deadline) {
                    self.give_up(Failure::Timeout);
                }
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.wire.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Closed => None,
            State::Open(flow) => self.deadline.into_iter().chain(flow.deadline()).min(),
            State::Closing(until) => *until,
            _ => self.deadline,
        }
    }

    fn poll_timeout_unread(&self) -> Option<Instant> {
        match &self.state {
            State::Open(_) => self.deadline,
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
        !matches!(
            self.state,
            State::AwaitTls | State::AwaitPeer | State::AwaitClose | State::Closed
        )
    }

    fn tls_established(&mut self, info: TlsInfo, _now: Instant) {
        if matches!(self.state, State::AwaitTls) {
            self.tls = Some(info);
            self.wire.restart(self.config.limits.before_auth);
            self.state = State::AwaitPeer;
            self.wire.tell(Output::Server(Event::CheckPeer {
                peer: self.config.pair.to.clone(),
                local: self.config.pair.from.clone(),
            }));
        }
    }

    fn release(&mut self) {
        self.wire.release();
    }
}
