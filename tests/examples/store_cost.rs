//! What a durable message costs: its row, its commit and the watermark by which it is done.
//!
//! `store_cost FOLDER ROWS_A_COMMIT ROWS`: fifty senders and recipients; CPU of the whole process
//! and of the writer's thread alone.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use xmpp_server::clock;
use xmpp_server::store::{
    Cleared, Clearing, MessageRow, Print, RowId, RowIds, Sent, Store, StoreLimits, Ticket,
    Watermark, WriteOp,
};
use xmpp_stream::jid::BareJid;

const PAIRS: usize = 50;
const IN_FLIGHT: usize = 2000;
const STANZA_BYTES: usize = 400;

/// A recipient whose client takes what was committed.
struct Account {
    jid: BareJid,
    taken: Mutex<RowId>,
    asked: AtomicU64,
}

impl Watermark for Account {
    fn cleared(&self) -> Option<Cleared> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Some(Cleared {
            account: self.jid.clone(),
            upto: *self.taken.lock().ok()?,
            except: Vec::new(),
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = |what| args.next().unwrap_or_else(|| panic!("{what} is missing"));
    let folder = PathBuf::from(next("folder"));
    let group: usize = next("rows a commit").parse().expect("a number");
    let rows: usize = next("rows").parse().expect("a number");
    let limits = StoreLimits {
        group_ops_max: group,
        ..StoreLimits::default()
    };
    let store = Store::open_sqlite(&folder.join("server.db"), &limits).expect("a new database");
    let accounts = accounts(&store).await;
    let (start, cpu) = (clock::now(), cpu());
    run(&store, &accounts, rows).await;
    let (elapsed, used) = (clock::now().duration_since(start), self::cpu());
    let marks: u64 = accounts
        .iter()
        .map(|one| one.asked.load(Ordering::Relaxed))
        .sum();
    let per_row = |before: u64, after: u64| (after - before) as f64 / 1000.0 / rows as f64;
    println!(
        "{group} rows a commit: {:.0} rows/s, us of CPU a row: {:.2} in all, {:.2} writer; {:.2} watermarks a row",
        rows as f64 / elapsed.as_secs_f64(),
        per_row(cpu.0, used.0),
        per_row(cpu.1, used.1),
        marks as f64 / rows as f64,
    );
    store.close().await;
}

async fn accounts(store: &Store) -> Vec<Arc<Account>> {
    let mut accounts = Vec::new();
    for number in 0..PAIRS {
        let jid = BareJid::parse(&format!("recipient{number}@example.org")).expect("an address");
        let create = WriteOp::AccountCreate {
            account: jid.clone(),
            keys: Vec::new(),
            created: 0,
        };
        store
            .submit([create].into_iter().collect())
            .await
            .expect("an account");
        accounts.push(Arc::new(Account {
            jid,
            taken: Mutex::new(RowId(0)),
            asked: AtomicU64::new(0),
        }));
    }
    accounts
}

async fn run(store: &Store, accounts: &[Arc<Account>], rows: usize) {
    let (numbers, stanza) = (RowIds::after(None), Bytes::from(vec![b'x'; STANZA_BYTES]));
    let senders: Vec<BareJid> = (0..PAIRS)
        .map(|number| BareJid::parse(&format!("sender{number}@example.org")).expect("an address"))
        .collect();
    let mut flying: VecDeque<(usize, RowId, Ticket)> = VecDeque::new();
    for number in 0..rows {
        let (pair, id) = (number % PAIRS, numbers.next(SystemTime::UNIX_EPOCH));
        let op = WriteOp::Message {
            account: accounts[pair].jid.clone(),
            row: MessageRow {
                id,
                stanza: stanza.clone(),
            },
            sent: Some(Box::new(Sent {
                sender: senders[pair].clone(),
                print: Print(number as u64),
                stream: pair as u128,
            })),
        };
        let permit = store.reserve(1, 1000).await.expect("room");
        let ticket = store.submit_with(permit, [op].into_iter().collect());
        flying.push_back((pair, id, ticket));
        if flying.len() >= IN_FLIGHT {
            take(store, accounts, &mut flying).await;
        }
    }
    while !flying.is_empty() {
        take(store, accounts, &mut flying).await;
    }
}

async fn take(
    store: &Store,
    accounts: &[Arc<Account>],
    flying: &mut VecDeque<(usize, RowId, Ticket)>,
) {
    let Some((pair, id, ticket)) = flying.pop_front() else {
        return;
    };
    ticket.await.expect("a commit");
    *accounts[pair].taken.lock().expect("no panic") = id;
    store.clear(Arc::clone(&accounts[pair]) as Clearing);
}

/// Nanoseconds of CPU: all threads, and the writer's.
fn cpu() -> (u64, u64) {
    let (mut all, mut writer) = (0, 0);
    for task in std::fs::read_dir("/proc/self/task")
        .expect("Linux")
        .flatten()
    {
        let read = |name: &str| std::fs::read_to_string(Path::new(&task.path()).join(name));
        let stat = read("schedstat").unwrap_or_default();
        let used: u64 = stat
            .split(' ')
            .next()
            .unwrap_or_default()
            .parse()
            .unwrap_or(0);
        all += used;
        if read("comm").unwrap_or_default().trim() == "store-writer" {
            writer = used;
        }
    }
    (all, writer)
}
