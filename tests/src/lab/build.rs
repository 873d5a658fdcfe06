//! How a lab is made: which servers, on sockets or in memory, whose clock.

use crate::lab::folder::Folder;
use crate::lab::node::Node;
use crate::lab::{LabError, Names, Net, TestLab};
use crate::proxy::Proxy;
use crate::trust::Trust;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex};
use xmpp_certs::DevCa;
use xmpp_server::clock::Clock;
use xmpp_server::config::{Config, DnsOverride, Storage};
use xmpp_server::modules::Module;
use xmpp_stream::resolve::Resolver;

/// Least iterations that clients accept (RFC 7677 section 4): a lab signs in all the time.
pub(crate) const SCRAM_ITERATIONS: u32 = 4096;

/// With more servers than these, links to one are shared: each is a listener.
const SERVERS_LINKED: usize = 16;
/// Where a link leads before its server is up.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

type Change<'a> = Box<dyn FnMut(&mut Config) + 'a>;

/// A lab before it starts. It lives on this machine's loopback addresses or in memory, stores in
/// memory, and its certificates are from an authority that nobody else has.
#[derive(Default)]
pub struct LabBuilder<'a> {
    servers: Vec<Vec<String>>,
    changes: Vec<Change<'a>>,
    modules: Vec<&'static dyn Module>,
    authority: Option<Arc<DevCa>>,
    joined: Vec<(String, SocketAddr)>,
    net: Net,
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

    /// A module of the caller's for every server.
    #[must_use]
    pub fn module(mut self, module: &'static dyn Module) -> Self {
        self.modules.push(module);
        self
    }

    /// Certificates are from this authority instead of a fresh one.
    #[must_use]
    pub fn authority(mut self, authority: Arc<DevCa>) -> Self {
        self.authority = Some(authority);
        self
    }

    /// A domain whose server runs already, at this address.
    #[must_use]
    pub fn join(mut self, domain: &str, address: SocketAddr) -> Self {
        self.joined.push((domain.into(), address));
        self
    }

    /// No sockets: clients and servers talk by pipes in memory, also on a paused clock.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.is_in_memory = true;
        self
    }

    /// The same in this network, where others listen too.
    #[must_use]
    pub fn net(mut self, net: &Net) -> Self {
        self.net = net.clone();
        self.in_memory()
    }

    /// Starts the servers.
    ///
    /// # Errors
    /// `LabError::Start`, `LabError::Certificate` and `LabError::Io`.
    pub async fn start(mut self) -> Result<TestLab, LabError> {
        let clock = Clock::start();
        let ca = match self.authority.take() {
            Some(ca) => ca,
            None => Arc::new(DevCa::new(clock.system_now()).map_err(LabError::Certificate)?),
        };
        let mut lab = TestLab {
            nodes: Vec::new(),
            trust: Trust::pem(ca.pem()),
            ca,
            clock,
            net: self.net.clone(),
            is_in_memory: self.is_in_memory,
            links: BTreeMap::new(),
            joined: std::mem::take(&mut self.joined),
            client_links: Mutex::default(),
            in_memory_peers: AtomicU16::new(1),
            folder: Folder::default(),
        };
        let servers = std::mem::take(&mut self.servers);
        lab.links = self.links(&lab, &servers).await?;
        for (index, names) in servers.iter().enumerate() {
            let mut config = self.pattern(&lab, names);
            config.dns.overrides = overrides(&lab, index, &servers);
            config.given.resolver = Some(below(&lab, index, &servers));
            for change in &mut self.changes {
                change(&mut config);
            }
            let net = self.is_in_memory.then(|| lab.net.clone());
            lab.nodes.push(Node::new(config, net, self.modules.clone()));
        }
        for node in &lab.nodes {
            node.start().await?;
        }
        lab.point_links();
        Ok(lab)
    }

    /// A link from each server to each other one. Where these would be very many, those to one
    /// server are one.
    async fn links(
        &self,
        lab: &TestLab,
        servers: &[Vec<String>],
    ) -> Result<BTreeMap<(usize, usize), Arc<Proxy>>, LabError> {
        let mut links = BTreeMap::new();
        let ends = servers.len() + lab.joined.len();
        let is_shared = ends > SERVERS_LINKED;
        for to in 0..ends {
            let joined = to
                .checked_sub(servers.len())
                .and_then(|at| lab.joined.get(at));
            let target = joined.map_or(NOWHERE, |(_, address)| *address);
            let mut shared = None;
            for from in (0..servers.len()).filter(|from| *from != to) {
                let link = match &shared {
                    Some(link) if is_shared => Arc::clone(link),
                    _ => Arc::new(lab.proxy(target).await?),
                };
                shared = Some(Arc::clone(&link));
                links.insert((from, to), link);
            }
        }
        Ok(links)
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
        config.c2s.listen_tls.clone_from(&listen);
        config.s2s.enabled = !lab.links.is_empty();
        config.s2s.listen.clone_from(&listen);
        config.s2s.listen_tls = listen;
        config.storage = Storage::Memory;
        config.sasl.scram_iterations = SCRAM_ITERATIONS;
        config.given.authority = Some(Arc::clone(&lab.ca));
        config.given.clock = Some(lab.clock.clone());
        if self.is_in_memory {
            config.given.dialer = lab.net.dialer();
        }
        config
    }
}

/// The server of each domain elsewhere, from a server's own.
fn overrides(
    lab: &TestLab,
    from: usize,
    servers: &[Vec<String>],
) -> BTreeMap<Box<str>, DnsOverride> {
    let found = elsewhere(lab, from, servers).map(|(name, addr)| {
        let direct_tls = false;
        (name.into(), DnsOverride { addr, direct_tls })
    });
    found.collect()
}

/// What a server asks of DNS otherwise: domains below those, such as rooms and components.
fn below(lab: &TestLab, from: usize, servers: &[Vec<String>]) -> Resolver {
    let names = Names::default();
    for (name, address) in elsewhere(lab, from, servers) {
        names.set_below(name, address.port());
    }
    Resolver::new(Arc::new(names))
}

/// The domains that are not a server's own, and where its links to them begin.
fn elsewhere<'a>(
    lab: &'a TestLab,
    from: usize,
    servers: &'a [Vec<String>],
) -> impl Iterator<Item = (&'a str, SocketAddr)> {
    let served = servers.iter().enumerate();
    let served = served.flat_map(|(to, names)| names.iter().map(move |name| (to, name)));
    let joined = lab.joined.iter().enumerate();
    let joined = joined.map(|(at, (name, _))| (servers.len() + at, name));
    served.chain(joined).filter_map(move |(to, name)| {
        let link = lab.links.get(&(from, to))?;
        Some((name.as_str(), link.address))
    })
}
