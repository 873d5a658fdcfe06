//! Servers that federate, one a domain, in this process: shared CA, names in memory, and in front of
//! each server's port for servers a relay that can be cut.

use crate::proxy::Proxy;
use crate::relay::Relay;
use crate::tree::Tree;
use crate::trust::Trust;
use crate::wire::{Place, Wire};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xmpp_certs::{DevCa, Leaf, Variant};
use xmpp_server::clock::Clock;
use xmpp_server::config::{Config, Storage};
use xmpp_server::listener::ListenerKind;
use xmpp_server::store::Store;
use xmpp_server::users::{UserError, Users};
use xmpp_server::{Handle, Running, Server};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::resolve::{Answer, Dns, Resolver, Srv};
use xmpp_stream::stream::Password;

/// Least iterations that clients accept (RFC 7677 section 4).
const SCRAM_ITERATIONS: u32 = 4096;

/// Where servers are, for all of them; changes count at once.
#[derive(Default)]
pub struct Names(Mutex<BTreeMap<String, u16>>);

impl Names {
    /// From now on the servers of this domain find it at this port of 127.0.0.1.
    pub fn set(&self, domain: &str, port: u16) {
        self.lock().insert(domain.into(), port);
    }

    /// The same by direct TLS alone.
    pub fn set_direct(&self, domain: &str, port: u16) {
        let mut names = self.lock();
        names.remove(domain);
        names.insert(format!("tls.{domain}"), port);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dns for Names {
    fn srv<'a>(&'a self, name: &'a str) -> Answer<'a, Srv> {
        let domain = name.strip_prefix("_xmpp-server._tcp.");
        // Direct TLS stands under the name with a mark.
        let direct = name.strip_prefix("_xmpps-server._tcp.");
        let key = direct.map(|domain| format!("tls.{domain}"));
        let key = key.as_deref().or(domain);
        let port = key.and_then(|key| self.lock().get(key).copied());
        let domain = domain.or(direct);
        let record = port.map(|port| Srv {
            priority: 0,
            weight: 0,
            port,
            target: domain.unwrap_or_default().into(),
        });
        Box::pin(async move { Ok(record.into_iter().collect()) })
    }

    fn ipv4<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv4Addr> {
        let known = {
            let known = self.lock();
            known.contains_key(name) || known.contains_key(&format!("tls.{name}"))
        };
        Box::pin(async move { Ok(known.then_some(Ipv4Addr::LOCALHOST).into_iter().collect()) })
    }

    fn ipv6<'a>(&'a self, _: &'a str) -> Answer<'a, Ipv6Addr> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Federating servers.
pub struct Federated {
    up: BTreeMap<String, Running>,
    configs: BTreeMap<String, Config>,
    proxies: BTreeMap<String, Proxy>,
    /// What all servers take for DNS.
    pub names: Arc<Names>,
    /// The authority of all certificates.
    pub ca: Arc<DevCa>,
}

impl Federated {
    /// A server for each domain.
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
        let ca = DevCa::new(Clock::start().system_now()).expect("a CA");
        let mut all = Self {
            up: BTreeMap::new(),
            configs: BTreeMap::new(),
            proxies: BTreeMap::new(),
            names: Arc::default(),
            ca: Arc::new(ca),
        };
        for domain in domains {
            let mut config = Config::default_zero();
            domain.clone_into(&mut config.domains[0].name);
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            (config.c2s.listen, config.c2s.listen_tls) = (vec![any], Vec::new());
            config.s2s.enabled = true;
            config.s2s.listen = vec![any];
            config.storage = Storage::Memory;
            config.sasl.scram_iterations = SCRAM_ITERATIONS;
            config.given.authority = Some(Arc::clone(&all.ca));
            let names = Arc::clone(&all.names);
            config.given.resolver = Some(Resolver::new(names));
            change(domain, &mut config);
            all.configs.insert(domain.into(), config);
            all.start(domain).await;
        }
        all
    }

    /// Starts a domain's server with what it had stored.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start(&mut self, domain: &str) {
        let config = self.configs.get_mut(domain).expect("a domain of these");
        let mut rests = tokio::time::interval(Duration::from_millis(5));
        let running = loop {
            match Server::start(config.clone()).await {
                Ok(running) => break running,
                Err(error) if error.to_string().contains("in use") => drop(rests.tick().await),
                Err(error) => panic!("{domain} does not start: {error}"),
            }
        };
        config.store = Some(running.handle().core().store.clone());
        config.c2s.listen = vec![running.address(ListenerKind::C2sStartTls).expect("c2s")];
        let address = running.address(ListenerKind::S2sStartTls);
        if let Some(address) = address {
            config.s2s.listen = vec![address];
            if let Some(proxy) = self.proxies.get(domain) {
                proxy.relay().move_to(address);
            } else {
                let proxy = Proxy::new(address).await;
                self.names.set(domain, proxy.address.port());
                self.proxies.insert(domain.into(), proxy);
            }
        }
        self.up.insert(domain.into(), running);
    }

    /// Ends a domain's server in order.
    ///
    /// # Panics
    /// It is down.
    pub async fn stop(&mut self, domain: &str) {
        let running = self.up.remove(domain).expect("up");
        self.reopen(domain);
        running.shutdown().await;
    }

    /// Ends a domain's server as the kernel ends a process.
    ///
    /// # Panics
    /// It is down.
    pub fn kill(&mut self, domain: &str) {
        self.reopen(domain);
        drop(self.up.remove(domain).expect("up"));
    }

    /// The store as the next process would find it.
    fn reopen(&mut self, domain: &str) {
        let config = self.configs.get_mut(domain).expect("a domain of these");
        if let Some(Store::Memory(store)) = &config.store {
            config.store = Some(store.reopen());
        }
    }

    /// A domain's server.
    ///
    /// # Panics
    /// It is down.
    #[must_use]
    pub fn handle(&self, domain: &str) -> Handle {
        self.up.get(domain).expect("up").handle()
    }

    /// The address of a listener.
    ///
    /// # Panics
    /// There is none, or the server is down.
    #[must_use]
    pub fn address(&self, domain: &str, kind: ListenerKind) -> SocketAddr {
        let running = self.up.get(domain).expect("up");
        running.address(kind).expect("a listener")
    }

    /// What all connections to a domain's server for servers go through.
    ///
    /// # Panics
    /// It is none of these.
    #[must_use]
    pub fn link_to(&self, domain: &str) -> Relay {
        self.proxies.get(domain).expect("a domain of these").relay()
    }

    /// Where a domain is served to clients.
    ///
    /// # Panics
    /// It is down.
    #[must_use]
    pub fn place(&self, domain: &str) -> Place {
        let running = self.up.get(domain).expect("up");
        Place {
            domain: domain.into(),
            address: running.address(ListenerKind::C2sStartTls).expect("c2s"),
            address_tls: None,
            trust: Trust::pem(self.ca.pem()),
        }
    }

    /// Where a domain is served to servers.
    ///
    /// # Panics
    /// It is down.
    #[must_use]
    pub fn server_place(&self, domain: &str) -> Place {
        let running = self.up.get(domain).expect("up");
        Place {
            address: running.address(ListenerKind::S2sStartTls).expect("s2s"),
            ..self.place(domain)
        }
    }

    /// A client that has signed in; its account is made when there is none.
    ///
    /// # Panics
    /// The account cannot be made.
    pub async fn wire(&self, jid: &str) -> Wire {
        let jid = Jid::parse(jid).expect("a JID");
        let (account, resource) = (jid.to_bare(), jid.resource().unwrap_or("r"));
        let password = format!("secret of {account}");
        let users = Users::Running(self.handle(jid.domain()).core().clone());
        match users.add(&account, Password(password.clone())).await {
            Ok(()) | Err(UserError::Exists) => {}
            Err(error) => panic!("{account} cannot be made: {error}"),
        }
        let mut wire = Wire::connect(&self.place(jid.domain())).await;
        let local = jid.local().expect("an account");
        wire.login(local, &password, resource).await;
        wire
    }

    /// The same, available.
    pub async fn online(&self, jid: &str) -> Wire {
        let mut wire = self.wire(jid).await;
        wire.presence("").await;
        wire
    }

    /// The lines of `s2s list` of a domain's server.
    #[must_use]
    pub fn links(&self, domain: &str) -> Vec<String> {
        let listed = self.handle(domain).core().list_links(None);
        listed
            .iter()
            .map(xmpp_server::s2s::list::Listed::text)
            .collect()
    }

    /// Resolves when the links of a domain's server are like this.
    ///
    /// # Panics
    /// They are not within ten seconds.
    pub async fn until_links(&self, domain: &str, like: impl Fn(&[String]) -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !like(&self.links(domain)) {
                looks.tick().await;
            }
        });
        if waited.await.is_err() {
            panic!("links of {domain}: {:#?}", self.links(domain));
        }
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

impl Wire {
    /// The next stanza of this kind; others are passed over.
    pub async fn next_of(&mut self, kind: &str) -> Tree {
        loop {
            let stanza = self.next().await;
            if stanza.name() == kind {
                return stanza;
            }
        }
    }
}

impl Federated {
    /// A raw peer at a domain's port for servers; it has said nothing. It can show the certificate of
    /// the domain `shows`.
    ///
    /// # Panics
    /// There is no such certificate.
    pub async fn caller(&self, to: &str, shows: &str) -> Wire {
        let now = self.handle(to).core().clock.system_now();
        let leaf = self.ca.issue_for_domain(shows, now).expect("a leaf");
        self.caller_with(to, &leaf).await
    }

    /// The same with any certificate.
    pub async fn caller_with(&self, to: &str, leaf: &Leaf) -> Wire {
        let trust = Trust::pem(self.ca.pem()).with_identity(&leaf.chain_pem, &leaf.key_pem);
        Wire::connect(&self.server_place(to)).await.trusting(trust)
    }

    /// The same with a certificate that nobody believes, up to the features under TLS; gives the
    /// stream's id too.
    ///
    /// # Panics
    /// There is no such certificate.
    pub async fn unbelieved(&self, to: &str, domain: &str) -> (Wire, String) {
        let now = self.handle(to).core().clock.system_now();
        let leaf = self.ca.issue_variant(domain, Variant::OtherCa, now);
        let mut wire = self.caller_with(to, &leaf.expect("a leaf")).await;
        let id = wire.secure_stream(domain).await;
        wire.expect_features().await;
        (wire, id)
    }

    /// The same, signed in by EXTERNAL as the domain that it shows.
    pub async fn server(&self, to: &str, domain: &str) -> Wire {
        let mut wire = self.caller(to, domain).await;
        let features = wire.secure_as_server(domain).await;
        assert!(features.to_string().contains("EXTERNAL"), "{features}");
        wire.external(domain).await;
        wire
    }
}

impl Wire {
    /// Sends the header of another server.
    pub async fn send_server_header(&mut self, from: &str) {
        self.restart();
        let header = format!(
            "<?xml version='1.0'?><stream:stream from='{from}' to='{}' version='1.0' xmlns='{}' \
             xmlns:db='{}' xmlns:stream='{}'>",
            self.domain(),
            ns::SERVER,
            ns::DIALBACK,
            ns::STREAMS
        );
        self.send(header).await;
    }

    /// Goes as far as the features under TLS.
    pub async fn secure_as_server(&mut self, from: &str) -> Tree {
        self.secure_stream(from).await;
        self.expect_features().await
    }

    /// The same, up to the header under TLS; gives the stream's id.
    pub async fn secure_stream(&mut self, from: &str) -> String {
        self.send_server_header(from).await;
        self.expect_header().await;
        self.expect_features().await;
        self.send(format!("<starttls xmlns='{}'/>", ns::TLS)).await;
        self.expect(format!("<proceed xmlns='{}'/>", ns::TLS)).await;
        self.await_tls();
        self.secure().await;
        self.send_server_header(from).await;
        let header = self.expect_header().await;
        header.attr("id").unwrap_or_default().to_owned()
    }

    /// Signs in by EXTERNAL, and opens the stream anew.
    pub async fn external(&mut self, from: &str) {
        self.send(format!(
            "<auth xmlns='{}' mechanism='EXTERNAL'>{}</auth>",
            ns::SASL,
            STANDARD.encode(from)
        ))
        .await;
        self.expect(format!("<success xmlns='{}'/>", ns::SASL))
            .await;
        self.send_server_header(from).await;
        self.expect_header().await;
        self.expect_features().await;
    }
}
