//! One server of a lab: started, stopped, killed, and started again with what it had stored.

use crate::lab::{LabError, Net};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use xmpp_certs::Leaf;
use xmpp_server::config::Config;
use xmpp_server::listener::ListenerKind;
use xmpp_server::modules::Module;
use xmpp_server::store::Store;
use xmpp_server::{Handle, Running, Server, StartError};
use xmpp_stream::driver::Transport;

/// How often, and how far apart, a port is tried that the server before has just left.
const BIND_TRIES: usize = 40;
const BIND_REST: Duration = Duration::from_millis(5);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    Client,
    Component,
    Server,
}

/// A server, up or down.
pub(crate) struct Node {
    /// `None`: it listens on sockets.
    net: Option<Net>,
    modules: Vec<&'static dyn Module>,
    state: Mutex<State>,
    domains: Vec<String>,
}

struct State {
    /// As it is started the next time.
    config: Config,
    up: Option<Up>,
    /// Certificates to be shown instead of those made at start.
    shown: BTreeMap<String, Leaf>,
}

struct Up {
    running: Running,
    addresses: Addresses,
    /// Connections that did not come through the server's own listeners.
    served: JoinSet<()>,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) c2s: SocketAddr,
    pub(crate) c2s_tls: Option<SocketAddr>,
    pub(crate) s2s: Option<SocketAddr>,
    pub(crate) s2s_tls: Option<SocketAddr>,
}

impl Node {
    pub(crate) fn new(config: Config, net: Option<Net>, modules: Vec<&'static dyn Module>) -> Self {
        let domains = config.domains.iter();
        let domains = domains.map(|domain| domain.name.clone()).collect();
        let state = State {
            config,
            up: None,
            shown: BTreeMap::new(),
        };
        Self {
            net,
            modules,
            state: Mutex::new(state),
            domains,
        }
    }

    pub(crate) fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(String::as_str)
    }

    /// Also one that a reload has added.
    pub(crate) fn serves(&self, domain: &str) -> bool {
        self.domains().any(|name| name == domain)
            || self.lock().up.as_ref().is_some_and(|up| {
                let handle = up.running.handle();
                handle.core().settings().hosts.contains_key(domain)
            })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.lock().up.is_some()
    }

    pub(crate) fn handle(&self) -> Handle {
        let state = self.lock();
        let up = state.up.as_ref().expect("the server is up");
        up.running.handle()
    }

    pub(crate) fn addresses(&self) -> Addresses {
        let state = self.lock();
        state.up.as_ref().expect("the server is up").addresses
    }

    pub(crate) fn listeners(&self) -> Vec<(ListenerKind, SocketAddr)> {
        let state = self.lock();
        let up = state.up.as_ref().expect("the server is up");
        let all = up.running.addresses().iter();
        all.flat_map(|(kind, list)| list.iter().map(|address| (*kind, *address)))
            .collect()
    }

    /// The same, also where they are in memory.
    pub(crate) fn doors(&self) -> Vec<(ListenerKind, SocketAddr)> {
        if self.net.is_none() {
            return self.listeners();
        }
        let addresses = self.addresses();
        let doors = [
            (ListenerKind::C2sStartTls, Some(addresses.c2s)),
            (ListenerKind::C2sTls, addresses.c2s_tls),
            (ListenerKind::S2sStartTls, addresses.s2s),
            (ListenerKind::S2sTls, addresses.s2s_tls),
        ];
        let doors = doors.into_iter();
        doors
            .filter_map(|(kind, address)| Some((kind, address?)))
            .collect()
    }

    /// Where other servers reach it; `None`: not at all.
    pub(crate) fn server_address(&self) -> Option<SocketAddr> {
        self.lock().up.as_ref()?.addresses.s2s
    }

    pub(crate) async fn start(&self) -> Result<(), LabError> {
        let config = self.lock().config.clone();
        let running = started(&config, &self.modules).await?;
        let handle = running.handle();
        let mut served = JoinSet::new();
        let addresses = match &self.net {
            Some(net) => listen(net, &handle, &mut served),
            None => Addresses {
                c2s: running
                    .address(ListenerKind::C2sStartTls)
                    .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
                c2s_tls: running.address(ListenerKind::C2sTls),
                s2s: running.address(ListenerKind::S2sStartTls),
                s2s_tls: running.address(ListenerKind::S2sTls),
            },
        };
        let mut state = self.lock();
        for (domain, leaf) in &state.shown {
            put(&handle, domain, leaf);
        }
        // The next life has the same ports, so that whoever comes back finds them.
        if self.net.is_none() {
            keep_ports(&mut state.config, &running);
        }
        state.config.store = Some(handle.core().store.clone());
        state.up = Some(Up {
            running,
            addresses,
            served,
        });
        Ok(())
    }

    /// Nothing when it is down.
    pub(crate) async fn stop(&self) {
        let up = self.lock().up.take();
        let Some(mut up) = up else { return };
        // In memory nobody tells them: they end with the streams, which the server closes.
        up.running.shutdown().await;
        up.served.abort_all();
        self.reopen();
    }

    /// Nothing when it is down.
    pub(crate) fn kill(&self) {
        // First the store: what is under way is never settled.
        self.reopen();
        let up = self.lock().up.take();
        drop(up);
    }

    /// Serves a connection that the caller has made.
    pub(crate) fn serve(
        &self,
        stream: impl Transport + 'static,
        peer: SocketAddr,
        direct_tls: bool,
        from: From,
    ) {
        let mut state = self.lock();
        let up = state.up.as_mut().expect("the server is up");
        let handle = up.running.handle();
        while up.served.try_join_next().is_some() {}
        up.served.spawn(async move {
            let stream = Box::new(stream);
            match from {
                From::Client => handle.serve(stream, peer, direct_tls).await,
                From::Component => handle.serve_component(stream, peer).await,
                From::Server => handle.serve_server(stream, peer, direct_tls).await,
            }
        });
    }

    pub(crate) fn show(&self, domain: &str, leaf: Leaf) {
        let mut state = self.lock();
        if let Some(up) = &state.up {
            put(&up.running.handle(), domain, &leaf);
        }
        state.shown.insert(domain.into(), leaf);
    }

    /// The store as the next process would find it.
    fn reopen(&self) {
        let mut state = self.lock();
        let next = match &state.config.store {
            Some(Store::Memory(store)) => Some(store.reopen()),
            // On disk the next start opens it.
            _ => None,
        };
        state.config.store = next;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its listeners may still be held for a moment by a server that has just ended.
async fn started(config: &Config, modules: &[&'static dyn Module]) -> Result<Running, LabError> {
    let mut rests = tokio::time::interval(BIND_REST);
    for _ in 0..BIND_TRIES {
        match Server::start_with(config.clone(), modules).await {
            Err(StartError::Bind(_, error)) if error.kind() == io::ErrorKind::AddrInUse => {
                rests.tick().await;
            }
            other => return other.map_err(LabError::Start),
        }
    }
    Server::start_with(config.clone(), modules)
        .await
        .map_err(LabError::Start)
}

fn keep_ports(config: &mut Config, running: &Running) {
    let of = |kind| running.addresses().get(&kind).cloned().unwrap_or_default();
    config.c2s.listen = of(ListenerKind::C2sStartTls);
    config.c2s.listen_tls = of(ListenerKind::C2sTls);
    config.s2s.listen = of(ListenerKind::S2sStartTls);
    config.s2s.listen_tls = of(ListenerKind::S2sTls);
    config.component.listen = of(ListenerKind::Component);
}

fn listen(net: &Net, handle: &Handle, served: &mut JoinSet<()>) -> Addresses {
    let mut door = |from_server: bool, direct_tls: bool| {
        let (address, mut arrivals) = net.listen_any();
        let handle = handle.clone();
        served.spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(arrival) = arrivals.recv().await {
                while connections.try_join_next().is_some() {}
                let handle = handle.clone();
                connections.spawn(async move {
                    let (stream, peer) = (Box::new(arrival.stream), arrival.peer);
                    match from_server {
                        true => handle.serve_server(stream, peer, direct_tls).await,
                        false => handle.serve(stream, peer, direct_tls).await,
                    }
                });
            }
        });
        address
    };
    Addresses {
        c2s: door(false, false),
        c2s_tls: Some(door(false, true)),
        s2s: Some(door(true, false)),
        s2s_tls: Some(door(true, true)),
    }
}

fn put(handle: &Handle, domain: &str, leaf: &Leaf) {
    let shown = handle.show_certificate(domain, &leaf.chain_pem, &leaf.key_pem);
    shown.expect("a certificate with its key");
}
