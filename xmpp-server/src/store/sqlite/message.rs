//! Message rows and watermarks in SQLite, as they are read (DESIGN 5 rules 4, 6, 10 and 21).
//!
//! What is due is never written to a row: rows behind their account's watermark are done, but for
//! its exceptions. Rows are appended without an index; see `tail` for those that have none yet. A
//! read looks there first: what it then misses has got its index entry before the read began.

mod rows;
mod tail;
mod trim;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};
use xmpp_stream::jid::BareJid;

use super::super::{LINK_MARK, MessageRow, Print, RowId, SENT_MAX, is_link};
use super::read::{ReadError, address};

pub(super) use self::rows::{Messages, set_watermark};
pub(super) use self::tail::SharedTail;

/// Bytes of a row id.
const ID_BYTES: usize = 16;
/// Rows lie in the order of their submits, which differs from that of their ids by what is in
/// flight at one moment; this is far more.
const NEWEST_AMONG: u32 = 4096;

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

pub(super) fn due(
    db: &mut Connection,
    tail: &SharedTail,
    account: &BareJid,
) -> Result<Vec<RowId>, ReadError> {
    let mut due = tail.lock().ids(account);
    // One transaction: the rows are those of this very watermark.
    let db = db.transaction()?;
    let mark = watermark(&db, account.as_str())?.unwrap_or(Mark {
        upto: RowId(0),
        kept: Vec::new(),
    });
    due.retain(|id| mark.is_due(*id));
    let sql = "SELECT 1 FROM message_index WHERE account = ?1 AND id = ?2";
    let mut exists = db.prepare_cached(sql)?;
    for id in mark.kept {
        if exists.exists(params![account.as_str(), id.0.to_be_bytes()])? {
            due.push(id);
        }
    }
    let sql = "SELECT id FROM message_index WHERE account = ?1 AND id > ?2";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![account.as_str(), mark.upto.0.to_be_bytes()])?;
    while let Some(row) = rows.next()? {
        due.push(RowId(number(row.get_ref(0)?, "message_index")?));
    }
    due.sort_unstable();
    due.dedup();
    Ok(due)
}

pub(super) fn rows(
    db: &mut Connection,
    tail: &SharedTail,
    account: &BareJid,
    ids: &[RowId],
) -> Result<Vec<MessageRow>, ReadError> {
    let late: HashMap<RowId, i64> = tail.lock().rows(account).into_iter().collect();
    let db = db.transaction()?;
    let sql = "SELECT seq FROM message_index WHERE account = ?1 AND id = ?2";
    let mut index = db.prepare_cached(sql)?;
    let mut message = db.prepare_cached("SELECT stanza FROM message WHERE seq = ?1")?;
    let mut found = Vec::with_capacity(ids.len());
    for &id in ids {
        let place = match late.get(&id) {
            Some(seq) => Some(*seq),
            None => {
                let params = params![account.as_str(), id.0.to_be_bytes()];
                index.query_row(params, |row| row.get(0)).optional()?
            }
        };
        let Some(seq) = place else { continue };
        let stanza: Option<Vec<u8>> = message.query_row([seq], |row| row.get(0)).optional()?;
        found.extend(stanza.map(|stanza| MessageRow {
            id,
            stanza: Bytes::from(stanza),
        }));
    }
    Ok(found)
}

pub(super) fn sent(
    db: &mut Connection,
    tail: &SharedTail,
    sender: &BareJid,
    since: RowId,
) -> Result<Vec<(Print, u128)>, ReadError> {
    let late = tail.lock().sent_by(sender);
    let late = late.into_iter().filter(|row| row.id >= since);
    let mut sent: BTreeMap<RowId, (Print, u128)> =
        late.map(|row| (row.id, (row.print, row.stream))).collect();
    let sql = "SELECT id, print, stream FROM message_sent WHERE sender = ?1 AND id >= ?2 \
               ORDER BY id DESC LIMIT ?3";
    let mut statement = db.prepare_cached(sql)?;
    let params = params![sender.as_str(), since.0.to_be_bytes(), SENT_MAX];
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        let id = RowId(number(row.get_ref(0)?, "message_sent")?);
        let print = Print(row.get::<_, i64>(1)?.cast_unsigned());
        sent.insert(id, (print, number(row.get_ref(2)?, "message_sent")?));
    }
    let too_many = sent.len().saturating_sub(SENT_MAX as usize);
    Ok(sent.into_values().skip(too_many).collect())
}

/// Every pair of domains with messages.
pub(super) fn links(db: &mut Connection, tail: &SharedTail) -> Result<Vec<BareJid>, ReadError> {
    let mut links = tail.lock().owners(is_link);
    let next = char::from_u32(u32::from(LINK_MARK) + 1).unwrap_or(LINK_MARK);
    let sql = "SELECT DISTINCT account FROM message_index WHERE account >= ?1 AND account < ?2";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([LINK_MARK.to_string(), next.to_string()])?;
    while let Some(row) = rows.next()? {
        links.push(address(row.get_ref(0)?.as_str().ok(), "message_index")?);
    }
    links.sort_unstable();
    links.dedup();
    Ok(links)
}

/// Watermarks count as well: rows behind them may be gone, and no later row may come to lie there.
pub(super) fn newest(db: &mut Connection) -> Result<Option<RowId>, ReadError> {
    let db = db.transaction()?;
    let sql = "SELECT max(id) FROM (SELECT id FROM message ORDER BY seq DESC LIMIT ?1)";
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
