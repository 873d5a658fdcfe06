//! What the programs of others can do, by the hash that their presence names.
//!
//! XEP-0115 section 5.4: only an answer that has its hash is kept, for all who name it. One who lies
//! or is silent keeps nobody else from being asked. Strangers are not asked.

use super::options::ProtocolLimits;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::caps::{self, Algorithm, Caps};
use xmpp_stream::payload::disco::{self, Info};
use xmpp_stream::stanza::{Stanza, Ty};

/// Longer answers are not kept: no program can do that much.
const INFO_MAX: usize = 64 * 1024;

/// A hash, and by which function.
pub(super) type Key = (Algorithm, Box<str>);

pub(super) fn key(caps: &Caps) -> Key {
    (caps.algorithm, caps.ver.as_str().into())
}

#[derive(Debug, Default)]
pub(super) struct CapsCache {
    known: HashMap<Key, Known>,
    /// Oldest first.
    asked: VecDeque<Asked>,
    tick: u64,
}

#[derive(Debug)]
struct Known {
    info: Arc<Info>,
    used: u64,
}

#[derive(Debug)]
struct Asked {
    id: Box<str>,
    whom: Jid,
    key: Key,
}

impl CapsCache {
    /// What is known of this hash.
    pub(super) fn info(&mut self, key: &Key) -> Option<Arc<Info>> {
        self.tick += 1;
        let known = self.known.get_mut(key)?;
        known.used = self.tick;
        Some(Arc::clone(&known.info))
    }

    /// The question for whom presence names something unknown; `None`: there is none to ask.
    pub(super) fn ask(
        &mut self,
        whom: &Jid,
        caps: &Caps,
        id: &str,
        limits: &ProtocolLimits,
    ) -> Option<Stanza> {
        let key = key(caps);
        let is_same = |asked: &Asked| asked.whom == *whom && asked.key == key;
        if self.known.contains_key(&key) || self.asked.iter().any(is_same) {
            return None;
        }
        while self.asked.len() >= limits.caps_asked.max(1) {
            // Its answer will mean nothing.
            self.asked.pop_front();
        }
        self.asked.push_back(Asked {
            id: id.into(),
            whom: whom.clone(),
            key,
        });
        let query = disco::query(ns::DISCO_INFO, Some(&caps.info_node()));
        Some(
            Stanza::iq(Ty::Get, id)
                .with_to(whom.clone())
                .with_child(&query),
        )
    }

    /// Takes an answer, if it is one to a question of ours.
    pub(super) fn answered(&mut self, iq: &Stanza, limits: &ProtocolLimits) {
        let (Some(id), Some(from)) = (iq.head.id.as_deref(), iq.head.from.as_ref()) else {
            return;
        };
        let is_it = |asked: &Asked| *asked.id == *id && asked.whom == *from;
        let Some(asked) = self.asked.iter().position(is_it) else {
            return;
        };
        let Some(Asked { key, .. }) = self.asked.remove(asked) else {
            return;
        };
        if iq.head.ty != Ty::Result || iq.payload.len() > INFO_MAX {
            return;
        }
        let Some(query) = iq.first_element() else {
            return;
        };
        let is_right = caps::of(&query, key.0).as_deref() == Some(&*key.1);
        match Info::parse(&query).filter(|_| is_right) {
            Some(info) => self.keep(key, info, limits),
            None => tracing::debug!(%from, "capabilities do not have the hash they are named by"),
        }
    }

    /// Unanswered questions will stay so: the stream is a new one.
    pub(super) fn forget_asked(&mut self) {
        self.asked.clear();
    }

    fn keep(&mut self, key: Key, info: Info, limits: &ProtocolLimits) {
        while self.known.len() >= limits.caps.max(1) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.known.remove(&oldest);
        }
        self.tick += 1;
        let (info, used) = (Arc::new(info), self.tick);
        self.known.insert(key, Known { info, used });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::xml::Element;

    fn info(feature: &str) -> Element {
        let info = Info {
            features: vec![feature.into()],
            ..Info::default()
        };
        info.to_element()
    }

    fn named(info: &Element) -> Caps {
        Caps::of(info, "urn:x").unwrap()
    }

    fn answer(id: &str, from: &str, info: &Element) -> Stanza {
        let from = Jid::parse(from).unwrap();
        Stanza::iq(Ty::Result, id).with_from(from).with_child(info)
    }

    #[test]
    fn ck_13_only_what_has_its_hash_is_kept() {
        let (mut cache, limits) = (CapsCache::default(), ProtocolLimits::default());
        let (good, poison) = (info("urn:good"), info("urn:poison"));
        let caps = named(&good);
        let (ben, eve) = ("ben@b.test/x", "eve@b.test/x");
        let jid = |text| Jid::parse(text).unwrap();
        let question = cache.ask(&jid(eve), &caps, "1", &limits).unwrap();
        let node = format!("urn:x#{}", caps.ver);
        assert_eq!(question.first_element().unwrap().attr("node"), Some(&*node));
        assert!(cache.ask(&jid(eve), &caps, "2", &limits).is_none(), "asked");
        assert!(
            cache.ask(&jid(ben), &caps, "3", &limits).is_some(),
            "another"
        );
        for forged in [
            answer("1", ben, &good),
            answer("3", eve, &good),
            answer("9", eve, &good),
            Stanza::iq(Ty::Result, "1").with_child(&good),
        ] {
            cache.answered(&forged, &limits);
            assert!(cache.info(&key(&caps)).is_none());
        }
        cache.answered(&answer("1", eve, &poison), &limits);
        assert!(cache.info(&key(&caps)).is_none());
        cache.answered(&answer("3", ben, &good), &limits);
        assert!(cache.info(&key(&caps)).unwrap().has("urn:good"));
        assert!(cache.ask(&jid(eve), &caps, "4", &limits).is_none(), "known");
    }

    #[test]
    fn questions_and_answers_are_bounded() {
        let limits = ProtocolLimits {
            caps: 1,
            caps_asked: 1,
            ..ProtocolLimits::default()
        };
        let mut cache = CapsCache::default();
        let ben = Jid::parse("ben@b.test/x").unwrap();
        let (one, two) = (info("urn:1"), info("urn:2"));
        cache.ask(&ben, &named(&one), "1", &limits).unwrap();
        cache.ask(&ben, &named(&two), "2", &limits).unwrap();
        cache.answered(&answer("1", "ben@b.test/x", &one), &limits);
        assert!(cache.info(&key(&named(&one))).is_none(), "forgotten");
        cache.answered(&answer("2", "ben@b.test/x", &two), &limits);
        assert!(cache.info(&key(&named(&two))).is_some());
        cache.ask(&ben, &named(&one), "3", &limits).unwrap();
        cache.answered(&answer("3", "ben@b.test/x", &one), &limits);
        assert!(cache.info(&key(&named(&two))).is_none(), "made room");
        let long = info(&"x".repeat(INFO_MAX));
        cache.ask(&ben, &named(&long), "4", &limits).unwrap();
        cache.answered(&answer("4", "ben@b.test/x", &long), &limits);
        assert!(cache.info(&key(&named(&long))).is_none(), "too long");
    }
}
