//! Stanzas in both directions of one stream between servers (XEP-0288): its two elements.

use crate::ns;
use crate::xml::Element;

/// The feature.
pub(crate) fn write_feature(out: &mut Vec<u8>) {
    Element::new(ns::FEATURE_BIDI, "bidi").write(out, ns::STREAMS);
}

/// The caller's wish.
pub(crate) fn write(out: &mut Vec<u8>) {
    Element::new(ns::BIDI, "bidi").write(out, ns::SERVER);
}
