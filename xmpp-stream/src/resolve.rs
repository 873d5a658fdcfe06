//! Where the servers of a domain are: what to try, in which order (RFC 6120 section 3.2, XEP-0368).
//!
//! SRV records of direct TLS and STARTTLS are merged by priority and weight; a target of "." says
//! that there is no such service. The domain's own addresses are asked for only where there are no
//! SRV records. Used towards clients' servers and between servers alike; who asks the network is
//! behind `Dns`.

use crate::limits::ResolveLimits;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use tokio::time::timeout;

mod name_servers;
mod order;
mod place;
pub use name_servers::NameServers;
pub use order::order;
pub use place::{Host, Place, PlaceError};

/// Which kind of stream is looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// A client looks for its server.
    Client,
    /// A server looks for another.
    Server,
}

impl Service {
    /// The port used where no SRV record names one; STARTTLS by RFC 6120 section 14.7, direct TLS
    /// by custom.
    #[must_use]
    pub const fn port(self, direct_tls: bool) -> u16 {
        match (self, direct_tls) {
            (Self::Client, false) => 5222,
            (Self::Client, true) => 5223,
            (Self::Server, false) => 5269,
            (Self::Server, true) => 5270,
        }
    }

    const fn label(self, direct_tls: bool) -> &'static str {
        match (self, direct_tls) {
            (Self::Client, false) => "_xmpp-client._tcp",
            (Self::Client, true) => "_xmpps-client._tcp",
            (Self::Server, false) => "_xmpp-server._tcp",
            (Self::Server, true) => "_xmpps-server._tcp",
        }
    }
}

/// Which ways of securing a stream are looked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Way {
    /// Both, as the domain prefers.
    #[default]
    Any,
    /// Direct TLS alone.
    DirectTls,
    /// STARTTLS alone.
    StartTls,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host, without the dot at its end; empty where the record says ".".
    pub target: Box<str>,
}

/// A place to try.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Where.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// TLS from the first byte, else STARTTLS.
    pub direct_tls: bool,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.direct_tls {
            "direct TLS"
        } else {
            "STARTTLS"
        };
        write!(f, "{}:{} by {way}", self.host, self.port)
    }
}

/// The next step of a query that is under way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Vec<T>, DnsError>> + Send + 'a>>;

/// What asks the network; names are A-labels without a dot at the end. No records is an empty answer.
pub trait Dns: Send + Sync {
    /// SRV records.
    fn srv<'a>(&'a self, name: &'a str) -> Answer<'a, Srv>;
    /// A records.
    fn ipv4<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv4Addr>;
    /// AAAA records.
    fn ipv6<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv6Addr>;
}

/// Why a name server gave no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DnsError {
    /// Nothing came in time.
    Timeout,
    /// No name server is known.
    NoNameServers,
    /// An answer with this code (RFC 1035 section 4.1.1), such as 2, SERVFAIL.
    Code(u16),
    /// The name cannot stand in DNS.
    Name,
    /// The query or its answer got lost.
    Io(io::ErrorKind),
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no name server answered in time"),
            Self::NoNameServers => f.write_str("no name server is known"),
            Self::Code(2) => f.write_str("the name server failed (SERVFAIL)"),
            Self::Code(5) => f.write_str("the name server refused to answer (REFUSED)"),
            Self::Code(code) => write!(f, "the name server answered with error {code}"),
            Self::Name => f.write_str("no name of a host"),
            Self::Io(kind) => write!(f, "no name server can be asked: {kind}"),
        }
    }
}

impl std::error::Error for DnsError {}

/// Why there is nothing to try.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ResolveError {
    /// The domain cannot stand in DNS.
    Name,
    /// The domain says in DNS that it has no such service (a target of ".").
    Absent,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the domain is no name of a host",
            Self::Absent => "the domain says in DNS that it has no such service",
        })
    }
}

impl std::error::Error for ResolveError {}

/// A query without an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unanswered {
    /// What was asked for.
    pub name: Box<str>,
    /// Why there was no answer.
    pub error: DnsError,
}

/// What to try, best first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// At least one.
    pub candidates: Vec<Candidate>,
    /// SRV queries without an answer.
    pub unanswered: Vec<Unanswered>,
}

/// Finds the servers of domains: by what was said by hand, else by DNS. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    dns: Arc<dyn Dns>,
    overrides: BTreeMap<Box<str>, Candidate>,
    limits: ResolveLimits,
}

impl Resolver {
    /// One that asks this.
    #[must_use]
    pub fn new(dns: Arc<dyn Dns>) -> Self {
        Self {
            dns,
            overrides: BTreeMap::new(),
            limits: ResolveLimits::default(),
        }
    }

    /// The same within these bounds.
    #[must_use]
    pub fn with_limits(mut self, limits: ResolveLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same, knowing where this domain is without any DNS.
    #[must_use]
    pub fn with_override(mut self, domain: &str, candidate: Candidate) -> Self {
        let name = ascii(domain).unwrap_or_else(|| domain.into());
        self.overrides.insert(name, candidate);
        self
    }

    /// What to try for a domain. `random` fills from the system's source, for the weights.
    ///
    /// # Errors
    /// `ResolveError`; queries without an answer are none: the domain's own name is tried then.
    pub async fn find(
        &self,
        domain: &str,
        service: Service,
        way: Way,
        random: &mut (dyn FnMut(&mut [u8]) + Send),
    ) -> Result<Found, ResolveError> {
        let fallback = |host| fallback(host, service, way);
        let name = match Host::parse(domain).ok_or(ResolveError::Name)? {
            Host::Address(address) => {
                return Ok(self
                    .by_hand(domain)
                    .unwrap_or_else(|| fallback(Host::Address(address))));
            }
            Host::Name(name) => name,
        };
        if let Some(found) = self.by_hand(&name) {
            return Ok(found);
        }
        if is_localhost(&name) {
            return Ok(fallback(Host::Name(name)));
        }
        let (direct, starttls) = tokio::join!(
            self.srv(&name, service, way != Way::StartTls, true),
            self.srv(&name, service, way != Way::DirectTls, false),
        );
        let mut found = Found::default();
        let mut is_absent = false;
        let mut records = Vec::new();
        for (direct_tls, answer) in [(true, direct), (false, starttls)] {
            match answer {
                Ok(answer) => {
                    let before = records.len();
                    let had_some = !answer.is_empty();
                    let usable = answer.into_iter().filter(|srv| !srv.target.is_empty());
                    records.extend(usable.map(|srv| (srv, direct_tls)));
                    is_absent |= had_some && records.len() == before;
                }
                Err(unanswered) => found.unanswered.push(unanswered),
            }
        }
        found.candidates = order(records, self.limits.records_max, random)
            .into_iter()
            .filter_map(candidate)
            .collect();
        match (found.candidates.is_empty(), is_absent) {
            (false, _) => Ok(found),
            (true, true) => Err(ResolveError::Absent),
            (true, false) => {
                found.candidates = fallback(Host::Name(name)).candidates;
                Ok(found)
            }
        }
    }

    /// The addresses of a host, as they should be tried (RFC 8305 section 4): by turns of both
    /// families, IPv6 first. Empty when it has none.
    ///
    /// # Errors
    /// `DnsError` of the query without an answer, when the other one has no addresses.
    pub async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, DnsError> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) if is_localhost(name) => {
                return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
            }
            Host::Name(name) => name,
        };
        let (v6, v4) = self.both(name).await;
        let error = v6.as_ref().err().or_else(|| v4.as_ref().err()).cloned();
        let v6 = v6.unwrap_or_default().into_iter().map(IpAddr::V6);
        let v4 = v4.unwrap_or_default().into_iter().map(IpAddr::V4);
        let max = self.limits.addresses_max;
        let addresses = by_turns(v6.take(max), v4.take(max));
        match error {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(addresses),
        }
    }

    /// Asks for both families at once. When one has addresses, the other is waited for only a
    /// little longer (RFC 8305 section 3).
    async fn both(
        &self,
        name: &str,
    ) -> (
        Result<Vec<Ipv6Addr>, DnsError>,
        Result<Vec<Ipv4Addr>, DnsError>,
    ) {
        let mut v6 = Box::pin(self.within(self.dns.ipv6(name)));
        let mut v4 = Box::pin(self.within(self.dns.ipv4(name)));
        let delay = self.limits.resolution_delay;
        tokio::select! {
            v6 = &mut v6 => {
                let has = v6.as_ref().is_ok_and(|found| !found.is_empty());
                let v4 = match has {
                    true => timeout(delay, v4).await.unwrap_or(Err(DnsError::Timeout)),
                    false => v4.await,
                };
                (v6, v4)
            }
            v4 = &mut v4 => {
                let has = v4.as_ref().is_ok_and(|found| !found.is_empty());
                let v6 = match has {
                    true => timeout(delay, v6).await.unwrap_or(Err(DnsError::Timeout)),
                    false => v6.await,
                };
                (v6, v4)
            }
        }
    }

    async fn srv(
        &self,
        domain: &str,
        service: Service,
        wanted: bool,
        direct_tls: bool,
    ) -> Result<Vec<Srv>, Unanswered> {
        if !wanted {
            return Ok(Vec::new());
        }
        let name = format!("{}.{domain}", service.label(direct_tls));
        let answer = self.within(self.dns.srv(&name)).await;
        answer.map_err(|error| Unanswered {
            name: name.into(),
            error,
        })
    }

    async fn within<T>(&self, query: Answer<'_, T>) -> Result<Vec<T>, DnsError> {
        timeout(self.limits.query_max, query)
            .await
            .unwrap_or(Err(DnsError::Timeout))
    }

    fn by_hand(&self, domain: &str) -> Option<Found> {
        let candidate = self.overrides.get(domain)?;
        Some(Found {
            candidates: vec![candidate.clone()],
            unanswered: Vec::new(),
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("overrides", &self.overrides)
            .finish_non_exhaustive()
    }
}

/// A domain as DNS has it: A-labels in lower case, no dot at the end.
fn ascii(domain: &str) -> Option<Box<str>> {
    let ascii = idna::domain_to_ascii(domain).ok()?;
    let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
    (!ascii.is_empty()).then(|| ascii.into())
}

/// RFC 6761 section 6.3: these never leave the machine.
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn candidate((srv, direct_tls): (Srv, bool)) -> Option<Candidate> {
    Some(Candidate {
        host: Host::parse(&srv.target)?,
        port: srv.port,
        direct_tls,
    })
}

/// The domain's own name, where it has no SRV records (RFC 6120 section 3.2.2).
fn fallback(host: Host, service: Service, way: Way) -> Found {
    let direct_tls = way == Way::DirectTls;
    Found {
        candidates: vec![Candidate {
            host,
            port: service.port(direct_tls),
            direct_tls,
        }],
        unanswered: Vec::new(),
    }
}

/// The first of each, then the second of each, without what came before.
fn by_turns(
    mut first: impl Iterator<Item = IpAddr>,
    mut second: impl Iterator<Item = IpAddr>,
) -> Vec<IpAddr> {
    let mut all = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        for address in pair.into_iter().flatten() {
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests;
