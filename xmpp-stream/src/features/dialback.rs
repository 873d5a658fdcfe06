//! Server dialback (XEP-0220): its elements, and the keys of XEP-0185.
//!
//! Only the words and the key; who may be asked what, and when, is the business of `stream::s2s`.

use crate::ns;
use crate::xml::Element;
use crate::xml::writer::write_attr;
use ring::{digest, hmac};
use std::fmt;
use std::sync::Arc;

/// What the keys of a server (or of a cluster that appears as one) are made of.
#[derive(Clone)]
pub struct Secret(Arc<hmac::Key>);

impl Secret {
    /// A secret out of text or random bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        // XEP-0185 section 2: the key of the HMAC is the hash in hexadecimal digits, not its bytes.
        let hashed = hex(digest::digest(&digest::SHA256, secret).as_ref());
        Self(Arc::new(hmac::Key::new(
            hmac::HMAC_SHA256,
            hashed.as_bytes(),
        )))
    }

    /// The key that `originating` sends on the stream which `receiving` has given this id.
    #[must_use]
    pub fn key(&self, receiving: &str, originating: &str, stream_id: &str) -> String {
        let text = key_text(receiving, originating, stream_id);
        hex(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }

    /// True when the key is ours for this stream. Takes as long for each wrong one.
    #[must_use]
    pub fn is_key(&self, key: &str, receiving: &str, originating: &str, stream_id: &str) -> bool {
        let text = key_text(receiving, originating, stream_id);
        unhex(key).is_some_and(|tag| hmac::verify(&self.0, text.as_bytes(), &tag).is_ok())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn key_text(receiving: &str, originating: &str, stream_id: &str) -> String {
    format!("{receiving} {originating} {stream_id}")
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Why a key was not verified (XEP-0220 section 2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Condition {
    /// The target domain is not hosted there.
    ItemNotFound,
    /// The authoritative server could not be reached.
    RemoteConnectionFailed,
    /// The authoritative server does not know the domain, or there is none.
    RemoteServerNotFound,
    /// The authoritative server was lost before it answered.
    RemoteServerTimeout,
    /// TLS has to come first.
    PolicyViolation,
    /// A certificate is required.
    NotAuthorized,
    /// The authoritative server says that the key is not its own.
    Forbidden,
    /// The identity could not be established.
    NotAcceptable,
    /// Too many pairs on this stream.
    ResourceConstraint,
    /// Anything else.
    Undefined,
}

impl Condition {
    const ALL: [Self; 10] = [
        Self::ItemNotFound,
        Self::RemoteConnectionFailed,
        Self::RemoteServerNotFound,
        Self::RemoteServerTimeout,
        Self::PolicyViolation,
        Self::NotAuthorized,
        Self::Forbidden,
        Self::NotAcceptable,
        Self::ResourceConstraint,
        Self::Undefined,
    ];

    /// The element name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ItemNotFound => "item-not-found",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::RemoteServerNotFound => "remote-server-not-found",
            Self::RemoteServerTimeout => "remote-server-timeout",
            Self::PolicyViolation => "policy-violation",
            Self::NotAuthorized => "not-authorized",
            Self::Forbidden => "forbidden",
            Self::NotAcceptable => "not-acceptable",
            Self::ResourceConstraint => "resource-constraint",
            Self::Undefined => "undefined-condition",
        }
    }

    fn of(name: &str) -> Self {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == name);
        known.unwrap_or(Self::Undefined)
    }

    /// The `type` of the error (RFC 6120 section 8.3.2).
    fn error_type(self) -> &'static str {
        match self {
            Self::RemoteServerTimeout | Self::ResourceConstraint => "wait",
            Self::PolicyViolation => "modify",
            Self::NotAuthorized | Self::Forbidden => "auth",
            _ => "cancel",
        }
    }
}

/// What is said of a key, in `<db:result/>` and `<db:verify/>`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is genuine.
    Valid,
    /// It is not.
    Invalid,
    /// That could not be found out.
    Error {
        /// Why.
        condition: Condition,
        /// A sentence for people.
        text: Option<Box<str>>,
    },
}

impl Answer {
    /// An error of a condition alone.
    #[must_use]
    pub const fn error(condition: Condition) -> Self {
        Self::Error {
            condition,
            text: None,
        }
    }

    /// The answer in an element that has a type; `None` for one without, which asks.
    fn of(element: &Element) -> Option<Self> {
        match element.attr("type")? {
            "valid" => Some(Self::Valid),
            "invalid" => Some(Self::Invalid),
            _ => {
                let error = element.children().find(|child| child.name() == "error");
                let parts = || error.into_iter().flat_map(Element::children);
                let parts = || parts().filter(|part| part.ns() == ns::STANZAS);
                let named = parts().find(|part| part.name() != "text");
                let text = parts().find(|part| part.name() == "text");
                let text = text.map(Element::text);
                Some(Self::Error {
                    condition: named
                        .map_or(Condition::Undefined, |part| Condition::of(part.name())),
                    text: text.filter(|text| !text.is_empty()).map(Into::into),
                })
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("valid"),
            Self::Invalid => f.write_str("the key is not valid"),
            Self::Error {
                condition,
                text: None,
            } => f.write_str(condition.as_str()),
            Self::Error {
                condition,
                text: Some(text),
            } => write!(f, "{}: {text}", condition.as_str()),
        }
    }
}

/// Which of the two elements.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Between the initiating and the receiving server.
    Result,
    /// Between the receiving and the authoritative server.
    Verify,
}

/// One element of dialback as received.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) step: Step,
    /// As written: not prepared.
    pub(crate) from: Box<str>,
    pub(crate) to: Box<str>,
    /// With `verify`.
    pub(crate) id: Option<Box<str>>,
    /// `None`: it asks, with a key.
    pub(crate) answer: Option<Answer>,
    pub(crate) key: Box<str>,
}

impl Words {
    /// Reads an element of this namespace; `None` when it is none of the two, or lacks an address.
    pub(crate) fn of(element: &Element) -> Option<Self> {
        let step = match element.name() {
            "result" => Step::Result,
            "verify" => Step::Verify,
            _ => return None,
        };
        let answer = Answer::of(element);
        let key = match answer {
            None => element.text().trim().into(),
            Some(_) => Box::default(),
        };
        Some(Self {
            step,
            from: element.attr("from")?.into(),
            to: element.attr("to")?.into(),
            id: element.attr("id").map(Into::into),
            answer,
            key,
        })
    }
}

/// `<db:result/>` or `<db:verify/>` (with an id) that asks with a key. The prefix is the one that
/// some peers insist on (XEP-0220 section 2.4.1).
pub(crate) fn write_key(out: &mut Vec<u8>, from: &str, to: &str, id: Option<&str>, key: &str) {
    let name = start(out, from, to, id);
    out.push(b'>');
    out.extend_from_slice(key.as_bytes());
    end(out, name);
}

/// The same that answers.
pub(crate) fn write_answer(
    out: &mut Vec<u8>,
    from: &str,
    to: &str,
    id: Option<&str>,
    answer: &Answer,
) {
    let name = start(out, from, to, id);
    match answer {
        Answer::Valid => out.extend_from_slice(b" type='valid'/>"),
        Answer::Invalid => out.extend_from_slice(b" type='invalid'/>"),
        Answer::Error { condition, text } => {
            out.extend_from_slice(b" type='error'>");
            let mut error = Element::new(ns::SERVER, "error")
                .with_attr("type", condition.error_type())
                .with_child(Element::new(ns::STANZAS, condition.as_str()));
            if let Some(text) = text {
                error.push(Element::new(ns::STANZAS, "text").with_text(text));
            }
            error.write(out, ns::SERVER);
            end(out, name);
        }
    }
}

fn start(out: &mut Vec<u8>, from: &str, to: &str, id: Option<&str>) -> &'static str {
    let name = if id.is_some() { "verify" } else { "result" };
    out.extend_from_slice(b"<db:");
    out.extend_from_slice(name.as_bytes());
    write_attr(out, "from", Some(from));
    write_attr(out, "to", Some(to));
    write_attr(out, "id", id);
    name
}

fn end(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b"</db:");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

/// The feature; errors are handled here (XEP-0220 section 2.4.2).
pub(crate) fn write_feature(out: &mut Vec<u8>) {
    let errors = Element::new(ns::FEATURE_DIALBACK, "errors");
    Element::new(ns::FEATURE_DIALBACK, "dialback")
        .with_child(errors)
        .write(out, ns::STREAMS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ats_db_13_the_key_of_the_specification() {
        let secret = Secret::new(b"s3cr3tf0rd14lb4ck");
        let key = secret.key("xmpp.example.com", "example.org", "D60000229F");
        assert_eq!(
            key,
            "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643"
        );
        let is_key =
            |key: &str| secret.is_key(key, "xmpp.example.com", "example.org", "D60000229F");
        assert!(is_key(&key) && is_key(&key.to_uppercase()));
        for wrong in ["", "3", "37c6", "zz", "é", &key[2..], &format!("{key}00")] {
            assert!(!is_key(wrong), "{wrong:?}");
        }
        assert!(!secret.is_key(&key, "example.org", "xmpp.example.com", "D60000229F"));
        assert!(!secret.is_key(&key, "xmpp.example.com", "example.org", "D60000229E"));
        assert!(!format!("{secret:?}").contains("37c6"));
    }
}
