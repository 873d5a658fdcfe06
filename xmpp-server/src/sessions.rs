//! What operators see of sessions and do to them: list, kick.
//!
//! DESIGN 1. Everything here is read under the account's lock, one account at a time; nothing on
//! the way of a stanza looks at it.

use crate::clock::Clock;
use crate::core::Core;
use crate::session::account::SessionEntry;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use xmpp_stream::error::StreamCondition;
use xmpp_stream::jid::Jid;

/// The connection that a session came by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// Address and port of the client.
    pub peer: SocketAddr,
    /// When it was bound, in seconds since 1970.
    pub since: u64,
    /// TLS version; empty: none.
    pub tls: &'static str,
    /// SASL mechanism.
    pub mechanism: &'static str,
}

impl Default for Link {
    fn default() -> Self {
        Self::from(IpAddr::from(Ipv4Addr::UNSPECIFIED))
    }
}

impl From<IpAddr> for Link {
    /// A connection whose port does not matter.
    fn from(peer: IpAddr) -> Self {
        Self::from(SocketAddr::from((peer, 0)))
    }
}

impl From<SocketAddr> for Link {
    /// A connection of which no more is known yet.
    fn from(peer: SocketAddr) -> Self {
        Self {
            peer,
            since: 0,
            tls: "",
            mechanism: "",
        }
    }
}

/// One session as operators see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Listed {
    /// Its address.
    pub jid: String,
    /// Address and port of its client.
    pub peer: String,
    /// When it was bound (XEP-0082).
    pub since: String,
    /// TLS version, where there is TLS.
    pub tls: Option<String>,
    /// SASL mechanism of its login.
    pub mechanism: String,
    /// It has sent available presence.
    pub available: bool,
    /// Priority of that presence.
    pub priority: i8,
    /// Items that wait in its queue.
    pub queue_items: usize,
    /// The same in bytes.
    pub queue_bytes: usize,
    /// Stream management: how far it is, where it is in use.
    pub sm: Option<String>,
}

impl Listed {
    fn of(entry: &SessionEntry) -> Self {
        let (queue_items, queue_bytes) = entry.outbox.load();
        let link = &entry.link;
        Self {
            jid: entry.jid.to_string(),
            peer: link.peer.to_string(),
            since: Clock::stamp_of(link.since),
            tls: (!link.tls.is_empty()).then(|| link.tls.to_owned()),
            mechanism: link.mechanism.to_owned(),
            available: entry.is_available(),
            priority: entry.priority,
            queue_items,
            queue_bytes,
            sm: stream_management(entry),
        }
    }

    /// One line for people: columns by a tab.
    #[must_use]
    pub fn text(&self) -> String {
        let presence = match self.available {
            true => format!("available {}", self.priority),
            false => "connected".into(),
        };
        let queue = format!("{} items {} bytes", self.queue_items, self.queue_bytes);
        let fields = [
            &*self.jid,
            &self.peer,
            &self.since,
            self.tls.as_deref().unwrap_or("no TLS"),
            &self.mechanism,
            &presence,
            &queue,
            self.sm.as_deref().unwrap_or("no SM"),
        ];
        fields.join("\t")
    }
}

/// The state of stream management in words; `None` where it is not in use.
fn stream_management(entry: &SessionEntry) -> Option<String> {
    let unacknowledged = entry.outbox.unacknowledged()?;
    let state = match (entry.hibernating, &entry.token) {
        (true, _) => "hibernating",
        (false, Some(_)) => "resumable",
        (false, None) => "acknowledgements",
    };
    Some(format!("{state}, {unacknowledged} unacknowledged"))
}

impl Core {
    /// All sessions, in the order of their addresses.
    #[must_use]
    pub fn list_sessions(&self) -> Vec<Listed> {
        let mut sessions = Vec::new();
        for account in self.registry.all() {
            sessions.extend(account.lock().sessions.iter().map(Listed::of));
        }
        sessions.sort_unstable_by(|a, b| a.jid.cmp(&b.jid));
        sessions
    }

    /// Ends one session (a full JID) or all of an account (a bare one), with a stream error; how
    /// many there were.
    pub async fn kick(self: &Arc<Self>, jid: &Jid) -> usize {
        let Some(account) = self.registry.peek(jid.bare_str()) else {
            return 0;
        };
        let mut sessions = account.lock().sessions.clone();
        sessions.retain(|entry| jid.is_bare() || entry.jid.as_jid() == jid);
        for entry in &sessions {
            let effects = self.end_with(&account, entry, StreamCondition::PolicyViolation);
            self.run(None, effects.into()).await;
        }
        sessions.len()
    }

    /// True for an account that exists, or a session that is there.
    pub(crate) async fn is_watchable(&self, jid: &Jid) -> bool {
        let (account, now) = (jid.to_bare(), self.clock.now());
        let loaded = self.registry.load(&self.store, &account, now).await;
        match (loaded, jid.resource()) {
            (Ok(Some(account)), Some(resource)) => account.lock().resource(resource).is_some(),
            (Ok(account), None) => account.is_some(),
            _ => false,
        }
    }

    /// Puts gauges in force whose values are held elsewhere.
    pub fn refresh_gauges(&self) {
        let metrics = &self.tap.metrics;
        let sessions = &self.registry.sessions;
        metrics
            .sessions
            .set(sessions.load(std::sync::atomic::Ordering::Relaxed));
        metrics.accounts.set(self.registry.len());
        let store = self.store.counters();
        for (metric, value) in [
            (&metrics.store_commits, &store.commits),
            (&metrics.store_ops, &store.ops),
            (&metrics.store_failed, &store.failed),
            (&metrics.store_refused, &store.refused),
            (&metrics.store_waiting, &store.waiting),
        ] {
            metric.set(value.load(std::sync::atomic::Ordering::Relaxed));
        }
    }
}
