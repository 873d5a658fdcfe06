//! A small tree of one element, for IQ payloads, forms and tests. Never on the hot path.

/// One element with its attributes and content. Attribute order does not count for equality.
#[derive(Clone, Debug)]
pub struct Element {/* private */}

/// Content of an element.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Character data, entities resolved.
    Text(String),
}

impl PartialEq for Element {
    fn eq(&self, _other: &Self) -> bool {
        todo!()
    }
}
impl Eq for Element {}

impl Element {
    /// An empty element.
    pub fn new(_ns: &str, _name: &str) -> Self {
        todo!()
    }
    /// Builder: sets an attribute without a namespace.
    #[must_use]
    pub fn with_attr(self, _name: &str, _value: &str) -> Self {
        todo!()
    }
    /// Builder: appends a child.
    #[must_use]
    pub fn with_child(self, _child: Element) -> Self {
        todo!()
    }
    /// Builder: appends text.
    #[must_use]
    pub fn with_text(self, _text: &str) -> Self {
        todo!()
    }
    /// Sets an attribute without a namespace.
    pub fn set_attr(&mut self, _name: &str, _value: &str) {
        todo!()
    }
    /// Appends a child.
    pub fn push(&mut self, _child: Element) {
        todo!()
    }
    /// Local name.
    pub fn name(&self) -> &str {
        todo!()
    }
    /// Namespace name; empty: none.
    pub fn ns(&self) -> &str {
        todo!()
    }
    /// True when both match.
    pub fn is(&self, _ns: &str, _name: &str) -> bool {
        todo!()
    }
    /// An attribute without a namespace.
    pub fn attr(&self, _name: &str) -> Option<&str> {
        todo!()
    }
    /// An attribute in a namespace (`ns::XML` for `xml:lang`).
    pub fn attr_ns(&self, _ns: &str, _name: &str) -> Option<&str> {
        todo!()
    }
    /// Child elements in order.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        [].iter()
    }
    /// All content in order.
    pub fn nodes(&self) -> &[Node] {
        todo!()
    }
    /// The first child with this namespace and name.
    pub fn child(&self, _ns: &str, _name: &str) -> Option<&Element> {
        todo!()
    }
    /// The text directly inside, joined.
    pub fn text(&self) -> String {
        todo!()
    }
    /// Parses one element; `parent_ns` is the default namespace it stands in (same limits as a stanza).
    pub fn parse(_xml: &[u8], _parent_ns: &str) -> Result<Self, super::XmlError> {
        todo!()
    }
    /// Writes canonical XML (rules X5, X6); no `xmlns` where the namespace is `parent_ns`.
    pub fn write(&self, _out: &mut Vec<u8>, _parent_ns: &str) {
        todo!()
    }
    /// As canonical XML text.
    pub fn to_xml(&self, _parent_ns: &str) -> String {
        todo!()
    }
    /// As indented text for people (mismatch reports).
    pub fn to_pretty(&self) -> String {
        todo!()
    }
}
