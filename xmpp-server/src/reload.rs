//! A running server takes a new configuration and changed certificates, with no connection dropped.
//!
//! DESIGN 1. All or nothing: what does not load leaves everything as it was. Listeners, data
//! directory, storage and the form of the log belong to the start; a change there is named and left.

use crate::certificates::{self, ByDomain, Source};
use crate::config::Config;
use crate::modules::{self, Module};
use crate::server::{Handle, StartError};
use crate::settings::{Settings, SettingsError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// How often the files of certificates are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What a reload needs beside what connections share.
pub(crate) struct Reload {
    /// Modules that the embedding program brought.
    pub(crate) more: Vec<&'static dyn Module>,
    /// Where certificates come from.
    pub(crate) source: Mutex<Source>,
    /// Held while one runs.
    pub(crate) busy: tokio::sync::Mutex<()>,
}

impl Handle {
    /// Puts a configuration in force while the server runs.
    ///
    /// # Errors
    /// What a start would fail on; then nothing has changed.
    pub async fn reload(&self, mut config: Config) -> Result<(), StartError> {
        let _one = self.reload.busy.lock().await;
        let core = &self.shared.core;
        let named = modules::ALL.iter().chain(&self.reload.more);
        let known: Vec<&str> = named.map(|module| module.info().name).collect();
        config.check_modules(&known).map_err(StartError::Config)?;
        let kept = config.keep_fixed(&core.settings().config);
        let settings = Settings::new(config.clone(), &self.reload.more, Some(&core.settings()))
            .map_err(to_start)?;
        let learnt = core.learn_offers(settings.hosts.keys()).await;
        learnt.map_err(StartError::Store)?;
        let now = core.clock.system_now();
        let fallback = fallback(&config);
        let by_domain = self
            .with_source(move |source| source.load(&config, now))
            .await;
        self.shared.certificates.replace(by_domain?, fallback);
        core.replace_settings(settings).await;
        for key in kept {
            warn!(key, "changed, but ignored until the next start");
        }
        Ok(())
    }

    /// Shows this certificate for a domain from the next handshake on, until a reload.
    ///
    /// # Errors
    /// It does not parse, or the key is another one's.
    pub fn show_certificate(
        &self,
        domain: &str,
        chain_pem: &str,
        key_pem: &str,
    ) -> Result<(), StartError> {
        let s2s = self.shared.core.settings().config.s2s.enabled;
        let clients = self.shared.certificates.clients(domain);
        let pair = (chain_pem, key_pem);
        let tls = certificates::domain_tls(domain, pair, s2s, clients)?;
        self.shared.certificates.renew(domain, Arc::new(tls));
        Ok(())
    }

    /// Takes certificates whose files changed; gives the domains.
    pub async fn renew_certificates(&self) -> Vec<Box<str>> {
        let _one = self.reload.busy.lock().await;
        if !self.reload.source().has_files() {
            return Vec::new();
        }
        let core = &self.shared.core;
        let (settings, now) = (core.settings(), core.clock.system_now());
        let changed: ByDomain = self
            .with_source(move |source| source.changed(&settings.config, now))
            .await;
        for (domain, tls) in &changed {
            self.shared.certificates.renew(domain, Arc::clone(tls));
            info!(%domain, "certificate reloaded");
        }
        changed.into_keys().collect()
    }

    /// Off the task: files may lie on a slow disk.
    async fn with_source<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Source) -> T + Send + 'static,
    ) -> T {
        let reload = Arc::clone(&self.reload);
        let done = tokio::task::spawn_blocking(move || work(&mut reload.source()));
        match done.await {
            Ok(done) => done,
            // The process is ending: nobody waits for an answer any more.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Reload {
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The domain whose certificate is shown to who names none of ours: the first.
pub(crate) fn fallback(config: &Config) -> Box<str> {
    let first = config.domains.first();
    first.map_or("", |domain| &*domain.name).into()
}

/// Until the server goes down.
pub(crate) async fn watch_certificates(handle: Handle) {
    let mut shutdown = handle.shared.shutdown.clone();
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = shutdown.wait_for(|down| *down) => return,
            _ = ticks.tick() => {}
        }
        handle.renew_certificates().await;
    }
}

pub(crate) fn to_start(error: SettingsError) -> StartError {
    match error {
        SettingsError::Domain(error) => StartError::Domain(error),
        SettingsError::Module(error) => StartError::Module(error),
        SettingsError::Network(error) => StartError::Network(error),
    }
}
