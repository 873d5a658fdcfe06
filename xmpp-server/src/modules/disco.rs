//! Service discovery: what the domain and its accounts are and can do.
//!
//! XEP-0030. Identities and features are those that modules announced when they registered. An
//! account that the asker may not see answers like one that does not exist (section 8); the domain's
//! items are its components.

use super::{Announced, Answer, At, AtSet, Coverage, Identity, Info, Iq, IqKind};
use super::{HostNode, Module, Scope, Spec};
use crate::host::Host;
use crate::session::account::Account;
use xmpp_stream::error::StanzaError;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "disco",
            specs: &[Spec {
                id: "XEP-0030",
                version: "2.5.0",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.identity("server", "im", None);
        scope.account_identity("account", "registered");
        for feature in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
            scope.feature(feature);
            scope.account_feature(feature);
        }
        scope.iq_at(AtSet::ALL, IqKind::Get, ns::DISCO_INFO, "query", info);
        scope.iq_at(AtSet::ALL, IqKind::Get, ns::DISCO_ITEMS, "query", items);
    }
}

async fn info(iq: Iq) -> Result<Answer, StanzaError> {
    let entity = entity(iq.at, iq.account.is_some(), iq.is_authorized());
    info_of(entity, &iq.announced(), &iq.host, &iq.payload).map(Answer::with)
}

async fn items(iq: Iq) -> Result<Answer, StanzaError> {
    let entity = entity(iq.at, iq.account.is_some(), iq.is_authorized());
    let resources = match (&iq.account, entity) {
        (Some(account), Entity::Account) => resources(account),
        (_, Entity::Host) => services(&iq.host),
        _ => Vec::new(),
    };
    items_of(entity, &resources, &iq.payload).map(Answer::with)
}

/// What is asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Entity {
    /// The domain.
    Host,
    /// An account, by somebody who may see it.
    Account,
    /// Nothing that the asker may know of: a hidden account or none at all.
    Hidden,
}

fn entity(at: At, exists: bool, is_authorized: bool) -> Entity {
    match at {
        At::Host => Entity::Host,
        At::Own | At::Other if exists && is_authorized => Entity::Account,
        At::Own | At::Other => Entity::Hidden,
    }
}

/// Available resources of an account: those that whoever may ask has presence of.
fn resources(account: &Account) -> Vec<String> {
    let state = account.lock();
    let available = state.sessions.iter().filter(|entry| entry.is_available());
    available
        .map(|entry| entry.jid.as_str().to_owned())
        .collect()
}

/// Components of the domain, here or not: whoever asks them is told.
fn services(host: &Host) -> Vec<String> {
    let policy = host.policy();
    policy.components.iter().map(ToString::to_string).collect()
}

/// What the domain says of itself.
pub(super) fn host_info(announced: &Announced, host: &Host) -> Element {
    let query = Element::new(ns::DISCO_INFO, "query");
    info_of(Entity::Host, announced, host, &query).unwrap_or(query)
}

fn info_of(
    entity: Entity,
    announced: &Announced,
    host: &Host,
    query: &Element,
) -> Result<Element, StanzaError> {
    let (identities, features) = match entity {
        Entity::Host => (&announced.host_identities, announced.features_of(host)),
        Entity::Account => (
            &announced.account_identities,
            announced.account_features.clone(),
        ),
        Entity::Hidden => return Err(StanzaError::service_unavailable()),
    };
    let node = query.attr("node").unwrap_or_default();
    let is_itself = |rule: &HostNode| !node.is_empty() && rule(announced, host, node);
    let mut answer = match entity {
        Entity::Host if announced.host_nodes.iter().any(is_itself) => {
            with_node(query, ns::DISCO_INFO)
        }
        _ => mirrored(query, ns::DISCO_INFO)?,
    };
    let forms = match entity {
        Entity::Host => announced.forms_of(host),
        Entity::Account | Entity::Hidden => Vec::new(),
    };
    for identity in identities {
        answer.push(identity_element(identity));
    }
    for feature in features {
        answer.push(Element::new(ns::DISCO_INFO, "feature").with_attr("var", feature));
    }
    for form in forms {
        answer.push(form);
    }
    Ok(answer)
}

fn items_of(entity: Entity, resources: &[String], query: &Element) -> Result<Element, StanzaError> {
    if entity == Entity::Hidden {
        // Section 8: an empty result, whatever node was asked for.
        return Ok(with_node(query, ns::DISCO_ITEMS));
    }
    let mut answer = mirrored(query, ns::DISCO_ITEMS)?;
    for jid in resources {
        answer.push(Element::new(ns::DISCO_ITEMS, "item").with_attr("jid", jid));
    }
    Ok(answer)
}

/// An empty answer to a query about the entity itself; nobody has nodes yet.
fn mirrored(query: &Element, ns: &str) -> Result<Element, StanzaError> {
    match query.attr("node") {
        None | Some("") => Ok(with_node(query, ns)),
        Some(_) => Err(StanzaError::item_not_found()),
    }
}

/// Section 3.2: the answer has the very node of the question.
fn with_node(query: &Element, ns: &str) -> Element {
    let answer = Element::new(ns, "query");
    match query.attr("node") {
        Some(node) => answer.with_attr("node", node),
        None => answer,
    }
}

fn identity_element(identity: &Identity) -> Element {
    let element = Element::new(ns::DISCO_INFO, "identity")
        .with_attr("category", identity.category)
        .with_attr("type", identity.ty);
    match identity.name {
        Some(name) => element.with_attr("name", name),
        None => element,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Registration;
    use crate::modules::tests::{Registry, announced, element, host, refused};
    use std::collections::BTreeSet;
    use xmpp_stream::error::{ErrorType, StanzaCondition};

    const ALL: [Entity; 3] = [Entity::Host, Entity::Account, Entity::Hidden];

    fn info_query(node: &str) -> Element {
        element(&format!(
            "<query xmlns='http://jabber.org/protocol/disco#info'{node}/>"
        ))
    }

    fn items_query(content: &str) -> Element {
        element(&format!(
            "<query xmlns='http://jabber.org/protocol/disco#items'{content}"
        ))
    }

    fn ask(entity: Entity, node: &str) -> Result<Element, StanzaError> {
        let host = host(Registration::Open);
        info_of(entity, &announced(), &host, &info_query(node))
    }

    fn values(answer: &Element, name: &str, attr: &str) -> Vec<String> {
        let named = answer.children().filter(|child| child.name() == name);
        named
            .map(|child| child.attr(attr).unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn im_di_01_identity_and_features_of_domain_and_account() {
        let check = |entity, category: &str, ty: &str| {
            let answer = ask(entity, "").unwrap();
            assert_eq!(values(&answer, "identity", "category"), [category]);
            assert_eq!(values(&answer, "identity", "type"), [ty]);
            let features = values(&answer, "feature", "var");
            for ns in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
                assert!(features.iter().any(|feature| feature == ns), "{ns}");
            }
        };
        check(Entity::Host, "server", "im");
        check(Entity::Account, "account", "registered");
    }

    #[test]
    fn im_di_01_what_is_announced_is_what_is_shown() {
        let answer = ask(Entity::Host, "").unwrap();
        let features = values(&answer, "feature", "var");
        for ns in [ns::PING, ns::PRIVATE, ns::REGISTER, ns::VCARD, ns::VERSION] {
            assert!(features.iter().any(|feature| feature == ns), "{ns}");
        }
        assert!(features.is_sorted());
    }

    #[test]
    fn im_di_02_unknown_node_is_not_found() {
        for entity in [Entity::Host, Entity::Account] {
            let answer = ask(entity, " node='x'");
            refused(answer, ErrorType::Cancel, StanzaCondition::ItemNotFound);
            let answer = items_of(entity, &[], &items_query(" node='x'/>"));
            refused(answer, ErrorType::Cancel, StanzaCondition::ItemNotFound);
        }
    }

    #[test]
    fn im_di_02_node_is_mirrored() {
        let answer = ask(Entity::Host, " node=''").unwrap();
        assert_eq!(answer.attr("node"), Some(""));
        assert_eq!(ask(Entity::Host, "").unwrap().attr("node"), None);
        let answer = items_of(Entity::Hidden, &[], &items_query(" node='x'/>")).unwrap();
        assert_eq!(answer.attr("node"), Some("x"));
    }

    #[test]
    fn im_di_03_no_items_is_an_empty_result() {
        for entity in ALL {
            let query = items_query("/>");
            assert_eq!(items_of(entity, &[], &query), Ok(query), "{entity:?}");
        }
    }

    #[test]
    fn im_di_04_hidden_and_absent_accounts_are_the_same() {
        // Both come to the same entity, and that to the same error, with a node or without.
        let (absent, hidden) = (
            entity(At::Other, false, false),
            entity(At::Other, true, false),
        );
        for node in ["", " node='x'"] {
            assert_eq!(ask(absent, node), Err(StanzaError::service_unavailable()));
            assert_eq!(ask(hidden, node), Err(StanzaError::service_unavailable()));
        }
        assert_eq!(entity(At::Other, true, true), Entity::Account);
        assert_eq!(entity(At::Own, true, true), Entity::Account);
        // Removed a moment ago: the own address alone shows nothing.
        assert_eq!(entity(At::Own, false, true), Entity::Hidden);
    }

    #[test]
    fn im_di_05_items_of_a_hidden_or_absent_account_are_none() {
        let resources = ["alice@a.test/one".to_owned()];
        for content in ["/>", " node='x'/>"] {
            let query = items_query(content);
            assert_eq!(items_of(Entity::Hidden, &resources, &query), Ok(query));
        }
    }

    #[test]
    fn im_di_05_items_of_a_visible_account_are_its_resources() {
        let resources = ["alice@a.test/one".to_owned(), "alice@a.test/two".to_owned()];
        let answer = items_of(Entity::Account, &resources, &items_query("/>")).unwrap();
        let expected = "><item jid='alice@a.test/one'/><item jid='alice@a.test/two'/></query>";
        assert_eq!(answer, items_query(expected));
    }

    #[test]
    fn im_di_06_same_answer_to_everyone() {
        // Nothing about the asker goes into which entity answers for the domain, and owner and
        // contact meet the same one.
        for (exists, is_authorized) in [(false, false), (true, false), (true, true)] {
            assert_eq!(entity(At::Host, exists, is_authorized), Entity::Host);
        }
        assert_eq!(entity(At::Own, true, true), entity(At::Other, true, true));
    }

    #[test]
    fn im_di_07_no_identity_or_feature_twice() {
        for entity in [Entity::Host, Entity::Account] {
            let answer = ask(entity, "").unwrap();
            let count = answer.children().count();
            let texts: BTreeSet<String> = answer
                .children()
                .map(|child| match child.name() {
                    "feature" => format!("{:?}", child.attr("var")),
                    _ => format!("{:?} {:?}", child.attr("category"), child.attr("type")),
                })
                .collect();
            assert_eq!(texts.len(), count);
        }
        let registry = Registry::twice(&Feature);
        assert_eq!(registry.announced.host_identities.len(), 1);
        assert_eq!(registry.announced.host_features.len(), 2);
    }

    #[test]
    fn im_di_08_no_service_no_item() {
        let query = items_query("/>");
        assert_eq!(items_of(Entity::Host, &[], &query), Ok(query));
    }

    #[test]
    fn im_di_01_answered_for_all_addresses() {
        let registry = Registry::of(&Feature);
        for ns in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
            registry.check(IqKind::Get, ns, "query", "host own other");
            registry.check(IqKind::Set, ns, "query", "");
        }
    }
}
