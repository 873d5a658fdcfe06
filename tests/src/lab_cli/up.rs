//! `xmpp-lab up`: starts, says where everything is, shows what passes, does what is typed, ends in
//! order.

use crate::lab::TestLab;
use crate::lab_cli::arguments::{Joined, Up};
use crate::lab_cli::orders::{self, Fault, HELP, Order};
use crate::lab_cli::ports::{self, Ports};
use crate::lab_cli::view::{Event, View};
use crate::lab_cli::{Trouble, accounts, stanzas};
use crate::zone::NameServer;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use xmpp_certs::DevCa;
use xmpp_server::clock::Clock;
use xmpp_server::config::{Config, Storage};

/// Where the name server answers unless it is said.
const NAMES_PORT: u16 = 5353;
/// How often links are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Until Ctrl-C, SIGTERM or `quit`.
pub(super) async fn run(up: Up) -> Result<(), Trouble> {
    let served = up.served()?;
    let joined = up.joined(&served)?;
    let view = View::new(up.json);
    // Before anything is there that has to be put away.
    let mut signals = Signals::new()?;
    let folder = Folder::new(up.data.as_deref())?;
    let authority = folder.0.join("ca");
    let now = Clock::start().system_now();
    let ca = DevCa::load_or_create(&authority, now).map_err(Trouble::Authority)?;
    let mut certificates = Vec::new();
    for one in &joined {
        let made = ca.ensure_domain(&folder.0.join("certs"), &one.domain, now);
        certificates.push((one.domain.clone(), made.map_err(Trouble::Authority)?));
    }
    let (events, mut shown) = unbounded_channel();
    let ports: BTreeMap<String, Ports> = served
        .iter()
        .enumerate()
        .map(|(number, domain)| (domain.clone(), ports::choose(number, up.any_port)))
        .collect();
    let data = up.data.clone();
    let mut builder = TestLab::builder()
        .domains(served.iter().map(String::as_str))
        .authority(Arc::new(ca))
        .config(|config| configure(config, &ports, data.as_deref()));
    for one in &joined {
        builder = builder.join(&one.domain, one.address);
    }
    if !up.quiet {
        builder = builder.module(stanzas::module(events));
    }
    let lab = builder.start().await?;
    let names = name_server(&lab, &joined, up.dns).await?;
    let file = folder.0.join("accounts.txt");
    let accounts = accounts::make(&lab, &file).await?;
    view.show(&Event::Authority(authority.join("ca.pem")));
    view.show(&Event::Names(names.address));
    tell_places(&view, &lab, &ports, up.any_port);
    for Joined { domain, address } in joined.iter().cloned() {
        view.show(&Event::Joined { domain, address });
    }
    for (domain, made) in certificates {
        let (certificate, key) = (made.certificate, made.key);
        view.show(&Event::Certificate {
            domain,
            certificate,
            key,
        });
    }
    view.show(&Event::Accounts(file));
    for (jid, password) in accounts {
        view.show(&Event::Account { jid, password });
    }
    view.show(&Event::Ready);
    let domains: Vec<String> = served
        .into_iter()
        .chain(joined.into_iter().map(|one| one.domain))
        .collect();
    let serving = Serving {
        lab: &lab,
        view: &view,
        domains,
    };
    serving.until_end(&mut shown, &mut signals).await;
    view.show(&Event::Ending);
    tokio::select! {
        () = lab.shutdown() => {}
        // A second one: who waits for an orderly end has waited long enough.
        () = signals.any() => {}
    }
    Ok(())
}

/// What ends it from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Trouble> {
        let of = |kind| signal(kind).map_err(|error| Trouble::Io("signals".into(), error));
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What the servers are told beside what a lab tells them.
fn configure(config: &mut Config, ports: &BTreeMap<String, Ports>, data: Option<&Path>) {
    let Some(name) = config.domains.first().map(|domain| domain.name.clone()) else {
        return;
    };
    if let Some(ports) = ports.get(&name) {
        config.c2s.listen = vec![ports.c2s];
        config.c2s.listen_tls = vec![ports.c2s_tls];
        config.s2s.listen = vec![ports.s2s];
        config.s2s.listen_tls = vec![ports.s2s_tls];
    }
    if let Some(data) = data {
        config.data_dir = Some(data.join(&name));
        config.storage = Storage::Sqlite;
    }
}

/// A folder for authority and accounts; a temporary one goes at the end.
struct Folder(PathBuf, bool);

impl Folder {
    fn new(data: Option<&Path>) -> Result<Self, Trouble> {
        let temporary = || {
            let name = format!("xmpp-lab-{}", std::process::id());
            std::env::temp_dir().join(name)
        };
        let path = data.map_or_else(temporary, Path::to_owned);
        std::fs::create_dir_all(&path)
            .map_err(|error| Trouble::Io(path.display().to_string(), error))?;
        Ok(Self(path, data.is_none()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.1 {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

async fn name_server(
    lab: &TestLab,
    joined: &[Joined],
    wanted: Option<SocketAddr>,
) -> Result<NameServer, Trouble> {
    let mut zone = lab.zone();
    let mut origins: Vec<&str> = lab.domains().collect();
    for Joined { domain, address } in joined {
        let service = format!("_xmpp-server._tcp.{domain}");
        zone =
            zone.host(domain, &address.ip().to_string())
                .srv(&service, 10, domain, address.port());
        origins.push(domain);
    }
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, NAMES_PORT));
    let started = match (zone.serve(wanted.unwrap_or(usual), &origins).await, wanted) {
        (Err(error), None) if error.kind() == io::ErrorKind::AddrInUse => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            zone.serve(any, &origins).await
        }
        (started, _) => started,
    };
    let at = wanted.unwrap_or(usual);
    started.map_err(|error| Trouble::Io(format!("name server at {at}"), error))
}

fn tell_places(view: &View, lab: &TestLab, ports: &BTreeMap<String, Ports>, any_port: bool) {
    for domain in lab.domains() {
        for (listener, address) in lab.listeners(domain) {
            let wanted = ports.get(domain).map(|ports| match listener.as_str() {
                "c2s-starttls" => (ports.c2s, 5222),
                "c2s-tls" => (ports.c2s_tls, 5223),
                "s2s-starttls" => (ports.s2s, 5269),
                _ => (ports.s2s_tls, 5270),
            });
            let instead_of = wanted.filter(|(wanted, _)| wanted.port() == 0 && !any_port);
            view.show(&Event::Listening {
                domain: domain.to_owned(),
                listener: listener.as_str(),
                address,
                instead_of: instead_of.map(|(_, usual)| usual),
            });
        }
    }
}

struct Serving<'a> {
    lab: &'a TestLab,
    view: &'a View,
    domains: Vec<String>,
}

impl Serving<'_> {
    async fn until_end(&self, shown: &mut UnboundedReceiver<Event>, signals: &mut Signals) {
        let mut lines = typed();
        let mut looks = tokio::time::interval(LOOK);
        let mut seen = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                () = signals.any() => return,
                Some(event) = shown.recv() => self.view.show(&event),
                Some(line) = lines.recv() => {
                    if self.obey(&line).await {
                        return;
                    }
                }
                _ = looks.tick() => self.look(&mut seen),
            }
        }
    }

    /// True: it is to end.
    async fn obey(&self, line: &str) -> bool {
        let order = match orders::parse(line, &self.domains) {
            Ok(Some(order)) => order,
            Ok(None) => return false,
            Err(why) => {
                self.view.show(&Event::Refused(why));
                return false;
            }
        };
        let done = match &order {
            Order::Quit => return true,
            Order::Help => Ok(HELP.to_owned()),
            Order::Links => {
                self.links()
                    .into_iter()
                    .for_each(|link| self.view.show(&link));
                return false;
            }
            Order::Link(ends, fault) => self.fault(ends.as_ref(), *fault),
            Order::Certificate(domain, _)
            | Order::Kill(domain)
            | Order::Start(domain)
            | Order::Restart(domain)
                if !self.is_ours(domain) =>
            {
                Err(format!("{domain} is served by somebody else"))
            }
            Order::Certificate(domain, variant) => {
                self.lab.show_certificate(domain, *variant);
                Ok(format!("{domain} shows it from the next handshake on"))
            }
            Order::Kill(domain) => {
                self.lab.kill(domain);
                Ok(format!("{domain} is down"))
            }
            Order::Start(domain) if self.lab.is_up(domain) => Err(format!("{domain} is up")),
            Order::Start(domain) => self.started(domain, self.lab.start(domain).await),
            Order::Restart(domain) => self.started(domain, self.lab.restart(domain).await),
        };
        self.view.show(&match done {
            Ok(done) => Event::Done(done),
            Err(why) => Event::Refused(why),
        });
        false
    }

    fn started(
        &self,
        domain: &str,
        result: Result<(), crate::lab::LabError>,
    ) -> Result<String, String> {
        match result {
            Ok(()) => Ok(format!("{domain} is up")),
            Err(error) => Err(format!("{domain}: {error}")),
        }
    }

    fn is_ours(&self, domain: &str) -> bool {
        self.lab.domains().any(|one| one == domain)
    }

    fn fault(&self, ends: Option<&(String, String)>, fault: Fault) -> Result<String, String> {
        let mut count = 0;
        for (from, to, link) in self.lab.all_links() {
            let meant = ends.is_none_or(|(one, other)| {
                (from == one && to == other) || (from == other && to == one)
            });
            if !meant {
                continue;
            }
            count += 1;
            match fault {
                Fault::Cut => link.cut(),
                Fault::Delay(time) => link.delay(time),
                Fault::Hold => link.hold(),
                Fault::Mend => link.mend(),
                Fault::Release => link.release(),
                Fault::Sever => link.sever(),
            }
        }
        match count {
            0 => Err("there is no such link".into()),
            1 => Ok("done, on one link".into()),
            count => Ok(format!("done, on {count} links")),
        }
    }

    fn links(&self) -> Vec<Event> {
        let links = self.lab.all_links().into_iter();
        let events = links.map(|(from, to, link)| Event::Link {
            from: from.into(),
            to: to.into(),
            condition: link.condition(),
            connections: link.accepted(),
            bytes: link.bytes(),
        });
        events.collect()
    }

    /// Shows the links whose connections or condition changed.
    fn look(&self, seen: &mut BTreeMap<(String, String), (String, usize)>) {
        for event in self.links() {
            let Event::Link {
                from,
                to,
                condition,
                connections,
                ..
            } = &event
            else {
                continue;
            };
            let is = (condition.clone(), *connections);
            let before = seen.insert((from.clone(), to.clone()), is.clone());
            if before.unwrap_or_else(|| ("up".into(), 0)) != is {
                self.view.show(&event);
            }
        }
    }
}

/// The lines that are typed; at their end the servers go on.
fn typed() -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
