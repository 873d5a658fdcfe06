//! What a room says (XEP-0045 sections 7 to 10), read from its presences and messages.
//!
//! Only what comes from the room's address is about the room: a kick, a ban or a role from anywhere
//! else is not even looked at, and a message from an occupant is never one from a contact.

use super::{Occupant, nick_in, room_of};
use std::time::SystemTime;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{FullJid, Jid};
use xmpp_stream::ns::{self, NameId, name};
use xmpp_stream::payload::delay::Delay;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// Something that a room says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RoomEvent {
    /// Somebody has entered, or is here and has changed.
    Present {
        /// Who.
        occupant: Occupant,
        /// We ourselves.
        is_self: bool,
        /// Status codes (section 15.6.2).
        statuses: Vec<u16>,
    },
    /// Somebody has gone.
    Absent {
        /// Who.
        occupant: Occupant,
        /// We ourselves. After `Departure::Renamed` we are still here.
        is_self: bool,
        /// Why.
        why: Departure,
    },
    /// Something was said to everybody.
    Message {
        /// By whom; `None`: the room itself.
        nick: Option<Box<str>>,
        /// Its id, which the sender chose.
        id: Option<Box<str>>,
        /// What.
        body: Option<String>,
        /// When, where it is from the room's history.
        stamp: Option<SystemTime>,
    },
    /// The subject is now this; empty: none.
    Subject {
        /// Who set it.
        nick: Option<Box<str>>,
        /// The subject.
        subject: String,
    },
    /// Something was said to us alone.
    Private {
        /// By whom.
        nick: Box<str>,
        /// What.
        body: Option<String>,
    },
    /// The room has changed; the codes say what (104, 170 to 173).
    Changed {
        /// Status codes.
        statuses: Vec<u16>,
    },
    /// Somebody does not come whom we invited.
    Declined {
        /// Who.
        by: Option<Jid>,
        /// Why.
        reason: Option<String>,
    },
    /// The room refused something that we said.
    Refused {
        /// The id of what we said.
        id: Option<Box<str>>,
        /// Why.
        error: StanzaError,
    },
    /// The room refused a presence: entering, leaving or a nickname.
    PresenceRefused {
        /// The nickname.
        nick: Option<Box<str>>,
        /// Why.
        error: StanzaError,
    },
}

/// Why somebody has gone.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Departure {
    /// Left.
    Left,
    /// Has another nickname now.
    Renamed {
        /// Which.
        nick: Box<str>,
    },
    /// Was kicked.
    Kicked(Removal),
    /// Was banned.
    Banned(Removal),
    /// May not be here any more, after an affiliation was taken away.
    AffiliationLost(Removal),
    /// May not be here any more, as the room is for members only now.
    MembersOnly(Removal),
    /// The service goes down.
    Shutdown,
    /// The way there is broken.
    TechnicalError,
    /// The room is no more.
    Destroyed {
        /// Go there instead.
        instead: Option<Jid>,
        /// Why.
        reason: Option<String>,
    },
}

/// Who removed somebody, and why, where the room says it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Removal {
    /// Nickname of who did it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// Reads what a stanza says about the room where our address is `occupant`; `None`: nothing, or it
/// is not from this room.
#[must_use]
pub fn read(occupant: &FullJid, stanza: &Stanza) -> Option<RoomEvent> {
    match stanza.kind {
        Kind::Presence => presence(occupant, stanza),
        Kind::Message => message(occupant, stanza),
        Kind::Iq => None,
    }
}

pub(super) fn presence(own: &FullJid, stanza: &Stanza) -> Option<RoomEvent> {
    if stanza.kind != Kind::Presence {
        return None;
    }
    let nick = nick_in(&room_of(own), stanza.head.from.as_ref())?;
    if let Some(error) = stanza.error() {
        return Some(RoomEvent::PresenceRefused { nick, error });
    }
    let nick = nick?;
    let x = user_data(stanza);
    let statuses = statuses(x.as_ref());
    let occupant = Occupant::read(&nick, x.as_ref());
    let is_self = statuses.contains(&110) || *nick == *own.resource_str();
    match stanza.head.ty {
        Ty::None => Some(RoomEvent::Present {
            occupant,
            is_self,
            statuses,
        }),
        Ty::Unavailable => Some(RoomEvent::Absent {
            occupant,
            is_self,
            why: departure(x.as_ref(), &statuses),
        }),
        _ => None,
    }
}

fn message(own: &FullJid, stanza: &Stanza) -> Option<RoomEvent> {
    let nick = nick_in(&room_of(own), stanza.head.from.as_ref())?;
    if let Some(error) = stanza.error() {
        let id = stanza.head.id.clone();
        return Some(RoomEvent::Refused { id, error });
    }
    let x = user_data(stanza);
    if let (None, Some(x)) = (&nick, &x) {
        if let Some(decline) = x.child(ns::MUC_USER, "decline") {
            return Some(RoomEvent::Declined {
                by: decline.attr("from").and_then(|by| Jid::parse(by).ok()),
                reason: reason(decline),
            });
        }
        let statuses = statuses(Some(x));
        if !statuses.is_empty() {
            return Some(RoomEvent::Changed { statuses });
        }
        if x.child(ns::MUC_USER, "invite").is_some() {
            return None;
        }
    }
    if stanza.head.ty != Ty::Groupchat {
        let body = stanza.body();
        return nick.map(|nick| RoomEvent::Private { nick, body });
    }
    let has = |name: NameId| stanza.has(ns::id::CLIENT, name);
    if has(name::SUBJECT) && !has(name::BODY) && !has(name::THREAD) {
        let subject = stanza.child_text(name::SUBJECT).unwrap_or_default();
        return Some(RoomEvent::Subject { nick, subject });
    }
    let delay = stanza.kid(ns::id::DELAY, name::DELAY);
    let delay = delay.and_then(|kid| Delay::parse(&stanza.element(kid)));
    Some(RoomEvent::Message {
        nick,
        id: stanza.head.id.clone(),
        body: stanza.body(),
        stamp: delay.map(|delay| delay.stamp),
    })
}

/// Section 15.6.2; banned counts before kicked, where a service says both.
fn departure(x: Option<&Element>, statuses: &[u16]) -> Departure {
    let item = x.and_then(|x| x.child(ns::MUC_USER, "item"));
    if let Some(destroy) = x.and_then(|x| x.child(ns::MUC_USER, "destroy")) {
        return Departure::Destroyed {
            instead: destroy.attr("jid").and_then(|jid| Jid::parse(jid).ok()),
            reason: reason(destroy),
        };
    }
    let has = |code| statuses.contains(&code);
    let nick = item.and_then(|item| item.attr("nick"));
    if let (true, Some(nick)) = (has(303), nick) {
        return Departure::Renamed { nick: nick.into() };
    }
    let removal = || removal(item);
    match () {
        () if has(301) => Departure::Banned(removal()),
        () if has(321) => Departure::AffiliationLost(removal()),
        () if has(322) => Departure::MembersOnly(removal()),
        () if has(332) => Departure::Shutdown,
        () if has(333) => Departure::TechnicalError,
        () if has(307) => Departure::Kicked(removal()),
        () => Departure::Left,
    }
}

fn removal(item: Option<&Element>) -> Removal {
    let actor = item.and_then(|item| item.child(ns::MUC_USER, "actor"));
    let by = actor.and_then(|actor| actor.attr("nick"));
    Removal {
        by: by.map(ToOwned::to_owned),
        reason: item.and_then(reason),
    }
}

fn reason(of: &Element) -> Option<String> {
    let reason = of.child(ns::MUC_USER, "reason")?.text();
    (!reason.is_empty()).then_some(reason)
}

/// `<x xmlns='…muc#user'/>`.
pub(super) fn user_data(stanza: &Stanza) -> Option<Element> {
    let kid = stanza.kid(ns::id::MUC_USER, name::X)?;
    Some(stanza.element(kid))
}

fn statuses(x: Option<&Element>) -> Vec<u16> {
    let statuses = x.into_iter().flat_map(Element::children);
    statuses
        .filter(|child| child.is(ns::MUC_USER, "status"))
        .filter_map(|status| status.attr("code")?.parse().ok())
        .collect()
}
