//! Room in the group writer's queue, taken before an account's lock (DESIGN 5 rule 3).

use tokio::sync::OwnedSemaphorePermit;

/// Room for the operations of one submit. It comes back when they are committed, or when this is
/// dropped unused.
#[must_use = "room that is not used is given back"]
#[derive(Debug, Default)]
pub struct Permit {
    /// Operations and, in KiB, bytes; `None` where there is no queue.
    _room: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Permit {
    /// For a store without a queue.
    pub(super) fn free() -> Self {
        Self::default()
    }
}
