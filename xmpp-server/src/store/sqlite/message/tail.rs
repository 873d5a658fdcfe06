//! Message rows that have no index entry yet: those that were committed lately.
//!
//! An index entry a row dirties one page of the file for each recipient and each sender of a
//! commit; a thousand rows at once share these pages, and most rows are done by then and need no
//! entry. Until then they are found here; a start reads them from the file.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension};
use xmpp_stream::jid::BareJid;

use super::super::read::{ReadError, address};
use super::{Print, RowId, number};

/// The rows, for the writer and all readers.
#[derive(Clone, Default)]
pub(in super::super) struct SharedTail(Arc<Mutex<Tail>>);

/// Rows by recipient and by sender.
#[derive(Clone, Default)]
pub(super) struct Tail {
    pub(super) accounts: HashMap<BareJid, Vec<(RowId, i64)>>,
    pub(super) senders: HashMap<BareJid, Vec<SentRow>>,
    count: usize,
}

/// By what a row is recognised when it is sent again.
#[derive(Clone, Copy)]
pub(super) struct SentRow {
    pub(super) id: RowId,
    pub(super) print: Print,
    pub(super) stream: u128,
}

/// What a commit brings.
pub(super) enum Change {
    Row {
        account: BareJid,
        id: RowId,
        seq: i64,
        sent: Option<(BareJid, SentRow)>,
    },
    Forget(BareJid),
}

impl SharedTail {
    pub(super) fn lock(&self) -> MutexGuard<'_, Tail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the last run of the program left. Gives the number of the last row with an index
    /// entry, and that of the last row.
    pub(super) fn load(&self, db: &Connection) -> Result<(i64, i64), ReadError> {
        let sql = "SELECT val FROM meta WHERE key = 'message_indexed'";
        let indexed: Option<i64> = db.query_row(sql, [], |row| row.get(0)).optional()?;
        let indexed = indexed.ok_or(ReadError::Corrupt("meta"))?;
        let sql = "SELECT seq, account, id, sender, print, stream FROM message WHERE seq > ?1 \
                   ORDER BY seq";
        let mut statement = db.prepare(sql)?;
        let mut rows = statement.query([indexed])?;
        let (mut last, mut tail) = (indexed, self.lock());
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let id = RowId(number(row.get_ref(2)?, "message")?);
            let sent = match row.get_ref(3)?.as_str_or_null() {
                Ok(None) => None,
                sender => {
                    let sender = address(sender.ok().flatten(), "message")?;
                    let print = Print(row.get::<_, i64>(4)?.cast_unsigned());
                    let stream = number(row.get_ref(5)?, "message")?;
                    Some((sender, SentRow { id, print, stream }))
                }
            };
            tail.apply(Change::Row {
                account: address(row.get_ref(1)?.as_str().ok(), "message")?,
                id,
                seq: last,
                sent,
            });
        }
        Ok((indexed, last))
    }
}

impl Tail {
    /// Rows in it.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Row {
                account,
                id,
                seq,
                sent,
            } => {
                self.count += 1;
                self.accounts.entry(account).or_default().push((id, seq));
                if let Some((sender, row)) = sent {
                    self.senders.entry(sender).or_default().push(row);
                }
            }
            Change::Forget(account) => {
                self.accounts.remove(&account);
                self.senders.remove(&account);
            }
        }
    }

    /// Recipients of this kind.
    pub(super) fn owners(&self, is_meant: impl Fn(&BareJid) -> bool) -> Vec<BareJid> {
        let owners = self.accounts.keys();
        owners.filter(|owner| is_meant(owner)).cloned().collect()
    }

    pub(super) fn ids(&self, account: &BareJid) -> Vec<RowId> {
        let rows = self.accounts.get(account).into_iter().flatten();
        rows.map(|(id, _)| *id).collect()
    }

    /// Numbers and places in the table.
    pub(super) fn rows(&self, account: &BareJid) -> Vec<(RowId, i64)> {
        self.accounts.get(account).cloned().unwrap_or_default()
    }

    pub(super) fn sent_by(&self, sender: &BareJid) -> Vec<SentRow> {
        self.senders.get(sender).cloned().unwrap_or_default()
    }
}
