//! Certificate, chain and key of a domain: what a start refuses, and what clients do.
//!
//! RFC 6120 section 13.7.1.2 (names), RFC 5280 section 4.1.2.5 (validity). Names are compared as
//! rustls compares them, DNS-ID and addresses only: that is what clients of today look at.

use super::{Finding, Level, Topic, shown};
use crate::certificates::read_pem;
use crate::config::{CertificateFiles, Config, DomainConfig};
use rustls::client::verify_server_name;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use xmpp_certs::CA_NAME;
use xmpp_stream::tls;

/// A certificate with less than this left is to be renewed.
const DAYS_LEFT_MIN: i64 = 30;
const DAY: i64 = 24 * 60 * 60;

/// What a start with this configuration would find for one domain.
pub(super) fn of_domain(config: &Config, domain: &DomainConfig, now: SystemTime) -> Vec<Finding> {
    let mut findings = own(config, domain, now);
    for path in &domain.client_ca {
        let anchors = read(path).and_then(|text| {
            tls::roots(&text).map_err(|error| format!("{}: {error}", shown(path)))
        });
        let (level, text) = match anchors {
            Ok(_) => {
                let text = format!("clients may sign in by certificates of {}", shown(path));
                (Level::Ok, text)
            }
            Err(text) => (Level::Error, format!("`client_ca`: {text}")),
        };
        findings.push(Finding::new(level, Topic::Certificate, &*domain.name, text));
    }
    findings
}

/// The one that the domain shows.
fn own(config: &Config, domain: &DomainConfig, now: SystemTime) -> Vec<Finding> {
    let finding =
        |level, text: String| Finding::new(level, Topic::Certificate, &*domain.name, text);
    let (files, ours) = match &domain.certificate {
        Some(files) => (files.clone(), false),
        None => {
            let dir = config.data_dir().join("certs");
            match xmpp_certs::domain_paths(&dir, &domain.name) {
                Ok((certificate, _)) if !certificate.exists() => {
                    let text = "none configured: the development CA issues one at the start";
                    return vec![finding(Level::Ok, text.into())];
                }
                Ok((certificate, key)) => (CertificateFiles { certificate, key }, true),
                Err(error) => return vec![finding(Level::Error, error.to_string())],
            }
        }
    };
    let (chain, key) = match (read(&files.certificate), read(&files.key)) {
        (Ok(chain), Ok(key)) => (chain, key),
        (Err(text), _) | (_, Err(text)) => return vec![finding(Level::Error, text)],
    };
    let pair = Pair {
        domain: &domain.name,
        hosts: &service_hosts(config, &domain.name),
        chain: &chain,
        key: &key,
        in_data_directory: ours,
    };
    let mut findings = pair.check(now);
    if !ours && readable_by_all(&files.key) {
        let text = format!("the key {} can be read by every user", shown(&files.key));
        findings.push(finding(Level::Warning, text));
    }
    findings
}

fn read(path: &Path) -> Result<String, String> {
    read_pem(path).map_err(|error| format!("{}: {error}", shown(path)))
}

fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const OTHERS_READ: u32 = 0o004;
    std::fs::metadata(path).is_ok_and(|data| data.mode() & OTHERS_READ != 0)
}

/// Hosts that modules are configured to have below this domain, e.g. `muc.host`.
pub(crate) fn service_hosts(config: &Config, domain: &str) -> Vec<String> {
    let tables = config.modules.tables.iter();
    let on = tables.filter(|(name, _)| !config.modules.off.iter().any(|off| **off == ***name));
    let hosts = on.filter_map(|(_, table)| table.get("host")?.as_str());
    let of = |host: &str| {
        let below = |domain: &&DomainConfig| {
            let rest = host.strip_suffix(domain.name.as_str());
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        let nearest = config.domains.iter().filter(below);
        nearest
            .max_by_key(|domain| domain.name.len())
            .or_else(|| config.domains.first())
            .is_some_and(|owner| owner.name == domain)
    };
    hosts.filter(|host| of(host)).map(str::to_owned).collect()
}

/// PEM texts and what they are for.
pub(crate) struct Pair<'a> {
    pub(crate) domain: &'a str,
    /// Service hosts that clients reach under this certificate too.
    pub(crate) hosts: &'a [String],
    pub(crate) chain: &'a str,
    pub(crate) key: &'a str,
    /// It lies where the development CA puts its own: the next start makes those anew in time.
    pub(crate) in_data_directory: bool,
}

impl Pair<'_> {
    /// Findings, the worst not first but in the order of looking; one `ok` when there is no other.
    pub(crate) fn check(&self, now: SystemTime) -> Vec<Finding> {
        if let Err(error) = tls::server_config(self.chain, self.key, false) {
            return vec![self.finding(Level::Error, error.to_string())];
        }
        let ders: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .filter_map(Result::ok)
            .collect();
        let parsed: Option<Vec<X509Certificate<'_>>> = ders
            .iter()
            .map(|der| X509Certificate::from_der(der).ok().map(|(_, cert)| cert))
            .collect();
        let (Some(chain), Some(first)) = (parsed, ders.first()) else {
            return vec![self.finding(Level::Error, "cannot be read".into())];
        };
        let Some(leaf) = chain.first() else {
            return vec![self.finding(Level::Error, "holds no certificate".into())];
        };
        let mut findings = self.names(first);
        findings.extend(self.purpose(leaf));
        findings.extend(self.order(&chain));
        for (number, cert) in chain.iter().enumerate() {
            findings.extend(self.validity(number, cert, now));
        }
        if findings.is_empty() {
            let until = date(leaf.validity().not_after.timestamp());
            let by = match is_development(leaf) {
                true => "; by the development CA, for clients that trust it",
                false => "",
            };
            findings.push(self.finding(Level::Ok, format!("good until {until}{by}")));
        }
        findings
    }

    fn names(&self, leaf: &CertificateDer<'_>) -> Vec<Finding> {
        let Ok(leaf) = ParsedCertificate::try_from(leaf) else {
            return vec![self.finding(Level::Error, "cannot be read".into())];
        };
        let hosts = self.hosts.iter().map(String::as_str);
        let missing = [self.domain].into_iter().chain(hosts).filter(|name| {
            !tls::server_name(name).is_ok_and(|name| verify_server_name(&leaf, &name).is_ok())
        });
        missing
            .map(|name| self.finding(Level::Error, format!("does not name {name}")))
            .collect()
    }

    fn purpose(&self, leaf: &X509Certificate<'_>) -> Option<Finding> {
        let purposes = leaf.extended_key_usage().ok().flatten()?.value;
        let fits = purposes.server_auth || purposes.any;
        (!fits).then(|| self.finding(Level::Error, "is not meant for servers".into()))
    }

    /// Each certificate is issued by the next one; what is missing at the end clients must have.
    fn order(&self, chain: &[X509Certificate<'_>]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (number, pair) in chain.windows(2).enumerate() {
            let [cert, issuer] = pair else { continue };
            let signed = cert.issuer() == issuer.subject()
                && cert.verify_signature(Some(issuer.public_key())).is_ok();
            if !signed {
                let text = format!(
                    "certificate {} of the file is not issued by the one behind it; the leaf \
                     stands first, each behind it issues the one before",
                    number + 1
                );
                findings.push(self.finding(Level::Error, text));
            }
        }
        if let [leaf] = chain
            && leaf.issuer() != leaf.subject()
            && !is_development(leaf)
        {
            let text = format!(
                "the file holds the leaf alone; clients that do not know {} refuse it",
                leaf.issuer()
            );
            findings.push(self.finding(Level::Warning, text));
        }
        findings
    }

    fn validity(
        &self,
        number: usize,
        cert: &X509Certificate<'_>,
        now: SystemTime,
    ) -> Option<Finding> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let begin = cert.validity().not_before.timestamp();
        let end = cert.validity().not_after.timestamp();
        let which = match number {
            0 => String::new(),
            _ => format!("certificate {} of the chain ", number + 1),
        };
        let (level, text) = match (end - now) / DAY {
            _ if begin > now => {
                let text = format!("{which}is not valid before {}", date(begin));
                return Some(self.finding(Level::Error, text));
            }
            _ if end < now => (Level::Error, format!("{which}has expired on {}", date(end))),
            left if left < DAYS_LEFT_MIN => {
                let text = format!("{which}expires on {}: {left} days left", date(end));
                (Level::Warning, text)
            }
            _ => return None,
        };
        Some(match self.in_data_directory && is_development(cert) {
            true => self.finding(Level::Warning, text + "; the next start makes a new one"),
            false => self.finding(level, text),
        })
    }

    fn finding(&self, level: Level, text: String) -> Finding {
        Finding::new(level, Topic::Certificate, self.domain, text)
    }
}

fn is_development(cert: &X509Certificate<'_>) -> bool {
    let mut names = cert.issuer().iter_common_name();
    names.any(|name| name.as_str().is_ok_and(|name| name.starts_with(CA_NAME)))
}

fn date(timestamp: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(timestamp);
    at.map_or_else(|_| "an unknown day".into(), |at| at.date().to_string())
}
