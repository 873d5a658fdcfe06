//! What the reader yields: first-level events of a stream, and why bytes are none (RFC 6120
//! sections 4.9.3 and 11).

use super::element::Element;
use crate::error::{StanzaCondition, StreamCondition};
use crate::stanza::{Head, Kind, Stanza};
use std::fmt;

/// One first-level event of a stream.
#[derive(Debug)]
pub enum Frame {
    /// The opening tag of the stream.
    Header(Header),
    /// A message, presence or iq in the content namespace.
    Stanza(Stanza),
    /// A stanza that is refused alone (X3, X4, X7, bad address); the stream goes on.
    Refused(Refused),
    /// Any other first-level element.
    Nonza(Element),
    /// `</stream:stream>`.
    Footer,
}

/// A stanza that cannot be passed on, with enough of it to answer.
#[derive(Debug)]
pub struct Refused {
    /// Kind of the stanza.
    pub kind: Kind,
    /// What could be read of its head.
    pub head: Head,
    /// `bad-request`, `jid-malformed` or `policy-violation`.
    pub condition: StanzaCondition,
    /// It names its sender, by what is no address: nobody can be answered.
    pub is_from_bad: bool,
}

/// The opening tag as received: attributes are texts, nothing is judged yet.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// Namespace of the root element.
    pub root_ns: String,
    /// Local name of the root element.
    pub root_name: String,
    /// True when the root element was written with a prefix.
    pub root_prefixed: bool,
    /// Default namespace declared on the root, if any.
    pub content_ns: Option<String>,
    /// `to`.
    pub to: Option<String>,
    /// `from`.
    pub from: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// `xml:lang`.
    pub lang: Option<String>,
}

/// Why the bytes are no acceptable stream; maps to one stream error condition.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum XmlError {
    /// Comment, processing instruction, DTD or entity (RFC 6120 section 11.1).
    Restricted,
    /// Not well-formed, or namespaces not well-formed (section 11.3).
    NotWellFormed,
    /// Not UTF-8 (section 11.6).
    Encoding,
    /// A limit of X2; the name says which.
    Limit(&'static str),
    /// Text between first-level elements that is not whitespace.
    TextAtTop,
    /// An element that is no stanza has a name or namespace name outside X3 and X4.
    Name,
    /// `Stanza::parse` met something else than an acceptable stanza.
    NotAStanza,
    /// An opening tag of a stream inside the stream (RFC 6120 section 7.3.2).
    SecondHeader,
}

impl XmlError {
    /// The stream error condition of RFC 6120 section 4.9.3.
    #[must_use]
    pub fn condition(&self) -> StreamCondition {
        match self {
            Self::Restricted => StreamCondition::RestrictedXml,
            Self::NotWellFormed => StreamCondition::NotWellFormed,
            Self::Encoding => StreamCondition::UnsupportedEncoding,
            Self::Limit(_) => StreamCondition::PolicyViolation,
            // Well-formed, but not what section 11.7 allows between first-level elements.
            Self::TextAtTop | Self::Name | Self::NotAStanza | Self::SecondHeader => {
                StreamCondition::BadFormat
            }
        }
    }
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restricted => "restricted XML: comment, processing instruction, DTD or entity",
            Self::NotWellFormed => "not well-formed",
            Self::Encoding => "not UTF-8",
            Self::Limit(which) => return write!(f, "over the limit of {which}"),
            Self::TextAtTop => "text between first-level elements",
            Self::Name => "a name that is not plain ASCII, or a namespace name that is no URI",
            Self::NotAStanza => "not one acceptable stanza",
            Self::SecondHeader => "a stream header inside the stream",
        })
    }
}

impl std::error::Error for XmlError {}
