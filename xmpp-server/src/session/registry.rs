//! Bare JID to account, in 64 shards: the only shared map on the hot path.
//!
//! DESIGN 5 step 3 and rule 2: there is one `Account` value for an account; an idle one is evicted
//! under its shard's write lock, with no session and no other holder. Unknown names are remembered
//! for a minute, so that a flood of them costs the store nothing; no account is made for them.

use super::account::{Account, RosterView};
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use xmpp_stream::jid::BareJid;

const SHARDS: usize = 64;
/// Accounts kept although nobody is signed in to them, over all shards (DESIGN 5 step 3).
const IDLE_MAX: usize = 10_000;
/// How long a name stays known as unknown.
const MISS_TTL: Duration = Duration::from_secs(60);

/// What is known without asking the store.
pub enum Lookup {
    /// Loaded.
    Here(Arc<Account>),
    /// Asked lately: no such account.
    Absent,
    /// The store must be asked.
    Unknown,
}

/// Loaded accounts.
pub struct Registry {
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
    /// Bound sessions of all accounts.
    pub sessions: AtomicUsize,
    tick: AtomicU64,
}

#[derive(Default)]
struct Shard {
    accounts: HashMap<BareJid, Entry>,
    misses: HashMap<BareJid, Instant>,
    /// Grows when an account is made, changed or removed in the store: a load that began before is
    /// done again.
    generation: u64,
}

struct Entry {
    account: Arc<Account>,
    used: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            sessions: AtomicUsize::new(0),
            tick: AtomicU64::new(0),
        }
    }
}

impl Registry {
    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the number of shards"
    )]
    fn shard(&self, bare: &str) -> &RwLock<Shard> {
        &self.shards[self.hasher.hash_one(bare) as usize % SHARDS]
    }

    fn read(&self, bare: &str) -> RwLockReadGuard<'_, Shard> {
        self.shard(bare)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, bare: &str) -> RwLockWriteGuard<'_, Shard> {
        self.shard(bare)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks without asking the store; `bare` is the text of a bare JID.
    pub fn get(&self, bare: &str, now: Instant) -> Lookup {
        let shard = self.read(bare);
        if let Some(entry) = shard.accounts.get(bare) {
            entry
                .used
                .store(self.tick.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            return Lookup::Here(Arc::clone(&entry.account));
        }
        match shard.misses.get(bare) {
            Some(until) if *until > now => Lookup::Absent,
            _ => Lookup::Unknown,
        }
    }

    /// A loaded account, without counting it as used: for broadcasts, which mean only who is here.
    pub fn peek(&self, bare: &str) -> Option<Arc<Account>> {
        self.read(bare)
            .accounts
            .get(bare)
            .map(|entry| Arc::clone(&entry.account))
    }

    /// The account of a name, from memory or from the store.
    ///
    /// # Errors
    /// `StoreError` when the store does not answer.
    pub async fn load(
        &self,
        store: &Store,
        jid: &BareJid,
        now: Instant,
    ) -> Result<Option<Arc<Account>>, StoreError> {
        loop {
            match self.get(jid.as_str(), now) {
                Lookup::Here(account) => return Ok(Some(account)),
                Lookup::Absent => return Ok(None),
                Lookup::Unknown => {}
            }
            let generation = self.read(jid.as_str()).generation;
            let record = store.account(jid).await?;
            let roster = match record {
                Some(_) => store.roster(jid).await?,
                None => Default::default(),
            };
            let mut shard = self.write(jid.as_str());
            if shard.generation != generation {
                continue;
            }
            let Some(record) = record else {
                shard.miss(jid, now);
                return Ok(None);
            };
            if let Some(entry) = shard.accounts.get(jid) {
                return Ok(Some(Arc::clone(&entry.account)));
            }
            shard.evict();
            let view = RosterView::new(roster.ver, roster.items);
            let account = Arc::new(Account::new(jid.clone(), record, view));
            let used = AtomicU64::new(self.tick.fetch_add(1, Ordering::Relaxed));
            shard.accounts.insert(
                jid.clone(),
                Entry {
                    account: Arc::clone(&account),
                    used,
                },
            );
            return Ok(Some(account));
        }
    }

    /// The stored record of an account was made or changed: forgets that it was unknown, and loads
    /// that are under way begin again. Gives the loaded account, whose record the caller renews.
    pub fn changed(&self, jid: &BareJid) -> Option<Arc<Account>> {
        let mut shard = self.write(jid.as_str());
        shard.generation += 1;
        shard.misses.remove(jid);
        shard
            .accounts
            .get(jid)
            .map(|entry| Arc::clone(&entry.account))
    }

    /// The account was removed from the store.
    pub fn removed(&self, jid: &BareJid) -> Option<Arc<Account>> {
        let mut shard = self.write(jid.as_str());
        shard.generation += 1;
        shard.accounts.remove(jid).map(|entry| entry.account)
    }

    /// Every loaded account.
    pub fn all(&self) -> Vec<Arc<Account>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(
                shard
                    .accounts
                    .values()
                    .map(|entry| Arc::clone(&entry.account)),
            );
        }
        all
    }
}

impl Shard {
    fn miss(&mut self, jid: &BareJid, now: Instant) {
        if self.misses.len() >= IDLE_MAX / SHARDS {
            self.misses.retain(|_, until| *until > now);
        }
        if self.misses.len() < IDLE_MAX / SHARDS {
            self.misses.insert(jid.clone(), now + MISS_TTL);
        }
    }

    /// Makes room: the older half of the idle accounts goes, once there are too many of them.
    fn evict(&mut self) {
        if self.accounts.len() < IDLE_MAX / SHARDS {
            return;
        }
        let mut idle: Vec<(u64, BareJid)> = self
            .accounts
            .iter()
            .filter(|(_, entry)| is_idle(&entry.account))
            .map(|(jid, entry)| (entry.used.load(Ordering::Relaxed), jid.clone()))
            .collect();
        if idle.len() < IDLE_MAX / SHARDS {
            return;
        }
        idle.sort_unstable_by_key(|(used, _)| *used);
        for (_, jid) in idle.iter().take(idle.len() / 2) {
            self.accounts.remove(jid);
        }
    }
}

/// No session, and no other holder: nobody can be about to bind or to change it (rule 2).
fn is_idle(account: &Arc<Account>) -> bool {
    Arc::strong_count(account) == 1 && account.lock().sessions.is_empty()
}
