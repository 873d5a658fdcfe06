//! Streams as values: bytes and time in, bytes and decisions out.
//!
//! `Responder` is called, `Initiator` calls; both negotiate (RFC 6120 section 4.3) and then carry
//! stanzas. After each change the caller drains `poll_output`, writes `take_bytes`, and waits.
//!
//! ```text
//!                ┌───────────────────────┐
//!       bytes ──►│                       │──► Output::…  what the caller must do or learn
//!    verdicts ──►│ Responder / Initiator │──► bytes to send
//!         now ──►│        / Open         │──► next deadline
//!                └───────────────────────┘
//! ```

use crate::error::StreamError;
use crate::jid::{BareJid, FullJid};
use crate::stanza::Stanza;
use std::time::Instant;

pub mod component;
mod header;
pub mod initiator;
mod open;
pub mod responder;
pub mod s2s;
#[cfg(test)]
mod tests;
mod wire;
pub use initiator::{Failure, Initiator, InitiatorConfig, Manage, Strength};
pub use responder::{
    ClientCertificate, Credentials, HostView, Hosts, NotResumed, Responder, ResponderConfig,
    Resumption, TlsRule,
};

/// A source of random bytes that is handed in (the operating system's, but in tests): fills the slice.
pub type RandomSource = Box<dyn FnMut(&mut [u8]) + Send>;

/// SCRAM hash functions (RFC 5802, RFC 7677).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs)]
pub enum ScramHash {
    Sha1,
    Sha256,
    Sha512,
}

/// Keys of one account for one hash; never a password.
#[derive(Clone, Eq, PartialEq)]
pub struct StoredKeys {
    /// Which hash they are for.
    pub hash: ScramHash,
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// Salt bytes.
    pub salt: Box<[u8]>,
    /// H(HMAC(SaltedPassword, "Client Key")).
    pub stored_key: Box<[u8]>,
    /// HMAC(SaltedPassword, "Server Key").
    pub server_key: Box<[u8]>,
}

/// A password on its way to a check: not printed, wiped when dropped as far as safe code can.
pub struct Password(pub String);

impl Drop for Password {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// What TLS gave us; told to the machine by `tls_established`.
#[derive(Clone, Debug, Default)]
pub struct TlsInfo {
    /// "TLSv1.3" or "TLSv1.2".
    pub version: &'static str,
    /// tls-exporter data (RFC 9266), only on TLS 1.3.
    pub exporter: Option<[u8; 32]>,
    /// tls-server-end-point data (RFC 5929 section 4) of the leaf in use, when defined.
    pub server_end_point: Option<Box<[u8]>>,
    /// Server name the peer asked for.
    pub sni: Option<Box<str>>,
    /// Cipher suite by its name in the registry; empty where it is not known.
    pub cipher: &'static str,
    /// The certificates that the peer has shown, its own first, in DER; nobody has judged them yet.
    pub peer: Vec<Box<[u8]>>,
    /// The peer was shown a certificate of ours.
    pub is_certified: bool,
}

/// What stream management's words are read into.
pub use crate::features::sm::{SmAnswer, SmRequest};

/// What the caller must do or learn. Poll until `None` after every change.
#[derive(Debug)]
pub enum Output {
    /// Flush the bytes, run the TLS handshake, then call `tls_established`.
    StartTls {
        /** `to` of the header: chooses the certificate, or names the one that is expected. */
        to: Box<str>,
    },
    /// Look up SCRAM keys, then call `credentials`.
    NeedCredentials {
        /** Who signs in. */
        account: BareJid,
        /** For which hash. */
        hash: ScramHash,
    },
    /// Check a password off the task, then call `verdict`.
    CheckPassword {
        /** Who signs in. */
        account: BareJid,
        /** What was sent. */
        password: Password,
    },
    /// A certificate has proven who signs in: is there such an account? Answer with `verdict`.
    CheckAccount {
        /** Who signs in. */
        account: BareJid,
    },
    /// An iq to the host before login, in a namespace that the host lets guests use; answer with `guest_reply`.
    Guest(Stanza),
    /// The client asks for a resource; answer with `bound`.
    Bind {
        /** Authenticated account. */
        account: BareJid,
        /** Wanted resource. */
        resource: Option<Box<str>>,
    },
    /// The client wants to go on with an earlier stream; answer with `resumed`.
    Resume {
        /** Authenticated account. */
        account: BareJid,
        /** The stream's id. */
        previd: Box<str>,
        /** Stanzas of ours that it has handled. */
        h: u32,
    },
    /// Negotiation is over; stanzas may flow.
    Established(Established),
    /// A stanza in order of arrival; `from` is as received, the server stamps it.
    Stanza(Stanza),
    /// A stanza that is refused alone: answer it with this error, count it, go on.
    Refused(crate::xml::Refused),
    /// Stream management: `<enable/>` (to be granted), `<r/>` or `<a/>`.
    Sm(SmRequest),
    /// Stream management on the calling side: what the server answered to `<enable/>` or
    /// `<resume/>`.
    Managed(SmAnswer),
    /// With stream management: a stanza that the machine took itself, and its answer to it, to be
    /// sent in its place in the order. Count it.
    Handled(Option<Box<Stanza>>),
    /// The responder's: the peer has closed its side; send what it is still owed, then answer with
    /// `finish_close`.
    PeerClosing,
    /// Facts worth a log line: mechanism chosen, login failed with account and condition.
    Note(Note),
    /// What streams between servers ask and tell beside all this.
    Server(s2s::Event),
    /// What streams of components ask and tell beside all this.
    Component(component::Event),
    /// The stream is over; write what is left, then close the transport.
    Closed(CloseReason),
}

/// Log-worthy facts; never with secrets.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Note {
    LoginFailed {
        mechanism: Box<str>,
        account: Option<BareJid>,
        condition: crate::error::SaslCondition,
        reason: &'static str,
    },
    LoggedIn {
        mechanism: &'static str,
        account: BareJid,
        channel_binding: Option<&'static str>,
    },
}

/// The negotiated stream.
#[derive(Clone, Debug)]
pub struct Established {
    /// Bound JID.
    pub jid: FullJid,
    /// `xml:lang` of the peer's header.
    pub lang: Option<Box<str>>,
}

/// Why a stream ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both closing tags passed.
    Clean,
    /// We sent this error.
    Ours(StreamError),
    /// The peer sent this error.
    Theirs(StreamError),
    /// The peer did not answer our closing tag in time.
    CloseTimeout,
    /// The transport ended without a closing tag.
    Eof,
    /// Negotiation failed at a step that is named; only `Initiator` says so.
    Failed(Failure),
    /// TLS was refused or did not come about in time; nothing more may be written in clear.
    TlsFailed,
}

/// The caller's answer to `CheckPassword` and `CheckAccount`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum Verdict {
    Allow,
    Deny,
    Disabled,
    TryLater,
}

/// What the driver needs of a machine; `Responder` and `Initiator` have it.
pub trait Machine {
    /// Bytes from the peer.
    fn handle_bytes(&mut self, data: &[u8], now: Instant);
    /// The peer's side of the transport ended.
    fn handle_eof(&mut self, now: Instant);
    /// The deadline passed.
    fn handle_timeout(&mut self, now: Instant);
    /// The next order or fact.
    fn poll_output(&mut self) -> Option<Output>;
    /// When to call `handle_timeout`.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The same while the caller does not read: only what does not depend on the peer's bytes, the
    /// ends of negotiation and of closing.
    fn poll_timeout_unread(&self) -> Option<Instant> {
        None
    }
    /// Bytes to send, appended to `out`.
    fn take_bytes(&mut self, out: &mut Vec<u8>);
    /// Bytes waiting in the machine.
    fn pending_bytes(&self) -> usize;
    /// False while the machine waits for our own side.
    fn wants_input(&self) -> bool;
    /// TLS is up.
    fn tls_established(&mut self, info: TlsInfo, now: Instant);
    /// Free scratch memory before waiting.
    fn release(&mut self);
}
