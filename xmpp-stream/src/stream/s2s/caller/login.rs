//! How a caller proves who it is: SASL EXTERNAL (XEP-0178 section 3), else dialback (XEP-0220 section
//! 2.1.1).

use super::{Caller, End, State};
use crate::features::dialback::{self, Step, Words};
use crate::features::{bidi, external, sasl};
use crate::ns;
use crate::stream::Failure;
use crate::stream::s2s::{Answer, Pair, Proof};
use crate::xml::Element;
use std::time::Instant;

impl Caller {
    pub(super) fn sign_in(&mut self) -> Result<State, End> {
        // Rows bi-02, bi-04: only who has shown a good certificate may send as that domain.
        let is_certain = self.tls.is_some() && self.distrust.is_none();
        if self.config.bidi && self.offer.bidi && is_certain && !self.is_bidi {
            let limits = &self.config.limits;
            let bytes = limits.after_auth.stanza_bytes_max;
            bidi::write(&mut self.wire.out, bytes, limits.s2s.idle_max);
            self.is_bidi = true;
        }
        let is_certified = self.tls.as_ref().is_some_and(|tls| tls.is_certified);
        if self.config.external && is_certified && self.offer.external {
            external::write_auth(&mut self.wire.out, &self.config.pair.from);
            return Ok(State::AwaitSuccess);
        }
        match self.may_dial_back() {
            true => Ok(self.dial_back()),
            false => Err(Failure::NoMechanism.into()),
        }
    }

    fn may_dial_back(&self) -> bool {
        self.offer.dialback && self.config.dialback.is_allowed(self.tls.is_some())
    }

    fn dial_back(&mut self) -> State {
        let Pair { from, to } = &self.config.pair;
        let key = self.config.secret.key(to, from, &self.stream_id);
        dialback::write_key(&mut self.wire.out, from, to, None, &key);
        State::AwaitResult
    }

    pub(super) fn success(&mut self, element: &Element) -> Result<State, End> {
        if element.is(ns::SASL, "challenge") {
            external::write_response(&mut self.wire.out, &self.config.pair.from);
            return Ok(State::AwaitSuccess);
        }
        if element.is(ns::SASL, "failure") {
            // The certificate was not enough for it; dialback may be.
            if self.may_dial_back() {
                return Ok(self.dial_back());
            }
            let text = element.child(ns::SASL, "text");
            return Err(End::Failed(Failure::Login {
                condition: sasl::failure_condition(element),
                text: text.map(|text| text.text().into()),
            }));
        }
        if !element.is(ns::SASL, "success") {
            return Err(Failure::Unexpected.into());
        }
        self.proof = Some(Proof::External);
        self.wire.restart(self.config.limits.after_auth);
        self.open();
        Ok(State::AwaitHeader)
    }

    pub(super) fn result(&mut self, element: &Element, now: Instant) -> Result<State, End> {
        if element.ns() != ns::DIALBACK {
            return Err(Failure::Unexpected.into());
        }
        let Some(answer) = self.own_result(element) else {
            // Row db-02: what we have not asked for proves nothing.
            self.unasked(element)?;
            return Ok(State::AwaitResult);
        };
        if answer != Answer::Valid {
            return Err(Failure::Dialback(answer).into());
        }
        self.proof = Some(Proof::Dialback);
        self.wire.set_limits(self.config.limits.after_auth);
        Ok(self.manage(now))
    }

    /// The answer to our own key.
    fn own_result(&self, element: &Element) -> Option<Answer> {
        let words = Words::of(element).filter(|words| words.step == Step::Result)?;
        let pair = Pair::new(&words.to, &words.from)?;
        words.answer.filter(|_| pair == self.config.pair)
    }
}
