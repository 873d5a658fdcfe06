//! How a lab is made: which servers, on sockets or in memory, whose clock.

use crate::lab::folder::Folder;
use crate::lab::node::Node;
use crate::lab::{LabError, Net, TestLab};
use crate::trust::Trust;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex};
use xmpp_certs::DevCa;
use xmpp_server::clock::Clock;
use xmpp_server::config::{Config, Storage};

/// Least iterations that clients accept (RFC 7677 section 4): a lab signs in all the time.
pub(crate) const SCRAM_ITERATIONS: u32 = 4096;

type Change<'a> = Box<dyn FnMut(&mut Config) + 'a>;

/// A lab before it starts. It lives on this machine's loopback addresses or in memory, stores in
/// memory, and its certificates are from an authority that nobody else has.
#[derive(Default)]
pub struct LabBuilder<'a> {
    servers: Vec<Vec<String>>,
    changes: Vec<Change<'a>>,
    is_in_memory: bool,
}

impl<'a> LabBuilder<'a> {
    /// A server for each of these domains.
    #[must_use]
    pub fn domains<'d>(mut self, domains: impl IntoIterator<Item = &'d str>) -> Self {
        let each = domains.into_iter().map(|domain| vec![domain.to_owned()]);
        self.servers.extend(each);
        self
    }

    /// One server for all these domains.
    #[must_use]
    pub fn server<'d>(mut self, domains: impl IntoIterator<Item = &'d str>) -> Self {
        let domains = domains.into_iter().map(str::to_owned);
        self.servers.push(domains.collect());
        self
    }

    /// Changes the configuration of each server, which it may tell by its domains.
    #[must_use]
    pub fn config(mut self, change: impl FnMut(&mut Config) + 'a) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// No sockets: clients and servers talk by pipes in memory, also on a paused clock.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.is_in_memory = true;
        self
    }

    /// Starts the servers.
    ///
    /// # Errors
    /// `LabError::Start`, `LabError::Certificate` and `LabError::Io`.
    pub async fn start(mut self) -> Result<TestLab, LabError> {
        let clock = Clock::start();
        let ca = DevCa::new(clock.system_now()).map_err(LabError::Certificate)?;
        let mut lab = TestLab {
            nodes: Vec::new(),
            trust: Trust::pem(ca.pem()),
            ca: Arc::new(ca),
            clock,
            net: Net::default(),
            is_in_memory: self.is_in_memory,
            links: BTreeMap::new(),
            client_links: Mutex::default(),
            in_memory_peers: AtomicU16::new(1),
            folder: Folder::default(),
        };
        for (index, names) in std::mem::take(&mut self.servers).into_iter().enumerate() {
            let mut config = self.pattern(&lab, &names);
            for change in &mut self.changes {
                change(&mut config);
            }
            let net = self.is_in_memory.then(|| lab.net.clone());
            lab.nodes.push(Node::new(config, net));
            lab.nodes[index].start().await?;
        }
        lab.point_links();
        Ok(lab)
    }

    /// What a server is told before the test changes it.
    fn pattern(&self, lab: &TestLab, names: &[String]) -> Config {
        let mut config = Config::default_zero();
        let pattern = config.domains.remove(0);
        config.domains = names
            .iter()
            .map(|name| {
                let mut domain = pattern.clone();
                domain.name.clone_from(name);
                domain
            })
            .collect();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listen = match self.is_in_memory {
            true => Vec::new(),
            false => vec![any_port],
        };
        config.c2s.listen.clone_from(&listen);
        config.c2s.listen_tls = listen;
        config.storage = Storage::Memory;
        config.sasl.scram_iterations = SCRAM_ITERATIONS;
        config.given.authority = Some(Arc::clone(&lab.ca));
        config.given.clock = Some(lab.clock.clone());
        config
    }
}
