//! What a program may set of its messaging logic, and what others may make it keep.

use super::roster::RosterCache;
use xmpp_stream::ns;
use xmpp_stream::payload::disco::Identity;

/// Settings of `XmppProtocol`; the defaults suit a program that people chat with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the program, told by disco#info, and by XEP-0092 where `tell_version` is set.
    pub software: String,
    /// Its version, told by XEP-0092.
    pub version: String,
    /// What kind of client it is.
    pub identity: Identity,
    /// Names the program in entity capabilities: an URI of yours (XEP-0115 section 4).
    pub caps_node: String,
    /// Further features for disco#info, such as `…+notify` of XEP-0163.
    pub features: Vec<String>,
    /// Answers what software this is.
    pub tell_version: bool,
    /// Answers what time it is, in UTC.
    pub tell_time: bool,
    /// Tells contacts who may see our presence that their messages arrived, if they ask.
    pub receipts: bool,
    /// Sends and asks for chat states.
    pub chat_states: bool,
    /// Asks for copies of what other devices of the account send and receive.
    pub carbons: bool,
    /// The roster as it was kept from an earlier run.
    pub roster: RosterCache,
    /// What others may make this program keep.
    pub limits: ProtocolLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            software: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            identity: Identity::new("client", "pc"),
            caps_node: ns::CAPS_NODE.into(),
            features: Vec::new(),
            tell_version: true,
            tell_time: true,
            receipts: true,
            chat_states: true,
            carbons: true,
            roster: RosterCache::default(),
            limits: ProtocolLimits::default(),
        }
    }
}

/// Bounds of what is kept. At each, what was used longest ago makes room, unless it says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolLimits {
    /// Contacts of the roster; further ones are passed over. Servers allow some thousands.
    pub contacts: usize,
    /// Resources whose presence is kept, of all contacts: a roster with a few devices each.
    pub presences: usize,
    /// Resources of one contact, who can make them up: no person has as many devices.
    pub resources: usize,
    /// Blocked addresses that are kept; further ones are passed over.
    pub blocked: usize,
    /// Contacts of whom it is remembered whether they take chat states.
    pub chats: usize,
    /// Messages whose sender is remembered, to judge corrections.
    pub messages: usize,
    /// Messages sent whose receipts are awaited.
    pub receipts: usize,
    /// Sets of capabilities; there are about as many programs and versions in use.
    pub caps: usize,
    /// Questions about capabilities without an answer yet.
    pub caps_asked: usize,
}

impl Default for ProtocolLimits {
    fn default() -> Self {
        Self {
            contacts: 20_000,
            presences: 10_000,
            resources: 50,
            blocked: 10_000,
            chats: 1_000,
            messages: 1_000,
            receipts: 1_000,
            caps: 500,
            caps_asked: 32,
        }
    }
}
