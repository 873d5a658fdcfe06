//! The only file of the server that asks what time it is.
//!
//! Deadlines follow tokio's clock, which tests pause and advance. Wall-clock stamps (XEP-0082) are
//! counted along with it from a start, so that under paused time both tell the same story.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use xmpp_stream::payload::delay::stamp;

/// The time for deadlines: tokio's, also when it is paused.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One source for deadlines and stamps; clones are the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    /// What the wall showed at `start`.
    wall: SystemTime,
    /// Milliseconds that the wall has since gone ahead (suspend, a clock set by hand).
    ahead: AtomicI64,
}

impl Clock {
    /// A clock that begins at the system's time.
    pub fn start() -> Self {
        Self::start_at(system_time())
    }

    /// A clock whose wall shows `wall` now.
    pub fn start_at(wall: SystemTime) -> Self {
        Self {
            shared: Arc::new(Shared {
                start: now(),
                wall,
                ahead: AtomicI64::new(0),
            }),
        }
    }

    /// The time for deadlines.
    pub fn now(&self) -> Instant {
        now()
    }

    /// The time on the wall.
    pub fn system_now(&self) -> SystemTime {
        let ahead = self.shared.ahead.load(Ordering::Relaxed);
        let by = Duration::from_millis(ahead.unsigned_abs());
        let steady = self.steady();
        let wall = if ahead < 0 {
            steady.checked_sub(by)
        } else {
            steady.checked_add(by)
        };
        wall.unwrap_or(steady)
    }

    /// How long this clock runs.
    pub fn uptime(&self) -> Duration {
        self.now().saturating_duration_since(self.shared.start)
    }

    /// Seconds since 1970.
    pub fn unix_secs(&self) -> u64 {
        self.system_now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    /// The time on the wall as XEP-0082 writes it, in UTC.
    pub fn stamp(&self) -> String {
        stamp(self.system_now())
    }

    /// A moment given in seconds since 1970, as XEP-0082 writes it.
    pub fn stamp_of(unix_secs: u64) -> String {
        stamp(
            UNIX_EPOCH
                .checked_add(Duration::from_secs(unix_secs))
                .unwrap_or(UNIX_EPOCH),
        )
    }

    /// Puts the wall right by the system's time, which a suspended machine or an operator may
    /// have moved. For the running program, now and then; not under paused time.
    pub fn follow_system(&self) {
        self.put_right(system_time());
    }

    /// The wall shows this now. Deadlines are not touched.
    pub fn put_right(&self, wall: SystemTime) {
        let ahead = match wall.duration_since(self.steady()) {
            Ok(ahead) => i64::try_from(ahead.as_millis()),
            Err(behind) => i64::try_from(behind.duration().as_millis()).map(|ms| -ms),
        };
        self.shared
            .ahead
            .store(ahead.unwrap_or(0), Ordering::Relaxed);
    }

    fn steady(&self) -> SystemTime {
        let since = now().saturating_duration_since(self.shared.start);
        self.shared
            .wall
            .checked_add(since)
            .unwrap_or(self.shared.wall)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the server looks at the wall"
)]
fn system_time() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS: Duration = Duration::from_secs(9_000);

    #[test]
    fn stamps_are_of_seconds_since_1970() {
        assert_eq!(Clock::stamp_of(951_782_400), "2000-02-29T00:00:00.000Z");
        // What cannot be written is shown as the beginning, never as a panic.
        assert_eq!(Clock::stamp_of(u64::MAX), "1970-01-01T00:00:00.000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn wall_and_deadlines_advance_together() {
        let clock = Clock::start_at(UNIX_EPOCH + Duration::from_secs(1_000));
        let (deadline, other) = (clock.now() + Duration::from_secs(300), clock.clone());
        tokio::time::advance(Duration::from_secs(300)).await;
        assert_eq!(clock.now(), deadline);
        assert_eq!((clock.unix_secs(), other.unix_secs()), (1_300, 1_300));
        assert_eq!(clock.stamp(), "1970-01-01T00:21:40.000Z");
    }

    #[test]
    fn follows_the_system_in_both_directions() {
        for wall in [system_time() - HOURS, system_time() + HOURS] {
            let clock = Clock::start_at(wall);
            let off = |clock: &Clock| {
                let wall = clock.system_now();
                let system = system_time();
                wall.duration_since(system)
                    .unwrap_or_else(|behind| behind.duration())
            };
            assert!(off(&clock) > Duration::from_secs(8_000));
            clock.follow_system();
            assert!(off(&clock) < Duration::from_secs(100));
        }
    }
}
