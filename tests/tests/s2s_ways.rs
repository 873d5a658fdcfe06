//! The ways by which two servers come together: certificate or dialback, STARTTLS or direct TLS, one
//! stream or two, one domain or a thousand.

use std::net::SocketAddr;
use std::time::Duration;
use xmpp_certs::Variant;
use xmpp_server::listener::ListenerKind;
use xmpp_testkit::{Federated, Wire};

/// A message there and one back.
async fn exchange(ann: &mut Wire, ben: &mut Wire, id: &str) {
    ann.send(format!(
        "<message to='ben@b.test/y' type='chat' id='{id}'><body>?</body></message>"
    ))
    .await;
    assert_eq!(ben.next_of("message").await.attr("id"), Some(id));
    ben.send(format!(
        "<message to='ann@a.test/x' type='chat' id='{id}r'><body>!</body></message>"
    ))
    .await;
    assert_eq!(
        ann.next_of("message").await.attr("id"),
        Some(&*format!("{id}r"))
    );
}

fn line<'a>(lines: &'a [String], begin: &str) -> &'a str {
    let line = lines.iter().find(|line| line.starts_with(begin));
    line.unwrap_or_else(|| panic!("{begin}: {lines:#?}"))
}

/// Row bi-02 and the rule of one link a pair: what comes back takes the stream that is there.
#[tokio::test]
async fn ats_bi_one_stream_serves_both_directions() {
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    for id in ["1", "2", "3"] {
        exchange(&mut ann, &mut ben, id).await;
    }
    assert_eq!(all.link_to("b.test").accepted(), 1);
    assert_eq!(all.link_to("a.test").accepted(), 0);
    let lines = all.links("a.test");
    let out = line(&lines, "a.test -> b.test\tup");
    assert!(out.contains("TLSv1.3 TLS13_"), "{out}");
    assert!(
        out.contains("EXTERNAL") && out.contains("b.test *.b.test"),
        "{out}"
    );
    assert!(out.contains("36") && out.contains(" days left"), "{out}");
    let lines = all.links("b.test");
    line(&lines, "b.test -> a.test\tup");
    let come = line(&lines, "b.test <- a.test\tup");
    assert!(come.contains("EXTERNAL"), "{come}");
}

/// The stream that served both is gone: the other side makes one of its own when it has something to
/// say, and nothing is lost, nothing doubled.
#[tokio::test]
async fn ats_bi_another_stream_is_used_only_when_the_first_ends() {
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    exchange(&mut ann, &mut ben, "1").await;
    for round in 0..3 {
        all.link_to("b.test").cut();
        all.link_to("a.test").cut();
        for message in 0..20 {
            let id = format!("{round}-{message}");
            ben.send(format!(
                "<message to='ann@a.test/x' type='chat' id='{id}'><body>!</body></message>"
            ))
            .await;
        }
        for message in 0..20 {
            let id = format!("{round}-{message}");
            assert_eq!(ann.next_of("message").await.attr("id"), Some(&*id));
        }
        exchange(&mut ann, &mut ben, &format!("{round}")).await;
    }
}

/// Both begin at the same moment: each keeps the stream that it has.
#[tokio::test]
async fn ats_bi_crossed_connects() {
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    let hi = "<message to='ben@b.test/y' type='chat' id='hi'><body>?</body></message>";
    let ho = "<message to='ann@a.test/x' type='chat' id='ho'><body>!</body></message>";
    tokio::join!(ann.send(hi), ben.send(ho));
    assert_eq!(ben.next_of("message").await.attr("id"), Some("hi"));
    assert_eq!(ann.next_of("message").await.attr("id"), Some("ho"));
    for id in ["1", "2", "3"] {
        exchange(&mut ann, &mut ben, id).await;
    }
    assert!(all.link_to("b.test").accepted() <= 1);
    assert!(all.link_to("a.test").accepted() <= 1);
    // One of the two ends: the other serves both, or takes over what is said next.
    all.link_to("b.test").cut();
    exchange(&mut ann, &mut ben, "4").await;
}

/// Neither certificate is good: both are known by DNS, and say so.
#[tokio::test]
async fn ats_db_01_dialback_where_certificates_are_not_good() {
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    let now = all.handle("a.test").core().clock.system_now();
    for domain in ["a.test", "b.test"] {
        let leaf = all.ca.issue_variant(domain, Variant::OtherCa, now);
        let leaf = leaf.expect("a leaf");
        let handle = all.handle(domain);
        handle
            .show_certificate(domain, &leaf.chain_pem, &leaf.key_pem)
            .expect("shown");
    }
    exchange(&mut ann, &mut ben, "1").await;
    let lines = all.links("a.test");
    for begin in ["a.test -> b.test\tup", "a.test <- b.test\tup"] {
        assert!(line(&lines, begin).contains("dialback"), "{lines:#?}");
    }
}

#[tokio::test]
async fn ats_x0368_direct_tls() {
    let all = Federated::with(["a.test", "b.test"], |_, config| {
        config.s2s.listen_tls = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    })
    .await;
    let port = all.address("b.test", ListenerKind::S2sTls).port();
    all.names.set_direct("b.test", port);
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    exchange(&mut ann, &mut ben, "1").await;
    let lines = all.links("a.test");
    assert!(
        line(&lines, "a.test -> b.test\tup").contains(" direct"),
        "{lines:#?}"
    );
    assert_eq!(
        all.link_to("b.test").accepted(),
        0,
        "nobody came by STARTTLS"
    );
}

#[tokio::test]
async fn s2s_check_says_each_step() {
    let all = Federated::new(["a.test", "b.test"]).await;
    let core = all.handle("a.test").core().clone();
    let steps = core.check_link("b.test").await;
    let texts: Vec<String> = steps.iter().map(|step| step.text()).collect();
    let last = texts.last().expect("a result");
    assert_eq!(
        last,
        "result\tok\ta.test is known there by EXTERNAL; b.test is known by its certificate"
    );
    assert!(
        texts[0].starts_with("DNS\tok\tits server is b.test:"),
        "{texts:#?}"
    );
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("connection\tok\t")),
        "{texts:#?}"
    );
    assert!(
        texts.iter().any(|text| text.contains("TLSv1.3")),
        "{texts:#?}"
    );
    let steps = core.check_link("nowhere.test").await;
    let last = steps.last().expect("a result");
    assert!(!last.ok, "{last:?}");
    assert_eq!(
        last.text,
        "no such domain: DNS has no server or address of it"
    );
    let here = core.check_link("a.test").await;
    assert!(!here.last().expect("a result").ok);
}

/// A domain that is gone for good: whoever watches somebody there sees them gone, and back.
#[tokio::test]
async fn c6121_pr_06_a_server_that_dies_takes_its_presence_with_it() {
    let mut all = Federated::with(["a.test", "b.test"], |_, config| {
        config.limits.s2s_wait_max = Duration::from_secs(1);
    })
    .await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    ann.roster_get().await;
    ann.send("<presence to='ben@b.test' type='subscribe' id='s'/>")
        .await;
    while ben.next_of("presence").await.attr("type") != Some("subscribe") {}
    ben.send("<presence to='ann@a.test' type='subscribed'/>")
        .await;
    while ann.next_of("presence").await.attr("from") != Some("ben@b.test/y") {}
    drop(ben);
    // Its end is not told: the server dies.
    all.link_to("b.test").hold();
    all.link_to("a.test").hold();
    all.kill("b.test");
    all.link_to("b.test").sever();
    all.link_to("a.test").sever();
    let gone = loop {
        let shown = ann.next_of("presence").await;
        if shown
            .attr("from")
            .is_some_and(|from| from.starts_with("ben@b.test"))
        {
            break shown;
        }
    };
    assert_eq!(gone.attr("type"), Some("unavailable"), "{gone}");
    assert_eq!(gone.attr("from"), Some("ben@b.test"), "{gone}");
    for domain in ["a.test", "b.test"] {
        all.link_to(domain).release();
        all.link_to(domain).mend();
    }
    all.start("b.test").await;
    let _ben = all.online("ben@b.test/y").await;
    while ann.next_of("presence").await.attr("from") != Some("ben@b.test/y") {}
}

/// One server of a thousand domains and one of one: every pair exchanges stanzas both ways.
#[tokio::test]
async fn a_thousand_domains_federate_with_one() {
    const DOMAINS: usize = 1000;
    let all = Federated::with(["a.test", "b.test"], |domain, config| {
        if domain == "b.test" {
            let pattern = config.domains[0].clone();
            for number in 0..DOMAINS {
                let mut one = pattern.clone();
                one.name = format!("d{number}.test");
                config.domains.push(one);
            }
        }
    })
    .await;
    let port = all.address("b.test", ListenerKind::S2sStartTls).port();
    let mut ann = all.online("ann@a.test/x").await;
    for number in 0..DOMAINS {
        let domain = format!("d{number}.test");
        all.names.set(&domain, port);
        ann.send(format!(
            "<iq to='{domain}' type='get' id='{number}'><ping xmlns='urn:xmpp:ping'/></iq>"
        ))
        .await;
    }
    for _ in 0..DOMAINS {
        let pong = ann.next_of("iq").await;
        assert_eq!(pong.attr("type"), Some("result"), "{pong}");
    }
    let up = all.links("a.test");
    let up = up
        .iter()
        .filter(|line| line.contains(" -> d") && line.contains("\tup"));
    assert_eq!(up.count(), DOMAINS);
}
