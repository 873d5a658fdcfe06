//! IQ get and set: who answers, with what.
//!
//! RFC 6120 section 8.2.3, RFC 6121 section 8.5. Handlers are async functions from an owned `Iq` to
//! an `Answer`; ids, addresses and errors are the dispatcher's business.

use crate::core::Core;
use crate::effect::Effect;
use crate::host::Host;
use crate::session::Sid;
use crate::session::account::Account;
use crate::store::{StoreError, WriteOp};
use bytes::Bytes;
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{BareJid, FullJid, Jid};
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

    /// What all modules announce (for discovery).
    #[must_use]
    pub fn announced(&self) -> &crate::modules::Announced {
        &self.core.announced
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

    /// The handler of a query. An empty name registered stands for any name in the namespace.
    pub(crate) fn get(&self, kind: IqKind, ns: &str, name: &str) -> Option<&Registered> {
        self.table
            .get(&(kind, ns.to_owned(), name.to_owned()))
            .or_else(|| self.table.get(&(kind, ns.to_owned(), String::new())))
    }
}

impl From<StoreError> for StanzaError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "store does not answer");
        Self::internal_server_error()
    }
}
