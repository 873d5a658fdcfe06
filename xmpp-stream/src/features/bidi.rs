//! Stanzas in both directions of one stream between servers (XEP-0288): its two elements.

use super::limits;
use crate::ns;
use crate::xml::Element;
use std::time::Duration;

/// The feature.
pub(crate) fn write_feature(out: &mut Vec<u8>) {
    Element::new(ns::FEATURE_BIDI, "bidi").write(out, ns::STREAMS);
}

/// The caller's wish, and what it takes itself (XEP-0478 section 3.2).
pub(crate) fn write(out: &mut Vec<u8>, stanza_bytes_max: usize, idle_max: Duration) {
    let limits = limits::element(stanza_bytes_max, Some(idle_max));
    let bidi = Element::new(ns::BIDI, "bidi").with_child(limits);
    bidi.write(out, ns::SERVER);
}
