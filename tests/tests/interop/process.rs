//! Servers as processes: a folder for each, given to `nobody`, and the end of both.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use xmpp_certs::{DevCa, Leaf};

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// `nobody`: servers do not run as root.
const NOBODY: u32 = 65_534;

/// ejabberd. Without a node name it needs no epmd and no cookie.
pub(crate) fn ejabberd(folder: &Folder, config: &Path) -> Command {
    let mut command = Command::new("erl");
    command
        .args(["-noinput", "+K", "true", "-mnesia", "dir"])
        .arg(format!("{:?}", folder.path.join("spool")))
        .args(["-s", "ejabberd"])
        .env("EJABBERD_CONFIG_PATH", config)
        .env("EJABBERD_LOG_PATH", folder.path.join("ejabberd.log"))
        .env("ERL_LIBS", ejabberd_libraries())
        .env("ERL_CRASH_DUMP_BYTES", "0");
    command
}

/// Prosody.
pub(crate) fn prosody(config: &Path) -> Command {
    let mut command = Command::new("prosody");
    command.arg("--config").arg(config).arg("-F");
    command
}

/// Our own server.
pub(crate) fn ours(program: &Path, folder: &Folder, config: &Path) -> Command {
    // Whoever it runs as may not be able to look into a build folder.
    let copy = folder.path.join("xmpp-server");
    fs::copy(program, &copy).expect("INTEROP_SERVER is a program");
    let mut command = Command::new(copy);
    command.arg("--config").arg(config);
    command
}

/// The same program, which asks whom this file names: for itself, and it alone, the file lies where
/// /etc/resolv.conf is.
pub(crate) fn asking(resolver: &Path, command: &Command) -> Command {
    const SCRIPT: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let nobody = NOBODY.to_string();
    let mut all = Command::new("unshare");
    all.args(["--mount", "sh", "-c", SCRIPT]).arg(resolver);
    all.args(["setpriv", "--reuid", &nobody, "--regid", &nobody]);
    all.arg("--clear-groups").arg(command.get_program());
    all.args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            all.env(name, value);
        }
    }
    all
}

/// Ports that are free now.
pub(crate) fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let free = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    // Held together, so that they differ.
    let held: [TcpListener; N] = std::array::from_fn(free);
    held.map(|port| port.local_addr().expect("an address"))
}

/// Waits until all of these answer. That a port is there is not enough: ejabberd opens its ports
/// long before it reads from them.
pub(crate) async fn listening(name: &str, addresses: &[SocketAddr]) {
    let tries = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        for address in addresses {
            let mut stream = loop {
                match TcpStream::connect(address).await {
                    Ok(stream) => break stream,
                    Err(_) => drop(ticks.tick().await),
                }
            };
            // Nothing of any protocol: whoever reads it says so, or closes.
            let _ = stream.write_all(b"\0\0\0\0\0\0").await;
            let _ = stream.read(&mut [0]).await;
        }
    };
    let answered = tokio::time::timeout(START_MAX, tries).await;
    answered.unwrap_or_else(|_| panic!("{name} does not start"));
}

#[expect(clippy::disallowed_methods, reason = "the caller's clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// A folder for one server, with its certificate. Removed when dropped.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) ca_pem: String,
}

impl Folder {
    /// With a certificate for these names of a CA of its own.
    pub(crate) fn new(name: &str, names: &[&str]) -> Self {
        let now = now();
        let ca = DevCa::new(now).expect("a CA");
        let leaf = ca.issue(names, now).expect("a certificate");
        Self::with(name, &leaf, ca.pem())
    }

    /// With this certificate; anchors for clients and for other servers are in `ca.pem`.
    pub(crate) fn with(name: &str, leaf: &Leaf, ca_pem: &str) -> Self {
        Self::with_pem(name, [&leaf.chain_pem, &leaf.key_pem], ca_pem)
    }

    /// The same of the texts of a chain and its key.
    pub(crate) fn with_pem(name: &str, [chain, key]: [&str; 2], ca_pem: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xmpp-interop-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("spool")).expect("a folder");
        let folder = Self {
            path,
            ca_pem: ca_pem.to_owned(),
        };
        folder.write("ca.pem", ca_pem);
        folder.write("chain.pem", chain);
        folder.write("key.pem", key);
        folder.write("both.pem", &format!("{chain}{key}"));
        folder
    }

    /// Writes a file into it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// Writes a program into it.
    pub(crate) fn write_script(&self, name: &str, text: &str) {
        let path = self.write(name, text);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, mode).expect("the file is ours");
    }

    /// Its path, in a configuration.
    pub(crate) fn show(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A server's process; killed when dropped. What it says goes into a file of its folder.
pub(crate) struct Process {
    child: Child,
    pub(crate) folder: Folder,
}

impl Process {
    /// Starts a program with what is in the folder.
    pub(crate) fn start(mut command: Command, folder: Folder) -> Self {
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Self::start_as_root(command, folder)
    }

    /// The same for one that gives itself to `nobody`.
    pub(crate) fn start_as_root(mut command: Command, folder: Folder) -> Self {
        let output = fs::File::create(folder.path.join("output")).expect("a file");
        let errors = output.try_clone().expect("a file");
        command
            .current_dir(&folder.path)
            .env("HOME", &folder.path)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        if is_root() {
            give_away(&folder.path);
        }
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} does not start ({error}); is the package installed?")
        });
        Self { child, folder }
    }

    /// What is in one of its files by now.
    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.path.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::env::var_os("INTEROP_LOG").is_some() {
            for name in ["output", "ejabberd.log", "prosody.log"] {
                println!("{name}:\n{}", self.read(name));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The folder and what is in it belong to nobody.
fn give_away(folder: &Path) {
    chown(folder, Some(NOBODY), Some(NOBODY)).expect("the folder is ours");
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("the file is ours");
    }
}

/// Where Debian keeps the libraries of ejabberd: below /usr/lib/TRIPLET.
fn ejabberd_libraries() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("a folder");
    let mut folders = folders.filter_map(Result::ok).map(|entry| entry.path());
    let has_ejabberd = |folder: &PathBuf| {
        let inside = fs::read_dir(folder).into_iter().flatten();
        inside.filter_map(Result::ok).any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("ejabberd-")
        })
    };
    folders
        .find(has_ejabberd)
        .expect("the package ejabberd is installed")
}
