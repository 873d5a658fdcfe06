//! Stanzas in both directions of one stream between servers (XEP-0288): its two elements.

use super::limits;
use crate::ns;
use crate::xml::Element;
use crate::xml::writer::write_element;
use std::time::Duration;

/// The feature.
pub(crate) fn write_feature(out: &mut Vec<u8>) {
    Element::new(ns::FEATURE_BIDI, "bidi").write(out, ns::STREAMS);
}

/// The caller's wish, and what it takes itself (XEP-0478 section 3.2).
pub(crate) fn write(out: &mut Vec<u8>, stanza_bytes_max: usize, idle_max: Duration) {
    write_element(out, ns::BIDI, "bidi", |out| {
        limits::write_feature(out, stanza_bytes_max, Some(idle_max));
    });
}
