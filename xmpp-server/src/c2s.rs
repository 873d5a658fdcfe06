//! One client connection: `Responder`, driver and, once bound, its session. One task each.
//!
//! RFC 6120 section 4 is the machine's business, section 10 the core's; this file carries between
//! them. It acts on one stanza after the other: that is the back-pressure. With stream management
//! the session outlives its connection (`live`).

mod closing;
mod hosts;
mod live;
mod login;
mod postponed;
mod writing;

use crate::core::Core;
use crate::listener::Certificates;
use crate::random;
use crate::session::visit::Handover;
use crate::sessions::Link;
use hosts::PeerHosts;
use live::{Event, Live, Visited, event};
use smallvec::SmallVec;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{Instrument, debug, info, warn};
use writing::work_on;
use xmpp_stream::driver::{Driver, Transport, Turn};
use xmpp_stream::error::{StanzaError, StreamCondition, StreamError};
use xmpp_stream::jid::BareJid;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::{
    Machine, NotResumed, Output, Responder, ResponderConfig, SmRequest, TlsRule,
};
use xmpp_stream::xml::Refused;

/// One TLS record: what is worth one write (DESIGN 5 step 6).
const WRITE_BYTES: usize = 16 * 1024;
/// Bytes that a peer may leave untaken before it is no longer read: a few records.
const UNREAD_BYTES: usize = 4 * WRITE_BYTES;
/// How long the last bytes and the closing of TLS may take.
const FLUSH: Duration = Duration::from_secs(5);

/// What all connections of the server share.
pub struct Shared {
    /// Accounts, routes, modules.
    pub core: Arc<Core>,
    /// Certificates by domain.
    pub certificates: Arc<Certificates>,
    /// Turns true when the server goes down.
    pub shutdown: watch::Receiver<bool>,
}

/// Serves one accepted connection to its end. `limits` of its listener count it from before this call.
/// `login` runs once when the peer has signed in and bound.
pub async fn serve(
    shared: Arc<Shared>,
    transport: Box<dyn Transport>,
    peer: SocketAddr,
    direct_tls: bool,
    on_login: impl FnOnce() + Send,
) {
    let span = tracing::info_span!(
        "c2s",
        id = %random::token(),
        peer = %peer,
        jid = tracing::field::Empty,
    );
    let connection = async move {
        debug!("connection accepted");
        let settings = shared.core.settings();
        let tls = match (direct_tls, settings.config.c2s.require_tls) {
            (true, _) => TlsRule::Direct,
            (false, true) => TlsRule::Required,
            (false, false) => TlsRule::Optional,
        };
        let hosts = PeerHosts {
            shared: Arc::clone(&shared),
            peer,
        };
        let config = ResponderConfig {
            hosts: Arc::new(hosts),
            limits: Arc::clone(&settings.stream_limits),
            tls,
            downgrade_protection: settings.config.sasl.downgrade_protection,
            manage: true,
        };
        let now = shared.core.clock.now();
        let machine = Responder::new(config, Box::new(random::fill), now);
        let mut connection = Connection {
            driver: Box::new(Driver::new(machine, transport)),
            shared,
            peer,
            link: Link::from(peer),
            trying: None,
            form_refused: false,
            secure: false,
            live: None,
            on_login: Some(on_login),
        };
        let (limits, driver) = (&settings.config.limits, &mut connection.driver);
        driver.set_stall_max(limits.write_stall_max);
        driver.set_read_rate(limits.read_bytes_per_second_max);
        drop(settings);
        if direct_tls && !Box::pin(connection.handshake(None)).await {
            return;
        }
        connection.run().await;
    };
    connection.instrument(span).await;
}

/// In boxes is what moves, and every future that is not waited on most of the time: a session has its
/// place for the largest of the others as long as it lives.
struct Connection<F> {
    shared: Arc<Shared>,
    driver: Box<Driver<Responder>>,
    peer: SocketAddr,
    /// What operators are shown of it.
    link: Link,
    /// The account of a login under way, or its stand-in.
    trying: Option<BareJid>,
    /// A login was refused for its form, and the log said so.
    form_refused: bool,
    secure: bool,
    /// The session, once one is bound.
    live: Option<Box<Live>>,
    on_login: Option<F>,
}

/// What follows on a stretch of a connection.
enum Next {
    /// More of the same.
    Go,
    /// The stream is over; there may be bytes left to write.
    Closed,
    /// The transport is gone without a word.
    Lost,
    /// The client has to sign in anew (row lm-08); its session waits for that.
    Reset,
    /// The client wants to go on with an earlier stream.
    Resume {
        account: BareJid,
        previd: Box<str>,
        h: u32,
    },
    /// The client does so, over another transport.
    TakenOver(Box<Handover>),
}

/// What is left of a stanza: all of it, or what it has brought about.
struct Rest {
    stanza: Option<Stanza>,
    bytes: usize,
}

impl<F: FnOnce() + Send> Connection<F> {
    async fn run(mut self) {
        loop {
            let next = self.connected().await;
            let next = match next {
                Next::Resume { account, previd, h } => {
                    match Box::pin(self.hand_over(&account, &previd, h)).await {
                        Some(same) => self = same,
                        None => return,
                    }
                    continue;
                }
                next => next,
            };
            let handover = match (next, self.live.take()) {
                (Next::Closed, live) => {
                    return Box::pin(over(&self.shared.core, self.driver, live)).await;
                }
                (Next::TakenOver(handover), Some(live)) => {
                    replaced(self.driver, &self.shared.core);
                    Some((live, handover))
                }
                (next, Some(live)) if live.is_resumable() => {
                    let mut driver = self.driver;
                    match next {
                        Next::Reset => {
                            drop(tokio::spawn(async move { driver.finish(FLUSH).await }))
                        }
                        _ => drop(driver),
                    }
                    Box::pin(live.hibernate(&self.shared)).await
                }
                (_, Some(live)) => {
                    Box::pin(live.end(&self.shared.core)).await;
                    None
                }
                (_, None) => None,
            };
            let Some((live, handover)) = handover else {
                return;
            };
            let going_on = Box::pin(live.go_on(&self.shared.core, *handover));
            let Some((live, driver)) = going_on.await else {
                return;
            };
            self.peer.set_ip(live.session.peer);
            (self.driver, self.live) = (driver, Some(live));
        }
    }

    /// Leaves the transport to the session that the client wants to go on with; gives it back when
    /// there is no such session.
    async fn hand_over(self, account: &BareJid, previd: &str, h: u32) -> Option<Self> {
        let Self {
            shared,
            driver,
            peer,
            mut link,
            trying,
            form_refused,
            secure,
            live,
            on_login,
        } = self;
        let core = Arc::clone(&shared.core);
        link.since = core.clock.unix_secs();
        let (driver, known) = match core.hand_over(account, previd, driver, link, h).await {
            Ok(()) => {
                if let Some(on_login) = on_login {
                    on_login();
                }
                debug!("transport handed over");
                return None;
            }
            Err(back) => back,
        };
        let mut same = Self {
            shared,
            driver,
            peer,
            link,
            trying,
            form_refused,
            secure,
            live,
            on_login,
        };
        info!(h = known, "no stream to resume");
        let answer = Err(NotResumed { h: known });
        same.driver.machine.resumed(answer, core.clock.now());
        Some(same)
    }

    /// The TLS handshake; false when there is none.
    async fn handshake(&mut self, to: Option<&str>) -> bool {
        let certificates = Arc::clone(&self.shared.certificates);
        let mut shutdown = self.shared.shutdown.clone();
        let done = tokio::select! {
            done = self.driver.accept_tls(&*certificates, to, to.is_none()) => done,
            () = down(&mut shutdown) => return false,
        };
        match done {
            Ok(info) => self.link.tls = info.version,
            Err(error) => {
                self.shared.core.tap.metrics.tls_failed.count();
                info!(%error, "TLS handshake failed");
                return false;
            }
        }
        self.secure = true;
        true
    }

    /// Until the stream or the transport ends.
    async fn connected(&mut self) -> Next {
        let mut shutdown = self.shared.shutdown.clone();
        // One for all turns: to begin to wait anew each time would take a lock that all share.
        let mut down = pin!(down(&mut shutdown));
        let mut is_down = false;
        loop {
            while let Some(output) = self.next_output() {
                let Some(work) = self.begin(output) else {
                    continue;
                };
                match work.await {
                    Next::Go => {}
                    next => return next,
                }
            }
            let limits = &self.shared.core.limits;
            if let Some(live) = &mut self.live {
                match live.visited(&mut self.driver, &self.shared.core) {
                    Visited::Nobody => {}
                    Visited::Ended(live_on) => {
                        if !live_on {
                            self.live = None;
                        }
                        continue;
                    }
                    Visited::Next(next) => return next,
                }
                if live.look_ahead(&mut self.driver, &self.shared.core) {
                    continue;
                }
                live.acknowledge(&mut self.driver, &self.shared.core);
                live.fill(&mut self.driver, limits);
            }
            let live = self.live.as_deref_mut();
            let idle = self.driver.pending() == 0 && self.driver.machine.is_open();
            // A peer that does not take its answers gets no more of them.
            let read = self.driver.pending() < UNREAD_BYTES
                && live.as_ref().is_none_or(|live| live.may_read(limits));
            let turn = tokio::select! {
                biased;
                () = &mut down, if !is_down && self.driver.machine.accepts_close() => {
                    is_down = true;
                    self.close(StreamCondition::SystemShutdown);
                    continue;
                }
                turn = self.driver.turn(read) => turn,
                event = event(live, idle, limits) => match event {
                    Event::Unanswered => {
                        info!("no acknowledgement: connection lost");
                        return Next::Lost;
                    }
                    Event::Other => continue,
                },
            };
            match turn {
                Ok(Turn::Flushed) => self.flushed(),
                Ok(Turn::Handled) if self.driver.had_its_turn(limits.turn_bytes_max) => {
                    tokio::task::yield_now().await;
                }
                Ok(Turn::Handled) => {}
                Err(error) => {
                    info!(%error, "connection lost");
                    return Next::Lost;
                }
            }
        }
    }

    /// What came while a stanza was in hand comes first; nothing while too much is unfinished, while
    /// the session is held back, or when somebody waits for the stanza in hand to be the last.
    fn next_output(&mut self) -> Option<Output> {
        let Some(live) = &mut self.live else {
            return self.driver.machine.poll_output();
        };
        let limits = &self.shared.core.limits;
        if !live.goes_on(limits) {
            return None;
        }
        let postponed = live.postponed.pop();
        postponed.or_else(|| self.driver.machine.poll_output())
    }

    fn flushed(&self) {
        if let Some(live) = &self.live {
            let rows = live.session.outbox.flushed();
            self.shared.core.took(&live.session.account, &rows);
        }
    }

    fn close(&mut self, condition: StreamCondition) {
        if let Some(live) = &mut self.live {
            live.last_ack(&mut self.driver);
        }
        let now = self.shared.core.clock.now();
        self.driver
            .machine
            .close(Some(StreamError::new(condition)), now);
    }

    /// Carries out one output of the machine: what needs no wait at once, the rest by what it gives.
    fn begin(&mut self, output: Output) -> Option<Pin<Box<dyn Future<Output = Next> + Send + '_>>> {
        match output {
            Output::Stanza(stanza) => {
                let rest = self.stanza_now(stanza)?;
                Some(Box::pin(self.stanza(rest)))
            }
            Output::Sm(request @ (SmRequest::Ask | SmRequest::Ack(_))) => {
                if let Some(live) = &mut self.live {
                    live.managed(&mut self.driver, &self.shared.core, &request);
                }
                None
            }
            rare => Some(Box::pin(self.act(rare))),
        }
    }

    /// Carries out one output of the machine.
    async fn act(&mut self, output: Output) -> Next {
        let core = Arc::clone(&self.shared.core);
        match output {
            Output::StartTls { to } => {
                if !self.handshake(Some(&to)).await {
                    return Next::Lost;
                }
            }
            Output::NeedCredentials { account, hash } => {
                if !self.hold_login(&account).await {
                    return Next::Go;
                }
                let credentials = core.credentials(&account, hash).await;
                let now = core.clock.now();
                self.driver.machine.credentials(credentials, now);
            }
            Output::CheckPassword { account, password } => {
                if !self.hold_login(&account).await {
                    return Next::Go;
                }
                let verdict = core.check_password(&account, password).await;
                self.driver.machine.verdict(verdict, core.clock.now());
            }
            Output::CheckAccount { account } => Box::pin(self.check_account(&account)).await,
            Output::Guest(stanza) => Box::pin(self.guest(stanza)).await,
            Output::Bind { account, resource } => {
                self.link.since = core.clock.unix_secs();
                let bound = core.bind(&account, resource.as_deref(), self.link).await;
                let bound = bound.map(|mut session| {
                    session.secure = self.secure;
                    let jid = session.jid.clone();
                    self.live = Some(Box::new(Live::new(session, Arc::clone(&core))));
                    jid
                });
                self.driver.machine.bound(bound, core.clock.now());
            }
            Output::Resume { account, previd, h } => return Next::Resume { account, previd, h },
            Output::Established(established) => {
                tracing::Span::current().record("jid", tracing::field::display(&established.jid));
                info!("session bound");
                if let Some(on_login) = self.on_login.take() {
                    on_login();
                }
            }
            Output::Stanza(stanza) => {
                if let Some(rest) = self.stanza_now(stanza) {
                    return self.stanza(rest).await;
                }
            }
            Output::Refused(refused) => self.refused(refused),
            Output::Handled(answer) => {
                if let Some(live) = &mut self.live {
                    core.answer(&live.session, answer.map(|answer| *answer));
                    live.inbound.push(SmallVec::new(), 0);
                }
            }
            Output::Sm(SmRequest::Enable { resume, max }) => {
                if let Some(live) = &mut self.live {
                    live.manage(&mut self.driver, &core, (resume, max)).await;
                }
            }
            Output::Sm(request) => {
                if let Some(live) = &mut self.live {
                    live.managed(&mut self.driver, &core, &request);
                }
            }
            Output::Managed(_) | Output::Server(_) | Output::Component(_) => {} // said by other machines alone
            Output::PeerClosing => {
                let h = match &mut self.live {
                    Some(live) => live.see_off(&mut self.driver, &core).await,
                    None => None,
                };
                if let Some(live) = &self.live
                    && live.inbound.is_done()
                {
                    core.ended.closed(live.session.sid.0, &core.limits);
                }
                self.driver.machine.finish_close(h);
            }
            Output::Note(note) => self.note(&note),
            Output::Closed(reason) => return Box::pin(self.closed(&reason)).await,
        }
        Next::Go
    }

    async fn guest(&mut self, stanza: Stanza) {
        let core = Arc::clone(&self.shared.core);
        let domain = stanza.head.to.as_ref().map_or("", |to| to.domain());
        let settings = core.settings();
        let host = settings.hosts.get(domain);
        let host = host.or_else(|| settings.hosts.values().next());
        let reply = match host {
            Some(host) => {
                core.iq_from_guest(host, self.peer.ip(), stanza.clone())
                    .await
            }
            None => None,
        };
        let reply = reply.or_else(|| stanza.error_reply(&StanzaError::service_unavailable()));
        if let Some(reply) = reply {
            self.driver.machine.guest_reply(reply, core.clock.now());
        }
    }

    /// The common stanza, which needs no wait; gives what is left to do of another.
    fn stanza_now(&mut self, stanza: Stanza) -> Option<Rest> {
        let live = self.live.as_deref_mut();
        let live = live.filter(|live| live.takes_stanzas())?;
        let bytes = stanza.wire_len();
        self.shared.core.tap.received(&live.session.jid, &stanza);
        let stanza = self.shared.core.message_now(&live.session, stanza);
        let waits = stanza.is_some()
            || !live.session.later.is_empty()
            || live.session.pause.load(Ordering::Relaxed);
        if waits {
            return Some(Rest { stanza, bytes });
        }
        let owed = live.session.take_owed();
        live.inbound.push(owed, bytes);
        None
    }

    async fn stanza(&mut self, rest: Rest) -> Next {
        let Some(live) = self.live.as_deref_mut() else {
            return Next::Go;
        };
        let core = Arc::clone(&self.shared.core);
        match rest.stanza {
            None if live.session.later.is_empty() => {}
            None => {
                let (session, mut aside) = live.apart(1);
                let work = Box::pin(core.finish_later(session));
                work_on(&mut self.driver, session, &mut aside, &core, work).await;
            }
            Some(stanza) => {
                let (session, mut aside) = live.apart(1);
                let work = Box::pin(core.from_session(session, stanza));
                work_on(&mut self.driver, session, &mut aside, &core, work).await;
            }
        }
        if live.session.pause.swap(false, Ordering::Relaxed) {
            let (session, mut aside) = live.apart(1);
            let pause = tokio::time::sleep(core.limits.outbox_pause_max);
            work_on(&mut self.driver, session, &mut aside, &core, pause).await;
        }
        let owed = live.session.take_owed();
        live.inbound.push(owed, rest.bytes);
        Next::Go
    }

    /// A stanza that the reader refused: it is answered in its place in the order.
    fn refused(&mut self, mut refused: Refused) {
        let Some(live) = &mut self.live else { return };
        warn!(condition = %refused.condition, "stanza refused");
        refused.head.from = Some(live.session.jid.clone().into());
        self.shared.core.answer(&live.session, refused.reply());
        live.inbound.push(SmallVec::new(), 0);
    }
}

/// The stream was closed: what the peer still takes now is neither sent elsewhere nor answered for
/// it, then the session ends.
async fn over(core: &Arc<Core>, mut driver: Box<Driver<Responder>>, live: Option<Box<Live>>) {
    if let Some(live) = live {
        if driver.flush_within(FLUSH).await {
            let rows = live.session.outbox.flushed();
            core.took(&live.session.account, &rows);
        }
        live.end(core).await;
    }
    driver.finish(FLUSH).await;
}

/// The client has come over another transport: whoever is at this one is told (XEP-0198 section 5).
fn replaced(mut driver: Box<Driver<Responder>>, core: &Core) {
    let conflict = StreamError::new(StreamCondition::Conflict);
    driver.machine.close(Some(conflict), core.clock.now());
    tokio::spawn(async move { driver.finish(FLUSH).await });
}

async fn down(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|down| *down).await.is_err() {
        std::future::pending().await
    }
}
