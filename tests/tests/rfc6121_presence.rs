//! RFC 6121 sections 3 and 4 over the wire: subscriptions from request to end, broadcast, probes,
//! directed presence, and unavailable presence on every kind of end.

use xmpp_testkit::TestLab;
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

fn presence(tree: &xmpp_testkit::tree::Tree) -> (Option<String>, Option<String>) {
    assert_eq!(tree.name(), "presence", "{tree}");
    (
        tree.attr("from").map(str::to_owned),
        tree.attr("type").map(str::to_owned),
    )
}

#[tokio::test]
async fn c6121_su_01_to_su_12_request_and_approval() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let mut idle = lab.wire("ben@a.test/idle").await;
    ann.roster_get().await;
    ben.roster_get().await;
    ann.presence("").await;
    ben.presence("").await;
    // su-01, su-02, su-08: bare JIDs both ways, to available resources only.
    ann.send(
        "<presence type='subscribe' to='ben@a.test/one' id='q'><status>hello</status></presence>",
    )
    .await;
    ben.expect("<presence type='subscribe' from='ann@a.test' to='ben@a.test' id='q' xml:lang='{any}'><status>hello</status></presence>").await;
    // su-04: the requester sees a push with ask.
    let push = ann.next().await;
    let item = push
        .child("query")
        .and_then(|query| query.child("item"))
        .expect("an item");
    assert_eq!(
        (item.attr("ask"), item.attr("subscription")),
        (Some("subscribe"), Some("none")),
        "{push}"
    );
    // su-10: nothing shows at the contact before approval.
    let roster = ben.roster_get().await;
    assert_eq!(roster.children().count(), 0, "{roster}");
    // su-11, su-12: approval, pushes, presence.
    ben.send("<presence type='subscribed' to='ann@a.test'/>")
        .await;
    let push = ben.next().await;
    let item = push
        .child("query")
        .and_then(|query| query.child("item"))
        .expect("an item");
    assert_eq!(item.attr("subscription"), Some("from"), "{push}");
    let approved = ann.next().await;
    assert_eq!(
        presence(&approved),
        (Some("ben@a.test".into()), Some("subscribed".into()))
    );
    let push = ann.next().await;
    let item = push
        .child("query")
        .and_then(|query| query.child("item"))
        .expect("an item");
    assert_eq!(
        (item.attr("subscription"), item.attr("ask")),
        (Some("to"), None),
        "{push}"
    );
    let available = ann.next().await;
    assert_eq!(presence(&available), (Some("ben@a.test/one".into()), None));
    idle.barrier().await;
    ann.barrier().await;
}

#[tokio::test]
async fn c6121_su_09_a_request_waits_for_its_answer() {
    let lab = lab().await;
    lab.account("ben@a.test").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    for id in ["1", "2", "3"] {
        ann.send(format!(
            "<presence type='subscribe' to='ben@a.test' id='{id}'/>"
        ))
        .await;
    }
    ann.barrier_among_others().await;
    for resource in ["one", "two"] {
        let mut ben = lab.wire(&format!("ben@a.test/{resource}")).await;
        ben.presence("").await;
        let request = ben.next().await;
        assert_eq!(
            presence(&request),
            (Some("ann@a.test".into()), Some("subscribe".into()))
        );
        ben.barrier().await;
        ben.close().await;
    }
}

#[tokio::test]
async fn c6121_su_12_unsolicited_approval_is_ignored() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ann.roster_get().await;
    ann.presence("").await;
    for ty in ["subscribed", "unsubscribed", "unsubscribe"] {
        ben.send(format!("<presence type='{ty}' to='ann@a.test'/>"))
            .await;
    }
    ben.barrier_among_others().await;
    ann.barrier().await;
}

#[tokio::test]
async fn c6121_su_13_cancelling_a_grant_sends_unavailable_first() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ann.send("<presence type='unsubscribed' to='ben@a.test'/>")
        .await;
    let first = ben.next().await;
    assert_eq!(
        presence(&first),
        (Some("ann@a.test/one".into()), Some("unavailable".into()))
    );
    let second = ben.next().await;
    assert_eq!(
        presence(&second),
        (Some("ann@a.test".into()), Some("unsubscribed".into()))
    );
}

#[tokio::test]
async fn c6121_su_16_unsubscribing_ends_the_contacts_presence() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    ann.send("<presence type='unsubscribe' to='ben@a.test'/>")
        .await;
    let got = ben.next().await;
    assert_eq!(
        presence(&got),
        (Some("ann@a.test".into()), Some("unsubscribe".into()))
    );
    let seen = ann.until("unavailable").await;
    let last = seen.last().expect("one presence");
    assert_eq!(last.attr("from"), Some("ben@a.test/one"), "{last}");
}

#[tokio::test]
async fn c6121_pr_01_to_pr_05_broadcast_to_contacts_and_own_resources() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    let mut two = lab.wire("ann@a.test/two").await;
    two.send("<presence id='i'><show>away</show><status>tea</status><x xmlns='urn:t'/></presence>")
        .await;
    let body = "<show>away</show><status>tea</status><x xmlns='urn:t'/>";
    ben.expect(format!("<presence from='ann@a.test/two' to='ben@a.test' id='i' xml:lang='{{any}}'>{body}</presence>")).await;
    ann.expect(format!("<presence from='ann@a.test/two' to='ann@a.test' id='i' xml:lang='{{any}}'>{body}</presence>")).await;
    // pr-02, pr-03: the newcomer sees itself, its sibling and its contact.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let got = two.next().await;
        seen.push(got.attr("from").unwrap_or_default().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["ann@a.test/one", "ann@a.test/two", "ben@a.test/one"]);
    // pr-05: an update is no new initial presence.
    two.send("<presence id='u'/>").await;
    assert_eq!(ben.next().await.attr("id"), Some("u"));
    assert_eq!(ann.next().await.attr("id"), Some("u"));
    assert_eq!(two.next().await.attr("id"), Some("u"));
    two.barrier().await;
}

#[tokio::test]
async fn c6121_pr_06_unavailable_on_every_kind_of_end() {
    let lab = lab().await;
    let (_ann, mut ben) = friends(&lab).await;
    for kind in ["said", "closed", "dropped", "stream error", "kicked"] {
        let mut end = lab.wire("ann@a.test/end").await;
        end.send("<presence/>").await;
        assert_eq!(
            presence(&ben.next().await),
            (Some("ann@a.test/end".into()), None),
            "{kind}"
        );
        match kind {
            "said" => {
                end.send("<presence type='unavailable'><status>bye</status></presence>")
                    .await
            }
            "closed" => end.send("</stream:stream>").await,
            "dropped" => drop(end),
            "stream error" => end.send("<message></presence>").await,
            _ => lab.kick("ann@a.test/end").await,
        }
        let got = ben.next().await;
        let want = (
            Some("ann@a.test/end".to_owned()),
            Some("unavailable".to_owned()),
        );
        assert_eq!(presence(&got), want, "{kind}: {got}");
        // pr-07: the client's own words, when it said some.
        assert_eq!(
            got.child("status").is_some(),
            kind == "said",
            "{kind}: {got}"
        );
        ben.barrier().await;
    }
}

#[tokio::test]
async fn c6121_pr_11_to_pr_13_directed_presence() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    // pr-12: also without initial presence.
    ann.send("<presence to='ben@a.test/one' id='d'/>").await;
    let got = ben.next().await;
    assert_eq!(
        (got.attr("from"), got.attr("to")),
        (Some("ann@a.test/one"), Some("ben@a.test/one"))
    );
    // pr-11: no later broadcasts, but the end.
    ann.presence("").await;
    ann.send("<presence><show>away</show></presence>").await;
    ann.barrier_among_others().await;
    ben.barrier().await;
    ann.send("</stream:stream>").await;
    let got = ben.next().await;
    assert_eq!(
        presence(&got),
        (Some("ann@a.test/one".into()), Some("unavailable".into()))
    );
    // pr-13: once told, not told again.
    let mut ann = lab.wire("ann@a.test/two").await;
    ann.send("<presence to='ben@a.test/one'/><presence to='ben@a.test/one' type='unavailable'/>")
        .await;
    assert_eq!(
        presence(&ben.next().await),
        (Some("ann@a.test/two".into()), None)
    );
    assert_eq!(
        presence(&ben.next().await),
        (Some("ann@a.test/two".into()), Some("unavailable".into()))
    );
    ann.close().await;
    ben.barrier().await;
}

#[tokio::test]
async fn c6121_pr_17_pr_16_bad_type_and_priority() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    for (id, stanza) in [
        ("t", "<presence id='t' type='available'/>"),
        ("p", "<presence id='p'><priority>200</priority></presence>"),
        ("n", "<presence id='n'><priority>high</priority></presence>"),
    ] {
        ann.send(stanza).await;
        let got = ann.next().await;
        assert_eq!(
            (got.attr("type"), got.attr("id")),
            (Some("error"), Some(id)),
            "{got}"
        );
        assert!(got.to_string().contains("bad-request"), "{got}");
    }
}

#[tokio::test]
async fn c6121_4_2_probes() {
    let lab = lab().await;
    let (mut ann, mut ben) = friends(&lab).await;
    let mut eve = lab.wire("eve@a.test/one").await;
    // Unauthorised and unknown alike (pr-19): the answer is "unsubscribed", which eve's own server
    // does not deliver, as she has asked for nothing (table A.3.4).
    eve.presence("").await;
    for to in ["ann@a.test", "ann@a.test/one", "nobody@a.test"] {
        eve.send(format!("<presence type='probe' to='{to}' id='p'/>"))
            .await;
    }
    eve.barrier().await;
    // Authorised: the last presence of each resource; clients never see the probe.
    ben.send("<presence type='probe' to='ann@a.test'/>").await;
    assert_eq!(
        presence(&ben.next().await),
        (Some("ann@a.test/one".into()), None)
    );
    ann.send("<presence type='unavailable'/>").await;
    ann.until("unavailable").await;
    assert_eq!(
        presence(&ben.next().await),
        (Some("ann@a.test/one".into()), Some("unavailable".into()))
    );
    ben.send("<presence type='probe' to='ann@a.test' id='again'/>")
        .await;
    let got = ben.next().await;
    assert_eq!(
        presence(&got),
        (Some("ann@a.test".into()), Some("unavailable".into()))
    );
    assert_eq!(got.attr("id"), Some("again"));
    ann.barrier().await;
}

#[tokio::test]
async fn c6121_pr_18_presence_to_nobody_is_dropped() {
    let lab = lab().await;
    lab.account("ben@a.test").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    for to in ["ben@a.test", "ben@a.test/gone", "nobody@a.test", "a.test"] {
        ann.send(format!(
            "<presence to='{to}'/><presence to='{to}' type='unavailable'/>"
        ))
        .await;
    }
    ann.barrier().await;
}
