//! How other domains are found and whom we believe: made of the configuration, kept with the
//! settings.
//!
//! DESIGN 1, `[s2s]` and `[dns]`. Name servers keep their cache over a reload that does not change
//! them; anchors are read anew.

use crate::config::{Config, Dns};
use rustls::RootCertStore;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::warn;
use xmpp_stream::dial::Dialer;
use xmpp_stream::resolve::{Candidate, Host, NameServers, Resolver};
use xmpp_stream::tls::{self, TlsError};

/// What links need of the world.
#[derive(Clone)]
pub(crate) struct Network {
    /// Finds a domain's servers.
    pub(crate) resolver: Resolver,
    /// Whose signatures are believed.
    pub(crate) anchors: Arc<RootCertStore>,
    /// Makes connections.
    pub(crate) dialer: Dialer,
    /// What the resolver was made of.
    dns: Dns,
}

/// A file of anchors that cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum NetworkError {
    /// It cannot be read.
    Read(PathBuf, io::Error),
    /// There is no certificate in it.
    Anchor(PathBuf, TlsError),
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Anchor(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for NetworkError {}

impl Network {
    /// As the configuration wants it.
    ///
    /// # Errors
    /// `NetworkError` when a file of `s2s.ca` cannot be used.
    pub(crate) fn new(config: &Config, before: Option<&Self>) -> Result<Self, NetworkError> {
        let same = before.filter(|before| before.dns == config.dns);
        Ok(Self {
            resolver: same.map_or_else(|| resolver(config), |same| same.resolver.clone()),
            anchors: Arc::new(anchors(config)?),
            dialer: config.given.dialer.clone(),
            dns: config.dns.clone(),
        })
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

fn resolver(config: &Config) -> Resolver {
    let servers = || Resolver::new(Arc::new(NameServers::new(&config.dns.servers)));
    let resolver = config.given.resolver.clone().unwrap_or_else(servers);
    let overrides = config.dns.overrides.iter();
    overrides.fold(resolver, |resolver, (domain, place)| {
        let candidate = Candidate {
            host: Host::Address(place.addr.ip()),
            port: place.addr.port(),
            direct_tls: place.direct_tls,
        };
        resolver.with_override(domain, candidate)
    })
}

/// The system's, or the given authority; and those of `s2s.ca`. A system without any is no error: then only these count.
fn anchors(config: &Config) -> Result<RootCertStore, NetworkError> {
    let mut store = RootCertStore::empty();
    match &config.given.authority {
        // Whoever brings an authority wants no other: a test must not hang on the system's.
        Some(authority) => {
            store.add_parsable_certificates([authority.der().to_vec().into()]);
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            for error in &system.errors {
                warn!(%error, "an anchor of the system is left out");
            }
            store.add_parsable_certificates(system.certs);
        }
    }
    for path in &config.s2s.ca {
        let read = |error| NetworkError::Read(path.clone(), error);
        let text = crate::certificates::read_pem(path).map_err(read)?;
        let own = tls::roots(&text).map_err(|error| NetworkError::Anchor(path.clone(), error))?;
        store.extend(own.roots);
    }
    if store.is_empty() {
        warn!("no anchor at all: no certificate of another server will be believed");
    }
    Ok(store)
}
