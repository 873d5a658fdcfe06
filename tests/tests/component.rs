//! External components over the wire (XEP-0114): the handshake, what passes to and from them, what is
//! refused, and what senders are told while they are not here.

use std::net::SocketAddr;
use tokio::net::TcpStream;
use xmpp_server::config::{AllowedComponent, Config};
use xmpp_server::listener::ListenerKind;
use xmpp_stream::driver::Transport;
use xmpp_stream::ns;
use xmpp_stream::stream::component::Secret;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Federated, TestLab};

const GATEWAY: &str = "gw.d.test";

fn allow(config: &mut Config) {
    config.component.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.component.allow = [GATEWAY, "other.d.test", "far.test"]
        .map(|domain| AllowedComponent {
            domain: domain.into(),
            secret: Secret::new("test"),
        })
        .into();
}

async fn lab() -> TestLab {
    TestLab::with(["d.test"], allow).await.expect("a server")
}

async fn connect(lab: &TestLab, domain: &str) -> Wire {
    let listeners = lab.listeners("d.test");
    let address = listeners
        .into_iter()
        .find(|(kind, _)| *kind == ListenerKind::Component)
        .expect("a listener")
        .1;
    let stream = TcpStream::connect(address).await.expect("a connection");
    greeted(stream, domain).await
}

async fn greeted(stream: impl Transport + 'static, domain: &str) -> Wire {
    let mut wire = Wire::over(stream, domain);
    wire.send_component_header().await;
    wire
}

async fn component(lab: &TestLab, domain: &str) -> Wire {
    let mut wire = connect(lab, domain).await;
    wire.shake_hands("test").await;
    let agreed = wire.next().await;
    assert!(agreed.is(ns::COMPONENT, "handshake"), "{agreed}");
    wire
}

async fn online(lab: &TestLab, jid: &str) -> Wire {
    let mut wire = lab.wire(jid).await;
    wire.presence("").await;
    wire
}

fn message(from: &str, to: &str, id: &str) -> String {
    format!("<message from='{from}' to='{to}' id='{id}' type='chat'><body>hi</body></message>")
}

#[tokio::test]
async fn im_cp_01_a_component_comes_in_by_its_secret() {
    let lab = lab().await;
    component(&lab, GATEWAY).await;
    let mut wrong = connect(&lab, "other.d.test").await;
    wrong.shake_hands("tost").await;
    wrong.expect_stream_error("not-authorized").await;
    let mut early = connect(&lab, "other.d.test").await;
    early.expect_header().await;
    early.send(message("other.d.test", "ann@d.test", "m")).await;
    early.expect_stream_error("not-authorized").await;
    for unknown in ["nobody.d.test", "d.test"] {
        let mut wire = connect(&lab, unknown).await;
        wire.expect_header_and_error("host-unknown").await;
    }
}

#[tokio::test]
async fn im_cp_02_a_second_connection_of_a_component_is_a_conflict() {
    let lab = lab().await;
    let mut first = component(&lab, GATEWAY).await;
    let mut ann = online(&lab, "ann@d.test").await;
    let mut second = connect(&lab, GATEWAY).await;
    second.shake_hands("test").await;
    second.expect_stream_error("conflict").await;
    // The first one goes on.
    ann.send(format!(
        "<message to='{GATEWAY}' id='m'><body>hi</body></message>"
    ))
    .await;
    assert_eq!(first.next().await.attr("id"), Some("m"));
    first.close().await;
    // Its place is free; when, the server says by letting another in.
    while !comes_in(&lab).await {}
}

async fn comes_in(lab: &TestLab) -> bool {
    let mut wire = connect(lab, GATEWAY).await;
    wire.shake_hands("test").await;
    wire.next().await.is(ns::COMPONENT, "handshake")
}

#[tokio::test]
async fn im_cp_02_stanzas_pass_both_ways_in_the_namespace_of_each_stream() {
    let lab = lab().await;
    let mut gateway = component(&lab, GATEWAY).await;
    let mut ann = online(&lab, "ann@d.test").await;
    ann.send(format!(
        "<message to='room@{GATEWAY}/x' id='m'><body>hi</body></message>"
    ))
    .await;
    let got = gateway.next().await;
    assert!(got.is(ns::COMPONENT, "message"), "{got}");
    assert_eq!(got.attr("from"), Some(ann.jid()));
    assert!(got.child_ns(ns::COMPONENT, "body").is_some(), "{got}");
    // From anybody at its domain, to bare and full addresses.
    for (from, to) in [
        (GATEWAY, ann.bare_jid().to_owned()),
        ("room@gw.d.test/nick", ann.jid().to_owned()),
    ] {
        gateway.send(message(from, &to, "back")).await;
        let got = ann.next().await;
        assert!(got.is(ns::CLIENT, "message"), "{got}");
        assert_eq!(got.attr("from"), Some(from));
        assert!(got.child_ns(ns::CLIENT, "body").is_some(), "{got}");
    }
    // Requests and their answers, and the server's own services.
    let id = ann.new_id();
    ann.send(format!(
        "<iq type='get' id='{id}' to='{GATEWAY}'><query xmlns='{}'/></iq>",
        ns::VERSION
    ))
    .await;
    let asked = gateway.next().await;
    assert_eq!(asked.attr("id"), Some(&*id));
    gateway
        .send(format!(
            "<iq type='result' id='{id}' from='{GATEWAY}' to='{}'/>",
            ann.jid()
        ))
        .await;
    assert_eq!(ann.next().await.attr("type"), Some("result"));
    gateway
        .send(format!(
            "<iq type='get' id='7' from='{GATEWAY}' to='d.test'><ping xmlns='{}'/></iq>",
            ns::PING
        ))
        .await;
    let answer = gateway.next().await;
    assert_eq!(
        (answer.attr("id"), answer.attr("type")),
        (Some("7"), Some("result"))
    );
}

#[tokio::test]
async fn im_cp_02_a_component_speaks_for_its_own_domain_alone() {
    let cases = [
        (message("ann@d.test", "ann@d.test", "m"), "invalid-from"),
        (
            message("x@sub.gw.d.test", "ann@d.test", "m"),
            "invalid-from",
        ),
        (
            format!("<message from='{GATEWAY}'/>"),
            "improper-addressing",
        ),
        (
            "<message to='ann@d.test'/>".to_owned(),
            "improper-addressing",
        ),
    ];
    let lab = lab().await;
    let mut ann = online(&lab, "ann@d.test").await;
    for (stanza, condition) in cases {
        let mut wire = loop {
            let mut wire = connect(&lab, GATEWAY).await;
            wire.shake_hands("test").await;
            // The one before may be on its way out yet.
            if wire.next().await.is(ns::COMPONENT, "handshake") {
                break wire;
            }
        };
        wire.send(stanza).await;
        wire.expect_stream_error(condition).await;
    }
    ann.barrier().await;
}

#[tokio::test]
async fn what_is_for_an_absent_component_goes_back_with_the_reason() {
    let lab = lab().await;
    let mut ann = online(&lab, "ann@d.test").await;
    for kind in ["message", "iq"] {
        let ty = if kind == "iq" { "get" } else { "chat" };
        ann.send(format!(
            "<{kind} type='{ty}' id='a' to='x@{GATEWAY}'><x xmlns='urn:x'/></{kind}>"
        ))
        .await;
        let got = ann.next().await;
        let error = got.child("error").expect("an error");
        assert!(
            error.child_ns(ns::STANZAS, "service-unavailable").is_some(),
            "{got}"
        );
        assert_eq!(got.attr("from"), Some("x@gw.d.test"));
        assert!(
            got.to_string()
                .contains("the component gw.d.test is not connected"),
            "{got}"
        );
    }
    // Nobody is told that nobody heard of an end.
    ann.send(format!("<presence type='unavailable' to='x@{GATEWAY}'/>"))
        .await;
    ann.barrier().await;
}

#[tokio::test]
async fn components_write_to_each_other() {
    let lab = lab().await;
    let mut one = component(&lab, GATEWAY).await;
    let mut other = component(&lab, "other.d.test").await;
    one.send(message("x@gw.d.test", "y@other.d.test", "m"))
        .await;
    assert_eq!(other.next().await.attr("from"), Some("x@gw.d.test"));
    // A domain of nobody's.
    one.send(message("x@gw.d.test", "y@nobody.test", "n")).await;
    let got = one.next().await;
    assert_eq!(
        (got.attr("id"), got.attr("type")),
        (Some("n"), Some("error"))
    );
}

#[tokio::test]
async fn presence_and_subscriptions_reach_a_component() {
    let lab = lab().await;
    let mut gateway = component(&lab, GATEWAY).await;
    let mut ann = online(&lab, "ann@d.test").await;
    ann.send(format!("<presence type='subscribe' to='x@{GATEWAY}'/>"))
        .await;
    let asked = gateway.next().await;
    assert_eq!(asked.attr("type"), Some("subscribe"));
    assert_eq!(asked.attr("from"), Some("ann@d.test"));
    for ty in ["subscribed", "subscribe"] {
        gateway
            .send(format!(
                "<presence from='x@{GATEWAY}' to='ann@d.test' type='{ty}'/>"
            ))
            .await;
    }
    ann.send(format!("<presence type='subscribed' to='x@{GATEWAY}'/>"))
        .await;
    // The approval and the presence of who is here.
    let mut got = Vec::new();
    while got.len() < 2 {
        let stanza = gateway.next().await;
        if stanza.name() == "presence" && stanza.attr("type") != Some("probe") {
            got.push(stanza.attr("type").unwrap_or("available").to_owned());
        }
    }
    assert_eq!(got, ["subscribed", "available"]);
    ann.send("<presence><show>away</show></presence>").await;
    let away = gateway.next().await;
    assert!(away.to_string().contains("away"), "{away}");
    assert_eq!(away.attr("to"), Some("x@gw.d.test"));
}

#[tokio::test]
async fn im_di_08_a_domain_lists_the_components_below_it() {
    let lab = lab().await;
    let mut ann = online(&lab, "ann@d.test").await;
    let payload = format!("<query xmlns='{}'/>", ns::DISCO_ITEMS);
    let got = ann.iq("get", "d.test", &payload).await;
    let query = got.child("query").expect("a query");
    let items: Vec<_> = query
        .children()
        .filter_map(|item| item.attr("jid"))
        .collect();
    assert_eq!(items, [GATEWAY, "other.d.test"]);
}

#[tokio::test]
async fn a_reload_takes_a_component_away() {
    let lab = lab().await;
    let mut gateway = component(&lab, GATEWAY).await;
    let mut ann = online(&lab, "ann@d.test").await;
    let mut config = lab.handle().core().settings().config.clone();
    config.component.allow.clear();
    lab.handle().reload(config).await.expect("it loads");
    gateway.send(message(GATEWAY, "ann@d.test", "m")).await;
    gateway.expect_stream_error("host-gone").await;
    ann.send(format!(
        "<message to='{GATEWAY}' id='m'><body>hi</body></message>"
    ))
    .await;
    // Like any other domain that nobody serves.
    let got = ann.next().await;
    let error = got.child("error").expect("an error");
    assert!(
        error
            .child_ns(ns::STANZAS, "remote-server-not-found")
            .is_some(),
        "{got}"
    );
}

#[tokio::test]
async fn components_are_told_that_the_server_goes() {
    let lab = lab().await;
    let mut gateway = component(&lab, GATEWAY).await;
    let ending = tokio::spawn(lab.shutdown());
    gateway.expect_stream_error("system-shutdown").await;
    drop(gateway);
    ending.await.expect("it ends");
}

#[tokio::test]
async fn a_component_and_another_server_find_each_other() {
    let change = |domain: &str, config: &mut Config| {
        if domain == "d.test" {
            allow(config);
        }
    };
    let all = Federated::with(["d.test", "e.test"], change).await;
    all.names
        .set(GATEWAY, all.server_place("d.test").address.port());
    let (near, far) = tokio::io::duplex(4096);
    let handle = all.handle("d.test");
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    tokio::spawn(async move { handle.serve_component(Box::new(far), peer).await });
    let mut gateway = greeted(near, GATEWAY).await;
    gateway.shake_hands("test").await;
    gateway.next().await;
    let mut ben = all.online("ben@e.test/y").await;
    ben.send(format!(
        "<message to='x@{GATEWAY}' id='there'><body>hi</body></message>"
    ))
    .await;
    let got = gateway.next().await;
    assert_eq!(got.attr("id"), Some("there"), "{got}");
    assert_eq!(got.attr("from"), Some("ben@e.test/y"));
    // Out under the certificate of the domain above it.
    gateway
        .send(message("x@gw.d.test", "ben@e.test/y", "back"))
        .await;
    let got = ben.next_of("message").await;
    assert_eq!(
        (got.attr("id"), got.attr("from")),
        (Some("back"), Some("x@gw.d.test")),
        "{got}"
    );
}
