//! A stanza: typed head, canonical payload bytes, index of top-level children (DESIGN 4).

use crate::error::StanzaError;
use crate::jid::Jid;
use crate::ns::{NameId, NsId};
use crate::xml::Element;
use bytes::Bytes;
use smallvec::SmallVec;

pub mod rendered;
pub use rendered::{Class, Item, Rendered, To};

/// The three kinds of stanza (RFC 6120 section 8.2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum Kind {
    Message,
    Presence,
    Iq,
}

/// The `type` attribute of any kind. `None`: absent.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum Ty {
    None,
    Chat,
    Error,
    Get,
    Groupchat,
    Headline,
    Normal,
    Probe,
    Result,
    Set,
    Subscribe,
    Subscribed,
    Unavailable,
    Unsubscribe,
    Unsubscribed,
    /// Anything else, kept as received.
    Other(Box<str>),
}

/// Attributes of a stanza, typed (X8).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// `to`.
    pub to: Option<Jid>,
    /// `from`.
    pub from: Option<Jid>,
    /// `id`.
    pub id: Option<Box<str>>,
    /// `type`.
    pub ty: Ty,
    /// `xml:lang`, made explicit from the stream header where the stanza has none.
    pub lang: Option<Box<str>>,
    /// Up to 8 unknown attributes.
    pub extra: Option<Box<Extra>>,
}

/// Unknown attributes: namespace (empty: none), name, value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extra(pub SmallVec<[(Box<str>, Box<str>, Box<str>); 1]>);

/// A top-level child: what it is, and where in the payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kid {
    /// Namespace; `OTHER` when not in the table.
    pub ns: NsId,
    /// Name; `OTHER` when not in the table.
    pub name: NameId,
    /// Byte range in the payload.
    pub start: u32,
    /// End of the range.
    pub end: u32,
}

/// One message, presence or iq. Made by the reader or a builder; never re-checked later.
#[derive(Clone, Debug)]
pub struct Stanza {
    /// message, presence or iq.
    pub kind: Kind,
    /// Typed attributes.
    pub head: Head,
    /// Canonical children, in the stanza's own namespace (X5, X6); shared by all recipients.
    pub payload: Bytes,
    /// Top-level children of the payload.
    pub kids: SmallVec<[Kid; 6]>,
}

/// A change to the payload by child range (X9).
#[derive(Clone, Debug)]
pub enum Edit {
    /// Cut the child at this index of `kids`.
    Cut(usize),
    /// Append a child.
    Append(Element),
}

impl Kind {
    /// Element name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }
}
impl Ty {
    /// Reads the attribute value.
    pub fn of(_text: &str) -> Self {
        todo!()
    }
    /// The attribute value; `None` when absent.
    pub fn as_str(&self) -> Option<&str> {
        todo!()
    }
}
impl Default for Head {
    fn default() -> Self {
        Self {
            to: None,
            from: None,
            id: None,
            ty: Ty::None,
            lang: None,
            extra: None,
        }
    }
}

impl Stanza {
    /// An empty stanza.
    pub fn new(kind: Kind, ty: Ty) -> Self {
        Self {
            kind,
            head: Head {
                ty,
                ..Head::default()
            },
            payload: Bytes::new(),
            kids: SmallVec::new(),
        }
    }
    /// `<message type=…>`.
    pub fn message(ty: Ty) -> Self {
        Self::new(Kind::Message, ty)
    }
    /// `<presence type=…>`.
    pub fn presence(ty: Ty) -> Self {
        Self::new(Kind::Presence, ty)
    }
    /// `<iq type=… id=…>` (RFC 6120 section 8.2.3: id is required).
    pub fn iq(_ty: Ty, _id: &str) -> Self {
        todo!()
    }
    /// A chat message with a body.
    pub fn chat(_to: &str, _body: &str) -> Result<Self, crate::jid::JidError> {
        todo!()
    }
    /// Builder: `to`.
    #[must_use]
    pub fn with_to(mut self, to: impl Into<Jid>) -> Self {
        self.head.to = Some(to.into());
        self
    }
    /// Builder: `from`.
    #[must_use]
    pub fn with_from(mut self, from: impl Into<Jid>) -> Self {
        self.head.from = Some(from.into());
        self
    }
    /// Builder: `id`.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        self.head.id = Some(id.into());
        self
    }
    /// Builder: appends a child (re-indexes; meant for stanzas of our own making).
    #[must_use]
    pub fn with_child(self, _child: &Element) -> Self {
        todo!()
    }
    /// True when a top-level child matches.
    pub fn has(&self, ns: NsId, name: NameId) -> bool {
        self.kids.iter().any(|kid| kid.ns == ns && kid.name == name)
    }
    /// The first top-level child that matches.
    pub fn kid(&self, ns: NsId, name: NameId) -> Option<&Kid> {
        self.kids
            .iter()
            .find(|kid| kid.ns == ns && kid.name == name)
    }
    /// Parses one top-level child into a tree.
    pub fn element(&self, _kid: &Kid) -> Element {
        todo!()
    }
    /// The first top-level child as a tree: the payload of an IQ.
    pub fn first_element(&self) -> Option<Element> {
        self.kids.first().map(|kid| self.element(kid))
    }
    /// All top-level children as trees.
    pub fn elements(&self) -> Vec<Element> {
        self.kids.iter().map(|kid| self.element(kid)).collect()
    }
    /// Namespace and name of a child, also of an `OTHER` one, read from its start tag without building a tree.
    pub fn kid_name(&self, _kid: &Kid) -> (String, String) {
        todo!()
    }
    /// Text of the first child in the stanza's namespace with this name, e.g. `body`, `show`, `priority`.
    pub fn child_text(&self, _name: NameId) -> Option<String> {
        todo!()
    }
    /// Body text of a message.
    pub fn body(&self) -> Option<String> {
        self.child_text(crate::ns::name::BODY)
    }
    /// The stanza with children cut and appended (X9).
    #[must_use]
    pub fn splice(&self, _edits: &[Edit]) -> Self {
        todo!()
    }
    /// Answers an iq get or set: swapped addresses, same id.
    pub fn result(&self, _payload: Option<&Element>) -> Self {
        todo!()
    }
    /// The error for the sender; `None` for errors and iq results (RFC 6120 section 8.3.1: never an error to an error).
    pub fn error_reply(&self, _error: &StanzaError) -> Option<Self> {
        todo!()
    }
    /// The error carried by a stanza of type error.
    pub fn error(&self) -> Option<StanzaError> {
        todo!()
    }
    /// Parses a whole stanza as a tree-less value, for tests and clients (namespace `jabber:client` assumed).
    pub fn parse(_xml: &str) -> Result<Self, crate::xml::XmlError> {
        todo!()
    }
    /// The whole stanza as a tree in `jabber:client`, for comparison in tests.
    pub fn to_element(&self) -> Element {
        todo!()
    }
    /// Size on the wire, about.
    pub fn wire_len(&self) -> usize {
        self.payload.len() + 128
    }
}
