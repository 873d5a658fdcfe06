//! The memory store under every fault that can be asked for, and bounds on both sides of each.

use std::sync::Mutex;
use std::time::Duration;

use super::messages::{Says, bob, deliver, id, ids, make, message, sent_by};
use super::*;
use crate::clock;

/// A memory store with Alice's account.
async fn memory(limits: &StoreLimits) -> (Arc<MemoryStore>, Store) {
    let Store::Memory(memory) = Store::memory_within(limits) else {
        unreachable!()
    };
    let store = Store::Memory(Arc::clone(&memory));
    make(&store, &[alice()]).await;
    (memory, store)
}

async fn default_memory() -> (Arc<MemoryStore>, Store) {
    memory(&StoreLimits::default()).await
}

fn submit(store: &Store, number: u64) -> Ticket {
    store.submit(smallvec![message(&alice(), id(number))])
}

fn done_upto(number: u64) -> Clearing {
    Arc::new(Says(Mutex::new(Some(Cleared {
        account: alice(),
        upto: id(number),
        except: Vec::new(),
    }))))
}

async fn due(store: &Store) -> Vec<RowId> {
    store.due(&alice()).await.unwrap()
}

const FAILED: Option<Result<(), CommitError>> = Some(Err(CommitError::Failed));

#[tokio::test(start_paused = true)]
async fn so_many_submits_fail_and_no_more() {
    let (memory, store) = default_memory().await;
    memory.fail_next(2);
    let outcomes = [1, 2, 3].map(|number| submit(&store, number).outcome());
    assert_eq!(outcomes, [FAILED, FAILED, Some(Ok(()))]);
    assert_eq!(due(&store).await, [id(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_until_there_is_space() {
    let (memory, store) = default_memory().await;
    deliver(&store, &alice(), &[1]).await;
    memory.set_full(true);
    assert_eq!(submit(&store, 2).outcome(), FAILED);
    store.clear(done_upto(1));
    assert_eq!(due(&store).await, [id(1)]);
    // What is there is read; a watermark is not given up.
    memory.set_full(false);
    assert!(due(&store).await.is_empty());
    assert_eq!(submit(&store, 3).outcome(), Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_takes_its_time_in_order() {
    let (memory, store) = default_memory().await;
    let (start, delay) = (clock::now(), Duration::from_secs(3));
    memory.set_delay(Some(delay));
    let slow = submit(&store, 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    let slower = submit(&store, 2);
    memory.set_delay(None);
    let behind = submit(&store, 3);
    assert!(!slow.is_done() && !behind.is_done());
    assert_eq!(slow.await, Ok(()));
    assert_eq!(clock::now().duration_since(start), delay);
    assert_eq!(due(&store).await, [id(1)]);
    assert_eq!(behind.await, Ok(()));
    assert_eq!(slower.outcome(), Some(Ok(())));
    assert_eq!(
        clock::now().duration_since(start),
        delay + Duration::from_secs(1)
    );
    assert_eq!(submit(&store, 4).outcome(), Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_lets_tickets_run_out_and_writes_later() {
    let limits = StoreLimits {
        ticket_max: Duration::from_secs(2),
        ..StoreLimits::default()
    };
    let (memory, store) = memory(&limits).await;
    memory.hold();
    let (ticket, start) = (submit(&store, 1), clock::now());
    let view = ticket.view();
    assert_eq!(ticket.await, Err(CommitError::TimedOut));
    assert_eq!(clock::now().duration_since(start), limits.ticket_max);
    let error = store.sent(&alice(), id(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::TimedOut), "{error:?}");
    assert!(due(&store).await.is_empty());
    assert_eq!(view.outcome(), None);
    memory.release();
    assert_eq!(view.settled().await, Ok(()));
    assert_eq!(due(&store).await, [id(1)]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_settled_one_by_one() {
    let (memory, store) = default_memory().await;
    memory.hold();
    let tickets = [1, 2, 3].map(|number| submit(&store, number));
    store.clear(done_upto(1));
    assert_eq!(memory.settle(1, false), 2);
    // A watermark travels with what is committed.
    assert_eq!(memory.settle(1, true), 1);
    let outcomes = tickets.each_ref().map(Ticket::outcome);
    assert_eq!(outcomes, [FAILED, Some(Ok(())), None]);
    assert_eq!(due(&store).await, [id(2)]);
    memory.release();
    assert_eq!(tickets[2].outcome(), Some(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_crash_keeps_what_was_committed_and_tells_nobody() {
    for (crash, kept) in [
        (Crash::BeforeCommit, ids([1, 2])),
        (Crash::AfterCommit, ids([1, 2, 3])),
    ] {
        let (memory, store) = default_memory().await;
        let secret = store.secret().await.unwrap();
        deliver(&store, &alice(), &[1]).await;
        memory.crash_at(2, crash);
        let tickets = [2, 3, 4].map(|number| submit(&store, number));
        memory.crashed().await;
        let outcomes = tickets.each_ref().map(Ticket::outcome);
        assert_eq!(outcomes, [Some(Ok(())), None, None], "{crash:?}");
        store.clear(done_upto(1));
        assert!(store.reserve(1, 1).await.is_none());
        let next = memory.reopen();
        assert_eq!(due(&next).await, kept, "{crash:?}");
        assert_eq!(next.newest().await.unwrap(), kept.last().copied());
        assert_eq!(next.secret().await.unwrap(), secret);
        // The dead one writes nothing into what the living one keeps.
        assert_eq!(submit(&next, 5).outcome(), Some(Ok(())));
        assert_eq!(submit(&store, 6).outcome(), None);
        assert_eq!(next.messages(&alice(), ids([5, 6])).await.unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_takes_what_waits() {
    let (memory, store) = default_memory().await;
    deliver(&store, &alice(), &[1]).await;
    memory.hold();
    let ticket = submit(&store, 2);
    store.clear(done_upto(1));
    let next = memory.reopen();
    assert_eq!(memory.settle(9, true), 0);
    memory.release();
    assert_eq!(due(&next).await, [id(1)]);
    assert_eq!(ticket.await, Err(CommitError::TimedOut));
    // It is whole: removal and what was sent as ever.
    write(&next, sent_by(&alice(), &alice(), id(7)))
        .await
        .unwrap();
    assert_eq!(next.sent(&alice(), id(0)).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_has_the_bounds_of_the_other() {
    let limits = StoreLimits {
        ops_max: 4,
        ticket_max: Duration::from_secs(2),
        ..StoreLimits::default()
    };
    let (memory, store) = memory(&limits).await;
    memory.hold();
    let permit = store.try_reserve(2, 100).unwrap();
    let first: Vec<Ticket> = [1, 2].map(|number| submit(&store, number)).into();
    assert_eq!(submit(&store, 3).outcome(), FAILED);
    assert!(store.try_reserve(1, 0).is_none());
    let start = clock::now();
    assert!(store.reserve(1, 0).await.is_none());
    assert_eq!(clock::now().duration_since(start), limits.ticket_max);
    let with = store.submit_with(permit, smallvec![message(&alice(), id(4))]);
    assert!(!with.is_done());
    // One of the two was not needed.
    let last = submit(&store, 5);
    assert_eq!(submit(&store, 6).outcome(), FAILED);
    memory.release();
    assert_eq!([with.outcome(), last.outcome()], [Some(Ok(())); 2]);
    assert!(first.iter().all(Ticket::is_done));
    assert!(store.reserve(4, 0).await.is_some());
    assert_eq!(due(&store).await, ids([1, 2, 4, 5]));
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_is_slow() {
    let (memory, store) = default_memory().await;
    make(&store, &[bob()]).await;
    memory.set_delay(Some(Duration::from_secs(1)));
    let slow = submit(&store, 1);
    store.clear(done_upto(0));
    store.close().await;
    assert_eq!(slow.outcome(), Some(Ok(())));
    assert_eq!(submit(&store, 2).outcome(), FAILED);
    let error = store.sent(&alice(), id(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Closed), "{error:?}");
    // Whoever starts again over the same store finds it open.
    assert_eq!(submit(&memory.reopen(), 3).outcome(), Some(Ok(())));
}
