//! A development certificate authority: certificates for trying and testing XMPP servers.
//!
//! `DevCa::new` lives in memory and is what tests use; `DevCa::load_or_create` keeps it in a
//! folder for people and their clients. Leaves are what RFC 6120 section 13.7.1.2 wants of a
//! server: domains as DNS-ID, for server authentication only, as public authorities issue them; or
//! section 13.7.1.3 of a client: addresses as XmppAddr, for client authentication only.
//! The caller hands in the time. Never trust this authority outside of development.

mod disk;
mod error;
mod names;
mod odd;

pub use odd::Odd;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{ParsedExtension, X509Certificate};

pub use disk::{DomainFiles, client_paths, domain_paths};
pub use error::CertError;
use names::Names;

/// Begins the common name of every authority made here, so that its leaves can be told from
/// certificates that somebody else put in their place.
pub const CA_NAME: &str = "XMPP Development CA";
const CA_VALIDITY: Duration = Duration::days(3650);
const LEAF_VALIDITY: Duration = Duration::days(365);
/// A certificate with less than this left is made anew at start.
const RENEW_BEFORE: Duration = Duration::days(30);
/// Validity begins this much earlier, for clients whose clock is late.
const BACKDATED: Duration = Duration::days(1);
/// The longest common name (RFC 5280 appendix A.1, ub-common-name).
const COMMON_NAME_MAX: usize = 64;

/// A certificate authority for development.
pub struct DevCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
    key_id: Vec<u8>,
}

/// A certificate with its private key.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate as PEM. Its issuer is the root itself, so the chain is one certificate.
    pub chain_pem: String,
    /// The private key, PKCS#8 as PEM.
    pub key_pem: String,
    chain_der: Vec<Vec<u8>>,
    key_der: Vec<u8>,
}

/// As public authorities issue them.
const SERVER_ONLY: [ExtendedKeyUsagePurpose; 1] = [ExtendedKeyUsagePurpose::ServerAuth];
const BOTH_SIDES: [ExtendedKeyUsagePurpose; 2] = [
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

const CLIENT_ONLY: [ExtendedKeyUsagePurpose; 1] = [ExtendedKeyUsagePurpose::ClientAuth];

/// Certificates that a test wants refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Variant {
    /// Right but for its validity, which is over since a day.
    Expired,
    /// Right but for its issuer, another authority of the same kind.
    OtherCa,
    /// Right but for its names, which are those of `wrong.invalid`.
    WrongName,
}

impl DevCa {
    /// Makes an authority in memory, valid ten years from `now`.
    ///
    /// # Errors
    /// `Clock` and `Sign`.
    pub fn new(now: SystemTime) -> Result<Self, CertError> {
        Ok(Self::with_key(now)?.0)
    }

    /// Makes an authority and says its private key as PEM.
    fn with_key(now: SystemTime) -> Result<(Self, String), CertError> {
        let key = KeyPair::generate().map_err(|_| CertError::Sign)?;
        let key_pem = key.serialize_pem();
        let params = ca_params(whole_seconds(now)?)?;
        let cert = params.self_signed(&key).map_err(|_| CertError::Sign)?;
        let key_id = params.key_identifier(&key);
        let (pem, der) = (cert.pem(), cert.der().to_vec());
        Ok((
            Self {
                issuer: Issuer::new(params, key),
                pem,
                der,
                key_id,
            },
            key_pem,
        ))
    }

    /// The authority's certificate as PEM: what a client is to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's certificate as DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Issues a server certificate for these domains and IP addresses, valid a year from `now`.
    /// A domain may be written in U-labels and may begin with `*.`.
    ///
    /// # Errors
    /// `Name` for what is neither a domain nor an address; `Clock` and `Sign`.
    pub fn issue<S: AsRef<str>>(&self, names: &[S], now: SystemTime) -> Result<Leaf, CertError> {
        let now = whole_seconds(now)?;
        let names = names::of_server(names)?;
        self.sign(&SERVER_ONLY, &names, now, now + LEAF_VALIDITY)
    }

    /// The same, good for the calling side of TLS too: some makes of servers ask that of each other.
    ///
    /// # Errors
    /// As `issue`.
    pub fn issue_for_both_sides<S: AsRef<str>>(
        &self,
        names: &[S],
        now: SystemTime,
    ) -> Result<Leaf, CertError> {
        let now = whole_seconds(now)?;
        let names = names::of_server(names)?;
        self.sign(&BOTH_SIDES, &names, now, now + LEAF_VALIDITY)
    }

    /// Issues a certificate by which a client signs in (XEP-0178 section 2) as one of these accounts,
    /// such as `juliet@a.test`; valid a year from `now`.
    ///
    /// # Errors
    /// `Name` for what is no account; `Clock` and `Sign`.
    pub fn issue_client<S: AsRef<str>>(
        &self,
        accounts: &[S],
        now: SystemTime,
    ) -> Result<Leaf, CertError> {
        let now = whole_seconds(now)?;
        let names = names::of_client(accounts)?;
        self.sign(&CLIENT_ONLY, &names, now, now + LEAF_VALIDITY)
    }

    /// The same, valid until `end`.
    ///
    /// # Errors
    /// As `issue_client`.
    pub fn issue_client_until<S: AsRef<str>>(
        &self,
        accounts: &[S],
        now: SystemTime,
        end: SystemTime,
    ) -> Result<Leaf, CertError> {
        let names = names::of_client(accounts)?;
        let (now, end) = (whole_seconds(now)?, whole_seconds(end)?);
        self.sign(&CLIENT_ONLY, &names, now.min(end), end)
    }

    /// Issues what a server of `domain` needs: the domain, its subdomains, its service hosts; for
    /// localhost also the loopback addresses.
    ///
    /// # Errors
    /// `Name` when it is no domain; `Clock` and `Sign`.
    pub fn issue_for_domain(&self, domain: &str, now: SystemTime) -> Result<Leaf, CertError> {
        self.issue(&names::for_domain(domain)?, now)
    }

    /// Issues a certificate for `domain` that every peer has to refuse.
    ///
    /// # Errors
    /// As `issue_for_domain`.
    pub fn issue_variant(
        &self,
        domain: &str,
        variant: Variant,
        now: SystemTime,
    ) -> Result<Leaf, CertError> {
        match variant {
            Variant::Expired => {
                let end = whole_seconds(now)? - Duration::days(1);
                let names = names::of_server(&names::for_domain(domain)?)?;
                self.sign(&SERVER_ONLY, &names, end - Duration::days(30), end)
            }
            Variant::OtherCa => Self::new(now)?.issue_for_domain(domain, now),
            Variant::WrongName => self.issue_for_domain("wrong.invalid", now),
        }
    }

    fn sign(
        &self,
        purposes: &[ExtendedKeyUsagePurpose],
        names: &Names,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Leaf, CertError> {
        let mut params = leaf_params(names, from - BACKDATED, to)?;
        params.extended_key_usages = purposes.to_vec();
        self.leaf(&params)
    }

    /// A new key, and its certificate.
    fn leaf(&self, params: &CertificateParams) -> Result<Leaf, CertError> {
        let key = KeyPair::generate().map_err(|_| CertError::Sign)?;
        let cert = params
            .signed_by(&key, &self.issuer)
            .map_err(|_| CertError::Sign)?;
        Ok(Leaf {
            chain_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            chain_der: vec![cert.der().to_vec()],
            key_der: key.serialize_der(),
        })
    }

    /// True for a certificate that this authority signed, judged by the key it names.
    fn issued(&self, cert: &X509Certificate<'_>) -> bool {
        authority_key_id(cert) == Some(&self.key_id)
    }
}

impl fmt::Debug for DevCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevCa").finish_non_exhaustive()
    }
}

impl Leaf {
    /// The chain as DER, the leaf first.
    pub fn chain_der(&self) -> &[Vec<u8>] {
        &self.chain_der
    }

    /// The private key as PKCS#8 DER.
    pub fn key_der(&self) -> &[u8] {
        &self.key_der
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("chain_pem", &self.chain_pem)
            .finish_non_exhaustive()
    }
}

/// True when the first certificate of `pem` has less than 30 days left, or is over.
///
/// # Errors
/// `Pem` when there is none; `Clock`.
pub fn needs_renewal(pem: &str, now: SystemTime) -> Result<bool, CertError> {
    let (_, block) =
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| CertError::Pem)?;
    let cert = block.parse_x509().map_err(|_| CertError::Pem)?;
    ends_soon(&cert, now)
}

fn ends_soon(cert: &X509Certificate<'_>, now: SystemTime) -> Result<bool, CertError> {
    let end = cert.validity().not_after.timestamp();
    Ok(end < (whole_seconds(now)? + RENEW_BEFORE).unix_timestamp())
}

fn ca_params(now: OffsetDateTime) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + CA_VALIDITY;
    params.serial_number = Some(serial_number()?);
    // Two authorities with one name make verifiers report a bad signature where "unknown issuer"
    // is meant.
    let tag: String = random::<8>()?
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params.distinguished_name = common_name(format!("{CA_NAME} {tag}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(
    names: &Names,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (not_before, not_after);
    params.serial_number = Some(serial_number()?);
    params.subject_alt_names.clone_from(&names.all);
    let shown = if (1..=COMMON_NAME_MAX).contains(&names.first.len()) {
        &names.first
    } else {
        "XMPP"
    };
    params.distinguished_name = common_name(shown.to_owned());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn common_name(text: String) -> rcgen::DistinguishedName {
    let mut name = rcgen::DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// A positive number of at most 16 octets (RFC 5280 section 4.1.2.2).
fn serial_number() -> Result<SerialNumber, CertError> {
    let mut bytes = random::<16>()?;
    // Neither a sign bit nor a leading zero, so that it is its own shortest form.
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

fn random<const N: usize>() -> Result<[u8; N], CertError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CertError::Sign)?;
    Ok(bytes)
}

/// Certificates know no fractions of a second. The years 1970 to 2500 leave room for any validity.
fn whole_seconds(now: SystemTime) -> Result<OffsetDateTime, CertError> {
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_err(|_| CertError::Clock)?
        .as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .filter(|time| time.year() < 2500)
        .ok_or(CertError::Clock)
}

fn authority_key_id<'a>(cert: &X509Certificate<'a>) -> Option<&'a [u8]> {
    cert.extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        })
}

fn subject_key_id<'a>(cert: &X509Certificate<'a>) -> Option<&'a [u8]> {
    cert.extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

#[cfg(test)]
mod tests;
