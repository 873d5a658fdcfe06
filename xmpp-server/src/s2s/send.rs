//! A stanza for another domain: into the queue of its link, or back to its sender.
//!
//! RFC 6120 section 10.4. What the recipient's own server would keep, this one keeps until that
//! server has it (DESIGN 10).

use super::cause::Cause;
use super::link::{Link, Queued};
use super::outgoing;
use crate::core::{Core, Resent, not_stored, refuse, room_for, sent_by};
use crate::effect::Effect;
use crate::hooks::Flow;
use crate::im;
use crate::session::Session;
use crate::session::inbound::Owed;
use crate::settings::Settings;
use crate::store::Permit;
use std::sync::Arc;
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::{Kind, Rendered, Stanza, Ty};
use xmpp_stream::stream::s2s::Pair;

impl Core {
    /// The common case, which needs no wait: a message for a link that is up. Gives the stanza back
    /// when it is not that case.
    pub(crate) fn message_out_now(&self, session: &Session, mut stanza: Stanza) -> Option<Stanza> {
        let from = session.jid.as_jid();
        let to = stanza.head.to.as_ref().map_or("", |to| to.domain());
        let Some(link) = self.s2s.known(from.domain(), to) else {
            return Some(stanza);
        };
        if !link.is_up() {
            return Some(stanza);
        }
        let Some(permit) = self.store.try_reserve(1, room_for(&stanza)) else {
            return Some(stanza);
        };
        stanza.head.from = Some(from.clone());
        match self.sender_stages(session, &mut stanza) {
            Flow::Continue => {}
            Flow::Stop => return None,
            Flow::Refuse(error) => {
                self.answer(session, stanza.error_reply(&error));
                return None;
            }
        }
        for effect in self.push_out(&link, Some(session), stanza, Some(permit)) {
            match effect {
                Effect::Owed(ticket, stanza) => session.owe(Owed { ticket, stanza }),
                Effect::Route(reply) if reply.head.to.as_ref() == Some(session.jid.as_jid()) => {
                    self.answer(session, Some(*reply));
                }
                effect => session.later.push(effect),
            }
        }
        None
    }

    /// Sends a stanza to another domain; `session`: who sent it, if one of ours.
    pub(crate) async fn to_remote(
        self: &Arc<Self>,
        session: Option<&Session>,
        stanza: Stanza,
    ) -> Vec<Effect> {
        if self.is_component(stanza.head.to.as_ref()) {
            return self.to_component(stanza);
        }
        let stanza = from_account(stanza);
        let link = match self.way(&self.settings(), &stanza) {
            Ok(link) => link,
            Err(cause) => return bounce(&stanza, &cause),
        };
        let permit = match keeps(&link, &stanza) {
            false => None,
            true => match self.store.reserve(1, room_for(&stanza)).await {
                Some(permit) => Some(permit),
                None => {
                    tracing::error!(to = %link.pair.to, "no room for a message");
                    return refuse(&stanza, &not_stored());
                }
            },
        };
        let own = session.filter(|session| stanza.head.from.as_ref() == Some(session.jid.as_jid()));
        let effects = self.push_out(&link, own, stanza, permit);
        self.see_to_if_idle(&link);
        effects
    }

    /// Into the queue of a link; `session`: who sent it. The caller has room for what is kept, and
    /// sees to it that somebody carries the queue.
    pub(crate) fn push_out(
        &self,
        link: &Arc<Link>,
        session: Option<&Session>,
        stanza: Stanza,
        permit: Option<Permit>,
    ) -> Vec<Effect> {
        let room = match permit.filter(|_| keeps(link, &stanza)) {
            None => None,
            Some(permit) => match session.map(|session| sent_by(session, &stanza)) {
                Some(Resent::Known) => return Vec::new(),
                Some(Resent::New(sent)) => Some((permit, Some(sent))),
                Some(Resent::Unmarked) | None => Some((permit, None)),
            },
        };
        match link.push(self, stanza, room) {
            Queued::No(refused) => bounce(&refused.0, &refused.1),
            Queued::Yes { ticket, soft } => {
                let owed = ticket.map(|(ticket, stanza)| Effect::Owed(ticket, stanza));
                let pause = soft.then_some(Effect::Pause);
                owed.into_iter().chain(pause).collect()
            }
        }
    }

    /// Availability for one contact of another domain.
    pub(crate) fn fan_remote(self: &Arc<Self>, rendered: &Rendered, jid: &Jid) -> Vec<Effect> {
        let stanza = Stanza::clone(rendered.stanza()).with_to(jid.to_bare());
        if self.is_component(Some(jid)) {
            return self.to_component(stanza);
        }
        let link = match self.way(&self.settings(), &stanza) {
            Ok(link) => link,
            Err(cause) => return bounce(&stanza, &cause),
        };
        match link.push(self, stanza, None) {
            Queued::No(refused) => return bounce(&refused.0, &refused.1),
            Queued::Yes { .. } => self.see_to_if_idle(&link),
        }
        Vec::new()
    }

    /// The link that a stanza takes.
    fn way(&self, settings: &Settings, stanza: &Stanza) -> Result<Arc<Link>, Cause> {
        let from = stanza.head.from.as_ref().map_or("", Jid::domain);
        let to = stanza.head.to.as_ref().map_or("", Jid::domain);
        if settings.network.is_none() {
            return Err(Cause::Off);
        }
        if !settings.config.s2s.admits(to) {
            return Err(Cause::Denied);
        }
        if let Some(link) = self.s2s.known(from, to) {
            return Ok(link);
        }
        // Only what is ours can have sent it.
        if !settings.serves(from) {
            return Err(Cause::Denied);
        }
        let pair = Pair {
            from: from.into(),
            to: to.into(),
        };
        let link = self.s2s.link(pair, self.clock.now(), &self.limits);
        link.ok_or(Cause::Full)
    }

    /// A domain has proven itself to us: what was wrong with the way to it may be over.
    pub(super) fn peer_lives(&self, pair: &Pair) {
        if let Some(link) = self.s2s.known(&pair.from, &pair.to) {
            link.forget_failure();
        }
    }

    /// Has somebody see to a link whose queue nobody carries.
    pub(crate) fn see_to_if_idle(self: &Arc<Self>, link: &Arc<Link>) {
        if link.claim_if_needed() {
            self.see_to(link);
        }
    }

    /// Has a task see to a link that is claimed for it.
    pub(crate) fn see_to(self: &Arc<Self>, link: &Arc<Link>) {
        let task = outgoing::run(Arc::clone(self), Arc::clone(link));
        self.s2s.spawn(Box::pin(task));
    }

    /// What has waited for a link and is too large for it goes back.
    pub(super) async fn bounce_larger(self: &Arc<Self>, link: &Arc<Link>) {
        if let Some((stanzas, cause)) = link.take_larger(self) {
            self.bounce_all(stanzas, &cause).await;
        }
    }

    /// Stanzas that a link gives up go back to their senders, each once.
    pub(super) async fn bounce_all(self: &Arc<Self>, stanzas: Vec<Stanza>, cause: &Cause) {
        for stanza in stanzas {
            let effects = bounce(&stanza, cause);
            self.run(None, effects.into()).await;
        }
    }
}

/// What the recipient's server would keep for somebody who is away is kept here too.
fn keeps(link: &Link, stanza: &Stanza) -> bool {
    stanza.kind == Kind::Message && link.owner().is_some() && im::is_storable(stanza)
}

/// RFC 6121 section 4.3.1: a probe of ours is the account's, not the resource's. Clients give theirs
/// an id, and these pass as they are.
fn from_account(mut stanza: Stanza) -> Stanza {
    if stanza.kind == Kind::Presence
        && stanza.head.ty == Ty::Probe
        && stanza.head.id.is_none()
        && let Some(from) = &stanza.head.from
    {
        stanza.head.from = Some(from.to_bare().into());
    }
    stanza
}

/// The answer to whoever sent it; nobody is told of an error, nor of an end that did not arrive.
fn bounce(stanza: &Stanza, cause: &Cause) -> Vec<Effect> {
    let is_farewell = stanza.kind == Kind::Presence
        && matches!(
            stanza.head.ty,
            Ty::Unavailable | Ty::Unsubscribe | Ty::Unsubscribed
        );
    if is_farewell {
        return Vec::new();
    }
    let domain = stanza.head.to.as_ref().map_or("", Jid::domain);
    refuse(stanza, &cause.to_error(domain))
}
