//! Ways in which federation fails: what the sender's client is told, and what `s2s list` says.

use std::time::Duration;
use xmpp_certs::Variant;
use xmpp_server::config::Dialback;
use xmpp_testkit::Federated;
use xmpp_testkit::federated::dead_port;

/// Sends a message to b.test and gives condition and text of the error.
async fn refusal(all: &Federated) -> (String, String) {
    let mut ann = all.online("ann@a.test/x").await;
    ann.send("<message to='ben@b.test' type='chat' id='m1'><body>hi</body></message>")
        .await;
    let error = ann.next().await;
    assert_eq!(error.attr("type"), Some("error"), "{error}");
    assert_eq!(error.attr("id"), Some("m1"), "{error}");
    assert_eq!(error.attr("from"), Some("ben@b.test"), "{error}");
    let stanzas = "urn:ietf:params:xml:ns:xmpp-stanzas";
    let error = error.child("error").expect("an error");
    let condition = error
        .children()
        .find(|child| child.ns() == stanzas && child.name() != "text");
    let text = error.child_ns(stanzas, "text").expect("a text");
    (
        condition.expect("a condition").name().to_owned(),
        text.text(),
    )
}

/// The error and the line of the operators.
#[track_caller]
fn check(all: &Federated, got: &(String, String), condition: &str, text: &str) {
    assert_eq!(
        (got.0.as_str(), got.1.as_str()),
        (condition, &*format!("no link to b.test: {text}"))
    );
    let lines = all.links("a.test");
    let line = lines
        .iter()
        .find(|line| line.starts_with("a.test -> b.test"));
    let line = line.unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(line.contains(text), "{line}");
    assert!(line.contains("next try in"), "{line}");
}

async fn without_dialback() -> Federated {
    Federated::with(["a.test", "b.test"], |_, config| {
        config.s2s.dialback = Dialback::Never;
        config.limits.stream.negotiation_max = Duration::from_secs(2);
    })
    .await
}

#[tokio::test]
async fn c6120_ro_no_such_domain() {
    let all = Federated::new(["a.test"]).await;
    let got = refusal(&all).await;
    let text = "no such domain: DNS has no server or address of it";
    check(&all, &got, "remote-server-not-found", text);
}

#[tokio::test]
async fn c6120_ro_nobody_listens() {
    let all = Federated::new(["a.test"]).await;
    let port = dead_port();
    all.names.set("b.test", port);
    let got = refusal(&all).await;
    let text = format!("connection refused by 127.0.0.1:{port}");
    check(&all, &got, "remote-server-not-found", &text);
}

#[tokio::test]
async fn c6120_ro_nobody_answers() {
    let all = Federated::with(["a.test"], |_, config| {
        config.limits.stream.negotiation_max = Duration::from_secs(1);
    })
    .await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    all.names
        .set("b.test", listener.local_addr().expect("an address").port());
    let got = refusal(&all).await;
    check(
        &all,
        &got,
        "remote-server-timeout",
        "the negotiation took too long",
    );
}

async fn with_certificate(variant: Variant) -> (Federated, (String, String)) {
    let all = without_dialback().await;
    let now = all.handle("b.test").core().clock.system_now();
    let leaf = all
        .ca
        .issue_variant("b.test", variant, now)
        .expect("a leaf");
    let handle = all.handle("b.test");
    handle
        .show_certificate("b.test", &leaf.chain_pem, &leaf.key_pem)
        .expect("shown");
    let got = refusal(&all).await;
    (all, got)
}

#[tokio::test]
async fn ats_ce_certificate_expired() {
    let (all, got) = with_certificate(Variant::Expired).await;
    let text = got.1.clone();
    let day = text.strip_prefix("no link to b.test: certificate expired on ");
    let day = day.unwrap_or_else(|| panic!("{text}"));
    assert_eq!(day.len(), "2026-01-01".len(), "{day}");
    let text = format!("certificate expired on {day}");
    check(&all, &got, "remote-server-timeout", &text);
}

#[tokio::test]
async fn ats_ce_certificate_of_another_name() {
    let (all, got) = with_certificate(Variant::WrongName).await;
    let text = got
        .1
        .strip_prefix("no link to b.test: ")
        .unwrap_or_default()
        .to_owned();
    assert!(
        text.starts_with("certificate is not for b.test but for "),
        "{text}"
    );
    check(&all, &got, "remote-server-timeout", &text);
}

#[tokio::test]
async fn ats_ce_certificate_of_an_unknown_issuer() {
    let (all, got) = with_certificate(Variant::OtherCa).await;
    check(
        &all,
        &got,
        "remote-server-timeout",
        "certificate is from an unknown issuer",
    );
}

#[tokio::test]
async fn c6120_ro_policy_here() {
    let all = Federated::with(["a.test"], |_, config| {
        config.s2s.deny = vec!["b.test".into()];
    })
    .await;
    let got = refusal(&all).await;
    assert_eq!(got.0, "remote-server-not-found");
    assert_eq!(
        got.1,
        "no link to b.test: this server's policy does not allow it"
    );
}

#[tokio::test]
async fn c6120_ro_policy_there() {
    let all = Federated::with(["a.test", "b.test"], |domain, config| {
        if domain == "b.test" {
            config.s2s.allow = vec!["c.test".into()];
        }
    })
    .await;
    let got = refusal(&all).await;
    let text = "its server closed the stream: policy-violation (no links with this domain)";
    check(&all, &got, "remote-server-timeout", text);
}

#[tokio::test]
async fn c6120_ro_the_server_does_not_know_the_domain() {
    let all = Federated::new(["a.test", "c.test"]).await;
    let port = all.server_place("c.test").address.port();
    all.names.set("b.test", port);
    let got = refusal(&all).await;
    let text = "its server closed the stream: host-unknown";
    check(&all, &got, "remote-server-timeout", text);
}

/// Our certificate is not good for them, and they take no dialback.
#[tokio::test]
async fn ats_ce_12_our_own_certificate_is_refused() {
    let all = without_dialback().await;
    let mut ann = all.online("ann@a.test/x").await;
    let now = all.handle("a.test").core().clock.system_now();
    let leaf = all
        .ca
        .issue_variant("a.test", Variant::Expired, now)
        .expect("a leaf");
    let handle = all.handle("a.test");
    handle
        .show_certificate("a.test", &leaf.chain_pem, &leaf.key_pem)
        .expect("shown");
    ann.send("<iq to='b.test' type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    let error = ann.next().await;
    assert_eq!(error.attr("type"), Some("error"), "{error}");
    let text = error.to_string();
    assert!(text.contains("remote-server-timeout"), "{text}");
    assert!(
        all.links("a.test")[0].contains("next try"),
        "{:?}",
        all.links("a.test")
    );
}

/// An error is never answered with an error, and a fault of one domain leaves others alone.
#[tokio::test]
async fn c6120_se_02_errors_are_not_answered() {
    let all = Federated::new(["a.test", "c.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut cat = all.online("cat@c.test/y").await;
    ann.send("<message to='ben@b.test' type='error' id='e'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
        .await;
    ann.send("<iq to='ben@b.test/x' type='result' id='r'/>")
        .await;
    ann.send("<message to='cat@c.test' type='chat' id='m'><body>hi</body></message>")
        .await;
    let got = cat.next().await;
    assert_eq!(got.attr("id"), Some("m"), "{got}");
    ann.barrier().await;
}
