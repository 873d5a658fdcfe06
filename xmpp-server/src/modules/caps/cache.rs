//! What clients can do, by the hash that their presence names; and who was asked.
//!
//! XEP-0115 section 5.4: only an answer that has its hash is kept, for all who name it. A session is
//! asked once for a hash, so that one that lies or is silent keeps nobody else from being asked.

use crate::limits::Limits;
use crate::session::Sid;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xmpp_stream::ns;
use xmpp_stream::payload::caps::{self, Algorithm};
use xmpp_stream::stanza::Stanza;
use xmpp_stream::xml::Element;

/// A hash, and by which function.
pub(super) type Key = (Algorithm, Box<str>);

/// Features of one set of abilities, sorted.
pub type Features = Arc<[Box<str>]>;

/// All that is known.
#[derive(Default)]
pub struct Cache {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<Key, Known>,
    /// Oldest first.
    asked: VecDeque<Asked>,
    tick: u64,
}

struct Known {
    features: Features,
    used: u64,
}

struct Asked {
    sid: Sid,
    key: Key,
    /// `None`: the answer came, and was no good.
    id: Option<Box<str>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl Cache {
    /// What the sender of this presence can do; `None`: it does not say, or that is not known yet.
    #[must_use]
    pub fn features(&self, presence: &Stanza) -> Option<Features> {
        let key = super::key_of(presence)?;
        self.lock().known(&key)
    }

    /// True when this session is to be asked what it can do, under this id: nobody knows yet, and
    /// it was not asked before.
    pub(super) fn is_to_be_asked(&self, key: Key, sid: Sid, id: &str, limits: &Limits) -> bool {
        let mut state = self.lock();
        let is_same = |asked: &Asked| asked.sid == sid && asked.key == key;
        if state.known(&key).is_some() || state.asked.iter().any(is_same) {
            return false;
        }
        // A further one forgets the oldest: its answer will mean nothing.
        while state.asked.len() >= limits.caps_asked_max.max(1) {
            state.asked.pop_front();
        }
        let id = Some(id.into());
        state.asked.push_back(Asked { sid, key, id });
        true
    }

    /// Takes a session's answer; false when it was not asked that.
    pub(super) fn answered(
        &self,
        sid: Sid,
        id: &str,
        info: Option<&Element>,
        limits: &Limits,
    ) -> bool {
        let mut state = self.lock();
        let is_it = |asked: &&mut Asked| asked.sid == sid && asked.id.as_deref() == Some(id);
        let Some(asked) = state.asked.iter_mut().find(is_it) else {
            return false;
        };
        asked.id = None;
        let key = asked.key.clone();
        match info.filter(|info| caps::of(info, key.0).as_deref() == Some(&*key.1)) {
            Some(info) => {
                state.keep(key.clone(), features(info), limits);
                state.asked.retain(|asked| asked.key != key);
            }
            None => tracing::debug!(
                ver = &*key.1,
                "answer does not have the hash it was named by"
            ),
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn known(&mut self, key: &Key) -> Option<Features> {
        self.tick += 1;
        let known = self.known.get_mut(key)?;
        known.used = self.tick;
        Some(Arc::clone(&known.features))
    }

    /// At the bound the one that was used longest ago goes.
    fn keep(&mut self, key: Key, features: Features, limits: &Limits) {
        while self.known.len() >= limits.caps_kept_max.max(1) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.known.remove(&oldest);
        }
        let used = self.tick;
        self.known.insert(key, Known { features, used });
    }
}

fn features(info: &Element) -> Features {
    let named = info
        .children()
        .filter(|child| child.is(ns::DISCO_INFO, "feature"));
    let mut features: Vec<Box<str>> = named
        .filter_map(|feature| feature.attr("var").map(Into::into))
        .collect();
    features.sort_unstable();
    features.into()
}
