//! Two domains: ours, and one of another make; a name server for both, and accounts of each.

use super::config;
use crate::process::{self, Folder, Process};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use xmpp_certs::{DevCa, Leaf};
use xmpp_client::{Jid, Stanza, Ty, XmppClient};
use xmpp_server::config::Config;
use xmpp_server::{Running, Server};
use xmpp_testkit::laboratory::{LabProcess, path};
use xmpp_testkit::zone::NameServer;
use xmpp_testkit::{Place, Proxy, Trust, Wire, Zone};

/// Where the name server of a laboratory answers: at the port that everybody asks.
const NAMES: &str = "127.0.53.9:53";

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
    /// With TLS from the first byte.
    pub(super) s2s_tls: SocketAddr,
    /// Where other servers find it.
    pub(super) ways: Ways,
}

/// Relays before the ports for other servers, which can be cut.
pub(crate) struct Ways {
    pub(crate) starttls: Proxy,
    pub(crate) direct_tls: Proxy,
}

/// What is not as in the other worlds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options<'a> {
    /// More modules of Prosody's.
    pub(crate) modules: &'a [&'a str],
    /// Each finds the other by direct TLS too, and ours no other way.
    pub(crate) direct_tls: bool,
}

impl At {
    async fn free(domain: &'static str) -> Self {
        let [c2s, s2s, s2s_tls] = process::free_ports();
        let ways = Ways {
            starttls: Proxy::new(s2s).await,
            direct_tls: Proxy::new(s2s_tls).await,
        };
        Self {
            domain,
            c2s,
            s2s,
            s2s_tls,
            ways,
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
    /// Theirs has stream management between servers.
    pub(crate) is_managed: bool,
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
    /// A room of theirs.
    pub(crate) rooms: String,
    program: Program,
    _names: Option<NameServer>,
}

/// One of them, for its clients.
pub(crate) struct Side {
    pub(crate) place: Place,
    ca_pem: String,
    accounts: AtomicUsize,
    /// What lies before it for other servers.
    pub(super) ways: Ways,
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
    /// A laboratory.
    Laboratory(#[expect(dead_code, reason = "it ends when dropped")] LabProcess),
}

/// Whom the other server asks for names.
pub(super) enum Asked<'a> {
    /// A name server, for which it is told so in its own way.
    At(SocketAddr),
    /// Whom this file names, in place of /etc/resolv.conf.
    Resolver(&'a Path),
}

impl World {
    /// Starts both.
    pub(crate) async fn new(make: Make, proof: Proof) -> Self {
        Self::with(make, proof, Options::default()).await
    }

    /// The same with something changed.
    pub(crate) async fn with(make: Make, proof: Proof, options: Options<'_>) -> Self {
        let (ours, theirs) = (At::free("ours.test").await, At::free(make.domain()).await);
        let names = names(&[&ours, &theirs], options).await;
        let now = process::now();
        let ca = DevCa::new(now).expect("a CA");
        let other_ca = DevCa::new(now).expect("a CA");
        let their_ca = match proof {
            Proof::Dialback => &other_ca,
            _ => &ca,
        };
        let folder = |ca: &DevCa, at: &At| Folder::with(at.domain, &leaf(ca, at, proof), ca.pem());
        let their_folder = folder(their_ca, &theirs);
        let asked = Asked::At(names.address);
        let command = config::theirs(make, &their_folder, &theirs, (proof, options), asked);
        let their_process = Process::start(command, their_folder);
        let our_folder = folder(&ca, &ours);
        let text = config::ours(&our_folder, &ours, (proof, options), &theirs);
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
            is_managed: options.modules.contains(&"smacks"),
            rooms: theirs.rooms(),
            ours: Side::new(ours, ca.pem(), our_process),
            theirs: Side::new(theirs, their_ca.pem(), Some(their_process)),
            program,
            _names: Some(names),
        }
    }

    /// A laboratory in place of ours, which the other one joins: with the certificate that it was
    /// given, and for names it asks whom a resolv.conf of its own names. Root alone may do that.
    pub(crate) async fn in_laboratory(make: Make, proof: Proof) -> Self {
        let theirs = At::free(make.domain()).await;
        let join = format!("{}={}", theirs.domain, theirs.ways.starttls.address);
        let words = [
            "a.test", "b.test", "--quiet", "--join", &join, "--dns", NAMES,
        ];
        let lab = LabProcess::up(env!("CARGO_BIN_EXE_xmpp-lab"), &words).await;
        let given = lab.find("event", "certificate");
        let read = |name: &str| fs::read_to_string(path(&given[name])).expect("a file");
        let (chain, key, ca) = (read("file"), read("key"), read("ca"));
        let their_folder = Folder::with_pem(theirs.domain, [&chain, &key], &ca);
        let resolver = read_of(&lab, "resolver");
        let asked = Asked::Resolver(&their_folder.write("resolv.conf", &resolver));
        let options = Options::default();
        let command = config::theirs(make, &their_folder, &theirs, (proof, options), asked);
        let their_process = Process::start_as_root(command, their_folder);
        process::listening(theirs.domain, &[theirs.c2s, theirs.s2s]).await;
        let ours = At {
            c2s: lab.address("a.test", "c2s-starttls"),
            ..At::free("a.test").await
        };
        Self {
            make,
            proof,
            is_managed: false,
            rooms: theirs.rooms(),
            ours: Side::new(ours, &ca, None),
            theirs: Side::new(theirs, &ca, Some(their_process)),
            program: Program::Laboratory(lab),
            _names: None,
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
            Program::Laboratory(_) => Vec::new(),
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

fn read_of(lab: &LabProcess, event: &str) -> String {
    let file = path(&lab.find("event", event)["file"]);
    fs::read_to_string(file).expect("a file")
}

/// The records of all domains, for whoever asks DNS. Their host is one that the C library knows too:
/// ejabberd asks DNS for services, and the library for addresses.
async fn names(all: &[&At], options: Options<'_>) -> NameServer {
    const HOST: &str = "localhost";
    let mut zone = Zone::new().host(HOST, "127.0.0.1");
    for at in all {
        for name in at.names() {
            let record = format!("_xmpp-server._tcp.{name}");
            zone = zone.srv(&record, 0, HOST, at.ways.starttls.address.port());
            if options.direct_tls {
                let record = format!("_xmpps-server._tcp.{name}");
                zone = zone.srv(&record, 0, HOST, at.ways.direct_tls.address.port());
            }
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
    fn new(at: At, ca_pem: &str, process: Option<Process>) -> Self {
        Self {
            place: Place {
                domain: at.domain.into(),
                address: at.c2s,
                address_tls: None,
                trust: Trust::pem(ca_pem),
            },
            ca_pem: ca_pem.to_owned(),
            accounts: AtomicUsize::new(0),
            ways: at.ways,
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
