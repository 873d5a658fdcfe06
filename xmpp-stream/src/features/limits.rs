//! Stream limits advertisement (XEP-0478).

use crate::ns;
use crate::xml::Element;
use crate::xml::writer::{write_child, write_element};
use std::time::Duration;

/// What a peer takes, as far as it says so.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PeerLimits {
    /// Bytes of one first-level element.
    pub stanza_bytes_max: Option<usize>,
    /// Silence of ours after which it may close.
    pub idle_max: Option<Duration>,
}

impl PeerLimits {
    /// Of features, or of `<bidi/>` (section 3.2).
    pub(crate) fn of(parent: &Element) -> Self {
        let limits = parent.child(ns::STREAM_LIMITS, "limits");
        let limit = |name| -> Option<u64> {
            let text = limits?.child(ns::STREAM_LIMITS, name)?.text();
            text.trim().parse().ok()
        };
        Self {
            // Nothing at all is no bound of a peer that talks (RFC 6120 section 13.12: 10,000 at least).
            stanza_bytes_max: limit("max-bytes")
                .filter(|max| *max > 0)
                .and_then(|max| usize::try_from(max).ok()),
            idle_max: limit("idle-seconds").map(Duration::from_secs),
        }
    }
}

/// The feature: bytes of one first-level element, and after which silence we look for the peer.
pub(crate) fn write_feature(out: &mut Vec<u8>, max_bytes: usize, idle: Option<Duration>) {
    write_element(out, ns::STREAM_LIMITS, "limits", |out| {
        write_child(out, "max-bytes", &max_bytes.to_string());
        if let Some(idle) = idle {
            write_child(out, "idle-seconds", &idle.as_secs().to_string());
        }
    });
}
