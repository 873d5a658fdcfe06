//! The tables about what is not a client: other servers, how they are found, external components.

use super::Dialback;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use xmpp_stream::stream::component::Secret;

/// Links to other servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct S2s {
    /// Whether there are any.
    pub enabled: bool,
    /// Listeners with STARTTLS.
    pub listen: Vec<SocketAddr>,
    /// Listeners with TLS from the first byte.
    pub listen_tls: Vec<SocketAddr>,
    /// No stanza without TLS.
    pub require_tls: bool,
    /// When a domain may be proven by dialback.
    pub dialback: Dialback,
    /// Anchors beside those of the system.
    pub ca: Vec<PathBuf>,
    /// Only these domains are linked with; empty: all.
    pub allow: Vec<Box<str>>,
    /// These are not, also where `allow` names them.
    pub deny: Vec<Box<str>>,
}

impl S2s {
    /// Whether there may be a link with this domain (prepared name). An entry means just this
    /// domain; one that begins with `*.` means every domain below it.
    #[must_use]
    pub fn admits(&self, domain: &str) -> bool {
        let named = |list: &[Box<str>]| list.iter().any(|entry| is_named(entry, domain));
        !named(&self.deny) && (self.allow.is_empty() || named(&self.allow))
    }
}

fn is_named(entry: &str, domain: &str) -> bool {
    match entry.strip_prefix("*.") {
        Some(parent) => domain
            .strip_suffix(parent)
            .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
        None => entry == domain,
    }
}

/// External components (XEP-0114).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Components {
    /// Listeners; in clear, so where nobody else can read.
    pub listen: Vec<SocketAddr>,
    /// Who may come, each domain (prepared name) once.
    pub allow: Vec<AllowedComponent>,
}

/// A component that may come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AllowedComponent {
    /// Its domain, in prepared form.
    pub domain: Box<str>,
    /// What it is known by.
    pub secret: Secret,
}

/// How other domains are found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dns {
    /// Resolvers; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Servers of a domain (prepared name), with no DNS at all.
    pub overrides: BTreeMap<Box<str>, DnsOverride>,
}

/// Where the server of a domain is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DnsOverride {
    /// Its address.
    pub addr: SocketAddr,
    /// TLS from the first byte instead of STARTTLS.
    pub direct_tls: bool,
}
