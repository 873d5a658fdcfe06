//! Message rows and watermarks in SQLite (DESIGN 5 rules 4, 6, 10 and 21).
//!
//! What is due is never written to a row: rows behind their account's watermark are done, but for
//! its exceptions. Rows that are done are deleted in bulk, a day after they came.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};
use xmpp_stream::jid::BareJid;

use super::super::{Cleared, MessageRow, Print, RowId, SENT_MAX, Sent};
use super::read::ReadError;

/// Bytes of a row id.
const ID_BYTES: usize = 16;
/// Rows lie in the order of their submits, which differs from that of their ids by what is in
/// flight at one moment; this is far more.
const NEWEST_AMONG: u32 = 4096;
/// How long a row is kept that is done: its sender may send it again (rule 21).
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Rows looked at in one step of trimming: some milliseconds.
const TRIM_STEP: u32 = 512;

/// A watermark as it is stored.
struct Mark {
    upto: RowId,
    kept: Vec<RowId>,
}

impl Mark {
    fn is_due(&self, id: RowId) -> bool {
        id > self.upto || self.kept.binary_search(&id).is_ok()
    }
}

/// False: there is no such account.
pub(super) fn insert(
    db: &Connection,
    account: &BareJid,
    row: &MessageRow,
    sent: Option<&Sent>,
) -> rusqlite::Result<bool> {
    let sql = "INSERT OR REPLACE INTO message (account, id, sender, print, stream, stanza) \
               SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM account WHERE jid = ?1)";
    let made = db.prepare_cached(sql)?.execute(params![
        account.as_str(),
        row.id.0.to_be_bytes(),
        sent.map(|sent| sent.sender.as_str()),
        sent.map(|sent| sent.print.0.cast_signed()),
        sent.map(|sent| sent.stream.to_be_bytes()),
        &row.stanza[..]
    ])?;
    Ok(made == 1)
}

/// A watermark never goes back; one of an account that is gone is forgotten.
pub(super) fn set_watermark(db: &Connection, cleared: &Cleared) -> rusqlite::Result<()> {
    let sql = "INSERT INTO watermark (account, upto, kept) \
               SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM account WHERE jid = ?1) \
               ON CONFLICT (account) DO UPDATE SET upto = excluded.upto, kept = excluded.kept \
               WHERE excluded.upto >= watermark.upto";
    let ids = cleared.except.iter();
    let kept: Vec<u8> = ids.flat_map(|id| id.0.to_be_bytes()).collect();
    db.prepare_cached(sql)?.execute(params![
        cleared.account.as_str(),
        cleared.upto.0.to_be_bytes(),
        kept
    ])?;
    Ok(())
}

/// Everything about an account, what it sent to others included.
pub(super) fn forget(db: &Connection, account: &BareJid) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM message WHERE account = ?1",
        "DELETE FROM watermark WHERE account = ?1",
        "UPDATE message SET sender = NULL, print = NULL, stream = NULL WHERE sender = ?1",
    ] {
        db.prepare_cached(sql)?.execute([account.as_str()])?;
    }
    Ok(())
}

pub(super) fn due(db: &mut Connection, account: &BareJid) -> Result<Vec<RowId>, ReadError> {
    // One transaction: the rows are those of this very watermark.
    let db = db.transaction()?;
    let mut due = Vec::new();
    let mark = watermark(&db, account.as_str())?;
    let upto = mark.as_ref().map_or(RowId(0), |mark| mark.upto);
    let mut exists = db.prepare_cached("SELECT 1 FROM message WHERE account = ?1 AND id = ?2")?;
    for id in mark.into_iter().flat_map(|mark| mark.kept) {
        if exists.exists(params![account.as_str(), id.0.to_be_bytes()])? {
            due.push(id);
        }
    }
    let sql = "SELECT id FROM message WHERE account = ?1 AND id > ?2 ORDER BY id";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![account.as_str(), upto.0.to_be_bytes()])?;
    while let Some(row) = rows.next()? {
        due.push(RowId(number(row.get_ref(0)?, "message")?));
    }
    Ok(due)
}

pub(super) fn rows(
    db: &mut Connection,
    account: &BareJid,
    ids: &[RowId],
) -> Result<Vec<MessageRow>, ReadError> {
    let sql = "SELECT stanza FROM message WHERE account = ?1 AND id = ?2";
    let mut statement = db.prepare_cached(sql)?;
    let mut found = Vec::with_capacity(ids.len());
    for &id in ids {
        let params = params![account.as_str(), id.0.to_be_bytes()];
        let stanza: Option<Vec<u8>> = statement.query_row(params, |row| row.get(0)).optional()?;
        found.extend(stanza.map(|stanza| MessageRow {
            id,
            stanza: Bytes::from(stanza),
        }));
    }
    Ok(found)
}

pub(super) fn sent(
    db: &mut Connection,
    sender: &BareJid,
    since: RowId,
) -> Result<Vec<(Print, u128)>, ReadError> {
    let sql = "SELECT print, stream FROM message WHERE sender = ?1 AND id >= ?2 \
               ORDER BY id DESC LIMIT ?3";
    let mut statement = db.prepare_cached(sql)?;
    let params = params![sender.as_str(), since.0.to_be_bytes(), SENT_MAX];
    let mut rows = statement.query(params)?;
    let mut sent = Vec::new();
    while let Some(row) = rows.next()? {
        let print = Print(row.get::<_, i64>(0)?.cast_unsigned());
        sent.push((print, number(row.get_ref(1)?, "message")?));
    }
    sent.reverse();
    Ok(sent)
}

/// Watermarks count as well: rows behind them may be gone, and no later row may come to lie there.
pub(super) fn newest(db: &mut Connection) -> Result<Option<RowId>, ReadError> {
    let db = db.transaction()?;
    let sql = "SELECT max(id) FROM (SELECT id FROM message ORDER BY rowid DESC LIMIT ?1)";
    let row = db.query_row(sql, [NEWEST_AMONG], |row| Ok(id_of(row.get_ref(0)?)))?;
    let sql = "SELECT max(upto) FROM watermark";
    let mark = db.query_row(sql, [], |row| Ok(id_of(row.get_ref(0)?)))?;
    Ok(row.max(mark))
}

fn watermark(db: &Connection, account: &str) -> Result<Option<Mark>, ReadError> {
    const CORRUPT: ReadError = ReadError::Corrupt("watermark");
    let mut statement = db.prepare_cached("SELECT upto, kept FROM watermark WHERE account = ?1")?;
    let mut rows = statement.query([account])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let upto = RowId(number(row.get_ref(0)?, "watermark")?);
    let kept = row.get_ref(1)?.as_blob().map_err(|_| CORRUPT)?;
    let (ids, rest) = kept.as_chunks::<ID_BYTES>();
    if !rest.is_empty() {
        return Err(CORRUPT);
    }
    let kept = ids.iter().map(|id| RowId(u128::from_be_bytes(*id)));
    Ok(Some(Mark {
        upto,
        kept: kept.collect(),
    }))
}

fn number(value: ValueRef<'_>, table: &'static str) -> Result<u128, ReadError> {
    let id = id_of(value).ok_or(ReadError::Corrupt(table))?;
    Ok(id.0)
}

fn id_of(value: ValueRef<'_>) -> Option<RowId> {
    let bytes = value.as_blob().ok()?.try_into().ok()?;
    Some(RowId(u128::from_be_bytes(bytes)))
}

/// Deletes rows that nobody needs any more, from the oldest on.
#[derive(Default)]
pub(super) struct Trimming {
    /// Rows up to this number of the table have been looked at in this round.
    looked_at: i64,
}

impl Trimming {
    /// One step; false: the round has come to its end.
    pub(super) fn step(&mut self, db: &Connection, now: SystemTime) -> rusqlite::Result<bool> {
        let kept_from = RowId::first_at(now.checked_sub(KEPT).unwrap_or(SystemTime::UNIX_EPOCH));
        let old = old_rows(db, self.looked_at, kept_from)?;
        let Some(&(last, ..)) = old.last() else {
            self.looked_at = 0;
            return Ok(false);
        };
        let mut marks = HashMap::new();
        let mut done = Vec::new();
        for (number, account, id) in &old {
            if !marks.contains_key(account) {
                // One that cannot be read keeps its rows.
                let mark = watermark(db, account).unwrap_or_default();
                marks.insert(account, mark);
            }
            let mark = marks.get(account).and_then(Option::as_ref);
            if mark.is_some_and(|mark| !mark.is_due(*id)) {
                done.push(*number);
            }
        }
        delete(db, &done)?;
        self.looked_at = last;
        Ok(true)
    }
}

/// Some rows behind this number of the table, up to the first one that is too young.
fn old_rows(
    db: &Connection,
    behind: i64,
    kept_from: RowId,
) -> rusqlite::Result<Vec<(i64, String, RowId)>> {
    let sql = "SELECT rowid, account, id FROM message WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![behind, TRIM_STEP])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        let id = id_of(row.get_ref(2)?).unwrap_or(RowId(0));
        if id >= kept_from {
            break;
        }
        old.push((row.get(0)?, row.get(1)?, id));
    }
    Ok(old)
}

fn delete(db: &Connection, rows: &[i64]) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut statement = db.prepare_cached("DELETE FROM message WHERE rowid = ?1")?;
    for row in rows {
        statement.execute([row])?;
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}
