//! What can go wrong, by what the caller was doing.

use std::fmt;
use std::io;
use std::path::PathBuf;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::JidError;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::{CloseReason, Failure};

/// The way to a bound stream, in order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// Reading what the builder was given.
    Configuration,
    /// Looking up the server's address.
    Resolve,
    /// Opening a TCP connection.
    Connect,
    /// Opening the stream.
    Stream,
    /// STARTTLS or direct TLS.
    Tls,
    /// SASL.
    Authentication,
    /// Binding a resource.
    Binding,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration",
            Self::Resolve => "address lookup",
            Self::Connect => "connection",
            Self::Stream => "stream negotiation",
            Self::Tls => "TLS",
            Self::Authentication => "authentication",
            Self::Binding => "resource binding",
        })
    }
}

/// Why `connect` failed; `step` says where.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The JID.
    Jid(JidError),
    /// The JID has no local part.
    NoLocalPart,
    /// No password was given.
    NoPassword,
    /// The system gives no random bytes, which every login needs.
    NoRandom,
    /// A file of CA certificates cannot be read.
    CaFile(PathBuf, io::Error),
    /// There are no CA certificates in what was given, and none of the system's were found.
    NoCa,
    /// The server's name does not resolve.
    Resolve(io::Error),
    /// None of the server's addresses can be reached; the last failure.
    Connect(io::Error),
    /// TLS failed, or the certificate is not to be trusted.
    Tls(io::Error),
    /// The server refused, or is not to be trusted.
    Negotiation(Step, Failure),
    /// The stream ended before it was bound.
    Closed(Step, CloseReason),
    /// The connection failed before the stream was bound.
    Lost(Step, io::Error),
    /// It took too long.
    Timeout(Step),
}

impl ConnectError {
    /// The step that failed.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::Jid(_)
            | Self::NoLocalPart
            | Self::NoPassword
            | Self::NoRandom
            | Self::CaFile(..)
            | Self::NoCa => Step::Configuration,
            Self::Resolve(_) => Step::Resolve,
            Self::Connect(_) => Step::Connect,
            Self::Tls(_) => Step::Tls,
            Self::Negotiation(step, failure) => step_of(failure).unwrap_or(*step),
            Self::Closed(_, CloseReason::TlsFailed) => Step::Tls,
            Self::Closed(step, _) | Self::Lost(step, _) | Self::Timeout(step) => *step,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: ", self.step())?;
        match self {
            Self::Jid(error) => write!(f, "{error}"),
            Self::NoLocalPart => f.write_str("the JID has no local part"),
            Self::NoPassword => f.write_str("no password was given"),
            Self::NoRandom => f.write_str("the system gives no random bytes"),
            Self::CaFile(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NoCa => f.write_str("no CA certificates"),
            Self::Resolve(error) | Self::Connect(error) | Self::Tls(error) => write!(f, "{error}"),
            Self::Negotiation(_, failure) => write!(f, "{failure}"),
            Self::Closed(_, reason) => write!(f, "the stream ended: {}", Reason(reason)),
            Self::Lost(_, error) => write!(f, "the connection was lost: {error}"),
            Self::Timeout(_) => f.write_str("it took too long"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Where a failure belongs; `None`: wherever the negotiation was.
fn step_of(failure: &Failure) -> Option<Step> {
    match failure {
        Failure::Header => Some(Step::Stream),
        Failure::NoTls | Failure::DataBeforeTls => Some(Step::Tls),
        Failure::NoMechanism
        | Failure::Login { .. }
        | Failure::ServerNotProven
        | Failure::Downgrade
        | Failure::Weaker
        | Failure::Iterations => Some(Step::Authentication),
        Failure::NoBind | Failure::Bind(_) => Some(Step::Binding),
        _ => None,
    }
}

/// The stream is over, and why.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Why it ended.
    pub reason: CloseReason,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream is over: {}", Reason(&self.reason))
    }
}

impl std::error::Error for Closed {}

/// A stanza that the server has not acknowledged, handed back.
#[derive(Clone, Debug)]
pub struct NotAcked {
    /// The stanza. It may have been delivered all the same, unless `reason` says otherwise.
    pub stanza: Box<Stanza>,
    /// Why nobody knows.
    pub reason: NotAckedReason,
}

/// Why a stanza is not known to be with the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotAckedReason {
    /// The stream is over for this reason.
    Closed(CloseReason),
    /// The server has no stream management. The stanza was not sent, unless that came out only
    /// after it was.
    NoStreamManagement,
    /// A new session began instead of the old one, in which this stanza has no meaning or no
    /// address any more: presence, an answer, a message to a room.
    NewSession,
}

impl fmt::Display for NotAcked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not acknowledged: ")?;
        match &self.reason {
            NotAckedReason::Closed(reason) => write!(f, "{}", Reason(reason)),
            NotAckedReason::NoStreamManagement => {
                f.write_str("the server has no stream management")
            }
            NotAckedReason::NewSession => f.write_str("a new session has begun"),
        }
    }
}

impl std::error::Error for NotAcked {}

/// Why a request has no result.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum IqError {
    /// The stream ended before the answer came.
    Closed,
    /// Another request with this id waits for its answer.
    IdInUse,
    /// Only an IQ of type get or set is answered.
    NotARequest,
    /// The answer is an error.
    Stanza(StanzaError),
    /// No answer in time.
    Timeout,
    /// Too many requests wait for their answers.
    TooMany,
}

impl fmt::Display for IqError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the stream ended before the answer came"),
            Self::IdInUse => f.write_str("another request has this id"),
            Self::NotARequest => f.write_str("not an IQ of type get or set"),
            Self::Stanza(error) => write!(f, "answered with the error {}", error.condition),
            Self::Timeout => f.write_str("no answer in time"),
            Self::TooMany => f.write_str("too many requests wait for their answers"),
        }
    }
}

impl std::error::Error for IqError {}

/// A close reason in words.
struct Reason<'a>(&'a CloseReason);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CloseReason::Clean => f.write_str("closed by both sides"),
            CloseReason::Ours(error) => write!(f, "closed by us, {}", error.condition),
            CloseReason::Theirs(error) => write!(f, "closed by the server, {}", error.condition),
            CloseReason::CloseTimeout => f.write_str("the server did not close in time"),
            CloseReason::Eof => f.write_str("the connection was lost"),
            CloseReason::Failed(failure) => write!(f, "{failure}"),
            CloseReason::TlsFailed => f.write_str("TLS failed"),
            _ => f.write_str("for another reason"),
        }
    }
}
