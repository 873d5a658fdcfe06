//! Extensions against our own server, where it has the other side.

use xmpp_client::ext::ping::{self, Outcome};
use xmpp_client::ext::{disco, mam, muc};
use xmpp_client::{BareJid, Jid};
use xmpp_testkit::TestLab;

fn jid(text: &str) -> Jid {
    Jid::parse(text).expect("a JID")
}

#[tokio::test]
async fn xep0199_server_account_and_nobody_are_pinged() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    for to in [None, Some(jid("a.test"))] {
        let outcome = ping::ping(&ann, to.as_ref()).await.expect("an outcome");
        assert!(matches!(outcome, Outcome::Pong { .. }), "{outcome:?}");
    }
    let nobody = ping::ping(&ann, Some(&jid("nobody@a.test/x"))).await;
    assert!(
        matches!(nobody, Ok(Outcome::Unsupported { .. })),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn xep0030_the_server_says_what_it_is() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    let info = disco::info(&ann, &jid("a.test"), None).await.expect("info");
    assert!(info.is("server", "im"), "{info:?}");
    assert!(info.has("urn:xmpp:ping"), "{info:?}");
    let items = disco::items(&ann, &jid("a.test"), None)
        .await
        .expect("items");
    assert!(items.iter().all(|item| item.jid.local().is_none()));
    assert!(
        disco::services(&ann, "urn:xmpp:ping")
            .await
            .expect("services")
            .len()
            == 1
    );
}

#[tokio::test]
async fn what_the_server_does_not_have_is_refused_not_waited_for() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    let support = mam::support(&ann, None).await;
    assert!(support.is_ok_and(|support| !support.archive));
    let room = BareJid::parse("room@conference.a.test").expect("a JID");
    let joined = muc::join(&ann, &room, "me", &muc::Join::default()).await;
    assert!(joined.is_err(), "{joined:?}");
}
