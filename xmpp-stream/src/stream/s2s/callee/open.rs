//! Stanzas of proven pairs, and stream management (XEP-0198), for who was called.

use super::{Callee, Flow, State};
use crate::error::{StreamCondition, StreamError};
use crate::features::sm::{self, SmRequest};
use crate::jid::Jid;
use crate::ns;
use crate::stream::s2s::{Event, Pair, flow};
use crate::stream::{NotResumed, Output};
use crate::xml::{Element, Frame};
use std::time::Instant;

impl Callee {
    /// Answers `Event::Resume`: with the number of the peer's stanzas that were handled.
    pub fn resumed(&mut self, result: Result<u32, NotResumed>, now: Instant) {
        match self.take_state() {
            State::AwaitResumed(mut flow, previd) => {
                let answer = match result {
                    Ok(h) => {
                        flow.set_managed(true);
                        sm::resumed(&previd, h)
                    }
                    Err(NotResumed { h }) => sm::failed("item-not-found", h),
                };
                self.wire.out.extend_from_slice(&answer);
                let state = match result {
                    Ok(_) => Ok(()),
                    Err(_) => self.refused(),
                };
                self.settle(state.map(|()| State::Open(flow)));
                self.resume(now);
            }
            other => self.state = other,
        }
    }

    pub(super) fn opened(
        &mut self,
        mut flow: Box<Flow>,
        frame: Frame,
    ) -> Result<State, StreamError> {
        match frame {
            Frame::Stanza(_) | Frame::Refused(_) => {
                flow.received();
                self.stanza(frame)?;
            }
            Frame::Nonza(element) => match element.ns() {
                ns::SM => return self.manage(flow, &element),
                ns::DIALBACK => self.dialback(&element)?,
                ns::CLIENT | ns::COMPONENT => {
                    return Err(StreamError::new(StreamCondition::InvalidNamespace));
                }
                _ => return Err(StreamError::new(StreamCondition::UnsupportedStanzaType)),
            },
            Frame::Header(_) => return Err(StreamError::new(StreamCondition::BadFormat)),
            Frame::Footer => {
                self.wire.tell(Output::PeerClosing);
                return Ok(State::AwaitClose(flow));
            }
        }
        Ok(State::Open(flow))
    }

    /// Rows stanza-attribute-from-validate and to-validate.
    fn stanza(&mut self, frame: Frame) -> Result<(), StreamError> {
        let Some((from, to)) = flow::domains(&frame)? else {
            return Ok(());
        };
        self.check_pair(from, to)?;
        // Row se-01: what was for no address is answered by the domain that was called.
        let called = match to {
            Some(_) => None,
            None => self.proven.keys().find(|pair| *pair.from == *from),
        };
        let called = called.and_then(|pair| Jid::parse(&pair.to).ok());
        match frame {
            Frame::Stanza(stanza) => self.wire.tell(Output::Stanza(stanza)),
            Frame::Refused(mut refused) => {
                refused.head.to = refused.head.to.or(called);
                self.wire.tell(Output::Refused(refused));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_pair(&mut self, from: &str, to: Option<&str>) -> Result<(), StreamError> {
        let is_last = |pair: &Pair| *pair.from == *from && Some(&*pair.to) == to;
        if self.last.as_ref().is_some_and(is_last) {
            return Ok(());
        }
        let is_known = match to {
            // Its sender is answered.
            None => self.proven.keys().any(|pair| *pair.from == *from),
            Some(to) => {
                let (from, to) = (from.into(), to.into());
                let pair = Pair { from, to };
                let is_known = self.proven.contains_key(&pair);
                if is_known {
                    self.last = Some(pair);
                }
                is_known
            }
        };
        if is_known {
            return Ok(());
        }
        // RFC 6120 section 8.1.1.2.
        let is_foreign = to.is_some_and(|to| !self.config.domains.is_served(to));
        Err(StreamError::new(match is_foreign {
            true => StreamCondition::HostUnknown,
            false => StreamCondition::InvalidFrom,
        }))
    }

    fn manage(&mut self, mut flow: Box<Flow>, element: &Element) -> Result<State, StreamError> {
        let request = SmRequest::of(element)?;
        match request {
            SmRequest::Ask | SmRequest::Ack(_) if flow.is_managed() => {}
            SmRequest::Ask | SmRequest::Ack(_) => {
                return Err(StreamError::new(StreamCondition::UnsupportedStanzaType));
            }
            _ if !self.config.manage => {
                self.unmanaged("feature-not-implemented")?;
                return Ok(State::Open(flow));
            }
            _ if flow.is_managed() => {
                let error = StreamError::new(StreamCondition::PolicyViolation);
                return Err(error.with_text("stream management is enabled already"));
            }
            SmRequest::Enable { .. } => flow.set_managed(true),
            SmRequest::Resume { .. } if !flow.is_fresh() => {
                self.unmanaged("unexpected-request")?;
                return Ok(State::Open(flow));
            }
            SmRequest::Resume { previd, h } => {
                let pairs = self.proven.keys().cloned().collect();
                let asked = previd.clone();
                let event = Event::Resume { pairs, previd, h };
                self.wire.tell(Output::Server(event));
                return Ok(State::AwaitResumed(flow, asked));
            }
        }
        self.wire.tell(Output::Sm(request));
        Ok(State::Open(flow))
    }

    /// `<failed/>`, and on with what there is; not for ever.
    pub(super) fn unmanaged(&mut self, condition: &str) -> Result<(), StreamError> {
        self.wire
            .out
            .extend_from_slice(&sm::failed(condition, None));
        self.refused()
    }
}
