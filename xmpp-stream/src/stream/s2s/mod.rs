//! Streams between servers as values: who calls sends stanzas, who is called receives them.
//!
//! `Caller` is one domain pair and one stream; `Callee` takes any number of pairs, each proven by
//! certificate (SASL EXTERNAL, XEP-0178) or by dialback (XEP-0220). Stanzas are the same values as
//! on client streams: the content namespace is the stream's (DESIGN X6). RFC 6120, XEP-0288 (both
//! directions on one stream), XEP-0198 (words only: who counts is whoever keeps the stanzas).

mod callee;
mod caller;
mod distrust;
pub(super) mod flow;
#[cfg(test)]
mod tests;

pub use crate::features::dialback::{Answer, Condition as DialbackCondition, Secret};
pub use crate::features::limits::PeerLimits;
pub use callee::{Callee, CalleeConfig, Domains};
pub use caller::{Caller, CallerConfig, Link, Manage, Purpose};
pub use distrust::Distrust;

use super::header;
use crate::error::StreamError;
use std::fmt;

/// From one domain to another: stanzas go this way. Both are in prepared form.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pair {
    /// Whose stanzas.
    pub from: Box<str>,
    /// To whom.
    pub to: Box<str>,
}

impl Pair {
    /// The pair of two domains, prepared; `None` when one of them is none.
    #[must_use]
    pub fn new(from: &str, to: &str) -> Option<Self> {
        Some(Self {
            from: header::domain(from)?.domain().into(),
            to: header::domain(to)?.domain().into(),
        })
    }

    /// The other direction.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            from: self.to.clone(),
            to: self.from.clone(),
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.to)
    }
}

/// Where dialback may be used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialback {
    /// Nowhere.
    Never,
    /// Over TLS.
    #[default]
    Tls,
    /// In clear too.
    Always,
}

impl Dialback {
    fn is_allowed(self, secured: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Tls => secured,
            Self::Always => true,
        }
    }
}

/// How a pair was proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// By certificate, with SASL EXTERNAL.
    External,
    /// By a dialback key.
    Dialback,
    /// By certificate, where dialback was asked for (XEP-0344).
    Certificate,
}

impl Proof {
    /// A word for logs and lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::Dialback => "dialback",
            Self::Certificate => "dialback with a certificate",
        }
    }
}

/// A dialback key that somebody has to verify.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyCheck {
    /// Who says to be `from`, towards `to`.
    pub pair: Pair,
    /// The id of the stream on which the key came: given by `to`.
    pub id: Box<str>,
    /// The key.
    pub key: Box<str>,
}

/// The caller's answer to `Event::CheckPeer`.
#[derive(Clone, Debug)]
pub enum PeerVerdict {
    /// The certificate is good for this domain.
    Trusted,
    /// It is not; the peer may do what is left to it.
    Untrusted(Distrust),
    /// We do not talk to this domain at all.
    Refused(StreamError),
}

/// What streams between servers ask and tell, beside what all streams do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Both sides: is the certificate that the peer has shown (`TlsInfo::peer`, may be none) good
    /// for this domain, and do we talk to it? Answer with `peer_checked`.
    CheckPeer {
        /// Who the peer says, or shall, be.
        peer: Box<str>,
        /// Our own domain.
        local: Box<str>,
    },
    /// `Callee`: ask the authoritative server of `pair.from` (on another connection) whether the
    /// key is its own; answer with `key_checked`. The stream goes on meanwhile.
    CheckKey(KeyCheck),
    /// `Callee`: stanzas of this pair may come from now on, and where `is_bidi` ours may go back.
    Proven(Pair, Proof),
    /// `Callee`: the peer wants to go on with an earlier stream (XEP-0198); answer with `resumed`.
    Resume {
        /// The pairs that are proven on this one.
        pairs: Vec<Pair>,
        /// The id that the earlier stream was given.
        previd: Box<str>,
        /// Stanzas of ours that were handled on it.
        h: u32,
    },
    /// `Caller`: negotiation is over; stanzas may flow.
    Established(Link),
    /// `Caller`: the authoritative server has answered a `verify` that was sent on this stream.
    Verified(KeyCheck, Answer),
    /// Both sides: nothing but silence for a long time; who has nothing to keep closes. Said again
    /// after as long a time.
    Idle,
}
