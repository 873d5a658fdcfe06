//! Why there is no lab, or no client in it.

use std::fmt;
use std::io;
use xmpp_certs::CertError;
use xmpp_client::ConnectError;
use xmpp_server::StartError;

/// Why there is no lab, or no client in it.
#[derive(Debug)]
#[non_exhaustive]
pub enum LabError {
    /// The certificate authority.
    Certificate(CertError),
    /// The stream ended.
    Closed,
    /// The client cannot connect.
    Connect(ConnectError),
    /// A port, or the folder for temporary files.
    Io(io::Error),
    /// Nothing came in time.
    Late,
    /// A server does not start.
    Start(StartError),
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => write!(f, "the lab has no certificates: {error}"),
            Self::Closed => f.write_str("the client's stream ended"),
            Self::Connect(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "the lab does not start: {error}"),
            Self::Late => f.write_str("nothing came in time"),
            Self::Start(error) => write!(f, "the lab does not start: {error}"),
        }
    }
}

impl std::error::Error for LabError {}

impl From<io::Error> for LabError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
