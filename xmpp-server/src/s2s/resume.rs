//! Counts of streams whose connection was lost, until their callers come back (XEP-0198 section 5).
//!
//! Only this is kept: which pairs were proven, what came and is not done, what was handled. The
//! stanzas are the sender's to send again.

use super::arrived::Arrived;
use crate::limits::Limits;
use crate::random;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use xmpp_stream::stream::s2s::Pair;

/// Streams that may be resumed, by their token.
#[derive(Clone, Default)]
pub(crate) struct Resumable(Arc<Mutex<HashMap<Arc<str>, Slot>>>);

#[derive(Default)]
struct Slot {
    /// Somebody wants to go on with it: its connection is to give it up.
    wanted: Arc<Notify>,
    /// It was given up.
    arrived: Arc<Notify>,
    parked: Option<(Parked, Instant)>,
}

/// What is kept of a stream.
pub(super) struct Parked {
    pub(super) pairs: Vec<Pair>,
    pub(super) arrived: Arrived,
}

/// One stream's place among them.
pub(super) struct Place {
    token: Arc<str>,
    all: Resumable,
}

impl Resumable {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new stream that may be resumed.
    pub(super) fn begin(&self) -> Place {
        let token: Arc<str> = format!("0-{}{}", random::token(), random::token()).into();
        self.lock().insert(Arc::clone(&token), Slot::default());
        Place {
            token,
            all: self.clone(),
        }
    }

    /// The place of a stream that may be resumed.
    pub(super) fn find(&self, token: &str) -> Option<Place> {
        let table = self.lock();
        let (token, _) = table.get_key_value(token)?;
        Some(Place {
            token: Arc::clone(token),
            all: self.clone(),
        })
    }
}

impl Place {
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Told when somebody wants to go on with it.
    pub(super) fn wanted(&self) -> Arc<Notify> {
        let table = self.all.lock();
        let slot = table.get(&self.token);
        slot.map_or_else(Arc::default, |slot| Arc::clone(&slot.wanted))
    }

    /// Its connection is gone. The longest parked make room for those to come.
    pub(super) fn park(self, parked: Parked, now: Instant, limits: &Limits) {
        let mut table = self.all.lock();
        let until = now + limits.sm_resume;
        table.retain(|_, slot| slot.parked.as_ref().is_none_or(|(_, until)| *until > now));
        let parked_now = table.values().filter(|slot| slot.parked.is_some()).count();
        if parked_now >= limits.s2s_resumable_max {
            let oldest = table
                .iter()
                .filter_map(|(token, slot)| Some((slot.parked.as_ref()?.1, Arc::clone(token))))
                .min();
            if let Some((_, oldest)) = oldest {
                table.remove(&oldest);
            }
        }
        if let Some(slot) = table.get_mut(&self.token) {
            slot.parked = Some((parked, until));
            slot.arrived.notify_one();
        }
    }

    /// It ended as it should.
    pub(super) fn forget(self) {
        self.all.lock().remove(&self.token);
    }

    /// Takes what is kept, from a connection that still holds it if need be.
    pub(super) async fn take(&self, within: Duration) -> Option<Parked> {
        let arrived = {
            let mut table = self.all.lock();
            let slot = table.get_mut(&self.token)?;
            if let Some((parked, _)) = slot.parked.take() {
                return Some(parked);
            }
            slot.wanted.notify_one();
            Arc::clone(&slot.arrived)
        };
        tokio::time::timeout(within, arrived.notified())
            .await
            .ok()?;
        let mut table = self.all.lock();
        let slot = table.get_mut(&self.token)?;
        slot.parked.take().map(|(parked, _)| parked)
    }
}
