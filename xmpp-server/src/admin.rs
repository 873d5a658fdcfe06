//! The control socket of the running server, and what each request means.
//!
//! DESIGN 1. One JSON object a line: a request is answered by any number of `item` lines and one
//! `done` or `failed` line; a watch by `item` lines until one side ends it. `admin.sock` is 0600 in
//! a directory that is 0700; there is no login. The other end is `ask`.

mod ask;

use crate::core::Core;
use crate::datadir::{self, DataDir, DataDirError, LOCK_POLL};
use crate::import::{ImportedAccount, Outcome};
use crate::limits::Limits;
use crate::users::{UserError, Users, account_name};
use crate::watch::Shown;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info, warn};
use xmpp_stream::jid::Jid;
use xmpp_stream::stream::Password;

pub use ask::{Admin, AdminError, request};

/// What is asked of a server.
#[derive(Clone, Deserialize, Serialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Try to reach another domain, step by step.
    S2sCheck {
        /// Which.
        domain: String,
    },
    /// List links to other servers.
    S2sList {
        /// With this domain only.
        domain: Option<String>,
    },
    /// End sessions.
    SessionKick {
        /// Of an account (bare) or one (full).
        jid: String,
    },
    /// List sessions.
    SessionList,
    /// Show stanzas as they pass, until one side ends it.
    SessionWatch {
        /// Of an account (bare) or of one session (full).
        jid: String,
    },
    /// Counters and gauges.
    Stats,
    /// Add an account.
    UserAdd {
        /// Its name.
        jid: String,
        /// Its password.
        password: String,
    },
    /// Keep an account from signing in, and end its sessions.
    UserBan {
        /// Its name.
        jid: String,
        /// Why; for operators.
        reason: Option<String>,
    },
    /// Add accounts that do not exist.
    UserImport {
        /// With their keys.
        accounts: Vec<ImportedAccount>,
    },
    /// Which of these accounts exist.
    UserKnown {
        /// Their names.
        jids: Vec<String>,
    },
    /// List accounts.
    UserList {
        /// Of this domain only.
        domain: Option<String>,
        /// Also whether and why they are banned.
        #[serde(default)]
        bans: bool,
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
    /// Let a banned account sign in again.
    UserUnban {
        /// Its name.
        jid: String,
    },
}

impl Request {
    /// True for what only a running server can answer.
    fn needs_server(&self) -> bool {
        matches!(
            self,
            Self::S2sCheck { .. }
                | Self::S2sList { .. }
                | Self::SessionKick { .. }
                | Self::SessionList
                | Self::SessionWatch { .. }
                | Self::Stats
        )
    }
}

/// Version of the line format; a server refuses others.
const VERSION: u32 = 2;
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize, Serialize)]
struct Asked {
    v: u32,
    #[serde(flatten)]
    request: Value,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Done(Version),
    Failed(String),
    Item(Value),
}

#[derive(Deserialize, Serialize)]
struct Version {
    v: u32,
}

const DONE: Reply = Reply::Done(Version { v: VERSION });

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
        // They end with this task: a watch would hold the server for ever.
        let mut conversations = JoinSet::new();
        loop {
            while conversations.try_join_next().is_some() {}
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
            conversations.spawn(async move {
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
        match (parse(&line), users) {
            (Ok(Request::SessionWatch { jid }), Users::Running(core)) => {
                if watch(core, &jid, &mut read, &mut write).await? {
                    return Ok(());
                }
            }
            (request, _) => {
                let mut out = Vec::new();
                for reply in answer(request, users).await {
                    out.extend_from_slice(&line_of(&reply));
                }
                write.write_all(&out).await?;
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Request, String> {
    let asked: Result<Asked, _> = serde_json::from_slice(line);
    let asked = asked.map_err(|_| "not a request of this protocol")?;
    if asked.v != VERSION {
        return Err(format!("this server speaks version {VERSION}"));
    }
    let request = serde_json::from_value(asked.request);
    request.map_err(|_| "not a request that this server knows".into())
}

async fn answer(request: Result<Request, String>, users: &Users) -> Vec<Reply> {
    let answered = match request {
        Ok(request) => run(users, request).await.map_err(|error| error.to_string()),
        Err(text) => Err(text),
    };
    match answered {
        Ok(items) => {
            let items = items.into_iter().map(Reply::Item);
            items.chain([DONE]).collect()
        }
        Err(text) => vec![Reply::Failed(text)],
    }
}

/// Shows what passes until the session or one side of the socket ends; false when there is nothing
/// of this name to watch.
async fn watch(
    core: &Arc<Core>,
    jid: &str,
    read: &mut (impl AsyncBufRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
) -> io::Result<bool> {
    let jid = match Jid::parse(jid) {
        Ok(jid) if core.is_watchable(&jid).await => jid,
        _ => {
            let failed = Reply::Failed(AdminError::NoSession.to_string());
            write.write_all(&line_of(&failed)).await?;
            return Ok(false);
        }
    };
    let watch = core.tap.watch(jid.clone(), &core.limits);
    info!(%jid, "session watch opened");
    let shown = async {
        loop {
            let items = watch.next().await;
            let over = matches!(items.last(), Some(Shown::Ended { .. }));
            let mut out = Vec::new();
            for item in items {
                out.extend_from_slice(&line_of(&Reply::Item(json!(item))));
            }
            if over {
                out.extend_from_slice(&line_of(&DONE));
            }
            write.write_all(&out).await?;
            if over {
                return io::Result::Ok(());
            }
        }
    };
    // Whatever the other side says now, or its end, is the end.
    let done = tokio::select! {
        done = shown => done,
        _ = read.fill_buf() => Ok(()),
    };
    info!(%jid, "session watch closed");
    done.map(|()| true)
}

/// Does what was asked; gives what was asked for, an object or a text each.
///
/// # Errors
/// Why not.
pub async fn run(users: &Users, request: Request) -> Result<Vec<Value>, AdminError> {
    match request {
        Request::S2sCheck { .. }
        | Request::S2sList { .. }
        | Request::SessionKick { .. }
        | Request::SessionList
        | Request::Stats => match users {
            Users::Running(core) => return of_server(core, request).await,
            Users::Stopped(_) => return Err(AdminError::NoSession),
        },
        Request::SessionWatch { .. } => return Err(AdminError::NoSession),
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
        Request::UserBan { jid, reason } => {
            let jid = account_name(&jid).map_err(UserError::Name)?;
            users.ban(&jid, reason).await?;
            info!(%jid, "account banned by an operator");
        }
        Request::UserUnban { jid } => {
            let jid = account_name(&jid).map_err(UserError::Name)?;
            users.unban(&jid).await?;
            info!(%jid, "ban lifted by an operator");
        }
        Request::UserList { domain, bans } => return list(users, domain.as_deref(), bans).await,
        Request::UserKnown { jids } => {
            let mut known = Vec::new();
            for jid in jids {
                let account = account_name(&jid).map_err(UserError::Name)?;
                if users.exists(&account).await? {
                    known.push(jid.into());
                }
            }
            return Ok(known);
        }
        Request::UserImport { accounts } => {
            let outcomes = users.import(accounts).await;
            let added = outcomes
                .iter()
                .filter(|outcome| **outcome == Outcome::Added);
            // One of many batches; whoever imports is told the sum.
            debug!(accounts = added.count(), "accounts imported by an operator");
            return Ok(outcomes.iter().map(|outcome| json!(outcome)).collect());
        }
    }
    Ok(Vec::new())
}

async fn of_server(core: &Arc<Core>, request: Request) -> Result<Vec<Value>, AdminError> {
    match request {
        Request::SessionKick { jid } => {
            let jid = Jid::parse(&jid).map_err(|_| AdminError::NoSession)?;
            let sessions = core.kick(&jid).await;
            info!(%jid, sessions, "kicked by an operator");
            match sessions {
                0 => Err(AdminError::NoSession),
                _ => Ok(Vec::new()),
            }
        }
        Request::S2sList { domain } => {
            let domain = domain
                .as_deref()
                .and_then(|domain| Jid::domain_only(domain).ok());
            let links = core.list_links(domain.as_ref().map(Jid::domain));
            Ok(links.iter().map(|link| json!(link)).collect())
        }
        Request::S2sCheck { domain } => {
            let steps = core.check_link(&domain).await;
            Ok(steps.iter().map(|step| json!(step)).collect())
        }
        Request::SessionList => {
            let sessions = core.list_sessions();
            Ok(sessions.iter().map(|session| json!(session)).collect())
        }
        _ => {
            core.refresh_gauges();
            let samples = core.tap.metrics.samples();
            Ok(samples.iter().map(|sample| json!(sample)).collect())
        }
    }
}

async fn list(users: &Users, domain: Option<&str>, bans: bool) -> Result<Vec<Value>, AdminError> {
    let accounts = users.list(domain).await?;
    let mut listed = Vec::with_capacity(accounts.len());
    for account in accounts {
        let ban = match bans {
            true => users.ban_of(&account).await?,
            false => None,
        };
        listed.push(match ban {
            None => json!({ "jid": account.as_str() }),
            Some(ban) => {
                json!({ "jid": account.as_str(), "banned": true, "reason": ban.reason })
            }
        });
    }
    Ok(listed)
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

#[cfg(test)]
mod tests;
