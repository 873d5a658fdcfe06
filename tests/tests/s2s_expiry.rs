//! Row ce-14: a certificate that ends during a stream ends the stream, with `reset`, on either side;
//! the next one sees the next certificate. The clock is the test's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;
use xmpp_stream::ns;
use xmpp_testkit::lab::Variant;
use xmpp_testkit::{TestLab, Trust, Wire};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// PEM of chain and key of a certificate for this domain that is good for five minutes more.
fn soon_over(lab: &TestLab, domain: &str) -> (String, String) {
    let then = lab.clock().system_now() + DAY + 5 * MINUTE;
    let leaf = lab
        .authority()
        .issue_variant(domain, Variant::Expired, then)
        .expect("a leaf");
    (leaf.chain_pem, leaf.key_pem)
}

async fn exchange(ann: &mut Wire, ben: &mut Wire, id: &str) {
    ann.send(format!(
        "<message to='ben@b.test/y' type='chat' id='{id}'><body>?</body></message>"
    ))
    .await;
    assert_eq!(ben.next_of("message").await.attr("id"), Some(id));
    ben.send(format!(
        "<message to='ann@a.test/x' type='chat' id='{id}'><body>!</body></message>"
    ))
    .await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some(id));
}

/// The certificate of `whose` ends while a.test and b.test are linked, and is renewed in time or not.
async fn check(whose: &str, renewed: bool) {
    let lab = TestLab::in_memory(["a.test", "b.test"])
        .await
        .expect("a lab");
    let mut ann = lab.wire("ann@a.test/x").await;
    let mut ben = lab.wire("ben@b.test/y").await;
    for wire in [&mut ann, &mut ben] {
        wire.presence("").await;
    }
    let (chain, key) = soon_over(&lab, whose);
    let handle = lab.handle_of(whose);
    handle.show_certificate(whose, &chain, &key).expect("shown");
    exchange(&mut ann, &mut ben, "1").await;
    let link = lab.link("a.test", "b.test");
    let before = link.accepted();
    if renewed {
        lab.show_certificate(whose, None);
    }
    lab.advance(4 * MINUTE).await;
    exchange(&mut ann, &mut ben, "2").await;
    assert_eq!(link.accepted(), before, "the same stream");
    lab.advance(MINUTE + Duration::from_secs(1)).await;
    exchange(&mut ann, &mut ben, "3").await;
    assert!(
        link.accepted() > before || lab.link("b.test", "a.test").accepted() > 0,
        "{whose}: another stream"
    );
    let lines = lab.handle_of("a.test").core().list_links(None);
    let proofs: Vec<_> = lines.iter().filter_map(|line| line.proof.clone()).collect();
    let by_key = proofs.iter().any(|proof| proof == "dialback");
    assert_eq!(by_key, !renewed, "{whose}: {proofs:?}");
}

#[tokio::test(start_paused = true)]
async fn ats_ce_14_the_called_servers_certificate_ends() {
    check("b.test", true).await;
    check("b.test", false).await;
}

#[tokio::test(start_paused = true)]
async fn ats_ce_14_the_calling_servers_certificate_ends() {
    check("a.test", true).await;
    check("a.test", false).await;
}

/// A peer is told so by the error of that name, and not before the last moment.
#[tokio::test(start_paused = true)]
async fn c6120_lm_08_the_stream_error_is_reset() {
    let lab = TestLab::in_memory(["a.test", "b.test"])
        .await
        .expect("a lab");
    let (chain, key) = soon_over(&lab, "c.test");
    let trust = Trust::pem(lab.ca_pem()).with_identity(&chain, &key);
    let mut peer = Wire::over(lab.connect_server("a.test", false), "a.test").trusting(trust);
    peer.secure_as_server("c.test").await;
    peer.send(format!(
        "<auth xmlns='{}' mechanism='EXTERNAL'>{}</auth>",
        ns::SASL,
        STANDARD.encode("c.test")
    ))
    .await;
    peer.expect(format!("<success xmlns='{}'/>", ns::SASL))
        .await;
    peer.send_server_header("c.test").await;
    peer.expect_header().await;
    peer.expect_features().await;
    let mut ann = lab.wire("ann@a.test/x").await;
    ann.presence("").await;
    lab.advance(5 * MINUTE - Duration::from_secs(2)).await;
    peer.send("<message from='c.test' to='ann@a.test/x' id='m'><body>.</body></message>")
        .await;
    assert_eq!(ann.next_of("message").await.attr("id"), Some("m"));
    lab.advance(Duration::from_secs(3)).await;
    peer.expect_stream_error("reset").await;
}
