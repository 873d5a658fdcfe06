//! A lab of one server a domain whose names a test may change while they run: the way to a domain is
//! the same for all of them.

use crate::lab::{Names, TestLab};
use crate::relay::Relay;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use xmpp_certs::DevCa;
use xmpp_server::Handle;
use xmpp_server::clock::Clock;
use xmpp_server::config::Config;
use xmpp_server::listener::ListenerKind;
use xmpp_stream::resolve::Resolver;

/// Federating servers; whatever is not here is the lab's.
pub struct Federated {
    lab: TestLab,
    /// What all servers take for DNS.
    pub names: Arc<Names>,
    /// The authority of all certificates.
    pub ca: Arc<DevCa>,
}

impl Federated {
    /// A server for each domain; two at the most.
    pub async fn new<const N: usize>(domains: [&str; N]) -> Self {
        Self::with(domains, |_, _| ()).await
    }

    /// The same with changes to the configurations, by domain.
    ///
    /// # Panics
    /// A server does not start.
    pub async fn with<const N: usize>(
        domains: [&str; N],
        mut change: impl FnMut(&str, &mut Config),
    ) -> Self {
        assert!(N <= 2, "there is one way to a domain");
        let ca = DevCa::new(Clock::start().system_now()).expect("a CA");
        let (ca, names) = (Arc::new(ca), Arc::<Names>::default());
        let builder = TestLab::builder()
            .domains(domains)
            .authority(Arc::clone(&ca))
            .config(|config| {
                // Links to where there is no server of the lab are wanted too.
                config.s2s.enabled = true;
                config.dns.overrides.clear();
                let names: Arc<Names> = Arc::clone(&names);
                config.given.resolver = Some(Resolver::new(names));
                let domain = config.domains[0].name.clone();
                change(&domain, config);
            });
        let lab = builder.start().await.expect("the servers start");
        for (from, to, _) in lab.all_links() {
            names.set(to, lab.way(from, to).port());
        }
        Self { lab, names, ca }
    }

    /// Starts a domain's server with what it had stored.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start(&mut self, domain: &str) {
        let started = self.lab.start(domain).await;
        started.expect("the server starts");
    }

    /// Ends a domain's server in order.
    pub async fn stop(&mut self, domain: &str) {
        self.lab.stop(domain).await;
    }

    /// Ends a domain's server as the kernel ends a process.
    pub fn kill(&mut self, domain: &str) {
        self.lab.kill(domain);
    }

    /// A domain's server.
    #[must_use]
    pub fn handle(&self, domain: &str) -> Handle {
        self.lab.handle_of(domain)
    }

    /// The address of a listener.
    ///
    /// # Panics
    /// There is none, or the server is down.
    #[must_use]
    pub fn address(&self, domain: &str, kind: ListenerKind) -> SocketAddr {
        let listeners = self.lab.listeners(domain);
        let found = listeners.into_iter().find(|(one, _)| *one == kind);
        found.expect("a listener").1
    }

    /// What the other server's connections to this one go through.
    ///
    /// # Panics
    /// There is no other.
    #[must_use]
    pub fn link_to(&self, domain: &str) -> Relay {
        let other = self.lab.domains().find(|other| *other != domain);
        self.lab.link(other.expect("another server"), domain)
    }

    /// The lines of `s2s list` of a domain's server.
    #[must_use]
    pub fn links(&self, domain: &str) -> Vec<String> {
        self.lab.link_lines(domain)
    }
}

impl Deref for Federated {
    type Target = TestLab;

    fn deref(&self) -> &TestLab {
        &self.lab
    }
}

/// A loopback address that nobody listens at.
///
/// # Panics
/// There is no free port.
#[must_use]
pub fn dead_port() -> u16 {
    let listener = std::net::TcpListener::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.expect("a port").port()
}
