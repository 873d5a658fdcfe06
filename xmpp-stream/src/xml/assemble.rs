//! Starts, texts and ends of elements in, frames out: what a first-level element becomes while it is
//! read. Here are the limits on names, depth and numbers (X2), X3, X4, X7 and X8.
//!
//! Whoever reads the bytes, the parser or the scanner of plain ones, tells this one the same. A
//! stanza's payload is written in canonical form as it comes, with no tree in between.

use super::canon::Canon;
use super::element::{Element, is_plain_name, is_plain_ns};
use super::frame::{Frame, Refused, XmlError};
use crate::error::StanzaCondition;
use crate::jid::Jid;
use crate::limits::XmlLimits;
use crate::ns::{self, NameId, NsId};
use crate::stanza::{Extra, Head, Kid, Kind, Stanza, Ty};
use bytes::Bytes;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Unknown attributes of a stanza that are kept (X8).
const EXTRA_MAX: usize = 8;
/// A longer stream language is no language tag; it would be copied into every stanza.
const LANG_MAX: usize = 64;
/// Canonical bytes allowed beyond twice the input (X7).
const GROWTH_SLACK: usize = 4 * 1024;

/// One attribute, its namespace resolved. They come sorted by namespace and name.
#[derive(Debug)]
pub(super) struct Attr<'a> {
    pub(super) ns: &'a str,
    pub(super) name: &'a str,
    pub(super) value: Cow<'a, str>,
}

/// The open first-level element.
pub(super) struct Assembler {
    pub(super) limits: XmlLimits,
    content_ns: &'static str,
    default_lang: Option<Box<str>>,
    /// A `from` that is no address refuses the stanza.
    pub(super) believes_from: bool,
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
    /// It names its sender, by what is no address.
    is_from_bad: bool,
}

impl Assembler {
    pub(super) fn new(limits: XmlLimits, content_ns: &'static str) -> Self {
        Self {
            limits,
            content_ns,
            default_lang: None,
            believes_from: false,
            depth: 0,
            elements: 0,
            current: Current::None,
            canon: Canon::default(),
        }
    }

    /// The `xml:lang` that stanzas without one inherit (X8).
    pub(super) fn set_default_lang(&mut self, lang: Option<&str>) {
        self.default_lang = lang
            .filter(|lang| !lang.is_empty() && lang.len() <= LANG_MAX)
            .map(Box::from);
    }

    /// Forgets the open element.
    pub(super) fn reset(&mut self) {
        self.current = Current::None;
        self.depth = 0;
        self.elements = 0;
    }

    /// Frees scratch memory; only between first-level elements.
    pub(super) fn release(&mut self) {
        self.canon = Canon::default();
    }

    /// Open elements below the root.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Bytes of canonical form so far.
    #[cfg(test)]
    pub(super) fn written(&self) -> usize {
        self.canon.as_bytes().len()
    }

    /// A stanza is open.
    pub(super) fn is_stanza(&self) -> bool {
        matches!(self.current, Current::Stanza(_))
    }

    /// An element begins.
    pub(super) fn start(
        &mut self,
        ns: &str,
        name: &str,
        attrs: &[Attr<'_>],
    ) -> Result<(), XmlError> {
        check_limits(&self.limits, ns, name, attrs)?;
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

    fn start_stanza(&mut self, kind: Kind, attrs: &[Attr<'_>], plain: bool) {
        let (mut head, is_to_bad, is_from_bad) = read_head(attrs);
        if head.lang.is_none() {
            head.lang.clone_from(&self.default_lang);
        }
        let is_from_bad = is_from_bad && self.believes_from;
        let refused = match (plain, is_to_bad || is_from_bad) {
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
            is_from_bad,
        }));
    }

    /// Character data of the open element.
    pub(super) fn text(&mut self, text: &str) -> Result<(), XmlError> {
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

    /// The innermost element ends; the frame when it was a first-level one of `used` bytes.
    pub(super) fn end(&mut self, used: usize) -> Option<Frame> {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            self.elements = 0;
            return self.finish(used);
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
    fn finish(&mut self, used: usize) -> Option<Frame> {
        match std::mem::replace(&mut self.current, Current::None) {
            Current::None => None,
            Current::Tree(mut stack) => stack.pop().map(Frame::Nonza),
            Current::Stanza(draft) => {
                let Draft {
                    kind,
                    head,
                    kids,
                    refused,
                    is_from_bad,
                } = *draft;
                let payload = self.canon.as_bytes();
                let size = payload.len() + escaped_head(&head);
                let grown = self.canon.is_over() || size > growth_max(used);
                let refused = refused.or_else(|| grown.then_some(StanzaCondition::PolicyViolation));
                Some(match refused {
                    Some(condition) => Frame::Refused(Refused {
                        kind,
                        head,
                        condition,
                        is_from_bad,
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
    pub(super) fn refuse(&mut self, condition: StanzaCondition) {
        if let Current::Stanza(draft) = &mut self.current {
            draft.refused.get_or_insert(condition);
        }
    }
}

/// Canonical bytes that so many received ones may become (X7).
pub(super) fn growth_max(received: usize) -> usize {
    received.saturating_mul(2).saturating_add(GROWTH_SLACK)
}

/// X2 for the names, the attributes and their values of one element.
pub(super) fn check_limits(
    limits: &XmlLimits,
    ns: &str,
    name: &str,
    attrs: &[Attr<'_>],
) -> Result<(), XmlError> {
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
    for attr in attrs {
        check(attr.ns.len(), limits.ns_bytes_max, "namespace name")?;
        check(attr.name.len(), limits.name_bytes_max, "name")?;
        check(
            attr.value.len(),
            limits.attribute_bytes_max,
            "attribute value",
        )?;
    }
    Ok(())
}

/// X3 and X4 for an element and its attributes.
fn is_plain_element(ns: &str, name: &str, attrs: &[Attr<'_>]) -> bool {
    // `xml:` is a prefix for attributes only: no default namespace may have its name.
    is_plain_name(name)
        && is_plain_ns(ns)
        && ns != ns::XML
        && attrs
            .iter()
            .all(|attr| is_plain_name(attr.name) && is_plain_ns(attr.ns))
}

fn new_element(ns: &str, name: &str, attrs: &[Attr<'_>]) -> Element {
    let mut element = Element::new(ns, name);
    for attr in attrs {
        element.set_attr_ns(attr.ns, attr.name, &attr.value);
    }
    element
}

fn write_start(
    canon: &mut Canon,
    draft: &mut Draft,
    depth: usize,
    (ns, name): (&str, &str),
    attrs: &[Attr<'_>],
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
    for attr in attrs {
        canon.attr(attr.ns, attr.name, &attr.value);
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

/// The typed head; true beside it when `to`, and when `from`, is no address. Such a `from` is left
/// out: whoever receives stanzas from a client writes the right one, and between servers it is
/// missed. Only who believes it has to refuse it, as none at all means the own account.
fn read_head(attrs: &[Attr<'_>]) -> (Head, bool, bool) {
    let mut head = Head::default();
    let mut extra = Extra::default();
    let (mut is_to_bad, mut is_from_bad) = (false, false);
    for Attr { ns, name, value } in attrs {
        match (*ns, *name) {
            ("", "to") => match Jid::parse(value) {
                Ok(jid) => head.to = Some(jid),
                Err(_) => is_to_bad = true,
            },
            ("", "from") => match Jid::parse(value) {
                Ok(jid) => head.from = Some(jid),
                Err(_) => is_from_bad = true,
            },
            ("", "id") => head.id = Some(value.as_ref().into()),
            ("", "type") => head.ty = Ty::of(value),
            (ns::XML, "lang") => head.lang = Some(value.as_ref().into()),
            (ns, name) if extra.0.len() < EXTRA_MAX => {
                extra
                    .0
                    .push((ns.into(), name.into(), value.as_ref().into()));
            }
            _ => {}
        }
    }
    if !extra.0.is_empty() {
        head.extra = Some(Box::new(extra));
    }
    (head, is_to_bad, is_from_bad)
}
