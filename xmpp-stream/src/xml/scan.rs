//! One whole first-level element in plain form, token by token, without the parser.
//!
//! Nearly all that clients and servers send is plain: no prefix but `xml:lang`, no reference but the
//! five that XML predefines, nothing cut at the end. `Scan` reads that and gives up (`None`) on all
//! else, well-formed or not: then the parser reads the same bytes from their beginning and decides.
//! So it may give up on anything, but what it takes it must take as the parser does; the tests of
//! `reader`, which play every input at every split, and tests/plain.rs hold the two together.

use super::assemble::Attr;
use crate::ns;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Attributes of one element; who sends more is left to the parser.
const ATTRS_MAX: usize = 32;
/// Bytes of one attribute value; the parser counts them in its own way near its limit.
const VALUE_MAX: usize = 4 * 1024;

/// Classes of bytes that are not simply themselves.
const LESS: u8 = 1;
const GREATER: u8 = 1 << 1;
const REFERS: u8 = 1 << 2;
const BLANK: u8 = 1 << 3;
/// Part of a character outside ASCII.
const HIGH: u8 = 1 << 4;
/// A control character; CR is one that would be normalised.
const BAD: u8 = 1 << 5;
static CLASS: [u8; 256] = classes();

/// What comes next.
pub(super) enum Token<'a> {
    /// A start tag; its attributes are in `Scan::attrs`.
    Start { ns: &'a str, name: &'a str },
    /// Character data, references resolved.
    Text(Cow<'a, str>),
    /// The innermost element ends.
    End,
}

/// Reads the element at the front of some bytes.
pub(super) struct Scan<'a> {
    data: &'a [u8],
    at: usize,
    /// Default namespace and name of each open element; the first is the surroundings'.
    open: SmallVec<[(&'a str, &'a str); 8]>,
    attrs: SmallVec<[Attr<'a>; 8]>,
    /// The last tag was `<name/>`.
    end_due: bool,
}

impl<'a> Scan<'a> {
    /// Begins at the `<` of an element in the default namespace `ns`.
    pub(super) fn new(data: &'a [u8], ns: &'a str) -> Self {
        let mut open = SmallVec::new();
        open.push((ns, ""));
        Self {
            data,
            at: 0,
            open,
            attrs: SmallVec::new(),
            end_due: false,
        }
    }

    /// The next token; `None` when this is not for the scanner.
    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        if std::mem::take(&mut self.end_due) {
            self.open.pop();
            return Some(Token::End);
        }
        match (self.peek()?, self.data.get(self.at + 1)?) {
            (b'<', b'/') => self.end_tag(),
            (b'<', _) => self.start_tag(),
            _ => self.text(),
        }
    }

    /// Attributes of the last start tag, sorted by namespace and name.
    pub(super) fn attrs(&self) -> &[Attr<'a>] {
        &self.attrs
    }

    /// Bytes read so far.
    pub(super) fn used(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.data.get(self.at).copied()
    }

    pub(super) fn skip(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Skips whitespace; true when there was some.
    pub(super) fn skip_space(&mut self) -> bool {
        let start = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n')) {
            self.at += 1;
        }
        self.at > start
    }

    /// An ASCII name without a prefix; what follows it is the caller's to judge.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        let rest = self.data.get(self.at..)?;
        let is_start = |b: &u8| b.is_ascii_alphabetic() || *b == b'_';
        let goes_on = |b: &u8| is_start(b) || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        rest.first().filter(|b| is_start(b))?;
        let len = rest.iter().position(|b| !goes_on(b))?;
        self.at += len;
        std::str::from_utf8(rest.get(..len)?).ok()
    }

    fn end_tag(&mut self) -> Option<Token<'a>> {
        self.at += 2;
        let name = self.name()?;
        self.skip(b'>')?;
        // The surroundings have no name: a stray end tag matches nothing.
        (self.open.pop()?.1 == name).then_some(Token::End)
    }

    fn start_tag(&mut self) -> Option<Token<'a>> {
        self.at += 1;
        let name = self.name()?;
        let mut ns = None;
        self.attrs.clear();
        loop {
            let spaced = self.skip_space();
            match self.peek()? {
                b'>' => break,
                b'/' => {
                    self.at += 1;
                    self.end_due = true;
                    break;
                }
                _ if spaced => self.attribute(&mut ns)?,
                _ => return None,
            }
        }
        self.skip(b'>')?;
        self.attrs
            .sort_unstable_by(|a, b| (a.ns, a.name).cmp(&(b.ns, b.name)));
        let ns = match ns {
            Some(ns) => ns,
            None => self.open.last()?.0,
        };
        self.open.push((ns, name));
        Some(Token::Start { ns, name })
    }

    fn attribute(&mut self, default_ns: &mut Option<&'a str>) -> Option<()> {
        let mut name = self.name()?;
        let mut ns = "";
        if name == "xml" && self.peek()? == b':' {
            self.at += 1;
            (ns, name) = (ns::XML, self.name().filter(|name| *name == "lang")?);
        }
        self.skip(b'=')?;
        let value = self.value()?;
        if (ns, name) != ("", "xmlns") {
            let is_known = |attr: &Attr<'_>| (attr.ns, attr.name) == (ns, name);
            if self.attrs.len() == ATTRS_MAX || self.attrs.iter().any(is_known) {
                return None;
            }
            self.attrs.push(Attr { ns, name, value });
            return Some(());
        }
        match value {
            Cow::Borrowed(uri) if default_ns.is_none() && may_be_default(uri) => {
                *default_ns = Some(uri);
                Some(())
            }
            _ => None,
        }
    }

    pub(super) fn value(&mut self) -> Option<Cow<'a, str>> {
        let quote = self.peek().filter(|b| matches!(b, b'"' | b'\''))?;
        self.at += 1;
        let (raw, seen) = self.until(quote)?;
        self.at += 1;
        // A parser would make spaces of tabs and line ends.
        if raw.len() > VALUE_MAX || seen & (LESS | BLANK) != 0 {
            return None;
        }
        characters(raw, seen)
    }

    fn text(&mut self) -> Option<Token<'a>> {
        let (raw, seen) = self.until(b'<')?;
        if seen & GREATER != 0 && raw.windows(3).any(|three| three == b"]]>") {
            return None;
        }
        characters(raw, seen).map(Token::Text)
    }

    /// What stands before the next `stop`, and the classes of bytes in it.
    fn until(&mut self, stop: u8) -> Option<(&'a [u8], u8)> {
        let rest = self.data.get(self.at..)?;
        let mut seen = 0;
        let len = rest.iter().position(|b| {
            let found = *b == stop;
            if !found {
                seen |= CLASS.get(usize::from(*b)).copied().unwrap_or(BAD);
            }
            found
        })?;
        self.at += len;
        Some((rest.get(..len)?, seen))
    }
}

/// Empty would take the namespace away, and these two names are not for declaring.
fn may_be_default(uri: &str) -> bool {
    !uri.is_empty() && uri != ns::XML && uri != ns::XMLNS
}

/// Characters that XML allows (RFC 6120 section 11.6), predefined references resolved.
fn characters(raw: &[u8], seen: u8) -> Option<Cow<'_, str>> {
    if seen & BAD != 0 {
        return None;
    }
    let text = std::str::from_utf8(raw).ok()?;
    if seen & HIGH != 0 && text.contains(['\u{FFFE}', '\u{FFFF}']) {
        return None;
    }
    if seen & REFERS != 0 {
        resolve(text).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

fn resolve(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, tail)) = rest.split_once('&') {
        let (name, tail) = tail.split_once(';')?;
        out.push_str(plain);
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "apos" => '\'',
            "quot" => '"',
            _ => return None,
        });
        rest = tail;
    }
    out.push_str(rest);
    Some(out)
}

#[allow(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which would find it"
)]
const fn classes() -> [u8; 256] {
    let mut class = [0; 256];
    let mut b = 0;
    while b < 256 {
        class[b] = match b as u8 {
            b'<' => LESS,
            b'>' => GREATER,
            b'&' => REFERS,
            b'\t' | b'\n' => BLANK,
            0..0x20 => BAD,
            0x80.. => HIGH,
            _ => 0,
        };
        b += 1;
    }
    class
}
