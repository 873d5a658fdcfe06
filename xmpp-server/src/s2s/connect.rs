//! From a domain's name to a stream to its server: DNS, addresses, TLS, proof; each step's failure
//! in words.
//!
//! RFC 6120 sections 3.2 and 4.3, XEP-0368. Used by links, by questions about dialback keys, and by
//! `s2s check`, which shows the steps as they go.

use super::cause::Cause;
use super::incoming::rule;
use super::link::Step;
use super::trust;
use crate::core::Core;
use crate::random;
use crate::settings::Settings;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use xmpp_stream::dial::{Pace, dial};
use xmpp_stream::driver::{Driver, Transport};
use xmpp_stream::resolve::{Candidate, Found, Service, Unanswered, Way};
use xmpp_stream::stream::s2s::Link as Negotiated;
use xmpp_stream::stream::s2s::{
    Answer, Caller, CallerConfig, Dialback, Event, KeyCheck, Manage, Pair, PeerVerdict, Purpose,
};
use xmpp_stream::stream::{CloseReason, Failure, Machine, Output, TlsRule};

/// How long the last bytes and the closing of TLS may take.
pub(super) const FLUSH: Duration = Duration::from_secs(5);

/// A stream on which stanzas may flow.
pub(super) struct Connected {
    pub(super) driver: Box<Driver<Caller>>,
    pub(super) link: Negotiated,
    pub(super) address: SocketAddr,
    pub(super) direct_tls: bool,
}

/// What is shown of a connection that is being made.
pub(super) trait Watcher: Sync {
    /// The next step begins.
    fn step(&self, step: Step);
    /// Something came of it.
    fn told(&self, _line: &dyn fmt::Display) {}
    /// It failed.
    fn failed(&self, _line: &dyn fmt::Display) {}
}

impl<F: Fn(Step) + Sync> Watcher for F {
    fn step(&self, step: Step) {
        self(step);
    }
}

/// What a connection is made for.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// To send stanzas.
    Stanzas(Manage),
    /// To have a dialback key verified.
    Verify(KeyCheck),
}

/// How a connection is to be.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) what: What,
    /// Stanzas may come back on it.
    pub(super) bidi: bool,
}

/// What came of it.
pub(super) enum Outcome {
    Stream(Box<Connected>),
    Answer(Answer),
}

/// Connects to the server of `pair.to`: its servers by their order, of each the address that
/// answers first.
///
/// # Errors
/// The cause at the server that got furthest.
pub(super) async fn connect(
    core: &Arc<Core>,
    pair: &Pair,
    wish: &Wish,
    watcher: &dyn Watcher,
) -> Result<Outcome, Cause> {
    let within = core.limits.s2s_connect_max;
    let made = tokio::time::timeout(within, connect_to_any(core, pair, wish, watcher));
    made.await
        .unwrap_or(Err(Cause::Negotiation(Failure::Timeout)))
}

async fn connect_to_any(
    core: &Arc<Core>,
    pair: &Pair,
    wish: &Wish,
    watcher: &dyn Watcher,
) -> Result<Outcome, Cause> {
    let settings = core.settings();
    if !settings.config.s2s.admits(&pair.to) {
        return Err(Cause::Denied);
    }
    let Some(network) = &settings.network else {
        return Err(Cause::Off);
    };
    watcher.step(Step::Resolve);
    let mut chance = random::fill;
    let resolver = &network.resolver;
    let found = resolver.find(&pair.to, Service::Server, Way::Any, &mut chance);
    let found = found.await.map_err(Cause::Resolve)?;
    for candidate in &found.candidates {
        watcher.told(&format_args!("its server is {candidate}"));
    }
    let mut worst: Option<Cause> = None;
    for candidate in &found.candidates {
        watcher.step(Step::Dial);
        let cause = match dial_one(&settings, candidate, &found, watcher).await {
            Ok((address, transport)) => {
                watcher.told(&format_args!("{address} answers"));
                watcher.step(Step::Negotiate);
                let stream = Opening {
                    core,
                    settings: &settings,
                    pair,
                    wish,
                    watcher,
                };
                let opened = Box::pin(stream.open(candidate, address, transport)).await;
                match opened {
                    Ok(outcome) => return Ok(outcome),
                    Err(cause) => cause,
                }
            }
            Err(cause) => cause,
        };
        watcher.failed(&cause);
        // Whoever got further says more.
        match worst.as_ref().map(Cause::depth) {
            Some(depth) if depth >= cause.depth() => {}
            _ => worst = Some(cause),
        }
    }
    Err(worst.unwrap_or(Cause::NoSuchDomain))
}

async fn dial_one(
    settings: &Settings,
    candidate: &Candidate,
    found: &Found,
    watcher: &dyn Watcher,
) -> Result<(SocketAddr, Box<dyn Transport>), Cause> {
    let Some(network) = &settings.network else {
        return Err(Cause::Off);
    };
    let unanswered = || found.unanswered.first().cloned();
    let addresses = match network.resolver.addresses(&candidate.host).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let name = candidate.host.to_string().into();
            return Err(Cause::Dns(
                unanswered().unwrap_or(Unanswered { name, error }),
            ));
        }
    };
    if addresses.is_empty() {
        // Where records of the service are not known, none of the domain itself may be either.
        return Err(match unanswered() {
            Some(unanswered) => Cause::Dns(unanswered),
            None => Cause::NoSuchDomain,
        });
    }
    let addresses: Vec<_> = addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, candidate.port))
        .collect();
    for address in &addresses {
        watcher.told(&format_args!("trying {address}"));
    }
    let dialer = &network.dialer;
    let connect = |address| dialer.connect(address);
    let dialed = dial(&addresses, Pace::default(), connect).await;
    match dialed.connected {
        Some((address, stream)) => Ok((address, stream)),
        None => {
            let missed = dialed.missed.iter();
            let missed = missed.map(|missed| (missed.address, missed.error.kind()));
            Err(Cause::Unreachable(missed.collect()))
        }
    }
}

/// A stream being negotiated.
struct Opening<'a> {
    core: &'a Arc<Core>,
    settings: &'a Settings,
    pair: &'a Pair,
    wish: &'a Wish,
    watcher: &'a dyn Watcher,
}

impl Opening<'_> {
    async fn open(
        &self,
        candidate: &Candidate,
        address: SocketAddr,
        transport: Box<dyn Transport>,
    ) -> Result<Outcome, Cause> {
        let direct_tls = candidate.direct_tls;
        let now = self.core.clock.now();
        let config = self.config(direct_tls);
        let mut machine = Caller::new(config, Box::new(random::fill), now);
        if let What::Verify(check) = &self.wish.what {
            machine.verify(check.clone());
        }
        let mut driver = Box::new(Driver::new(machine, transport));
        driver.set_stall_max(self.core.limits.write_stall_max);
        if direct_tls {
            self.tls(&mut driver, true).await?;
        }
        loop {
            while let Some(output) = driver.machine.poll_output() {
                match output {
                    Output::StartTls { .. } => self.tls(&mut driver, false).await?,
                    Output::Server(Event::CheckPeer { peer, .. }) => {
                        let tls = driver.machine.tls();
                        let verdict = trust::verdict(self.core, self.settings, tls, &peer);
                        if let PeerVerdict::Untrusted(cause) = &verdict {
                            self.watcher.failed(cause);
                        }
                        driver.machine.peer_checked(verdict, self.core.clock.now());
                    }
                    Output::Server(Event::Established(link)) => {
                        return Ok(Outcome::Stream(Box::new(Connected {
                            driver,
                            link,
                            address,
                            direct_tls,
                        })));
                    }
                    Output::Server(Event::Verified(_, answer)) => {
                        driver.machine.close(None, self.core.clock.now());
                        tokio::spawn(async move { driver.finish(FLUSH).await });
                        return Ok(Outcome::Answer(answer));
                    }
                    Output::PeerClosing => driver.machine.finish_close(None),
                    Output::Closed(reason) => {
                        tokio::spawn(async move { driver.finish(FLUSH).await });
                        return Err(cause_of(reason));
                    }
                    _ => {}
                }
            }
            driver.turn(true).await.map_err(|_| Cause::Lost)?;
        }
    }

    fn config(&self, direct_tls: bool) -> CallerConfig {
        let s2s = &self.settings.config.s2s;
        let (purpose, manage) = match &self.wish.what {
            What::Stanzas(manage) => (Purpose::Stanzas, manage.clone()),
            What::Verify(_) => (Purpose::Verify, Manage::Off),
        };
        let dialback = rule(s2s.dialback);
        CallerConfig {
            pair: self.pair.clone(),
            purpose,
            tls: match (direct_tls, s2s.require_tls) {
                (true, _) => TlsRule::Direct,
                (false, true) => TlsRule::Required,
                (false, false) => TlsRule::Optional,
            },
            external: true,
            dialback,
            // Where dialback proves a domain, DNS is what is believed.
            accepts_untrusted: dialback != Dialback::Never,
            secret: self.core.s2s.secret.clone(),
            bidi: self.wish.bidi,
            manage,
            limits: Arc::clone(&self.settings.s2s_limits),
        }
    }

    async fn tls(&self, driver: &mut Driver<Caller>, direct: bool) -> Result<(), Cause> {
        let failed = |words: &dyn fmt::Display| Cause::Tls(words.to_string().into());
        let config = self.core.s2s.client_tls(&self.pair.from, direct);
        let config = config.ok_or_else(|| failed(&"this server has no certificate"))?;
        let name = xmpp_stream::tls::server_name(&self.pair.to);
        let name = name.map_err(|error| failed(&error))?;
        let info = driver.connect_tls(config, name).await;
        let info = info.map_err(|error| failed(&error))?;
        self.watcher
            .told(&format_args!("{} with {}", info.version, info.cipher));
        Ok(())
    }
}

fn cause_of(reason: CloseReason) -> Cause {
    match reason {
        CloseReason::Failed(failure) => Cause::Negotiation(failure),
        CloseReason::Theirs(error) => Cause::Closed(error),
        CloseReason::Ours(error) => Cause::Ours(error),
        _ => Cause::Lost,
    }
}
