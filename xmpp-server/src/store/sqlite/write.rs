//! The writing side: a group of submits in one transaction.
//!
//! An operation looks at what it expects before it writes, so a submit of one operation leaves no
//! trace when refused; one of several runs behind a savepoint. Statements are prepared once.

use rusqlite::{Connection, OptionalExtension, Params, params};
use tracing::warn;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::StoredKeys;

use super::super::writer::{Backend, Fault, Verdict};
use super::super::{Cleared, Ops, RosterRow, Subscription, WriteOp};
use super::fault;
use super::message::{Messages, set_watermark};
use crate::clock::Clock;

const FORGET_REMOVAL: &str = "DELETE FROM roster_removed WHERE account = ?1 AND jid = ?2";
/// Every statement of this file fits.
const STATEMENTS_MAX: usize = 64;

/// The one connection that writes.
pub(super) struct SqliteWriter {
    db: Connection,
    /// Version of the last value written to a key space.
    kv_ver: i64,
    messages: Messages,
}

/// Why an operation was not carried out.
enum Refused {
    Expect,
    Fault(rusqlite::Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Fault(error)
    }
}

impl SqliteWriter {
    /// `kv_ver`: greater than any version in the file.
    pub(super) fn new(db: Connection, kv_ver: i64, messages: Messages) -> Self {
        db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Self {
            db,
            kv_ver,
            messages,
        }
    }

    fn begin(&mut self) -> Result<(), Fault> {
        self.run("BEGIN IMMEDIATE", []).map_err(|error| {
            let _ = fault(&error);
            self.rollback();
            Fault::Store
        })?;
        Ok(())
    }

    /// What can wait failed; it is tried again another time.
    fn postpone(&mut self, error: &rusqlite::Error) {
        let _ = fault(error);
        self.rollback();
    }

    /// After some faults SQLite has rolled back by itself.
    fn rollback(&mut self) {
        self.messages.back_to(0);
        if !self.db.is_autocommit() && self.run("ROLLBACK", []).is_err() {
            warn!("rollback failed");
        }
    }

    /// What is left of a transaction that has begun.
    fn commit_group(
        &mut self,
        group: &[&Ops],
        cleared: &[Cleared],
    ) -> rusqlite::Result<Vec<Verdict>> {
        let mut verdicts = Vec::with_capacity(group.len());
        for ops in group {
            verdicts.push(match self.submit(ops) {
                Ok(()) => Verdict::Committed,
                Err(Refused::Expect) => Verdict::Unexpected,
                Err(Refused::Fault(error)) => return Err(error),
            });
        }
        for cleared in cleared {
            set_watermark(&self.db, cleared)?;
        }
        self.run("COMMIT", [])?;
        self.messages.committed();
        Ok(verdicts)
    }

    fn submit(&mut self, ops: &Ops) -> Result<(), Refused> {
        if ops.is_empty() {
            return Ok(());
        }
        if let [only] = ops.as_slice() {
            return self.apply(only);
        }
        self.run("SAVEPOINT submit", [])?;
        let place = self.messages.place();
        let done = ops.iter().try_for_each(|op| self.apply(op));
        if let Err(Refused::Expect) = done {
            self.messages.back_to(place);
            self.run("ROLLBACK TO submit", [])?;
        }
        self.run("RELEASE submit", [])?;
        done
    }

    fn apply(&mut self, op: &WriteOp) -> Result<(), Refused> {
        match op {
            WriteOp::AccountCreate {
                account,
                keys,
                created,
            } => self.create_account(account, keys, *created),
            WriteOp::AccountKeys { account, keys } => {
                ensure(self.account_exists(account)?)?;
                self.run(
                    "DELETE FROM account_key WHERE account = ?1",
                    [account.as_str()],
                )?;
                Ok(self.insert_keys(account, keys)?)
            }
            WriteOp::AccountRemove { account } => Ok(self.remove_account(account)?),
            WriteOp::AccountBan { account, reason } => {
                self.set_ban(account, true, reason.as_deref())
            }
            WriteOp::AccountUnban { account } => self.set_ban(account, false, None),
            WriteOp::Roster {
                account,
                item,
                expect,
                ver,
            } => {
                self.set_roster_version(account, *expect, *ver)?;
                self.run(FORGET_REMOVAL, [account.as_str(), item.jid.as_str()])?;
                Ok(self.put_roster_item(account, item)?)
            }
            WriteOp::RosterRemove {
                account,
                jid,
                expect,
                ver,
                remember,
                forgotten,
            } => {
                self.set_roster_version(account, *expect, *ver)?;
                let sql = "DELETE FROM roster WHERE account = ?1 AND jid = ?2";
                self.run(sql, [account.as_str(), jid.as_str()])?;
                let removed = remember.then_some((jid, *ver));
                Ok(self.note_removal(account, removed, *forgotten)?)
            }
            WriteOp::Message { account, row, sent } => {
                let sent = sent.as_deref();
                ensure(self.messages.insert(&self.db, account, row, sent)?)
            }
            WriteOp::Kv {
                space,
                owner,
                key,
                val,
                expect,
            } => self.put_kv([owner.as_str(), space, key], val.as_deref(), *expect),
        }
    }

    fn create_account(
        &mut self,
        account: &BareJid,
        keys: &[StoredKeys],
        created: u64,
    ) -> Result<(), Refused> {
        ensure(!self.account_exists(account)?)?;
        // Rows written for an account that was just being removed must not greet the next owner
        // of its name.
        self.remove_account(account)?;
        let sql = "INSERT INTO account (jid, domain, created) VALUES (?1, ?2, ?3)";
        self.run(
            sql,
            params![account.as_str(), account.domain(), created.cast_signed()],
        )?;
        Ok(self.insert_keys(account, keys)?)
    }

    fn insert_keys(&self, account: &BareJid, keys: &[StoredKeys]) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO account_key \
                   (account, hash, iterations, salt, stored_key, server_key) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        for keys in keys {
            self.run(
                sql,
                params![
                    account.as_str(),
                    super::super::hash_number(keys.hash),
                    keys.iterations,
                    &keys.salt[..],
                    &keys.stored_key[..],
                    &keys.server_key[..]
                ],
            )?;
        }
        Ok(())
    }

    fn remove_account(&mut self, account: &BareJid) -> rusqlite::Result<()> {
        for sql in [
            "DELETE FROM account WHERE jid = ?1",
            "DELETE FROM account_key WHERE account = ?1",
            "DELETE FROM kv WHERE owner = ?1",
            "DELETE FROM roster WHERE account = ?1",
            "DELETE FROM roster_version WHERE account = ?1",
            "DELETE FROM roster_removed WHERE account = ?1",
        ] {
            self.run(sql, [account.as_str()])?;
        }
        self.messages.forget(&self.db, account)
    }

    fn set_ban(
        &self,
        account: &BareJid,
        banned: bool,
        reason: Option<&str>,
    ) -> Result<(), Refused> {
        let sql = "UPDATE account SET banned = ?2, ban_reason = ?3 WHERE jid = ?1";
        ensure(self.run(sql, params![account.as_str(), banned, reason])? == 1)
    }

    fn account_exists(&self, account: &BareJid) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM account WHERE jid = ?1";
        self.db.prepare_cached(sql)?.exists([account.as_str()])
    }

    fn set_roster_version(
        &self,
        account: &BareJid,
        expect: Option<u64>,
        ver: u64,
    ) -> Result<(), Refused> {
        if let Some(expect) = expect {
            let sql = "SELECT ver FROM roster_version WHERE account = ?1";
            let found = self.version(sql, [account.as_str()])?.unwrap_or(0);
            ensure(found == expect)?;
        }
        let sql = "INSERT INTO roster_version (account, ver) VALUES (?1, ?2) \
                   ON CONFLICT (account) DO UPDATE SET ver = excluded.ver";
        self.run(sql, params![account.as_str(), ver.cast_signed()])?;
        Ok(())
    }

    /// Remembers the removal of a contact, if so wished, and forgets older ones.
    fn note_removal(
        &self,
        account: &BareJid,
        removed: Option<(&BareJid, u64)>,
        forgotten: u64,
    ) -> rusqlite::Result<()> {
        if let Some((jid, ver)) = removed {
            let sql =
                "INSERT OR REPLACE INTO roster_removed (account, jid, ver) VALUES (?1, ?2, ?3)";
            let (account, jid) = (account.as_str(), jid.as_str());
            self.run(sql, params![account, jid, ver.cast_signed()])?;
        }
        let forgotten = params![account.as_str(), forgotten.cast_signed()];
        for sql in [
            "DELETE FROM roster_removed WHERE account = ?1 AND ver <= ?2",
            "UPDATE roster_version SET forgotten = ?2 WHERE account = ?1",
        ] {
            self.run(sql, forgotten)?;
        }
        Ok(())
    }

    fn put_roster_item(&self, account: &BareJid, item: &RosterRow) -> rusqlite::Result<()> {
        let groups = serde_json::to_string(&item.groups)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let sql = "INSERT OR REPLACE INTO roster (account, jid, ver, name, groups, subscription, \
                   ask, pending_in, approved) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.run(
            sql,
            params![
                account.as_str(),
                item.jid.as_str(),
                item.ver.cast_signed(),
                item.name.as_deref(),
                groups,
                subscription_number(item.subscription),
                item.ask,
                item.pending_in.as_deref(),
                item.approved
            ],
        )?;
        Ok(())
    }

    fn put_kv(
        &mut self,
        [owner, space, key]: [&str; 3],
        val: Option<&[u8]>,
        expect: Option<Option<u64>>,
    ) -> Result<(), Refused> {
        if let Some(expect) = expect {
            let sql = "SELECT ver FROM kv WHERE owner = ?1 AND space = ?2 AND key = ?3";
            ensure(self.version(sql, [owner, space, key])? == expect)?;
        }
        match val {
            Some(val) => {
                self.kv_ver += 1;
                let sql = "INSERT INTO kv (owner, space, key, ver, val) VALUES (?1, ?2, ?3, ?4, ?5) \
                           ON CONFLICT (owner, space, key) \
                           DO UPDATE SET ver = excluded.ver, val = excluded.val";
                self.run(sql, params![owner, space, key, self.kv_ver, val])?;
            }
            None => {
                let sql = "DELETE FROM kv WHERE owner = ?1 AND space = ?2 AND key = ?3";
                self.run(sql, [owner, space, key])?;
            }
        }
        Ok(())
    }

    fn version(&self, sql: &str, params: impl Params) -> rusqlite::Result<Option<u64>> {
        let mut statement = self.db.prepare_cached(sql)?;
        let found = statement
            .query_row(params, |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(found.map(i64::cast_unsigned))
    }

    fn run(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute(params)
    }
}

impl Backend for SqliteWriter {
    fn commit(&mut self, group: &[&Ops], cleared: &[Cleared]) -> Result<Vec<Verdict>, Fault> {
        self.begin()?;
        self.commit_group(group, cleared).map_err(|error| {
            let _ = fault(&error);
            self.rollback();
            Fault::Group
        })
    }

    fn tidy(&mut self, round: bool) -> bool {
        let done = match round {
            true => self.messages.tidy(&self.db, Clock::start().system_now()),
            false => self.messages.index(&self.db, false).map(|()| false),
        };
        done.unwrap_or_else(|error| {
            self.postpone(&error);
            false
        })
    }

    fn close(&mut self) {
        if let Err(error) = self.messages.index(&self.db, true) {
            self.postpone(&error);
        }
        // What is not checkpointed now is read from the log at the next start.
        let truncated = self
            .db
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = truncated {
            let _ = fault(&error);
        }
    }
}

fn ensure(holds: bool) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused::Expect) }
}

/// Bit 0: the account sees the contact; bit 1: the contact sees the account.
fn subscription_number(subscription: Subscription) -> u32 {
    match subscription {
        Subscription::None => 0,
        Subscription::To => 1,
        Subscription::From => 2,
        Subscription::Both => 3,
    }
}
