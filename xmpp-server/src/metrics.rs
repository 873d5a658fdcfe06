//! All counters and gauges of the server: one table of names, one place where they are shown.
//!
//! STYLE: every limit that trips has a counter, every queue a gauge. Counting is one relaxed add;
//! values that other parts hold anyway (sessions, the store's queue) are looked up when somebody
//! asks. Shown as JSON or in the exposition form of Prometheus by `xmpp-server stats`.

use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use xmpp_stream::error::{StanzaCondition, StreamCondition};
use xmpp_stream::stanza::Kind;

/// Values under one name: one, or one for each value of its label.
#[derive(Debug)]
pub struct Metric(Box<[AtomicU64]>);

impl Metric {
    fn new(values: usize) -> Self {
        Self((0..values).map(|_| AtomicU64::new(0)).collect())
    }

    /// One more of what has no label.
    pub fn count(&self) {
        self.count_at(0);
    }

    /// One more of the label's value at this place.
    pub fn count_at(&self, at: usize) {
        if let Some(value) = self.0.get(at) {
            value.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A gauge as it is now.
    pub fn set(&self, now: usize) {
        if let Some(value) = self.0.first() {
            value.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// The sum over all values of the label.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let values = self.0.iter().map(|value| value.load(Ordering::Relaxed));
        values.fold(0, u64::wrapping_add)
    }
}

/// What a metric means to who reads it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// Only grows, from the start of the process on.
    Counter,
    /// As it is now.
    Gauge,
}

/// The values of a label, in the order of their places.
type Labels = fn() -> Vec<&'static str>;

struct Row {
    name: &'static str,
    meaning: Meaning,
    help: &'static str,
    label: Option<(&'static str, Labels)>,
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $meaning:ident $name:literal
        $(by $label:literal of $labels:expr)?,)+) => {
        /// Every counter and gauge.
        #[derive(Debug)]
        pub struct Metrics { $($(#[doc = $help])+ pub $field: Metric,)+ }

        const TABLE: &[Row] = &[$(Row {
            name: $name,
            meaning: Meaning::$meaning,
            help: concat!($($help),+),
            label: metrics!(@label $($label, $labels)?),
        },)+];

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($field: Metric::new(metrics!(@values $($labels)?)),)+ }
            }
        }

        impl Metrics {
            fn values(&self) -> Vec<&Metric> {
                vec![$(&self.$field,)+]
            }
        }
    };
    (@label) => { None };
    (@label $label:literal, $labels:expr) => { Some(($label, $labels)) };
    (@values) => { 1 };
    (@values $labels:expr) => { $labels().len() };
}

metrics! {
    /// Connections accepted, by listener.
    connections: Counter "xmpp_server_connections_total" by "listener" of listeners,
    /// Connections refused at the gate, by the bound that they met.
    connections_refused: Counter "xmpp_server_connections_refused_total" by "cause" of causes,
    /// TLS handshakes that failed.
    tls_failed: Counter "xmpp_server_tls_handshakes_failed_total",
    /// Logins, by SASL mechanism.
    logins: Counter "xmpp_server_logins_total" by "mechanism" of mechanisms,
    /// Logins that failed, by SASL mechanism.
    logins_failed: Counter "xmpp_server_logins_failed_total" by "mechanism" of mechanisms,
    /// Logins that had to wait after wrong passwords.
    logins_delayed: Counter "xmpp_server_logins_delayed_total",
    /// In-band registrations that were let through.
    registrations: Counter "xmpp_server_registrations_total",
    /// In-band registrations refused as too many from one address.
    registrations_refused: Counter "xmpp_server_registrations_refused_total",
    /// Sessions now.
    sessions: Gauge "xmpp_server_sessions",
    /// Accounts in memory now.
    accounts: Gauge "xmpp_server_accounts_loaded",
    /// Stanzas received from clients, by kind.
    received: Counter "xmpp_server_stanzas_received_total" by "kind" of kinds,
    /// Stanzas handed to the connections of clients, by kind.
    sent: Counter "xmpp_server_stanzas_sent_total" by "kind" of kinds,
    /// Stanzas received from other servers.
    s2s_received: Counter "xmpp_server_s2s_stanzas_received_total",
    /// Stanzas handed to links to other servers.
    s2s_sent: Counter "xmpp_server_s2s_stanzas_sent_total",
    /// Error stanzas handed to the connections of clients, by condition.
    stanza_errors: Counter "xmpp_server_stanza_errors_sent_total" by "condition" of stanza_conditions,
    /// Streams closed by us with an error, by condition.
    stream_errors: Counter "xmpp_server_stream_errors_sent_total" by "condition" of stream_conditions,
    /// Sessions cut at the hard bound of their queue.
    outbox_cuts: Counter "xmpp_server_outbox_cuts_total",
    /// Transactions of the store.
    store_commits: Counter "xmpp_server_store_commits_total",
    /// Operations that were committed.
    store_ops: Counter "xmpp_server_store_ops_total",
    /// Writes that failed.
    store_failed: Counter "xmpp_server_store_failed_total",
    /// Writes refused because the queue of the store was full.
    store_refused: Counter "xmpp_server_store_refused_total",
    /// Operations that have room in the queue of the store now.
    store_waiting: Gauge "xmpp_server_store_waiting_ops",
    /// Stanzas that a session watch had no room to show.
    watch_missed: Counter "xmpp_server_watch_missed_total",
}

/// Names of the listeners, in the order of `ListenerKind`.
fn listeners() -> Vec<&'static str> {
    vec![
        "c2s-starttls",
        "c2s-tls",
        "s2s-starttls",
        "s2s-tls",
        "component",
    ]
}

/// Why the gate refuses, in the order of `listener::Refusal`.
fn causes() -> Vec<&'static str> {
    vec!["address", "total"]
}

/// Mechanisms that we know; whatever a peer calls otherwise counts as the last.
fn mechanisms() -> Vec<&'static str> {
    MECHANISMS.to_vec()
}

const MECHANISMS: [&str; 9] = [
    "EXTERNAL",
    "PLAIN",
    "SCRAM-SHA-1",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-512-PLUS",
    "other",
];

fn kinds() -> Vec<&'static str> {
    vec!["message", "presence", "iq"]
}

fn stanza_conditions() -> Vec<&'static str> {
    let all = StanzaCondition::ALL.iter();
    all.map(|condition| condition.as_str()).collect()
}

fn stream_conditions() -> Vec<&'static str> {
    let all = StreamCondition::ALL.iter();
    all.map(|condition| condition.as_str()).collect()
}

/// The place of a stanza's kind.
#[must_use]
pub fn kind(kind: Kind) -> usize {
    match kind {
        Kind::Message => 0,
        Kind::Presence => 1,
        Kind::Iq => 2,
    }
}

/// The place of a SASL mechanism.
#[must_use]
pub fn mechanism(name: &str) -> usize {
    let known = MECHANISMS.iter().position(|known| *known == name);
    known.unwrap_or(MECHANISMS.len() - 1)
}

/// What the store counts; looked up when somebody asks.
#[derive(Debug, Default)]
pub struct StoreCounters {
    /// Transactions.
    pub commits: AtomicUsize,
    /// Operations in them.
    pub ops: AtomicUsize,
    /// Writes that failed.
    pub failed: AtomicUsize,
    /// Writes refused for a full queue.
    pub refused: AtomicUsize,
    /// Operations that wait.
    pub waiting: AtomicUsize,
}

impl StoreCounters {
    /// A transaction of so many operations was committed.
    pub fn committed(&self, ops: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.ops.fetch_add(ops, Ordering::Relaxed);
    }
}

/// A metric with its values, as it goes over the control socket.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// What it says, in a sentence.
    pub help: String,
    /// How to read it.
    pub meaning: Meaning,
    /// Name of its label, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Label's value (empty without a label) and number.
    pub values: Vec<(String, u64)>,
}

impl Metrics {
    /// All of them as they are now.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let rows = TABLE.iter().zip(self.values());
        rows.map(|(row, metric)| sample(row, metric)).collect()
    }
}

fn sample(row: &Row, metric: &Metric) -> Sample {
    let names = row.label.map_or_else(|| vec![""], |(_, labels)| labels());
    let values = names.into_iter().zip(&metric.0);
    Sample {
        name: row.name.into(),
        help: row.help.trim().into(),
        meaning: row.meaning,
        label: row.label.map(|(label, _)| label.into()),
        values: values
            .map(|(name, value)| (name.into(), value.load(Ordering::Relaxed)))
            .collect(),
    }
}

impl Sample {
    /// Text in the exposition form of Prometheus (version 0.0.4).
    #[must_use]
    pub fn text(&self) -> String {
        let meaning = match self.meaning {
            Meaning::Counter => "counter",
            Meaning::Gauge => "gauge",
        };
        let (name, help) = (&self.name, &self.help);
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} {meaning}\n");
        for (value, number) in &self.values {
            // Writing to a string does not fail; label values of ours need no escape.
            let _ = match &self.label {
                Some(label) => writeln!(text, "{name}{{{label}=\"{value}\"}} {number}"),
                None => writeln!(text, "{name} {number}"),
            };
        }
        text
    }

    /// One JSON object a value, a line each.
    #[must_use]
    pub fn json(&self) -> String {
        let mut text = String::new();
        for (value, number) in &self.values {
            let mut object = serde_json::json!({ "name": self.name, "value": number });
            if let (Some(label), Some(fields)) = (&self.label, object.as_object_mut()) {
                fields.insert(label.clone(), value.as_str().into());
            }
            let _ = writeln!(text, "{object}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::ListenerKind;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_say_what_they_are() {
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for row in TABLE {
            assert!(row.name.starts_with("xmpp_server_"), "{}", row.name);
            let total = row.name.ends_with("_total");
            assert_eq!(total, row.meaning == Meaning::Counter, "{}", row.name);
            assert!(row.help.trim().ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn the_page_for_operators_lists_every_name() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATING.md");
        let page = std::fs::read_to_string(page).unwrap();
        let listed = page.lines().filter_map(|line| {
            let name = line.strip_prefix("| `xmpp_server_")?.split_once('`')?.0;
            Some(format!("xmpp_server_{name}"))
        });
        let listed: BTreeSet<_> = listed.collect();
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.name.to_owned()).collect();
        assert_eq!(listed, names);
    }

    #[test]
    fn places_fit_their_labels() {
        let starttls = ListenerKind::C2sStartTls;
        for listener in [starttls, ListenerKind::C2sTls] {
            assert_eq!(listeners()[listener as usize], listener.as_str());
        }
        for at in [Kind::Message, Kind::Presence, Kind::Iq] {
            assert_eq!(kinds()[kind(at)], at.as_str());
        }
        for condition in StanzaCondition::ALL {
            assert_eq!(stanza_conditions()[*condition as usize], condition.as_str());
        }
        for condition in StreamCondition::ALL {
            assert_eq!(stream_conditions()[*condition as usize], condition.as_str());
        }
        assert_eq!(MECHANISMS[mechanism("SCRAM-SHA-256")], "SCRAM-SHA-256");
        assert_eq!(MECHANISMS[mechanism("X-\"}\n")], "other");
    }

    #[test]
    fn text_is_in_the_exposition_form() {
        let metrics = Metrics::default();
        metrics.received.count_at(kind(Kind::Iq));
        metrics.received.count_at(kind(Kind::Iq));
        metrics.sessions.set(3);
        let text: String = metrics.samples().iter().map(Sample::text).collect();
        let wanted = "# HELP xmpp_server_stanzas_received_total Stanzas received from clients, by \
                      kind.\n# TYPE xmpp_server_stanzas_received_total counter\n\
                      xmpp_server_stanzas_received_total{kind=\"message\"} 0\n\
                      xmpp_server_stanzas_received_total{kind=\"presence\"} 0\n\
                      xmpp_server_stanzas_received_total{kind=\"iq\"} 2\n";
        assert!(text.contains(wanted), "{text}");
        let gauge = "# TYPE xmpp_server_sessions gauge\nxmpp_server_sessions 3\n";
        assert!(text.contains(gauge), "{text}");
        let json: String = metrics.samples().iter().map(Sample::json).collect();
        let object = r#"{"kind":"iq","name":"xmpp_server_stanzas_received_total","value":2}"#;
        assert!(json.lines().any(|line| line == object), "{json}");
    }
}
