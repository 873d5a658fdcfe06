//! What a reload replaces while the server runs: the configuration, the served domains and which
//! modules are on for each. One value behind one lock; readers take the `Arc` and let go.

use crate::component;
use crate::config::Config;
use crate::core::Core;
use crate::host::{Host, Policy};
use crate::modules::{self, Module, ModuleSet, RegisterError};
use crate::router::HostMap;
use crate::s2s::{Network, NetworkError};
use crate::store::StoreError;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use xmpp_stream::error::StreamCondition;
use xmpp_stream::jid::JidError;
use xmpp_stream::limits::{Limits as StreamLimits, XmlLimits};
use xmpp_stream::stream::component::Secret;

/// Configuration and domains in force.
#[derive(Debug)]
pub struct Settings {
    /// The configuration, without what only a start changes.
    pub config: Config,
    /// Served domains.
    pub hosts: HostMap,
    /// Bounds of new streams.
    pub(crate) stream_limits: Arc<StreamLimits>,
    /// The same for streams of other servers.
    pub(crate) s2s_limits: Arc<StreamLimits>,
    /// Modules by the names of those that are off: most domains have the same, and what a module
    /// remembers stays over a reload.
    pub(crate) sets: HashMap<Vec<String>, Arc<ModuleSet>>,
    /// How other domains are found; `None`: there are no links.
    pub(crate) network: Option<Arc<Network>>,
    /// Components that may come, by domain.
    pub(crate) components: HashMap<Box<str>, Secret>,
}

/// Why a configuration makes no settings.
#[derive(Debug)]
#[non_exhaustive]
pub enum SettingsError {
    /// A domain name.
    Domain(JidError),
    /// Two modules want the same query.
    Module(RegisterError),
    /// Anchors of other servers' certificates.
    Network(NetworkError),
}

impl Settings {
    /// Domains with the modules of this package that are on for them, and `more` on all. What was
    /// in force `before` gives its modules, where they are the same.
    ///
    /// # Errors
    /// `SettingsError`.
    pub fn new(
        config: Config,
        more: &[&'static dyn Module],
        before: Option<&Self>,
    ) -> Result<Self, SettingsError> {
        let mut hosts = HostMap::new();
        let mut sets = HashMap::new();
        for domain in &config.domains {
            let off = config.modules.off.iter().chain(&domain.modules_off);
            let mut off: Vec<String> = off.cloned().collect();
            off.sort_unstable();
            off.dedup();
            let known = sets.get(&off);
            let known = known.or_else(|| before.and_then(|before| before.sets.get(&off)));
            let modules = match known {
                Some(modules) => Arc::clone(modules),
                None => {
                    let mut on = modules::enabled(&off);
                    on.extend_from_slice(more);
                    let made = ModuleSet::new(&on).map_err(SettingsError::Module)?;
                    Arc::new(made)
                }
            };
            sets.insert(off, Arc::clone(&modules));
            let items = component::below(&config, &domain.name);
            let policy = Policy::new(domain.clone(), modules).with_components(items);
            let host = Host::new(policy).map_err(SettingsError::Domain)?;
            hosts.insert(host.domain.clone(), Arc::new(host));
        }
        let network = match config.s2s.enabled {
            true => {
                let before = before.and_then(|before| before.network.as_deref());
                let network = Network::new(&config, before).map_err(SettingsError::Network)?;
                Some(Arc::new(network))
            }
            false => None,
        };
        let allow = config.component.allow.iter();
        let components = allow.map(|one| (one.domain.clone(), one.secret.clone()));
        let components: HashMap<_, _> = components.collect();
        Ok(Self {
            // A domain of ours is no component's, whatever the file says.
            components: components
                .into_iter()
                .filter(|(domain, _)| !hosts.contains_key(domain))
                .collect(),
            network,
            s2s_limits: Arc::new(StreamLimits {
                after_auth: XmlLimits::s2s(),
                ..config.limits.stream
            }),
            stream_limits: Arc::new(config.limits.stream),
            config,
            hosts,
            sets,
        })
    }
}

impl Settings {
    /// Stanzas of this domain (prepared name) are ours: a served one's, or a component's.
    pub(crate) fn serves(&self, domain: &str) -> bool {
        self.hosts.contains_key(domain) || self.components.contains_key(domain)
    }
}

impl Core {
    /// The settings of this moment; whoever decides several things together takes them once.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A served domain.
    #[must_use]
    pub fn host(&self, domain: &str) -> Option<Arc<Host>> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        settings.hosts.get(domain).map(Arc::clone)
    }

    /// Puts new settings in force. Domains that stay keep their `Host`; sessions of those that go
    /// end with host-gone, and their contacts are told, before nobody knows the domain any more.
    pub(crate) async fn replace_settings(self: &Arc<Self>, new: Settings) {
        let old = self.settings();
        let mut hosts = new.hosts;
        for (domain, host) in &mut hosts {
            if let Some(stays) = old.hosts.get(domain) {
                stays.set_policy(host.policy());
                *host = Arc::clone(stays);
            }
        }
        let gone = old.hosts.values();
        for host in gone.filter(|host| !hosts.contains_key(&host.domain)) {
            host.leave();
            self.end_sessions_of(host).await;
        }
        let settings = Settings {
            stream_limits: new.stream_limits,
            s2s_limits: new.s2s_limits,
            config: new.config,
            hosts,
            sets: new.sets,
            network: new.network,
            components: new.components,
        };
        let mut place = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(settings);
    }

    /// Before a domain is served: which SCRAM hashes its accounts allow.
    pub(crate) async fn learn_offers<'a>(
        &self,
        domains: impl Iterator<Item = &'a Box<str>>,
    ) -> Result<(), StoreError> {
        self.offers
            .learn(&self.store, domains.map(|name| &**name))
            .await
    }

    async fn end_sessions_of(self: &Arc<Self>, host: &Host) {
        for account in self.registry.of_domain(&host.domain) {
            let sessions = account.lock().sessions.clone();
            let mut effects = Vec::new();
            for entry in sessions {
                effects.extend(self.end_with(&account, &entry, StreamCondition::HostGone));
            }
            self.run(None, effects.into()).await;
        }
    }
}
