//! Who is in a room: affiliation, role, nickname (XEP-0045 section 5).

use std::fmt;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// What somebody is to the room for good (section 5.2); greater means more rights.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Affiliation {
    /// Banned.
    Outcast,
    /// Nothing in particular.
    None,
    /// May enter a members-only room.
    Member,
    /// May ban, and make members and moderators.
    Admin,
    /// May do everything.
    Owner,
}

/// What somebody may do in the room now (section 5.1); greater means more rights.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// Not in the room.
    None,
    /// May listen.
    Visitor,
    /// May speak.
    Participant,
    /// May kick, and give and take voice.
    Moderator,
}

impl Affiliation {
    /// The attribute value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outcast => "outcast",
            Self::None => "none",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Reads the attribute value.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        let all = [
            Self::Outcast,
            Self::None,
            Self::Member,
            Self::Admin,
            Self::Owner,
        ];
        all.into_iter().find(|one| one.as_str() == text)
    }
}

impl Role {
    /// The attribute value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Visitor => "visitor",
            Self::Participant => "participant",
            Self::Moderator => "moderator",
        }
    }

    /// Reads the attribute value.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        let all = [
            Self::None,
            Self::Visitor,
            Self::Participant,
            Self::Moderator,
        ];
        all.into_iter().find(|one| one.as_str() == text)
    }
}

impl fmt::Display for Affiliation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody in a room, as the room shows them to us.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Occupant {
    /// Nickname.
    pub nick: Box<str>,
    /// Affiliation.
    pub affiliation: Affiliation,
    /// Role.
    pub role: Role,
    /// The real JID, where the room shows it.
    pub jid: Option<Jid>,
}

impl Occupant {
    /// Reads the item of a presence (section 7.2.3); what is missing or unknown counts as nothing.
    pub(super) fn read(nick: &str, x: Option<&Element>) -> Self {
        let item = x.and_then(|x| x.child(ns::MUC_USER, "item"));
        let attr = |name| item.and_then(|item| item.attr(name));
        Self {
            nick: nick.into(),
            affiliation: attr("affiliation")
                .and_then(Affiliation::from_wire)
                .unwrap_or(Affiliation::None),
            role: attr("role").and_then(Role::from_wire).unwrap_or(Role::None),
            jid: attr("jid").and_then(|jid| Jid::parse(jid).ok()),
        }
    }
}
