//! Last activity: how long the server runs, and since when somebody is away.
//!
//! XEP-0012 sections 3 and 5. Only who may see an account's presence is told of it; others are
//! refused, whether there is such an account or not (section 3). When an account was left is noted
//! by the core. A request to a resource (section 4) is passed on or refused by the core, too. The
//! words of the last unavailable presence are not kept.

use super::{Answer, At, AtSet, Coverage, Info, Iq, IqKind, Module, Scope, Spec};
use crate::session::account::Account;
use xmpp_stream::error::StanzaError;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "last",
            specs: &[Spec {
                id: "XEP-0012",
                version: "2.0",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.feature(ns::LAST);
        scope.account_feature(ns::LAST);
        scope.iq_at(AtSet::ALL, IqKind::Get, ns::LAST, "query", last);
    }
}

async fn last(iq: Iq) -> Result<Answer, StanzaError> {
    let seconds = match (iq.at, &iq.account) {
        (At::Host, _) => iq.uptime().as_secs(),
        (At::Own | At::Other, Some(account)) if iq.is_authorized() => away(account, iq.unix_now()),
        (At::Own | At::Other, _) => return Err(StanzaError::forbidden()),
    };
    let query = Element::new(ns::LAST, "query");
    Ok(Answer::with(
        query.with_attr("seconds", &seconds.to_string()),
    ))
}

/// Seconds since the last resource went; 0 while there is one. Who never was here counts from the
/// making of the account.
fn away(account: &Account, now: u64) -> u64 {
    if !account.lock().sessions.is_empty() {
        return 0;
    }
    let since = account.left().unwrap_or(account.record().created);
    now.saturating_sub(since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::tests::Registry;

    #[test]
    fn im_la_01_answered_for_all_and_announced() {
        let registry = Registry::of(&Feature);
        registry.check(IqKind::Get, ns::LAST, "query", "host own other");
        registry.check(IqKind::Set, ns::LAST, "query", "");
        assert_eq!(registry.announced.host_features, [ns::LAST]);
        assert_eq!(registry.announced.account_features, [ns::LAST]);
    }
}
