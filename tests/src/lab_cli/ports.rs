//! Which address and ports a domain gets: the usual ones where they are free.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// The usual ports, in the order of `Ports`.
const USUAL: [u16; 4] = [5222, 5223, 5269, 5270];
/// Addresses taken of each 127.0.x.0/24.
const A_NET: usize = 250;

/// Where one domain is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) c2s: SocketAddr,
    pub(super) c2s_tls: SocketAddr,
    pub(super) s2s: SocketAddr,
    pub(super) s2s_tls: SocketAddr,
}

/// For the domain of this number, counted from 0; port 0 where a usual one is taken.
pub(super) fn choose(number: usize, any_port: bool) -> Ports {
    let wanted = address(number);
    // Systems other than Linux have 127.0.0.1 alone.
    let ip = match TcpListener::bind((wanted, 0)) {
        Ok(_) => wanted,
        Err(_) => Ipv4Addr::LOCALHOST.into(),
    };
    let [c2s, c2s_tls, s2s, s2s_tls] = USUAL.map(|port| {
        let place = SocketAddr::new(ip, port);
        match any_port || is_taken(place) {
            true => SocketAddr::new(ip, 0),
            false => place,
        }
    });
    Ports {
        c2s,
        c2s_tls,
        s2s,
        s2s_tls,
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
        assert_eq!(choose(0, true).c2s.to_string(), "127.0.0.1:0");
    }
}
