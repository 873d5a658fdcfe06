//! Software Version: which program serves the domain.
//!
//! XEP-0092. The operating system is left out: it helps nobody but an attacker.

use super::{Answer, AtSet, Coverage, Info, Iq, IqKind, Module, SOFTWARE, Scope, Spec};
use xmpp_stream::error::StanzaError;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "version",
            specs: &[Spec {
                id: "XEP-0092",
                version: "1.1",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.feature(ns::VERSION);
        scope.iq_at(AtSet::HOST, IqKind::Get, ns::VERSION, "query", version);
    }
}

async fn version(_: Iq) -> Result<Answer, StanzaError> {
    Ok(Answer::with(software()))
}

fn software() -> Element {
    let text = |name, text| Element::new(ns::VERSION, name).with_text(text);
    Element::new(ns::VERSION, "query")
        .with_child(text("name", SOFTWARE))
        .with_child(text("version", env!("CARGO_PKG_VERSION")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::Registry;

    #[test]
    fn im_ve_01_name_and_version_without_os() {
        let expected = format!(
            "<query xmlns='jabber:iq:version'><name>xmpp-server</name><version>{}</version></query>",
            env!("CARGO_PKG_VERSION"),
        );
        assert_eq!(software(), Element::parse(expected.as_bytes(), "").unwrap());
    }

    #[test]
    fn im_ve_01_answered_for_the_domain_and_announced() {
        let registry = Registry::of(&Feature);
        registry.check(IqKind::Get, ns::VERSION, "query", "host");
        registry.check(IqKind::Set, ns::VERSION, "query", "");
        assert_eq!(registry.announced.host_features, [ns::VERSION]);
        assert!(registry.announced.account_features.is_empty());
    }
}
