//! Bind, accept, count, hand over: one task a listening socket, one task a connection.
//!
//! DESIGN 1 (addresses, certificates), 9 (unauthenticated connections). RFC 6120 section 13.12.

use crate::c2s;
use crate::component;
use crate::config::Config;
use crate::limits::Limits;
use crate::s2s::incoming;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};
use xmpp_stream::driver::{TlsSource, Transport};

/// How long accepting rests when the system has no more descriptors: long enough for some
/// connection to end, short enough not to be noticed.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What a listening socket is for; the names that `ready` output and addresses.json use.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ListenerKind {
    /// Clients, STARTTLS.
    C2sStartTls,
    /// Clients, direct TLS (XEP-0368).
    C2sTls,
    /// Servers, STARTTLS.
    S2sStartTls,
    /// Servers, direct TLS (XEP-0368).
    S2sTls,
    /// External components (XEP-0114), in clear.
    Component,
}

impl ListenerKind {
    /// The name in output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::C2sStartTls => "c2s-starttls",
            Self::C2sTls => "c2s-tls",
            Self::S2sStartTls => "s2s-starttls",
            Self::S2sTls => "s2s-tls",
            Self::Component => "component",
        }
    }

    /// TLS comes first.
    #[must_use]
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::C2sTls | Self::S2sTls)
    }

    /// What a configuration wants listened on.
    #[must_use]
    pub fn wanted(config: &Config) -> Vec<(Self, SocketAddr)> {
        let (c2s, s2s) = (&config.c2s, &config.s2s);
        let mut wanted: Vec<_> = [
            (Self::C2sStartTls, &c2s.listen),
            (Self::C2sTls, &c2s.listen_tls),
        ]
        .into_iter()
        .flat_map(|(kind, list)| list.iter().map(move |address| (kind, *address)))
        .collect();
        if s2s.enabled {
            wanted.extend(
                s2s.listen
                    .iter()
                    .map(|address| (Self::S2sStartTls, *address)),
            );
            wanted.extend(
                s2s.listen_tls
                    .iter()
                    .map(|address| (Self::S2sTls, *address)),
            );
        }
        let components = config.component.listen.iter();
        wanted.extend(components.map(|address| (Self::Component, *address)));
        wanted
    }
}

/// Binds one configured address. `[::]` becomes 0.0.0.0 where IPv6 is off; `Ok(None)`: ::1 there.
///
/// # Errors
/// Why the address cannot be had.
pub async fn bind(address: SocketAddr) -> io::Result<Option<TcpListener>> {
    let error = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) => error,
    };
    let no_ipv6 =
        address.is_ipv6() && matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL));
    match address.ip() {
        IpAddr::V6(ip) if no_ipv6 && ip.is_unspecified() => {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            info!(%address, "IPv6 is off; listening on 0.0.0.0");
            TcpListener::bind(any).await.map(Some)
        }
        IpAddr::V6(ip) if no_ipv6 && ip.is_loopback() => {
            info!(%address, "IPv6 is off; left out");
            Ok(None)
        }
        _ => Err(error),
    }
}

/// "Address family not supported" on Linux.
const EAFNOSUPPORT: i32 = 97;
/// "Cannot assign requested address" on Linux.
const EADDRNOTAVAIL: i32 = 99;

/// Accepts until the server goes down, then waits for its connections to end.
pub(crate) async fn accept(
    listener: TcpListener,
    kind: ListenerKind,
    shared: Arc<c2s::Shared>,
    gate: Arc<Gate>,
) {
    let mut connections = JoinSet::new();
    let mut shutdown = shared.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|down| *down) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, kind, &shared, &gate, &mut connections),
            Err(error) => {
                error!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    kind: ListenerKind,
    shared: &Arc<c2s::Shared>,
    gate: &Arc<Gate>,
    connections: &mut JoinSet<()>,
) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let metrics = &shared.core.tap.metrics;
    let place = match gate.enter(peer.ip(), &shared.core.settings().config.limits) {
        Ok(place) => place,
        Err(bound) => {
            metrics.connections_refused.count_at(bound as usize);
            refused(shared, peer);
            return;
        }
    };
    metrics.connections.count_at(kind as usize);
    // Stanzas are small and batched by us; waiting for more only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    let transport: Box<dyn Transport> = Box::new(stream);
    let (shared, direct) = (Arc::clone(shared), kind.is_direct());
    let signed_in = move || drop(place);
    match kind {
        ListenerKind::C2sStartTls | ListenerKind::C2sTls => {
            connections.spawn(c2s::serve(shared, transport, peer, direct, signed_in))
        }
        ListenerKind::S2sStartTls | ListenerKind::S2sTls => {
            connections.spawn(incoming::serve(shared, transport, peer, direct, signed_in))
        }
        ListenerKind::Component => {
            connections.spawn(component::serve(shared, transport, peer, signed_in))
        }
    };
}

/// Says so, not of each of a flood.
fn refused(shared: &c2s::Shared, peer: SocketAddr) {
    let (core, who) = (&shared.core, peer.ip().to_string());
    let what = ("connection refused", "");
    match core
        .s2s
        .repeats
        .news(&who, what, core.clock.now(), &core.limits)
    {
        Some(times) => {
            warn!(%peer, times, "connection refused: too many that have not signed in");
        }
        None => debug!(%peer, "connection refused: too many that have not signed in"),
    }
}

/// Counts connections that have not signed in, per address and in all.
#[derive(Debug, Default)]
pub struct Gate {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place among those not signed in; given back when dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    address: Option<IpAddr>,
}

/// Which bound of the gate was met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Connections from one address.
    Address,
    /// Connections in all.
    Total,
}

impl Gate {
    /// A place for one more connection.
    ///
    /// # Errors
    /// Which bound is met.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, limits: &Limits) -> Result<Place, Refusal> {
        let counted = counted(peer, limits.loopback_exempt);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= limits.unauthenticated_max {
            return Err(Refusal::Total);
        }
        if let Some(address) = counted {
            let count = counts.by_address.entry(address).or_default();
            if *count >= limits.unauthenticated_per_address_max {
                return Err(Refusal::Address);
            }
            *count += 1;
        }
        counts.all += 1;
        Ok(Place {
            gate: Arc::clone(self),
            address: counted,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .gate
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some(address) = self.address {
            if let Some(count) = counts.by_address.get_mut(&address) {
                *count = count.saturating_sub(1);
            }
            if counts.by_address.get(&address) == Some(&0) {
                counts.by_address.remove(&address);
            }
        }
    }
}

/// What rules by address count a peer as; `None`: it is not counted.
pub(crate) fn counted(peer: IpAddr, loopback_exempt: bool) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    (!(loopback_exempt && peer.is_loopback())).then(|| network(peer))
}

/// One line of a provider: an IPv4 address, or the /64 of an IPv6 one.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// The certificate of each served domain.
pub struct Certificates {
    served: RwLock<Served>,
}

struct Served {
    by_domain: HashMap<Box<str>, Arc<DomainTls>>,
    fallback: Box<str>,
}

/// TLS settings of one domain.
pub struct DomainTls {
    /// For STARTTLS: no ALPN.
    pub starttls: Arc<ServerConfig>,
    /// For direct TLS: ALPN `xmpp-client`.
    pub direct: Arc<ServerConfig>,
    /// The leaf, for channel binding (tls-server-end-point).
    pub leaf: CertificateDer<'static>,
    /// Who issues the certificates of clients; `None`: they are not asked for one.
    pub clients: Option<Arc<RootCertStore>>,
    /// Between servers; `None` where there are no links.
    pub s2s: Option<ServerTls>,
}

/// TLS settings of one domain between servers: both sides show a certificate.
pub struct ServerTls {
    /// Accepting, STARTTLS and direct (ALPN `xmpp-server`).
    pub accept: [Arc<ServerConfig>; 2],
    /// Calling, the same.
    pub call: [Arc<ClientConfig>; 2],
}

impl Certificates {
    /// `fallback` is used when a client names no domain of ours.
    #[must_use]
    pub fn new(by_domain: HashMap<Box<str>, Arc<DomainTls>>, fallback: Box<str>) -> Self {
        Self {
            served: RwLock::new(Served {
                by_domain,
                fallback,
            }),
        }
    }

    /// How a domain of ours calls others.
    pub(crate) fn call(&self, domain: &str, direct: bool) -> Option<Arc<ClientConfig>> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        let [starttls, over_tls] = &served.get(domain)?.s2s.as_ref()?.call;
        Some(Arc::clone(if direct { over_tls } else { starttls }))
    }

    /// Who issues the certificates of a domain's clients.
    pub(crate) fn clients(&self, domain: &str) -> Option<Arc<RootCertStore>> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.by_domain.get(domain)?.clients.clone()
    }

    /// From the next handshake on; connections keep what they have.
    pub fn replace(&self, by_domain: HashMap<Box<str>, Arc<DomainTls>>, fallback: Box<str>) {
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Served {
            by_domain,
            fallback,
        };
    }

    /// The same for one domain; nothing when it is not served.
    pub fn renew(&self, domain: &str, tls: Arc<DomainTls>) {
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = served.by_domain.get_mut(domain) {
            *place = tls;
        }
    }
}

impl Served {
    fn choose(&self, sni: Option<&str>, to: Option<&str>) -> Option<&Arc<DomainTls>> {
        let names = [sni, to, Some(&*self.fallback)];
        names.into_iter().flatten().find_map(|name| self.get(name))
    }

    /// The domain's, or that of the domain above: a component has none of its own.
    fn get(&self, name: &str) -> Option<&Arc<DomainTls>> {
        let name = xmpp_stream::jid::Jid::domain_only(name).ok()?;
        let above = |name: &str| Some(name.split_once('.')?.1.to_owned());
        let own = name.domain().to_owned();
        let mut names = std::iter::successors(Some(own), |name| above(name));
        names.find_map(|name| self.by_domain.get(&*name))
    }
}

impl TlsSource for Certificates {
    fn choose(
        &self,
        sni: Option<&str>,
        to: Option<&str>,
        direct: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        let tls = served.choose(sni, to)?;
        let config = if direct { &tls.direct } else { &tls.starttls };
        Some((Arc::clone(config), tls.leaf.clone()))
    }
}

/// The same certificates, shown to servers.
pub(crate) struct ForServers<'a>(pub(crate) &'a Certificates);

impl TlsSource for ForServers<'_> {
    fn choose(
        &self,
        sni: Option<&str>,
        to: Option<&str>,
        direct: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        let served = self.0.served.read();
        let served = served.unwrap_or_else(PoisonError::into_inner);
        let tls = served.choose(sni, to)?;
        let [starttls, over_tls] = &tls.s2s.as_ref()?.accept;
        let config = if direct { over_tls } else { starttls };
        Some((Arc::clone(config), tls.leaf.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_address: usize, all: usize) -> Limits {
        Limits {
            unauthenticated_per_address_max: per_address,
            unauthenticated_max: all,
            ..Limits::default()
        }
    }

    #[test]
    fn c6120_lm_01_connections_per_address_are_bounded() {
        let gate = Arc::new(Gate::default());
        let limits = limits(2, 100);
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        let held: Vec<_> = (0..2).map(|_| gate.enter(one, &limits).unwrap()).collect();
        assert_eq!(gate.enter(one, &limits).err(), Some(Refusal::Address));
        assert!(gate.enter(other, &limits).is_ok());
        drop(held);
        assert!(gate.enter(one, &limits).is_ok());
    }

    #[test]
    fn addresses_of_one_line_count_together() {
        let gate = Arc::new(Gate::default());
        let limits = limits(1, 100);
        let _held = gate.enter("2001:db8::1".parse().unwrap(), &limits).unwrap();
        assert!(gate.enter("2001:db8::2".parse().unwrap(), &limits).is_err());
        assert!(
            gate.enter("2001:db8:0:1::1".parse().unwrap(), &limits)
                .is_ok()
        );
    }

    #[test]
    fn loopback_is_exempt_by_address_but_not_in_all() {
        let gate = Arc::new(Gate::default());
        let limits = limits(1, 2);
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let _held = [
            gate.enter(loopback, &limits).unwrap(),
            gate.enter(loopback, &limits).unwrap(),
        ];
        assert_eq!(gate.enter(loopback, &limits).err(), Some(Refusal::Total));
    }
}
