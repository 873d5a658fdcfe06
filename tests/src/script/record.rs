//! Turns live sessions into a script: stands between clients and their server, as the authenticated
//! end on both sides, and notes what passes.
//!
//! Towards clients it is a server by xmpp-stream's `Responder`, towards the server a client by the
//! runner's `Login`. Stream management and client state are not offered: what is written down is
//! stanzas, from the first after login; the login is `connects`. What a script looks like is `text`.

mod notes;
mod session;
mod text;

use crate::script::model::{At, Certificate, Character, CharacterKind, Script};
use crate::script::stage::{Elsewhere, Stage, StageError};
use notes::Notes;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;
use xmpp_certs::{CertError, DevCa};
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::{Password, ScramHash, StoredKeys};
use xmpp_stream::tls::{self, TlsError};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long sessions may take to end when the recorder does.
const ENDING_MAX: Duration = Duration::from_secs(3);
/// Iterations that every client accepts (RFC 7677 section 4); the keys live as long as the recorder.
const SCRAM_ITERATIONS: u32 = 4096;

/// What a recorder is made from.
#[derive(Debug)]
pub struct Options {
    /// Where clients come.
    pub listen: SocketAddr,
    /// The servers; `None`: one in this process, with these accounts.
    pub elsewhere: Option<Elsewhere>,
    /// Who may sign in: bare address and password.
    pub accounts: Vec<(BareJid, Password)>,
    /// Certificate chain and key as PEM; `None`: of a CA that is made now.
    pub certificate: Option<(String, String)>,
    /// How long the server may take for an answer during the login.
    pub patience: Duration,
}

/// Why nothing can be recorded.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// No certificate can be made.
    Certificate(CertError),
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// Nobody may sign in.
    NoAccount,
    /// An account has no local part.
    NotAnAccount(BareJid),
    /// The server in this process does not start.
    Stage(StageError),
    /// The certificate that was given is no good.
    Tls(TlsError),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => write!(f, "{error}"),
            Self::Listen(address, error) => write!(f, "{address} cannot be listened on: {error}"),
            Self::NoAccount => f.write_str("no account is given"),
            Self::NotAnAccount(jid) => write!(f, "{jid} is no account"),
            Self::Stage(error) => write!(f, "{error}"),
            Self::Tls(error) => write!(f, "the certificate: {error}"),
        }
    }
}

impl std::error::Error for RecordError {}

/// What was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The script.
    pub script: String,
    /// How many sessions are in it.
    pub sessions: usize,
    /// What was noticed beside it, a line each: logins that failed, stanzas that were refused.
    pub remarks: Vec<String>,
}

/// Listens for clients.
pub struct Recorder {
    listener: TcpListener,
    ca_pem: Option<String>,
    shared: Arc<Shared>,
}

/// What all sessions need.
struct Shared {
    stage: Stage,
    accounts: BTreeMap<String, Known>,
    tls: (Arc<ServerConfig>, CertificateDer<'static>),
    patience: Duration,
    notes: Mutex<Notes>,
}

/// An account that may sign in.
struct Known {
    password: Password,
    keys: Vec<Arc<StoredKeys>>,
}

impl Shared {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Prepares everything and listens.
    ///
    /// # Errors
    /// See `RecordError`.
    pub async fn listen(options: Options) -> Result<Self, RecordError> {
        let Options {
            listen,
            elsewhere,
            accounts,
            certificate,
            patience,
        } = options;
        if accounts.is_empty() {
            return Err(RecordError::NoAccount);
        }
        if let Some((jid, _)) = accounts
            .iter()
            .find(|(jid, _)| jid.as_jid().local().is_none())
        {
            return Err(RecordError::NotAnAccount(jid.clone()));
        }
        let (ca_pem, chain, key) = match certificate {
            Some((chain, key)) => (None, chain, key),
            None => {
                let (ca, chain, key) = made(&accounts).map_err(RecordError::Certificate)?;
                (Some(ca), chain, key)
            }
        };
        let tls = tls::server_config(&chain, &key, true).map_err(RecordError::Tls)?;
        let stage = match elsewhere {
            Some(elsewhere) => Stage::Elsewhere(elsewhere),
            None => {
                let here = Stage::here(&play_of(&accounts)).await;
                here.map_err(RecordError::Stage)?
            }
        };
        let notes = Notes::new(accounts.iter().map(|(jid, password)| {
            let jid = jid.as_jid().as_str().to_owned();
            (jid, password.0.clone())
        }));
        let accounts = accounts.into_iter().map(known).collect();
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| RecordError::Listen(listen, error))?;
        Ok(Self {
            listener,
            ca_pem,
            shared: Arc::new(Shared {
                stage,
                accounts,
                tls,
                patience,
                notes: Mutex::new(notes),
            }),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The CA that was made, to be trusted by the client; `None` when a certificate was given.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Records until every account has had a session and none is left, or `stop` is ready.
    pub async fn record(self, stop: impl Future<Output = ()>) -> Recorded {
        // the runner's login does not move between threads
        LocalSet::new().run_until(self.all_sessions(stop)).await
    }

    async fn all_sessions(self, stop: impl Future<Output = ()>) -> Recorded {
        let mut sessions = JoinSet::new();
        let (end, ended) = watch::channel(false);
        let recording = async {
            loop {
                tokio::select! {
                    accepted = self.listener.accept(), if sessions.len() < CONNECTIONS_MAX => {
                        let Ok((tcp, _)) = accepted else {
                            tokio::task::yield_now().await;
                            continue;
                        };
                        let _ = tcp.set_nodelay(true);
                        sessions.spawn_local(session::serve(self.shared.clone(), tcp, ended.clone()));
                    }
                    Some(_) = sessions.join_next() => {
                        if self.shared.notes().is_complete() {
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = recording => {}
            () = stop => {}
        }
        let _ = end.send(true);
        let ending = async { while sessions.join_next().await.is_some() {} };
        let _ = timeout(ENDING_MAX, ending).await;
        sessions.shutdown().await;
        self.shared.notes().recorded()
    }
}

/// A CA and a certificate for all domains.
fn made(accounts: &[(BareJid, Password)]) -> Result<(String, String, String), CertError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "certificates are checked by the real clock"
    )]
    let now = SystemTime::now();
    let mut names: Vec<&str> = accounts.iter().map(|(jid, _)| jid.domain()).collect();
    names.sort_unstable();
    names.dedup();
    let ca = DevCa::new(now)?;
    let leaf = ca.issue(&names, now)?;
    Ok((ca.pem().to_owned(), leaf.chain_pem, leaf.key_pem))
}

fn known((jid, password): (BareJid, Password)) -> (String, Known) {
    // a salt need not be secret, and the keys are never stored
    let salt = jid.as_jid().as_str().as_bytes();
    let keys = [ScramHash::Sha256, ScramHash::Sha1].map(|hash| {
        let keys = StoredKeys::derive(hash, &password.0, salt, SCRAM_ITERATIONS);
        Arc::new(keys)
    });
    let name = jid.as_jid().as_str().to_owned();
    let known = Known {
        password,
        keys: keys.into(),
    };
    (name, known)
}

/// A script with these accounts and no steps: what the server in this process is made for.
fn play_of(accounts: &[(BareJid, Password)]) -> Script {
    Script {
        file: PathBuf::from("recorded"),
        title: String::new(),
        tags: Vec::new(),
        config: None,
        cast: accounts
            .iter()
            .map(|(jid, password)| character(jid, &password.0))
            .collect(),
        steps: Vec::new(),
        cases: Vec::new(),
    }
}

fn character(jid: &BareJid, password: &str) -> Character {
    Character {
        kind: CharacterKind::Client,
        name: jid.as_jid().as_str().to_owned(),
        at: At {
            file: Arc::from(Path::new("recorded")),
            line: 1,
            column: 1,
        },
        jid: Some(jid.as_jid().as_str().to_owned()),
        domain: jid.domain().to_owned(),
        password: Some(password.to_owned()),
        resource: None,
        connect: (None, None),
        has_account: true,
        direct_tls: false,
        certificate: Certificate::default(),
        is_called_by_hand: false,
        proof: crate::script::model::Proof::default(),
    }
}
