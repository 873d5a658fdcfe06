//! How the server is reached: what the builder takes for it, and what of it every connection needs.

use crate::config::Builder;
use crate::error::ConnectError;
use crate::identity::Source;
use crate::trust::{Pin, PinError, Trust};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use xmpp_stream::dial::Dialer;
use xmpp_stream::limits::ResolveLimits;
use xmpp_stream::resolve::{Candidate, Dns, NameServers, Place, PlaceError, Resolver, Service};

/// What the builder was told.
pub(crate) struct Wishes {
    trust: Trust,
    pub(crate) identity: Option<Source>,
    pins: Vec<Result<Pin, PinError>>,
    connect_to: Option<Result<Place, PlaceError>>,
    overrides: Vec<(String, Result<Place, PlaceError>, bool)>,
    name_servers: Vec<SocketAddr>,
    dns: Option<Arc<dyn Dns>>,
    dialer: Dialer,
    direct_tls: bool,
    lookup_max: Duration,
    dial_max: Duration,
    negotiation_max: Duration,
    connect_max: Duration,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            trust: Trust::System,
            identity: None,
            pins: Vec::new(),
            connect_to: None,
            overrides: Vec::new(),
            name_servers: Vec::new(),
            dns: None,
            dialer: Dialer::default(),
            direct_tls: false,
            lookup_max: ResolveLimits::default().query_max,
            dial_max: Duration::from_secs(10),
            negotiation_max: Duration::from_secs(20),
            connect_max: Duration::from_secs(60),
        }
    }
}

/// What every connection of one client needs to get to its server.
pub(crate) struct Route {
    pub(crate) trust: Trust,
    /// What is shown to a server that asks who we are.
    pub(crate) identity: Option<Source>,
    pub(crate) resolver: Resolver,
    pub(crate) dialer: Dialer,
    /// Direct TLS and nothing else.
    pub(crate) direct_tls: bool,
    /// One TCP connection.
    pub(crate) dial_max: Duration,
    /// One stream, from the open connection to the bound JID.
    pub(crate) negotiation_max: Duration,
    /// From the first step to the bound stream.
    pub(crate) connect_max: Duration,
}

impl Wishes {
    pub(crate) fn checked(self, domain: &str) -> Result<Route, ConnectError> {
        let dns = self.dns;
        let dns = dns.unwrap_or_else(|| Arc::new(NameServers::new(&self.name_servers)));
        let limits = ResolveLimits {
            query_max: self.lookup_max,
            ..ResolveLimits::default()
        };
        let mut resolver = Resolver::new(dns).with_limits(limits);
        let connect_to = self
            .connect_to
            .map(|to| (domain.into(), to, self.direct_tls));
        for (domain, place, direct_tls) in self.overrides.into_iter().chain(connect_to) {
            let Place { host, port } = place.map_err(ConnectError::Place)?;
            let port = port.unwrap_or_else(|| Service::Client.port(direct_tls));
            let candidate = Candidate {
                host,
                port,
                direct_tls,
            };
            resolver = resolver.with_override(&domain, candidate);
        }
        let pins: Result<Vec<Pin>, PinError> = self.pins.into_iter().collect();
        let pins = pins.map_err(ConnectError::Pin)?;
        Ok(Route {
            trust: match pins.is_empty() {
                true => self.trust,
                false => Trust::Pins(pins),
            },
            identity: self.identity,
            resolver,
            dialer: self.dialer,
            direct_tls: self.direct_tls,
            dial_max: self.dial_max,
            negotiation_max: self.negotiation_max,
            connect_max: self.connect_max,
        })
    }
}

/// Where the server is, whom to trust, and how long each step may take.
impl Builder {
    /// Trusts the CA certificates in this PEM file instead of the system's.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.wishes.trust = Trust::File(path.into());
        self
    }

    /// Trusts the CA certificates in this PEM text instead of the system's.
    pub fn ca_pem(mut self, pem: &str) -> Self {
        self.wishes.trust = Trust::Pem(pem.into());
        self
    }

    /// Trusts the server's certificate, or its public key, by SHA-256 (64 hex digits, with or
    /// without colons); may be given again for the next one. Nothing else about the certificate
    /// matters then: neither issuer nor name nor dates.
    pub fn pin(mut self, fingerprint: &str) -> Self {
        self.wishes.pins.push(fingerprint.parse());
        self
    }

    /// Connects to this `host:port` instead of asking DNS where the domain's servers are; without a
    /// port to 5222, by direct TLS 5223. The certificate has to be good for the domain all the same.
    pub fn connect_to(mut self, place: &str) -> Self {
        self.wishes.connect_to = Some(place.parse());
        self
    }

    /// Where another domain is, one to which the server redirects: `host:port`, by direct TLS or by
    /// STARTTLS.
    pub fn override_domain(mut self, domain: &str, place: &str, direct_tls: bool) -> Self {
        let entry = (domain.into(), place.parse(), direct_tls);
        self.wishes.overrides.push(entry);
        self
    }

    /// TLS from the first byte and nothing else. Unless said, both ways are tried in the order that
    /// the domain's SRV records give.
    pub fn direct_tls(mut self) -> Self {
        self.wishes.direct_tls = true;
        self
    }

    /// Asks these name servers instead of the system's.
    pub fn name_servers(mut self, servers: &[SocketAddr]) -> Self {
        self.wishes.name_servers = servers.to_vec();
        self
    }

    /// Asks this instead of any name server.
    pub fn dns(mut self, dns: Arc<dyn Dns>) -> Self {
        self.wishes.dns = Some(dns);
        self
    }

    /// Makes connections by this instead of TCP: for tests that need no sockets.
    pub fn dialer(mut self, dialer: Dialer) -> Self {
        self.wishes.dialer = dialer;
        self
    }

    /// How long one DNS query may take; five seconds unless said otherwise.
    pub fn lookup_max(mut self, max: Duration) -> Self {
        self.wishes.lookup_max = max;
        self
    }

    /// How long one TCP connection may take; ten seconds unless said otherwise.
    pub fn dial_max(mut self, max: Duration) -> Self {
        self.wishes.dial_max = max;
        self
    }

    /// How long a server may take from the open connection to the bound stream before the next
    /// place is tried; twenty seconds unless said otherwise.
    pub fn negotiation_max(mut self, max: Duration) -> Self {
        self.wishes.negotiation_max = max;
        self
    }

    /// The longest time from the first step to a bound stream, over all places; a minute unless said
    /// otherwise.
    pub fn connect_max(mut self, max: Duration) -> Self {
        self.wishes.connect_max = max;
        self
    }
}
