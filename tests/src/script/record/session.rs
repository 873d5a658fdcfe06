//! One client and its server, through the recorder: login on both sides, then stanzas both ways.

use super::notes::Event;
use super::{Known, Shared, character};
use crate::script::login::{Login, condition};
use crate::script::peer::{Got, Peer};
use crate::tree::Tree;
use bytes::Bytes;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use xmpp_stream::driver::{Driver, TlsSource};
use xmpp_stream::error::{StanzaError, StreamCondition, StreamError};
use xmpp_stream::jid::{BareJid, FullJid};
use xmpp_stream::limits::{Limits, XmlLimits};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Item, Stanza, Ty};
use xmpp_stream::stream::{
    Credentials, HostView, Hosts, Machine, Note, Output, Responder, ResponderConfig, ScramHash,
    TlsRule, Verdict,
};
use xmpp_stream::xml::Refused;

/// The first byte of a TLS record of a handshake: the client begins with TLS.
const TLS_HANDSHAKE: u8 = 22;
/// While a client has so much to take, its server is not read.
const PENDING_MAX: usize = 1024 * 1024;
/// How long the last words may take.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// Serves one connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, tcp: TcpStream, end: watch::Receiver<bool>) {
    let Ok(Ok(direct)) = timeout(shared.patience, begins_with_tls(&tcp)).await else {
        return;
    };
    let host = Arc::new(Host::of(&shared.accounts));
    let config = ResponderConfig {
        hosts: host.clone(),
        limits: Arc::new(limits()),
        tls: if direct {
            TlsRule::Direct
        } else {
            TlsRule::Required
        },
        downgrade_protection: true,
        manage: false,
    };
    let machine = Responder::new(config, Box::new(random), now());
    let mut session = Session {
        driver: Driver::new(machine, Box::new(tcp)),
        shared,
        host,
        server: None,
        resource: None,
        who: None,
    };
    let secured = match direct {
        true => session.secure(None).await,
        false => Ok(()),
    };
    match secured {
        Ok(()) => session.run(end).await,
        Err(error) => session.remark(&"the TLS handshake fails", &error),
    }
    session.driver.finish(FINISH_MAX).await;
}

async fn begins_with_tls(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match tcp.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first == [TLS_HANDSHAKE]),
    }
}

/// The server's own bounds are the ones to see; ours are wide.
fn limits() -> Limits {
    Limits {
        after_auth: XmlLimits::client(),
        ..Limits::default()
    }
}

/// Stream ids and nonces of a server that has nothing to guard but the way to another one on behalf
/// of who has its password: keyed hashes with keys from the system.
fn random(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let word = RandomState::new().hash_one(()).to_ne_bytes();
        for (byte, from) in chunk.iter_mut().zip(word) {
            *byte = from;
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Whether there is more to do.
enum Then {
    GoOn,
    Over,
}

struct Session {
    driver: Driver<Responder>,
    shared: Arc<Shared>,
    host: Arc<Host>,
    /// The way to the real server, signed in.
    server: Option<Peer>,
    /// What the client wants to be bound to.
    resource: Option<Box<str>>,
    /// Whose part it is, while both sides are online.
    who: Option<usize>,
}

impl Session {
    async fn run(&mut self, mut end: watch::Receiver<bool>) {
        loop {
            while let Some(output) = self.driver.machine.poll_output() {
                if let Then::Over = self.output(output).await {
                    return;
                }
            }
            let reads = self.who.is_some() && self.driver.pending() < PENDING_MAX;
            tokio::select! {
                turn = self.driver.turn(true) => {
                    if let Err(error) = turn {
                        tracing::debug!(%error, "the client is gone");
                    }
                }
                got = from_server(self.server.as_mut()), if reads => self.server_says(got),
                _ = end.wait_for(|end| *end) => {
                    self.stop().await;
                    return;
                }
            }
        }
    }

    async fn output(&mut self, output: Output) -> Then {
        match output {
            Output::StartTls { to } => {
                if let Err(error) = self.secure(Some(&to)).await {
                    self.remark(&"the TLS handshake fails", &error);
                    return Then::Over;
                }
            }
            Output::NeedCredentials { account, hash } => {
                let keys = self.keys(&account, hash);
                self.driver.machine.credentials(keys, now());
            }
            Output::CheckPassword { account, password } => {
                let known = self.shared.accounts.get(account.as_str());
                let verdict = match known.is_some_and(|known| known.password.0 == password.0) {
                    true => Verdict::Allow,
                    false => Verdict::Deny,
                };
                self.driver.machine.verdict(verdict, now());
            }
            Output::Note(Note::LoggedIn { account, .. }) => self.sign_in(&account).await,
            Output::Note(Note::LoginFailed {
                account, condition, ..
            }) => {
                let account = account.map_or_else(|| "somebody".into(), |it| it.to_string());
                self.remark(&format_args!("{account} cannot sign in"), &condition);
            }
            Output::Bind { resource, .. } => self.bind(resource).await,
            Output::Established(established) => {
                let jid = established.jid;
                let mut notes = self.shared.notes();
                let account = jid.to_bare();
                let who = notes.connects(account.as_str(), self.resource.as_deref(), jid.as_str());
                drop(notes);
                self.who = Some(who);
            }
            Output::Stanza(stanza) => self.client_says(&stanza).await,
            Output::Refused(refused) => self.refuse(&refused),
            Output::PeerClosing => self.client_closes().await,
            Output::Closed(_) => {
                self.leave(Event::Lost);
                if let Some(server) = &mut self.server {
                    server.hang_up();
                }
                return Then::Over;
            }
            other => tracing::debug!(?other, "not for a recorder"),
        }
        Then::GoOn
    }

    async fn secure(&mut self, to: Option<&str>) -> io::Result<()> {
        let certificate = Certificate(self.shared.tls.clone());
        let direct = to.is_none();
        self.driver.accept_tls(&certificate, to, direct).await?;
        Ok(())
    }

    fn keys(&self, account: &BareJid, hash: ScramHash) -> Credentials {
        let known = self.shared.accounts.get(account.as_str());
        let keys = known.and_then(|known| known.keys.iter().find(|keys| keys.hash == hash));
        match keys {
            Some(keys) => Credentials::Keys(keys.clone()),
            None => Credentials::Fake {
                salt: account.as_str().as_bytes().into(),
                iterations: super::SCRAM_ITERATIONS,
            },
        }
    }

    /// Signs in at the server, up to what it offers afterwards, which the client is offered next.
    async fn sign_in(&mut self, account: &BareJid) {
        match self.signed_in(account).await {
            Ok((server, features)) => {
                self.server = Some(server);
                self.host.set_features(&features);
            }
            Err(why) => {
                self.remark(
                    &format_args!("{account} cannot sign in at the server"),
                    &why,
                );
                self.give_up(StreamCondition::RemoteConnectionFailed);
            }
        }
    }

    async fn signed_in(&self, account: &BareJid) -> Result<(Peer, Tree), String> {
        let Shared {
            stage,
            patience,
            accounts,
            ..
        } = &*self.shared;
        let password = accounts
            .get(account.as_str())
            .map_or("", |known| &known.password.0);
        let one = character(account, password);
        let connected = stage.connect(&one, *patience).await;
        let mut peer = connected.map_err(|why| why.to_string())?;
        let trust = stage.trust();
        let mut login = Login {
            peer: &mut peer,
            domain: &one.domain,
            trust: trust.as_ref(),
            patience: *patience,
            is_local: stage.is_local(&one.domain),
        };
        let (local, password) = one.credentials();
        let features = async {
            let features = login.open_secure().await?;
            login.authenticate(&features, local, password).await?;
            login.open().await
        };
        let features = features.await.map_err(|why| why.to_string())?;
        Ok((peer, features))
    }

    async fn bind(&mut self, resource: Option<Box<str>>) {
        let Some(server) = &mut self.server else {
            return self.give_up(StreamCondition::RemoteConnectionFailed);
        };
        let mut login = Login {
            peer: server,
            domain: "",
            trust: None,
            patience: self.shared.patience,
            is_local: false,
        };
        let bound = login.bind(resource.as_deref()).await;
        let bound = bound.map_err(|why| why.to_string());
        let bound = bound.and_then(|jid| FullJid::parse(&jid).map_err(|why| why.to_string()));
        self.resource = resource;
        let bound = bound.map_err(|why| {
            self.remark(&"no resource is bound", &why);
            StanzaError::internal_server_error()
        });
        self.driver.machine.bound(bound, now());
    }

    async fn client_says(&mut self, stanza: &Stanza) {
        let (Some(who), Some(server)) = (self.who, &mut self.server) else {
            return;
        };
        let xml = stanza.to_xml();
        if let Some(tree) = Tree::read_all(&xml).ok().and_then(|mut trees| trees.pop()) {
            self.shared
                .notes()
                .stanza(Event::Sends(who, tree), xml.len());
        }
        let sent = server.send(xml.as_bytes(), self.shared.patience).await;
        if let Err(error) = sent {
            self.remark(&"the server takes nothing", &error);
        }
    }

    /// What could not be read as a stanza has not reached the server.
    fn refuse(&mut self, refused: &Refused) {
        let condition = refused.condition;
        self.remark(
            &"a stanza of the client was refused by the recorder",
            &condition,
        );
        let error = StanzaError::from(condition).to_element();
        let mut answer = Stanza::new(refused.kind, Ty::Error).with_child(&error);
        answer.head.id.clone_from(&refused.head.id);
        self.driver.machine.send(&Item::<()>::One(Box::new(answer)));
    }

    fn server_says(&mut self, got: Option<Got>) {
        let Some(who) = self.who else { return };
        match got {
            None | Some(Got::Header(_)) => {}
            Some(Got::Element(tree)) if tree.is(ns::STREAMS, "error") => {
                let condition = condition(&tree).unwrap_or_default();
                self.leave(|who| Event::StreamError(who, condition.clone()));
                let condition = StreamCondition::from_wire(&condition);
                self.give_up(condition.unwrap_or(StreamCondition::UndefinedCondition));
            }
            Some(Got::Element(tree)) => {
                let xml = tree.xml(ns::CLIENT);
                self.shared
                    .notes()
                    .stanza(Event::Receives(who, tree), xml.len());
                let item = Item::<()>::Nonza(xml.into_bytes().into());
                self.driver.machine.send(&item);
            }
            Some(Got::Footer | Got::End) => {
                self.leave(Event::Ended);
                self.driver.machine.close(None, now());
            }
            Some(Got::Garbage(what)) => {
                self.remark(&"the server sends what is no XML", &what);
                self.leave(Event::Ended);
                self.give_up(StreamCondition::RemoteConnectionFailed);
            }
        }
    }

    /// The client has closed: so do we, and it gets what the server had for it.
    async fn client_closes(&mut self) {
        self.leave(Event::Disconnects);
        if let Some(server) = &mut self.server {
            let patience = self.shared.patience;
            let _ = server.send(b"</stream:stream>", patience).await;
            let until = Instant::now() + patience;
            while let Some(Got::Element(tree)) = server.next(until).await {
                let xml = tree.xml(ns::CLIENT).into_bytes();
                self.driver.machine.send(&Item::<()>::Nonza(xml.into()));
            }
            server.hang_up();
        }
        self.driver.machine.finish_close(None);
    }

    /// The recorder ends before the session does.
    async fn stop(&mut self) {
        self.leave(Event::Disconnects);
        if let Some(server) = &mut self.server {
            let _ = server.send(b"</stream:stream>", FINISH_MAX).await;
        }
        self.driver.machine.close(None, now());
    }

    fn leave(&mut self, how: impl FnOnce(usize) -> Event) {
        if let Some(who) = self.who.take() {
            self.shared.notes().ends(who, how(who));
        }
    }

    fn give_up(&mut self, condition: StreamCondition) {
        let error = StreamError::new(condition);
        self.driver.machine.close(Some(error), now());
    }

    fn remark(&self, what: &dyn Display, why: &dyn Display) {
        self.shared.notes().remark(format!("{what}: {why}"));
    }
}

async fn from_server(server: Option<&mut Peer>) -> Option<Got> {
    /// A long time; afterwards it is asked again.
    const A_WHILE: Duration = Duration::from_secs(60 * 60);
    match server {
        Some(server) => server.next(Instant::now() + A_WHILE).await,
        None => pending().await,
    }
}

struct Certificate((Arc<ServerConfig>, CertificateDer<'static>));

impl TlsSource for Certificate {
    fn choose(
        &self,
        _: Option<&str>,
        _: Option<&str>,
        _: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        Some(self.0.clone())
    }
}

/// The domains of all accounts; after login with the features of the real server.
struct Host {
    domains: Vec<Box<str>>,
    features: Mutex<Bytes>,
}

impl Host {
    fn of(accounts: &BTreeMap<String, Known>) -> Self {
        let domains = accounts.keys().filter_map(|jid| jid.split_once('@'));
        Self {
            domains: domains.map(|(_, domain)| domain.into()).collect(),
            features: Mutex::default(),
        }
    }

    /// What the recorder passes on: stanzas. Stream management and client state are elements of a
    /// stream, bind and session are answered here, bounds are ours.
    fn set_features(&self, features: &Tree) {
        let ours = [ns::BIND, ns::SESSION, ns::SM, ns::CSI, ns::STREAM_LIMITS];
        let passed = features.children().filter(|it| !ours.contains(&it.ns()));
        let xml: String = passed.map(|feature| feature.xml(ns::CLIENT)).collect();
        let mut slot = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = xml.into();
    }
}

impl Hosts for Host {
    fn host(&self, domain: &str) -> Option<HostView> {
        let features = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        self.domains.iter().find(|name| ***name == *domain)?;
        Some(HostView {
            domain: domain.into(),
            hashes: vec![ScramHash::Sha256, ScramHash::Sha1],
            plain: true,
            guest_ns: Arc::new([]),
            features_before_auth: Bytes::new(),
            features_after_auth: features.clone(),
        })
    }

    fn fallback(&self) -> Box<str> {
        self.domains.first().cloned().unwrap_or_default()
    }
}
