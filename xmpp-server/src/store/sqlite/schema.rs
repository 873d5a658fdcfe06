//! Numbered schema changes. A file of ../migrations is never edited after its release: what comes
//! next is a new file and a new line here.

use rusqlite::Connection;
use tracing::info;

use super::super::StoreError;
use super::fault;

/// Change number n is the n-th; the file's `user_version` says how many were made.
const MIGRATIONS: [&str; 3] = [
    include_str!("../migrations/0001_initial.sql"),
    include_str!("../migrations/0002_messages.sql"),
    include_str!("../migrations/0003_roster_removed.sql"),
];

/// Brings a database up to date, each change in a transaction of its own.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let found: u32 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| fault(&error))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (number, sql) in (1_u32..).zip(MIGRATIONS).skip(found as usize) {
        apply(db, number, sql).map_err(|error| fault(&error))?;
        info!(number, "store schema changed");
    }
    Ok(())
}

fn apply(db: &mut Connection, number: u32, sql: &str) -> rusqlite::Result<()> {
    let change = db.transaction()?;
    change.execute_batch(sql)?;
    change.pragma_update(None, "user_version", number)?;
    change.commit()
}
