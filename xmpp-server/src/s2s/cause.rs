//! Why there is no link to a domain: one value for the sender's error, for the log and for
//! operators.
//!
//! RFC 6120 section 10.4.3: what cannot be found is remote-server-not-found, what cannot be
//! negotiated remote-server-timeout; the sentence says which of the many reasons it was.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use xmpp_stream::error::{ErrorType, StanzaCondition, StanzaError, StreamCondition, StreamError};
use xmpp_stream::resolve::{ResolveError, Unanswered};
use xmpp_stream::stream::Failure;
use xmpp_stream::stream::s2s::DialbackCondition;

/// Addresses that are named in one sentence.
const NAMED_MAX: usize = 3;

/// What stands between us and a domain.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// This server makes no links at all.
    Off,
    /// This server's policy.
    Denied,
    /// The domain cannot be, or does not want to be, looked up.
    Resolve(ResolveError),
    /// DNS knows neither records nor an address of it.
    NoSuchDomain,
    /// No name server answered.
    Dns(Unanswered),
    /// Nobody answers at its addresses.
    Unreachable(Vec<(SocketAddr, io::ErrorKind)>),
    /// TLS did not come about.
    Tls(Box<str>),
    /// A step of the negotiation failed.
    Negotiation(Failure),
    /// The other server ended the stream.
    Closed(StreamError),
    /// We ended the stream.
    Ours(StreamError),
    /// The connection was lost.
    Lost,
    /// What the other server has to say about our dialback key.
    Dialback(DialbackCondition),
    /// Too much waits for the domain.
    Full,
    /// The stanza has more bytes than the other server takes (XEP-0478).
    TooLarge(usize),
    /// This server is going down.
    GoingDown,
}

impl Cause {
    /// What the sender of a stanza is told.
    #[must_use]
    pub fn to_error(&self, domain: &str) -> StanzaError {
        use StanzaCondition::{RemoteServerNotFound, RemoteServerTimeout, ResourceConstraint};
        let (ty, condition) = match self {
            Self::Off | Self::Denied | Self::Resolve(_) | Self::NoSuchDomain => {
                (ErrorType::Cancel, RemoteServerNotFound)
            }
            // Nothing on the port, as against silence.
            Self::Unreachable(missed) if is_refused(missed) => {
                (ErrorType::Wait, RemoteServerNotFound)
            }
            Self::Dns(_) => (ErrorType::Wait, RemoteServerNotFound),
            Self::Full => (ErrorType::Wait, ResourceConstraint),
            Self::TooLarge(_) => (ErrorType::Modify, StanzaCondition::PolicyViolation),
            _ => (ErrorType::Wait, RemoteServerTimeout),
        };
        let text = match self {
            Self::Full | Self::TooLarge(_) => format!("{domain}: {self}"),
            _ => format!("no link to {domain}: {self}"),
        };
        StanzaError::new(ty, condition).with_text(&text)
    }

    /// How far it came: what happened later says more.
    pub(super) fn depth(&self) -> u8 {
        match self {
            Self::Negotiation(_) | Self::Closed(_) | Self::Dialback(_) => 4,
            Self::Tls(_) | Self::Ours(_) | Self::Lost => 3,
            Self::Unreachable(_) => 2,
            Self::Dns(_) => 1,
            _ => 0,
        }
    }

    /// Whether the same may work in a few seconds.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Off | Self::Denied | Self::Resolve(_) | Self::NoSuchDomain | Self::GoingDown => {
                false
            }
            Self::Negotiation(failure) => matches!(failure, Failure::Timeout),
            Self::Closed(error) => !matches!(
                error.condition,
                StreamCondition::HostUnknown
                    | StreamCondition::HostGone
                    | StreamCondition::NotAuthorized
                    | StreamCondition::PolicyViolation
            ),
            _ => true,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("links to other servers are switched off here"),
            Self::Denied => f.write_str("this server's policy does not allow it"),
            Self::Resolve(error) => error.fmt(f),
            Self::NoSuchDomain => f.write_str("no such domain: DNS has no server or address of it"),
            Self::Dns(unanswered) => {
                write!(
                    f,
                    "DNS does not answer for {}: {}",
                    unanswered.name, unanswered.error
                )
            }
            Self::Unreachable(missed) => write_missed(f, missed),
            Self::Tls(words) => write!(f, "TLS handshake failed: {words}"),
            Self::Negotiation(failure) => failure.fmt(f),
            Self::Closed(error) => {
                write!(f, "its server closed the stream: {}", error.condition)?;
                match &error.text {
                    Some(text) => write!(f, " ({text})"),
                    None => Ok(()),
                }
            }
            Self::Ours(error) => write!(f, "the stream broke: {}", error.condition),
            Self::Lost => f.write_str("the connection was lost"),
            Self::Dialback(condition) => write!(f, "dialback refused: {}", condition.as_str()),
            Self::Full => f.write_str("too many stanzas wait for it already"),
            Self::TooLarge(max) => write!(f, "its server takes no stanza of more than {max} bytes"),
            Self::GoingDown => f.write_str("this server is going down"),
        }
    }
}

impl std::error::Error for Cause {}

fn is_refused(missed: &[(SocketAddr, io::ErrorKind)]) -> bool {
    let mut kinds = missed.iter().map(|(_, kind)| *kind);
    kinds.all(|kind| kind == io::ErrorKind::ConnectionRefused)
}

/// One kind of fault for all addresses, else the fault of each.
fn write_missed(f: &mut fmt::Formatter<'_>, missed: &[(SocketAddr, io::ErrorKind)]) -> fmt::Result {
    if missed.is_empty() {
        return f.write_str("its server has no address");
    }
    for (at, (address, kind)) in missed.iter().take(NAMED_MAX).enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        match kind {
            io::ErrorKind::ConnectionRefused => write!(f, "connection refused by {address}")?,
            io::ErrorKind::TimedOut => write!(f, "{address} timed out")?,
            kind => write!(f, "{address}: {kind}")?,
        }
    }
    match missed.len().saturating_sub(NAMED_MAX) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6120_ro_causes_are_told_in_words() {
        #[track_caller]
        fn check(cause: &Cause, condition: StanzaCondition, text: &str) {
            let error = cause.to_error("b.test");
            assert_eq!(error.condition, condition, "{cause}");
            assert_eq!(error.text.as_deref(), Some(text));
        }
        use StanzaCondition::{RemoteServerNotFound, RemoteServerTimeout, ResourceConstraint};
        let refused = |port| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            (address, io::ErrorKind::ConnectionRefused)
        };
        check(
            &Cause::NoSuchDomain,
            RemoteServerNotFound,
            "no link to b.test: no such domain: DNS has no server or address of it",
        );
        check(
            &Cause::Resolve(ResolveError::Absent),
            RemoteServerNotFound,
            "no link to b.test: the domain says in DNS that it has no such service",
        );
        check(
            &Cause::Unreachable(vec![refused(1)]),
            RemoteServerNotFound,
            "no link to b.test: connection refused by 127.0.0.1:1",
        );
        check(
            &Cause::Unreachable((1..=5).map(refused).collect()),
            RemoteServerNotFound,
            "no link to b.test: connection refused by 127.0.0.1:1, connection refused by \
             127.0.0.1:2, connection refused by 127.0.0.1:3 and 2 more",
        );
        check(
            &Cause::Closed(StreamError::new(StreamCondition::HostUnknown)),
            RemoteServerTimeout,
            "no link to b.test: its server closed the stream: host-unknown",
        );
        check(
            &Cause::TooLarge(10_000),
            StanzaCondition::PolicyViolation,
            "b.test: its server takes no stanza of more than 10000 bytes",
        );
        check(
            &Cause::Full,
            ResourceConstraint,
            "b.test: too many stanzas wait for it already",
        );
    }
}
