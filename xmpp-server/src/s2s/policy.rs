//! When a link is tried again, and how long stanzas wait for that: pure functions of what happened.
//!
//! RFC 6120 section 3.3: growing delays with a random part, so that servers do not come back all at
//! once. DESIGN 9.

use std::time::Duration;

/// The first delay: a restart of a server takes about as long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest: who has mended something waits no longer for the next try.
const LONGEST: Duration = Duration::from_secs(300);

/// What follows on a failed try, or on the loss of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// What waits goes on waiting; the next try comes after so long.
    Retry(Duration),
    /// What waits goes back to its senders, and so does what comes within so long.
    GiveUp(Duration),
}

/// What is known when a try has failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    /// Tries in vain since the link was last up, this one included.
    pub(super) tries: u32,
    /// How long ago the link was up; `None`: never, as far as is known.
    pub(super) down_for: Option<Duration>,
    /// Trying again soon may help.
    pub(super) is_passing: bool,
}

/// A link that was up a moment ago gets the time of a restart; whoever was never reached is not
/// waited for.
pub(super) fn next(failed: Failed, wait_max: Duration, random: u64) -> Next {
    let delay = delay(failed.tries, random);
    match failed.down_for {
        Some(down_for) if failed.is_passing && down_for + delay < wait_max => Next::Retry(delay),
        _ => Next::GiveUp(delay),
    }
}

/// Doubles with each try; a quarter more or less by chance.
fn delay(tries: u32, random: u64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16));
    let base = doubled.min(LONGEST);
    // 0 to 499 thousandths, less a quarter.
    let permille = 750 + (random % 500) as u32;
    base * permille / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn c6120_dn_07_delays_grow_and_end() {
        let middle = |tries| delay(tries, 250);
        let wanted = [
            (1, 1),
            (2, 2),
            (3, 4),
            (8, 128),
            (9, 256),
            (10, 300),
            (99, 300),
        ];
        for (tries, want) in wanted {
            assert_eq!(middle(tries), secs(want), "try {tries}");
        }
        assert_eq!(delay(4, 0), secs(6));
        assert_eq!(delay(4, 499), Duration::from_millis(9992));
    }

    #[test]
    fn only_a_link_that_was_up_lately_is_waited_for() {
        #[track_caller]
        fn check(tries: u32, down_for: Option<u64>, is_passing: bool, want: Next) {
            let down_for = down_for.map(secs);
            let failed = Failed {
                tries,
                down_for,
                is_passing,
            };
            assert_eq!(next(failed, WAIT, 250), want, "{failed:?}");
        }
        check(1, None, true, Next::GiveUp(secs(1)));
        check(1, Some(0), true, Next::Retry(secs(1)));
        check(5, Some(15), true, Next::Retry(secs(16)));
        check(6, Some(31), true, Next::GiveUp(secs(32)));
        check(1, Some(0), false, Next::GiveUp(secs(1)));
    }
}
