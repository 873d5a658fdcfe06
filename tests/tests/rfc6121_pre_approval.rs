//! RFC 6121 section 3.4 over the wire: subscriptions that are approved before anybody asks.

use xmpp_testkit::TestLab;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;

/// How ann gets into the three states in which she may approve in advance: (ann says it, verb).
const STATES: [(&str, &[(bool, &str)]); 3] = [
    ("none", &[]),
    ("none ask", &[(true, "subscribe")]),
    ("to", &[(true, "subscribe"), (false, "subscribed")]),
];

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// Two sessions, both available and interested, ann's account in one of the states.
async fn pair(lab: &TestLab, number: usize, way: &[(bool, &str)]) -> (Wire, Wire) {
    let mut ann = lab.wire(&format!("ann{number}@a.test/one")).await;
    let mut ben = lab.wire(&format!("ben{number}@a.test/one")).await;
    for wire in [&mut ann, &mut ben] {
        wire.roster_get().await;
        wire.presence("").await;
    }
    for (ann_says, verb) in way {
        let (from, to) = match ann_says {
            true => (&mut ann, &mut ben),
            false => (&mut ben, &mut ann),
        };
        say(from, to, verb).await;
    }
    (ann, ben)
}

/// One says it; what both have got when all is done.
async fn say(from: &mut Wire, to: &mut Wire, verb: &str) -> (Vec<Tree>, Vec<Tree>) {
    let whom = to.bare_jid().to_owned();
    from.send(format!("<presence type='{verb}' to='{whom}'/>"))
        .await;
    let mut speaker = from.barrier_seeing().await;
    let mut hearer = to.barrier_seeing().await;
    speaker.extend(from.barrier_seeing().await);
    hearer.extend(to.barrier_seeing().await);
    (speaker, hearer)
}

/// Stanzas in short: type of a presence, state of a pushed item.
fn shown(trees: &[Tree]) -> Vec<String> {
    let one = |tree: &Tree| match tree.name() {
        "presence" => tree.attr("type").unwrap_or("available").to_owned(),
        _ => {
            let item = tree.child("query").and_then(|query| query.child("item"));
            format!("push {}", item.map(state_of).unwrap_or_default())
        }
    };
    trees.iter().map(one).collect()
}

fn state_of(item: &Tree) -> String {
    let mut state = item.attr("subscription").unwrap_or_default().to_owned();
    for (attr, value, word) in [
        ("ask", "subscribe", " ask"),
        ("approved", "true", " approved"),
    ] {
        if item.attr(attr) == Some(value) {
            state.push_str(word);
        }
    }
    state
}

#[tokio::test]
async fn c6121_su_19_su_20_who_is_approved_in_advance_sees_us_at_once() {
    let lab = lab().await;
    let after = ["from", "from ask", "both"];
    for (number, ((state, way), after)) in STATES.into_iter().zip(after).enumerate() {
        let (mut ann, mut ben) = pair(&lab, number, way).await;
        let (got, heard) = say(&mut ann, &mut ben, "subscribed").await;
        assert_eq!(shown(&got), [format!("push {state} approved")]);
        assert!(heard.is_empty(), "not routed: {heard:?}");
        let (asked, got) = say(&mut ben, &mut ann, "subscribe").await;
        assert_eq!(shown(&got), [format!("push {after}")], "{state}");
        let asked = shown(&asked);
        for part in ["subscribed", "available"] {
            assert!(asked.iter().any(|got| got == part), "{state}: {asked:?}");
        }
    }
}

#[tokio::test]
async fn c6121_su_21_an_approval_taken_back_lets_nobody_in() {
    let lab = lab().await;
    for (number, (state, way)) in STATES.into_iter().enumerate() {
        let (mut ann, mut ben) = pair(&lab, number, way).await;
        say(&mut ann, &mut ben, "subscribed").await;
        let (got, heard) = say(&mut ann, &mut ben, "unsubscribed").await;
        assert_eq!(shown(&got), [format!("push {state}")]);
        assert!(heard.is_empty(), "not routed: {heard:?}");
        let (_, got) = say(&mut ben, &mut ann, "subscribe").await;
        assert_eq!(shown(&got), ["subscribe"], "{state}");
    }
}

#[tokio::test]
async fn c6121_su_20_an_approval_holds_while_nobody_is_online_and_is_used_up() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab, 0, &[]).await;
    let (one, two) = (ann.bare_jid().to_owned(), ben.bare_jid().to_owned());
    say(&mut ann, &mut ben, "subscribed").await;
    ann.close().await;
    ben.send(format!("<presence type='subscribe' to='{one}'/>"))
        .await;
    let answered = ben.until("subscribed").await;
    assert_eq!(shown(&answered)[..], ["push none ask", "subscribed"]);
    ben.barrier_among_others().await;
    // It was good for one request: what ann takes back stays taken back.
    let mut ann = lab.wire(&format!("{one}/two")).await;
    let roster = ann.roster_get().await;
    assert_eq!(state_of(roster.child("item").expect("an item")), "from");
    ann.presence("").await;
    ann.send(format!("<presence type='unsubscribed' to='{two}'/>"))
        .await;
    ann.barrier_among_others().await;
    ben.barrier_among_others().await;
    let (_, got) = say(&mut ben, &mut ann, "subscribe").await;
    assert_eq!(shown(&got), ["subscribe"]);
}

#[tokio::test]
async fn c6121_pr_probe_a_refused_probe_leaves_an_approval() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab, 0, &[]).await;
    say(&mut ann, &mut ben, "subscribed").await;
    say(&mut ben, &mut ann, "subscribed").await;
    say(&mut ben, &mut ann, "probe").await;
    for wire in [&mut ann, &mut ben] {
        let roster = wire.roster_get().await;
        assert_eq!(
            state_of(roster.child("item").expect("an item")),
            "none approved"
        );
    }
}
