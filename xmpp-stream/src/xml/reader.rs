//! Bytes in, stream headers, stanzas and other first-level elements out; every limit of X2 is
//! counted here.
//!
//! The only file that touches the XML parser, and nothing of it shows in the interface (DESIGN 6).
//! A stanza's payload is written in canonical form while it is parsed, with no tree in between.
//! RFC 6120 sections 4.9.3 and 11.

pub use super::frame::{Frame, Header, Refused, XmlError};

use super::canon::Canon;
use super::element::{Element, is_plain_name, is_plain_ns};
use crate::error::StanzaCondition;
use crate::jid::Jid;
use crate::limits::XmlLimits;
use crate::ns::{self, NameId, NsId};
use crate::stanza::{Extra, Head, Kid, Kind, Stanza, Ty};
use bytes::Bytes;
use rxml::error::EndOrError;
use rxml::{AttrMap, Event, Options, Parse, Parser, RawEvent, RawParser, WithOptions};
use smallvec::SmallVec;
use std::fmt;

/// More in one call makes the parser's work on long text quadratic.
const FEED_MAX: usize = 8 * 1024;
/// Unknown attributes of a stanza that are kept (X8).
const EXTRA_MAX: usize = 8;
/// A longer stream language is no language tag; it would be copied into every stanza.
const LANG_MAX: usize = 64;
/// Content namespace of a reader that shall see no stanzas; X4 forbids it to elements.
const NO_CONTENT: &str = " ";
/// Canonical bytes allowed beyond twice the input (X7).
const GROWTH_SLACK: usize = 4 * 1024;

/// Turns the bytes of one stream (from header to footer) into frames. A restart makes a new one.
pub struct Reader {
    parser: Parser,
    limits: XmlLimits,
    content_ns: &'static str,
    default_lang: Option<Box<str>>,
    /// Bytes of the header until it is there: prefixes and declarations are read from them.
    header_raw: Option<Vec<u8>>,
    /// No byte of a first-level element (or of the header) has been fed.
    at_boundary: bool,
    /// The header was `<stream/>`: the footer is due.
    footer_due: bool,
    ended: bool,
    failed: Option<XmlError>,
    /// Bytes of the first-level element so far.
    used: usize,
    /// Open elements below the root.
    depth: usize,
    elements: usize,
    current: Current,
    canon: Canon,
}

/// What the open first-level element becomes.
#[derive(Debug)]
enum Current {
    None,
    Stanza(Box<Draft>),
    Tree(Vec<Element>),
}

/// A stanza being received.
#[derive(Debug)]
struct Draft {
    kind: Kind,
    head: Head,
    kids: SmallVec<[Kid; 6]>,
    refused: Option<StanzaCondition>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Reader");
        out.field("used", &self.used)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader for one stream. `content_ns` is what its stanzas live in (`ns::CLIENT`).
    #[must_use]
    pub fn new(limits: XmlLimits, content_ns: &'static str) -> Self {
        Self {
            parser: new_parser(limits.attribute_bytes_max),
            limits,
            content_ns,
            default_lang: None,
            header_raw: Some(Vec::new()),
            at_boundary: true,
            footer_due: false,
            ended: false,
            failed: None,
            used: 0,
            depth: 0,
            elements: 0,
            current: Current::None,
            canon: Canon::default(),
        }
    }

    /// The next frame, or `None` when more bytes are needed. Consumes from `data` exactly what it
    /// used: after a frame, what is left stands behind that frame's closing `>`.
    ///
    /// # Errors
    /// The bytes are no acceptable stream; every later call gives the same error.
    pub fn next(&mut self, data: &mut &[u8]) -> Result<Option<Frame>, XmlError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.advance(data);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.current = Current::None;
        }
        result
    }

    /// Changes the limits (after authentication).
    pub fn set_limits(&mut self, limits: XmlLimits) {
        self.limits = limits;
    }

    /// The `xml:lang` that stanzas without one inherit (X8). The header sets it too.
    pub fn set_default_lang(&mut self, lang: Option<&str>) {
        self.default_lang = lang
            .filter(|lang| !lang.is_empty() && lang.len() <= LANG_MAX)
            .map(Box::from);
    }

    /// Frees scratch memory; safe at any time, meant for when the task is about to wait.
    pub fn release(&mut self) {
        self.parser.release_temporaries();
        if !self.is_mid_element() {
            self.canon = Canon::default();
        }
    }

    /// True while a stanza or element is half received.
    #[must_use]
    pub fn is_mid_element(&self) -> bool {
        !self.at_boundary && !self.ended
    }

    fn advance(&mut self, data: &mut &[u8]) -> Result<Option<Frame>, XmlError> {
        if std::mem::take(&mut self.footer_due) {
            self.ended = true;
            return Ok(Some(Frame::Footer));
        }
        if self.ended || (self.at_boundary && !self.skip_whitespace(data)?) {
            return Ok(None);
        }
        while let Some(event) = self.pull(data)? {
            if let Some(frame) = self.take(event)? {
                self.at_boundary = true;
                self.used = 0;
                self.elements = 0;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Skips whitespace before the header and between first-level elements, so that it never
    /// reaches the parser's buffers; true when an element begins.
    fn skip_whitespace(&mut self, data: &mut &[u8]) -> Result<bool, XmlError> {
        let is_space = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
        let spaces = data.iter().take_while(|b| is_space(b)).count();
        *data = data.get(spaces..).unwrap_or_default();
        if self.header_raw.is_some() {
            // Before the header it counts: nothing legitimate sends much of it there.
            self.used += spaces;
            if self.used > self.limits.stanza_bytes_max {
                return Err(XmlError::Limit("bytes"));
            }
        }
        match data.first() {
            None => Ok(false),
            Some(b'<') => {
                self.at_boundary = false;
                Ok(true)
            }
            Some(b'\0' | 0xFE | 0xFF) if self.header_raw.is_some() => Err(XmlError::Encoding),
            Some(0x80..=0xC1 | 0xF5..) => Err(XmlError::Encoding),
            Some(0..0x20) => Err(XmlError::NotWellFormed),
            // A byte order mark or anything else in front of the root element.
            Some(_) if self.header_raw.is_some() => Err(XmlError::NotWellFormed),
            Some(_) => Err(XmlError::TextAtTop),
        }
    }

    /// The next parser event; `None` when `data` is used up. Counts bytes as they are fed.
    fn pull(&mut self, data: &mut &[u8]) -> Result<Option<Event>, XmlError> {
        loop {
            let room = self.bytes_max().saturating_sub(self.used);
            let chunk = data
                .get(..data.len().min(room).min(FEED_MAX))
                .unwrap_or_default();
            let mut rest = chunk;
            let result = self.parser.parse(&mut rest, false);
            let eaten = chunk.len() - rest.len();
            if let Some(raw) = &mut self.header_raw {
                raw.extend_from_slice(chunk.get(..eaten).unwrap_or_default());
            }
            self.used += eaten;
            *data = data.get(eaten..).unwrap_or_default();
            match result {
                Ok(event) => return Ok(event),
                Err(EndOrError::NeedMoreData) if data.is_empty() => return Ok(None),
                Err(EndOrError::NeedMoreData) if eaten == 0 => {
                    return Err(XmlError::Limit("bytes"));
                }
                Err(EndOrError::NeedMoreData) => {}
                Err(EndOrError::Error(error)) => {
                    return Err(map_error(&error, self.header_raw.is_some()));
                }
            }
        }
    }

    /// Bytes that the open first-level element may take before the stream is cut.
    fn bytes_max(&self) -> usize {
        match self.current {
            Current::Stanza(_) => self.limits.stanza_bytes_max.max(self.limits.skip_bytes_max),
            _ => self.limits.stanza_bytes_max,
        }
    }

    fn take(&mut self, event: Event) -> Result<Option<Frame>, XmlError> {
        if self.used > self.limits.stanza_bytes_max {
            self.refuse(StanzaCondition::PolicyViolation);
        }
        match event {
            Event::XmlDeclaration(..) => Ok(None),
            Event::StartElement(_, (ns, name), attrs) => {
                check_limits(&self.limits, &ns, &name, &attrs)?;
                match self.header_raw.take() {
                    Some(raw) => self.header(&raw, &ns, &name, &attrs).map(Some),
                    None => self.start(&ns, &name, &attrs).map(|()| None),
                }
            }
            Event::Text(_, text) => self.text(&text).map(|()| None),
            Event::EndElement(_) => Ok(self.end()),
        }
    }

    fn header(
        &mut self,
        raw: &[u8],
        ns: &str,
        name: &str,
        attrs: &AttrMap,
    ) -> Result<Frame, XmlError> {
        let get = |ns: &str, name: &str| attrs.get(ns, name).cloned();
        let (root_prefixed, content_ns) = read_declarations(raw, self.limits.attribute_bytes_max)?;
        let header = Header {
            root_ns: ns.to_owned(),
            root_name: name.to_owned(),
            root_prefixed,
            content_ns,
            to: get("", "to"),
            from: get("", "from"),
            id: get("", "id"),
            version: get("", "version"),
            lang: get(ns::XML, "lang"),
        };
        self.footer_due = raw.ends_with(b"/>");
        self.set_default_lang(header.lang.as_deref());
        Ok(Frame::Header(header))
    }

    fn start(&mut self, ns: &str, name: &str, attrs: &AttrMap) -> Result<(), XmlError> {
        self.depth += 1;
        self.elements += 1;
        if self.depth > self.limits.depth_max {
            return Err(XmlError::Limit("depth"));
        }
        if self.elements > self.limits.elements_max {
            if self.limits.skip_bytes_max == 0 {
                return Err(XmlError::Limit("elements"));
            }
            self.refuse(StanzaCondition::PolicyViolation);
        }
        if self.depth == 1 && ns == ns::STREAMS && name == "stream" {
            // Its end tag would never come: whatever follows would be swallowed.
            return Err(XmlError::SecondHeader);
        }
        let plain = is_plain_element(ns, name, attrs);
        if let (1, Some(kind)) = (self.depth, self.stanza_kind(ns, name)) {
            self.start_stanza(kind, attrs, plain);
            return Ok(());
        }
        match &mut self.current {
            Current::Stanza(draft) => {
                if !plain {
                    draft.refused.get_or_insert(StanzaCondition::BadRequest);
                }
                if draft.refused.is_none() {
                    write_start(&mut self.canon, draft, self.depth, (ns, name), attrs);
                }
            }
            _ if !plain => return Err(XmlError::Name),
            Current::Tree(stack) => stack.push(new_element(ns, name, attrs)),
            Current::None => self.current = Current::Tree(vec![new_element(ns, name, attrs)]),
        }
        Ok(())
    }

    fn stanza_kind(&self, ns: &str, name: &str) -> Option<Kind> {
        Kind::of(name).filter(|_| ns == self.content_ns)
    }

    fn start_stanza(&mut self, kind: Kind, attrs: &AttrMap, plain: bool) {
        let (mut head, bad_to) = read_head(attrs);
        if head.lang.is_none() {
            head.lang.clone_from(&self.default_lang);
        }
        let refused = match (plain, bad_to) {
            (false, _) => Some(StanzaCondition::BadRequest),
            (true, true) => Some(StanzaCondition::JidMalformed),
            (true, false) => None,
        };
        let bytes_max = self.limits.stanza_bytes_max;
        self.canon.restart(ns::CLIENT, true, growth_max(bytes_max));
        self.current = Current::Stanza(Box::new(Draft {
            kind,
            head,
            kids: SmallVec::new(),
            refused,
        }));
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        match &mut self.current {
            Current::Stanza(draft) if draft.refused.is_none() => self.canon.text(text),
            Current::Stanza(_) => {}
            Current::Tree(stack) => {
                if let Some(element) = stack.last_mut() {
                    element.push_text(text);
                }
            }
            // Whitespace gets here only inside a CDATA section.
            Current::None if text.trim_ascii().is_empty() => {}
            Current::None => return Err(XmlError::TextAtTop),
        }
        Ok(())
    }

    fn end(&mut self) -> Option<Frame> {
        if self.depth == 0 {
            self.ended = true;
            return Some(Frame::Footer);
        }
        self.depth -= 1;
        if self.depth == 0 {
            return self.finish();
        }
        match &mut self.current {
            Current::Stanza(draft) if draft.refused.is_none() => {
                self.canon.close();
                if self.canon.is_over() {
                    draft.refused = Some(StanzaCondition::PolicyViolation);
                } else if self.depth == 1
                    && let Some(kid) = draft.kids.last_mut()
                {
                    kid.end = self.canon.as_bytes().len() as u32;
                }
            }
            Current::Tree(stack) => {
                if let Some(child) = stack.pop()
                    && let Some(parent) = stack.last_mut()
                {
                    parent.push(child);
                }
            }
            _ => {}
        }
        None
    }

    /// The first-level element is complete.
    fn finish(&mut self) -> Option<Frame> {
        match std::mem::replace(&mut self.current, Current::None) {
            Current::None => None,
            Current::Tree(mut stack) => stack.pop().map(Frame::Nonza),
            Current::Stanza(draft) => {
                let Draft {
                    kind,
                    head,
                    kids,
                    refused,
                } = *draft;
                let payload = self.canon.as_bytes();
                let size = payload.len() + escaped_head(&head);
                let grown = self.canon.is_over() || size > growth_max(self.used);
                let refused = refused.or_else(|| grown.then_some(StanzaCondition::PolicyViolation));
                Some(match refused {
                    Some(condition) => Frame::Refused(Refused {
                        kind,
                        head,
                        condition,
                    }),
                    None => {
                        let payload = Bytes::copy_from_slice(payload);
                        Frame::Stanza(Stanza {
                            kind,
                            head,
                            payload,
                            kids,
                        })
                    }
                })
            }
        }
    }

    /// Refuses the open stanza alone; its rest is only counted.
    fn refuse(&mut self, condition: StanzaCondition) {
        if let Current::Stanza(draft) = &mut self.current {
            draft.refused.get_or_insert(condition);
        }
    }
}

/// Parses one element that stands in the default namespace `parent_ns` (see `Element::parse`).
pub(crate) fn parse_element(xml: &[u8], parent_ns: &str) -> Result<Element, XmlError> {
    let limits = XmlLimits {
        stanza_bytes_max: xml.len() + 1024,
        ..XmlLimits::client()
    };
    // No token can be longer than the text, so a short text needs no large scratch buffer.
    let parser = new_parser(limits.attribute_bytes_max.min(xml.len().max(512)));
    let mut reader = Reader {
        parser,
        ..Reader::new(limits, NO_CONTENT)
    };
    let mut root = b"<r xmlns='".to_vec();
    super::canon::escape_value(&mut root, parent_ns);
    root.extend_from_slice(b"'>");
    reader.next(&mut root.as_slice())?;
    let mut data = xml;
    match reader.next(&mut data)? {
        Some(Frame::Nonza(element)) if data.trim_ascii().is_empty() => Ok(element),
        _ => Err(XmlError::NotWellFormed),
    }
}

fn new_parser(token_bytes_max: usize) -> Parser {
    Parser::with_options(options(token_bytes_max))
}

fn options(token_bytes_max: usize) -> Options {
    Options {
        max_token_length: token_bytes_max,
        ..Options::default()
    }
}

/// Canonical bytes that so many received ones may become (X7).
fn growth_max(received: usize) -> usize {
    received.saturating_mul(2).saturating_add(GROWTH_SLACK)
}

fn check_limits(limits: &XmlLimits, ns: &str, name: &str, attrs: &AttrMap) -> Result<(), XmlError> {
    let check = |len: usize, max: usize, what| {
        if len > max {
            Err(XmlError::Limit(what))
        } else {
            Ok(())
        }
    };
    check(ns.len(), limits.ns_bytes_max, "namespace name")?;
    check(name.len(), limits.name_bytes_max, "name")?;
    check(attrs.len(), limits.attributes_max, "attributes")?;
    for ((ns, name), value) in attrs.iter() {
        check(ns.len(), limits.ns_bytes_max, "namespace name")?;
        check(name.len(), limits.name_bytes_max, "name")?;
        check(value.len(), limits.attribute_bytes_max, "attribute value")?;
    }
    Ok(())
}

/// X3 and X4 for an element and its attributes.
fn is_plain_element(ns: &str, name: &str, attrs: &AttrMap) -> bool {
    // `xml:` is a prefix for attributes only: no default namespace may have its name.
    is_plain_name(name)
        && is_plain_ns(ns)
        && ns != ns::XML
        && attrs
            .iter()
            .all(|((ns, name), _)| is_plain_name(name) && is_plain_ns(ns))
}

fn new_element(ns: &str, name: &str, attrs: &AttrMap) -> Element {
    let mut element = Element::new(ns, name);
    for ((ns, name), value) in attrs.iter() {
        element.set_attr_ns(ns, name, value);
    }
    element
}

fn write_start(
    canon: &mut Canon,
    draft: &mut Draft,
    depth: usize,
    (ns, name): (&str, &str),
    attrs: &AttrMap,
) {
    let start = canon.as_bytes().len() as u32;
    if depth > 2 {
        canon.open(ns, name);
    } else {
        let own = canon.open(ns, name);
        let ns = if own { ns::id::CLIENT } else { NsId::of(ns) };
        draft.kids.push(Kid {
            ns,
            name: NameId::of(name),
            start,
            end: start,
        });
    }
    for ((ns, name), value) in attrs.iter() {
        canon.attr(ns, name, value);
    }
}

/// Bytes of the head's free texts as they will be written (X7 counts them too).
fn escaped_head(head: &Head) -> usize {
    let is_special = |b: &u8| matches!(b, b'&' | b'<' | b'\'' | b'\t' | b'\n' | b'\r');
    let escaped =
        |text: &str| text.len() + text.as_bytes().iter().filter(|b| is_special(b)).count() * 5;
    let texts = [head.id.as_deref(), head.ty.as_str(), head.lang.as_deref()];
    let extra = head.extra.iter().flat_map(|extra| &extra.0);
    let extra = extra.map(|(ns, name, value)| escaped(ns) + name.len() + escaped(value));
    texts.into_iter().flatten().map(escaped).sum::<usize>() + extra.sum::<usize>()
}

/// The typed head; true beside it when `to` is no address. A `from` that is none counts as absent:
/// whoever receives stanzas from a client writes the right one, and between servers it is missed.
fn read_head(attrs: &AttrMap) -> (Head, bool) {
    let mut head = Head::default();
    let mut extra = Extra::default();
    let mut bad_to = false;
    for ((ns, name), value) in attrs.iter() {
        match (&**ns, name.as_str()) {
            ("", "to") => match Jid::parse(value) {
                Ok(jid) => head.to = Some(jid),
                Err(_) => bad_to = true,
            },
            ("", "from") => head.from = Jid::parse(value).ok(),
            ("", "id") => head.id = Some(value.as_str().into()),
            ("", "type") => head.ty = Ty::of(value),
            (ns::XML, "lang") => head.lang = Some(value.as_str().into()),
            (ns, name) if extra.0.len() < EXTRA_MAX => {
                extra
                    .0
                    .push((ns.into(), name.into(), value.as_str().into()));
            }
            _ => {}
        }
    }
    if !extra.0.is_empty() {
        head.extra = Some(Box::new(extra));
    }
    (head, bad_to)
}

/// Whether the root has a prefix, and its default namespace. The namespace-aware parser resolves
/// both away, so the bytes of the header, already found good, are read once more without it.
fn read_declarations(
    raw: &[u8],
    token_bytes_max: usize,
) -> Result<(bool, Option<String>), XmlError> {
    let mut parser = <RawParser as WithOptions>::with_options(options(token_bytes_max));
    let mut data = raw;
    let mut prefixed = false;
    let mut content_ns = None;
    loop {
        match parser.parse(&mut data, false) {
            Ok(Some(RawEvent::ElementHeadOpen(_, (prefix, _)))) => prefixed = prefix.is_some(),
            Ok(Some(RawEvent::Attribute(_, (None, name), value))) if name == "xmlns" => {
                content_ns = Some(value);
            }
            Ok(Some(RawEvent::ElementHeadClose(_)) | None) => return Ok((prefixed, content_ns)),
            Ok(Some(_)) => {}
            Err(_) => return Err(XmlError::NotWellFormed),
        }
    }
}

/// The parser's error as ours. Some of its kinds are told apart only by their message; tests hold
/// each of those to the version in use.
fn map_error(error: &rxml::Error, in_prolog: bool) -> XmlError {
    use rxml::Error as E;
    match error {
        E::InvalidUtf8Byte(_) => XmlError::Encoding,
        // UTF-16 in disguise.
        E::InvalidChar(_, 0, false) | E::UnexpectedByte(_, 0, _) if in_prolog => XmlError::Encoding,
        E::UndeclaredEntity => XmlError::Restricted,
        E::RestrictedXml("long name or reference") => XmlError::Limit("name or attribute value"),
        E::RestrictedXml("only utf-8 encoding is allowed") => XmlError::Encoding,
        E::RestrictedXml(_) => XmlError::Restricted,
        E::InvalidSyntax("malformed cdata or comment section start") => XmlError::Restricted,
        _ => XmlError::NotWellFormed,
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
