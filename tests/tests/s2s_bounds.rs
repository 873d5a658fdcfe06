//! Bounds of links: what waits for one domain, for all, how many domains, how long.

use std::time::Duration;
use tokio::net::TcpListener;
use xmpp_server::limits::Limits;
use xmpp_testkit::{Federated, Tree, Wire};

/// A server of a.test, and domains at whose port somebody listens and says nothing.
async fn with_silent(
    domains: &[&str],
    change: impl Fn(&mut Limits),
) -> (Federated, Wire, TcpListener) {
    let all = Federated::with(["a.test"], |_, config| change(&mut config.limits)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    for domain in domains {
        all.names.set(domain, port);
    }
    let ann = all.online("ann@a.test/x").await;
    (all, ann, listener)
}

async fn send(ann: &mut Wire, domain: &str, id: &str, body: &str) {
    ann.send(format!(
        "<message to='u@{domain}' type='chat' id='{id}'><body>{body}</body></message>"
    ))
    .await;
}

#[track_caller]
fn is_full(error: &Tree, id: &str, domain: &str) {
    assert_eq!(error.attr("id"), Some(id), "{error}");
    let text = error.to_string();
    assert!(text.contains("resource-constraint"), "{text}");
    let words = format!("{domain}: too many stanzas wait for it already");
    assert!(text.contains(&words), "{text}");
}

#[tokio::test]
async fn s2s_pending_bounds_one_domain() {
    let (_all, mut ann, _listener) =
        with_silent(&["b.test", "c.test"], |limits| limits.s2s_pending_max = 2).await;
    for id in ["1", "2", "3"] {
        send(&mut ann, "b.test", id, "x").await;
    }
    is_full(&ann.next_of("message").await, "3", "b.test");
    // Another domain has room of its own.
    send(&mut ann, "c.test", "4", "x").await;
    ann.barrier().await;
    let (_all, mut ann, _listener) =
        with_silent(&["b.test"], |limits| limits.s2s_pending_bytes_max = 1000).await;
    send(&mut ann, "b.test", "1", &"x".repeat(600)).await;
    send(&mut ann, "b.test", "2", &"x".repeat(600)).await;
    is_full(&ann.next_of("message").await, "2", "b.test");
}

#[tokio::test]
async fn s2s_pending_bounds_all_domains() {
    let (_all, mut ann, _listener) = with_silent(&["b.test", "c.test"], |limits| {
        limits.s2s_pending_bytes_total_max = 1500;
    })
    .await;
    send(&mut ann, "b.test", "1", &"x".repeat(800)).await;
    send(&mut ann, "c.test", "2", &"x".repeat(800)).await;
    is_full(&ann.next_of("message").await, "2", "c.test");
}

#[tokio::test]
async fn s2s_links_max_bounds_domains() {
    let (_all, mut ann, _listener) =
        with_silent(&["b.test", "c.test"], |limits| limits.s2s_links_max = 1).await;
    send(&mut ann, "b.test", "1", "x").await;
    send(&mut ann, "c.test", "2", "x").await;
    is_full(&ann.next_of("message").await, "2", "c.test");
}

#[tokio::test]
async fn s2s_connect_max_ends_a_connection_that_takes_too_long() {
    let (_all, mut ann, _listener) = with_silent(&["b.test"], |limits| {
        limits.s2s_connect_max = Duration::from_millis(200);
    })
    .await;
    send(&mut ann, "b.test", "1", "x").await;
    let error = ann.next_of("message").await.to_string();
    assert!(error.contains("the negotiation took too long"), "{error}");
}

/// While a failure is remembered what comes is answered at once, with the same cause; the next try
/// comes later each time.
#[tokio::test]
async fn c6120_dn_07_a_failure_is_remembered_for_a_while() {
    let all = Federated::new(["a.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    for id in ["1", "2", "3"] {
        send(&mut ann, "b.test", id, "x").await;
        let error = ann.next_of("message").await;
        assert_eq!(error.attr("id"), Some(id), "{error}");
        assert!(error.to_string().contains("no such domain"), "{error}");
    }
    let lines = all.links("a.test");
    assert!(lines[0].contains("next try in 1 s"), "{lines:?}");
}
