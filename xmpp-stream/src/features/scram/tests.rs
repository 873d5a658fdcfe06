//! RFC vectors, flag rules, hostile messages of both roles.

use super::*;
use crate::error::SaslCondition;
use crate::features::sasl::Mechanism;
use crate::features::sasl::{Bindings, Offer, Refusal};
use crate::stream::Credentials;
use crate::stream::TlsInfo;
use std::sync::Arc;

const SALT_1: &str = "QSXCR+Q6sek8bf92";
const SALT_256: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

fn offer(plus: bool) -> Offer {
    let tls = TlsInfo {
        version: "TLSv1.3",
        exporter: Some([7; 32]),
        server_end_point: Some([9; 32].into()),
        ..TlsInfo::default()
    };
    let mechanisms = Mechanism::all()
        .filter(|offered| plus || !matches!(offered, Mechanism::Scram { plus: true, .. }));
    let bindings = if plus {
        Bindings::of(Some(&tls))
    } else {
        Bindings::default()
    };
    Offer {
        mechanisms: mechanisms.collect(),
        bindings,
    }
}

fn keys(hash: ScramHash, salt: &str) -> Credentials {
    let salt = sasl::unbase64(salt).unwrap();
    Credentials::Keys(Arc::new(StoredKeys::derive(hash, "pencil", &salt, 4096)))
}

fn refused<T: fmt::Debug>(result: Result<T, Refusal>) -> SaslCondition {
    result.unwrap_err().condition
}

/// A vector of an RFC, played by both roles.
fn vector(hash: ScramHash, salt: &str, nonces: (&str, &str), proof: &str, signature: &str) {
    let (client, first) = Client::begin(hash, "user", nonces.0, Flag::Unable, &Bindings::default());
    assert_eq!(first, format!("n,,n=user,r={}", nonces.0));
    let parsed = ClientFirst::parse(first.as_bytes(), false, &offer(false)).unwrap();
    assert_eq!(parsed.username, "user");
    let (server, challenge) =
        Server::begin(&parsed, hash, keys(hash, salt), nonces.1, None, None).unwrap();
    assert_eq!(
        challenge,
        format!("r={}{},s={salt},i=4096", nonces.0, nonces.1)
    );
    let (last, response) = client
        .respond(challenge.as_bytes(), "pencil", "-", None)
        .unwrap();
    assert_eq!(
        response,
        format!("c=biws,r={}{},p={proof}", nonces.0, nonces.1)
    );
    let success = server.finish(response.as_bytes()).unwrap();
    assert_eq!(success, format!("v={signature}"));
    last.verify(success.as_bytes()).unwrap();
}

#[test]
fn ats_sc_01_rfc_vectors() {
    vector(
        ScramHash::Sha1,
        SALT_1,
        ("fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j"),
        "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    );
    vector(
        ScramHash::Sha256,
        SALT_256,
        ("rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    );
}

#[test]
fn ats_sc_01_passwords_are_prepared() {
    // SASLprep: soft hyphen to nothing, no-break space to space, ROMAN NUMERAL NINE to "IX".
    let same = [("I\u{ad}X", "IX"), ("\u{2168}", "IX"), ("a\u{a0}b", "a b")];
    for (typed, stored) in same {
        assert!(StoredKeys::derive(ScramHash::Sha256, stored, b"salt", 1).verify_password(typed));
    }
    // Refused by SASLprep (a control): used as its bytes, and still told apart.
    let keys = StoredKeys::derive(ScramHash::Sha256, "a\u{7}b", b"salt", 1);
    assert!(keys.verify_password("a\u{7}b"));
    assert!(!keys.verify_password("ab"));
}

#[test]
fn ats_sc_02_to_04_first_messages() {
    let plain = offer(false);
    let bad = [
        "",
        "n",
        "n,",
        "n,,",
        "x,,n=u,r=a",
        "N,,n=u,r=a",
        "n,,x",
        "n,,n",
        "n,,,r=x",
        "n,a,n=u,r=x",
        "n,,n=user,r",
        "n,,n=user,",
        "n,,n=user",
        "n,,n=,r=a",
        "n,,r=a,n=user",
        "n,,n=a=b,r=a",
        "n,,n=a=2c,r=a",
        "n,,n=a=,r=a",
        "n,a=,n=u,r=a",
        "n,,m=x,n=u,r=a",
        "n,,n=u,r=a,m=x",
        "n,,n=u,r=",
        "n,,n=u,r=a b",
        "n,,n=u,r=\u{e9}",
        "n,,n=u,r=a,",
        "n,,n=u,r=a,1=x",
        "y ,,n=u,r=a",
        "p,,n=u,r=a",
        "n,,n=u\0v,r=a",
    ];
    for message in bad {
        let condition = refused(ClientFirst::parse(message.as_bytes(), false, &plain));
        assert_eq!(condition, SaslCondition::MalformedRequest, "{message:?}");
    }
    let invalid = ClientFirst::parse(b"n,,n=\xff,r=a", false, &plain);
    assert_eq!(refused(invalid), SaslCondition::MalformedRequest);
    let good = "n,a=x=2Cy@d,n=a=2Cb=3D,r=abc,x=later,y=,z==";
    let first = ClientFirst::parse(good.as_bytes(), false, &plain).unwrap();
    assert_eq!(first.username, "a,b=");
    assert_eq!(first.authzid.as_deref(), Some("x,y@d"));
}

#[test]
fn ats_sc_07_flags() {
    let cases = [
        // flag, -PLUS asked for, -PLUS offered, accepted
        ("n", false, false, true),
        ("n", false, true, true),
        ("y", false, false, true),
        ("y", false, true, false),
        ("n", true, true, false),
        ("y", true, true, false),
        ("p=tls-exporter", true, true, true),
        ("p=tls-server-end-point", true, true, true),
        ("p=tls-unique", true, true, false),
        ("p=tls-exporter", false, true, false),
        ("p=tls-exporter", false, false, false),
        ("p=", true, true, false),
    ];
    for (flag, plus, offered, accepted) in cases {
        let message = format!("{flag},,n=user,r=abc");
        let result = ClientFirst::parse(message.as_bytes(), plus, &offer(offered));
        assert_eq!(
            result.is_ok(),
            accepted,
            "{flag} plus={plus} offered={offered}"
        );
        if let Err(refusal) = result {
            assert_eq!(refusal.condition, SaslCondition::NotAuthorized, "{flag}");
            assert!(
                !refusal.wrong_password,
                "{flag} tells nothing about the password"
            );
        }
    }
}

/// Both roles with a binding; `tamper` changes what the server expects.
fn bound(name: &'static str, tamper: bool) -> Result<String, Refusal> {
    let hash = ScramHash::Sha256;
    let mut offer = offer(true);
    let (client, first) = Client::begin(hash, "user", "abc", Flag::Bound(name), &offer.bindings);
    if tamper {
        let tls = TlsInfo {
            exporter: Some([1; 32]),
            server_end_point: Some([1; 32].into()),
            ..TlsInfo::default()
        };
        offer.bindings = Bindings::of(Some(&tls));
    }
    let parsed = ClientFirst::parse(first.as_bytes(), true, &offer).unwrap();
    let (server, challenge) =
        Server::begin(&parsed, hash, keys(hash, SALT_256), "def", None, None).unwrap();
    let (_, response) = client
        .respond(challenge.as_bytes(), "pencil", "-", None)
        .unwrap();
    server.finish(response.as_bytes())
}

#[test]
fn ats_sc_13_16_both_bindings_are_compared() {
    for name in [sasl::EXPORTER, sasl::END_POINT] {
        assert!(bound(name, false).is_ok(), "{name}");
        assert_eq!(
            refused(bound(name, true)),
            SaslCondition::NotAuthorized,
            "{name}"
        );
    }
}

fn server(credentials: Credentials) -> (Client, Server, String) {
    let hash = ScramHash::Sha1;
    let (client, first) = Client::begin(hash, "user", "abc", Flag::Unable, &Bindings::default());
    let first = ClientFirst::parse(first.as_bytes(), false, &offer(false)).unwrap();
    let (server, challenge) = Server::begin(&first, hash, credentials, "def", None, None).unwrap();
    (client, server, challenge)
}

#[test]
fn ats_sc_05_06_final_messages() {
    let (client, server, challenge) = server(keys(ScramHash::Sha1, SALT_1));
    let (_, good) = client
        .respond(challenge.as_bytes(), "pencil", "-", None)
        .unwrap();
    assert!(server.finish(good.as_bytes()).is_ok());
    let proof = good.split_once(",p=").unwrap().1;
    let bad = [
        String::new(),
        "c".into(),
        "c=biws,r=abcdef".into(),
        "c=biws,r=abcdef,p".into(),
        "c=biws,r=abcdef,p=AA=".into(),
        format!("c=biws,r=abcdeg,p={proof}"),
        format!("c=biws,r=abc,p={proof}"),
        format!("r=abcdef,c=biws,p={proof}"),
        format!("c=biws,r=abcdef,m=x,p={proof}"),
        format!("c=bi ws,r=abcdef,p={proof}"),
        format!("c=biws,r=abcdef,p={proof},x=y"),
    ];
    for message in bad {
        let condition = refused(server.finish(message.as_bytes()));
        assert_eq!(condition, SaslCondition::MalformedRequest, "{message:?}");
    }
    // `c=` of another header (`y,,`) although the rest is right.
    let other = refused(server.finish(format!("c=eSws,r=abcdef,p={proof}").as_bytes()));
    assert_eq!(other, SaslCondition::NotAuthorized);
    for proof in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        let message = format!("c=biws,r=abcdef,p={proof}");
        let refusal = server.finish(message.as_bytes()).unwrap_err();
        assert_eq!(refusal, Refusal::wrong_password(), "{proof:?}");
    }
}

#[test]
fn ats_sc_18_an_unknown_account_looks_like_a_known_one() {
    let fake = || Credentials::Fake {
        salt: [5; 16].into(),
        iterations: 4096,
    };
    let (client, fake_server, first) = server(fake());
    assert_eq!(first, server(fake()).2, "the same salt for each try");
    assert_eq!(first, "r=abcdef,s=BQUFBQUFBQUFBQUFBQUFBQ==,i=4096");
    let (_, response) = client
        .respond(first.as_bytes(), "pencil", "-", None)
        .unwrap();
    let refusal = fake_server.finish(response.as_bytes()).unwrap_err();
    let (client, real, first) = server(keys(ScramHash::Sha1, SALT_1));
    let (_, response) = client
        .respond(first.as_bytes(), "pencils", "-", None)
        .unwrap();
    assert_eq!(refusal, real.finish(response.as_bytes()).unwrap_err());
}

#[test]
fn a_disabled_account_is_told_only_to_its_owner() {
    let Credentials::Keys(keys) = keys(ScramHash::Sha1, SALT_1) else {
        unreachable!()
    };
    let (client, server, first) = server(Credentials::Disabled(keys));
    let (_, right) = client
        .respond(first.as_bytes(), "pencil", "-", None)
        .unwrap();
    let (_, wrong) = client
        .respond(first.as_bytes(), "pencils", "-", None)
        .unwrap();
    assert_eq!(
        refused(server.finish(right.as_bytes())),
        SaslCondition::AccountDisabled
    );
    assert_eq!(
        refused(server.finish(wrong.as_bytes())),
        SaslCondition::NotAuthorized
    );
}

#[test]
fn ats_sc_05_10_what_a_client_refuses_of_a_server() {
    let (client, _) = Client::begin(
        ScramHash::Sha1,
        "user",
        "abc",
        Flag::Unable,
        &Bindings::default(),
    );
    let cases = [
        (
            "r=abcdef,s=QSXCR+Q6sek8bf92,i=4095",
            ServerFault::Iterations,
        ),
        ("r=abcdef,s=QSXCR+Q6sek8bf92,i=0", ServerFault::Iterations),
        (
            "r=abcdef,s=QSXCR+Q6sek8bf92,i=10000001",
            ServerFault::Iterations,
        ),
        (
            "r=abcdef,s=QSXCR+Q6sek8bf92,i=4294967295",
            ServerFault::Iterations,
        ),
        (
            "r=abcdef,s=QSXCR+Q6sek8bf92,i=99999999999999999999",
            ServerFault::Iterations,
        ),
        ("r=abcdef,s=QSXCR+Q6sek8bf92,i=-1", ServerFault::Malformed),
        ("r=abcdef,s=QSXCR+Q6sek8bf92,i=", ServerFault::Iterations),
        ("r=EVIL,s=QSXCR+Q6sek8bf92,i=4096", ServerFault::Nonce),
        ("r=abc,s=QSXCR+Q6sek8bf92,i=4096", ServerFault::Nonce),
        ("r=abcdef,s=,i=4096", ServerFault::Malformed),
        ("r=abcdef,s=Q,i=4096", ServerFault::Malformed),
        (
            "m=x,r=abcdef,s=QSXCR+Q6sek8bf92,i=4096",
            ServerFault::Malformed,
        ),
        (
            "r=abcdef,s=QSXCR+Q6sek8bf92,i=4096,m=x",
            ServerFault::Malformed,
        ),
        ("e=other-error", ServerFault::Malformed),
        ("", ServerFault::Malformed),
        (
            "r=abcdef,s=QSXCR+Q6sek8bf92,i=4096,h=AAAA",
            ServerFault::Downgrade,
        ),
        (
            "r=abcdef,s=QSXCR+Q6sek8bf92,i=4096,h=BBBB,t=0303",
            ServerFault::Downgrade,
        ),
    ];
    for (message, fault) in cases {
        let result = client.respond(message.as_bytes(), "pencil", "BBBB", Some("0304"));
        assert_eq!(result.unwrap_err(), fault, "{message}");
    }
    let fine = "r=abcdef,s=QSXCR+Q6sek8bf92,i=4096,x=later,h=BBBB,t=0304";
    assert!(
        client
            .respond(fine.as_bytes(), "pencil", "BBBB", Some("0304"))
            .is_ok()
    );
}

#[test]
fn ats_sc_11_the_servers_signature_is_checked() {
    let (client, server, first) = server(keys(ScramHash::Sha1, SALT_1));
    let (last, response) = client
        .respond(first.as_bytes(), "pencil", "-", None)
        .unwrap();
    let good = server.finish(response.as_bytes()).unwrap();
    assert_eq!(last.verify(good.as_bytes()), Ok(()));
    assert_eq!(last.verify(format!("{good},x=y").as_bytes()), Ok(()));
    for bad in [
        "",
        "v=",
        "v=AAAA",
        "e=other-error",
        &good.replace("v=", "w="),
    ] {
        assert_eq!(
            last.verify(bad.as_bytes()),
            Err(ServerFault::Signature),
            "{bad}"
        );
    }
}

#[test]
fn ats_dg_01_announcement_vector() {
    let hash = announcement_hash(
        ScramHash::Sha1,
        &["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"],
        Some(&["tls-server-end-point", "tls-exporter"]),
    );
    assert_eq!(hash, "G6k/rBLDqgOhRRaCuuatSDFkJ08=");
    assert_ne!(
        hash,
        announcement_hash(ScramHash::Sha1, &["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"], None)
    );
}

#[test]
fn ats_dg_06_the_attribute_is_signed_over_and_does_not_disturb() {
    let hash = ScramHash::Sha256;
    let (client, first) = Client::begin(hash, "user", "abc", Flag::Unable, &Bindings::default());
    let first = ClientFirst::parse(first.as_bytes(), false, &offer(false)).unwrap();
    let (server, challenge) = Server::begin(
        &first,
        hash,
        keys(hash, SALT_256),
        "def",
        Some("AAAA"),
        None,
    )
    .unwrap();
    assert!(challenge.ends_with(",h=AAAA"));
    let (last, response) = client
        .respond(challenge.as_bytes(), "pencil", "AAAA", None)
        .unwrap();
    last.verify(server.finish(response.as_bytes()).unwrap().as_bytes())
        .unwrap();
    // Cut out on the way: the client sees nothing wrong, but its proof does not fit.
    let cut = challenge.replace(",h=AAAA", "");
    let (_, response) = client
        .respond(cut.as_bytes(), "pencil", "AAAA", None)
        .unwrap();
    assert_eq!(
        refused(server.finish(response.as_bytes())),
        SaslCondition::NotAuthorized
    );
}

#[test]
fn ats_dg_05_the_version_of_tls_is_compared_and_signed_over() {
    let hash = ScramHash::Sha1;
    let (client, first) = Client::begin(hash, "user", "abc", Flag::Unable, &Bindings::default());
    let first = ClientFirst::parse(first.as_bytes(), false, &offer(false)).unwrap();
    let keys = keys(hash, SALT_1);
    let begun = Server::begin(&first, hash, keys, "def", Some("AAAA"), Some("0304"));
    let (server, challenge) = begun.unwrap();
    assert!(challenge.ends_with(",h=AAAA,t=0304"), "{challenge}");
    // The client's own: the same, another, none at all (in clear).
    for (tls, expected) in [(Some("0304"), true), (Some("0303"), false), (None, false)] {
        let responded = client.respond(challenge.as_bytes(), "pencil", "AAAA", tls);
        let responded = responded.map(|(_, message)| server.finish(message.as_bytes()).is_ok());
        assert_eq!(responded.ok(), expected.then_some(true), "{tls:?}");
    }
    // Whoever changes it on the way is found by the proof, and so is whoever takes it out.
    for changed in [",t=0303", ""] {
        let challenge = challenge.replace(",t=0304", changed);
        let responded = client.respond(challenge.as_bytes(), "pencil", "AAAA", Some("0303"));
        let finished = server.finish(responded.unwrap().1.as_bytes());
        assert_eq!(refused(finished), SaslCondition::NotAuthorized);
    }
}

#[test]
fn ats_dg_05_versions_are_four_digits() {
    let of = |version| {
        tls_version(Some(&TlsInfo {
            version,
            ..TlsInfo::default()
        }))
    };
    assert_eq!(of("TLSv1.3"), Some("0304"));
    assert_eq!(of("TLSv1.2"), Some("0303"));
    assert_eq!(of(""), None);
    assert_eq!(tls_version(None), None);
}

#[test]
fn keys_of_another_hash_are_our_own_fault() {
    let first = ClientFirst::parse(b"n,,n=user,r=abc", false, &offer(false)).unwrap();
    let begun = Server::begin(
        &first,
        ScramHash::Sha512,
        keys(ScramHash::Sha1, SALT_1),
        "d",
        None,
        None,
    );
    assert_eq!(refused(begun), SaslCondition::TemporaryAuthFailure);
    let begun = Server::begin(
        &first,
        ScramHash::Sha1,
        Credentials::Unavailable,
        "d",
        None,
        None,
    );
    assert_eq!(refused(begun), SaslCondition::TemporaryAuthFailure);
}

#[test]
fn stored_keys_print_no_keys() {
    let keys = StoredKeys::derive(ScramHash::Sha256, "pencil", b"salty", 1);
    let text = format!("{keys:?}");
    assert_eq!(text, "StoredKeys { hash: Sha256, iterations: 1, .. }");
}

#[test]
fn verify_password_for_every_hash() {
    for hash in ScramHash::ALL {
        let keys = StoredKeys::derive(hash, "pencil", b"salt", 2);
        assert!(keys.verify_password("pencil"));
        assert!(!keys.verify_password("Pencil"));
        assert!(!keys.verify_password(""));
    }
}
