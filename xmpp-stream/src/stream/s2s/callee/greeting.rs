//! The opening tag of who calls, and what it is offered (RFC 6120 sections 4.3.2 and 4.7).

use super::{Callee, Stage, State, not_authorized};
use crate::error::{StreamCondition, StreamError};
use crate::features::{bidi, dialback, external, limits, sm, starttls};
use crate::ns;
use crate::stream::header::{self, Version};
use crate::stream::s2s::flow::Flow;
use crate::stream::s2s::{Dialback, Distrust, Event, Proof};
use crate::stream::{Output, TlsRule};
use crate::xml::Header;
use std::time::Instant;

impl Callee {
    /// RFC 6120 section 4.7: judges the opening tag, answers with ours.
    pub(super) fn header(&mut self, header: &Header, now: Instant) -> Result<State, StreamError> {
        header::check(header, ns::SERVER).map_err(StreamError::new)?;
        let to = header.to.as_deref().and_then(header::domain);
        let to = to.filter(|to| self.config.domains.is_served(to.domain()));
        // Section 4.9.1.3: no `to`, or one that we do not serve.
        let local = to.ok_or_else(|| StreamError::new(StreamCondition::HostUnknown))?;
        let version = Version::of(header.version.as_deref());
        let peer = header.from.as_deref().map(header::domain);
        let told = peer.as_ref().and_then(|peer| Some(peer.as_ref()?.domain()));
        self.open(local.domain(), told, version != Version::Old);
        if version != Version::One {
            return Err(StreamError::new(StreamCondition::UnsupportedVersion));
        }
        let peer = match peer {
            Some(None) => return Err(StreamError::new(StreamCondition::ImproperAddressing)),
            Some(Some(peer)) => Some(Box::from(peer.domain())),
            None => None,
        };
        self.wire.set_default_lang(header.lang.as_deref());
        let local = Box::from(local.domain());
        self.judge(Stage { local, peer }, now)
    }

    /// Who is it? After EXTERNAL that is known; else the caller is asked.
    fn judge(&mut self, stage: Stage, now: Instant) -> Result<State, StreamError> {
        if let Some(signed_in) = self.signed_in.clone() {
            let is_same = stage.local == signed_in.to
                && stage
                    .peer
                    .as_ref()
                    .is_none_or(|peer| *peer == signed_in.from);
            if !is_same {
                return Err(StreamError::new(StreamCondition::InvalidFrom));
            }
            self.write_features();
            self.prove(signed_in, Proof::External);
            return Ok(State::Open(Box::new(Flow::new(&self.config.limits, now))));
        }
        match &stage.peer {
            // Nobody else speaks for a domain of ours.
            Some(peer) if self.config.domains.is_served(peer) => {
                Err(StreamError::new(StreamCondition::InvalidFrom))
            }
            Some(peer) if self.is_secured() => {
                self.wire.tell(Output::Server(Event::CheckPeer {
                    peer: peer.clone(),
                    local: stage.local.clone(),
                }));
                Ok(State::AwaitPeer(Box::new(stage)))
            }
            _ => self.features(Box::new(stage)),
        }
    }

    /// As much TLS as there will be.
    pub(super) fn is_secured(&self) -> bool {
        self.tls.is_some() || self.config.tls == TlsRule::Optional
    }

    pub(super) fn features(&mut self, stage: Box<Stage>) -> Result<State, StreamError> {
        let has_way = self.trusted.is_some() || self.config.dialback != Dialback::Never;
        if self.tls.is_some() && !has_way {
            // Nothing could be offered: the reason is of more use.
            let cause = self.distrust.as_ref().unwrap_or(&Distrust::NoCertificate);
            return Err(not_authorized().with_text(&cause.to_string()));
        }
        self.write_features();
        Ok(State::AwaitFeature(stage))
    }

    fn write_features(&mut self) {
        let limits = &self.config.limits;
        let has_dialback = self.config.dialback.is_allowed(self.tls.is_some()) && self.is_secured();
        let out = &mut self.wire.out;
        out.extend_from_slice(b"<stream:features>");
        if self.tls.is_none() {
            starttls::write_feature(out, self.config.tls == TlsRule::Required);
        }
        if self.signed_in.is_none() {
            if self.trusted.is_some() && self.tls.is_some() {
                external::write_feature(out);
            }
            if self.config.bidi {
                bidi::write_feature(out);
            }
        }
        if has_dialback {
            dialback::write_feature(out);
        }
        // Dialback is followed by no other features: what comes after it has to stand here.
        if self.config.manage && (has_dialback || self.signed_in.is_some()) {
            sm::write_feature(out);
        }
        let is_last = has_dialback || self.signed_in.is_some();
        let max = match is_last {
            true => limits.after_auth.stanza_bytes_max,
            false => limits.before_auth.stanza_bytes_max,
        };
        limits::write_feature(out, max, is_last.then_some(limits.s2s.idle_max));
        out.extend_from_slice(b"</stream:features>");
    }
}
