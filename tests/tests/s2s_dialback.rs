//! Dialback over the wire: whose keys are good for what, and several pairs on one stream (XEP-0185,
//! XEP-0220, XEP-0288).

use std::collections::BTreeSet;
use xmpp_testkit::{FakeDomain, Federated, Tree, Wire};

/// A server of a.test and x.test, and the authoritative ones of other domains.
async fn scene() -> Federated {
    Federated::with(["a.test"], |_, config| {
        let mut more = config.domains[0].clone();
        more.name = "x.test".into();
        config.domains.push(more);
    })
    .await
}

fn result(from: &str, to: &str, key: &str) -> String {
    format!("<db:result from='{from}' to='{to}'>{key}</db:result>")
}

async fn verdict(peer: &mut Wire) -> (String, String, String) {
    let answer = peer.next().await;
    assert_eq!(answer.name(), "result", "{answer}");
    let of = |name| answer.attr(name).unwrap_or_default().to_owned();
    (of("to"), of("from"), of("type"))
}

/// Who calls a.test from c.test proves more pairs on the same stream, to other domains and for others
/// of its own; one key is wrong, and the rest go on.
#[tokio::test]
async fn ats_db_12_pairs_on_one_stream() {
    let all = scene().await;
    let c = FakeDomain::join(&all, "a.test", "c.test").await.vouch();
    let d = FakeDomain::join(&all, "a.test", "d.test").await.vouch();
    let e = FakeDomain::join(&all, "a.test", "e.test").await.vouch();
    let (mut peer, id) = all.unbelieved("a.test", "c.test").await;
    let mut ann = all.online("ann@a.test/r").await;
    peer.send(result(
        "c.test",
        "a.test",
        &c.secret.key("a.test", "c.test", &id),
    ))
    .await;
    let proven = |from: &str, to: &str| (from.to_owned(), to.to_owned(), "valid".to_owned());
    assert_eq!(verdict(&mut peer).await, proven("c.test", "a.test"));
    let say = |from: &str, to: &str, id: &str| {
        format!("<message from='u@{from}' to='{to}' type='chat' id='{id}'><body>.</body></message>")
    };
    peer.send(say("c.test", "ann@a.test/r", "first")).await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("first"));
    // All at once: two are good, and one key is of another domain.
    peer.send(format!(
        "{}{}{}",
        result("d.test", "a.test", &d.secret.key("a.test", "d.test", &id)),
        result("c.test", "x.test", &c.secret.key("x.test", "c.test", &id)),
        result("e.test", "a.test", &d.secret.key("a.test", "e.test", &id)),
    ))
    .await;
    peer.send(say("c.test", "ann@a.test/r", "meanwhile")).await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("meanwhile"));
    let mut verdicts = BTreeSet::new();
    for _ in 0..3 {
        verdicts.insert(verdict(&mut peer).await);
    }
    let refused = ("e.test".to_owned(), "a.test".to_owned(), "error".to_owned());
    let wanted = [
        proven("c.test", "x.test"),
        proven("d.test", "a.test"),
        refused,
    ];
    assert_eq!(verdicts, BTreeSet::from(wanted));
    assert_eq!((c.asked(), d.asked(), e.asked()), (2, 1, 1));
    peer.send(say("d.test", "ann@a.test/r", "of d")).await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("of d"));
    let lines = all.links("a.test");
    for pair in ["a.test <- c.test", "x.test <- c.test", "a.test <- d.test"] {
        assert!(
            lines.iter().any(|line| line.starts_with(pair)),
            "{lines:#?}"
        );
    }
    // A pair is what is proven, not a domain.
    peer.send(say("d.test", "nobody@x.test", "of d to x")).await;
    peer.expect_stream_error("invalid-from").await;
}

/// The key is asked about where DNS says that the domain is, also when stanzas may go back on the
/// stream on which it came.
#[tokio::test]
async fn ats_bi_04_a_key_is_never_verified_where_it_came() {
    let all = scene().await;
    let c = FakeDomain::join(&all, "a.test", "c.test").await.vouch();
    let (mut peer, id) = all.unbelieved("a.test", "c.test").await;
    peer.send("<bidi xmlns='urn:xmpp:bidi'/>").await;
    let key = c.secret.key("a.test", "c.test", &id);
    peer.send(result("c.test", "a.test", &key)).await;
    let valid = ("c.test".to_owned(), "a.test".to_owned(), "valid".to_owned());
    assert_eq!(verdict(&mut peer).await, valid, "no question comes before");
    assert_eq!(c.asked(), 1);
    // What is proven is asked about elsewhere too: a second pair on the stream that goes both ways.
    let key = c.secret.key("x.test", "c.test", &id);
    peer.send(result("c.test", "x.test", &key)).await;
    let valid = ("c.test".to_owned(), "x.test".to_owned(), "valid".to_owned());
    assert_eq!(verdict(&mut peer).await, valid);
    assert_eq!(c.asked(), 2);
}

/// Keys are made of a secret that stays with the data of the server, and that no other has.
#[tokio::test]
async fn ats_db_14_the_secret_of_keys_is_random_and_kept() {
    let mut all = Federated::new(["a.test"]).await;
    let there = FakeDomain::join(&all, "a.test", "c.test").await;
    let mut ann = all.online("ann@a.test/r").await;
    ann.send("<message to='u@c.test' type='chat'><body>.</body></message>")
        .await;
    let mut stream = there.accepted().await;
    stream.header().await;
    stream
        .say(
            "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>\
             </stream:features>",
        )
        .await;
    let asked = stream.expect("</db:result>").await;
    let key = asked.trim_end_matches("</db:result>").rsplit('>').next();
    let key = key.unwrap_or_default();
    assert_eq!(verify(&all, key).await, "valid");
    assert_eq!(verify(&all, &"0".repeat(64)).await, "invalid");
    all.stop("a.test").await;
    all.start("a.test").await;
    assert_eq!(verify(&all, key).await, "valid", "kept");
    let other = Federated::new(["a.test"]).await;
    assert_eq!(verify(&other, key).await, "invalid", "another server's");
}

/// What a.test says of a key that it may have sent to c.test, on the stream "x".
async fn verify(all: &Federated, key: &str) -> String {
    let (mut peer, _) = all.unbelieved("a.test", "c.test").await;
    peer.send(format!(
        "<db:verify from='c.test' to='a.test' id='x'>{key}</db:verify>"
    ))
    .await;
    let answer: Tree = peer.next().await;
    answer.attr("type").unwrap_or_default().to_owned()
}
