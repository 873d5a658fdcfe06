//! A stanza: typed head, canonical payload bytes, index of top-level children (DESIGN 4).

use crate::error::StanzaError;
use crate::jid::{Jid, JidError};
use crate::limits::XmlLimits;
use crate::ns::{self, NameId, NsId, name};
use crate::xml::canon::{Canon, is_content_ns, unescape};
use crate::xml::{Element, Frame, Reader, Refused, XmlError, reader};
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

/// One unknown attribute: namespace (empty: none), name, value.
pub type ExtraAttr = (Box<str>, Box<str>, Box<str>);

/// Unknown attributes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extra(pub SmallVec<[ExtraAttr; 1]>);

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
impl Ty {
    /// Reads the attribute value.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            "chat" => Self::Chat,
            "error" => Self::Error,
            "get" => Self::Get,
            "groupchat" => Self::Groupchat,
            "headline" => Self::Headline,
            "normal" => Self::Normal,
            "probe" => Self::Probe,
            "result" => Self::Result,
            "set" => Self::Set,
            "subscribe" => Self::Subscribe,
            "subscribed" => Self::Subscribed,
            "unavailable" => Self::Unavailable,
            "unsubscribe" => Self::Unsubscribe,
            "unsubscribed" => Self::Unsubscribed,
            other => Self::Other(other.into()),
        }
    }
    /// The attribute value; `None` when absent.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        Some(match self {
            Self::None => return None,
            Self::Chat => "chat",
            Self::Error => "error",
            Self::Get => "get",
            Self::Groupchat => "groupchat",
            Self::Headline => "headline",
            Self::Normal => "normal",
            Self::Probe => "probe",
            Self::Result => "result",
            Self::Set => "set",
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unavailable => "unavailable",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
            Self::Other(text) => text,
        })
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
    #[must_use]
    pub fn iq(ty: Ty, id: &str) -> Self {
        Self::new(Kind::Iq, ty).with_id(id)
    }
    /// A chat message with a body.
    ///
    /// # Errors
    /// When `to` is no address.
    pub fn chat(to: &str, body: &str) -> Result<Self, JidError> {
        let stanza = Self::message(Ty::Chat).with_to(Jid::parse(to)?);
        Ok(stanza.with_child(&Element::new(ns::CLIENT, "body").with_text(body)))
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
    pub fn with_child(self, child: &Element) -> Self {
        let mut payload = self.payload.to_vec();
        let mut kids = self.kids;
        append_child(&mut payload, &mut kids, child);
        Self {
            payload: payload.into(),
            kids,
            ..self
        }
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
    #[must_use]
    pub fn element(&self, kid: &Kid) -> Element {
        Element::parse(self.kid_bytes(kid), ns::CLIENT).unwrap_or_else(|_| {
            // Canonical bytes always parse; a kid of another stanza might not.
            let (ns, name) = self.kid_name(kid);
            Element::new(&ns, &name)
        })
    }
    /// The canonical bytes of one top-level child.
    #[must_use]
    pub fn kid_bytes(&self, kid: &Kid) -> &[u8] {
        self.payload
            .get(kid.start as usize..kid.end as usize)
            .unwrap_or_default()
    }
    /// The first top-level child as a tree: the payload of an IQ.
    pub fn first_element(&self) -> Option<Element> {
        self.kids.first().map(|kid| self.element(kid))
    }
    /// All top-level children as trees.
    pub fn elements(&self) -> Vec<Element> {
        self.kids.iter().map(|kid| self.element(kid)).collect()
    }
    /// Namespace and name of a child, also of an `OTHER` one, read from its start tag without a
    /// tree.
    #[must_use]
    pub fn kid_name(&self, kid: &Kid) -> (String, String) {
        let text = std::str::from_utf8(self.kid_bytes(kid)).unwrap_or_default();
        let tag = text.strip_prefix('<').unwrap_or_default();
        let (name, rest) = tag.split_at(tag.find([' ', '/', '>']).unwrap_or(tag.len()));
        // The canonical writer puts `xmlns` first.
        let ns = rest
            .strip_prefix(" xmlns='")
            .and_then(|rest| rest.split_once('\''));
        let ns = ns.map_or_else(|| ns::CLIENT.to_owned(), |(ns, _)| unescape(ns));
        (ns, name.to_owned())
    }
    /// Text of the first child in the stanza's namespace with this name, e.g. `body`, `show`,
    /// `priority`.
    #[must_use]
    pub fn child_text(&self, name: NameId) -> Option<String> {
        let kid = self.kid(ns::id::CLIENT, name)?;
        let bytes = std::str::from_utf8(self.kid_bytes(kid)).unwrap_or_default();
        match plain_text(bytes) {
            Some(text) => Some(unescape(text)),
            None => Some(self.element(kid).text()),
        }
    }
    /// Body text of a message.
    pub fn body(&self) -> Option<String> {
        self.child_text(name::BODY)
    }
    /// The stanza with children cut and appended (X9).
    #[must_use]
    pub fn splice(&self, edits: &[Edit]) -> Self {
        if edits.is_empty() {
            return self.clone();
        }
        let cut = |index| {
            edits
                .iter()
                .any(|edit| matches!(edit, Edit::Cut(at) if *at == index))
        };
        let mut payload = Vec::with_capacity(self.payload.len() + 256);
        let mut kids = SmallVec::new();
        let mut copied = 0;
        let mut removed = 0;
        for (index, kid) in self.kids.iter().enumerate() {
            if cut(index) {
                payload.extend(
                    self.payload
                        .get(copied..kid.start as usize)
                        .unwrap_or_default(),
                );
                copied = kid.end as usize;
                removed += kid.end - kid.start;
            } else {
                kids.push(Kid {
                    start: kid.start - removed,
                    end: kid.end - removed,
                    ..*kid
                });
            }
        }
        payload.extend(self.payload.get(copied..).unwrap_or_default());
        for edit in edits {
            if let Edit::Append(child) = edit {
                append_child(&mut payload, &mut kids, child);
            }
        }
        Self {
            payload: payload.into(),
            kids,
            kind: self.kind,
            head: self.head.clone(),
        }
    }
    /// Answers an iq get or set: swapped addresses, same id.
    #[must_use]
    pub fn result(&self, payload: Option<&Element>) -> Self {
        let answer = self.answer(Ty::Result);
        match payload {
            Some(payload) => answer.with_child(payload),
            None => answer,
        }
    }
    /// The error for the sender; `None` for errors and iq results (RFC 6120 section 8.3.1: never an
    /// error to an error).
    #[must_use]
    pub fn error_reply(&self, error: &StanzaError) -> Option<Self> {
        match (self.kind, &self.head.ty) {
            (_, Ty::Error) | (Kind::Iq, Ty::Result) => None,
            // The cause's payload is not sent back: it may be what the peer cannot take.
            _ => Some(self.answer(Ty::Error).with_child(&error.to_element())),
        }
    }
    /// The error carried by a stanza of type error.
    #[must_use]
    pub fn error(&self) -> Option<StanzaError> {
        if self.head.ty != Ty::Error {
            return None;
        }
        let undefined = || StanzaError::undefined_condition();
        let kid = self.kid(ns::id::CLIENT, name::ERROR);
        Some(kid.map_or_else(undefined, |kid| {
            StanzaError::from_element(&self.element(kid))
        }))
    }
    /// Parses a whole stanza as a tree-less value, for tests and clients (namespace `jabber:client`
    /// assumed).
    ///
    /// # Errors
    /// What a stream would answer with a stream error; `NotAStanza` for what it would refuse or
    /// take for something else.
    pub fn parse(xml: &str) -> Result<Self, XmlError> {
        if let Some(frame) =
            reader::parse_plain(xml.as_bytes(), XmlLimits::client(), ns::CLIENT, ns::CLIENT)
        {
            return match frame {
                Frame::Stanza(stanza) => Ok(stanza),
                _ => Err(XmlError::NotAStanza),
            };
        }
        let mut reader = Reader::new(XmlLimits::client(), ns::CLIENT);
        let header = format!("<s xmlns='{}'>", ns::CLIENT);
        reader.next(&mut header.as_bytes())?;
        let mut data = xml.as_bytes();
        match reader.next(&mut data)? {
            Some(Frame::Stanza(stanza)) if data.trim_ascii().is_empty() => Ok(stanza),
            Some(_) => Err(XmlError::NotAStanza),
            None => Err(XmlError::NotWellFormed),
        }
    }
    /// The whole stanza as a tree in `jabber:client`, for comparison in tests.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut xml = Vec::new();
        self.write(&mut xml);
        Element::parse(&xml, ns::CLIENT)
            .unwrap_or_else(|_| Element::new(ns::CLIENT, self.kind.as_str()))
    }
    /// Appends the wire form, addressed as it stands.
    pub fn write(&self, out: &mut Vec<u8>) {
        rendered::write_stanza(self, None, out);
    }
    /// Appends the form that stands below a foreign element (XEP-0297): with its own `xmlns`.
    pub fn write_forwarded(&self, out: &mut Vec<u8>) {
        rendered::write_stanza(self, Some(ns::CLIENT), out);
    }
    /// A stanza out of a tree in `jabber:client`, such as a forwarded one.
    ///
    /// # Errors
    /// As `Stanza::parse`.
    pub fn from_element(element: &Element) -> Result<Self, XmlError> {
        Self::parse(&element.to_xml(ns::CLIENT))
    }
    /// The wire form as text, for logs and tests.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        String::from_utf8(out).unwrap_or_default()
    }
    /// The same kind and id with the addresses swapped.
    fn answer(&self, ty: Ty) -> Self {
        let head = Head {
            to: self.head.from.clone(),
            from: self.head.to.clone(),
            id: self.head.id.clone(),
            ..Head::default()
        };
        Self {
            head: Head { ty, ..head },
            ..Self::new(self.kind, Ty::None)
        }
    }
    /// Size on the wire, about.
    pub fn wire_len(&self) -> usize {
        let head = &self.head;
        let addresses = [head.to.as_ref(), head.from.as_ref()];
        let addresses = addresses
            .into_iter()
            .flatten()
            .map(|jid| jid.as_str().len());
        let texts = [head.id.as_deref(), head.lang.as_deref()];
        let texts = texts.into_iter().flatten().map(str::len);
        // Both tags of the longest kind with the names of these attributes, and a type.
        96 + addresses.chain(texts).sum::<usize>() + self.payload.len()
    }
}

impl Refused {
    /// The error for the sender; `None` where none may be sent.
    #[must_use]
    pub fn reply(&self) -> Option<Stanza> {
        if self.is_from_bad {
            return None;
        }
        let head = self.head.clone();
        let stanza = Stanza {
            head,
            ..Stanza::new(self.kind, Ty::None)
        };
        stanza.error_reply(&self.condition.into())
    }
}

/// Appends a child in canonical form, with its index entry.
fn append_child(payload: &mut Vec<u8>, kids: &mut SmallVec<[Kid; 6]>, child: &Element) {
    let mut canon = Canon::default();
    canon.restart(ns::CLIENT, true, usize::MAX);
    child.write_to(&mut canon);
    let ns = if is_content_ns(child.ns()) {
        ns::id::CLIENT
    } else {
        NsId::of(child.ns())
    };
    let start = payload.len() as u32;
    payload.extend_from_slice(canon.as_bytes());
    kids.push(Kid {
        ns,
        name: NameId::of(child.name()),
        start,
        end: payload.len() as u32,
    });
}

/// What stands between the tags of a canonical element; `None` when it has child elements.
fn plain_text(xml: &str) -> Option<&str> {
    let mut quoted = false;
    let tag_end = xml.bytes().position(|b| {
        quoted ^= b == b'\'';
        b == b'>' && !quoted
    })?;
    let (tag, rest) = xml.split_at(tag_end);
    if tag.ends_with('/') {
        return Some("");
    }
    let (text, end) = rest.strip_prefix('>')?.split_once('<')?;
    end.starts_with('/').then_some(text)
}

#[cfg(test)]
mod tests;
