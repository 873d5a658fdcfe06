//! The group writer over a backend that is told what to do.

use std::sync::mpsc;

use bytes::Bytes;
use smallvec::smallvec;
use xmpp_stream::jid::BareJid;

use super::*;

/// A value's key says what becomes of it.
struct Scripted {
    /// What was committed: a list of keys for each transaction.
    committed: Arc<Mutex<Vec<Vec<String>>>>,
    /// Says that a commit begins, and waits until it may.
    gate: Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>,
    closed: Arc<Mutex<u32>>,
}

fn key(ops: &Ops) -> String {
    match &ops[0] {
        WriteOp::Kv { key, .. } => key.clone(),
        other => panic!("{other:?}"),
    }
}

impl Backend for Scripted {
    fn commit(&mut self, group: &[&Ops]) -> Result<Vec<Verdict>, Fault> {
        if let Some((begins, may)) = &self.gate {
            let _ = begins.send(());
            let _ = may.recv();
        }
        let keys: Vec<String> = group.iter().map(|ops| key(ops)).collect();
        assert!(!keys.contains(&"panic".to_owned()), "told to");
        if keys.contains(&"fault".to_owned()) {
            return Err(Fault);
        }
        let verdict = |key: &String| {
            if key == "unexpected" {
                Verdict::Unexpected
            } else {
                Verdict::Committed
            }
        };
        let verdicts = keys.iter().map(verdict).collect();
        self.committed.lock().unwrap().push(keys);
        Ok(verdicts)
    }

    fn close(&mut self) {
        *self.closed.lock().unwrap() += 1;
    }
}

struct Rig {
    writer: Writer,
    committed: Arc<Mutex<Vec<Vec<String>>>>,
    closed: Arc<Mutex<u32>>,
    begins: mpsc::Receiver<()>,
    /// Dropped: all further commits may go on.
    may: mpsc::Sender<()>,
}

/// A writer whose first commit, of the key `first`, has begun and is held.
fn held() -> (Rig, Ticket) {
    let (committed, closed) = (Arc::default(), Arc::default());
    let (begin, begins) = mpsc::channel();
    let (may, wait) = mpsc::channel();
    let backend = Scripted {
        committed: Arc::clone(&committed),
        gate: Some((begin, wait)),
        closed: Arc::clone(&closed),
    };
    let rig = Rig {
        writer: Writer::start(backend).unwrap(),
        committed,
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
async fn groups_are_bounded_and_submits_never_split() {
    let (rig, first) = held();
    let many: Ops = (0..300).map(|_| op("many", 0)).collect();
    let tickets = vec![
        rig.writer.submit(many.clone()),
        rig.writer.submit(many),
        rig.writer.submit(value("large", 900 << 10)),
        rig.writer.submit(value("large", 900 << 10)),
        rig.writer.submit(value("larger than a group", 3 << 20)),
        rig.writer.submit(value("last", 0)),
    ];
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    assert!(outcomes(tickets).await.iter().all(Result::is_ok));
    let expected: [&[&str]; 6] = [
        &["first"],
        &["many"],
        &["many", "large"],
        &["large"],
        &["larger than a group"],
        &["last"],
    ];
    assert_eq!(*rig.committed.lock().unwrap(), expected);
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
            assert!(tickets.len() <= QUEUE_OPS_MAX);
        }
    }
    let (rig, first) = held();
    let waiting = fill(&rig, 0);
    assert_eq!(waiting.len(), QUEUE_OPS_MAX);
    drop((rig, first, waiting));

    let (rig, first) = held();
    let waiting = fill(&rig, 1 << 20);
    assert_eq!(waiting.len(), 31);
    drop(rig.may);
    assert_eq!(first.await, Ok(()));
    assert!(outcomes(waiting).await.iter().all(Result::is_ok));
    assert_eq!(rig.writer.submit(value("again", 1 << 20)).await, Ok(()));
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
