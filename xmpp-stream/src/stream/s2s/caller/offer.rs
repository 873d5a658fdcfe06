//! What the peer's `<stream:features/>` hold for a calling server.

use crate::features::limits::PeerLimits;
use crate::ns;
use crate::xml::Element;

/// The last features.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    pub(super) starttls: bool,
    pub(super) external: bool,
    pub(super) dialback: bool,
    pub(super) bidi: bool,
    pub(super) manage: bool,
    /// Stream limits (XEP-0478).
    pub(super) limits: PeerLimits,
}

impl Offer {
    pub(super) fn of(features: &Element) -> Self {
        let has = |ns, name| features.child(ns, name).is_some();
        let mechanisms = features.child(ns::SASL, "mechanisms");
        let mut mechanisms = mechanisms.into_iter().flat_map(Element::children);
        Self {
            starttls: has(ns::TLS, "starttls"),
            external: mechanisms.any(|mechanism| mechanism.text().trim() == "EXTERNAL"),
            dialback: has(ns::FEATURE_DIALBACK, "dialback"),
            bidi: has(ns::FEATURE_BIDI, "bidi"),
            manage: has(ns::SM, "sm"),
            limits: PeerLimits::of(features),
        }
    }
}
