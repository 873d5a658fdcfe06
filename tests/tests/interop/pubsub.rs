//! Publish-subscribe at the account and at a service, bookmarks, a slot for a file.

use super::peer::{Account, Peer};
use super::stage::{Outcome, find};
use std::sync::Arc;
use xmpp_client::ext::bookmarks::{self as marks, Bookmark, BookmarkChange};
use xmpp_client::ext::pubsub::{self, Change, Options as NodeOptions, SubscriptionState, Which};
use xmpp_client::ext::upload::{self, File, UploadError};
use xmpp_client::ext::{disco, pep, ping};
use xmpp_client::{BareJid, Element, Kind, Options, Stanza, Ty, XmppClient, XmppProtocol};

/// The account offers personal events.
async fn has_events(client: &XmppClient) -> bool {
    let own = client.jid().as_jid().to_bare();
    let info = disco::info(client, own.as_jid(), None).await.expect("info");
    info.is("pubsub", "pep")
}

/// A device that wants to be told of these nodes.
async fn device(peer: &Peer, account: &Account, resource: &str, nodes: &[&str]) -> XmppProtocol {
    let client = peer.client(account, resource).await;
    let options = Options {
        features: nodes.iter().map(|node| format!("{node}+notify")).collect(),
        ..Options::default()
    };
    let mut heard = client.events();
    let im = XmppProtocol::with(&client, options);
    im.go_online().await.expect("the stream is open");
    // The server asks what the device wants; what comes after the answer finds it known.
    find("a question", &mut heard, |stanza| {
        let is_get = stanza.kind == Kind::Iq && stanza.head.ty == Ty::Get;
        let asked = stanza.first_element()?;
        (is_get && asked.ns() == "http://jabber.org/protocol/disco#info").then_some(())
    })
    .await;
    let server = client.jid().as_jid().to_bare();
    ping::ping(&client, Some(server.as_jid()))
        .await
        .expect("an answer");
    im
}

/// ejabberd 23.01 tells the account's own devices what was published, but not what was retracted.
fn tells_of_retractions(peer: &Peer) -> bool {
    peer.name != "ejabberd"
}

const NODE: &str = "urn:example:mood";

fn mood(text: &str) -> Element {
    Element::new(NODE, "mood").with_text(text)
}

pub(crate) async fn personal_events(peer: Arc<Peer>) -> Outcome {
    let account = peer.account().await;
    let ann = peer.client(&account, "one").await;
    if !has_events(&ann).await {
        return Outcome::NotOffered;
    }
    let other = device(&peer, &account, "two", &[NODE]).await;
    let mut heard = other.client().events();
    let own = other.client().jid();
    let notified = |stanza: &Stanza| {
        let (whose, found) = pep::read(&own, stanza)?;
        assert_eq!(whose, account.jid);
        (found.node == NODE).then_some(found.change)
    };

    let private = NodeOptions::private();
    let id = pep::publish(&ann, NODE, Some("now"), mood("glad"), Some(&private)).await;
    assert_eq!(id.expect("published").as_deref(), Some("now"));
    let Change::Published(items) = find("a notification", &mut heard, notified).await else {
        panic!("another change");
    };
    assert_eq!(items[0].id.as_deref(), Some("now"));
    let payload = items[0].payload.as_ref().expect("a payload");
    assert_eq!(payload.text(), "glad");

    let items = pep::items(&ann, None, NODE, Which::Newest(1)).await;
    let items = items.expect("items").items;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].payload.as_ref().expect("a payload").text(), "glad");
    let items = pep::items(&ann, Some(&account.jid), NODE, Which::Ids(&["now"])).await;
    assert_eq!(items.expect("items").items.len(), 1);

    // Nobody else may read it.
    let eve = peer.online("eve").await;
    let refused = pep::items(&eve, Some(&account.jid), NODE, Which::All).await;
    assert!(refused.is_err(), "{refused:?}");

    pep::retract(&ann, NODE, "now").await.expect("retracted");
    let left = pep::items(&ann, None, NODE, Which::All).await;
    assert_eq!(left.expect("items").items, []);
    if tells_of_retractions(&peer) {
        let gone = Change::Retracted(vec!["now".into()]);
        find("a retraction", &mut heard, |stanza| {
            (notified(stanza)? == gone).then_some(())
        })
        .await;
    }
    pep::delete_node(&ann, NODE).await.expect("deleted");
    Outcome::Done
}

pub(crate) async fn service(peer: Arc<Peer>) -> Outcome {
    let (ann, ben) = (peer.online("pubsub").await, peer.online("pubsub").await);
    let services = disco::services(&ann, "http://jabber.org/protocol/pubsub").await;
    let services = services.expect("disco");
    let service = services
        .into_iter()
        .find(|(_, info)| info.is("pubsub", "service"));
    let Some((service, _)) = service else {
        return Outcome::NotOffered;
    };
    let at = Some(&service);
    let created = pubsub::create(&ann, at, "news", None).await;
    if let Err(error) = &created {
        // Prosody lets only its operators make nodes.
        println!("{}: no nodes for users: {error}", peer.name);
        return Outcome::NotOffered;
    }
    assert!(pubsub::create(&ann, at, "news", None).await.is_err());
    let mut heard = ben.events();
    let subscription = pubsub::subscribe(&ben, at, "news")
        .await
        .expect("subscribed");
    assert_eq!(subscription.state, SubscriptionState::Subscribed);
    let all = pubsub::subscriptions(&ben, at).await.expect("a list");
    assert!(
        all.iter().any(|one| one.node.as_deref() == Some("news")),
        "{all:?}"
    );
    let notified = |stanza: &Stanza| pubsub::read(&service, stanza).map(|found| found.change);

    pubsub::publish(&ann, at, "news", Some("1"), Some(mood("new")), None)
        .await
        .expect("published");
    let change = find("a notification", &mut heard, notified).await;
    let Change::Published(items) = change else {
        panic!("{change:?}");
    };
    assert_eq!(items[0].id.as_deref(), Some("1"));
    let items = pubsub::items(&ben, at, "news", Which::All)
        .await
        .expect("items");
    assert_eq!(items.items.len(), 1);
    pubsub::config(&ann, at, "news").await.expect("a form");
    pubsub::retract(&ann, at, "news", "1", true)
        .await
        .expect("retracted");
    let change = find("a notification", &mut heard, notified).await;
    assert_eq!(change, Change::Retracted(vec!["1".into()]));
    pubsub::unsubscribe(&ben, at, "news", subscription.id.as_deref())
        .await
        .expect("unsubscribed");
    pubsub::delete_node(&ann, at, "news")
        .await
        .expect("deleted");
    Outcome::Done
}

pub(crate) async fn bookmarks(peer: Arc<Peer>) -> Outcome {
    let account = peer.account().await;
    let ann = peer.client(&account, "one").await;
    if !has_events(&ann).await {
        return Outcome::NotOffered;
    }
    let other = device(&peer, &account, "two", &["urn:xmpp:bookmarks:1"]).await;
    let mut heard = other.client().events();
    let own = other.client().jid();
    let changed = |stanza: &Stanza| marks::read(&own, stanza).expect("genuine");
    assert_eq!(marks::list(&ann).await.expect("a list"), []);

    let room = |number: u8| {
        BareJid::parse(&format!("room{number}@conference.localhost")).expect("an address")
    };
    let mut first = Bookmark {
        name: Some("One".into()),
        autojoin: true,
        nick: Some("ann".into()),
        extensions: vec![Element::new("urn:example:x", "kept").with_text("as it is")],
        ..Bookmark::new(room(1))
    };
    let second = Bookmark::new(room(2));
    marks::set(&ann, &first).await.expect("set");
    let change = find("a bookmark", &mut heard, changed).await;
    assert_eq!(change, BookmarkChange::Set(vec![first.clone()]));
    marks::set(&ann, &second).await.expect("set");
    let mut all = marks::list(&ann).await.expect("a list");
    all.sort_by(|a, b| a.room.as_jid().as_str().cmp(b.room.as_jid().as_str()));
    assert_eq!(all, [first.clone(), second]);
    first = all.remove(0);
    first.autojoin = false;
    marks::set(&ann, &first).await.expect("set");
    let read = marks::list(other.client()).await.expect("a list");
    assert!(read.contains(&first), "{read:?}");

    marks::remove(&ann, &room(1)).await.expect("removed");
    if tells_of_retractions(&peer) {
        find("a removal", &mut heard, |stanza| {
            let gone = BookmarkChange::Removed(vec![room(1)]);
            (changed(stanza)? == gone).then_some(())
        })
        .await;
    }
    assert_eq!(marks::list(&ann).await.expect("a list").len(), 1);
    marks::remove(&ann, &room(1))
        .await
        .expect("nothing to remove");

    let eve = peer.online("eve").await;
    let node = "urn:xmpp:bookmarks:1";
    let refused = pep::items(&eve, Some(&account.jid), node, Which::All).await;
    assert!(refused.is_err(), "{refused:?}");
    Outcome::Done
}

pub(crate) async fn upload_slot(peer: Arc<Peer>) -> Outcome {
    let ann = peer.online("upload").await;
    let services = upload::services(&ann).await.expect("disco");
    let Some(service) = services.into_iter().next() else {
        return Outcome::NotOffered;
    };
    let max = service.file_size_max.expect("a largest size");
    let file = |size| File {
        name: "cat.png",
        size,
        content_type: Some("image/png"),
    };
    let slot = upload::slot(&ann, &service.jid, &file(1000))
        .await
        .expect("a slot");
    assert!(slot.put.starts_with("https://"), "{slot:?}");
    assert!(slot.get.starts_with("https://"), "{slot:?}");
    let refused = upload::slot(&ann, &service.jid, &file(max + 1)).await;
    assert!(
        matches!(refused, Err(UploadError::TooLarge(_))),
        "{refused:?}"
    );
    Outcome::Done
}
