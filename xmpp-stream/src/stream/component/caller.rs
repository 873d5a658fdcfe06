//! The component's side of its stream (XEP-0114 section 3): enough for tests, scripts and small
//! components of one's own.

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
use crate::stream::{CloseReason, Failure, Machine, Output, RandomSource, TlsInfo};
use crate::xml::writer::StreamOpen;
use crate::xml::{Frame, Header};
use std::time::Instant;

/// Fixed facts of a component's stream.
#[derive(Clone, Debug)]
pub struct ComponentConfig {
    /// The component's own domain.
    pub domain: Jid,
    /// What the server knows it by.
    pub secret: Secret,
    /// Bounds.
    pub limits: Limits,
}

/// The calling side, from our header to the closing tag. It waits for nobody and always takes input.
pub struct Component {
    config: ComponentConfig,
    wire: Wire,
    state: State,
    deadline: Option<Instant>,
}

enum State {
    AwaitHeader,
    AwaitHandshake,
    Open(Box<Open>),
    Closing(Option<Instant>),
    Closed,
}

/// Why a step ends the stream.
enum End {
    Error(StreamError),
    Failed(Failure),
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Error(error)
    }
}

impl Component {
    /// Begins with our header. `random`: stanza ids.
    pub fn new(config: ComponentConfig, random: RandomSource, now: Instant) -> Self {
        let deadline = now.checked_add(config.limits.negotiation_max);
        let mut wire = Wire::between(ns::COMPONENT, config.limits.after_auth, random);
        let opening = StreamOpen {
            content_ns: ns::COMPONENT,
            to: Some(config.domain.domain()),
            ..StreamOpen::default()
        };
        wire.open(&opening);
        Self {
            config,
            wire,
            state: State::AwaitHeader,
            deadline,
        }
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
        match (&self.state, error) {
            (State::Closed | State::Closing(_), _) => {}
            (_, Some(error)) => self.fail(error),
            (_, None) => {
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

    fn run(&mut self, mut data: &[u8], now: Instant) {
        while self.wants_input() {
            match self.wire.next(&mut data) {
                Ok(Some(frame)) => {
                    let state = std::mem::replace(&mut self.state, State::Closed);
                    match self.step(state, frame, now) {
                        Ok(state) => self.state = state,
                        Err(End::Error(error)) => self.fail(error),
                        Err(End::Failed(failure)) => {
                            self.wire.footer();
                            self.end(CloseReason::Failed(failure));
                        }
                    }
                }
                Ok(None) => return,
                Err(error) => return self.fail(StreamError::from(&error)),
            }
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

    fn step(&mut self, state: State, frame: Frame, now: Instant) -> Result<State, End> {
        match (state, frame) {
            (State::Closing(_), Frame::Footer) => {
                self.wire.over(CloseReason::Clean);
                Ok(State::Closed)
            }
            (State::Open(mut open), frame) => match open.frame(frame, &mut self.wire)? {
                Step::Go => Ok(State::Open(open)),
                Step::PeerClosed(reason) => Ok(self.answer_close(reason)),
            },
            (_, Frame::Nonza(element)) if element.is(ns::STREAMS, "error") => {
                let error = StreamError::from_element(&element);
                Ok(self.answer_close(CloseReason::Theirs(error)))
            }
            (_, Frame::Footer) => Ok(self.answer_close(CloseReason::Clean)),
            (State::AwaitHeader, Frame::Header(header)) => self.header(&header),
            (State::AwaitHandshake, Frame::Nonza(element))
                if element.is(ns::COMPONENT, "handshake") =>
            {
                let domain = self.config.domain.clone();
                let limits = &self.config.limits;
                let from = Some(domain.clone());
                let open = Open::new(Side::Initiator, from, domain, limits, now);
                self.deadline = None;
                self.wire.tell(Output::Component(Event::Established));
                Ok(State::Open(Box::new(open)))
            }
            (State::Closing(until), _) => Ok(State::Closing(until)),
            _ => Err(End::Failed(Failure::Unexpected)),
        }
    }

    fn answer_close(&mut self, reason: CloseReason) -> State {
        self.wire.footer();
        self.wire.over(reason);
        State::Closed
    }

    fn header(&mut self, header: &Header) -> Result<State, End> {
        header::check(header, ns::COMPONENT).map_err(StreamError::new)?;
        let id = header.id.as_deref().ok_or(End::Failed(Failure::Header))?;
        let digest = self.config.secret.digest(id);
        handshake::write(&mut self.wire.out, &digest);
        Ok(State::AwaitHandshake)
    }
}

impl Machine for Component {
    fn handle_bytes(&mut self, data: &[u8], now: Instant) {
        if let State::Open(open) = &mut self.state {
            open.heard(now);
        }
        self.run(data, now);
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
        !matches!(self.state, State::Closed)
    }

    /// There is no TLS on these streams.
    fn tls_established(&mut self, _info: TlsInfo, _now: Instant) {}

    fn release(&mut self) {
        self.wire.release();
    }
}
