//! What clients ask at login, over the wire: capabilities (XEP-0115), time (XEP-0202), last
//! activity (XEP-0012), contact addresses (XEP-0157).

use sasl::client::mechanisms::Plain;
use xmpp_stream::ns;
use xmpp_testkit::TestLab;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;

/// The first example of XEP-0115 (section 5.2).
const VER: &str = "QgayPKawpkPSDYmwT/WM94uAlu0=";
const ABILITIES: &str = "<identity category='client' type='pc' name='Exodus 0.9.1'/>\
    <feature var='http://jabber.org/protocol/caps'/>\
    <feature var='http://jabber.org/protocol/disco#info'/>\
    <feature var='http://jabber.org/protocol/disco#items'/>\
    <feature var='http://jabber.org/protocol/muc'/>";

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

async fn ask(wire: &mut Wire, to: &str, payload: &str) -> Tree {
    let id = wire.new_id();
    wire.send(format!("<iq type='get' id='{id}' to='{to}'>{payload}</iq>"))
        .await;
    let seen = wire.until_id(&id).await;
    seen.last().expect("an answer").clone()
}

fn last() -> String {
    format!("<query xmlns='{}'/>", ns::LAST)
}

fn seconds(answer: &Tree) -> u64 {
    let query = answer.child_ns(ns::LAST, "query");
    let seconds = query.and_then(|query| query.attr("seconds"));
    let seconds = seconds.unwrap_or_else(|| panic!("{answer}"));
    seconds.parse().expect("a number")
}

/// The error without what names the asked address.
fn error(answer: &Tree) -> String {
    assert_eq!(answer.attr("type"), Some("error"), "{answer}");
    answer.child("error").expect("an error").to_string()
}

#[tokio::test]
async fn im_ti_01_the_server_tells_its_time() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let payload = format!("<time xmlns='{}'/>", ns::TIME);
    for to in ["a.test", "ann@a.test"] {
        let answer = ask(&mut ann, to, &payload).await;
        let time = answer.child_ns(ns::TIME, "time").expect("a time");
        let text = |name| time.child(name).map(Tree::text).unwrap_or_default();
        assert_eq!(text("tzo"), "+00:00");
        assert!(text("utc").ends_with('Z'), "{time}");
    }
}

#[tokio::test]
async fn im_la_01_uptime_and_absence_are_told_to_who_may_know() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let mut eve = lab.wire("eve@a.test/one").await;
    ann.befriend(&mut ben).await;
    eve.presence("").await;
    assert!(seconds(&ask(&mut eve, "a.test", &last()).await) < 600);
    assert_eq!(seconds(&ask(&mut ann, "ben@a.test", &last()).await), 0);
    assert_eq!(seconds(&ask(&mut ann, "ann@a.test", &last()).await), 0);
    // Strangers, somebody who does not exist, and resources: all refused alike.
    let mut errors = Vec::new();
    for to in [
        "ann@a.test",
        "nobody@a.test",
        "ann@a.test/one",
        "ann@a.test/none",
        "nobody@a.test/one",
    ] {
        errors.push(error(&ask(&mut eve, to, &last()).await));
    }
    assert!(errors[0].contains("forbidden"), "{errors:?}");
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    ann.barrier().await;
    // A friend's question reaches the resource.
    ben.send(format!(
        "<iq type='get' id='idle' to='ann@a.test/one'>{}</iq>",
        last()
    ))
    .await;
    assert_eq!(ann.next().await.attr("id"), Some("idle"));
    // Away: since just now.
    ann.close().await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    assert!(seconds(&ask(&mut ben, "ann@a.test", &last()).await) < 600);
    // A probe says since when, too.
    ben.send("<presence type='probe' to='ann@a.test' id='p'/>")
        .await;
    ben.expect(
        "<presence type='unavailable' from='ann@a.test' to='{any}' id='p'>\
         <delay xmlns='urn:xmpp:delay' stamp='{any}'/></presence>",
    )
    .await;
}

#[tokio::test]
async fn im_la_01_absence_outlives_the_process() {
    let folder = std::env::temp_dir().join(format!("xmpp-last-{}", std::process::id()));
    let lab = async || {
        let lab = TestLab::with(["a.test"], |config| {
            config.storage = xmpp_server::config::Storage::Sqlite;
            config.data_dir = Some(folder.clone());
        });
        lab.await.expect("a server")
    };
    let first = lab().await;
    let mut ann = first.wire("ann@a.test/one").await;
    let mut ben = first.wire("ben@a.test/one").await;
    ann.befriend(&mut ben).await;
    ann.close().await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
    ben.close().await;
    first.shutdown().await;
    let second = lab().await;
    let mut ben = second.wire("ben@a.test/one").await;
    ben.presence("").await;
    let got = ben.next().await;
    assert_eq!(got.attr("from"), Some("ann@a.test"), "{got}");
    assert!(got.child("delay").is_some(), "{got}");
    ben.close().await;
    second.shutdown().await;
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test]
async fn im_co_01_contact_addresses_are_shown() {
    let lab = TestLab::with(["a.test"], |config| {
        let uris = vec!["mailto:abuse@a.test".to_owned()];
        config.domains[0].contact = vec![("abuse", uris)];
    });
    let lab = lab.await.expect("a server");
    let mut ann = lab.wire("ann@a.test/one").await;
    let payload = format!("<query xmlns='{}'/>", ns::DISCO_INFO);
    let answer = ask(&mut ann, "a.test", &payload).await;
    let form = answer.child("query").and_then(|query| query.child("x"));
    let form = form.unwrap_or_else(|| panic!("{answer}")).to_string();
    for part in [
        "http://jabber.org/network/serverinfo",
        "abuse-addresses",
        "mailto:abuse@a.test",
    ] {
        assert!(form.contains(part), "{form}");
    }
}

#[tokio::test]
async fn im_ec_05_the_servers_hash_is_what_it_says_when_asked() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut ann = lab.raw("a.test").await;
    let before = ann.open_secure().await;
    assert!(before.child("c").is_none(), "{before}");
    let mut plain = Plain::new("ann", password);
    ann.authenticate(&mut plain).await.expect("a login");
    let features = ann.open().await;
    let c = features.child_ns(ns::CAPS, "c").expect("caps");
    let node = format!(
        "{}#{}",
        c.attr("node").expect("a node"),
        c.attr("ver").expect("a hash")
    );
    ann.bind(Some("one")).await;
    let info = |node: &str| format!("<query xmlns='{}' node='{node}'/>", ns::DISCO_INFO);
    let answer = ask(&mut ann, "a.test", &info(&node)).await;
    let named = answer.child("query").expect("a query");
    assert_eq!(named.attr("node"), Some(&*node));
    let answer = ask(
        &mut ann,
        "a.test",
        &format!("<query xmlns='{}'/>", ns::DISCO_INFO),
    )
    .await;
    let plain = answer.child("query").expect("a query");
    assert!(named.children().eq(plain.children()), "{named} {plain}");
    let answer = ask(&mut ann, "a.test", &info(&format!("{node}x"))).await;
    assert!(error(&answer).contains("item-not-found"));
}

fn with_caps(ver: &str) -> String {
    format!(
        "<presence><c xmlns='{}' hash='sha-1' node='urn:x' ver='{ver}'/></presence>",
        ns::CAPS
    )
}

/// The question among what a session gets; its id and node.
async fn question(wire: &mut Wire) -> Option<(String, String)> {
    let seen = wire.barrier_seeing().await;
    let mut questions = seen.iter().filter(|tree| tree.name() == "iq");
    let question = questions.next()?;
    assert!(questions.next().is_none(), "{seen:?}");
    assert_eq!(question.attr("from"), Some(wire.bare_jid()));
    assert_eq!(question.attr("type"), Some("get"));
    let query = question.child_ns(ns::DISCO_INFO, "query").expect("a query");
    let id = question.attr("id").expect("an id").to_owned();
    Some((id, query.attr("node").expect("a node").to_owned()))
}

#[tokio::test]
async fn im_ec_03_im_ec_04_a_client_is_asked_once_and_believed_if_it_tells_the_truth() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let answer = |id: &str, to: &str, content: &str| {
        let query = format!("<query xmlns='{}'>{content}</query>", ns::DISCO_INFO);
        format!("<iq type='result' id='{id}' to='{to}'>{query}</iq>")
    };
    ann.send(with_caps(VER)).await;
    let (id, node) = question(&mut ann).await.expect("a question");
    assert_eq!(node, format!("urn:x#{VER}"));
    // A lie is not kept, and who told it is not asked again.
    ann.send(answer(&id, "ann@a.test", "<feature var='urn:lie'/>"))
        .await;
    ann.send(with_caps(VER)).await;
    assert_eq!(question(&mut ann).await, None);
    let mut ben = lab.wire("ben@a.test/one").await;
    ben.send(with_caps(VER)).await;
    let (id, _) = question(&mut ben).await.expect("a question");
    ben.send(answer(&id, "ben@a.test", ABILITIES)).await;
    ben.barrier().await;
    // Now it is known, for everybody.
    let mut cat = lab.wire("cat@a.test/one").await;
    cat.send(with_caps(VER)).await;
    assert_eq!(question(&mut cat).await, None);
    // The server answers for nobody: a question to a client reaches the client.
    cat.send(format!(
        "<iq type='get' id='q' to='ben@a.test/one'><query xmlns='{}' node='{node}'/></iq>",
        ns::DISCO_INFO
    ))
    .await;
    let got = ben.next().await;
    assert_eq!(
        (got.attr("from"), got.attr("id")),
        (Some("cat@a.test/one"), Some("q"))
    );
}

#[tokio::test]
async fn im_ec_06_presence_without_caps_or_to_somebody_asks_nobody() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    lab.account("ben@a.test").await;
    ann.send("<presence/>").await;
    assert_eq!(question(&mut ann).await, None);
    ann.send(with_caps(VER).replace("<presence>", "<presence to='ben@a.test'>"))
        .await;
    ann.send(with_caps("short")).await;
    assert_eq!(question(&mut ann).await, None);
}
