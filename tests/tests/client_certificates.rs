//! Sign-in by certificate over the wire (XEP-0178 section 2; RFC 6120 sections 6.3.4, 13.7.2.2, 13.7.2.3):
//! offers, who gets in, what a bad certificate costs, and its end in the middle of a stream.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::HandshakeKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use xmpp_certs::{DevCa, Leaf};
use xmpp_client::{Reconnect, XmppClient};
use xmpp_server::config::Config;
use xmpp_stream::ns;
use xmpp_testkit::lab::LabBuilder;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{TestLab, Trust};

const DAY: Duration = Duration::from_secs(86_400);

/// A server, and who issues certificates to its clients.
struct World {
    lab: TestLab,
    ca: DevCa,
    files: Files,
}

/// A folder that goes with the value.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let name = format!("xmpp-clients-{:x}", xmpp_server::random::bits());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn now(lab: &TestLab) -> SystemTime {
    lab.clock().system_now()
}

impl World {
    /// a.test takes certificates, b.test does not.
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnMut(&mut Config)) -> Self {
        Self::build(TestLab::builder(), change).await
    }

    /// Without sockets, for a clock that is moved.
    async fn in_memory() -> Self {
        Self::build(TestLab::builder().in_memory(), |_| ()).await
    }

    async fn build(lab: LabBuilder<'_>, mut change: impl FnMut(&mut Config)) -> Self {
        let files = Files::new();
        // Of this day on any clock that a test may have.
        let started = xmpp_server::clock::Clock::start().system_now();
        let ca = DevCa::new(started).expect("an authority");
        let path = files.write("clients.pem", ca.pem());
        let lab = lab.server(["a.test", "b.test"]).config(|config| {
            config.domains[0].client_ca = vec![path.clone()];
            change(config);
        });
        let lab = lab.start().await.expect("a server");
        lab.account("ann@a.test").await;
        Self { lab, ca, files }
    }

    fn leaf(&self, accounts: &[&str]) -> Leaf {
        let leaf = self.ca.issue_client(accounts, now(&self.lab));
        leaf.expect("a certificate")
    }

    fn trust(&self, leaf: &Leaf) -> Trust {
        let trust = self.lab.place("a.test").trust;
        trust.with_identity(&leaf.chain_pem, &leaf.key_pem)
    }

    /// A peer at its features under TLS, which has shown this certificate if it was asked for one.
    async fn showing(&self, leaf: &Leaf, domain: &str) -> (Wire, Tree) {
        let stream = TcpStream::connect(self.lab.place(domain).address).await;
        let wire = Wire::over(stream.expect("a connection"), domain);
        let mut wire = wire.trusting(self.trust(leaf));
        let features = wire.open_secure().await;
        (wire, features)
    }

    /// A peer in memory that has signed in by its certificate.
    async fn signed_in(&self, leaf: &Leaf) -> Wire {
        let wire = self.lab.raw_in_memory("a.test");
        let mut wire = wire.trusting(self.trust(leaf));
        wire.open_secure().await;
        assert_eq!(external(&mut wire, "=").await.name(), "success");
        wire.restart();
        wire.open().await;
        wire
    }
}

fn mechanisms(features: &Tree) -> Vec<String> {
    let list = features.child_ns(ns::SASL, "mechanisms").expect("a list");
    list.children().map(Tree::text).collect()
}

/// Asks for EXTERNAL; gives what is answered.
async fn external(wire: &mut Wire, data: &str) -> Tree {
    wire.send(format!(
        "<auth xmlns='{}' mechanism='EXTERNAL'>{data}</auth>",
        ns::SASL
    ))
    .await;
    wire.next().await
}

#[track_caller]
fn is_failure(answer: &Tree, condition: &str) {
    let is = answer.is(ns::SASL, "failure") && answer.child_ns(ns::SASL, condition).is_some();
    assert!(is, "{condition}: {answer}");
}

#[tokio::test]
async fn c6120_sa_03_security_mti_both_external_a_certificate_signs_in() {
    let world = World::new().await;
    let leaf = world.leaf(&["ann@a.test"]);
    let (mut wire, features) = world.showing(&leaf, "a.test").await;
    let offered = mechanisms(&features);
    assert_eq!(offered.first().map(String::as_str), Some("EXTERNAL"));
    assert!(
        offered.contains(&"SCRAM-SHA-1-PLUS".to_owned()),
        "{offered:?}"
    );
    let success = external(&mut wire, "=").await;
    assert_eq!((success.name(), success.text().as_str()), ("success", ""));
    wire.restart();
    let features = wire.open().await;
    assert!(features.child_ns(ns::SASL, "mechanisms").is_none());
    assert_eq!(wire.bind(Some("x")).await, "ann@a.test/x");
    wire.barrier().await;
    // Direct TLS, with the address said.
    let place = world.lab.place("a.test");
    let address = place.address_tls.expect("a listener");
    let stream = TcpStream::connect(address).await.expect("a connection");
    let mut wire = Wire::over(stream, "a.test");
    let trust = world.trust(&leaf).with_alpn("xmpp-client");
    wire.handshake(&trust).await.expect("TLS");
    assert_eq!(mechanisms(&wire.open().await)[0], "EXTERNAL");
    let success = external(&mut wire, &STANDARD.encode("ann@a.test")).await;
    assert_eq!(success.name(), "success");
}

#[tokio::test]
async fn c6120_sa_03_without_a_usable_certificate_all_is_as_ever() {
    let world = World::new().await;
    let (lab, at) = (&world.lab, now(&world.lab));
    let good = world.leaf(&["ann@a.test"]);
    let other = DevCa::new(at).expect("another authority");
    let useless = [
        (
            "another authority's",
            other.issue_client(&["ann@a.test"], at),
        ),
        (
            "expired",
            world
                .ca
                .issue_client_until(&["ann@a.test"], at, at - DAY / 2),
        ),
        ("a server's", world.ca.issue(&["a.test"], at)),
        (
            "another domain's",
            world.ca.issue_client(&["ann@b.test"], at),
        ),
    ];
    for (what, leaf) in useless {
        let (mut wire, features) = world.showing(&leaf.expect("one"), "a.test").await;
        let offered = mechanisms(&features);
        assert!(
            !offered.contains(&"EXTERNAL".to_owned()),
            "{what}: {offered:?}"
        );
        is_failure(&external(&mut wire, "=").await, "not-authorized");
        // The password is as good as ever.
        let password = lab.account("ann@a.test").await;
        wire.authenticate_scram("ann", &password).await;
    }
    // None at all.
    let mut wire = lab.raw("a.test").await;
    let offered = mechanisms(&wire.open_secure().await);
    assert!(!offered.contains(&"EXTERNAL".to_owned()), "{offered:?}");
    is_failure(&external(&mut wire, "=").await, "invalid-mechanism");
    // And a domain that has no authority for clients.
    let leaf = world.ca.issue_client(&["ben@b.test"], at).expect("one");
    for leaf in [leaf, good] {
        let (mut wire, features) = world.showing(&leaf, "b.test").await;
        let offered = mechanisms(&features);
        assert!(!offered.contains(&"EXTERNAL".to_owned()), "{offered:?}");
        is_failure(&external(&mut wire, "=").await, "invalid-mechanism");
    }
}

#[tokio::test]
async fn ats_ce_11_whom_it_stands_for() {
    let world = World::new().await;
    let ann = STANDARD.encode("ann@a.test");
    let both = world.leaf(&["ann@a.test", "ben@a.test"]);
    let (mut wire, _) = world.showing(&both, "a.test").await;
    is_failure(&external(&mut wire, "=").await, "invalid-authzid");
    let cid = STANDARD.encode("cid@a.test");
    is_failure(&external(&mut wire, &cid).await, "invalid-authzid");
    // Named by it, but no account: ben.
    let ben = STANDARD.encode("ben@a.test");
    is_failure(&external(&mut wire, &ben).await, "not-authorized");
    assert_eq!(external(&mut wire, &ann).await.name(), "success");
    // On a stream to its own domain each of them stands alone.
    let two = world.leaf(&["ann@b.test", "ann@a.test"]);
    let (mut wire, _) = world.showing(&two, "a.test").await;
    assert_eq!(external(&mut wire, "=").await.name(), "success");
}

#[tokio::test]
async fn a_banned_account_does_not_sign_in_by_certificate_either() {
    let world = World::new().await;
    let leaf = world.leaf(&["ann@a.test"]);
    let ann = xmpp_stream::jid::BareJid::parse("ann@a.test").expect("a JID");
    let users = world.lab.users("a.test");
    users.ban(&ann, Some("spam".into())).await.expect("banned");
    let (mut wire, _) = world.showing(&leaf, "a.test").await;
    is_failure(&external(&mut wire, "=").await, "account-disabled");
    users.unban(&ann).await.expect("unbanned");
    assert_eq!(external(&mut wire, "=").await.name(), "success");
}

#[tokio::test]
async fn c6120_lm_07_refused_certificates_are_delayed_like_wrong_passwords() {
    let delay = Duration::from_millis(300);
    let world = World::with(|config| {
        config.limits.loopback_exempt = false;
        config.limits.login_delay = delay;
    });
    let world = world.await;
    let leaf = world.leaf(&["nobody@a.test"]);
    let (mut wire, _) = world.showing(&leaf, "a.test").await;
    is_failure(&external(&mut wire, "=").await, "not-authorized");
    let began = tokio::time::Instant::now();
    is_failure(&external(&mut wire, "=").await, "not-authorized");
    assert!(began.elapsed() >= delay / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_tls_session_is_not_resumed_where_certificates_are_asked_for() {
    let world = World::new().await;
    let leaf = world.leaf(&["ann@a.test"]);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        // Both connections share what the first was given to come back with.
        let trust = world.lab.place("a.test").trust.with_versions(versions);
        for domain in ["a.test", "b.test"] {
            for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let stream = TcpStream::connect(world.lab.place(domain).address).await;
                let wire = Wire::over(stream.expect("a connection"), domain);
                let mut wire = wire.trusting(trust.clone());
                wire.open_secure().await;
                let kind = wire.tls().expect("TLS").handshake_kind();
                let expected = match domain {
                    "a.test" => HandshakeKind::Full,
                    _ => expected,
                };
                assert_eq!(kind, Some(expected), "{domain}");
            }
        }
    }
    // With a certificate, and after somebody who has shown one.
    let trust = world.trust(&leaf);
    for _ in 0..2 {
        let stream = TcpStream::connect(world.lab.place("a.test").address).await;
        let wire = Wire::over(stream.expect("a connection"), "a.test");
        let mut wire = wire.trusting(trust.clone());
        let features = wire.open_secure().await;
        assert_eq!(mechanisms(&features)[0], "EXTERNAL");
        let kind = wire.tls().expect("TLS").handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Full));
    }
}

// The end of a certificate.

/// How long the certificates below are good: less than a question may stay unanswered.
const LIFE: Duration = Duration::from_secs(50);

async fn short(world: &World) -> Wire {
    let at = now(&world.lab);
    let leaf = world.ca.issue_client_until(&["ann@a.test"], at, at + LIFE);
    world.signed_in(&leaf.expect("a certificate")).await
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_08_ats_ce_14_a_stream_ends_with_its_certificate() {
    let world = World::in_memory().await;
    let mut wire = short(&world).await;
    wire.bind(Some("x")).await;
    world.lab.advance(LIFE - Duration::from_secs(5)).await;
    wire.barrier().await;
    world.lab.advance(Duration::from_secs(6)).await;
    wire.expect_stream_error("reset").await;
    // Without stream management the session is gone, and the place is free.
    let password = world.lab.account("ann@a.test").await;
    let mut wire = world.lab.raw_in_memory("a.test");
    assert_eq!(wire.login("ann", &password, "x").await, "ann@a.test/x");
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_08_a_managed_session_waits_for_a_new_login() {
    let world = World::in_memory().await;
    let mut wire = short(&world).await;
    wire.bind(Some("x")).await;
    wire.enable("resume='true'").await;
    wire.chat("ann@a.test/x", "m").await;
    assert_eq!(wire.message_ids(1).await, ["m"]);
    let lost = wire.notes();
    world.lab.advance(LIFE + Duration::from_secs(1)).await;
    let seen = wire.until_stream_error().await;
    let reset = seen
        .last()
        .and_then(|it| it.child_ns(ns::STREAM_ERRORS, "reset"));
    assert!(reset.is_some(), "{seen:?}");
    // The old connection is still there: its end is not waited for.
    let mut back = world.lab.raw_in_memory("a.test");
    back.open_secure().await;
    let password = world.lab.account("ann@a.test").await;
    back.authenticate_scram("ann", &password).await;
    back.open().await;
    back.send_resume(lost.id(), lost.managed.received).await;
    assert_eq!(back.expect_resumed(&lost).await, 1);
    back.chat("ann@a.test/x", "n").await;
    assert_eq!(back.message_ids(1).await, ["n"]);
    // And it has no end: a password signed in.
    world.lab.advance(LIFE * 2).await;
    back.barrier().await;
}

// Configuration.

#[tokio::test]
async fn a_reload_takes_the_authorities_of_clients() {
    let world = World::new().await;
    let leaf = world.leaf(&["ann@a.test"]);
    let handle = world.lab.handle();
    let is_offered = async || {
        let (_, features) = world.showing(&leaf, "a.test").await;
        mechanisms(&features)[0] == "EXTERNAL"
    };
    assert!(is_offered().await);
    let with = handle.core().settings().config.clone();
    let mut without = with.clone();
    without.domains[0].client_ca.clear();
    handle.reload(without).await.expect("reloaded");
    assert!(!is_offered().await);
    handle.reload(with.clone()).await.expect("reloaded");
    assert!(is_offered().await);
    // A file that is none changes nothing, whatever else is in the configuration.
    for (name, text) in [("none.pem", None), ("bad.pem", Some("no certificate"))] {
        let mut bad = with.clone();
        let path = world.files.0.join(name);
        if let Some(text) = text {
            world.files.write(name, text);
        }
        bad.domains[0].client_ca = vec![path];
        let error = handle.reload(bad).await.expect_err("refused");
        assert!(error.to_string().contains(name), "{error}");
        assert!(is_offered().await);
    }
    // Another certificate of the domain's own leaves them as they are.
    world.lab.show_certificate("a.test", None);
    assert!(is_offered().await);
}

// The library.

async fn connect(world: &World, leaf: &Leaf, password: Option<&str>) -> Result<String, String> {
    let builder = XmppClient::builder("ann@a.test/lib")
        .ca_pem(world.lab.ca_pem())
        .certificate_pem(&leaf.chain_pem, &leaf.key_pem)
        .connect_to(&world.lab.place("a.test").address.to_string())
        .reconnect(Reconnect::never());
    let builder = match password {
        Some(password) => builder.password(password),
        None => builder,
    };
    let client = builder.connect().await.map_err(|error| error.to_string())?;
    let sessions = world.lab.handle().core().list_sessions();
    let mut sessions = sessions.into_iter();
    let session = sessions.find(|session| session.jid == "ann@a.test/lib");
    let mechanism = session.map(|session| session.mechanism);
    client
        .disconnect()
        .await
        .map_err(|error| error.to_string())?;
    Ok(mechanism.unwrap_or_default())
}

#[tokio::test]
async fn c6120_cl_04_the_client_signs_in_by_certificate() {
    let world = World::new().await;
    let (one, two) = (
        world.leaf(&["ann@a.test"]),
        world.leaf(&["ben@a.test", "ann@a.test"]),
    );
    let external = Ok("EXTERNAL".to_owned());
    assert_eq!(connect(&world, &one, None).await, external);
    assert_eq!(connect(&world, &two, None).await, external);
    // One that the server has no use for: the password, where there is one.
    let other = world.leaf(&["ben@a.test"]);
    let password = world.lab.account("ann@a.test").await;
    assert_eq!(
        connect(&world, &other, Some(&password)).await,
        Ok("SCRAM-SHA-512-PLUS".to_owned())
    );
    let refused = connect(&world, &other, None).await.expect_err("refused");
    assert!(refused.contains("login refused"), "{refused}");
}
