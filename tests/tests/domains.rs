//! Several domains in one server: which certificate, whose policy and modules, what passes between
//! them, and what a reload does to their sessions.
//!
//! RFC 6120 sections 4.7.2, 5.4.3.1 and 10, RFC 6121 sections 3 and 4, XEP-0030, XEP-0077.

use sasl::client::mechanisms::Plain;
use tokio::net::TcpStream;
use xmpp_server::config::{Config, Conflict, DomainConfig, Registration};
use xmpp_server::users::Users;
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_testkit::TestLab;
use xmpp_testkit::wire::Wire;

const THREE: [&str; 3] = ["a.test", "b.test", "c.test"];

async fn lab() -> TestLab {
    TestLab::with(THREE, |_| ()).await.expect("a server")
}

/// Puts the lab's configuration in force again with a change.
async fn reload(lab: &TestLab, change: impl FnOnce(&mut Config)) {
    let mut config = Box::new(lab.handle().core().settings().config.clone());
    change(&mut config);
    let reloaded = Box::pin(lab.handle().reload(*config)).await;
    reloaded.expect("it loads");
}

fn query(ns: &str) -> String {
    format!("<query xmlns='{ns}'/>")
}

/// The features of a domain as service discovery shows them.
async fn features(wire: &mut Wire, domain: &str) -> Vec<String> {
    let got = wire.iq("get", domain, &query(ns::DISCO_INFO)).await;
    let query = got.child("query").expect("a query");
    let features = query.children().filter(|child| child.name() == "feature");
    features
        .map(|feature| feature.attr("var").expect("a name").to_owned())
        .collect()
}

/// The condition of the error that a request gets.
async fn refusal(wire: &mut Wire, ty: &str, to: &str, payload: &str) -> String {
    let id = wire.new_id();
    wire.send(format!(
        "<iq type='{ty}' id='{id}' to='{to}'>{payload}</iq>"
    ))
    .await;
    let got = wire.next().await;
    assert_eq!(got.attr("id"), Some(&*id), "{got}");
    let error = got.child("error").expect("an error");
    let condition = error.children().find(|child| child.ns() == ns::STANZAS);
    condition.expect("a condition").name().to_owned()
}

/// True when the certificate shown is good for this domain: wrong ones fail the handshake.
async fn shakes(lab: &TestLab, domain: &str, direct: bool, sni: bool, to: &str) -> bool {
    let place = lab.place("a.test");
    let trust = match sni {
        true => place.trust.clone(),
        false => place.trust.clone().without_sni(),
    };
    let address = match direct {
        true => place.address_tls.expect("a listener"),
        false => place.address,
    };
    let stream = TcpStream::connect(address).await.expect("a connection");
    let mut wire = Wire::over(stream, to);
    if !direct {
        wire.open().await;
        wire.start_tls().await;
    }
    wire.turn_to(domain);
    wire.handshake(&trust).await.is_ok()
}

#[tokio::test]
async fn c6120_tl_05_the_certificate_is_that_of_sni_else_of_the_header_else_the_first() {
    let lab = lab().await;
    for domain in THREE {
        for direct in [true, false] {
            assert!(
                shakes(&lab, domain, direct, true, "a.test").await,
                "{domain}"
            );
        }
        // No SNI: the header, where there has been one.
        assert!(shakes(&lab, domain, false, false, domain).await, "{domain}");
        let first = shakes(&lab, domain, true, false, domain).await;
        assert_eq!(first, domain == "a.test", "{domain}");
    }
    // SNI wins over the header.
    assert!(!shakes(&lab, "b.test", false, false, "c.test").await);
    assert!(shakes(&lab, "b.test", false, true, "c.test").await);
}

#[tokio::test]
async fn c6120_tl_05_sni_of_one_domain_and_header_of_another_is_a_stream_to_the_other() {
    let lab = lab().await;
    let password = lab.account("ann@b.test").await;
    for direct in [true, false] {
        // The handshake names a.test and checks that it is answered by a.test.
        let mut wire = match direct {
            true => lab.raw_tls("a.test").await,
            false => {
                let mut wire = lab.raw("a.test").await;
                wire.open().await;
                wire.start_tls().await;
                wire.secure().await;
                wire
            }
        };
        wire.turn_to("b.test");
        wire.send_header().await;
        let header = wire.expect_header().await;
        assert_eq!(header.attr("from"), Some("b.test"), "{header}");
        wire.expect_features().await;
        wire.authenticate_and_bind(&mut Plain::new("ann", password.clone()), None)
            .await;
        assert_eq!(wire.bare_jid(), "ann@b.test");
        wire.barrier().await;
    }
}

#[tokio::test]
async fn accounts_of_one_name_stay_apart() {
    let lab = lab().await;
    let of = |domain: &str| BareJid::account("ann", domain).unwrap();
    let mut one = lab.wire("ann@a.test/r").await;
    let mut other = lab.wire("ann@b.test/r").await;
    one.presence("").await;
    other.presence("").await;
    one.send("<message to='ann@b.test'><body>hi</body></message>")
        .await;
    let got = other.next().await;
    assert_eq!(got.attr("from"), Some("ann@a.test/r"), "{got}");
    one.barrier().await;
    // What one keeps the other does not see.
    let stored = format!(
        "<query xmlns='{}'><x xmlns='x:y'>secret</x></query>",
        ns::PRIVATE
    );
    one.iq("set", "ann@a.test", &stored).await;
    let asked = format!("<query xmlns='{}'><x xmlns='x:y'/></query>", ns::PRIVATE);
    let got = other.iq("get", "ann@b.test", &asked).await;
    assert!(!got.to_string().contains("secret"), "{got}");
    let condition = refusal(&mut other, "get", "ann@a.test", &query(ns::ROSTER)).await;
    assert_eq!(condition, "forbidden");
    // The password of one is none of the other's.
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("b.test").await;
    wire.open_secure().await;
    let refused = wire.authenticate(&mut Plain::new("ann", password)).await;
    let failure = refused.expect_err("another account's password");
    assert!(failure.child("not-authorized").is_some(), "{failure}");
    // Nor does the end of one touch the other.
    lab.remove("ann@a.test").await;
    one.expect_stream_error("not-authorized").await;
    other.barrier().await;
    let users = Users::Running(lab.handle().core().clone());
    assert_eq!(users.list(Some("a.test")).await.unwrap(), []);
    assert_eq!(users.list(Some("b.test")).await.unwrap(), [of("b.test")]);
}

#[tokio::test]
async fn c6121_su_12_contacts_in_two_domains_subscribe_see_and_talk() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/r").await;
    let mut ben = lab.wire("ben@b.test/r").await;
    let mut cid = lab.wire("cid@c.test/r").await;
    ann.befriend(&mut ben).await;
    ann.befriend(&mut cid).await;
    for wire in [&mut ann, &mut ben, &mut cid] {
        wire.barrier_among_others().await;
    }
    ann.presence("<status>here</status>").await;
    for wire in [&mut ben, &mut cid] {
        let got = wire.next().await;
        assert_eq!(got.attr("from"), Some("ann@a.test/r"), "{got}");
        assert_eq!(got.child("status").expect("a status").text(), "here");
    }
    ben.send("<message to='ann@a.test' type='chat'><body>hi</body></message>")
        .await;
    let got = ann.next().await;
    assert_eq!(got.attr("from"), Some("ben@b.test/r"), "{got}");
    // Requests between sessions, and their answers.
    ben.send(format!(
        "<iq type='get' id='q' to='ann@a.test/r'>{}</iq>",
        query("x:y")
    ))
    .await;
    let asked = ann.next().await;
    assert_eq!(asked.attr("from"), Some("ben@b.test/r"), "{asked}");
    ann.send("<iq type='result' id='q' to='ben@b.test/r'/>")
        .await;
    ben.answer("q").await;
    ben.send("</stream:stream>").await;
    ann.expect_presence_unavailable("ben@b.test/r").await;
    // b.test and c.test never heard of each other.
    cid.barrier().await;
}

#[tokio::test]
async fn im_di_01_domains_answer_each_for_itself_and_for_strangers_next_door() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/r").await;
    for domain in THREE {
        let ping = format!("<ping xmlns='{}'/>", ns::PING);
        let pong = ann.iq("get", domain, &ping).await;
        assert_eq!(pong.attr("from"), Some(domain), "{pong}");
        let items = ann.iq("get", domain, &query(ns::DISCO_ITEMS)).await;
        assert_eq!(items.attr("from"), Some(domain), "{items}");
    }
    let condition = refusal(&mut ann, "get", "d.test", &query(ns::DISCO_INFO)).await;
    assert_eq!(condition, "remote-server-not-found");
    // Accounts next door, there or not, look the same to a stranger.
    lab.account("ben@b.test").await;
    for to in ["ben@b.test", "nobody@b.test"] {
        let condition = refusal(&mut ann, "get", to, &query(ns::DISCO_INFO)).await;
        assert_eq!(condition, "service-unavailable", "{to}");
    }
}

#[tokio::test]
async fn policy_and_modules_are_the_domains_own() {
    let lab = TestLab::with(["a.test", "b.test"], |config| {
        config.domains[0].registration = Registration::Closed;
        config.domains[1].registration = Registration::Open;
        config.domains[1].strict_iq = true;
        config.domains[0].modules_off = vec!["version".to_owned()];
        config.modules.off = vec!["vcard".to_owned()];
    });
    let lab = lab.await.expect("a server");
    for (domain, offered) in [("a.test", false), ("b.test", true)] {
        let mut wire = lab.raw(domain).await;
        let features = wire.open_secure().await;
        let register = features.child_ns(ns::FEATURE_REGISTER, "register");
        assert_eq!(register.is_some(), offered, "{features}");
    }
    let mut ann = lab.wire("ann@a.test/r").await;
    let mut ben = lab.wire("ben@b.test/r").await;
    for (domain, on) in [("a.test", false), ("b.test", true)] {
        let found = features(&mut ann, domain).await;
        assert_eq!(found.iter().any(|ns| ns == ns::VERSION), on, "{found:?}");
        assert!(!found.iter().any(|ns| ns == ns::VCARD), "{found:?}");
    }
    // Whoever asks: it is the asked domain's module.
    ben.iq("get", "b.test", &query(ns::VERSION)).await;
    ann.iq("get", "b.test", &query(ns::VERSION)).await;
    for wire in [&mut ann, &mut ben] {
        let condition = refusal(wire, "get", "a.test", &query(ns::VERSION)).await;
        assert_eq!(condition, "service-unavailable");
        let card = format!("<vCard xmlns='{}'/>", ns::VCARD);
        let own = wire.bare_jid().to_owned();
        let condition = refusal(wire, "get", &own, &card).await;
        assert_eq!(condition, "service-unavailable");
    }
    // strict_iq of the recipient's domain.
    let condition = refusal(&mut ann, "get", "ben@b.test/r", &query("x:y")).await;
    assert_eq!(condition, "service-unavailable");
    ben.barrier().await;
    ben.send(format!(
        "<iq type='get' id='q' to='ann@a.test/r'>{}</iq>",
        query("x:y")
    ))
    .await;
    assert_eq!(ann.next().await.attr("id"), Some("q"));
}

// Reload.

#[tokio::test]
async fn a_domain_that_a_reload_takes_away_ends_its_sessions_and_no_others() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/r").await;
    let mut ben = lab.wire("ben@b.test/r").await;
    ann.befriend(&mut ben).await;
    let mut early = lab.raw("b.test").await;
    early.open_secure().await;
    reload(&lab, |config| config.domains.retain(|d| d.name != "b.test")).await;
    ann.expect_presence_unavailable("ben@b.test/r").await;
    ben.expect_stream_error("host-gone").await;
    ann.barrier().await;
    let condition = refusal(&mut ann, "get", "b.test", &query(ns::DISCO_INFO)).await;
    assert_eq!(condition, "remote-server-not-found");
    let mut late = lab.raw("a.test").await;
    late.turn_to("b.test");
    late.send_header().await;
    late.expect_header_and_error("host-unknown").await;
    // One that was in the middle of signing in does not get through.
    let password = "secret of ben@b.test".to_owned();
    let passed = early.authenticate(&mut Plain::new("ben", password)).await;
    passed.expect("the password is right");
    early.send_header().await;
    early.expect_header_and_error("host-unknown").await;
    let count = lab
        .handle()
        .core()
        .registry
        .sessions
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(count, 1, "ann's");
}

#[tokio::test]
async fn a_domain_that_a_reload_adds_is_served() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test/r").await;
    ann.presence("").await;
    let added = DomainConfig::new("b.test", Registration::Closed).unwrap();
    reload(&lab, |config| config.domains.push(added)).await;
    assert!(shakes(&lab, "b.test", true, true, "b.test").await);
    let password = lab.account("ben@b.test").await;
    let mut ben = lab.raw("a.test").await;
    ben.turn_to("b.test");
    ben.open_secure().await;
    ben.authenticate_and_bind(&mut Plain::new("ben", password), None)
        .await;
    ben.send("<message to='ann@a.test'><body>hi</body></message>")
        .await;
    assert_eq!(ann.next().await.attr("from"), Some(ben.jid()));
}

#[tokio::test]
async fn policy_changes_for_sessions_that_are_there() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test/r").await;
    let mut ben = lab.wire("ben@a.test/r").await;
    ben.presence("").await;
    assert!(
        features(&mut ann, "a.test")
            .await
            .iter()
            .any(|ns| ns == ns::REGISTER)
    );
    reload(&lab, |config| {
        config.domains[0].registration = Registration::Closed;
        config.domains[0].strict_iq = true;
        config.modules.off = vec!["version".to_owned()];
        config.sasl.plain = false;
        config.c2s.conflict = Conflict::KickOld;
    })
    .await;
    let found = features(&mut ann, "a.test").await;
    assert!(!found.iter().any(|ns| ns == ns::REGISTER), "{found:?}");
    assert!(!found.iter().any(|ns| ns == ns::VERSION), "{found:?}");
    let condition = refusal(&mut ann, "get", "a.test", &query(ns::VERSION)).await;
    assert_eq!(condition, "service-unavailable");
    let condition = refusal(&mut ann, "get", "ben@a.test/r", &query("x:y")).await;
    assert_eq!(condition, "service-unavailable");
    let mut raw = lab.raw("a.test").await;
    let offered = raw.open_secure().await.to_string();
    assert!(
        !offered.contains(">PLAIN<") && offered.contains("SCRAM"),
        "{offered}"
    );
    // The newcomer takes the name.
    let mut again = lab.wire("ann@a.test/r").await;
    ann.expect_stream_error("conflict").await;
    again.barrier().await;
    // And back, by the same way.
    reload(&lab, |config| config.modules.off.clear()).await;
    again.iq("get", "a.test", &query(ns::VERSION)).await;
}

#[tokio::test]
async fn bounds_of_connections_count_for_those_that_come() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let big = format!(
        "<message to='ben@a.test'><body>{}</body></message>",
        "x".repeat(20_000)
    );
    let mut old = lab.wire("ann@a.test/old").await;
    reload(&lab, |config| {
        config.limits.stream.after_auth.stanza_bytes_max = 10_000;
        config.limits.roster_items_max = 1;
    })
    .await;
    assert_eq!(
        lab.handle()
            .core()
            .settings()
            .config
            .limits
            .roster_items_max,
        lab.handle().core().limits.roster_items_max,
        "ignored until the next start"
    );
    let mut new = lab.wire("ann@a.test/new").await;
    old.send(&big).await;
    old.next().await;
    old.barrier().await;
    new.send(&big).await;
    new.expect_stream_error("policy-violation").await;
}

#[tokio::test]
async fn what_does_not_load_changes_nothing() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test/r").await;
    let mut config = lab.handle().core().settings().config.clone();
    config.sasl.plain = false;
    config.domains[0].modules_off = vec!["pign".to_owned()];
    let error = lab.handle().reload(config.clone()).await.unwrap_err();
    assert!(error.to_string().contains("`pign`"), "{error}");
    config.domains[0].modules_off.clear();
    let mut added = DomainConfig::new("b.test", Registration::Closed).unwrap();
    added.certificate = Some(xmpp_server::config::CertificateFiles {
        certificate: "/nonexistent/b.pem".into(),
        key: "/nonexistent/b.key".into(),
    });
    config.domains.push(added);
    let error = lab.handle().reload(config).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/b.pem"), "{error}");
    let settings = lab.handle().core().settings();
    assert!(settings.config.sasl.plain && settings.hosts.len() == 1);
    ann.barrier().await;
}
