//! The control socket: both its ends, and the way of user commands to the accounts.
//!
//! DESIGN 1. One JSON object a line: a request is answered by any number of `jid` lines and one
//! `done` or `failed` line. `admin.sock` is 0600 in a directory that is 0700; there is no login.

use crate::clock::Clock;
use crate::config::{Config, Storage};
use crate::core::Core;
use crate::datadir::{self, DataDir, DataDirError, Holder, LOCK_POLL, LOCK_WAIT};
use crate::limits::Limits;
use crate::store::{Store, StoreError, StoreLimits};
use crate::users::{Stopped, UserError, Users, account_name};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use xmpp_stream::stream::Password;

/// What is asked of a server.
#[derive(Clone, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Add an account.
    UserAdd {
        /// Its name.
        jid: String,
        /// Its password.
        password: String,
    },
    /// List accounts.
    UserList {
        /// Of this domain only.
        domain: Option<String>,
    },
    /// Set another password.
    UserPassword {
        /// Whose.
        jid: String,
        /// Which.
        password: String,
    },
    /// Remove an account.
    UserRemove {
        /// Its name.
        jid: String,
    },
}

/// Why a request had no success.
#[derive(Debug)]
#[non_exhaustive]
pub enum AdminError {
    /// The data directory.
    DataDir(DataDirError),
    /// There is nothing to look into: no server has run there, no account was added.
    Empty(PathBuf),
    /// Accounts are in the memory of a server, and none answers.
    NotRunning(PathBuf),
    /// The server said no.
    Refused(Box<str>),
    /// The server ended, or what it said made no sense.
    Socket(io::Error),
    /// The store does not open.
    Store(StoreError),
    /// The operation was refused.
    User(UserError),
}

/// Version of the line format; a server refuses others.
const VERSION: u32 = 1;
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize, Serialize)]
struct Asked {
    v: u32,
    #[serde(flatten)]
    request: serde_json::Value,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Done(Version),
    Failed(String),
    Jid(String),
}

#[derive(Deserialize, Serialize)]
struct Version {
    v: u32,
}

/// Answers on the control socket until the task is aborted.
///
/// # Errors
/// `DataDirError::Io` when the socket cannot be made.
pub fn serve(dir: &DataDir, core: Arc<Core>) -> Result<JoinHandle<()>, DataDirError> {
    let limits = core.limits;
    serve_users(dir, Users::Running(core), limits)
}

fn serve_users(
    dir: &DataDir,
    users: Users,
    limits: Limits,
) -> Result<JoinHandle<()>, DataDirError> {
    let listener =
        bind(dir.path()).map_err(|error| DataDirError::Io(dir.path().join("admin.sock"), error))?;
    let places = Arc::new(Semaphore::new(limits.admin_connections_max));
    Ok(tokio::spawn(async move {
        loop {
            // A connection over the bound waits in the listener's backlog.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "control socket: accept failed");
                    tokio::time::sleep(LOCK_POLL).await;
                    continue;
                }
            };
            let users = users.clone();
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &users, limits.admin_line_bytes_max).await {
                    info!(%error, "control socket: connection ended");
                }
                drop(place);
            });
        }
    }))
}

/// The caller holds the lock, so whatever socket lies there is stale.
fn bind(dir: &Path) -> io::Result<UnixListener> {
    let socket = datadir::socket(dir)?;
    match std::fs::remove_file(&socket.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&socket.path)?;
    std::fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn converse(stream: UnixStream, users: &Users, line_bytes_max: usize) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let line = tokio::time::timeout(SILENCE_MAX, read_line(&mut read, line_bytes_max));
        let line = match line.await.unwrap_or(Ok(None)) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(error) => {
                write
                    .write_all(&line_of(&Reply::Failed(error.to_string())))
                    .await?;
                return Err(error);
            }
        };
        let mut out = Vec::new();
        for reply in answer(&line, users).await {
            out.extend_from_slice(&line_of(&reply));
        }
        write.write_all(&out).await?;
    }
}

async fn answer(line: &[u8], users: &Users) -> Vec<Reply> {
    let asked: Asked = match serde_json::from_slice(line) {
        Ok(asked) => asked,
        Err(_) => return vec![Reply::Failed("not a request of this protocol".into())],
    };
    if asked.v != VERSION {
        return vec![Reply::Failed(format!(
            "this server speaks version {VERSION}"
        ))];
    }
    let Ok(request) = serde_json::from_value(asked.request) else {
        return vec![Reply::Failed("not a request that this server knows".into())];
    };
    match run(users, request).await {
        Ok(lines) => {
            let lines = lines.into_iter().map(Reply::Jid);
            lines.chain([Reply::Done(Version { v: VERSION })]).collect()
        }
        Err(error) => vec![Reply::Failed(error.to_string())],
    }
}

/// Does what was asked; gives the accounts that were asked for.
///
/// # Errors
/// Why not.
pub async fn run(users: &Users, request: Request) -> Result<Vec<String>, UserError> {
    match request {
        Request::UserAdd { jid, password } => {
            let jid = account_name(&jid).map_err(UserError::Name)?;
            users.add(&jid, Password(password)).await?;
            info!(%jid, "account added by an operator");
        }
        Request::UserPassword { jid, password } => {
            let jid = account_name(&jid).map_err(UserError::Name)?;
            users.set_password(&jid, Password(password)).await?;
            info!(%jid, "password set by an operator");
        }
        Request::UserRemove { jid } => {
            let jid = account_name(&jid).map_err(UserError::Name)?;
            users.remove(&jid).await?;
            info!(%jid, "account removed by an operator");
        }
        Request::UserList { domain } => {
            let accounts = users.list(domain.as_deref()).await?;
            return Ok(accounts.iter().map(ToString::to_string).collect());
        }
    }
    Ok(Vec::new())
}

/// Asks the running server, or does it in the store where none runs.
///
/// # Errors
/// See `AdminError`.
pub async fn request(config: &Config, request: Request) -> Result<Vec<String>, AdminError> {
    let dir = config.data_dir();
    match (dir.exists(), config.storage, &request) {
        (false, Storage::Memory, _) => return Err(AdminError::NotRunning(dir.to_owned())),
        (false, Storage::Sqlite, Request::UserAdd { .. }) | (true, ..) => {}
        (false, Storage::Sqlite, _) => return Err(AdminError::Empty(dir.to_owned())),
    }
    match tokio::time::timeout(LOCK_WAIT, way(config)).await {
        Ok(Ok(Way::Socket(stream))) => ask(stream, request, config).await,
        Ok(Ok(Way::Store(lock))) => in_store(&lock, config, request).await,
        Ok(Err(error)) => Err(error),
        // Still held, and nobody answers: the last look says by whom.
        Err(_) => match DataDir::open_as(dir, Holder::Command) {
            Ok(lock) => in_store(&lock, config, request).await,
            Err(error) => Err(AdminError::DataDir(error)),
        },
    }
}

enum Way {
    Socket(UnixStream),
    Store(DataDir),
}

/// Waits for the socket or the lock, whichever is there first.
async fn way(config: &Config) -> Result<Way, AdminError> {
    let dir = config.data_dir();
    loop {
        if let Ok(socket) = datadir::socket(dir)
            && let Ok(stream) = UnixStream::connect(&socket.path).await
        {
            return Ok(Way::Socket(stream));
        }
        match DataDir::open_as(dir, Holder::Command) {
            Ok(_) if config.storage == Storage::Memory => {
                return Err(AdminError::NotRunning(dir.to_owned()));
            }
            Ok(lock) => return Ok(Way::Store(lock)),
            Err(DataDirError::Held { .. }) => tokio::time::sleep(LOCK_POLL).await,
            Err(error) => return Err(AdminError::DataDir(error)),
        }
    }
}

async fn in_store(
    dir: &DataDir,
    config: &Config,
    request: Request,
) -> Result<Vec<String>, AdminError> {
    let limits = StoreLimits::from(&config.limits);
    let store = Store::open_sqlite(&dir.database(), &limits).map_err(AdminError::Store)?;
    let stopped = Stopped::new(store.clone(), config, &Clock::start());
    let done = run(&Users::Stopped(Arc::new(stopped)), request).await;
    store.close().await;
    done.map_err(AdminError::User)
}

async fn ask(
    stream: UnixStream,
    request: Request,
    config: &Config,
) -> Result<Vec<String>, AdminError> {
    let (read, mut write) = stream.into_split();
    let request = serde_json::to_value(request).map_err(io::Error::from);
    let asked = Asked {
        v: VERSION,
        request: request.map_err(AdminError::Socket)?,
    };
    write
        .write_all(&line_of(&asked))
        .await
        .map_err(AdminError::Socket)?;
    let mut read = BufReader::new(read);
    let mut accounts = Vec::new();
    loop {
        let line = read_line(&mut read, config.limits.admin_line_bytes_max).await;
        let line = line.map_err(AdminError::Socket)?;
        let line = line.ok_or_else(|| AdminError::Socket(io::ErrorKind::UnexpectedEof.into()))?;
        let reply = serde_json::from_slice(&line).map_err(io::Error::from);
        match reply.map_err(AdminError::Socket)? {
            Reply::Done(_) => return Ok(accounts),
            Reply::Failed(text) => return Err(AdminError::Refused(text.into())),
            Reply::Jid(jid) => accounts.push(jid),
        }
    }
}

/// A line without its end; `None` at the end of the stream.
async fn read_line(
    read: &mut (impl AsyncBufRead + Unpin),
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    read.take(bound).read_until(b'\n', &mut line).await?;
    match line.pop() {
        Some(b'\n') => Ok(Some(line)),
        None => Ok(None),
        Some(_) if line.len() + 1 < bytes_max => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the line is too long",
        )),
    }
}

fn line_of(value: &impl Serialize) -> Vec<u8> {
    // Neither requests nor replies hold what JSON cannot say.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Empty(path) => {
                write!(
                    f,
                    "there is no data directory {}; is --data right?",
                    path.display()
                )
            }
            Self::NotRunning(path) => write!(
                f,
                "with `memory` storage accounts live in the running server only, and none answers \
                 in {}",
                path.display()
            ),
            Self::Refused(text) => f.write_str(text),
            Self::Socket(error) => write!(f, "the server did not answer: {error}"),
            Self::Store(error) => write!(f, "store: {error}"),
            Self::User(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AdminError {}

#[cfg(test)]
mod tests;
