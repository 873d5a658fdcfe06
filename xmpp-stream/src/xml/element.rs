//! A small tree of one element, for IQ payloads, forms and tests. Never on the hot path.

use super::canon::Canon;
use super::reader::{XmlError, parse_element};
use crate::ns;
use std::fmt::Write as _;

/// One element with its attributes and content. Attribute order does not count for equality.
///
/// Names and namespace names given by our own code are taken as they are: they must be plain
/// ASCII names and URIs (DESIGN X3, X4). What a peer sent is checked by the reader.
#[derive(Clone, Debug)]
pub struct Element {
    ns: Box<str>,
    name: Box<str>,
    attrs: Vec<Attr>,
    nodes: Vec<Node>,
}

/// Content of an element.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Character data, entities resolved.
    Text(String),
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Attr {
    ns: Box<str>,
    name: Box<str>,
    value: String,
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.ns == other.ns
            && self.name == other.name
            && self.attrs.len() == other.attrs.len()
            && self.attrs.iter().all(|attr| other.attrs.contains(attr))
            && self.nodes == other.nodes
    }
}
impl Eq for Element {}

impl Element {
    /// An empty element.
    pub fn new(ns: &str, name: &str) -> Self {
        Self {
            ns: ns.into(),
            name: name.into(),
            attrs: Vec::new(),
            nodes: Vec::new(),
        }
    }
    /// Builder: sets an attribute without a namespace.
    #[must_use]
    pub fn with_attr(mut self, name: &str, value: &str) -> Self {
        self.set_attr(name, value);
        self
    }
    /// Builder: sets an attribute in a namespace (`ns::XML` for `xml:lang`).
    #[must_use]
    pub fn with_attr_ns(mut self, ns: &str, name: &str, value: &str) -> Self {
        self.set_attr_ns(ns, name, value);
        self
    }
    /// Builder: appends a child.
    #[must_use]
    pub fn with_child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }
    /// Builder: appends text.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.push_text(text);
        self
    }
    /// Sets an attribute without a namespace.
    pub fn set_attr(&mut self, name: &str, value: &str) {
        self.set_attr_ns("", name, value);
    }
    /// Sets an attribute in a namespace.
    pub fn set_attr_ns(&mut self, ns: &str, name: &str, value: &str) {
        let mut kept = String::new();
        push_xml_chars(&mut kept, value);
        let value = kept;
        match self
            .attrs
            .iter_mut()
            .find(|attr| *attr.ns == *ns && *attr.name == *name)
        {
            Some(attr) => attr.value = value,
            None => self.attrs.push(Attr {
                ns: ns.into(),
                name: name.into(),
                value,
            }),
        }
    }
    /// Removes an attribute without a namespace.
    pub fn remove_attr(&mut self, name: &str) {
        self.attrs
            .retain(|attr| !(attr.ns.is_empty() && *attr.name == *name));
    }
    /// Appends a child.
    pub fn push(&mut self, child: Self) {
        self.nodes.push(Node::Element(child));
    }
    /// Appends text; characters that XML cannot carry are left out.
    pub fn push_text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !matches!(self.nodes.last(), Some(Node::Text(_))) {
            self.nodes.push(Node::Text(String::new()));
        }
        if let Some(Node::Text(last)) = self.nodes.last_mut() {
            push_xml_chars(last, text);
        }
    }
    /// Local name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Namespace name; empty: none.
    pub fn ns(&self) -> &str {
        &self.ns
    }
    /// True when both match.
    pub fn is(&self, ns: &str, name: &str) -> bool {
        *self.ns == *ns && *self.name == *name
    }
    /// An attribute without a namespace.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attr_ns("", name)
    }
    /// An attribute in a namespace (`ns::XML` for `xml:lang`).
    pub fn attr_ns(&self, ns: &str, name: &str) -> Option<&str> {
        let attr = self
            .attrs
            .iter()
            .find(|attr| *attr.ns == *ns && *attr.name == *name);
        attr.map(|attr| attr.value.as_str())
    }
    /// All attributes: namespace (empty: none), name, value.
    pub fn attrs(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.attrs
            .iter()
            .map(|attr| (&*attr.ns, &*attr.name, attr.value.as_str()))
    }
    /// Child elements in order.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }
    /// All content in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    /// The first child with this namespace and name.
    pub fn child(&self, ns: &str, name: &str) -> Option<&Self> {
        self.children().find(|child| child.is(ns, name))
    }
    /// The text directly inside, joined.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }
    /// Parses one element; `parent_ns` is the default namespace it stands in (same limits as a
    /// stanza).
    ///
    /// # Errors
    /// As for a received stanza; also when there is more or less than one element.
    pub fn parse(xml: &[u8], parent_ns: &str) -> Result<Self, XmlError> {
        parse_element(xml, parent_ns)
    }
    /// Writes canonical XML (rules X5, X6); no `xmlns` where the namespace is `parent_ns`.
    pub fn write(&self, out: &mut Vec<u8>, parent_ns: &str) {
        let mut canon = Canon::default();
        canon.restart(parent_ns, false, usize::MAX);
        self.write_to(&mut canon);
        out.extend_from_slice(canon.as_bytes());
    }
    /// As canonical XML text.
    pub fn to_xml(&self, parent_ns: &str) -> String {
        let mut out = Vec::new();
        self.write(&mut out, parent_ns);
        String::from_utf8(out).unwrap_or_default()
    }
    /// As indented text for people (mismatch reports).
    pub fn to_pretty(&self) -> String {
        let mut out = String::new();
        self.write_pretty(&mut out, "", 0);
        out
    }

    pub(crate) fn write_to(&self, canon: &mut Canon) {
        canon.open(&self.ns, &self.name);
        for attr in &self.attrs {
            canon.attr(&attr.ns, &attr.name, &attr.value);
        }
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write_to(canon),
                Node::Text(text) => canon.text(text),
            }
        }
        canon.close();
    }

    fn write_pretty(&self, out: &mut String, parent_ns: &str, indent: usize) {
        let start = Self {
            nodes: Vec::new(),
            ..self.clone()
        }
        .to_xml(parent_ns);
        let has_elements = self.children().next().is_some();
        let _ = write!(out, "{:indent$}", "");
        if self.nodes.is_empty() {
            let _ = writeln!(out, "{start}");
            return;
        }
        let _ = write!(out, "{}>", start.trim_end_matches("/>"));
        if !has_elements {
            let text = Self {
                attrs: Vec::new(),
                ..self.clone()
            }
            .to_xml(&self.ns);
            let skipped = self.name.len() + 2;
            let _ = writeln!(out, "{}", text.get(skipped..).unwrap_or_default());
            return;
        }
        out.push('\n');
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write_pretty(out, &self.ns, indent + 2),
                Node::Text(text) if text.trim().is_empty() => {}
                Node::Text(text) => {
                    let _ = writeln!(out, "{:width$}{}", "", text.trim(), width = indent + 2);
                }
            }
        }
        let _ = writeln!(out, "{:indent$}</{}>", "", self.name);
    }
}

/// Appends what XML can carry of a text: nearly always all of it.
fn push_xml_chars(to: &mut String, text: &str) {
    // A byte below the space, or the first byte of U+FFFE and U+FFFF.
    if text.bytes().any(|b| b < b' ' || b == 0xEF) {
        to.extend(text.chars().filter(|&c| is_xml_char(c)));
    } else {
        to.push_str(text);
    }
}

/// The characters of XML 1.0 (section 2.2); others cannot be written even as references.
pub(crate) fn is_xml_char(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => false,
        _ => true,
    }
}

/// Bytes that may stand in a name (X3).
pub(crate) fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A namespace name that every parser takes (X4): RFC 3986 characters, not the reserved name.
pub(crate) fn is_plain_ns(ns: &str) -> bool {
    ns.bytes().all(is_uri_byte) && ns != ns::XMLNS
}

/// The printable characters of ASCII that RFC 3986 gives a meaning.
const fn is_uri_byte(b: u8) -> bool {
    matches!(b, b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(xml: &str) -> Element {
        Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
    }

    #[test]
    fn elements_are_built_read_and_written() {
        let element = Element::new("urn:x", "q")
            .with_attr("a", "1")
            .with_attr("a", "2<\u{1}")
            .with_attr_ns(ns::XML, "lang", "de")
            .with_child(Element::new("urn:x", "k").with_text("t"))
            .with_child(Element::new(ns::CLIENT, "k"))
            .with_text("a")
            .with_text("\u{FFFE}b");
        let xml =
            "<q xmlns='urn:x' a='2&lt;' xml:lang='de'><k>t</k><k xmlns='jabber:client'/>ab</q>";
        assert_eq!(element.to_xml(ns::CLIENT), xml);
        assert_eq!(element.to_xml("urn:x"), xml.replace(" xmlns='urn:x'", ""));
        assert_eq!(parse(xml), element);
        assert_eq!(element.attr("a"), Some("2<"));
        assert_eq!(element.attr_ns(ns::XML, "lang"), Some("de"));
        assert_eq!(element.attrs().count(), 2);
        assert_eq!(
            element.child("urn:x", "k").map(Element::text).as_deref(),
            Some("t")
        );
        assert!(
            element
                .child(ns::CLIENT, "k")
                .is_some_and(|k| k.is(ns::CLIENT, "k"))
        );
        assert_eq!((element.children().count(), element.nodes().len()), (2, 3));
        assert_eq!(element.text(), "ab");
    }

    #[test]
    fn equality_ignores_attribute_order_alone() {
        assert_eq!(parse("<a b='1' c='2'/>"), parse("<a c='2' b='1'/>"));
        for other in [
            "<a b='1'/>",
            "<a b='1' c='3'/>",
            "<a b='1' c='2'> </a>",
            "<x b='1' c='2'/>",
        ] {
            assert_ne!(parse("<a b='1' c='2'/>"), parse(other), "{other}");
        }
        assert_ne!(parse("<a><b/><c/></a>"), parse("<a><c/><b/></a>"));
        assert_ne!(parse("<a/>"), parse("<a xmlns='urn:x'/>"));
    }

    #[test]
    fn parse_takes_one_element_alone() {
        for bad in [
            "",
            "x",
            "<a>",
            "<a/><b/>",
            "<a/>x",
            "</r>",
            "<a/></r>",
            "<!-- --><a/>",
            "<a:b/>",
        ] {
            assert!(Element::parse(bad.as_bytes(), "").is_err(), "{bad}");
        }
        assert_eq!(parse(" <a/>\n").ns(), ns::CLIENT);
        assert_eq!(Element::parse(b"<message/>", "").unwrap().ns(), "");
        assert_eq!(Element::parse(b"<message/>", "a'&b").unwrap().ns(), "a'&b");
    }

    #[test]
    fn pretty_form_is_indented() {
        let xml = "<iq id='1'><q xmlns='urn:x'><i a='>'>t&amp;u</i> <j/></q></iq>";
        let want = "<iq xmlns='jabber:client' id='1'>\n  <q xmlns='urn:x'>\n    \
                    <i a='>'>t&amp;u</i>\n    <j/>\n  </q>\n</iq>\n";
        assert_eq!(parse(xml).to_pretty(), want);
    }
}
