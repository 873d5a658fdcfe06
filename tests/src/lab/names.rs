//! How the domains of a lab are found: as records in memory, or behind a name server; and what the
//! lab's own servers take for DNS, so that no question leaves this machine.

use crate::lab::{LabError, TestLab};
use crate::zone::{NameServer, Zone};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use xmpp_server::listener::ListenerKind;
use xmpp_stream::resolve::{Answer, Dns, Srv};

/// Priorities as an operator would give them: direct TLS first.
const DIRECT_TLS: u16 = 5;
const STARTTLS: u16 = 10;

impl TestLab {
    /// The records of all domains whose servers are up: SRV of each listener, and addresses; what
    /// listens by IPv6 has a name of its own, since its port may be another. For `Builder::dns` of a
    /// client, with whatever a test adds.
    #[must_use]
    pub fn zone(&self) -> Zone {
        let mut zone = Zone::new();
        for node in self.nodes.iter().filter(|node| node.is_up()) {
            let listeners = node.doors();
            for domain in node.domains() {
                let mut hosts = BTreeMap::new();
                for (kind, address) in &listeners {
                    let Some((service, priority)) = service(*kind) else {
                        continue;
                    };
                    let host = match address {
                        SocketAddr::V4(_) => domain.to_owned(),
                        SocketAddr::V6(_) => format!("ipv6.{domain}"),
                    };
                    let name = format!("{service}._tcp.{domain}");
                    zone = zone.srv(&name, priority, &host, address.port());
                    hosts.insert(host, address.ip().to_string());
                }
                for (host, address) in hosts {
                    zone = zone.host(&host, &address);
                }
            }
        }
        zone
    }

    /// A name server of these records on a loopback port, for programs and for whatever asks real
    /// ones.
    ///
    /// # Errors
    /// `LabError::Io`.
    pub async fn name_server(&self) -> Result<NameServer, LabError> {
        let origins: Vec<&str> = self.domains().collect();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(self.zone().serve(any, &origins).await?)
    }
}

const fn service(kind: ListenerKind) -> Option<(&'static str, u16)> {
    match kind {
        ListenerKind::C2sStartTls => Some(("_xmpp-client", STARTTLS)),
        ListenerKind::C2sTls => Some(("_xmpps-client", DIRECT_TLS)),
        ListenerKind::S2sStartTls => Some(("_xmpp-server", STARTTLS)),
        ListenerKind::S2sTls => Some(("_xmpps-server", DIRECT_TLS)),
        ListenerKind::Component => None,
    }
}

/// Where servers are, for those that ask; changes count at once, and nothing else is known.
#[derive(Debug, Default)]
pub struct Names(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    exact: BTreeMap<String, Found>,
    /// Of everything below these.
    below: BTreeMap<String, Found>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    port: u16,
    direct_tls: bool,
}

impl Names {
    /// From now on the servers of this domain find it at this port of 127.0.0.1.
    pub fn set(&self, domain: &str, port: u16) {
        let direct_tls = false;
        self.lock()
            .exact
            .insert(domain.into(), Found { port, direct_tls });
    }

    /// The same by direct TLS alone.
    pub fn set_direct(&self, domain: &str, port: u16) {
        let direct_tls = true;
        self.lock()
            .exact
            .insert(domain.into(), Found { port, direct_tls });
    }

    /// The same as `set` for every domain below this one, such as its rooms.
    pub(crate) fn set_below(&self, domain: &str, port: u16) {
        let direct_tls = false;
        self.lock()
            .below
            .insert(domain.into(), Found { port, direct_tls });
    }

    fn found(&self, domain: &str) -> Option<Found> {
        let known = self.lock();
        let mut above = domain.split_once('.').map(|(_, above)| above);
        let mut found = known.exact.get(domain);
        while let (None, Some(name)) = (found, above) {
            found = known.below.get(name);
            above = name.split_once('.').map(|(_, above)| above);
        }
        found.copied()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dns for Names {
    fn srv<'a>(&'a self, name: &'a str) -> Answer<'a, Srv> {
        let starttls = name.strip_prefix("_xmpp-server._tcp.");
        let direct_tls = starttls.is_none();
        let domain = starttls.or_else(|| name.strip_prefix("_xmpps-server._tcp."));
        let record = domain.and_then(|domain| {
            let found = self.found(domain)?;
            (found.direct_tls == direct_tls).then(|| Srv {
                priority: 0,
                weight: 0,
                port: found.port,
                target: domain.into(),
            })
        });
        Box::pin(async move { Ok(record.into_iter().collect()) })
    }

    fn ipv4<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv4Addr> {
        let address = self.found(name).map(|_| Ipv4Addr::LOCALHOST);
        Box::pin(async move { Ok(address.into_iter().collect()) })
    }

    fn ipv6<'a>(&'a self, _: &'a str) -> Answer<'a, Ipv6Addr> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
