//! vcard-temp: everyone's card, kept and shown by the server.
//!
//! XEP-0054. Whoever has no card looks to others like whoever does not exist (section 3.3). Cards
//! are replaced whole (3.2); the domain itself has none.

use super::{Answer, At, AtSet, Coverage, Info, Iq, IqKind, Module, Scope, Spec};
use super::{stored, to_store};
use bytes::Bytes;
use xmpp_stream::error::StanzaError;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// The one row of an account.
const KEY: &str = "vCard";

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "vcard",
            specs: &[Spec {
                id: "XEP-0054",
                version: "1.3.0",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.feature(ns::VCARD);
        scope.account_feature(ns::VCARD);
        scope.iq_at(AtSet::ACCOUNTS, IqKind::Get, ns::VCARD, "vCard", get);
        scope.iq_at(AtSet::ACCOUNTS, IqKind::Set, ns::VCARD, "vCard", set);
    }
}

async fn get(iq: Iq) -> Result<Answer, StanzaError> {
    let card = match &iq.account {
        Some(account) => iq.store().get(&account.jid, KEY).await?,
        None => None,
    };
    shown(iq.at, card.as_deref()).map(Answer::with)
}

async fn set(iq: Iq) -> Result<Answer, StanzaError> {
    let card = accepted(iq.at, &iq.payload, iq.limits().vcard_bytes_max)?;
    let Some(account) = &iq.account else {
        return Err(StanzaError::service_unavailable());
    };
    Ok(Answer::empty().effect(iq.store().put(&account.jid, KEY, card)))
}

/// What a get is answered when `card` is stored.
fn shown(at: At, card: Option<&[u8]>) -> Result<Element, StanzaError> {
    match (card, at) {
        (Some(card), _) => stored(card),
        // Clients fetch the own card to fill a form with it: an empty card is one they can edit.
        (None, At::Own) => Ok(Element::new(ns::VCARD, "vCard")),
        // XEP-0054 section 3.3: the same error MUST be returned when the user does not exist.
        (None, At::Host | At::Other) => Err(StanzaError::service_unavailable()),
    }
}

/// What a set leaves in the store; `None`: nothing, as an empty card is none.
fn accepted(at: At, card: &Element, bytes_max: usize) -> Result<Option<Bytes>, StanzaError> {
    if at != At::Own {
        // Whether the account exists or not.
        return Err(StanzaError::forbidden());
    }
    if card.children().next().is_none() {
        return Ok(None);
    }
    let xml = to_store(card);
    if xml.len() > bytes_max {
        return Err(StanzaError::policy_violation());
    }
    Ok(Some(xml.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::{Registry, element, refused};
    use xmpp_stream::error::{ErrorType, StanzaCondition};

    const CARD: &str = "<vCard xmlns='vcard-temp'><FN>Alice</FN><N><GIVEN>A</GIVEN></N></vCard>";
    const EMPTY: &str = "<vCard xmlns='vcard-temp'/>";

    #[test]
    fn im_vc_01_own_card_and_an_empty_one_where_there_is_none() {
        let card = accepted(At::Own, &element(CARD), 1000).unwrap();
        assert_eq!(shown(At::Own, card.as_deref()), Ok(element(CARD)));
        assert_eq!(shown(At::Own, None), Ok(element(EMPTY)));
    }

    #[test]
    fn im_vc_02_card_of_another_is_shown() {
        let card = accepted(At::Own, &element(CARD), 1000).unwrap();
        assert_eq!(shown(At::Other, card.as_deref()), Ok(element(CARD)));
    }

    #[test]
    fn im_vc_02_no_card_looks_like_no_account() {
        // An account without a card and no account at all come to the same call.
        let error = shown(At::Other, None).unwrap_err();
        assert_eq!(error, StanzaError::service_unavailable());
        // Whoever empties the card has none again.
        let card = accepted(At::Own, &element(EMPTY), 1000).unwrap();
        assert_eq!(card, None);
    }

    #[test]
    fn im_vc_03_set_replaces_the_whole_card() {
        let smaller = "<vCard xmlns='vcard-temp'><FN>A</FN></vCard>";
        let card = accepted(At::Own, &element(smaller), 1000).unwrap();
        assert_eq!(shown(At::Own, card.as_deref()), Ok(element(smaller)));
    }

    #[test]
    fn im_vc_03_set_to_another_is_forbidden() {
        for card in [CARD, EMPTY] {
            let answer = accepted(At::Other, &element(card), 1000);
            refused(answer, ErrorType::Auth, StanzaCondition::Forbidden);
        }
    }

    #[test]
    fn im_vc_03_size_is_bounded() {
        let size = to_store(&element(CARD)).len();
        assert!(accepted(At::Own, &element(CARD), size).is_ok());
        let answer = accepted(At::Own, &element(CARD), size - 1);
        refused(answer, ErrorType::Modify, StanzaCondition::PolicyViolation);
    }

    #[test]
    fn im_vc_02_broken_row_is_our_own_fault() {
        let error = shown(At::Own, Some(b"<vCard".as_slice())).unwrap_err();
        assert_eq!(error.condition, StanzaCondition::InternalServerError);
    }

    #[test]
    fn im_vc_02_answered_for_accounts_and_announced() {
        let registry = Registry::of(&Feature);
        registry.check(IqKind::Get, ns::VCARD, "vCard", "own other");
        registry.check(IqKind::Set, ns::VCARD, "vCard", "own other");
        assert_eq!(registry.announced.host_features, [ns::VCARD]);
        assert_eq!(registry.announced.account_features, [ns::VCARD]);
    }
}
