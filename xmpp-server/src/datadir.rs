//! The data directory: its layout, its lock, and the files a running server leaves in it.
//!
//! DESIGN 1. `server.db`, `lock`, `admin.sock`, `addresses.json`, `ca/`, `certs/`. The directory is
//! 0700: keys and database are for the server's user alone.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A data directory that this process holds the lock of.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    holder: Holder,
    _lock: File,
}

/// What holds the lock; written into it, for those who wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A user command: done within seconds.
    Command,
    /// A server: stays.
    Server,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process holds it.
    Held {
        /// The directory.
        path: PathBuf,
        /// Who, when it left its name.
        by: Option<(u32, Holder)>,
    },
    /// A file in it, or itself.
    Io(PathBuf, io::Error),
    /// It is a place that everybody writes to.
    Shared(PathBuf),
}

/// Where the control socket is, as a path short enough for an address.
#[derive(Debug)]
pub(crate) struct SocketPath {
    /// For bind and connect.
    pub(crate) path: PathBuf,
    /// Keeps a path through /proc/self/fd valid.
    _dir: Option<File>,
}

/// `sockaddr_un` has room for 108 bytes, one of them the end.
const SOCKET_PATH_MAX: usize = 107;
/// How long commands and a starting server wait for each other.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Between two looks while waiting.
pub(crate) const LOCK_POLL: Duration = Duration::from_millis(50);

impl DataDir {
    /// Makes the directory where it is missing and takes its lock for a server.
    ///
    /// # Errors
    /// `Held` when another process has the lock, `Shared` for a directory like /tmp, else `Io`.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        Self::open_as(path, Holder::Server)
    }

    /// The same for a server that starts: a user command that has the lock just then is waited for,
    /// at most 5 s.
    ///
    /// # Errors
    /// As `open`.
    pub async fn open_in_turn(path: &Path) -> Result<Self, DataDirError> {
        let until = tokio::time::Instant::now() + LOCK_WAIT;
        let mut by_server = false;
        loop {
            let held = match Self::open(path) {
                Err(DataDirError::Held { path, by }) => DataDirError::Held { path, by },
                other => return other,
            };
            // Who has just taken the lock may not have written its name yet: what is read then is
            // nothing, or the name of the one before. So a server is believed at the second look.
            let is_server = matches!(
                held,
                DataDirError::Held {
                    by: Some((_, Holder::Server)),
                    ..
                }
            );
            if (is_server && by_server) || tokio::time::Instant::now() >= until {
                return Err(held);
            }
            by_server = is_server;
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    /// The same for a server or a command.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_as(path: &Path, holder: Holder) -> Result<Self, DataDirError> {
        make_private(path)?;
        let lock = take_lock(path, holder)?;
        let dir = Self {
            path: path.to_owned(),
            holder,
            _lock: lock,
        };
        if holder == Holder::Server {
            // Of a server that was killed: nobody should take its addresses for ours.
            dir.clean();
        }
        Ok(dir)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SQLite database of all domains.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        database(&self.path)
    }

    /// The folder of the development CA.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path.join("ca")
    }

    /// The folder of the certificates that the development CA issued.
    #[must_use]
    pub fn certs(&self) -> PathBuf {
        self.path.join("certs")
    }

    /// Tells scripts where the server listens.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_addresses(
        &self,
        addresses: &BTreeMap<&str, Vec<SocketAddr>>,
    ) -> Result<(), DataDirError> {
        let mut object = serde_json::Map::new();
        object.insert("pid".into(), std::process::id().into());
        for (name, list) in addresses {
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            object.insert((*name).into(), list.into());
        }
        let text = format!("{}\n", serde_json::Value::Object(object));
        let new = self.path.join("addresses.json.new");
        let written = std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, self.path.join(ADDRESSES)));
        written.map_err(|error| DataDirError::Io(new, error))
    }

    /// Removes what only a running server leaves there.
    pub fn clean(&self) {
        for name in [ADDRESSES, SOCKET] {
            // Nothing to do about a failure: the next start replaces both.
            let _ = std::fs::remove_file(self.path.join(name));
        }
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.holder == Holder::Server {
            self.clean();
        }
    }
}

const ADDRESSES: &str = "addresses.json";
const LOCK: &str = "lock";
const SOCKET: &str = "admin.sock";

/// The SQLite database of a data directory.
#[must_use]
pub fn database(path: &Path) -> PathBuf {
    path.join("server.db")
}

/// The certificate of the development CA, which clients are to trust.
#[must_use]
pub fn ca_certificate(path: &Path) -> PathBuf {
    path.join("ca").join("ca.pem")
}

/// The server that works in a data directory at this moment, and where it listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RunningServer {
    /// Its process.
    pub pid: u32,
    /// Its listeners, with real ports.
    pub addresses: Vec<SocketAddr>,
}

/// The running server: one that answers on its control socket. Nothing is changed, no lock taken.
#[must_use]
pub fn running(path: &Path) -> Option<RunningServer> {
    let control = socket(path).ok()?;
    UnixStream::connect(&control.path).ok()?;
    let text = std::fs::read_to_string(path.join(ADDRESSES)).ok()?;
    let written: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).ok()?;
    let pid = written.get("pid").and_then(serde_json::Value::as_u64)?;
    let lists = written.values().filter_map(serde_json::Value::as_array);
    let addresses = lists.flatten().filter_map(|a| a.as_str()?.parse().ok());
    Some(RunningServer {
        pid: u32::try_from(pid).ok()?,
        addresses: addresses.collect(),
    })
}

/// The control socket's path. A long one goes through /proc/self/fd.
pub(crate) fn socket(path: &Path) -> io::Result<SocketPath> {
    let socket = path.join(SOCKET);
    if socket.as_os_str().as_bytes().len() <= SOCKET_PATH_MAX {
        return Ok(SocketPath {
            path: socket,
            _dir: None,
        });
    }
    let dir = File::open(path)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()));
    Ok(SocketPath {
        path,
        _dir: Some(dir),
    })
}

/// Makes the directory, or takes everybody else's rights from it.
fn make_private(path: &Path) -> Result<(), DataDirError> {
    const STICKY: u32 = 0o1000;
    let io = |error| DataDirError::Io(path.to_owned(), error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io)?;
    let mode = std::fs::metadata(path).map_err(io)?.mode();
    if mode & STICKY != 0 {
        return Err(DataDirError::Shared(path.to_owned()));
    }
    if mode & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io)?;
    }
    Ok(())
}

fn take_lock(path: &Path, holder: Holder) -> Result<File, DataDirError> {
    let name = path.join(LOCK);
    let mut options = OpenOptions::new();
    options
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600);
    let io = |error| DataDirError::Io(name.clone(), error);
    let mut lock = options.open(&name).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let by = read_holder(&mut lock);
            return Err(DataDirError::Held {
                path: path.to_owned(),
                by,
            });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    let text = format!("{} {}\n", std::process::id(), holder.as_str());
    lock.set_len(0)
        .and_then(|()| lock.write_all(text.as_bytes()))
        .map_err(io)?;
    Ok(lock)
}

fn read_holder(lock: &mut File) -> Option<(u32, Holder)> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.take(64).read_to_string(&mut text).ok()?;
    let (pid, holder) = text.trim_end().split_once(' ')?;
    let holder = [Holder::Command, Holder::Server]
        .into_iter()
        .find(|h| h.as_str() == holder)?;
    Some((pid.parse().ok()?, holder))
}

impl Holder {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, by } => {
                write!(f, "the data directory {} is in use by ", path.display())?;
                match by {
                    Some((pid, Holder::Command)) => write!(f, "a user command (pid {pid})"),
                    Some((pid, Holder::Server)) => write!(f, "a running server (pid {pid})"),
                    None => f.write_str("another process"),
                }
            }
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Shared(path) => write!(
                f,
                "{} is shared with others; give a directory of its own as data directory",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DataDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder of its own that goes with the value.
    pub(crate) struct TempDir(pub(crate) PathBuf);

    impl TempDir {
        pub(crate) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("xmpp-server-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_second_server_is_refused_with_the_pid_of_the_first() {
        let temp = TempDir::new();
        let dir = temp.0.join("data");
        let first = DataDir::open(&dir).unwrap();
        let error = DataDir::open(&dir).unwrap_err().to_string();
        let want = format!(
            "the data directory {} is in use by a running server (pid {})",
            dir.display(),
            std::process::id()
        );
        assert_eq!(error, want);
        drop(first);
        let command = DataDir::open_as(&dir, Holder::Command).unwrap();
        let error = DataDir::open(&dir).unwrap_err();
        assert!(
            error.to_string().contains("in use by a user command (pid "),
            "{error}"
        );
        drop(command);
        DataDir::open(&dir).unwrap();
    }

    #[test]
    fn it_is_private() {
        let temp = TempDir::new();
        let new = temp.0.join("a/b");
        let dir = DataDir::open(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        assert_eq!(mode(&new.join("lock")), 0o600);
        drop(dir);
        std::fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
        let _dir = DataDir::open(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        let shared = temp.0.join("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(
            DataDir::open(&shared),
            Err(DataDirError::Shared(_))
        ));
        assert_eq!(mode(&shared), 0o1777);
    }

    #[test]
    fn a_path_that_is_no_directory_is_named() {
        let temp = TempDir::new();
        let file = temp.0.join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::open(&file).unwrap_err().to_string();
        assert!(error.starts_with(&file.display().to_string()), "{error}");
    }

    #[test]
    fn addresses_are_there_while_it_runs() {
        let temp = TempDir::new();
        let dir = DataDir::open(&temp.0).unwrap();
        let address = vec![
            "127.0.0.1:5222".parse().unwrap(),
            "[::1]:5222".parse().unwrap(),
        ];
        dir.write_addresses(&BTreeMap::from([("c2s-starttls", address)]))
            .unwrap();
        let file = temp.0.join("addresses.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let want = serde_json::json!({
            "pid": std::process::id(),
            "c2s-starttls": ["127.0.0.1:5222", "[::1]:5222"],
        });
        assert_eq!(value, want);
        assert!(!temp.0.join("addresses.json.new").exists());
        drop(dir);
        assert!(!file.exists());
    }

    #[test]
    fn what_a_killed_server_left_goes_first() {
        let temp = TempDir::new();
        for name in ["addresses.json", "admin.sock", "server.db"] {
            std::fs::write(temp.0.join(name), "").unwrap();
        }
        let there = |name| temp.0.join(name).exists();
        drop(DataDir::open_as(&temp.0, Holder::Command).unwrap());
        assert!(there("addresses.json") && there("admin.sock"));
        let _dir = DataDir::open(&temp.0).unwrap();
        assert!(!there("addresses.json") && !there("admin.sock") && there("server.db"));
    }

    #[test]
    fn a_long_socket_path_goes_through_proc() {
        let temp = TempDir::new();
        let short = socket(&temp.0).unwrap();
        assert_eq!(short.path, temp.0.join("admin.sock"));
        let long = temp.0.join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let long_socket = socket(&long).unwrap();
        assert!(long_socket.path.starts_with("/proc/self/fd"));
        let _listener = std::os::unix::net::UnixListener::bind(&long_socket.path).unwrap();
        assert!(long.join("admin.sock").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_starting_server_waits_for_commands_and_for_no_server() {
        let temp = TempDir::new();
        let path = temp.0.clone();
        let starting = || {
            tokio::spawn({
                let path = path.clone();
                async move { DataDir::open_in_turn(&path).await }
            })
        };
        // Also for one that has not said yet who it is, or after one that was a server.
        for text in ["1 command\n", "", "1 server\n"] {
            let command = DataDir::open_as(&path, Holder::Command).unwrap();
            std::fs::write(path.join(LOCK), text).unwrap();
            let starting = starting();
            tokio::task::yield_now().await;
            assert!(!starting.is_finished(), "{text}");
            drop(command);
            drop(starting.await.unwrap().unwrap());
        }
        let _server = DataDir::open(&path).unwrap();
        let begun = tokio::time::Instant::now();
        assert!(starting().await.unwrap().is_err());
        assert!(begun.elapsed() < LOCK_WAIT / 10);
    }
}
