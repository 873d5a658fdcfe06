//! RFC 6121 sections 3 and 4 over the wire, row by row: what rfc6121_presence.rs does not play.

use xmpp_testkit::TestLab;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// Two contacts, subscribed both ways, with one session each.
async fn friends(lab: &TestLab) -> (Wire, Wire) {
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ann.befriend(&mut ben).await;
    (ann, ben)
}

/// A presence in short: who, and of which type.
fn short(tree: &Tree) -> String {
    assert_eq!(tree.name(), "presence", "{tree}");
    let ty = tree.attr("type").unwrap_or("available");
    format!("{} {ty}", tree.attr("from").unwrap_or_default())
}

/// All presence that has come, once everything is done.
async fn presences(wire: &mut Wire) -> Vec<String> {
    let seen = wire.barrier_seeing().await;
    let seen = seen.iter().filter(|tree| tree.name() == "presence");
    seen.map(short).collect()
}

#[tokio::test]
async fn c6121_su_05_an_unanswered_request_is_sent_again_at_login() {
    let lab = lab().await;
    lab.account("ben@a.test").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.send("<presence type='subscribe' to='ben@a.test' id='first'/>")
        .await;
    ann.barrier_among_others().await;
    ann.close().await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ben.presence("").await;
    assert_eq!(ben.next().await.attr("id"), Some("first"));
    let mut again = lab.wire("ann@a.test/two").await;
    again.send("<presence/>").await;
    again.barrier_among_others().await;
    // Still pending: the repetition is not shown a second time (table A.3.1) and asks for nothing new.
    assert_eq!(presences(&mut ben).await, Vec::<String>::new());
    let roster = again.roster_get().await;
    let item = roster.child("item").expect("an item");
    assert_eq!(item.attr("ask"), Some("subscribe"), "{roster}");
}

#[tokio::test]
async fn c6121_su_05_a_request_that_nobody_got_arrives_with_a_later_login() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.send("<presence type='subscribe' to='ben@a.test' id='first'/>")
        .await;
    ann.barrier_among_others().await;
    ann.close().await;
    // There was nobody of that name.
    let mut ben = lab.wire("ben@a.test/one").await;
    ben.presence("").await;
    assert_eq!(presences(&mut ben).await, Vec::<String>::new());
    let mut again = lab.wire("ann@a.test/two").await;
    // Bound is not yet there, and a second presence of the same session is no login.
    again.barrier_among_others().await;
    assert_eq!(presences(&mut ben).await, Vec::<String>::new());
    for sent in ["<presence/>", "<presence><show>away</show></presence>"] {
        again.send(sent).await;
        again.barrier_among_others().await;
    }
    let request = ben.next().await;
    assert_eq!(
        (request.attr("type"), request.attr("from")),
        (Some("subscribe"), Some("ann@a.test")),
        "{request}"
    );
    let id = request.attr("id").unwrap_or_default().to_owned();
    assert!(!id.is_empty() && id != "first", "{request}");
    assert_eq!(presences(&mut ben).await, Vec::<String>::new(), "once");
    // Answered: nothing is asked for any more.
    ben.send("<presence type='subscribed' to='ann@a.test'/>")
        .await;
    ben.barrier_among_others().await;
    again.barrier_among_others().await;
    again.close().await;
    presences(&mut ben).await;
    let mut last = lab.wire("ann@a.test/three").await;
    last.send("<presence/>").await;
    last.barrier_among_others().await;
    let seen = presences(&mut ben).await;
    assert!(
        !seen.iter().any(|line| line.contains("subscribe")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn c6121_su_09_a_request_is_kept_whole() {
    let lab = lab().await;
    lab.account("ben@a.test").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let inner = "<status>It is me</status><nick xmlns='http://jabber.org/protocol/nick'>Ann</nick>";
    ann.send(format!(
        "<presence type='subscribe' to='ben@a.test' id='q'>{inner}</presence>"
    ))
    .await;
    ann.barrier_among_others().await;
    for resource in ["one", "two"] {
        let mut ben = lab.wire(&format!("ben@a.test/{resource}")).await;
        ben.presence("").await;
        ben.expect(format!(
            "<presence type='subscribe' from='ann@a.test' to='ben@a.test' id='q' \
             xml:lang='{{any}}'>{inner}</presence>"
        ))
        .await;
        ben.send("<presence type='unavailable'/>").await;
        ben.barrier_among_others().await;
        ben.close().await;
    }
    // Answered: it does not come again.
    let mut ben = lab.wire("ben@a.test/three").await;
    ben.send("<presence type='unsubscribed' to='ann@a.test'/>")
        .await;
    ben.presence("").await;
    ben.barrier().await;
}

#[tokio::test]
async fn c6121_su_14_su_15_notices_are_delivered_then_pushed() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ben.send("<presence type='unsubscribed' to='ann@a.test'/>")
        .await;
    let seen = ann.until_push("from").await;
    let seen: Vec<_> = seen.iter().map(short).collect();
    assert_eq!(
        seen,
        ["ben@a.test/one unavailable", "ben@a.test unsubscribed"]
    );
    ben.barrier_among_others().await;
    // su-15: routed, then pushed.
    ben.send("<presence type='unsubscribe' to='ann@a.test'/>")
        .await;
    assert!(
        ben.until_push("none")
            .await
            .iter()
            .all(|tree| tree.name() != "iq")
    );
    let seen = ann.until_push("none").await;
    assert_eq!(
        seen.iter().map(short).collect::<Vec<_>>(),
        ["ben@a.test unsubscribe"]
    );
}

/// Reads up to a push of this subscription.
trait UntilPush {
    async fn until_push(&mut self, subscription: &str) -> Vec<Tree>;
}

impl UntilPush for Wire {
    async fn until_push(&mut self, subscription: &str) -> Vec<Tree> {
        let mut seen = Vec::new();
        loop {
            let tree = self.next().await;
            let item = tree.child("query").and_then(|query| query.child("item"));
            if let Some(item) = item {
                assert_eq!(item.attr("subscription"), Some(subscription), "{tree}");
                return seen;
            }
            seen.push(tree);
        }
    }
}

#[tokio::test]
async fn c6121_su_17_state_changes_while_nobody_is_online() {
    let lab = lab().await;
    let (ann, mut ben) = friends(&lab).await;
    ann.close().await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    for (verb, left) in [("unsubscribed", "from"), ("unsubscribe", "none")] {
        ben.send(format!("<presence type='{verb}' to='ann@a.test'/>"))
            .await;
        ben.barrier_among_others().await;
        let mut ann = lab.wire("ann@a.test/two").await;
        let roster = ann.roster_get().await;
        let item = roster.child("item").expect("an item");
        assert_eq!(item.attr("subscription"), Some(left), "{verb}");
        ann.close().await;
    }
}

#[tokio::test]
async fn c6121_su_22_kept_requests_are_bounded_in_number_and_size() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.pending_requests_max = 2;
        config.limits.pending_request_bytes_max = 600;
    });
    let lab = lab.await.expect("a server");
    lab.account("ben@a.test").await;
    let mut big = lab.wire("big@a.test/one").await;
    let status = "x".repeat(700);
    big.send(format!(
        "<presence type='subscribe' to='ben@a.test' id='b'><status>{status}</status></presence>"
    ))
    .await;
    assert_eq!(big.next().await.attr("type"), Some("error"));
    for name in ["one", "two", "three"] {
        let mut wire = lab.wire(&format!("{name}@a.test/r")).await;
        wire.send("<presence type='subscribe' to='ben@a.test'/>")
            .await;
        wire.barrier_among_others().await;
    }
    let mut ben = lab.wire("ben@a.test/one").await;
    ben.presence("").await;
    let kept = presences(&mut ben).await;
    assert_eq!(kept, ["one@a.test subscribe", "two@a.test subscribe"]);
}

#[tokio::test]
async fn c6121_pr_08_presence_after_unavailable_is_initial_again() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ben.send("<presence type='unavailable'/>").await;
    ben.barrier_among_others().await;
    ann.expect_presence_unavailable("ben@a.test/one").await;
    // While ben is away nothing reaches it; then it learns what is so now.
    ann.send("<presence id='now'><show>dnd</show></presence>")
        .await;
    ann.barrier_among_others().await;
    ben.barrier().await;
    let mut eve = lab.wire("eve@a.test/one").await;
    eve.send("<presence type='subscribe' to='ben@a.test'/>")
        .await;
    eve.barrier_among_others().await;
    ben.send("<presence/>").await;
    let seen = presences(&mut ben).await;
    assert!(
        seen.contains(&"ann@a.test/one available".to_owned()),
        "{seen:?}"
    );
    assert!(
        seen.contains(&"eve@a.test subscribe".to_owned()),
        "{seen:?}"
    );
    assert_eq!(short(&ann.next().await), "ben@a.test/one available");
}

#[tokio::test]
async fn c6121_pr_09_unavailable_has_neither_show_nor_priority() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ann.send(
        "<presence type='unavailable'><show>away</show><status>bye</status>\
         <priority>5</priority></presence>",
    )
    .await;
    ben.expect(
        "<presence type='unavailable' from='ann@a.test/one' to='ben@a.test' xml:lang='{any}'>\
         <status>bye</status></presence>",
    )
    .await;
}

#[tokio::test]
async fn c6121_pr_10_directed_presence_to_a_contact_changes_no_list() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ann.send("<presence to='ben@a.test' id='d'><show>xa</show></presence>")
        .await;
    let got = ben.next().await;
    assert_eq!(
        (got.attr("id"), got.attr("to")),
        (Some("d"), Some("ben@a.test"))
    );
    ann.send("<presence id='u'/>").await;
    assert_eq!(ben.next().await.attr("id"), Some("u"));
    ann.send("<presence type='unavailable' id='g'/>").await;
    assert_eq!(ben.next().await.attr("id"), Some("g"));
    ben.barrier().await;
}

#[tokio::test]
async fn c6121_pr_13_who_says_it_is_gone_is_not_told_of_our_end() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut room = lab.wire("room@a.test/nick").await;
    for (leaves, told) in [(true, false), (false, true)] {
        ann.presence("").await;
        ann.send("<presence to='room@a.test/nick'/>").await;
        assert_eq!(short(&room.next().await), "ann@a.test/one available");
        if leaves {
            room.send("<presence to='ann@a.test/one' type='unavailable'/>")
                .await;
            assert_eq!(short(&ann.next().await), "room@a.test/nick unavailable");
        }
        ann.send("<presence type='unavailable'/>").await;
        ann.barrier_among_others().await;
        assert_eq!(presences(&mut room).await.len(), usize::from(told));
    }
}

#[tokio::test]
async fn c6121_pr_14_a_subscription_counts_before_the_list() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    // On the list first, then a subscriber only by roster: told once.
    ann.send("<presence type='unavailable'/>").await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    ann.send("<presence to='ben@a.test'/><presence/>").await;
    assert_eq!(short(&ben.next().await), "ann@a.test/one available");
    assert_eq!(short(&ben.next().await), "ann@a.test/one available");
    ann.send("<presence type='unavailable'/>").await;
    ann.barrier_among_others().await;
    assert_eq!(presences(&mut ben).await, ["ann@a.test/one unavailable"]);
    // Losing sight ends the list too.
    ann.send("<presence/><presence to='ben@a.test/one'/>").await;
    ann.send("<presence type='unsubscribed' to='ben@a.test'/>")
        .await;
    ann.barrier_among_others().await;
    let seen = presences(&mut ben).await;
    let gone = seen.iter().filter(|seen| seen.ends_with("one unavailable"));
    assert_eq!(gone.count(), 1, "{seen:?}");
    ann.send("</stream:stream>").await;
    ann.expect_closed().await;
    ben.barrier().await;
}

#[tokio::test]
async fn c6121_pr_15_an_unknown_show_harms_nobody() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    for show in [
        "<show>lunch</show>",
        "<show/>",
        "<show>away</show><show>xa</show>",
    ] {
        ann.send(format!("<presence>{show}</presence>")).await;
        ben.expect(format!(
            "<presence from='ann@a.test/one' to='ben@a.test' xml:lang='{{any}}'>{show}</presence>"
        ))
        .await;
    }
}

#[tokio::test]
async fn c6121_pr_19_strangers_learn_nothing() {
    let lab = lab().await;
    let (mut ann, _ben) = friends(&lab).await;
    let mut eve = lab.wire("eve@a.test/one").await;
    eve.presence("").await;
    eve.send("<presence to='ann@a.test'/><presence type='probe' to='ann@a.test/one'/>")
        .await;
    eve.barrier().await;
    for payload in [
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        "<query xmlns='jabber:iq:last'/>",
        "<vCard xmlns='vcard-temp'/>",
        "<ping xmlns='urn:xmpp:ping'/>",
        "<query xmlns='jabber:iq:roster'/>",
        "<query xmlns='jabber:iq:private'><x xmlns='urn:t'/></query>",
    ] {
        let mut answers = Vec::new();
        for to in ["ann@a.test", "nobody@a.test"] {
            eve.send(format!("<iq type='get' id='x' to='{to}'>{payload}</iq>"))
                .await;
            let got = eve.next().await.to_string();
            answers.push(got.replace(to, "TO"));
        }
        assert_eq!(answers[0], answers[1], "{payload}");
    }
    assert_eq!(presences(&mut ann).await, ["eve@a.test/one available"]);
}

#[tokio::test]
async fn c6121_4_2_probes_to_resources_and_by_targets_of_directed_presence() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    let mut two = lab.wire("ann@a.test/two").await;
    two.send("<presence id='mine'><show>away</show></presence>")
        .await;
    two.barrier_among_others().await;
    assert_eq!(short(&ben.next().await), "ann@a.test/two available");
    // A bare JID: each resource's last presence, with its own id and all it said.
    ben.send("<presence type='probe' to='ann@a.test' id='p'/>")
        .await;
    let seen = ben.barrier_seeing().await;
    let mut from: Vec<_> = seen.iter().map(short).collect();
    from.sort();
    assert_eq!(
        from,
        ["ann@a.test/one available", "ann@a.test/two available"]
    );
    let said = seen.iter().find(|tree| tree.attr("id") == Some("mine"));
    assert!(
        said.is_some_and(|tree| tree.child("show").is_some()),
        "{seen:?}"
    );
    // A full JID: that resource, that it is there and nothing else.
    ben.send("<presence type='probe' to='ann@a.test/two' id='p'/>")
        .await;
    ben.expect("<presence from='ann@a.test/two' to='ben@a.test/one' id='p'/>")
        .await;
    ben.send("<presence type='probe' to='ann@a.test/none' id='p'/>")
        .await;
    assert_eq!(short(&ben.next().await), "ann@a.test/none unavailable");
    // A stranger who got directed presence: of that resource alone.
    let mut eve = lab.wire("eve@a.test/one").await;
    eve.presence("").await;
    two.send("<presence to='eve@a.test/one'/>").await;
    assert_eq!(short(&eve.next().await), "ann@a.test/two available");
    for to in ["ann@a.test", "ann@a.test/two", "ann@a.test/one"] {
        eve.send(format!("<presence type='probe' to='{to}' id='p'/>"))
            .await;
    }
    let there = "ann@a.test/two available".to_owned();
    assert_eq!(presences(&mut eve).await, [there.clone(), there]);
    ann.barrier_among_others().await;
}
