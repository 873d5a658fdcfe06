//! SASL EXTERNAL for who was called (XEP-0178 section 3): the certificate was judged before it was
//! offered, so all that can be wrong is the domain that is named.

use super::{Callee, Stage, State};
use crate::error::{SaslCondition, StreamError};
use crate::features::{external, sasl};
use crate::ns;
use crate::stream::header;
use crate::stream::s2s::Pair;
use crate::xml::Element;

impl Callee {
    pub(super) fn auth(
        &mut self,
        stage: Box<Stage>,
        element: &Element,
    ) -> Result<State, StreamError> {
        let is_offered = self.tls.is_some() && self.trusted.is_some();
        if element.attr("mechanism") != Some(external::NAME) || !is_offered {
            return self.refuse(stage, SaslCondition::InvalidMechanism);
        }
        let text = element.text();
        match sasl::decode(&text) {
            // Row sa-11: without an initial response there is one to the empty challenge.
            Ok(None) => {
                sasl::write_step(&mut self.wire.out, "challenge", b"");
                Ok(State::AwaitResponse(stage))
            }
            Ok(Some(data)) => self.sign_in(stage, &data),
            Err(refusal) => self.refuse(stage, refusal.condition),
        }
    }

    pub(super) fn response(
        &mut self,
        stage: Box<Stage>,
        element: &Element,
    ) -> Result<State, StreamError> {
        match (element.ns(), element.name()) {
            (ns::SASL, "response") => match sasl::decode(&element.text()) {
                Ok(data) => self.sign_in(stage, &data.unwrap_or_default()),
                Err(refusal) => self.refuse(stage, refusal.condition),
            },
            // Row sa-08: a second `<auth/>` begins anew.
            (ns::SASL, "auth") => self.auth(stage, element),
            (ns::SASL, "abort") => self.refuse(stage, SaslCondition::Aborted),
            _ => Err(super::not_authorized()),
        }
    }

    /// Row ce-12: who is named has to be who the header says.
    fn sign_in(&mut self, stage: Box<Stage>, data: &[u8]) -> Result<State, StreamError> {
        let named = std::str::from_utf8(data).ok().and_then(header::domain);
        let is_same = |domain: &str| self.trusted.as_deref() == Some(domain);
        if !data.is_empty() && !named.is_some_and(|jid| is_same(jid.domain())) {
            return self.refuse(stage, SaslCondition::InvalidAuthzid);
        }
        let Some(from) = self.trusted.clone() else {
            return self.refuse(stage, SaslCondition::NotAuthorized);
        };
        sasl::write_step(&mut self.wire.out, "success", b"");
        let to = stage.local;
        self.signed_in = Some(Pair { from, to });
        self.wire.restart(self.config.limits.after_auth);
        Ok(State::AwaitHeader)
    }

    /// `<failure/>`; the peer may try dialback.
    pub(super) fn refuse(
        &mut self,
        stage: Box<Stage>,
        condition: SaslCondition,
    ) -> Result<State, StreamError> {
        sasl::write_failure(&mut self.wire.out, condition);
        self.refused()?;
        Ok(State::AwaitFeature(stage))
    }
}
