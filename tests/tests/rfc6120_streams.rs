//! RFC 6120 sections 4 and 7 over the wire: headers, restarts, stream errors, the end, binding.
//!
//! Rows of the checklist: sections 1 (stream-*, bind-*), 2 (st-*), 3 (conditions), 6 and 10. Bad XML
//! and its conditions are played in hostile_logged.rs.

use std::collections::HashSet;
use std::time::Duration;
use xmpp_server::config::Conflict;
use xmpp_stream::ns;
use xmpp_testkit::TestLab;
use xmpp_testkit::wire::{Received, Wire};

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

fn header(attrs: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' {attrs}>",
        ns::CLIENT,
        ns::STREAMS
    )
}

/// Signed in, nothing bound.
async fn unbound(lab: &TestLab, local: &str) -> Wire {
    let password = lab.account(&format!("{local}@a.test")).await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    let mut plain = sasl::client::mechanisms::Plain::new(local, password);
    wire.authenticate(&mut plain)
        .await
        .expect("the right password");
    wire.open().await;
    wire
}

fn bind(id: &str, resource: &str) -> String {
    format!(
        "<iq type='set' id='{id}'><bind xmlns='{}'>{resource}</bind></iq>",
        ns::BIND
    )
}

async fn expect_error(wire: &mut Wire, id: &str, ty: &str, condition: &str) {
    let got = wire.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("error"), Some(id)),
        "{got}"
    );
    let error = got.child("error").expect("an error child");
    assert_eq!(error.attr("type"), Some(ty), "{got}");
    assert!(error.child_ns(ns::STANZAS, condition).is_some(), "{got}");
}

// Headers.

#[tokio::test]
async fn c6120_stream_attribute_response_to_only_where_from_was_said() {
    let lab = lab().await;
    for (from, to) in [
        ("", None),
        ("from='ann@a.test' ", Some("ann@a.test")),
        ("from='ann@a.test/balcony' ", Some("ann@a.test")),
    ] {
        let mut wire = lab.raw("a.test").await;
        wire.send(header(&format!("{from}to='a.test' version='1.0'")))
            .await;
        let got = wire.expect_header().await;
        assert_eq!(got.attr("to"), to, "{got}");
        assert_eq!(
            got.attr("from"),
            Some("a.test"),
            "stream-attribute-response-from: {got}"
        );
        assert_eq!(got.attr("version"), Some("1.0"), "{got}");
    }
}

#[tokio::test]
async fn c6120_stream_attribute_response_id_unique_over_connections_and_restarts() {
    let lab = lab().await;
    let mut seen = HashSet::new();
    for _ in 0..50 {
        let mut wire = lab.raw("a.test").await;
        wire.send_header().await;
        let id = wire
            .expect_header()
            .await
            .attr("id")
            .expect("an id")
            .to_owned();
        assert!(id.len() >= 16, "{id} can be guessed");
        assert!(seen.insert(id));
    }
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.start_tls().await;
    wire.secure().await;
    for _ in 0..2 {
        wire.send_header().await;
        let id = wire
            .expect_header()
            .await
            .attr("id")
            .expect("an id")
            .to_owned();
        assert!(
            seen.insert(id),
            "sasl-restart: a new one after TLS and after SASL"
        );
        wire.expect_features().await;
        let mut plain = sasl::client::mechanisms::Plain::new("ann", &*password);
        if seen.len() == 51 {
            wire.authenticate(&mut plain)
                .await
                .expect("the right password");
        }
    }
}

#[tokio::test]
async fn c6120_st_01_stream_negotiation_restart_keeps_the_connection_and_says_no_footer() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    let mut plain = sasl::client::mechanisms::Plain::new("ann", password);
    wire.authenticate(&mut plain)
        .await
        .expect("the right password");
    // Nothing comes by itself: the first thing behind <success/> is the answer to our header.
    wire.send_header().await;
    match wire.receive().await {
        Received::Header(_) => {}
        other => panic!("no footer and nothing else before the new header: {other:?}"),
    }
    let features = wire.expect_features().await;
    assert!(
        features.child_ns(ns::SASL, "mechanisms").is_none(),
        "{features}"
    );
}

#[tokio::test]
async fn c6120_st_02_no_features_once_negotiation_is_complete() {
    let lab = lab().await;
    let mut wire = unbound(&lab, "ann").await;
    wire.bind(None).await;
    wire.barrier().await;
}

#[tokio::test]
async fn c6120_st_03_bind_mtn_nothing_is_routed_before_binding() {
    let lab = lab().await;
    let mut ben = lab.wire("ben@a.test/orchard").await;
    ben.presence("").await;
    for stanza in [
        "<message to='ben@a.test/orchard'><body>early</body></message>",
        "<presence to='ben@a.test/orchard'/>",
        "<presence/>",
        "<iq type='get' id='v' to='ben@a.test/orchard'><query xmlns='jabber:iq:version'/></iq>",
    ] {
        let mut wire = unbound(&lab, "ann").await;
        wire.send(stanza).await;
        wire.expect_stream_error("not-authorized").await;
        ben.barrier().await;
    }
}

#[tokio::test]
async fn c6120_st_09_host_unknown_comes_from_one_of_our_names() {
    let lab = lab().await;
    for to in ["", "to='other.test' ", "to='ann@a.test' ", "to='a b' "] {
        let mut wire = lab.raw("a.test").await;
        wire.send(header(&format!("{to}version='1.0'"))).await;
        let got = wire.expect_header().await;
        assert_eq!(got.attr("from"), Some("a.test"), "{to}: {got}");
        wire.expect_stream_error("host-unknown").await;
    }
}

#[tokio::test]
async fn c6120_st_10_an_id_of_the_client_is_ignored() {
    let lab = lab().await;
    let mut wire = lab.raw("a.test").await;
    wire.send(header("to='a.test' version='1.0' id='mine'"))
        .await;
    let got = wire.expect_header().await;
    assert_ne!(got.attr("id"), Some("mine"));
    wire.expect_features().await;
}

#[tokio::test]
async fn c6120_st_11_the_language_is_one_that_we_speak() {
    let lab = lab().await;
    for lang in ["xml:lang='de-CH' ", "xml:lang='en' ", ""] {
        let mut wire = lab.raw("a.test").await;
        wire.send(header(&format!("{lang}to='a.test' version='1.0'")))
            .await;
        let got = wire.expect_header().await;
        assert_eq!(
            got.attr_ns("http://www.w3.org/XML/1998/namespace", "lang"),
            Some("en"),
            "{got}"
        );
    }
}

#[tokio::test]
async fn c6120_st_12_version_1_whatever_its_spelling_and_no_other() {
    let lab = lab().await;
    for version in ["1.0", "1.10", "01.0"] {
        let mut wire = lab.raw("a.test").await;
        wire.send(header(&format!("to='a.test' version='{version}'")))
            .await;
        assert_eq!(wire.expect_header().await.attr("version"), Some("1.0"));
        wire.expect_features().await;
    }
    let mut wire = lab.raw("a.test").await;
    wire.send(header("to='a.test'")).await;
    assert_eq!(wire.expect_header().await.attr("version"), None);
    wire.expect_stream_error("unsupported-version").await;
}

#[tokio::test]
async fn c6120_st_17_prefixes_of_the_header_are_declared_anew() {
    let lab = lab().await;
    let mut ben = lab.wire("ben@a.test/orchard").await;
    let mut wire = unbound_with_prefix(&lab).await;
    wire.bind(None).await;
    wire.send("<message to='ben@a.test/orchard' id='p'><foo:a foo:b='1'/></message>")
        .await;
    ben.expect(
        "<message to='ben@a.test/orchard' from='{any}' id='p' xml:lang='{any}'>\
         <a xmlns='urn:x' xmlns:y='urn:x' y:b='1'/></message>",
    )
    .await;
}

async fn unbound_with_prefix(lab: &TestLab) -> Wire {
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    let mut plain = sasl::client::mechanisms::Plain::new("ann", password);
    wire.authenticate(&mut plain)
        .await
        .expect("the right password");
    wire.send(header(
        "to='a.test' version='1.0' xml:lang='en' xmlns:foo='urn:x'",
    ))
    .await;
    wire.expect_header().await;
    wire.expect_features().await;
    wire
}

// The end.

#[tokio::test]
async fn c6120_st_05_st_06_what_was_said_before_the_footer_counts_and_tls_is_closed_in_order() {
    let lab = lab().await;
    let mut ben = lab.wire("ben@a.test/orchard").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.send("<message to='ben@a.test/orchard' id='last'><body>b</body></message></stream:stream>")
        .await;
    assert!(matches!(ann.receive().await, Received::Footer));
    // Closed(true): the connection did not end before close_notify.
    assert!(matches!(ann.receive().await, Received::Closed(true)));
    assert_eq!(ben.next().await.attr("id"), Some("last"));
}

#[tokio::test]
async fn c6120_st_05_answers_to_what_came_before_the_footer_stand_before_ours() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let ping = |id| format!("<iq type='get' id='{id}'><ping xmlns='{}'/></iq>", ns::PING);
    let to_self = "<message to='ann@a.test/one' id='m'><body>b</body></message>";
    // Nobody is there any more to answer it.
    let request = ping("3").replace("<iq ", "<iq to='ann@a.test/one' ");
    let all = [ping("1"), to_self.to_owned(), ping("2"), request].concat();
    ann.send(all + "</stream:stream>").await;
    for id in ["1", "m", "2"] {
        assert_eq!(ann.next().await.attr("id"), Some(id));
    }
    expect_error(&mut ann, "3", "cancel", "service-unavailable").await;
    assert!(matches!(ann.receive().await, Received::Footer));
    assert!(matches!(ann.receive().await, Received::Closed(true)));
}

#[tokio::test]
async fn c6120_st_05_a_peer_that_has_closed_and_takes_nothing_is_not_waited_for() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.stream.close_max = Duration::from_millis(200);
    });
    let lab = lab.await.expect("a server");
    let mut ben = lab.wire("ben@a.test/one").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.befriend(&mut ben).await;
    let body = "x".repeat(8000);
    for _ in 0..400 {
        ben.send(format!(
            "<message to='ann@a.test/one'><body>{body}</body></message>"
        ))
        .await;
    }
    ann.send("</stream:stream>").await;
    ben.expect_presence_unavailable("ann@a.test/one").await;
}

#[tokio::test]
async fn c6120_st_07_liveness_is_asked_for_at_most_every_five_minutes() {
    let lab = lab().await;
    let silence = lab
        .handle()
        .core()
        .settings()
        .config
        .limits
        .stream
        .silence_max;
    assert!(silence >= Duration::from_secs(300), "{silence:?}");
}

#[tokio::test]
async fn c6120_st_18_a_stream_error_is_the_end_of_everything() {
    let lab = lab().await;
    let mut ben = lab.wire("ben@a.test/orchard").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    ann.send("<foo xmlns='urn:x'/><message to='ben@a.test/orchard'><body>late</body></message><bar xmlns='urn:x'/>")
        .await;
    ann.expect_stream_error("unsupported-stanza-type").await;
    ben.barrier().await;
}

#[tokio::test]
async fn c6120_st_19_an_error_in_the_header_comes_behind_a_header() {
    let lab = lab().await;
    let mut wire = lab.raw("a.test").await;
    wire.send(header("to='a.test' version='1.0'").replace(ns::STREAMS, "urn:x"))
        .await;
    wire.expect_header_and_error("invalid-namespace").await;
}

// Stream error conditions.

#[tokio::test]
async fn c6120_3_conflict_where_the_old_session_has_to_go() {
    let lab = TestLab::with(["a.test"], |config| config.c2s.conflict = Conflict::KickOld).await;
    let lab = lab.expect("a server");
    let mut old = lab.wire("ann@a.test/one").await;
    old.presence("").await;
    let mut new = lab.wire("ann@a.test/one").await;
    old.expect_stream_error("conflict").await;
    new.presence("").await;
    new.barrier().await;
}

#[tokio::test]
async fn c6120_3_improper_addressing_for_a_from_that_is_none() {
    let lab = lab().await;
    let mut wire = lab.raw("a.test").await;
    wire.send(header("from='@a.test' to='a.test' version='1.0'"))
        .await;
    wire.expect_header_and_error("improper-addressing").await;
}

#[tokio::test]
async fn c6120_3_invalid_from_after_login_as_somebody_else() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    let mut plain = sasl::client::mechanisms::Plain::new("ann", password);
    wire.authenticate(&mut plain)
        .await
        .expect("the right password");
    wire.send(header("from='ben@a.test' to='a.test' version='1.0'"))
        .await;
    wire.expect_header_and_error("invalid-from").await;
}

#[tokio::test]
async fn c6120_3_not_authorized_on_another_domain_than_was_signed_in_to() {
    let lab = TestLab::with(["a.test", "b.test"], |_| ())
        .await
        .expect("a server");
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    let mut plain = sasl::client::mechanisms::Plain::new("ann", password);
    wire.authenticate(&mut plain)
        .await
        .expect("the right password");
    wire.send(header("to='b.test' version='1.0'")).await;
    wire.expect_header_and_error("not-authorized").await;
}

#[tokio::test]
async fn c6120_3_system_shutdown_reaches_every_stream() {
    let lab = lab().await;
    let mut bound = lab.wire("ann@a.test/one").await;
    let mut early = lab.raw("a.test").await;
    early.open().await;
    // Moved in: each end is closed by its peer too, as the server waits for that.
    let see = async move {
        bound.expect_stream_error("system-shutdown").await;
        early.expect_stream_error("system-shutdown").await;
    };
    tokio::join!(lab.shutdown(), see);
}

#[tokio::test(start_paused = true)]
async fn c6120_3_connection_timeout_for_a_peer_that_does_not_answer() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.stream.silence_max = Duration::from_secs(5);
        config.limits.stream.silence_answer_max = Duration::from_secs(5);
    });
    let lab = lab.await.expect("a server");
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    // st-08: silence alone is no error; what is not answered is.
    let ping = ann.next().await;
    let id = ping.attr("id").expect("an id").to_owned();
    assert!(ping.child_ns(ns::PING, "ping").is_some(), "{ping}");
    ann.send(format!("<iq type='result' id='{id}' to='a.test'/>"))
        .await;
    let ping = ann.next().await;
    assert!(ping.child_ns(ns::PING, "ping").is_some(), "{ping}");
    ann.expect_stream_error("connection-timeout").await;
}

#[tokio::test(start_paused = true)]
async fn c6120_3_connection_timeout_for_a_peer_that_does_not_sign_in() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.stream.negotiation_max = Duration::from_secs(5);
    });
    let lab = lab.await.expect("a server");
    let mut silent = lab.raw_in_memory("a.test");
    silent.expect_header_and_error("connection-timeout").await;
    let mut half = lab.raw_in_memory("a.test");
    half.open_secure().await;
    half.expect_stream_error("connection-timeout").await;
}

// Binding.

#[tokio::test]
async fn c6120_bind_gen_resources_differ_and_cannot_be_guessed() {
    let lab = lab().await;
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let mut wire = unbound(&lab, "ann").await;
        let jid = wire.bind(None).await;
        let resource = jid
            .strip_prefix("ann@a.test/")
            .expect("the bare JID and a resource");
        assert!(resource.len() >= 16, "{resource}");
        assert!(seen.insert(resource.to_owned()));
        drop(wire);
    }
}

#[tokio::test]
async fn c6120_bind_support_is_offered_after_login_only() {
    let lab = lab().await;
    let mut wire = lab.raw("a.test").await;
    let features = wire.open_secure().await;
    assert!(features.child_ns(ns::BIND, "bind").is_none(), "{features}");
    let password = lab.account("ann@a.test").await;
    let mut plain = sasl::client::mechanisms::Plain::new("ann", password);
    wire.authenticate(&mut plain)
        .await
        .expect("the right password");
    let features = wire.open().await;
    assert!(features.child_ns(ns::BIND, "bind").is_some(), "{features}");
}

#[tokio::test]
async fn c6120_bind_restart_the_stream_goes_on_behind_the_answer() {
    let lab = lab().await;
    let mut wire = unbound(&lab, "ann").await;
    // In one packet: what follows the request waits for its answer.
    wire.send(format!(
        "{}<iq type='get' id='ping' to='a.test'><ping xmlns='{}'/></iq>",
        bind("b", "<resource>one</resource>"),
        ns::PING
    ))
    .await;
    wire.answer("b").await;
    wire.answer("ping").await;
}

#[tokio::test]
async fn c6120_6_bad_resource_text_is_replaced() {
    let lab = lab().await;
    let long = "x".repeat(1024);
    for resource in ["", "\u{7f}", long.as_str()] {
        let mut wire = unbound(&lab, "ann").await;
        let jid = wire.bind(Some(resource)).await;
        let got = jid.strip_prefix("ann@a.test/").expect("a resource");
        assert!(
            !got.is_empty() && got != resource && got.len() < 1024,
            "{jid}"
        );
        wire.close().await;
    }
}

#[tokio::test]
async fn c6120_6_a_resource_in_use_stays_where_it_is_by_default() {
    let lab = lab().await;
    assert_eq!(
        lab.handle().core().settings().config.c2s.conflict,
        Conflict::Generate
    );
    let mut old = lab.wire("ann@a.test/one").await;
    let mut new = unbound(&lab, "ann").await;
    let jid = new.bind(Some("one")).await;
    assert!(
        jid.starts_with("ann@a.test/") && jid != "ann@a.test/one",
        "{jid}"
    );
    old.barrier().await;
    new.barrier().await;
}

#[tokio::test]
async fn c6120_lm_02_the_33rd_resource_of_an_account_is_refused() {
    let lab = lab().await;
    let mut held = Vec::new();
    for number in 0..32 {
        let mut wire = unbound(&lab, "ann").await;
        wire.bind(Some(&format!("r{number}"))).await;
        held.push(wire);
    }
    let mut wire = unbound(&lab, "ann").await;
    wire.send(bind("over", "")).await;
    expect_error(&mut wire, "over", "wait", "resource-constraint").await;
    // The stream stands: when there is room, the same one binds.
    held.pop().expect("a session").close().await;
    wire.bind(Some("r33")).await;
    // Another account is not concerned.
    lab.wire("ben@a.test/one").await.barrier().await;
}

#[tokio::test]
async fn c6120_6_retries_are_bounded() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.resources_per_account_max = 1
    })
    .await;
    let lab = lab.expect("a server");
    let _only = lab.wire("ann@a.test/one").await;
    let mut wire = unbound(&lab, "ann").await;
    for number in 0..5 {
        let id = format!("b{number}");
        wire.send(bind(&id, "")).await;
        expect_error(&mut wire, &id, "wait", "resource-constraint").await;
    }
    wire.expect_stream_error("policy-violation").await;
}

#[tokio::test]
async fn c6120_7_unexpected_request_before_binding() {
    let lab = lab().await;
    let mut wire = unbound(&lab, "ann").await;
    wire.send(format!(
        "<iq type='get' id='p' to='a.test'><ping xmlns='{}'/></iq>",
        ns::PING
    ))
    .await;
    let got = wire.next().await;
    assert!(got.to_string().contains("unexpected-request"), "{got}");
    wire.bind(None).await;
}

// Limits.

#[tokio::test]
async fn im_li_01_limits_are_announced() {
    let lab = lab().await;
    let mut wire = lab.raw("a.test").await;
    for bytes in ["16384", "262144"] {
        let features = match bytes {
            "16384" => wire.open_secure().await,
            _ => {
                let password = lab.account("ann@a.test").await;
                let mut plain = sasl::client::mechanisms::Plain::new("ann", password);
                wire.authenticate(&mut plain)
                    .await
                    .expect("the right password");
                wire.open().await
            }
        };
        let limits = features
            .child_ns(ns::STREAM_LIMITS, "limits")
            .expect("limits");
        assert_eq!(
            limits.child("max-bytes").map(|max| max.text()).as_deref(),
            Some(bytes)
        );
        let idle = limits.child("idle-seconds").map(|idle| idle.text());
        assert_eq!(
            idle.as_deref(),
            (bytes != "16384").then_some("300"),
            "{features}"
        );
    }
}

#[tokio::test]
async fn c6120_lm_03_10000_bytes_pass_and_the_bound_is_exact() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    let message = |bytes: usize| {
        let (open, close) = ("<message to='ben@a.test/one'><body>", "</body></message>");
        format!(
            "{open}{}{close}",
            "x".repeat(bytes - open.len() - close.len())
        )
    };
    for bytes in [9_999, 10_000, 256 * 1024] {
        ann.send(message(bytes)).await;
        let body = ben
            .next()
            .await
            .child("body")
            .map(|body| body.text())
            .expect("a body");
        assert_eq!(body.len(), bytes - 52, "{bytes}");
    }
    ann.send(message(256 * 1024 + 1)).await;
    ann.expect_stream_error("policy-violation").await;
    ben.barrier().await;
}

#[tokio::test]
async fn c6120_lm_06_nobody_learns_a_peers_address() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut ann = lab.raw_from("a.test", [192, 0, 2, 77].into());
    ann.login("ann", &password, "one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ann.befriend(&mut ben).await;
    ann.send("<message to='ben@a.test/one'><body>b</body></message><presence><status>s</status></presence>").await;
    for ns in [
        "http://jabber.org/protocol/disco#info",
        "http://jabber.org/protocol/disco#items",
    ] {
        ben.send(format!(
            "<iq type='get' id='d' to='ann@a.test'><query xmlns='{ns}'/></iq>"
        ))
        .await;
    }
    ben.send("<presence type='probe' to='ann@a.test'/>").await;
    ann.barrier_among_others().await;
    let mut seen = ben.barrier_seeing().await;
    ann.send("</stream:stream>").await;
    seen.extend(ben.until("unavailable").await);
    assert!(seen.len() >= 6, "{seen:?}");
    for tree in seen {
        assert!(!tree.to_string().contains("192.0.2"), "{tree}");
    }
}

#[tokio::test]
async fn c6120_xm_05_whitespace_between_stanzas_is_fine() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/one").await;
    for _ in 0..16 {
        ann.send(" \n\t\r".repeat(16 * 1024)).await;
    }
    ann.barrier().await;
}
