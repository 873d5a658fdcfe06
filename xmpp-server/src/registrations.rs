//! In-band registrations of the last hour, per address (DESIGN 9; XEP-0077 sections 3.1.1 and 5).

use crate::iq::Iq;
use crate::limits::Limits;
use crate::listener::counted;
use crate::store::StoreError;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use xmpp_stream::jid::BareJid;

/// How long a registration counts.
const HOUR: Duration = Duration::from_secs(3600);

/// Who registered lately.
#[derive(Debug)]
pub struct Registrations {
    max: usize,
    entries_max: usize,
    loopback_exempt: bool,
    lately: Mutex<Lately>,
}

#[derive(Debug, Default)]
struct Lately {
    /// In the order of time; at most `entries_max` times `max` of them.
    all: VecDeque<(Instant, IpAddr)>,
    by_address: HashMap<IpAddr, usize>,
}

impl Registrations {
    /// Nobody yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            max: limits.registrations_per_address_max,
            entries_max: limits.registration_entries_max,
            loopback_exempt: limits.loopback_exempt,
            lately: Mutex::default(),
        }
    }

    /// Counts one more; false, and not counted, when that would be too many within the hour.
    pub fn count(&self, peer: IpAddr, now: Instant) -> bool {
        let Some(network) = counted(peer, self.loopback_exempt) else {
            return true;
        };
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.forget(now);
        if lately.by_address.get(&network).copied().unwrap_or(0) >= self.max {
            return false;
        }
        while lately.by_address.len() >= self.entries_max.max(1)
            && !lately.by_address.contains_key(&network)
        {
            lately.forget_oldest();
        }
        lately.all.push_back((now, network));
        *lately.by_address.entry(network).or_default() += 1;
        true
    }
}

impl Lately {
    fn forget(&mut self, now: Instant) {
        while self.all.front().is_some_and(|(at, _)| *at + HOUR <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, network)) = self.all.pop_front() else {
            return;
        };
        if let Some(count) = self.by_address.get_mut(&network) {
            *count = count.saturating_sub(1);
        }
        if self.by_address.get(&network) == Some(&0) {
            self.by_address.remove(&network);
        }
    }
}

impl Iq {
    /// Counts a registration from the asker's address; false when there are too many.
    pub(crate) fn count_registration(&self) -> bool {
        let metrics = &self.core.tap.metrics;
        let now = self.core.clock.now();
        let allowed = self
            .peer
            .is_none_or(|peer| self.core.registrations.count(peer, now));
        match allowed {
            true => metrics.registrations.count(),
            false => metrics.registrations_refused.count(),
        }
        allowed
    }

    /// True for a local account that exists.
    pub(crate) async fn exists(&self, account: &BareJid) -> Result<bool, StoreError> {
        let now = self.core.clock.now();
        let loaded = self.core.registry.load(&self.core.store, account, now);
        Ok(loaded.await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn lately(entries_max: usize, loopback_exempt: bool) -> Registrations {
        Registrations::new(&Limits {
            registrations_per_address_max: 2,
            registration_entries_max: entries_max,
            loopback_exempt,
            ..Limits::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn im_ib_03_so_many_an_hour_from_one_network() {
        let (lately, now) = (lately(100, true), crate::clock::now());
        let check = |peer: &str, minutes: u32, allowed: bool| {
            let at = now + minutes * MINUTE;
            assert_eq!(lately.count(ip(peer), at), allowed, "{peer} {minutes}");
        };
        check("192.0.2.1", 0, true);
        check("192.0.2.1", 30, true);
        check("192.0.2.1", 59, false);
        check("192.0.2.2", 59, true);
        check("192.0.2.1", 60, true);
        check("192.0.2.1", 89, false);
        check("192.0.2.1", 90, true);
        check("2001:db8::1", 90, true);
        check("2001:db8::2", 90, true);
        check("2001:db8::3", 90, false);
        check("2001:db8:0:1::1", 90, true);
        for _ in 0..5 {
            check("127.0.0.1", 90, true);
        }
    }

    #[test]
    fn loopback_counts_when_configured() {
        let (lately, now) = (lately(100, false), crate::clock::now());
        let counts = [(); 3].map(|()| lately.count(ip("::1"), now));
        assert_eq!(counts, [true, true, false]);
    }

    #[test]
    fn addresses_are_bounded() {
        let (lately, now) = (lately(3, true), crate::clock::now());
        for number in 0..100 {
            assert!(lately.count(IpAddr::from([192, 0, 2, number]), now));
        }
        let kept = lately.lately.lock().unwrap();
        assert_eq!((kept.by_address.len(), kept.all.len()), (3, 3));
    }
}
