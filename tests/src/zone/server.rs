//! A small authoritative name server, for clients and servers that ask real ones.

use crate::zone::Zone;
use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};

/// Seconds that answers may be kept: a laboratory changes.
const TTL: u32 = 5;
/// A TCP query may take so long.
const TCP_MAX: Duration = Duration::from_secs(5);
/// Bytes of answers that wait for a slow asker by TCP.
const TCP_BUFFER: usize = 1024;
/// Tries to find a port that is free for UDP and TCP.
const PORT_TRIES: usize = 20;

/// The running name server. Dropped, it ends.
pub struct NameServer {
    /// Where it answers.
    pub address: SocketAddr,
    _server: Server<Catalog>,
}

impl NameServer {
    pub(super) async fn start(
        zone: &Zone,
        address: SocketAddr,
        origins: &[&str],
    ) -> io::Result<Self> {
        let mut catalog = Catalog::new();
        for origin in origins {
            let (name, handler) = handler(zone, origin)?;
            catalog.upsert(LowerName::new(&name), vec![Arc::new(handler)]);
        }
        let (tcp, udp) = sockets(address).await?;
        let address = tcp.local_addr()?;
        let mut server = Server::new(catalog);
        server.register_socket(udp);
        server.register_listener(tcp, TCP_MAX, TCP_BUFFER);
        Ok(Self {
            address,
            _server: server,
        })
    }
}

impl fmt::Debug for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// With port 0 one that is free for both.
async fn sockets(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) if address.port() != 0 || tries == PORT_TRIES => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

type Handler = InMemoryZoneHandler<TokioRuntimeProvider>;

fn handler(zone: &Zone, origin: &str) -> io::Result<(Name, Handler)> {
    let root = name(origin)?;
    let mut handler = Handler::empty(root.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let (primary, mailbox) = (
        name(&format!("ns.{origin}"))?,
        name(&format!("root.{origin}"))?,
    );
    let soa = SOA::new(primary, mailbox, 1, 60, 60, 60, TTL);
    let mut add = |owner: Name, data: RData| {
        handler.upsert_mut(Record::from_rdata(owner, TTL, data), 1);
    };
    add(root.clone(), RData::SOA(soa));
    for (owner, records) in &zone.srv {
        let owner = name(owner)?;
        if !root.zone_of(&owner) {
            continue;
        }
        for srv in records {
            let target = name(&srv.target)?;
            let data = SRV::new(srv.priority, srv.weight, srv.port, target);
            add(owner.clone(), RData::SRV(data));
        }
    }
    for (owner, addresses) in &zone.addresses {
        let owner = name(owner)?;
        if !root.zone_of(&owner) {
            continue;
        }
        for address in addresses {
            let data = match address {
                IpAddr::V4(address) => RData::A(A(*address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
            };
            add(owner.clone(), data);
        }
    }
    Ok((root, handler))
}

/// A name from the root on, in A-labels.
fn name(text: &str) -> io::Result<Name> {
    let absolute = format!("{}.", text.trim_end_matches('.'));
    Name::from_utf8(&absolute).map_err(io::Error::other)
}
