//! Invitations: through the room (XEP-0045 section 7.8.2) and directly (XEP-0249).

use super::event::user_data;
use crate::client::XmppClient;
use crate::error::Closed;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns::{self, name};
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// Somebody wants us in a room.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Invitation {
    /// The room.
    pub room: BareJid,
    /// Who invites, as far as the room or the sender says.
    pub by: Option<Jid>,
    /// Why.
    pub reason: Option<String>,
    /// The room's password.
    pub password: Option<String>,
    /// It came from a person, not through the room.
    pub is_direct: bool,
}

/// Invites through the room, which may make them members.
///
/// # Errors
/// The stream is over. A refusal comes as `RoomEvent::Refused`.
pub async fn invite(
    client: &XmppClient,
    room: &BareJid,
    whom: &[Jid],
    reason: Option<&str>,
) -> Result<(), Closed> {
    let mut x = Element::new(ns::MUC_USER, "x");
    for jid in whom {
        let invite = Element::new(ns::MUC_USER, "invite").with_attr("to", jid.as_str());
        x.push(with_reason(invite, reason));
    }
    let message = Stanza::message(Ty::None).with_to(room.as_jid().clone());
    client.send_stanza(message.with_child(&x)).await
}

/// Invites a person directly.
///
/// # Errors
/// The stream is over.
pub async fn invite_directly(
    client: &XmppClient,
    room: &BareJid,
    to: &Jid,
    reason: Option<&str>,
    password: Option<&str>,
) -> Result<(), Closed> {
    let mut x = Element::new(ns::CONFERENCE, "x").with_attr("jid", room.as_jid().as_str());
    if let Some(reason) = reason {
        x.set_attr("reason", reason);
    }
    if let Some(password) = password {
        x.set_attr("password", password);
    }
    let message = Stanza::message(Ty::None).with_to(to.clone());
    client.send_stanza(message.with_child(&x)).await
}

/// Says through the room that we do not come.
///
/// # Errors
/// The stream is over.
pub async fn decline(
    client: &XmppClient,
    room: &BareJid,
    to: &Jid,
    reason: Option<&str>,
) -> Result<(), Closed> {
    let decline = Element::new(ns::MUC_USER, "decline").with_attr("to", to.as_str());
    let x = Element::new(ns::MUC_USER, "x").with_child(with_reason(decline, reason));
    let message = Stanza::message(Ty::None).with_to(room.as_jid().clone());
    client.send_stanza(message.with_child(&x)).await
}

/// Reads an invitation; `None` where the stanza is none. One through a room comes from the room's
/// address, and is to that room only.
#[must_use]
pub fn read_invitation(stanza: &Stanza) -> Option<Invitation> {
    if stanza.kind != Kind::Message || matches!(stanza.head.ty, Ty::Error | Ty::Groupchat) {
        return None;
    }
    let from = stanza.head.from.as_ref()?;
    mediated(from, stanza).or_else(|| direct(from, stanza))
}

fn mediated(from: &Jid, stanza: &Stanza) -> Option<Invitation> {
    let x = user_data(stanza)?;
    let invite = x.child(ns::MUC_USER, "invite")?;
    if !from.is_bare() {
        return None;
    }
    Some(Invitation {
        room: from.to_bare(),
        by: invite.attr("from").and_then(|by| Jid::parse(by).ok()),
        reason: text_of(invite, "reason"),
        password: text_of(&x, "password"),
        is_direct: false,
    })
}

fn direct(from: &Jid, stanza: &Stanza) -> Option<Invitation> {
    let x = stanza.element(stanza.kid(ns::id::CONFERENCE, name::X)?);
    Some(Invitation {
        room: BareJid::parse(x.attr("jid")?).ok()?,
        by: Some(from.clone()),
        reason: x.attr("reason").map(ToOwned::to_owned),
        password: x.attr("password").map(ToOwned::to_owned),
        is_direct: true,
    })
}

fn with_reason(element: Element, reason: Option<&str>) -> Element {
    match reason {
        Some(reason) => element.with_child(Element::new(ns::MUC_USER, "reason").with_text(reason)),
        None => element,
    }
}

fn text_of(parent: &Element, name: &str) -> Option<String> {
    let text = parent.child(ns::MUC_USER, name)?.text();
    (!text.is_empty()).then_some(text)
}
