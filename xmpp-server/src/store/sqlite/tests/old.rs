//! A file of the first version, filled by its own SQL: all of it is there behind every change.

use super::super::super::RosterRow;
use super::super::super::{AccountRecord, Ban, RosterRecord, Subscription};
use super::*;
use xmpp_stream::stream::{ScramHash, StoredKeys};

const ACCOUNTS: u32 = 300;
const SECRET: [u8; SECRET_BYTES] = [7; SECRET_BYTES];

fn account(n: u32) -> BareJid {
    let domain = ["a.test", "b.test"][n as usize % 2];
    BareJid::account(&format!("user{n}"), domain).unwrap()
}

fn record(n: u32) -> AccountRecord {
    let keys = |hash| {
        Arc::new(StoredKeys {
            hash,
            iterations: 4096 + n,
            salt: vec![n as u8; 12].into(),
            stored_key: vec![1, n as u8].into(),
            server_key: vec![2, n as u8].into(),
        })
    };
    let hashes = [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512];
    // Imported ones lack some.
    let hashes = hashes.into_iter().take(1 + n as usize % 3);
    AccountRecord {
        keys: hashes.map(keys).collect(),
        banned: n.is_multiple_of(7).then(|| Ban {
            reason: n.is_multiple_of(2).then(|| format!("reason {n}")),
        }),
        created: 1_600_000_000 + u64::from(n),
    }
}

fn row(n: u32, contact: u32) -> RosterRow {
    let states = [
        Subscription::None,
        Subscription::To,
        Subscription::From,
        Subscription::Both,
    ];
    let request = format!("<presence type='subscribe' from='{}'/>", account(contact));
    RosterRow {
        jid: account(contact),
        ver: u64::from(contact % 5),
        name: contact
            .is_multiple_of(3)
            .then(|| format!("Zo\u{eb} \u{1f600} '{n}\"").into()),
        groups: (0..contact % 4)
            .map(|g| format!("gr\"oup {g}").into())
            .collect(),
        subscription: states[(n + contact) as usize % 4],
        ask: contact.is_multiple_of(2),
        pending_in: contact.is_multiple_of(5).then(|| Bytes::from(request)),
        approved: contact.is_multiple_of(6),
    }
}

fn roster(n: u32) -> RosterRecord {
    let mut items: Vec<_> = (0..n % 20).map(|contact| row(n, contact)).collect();
    items.sort_by(|a, b| a.jid.as_str().cmp(b.jid.as_str()));
    let ver = if items.is_empty() { 0 } else { 5 };
    RosterRecord {
        ver,
        items,
        removed: Vec::new(),
        // What had been removed before is not known: no older version is told of a difference.
        forgotten: ver,
    }
}

/// As the first version wrote it.
fn fill(db: &mut Connection) -> rusqlite::Result<()> {
    db.execute_batch(include_str!("../../migrations/0001_initial.sql"))?;
    db.pragma_update(None, "user_version", 1)?;
    let db = db.transaction()?;
    let meta = "INSERT INTO meta (key, val) VALUES (?1, ?2)";
    db.execute(meta, params!["secret", &SECRET[..]])?;
    db.execute(meta, params!["kv_epoch", 3])?;
    for n in 0..ACCOUNTS {
        let (jid, record, roster) = (account(n), record(n), roster(n));
        let reason = record.banned.as_ref().and_then(|ban| ban.reason.clone());
        let banned = record.banned.is_some();
        db.execute(
            "INSERT INTO account VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                jid.as_str(),
                jid.domain(),
                record.created as i64,
                banned,
                reason
            ],
        )?;
        for keys in &record.keys {
            let hash = match keys.hash {
                ScramHash::Sha1 => 1,
                ScramHash::Sha256 => 256,
                ScramHash::Sha512 => 512,
            };
            db.execute(
                "INSERT INTO account_key VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    jid.as_str(),
                    hash,
                    keys.iterations,
                    &keys.salt[..],
                    &keys.stored_key[..],
                    &keys.server_key[..]
                ],
            )?;
        }
        if roster.ver > 0 {
            let sql = "INSERT INTO roster_version VALUES (?1, ?2)";
            db.execute(sql, params![jid.as_str(), roster.ver as i64])?;
        }
        for row in &roster.items {
            let subscription = match row.subscription {
                Subscription::None => 0,
                Subscription::To => 1,
                Subscription::From => 2,
                Subscription::Both => 3,
            };
            db.execute(
                "INSERT INTO roster VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    jid.as_str(),
                    row.jid.as_str(),
                    row.ver as i64,
                    row.name.as_deref(),
                    serde_json::to_string(&row.groups).unwrap(),
                    subscription,
                    row.ask,
                    row.pending_in.as_deref(),
                    row.approved
                ],
            )?;
        }
        let sql = "INSERT INTO kv VALUES (?1, 'vcard', 'card', ?2, ?3)";
        db.execute(
            sql,
            params![jid.as_str(), n, format!("<vCard>{n}</vCard>").as_bytes()],
        )?;
    }
    db.commit()
}

async fn check(store: &Store) {
    for n in 0..ACCOUNTS {
        let (jid, expected) = (account(n), record(n));
        let found = store.account(&jid).await.unwrap().expect("the account");
        assert_eq!(found.created, expected.created);
        assert_eq!(found.banned, expected.banned);
        assert!(found.keys == expected.keys, "{jid}: keys");
        assert_eq!(store.roster(&jid).await.unwrap(), roster(n), "{jid}");
        let card = store.kv("vcard", &jid, "card").await.unwrap().unwrap();
        assert_eq!(card.val, format!("<vCard>{n}</vCard>"));
        assert_eq!(card.ver, u64::from(n));
        assert!(store.due(&jid).await.unwrap().is_empty());
    }
    assert_eq!(store.accounts(None).await.unwrap().len(), ACCOUNTS as usize);
    let half = ACCOUNTS as usize / 2;
    assert_eq!(store.accounts(Some("b.test")).await.unwrap().len(), half);
    assert_eq!(store.secret().await.unwrap(), SECRET);
}

#[tokio::test]
async fn a_filled_store_of_the_first_version_keeps_everything() {
    let folder = Folder::new();
    fill(&mut folder.raw()).unwrap();
    let store = folder.open();
    check(&store).await;
    // What came later works on it, and the next start finds both.
    let id = ids(1, HOUR)[0];
    let mut op = message(id, 10);
    if let WriteOp::Message { account: to, .. } = &mut op {
        *to = account(1);
    }
    write(&store, op).await.unwrap();
    assert_eq!(store.due(&account(1)).await.unwrap(), [id]);
    store.close().await;
    let version: u32 = folder
        .raw()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 3);
    let store = folder.open();
    assert_eq!(store.due(&account(1)).await.unwrap(), [id]);
    let account_one = account(1);
    let remove = WriteOp::AccountRemove {
        account: account_one.clone(),
    };
    write(&store, remove).await.unwrap();
    assert!(store.account(&account_one).await.unwrap().is_none());
    let again = WriteOp::AccountCreate {
        account: account_one,
        keys: record(1).keys.iter().map(|keys| (**keys).clone()).collect(),
        created: record(1).created,
    };
    write(&store, again).await.unwrap();
    assert_eq!(
        store.roster(&account(1)).await.unwrap(),
        RosterRecord::default()
    );
}
