//! The store: accounts, rosters and the key spaces of modules, in memory or in SQLite.
//!
//! DESIGN 10. Reads are async and see what is committed. Writes are batches of operations: a
//! submit is committed as a whole or not at all, and its ticket says which. Compare-and-set by
//! `expect` stands in for long transactions. Caching accounts is the server's business.

mod faults;
mod memory;
mod permit;
mod row;
mod sqlite;
mod ticket;
mod types;
mod writer;

use std::path::Path;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use xmpp_stream::jid::BareJid;

use crate::metrics::StoreCounters;

pub use faults::Crash;
pub use memory::MemoryStore;
pub use permit::{Permit, StoreLimits};
pub use row::{Cleared, Clearing, MessageRow, Print, RowId, RowIds, Sent, Watermark};
pub use sqlite::SqliteStore;
pub use ticket::{Ticket, TicketView};
pub use types::{
    AccountRecord, Ban, CommitError, KeyShape, KeySurvey, KvRecord, Loaded, Ops, RosterRecord,
    RosterRow, StoreError, Subscription, WriteOp,
};
pub(crate) use types::{LINK_MARK, hash_number, is_link};

/// Messages of one sender that are recognised when they are sent again: what a client keeps that
/// was not acknowledged, several times over.
const SENT_MAX: u32 = 1000;
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
        Self::memory_within(&StoreLimits::default())
    }

    /// The same with other bounds. They show only while a fault makes its writes wait.
    pub fn memory_within(limits: &StoreLimits) -> Self {
        Self::Memory(Arc::new(MemoryStore::new(limits)))
    }

    /// Opens a database file, or makes one that only its owner can read; brings an older schema up
    /// to date.
    ///
    /// # Errors
    /// `Io` when the file cannot be made or opened, `TooNew` when it is of a later version of this
    /// program, `Database` when it is none or damaged; `Random`.
    pub fn open_sqlite(path: &Path, limits: &StoreLimits) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(Arc::new(SqliteStore::open(path, limits)?)))
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

    /// An account with all that stands around it and one value of a key space, in one visit. Looks
    /// for the rest also where there is no account: the time it takes must not tell.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn load(&self, jid: &BareJid, space: &str, key: &str) -> Result<Loaded, StoreError> {
        match self {
            Self::Memory(store) => Ok(Loaded {
                record: store.account(jid),
                roster: store.roster(jid),
                due: store.due(jid),
                value: store.kv(space, jid, key),
            }),
            Self::Sqlite(store) => store.load(jid, space, key).await,
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

    /// The keys of a domain's accounts, counted by what shows of them. Looks at every account.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn survey(&self, domain: &str) -> Result<KeySurvey, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.survey(domain)),
            Self::Sqlite(store) => store.survey(domain).await,
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

    /// Numbers of the messages of an account that are due, in order.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn due(&self, account: &BareJid) -> Result<Vec<RowId>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.due(account)),
            Self::Sqlite(store) => store.due(account).await,
        }
    }

    /// The rows of these numbers, those that are there, in the order asked for. One that is not due
    /// any more may be gone.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn messages(
        &self,
        account: &BareJid,
        ids: Vec<RowId>,
    ) -> Result<Vec<MessageRow>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.messages(account, &ids)),
            Self::Sqlite(store) => store.messages(account, ids).await,
        }
    }

    /// What an account sent since, as far as it is remembered (the last 1,000 messages), with the
    /// stream it was sent on, the oldest first; waits for what is queued at this moment.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`; `TimedOut` when what is queued stays so.
    pub async fn sent(
        &self,
        sender: &BareJid,
        since: RowId,
    ) -> Result<Vec<(Print, u128)>, StoreError> {
        match self {
            Self::Memory(store) => store.sent(sender, since).await,
            Self::Sqlite(store) => store.sent(sender, since).await,
        }
    }

    /// The pairs of domains that own messages, due or not yet forgotten.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn links(&self) -> Result<Vec<BareJid>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.links()),
            Self::Sqlite(store) => store.links().await,
        }
    }

    /// The newest message row of all accounts.
    ///
    /// # Errors
    /// `Closed`, `Corrupt`, `Database`.
    pub async fn newest(&self) -> Result<Option<RowId>, StoreError> {
        match self {
            Self::Memory(store) => Ok(store.newest()),
            Self::Sqlite(store) => store.newest().await,
        }
    }

    /// Room for these many operations and bytes, if there is some at once.
    #[must_use]
    pub fn try_reserve(&self, ops: usize, bytes: usize) -> Option<Permit> {
        match self {
            Self::Memory(store) => store.try_reserve(ops, bytes),
            Self::Sqlite(store) => store.try_reserve(ops, bytes),
        }
    }

    /// Waits for room; `None` when the store is closed or has none for as long as a ticket lasts.
    pub async fn reserve(&self, ops: usize, bytes: usize) -> Option<Permit> {
        match self {
            Self::Memory(store) => store.reserve(ops, bytes).await,
            Self::Sqlite(store) => store.reserve(ops, bytes).await,
        }
    }

    /// Has the watermark of an account written, some time soon, and again until that succeeded. Not
    /// to be called under the account's lock.
    pub fn clear(&self, clearing: Clearing) {
        match self {
            Self::Memory(store) => store.clear(clearing),
            Self::Sqlite(store) => store.clear(clearing),
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

    /// Hands in changes that are committed together or not at all, in the order of the calls; fails
    /// at once when the queue is full.
    pub fn submit(&self, ops: Ops) -> Ticket {
        match self {
            Self::Memory(store) => store.submit(ops),
            Self::Sqlite(store) => store.submit(ops),
        }
    }

    /// The same in room that was reserved before.
    pub fn submit_with(&self, permit: Permit, ops: Ops) -> Ticket {
        match self {
            Self::Memory(store) => store.submit_with(permit, ops),
            Self::Sqlite(store) => store.submit_with(permit, ops),
        }
    }

    /// What it has done, for operators.
    pub fn counters(&self) -> &StoreCounters {
        match self {
            Self::Memory(store) => store.counters(),
            Self::Sqlite(store) => store.counters(),
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
