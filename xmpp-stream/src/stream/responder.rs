//! The accepting side of a stream: clients that connect to us.
//!
//! Covers RFC 6120 sections 4.3 (negotiation), 4.9 (errors), 5, 6 and 7 for the receiving entity.
//! The elements of the features stand in `features`. Deliberately absent: version 0 streams
//! (XEP-0078).

use super::header::{self, LANG, Version};
use super::open::{Open, Side, Step};
use super::wire::Wire;
use super::{CloseReason, Machine, Output, ScramHash, StoredKeys};
use super::{RandomSource, TlsInfo, Verdict};
use crate::error::{StanzaError, StreamCondition, StreamError};
use crate::features::sasl::{Mechanism, Offer, Refusal};
use crate::features::{bind, limits, scram, sm, starttls};
use crate::jid::{BareJid, FullJid, Jid};
use crate::limits::Limits;
use crate::ns;
use crate::stanza::{Item, Stanza};
use crate::xml::writer::StreamOpen;
use crate::xml::{Element, Frame, Header};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

mod certificate;
mod early;
mod login;
mod resume;

pub use certificate::ClientCertificate;
pub use resume::{NotResumed, Resumption};

/// When TLS must be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsRule {
    /// Direct TLS: it is there before the first byte; starttls is never offered.
    Direct,
    /// starttls is offered alone until it was used.
    Required,
    /// starttls is offered beside SASL (SCRAM only in clear).
    Optional,
}

/// What the machine may know of a served domain; asked again at each stream header.
#[derive(Clone, Debug)]
pub struct HostView {
    /// The domain in prepared form.
    pub domain: Box<str>,
    /// Hashes for which all accounts hold keys.
    pub hashes: Vec<ScramHash>,
    /// PLAIN is offered (over TLS).
    pub plain: bool,
    /// Guests (before login) may send iqs in these namespaces; empty: none.
    pub guest_ns: Arc<[&'static str]>,
    /// Canonical XML of stream features to show before login beside SASL (e.g. register).
    pub features_before_auth: Bytes,
    /// Canonical XML of stream features after login beside bind (e.g. rosterver, pre-approval).
    pub features_after_auth: Bytes,
}

/// Served domains.
pub trait Hosts: Send + Sync {
    /// The view of a domain (prepared form), `None` when not served. `loopback`-like peer facts are
    /// the implementor's.
    fn host(&self, domain: &str) -> Option<HostView>;
    /// What `from` says when `to` names nothing we serve.
    fn fallback(&self) -> Box<str>;
    /// What the certificate that a client has shown (DER, its own first) is worth to a domain; `None`:
    /// clients do not sign in by certificate there.
    fn certificate(&self, _domain: &str, _chain: &[Box<[u8]>]) -> Option<ClientCertificate> {
        None
    }
}

/// Fixed facts of an accepted stream.
#[derive(Clone)]
pub struct ResponderConfig {
    /// Served domains, as this peer may see them.
    pub hosts: Arc<dyn Hosts>,
    /// Bounds; shared, as there are many streams with the same.
    pub limits: Arc<Limits>,
    /// TLS policy.
    pub tls: TlsRule,
    /// SCRAM tells what was announced (XEP-0474), and over which TLS (XEP-0515).
    pub downgrade_protection: bool,
    /// Stream management is offered (XEP-0198).
    pub manage: bool,
}

/// The caller's answer to `NeedCredentials`.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Keys of the account.
    Keys(Arc<StoredKeys>),
    /// Unknown account (or one that may not sign in so): a fake that looks like a real one.
    Fake {
        /// HMAC of a secret over hash and name: the same for each try.
        salt: Box<[u8]>,
        /// The domain's usual iterations.
        iterations: u32,
    },
    /// The account is banned: told only after the right password (account-disabled).
    Disabled(Arc<StoredKeys>),
    /// The store does not answer: temporary-auth-failure.
    Unavailable,
}

/// The accepting side, from the first byte to the closing tag.
///
/// ```text
///             ┌── after TLS, after login ──┐
///             ▼                            │
///        AwaitHeader ──► AwaitFeature ──► AwaitTls
///                         │  ▲  │ ▲
///              AwaitGuest ◄──┘  │ └── AwaitResponse ◄──► AwaitCredentials
///                               │                  └───► AwaitVerdict
///                               ▼
///                 AwaitBound, AwaitResumed ──► Open ──► Closing, AwaitClose ──► Closed
/// ```
///
/// In `AwaitTls`, `AwaitCredentials`, `AwaitVerdict`, `AwaitGuest`, `AwaitBound`, `AwaitResumed` and
/// `AwaitClose` it waits for our own side and takes no input. Every state ends in `Closed` after an error.
pub struct Responder {
    config: ResponderConfig,
    wire: Wire,
    state: State,
    /// TLS, once it is up.
    tls: Option<TlsInfo>,
    /// Who has signed in.
    account: Option<BareJid>,
    tries: Tries,
    /// Until when the stream has to be established.
    deadline: Option<Instant>,
    /// Until when the certificate is good by which the client has signed in.
    good_until: Option<Instant>,
}

/// What this connection has used of its limits.
#[derive(Default)]
struct Tries {
    passwords: u32,
    refusals: u32,
    binds: u32,
    /// A registration form was asked for, which gives more time, once.
    registration: bool,
    /// Streams that were asked for and not found.
    resumes: u32,
}

enum State {
    AwaitHeader,
    AwaitFeature(Box<Stage>),
    AwaitTls,
    /// A SASL exchange is under way, and it is the client's turn.
    AwaitResponse(Box<Stage>, Box<Exchange>),
    AwaitCredentials(Box<Stage>, Box<Asked>),
    AwaitVerdict(Box<Stage>, Login),
    AwaitGuest(Box<Stage>),
    /// The request stands here for its answer.
    AwaitBound(Box<Stage>, Box<Stanza>),
    /// A stream of the past is looked for.
    AwaitResumed(Box<Stage>, Box<str>),
    Open(Box<Open>),
    /// The peer has closed; what it is still owed has yet to be said.
    AwaitClose(Box<Open>),
    /// Our closing tag is out; what the peer still sends is heard until then.
    Closing(Option<Box<Open>>, Option<Instant>),
    Closed,
}

/// What the stream header in force said.
struct Stage {
    host: HostView,
    from: Option<Jid>,
    lang: Option<Box<str>>,
    offer: Offer,
    /// What the certificate that the client has shown is worth here.
    certificate: Option<ClientCertificate>,
    /// The mechanism of the last `<auth/>`, for the log.
    tried: Option<Mechanism>,
}

/// One attempt to sign in.
struct Login {
    mechanism: Mechanism,
    account: BareJid,
    /// False when the name cannot be an account: the attempt fails like a wrong password.
    is_name: bool,
    binding: Option<&'static str>,
    /// Until when the proof is good.
    good_until: Option<Instant>,
}

enum Exchange {
    /// `<auth/>` came without data.
    Initial(Mechanism),
    Final(Login, scram::Server),
}

/// Keys were asked for.
struct Asked {
    login: Login,
    hash: ScramHash,
    first: scram::ClientFirst,
}

impl Responder {
    /// Waits for the peer's header, or for TLS where that comes first. `random`: stream ids, nonces.
    pub fn new(config: ResponderConfig, random: RandomSource, now: Instant) -> Self {
        let deadline = now.checked_add(config.limits.negotiation_max);
        let wire = Wire::new(config.limits.before_auth, random);
        let state = match config.tls {
            TlsRule::Direct => State::AwaitTls,
            TlsRule::Required | TlsRule::Optional => State::AwaitHeader,
        };
        let tries = Tries::default();
        Self {
            config,
            wire,
            state,
            tls: None,
            account: None,
            tries,
            deadline,
            good_until: None,
        }
    }

    /// Answers `NeedCredentials`.
    pub fn credentials(&mut self, keys: Credentials, now: Instant) {
        match self.take_state() {
            State::AwaitCredentials(stage, asked) => {
                let state = self.challenge(stage, *asked, keys);
                self.settle(state);
                self.resume(now);
            }
            other => self.state = other,
        }
    }

    /// Answers `CheckPassword`.
    pub fn verdict(&mut self, verdict: Verdict, now: Instant) {
        match self.take_state() {
            State::AwaitVerdict(stage, login) => {
                let state = match verdict {
                    Verdict::Allow if login.is_name => {
                        self.good_until = login.good_until;
                        Ok(self.signed_in(login, b""))
                    }
                    Verdict::Deny if login.mechanism == Mechanism::External => {
                        self.refuse(stage, Some(login), Refusal::no_account())
                    }
                    Verdict::Disabled if login.is_name => {
                        self.refuse(stage, Some(login), Refusal::disabled())
                    }
                    Verdict::TryLater => {
                        self.refuse(stage, Some(login), Refusal::unavailable("password check"))
                    }
                    Verdict::Allow | Verdict::Deny | Verdict::Disabled => {
                        self.refuse(stage, Some(login), Refusal::wrong_password())
                    }
                };
                self.settle(state);
                self.resume(now);
            }
            other => self.state = other,
        }
    }

    /// Answers `Guest`.
    pub fn guest_reply(&mut self, reply: Stanza, now: Instant) {
        match self.take_state() {
            State::AwaitGuest(stage) => {
                self.wire.stanza(&reply);
                self.state = State::AwaitFeature(stage);
                self.resume(now);
            }
            other => self.state = other,
        }
    }

    /// Answers `Bind`.
    pub fn bound(&mut self, result: Result<FullJid, StanzaError>, now: Instant) {
        match self.take_state() {
            State::AwaitBound(stage, request) => {
                let state = match result {
                    Ok(jid) => Ok(self.established(*stage, &request, jid, now)),
                    Err(error) => self.not_bound(stage, &request, &error),
                };
                self.settle(state);
                self.resume(now);
            }
            other => self.state = other,
        }
    }

    /// Sends an item of the session's outbox; on `Item::Close` begins to close. Dropped when the
    /// stream is not open, unless the peer has closed and waits for our closing tag.
    pub fn send<D>(&mut self, item: &Item<D>) {
        if !matches!(self.state, State::Open(_) | State::AwaitClose(_)) {
            return;
        }
        match item {
            Item::Shared(to, rendered, _) => {
                // The recipient's own address is written by who renders for it.
                let recipient = self.recipient();
                rendered.write(&mut self.wire.out, *to, recipient.as_ref());
            }
            Item::One(stanza) => stanza.write(&mut self.wire.out),
            Item::Nonza(bytes) => self.wire.out.extend_from_slice(bytes),
            Item::Close(error) => self.fail((**error).clone()),
        }
    }

    /// Asks how many stanzas the client has handled (XEP-0198 section 4); the caller knows that it
    /// counts.
    pub fn ask(&mut self) {
        if self.is_open() {
            sm::write_ask(&mut self.wire.out);
        }
    }

    /// Closes from our side, with an error or cleanly.
    pub fn close(&mut self, error: Option<StreamError>, now: Instant) {
        match (self.take_state(), error) {
            (state @ (State::Closed | State::Closing(..)), _) => self.state = state,
            // Nothing may be written in clear any more.
            (State::AwaitTls, _) => self.wire.over(CloseReason::TlsFailed),
            (_, Some(error)) => self.fail(error),
            (State::AwaitClose(_), None) => self.state = self.answer_close(CloseReason::Clean),
            (state, None) => {
                self.open_for_closing();
                self.wire.footer();
                let open = match state {
                    State::Open(open) => Some(open),
                    _ => None,
                };
                let until = now.checked_add(self.config.limits.close_max);
                self.state = State::Closing(open, until);
                self.resume(now);
            }
        }
    }

    /// True once established and not closing.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// True once the peer has closed, and until `finish_close`: it still hears what it is owed.
    pub fn is_peer_closed(&self) -> bool {
        matches!(self.state, State::AwaitClose(_))
    }

    /// True while `close` would still say something to the peer.
    pub fn accepts_close(&self) -> bool {
        !matches!(self.state, State::Closing(..) | State::Closed)
    }

    /// TLS is up.
    #[cfg(test)]
    pub(super) fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    fn recipient(&self) -> Option<FullJid> {
        match &self.state {
            State::Open(open) | State::AwaitClose(open) => open.peer().to_full(),
            _ => None,
        }
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
                Err(error) => return self.fail(StreamError::new(error.condition())),
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

    /// The stream error and the end (RFC 6120 section 4.9.1). The opening tag comes first (4.9.1.2).
    fn fail(&mut self, error: StreamError) {
        self.open_for_closing();
        self.wire.write_error(&error);
        self.state = State::Closed;
        self.wire.over(CloseReason::Ours(error));
    }

    fn open_for_closing(&mut self) {
        if !self.wire.opened {
            let fallback = self.config.hosts.fallback();
            self.open(&fallback, None, true);
        }
    }

    fn open(&mut self, from: &str, to: Option<&str>, version: bool) {
        let id = self.wire.token();
        let id = Some(id.as_str());
        let (from, lang) = (Some(from), Some(LANG));
        let opening = StreamOpen {
            content_ns: ns::CLIENT,
            from,
            to,
            id,
            lang,
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
            (State::Open(mut open), frame) => match open.frame(frame, &mut self.wire)? {
                Step::Go => Ok(State::Open(open)),
                Step::PeerClosed(CloseReason::Clean) => {
                    self.wire.tell(Output::PeerClosing);
                    Ok(State::AwaitClose(open))
                }
                Step::PeerClosed(reason) => Ok(self.answer_close(reason)),
            },
            (State::Closing(open, until), frame) => Ok(self.closing(open, until, frame)),
            (_, Frame::Footer) => Ok(self.answer_close(CloseReason::Clean)),
            (_, Frame::Nonza(element)) if element.is(ns::STREAMS, "error") => {
                let error = StreamError::from_element(&element);
                Ok(self.answer_close(CloseReason::Theirs(error)))
            }
            (State::AwaitHeader, Frame::Header(header)) => self.header(&header),
            (State::AwaitFeature(stage), Frame::Nonza(element)) => {
                self.feature(stage, &element, more)
            }
            (State::AwaitFeature(stage), Frame::Stanza(stanza)) => {
                self.early_stanza(stage, stanza, now)
            }
            (State::AwaitResponse(stage, exchange), Frame::Nonza(element)) => {
                self.response(stage, *exchange, &element)
            }
            // RFC 6120 sections 4.3.5, 6.3.1, 7.3.1: nothing but negotiation before its end.
            (_, Frame::Stanza(_) | Frame::Refused(_)) => Err(not_authorized()),
            (_, Frame::Nonza(_) | Frame::Header(_)) => {
                Err(StreamError::new(StreamCondition::BadFormat))
            }
        }
    }

    fn answer_close(&mut self, reason: CloseReason) -> State {
        self.open_for_closing();
        self.wire.footer();
        self.wire.over(reason);
        State::Closed
    }

    /// We have closed: the peer may finish what it was saying (RFC 6120 section 4.4).
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
            Frame::Stanza(_) | Frame::Refused(_) | Frame::Nonza(_) | Frame::Header(_) => {}
        }
        State::Closing(open, until)
    }

    /// RFC 6120 section 4.7: judges the opening tag, answers with ours and the features.
    fn header(&mut self, header: &Header) -> Result<State, StreamError> {
        header::check(header, ns::CLIENT).map_err(StreamError::new)?;
        let domain = header.to.as_deref().and_then(header::domain);
        let host = domain.and_then(|domain| self.config.hosts.host(domain.domain()));
        // Section 4.9.1.3: no `to`, or one that we do not serve.
        let host = host.ok_or_else(|| StreamError::new(StreamCondition::HostUnknown))?;
        let from = header.from.as_deref().map(Jid::parse);
        let version = Version::of(header.version.as_deref());
        let to = match &from {
            Some(Ok(from)) => Some(from.bare_str()),
            _ => None,
        };
        self.open(&host.domain, to, version != Version::Old);
        if version != Version::One {
            return Err(StreamError::new(StreamCondition::UnsupportedVersion));
        }
        let Ok(from) = from.transpose() else {
            return Err(StreamError::new(StreamCondition::ImproperAddressing));
        };
        self.check_account(&host, from.as_ref())?;
        self.wire.set_default_lang(header.lang.as_deref());
        let certificate = self.certificate(&host);
        let is_usable = certificate.as_ref().is_some_and(|shown| shown.is_usable());
        let offer = Offer::of(&host, self.tls.as_ref(), is_usable);
        let lang = header.lang.as_deref().map(Into::into);
        let stage = Box::new(Stage {
            host,
            from,
            lang,
            offer,
            certificate,
            tried: None,
        });
        self.features(&stage);
        Ok(State::AwaitFeature(stage))
    }

    /// After login the header has to fit who signed in (row sasl-correlate).
    fn check_account(&self, host: &HostView, from: Option<&Jid>) -> Result<(), StreamError> {
        let Some(account) = &self.account else {
            return Ok(());
        };
        if account.domain() != &*host.domain {
            return Err(not_authorized());
        }
        match from {
            Some(from) if !is_same_account(from, account) => {
                Err(StreamError::new(StreamCondition::InvalidFrom))
            }
            _ => Ok(()),
        }
    }

    fn features(&mut self, stage: &Stage) {
        let limits = &self.config.limits;
        let out = &mut self.wire.out;
        out.extend_from_slice(b"<stream:features>");
        if self.account.is_some() {
            bind::write_feature(out);
            if self.config.manage {
                sm::write_feature(out);
            }
            out.extend_from_slice(&stage.host.features_after_auth);
            let bytes = limits.after_auth.stanza_bytes_max;
            limits::write_feature(out, bytes, Some(limits.silence_max));
        } else {
            if self.tls.is_none() {
                starttls::write_feature(out, self.config.tls == TlsRule::Required);
            }
            if offers_login(self.config.tls, self.tls.as_ref()) {
                stage.offer.write(out);
                out.extend_from_slice(&stage.host.features_before_auth);
                limits::write_feature(out, limits.before_auth.stanza_bytes_max, None);
            }
        }
        out.extend_from_slice(b"</stream:features>");
    }

    fn feature(
        &mut self,
        stage: Box<Stage>,
        element: &Element,
        more: bool,
    ) -> Result<State, StreamError> {
        match (element.ns(), element.name()) {
            (ns::TLS, "starttls") => self.start_tls(&stage, element, more),
            (ns::SM, _) => self.manage(stage, element),
            (ns::SASL, _) if self.account.is_some() => Err(not_authorized()),
            (ns::SASL, "auth") => self.auth(stage, element),
            (ns::SASL, "abort" | "response") => {
                self.refuse(stage, None, Refusal::malformed("no exchange under way"))
            }
            _ => Err(StreamError::new(StreamCondition::UnsupportedStanzaType)),
        }
    }

    fn start_tls(
        &mut self,
        stage: &Stage,
        element: &Element,
        more: bool,
    ) -> Result<State, StreamError> {
        let is_bare = element.nodes().is_empty();
        if self.tls.is_some() || self.account.is_some() || !is_bare {
            // RFC 6120 section 5.4.2.2: failure, then the closing tag.
            starttls::write(&mut self.wire.out, "failure");
            return Ok(self.answer_close(CloseReason::TlsFailed));
        }
        if more {
            // Row tl-03: what was sent in clear must never be read as if it had come over TLS.
            return Err(
                StreamError::new(StreamCondition::PolicyViolation).with_text("data after starttls")
            );
        }
        starttls::write(&mut self.wire.out, "proceed");
        self.wire.tell(Output::StartTls {
            to: stage.host.domain.clone(),
        });
        Ok(State::AwaitTls)
    }
}

fn not_authorized() -> StreamError {
    StreamError::new(StreamCondition::NotAuthorized)
}

fn offers_login(rule: TlsRule, tls: Option<&TlsInfo>) -> bool {
    tls.is_some() || rule == TlsRule::Optional
}

/// Compares as account names are prepared, which is stricter than for JIDs that are only routed.
fn is_same_account(jid: &Jid, account: &BareJid) -> bool {
    let prepared = jid
        .local()
        .and_then(|local| BareJid::account(local, jid.domain()).ok());
    prepared.is_some_and(|prepared| prepared == *account)
}

impl Machine for Responder {
    fn handle_bytes(&mut self, data: &[u8], now: Instant) {
        match &mut self.state {
            State::Closed => return,
            State::Open(open) => open.heard(now),
            // Row tl-03, when the bytes come in a later read.
            State::AwaitTls if !data.is_empty() => {
                self.state = State::Closed;
                return self.wire.over(CloseReason::TlsFailed);
            }
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
        let reason = match self.take_state() {
            State::Closed => return,
            // It has said that it goes.
            State::AwaitClose(_) => CloseReason::Clean,
            _ => CloseReason::Eof,
        };
        self.wire.over(reason);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|due| due <= now);
        match &mut self.state {
            State::Closed => {}
            // Row lm-08.
            State::Open(_) if is_over(self.good_until) => {
                self.fail(StreamError::new(StreamCondition::Reset));
            }
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
            // Row tl-06: no closing tag when TLS does not come about.
            State::AwaitTls => {
                if is_over(self.deadline) {
                    self.state = State::Closed;
                    self.wire.over(CloseReason::TlsFailed);
                }
            }
            _ => {
                if is_over(self.deadline) {
                    self.fail(StreamError::new(StreamCondition::ConnectionTimeout));
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
            State::Open(open) => open.deadline().into_iter().chain(self.good_until).min(),
            State::Closing(_, until) => *until,
            _ => self.deadline,
        }
    }

    fn poll_timeout_unread(&self) -> Option<Instant> {
        match &self.state {
            State::Open(_) => self.good_until,
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
                | State::AwaitResponse(..)
                | State::Open(_)
                | State::Closing(..)
        )
    }

    fn tls_established(&mut self, info: TlsInfo, now: Instant) {
        if matches!(self.state, State::AwaitTls) {
            // Row tl-07: what was said in clear is forgotten with the old state.
            self.tls = Some(info);
            self.wire.restart(self.config.limits.before_auth);
            self.state = State::AwaitHeader;
            self.resume(now);
        }
    }

    fn release(&mut self) {
        self.wire.release();
    }
}
