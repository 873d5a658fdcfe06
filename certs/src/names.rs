//! Which names a leaf certificate carries, and how they are written.
//!
//! RFC 6125 section 6.4: clients compare A-labels and IP addresses in subjectAltName only.

use std::net::IpAddr;

use idna::AsciiDenyList;
use rcgen::SanType;

use crate::CertError;

/// Hosts of services that a domain may have, named one by one because clients refuse a wildcard
/// directly below a top-level name such as `*.localhost`.
const SERVICE_HOSTS: [&str; 3] = ["conference", "pubsub", "upload"];

/// Everything a development leaf for `domain` names, the domain first.
pub(crate) fn for_domain(domain: &str) -> Result<Vec<String>, CertError> {
    let domain = match canonical(domain)? {
        Name::Ip(ip) => return Ok(vec![ip.to_string()]),
        Name::Dns(wildcard) if wildcard.starts_with('*') => return Err(refused(&wildcard)),
        Name::Dns(domain) => domain,
    };
    let mut names = vec![domain.clone()];
    if domain.contains('.') {
        names.push(format!("*.{domain}"));
    }
    names.extend(SERVICE_HOSTS.iter().map(|host| format!("{host}.{domain}")));
    if domain == "localhost" {
        names.extend(["127.0.0.1", "::1"].map(String::from));
    }
    Ok(names)
}

/// The name of the files of `domain`, without their ending: ASCII, with no path in it.
pub(crate) fn file_stem(domain: &str) -> Result<String, CertError> {
    Ok(match canonical(domain)? {
        Name::Dns(wildcard) if wildcard.starts_with('*') => return Err(refused(&wildcard)),
        Name::Dns(domain) => domain,
        Name::Ip(IpAddr::V4(ip)) => ip.to_string(),
        Name::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
    })
}

/// One entry of subjectAltName.
pub(crate) fn subject_alt_name(name: &str) -> Result<SanType, CertError> {
    Ok(match canonical(name)? {
        Name::Dns(domain) => SanType::DnsName(domain.try_into().map_err(|_| refused(name))?),
        Name::Ip(ip) => SanType::IpAddress(ip),
    })
}

enum Name {
    Dns(String),
    Ip(IpAddr),
}

fn canonical(name: &str) -> Result<Name, CertError> {
    let literal = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = literal.unwrap_or(name).parse() {
        return Ok(Name::Ip(ip));
    }
    let host = name.strip_suffix('.').unwrap_or(name);
    let (wildcard, host) = match host.strip_prefix("*.") {
        Some(rest) => ("*.", rest),
        None => ("", host),
    };
    let ascii = idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::URL)
        .map_err(|_| refused(name))?;
    // The deny list keeps out whatever could be a path; an asterisk elsewhere names no host.
    if ascii.len() > 253 || ascii.contains('*') || ascii.split('.').any(|label| !fits(label)) {
        return Err(refused(name));
    }
    Ok(Name::Dns(format!("{wildcard}{ascii}")))
}

fn fits(label: &str) -> bool {
    (1..=63).contains(&label.len())
}

fn refused(name: &str) -> CertError {
    CertError::Name { name: name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_domain() {
        #[track_caller]
        fn check(domain: &str, expected: &[&str]) {
            assert_eq!(for_domain(domain).unwrap(), expected, "{domain}");
        }
        check(
            "localhost",
            &[
                "localhost",
                "conference.localhost",
                "pubsub.localhost",
                "upload.localhost",
                "127.0.0.1",
                "::1",
            ],
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
        check(
            "Bücher.Example.",
            &[
                "xn--bcher-kva.example",
                "*.xn--bcher-kva.example",
                "conference.xn--bcher-kva.example",
                "pubsub.xn--bcher-kva.example",
                "upload.xn--bcher-kva.example",
            ],
        );
        check("192.0.2.1", &["192.0.2.1"]);
        check("[::1]", &["::1"]);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a.".repeat(128);
        let label = format!("{}.test", "a".repeat(64));
        let bad = [
            "", ".", "a..b", "../ca", "a/b", "a b", "a@b", "a*.test", "a.*.test", "*.a.test",
            &long, &label,
        ];
        for name in bad {
            assert!(
                matches!(for_domain(name), Err(CertError::Name { .. })),
                "{name:?}"
            );
            assert!(file_stem(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn file_names() {
        assert_eq!(
            file_stem("Bücher.example").unwrap(),
            "xn--bcher-kva.example"
        );
        assert_eq!(file_stem("[0:0::1]").unwrap(), "[::1]");
    }
}
