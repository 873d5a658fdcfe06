//! The client's own certificate, by which it signs in without a password (XEP-0178 section 2), and where
//! it comes from.

use crate::config::Builder;
use crate::error::ConnectError;
use std::fmt;
use std::path::{Path, PathBuf};
use xmpp_stream::tls::TlsError;
use xmpp_stream::tls::c2s::Identity;

/// Certificate and key, as the builder was told them.
pub(crate) enum Source {
    /// PEM texts.
    Pem(String, String),
    /// PEM files.
    Files(PathBuf, PathBuf),
}

impl Source {
    /// Reads files anew for each connection, so that a renewed certificate is shown.
    pub(crate) fn load(&self) -> Result<Identity, ConnectError> {
        let identity = match self {
            Self::Pem(chain, key) => Identity::from_pem(chain, key),
            Self::Files(chain, key) => Identity::from_pem(&read(chain)?, &read(key)?),
        };
        identity.map_err(|error| ConnectError::OwnCertificate(OwnCertificateError(error)))
    }
}

fn read(path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConnectError::CertificateFile(path.to_owned(), error))
}

/// The client's own certificate and key cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnCertificateError(TlsError);

impl fmt::Display for OwnCertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate to sign in with: {}", self.0)
    }
}

impl std::error::Error for OwnCertificateError {}

/// Signing in by certificate.
impl Builder {
    /// Signs in by this certificate where the server takes it: PEM texts, the certificate first in its
    /// chain, and its key. No password is needed then; where there is one it is used when the server
    /// does not take the certificate.
    pub fn certificate_pem(mut self, chain: &str, key: &str) -> Self {
        self.wishes.identity = Some(Source::Pem(chain.into(), key.into()));
        self
    }

    /// The same from PEM files, read for each connection.
    pub fn certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.wishes.identity = Some(Source::Files(chain.into(), key.into()));
        self
    }
}
