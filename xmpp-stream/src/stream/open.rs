//! The negotiated stream, the same for both sides: stanzas, the silence timer, the end.
//!
//! RFC 6120 sections 4.4 (closing), 4.6 (silence) and 4.8.4; pings by XEP-0199.

use super::wire::Wire;
use super::{CloseReason, Output};
use crate::error::{StanzaError, StreamCondition, StreamError};
use crate::features::bind;
use crate::features::sm::{self, SmRequest};
use crate::jid::Jid;
use crate::limits::Limits;
use crate::ns;
use crate::stanza::{Kind, Stanza, Ty};
use crate::xml::{Element, Frame};
use std::time::{Duration, Instant};

/// Which end of the stream we are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Initiator,
    Responder,
}

/// What a frame does to an open stream.
#[derive(Debug)]
pub(super) enum Step {
    Go,
    /// The peer has closed, or sent an error: answer with the closing tag.
    PeerClosed(CloseReason),
}

/// A stream on which stanzas flow.
#[derive(Debug)]
pub(super) struct Open {
    side: Side,
    /// Who asks and who is asked when the peer is silent.
    ping_from: Option<Jid>,
    ping_to: Jid,
    heard: Instant,
    silence_max: Duration,
    silence_answer_max: Duration,
    ping: Option<Ping>,
    /// When the peer is asked for a sign of life though it is not silent for long.
    expected: Option<Instant>,
    /// Stanzas are counted: what we answer ourselves goes through whoever counts.
    managed: bool,
}

#[derive(Debug)]
struct Ping {
    id: String,
    /// Until when something has to be heard; `None` once it was.
    due: Option<Instant>,
}

impl Open {
    pub(super) fn new(
        side: Side,
        ping_from: Option<Jid>,
        ping_to: Jid,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        Self {
            side,
            ping_from,
            ping_to,
            heard: now,
            silence_max: limits.silence_max,
            silence_answer_max: limits.silence_answer_max,
            ping: None,
            expected: None,
            managed: false,
        }
    }

    /// The same for a stream that goes on with an earlier one (XEP-0198 section 5).
    pub(super) fn resumed(mut self) -> Self {
        self.managed = true;
        self
    }

    /// Stream management is in use, or not any more.
    pub(super) fn set_managed(&mut self, managed: bool) {
        self.managed = managed;
    }

    /// Asks for a sign of life at this time. What comes before may have been under way already.
    pub(super) fn expect_by(&mut self, at: Instant) {
        self.expected.get_or_insert(at);
    }

    /// The sign is there, or asked for.
    pub(super) fn expect_nothing(&mut self) {
        self.expected = None;
    }

    /// The peer's address.
    pub(super) fn peer(&self) -> &Jid {
        &self.ping_to
    }

    /// Bytes came: the peer lives, whatever they say.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        if let Some(ping) = &mut self.ping {
            ping.due = None;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.ping.as_ref().and_then(|ping| ping.due);
        let silent = || self.heard.checked_add(self.silence_max);
        due.or_else(|| self.expected.into_iter().chain(silent()).min())
    }

    /// Pings a silent peer, and gives up on one that does not answer.
    pub(super) fn timeout(&mut self, wire: &mut Wire, now: Instant) -> Result<(), StreamError> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if self.ping.as_ref().is_some_and(|ping| ping.due.is_some()) {
            return Err(StreamError::new(StreamCondition::ConnectionTimeout));
        }
        self.expected = None;
        let id = wire.token();
        let due = now.checked_add(self.silence_answer_max);
        if self.managed {
            // An answer is due to this as well, and it is no stanza that somebody has to count.
            sm::write_ask(&mut wire.out);
            self.ping = Some(Ping { id, due });
            return Ok(());
        }
        let payload = Element::new(ns::PING, "ping");
        let mut ping = Stanza::iq(Ty::Get, &id)
            .with_to(self.ping_to.clone())
            .with_child(&payload);
        ping.head.from = self.ping_from.clone();
        wire.stanza(&ping);
        self.ping = Some(Ping { id, due });
        Ok(())
    }

    pub(super) fn frame(&mut self, frame: Frame, wire: &mut Wire) -> Result<Step, StreamError> {
        match frame {
            Frame::Stanza(stanza) => self.stanza(stanza, wire),
            Frame::Refused(refused) => wire.tell(Output::Refused(refused)),
            Frame::Footer => return Ok(Step::PeerClosed(CloseReason::Clean)),
            Frame::Nonza(element) if element.is(ns::STREAMS, "error") => {
                let error = StreamError::from_element(&element);
                return Ok(Step::PeerClosed(CloseReason::Theirs(error)));
            }
            Frame::Nonza(element) if self.side == Side::Responder && element.ns() == ns::SM => {
                self.manage(SmRequest::of(&element)?, wire)?;
            }
            Frame::Nonza(element) => return Err(unknown(&element)),
            // RFC 6120 section 7.3.2: no new header after binding.
            Frame::Header(_) => return Err(StreamError::new(StreamCondition::BadFormat)),
        }
        Ok(Step::Go)
    }

    /// XEP-0198 section 3: once a stream; nothing of it before that.
    fn manage(&mut self, request: SmRequest, wire: &mut Wire) -> Result<(), StreamError> {
        match request {
            SmRequest::Enable { .. } if !self.managed => self.managed = true,
            SmRequest::Ask | SmRequest::Ack(_) if self.managed => {}
            SmRequest::Enable { .. } => {
                let error = StreamError::new(StreamCondition::PolicyViolation);
                return Err(error.with_text("stream management is enabled already"));
            }
            SmRequest::Resume { .. } => {
                // Resource binding came first: too late (section 5).
                wire.out
                    .extend_from_slice(&sm::failed("unexpected-request", None));
                return Ok(());
            }
            SmRequest::Ask | SmRequest::Ack(_) => {
                return Err(StreamError::new(StreamCondition::UnsupportedStanzaType));
            }
        }
        wire.tell(Output::Sm(request));
        Ok(())
    }

    /// What the machine has answered itself, or has the answer to.
    fn handled(&self, answer: Option<Stanza>, wire: &mut Wire) {
        match answer {
            answer if self.managed => wire.tell(Output::Handled(answer.map(Box::new))),
            Some(answer) => wire.stanza(&answer),
            None => {}
        }
    }

    fn stanza(&mut self, stanza: Stanza, wire: &mut Wire) {
        if self.is_pong(&stanza) {
            self.ping = None;
            self.handled(None, wire);
        } else if self.side == Side::Responder && bind::is_session(&stanza) {
            self.handled(Some(stanza.result(None)), wire);
        } else if self.side == Side::Responder && bind::is_bind(&stanza) {
            let refusal = stanza.error_reply(&StanzaError::not_allowed());
            self.handled(refusal, wire);
        } else {
            wire.tell(Output::Stanza(stanza));
        }
    }

    fn is_pong(&self, stanza: &Stanza) -> bool {
        stanza.kind == Kind::Iq
            && matches!(stanza.head.ty, Ty::Result | Ty::Error)
            && self
                .ping
                .as_ref()
                .is_some_and(|ping| stanza.head.id.as_deref() == Some(&*ping.id))
    }
}

/// RFC 6120 section 4.8.4: a first-level element that nobody has negotiated.
fn unknown(element: &Element) -> StreamError {
    let condition = match element.ns() {
        ns::SERVER | ns::COMPONENT => StreamCondition::InvalidNamespace,
        _ => StreamCondition::UnsupportedStanzaType,
    };
    StreamError::new(condition)
}
