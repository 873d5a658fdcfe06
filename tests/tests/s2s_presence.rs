//! RFC 6121 across domains: subscriptions both ways, probes, availability and its end.

use xmpp_testkit::{Federated, Wire};

async fn two() -> (Federated, Wire, Wire) {
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    ann.roster_get().await;
    ben.roster_get().await;
    (all, ann, ben)
}

/// Both see each other, and have seen it.
async fn befriend(ann: &mut Wire, ben: &mut Wire) {
    ann.send("<presence to='ben@b.test' type='subscribe' id='s1'/>")
        .await;
    ann.next_of("iq").await;
    let asked = ben.next_of("presence").await;
    assert_eq!(asked.attr("type"), Some("subscribe"), "{asked}");
    assert_eq!(asked.attr("from"), Some("ann@a.test"), "{asked}");
    ben.send("<presence to='ann@a.test' type='subscribed' id='s2'/>")
        .await;
    ben.send("<presence to='ann@a.test' type='subscribe' id='s3'/>")
        .await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let stanza = ann.next_of("presence").await;
        seen.push(stanza.attr("type").unwrap_or("available").to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["available", "subscribe", "subscribed"]);
    ann.send("<presence to='ben@b.test' type='subscribed' id='s4'/>")
        .await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let stanza = ben.next_of("presence").await;
        seen.push(stanza.attr("type").unwrap_or("available").to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["available", "subscribed"]);
}

#[tokio::test]
async fn c6121_su_subscriptions_go_both_ways() {
    let (_all, mut ann, mut ben) = two().await;
    befriend(&mut ann, &mut ben).await;
    ann.barrier_among_others().await;
    let roster = ann.roster_get_among_others().await.to_string();
    assert!(roster.contains("subscription='both'"), "{roster}");
    let roster = ben.roster_get_among_others().await.to_string();
    assert!(roster.contains("subscription='both'"), "{roster}");
}

#[tokio::test]
async fn c6121_pr_03_probes_are_answered_and_the_end_is_told() {
    let (all, mut ann, mut ben) = two().await;
    befriend(&mut ann, &mut ben).await;
    // A second resource learns by a probe what the first one knows.
    let mut more = all.online("ann@a.test/z").await;
    while more.next_of("presence").await.attr("from") != Some("ben@b.test/y") {}
    // The broadcast and the end.
    let away = "<presence><show>away</show></presence>";
    ben.send(away).await;
    let shown = until_from(&mut ann, "ben@b.test/y", "away").await;
    assert!(shown.contains("away"), "{shown}");
    drop(ben);
    let gone = until_from(&mut ann, "ben@b.test/y", "unavailable").await;
    assert!(gone.contains("unavailable"), "{gone}");
}

async fn until_from(wire: &mut Wire, from: &str, what: &str) -> String {
    loop {
        let shown = wire.next_of("presence").await;
        let text = shown.to_string();
        if shown.attr("from") == Some(from) && text.contains(what) {
            return text;
        }
    }
}

#[tokio::test]
async fn c6121_pr_11_directed_presence_and_its_end() {
    let (_all, mut ann, mut ben) = two().await;
    ann.send("<presence to='ben@b.test/y'><status>here</status></presence>")
        .await;
    until_from(&mut ben, "ann@a.test/x", "here").await;
    drop(ann);
    until_from(&mut ben, "ann@a.test/x", "unavailable").await;
}

/// A server that goes down in order tells that its users are gone.
#[tokio::test]
async fn c6121_pr_06_the_end_of_a_server_is_told() {
    let (mut all, mut ann, mut ben) = two().await;
    befriend(&mut ann, &mut ben).await;
    all.stop("b.test").await;
    until_from(&mut ann, "ben@b.test/y", "unavailable").await;
}

/// What strangers are told across a link is what they are told here.
#[tokio::test]
async fn c6121_de_strangers_learn_nothing_across() {
    let (_all, mut ann, _ben) = two().await;
    let ask = async |wire: &mut Wire, to: &str, payload: &str| {
        let answer = ask_by(wire, "get", to, payload).await;
        let error = answer.child("error").expect("an error").to_string();
        error.replace("nobody@b.test", "ben@b.test")
    };
    let last = "<query xmlns='jabber:iq:last'/>";
    let known = ask(&mut ann, "ben@b.test", last).await;
    assert_eq!(known, ask(&mut ann, "nobody@b.test", last).await);
    assert!(known.contains("forbidden"), "{known}");
    let vcard = "<vCard xmlns='vcard-temp'/>";
    let known = ask(&mut ann, "ben@b.test", vcard).await;
    assert_eq!(known, ask(&mut ann, "nobody@b.test", vcard).await);
    let full = ask(&mut ann, "ben@b.test/none", last).await;
    assert!(
        full.contains("forbidden") || full.contains("service-unavailable"),
        "{full}"
    );
    // A set to another's account changes nothing, from wherever it comes.
    let item = "<query xmlns='jabber:iq:roster'><item jid='x@y.test'/></query>";
    let set = ask_by(&mut ann, "set", "ben@b.test", item).await;
    assert_eq!(set.attr("type"), Some("error"), "{set}");
    let query = "<query xmlns='jabber:iq:register'/>";
    let register = ask_by(&mut ann, "get", "b.test", query).await;
    assert_eq!(register.attr("type"), Some("error"), "{register}");
}

async fn ask_by(wire: &mut Wire, ty: &str, to: &str, payload: &str) -> xmpp_testkit::Tree {
    let id = wire.new_id();
    wire.send(format!(
        "<iq type='{ty}' to='{to}' id='{id}'>{payload}</iq>"
    ))
    .await;
    let answer = wire.next_of("iq").await;
    assert_eq!(answer.attr("id"), Some(&*id), "{answer}");
    answer
}

/// A probe of a stranger's tells nothing: its answer, `unsubscribed`, changes nothing either.
#[tokio::test]
async fn c6121_pr_19_probes_of_strangers() {
    let (_all, mut ann, _ben) = two().await;
    ann.send("<presence to='ben@b.test' type='probe' id='p1'/>")
        .await;
    let version = "<ping xmlns='urn:xmpp:ping'/>";
    // Behind the answer to the probe, as the link keeps the order.
    let pong = ask_by(&mut ann, "get", "b.test", version).await;
    assert_eq!(pong.attr("type"), Some("result"), "{pong}");
    ann.barrier().await;
}
