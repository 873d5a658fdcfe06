//! Two domains: ours, and one of another make; a name server for both, and accounts of each.

use super::config;
use crate::process::{self, Folder, Process};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use xmpp_certs::{DevCa, Leaf};
use xmpp_client::{Jid, Stanza, Ty, XmppClient};
use xmpp_server::config::Config;
use xmpp_server::{Running, Server};
use xmpp_testkit::zone::NameServer;
use xmpp_testkit::{Place, Proxy, Trust, Wire, Zone};

/// How the servers prove who they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Proof {
    /// By certificates of one CA, good for both sides of TLS.
    External,
    /// By certificates of one CA for servers only, as public authorities issue them now.
    ServerOnly,
    /// The same, and dialback where that is not believed.
    Fallback,
    /// By dialback: neither knows the other's CA.
    Dialback,
}

impl Proof {
    /// In the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::ServerOnly => "EXTERNAL, serverAuth only",
            Self::Fallback => "EXTERNAL, serverAuth only, else dialback",
            Self::Dialback => "dialback",
        }
    }

    /// Dialback is allowed.
    pub(super) fn may_dial_back(self) -> bool {
        matches!(self, Self::Fallback | Self::Dialback)
    }
}

/// Of which make the other server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Make {
    Prosody,
    Ejabberd,
}

impl Make {
    /// In the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prosody => "Prosody",
            Self::Ejabberd => "ejabberd",
        }
    }

    fn domain(self) -> &'static str {
        match self {
            Self::Prosody => "prosody.test",
            Self::Ejabberd => "ejabberd.test",
        }
    }
}

/// Where a domain is served.
pub(super) struct At {
    pub(super) domain: &'static str,
    pub(super) c2s: SocketAddr,
    pub(super) s2s: SocketAddr,
    /// Where other servers find it: a relay before `s2s`, which can be cut.
    pub(super) way: Proxy,
}

impl At {
    async fn free(domain: &'static str) -> Self {
        let [c2s, s2s] = process::free_ports();
        let way = Proxy::new(s2s).await;
        Self {
            domain,
            c2s,
            s2s,
            way,
        }
    }

    /// The domain of its rooms.
    pub(super) fn rooms(&self) -> String {
        format!("rooms.{}", self.domain)
    }

    pub(super) fn names(&self) -> [String; 2] {
        [self.domain.to_owned(), self.rooms()]
    }
}

/// The two of them.
pub(crate) struct World {
    pub(crate) make: Make,
    pub(crate) proof: Proof,
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
    /// A room of theirs.
    pub(crate) rooms: String,
    program: Program,
    _names: NameServer,
}

/// One of them, for its clients.
pub(crate) struct Side {
    pub(crate) place: Place,
    ca_pem: String,
    accounts: AtomicUsize,
    /// What lies before it for other servers.
    pub(super) way: Proxy,
    _process: Option<Process>,
}

/// Our server.
enum Program {
    /// In this process; its folder goes with it.
    Here(
        Running,
        #[expect(dead_code, reason = "removed when dropped")] Folder,
    ),
    /// A process of its own.
    Other { binary: PathBuf, config: PathBuf },
}

impl World {
    /// Starts both.
    pub(crate) async fn new(make: Make, proof: Proof) -> Self {
        Self::with(make, proof, &[]).await
    }

    /// The same with more modules of Prosody's.
    pub(crate) async fn with(make: Make, proof: Proof, modules: &[&str]) -> Self {
        let (ours, theirs) = (At::free("ours.test").await, At::free(make.domain()).await);
        let names = names(&[&ours, &theirs]).await;
        let now = process::now();
        let ca = DevCa::new(now).expect("a CA");
        let other_ca = DevCa::new(now).expect("a CA");
        let their_ca = match proof {
            Proof::Dialback => &other_ca,
            _ => &ca,
        };
        let folder = |ca: &DevCa, at: &At| Folder::with(at.domain, &leaf(ca, at, proof), ca.pem());
        let their_folder = folder(their_ca, &theirs);
        let command = match make {
            Make::Prosody => {
                their_folder.write("mod_lab_names.lua", config::LAB_NAMES);
                let config = config::prosody(&their_folder, &theirs, proof, names.address, modules);
                process::prosody(&their_folder.write("prosody.cfg.lua", &config))
            }
            Make::Ejabberd => {
                let inetrc = their_folder.write("inetrc", &config::inetrc(names.address));
                let config = config::ejabberd(&their_folder, &theirs, proof);
                let config = their_folder.write("ejabberd.yml", &config);
                let mut command = process::ejabberd(&their_folder, &config);
                command.env("ERL_INETRC", inetrc);
                command
            }
        };
        let their_process = Process::start(command, their_folder);
        let our_folder = folder(&ca, &ours);
        let text = config::ours(&our_folder, &ours, proof, &theirs);
        let config = our_folder.write("server.toml", &text);
        let (program, our_process) = match std::env::var_os("INTEROP_SERVER") {
            Some(binary) => {
                let binary = PathBuf::from(binary);
                let command = process::ours(&binary, &our_folder, &config);
                let process = Process::start(command, our_folder);
                (Program::Other { binary, config }, Some(process))
            }
            None => {
                let config = Config::load(&config).expect("a configuration");
                let running = Server::start(config).await.expect("a server");
                (Program::Here(running, our_folder), None)
            }
        };
        for at in [&ours, &theirs] {
            process::listening(at.domain, &[at.c2s, at.s2s]).await;
        }
        Self {
            make,
            proof,
            rooms: theirs.rooms(),
            ours: Side::new(ours, &ca, our_process),
            theirs: Side::new(theirs, their_ca, Some(their_process)),
            program,
            _names: names,
        }
    }

    /// What `xmpp-server s2s list` prints.
    pub(crate) fn links(&self) -> Vec<String> {
        match &self.program {
            Program::Here(running, _) => {
                let links = running.handle().core().list_links(None);
                links.iter().map(|link| link.text()).collect()
            }
            Program::Other { binary, config } => {
                let mut command = Command::new(binary);
                command.arg("--config").arg(config).args(["s2s", "list"]);
                let output = command.output().expect("a program");
                let text = String::from_utf8_lossy(&output.stdout);
                text.lines().map(Into::into).collect()
            }
        }
    }

    /// How ours and theirs are believed by the other, in the words of `s2s list`. ejabberd wants a
    /// certificate that is good for the calling side of TLS.
    pub(crate) fn proofs(&self) -> [&'static str; 2] {
        match (self.proof, self.make) {
            (Proof::Dialback, _) => ["dialback", "dialback"],
            (Proof::Fallback, Make::Ejabberd) => ["dialback", "EXTERNAL"],
            _ => ["EXTERNAL", "EXTERNAL"],
        }
    }
}

/// The records of all domains, for whoever asks DNS. Their host is one that the C library knows too:
/// ejabberd asks DNS for services, and the library for addresses.
async fn names(all: &[&At]) -> NameServer {
    const HOST: &str = "localhost";
    let mut zone = Zone::new().host(HOST, "127.0.0.1");
    for at in all {
        for name in at.names() {
            let record = format!("_xmpp-server._tcp.{name}");
            zone = zone.srv(&record, 0, HOST, at.way.address.port());
        }
    }
    let domains = all.iter().map(|at| at.domain);
    let origins: Vec<&str> = domains.chain([HOST]).collect();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    zone.serve(any, &origins).await.expect("a name server")
}

fn leaf(ca: &DevCa, at: &At, proof: Proof) -> Leaf {
    let (names, now) = (at.names(), process::now());
    let leaf = match proof {
        Proof::External => ca.issue_for_both_sides(&names, now),
        Proof::ServerOnly | Proof::Fallback | Proof::Dialback => ca.issue(&names, now),
    };
    leaf.expect("a certificate")
}

impl Side {
    fn new(at: At, ca: &DevCa, process: Option<Process>) -> Self {
        Self {
            place: Place {
                domain: at.domain.into(),
                address: at.c2s,
                address_tls: None,
                trust: Trust::pem(ca.pem()),
            },
            ca_pem: ca.pem().to_owned(),
            accounts: AtomicUsize::new(0),
            way: at.way,
            _process: process,
        }
    }

    /// Its domain.
    pub(crate) fn domain(&self) -> Jid {
        Jid::parse(&self.place.domain).expect("a domain")
    }

    /// A client of a new account, which is not available.
    pub(crate) async fn client(&self) -> XmppClient {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed);
        let local = format!("user{number}");
        let mut wire = Wire::connect(&self.place).await;
        wire.open_secure().await;
        wire.register(&local, "secret").await;
        let builder = XmppClient::builder(&format!("{local}@{}/x", self.place.domain))
            .password("secret")
            .ca_pem(&self.ca_pem)
            .connect_to(&self.place.address.to_string());
        builder.connect().await.expect("a client")
    }

    /// The same, available.
    pub(crate) async fn online(&self) -> XmppClient {
        let client = self.client().await;
        let sent = client.send_stanza(Stanza::presence(Ty::None)).await;
        sent.expect("the stream is open");
        client
    }
}
