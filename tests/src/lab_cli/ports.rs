//! Which address and ports a domain gets: the usual ones where they are free.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use xmpp_server::config::Config;
use xmpp_server::listener::ListenerKind;

/// Addresses taken of each 127.0.x.0/24.
const A_NET: usize = 250;

/// Where one domain is served: port 0 where a usual one is taken.
#[derive(Clone, Debug)]
pub(super) struct Ports(Vec<(ListenerKind, SocketAddr)>);

/// How ports are chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice {
    /// No usual ones.
    pub(super) any_port: bool,
    /// On `::1` as well.
    pub(super) ipv6: bool,
}

/// The port that a listener has by custom; components' is that of other servers' guides.
pub(super) const fn usual(kind: ListenerKind) -> u16 {
    match kind {
        ListenerKind::C2sStartTls => 5222,
        ListenerKind::C2sTls => 5223,
        ListenerKind::S2sStartTls => 5269,
        ListenerKind::S2sTls => 5270,
        ListenerKind::Component => 5347,
    }
}

/// For the domain of this number, counted from 0, and these listeners.
pub(super) fn choose(number: usize, kinds: &[ListenerKind], how: Choice) -> Ports {
    let wanted = address(number);
    // Systems other than Linux have 127.0.0.1 alone.
    let ip = match TcpListener::bind((wanted, 0)) {
        Ok(_) => wanted,
        Err(_) => Ipv4Addr::LOCALHOST.into(),
    };
    let mut ports = Vec::new();
    for kind in kinds {
        let place = SocketAddr::new(ip, usual(*kind));
        let is_free = !how.any_port && !is_taken(place);
        ports.push((*kind, place, is_free));
        if how.ipv6 {
            // There is one such address for all domains.
            let place = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), usual(*kind));
            let is_free = number == 0 && !how.any_port && !is_taken(place);
            ports.push((*kind, place, is_free));
        }
    }
    let choose = |(kind, place, is_free): (ListenerKind, SocketAddr, bool)| match is_free {
        true => (kind, place),
        false => (kind, SocketAddr::new(place.ip(), 0)),
    };
    Ports(ports.into_iter().map(choose).collect())
}

impl Ports {
    /// Has a server listen there.
    pub(super) fn put(&self, config: &mut Config) {
        config.c2s.listen = self.of(ListenerKind::C2sStartTls);
        config.c2s.listen_tls = self.of(ListenerKind::C2sTls);
        config.s2s.listen = self.of(ListenerKind::S2sStartTls);
        config.s2s.listen_tls = self.of(ListenerKind::S2sTls);
        config.component.listen = self.of(ListenerKind::Component);
    }

    /// The usual port of a listener, where it was taken.
    pub(super) fn instead_of(&self, kind: ListenerKind, address: SocketAddr) -> Option<u16> {
        let mut wanted = self.0.iter();
        let is_free = |(one, place): &(ListenerKind, SocketAddr)| {
            (*one, place.ip(), place.port()) == (kind, address.ip(), 0)
        };
        wanted.any(is_free).then_some(usual(kind))
    }

    fn of(&self, kind: ListenerKind) -> Vec<SocketAddr> {
        let those = self.0.iter().filter(|(one, _)| *one == kind);
        those.map(|(_, place)| *place).collect()
    }
}

fn address(number: usize) -> IpAddr {
    let part = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 0, part(number / A_NET), part(number % A_NET + 1)).into()
}

fn is_taken(place: SocketAddr) -> bool {
    // Whoever listens on all addresses is found as well.
    let error = TcpListener::bind(place).err();
    error.is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_domain_has_an_address_and_a_taken_port_is_left() {
        assert_eq!(address(0).to_string(), "127.0.0.1");
        assert_eq!(address(2).to_string(), "127.0.0.3");
        assert_eq!(address(250).to_string(), "127.0.1.1");
        let held = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(is_taken(held.local_addr().expect("an address")));
        let how = Choice {
            any_port: true,
            ipv6: true,
        };
        let kind = ListenerKind::C2sStartTls;
        let texts = |ports: &Ports| -> Vec<String> {
            ports.of(kind).iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(&choose(0, &[kind], how)), ["127.0.0.1:0", "[::1]:0"]);
        // The usual one of the address that domains share is the first one's.
        let any_port = false;
        let second = choose(1, &[kind], Choice { any_port, ..how });
        assert_eq!(texts(&second)[1], "[::1]:0");
        let there = "[::1]:40000".parse().expect("an address");
        assert_eq!(second.instead_of(kind, there), Some(5222));
        assert_eq!(second.instead_of(ListenerKind::C2sTls, there), None);
    }
}
