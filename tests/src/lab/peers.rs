//! Raw peers of a lab: over TCP, direct TLS or pipes in memory, signed in or not.

use crate::lab::TestLab;
use crate::lab::net::DUPLEX_BYTES;
use crate::lab::node::From;
use crate::managed::{Droppable, Link};
use crate::wire::Wire;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use tokio::io::DuplexStream;
use xmpp_stream::jid::Jid;

impl TestLab {
    /// A raw peer that has connected by TCP and sent nothing.
    pub async fn raw(&self, domain: &str) -> Wire {
        match self.is_in_memory {
            true => self.raw_in_memory(domain),
            false => Wire::connect(&self.place(domain)).await,
        }
    }

    /// A raw peer that has connected by direct TLS and sent no header.
    pub async fn raw_tls(&self, domain: &str) -> Wire {
        Wire::connect_tls(&self.place(domain)).await
    }

    /// A raw peer over a pipe in memory instead of TCP: the kind that can be used with paused time.
    #[must_use]
    pub fn raw_in_memory(&self, domain: &str) -> Wire {
        self.raw_from(domain, Ipv4Addr::LOCALHOST.into())
    }

    /// The same with a link that can go dead.
    #[must_use]
    pub fn raw_over_link(&self, domain: &str) -> (Wire, Link) {
        let link = Link::default();
        let wire = self.raw_through(domain, Ipv4Addr::LOCALHOST.into(), &link);
        (wire, link)
    }

    /// The same, as if it had connected from this address.
    #[must_use]
    pub fn raw_from(&self, domain: &str, address: IpAddr) -> Wire {
        self.raw_through(domain, address, &Link::default())
    }

    fn raw_through(&self, domain: &str, address: IpAddr, link: &Link) -> Wire {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        let theirs = Droppable::new(theirs, link);
        let peer = self.peer(address);
        self.node(domain).serve(theirs, peer, false, From::Client);
        Wire::over(Droppable::new(ours, link), domain).trusting(self.trust.clone())
    }

    /// A connection to a domain's server for clients, in memory; nothing is sent yet.
    #[must_use]
    pub fn connect(&self, domain: &str, direct_tls: bool) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        let peer = self.peer(Ipv4Addr::LOCALHOST.into());
        self.node(domain)
            .serve(theirs, peer, direct_tls, From::Client);
        ours
    }

    /// The same for servers.
    #[must_use]
    pub fn connect_server(&self, domain: &str, direct_tls: bool) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        let peer = self.peer(Ipv4Addr::LOCALHOST.into());
        self.node(domain)
            .serve(theirs, peer, direct_tls, From::Server);
        ours
    }

    /// The same for components (XEP-0114).
    #[must_use]
    pub fn connect_component(&self, domain: &str) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        let peer = self.peer(Ipv4Addr::LOCALHOST.into());
        self.node(domain)
            .serve(theirs, peer, false, From::Component);
        ours
    }

    fn peer(&self, address: IpAddr) -> SocketAddr {
        let port = self.in_memory_peers.fetch_add(1, Ordering::Relaxed);
        SocketAddr::new(address, port)
    }

    /// A raw peer that has signed in; not yet available. Without a resource the server makes one.
    pub async fn wire(&self, jid: &str) -> Wire {
        let jid = Jid::parse(jid).expect("a JID");
        let mut wire = self.raw(jid.domain()).await;
        self.sign_in(&mut wire, &jid).await;
        wire
    }

    /// The same over a pipe in memory.
    pub async fn wire_in_memory(&self, jid: &str) -> Wire {
        let jid = Jid::parse(jid).expect("a JID");
        let mut wire = self.raw_in_memory(jid.domain());
        self.sign_in(&mut wire, &jid).await;
        wire
    }

    /// The same as `wire`, available.
    pub async fn online(&self, jid: &str) -> Wire {
        let mut wire = self.wire(jid).await;
        wire.presence("").await;
        wire
    }

    async fn sign_in(&self, wire: &mut Wire, jid: &Jid) {
        let password = self.account(jid.bare_str()).await;
        let local = jid.local().expect("an account");
        match jid.resource() {
            Some(resource) => {
                let bound = wire.login(local, &password, resource).await;
                assert_eq!(bound, jid.as_str(), "the resource is free");
            }
            None => {
                wire.login_anywhere(local, &password).await;
            }
        }
    }
}
