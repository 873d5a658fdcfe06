//! Publish-subscribe (XEP-0060): publish, retrieve, delete, subscribe; nodes and their options.
//!
//! `None` as the service is the own account, which is one too (XEP-0163; `pep` has short forms).
//! A notification counts from the service that was asked for it, and from no other.

mod error;
mod event;
mod node;

pub use error::{PubsubCondition, PubsubError};
pub(in crate::ext) use event::notification;
pub use event::{Change, Notification, read};
pub use node::{AccessModel, MaxItems, Options, SendLast};
pub use node::{config, configure, create, delete_node, purge};

use super::{RequestError, expect, get, set};
use crate::client::XmppClient;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::rsm;
use xmpp_stream::xml::Element;

/// Something that was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its id in the node.
    pub id: Option<Box<str>>,
    /// Who published it, as the service says.
    pub publisher: Option<Jid>,
    /// What; a notification may leave it out.
    pub payload: Option<Element>,
}

/// Which items of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which<'a> {
    /// As many as the service gives.
    All,
    /// So many of the newest.
    Newest(u32),
    /// Those with these ids.
    Ids(&'a [&'a str]),
}

/// Items of a node.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Items {
    /// The items.
    pub items: Vec<Item>,
    /// Which page of the node it is, where the service sent not all.
    pub page: Option<rsm::Page>,
}

/// What a subscription is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Subscription {
    /// To which node.
    pub node: Option<String>,
    /// Whose.
    pub jid: Option<Jid>,
    /// How far it is.
    pub state: SubscriptionState,
    /// Its id, where there are several.
    pub id: Option<String>,
}

/// How far a subscription is (section 4.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubscriptionState {
    /// There is none.
    None,
    /// An owner has to agree.
    Pending,
    /// It has to be configured.
    Unconfigured,
    /// Notifications come.
    Subscribed,
}

impl Item {
    /// Reads `<item/>`.
    pub(super) fn parse(item: &Element) -> Self {
        Self {
            id: item.attr("id").map(Into::into),
            publisher: item.attr("publisher").and_then(|jid| Jid::parse(jid).ok()),
            payload: item.children().next().cloned(),
        }
    }
}

/// Publishes; gives the item's id. Without an id the service makes one. Where options are given, a
/// node that is there must have them already, and one that is not is made with them (section 7.1.5).
///
/// # Errors
/// `Refused` with precondition-not-met where the node has other options; else as it says.
pub async fn publish(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
    id: Option<&str>,
    payload: Option<Element>,
    options: Option<&Options>,
) -> Result<Option<Box<str>>, PubsubError> {
    let mut item = Element::new(ns::PUBSUB, "item");
    if let Some(id) = id {
        item.set_attr("id", id);
    }
    if let Some(payload) = payload {
        item.push(payload);
    }
    let publish = of_node("publish", node).with_child(item);
    let mut pubsub = Element::new(ns::PUBSUB, "pubsub").with_child(publish);
    if let Some(options) = options {
        let form = options.to_form(ns::PUBSUB_PUBLISH_OPTIONS).to_element();
        pubsub.push(Element::new(ns::PUBSUB, "publish-options").with_child(form));
    }
    let answer = set(client, service, &pubsub).await?;
    // An answer without an item is allowed where the id was ours.
    let published = answer
        .as_ref()
        .and_then(|answer| answer.child(ns::PUBSUB, "publish"))
        .and_then(|publish| publish.child(ns::PUBSUB, "item"))
        .and_then(|item| item.attr("id"));
    Ok(published.or(id).map(Into::into))
}

/// Items of a node.
///
/// # Errors
/// `Refused` with item-not-found where there is no such node; else as it says.
pub async fn items(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
    which: Which<'_>,
) -> Result<Items, PubsubError> {
    let mut wanted = of_node("items", node);
    match which {
        Which::All => {}
        Which::Newest(max) => wanted.set_attr("max_items", &max.to_string()),
        Which::Ids(ids) => {
            for id in ids {
                wanted.push(Element::new(ns::PUBSUB, "item").with_attr("id", id));
            }
        }
    }
    let pubsub = Element::new(ns::PUBSUB, "pubsub").with_child(wanted);
    let answer = expect(get(client, service, &pubsub).await?, ns::PUBSUB, "pubsub")?;
    let items = answer
        .child(ns::PUBSUB, "items")
        .filter(|items| items.attr("node") == Some(node))
        .ok_or(RequestError::Malformed("it has no items of the node"))?;
    let found = items
        .children()
        .filter(|child| child.is(ns::PUBSUB, "item"));
    Ok(Items {
        items: found.map(Item::parse).collect(),
        page: rsm::Page::find(&answer),
    })
}

/// Deletes an item; subscribers are told if `notify` says so.
///
/// # Errors
/// `Refused`; else the request failed.
pub async fn retract(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
    id: &str,
    notify: bool,
) -> Result<(), PubsubError> {
    let item = Element::new(ns::PUBSUB, "item").with_attr("id", id);
    let mut retract = of_node("retract", node).with_child(item);
    if notify {
        retract.set_attr("notify", "true");
    }
    let pubsub = Element::new(ns::PUBSUB, "pubsub").with_child(retract);
    set(client, service, &pubsub).await?;
    Ok(())
}

/// Subscribes our bare JID to a node.
///
/// # Errors
/// `Refused`; else the request failed, or the answer is no subscription.
pub async fn subscribe(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
) -> Result<Subscription, PubsubError> {
    let subscribe = of_node("subscribe", node).with_attr("jid", client.jid().as_jid().bare_str());
    let pubsub = Element::new(ns::PUBSUB, "pubsub").with_child(subscribe);
    let answer = expect(set(client, service, &pubsub).await?, ns::PUBSUB, "pubsub")?;
    let subscription = answer.child(ns::PUBSUB, "subscription");
    let subscription = subscription.and_then(subscription_of);
    Ok(subscription.ok_or(RequestError::Malformed("it is no subscription"))?)
}

/// Ends the subscription of our bare JID.
///
/// # Errors
/// `Refused`; else the request failed.
pub async fn unsubscribe(
    client: &XmppClient,
    service: Option<&Jid>,
    node: &str,
    id: Option<&str>,
) -> Result<(), PubsubError> {
    let mut unsubscribe =
        of_node("unsubscribe", node).with_attr("jid", client.jid().as_jid().bare_str());
    if let Some(id) = id {
        unsubscribe.set_attr("subid", id);
    }
    let pubsub = Element::new(ns::PUBSUB, "pubsub").with_child(unsubscribe);
    set(client, service, &pubsub).await?;
    Ok(())
}

/// Our subscriptions at the service; what is none is passed over.
///
/// # Errors
/// `Refused`; else the request failed, or the answer is another.
pub async fn subscriptions(
    client: &XmppClient,
    service: Option<&Jid>,
) -> Result<Vec<Subscription>, PubsubError> {
    let pubsub =
        Element::new(ns::PUBSUB, "pubsub").with_child(Element::new(ns::PUBSUB, "subscriptions"));
    let answer = expect(get(client, service, &pubsub).await?, ns::PUBSUB, "pubsub")?;
    let list = answer
        .child(ns::PUBSUB, "subscriptions")
        .ok_or(RequestError::Malformed("it has no subscriptions"))?;
    Ok(list.children().filter_map(subscription_of).collect())
}

fn subscription_of(element: &Element) -> Option<Subscription> {
    if !element.is(ns::PUBSUB, "subscription") {
        return None;
    }
    let state = match element.attr("subscription") {
        Some("none") => SubscriptionState::None,
        Some("pending") => SubscriptionState::Pending,
        Some("unconfigured") => SubscriptionState::Unconfigured,
        Some("subscribed") => SubscriptionState::Subscribed,
        _ => return None,
    };
    Some(Subscription {
        node: element.attr("node").map(ToOwned::to_owned),
        jid: element.attr("jid").and_then(|jid| Jid::parse(jid).ok()),
        state,
        id: element.attr("subid").map(ToOwned::to_owned),
    })
}

/// An element that names a node.
fn of_node(name: &str, node: &str) -> Element {
    Element::new(ns::PUBSUB, name).with_attr("node", node)
}

#[cfg(test)]
mod tests;
