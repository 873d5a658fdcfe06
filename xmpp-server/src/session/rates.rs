//! How often a session may send what costs others most (RFC 6120 sections 13.12.7 and 13.12.8): presence
//! to everybody, and requests to see somebody's.
//!
//! Counted by the minute, like recipients. Further kinds are a module's: a hook at `Stage::Rate`.

use crate::limits::Limits;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use xmpp_stream::error::{ErrorType, StanzaCondition, StanzaError};
use xmpp_stream::stanza::{Kind, Stanza, Ty};

/// How long a stanza counts.
const SPAN: Duration = Duration::from_secs(60);

/// What a session has sent lately, by kind.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Minute>);

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    since: Option<Instant>,
    broadcasts: u32,
    subscribes: u32,
}

impl Rates {
    /// Counts a stanza. To refuse the end of something would be no gain, so that never counts.
    ///
    /// # Errors
    /// `policy-violation`, of type wait: there were as many of its kind this minute as may be.
    pub fn admit(&self, stanza: &Stanza, now: Instant, limits: &Limits) -> Result<(), StanzaError> {
        let is_broadcast = match (stanza.kind, &stanza.head.ty, &stanza.head.to) {
            (Kind::Presence, Ty::None, None) => true,
            (Kind::Presence, Ty::Subscribe, _) => false,
            _ => return Ok(()),
        };
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = minute
            .since
            .map(|since| now.saturating_duration_since(since));
        if age.is_none_or(|age| age >= SPAN) {
            *minute = Minute {
                since: Some(now),
                ..Minute::default()
            };
        }
        let (count, max, text) = match is_broadcast {
            true => {
                let text = "too many presences a minute";
                (&mut minute.broadcasts, limits.broadcasts_max, text)
            }
            false => {
                let text = "too many subscription requests a minute";
                (&mut minute.subscribes, limits.subscribes_max, text)
            }
        };
        if *count as usize >= max {
            return Err(too_many(text));
        }
        *count = count.saturating_add(1);
        Ok(())
    }
}

/// The same may be sent later as it is (RFC 6120 section 8.3.3.12).
pub(super) fn too_many(text: &str) -> StanzaError {
    StanzaError::new(ErrorType::Wait, StanzaCondition::PolicyViolation).with_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::jid::Jid;

    #[test]
    fn c6120_lm_05_kinds_are_counted_apart_and_by_the_minute() {
        let limits = Limits {
            broadcasts_max: 2,
            subscribes_max: 1,
            ..Limits::default()
        };
        let (rates, start) = (Rates::default(), crate::clock::now());
        let to = |ty| Stanza::presence(ty).with_to(Jid::parse("ben@a.test").unwrap());
        #[track_caller]
        fn check(admitted: Result<(), StanzaError>, expected: bool) {
            assert_eq!(admitted.is_ok(), expected, "{admitted:?}");
        }
        for minute in 0..2 {
            let now = start + SPAN * minute;
            let admit = |stanza: Stanza| rates.admit(&stanza, now, &limits);
            check(admit(Stanza::presence(Ty::None)), true);
            check(admit(to(Ty::Subscribe)), true);
            check(admit(to(Ty::Subscribe)), false);
            check(admit(Stanza::presence(Ty::None)), true);
            check(admit(Stanza::presence(Ty::None)), false);
            // What is for one, what ends something, what is of another kind.
            for _ in 0..3 {
                check(admit(to(Ty::None)), true);
                check(admit(Stanza::presence(Ty::Unavailable)), true);
                check(admit(to(Ty::Subscribed)), true);
                check(admit(to(Ty::Unsubscribe)), true);
                check(admit(Stanza::chat("ben@a.test", "hi").unwrap()), true);
            }
            let late = now + SPAN - Duration::from_millis(1);
            check(
                rates.admit(&Stanza::presence(Ty::None), late, &limits),
                false,
            );
        }
    }
}
