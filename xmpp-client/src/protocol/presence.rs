//! Availability: our own, and that of others by contact and resource.
//!
//! RFC 6121 section 4. What a contact makes us keep is bounded by resource and in bytes.

use super::options::ProtocolLimits;
use std::collections::HashMap;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns::{self, name};
use xmpp_stream::payload::delay::Delay;
use xmpp_stream::stanza::{Stanza, Ty};
use xmpp_stream::xml::Element;

/// Bytes of a status that are kept: a line or two.
const STATUS_MAX: usize = 4096;

/// How available somebody is (RFC 6121 section 4.7.2.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Show {
    /// Online.
    #[default]
    Online,
    /// Would like to talk.
    Chat,
    /// Away for a short time.
    Away,
    /// Away for a long time.
    Xa,
    /// Busy: do not disturb.
    Dnd,
}

impl Show {
    fn of(text: &str) -> Self {
        match text.trim() {
            "chat" => Self::Chat,
            "away" => Self::Away,
            "xa" => Self::Xa,
            "dnd" => Self::Dnd,
            _ => Self::Online,
        }
    }

    fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Online => None,
            Self::Chat => Some("chat"),
            Self::Away => Some("away"),
            Self::Xa => Some("xa"),
            Self::Dnd => Some("dnd"),
        }
    }
}

/// What we tell of ourselves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Availability {
    /// How available.
    pub show: Show,
    /// In words.
    pub status: Option<String>,
    /// Which of our devices gets messages; below 0: never this one.
    pub priority: i8,
}

impl Availability {
    /// Available in this way.
    #[must_use]
    pub fn new(show: Show) -> Self {
        Self {
            show,
            ..Self::default()
        }
    }

    /// Builder: in words.
    #[must_use]
    pub fn with_status(mut self, status: &str) -> Self {
        self.status = (!status.is_empty()).then(|| status.into());
        self
    }

    pub(super) fn to_stanza(&self, caps: &Element) -> Stanza {
        let text = |name, text: &str| Element::new(ns::CLIENT, name).with_text(text);
        let mut stanza = Stanza::presence(Ty::None);
        if let Some(show) = self.show.as_str() {
            stanza = stanza.with_child(&text("show", show));
        }
        if let Some(status) = &self.status {
            stanza = stanza.with_child(&text("status", status));
        }
        if self.priority != 0 {
            stanza = stanza.with_child(&text("priority", &self.priority.to_string()));
        }
        stanza.with_child(caps)
    }
}

/// What somebody else tells.
#[derive(Clone, Debug)]
pub struct Presence {
    /// Who; a bare JID that is not available has no resource that is.
    pub from: Jid,
    /// Can be reached.
    pub is_available: bool,
    /// How available.
    pub show: Show,
    /// In words; the first 4 KiB.
    pub status: Option<String>,
    /// Which of their devices gets messages.
    pub priority: i8,
    /// Since when, where that is told.
    pub delay: Option<Delay>,
}

impl Presence {
    /// Reads a presence of availability; `None`: it has no sender, or says something else.
    pub(super) fn read(stanza: &Stanza) -> Option<Self> {
        let is_available = match stanza.head.ty {
            Ty::None => true,
            Ty::Unavailable => false,
            _ => return None,
        };
        let priority = stanza.child_text(name::PRIORITY);
        let delay = stanza.kid(ns::id::DELAY, name::DELAY);
        Some(Self {
            from: stanza.head.from.clone()?,
            is_available,
            show: Show::of(&stanza.child_text(name::SHOW).unwrap_or_default()),
            status: status(stanza),
            priority: priority
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
            delay: delay.and_then(|kid| Delay::parse(&stanza.element(kid))),
        })
    }
}

pub(super) fn status(stanza: &Stanza) -> Option<String> {
    let mut status = stanza.child_text(name::STATUS)?;
    status.truncate(status.floor_char_boundary(STATUS_MAX));
    (!status.is_empty()).then_some(status)
}

/// Who is available, as far as we were told.
#[derive(Debug, Default)]
pub(super) struct Presences {
    contacts: HashMap<BareJid, Vec<Kept>>,
    count: usize,
    tick: u64,
}

#[derive(Debug)]
struct Kept {
    presence: Presence,
    /// Hash of capabilities that it named.
    caps: Option<super::caps::Key>,
    tick: u64,
}

impl Presences {
    /// Takes in what was told.
    pub(super) fn told(
        &mut self,
        presence: &Presence,
        caps: Option<super::caps::Key>,
        limits: &ProtocolLimits,
    ) {
        let contact = presence.from.to_bare();
        match (presence.is_available, presence.from.is_bare()) {
            // Section 4.5.4: of the bare JID, all resources are gone.
            (false, true) => self.forget(&contact),
            (false, false) => self.remove(&presence.from),
            (true, _) => self.insert(contact, presence, caps, limits),
        }
    }

    /// Forgets a contact.
    pub(super) fn forget(&mut self, contact: &BareJid) {
        if let Some(kept) = self.contacts.remove(contact) {
            self.count -= kept.len();
        }
    }

    /// Forgets everybody: we are offline.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All available resources of a contact, the most available first.
    pub(super) fn of(&self, contact: &BareJid) -> Vec<Presence> {
        let kept = self.contacts.get(contact).map_or(&[][..], Vec::as_slice);
        let mut presences: Vec<_> = kept.iter().map(|kept| kept.presence.clone()).collect();
        presences.sort_by_key(|presence| std::cmp::Reverse(presence.priority));
        presences
    }

    /// The hash of capabilities that this resource named.
    pub(super) fn caps_of(&self, jid: &Jid) -> Option<&super::caps::Key> {
        let kept = self.contacts.get(jid.bare_str())?;
        let kept = kept.iter().find(|kept| kept.presence.from == *jid)?;
        kept.caps.as_ref()
    }

    fn insert(
        &mut self,
        contact: BareJid,
        presence: &Presence,
        caps: Option<super::caps::Key>,
        limits: &ProtocolLimits,
    ) {
        self.remove(&presence.from);
        while self.count >= limits.presences.max(1) {
            self.evict();
        }
        self.tick += 1;
        let kept = self.contacts.entry(contact).or_default();
        if kept.len() >= limits.resources.max(1) {
            // In order of arrival: the first was told longest ago.
            kept.remove(0);
            self.count -= 1;
        }
        kept.push(Kept {
            presence: presence.clone(),
            caps,
            tick: self.tick,
        });
        self.count += 1;
    }

    fn remove(&mut self, jid: &Jid) {
        let Some(kept) = self.contacts.get_mut(jid.bare_str()) else {
            return;
        };
        let before = kept.len();
        kept.retain(|kept| kept.presence.from != *jid);
        self.count -= before - kept.len();
        if kept.is_empty() {
            self.contacts.remove(jid.bare_str());
        }
    }

    fn evict(&mut self) {
        let all = self.contacts.values().flatten();
        let oldest = all.min_by_key(|kept| kept.tick);
        match oldest.map(|kept| kept.presence.from.clone()) {
            Some(jid) => self.remove(&jid),
            None => self.count = 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(xml: &str) -> Presence {
        Presence::read(&Stanza::parse(xml).unwrap()).unwrap()
    }

    fn available(from: &str) -> Presence {
        presence(&format!("<presence from='{from}'/>"))
    }

    fn shown(presences: &Presences, contact: &str) -> Vec<String> {
        let of = presences.of(&BareJid::parse(contact).unwrap());
        of.iter()
            .map(|presence| presence.from.to_string())
            .collect()
    }

    #[test]
    fn c6121_pr_16_presence_is_read_leniently() {
        let full = presence(
            "<presence from='a@b/c'><show>dnd</show><status>busy</status>\
             <priority>-5</priority>\
             <delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:00Z'/></presence>",
        );
        assert_eq!((full.show, full.priority), (Show::Dnd, -5));
        assert_eq!(full.status.as_deref(), Some("busy"));
        assert!(full.delay.is_some());
        let odd = presence(
            "<presence from='a@b/c'><show>dancing</show><priority>200</priority></presence>",
        );
        assert_eq!((odd.show, odd.priority), (Show::Online, 0));
        for other in ["<presence/>", "<presence from='a@b' type='subscribe'/>"] {
            assert!(Presence::read(&Stanza::parse(other).unwrap()).is_none());
        }
        let long = "\u{e4}".repeat(STATUS_MAX);
        let long = format!("<presence from='a@b/c'><status>{long}</status></presence>");
        assert_eq!(presence(&long).status.unwrap().len(), STATUS_MAX);
    }

    #[test]
    fn own_presence_is_written() {
        let caps = Element::new(ns::CAPS, "c");
        let own = Availability {
            priority: 5,
            ..Availability::new(Show::Away).with_status("out")
        };
        let expected = "<presence><show>away</show><status>out</status><priority>5</priority>\
                        <c xmlns='http://jabber.org/protocol/caps'/></presence>";
        assert_eq!(own.to_stanza(&caps).to_xml(), expected);
    }

    #[test]
    fn resources_come_and_go() {
        let (mut presences, limits) = (Presences::default(), ProtocolLimits::default());
        let mut told = |xml: &str| presences.told(&presence(xml), None, &limits);
        told("<presence from='a@b/1'/>");
        told("<presence from='a@b/2'><priority>1</priority></presence>");
        told("<presence from='x@b/1'/>");
        told("<presence from='a@b/1'><show>away</show></presence>");
        assert_eq!(shown(&presences, "a@b"), ["a@b/2", "a@b/1"]);
        let mut told = |xml: &str| presences.told(&presence(xml), None, &limits);
        told("<presence from='a@b/2' type='unavailable'/>");
        assert_eq!(shown(&presences, "a@b"), ["a@b/1"]);
        presences.told(&available("a@b/3"), None, &limits);
        let gone = presence("<presence from='a@b' type='unavailable'/>");
        presences.told(&gone, None, &limits);
        assert_eq!(presences.count, 1);
        assert!(shown(&presences, "a@b").is_empty());
        presences.clear();
        assert!(shown(&presences, "x@b").is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let limits = ProtocolLimits {
            presences: 3,
            resources: 2,
            ..ProtocolLimits::default()
        };
        let mut presences = Presences::default();
        for jid in ["a@b/1", "a@b/2", "a@b/3", "x@b/1", "y@b/1"] {
            presences.told(&available(jid), None, &limits);
        }
        assert_eq!(presences.count, 3);
        assert_eq!(shown(&presences, "a@b"), ["a@b/3"]);
        assert_eq!(shown(&presences, "x@b"), ["x@b/1"]);
        assert_eq!(shown(&presences, "y@b"), ["y@b/1"]);
    }
}
