//! Stream headers and the closing tag (RFC 6120 section 4.7), and elements of our own that need no
//! tree: names, namespaces and texts that hold nothing to escape.

use super::canon::escape_value;

/// Ends a stream in both directions of use.
pub const STREAM_END: &str = "</stream:stream>";

/// Attributes of a stream header to be written; empty or absent ones are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOpen<'a> {
    /// Content namespace, written as the default namespace. Between servers the prefix `db` of
    /// dialback comes with it (XEP-0220 section 2.4.1).
    pub content_ns: &'a str,
    /// `from`.
    pub from: Option<&'a str>,
    /// `to`.
    pub to: Option<&'a str>,
    /// `id`.
    pub id: Option<&'a str>,
    /// `xml:lang`.
    pub lang: Option<&'a str>,
    /// False towards peers that sent no version (RFC 6120 section 4.7.5).
    pub version: bool,
}

impl StreamOpen<'_> {
    /// Appends the XML declaration and the opening tag.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
        let attrs = [
            ("xmlns", Some(self.content_ns)),
            (
                "xmlns:db",
                (self.content_ns == crate::ns::SERVER).then_some(crate::ns::DIALBACK),
            ),
            ("xmlns:stream", Some(crate::ns::STREAMS)),
            ("from", self.from),
            ("to", self.to),
            ("id", self.id),
            ("version", self.version.then_some("1.0")),
            ("xml:lang", self.lang),
        ];
        for (name, value) in attrs {
            write_attr(out, name, value);
        }
        out.push(b'>');
    }
}

/// Appends ` name='value'`, escaped; nothing when absent.
pub(crate) fn write_attr(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"='");
        escape_value(out, value);
        out.push(b'\'');
    }
}

/// Appends an element with a namespace of its own and what `inside` writes.
pub(crate) fn write_element(
    out: &mut Vec<u8>,
    ns: &str,
    name: &str,
    inside: impl FnOnce(&mut Vec<u8>),
) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b" xmlns='");
    out.extend_from_slice(ns.as_bytes());
    out.extend_from_slice(b"'>");
    let start = out.len();
    inside(out);
    if out.len() == start {
        out.truncate(start - 1);
        out.extend_from_slice(b"/>");
    } else {
        end_element(out, name);
    }
}

/// Appends a child, in the namespace of the element around it, with a text.
pub(crate) fn write_child(out: &mut Vec<u8>, name: &str, text: &str) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    out.extend_from_slice(text.as_bytes());
    end_element(out, name);
}

fn end_element(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_written_with_declaration_and_escapes() {
        let mut out = Vec::new();
        let open = StreamOpen {
            content_ns: crate::ns::CLIENT,
            from: Some("a&b'c"),
            id: Some("x"),
            version: true,
            ..StreamOpen::default()
        };
        open.write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' \
                 from='a&amp;b&apos;c' id='x' version='1.0'>",
                crate::ns::CLIENT,
                crate::ns::STREAMS
            )
        );
    }
}
