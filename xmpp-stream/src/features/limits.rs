//! Stream limits advertisement (XEP-0478).

use crate::ns;
use crate::xml::writer::{write_child, write_element};
use std::time::Duration;

/// The feature: bytes of one first-level element, and after which silence we look for the peer.
pub(crate) fn write_feature(out: &mut Vec<u8>, max_bytes: usize, idle: Option<Duration>) {
    write_element(out, ns::STREAM_LIMITS, "limits", |out| {
        write_child(out, "max-bytes", &max_bytes.to_string());
        if let Some(idle) = idle {
            write_child(out, "idle-seconds", &idle.as_secs().to_string());
        }
    });
}
