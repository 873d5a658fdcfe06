//! Would clients find this server by DNS? RFC 6120 section 3.2, XEP-0368.
//!
//! Never an error: clients may be told where to connect, and records come and go without us. Asks by
//! a few lines of its own (`message.rs`): until there are links to other servers nothing else here
//! needs a resolver, and one would bring more packages than the rest of the command.

mod message;

use super::{Finding, Level, Topic};
use crate::config::Config;
use crate::random;
use message::{Data, Kind};
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use xmpp_stream::tls;

/// How long one server may take; then the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Servers asked for one record.
const SERVERS_MAX: usize = 3;
const DNS_PORT: u16 = 53;
/// The most that comes by UDP without an extension.
const ANSWER_BYTES_MAX: usize = 1500;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let servers = match config.dns.servers.is_empty() {
        true => system_servers(),
        false => config.dns.servers.clone(),
    };
    let mut findings = Vec::new();
    let mut silent = false;
    for domain in &config.domains {
        let (level, text) = match skipped(config, &domain.name) {
            Some(why) => (Level::Ok, why),
            None if silent => (Level::Warning, "not looked up either".into()),
            None => match look_up(&servers, &domain.name).await {
                Some(found) => judge(config, &found),
                None => {
                    silent = true;
                    (Level::Warning, "no DNS server answers".into())
                }
            },
        };
        findings.push(Finding::new(level, Topic::Dns, &*domain.name, text));
    }
    findings
}

/// Why nobody will ask for this name.
fn skipped(config: &Config, domain: &str) -> Option<String> {
    if let Some(place) = config.dns.overrides.get(domain) {
        return Some(format!("not looked up: `dns.override` says {}", place.addr));
    }
    let mut listeners = config.c2s.listen.iter().chain(&config.c2s.listen_tls);
    let any = listeners.clone().next().is_some();
    if any && listeners.all(|address| address.ip().is_loopback()) {
        return Some("not looked up: all listeners are on the loopback interface".into());
    }
    let top = domain.rsplit('.').next().unwrap_or(domain);
    let reserved = ["localhost", "test", "local", "invalid"].contains(&top);
    let is_name = matches!(tls::server_name(domain), Ok(ServerName::DnsName(_)));
    match (reserved, is_name) {
        (true, _) => Some(format!(
            "not looked up: names below {top} are not in the DNS"
        )),
        (_, false) => Some("not looked up: an address".into()),
        _ => None,
    }
}

/// What the DNS says of a domain.
#[derive(Debug, Default)]
struct Found {
    /// Hosts with their ports: `_xmpp-client`, then `_xmpps-client`.
    services: [Vec<(String, u16)>; 2],
    /// Of those, who has no address.
    lost: Vec<String>,
    /// The domain itself has an address.
    has_address: bool,
}

/// `None` when no server answers.
async fn look_up(servers: &[SocketAddr], domain: &str) -> Option<Found> {
    let Ok(ServerName::DnsName(name)) = tls::server_name(domain) else {
        return None;
    };
    let name = name.as_ref();
    let mut found = Found::default();
    let labels = ["_xmpp-client._tcp", "_xmpps-client._tcp"];
    for (label, services) in labels.into_iter().zip(&mut found.services) {
        for data in ask(servers, &format!("{label}.{name}"), Kind::Srv).await? {
            if let Data::Srv { port, target } = data {
                services.push((target, port));
            }
        }
    }
    let targets: Vec<String> = found
        .services
        .iter()
        .flatten()
        .map(|s| s.0.clone())
        .collect();
    for target in targets {
        if !target.is_empty() && !has_address(servers, &target).await? {
            found.lost.push(target);
        }
    }
    found.has_address = has_address(servers, name).await?;
    Some(found)
}

async fn has_address(servers: &[SocketAddr], name: &str) -> Option<bool> {
    for kind in [Kind::A, Kind::Aaaa] {
        let answers = ask(servers, name, kind).await?;
        if answers.contains(&Data::Address) {
            return Some(true);
        }
    }
    Some(false)
}

fn judge(config: &Config, found: &Found) -> (Level, String) {
    let warning = |text: String| (Level::Warning, text);
    let ports = [&config.c2s.listen, &config.c2s.listen_tls]
        .map(|list| list.iter().map(SocketAddr::port).collect::<Vec<_>>());
    if let Some(lost) = found.lost.first() {
        return warning(format!("its SRV records name {lost}, which has no address"));
    }
    for ((services, ports), kind) in found
        .services
        .iter()
        .zip(&ports)
        .zip(["STARTTLS", "direct TLS"])
    {
        for (target, port) in services {
            if target.is_empty() {
                return warning(format!(
                    "its SRV records say that there is no service ({kind})"
                ));
            }
            // Any port, or none here: somebody stands in front.
            if !ports.is_empty() && !ports.contains(port) && !ports.contains(&0) {
                let text = format!(
                    "its SRV records send clients ({kind}) to {target}:{port}, a port that is not listened on here"
                );
                return warning(text);
            }
        }
    }
    let all: Vec<String> = found
        .services
        .iter()
        .flatten()
        .map(|(target, port)| format!("{target}:{port}"))
        .collect();
    match (all.is_empty(), found.has_address) {
        (false, _) => (Level::Ok, format!("SRV records lead to {}", all.join(", "))),
        (true, true) => (Level::Ok, "no SRV records; its address is used".into()),
        (true, false) => warning("has neither SRV records nor an address".into()),
    }
}

/// What the first server that answers says; `None` when none does.
async fn ask(servers: &[SocketAddr], name: &str, kind: Kind) -> Option<Vec<Data>> {
    for server in servers.iter().take(SERVERS_MAX) {
        let asked = tokio::time::timeout(PATIENCE, ask_one(*server, name, kind));
        if let Ok(Some(answer)) = asked.await {
            return Some(answer);
        }
    }
    None
}

async fn ask_one(server: SocketAddr, name: &str, kind: Kind) -> Option<Vec<Data>> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0)).await.ok()?;
    socket.connect(server).await.ok()?;
    let mut id = [0; 2];
    random::fill(&mut id);
    let question = message::question(id, name, kind)?;
    socket.send(&question).await.ok()?;
    let mut buffer = [0; ANSWER_BYTES_MAX];
    loop {
        let read = socket.recv(&mut buffer).await.ok()?;
        match message::answer(buffer.get(..read)?, &question) {
            Some(message::Answer::Ours(data)) => return Some(data),
            Some(message::Answer::Failed) => return None,
            None => {}
        }
    }
}

/// Those of /etc/resolv.conf; where there is none, one on this machine, as the C library does.
fn system_servers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    let mut servers: Vec<_> = addresses.map(|ip| SocketAddr::new(ip, DNS_PORT)).collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT)));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml_str(text, std::path::Path::new("x.toml")).unwrap()
    }

    #[test]
    fn names_that_nobody_asks_for() {
        let open = config("[dns.override]\n\"b.example\" = \"127.0.0.2:5269\"");
        let check = |config: &Config, domain: &str, words: Option<&str>| {
            let why = skipped(config, domain);
            assert_eq!(why.is_some(), words.is_some(), "{domain}: {why:?}");
            let words = words.unwrap_or_default();
            assert!(why.unwrap_or_default().contains(words), "{domain}");
        };
        for domain in ["localhost", "a.test", "x.local", "a.localhost"] {
            check(&open, domain, Some("not in the DNS"));
        }
        check(&open, "127.0.0.1", Some("an address"));
        check(
            &open,
            "b.example",
            Some("`dns.override` says 127.0.0.2:5269"),
        );
        check(&open, "example.org", None);
        check(&open, "b\u{fc}cher.example", None);
        check(&Config::default_zero(), "example.org", Some("loopback"));
    }

    #[test]
    fn what_records_mean_here() {
        let here = config("[c2s]\nlisten = [\"[::]:5222\"]\nlisten_tls = [\"[::]:443\"]");
        let found = |starttls: &[(&str, u16)], direct: &[(&str, u16)], has_address| Found {
            services: [starttls, direct]
                .map(|list| list.iter().map(|(h, p)| ((*h).to_owned(), *p)).collect()),
            lost: Vec::new(),
            has_address,
        };
        let check = |found: &Found, level, words: &str| {
            let (got, text) = judge(&here, found);
            assert_eq!(got, level, "{text}");
            assert!(text.contains(words), "{text}");
        };
        let both = found(&[("x.org", 5222)], &[("x.org", 443)], false);
        check(&both, Level::Ok, "x.org:5222, x.org:443");
        check(&found(&[], &[], true), Level::Ok, "its address is used");
        check(&found(&[], &[], false), Level::Warning, "neither");
        check(
            &found(&[("x.org", 5223)], &[], true),
            Level::Warning,
            "x.org:5223, a port",
        );
        check(
            &found(&[], &[("x.org", 5222)], true),
            Level::Warning,
            "direct TLS",
        );
        check(&found(&[("", 0)], &[], true), Level::Warning, "no service");
        let lost = Found {
            lost: vec!["x.org".into()],
            ..both
        };
        check(&lost, Level::Warning, "x.org, which has no address");
    }
}
