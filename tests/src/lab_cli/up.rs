//! `xmpp-lab up`: starts, says where everything is, shows what passes, does what is typed, ends in
//! order.

use crate::lab::TestLab;
use crate::lab_cli::arguments::{Joined, Up};
use crate::lab_cli::folder::Folder;
use crate::lab_cli::orders::{self, Fault, HELP, Order};
use crate::lab_cli::ports::{self, Choice, Ports};
use crate::lab_cli::view::{Event, View};
use crate::lab_cli::{Trouble, accounts, names, stanzas};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use xmpp_server::clock::Clock;
use xmpp_server::config::{AllowedComponent, Config, Storage};
use xmpp_server::listener::ListenerKind;
use xmpp_stream::stream::component::Secret;

/// How often links are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Until Ctrl-C, SIGTERM or `quit`.
pub(super) async fn run(up: Up) -> Result<(), Trouble> {
    let served = up.served()?;
    let (joined, components) = (up.joined(&served)?, components(&up, &served)?);
    let view = View::new(up.json);
    // Before anything is there that has to be put away.
    let mut signals = Signals::new()?;
    let folder = Folder::new(up.data.as_deref())?;
    let now = Clock::start().system_now();
    let ca = folder.authority(now)?;
    let given = folder.given(&ca, &joined, now)?;
    let (events, mut shown) = unbounded_channel();
    let ports = ports(&up, &served, &components);
    let data = up.data.clone();
    let mut builder = TestLab::builder()
        .domains(served.iter().map(String::as_str))
        .authority(Arc::new(ca))
        .config(|config| configure(config, &ports, &components, data.as_deref()));
    for one in &joined {
        builder = builder.join(&one.domain, one.address);
    }
    if !up.quiet {
        builder = builder.module(stanzas::module(events));
    }
    let lab = builder.start().await?;
    let names = names::serve(&lab, &joined, &components, up.dns).await?;
    let file = folder.path().join("accounts.txt");
    let accounts = accounts::make(&lab, &file).await?;
    view.show(&Event::Authority(folder.ca_file()));
    view.show(&Event::Names(names.address));
    if let Some(file) = folder.resolver(names.address)? {
        view.show(&Event::Resolver(file));
    }
    tell_places(&view, &lab, &ports, up.any_port);
    for Joined { domain, address } in joined.iter().cloned() {
        view.show(&Event::Joined { domain, address });
    }
    given.iter().for_each(|given| view.show(given));
    for Allowed { name, secret, .. } in components {
        view.show(&Event::Component { name, secret });
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

/// A component that may come, by its secret.
pub(super) struct Allowed {
    pub(super) name: String,
    /// Whose server it comes to.
    pub(super) domain: String,
    secret: String,
}

fn components(up: &Up, served: &[String]) -> Result<Vec<Allowed>, Trouble> {
    let components = up.components(served)?.into_iter().map(|one| Allowed {
        name: one.name,
        domain: one.domain,
        secret: one.secret.unwrap_or_else(accounts::new_password),
    });
    Ok(components.collect())
}

/// Where each domain is served.
fn ports(up: &Up, served: &[String], components: &[Allowed]) -> BTreeMap<String, Ports> {
    let how = Choice {
        any_port: up.any_port,
        ipv6: up.ipv6,
    };
    let choose = |(number, domain): (usize, &String)| {
        let mut kinds = vec![
            ListenerKind::C2sStartTls,
            ListenerKind::C2sTls,
            ListenerKind::S2sStartTls,
            ListenerKind::S2sTls,
        ];
        if components.iter().any(|one| one.domain == *domain) {
            kinds.push(ListenerKind::Component);
        }
        (domain.clone(), ports::choose(number, &kinds, how))
    };
    served.iter().enumerate().map(choose).collect()
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
fn configure(
    config: &mut Config,
    ports: &BTreeMap<String, Ports>,
    components: &[Allowed],
    data: Option<&Path>,
) {
    let Some(name) = config.domains.first().map(|domain| domain.name.clone()) else {
        return;
    };
    if let Some(ports) = ports.get(&name) {
        ports.put(config);
    }
    let ours = components.iter().filter(|one| one.domain == name);
    let allow = ours.map(|one| AllowedComponent {
        domain: one.name.as_str().into(),
        secret: Secret::new(&one.secret),
    });
    config.component.allow = allow.collect();
    // Also where a lab of one domain has nobody to link with yet.
    config.s2s.enabled = true;
    if let Some(data) = data {
        config.data_dir = Some(data.join(&name));
        config.storage = Storage::Sqlite;
    }
}

fn tell_places(view: &View, lab: &TestLab, ports: &BTreeMap<String, Ports>, any_port: bool) {
    for domain in lab.domains() {
        for (listener, address) in lab.listeners(domain) {
            let wanted = ports.get(domain).filter(|_| !any_port);
            let instead_of = wanted.and_then(|ports| ports.instead_of(listener, address));
            view.show(&Event::Listening {
                domain: domain.to_owned(),
                listener: listener.as_str(),
                address,
                instead_of,
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
