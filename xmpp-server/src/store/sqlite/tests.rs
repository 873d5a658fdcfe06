//! The SQLite store when its file is locked, full, killed in mid-air, old or damaged, and what it
//! deletes with time.

use std::io::Write;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{env, fs};

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::super::{Cleared, CommitError, RowIds, Sent, Store, Watermark, WriteOp};
use super::*;
use crate::clock::Clock;

mod old;

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("xmpp-sqlite-{}-{number}", process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join("server.db")
    }

    fn open(&self) -> Store {
        Store::open_sqlite(&self.file(), &StoreLimits::default()).unwrap()
    }

    /// A store whose writing connection is prepared further.
    fn open_with(&self, prepare: impl Fn(&Connection)) -> Store {
        let prepare = |db: Connection| {
            prepare(&db);
            Ok(db)
        };
        let limits = StoreLimits::default();
        let store = SqliteStore::open_prepared(&self.file(), &limits, prepare);
        Store::Sqlite(Arc::new(store.unwrap()))
    }

    /// A connection of somebody else's.
    fn raw(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.raw().query_row(&sql, [], |row| row.get(0)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Says(Mutex<Option<Cleared>>);

impl Watermark for Says {
    fn cleared(&self) -> Option<Cleared> {
        self.0.lock().unwrap().take()
    }
}

fn alice() -> BareJid {
    BareJid::parse("alice@a.test").unwrap()
}

fn create() -> WriteOp {
    WriteOp::AccountCreate {
        account: alice(),
        keys: Vec::new(),
        created: 1,
    }
}

fn message(id: RowId, bytes: usize) -> WriteOp {
    WriteOp::Message {
        account: alice(),
        row: MessageRow {
            id,
            stanza: Bytes::from(vec![b'x'; bytes]),
        },
        sent: Some(Box::new(Sent {
            sender: alice(),
            print: Print(1),
            stream: 1,
        })),
    }
}

fn value(key: &str) -> WriteOp {
    WriteOp::Kv {
        space: "test",
        owner: alice(),
        key: key.to_owned(),
        val: Some(Bytes::from_static(b"x")),
        expect: None,
    }
}

async fn write(store: &Store, op: WriteOp) -> Result<(), CommitError> {
    store.submit(smallvec![op]).await
}

async fn clear(store: &Store, upto: RowId, except: Vec<RowId>) {
    let cleared = Cleared {
        account: alice(),
        upto,
        except,
    };
    store.clear(Arc::new(Says(Mutex::new(Some(cleared)))));
    write(store, value("after")).await.unwrap();
}

/// `count` row ids of an age.
fn ids(count: usize, age: Duration) -> Vec<RowId> {
    let (ids, then) = (RowIds::after(None), Clock::start().system_now() - age);
    (0..count).map(|_| ids.next(then)).collect()
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

async fn put(store: &Store, ids: &[RowId]) {
    for some in ids.chunks(100) {
        let ops = some.iter().map(|id| message(*id, 10)).collect();
        store.submit(ops).await.unwrap();
    }
}

#[tokio::test]
async fn rows_that_are_done_go_and_what_was_sent_a_day_later() {
    let folder = Folder::new();
    let store = folder.open();
    write(&store, create()).await.unwrap();
    let old = ids(1500, DAY + HOUR);
    let young = ids(1500, DAY - HOUR);
    put(&store, &old).await;
    put(&store, &young).await;
    let kept = vec![old[0], old[1499], young[7]];
    clear(&store, young[1000], kept.clone()).await;
    store.close().await;

    let store = folder.open();
    let due: Vec<RowId> = kept.iter().chain(&young[1001..]).copied().collect();
    // The round that begins with the start has come to its end when nothing changes any more.
    let rounds = async |table: &str, left: usize| {
        while folder.count(table) != left as i64 {
            write(&store, value("again")).await.unwrap();
        }
    };
    rounds("message_sent", 1500).await;
    rounds("message", due.len()).await;
    rounds("message_index", due.len()).await;
    assert_eq!(store.due(&alice()).await.unwrap(), due);
    let found = store.messages(&alice(), due.clone()).await.unwrap();
    assert_eq!(found.len(), due.len());
    let sent = store.sent(&alice(), RowId(0)).await.unwrap();
    assert_eq!(sent.len(), 1000);
    assert_eq!(store.newest().await.unwrap(), young.last().copied());
}

#[tokio::test]
async fn index_entries_are_made_in_time_and_change_no_answer() {
    let folder = Folder::new();
    let store = folder.open();
    write(&store, create()).await.unwrap();
    let ids = ids(3000, HOUR);
    for (number, id) in ids.iter().enumerate() {
        write(&store, message(*id, 10)).await.unwrap();
        if number % 100 == 99 {
            let due = store.due(&alice()).await.unwrap();
            assert_eq!(due, ids[..=number]);
            let sent = store.sent(&alice(), RowId(0)).await.unwrap();
            assert_eq!(sent.len(), (number + 1).min(1000));
        }
    }
    assert!(folder.count("message_index") >= 2000);
    let found = store.messages(&alice(), ids.clone()).await.unwrap();
    assert!(found.iter().map(|row| row.id).eq(ids.iter().copied()));
    // An account that goes takes both kinds.
    let remove = WriteOp::AccountRemove { account: alice() };
    write(&store, remove).await.unwrap();
    for table in ["message", "message_index", "message_sent"] {
        assert_eq!(folder.count(table), 0, "{table}");
    }
    assert!(store.due(&alice()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_locked_file_delays_writes_and_not_reads() {
    let folder = Folder::new();
    let store = folder.open();
    write(&store, create()).await.unwrap();
    let raw = folder.raw();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ticket = store.submit(smallvec![value("x")]);
    assert!(store.account(&alice()).await.unwrap().is_some());
    assert!(!ticket.is_done());
    raw.execute_batch("COMMIT").unwrap();
    assert_eq!(ticket.await, Ok(()));
}

#[tokio::test]
async fn a_file_that_stays_locked_fails_what_waits_all_at_once() {
    let folder = Folder::new();
    let wait = Duration::from_millis(300);
    let store = folder.open_with(|db| db.busy_timeout(wait).unwrap());
    write(&store, create()).await.unwrap();
    let raw = folder.raw();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = ids(1, HOUR)[0];
    let cleared = Cleared {
        account: alice(),
        upto: id,
        except: Vec::new(),
    };
    store.clear(Arc::new(Says(Mutex::new(Some(cleared)))));
    let start = crate::clock::now();
    let tickets: Vec<Ticket> = (0..200)
        .map(|_| store.submit(smallvec![value("x")]))
        .collect();
    for ticket in tickets {
        assert_eq!(ticket.await, Err(CommitError::Failed));
        assert!(store.account(&alice()).await.unwrap().is_some());
    }
    // Two groups, not two hundred submits one by one.
    let took = crate::clock::now().duration_since(start);
    assert!(took < wait * 10, "{took:?}");
    raw.execute_batch("ROLLBACK").unwrap();
    // All is well again, and the watermark is not forgotten.
    write(&store, message(id, 10)).await.unwrap();
    while !store.due(&alice()).await.unwrap().is_empty() {
        write(&store, value("x")).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_again() {
    let folder = Folder::new();
    let store = folder.open_with(|db| {
        db.pragma_update(None, "max_page_count", 60).unwrap();
    });
    write(&store, create()).await.unwrap();
    let (mut committed, ids) = (Vec::new(), ids(200, HOUR));
    let mut left = ids.iter().copied();
    let refused = loop {
        let id = left.next().unwrap();
        match write(&store, message(id, 4000)).await {
            Ok(()) => committed.push(id),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, CommitError::Failed);
    assert!(!committed.is_empty());
    // Reading goes on, and nothing is lost of what was acknowledged.
    assert_eq!(store.due(&alice()).await.unwrap(), committed);
    assert_eq!(
        write(&store, message(left.next().unwrap(), 4000)).await,
        Err(CommitError::Failed)
    );
    // What makes room is still possible.
    write(&store, WriteOp::AccountRemove { account: alice() })
        .await
        .unwrap();
    write(&store, create()).await.unwrap();
    write(&store, message(left.next().unwrap(), 4000))
        .await
        .unwrap();
    assert_eq!(store.due(&alice()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_of_the_first_version_is_brought_up_to_date() {
    let folder = Folder::new();
    let raw = folder.raw();
    raw.execute_batch(include_str!("../migrations/0001_initial.sql"))
        .unwrap();
    raw.execute_batch(
        "PRAGMA user_version = 1; \
         INSERT INTO account (jid, domain, created) VALUES ('alice@a.test', 'a.test', 5); \
         INSERT INTO kv (owner, space, key, ver, val) VALUES ('alice@a.test', 'test', 'x', 1, x'31');",
    )
    .unwrap();
    drop(raw);
    let store = folder.open();
    assert_eq!(store.account(&alice()).await.unwrap().unwrap().created, 5);
    assert_eq!(store.newest().await.unwrap(), None);
    let id = ids(1, HOUR)[0];
    write(&store, message(id, 10)).await.unwrap();
    assert_eq!(store.due(&alice()).await.unwrap(), [id]);
    let found = store.kv("test", &alice(), "x").await.unwrap().unwrap();
    assert_eq!(&found.val[..], b"1");
}

#[tokio::test]
async fn rows_nobody_writes_are_an_error_and_no_panic() {
    let folder = Folder::new();
    let store = folder.open();
    write(&store, create()).await.unwrap();
    let ids = ids(2, HOUR);
    put(&store, &ids).await;
    clear(&store, ids[0], Vec::new()).await;
    for sql in [
        "UPDATE watermark SET kept = x'00'",
        "UPDATE watermark SET kept = x'', upto = 'text'",
    ] {
        folder.raw().execute_batch(sql).unwrap();
        let error = store.due(&alice()).await.unwrap_err();
        let corrupt = matches!(error, StoreError::Corrupt { table: "watermark" });
        assert!(corrupt, "{sql}: {error:?}");
    }
    store.close().await;
    // A watermark that cannot be read lets nothing go.
    assert_eq!(folder.count("message"), 2);
    let sql =
        "UPDATE meta SET val = 0 WHERE key = 'message_indexed'; UPDATE message SET id = x'01'";
    folder.raw().execute_batch(sql).unwrap();
    let error = Store::open_sqlite(&folder.file(), &StoreLimits::default()).unwrap_err();
    let corrupt = matches!(error, StoreError::Corrupt { table: "message" });
    assert!(corrupt, "{error:?}");
}

/// Set for the process that is killed: where its store lies.
const VICTIM: &str = "XMPP_STORE_VICTIM";

/// Runs this test alone in a process of its own, which writes until it is killed.
fn start_victim(folder: &Folder) -> Child {
    let name = "store::sqlite::tests::what_was_acknowledged_outlives_a_kill";
    Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VICTIM, folder.file())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Says each number once its row is committed.
async fn be_the_victim(file: PathBuf) {
    let store = Store::open_sqlite(&file, &StoreLimits::default()).unwrap();
    let _ = write(&store, create()).await;
    let newest = store.newest().await.unwrap();
    let (ids, now) = (RowIds::after(newest), Clock::start().system_now());
    loop {
        let mut tickets: SmallVec<[_; 16]> = SmallVec::new();
        for _ in 0..16 {
            let id = ids.next(now);
            tickets.push((id, store.submit(smallvec![message(id, 300)])));
        }
        for (id, ticket) in tickets {
            ticket.await.unwrap();
            writeln!(io::stdout(), "row {id}").unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill() {
    use std::io::{BufRead, BufReader};

    if let Some(file) = env::var_os(VICTIM) {
        return be_the_victim(file.into()).await;
    }
    let folder = Folder::new();
    let mut acknowledged: Vec<RowId> = Vec::new();
    // Before and behind the first index entries, and in between.
    for rows in [10, 1100, 300] {
        let mut victim = start_victim(&folder);
        let mut said = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut of_this_life = 0;
        while let Some(Ok(line)) = said.next() {
            let Some(id) = line.strip_prefix("row ") else {
                continue;
            };
            acknowledged.push(RowId(u128::from_str_radix(id, 16).unwrap()));
            of_this_life += 1;
            if of_this_life == rows {
                victim.kill().unwrap();
            }
        }
        victim.wait().unwrap();
        assert!(of_this_life >= rows);
        let store = folder.open();
        let due = store.due(&alice()).await.unwrap();
        assert!(due.is_sorted());
        let missing = acknowledged.iter().find(|id| !due.contains(id));
        assert_eq!(missing, None);
        let found = store.messages(&alice(), due.clone()).await.unwrap();
        assert_eq!(found.len(), due.len());
        drop(store);
    }
}
