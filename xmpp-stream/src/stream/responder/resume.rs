//! Going on with an earlier stream instead of binding (XEP-0198 section 5), and the last `<a/>`.

use super::{Responder, Side, Stage, State};
use crate::error::{StreamCondition, StreamError};
use crate::features::sm::{self, SmRequest};
use crate::jid::{FullJid, Jid};
use crate::stream::open::Open;
use crate::stream::{CloseReason, Output};
use crate::xml::Element;
use std::time::Instant;

/// The stream is there: the caller's answer to `Resume`.
#[derive(Clone, Debug)]
pub struct Resumption {
    /// The JID that was bound when it began.
    pub jid: FullJid,
    /// Stanzas of the client that were handled.
    pub h: u32,
}

/// It is not, for whatever reason; the client may bind instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotResumed {
    /// Stanzas of the client that were handled, where the stream is still remembered.
    pub h: Option<u32>,
}

impl Responder {
    /// Answers `Resume`.
    pub fn resumed(&mut self, result: Result<Resumption, NotResumed>, now: Instant) {
        match self.take_state() {
            State::AwaitResumed(stage, previd) => {
                let state = match result {
                    Ok(stream) => Ok(self.go_on(&stage, &previd, stream, now)),
                    Err(NotResumed { h }) => self.not_resumed(stage, "item-not-found", h),
                };
                self.settle(state);
                self.resume(now);
            }
            other => self.state = other,
        }
    }

    /// Answers `PeerClosing`: with stream management, so many stanzas were handled. What was sent
    /// until now stands before our closing tag.
    pub fn finish_close(&mut self, h: Option<u32>) {
        if !matches!(self.state, State::AwaitClose(_)) {
            return;
        }
        if let Some(h) = h {
            self.wire.out.extend_from_slice(&sm::ack(h));
        }
        self.state = self.answer_close(CloseReason::Clean);
    }

    fn go_on(&mut self, stage: &Stage, previd: &str, stream: Resumption, now: Instant) -> State {
        let resumed = sm::resumed(previd, stream.h);
        self.wire.out.extend_from_slice(&resumed);
        let host = Jid::parse(&stage.host.domain).ok();
        let peer = stream.jid.into();
        let open = Open::new(Side::Responder, host, peer, &self.config.limits, now);
        State::Open(Box::new(open.resumed()))
    }

    /// An element of stream management before binding.
    pub(super) fn manage(
        &mut self,
        stage: Box<Stage>,
        element: &Element,
    ) -> Result<State, StreamError> {
        let offered = self.config.manage;
        match (SmRequest::of(element)?, self.account.clone()) {
            (SmRequest::Ask | SmRequest::Ack(_), _) => {
                Err(StreamError::new(StreamCondition::UnsupportedStanzaType))
            }
            (SmRequest::Resume { previd, h }, Some(account)) if offered => {
                let asked = previd.clone();
                self.wire.tell(Output::Resume { account, previd, h });
                Ok(State::AwaitResumed(stage, asked))
            }
            (SmRequest::Resume { .. }, Some(_)) => {
                self.not_resumed(stage, "feature-not-implemented", None)
            }
            (SmRequest::Enable { .. } | SmRequest::Resume { .. }, _) => {
                self.not_resumed(stage, "unexpected-request", None)
            }
        }
    }

    /// `<failed/>`, and on with what was offered; not for ever.
    fn not_resumed(
        &mut self,
        stage: Box<Stage>,
        condition: &str,
        h: Option<u32>,
    ) -> Result<State, StreamError> {
        self.wire.out.extend_from_slice(&sm::failed(condition, h));
        self.tries.resumes += 1;
        if self.tries.resumes >= self.config.limits.bind_tries_max {
            let error = StreamError::new(StreamCondition::PolicyViolation);
            return Err(error.with_text("too many tries"));
        }
        Ok(State::AwaitFeature(stage))
    }
}
