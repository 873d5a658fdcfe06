//! A server under test: our own in this process, or one of Debian's as a process of its own.

use super::config;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use xmpp_certs::DevCa;
use xmpp_client::{BareJid, Builder, Guest, Stanza, Ty, XmppClient};
use xmpp_server::config::Registration;
use xmpp_testkit::{Place, TestLab, Trust, Wire};

/// The domain of every server; what is below it resolves to the loopback interface everywhere.
pub(crate) const DOMAIN: &str = "localhost";
/// Service hosts that a certificate has to name too.
const NAMES: &[&str] = &[
    "localhost",
    "conference.localhost",
    "pubsub.localhost",
    "upload.localhost",
    FORM_DOMAIN,
    ASSIGNING_DOMAIN,
];
/// Where one registers by a form.
pub(crate) const FORM_DOMAIN: &str = "form.localhost";
/// Where the server has the last word about the name.
pub(crate) const ASSIGNING_DOMAIN: &str = "assigning.localhost";
/// Who may do all.
pub(crate) const OPERATOR: &str = "operator";
/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// `nobody`: servers do not run as root.
const NOBODY: u32 = 65_534;

/// A server under test.
pub(crate) struct Peer {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Where it is.
    pub(crate) place: Place,
    /// A domain of it that wants a form filled in of who registers.
    pub(crate) form_domain: Option<&'static str>,
    /// A domain of it that names accounts as it likes.
    pub(crate) assigning_domain: Option<&'static str>,
    ca_pem: String,
    accounts: AtomicUsize,
    lab: Option<TestLab>,
    process: Option<Process>,
}

/// An account of a server.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Its address.
    pub(crate) jid: BareJid,
    /// Its password.
    pub(crate) password: String,
}

impl Peer {
    /// Our own server: in this process, or the program that `INTEROP_SERVER` names.
    pub(crate) async fn ours() -> Self {
        match std::env::var_os("INTEROP_SERVER") {
            Some(program) => Self::ours_as_process(Path::new(&program)).await,
            None => Self::ours_in_process().await,
        }
    }

    async fn ours_as_process(program: &Path) -> Self {
        let folder = Folder::new("ours");
        let ports = Ports::free();
        let config = folder.write("server.toml", &config::ours(&folder, &ports));
        // Whoever it runs as may not be able to look into a build folder.
        let copy = folder.path.join("xmpp-server");
        fs::copy(program, &copy).expect("INTEROP_SERVER is a program");
        let mut command = Command::new(copy);
        command.arg("--config").arg(config);
        Self::start("ours", command, folder, ports).await
    }

    async fn ours_in_process() -> Self {
        let open = TestLab::with([DOMAIN], |config| {
            for domain in &mut config.domains {
                domain.registration = Registration::Open;
            }
        });
        let lab = open.await.expect("a server");
        Self {
            name: "ours",
            place: lab.place(DOMAIN),
            form_domain: None,
            assigning_domain: None,
            ca_pem: lab.ca_pem().to_owned(),
            accounts: AtomicUsize::new(0),
            lab: Some(lab),
            process: None,
        }
    }

    /// Prosody.
    pub(crate) async fn prosody() -> Self {
        let folder = Folder::new("prosody");
        let ports = Ports::free();
        let config = folder.write("prosody.cfg.lua", &config::prosody(&folder, &ports));
        folder.write("mod_assigned_names.lua", config::ASSIGNED_NAMES);
        let mut command = Command::new("prosody");
        command.arg("--config").arg(config).arg("-F");
        Self::start("Prosody", command, folder, ports).await
    }

    /// ejabberd. Without a node name it needs no epmd and no cookie.
    pub(crate) async fn ejabberd() -> Self {
        let folder = Folder::new("ejabberd");
        let ports = Ports::free();
        let config = folder.write("ejabberd.yml", &config::ejabberd(&folder, &ports));
        folder.write_script("captcha", &config::captcha_script(&folder));
        let mut command = Command::new("erl");
        command
            .args(["-noinput", "+K", "true", "-mnesia", "dir"])
            .arg(format!("{:?}", folder.path.join("spool")))
            .args(["-s", "ejabberd"])
            .env("EJABBERD_CONFIG_PATH", config)
            .env("EJABBERD_LOG_PATH", folder.path.join("ejabberd.log"))
            .env("ERL_LIBS", ejabberd_libraries())
            .env("ERL_CRASH_DUMP_BYTES", "0");
        Self::start("ejabberd", command, folder, ports).await
    }

    async fn start(name: &'static str, command: Command, folder: Folder, ports: Ports) -> Self {
        let ca_pem = folder.ca_pem.clone();
        let process = Process::start(command, folder);
        let peer = Self {
            name,
            place: Place {
                domain: DOMAIN.into(),
                address: ports.starttls,
                address_tls: Some(ports.tls),
                trust: Trust::pem(&ca_pem),
            },
            form_domain: (name != "ours").then_some(FORM_DOMAIN),
            assigning_domain: (name == "Prosody").then_some(ASSIGNING_DOMAIN),
            ca_pem,
            accounts: AtomicUsize::new(0),
            lab: None,
            process: Some(process),
        };
        peer.listening().await;
        peer
    }

    /// Waits until both ports answer.
    async fn listening(&self) {
        let tries = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            for address in [Some(self.place.address), self.place.address_tls] {
                let address = address.expect("a port");
                while TcpStream::connect(address).await.is_err() {
                    ticks.tick().await;
                }
            }
        };
        let answered = tokio::time::timeout(START_MAX, tries).await;
        answered.unwrap_or_else(|_| panic!("{} does not start", self.name));
    }

    /// A new account.
    pub(crate) async fn account(&self) -> Account {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed);
        self.named(&format!("user{number}")).await
    }

    /// The account that may do all.
    pub(crate) async fn operator(&self) -> Account {
        self.named(OPERATOR).await
    }

    async fn named(&self, name: &str) -> Account {
        let jid = BareJid::account(name, DOMAIN).expect("an address");
        let password = match &self.lab {
            Some(lab) => lab.account(jid.as_jid().as_str()).await,
            None => {
                let password = format!("secret of {}", jid.as_jid().as_str());
                let mut wire = Wire::connect(&self.place).await;
                wire.open_secure().await;
                let local = jid.as_jid().local().expect("an account");
                wire.register(local, &password).await;
                password
            }
        };
        Account { jid, password }
    }

    /// A client of an account, by STARTTLS unless said otherwise.
    pub(crate) fn builder(&self, account: &Account, resource: &str) -> Builder {
        let jid = format!("{}/{resource}", account.jid.as_jid().as_str());
        XmppClient::builder(&jid)
            .password(&account.password)
            .ca_pem(&self.ca_pem)
            .connect_to(&self.place.address.to_string())
    }

    /// Somebody without an account at a domain of this server.
    pub(crate) async fn guest(&self, domain: &str) -> Guest {
        let builder = XmppClient::builder(domain)
            .ca_pem(&self.ca_pem)
            .connect_to(&self.place.address.to_string());
        let connected = builder.connect_guest().await;
        connected.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What the last picture that ejabberd made shows.
    pub(crate) fn captcha(&self) -> String {
        let process = self.process.as_ref().expect("a process");
        let shown = fs::read_to_string(process.folder.path.join("captcha-shown"));
        shown.expect("a picture was made").trim().to_owned()
    }

    /// A client that has signed in.
    pub(crate) async fn client(&self, account: &Account, resource: &str) -> XmppClient {
        let connected = self.builder(account, resource).connect().await;
        connected.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// A client of a new account that has signed in and is available.
    pub(crate) async fn online(&self, resource: &str) -> XmppClient {
        let account = self.account().await;
        let client = self.client(&account, resource).await;
        let sent = client.send_stanza(Stanza::presence(Ty::None)).await;
        sent.expect("the stream is open");
        client
    }
}

/// Where a server listens.
pub(crate) struct Ports {
    pub(crate) starttls: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) https: SocketAddr,
}

impl Ports {
    /// Ports that are free now.
    fn free() -> Self {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        // Held together, so that they differ.
        let held = [free(), free(), free()];
        let [starttls, tls, https] = held.map(|port| port.local_addr().expect("an address"));
        Self {
            starttls,
            tls,
            https,
        }
    }
}

/// A folder for one server, with its certificate. Removed when dropped.
pub(crate) struct Folder {
    path: PathBuf,
    ca_pem: String,
}

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xmpp-interop-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("spool")).expect("a folder");
        #[expect(clippy::disallowed_methods, reason = "the caller's clock")]
        let now = SystemTime::now();
        let ca = DevCa::new(now).expect("a CA");
        let leaf = ca.issue(NAMES, now).expect("a certificate");
        let folder = Self {
            path,
            ca_pem: ca.pem().to_owned(),
        };
        folder.write("chain.pem", &leaf.chain_pem);
        folder.write("key.pem", &leaf.key_pem);
        folder.write("both.pem", &format!("{}{}", leaf.chain_pem, leaf.key_pem));
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    fn write_script(&self, name: &str, text: &str) {
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
struct Process {
    child: Child,
    folder: Folder,
}

impl Process {
    fn start(mut command: Command, folder: Folder) -> Self {
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
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} does not start ({error}); is the package installed?")
        });
        Self {
            child,
            folder: folder,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::env::var_os("INTEROP_LOG").is_some() {
            for name in ["output", "ejabberd.log", "prosody.log"] {
                let log = fs::read(self.folder.path.join(name)).unwrap_or_default();
                println!("{name}:\n{}", String::from_utf8_lossy(&log));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
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
