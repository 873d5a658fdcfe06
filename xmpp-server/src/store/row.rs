//! Message rows: their numbers, what is kept of a message, and what may go.
//!
//! DESIGN 10. A row is *due* from its submit until its recipient has taken it. What is due is said
//! by a watermark an account with exceptions: rows up to it are done, but for the exceptions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use xmpp_stream::jid::BareJid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::random;

/// Bits of a row id that count within a millisecond.
const SEQUENCE_BITS: u32 = 16;
/// Bits that nobody can guess.
const RANDOM_BITS: u32 = 64;

/// Number of a message row: 48 bits of milliseconds since 1970, 16 bits of sequence, 64 random ones.
/// Later rows have greater numbers, also when the clock went back.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RowId(pub u128);

impl RowId {
    /// When the message came.
    #[must_use]
    pub fn received(self) -> SystemTime {
        let millis = (self.0 >> (RANDOM_BITS + SEQUENCE_BITS)) as u64;
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// The same in seconds since 1970.
    #[must_use]
    pub fn received_secs(self) -> u64 {
        (self.0 >> (RANDOM_BITS + SEQUENCE_BITS)) as u64 / 1000
    }

    /// The smallest number of this moment.
    #[must_use]
    pub fn first_at(moment: SystemTime) -> Self {
        Self(u128::from(millis(moment)) << (RANDOM_BITS + SEQUENCE_BITS))
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Gives row ids in rising order.
#[derive(Debug)]
pub struct RowIds {
    /// The upper half of the last one.
    last: AtomicU64,
}

impl RowIds {
    /// Goes on behind the newest row of the store.
    #[must_use]
    pub fn after(newest: Option<RowId>) -> Self {
        let last = newest.map_or(0, |id| (id.0 >> RANDOM_BITS) as u64);
        Self {
            last: AtomicU64::new(last),
        }
    }

    /// The next one, at this moment.
    pub fn next(&self, now: SystemTime) -> RowId {
        let first = millis(now) << SEQUENCE_BITS;
        let after = |last: u64| Some(first.max(last.saturating_add(1)));
        let last = self
            .last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, after);
        let upper = first.max(last.unwrap_or(0).saturating_add(1));
        RowId(u128::from(upper) << RANDOM_BITS | u128::from(random::bits()))
    }
}

fn millis(moment: SystemTime) -> u64 {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    // 48 bits are enough until the year 10889.
    (since.as_millis() as u64) & ((1 << 48) - 1)
}

/// A kept message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageRow {
    /// Its number.
    pub id: RowId,
    /// The stanza in canonical form, as delivered but for `<delay/>`.
    pub stanza: Bytes,
}

/// By what a message is recognised when its sender sends it again on another stream (DESIGN 5
/// rule 21).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sent {
    /// The sender's account.
    pub sender: BareJid,
    /// What was sent.
    pub print: Print,
    /// On which of its streams.
    pub stream: u128,
}

/// A digest over a message's recipient, id, type and content: the same for a message sent again.
///
/// No cryptographic one: it is compared with what the same account has sent, and who makes two of its
/// own messages alike has but itself to blame.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Print(pub u64);

impl Print {
    /// The digest of these parts.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        // The length of each part is in its digest, which is the seed of the next.
        Self(
            parts
                .iter()
                .fold(0, |seed, part| xxh3_64_with_seed(part, seed)),
        )
    }
}

/// What may go: every row of the account up to `upto` but these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cleared {
    /// Whose rows.
    pub account: BareJid,
    /// The watermark.
    pub upto: RowId,
    /// Rows below it that are still due, in order.
    pub except: Vec<RowId>,
}

/// Whoever knows which rows of an account are due; asked by the writer when it gets to it, so that
/// many taken messages cost one write.
pub trait Watermark: Send + Sync {
    /// What may go now; `None` when nothing has changed.
    fn cleared(&self) -> Option<Cleared>;
}

/// An account in the writer's list of watermarks to be written.
pub type Clearing = Arc<dyn Watermark>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_also_when_the_clock_goes_back() {
        let ids = RowIds::after(None);
        let noon = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let first = ids.next(noon);
        let second = ids.next(noon - Duration::from_secs(3600));
        let third = ids.next(noon);
        assert!(first < second && second < third);
        assert_eq!(first.received(), noon);
        assert_eq!(first.received_secs(), 1_700_000_000);
        let later = ids.next(noon + Duration::from_millis(5));
        assert_eq!(later.received(), noon + Duration::from_millis(5));
        assert!(RowId::first_at(noon) <= first);
    }

    #[test]
    fn ids_go_on_behind_the_newest_row() {
        let noon = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let newest = RowIds::after(None).next(noon);
        let ids = RowIds::after(Some(newest));
        assert!(ids.next(noon - Duration::from_secs(86_400)) > newest);
    }

    #[test]
    fn a_print_tells_parts_apart() {
        let print = |parts: &[&[u8]]| Print::of(parts);
        assert_eq!(print(&[b"ab", b"c"]), print(&[b"ab", b"c"]));
        assert_ne!(print(&[b"ab", b"c"]), print(&[b"a", b"bc"]));
    }
}
