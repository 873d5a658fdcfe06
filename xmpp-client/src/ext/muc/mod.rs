//! Rooms (XEP-0045): join, leave, speak. What a room says is read by `read`.
//!
//! `join` and `leave` wait for the room's own word, the presence with status 110; what is only sent
//! is not done. All that a room says is taken from the room's address alone.

mod admin;
mod event;
mod invite;
mod membership;
mod occupant;
mod owner;

pub use admin::{Affiliated, AffiliationChange, affiliations, kick, set_affiliations, set_role};
pub use event::{Departure, Removal, RoomEvent, read};
pub use invite::{Invitation, decline, invite, invite_directly, read_invitation};
pub use membership::{Membership, check_membership, membership};
pub use occupant::{Affiliation, Occupant, Role};
pub use owner::{accept_defaults, cancel, config, configure, destroy};

use super::fresh_id;
use crate::client::XmppClient;
use crate::error::Closed;
use crate::event::Events;
use event::presence;
use std::fmt;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;
use xmpp_stream::error::{StanzaCondition, StanzaError};
use xmpp_stream::jid::{BareJid, FullJid, Jid, JidError};
use xmpp_stream::ns;
use xmpp_stream::payload::delay::stamp;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// Occupants that a room may have when it is joined: what a hostile room can make us keep.
pub const OCCUPANTS_MAX: usize = 20_000;
/// How long to wait for a room's word about leaving or a new nickname.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How to join.
#[derive(Clone, Debug)]
pub struct Join {
    /// The room's password.
    pub password: Option<String>,
    /// At most this many earlier messages; `None`: as the room likes.
    pub history: Option<u32>,
    /// Only earlier messages since then.
    pub since: Option<SystemTime>,
    /// How long to wait for the room.
    pub wait: Duration,
}

impl Default for Join {
    fn default() -> Self {
        Self {
            password: None,
            history: None,
            since: None,
            wait: ANSWER_MAX,
        }
    }
}

/// A room that was joined.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Joined {
    /// Our address in the room; the room may have given another nickname than was asked for.
    pub occupant: FullJid,
    /// We as the room sees us.
    pub me: Occupant,
    /// Who was there already.
    pub others: Vec<Occupant>,
    /// The room is new and waits for its configuration: `configure` or `accept_defaults`.
    pub is_new: bool,
    /// Everybody here sees everybody's real JID.
    pub is_non_anonymous: bool,
    /// What is said here is recorded.
    pub is_logged: bool,
}

/// Why a room was not joined.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum JoinError {
    /// It cannot be a nickname.
    Nick(JidError),
    /// The room wants a password, or another one.
    Password,
    /// We are banned.
    Banned,
    /// There is no such room, or it is not open yet.
    NotFound,
    /// There is no such room, and we may not make one.
    MayNotCreate,
    /// The nickname is not ours to choose: another one is reserved for us.
    NickReserved,
    /// Only members may enter.
    MembersOnly,
    /// Somebody has the nickname.
    NickInUse,
    /// The room is full.
    Full,
    /// Another refusal.
    Refused(StanzaError),
    /// The room removed us before we were in.
    Removed(Departure),
    /// More than `OCCUPANTS_MAX` are in it.
    TooManyOccupants,
    /// The room did not answer in time.
    Timeout,
    /// The stream is over.
    Closed,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nick(error) => return write!(f, "not a nickname: {error}"),
            Self::Password => "the room wants a password, or another one",
            Self::Banned => "we are banned from the room",
            Self::NotFound => "there is no such room",
            Self::MayNotCreate => "there is no such room, and we may not make one",
            Self::NickReserved => "we may not choose this nickname",
            Self::MembersOnly => "the room is for members only",
            Self::NickInUse => "somebody has the nickname",
            Self::Full => "the room is full",
            Self::Refused(error) => return write!(f, "the room refused: {error}"),
            Self::Removed(_) => "the room removed us",
            Self::TooManyOccupants => "there are too many people in the room",
            Self::Timeout => "the room did not answer in time",
            Self::Closed => "the stream is over",
        })
    }
}

impl std::error::Error for JoinError {}

impl From<StanzaError> for JoinError {
    /// XEP-0045 section 7.2.17.
    fn from(error: StanzaError) -> Self {
        match error.condition {
            StanzaCondition::NotAuthorized => Self::Password,
            StanzaCondition::Forbidden => Self::Banned,
            StanzaCondition::ItemNotFound => Self::NotFound,
            StanzaCondition::NotAllowed => Self::MayNotCreate,
            StanzaCondition::NotAcceptable => Self::NickReserved,
            StanzaCondition::RegistrationRequired => Self::MembersOnly,
            StanzaCondition::Conflict => Self::NickInUse,
            StanzaCondition::ServiceUnavailable => Self::Full,
            _ => Self::Refused(error),
        }
    }
}

/// Why a room did not do what an occupant wanted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RoomError {
    /// It cannot be a nickname.
    Nick(JidError),
    /// The room refused.
    Refused(StanzaError),
    /// We are not in the room any more.
    Removed(Departure),
    /// The room did not answer in time.
    Timeout,
    /// The stream is over.
    Closed,
}

impl fmt::Display for RoomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nick(error) => write!(f, "not a nickname: {error}"),
            Self::Refused(error) => write!(f, "the room refused: {error}"),
            Self::Removed(_) => f.write_str("we are not in the room any more"),
            Self::Timeout => f.write_str("the room did not answer in time"),
            Self::Closed => f.write_str("the stream is over"),
        }
    }
}

impl std::error::Error for RoomError {}

/// Joins a room; a room that does not exist is made, where the service lets us. History, subject
/// and what follows go to the receivers of the client: ask for `events` before joining.
///
/// # Errors
/// `JoinError`; after `Timeout` and `TooManyOccupants` we have left again as far as we know.
pub async fn join(
    client: &XmppClient,
    room: &BareJid,
    nick: &str,
    how: &Join,
) -> Result<Joined, JoinError> {
    let occupant = room.as_jid().with_resource(nick);
    let occupant = occupant.map_err(JoinError::Nick)?;
    let id = fresh_id();
    let mut events = client.events();
    let asked = joining(&occupant, how).with_id(&id);
    let sent = client.send_stanza(asked).await;
    sent.map_err(|_| JoinError::Closed)?;
    let entered = timeout(how.wait, entered(&mut events, &occupant, &id)).await;
    let result = entered.unwrap_or(Err(JoinError::Timeout));
    if matches!(
        result,
        Err(JoinError::Timeout | JoinError::TooManyOccupants)
    ) {
        let away = Stanza::presence(Ty::Unavailable).with_to(occupant.into_jid());
        let _ = client.send_stanza(away).await;
    }
    result
}

/// Leaves a room; returns when the room says so.
///
/// # Errors
/// The room did not say so in time, or refused; the stream is over.
pub async fn leave(
    client: &XmppClient,
    occupant: &FullJid,
    status: Option<&str>,
) -> Result<(), RoomError> {
    let mut away = Stanza::presence(Ty::Unavailable).with_to(occupant.as_jid().clone());
    if let Some(status) = status {
        away = away.with_child(&Element::new(ns::CLIENT, "status").with_text(status));
    }
    let mut events = client.events();
    let sent = client.send_stanza(away).await;
    sent.map_err(|_| RoomError::Closed)?;
    let gone = async {
        loop {
            match next_of_room(&mut events, occupant).await? {
                RoomEvent::Absent { is_self: true, .. } => return Ok(()),
                RoomEvent::PresenceRefused { error, .. } => return Err(RoomError::Refused(error)),
                _ => {}
            }
        }
    };
    let gone = timeout(ANSWER_MAX, gone).await;
    gone.unwrap_or(Err(RoomError::Timeout))
}

/// Takes another nickname; gives our new address in the room.
///
/// # Errors
/// `Refused` with conflict when somebody has it; the other kinds as they say.
pub async fn change_nick(
    client: &XmppClient,
    occupant: &FullJid,
    nick: &str,
) -> Result<FullJid, RoomError> {
    let wanted = occupant.as_jid().with_resource(nick);
    let wanted = wanted.map_err(RoomError::Nick)?;
    let mut events = client.events();
    let asked = Stanza::presence(Ty::None).with_to(wanted.into_jid());
    let sent = client.send_stanza(asked).await;
    sent.map_err(|_| RoomError::Closed)?;
    let renamed = async {
        loop {
            match next_of_room(&mut events, occupant).await? {
                RoomEvent::Present {
                    is_self: true,
                    occupant: me,
                    ..
                } if *me.nick != *occupant.resource_str() => {
                    let renamed = occupant.as_jid().with_resource(&me.nick);
                    return renamed.map_err(RoomError::Nick);
                }
                RoomEvent::Absent {
                    is_self: true, why, ..
                } if !matches!(why, Departure::Renamed { .. }) => {
                    return Err(RoomError::Removed(why));
                }
                RoomEvent::PresenceRefused { error, .. } => return Err(RoomError::Refused(error)),
                _ => {}
            }
        }
    };
    let renamed = timeout(ANSWER_MAX, renamed).await;
    renamed.unwrap_or(Err(RoomError::Timeout))
}

/// Says something to everybody in the room; gives the id by which the room's copy is known.
///
/// # Errors
/// The stream is over.
pub async fn send(client: &XmppClient, room: &BareJid, body: &str) -> Result<Box<str>, Closed> {
    let body = Element::new(ns::CLIENT, "body").with_text(body);
    say(client, room, &body).await
}

/// Sets the subject; an empty one takes it away. A refusal comes as `RoomEvent::Refused` with the id.
///
/// # Errors
/// The stream is over.
pub async fn set_subject(
    client: &XmppClient,
    room: &BareJid,
    subject: &str,
) -> Result<Box<str>, Closed> {
    let subject = Element::new(ns::CLIENT, "subject").with_text(subject);
    say(client, room, &subject).await
}

/// Says something to one occupant alone.
///
/// # Errors
/// The stream is over.
pub async fn send_privately(
    client: &XmppClient,
    to: &FullJid,
    body: &str,
) -> Result<Box<str>, Closed> {
    let id = fresh_id();
    let message = Stanza::message(Ty::Chat)
        .with_to(to.as_jid().clone())
        .with_id(&id)
        .with_child(&Element::new(ns::CLIENT, "body").with_text(body))
        .with_child(&Element::new(ns::MUC_USER, "x"));
    client.send_stanza(message).await?;
    Ok(id.into())
}

async fn say(client: &XmppClient, room: &BareJid, what: &Element) -> Result<Box<str>, Closed> {
    let id = fresh_id();
    let message = Stanza::message(Ty::Groupchat)
        .with_to(room.as_jid().clone())
        .with_id(&id)
        .with_child(what);
    client.send_stanza(message).await?;
    Ok(id.into())
}

fn joining(occupant: &FullJid, how: &Join) -> Stanza {
    let mut x = Element::new(ns::MUC, "x");
    if how.history.is_some() || how.since.is_some() {
        let mut history = Element::new(ns::MUC, "history");
        if let Some(max) = how.history {
            history.set_attr("maxstanzas", &max.to_string());
        }
        if let Some(since) = how.since {
            history.set_attr("since", &stamp(since));
        }
        x.push(history);
    }
    if let Some(password) = &how.password {
        x.push(Element::new(ns::MUC, "password").with_text(password));
    }
    Stanza::presence(Ty::None)
        .with_to(occupant.as_jid().clone())
        .with_child(&x)
}

/// Waits until the room says that we are in, or why not (section 7.2).
async fn entered(events: &mut Events, asked: &FullJid, id: &str) -> Result<Joined, JoinError> {
    let mut others = Vec::new();
    loop {
        let stanza = events.next_stanza().await.ok_or(JoinError::Closed)?;
        if refusal(&stanza, asked, id) {
            let error = stanza.error();
            return Err(error
                .unwrap_or_else(StanzaError::undefined_condition)
                .into());
        }
        match presence(asked, &stanza) {
            Some(RoomEvent::Present {
                occupant, statuses, ..
            }) => {
                // Without a role nobody is in a room: that is left over from an earlier stay.
                if statuses.contains(&110) && occupant.role == Role::None {
                    continue;
                }
                if statuses.contains(&110) {
                    let own = asked.as_jid().with_resource(&occupant.nick);
                    return Ok(Joined {
                        occupant: own.map_err(JoinError::Nick)?,
                        me: occupant,
                        others,
                        is_new: statuses.contains(&201),
                        is_non_anonymous: statuses.contains(&100),
                        is_logged: statuses.contains(&170),
                    });
                }
                if others.len() == OCCUPANTS_MAX {
                    return Err(JoinError::TooManyOccupants);
                }
                others.push(occupant);
            }
            Some(RoomEvent::Absent {
                is_self: true, why, ..
            }) => return Err(JoinError::Removed(why)),
            Some(RoomEvent::Absent { occupant, .. }) => {
                others.retain(|other| other.nick != occupant.nick);
            }
            _ => {}
        }
    }
}

/// An error from the address we tried, or from the room to our very presence.
fn refusal(stanza: &Stanza, asked: &FullJid, id: &str) -> bool {
    let Some(from) = &stanza.head.from else {
        return false;
    };
    let is_ours = stanza.head.id.as_deref() == Some(id);
    stanza.kind == Kind::Presence
        && stanza.head.ty == Ty::Error
        && (from == asked.as_jid() || (is_ours && from == room_of(asked).as_jid()))
}

/// The next thing that this room says.
async fn next_of_room(events: &mut Events, occupant: &FullJid) -> Result<RoomEvent, RoomError> {
    loop {
        let stanza = events.next_stanza().await.ok_or(RoomError::Closed)?;
        if let Some(event) = read(occupant, &stanza) {
            return Ok(event);
        }
    }
}

/// The room of an occupant's address.
pub(super) fn room_of(occupant: &FullJid) -> BareJid {
    occupant.as_jid().to_bare()
}

/// The nickname, where the address is one of this room.
fn nick_in(room: &BareJid, from: Option<&Jid>) -> Option<Option<Box<str>>> {
    let from = from?;
    (from.to_bare() == *room).then(|| from.resource().map(Into::into))
}

#[cfg(test)]
mod tests;
