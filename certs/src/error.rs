//! What can go wrong while certificates are made, read or written.

use std::path::PathBuf;
use std::{fmt, io};

/// Why there is no certificate.
#[derive(Debug)]
#[non_exhaustive]
pub enum CertError {
    /// A name is no account.
    Account {
        /// The name as it was given.
        name: Box<str>,
    },
    /// The caller's clock shows a time that a certificate cannot hold.
    Clock,
    /// A file or folder could not be read or written.
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A private key is there no more, or does not belong to its certificate.
    Key {
        /// Where the key should be.
        path: PathBuf,
    },
    /// A name is neither a domain nor an IP address.
    Name {
        /// The name as it was given.
        name: Box<str>,
    },
    /// A file holds no certificate that can be read.
    Parse {
        /// Which file.
        path: PathBuf,
    },
    /// A text holds no certificate that can be read.
    Pem,
    /// Making the key or the signature failed.
    Sign,
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { name } => {
                write!(f, "{name:?} is no account such as \"juliet@example.test\"")
            }
            Self::Clock => f.write_str("the clock shows a time that no certificate can hold"),
            Self::Io { path, .. } => write!(f, "cannot read or write {}", path.display()),
            Self::Key { path } => write!(
                f,
                "{} is missing or is not the key of its certificate; \
                 remove the certificate to have a new pair made",
                path.display()
            ),
            Self::Name { name } => write!(f, "{name:?} is neither a domain nor an IP address"),
            Self::Parse { path } => write!(
                f,
                "{} holds no readable certificate; remove it to have a new one made",
                path.display()
            ),
            Self::Pem => f.write_str("the text holds no readable certificate"),
            Self::Sign => f.write_str("the key or the signature could not be made"),
        }
    }
}

impl std::error::Error for CertError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
