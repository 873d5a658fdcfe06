//! RFC 6121 section 2 over the wire: roster get, set, push, remove, and its errors.

use xmpp_stream::ns;
use xmpp_testkit::TestLab;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

fn set(id: &str, items: &str) -> String {
    format!("<iq type='set' id='{id}'><query xmlns='jabber:iq:roster'>{items}</query></iq>")
}

async fn expect_error(wire: &mut Wire, id: &str, ty: &str, condition: &str) {
    let got = wire.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("error"), Some(id)),
        "{got}"
    );
    let error = got.child("error").expect("an error child");
    assert_eq!(error.attr("type"), Some(ty), "{got}");
    assert!(got.to_string().contains(&format!("<{condition} ")), "{got}");
}

/// The push to this session, with a version (rv-06).
async fn expect_push(wire: &mut Wire, item: &str) {
    let jid = wire.jid().to_owned();
    wire.expect(format!(
        "<iq type='set' id='{{any}}' to='{jid}'><query xmlns='jabber:iq:roster' ver='{{any}}'>{item}</query></iq>"
    ))
    .await;
}

#[tokio::test]
async fn c6121_ro_06_a_new_account_has_an_empty_roster() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test").await;
    let query = ann.roster_get().await;
    assert_eq!(query.children().count(), 0);
}

#[tokio::test]
async fn c6121_ro_08_ro_11_result_and_push_to_interested_resources_only() {
    let lab = lab().await;
    let mut one = lab.wire("ann@a.test/one").await;
    let mut two = lab.wire("ann@a.test/two").await;
    let mut deaf = lab.wire("ann@a.test/deaf").await;
    one.roster_get().await;
    two.roster_get().await;
    one.send(set(
        "s1",
        "<item jid='ben@a.test' name='Ben'><group>Friends</group></item>",
    ))
    .await;
    let item =
        "<item jid='ben@a.test' name='Ben' subscription='none'><group>Friends</group></item>";
    expect_push(&mut one, item).await;
    one.answer("s1").await;
    expect_push(&mut two, item).await;
    deaf.barrier().await;
    let query = deaf.roster_get().await;
    assert!(query.to_string().contains("Friends"), "{query}");
}

#[tokio::test]
async fn c6121_ro_13_a_set_replaces_name_and_groups() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test").await;
    ann.roster_get().await;
    ann.send(set(
        "1",
        "<item jid='ben@a.test' name='Ben'><group>A</group><group>B</group></item>",
    ))
    .await;
    expect_push(&mut ann, "<item jid='ben@a.test' name='Ben' subscription='none'><group>A</group><group>B</group></item>").await;
    ann.answer("1").await;
    ann.send(set("2", "<item jid='ben@a.test'/>")).await;
    expect_push(&mut ann, "<item jid='ben@a.test' subscription='none'/>").await;
    ann.answer("2").await;
}

#[tokio::test]
async fn c6121_ro_03_ro_04_state_attributes_of_a_set_are_ignored() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test").await;
    ann.roster_get().await;
    ann.send(set(
        "1",
        "<item jid='ben@a.test' subscription='both' ask='subscribe' approved='true'/>",
    ))
    .await;
    expect_push(&mut ann, "<item jid='ben@a.test' subscription='none'/>").await;
    ann.answer("1").await;
}

#[tokio::test]
async fn c6121_2_2_errors_of_roster_sets() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test").await;
    let long = "x".repeat(2000);
    let cases = [
        ("ro-07 none", String::new(), "modify", "bad-request"),
        (
            "ro-07 two",
            "<item jid='b@a.test'/><item jid='c@a.test'/>".into(),
            "modify",
            "bad-request",
        ),
        (
            "ro-02 no jid",
            "<item name='x'/>".into(),
            "modify",
            "bad-request",
        ),
        (
            "ro-02 bad jid",
            "<item jid='a b@@c'/>".into(),
            "modify",
            "{jid}",
        ),
        (
            "ro-12 groups",
            "<item jid='b@a.test'><group>A</group><group>A</group></item>".into(),
            "modify",
            "bad-request",
        ),
        (
            "ro-12 empty group",
            "<item jid='b@a.test'><group/></item>".into(),
            "modify",
            "not-acceptable",
        ),
        (
            "ro-12 long group",
            format!("<item jid='b@a.test'><group>{long}</group></item>"),
            "modify",
            "not-acceptable",
        ),
        (
            "ro-12 long name",
            format!("<item jid='b@a.test' name='{long}'/>"),
            "modify",
            "not-acceptable",
        ),
        (
            "ro-16 remove unknown",
            "<item jid='b@a.test' subscription='remove'/>".into(),
            "cancel",
            "item-not-found",
        ),
        (
            "ro-17 self",
            "<item jid='ann@a.test'/>".into(),
            "cancel",
            "not-allowed",
        ),
    ];
    for (what, items, ty, condition) in cases {
        ann.send(set("e", &items)).await;
        let got = ann.next().await;
        let error = got
            .child("error")
            .unwrap_or_else(|| panic!("{what}: {got}"));
        assert_eq!(error.attr("type"), Some(ty), "{what}: {got}");
        let named = match condition {
            // A roster item's address that is none: both names are in use for it.
            "{jid}" => {
                got.to_string().contains("bad-request") || got.to_string().contains("jid-malformed")
            }
            condition => got.to_string().contains(condition),
        };
        assert!(named, "{what}: {got}");
    }
    assert_eq!(ann.roster_get().await.children().count(), 0);
}

#[tokio::test]
async fn c6121_ro_01_rosters_of_others_are_forbidden() {
    let lab = lab().await;
    lab.account("ben@a.test").await;
    let mut ann = lab.wire("ann@a.test").await;
    for to in ["ben@a.test", "nobody@a.test"] {
        ann.send(format!("<iq type='set' id='s' to='{to}'><query xmlns='jabber:iq:roster'><item jid='c@a.test'/></query></iq>")).await;
        expect_error(&mut ann, "s", "auth", "forbidden").await;
    }
}

#[tokio::test]
async fn c6121_ro_05_a_get_with_items_is_refused() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test").await;
    ann.send(
        "<iq type='get' id='g'><query xmlns='jabber:iq:roster'><item jid='b@a.test'/></query></iq>",
    )
    .await;
    expect_error(&mut ann, "g", "modify", "bad-request").await;
}

#[tokio::test]
async fn c6121_ro_10_errors_to_pushes_are_ignored() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test").await;
    ann.roster_get().await;
    ann.send(set("1", "<item jid='ben@a.test'/>")).await;
    let push = ann.next().await;
    let id = push.attr("id").expect("an id").to_owned();
    ann.answer("1").await;
    ann.send(format!("<iq type='error' id='{id}'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")).await;
    ann.send(format!("<iq type='result' id='{id}' to='ann@a.test'/>"))
        .await;
    ann.barrier().await;
}

#[tokio::test]
async fn c6121_ro_15_removal_ends_both_subscriptions() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ann.befriend(&mut ben).await;
    ann.send(set("r", "<item jid='ben@a.test' subscription='remove'/>"))
        .await;
    let got = ben.until("unsubscribed").await;
    let types: Vec<_> = got
        .iter()
        .filter_map(|tree| tree.attr("type").map(str::to_owned))
        .collect();
    for ty in ["unsubscribe", "unsubscribed", "unavailable"] {
        assert!(
            types.iter().any(|got| got == ty),
            "{ty} is missing in {types:?}"
        );
    }
    ann.until_id("r").await;
    let roster = ann.roster_get_among_others().await;
    assert_eq!(roster.children().count(), 0, "{roster}");
}

#[tokio::test]
async fn a_roster_outlives_its_sessions() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.send(set("1", "<item jid='ben@a.test' name='B &amp; &lt;b&gt;'><group>\u{1F468}\u{200D}\u{1F33E}</group></item>")).await;
    ann.answer("1").await;
    ann.close().await;
    let mut again = lab.wire("ann@a.test/two").await;
    let roster = again.roster_get().await;
    let item = roster.child("item").expect("an item");
    assert_eq!(item.attr("name"), Some("B & <b>"));
    assert_eq!(
        item.child("group").map(|group| group.text()).as_deref(),
        Some("\u{1F468}\u{200D}\u{1F33E}")
    );
}

/// Asks for the roster with the version that this client has; gives the child of the result.
async fn get_since(wire: &mut Wire, ver: &str) -> Option<Tree> {
    let id = wire.new_id();
    wire.send(format!(
        "<iq type='get' id='{id}'><query xmlns='jabber:iq:roster' ver='{ver}'/></iq>"
    ))
    .await;
    let got = wire.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("result"), Some(&*id)),
        "{got}"
    );
    got.children().next().cloned()
}

/// The next push: its version, and its item as text.
async fn next_push(wire: &mut Wire) -> (String, String) {
    let push = wire.next().await;
    let query = push.child("query").unwrap_or_else(|| panic!("{push}"));
    assert_eq!(query.children().count(), 1, "{push}");
    let item = query.child("item").expect("an item");
    let shown = ["jid", "name", "subscription", "approved"].map(|name| item.attr(name));
    let shown: Vec<_> = shown.into_iter().flatten().collect();
    (
        query.attr("ver").expect("a version").to_owned(),
        shown.join(" "),
    )
}

#[tokio::test]
async fn c6121_rv_01_versions_and_pre_approval_are_offered_after_login() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut ann = lab.raw("a.test").await;
    let before = ann.open_secure().await;
    for feature in ["ver", "sub"] {
        assert!(before.child(feature).is_none(), "{before}");
    }
    let mut plain = sasl::client::mechanisms::Plain::new("ann", &password);
    ann.authenticate(&mut plain).await.expect("a login");
    let after = ann.open().await;
    assert!(
        after.child_ns(ns::FEATURE_ROSTER_VERSION, "ver").is_some(),
        "{after}"
    );
    assert!(
        after.child_ns(ns::FEATURE_PRE_APPROVAL, "sub").is_some(),
        "{after}"
    );
}

#[tokio::test]
async fn c6121_rv_03_rv_04_rv_07_changes_of_the_time_away_are_pushed() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let ver = |query: &Tree| query.attr("ver").expect("a version").to_owned();
    for jid in ["ben@a.test", "cat@a.test", "dan@a.test"] {
        ann.send(set("s", &format!("<item jid='{jid}'/>"))).await;
        ann.answer("s").await;
    }
    let known = ver(&ann.roster_get().await);
    // rv-03: nothing has changed, nothing is sent.
    let mut two = lab.wire("ann@a.test/two").await;
    assert_eq!(get_since(&mut two, &known).await, None);
    two.barrier().await;
    two.close().await;
    // Two changes of one item, a removal, a request that waits, and an item that is made.
    let mut other = lab.wire("eve@a.test/one").await;
    for change in [
        "<item jid='cat@a.test' name='Kit'/>",
        "<item jid='dan@a.test' subscription='remove'/>",
        "<item jid='cat@a.test' name='Cat'/>",
        "<item jid='eve@a.test'/>",
    ] {
        ann.send(set("s", change)).await;
        ann.until_id("s").await;
    }
    other
        .send("<presence type='subscribe' to='ann@a.test'/>")
        .await;
    other.barrier_among_others().await;
    ann.send("<presence type='subscribed' to='fay@a.test'/>")
        .await;
    ann.barrier_among_others().await;
    let mut three = lab.wire("ann@a.test/three").await;
    assert_eq!(get_since(&mut three, &known).await, None);
    let mut last = String::new();
    let mut seen = std::collections::BTreeSet::from([known.clone()]);
    for item in [
        "dan@a.test remove",
        "cat@a.test Cat none",
        "eve@a.test none",
        "fay@a.test none true",
    ] {
        let (ver, got) = next_push(&mut three).await;
        assert_eq!(got, item);
        assert!(seen.insert(ver.clone()), "{ver} is not its own");
        last = ver;
    }
    three.barrier().await;
    // rv-08: the version of the last push is one to come with.
    let mut four = lab.wire("ann@a.test/four").await;
    assert_eq!(get_since(&mut four, &last).await, None);
    four.barrier().await;
}

#[tokio::test]
async fn c6121_rv_06_pushes_and_results_have_the_version_that_is_then_current() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.roster_get().await;
    ann.send(set("1", "<item jid='ben@a.test'/>")).await;
    let (pushed, _) = next_push(&mut ann).await;
    ann.answer("1").await;
    let roster = ann.roster_get().await;
    assert_eq!(roster.attr("ver"), Some(&*pushed));
    assert_eq!(get_since(&mut ann, &pushed).await, None);
    ann.barrier().await;
}

#[tokio::test]
async fn c6121_rv_05_what_is_no_version_of_this_account_gets_the_whole_roster() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let first = ann
        .roster_get()
        .await
        .attr("ver")
        .expect("a version")
        .to_owned();
    let mut ben = lab.wire("ben@a.test/one").await;
    for ver in ["", "junk", "12", "-", &first] {
        let query = get_since(&mut ben, ver).await.expect("the whole roster");
        assert!(query.attr("ver").is_some());
    }
    // The account goes and comes again under its name.
    lab.remove("ann@a.test").await;
    let mut again = lab.wire("ann@a.test/one").await;
    assert!(get_since(&mut again, &first).await.is_some());
}
