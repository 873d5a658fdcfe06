//! The end of a session: what it leaves behind, and what others are owed.
//!
//! DESIGN 5 rules 7 and 8; RFC 6121 section 4.5.2.

use super::recipient::refuse;
use super::{Core, Sender};
use crate::clock::Clock;
use crate::effect::Effect;
use crate::host::Host;
use crate::session::Sid;
use crate::session::account::{Account, AccountState, SessionEntry};
use crate::session::outbox::{Class, OutItem};
use crate::store::Subscription;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xmpp_stream::error::{StanzaError, StreamCondition, StreamError};
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Edit, Stanza, Ty};
use xmpp_stream::xml::Element;

impl Core {
    /// Ends a session if it is still there.
    pub(crate) fn end_session(&self, account: &Arc<Account>, sid: Sid) -> Vec<Effect> {
        let mut effects = Vec::new();
        let host = self.host(account.jid.domain());
        let mut state = account.lock();
        match host {
            Some(host) => {
                self.end_locked(&host, account, &mut state, sid, &mut effects);
                self.reap(&host, account, &mut state, &mut effects);
            }
            // The domain went away while the session was bound: nobody is to be told.
            None if state.end(sid).is_some() => {
                self.registry.sessions.fetch_sub(1, Ordering::Relaxed);
            }
            None => {}
        }
        effects
    }

    /// Rule 8: out of the set; each untaken message is dropped if another session holds or has taken
    /// it, else goes to other sessions with a delay; requests are answered. Errors go out after unlock.
    pub(super) fn end_locked(
        &self,
        host: &Host,
        account: &Arc<Account>,
        state: &mut AccountState,
        sid: Sid,
        effects: &mut Vec<Effect>,
    ) {
        let Some((entry, items)) = state.end(sid) else {
            return;
        };
        self.registry.sessions.fetch_sub(1, Ordering::Relaxed);
        for item in items {
            let OutItem::Shared(_, rendered, delivery) = item else {
                continue;
            };
            let stanza = rendered.stanza();
            match rendered.class() {
                Class::Message => {
                    let Some(delivery) = delivery else { continue };
                    // Held first: a session that takes it says so before it lets go.
                    if delivery.is_held() || delivery.is_taken() {
                        continue;
                    }
                    let delayed = self.delayed(host, stanza, delivery.received);
                    let wishes = self.recipient_stages(host, account, state, delayed);
                    for wish in wishes {
                        effects.extend(state.apply(wish, &self.limits, delivery.received));
                    }
                }
                Class::Iq if matches!(stanza.head.ty, Ty::Get | Ty::Set) => {
                    effects.extend(refuse(stanza, &StanzaError::service_unavailable()));
                }
                _ => {}
            }
        }
        effects.push(Effect::Ended(Arc::clone(account), Box::new(entry)));
    }

    pub(super) fn delayed(&self, host: &Host, stanza: &Stanza, received: u64) -> Stanza {
        if stanza.has(ns::id::DELAY, ns::name::DELAY) {
            return stanza.clone();
        }
        let delay = Element::new(ns::DELAY, "delay")
            .with_attr("from", &host.domain)
            .with_attr("stamp", &Clock::stamp_of(received));
        stanza.splice(&[Edit::Append(delay)])
    }

    /// Ends marked sessions until none is marked.
    pub(super) fn reap(
        &self,
        host: &Host,
        account: &Arc<Account>,
        state: &mut AccountState,
        effects: &mut Vec<Effect>,
    ) {
        while let Some(sid) = state.marked(&self.limits) {
            tracing::warn!(jid = %account.jid, "session ended: it does not read");
            self.end_locked(host, account, state, sid, effects);
        }
    }

    /// What a session's end means to others (RFC 6121 section 4.5.2).
    pub(super) fn unavailable(&self, account: &Arc<Account>, entry: &SessionEntry) -> Vec<Effect> {
        if entry.presence.is_none() && entry.directed.is_empty() {
            return Vec::new();
        }
        let Some(host) = self.host(account.jid.domain()) else {
            return Vec::new();
        };
        let mut stanza = Stanza::presence(Ty::Unavailable).with_from(entry.jid.clone());
        self.route_stage(&host, account, Sender::Ended(entry), &mut stanza)
            .1
    }

    /// Ends a session by our own decision, at once; its peer is told why as soon as it reads.
    pub(crate) fn end_with(
        &self,
        account: &Arc<Account>,
        entry: &SessionEntry,
        condition: StreamCondition,
    ) -> Vec<Effect> {
        entry.outbox.set_farewell(StreamError::new(condition));
        self.end_session(account, entry.sid)
    }

    /// What contacts are told when an account is removed, so that nobody who takes its name later
    /// inherits their trust (XEP-0077 section 3.2).
    pub(crate) async fn farewells(&self, jid: &BareJid) -> Vec<Effect> {
        let loaded = self.registry.load(&self.store, jid, self.clock.now()).await;
        let Ok(Some(account)) = loaded else {
            return Vec::new();
        };
        let roster = account.roster();
        let mut effects = Vec::new();
        for row in roster.rows() {
            let mut tell = |ty| {
                let stanza = Stanza::presence(ty).with_from(jid.clone());
                effects.push(Effect::route(stanza.with_to(row.jid.clone())));
            };
            let (to, from) = match row.subscription {
                Subscription::None => (false, false),
                Subscription::To => (true, false),
                Subscription::From => (false, true),
                Subscription::Both => (true, true),
            };
            if to || row.ask {
                tell(Ty::Unsubscribe);
            }
            if from || row.pending_in.is_some() {
                tell(Ty::Unsubscribed);
            }
        }
        effects
    }
}
