//! Private XML storage: what clients keep on the server for their own account.
//!
//! XEP-0049. One row for each (namespace, name) holds the very `<query/>` that a get is answered;
//! their number is bounded. Requests to one's own account run one after the other, so counting rows
//! and then writing is safe. Requests to other accounts have no handler: the dispatcher refuses them with the same error whether the account exists or
//! not (section 2.3, RFC 6121 section 8.5.1).

use super::{Answer, AtSet, Coverage, Info, Iq, IqKind, KeySpace, Module, Scope, Spec};
use super::{stored, to_store};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_stream::xml::{Element, Node};

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "private",
            specs: &[Spec {
                id: "XEP-0049",
                version: "1.2",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.feature(ns::PRIVATE);
        scope.account_feature(ns::PRIVATE);
        scope.iq_at(AtSet::OWN, IqKind::Get, ns::PRIVATE, "query", get);
        scope.iq_at(AtSet::OWN, IqKind::Set, ns::PRIVATE, "query", set);
    }
}

async fn get(iq: Iq) -> Result<Answer, StanzaError> {
    let owner = owner(&iq)?;
    let wanted = asked(&iq.payload)?;
    match iq.store().get(owner, &key(wanted)).await? {
        Some(query) => stored(&query).map(Answer::with),
        None => Ok(Answer::with(unset(wanted))),
    }
}

async fn set(iq: Iq) -> Result<Answer, StanzaError> {
    let owner = owner(&iq)?;
    let limits = iq.limits();
    let rows = rows(&iq.payload, limits.private_bytes_max)?;
    let store = iq.store();
    count(
        &store.keys(owner).await?,
        &rows,
        limits.private_elements_max,
    )?;
    Ok(wishes(&store, owner, rows))
}

fn owner(iq: &Iq) -> Result<&BareJid, StanzaError> {
    let account = iq
        .account
        .as_ref()
        .ok_or_else(StanzaError::service_unavailable)?;
    Ok(&account.jid)
}

fn wishes(store: &KeySpace, owner: &BareJid, rows: Rows) -> Answer {
    let mut answer = Answer::empty();
    for (key, row) in rows {
        answer = answer.effect(store.put(owner, &key, row));
    }
    answer
}

/// Rows by key; `None`: the row is to go.
type Rows = BTreeMap<String, Option<Bytes>>;

/// Key of an element. A name has no space in it, so two elements share a key only if both their
/// names and namespaces are the same.
fn key(element: &Element) -> String {
    format!("{} {}", element.ns(), element.name())
}

/// The one element that a get asks for.
fn asked(query: &Element) -> Result<&Element, StanzaError> {
    let mut children = query.children();
    // The "bad format" of XEP-0049 section 2.3 is the bad-request of RFC 6120.
    let malformed = StanzaError::bad_request;
    let wanted = children.next().ok_or_else(malformed)?;
    match children.next() {
        None => scoped(wanted),
        Some(_) => Err(malformed()),
    }
}

/// Section 2.1: the element must have a namespace of its own.
fn scoped(element: &Element) -> Result<&Element, StanzaError> {
    match element.ns() {
        "" | ns::PRIVATE => Err(StanzaError::not_acceptable()),
        _ => Ok(element),
    }
}

/// What is answered to a get of what was never stored: the question.
fn unset(wanted: &Element) -> Element {
    let empty = Element::new(wanted.ns(), wanted.name());
    Element::new(ns::PRIVATE, "query").with_child(empty)
}

/// What a set leaves in the store. Elements of the same name and namespace are one row; a lone
/// empty one is what an unset row is answered with anyway, so it frees the row.
fn rows(query: &Element, bytes_max: usize) -> Result<Rows, StanzaError> {
    let mut queries: BTreeMap<String, Element> = BTreeMap::new();
    for child in query.children() {
        let child = scoped(child)?.clone();
        queries
            .entry(key(&child))
            .or_insert_with(|| Element::new(ns::PRIVATE, "query"))
            .push(child);
    }
    if queries.is_empty() {
        return Err(StanzaError::not_acceptable());
    }
    let mut rows = Rows::new();
    for (key, query) in queries {
        let is_unset = match query.nodes() {
            [Node::Element(only)] => *only == Element::new(only.ns(), only.name()),
            _ => false,
        };
        let row = match is_unset {
            true => None,
            false => Some(bounded(to_store(&query), bytes_max)?),
        };
        rows.insert(key, row);
    }
    Ok(rows)
}

fn bounded(xml: Vec<u8>, bytes_max: usize) -> Result<Bytes, StanzaError> {
    match xml.len() <= bytes_max {
        true => Ok(xml.into()),
        false => Err(StanzaError::policy_violation()),
    }
}

/// Checks how many keys there are after a set.
///
/// # Errors
/// resource-constraint when they become more than the bound.
fn count(keys: &[String], rows: &Rows, max: usize) -> Result<(), StanzaError> {
    let old: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let mut new = old.clone();
    for (key, row) in rows {
        match row {
            Some(_) => new.insert(key),
            None => new.remove(key.as_str()),
        };
    }
    // Whoever is over a bound that was lowered may still have fewer.
    match new.len() > max && new.len() > old.len() {
        true => Err(StanzaError::resource_constraint()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::{Registry, element, refused};
    use xmpp_stream::error::{ErrorType, StanzaCondition};

    const DELIMITER: &str = "roster:delimiter roster";

    fn query(content: &str) -> Element {
        element(&format!(
            "<query xmlns='jabber:iq:private'>{content}</query>"
        ))
    }

    /// What a get of `wanted` is answered when `rows` were set.
    fn answer(rows: &Rows, wanted: &str) -> Element {
        let wanted = query(wanted);
        let wanted = asked(&wanted).unwrap();
        match rows.get(&key(wanted)) {
            Some(Some(row)) => stored(row).unwrap(),
            _ => unset(wanted),
        }
    }

    #[test]
    fn im_pv_01_get_gives_what_was_set() {
        let rows = rows(
            &query("<roster xmlns='roster:delimiter'>::</roster><roster xmlns='other'>x</roster>"),
            1000,
        )
        .unwrap();
        let keys: Vec<&str> = rows.keys().map(String::as_str).collect();
        assert_eq!(keys, ["other roster", DELIMITER]);
        let check =
            |wanted: &str, expected: &str| assert_eq!(answer(&rows, wanted), query(expected));
        check(
            "<roster xmlns='roster:delimiter'/>",
            "<roster xmlns='roster:delimiter'>::</roster>",
        );
        check(
            "<roster xmlns='other'/>",
            "<roster xmlns='other'>x</roster>",
        );
        check("<storage xmlns='other'/>", "<storage xmlns='other'/>");
    }

    #[test]
    fn im_pv_01_several_elements_of_one_key_are_kept_together() {
        let both = "<a xmlns='n'>1</a><a xmlns='n'/>";
        let rows = rows(&query(both), 1000).unwrap();
        assert_eq!(answer(&rows, "<a xmlns='n'/>"), query(both));
    }

    #[test]
    fn im_pv_01_never_stored_is_echoed_empty() {
        let asked = query("<roster xmlns='roster:delimiter' x='y'>z</roster>");
        let wanted = asked.children().next().unwrap();
        assert_eq!(unset(wanted), query("<roster xmlns='roster:delimiter'/>"));
    }

    #[test]
    fn im_pv_01_an_empty_element_frees_its_row() {
        let freed = rows(&query("<roster xmlns='roster:delimiter'/>"), 1000).unwrap();
        assert_eq!(freed.get(DELIMITER), Some(&None));
        let kept = rows(&query("<roster xmlns='roster:delimiter' x='y'/>"), 1000).unwrap();
        assert!(matches!(kept.get(DELIMITER), Some(Some(_))));
    }

    #[test]
    fn im_pv_01_get_without_one_child_is_malformed() {
        for content in ["", "text", "<a xmlns='n'/><b xmlns='n'/>"] {
            let query = query(content);
            refused(
                asked(&query),
                ErrorType::Modify,
                StanzaCondition::BadRequest,
            );
        }
    }

    #[test]
    fn im_pv_01_set_needs_elements_of_their_own_namespace() {
        for content in ["", "text", "<a/>", "<a xmlns='n'/><b/>"] {
            let answer = rows(&query(content), 1000);
            refused(answer, ErrorType::Modify, StanzaCondition::NotAcceptable);
        }
        let query = query("<a/>");
        refused(
            asked(&query),
            ErrorType::Modify,
            StanzaCondition::NotAcceptable,
        );
    }

    #[test]
    fn im_pv_01_bytes_are_bounded() {
        let query = query("<a xmlns='n'>12345</a>");
        let size = to_store(&query).len();
        assert!(rows(&query, size).is_ok());
        let answer = rows(&query, size - 1);
        refused(answer, ErrorType::Modify, StanzaCondition::PolicyViolation);
    }

    #[test]
    fn im_pv_01_elements_are_bounded() {
        let one = |name: &str, value: &str| {
            rows(&query(&format!("<{name} xmlns='n'>{value}</{name}>")), 1000).unwrap()
        };
        let keys = ["n a", "n b"].map(str::to_owned);
        assert_eq!(count(&keys[..1], &one("b", "1"), 2), Ok(()));
        assert_eq!(count(&keys, &one("a", "2"), 2), Ok(()), "replaced");
        let answer = count(&keys, &one("c", "1"), 2);
        refused(answer, ErrorType::Wait, StanzaCondition::ResourceConstraint);
        // The bound was lowered since.
        assert_eq!(count(&keys, &one("a", ""), 0), Ok(()));
        assert_eq!(count(&keys, &one("a", "2"), 0), Ok(()));
    }

    #[test]
    fn im_pv_01_keys_of_strange_namespaces_do_not_meet() {
        let of = |ns: &str, name: &str| key(&Element::new(ns, name));
        let all = [
            of("n", "a"),
            of("n a", "b"),
            of("n\na", "b"),
            of(r"n\na", "b"),
        ];
        let different: BTreeSet<&String> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn im_pv_01_only_the_own_account_has_a_handler() {
        let registry = Registry::of(&Feature);
        registry.check(IqKind::Get, ns::PRIVATE, "query", "own");
        registry.check(IqKind::Set, ns::PRIVATE, "query", "own");
    }
}
