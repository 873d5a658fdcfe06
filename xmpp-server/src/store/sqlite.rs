//! The store of one node: one SQLite file in WAL mode with `synchronous = FULL`.
//!
//! DESIGN 10. One connection writes, on the group writer's thread; a few others read, on threads
//! where they may block, and see what is committed. A kill at any moment costs nothing committed:
//! the next open reads the log.

mod message;
mod read;
mod schema;
mod write;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tracing::error;
use xmpp_stream::jid::BareJid;

use crate::metrics::StoreCounters;

use self::message::{Messages, SharedTail};
use self::read::Readers;
use self::write::SqliteWriter;
use super::writer::Writer;
use super::{
    AccountRecord, Clearing, CommitError, KeySurvey, KvRecord, Loaded, MessageRow, Ops, Permit,
    Print, RosterRecord, RowId, SECRET_BYTES, StoreError, StoreLimits, Ticket, random_secret,
};

/// Only a backup or an operator's tool ever holds the file's lock; it gets this long.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Each start begins a range of key-space versions of its own; 2^40 writes fit into one.
const KV_VER_BITS: u32 = 40;

/// A database file with its writer and its readers.
pub struct SqliteStore {
    readers: Arc<Readers>,
    secret: [u8; SECRET_BYTES],
    tail: SharedTail,
    writer: Writer,
}

impl SqliteStore {
    pub(super) fn open(path: &Path, limits: &StoreLimits) -> Result<Self, StoreError> {
        Self::open_prepared(path, limits, Ok)
    }

    /// `more`: what else the writing connection needs.
    fn open_prepared(
        path: &Path,
        limits: &StoreLimits,
        more: impl FnOnce(Connection) -> rusqlite::Result<Connection>,
    ) -> Result<Self, StoreError> {
        let io_error = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        create_private(path).map_err(io_error)?;
        let mut db = connect(path)
            .and_then(prepare)
            .and_then(more)
            .map_err(|error| fault(&error))?;
        schema::migrate(&mut db)?;
        let secret = load_secret(&db)?;
        let kv_ver = next_epoch(&db).map_err(|error| fault(&error))? << KV_VER_BITS;
        let tail = SharedTail::default();
        let messages = Messages::load(&db, &tail)?;
        let writer = SqliteWriter::new(db, kv_ver, messages);
        let writer = Writer::start(writer, limits).map_err(io_error)?;
        Ok(Self {
            readers: Arc::new(Readers::new(path)),
            secret,
            tail,
            writer,
        })
    }

    pub(super) async fn account(
        &self,
        jid: &BareJid,
    ) -> Result<Option<Arc<AccountRecord>>, StoreError> {
        let jid = jid.clone();
        self.readers.run(move |db| read::account(db, &jid)).await
    }

    pub(super) async fn load(
        &self,
        jid: &BareJid,
        space: &str,
        key: &str,
    ) -> Result<Loaded, StoreError> {
        let (jid, tail) = (jid.clone(), self.tail.clone());
        let (space, key) = (space.to_owned(), key.to_owned());
        let read = move |db: &mut Connection| {
            Ok(Loaded {
                record: read::account(db, &jid)?,
                roster: read::roster(db, &jid)?,
                due: message::due(db, &tail, &jid)?,
                value: read::kv(db, &space, &jid, &key)?,
            })
        };
        self.readers.run(read).await
    }

    pub(super) async fn accounts(&self, domain: Option<&str>) -> Result<Vec<BareJid>, StoreError> {
        let domain = domain.map(str::to_owned);
        self.readers
            .run(move |db| read::accounts(db, domain.as_deref()))
            .await
    }

    pub(super) async fn survey(&self, domain: &str) -> Result<KeySurvey, StoreError> {
        let domain = domain.to_owned();
        self.readers.run(move |db| read::survey(db, &domain)).await
    }

    pub(super) async fn roster(&self, account: &BareJid) -> Result<RosterRecord, StoreError> {
        let account = account.clone();
        self.readers.run(move |db| read::roster(db, &account)).await
    }

    pub(super) async fn kv(
        &self,
        space: &str,
        owner: &BareJid,
        key: &str,
    ) -> Result<Option<KvRecord>, StoreError> {
        let (space, owner, key) = (space.to_owned(), owner.clone(), key.to_owned());
        self.readers
            .run(move |db| read::kv(db, &space, &owner, &key))
            .await
    }

    pub(super) async fn kv_keys(
        &self,
        space: &str,
        owner: &BareJid,
    ) -> Result<Vec<String>, StoreError> {
        let (space, owner) = (space.to_owned(), owner.clone());
        self.readers
            .run(move |db| read::kv_keys(db, &space, &owner))
            .await
    }

    pub(super) async fn due(&self, account: &BareJid) -> Result<Vec<RowId>, StoreError> {
        let (account, tail) = (account.clone(), self.tail.clone());
        self.readers
            .run(move |db| message::due(db, &tail, &account))
            .await
    }

    pub(super) async fn messages(
        &self,
        account: &BareJid,
        ids: Vec<RowId>,
    ) -> Result<Vec<MessageRow>, StoreError> {
        let (account, tail) = (account.clone(), self.tail.clone());
        self.readers
            .run(move |db| message::rows(db, &tail, &account, &ids))
            .await
    }

    pub(super) async fn sent(
        &self,
        sender: &BareJid,
        since: RowId,
    ) -> Result<Vec<(Print, u128)>, StoreError> {
        match self.writer.barrier().await {
            Ok(()) => {}
            Err(CommitError::TimedOut) => return Err(StoreError::TimedOut),
            Err(_) => return Err(StoreError::Closed),
        }
        let (sender, tail) = (sender.clone(), self.tail.clone());
        self.readers
            .run(move |db| message::sent(db, &tail, &sender, since))
            .await
    }

    pub(super) async fn links(&self) -> Result<Vec<BareJid>, StoreError> {
        let tail = self.tail.clone();
        self.readers.run(move |db| message::links(db, &tail)).await
    }

    pub(super) async fn newest(&self) -> Result<Option<RowId>, StoreError> {
        self.readers.run(message::newest).await
    }

    pub(super) fn try_reserve(&self, ops: usize, bytes: usize) -> Option<Permit> {
        self.writer.room().try_reserve(ops, bytes)
    }

    pub(super) async fn reserve(&self, ops: usize, bytes: usize) -> Option<Permit> {
        self.writer.room().reserve(ops, bytes).await
    }

    pub(super) fn submit_with(&self, permit: Permit, ops: Ops) -> Ticket {
        self.writer.submit_with(permit, ops)
    }

    pub(super) fn clear(&self, clearing: Clearing) {
        self.writer.clear(clearing);
    }

    pub(super) fn secret(&self) -> [u8; SECRET_BYTES] {
        self.secret
    }

    pub(super) fn submit(&self, ops: Ops) -> Ticket {
        self.writer.submit(ops)
    }

    pub(super) fn counters(&self) -> &StoreCounters {
        self.writer.counters()
    }

    pub(super) async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

/// Makes the file for its owner only, before SQLite would make it for everybody; its log and
/// shared memory take over the file's permissions.
fn create_private(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// SQLite does this only for files that it makes itself: without it a power failure could take a
/// new file away with all that was committed to it.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // A connection is never used by two threads at once.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(LOCK_WAIT)?;
    Ok(db)
}

/// What the writing connection needs. The journal mode stays with the file.
fn prepare(db: Connection) -> rusqlite::Result<Connection> {
    db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))?;
    db.pragma_update(None, "synchronous", "full")?;
    Ok(db)
}

fn load_secret(db: &Connection) -> Result<[u8; SECRET_BYTES], StoreError> {
    let made = random_secret()?;
    let sql = "INSERT OR IGNORE INTO meta (key, val) VALUES ('secret', ?1)";
    db.execute(sql, params![&made[..]])
        .map_err(|error| fault(&error))?;
    let found: Option<[u8; SECRET_BYTES]> = db
        .query_row("SELECT val FROM meta WHERE key = 'secret'", [], |row| {
            row.get(0)
        })
        .optional()
        .map_err(|error| fault(&error))?;
    found.ok_or(StoreError::Corrupt { table: "meta" })
}

/// Counts the starts of this store.
fn next_epoch(db: &Connection) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO meta (key, val) VALUES ('kv_epoch', 1) \
               ON CONFLICT (key) DO UPDATE SET val = val + 1 RETURNING val";
    db.query_row(sql, [], |row| row.get(0))
}

/// Logs what SQLite says and keeps its code. Its texts name tables and files, never values.
fn fault(error: &rusqlite::Error) -> StoreError {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    error!(code, %error, "database failed");
    StoreError::Database { code }
}

#[cfg(test)]
mod tests;
