//! Service discovery (XEP-0030): what is there, what can it do?

use super::{RequestError, expect, get};
use crate::client::XmppClient;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::disco::query;
pub use xmpp_stream::payload::disco::{Identity, Info, Item, Items};

/// What an entity is and can do.
///
/// # Errors
/// The request failed, or the answer is another.
pub async fn info(client: &XmppClient, of: &Jid, node: Option<&str>) -> Result<Info, RequestError> {
    let answer = get(client, Some(of), &query(ns::DISCO_INFO, node)).await?;
    let answer = expect(answer, ns::DISCO_INFO, "query")?;
    Info::parse(&answer).ok_or(RequestError::Malformed("it is no disco#info"))
}

/// What belongs to an entity.
///
/// # Errors
/// The request failed, or the answer is another.
pub async fn items(
    client: &XmppClient,
    of: &Jid,
    node: Option<&str>,
) -> Result<Vec<Item>, RequestError> {
    let answer = get(client, Some(of), &query(ns::DISCO_ITEMS, node)).await?;
    let answer = expect(answer, ns::DISCO_ITEMS, "query")?;
    let items = Items::parse(&answer).ok_or(RequestError::Malformed("it is no disco#items"))?;
    Ok(items.items)
}

/// Most components that `services` asks: what a hostile server can make us send.
const SERVICES_MAX: usize = 32;

/// The server and its components that have this feature, with what they say of themselves. A
/// component that does not answer is passed over.
///
/// # Errors
/// The server does not answer for itself.
pub async fn services(
    client: &XmppClient,
    feature: &str,
) -> Result<Vec<(Jid, Info)>, RequestError> {
    let server = Jid::domain_only(client.jid().domain());
    let server = server.map_err(|_| RequestError::Malformed("our own domain is no address"))?;
    let mut found = Vec::new();
    let own = info(client, &server, None).await?;
    if own.has(feature) {
        found.push((server.clone(), own));
    }
    let components = items(client, &server, None).await?;
    let components = components.into_iter().filter(|item| item.node.is_none());
    for item in components.take(SERVICES_MAX) {
        match info(client, &item.jid, None).await {
            Ok(info) if info.has(feature) => found.push((item.jid, info)),
            Ok(_) => {}
            Err(error) => tracing::debug!(component = %item.jid.as_str(), %error, "passed over"),
        }
    }
    Ok(found)
}
