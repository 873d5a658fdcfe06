//! `TestLab`: a server in this process, with a CA of its own, a store in memory and free ports.
//!
//! Accounts are made on demand, with a password that the lab knows. Until there is federation all
//! domains of a lab are served by one server; afterwards by one each.

use crate::managed::{Droppable, Link};
use crate::trust::Trust;
use crate::wire::{Place, Wire};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use xmpp_client::{ConnectError, Event, Reconnect, Stanza, Ty, XmppClient};
use xmpp_server::config::{Config, Storage};
use xmpp_server::listener::ListenerKind;
use xmpp_server::session::account::Account;
use xmpp_server::store::{MemoryStore, Store};
use xmpp_server::users::{UserError, Users};
use xmpp_server::{Handle, Running, Server, StartError};
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::stream::Password;

/// Least iterations that clients accept (RFC 7677 section 4): a lab signs in all the time.
const SCRAM_ITERATIONS: u32 = 4096;
/// Bytes in flight in an in-memory connection, each way.
const DUPLEX_BYTES: usize = 64 * 1024;

/// A running server and what tests need to know of it. Dropped, it ends at once.
pub struct TestLab {
    running: Running,
    domains: Vec<String>,
    trust: Trust,
    in_memory_peers: AtomicU16,
}

/// Why there is no lab, or no client in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum LabError {
    /// The server does not start.
    Start(StartError),
    /// The client cannot connect.
    Connect(ConnectError),
    /// The stream ended while the client came online.
    Closed,
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "the lab does not start: {error}"),
            Self::Connect(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("the stream ended while the client came online"),
        }
    }
}

impl std::error::Error for LabError {}

impl TestLab {
    /// Starts a server of these domains.
    ///
    /// # Errors
    /// `LabError::Start`.
    pub async fn new<'a>(domains: impl IntoIterator<Item = &'a str>) -> Result<Self, LabError> {
        Self::with(domains, |_| ()).await
    }

    /// The same with changes to the configuration: bounds, policies, a store on disk.
    ///
    /// # Errors
    /// `LabError::Start`.
    pub async fn with<'a>(
        domains: impl IntoIterator<Item = &'a str>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Self, LabError> {
        let mut config = Config::default_zero();
        let pattern = config.domains.remove(0);
        for name in domains {
            let mut domain = pattern.clone();
            name.clone_into(&mut domain.name);
            config.domains.push(domain);
        }
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.c2s.listen = vec![any_port];
        config.c2s.listen_tls = vec![any_port];
        config.storage = Storage::Memory;
        config.sasl.scram_iterations = SCRAM_ITERATIONS;
        change(&mut config);
        let domains = config
            .domains
            .iter()
            .map(|domain| domain.name.clone())
            .collect();
        let running = Server::start(config).await.map_err(LabError::Start)?;
        let trust = Trust::pem(
            running
                .ca_pem()
                .expect("the lab's domains have development certificates"),
        );
        Ok(Self {
            running,
            domains,
            trust,
            in_memory_peers: AtomicU16::new(1),
        })
    }

    /// The server's handle, for what cannot be seen from outside.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.running.handle()
    }

    /// The CA certificate.
    ///
    /// # Panics
    /// Never: a lab without a CA does not start.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.running.ca_pem().expect("seen at start")
    }

    /// Where a domain is served.
    ///
    /// # Panics
    /// It is not a domain of this lab.
    #[must_use]
    pub fn place(&self, domain: &str) -> Place {
        assert!(
            self.domains.iter().any(|name| name == domain),
            "{domain} is not in this lab"
        );
        Place {
            domain: domain.into(),
            address: self
                .running
                .address(ListenerKind::C2sStartTls)
                .expect("a listener"),
            address_tls: self.running.address(ListenerKind::C2sTls),
            trust: self.trust.clone(),
        }
    }

    /// Makes an account unless it exists; returns its password.
    ///
    /// # Panics
    /// It is no address of an account, or the store fails.
    pub async fn account(&self, jid: &str) -> String {
        let account = Jid::parse(jid).expect("a JID").to_bare();
        let password = format!("secret of {account}");
        let users = Users::Running(self.handle().core().clone());
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
        let account = Jid::parse(jid).expect("a JID").to_bare();
        let users = Users::Running(self.handle().core().clone());
        users
            .remove(&account)
            .await
            .expect("the account is removed");
    }

    /// The account of a JID as the server has it loaded, for what cannot be seen from outside.
    ///
    /// # Panics
    /// It is not loaded.
    #[must_use]
    pub fn account_of(&self, jid: &str) -> Arc<Account> {
        let account = Jid::parse(jid).expect("a JID").to_bare();
        let found = self.handle().core().registry.peek(account.as_str());
        found.expect("a loaded account")
    }

    /// The store in memory, whose commits a test may hold up.
    ///
    /// # Panics
    /// The lab has another.
    #[must_use]
    pub fn memory(&self) -> Arc<MemoryStore> {
        match &self.handle().core().store {
            Store::Memory(store) => Arc::clone(store),
            Store::Sqlite(_) => panic!("the store is on disk"),
        }
    }

    /// A raw peer that has connected by TCP and sent nothing.
    pub async fn raw(&self, domain: &str) -> Wire {
        Wire::connect(&self.place(domain)).await
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
        let port = self.in_memory_peers.fetch_add(1, Ordering::Relaxed);
        let handle = self.handle();
        tokio::spawn(async move {
            let peer = SocketAddr::new(address, port);
            handle.serve(Box::new(theirs), peer, false).await;
        });
        Wire::over(Droppable::new(ours, link), domain).trusting(self.trust.clone())
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

    /// Ends a session as the operator would: its stream gets an error.
    ///
    /// # Panics
    /// There is no such session.
    pub async fn kick(&self, jid: &str) {
        let jid = FullJid::parse(jid).expect("a full JID");
        assert!(self.handle().kick(&jid).await, "{jid} has a session");
    }

    /// A client that has signed in and is available, and does not connect again. What it receives up
    /// to its own presence is passed over.
    ///
    /// # Errors
    /// `LabError::Connect`, `LabError::Closed`.
    pub async fn client(&self, jid: &str) -> Result<XmppClient, LabError> {
        let password = self.account(jid).await;
        let domain = Jid::parse(jid).expect("a JID").domain().to_owned();
        let builder = XmppClient::builder(jid)
            .password(&password)
            .ca_pem(self.ca_pem())
            .reconnect(Reconnect::never());
        let address = self.place(&domain).address.to_string();
        let client = builder
            .connect_to(&address)
            .connect()
            .await
            .map_err(LabError::Connect)?;
        let (mut events, own) = (client.events(), client.jid());
        client
            .send_stanza(Stanza::presence(Ty::None))
            .await
            .map_err(|_| LabError::Closed)?;
        loop {
            match events.next().await {
                Some(Event::Stanza(stanza)) if stanza.head.from.as_ref() == Some(own.as_jid()) => {
                    return Ok(client);
                }
                Some(_) => {}
                None => return Err(LabError::Closed),
            }
        }
    }

    /// The accounts of the lab.
    ///
    /// # Panics
    /// The store fails.
    pub async fn accounts(&self) -> Vec<BareJid> {
        let users = Users::Running(self.handle().core().clone());
        users.list(None).await.expect("the store answers")
    }

    /// Ends the server in order: every stream gets system-shutdown.
    pub async fn shutdown(self) {
        self.running.shutdown().await;
    }
}

impl fmt::Debug for TestLab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestLab")
            .field("domains", &self.domains)
            .finish_non_exhaustive()
    }
}
