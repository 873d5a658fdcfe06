//! The server's side of a component's stream (XEP-0114 section 3).

use super::{Event, Secret};
use crate::error::{StreamCondition, StreamError};
use crate::features::handshake;
use crate::jid::Jid;
use crate::limits::Limits;
use crate::ns;
use crate::stanza::Item;
use crate::stream::header;
use crate::stream::open::{Open, Side, Step};
use crate::stream::s2s::flow;
use crate::stream::wire::Wire;
use crate::stream::{CloseReason, Machine, Output, RandomSource, TlsInfo};
use crate::xml::writer::StreamOpen;
use crate::xml::{Element, Frame, Header};
use std::sync::Arc;
use std::time::Instant;

/// Components that may come.
pub trait Allowed: Send + Sync {
    /// The secret of a component (domain in prepared form); `None`: there is none of this name.
    fn secret(&self, domain: &str) -> Option<Secret>;
}

/// Fixed facts of an accepted stream of a component.
#[derive(Clone)]
pub struct AcceptorConfig {
    /// Components that may come.
    pub allowed: Arc<dyn Allowed>,
    /// Who asks a silent component for a sign of life: a domain of ours.
    pub local: Jid,
    /// Bounds; shared. `after_auth` should be `XmlLimits::s2s()`.
    pub limits: Arc<Limits>,
}

/// The accepting side, from the first byte to the closing tag.
///
/// ```text
/// AwaitHeader ──► AwaitHandshake ──► AwaitAdmitted ──► Open ──► Closing ──► Closed
/// ```
///
/// In `AwaitAdmitted` it waits for our own side and takes no input.
pub struct Acceptor {
    config: AcceptorConfig,
    wire: Wire,
    state: State,
    /// The component's domain, from its header on.
    domain: Option<Jid>,
    stream_id: Box<str>,
    /// Until when the stream has to be established.
    deadline: Option<Instant>,
}

enum State {
    AwaitHeader,
    AwaitHandshake(Secret),
    AwaitAdmitted,
    Open(Box<Open>),
    Closing(Option<Instant>),
    Closed,
}

impl Acceptor {
    /// Waits for the component's header. `random`: stream ids.
    pub fn new(config: AcceptorConfig, random: RandomSource, now: Instant) -> Self {
        let deadline = now.checked_add(config.limits.negotiation_max);
        let wire = Wire::between(ns::COMPONENT, config.limits.before_auth, random);
        Self {
            config,
            wire,
            state: State::AwaitHeader,
            domain: None,
            stream_id: Box::default(),
            deadline,
        }
    }

    /// Answers `Event::Authenticated`; an error ends the stream (`conflict`: it is here already).
    pub fn admitted(&mut self, result: Result<(), StreamError>, now: Instant) {
        let (State::AwaitAdmitted, Some(domain)) = (&self.state, &self.domain) else {
            return;
        };
        if let Err(error) = result {
            return self.fail(error);
        }
        let limits = &self.config.limits;
        let local = Some(self.config.local.clone());
        // As on streams that a client opens: nothing of what clients ask for is answered here.
        let open = Open::new(Side::Initiator, local, domain.clone(), limits, now);
        handshake::write(&mut self.wire.out, "");
        self.wire.set_limits(limits.after_auth);
        self.wire.tell(Output::Component(Event::Established));
        self.state = State::Open(Box::new(open));
        self.deadline = None;
        let held = std::mem::take(&mut self.wire.held);
        self.run(&held);
    }

    /// Sends an item; false, and nothing is sent, when the stream is not open.
    pub fn send<D>(&mut self, item: &Item<D>) -> bool {
        if !self.is_open() {
            return false;
        }
        if let Some(error) = flow::write_item(item, &mut self.wire.out) {
            self.fail(error);
        }
        true
    }

    /// Closes from our side, with an error or cleanly.
    pub fn close(&mut self, error: Option<StreamError>, now: Instant) {
        match (self.take_state(), error) {
            (state @ (State::Closed | State::Closing(_)), _) => self.state = state,
            (_, Some(error)) => self.fail(error),
            (_, None) => {
                self.open_for_closing();
                self.wire.footer();
                self.state = State::Closing(now.checked_add(self.config.limits.close_max));
            }
        }
    }

    /// True while stanzas flow.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The component's domain, once it is established.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.domain
            .as_ref()
            .map(Jid::domain)
            .filter(|_| self.is_open())
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed)
    }

    fn run(&mut self, mut data: &[u8]) {
        while self.wants_input() {
            match self.wire.next(&mut data) {
                Ok(Some(frame)) => {
                    let state = self.take_state();
                    match self.step(state, frame) {
                        Ok(state) => self.state = state,
                        Err(error) => self.fail(error),
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
        self.open_for_closing();
        self.wire.write_error(&error);
        self.end(CloseReason::Ours(error));
    }

    fn answer_close(&mut self, reason: CloseReason) -> State {
        self.open_for_closing();
        self.wire.footer();
        self.wire.over(reason);
        State::Closed
    }

    fn open_for_closing(&mut self) {
        if !self.wire.opened {
            let from = self.config.local.domain().to_owned();
            self.open(&from);
        }
    }

    fn open(&mut self, from: &str) {
        self.stream_id = self.wire.token().into();
        let opening = StreamOpen {
            content_ns: ns::COMPONENT,
            from: Some(from),
            id: Some(&self.stream_id),
            ..StreamOpen::default()
        };
        self.wire.open(&opening);
    }

    fn step(&mut self, state: State, frame: Frame) -> Result<State, StreamError> {
        match (state, frame) {
            (State::Closing(_), Frame::Footer) => {
                self.wire.over(CloseReason::Clean);
                Ok(State::Closed)
            }
            (State::Closing(until), _) => Ok(State::Closing(until)),
            (State::Open(open), frame) => self.opened(open, frame),
            (_, Frame::Footer) => Ok(self.answer_close(CloseReason::Clean)),
            (_, Frame::Nonza(element)) if element.is(ns::STREAMS, "error") => {
                let error = StreamError::from_element(&element);
                Ok(self.answer_close(CloseReason::Theirs(error)))
            }
            (State::AwaitHeader, Frame::Header(header)) => self.header(&header),
            (State::AwaitHandshake(secret), Frame::Nonza(element)) => {
                self.handshake(&secret, &element)
            }
            (_, Frame::Header(_)) => Err(StreamError::new(StreamCondition::BadFormat)),
            // Nothing but the handshake before its end.
            _ => Err(StreamError::new(StreamCondition::NotAuthorized)),
        }
    }

    fn header(&mut self, header: &Header) -> Result<State, StreamError> {
        header::check(header, ns::COMPONENT).map_err(StreamError::new)?;
        let domain = header.to.as_deref().and_then(header::domain);
        let secret = domain
            .as_ref()
            .and_then(|domain| self.config.allowed.secret(domain.domain()));
        let (Some(domain), Some(secret)) = (domain, secret) else {
            return Err(StreamError::new(StreamCondition::HostUnknown));
        };
        self.open(domain.domain());
        self.wire.set_default_lang(header.lang.as_deref());
        self.domain = Some(domain);
        Ok(State::AwaitHandshake(secret))
    }

    fn handshake(&mut self, secret: &Secret, element: &Element) -> Result<State, StreamError> {
        let is_right = element.is(ns::COMPONENT, "handshake")
            && secret.is_digest(element.text().trim(), &self.stream_id);
        match (is_right, &self.domain) {
            (true, Some(domain)) => {
                let domain = domain.domain().into();
                let event = Event::Authenticated { domain };
                self.wire.tell(Output::Component(event));
                Ok(State::AwaitAdmitted)
            }
            _ => Err(StreamError::new(StreamCondition::NotAuthorized)),
        }
    }

    fn opened(&mut self, mut open: Box<Open>, frame: Frame) -> Result<State, StreamError> {
        self.check_from(&frame)?;
        if matches!(&frame, Frame::Nonza(element) if element.ns() == ns::COMPONENT) {
            return Err(StreamError::new(StreamCondition::UnsupportedStanzaType));
        }
        match open.frame(frame, &mut self.wire)? {
            Step::Go => Ok(State::Open(open)),
            Step::PeerClosed(reason) => Ok(self.answer_close(reason)),
        }
    }

    /// Section 3: both addresses, and `from` of the component's own domain.
    fn check_from(&self, frame: &Frame) -> Result<(), StreamError> {
        let Some((from, _)) = flow::domains(frame)? else {
            return Ok(());
        };
        match self.domain.as_ref().is_some_and(|own| own.domain() == from) {
            true => Ok(()),
            false => Err(StreamError::new(StreamCondition::InvalidFrom)),
        }
    }
}

impl Machine for Acceptor {
    fn handle_bytes(&mut self, data: &[u8], now: Instant) {
        match &mut self.state {
            State::Closed => return,
            State::Open(open) => open.heard(now),
            _ => {}
        }
        let mut held = std::mem::take(&mut self.wire.held);
        if held.is_empty() {
            self.run(data);
        } else {
            held.extend_from_slice(data);
            self.run(&held);
        }
    }

    fn handle_eof(&mut self, _now: Instant) {
        if !matches!(self.state, State::Closed) {
            self.end(CloseReason::Eof);
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
            State::Closing(until) => {
                if is_over(*until) {
                    self.end(CloseReason::CloseTimeout);
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
            State::Open(open) => open.deadline(),
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
        !matches!(self.state, State::AwaitAdmitted | State::Closed)
    }

    /// There is no TLS on these streams.
    fn tls_established(&mut self, _info: TlsInfo, _now: Instant) {}

    fn release(&mut self) {
        self.wire.release();
    }
}
