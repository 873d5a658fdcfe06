//! Bare JID to account, in 64 shards: the only shared map on the hot path.
//!
//! DESIGN 5 step 3 and rule 2: there is one `Account` value for an account; an idle one is evicted
//! under its shard's write lock, with no session and no other holder. Unknown names are remembered
//! for a minute, so that a flood of them costs the store nothing; no account is made for them.

use super::account::{Account, LEFT_KEY, LEFT_SPACE, RosterView};
use crate::limits::Limits;
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use xmpp_stream::jid::BareJid;

const SHARDS: usize = 64;

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
    /// Idle accounts kept, and unknown names remembered, a shard.
    shard_max: usize,
    miss_kept: Duration,
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

impl Registry {
    /// Nobody loaded yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
            sessions: AtomicUsize::new(0),
            tick: AtomicU64::new(0),
            shard_max: limits.accounts_cached_max.div_ceil(SHARDS),
            miss_kept: limits.account_miss_kept,
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

    /// Number of loaded accounts.
    pub fn len(&self) -> usize {
        let shards = self.shards.iter();
        let read = shards.map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        read.map(|shard| shard.accounts.len()).sum()
    }

    /// True when no account is loaded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every loaded account, for operators; one shard is locked at a time.
    pub fn all(&self) -> Vec<Arc<Account>> {
        let shards = self.shards.iter();
        let read = shards.map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        read.flat_map(|shard| {
            let accounts = shard.accounts.values();
            accounts
                .map(|entry| Arc::clone(&entry.account))
                .collect::<Vec<_>>()
        })
        .collect()
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
            let loaded = store.load(jid, LEFT_SPACE, LEFT_KEY).await?;
            let mut shard = self.write(jid.as_str());
            if shard.generation != generation {
                continue;
            }
            let Some(record) = loaded.record else {
                shard.miss(jid, now, now + self.miss_kept, self.shard_max);
                return Ok(None);
            };
            if let Some(entry) = shard.accounts.get(jid) {
                return Ok(Some(Arc::clone(&entry.account)));
            }
            shard.evict(self.shard_max);
            let view = RosterView::new(RosterView::epoch_of(&record), loaded.roster);
            let account = Arc::new(Account::new(jid.clone(), record, view, loaded.due));
            if let Some(left) = loaded.value {
                account.set_left(&left.val);
            }
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

    /// The loaded accounts of a domain.
    pub fn of_domain(&self, domain: &str) -> Vec<Arc<Account>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let all = shard.accounts.values().map(|entry| &entry.account);
            found.extend(
                all.filter(|account| account.jid.domain() == domain)
                    .cloned(),
            );
        }
        found
    }

    /// The account was removed from the store.
    pub fn removed(&self, jid: &BareJid) -> Option<Arc<Account>> {
        let mut shard = self.write(jid.as_str());
        shard.generation += 1;
        shard.accounts.remove(jid).map(|entry| entry.account)
    }
}

impl Shard {
    fn miss(&mut self, jid: &BareJid, now: Instant, until: Instant, max: usize) {
        if self.misses.len() >= max {
            self.misses.retain(|_, until| *until > now);
        }
        if self.misses.len() < max {
            self.misses.insert(jid.clone(), until);
        }
    }

    /// Makes room: the older half of the idle accounts goes, once there are too many of them.
    fn evict(&mut self, max: usize) {
        if self.accounts.len() < max {
            return;
        }
        let mut idle: Vec<(u64, BareJid)> = self
            .accounts
            .iter()
            .filter(|(_, entry)| is_idle(&entry.account))
            .map(|(jid, entry)| (entry.used.load(Ordering::Relaxed), jid.clone()))
            .collect();
        if idle.len() < max {
            return;
        }
        idle.sort_unstable_by_key(|(used, _)| *used);
        for (_, jid) in idle.iter().take(idle.len() / 2) {
            self.accounts.remove(jid);
        }
    }
}

/// No session, no write on its way and no other holder: nobody can be about to bind or to change it
/// (rule 2).
fn is_idle(account: &Arc<Account>) -> bool {
    if Arc::strong_count(account) > 1 {
        return false;
    }
    let state = account.lock();
    state.sessions.is_empty() && state.due.is_settled()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::WriteOp;
    use smallvec::smallvec;

    fn jid(local: &str) -> BareJid {
        BareJid::account(local, "a.test").unwrap()
    }

    async fn make(store: &Store, local: &str) {
        let (account, keys, created) = (jid(local), Vec::new(), 0);
        store
            .submit(smallvec![WriteOp::AccountCreate {
                account,
                keys,
                created
            }])
            .await
            .unwrap();
    }

    fn small(accounts_cached_max: usize) -> Registry {
        Registry::new(&Limits {
            accounts_cached_max,
            ..Limits::default()
        })
    }

    #[tokio::test]
    async fn an_account_is_one_value_while_anybody_holds_it() {
        let (store, registry) = (Store::memory(), small(SHARDS));
        let now = crate::clock::now();
        for number in 0..400 {
            make(&store, &format!("u{number}")).await;
        }
        let held = registry
            .load(&store, &jid("u0"), now)
            .await
            .unwrap()
            .unwrap();
        for number in 1..400 {
            registry
                .load(&store, &jid(&format!("u{number}")), now)
                .await
                .unwrap()
                .unwrap();
        }
        let again = registry
            .load(&store, &jid("u0"), now)
            .await
            .unwrap()
            .unwrap();
        assert!(Arc::ptr_eq(&held, &again));
        let kept = (0..400)
            .filter(|n| registry.peek(&format!("u{n}@a.test")).is_some())
            .count();
        assert!(kept < 400, "idle accounts make room: {kept}");
    }

    #[tokio::test]
    async fn unknown_names_are_remembered_until_one_is_made() {
        let (store, registry) = (Store::memory(), small(SHARDS * 4));
        let (now, zed) = (crate::clock::now(), jid("zed"));
        assert!(registry.load(&store, &zed, now).await.unwrap().is_none());
        assert!(matches!(registry.get(zed.as_str(), now), Lookup::Absent));
        let later = now + registry.miss_kept;
        assert!(matches!(registry.get(zed.as_str(), later), Lookup::Unknown));
        make(&store, "zed").await;
        assert!(registry.changed(&zed).is_none());
        assert!(registry.load(&store, &zed, now).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn misses_of_a_flood_are_bounded() {
        let (store, registry) = (Store::memory(), small(SHARDS));
        let now = crate::clock::now();
        for number in 0..2000 {
            registry
                .load(&store, &jid(&format!("n{number}")), now)
                .await
                .unwrap();
        }
        let shards = registry.shards.iter();
        assert!(
            shards
                .map(|shard| shard.read().unwrap().misses.len())
                .all(|len| len <= 1)
        );
    }
}
