//! A host, and a host with a port, as people and `<see-other-host/>` write them.

use super::ascii;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A name or an address.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Host {
    /// A name in A-labels, without a dot at the end.
    Name(Box<str>),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// Reads a domain, an IPv4 address, or an IPv6 address with or without its brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Some(Self::Address(address));
        }
        let name = ascii(text)?;
        // Nothing that DNS or an address form could take for something else.
        let is_name = name.len() <= 253
            && name
                .split('.')
                .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(is_of_name));
        is_name.then_some(Self::Name(name))
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A host, perhaps with a port: `example.org`, `example.org:5222`, `[::1]:5222`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Place {
    /// Where.
    pub host: Host,
    /// The port, if one is named.
    pub port: Option<u16>,
}

/// A text is no host with or without a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PlaceError;

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not HOST or HOST:PORT, with an IPv6 address in brackets")
    }
}

impl std::error::Error for PlaceError {}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if let Some(host) = Host::parse(text) {
            return Ok(Self { host, port: None });
        }
        let (host, port) = text.rsplit_once(':').ok_or(PlaceError)?;
        // `1::2:5222` is an address; without brackets nothing is both.
        let host = match host.contains(':') && !host.starts_with('[') {
            true => None,
            false => Host::parse(host),
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0);
        match (host, port) {
            (Some(host), Some(port)) => Ok(Self {
                host,
                port: Some(port),
            }),
            _ => Err(PlaceError),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6120_st_21_places_have_an_optional_port() {
        #[track_caller]
        fn check(text: &str, expected: Option<(&str, Option<u16>)>) {
            let found: Option<Place> = text.parse().ok();
            let found = found.map(|place| (place.host.to_string(), place.port));
            let found = found.as_ref().map(|(host, port)| (host.as_str(), *port));
            assert_eq!(found, expected, "{text:?}");
        }
        check("a.test", Some(("a.test", None)));
        check("A.test.:5299", Some(("a.test", Some(5299))));
        check("müller.example", Some(("xn--mller-kva.example", None)));
        check("192.0.2.1", Some(("192.0.2.1", None)));
        check("192.0.2.1:5222", Some(("192.0.2.1", Some(5222))));
        check("[2001:db8::1]", Some(("[2001:db8::1]", None)));
        check("[2001:db8::1]:9222", Some(("[2001:db8::1]", Some(9222))));
        check("2001:db8::1", Some(("[2001:db8::1]", None)));
        for no_place in [
            "",
            ":",
            ":5222",
            "a.test:",
            "a.test:0",
            "a.test:+5",
            "a.test:65536",
            "a.test:x",
            "a b",
            "a/b",
            "a@b",
            "[::1",
            "::1]:5",
            "a..b",
            ".",
            "[a.test]:5",
            "1:2:3",
            "a\u{0}b",
        ] {
            check(no_place, None);
        }
    }
}
