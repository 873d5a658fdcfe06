//! A stanza: typed head, canonical payload bytes, index of top-level children (DESIGN 4).

use crate::error::StanzaError;
use crate::jid::{Jid, JidError};
use crate::limits::XmlLimits;
use crate::ns::{self, NameId, NsId};
use crate::xml::canon::unescape;
use crate::xml::{Element, Frame, Reader, XmlError};
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
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }

    /// The kind of an element name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "message" => Some(Self::Message),
            "presence" => Some(Self::Presence),
            "iq" => Some(Self::Iq),
            _ => None,
        }
    }
}

/// Types and their names on the wire.
const TYPES: [(Ty, &str); 15] = [
    (Ty::Chat, "chat"),
    (Ty::Error, "error"),
    (Ty::Get, "get"),
    (Ty::Groupchat, "groupchat"),
    (Ty::Headline, "headline"),
    (Ty::Normal, "normal"),
    (Ty::Probe, "probe"),
    (Ty::Result, "result"),
    (Ty::Set, "set"),
    (Ty::Subscribe, "subscribe"),
    (Ty::Subscribed, "subscribed"),
    (Ty::Unavailable, "unavailable"),
    (Ty::Unsubscribe, "unsubscribe"),
    (Ty::Unsubscribed, "unsubscribed"),
    (Ty::None, ""),
];

impl Ty {
    /// Reads the attribute value.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let known = TYPES
            .iter()
            .find(|(ty, name)| *name == text && *ty != Self::None);
        known.map_or_else(|| Self::Other(text.into()), |(ty, _)| ty.clone())
    }

    /// The attribute value; `None` when absent.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Other(text) => Some(text),
            known => TYPES
                .iter()
                .find(|(ty, _)| ty == known)
                .map(|(_, name)| *name),
        }
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
    #[must_use]
    pub fn new(kind: Kind, ty: Ty) -> Self {
        let head = Head {
            ty,
            ..Head::default()
        };
        Self {
            kind,
            head,
            payload: Bytes::new(),
            kids: SmallVec::new(),
        }
    }

    /// `<message type=…>`.
    #[must_use]
    pub fn message(ty: Ty) -> Self {
        Self::new(Kind::Message, ty)
    }

    /// `<presence type=…>`.
    #[must_use]
    pub fn presence(ty: Ty) -> Self {
        Self::new(Kind::Presence, ty)
    }

    /// `<iq type=… id=…>` (RFC 6120 section 8.2.3: id is required).
    #[must_use]
    pub fn iq(ty: Ty, id: &str) -> Self {
        Self::new(Kind::Iq, ty).with_id(id)
    }

    /// A chat message with a body.
    ///
    /// # Errors
    /// `JidError` when `to` is no address.
    pub fn chat(to: &str, body: &str) -> Result<Self, JidError> {
        let body = Element::new(ns::CLIENT, "body").with_text(body);
        Ok(Self::message(Ty::Chat)
            .with_to(Jid::parse(to)?)
            .with_child(&body))
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

    /// Builder: appends a child (meant for stanzas of our own making).
    #[must_use]
    pub fn with_child(self, child: &Element) -> Self {
        self.splice(&[Edit::Append(child.clone())])
    }

    /// True when a top-level child matches.
    #[must_use]
    pub fn has(&self, ns: NsId, name: NameId) -> bool {
        self.kid(ns, name).is_some()
    }

    /// The first top-level child that matches.
    #[must_use]
    pub fn kid(&self, ns: NsId, name: NameId) -> Option<&Kid> {
        self.kids
            .iter()
            .find(|kid| kid.ns == ns && kid.name == name)
    }

    fn kid_bytes(&self, kid: &Kid) -> &[u8] {
        self.payload
            .get(kid.start as usize..kid.end as usize)
            .unwrap_or_default()
    }

    /// Parses one top-level child into a tree.
    #[must_use]
    pub fn element(&self, kid: &Kid) -> Element {
        // Canonical bytes always parse; an index from another stanza gives an element without meaning.
        Element::parse(self.kid_bytes(kid), ns::CLIENT).unwrap_or_else(|_| Element::new("", "_"))
    }

    /// The first top-level child as a tree: the payload of an IQ.
    #[must_use]
    pub fn first_element(&self) -> Option<Element> {
        self.kids.first().map(|kid| self.element(kid))
    }

    /// All top-level children as trees.
    #[must_use]
    pub fn elements(&self) -> Vec<Element> {
        self.kids.iter().map(|kid| self.element(kid)).collect()
    }

    /// Namespace and name of a child, also of an `OTHER` one, read from its start tag without
    /// building a tree: canonical XML writes `xmlns` first.
    #[must_use]
    pub fn kid_name(&self, kid: &Kid) -> (String, String) {
        let text = std::str::from_utf8(self.kid_bytes(kid)).unwrap_or_default();
        let tag = text.strip_prefix('<').unwrap_or_default();
        let end = tag.find([' ', '/', '>']).unwrap_or(tag.len());
        let (name, rest) = tag.split_at(end);
        let ns = rest
            .strip_prefix(" xmlns='")
            .and_then(|rest| rest.split('\'').next());
        (
            ns.map_or_else(|| ns::CLIENT.to_owned(), unescape),
            name.to_owned(),
        )
    }

    /// Text of the first child in the stanza's namespace with this name, e.g. `body`, `show`.
    #[must_use]
    pub fn child_text(&self, name: NameId) -> Option<String> {
        let kid = self.kid(ns::id::CLIENT, name)?;
        let text = std::str::from_utf8(self.kid_bytes(kid)).unwrap_or_default();
        if text.ends_with("/>") && !text.contains("</") {
            return Some(String::new());
        }
        let inner = text
            .split_once('>')
            .and_then(|(_, rest)| rest.rsplit_once("</"));
        match inner {
            Some((inner, _)) if !inner.contains('<') => Some(unescape(inner)),
            _ => Some(self.element(kid).text()),
        }
    }

    /// Body text of a message.
    #[must_use]
    pub fn body(&self) -> Option<String> {
        self.child_text(ns::name::BODY)
    }

    /// The stanza with children cut and appended (X9).
    #[must_use]
    pub fn splice(&self, edits: &[Edit]) -> Self {
        let cut = |at: usize| {
            edits
                .iter()
                .any(|edit| matches!(edit, Edit::Cut(cut) if *cut == at))
        };
        let mut payload = Vec::with_capacity(self.payload.len() + 128);
        let mut kids = SmallVec::new();
        let mut push = |payload: &mut Vec<u8>, ns, name, write: &dyn Fn(&mut Vec<u8>)| {
            let start = payload.len() as u32;
            write(payload);
            kids.push(Kid {
                ns,
                name,
                start,
                end: payload.len() as u32,
            });
        };
        for (at, kid) in self.kids.iter().enumerate() {
            if !cut(at) {
                let bytes = self.kid_bytes(kid);
                push(&mut payload, kid.ns, kid.name, &|out| {
                    out.extend_from_slice(bytes)
                });
            }
        }
        for edit in edits {
            if let Edit::Append(child) = edit {
                let (ns, name) = (NsId::of(child.ns()), NameId::of(child.name()));
                push(&mut payload, ns, name, &|out| child.write(out, ns::CLIENT));
            }
        }
        Self {
            kind: self.kind,
            head: self.head.clone(),
            payload: payload.into(),
            kids,
        }
    }

    fn reply(&self, ty: Ty) -> Self {
        let mut reply = Self::new(self.kind, ty);
        reply.head.to.clone_from(&self.head.from);
        reply.head.from.clone_from(&self.head.to);
        reply.head.id.clone_from(&self.head.id);
        reply
    }

    /// Answers an iq get or set: swapped addresses, same id.
    #[must_use]
    pub fn result(&self, payload: Option<&Element>) -> Self {
        let reply = self.reply(Ty::Result);
        match payload {
            Some(payload) => reply.with_child(payload),
            None => reply,
        }
    }

    /// The error for the sender; `None` for errors and iq results (RFC 6120 section 8.3.1: an error
    /// is never answered with an error). The payload is not echoed.
    #[must_use]
    pub fn error_reply(&self, error: &StanzaError) -> Option<Self> {
        let silent = matches!(self.head.ty, Ty::Error)
            || (self.kind == Kind::Iq && self.head.ty == Ty::Result);
        (!silent).then(|| self.reply(Ty::Error).with_child(&error.to_element()))
    }

    /// The error carried by a stanza of type error.
    #[must_use]
    pub fn error(&self) -> Option<StanzaError> {
        let kid = self.kid(ns::id::CLIENT, ns::name::ERROR)?;
        (self.head.ty == Ty::Error).then(|| StanzaError::from_element(&self.element(kid)))
    }

    /// Parses a whole stanza in `jabber:client`, for tests and programs that write XML by hand.
    ///
    /// # Errors
    /// As for a received stanza; `NotWellFormed` also when there is more or less than one stanza.
    pub fn parse(xml: &str) -> Result<Self, XmlError> {
        let mut reader = Reader::new(XmlLimits::client(), ns::CLIENT);
        let header = format!("<stream xmlns='{}'>", ns::STREAMS);
        reader.next(&mut header.as_bytes())?;
        let scoped = scoped(xml.trim());
        let mut rest = scoped.as_bytes();
        match reader.next(&mut rest)? {
            Some(Frame::Stanza(stanza)) if rest.is_empty() => Ok(stanza),
            _ => Err(XmlError::NotWellFormed),
        }
    }

    /// The whole stanza as a tree in `jabber:client`, for comparison in tests.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut element = Element::new(ns::CLIENT, self.kind.as_str());
        let head = &self.head;
        let attrs = [
            ("to", head.to.as_ref().map(Jid::as_str)),
            ("from", head.from.as_ref().map(Jid::as_str)),
            ("id", head.id.as_deref()),
            ("type", head.ty.as_str()),
        ];
        for (name, value) in attrs {
            if let Some(value) = value {
                element.set_attr(name, value);
            }
        }
        if let Some(lang) = &head.lang {
            element.set_attr_ns(ns::XML, "lang", lang);
        }
        for (ns, name, value) in head.extra.iter().flat_map(|extra| &extra.0) {
            element.set_attr_ns(ns, name, value);
        }
        for child in self.elements() {
            element.push(child);
        }
        element
    }

    /// Size on the wire, about.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.payload.len() + HEAD_BYTES
    }
}

/// What a head takes on the wire, about: two addresses, an id, a type.
const HEAD_BYTES: usize = 128;

/// A stanza written without `xmlns` is meant to be in `jabber:client`.
fn scoped(xml: &str) -> String {
    let end = xml.find(['>']).unwrap_or(xml.len());
    if xml.get(..end).is_some_and(|tag| tag.contains(" xmlns=")) {
        return xml.to_owned();
    }
    let name_end = xml.find([' ', '/', '>']).unwrap_or(xml.len());
    let (name, rest) = xml.split_at(name_end);
    format!("{name} xmlns='{}'{rest}", ns::CLIENT)
}
