//! A server under test: our own in this process, or one of Debian's as a process of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use xmpp_certs::DevCa;
use xmpp_client::{BareJid, Builder, Stanza, Ty, XmppClient};
use xmpp_testkit::{Place, TestLab, Trust, Wire};

/// The domain of every server; what is below it resolves to the loopback interface everywhere.
pub(crate) const DOMAIN: &str = "localhost";
/// Service hosts that a certificate has to name too.
const NAMES: &[&str] = &[
    "localhost",
    "conference.localhost",
    "pubsub.localhost",
    "upload.localhost",
];
/// Whom to write to, in Prosody's configuration.
const CONTACT: &str = r#"contact_info = { abuse = { "mailto:abuse@localhost" } }"#;
/// What scansion scripts count on instead.
const SCANSION: &str = r#"
storage = "memory"
admins = { "admin@localhost" }
hide_os_type = true
bounce_blocked_messages = true
contact_info = {
    abuse = { "mailto:abuse@localhost", "xmpp:abuse@localhost" };
    admin = { "mailto:admin@localhost", "xmpp:admin@localhost" };
    feedback = { "http://localhost/feedback.html", "mailto:feedback@localhost", "xmpp:feedback@localhost" };
    sales = { "xmpp:sales@localhost" };
    security = { "xmpp:security@localhost" };
    status = { "gopher://status.localhost" };
    support = { "https://localhost/support.html", "xmpp:support@localhost" };
}
"#;
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
    ca_pem: String,
    accounts: AtomicUsize,
    lab: Option<TestLab>,
    _process: Option<Process>,
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
    /// Our own server.
    pub(crate) async fn ours() -> Self {
        let lab = TestLab::new([DOMAIN]).await.expect("a server");
        Self {
            name: "ours",
            place: lab.place(DOMAIN),
            ca_pem: lab.ca_pem().to_owned(),
            accounts: AtomicUsize::new(0),
            lab: Some(lab),
            _process: None,
        }
    }

    /// Prosody.
    pub(crate) async fn prosody() -> Self {
        let folder = Folder::new("prosody");
        let ports = Ports::free();
        let config = folder.write("prosody.cfg.lua", &prosody_config(&folder, &ports));
        let mut command = Command::new("prosody");
        command.arg("--config").arg(config).arg("-F");
        Self::start("Prosody", command, folder, ports).await
    }

    /// Prosody with what its own scansion scripts expect beyond that.
    pub(crate) async fn prosody_for_scansion() -> Self {
        let folder = Folder::new("prosody-scansion");
        let ports = Ports::free();
        let config = prosody_config(&folder, &ports).replace(CONTACT, SCANSION);
        let config = folder.write("prosody.cfg.lua", &config);
        let mut command = Command::new("prosody");
        command.arg("--config").arg(config).arg("-F");
        Self::start("Prosody", command, folder, ports).await
    }

    /// ejabberd. Without a node name it needs no epmd and no cookie.
    pub(crate) async fn ejabberd() -> Self {
        let folder = Folder::new("ejabberd");
        let ports = Ports::free();
        let config = folder.write("ejabberd.yml", &ejabberd_config(&folder, &ports));
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
            ca_pem,
            accounts: AtomicUsize::new(0),
            lab: None,
            _process: Some(process),
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

    /// The CA to trust.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A new account.
    pub(crate) async fn account(&self) -> Account {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed);
        let jid = BareJid::account(&format!("user{number}"), DOMAIN).expect("an address");
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
struct Ports {
    starttls: SocketAddr,
    tls: SocketAddr,
    https: SocketAddr,
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
struct Folder {
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

    fn show(&self) -> std::path::Display<'_> {
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
    _folder: Folder,
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
            _folder: folder,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::env::var_os("INTEROP_LOG").is_some() {
            for name in ["output", "ejabberd.log", "prosody.log"] {
                let log = fs::read(self._folder.path.join(name)).unwrap_or_default();
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

fn prosody_config(folder: &Folder, ports: &Ports) -> String {
    let ssl = format!(
        "{{ key = \"{0}/key.pem\", certificate = \"{0}/chain.pem\" }}",
        folder.show()
    );
    format!(
        r#"
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/spool"
certificates = "{folder}"
daemonize = false
log = {{ {{ levels = {{ min = "debug" }}, to = "file", filename = "{folder}/prosody.log" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {starttls} }}
c2s_direct_tls_ports = {{ {tls} }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ {https} }}
https_ssl = {ssl}
ssl = {ssl}
modules_enabled = {{
    "roster", "saslauth", "tls", "disco", "carbons", "pep", "blocklist", "bookmarks",
    "vcard_legacy", "version", "time", "ping", "register", "mam", "csi_simple", "smacks", "private", "lastactivity", "server_contact_info", "uptime"
}}
modules_disabled = {{ "s2s" }}
{CONTACT}
authentication = "internal_hashed"
allow_registration = true
c2s_require_encryption = true

VirtualHost "localhost"

Component "conference.localhost" "muc"
    modules_enabled = {{ "muc_mam" }}
    muc_log_by_default = true

Component "pubsub.localhost" "pubsub"
    autocreate_on_publish = true
    default_admin_affiliation = "owner"
    expose_publisher = true

Component "upload.localhost" "http_file_share"
    http_file_share_size_limit = 1024 * 1024
"#,
        folder = folder.show(),
        starttls = ports.starttls.port(),
        tls = ports.tls.port(),
        https = ports.https.port(),
    )
}

fn ejabberd_config(folder: &Folder, ports: &Ports) -> String {
    format!(
        r#"
hosts: [localhost]
loglevel: debug
log_rotate_size: infinity
certfiles: ["{folder}/both.pem"]
listen:
  - port: {starttls}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls_required: true
    max_stanza_size: 262144
  - port: {tls}
    ip: "127.0.0.1"
    module: ejabberd_c2s
    tls: true
    max_stanza_size: 262144
auth_method: internal
auth_password_format: scram
registration_timeout: infinity
modules:
  mod_adhoc: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_client_state: {{}}
  mod_disco:
    server_info: [{{modules: all, name: abuse-addresses, urls: ["mailto:abuse@localhost"]}}]
  mod_http_upload:
    access: all
    put_url: "https://@HOST@:{https}/upload"
    docroot: "{folder}/upload"
    max_size: 1048576
  mod_last: {{}}
  mod_time: {{}}
  mod_mam: {{default: always, assume_mam_usage: true}}
  mod_muc:
    access: all
    access_create: all
    access_persistent: all
    default_room_options: {{mam: true}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub:
    access_createnode: all
    plugins: [flat, pep]
    max_items_node: 1000
  mod_register: {{access: all, ip_access: all}}
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{resend_on_timeout: if_offline}}
  mod_vcard: {{}}
  mod_version: {{}}
"#,
        folder = folder.show(),
        starttls = ports.starttls.port(),
        tls = ports.tls.port(),
        https = ports.https.port(),
    )
}
