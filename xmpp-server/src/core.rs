//! The server's heart: takes stanzas from sessions, runs the stages, applies the effects.
//!
//! Modules decide, this file acts: it is the only code that sends (DESIGN 2.9). RFC 6120 sections
//! 8.1 and 10; order per pair of entities is kept because each stanza's effects are applied, in
//! order, by the task that received it.

use crate::clock::Clock;
use crate::config::Config;
use crate::effect::Effect;
use crate::hooks::{AccountCx, Cx, Flow, Hooks, Stage, Undelivered};
use crate::host::Host;
use crate::iq::IqTable;
use crate::limits::Limits;
use crate::modules::{Announced, Module, RegisterError, Scope};
use crate::router::{HostMap, Target, target};
use crate::session::account::{Account, AccountState, SessionEntry};
use crate::session::outbox::{Class, OutItem};
use crate::session::registry::{Lookup, Registry};
use crate::session::{Session, Sid};
use crate::store::{CommitError, Store, WriteOp};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xmpp_stream::error::{StanzaError, StreamCondition, StreamError};
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Edit, Item, Kind, Rendered, Stanza, To, Ty};
use xmpp_stream::xml::Element;

/// Stages of the sender's account but `Route`.
const SENDER: [Stage; 5] =
    [Stage::Strip, Stage::Rate, Stage::Block, Stage::Archive, Stage::Copy];
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

/// Everything that sessions share.
pub struct Core {
    /// Served domains.
    pub hosts: HostMap,
    /// The configuration as given.
    pub config: Config,
    /// Loaded accounts.
    pub registry: Registry,
    /// The store.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Bounds.
    pub limits: Limits,
    /// What modules announce.
    pub announced: Announced,
    pub(crate) hooks: Hooks,
    pub(crate) iqs: IqTable,
    pub(crate) secret: [u8; 32],
    pub(crate) kdf: Arc<tokio::sync::Semaphore>,
}

impl Core {
    /// Puts the parts together and lets each module register.
    ///
    /// # Errors
    /// The first query that two modules claim.
    pub fn new(
        config: Config,
        hosts: HostMap,
        store: Store,
        clock: Clock,
        secret: [u8; 32],
        modules: &[&dyn Module],
    ) -> Result<Self, RegisterError> {
        let (mut hooks, mut iqs, mut announced) =
            (Hooks::default(), IqTable::default(), Announced::default());
        let mut errors = Vec::new();
        for module in modules {
            let info = module.info();
            announced.infos.push(info);
            module.register(&mut Scope {
                module: info.name,
                hooks: &mut hooks,
                iqs: &mut iqs,
                announced: &mut announced,
                errors: &mut errors,
            });
        }
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            limits: config.limits,
            hosts,
            config,
            registry: Registry::default(),
            store,
            clock,
            announced,
            hooks,
            iqs,
            secret,
            kdf: Arc::new(tokio::sync::Semaphore::new(cores)),
        })
    }

    /// A stanza that a session of ours received. Resolves when the stanza has had all its effects.
    pub async fn from_session(self: &Arc<Self>, session: &Session, mut stanza: Stanza) {
        if let Err(error) = verify(&mut stanza, session) {
            return self.answer(session, stanza.error_reply(&error));
        }
        let mut effects = VecDeque::new();
        match self.sender_stages(session, &mut stanza) {
            Flow::Continue => {}
            Flow::Stop => return,
            Flow::Refuse(error) => return self.answer(session, stanza.error_reply(&error)),
        }
        match stanza.kind {
            Kind::Iq => self.iq_from_session(session, stanza, &mut effects).await,
            Kind::Message => {
                if stanza.head.to.is_none() {
                    stanza.head.to = Some(session.account.jid.clone().into());
                }
                effects.push_back(Effect::route(stanza));
            }
            Kind::Presence => self.presence_from_session(session, stanza, &mut effects).await,
        }
        self.run(Some(session), effects).await;
    }

    /// The same for the common case that needs no wait: a message to a loaded local account.
    /// Gives the stanza back when it is not that case.
    pub fn message_now(&self, session: &Session, mut stanza: Stanza) -> Option<Stanza> {
        if stanza.kind != Kind::Message {
            return Some(stanza);
        }
        let Some(to) = stanza.head.to.as_ref().filter(|to| to.local().is_some()) else {
            return Some(stanza);
        };
        let Some(host) = self.hosts.get(to.domain()) else { return Some(stanza) };
        let Lookup::Here(account) = self.registry.get(to.bare_str(), self.clock.now()) else {
            return Some(stanza);
        };
        stanza.head.from = Some(session.jid.clone().into());
        match self.sender_stages(session, &mut stanza) {
            Flow::Continue => {}
            Flow::Stop => return None,
            Flow::Refuse(error) => {
                self.answer(session, stanza.error_reply(&error));
                return None;
            }
        }
        for effect in self.deliver(host, &account, stanza) {
            match effect {
                Effect::Route(reply) if reply.head.to.as_ref() == Some(session.jid.as_jid()) => {
                    self.answer(session, Some(*reply));
                }
                effect => session.later.push(effect),
            }
        }
        None
    }

    /// Applies effects that a session's fast path left over.
    pub async fn finish_later(self: &Arc<Self>, session: &Session) {
        let effects = session.later.take();
        if !effects.is_empty() {
            self.run(Some(session), effects.into()).await;
        }
    }

    /// A session ended, for whatever reason: its unavailable presence and what nobody took.
    pub async fn session_over(self: &Arc<Self>, session: &Session) {
        let effects = self.end_session(&session.account, session.sid);
        self.run(None, effects.into()).await;
    }

    /// Stages of the sender's side that no await may interrupt.
    fn sender_stages(&self, session: &Session, stanza: &mut Stanza) -> Flow {
        if SENDER.iter().all(|stage| !self.hooks.any(*stage, stanza.kind)) {
            return Flow::Continue;
        }
        let roster = session.account.roster();
        let mut state = session.account.lock();
        let mut effects = Vec::new();
        let mut flow = Flow::Continue;
        for stage in SENDER {
            let entry = state.session(session.sid);
            let mut cx = Cx {
                host: &session.host,
                limits: &self.limits,
                account: Some(AccountCx {
                    jid: &session.account.jid,
                    roster: &roster,
                    sessions: &state.sessions,
                }),
                session: entry,
                effects: Vec::new(),
                edits: Vec::new(),
                undelivered: None,
            };
            flow = self.hooks.run(stage, stanza, &mut cx);
            let edits = std::mem::take(&mut cx.edits);
            effects.append(&mut cx.effects);
            edit(stanza, &edits);
            if flow != Flow::Continue {
                break;
            }
        }
        for effect in effects {
            if let Some(effect) = state.apply(effect, &self.limits, self.clock.unix_secs()) {
                session.later.push(effect);
            }
        }
        flow
    }

    async fn presence_from_session(
        self: &Arc<Self>,
        session: &Session,
        stanza: Stanza,
        effects: &mut VecDeque<Effect>,
    ) {
        let account = Arc::clone(&session.account);
        let entry = account.lock().session(session.sid).cloned();
        let changes = match is_subscription(&stanza.head.ty) {
            true => Some(account.changes.lock().await),
            false => None,
        };
        for _ in 0..3 {
            let (flow, wishes) = self.route_stage(&session.host, &account, entry.as_ref(), &stanza);
            match self.settle(&account, wishes, changes.is_some()).await {
                Ok(rest) => {
                    effects.extend(rest);
                    return self.after_route(flow, stanza, effects);
                }
                Err(CommitError::Expect) => {}
                Err(error) => {
                    tracing::error!(%error, jid = %session.jid, "presence change not stored");
                    let error = StanzaError::internal_server_error();
                    return self.answer(session, stanza.error_reply(&error));
                }
            }
        }
        self.answer(session, stanza.error_reply(&StanzaError::resource_constraint()));
    }

    fn after_route(&self, flow: Flow, stanza: Stanza, effects: &mut VecDeque<Effect>) {
        match flow {
            // Directed presence goes on to its target; broadcast and subscriptions were dealt with.
            Flow::Continue if stanza.head.to.is_some() => effects.push_back(Effect::route(stanza)),
            Flow::Continue | Flow::Stop => {}
            Flow::Refuse(error) => effects.extend(stanza.error_reply(&error).map(Effect::route)),
        }
    }

    /// Runs `Route` for presence. Under the account's lock, as the session list must not change
    /// between decision and effect unless a commit stands between them.
    fn route_stage(
        &self,
        host: &Host,
        account: &Arc<Account>,
        entry: Option<&SessionEntry>,
        stanza: &Stanza,
    ) -> (Flow, Vec<Effect>) {
        let roster = account.roster();
        let mut state = account.lock();
        let mut cx = Cx {
            host,
            limits: &self.limits,
            account: Some(AccountCx {
                jid: &account.jid,
                roster: &roster,
                sessions: &state.sessions,
            }),
            session: entry,
            effects: Vec::new(),
            edits: Vec::new(),
            undelivered: None,
        };
        let flow = self.hooks.run(Stage::Route, stanza, &mut cx);
        let mut effects = cx.effects;
        if !effects.iter().any(Effect::is_write) {
            effects = self.apply_locked(account, &mut state, effects);
        }
        (flow, effects)
    }

    /// Commits the writes among some effects, puts the new roster in force, then applies what
    /// concerns the account in hand; gives back the rest. `changes` of the account is held by the
    /// caller when roster writes are among them.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        account: &Arc<Account>,
        effects: Vec<Effect>,
        holds_changes: bool,
    ) -> Result<Vec<Effect>, CommitError> {
        if !effects.iter().any(Effect::is_write) {
            let mut state = account.lock();
            return Ok(self.apply_locked(account, &mut state, effects));
        }
        let mut view = (*account.roster()).clone();
        let mut roster_changed = false;
        let mut ops: SmallVec<[WriteOp; 4]> = SmallVec::new();
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                Effect::Roster(item) => {
                    debug_assert!(holds_changes);
                    let (expect, ver) = (Some(view.ver), view.ver + 1);
                    view = view.with(item.clone());
                    ops.push(WriteOp::Roster { account: account.jid.clone(), item, expect, ver });
                    roster_changed = true;
                }
                Effect::RosterRemove(jid) => {
                    let (expect, ver) = (Some(view.ver), view.ver + 1);
                    view = view.without(&jid);
                    let account = account.jid.clone();
                    ops.push(WriteOp::RosterRemove { account, jid, expect, ver });
                    roster_changed = true;
                }
                Effect::Write(op) => ops.push(op),
                other => rest.push(other),
            }
        }
        self.commit(ops).await?;
        if roster_changed {
            account.set_roster(view);
        }
        let mut state = account.lock();
        Ok(self.apply_locked(account, &mut state, rest))
    }

    /// Submits writes and waits; afterwards loaded accounts are as the store has them.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        ops: SmallVec<[WriteOp; 4]>,
    ) -> Result<(), CommitError> {
        let mut renewed: SmallVec<[BareJid; 1]> = SmallVec::new();
        for op in &ops {
            if let WriteOp::AccountCreate { account, .. }
            | WriteOp::AccountKeys { account, .. }
            | WriteOp::AccountRemove { account, .. } = op
            {
                renewed.push(account.clone());
            }
        }
        self.store.submit(ops).await?;
        for jid in renewed {
            self.renew(&jid).await;
        }
        Ok(())
    }

    /// The stored record of an account changed: memory follows, and sessions of a removed or banned
    /// account end.
    pub async fn renew(self: &Arc<Self>, jid: &BareJid) {
        let loaded = self.registry.changed(jid);
        let Ok(record) = self.store.account(jid).await else { return };
        let gone = record.as_ref().is_none_or(|record| record.banned.is_some());
        if let (Some(account), Some(record)) = (&loaded, record) {
            account.set_record(record);
        } else if let Some(account) = self.registry.removed(jid) {
            account.lock().removed = true;
        }
        if let (Some(account), true) = (loaded, gone) {
            let error = StreamError::new(StreamCondition::NotAuthorized);
            let state = account.lock();
            for entry in &state.sessions {
                self.close_entry(entry, error.clone());
            }
        }
    }

    fn close_entry(&self, entry: &SessionEntry, error: StreamError) {
        entry.outbox.push(Item::Close(Box::new(error)), &self.limits);
        entry.outbox.wake();
    }

    /// Applies effects in order; each may bring more. The only loop that sends.
    pub(crate) async fn run(
        self: &Arc<Self>,
        session: Option<&Session>,
        mut queue: VecDeque<Effect>,
    ) {
        // A stanza brings a handful of effects; the bound stops two handlers that feed each other.
        let mut left = self.limits.effects_max;
        while let Some(effect) = queue.pop_front() {
            left -= 1;
            if left == 0 {
                tracing::error!("effects of one stanza do not end; the rest is dropped");
                return;
            }
            match effect {
                Effect::Reply(stanza) | Effect::Route(stanza) => {
                    self.pass_on(session, *stanza, &mut queue).await;
                }
                Effect::Fan(rendered, jids) => {
                    for jid in jids {
                        queue.extend(self.fan_one(&rendered, &jid));
                    }
                }
                Effect::Pause => {
                    if let Some(session) = session {
                        session.pause.store(true, Ordering::Relaxed);
                    }
                }
                Effect::Ended(account, entry) => queue.extend(self.unavailable(&account, &entry)),
                Effect::Write(op) => {
                    let mut ops = SmallVec::new();
                    ops.push(op);
                    if let Err(error) = self.commit(ops).await {
                        tracing::error!(%error, "write without an asker failed");
                    }
                }
                Effect::CloseAll(jid, error) => {
                    if let Some(account) = self.registry.peek(jid.as_str()) {
                        let state = account.lock();
                        for entry in &state.sessions {
                            self.close_entry(entry, (*error).clone());
                        }
                    }
                }
                Effect::Local(..)
                | Effect::SetPresence(..)
                | Effect::SetInterested(_)
                | Effect::SetDirected(..)
                | Effect::Close(..)
                | Effect::Roster(_)
                | Effect::RosterRemove(_) => {
                    tracing::error!(?effect, "effect without an account in hand");
                }
            }
        }
    }

    async fn pass_on(
        self: &Arc<Self>,
        session: Option<&Session>,
        stanza: Stanza,
        queue: &mut VecDeque<Effect>,
    ) {
        let Some(to) = stanza.head.to.clone() else { return };
        if let Some(session) = session.filter(|session| *session.jid.as_jid() == to)
            && (stanza.kind == Kind::Iq || stanza.head.ty == Ty::Error)
        {
            return self.answer(session, Some(stanza));
        }
        match target(&self.hosts, &to) {
            Target::Remote => {
                // Federation comes with its own release; until then no other domain is reachable.
                let error = StanzaError::remote_server_not_found();
                queue.extend(stanza.error_reply(&error).map(Effect::route));
            }
            Target::Host(host) => queue.extend(self.to_host(&host, stanza).await),
            Target::Account(host, jid) => {
                queue.extend(self.to_account(&host, &jid, stanza).await);
            }
            Target::Full(host, jid) => {
                queue.extend(self.to_account(&host, &jid.to_bare(), stanza).await);
            }
        }
    }

    async fn to_host(self: &Arc<Self>, host: &Arc<Host>, stanza: Stanza) -> Vec<Effect> {
        match (stanza.kind, &stanza.head.ty) {
            // A probe or subscription to the domain itself has no meaning here (RFC 6120 10.5.1).
            (Kind::Presence, _) => Vec::new(),
            (Kind::Iq, Ty::Get | Ty::Set) => self.iq_routed(host, None, stanza).await,
            _ => refuse(&stanza, &StanzaError::service_unavailable()),
        }
    }

    async fn to_account(
        self: &Arc<Self>,
        host: &Arc<Host>,
        jid: &BareJid,
        stanza: Stanza,
    ) -> Vec<Effect> {
        let account = match self.registry.load(&self.store, jid, self.clock.now()).await {
            Ok(Some(account)) => account,
            Ok(None) if is_bare_iq(&stanza) => return self.iq_to_nobody(host, stanza).await,
            Ok(None) => return no_account(&stanza),
            Err(error) => {
                tracing::error!(%error, %jid, "account not loaded");
                return refuse(&stanza, &StanzaError::internal_server_error());
            }
        };
        match stanza.kind {
            Kind::Iq if is_bare_iq(&stanza) => {
                self.iq_routed(host, Some(account), stanza).await
            }
            Kind::Iq => self.iq_to_full(host, &account, &stanza),
            Kind::Presence if is_subscription(&stanza.head.ty) => {
                self.deliver_change(host, &account, stanza).await
            }
            Kind::Message | Kind::Presence => self.deliver(host, &account, stanza),
        }
    }

    /// RFC 6121 section 8.5.3: to the session with that resource, else service-unavailable.
    fn iq_to_full(&self, host: &Host, account: &Arc<Account>, stanza: &Stanza) -> Vec<Effect> {
        let Some(resource) = stanza.head.to.as_ref().and_then(Jid::resource) else {
            return Vec::new();
        };
        let is_request = matches!(stanza.head.ty, Ty::Get | Ty::Set);
        let from = stanza.head.from.as_ref().map_or("", Jid::bare_str);
        let mut state = account.lock();
        let entry = state.resource(resource);
        if host.config.strict_iq && is_request && from != account.jid.as_str() {
            let shared = account.roster().may_see_us(from)
                || entry.is_some_and(|entry| is_directed(entry, stanza));
            if !shared {
                return refuse(stanza, &StanzaError::service_unavailable());
            }
        }
        let Some(entry) = entry else {
            return refuse(stanza, &StanzaError::service_unavailable());
        };
        let rendered = Arc::new(Rendered::new(Arc::new(stanza.clone()), Class::Iq));
        entry.outbox.push(Item::Shared(To::AsWritten, rendered, None), &self.limits);
        entry.outbox.wake();
        let mut effects = Vec::new();
        self.reap(host, account, &mut state, &mut effects);
        effects
    }

    /// All of a stanza's work at its recipient, in one critical section (DESIGN 5 rule 1).
    fn deliver(&self, host: &Host, account: &Arc<Account>, stanza: Stanza) -> Vec<Effect> {
        let mut state = account.lock();
        if state.removed {
            return no_account(&stanza);
        }
        let wishes = self.recipient_stages(host, account, &state, stanza);
        self.apply_locked(account, &mut state, wishes)
    }

    /// The same for what changes the recipient's subscriptions: decided, committed, then applied.
    async fn deliver_change(
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
                    return refuse(&stanza, &StanzaError::internal_server_error());
                }
            }
        }
        refuse(&stanza, &StanzaError::resource_constraint())
    }

    fn recipient_stages(
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
            }),
            session: None,
            effects: Vec::new(),
            edits: Vec::new(),
            undelivered: None,
        };
        for stage in RECIPIENT {
            let flow = self.hooks.run(stage, &stanza, &mut cx);
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
        let mut effects = cx.effects;
        if let Some(Undelivered::Error(error)) = cx.undelivered {
            effects.extend(stanza.error_reply(&error).map(Effect::route));
        }
        effects
    }

    /// Applies, under the account's lock, what concerns its sessions; ends those that a push marked
    /// (rule 7); gives back the rest.
    fn apply_locked(
        &self,
        account: &Arc<Account>,
        state: &mut AccountState,
        effects: Vec<Effect>,
    ) -> Vec<Effect> {
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                Effect::Close(sid, error) => {
                    if let Some(entry) = state.session(sid) {
                        self.close_entry(entry, *error);
                    }
                }
                effect => rest.extend(state.apply(effect, &self.limits, self.clock.unix_secs())),
            }
        }
        if let Some(host) = self.hosts.get(account.jid.domain()) {
            self.reap(host, account, state, &mut rest);
        }
        rest
    }

    /// Ends marked sessions until none is marked.
    fn reap(
        &self,
        host: &Host,
        account: &Arc<Account>,
        state: &mut AccountState,
        effects: &mut Vec<Effect>,
    ) {
        while let Some(sid) = state.marked() {
            tracing::warn!(jid = %account.jid, "session ended: it does not read");
            self.end_locked(host, account, state, sid, effects);
        }
    }

    /// Ends a session if it is still there.
    pub(crate) fn end_session(&self, account: &Arc<Account>, sid: Sid) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(host) = self.hosts.get(account.jid.domain()) {
            let mut state = account.lock();
            self.end_locked(host, account, &mut state, sid, &mut effects);
            self.reap(host, account, &mut state, &mut effects);
        }
        effects
    }

    /// Rule 8: out of the set; each untaken message is dropped if another session holds or has taken
    /// it, else goes to other sessions with a delay; requests are answered. Errors go out after unlock.
    fn end_locked(
        &self,
        host: &Host,
        account: &Arc<Account>,
        state: &mut AccountState,
        sid: Sid,
        effects: &mut Vec<Effect>,
    ) {
        let Some((entry, items)) = state.end(sid) else { return };
        self.registry.sessions.fetch_sub(1, Ordering::Relaxed);
        for item in items {
            let OutItem::Shared(_, rendered, delivery) = item else { continue };
            let stanza = rendered.stanza();
            match rendered.class() {
                Class::Message => {
                    let Some(delivery) = delivery else { continue };
                    if delivery.is_taken() || delivery.is_held() {
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

    fn delayed(&self, host: &Host, stanza: &Stanza, received: u64) -> Stanza {
        if stanza.has(ns::id::DELAY, ns::name::DELAY) {
            return stanza.clone();
        }
        let delay = Element::new(ns::DELAY, "delay")
            .with_attr("from", &host.domain)
            .with_attr("stamp", &Clock::stamp_of(received));
        stanza.splice(&[Edit::Append(delay)])
    }

    /// What a session's end means to others (RFC 6121 section 4.5.2).
    fn unavailable(&self, account: &Arc<Account>, entry: &SessionEntry) -> Vec<Effect> {
        if entry.presence.is_none() && entry.directed.is_empty() {
            return Vec::new();
        }
        let Some(host) = self.hosts.get(account.jid.domain()) else { return Vec::new() };
        let stanza = Stanza::presence(Ty::Unavailable).with_from(entry.jid.clone());
        self.route_stage(host, account, Some(entry), &stanza).1
    }

    /// Availability for one recipient of a broadcast: only who is here gets it.
    fn fan_one(&self, rendered: &Arc<Rendered>, jid: &Jid) -> Vec<Effect> {
        let Some(host) = self.hosts.get(jid.domain()) else { return Vec::new() };
        let Some(account) = self.registry.peek(jid.bare_str()) else { return Vec::new() };
        let mut state = account.lock();
        let available = crate::effect::Which::Available;
        let wish = Effect::Local(available, To::Bare, Arc::clone(rendered));
        let mut effects = Vec::new();
        effects.extend(state.apply(wish, &self.limits, 0));
        self.reap(host, &account, &mut state, &mut effects);
        effects
    }

    /// Into the session's own queue.
    pub(crate) fn answer(&self, session: &Session, stanza: Option<Stanza>) {
        if let Some(stanza) = stanza {
            session.outbox.push(Item::One(Box::new(stanza)), &self.limits);
            session.outbox.wake();
        }
    }
}

/// Checks and stamps what a client sent (RFC 6120 sections 8.1.2.1, 8.2.3; RFC 6121 section 3).
fn verify(stanza: &mut Stanza, session: &Session) -> Result<(), StanzaError> {
    let subscription = stanza.kind == Kind::Presence && is_subscription(&stanza.head.ty);
    stanza.head.from = Some(match subscription {
        true => session.account.jid.clone().into(),
        false => session.jid.clone().into(),
    });
    if stanza.kind != Kind::Iq {
        return Ok(());
    }
    let children = match stanza.head.ty {
        Ty::Get | Ty::Set => stanza.kids.len() == 1,
        Ty::Result => stanza.kids.len() <= 1,
        Ty::Error => true,
        _ => false,
    };
    if !children || stanza.head.id.is_none() {
        return Err(StanzaError::bad_request());
    }
    Ok(())
}

/// The four types that manage subscriptions (RFC 6121 section 3).
#[must_use]
pub fn is_subscription(ty: &Ty) -> bool {
    matches!(ty, Ty::Subscribe | Ty::Subscribed | Ty::Unsubscribe | Ty::Unsubscribed)
}

fn is_bare_iq(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Iq && stanza.head.to.as_ref().is_some_and(Jid::is_bare)
}

fn is_directed(entry: &SessionEntry, stanza: &Stanza) -> bool {
    stanza.head.from.as_ref().is_some_and(|from| entry.directed.contains(from))
}

fn edit(stanza: &mut Stanza, edits: &[Edit]) {
    if !edits.is_empty() {
        *stanza = stanza.splice(edits);
    }
}

fn refuse(stanza: &Stanza, error: &StanzaError) -> Vec<Effect> {
    stanza.error_reply(error).map(Effect::route).into_iter().collect()
}

/// RFC 6121 section 8.5.1: no such account. Must look like an account that has nothing to say.
fn no_account(stanza: &Stanza) -> Vec<Effect> {
    match (stanza.kind, &stanza.head.ty) {
        (Kind::Presence, Ty::Probe) => {
            let mut reply = Stanza::presence(Ty::Unsubscribed);
            reply.head.from = stanza.head.to.as_ref().map(|to| to.to_bare().into());
            reply.head.to = stanza.head.from.as_ref().map(|from| from.to_bare().into());
            reply.head.id.clone_from(&stanza.head.id);
            vec![Effect::route(reply)]
        }
        (Kind::Presence, _) | (Kind::Message, Ty::Headline) => Vec::new(),
        _ => refuse(stanza, &StanzaError::service_unavailable()),
    }
}
