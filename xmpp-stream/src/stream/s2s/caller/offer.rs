//! What the peer's `<stream:features/>` hold for a calling server.

use crate::ns;
use crate::xml::Element;
use std::time::Duration;

/// The last features.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    pub(super) starttls: bool,
    pub(super) external: bool,
    pub(super) dialback: bool,
    pub(super) bidi: bool,
    pub(super) manage: bool,
    /// Stream limits (XEP-0478).
    pub(super) stanza_bytes_max: Option<usize>,
    pub(super) idle_max: Option<Duration>,
}

impl Offer {
    pub(super) fn of(features: &Element) -> Self {
        let has = |ns, name| features.child(ns, name).is_some();
        let mechanisms = features.child(ns::SASL, "mechanisms");
        let mut mechanisms = mechanisms.into_iter().flat_map(Element::children);
        let limits = features.child(ns::STREAM_LIMITS, "limits");
        let limit = |name| -> Option<u64> {
            let text = limits?.child(ns::STREAM_LIMITS, name)?.text();
            text.trim().parse().ok()
        };
        Self {
            starttls: has(ns::TLS, "starttls"),
            external: mechanisms.any(|mechanism| mechanism.text().trim() == "EXTERNAL"),
            dialback: has(ns::FEATURE_DIALBACK, "dialback"),
            bidi: has(ns::FEATURE_BIDI, "bidi"),
            manage: has(ns::SM, "sm"),
            stanza_bytes_max: limit("max-bytes").and_then(|max| usize::try_from(max).ok()),
            idle_max: limit("idle-seconds").map(Duration::from_secs),
        }
    }
}
