//! A server under test: our own in this process, or one of Debian's as a process of its own.

use super::config;
use super::process::{self, Folder, Process};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
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
/// Whom to write to, in Prosody's configuration.
pub(crate) const CONTACT: &str = r#"contact_info = { abuse = { "mailto:abuse@localhost" } }"#;
/// Where one registers by a form.
pub(crate) const FORM_DOMAIN: &str = "form.localhost";
/// Where the server has the last word about the name.
pub(crate) const ASSIGNING_DOMAIN: &str = "assigning.localhost";
/// Who may do all.
pub(crate) const OPERATOR: &str = "operator";

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
        let folder = Folder::new("ours", NAMES);
        let ports = Ports::free();
        let config = folder.write("server.toml", &config::ours(&folder, &ports));
        let command = process::ours(program, &folder, &config);
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
        Self::prosody_with("prosody", |config| config).await
    }

    /// Prosody with a configuration that was changed.
    pub(crate) async fn prosody_with(name: &str, change: impl FnOnce(String) -> String) -> Self {
        let folder = Folder::new(name, NAMES);
        let ports = Ports::free();
        let config = change(config::prosody(&folder, &ports));
        let config = folder.write("prosody.cfg.lua", &config);
        folder.write("mod_assigned_names.lua", config::ASSIGNED_NAMES);
        let command = process::prosody(&config);
        Self::start("Prosody", command, folder, ports).await
    }

    /// ejabberd.
    pub(crate) async fn ejabberd() -> Self {
        let folder = Folder::new("ejabberd", NAMES);
        let ports = Ports::free();
        let config = folder.write("ejabberd.yml", &config::ejabberd(&folder, &ports));
        folder.write_script("captcha", &config::captcha_script(&folder));
        let command = process::ejabberd(&folder, &config);
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
        let addresses = [Some(peer.place.address), peer.place.address_tls];
        let addresses: Vec<_> = addresses.into_iter().flatten().collect();
        process::listening(name, &addresses).await;
        peer
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
        process.read("captcha-shown").trim().to_owned()
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
        let [starttls, tls, https] = process::free_ports();
        Self {
            starttls,
            tls,
            https,
        }
    }
}
