//! The server's heart: takes stanzas from sessions, runs the stages, applies the effects.
//!
//! Modules decide, this file acts: it is the only code that sends (DESIGN 2.9). RFC 6120 sections
//! 8.1 and 10; order per pair of entities is kept because each stanza's effects are applied, in
//! order, by the task that received it.

mod backlog;
mod commit;
mod ending;
#[cfg(test)]
mod model;
mod recipient;
#[cfg(test)]
mod tests;

use crate::clock::Clock;
use crate::component::Attachments;
use crate::effect::Effect;
use crate::hooks::{AccountCx, Cx, Flow, Stage};
use crate::host::Host;
use crate::limits::Limits;
use crate::login_delay::LoginDelays;
use crate::offers::Offers;
use crate::registrations::Registrations;
use crate::router::{Target, target};
use crate::s2s::Federation;
use crate::session::account::{Account, SessionEntry};
use crate::session::ended::EndedStreams;
use crate::session::inbound::Owed;
use crate::session::registry::{Lookup, Registry};
use crate::session::{Session, Sid};
use crate::settings::Settings;
use crate::store::{CommitError, RowId, RowIds, Store};
use crate::watch::Tap;
pub(crate) use recipient::{Resent, message_id, refuse, room_for, sent_by};
use smallvec::smallvec;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::task::Poll;
use xmpp_stream::error::{ErrorType, StanzaCondition, StanzaError};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Edit, Item, Kind, Stanza, Ty};

/// Stages of the sender's account but `Route`.
const SENDER: [Stage; 5] = [
    Stage::Strip,
    Stage::Rate,
    Stage::Block,
    Stage::Archive,
    Stage::Copy,
];

/// Effects applied in one go: then others get their turn, the session's own writing among them.
const BREATH: usize = 64;

/// Everything that sessions share.
pub struct Core {
    /// Configuration and served domains; `settings()`, `host()`.
    pub(crate) settings: RwLock<Arc<Settings>>,
    /// Loaded accounts.
    pub registry: Registry,
    /// The store.
    pub store: Store,
    /// The clock.
    pub clock: Clock,
    /// Bounds of accounts, queues and the store: those of the start. Bounds of connections are in
    /// the settings.
    pub limits: Limits,
    /// Counters, and whoever watches sessions.
    pub tap: Arc<Tap>,
    /// Delays after wrong passwords.
    pub login_delays: LoginDelays,
    /// In-band registrations of the last hour.
    pub registrations: Registrations,
    /// SCRAM hashes by domain.
    pub offers: Offers,
    pub(crate) secret: [u8; 32],
    pub(crate) renewals: tokio::sync::Mutex<()>,
    pub(crate) kdf: Arc<tokio::sync::Semaphore>,
    /// Numbers of message rows.
    pub(crate) row_ids: RowIds,
    /// Managed streams that have ended.
    pub(crate) ended: EndedStreams,
    /// Links to other servers.
    pub(crate) s2s: Federation,
    /// Components that are here.
    pub(crate) components: Attachments,
}

impl Core {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        settings: Settings,
        store: Store,
        clock: Clock,
        (secret, newest): ([u8; 32], Option<RowId>),
    ) -> Self {
        let limits = settings.config.limits;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            registry: Registry::new(&limits),
            tap: Arc::new(Tap::new(clock.clone())),
            login_delays: LoginDelays::new(&limits),
            registrations: Registrations::new(&limits),
            offers: Offers::default(),
            limits,
            settings: RwLock::new(Arc::new(settings)),
            store,
            clock,
            secret,
            renewals: tokio::sync::Mutex::default(),
            kdf: Arc::new(tokio::sync::Semaphore::new(cores)),
            row_ids: RowIds::after(newest),
            ended: EndedStreams::default(),
            s2s: Federation::new(&secret),
            components: Attachments::default(),
        }
    }

    /// A stanza that a session of ours received. Resolves when the stanza has had all its effects.
    pub async fn from_session(self: &Arc<Self>, session: &Session, mut stanza: Stanza) {
        if let Err(error) = verify(&mut stanza, session) {
            return self.answer(session, stanza.error_reply(&error));
        }
        let flow = self.sender_stages(session, &mut stanza);
        let mut effects = VecDeque::from(session.later.take());
        match flow {
            Flow::Continue => {}
            Flow::Stop => return self.run(Some(session), effects).await,
            Flow::Refuse(error) => {
                effects.extend(stanza.error_reply(&error).map(Effect::route));
                return self.run(Some(session), effects).await;
            }
        }
        let _telling = match tells_contacts(&stanza) {
            true => Some(session.account.telling.lock().await),
            false => None,
        };
        match stanza.kind {
            Kind::Iq => self.iq_from_session(session, stanza, &mut effects).await,
            Kind::Message => {
                if stanza.head.to.is_none() {
                    stanza.head.to = Some(session.account.jid.clone().into());
                }
                effects.push_back(Effect::route(stanza));
            }
            Kind::Presence => {
                self.presence_from_session(session, stanza, &mut effects)
                    .await
            }
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
        let Some(host) = self.host(to.domain()) else {
            return self.message_out_now(session, stanza);
        };
        let Lookup::Here(account) = self.registry.get(to.bare_str(), self.clock.now()) else {
            return Some(stanza);
        };
        let Some(permit) = self.store.try_reserve(1, room_for(&stanza)) else {
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
        let sent = match sent_by(session, &stanza) {
            Resent::Known => return None,
            Resent::New(sent) => Some(sent),
            Resent::Unmarked => None,
        };
        for effect in self.deliver(&host, &account, stanza, (Some(permit), sent)) {
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

    /// The same for one whose task has gone.
    pub(crate) async fn session_dropped(self: &Arc<Self>, account: &Arc<Account>, sid: Sid) {
        let effects = self.end_session(account, sid);
        self.run(None, effects.into()).await;
    }

    /// Stages of the sender's side that no await may interrupt.
    pub(crate) fn sender_stages(&self, session: &Session, stanza: &mut Stanza) -> Flow {
        let (own, now) = (session.account.jid.as_str(), self.clock.now());
        if let Err(error) = session.recipients.admit(stanza, own, now, &self.limits) {
            return Flow::Refuse(error);
        }
        if let Err(error) = session.rates.admit(stanza, now, &self.limits) {
            return Flow::Refuse(error);
        }
        let modules = session.host.modules();
        if SENDER
            .iter()
            .all(|stage| !modules.hooks.any(*stage, stanza))
        {
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
                    left: session.account.left_by(self.clock.unix_secs()),
                }),
                session: entry,
                effects: Vec::new(),
                edits: Vec::new(),
                undelivered: None,
                keep: false,
            };
            flow = modules.hooks.run(stage, stanza, &mut cx);
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
        let changes = match is_subscription(&stanza.head.ty) {
            true => Some(account.changes.lock().await),
            false => None,
        };
        for _ in 0..3 {
            let mut sent = stanza.clone();
            let (flow, wishes) = self.route_stage(
                &session.host,
                &account,
                Sender::Live(session.sid),
                &mut sent,
            );
            match self.settle(&account, wishes, changes.is_some()).await {
                Ok(rest) => {
                    effects.extend(rest);
                    return self.after_route(session, flow, sent, effects);
                }
                Err(CommitError::Expect) => {}
                Err(error) => {
                    tracing::error!(%error, jid = %session.jid, "presence change not stored");
                    return self.refuse(session, &stanza, &not_stored());
                }
            }
        }
        self.answer(
            session,
            stanza.error_reply(&StanzaError::resource_constraint()),
        );
    }

    fn after_route(
        &self,
        session: &Session,
        flow: Flow,
        stanza: Stanza,
        effects: &mut VecDeque<Effect>,
    ) {
        match flow {
            // Directed presence goes on to its target; broadcast and subscriptions were dealt with.
            Flow::Continue if stanza.head.to.is_some() => effects.push_back(Effect::route(stanza)),
            Flow::Continue | Flow::Stop => {}
            Flow::Refuse(error) => self.refuse(session, &stanza, &error),
        }
    }

    /// To the session that sent it, also where the stanza bears its bare JID.
    fn refuse(&self, session: &Session, stanza: &Stanza, error: &StanzaError) {
        let reply = stanza.error_reply(error);
        self.answer(
            session,
            reply.map(|reply| reply.with_to(session.jid.clone())),
        );
    }

    /// Runs `Route` for presence. Under the account's lock, as the session list must not change
    /// between decision and effect unless a commit stands between them.
    fn route_stage(
        &self,
        host: &Host,
        account: &Arc<Account>,
        sender: Sender<'_>,
        stanza: &mut Stanza,
    ) -> (Flow, Vec<Effect>) {
        let roster = account.roster();
        let mut state = account.lock();
        let entry = match sender {
            Sender::Live(sid) => state.session(sid),
            Sender::Ended(entry) => Some(entry),
        };
        if entry.is_none() {
            // Somebody ended the session meanwhile; its unavailable presence is the last word.
            return (Flow::Stop, Vec::new());
        }
        let mut cx = Cx {
            host,
            limits: &self.limits,
            account: Some(AccountCx {
                jid: &account.jid,
                roster: &roster,
                sessions: &state.sessions,
                left: account.left_by(self.clock.unix_secs()),
            }),
            session: entry,
            effects: Vec::new(),
            edits: Vec::new(),
            undelivered: None,
            keep: false,
        };
        let flow = host.modules().hooks.run(Stage::Route, stanza, &mut cx);
        let (edits, mut effects) = (cx.edits, cx.effects);
        edit(stanza, &edits);
        if !effects.iter().any(Effect::is_write) {
            effects = self.apply_locked(account, &mut state, effects);
        }
        (flow, effects)
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
            let Some(fewer) = left.checked_sub(1) else {
                tracing::error!("effects of one stanza do not end; the rest is dropped");
                return;
            };
            left = fewer;
            if left.is_multiple_of(BREATH) {
                tokio::task::yield_now().await;
            }
            if let Some(session) = session {
                self.not_faster_than_taken(session).await;
            }
            match effect {
                Effect::Reply(stanza) | Effect::Route(stanza) => {
                    self.pass_on(session, *stanza, &mut queue).await;
                }
                Effect::Fan(rendered, jids) => {
                    for (count, jid) in jids.iter().enumerate() {
                        queue.extend(self.fan_one(&rendered, jid));
                        if count % BREATH == BREATH - 1 {
                            tokio::task::yield_now().await;
                        }
                    }
                }
                Effect::Recheck(shown) => queue.extend(self.recheck(&shown)),
                Effect::Pause => {
                    if let Some(session) = session {
                        session.pause.store(true, Ordering::Relaxed);
                    }
                }
                Effect::Gone(jid) => {
                    if let Some(session) = session {
                        self.all_taken(session).await;
                    }
                    self.renew(&jid).await;
                }
                Effect::Ended(account, entry) => {
                    self.tap.wake();
                    queue.extend(self.unavailable(&account, &entry));
                }
                // Nobody waits for it, and nobody's presence should (a logout notes its time).
                Effect::Note(op) => {
                    let ticket = self.store.submit(smallvec![op]);
                    tokio::spawn(async move { written(ticket.await) });
                }
                Effect::Write(op) => written(self.commit(smallvec![op]).await),
                Effect::Owed(ticket, stanza) => {
                    if let Some(session) = session {
                        session.owe(Owed { ticket, stanza });
                    }
                }
                Effect::Local(..)
                | Effect::Keep(_)
                | Effect::SetPresence(..)
                | Effect::SetInterested(_)
                | Effect::SetDirected(..)
                | Effect::Left
                | Effect::Show(_)
                | Effect::Vanish(_)
                | Effect::Roster(_)
                | Effect::RosterRemove(_) => {
                    tracing::error!(?effect, "effect without an account in hand");
                }
            }
        }
    }

    /// What a session brings upon itself, presence at login above all, waits for it to take some.
    /// The caller goes on writing its queue, which is also what wakes this. Where nothing can be
    /// taken, or somebody waits for the stanza in hand, the hard bound alone holds.
    async fn not_faster_than_taken(&self, session: &Session) {
        if session.outbox.is_congested(&self.limits) {
            let taken = poll_fn(|_| match session.outbox.is_congested(&self.limits) {
                true if session.is_waited_on() => Poll::Pending,
                _ => Poll::Ready(()),
            });
            let _ = tokio::time::timeout(self.limits.ticket_max, taken).await;
        }
    }

    /// Waits until a session has taken all that is queued for it, for a while.
    async fn all_taken(&self, session: &Session) {
        let taken = poll_fn(|_| match session.outbox.is_all_sent() {
            false if session.is_heard() => Poll::Pending,
            _ => Poll::Ready(()),
        });
        let _ = tokio::time::timeout(self.limits.stream.close_max, taken).await;
    }

    async fn pass_on(
        self: &Arc<Self>,
        session: Option<&Session>,
        stanza: Stanza,
        queue: &mut VecDeque<Effect>,
    ) {
        let Some(to) = stanza.head.to.clone() else {
            return;
        };
        if let Some(session) = session.filter(|session| *session.jid.as_jid() == to)
            && matches!(stanza.head.ty, Ty::Result | Ty::Error)
        {
            return self.answer(session, Some(stanza));
        }
        match target(&self.settings().hosts, &to) {
            Target::Remote => queue.extend(self.to_remote(session, stanza).await),
            Target::Host(host) => queue.extend(self.to_host(&host, stanza).await),
            Target::Account(host, jid) => {
                queue.extend(self.to_account(&host, &jid, session, stanza).await);
            }
            Target::Full(host, jid) => {
                let account = jid.to_bare();
                queue.extend(self.to_account(&host, &account, session, stanza).await);
            }
        }
    }

    /// Into the session's own queue.
    pub(crate) fn answer(&self, session: &Session, stanza: Option<Stanza>) {
        if let Some(stanza) = stanza {
            session
                .outbox
                .push(Item::One(Box::new(stanza)), &self.limits);
            session.outbox.wake();
        }
    }
}

fn written(outcome: Result<(), CommitError>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "write without an asker failed");
    }
}

/// The store does not answer: the sender may try again (DESIGN 10).
pub(crate) fn not_stored() -> StanzaError {
    StanzaError::new(ErrorType::Wait, StanzaCondition::InternalServerError)
}

/// Whose presence it is.
pub(crate) enum Sender<'a> {
    /// A bound session's.
    Live(Sid),
    /// That of a session which is no longer in its account.
    Ended(&'a SessionEntry),
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

/// A change whose news goes to contacts: of subscriptions, or of the own account by a set.
fn tells_contacts(stanza: &Stanza) -> bool {
    match stanza.kind {
        Kind::Presence => is_subscription(&stanza.head.ty),
        Kind::Iq => stanza.head.ty == Ty::Set && stanza.has(ns::id::ROSTER, ns::name::QUERY),
        Kind::Message => false,
    }
}

/// The four types that manage subscriptions (RFC 6121 section 3).
#[must_use]
pub fn is_subscription(ty: &Ty) -> bool {
    matches!(
        ty,
        Ty::Subscribe | Ty::Subscribed | Ty::Unsubscribe | Ty::Unsubscribed
    )
}

fn edit(stanza: &mut Stanza, edits: &[Edit]) {
    if !edits.is_empty() {
        *stanza = stanza.splice(edits);
    }
}
