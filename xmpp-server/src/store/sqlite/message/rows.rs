//! Message rows as they are written: appended, then given index entries many at once.

use std::mem;

use rusqlite::{Connection, params};
use xmpp_stream::jid::BareJid;

use super::super::super::{Cleared, MessageRow, Sent, is_link};
use super::super::read::ReadError;
use super::tail::{Change, SentRow, SharedTail, Tail};
use super::trim::Round;
use super::{Mark, watermark};

/// Rows after which index entries are made: some milliseconds of work, and enough for the pages to
/// be shared by many.
const TAIL_ROWS: usize = 1024;

/// The writer's side of all message rows.
pub(in super::super) struct Messages {
    tail: SharedTail,
    /// What the transaction that is going on brings to the tail.
    pending: Vec<Change>,
    /// Number in the table of the last row, also of one whose transaction failed.
    last: i64,
    /// Number of the last row with an index entry.
    pub(super) indexed: i64,
    /// Rows in the tail at which it gets index entries.
    index_at: usize,
    pub(super) round: Round,
}

impl Messages {
    /// Reads what the last run of the program left.
    pub(in super::super) fn load(db: &Connection, tail: &SharedTail) -> Result<Self, ReadError> {
        let (indexed, last) = tail.load(db)?;
        Ok(Self {
            tail: tail.clone(),
            pending: Vec::new(),
            last,
            indexed,
            index_at: TAIL_ROWS,
            round: Round::default(),
        })
    }

    /// False: there is no such account.
    pub(in super::super) fn insert(
        &mut self,
        db: &Connection,
        account: &BareJid,
        row: &MessageRow,
        sent: Option<&Sent>,
    ) -> rusqlite::Result<bool> {
        let sql = "INSERT INTO message (seq, account, id, sender, print, stream, stanza) \
                   SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 \
                   WHERE ?8 OR EXISTS (SELECT 1 FROM account WHERE jid = ?2)";
        self.last += 1;
        let made = db.prepare_cached(sql)?.execute(params![
            self.last,
            account.as_str(),
            row.id.0.to_be_bytes(),
            sent.map(|sent| sent.sender.as_str()),
            sent.map(|sent| sent.print.0.cast_signed()),
            sent.map(|sent| sent.stream.to_be_bytes()),
            &row.stanza[..],
            is_link(account)
        ])?;
        if made == 1 {
            let sent_row = |sent: &Sent| SentRow {
                id: row.id,
                print: sent.print,
                stream: sent.stream,
            };
            self.pending.push(Change::Row {
                account: account.clone(),
                id: row.id,
                seq: self.last,
                sent: sent.map(|sent| (sent.sender.clone(), sent_row(sent))),
            });
        }
        Ok(made == 1)
    }

    /// Everything about an account but the messages that others have of it.
    pub(in super::super) fn forget(
        &mut self,
        db: &Connection,
        account: &BareJid,
    ) -> rusqlite::Result<()> {
        for sql in [
            "DELETE FROM message WHERE seq IN \
             (SELECT seq FROM message_index WHERE account = ?1)",
            "DELETE FROM message_index WHERE account = ?1",
            "DELETE FROM message_sent WHERE sender = ?1",
            "DELETE FROM watermark WHERE account = ?1",
        ] {
            db.prepare_cached(sql)?.execute([account.as_str()])?;
        }
        if self.pending.is_empty() && self.tail.lock().len() == 0 {
            return Ok(());
        }
        for sql in [
            "DELETE FROM message WHERE seq > ?2 AND account = ?1",
            "UPDATE message SET sender = NULL, print = NULL, stream = NULL \
             WHERE seq > ?2 AND sender = ?1",
        ] {
            let params = params![account.as_str(), self.indexed];
            db.prepare_cached(sql)?.execute(params)?;
        }
        self.pending.push(Change::Forget(account.clone()));
        Ok(())
    }

    /// A place in the transaction to go back to.
    pub(in super::super) fn place(&self) -> usize {
        self.pending.len()
    }

    /// Forgets what came behind a place, 0: the whole transaction.
    pub(in super::super) fn back_to(&mut self, place: usize) {
        self.pending.truncate(place);
    }

    pub(in super::super) fn committed(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut tail = self.tail.lock();
        for change in self.pending.drain(..) {
            tail.apply(change);
        }
    }

    /// Makes index entries when the tail has grown long, or for all of it.
    pub(in super::super) fn index(&mut self, db: &Connection, all: bool) -> rusqlite::Result<()> {
        let rows = self.tail.lock().len();
        if rows == 0 || (rows < self.index_at && !all) {
            return Ok(());
        }
        // After a fault not with each commit again.
        self.index_at = rows + TAIL_ROWS;
        // Only this thread changes it: readers are not to wait meanwhile.
        let tail = self.tail.lock().clone();
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        index_rows(db, &tail)?;
        let sql = "UPDATE meta SET val = ?1 WHERE key = 'message_indexed'";
        db.prepare_cached(sql)?.execute([self.last])?;
        db.prepare_cached("COMMIT")?.execute([])?;
        drop(mem::take(&mut *self.tail.lock()));
        self.indexed = self.last;
        self.index_at = TAIL_ROWS;
        Ok(())
    }
}

/// A row that is done needs no entry and goes at once; what it was recognised by stays.
fn index_rows(db: &Connection, tail: &Tail) -> rusqlite::Result<()> {
    let mut delete = db.prepare_cached("DELETE FROM message WHERE seq = ?1")?;
    let sql = "INSERT OR REPLACE INTO message_index (account, id, seq) VALUES (?1, ?2, ?3)";
    let mut insert = db.prepare_cached(sql)?;
    for (account, rows) in &tail.accounts {
        let mark = mark_of(db, account.as_str());
        for (id, seq) in rows {
            if mark.as_ref().is_some_and(|mark| !mark.is_due(*id)) {
                delete.execute([seq])?;
            } else {
                insert.execute(params![account.as_str(), id.0.to_be_bytes(), seq])?;
            }
        }
    }
    let sql = "INSERT OR REPLACE INTO message_sent (sender, id, print, stream) \
               VALUES (?1, ?2, ?3, ?4)";
    let mut insert = db.prepare_cached(sql)?;
    for (sender, rows) in &tail.senders {
        for SentRow { id, print, stream } in rows {
            insert.execute(params![
                sender.as_str(),
                id.0.to_be_bytes(),
                print.0.cast_signed(),
                stream.to_be_bytes()
            ])?;
        }
    }
    Ok(())
}

/// One that cannot be read keeps its rows.
pub(super) fn mark_of(db: &Connection, account: &str) -> Option<Mark> {
    watermark(db, account).unwrap_or_default()
}

/// A watermark never goes back; one of an account that is gone is forgotten.
pub(in super::super) fn set_watermark(db: &Connection, cleared: &Cleared) -> rusqlite::Result<()> {
    let sql = "INSERT INTO watermark (account, upto, kept) \
               SELECT ?1, ?2, ?3 \
               WHERE ?4 OR EXISTS (SELECT 1 FROM account WHERE jid = ?1) \
               ON CONFLICT (account) DO UPDATE SET upto = excluded.upto, kept = excluded.kept \
               WHERE excluded.upto >= watermark.upto";
    let ids = cleared.except.iter();
    let kept: Vec<u8> = ids.flat_map(|id| id.0.to_be_bytes()).collect();
    db.prepare_cached(sql)?.execute(params![
        cleared.account.as_str(),
        cleared.upto.0.to_be_bytes(),
        kept,
        is_link(&cleared.account)
    ])?;
    Ok(())
}
