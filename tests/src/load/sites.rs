//! Two servers that federate for figures, each a process of its own, and what either has used.

use super::process::Child;
use super::server::{address, create};
use super::{Peer, Scheme, Target, announce};
use crate::lab::Names;
use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc::unbounded_channel;
use xmpp_certs::DevCa;
use xmpp_server::auth::derive_all;
use xmpp_server::clock::Clock;
use xmpp_server::config::Storage;
use xmpp_server::listener::ListenerKind;
use xmpp_stream::resolve::Resolver;

pub use super::server::{PASSWORD, local};

/// The first word of a child's arguments.
const CHILD: &str = "site";
/// All domains are below it.
const TOP: &str = "test";

/// A server in a process of its own.
pub struct Site {
    /// The process.
    pub child: Child,
    c2s: SocketAddr,
    s2s: u16,
}

/// Two of them, and their authority.
pub struct Sites {
    /// The servers.
    pub all: [Site; 2],
    ca_pem: String,
    folder: PathBuf,
}

impl Sites {
    /// Starts this program twice, as a server of these domains each, with so many accounts a domain.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(domains: [&[String]; 2], accounts: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("xmpp-sites-{}", std::process::id()));
        let ca = authority(&folder);
        let mut all = domains.map(|domains| Site::start(&folder, domains, accounts));
        let ports = [all[1].s2s, all[0].s2s];
        for (site, port) in all.iter_mut().zip(ports) {
            site.child.say(&format!("others {port}"));
            site.child.hear("heard");
        }
        Self {
            all,
            ca_pem: ca.pem().to_owned(),
            folder,
        }
    }

    /// Somebody who has signed in at one of them.
    ///
    /// # Panics
    /// The server refuses.
    pub async fn peer(&self, site: usize, domain: &str, number: usize) -> Peer {
        let target = Target::new(self.all[site].c2s, domain, &self.ca_pem);
        let mut peer = target.connect(None).await.expect("a connection");
        let account = local(number);
        let signing_in = peer.login((&account, PASSWORD, "c"), Scheme::Sha1);
        signing_in.await.expect("a login");
        peer.come_online().await.expect("presence");
        peer
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Site {
    fn start(folder: &Path, domains: &[String], accounts: usize) -> Self {
        let (folder, accounts) = (folder.display().to_string(), accounts.to_string());
        let mut arguments = vec![CHILD, &folder, &accounts];
        arguments.extend(domains.iter().map(String::as_str));
        let mut child = Child::start(&arguments, &[]);
        let s2s = child.hear("servers");
        let c2s = Target::announced(&child.hear("ready")).address;
        Self {
            child,
            c2s,
            s2s: s2s.parse().expect("a port"),
        }
    }

    /// Streams of its links that are up, and links that have an error.
    ///
    /// # Panics
    /// The process is gone.
    pub fn links(&mut self) -> (usize, usize) {
        self.child.say("links");
        let said = self.child.hear("links");
        let mut counts = said.split(' ').map(|count| count.parse().expect("a count"));
        let mut next = || counts.next().expect("two counts");
        (next(), next())
    }
}

fn authority(folder: &Path) -> DevCa {
    let now = Clock::start().system_now();
    DevCa::load_or_create(folder, now).expect("an authority")
}

/// True when these are the arguments of a child; then it serves until its input ends.
///
/// # Panics
/// The server does not start.
pub async fn is_child(arguments: &[&str]) -> bool {
    let [CHILD, folder, accounts, domains @ ..] = arguments else {
        return false;
    };
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (ca, names) = (authority(Path::new(folder)), Arc::<Names>::default());
    let ca_pem = ca.pem().to_owned();
    let resolver: Arc<Names> = Arc::clone(&names);
    let server = super::server::start(Storage::Memory, |config| {
        let pattern = config.domains.remove(0);
        for name in domains {
            let mut domain = pattern.clone();
            (*name).clone_into(&mut domain.name);
            config.domains.push(domain);
        }
        config.s2s.enabled = true;
        config.s2s.listen = vec![any_port];
        config.s2s.listen_tls = Vec::new();
        config.given.authority = Some(Arc::new(ca));
        config.given.resolver = Some(Resolver::new(resolver));
    });
    let server = server.await;
    let accounts = accounts.parse().expect("a number of accounts");
    let keys = derive_all(PASSWORD, 1);
    for domain in domains {
        create(&server, domain, accounts, &keys).await;
    }
    let s2s = server.address(ListenerKind::S2sStartTls);
    println!("servers {}", s2s.expect("a listener").port());
    announce(address(&server), &ca_pem);
    let (sender, mut orders) = unbounded_channel();
    std::thread::spawn(move || {
        let lines = io::stdin().lock().lines();
        let mut lines = lines.map_while(Result::ok);
        while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
    });
    while let Some(order) = orders.recv().await {
        if let Some(port) = order.strip_prefix("others ") {
            names.set_below(TOP, port.parse().expect("a port"));
            println!("heard");
        } else {
            let listed = server.handle().core().list_links(None);
            let up = listed.iter().filter(|link| link.state == "up");
            let failed = listed.iter().filter(|link| link.last_error.is_some());
            println!("links {} {}", up.count(), failed.count());
        }
    }
    server.shutdown().await;
    true
}
