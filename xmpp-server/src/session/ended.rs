//! Streams that ended and may still be asked for: what of theirs was handled (XEP-0198 section 5).

use crate::limits::Limits;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use xmpp_stream::jid::BareJid;

/// Ended streams by their token, the oldest first.
#[derive(Debug, Default)]
pub struct EndedStreams {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_token: HashMap<Arc<str>, Ended>,
    order: VecDeque<(Instant, Arc<str>)>,
    /// Streams that their clients closed, having been told what was handled: nothing of theirs is
    /// sent again.
    closed: HashSet<u128>,
    closed_order: VecDeque<u128>,
}

#[derive(Debug)]
struct Ended {
    account: BareJid,
    h: u32,
}

impl EndedStreams {
    /// Remembers a stream.
    pub fn remember(
        &self,
        token: Arc<str>,
        account: BareJid,
        h: u32,
        now: Instant,
        limits: &Limits,
    ) {
        let mut table = self.lock();
        table.forget(now, limits);
        while table.order.len() >= limits.sm_ended_max.max(1) {
            table.drop_oldest();
        }
        // Told again with a later count: it stands once in the order.
        let known = table
            .by_token
            .insert(Arc::clone(&token), Ended { account, h });
        if known.is_none() {
            table.order.push_back((now, token));
        }
    }

    /// What was handled of a stream of this account.
    pub fn handled(
        &self,
        token: &str,
        account: &BareJid,
        now: Instant,
        limits: &Limits,
    ) -> Option<u32> {
        let mut table = self.lock();
        table.forget(now, limits);
        let ended = table.by_token.get(token)?;
        (ended.account == *account).then_some(ended.h)
    }

    /// An account was removed: whoever takes its name later is told nothing of its streams.
    pub fn forget_account(&self, account: &BareJid) {
        self.lock().retain(|_, ended| ended.account != *account);
    }

    /// One stream is not to be asked for after all.
    pub fn forget(&self, token: &str) {
        self.lock().retain(|known, _| **known != *token);
    }

    /// A client has closed its stream, and was told that all of it was handled.
    pub fn closed(&self, stream: u128, limits: &Limits) {
        let mut table = self.lock();
        while table.closed_order.len() >= limits.sm_ended_max.max(1)
            && let Some(oldest) = table.closed_order.pop_front()
        {
            table.closed.remove(&oldest);
        }
        table.closed.insert(stream);
        table.closed_order.push_back(stream);
    }

    /// Whether that is known of a stream.
    pub fn is_closed(&self, stream: u128) -> bool {
        self.lock().closed.contains(&stream)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget(&mut self, now: Instant, limits: &Limits) {
        while let Some((since, _)) = self.order.front()
            && now.saturating_duration_since(*since) >= limits.sm_ended_kept
        {
            self.drop_oldest();
        }
    }

    fn retain(&mut self, keep: impl Fn(&Arc<str>, &Ended) -> bool) {
        self.by_token.retain(|token, ended| keep(token, ended));
        let known = &self.by_token;
        self.order.retain(|(_, token)| known.contains_key(token));
    }

    fn drop_oldest(&mut self) {
        if let Some((_, token)) = self.order.pop_front() {
            self.by_token.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn closed_streams_are_remembered_up_to_a_number() {
        let ended = EndedStreams::default();
        let limits = Limits {
            sm_ended_max: 2,
            ..Limits::default()
        };
        for stream in 1..=3 {
            ended.closed(stream, &limits);
        }
        assert_eq!(
            [1, 2, 3].map(|stream| ended.is_closed(stream)),
            [false, true, true]
        );
    }

    #[test]
    fn im_sm_09_streams_are_forgotten_with_their_account() {
        let (ended, now) = (EndedStreams::default(), crate::clock::now());
        let limits = Limits::default();
        let jid = |text| BareJid::parse(text).unwrap();
        let keep =
            |token: &str, account| ended.remember(token.into(), jid(account), 1, now, &limits);
        let look = |token, account| ended.handled(token, &jid(account), now, &limits);
        for (token, account) in [
            ("a", "ann@a"),
            ("b", "ben@a"),
            ("c", "ann@a"),
            ("a", "ann@a"),
        ] {
            keep(token, account);
        }
        assert_eq!(ended.lock().order.len(), 3);
        ended.forget_account(&jid("ann@a"));
        assert_eq!([look("a", "ann@a"), look("c", "ann@a")], [None, None]);
        assert_eq!(look("b", "ben@a"), Some(1));
        ended.forget("b");
        assert_eq!(look("b", "ben@a"), None);
        assert!(ended.lock().order.is_empty());
    }

    #[test]
    fn im_sm_09_streams_are_remembered_for_a_time_and_up_to_a_number() {
        let (ended, now) = (EndedStreams::default(), crate::clock::now());
        let limits = Limits {
            sm_ended_max: 2,
            ..Limits::default()
        };
        let (ann, ben) = (
            BareJid::account("ann", "a.test").unwrap(),
            BareJid::account("ben", "a.test").unwrap(),
        );
        let keep = |token: &str, h| ended.remember(token.into(), ann.clone(), h, now, &limits);
        let look = |token, after| ended.handled(token, &ann, now + after, &limits);
        keep("a", 1);
        keep("b", 2);
        assert_eq!(look("a", Duration::ZERO), Some(1));
        assert_eq!(ended.handled("a", &ben, now, &limits), None, "not theirs");
        keep("c", 3);
        assert_eq!(look("a", Duration::ZERO), None, "one too many");
        let kept = limits.sm_ended_kept;
        assert_eq!(look("b", kept - Duration::from_secs(1)), Some(2));
        assert_eq!(look("b", kept), None);
    }
}
