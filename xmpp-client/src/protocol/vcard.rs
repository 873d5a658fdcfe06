//! vCards (XEP-0054): what an account says of its owner.
//!
//! Only what a program sets is changed: whatever else stands in a card stays in it.

use super::XmppProtocol;
use crate::error::IqError;
use crate::ext::{self, RequestError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use xmpp_stream::error::StanzaCondition;
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_stream::xml::{Element, Node};

/// A card.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VCard {
    element: Element,
}

/// A picture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Photo {
    /// Such as `image/png`.
    pub media_type: String,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Default for VCard {
    fn default() -> Self {
        Self {
            element: Element::new(ns::VCARD, "vCard"),
        }
    }
}

impl VCard {
    /// What stands in a field, such as `["FN"]` or `["ADR", "CTRY"]`; empty is nothing.
    #[must_use]
    pub fn text(&self, path: &[&str]) -> Option<String> {
        let mut element = &self.element;
        for name in path {
            element = element.child(ns::VCARD, name)?;
        }
        Some(element.text()).filter(|text| !text.is_empty())
    }

    /// Puts a text into a field, which is made where there is none.
    pub fn set_text(&mut self, path: &[&str], text: &str) {
        self.element = with_text(&self.element, path, text);
    }

    /// Builder: `set_text`.
    #[must_use]
    pub fn with(mut self, path: &[&str], text: &str) -> Self {
        self.set_text(path, text);
        self
    }

    /// The full name.
    #[must_use]
    pub fn full_name(&self) -> Option<String> {
        self.text(&["FN"])
    }

    /// The nickname.
    #[must_use]
    pub fn nickname(&self) -> Option<String> {
        self.text(&["NICKNAME"])
    }

    /// The picture; `None` when there is none, or one that is somewhere else.
    #[must_use]
    pub fn photo(&self) -> Option<Photo> {
        let mut base64 = self.text(&["PHOTO", "BINVAL"])?;
        // Lines of 76 characters are common (section 3.3).
        base64.retain(|c| !c.is_ascii_whitespace());
        Some(Photo {
            media_type: self.text(&["PHOTO", "TYPE"]).unwrap_or_default(),
            bytes: STANDARD.decode(base64).ok()?,
        })
    }

    /// Puts a picture in.
    pub fn set_photo(&mut self, photo: &Photo) {
        self.set_text(&["PHOTO", "TYPE"], &photo.media_type);
        self.set_text(&["PHOTO", "BINVAL"], &STANDARD.encode(&photo.bytes));
    }

    /// All of it.
    #[must_use]
    pub fn element(&self) -> &Element {
        &self.element
    }
}

impl From<Element> for VCard {
    fn from(element: Element) -> Self {
        Self { element }
    }
}

/// The same element with a text at a place in it.
fn with_text(element: &Element, path: &[&str], text: &str) -> Element {
    let mut copy = Element::new(element.ns(), element.name());
    for (ns, name, value) in element.attrs() {
        copy.set_attr_ns(ns, name, value);
    }
    let Some((name, deeper)) = path.split_first() else {
        return copy.with_text(text);
    };
    let mut is_done = false;
    for node in element.nodes() {
        match node {
            Node::Element(child) if !is_done && child.is(ns::VCARD, name) => {
                copy.push(with_text(child, deeper, text));
                is_done = true;
            }
            Node::Element(child) => copy.push(child.clone()),
            Node::Text(text) => copy.push_text(text),
        }
    }
    if !is_done {
        copy.push(with_text(&Element::new(ns::VCARD, name), deeper, text));
    }
    copy
}

impl XmppProtocol {
    /// Gets a card, the own one without an address; `None`: there is none.
    ///
    /// # Errors
    /// The request failed.
    pub async fn vcard(&self, of: Option<&BareJid>) -> Result<Option<VCard>, RequestError> {
        let card = Element::new(ns::VCARD, "vCard");
        let answer = ext::get(self.client(), of.map(BareJid::as_jid), &card).await;
        match answer {
            Ok(answer) => Ok(answer
                .filter(|card| card.is(ns::VCARD, "vCard") && card.children().next().is_some())
                .map(VCard::from)),
            // Section 3.1: both say that there is none.
            Err(IqError::Stanza(error))
                if matches!(
                    error.condition,
                    StanzaCondition::ItemNotFound | StanzaCondition::ServiceUnavailable
                ) && of.is_some() =>
            {
                Ok(None)
            }
            Err(IqError::Stanza(error)) if error.condition == StanzaCondition::ItemNotFound => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts our own card in place of the last.
    ///
    /// # Errors
    /// The request failed.
    pub async fn set_vcard(&self, card: &VCard) -> Result<(), IqError> {
        ext::set(self.client(), None, card.element()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(content: &str) -> VCard {
        let xml = format!("<vCard xmlns='vcard-temp'>{content}</vCard>");
        Element::parse(xml.as_bytes(), "").unwrap().into()
    }

    #[test]
    fn xep0054_fields_are_read_and_set_and_others_stay() {
        let mut ann = card("<FN>Ann</FN><ADR><HOME/><CTRY>AT</CTRY></ADR><X>x</X>");
        assert_eq!(ann.full_name().as_deref(), Some("Ann"));
        assert_eq!(ann.text(&["ADR", "CTRY"]).as_deref(), Some("AT"));
        assert_eq!(ann.nickname(), None);
        ann.set_text(&["ADR", "CTRY"], "CH");
        ann.set_text(&["N", "GIVEN"], "Ann");
        let expected = "<FN>Ann</FN><ADR><HOME/><CTRY>CH</CTRY></ADR><X>x</X>\
                        <N><GIVEN>Ann</GIVEN></N>";
        assert_eq!(ann, card(expected));
        assert_eq!(VCard::default().with(&["FN"], "Ben"), card("<FN>Ben</FN>"));
    }

    #[test]
    fn xep0054_pictures_are_read_and_set() {
        let mut ann = card("<PHOTO><TYPE>image/png</TYPE><BINVAL>AQ\nID</BINVAL></PHOTO>");
        let photo = ann.photo().unwrap();
        assert_eq!(
            (photo.media_type.as_str(), &photo.bytes[..]),
            ("image/png", &[1, 2, 3][..])
        );
        let other = Photo {
            media_type: "image/jpeg".into(),
            bytes: vec![4],
        };
        ann.set_photo(&other);
        assert_eq!(ann.photo(), Some(other));
        assert_eq!(card("<PHOTO><BINVAL>!</BINVAL></PHOTO>").photo(), None);
        assert_eq!(card("<PHOTO><EXTVAL>urn:x</EXTVAL></PHOTO>").photo(), None);
    }
}
