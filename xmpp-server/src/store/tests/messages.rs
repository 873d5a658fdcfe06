//! Message rows, what is due of them, and by what a message sent again is recognised.

use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use super::*;

for_both! {
    absent_accounts_get_no_messages,
    accounts_made_anew_have_no_messages,
    barrier_waits_for_what_is_queued,
    newest_row_counts_what_is_done,
    removal_takes_messages_and_what_was_sent,
    rows_are_due_until_they_are_cleared,
    rows_are_read_in_the_order_asked_for,
    sent_messages_are_remembered_to_a_bound,
    submits_with_messages_are_all_or_nothing,
    watermarks_never_go_back,
}

/// Whoever has just one thing to say.
pub(super) struct Says(Mutex<Option<Cleared>>);

impl Watermark for Says {
    fn cleared(&self) -> Option<Cleared> {
        self.0.lock().unwrap().take()
    }
}

/// A row id in a well-known millisecond.
pub(super) fn id(number: u64) -> RowId {
    let noon = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    RowId(RowId::first_at(noon).0 + u128::from(number))
}

pub(super) fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<RowId> {
    numbers.into_iter().map(id).collect()
}

pub(super) fn message(account: &BareJid, id: RowId) -> WriteOp {
    let stanza = Bytes::from(format!("<message><body>{id}</body></message>"));
    WriteOp::Message {
        account: account.clone(),
        row: MessageRow { id, stanza },
        sent: None,
    }
}

pub(super) fn sent_by(sender: &BareJid, account: &BareJid, id: RowId) -> WriteOp {
    let WriteOp::Message { account, row, .. } = message(account, id) else {
        unreachable!()
    };
    let sent = Some(Box::new(Sent {
        sender: sender.clone(),
        print: print_of(id),
        stream: id.0 ^ u128::MAX,
    }));
    WriteOp::Message { account, row, sent }
}

/// With the highest bit set, as half of them have.
fn print_of(id: RowId) -> Print {
    Print(id.0 as u64 | 1 << 63)
}

/// Has a watermark written, and waits for that.
pub(super) async fn clear(store: &Store, account: &BareJid, upto: RowId, except: Vec<RowId>) {
    let cleared = Cleared {
        account: account.clone(),
        upto,
        except,
    };
    store.clear(Arc::new(Says(Mutex::new(Some(cleared)))));
    // It travels with the next group.
    write(store, put("after", "x", None)).await.unwrap();
}

pub(super) fn bob() -> BareJid {
    jid("bob@a.test")
}

pub(super) async fn make(store: &Store, accounts: &[BareJid]) {
    for account in accounts {
        write(store, create(account)).await.unwrap();
    }
}

pub(super) async fn deliver(store: &Store, account: &BareJid, numbers: &[u64]) {
    for &number in numbers {
        write(store, message(account, id(number))).await.unwrap();
    }
}

pub(super) fn remove(account: &BareJid) -> WriteOp {
    WriteOp::AccountRemove {
        account: account.clone(),
    }
}

async fn sent_ids(store: &Store, sender: &BareJid, since: u64) -> Vec<u128> {
    let sent = store.sent(sender, id(since)).await.unwrap();
    for (print, stream) in &sent {
        assert_eq!(*print, print_of(RowId(stream ^ u128::MAX)));
    }
    sent.iter().map(|(_, stream)| stream ^ u128::MAX).collect()
}

async fn absent_accounts_get_no_messages(store: Store) {
    let refused = write(&store, message(&alice(), id(1))).await;
    assert_eq!(refused, Err(CommitError::Expect));
    // Whoever only owns a value is no account.
    write(&store, put("x", "1", None)).await.unwrap();
    let refused = write(&store, sent_by(&bob(), &alice(), id(1))).await;
    assert_eq!(refused, Err(CommitError::Expect));
    assert!(store.due(&alice()).await.unwrap().is_empty());
    assert_eq!(sent_ids(&store, &bob(), 0).await, [0; 0]);
    assert_eq!(store.newest().await.unwrap(), None);
    // Nor is a watermark kept for it.
    clear(&store, &alice(), id(9), Vec::new()).await;
    make(&store, &[alice()]).await;
    deliver(&store, &alice(), &[1]).await;
    assert_eq!(store.due(&alice()).await.unwrap(), [id(1)]);
}

async fn accounts_made_anew_have_no_messages(store: Store) {
    make(&store, &[alice(), bob()]).await;
    write(&store, sent_by(&alice(), &alice(), id(5)))
        .await
        .unwrap();
    clear(&store, &alice(), id(5), Vec::new()).await;
    let anew: Ops = smallvec![remove(&alice()), create(&alice())];
    assert_eq!(store.submit(anew).await, Ok(()));
    // The old watermark would hide these.
    deliver(&store, &alice(), &[3, 4]).await;
    assert_eq!(store.due(&alice()).await.unwrap(), ids([3, 4]));
    assert_eq!(sent_ids(&store, &alice(), 0).await, [0; 0]);
}

async fn barrier_waits_for_what_is_queued(store: Store) {
    make(&store, &[alice(), bob()]).await;
    let tickets: Vec<Ticket> = (1..=200)
        .map(|number| store.submit(smallvec![sent_by(&bob(), &alice(), id(number))]))
        .collect();
    assert_eq!(sent_ids(&store, &bob(), 0).await.len(), 200);
    assert!(tickets.iter().all(Ticket::is_done));
}

async fn newest_row_counts_what_is_done(store: Store) {
    make(&store, &[alice(), bob()]).await;
    assert_eq!(store.newest().await.unwrap(), None);
    deliver(&store, &alice(), &[1, 3]).await;
    deliver(&store, &bob(), &[2]).await;
    assert_eq!(store.newest().await.unwrap(), Some(id(3)));
    clear(&store, &alice(), id(3), Vec::new()).await;
    assert_eq!(store.newest().await.unwrap(), Some(id(3)));
    clear(&store, &bob(), id(7), Vec::new()).await;
    // A row that came there would be taken for done.
    assert_eq!(store.newest().await.unwrap(), Some(id(7)));
}

async fn removal_takes_messages_and_what_was_sent(store: Store) {
    make(&store, &[alice(), bob()]).await;
    deliver(&store, &alice(), &[1, 2]).await;
    write(&store, sent_by(&alice(), &bob(), id(3)))
        .await
        .unwrap();
    write(&store, sent_by(&bob(), &bob(), id(4))).await.unwrap();
    assert_eq!(sent_ids(&store, &alice(), 0).await, [id(3).0]);
    write(&store, remove(&alice())).await.unwrap();
    assert!(store.due(&alice()).await.unwrap().is_empty());
    assert!(
        store
            .messages(&alice(), ids([1, 2]))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(sent_ids(&store, &alice(), 0).await, [0; 0]);
    // What it sent to others is theirs, and theirs is as it was.
    assert_eq!(store.due(&bob()).await.unwrap(), ids([3, 4]));
    assert_eq!(sent_ids(&store, &bob(), 0).await, [id(4).0]);
    let late = write(&store, message(&alice(), id(5))).await;
    assert_eq!(late, Err(CommitError::Expect));
}

async fn rows_are_due_until_they_are_cleared(store: Store) {
    make(&store, &[alice(), bob()]).await;
    // Submitted as it came, sorted by number.
    deliver(&store, &alice(), &[1, 2, 4, 3, 5]).await;
    deliver(&store, &bob(), &[2, 6]).await;
    assert_eq!(store.due(&alice()).await.unwrap(), ids(1..=5));
    clear(&store, &alice(), id(4), ids([1, 3])).await;
    assert_eq!(store.due(&alice()).await.unwrap(), ids([1, 3, 5]));
    clear(&store, &alice(), id(5), ids([3])).await;
    assert_eq!(store.due(&alice()).await.unwrap(), ids([3]));
    deliver(&store, &alice(), &[7]).await;
    assert_eq!(store.due(&alice()).await.unwrap(), ids([3, 7]));
    clear(&store, &alice(), id(7), Vec::new()).await;
    assert!(store.due(&alice()).await.unwrap().is_empty());
    assert_eq!(store.due(&bob()).await.unwrap(), ids([2, 6]));
    assert!(store.due(&jid("eve@a.test")).await.unwrap().is_empty());
}

async fn rows_are_read_in_the_order_asked_for(store: Store) {
    make(&store, &[alice(), bob()]).await;
    deliver(&store, &alice(), &[1, 2, 3]).await;
    deliver(&store, &bob(), &[4]).await;
    let asked = ids([3, 4, 9, 1]);
    let found = store.messages(&alice(), asked).await.unwrap();
    let expected = [3, 1].map(|number| {
        let stanza = format!("<message><body>{}</body></message>", id(number));
        MessageRow {
            id: id(number),
            stanza: stanza.into(),
        }
    });
    assert_eq!(found, expected);
    // Any bytes, also none, and the greatest number there can be.
    for (id, stanza) in [(RowId(u128::MAX), &b"\0\xff'"[..]), (RowId(0), b"")] {
        let stanza = Bytes::from_static(stanza);
        let row = MessageRow { id, stanza };
        let op = WriteOp::Message {
            account: bob(),
            row: row.clone(),
            sent: None,
        };
        write(&store, op).await.unwrap();
        assert_eq!(store.messages(&bob(), vec![id]).await.unwrap(), [row]);
    }
}

async fn sent_messages_are_remembered_to_a_bound(store: Store) {
    make(&store, &[alice(), bob()]).await;
    let numbers: Vec<u64> = (1..=1001).collect();
    for some in numbers.chunks(143) {
        let ops: Ops = some
            .iter()
            .map(|&number| sent_by(&bob(), &alice(), id(number)))
            .collect();
        store.submit(ops).await.unwrap();
    }
    write(&store, message(&alice(), id(2000))).await.unwrap();
    let expected: Vec<u128> = (2..=1001).map(|number| id(number).0).collect();
    assert_eq!(sent_ids(&store, &bob(), 0).await, expected);
    assert_eq!(sent_ids(&store, &bob(), 1000).await, expected[998..]);
    assert_eq!(sent_ids(&store, &bob(), 1002).await, [0; 0]);
    assert_eq!(sent_ids(&store, &alice(), 0).await, [0; 0]);
    // Also when its recipient has it.
    clear(&store, &alice(), id(2000), Vec::new()).await;
    assert_eq!(sent_ids(&store, &bob(), 0).await, expected);
}

async fn submits_with_messages_are_all_or_nothing(store: Store) {
    make(&store, &[alice(), bob()]).await;
    let absent = jid("eve@a.test");
    let refused: Ops = smallvec![
        sent_by(&bob(), &alice(), id(1)),
        sent_by(&alice(), &bob(), id(2)),
        message(&absent, id(3)),
    ];
    assert_eq!(store.submit(refused).await, Err(CommitError::Expect));
    for account in [alice(), bob()] {
        assert!(store.due(&account).await.unwrap().is_empty());
        assert_eq!(sent_ids(&store, &account, 0).await, [0; 0]);
    }
    let good: Ops = smallvec![
        create(&absent),
        message(&absent, id(3)),
        message(&bob(), id(3))
    ];
    assert_eq!(store.submit(good).await, Ok(()));
    assert_eq!(store.due(&absent).await.unwrap(), [id(3)]);
    assert_eq!(store.due(&bob()).await.unwrap(), [id(3)]);
}

async fn watermarks_never_go_back(store: Store) {
    make(&store, &[alice()]).await;
    deliver(&store, &alice(), &[1, 2, 3]).await;
    clear(&store, &alice(), id(2), Vec::new()).await;
    clear(&store, &alice(), id(1), Vec::new()).await;
    assert_eq!(store.due(&alice()).await.unwrap(), [id(3)]);
    // One with nothing to say changes nothing.
    store.clear(Arc::new(Says(Mutex::new(None))));
    write(&store, put("after", "x", None)).await.unwrap();
    assert_eq!(store.due(&alice()).await.unwrap(), [id(3)]);
}
