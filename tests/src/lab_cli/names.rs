//! The name server of a laboratory: its domains, those of servers that join, and components.

use crate::lab::TestLab;
use crate::lab_cli::Trouble;
use crate::lab_cli::arguments::Joined;
use crate::lab_cli::up::Allowed;
use crate::zone::NameServer;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// Where it answers unless that is said.
const PORT: u16 = 5353;
const PRIORITY: u16 = 10;

pub(super) async fn serve(
    lab: &TestLab,
    joined: &[Joined],
    components: &[Allowed],
    wanted: Option<SocketAddr>,
) -> Result<NameServer, Trouble> {
    let mut zone = lab.zone();
    let mut origins: Vec<&str> = lab.domains().collect();
    for Joined { domain, address } in joined {
        let service = format!("_xmpp-server._tcp.{domain}");
        zone = zone.host(domain, &address.ip().to_string()).srv(
            &service,
            PRIORITY,
            domain,
            address.port(),
        );
        origins.push(domain);
    }
    for Allowed { name, domain, .. } in components {
        let service = format!("_xmpp-server._tcp.{name}");
        let port = lab.server_place(domain).address.port();
        zone = zone.srv(&service, PRIORITY, domain, port);
    }
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let started = match (zone.serve(wanted.unwrap_or(usual), &origins).await, wanted) {
        (Err(error), None) if error.kind() == io::ErrorKind::AddrInUse => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            zone.serve(any, &origins).await
        }
        (started, _) => started,
    };
    let at = wanted.unwrap_or(usual);
    started.map_err(|error| Trouble::Io(format!("name server at {at}"), error))
}
