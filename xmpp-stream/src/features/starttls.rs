//! STARTTLS (RFC 6120 section 5): its elements. What may follow them is the machines' business.

use crate::ns;
use crate::xml::Element;

/// The feature; `required` where nothing else is to be had before it.
pub(crate) fn write_feature(out: &mut Vec<u8>, required: bool) {
    let mut feature = Element::new(ns::TLS, "starttls");
    if required {
        feature.push(Element::new(ns::TLS, "required"));
    }
    feature.write(out, ns::STREAMS);
}

/// `<starttls/>`, `<proceed/>` or `<failure/>`.
pub(crate) fn write(out: &mut Vec<u8>, name: &str) {
    Element::new(ns::TLS, name).write(out, ns::CLIENT);
}
