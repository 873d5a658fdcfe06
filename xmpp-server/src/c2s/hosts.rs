//! The served domains as a client's machine asks for them (RFC 6120 sections 4.3.2 and 4.7.2).

use crate::core::Core;
use std::net::SocketAddr;
use std::sync::Arc;
use xmpp_stream::ns;
use xmpp_stream::stream::{HostView, Hosts};
use xmpp_stream::xml::Element;

/// Served domains as one peer may see them.
pub(super) struct PeerHosts {
    pub(super) core: Arc<Core>,
    pub(super) peer: SocketAddr,
}

impl Hosts for PeerHosts {
    fn host(&self, domain: &str) -> Option<HostView> {
        let settings = self.core.settings();
        let host = settings.hosts.get(domain)?;
        if host.is_leaving() {
            return None;
        }
        let announced = &host.modules().announced;
        // Also where this peer may not register: it is told so (XEP-0077 section 3.1.1).
        let guest_ns = announced.guest_ns.clone();
        let mut features_before_auth = Vec::new();
        if host.may_register(self.peer.ip()) && !guest_ns.is_empty() {
            let register = Element::new(ns::FEATURE_REGISTER, "register");
            register.write(&mut features_before_auth, ns::STREAMS);
        }
        Some(HostView {
            domain: host.domain.clone(),
            hashes: self.core.offers.hashes(&host.domain),
            plain: settings.config.sasl.plain,
            guest_ns: guest_ns.into(),
            features_before_auth: features_before_auth.into(),
            features_after_auth: host.features_after_auth(),
        })
    }

    fn fallback(&self) -> Box<str> {
        crate::reload::fallback(&self.core.settings().config)
    }
}
