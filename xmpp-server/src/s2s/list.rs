//! What operators see of links: `xmpp-server s2s list`.

use super::Federation;
use super::connect::Connected;
use super::link::{Link, Phase, Step};
use crate::clock::Clock;
use crate::core::Core;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xmpp_stream::stream::TlsInfo;
use xmpp_stream::stream::s2s::{Callee, Pair, Proof};

/// What was negotiated on a stream of a link.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(super) address: SocketAddr,
    pub(super) direct_tls: bool,
    pub(super) since: u64,
    /// How we have proven who we are.
    pub(super) proof: &'static str,
    pub(super) managed: bool,
    /// Bytes of one stanza that the other server takes, if it says so.
    pub(super) stanza_bytes_max: Option<usize>,
    pub(super) tls: Tls,
}

/// What TLS gave.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    pub(super) version: &'static str,
    pub(super) cipher: &'static str,
    /// The peer's certificate: names, and the end of its time in seconds since 1970.
    pub(super) names: Vec<String>,
    pub(super) ends: Option<u64>,
}

impl Tls {
    pub(super) fn of(info: &TlsInfo) -> Self {
        let (names, ends) = certificate(info);
        Self {
            version: info.version,
            cipher: info.cipher,
            names,
            ends,
        }
    }
}

/// Names of a peer's certificate and when it ends.
fn certificate(info: &TlsInfo) -> (Vec<String>, Option<u64>) {
    use x509_parser::extensions::GeneralName;
    let parsed = info.peer.first();
    let parsed = parsed.and_then(|der| x509_parser::parse_x509_certificate(der).ok());
    let Some((_, certificate)) = parsed else {
        return (Vec::new(), None);
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let ends = certificate.validity().not_after.timestamp();
    (names.collect(), u64::try_from(ends).ok())
}

impl Facts {
    pub(super) fn of(core: &Core, connected: &Connected) -> Self {
        let machine = &connected.driver.machine;
        Self {
            address: connected.address,
            direct_tls: connected.direct_tls,
            since: core.clock.unix_secs(),
            proof: connected.link.proof.as_str(),
            managed: connected.link.is_managed,
            stanza_bytes_max: connected.link.limits.stanza_bytes_max,
            tls: machine.tls().map(Tls::of).unwrap_or_default(),
        }
    }
}

impl Facts {
    /// Of a stream that the other server has opened.
    pub(super) fn back(core: &Core, arrival: &Arrival, machine: &Callee, managed: bool) -> Self {
        Self {
            address: arrival.peer,
            direct_tls: arrival.direct_tls,
            since: core.clock.unix_secs(),
            proof: "on their stream",
            managed,
            stanza_bytes_max: machine.peer_limits().stanza_bytes_max,
            tls: machine.tls().map(Tls::of).unwrap_or_default(),
        }
    }
}

/// Streams that other servers have opened.
#[derive(Default)]
pub(crate) struct Arrivals {
    next: AtomicU64,
    all: Mutex<HashMap<u64, Arc<Arrival>>>,
}

/// One of them.
pub(crate) struct Arrival {
    number: u64,
    pub(super) peer: SocketAddr,
    direct_tls: bool,
    since: u64,
    state: Mutex<ArrivalState>,
}

#[derive(Default)]
struct ArrivalState {
    tls: Tls,
    proven: Vec<(Pair, Proof)>,
}

impl Arrivals {
    pub(super) fn begin(&self, peer: SocketAddr, direct_tls: bool, since: u64) -> Arc<Arrival> {
        let arrival = Arc::new(Arrival {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            peer,
            direct_tls,
            since,
            state: Mutex::default(),
        });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(arrival.number, Arc::clone(&arrival));
        arrival
    }

    pub(super) fn end(&self, arrival: &Arrival) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&arrival.number);
    }

    fn all(&self) -> Vec<Arc<Arrival>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }
}

impl Arrival {
    pub(super) fn secured(&self, info: &TlsInfo) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tls = Tls::of(info);
    }

    pub(super) fn proven(&self, pair: Pair, proof: Proof) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.proven.push((pair, proof));
    }
}

/// One direction of one domain pair as operators see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Listed {
    /// "out" or "in".
    pub direction: String,
    /// Our domain.
    pub local: String,
    /// Theirs.
    pub remote: String,
    /// "up", "idle", "waiting", or what a connection under way waits for.
    pub state: String,
    /// Address of the other server.
    pub address: Option<String>,
    /// TLS version and cipher suite; none: in clear.
    pub tls: Option<String>,
    /// How the calling side has proven who it is.
    pub proof: Option<String>,
    /// Names in the other server's certificate.
    #[serde(default)]
    pub names: Vec<String>,
    /// Days that it is still good for.
    pub days_left: Option<i64>,
    /// Stream management is in use.
    pub managed: bool,
    /// It answers no pings either: what was written counts as taken.
    #[serde(default)]
    pub unacknowledged: bool,
    /// Since when it is up (XEP-0082).
    pub since: Option<String>,
    /// Stanzas that wait or are not acknowledged.
    pub queue_items: usize,
    /// The same in bytes.
    pub queue_bytes: usize,
    /// What went wrong last, where that is not mended.
    pub last_error: Option<String>,
    /// When that was (XEP-0082).
    pub failed_at: Option<String>,
    /// Seconds until the next try.
    pub next_try_secs: Option<u64>,
}

impl Listed {
    fn new(direction: &str, pair: (&str, &str), state: &str) -> Self {
        Self {
            direction: direction.into(),
            local: pair.0.into(),
            remote: pair.1.into(),
            state: state.into(),
            address: None,
            tls: None,
            proof: None,
            names: Vec::new(),
            days_left: None,
            managed: false,
            unacknowledged: false,
            since: None,
            queue_items: 0,
            queue_bytes: 0,
            last_error: None,
            failed_at: None,
            next_try_secs: None,
        }
    }

    fn with_tls(&mut self, tls: &Tls, direct: bool, now: u64) {
        if !tls.version.is_empty() {
            let way = if direct { " direct" } else { "" };
            self.tls = Some(format!("{} {}{way}", tls.version, tls.cipher));
        }
        self.names.clone_from(&tls.names);
        let left = |ends: u64| (i128::from(ends) - i128::from(now)).div_euclid(86_400);
        self.days_left = tls.ends.and_then(|ends| i64::try_from(left(ends)).ok());
    }

    fn outgoing(core: &Core, link: &Link) -> Self {
        let (now, unix) = (core.clock.now(), core.clock.unix_secs());
        let state = link.lock();
        let word = match &state.phase {
            Phase::Idle => "idle",
            Phase::Connecting(Step::Resolve) => "asking DNS",
            Phase::Connecting(Step::Dial) => "connecting",
            Phase::Connecting(Step::Negotiate) => "negotiating",
            Phase::Up(_) => "up",
            Phase::Waiting => "waiting",
        };
        let mut listed = Self::new("out", (&link.pair.from, &link.pair.to), word);
        (listed.queue_items, listed.queue_bytes) = link.outbox.load();
        if let Phase::Up(facts) = &state.phase {
            listed.address = Some(facts.address.to_string());
            listed.proof = Some(facts.proof.into());
            listed.managed = facts.managed;
            listed.unacknowledged = !facts.managed && state.pings.is_deaf();
            listed.since = Some(Clock::stamp_of(facts.since));
            listed.with_tls(&facts.tls, facts.direct_tls, unix);
        } else if let Some(failed) = &state.failed {
            let left = failed.next.saturating_duration_since(now);
            listed.last_error = Some(failed.cause.to_string());
            listed.failed_at = Some(Clock::stamp_of(failed.at));
            listed.next_try_secs = (left > Duration::ZERO).then(|| left.as_secs().max(1));
        }
        listed
    }

    fn incoming(arrival: &Arrival, now: u64) -> Vec<Self> {
        let state = arrival.state.lock().unwrap_or_else(PoisonError::into_inner);
        let proven = state.proven.iter().map(|(pair, proof)| {
            let mut listed = Self::new("in", (&pair.to, &pair.from), "up");
            listed.address = Some(arrival.peer.to_string());
            listed.proof = Some(proof.as_str().into());
            listed.since = Some(Clock::stamp_of(arrival.since));
            listed.with_tls(&state.tls, arrival.direct_tls, now);
            listed
        });
        proven.collect()
    }

    /// One line for people: columns by a tab.
    #[must_use]
    pub fn text(&self) -> String {
        let arrow = if self.direction == "out" { "->" } else { "<-" };
        let mut fields = vec![
            format!("{} {arrow} {}", self.local, self.remote),
            self.state.clone(),
        ];
        fields.extend(self.address.clone());
        if self.state == "up" {
            fields.push(self.tls.clone().unwrap_or_else(|| "no TLS".into()));
            fields.extend(self.proof.clone());
            if self.unacknowledged {
                fields.push("answers no pings".into());
            }
            if !self.names.is_empty() {
                let days = self.days_left.unwrap_or_default();
                fields.push(format!("{}, {days} days left", self.names.join(" ")));
            }
        }
        if self.direction == "out" {
            let (items, bytes) = (self.queue_items, self.queue_bytes);
            fields.push(format!("{items} stanzas {bytes} bytes"));
        }
        if let Some(error) = &self.last_error {
            let at = self.failed_at.as_deref().unwrap_or_default();
            fields.push(format!("{error} (at {at})"));
        }
        if let Some(secs) = self.next_try_secs {
            fields.push(format!(
                "next try in {secs} s, or with the next stanza then"
            ));
        }
        fields.join("\t")
    }
}

impl Core {
    /// All links, or those with one domain, by domain and direction.
    #[must_use]
    pub fn list_links(&self, domain: Option<&str>) -> Vec<Listed> {
        let federation: &Federation = &self.s2s;
        let now = self.clock.unix_secs();
        let mut listed: Vec<Listed> = federation
            .all()
            .iter()
            .map(|link| Listed::outgoing(self, link))
            .collect();
        for arrival in federation.arrivals.all() {
            listed.extend(Listed::incoming(&arrival, now));
        }
        listed.retain(|listed| {
            domain.is_none_or(|domain| listed.remote == domain || listed.local == domain)
        });
        listed.sort_by(|a, b| {
            let key = |l: &Listed| (l.remote.clone(), l.local.clone(), l.direction.clone());
            key(a).cmp(&key(b))
        });
        listed
    }
}
