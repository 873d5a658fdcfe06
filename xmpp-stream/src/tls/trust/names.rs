//! The names in a certificate that can stand for a server, and what they match.
//!
//! RFC 6120 section 13.7.1.2.1, RFC 9525 section 6: DNS-ID, SRV-ID (RFC 4985), XmppAddr and IP-ID; the
//! common name counts for nothing. Domains are compared by their A-labels.

use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// id-on-dnsSRV and id-on-xmppAddr.
const SRV_NAME: &str = "1.3.6.1.5.5.7.8.7";
const XMPP_ADDR: &str = "1.3.6.1.5.5.7.8.5";
/// Service of the SRV-IDs that are good for a server, in front of the domain.
const SERVICES: [&str; 2] = ["_xmpp-server.", "_xmpps-server."];
/// Names that are looked at: a certificate of a public authority has a hundred at most.
const NAMES_MAX: usize = 1000;

/// One name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Name {
    /// A DNS name, may be with a wildcard.
    Dns(Box<str>),
    /// A service at a DNS name.
    Srv(Box<str>),
    /// An address of XMPP.
    Xmpp(Box<str>),
    /// An IP address.
    Ip(IpAddr),
}

/// All of them, in order.
#[must_use]
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<Name> {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let all = alternatives.value.general_names.iter().take(NAMES_MAX);
    all.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(Name::Dns((*name).into())),
        GeneralName::IPAddress(bytes) => Some(Name::Ip(address(bytes)?)),
        GeneralName::OtherName(kind, value) => {
            let text = text_of(value)?.into();
            match kind.to_id_string().as_str() {
                SRV_NAME => Some(Name::Srv(text)),
                XMPP_ADDR => Some(Name::Xmpp(text)),
                _ => None,
            }
        }
        _ => None,
    })
    .collect()
}

/// Addresses of XMPP in a certificate (DER), in order.
pub(super) fn addresses(certificate: &[u8]) -> Vec<Box<str>> {
    let parsed = X509Certificate::from_der(certificate);
    let all = parsed.map_or_else(|_| Vec::new(), |(_, parsed)| names(&parsed));
    all.into_iter().filter_map(Name::into_address).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// The text in `[0] EXPLICIT UTF8String` or `IA5String`.
fn text_of(value: &[u8]) -> Option<&str> {
    let (tag, inner) = tlv(value)?;
    let (kind, text) = tlv(inner).filter(|_| tag == 0xA0)?;
    let text = std::str::from_utf8(text).ok()?;
    matches!(kind, 0x0C | 0x16).then_some(text)
}

/// Tag and contents of a DER value that fills the slice.
fn tlv(value: &[u8]) -> Option<(u8, &[u8])> {
    let (&tag, rest) = value.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (len, rest) = match short {
        0..=0x7F => (usize::from(short), rest),
        0x81 => {
            let (&len, rest) = rest.split_first()?;
            (usize::from(len), rest)
        }
        0x82 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        _ => return None,
    };
    (rest.len() == len).then_some((tag, rest))
}

impl Name {
    /// True when it stands for a server of this domain.
    #[must_use]
    pub(super) fn is_good_for(&self, domain: &str) -> bool {
        if let Some(wanted) = ip(domain) {
            return matches!(self, Self::Ip(ip) if *ip == wanted);
        }
        let Some(wanted) = a_labels(domain) else {
            return false;
        };
        match self {
            Self::Dns(name) => matches_dns(name, &wanted),
            Self::Srv(name) => SERVICES.iter().any(|service| {
                let name = name.to_ascii_lowercase();
                name.strip_prefix(service)
                    .is_some_and(|name| matches_dns(name, &wanted))
            }),
            Self::Xmpp(name) => a_labels(name).is_some_and(|name| name == wanted),
            Self::Ip(_) => false,
        }
    }

    fn into_address(self) -> Option<Box<str>> {
        match self {
            Self::Xmpp(address) => Some(address),
            _ => None,
        }
    }

    /// As text for people.
    #[must_use]
    pub(super) fn to_text(&self) -> Box<str> {
        match self {
            Self::Dns(name) | Self::Srv(name) | Self::Xmpp(name) => name.clone(),
            Self::Ip(ip) => ip.to_string().into(),
        }
    }
}

fn ip(domain: &str) -> Option<IpAddr> {
    let bare = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(domain).parse().ok()
}

fn a_labels(domain: &str) -> Option<String> {
    let name = idna::domain_to_ascii(domain).ok()?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// `*` stands for one whole label, the left-most one.
fn matches_dns(name: &str, wanted: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    match name.strip_prefix("*.") {
        None => name.eq_ignore_ascii_case(wanted),
        Some(parent) => wanted
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
    }
}
