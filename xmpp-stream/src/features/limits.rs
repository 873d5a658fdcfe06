//! Stream limits advertisement (XEP-0478).

use crate::ns;
use crate::xml::Element;
use std::time::Duration;

/// The feature: bytes of one first-level element, and after which silence we look for the peer.
pub(crate) fn write_feature(out: &mut Vec<u8>, max_bytes: usize, idle: Option<Duration>) {
    let bytes = Element::new(ns::STREAM_LIMITS, "max-bytes").with_text(&max_bytes.to_string());
    let mut limits = Element::new(ns::STREAM_LIMITS, "limits").with_child(bytes);
    if let Some(idle) = idle {
        let seconds = Element::new(ns::STREAM_LIMITS, "idle-seconds");
        limits.push(seconds.with_text(&idle.as_secs().to_string()));
    }
    limits.write(out, ns::STREAMS);
}
