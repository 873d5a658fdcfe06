//! Puts hosts, store, modules and listeners together; orderly start and end.
//!
//! DESIGN 1: what a start makes and says, and how a drain ends. Used by the command, by whoever
//! embeds the server, and by every test.

use crate::c2s::{self, Shared};
use crate::certificates::Source;
use crate::clock::Clock;
use crate::component;
use crate::config::{Config, ConfigError, Storage, without_effect};
use crate::core::Core;
use crate::datadir::{DataDir, DataDirError};
use crate::listener::{self, Certificates, Gate, ListenerKind};
use crate::modules::{self, Module, RegisterError};
use crate::reload::{self, Reload};
use crate::s2s::{NetworkError, incoming};
use crate::settings::Settings;
use crate::store::{Store, StoreError, StoreLimits};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use xmpp_certs::CertError;
use xmpp_stream::driver::Transport;
use xmpp_stream::error::StreamCondition;
use xmpp_stream::jid::{FullJid, JidError};
use xmpp_stream::tls::TlsError;

/// How often the system's clock is compared: a stamp may be wrong for this long.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// Real addresses by listener.
pub type Addresses = BTreeMap<ListenerKind, Vec<SocketAddr>>;

/// A way to start.
pub struct Server;

/// A running server. Dropped without `shutdown`, it ends at once.
pub struct Running {
    handle: Handle,
    addresses: Addresses,
    ca_pem: Option<String>,
    accepting: Vec<JoinHandle<()>>,
    shutdown: watch::Sender<bool>,
    admin: Option<JoinHandle<()>>,
    data_dir: Option<DataDir>,
}

/// What an embedder or a test may do with a running server.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reload: Arc<Reload>,
}

/// Why a server does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be had.
    Bind(SocketAddr, io::Error),
    /// The development CA or a certificate from it.
    Certificate(CertError),
    /// A file of `client_ca`.
    ClientCa(PathBuf, TlsError),
    /// The configuration.
    Config(ConfigError),
    /// The data directory.
    DataDir(DataDirError),
    /// A domain name.
    Domain(JidError),
    /// Two modules want the same query.
    Module(RegisterError),
    /// Anchors of other servers' certificates.
    Network(NetworkError),
    /// The store.
    Store(StoreError),
    /// Certificate and key of a domain.
    Tls {
        /// The domain.
        domain: Box<str>,
        /// What is wrong with them.
        error: TlsError,
    },
    /// A certificate or key file.
    TlsFile(PathBuf, io::Error),
}

impl Server {
    /// Starts with the modules of this package.
    ///
    /// # Errors
    /// See `StartError`; nothing is left running.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        Self::start_with(config, &[]).await
    }

    /// Starts with further modules of the caller's.
    ///
    /// # Errors
    /// See `StartError`; nothing is left running.
    pub async fn start_with(
        config: Config,
        more: &[&'static dyn Module],
    ) -> Result<Running, StartError> {
        let named = modules::ALL.iter().chain(more);
        let known: Vec<&str> = named.map(|module| module.info().name).collect();
        config.check_modules(&known).map_err(StartError::Config)?;
        for key in without_effect(&config) {
            warn!(key, "configured, but without effect in this version");
        }
        let data_dir = match (&config.data_dir, config.storage) {
            (None, Storage::Memory) => None,
            _ => {
                let dir = DataDir::open_in_turn(config.data_dir()).await;
                Some(dir.map_err(StartError::DataDir)?)
            }
        };
        // Before anything is made: a start that finds a port taken leaves no traces.
        let listeners = bind_all(&config).await?;
        let clock = config.given.clock.clone().unwrap_or_else(Clock::start);
        let limits = StoreLimits::from(&config.limits);
        let store = match (config.store.clone(), config.storage, &data_dir) {
            (Some(store), ..) => Ok(store),
            (None, Storage::Sqlite, Some(dir)) => Store::open_sqlite(&dir.database(), &limits),
            _ => Ok(Store::memory_within(&limits)),
        };
        let store = store.map_err(StartError::Store)?;
        let secret = store.secret().await.map_err(StartError::Store)?;
        let newest = store.newest().await.map_err(StartError::Store)?;
        let mut source = Source::new(
            data_dir.as_ref().map(DataDir::path),
            config.given.authority.clone(),
        );
        let by_domain = source.load(&config, clock.system_now())?;
        let ca_pem = source.ca_pem().map(str::to_owned);
        let certificates = Certificates::new(by_domain, reload::fallback(&config));
        let settings = Settings::new(config, more, None).map_err(reload::to_start)?;
        let core = Core::new(settings, store, clock, (secret, newest));
        let core = Arc::new(core);
        core.learn_offers(core.settings().hosts.keys())
            .await
            .map_err(StartError::Store)?;
        let (shutdown, down) = watch::channel(false);
        let certificates = Arc::new(certificates);
        core.s2s.show(Arc::clone(&certificates));
        let shared = Arc::new(Shared {
            core,
            certificates,
            shutdown: down,
        });
        let reload = Arc::new(Reload {
            more: more.to_vec(),
            source: Mutex::new(source),
            busy: tokio::sync::Mutex::default(),
        });
        shared
            .core
            .restore_links()
            .await
            .map_err(StartError::Store)?;
        let handle = Handle { shared, reload };
        let mut running = Running {
            handle,
            addresses: Addresses::new(),
            ca_pem,
            accepting: Vec::new(),
            shutdown,
            admin: None,
            data_dir,
        };
        running.listen(listeners)?;
        Ok(running)
    }
}

impl Running {
    fn listen(
        &mut self,
        listeners: Vec<(ListenerKind, tokio::net::TcpListener)>,
    ) -> Result<(), StartError> {
        // Strangers at one door do not shut the other.
        let [clients, servers, components] = [(); 3].map(|()| Arc::new(Gate::default()));
        for (kind, listener) in listeners {
            if let Ok(address) = listener.local_addr() {
                self.addresses.entry(kind).or_default().push(address);
            }
            let shared = Arc::clone(&self.handle.shared);
            let gate = match kind {
                ListenerKind::C2sStartTls | ListenerKind::C2sTls => &clients,
                ListenerKind::S2sStartTls | ListenerKind::S2sTls => &servers,
                ListenerKind::Component => &components,
            };
            let accepting = listener::accept(listener, kind, shared, Arc::clone(gate));
            self.accepting.push(tokio::spawn(accepting));
        }
        self.accepting
            .push(tokio::spawn(reload::watch_certificates(self.handle())));
        if let Some(dir) = &self.data_dir {
            let backend = Arc::clone(&self.handle.shared.core);
            let admin = crate::admin::serve(dir, backend).map_err(StartError::DataDir)?;
            self.admin = Some(admin);
            let shared = Arc::clone(&self.handle.shared);
            self.accepting
                .push(tokio::spawn(follow_system_clock(shared)));
            let addresses: BTreeMap<&str, Vec<SocketAddr>> = self
                .addresses
                .iter()
                .map(|(kind, list)| (kind.as_str(), list.clone()))
                .collect();
            dir.write_addresses(&addresses)
                .map_err(StartError::DataDir)?;
        }
        Ok(())
    }

    /// Where it listens, with real ports.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The first address of a listener.
    #[must_use]
    pub fn address(&self, kind: ListenerKind) -> Option<SocketAddr> {
        self.addresses.get(&kind)?.first().copied()
    }

    /// The development CA's certificate, when some domain's certificate comes from it.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// For use beside the owner of this value.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Drains: no more connections, unavailable presence, stream error system-shutdown, streams
    /// closed, writes committed; within `limits.drain_max`.
    pub async fn shutdown(mut self) {
        info!("shutting down");
        let _ = self.shutdown.send(true);
        let core = &self.handle.shared.core;
        let ended = async {
            for accepting in &mut self.accepting {
                let _ = accepting.await;
            }
        };
        // Most of the time is for connections; the store gets its share whatever they do.
        let drain_max = core.settings().config.limits.drain_max;
        let (most, rest) = (drain_max * 4 / 5, drain_max / 10);
        if tokio::time::timeout(most, ended).await.is_err() {
            warn!("not every connection ended in time");
            // Their connections end with them.
            self.accepting.iter().for_each(JoinHandle::abort);
        }
        // Last words of sessions are on their way to other servers.
        core.s2s.close(rest).await;
        if let Some(admin) = self.admin.take() {
            admin.abort();
        }
        if tokio::time::timeout(rest, core.store.close())
            .await
            .is_err()
        {
            warn!("the store did not close in time");
        }
        if let Some(dir) = &self.data_dir {
            dir.clean();
        }
    }
}

impl Handle {
    /// Serves one connection over any transport, e.g. an in-memory pipe in tests.
    pub async fn serve(&self, transport: Box<dyn Transport>, peer: SocketAddr, direct_tls: bool) {
        c2s::serve(Arc::clone(&self.shared), transport, peer, direct_tls, || ()).await;
    }

    /// Serves one connection of another server over any transport.
    pub async fn serve_server(
        &self,
        transport: Box<dyn Transport>,
        peer: SocketAddr,
        direct_tls: bool,
    ) {
        incoming::serve(Arc::clone(&self.shared), transport, peer, direct_tls, || ()).await;
    }

    /// Serves one connection of a component over any transport.
    pub async fn serve_component(&self, transport: Box<dyn Transport>, peer: SocketAddr) {
        component::serve(Arc::clone(&self.shared), transport, peer, || ()).await;
    }

    /// Ends a session with a stream error; false when there is none of this address.
    pub async fn kick(&self, jid: &FullJid) -> bool {
        let core = &self.shared.core;
        let Some(account) = core.registry.peek(jid.bare_str()) else {
            return false;
        };
        let entry = account.lock().resource(jid.resource_str()).cloned();
        let Some(entry) = entry else { return false };
        let effects = core.end_with(&account, &entry, StreamCondition::PolicyViolation);
        core.run(None, effects.into()).await;
        true
    }

    /// Accounts, routes and modules.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.shared.core
    }
}

impl Drop for Running {
    /// Without `shutdown` everything ends at once: connections are cut.
    fn drop(&mut self) {
        for task in self.accepting.drain(..).chain(self.admin.take()) {
            task.abort();
        }
        self.handle.shared.core.s2s.abort();
    }
}

/// Until the server goes down: stamps stay right over a suspend and a corrected clock.
async fn follow_system_clock(shared: Arc<Shared>) {
    let mut shutdown = shared.shutdown.clone();
    let mut ticks = tokio::time::interval(CLOCK_CHECK);
    loop {
        tokio::select! {
            _ = shutdown.wait_for(|down| *down) => return,
            _ = ticks.tick() => shared.core.clock.follow_system(),
        }
    }
}

async fn bind_all(
    config: &Config,
) -> Result<Vec<(ListenerKind, tokio::net::TcpListener)>, StartError> {
    let mut listeners = Vec::new();
    for (kind, address) in ListenerKind::wanted(config) {
        match listener::bind(address).await {
            Ok(Some(listener)) => listeners.push((kind, listener)),
            Ok(None) => {}
            Err(error) => return Err(StartError::Bind(address, error)),
        }
    }
    Ok(listeners)
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Certificate(error) => write!(f, "development certificate: {error}"),
            Self::ClientCa(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Config(error) => write!(f, "{error}"),
            Self::DataDir(error) => write!(f, "{error}"),
            Self::Domain(error) => write!(f, "domain name: {error}"),
            Self::Module(error) => write!(
                f,
                "modules {} and {} both want queries in {}",
                error.first, error.second, error.ns
            ),
            Self::Network(error) => write!(f, "{error}"),
            Self::Store(error) => write!(f, "store: {error}"),
            Self::Tls { domain, error } => write!(f, "certificate of {domain}: {error}"),
            Self::TlsFile(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for StartError {}
