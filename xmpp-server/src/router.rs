//! Where a stanza goes: the addressing table of RFC 6120 section 10, as a pure function.

use crate::host::Host;
use std::collections::HashMap;
use std::sync::Arc;
use xmpp_stream::jid::{BareJid, FullJid, Jid};

/// Served domains by prepared name.
pub type HostMap = HashMap<Box<str>, Arc<Host>>;

/// What an address means to this server.
#[derive(Clone, Debug)]
pub enum Target {
    /// A domain of ours, with or without a resource (RFC 6120 sections 10.5.1, 10.5.2).
    Host(Arc<Host>),
    /// A local account's bare JID (section 10.5.3).
    Account(Arc<Host>, BareJid),
    /// A local full JID (section 10.5.4).
    Full(Arc<Host>, FullJid),
    /// Another domain (section 10.4).
    Remote,
}

/// Reads an address.
#[must_use]
pub fn target(hosts: &HostMap, to: &Jid) -> Target {
    let Some(host) = hosts.get(to.domain()) else {
        return Target::Remote;
    };
    let host = Arc::clone(host);
    if to.local().is_none() {
        return Target::Host(host);
    }
    match to.to_full() {
        Some(full) => Target::Full(host, full),
        None => Target::Account(host, to.to_bare()),
    }
}
