//! The calling side of a stream: our client.
//!
//! Covers RFC 6120 sections 4.3 (negotiation), 5, 6 and 7 for the initiating entity: header,
//! STARTTLS, SASL with the strongest mechanism that both sides have, binding. What goes wrong is
//! told by step (`Failure`).

mod failure;
mod login;
mod manage;
mod offer;
pub use failure::Failure;
pub use manage::Manage;
pub use offer::Strength;

use self::login::Scram;
use self::manage::Managed;
use self::offer::Announced;
use super::header::{self, Version};
use super::open::{Open, Side, Step};
use super::wire::Wire;
use super::{CloseReason, Established, Machine, Output, Password, RandomSource, TlsInfo, TlsRule};
use crate::error::{StanzaError, StreamCondition, StreamError};
use crate::features::sasl::Mechanism;
use crate::features::{bind, csi, scram, starttls};
use crate::jid::{BareJid, Jid};
use crate::limits::Limits;
use crate::ns;
use crate::stanza::{Item, Kind, Stanza, Ty};
use crate::xml::writer::StreamOpen;
use crate::xml::{Element, Frame, Header};
use std::time::Instant;

/// Fixed facts of a stream that we open.
#[derive(Debug)]
pub struct InitiatorConfig {
    /// Who signs in; the domain is the header's `to` and what the certificate has to be good for.
    /// Without a local part nobody does: the stream is established, as a guest's, when it is secure.
    pub account: BareJid,
    /// The password; without one only a certificate signs in.
    pub password: Option<Password>,
    /// With EXTERNAL the account is named: the certificate that TLS shows names several (XEP-0178
    /// section 2).
    pub name_account: bool,
    /// The wanted resource; `None`: the server makes one.
    pub resource: Option<Box<str>>,
    /// Language of texts for people.
    pub lang: Option<Box<str>>,
    /// TLS policy. `Optional` goes on in clear only when the server has no STARTTLS.
    pub tls: TlsRule,
    /// PLAIN may be used: only over TLS, and only where no SCRAM is offered.
    pub plain: bool,
    /// Nothing weaker than this is used: what the account has used before.
    pub least: Strength,
    /// Stream management.
    pub manage: Manage,
    /// Bounds; `Limits::default()` with `after_auth` of `XmlLimits::client()` suits a client.
    pub limits: Limits,
}

/// The calling side, from our header to the closing tag.
///
/// ```text
///      ┌──────── after TLS, after login ──────┐
///      ▼                                      │
/// AwaitHeader ──► AwaitFeatures ──► AwaitProceed ──► AwaitTls
///                   │       └──► (AwaitVerdict) ──► AwaitChallenge ──► AwaitSuccess
///                   ▼
///            (AwaitResumed) ──► AwaitBound ──► (AwaitSession) ──► Open ──► Closing ──► Closed
/// ```
///
/// In `AwaitTls` it waits for our own side and takes no input.
pub struct Initiator {
    config: InitiatorConfig,
    wire: Wire,
    state: State,
    tls: Option<TlsInfo>,
    signed_in: bool,
    /// The mechanism in use, and what it is bound to.
    login: Option<(Mechanism, Option<&'static str>)>,
    managed: Option<Box<Managed>>,
    has_client_state: bool,
    has_roster_versions: bool,
    has_pre_approval: bool,
    deadline: Option<Instant>,
}

/// What the features after the login say.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// A resource can be bound.
    bind: bool,
    /// COMPAT(RFC 3921 servers): a session request has to be made.
    session: bool,
    /// There is stream management.
    manage: bool,
}

enum State {
    AwaitHeader,
    /// The header was of a version that we do not speak.
    AwaitError,
    AwaitFeatures,
    AwaitProceed,
    AwaitTls,
    /// The verdict on our certificate; the offer, for another way.
    AwaitVerdict(Box<Announced>),
    /// The server's first SCRAM message.
    AwaitChallenge(Box<Scram>),
    /// The verdict; for SCRAM with what its signature has to be.
    AwaitSuccess(Option<Box<scram::ClientFinal>>),
    AwaitResumed(Session),
    AwaitBound {
        id: String,
        session: Session,
    },
    AwaitSession {
        id: String,
        session: Session,
        established: Established,
    },
    Open(Box<Open>),
    Closing(Option<Box<Open>>, Option<Instant>),
    Closed,
}

/// Why a step ends the stream.
enum End {
    /// With a stream error of ours.
    Error(StreamCondition),
    /// With a closing tag, and a failure for our caller.
    Failed(Failure),
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Error(error.condition)
    }
}

impl Initiator {
    /// Begins with our header, unless TLS comes first. `random` fills from the OS random source.
    pub fn new(config: InitiatorConfig, random: RandomSource, now: Instant) -> Self {
        let deadline = now.checked_add(config.limits.negotiation_max);
        let wire = Wire::calling(config.limits.before_auth, random);
        let direct = config.tls == TlsRule::Direct;
        let state = if direct {
            State::AwaitTls
        } else {
            State::AwaitHeader
        };
        let mut initiator = Self {
            config,
            wire,
            state,
            tls: None,
            signed_in: false,
            login: None,
            managed: None,
            has_client_state: false,
            has_roster_versions: false,
            has_pre_approval: false,
            deadline,
        };
        if !direct {
            initiator.open();
        }
        initiator
    }

    /// Sends a stanza or element. Dropped when the stream is not open.
    pub fn send<D>(&mut self, item: &Item<D>) {
        if !self.is_open() {
            return;
        }
        match item {
            Item::Shared(to, rendered, _) => rendered.write(&mut self.wire.out, *to, None),
            Item::One(stanza) => stanza.write(&mut self.wire.out),
            Item::Nonza(bytes) => self.wire.out.extend_from_slice(bytes),
            Item::Close(error) => self.fail((**error).clone()),
        }
    }

    /// Sends a stanza. Dropped when the stream is not open.
    pub fn send_stanza(&mut self, stanza: &Stanza) {
        if self.is_open() {
            stanza.write(&mut self.wire.out);
        }
    }

    /// The roster has versions here (RFC 6121 section 2.6.1).
    pub fn has_roster_versions(&self) -> bool {
        self.has_roster_versions
    }

    /// Subscriptions can be approved before they are asked for (RFC 6121 section 3.4).
    pub fn has_pre_approval(&self) -> bool {
        self.has_pre_approval
    }

    /// Sends client state indication (XEP-0352); nothing where the server has none.
    pub fn set_active(&mut self, active: bool) {
        if self.is_open() && self.has_client_state {
            csi::write(&mut self.wire.out, active);
        }
    }

    /// Asks the server for a sign of life at this time: with stream management for an
    /// acknowledgement.
    pub fn expect_by(&mut self, at: Instant) {
        if let State::Open(open) = &mut self.state {
            open.expect_by(at);
        }
    }

    /// Nothing is owed any more.
    pub fn expect_nothing(&mut self) {
        if let State::Open(open) = &mut self.state {
            open.expect_nothing();
        }
    }

    /// Closes from our side, with an error or cleanly.
    pub fn close(&mut self, error: Option<StreamError>, now: Instant) {
        match (self.take_state(), error) {
            (state @ (State::Closed | State::Closing(..)), _) => self.state = state,
            (State::AwaitTls, _) => self.wire.over(CloseReason::TlsFailed),
            (_, Some(error)) => self.fail(error),
            (state, None) => {
                if matches!(state, State::Open(_)) {
                    self.last_ack();
                }
                self.wire.footer();
                let open = match state {
                    State::Open(open) => Some(open),
                    _ => None,
                };
                let until = now.checked_add(self.config.limits.close_max);
                self.state = State::Closing(open, until);
            }
        }
    }

    /// True once established and not closing.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }

    /// Our opening tag; who we are is told only once that is confidential (RFC 6120 section 4.7.1).
    fn open(&mut self) {
        let is_told = self.tls.is_some() && !self.is_guest();
        let opening = StreamOpen {
            content_ns: ns::CLIENT,
            from: is_told.then(|| self.config.account.as_str()),
            to: Some(self.config.account.domain()),
            id: None,
            lang: self.config.lang.as_deref(),
            version: true,
        };
        self.wire.open(&opening);
    }

    fn run(&mut self, mut data: &[u8], now: Instant) {
        while self.wants_input() {
            match self.wire.next(&mut data) {
                Ok(Some(frame)) => {
                    let state = self.take_state();
                    match self.step(state, frame, !data.is_empty(), now) {
                        Ok(state) => self.state = state,
                        Err(End::Error(condition)) => self.fail(StreamError::new(condition)),
                        Err(End::Failed(failure)) => self.give_up(failure),
                    }
                }
                Ok(None) => return,
                Err(error) => return self.fail(StreamError::new(error.condition())),
            }
        }
        if !matches!(self.state, State::Closed) {
            self.wire.held.extend_from_slice(data);
        }
    }

    fn fail(&mut self, error: StreamError) {
        self.wire.write_error(&error);
        self.state = State::Closed;
        self.wire.over(CloseReason::Ours(error));
    }

    fn give_up(&mut self, failure: Failure) {
        self.wire.footer();
        self.state = State::Closed;
        self.wire.over(CloseReason::Failed(failure));
    }

    fn step(&mut self, state: State, frame: Frame, more: bool, now: Instant) -> Result<State, End> {
        match (state, frame) {
            (State::Open(mut open), Frame::Nonza(element)) if element.ns() == ns::SM => {
                self.manage(&mut open, &element)?;
                Ok(State::Open(open))
            }
            (State::Open(mut open), frame) => {
                if let (Some(managed), Frame::Stanza(_) | Frame::Refused(_)) =
                    (&mut self.managed, &frame)
                {
                    managed.count();
                }
                match open.frame(frame, &mut self.wire)? {
                    Step::Go => Ok(State::Open(open)),
                    Step::PeerClosed(reason) => {
                        self.last_ack();
                        Ok(self.answer_close(reason))
                    }
                }
            }
            (State::Closing(open, until), frame) => Ok(self.closing(open, until, frame)),
            (_, Frame::Nonza(element)) if element.is(ns::STREAMS, "error") => {
                let error = StreamError::from_element(&element);
                Ok(self.answer_close(CloseReason::Theirs(error)))
            }
            (_, Frame::Footer) => Ok(self.answer_close(CloseReason::Clean)),
            (State::AwaitHeader, Frame::Header(header)) => self.header(&header),
            (State::AwaitError, _) => Err(End::Failed(Failure::Header)),
            (State::AwaitFeatures, Frame::Nonza(element)) => self.features(&element, now),
            (State::AwaitProceed, Frame::Nonza(element)) => self.proceed(&element, more),
            (State::AwaitVerdict(announced), Frame::Nonza(element)) => {
                self.external_verdict(announced, &element)
            }
            (State::AwaitChallenge(scram), Frame::Nonza(element)) => {
                self.challenge(&scram, &element)
            }
            (State::AwaitSuccess(last), Frame::Nonza(element)) => self.success(last, &element),
            (State::AwaitBound { id, session }, Frame::Stanza(stanza)) => {
                self.bound(id, session, &stanza, now)
            }
            (State::AwaitResumed(session), Frame::Nonza(element)) if element.ns() == ns::SM => {
                self.resumed(session, &element, now)
            }
            (
                State::AwaitSession {
                    id,
                    session,
                    established,
                },
                Frame::Stanza(stanza),
            ) => self.session(id, session, established, &stanza, now),
            _ => Err(End::Failed(Failure::Unexpected)),
        }
    }

    fn answer_close(&mut self, reason: CloseReason) -> State {
        self.wire.footer();
        self.wire.over(reason);
        State::Closed
    }

    fn closing(&mut self, open: Option<Box<Open>>, until: Option<Instant>, frame: Frame) -> State {
        match frame {
            Frame::Footer => {
                self.wire.over(CloseReason::Clean);
                return State::Closed;
            }
            Frame::Nonza(element) if element.is(ns::STREAMS, "error") => {
                self.wire
                    .over(CloseReason::Theirs(StreamError::from_element(&element)));
                return State::Closed;
            }
            Frame::Stanza(stanza) if open.is_some() => self.wire.tell(Output::Stanza(stanza)),
            Frame::Nonza(element) if open.is_some() => self.manage_closing(&element),
            _ => {}
        }
        State::Closing(open, until)
    }

    fn header(&mut self, header: &Header) -> Result<State, End> {
        header::check(header, ns::CLIENT).map_err(End::Error)?;
        if Version::of(header.version.as_deref()) == Version::Old {
            // No features follow such a header, but the stream error that explains it may.
            return Ok(State::AwaitError);
        }
        if header.id.is_none() {
            return Err(End::Failed(Failure::Header));
        }
        self.wire.set_default_lang(header.lang.as_deref());
        Ok(State::AwaitFeatures)
    }

    fn features(&mut self, features: &Element, now: Instant) -> Result<State, End> {
        if !features.is(ns::STREAMS, "features") {
            return Err(End::Failed(Failure::Unexpected));
        }
        if self.signed_in {
            return self.session_features(features);
        }
        if self.tls.is_none() {
            let is_offered = features.child(ns::TLS, "starttls").is_some();
            // Row tu-01: the offer may have been removed on the way; where TLS is required it is
            // tried all the same.
            if is_offered || self.config.tls == TlsRule::Required {
                starttls::write(&mut self.wire.out, "starttls");
                return Ok(State::AwaitProceed);
            }
        }
        match self.is_guest() {
            true => self.guest(now),
            false => self.login(Announced::read(features)),
        }
    }

    fn is_guest(&self) -> bool {
        self.config.account.local().is_none()
    }

    /// Stays without a login (XEP-0077 section 3.1.1). The JID is a name for the stream; no server
    /// knows it.
    fn guest(&mut self, now: Instant) -> Result<State, End> {
        let jid = self.config.account.with_resource("guest");
        let jid = jid.map_err(|_| End::Failed(Failure::NoBind))?;
        Ok(self.open_stream(Established { jid, lang: None }, now))
    }

    fn proceed(&mut self, element: &Element, more: bool) -> Result<State, End> {
        if !element.is(ns::TLS, "proceed") {
            return Err(End::Failed(Failure::NoTls));
        }
        if more {
            return Err(End::Failed(Failure::DataBeforeTls));
        }
        self.wire.tell(Output::StartTls {
            to: self.config.account.domain().into(),
        });
        Ok(State::AwaitTls)
    }

    fn session_features(&mut self, features: &Element) -> Result<State, End> {
        let session = features.child(ns::SESSION, "session");
        self.has_client_state = features.child(ns::CSI, "csi").is_some();
        let versions = features.child(ns::FEATURE_ROSTER_VERSION, "ver");
        self.has_roster_versions = versions.is_some();
        let pre_approval = features.child(ns::FEATURE_PRE_APPROVAL, "sub");
        self.has_pre_approval = pre_approval.is_some();
        self.begin_session(Session {
            bind: features.child(ns::BIND, "bind").is_some(),
            session: session.is_some_and(|it| it.child(ns::SESSION, "optional").is_none()),
            manage: features.child(ns::SM, "sm").is_some(),
        })
    }

    fn bind(&mut self, session: Session) -> Result<State, End> {
        if !session.bind {
            return Err(End::Failed(Failure::NoBind));
        }
        let id = self.wire.token();
        let request = bind::request(self.config.resource.as_deref());
        self.wire
            .stanza(&Stanza::iq(Ty::Set, &id).with_child(&request));
        Ok(State::AwaitBound { id, session })
    }

    fn bound(
        &mut self,
        id: String,
        session: Session,
        stanza: &Stanza,
        now: Instant,
    ) -> Result<State, End> {
        if !is_answer(stanza, &id) {
            // Nothing else may come before the stream is established.
            return Err(End::Failed(Failure::Unexpected));
        }
        if stanza.head.ty == Ty::Error {
            return Err(End::Failed(refusal(stanza)));
        }
        // Row st-04: the JID is what the server says, not what we asked for.
        let jid = bind::bound_jid(stanza).ok_or(End::Failed(Failure::NoBind))?;
        let established = Established { jid, lang: None };
        if !session.session {
            return Ok(self.established(session, established, now));
        }
        // COMPAT(RFC 3921 servers): a session request that is not optional has to be made.
        let id = self.wire.token();
        let request = Element::new(ns::SESSION, "session");
        self.wire
            .stanza(&Stanza::iq(Ty::Set, &id).with_child(&request));
        Ok(State::AwaitSession {
            id,
            session,
            established,
        })
    }

    fn session(
        &mut self,
        id: String,
        session: Session,
        established: Established,
        stanza: &Stanza,
        now: Instant,
    ) -> Result<State, End> {
        if !is_answer(stanza, &id) {
            self.wire.tell(Output::Stanza(stanza.clone()));
            return Ok(State::AwaitSession {
                id,
                session,
                established,
            });
        }
        if stanza.head.ty == Ty::Error {
            return Err(End::Failed(refusal(stanza)));
        }
        Ok(self.established(session, established, now))
    }

    fn established(&mut self, session: Session, established: Established, now: Instant) -> State {
        self.enable(session);
        self.open_stream(established, now)
    }

    fn open_stream(&mut self, established: Established, now: Instant) -> State {
        self.deadline = None;
        let account = self.config.account.as_jid();
        let host = Jid::parse(account.domain()).unwrap_or_else(|_| account.clone());
        let mut open = Open::new(Side::Initiator, None, host, &self.config.limits, now);
        open.set_managed(self.managed.is_some());
        self.wire.tell(Output::Established(established));
        State::Open(Box::new(open))
    }
}

fn is_answer(stanza: &Stanza, id: &str) -> bool {
    stanza.kind == Kind::Iq
        && matches!(stanza.head.ty, Ty::Result | Ty::Error)
        && stanza.head.id.as_deref() == Some(id)
}

fn refusal(stanza: &Stanza) -> Failure {
    let error = stanza
        .error()
        .unwrap_or_else(StanzaError::undefined_condition);
    Failure::Bind(Box::new(error))
}

impl Machine for Initiator {
    fn handle_bytes(&mut self, data: &[u8], now: Instant) {
        match &mut self.state {
            State::Closed => return,
            State::Open(open) => open.heard(now),
            State::AwaitTls if !data.is_empty() => {
                self.state = State::Closed;
                return self.wire.over(CloseReason::Failed(Failure::DataBeforeTls));
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
        if !matches!(self.state, State::Closed) {
            self.state = State::Closed;
            self.wire.over(CloseReason::Eof);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|due| due <= now);
        match &mut self.state {
            State::Closed => {}
            State::Open(open) => {
                if let Err(error) = open.timeout(&mut self.wire, now) {
                    self.fail(error);
                }
            }
            State::Closing(_, until) => {
                if is_over(*until) {
                    self.state = State::Closed;
                    self.wire.over(CloseReason::CloseTimeout);
                }
            }
            State::AwaitTls => {
                if is_over(self.deadline) {
                    self.state = State::Closed;
                    self.wire.over(CloseReason::TlsFailed);
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
            State::Open(open) => open.deadline(),
            State::Closing(_, until) => *until,
            _ => self.deadline,
        }
    }

    fn poll_timeout_unread(&self) -> Option<Instant> {
        match &self.state {
            State::Closed | State::Open(_) => None,
            State::Closing(_, until) => *until,
            _ => self.deadline,
        }
    }

    fn take_bytes(&mut self, out: &mut Vec<u8>) {
        self.wire.take_bytes(out);
    }

    fn pending_bytes(&self) -> usize {
        self.wire.out.len()
    }

    fn wants_input(&self) -> bool {
        !matches!(self.state, State::AwaitTls | State::Closed)
    }

    fn tls_established(&mut self, mut info: TlsInfo, _now: Instant) {
        if matches!(self.state, State::AwaitTls) {
            // The handshake has judged them; no client needs to carry them about.
            info.peer = Vec::new();
            self.tls = Some(info);
            self.wire.restart(self.config.limits.before_auth);
            self.state = State::AwaitHeader;
            self.open();
        }
    }

    fn release(&mut self) {
        self.wire.release();
    }
}
