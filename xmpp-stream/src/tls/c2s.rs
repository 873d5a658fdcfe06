//! TLS with client certificates (XEP-0178 section 2): a server that asks for one, and a client that
//! shows one.
//!
//! No handshake judges it, so that a client whose certificate is not good may still sign in by password
//! (`trust::judge_client` says what it is worth). No session tickets either: a resumed session would
//! show nothing, and what an earlier one has shown must not stand for it.

use super::any_peer::AnyPeer;
use super::{TlsError, certificates, ring_provider, trust};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::Arc;

/// Settings of an accepting side (`tls::server_config`) that asks for a certificate by one of these
/// authorities, and goes on without.
///
/// # Errors
/// `TlsError::Key` when the provider cannot do TLS 1.2 and 1.3; ours can.
pub fn ask(
    config: &ServerConfig,
    authorities: &RootCertStore,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = ring_provider();
    let any = AnyPeer::new(Arc::clone(&provider), &authorities.subjects());
    let mut asking = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Key)?
        .with_client_cert_verifier(Arc::new(any))
        .with_cert_resolver(Arc::clone(&config.cert_resolver));
    asking.alpn_protocols.clone_from(&config.alpn_protocols);
    asking.send_tls13_tickets = 0;
    asking.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(asking))
}

/// The certificate of a client with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    shown: Arc<SingleCertAndKey>,
    addresses: Vec<Box<str>>,
}

impl Identity {
    /// From PEM texts, the client's own certificate first.
    ///
    /// # Errors
    /// `TlsError` says which of the texts is at fault.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let chain = certificates(chain_pem)?;
        let addresses = chain.first().map(|leaf| trust::addresses(leaf));
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TlsError::Key)?;
        let key = ring_provider().key_provider.load_private_key(key);
        let pair = CertifiedKey::new(chain, key.map_err(|_| TlsError::Key)?);
        match pair.keys_match() {
            Ok(()) => Ok(Self {
                shown: Arc::new(pair.into()),
                addresses: addresses.unwrap_or_default(),
            }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch),
            Err(_) => Err(TlsError::Certificate),
        }
    }

    /// Lets a calling side show it to a server that asks.
    pub fn show(&self, config: &mut ClientConfig) {
        config.client_auth_cert_resolver = Arc::clone(&self.shown) as Arc<_>;
    }

    /// Addresses of accounts that the certificate names.
    #[must_use]
    pub fn addresses(&self) -> &[Box<str>] {
        &self.addresses
    }
}
