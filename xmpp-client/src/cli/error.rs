//! Why a command failed, in one line.

use crate::error::{Closed, ConnectError, IqError};
use crate::ext::RequestError;
use crate::ext::mam::MamError;
use crate::ext::muc::JoinError;
use crate::protocol::RegisterError;
use crate::tried::Attempt;
use crate::trust::CertificateFault;
use std::fmt;
use std::io;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::Jid;

#[derive(Debug)]
pub(crate) enum CliError {
    Connect(ConnectError),
    Closed(Closed),
    Iq(IqError),
    Request(RequestError),
    History(MamError),
    Join(JoinError),
    Register(RegisterError),
    /// A message came back.
    NotDelivered(StanzaError),
    /// Nobody answered, or not as hoped.
    NoPong(Jid, Option<StanzaError>),
    /// We are not in the room any more.
    OutOfRoom,
    /// The server does not want to know this.
    NotAsked(String),
    /// A line is no stanza.
    NoStanza(usize),
    /// Requests have no answer.
    Unanswered(usize),
    /// The two passwords typed were not the same.
    Differ,
    EmptyPassword,
    /// Nothing but Enter was typed.
    NothingTyped,
    LongPassword,
    LongText,
    NotUtf8,
    /// There is no terminal to ask at.
    NoTerminal,
    Io(io::Error),
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "{error}{}", hint(error)),
            Self::Closed(error) => write!(f, "{error}"),
            Self::Iq(error) => write!(f, "{error}"),
            Self::Request(error) => write!(f, "{error}"),
            Self::History(error) => write!(f, "no history: {error}"),
            Self::Join(error) => write!(f, "not joined: {error}"),
            Self::Register(error) => write!(f, "{error}"),
            Self::NotDelivered(error) => write!(f, "not delivered: {error}"),
            Self::NoPong(from, Some(error)) => write!(f, "no pong from {}: {error}", from.as_str()),
            Self::NoPong(from, None) => write!(f, "no pong from {} in time", from.as_str()),
            Self::OutOfRoom => f.write_str("no longer in the room"),
            Self::NotAsked(name) => write!(f, "the server does not ask for {name}"),
            Self::NoStanza(line) => write!(f, "number {line} is no stanza"),
            Self::Unanswered(1) => f.write_str("a request was not answered in time"),
            Self::Unanswered(count) => write!(f, "{count} requests were not answered in time"),
            Self::Differ => f.write_str("the two passwords are not the same"),
            Self::EmptyPassword => f.write_str("there is no password on standard input"),
            Self::NothingTyped => f.write_str("no password was typed"),
            Self::LongPassword => f.write_str("the line with the password does not end"),
            Self::LongText => f.write_str("the text on standard input is longer than 1 MiB"),
            Self::NotUtf8 => f.write_str("standard input is not UTF-8"),
            Self::NoTerminal => {
                f.write_str("there is no terminal to ask for the password at: --password-stdin")
            }
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

/// Which option helps.
fn hint(error: &ConnectError) -> &'static str {
    let is_direct = |attempt: &Attempt| matches!(attempt.error, ConnectError::NotTls(_));
    match (error.certificate_fault(), error) {
        (Some(CertificateFault::Issuer | CertificateFault::Invalid), _) => {
            " (--ca FILE trusts a CA of your own, --pin HEX a certificate that signs itself)"
        }
        (None, ConnectError::Unreachable(tried)) if tried.attempts.iter().any(is_direct) => {
            " (a port for STARTTLS? then without --direct-tls)"
        }
        _ => "",
    }
}

macro_rules! from {
    ($($name:ident($error:ty),)*) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::$name(error)
            }
        })*
    };
}

from! {
    Connect(ConnectError),
    Closed(Closed),
    Iq(IqError),
    Request(RequestError),
    History(MamError),
    Join(JoinError),
    Register(RegisterError),
    Io(io::Error),
}
