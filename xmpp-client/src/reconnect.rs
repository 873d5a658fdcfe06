//! When to connect again after a connection was lost: a function of how often that was tried, how
//! it ended, and chance (RFC 6120 section 3.3; rows co-10 and co-11).

use crate::error::{ConnectError, Step};
use std::time::Duration;
use xmpp_stream::error::{SaslCondition, StreamCondition};
use xmpp_stream::stream::{CloseReason, Failure};

/// Whether and how often to connect again.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    /// How many times in vain at most before it gives up; `None`: for ever.
    pub tries: Option<u32>,
    /// About how long to wait before the first time; doubled each time.
    pub first: Duration,
    /// About how long to wait at most.
    pub max: Duration,
}

impl Reconnect {
    /// Not at all.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            tries: Some(0),
            first: Duration::ZERO,
            max: Duration::ZERO,
        }
    }

    /// How long to wait before the next attempt; `None`: there is none. So many `attempts` were made
    /// in vain since the stream was lost, and so many streams before it did not last; `random` is
    /// any number.
    pub(crate) fn next(
        &self,
        attempts: u32,
        short_lived: u32,
        last: Verdict,
        random: u64,
    ) -> Option<Duration> {
        if last == Verdict::Stop || self.tries.is_some_and(|tries| attempts >= tries) {
            return None;
        }
        let factor = 2_u32.saturating_pow(attempts.saturating_add(short_lived));
        let about = self.first.saturating_mul(factor).min(self.max);
        let about = if last == Verdict::Slowly {
            self.max
        } else {
            about
        };
        // Half to one and a half of it, so that all clients of a server do not come at once.
        let span = u64::try_from(about.as_millis()).unwrap_or(u64::MAX);
        let part = random.checked_rem(span.saturating_add(1)).unwrap_or(0);
        Some(about / 2 + Duration::from_millis(part))
    }
}

impl Default for Reconnect {
    /// For ever, after a second to begin with and five minutes at most.
    fn default() -> Self {
        Self {
            tries: None,
            first: Duration::from_secs(1),
            max: Duration::from_secs(300),
        }
    }
}

/// What an outcome says about another attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It may go better next time.
    Again,
    /// It may, but not soon.
    Slowly,
    /// It will not.
    Stop,
}

/// After a stream ended.
pub(crate) fn after_end(reason: &CloseReason) -> Verdict {
    match reason {
        CloseReason::Theirs(error) => after_error(error.condition),
        CloseReason::Failed(failure) => after_failure(failure),
        _ => Verdict::Again,
    }
}

/// After an attempt to connect.
pub(crate) fn after_attempt(error: &ConnectError) -> Verdict {
    match error {
        ConnectError::Negotiation(_, failure) => after_failure(failure),
        ConnectError::Closed(_, reason) => after_end(reason),
        // One place that may do better is enough.
        ConnectError::Unreachable(tried) => tried
            .attempts
            .iter()
            .map(|attempt| after_attempt(&attempt.error))
            .min_by_key(|verdict| *verdict as u8)
            .unwrap_or(Verdict::Again),
        ConnectError::Resolve(_) => Verdict::Slowly,
        _ if error.step() == Step::Configuration => Verdict::Stop,
        _ => Verdict::Again,
    }
}

fn after_error(condition: StreamCondition) -> Verdict {
    match condition {
        // Another client has taken this resource: coming back would take it from that one.
        StreamCondition::Conflict
        // The account is gone, or no longer ours.
        | StreamCondition::NotAuthorized
        | StreamCondition::HostUnknown
        | StreamCondition::HostGone => Verdict::Stop,
        StreamCondition::PolicyViolation | StreamCondition::ResourceConstraint => Verdict::Slowly,
        _ => Verdict::Again,
    }
}

fn after_failure(failure: &Failure) -> Verdict {
    match failure {
        Failure::Login { condition, .. } => match condition {
            SaslCondition::TemporaryAuthFailure => Verdict::Again,
            _ => Verdict::Stop,
        },
        Failure::NoMechanism
        | Failure::ServerNotProven
        | Failure::Downgrade
        | Failure::Weaker
        | Failure::Iterations => Verdict::Stop,
        Failure::Bind(_) | Failure::NoBind => Verdict::Slowly,
        _ => Verdict::Again,
    }
}

/// The failure to sign in behind an error, for `Event::AuthFailed`.
pub(crate) fn auth_failure(error: &ConnectError) -> Option<&Failure> {
    match error {
        ConnectError::Negotiation(_, failure)
        | ConnectError::Closed(_, CloseReason::Failed(failure))
            if after_failure(failure) == Verdict::Stop =>
        {
            Some(failure)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tried::{Attempt, Tried};
    use xmpp_stream::error::StreamError;
    use xmpp_stream::resolve::{Candidate, Host, ResolveError};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn co_11_delays_grow_and_are_jittered() {
        let policy = Reconnect::default();
        let range = |attempts| {
            let delay = |random| policy.next(attempts, 0, Verdict::Again, random).unwrap();
            let all: Vec<_> = (0..2000).map(|n| delay(n * 7919)).collect();
            (*all.iter().min().unwrap(), *all.iter().max().unwrap())
        };
        for (attempts, about) in [(0, 1), (1, 2), (4, 16), (8, 256), (9, 300), (1000, 300)] {
            let (least, most) = range(attempts);
            let about = SECOND * about;
            assert!(least >= about / 2 && least < about, "{attempts}: {least:?}");
            assert!(
                most > about && most <= about * 3 / 2,
                "{attempts}: {most:?}"
            );
        }
    }

    #[test]
    fn co_11_streams_that_do_not_last_are_made_more_and_more_slowly() {
        let policy = Reconnect::default();
        let delay = |short_lived| policy.next(0, short_lived, Verdict::Again, 0);
        assert_eq!(delay(0), Some(SECOND / 2));
        assert_eq!(delay(3), Some(SECOND * 4));
        assert_eq!(delay(u32::MAX), Some(SECOND * 150));
    }

    #[test]
    fn co_11_tries_are_counted() {
        let policy = Reconnect {
            tries: Some(2),
            ..Reconnect::default()
        };
        assert!(policy.next(1, 7, Verdict::Again, 0).is_some());
        assert_eq!(policy.next(2, 0, Verdict::Again, 0), None);
        assert_eq!(Reconnect::never().next(0, 0, Verdict::Again, 0), None);
        assert_eq!(policy.next(0, 0, Verdict::Stop, 0), None);
        assert_eq!(policy.next(0, 0, Verdict::Slowly, 0), Some(SECOND * 150));
    }

    #[test]
    fn co_10_co_11_some_ends_are_final() {
        let theirs = |condition| after_end(&CloseReason::Theirs(StreamError::new(condition)));
        assert_eq!(theirs(StreamCondition::Conflict), Verdict::Stop);
        assert_eq!(theirs(StreamCondition::NotAuthorized), Verdict::Stop);
        assert_eq!(theirs(StreamCondition::SystemShutdown), Verdict::Again);
        assert_eq!(theirs(StreamCondition::PolicyViolation), Verdict::Slowly);
        assert_eq!(after_end(&CloseReason::Eof), Verdict::Again);
        assert_eq!(after_end(&CloseReason::Clean), Verdict::Again);
    }

    #[test]
    fn co_11_refused_logins_are_final() {
        let login = |condition| {
            let failure = Failure::Login {
                condition,
                text: None,
            };
            after_attempt(&ConnectError::Negotiation(Step::Authentication, failure))
        };
        assert_eq!(login(SaslCondition::NotAuthorized), Verdict::Stop);
        assert_eq!(login(SaslCondition::AccountDisabled), Verdict::Stop);
        assert_eq!(login(SaslCondition::CredentialsExpired), Verdict::Stop);
        assert_eq!(login(SaslCondition::TemporaryAuthFailure), Verdict::Again);
        for failure in [
            Failure::ServerNotProven,
            Failure::Weaker,
            Failure::Downgrade,
        ] {
            let error = ConnectError::Negotiation(Step::Authentication, failure.clone());
            assert_eq!(after_attempt(&error), Verdict::Stop);
            assert_eq!(auth_failure(&error), Some(&failure));
        }
        let lost = ConnectError::Timeout(Step::Connect);
        assert_eq!(after_attempt(&lost), Verdict::Again);
        assert_eq!(auth_failure(&lost), None);
    }
    #[test]
    fn co_11_one_place_that_may_do_better_is_reason_to_try_again() {
        let place = Candidate {
            host: Host::parse("x.test").unwrap(),
            port: 5222,
            direct_tls: false,
        };
        let verdict = |errors: Vec<ConnectError>| {
            let attempts = errors.into_iter().map(|error| Attempt {
                candidate: place.clone(),
                address: None,
                error,
            });
            after_attempt(&ConnectError::Unreachable(Box::new(Tried {
                domain: "a.test".into(),
                attempts: attempts.collect(),
                unanswered: Vec::new(),
                is_late: false,
            })))
        };
        let gone = || {
            let gone = StreamError::new(StreamCondition::HostGone);
            ConnectError::Closed(Step::Stream, CloseReason::Theirs(gone))
        };
        assert_eq!(verdict(vec![gone(), gone()]), Verdict::Stop);
        assert_eq!(
            verdict(vec![gone(), ConnectError::NoAddress]),
            Verdict::Again
        );
        assert_eq!(verdict(vec![]), Verdict::Again);
        let absent = ConnectError::Resolve(ResolveError::Absent);
        assert_eq!(after_attempt(&absent), Verdict::Slowly);
        assert_eq!(after_attempt(&ConnectError::NoCa), Verdict::Stop);
    }
}
