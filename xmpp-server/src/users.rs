//! What may be done with accounts: add, remove, change the password, list.
//!
//! One set of functions for the control socket of a running server and for commands that open the
//! store of a stopped one. Names by RFC 8265 section 3.3, keys by RFC 5802.

use crate::auth::derive_all;
use crate::clock::Clock;
use crate::config::Config;
use crate::core::Core;
use crate::import::{ImportedAccount, KeyError, Outcome};
use crate::offers;
use crate::store::{Ban, CommitError, Ops, Store, StoreError, WriteOp};
use smallvec::smallvec;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use xmpp_stream::jid::{BareJid, Jid, JidError};
use xmpp_stream::stream::{Password, StoredKeys};

mod farewell;

/// The accounts of a server, running or not.
#[derive(Clone)]
pub enum Users {
    /// Through the running server, so that memory follows and sessions of removed accounts end.
    Running(Arc<Core>),
    /// In the store of a server that does not run.
    Stopped(Arc<Stopped>),
}

/// The store of a server that does not run.
pub struct Stopped {
    store: Store,
    /// Served domains; `None`: whatever the server will be started with.
    domains: Option<Vec<String>>,
    iterations: u32,
    created: u64,
}

/// Why an account operation was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum UserError {
    /// No password is empty.
    EmptyPassword,
    /// The account is there already.
    Exists,
    /// Keys that nobody could sign in with.
    Keys(KeyError),
    /// The name is none that an account can have.
    Name(JidError),
    /// The domain is not served.
    NotServed,
    /// The store failed or did not answer in time.
    Store,
    /// There is no such account.
    Unknown,
}

impl Stopped {
    /// Accounts of a store, as the configuration has them.
    #[must_use]
    pub fn new(store: Store, config: &Config, clock: &Clock) -> Self {
        let names = || {
            config
                .domains
                .iter()
                .map(|domain| domain.name.clone())
                .collect()
        };
        Self {
            store,
            // Without a file the domains are those of the command line that will start it.
            domains: config.file.is_some().then(names),
            iterations: config.sasl.scram_iterations,
            created: clock.unix_secs(),
        }
    }
}

impl Users {
    /// Adds an account with this password.
    ///
    /// # Errors
    /// `Exists`, `NotServed`, `EmptyPassword`, `Store`.
    pub async fn add(&self, account: &BareJid, password: Password) -> Result<(), UserError> {
        self.check_domain(account.domain())?;
        if self.store().account(account).await?.is_some() {
            return Err(UserError::Exists);
        }
        let keys = self.keys(password).await?;
        let created = self.created();
        let op = WriteOp::AccountCreate {
            account: account.clone(),
            keys,
            created,
        };
        self.commit(op, UserError::Exists).await
    }

    /// Removes an account with all it has.
    ///
    /// # Errors
    /// `Unknown`, `Store`.
    pub async fn remove(&self, account: &BareJid) -> Result<(), UserError> {
        if self.store().account(account).await?.is_none() {
            return Err(UserError::Unknown);
        }
        match self {
            Self::Running(core) => {
                let removed = core.remove_account(account).await;
                let effects = removed.map_err(|_| UserError::Store)?;
                core.run(None, effects.into()).await;
            }
            Self::Stopped(stopped) => {
                let mut ops = farewell::ops(&stopped.store, account).await?;
                ops.push(WriteOp::AccountRemove {
                    account: account.clone(),
                });
                let removed = stopped.store.submit(ops).await;
                removed.map_err(|_| UserError::Store)?;
            }
        }
        Ok(())
    }

    /// Sets another password.
    ///
    /// # Errors
    /// `Unknown`, `EmptyPassword`, `Store`.
    pub async fn set_password(
        &self,
        account: &BareJid,
        password: Password,
    ) -> Result<(), UserError> {
        if self.store().account(account).await?.is_none() {
            return Err(UserError::Unknown);
        }
        let keys = self.keys(password).await?;
        let op = WriteOp::AccountKeys {
            account: account.clone(),
            keys,
        };
        self.commit(op, UserError::Unknown).await
    }

    /// Keeps an account from signing in; its sessions end.
    ///
    /// # Errors
    /// `Unknown`, `Store`.
    pub async fn ban(&self, account: &BareJid, reason: Option<String>) -> Result<(), UserError> {
        let op = WriteOp::AccountBan {
            account: account.clone(),
            reason,
        };
        self.commit(op, UserError::Unknown).await
    }

    /// Lets an account sign in again; nothing changes for one that is not banned.
    ///
    /// # Errors
    /// `Unknown`, `Store`.
    pub async fn unban(&self, account: &BareJid) -> Result<(), UserError> {
        let op = WriteOp::AccountUnban {
            account: account.clone(),
        };
        self.commit(op, UserError::Unknown).await
    }

    /// The ban of an account, if there is one.
    ///
    /// # Errors
    /// `Store`.
    pub async fn ban_of(&self, account: &BareJid) -> Result<Option<Ban>, UserError> {
        let record = self.store().account(account).await?;
        Ok(record.and_then(|record| record.banned.clone()))
    }

    /// True for an account that is there.
    ///
    /// # Errors
    /// `Store`.
    pub async fn exists(&self, account: &BareJid) -> Result<bool, UserError> {
        Ok(self.store().account(account).await?.is_some())
    }

    /// Adds accounts with their keys. One that exists is left as it is, and one that is refused
    /// keeps no other from being added; an outcome each, in the same order.
    pub async fn import(&self, accounts: Vec<ImportedAccount>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(accounts.len());
        let (mut places, mut ops) = (Vec::new(), Vec::new());
        for imported in &accounts {
            let outcome = match self.creation(imported).await {
                Ok(Some(op)) => {
                    places.push(outcomes.len());
                    ops.push(op);
                    Outcome::Added
                }
                Ok(None) => Outcome::Unchanged,
                Err(error) => Outcome::Refused(error.to_string()),
            };
            outcomes.push(outcome);
        }
        // First: what is offered may be too little for a moment, never too much.
        self.narrow_offers(&ops);
        if self.commit_all(ops.clone().into()).await.is_ok() {
            return outcomes;
        }
        // Somebody made one of them meanwhile, it stands here twice, or the store failed.
        for (place, op) in places.into_iter().zip(ops) {
            let outcome = match self.commit(op, UserError::Exists).await {
                Ok(()) => Outcome::Added,
                Err(UserError::Exists) => Outcome::Unchanged,
                Err(error) => Outcome::Refused(error.to_string()),
            };
            if let Some(kept) = outcomes.get_mut(place) {
                *kept = outcome;
            }
        }
        outcomes
    }

    /// A domain offers the hashes for which all accounts hold keys, those about to be made too. A
    /// server that does not run looks at its start.
    fn narrow_offers(&self, creations: &[WriteOp]) {
        let Self::Running(core) = self else { return };
        let mut domains: BTreeMap<&str, u8> = BTreeMap::new();
        for op in creations {
            if let WriteOp::AccountCreate { account, keys, .. } = op {
                *domains.entry(account.domain()).or_insert(offers::ALL) &= offers::set_of(keys);
            }
        }
        for (domain, keys) in domains {
            if core.offers.narrow(domain, keys) {
                tracing::warn!(domain, "accounts lack keys: fewer mechanisms are offered");
            }
        }
    }

    /// `None` for an account that exists.
    async fn creation(&self, imported: &ImportedAccount) -> Result<Option<WriteOp>, UserError> {
        let account = account_name(&imported.jid).map_err(UserError::Name)?;
        self.check_domain(account.domain())?;
        if self.exists(&account).await? {
            return Ok(None);
        }
        let keys = imported.keys().map_err(UserError::Keys)?;
        let created = self.created();
        Ok(Some(WriteOp::AccountCreate {
            account,
            keys,
            created,
        }))
    }

    /// The accounts of a domain, or of all.
    ///
    /// # Errors
    /// `Store`; `Name` when the domain is no name.
    pub async fn list(&self, domain: Option<&str>) -> Result<Vec<BareJid>, UserError> {
        let domain = domain
            .map(Jid::domain_only)
            .transpose()
            .map_err(UserError::Name)?;
        let domain = domain.as_ref().map(|domain| domain.domain());
        let mut accounts = self.store().accounts(domain).await?;
        accounts.sort_unstable_by(|a, b| (a.domain(), a.local()).cmp(&(b.domain(), b.local())));
        Ok(accounts)
    }

    fn store(&self) -> &Store {
        match self {
            Self::Running(core) => &core.store,
            Self::Stopped(stopped) => &stopped.store,
        }
    }

    fn created(&self) -> u64 {
        match self {
            Self::Running(core) => core.clock.unix_secs(),
            Self::Stopped(stopped) => stopped.created,
        }
    }

    fn check_domain(&self, domain: &str) -> Result<(), UserError> {
        let served = match self {
            Self::Running(core) => core.host(domain).is_some(),
            Self::Stopped(stopped) => match &stopped.domains {
                Some(domains) => domains.iter().any(|name| name == domain),
                None => true,
            },
        };
        if served {
            Ok(())
        } else {
            Err(UserError::NotServed)
        }
    }

    async fn keys(&self, password: Password) -> Result<Vec<StoredKeys>, UserError> {
        if password.0.is_empty() {
            return Err(UserError::EmptyPassword);
        }
        let keys = match self {
            Self::Running(core) => core.derive_keys(password.0.clone()).await,
            Self::Stopped(stopped) => {
                let iterations = stopped.iterations;
                let derived =
                    tokio::task::spawn_blocking(move || derive_all(&password.0, iterations));
                derived.await.unwrap_or_default()
            }
        };
        // No keys: the process is ending, and its worker threads with it.
        if keys.is_empty() {
            Err(UserError::Store)
        } else {
            Ok(keys)
        }
    }

    /// `raced`: what it means when the account came or went since it was looked at.
    async fn commit(&self, op: WriteOp, raced: UserError) -> Result<(), UserError> {
        let committed = self.commit_all(smallvec![op]).await;
        committed.map_err(|error| match error {
            CommitError::Expect => raced,
            _ => UserError::Store,
        })
    }

    async fn commit_all(&self, ops: Ops) -> Result<(), CommitError> {
        match self {
            Self::Running(core) => core.commit(ops).await,
            Self::Stopped(stopped) => stopped.store.submit(ops).await,
        }
    }
}

/// The name of an account as a person writes it: `local@domain`.
///
/// # Errors
/// `JidError` of the part that is wrong.
pub fn account_name(text: &str) -> Result<BareJid, JidError> {
    let (local, domain) = text.split_once('@').ok_or(JidError::Local)?;
    let domain = Jid::domain_only(domain)?;
    BareJid::account(local, domain.domain())
}

impl From<StoreError> for UserError {
    fn from(_: StoreError) -> Self {
        Self::Store
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPassword => f.write_str("the password is empty"),
            Self::Exists => f.write_str("the account exists already"),
            Self::Keys(error) => error.fmt(f),
            Self::Name(JidError::Local) => f.write_str("not the name of an account"),
            Self::Name(_) => f.write_str("not the name of a domain"),
            Self::NotServed => f.write_str("this server does not serve the domain"),
            Self::Store => f.write_str("the store failed; the server's log may say why"),
            Self::Unknown => f.write_str("there is no such account"),
        }
    }
}

impl std::error::Error for UserError {}

#[cfg(test)]
mod tests;
