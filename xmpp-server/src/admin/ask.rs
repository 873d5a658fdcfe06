//! The asking end of the control socket, and the way to the store where no server runs (DESIGN 1).

use super::{Asked, Reply, Request, VERSION, line_of, read_line, run};
use crate::clock::Clock;
use crate::config::{Config, Storage};
use crate::datadir::{self, DataDir, DataDirError, Holder, LOCK_POLL, LOCK_WAIT};
use crate::store::{Store, StoreError, StoreLimits};
use crate::users::{Stopped, UserError, Users};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Why a request had no success.
#[derive(Debug)]
#[non_exhaustive]
pub enum AdminError {
    /// The data directory.
    DataDir(DataDirError),
    /// There is nothing to look into: no server has run there, no account was added.
    Empty(PathBuf),
    /// The request is for a running server, and none answers.
    NoServer(PathBuf),
    /// There is no such session, or no such account.
    NoSession,
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

/// What answers requests: a running server, or the store under the lock.
pub struct Admin(Way);

enum Way {
    Socket(Box<Socket>),
    Store(Box<Held>),
}

struct Socket {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    line_bytes_max: usize,
}

struct Held {
    users: Users,
    store: Store,
    _lock: DataDir,
}

/// Asks the running server, or does it in the store where none runs.
///
/// # Errors
/// See `AdminError`.
pub async fn request<T: DeserializeOwned>(
    config: &Config,
    request: Request,
) -> Result<Vec<T>, AdminError> {
    let mut admin = Admin::open(config, &request).await?;
    let answer = admin.ask(&request).await;
    admin.close().await;
    answer
}

impl Admin {
    /// Finds what answers this request and others of its kind.
    ///
    /// # Errors
    /// See `AdminError`.
    pub async fn open(config: &Config, request: &Request) -> Result<Self, AdminError> {
        let dir = config.data_dir();
        let makes = matches!(
            request,
            Request::UserAdd { .. } | Request::UserImport { .. }
        );
        match (dir.exists(), config.storage) {
            (false, _) if request.needs_server() => {
                return Err(AdminError::NoServer(dir.to_owned()));
            }
            (false, Storage::Memory) => return Err(AdminError::NotRunning(dir.to_owned())),
            (false, Storage::Sqlite) if !makes => return Err(AdminError::Empty(dir.to_owned())),
            (false, Storage::Sqlite) | (true, _) => {}
        }
        match tokio::time::timeout(LOCK_WAIT, way(config, request)).await {
            Ok(way) => way.map(Self),
            // Still held, and nobody answers: the last look says by whom.
            Err(_) => match DataDir::open_as(dir, Holder::Command) {
                Ok(_) if request.needs_server() => Err(AdminError::NoServer(dir.to_owned())),
                Ok(lock) => Ok(Self(in_store(lock, config)?)),
                Err(error) => Err(AdminError::DataDir(error)),
            },
        }
    }

    /// Asks one thing and waits for the whole answer.
    ///
    /// # Errors
    /// See `AdminError`.
    pub async fn ask<T: DeserializeOwned>(
        &mut self,
        request: &Request,
    ) -> Result<Vec<T>, AdminError> {
        let values = match &mut self.0 {
            Way::Store(held) => run(&held.users, request.clone()).await?,
            Way::Socket(socket) => {
                let mut values = Vec::new();
                let mut keep = |value| {
                    values.push(value);
                    Ok(())
                };
                socket.ask(request, &mut keep).await?;
                values
            }
        };
        let values = values.into_iter().map(serde_json::from_value);
        let values: Result<Vec<T>, _> = values.collect();
        values.map_err(|error| AdminError::Socket(error.into()))
    }

    /// Asks for something that goes on, and shows each part of the answer as it comes.
    ///
    /// # Errors
    /// See `AdminError`; what `show` gives is `AdminError::Socket`.
    pub async fn follow<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        mut show: impl FnMut(T) -> io::Result<()>,
    ) -> Result<(), AdminError> {
        match &mut self.0 {
            Way::Socket(socket) => {
                let mut show = |value| show(serde_json::from_value(value)?);
                socket.ask(request, &mut show).await
            }
            Way::Store(held) => run(&held.users, request.clone()).await.map(drop),
        }
    }

    /// Bytes that a request may have, its line end included.
    #[must_use]
    pub fn line_bytes_max(&self) -> usize {
        match &self.0 {
            Way::Socket(socket) => socket.line_bytes_max,
            // No line is written; this is what one batch holds in memory.
            Way::Store(_) => 64 * 1024,
        }
    }

    /// Lets go of the socket, or closes the store and then frees the lock.
    pub async fn close(self) {
        if let Way::Store(held) = self.0 {
            held.store.close().await;
        }
    }
}

/// Waits for the socket or the lock, whichever is there first.
async fn way(config: &Config, request: &Request) -> Result<Way, AdminError> {
    let dir = config.data_dir();
    loop {
        if let Ok(socket) = datadir::socket(dir)
            && let Ok(stream) = UnixStream::connect(&socket.path).await
        {
            let (read, write) = stream.into_split();
            return Ok(Way::Socket(Box::new(Socket {
                read: BufReader::new(read),
                write,
                line_bytes_max: config.limits.admin_line_bytes_max,
            })));
        }
        match DataDir::open_as(dir, Holder::Command) {
            Ok(_) if request.needs_server() => return Err(AdminError::NoServer(dir.to_owned())),
            Ok(_) if config.storage == Storage::Memory => {
                return Err(AdminError::NotRunning(dir.to_owned()));
            }
            Ok(lock) => return in_store(lock, config),
            Err(DataDirError::Held { .. }) => tokio::time::sleep(LOCK_POLL).await,
            Err(error) => return Err(AdminError::DataDir(error)),
        }
    }
}

fn in_store(lock: DataDir, config: &Config) -> Result<Way, AdminError> {
    let limits = StoreLimits::from(&config.limits);
    let store = Store::open_sqlite(&lock.database(), &limits).map_err(AdminError::Store)?;
    let stopped = Stopped::new(store.clone(), config, &Clock::start());
    Ok(Way::Store(Box::new(Held {
        users: Users::Stopped(Arc::new(stopped)),
        store,
        _lock: lock,
    })))
}

impl Socket {
    async fn ask(
        &mut self,
        request: &Request,
        take: &mut impl FnMut(Value) -> io::Result<()>,
    ) -> Result<(), AdminError> {
        let request = serde_json::to_value(request).map_err(io::Error::from);
        let asked = Asked {
            v: VERSION,
            request: request.map_err(AdminError::Socket)?,
        };
        let written = self.write.write_all(&line_of(&asked)).await;
        written.map_err(AdminError::Socket)?;
        loop {
            let line = read_line(&mut self.read, self.line_bytes_max.max(ANSWER_BYTES_MAX)).await;
            let line = line.map_err(AdminError::Socket)?;
            let line =
                line.ok_or_else(|| AdminError::Socket(io::ErrorKind::UnexpectedEof.into()))?;
            let reply = serde_json::from_slice(&line).map_err(io::Error::from);
            match reply.map_err(AdminError::Socket)? {
                Reply::Done(_) => return Ok(()),
                Reply::Failed(text) => return Err(AdminError::Refused(text.into())),
                Reply::Item(value) => take(value).map_err(AdminError::Socket)?,
            }
        }
    }
}

/// One line of an answer: the largest stanza that a session may have, escaped for JSON, fits.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

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
            Self::NoServer(path) => write!(f, "no server answers in {}", path.display()),
            Self::NoSession => f.write_str("there is no such session"),
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

impl From<UserError> for AdminError {
    fn from(error: UserError) -> Self {
        Self::User(error)
    }
}
