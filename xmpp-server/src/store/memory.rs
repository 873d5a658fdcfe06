//! The store that is gone with the process: for tests, and for `storage.url = "memory"`.
//!
//! A submit is carried out at once, under one lock; its ticket is done when it is handed out. It
//! holds and refuses what the SQLite store does: both play the same tests. What can go wrong with a
//! store can be made to go wrong with this one (`faults`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use xmpp_stream::jid::BareJid;

use super::faults::Faults;
use super::{
    AccountRecord, Ban, Cleared, CommitError, KeyShape, KeySurvey, KvRecord, MessageRow, Ops,
    Print, RosterRecord, RosterRow, RowId, Sent, StoreError, StoreLimits, WriteOp, is_link,
    random_secret,
};
use crate::metrics::StoreCounters;

/// Everything in maps.
pub struct MemoryStore {
    kept: Arc<Kept>,
    pub(super) faults: Faults,
    closed: AtomicBool,
    counters: StoreCounters,
}

/// What outlives a crash.
#[derive(Default)]
pub(super) struct Kept {
    tables: Mutex<Tables>,
    secret: OnceLock<[u8; super::SECRET_BYTES]>,
}

#[derive(Default)]
struct Tables {
    owners: HashMap<BareJid, Owner>,
    /// Version of the last value written to a key space.
    kv_ver: u64,
    /// The greatest row id so far.
    newest: Option<RowId>,
}

/// All that belongs to one address. A clone shares the values.
#[derive(Clone, Default)]
struct Owner {
    account: Option<Arc<AccountRecord>>,
    roster_ver: u64,
    roster: BTreeMap<BareJid, RosterRow>,
    /// Removed contacts that are remembered, with the version at which each went.
    roster_removed: BTreeMap<BareJid, u64>,
    roster_forgotten: u64,
    spaces: BTreeMap<&'static str, BTreeMap<String, KvRecord>>,
    /// Due messages.
    messages: BTreeMap<RowId, MessageRow>,
    /// What the account sent lately, by what it is recognised.
    sent: VecDeque<(RowId, Print, u128)>,
}

/// An `expect` that does not hold.
struct Unexpected;

impl MemoryStore {
    pub(super) fn new(limits: &StoreLimits) -> Self {
        Self::over(Arc::default(), limits)
    }

    /// Goes on with what another one kept.
    pub(super) fn over(kept: Arc<Kept>, limits: &StoreLimits) -> Self {
        Self {
            kept,
            faults: Faults::new(limits),
            closed: AtomicBool::new(false),
            counters: StoreCounters::default(),
        }
    }

    pub(super) fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept)
    }

    pub(super) fn account(&self, jid: &BareJid) -> Option<Arc<AccountRecord>> {
        self.lock().owners.get(jid)?.account.clone()
    }

    pub(super) fn survey(&self, domain: &str) -> KeySurvey {
        let tables = self.lock();
        let of_domain = tables
            .owners
            .iter()
            .filter(|(jid, _)| jid.domain() == domain);
        let (mut accounts, mut shapes) = (0, BTreeMap::new());
        for account in of_domain.filter_map(|(_, owner)| owner.account.as_ref()) {
            accounts += 1;
            for keys in &account.keys {
                *shapes.entry(KeyShape::of(keys)).or_insert(0) += 1;
            }
        }
        let shapes = shapes.into_iter().collect();
        KeySurvey { accounts, shapes }
    }

    pub(super) fn accounts(&self, domain: Option<&str>) -> Vec<BareJid> {
        let tables = self.lock();
        let mut jids: Vec<BareJid> = tables
            .owners
            .iter()
            .filter(|(jid, owner)| {
                owner.account.is_some() && domain.is_none_or(|domain| jid.domain() == domain)
            })
            .map(|(jid, _)| jid.clone())
            .collect();
        jids.sort();
        jids
    }

    pub(super) fn roster(&self, account: &BareJid) -> RosterRecord {
        let tables = self.lock();
        let Some(owner) = tables.owners.get(account) else {
            return RosterRecord::default();
        };
        let removed = owner.roster_removed.iter();
        let mut removed: Vec<_> = removed.map(|(jid, ver)| (*ver, jid.clone())).collect();
        removed.sort();
        RosterRecord {
            ver: owner.roster_ver,
            items: owner.roster.values().cloned().collect(),
            removed,
            forgotten: owner.roster_forgotten,
        }
    }

    pub(super) fn kv(&self, space: &str, owner: &BareJid, key: &str) -> Option<KvRecord> {
        self.lock()
            .owners
            .get(owner)?
            .spaces
            .get(space)?
            .get(key)
            .cloned()
    }

    pub(super) fn kv_keys(&self, space: &str, owner: &BareJid) -> Vec<String> {
        let tables = self.lock();
        let values = tables
            .owners
            .get(owner)
            .and_then(|owner| owner.spaces.get(space));
        values
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect()
    }

    pub(super) fn secret(&self) -> Result<[u8; super::SECRET_BYTES], StoreError> {
        let made = random_secret()?;
        Ok(*self.kept.secret.get_or_init(|| made))
    }

    pub(super) fn due(&self, account: &BareJid) -> Vec<RowId> {
        let tables = self.lock();
        let owner = tables.owners.get(account);
        owner.map_or_else(Vec::new, |owner| owner.messages.keys().copied().collect())
    }

    pub(super) fn messages(&self, account: &BareJid, ids: &[RowId]) -> Vec<MessageRow> {
        let tables = self.lock();
        let Some(owner) = tables.owners.get(account) else {
            return Vec::new();
        };
        let found = ids.iter().filter_map(|id| owner.messages.get(id));
        found.cloned().collect()
    }

    /// What is committed of it.
    pub(super) fn sent_rows(&self, sender: &BareJid, since: RowId) -> Vec<(Print, u128)> {
        let tables = self.lock();
        let Some(owner) = tables.owners.get(sender) else {
            return Vec::new();
        };
        let sent = owner.sent.iter().filter(|(id, ..)| *id >= since);
        sent.map(|(_, print, stream)| (*print, *stream)).collect()
    }

    pub(super) fn links(&self) -> Vec<BareJid> {
        let tables = self.lock();
        let owners = tables.owners.iter();
        let links = owners.filter(|(jid, owner)| is_link(jid) && !owner.messages.is_empty());
        links.map(|(jid, _)| jid.clone()).collect()
    }

    pub(super) fn newest(&self) -> Option<RowId> {
        self.lock().newest
    }

    pub(super) fn commit(&self, ops: &Ops) -> Result<(), CommitError> {
        if self.is_closed() {
            return Err(CommitError::Failed);
        }
        let applied = self.lock().apply(ops);
        if applied.is_ok() {
            self.counters.committed(ops.len());
        }
        applied.map_err(|Unexpected| CommitError::Expect)
    }

    pub(super) fn set_watermark(&self, cleared: Cleared) {
        if !self.is_closed() {
            self.lock().clear(cleared);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn take_no_more(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn counters(&self) -> &StoreCounters {
        &self.counters
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        let tables = self.kept.tables.lock();
        tables.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Tables {
    /// Carries out all operations, or none.
    fn apply(&mut self, ops: &Ops) -> Result<(), Unexpected> {
        // One operation looks before it writes and needs no way back.
        if let [only] = ops.as_slice() {
            return self.apply_one(only);
        }
        let before: Vec<(BareJid, Option<Owner>)> = ops
            .iter()
            .map(|op| (op.owner().clone(), self.owners.get(op.owner()).cloned()))
            .collect();
        let done = ops.iter().try_for_each(|op| self.apply_one(op));
        if done.is_err() {
            for (jid, owner) in before {
                match owner {
                    Some(owner) => self.owners.insert(jid, owner),
                    None => self.owners.remove(&jid),
                };
            }
        }
        done
    }

    fn apply_one(&mut self, op: &WriteOp) -> Result<(), Unexpected> {
        match op {
            WriteOp::AccountCreate {
                account,
                keys,
                created,
            } => {
                ensure(self.account_mut(account).is_err())?;
                let keys = keys.iter().cloned().map(Arc::new).collect();
                let record = AccountRecord {
                    keys,
                    banned: None,
                    created: *created,
                };
                let owner = Owner {
                    account: Some(Arc::new(record)),
                    ..Owner::default()
                };
                self.owners.insert(account.clone(), owner);
            }
            WriteOp::AccountKeys { account, keys } => {
                self.account_mut(account)?.keys = keys.iter().cloned().map(Arc::new).collect();
            }
            WriteOp::AccountRemove { account } => {
                self.owners.remove(account);
            }
            WriteOp::AccountBan { account, reason } => {
                self.account_mut(account)?.banned = Some(Ban {
                    reason: reason.clone(),
                });
            }
            WriteOp::AccountUnban { account } => self.account_mut(account)?.banned = None,
            WriteOp::Roster {
                account,
                item,
                expect,
                ver,
            } => {
                let owner = self.roster_mut(account, *expect, *ver)?;
                owner.roster_removed.remove(&item.jid);
                owner.roster.insert(item.jid.clone(), item.clone());
            }
            WriteOp::RosterRemove {
                account,
                jid,
                expect,
                ver,
                remember,
                forgotten,
            } => {
                let owner = self.roster_mut(account, *expect, *ver)?;
                owner.roster.remove(jid);
                if *remember {
                    owner.roster_removed.insert(jid.clone(), *ver);
                }
                owner.roster_forgotten = *forgotten;
                owner.roster_removed.retain(|_, ver| *ver > *forgotten);
            }
            WriteOp::Message { account, row, sent } => {
                if is_link(account) {
                    self.owners.entry(account.clone()).or_default();
                }
                let owner = self.owners.get_mut(account);
                let owner = owner.filter(|owner| owner.account.is_some() || is_link(account));
                let owner = owner.ok_or(Unexpected)?;
                owner.messages.insert(row.id, row.clone());
                self.newest = self.newest.max(Some(row.id));
                if let Some(sent) = sent {
                    self.remember_sent(row.id, sent);
                }
            }
            WriteOp::Kv {
                space,
                owner,
                key,
                val,
                expect,
            } => {
                self.apply_kv(space, owner, key, val.as_ref(), *expect)?;
            }
        }
        Ok(())
    }

    fn clear(&mut self, cleared: Cleared) {
        let Cleared {
            account,
            upto,
            except,
        } = cleared;
        let owner = self.owners.get_mut(&account);
        let Some(owner) = owner.filter(|owner| owner.account.is_some()) else {
            return;
        };
        owner
            .messages
            .retain(|id, _| *id > upto || except.binary_search(id).is_ok());
        self.newest = self.newest.max(Some(upto));
    }

    fn remember_sent(&mut self, id: RowId, sent: &Sent) {
        {
            // Senders of other domains have nothing else here.
            let owner = self.owners.entry(sent.sender.clone()).or_default();
            owner.sent.push_back((id, sent.print, sent.stream));
            if owner.sent.len() > super::SENT_MAX as usize {
                owner.sent.pop_front();
            }
        }
    }

    fn account_mut(&mut self, jid: &BareJid) -> Result<&mut AccountRecord, Unexpected> {
        let account = self
            .owners
            .get_mut(jid)
            .and_then(|owner| owner.account.as_mut());
        account.map(Arc::make_mut).ok_or(Unexpected)
    }

    /// The roster to be changed, its version already the new one.
    fn roster_mut(
        &mut self,
        account: &BareJid,
        expect: Option<u64>,
        ver: u64,
    ) -> Result<&mut Owner, Unexpected> {
        let found = self.owners.get(account).map_or(0, |owner| owner.roster_ver);
        ensure(expect.is_none_or(|expect| expect == found))?;
        let owner = self.owners.entry(account.clone()).or_default();
        owner.roster_ver = ver;
        Ok(owner)
    }

    fn apply_kv(
        &mut self,
        space: &'static str,
        owner: &BareJid,
        key: &str,
        val: Option<&Bytes>,
        expect: Option<Option<u64>>,
    ) -> Result<(), Unexpected> {
        let found = self
            .owners
            .get(owner)
            .and_then(|owner| owner.spaces.get(space)?.get(key));
        let found = found.map(|record| record.ver);
        ensure(expect.is_none_or(|expect| expect == found))?;
        match val {
            Some(val) => {
                self.kv_ver += 1;
                let record = KvRecord {
                    ver: self.kv_ver,
                    val: val.clone(),
                };
                let owner = self.owners.entry(owner.clone()).or_default();
                owner
                    .spaces
                    .entry(space)
                    .or_default()
                    .insert(key.to_owned(), record);
            }
            None => {
                let owner = self.owners.get_mut(owner);
                if let Some(values) = owner.and_then(|owner| owner.spaces.get_mut(space)) {
                    values.remove(key);
                }
            }
        }
        Ok(())
    }
}

fn ensure(holds: bool) -> Result<(), Unexpected> {
    if holds { Ok(()) } else { Err(Unexpected) }
}
