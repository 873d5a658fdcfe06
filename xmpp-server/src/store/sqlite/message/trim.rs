//! Deletes what nobody needs any more, in bulk and in bounded steps: rows that their recipient has
//! taken, and a day later by what they would be recognised (DESIGN 5 rules 6 and 21).

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, params};

use super::super::super::RowId;
use super::id_of;
use super::rows::{Messages, mark_of};

/// How long a message is recognised that is sent again.
const SENT_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Rows looked at in one step: some milliseconds.
const STEP_ROWS: usize = 512;

/// How far a round has come.
pub(super) enum Round {
    /// Through the rows up to this one.
    Rows(i64),
    /// Through what was sent, up to this sender and row.
    Sent(String, RowId),
}

impl Default for Round {
    fn default() -> Self {
        Self::Rows(0)
    }
}

impl Messages {
    /// One step of a round; false: the round has come to its end.
    pub(in super::super) fn tidy(
        &mut self,
        db: &Connection,
        now: SystemTime,
    ) -> rusqlite::Result<bool> {
        self.index(db, true)?;
        // Taken out: after a fault the next round begins anew.
        self.round = match std::mem::take(&mut self.round) {
            Round::Rows(behind) => match taken_rows(db, behind, self.indexed)? {
                Some(behind) => Round::Rows(behind),
                None => Round::Sent(String::new(), RowId(0)),
            },
            Round::Sent(sender, behind) => {
                let kept = now.checked_sub(SENT_KEPT).unwrap_or(UNIX_EPOCH);
                match old_sent(db, &sender, behind, RowId::first_at(kept))? {
                    Some((sender, behind)) => Round::Sent(sender, behind),
                    None => return Ok(false),
                }
            }
        };
        Ok(true)
    }
}

/// Gives the row behind which to go on.
fn taken_rows(db: &Connection, behind: i64, upto: i64) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT seq, account, id FROM message WHERE seq > ?1 AND seq <= ?2 \
               ORDER BY seq LIMIT ?3";
    let mut rows: Vec<(i64, String, RowId)> = Vec::new();
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(params![behind, upto, STEP_ROWS as i64])?;
    while let Some(row) = found.next()? {
        let id = id_of(row.get_ref(2)?).unwrap_or(RowId(u128::MAX));
        rows.push((row.get(0)?, row.get(1)?, id));
    }
    let mut marks = HashMap::new();
    rows.iter().for_each(|(_, account, _)| {
        let account = account.as_str();
        marks.entry(account).or_insert_with(|| mark_of(db, account));
    });
    let is_done = |account: &str, id| {
        let mark = marks.get(account).and_then(Option::as_ref);
        mark.is_some_and(|mark| !mark.is_due(id))
    };
    let done = rows.iter().filter(|(_, account, id)| is_done(account, *id));
    let done: Vec<_> = done.collect();
    if !done.is_empty() {
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut message = db.prepare_cached("DELETE FROM message WHERE seq = ?1")?;
        let sql = "DELETE FROM message_index WHERE account = ?1 AND id = ?2";
        let mut index = db.prepare_cached(sql)?;
        for (seq, account, id) in done {
            message.execute([seq])?;
            index.execute(params![account, id.0.to_be_bytes()])?;
        }
        db.prepare_cached("COMMIT")?.execute([])?;
    }
    let last = rows.last().map(|(seq, ..)| *seq);
    Ok(last.filter(|_| rows.len() == STEP_ROWS))
}

/// Gives the place behind which to go on.
fn old_sent(
    db: &Connection,
    sender: &str,
    behind: RowId,
    kept_from: RowId,
) -> rusqlite::Result<Option<(String, RowId)>> {
    let sql = "SELECT sender, id FROM message_sent WHERE (sender, id) > (?1, ?2) \
               ORDER BY sender, id LIMIT ?3";
    let mut rows: Vec<(String, RowId)> = Vec::new();
    let mut statement = db.prepare_cached(sql)?;
    let params = params![sender, behind.0.to_be_bytes(), STEP_ROWS as i64];
    let mut found = statement.query(params)?;
    while let Some(row) = found.next()? {
        let id = id_of(row.get_ref(1)?).unwrap_or(RowId(u128::MAX));
        rows.push((row.get(0)?, id));
    }
    if rows.iter().any(|(_, id)| *id < kept_from) {
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let sql = "DELETE FROM message_sent WHERE sender = ?1 AND id = ?2";
        let mut statement = db.prepare_cached(sql)?;
        for (sender, id) in rows.iter().filter(|(_, id)| *id < kept_from) {
            statement.execute(params![sender, id.0.to_be_bytes()])?;
        }
        db.prepare_cached("COMMIT")?.execute([])?;
    }
    let full = rows.len() == STEP_ROWS;
    Ok(rows.pop().filter(|_| full))
}
