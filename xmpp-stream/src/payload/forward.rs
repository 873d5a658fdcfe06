//! A message inside another (XEP-0297).
//!
//! What is forwarded was not sent by whom it names, as far as anyone can tell: only a wrapper whose
//! origin was checked makes it worth reading (section 7). Only messages are taken.

use super::delay::Delay;
use crate::ns;
use crate::stanza::{Kind, Stanza};
use crate::xml::Element;

/// `<forwarded/>`.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// When it was first sent.
    pub delay: Option<Delay>,
    /// The message.
    pub message: Stanza,
}

impl Forwarded {
    /// Reads the element; `None`: it holds no message, more than one, or another kind of stanza.
    #[must_use]
    pub fn parse(element: &Element) -> Option<Self> {
        if !element.is(ns::FORWARD, "forwarded") {
            return None;
        }
        let mut stanzas = element.children().filter(|child| child.ns() == ns::CLIENT);
        let (message, None) = (stanzas.next()?, stanzas.next()) else {
            return None;
        };
        let is_from = message.attr("from").is_some();
        let message = Stanza::from_element(message).ok()?;
        // A sender that is no address is not the lack of one, which would mean the own account.
        let is_whole = message.kind == Kind::Message && message.head.from.is_some() == is_from;
        is_whole.then_some(())?;
        let delay = element.child(ns::DELAY, "delay").and_then(Delay::parse);
        Some(Self { delay, message })
    }

    /// The forwarded message inside a wrapper such as `<sent/>` or `<result/>`.
    #[must_use]
    pub fn find(wrapper: &Element) -> Option<Self> {
        Self::parse(wrapper.child(ns::FORWARD, "forwarded")?)
    }

    /// Writes the element.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut element = Element::new(ns::FORWARD, "forwarded");
        if let Some(delay) = &self.delay {
            element.push(delay.to_element());
        }
        element.push(self.message.to_element());
        element
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: &str = "<delay xmlns='urn:xmpp:delay' stamp='2010-07-10T23:08:25.000Z'/>";
    const MESSAGE: &str = "<message xmlns='jabber:client' from='ann@a.test/x' to='ben@b.test' \
                           type='chat'><body>hi</body></message>";

    fn forwarded(content: &str) -> Element {
        let xml = format!("<forwarded xmlns='urn:xmpp:forward:0'>{content}</forwarded>");
        Element::parse(xml.as_bytes(), "").unwrap()
    }

    #[test]
    fn messages_are_read_and_written() {
        let element = forwarded(&format!("{DELAY}{MESSAGE}"));
        let wrapper = Element::new(ns::CARBONS, "sent").with_child(element.clone());
        let found = Forwarded::find(&wrapper).unwrap();
        assert_eq!(found.message.body().as_deref(), Some("hi"));
        assert!(found.delay.is_some());
        assert_eq!(found.to_element(), element);
        assert!(
            Forwarded::parse(&forwarded(MESSAGE))
                .unwrap()
                .delay
                .is_none()
        );
    }

    #[test]
    fn ck_06_nothing_but_one_message_is_taken() {
        for content in [
            "",
            DELAY,
            "<iq xmlns='jabber:client' type='set' id='1'/>",
            "<presence xmlns='jabber:client'/>",
            "<message/>",
            "<message xmlns='jabber:server'/>",
            "<message xmlns='jabber:client' from='@'/>",
            &format!("{MESSAGE}{MESSAGE}"),
        ] {
            assert!(Forwarded::parse(&forwarded(content)).is_none(), "{content}");
        }
        let wrapper = Element::parse(MESSAGE.as_bytes(), "").unwrap();
        assert!(Forwarded::find(&wrapper).is_none());
        assert!(Forwarded::parse(&wrapper).is_none());
    }
}
