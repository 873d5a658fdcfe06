//! IQ get and set: who answers, with what.
//!
//! RFC 6120 section 8.2.3, RFC 6121 section 8.5. Handlers are async functions from an owned `Iq` to
//! an `Answer`; ids, addresses and errors are the dispatcher's business.

use crate::core::{Core, not_stored};
use crate::effect::Effect;
use crate::host::Host;
use crate::router::{Target, target};
use crate::session::account::Account;
use crate::session::{Session, Sid};
use crate::store::{CommitError, StoreError, WriteOp};
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::stanza::{Item, Stanza, Ty};
use xmpp_stream::xml::Element;

/// get or set.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum IqKind {
    /// A question.
    Get,
    /// A change.
    Set,
}

/// Whom a request is addressed to. Requests to full JIDs are delivered, not answered here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    /// The domain.
    Host,
    /// The sender's own account (bare JID, or no `to`).
    Own,
    /// Another local account.
    Other,
}

/// A set of `At`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AtSet(u8);

impl AtSet {
    /// The domain only.
    pub const HOST: Self = Self(1);
    /// The own account only.
    pub const OWN: Self = Self(2);
    /// Other accounts only.
    pub const OTHER: Self = Self(4);
    /// The domain and the own account: what most modules answer.
    pub const SERVER: Self = Self(3);
    /// Own and other accounts.
    pub const ACCOUNTS: Self = Self(6);
    /// All three.
    pub const ALL: Self = Self(7);

    /// True when `at` is in the set.
    #[must_use]
    pub const fn has(self, at: At) -> bool {
        self.0 & (1 << at as u8) != 0
    }
}

/// The session that asks, as a handler may know it.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Its number.
    pub sid: Sid,
    /// Its address.
    pub jid: FullJid,
    /// Where its client connects from.
    pub peer: IpAddr,
    /// Its stream is under TLS.
    pub secure: bool,
}

/// A request, owned by its handler.
pub struct Iq {
    /// get or set.
    pub kind: IqKind,
    /// Whom it is for.
    pub at: At,
    /// Who asks; `None`: a guest before login.
    pub from: Option<Jid>,
    /// The asking session when it is local.
    pub asker: Option<Asker>,
    /// Where the asking client's connection comes from, when it is local.
    pub peer: Option<IpAddr>,
    /// `xml:lang` of the request.
    pub lang: Option<Box<str>>,
    /// The one child.
    pub payload: Element,
    /// The domain.
    pub host: Arc<Host>,
    /// The addressed account (`At::Own`, `At::Other`); `None` when there is none such.
    pub account: Option<Arc<Account>>,
    pub(crate) module: &'static str,
    pub(crate) core: Arc<Core>,
}

impl Iq {
    /// The module's own key space in the store.
    #[must_use]
    pub fn store(&self) -> KeySpace {
        KeySpace {
            space: self.module,
            core: Arc::clone(&self.core),
        }
    }

    /// What the domain's modules announce (for discovery).
    #[must_use]
    pub fn announced(&self) -> Arc<crate::modules::Announced> {
        Arc::clone(&self.host.modules().announced)
    }

    /// Bounds of this server.
    #[must_use]
    pub fn limits(&self) -> &crate::limits::Limits {
        &self.core.limits
    }

    /// Salted keys of a password for a new account or a password change, derived off the task.
    pub async fn derive_keys(&self, password: String) -> Vec<xmpp_stream::stream::StoredKeys> {
        self.core.derive_keys(password).await
    }

    /// Seconds since 1970, by the server's clock.
    #[must_use]
    pub fn unix_now(&self) -> u64 {
        self.core.clock.unix_secs()
    }

    /// How long the server runs.
    #[must_use]
    pub fn uptime(&self) -> std::time::Duration {
        self.core.clock.uptime()
    }

    /// True when the asker may see the addressed account's presence, or is its owner.
    #[must_use]
    pub fn is_authorized(&self) -> bool {
        match (&self.account, &self.from) {
            (_, _) if self.at == At::Own => true,
            (Some(account), Some(from)) => account.roster().may_see_us(from.bare_str()),
            _ => false,
        }
    }
}

/// Rows of one module; no module reads another's.
pub struct KeySpace {
    space: &'static str,
    core: Arc<Core>,
}

impl KeySpace {
    /// The value under a key of an account.
    ///
    /// # Errors
    /// `StoreError` when the store does not answer; `?` makes it internal-server-error.
    pub async fn get(&self, owner: &BareJid, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self
            .core
            .store
            .kv(self.space, owner, key)
            .await?
            .map(|record| record.val))
    }

    /// The keys in use for an account.
    ///
    /// # Errors
    /// As for `get`.
    pub async fn keys(&self, owner: &BareJid) -> Result<Vec<String>, StoreError> {
        self.core.store.kv_keys(self.space, owner).await
    }

    /// The wish to set (`Some`) or delete (`None`) a value.
    #[must_use]
    pub fn put(&self, owner: &BareJid, key: &str, val: Option<Bytes>) -> Effect {
        Effect::Write(WriteOp::Kv {
            space: self.space,
            owner: owner.clone(),
            key: key.to_owned(),
            val,
            expect: None,
        })
    }
}

/// What a handler answers.
#[derive(Debug, Default)]
pub struct Answer {
    /// Child of the result.
    pub payload: Option<Element>,
    /// Wishes; when some are writes the result is sent after the commit.
    pub effects: Vec<Effect>,
    /// Wishes for the asking session's account, applied right behind the result.
    pub after: Vec<Effect>,
    /// The asker's account is to go, with all it has; its sessions end behind the result.
    pub removal: bool,
    /// Error to send in place of the result when the commit fails with a broken expectation
    /// (e.g. conflict: the account was made meanwhile). `None`: the handler is called again.
    pub on_conflict: Option<StanzaError>,
}

impl Answer {
    /// A result without a child.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// A result with a child.
    #[must_use]
    pub fn with(payload: Element) -> Self {
        Self {
            payload: Some(payload),
            ..Self::default()
        }
    }

    /// Adds a wish.
    #[must_use]
    pub fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}

/// A handler's future.
pub type Answering = Pin<Box<dyn Future<Output = Result<Answer, StanzaError>> + Send>>;

/// A handler: asynchronous, may read the store.
pub type Handler = dyn Fn(Iq) -> Answering + Send + Sync;

/// One registered handler.
pub(crate) struct Registered {
    pub(crate) module: &'static str,
    pub(crate) at: AtSet,
    pub(crate) guest: bool,
    pub(crate) handler: Box<Handler>,
}

/// Handlers by kind, namespace and name of the child.
#[derive(Default)]
pub struct IqTable {
    table: HashMap<(IqKind, String, String), Registered>,
}

impl IqTable {
    /// Adds a handler; `Err`: the query has one already (a start-up error).
    pub(crate) fn add(
        &mut self,
        kind: IqKind,
        ns: &str,
        name: &str,
        registered: Registered,
    ) -> Result<(), &'static str> {
        let key = (kind, ns.to_owned(), name.to_owned());
        if let Some(other) = self.table.get(&key) {
            return Err(other.module);
        }
        self.table.insert(key, registered);
        Ok(())
    }

    /// Every query that has a handler: kind, namespace, and who is asked.
    #[cfg(test)]
    pub(crate) fn queries(&self) -> impl Iterator<Item = (IqKind, &str, AtSet)> {
        let all = self.table.iter();
        all.map(|((kind, ns, _), registered)| (*kind, &**ns, registered.at))
    }

    /// The handler of a query. An empty name registered stands for any name in the namespace.
    pub(crate) fn get(&self, kind: IqKind, ns: &str, name: &str) -> Option<&Registered> {
        self.table
            .get(&(kind, ns.to_owned(), name.to_owned()))
            .or_else(|| self.table.get(&(kind, ns.to_owned(), String::new())))
    }
}

impl Core {
    /// A request or answer that a local session sent.
    pub(crate) async fn iq_from_session(
        self: &Arc<Self>,
        session: &Session,
        stanza: Stanza,
        effects: &mut VecDeque<Effect>,
    ) {
        let own = stanza
            .head
            .to
            .as_ref()
            .is_none_or(|to| to == session.account.jid.as_jid());
        let (host, account, at) = match &stanza.head.to {
            _ if own => (
                Arc::clone(&session.host),
                Some(Arc::clone(&session.account)),
                At::Own,
            ),
            Some(to) => match target(&self.settings().hosts, to) {
                Target::Host(host) => (host, None, At::Host),
                _ => return effects.push_back(Effect::route(stanza)),
            },
            None => return,
        };
        let asker = Asker {
            sid: session.sid,
            jid: session.jid.clone(),
            peer: session.peer,
            secure: session.secure,
        };
        effects.extend(
            self.answer_iq(&host, account, at, Some(asker), stanza)
                .await,
        );
    }

    /// A request to a bare JID or the domain that came from elsewhere.
    pub(crate) async fn iq_routed(
        self: &Arc<Self>,
        host: &Arc<Host>,
        account: Option<Arc<Account>>,
        stanza: Stanza,
    ) -> Vec<Effect> {
        let from = stanza.head.from.as_ref().map(Jid::bare_str);
        let at = match &account {
            None => At::Host,
            Some(account) if from == Some(account.jid.as_str()) => At::Own,
            Some(_) => At::Other,
        };
        self.answer_iq(host, account, at, None, stanza).await
    }

    /// A request to an account that does not exist: the same handlers answer, so that what they
    /// say of strangers' accounts does not tell which ones there are.
    pub(crate) async fn iq_to_nobody(
        self: &Arc<Self>,
        host: &Arc<Host>,
        stanza: Stanza,
    ) -> Vec<Effect> {
        self.answer_iq(host, None, At::Other, None, stanza).await
    }

    /// A request from a peer that has not signed in; gives what to send back.
    pub async fn iq_from_guest(
        self: &Arc<Self>,
        host: &Arc<Host>,
        peer: IpAddr,
        stanza: Stanza,
    ) -> Option<Stanza> {
        if stanza.head.id.is_none() || stanza.kids.len() != 1 {
            return stanza.error_reply(&StanzaError::bad_request());
        }
        let refused = stanza.error_reply(&StanzaError::service_unavailable());
        let payload = stanza.first_element()?;
        let kind = kind(&stanza.head.ty)?;
        let modules = host.modules();
        let Some(registered) = modules.iqs.get(kind, payload.ns(), payload.name()) else {
            return refused;
        };
        if !registered.guest {
            return refused;
        }
        let call = Call {
            host,
            account: None,
            at: At::Host,
            asker: None,
            peer: Some(peer),
        };
        match self.call(registered, kind, &call, &stanza, payload).await {
            Ok((reply, rest)) => {
                self.run(None, rest.into()).await;
                reply
            }
            Err(error) => stanza.error_reply(&error),
        }
    }

    /// Answers a get or set exactly once; results and errors that nobody waits for are dropped.
    async fn answer_iq(
        self: &Arc<Self>,
        host: &Arc<Host>,
        account: Option<Arc<Account>>,
        at: At,
        asker: Option<Asker>,
        stanza: Stanza,
    ) -> Vec<Effect> {
        let Some(kind) = kind(&stanza.head.ty) else {
            return Vec::new();
        };
        let refuse = |error: &StanzaError| -> Vec<Effect> {
            stanza
                .error_reply(error)
                .map(Effect::route)
                .into_iter()
                .collect()
        };
        let Some(payload) = stanza.first_element() else {
            return refuse(&StanzaError::bad_request());
        };
        let modules = host.modules();
        let registered = modules.iqs.get(kind, payload.ns(), payload.name());
        let Some(registered) = registered.filter(|registered| registered.at.has(at)) else {
            return refuse(&StanzaError::service_unavailable());
        };
        let peer = asker.as_ref().map(|asker| asker.peer);
        let call = Call {
            host,
            account,
            at,
            asker,
            peer,
        };
        match self.call(registered, kind, &call, &stanza, payload).await {
            Ok((Some(reply), mut rest)) => {
                rest.push(Effect::Reply(Box::new(reply)));
                rest
            }
            Ok((None, rest)) => rest,
            Err(error) => refuse(&error),
        }
    }

    /// Runs a handler and commits what it wishes. A change of the own account is decided, committed
    /// and answered before the next one of that account begins; so is a question, so that no push
    /// of a later change overtakes the answer. An answer that was queued here is not given back.
    async fn call(
        self: &Arc<Self>,
        registered: &Registered,
        kind: IqKind,
        call: &Call<'_>,
        stanza: &Stanza,
        payload: Element,
    ) -> Result<(Option<Stanza>, Vec<Effect>), StanzaError> {
        let own = call.account.as_ref().filter(|_| call.at == At::Own);
        let _changes = match own {
            Some(account) => Some(account.changes.lock().await),
            None => None,
        };
        for _ in 0..3 {
            let iq = Iq {
                kind,
                at: call.at,
                from: stanza.head.from.clone(),
                asker: call.asker.clone(),
                peer: call.peer,
                lang: stanza.head.lang.clone(),
                payload: payload.clone(),
                host: Arc::clone(call.host),
                account: call.account.clone(),
                module: registered.module,
                core: Arc::clone(self),
            };
            let answer = guarded(registered, iq).await?;
            if let Some(asker) = call.asker.as_ref().filter(|_| answer.removal) {
                return self.remove_asker(asker, stanza).await;
            }
            let settled = match &call.account {
                Some(account) => self.settle(account, answer.effects, own.is_some()).await,
                None => self.settle_host(answer.effects).await,
            };
            match (settled, answer.on_conflict) {
                (Ok(rest), _) => {
                    let reply = stanza.result(answer.payload.as_ref());
                    let asker = call.asker.as_ref();
                    return Ok((self.reply_in_order(own, asker, reply, answer.after), rest));
                }
                (Err(CommitError::Expect), Some(conflict)) => return Err(conflict),
                (Err(CommitError::Expect), None) => {}
                (Err(error), _) => {
                    tracing::error!(%error, module = registered.module, "change not stored");
                    return Err(not_stored());
                }
            }
        }
        Err(StanzaError::resource_constraint())
    }

    /// Removes the account of who asks. The answer is queued at once; what follows it comes when no
    /// account's `changes` is held any more.
    async fn remove_asker(
        self: &Arc<Self>,
        asker: &Asker,
        stanza: &Stanza,
    ) -> Result<(Option<Stanza>, Vec<Effect>), StanzaError> {
        let jid = asker.jid.to_bare();
        let removed = self.remove_account(&jid).await;
        let effects = removed.map_err(|error| {
            tracing::error!(%error, %jid, "account not removed");
            not_stored()
        })?;
        if let Some(account) = self.registry.peek(jid.as_str()) {
            let reply = Item::One(Box::new(stanza.result(None)));
            account.lock().push_one(asker.sid, reply, &self.limits);
        }
        Ok((None, effects))
    }

    /// Puts the answer of an own-account request into the asker's queue; gives it back when the
    /// asker is not a session of that account.
    fn reply_in_order(
        &self,
        own: Option<&Arc<Account>>,
        asker: Option<&Asker>,
        reply: Stanza,
        after: Vec<Effect>,
    ) -> Option<Stanza> {
        let (Some(account), Some(asker)) = (own, asker) else {
            return Some(reply);
        };
        let mut state = account.lock();
        state.push_one(asker.sid, Item::One(Box::new(reply)), &self.limits);
        for effect in after {
            state.apply(effect, &self.limits, self.clock.unix_secs());
        }
        None
    }

    /// Effects of a request to the domain: no account is in hand.
    async fn settle_host(
        self: &Arc<Self>,
        effects: Vec<Effect>,
    ) -> Result<Vec<Effect>, CommitError> {
        let (mut ops, mut rest) = (SmallVec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Write(op) => ops.push(op),
                other => rest.push(other),
            }
        }
        if !ops.is_empty() {
            self.commit(ops).await?;
        }
        Ok(rest)
    }
}

/// A handler's answer; one that panics harms this request only.
async fn guarded(registered: &Registered, iq: Iq) -> Result<Answer, StanzaError> {
    let panicked = |_| {
        tracing::error!(module = registered.module, "handler panicked");
        StanzaError::internal_server_error()
    };
    let begun = catch_unwind(AssertUnwindSafe(|| (registered.handler)(iq)));
    let mut answering = begun.map_err(panicked)?;
    poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| answering.as_mut().poll(cx));
        catch_unwind(poll).unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic))))
    })
    .await
}

/// Who asks whom.
struct Call<'a> {
    host: &'a Arc<Host>,
    account: Option<Arc<Account>>,
    at: At,
    asker: Option<Asker>,
    peer: Option<IpAddr>,
}

fn kind(ty: &Ty) -> Option<IqKind> {
    match ty {
        Ty::Get => Some(IqKind::Get),
        Ty::Set => Some(IqKind::Set),
        _ => None,
    }
}

impl From<StoreError> for StanzaError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "store does not answer");
        Self::internal_server_error()
    }
}
