//! Affiliations and roles (XEP-0045 sections 8 and 9). Lists are sent as differences.

use super::{Affiliation, Role};
use crate::client::XmppClient;
use crate::ext::{RequestError, expect, get, set};
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// An entry of a list of affiliations.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Affiliated {
    /// Who; a domain may be banned too.
    pub jid: Jid,
    /// As what.
    pub affiliation: Affiliation,
    /// Why.
    pub reason: Option<String>,
}

/// A change of an affiliation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AffiliationChange {
    /// Whose.
    pub jid: Jid,
    /// To what.
    pub affiliation: Affiliation,
    /// Why, for them to read.
    pub reason: Option<String>,
}

/// Who has this affiliation.
///
/// # Errors
/// The request failed (forbidden: we may not see the list), or the answer is no list.
pub async fn affiliations(
    client: &XmppClient,
    room: &BareJid,
    affiliation: Affiliation,
) -> Result<Vec<Affiliated>, RequestError> {
    let asked = Element::new(ns::MUC_ADMIN, "item").with_attr("affiliation", affiliation.as_str());
    let query = Element::new(ns::MUC_ADMIN, "query").with_child(asked);
    let answer = get(client, Some(room.as_jid()), &query).await?;
    let list = expect(answer, ns::MUC_ADMIN, "query")?;
    let items = list
        .children()
        .filter(|item| item.is(ns::MUC_ADMIN, "item"));
    let items = items.map(|item| {
        let shown = item.attr("affiliation").and_then(Affiliation::from_wire);
        Some(Affiliated {
            jid: Jid::parse(item.attr("jid")?).ok()?,
            affiliation: shown.unwrap_or(affiliation),
            reason: reason(item),
        })
    });
    items
        .collect::<Option<_>>()
        .ok_or(RequestError::Malformed("an item without a JID"))
}

/// Changes affiliations, all or none. `Affiliation::Outcast` bans, `None` takes away.
///
/// # Errors
/// The request failed: forbidden, not-allowed, conflict for the last owner.
pub async fn set_affiliations(
    client: &XmppClient,
    room: &BareJid,
    changes: &[AffiliationChange],
) -> Result<(), RequestError> {
    let mut query = Element::new(ns::MUC_ADMIN, "query");
    for change in changes {
        let item = Element::new(ns::MUC_ADMIN, "item")
            .with_attr("affiliation", change.affiliation.as_str())
            .with_attr("jid", change.jid.as_str());
        query.push(with_reason(item, change.reason.as_deref()));
    }
    set(client, Some(room.as_jid()), &query).await?;
    Ok(())
}

/// Gives somebody in the room a role, by nickname.
///
/// # Errors
/// The request failed: forbidden, not-allowed.
pub async fn set_role(
    client: &XmppClient,
    room: &BareJid,
    nick: &str,
    role: Role,
    reason: Option<&str>,
) -> Result<(), RequestError> {
    let item = Element::new(ns::MUC_ADMIN, "item")
        .with_attr("nick", nick)
        .with_attr("role", role.as_str());
    let query = Element::new(ns::MUC_ADMIN, "query").with_child(with_reason(item, reason));
    set(client, Some(room.as_jid()), &query).await?;
    Ok(())
}

/// Kicks somebody: role none.
///
/// # Errors
/// As `set_role`.
pub async fn kick(
    client: &XmppClient,
    room: &BareJid,
    nick: &str,
    reason: Option<&str>,
) -> Result<(), RequestError> {
    set_role(client, room, nick, Role::None, reason).await
}

fn with_reason(item: Element, reason: Option<&str>) -> Element {
    match reason {
        Some(reason) => item.with_child(Element::new(ns::MUC_ADMIN, "reason").with_text(reason)),
        None => item,
    }
}

fn reason(item: &Element) -> Option<String> {
    let reason = item.child(ns::MUC_ADMIN, "reason")?.text();
    (!reason.is_empty()).then_some(reason)
}
