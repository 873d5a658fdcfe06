//! What comes to a caller once the stream is ready: acknowledgements, answers about keys, and with
//! both directions in use (XEP-0288) stanzas.

use super::{Caller, End, Link, Manage, State};
use crate::error::{StreamCondition, StreamError};
use crate::features::dialback::{self, Step, Words};
use crate::features::limits::PeerLimits;
use crate::features::sm::{self, SmAnswer, SmRequest};
use crate::jid::Jid;
use crate::ns;
use crate::stream::s2s::flow::{self, Flow};
use crate::stream::s2s::{Answer, DialbackCondition, Event, KeyCheck, Pair, Proof};
use crate::stream::{Failure, Output};
use crate::xml::{Element, Frame};
use std::time::Instant;

impl Caller {
    pub(super) fn opened(&mut self, mut flow: Box<Flow>, frame: Frame) -> Result<State, End> {
        match frame {
            Frame::Stanza(_) | Frame::Refused(_) => self.stanza(&mut flow, frame)?,
            Frame::Nonza(element) if element.ns() == ns::SM => {
                self.manage_open(&mut flow, &element)?
            }
            Frame::Nonza(element) if element.ns() == ns::DIALBACK => self.unasked(&element)?,
            Frame::Nonza(_) => {
                return Err(StreamError::new(StreamCondition::UnsupportedStanzaType).into());
            }
            Frame::Header(_) => return Err(StreamError::new(StreamCondition::BadFormat).into()),
            Frame::Footer => {
                self.wire.tell(Output::PeerClosing);
                return Ok(State::AwaitClose);
            }
        }
        Ok(State::Open(flow))
    }

    fn stanza(&mut self, flow: &mut Flow, frame: Frame) -> Result<(), StreamError> {
        if !self.is_bidi {
            // Nobody has asked for it, and nobody has proven to be its sender.
            return Err(StreamError::new(StreamCondition::NotAuthorized));
        }
        flow.received();
        let Some((from, to)) = flow::domains(&frame)? else {
            return Ok(());
        };
        let Pair {
            from: local,
            to: peer,
        } = &self.config.pair;
        if from != &**peer || to.is_some_and(|to| to != &**local) {
            return Err(StreamError::new(StreamCondition::InvalidFrom));
        }
        match frame {
            Frame::Stanza(stanza) => self.wire.tell(Output::Stanza(stanza)),
            Frame::Refused(mut refused) => {
                // Row se-01: what was for no address is answered by the domain that calls.
                let ours = || Jid::parse(&self.config.pair.from).ok();
                refused.head.to = refused.head.to.or_else(ours);
                self.wire.tell(Output::Refused(refused));
            }
            _ => {}
        }
        Ok(())
    }

    fn manage_open(&mut self, flow: &mut Flow, element: &Element) -> Result<(), StreamError> {
        if !flow.is_managed() {
            return Err(StreamError::new(StreamCondition::UnsupportedStanzaType));
        }
        match element.name() {
            "r" | "a" => self.wire.tell(Output::Sm(SmRequest::of(element)?)),
            _ => {
                let answer = SmAnswer::of(element)?;
                match answer {
                    SmAnswer::Enabled { .. } => {}
                    SmAnswer::Failed { .. } => flow.set_managed(false),
                    SmAnswer::Resumed { .. } => {
                        return Err(StreamError::new(StreamCondition::UnsupportedStanzaType));
                    }
                }
                self.wire.tell(Output::Managed(answer));
            }
        }
        Ok(())
    }

    pub(super) fn manage(&mut self, now: Instant) -> State {
        if self.offer.manage
            && let Manage::Resume { previd, h } = &self.config.manage
        {
            sm::write_resume(&mut self.wire.out, previd, *h);
            return State::AwaitResumed(previd.clone());
        }
        self.established(None, now)
    }

    pub(super) fn resumed(
        &mut self,
        previd: &str,
        element: &Element,
        now: Instant,
    ) -> Result<State, End> {
        let answer = SmAnswer::of(element)?;
        let h = match &answer {
            SmAnswer::Resumed { previd: said, h } if **said == *previd => Some(*h),
            SmAnswer::Failed { .. } => None,
            _ => return Err(Failure::Unexpected.into()),
        };
        self.wire.tell(Output::Managed(answer));
        Ok(self.established(h, now))
    }

    fn established(&mut self, resumed: Option<u32>, now: Instant) -> State {
        // Only EXTERNAL is followed by features for who is known: those before a key was taken say
        // what a stranger may send.
        let limits = match self.proof {
            Some(Proof::External) => self.offer.limits,
            _ => PeerLimits::default(),
        };
        let mut flow = Flow::new(&self.config.limits, now);
        if let Some(idle) = limits.idle_max {
            flow.close_before(idle);
        }
        let is_managed = self.offer.manage && self.config.manage != Manage::Off;
        if is_managed && resumed.is_none() {
            sm::write_enable(&mut self.wire.out);
        }
        flow.set_managed(is_managed);
        self.deadline = None;
        self.wire.tell(Output::Server(Event::Established(Link {
            proof: self.proof.unwrap_or(Proof::Dialback),
            is_bidi: self.is_bidi,
            is_managed,
            resumed,
            limits,
        })));
        self.ask_keys();
        State::Open(Box::new(flow))
    }

    /// Ready for keys, and for nothing else.
    pub(super) fn ready_to_verify(&mut self, now: Instant) -> State {
        self.ask_keys();
        State::Open(Box::new(Flow::new(&self.config.limits, now)))
    }

    /// Asks about the keys that wait.
    pub(super) fn ask_keys(&mut self) {
        for check in std::mem::take(&mut self.keys) {
            let KeyCheck { pair, id, key } = &check;
            let out = &mut self.wire.out;
            // Who was told the key asks whoever has made it.
            dialback::write_key(out, &pair.to, &pair.from, Some(id), key);
            self.asked.push(check);
        }
    }

    /// Dialback that is not about our own pair: answers about keys, where we have asked (rows
    /// db-02, db-05); requests belong on the streams that the peer opens.
    pub(super) fn unasked(&mut self, element: &Element) -> Result<(), StreamError> {
        let improper = || StreamError::new(StreamCondition::ImproperAddressing);
        let words = Words::of(element).ok_or_else(improper)?;
        match (words.step, words.answer) {
            (Step::Verify, Some(answer)) => {
                let pair = Pair::new(&words.from, &words.to);
                let is_it = |check: &KeyCheck| {
                    Some(&check.pair) == pair.as_ref() && words.id.as_deref() == Some(&*check.id)
                };
                if let Some(at) = self.asked.iter().position(is_it) {
                    let check = self.asked.swap_remove(at);
                    let event = Event::Verified(check, answer);
                    self.wire.tell(Output::Server(event));
                }
            }
            (Step::Result, Some(_)) => {}
            (step, None) => {
                self.misplaced += 1;
                if self.misplaced > self.config.limits.s2s.verify_max {
                    return Err(StreamError::new(StreamCondition::PolicyViolation));
                }
                let (from, to) = (&words.to, &words.from);
                let answer = Answer::error(DialbackCondition::ResourceConstraint);
                let id = match step {
                    Step::Result => None,
                    Step::Verify => Some(words.id.as_deref().ok_or_else(improper)?),
                };
                dialback::write_answer(&mut self.wire.out, from, to, id, &answer);
            }
        }
        Ok(())
    }
}
