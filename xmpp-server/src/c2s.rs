//! One client connection: `Responder`, driver and, once bound, its session. One task each.
//!
//! RFC 6120 section 4 is the machine's business, section 10 the core's; this file carries between
//! them. It reads only while nothing of the last stanza is left to do: that is the back-pressure.

use crate::core::Core;
use crate::listener::Certificates;
use crate::random;
use crate::session::Session;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{Instrument, debug, info, warn};
use xmpp_stream::driver::{Driver, Transport, Turn};
use xmpp_stream::error::{StanzaError, StreamCondition, StreamError};
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::{
    CloseReason, HostView, Hosts, Machine, Note, Output, Responder, ResponderConfig, ScramHash,
    TlsRule,
};
use xmpp_stream::xml::Refused;

/// One TLS record: what is worth one write (DESIGN 5 step 6).
const WRITE_BYTES: usize = 16 * 1024;
/// Bytes that a peer may leave untaken before it is no longer read: a few records.
const UNREAD_BYTES: usize = 4 * WRITE_BYTES;
/// How long the last bytes and the closing of TLS may take.
const FINISH: Duration = Duration::from_secs(5);

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
        let tls = match (direct_tls, shared.core.config.c2s.require_tls) {
            (true, _) => TlsRule::Direct,
            (false, true) => TlsRule::Required,
            (false, false) => TlsRule::Optional,
        };
        let hosts = PeerHosts {
            core: Arc::clone(&shared.core),
            peer,
        };
        let config = ResponderConfig {
            hosts: Arc::new(hosts),
            limits: shared.core.limits.stream,
            tls,
            downgrade_protection: shared.core.config.sasl.downgrade_protection,
        };
        let now = shared.core.clock.now();
        let machine = Responder::new(config, Box::new(random::fill), now);
        let mut connection = Connection {
            driver: Driver::new(machine, transport),
            shared,
            peer,
            session: None,
            on_login: Some(on_login),
        };
        let limits = &connection.shared.core.limits;
        connection.driver.set_stall_max(limits.write_stall_max);
        if direct_tls && !Box::pin(connection.secure(None)).await {
            return;
        }
        connection.run().await;
    };
    connection.instrument(span).await;
}

struct Connection<F> {
    shared: Arc<Shared>,
    driver: Driver<Responder>,
    peer: SocketAddr,
    session: Option<Session>,
    on_login: Option<F>,
}

/// A connection that is dropped in the middle, by a panic or by whoever drives it, leaves no ghost.
impl<F> Drop for Connection<F> {
    fn drop(&mut self) {
        if let (Some(session), Ok(runtime)) = (self.session.take(), Handle::try_current()) {
            let core = Arc::clone(&self.shared.core);
            runtime.spawn(async move { core.session_over(&session).await });
        }
    }
}

impl<F: FnOnce() + Send> Connection<F> {
    async fn run(&mut self) {
        let closed = self.live().await;
        // What the peer still takes now is neither sent elsewhere nor answered for it.
        if closed
            && self.driver.flush_within(FINISH).await
            && let Some(session) = &self.session
        {
            session.outbox.taken();
        }
        if let Some(session) = self.session.take() {
            Box::pin(self.shared.core.session_over(&session)).await;
            info!("session over");
        }
        if closed {
            self.driver.finish(FINISH).await;
        }
    }

    /// The TLS handshake; false when there is none.
    async fn secure(&mut self, to: Option<&str>) -> bool {
        let certificates = Arc::clone(&self.shared.certificates);
        let mut shutdown = self.shared.shutdown.clone();
        let done = tokio::select! {
            done = self.driver.accept_tls(&*certificates, to, to.is_none()) => done,
            () = down(&mut shutdown) => return false,
        };
        if let Err(error) = &done {
            info!(%error, "TLS handshake failed");
        }
        done.is_ok()
    }

    /// Until the stream or the transport ends; true when there may be bytes left to write.
    async fn live(&mut self) -> bool {
        let mut shutdown = self.shared.shutdown.clone();
        loop {
            while let Some(output) = self.driver.machine.poll_output() {
                match output {
                    Output::Stanza(stanza) => self.stanza(stanza).await,
                    // In a box, as a session has its place for this as long as it lives.
                    rare => {
                        if !Box::pin(self.act(rare)).await {
                            return true;
                        }
                    }
                }
            }
            if self
                .session
                .as_ref()
                .is_some_and(|session| session.outbox.is_closed())
            {
                self.ended();
                continue;
            }
            self.fill();
            let session = self.session.as_ref();
            let limits = &self.shared.core.limits;
            let idle = self.driver.pending() == 0 && self.driver.machine.is_open();
            // A peer that does not take its answers gets no more of them.
            let read = self.driver.pending() < UNREAD_BYTES
                && !session.is_some_and(|session| session.outbox.is_congested(limits));
            let turn = tokio::select! {
                biased;
                () = down(&mut shutdown), if self.driver.machine.accepts_close() => {
                    self.close(StreamCondition::SystemShutdown);
                    continue;
                }
                turn = self.driver.turn(read) => turn,
                () = outbox_ready(session, idle) => continue,
            };
            match turn {
                Ok(Turn::Flushed) => self.flushed(),
                Ok(Turn::Handled) => {}
                Err(error) => {
                    info!(%error, "connection lost");
                    return false;
                }
            }
        }
    }

    fn flushed(&self) {
        if let Some(session) = &self.session {
            session.outbox.taken();
        }
    }

    /// Somebody else ended the session: the peer is told why, then the stream closes.
    fn ended(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let error = session.outbox.farewell();
        let error = error.unwrap_or_else(|| StreamError::new(StreamCondition::ResourceConstraint));
        info!(condition = %error.condition, "session ended by the server");
        self.driver
            .machine
            .close(Some(error), self.shared.core.clock.now());
    }

    fn close(&mut self, condition: StreamCondition) {
        let now = self.shared.core.clock.now();
        self.driver
            .machine
            .close(Some(StreamError::new(condition)), now);
    }

    /// Copies items of the outbox into the machine, a record at most, when the last batch has left.
    fn fill(&mut self) {
        if let Some(session) = &self.session {
            fill(&mut self.driver, session);
        }
    }

    /// Carries out one output of the machine; false when the stream is over.
    async fn act(&mut self, output: Output) -> bool {
        let core = Arc::clone(&self.shared.core);
        match output {
            Output::StartTls { to } => return self.secure(Some(&to)).await,
            Output::NeedCredentials { account, hash } => {
                let credentials = core.credentials(&account, hash).await;
                self.driver
                    .machine
                    .credentials(credentials, core.clock.now());
            }
            Output::CheckPassword { account, password } => {
                let verdict = core.check_password(&account, password).await;
                self.driver.machine.verdict(verdict, core.clock.now());
            }
            Output::Guest(stanza) => self.guest(stanza).await,
            Output::Bind { account, resource } => {
                let bound = core
                    .bind(&account, resource.as_deref(), self.peer.ip())
                    .await;
                let bound = bound.map(|session| {
                    let jid = session.jid.clone();
                    self.session = Some(session);
                    jid
                });
                self.driver.machine.bound(bound, core.clock.now());
            }
            Output::Established(established) => {
                tracing::Span::current().record("jid", tracing::field::display(&established.jid));
                info!("session bound");
                if let Some(on_login) = self.on_login.take() {
                    on_login();
                }
            }
            Output::Stanza(stanza) => self.stanza(stanza).await,
            Output::Refused(refused) => self.refused(refused),
            Output::Nonza(element) => {
                debug!(name = element.name(), "element without a meaning here")
            }
            Output::Note(note) => log(&note),
            Output::Closed(reason) => {
                log_close(&reason);
                return false;
            }
        }
        true
    }

    async fn guest(&mut self, stanza: Stanza) {
        let core = Arc::clone(&self.shared.core);
        let domain = stanza.head.to.as_ref().map_or("", |to| to.domain());
        let host = core
            .hosts
            .get(domain)
            .or_else(|| core.hosts.values().next());
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

    async fn stanza(&mut self, stanza: Stanza) {
        let session = self.session.as_ref();
        let Some(session) = session.filter(|session| !session.outbox.is_closed()) else {
            return;
        };
        let core = Arc::clone(&self.shared.core);
        match core.message_now(session, stanza) {
            None if session.later.is_empty() => {}
            None => {
                let work = Box::pin(core.finish_later(session));
                work_on(&mut self.driver, session, work).await;
            }
            Some(stanza) => {
                let work = Box::pin(core.from_session(session, stanza));
                work_on(&mut self.driver, session, work).await;
            }
        }
        if session.pause.swap(false, Ordering::Relaxed) {
            work_on(
                &mut self.driver,
                session,
                tokio::time::sleep(core.limits.outbox_pause_max),
            )
            .await;
        }
    }

    /// A stanza that the reader refused: it is answered in its place in the order.
    fn refused(&self, mut refused: Refused) {
        let Some(session) = &self.session else { return };
        warn!(condition = %refused.condition, "stanza refused");
        refused.head.from = Some(session.jid.clone().into());
        self.shared.core.answer(session, refused.reply());
    }
}

/// Goes on writing the session's queue while something else is waited for (DESIGN 5 rule 22).
async fn work_on<T>(
    driver: &mut Driver<Responder>,
    session: &Session,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    loop {
        fill(driver, session);
        let idle = driver.pending() == 0 && driver.machine.is_open();
        tokio::select! {
            biased;
            done = &mut work => return done,
            turn = driver.turn(false), if !idle => match turn {
                Ok(Turn::Flushed) => session.outbox.taken(),
                Ok(Turn::Handled) => {}
                // The transport is gone; what is being done is done to its end all the same.
                Err(_) => return work.await,
            },
            () = outbox_ready(Some(session), true), if idle && !session.outbox.is_closed() => {}
        }
    }
}

/// Items stay in the outbox behind what closes the stream: they were not sent.
fn fill(driver: &mut Driver<Responder>, session: &Session) {
    if driver.pending() > 0 || !driver.machine.is_open() {
        return;
    }
    let machine = &mut driver.machine;
    session.outbox.send(|item| {
        machine.send(item);
        machine.is_open() && machine.pending_bytes() < WRITE_BYTES
    });
}

/// Ready when the session was ended by somebody else, or, with `items`, when there are unsent items.
async fn outbox_ready(session: Option<&Session>, items: bool) {
    match session {
        Some(session) => poll_fn(|cx| session.outbox.poll_ready(cx, items)).await,
        None => std::future::pending().await,
    }
}

async fn down(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|down| *down).await.is_err() {
        std::future::pending().await
    }
}

fn log(note: &Note) {
    match note {
        Note::LoginFailed {
            mechanism,
            account,
            condition,
            reason,
        } => {
            let account = account.as_ref().map(tracing::field::display);
            warn!(%mechanism, account, %condition, reason, "login failed");
        }
        Note::LoggedIn {
            mechanism,
            account,
            channel_binding,
        } => {
            info!(mechanism, %account, channel_binding, "logged in");
        }
        _ => {}
    }
}

fn log_close(reason: &CloseReason) {
    match reason {
        CloseReason::Ours(error) => {
            warn!(condition = %error.condition, reason = error.text.as_deref(), "stream closed by us");
        }
        CloseReason::Theirs(error) => {
            info!(condition = %error.condition, "stream closed by the peer with an error");
        }
        CloseReason::Eof => info!("connection ended without a closing tag"),
        other => info!(reason = ?other, "stream closed"),
    }
}

/// Served domains as one peer may see them.
struct PeerHosts {
    core: Arc<Core>,
    peer: SocketAddr,
}

impl Hosts for PeerHosts {
    fn host(&self, domain: &str) -> Option<HostView> {
        let host = self.core.hosts.get(domain)?;
        // Also where this peer may not register: it is told so (XEP-0077 section 3.1.1).
        let guest_ns = self.core.announced.guest_ns.clone();
        let mut features_before_auth = Vec::new();
        if host.may_register(self.peer.ip()) && !guest_ns.is_empty() {
            let register =
                xmpp_stream::xml::Element::new(xmpp_stream::ns::FEATURE_REGISTER, "register");
            register.write(&mut features_before_auth, xmpp_stream::ns::STREAMS);
        }
        let mut features_after_auth = Vec::new();
        for feature in &self.core.announced.features_after_auth {
            feature.write(&mut features_after_auth, xmpp_stream::ns::STREAMS);
        }
        Some(HostView {
            domain: host.domain.clone(),
            hashes: vec![ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512],
            plain: self.core.config.sasl.plain,
            guest_ns: guest_ns.into(),
            features_before_auth: features_before_auth.into(),
            features_after_auth: features_after_auth.into(),
        })
    }

    fn fallback(&self) -> Box<str> {
        self.core
            .config
            .domains
            .first()
            .map_or("", |domain| domain.name.as_str())
            .into()
    }
}
