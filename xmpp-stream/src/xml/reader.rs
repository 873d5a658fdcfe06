//! Bytes in, stream headers, stanzas and other first-level elements out; bytes are counted here
//! (X2), all else in `assemble`.
//!
//! The only file that touches the XML parser, and nothing of it shows in the interface (DESIGN 6).
//! What is wholly there and plain is read by `scan` and `opening`, at a tenth of the work; all else
//! by the parser, which alone says what an error is, and is not made before it is needed. RFC 6120
//! sections 4.9.3 and 11.

pub use super::frame::{Frame, Header, Refused, XmlError};

use super::assemble::{Assembler, Attr, check_limits};
use super::element::Element;
use super::opening;
use super::scan::{Scan, Token};
use crate::error::StanzaCondition;
use crate::limits::XmlLimits;
use crate::ns::{self, NsId};
use rxml::error::EndOrError;
use rxml::{AttrMap, Event, Options, Parse, Parser, RawEvent, RawParser, WithOptions};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::fmt;

/// More in one call makes the parser's work on long text quadratic.
const FEED_MAX: usize = 8 * 1024;
/// Content namespace of a reader that shall see no stanzas; X4 forbids it to elements.
const NO_CONTENT: &str = " ";

/// Turns the bytes of one stream (from header to footer) into frames. A restart makes a new one.
pub struct Reader {
    /// Made for the first bytes that are not plain.
    parser: Option<Box<Parser>>,
    /// The header where it was plain, for the parser to begin with.
    opening: Option<Box<[u8]>>,
    assembler: Assembler,
    /// The root's default namespace where it is a known one: what plain elements stand in.
    root_ns: Option<&'static str>,
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
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Reader");
        out.field("used", &self.used)
            .field("depth", &self.assembler.depth())
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader for one stream. `content_ns` is what its stanzas live in (`ns::CLIENT`).
    #[must_use]
    pub fn new(limits: XmlLimits, content_ns: &'static str) -> Self {
        Self {
            parser: None,
            opening: None,
            assembler: Assembler::new(limits, content_ns),
            root_ns: None,
            header_raw: Some(Vec::new()),
            at_boundary: true,
            footer_due: false,
            ended: false,
            failed: None,
            used: 0,
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
            self.assembler.reset();
        }
        result
    }

    /// Changes the limits (after authentication).
    pub fn set_limits(&mut self, limits: XmlLimits) {
        self.assembler.limits = limits;
    }

    /// Refuses stanzas whose `from` is no address: for who believes what it says, and takes what has
    /// none for the own account's (RFC 6120 section 8.1.2.1).
    pub fn believe_from(&mut self) {
        self.assembler.believes_from = true;
    }

    /// The `xml:lang` that stanzas without one inherit (X8). The header sets it too.
    pub fn set_default_lang(&mut self, lang: Option<&str>) {
        self.assembler.set_default_lang(lang);
    }

    /// Frees scratch memory; safe at any time, meant for when the task is about to wait.
    pub fn release(&mut self) {
        if let Some(parser) = &mut self.parser {
            parser.release_temporaries();
        }
        if !self.is_mid_element() {
            self.assembler.release();
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
        if let Some(frame) = self.plain(data) {
            self.at_boundary = true;
            return Ok(Some(frame));
        }
        while let Some(event) = self.pull(data)? {
            if let Some(frame) = self.take(event)? {
                self.at_boundary = true;
                self.used = 0;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// What stands at the front of `data`, if all of it is there and plain.
    fn plain(&mut self, data: &mut &[u8]) -> Option<Frame> {
        if self.header_raw.is_some() {
            return self.plain_header(data);
        }
        if self.used > 0 {
            return None;
        }
        if self.opening.is_some()
            && let Some(rest) = data.strip_prefix(opening::FOOTER)
        {
            *data = rest;
            self.ended = true;
            return Some(Frame::Footer);
        }
        plain(&mut self.assembler, data, self.root_ns?)
    }

    fn plain_header(&mut self, data: &mut &[u8]) -> Option<Frame> {
        if self.parser.is_some() {
            return None;
        }
        let (header, used) = opening::scan(data, &self.assembler.limits)?;
        if self.used + used > self.assembler.limits.stanza_bytes_max {
            return None;
        }
        let (raw, rest) = data.split_at_checked(used)?;
        *data = rest;
        self.opening = Some(raw.into());
        self.header_raw = None;
        self.used = 0;
        Some(self.opened(header))
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
            if self.used > self.assembler.limits.stanza_bytes_max {
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
        let mut parser = match self.parser.take() {
            Some(parser) => parser,
            None => self.new_parser()?,
        };
        let result = self.feed(&mut parser, data);
        self.parser = Some(parser);
        result
    }

    /// A parser that stands where we stand: behind a header that it did not read, if there was one.
    fn new_parser(&mut self) -> Result<Box<Parser>, XmlError> {
        let mut parser = Box::new(new_parser(self.assembler.limits.attribute_bytes_max));
        if let Some(opening) = self.opening.take() {
            let mut rest = &*opening;
            loop {
                match parser.parse(&mut rest, false) {
                    Ok(Some(Event::StartElement(..))) => break,
                    Ok(Some(_)) => {}
                    Ok(None) | Err(EndOrError::NeedMoreData) => {
                        return Err(XmlError::NotWellFormed);
                    }
                    Err(EndOrError::Error(error)) => return Err(map_error(&error, true)),
                }
            }
        }
        Ok(parser)
    }

    fn feed(&mut self, parser: &mut Parser, data: &mut &[u8]) -> Result<Option<Event>, XmlError> {
        loop {
            let room = self.bytes_max().saturating_sub(self.used);
            let chunk = data
                .get(..data.len().min(room).min(FEED_MAX))
                .unwrap_or_default();
            let mut rest = chunk;
            let result = parser.parse(&mut rest, false);
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
        let limits = &self.assembler.limits;
        if self.assembler.is_stanza() {
            limits.stanza_bytes_max.max(limits.skip_bytes_max)
        } else {
            limits.stanza_bytes_max
        }
    }

    fn take(&mut self, event: Event) -> Result<Option<Frame>, XmlError> {
        if self.used > self.assembler.limits.stanza_bytes_max {
            self.assembler.refuse(StanzaCondition::PolicyViolation);
        }
        match event {
            Event::XmlDeclaration(..) => Ok(None),
            Event::StartElement(_, (ns, name), attrs) => match self.header_raw.take() {
                Some(raw) => {
                    check_limits(&self.assembler.limits, &ns, &name, &sorted(&attrs))?;
                    self.header(&raw, &ns, &name, &attrs).map(Some)
                }
                None => self
                    .assembler
                    .start(&ns, &name, &sorted(&attrs))
                    .map(|()| None),
            },
            Event::Text(_, text) => self.assembler.text(&text).map(|()| None),
            Event::EndElement(_) if self.assembler.depth() == 0 => {
                self.ended = true;
                Ok(Some(Frame::Footer))
            }
            Event::EndElement(_) => Ok(self.assembler.end(self.used)),
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
        let (root_prefixed, content_ns) =
            read_declarations(raw, self.assembler.limits.attribute_bytes_max)?;
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
        Ok(self.opened(header))
    }

    fn opened(&mut self, header: Header) -> Frame {
        self.root_ns = known_ns(header.content_ns.as_deref());
        self.set_default_lang(header.lang.as_deref());
        Frame::Header(header)
    }
}

/// Parses one element that stands in the default namespace `parent_ns` (see `Element::parse`).
pub(crate) fn parse_element(xml: &[u8], parent_ns: &str) -> Result<Element, XmlError> {
    let limits = XmlLimits {
        stanza_bytes_max: xml.len() + 1024,
        ..XmlLimits::client()
    };
    match parse_plain(xml, limits, NO_CONTENT, parent_ns) {
        Some(Frame::Nonza(element)) => return Ok(element),
        Some(_) => return Err(XmlError::NotWellFormed),
        None => {}
    }
    // No token can be longer than the text, so a short text needs no large scratch buffer.
    let parser = new_parser(limits.attribute_bytes_max.min(xml.len().max(512)));
    let mut reader = Reader {
        parser: Some(Box::new(parser)),
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

/// One plain first-level element and nothing else, without a parser; `None` when it takes one.
pub(crate) fn parse_plain(
    xml: &[u8],
    limits: XmlLimits,
    content_ns: &'static str,
    parent_ns: &str,
) -> Option<Frame> {
    let mut assembler = Assembler::new(limits, content_ns);
    let mut data = xml.trim_ascii_start();
    let frame = plain(&mut assembler, &mut data, known_ns(Some(parent_ns))?)?;
    data.trim_ascii().is_empty().then_some(frame)
}

/// The plain element at the front of `data`, which it is taken from; `None` changes nothing.
fn plain(assembler: &mut Assembler, data: &mut &[u8], ns: &'static str) -> Option<Frame> {
    let mut scan = Scan::new(data, ns);
    let frame = assemble(assembler, &mut scan);
    match frame {
        Some(_) => *data = data.get(scan.used()..).unwrap_or_default(),
        None => assembler.reset(),
    }
    frame
}

fn assemble(assembler: &mut Assembler, scan: &mut Scan<'_>) -> Option<Frame> {
    loop {
        match scan.next()? {
            Token::Start { ns, name } => assembler.start(ns, name, scan.attrs()).ok()?,
            Token::Text(text) => assembler.text(&text).ok()?,
            Token::End if assembler.depth() > 1 => drop(assembler.end(0)),
            Token::End if scan.used() > assembler.limits.stanza_bytes_max => return None,
            Token::End => return assembler.end(scan.used()),
        }
    }
}

/// The same text with a life of its own, for namespaces that are in the table.
fn known_ns(ns: Option<&str>) -> Option<&'static str> {
    NsId::of(ns?).as_str()
}

/// The parser's attributes as the assembler takes them.
fn sorted(attrs: &AttrMap) -> SmallVec<[Attr<'_>; 8]> {
    let borrowed = attrs.iter().map(|((ns, name), value)| Attr {
        ns,
        name,
        value: Cow::Borrowed(value),
    });
    borrowed.collect()
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
