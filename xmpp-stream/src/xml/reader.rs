//! Bytes in, stream headers, stanzas and other first-level elements out; every limit of X2 is counted here.

use crate::error::{StanzaCondition, StreamCondition};
use crate::limits::XmlLimits;
use crate::stanza::{Head, Kind, Stanza};
use crate::xml::Element;

/// One first-level event of a stream.
#[derive(Debug)]
pub enum Frame {
    /// The opening tag of the stream.
    Header(Header),
    /// A message, presence or iq in the content namespace.
    Stanza(Stanza),
    /// A stanza that is refused alone (X3, X4, X7, bad `to`); the stream goes on.
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
    /// Default namespace declared on the root, when the reader can tell (rxml resolves prefixes away; see reader for how it is found).
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
}

impl XmlError {
    /// The stream error condition of RFC 6120 section 4.9.3.
    pub fn condition(&self) -> StreamCondition {
        todo!()
    }
}

/// Turns the bytes of one stream (from header to footer) into frames. A restart makes a new one.
pub struct Reader {/* private */}

impl Reader {
    /// A reader for one stream. `content_ns` is what its stanzas live in (`ns::CLIENT`); nothing of rxml shows.
    pub fn new(_limits: XmlLimits, _content_ns: &'static str) -> Self {
        todo!()
    }
    /// The next frame, or `None` when more bytes are needed. Consumes from `data` exactly what it used:
    /// after a frame, what is left stands behind that frame's closing `>`.
    pub fn next(&mut self, _data: &mut &[u8]) -> Result<Option<Frame>, XmlError> {
        todo!()
    }
    /// Changes the limits (after authentication).
    pub fn set_limits(&mut self, _limits: XmlLimits) {
        todo!()
    }
    /// The `xml:lang` that stanzas without one inherit (X8).
    pub fn set_default_lang(&mut self, _lang: Option<&str>) {
        todo!()
    }
    /// Frees scratch memory; safe at any time, meant for when the task is about to wait.
    pub fn release(&mut self) {
        todo!()
    }
    /// True while a stanza or element is half received.
    pub fn is_mid_element(&self) -> bool {
        todo!()
    }
}
pub(crate) fn parse_element(_xml: &[u8], _parent_ns: &str) -> Result<Element, XmlError> {
    todo!()
}
