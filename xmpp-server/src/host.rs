//! One served domain: its address, and the policy that a reload may change.

use crate::config::{DomainConfig, Registration};
use crate::modules::ModuleSet;
use bytes::Bytes;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use xmpp_stream::jid::{Jid, JidError};
use xmpp_stream::ns;

/// A domain this server answers for: one value from the day it is served to the day it is not, so
/// that a session may keep it.
pub struct Host {
    /// The domain in prepared form.
    pub domain: Box<str>,
    /// The domain as an address.
    pub jid: Jid,
    policy: RwLock<Arc<Policy>>,
    leaving: AtomicBool,
}

/// What a domain does and lets do.
#[derive(Debug)]
pub struct Policy {
    /// Its part of the configuration.
    pub config: DomainConfig,
    /// The modules that are on for it.
    pub modules: Arc<ModuleSet>,
    /// Domains of components that belong to it: its items (XEP-0030).
    pub components: Vec<Box<str>>,
    /// Stream features of those modules as they are written.
    features: OnceLock<Bytes>,
}

impl Policy {
    /// What a configuration makes of these modules.
    #[must_use]
    pub fn new(config: DomainConfig, modules: Arc<ModuleSet>) -> Self {
        Self {
            config,
            modules,
            components: Vec::new(),
            features: OnceLock::new(),
        }
    }

    /// The same with the components that belong to the domain.
    #[must_use]
    pub fn with_components(mut self, components: Vec<Box<str>>) -> Self {
        self.components = components;
        self
    }
}

impl Host {
    /// A domain with its policy.
    ///
    /// # Errors
    /// `JidError::Domain` when its name is none.
    pub fn new(policy: Policy) -> Result<Self, JidError> {
        let jid = Jid::domain_only(&policy.config.name)?;
        Ok(Self {
            domain: jid.domain().into(),
            jid,
            policy: RwLock::new(Arc::new(policy)),
            leaving: AtomicBool::new(false),
        })
    }

    /// The policy of this moment.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The modules that are on at this moment.
    #[must_use]
    pub fn modules(&self) -> Arc<ModuleSet> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&policy.modules)
    }

    /// Stream features after login: written once, as every stream has them and the hash in one of
    /// them is not cheap (XEP-0115 section 5).
    pub(crate) fn features_after_auth(&self) -> Bytes {
        let policy = self.policy();
        let write = || {
            let mut out = Vec::new();
            for feature in policy.modules.announced.stream_features_of(self) {
                feature.write(&mut out, ns::STREAMS);
            }
            out.into()
        };
        policy.features.get_or_init(write).clone()
    }

    /// From the next stanza on.
    pub(crate) fn set_policy(&self, policy: Arc<Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// True from when a reload took the domain away: its sessions end, and no new one begins.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// May a peer at this address register an account (XEP-0077)?
    #[must_use]
    pub fn may_register(&self, peer: IpAddr) -> bool {
        match self.policy().config.registration {
            Registration::Closed => false,
            Registration::Loopback => peer.to_canonical().is_loopback(),
            Registration::Open => true,
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}
