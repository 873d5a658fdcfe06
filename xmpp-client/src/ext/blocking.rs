//! Blocking (XEP-0191): the list, changes to it, and pushes about what other resources change.
//!
//! `list` comes first: only who has asked for the list gets pushes (section 3.2). A push is taken
//! from the own account alone; anyone else could make a client believe that somebody is blocked.

use super::{Forged, RequestError, expect, get, is_from_own_account, set};
use crate::client::XmppClient;
use std::fmt;
use xmpp_stream::jid::{FullJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// A change that some resource of the account made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// These are blocked now too.
    Blocked(Vec<Jid>),
    /// These are not blocked any more.
    Unblocked(Vec<Jid>),
    /// Nobody is blocked any more.
    AllUnblocked,
}

/// Why a change was not made.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BlockError {
    /// Nobody was named. On the wire an empty list would unblock everybody.
    Nobody,
    /// The request failed.
    Request(RequestError),
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody was named"),
            Self::Request(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BlockError {}

/// Who is blocked.
///
/// # Errors
/// The request failed, or the answer is no list of JIDs.
pub async fn list(client: &XmppClient) -> Result<Vec<Jid>, RequestError> {
    let asked = Element::new(ns::BLOCKING, "blocklist");
    let list = expect(get(client, None, &asked).await?, ns::BLOCKING, "blocklist")?;
    items(&list).ok_or(RequestError::Malformed("an item without a JID"))
}

/// Blocks these: full, bare or domain JIDs (section 3.7 says what each matches).
///
/// # Errors
/// `Nobody` for an empty list; else the request failed.
pub async fn block(client: &XmppClient, whom: &[Jid]) -> Result<(), BlockError> {
    change(client, "block", whom).await
}

/// Unblocks these.
///
/// # Errors
/// `Nobody` for an empty list; else the request failed.
pub async fn unblock(client: &XmppClient, whom: &[Jid]) -> Result<(), BlockError> {
    change(client, "unblock", whom).await
}

/// Unblocks everybody.
///
/// # Errors
/// The request failed.
pub async fn unblock_all(client: &XmppClient) -> Result<(), RequestError> {
    set(client, None, &Element::new(ns::BLOCKING, "unblock")).await?;
    Ok(())
}

/// Reads a push; `None` where the stanza is none. Whoever takes it answers with an empty result.
///
/// # Errors
/// It is not from the own account.
pub fn read_push(own: &FullJid, stanza: &Stanza) -> Result<Option<Change>, Forged> {
    if stanza.kind != Kind::Iq || stanza.head.ty != Ty::Set {
        return Ok(None);
    }
    let Some(payload) = stanza.first_element().filter(|p| p.ns() == ns::BLOCKING) else {
        return Ok(None);
    };
    if !is_from_own_account(own, stanza) {
        let from = stanza.head.from.clone();
        return Err(Forged { from });
    }
    let items = items(&payload);
    Ok(match (payload.name(), items) {
        ("block", Some(items)) if !items.is_empty() => Some(Change::Blocked(items)),
        ("unblock", Some(items)) if items.is_empty() => Some(Change::AllUnblocked),
        ("unblock", Some(items)) => Some(Change::Unblocked(items)),
        _ => None,
    })
}

async fn change(client: &XmppClient, name: &str, whom: &[Jid]) -> Result<(), BlockError> {
    if whom.is_empty() {
        return Err(BlockError::Nobody);
    }
    let mut payload = Element::new(ns::BLOCKING, name);
    for jid in whom {
        payload.push(Element::new(ns::BLOCKING, "item").with_attr("jid", jid.as_str()));
    }
    let answer = set(client, None, &payload).await;
    answer
        .map(|_| ())
        .map_err(|error| BlockError::Request(error.into()))
}

/// The JIDs of all items; `None` when one has none.
fn items(list: &Element) -> Option<Vec<Jid>> {
    let items = list.children().filter(|item| item.is(ns::BLOCKING, "item"));
    items
        .map(|item| Jid::parse(item.attr("jid")?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: &str, payload: &str) -> Result<Option<Change>, Forged> {
        let own = FullJid::parse("ann@a.test/x").unwrap();
        let iq = format!("<iq type='set' id='1'{from}>{payload}</iq>");
        read_push(&own, &Stanza::parse(&iq).unwrap())
    }

    #[test]
    fn xep0191_push_says_what_changed() {
        let eve = vec![Jid::parse("eve@a.test").unwrap()];
        let item = "<item jid='eve@a.test'/>";
        let check = |payload: String, change| {
            assert_eq!(read(" from='ann@a.test'", &payload), Ok(change));
            assert!(read("", &payload).is_ok());
        };
        let ns = ns::BLOCKING;
        check(
            format!("<block xmlns='{ns}'>{item}</block>"),
            Some(Change::Blocked(eve.clone())),
        );
        check(
            format!("<unblock xmlns='{ns}'>{item}</unblock>"),
            Some(Change::Unblocked(eve)),
        );
        check(
            format!("<unblock xmlns='{ns}'/>"),
            Some(Change::AllUnblocked),
        );
        check(format!("<block xmlns='{ns}'/>"), None);
        check(
            format!("<unblock xmlns='{ns}'><item jid='@'/></unblock>"),
            None,
        );
        check("<other xmlns='urn:x'/>".into(), None);
    }

    #[test]
    fn xep0191_push_from_somebody_else_is_forged() {
        for from in ["eve@a.test", "ann@a.test/y", "a.test"] {
            let payload = format!("<unblock xmlns='{}'/>", ns::BLOCKING);
            let forged = read(&format!(" from='{from}'"), &payload).unwrap_err();
            assert_eq!(forged.from.unwrap().as_str(), from);
        }
    }
}
