//! Message carbons (XEP-0280): copies of what other resources of the account send and receive.
//!
//! A copy from anyone but the own bare JID is a forgery (section 11): whoever believes it lets
//! strangers put words into contacts' mouths.

use super::{Forged, set};
use crate::client::XmppClient;
use crate::error::IqError;
use xmpp_stream::jid::FullJid;
use xmpp_stream::ns::{self, name};
use xmpp_stream::payload::forward::Forwarded;
use xmpp_stream::stanza::{Kind, Stanza};
use xmpp_stream::xml::Element;

/// A copy of a message.
#[derive(Clone, Debug)]
pub struct Carbon {
    /// What another resource did with it.
    pub direction: Direction,
    /// The message as that resource sent or got it.
    pub message: Stanza,
}

/// What another resource did with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Sent it.
    Sent,
    /// Received it.
    Received,
}

/// Asks for copies, from now on and for this stream.
///
/// # Errors
/// The request failed.
pub async fn enable(client: &XmppClient) -> Result<(), IqError> {
    set(client, None, &Element::new(ns::CARBONS, "enable")).await?;
    Ok(())
}

/// No more copies.
///
/// # Errors
/// The request failed.
pub async fn disable(client: &XmppClient) -> Result<(), IqError> {
    set(client, None, &Element::new(ns::CARBONS, "disable")).await?;
    Ok(())
}

/// Marks a message as one to be copied to no other resource (section 7).
#[must_use]
pub fn private(message: Stanza) -> Stanza {
    message
        .with_child(&Element::new(ns::CARBONS, "private"))
        .with_child(&Element::new(ns::HINTS, "no-copy"))
}

/// Reads a copy; `None` where the stanza is none.
///
/// # Errors
/// It looks like a copy, and is not from the own account.
pub fn read(own: &FullJid, stanza: &Stanza) -> Result<Option<Carbon>, Forged> {
    if stanza.kind != Kind::Message {
        return Ok(None);
    }
    let sent = stanza.kid(ns::id::CARBONS, name::SENT);
    let received = stanza.kid(ns::id::CARBONS, name::RECEIVED);
    let (kid, direction) = match (sent, received) {
        (Some(sent), None) => (sent, Direction::Sent),
        (None, Some(received)) => (received, Direction::Received),
        _ => return Ok(None),
    };
    let from = stanza.head.from.as_ref();
    if from != Some(own.as_jid().to_bare().as_jid()) {
        let from = from.cloned();
        return Err(Forged { from });
    }
    let found = Forwarded::find(&stanza.element(kid));
    Ok(found.map(|Forwarded { message, .. }| Carbon { direction, message }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carbon(from: &str, inside: &str) -> Result<Option<Carbon>, Forged> {
        let own = FullJid::parse("ann@a.test/x").unwrap();
        read(
            &own,
            &Stanza::parse(&format!("<message{from}>{inside}</message>")).unwrap(),
        )
    }

    fn copy(name: &str, stanza: &str) -> String {
        let (carbons, forward) = (ns::CARBONS, ns::FORWARD);
        format!(
            "<{name} xmlns='{carbons}'><forwarded xmlns='{forward}'>{stanza}</forwarded></{name}>"
        )
    }

    const MESSAGE: &str = "<message xmlns='jabber:client' from='ben@b.test/y' to='ann@a.test/z'>\
                           <body>hi</body></message>";

    #[test]
    fn xep0280_copies_from_the_own_account_are_read() {
        for (name, direction) in [("sent", Direction::Sent), ("received", Direction::Received)] {
            let copy = copy(name, MESSAGE);
            let carbon = carbon(" from='ann@a.test'", &copy).unwrap().unwrap();
            assert_eq!(carbon.direction, direction);
            assert_eq!(carbon.message.body().as_deref(), Some("hi"));
        }
        assert!(carbon("", "<body>hi</body>").unwrap().is_none());
        let iq = "<iq xmlns='jabber:client' type='set' id='1'/>";
        assert!(
            carbon(" from='ann@a.test'", &copy("sent", iq))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn ck_02_copies_from_anyone_else_are_forged() {
        let copy = copy("received", MESSAGE);
        for from in [
            "",
            " from='eve@a.test'",
            " from='a.test'",
            " from='ann@a.test/x'",
            " from='ann@a.test/z'",
            " from='ben@b.test/y'",
        ] {
            assert!(carbon(from, &copy).is_err(), "{from}");
        }
    }
}
