//! One connection of a component: `Acceptor`, driver, queue. One task each.
//!
//! Stanzas that come are taken to the core one after the other, and reading stops while too many of
//! their writes are pending: that is the back-pressure.

use super::bounce;
use super::queue::{Queue, Refusal};
use crate::c2s::Shared;
use crate::core::Core;
use crate::effect::Effect;
use crate::random;
use crate::s2s::arrived::Arrived;
use crate::s2s::receive::Origin;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{Instrument, debug, info, warn};
use xmpp_stream::driver::{Driver, Transport, Turn};
use xmpp_stream::error::{StreamCondition, StreamError};
use xmpp_stream::stanza::{Item, Stanza};
use xmpp_stream::stream::component::{Acceptor, AcceptorConfig, Allowed, Event, Secret};
use xmpp_stream::stream::{CloseReason, Machine, Output};

/// Bytes given to the transport ahead of what it takes.
const AHEAD_BYTES: usize = 64 * 1024;
/// How long the last bytes may take.
const FLUSH: Duration = Duration::from_secs(5);

/// Components by the configuration of the moment.
struct Configured(Arc<Core>);

impl Allowed for Configured {
    fn secret(&self, domain: &str) -> Option<Secret> {
        self.0.settings().components.get(domain).cloned()
    }
}

/// Serves one accepted connection to its end. `on_admitted` runs once when the component is in.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    transport: Box<dyn Transport>,
    peer: SocketAddr,
    on_admitted: impl FnOnce() + Send,
) {
    let span = tracing::info_span!("component", id = %random::token(), peer = %peer);
    let connection = async move {
        debug!("connection accepted");
        let core = Arc::clone(&shared.core);
        let settings = core.settings();
        let Some(local) = settings.hosts.values().next().map(|host| host.jid.clone()) else {
            return;
        };
        let config = AcceptorConfig {
            allowed: Arc::new(Configured(Arc::clone(&core))),
            local,
            limits: Arc::clone(&settings.s2s_limits),
        };
        let machine = Acceptor::new(config, Box::new(random::fill), core.clock.now());
        let mut driver = Box::new(Driver::new(machine, transport));
        let limits = &settings.config.limits;
        driver.set_stall_max(limits.write_stall_max);
        driver.set_read_rate(limits.read_bytes_per_second_max);
        drop(settings);
        let connection = Connection {
            core,
            driver,
            here: None,
            arrived: Arrived::default(),
            failed: Vec::new(),
            on_admitted: Some(on_admitted),
        };
        connection.run(shared.shutdown.clone()).await;
    };
    connection.instrument(span).await;
}

struct Connection<F> {
    core: Arc<Core>,
    driver: Box<Driver<Acceptor>>,
    /// The domain and its queue, once it is in.
    here: Option<(Box<str>, Arc<Queue>)>,
    /// What has come and is not done.
    arrived: Arrived,
    /// Errors to be sent for what could not be stored.
    failed: Vec<Stanza>,
    on_admitted: Option<F>,
}

impl<F: FnOnce() + Send> Connection<F> {
    async fn run(mut self, shutdown: watch::Receiver<bool>) {
        let is_lost = self.connected(shutdown).await;
        if let Some((domain, _)) = self.here.take() {
            info!(%domain, "component has gone");
            // Before it may come back: what it says then is the newer.
            self.core.show_component_gone(&domain).await;
            for stanza in self.core.components.detach(&domain) {
                let effects = bounce(&stanza, Refusal::Absent);
                self.core.run(None, effects.into()).await;
            }
        }
        match is_lost {
            true => self.driver.abandon(),
            false => self.driver.finish(FLUSH).await,
        }
        let wait = self.core.limits.ticket_max;
        let _ = tokio::time::timeout(wait, self.settle()).await;
    }

    /// True when the transport is gone.
    async fn connected(&mut self, mut shutdown: watch::Receiver<bool>) -> bool {
        let mut down = pin!(down(&mut shutdown));
        let mut is_down = false;
        loop {
            while !self.arrived.is_full(&self.core.limits)
                && let Some(output) = self.driver.machine.poll_output()
            {
                if let Some(is_lost) = self.act(output).await {
                    return is_lost;
                }
            }
            self.fill();
            let core = Arc::clone(&self.core);
            let limits = &core.limits;
            let read = self.driver.pending() < AHEAD_BYTES && !self.arrived.is_full(limits);
            let queue = self.here.as_ref().map(|(_, queue)| Arc::clone(queue));
            let has_room = self.driver.pending() < AHEAD_BYTES;
            let (arrived, failed) = (&mut self.arrived, &mut self.failed);
            let waits = !arrived.is_done();
            tokio::select! {
                biased;
                () = &mut down, if !is_down => {
                    is_down = true;
                    let error = StreamError::new(StreamCondition::SystemShutdown);
                    self.driver.machine.close(Some(error), core.clock.now());
                }
                turn = self.driver.turn(read) => match turn {
                    Ok(Turn::Handled) if self.driver.had_its_turn(limits.turn_bytes_max) => {
                        tokio::task::yield_now().await;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        info!(%error, "connection lost");
                        return true;
                    }
                },
                () = poll_fn(|cx| arrived.poll_done(cx, failed)), if waits => {
                    self.tell_failed().await;
                }
                () = filled(queue.as_deref()), if has_room => {}
            }
        }
    }

    /// Gives the transport what it may have ahead.
    fn fill(&mut self) {
        let Some((_, queue)) = &self.here else { return };
        while self.driver.pending() < AHEAD_BYTES
            && self.driver.machine.is_open()
            && let Some(stanza) = queue.pop()
        {
            self.driver.machine.send::<()>(&Item::One(Box::new(stanza)));
        }
    }

    /// Carries out one output of the machine; `Some(true)`: the transport is gone.
    async fn act(&mut self, output: Output) -> Option<bool> {
        match output {
            Output::Component(Event::Authenticated { domain }) => self.admit(domain),
            Output::Stanza(stanza) => self.stanza(stanza).await,
            Output::Refused(refused) => {
                warn!(condition = %refused.condition, "stanza refused");
                if let Some(reply) = refused.reply() {
                    self.core.run(None, vec![Effect::route(reply)].into()).await;
                }
            }
            Output::Closed(reason) => return Some(self.closed(&reason)),
            _ => {}
        }
        None
    }

    fn admit(&mut self, domain: Box<str>) {
        let result = match self.core.components.attach(&domain) {
            Some((queue, was_here)) => {
                info!(%domain, "component is here");
                if was_here {
                    let asking = Arc::clone(&self.core).ask_component_again(domain.clone());
                    self.core.s2s.spawn(Box::pin(asking));
                }
                self.here = Some((domain, queue));
                if let Some(on_admitted) = self.on_admitted.take() {
                    on_admitted();
                }
                Ok(())
            }
            None => {
                warn!(%domain, "a second connection of a component was refused");
                let error = StreamError::new(StreamCondition::Conflict);
                Err(error.with_text("this component is connected already"))
            }
        };
        let now = self.core.clock.now();
        self.driver.machine.admitted(result, now);
    }

    async fn stanza(&mut self, stanza: Stanza) {
        let core = Arc::clone(&self.core);
        let settings = core.settings();
        let is_allowed = |(domain, _): &(Box<str>, _)| settings.components.contains_key(domain);
        if !self.here.as_ref().is_some_and(is_allowed) {
            // A reload took it away.
            let error = StreamError::new(StreamCondition::HostGone);
            return self.driver.machine.close(Some(error), core.clock.now());
        }
        drop(settings);
        let bytes = stanza.wire_len();
        let received = Box::pin(core.from_remote(stanza, None, Origin::Component)).await;
        self.arrived.push(received.owed, bytes);
        if received.soft {
            tokio::time::sleep(core.limits.outbox_pause_max).await;
        }
    }

    fn closed(&self, reason: &CloseReason) -> bool {
        match reason {
            CloseReason::Ours(error) => {
                let metrics = &self.core.tap.metrics;
                metrics.stream_errors.count_at(error.condition as usize);
                warn!(condition = %error.condition, "stream closed by us");
            }
            CloseReason::Theirs(error) => {
                info!(condition = %error.condition, "stream closed by the component with an error");
            }
            CloseReason::Eof => {
                info!("connection ended without a closing tag");
                return true;
            }
            _ => debug!("stream closed"),
        }
        false
    }

    /// Waits until everything that came is done.
    async fn settle(&mut self) {
        while !self.arrived.is_done() {
            let (arrived, failed) = (&mut self.arrived, &mut self.failed);
            poll_fn(|cx| arrived.poll_done(cx, failed)).await;
        }
        self.tell_failed().await;
    }

    async fn tell_failed(&mut self) {
        for reply in std::mem::take(&mut self.failed) {
            self.core.run(None, vec![Effect::route(reply)].into()).await;
        }
    }
}

async fn down(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|down| *down).await.is_err() {
        std::future::pending().await
    }
}

async fn filled(queue: Option<&Queue>) {
    match queue {
        Some(queue) => queue.wait().await,
        None => std::future::pending().await,
    }
}
