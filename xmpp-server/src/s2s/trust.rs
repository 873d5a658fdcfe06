//! Whether another server is who it says: the verdict on what it has shown, for both roles.
//!
//! The decision itself is one function, `xmpp_stream::tls::trust::judge`.

use crate::core::Core;
use crate::settings::Settings;
use xmpp_stream::stream::TlsInfo;
use xmpp_stream::stream::s2s::{Distrust, PeerVerdict};
use xmpp_stream::tls::trust::judge;

/// Is what TLS has shown good for this domain?
pub(super) fn verdict(
    core: &Core,
    settings: &Settings,
    tls: Option<&TlsInfo>,
    domain: &str,
) -> PeerVerdict {
    let (Some(tls), Some(network)) = (tls, &settings.network) else {
        return PeerVerdict::Untrusted(Distrust::NoCertificate);
    };
    match judge(&tls.peer, &network.anchors, domain, core.clock.unix_secs()) {
        Ok(()) => PeerVerdict::Trusted,
        Err(cause) => PeerVerdict::Untrusted(cause),
    }
}
