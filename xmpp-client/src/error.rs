//! What can go wrong, by what the caller was doing.

use crate::identity::OwnCertificateError;
use crate::tried::Tried;
use crate::trust::{CertificateFault, PinError};
use std::fmt;
use std::io;
use std::path::PathBuf;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::JidError;
use xmpp_stream::resolve::{DnsError, Place, PlaceError, ResolveError};
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

/// Why `connect` failed; `step` says where. Its text is one sentence a place that was tried.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The JID.
    Jid(JidError),
    /// The JID has no local part.
    NoLocalPart,
    /// Neither a password nor a certificate was given.
    NoPassword,
    /// The system gives no random bytes, which every login needs.
    NoRandom,
    /// A file of CA certificates cannot be read.
    CaFile(PathBuf, io::Error),
    /// A file with the client's own certificate or key cannot be read.
    CertificateFile(PathBuf, io::Error),
    /// The client's own certificate and key cannot be used.
    OwnCertificate(OwnCertificateError),
    /// There are no CA certificates in what was given, and none of the system's were found.
    NoCa,
    /// A pin is none.
    Pin(PinError),
    /// What was given as the server's place is none.
    Place(PlaceError),
    /// DNS gives no place to try.
    Resolve(ResolveError),
    /// The addresses of the host cannot be looked up.
    Dns(DnsError),
    /// The host has no addresses.
    NoAddress,
    /// The address cannot be reached.
    Connect(io::Error),
    /// The certificate is not to be trusted.
    Certificate(CertificateFault, io::Error),
    /// TLS failed.
    Tls(io::Error),
    /// What answers does not speak TLS from the first byte, as on a port for STARTTLS.
    NotTls(io::Error),
    /// The server sends us elsewhere (see-other-host); `None`: to what is no place.
    Redirected(Step, Option<Place>),
    /// The server sends us elsewhere once too often.
    TooManyRedirects(Step),
    /// The server refused, or is not to be trusted.
    Negotiation(Step, Failure),
    /// The stream ended before it was bound.
    Closed(Step, CloseReason),
    /// The connection failed before the stream was bound.
    Lost(Step, io::Error),
    /// It took too long.
    Timeout(Step),
    /// Nothing that was tried came as far as a verdict on the login.
    Unreachable(Box<Tried>),
}

impl ConnectError {
    /// The step that failed; of several places that were tried, the furthest.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::Jid(_)
            | Self::NoLocalPart
            | Self::NoPassword
            | Self::NoRandom
            | Self::CaFile(..)
            | Self::CertificateFile(..)
            | Self::OwnCertificate(_)
            | Self::NoCa
            | Self::Pin(_)
            | Self::Place(_) => Step::Configuration,
            Self::Resolve(_) | Self::Dns(_) | Self::NoAddress => Step::Resolve,
            Self::Connect(_) => Step::Connect,
            Self::Tls(_) | Self::NotTls(_) | Self::Certificate(..) => Step::Tls,
            Self::Negotiation(step, failure) => step_of(failure).unwrap_or(*step),
            Self::Closed(_, CloseReason::TlsFailed) => Step::Tls,
            Self::Closed(step, _)
            | Self::Lost(step, _)
            | Self::Timeout(step)
            | Self::Redirected(step, _)
            | Self::TooManyRedirects(step) => *step,
            Self::Unreachable(tried) => tried.step(),
        }
    }

    /// What the negotiation failed by, if it was that; of several places, the furthest.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Negotiation(_, failure) => Some(failure),
            Self::Unreachable(tried) => tried.furthest()?.error.failure(),
            _ => None,
        }
    }

    /// What is wrong with the server's certificate, if it was that; of several places, the furthest.
    #[must_use]
    pub fn certificate_fault(&self) -> Option<&CertificateFault> {
        match self {
            Self::Certificate(fault, _) => Some(fault),
            Self::Unreachable(tried) => tried.furthest()?.error.certificate_fault(),
            _ => None,
        }
    }

    /// The server has had its say on the login, or nothing else can help: another place, or the
    /// same one later, is no remedy.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            // Behind TLS a stream can still fail to open; only the login is a verdict.
            Self::Negotiation(step, failure) => {
                *step == Step::Binding || step_of(failure) >= Some(Step::Authentication)
            }
            Self::Resolve(_) => true,
            Self::Unreachable(_) => false,
            _ => self.step() == Step::Configuration,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Unreachable(tried) = self {
            return write!(f, "{tried}");
        }
        write!(f, "{} failed: ", self.step())?;
        match self {
            Self::Jid(error) => write!(f, "{error}"),
            Self::NoLocalPart => f.write_str("the JID has no local part"),
            Self::NoPassword => f.write_str("no password was given"),
            Self::NoRandom => f.write_str("the system gives no random bytes"),
            Self::CaFile(path, error) | Self::CertificateFile(path, error) => {
                write!(f, "{}: {error}", path.display())
            }
            Self::OwnCertificate(error) => error.fmt(f),
            Self::NoCa => f.write_str("no CA certificates"),
            Self::Pin(error) => write!(f, "{error}"),
            Self::Place(error) => write!(f, "{error}"),
            Self::Resolve(error) => write!(f, "{error}"),
            Self::Dns(error) => write!(f, "{error}"),
            Self::NoAddress => f.write_str("the host has no address"),
            Self::Connect(error) | Self::Tls(error) => write!(f, "{error}"),
            Self::NotTls(_) => {
                f.write_str("the server does not speak TLS from the first byte here")
            }
            Self::Certificate(fault, _) => write!(f, "{fault}"),
            Self::Redirected(_, Some(place)) => write!(f, "redirected to {place}"),
            Self::Redirected(_, None) => f.write_str("redirected to what is no host"),
            Self::TooManyRedirects(_) => f.write_str("redirected too often"),
            Self::Negotiation(_, failure) => write!(f, "{failure}"),
            Self::Closed(_, reason) => write!(f, "the stream ended: {}", Reason(reason)),
            Self::Lost(_, error) => write!(f, "the connection was lost: {error}"),
            Self::Timeout(_) | Self::Unreachable(_) => f.write_str("it took too long"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Jid(error) => Some(error),
            Self::Pin(error) => Some(error),
            Self::Place(error) => Some(error),
            Self::Resolve(error) => Some(error),
            Self::Dns(error) => Some(error),
            Self::OwnCertificate(error) => Some(error),
            Self::CaFile(_, error)
            | Self::CertificateFile(_, error)
            | Self::Connect(error)
            | Self::Tls(error)
            | Self::NotTls(error)
            | Self::Certificate(_, error)
            | Self::Lost(_, error) => Some(error),
            Self::Negotiation(_, failure) => Some(failure),
            Self::Closed(_, CloseReason::Theirs(error) | CloseReason::Ours(error)) => Some(error),
            Self::Unreachable(tried) => tried.furthest().map(|attempt| &attempt.error as _),
            _ => None,
        }
    }
}

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
