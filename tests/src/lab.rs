//! `TestLab`: servers in this process with a CA of their own, stores in memory and free ports, one
//! server a domain, and links between them and to them that can be cut, held and delayed.
//!
//! docs/TESTLAB.md is the guide. Here is what a lab is asked; `build.rs` says how one is made,
//! `node.rs` is one of its servers, `net.rs` what stands for the network without sockets, `peers.rs`
//! raw peers, `client.rs` clients, `links.rs` links, `names.rs` how its domains are found.

mod build;
mod client;
mod error;
mod folder;
mod links;
mod names;
mod net;
mod node;
mod peers;

pub use build::LabBuilder;
pub use client::{LabClient, LabMessage};
pub use error::LabError;
pub use names::Names;
pub use net::{Arrival, Net};
pub use xmpp_certs::Variant;

use crate::proxy::Proxy;
use crate::trust::Trust;
use crate::wire::Place;
use folder::Folder;
use node::Node;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xmpp_certs::DevCa;
use xmpp_server::Handle;
use xmpp_server::clock::Clock;
use xmpp_server::config::Config;
use xmpp_server::listener::ListenerKind;
use xmpp_server::session::account::Account;
use xmpp_server::store::{MemoryStore, Store};
use xmpp_server::users::{UserError, Users};
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::stream::Password;

/// Running servers and what tests need to know of them. Dropped, they end at once.
pub struct TestLab {
    nodes: Vec<Node>,
    ca: Arc<DevCa>,
    trust: Trust,
    clock: Clock,
    net: Net,
    is_in_memory: bool,
    /// From server to server, both by index.
    links: BTreeMap<(usize, usize), Arc<Proxy>>,
    /// Domains served elsewhere; their numbers follow those of the servers.
    joined: Vec<(String, SocketAddr)>,
    /// From a client, by the address it was asked for.
    client_links: Mutex<BTreeMap<String, Proxy>>,
    in_memory_peers: AtomicU16,
    folder: Folder,
}

impl TestLab {
    /// Starts a server for each of these domains.
    ///
    /// # Errors
    /// `LabError::Start`.
    pub async fn new<'a>(domains: impl IntoIterator<Item = &'a str>) -> Result<Self, LabError> {
        Self::builder().domains(domains).start().await
    }

    /// Starts one server of all these domains with changes to its configuration: bounds, policies, a
    /// store on disk.
    ///
    /// # Errors
    /// `LabError::Start`.
    pub async fn with<'a>(
        domains: impl IntoIterator<Item = &'a str>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, LabError> {
        let mut change = Some(change);
        let once = move |config: &mut Config| {
            if let Some(change) = change.take() {
                change(config);
            }
        };
        Self::builder().server(domains).config(once).start().await
    }

    /// The same as `new` without sockets. In a `#[tokio::test(start_paused = true)]` the clock then
    /// stands still while somebody works, whoever waits is woken at once, and `advance` moves it. One
    /// clock gives all servers their deadlines and their stamps.
    ///
    /// # Errors
    /// `LabError::Start`.
    pub async fn in_memory<'a>(
        domains: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, LabError> {
        Self::builder().domains(domains).in_memory().start().await
    }

    /// Any other lab.
    #[must_use]
    pub fn builder<'a>() -> LabBuilder<'a> {
        LabBuilder::default()
    }

    /// The handle of the first server, for what cannot be seen from outside.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.nodes[0].handle()
    }

    /// The handle of a domain's server.
    ///
    /// # Panics
    /// It is not a domain of this lab, or its server is down.
    #[must_use]
    pub fn handle_of(&self, domain: &str) -> Handle {
        self.node(domain).handle()
    }

    /// The CA certificate of all domains.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.ca.pem()
    }

    /// The same as a file, for programs; it goes with the lab.
    ///
    /// # Panics
    /// The folder for temporary files cannot be written to.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        let written = self.folder.write("ca.pem", self.ca.pem());
        written.expect("a folder for temporary files")
    }

    /// The certificate authority, for certificates of one's own.
    #[must_use]
    pub fn authority(&self) -> &DevCa {
        &self.ca
    }

    /// From the next handshake on the domain shows a certificate that is to be refused; `None`: a
    /// good one again. A good one is for server authentication only, as public authorities issue
    /// them. Connections keep what they have.
    ///
    /// # Panics
    /// It is not a domain of this lab.
    pub fn show_certificate(&self, domain: &str, variant: Option<Variant>) {
        let now = self.clock.system_now();
        let leaf = match variant {
            Some(variant) => self.ca.issue_variant(domain, variant, now),
            None => self.ca.issue_for_domain(domain, now),
        };
        let leaf = leaf.expect("a certificate");
        self.node(domain).show(domain, leaf);
    }

    /// Where a domain is served.
    ///
    /// # Panics
    /// It is not a domain of this lab, or its server is down.
    #[must_use]
    pub fn place(&self, domain: &str) -> Place {
        let addresses = self.node(domain).addresses();
        Place {
            domain: domain.into(),
            address: addresses.c2s,
            address_tls: addresses.c2s_tls,
            trust: self.trust.clone(),
        }
    }

    /// A domain's server is up.
    ///
    /// # Panics
    /// It is not a domain of this lab.
    #[must_use]
    pub fn is_up(&self, domain: &str) -> bool {
        self.node(domain).is_up()
    }

    /// Where a domain's server is reached by other servers, past the links of the lab.
    ///
    /// # Panics
    /// It is not a domain of this lab, or its server is down or alone.
    #[must_use]
    pub fn server_place(&self, domain: &str) -> Place {
        let addresses = self.node(domain).addresses();
        Place {
            domain: domain.into(),
            address: addresses.s2s.expect("a server that has links"),
            address_tls: addresses.s2s_tls,
            trust: self.trust.clone(),
        }
    }

    /// Where a domain's server listens.
    ///
    /// # Panics
    /// It is not a domain of this lab, or its server is down.
    #[must_use]
    pub fn listeners(&self, domain: &str) -> Vec<(ListenerKind, SocketAddr)> {
        self.node(domain).listeners()
    }

    /// Ends a domain's server in order and starts it again with what it had stored.
    ///
    /// # Errors
    /// `LabError::Start`.
    pub async fn restart(&self, domain: &str) -> Result<(), LabError> {
        self.stop(domain).await;
        self.start(domain).await
    }

    /// Ends a domain's server in order: every stream gets system-shutdown.
    pub async fn stop(&self, domain: &str) {
        self.node(domain).stop().await;
    }

    /// Ends a domain's server as the kernel ends a process: nothing is said, and what was not
    /// committed is gone.
    pub fn kill(&self, domain: &str) {
        self.node(domain).kill();
    }

    /// Starts a server that was stopped or killed, with what is stored.
    ///
    /// # Errors
    /// `LabError::Start`.
    pub async fn start(&self, domain: &str) -> Result<(), LabError> {
        self.node(domain).start().await?;
        self.point_links();
        Ok(())
    }

    /// Moves the clock of everything in this test.
    ///
    /// # Panics
    /// The clock is not paused, or the lab has sockets: the paused clock runs ahead while one works.
    pub async fn advance(&self, time: Duration) {
        assert!(
            self.is_in_memory,
            "the clock is moved in TestLab::in_memory only"
        );
        tokio::time::advance(time).await;
    }

    /// The clock of all servers.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Makes an account unless it exists; returns its password.
    ///
    /// # Panics
    /// It is no address of an account in this lab, or the store fails.
    pub async fn account(&self, jid: &str) -> String {
        let account = bare(jid);
        let password = format!("secret of {account}");
        let users = self.users(account.domain());
        match users.add(&account, Password(password.clone())).await {
            Ok(()) | Err(UserError::Exists) => password,
            Err(error) => panic!("{account} cannot be made: {error}"),
        }
    }

    /// Removes an account; its sessions end.
    ///
    /// # Panics
    /// There is none such, or the store fails.
    pub async fn remove(&self, jid: &str) {
        let account = bare(jid);
        let removed = self.users(account.domain()).remove(&account).await;
        removed.expect("the account is removed");
    }

    /// The account of a JID as the server has it loaded, for what cannot be seen from outside.
    ///
    /// # Panics
    /// It is not loaded.
    #[must_use]
    pub fn account_of(&self, jid: &str) -> Arc<Account> {
        let account = bare(jid);
        let handle = self.handle_of(account.domain());
        let found = handle.core().registry.peek(account.as_str());
        found.expect("a loaded account")
    }

    /// Accounts of a domain, as an operator has them.
    ///
    /// # Panics
    /// It is not a domain of this lab, or its server is down.
    #[must_use]
    pub fn users(&self, domain: &str) -> Users {
        Users::Running(self.handle_of(domain).core().clone())
    }

    /// The store in memory of the first server, which a test may make fail, hang and crash.
    ///
    /// # Panics
    /// The lab has another.
    #[must_use]
    pub fn memory(&self) -> Arc<MemoryStore> {
        memory(&self.handle())
    }

    /// The same of a domain's server.
    ///
    /// # Panics
    /// The lab has another, or the server is down.
    #[must_use]
    pub fn memory_of(&self, domain: &str) -> Arc<MemoryStore> {
        memory(&self.handle_of(domain))
    }

    /// Ends a session as the operator would: its stream gets an error.
    ///
    /// # Panics
    /// There is no such session.
    pub async fn kick(&self, jid: &str) {
        let jid = FullJid::parse(jid).expect("a full JID");
        let handle = self.handle_of(jid.domain());
        assert!(handle.kick(&jid).await, "{jid} has a session");
    }

    /// The accounts of the lab.
    ///
    /// # Panics
    /// A store fails.
    pub async fn accounts(&self) -> Vec<BareJid> {
        let mut accounts = Vec::new();
        for node in &self.nodes {
            let users = Users::Running(node.handle().core().clone());
            accounts.extend(users.list(None).await.expect("the store answers"));
        }
        accounts
    }

    /// The domains, in the order in which they were named.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().flat_map(Node::domains)
    }

    /// Ends the servers in order: every stream gets system-shutdown.
    pub async fn shutdown(self) {
        for node in &self.nodes {
            node.stop().await;
        }
    }

    fn index(&self, domain: &str) -> usize {
        let mut nodes = self.nodes.iter();
        let joined = || {
            let mut joined = self.joined.iter();
            let index = joined.position(|(name, _)| name == domain)?;
            Some(self.nodes.len() + index)
        };
        let found = nodes.position(|node| node.serves(domain)).or_else(joined);
        found.unwrap_or_else(|| panic!("{domain} is not in this lab"))
    }

    fn node(&self, domain: &str) -> &Node {
        let node = self.nodes.get(self.index(domain));
        node.unwrap_or_else(|| panic!("{domain} is served elsewhere"))
    }
}

impl fmt::Debug for TestLab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domains: Vec<&str> = self.domains().collect();
        f.debug_struct("TestLab")
            .field("domains", &domains)
            .finish_non_exhaustive()
    }
}

fn bare(jid: &str) -> BareJid {
    Jid::parse(jid).expect("a JID").to_bare()
}

fn memory(handle: &Handle) -> Arc<MemoryStore> {
    match &handle.core().store {
        Store::Memory(store) => Arc::clone(store),
        Store::Sqlite(_) => panic!("the store is on disk"),
    }
}
