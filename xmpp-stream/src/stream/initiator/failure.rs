//! Why the calling side has no stream, by the step that failed.

use crate::error::{SaslCondition, StanzaError};
use crate::features::dialback::Answer;
use crate::stream::s2s::Distrust;
use std::fmt;

/// Which step of the negotiation failed, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// The server's opening tag is none, or of a version that we do not know.
    Header,
    /// The server has no STARTTLS, and nothing else is allowed.
    NoTls,
    /// Bytes in clear behind `<proceed/>`: somebody injects.
    DataBeforeTls,
    /// No mechanism that the server offers may be used.
    NoMechanism,
    /// The server refused the login.
    Login {
        /// Its reason.
        condition: SaslCondition,
        /// Its sentence for people.
        text: Option<Box<str>>,
    },
    /// The server did not prove that it knows the password: it may be somebody else.
    ServerNotProven,
    /// The server announced other mechanisms than reached us: somebody removed some (XEP-0474).
    Downgrade,
    /// The server offers less than what this account has used before: somebody may have removed the
    /// rest.
    Weaker,
    /// The server asks for too few or absurdly many iterations.
    Iterations,
    /// After the login there is no way to bind a resource.
    NoBind,
    /// The server refused to bind a resource.
    Bind(Box<StanzaError>),
    /// An answer that makes no sense at that point.
    Unexpected,
    /// Between servers: the peer's certificate is not good, and nothing else will do.
    Untrusted(Distrust),
    /// Between servers: the peer does not take us for who we say (XEP-0220).
    Dialback(Answer),
    /// It took too long.
    Timeout,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the server's stream header is not acceptable"),
            Self::NoTls => f.write_str("the server has no TLS"),
            Self::DataBeforeTls => f.write_str("data in clear at the start of TLS"),
            Self::NoMechanism => f.write_str("no way to sign in that both sides have"),
            Self::Login {
                condition,
                text: None,
            } => write!(f, "login refused: {condition}"),
            Self::Login {
                condition,
                text: Some(text),
            } => {
                write!(f, "login refused: {condition}: {text}")
            }
            Self::ServerNotProven => f.write_str("the server has not proven who it is"),
            Self::Downgrade => f.write_str("the list of mechanisms was changed on the way"),
            Self::Weaker => f.write_str("only weaker ways to sign in are offered than before"),
            Self::Iterations => f.write_str("the server asks for an unsafe number of iterations"),
            Self::NoBind => f.write_str("the server binds no resource"),
            Self::Bind(error) => write!(f, "no resource bound: {}", error.condition),
            Self::Unexpected => f.write_str("the server sent what makes no sense here"),
            Self::Untrusted(cause) => cause.fmt(f),
            Self::Dialback(answer) => write!(f, "dialback refused: {answer}"),
            Self::Timeout => f.write_str("the negotiation took too long"),
        }
    }
}

impl std::error::Error for Failure {}
