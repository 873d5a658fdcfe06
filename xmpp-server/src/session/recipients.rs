//! How many addresses a session writes to in a minute (RFC 6120 section 13.12.5).
//!
//! Addresses are kept as hashes under random keys, those of the minute under way alone: most sessions
//! write to a handful.

use super::rates::too_many;
use crate::limits::Limits;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use xmpp_stream::error::StanzaError;
use xmpp_stream::stanza::{Kind, Stanza, Ty};

/// How long an address counts.
const SPAN: Duration = Duration::from_secs(60);

/// Whom a session has written to lately.
#[derive(Debug, Default)]
pub struct Recipients(Mutex<Option<Box<Minute>>>);

#[derive(Debug)]
struct Minute {
    since: Instant,
    /// The newest: most stanzas go where the last one went.
    last: u64,
    hasher: RandomState,
    seen: HashSet<u64>,
}

impl Recipients {
    /// Counts whom a stanza is for. Answers do not count, nor does what stays with its sender.
    ///
    /// # Errors
    /// `policy-violation`, of type wait: there were as many others this minute as may be.
    pub fn admit(
        &self,
        stanza: &Stanza,
        own: &str,
        now: Instant,
        limits: &Limits,
    ) -> Result<(), StanzaError> {
        let Some(to) = &stanza.head.to else {
            return Ok(());
        };
        if to.local().is_none() || to.bare_str() == own || is_answer(stanza) {
            return Ok(());
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = kept.get_or_insert_with(|| Box::new(Minute::at(now)));
        if now.saturating_duration_since(minute.since) >= SPAN {
            **minute = Minute::at(now);
        }
        let hash = minute.hasher.hash_one(to.bare_str());
        if hash != minute.last && !minute.seen.contains(&hash) {
            if minute.seen.len() >= limits.recipients_max {
                return Err(too_many("too many recipients a minute"));
            }
            minute.seen.insert(hash);
        }
        minute.last = hash;
        Ok(())
    }
}

impl Minute {
    fn at(since: Instant) -> Self {
        Self {
            since,
            last: 0,
            hasher: RandomState::new(),
            seen: HashSet::new(),
        }
    }
}

fn is_answer(stanza: &Stanza) -> bool {
    match stanza.head.ty {
        Ty::Error => true,
        Ty::Result => stanza.kind == Kind::Iq,
        // To refuse the end of something would be no gain.
        Ty::Unavailable | Ty::Unsubscribe | Ty::Unsubscribed => true,
        _ => false,
    }
}
