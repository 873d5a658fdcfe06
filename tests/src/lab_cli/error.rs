//! Why the command ends with an error.

use crate::lab::LabError;
use std::fmt;
use std::io;
use xmpp_certs::CertError;
use xmpp_server::StartError;

/// Why the command ends with an error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// The authority of the data folder.
    Authority(CertError),
    /// The demonstration did not go as it should.
    Demo(&'static str, Option<LabError>),
    /// A file, a folder or a port, and what is wrong with it.
    Io(String, io::Error),
    /// The servers.
    Lab(LabError),
    /// The command line: what is wrong with what.
    Usage(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(error) => write!(f, "certificate authority: {error}"),
            Self::Demo(step, None) => write!(f, "the demonstration failed: {step}"),
            Self::Demo(step, Some(error)) => {
                write!(f, "the demonstration failed: {step}: {error}")
            }
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Lab(LabError::Start(StartError::Bind(address, error))) => {
                write!(f, "cannot listen on {address}: {error}")
            }
            Self::Lab(error) => write!(f, "{error}"),
            Self::Usage(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Trouble {}

impl From<LabError> for Trouble {
    fn from(error: LabError) -> Self {
        Self::Lab(error)
    }
}
