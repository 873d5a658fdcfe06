//! Room in the group writer's queue, taken before an account's lock (DESIGN 5 rule 3).
//!
//! Whoever finds no room waits outside of every lock, and its socket with it: that is how a slow
//! disk slows its users down instead of filling the memory. Room is given in the order of asking.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;

/// What may wait for the store, and for how long; `Default` gives the documented numbers.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Operations that wait.
    pub ops_max: usize,
    /// The same in bytes.
    pub bytes_max: usize,
    /// Operations of one commit.
    pub group_ops_max: usize,
    /// The same in bytes.
    pub group_bytes_max: usize,
    /// How long a ticket waits; longer, and the sender of a stanza would rather have an error.
    pub ticket_max: Duration,
}

impl From<&Limits> for StoreLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            ops_max: limits.writer_ops_max,
            bytes_max: limits.writer_bytes_max,
            group_ops_max: limits.writer_group_ops_max,
            group_bytes_max: limits.writer_group_bytes_max,
            ticket_max: limits.ticket_max,
        }
    }
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// Room for the operations of one submit. It comes back when they are committed or refused, or
/// when this is dropped unused.
#[must_use = "room that is not used is given back"]
#[derive(Debug, Default)]
pub struct Permit {
    /// Operations and bytes; `None` where there is no queue.
    room: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Permit {
    /// For a store without a queue.
    pub(super) fn free() -> Self {
        Self::default()
    }

    /// Gives back what these operations do not need.
    pub(super) fn shrink(&mut self, ops: usize, bytes: usize) {
        if let Some((held_ops, held_bytes)) = &mut self.room {
            give_back(held_ops, ops);
            give_back(held_bytes, bytes);
        }
    }
}

fn give_back(held: &mut OwnedSemaphorePermit, used: usize) {
    let spare = held.num_permits().saturating_sub(used);
    if spare > 0 {
        drop(held.split(spare));
    }
}

/// The room of a queue; clones are the same room.
#[derive(Clone, Debug)]
pub(super) struct Room {
    ops: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    limits: StoreLimits,
}

impl Room {
    pub(super) fn new(limits: &StoreLimits) -> Self {
        let semaphore = |max: usize| Arc::new(Semaphore::new(bound(max)));
        Self {
            ops: semaphore(limits.ops_max),
            bytes: semaphore(limits.bytes_max),
            limits: *limits,
        }
    }

    pub(super) fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    pub(super) fn try_reserve(&self, ops: usize, bytes: usize) -> Option<Permit> {
        let (ops, bytes) = self.wanted(ops, bytes);
        let ops = Arc::clone(&self.ops).try_acquire_many_owned(ops).ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?;
        Some(Permit {
            room: Some((ops, bytes)),
        })
    }

    pub(super) async fn reserve(&self, ops: usize, bytes: usize) -> Option<Permit> {
        if let Some(permit) = self.try_reserve(ops, bytes) {
            return Some(permit);
        }
        let (ops, bytes) = self.wanted(ops, bytes);
        let both = async {
            let ops = Arc::clone(&self.ops).acquire_many_owned(ops).await.ok()?;
            let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes);
            Some((ops, bytes.await.ok()?))
        };
        let room = tokio::time::timeout(self.limits.ticket_max, both).await;
        Some(Permit {
            room: Some(room.ok()??),
        })
    }

    /// Operations that hold room.
    pub(super) fn taken(&self) -> usize {
        bound(self.limits.ops_max).saturating_sub(self.ops.available_permits())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.ops.is_closed()
    }

    /// Nobody gets room any more, who waits for it included.
    pub(super) fn close(&self) {
        self.ops.close();
        self.bytes.close();
    }

    /// What is larger than the whole queue gets the whole queue to itself.
    fn wanted(&self, ops: usize, bytes: usize) -> (u32, u32) {
        let within =
            |wanted: usize, max: usize| u32::try_from(wanted.min(bound(max))).unwrap_or(u32::MAX);
        (
            within(ops, self.limits.ops_max),
            within(bytes, self.limits.bytes_max),
        )
    }
}

/// What a semaphore can count, and never a queue that takes nothing.
fn bound(max: usize) -> usize {
    max.clamp(1, u32::MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn room() -> Room {
        Room::new(&StoreLimits {
            ops_max: 4,
            bytes_max: 100,
            ..StoreLimits::default()
        })
    }

    #[test]
    fn room_is_counted_in_operations_and_bytes() {
        #[track_caller]
        fn check(held: (usize, usize), wanted: (usize, usize), fits: bool) {
            let room = room();
            let held = room.try_reserve(held.0, held.1).unwrap();
            let asked = |room: &Room| room.try_reserve(wanted.0, wanted.1).is_some();
            assert_eq!(asked(&room), fits);
            drop(held);
            assert!(asked(&room));
        }
        check((3, 0), (1, 0), true);
        check((4, 0), (1, 0), false);
        check((3, 0), (2, 0), false);
        check((0, 99), (1, 1), true);
        check((0, 100), (1, 1), false);
        check((0, 99), (1, 2), false);
        // Larger than all of it: alone or not at all.
        check((0, 0), (5, 101), true);
        check((1, 0), (5, 0), false);
        check((0, 1), (0, 101), false);
    }

    #[test]
    fn what_is_not_used_comes_back_at_once() {
        let room = room();
        let mut held = room.try_reserve(4, 100).unwrap();
        held.shrink(3, 60);
        assert!(room.try_reserve(1, 41).is_none());
        assert!(room.try_reserve(2, 40).is_none());
        let rest = room.try_reserve(1, 40).unwrap();
        assert!(room.try_reserve(1, 0).is_none());
        drop((held, rest));
        assert!(room.try_reserve(4, 100).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_room_as_long_as_a_ticket_and_no_longer() {
        let room = room();
        let held = room.try_reserve(1, 100).unwrap();
        let (start, ticket_max) = (clock::now(), StoreLimits::default().ticket_max);
        assert!(room.reserve(1, 1).await.is_none());
        assert_eq!(clock::now().duration_since(start), ticket_max);
        // Whoever gave up holds nothing.
        assert!(room.try_reserve(3, 0).is_some());

        let theirs = room.clone();
        let waiting = tokio::spawn(async move { theirs.reserve(1, 1).await.is_some() });
        tokio::time::advance(ticket_max - Duration::from_millis(1)).await;
        assert!(!waiting.is_finished());
        drop(held);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_has_no_room() {
        let room = room();
        let held = room.try_reserve(4, 0);
        let (theirs, start) = (room.clone(), clock::now());
        let waiting = tokio::spawn(async move { theirs.reserve(1, 1).await.is_some() });
        tokio::task::yield_now().await;
        room.close();
        assert!(!waiting.await.unwrap());
        drop(held);
        assert!(room.reserve(1, 1).await.is_none());
        assert_eq!(clock::now(), start);
    }
}
