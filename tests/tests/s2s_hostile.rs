//! Servers that lie, flood, stop in the middle or know no manners: each is refused as its row says, and
//! a link beside it goes on.

use std::time::Duration;
use xmpp_certs::Variant;
use xmpp_server::config::Dialback;
use xmpp_testkit::{FakeDomain, Federated, Wire};

const DELAY: &str = "<delay xmlns='urn:xmpp:delay' from='c.test' stamp='2026-01-01T00:00:00Z'/>";

/// Two servers that are linked, and somebody at each.
async fn linked() -> (Federated, Wire, Wire) {
    linked_with(|_, _| ()).await
}

async fn linked_with(
    change: impl FnMut(&str, &mut xmpp_server::config::Config),
) -> (Federated, Wire, Wire) {
    let all = Federated::with(["a.test", "b.test"], change).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    go_on(&mut ann, &mut ben).await;
    (all, ann, ben)
}

/// The link beside it works, both ways.
async fn go_on(ann: &mut Wire, ben: &mut Wire) {
    ann.send("<message to='ben@b.test/y' type='chat' id='on'><body>?</body></message>")
        .await;
    assert_eq!(ben.next_of("message").await.attr("id"), Some("on"));
    ben.send("<message to='ann@a.test/x' type='chat' id='and'><body>!</body></message>")
        .await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("and"));
}

fn message(from: &str, to: &str, id: &str, more: &str) -> String {
    format!("<message from='{from}' to='{to}' type='chat' id='{id}'><body>x</body>{more}</message>")
}

/// What a peer that is signed in as c.test says, and the stream error that it gets for it.
async fn check(said: &str, condition: &str) {
    let (all, mut ann, mut ben) = linked().await;
    let mut peer = all.server("a.test", "c.test").await;
    peer.send(message("cat@c.test/z", "ann@a.test/x", "before", ""))
        .await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("before"));
    peer.send(said).await;
    peer.expect_stream_error(condition).await;
    go_on(&mut ann, &mut ben).await;
}

#[tokio::test]
async fn c6120_stanza_attribute_from_validate_a_third_domain() {
    check(
        &message("ben@b.test/y", "ann@a.test/x", "m", ""),
        "invalid-from",
    )
    .await;
}

#[tokio::test]
async fn c6120_stanza_attribute_from_validate_our_own_domain() {
    check(
        &message("ann@a.test/x", "ann@a.test/x", "m", ""),
        "invalid-from",
    )
    .await;
}

#[tokio::test]
async fn c6120_ro_nothing_is_relayed() {
    check(
        &message("cat@c.test/z", "ben@b.test/y", "m", ""),
        "host-unknown",
    )
    .await;
}

#[tokio::test]
async fn c6120_stanza_attribute_to_validate() {
    let said = "<message from='cat@c.test/z' id='m'><body>x</body></message>";
    check(said, "improper-addressing").await;
}

#[tokio::test]
async fn c6120_stanza_without_from() {
    let said = "<message to='ann@a.test/x' id='m'><body>x</body></message>";
    check(said, "improper-addressing").await;
}

#[tokio::test]
async fn ats_db_02_dialback_that_nobody_asked_for() {
    check(
        "<db:result from='b.test' to='a.test' type='valid'/>",
        "invalid-from",
    )
    .await;
}

#[tokio::test]
async fn ats_db_05_a_verdict_that_nobody_asked_for() {
    check(
        "<db:verify from='b.test' to='a.test' id='x' type='valid'/>",
        "invalid-from",
    )
    .await;
}

#[tokio::test]
async fn c6120_st_stanzas_of_clients() {
    let said = "<message xmlns='jabber:client' from='cat@c.test/z' to='ann@a.test/x'/>";
    check(said, "invalid-namespace").await;
}

#[tokio::test]
async fn c6120_st_garbage() {
    check("<message></iq>", "not-well-formed").await;
}

#[tokio::test]
async fn c6120_xml_namespace_content_server() {
    let (all, mut ann, mut ben) = linked().await;
    let mut peer = all.caller("a.test", "c.test").await;
    peer.send_header().await;
    peer.expect_header_and_error("invalid-namespace").await;
    go_on(&mut ann, &mut ben).await;
}

#[tokio::test]
async fn c6120_st_stanzas_before_proof() {
    let (all, mut ann, mut ben) = linked().await;
    let mut peer = all.caller("a.test", "c.test").await;
    peer.secure_as_server("c.test").await;
    peer.send(message("cat@c.test/z", "ann@a.test/x", "m", ""))
        .await;
    peer.expect_stream_error("not-authorized").await;
    go_on(&mut ann, &mut ben).await;
}

/// Row ce-12: EXTERNAL is not even offered to whom the certificate does not name.
#[tokio::test]
async fn ats_ce_12_a_certificate_of_somebody_else() {
    let (all, mut ann, mut ben) = linked().await;
    let mut peer = all.caller("a.test", "c.test").await;
    let features = peer.secure_as_server("b.test").await.to_string();
    assert!(!features.contains("EXTERNAL"), "{features}");
    go_on(&mut ann, &mut ben).await;
}

#[tokio::test]
async fn ats_ce_bad_certificates_prove_nothing() {
    let (all, mut ann, mut ben) = linked_with(|_, config| {
        config.s2s.dialback = Dialback::Never;
    })
    .await;
    let now = all.handle("a.test").core().clock.system_now();
    for variant in [Variant::Expired, Variant::WrongName, Variant::OtherCa] {
        let leaf = all
            .ca
            .issue_variant("c.test", variant, now)
            .expect("a leaf");
        let mut peer = all.caller_with("a.test", &leaf).await;
        peer.secure_stream("c.test").await;
        // There is no other way to prove anything.
        peer.expect_stream_error("not-authorized").await;
    }
    go_on(&mut ann, &mut ben).await;
}

/// Somebody speaks for b.test with a key that b.test has not made: b.test itself says so.
#[tokio::test]
async fn ats_db_07_a_key_of_nobody() {
    let (all, mut ann, mut ben) = linked().await;
    let mut peer = all.caller("a.test", "c.test").await;
    peer.secure_as_server("b.test").await;
    peer.send("<db:result from='b.test' to='a.test'>00112233</db:result>")
        .await;
    let answer = peer.next().await;
    assert_eq!(answer.attr("type"), Some("invalid"), "{answer}");
    peer.expect_closed().await;
    go_on(&mut ann, &mut ben).await;
}

/// A key that its maker has vouched for, said again on another stream by who has overheard it.
#[tokio::test]
async fn ats_db_04_a_key_is_good_for_one_stream() {
    let (all, mut ann, mut ben) = linked().await;
    let maker = FakeDomain::join(&all, "a.test", "c.test").await.vouch();
    let (mut peer, id) = all.unbelieved("a.test", "c.test").await;
    let key = maker.secret.key("a.test", "c.test", &id);
    let result = format!("<db:result from='c.test' to='a.test'>{key}</db:result>");
    peer.send(&result).await;
    let answer = peer.next().await;
    assert_eq!(answer.attr("type"), Some("valid"), "{answer}");
    let (mut thief, other) = all.unbelieved("a.test", "c.test").await;
    assert_ne!(id, other);
    thief.send(&result).await;
    let answer = thief.next().await;
    assert_eq!(answer.attr("type"), Some("invalid"), "{answer}");
    thief.expect_closed().await;
    assert_eq!(maker.asked(), 2);
    peer.send(message("cat@c.test/z", "ann@a.test/x", "m", ""))
        .await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("m"));
    go_on(&mut ann, &mut ben).await;
}

#[tokio::test]
async fn c6120_lm_floods_before_proof() {
    let (all, mut ann, mut ben) = linked().await;
    let mut peer = all.caller("a.test", "c.test").await;
    peer.secure_as_server("c.test").await;
    let flood = format!(
        "<db:result from='c.test' to='a.test'>{}",
        "0".repeat(20_000)
    );
    peer.send(flood).await;
    peer.expect_stream_error("policy-violation").await;
    go_on(&mut ann, &mut ben).await;
}

#[tokio::test]
async fn c6120_lm_connections_of_strangers_are_bounded() {
    let (all, mut ann, mut ben) = linked_with(|_, config| {
        config.limits.unauthenticated_max = 4;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut peer = all.caller("a.test", "c.test").await;
        peer.send_server_header("c.test").await;
        peer.expect_header().await;
        held.push(peer);
    }
    let mut one_more = all.caller("a.test", "c.test").await;
    one_more.expect_end().await;
    go_on(&mut ann, &mut ben).await;
    // A proven one gives its place back.
    drop(held);
    let mut proven = Vec::new();
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while proven.len() < 6 {
        looks.tick().await;
        proven.push(all.server("a.test", "c.test").await);
    }
}

#[tokio::test]
async fn closed_in_the_middle() {
    let (all, mut ann, mut ben) = linked().await;
    for step in 0..4 {
        let mut peer = all.caller("a.test", "c.test").await;
        if step > 0 {
            peer.send_server_header("c.test").await;
            peer.expect_header().await;
        }
        if step > 1 {
            peer.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
                .await;
        }
        if step > 2 {
            peer.send_bytes(b"\x16\x03\x01\x00\x05garbage").await;
        }
        drop(peer);
    }
    go_on(&mut ann, &mut ben).await;
}

/// What is sent again on another stream, and says that it is late, is known by what is kept of it.
#[tokio::test]
async fn x0198_what_is_sent_again_is_known() {
    let (all, mut ann, mut ben) = linked().await;
    for round in 0..3 {
        let mut peer = all.server("a.test", "c.test").await;
        peer.send(message(
            "cat@c.test/z",
            "ann@a.test/x",
            "m",
            if round == 0 { "" } else { DELAY },
        ))
        .await;
        let last = format!("last{round}");
        peer.send(message("cat@c.test/z", "ann@a.test/x", &last, ""))
            .await;
        if round == 0 {
            assert_eq!(ann.next_of("message").await.attr("id"), Some("m"));
        }
        assert_eq!(ann.next_of("message").await.attr("id"), Some(&*last));
    }
    // Without a word of lateness it is a new one: people do say the same thing twice.
    let mut peer = all.server("a.test", "c.test").await;
    peer.send(message("cat@c.test/z", "ann@a.test/x", "m", ""))
        .await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("m"));
    go_on(&mut ann, &mut ben).await;
}

/// A namespace of the stream is left at the border, that of a forwarded stanza is not.
#[tokio::test]
async fn c6120_st_13_namespaces_at_the_border() {
    let (all, mut ann, mut ben) = linked().await;
    ann.send(
        "<message to='ben@b.test/y' type='chat' id='f' xml:lang='de'><body>x</body>\
         <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='u@v.test'>\
         <body>inner</body></message></forwarded></message>",
    )
    .await;
    ben.expect(
        "<message from='ann@a.test/x' to='ben@b.test/y' type='chat' id='f' xml:lang='de'>\
         <body>x</body><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' \
         to='u@v.test'><body>inner</body></message></forwarded></message>",
    )
    .await;
    go_on(&mut ann, &mut ben).await;
    drop(all);
}

/// Nobody at the other end takes our stanzas: the sender is told, others are not held up.
#[tokio::test]
async fn c6120_lm_a_server_that_stops_reading() {
    let (all, mut ann, mut ben) = linked_with(|_, config| {
        config.limits.stream.silence_answer_max = Duration::from_secs(1);
        config.limits.stream.negotiation_max = Duration::from_secs(1);
        config.limits.s2s_wait_max = Duration::from_secs(1);
    })
    .await;
    all.link_to("b.test").hold();
    ann.send("<iq to='b.test' type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    let answer = ann.next_of("iq").await;
    assert_eq!(answer.attr("type"), Some("error"), "{answer}");
    assert!(
        answer.to_string().contains("remote-server-timeout"),
        "{answer}"
    );
    all.link_to("b.test").release();
    all.link_to("b.test").cut();
    let _ = &mut ben;
}
