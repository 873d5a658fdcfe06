//! The first feature modules over the wire, as a client's login sees them: disco, ping, version,
//! private XML, vcard-temp, in-band registration.
//!
//! Rows im_* of XEP-0030, 0199, 0092, 0049, 0054 and 0077.

use std::net::IpAddr;
use std::time::Duration;
use xmpp_server::config::Registration;
use xmpp_stream::ns;
use xmpp_testkit::TestLab;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const ELSEWHERE: [u8; 4] = [192, 0, 2, 1];

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

async fn with_registration(registration: Registration) -> TestLab {
    let lab = TestLab::with(["a.test"], |config| {
        config.domains[0].registration = registration
    });
    lab.await.expect("a server")
}

async fn ask(wire: &mut Wire, ty: &str, to: &str, payload: &str) -> Tree {
    let id = wire.new_id();
    let to = if to.is_empty() {
        String::new()
    } else {
        format!(" to='{to}'")
    };
    wire.send(format!("<iq type='{ty}' id='{id}'{to}>{payload}</iq>"))
        .await;
    let got = wire.next().await;
    assert_eq!(
        (got.name(), got.attr("id")),
        ("iq", Some(id.as_str())),
        "{got}"
    );
    got
}

#[track_caller]
fn assert_error(got: &Tree, ty: &str, condition: &str) {
    assert_eq!(got.attr("type"), Some("error"), "{got}");
    let error = got.child("error").expect("an error child");
    assert_eq!(error.attr("type"), Some(ty), "{got}");
    assert!(
        error.child_ns(ns::STANZAS, condition).is_some(),
        "{condition} in {got}"
    );
}

fn query(ns: &str, attrs: &str) -> String {
    format!("<query xmlns='{ns}' {attrs}/>")
}

// XEP-0030.

#[tokio::test]
async fn im_di_01_di_06_di_07_what_domain_and_account_are() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    for (to, category, ty) in [
        ("a.test", "server", "im"),
        ("ann@a.test", "account", "registered"),
    ] {
        let got = ask(&mut ann, "get", to, &query(ns::DISCO_INFO, "")).await;
        let info = got
            .child_ns(ns::DISCO_INFO, "query")
            .expect("a query")
            .clone();
        let is_it =
            |tree: &Tree| tree.attr("category") == Some(category) && tree.attr("type") == Some(ty);
        assert!(info.children().any(is_it), "{info}");
        let mut features: Vec<_> = info
            .children()
            .filter_map(|child| child.attr("var"))
            .collect();
        assert!(features.contains(&ns::DISCO_INFO), "{info}");
        let count = features.len();
        features.sort_unstable();
        features.dedup();
        assert_eq!(features.len(), count, "di-07: {info}");
        if to == "a.test" {
            let other = ask(&mut ben, "get", to, &query(ns::DISCO_INFO, "")).await;
            assert_eq!(other.child("query"), Some(&info), "di-06");
        }
    }
}

#[tokio::test]
async fn im_di_02_node_is_mirrored_or_not_found() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    for ns in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
        let got = ask(
            &mut ann,
            "get",
            "a.test",
            &query(ns, "node='urn:no:such:node'"),
        )
        .await;
        assert_error(&got, "cancel", "item-not-found");
        let got = ask(&mut ann, "get", "a.test", &query(ns, "node=''")).await;
        if got.attr("type") == Some("result") {
            assert_eq!(
                got.child("query").and_then(|query| query.attr("node")),
                Some(""),
                "{got}"
            );
        }
    }
}

#[tokio::test]
async fn im_di_03_di_08_a_domain_without_services_has_no_items() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let got = ask(&mut ann, "get", "a.test", &query(ns::DISCO_ITEMS, "")).await;
    assert_eq!(got.attr("type"), Some("result"), "{got}");
    let items = got.child_ns(ns::DISCO_ITEMS, "query").expect("a query");
    assert_eq!(items.children().count(), 0, "{items}");
}

#[tokio::test]
async fn im_di_04_di_05_accounts_are_shown_to_subscribers_alone() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let mut eve = lab.wire("eve@a.test/one").await;
    ann.befriend(&mut ben).await;
    let got = ask(&mut ben, "get", "ann@a.test", &query(ns::DISCO_INFO, "")).await;
    assert_eq!(got.attr("type"), Some("result"), "{got}");
    let got = ask(&mut ben, "get", "ann@a.test", &query(ns::DISCO_ITEMS, "")).await;
    let items = got.child("query").expect("a query");
    assert_eq!(
        items.child("item").and_then(|item| item.attr("jid")),
        Some("ann@a.test/one"),
        "{got}"
    );
    for ns in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
        let mut answers = Vec::new();
        for who in ["ann", "nobody"] {
            eve.send(format!(
                "<iq type='get' id='d' to='{who}@a.test'>{}</iq>",
                query(ns, "")
            ))
            .await;
            let got = eve.next().await;
            match ns {
                ns::DISCO_INFO => assert_error(&got, "cancel", "service-unavailable"),
                _ => assert_eq!(
                    got.child("query").map(|query| query.children().count()),
                    Some(0)
                ),
            }
            answers.push(got.to_string().replace(&format!("{who}@"), "WHO@"));
        }
        assert_eq!(answers[0], answers[1]);
    }
}

// XEP-0199, XEP-0092.

#[tokio::test]
async fn im_pi_01_ping_is_answered_by_domain_and_own_account() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    for (to, from) in [
        ("a.test", Some("a.test")),
        ("ann@a.test", Some("ann@a.test")),
        ("", None),
    ] {
        let got = ask(
            &mut ann,
            "get",
            to,
            &format!("<ping xmlns='{}'/>", ns::PING),
        )
        .await;
        assert_eq!(got.attr("type"), Some("result"), "{got}");
        assert_eq!(got.children().count(), 0, "{got}");
        assert!(from.is_none() || got.attr("from") == from, "{got}");
    }
}

#[tokio::test]
async fn im_pi_02_ping_to_a_full_jid_that_is_not_there() {
    let lab = lab().await;
    lab.account("ben@a.test").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut answers = Vec::new();
    for (to, who) in [
        ("ben@a.test/gone", "ben"),
        ("nobody@a.test/gone", "nobody"),
        ("ann@a.test/gone", "ann"),
    ] {
        ann.send(format!(
            "<iq type='get' id='p' to='{to}'><ping xmlns='{}'/></iq>",
            ns::PING
        ))
        .await;
        let got = ann.next().await;
        assert_error(&got, "cancel", "service-unavailable");
        assert_eq!(got.attr("from"), Some(to), "{got}");
        answers.push(
            got.to_string()
                .replace(&format!("'{who}@a.test/gone'"), "TO"),
        );
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn im_ve_01_the_domain_tells_name_and_version() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let got = ask(&mut ann, "get", "a.test", &query(ns::VERSION, "")).await;
    let query = got.child_ns(ns::VERSION, "query").expect("a query");
    let names: Vec<_> = query.children().map(Tree::name).collect();
    assert_eq!(names, ["name", "version"], "{got}");
    assert!(
        query.children().all(|child| !child.text().is_empty()),
        "{got}"
    );
}

// XEP-0049, XEP-0054.

#[tokio::test]
async fn im_pv_01_private_xml_is_kept_by_key_and_for_its_owner() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let private = |content: &str| format!("<query xmlns='{}'>{content}</query>", ns::PRIVATE);
    let delimiter = "<roster xmlns='roster:delimiter'>::</roster>";
    let empty = private("<roster xmlns='roster:delimiter'/>");
    let got = ask(&mut ann, "get", "", &empty).await;
    assert_eq!(
        got.child("query"),
        Some(&Tree::parse(&empty)),
        "never stored: echoed"
    );
    let got = ask(&mut ann, "set", "", &private(delimiter)).await;
    assert_eq!(got.attr("type"), Some("result"), "{got}");
    // Another session, and another account.
    let mut two = lab.wire("ann@a.test/two").await;
    let got = ask(&mut two, "get", "", &empty).await;
    assert_eq!(
        got.child("query"),
        Some(&Tree::parse(&private(delimiter))),
        "{got}"
    );
    let mut ben = lab.wire("ben@a.test/one").await;
    let got = ask(&mut ben, "get", "ann@a.test", &empty).await;
    assert_eq!(got.attr("type"), Some("error"), "{got}");
    let got = ask(&mut ben, "get", "", &empty).await;
    assert_eq!(got.child("query"), Some(&Tree::parse(&empty)), "{got}");
    let got = ask(&mut ann, "get", "", &private("")).await;
    assert_eq!(got.attr("type"), Some("error"), "{got}");
}

#[tokio::test]
async fn im_vc_01_vc_02_vc_03_cards_are_set_by_their_owner_and_read_by_others() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let empty = "<vCard xmlns='vcard-temp'/>";
    let got = ask(&mut ann, "get", "", empty).await;
    let is_empty = got
        .child("vCard")
        .is_some_and(|card| card.children().count() == 0);
    assert!(
        is_empty || got.to_string().contains("item-not-found"),
        "vc-01: {got}"
    );
    // vc-02: no card and no account are the same.
    let mut answers = Vec::new();
    for who in ["ann", "nobody"] {
        ben.send(format!(
            "<iq type='get' id='v' to='{who}@a.test'>{empty}</iq>"
        ))
        .await;
        let got = ben.next().await;
        assert_error(&got, "cancel", "service-unavailable");
        answers.push(got.to_string().replace(&format!("{who}@"), "WHO@"));
    }
    assert_eq!(answers[0], answers[1]);
    let old = "<vCard xmlns='vcard-temp'><FN>Ann</FN><NICKNAME>a</NICKNAME></vCard>";
    let new = "<vCard xmlns='vcard-temp'><FN>Ann Other</FN></vCard>";
    for card in [old, new] {
        let got = ask(&mut ann, "set", "", card).await;
        assert_eq!(got.attr("type"), Some("result"), "{got}");
    }
    let got = ask(&mut ben, "get", "ann@a.test", empty).await;
    assert_eq!(
        got.child("vCard"),
        Some(&Tree::parse(new)),
        "replaced as a whole: {got}"
    );
    let got = ask(&mut ben, "set", "ann@a.test", old).await;
    assert_eq!(got.attr("type"), Some("error"), "vc-03: {got}");
    let refused = got.to_string();
    assert!(
        refused.contains("forbidden") || refused.contains("not-allowed"),
        "{refused}"
    );
    let got = ask(&mut ann, "get", "", empty).await;
    assert_eq!(got.child("vCard"), Some(&Tree::parse(new)), "{got}");
}

// XEP-0077.

#[tokio::test]
async fn im_ib_01_im_ib_02_registration_by_the_policy_of_the_domain() {
    for (policy, from, fine) in [
        (Registration::Closed, LOOPBACK, false),
        (Registration::Closed, ELSEWHERE, false),
        (Registration::Loopback, LOOPBACK, true),
        (Registration::Loopback, ELSEWHERE, false),
        (Registration::Open, LOOPBACK, true),
        (Registration::Open, ELSEWHERE, true),
    ] {
        let lab = with_registration(policy).await;
        let mut wire = lab.raw_from("a.test", IpAddr::from(from));
        let features = wire.open_secure().await;
        let shown = features
            .child_ns(ns::FEATURE_REGISTER, "register")
            .is_some();
        assert_eq!(shown, fine, "{policy:?} {from:?}");
        let fields = "<username>new</username><password>secret</password>";
        for (ty, content) in [("get", ""), ("set", fields)] {
            let payload = format!("<query xmlns='{}'>{content}</query>", ns::REGISTER);
            let got = ask(&mut wire, ty, "a.test", &payload).await;
            if fine {
                assert_eq!(
                    got.attr("type"),
                    Some("result"),
                    "{policy:?} {from:?} {ty}: {got}"
                );
            } else {
                assert_error(&got, "cancel", "service-unavailable");
            }
        }
        let made = lab
            .accounts()
            .await
            .iter()
            .any(|jid| jid.as_str() == "new@a.test");
        assert_eq!(made, fine, "{policy:?} {from:?}");
        let mut ann = lab.wire("ann@a.test/one").await;
        let got = ask(&mut ann, "get", "a.test", &query(ns::DISCO_INFO, "")).await;
        let told = got.to_string().contains("'jabber:iq:register'");
        assert_eq!(told, policy != Registration::Closed, "{got}");
    }
}

#[tokio::test]
async fn im_ib_01_a_guest_registers_and_signs_in_on_the_same_stream() {
    let lab = with_registration(Registration::Open).await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    let form = ask(&mut wire, "get", "", &query(ns::REGISTER, "")).await;
    let names: Vec<_> = form
        .child("query")
        .expect("a form")
        .children()
        .map(Tree::name)
        .collect();
    assert!(
        names.contains(&"username") && names.contains(&"password"),
        "{form}"
    );
    wire.register("New", "pass word").await;
    let mut plain = sasl::client::mechanisms::Plain::new("new", "pass word");
    let jid = wire.authenticate_and_bind(&mut plain, Some("first")).await;
    assert_eq!(jid, "new@a.test/first");
    assert_eq!(wire.roster_get().await.children().count(), 0);
    // Every mechanism works for it.
    let mut again = lab.raw("a.test").await;
    again.login_plus("new", "pass word", "second").await;
}

#[tokio::test]
async fn im_ib_01_what_cannot_be_registered() {
    let lab = with_registration(Registration::Open).await;
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    for (fields, condition, ty) in [
        (
            "<username>ann</username><password>mine</password>",
            "conflict",
            "cancel",
        ),
        (
            "<username>ANN</username><password>mine</password>",
            "conflict",
            "cancel",
        ),
        ("<username>x</username>", "not-acceptable", "modify"),
        (
            "<username>x</username><password/>",
            "not-acceptable",
            "modify",
        ),
        (
            "<username>a b@c</username><password>p</password>",
            "not-acceptable",
            "modify",
        ),
        ("", "not-acceptable", "modify"),
    ] {
        let payload = format!("<query xmlns='{}'>{fields}</query>", ns::REGISTER);
        let got = ask(&mut wire, "set", "a.test", &payload).await;
        assert_error(&got, ty, condition);
        assert!(
            !got.to_string().contains("mine"),
            "no password comes back: {got}"
        );
    }
    // The account is whose it was.
    wire.authenticate_and_bind(
        &mut sasl::client::mechanisms::Plain::new("ann", password),
        None,
    )
    .await;
}

#[tokio::test]
async fn c6120_sasl_mtn_nothing_but_registration_before_login() {
    let lab = with_registration(Registration::Open).await;
    lab.account("ann@a.test").await;
    let disco = query(ns::DISCO_INFO, "");
    for stanza in [
        format!("<iq type='get' id='1' to='a.test'>{disco}</iq>"),
        format!(
            "<iq type='get' id='1' to='a.test'><ping xmlns='{}'/></iq>",
            ns::PING
        ),
        format!(
            "<iq type='get' id='1' to='ann@a.test'>{}</iq>",
            query(ns::REGISTER, "")
        ),
        format!(
            "<iq type='get' id='1' to='b.test'>{}</iq>",
            query(ns::REGISTER, "")
        ),
        format!(
            "<iq type='result' id='1' to='a.test'>{}</iq>",
            query(ns::REGISTER, "")
        ),
        "<message to='ann@a.test'><body>b</body></message>".to_owned(),
        "<presence/>".to_owned(),
    ] {
        let mut wire = lab.raw("a.test").await;
        wire.open_secure().await;
        wire.send(stanza).await;
        wire.expect_stream_error("not-authorized").await;
    }
    // In clear, not even that.
    let mut wire = lab.raw("a.test").await;
    wire.open().await;
    wire.send(format!(
        "<iq type='get' id='1'>{}</iq>",
        query(ns::REGISTER, "")
    ))
    .await;
    wire.expect_stream_error("not-authorized").await;
}

#[tokio::test(start_paused = true)]
async fn im_ib_01_time_to_fill_in_a_form_is_given_only_where_there_is_one() {
    for policy in [Registration::Closed, Registration::Open] {
        let lab = TestLab::with(["a.test"], |config| {
            config.domains[0].registration = policy;
            config.limits.stream.negotiation_max = Duration::from_secs(5);
        });
        let lab = lab.await.expect("a server");
        let mut wire = lab.raw_in_memory("a.test");
        wire.open_secure().await;
        ask(&mut wire, "get", "a.test", &query(ns::REGISTER, "")).await;
        tokio::time::advance(Duration::from_secs(6)).await;
        match policy {
            Registration::Closed => {
                wire.expect_stream_error("connection-timeout").await;
            }
            _ => wire.register("new", "secret").await,
        }
    }
}
