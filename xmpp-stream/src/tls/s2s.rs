//! TLS between servers: both sides show a certificate, and no handshake judges one.
//!
//! A certificate that is not good leaves room for dialback, and its fault has to be told in words
//! (`trust::judge`), which an alert cannot. What the handshake does prove is that the peer holds the
//! key of what it shows. No session tickets: a resumed session would have shown nothing. ALPN
//! `xmpp-server` on direct TLS (XEP-0368).

use super::any_peer::AnyPeer;
use super::{TlsError, certificates, ring_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;

/// ALPN name of streams between servers (XEP-0368 section 4).
pub const ALPN_SERVER: &[u8] = b"xmpp-server";

/// Settings of the accepting side from PEM texts: a certificate is asked for, and any is taken.
/// `direct` adds ALPN. Also gives the leaf.
///
/// # Errors
/// `TlsError` says which of the texts is at fault.
pub fn server_config(
    chain_pem: &str,
    key_pem: &str,
    direct: bool,
) -> Result<(Arc<ServerConfig>, CertificateDer<'static>), TlsError> {
    let chain = certificates(chain_pem)?;
    let leaf = chain.first().cloned().ok_or(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TlsError::Key)?;
    let provider = ring_provider();
    let any = Arc::new(AnyPeer::new(Arc::clone(&provider), &[]));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Key)?
        .with_client_cert_verifier(any)
        .with_single_cert(chain, key)
        .map_err(|_| TlsError::Mismatch)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if direct {
        config.alpn_protocols = vec![ALPN_SERVER.to_vec()];
    }
    Ok((Arc::new(config), leaf))
}

/// Settings of the calling side that show this certificate to who asks; `direct` adds ALPN. Any
/// certificate of the peer is taken: `trust::judge` says later what it is worth.
///
/// # Errors
/// `TlsError` says which of the texts is at fault.
pub fn client_config(
    chain_pem: &str,
    key_pem: &str,
    direct: bool,
) -> Result<Arc<ClientConfig>, TlsError> {
    let chain = certificates(chain_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| TlsError::Key)?;
    let provider = ring_provider();
    let any = Arc::new(AnyPeer::new(Arc::clone(&provider), &[]));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Key)?
        .dangerous()
        .with_custom_certificate_verifier(any)
        .with_client_auth_cert(chain, key)
        .map_err(|_| TlsError::Mismatch)?;
    config.resumption = rustls::client::Resumption::disabled();
    if direct {
        config.alpn_protocols = vec![ALPN_SERVER.to_vec()];
    }
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
