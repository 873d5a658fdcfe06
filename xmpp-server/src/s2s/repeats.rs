//! What the log has said of other servers: the same cause from the same peer is one warning a span of
//! time, however often it is repeated.
//!
//! The peer is the proven domain, before that the address. Nothing in the table is text of the peer's.

use crate::limits::Limits;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What was said lately.
#[derive(Debug, Default)]
pub(crate) struct Repeats(Mutex<HashMap<Key, Said>>);

#[derive(Debug, Eq, Hash, PartialEq)]
struct Key {
    who: Box<str>,
    what: &'static str,
    cause: &'static str,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    since: u64,
}

impl Repeats {
    /// `None`: it was said of this peer a moment ago. Else how often it has happened unsaid.
    pub(crate) fn news(
        &self,
        who: &str,
        (what, cause): (&'static str, &'static str),
        now: Instant,
        limits: &Limits,
    ) -> Option<u64> {
        let again = limits.s2s_log_again;
        let key = Key {
            who: who.into(),
            what,
            cause,
        };
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = table.get_mut(&key) {
            if now.saturating_duration_since(said.at) < again {
                said.since = said.since.saturating_add(1);
                return None;
            }
            said.at = now;
            return Some(std::mem::take(&mut said.since));
        }
        if table.len() >= limits.s2s_log_kept_max {
            table.retain(|_, said| now.saturating_duration_since(said.at) < again);
        }
        if table.len() >= limits.s2s_log_kept_max {
            // Half of it at once: whoever makes it full makes us sort it seldom.
            let mut times: Vec<Instant> = table.values().map(|said| said.at).collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied();
            table.retain(|_, said| middle.is_some_and(|middle| said.at > middle));
        }
        table.insert(key, Said { at: now, since: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_same_of_the_same_peer_is_said_once_in_a_while() {
        let (repeats, now, limits) = (Repeats::default(), crate::clock::now(), Limits::default());
        let news =
            |who: &str, cause, at: Instant| repeats.news(who, ("stanza", cause), at, &limits);
        assert_eq!(news("b.test", "bad-request", now), Some(0));
        assert_eq!(news("b.test", "bad-request", now), None);
        assert_eq!(news("b.test", "not-allowed", now), Some(0), "another cause");
        assert_eq!(news("c.test", "bad-request", now), Some(0), "another peer");
        let soon = now + limits.s2s_log_again - Duration::from_secs(1);
        assert_eq!(news("b.test", "bad-request", soon), None);
        let later = now + limits.s2s_log_again;
        assert_eq!(
            news("b.test", "bad-request", later),
            Some(2),
            "twice unsaid"
        );
        assert_eq!(news("b.test", "bad-request", later), None);
    }

    #[test]
    fn the_log_remembers_so_many_causes() {
        let (repeats, now) = (Repeats::default(), crate::clock::now());
        let limits = Limits {
            s2s_log_kept_max: 4,
            ..Limits::default()
        };
        let news = |number: u64| {
            let at = now + Duration::from_millis(number);
            repeats.news(&format!("{number}.test"), ("stanza", "x"), at, &limits)
        };
        for number in 0..100 {
            assert_eq!(news(number), Some(0));
            assert!(repeats.0.lock().unwrap().len() <= 4);
        }
        assert_eq!(news(99), None, "the newest is known");
        assert_eq!(news(1), Some(0), "the oldest is forgotten");
    }
}
