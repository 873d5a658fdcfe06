//! SASL over the wire: who gets in, by which mechanism, and what everybody else is told.
//!
//! RFC 6120 section 6; of addressing-tls-sasl the rows sc-*, cb-* and dg-*. The clients are the
//! `sasl` and `rsasl` crates, which share no code with the server, and bytes by hand.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rsasl::prelude::{Mechname, SASLClient, SASLConfig};
use sasl::client::mechanisms::{Plain, Scram};
use sasl::common::ChannelBinding;
use sasl::common::scram::{Sha1, Sha256};
use tokio::net::TcpStream;
use xmpp_stream::ns;
use xmpp_testkit::TestLab;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;

const PLUS: [&str; 3] = [
    "SCRAM-SHA-512-PLUS",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-1-PLUS",
];
const NOT_PLUS: [&str; 3] = ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"];

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// A peer at its features under TLS, and the features.
async fn secured(lab: &TestLab) -> (Wire, Tree) {
    let mut wire = lab.raw("a.test").await;
    let features = wire.open_secure().await;
    (wire, features)
}

fn auth(mechanism: &str, data: &str) -> String {
    let data = STANDARD.encode(data);
    format!(
        "<auth xmlns='{}' mechanism='{mechanism}'>{data}</auth>",
        ns::SASL
    )
}

fn response(data: &str) -> String {
    format!(
        "<response xmlns='{}'>{}</response>",
        ns::SASL,
        STANDARD.encode(data)
    )
}

fn text_of(step: &Tree) -> String {
    String::from_utf8(STANDARD.decode(step.text()).expect("base64")).expect("UTF-8")
}

async fn expect_failure(wire: &mut Wire, condition: &str) {
    wire.expect(format!(
        "<failure xmlns='{}'><{condition}/></failure>",
        ns::SASL
    ))
    .await;
}

async fn expect_challenge(wire: &mut Wire) -> String {
    let got = wire.next().await;
    assert!(got.is(ns::SASL, "challenge"), "{got}");
    text_of(&got)
}

fn mechanisms(features: &Tree) -> Vec<String> {
    let offered = features.child_ns(ns::SASL, "mechanisms");
    offered
        .map(|list| list.children().map(Tree::text).collect())
        .unwrap_or_default()
}

fn bindings(features: &Tree) -> Vec<&str> {
    let offered = features.child_ns(ns::SASL_CB, "sasl-channel-binding");
    let types = offered.map(|list| list.children().filter_map(|child| child.attr("type")));
    types.map(Iterator::collect).unwrap_or_default()
}

fn scram(local: &str, password: &str, binding: ChannelBinding) -> Scram<Sha256> {
    Scram::new(local, password, binding).expect("random bytes")
}

// Signing in.

#[tokio::test]
async fn ats_sc_07_seven_attempts_of_an_old_client_end_signed_in() {
    // What slixmpp 1.8.3 does: it names a binding type that nobody offers, then it claims that the
    // server has no channel binding, then it takes what is left. All on one stream.
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let (mut wire, features) = secured(&lab).await;
    let offered = mechanisms(&features);
    for (names, flag) in [(PLUS, "p=tls-unique,,"), (NOT_PLUS, "y,,")] {
        for (round, name) in names.into_iter().enumerate() {
            assert!(offered.iter().any(|offer| offer == name), "{name}");
            wire.send(auth(
                name,
                &format!("{flag}n=ann,r=d41d8cd98f00b204{round}"),
            ))
            .await;
            let got = wire.next().await;
            assert!(got.is(ns::SASL, "failure"), "{name}: {got}");
        }
    }
    let jid = wire
        .authenticate_and_bind(&mut Plain::new("ann", password), Some("old"))
        .await;
    assert_eq!(jid, "ann@a.test/old");
    wire.barrier().await;
}

#[tokio::test]
async fn ats_sc_07_each_wrong_flag_is_refused() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    for (mechanism, header) in [
        ("SCRAM-SHA-256", "y,,"),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,,"),
        ("SCRAM-SHA-256-PLUS", "n,,"),
        ("SCRAM-SHA-256-PLUS", "y,,"),
        ("SCRAM-SHA-256", "p=tls-exporter,,"),
    ] {
        let (mut wire, _) = secured(&lab).await;
        wire.send(auth(mechanism, &format!("{header}n=ann,r=abcdefgh")))
            .await;
        let got = wire.next().await;
        assert!(got.is(ns::SASL, "failure"), "{mechanism} {header}: {got}");
    }
}

#[tokio::test]
async fn ats_sc_13_exporter_of_this_connection_signs_in_and_no_other() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    assert_eq!(
        wire.login_plus("ann", &password, "bound").await,
        "ann@a.test/bound"
    );
    wire.barrier().await;
    let of_another_connection = wire.exporter();
    for wrong in [of_another_connection, vec![0; 32], Vec::new()] {
        let (mut wire, _) = secured(&lab).await;
        let mut mechanism = scram("ann", &password, ChannelBinding::TlsExporter(wrong));
        let failure = wire
            .authenticate(&mut mechanism)
            .await
            .expect_err("a wrong binding");
        assert!(failure.child("not-authorized").is_some(), "{failure}");
    }
}

#[tokio::test]
async fn ats_sc_17_one_binding_value_serves_each_attempt_on_a_connection() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let (mut wire, _) = secured(&lab).await;
    let binding = ChannelBinding::TlsExporter(wire.exporter());
    let mut wrong = scram("ann", "wrong", binding.clone());
    wire.authenticate(&mut wrong)
        .await
        .expect_err("a wrong password");
    wire.authenticate_and_bind(&mut scram("ann", &password, binding), None)
        .await;
}

#[tokio::test]
async fn ats_sc_01_rsasl_signs_in_by_each_hash() {
    // rsasl leaves extensions out when it rebuilds what it signs: XEP-0474 has to be off for it.
    let lab = TestLab::with(["a.test"], |config| {
        config.sasl.downgrade_protection = false
    })
    .await
    .expect("a server");
    let right = lab.account("ann@a.test").await;
    for name in NOT_PLUS {
        for (password, fine) in [(right.as_str(), true), ("wrong", false)] {
            let (mut wire, _) = secured(&lab).await;
            let signed_in = rsasl_signs_in(&mut wire, name, password).await;
            assert_eq!(signed_in, fine, "{name} {password}");
            if fine {
                wire.restart();
                wire.open().await;
                wire.bind(None).await;
                wire.barrier().await;
            }
        }
    }
}

async fn rsasl_signs_in(wire: &mut Wire, name: &str, password: &str) -> bool {
    let config = SASLConfig::with_credentials(None, "ann".into(), password.into());
    let offered = [Mechname::parse(name.as_bytes()).expect("a name")];
    let client = SASLClient::new(config.expect("a configuration"));
    let mut session = client.start_suggested(&offered).expect("a mechanism");
    let mut message = Vec::new();
    session.step(None, &mut message).expect("a first message");
    wire.send(auth(name, &String::from_utf8(message).expect("UTF-8")))
        .await;
    loop {
        let got = wire.next().await;
        if got.name() == "failure" {
            return false;
        }
        let data = STANDARD.decode(got.text()).expect("base64");
        let mut message = Vec::new();
        session
            .step(Some(&data), &mut message)
            .expect("rsasl is content with the server");
        if got.name() == "success" {
            return true;
        }
        wire.send(response(&String::from_utf8(message).expect("UTF-8")))
            .await;
    }
}

#[tokio::test]
async fn c6120_security_mti_auth_scram_both_forms_of_sha_1() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    for plus in [false, true] {
        let (mut wire, features) = secured(&lab).await;
        let offered = mechanisms(&features);
        assert!(
            offered.iter().any(|name| name == "SCRAM-SHA-1"),
            "{features}"
        );
        assert!(
            offered.iter().any(|name| name == "SCRAM-SHA-1-PLUS"),
            "{features}"
        );
        let binding = if plus {
            ChannelBinding::TlsExporter(wire.exporter())
        } else {
            ChannelBinding::None
        };
        let mut mechanism = Scram::<Sha1>::new("ann", &*password, binding).expect("random bytes");
        wire.authenticate_and_bind(&mut mechanism, None).await;
        wire.barrier().await;
    }
}

#[tokio::test]
async fn c6120_security_mti_both_scram_comes_with_tls() {
    // Where TLS is required, no mechanism is shown or taken without it.
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let mut wire = lab.raw("a.test").await;
    let features = wire.open().await;
    assert!(mechanisms(&features).is_empty(), "{features}");
    wire.send(auth("SCRAM-SHA-1", "n,,n=ann,r=abcdefgh")).await;
    expect_failure(&mut wire, "encryption-required").await;
}

#[tokio::test]
async fn c6120_security_mti_both_plain_over_tls_where_policy_allows() {
    for plain in [true, false] {
        let lab = TestLab::with(["a.test"], |config| config.sasl.plain = plain).await;
        let lab = lab.expect("a server");
        let password = lab.account("ann@a.test").await;
        let features = lab.raw("a.test").await.open().await;
        assert!(mechanisms(&features).is_empty(), "{features}");
        let (mut wire, features) = secured(&lab).await;
        assert_eq!(
            mechanisms(&features).iter().any(|name| name == "PLAIN"),
            plain
        );
        let tried = wire.authenticate(&mut Plain::new("ann", password)).await;
        match tried {
            Ok(()) => assert!(plain),
            Err(failure) => {
                assert!(!plain, "{failure}");
                assert!(failure.child("invalid-mechanism").is_some(), "{failure}");
            }
        }
    }
}

#[tokio::test]
async fn c6120_sa_11_without_initial_response_and_with_data_in_success() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let (mut wire, _) = secured(&lab).await;
    wire.send(format!("<auth xmlns='{}' mechanism='PLAIN'/>", ns::SASL))
        .await;
    wire.expect(format!("<challenge xmlns='{}'/>", ns::SASL))
        .await;
    wire.send(response(&format!("\0ann\0{password}"))).await;
    wire.expect(format!("<success xmlns='{}'/>", ns::SASL))
        .await;
    // SCRAM's last message comes with success: the `sasl` crate checks it there.
    let (mut wire, _) = secured(&lab).await;
    wire.authenticate(&mut scram("ann", &password, ChannelBinding::None))
        .await
        .expect("success");
}

// What is offered.

#[tokio::test]
async fn ats_sc_09_ats_cb_01_both_forms_and_both_binding_types_are_offered() {
    let lab = lab().await;
    for mut wire in [lab.raw("a.test").await, lab.raw_tls("a.test").await] {
        let features = wire.open_secure().await;
        let offered = mechanisms(&features);
        let all: Vec<&str> = PLUS.into_iter().chain(NOT_PLUS).chain(["PLAIN"]).collect();
        assert_eq!(offered, all);
        assert_eq!(
            bindings(&features),
            ["tls-exporter", "tls-server-end-point"]
        );
    }
}

#[tokio::test]
async fn ats_sc_14_sc_15_tls_12_works_and_gets_no_exporter() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    let place = lab.place("a.test");
    let trust = place
        .trust
        .clone()
        .with_versions(&[&rustls::version::TLS12]);
    let stream = TcpStream::connect(place.address)
        .await
        .expect("a connection");
    let mut wire = Wire::over(stream, "a.test").trusting(trust);
    let features = wire.open_secure().await;
    let version = wire.tls().and_then(|tls| tls.protocol_version());
    assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_2));
    assert_eq!(bindings(&features), ["tls-server-end-point"]);
    let exporter = ChannelBinding::TlsExporter(wire.exporter());
    let mut refused = scram("ann", &password, exporter);
    wire.authenticate(&mut refused)
        .await
        .expect_err("a type that is not offered");
    wire.authenticate_and_bind(&mut scram("ann", &password, ChannelBinding::None), None)
        .await;
    wire.barrier().await;
}

#[tokio::test]
async fn ats_dg_02_what_is_signed_is_what_was_listed() {
    use sasl::common::scram::ScramProvider;
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let (mut wire, features) = secured(&lab).await;
    let (mut listed, mut types) = (mechanisms(&features), bindings(&features));
    listed.sort();
    types.sort_unstable();
    let signed = format!("{}\u{1f}{}", listed.join("\u{1e}"), types.join("\u{1e}"));
    let expected = STANDARD.encode(Sha256::hash(signed.as_bytes()));
    wire.send(auth("SCRAM-SHA-256", "n,,n=ann,r=abcdefgh"))
        .await;
    let challenge = expect_challenge(&mut wire).await;
    let told = challenge
        .split(',')
        .find_map(|part| part.strip_prefix("h="));
    assert_eq!(told, Some(expected.as_str()), "{challenge}");
}

// What is refused.

#[tokio::test]
async fn c6120_4_sasl_conditions() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let plain = |data: &str| auth("PLAIN", data);
    let bad_base64 =
        |text: &str| format!("<auth xmlns='{}' mechanism='PLAIN'>{text}</auth>", ns::SASL);
    let first = auth("SCRAM-SHA-256", "n,,n=ann,r=abcdefgh");
    let abort = format!("<abort xmlns='{}'/>", ns::SASL);
    let cases = [
        (vec![first.clone(), abort], "aborted"),
        (vec![bad_base64("a=b")], "incorrect-encoding"),
        (vec![bad_base64("AGFubgB4 ")], "incorrect-encoding"),
        (vec![bad_base64("AGFubgB4eR==")], "incorrect-encoding"),
        (vec![plain("ben@a.test\0ann\0x")], "invalid-authzid"),
        (
            vec![auth("SCRAM-SHA-256", "n,a=ben@a.test,n=ann,r=abcdefgh")],
            "invalid-authzid",
        ),
        (vec![auth("DIGEST-MD5", "x")], "invalid-mechanism"),
        (vec![auth("", "x")], "invalid-mechanism"),
        (vec![plain("ann\0x")], "malformed-request"),
        (vec![plain("\0ann\0x\0y")], "malformed-request"),
        (vec![plain("\0\0x")], "malformed-request"),
        (
            vec![auth("SCRAM-SHA-256", "n,,m=1,n=ann,r=abcdefgh")],
            "malformed-request",
        ),
        (vec![response("early")], "malformed-request"),
        (vec![plain("\0ann\0wrong")], "not-authorized"),
        (vec![plain("\0nobody\0wrong")], "not-authorized"),
    ];
    for (sent, condition) in cases {
        let (mut wire, _) = secured(&lab).await;
        let last = sent.len() - 1;
        for (index, text) in sent.iter().enumerate() {
            wire.send(text).await;
            if index < last {
                expect_challenge(&mut wire).await;
            }
        }
        expect_failure(&mut wire, condition).await;
        // Each is the end of an attempt, not of the stream.
        wire.send(auth("PLAIN", "\0ann\0wrong")).await;
        expect_failure(&mut wire, "not-authorized").await;
    }
}

#[tokio::test]
async fn ats_sc_04_sc_06_sc_12_a_bad_final_message_is_a_failure_without_details() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let proof = STANDARD.encode([0; 32]);
    for (header, nonce_end) in [("biws", ""), ("eSws", ""), ("biws", "x")] {
        let (mut wire, _) = secured(&lab).await;
        wire.send(auth("SCRAM-SHA-256", "n,,n=ann,r=abcdefgh"))
            .await;
        let challenge = expect_challenge(&mut wire).await;
        let nonce = challenge
            .split(',')
            .find_map(|part| part.strip_prefix("r="));
        let nonce = nonce.expect("a nonce");
        assert!(
            nonce.starts_with("abcdefgh") && nonce.len() > 20,
            "sc-05: {nonce}"
        );
        wire.send(response(&format!(
            "c={header},r={nonce}{nonce_end},p={proof}"
        )))
        .await;
        let got = wire.next().await;
        assert!(got.is(ns::SASL, "failure"), "{got}");
        assert!(!got.to_string().contains("e="), "XMPP has no e=: {got}");
    }
}

#[tokio::test]
async fn ats_sc_10_iterations_are_as_configured_and_never_below_the_least() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    for (local, mechanism) in [
        ("ann", "SCRAM-SHA-1"),
        ("ann", "SCRAM-SHA-256"),
        ("nobody", "SCRAM-SHA-512"),
    ] {
        let (mut wire, _) = secured(&lab).await;
        wire.send(auth(mechanism, &format!("n,,n={local},r=abcdefgh")))
            .await;
        let challenge = expect_challenge(&mut wire).await;
        let told = challenge
            .split(',')
            .find_map(|part| part.strip_prefix("i="));
        assert_eq!(told, Some("4096"), "{challenge}");
    }
}

#[tokio::test]
async fn ats_sc_18_an_unknown_user_is_answered_like_a_wrong_password() {
    let lab = lab().await;
    lab.account("ann@a.test").await;
    let (ann, again) = (salt_of(&lab, "ann").await, salt_of(&lab, "ann").await);
    let (nobody, nobody_again) = (salt_of(&lab, "nobody").await, salt_of(&lab, "nobody").await);
    assert_eq!(ann, again);
    assert_eq!(nobody, nobody_again, "the fake is stable");
    assert_ne!(
        nobody,
        salt_of(&lab, "no-one").await,
        "and not the same for all"
    );
    let mut answers = Vec::new();
    for local in ["ann", "nobody", "not a name@"] {
        answers.push(answers_to_a_wrong_password(&lab, local).await);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

async fn salt_of(lab: &TestLab, local: &str) -> String {
    let (mut wire, _) = secured(lab).await;
    wire.send(auth("SCRAM-SHA-256", &format!("n,,n={local},r=abcdefgh")))
        .await;
    let challenge = expect_challenge(&mut wire).await;
    let salt = challenge
        .split(',')
        .find_map(|part| part.strip_prefix("s="));
    salt.expect("a salt").to_owned()
}

/// All that a peer without the password gets to see, with what is random made alike.
async fn answers_to_a_wrong_password(lab: &TestLab, local: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let (mut wire, _) = secured(lab).await;
    for name in NOT_PLUS {
        wire.send(auth(name, &format!("n,,n={local},r=abcdefgh")))
            .await;
        let challenge = expect_challenge(&mut wire).await;
        let nonce = challenge
            .split(',')
            .find_map(|part| part.strip_prefix("r="));
        let nonce = nonce.expect("a nonce").to_owned();
        let alike = challenge.split(',').map(|part| match part.split_at(2) {
            (name @ ("r=" | "s="), value) => format!("{name}{}", value.len()),
            _ => part.to_owned(),
        });
        seen.push(alike.collect::<Vec<_>>().join(","));
        let length = match name {
            "SCRAM-SHA-512" => 64,
            "SCRAM-SHA-256" => 32,
            _ => 20,
        };
        let proof = STANDARD.encode(vec![1; length]);
        wire.send(response(&format!("c=biws,r={nonce},p={proof}")))
            .await;
        seen.push(wire.next().await.to_string());
    }
    wire.send(auth("PLAIN", &format!("\0{local}\0wrong"))).await;
    seen.push(wire.next().await.to_string());
    seen
}

#[tokio::test]
async fn ats_sc_19_who_signs_in_is_who_the_name_says() {
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    lab.account("ben@a.test").await;
    // PLAIN with the own bare JID as authzid is the account itself; names are prepared.
    for (message, fine) in [
        (format!("ann@a.test\0ann\0{password}"), true),
        (format!("\0ANN\0{password}"), true),
        (format!("ben@a.test\0ann\0{password}"), false),
        (format!("a.test\0ann\0{password}"), false),
    ] {
        let (mut wire, _) = secured(&lab).await;
        wire.send(auth("PLAIN", &message)).await;
        if fine {
            wire.expect(format!("<success xmlns='{}'/>", ns::SASL))
                .await;
            wire.restart();
            wire.open().await;
            assert_eq!(wire.bind(Some("x")).await, "ann@a.test/x");
            wire.close().await;
        } else {
            expect_failure(&mut wire, "invalid-authzid").await;
        }
    }
}

#[tokio::test]
async fn c6120_sasl_correlate_header_and_login_name_one_account() {
    let lab = lab().await;
    let password = lab.account("ben@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.start_tls().await;
    wire.secure().await;
    wire.send(header("from='ann@a.test' ")).await;
    wire.expect_header().await;
    wire.expect_features().await;
    let failure = wire.authenticate(&mut Plain::new("ben", password)).await;
    assert!(
        failure
            .expect_err("ben is not ann")
            .child("not-authorized")
            .is_some()
    );
}

fn header(attrs: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='a.test' version='1.0' {attrs}xmlns='{}' \
         xmlns:stream='{}'>",
        ns::CLIENT,
        ns::STREAMS
    )
}

#[tokio::test]
async fn ats_cb_02_sc_16_the_certificate_is_something_to_bind_to() {
    use sasl::common::scram::ScramProvider;
    let lab = lab().await;
    let password = lab.account("ann@a.test").await;
    for (wrong, fine) in [(false, true), (true, false)] {
        let (mut wire, _) = secured(&lab).await;
        let chain = wire
            .tls()
            .and_then(|tls| tls.peer_certificates())
            .expect("a certificate");
        // The development CA signs by ECDSA with SHA-256, so that is the hash.
        let mut end_point = Sha256::hash(&chain[0]);
        end_point[0] ^= u8::from(wrong);
        let header = "p=tls-server-end-point,,";
        let first = "n=ann,r=abcdefgh";
        wire.send(auth("SCRAM-SHA-256-PLUS", &format!("{header}{first}")))
            .await;
        let challenge = expect_challenge(&mut wire).await;
        let binding = STANDARD.encode([header.as_bytes(), &end_point].concat());
        wire.send(response(&last_message(
            &password, first, &challenge, &binding,
        )))
        .await;
        let got = wire.next().await;
        assert_eq!(got.is(ns::SASL, "success"), fine, "{got}");
        assert_eq!(got.is(ns::SASL, "failure"), wrong, "{got}");
    }
}

/// The client's last message of SCRAM-SHA-256 (RFC 5802 section 3).
fn last_message(password: &str, first: &str, challenge: &str, binding: &str) -> String {
    use sasl::common::Password;
    use sasl::common::scram::ScramProvider;
    let value = |name| {
        challenge
            .split(',')
            .find_map(|part: &str| part.strip_prefix(name))
    };
    let nonce = value("r=").expect("a nonce");
    let salt = STANDARD
        .decode(value("s=").expect("a salt"))
        .expect("base64");
    let iterations = value("i=")
        .and_then(|text| text.parse().ok())
        .expect("iterations");
    let password = Password::Plain(password.into());
    let salted = Sha256::derive(&password, &salt, iterations).expect("keys");
    let client_key = Sha256::hmac(b"Client Key", &salted).expect("a key");
    let without_proof = format!("c={binding},r={nonce}");
    let signed = format!("{first},{challenge},{without_proof}");
    let signature = Sha256::hmac(signed.as_bytes(), &Sha256::hash(&client_key)).expect("a key");
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(key, sign)| key ^ sign)
        .collect();
    format!("{without_proof},p={}", STANDARD.encode(proof))
}
