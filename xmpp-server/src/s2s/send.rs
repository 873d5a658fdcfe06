//! A stanza for another domain: into the queue of its link, or back to its sender.
//!
//! RFC 6120 section 10.4. What the recipient's own server would keep, this one keeps until that
//! server has it (DESIGN 10).

use super::cause::Cause;
use super::link::{Link, Queued};
use super::outgoing;
use crate::core::{Core, Resent, not_stored, refuse, room_for, sent_by};
use crate::effect::Effect;
use crate::im;
use crate::session::Session;
use crate::settings::Settings;
use std::sync::Arc;
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::{Kind, Rendered, Stanza, Ty};
use xmpp_stream::stream::s2s::Pair;

impl Core {
    /// Sends a stanza to another domain; `session`: who sent it, if one of ours.
    pub(crate) async fn to_remote(
        self: &Arc<Self>,
        session: Option<&Session>,
        stanza: Stanza,
    ) -> Vec<Effect> {
        let stanza = match self.to_component(stanza) {
            Ok(effects) => return effects,
            Err(stanza) => from_account(stanza),
        };
        let link = match self.way(&self.settings(), &stanza) {
            Ok(link) => link,
            Err(cause) => return bounce(&stanza, &cause),
        };
        let own = session.filter(|session| stanza.head.from.as_ref() == Some(session.jid.as_jid()));
        let keeps = stanza.kind == Kind::Message && im::is_storable(&stanza);
        let room = match keeps && link.owner().is_some() {
            false => None,
            true => {
                let sent = match own.map(|session| sent_by(session, &stanza)) {
                    Some(Resent::Known) => return Vec::new(),
                    Some(Resent::New(sent)) => Some(sent),
                    Some(Resent::Unmarked) | None => None,
                };
                let Some(permit) = self.store.reserve(1, room_for(&stanza)).await else {
                    tracing::error!(to = %link.pair.to, "no room for a message");
                    return refuse(&stanza, &not_stored());
                };
                Some((permit, sent))
            }
        };
        let mut effects = Vec::new();
        match link.push(self, stanza, room) {
            Queued::No(stanza, cause) => return bounce(&stanza, &cause),
            Queued::Yes { ticket, soft, idle } => {
                if idle {
                    self.see_to(&link);
                }
                if let Some((ticket, stanza)) = ticket {
                    effects.push(Effect::Owed(ticket, stanza));
                }
                if soft {
                    effects.push(Effect::Pause);
                }
            }
        }
        effects
    }

    /// Availability for one contact of another domain.
    pub(crate) fn fan_remote(self: &Arc<Self>, rendered: &Rendered, jid: &Jid) -> Vec<Effect> {
        let stanza = Stanza::clone(rendered.stanza()).with_to(jid.to_bare());
        let stanza = match self.to_component(stanza) {
            Ok(effects) => return effects,
            Err(stanza) => stanza,
        };
        let link = match self.way(&self.settings(), &stanza) {
            Ok(link) => link,
            Err(cause) => return bounce(&stanza, &cause),
        };
        match link.push(self, stanza, None) {
            Queued::No(stanza, cause) => return bounce(&stanza, &cause),
            Queued::Yes { idle: true, .. } => self.see_to(&link),
            Queued::Yes { .. } => {}
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

    /// Has somebody see to a link that was idle.
    pub(crate) fn see_to(self: &Arc<Self>, link: &Arc<Link>) {
        let task = outgoing::run(Arc::clone(self), Arc::clone(link));
        self.s2s.spawn(Box::pin(task));
    }

    /// Stanzas that a link gives up go back to their senders, each once.
    pub(super) async fn bounce_all(self: &Arc<Self>, stanzas: Vec<Stanza>, cause: &Cause) {
        for stanza in stanzas {
            let effects = bounce(&stanza, cause);
            self.run(None, effects.into()).await;
        }
    }
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
