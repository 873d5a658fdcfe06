//! The group writer over a backend that is told what to do.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use smallvec::smallvec;
use xmpp_stream::jid::BareJid;

use super::super::{RowId, Watermark};
use super::*;

/// A value's key says what becomes of it.
struct Scripted {
    /// What was committed: a list of keys for each transaction, then its watermarks as `^upto`.
    committed: Committed,
    /// So many transactions with watermarks fail, and are counted here.
    clear_faults: Arc<AtomicU32>,
    /// Says that a commit begins, and waits until it may.
    gate: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
    closed: Arc<Mutex<u32>>,
}

type Committed = Arc<Mutex<Vec<Vec<String>>>>;

fn key(ops: &Ops) -> String {
    match ops.first() {
        Some(WriteOp::Kv { key, .. }) => key.clone(),
        Some(other) => panic!("{other:?}"),
        None => "barrier".to_owned(),
    }
}

impl Backend for Scripted {
    fn commit(&mut self, group: &[&Ops], cleared: &[Cleared]) -> Result<Vec<Verdict>, Fault> {
        if let Some((begins, may)) = &self.gate {
            let _ = begins.send(());
            let _ = may.recv();
        }
        let mut keys: Vec<String> = group.iter().map(|ops| key(ops)).collect();
        assert!(!keys.contains(&"panic".to_owned()), "told to");
        if keys.contains(&"fault".to_owned()) {
            return Err(Fault::Group);
        }
        if keys.contains(&"down".to_owned()) {
            return Err(Fault::Store);
        }
        let faults = self.clear_faults.load(Ordering::SeqCst);
        if !cleared.is_empty() && faults > 0 {
            self.clear_faults.store(faults - 1, Ordering::SeqCst);
            return Err(Fault::Group);
        }
        let verdict = |key: &String| {
            if key == "unexpected" {
                Verdict::Unexpected
            } else {
                Verdict::Committed
            }
        };
        let verdicts = keys.iter().map(verdict).collect();
        keys.extend(cleared.iter().map(|cleared| format!("^{}", cleared.upto.0)));
        self.committed.lock().unwrap().push(keys);
        Ok(verdicts)
    }

    fn tidy(&mut self) -> bool {
        false
    }

    fn close(&mut self) {
        *self.closed.lock().unwrap() += 1;
    }
}

struct Rig {
    writer: Writer,
    committed: Committed,
    clear_faults: Arc<AtomicU32>,
    closed: Arc<Mutex<u32>>,
    begins: mpsc::Receiver<()>,
    /// Dropped: all further commits may go on.
    may: mpsc::Sender<()>,
}

/// A writer whose first commit, of the key `first`, has begun and is held.
fn held() -> (Rig, Ticket) {
    held_within(&StoreLimits::default())
}

fn held_within(limits: &StoreLimits) -> (Rig, Ticket) {
    let (committed, clear_faults) = (Committed::default(), Arc::<AtomicU32>::default());
    let closed = Arc::default();
    let (begin, begins) = mpsc::channel();
    let (may, wait) = mpsc::channel();
    let backend = Scripted {
        committed: Arc::clone(&committed),
        clear_faults: Arc::clone(&clear_faults),
        gate: Some((begin, wait)),
        closed: Arc::clone(&closed),
    };
    let rig = Rig {
        writer: Writer::start(backend, limits).unwrap(),
        committed,
        clear_faults,
        closed,
        begins,
        may,
    };
    let first = rig.writer.submit(value("first", 0));
    rig.begins.recv().unwrap();
    (rig, first)
}

fn value(key: &str, bytes: usize) -> Ops {
    smallvec![op(key, bytes)]
}

fn op(key: &str, bytes: usize) -> WriteOp {
    WriteOp::Kv {
        space: "test",
        owner: owner(),
        key: key.to_owned(),
        val: Some(Bytes::from(vec![0; bytes])),
        expect: None,
    }
}

fn owner() -> BareJid {
    BareJid::parse("alice@a.test").unwrap()
}

async fn outcomes(tickets: Vec<Ticket>) -> Vec<Result<(), CommitError>> {
    let mut outcomes = Vec::new();
    for ticket in tickets {
        outcomes.push(ticket.await);
    }
    outcomes
}

#[tokio::test]
async fn what_waits_during_a_commit_is_the_next_group() {
    let (rig, first) = held();
    let tickets: Vec<Ticket> = ["a", "unexpected", "b"]
        .map(|key| rig.writer.submit(value(key, 0)))
        .into();
    assert!(!first.is_done() && tickets.iter().all(|ticket| !ticket.is_done()));
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    assert_eq!(
        outcomes(tickets).await,
        [Ok(()), Err(CommitError::Expect), Ok(())]
    );
    let expected: [&[&str]; 2] = [&["first"], &["a", "unexpected", "b"]];
    assert_eq!(*rig.committed.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_group_that_fails_is_tried_one_submit_at_a_time() {
    let (rig, first) = held();
    let tickets = ["a", "fault", "unexpected", "b"].map(|key| rig.writer.submit(value(key, 0)));
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    let expected = [
        Ok(()),
        Err(CommitError::Failed),
        Err(CommitError::Expect),
        Ok(()),
    ];
    assert_eq!(outcomes(tickets.into()).await, expected);
    let expected: [&[&str]; 4] = [&["first"], &["a"], &["unexpected"], &["b"]];
    assert_eq!(*rig.committed.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_store_that_is_down_is_not_asked_for_each_submit() {
    let (rig, first) = held();
    let tickets = ["a", "down", "b"].map(|key| rig.writer.submit(value(key, 0)));
    let barrier = rig.writer.barrier();
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    assert_eq!(
        outcomes(tickets.into()).await,
        [Err(CommitError::Failed); 3]
    );
    // What was in front of it is settled.
    assert_eq!(barrier.await, Ok(()));
    assert_eq!(rig.begins.try_iter().count(), 1);
    let expected: [&[&str]; 1] = [&["first"]];
    assert_eq!(*rig.committed.lock().unwrap(), expected);
}

#[tokio::test]
async fn groups_are_bounded_and_submits_never_split() {
    let (rig, first) = held();
    let limits = StoreLimits::default();
    let many = |count| -> Ops { (0..count).map(|_| op("many", 0)).collect() };
    let (ops_max, overhead) = (limits.group_ops_max, size_of::<WriteOp>() + "half".len());
    let half = limits.group_bytes_max / 2 - overhead;
    let tickets = vec![
        // Just so many operations, then one more than fits.
        rig.writer.submit(many(ops_max - 1)),
        rig.writer.submit(value("fits", 0)),
        rig.writer.submit(many(ops_max)),
        rig.writer.submit(value("more", 0)),
        rig.writer.submit(many(ops_max)),
        // Just so many bytes, then one more than fits.
        rig.writer.submit(value("half", half)),
        rig.writer.submit(value("half", half)),
        rig.writer.submit(value("half", half)),
        rig.writer.submit(value("half", half + 1)),
        rig.writer.submit(value("larger than a group", 3 << 20)),
        rig.writer.submit(value("last", 0)),
    ];
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    assert!(outcomes(tickets).await.iter().all(Result::is_ok));
    let expected: [&[&str]; 9] = [
        &["first"],
        &["many", "fits"],
        &["many"],
        &["more"],
        &["many"],
        &["half", "half"],
        &["half"],
        &["half"],
        &["larger than a group"],
    ];
    let committed = rig.committed.lock().unwrap();
    assert_eq!(committed[..9], expected);
    assert_eq!(committed[9..], [["last"]]);
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_drained() {
    #[track_caller]
    fn fill(rig: &Rig, bytes: usize) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        loop {
            let ticket = rig.writer.submit(value("x", bytes));
            if let Some(outcome) = ticket.outcome() {
                assert_eq!(outcome, Err(CommitError::Failed));
                return tickets;
            }
            tickets.push(ticket);
            assert!(tickets.len() <= 8192);
        }
    }
    let (rig, first) = held();
    let waiting = fill(&rig, 0);
    // What is being written counts as well.
    assert_eq!(waiting.len(), 8192 - 1);
    drop((rig, first, waiting));

    let (rig, first) = held();
    let waiting = fill(&rig, 1 << 20);
    assert_eq!(waiting.len(), 31);
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    assert!(outcomes(waiting).await.iter().all(Result::is_ok));
    rig.writer.barrier().await.unwrap();
    assert_eq!(rig.writer.submit(value("again", 1 << 20)).await, Ok(()));
}

#[tokio::test]
async fn who_has_room_is_taken_when_others_are_refused() {
    let limits = StoreLimits {
        ops_max: 4,
        ..StoreLimits::default()
    };
    let (rig, first) = held_within(&limits);
    let permit = rig.writer.room().try_reserve(3, 0).unwrap();
    assert!(rig.writer.room().try_reserve(1, 0).is_none());
    let refused = rig.writer.submit(value("refused", 0));
    assert_eq!(refused.outcome(), Some(Err(CommitError::Failed)));
    // One operation was needed: room for two comes back at once.
    let taken = rig.writer.submit_with(permit, value("taken", 0));
    let second = rig
        .writer
        .submit(smallvec![op("second", 0), op("third", 0)]);
    assert!(!taken.is_done() && !second.is_done());
    let refused = rig.writer.submit(value("refused", 0));
    assert_eq!(refused.outcome(), Some(Err(CommitError::Failed)));
    // Whoever waits gets room by the commit.
    let room = rig.writer.room().clone();
    let waiting = tokio::spawn(async move { room.reserve(4, 0).await.is_some() });
    drop(rig.may);
    assert!(waiting.await.unwrap());
    assert_eq!(outcomes(vec![first, taken, second]).await, [Ok(()); 3]);
}

#[tokio::test]
async fn closing_writes_what_waits_and_refuses_the_rest() {
    let (rig, first) = held();
    let waiting = rig.writer.submit(value("waiting", 0));
    rig.writer.shared.close();
    assert_eq!(
        rig.writer.submit(value("late", 0)).await,
        Err(CommitError::Failed)
    );
    drop(rig.may);
    rig.writer.close().await;
    rig.writer.close().await;
    assert_eq!([first.outcome(), waiting.outcome()], [Some(Ok(())); 2]);
    assert_eq!(*rig.closed.lock().unwrap(), 1);
}

#[tokio::test]
async fn no_ticket_outlives_a_writer_that_died() {
    let (rig, first) = held();
    let tickets = ["panic", "beside", "behind"].map(|key| rig.writer.submit(value(key, 0)));
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    assert_eq!(
        outcomes(tickets.into()).await,
        [Err(CommitError::Failed); 3]
    );
    rig.writer.close().await;
    assert_eq!(
        rig.writer.submit(value("late", 0)).await,
        Err(CommitError::Failed)
    );
}

#[tokio::test]
async fn dropping_the_writer_ends_its_thread_after_the_last_write() {
    let (rig, first) = held();
    let waiting = rig.writer.submit(value("waiting", 0));
    let mut ended = rig.writer.ended.clone();
    drop(rig.writer);
    drop(rig.may);
    assert!(ended.changed().await.is_err());
    assert_eq!(outcomes(vec![first, waiting]).await, [Ok(()); 2]);
}

/// An account whose watermark rises by one each time that somebody asks.
#[derive(Default)]
struct Rising {
    asked: AtomicU32,
    silent: bool,
}

impl Watermark for Rising {
    fn cleared(&self) -> Option<Cleared> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        (!self.silent).then(|| Cleared {
            account: owner(),
            upto: RowId(asked.into()),
            except: Vec::new(),
        })
    }
}

#[tokio::test]
async fn watermarks_travel_with_the_next_group_each_once() {
    let (rig, first) = held();
    let (busy, silent) = (
        Arc::<Rising>::default(),
        Rising {
            silent: true,
            ..Rising::default()
        },
    );
    let clearing: Clearing = Arc::clone(&busy) as Clearing;
    for _ in 0..5 {
        rig.writer.clear(Arc::clone(&clearing));
    }
    rig.writer.clear(Arc::new(silent));
    let next = rig.writer.submit(value("next", 0));
    // Nobody is asked before its turn: more may be taken until then.
    assert_eq!(busy.asked.load(Ordering::SeqCst), 0);
    drop(rig.may);
    assert_eq!(outcomes(vec![first, next]).await, [Ok(()); 2]);
    let expected: [&[&str]; 2] = [&["first"], &["next", "^1"]];
    assert_eq!(*rig.committed.lock().unwrap(), expected);
    // Once it has been asked it can be listed again.
    rig.writer.clear(clearing);
    rig.writer.close().await;
    assert_eq!(rig.committed.lock().unwrap()[2..], [["^2"]]);
}

#[tokio::test]
async fn a_watermark_that_no_group_takes_along_goes_alone() {
    let (rig, first) = held();
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    let start = clock::now();
    rig.writer.clear(Arc::<Rising>::default());
    // The next commit to begin.
    rig.begins.recv().unwrap();
    let waited = clock::now().duration_since(start);
    assert!(waited >= Duration::from_millis(100), "{waited:?}");
    rig.writer.barrier().await.unwrap();
    assert_eq!(rig.committed.lock().unwrap()[1..], [["^1"]]);
}

#[tokio::test]
async fn watermarks_are_tried_again_and_nobody_fails_with_them() {
    let (rig, first) = held();
    rig.clear_faults.store(2, Ordering::SeqCst);
    rig.writer.clear(Arc::<Rising>::default());
    let next = rig.writer.submit(value("next", 0));
    let start = clock::now();
    drop(rig.may);
    assert_eq!(outcomes(vec![first, next]).await, [Ok(()); 2]);
    // The next group does not meet them, nor does anybody in a hot loop.
    assert_eq!(rig.writer.submit(value("later", 0)).await, Ok(()));
    assert_eq!(rig.clear_faults.load(Ordering::SeqCst), 1);
    // Group, alone, "later", and two tries more.
    let begun: Vec<()> = rig.begins.iter().take(5).collect();
    assert_eq!(begun.len(), 5);
    assert!(clock::now().duration_since(start) >= 2 * CLEAR_RETRY);
    rig.writer.close().await;
    let expected: [&[&str]; 4] = [&["first"], &["next"], &["later"], &["^1"]];
    assert_eq!(*rig.committed.lock().unwrap(), expected);
}

#[tokio::test]
async fn closing_writes_all_watermarks_or_gives_up() {
    for faults in [0, 1, u32::MAX] {
        let (rig, first) = held();
        rig.clear_faults.store(faults, Ordering::SeqCst);
        let count = CLEARS_MAX + 1;
        let accounts: Vec<Clearing> = (0..count).map(|_| Arc::<Rising>::default() as _).collect();
        accounts
            .iter()
            .for_each(|one| rig.writer.clear(Arc::clone(one)));
        rig.writer.shared.close();
        drop(rig.may);
        rig.writer.close().await;
        assert_eq!(first.await, Ok(()));
        let written = rig.committed.lock().unwrap()[1..].concat();
        let expected = if faults == u32::MAX { 0 } else { count };
        assert_eq!(written.len(), expected, "{faults}");
    }
}
