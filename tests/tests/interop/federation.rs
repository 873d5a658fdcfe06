//! Our server and another make's as two domains: what their people can do with each other, for each
//! way in which the servers prove who they are.

#[path = "federation/config.rs"]
mod config;
#[path = "federation/cuts.rs"]
pub(crate) mod cuts;
#[path = "federation/ways.rs"]
pub(crate) mod ways;
#[path = "federation/world.rs"]
mod world;

use super::messages::{body, say};
use super::rooms::{enter, hear, said};
use super::stage::{Outcome, find, find_im, soon};
use std::sync::Arc;
use std::time::Duration;
use xmpp_client::ext::disco;
use xmpp_client::ext::muc::{self, Departure, RoomEvent};
use xmpp_client::ext::ping::{self as pinging, Outcome as Pinged};
use xmpp_client::{
    BareJid, ImEvent, ImEvents, Jid, Stanza, StanzaCondition, Subscription, VCard, XmppProtocol,
};

use world::Side;
pub(crate) use world::{Make, Options, Proof, World};

pub(crate) async fn chat(world: Arc<World>) -> Outcome {
    let (ann, ben) = (world.ours.online().await, world.theirs.online().await);
    let mut heard = (ann.events(), ben.events());
    say(&ann, ben.jid().as_jid(), "hello <ben> & others").await;
    body(&mut heard.1, "hello <ben> & others").await;
    say(&ben, ann.jid().as_jid(), "hello ann \u{1f642}").await;
    body(&mut heard.0, "hello ann \u{1f642}").await;
    // In order, and each once.
    let texts: Vec<String> = (0..50).map(|number| format!("number {number}")).collect();
    for text in &texts {
        say(&ann, ben.jid().as_jid().to_bare().as_jid(), text).await;
    }
    let mut got = Vec::new();
    while got.len() < texts.len() {
        let body = |stanza: &Stanza| stanza.body();
        got.push(find("the next one", &mut heard.1, body).await);
    }
    assert_eq!(got, texts);
    Outcome::Done
}

/// ejabberd does not believe a certificate that is for servers only; whoever wrote learns that.
pub(crate) async fn refused_for_its_purpose(world: Arc<World>) -> Outcome {
    let (ann, ben) = (world.ours.online().await, world.theirs.online().await);
    let mut heard = ann.events();
    say(&ann, ben.jid().as_jid(), "hello").await;
    let error = find("an error", &mut heard, |stanza| stanza.error()).await;
    let text = error.text.as_deref().unwrap_or_default();
    assert!(
        text.contains("unsupported certificate purpose"),
        "{error:?}"
    );
    let links = world.links();
    let is_told = |link: &String| link.contains("unsupported certificate purpose");
    assert!(links.iter().any(is_told), "{links:?}");
    for link in links {
        println!("{link}");
    }
    Outcome::Done
}

pub(crate) async fn first_word_is_theirs(world: Arc<World>) -> Outcome {
    let (ann, ben) = (world.ours.online().await, world.theirs.online().await);
    let mut heard = ann.events();
    say(&ben, ann.jid().as_jid(), "the first word").await;
    body(&mut heard, "the first word").await;
    Outcome::Done
}

/// The next change of somebody's presence: available or not.
async fn sees(events: &mut ImEvents, whom: &BareJid) -> bool {
    find_im("presence", events, |event| match event {
        ImEvent::Presence(presence) if presence.from.to_bare() == *whom => {
            Some(presence.is_available)
        }
        _ => None,
    })
    .await
}

async fn befriends(asks: (&XmppProtocol, &mut ImEvents), asked: (&XmppProtocol, &mut ImEvents)) {
    let (asks_jid, asked_jid) = (
        asks.0.client().jid().to_bare(),
        asked.0.client().jid().to_bare(),
    );
    asks.0
        .subscribe(&asked_jid, Some("it is me"))
        .await
        .expect("open");
    find_im("a request", asked.1, |event| match event {
        ImEvent::SubscriptionRequest { from, .. } => (*from == asks_jid).then_some(()),
        _ => None,
    })
    .await;
    asked.0.approve(&asks_jid).await.expect("open");
    // The push and the presence come in either order.
    let (mut is_pushed, mut is_seen) = (false, false);
    find_im("presence and a push", asks.1, |event| {
        match event {
            ImEvent::Presence(presence) => {
                is_seen |= presence.from.to_bare() == asked_jid && presence.is_available;
            }
            ImEvent::RosterChanged(contact) => {
                is_pushed |= contact.jid == asked_jid && contact.subscription.is_to();
            }
            _ => {}
        }
        (is_pushed && is_seen).then_some(())
    })
    .await;
}

pub(crate) async fn subscription_and_presence(world: Arc<World>) -> Outcome {
    let (ann, ben) = (
        XmppProtocol::new(&world.ours.client().await),
        XmppProtocol::new(&world.theirs.client().await),
    );
    let (mut ann_heard, mut ben_heard) = (ann.events(), ben.events());
    let (ann_jid, ben_jid) = (ann.client().jid().to_bare(), ben.client().jid().to_bare());
    ann.go_online().await.expect("open");
    ben.go_online().await.expect("open");
    befriends((&ann, &mut ann_heard), (&ben, &mut ben_heard)).await;
    befriends((&ben, &mut ben_heard), (&ann, &mut ann_heard)).await;
    for (im, other) in [(&ann, &ben_jid), (&ben, &ann_jid)] {
        im.load_roster().await.expect("a roster");
        let contact = im.contact(other).expect("a contact");
        assert_eq!(contact.subscription, Subscription::Both);
    }
    // Each comes and goes; who comes learns who is there: a probe.
    ben.go_offline("bye").await.expect("open");
    while sees(&mut ann_heard, &ben_jid).await {}
    ben.go_online().await.expect("open");
    assert!(sees(&mut ann_heard, &ben_jid).await);
    while !sees(&mut ben_heard, &ann_jid).await {}
    ann.go_offline("bye").await.expect("open");
    while sees(&mut ben_heard, &ann_jid).await {}
    ann.go_online().await.expect("open");
    while !sees(&mut ben_heard, &ann_jid).await {}
    while !sees(&mut ann_heard, &ben_jid).await {}
    ann.remove_contact(&ben_jid).await.expect("removed");
    find_im("the end of it", &mut ben_heard, |event| match event {
        ImEvent::RosterChanged(contact) if contact.jid == ann_jid => {
            (contact.subscription == Subscription::None).then_some(())
        }
        _ => None,
    })
    .await;
    Outcome::Done
}

pub(crate) async fn requests(world: Arc<World>) -> Outcome {
    for (asks, asked) in [(&world.ours, &world.theirs), (&world.theirs, &world.ours)] {
        let (one, other) = (asks.online().await, asked.online().await);
        let pinged = pinging::ping(&one, Some(&asked.domain())).await;
        assert!(matches!(pinged, Ok(Pinged::Pong { .. })), "{pinged:?}");
        let info = disco::info(&one, &asked.domain(), None).await;
        let info = info.expect("info");
        assert!(info.is("server", "im"), "{info:?}");
        vcard(&XmppProtocol::new(&one), &XmppProtocol::new(&other)).await;
        is_refused(asks, asked).await;
    }
    Outcome::Done
}

async fn vcard(one: &XmppProtocol, other: &XmppProtocol) {
    let card = VCard::default().with(&["FN"], "Somebody \u{c4}");
    other.set_vcard(&card).await.expect("set");
    let of = other.client().jid().to_bare();
    let seen = one.vcard(Some(&of)).await.expect("an answer");
    let name = seen.expect("a card").full_name();
    assert_eq!(name.as_deref(), Some("Somebody \u{c4}"));
}

/// A message to nobody comes back.
async fn is_refused(from: &Side, to: &Side) {
    let sender = from.online().await;
    let mut heard = sender.events();
    let nobody = format!("nobody@{}", to.domain().as_str());
    say(&sender, &Jid::parse(&nobody).expect("an address"), "hello").await;
    let error = find("an error", &mut heard, |stanza| stanza.error()).await;
    assert_eq!(error.condition, StanzaCondition::ServiceUnavailable);
}

/// A room of theirs, joined and left by somebody of ours.
pub(crate) async fn room(world: Arc<World>) -> Outcome {
    let (ann, ben) = (world.ours.online().await, world.theirs.online().await);
    let room = BareJid::parse(&format!("room@{}", world.rooms)).expect("an address");
    let (mut ann_heard, mut ben_heard) = (ann.events(), ben.events());
    let at_ben = enter(&ben, &room, "ben").await;
    let at_ann = enter(&ann, &room, "ann").await;
    assert!(at_ann.others.iter().any(|other| &*other.nick == "ben"));
    for (client, text) in [(&ann, "from ours"), (&ben, "from theirs")] {
        muc::send(client, &room, text).await.expect("open");
        hear("a message", &mut ann_heard, &at_ann.occupant, said(text)).await;
        hear("a message", &mut ben_heard, &at_ben.occupant, said(text)).await;
    }
    muc::leave(&ann, &at_ann.occupant, Some("bye"))
        .await
        .expect("left");
    let gone = hear(
        "the leaving",
        &mut ben_heard,
        &at_ben.occupant,
        |event| match event {
            RoomEvent::Absent { occupant, why, .. } if &*occupant.nick == "ann" => Some(why),
            _ => None,
        },
    );
    assert_eq!(gone.await, Departure::Left);
    Outcome::Done
}

/// What our server says of the links: one each way, proven as it should.
pub(crate) async fn links(world: Arc<World>) -> Outcome {
    let [ours, theirs] = world.proofs();
    let is_there = |links: &[String], arrow: &str, proof: &str| {
        let pair = format!("ours.test {arrow} {}\tup\t", world.theirs.domain().as_str());
        let mut found = links.iter().filter(|link| link.starts_with(&pair));
        found.any(|link| link.contains(&format!("\t{proof}\t")))
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let found = soon("links", async {
        loop {
            let links = world.links();
            if is_there(&links, "->", ours) && is_there(&links, "<-", theirs) {
                return links;
            }
            ticks.tick().await;
        }
    });
    for link in found.await {
        println!("{link}");
    }
    Outcome::Done
}
