//! The canonical writer: the only form in which received XML leaves again (DESIGN X5 to X7).
//!
//! Elements carry no prefix, `xmlns` stands only where it differs from the parent's, namespaced
//! attributes get prefixes n0, n1… on the element itself. The reader writes into it while it
//! parses, `Element` when it is written; nothing else makes XML out of peer data.

use crate::ns;

/// Writes elements into one growing buffer; gives up quietly above a size.
#[derive(Debug, Default)]
pub(crate) struct Canon {
    out: Vec<u8>,
    /// Above this size nothing more is written (X7).
    max: usize,
    over: bool,
    scopes: Vec<Scope>,
    /// Namespace names of the open elements, one behind the other.
    arena: String,
    /// The start tag of the innermost element lacks its `>`.
    tag_open: bool,
    /// Namespaces that got a prefix on that start tag.
    prefixed: Vec<Box<str>>,
}

/// One open element; the first stands for the surroundings.
#[derive(Clone, Copy, Debug)]
struct Scope {
    name_start: usize,
    name_len: usize,
    ns_start: usize,
    ns_len: usize,
    /// In the stanza's own namespace, like all its ancestors (X6).
    own: bool,
}

impl Canon {
    /// Starts anew in the default namespace `parent_ns`. With `own` it is a stanza's payload that
    /// is written: children in any content namespace are taken into the stanza's own.
    pub(crate) fn restart(&mut self, parent_ns: &str, own: bool, max: usize) {
        self.out.clear();
        self.scopes.clear();
        self.arena.clear();
        self.arena.push_str(parent_ns);
        self.tag_open = false;
        self.over = false;
        self.max = max;
        self.scopes.push(Scope {
            name_start: 0,
            name_len: 0,
            ns_start: 0,
            ns_len: parent_ns.len(),
            own,
        });
    }

    /// Begins an element; true when it is in the stanza's own namespace.
    pub(crate) fn open(&mut self, ns: &str, name: &str) -> bool {
        self.finish_tag();
        self.prefixed.clear();
        let parent = self.scopes.last().copied().unwrap_or(Scope {
            name_start: 0,
            name_len: 0,
            ns_start: 0,
            ns_len: 0,
            own: false,
        });
        let own = parent.own && is_content_ns(ns);
        let inherits = own
            || self
                .arena
                .get(parent.ns_start..parent.ns_start + parent.ns_len)
                == Some(ns);
        self.put(b"<");
        let name_start = self.out.len();
        self.put(name.as_bytes());
        let mut scope = Scope {
            name_start,
            name_len: name.len(),
            own,
            ..parent
        };
        if !inherits {
            scope.ns_start = self.arena.len();
            scope.ns_len = ns.len();
            self.arena.push_str(ns);
            self.put(b" xmlns='");
            self.put_value(ns);
            self.put(b"'");
        }
        self.scopes.push(scope);
        self.tag_open = true;
        own
    }

    /// Writes an attribute of the element just opened.
    pub(crate) fn attr(&mut self, ns: &str, name: &str, value: &str) {
        match ns {
            "" => self.put(b" "),
            ns::XML => self.put(b" xml:"),
            _ => {
                let known = self.prefixed.iter().position(|known| **known == *ns);
                let index = known.unwrap_or(self.prefixed.len());
                if known.is_none() {
                    self.prefixed.push(ns.into());
                    self.put(format!(" xmlns:n{index}='").as_bytes());
                    self.put_value(ns);
                    self.put(b"'");
                }
                self.put(format!(" n{index}:").as_bytes());
            }
        }
        self.put(name.as_bytes());
        self.put(b"='");
        self.put_value(value);
        self.put(b"'");
    }

    /// Writes character data.
    pub(crate) fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.finish_tag();
        if self.has_room(text.len()) {
            escape_text(&mut self.out, text);
        }
    }

    /// Ends the innermost element.
    pub(crate) fn close(&mut self) {
        let Some(scope) = self.scopes.pop() else {
            return;
        };
        if self.tag_open {
            self.tag_open = false;
            self.put(b"/>");
        } else {
            self.put(b"</");
            let end = scope.name_start + scope.name_len;
            if self.has_room(scope.name_len) && end <= self.out.len() {
                self.out.extend_from_within(scope.name_start..end);
            }
            self.put(b">");
        }
        if let Some(parent) = self.scopes.last() {
            // Each name stands behind its parent's, or is the parent's.
            self.arena.truncate(parent.ns_start + parent.ns_len);
        }
    }

    /// Completes a start tag, so that `as_bytes().len()` is the offset of what comes next.
    pub(crate) fn finish_tag(&mut self) {
        if self.tag_open {
            self.tag_open = false;
            self.put(b">");
        }
    }

    /// What was written so far.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.out
    }

    /// True once something did not fit.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    fn has_room(&mut self, more: usize) -> bool {
        self.over |= self.out.len().saturating_add(more) > self.max;
        !self.over
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.has_room(bytes.len()) {
            self.out.extend_from_slice(bytes);
        }
    }

    fn put_value(&mut self, value: &str) {
        if self.has_room(value.len()) {
            escape_value(&mut self.out, value);
        }
    }
}

/// The namespaces that a stanza itself can live in (X6).
pub(crate) fn is_content_ns(ns: &str) -> bool {
    matches!(ns, ns::CLIENT | ns::SERVER | ns::COMPONENT)
}

/// Appends character data with `&`, `<`, CR, and `>` behind `]` or a tag, escaped.
pub(crate) fn escape_text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    let special = |b: &u8| matches!(b, b'&' | b'<' | b'>' | b'\r');
    while let Some(at) = rest.iter().position(special) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        match tail.first() {
            Some(b'&') => out.extend_from_slice(b"&amp;"),
            Some(b'<') => out.extend_from_slice(b"&lt;"),
            Some(b'\r') => out.extend_from_slice(b"&#xD;"),
            // Only text can end in `]`, so the bracket may stand in an earlier piece of it. Behind
            // a tag, because a splice may cut that element out from behind a `]]`.
            _ if matches!(out.last(), Some(b']' | b'>')) => out.extend_from_slice(b"&gt;"),
            _ => out.push(b'>'),
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Appends an attribute value (quoted with `'`), escaped so that no parser normalises it.
pub(crate) fn escape_value(out: &mut Vec<u8>, value: &str) {
    let mut rest = value.as_bytes();
    let special = |b: &u8| matches!(b, b'&' | b'<' | b'\'' | b'\t' | b'\n' | b'\r');
    while let Some(at) = rest.iter().position(special) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        out.extend_from_slice(match tail.first() {
            Some(b'&') => b"&amp;",
            Some(b'<') => b"&lt;",
            Some(b'\'') => b"&apos;",
            Some(b'\t') => b"&#x9;",
            Some(b'\n') => b"&#xA;",
            _ => b"&#xD;",
        });
        rest = tail.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Undoes both escapes; other references do not occur in canonical XML.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, tail)) = rest.split_once('&') {
        out.push_str(plain);
        let (name, tail) = tail.split_once(';').unwrap_or((tail, ""));
        out.push_str(match name {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "apos" => "'",
            "#x9" => "\t",
            "#xA" => "\n",
            "#xD" => "\r",
            _ => "",
        });
        rest = tail;
    }
    out.push_str(rest);
    out
}
