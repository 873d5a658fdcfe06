//! Contact addresses: whom to turn to about the domain.
//!
//! XEP-0157, from `[domain.contact]` of the configuration; without it nothing is shown.

use super::{Coverage, Info, Module, Scope, Spec, form_of_facts};
use crate::host::Host;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "contact",
            specs: &[Spec {
                id: "XEP-0157",
                version: "1.1.1",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.form(addresses);
    }
}

fn addresses(host: &Host) -> Option<Element> {
    let policy = host.policy();
    let fields: Vec<_> = policy
        .config
        .contact
        .iter()
        .map(|(kind, uris)| (format!("{kind}-addresses"), &**uris))
        .collect();
    (!fields.is_empty()).then(|| form_of_facts(ns::SERVER_INFO, &fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Registration;
    use crate::host::Policy;
    use crate::modules::tests::{element, host};
    use std::sync::Arc;

    #[test]
    fn im_co_01_addresses_are_a_form() {
        let host = host(Registration::Closed);
        assert_eq!(addresses(&host), None);
        let uris = ["mailto:abuse@localhost", "xmpp:abuse@localhost"].map(str::to_owned);
        let policy = host.policy();
        let mut config = policy.config.clone();
        config.contact = vec![("abuse", uris.to_vec())];
        let modules = Arc::clone(&policy.modules);
        host.set_policy(Arc::new(Policy::new(config, modules)));
        let form = "<x xmlns='jabber:x:data' type='result'>\
            <field var='FORM_TYPE' type='hidden'>\
            <value>http://jabber.org/network/serverinfo</value></field>\
            <field var='abuse-addresses' type='list-multi'><value>mailto:abuse@localhost</value>\
            <value>xmpp:abuse@localhost</value></field></x>";
        assert_eq!(addresses(&host), Some(element(form)));
    }
}
