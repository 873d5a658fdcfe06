//! Certificates of every kind of wrong, each with the one cause that a sender is told.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, OtherNameValue, SanType, date_time_ymd,
};

/// 2026-06-01.
pub(crate) const NOW: u64 = 1_780_272_000;

/// An authority and what it issues.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    fn issue(&self, params: &CertificateParams) -> Vec<Box<[u8]>> {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        vec![leaf.der().to_vec().into()]
    }

    /// Chain and key of a server, as PEM.
    pub(crate) fn server(&self, domain: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let leaf = params(&[domain]).signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }

    pub(crate) fn anchors(&self) -> Arc<RootCertStore> {
        Arc::new(crate::tls::roots(&self.pem).unwrap())
    }
}

/// A leaf for TLS servers alone, as public authorities issue them.
fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// One for d.test, but for this.
fn changed(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = params(&["d.test"]);
    change(&mut params);
    params
}

fn with_usage(usages: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    changed(|params| params.extended_key_usages = usages.to_vec())
}

fn with_names(names: Vec<SanType>) -> CertificateParams {
    changed(|params| params.subject_alt_names = names)
}

/// An SRV-ID is an IA5String, which rcgen cannot write: the whole extension by hand.
fn with_srv(name: &str) -> CertificateParams {
    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let value = parts.concat();
        let mut out = vec![tag, u8::try_from(value.len()).unwrap()];
        out.extend(value);
        out
    }
    let oid = [0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 8, 7];
    let value = tlv(0xA0, &[&tlv(0x16, &[name.as_bytes()])]);
    let names = tlv(0x30, &[&tlv(0xA0, &[&oid, &value])]);
    let extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
    changed(|params| {
        params.subject_alt_names = Vec::new();
        params.custom_extensions = vec![extension];
    })
}

fn xmpp_addr(text: &str) -> SanType {
    let oid = vec![1, 3, 6, 1, 5, 5, 7, 8, 5];
    SanType::OtherName((oid, OtherNameValue::Utf8String(text.into())))
}

#[track_caller]
fn check(params: &CertificateParams, domain: &str, expected: Result<(), &str>) {
    let ca = Ca::new("test authority");
    let found = judge(&ca.issue(params), &ca.anchors(), domain, NOW);
    let found = found.map_err(|cause| cause.to_string());
    assert_eq!(found, expected.map_err(ToOwned::to_owned));
}

#[test]
fn ats_ce_14_a_chain_ends_with_its_first_certificate_that_is_not_over_yet() {
    let ca = Ca::new("one");
    let until = |year| changed(|params| params.not_after = date_time_ymd(year, 1, 1));
    let chain = |years: &[i32]| -> Vec<Box<[u8]>> {
        let issued = years.iter().map(|year| ca.issue(&until(*year)));
        issued.flatten().collect()
    };
    let first = |year| ends(&chain(&[year]), 0);
    assert!(first(2027) < first(2028) && first(2027).is_some());
    assert_eq!(ends(&chain(&[2028, 2027]), NOW), first(2027));
    assert_eq!(ends(&chain(&[2027, 2028]), NOW), first(2027));
    // What was not needed for the proof is not missed.
    assert_eq!(ends(&chain(&[2028, 2026]), NOW), first(2028));
    let end = first(2027).unwrap();
    assert_eq!(ends(&chain(&[2027]), end), first(2027), "its last moment");
    assert_eq!(ends(&[Box::from(*b"none")], NOW), None);
    assert_eq!(ends(&[], NOW), None);
}

#[test]
fn ats_ce_06_a_chain_to_an_anchor_is_good_and_nothing_else() {
    let (ca, other) = (Ca::new("one"), Ca::new("other"));
    let chain = ca.issue(&params(&["d.test"]));
    assert_eq!(judge(&chain, &ca.anchors(), "d.test", NOW), Ok(()));
    assert_eq!(
        judge(&chain, &other.anchors(), "d.test", NOW),
        Err(Distrust::UnknownIssuer)
    );
    // No authority at all, and one with the name of a known one.
    let none = Arc::new(RootCertStore::empty());
    assert_eq!(
        judge(&chain, &none, "d.test", NOW),
        Err(Distrust::UnknownIssuer)
    );
    assert!(judge(&chain, &Ca::new("one").anchors(), "d.test", NOW).is_err());
    assert_eq!(
        judge(&[], &ca.anchors(), "d.test", NOW),
        Err(Distrust::NoCertificate)
    );
    let garbage = [Box::from(&b"no certificate"[..])];
    assert_eq!(
        judge(&garbage, &ca.anchors(), "d.test", NOW),
        Err(Distrust::Invalid)
    );
}

#[test]
fn ats_ce_06_an_issuer_in_between_may_be_sent_along() {
    let root = Ca::new("root");
    let key = KeyPair::generate().unwrap();
    let mut between = CertificateParams::new(Vec::new()).unwrap();
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    between
        .distinguished_name
        .push(rcgen::DnType::CommonName, "between");
    between.not_before = date_time_ymd(2025, 1, 1);
    between.not_after = date_time_ymd(2026, 9, 1);
    let signed = between.signed_by(&key, &root.issuer).unwrap();
    let middle: Box<[u8]> = signed.der().to_vec().into();
    let ca = Ca {
        issuer: Issuer::new(between, key),
        pem: String::new(),
    };
    let mut chain = ca.issue(&params(&["d.test"]));
    assert_eq!(
        judge(&chain, &root.anchors(), "d.test", NOW),
        Err(Distrust::UnknownIssuer)
    );
    chain.push(middle);
    assert_eq!(judge(&chain, &root.anchors(), "d.test", NOW), Ok(()));
    // 2026-10-01: the issuer's own time is over.
    let late = judge(&chain, &root.anchors(), "d.test", 1_790_812_800);
    assert_eq!(
        late.unwrap_err().to_string(),
        "certificate expired on 2026-09-01"
    );
}

#[test]
fn ats_ce_06_the_time_is_told_as_a_date() {
    let late = changed(|params| params.not_after = date_time_ymd(2026, 5, 31));
    check(&late, "d.test", Err("certificate expired on 2026-05-31"));
    // The name would be wrong too: the time comes first.
    check(&late, "e.test", Err("certificate expired on 2026-05-31"));
    let early = changed(|params| params.not_before = date_time_ymd(2026, 6, 2));
    let cause = "certificate is not valid before 2026-06-02";
    check(&early, "d.test", Err(cause));
}

#[test]
fn ats_ce_06_a_certificate_that_has_signed_itself_is_named_so() {
    let key = KeyPair::generate().unwrap();
    let own = params(&["d.test"]).self_signed(&key).unwrap();
    let chain = [own.der().to_vec().into()];
    let anchors = Ca::new("one").anchors();
    let cause = judge(&chain, &anchors, "d.test", NOW).unwrap_err();
    assert_eq!(cause.to_string(), "certificate is self-signed");
}

#[test]
fn ats_ce_05_an_authority_is_no_server() {
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = changed(|params| params.is_ca = is_ca);
    let cause = "certificate is that of an authority";
    check(&authority, "d.test", Err(cause));
}

#[test]
fn ats_tu_02_purposes() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    check(&with_usage(&[ServerAuth]), "d.test", Ok(()));
    check(&with_usage(&[ClientAuth]), "d.test", Ok(()));
    check(&with_usage(&[ServerAuth, ClientAuth]), "d.test", Ok(()));
    check(&with_usage(&[]), "d.test", Ok(()));
    let cause = "certificate was issued for another purpose";
    check(&with_usage(&[CodeSigning]), "d.test", Err(cause));
    // Issued for clients, but by nobody.
    let chain = Ca::new("one").issue(&with_usage(&[ClientAuth]));
    let found = judge(&chain, &Ca::new("other").anchors(), "d.test", NOW);
    assert_eq!(found, Err(Distrust::UnknownIssuer));
}

#[test]
fn ats_ce_01_dns_names() {
    check(&params(&["d.test"]), "d.test", Ok(()));
    check(&params(&["D.Test"]), "d.test", Ok(()));
    check(&params(&["x.test", "d.test"]), "d.test", Ok(()));
    let cause = "certificate is not for d.test but for x.test, y.test";
    check(&params(&["x.test", "y.test"]), "d.test", Err(cause));
    let cause = "certificate is not for d.test, nor for any other name";
    check(&params(&[]), "d.test", Err(cause));
}

#[test]
fn ats_ce_04_a_wildcard_is_one_whole_label() {
    let wild = params(&["*.d.test"]);
    check(&wild, "a.d.test", Ok(()));
    let is_wrong = |domain| format!("certificate is not for {domain} but for *.d.test");
    for domain in ["d.test", "a.b.d.test", "xd.test"] {
        check(&wild, domain, Err(&is_wrong(domain)));
    }
    let cause = "certificate is not for fa.d.test but for f*.d.test";
    check(&params(&["f*.d.test"]), "fa.d.test", Err(cause));
}

#[test]
fn ats_ce_02_srv_names_are_those_of_servers() {
    check(&with_srv("_xmpp-server.d.test"), "d.test", Ok(()));
    check(&with_srv("_XMPP-Server.D.test"), "d.test", Ok(()));
    let cause = "certificate is not for d.test but for _xmpp-client.d.test";
    check(&with_srv("_xmpp-client.d.test"), "d.test", Err(cause));
    let cause = "certificate is not for a.d.test but for _xmpp-server.d.test";
    check(&with_srv("_xmpp-server.d.test"), "a.d.test", Err(cause));
}

#[test]
fn ats_ce_03_an_xmpp_address_that_is_a_domain_counts() {
    check(&with_names(vec![xmpp_addr("d.test")]), "d.test", Ok(()));
    let cause = "certificate is not for d.test but for ann@d.test";
    check(
        &with_names(vec![xmpp_addr("ann@d.test")]),
        "d.test",
        Err(cause),
    );
}

#[test]
fn ats_ce_08_the_common_name_counts_for_nothing() {
    let mut named = params(&[]);
    named
        .distinguished_name
        .push(rcgen::DnType::CommonName, "d.test");
    let cause = "certificate is not for d.test, nor for any other name";
    check(&named, "d.test", Err(cause));
}

#[test]
fn ats_ce_09_a_labels_and_addresses() {
    check(&params(&["xn--mller-kva.test"]), "müller.test", Ok(()));
    check(&params(&["127.0.0.1"]), "127.0.0.1", Ok(()));
    check(&params(&["::1"]), "[::1]", Ok(()));
    let cause = "certificate is not for 127.0.0.1 but for 127.0.0.2";
    check(&params(&["127.0.0.2"]), "127.0.0.1", Err(cause));
    let cause = "certificate is not for d.test but for 127.0.0.1";
    check(&params(&["127.0.0.1"]), "d.test", Err(cause));
    let cause = "certificate is not for 127.0.0.1 but for *.0.0.1";
    check(&params(&["*.0.0.1"]), "127.0.0.1", Err(cause));
}

#[test]
fn ats_tu_04_what_a_certificate_says_of_itself() {
    let chain = Ca::new("test authority").issue(&params(&["d.test", "127.0.0.1"]));
    let summary = summary(&chain[0]).unwrap();
    assert_eq!(summary.names, ["d.test".into(), "127.0.0.1".into()]);
    assert_eq!(summary.not_after, 1_798_761_600);
    assert!(summary.issuer.contains("test authority"));
    assert_eq!(super::summary(b"no certificate"), None);
}

// Clients.

#[track_caller]
fn check_client(params: &CertificateParams, expected: Result<&[&str], &str>) {
    let ca = Ca::new("test authority");
    let found = judge_client(&ca.issue(params), &ca.anchors(), NOW);
    let found = found.map_err(|cause| cause.to_string());
    let expected = expected.map(|all| all.iter().map(|&it| it.into()).collect());
    assert_eq!(found, expected.map_err(ToOwned::to_owned));
}

#[test]
fn ats_ce_10_addresses_of_a_client_are_those_of_its_certificate() {
    let client = |names| {
        let mut params = with_names(names);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    };
    let (ann, ben) = (xmpp_addr("ann@d.test"), xmpp_addr("ben@d.test"));
    check_client(&client(vec![ann.clone()]), Ok(&["ann@d.test"]));
    check_client(
        &client(vec![ann.clone(), ben]),
        Ok(&["ann@d.test", "ben@d.test"]),
    );
    // Names of other kinds say nothing about a client.
    let mail = SanType::Rfc822Name("ann@d.test".try_into().unwrap());
    let dns = SanType::DnsName("d.test".try_into().unwrap());
    check_client(&client(vec![mail, dns]), Ok(&[]));
    // For any purpose, and for servers alone.
    let mut any = with_names(vec![ann.clone()]);
    any.extended_key_usages = Vec::new();
    check_client(&any, Ok(&["ann@d.test"]));
    check_client(
        &with_names(vec![ann]),
        Err("certificate was issued for another purpose"),
    );
}

#[test]
fn ats_ce_10_a_clients_certificate_is_held_against_authority_and_time() {
    let client = |change: fn(&mut CertificateParams)| {
        let mut params = with_names(vec![xmpp_addr("ann@d.test")]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        params
    };
    check_client(&client(|_| {}), Ok(&["ann@d.test"]));
    let expired = client(|params| params.not_after = date_time_ymd(2026, 5, 31));
    check_client(&expired, Err("certificate expired on 2026-05-31"));
    let early = client(|params| params.not_before = date_time_ymd(2026, 6, 2));
    check_client(&early, Err("certificate is not valid before 2026-06-02"));
    let authority = client(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    check_client(&authority, Err("certificate is that of an authority"));
    let other = Ca::new("other").anchors();
    let chain = Ca::new("one").issue(&client(|_| {}));
    let nobody = Arc::new(RootCertStore::empty());
    for anchors in [other, nobody] {
        let found = judge_client(&chain, &anchors, NOW);
        assert_eq!(found, Err(Distrust::UnknownIssuer));
    }
    let ca = Ca::new("one");
    assert_eq!(
        judge_client(&[], &ca.anchors(), NOW),
        Err(Distrust::NoCertificate)
    );
    let garbage = [b"no certificate".as_slice().into()];
    assert_eq!(
        judge_client(&garbage, &ca.anchors(), NOW),
        Err(Distrust::Invalid)
    );
}

/// 2027-01-01, the end of what `params` makes.
const END: u64 = 1_798_761_600;

#[test]
fn c6120_lm_08_a_chain_is_good_until_the_first_of_it_ends() {
    let root = Ca::new("root");
    let until = |chain: &[Box<[u8]>]| good_until(chain, &root.anchors(), NOW);
    let own = root.issue(&params(&["d.test"]));
    assert_eq!(until(&own), Some(END));
    // An issuer in between that ends before, and one that ends after.
    for (year, expected) in [(2026, END - 30 * 86_400), (2030, END)] {
        let key = KeyPair::generate().unwrap();
        let mut between = params(&[]);
        between.subject_alt_names = Vec::new();
        between.extended_key_usages = Vec::new();
        between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        between.not_after = date_time_ymd(year, 12, 2);
        let name = "in between";
        between
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let middle = between.signed_by(&key, &root.issuer).unwrap();
        let issuer = Issuer::new(between, key);
        let key = KeyPair::generate().unwrap();
        let leaf = params(&["d.test"]).signed_by(&key, &issuer).unwrap();
        let chain: Vec<Box<[u8]>> = vec![leaf.der().to_vec().into(), middle.der().to_vec().into()];
        assert_eq!(until(&chain), Some(expected));
        // One that is shown and not needed does not matter.
        let idle: Vec<Box<[u8]>> = own.iter().chain(&chain[1..]).cloned().collect();
        assert_eq!(until(&idle), Some(END));
    }
    // What is not good now ends at no time.
    assert_eq!(good_until(&own, &root.anchors(), END + 1), None);
    assert_eq!(good_until(&own, &Ca::new("other").anchors(), NOW), None);
    assert_eq!(good_until(&[], &root.anchors(), NOW), None);
}
