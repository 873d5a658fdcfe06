//! XMPP Ping: the domain and accounts answer.
//!
//! XEP-0199 sections 4.2 and 4.3. A ping to a full JID is delivered, not answered here; the pings
//! that the server sends by itself belong to the stream.

use super::{Answer, Coverage, Info, Iq, IqKind, Module, Scope, Spec};
use xmpp_stream::error::StanzaError;
use xmpp_stream::ns;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "ping",
            specs: &[Spec {
                id: "XEP-0199",
                version: "2.0.1",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.feature(ns::PING);
        scope.account_feature(ns::PING);
        scope.iq(IqKind::Get, ns::PING, "ping", pong);
    }
}

async fn pong(_: Iq) -> Result<Answer, StanzaError> {
    Ok(Answer::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::Registry;

    #[test]
    fn im_pi_01_answered_for_domain_and_own_account_and_announced() {
        let registry = Registry::of(&Feature);
        registry.check(IqKind::Get, ns::PING, "ping", "host own");
        registry.check(IqKind::Set, ns::PING, "ping", "");
        registry.check(IqKind::Get, ns::PING, "pong", "");
        assert_eq!(registry.announced.host_features, [ns::PING]);
        assert_eq!(registry.announced.account_features, [ns::PING]);
    }
}
