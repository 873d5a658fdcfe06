//! Elements as trees, for what a raw peer receives and what a test expects of it.
//!
//! Read by rxml alone and not by xmpp-stream: a peer that reads with the code under test would share
//! its errors. Expected XML may hold `{any}` in attribute values and text, and `{more}` as text of an
//! element whose unlisted children do not matter.

use rxml::{Event, Parse};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use xmpp_stream::ns;

/// The prefix of scripts, and the name of its namespace.
pub(crate) const SCANSION: &str = "scansion";
/// Deeper trees are refused: they are dropped and compared by recursion.
pub(crate) const DEPTH_MAX: usize = 100;

/// One element. Attribute order does not count, nor does white space between elements.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tree {
    ns: String,
    name: String,
    /// By namespace (empty: none) and name.
    attributes: BTreeMap<(String, String), String>,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Node {
    Tree(Tree),
    Text(String),
}

impl Tree {
    /// Parses one element as it would stand in a client's stream: the default namespace is
    /// `jabber:client`, the prefix `stream` is bound.
    ///
    /// # Panics
    /// When the text is not one well-formed element.
    #[must_use]
    pub fn parse(xml: &str) -> Self {
        let stream = format!(
            "<stream:stream xmlns='{}' xmlns:stream='{}'>{xml}</stream:stream>",
            ns::CLIENT,
            ns::STREAMS
        );
        let mut bytes = stream.as_bytes();
        let mut parser = rxml::Parser::new();
        let mut growing = Growing::default();
        let mut found = Vec::new();
        loop {
            match parser.parse(&mut bytes, true) {
                Ok(Some(event)) => match growing.push(event) {
                    Some(Grown::Element(tree)) => found.push(tree),
                    Some(Grown::Text(text)) => panic!("text {text:?} beside the element: {xml}"),
                    _ => {}
                },
                Ok(None) => break,
                Err(error) => panic!("{error:?}: {xml}"),
            }
        }
        assert_eq!(found.len(), 1, "one element is wanted: {xml}");
        found.remove(0)
    }

    /// Parses elements as they would stand in a client's stream; the prefix `scansion` is bound too.
    ///
    /// # Errors
    /// What is wrong, and at which byte of the text at the latest.
    pub(crate) fn read_all(xml: &str) -> Result<Vec<Self>, (usize, String)> {
        let header = format!(
            "<stream:stream xmlns='{}' xmlns:stream='{}' xmlns:db='{}' \
             xmlns:{SCANSION}='{SCANSION}'>",
            ns::CLIENT,
            ns::STREAMS,
            ns::DIALBACK
        );
        let stream = format!("{header}{xml}</stream:stream>");
        let mut bytes = stream.as_bytes();
        let mut parser = rxml::Parser::new();
        let mut growing = Growing::default();
        let mut found = Vec::new();
        let mut ended = false;
        loop {
            let result = parser.parse(&mut bytes, true);
            let at = (stream.len() - bytes.len()).saturating_sub(header.len());
            let at = at.min(xml.len());
            match result {
                Ok(Some(_)) if growing.depth() > DEPTH_MAX => {
                    return Err((at, "elements are nested too deeply".into()));
                }
                Ok(Some(event)) => match growing.push(event) {
                    Some(Grown::Element(tree)) => found.push(tree),
                    Some(Grown::Text(text)) if !text.trim().is_empty() => {
                        return Err((at, format!("text beside an element: {:?}", text.trim())));
                    }
                    Some(Grown::Footer) if ended || at < xml.len() => {
                        return Err((at, "an end tag without its start".into()));
                    }
                    Some(Grown::Footer) => ended = true,
                    _ => {}
                },
                Ok(None) => return Ok(found),
                Err(rxml::error::EndOrError::NeedMoreData) => {
                    return Err((at, "an element is not closed".into()));
                }
                Err(rxml::error::EndOrError::Error(error)) => return Err((at, error.to_string())),
            }
        }
    }

    /// Attributes: namespace (empty: none), name, value.
    /// Puts what is of one namespace into another, itself and all within.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if self.ns == from {
            to.clone_into(&mut self.ns);
        }
        for node in &mut self.nodes {
            if let Node::Tree(tree) = node {
                tree.rename(from, to);
            }
        }
    }

    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.attributes
            .iter()
            .map(|((ns, name), value)| (ns.as_str(), name.as_str(), value.as_str()))
    }

    /// Namespace name.
    #[must_use]
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Local name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True when both match.
    #[must_use]
    pub fn is(&self, ns: &str, name: &str) -> bool {
        self.ns == ns && self.name == name
    }

    /// An attribute without a namespace.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attr_ns("", name)
    }

    /// An attribute in a namespace.
    #[must_use]
    pub fn attr_ns(&self, ns: &str, name: &str) -> Option<&str> {
        let wanted = |(key, _): &(&(String, String), &String)| key.0 == ns && key.1 == name;
        self.attributes
            .iter()
            .find(wanted)
            .map(|(_, value)| value.as_str())
    }

    /// Child elements in order.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Tree(tree) => Some(tree),
            Node::Text(_) => None,
        })
    }

    /// The first child of this name, whatever its namespace.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children().find(|child| child.name == name)
    }

    /// The first child of this namespace and name.
    #[must_use]
    pub fn child_ns(&self, ns: &str, name: &str) -> Option<&Self> {
        self.children().find(|child| child.is(ns, name))
    }

    /// The text directly inside, joined.
    #[must_use]
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Tree(_) => None,
        });
        texts.collect()
    }

    /// The first difference from what was expected, in words; `None` when this matches.
    #[must_use]
    pub fn mismatch(&self, expected: &Self) -> Option<String> {
        differ(expected, self, &expected.name)
    }

    /// As it stands in a stream of this content namespace, on one line.
    pub(crate) fn xml(&self, parent_ns: &str) -> String {
        let mut out = format!("<{}", self.name);
        if self.ns != parent_ns {
            out.push_str(&format!(" xmlns='{}'", escaped(&self.ns)));
        }
        for (index, ((ns, name), value)) in self.attributes.iter().enumerate() {
            let value = escaped(value).replace('\n', "&#10;").replace('\t', "&#9;");
            out.push_str(&match ns.as_str() {
                "" => format!(" {name}='{value}'"),
                ns::XML => format!(" xml:{name}='{value}'"),
                ns => format!(
                    " xmlns:n{index}='{}' n{index}:{name}='{value}'",
                    escaped(ns)
                ),
            });
        }
        if self.nodes.is_empty() {
            return out + "/>";
        }
        out.push('>');
        for node in &self.nodes {
            match node {
                Node::Tree(tree) => out.push_str(&tree.xml(&self.ns)),
                Node::Text(text) => out.push_str(&escaped(text).replace('\r', "&#13;")),
            }
        }
        out + &format!("</{}>", self.name)
    }

    /// Its nodes in order: an element, or a text.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Result<&Self, &str>> {
        self.nodes.iter().map(|node| match node {
            Node::Tree(tree) => Ok(tree),
            Node::Text(text) => Err(text.as_str()),
        })
    }

    fn is_blank(&self) -> bool {
        self.text().chars().all(char::is_whitespace)
    }
}

fn differ(expected: &Tree, got: &Tree, path: &str) -> Option<String> {
    if (&expected.ns, &expected.name) != (&got.ns, &got.name) {
        return Some(format!(
            "{path}: expected {{{}}}{}, got {{{}}}{}",
            expected.ns, expected.name, got.ns, got.name
        ));
    }
    for ((ns, name), value) in &expected.attributes {
        match got.attr_ns(ns, name) {
            None => return Some(format!("{path}/@{name}: is missing")),
            Some(other) if !matches(value, other) => {
                return Some(format!("{path}/@{name}: expected {value:?}, got {other:?}"));
            }
            Some(_) => {}
        }
    }
    let is_listed = |key: &&(String, String)| !expected.attributes.contains_key(*key);
    if let Some((_, name)) = got.attributes.keys().find(is_listed) {
        return Some(format!("{path}/@{name}: was not expected"));
    }
    if expected.text().trim() == "{more}" {
        return differ_in_listed(expected, got, path);
    }
    let only_elements = expected.is_blank() && got.is_blank();
    if !(only_elements && (expected.children().next().is_some() || got.children().next().is_some()))
        && !matches(&expected.text(), &got.text())
    {
        return Some(format!(
            "{path}: expected text {:?}, got {:?}",
            expected.text(),
            got.text()
        ));
    }
    let mut others = got.children();
    for child in expected.children() {
        let path = format!("{path}/{}", child.name);
        let Some(other) = others.next() else {
            return Some(format!("{path}: is missing"));
        };
        if let Some(difference) = differ(child, other, &path) {
            return Some(difference);
        }
    }
    others
        .next()
        .map(|other| format!("{path}/{}: was not expected", other.name))
}

/// Every listed child is there, in the listed order; others may stand between them.
fn differ_in_listed(expected: &Tree, got: &Tree, path: &str) -> Option<String> {
    let mut others = got.children();
    for child in expected.children() {
        if !others.any(|other| differ(child, other, path).is_none()) {
            return Some(format!(
                "{path}/{}: no child of this form, or not in this order",
                child.name
            ));
        }
    }
    None
}

/// The text has the parts of the pattern in order, anything where it says `{any}`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, patterns)) = pattern.split_once("{any}") else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = patterns.split("{any}").peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, tail)) = rest.split_once(part) else {
            return false;
        };
        rest = tail;
    }
    true
}

/// Indented, for people: one element a line, `xmlns` where it differs from the parent's.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.pretty(&mut text, "", ns::CLIENT)?;
        f.write_str(text.trim_end())
    }
}

impl Tree {
    fn pretty(&self, out: &mut String, indent: &str, parent_ns: &str) -> fmt::Result {
        write!(out, "{indent}<{}", self.name)?;
        if self.ns != parent_ns {
            write!(out, " xmlns='{}'", self.ns)?;
        }
        for ((ns, name), value) in &self.attributes {
            let prefix = match ns.as_str() {
                "" => String::new(),
                ns::XML => "xml:".into(),
                other => format!("{{{other}}}"),
            };
            write!(out, " {prefix}{name}='{}'", escaped(value))?;
        }
        if self.nodes.is_empty() {
            return out.write_str("/>\n");
        }
        out.push('>');
        if self.children().next().is_none() {
            return writeln!(out, "{}</{}>", escaped(&self.text()), self.name);
        }
        out.push('\n');
        let deeper = format!("{indent}  ");
        for node in &self.nodes {
            match node {
                Node::Tree(tree) => tree.pretty(out, &deeper, &self.ns)?,
                Node::Text(text) if text.trim().is_empty() => {}
                Node::Text(text) => writeln!(out, "{deeper}{}", escaped(text))?,
            }
        }
        writeln!(out, "{indent}</{}>", self.name)
    }
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('\'', "&apos;")
}

/// What a stream has grown by.
#[derive(Debug)]
pub(crate) enum Grown {
    /// The opening tag, as an element without content.
    Header(Tree),
    /// A whole first-level element.
    Element(Tree),
    /// Text between first-level elements.
    Text(String),
    /// The closing tag.
    Footer,
}

/// A stream as it arrives: parser events in, first-level elements out.
#[derive(Debug, Default)]
pub(crate) struct Growing {
    is_open: bool,
    stack: Vec<Tree>,
}

impl Growing {
    pub(crate) fn push(&mut self, event: Event) -> Option<Grown> {
        match event {
            Event::XmlDeclaration(..) => None,
            Event::StartElement(_, (ns, name), attributes) => {
                let attributes = attributes
                    .iter()
                    .map(|((ns, name), value)| ((ns.to_string(), name.to_string()), value.clone()))
                    .collect();
                let (ns, name) = (ns.to_string(), name.to_string());
                let tree = Tree {
                    ns,
                    name,
                    attributes,
                    nodes: Vec::new(),
                };
                if !self.is_open {
                    self.is_open = true;
                    return Some(Grown::Header(tree));
                }
                self.stack.push(tree);
                None
            }
            Event::Text(_, text) => match self.stack.last_mut() {
                Some(parent) => {
                    parent.append(text);
                    None
                }
                None => Some(Grown::Text(text)),
            },
            Event::EndElement(_) => match (self.stack.pop(), self.stack.last_mut()) {
                (Some(tree), Some(parent)) => {
                    parent.nodes.push(Node::Tree(tree));
                    None
                }
                (Some(tree), None) => Some(Grown::Element(tree)),
                (None, _) => Some(Grown::Footer),
            },
        }
    }

    /// True once the opening tag has arrived.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// How deep the element is that is being received.
    pub(crate) fn depth(&self) -> usize {
        self.stack.len()
    }

    /// True while an element is half received.
    pub(crate) fn is_mid_element(&self) -> bool {
        !self.stack.is_empty()
    }
}

impl Tree {
    fn append(&mut self, more: String) {
        match self.nodes.last_mut() {
            Some(Node::Text(text)) => text.push_str(&more),
            _ => self.nodes.push(Node::Text(more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: &str, got: &str, difference: Option<&str>) {
        let found = Tree::parse(got).mismatch(&Tree::parse(expected));
        assert_eq!(found.as_deref(), difference);
    }

    #[test]
    fn trees_match_whatever_their_spelling() {
        check("<a b='1' c='2'/>", "<a c=\"2\" b='1'></a>", None);
        check("<a><b/> <c/></a>", "<a>\n <b/><c/></a>", None);
        check("<a><b xmlns='x'/></a>", "<a><p:b xmlns:p='x'/></a>", None);
        check("<a>x&amp;y</a>", "<a>x<![CDATA[&]]>y</a>", None);
        check(
            "<stream:features/>",
            "<features xmlns='http://etherx.jabber.org/streams'/>",
            None,
        );
    }

    #[test]
    fn trees_differ_in_one_place() {
        check(
            "<a/>",
            "<b/>",
            Some("a: expected {jabber:client}a, got {jabber:client}b"),
        );
        check(
            "<a/>",
            "<a xmlns='x'/>",
            Some("a: expected {jabber:client}a, got {x}a"),
        );
        check(
            "<a b='1'/>",
            "<a b='2'/>",
            Some("a/@b: expected \"1\", got \"2\""),
        );
        check("<a b='1'/>", "<a/>", Some("a/@b: is missing"));
        check("<a/>", "<a b='1'/>", Some("a/@b: was not expected"));
        check(
            "<a/>",
            "<a xml:lang='en'/>",
            Some("a/@lang: was not expected"),
        );
        check(
            "<a>x</a>",
            "<a>y</a>",
            Some("a: expected text \"x\", got \"y\""),
        );
        check(
            "<a>x</a>",
            "<a> x</a>",
            Some("a: expected text \"x\", got \" x\""),
        );
        check("<a> </a>", "<a/>", Some("a: expected text \" \", got \"\""));
        check(
            "<a><b/><c/></a>",
            "<a><c/><b/></a>",
            Some("a/b: expected {jabber:client}b, got {jabber:client}c"),
        );
        check("<a><b/></a>", "<a/>", Some("a/b: is missing"));
        check("<a/>", "<a><b/></a>", Some("a/b: was not expected"));
        check(
            "<a><b/></a>",
            "<a><b/>x</a>",
            Some("a: expected text \"\", got \"x\""),
        );
    }

    #[test]
    fn placeholders_stand_for_anything() {
        check("<a b='{any}'>{any}</a>", "<a b='x'>y</a>", None);
        check("<a b='{any}'/>", "<a/>", Some("a/@b: is missing"));
        check("<a b='x/{any}'/>", "<a b='x/y'/>", None);
        check(
            "<a b='x/{any}'/>",
            "<a b='y/x'/>",
            Some("a/@b: expected \"x/{any}\", got \"y/x\""),
        );
        check("<a b='{any}-{any}z'/>", "<a b='x-yz'/>", None);
        check(
            "<a b='{any}-{any}z'/>",
            "<a b='xyz'/>",
            Some("a/@b: expected \"{any}-{any}z\", got \"xyz\""),
        );
        check("<a>{more}<b/></a>", "<a><c/><b/>t<d/></a>", None);
        check("<a>{more}</a>", "<a/>", None);
        check(
            "<a>{more}<b/></a>",
            "<a><c/></a>",
            Some("a/b: no child of this form, or not in this order"),
        );
    }

    #[test]
    fn trees_are_shown_indented() {
        let tree = Tree::parse(
            "<message to='a' xml:lang='en'><body>x &lt; y</body><x xmlns='z'><q/></x></message>",
        );
        assert_eq!(
            tree.to_string(),
            "<message to='a' xml:lang='en'>\n  <body>x &lt; y</body>\n  <x xmlns='z'>\n    <q/>\n  </x>\n</message>"
        );
    }
}
