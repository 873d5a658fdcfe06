//! Entity time: what time it is at the server.
//!
//! XEP-0202. The server's clock is in UTC; where it stands is nobody's business.

use super::{Answer, Coverage, Info, Iq, IqKind, Module, Scope, Spec};
use crate::clock::Clock;
use xmpp_stream::error::StanzaError;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "time",
            specs: &[Spec {
                id: "XEP-0202",
                version: "2.0",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.feature(ns::TIME);
        scope.account_feature(ns::TIME);
        scope.iq(IqKind::Get, ns::TIME, "time", time);
    }
}

async fn time(iq: Iq) -> Result<Answer, StanzaError> {
    Ok(Answer::with(at(iq.unix_now())))
}

fn at(unix_secs: u64) -> Element {
    let text = |name, text: &str| Element::new(ns::TIME, name).with_text(text);
    Element::new(ns::TIME, "time")
        .with_child(text("tzo", "+00:00"))
        .with_child(text("utc", &Clock::stamp_of(unix_secs)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::{Registry, element};

    #[test]
    fn im_ti_01_time_is_told_in_utc() {
        let expected = "<time xmlns='urn:xmpp:time'><tzo>+00:00</tzo>\
            <utc>2001-09-09T01:46:40.000Z</utc></time>";
        assert_eq!(at(1_000_000_000), element(expected));
    }

    #[test]
    fn im_ti_01_answered_for_domain_and_own_account_and_announced() {
        let registry = Registry::of(&Feature);
        registry.check(IqKind::Get, ns::TIME, "time", "host own");
        registry.check(IqKind::Set, ns::TIME, "time", "");
        assert_eq!(registry.announced.host_features, [ns::TIME]);
        assert_eq!(registry.announced.account_features, [ns::TIME]);
    }
}
