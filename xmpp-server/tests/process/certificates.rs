//! Certificates: those of the development CA, and configured ones.

use crate::kit::{BINARY, Ready, Temp, check_failed, ready, run, server_with_file};
use crate::peer::Peer;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};
use xmpp_certs::DevCa;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[expect(
    clippy::disallowed_methods,
    reason = "the binary under test reads the same clock"
)]
pub(crate) fn today() -> SystemTime {
    SystemTime::now()
}

fn der(path: &Path) -> Vec<u8> {
    parse_x509_pem(&fs::read(path).unwrap()).unwrap().1.contents
}

fn names(cert: &X509Certificate<'_>) -> BTreeSet<String> {
    let names = cert
        .subject_alternative_name()
        .unwrap()
        .expect("names")
        .value;
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(bytes) => Ipv4Addr::from(bytes).to_string(),
            Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).unwrap()).to_string(),
        },
        other => panic!("{other:?}"),
    };
    names.general_names.iter().map(name).collect()
}

fn days_left(cert: &X509Certificate<'_>) -> u64 {
    cert.validity()
        .time_to_expiration()
        .expect("valid")
        .unsigned_abs()
        .as_secs()
        / DAY.as_secs()
}

#[test]
fn a_development_leaf_is_what_clients_want() {
    let temp = Temp::new();
    let server = ready(
        &temp.data(),
        &["--domain", "localhost", "--domain", "a.test"],
    );
    let ca_file = temp.data().join("ca/ca.pem");
    let ca_der = der(&ca_file);
    let ca = X509Certificate::from_der(&ca_der).unwrap().1;
    let check = |domain: &str, want: &[&str]| {
        let leaf = Peer::direct(server.tls(), domain, &ca_file).unwrap().leaf();
        assert_eq!(leaf, der(&temp.data().join(format!("certs/{domain}.pem"))));
        let cert = X509Certificate::from_der(&leaf).unwrap().1;
        assert_eq!(
            names(&cert),
            want.iter().map(ToString::to_string).collect(),
            "{domain}"
        );
        let purposes = cert.extended_key_usage().unwrap().expect("purposes").value;
        assert!(
            purposes.server_auth && !purposes.client_auth && !purposes.any,
            "{purposes:?}"
        );
        assert!(purposes.other.is_empty(), "{purposes:?}");
        assert!(!cert.is_ca());
        assert_eq!(
            cert.public_key().algorithm.algorithm.to_id_string(),
            "1.2.840.10045.2.1"
        );
        assert!(
            (363..=365).contains(&days_left(&cert)),
            "{}",
            days_left(&cert)
        );
        assert_eq!(cert.issuer(), ca.subject());
        assert_eq!(authority_key_id(&cert), subject_key_id(&ca));
    };
    let localhost = [
        "conference.localhost",
        "localhost",
        "pubsub.localhost",
        "upload.localhost",
    ];
    check(
        "localhost",
        &[&localhost[..], &["127.0.0.1", "::1"]].concat(),
    );
    check(
        "a.test",
        &[
            "a.test",
            "*.a.test",
            "conference.a.test",
            "pubsub.a.test",
            "upload.a.test",
        ],
    );
    assert!(
        ca.is_ca()
            && ca
                .key_usage()
                .unwrap()
                .expect("usage")
                .value
                .key_cert_sign()
    );
    assert!(
        (3640..=3660).contains(&days_left(&ca)),
        "{}",
        days_left(&ca)
    );
    server.stop();
}

fn authority_key_id(cert: &X509Certificate<'_>) -> Vec<u8> {
    let id = cert
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.clone(),
            _ => None,
        });
    id.expect("an authority key identifier").0.to_vec()
}

fn subject_key_id(cert: &X509Certificate<'_>) -> Vec<u8> {
    let id = cert
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
    id.expect("a subject key identifier")
}

#[test]
fn two_authorities_have_different_subjects() {
    let subject = |temp: &Temp| {
        ready(&temp.data(), &[]).stop();
        let der = der(&temp.data().join("ca/ca.pem"));
        X509Certificate::from_der(&der)
            .unwrap()
            .1
            .subject()
            .to_string()
    };
    assert_ne!(subject(&Temp::new()), subject(&Temp::new()));
}

#[test]
fn a_leaf_is_renewed_when_under_thirty_days_are_left() {
    for (age, renewed) in [(334, false), (336, true), (400, true)] {
        let temp = Temp::new();
        let (ca_dir, certs) = (temp.data().join("ca"), temp.data().join("certs"));
        let then = today() - DAY * age;
        let ca = DevCa::load_or_create(&ca_dir, then).unwrap();
        let old = ca.ensure_domain(&certs, "localhost", then).unwrap();
        let before = der(&old.certificate);
        let server = ready(&temp.data(), &[]);
        let leaf = Peer::direct(server.tls(), "localhost", &ca_dir.join("ca.pem"))
            .unwrap()
            .leaf();
        assert_eq!(
            leaf,
            der(&old.certificate),
            "{age}: the file is what is shown"
        );
        assert_eq!(leaf != before, renewed, "{age} days old");
        let left = days_left(&X509Certificate::from_der(&leaf).unwrap().1);
        assert_eq!(left > 360, renewed, "{age} days old: {left} left");
        server.stop();
        assert_eq!(
            fs::read_to_string(ca_dir.join("ca.pem")).unwrap(),
            ca.pem(),
            "the same CA"
        );
    }
}

/// A file with two domains: one with a certificate of its own, one without.
fn configured(temp: &Temp, key: &str) -> std::path::PathBuf {
    let own = DevCa::new(today()).unwrap();
    temp.write("etc/own-ca.pem", own.pem());
    let leaf = own.issue(&["own.test"], today()).unwrap();
    let other = own.issue(&["own.test"], today()).unwrap();
    temp.write("etc/tls/own.pem", &leaf.chain_pem);
    temp.write("etc/tls/own.key", &leaf.key_pem);
    temp.write("etc/tls/other.key", &other.key_pem);
    temp.write("etc/tls/broken.key", "no key");
    temp.write(
        "etc/x.toml",
        &format!(
            "data_dir = \"../data\"\n\
             [[domain]]\nname = \"dev.test\"\n\
             [[domain]]\nname = \"own.test\"\ncertificate = \"tls/own.pem\"\nkey = \"tls/{key}\"\n\
             [c2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = [\"127.0.0.1:0\"]\n\
             [s2s]\nenabled = false\n"
        ),
    )
}

#[test]
fn a_configured_pair_is_used_and_sni_chooses() {
    let temp = Temp::new();
    let server = Ready::new(server_with_file(&configured(&temp, "own.key")));
    let own_ca = temp.path().join("etc/own-ca.pem");
    let dev_ca = temp.data().join("ca/ca.pem");
    let own = der(&temp.path().join("etc/tls/own.pem"));
    let dev = der(&temp.data().join("certs/dev.test.pem"));
    let check = |domain: &str, ca: &Path, want: &[u8]| {
        let direct = Peer::direct(server.tls(), domain, ca).unwrap();
        assert_eq!(direct.leaf(), want, "{domain}, direct TLS");
        let starttls = Peer::starttls(server.starttls(), domain, ca).unwrap();
        assert_eq!(starttls.leaf(), want, "{domain}, STARTTLS");
    };
    check("own.test", &own_ca, &own);
    check("dev.test", &dev_ca, &dev);
    // A name of nobody gets the first domain's, which it has to refuse.
    assert!(Peer::direct(server.tls(), "conference.dev.test", &dev_ca).is_ok());
    assert!(Peer::direct(server.tls(), "other.test", &dev_ca).is_err());
    assert!(!temp.data().join("certs/own.test.pem").exists());
    server.stop();
}

#[test]
fn a_pair_that_does_not_fit_is_named() {
    let temp = Temp::new();
    let check = |key: &str, words: &[&str]| {
        let file = configured(&temp, key);
        let ended = run(Command::new(BINARY)
            .args(["--log", "error", "--config"])
            .arg(file));
        check_failed(&ended, words);
    };
    check("other.key", &["own.test", "key"]);
    check("broken.key", &["own.test", "key"]);
    check("missing.key", &["etc/tls/missing.key", "No such file"]);
}
