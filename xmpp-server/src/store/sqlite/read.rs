//! The reading side: a few connections, each query on a thread where it may block.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::Semaphore;
use tracing::error;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::{ScramHash, StoredKeys};

use super::super::{
    AccountRecord, Ban, KeyShape, KeySurvey, KvRecord, RosterRecord, RosterRow, StoreError,
    Subscription,
};
use super::{connect, fault};

/// Reads that run at once. More would only wait for the same disk and page cache.
const READERS_MAX: usize = 4;

/// Connections that are opened when first needed and kept.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Closed when the store is.
    permits: Arc<Semaphore>,
}

/// Why a query gave nothing.
pub(super) enum ReadError {
    Corrupt(&'static str),
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Corrupt(table) => {
                error!(table, "row cannot be read");
                Self::Corrupt { table }
            }
            ReadError::Database(error) => fault(&error),
        }
    }
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        let permits = Arc::new(Semaphore::new(READERS_MAX));
        Self {
            path: path.to_owned(),
            idle: Mutex::default(),
            permits,
        }
    }

    /// Runs a query on a connection that it has for itself.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&mut Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let readers = Arc::clone(self);
        let running = tokio::task::spawn_blocking(move || {
            // Held by the thread: the caller may be gone long before the query ends.
            let _permit = permit;
            let mut db = readers.connection()?;
            let result = query(&mut db)?;
            readers.put_back(db);
            Ok(result)
        });
        running.await.unwrap_or_else(|gone| {
            error!(panicked = gone.is_panic(), "read ended early");
            Err(StoreError::Closed)
        })
    }

    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn connection(&self) -> Result<Connection, ReadError> {
        let idle = self.idle().pop();
        if let Some(db) = idle {
            return Ok(db);
        }
        let db = connect(&self.path)?;
        db.pragma_update(None, "query_only", true)?;
        Ok(db)
    }

    fn put_back(&self, db: Connection) {
        let mut idle = self.idle();
        if !self.permits.is_closed() {
            idle.push(db);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn account(
    db: &mut Connection,
    jid: &BareJid,
) -> Result<Option<Arc<AccountRecord>>, ReadError> {
    // One transaction, so that a password change between the two queries is not seen by half.
    let db = db.transaction()?;
    let sql = "SELECT created, banned, ban_reason FROM account WHERE jid = ?1";
    let found = db
        .prepare_cached(sql)?
        .query_row([jid.as_str()], |row| {
            let banned: bool = row.get(1)?;
            Ok((
                row.get::<_, i64>(0)?.cast_unsigned(),
                banned.then_some(row.get(2)?),
            ))
        })
        .optional()?;
    let Some((created, reason)) = found else {
        return Ok(None);
    };
    let banned = reason.map(|reason| Ban { reason });
    Ok(Some(Arc::new(AccountRecord {
        keys: keys(&db, jid)?,
        banned,
        created,
    })))
}

fn keys(db: &Connection, account: &BareJid) -> Result<Vec<Arc<StoredKeys>>, ReadError> {
    let sql = "SELECT hash, iterations, salt, stored_key, server_key FROM account_key \
               WHERE account = ?1 ORDER BY hash";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([account.as_str()])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let hash = match row.get(0)? {
            1 => ScramHash::Sha1,
            256 => ScramHash::Sha256,
            512 => ScramHash::Sha512,
            _ => return Err(ReadError::Corrupt("account_key")),
        };
        keys.push(Arc::new(StoredKeys {
            hash,
            iterations: row.get(1)?,
            salt: row.get::<_, Vec<u8>>(2)?.into(),
            stored_key: row.get::<_, Vec<u8>>(3)?.into(),
            server_key: row.get::<_, Vec<u8>>(4)?.into(),
        }));
    }
    Ok(keys)
}

pub(super) fn accounts(
    db: &mut Connection,
    domain: Option<&str>,
) -> Result<Vec<BareJid>, ReadError> {
    let mut statement = db.prepare_cached(match domain {
        Some(_) => "SELECT jid FROM account WHERE domain = ?1 ORDER BY jid",
        None => "SELECT jid FROM account ORDER BY jid",
    })?;
    let mut rows = statement.query(rusqlite::params_from_iter(domain))?;
    let mut jids = Vec::new();
    while let Some(row) = rows.next()? {
        jids.push(address(row.get_ref(0)?.as_str().ok(), "account")?);
    }
    Ok(jids)
}

pub(super) fn survey(db: &mut Connection, domain: &str) -> Result<KeySurvey, ReadError> {
    // One transaction: the keys are those of these accounts.
    let db = db.transaction()?;
    let sql = "SELECT COUNT(*) FROM account WHERE domain = ?1";
    let accounts = db.query_row(sql, [domain], |row| row.get::<_, i64>(0))?;
    let sql = "SELECT hash, iterations, length(salt), COUNT(*) \
               FROM account JOIN account_key ON account_key.account = account.jid \
               WHERE domain = ?1 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
    let mut statement = db.prepare_cached(sql)?;
    let shape = |row: &Row<'_>| {
        let shape = KeyShape {
            hash: row.get(0)?,
            iterations: row.get(1)?,
            salt_bytes: row.get::<_, i64>(2)?.try_into().unwrap_or(0),
        };
        Ok((shape, row.get::<_, i64>(3)?.cast_unsigned()))
    };
    let shapes = statement.query_map([domain], shape)?;
    Ok(KeySurvey {
        accounts: accounts.cast_unsigned(),
        shapes: shapes.collect::<Result<_, _>>()?,
    })
}

pub(super) fn roster(db: &mut Connection, account: &BareJid) -> Result<RosterRecord, ReadError> {
    // One transaction: the items are those of this very version.
    let db = db.transaction()?;
    let sql = "SELECT ver, forgotten FROM roster_version WHERE account = ?1";
    let version = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let found = db
        .prepare_cached(sql)?
        .query_row([account.as_str()], version)
        .optional()?;
    let (ver, forgotten) = found.unwrap_or_default();
    let removed = removed_contacts(&db, account)?;
    let sql = "SELECT jid, name, groups, subscription, ask, pending_in, approved, ver FROM roster \
               WHERE account = ?1 ORDER BY jid";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([account.as_str()])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(roster_row(row)?);
    }
    Ok(RosterRecord {
        ver: ver.cast_unsigned(),
        items,
        removed,
        forgotten: forgotten.cast_unsigned(),
    })
}

fn removed_contacts(db: &Connection, account: &BareJid) -> Result<Vec<(u64, BareJid)>, ReadError> {
    let sql = "SELECT ver, jid FROM roster_removed WHERE account = ?1 ORDER BY ver";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([account.as_str()])?;
    let mut removed = Vec::new();
    while let Some(row) = rows.next()? {
        let ver = row.get::<_, i64>(0)?.cast_unsigned();
        removed.push((
            ver,
            address(row.get_ref(1)?.as_str().ok(), "roster_removed")?,
        ));
    }
    Ok(removed)
}

fn roster_row(row: &Row<'_>) -> Result<RosterRow, ReadError> {
    const CORRUPT: ReadError = ReadError::Corrupt("roster");
    let subscription = match row.get(3)? {
        0 => Subscription::None,
        1 => Subscription::To,
        2 => Subscription::From,
        3 => Subscription::Both,
        _ => return Err(CORRUPT),
    };
    let groups: String = row.get(2)?;
    Ok(RosterRow {
        jid: address(row.get_ref(0)?.as_str().ok(), "roster")?,
        name: row.get::<_, Option<String>>(1)?.map(Into::into),
        groups: serde_json::from_str(&groups).map_err(|_| CORRUPT)?,
        subscription,
        ask: row.get(4)?,
        pending_in: row.get::<_, Option<Vec<u8>>>(5)?.map(Bytes::from),
        approved: row.get(6)?,
        ver: row.get::<_, i64>(7)?.cast_unsigned(),
    })
}

pub(super) fn kv(
    db: &mut Connection,
    space: &str,
    owner: &BareJid,
    key: &str,
) -> Result<Option<KvRecord>, ReadError> {
    let sql = "SELECT ver, val FROM kv WHERE owner = ?1 AND space = ?2 AND key = ?3";
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_row([owner.as_str(), space, key], kv_record);
    Ok(found.optional()?)
}

pub(super) fn kv_keys(
    db: &mut Connection,
    space: &str,
    owner: &BareJid,
) -> Result<Vec<String>, ReadError> {
    let sql = "SELECT key FROM kv WHERE owner = ?1 AND space = ?2 ORDER BY key";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([owner.as_str(), space], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn kv_record(row: &Row<'_>) -> rusqlite::Result<KvRecord> {
    let ver = row.get::<_, i64>(0)?.cast_unsigned();
    Ok(KvRecord {
        ver,
        val: row.get::<_, Vec<u8>>(1)?.into(),
    })
}

pub(super) fn address(text: Option<&str>, table: &'static str) -> Result<BareJid, ReadError> {
    text.and_then(|text| BareJid::parse(text).ok())
        .ok_or(ReadError::Corrupt(table))
}
