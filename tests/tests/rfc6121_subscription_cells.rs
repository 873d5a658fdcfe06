//! RFC 6121 appendix A over the wire: two accounts of one domain, brought into each of the nine
//! states, say each of the four things to each other.
//!
//! The state of one side is the mirror of the other's, so each play shows a cell of A.2 at who
//! speaks and, where it is routed, one of A.3 at who hears. Cells of A.3 that no speaker's server
//! routes are played on the table itself, in xmpp-server.

use xmpp_testkit::TestLab;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;

const VERBS: [&str; 4] = ["subscribe", "unsubscribe", "subscribed", "unsubscribed"];
const STATES: [&str; 9] = ["N", "N+PO", "N+PI", "N+POI", "T", "T+PI", "F", "F+PO", "B"];

/// A.2 by state and verb, in the order above: whether it is routed, and the new state.
const OUTBOUND: [[(bool, &str); 4]; 9] = [
    [(true, "N+PO"), (true, "N"), (false, "N"), (false, "N")],
    [
        (true, "N+PO"),
        (true, "N"),
        (false, "N+PO"),
        (false, "N+PO"),
    ],
    [(true, "N+POI"), (true, "N+PI"), (true, "F"), (true, "N")],
    [
        (true, "N+POI"),
        (true, "N+PI"),
        (true, "F+PO"),
        (true, "N+PO"),
    ],
    [(true, "T"), (true, "N"), (false, "T"), (false, "T")],
    [(true, "T+PI"), (true, "N+PI"), (true, "B"), (true, "T")],
    [(true, "F+PO"), (true, "F"), (false, "F"), (true, "N")],
    [(true, "F+PO"), (true, "F"), (false, "F+PO"), (true, "N+PO")],
    [(true, "B"), (true, "F"), (false, "B"), (true, "T")],
];

/// A.3 in the same form: whether it is delivered, and the new state.
const INBOUND: [[(bool, &str); 4]; 9] = [
    [(true, "N+PI"), (false, "N"), (false, "N"), (false, "N")],
    [(true, "N+POI"), (false, "N+PO"), (true, "T"), (true, "N")],
    [
        (false, "N+PI"),
        (true, "N"),
        (false, "N+PI"),
        (false, "N+PI"),
    ],
    [
        (false, "N+POI"),
        (true, "N+PO"),
        (true, "T+PI"),
        (true, "N+PI"),
    ],
    [(true, "T+PI"), (false, "T"), (false, "T"), (true, "N")],
    [
        (false, "T+PI"),
        (true, "T"),
        (false, "T+PI"),
        (true, "N+PI"),
    ],
    [(false, "F"), (true, "N"), (false, "F"), (false, "F")],
    [(false, "F+PO"), (true, "N+PO"), (true, "B"), (true, "F")],
    [(false, "B"), (true, "T"), (false, "B"), (true, "F")],
];

/// How who speaks gets into each state: (speaker says it, verb).
const WAYS: [&[(bool, &str)]; 9] = [
    &[],
    &[(true, "subscribe")],
    &[(false, "subscribe")],
    &[(true, "subscribe"), (false, "subscribe")],
    &[(true, "subscribe"), (false, "subscribed")],
    &[
        (true, "subscribe"),
        (false, "subscribed"),
        (false, "subscribe"),
    ],
    &[(false, "subscribe"), (true, "subscribed")],
    &[
        (false, "subscribe"),
        (true, "subscribed"),
        (true, "subscribe"),
    ],
    &[
        (true, "subscribe"),
        (false, "subscribed"),
        (false, "subscribe"),
        (true, "subscribed"),
    ],
];

/// The same relation seen from the other side.
fn mirror(state: &str) -> usize {
    let mirrored = match state {
        "N+PO" => "N+PI",
        "N+PI" => "N+PO",
        "T" => "F",
        "T+PI" => "F+PO",
        "F" => "T",
        "F+PO" => "T+PI",
        same => same,
    };
    index(mirrored)
}

fn index(state: &str) -> usize {
    STATES
        .iter()
        .position(|known| *known == state)
        .expect("a state")
}

/// Two sessions, both available and interested.
struct Pair {
    ann: Wire,
    ben: Wire,
}

impl Pair {
    async fn new(lab: &TestLab, number: usize) -> Self {
        let mut ann = lab.wire(&format!("ann{number}@a.test/one")).await;
        let mut ben = lab.wire(&format!("ben{number}@a.test/one")).await;
        for wire in [&mut ann, &mut ben] {
            wire.roster_get().await;
            wire.presence("").await;
        }
        Self { ann, ben }
    }

    /// One says something to the other; what each has received when all is done.
    async fn say(&mut self, ann_says: bool, verb: &str) -> (Vec<Tree>, Vec<Tree>) {
        let (from, to) = match ann_says {
            true => (&mut self.ann, &mut self.ben),
            false => (&mut self.ben, &mut self.ann),
        };
        let whom = to.bare_jid().to_owned();
        from.send(format!("<presence type='{verb}' to='{whom}'/>"))
            .await;
        let mut speaker = from.barrier_seeing().await;
        let mut hearer = to.barrier_seeing().await;
        // What the hearer's side has answered by itself.
        speaker.extend(from.barrier_seeing().await);
        hearer.extend(to.barrier_seeing().await);
        (speaker, hearer)
    }
}

/// The state as its owner sees it: the roster, and requests that come (again) at initial presence.
async fn state(wire: &mut Wire, other: &str) -> String {
    let roster = wire.roster_get_among_others().await;
    let item = roster
        .children()
        .find(|item| item.attr("jid") == Some(other));
    let attr = |name| item.and_then(|item| item.attr(name));
    let subscription = match attr("subscription").unwrap_or("none") {
        "none" => "N",
        "to" => "T",
        "from" => "F",
        "both" => "B",
        unknown => panic!("{unknown} in {roster}"),
    };
    wire.send("<presence type='unavailable'/><presence/>").await;
    let seen = wire.barrier_seeing().await;
    let asked = seen.iter().any(|tree| is_from(tree, "subscribe", other));
    let pending = match (attr("ask") == Some("subscribe"), asked) {
        (false, false) => "",
        (true, false) => "+PO",
        (false, true) => "+PI",
        (true, true) => "+POI",
    };
    format!("{subscription}{pending}")
}

fn is_from(tree: &Tree, ty: &str, bare: &str) -> bool {
    tree.name() == "presence" && tree.attr("type") == Some(ty) && tree.attr("from") == Some(bare)
}

#[tokio::test]
async fn c6121_presence_sub_request_in_each_state() {
    each_state("subscribe").await;
}

#[tokio::test]
async fn c6121_presence_sub_unsubscribe_in_each_state() {
    each_state("unsubscribe").await;
}

#[tokio::test]
async fn c6121_presence_sub_approval_in_each_state() {
    each_state("subscribed").await;
}

#[tokio::test]
async fn c6121_presence_sub_cancel_in_each_state() {
    each_state("unsubscribed").await;
}

async fn each_state(verb: &str) {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    for (number, (state, way)) in STATES.into_iter().zip(WAYS).enumerate() {
        let mut pair = Pair::new(&lab, number).await;
        for (ann_says, verb) in way {
            pair.say(*ann_says, verb).await;
        }
        play(&mut pair, state, verb).await;
    }
}

async fn play(pair: &mut Pair, before: &str, verb: &str) {
    let column = VERBS
        .iter()
        .position(|known| *known == verb)
        .expect("a verb");
    let what = format!("{verb} in {before}");
    let (ann, ben) = (
        pair.ann.bare_jid().to_owned(),
        pair.ben.bare_jid().to_owned(),
    );
    assert_eq!(state(&mut pair.ann, &ben).await, before, "before {what}");
    assert_eq!(
        index(&state(&mut pair.ben, &ann).await),
        mirror(before),
        "before {what}"
    );
    pair.ann.barrier_among_others().await;
    let (_, heard) = pair.say(true, verb).await;
    let (routed, speaker) = OUTBOUND[index(before)][column];
    let (delivered, hearer) = match routed {
        true => INBOUND[mirror(before)][column],
        false => (false, STATES[mirror(before)]),
    };
    assert_eq!(state(&mut pair.ann, &ben).await, speaker, "speaker, {what}");
    assert_eq!(state(&mut pair.ben, &ann).await, hearer, "hearer, {what}");
    let got = heard
        .iter()
        .filter(|tree| is_from(tree, verb, &ann))
        .count();
    assert_eq!(got, usize::from(delivered), "delivered, {what}: {heard:?}");
}
