//! Certificates read back with a parser of their own; disk behaviour in a folder per test.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration as Span;
use std::{env, fs, process};

use x509_parser::prelude::{FromDer, GeneralName};

use super::*;

const DAY: Span = Span::from_secs(86_400);

fn now() -> SystemTime {
    UNIX_EPOCH + Span::from_secs(1_800_000_000)
}

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("xmpp-certs-{}-{number}", process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

fn leaf_of(leaf: &Leaf) -> X509Certificate<'_> {
    parse(&leaf.chain_der()[0])
}

fn names_in(cert: &X509Certificate<'_>) -> Vec<String> {
    let names = cert.subject_alternative_name().unwrap().unwrap().value;
    names
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn days_left(cert: &X509Certificate<'_>) -> i64 {
    let now = whole_seconds(now()).unwrap().unix_timestamp();
    (cert.validity().not_after.timestamp() - now) / 86_400
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn authority_signs_certificates_and_nothing_else() {
    let ca = DevCa::new(now()).unwrap();
    let cert = parse(ca.der());
    assert!(cert.is_ca());
    assert_eq!(
        cert.basic_constraints()
            .unwrap()
            .unwrap()
            .value
            .path_len_constraint,
        Some(0)
    );
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
    assert_eq!(days_left(&cert), 3650);
    assert_eq!(subject_key_id(&cert), Some(&ca.key_id[..]));
    let other = DevCa::new(now()).unwrap();
    assert_ne!(cert.subject(), parse(other.der()).subject());
}

#[test]
fn leaf_is_for_server_authentication_by_its_authority() {
    let ca = DevCa::new(now()).unwrap();
    let leaf = ca.issue_for_domain("a.test", now()).unwrap();
    let cert = leaf_of(&leaf);
    assert!(!cert.is_ca());
    let extended = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth && !extended.any);
    let both = ca.issue_for_both_sides(&["a.test"], now()).unwrap();
    let (_, both) = x509_parser::parse_x509_certificate(&both.chain_der()[0]).unwrap();
    let extended = both.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert!(cert.key_usage().unwrap().unwrap().value.digital_signature());
    assert_eq!(cert.issuer(), parse(ca.der()).subject());
    assert_eq!(authority_key_id(&cert), Some(&ca.key_id[..]));
    assert_eq!(days_left(&cert), 365);
    assert!(cert.raw_serial().len() <= 20 && cert.raw_serial()[0] & 0x80 == 0);
    let expected = [
        "a.test",
        "*.a.test",
        "conference.a.test",
        "pubsub.a.test",
        "upload.a.test",
    ];
    assert_eq!(names_in(&cert), expected);
    let (_, block) = x509_parser::pem::parse_x509_pem(leaf.chain_pem.as_bytes()).unwrap();
    assert_eq!(block.contents, leaf.chain_der()[0]);
}

#[test]
fn leaf_for_localhost_names_the_loopback_addresses_and_no_wildcard() {
    let leaf = DevCa::new(now())
        .unwrap()
        .issue_for_domain("localhost", now())
        .unwrap();
    let names = names_in(&leaf_of(&leaf));
    let v6 = format!("{:?}", std::net::Ipv6Addr::LOCALHOST.octets());
    assert_eq!(names[0], "localhost");
    assert!(
        names.contains(&"[127, 0, 0, 1]".to_owned()) && names.contains(&v6),
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.starts_with('*')), "{names:?}");
}

#[test]
fn names_are_written_as_a_labels_and_odd_ones_refused() {
    let ca = DevCa::new(now()).unwrap();
    let leaf = ca
        .issue(&["bücher.example", "*.Example.ORG", "192.0.2.7"], now())
        .unwrap();
    let expected = ["xn--bcher-kva.example", "*.example.org", "[192, 0, 2, 7]"];
    assert_eq!(names_in(&leaf_of(&leaf)), expected);
    for name in ["", "a b", "a/b", "alice@a.test"] {
        assert!(
            matches!(ca.issue(&[name], now()), Err(CertError::Name { .. })),
            "{name:?}"
        );
    }
    let long = format!("{}.test", ["label"; 20].join("."));
    assert_eq!(
        names_in(&leaf_of(&ca.issue(&[&long], now()).unwrap())),
        [long]
    );
}

#[test]
fn variants_differ_from_a_good_leaf_in_one_thing() {
    let ca = DevCa::new(now()).unwrap();
    let good = ca.issue_for_domain("a.test", now()).unwrap();
    #[track_caller]
    fn check(ca: &DevCa, good: &Leaf, variant: Variant, expected: [bool; 3]) {
        let leaf = ca.issue_variant("a.test", variant, now()).unwrap();
        let cert = leaf_of(&leaf);
        let same_names = names_in(&cert) == names_in(&leaf_of(good));
        assert_eq!(
            [days_left(&cert) > 0, same_names, ca.issued(&cert)],
            expected,
            "{variant:?}"
        );
        assert!(cert.validity().not_before.timestamp() < cert.validity().not_after.timestamp());
    }
    check(&ca, &good, Variant::Expired, [false, true, true]);
    check(&ca, &good, Variant::WrongName, [true, false, true]);
    check(&ca, &good, Variant::OtherCa, [true, true, false]);
}

#[test]
fn renewal_is_due_under_thirty_days() {
    let leaf = DevCa::new(now())
        .unwrap()
        .issue_for_domain("a.test", now())
        .unwrap();
    let due = |days| needs_renewal(&leaf.chain_pem, now() + DAY * days).unwrap();
    assert!(!due(0) && !due(335));
    assert!(due(336) && due(400));
    assert!(matches!(
        needs_renewal("no certificate", now()),
        Err(CertError::Pem)
    ));
    assert!(matches!(
        DevCa::new(UNIX_EPOCH - DAY),
        Err(CertError::Clock)
    ));
}

#[test]
fn authority_on_disk_is_kept_private_and_read_again() {
    let dir = Folder::new();
    let first = DevCa::load_or_create(&dir.0, now()).unwrap();
    assert_eq!([mode(&dir.0), mode(&dir.0.join("ca.key"))], [0o700, 0o600]);
    assert_eq!(
        fs::read_to_string(dir.0.join("ca.pem")).unwrap(),
        first.pem()
    );

    let again = DevCa::load_or_create(&dir.0, now() + DAY).unwrap();
    assert_eq!((first.der(), &first.key_id), (again.der(), &again.key_id));
    let leaf = again.issue_for_domain("a.test", now()).unwrap();
    assert!(first.issued(&leaf_of(&leaf)));
    assert_eq!(leaf_of(&leaf).issuer(), parse(first.der()).subject());

    let later = DevCa::load_or_create(&dir.0, now() + DAY * 3_640).unwrap();
    assert_ne!(first.der(), later.der());
}

#[test]
fn damaged_authority_is_an_error_and_stays_as_it_is() {
    let dir = Folder::new();
    let ca = DevCa::load_or_create(&dir.0, now()).unwrap();
    let (cert_path, key_path) = (dir.0.join("ca.pem"), dir.0.join("ca.key"));
    let other_key = DevCa::with_key(now()).unwrap().1;
    for key in [Some(other_key.as_str()), Some("nonsense"), None] {
        match key {
            Some(text) => fs::write(&key_path, text).unwrap(),
            None => fs::remove_file(&key_path).unwrap(),
        }
        let error = DevCa::load_or_create(&dir.0, now()).unwrap_err();
        assert!(matches!(error, CertError::Key { .. }), "{error:?}");
        assert_eq!(fs::read_to_string(&cert_path).unwrap(), ca.pem());
    }
    fs::write(&cert_path, "nonsense").unwrap();
    let error = DevCa::load_or_create(&dir.0, now()).unwrap_err();
    assert!(matches!(error, CertError::Parse { .. }), "{error:?}");
}

#[test]
fn domain_files_are_made_kept_and_renewed() {
    let dir = Folder::new();
    let ca = DevCa::load_or_create(&dir.0.join("ca"), now()).unwrap();
    let certs = dir.0.join("certs");
    let ensure = |ca: &DevCa, days| ca.ensure_domain(&certs, "Bücher.example", now() + DAY * days);
    let files = ensure(&ca, 0).unwrap();
    assert!(files.written);
    assert_eq!(files.certificate, certs.join("xn--bcher-kva.example.pem"));
    assert_eq!([mode(&certs), mode(&files.key)], [0o700, 0o600]);
    assert!(!ensure(&ca, 300).unwrap().written);

    #[track_caller]
    fn check_renewed(files: &DomainFiles, renewed: DomainFiles) {
        assert!(renewed.written);
        let key = KeyPair::from_pem(&fs::read_to_string(&files.key).unwrap()).unwrap();
        let pem = fs::read(&files.certificate).unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let public = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert_eq!(block.parse_x509().unwrap().public_key().raw, public);
    }
    check_renewed(&files, ensure(&ca, 340).unwrap());
    fs::remove_file(&files.key).unwrap();
    check_renewed(&files, ensure(&ca, 340).unwrap());
    // The pair that a crash between two renames leaves.
    fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    check_renewed(&files, ensure(&ca, 340).unwrap());
    let next_ca = DevCa::new(now()).unwrap();
    check_renewed(&files, ensure(&next_ca, 340).unwrap());
    assert!(!ensure(&next_ca, 340).unwrap().written);
}

#[test]
fn files_of_others_are_never_replaced() {
    let dir = Folder::new();
    let ca = DevCa::new(now()).unwrap();
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.distinguished_name = common_name("Some public authority".to_owned());
    let foreign = params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .pem();
    fs::create_dir_all(&dir.0).unwrap();
    fs::write(dir.0.join("a.test.pem"), &foreign).unwrap();
    let files = ca.ensure_domain(&dir.0, "a.test", now()).unwrap();
    assert!(!files.written);
    assert_eq!(fs::read_to_string(&files.certificate).unwrap(), foreign);

    fs::write(&files.certificate, "nonsense").unwrap();
    let error = ca.ensure_domain(&dir.0, "a.test", now()).unwrap_err();
    assert!(matches!(error, CertError::Parse { .. }), "{error:?}");
    fs::write(&files.certificate, "").unwrap();
    assert!(ca.ensure_domain(&dir.0, "a.test", now()).unwrap().written);
    assert!(matches!(
        ca.ensure_domain(&dir.0, "../a", now()),
        Err(CertError::Name { .. })
    ));
}

#[test]
fn a_client_gets_its_accounts_and_nothing_else() {
    let ca = DevCa::new(now()).unwrap();
    let accounts = ["juliet@a.test", "Jürgen@b.test"];
    let leaf = ca.issue_client(&accounts, now()).unwrap();
    let cert = leaf_of(&leaf);
    let names = cert.subject_alternative_name().unwrap().unwrap().value;
    let names = names.general_names.iter().map(|name| match name {
        // [0] EXPLICIT UTF8String.
        GeneralName::OtherName(oid, [0xA0, _, 0x0C, _, text @ ..]) => {
            assert_eq!(oid.to_id_string(), "1.3.6.1.5.5.7.8.5");
            std::str::from_utf8(text).unwrap()
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), accounts);
    let usage = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!cert.is_ca());
    assert_eq!(days_left(&cert), 365);
    let end = now() + DAY * 3;
    let short = ca.issue_client_until(&accounts, now(), end).unwrap();
    assert_eq!(days_left(&leaf_of(&short)), 3);
    let refused = ca.issue_client(&["a.test"], now());
    assert!(matches!(refused, Err(CertError::Account { .. })));
}

#[test]
fn a_folder_keeps_the_certificate_of_a_client() {
    let folder = Folder::new();
    let ca = DevCa::load_or_create(&folder.0, now()).unwrap();
    let made = ca.ensure_client(&folder.0, "juliet@a.test", now()).unwrap();
    assert!(made.written);
    assert_eq!(made.certificate, folder.0.join("juliet@a.test.pem"));
    assert_eq!(made.key, folder.0.join("juliet@a.test.key"));
    let again = ca.ensure_client(&folder.0, "juliet@a.test", now()).unwrap();
    assert!(!again.written);
    let mode = fs::metadata(&made.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let refused = ca.ensure_client(&folder.0, "../juliet@a.test", now());
    assert!(matches!(refused, Err(CertError::Account { .. })));
}
