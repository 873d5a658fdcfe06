//! A server under test: our own in this process, or one of Debian's as a process of its own.

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
const FORM_DOMAIN: &str = "form.localhost";
/// Where the server has the last word about the name.
const ASSIGNING_DOMAIN: &str = "assigning.localhost";
/// Who may do all.
const OPERATOR: &str = "operator";
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
    /// Our own server.
    pub(crate) async fn ours() -> Self {
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
        let config = folder.write("prosody.cfg.lua", &prosody_config(&folder, &ports));
        folder.write("mod_assigned_names.lua", ASSIGNED_NAMES);
        let mut command = Command::new("prosody");
        command.arg("--config").arg(config).arg("-F");
        Self::start("Prosody", command, folder, ports).await
    }

    /// ejabberd. Without a node name it needs no epmd and no cookie.
    pub(crate) async fn ejabberd() -> Self {
        let folder = Folder::new("ejabberd");
        let ports = Ports::free();
        let config = folder.write("ejabberd.yml", &ejabberd_config(&folder, &ports));
        folder.write_script("captcha", &captcha_script(&folder));
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
            form_domain: Some(FORM_DOMAIN),
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

    fn write_script(&self, name: &str, text: &str) {
        let path = self.write(name, text);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, mode).expect("the file is ours");
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

/// A module for Prosody: who registers gets another name than the one wished for.
const ASSIGNED_NAMES: &str = r#"
local st = require "util.stanza";
local users = require "core.usermanager";

module:hook("stanza/iq/jabber:iq:register:query", function (event)
    local session, stanza = event.origin, event.stanza;
    if session.type ~= "c2s_unauthed" or stanza.attr.type ~= "set" then return; end
    local form = stanza.tags[1]:get_child("x", "jabber:x:data");
    local given, password;
    for field in form:childtags("field") do
        if field.attr.var == "username" then given = field:get_child_text("value").."-given"; end
        if field.attr.var == "password" then password = field:get_child_text("value"); end
    end
    assert(users.create_user(given, password, module.host));
    session.send(st.reply(stanza):query("jabber:iq:register"):text_tag("username", given));
    return true;
end, 10);
"#;

/// A program for ejabberd that shows a word in a picture: the picture is empty, the word in a file.
fn captcha_script(folder: &Folder) -> String {
    format!(
        "#!/bin/sh\necho \"$1\" > {}/captcha-shown\nprintf '\\211PNG\\r\\n\\032\\n'\n",
        folder.show()
    )
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
    "vcard_legacy", "version", "time", "ping", "register", "mam", "csi_simple", "smacks", "private",
    "offline", "uptime", "admin_adhoc"
}}
admins = {{ "{OPERATOR}@{DOMAIN}" }}
plugin_paths = {{ "{folder}" }}
modules_disabled = {{ "s2s" }}
authentication = "internal_hashed"
allow_registration = true
c2s_require_encryption = true

VirtualHost "{DOMAIN}"

VirtualHost "{FORM_DOMAIN}"
    additional_registration_fields = {{ "email+", "nick" }}

VirtualHost "{ASSIGNING_DOMAIN}"
    modules_enabled = {{ "assigned_names" }}

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
hosts: [{DOMAIN}, {FORM_DOMAIN}]
acl: {{operators: {{user: {OPERATOR}@{DOMAIN}}}}}
access_rules: {{configure: {{allow: operators}}}}
captcha_cmd: "{folder}/captcha"
captcha_url: "https://{DOMAIN}/captcha"
captcha_limit: infinity
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
  mod_configure: {{}}
  mod_disco: {{}}
  mod_http_upload:
    access: all
    put_url: "https://@HOST@:{https}/upload"
    docroot: "{folder}/upload"
    max_size: 1048576
  mod_last: {{}}
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
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{resend_on_timeout: if_offline}}
  mod_vcard: {{search: true}}
  mod_version: {{}}
append_host_config:
  {DOMAIN}:
    modules:
      mod_register: {{access: all, ip_access: all}}
  {FORM_DOMAIN}:
    modules:
      mod_register: {{access: all, ip_access: all, captcha_protected: true}}
"#,
        folder = folder.show(),
        starttls = ports.starttls.port(),
        tls = ports.tls.port(),
        https = ports.https.port(),
    )
}
