//! The opening tag of a stream in its usual form, without the parser (RFC 6120 section 4.7).
//!
//! As `scan` for elements: it may give up on anything, well-formed or not, and then the parser reads
//! the same bytes and decides; what it takes it takes as the parser does, which the tests of
//! `reader` hold it to.

use super::assemble::{Attr, check_limits};
use super::frame::Header;
use super::scan::Scan;
use crate::limits::XmlLimits;
use crate::ns;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Where the root is `stream:stream`, this ends the stream.
pub(super) const FOOTER: &[u8] = super::writer::STREAM_END.as_bytes();

/// Bytes of a header: the usual ones have 200. It is kept, and so short it has no token that a parser
/// with `attribute_bytes_max` from here on would refuse.
const HEADER_MAX: usize = 1024;

/// The header at the front of `data`, with the number of its bytes.
pub(super) fn scan(data: &[u8], limits: &XmlLimits) -> Option<(Header, usize)> {
    let rest = behind_declaration(data)?;
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let blanks = rest.iter().take_while(|b| is_blank(b)).count();
    let rest = rest.get(blanks..)?.strip_prefix(b"<stream:stream")?;
    let mut scan = Scan::new(rest, "");
    let mut attrs: SmallVec<[Attr<'_>; 8]> = SmallVec::new();
    let mut content_ns = None;
    let (mut has_root_ns, mut has_dialback) = (false, false);
    loop {
        let spaced = scan.skip_space();
        match scan.peek()? {
            b'>' => break,
            _ if !spaced => return None,
            _ => {}
        }
        let (prefix, name, value) = attribute(&mut scan)?;
        match (prefix, name, &*value) {
            (None, "xmlns", uri) if content_ns.is_none() && is_plain_ns(uri) => {
                content_ns = Some(uri.to_owned());
            }
            (Some("xmlns"), "stream", ns::STREAMS) if !has_root_ns => has_root_ns = true,
            (Some("xmlns"), "db", ns::DIALBACK) if !has_dialback => has_dialback = true,
            (None, "to" | "from" | "id" | "version", _) => push(&mut attrs, "", name, value)?,
            (Some("xml"), "lang", _) => push(&mut attrs, ns::XML, name, value)?,
            _ => return None,
        }
    }
    let used = data.len() - rest.len() + scan.used() + 1;
    let is_small = used <= limits.stanza_bytes_max.min(HEADER_MAX);
    let has_room = limits.attribute_bytes_max >= HEADER_MAX;
    if !(has_root_ns && is_small && has_room)
        || check_limits(limits, ns::STREAMS, "stream", &attrs).is_err()
    {
        return None;
    }
    let get = |ns: &str, name: &str| {
        let attr = attrs.iter().find(|attr| (attr.ns, attr.name) == (ns, name));
        attr.map(|attr| attr.value.clone().into_owned())
    };
    let header = Header {
        root_ns: ns::STREAMS.to_owned(),
        root_name: "stream".to_owned(),
        root_prefixed: true,
        to: get("", "to"),
        from: get("", "from"),
        id: get("", "id"),
        version: get("", "version"),
        lang: get(ns::XML, "lang"),
        content_ns,
    };
    Some((header, used))
}

/// What stands behind the XML declaration, if there is one; of those only the usual.
fn behind_declaration(data: &[u8]) -> Option<&[u8]> {
    let Some(rest) = data.strip_prefix(b"<?xml version=") else {
        return Some(data);
    };
    let rest = one_of(rest, &[b"'1.0'", b"\"1.0\""])?;
    let rest = match rest.strip_prefix(b" encoding=") {
        Some(rest) => one_of(rest, &[b"'UTF-8'", b"\"UTF-8\"", b"'utf-8'", b"\"utf-8\""])?,
        None => rest,
    };
    rest.strip_prefix(b"?>")
}

fn one_of<'a>(data: &'a [u8], texts: &[&[u8]]) -> Option<&'a [u8]> {
    texts.iter().find_map(|text| data.strip_prefix(*text))
}

/// Prefix, name and value.
fn attribute<'a>(scan: &mut Scan<'a>) -> Option<(Option<&'a str>, &'a str, Cow<'a, str>)> {
    let mut prefix = None;
    let mut name = scan.name()?;
    if scan.peek()? == b':' {
        scan.skip(b':')?;
        prefix = Some(std::mem::replace(&mut name, scan.name()?));
    }
    scan.skip(b'=')?;
    Some((prefix, name, scan.value()?))
}

fn push<'a>(
    attrs: &mut SmallVec<[Attr<'a>; 8]>,
    ns: &'a str,
    name: &'a str,
    value: Cow<'a, str>,
) -> Option<()> {
    if attrs.iter().any(|attr| (attr.ns, attr.name) == (ns, name)) {
        return None;
    }
    attrs.push(Attr { ns, name, value });
    Some(())
}

/// A default namespace that needs no further thought.
fn is_plain_ns(uri: &str) -> bool {
    matches!(uri, ns::CLIENT | ns::SERVER | ns::COMPONENT | ns::STREAMS)
}
