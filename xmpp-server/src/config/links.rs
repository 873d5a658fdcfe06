//! With which domains links are made (`s2s.allow` and `s2s.deny`), and which components may come.

use super::{S2s, Secret};
use std::net::SocketAddr;

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
