//! The recipient's side of a stanza: all of it in one critical section of its account.
//!
//! DESIGN 5 rule 1; RFC 6120 sections 10.3 to 10.5, RFC 6121 section 8. Which sessions get a stanza
//! is the modules' decision (`crate::im`); this file runs them and applies what they wish.

use super::{Core, edit, is_subscription, not_stored};
use crate::effect::Effect;
use crate::hooks::{AccountCx, Cx, Flow, Stage, Undelivered};
use crate::host::Host;
use crate::session::Session;
use crate::session::account::{Account, AccountState, SessionEntry, Shown};
use crate::session::outbox::Class;
use crate::session::rules::{self, Rule};
use crate::store::{CommitError, Permit, Print, Sent, WriteOp};
use std::sync::{Arc, PoisonError};
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Item, Kind, Rendered, Stanza, To, Ty};

/// Stages of the recipient's account.
const RECIPIENT: [Stage; 8] = [
    Stage::InStrip,
    Stage::InBlock,
    Stage::InArchive,
    Stage::Select,
    Stage::InCopy,
    Stage::Store,
    Stage::Push,
    Stage::Observe,
];

impl Core {
    pub(crate) async fn to_host(self: &Arc<Self>, host: &Arc<Host>, stanza: Stanza) -> Vec<Effect> {
        match (stanza.kind, &stanza.head.ty) {
            // Nobody is behind a domain who could answer; without one the request would stay open.
            (Kind::Presence, Ty::Subscribe) => vec![unsubscribed(&stanza)],
            // A probe or notice to the domain itself has no meaning here (RFC 6120 10.5.1).
            (Kind::Presence, _) => Vec::new(),
            (Kind::Iq, Ty::Get | Ty::Set) => self.iq_routed(host, None, stanza).await,
            _ => refuse(&stanza, &StanzaError::service_unavailable()),
        }
    }

    pub(crate) async fn to_account(
        self: &Arc<Self>,
        host: &Arc<Host>,
        jid: &BareJid,
        session: Option<&Session>,
        stanza: Stanza,
    ) -> Vec<Effect> {
        let own = session.filter(|session| stanza.head.from.as_ref() == Some(session.jid.as_jid()));
        let sent = match own {
            Some(session) if stanza.kind == Kind::Message => match sent_by(session, &stanza) {
                Resent::Known => return Vec::new(),
                Resent::New(sent) => Some(sent),
                Resent::Unmarked => None,
            },
            _ => None,
        };
        self.to_account_again(host, jid, stanza, sent).await
    }

    /// The same; `sent`: by what a message is recognised when it is sent again.
    pub(crate) async fn to_account_again(
        self: &Arc<Self>,
        host: &Arc<Host>,
        jid: &BareJid,
        stanza: Stanza,
        sent: Option<Box<Sent>>,
    ) -> Vec<Effect> {
        let account = match self.registry.load(&self.store, jid, self.clock.now()).await {
            Ok(Some(account)) => account,
            Ok(None) if is_bare_iq(&stanza) => return self.iq_to_nobody(host, stanza).await,
            Ok(None) if is_last(&stanza) => return refuse(&stanza, &StanzaError::forbidden()),
            Ok(None) => return no_account(&stanza),
            Err(error) => {
                tracing::error!(%error, %jid, "account not loaded");
                return refuse(&stanza, &not_stored());
            }
        };
        match stanza.kind {
            Kind::Iq if is_bare_iq(&stanza) => self.iq_routed(host, Some(account), stanza).await,
            Kind::Iq => self.iq_to_full(host, &account, &stanza),
            Kind::Presence if is_subscription(&stanza.head.ty) => {
                self.deliver_change(host, &account, stanza).await
            }
            Kind::Message => self.deliver_message(host, &account, sent, stanza).await,
            Kind::Presence => self.deliver(host, &account, stanza, (None, None)),
        }
    }

    /// RFC 6121 section 8.5.3: to the session with that resource, else service-unavailable.
    pub(super) fn iq_to_full(
        &self,
        host: &Host,
        account: &Arc<Account>,
        stanza: &Stanza,
    ) -> Vec<Effect> {
        let Some(resource) = stanza.head.to.as_ref().and_then(Jid::resource) else {
            return Vec::new();
        };
        let is_request = matches!(stanza.head.ty, Ty::Get | Ty::Set);
        let from = stanza.head.from.as_ref().map_or("", Jid::bare_str);
        let mut state = account.lock();
        let entry = state.resource(resource);
        let is_last = is_last(stanza);
        let is_strict = || is_last || host.policy().config.strict_iq;
        if is_request && from != account.jid.as_str() && is_strict() {
            let shared = account.roster().may_see_us(from)
                || entry.is_some_and(|entry| is_directed(entry, stanza));
            if !shared {
                return match is_last {
                    true => refuse(stanza, &StanzaError::forbidden()),
                    false => refuse(stanza, &StanzaError::service_unavailable()),
                };
            }
        }
        let Some(entry) = entry else {
            return refuse(stanza, &StanzaError::service_unavailable());
        };
        let sid = entry.sid;
        let rendered = Arc::new(Rendered::new(Arc::new(stanza.clone()), Class::Iq));
        let item = Item::Shared(To::AsWritten, rendered, None);
        let mut effects = Vec::new();
        if state.push_one(sid, item, &self.limits) {
            effects.push(Effect::Pause);
        }
        self.reap(host, account, &mut state, &mut effects);
        effects
    }

    /// All of a stanza's work at its recipient, in one critical section (DESIGN 5 rule 1).
    pub(super) fn deliver(
        &self,
        host: &Host,
        account: &Arc<Account>,
        stanza: Stanza,
        room: (Option<Permit>, Option<Box<Sent>>),
    ) -> Vec<Effect> {
        let mut state = account.lock();
        if state.removed {
            return no_account(&stanza);
        }
        let wishes = self.recipient_stages(host, account, &state, stanza);
        self.apply_with(account, &mut state, wishes, room)
    }

    /// The same with room for its row taken first (rule 3).
    async fn deliver_message(
        &self,
        host: &Host,
        account: &Arc<Account>,
        sent: Option<Box<Sent>>,
        stanza: Stanza,
    ) -> Vec<Effect> {
        let Some(permit) = self.store.reserve(1, room_for(&stanza)).await else {
            tracing::error!(jid = %account.jid, "no room for a message");
            return refuse(&stanza, &not_stored());
        };
        self.deliver(host, account, stanza, (Some(permit), sent))
    }

    /// The same for what changes the recipient's subscriptions: decided, committed, then applied.
    pub(super) async fn deliver_change(
        self: &Arc<Self>,
        host: &Host,
        account: &Arc<Account>,
        stanza: Stanza,
    ) -> Vec<Effect> {
        let _changes = account.changes.lock().await;
        for _ in 0..3 {
            let wishes = {
                let state = account.lock();
                if state.removed {
                    return no_account(&stanza);
                }
                self.recipient_stages(host, account, &state, stanza.clone())
            };
            match self.settle(account, wishes, true).await {
                Ok(rest) => return rest,
                Err(CommitError::Expect) => {}
                Err(error) => {
                    tracing::error!(%error, jid = %account.jid, "subscription not stored");
                    return refuse(&stanza, &not_stored());
                }
            }
        }
        refuse(&stanza, &StanzaError::resource_constraint())
    }

    /// Marks that only this server may make, cut from what other servers send.
    pub(crate) fn strip(&self, host: &Host, stanza: &mut Stanza) {
        let modules = host.modules();
        if !modules.hooks.any(Stage::Strip, stanza) {
            return;
        }
        let mut cx = Cx {
            host,
            limits: &self.limits,
            account: None,
            session: None,
            effects: Vec::new(),
            edits: Vec::new(),
            undelivered: None,
            keep: false,
        };
        modules.hooks.run(Stage::Strip, stanza, &mut cx);
        let edits = cx.edits;
        edit(stanza, &edits);
    }

    pub(super) fn recipient_stages(
        &self,
        host: &Host,
        account: &Arc<Account>,
        state: &AccountState,
        mut stanza: Stanza,
    ) -> Vec<Effect> {
        let roster = account.roster();
        let mut cx = Cx {
            host,
            limits: &self.limits,
            account: Some(AccountCx {
                jid: &account.jid,
                roster: &roster,
                sessions: &state.sessions,
                left: account.left_by(self.clock.unix_secs()),
            }),
            session: None,
            effects: Vec::new(),
            edits: Vec::new(),
            undelivered: None,
            keep: false,
        };
        let modules = host.modules();
        for stage in RECIPIENT {
            let flow = modules.hooks.run(stage, &stanza, &mut cx);
            let edits = std::mem::take(&mut cx.edits);
            edit(&mut stanza, &edits);
            match flow {
                Flow::Continue => {}
                Flow::Stop => return cx.effects,
                Flow::Refuse(error) => {
                    cx.undelivered = Some(Undelivered::Error(error));
                    break;
                }
            }
        }
        let (mut effects, keep) = (cx.effects, cx.keep);
        if keep && cx.undelivered.is_none() {
            let shared = effects.iter().find_map(|effect| match effect {
                Effect::Local(_, _, rendered) => Some(Arc::clone(rendered.stanza())),
                _ => None,
            });
            let kept = shared.unwrap_or_else(|| Arc::new(stanza.clone()));
            effects.insert(0, Effect::Keep(kept));
        }
        if let Some(Undelivered::Error(error)) = cx.undelivered {
            effects.extend(stanza.error_reply(&error).map(Effect::route));
        }
        effects
    }

    /// A presence that was sent to one entity, by a probe or a new subscription, may have been
    /// overtaken by the broadcast of a newer one.
    pub(super) fn recheck(&self, shown: &Shown) -> Vec<Effect> {
        let account = self.registry.peek(shown.jid.bare_str());
        let presence = account.and_then(|account| {
            let to = shown.to.bare_str();
            let sees = to == account.jid.as_str() || account.roster().may_see_us(to);
            let state = account.lock();
            let entry = state.resource(shown.jid.resource_str()).filter(|_| sees);
            entry.and_then(|entry| entry.presence.clone())
        });
        match presence {
            Some(presence) if Arc::ptr_eq(&presence, &shown.presence) => Vec::new(),
            Some(presence) => {
                let again = Stanza::clone(&presence).with_to(shown.to.clone());
                let (jid, to) = (shown.jid.clone(), shown.to.clone());
                let shown = Shown { jid, presence, to };
                vec![Effect::route(again), Effect::Recheck(Box::new(shown))]
            }
            None => {
                let gone = Stanza::presence(Ty::Unavailable).with_from(shown.jid.clone());
                vec![Effect::route(gone.with_to(shown.to.clone()))]
            }
        }
    }

    /// Availability for one recipient of a broadcast: only who is here gets it.
    pub(super) fn fan_one(self: &Arc<Self>, rendered: &Arc<Rendered>, jid: &Jid) -> Vec<Effect> {
        let Some(host) = self.host(jid.domain()) else {
            return self.fan_remote(rendered, jid);
        };
        let Some(account) = self.registry.peek(jid.bare_str()) else {
            return Vec::new();
        };
        let mut state = account.lock();
        let available = crate::effect::Which::Available;
        let wish = Effect::Local(available, To::Bare, Arc::clone(rendered));
        let mut effects = Vec::new();
        effects.extend(state.apply(wish, &self.limits, 0));
        self.reap(&host, &account, &mut state, &mut effects);
        effects
    }
}

/// Bytes that a message takes in the writer's queue, about.
pub(crate) fn room_for(stanza: &Stanza) -> usize {
    stanza.wire_len() + size_of::<WriteOp>()
}

/// The id by which a message is told from others, its own or its origin's.
pub(crate) fn message_id(stanza: &Stanza) -> Option<Box<str>> {
    stanza.head.id.clone().or_else(|| {
        let kid = stanza.kid(ns::id::STANZA_ID, ns::name::ORIGIN_ID)?;
        stanza.element(kid).attr("id").map(Into::into)
    })
}

/// What is known of a message of a client that may send it again.
pub(crate) enum Resent {
    /// It was sent before, on an earlier stream.
    Known,
    /// It may be sent again.
    New(Box<Sent>),
    /// The stream is not managed, or the message has no id: it cannot be recognised.
    Unmarked,
}

/// Rule 21, for the sending session.
pub(crate) fn sent_by(session: &Session, stanza: &Stanza) -> Resent {
    let mut resends = session
        .resends
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if !resends.managed {
        return Resent::Unmarked;
    }
    let Some(id) = message_id(stanza) else {
        return Resent::Unmarked;
    };
    let to = stanza.head.to.as_ref().map_or("", Jid::as_str);
    let ty = stanza.head.ty.as_str().unwrap_or_default();
    let print = Print::of(&[to.as_bytes(), id.as_bytes(), ty.as_bytes(), &stanza.payload]);
    let known = resends
        .prints
        .as_mut()
        .is_some_and(|prints| prints.remove(&print));
    if known && rules::hold(Rule::Resends) {
        tracing::debug!(%id, "message sent again: it is kept already");
        return Resent::Known;
    }
    Resent::New(Box::new(Sent {
        sender: session.account.jid.clone(),
        print,
        stream: session.sid.0,
    }))
}

/// A question for last activity: XEP-0012 section 4 lets nobody pass who may not see presence.
fn is_last(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Iq
        && stanza.head.ty == Ty::Get
        && stanza.has(ns::id::LAST, ns::name::QUERY)
}

fn is_bare_iq(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Iq && stanza.head.to.as_ref().is_some_and(Jid::is_bare)
}

fn is_directed(entry: &SessionEntry, stanza: &Stanza) -> bool {
    stanza
        .head
        .from
        .as_ref()
        .is_some_and(|from| entry.directed.contains(from))
}

pub(crate) fn refuse(stanza: &Stanza, error: &StanzaError) -> Vec<Effect> {
    stanza
        .error_reply(error)
        .map(Effect::route)
        .into_iter()
        .collect()
}

/// RFC 6121 section 8.5.1: no such account. Must look like an account that has nothing to say.
fn no_account(stanza: &Stanza) -> Vec<Effect> {
    match (stanza.kind, &stanza.head.ty) {
        (Kind::Presence, Ty::Probe) => vec![unsubscribed(stanza)],
        (Kind::Presence, _) | (Kind::Message, Ty::Headline) => Vec::new(),
        _ => refuse(stanza, &StanzaError::service_unavailable()),
    }
}

/// The refusal of a probe or request, bare to bare.
fn unsubscribed(stanza: &Stanza) -> Effect {
    let mut reply = Stanza::presence(Ty::Unsubscribed);
    reply.head.from = stanza.head.to.as_ref().map(|to| to.to_bare().into());
    reply.head.to = stanza.head.from.as_ref().map(|from| from.to_bare().into());
    reply.head.id.clone_from(&stanza.head.id);
    Effect::route(reply)
}
