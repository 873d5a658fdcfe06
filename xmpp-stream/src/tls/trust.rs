//! The decision what a certificate is worth, a server's for its domain and a client's for its accounts:
//! made after the handshake, which lets anything pass.
//!
//! Chain to an anchor, time, purpose, name: RFC 5280, RFC 6120 section 13.7, RFC 9525. A certificate
//! for TLS servers is good for a server that calls too: public authorities issue no others. Revocation
//! is not looked up. DANE and POSH would be further ways to say yes here.

mod names;

use self::names::{Name, names};
use super::ring_provider;
use crate::stream::s2s::Distrust;
use rustls::client::verify_server_cert_signed_by_trust_anchor as verify_chain;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, Error, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates of a chain whose end is looked at: real chains have three.
const ENDS_MAX: usize = 8;

/// What can be told of a certificate without judging it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Names that it is good for.
    pub names: Vec<Box<str>>,
    /// Seconds since 1970 of its last moment.
    pub not_after: i64,
    /// Who has issued it.
    pub issuer: Box<str>,
}

/// Reads a certificate (DER) for people; `None` when it is none.
#[must_use]
pub fn summary(certificate: &[u8]) -> Option<Summary> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(Summary {
        names: names(&certificate).iter().map(Name::to_text).collect(),
        not_after: certificate.validity().not_after.timestamp(),
        issuer: certificate.issuer().to_string().into(),
    })
}

/// The last moment (seconds since 1970) of the first certificate of a chain to end, of those that are
/// not over at `now`: what was good may be good without one that is (RFC 6120 section 13.7.2.3).
#[must_use]
pub fn ends(chain: &[Box<[u8]>], now: u64) -> Option<u64> {
    let ends = chain.iter().filter_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        u64::try_from(certificate.validity().not_after.timestamp()).ok()
    });
    ends.filter(|end| *end >= now).min()
}

/// Addresses of XMPP that a certificate (DER) names, without judging it.
pub(crate) fn addresses(certificate: &[u8]) -> Vec<Box<str>> {
    names::addresses(certificate)
}

/// Is this chain (the peer's own certificate first, DER) good for a server of `domain`, at `now`
/// (seconds since 1970)? Where more than one thing is wrong, the first of: unreadable, an authority's,
/// time, issuer, purpose, name.
///
/// # Errors
/// What is wrong.
pub fn judge(
    chain: &[Box<[u8]>],
    anchors: &Arc<RootCertStore>,
    domain: &str,
    now: u64,
) -> Result<(), Distrust> {
    let (leaf, others) = chain.split_first().ok_or(Distrust::NoCertificate)?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Distrust::Invalid)?;
    check_is_leaf(&parsed)?;
    check_time(&parsed, now)?;
    check_chain(leaf, others, anchors, now).map_err(|error| distrust(&error, &parsed))?;
    check_name(&parsed, domain)
}

/// Is this chain good for a client, at `now`? Gives the addresses that its certificate names, as they
/// stand there (id-on-xmppAddr, RFC 6120 section 13.7.1.4): there may be none. The certificate was
/// issued for TLS clients, or for no purpose in particular.
///
/// # Errors
/// What is wrong.
pub fn judge_client(
    chain: &[Box<[u8]>],
    anchors: &Arc<RootCertStore>,
    now: u64,
) -> Result<Vec<Box<str>>, Distrust> {
    let (leaf, others) = chain.split_first().ok_or(Distrust::NoCertificate)?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Distrust::Invalid)?;
    check_is_leaf(&parsed)?;
    check_time(&parsed, now)?;
    let (leaf, others) = certificates(leaf, others);
    check_as_client(&leaf, &others, anchors, unix_time(now))
        .map_err(|error| distrust(&error, &parsed))?;
    Ok(addresses(&leaf))
}

/// The last moment (seconds since 1970) at which this chain is good, one that is so at `now`: the end
/// of the certificate's time, or of that of an issuer in the chain (RFC 6120 section 13.7.2.3). An
/// anchor's own time is not looked at. `None`: it is not good now, or so long that no time is found.
#[must_use]
pub fn good_until(chain: &[Box<[u8]>], anchors: &Arc<RootCertStore>, now: u64) -> Option<u64> {
    let (leaf, others) = chain.split_first()?;
    let own = not_after(leaf)?;
    let mut ends: Vec<u64> = others.iter().filter_map(|der| not_after(der)).collect();
    ends.push(own);
    ends.retain(|end| (now..=own).contains(end));
    ends.sort_unstable_by(|a, b| b.cmp(a));
    ends.dedup();
    // Which of the others are needed only a verification tells.
    let is_good = |at: &u64| check_chain(leaf, others, anchors, *at).is_ok();
    ends.into_iter().take(ENDS_MAX).find(is_good)
}

fn not_after(certificate: &[u8]) -> Option<u64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

/// Row ce-05: what may sign certificates must not stand for a server.
fn check_is_leaf(certificate: &X509Certificate<'_>) -> Result<(), Distrust> {
    // An extension that stands there twice is none that can be believed.
    let basic = certificate
        .basic_constraints()
        .map_err(|_| Distrust::Invalid)?;
    match basic.is_some_and(|basic| basic.value.ca) {
        true => Err(Distrust::Authority),
        false => Ok(()),
    }
}

fn check_time(certificate: &X509Certificate<'_>, now: u64) -> Result<(), Distrust> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let (from, to) = (
        certificate.validity().not_before.timestamp(),
        certificate.validity().not_after.timestamp(),
    );
    if now > to {
        return Err(Distrust::Expired { since: to });
    }
    if now < from {
        return Err(Distrust::NotYetValid { until: from });
    }
    Ok(())
}

fn check_chain(
    leaf: &[u8],
    others: &[Box<[u8]>],
    anchors: &Arc<RootCertStore>,
    now: u64,
) -> Result<(), Error> {
    let (leaf, others) = certificates(leaf, others);
    let now = unix_time(now);
    let parsed = ParsedCertificate::try_from(&leaf)?;
    let algorithms = ring_provider().signature_verification_algorithms.all;
    match verify_chain(&parsed, anchors, &others, now, algorithms) {
        // Issued for TLS clients alone, which a calling server is.
        Err(Error::InvalidCertificate(error)) if is_purpose(&error) => {
            check_as_client(&leaf, &others, anchors, now)
        }
        result => result,
    }
}

fn check_as_client(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    anchors: &Arc<RootCertStore>,
    now: UnixTime,
) -> Result<(), Error> {
    let roots = Arc::clone(anchors);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, ring_provider()).build();
    let verifier = verifier.map_err(|_| CertificateError::UnknownIssuer)?;
    verifier.verify_client_cert(leaf, others, now)?;
    Ok(())
}

fn certificates<'a>(
    leaf: &'a [u8],
    others: &'a [Box<[u8]>],
) -> (CertificateDer<'a>, Vec<CertificateDer<'a>>) {
    let others = others.iter().map(|der| CertificateDer::from_slice(der));
    (CertificateDer::from_slice(leaf), others.collect())
}

fn unix_time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn is_purpose(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
    )
}

fn distrust(error: &Error, leaf: &X509Certificate<'_>) -> Distrust {
    use CertificateError as C;
    let Error::InvalidCertificate(error) = error else {
        return Distrust::Invalid;
    };
    let seconds = |time: &UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match error {
        // The leaf's own time was in order: these are an issuer's.
        C::ExpiredContext { not_after, .. } => Distrust::Expired {
            since: seconds(not_after),
        },
        C::NotValidYetContext { not_before, .. } => Distrust::NotYetValid {
            until: seconds(not_before),
        },
        C::UnknownIssuer if leaf.subject() == leaf.issuer() => Distrust::SelfSigned,
        C::UnknownIssuer => Distrust::UnknownIssuer,
        C::Revoked => Distrust::Revoked,
        error if is_purpose(error) => Distrust::WrongPurpose,
        _ => Distrust::Invalid,
    }
}

/// Rows ce-01 to ce-04, ce-08, ce-09.
fn check_name(certificate: &X509Certificate<'_>, domain: &str) -> Result<(), Distrust> {
    let names = names(certificate);
    if names.iter().any(|name| name.is_good_for(domain)) {
        return Ok(());
    }
    Err(Distrust::WrongName {
        wanted: domain.into(),
        names: names.iter().map(Name::to_text).collect(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
