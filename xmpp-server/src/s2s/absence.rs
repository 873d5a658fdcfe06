//! A domain that was there and cannot be reached any more, another server's or a component's: whoever
//! watches somebody there is shown that they are gone, and asks again when it is back.
//!
//! Presence is known by what the other server says; once it says nothing any more, what was last said
//! would stand for ever (RFC 6121 section 4.5.2 has the same reason for lost clients).

use super::link::Link;
use crate::core::Core;
use crate::effect::Effect;
use crate::session::account::SessionEntry;
use std::sync::Arc;
use tracing::info;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::stanza::{Stanza, Ty};
use xmpp_stream::stream::s2s::Pair;

/// Accounts looked at until others have their turn.
const BREATH: usize = 64;

impl Core {
    /// Somebody here who is available watches somebody there.
    pub(super) async fn is_watched(&self, pair: &Pair) -> bool {
        let mut found = false;
        self.watchers(&pair.from, &pair.to, |_, _| {
            found = true;
            false
        })
        .await;
        found
    }

    /// What was last shown of a domain's accounts is no longer so.
    pub(super) async fn show_gone(self: &Arc<Self>, link: &Link) {
        let watched = self.watched(&link.pair.from, &link.pair.to).await;
        if watched.is_empty() {
            return;
        }
        info!(to = %link.pair.to, "domain out of reach: its accounts are shown as gone");
        link.lock().shown_gone = true;
        self.tell_gone(watched).await;
    }

    /// The link is back: whoever watches asks anew.
    pub(super) async fn ask_again(self: Arc<Self>, link: Arc<Link>) {
        self.probe_all(&link.pair.from, &link.pair.to).await;
    }

    /// A component has gone, and with it whoever was seen there.
    pub(crate) async fn show_component_gone(self: &Arc<Self>, domain: &str) {
        for ours in self.own_domains() {
            let watched = self.watched(&ours, domain).await;
            self.tell_gone(watched).await;
        }
    }

    /// It is back.
    pub(crate) async fn ask_component_again(self: Arc<Self>, domain: Box<str>) {
        for ours in self.own_domains() {
            self.probe_all(&ours, &domain).await;
        }
    }

    fn own_domains(&self) -> Vec<Box<str>> {
        let settings = self.settings();
        settings
            .hosts
            .keys()
            .map(|domain| (**domain).into())
            .collect()
    }

    /// Who watches whom.
    async fn watched(&self, ours: &str, theirs: &str) -> Vec<(BareJid, Jid)> {
        let mut watched = Vec::new();
        self.watchers(ours, theirs, |account, contact| {
            watched.push((account.clone(), contact.clone()));
            true
        })
        .await;
        watched
    }

    async fn tell_gone(self: &Arc<Self>, watched: Vec<(BareJid, Jid)>) {
        for (account, contact) in watched {
            let gone = Stanza::presence(Ty::Unavailable).with_from(contact);
            let effects = vec![Effect::route(gone.with_to(account))];
            self.run(None, effects.into()).await;
        }
    }

    async fn probe_all(self: &Arc<Self>, ours: &str, theirs: &str) {
        let mut probes = Vec::new();
        self.watchers(ours, theirs, |account, contact| {
            let probe = Stanza::presence(Ty::Probe).with_from(account.clone());
            probes.push(probe.with_to(contact.clone()));
            true
        })
        .await;
        for probe in probes {
            self.run(None, vec![Effect::route(probe)].into()).await;
        }
    }

    /// Every account of ours with an available session, and each contact there whose presence it may
    /// see, until `see` has seen enough.
    async fn watchers(
        &self,
        ours: &str,
        theirs: &str,
        mut see: impl FnMut(&BareJid, &Jid) -> bool,
    ) {
        for (count, account) in self.registry.of_domain(ours).iter().enumerate() {
            if count % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            let is_here = account
                .lock()
                .sessions
                .iter()
                .any(SessionEntry::is_available);
            if !is_here {
                continue;
            }
            let roster = account.roster();
            for row in roster.rows() {
                let contact = row.jid.as_jid();
                let is_there = contact.domain() == theirs;
                if is_there && roster.may_see_them(contact.as_str()) && !see(&account.jid, contact)
                {
                    return;
                }
            }
        }
    }
}
