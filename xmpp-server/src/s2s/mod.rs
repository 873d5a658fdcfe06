//! Links to other servers: who goes where, what comes in, what is told to whom.
//!
//! RFC 6120 sections 10.4 and 13; DESIGN 9 and 10. A link is one domain pair's way out (`link`), one
//! task makes its streams (`outgoing`). What comes in is proven on its stream (`incoming`) and then
//! treated by the core like what any sender without an account here sends.

mod absence;
pub(crate) mod arrived;
mod back;
mod carrier;
pub mod cause;
pub mod check;
mod connect;
pub mod incoming;
mod intake;
mod link;
pub mod list;
mod network;
mod outgoing;
mod pings;
mod policy;
pub(crate) mod receive;
mod repeats;
mod resent;
mod restore;
mod resume;
mod rows;
mod send;
mod trust;
mod verify;

pub use cause::Cause;
pub(crate) use network::Network;
pub use network::NetworkError;

use crate::limits::Limits;
use crate::listener::Certificates;
use crate::random;
use link::Link;
use rustls::ClientConfig;
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use xmpp_stream::stream::s2s::{Pair, Secret};

/// The links of a server, both ways.
pub struct Federation {
    /// Ways out by our domain, then by theirs.
    links: RwLock<Links>,
    all_bytes: Arc<AtomicUsize>,
    /// Tasks of links.
    tasks: Mutex<JoinSet<()>>,
    down: watch::Sender<bool>,
    /// Dialback keys are made of it.
    pub(crate) secret: Secret,
    /// Streams that come in, for operators.
    pub(crate) arrivals: list::Arrivals,
    /// Those of them that may be resumed.
    pub(crate) resumable: resume::Resumable,
    /// What the log has said of peers.
    pub(crate) repeats: repeats::Repeats,
    /// What our domains show; there from the start of a server on.
    certificates: OnceLock<Arc<Certificates>>,
}

#[derive(Default)]
struct Links {
    by_domain: HashMap<Box<str>, HashMap<Box<str>, Arc<Link>>>,
    count: usize,
}

impl Federation {
    /// Nobody linked yet; keys are made of a secret that only this server has.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            links: RwLock::default(),
            all_bytes: Arc::default(),
            tasks: Mutex::default(),
            down: watch::Sender::new(false),
            secret: Secret::new(secret),
            arrivals: list::Arrivals::default(),
            resumable: resume::Resumable::default(),
            repeats: repeats::Repeats::default(),
            certificates: OnceLock::new(),
        }
    }

    /// What our domains show to others.
    pub(crate) fn show(&self, certificates: Arc<Certificates>) {
        let _ = self.certificates.set(certificates);
    }

    /// How a domain of ours calls others.
    fn client_tls(&self, domain: &str, direct: bool) -> Option<Arc<ClientConfig>> {
        self.certificates.get()?.call(domain, direct)
    }

    /// The way from one domain to another, if somebody has used it lately.
    pub(crate) fn known(&self, from: &str, to: &str) -> Option<Arc<Link>> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.by_domain.get(from)?.get(to).cloned()
    }

    /// The same, made when there is none; `None`: there are too many.
    pub(crate) fn link(&self, pair: Pair, now: Instant, limits: &Limits) -> Option<Arc<Link>> {
        if let Some(link) = self.known(&pair.from, &pair.to) {
            return Some(link);
        }
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if links.count >= limits.s2s_links_max {
            links.forget_idle(now);
        }
        if links.count >= limits.s2s_links_max {
            return None;
        }
        let Links { by_domain, count } = &mut *links;
        let link = by_domain
            .entry(pair.from.clone())
            .or_default()
            .entry(pair.to.clone())
            .or_insert_with(|| {
                *count += 1;
                Arc::new(Link::new(pair, Arc::clone(&self.all_bytes)))
            });
        Some(Arc::clone(link))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let all = links.by_domain.values().flat_map(HashMap::values);
        all.cloned().collect()
    }

    /// A task that ends with the server.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        if !*self.down.borrow() {
            tasks.spawn(task);
        }
    }

    /// Turns true when the links are to end.
    pub(crate) fn down(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    /// What waits and can be sent at once goes out, then the streams close.
    pub(crate) async fn close(&self, within: Duration) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            self.down.send_replace(true);
            std::mem::take(&mut *tasks)
        };
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::warn!("not every link ended in time");
        }
    }

    /// Ends everything at once.
    pub(crate) fn abort(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
    }
}

impl Links {
    /// Links that nobody uses and of which nothing has to be remembered.
    fn forget_idle(&mut self, now: Instant) {
        let mut kept = 0;
        for links in self.by_domain.values_mut() {
            links.retain(|_, link| link.is_needed(now));
            kept += links.len();
        }
        self.by_domain.retain(|_, links| !links.is_empty());
        self.count = kept;
    }
}

/// 64 random bits for delays.
fn chance() -> u64 {
    random::bits()
}
