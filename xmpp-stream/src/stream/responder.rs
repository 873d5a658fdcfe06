//! The accepting side of a stream.

use super::{Machine, Output, ScramHash, StoredKeys, TlsInfo, Verdict};
use crate::error::{StanzaError, StreamError};
use crate::jid::FullJid;
use crate::limits::Limits;
use crate::stanza::{Item, Stanza};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// When TLS must be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsRule {
    /// Direct TLS: it is there before the first byte; starttls is never offered.
    Direct,
    /// starttls is offered alone until it was used.
    Required,
    /// starttls is offered beside SASL (SCRAM only in clear).
    Optional,
}

/// What the machine may know of a served domain; asked again at each stream header.
#[derive(Clone, Debug)]
pub struct HostView {
    /// The domain in prepared form.
    pub domain: Box<str>,
    /// Hashes for which all accounts hold keys.
    pub hashes: Vec<ScramHash>,
    /// PLAIN is offered (over TLS).
    pub plain: bool,
    /// Guests (before login) may send iqs in these namespaces; empty: none.
    pub guest_ns: Arc<[&'static str]>,
    /// Canonical XML of stream features to show before login beside SASL (e.g. register).
    pub features_before_auth: Bytes,
    /// Canonical XML of stream features after login beside bind (e.g. rosterver, pre-approval).
    pub features_after_auth: Bytes,
}

/// Served domains.
pub trait Hosts: Send + Sync {
    /// The view of a domain (prepared form), `None` when not served. `loopback`-like peer facts are the implementor's.
    fn host(&self, domain: &str) -> Option<HostView>;
    /// What `from` says when `to` names nothing we serve.
    fn fallback(&self) -> Box<str>;
}

/// Fixed facts of an accepted stream.
#[derive(Clone)]
pub struct ResponderConfig {
    /// Served domains, as this peer may see them.
    pub hosts: Arc<dyn Hosts>,
    /// Bounds.
    pub limits: Limits,
    /// TLS policy.
    pub tls: TlsRule,
    /// SCRAM carries a hash of what was announced (XEP-0474).
    pub downgrade_protection: bool,
}

/// The accepting side, from the first byte to the closing tag.
pub struct Responder {/* private */}

impl Responder {
    /// `ids`: source of stream ids and nonces (OS randomness, handed in): fills the slice.
    pub fn new(
        _config: ResponderConfig,
        _random: Box<dyn FnMut(&mut [u8]) + Send>,
        _now: Instant,
    ) -> Self {
        todo!()
    }
    /// Answers `NeedCredentials`. `None`: no such account; the machine goes on with a fake made from `fake` (DESIGN 7).
    pub fn credentials(&mut self, _keys: Credentials, _now: Instant) {
        todo!()
    }
    /// Answers `CheckPassword`.
    pub fn verdict(&mut self, _verdict: Verdict, _now: Instant) {
        todo!()
    }
    /// Answers `Guest`.
    pub fn guest_reply(&mut self, _reply: Stanza, _now: Instant) {
        todo!()
    }
    /// Answers `Bind`.
    pub fn bound(&mut self, _result: Result<FullJid, StanzaError>, _now: Instant) {
        todo!()
    }
    /// Sends an item of the session's outbox; on `Item::Close` begins to close.
    pub fn send<D>(&mut self, _item: &Item<D>) {
        todo!()
    }
    /// Closes from our side, with an error or cleanly.
    pub fn close(&mut self, _error: Option<StreamError>, _now: Instant) {
        todo!()
    }
    /// True while the stream is not closing, in any state.
    pub fn accepts_close(&self) -> bool { todo!() }
    /// True once established and not closing.
    pub fn is_open(&self) -> bool {
        todo!()
    }
}

/// The caller's answer to `NeedCredentials`.
#[derive(Clone)]
pub enum Credentials {
    /// Keys of the account.
    Keys(Arc<StoredKeys>),
    /// Unknown account (or one that may not sign in so): salt and iterations of a fake that looks like a real one.
    Fake {
        /// HMAC of a secret over hash and name: the same for each try.
        salt: Box<[u8]>,
        /// The domain's usual iterations.
        iterations: u32,
    },
    /// The account is banned: told only after the right password (account-disabled).
    Disabled(Arc<StoredKeys>),
    /// The store does not answer: temporary-auth-failure.
    Unavailable,
}

impl Machine for Responder {
    fn handle_bytes(&mut self, _data: &[u8], _now: Instant) {
        todo!()
    }
    fn handle_eof(&mut self, _now: Instant) {
        todo!()
    }
    fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
    fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    fn take_bytes(&mut self, _out: &mut Vec<u8>) {
        todo!()
    }
    fn pending_bytes(&self) -> usize {
        todo!()
    }
    fn wants_input(&self) -> bool {
        todo!()
    }
    fn tls_established(&mut self, _info: TlsInfo, _now: Instant) {
        todo!()
    }
    fn release(&mut self) {
        todo!()
    }
}
