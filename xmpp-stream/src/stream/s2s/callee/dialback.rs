//! Dialback for who was called: the receiving server, and the authoritative one (XEP-0220 sections
//! 2.2.1 and 2.2.2).

use super::{Callee, Flow, State, not_authorized};
use crate::error::{StreamCondition, StreamError};
use crate::features::dialback::{self, Step, Words};
use crate::stream::s2s::{Answer, DialbackCondition, Event, KeyCheck, Pair, Proof};
use crate::stream::{CloseReason, Failure, Output};
use crate::xml::Element;
use std::time::Instant;

impl Callee {
    /// Answers `Event::CheckKey`. Nothing happens when it was not asked, or the stream is over.
    pub fn key_checked(&mut self, pair: &Pair, answer: Answer, now: Instant) {
        let Some(at) = self.pending.iter().position(|pending| pending == pair) else {
            return;
        };
        self.pending.swap_remove(at);
        if !matches!(
            self.state,
            State::AwaitFeature(_) | State::AwaitResponse(_) | State::Open(_)
        ) {
            return;
        }
        let is_lost =
            answer == Answer::Invalid && self.proven.is_empty() && self.pending.is_empty();
        let answer = match answer {
            // Row db-07: other pairs go on; for them the stream is kept.
            Answer::Invalid if !is_lost => Answer::error(DialbackCondition::Forbidden),
            answer => answer,
        };
        self.write_result(pair, &answer);
        if is_lost {
            return self.answer_close(CloseReason::Failed(Failure::Dialback(answer)));
        }
        if answer != Answer::Valid {
            if let Err(error) = self.refused() {
                self.fail(error);
            }
            return;
        }
        self.prove(pair.clone(), Proof::Dialback);
        if !self.is_open() {
            self.wire.set_limits(self.config.limits.after_auth);
            let flow = Flow::new(&self.config.limits, now);
            self.state = State::Open(Box::new(flow));
            self.deadline = None;
        }
    }

    /// An element of dialback, whoever else is proven (row db-12).
    pub(super) fn dialback(&mut self, element: &Element) -> Result<(), StreamError> {
        let improper = || StreamError::new(StreamCondition::ImproperAddressing);
        let words = Words::of(element).ok_or_else(improper)?;
        let pair = Pair::new(&words.from, &words.to).ok_or_else(improper)?;
        match (words.step, &words.answer) {
            // Rows db-02, bi-06: nothing was asked on this stream, so nothing can be answered.
            (_, Some(_)) => {
                Err(StreamError::new(StreamCondition::InvalidFrom).with_text("unasked dialback"))
            }
            (Step::Result, None) => self.asks_to_be_proven(pair, words.key),
            (Step::Verify, None) => {
                let id = words.id.ok_or_else(improper)?;
                self.asks_to_verify(&pair, &id, &words.key)
            }
        }
    }

    /// `<db:result/>` with a key.
    fn asks_to_be_proven(&mut self, pair: Pair, key: Box<str>) -> Result<(), StreamError> {
        if let Some(condition) = self.objection(&pair) {
            self.write_result(&pair, &Answer::error(condition));
            return self.refused();
        }
        if self.pending.contains(&pair) {
            // One answer for both.
            return Ok(());
        }
        if self.proven.contains_key(&pair) {
            self.write_result(&pair, &Answer::Valid);
            return Ok(());
        }
        if self.proven.len() >= self.config.limits.s2s.pairs_max
            || self.pending.len() >= self.config.limits.s2s.dialback_pending_max
        {
            let answer = Answer::error(DialbackCondition::ResourceConstraint);
            self.write_result(&pair, &answer);
            return self.refused_for_number();
        }
        if self.trusted.as_deref() == Some(&*pair.from) {
            // Row db-16: the certificate says already what a key could only make likely.
            self.write_result(&pair, &Answer::Valid);
            self.wire.set_limits(self.config.limits.after_auth);
            self.prove(pair, Proof::Certificate);
            return Ok(());
        }
        self.pending.push(pair.clone());
        let id = self.stream_id.clone();
        let check = KeyCheck { pair, id, key };
        self.wire.tell(Output::Server(Event::CheckKey(check)));
        Ok(())
    }

    /// Why a pair cannot be proven, whatever the key is.
    fn objection(&self, pair: &Pair) -> Option<DialbackCondition> {
        let domains = &self.config.domains;
        if !self.is_secured() || !self.config.dialback.is_allowed(self.tls.is_some()) {
            return Some(match self.tls {
                None => DialbackCondition::PolicyViolation,
                Some(_) => DialbackCondition::NotAuthorized,
            });
        }
        // Row db-06: the stream stays.
        if !domains.is_served(&pair.to) {
            return Some(DialbackCondition::ItemNotFound);
        }
        domains
            .is_served(&pair.from)
            .then_some(DialbackCondition::NotAcceptable)
    }

    /// Who has proven itself may ask for more than it gets as often as it likes.
    fn refused_for_number(&mut self) -> Result<(), StreamError> {
        match self.proven.is_empty() {
            true => self.refused(),
            false => Ok(()),
        }
    }

    /// `<db:verify/>` with a key: is it one of ours? The peer needs not to have proven anything.
    fn asks_to_verify(&mut self, pair: &Pair, id: &str, key: &str) -> Result<(), StreamError> {
        if !self.is_secured() {
            return Err(not_authorized());
        }
        self.verified += 1;
        if self.proven.is_empty() && self.verified > self.config.limits.s2s.verify_max {
            let error = StreamError::new(StreamCondition::PolicyViolation);
            return Err(error.with_text("too many keys to verify"));
        }
        let Pair { from, to } = pair;
        let answer = if !self.config.domains.is_served(to) {
            Answer::error(DialbackCondition::ItemNotFound)
        } else if self.config.secret.is_key(key, from, to, id) {
            Answer::Valid
        } else {
            Answer::Invalid
        };
        dialback::write_answer(&mut self.wire.out, to, from, Some(id), &answer);
        Ok(())
    }

    fn write_result(&mut self, pair: &Pair, answer: &Answer) {
        dialback::write_answer(&mut self.wire.out, &pair.to, &pair.from, None, answer);
    }
}
