//! Whose certificates are trusted: the system's anchors, a CA, or one pinned certificate.
//!
//! A certificate has to be good for the domain of the JID (RFC 6120 section 13.7, RFC 9525), whatever
//! host was reached by way of SRV records or redirections. A pin alone decides: it names one
//! certificate or one key, so neither issuer, names nor dates matter.

use crate::error::ConnectError;
use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError, InvalidMessage,
    RootCertStore, SignatureScheme,
};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use xmpp_stream::tls;
use xmpp_stream::tls::c2s::Identity;

/// How long the system's anchors are taken for known. To read them is most of the work of a
/// connection (160 files on Debian), and a store of them holds 80 KiB: clients share it.
const SYSTEM_AGE_MAX: Duration = Duration::from_secs(300);
/// Names of a wrong certificate that are told; one can have thousands.
const NAMES_MAX: usize = 8;

/// Whose certificates are trusted.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    System,
    File(PathBuf),
    Pem(String),
    Pins(Vec<Pin>),
}

/// Settings of the handshake, by way.
pub(crate) struct Handshakes {
    pub(crate) direct_tls: Arc<ClientConfig>,
    pub(crate) starttls: Arc<ClientConfig>,
}

impl Trust {
    /// Reads what there is to read: a file anew for each connection, so that a changed one holds;
    /// the system's anchors every five minutes.
    pub(crate) fn handshakes(
        &self,
        identity: Option<&Identity>,
    ) -> Result<Handshakes, ConnectError> {
        let mut starttls = match self {
            Self::Pins(pins) => pinned(pins)?,
            _ => tls::client_config(self.roots()?, false).map_err(|_| ConnectError::NoCa)?,
        };
        if let Some(identity) = identity {
            identity.show(Arc::make_mut(&mut starttls));
        }
        let mut direct_tls = ClientConfig::clone(&starttls);
        direct_tls.alpn_protocols = vec![tls::ALPN_CLIENT.to_vec()];
        Ok(Handshakes {
            direct_tls: Arc::new(direct_tls),
            starttls,
        })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, ConnectError> {
        let pem = match self {
            Self::Pem(pem) => pem.clone(),
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| ConnectError::CaFile(path.clone(), error))?,
            Self::System | Self::Pins(_) => return system(),
        };
        tls::roots(&pem)
            .map(Arc::new)
            .map_err(|_| ConnectError::NoCa)
    }
}

/// The system's anchors as they were last read, shared by all clients of the process.
static SYSTEM: Mutex<Option<(Instant, Arc<RootCertStore>)>> = Mutex::new(None);

fn system() -> Result<Arc<RootCertStore>, ConnectError> {
    let mut known = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    shared(&mut known, Instant::now(), read_system)
}

/// What is known, read again when that is long ago.
fn shared(
    known: &mut Option<(Instant, Arc<RootCertStore>)>,
    now: Instant,
    read: impl FnOnce() -> Result<RootCertStore, ConnectError>,
) -> Result<Arc<RootCertStore>, ConnectError> {
    if let Some((read, store)) = known
        && now.saturating_duration_since(*read) < SYSTEM_AGE_MAX
    {
        return Ok(Arc::clone(store));
    }
    let found = read()?;
    let store = match known.take() {
        // Whoever holds the same ones goes on sharing them.
        Some((_, store)) if store.roots == found.roots => store,
        _ => Arc::new(found),
    };
    *known = Some((now, Arc::clone(&store)));
    Ok(store)
}

/// The system's, where SSL_CERT_FILE and SSL_CERT_DIR say nothing else.
fn read_system() -> Result<RootCertStore, ConnectError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a CA certificate of the system cannot be used");
    }
    let mut store = RootCertStore::empty();
    // Old systems keep some that are no longer readable; the others serve.
    store.add_parsable_certificates(found.certs);
    match store.is_empty() {
        true => Err(ConnectError::NoCa),
        false => Ok(store),
    }
}

/// SHA-256 of a certificate, or of its public key (SubjectPublicKeyInfo, as in RFC 7469 section 2.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin([u8; digest::SHA256_OUTPUT_LEN]);

/// A text is no SHA-256 fingerprint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PinError;

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SHA-256 fingerprint has 64 hex digits, with or without colons")
    }
}

impl std::error::Error for PinError {}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let mut digits = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        let mut next = || {
            digits
                .next()
                .flatten()
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        for byte in &mut bytes {
            let (high, low) = (next().ok_or(PinError)?, next().ok_or(PinError)?);
            *byte = high << 4 | low;
        }
        match digits.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(PinError),
        }
    }
}

fn pinned(pins: &[Pin]) -> Result<Arc<ClientConfig>, ConnectError> {
    let provider = Arc::new(provider::default_provider());
    let verifier = Pinned {
        pins: pins.to_vec(),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| ConnectError::NoCa)?;
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Accepts the certificates that are pinned. That the server has the key is checked as always.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn has(&self, bytes: &[u8]) -> bool {
        let hash = digest::digest(&digest::SHA256, bytes);
        self.pins.iter().any(|pin| pin.0 == hash.as_ref())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        let key = ParsedCertificate::try_from(leaf)?.subject_public_key_info();
        match self.has(leaf) || self.has(&key) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What is wrong with a server's certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CertificateFault {
    /// It is for other names than the domain of the JID.
    Name {
        /// The names that it is for.
        names: Vec<String>,
    },
    /// It has expired.
    Expired,
    /// It is not valid yet; or the clock of this machine is wrong.
    NotYet,
    /// It was issued by nobody who is trusted.
    Issuer,
    /// It is not the pinned one.
    NotPinned,
    /// It was revoked.
    Revoked,
    /// It is malformed, wrongly signed, or not for servers.
    Invalid,
}

impl CertificateFault {
    /// What TLS says about the certificate; `None` when it failed for another reason.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<RustlsError>()?;
        let RustlsError::InvalidCertificate(error) = error else {
            return None;
        };
        Some(match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYet
            }
            CertificateError::NotValidForName => Self::Name { names: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => Self::Name {
                names: presented
                    .iter()
                    .take(NAMES_MAX)
                    .map(|name| plain(name).to_owned())
                    .collect(),
            },
            CertificateError::UnknownIssuer => Self::Issuer,
            CertificateError::ApplicationVerificationFailure => Self::NotPinned,
            CertificateError::Revoked => Self::Revoked,
            _ => Self::Invalid,
        })
    }
}

/// What came was no record of TLS.
pub(crate) fn is_not_tls(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(
        error,
        Some(RustlsError::InvalidMessage(
            InvalidMessage::InvalidContentType
        ))
    )
}

/// `DnsName("a.test")` or `IpAddress(192.0.2.1)` without what is round the name.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, rest)| rest);
    inner.trim_end_matches(')').trim_matches('"')
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { names } if names.is_empty() => {
                f.write_str("the certificate is for another name")
            }
            Self::Name { names } => {
                write!(
                    f,
                    "the certificate is for another name: {}",
                    names.join(", ")
                )
            }
            Self::Expired => f.write_str("the certificate has expired"),
            Self::NotYet => f.write_str("the certificate is not valid yet"),
            Self::Issuer => f.write_str("the certificate was issued by nobody who is trusted"),
            Self::NotPinned => f.write_str("the certificate is not the pinned one"),
            Self::Revoked => f.write_str("the certificate was revoked"),
            Self::Invalid => f.write_str("the certificate cannot be used"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_64_hex_digits_with_or_without_colons() {
        let plain = "00ff".repeat(16);
        let colons = ["00:FF"; 16].join(":");
        let pin: Pin = plain.parse().expect("a pin");
        assert_eq!(pin.0[..2], [0, 255]);
        assert_eq!(colons.parse(), Ok(pin));
        for wrong in [
            "",
            "00",
            &plain[1..],
            &format!("{plain}0"),
            &"0g".repeat(32),
        ] {
            assert_eq!(wrong.parse::<Pin>(), Err(PinError), "{wrong}");
        }
    }

    fn anchors(names: &[&str]) -> RootCertStore {
        let mut store = RootCertStore::empty();
        for name in names {
            let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
            ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            ca.distinguished_name.push(rcgen::DnType::CommonName, *name);
            let key = rcgen::KeyPair::generate().expect("a key");
            let ca = ca.self_signed(&key).expect("a certificate");
            store.add(ca.der().clone()).expect("an anchor");
        }
        store
    }

    #[test]
    fn anchors_are_shared_until_they_change() {
        let start = Instant::now();
        let (first, second) = (anchors(&["a"]), anchors(&["a", "b"]));
        let mut known = None;
        let mut at = |seconds, store: &RootCertStore| {
            let now = start + Duration::from_secs(seconds);
            shared(&mut known, now, || Ok(store.clone())).expect("anchors")
        };
        let one = at(0, &first);
        assert!(Arc::ptr_eq(&one, &at(299, &second)), "not read again yet");
        assert!(Arc::ptr_eq(&one, &at(300, &first)), "read again, the same");
        assert_eq!(at(600, &second).roots, second.roots);
        let mut known = Some((start, one));
        let later = start + SYSTEM_AGE_MAX;
        let failed = shared(&mut known, later, || Err(ConnectError::NoCa));
        assert!(matches!(failed, Err(ConnectError::NoCa)));
    }
}
