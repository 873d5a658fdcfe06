//! One test for each mended fault that an attack or a review found, with what went wrong.

use xmpp_testkit::TestLab;

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// A contact with many large presences ended every session of the victim as "does not read".
#[tokio::test]
async fn large_presence_of_a_contact_does_not_lock_an_account_out() {
    let lab = lab().await;
    let mut eve = lab.wire("eve@a.test/0").await;
    let mut bob = lab.wire("bob@a.test/0").await;
    eve.befriend(&mut bob).await;
    let status = "x".repeat(15_000);
    let mut others = Vec::new();
    for number in 1..30 {
        let mut other = lab.wire(&format!("eve@a.test/{number}")).await;
        other
            .send(format!("<presence><status>{status}</status></presence>"))
            .await;
        other.barrier_among_others().await;
        others.push(other);
    }
    let mut late = lab.wire("bob@a.test/late").await;
    late.send("<presence/>").await;
    let seen = late.barrier_seeing().await;
    assert!(seen.len() >= 30, "{}", seen.len());
    eve.send(format!(
        "<presence id='big'><status>{status}{status}</status></presence>"
    ))
    .await;
    let got = eve.until_id("big").await;
    let refused = got.last().expect("an answer");
    assert!(
        refused.to_string().contains("policy-violation"),
        "{refused}"
    );
}

/// A large roster answer marked the session, and the next presence ended it.
#[tokio::test]
async fn a_large_own_answer_does_not_end_the_session() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let group = "g".repeat(1000);
    let mut refused = false;
    for number in 0..60 {
        let groups: String = (0..12)
            .map(|n| format!("<group>{n}{group}</group>"))
            .collect();
        let item = format!("<item jid='c{number}@a.test'>{groups}</item>");
        ann.send(format!(
            "<iq type='set' id='s{number}'><query xmlns='jabber:iq:roster'>{item}</query></iq>"
        ))
        .await;
        let got = ann.next().await;
        refused |= got.to_string().contains("resource-constraint");
    }
    assert!(refused, "a roster has a bound in bytes");
    for _ in 0..8 {
        ann.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
            .await;
    }
    for _ in 0..8 {
        let got = ann.next().await;
        assert_eq!(got.attr("id"), Some("r"));
    }
    ann.presence("").await;
    ann.barrier().await;
}

/// Whoever registered the name of a removed account saw the presence of its contacts.
#[tokio::test]
async fn removing_an_account_ends_its_subscriptions_and_sessions() {
    let lab = lab().await;
    let mut rem = lab.wire("rem@a.test/one").await;
    let mut sue = lab.wire("sue@a.test/one").await;
    rem.befriend(&mut sue).await;
    lab.remove("rem@a.test").await;
    rem.expect_stream_error("not-authorized").await;
    sue.until("unsubscribed").await;
    let roster = sue.roster_get_among_others().await;
    let item = roster.child("item").expect("the item stays");
    assert_eq!(item.attr("subscription"), Some("none"), "{roster}");
    let mut again = lab.wire("rem@a.test/two").await;
    again
        .send("<presence/><presence type='probe' to='sue@a.test'/>")
        .await;
    for seen in again.barrier_seeing().await {
        assert_eq!(seen.attr("from"), Some("rem@a.test/two"), "{seen}");
    }
}

/// Marks in this server's name passed from a client to its recipient.
#[tokio::test]
async fn forged_stanza_ids_and_delays_are_cut() {
    let lab = lab().await;
    let mut eve = lab.wire("eve@a.test/one").await;
    let mut bob = lab.wire("bob@a.test/one").await;
    let forged = "<stanza-id xmlns='urn:xmpp:sid:0' by='bob@a.test' id='1'/>\
                  <delay xmlns='urn:xmpp:delay' from='a.test' stamp='2000-01-01T00:00:00Z'/>";
    let foreign = "<stanza-id xmlns='urn:xmpp:sid:0' by='room@muc.other.test' id='2'/>\
                   <delay xmlns='urn:xmpp:delay' from='other.test' stamp='2001-01-01T00:00:00Z'/>";
    eve.send(format!(
        "<message to='bob@a.test/one' id='m'><body>b</body>{forged}{foreign}</message>"
    ))
    .await;
    bob.expect(format!("<message to='bob@a.test/one' from='eve@a.test/one' id='m' xml:lang='{{any}}'><body>b</body>{foreign}</message>")).await;
}

/// Attributes that grow when they are written passed the growth bound, which counted children only.
#[tokio::test]
async fn a_head_that_grows_is_refused() {
    let lab = lab().await;
    let mut eve = lab.wire("eve@a.test/one").await;
    let mut bob = lab.wire("bob@a.test/one").await;
    let quotes = "'".repeat(16_000);
    eve.send(format!(
        "<message to='bob@a.test/one' a=\"{quotes}\" b=\"{quotes}\"><body>b</body></message>"
    ))
    .await;
    let got = eve.next().await;
    assert!(got.to_string().contains("policy-violation"), "not refused");
    bob.barrier().await;
}

/// A request to subscribe to the domain stayed pending for ever.
#[tokio::test]
async fn subscribing_to_the_domain_is_declined() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.roster_get().await;
    ann.presence("").await;
    ann.send("<presence type='subscribe' to='a.test'/>").await;
    ann.until("unsubscribed").await;
    let roster = ann.roster_get_among_others().await;
    assert!(!roster.to_string().contains("ask="), "{roster}");
}

/// Guests' requests were not checked like others.
#[tokio::test]
async fn a_guests_request_needs_an_id_and_one_child() {
    let lab = lab().await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    wire.send("<iq type='get' to='a.test'><query xmlns='jabber:iq:register'/></iq>")
        .await;
    let got = wire.next().await;
    assert!(got.to_string().contains("bad-request"), "{got}");
}

/// The error for a refused subscription went to the bare JID: to all available sessions, or none.
#[tokio::test]
async fn a_refused_subscription_is_told_to_who_asked() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut other = lab.wire("ann@a.test/two").await;
    other.presence("").await;
    ann.send("<presence type='subscribe' to='ann@a.test' id='self'/>")
        .await;
    let got = ann.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("error"), Some("self")),
        "{got}"
    );
    other.barrier().await;
}
