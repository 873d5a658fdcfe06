//! Which names a leaf certificate carries, and how they are written.
//!
//! RFC 6125 section 6.4: clients compare A-labels and IP addresses in subjectAltName only. RFC 6120
//! section 13.7.1.4: an account is an XmppAddr.

use std::net::IpAddr;

use idna::AsciiDenyList;
use rcgen::{OtherNameValue, SanType};

use crate::CertError;

/// Hosts of services that a domain may have, named one by one because clients refuse a wildcard
/// directly below a top-level name such as `*.localhost`.
const SERVICE_HOSTS: [&str; 3] = ["conference", "pubsub", "upload"];

/// id-on-xmppAddr.
const XMPP_ADDR: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];
/// The longest local part here: that of an address may be longer, that of a file may not.
const LOCAL_MAX: usize = 200;

/// What stands in a leaf.
pub(crate) struct Names {
    pub(crate) all: Vec<SanType>,
    /// For the common name, which people are shown.
    pub(crate) first: String,
}

impl Names {
    fn new<S: AsRef<str>>(
        names: &[S],
        make: impl Fn(&str) -> Result<SanType, CertError>,
    ) -> Result<Self, CertError> {
        let all = names.iter().map(|name| make(name.as_ref()));
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            first: names.first().map_or("", |name| name.as_ref()).to_owned(),
        })
    }
}

/// Domains and addresses of a server.
pub(crate) fn of_server<S: AsRef<str>>(names: &[S]) -> Result<Names, CertError> {
    Names::new(names, subject_alt_name)
}

/// Accounts of a client.
pub(crate) fn of_client<S: AsRef<str>>(accounts: &[S]) -> Result<Names, CertError> {
    Names::new(accounts, |account| {
        account_stem(account)?;
        let text = OtherNameValue::Utf8String(account.to_owned());
        Ok(SanType::OtherName((XMPP_ADDR.to_vec(), text)))
    })
}

/// The name of the files of an account, without their ending.
pub(crate) fn account_stem(account: &str) -> Result<String, CertError> {
    let no_account = || CertError::Account {
        name: account.into(),
    };
    let (local, domain) = account.split_once('@').ok_or_else(no_account)?;
    let domain = file_stem(domain).map_err(|_| no_account())?;
    // RFC 7622 section 3.3.1; neither a path nor a hidden file either.
    let is_bad = |c: char| c.is_control() || c.is_whitespace() || "\"&'/\\:<>@".contains(c);
    if !(1..=LOCAL_MAX).contains(&local.len()) || local.contains(is_bad) || local.starts_with('.') {
        return Err(no_account());
    }
    Ok(format!("{local}@{domain}"))
}

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
fn subject_alt_name(name: &str) -> Result<SanType, CertError> {
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
    fn accounts_and_what_is_none() {
        let accounts = [
            ("juliet@a.test", "juliet@a.test"),
            ("Jürgen@Bücher.example", "Jürgen@xn--bcher-kva.example"),
            ("j.c@localhost", "j.c@localhost"),
        ];
        for (account, stem) in accounts {
            assert_eq!(account_stem(account).unwrap(), stem);
            let names = of_client(&[account]).unwrap();
            let text = OtherNameValue::Utf8String(account.to_owned());
            let expected = SanType::OtherName((XMPP_ADDR.to_vec(), text));
            assert_eq!(names.all, [expected]);
        }
        let long = format!("{}@a.test", "a".repeat(201));
        for name in [
            "a.test",
            "@a.test",
            "juliet@",
            "a@b@c",
            "../x@a.test",
            ".x@a.test",
            "a b@a.test",
            "a/b@a.test",
            "a@../x",
            "a@a.test/x",
            "a@*.a.test",
            "",
            &long,
        ] {
            let refused = of_client(&[name]).map(|_| ());
            assert!(
                matches!(refused, Err(CertError::Account { .. })),
                "{name:?}"
            );
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
