//! The end of a session: what it leaves behind, and what others are owed.
//!
//! DESIGN 5 rules 7 and 8; RFC 6121 section 4.5.2.

use super::{Core, Sender};
use crate::clock::Clock;
use crate::effect::Effect;
use crate::host::Host;
use crate::session::account::{Account, AccountState, SessionEntry};
use crate::session::rules::{self, Rule};
use crate::session::visit::{Handover, Visit};
use crate::session::{Session, Sid};
use crate::sessions::Link;
use crate::store::Subscription;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use xmpp_stream::driver::Driver;
use xmpp_stream::error::{StreamCondition, StreamError};
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Edit, Stanza, Ty};
use xmpp_stream::stream::Responder;
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
    /// it, else goes to other sessions with a delay, else waits; requests are answered. Errors go out
    /// after unlock.
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
        self.tap.ended(&entry.jid);
        // One that was available says so by its unavailable presence.
        if state.sessions.is_empty() && !entry.is_available() && !state.removed {
            effects.push(account.leave(self.clock.unix_secs()));
        }
        let drawn = self.pass_claim(state, sid, entry.feed.as_deref());
        self.leave_to_others(host, account, state, items, drawn, effects);
        effects.push(Effect::Ended(Arc::clone(account), Box::new(entry)));
    }

    /// Ends a session whose client has stayed away too long, unless it has come just now.
    pub(crate) async fn end_unless_visited(self: &Arc<Self>, session: &Session) -> bool {
        let account = &session.account;
        let mut effects = Vec::new();
        if let Some(host) = self.host(account.jid.domain()) {
            let mut state = account.lock();
            if session.outbox.is_visited() {
                return false;
            }
            self.end_locked(&host, account, &mut state, session.sid, &mut effects);
            self.reap(&host, account, &mut state, &mut effects);
        }
        self.run(None, effects.into()).await;
        true
    }

    /// Leaves a transport to the session of this token, which goes on over it; back it comes, with
    /// what the session had handled as far as that is known, when there is none.
    pub(crate) async fn hand_over(
        &self,
        jid: &BareJid,
        token: &str,
        driver: Box<Driver<Responder>>,
        link: Link,
        h: u32,
    ) -> Result<(), (Box<Driver<Responder>>, Option<u32>)> {
        let now = self.clock.now();
        let Some(account) = self.registry.peek(jid.as_str()) else {
            let known = self.ended.handled(token, jid, now, &self.limits);
            return Err((driver, known));
        };
        let (back, returned) = oneshot::channel();
        let older = {
            let mut state = account.lock();
            let mut sessions = state.sessions.iter();
            let found = sessions.find(|entry| entry.token.as_deref() == Some(token));
            let Some(outbox) = found.map(|entry| Arc::clone(&entry.outbox)) else {
                drop(state);
                let known = self.ended.handled(token, jid, now, &self.limits);
                return Err((driver, known));
            };
            let handover = Handover {
                driver,
                link,
                h,
                back,
            };
            state.wake_later(&outbox);
            outbox.visit(Visit::TakeOver(Box::new(handover)))
        };
        if let Some(older) = older {
            older.turn_away();
        }
        match returned.await {
            Err(_) => Ok(()),
            Ok(driver) => {
                let known = self.ended.handled(token, jid, now, &self.limits);
                Err((driver, known))
            }
        }
    }

    /// A managed stream has ended; its client may still ask what was handled.
    pub(crate) fn remember_ended(&self, session: &Session, token: &Arc<str>, h: u32) {
        self.ended.remember(
            Arc::clone(token),
            session.account.jid.clone(),
            h,
            self.clock.now(),
            &self.limits,
        );
        // Behind it: a removal that this does not see yet forgets what stands there.
        if session.account.lock().removed {
            self.ended.forget(token);
        }
    }

    pub(super) fn delayed(&self, host: &Host, stanza: &Stanza, received: u64) -> Stanza {
        if stanza.has(ns::id::DELAY, ns::name::DELAY) {
            return stanza.clone();
        }
        // A row keeps its place, and so its number, also when the clock was put back behind it.
        let received = received.min(self.clock.unix_secs());
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
        while let Some(sid) = state.marked() {
            let Some(entry) = state.session_mut(sid) else {
                return;
            };
            entry.outbox.unmark();
            self.tap.metrics.outbox_cuts.count();
            let hopeless = entry.outbox.is_hopeless(&self.limits);
            if entry.token.is_some() && !entry.hibernating && !hopeless {
                tracing::warn!(jid = %entry.jid, "socket cut: it does not read");
                entry.hibernating = true;
                let outbox = Arc::clone(&entry.outbox);
                outbox.cut();
                state.wake_later(&outbox);
            } else if rules::hold(Rule::EndAtBound) {
                tracing::warn!(jid = %entry.jid, "session ended: it does not read");
                self.end_locked(host, account, state, sid, effects);
            }
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
