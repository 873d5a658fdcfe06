//! Both machines over real TLS in a pipe: who shows what, and what comes of it.

use crate::driver::{Driver, TlsSource};
use crate::limits::{Limits, XmlLimits};
use crate::stream::s2s::{
    Callee, CalleeConfig, Caller, CallerConfig, Dialback, Distrust, Domains, Event, Manage, Pair,
    PeerVerdict, Proof, Purpose, Secret,
};
use crate::stream::{CloseReason, Failure, Machine, Output, RandomSource, TlsInfo, TlsRule};
use crate::tls::trust::tests::{Ca, NOW};
use crate::tls::{s2s, server_name, trust};
use rustls::pki_types::CertificateDer;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::duplex;

struct Source(Arc<ServerConfig>, CertificateDer<'static>);

impl TlsSource for Source {
    fn choose(
        &self,
        _sni: Option<&str>,
        _to: Option<&str>,
        _direct: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        Some((Arc::clone(&self.0), self.1.clone()))
    }
}

struct OnlyB;

impl Domains for OnlyB {
    fn is_served(&self, domain: &str) -> bool {
        domain == "b.test"
    }

    fn fallback(&self) -> Box<str> {
        "b.test".into()
    }
}

fn random() -> RandomSource {
    let random = ring::rand::SystemRandom::new();
    Box::new(move |bytes| ring::rand::SecureRandom::fill(&random, bytes).unwrap())
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn judge(tls: &TlsInfo, anchors: &Arc<RootCertStore>, domain: &str) -> PeerVerdict {
    match trust::judge(&tls.peer, anchors, domain, NOW) {
        Ok(()) => PeerVerdict::Trusted,
        Err(cause) => PeerVerdict::Untrusted(cause),
    }
}

/// What came of it: at the caller, and at the callee.
struct Outcome {
    caller: Result<Proof, CloseReason>,
    callee: Result<Proof, CloseReason>,
    distrust: Option<Distrust>,
    tls: Option<TlsInfo>,
}

/// a.test calls b.test, each with a certificate for its name and of its authority, and trusts one.
async fn call(direct: bool, names: [&str; 2], [a, b]: [&Ca; 2], trusted: &Ca) -> Outcome {
    let limits = Arc::new(Limits {
        after_auth: XmlLimits::s2s(),
        ..Limits::default()
    });
    let (near, far) = duplex(4096);
    let tls = match direct {
        true => TlsRule::Direct,
        false => TlsRule::Required,
    };
    let config = CallerConfig {
        pair: Pair::new("a.test", "b.test").unwrap(),
        purpose: Purpose::Stanzas,
        tls,
        external: true,
        dialback: Dialback::Never,
        accepts_untrusted: false,
        secret: Secret::new(b"a"),
        bidi: false,
        manage: Manage::Off,
        limits: Arc::clone(&limits),
    };
    let caller = Driver::new(Caller::new(config, random(), now()), Box::new(near));
    let config = CalleeConfig {
        domains: Arc::new(OnlyB),
        tls,
        dialback: Dialback::Never,
        secret: Secret::new(b"b"),
        bidi: false,
        manage: false,
        limits,
    };
    let callee = Driver::new(Callee::new(config, random(), now()), Box::new(far));
    let anchors = trusted.anchors();
    let calling = caller_side(caller, a.server(names[0]), direct, Arc::clone(&anchors));
    let called = callee_side(callee, b.server(names[1]), direct, anchors);
    let (caller, (callee, distrust, tls)) = tokio::join!(calling, called);
    Outcome {
        caller,
        callee,
        distrust,
        tls,
    }
}

async fn caller_side(
    mut driver: Driver<Caller>,
    (chain, key): (String, String),
    direct: bool,
    anchors: Arc<RootCertStore>,
) -> Result<Proof, CloseReason> {
    let config = s2s::client_config(&chain, &key, direct).unwrap();
    let name = server_name("b.test").unwrap();
    if direct {
        let connected = driver.connect_tls(Arc::clone(&config), name.clone()).await;
        connected.map_err(|_| CloseReason::TlsFailed)?;
    }
    loop {
        while let Some(output) = driver.machine.poll_output() {
            match output {
                Output::StartTls { .. } => {
                    let connected = driver.connect_tls(Arc::clone(&config), name.clone()).await;
                    connected.map_err(|_| CloseReason::TlsFailed)?;
                }
                Output::Server(Event::CheckPeer { peer, .. }) => {
                    let verdict = judge(driver.machine.tls().unwrap(), &anchors, &peer);
                    driver.machine.peer_checked(verdict, now());
                }
                Output::Server(Event::Established(link)) => return Ok(link.proof),
                Output::Closed(reason) => return Err(reason),
                _ => {}
            }
        }
        if driver.turn(true).await.is_err() && driver.machine.poll_timeout().is_none() {
            return Err(CloseReason::Eof);
        }
    }
}

async fn callee_side(
    mut driver: Driver<Callee>,
    (chain, key): (String, String),
    direct: bool,
    anchors: Arc<RootCertStore>,
) -> (
    Result<Proof, CloseReason>,
    Option<Distrust>,
    Option<TlsInfo>,
) {
    let (config, leaf) = s2s::server_config(&chain, &key, direct).unwrap();
    let source = Source(config, leaf);
    let mut result = None;
    if direct {
        driver.accept_tls(&source, None, true).await.unwrap();
    }
    while result.is_none() {
        while let Some(output) = driver.machine.poll_output() {
            match output {
                Output::StartTls { to } => {
                    driver.accept_tls(&source, Some(&to), false).await.unwrap();
                }
                Output::Server(Event::CheckPeer { peer, .. }) => {
                    let verdict = judge(driver.machine.tls().unwrap(), &anchors, &peer);
                    driver.machine.peer_checked(verdict, now());
                }
                Output::Server(Event::Proven(_, proof)) => result = Some(Ok(proof)),
                Output::Closed(reason) => result = Some(Err(reason)),
                _ => {}
            }
        }
        if result.is_none() && driver.turn(true).await.is_err() {
            result.get_or_insert(Err(CloseReason::Eof));
        }
    }
    driver.flush_within(std::time::Duration::from_secs(5)).await;
    let distrust = driver.machine.distrust().cloned();
    (result.unwrap(), distrust, driver.machine.tls().cloned())
}

#[tokio::test]
async fn ats_ce_12_serverauth_only_certificates_sign_in_both_by_starttls_and_direct_tls() {
    for direct in [false, true] {
        let ca = Ca::new("one");
        let outcome = call(direct, ["a.test", "b.test"], [&ca, &ca], &ca).await;
        assert!(matches!(outcome.caller, Ok(Proof::External)), "{direct}");
        assert!(matches!(outcome.callee, Ok(Proof::External)), "{direct}");
        // Row tu-04.
        let tls = outcome.tls.unwrap();
        assert_eq!((tls.version, tls.peer.len()), ("TLSv1.3", 1));
        assert!(tls.cipher.starts_with("TLS13_AES"), "{}", tls.cipher);
        assert_eq!(
            trust::summary(&tls.peer[0]).unwrap().names,
            ["a.test".into()]
        );
    }
}

#[tokio::test]
async fn ats_ce_07_the_caller_is_told_what_is_wrong_with_the_called() {
    let (ca, other) = (Ca::new("one"), Ca::new("other"));
    let failed = |outcome: Outcome| match outcome.caller {
        Err(CloseReason::Failed(Failure::Untrusted(cause))) => cause.to_string(),
        other => panic!("{other:?}"),
    };
    let outcome = call(false, ["a.test", "x.test"], [&ca, &ca], &ca).await;
    assert_eq!(
        failed(outcome),
        "certificate is not for b.test but for x.test"
    );
    let outcome = call(false, ["a.test", "b.test"], [&ca, &other], &ca).await;
    assert_eq!(failed(outcome), "certificate is from an unknown issuer");
}

#[tokio::test]
async fn c6120_tls_correlate_the_called_judges_the_certificate_by_the_header() {
    let (ca, other) = (Ca::new("one"), Ca::new("other"));
    let outcome = call(false, ["x.test", "b.test"], [&ca, &ca], &ca).await;
    let cause = outcome.distrust.unwrap().to_string();
    assert_eq!(cause, "certificate is not for a.test but for x.test");
    // The caller's side is told in words too.
    match outcome.caller {
        Err(CloseReason::Theirs(error)) => assert_eq!(error.text.as_deref(), Some(&*cause)),
        other => panic!("{other:?}"),
    }
    let outcome = call(false, ["a.test", "b.test"], [&other, &ca], &ca).await;
    assert_eq!(outcome.distrust, Some(Distrust::UnknownIssuer));
    assert!(outcome.callee.is_err());
}

#[test]
fn ats_tu_08_alpn_is_for_direct_tls_only_and_there_are_no_tickets() {
    let (chain, key) = Ca::new("one").server("a.test");
    for (direct, alpn) in [(true, vec![s2s::ALPN_SERVER.to_vec()]), (false, vec![])] {
        let (server, _) = s2s::server_config(&chain, &key, direct).unwrap();
        assert_eq!(server.alpn_protocols, alpn);
        assert_eq!(server.send_tls13_tickets, 0);
        assert!(!server.session_storage.can_cache());
        let client = s2s::client_config(&chain, &key, direct).unwrap();
        assert_eq!(client.alpn_protocols, alpn);
        assert!(client.client_auth_cert_resolver.has_certs());
    }
    let (_, other_key) = Ca::new("one").server("a.test");
    assert!(s2s::server_config(&chain, &other_key, true).is_err());
    assert!(s2s::client_config("", &key, true).is_err());
}
