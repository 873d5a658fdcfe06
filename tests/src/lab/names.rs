//! How the domains of a lab are found: as records in memory, or behind a name server.

use crate::lab::{LabError, TestLab};
use crate::zone::{NameServer, Zone};
use std::net::SocketAddr;

/// Priorities as an operator would give them: direct TLS first.
const DIRECT_TLS: u16 = 5;
const STARTTLS: u16 = 10;

impl TestLab {
    /// The records of all domains whose servers are up: SRV of each listener, and addresses. For
    /// `Builder::dns` of a client, with whatever a test adds.
    #[must_use]
    pub fn zone(&self) -> Zone {
        let mut zone = Zone::new();
        for node in self.nodes.iter().filter(|node| node.is_up()) {
            let addresses = node.addresses();
            for domain in node.domains() {
                let ip = addresses.c2s.ip().to_string();
                zone = zone.host(domain, &ip);
                let records = [
                    ("_xmpp-client", STARTTLS, Some(addresses.c2s)),
                    ("_xmpps-client", DIRECT_TLS, addresses.c2s_tls),
                    ("_xmpp-server", STARTTLS, addresses.s2s),
                    ("_xmpps-server", DIRECT_TLS, addresses.s2s_tls),
                ];
                for (service, priority, address) in records {
                    let Some(address) = address else { continue };
                    let name = format!("{service}._tcp.{domain}");
                    zone = zone.srv(&name, priority, domain, address.port());
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
