//! What passed the recorder, in order.

use super::{Recorded, text};
use crate::tree::Tree;

/// What is kept of stanzas; a script of more would be read by nobody.
const EVENTS_MAX: usize = 10_000;
/// The same in bytes as they were on the wire, which bounds the memory of the trees.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Remarks that are kept.
const REMARKS_MAX: usize = 100;

/// Somebody in the script: an account with the resource that it asks for.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) account: String,
    pub(super) resource: Option<String>,
    /// The full JID of the session that it has or had last.
    jid: String,
    is_online: bool,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Event {
    Connects {
        who: usize,
        jid: String,
    },
    Sends(usize, Tree),
    Receives(usize, Tree),
    /// A stream error from the server, and the end.
    StreamError(usize, String),
    /// The server has ended the stream.
    Ended(usize),
    /// The client has closed.
    Disconnects(usize),
    /// The client's connection ended without a word.
    Lost(usize),
}

/// Everything so far.
#[derive(Debug)]
pub(super) struct Notes {
    /// Address and password.
    pub(super) accounts: Vec<(String, String)>,
    pub(super) actors: Vec<Actor>,
    pub(super) events: Vec<Event>,
    remarks: Vec<String>,
    sessions: usize,
    bytes: usize,
    is_cut: bool,
}

impl Notes {
    pub(super) fn new(accounts: impl Iterator<Item = (String, String)>) -> Self {
        Self {
            accounts: accounts.collect(),
            actors: Vec::new(),
            events: Vec::new(),
            remarks: Vec::new(),
            sessions: 0,
            bytes: 0,
            is_cut: false,
        }
    }

    /// A session begins; returns whose part it is.
    pub(super) fn connects(&mut self, account: &str, resource: Option<&str>, jid: &str) -> usize {
        let is_it = |actor: &Actor| {
            !actor.is_online && actor.account == account && actor.resource.as_deref() == resource
        };
        let who = self.actors.iter().position(is_it).unwrap_or_else(|| {
            self.actors.push(Actor {
                account: account.into(),
                resource: resource.map(Into::into),
                jid: String::new(),
                is_online: false,
            });
            self.actors.len() - 1
        });
        if let Some(actor) = self.actors.get_mut(who) {
            actor.is_online = true;
            jid.clone_into(&mut actor.jid);
        }
        self.sessions += 1;
        let jid = jid.into();
        self.push(Event::Connects { who, jid }, 0);
        who
    }

    /// Something passed.
    pub(super) fn stanza(&mut self, event: Event, bytes: usize) {
        self.push(event, bytes);
    }

    /// A session ends.
    pub(super) fn ends(&mut self, who: usize, event: Event) {
        if let Some(actor) = self.actors.get_mut(who) {
            actor.is_online = false;
        }
        self.push(event, 0);
    }

    fn push(&mut self, event: Event, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.events.len() >= EVENTS_MAX || self.bytes > BYTES_MAX {
            self.is_cut = true;
        }
        if !self.is_cut {
            self.events.push(event);
        }
    }

    pub(super) fn remark(&mut self, what: String) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(what);
        }
    }

    /// Every account has had a session, and nobody is left.
    pub(super) fn is_complete(&self) -> bool {
        let has_come =
            |(jid, _): &(String, String)| self.actors.iter().any(|actor| actor.account == *jid);
        self.accounts.iter().all(has_come) && !self.actors.iter().any(|actor| actor.is_online)
    }

    pub(super) fn recorded(&self) -> Recorded {
        let mut remarks = self.remarks.clone();
        if self.is_cut {
            remarks.push("there was too much: the script ends early".into());
        }
        Recorded {
            script: text::script(self),
            sessions: self.sessions,
            remarks,
        }
    }
}
