//! Stanzas before the stream is established: guests (XEP-0077), binding (RFC 6120 section 7).

use super::{Responder, Stage, State, not_authorized, offers_login};
use crate::error::{StanzaError, StreamCondition, StreamError};
use crate::features::bind;
use crate::jid::{BareJid, FullJid, Jid};
use crate::ns;
use crate::stanza::{Kind, Stanza, Ty};
use crate::stream::open::{Open, Side};
use crate::stream::{Established, Output};
use std::time::Instant;

impl Responder {
    /// A stanza before the stream is established.
    pub(super) fn early_stanza(
        &mut self,
        stage: Box<Stage>,
        stanza: Stanza,
        now: Instant,
    ) -> Result<State, StreamError> {
        match self.account.clone() {
            None => self.guest(stage, stanza, now),
            Some(account) if bind::is_bind(&stanza) => {
                let resource = bind::wanted_resource(&stanza);
                self.wire.tell(Output::Bind { account, resource });
                Ok(State::AwaitBound(stage, Box::new(stanza)))
            }
            Some(account) => self.before_bind(stage, &stanza, &account),
        }
    }

    /// Requests that a guest may make, such as registration (RFC 6120 section 4.3.5, XEP-0077).
    fn guest(
        &mut self,
        stage: Box<Stage>,
        mut stanza: Stanza,
        now: Instant,
    ) -> Result<State, StreamError> {
        let is_request = stanza.kind == Kind::Iq && matches!(stanza.head.ty, Ty::Get | Ty::Set);
        let ns = stanza.kids.first().and_then(|kid| kid.ns.as_str());
        let is_open = ns.is_some_and(|ns| stage.host.guest_ns.contains(&ns))
            && offers_login(self.config.tls, self.tls.as_ref());
        let to = stanza.head.to.as_ref();
        let is_to_host = to.is_none_or(|to| to.as_str() == &*stage.host.domain);
        if !(is_request && is_open && is_to_host) {
            return Err(not_authorized());
        }
        // More time only where something was shown that takes it.
        let is_shown = !stage.host.features_before_auth.is_empty();
        if ns == Some(ns::REGISTER) && is_shown && !self.tries.registration {
            self.tries.registration = true;
            let longer = now.checked_add(self.config.limits.registration_max);
            self.deadline = self.deadline.max(longer);
        }
        stanza.head.from = None;
        stanza.head.to = Jid::parse(&stage.host.domain).ok();
        self.wire.tell(Output::Guest(stanza));
        Ok(State::AwaitGuest(stage))
    }

    /// RFC 6120 section 7.1: before binding there is nothing but the server and the account.
    fn before_bind(
        &mut self,
        stage: Box<Stage>,
        stanza: &Stanza,
        account: &BareJid,
    ) -> Result<State, StreamError> {
        let is_request = stanza.kind == Kind::Iq && matches!(stanza.head.ty, Ty::Get | Ty::Set);
        let to = stanza.head.to.as_ref().map(Jid::as_str);
        let is_ours = to.is_none_or(|to| to == account.as_str() || to == &*stage.host.domain);
        if !(is_request && is_ours) {
            return Err(not_authorized());
        }
        let error = StanzaError::unexpected_request();
        self.not_bound(stage, stanza, &error)
    }

    pub(super) fn not_bound(
        &mut self,
        stage: Box<Stage>,
        request: &Stanza,
        error: &StanzaError,
    ) -> Result<State, StreamError> {
        if let Some(refusal) = request.error_reply(error) {
            self.wire.stanza(&refusal);
        }
        self.tries.binds += 1;
        if self.tries.binds >= self.config.limits.bind_tries_max {
            return Err(StreamError::new(StreamCondition::PolicyViolation)
                .with_text("too many attempts to bind"));
        }
        Ok(State::AwaitFeature(stage))
    }

    pub(super) fn established(
        &mut self,
        stage: Stage,
        request: &Stanza,
        jid: FullJid,
        now: Instant,
    ) -> State {
        let mut result = request.result(Some(&bind::bound(&jid)));
        // The answer is for whoever asked, whatever was written in `from`.
        (result.head.to, result.head.from) = (None, None);
        self.wire.stanza(&result);
        let host = Jid::parse(&stage.host.domain).ok();
        let peer = jid.as_jid().clone();
        let open = Open::new(Side::Responder, host, peer, &self.config.limits, now);
        self.wire.tell(Output::Established(Established {
            jid,
            lang: stage.lang,
        }));
        State::Open(Box::new(open))
    }
}
