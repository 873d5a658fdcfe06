//! STARTTLS (RFC 6120 section 5): its elements. What may follow them is the machines' business.

use crate::ns;
use crate::xml::writer::write_element;

/// The feature; `required` where nothing else is to be had before it.
pub(crate) fn write_feature(out: &mut Vec<u8>, required: bool) {
    write_element(out, ns::TLS, "starttls", |out| {
        if required {
            out.extend_from_slice(b"<required/>");
        }
    });
}

/// `<starttls/>`, `<proceed/>` or `<failure/>`.
pub(crate) fn write(out: &mut Vec<u8>, name: &str) {
    write_element(out, ns::TLS, name, |_| {});
}
