//! One table of cases for both stores, then what only a file can show.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process};

use bytes::Bytes;
use smallvec::smallvec;
use xmpp_stream::stream::{ScramHash, StoredKeys};

use super::*;

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("xmpp-store-{}-{number}", process::id()));
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

    /// A connection of somebody else's.
    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Plays a case against every kind of store.
macro_rules! for_both {
    ($($name:ident),+ $(,)?) => {
        mod memory_store {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::store::Store::memory()).await;
            })+
        }
        mod sqlite_store {
            $(#[tokio::test]
            async fn $name() {
                let folder = crate::store::tests::Folder::new();
                super::$name(folder.open()).await;
            })+
        }
    };
}

mod faults;
mod messages;

for_both! {
    accounts_are_made_once,
    accounts_are_listed_in_order,
    bans_come_and_go,
    closed_store_writes_nothing,
    kv_compares_and_sets,
    kv_versions_are_never_repeated,
    one_visit_gives_all_that_the_others_give,
    passwords_change_as_a_whole,
    removal_takes_all_rows_of_one_account,
    rosters_compare_and_set,
    removed_contacts_are_remembered,
    rosters_keep_every_field,
    secret_stays,
    submits_of_many_are_all_or_nothing,
    surveys_count_the_keys_of_a_domain,
}

fn jid(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn alice() -> BareJid {
    jid("alice@a.test")
}

fn keys(hash: ScramHash, seed: u8) -> StoredKeys {
    StoredKeys {
        hash,
        iterations: 10_000,
        salt: vec![seed; 16].into(),
        stored_key: vec![seed, 1].into(),
        server_key: vec![seed, 2].into(),
    }
}

fn create(account: &BareJid) -> WriteOp {
    let keys = vec![keys(ScramHash::Sha1, 1), keys(ScramHash::Sha512, 2)];
    WriteOp::AccountCreate {
        account: account.clone(),
        keys,
        created: 1_700_000_000,
    }
}

fn put(key: &str, val: &'static str, expect: Option<Option<u64>>) -> WriteOp {
    let val = Some(Bytes::from_static(val.as_bytes()));
    WriteOp::Kv {
        space: "test",
        owner: alice(),
        key: key.to_owned(),
        val,
        expect,
    }
}

fn delete(key: &str, expect: Option<Option<u64>>) -> WriteOp {
    WriteOp::Kv {
        space: "test",
        owner: alice(),
        key: key.to_owned(),
        val: None,
        expect,
    }
}

fn contact(text: &str) -> RosterRow {
    RosterRow {
        jid: jid(text),
        ver: 0,
        name: None,
        groups: Vec::new(),
        subscription: Subscription::None,
        ask: false,
        pending_in: None,
        approved: false,
    }
}

fn roster_op(item: RosterRow, expect: Option<u64>, ver: u64) -> WriteOp {
    WriteOp::Roster {
        account: alice(),
        item,
        expect,
        ver,
    }
}

async fn write(store: &Store, op: WriteOp) -> Result<(), CommitError> {
    store.submit(smallvec![op]).await
}

async fn ver_of(store: &Store, key: &str) -> Option<u64> {
    store
        .kv("test", &alice(), key)
        .await
        .unwrap()
        .map(|record| record.ver)
}

async fn val_of(store: &Store, key: &str) -> Option<String> {
    let record = store.kv("test", &alice(), key).await.unwrap();
    record.map(|record| String::from_utf8(record.val.to_vec()).unwrap())
}

async fn accounts_are_made_once(store: Store) {
    assert!(store.account(&alice()).await.unwrap().is_none());
    assert_eq!(write(&store, create(&alice())).await, Ok(()));
    let first = store.account(&alice()).await.unwrap().unwrap();
    assert_eq!(first.created, 1_700_000_000);
    assert!(first.banned.is_none());
    let found: Vec<&StoredKeys> = first.keys.iter().map(|keys| &**keys).collect();
    assert!(found == [&keys(ScramHash::Sha1, 1), &keys(ScramHash::Sha512, 2)]);

    let again = WriteOp::AccountCreate {
        account: alice(),
        keys: Vec::new(),
        created: 1,
    };
    assert_eq!(write(&store, again).await, Err(CommitError::Expect));
    assert_eq!(
        store.account(&alice()).await.unwrap().unwrap().keys.len(),
        2
    );
    assert!(store.account(&jid("bob@a.test")).await.unwrap().is_none());
}

async fn accounts_are_listed_in_order(store: Store) {
    for text in ["carol@b.test", "bob@a.test", "alice@a.test", "zoë@a.test"] {
        assert_eq!(write(&store, create(&jid(text))).await, Ok(()));
    }
    // Whoever only owns a value is no account.
    let op = WriteOp::Kv {
        space: "test",
        owner: jid("room@a.test"),
        key: "x".to_owned(),
        val: Some(Bytes::new()),
        expect: None,
    };
    assert_eq!(write(&store, op).await, Ok(()));
    let names = async |domain| {
        let jids = store.accounts(domain).await.unwrap();
        jids.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        names(Some("a.test")).await,
        ["alice@a.test", "bob@a.test", "zoë@a.test"]
    );
    assert_eq!(names(Some("c.test")).await, [""; 0]);
    let all = ["alice@a.test", "bob@a.test", "carol@b.test", "zoë@a.test"];
    assert_eq!(names(None).await, all);
}

async fn bans_come_and_go(store: Store) {
    let ban = |reason: Option<&str>| WriteOp::AccountBan {
        account: alice(),
        reason: reason.map(str::to_owned),
    };
    let unban = || WriteOp::AccountUnban { account: alice() };
    assert_eq!(write(&store, ban(None)).await, Err(CommitError::Expect));
    assert_eq!(write(&store, unban()).await, Err(CommitError::Expect));
    write(&store, create(&alice())).await.unwrap();
    for reason in [Some("spam"), None] {
        assert_eq!(write(&store, ban(reason)).await, Ok(()));
        let banned = store
            .account(&alice())
            .await
            .unwrap()
            .unwrap()
            .banned
            .clone();
        assert_eq!(
            banned,
            Some(Ban {
                reason: reason.map(str::to_owned)
            })
        );
    }
    assert_eq!(write(&store, unban()).await, Ok(()));
    assert_eq!(store.account(&alice()).await.unwrap().unwrap().banned, None);
}

async fn closed_store_writes_nothing(store: Store) {
    let before = store.submit(smallvec![put("x", "1", None)]);
    store.close().await;
    assert_eq!(before.outcome(), Some(Ok(())));
    assert_eq!(
        write(&store, put("x", "2", None)).await,
        Err(CommitError::Failed)
    );
    store.close().await;
}

async fn kv_compares_and_sets(store: Store) {
    assert_eq!(
        write(&store, put("x", "1", Some(Some(1)))).await,
        Err(CommitError::Expect)
    );
    assert_eq!(write(&store, put("x", "1", Some(None))).await, Ok(()));
    assert_eq!(
        write(&store, put("x", "2", Some(None))).await,
        Err(CommitError::Expect)
    );
    assert_eq!(val_of(&store, "x").await.as_deref(), Some("1"));
    let ver = ver_of(&store, "x").await;
    assert_eq!(write(&store, put("x", "2", Some(ver))).await, Ok(()));
    assert_eq!(
        write(&store, put("x", "3", Some(ver))).await,
        Err(CommitError::Expect)
    );
    assert_eq!(
        write(&store, delete("x", Some(ver))).await,
        Err(CommitError::Expect)
    );
    assert_eq!(val_of(&store, "x").await.as_deref(), Some("2"));

    // Another key, another space and another owner are other values.
    assert_eq!(write(&store, put("a", "4", None)).await, Ok(()));
    assert!(store.kv("other", &alice(), "x").await.unwrap().is_none());
    assert!(
        store
            .kv("test", &jid("bob@a.test"), "x")
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.kv_keys("test", &alice()).await.unwrap(), ["a", "x"]);
    assert_eq!(val_of(&store, "a").await.as_deref(), Some("4"));
    assert_eq!(val_of(&store, "x").await.as_deref(), Some("2"));
    assert!(store.kv_keys("other", &alice()).await.unwrap().is_empty());

    assert_eq!(write(&store, delete("x", None)).await, Ok(()));
    assert_eq!(write(&store, delete("x", Some(None))).await, Ok(()));
    assert_eq!(val_of(&store, "x").await, None);
}

async fn kv_versions_are_never_repeated(store: Store) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        for val in ["1", "2"] {
            write(&store, put("x", val, None)).await.unwrap();
            seen.push(ver_of(&store, "x").await.unwrap());
        }
        write(&store, delete("x", None)).await.unwrap();
        assert_eq!(ver_of(&store, "x").await, None);
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

async fn passwords_change_as_a_whole(store: Store) {
    let change = || WriteOp::AccountKeys {
        account: alice(),
        keys: vec![keys(ScramHash::Sha256, 9)],
    };
    assert_eq!(write(&store, change()).await, Err(CommitError::Expect));
    assert!(store.account(&alice()).await.unwrap().is_none());
    write(&store, create(&alice())).await.unwrap();
    let before = store.account(&alice()).await.unwrap().unwrap();
    assert_eq!(write(&store, change()).await, Ok(()));
    let record = store.account(&alice()).await.unwrap().unwrap();
    assert!(*record.keys == [Arc::new(keys(ScramHash::Sha256, 9))]);
    assert_eq!(record.created, 1_700_000_000);
    // What was read stays what it was.
    assert_eq!(before.keys.len(), 2);
}

async fn one_visit_gives_all_that_the_others_give(store: Store) {
    let mut ops = smallvec![create(&alice()), put("x", "1", None)];
    ops.push(roster_op(contact("bob@b.test"), None, 7));
    assert_eq!(store.submit(ops).await, Ok(()));
    for who in [alice(), jid("nobody@a.test")] {
        let loaded = store.load(&who, "test", "x").await.unwrap();
        let is_there = who == alice();
        assert_eq!(loaded.record.is_some(), is_there, "{who}");
        assert_eq!(loaded.roster, store.roster(&who).await.unwrap());
        assert_eq!(loaded.roster.items.len(), usize::from(is_there));
        assert_eq!(loaded.due, store.due(&who).await.unwrap());
        assert_eq!(loaded.value, store.kv("test", &who, "x").await.unwrap());
        assert_eq!(loaded.value.is_some(), is_there);
    }
}

async fn removal_takes_all_rows_of_one_account(store: Store) {
    let bob = jid("bob@a.test");
    for account in [alice(), bob.clone()] {
        let roster = WriteOp::Roster {
            account: account.clone(),
            item: contact("carol@b.test"),
            expect: None,
            ver: 3,
        };
        let kv = WriteOp::Kv {
            space: "test",
            owner: account.clone(),
            key: "x".to_owned(),
            val: Some(Bytes::from_static(b"1")),
            expect: None,
        };
        assert_eq!(
            store.submit(smallvec![create(&account), roster, kv]).await,
            Ok(())
        );
    }
    for _ in 0..2 {
        let remove = WriteOp::AccountRemove { account: alice() };
        assert_eq!(write(&store, remove).await, Ok(()));
        assert!(store.account(&alice()).await.unwrap().is_none());
        assert_eq!(
            store.roster(&alice()).await.unwrap(),
            RosterRecord::default()
        );
        assert!(store.kv_keys("test", &alice()).await.unwrap().is_empty());
    }
    assert_eq!(store.account(&bob).await.unwrap().unwrap().keys.len(), 2);
    assert_eq!(store.roster(&bob).await.unwrap().items.len(), 1);
    assert_eq!(store.kv_keys("test", &bob).await.unwrap().len(), 1);

    // A write that came too late is not inherited.
    assert_eq!(write(&store, put("x", "late", None)).await, Ok(()));
    assert_eq!(
        write(&store, roster_op(contact("eve@b.test"), None, 1)).await,
        Ok(())
    );
    assert_eq!(write(&store, create(&alice())).await, Ok(()));
    assert_eq!(
        store.roster(&alice()).await.unwrap(),
        RosterRecord::default()
    );
    assert_eq!(val_of(&store, "x").await, None);
}

async fn rosters_compare_and_set(store: Store) {
    assert_eq!(
        store.roster(&alice()).await.unwrap(),
        RosterRecord::default()
    );
    let (bob, carol) = (contact("bob@a.test"), contact("carol@b.test"));
    let stale = roster_op(bob.clone(), Some(1), 2);
    assert_eq!(write(&store, stale).await, Err(CommitError::Expect));
    assert_eq!(
        write(&store, roster_op(carol.clone(), Some(0), 1)).await,
        Ok(())
    );
    assert_eq!(
        write(&store, roster_op(bob.clone(), Some(1), 2)).await,
        Ok(())
    );
    let stale = roster_op(contact("eve@b.test"), Some(1), 2);
    assert_eq!(write(&store, stale).await, Err(CommitError::Expect));
    let expected = RosterRecord {
        ver: 2,
        items: vec![bob, carol.clone()],
        ..RosterRecord::default()
    };
    assert_eq!(store.roster(&alice()).await.unwrap(), expected);

    let remove = |expect, ver| WriteOp::RosterRemove {
        account: alice(),
        jid: jid("bob@a.test"),
        expect,
        ver,
        remember: true,
        forgotten: 0,
    };
    assert_eq!(
        write(&store, remove(Some(1), 2)).await,
        Err(CommitError::Expect)
    );
    assert_eq!(store.roster(&alice()).await.unwrap(), expected);
    assert_eq!(write(&store, remove(Some(2), 3)).await, Ok(()));
    assert_eq!(write(&store, remove(None, 4)).await, Ok(()));
    let expected = RosterRecord {
        ver: 4,
        items: vec![carol],
        removed: vec![(4, jid("bob@a.test"))],
        forgotten: 0,
    };
    assert_eq!(store.roster(&alice()).await.unwrap(), expected);
}

async fn rosters_keep_every_field(store: Store) {
    let subscriptions = [
        Subscription::None,
        Subscription::To,
        Subscription::From,
        Subscription::Both,
    ];
    let mut items = Vec::new();
    for (number, subscription) in subscriptions.into_iter().enumerate() {
        let odd = number % 2 == 1;
        let item = RosterRow {
            name: odd.then(|| "Zoë \"q\" <\n🦀>".into()),
            groups: if odd {
                vec!["".into(), "a,b\n\"c\"".into()]
            } else {
                Vec::new()
            },
            subscription,
            ask: odd,
            pending_in: odd.then(|| Bytes::from_static(b"<presence type='subscribe'/>\0\xff")),
            approved: !odd,
            ver: number as u64,
            ..contact(&format!("c{number}@b.test"))
        };
        write(&store, roster_op(item.clone(), None, 7))
            .await
            .unwrap();
        items.push(item);
    }
    // A gateway is a contact too; an upsert replaces every field.
    items.push(contact("gateway.b.test"));
    write(&store, roster_op(contact("gateway.b.test"), None, 8))
        .await
        .unwrap();
    items[1] = contact("c1@b.test");
    write(&store, roster_op(items[1].clone(), None, u64::MAX))
        .await
        .unwrap();
    let expected = RosterRecord {
        ver: u64::MAX,
        items,
        ..RosterRecord::default()
    };
    assert_eq!(store.roster(&alice()).await.unwrap(), expected);
}

async fn removed_contacts_are_remembered(store: Store) {
    let remove = |text, ver, remember, forgotten| WriteOp::RosterRemove {
        account: alice(),
        jid: jid(text),
        expect: None,
        ver,
        remember,
        forgotten,
    };
    let kept = async || {
        let record = store.roster(&alice()).await.unwrap();
        let removed = record.removed.iter();
        let removed: Vec<_> = removed.map(|(ver, jid)| format!("{ver} {jid}")).collect();
        (removed.join(", "), record.forgotten)
    };
    let ops = [
        remove("c@b", 1, true, 0),
        remove("b@b", 2, true, 0),
        remove("a@b", 3, true, 0),
        remove("request@b", 4, false, 0),
    ];
    assert_eq!(store.submit(ops.into_iter().collect()).await, Ok(()));
    assert_eq!(kept().await, ("1 c@b, 2 b@b, 3 a@b".to_owned(), 0));
    let again = roster_op(contact("b@b"), None, 5);
    assert_eq!(write(&store, again).await, Ok(()));
    assert_eq!(kept().await, ("1 c@b, 3 a@b".to_owned(), 0));
    assert_eq!(write(&store, remove("d@b", 6, true, 1)).await, Ok(()));
    assert_eq!(kept().await, ("3 a@b, 6 d@b".to_owned(), 1));
    let gone = WriteOp::AccountRemove { account: alice() };
    assert_eq!(write(&store, gone).await, Ok(()));
    assert_eq!(kept().await, (String::new(), 0));
}

async fn secret_stays(store: Store) {
    let secret = store.secret().await.unwrap();
    assert_eq!(store.clone().secret().await.unwrap(), secret);
    assert_ne!(secret, [0; 32]);
    assert_ne!(secret, Store::memory().secret().await.unwrap());
}

async fn submits_of_many_are_all_or_nothing(store: Store) {
    write(&store, put("x", "before", None)).await.unwrap();
    let refused = store.submit(smallvec![
        create(&alice()),
        put("x", "after", None),
        put("y", "after", None),
        roster_op(contact("bob@a.test"), Some(0), 1),
        roster_op(contact("carol@a.test"), Some(7), 8),
    ]);
    let good = store.submit(smallvec![put("z", "1", None), put("z", "2", None)]);
    assert_eq!(
        [refused.await, good.await],
        [Err(CommitError::Expect), Ok(())]
    );
    assert!(store.account(&alice()).await.unwrap().is_none());
    assert_eq!(val_of(&store, "x").await.as_deref(), Some("before"));
    assert_eq!(val_of(&store, "y").await, None);
    assert_eq!(val_of(&store, "z").await.as_deref(), Some("2"));
    assert_eq!(
        store.roster(&alice()).await.unwrap(),
        RosterRecord::default()
    );
    // Within a submit each operation sees the ones before it.
    let chain: Ops = smallvec![
        roster_op(contact("bob@a.test"), Some(0), 1),
        roster_op(contact("carol@a.test"), Some(1), 2),
    ];
    assert_eq!(store.submit(chain).await, Ok(()));
    assert_eq!(store.roster(&alice()).await.unwrap().ver, 2);
    assert_eq!(store.submit(Ops::new()).await, Ok(()));
}

#[tokio::test]
async fn file_is_private_and_outlives_the_store() {
    let folder = Folder::new();
    let store = folder.open();
    let secret = store.secret().await.unwrap();
    write(&store, create(&alice())).await.unwrap();
    write(&store, put("x", "1", None)).await.unwrap();
    write(&store, roster_op(contact("bob@a.test"), None, 5))
        .await
        .unwrap();
    for name in ["server.db", "server.db-wal"] {
        let mode = fs::metadata(folder.0.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let ver = ver_of(&store, "x").await.unwrap();
    store.close().await;
    drop(store);

    let store = folder.open();
    assert_eq!(store.secret().await.unwrap(), secret);
    assert_eq!(
        store.account(&alice()).await.unwrap().unwrap().keys.len(),
        2
    );
    assert_eq!(store.roster(&alice()).await.unwrap().ver, 5);
    assert_eq!(ver_of(&store, "x").await, Some(ver));
    write(&store, put("x", "2", Some(Some(ver)))).await.unwrap();
    assert!(ver_of(&store, "x").await.unwrap() > ver);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_without_an_orderly_end() {
    let folder = Folder::new();
    let store = folder.open();
    write(&store, put("x", "1", None)).await.unwrap();
    // As a kill leaves them: the file and its log, copied while the store runs.
    let copy = Folder::new();
    for name in ["server.db", "server.db-wal"] {
        fs::copy(folder.0.join(name), copy.0.join(name)).unwrap();
    }
    assert_eq!(val_of(&copy.open(), "x").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_fault_in_one_submit_is_no_other_submits_business() {
    let folder = Folder::new();
    let store = folder.open();
    let sql = "CREATE TRIGGER bomb BEFORE INSERT ON kv WHEN NEW.key = 'bomb' \
               BEGIN SELECT RAISE(ROLLBACK, 'bomb'); END";
    folder.raw().execute_batch(sql).unwrap();
    let mut tickets = Vec::new();
    for number in 0..40 {
        let key = if number % 10 == 3 {
            "bomb".to_owned()
        } else {
            format!("k{number:02}")
        };
        let ops: Ops = smallvec![put("same", "x", None), put(&key, "x", None)];
        tickets.push((key, store.submit(ops)));
    }
    for (key, ticket) in tickets {
        let expected = if key == "bomb" {
            Err(CommitError::Failed)
        } else {
            Ok(())
        };
        assert_eq!(ticket.await, expected, "{key}");
    }
    assert_eq!(store.kv_keys("test", &alice()).await.unwrap().len(), 37);
    assert_eq!(write(&store, put("after", "x", None)).await, Ok(()));
}

#[tokio::test]
async fn newer_store_is_refused_and_left_alone() {
    let folder = Folder::new();
    folder.open().close().await;
    folder
        .raw()
        .pragma_update(None, "user_version", 1_000)
        .unwrap();
    let error = Store::open_sqlite(&folder.file(), &StoreLimits::default()).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooNew {
                found: 1_000,
                known: 3
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn what_is_no_store_is_refused() {
    let folder = Folder::new();
    let error = Store::open_sqlite(&folder.0.join("absent/server.db"), &StoreLimits::default())
        .unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    fs::write(folder.file(), [b'x'; 4_096]).unwrap();
    let error = Store::open_sqlite(&folder.file(), &StoreLimits::default()).unwrap_err();
    assert!(
        matches!(error, StoreError::Database { code: 26 }),
        "{error:?}"
    );
    assert_eq!(fs::read(folder.file()).unwrap(), [b'x'; 4_096]);
}

#[tokio::test]
async fn closed_file_is_not_read() {
    let folder = Folder::new();
    let store = folder.open();
    store.close().await;
    assert!(matches!(
        store.account(&alice()).await,
        Err(StoreError::Closed)
    ));
    assert!(!folder.0.join("server.db-wal").exists());
}

#[tokio::test]
async fn rows_nobody_writes_are_an_error_and_no_panic() {
    let folder = Folder::new();
    let store = folder.open();
    write(&store, create(&alice())).await.unwrap();
    write(&store, roster_op(contact("bob@a.test"), None, 1))
        .await
        .unwrap();
    let raw = folder.raw();
    for sql in [
        "UPDATE roster SET subscription = 9",
        "UPDATE roster SET subscription = 1, groups = '{'",
        "UPDATE roster SET groups = '[]', jid = '@'",
    ] {
        raw.execute_batch(sql).unwrap();
        let error = store.roster(&alice()).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt { table: "roster" }),
            "{sql}: {error:?}"
        );
    }
    raw.execute_batch("UPDATE account_key SET hash = 3 WHERE hash = 1")
        .unwrap();
    let error = store.account(&alice()).await.err().unwrap();
    assert!(
        matches!(
            error,
            StoreError::Corrupt {
                table: "account_key"
            }
        ),
        "{error:?}"
    );
}

async fn surveys_count_the_keys_of_a_domain(store: Store) {
    for account in ["a@a.test", "b@a.test", "c@b.test"] {
        store
            .submit(smallvec![create(&jid(account))])
            .await
            .unwrap();
    }
    let brought = StoredKeys {
        iterations: 4096,
        salt: vec![1; 8].into(),
        ..keys(ScramHash::Sha1, 1)
    };
    let change = WriteOp::AccountKeys {
        account: jid("b@a.test"),
        keys: vec![brought],
    };
    store.submit(smallvec![change]).await.unwrap();
    let shape = |hash, iterations, salt_bytes| KeyShape {
        hash,
        iterations,
        salt_bytes,
    };
    let survey = store.survey("a.test").await.unwrap();
    assert_eq!(survey.accounts, 2);
    let expected = [
        (shape(1, 4096, 8), 1),
        (shape(1, 10_000, 16), 1),
        (shape(512, 10_000, 16), 1),
    ];
    assert_eq!(survey.shapes, expected);
    let all = store.survey("b.test").await.unwrap();
    assert_eq!((all.accounts, all.shapes.len()), (1, 2));
    assert_eq!(store.survey("c.test").await.unwrap(), KeySurvey::default());
}
