//! The contact list and who sees whose presence: what a program asks for.
//!
//! RFC 6121 sections 2 and 3; XEP-0191.

use super::roster::{Contact, RosterCache};
use super::state::subscription;
use super::{ImEvent, XmppProtocol};
use crate::error::{Closed, IqError};
use crate::ext::blocking::{self, BlockError, Change};
use crate::ext::{self, RequestError, carbons};
use std::collections::BTreeSet;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::Ty;
use xmpp_stream::xml::Element;

/// How often a list that changes all the time is asked for anew.
const LIST_TRIES_MAX: usize = 3;

impl XmppProtocol {
    // Roster

    /// Gets the roster, or what has changed in it since it was kept. `go_online` does it too.
    ///
    /// # Errors
    /// The request failed.
    pub async fn load_roster(&self) -> Result<(), RequestError> {
        let versions = self.client().has_roster_versions();
        let query = self.lock().roster.ask(versions);
        let answer = ext::get(self.client(), None, &query).await?;
        if answer
            .as_ref()
            .is_some_and(|query| !query.is(ns::ROSTER, "query"))
        {
            return Err(RequestError::Malformed("another payload was expected"));
        }
        {
            let mut state = self.lock();
            let limits = state.options.limits;
            state.roster.answered(answer.as_ref(), &limits);
        }
        self.inner.receivers.push(ImEvent::RosterReceived);
        Ok(())
    }

    /// What a session begins with (RFC 6121 section 2.2): the roster comes before presence. Neither it
    /// nor copies keep anybody from being online.
    pub(super) async fn start_session(&self) {
        let (is_loaded, wants_copies) = {
            let state = self.lock();
            (state.roster.is_loaded(), state.options.carbons)
        };
        if is_loaded {
            return;
        }
        if let Err(error) = self.load_roster().await {
            tracing::debug!(%error, "no roster");
        }
        if wants_copies && let Err(error) = carbons::enable(self.client()).await {
            tracing::debug!(%error, "no copies of what other devices send");
        }
    }

    /// The contacts, as they are now.
    #[must_use]
    pub fn roster(&self) -> Vec<Contact> {
        self.lock().roster.cache().contacts().cloned().collect()
    }

    /// One contact, as they are now.
    #[must_use]
    pub fn contact(&self, jid: &BareJid) -> Option<Contact> {
        self.lock().roster.contact(jid.as_str()).cloned()
    }

    /// The roster to be kept until the next run: hand it in as `Options::roster`.
    #[must_use]
    pub fn roster_cache(&self) -> RosterCache {
        self.lock().roster.cache().clone()
    }

    /// Adds a contact, or gives one another name and other groups. Presence is a matter of `subscribe`.
    ///
    /// # Errors
    /// The request failed.
    pub async fn set_contact(
        &self,
        jid: &BareJid,
        name: Option<&str>,
        groups: &[&str],
    ) -> Result<(), IqError> {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).into()).collect();
        // Row ro-05: no group twice, none without a name.
        groups.sort();
        groups.dedup();
        groups.retain(|group| !group.is_empty());
        let contact = Contact {
            name: name.map(Into::into),
            groups,
            ..Contact::new(jid.clone())
        };
        ext::set(self.client(), None, &contact.to_set()).await?;
        Ok(())
    }

    /// Gives a contact another name; the groups stay.
    ///
    /// # Errors
    /// The request failed.
    pub async fn rename_contact(&self, jid: &BareJid, name: &str) -> Result<(), IqError> {
        let groups = self
            .contact(jid)
            .map_or_else(Vec::new, |contact| contact.groups);
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        self.set_contact(jid, Some(name), &groups).await
    }

    /// Removes a contact; neither sees the other's presence any more.
    ///
    /// # Errors
    /// The request failed.
    pub async fn remove_contact(&self, jid: &BareJid) -> Result<(), IqError> {
        let item = Element::new(ns::ROSTER, "item")
            .with_attr("jid", jid.as_str())
            .with_attr("subscription", "remove");
        let query = Element::new(ns::ROSTER, "query").with_child(item);
        ext::set(self.client(), None, &query).await?;
        self.lock().presences.forget(jid);
        Ok(())
    }

    // Subscriptions

    /// Asks to see somebody's presence.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn subscribe(&self, to: &BareJid, text: Option<&str>) -> Result<(), Closed> {
        self.send(subscription(Ty::Subscribe, to, text)).await
    }

    /// Lets somebody see our presence who has asked.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn approve(&self, to: &BareJid) -> Result<(), Closed> {
        self.send(subscription(Ty::Subscribed, to, None)).await
    }

    /// Lets somebody see our presence who may ask later; false: the server does not know that, and
    /// nothing was sent (RFC 6121 section 3.4).
    ///
    /// # Errors
    /// The stream is over.
    pub async fn pre_approve(&self, to: &BareJid) -> Result<bool, Closed> {
        match self.client().has_pre_approval() {
            true => self.approve(to).await.map(|()| true),
            false => Ok(false),
        }
    }

    /// Does not, or no longer, let somebody see our presence.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn refuse(&self, to: &BareJid) -> Result<(), Closed> {
        self.send(subscription(Ty::Unsubscribed, to, None)).await
    }

    /// No longer wants to see somebody's presence.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn unsubscribe(&self, to: &BareJid) -> Result<(), Closed> {
        // Row ci-05: what we saw of them does not hold any more.
        self.lock().presences.forget(to);
        self.send(subscription(Ty::Unsubscribe, to, None)).await
    }

    // Blocking

    /// Gets the list of blocked addresses, which is kept up to date from then on.
    ///
    /// # Errors
    /// The request failed.
    pub async fn load_blocked(&self) -> Result<Vec<Jid>, RequestError> {
        let mut tries = 0..LIST_TRIES_MAX;
        loop {
            let before = self.lock().blocked_changes;
            let list = blocking::list(self.client()).await?;
            let mut state = self.lock();
            // A push that came meanwhile may be newer than the list.
            if state.blocked_changes == before || tries.next().is_none() {
                state.blocked = Some(BTreeSet::new());
                state.change_blocked(Change::Blocked(list.clone()));
                return Ok(list);
            }
        }
    }

    /// The blocked addresses, as they are now; `None` before `load_blocked`.
    #[must_use]
    pub fn blocked(&self) -> Option<Vec<Jid>> {
        let state = self.lock();
        Some(state.blocked.as_ref()?.iter().cloned().collect())
    }

    /// Blocks an account, a device or a whole domain.
    ///
    /// # Errors
    /// The request failed.
    pub async fn block(&self, jid: &Jid) -> Result<(), BlockError> {
        blocking::block(self.client(), std::slice::from_ref(jid)).await
    }

    /// Unblocks it.
    ///
    /// # Errors
    /// The request failed.
    pub async fn unblock(&self, jid: &Jid) -> Result<(), BlockError> {
        blocking::unblock(self.client(), std::slice::from_ref(jid)).await
    }

    /// Unblocks everybody.
    ///
    /// # Errors
    /// The request failed.
    pub async fn unblock_all(&self) -> Result<(), RequestError> {
        blocking::unblock_all(self.client()).await
    }
}
