//! Signing in, messages, contacts, blocking, carbons, the own archive.

use super::peer::{DOMAIN, Peer};
use super::stage::{Outcome, find, find_im};
use std::sync::Arc;
use xmpp_client::ext::blocking::{self, Change};
use xmpp_client::ext::carbons::{self, Direction};
use xmpp_client::ext::disco as discovery;
use xmpp_client::ext::mam::{self, Bounds, Query};
use xmpp_client::ext::ping::{self as pinging, Outcome as Pinged};
use xmpp_client::{Events, ImEvent, Jid, Kind, Stanza, Subscription, Ty, XmppClient, XmppProtocol};

fn server() -> Jid {
    Jid::parse(DOMAIN).expect("an address")
}

/// Waits for the body of a message; others are passed over.
pub(crate) async fn body(events: &mut Events, wanted: &str) {
    find(wanted, events, |stanza| {
        let is_live = stanza.kind == Kind::Message && !mam::is_result(stanza);
        (is_live && stanza.body().as_deref() == Some(wanted)).then_some(())
    })
    .await;
}

pub(crate) async fn say(client: &XmppClient, to: &Jid, text: &str) {
    let message = Stanza::chat(to.as_str(), text).expect("an address");
    client
        .send_stanza(message)
        .await
        .expect("the stream is open");
}

pub(crate) async fn sign_in(peer: Arc<Peer>) -> Outcome {
    let account = peer.account().await;
    let by_starttls = peer.client(&account, "one").await;
    assert_eq!(by_starttls.jid().as_jid().to_bare(), account.jid);
    let address = peer.place.address_tls.expect("a port").to_string();
    let by_tls = peer.builder(&account, "two").connect_to(&address);
    let by_tls = by_tls.direct_tls().connect().await.expect("direct TLS");
    assert_eq!(by_tls.jid().as_jid().to_bare(), account.jid);
    let wrong = peer.builder(&account, "three").password("a guess");
    let error = wrong.connect().await.expect_err("the wrong password");
    assert_eq!(error.step(), xmpp_client::Step::Authentication, "{error}");
    by_tls.disconnect().await.expect("an end in order");
    by_starttls.disconnect().await.expect("an end in order");
    Outcome::Done
}

pub(crate) async fn ping(peer: Arc<Peer>) -> Outcome {
    let ann = peer.online("ping").await;
    for to in [None, Some(server())] {
        let pinged = pinging::ping(&ann, to.as_ref()).await.expect("an outcome");
        assert!(matches!(pinged, Pinged::Pong { .. }), "{pinged:?}");
    }
    let nobody = Jid::parse("nobody@localhost/x").expect("an address");
    let pinged = pinging::ping(&ann, Some(&nobody))
        .await
        .expect("an outcome");
    assert!(!matches!(pinged, Pinged::Pong { .. }), "{pinged:?}");
    Outcome::Done
}

pub(crate) async fn disco(peer: Arc<Peer>) -> Outcome {
    let ann = peer.online("disco").await;
    let info = discovery::info(&ann, &server(), None).await.expect("info");
    assert!(info.is("server", "im"), "{info:?}");
    let own = ann.jid().as_jid().to_bare();
    let info = discovery::info(&ann, own.as_jid(), None)
        .await
        .expect("info");
    assert!(!info.identities.is_empty(), "{info:?}");
    discovery::items(&ann, &server(), None)
        .await
        .expect("items");
    Outcome::Done
}

pub(crate) async fn chat(peer: Arc<Peer>) -> Outcome {
    let (ann, ben) = (peer.online("chat").await, peer.online("chat").await);
    let mut heard = (ann.events(), ben.events());
    say(&ann, ben.jid().as_jid(), "hello <ben> & others").await;
    body(&mut heard.1, "hello <ben> & others").await;
    say(&ben, ann.jid().as_jid(), "hello ann \u{1f642}").await;
    body(&mut heard.0, "hello ann \u{1f642}").await;
    Outcome::Done
}

pub(crate) async fn roster_and_presence(peer: Arc<Peer>) -> Outcome {
    let accounts = [peer.account().await, peer.account().await];
    let ann = XmppProtocol::new(&peer.client(&accounts[0], "roster").await);
    let ben = XmppProtocol::new(&peer.client(&accounts[1], "roster").await);
    let (ann_jid, ben_jid) = (accounts[0].jid.clone(), accounts[1].jid.clone());
    let (mut ann_heard, mut ben_heard) = (ann.events(), ben.events());
    ann.go_online().await.expect("the stream is open");
    ben.go_online().await.expect("the stream is open");
    ann.set_contact(&ben_jid, Some("Ben"), &["Friends"])
        .await
        .expect("a contact");
    find_im("a push", &mut ann_heard, |event| match event {
        ImEvent::RosterChanged(contact) => (contact.jid == ben_jid).then_some(()),
        _ => None,
    })
    .await;
    ann.subscribe(&ben_jid, None).await.expect("open");
    find_im("a request", &mut ben_heard, |event| match event {
        ImEvent::SubscriptionRequest { from, .. } => (*from == ann_jid).then_some(()),
        _ => None,
    })
    .await;
    ben.approve(&ann_jid).await.expect("open");
    // The push and the presence come in either order.
    let (mut is_pushed, mut is_seen) = (false, false);
    find_im("Ben's presence and a push", &mut ann_heard, |event| {
        match event {
            ImEvent::Presence(presence) => is_seen |= presence.from.to_bare() == ben_jid,
            ImEvent::RosterChanged(contact) => {
                is_pushed |= contact.jid == ben_jid && contact.subscription == Subscription::To;
            }
            _ => {}
        }
        (is_pushed && is_seen).then_some(())
    })
    .await;
    ann.load_roster().await.expect("a roster");
    let contact = ann.contact(&ben_jid).expect("a contact");
    assert_eq!(contact.subscription, Subscription::To);
    assert_eq!(contact.name.as_deref(), Some("Ben"));
    assert_eq!(contact.groups, ["Friends"]);
    ann.remove_contact(&ben_jid).await.expect("removed");
    find_im("a push", &mut ann_heard, |event| match event {
        ImEvent::RosterRemoved(jid) => (*jid == ben_jid).then_some(()),
        _ => None,
    })
    .await;
    Outcome::Done
}

pub(crate) async fn blocking(peer: Arc<Peer>) -> Outcome {
    let account = peer.account().await;
    let ann = peer.client(&account, "one").await;
    let features = discovery::info(&ann, &server(), None).await.expect("info");
    if !features.has("urn:xmpp:blocking") {
        return Outcome::NotOffered;
    }
    let other = peer.client(&account, "two").await;
    for client in [&ann, &other] {
        let online = client.send_stanza(Stanza::presence(Ty::None)).await;
        online.expect("the stream is open");
        assert_eq!(blocking::list(client).await.expect("a list"), []);
    }
    let ben = peer.online("blocked").await;
    let ben_jid = ben.jid().as_jid().to_bare().into_jid();
    let (mut heard, mut heard_by_ben) = (other.events(), ben.events());
    let push = |own: &XmppClient, stanza: &Stanza| {
        blocking::read_push(&own.jid(), stanza).expect("genuine")
    };

    blocking::block(&ann, std::slice::from_ref(&ben_jid))
        .await
        .expect("blocked");
    let change = find("a push", &mut heard, |stanza| push(&other, stanza)).await;
    assert_eq!(change, Change::Blocked(vec![ben_jid.clone()]));
    assert_eq!(
        blocking::list(&other).await.expect("a list"),
        std::slice::from_ref(&ben_jid)
    );
    // To the bare JID: what goes to a device that is online Prosody drops without a word.
    say(&ben, account.jid.as_jid(), "can you hear me?").await;
    find("a refusal", &mut heard_by_ben, |stanza| {
        (stanza.kind == Kind::Message && stanza.head.ty == Ty::Error).then_some(())
    })
    .await;

    blocking::unblock(&ann, std::slice::from_ref(&ben_jid))
        .await
        .expect("unblocked");
    let change = find("a push", &mut heard, |stanza| push(&other, stanza)).await;
    assert_eq!(change, Change::Unblocked(vec![ben_jid]));
    let mut heard_by_ann = ann.events();
    say(&ben, ann.jid().as_jid(), "and now?").await;
    body(&mut heard_by_ann, "and now?").await;
    Outcome::Done
}

pub(crate) async fn carbons(peer: Arc<Peer>) -> Outcome {
    let account = peer.account().await;
    let one = peer.client(&account, "one").await;
    let features = discovery::info(&one, &server(), None).await.expect("info");
    if !features.has("urn:xmpp:carbons:2") {
        return Outcome::NotOffered;
    }
    let two = peer.client(&account, "two").await;
    for client in [&one, &two] {
        let online = client.send_stanza(Stanza::presence(Ty::None)).await;
        online.expect("the stream is open");
        carbons::enable(client).await.expect("enabled");
    }
    let ben = peer.online("carbons").await;
    let (mut heard, mut heard_by_ben) = (two.events(), ben.events());
    let carbon = |text: &'static str| {
        let own = two.jid();
        move |stanza: &Stanza| {
            let carbon = carbons::read(&own, stanza).expect("genuine")?;
            (carbon.message.body().as_deref() == Some(text)).then_some(carbon.direction)
        }
    };
    say(&one, ben.jid().as_jid(), "from one").await;
    body(&mut heard_by_ben, "from one").await;
    let direction = find("a carbon", &mut heard, carbon("from one")).await;
    assert_eq!(direction, Direction::Sent);
    say(&ben, one.jid().as_jid(), "to one").await;
    let direction = find("a carbon", &mut heard, carbon("to one")).await;
    assert_eq!(direction, Direction::Received);

    // What is private is not copied: the next that is not comes first.
    let private = Stanza::chat(ben.jid().as_jid().as_str(), "private").expect("an address");
    one.send_stanza(carbons::private(private))
        .await
        .expect("open");
    say(&one, ben.jid().as_jid(), "public").await;
    let next = find("a carbon", &mut heard, |stanza| {
        let carbon = carbons::read(&two.jid(), stanza).expect("genuine")?;
        carbon.message.body()
    })
    .await;
    assert_eq!(next, "public");
    carbons::disable(&two).await.expect("disabled");
    Outcome::Done
}

pub(crate) async fn archive(peer: Arc<Peer>) -> Outcome {
    let (ann, ben) = (peer.online("mam").await, peer.online("mam").await);
    let support = mam::support(&ann, None).await.expect("support");
    if !support.archive {
        return Outcome::NotOffered;
    }
    let mut heard = ben.events();
    let texts = ["m1", "m2", "m3", "m4", "m5"];
    for text in texts {
        say(&ann, ben.jid().as_jid(), text).await;
        body(&mut heard, text).await;
    }
    let query = Query {
        with: Some(ben.jid().as_jid().to_bare().into_jid()),
        ..Query::default()
    };
    let bounds = Bounds {
        page: 2,
        total: 100,
    };
    let mut pages = mam::pages(&ann, None, query, bounds).await.expect("pages");
    let mut found = Vec::new();
    while let Some(page) = pages.next().await.expect("a page") {
        assert!(page.messages.len() <= 2);
        found.extend(page.messages);
    }
    let bodies: Vec<String> = found.iter().filter_map(|one| one.message.body()).collect();
    assert_eq!(bodies, texts);
    assert!(found.iter().all(|one| one.stamp.is_some()));
    assert!(!pages.is_cut());

    if support.by_id {
        let query = Query {
            after_id: Some(found[2].id.clone()),
            ..Query::default()
        };
        let mut pages = mam::pages(&ann, None, query, Bounds::default())
            .await
            .expect("pages");
        let page = pages.next().await.expect("a page").expect("a page");
        let bodies: Vec<String> = page
            .messages
            .iter()
            .filter_map(|one| one.message.body())
            .collect();
        assert_eq!(bodies, texts[3..]);
    }
    mam::preferences(&ann).await.expect("preferences");
    Outcome::Done
}
