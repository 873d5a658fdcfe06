//! Certificates of the kinds that RFC 6120 section 13.7.1 and RFC 9525 speak of and hardly anybody has,
//! good ones and others: tests show them to a server.

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    OtherNameValue, SanType,
};
use std::time::SystemTime;

use crate::{BACKDATED, CertError, DevCa, LEAF_VALIDITY, Leaf};
use crate::{common_name, serial_number, whole_seconds};

/// id-on-dnsSRV (RFC 4985), encoded.
const DNS_SRV: [u8; 10] = [0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 8, 7];
/// id-on-xmppAddr (RFC 6120 section 13.7.1.4).
const XMPP_ADDR: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];
/// subjectAltName (RFC 5280 section 4.2.1.6).
const ALTERNATIVE_NAME: [u64; 4] = [2, 5, 29, 17];
/// Lengths up to here take one byte, wrappers included.
const SERVICE_MAX: usize = 100;

/// What is odd about a certificate; all else is as `DevCa::issue` makes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Odd<'a> {
    /// It names an XMPP address (XmppAddr) and nothing else.
    Address(&'a str),
    /// It is that of an authority, for this domain.
    Authority(&'a str),
    /// It is for the calling side of TLS alone, and names this domain.
    Caller(&'a str),
    /// It names the domain as its common name and not where names belong.
    CommonName(&'a str),
    /// It names a service (SRV-ID), such as `_xmpp-server.a.test`, and nothing else.
    Service(&'a str),
}

impl DevCa {
    /// Issues an odd certificate, valid a year from `now`.
    ///
    /// # Errors
    /// `Name` for what is no domain or too long; `Clock` and `Sign`.
    pub fn issue_odd(&self, odd: Odd<'_>, now: SystemTime) -> Result<Leaf, CertError> {
        let now = whole_seconds(now)?;
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (now - BACKDATED, now + LEAF_VALIDITY);
        params.serial_number = Some(serial_number()?);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name = DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        match odd {
            Odd::Address(address) => {
                let value = OtherNameValue::Utf8String(address.into());
                let name = SanType::OtherName((XMPP_ADDR.to_vec(), value));
                params.subject_alt_names = vec![name];
            }
            Odd::Authority(domain) => {
                params.subject_alt_names = vec![dns_name(domain)?];
                params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }
            Odd::Caller(domain) => {
                params.subject_alt_names = vec![dns_name(domain)?];
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            Odd::CommonName(domain) => params.distinguished_name = common_name(domain.to_owned()),
            Odd::Service(name) => params.custom_extensions = vec![service(name)?],
        }
        self.leaf(&params)
    }
}

/// A domain in A-labels.
fn dns_name(domain: &str) -> Result<SanType, CertError> {
    let name = domain.try_into().map_err(|_| refused(domain))?;
    Ok(SanType::DnsName(name))
}

fn refused(name: &str) -> CertError {
    CertError::Name { name: name.into() }
}

/// The whole extension by hand: an SRV-ID is an IA5String, which rcgen cannot write.
fn service(name: &str) -> Result<CustomExtension, CertError> {
    if name.len() > SERVICE_MAX || !name.is_ascii() {
        return Err(refused(name));
    }
    let value = tagged(0xA0, &tagged(0x16, name.as_bytes()));
    let names = tagged(0x30, &tagged(0xA0, &[&DNS_SRV[..], &value].concat()));
    Ok(CustomExtension::from_oid_content(&ALTERNATIVE_NAME, names))
}

/// One element of DER, shorter than 128 bytes.
fn tagged(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, u8::try_from(value.len()).unwrap_or(u8::MAX)];
    out.extend_from_slice(value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// Whether it is an authority's, its subject, and its names.
    fn issued(odd: Odd<'_>) -> (bool, String, String) {
        let now = UNIX_EPOCH + Duration::from_secs(1_780_000_000);
        let ca = DevCa::new(now).expect("an authority");
        let leaf = ca.issue_odd(odd, now).expect("a certificate");
        let der = &leaf.chain_der()[0];
        let (_, cert) = x509_parser::parse_x509_certificate(der).expect("a certificate");
        let names = cert.subject_alternative_name().expect("at most one");
        let names = names.map(|names| format!("{:?}", names.value.general_names));
        let (is_ca, subject) = (cert.is_ca(), cert.subject().to_string());
        (is_ca, subject, names.unwrap_or_default())
    }

    #[test]
    fn each_is_odd_in_one_way() {
        let (is_ca, subject, names) = issued(Odd::Authority("a.test"));
        assert!(is_ca && subject.is_empty() && names.contains("a.test"));
        let (is_ca, subject, names) = issued(Odd::CommonName("a.test"));
        assert!(!is_ca && subject == "CN=a.test" && names.is_empty());
        let (is_ca, subject, names) = issued(Odd::Caller("a.test"));
        assert!(!is_ca && subject.is_empty() && names.contains("a.test"));
        for odd in [Odd::Service("_xmpp-server.a.test"), Odd::Address("a.test")] {
            let (is_ca, subject, names) = issued(odd);
            assert!(!is_ca && subject.is_empty(), "{subject}");
            assert!(names.starts_with("[OtherName("), "{names}");
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let ca = DevCa::new(UNIX_EPOCH + Duration::from_secs(1_780_000_000)).expect("an authority");
        let now = UNIX_EPOCH + Duration::from_secs(1_780_000_000);
        let long = "x".repeat(SERVICE_MAX + 1);
        for odd in [Odd::Service(&long), Odd::Service("é"), Odd::Caller("é")] {
            assert!(ca.issue_odd(odd, now).is_err(), "{odd:?}");
        }
    }
}
