//! XEP-0077 sections 3.2 and 3.3 over the wire: a new password, and the end of an account.

use xmpp_stream::ns;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Over, Received, TestLab};

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

fn set(id: &str, to: &str, content: &str) -> String {
    let query = format!("<query xmlns='{}'>{content}</query>", ns::REGISTER);
    format!("<iq type='set' id='{id}'{to}>{query}</iq>")
}

async fn refused(wire: &mut Wire, content: &str, condition: &str) {
    wire.send(set("no", "", content)).await;
    let seen = wire.until_id("no").await;
    let got = seen.last().expect("an answer");
    assert_eq!(got.attr("type"), Some("error"), "{got}");
    let error = got.child("error").expect("an error");
    assert!(error.child_ns(ns::STANZAS, condition).is_some(), "{got}");
    assert!(!got.to_string().contains("fresh"), "no password comes back");
}

fn types(trees: &[Tree]) -> Vec<&str> {
    trees.iter().filter_map(|tree| tree.attr("type")).collect()
}

#[tokio::test]
async fn im_ib_04_a_new_password_is_the_one_that_counts() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut two = lab.wire("ann@a.test/two").await;
    let fields = "<username>ann</username><password>fresh</password>";
    for to in ["", " to='a.test'"] {
        ann.send(set("new", to, fields)).await;
        ann.answer("new").await;
    }
    // Other sessions stay.
    two.barrier().await;
    let mut again = lab.raw("a.test").await;
    again.login("ann", "fresh", "three").await;
    let old = lab.account("eve@a.test").await;
    let mut wrong = lab.raw("a.test").await;
    wrong.open_secure().await;
    let mut plain = sasl::client::mechanisms::Plain::new("ann", old);
    assert!(wrong.authenticate(&mut plain).await.is_err());
    refused(
        &mut ann,
        "<username>eve</username><password>fresh</password>",
        "not-allowed",
    )
    .await;
    refused(
        &mut ann,
        "<username>ann</username><password/>",
        "bad-request",
    )
    .await;
    refused(&mut ann, "<username>ann</username>", "bad-request").await;
}

#[tokio::test]
async fn im_ib_04_no_password_is_changed_in_clear() {
    let lab = TestLab::with(["a.test"], |config| config.c2s.require_tls = false);
    let lab = lab.await.expect("a server");
    let password = lab.account("ann@a.test").await;
    let mut ann = lab.raw("a.test").await;
    ann.open().await;
    let mut scram = sasl::client::mechanisms::Scram::<sasl::common::scram::Sha256>::new(
        "ann",
        password.clone(),
        sasl::common::ChannelBinding::None,
    )
    .expect("random bytes");
    ann.authenticate_and_bind(&mut scram, Some("clear")).await;
    let fields = "<username>ann</username><password>fresh</password>";
    refused(&mut ann, fields, "not-authorized").await;
    let mut again = lab.raw("a.test").await;
    again.login("ann", &password, "safe").await;
}

#[tokio::test]
async fn im_ib_05_a_removed_account_leaves_nothing() {
    let lab = lab().await;
    for to in ["", " to='a.test'", " to='ann@a.test'"] {
        let mut ann = lab.wire("ann@a.test/one").await;
        let mut two = lab.wire("ann@a.test/two").await;
        let mut ben = lab.wire("ben@a.test/one").await;
        ann.befriend(&mut ben).await;
        let private = "<query xmlns='jabber:iq:private'><x xmlns='urn:t'>1</x></query>";
        ann.send(format!("<iq type='set' id='p'>{private}</iq>"))
            .await;
        ann.until_id("p").await;
        refused(&mut ann, "<remove/><username>ann</username>", "bad-request").await;
        ann.send(set("gone", to, "<remove/>")).await;
        // The result, then the end, for every session.
        ann.answer("gone").await;
        ann.expect_stream_error("not-authorized").await;
        two.expect_stream_error("not-authorized").await;
        // Contacts are told, presence first.
        let told = ben.until("unsubscribed").await;
        let told = types(&told);
        for ty in ["unavailable", "unsubscribe", "unsubscribed"] {
            assert!(told.contains(&ty), "{ty} in {told:?}");
        }
        ben.barrier_among_others().await;
        let roster = ben.roster_get_among_others().await;
        let item = roster.child("item").expect("the item stays");
        assert_eq!(item.attr("subscription"), Some("none"), "{roster}");
        assert!(
            !lab.accounts()
                .await
                .iter()
                .any(|jid| jid.as_str() == "ann@a.test")
        );
        // Whoever takes the name finds nothing.
        let mut new = lab.wire("ann@a.test/new").await;
        assert_eq!(new.roster_get().await.children().count(), 0);
        let got = new
            .iq(
                "get",
                "ann@a.test",
                "<query xmlns='jabber:iq:private'><x xmlns='urn:t'/></query>",
            )
            .await;
        assert!(!got.to_string().contains('1'), "{got}");
        new.close().await;
        lab.remove("ann@a.test").await;
        ben.send(
            "<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='ann@a.test' \
                  subscription='remove'/></query></iq>",
        )
        .await;
        ben.until_id("r").await;
        ben.close().await;
    }
}

#[tokio::test]
async fn im_ib_05_a_removed_account_cannot_sign_in() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.send(set("gone", "", "<remove/>")).await;
    ann.answer("gone").await;
    ann.expect_stream_error("not-authorized").await;
    let mut again = lab.raw("a.test").await;
    again.open_secure().await;
    let mut plain = sasl::client::mechanisms::Plain::new("ann", password);
    assert!(again.authenticate(&mut plain).await.is_err());
}

#[tokio::test]
async fn im_ib_05_c6120_st_05_who_gives_up_a_managed_account_and_closes_at_once_is_answered() {
    let lab = lab().await;
    for enable in ["", "resume='true'"] {
        let mut ann = lab.managed(Over::StartTls, "ann@a.test/one").await;
        if enable.is_empty() {
            let _ = ann.lose();
            ann = lab.wire("ann@a.test/two").await;
            ann.enable("").await;
        }
        let remove = set("gone", "", "<remove/>");
        ann.send(format!("{remove}</stream:stream>")).await;
        let answer = ann.next().await;
        assert_eq!(answer.attr("id"), Some("gone"), "{answer}");
        assert_eq!(answer.attr("type"), Some("result"), "{answer}");
        while !matches!(ann.receive().await, Received::Closed(_)) {}
    }
}
