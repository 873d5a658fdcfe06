//! The growing delay of logins after wrong passwords, per account and address.
//!
//! DESIGN 9. The pair counts whether or not there is such an account, so a delay tells nothing. It
//! is waited before the next attempt is looked at, from the last failure on: who types slowly
//! waits for nothing. Entries are few bytes each, and the least recently used one makes room.

use crate::limits::Limits;
use crate::listener::counted;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use xmpp_stream::jid::BareJid;

/// Wrong passwords lately, by account and address.
#[derive(Debug)]
pub struct LoginDelays {
    first: Duration,
    max: Duration,
    kept: Duration,
    entries_max: usize,
    loopback_exempt: bool,
    /// A pair is kept as its hash under random keys: nobody can aim at a collision.
    hasher: RandomState,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    /// Keys by age: the number of their last failure.
    order: BTreeMap<u64, u64>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    last: Instant,
    number: u64,
}

impl LoginDelays {
    /// An empty table.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            first: limits.login_delay,
            max: limits.login_delay_max,
            kept: limits.login_delay_kept,
            entries_max: limits.login_delay_entries_max,
            loopback_exempt: limits.loopback_exempt,
            hasher: RandomState::new(),
            table: Mutex::default(),
        }
    }

    /// Lets an attempt through, one at a time after a failure: many connections that guess at once wait
    /// for one another.
    ///
    /// # Errors
    /// Until when to wait before asking again.
    pub fn admit(&self, account: &BareJid, peer: IpAddr, now: Instant) -> Result<(), Instant> {
        let Some(key) = self.key(account, peer) else {
            return Ok(());
        };
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(&key) else {
            return Ok(());
        };
        let until = entry.last + self.delay(entry.failures);
        if entry.last + self.kept > now && until > now {
            return Err(until);
        }
        entry.last = now;
        Ok(())
    }

    /// A password was wrong.
    pub fn failed(&self, account: &BareJid, peer: IpAddr, now: Instant) {
        let Some(key) = self.key(account, peer) else {
            return;
        };
        let mut table = self.lock();
        table.forget(self.kept, now);
        let before = table.remove(key).map_or(0, |entry| entry.failures);
        if table.entries.len() >= self.entries_max {
            table.remove_oldest();
        }
        if self.entries_max > 0 {
            table.insert(key, before.saturating_add(1), now);
        }
    }

    /// A password was right.
    pub fn succeeded(&self, account: &BareJid, peer: IpAddr) {
        if let Some(key) = self.key(account, peer) {
            self.lock().remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: this peer is not counted.
    fn key(&self, account: &BareJid, peer: IpAddr) -> Option<u64> {
        let network = counted(peer, self.loopback_exempt)?;
        Some(self.hasher.hash_one((account.as_str(), network)))
    }

    /// The first delay, doubled with each further failure, up to the longest.
    fn delay(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1));
        let delay = self.first.checked_mul(doubled.unwrap_or(u32::MAX));
        delay.unwrap_or(self.max).min(self.max)
    }
}

impl Table {
    fn insert(&mut self, key: u64, failures: u32, last: Instant) {
        let number = self.next;
        self.next += 1;
        self.order.insert(number, key);
        let entry = Entry {
            failures,
            last,
            number,
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: u64) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.order.remove(&entry.number);
        Some(entry)
    }

    fn remove_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.entries.remove(&key);
        }
    }

    /// What is too old goes; oldest first, so this looks at one entry more than it removes.
    fn forget(&mut self, kept: Duration, now: Instant) {
        while let Some((_, key)) = self.order.first_key_value() {
            let old = self.entries.get(key);
            if old.is_some_and(|entry| entry.last + kept > now) {
                return;
            }
            self.remove_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn table(entries_max: usize, loopback_exempt: bool) -> LoginDelays {
        LoginDelays::new(&Limits {
            login_delay: SECOND,
            login_delay_max: 6 * SECOND,
            login_delay_kept: 60 * SECOND,
            login_delay_entries_max: entries_max,
            loopback_exempt,
            ..Limits::default()
        })
    }

    fn jid(local: &str) -> BareJid {
        BareJid::account(local, "a.test").unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(delays: &LoginDelays, local: &str, peer: &str, now: Instant, seconds: Option<u32>) {
        let until = delays.admit(&jid(local), ip(peer), now).err();
        assert_eq!(until, seconds.map(|s| now + s * SECOND), "{local} {peer}");
    }

    #[test]
    fn c6120_lm_07_delays_double_up_to_the_longest_and_end_with_a_success() {
        let (delays, now) = (table(100, true), crate::clock::now());
        let (ann, peer) = (jid("ann"), "192.0.2.1");
        check(&delays, "ann", peer, now, None);
        for seconds in [1, 2, 4, 6, 6] {
            delays.failed(&ann, ip(peer), now);
            check(&delays, "ann", peer, now, Some(seconds));
        }
        // Counted from the failure, not from the next attempt.
        check(&delays, "ann", peer, now + 5 * SECOND, Some(1));
        check(&delays, "ann", peer, now + 6 * SECOND, None);
        delays.succeeded(&ann, ip(peer));
        check(&delays, "ann", peer, now, None);
        for _ in 0..100 {
            delays.failed(&ann, ip(peer), now);
        }
        check(&delays, "ann", peer, now, Some(6));
    }

    /// Sixty connections that guessed at once had sixty guesses each time the delay ended.
    #[test]
    fn c6120_lm_07_attempts_side_by_side_go_one_by_one() {
        let (delays, now) = (table(100, true), crate::clock::now());
        delays.failed(&jid("ann"), ip("192.0.2.1"), now);
        let later = now + SECOND;
        check(&delays, "ann", "192.0.2.1", later, None);
        check(&delays, "ann", "192.0.2.1", later, Some(1));
        check(&delays, "ann", "192.0.2.1", later + SECOND, None);
    }

    #[test]
    fn only_the_same_account_from_the_same_network_waits() {
        let (delays, now) = (table(100, true), crate::clock::now());
        delays.failed(&jid("ann"), ip("2001:db8::1"), now);
        delays.failed(&jid("ann"), ip("192.0.2.1"), now);
        check(&delays, "ann", "2001:db8::ffff:1", now, Some(1));
        check(&delays, "ann", "2001:db8:0:1::1", now, None);
        check(&delays, "ben", "192.0.2.1", now, None);
        check(&delays, "ann", "192.0.2.2", now, None);
    }

    #[test]
    fn loopback_is_exempt_unless_configured() {
        let now = crate::clock::now();
        for (exempt, seconds) in [(true, None), (false, Some(1))] {
            let delays = table(100, exempt);
            delays.failed(&jid("ann"), ip("127.0.0.1"), now);
            check(&delays, "ann", "127.0.0.1", now, seconds);
        }
    }

    #[test]
    fn entries_are_forgotten_and_bounded() {
        let (delays, now) = (table(2, true), crate::clock::now());
        let peer = "192.0.2.1";
        for (local, at) in [("ann", 0), ("ben", 1), ("ann", 2), ("cat", 3)] {
            delays.failed(&jid(local), ip(peer), now + at * SECOND);
        }
        // ben is the one not used for longest.
        let at = now + 3 * SECOND;
        check(&delays, "ben", peer, at, None);
        check(&delays, "cat", peer, at, Some(1));
        assert!(delays.admit(&jid("ann"), ip(peer), at).is_err());
        let late = at + 60 * SECOND;
        delays.failed(&jid("dan"), ip(peer), late);
        let table = delays.lock();
        assert_eq!((table.entries.len(), table.order.len()), (1, 1));
    }
}
