//! The store: accounts, rosters and the key spaces of modules, in memory or in SQLite.
//!
//! DESIGN 10. Reads are async and see what is committed. Writes are batches of operations: a
//! submit is committed as a whole or not at all, and its ticket says which. Compare-and-set by
//! `expect` stands in for long transactions. Caching accounts is the server's business.

mod memory;
mod sqlite;
mod ticket;
mod types;
mod writer;

use std::path::Path;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use xmpp_stream::jid::BareJid;

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;
pub use ticket::Ticket;
pub use types::{
    AccountRecord, Ban, CommitError, KvRecord, Ops, RosterRecord, RosterRow, StoreError,
    Subscription, WriteOp,
};

/// Length of the secret that fake salts are made from.
const SECRET_BYTES: usize = 32;

/// Where everything is kept that outlives a session; clones are the same store.
#[derive(Clone, Debug)]
pub enum Store {
    /// Gone with the process.
    Memory(Arc<MemoryStore>),
    /// One file.
    Sqlite(Arc<SqliteStore>),
}

impl Store {
    /// An empty store that is gone with the process.
    pub fn memory() -> Self {
        Self::Memory(Arc::new(MemoryStore::new()))
    }

    /// Opens a database file, or makes one that only its owner can read; brings an older schema up
    /// to date.
    ///
    /// # Errors
    /// `Io` when the file cannot be made or opened, `TooNew` when it is of a later version of this
    /// program, `Database` when it is none or damaged; `Random`.
    pub fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Arc::new(SqliteStore::open(path)?)))
    }

    /// An account, if there is one.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn account(&self, jid: &BareJid) -> Result<Option<Arc<AccountRecord>>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.account(jid)),
            Self::Sqlite(store) => store.account(jid).await,
        }
    }

    /// The accounts of a domain, or of all, in the order of their addresses.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn accounts(&self, domain: Option<&str>) -> Result<Vec<BareJid>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.accounts(domain)),
            Self::Sqlite(store) => store.accounts(domain).await,
        }
    }

    /// The roster of an account; empty where there is none.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn roster(&self, account: &BareJid) -> Result<RosterRecord, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.roster(account)),
            Self::Sqlite(store) => store.roster(account).await,
        }
    }

    /// One value of a key space.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn kv(
        &self,
        space: &str,
        owner: &BareJid,
        key: &str,
    ) -> Result<Option<KvRecord>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.kv(space, owner, key)),
            Self::Sqlite(store) => store.kv(space, owner, key).await,
        }
    }

    /// The keys of an owner in a key space, in order.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn kv_keys(&self, space: &str, owner: &BareJid) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.kv_keys(space, owner)),
            Self::Sqlite(store) => store.kv_keys(space, owner).await,
        }
    }

    /// Random bytes that stay the same for the life of the store: the key for fake salts.
    ///
    /// # Errors
    /// `Random` where the system has none to give.
    pub async fn secret(&self) -> Result<[u8; SECRET_BYTES], StoreError> {
        match self {
            Self::Memory(store) => store.secret(),
            Self::Sqlite(store) => Ok(store.secret()),
        }
    }

    /// Hands in changes that are committed together or not at all, in the order of the calls.
    pub fn submit(&self, ops: Ops) -> Ticket {
        match self {
            Self::Memory(store) => store.submit(&ops),
            Self::Sqlite(store) => store.submit(ops),
        }
    }

    /// Writes what waits, then takes nothing more in.
    pub async fn close(&self) {
        match self {
            Self::Memory(store) => store.close(),
            Self::Sqlite(store) => store.close().await,
        }
    }
}

fn random_secret() -> Result<[u8; SECRET_BYTES], StoreError> {
    let mut secret = [0; SECRET_BYTES];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| StoreError::Random)?;
    Ok(secret)
}

#[cfg(test)]
mod tests;
