//! The end of the certificate by which a peer is known, during a stream (RFC 6120 section 13.7.2.3).
//!
//! For any stream with a driver: the driver's alarm wakes the stream's task, which asks here, and
//! closes with `reset` when it is over. The wall clock may be set while the task sleeps, so it is
//! looked at now and then.

use crate::clock::Clock;
use std::time::{Duration, Instant};
use xmpp_stream::driver::Driver;
use xmpp_stream::stream::{Machine, TlsInfo};
use xmpp_stream::tls::trust;

/// A clock that was set is noticed after so long.
const LOOK: Duration = Duration::from_secs(3600);

/// When a peer's certificates end; by default there are none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expiry {
    /// The last moment, in seconds since 1970.
    ends: Option<u64>,
}

impl Expiry {
    /// Of what the peer has shown; `now` in seconds since 1970.
    pub(crate) fn of(tls: &TlsInfo, now: u64) -> Self {
        Self {
            ends: trust::ends(&tls.peer, now),
        }
    }

    /// True when it is over. Else the driver wakes its task when that is to be asked again: to be
    /// called once at the begin, and whenever `Driver::has_rung`.
    pub(crate) fn is_over<M: Machine>(self, driver: &mut Driver<M>, clock: &Clock) -> bool {
        let next = self.next(clock);
        driver.set_alarm(next.ok().flatten());
        next.is_err()
    }

    /// When to look at the clock again.
    fn next(self, clock: &Clock) -> Result<Option<Instant>, Over> {
        let Some(ends) = self.ends else {
            return Ok(None);
        };
        // The last moment is still a good one.
        let left = ends.saturating_add(1).saturating_sub(clock.unix_secs());
        match left {
            0 => Err(Over),
            left => Ok(Some(clock.now() + Duration::from_secs(left).min(LOOK))),
        }
    }
}

/// It has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Over;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[tokio::test(start_paused = true)]
    async fn ats_ce_14_it_ends_after_its_last_second_also_when_the_clock_is_set() {
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        let clock = Clock::start_at(at(10_000));
        let expiry = Expiry { ends: Some(10_010) };
        let in_time = |secs| Ok(Some(clock.now() + Duration::from_secs(secs)));
        assert_eq!(expiry.next(&clock), in_time(11));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(expiry.next(&clock), in_time(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(expiry.next(&clock), Err(Over));
        let later = Expiry {
            ends: Some(100_000),
        };
        assert_eq!(later.next(&clock), in_time(3600));
        clock.put_right(at(100_001));
        assert_eq!(later.next(&clock), Err(Over));
        assert_eq!(Expiry::default().next(&clock), Ok(None));
    }
}
