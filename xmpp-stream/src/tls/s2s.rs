//! TLS between servers: both sides show a certificate, and no handshake judges one.
//!
//! A certificate that is not good leaves room for dialback, and its fault has to be told in words
//! (`trust::judge`), which an alert cannot. What the handshake does prove is that the peer holds the
//! key of what it shows. No session tickets: a resumed session would have shown nothing. ALPN
//! `xmpp-server` on direct TLS (XEP-0368).

use super::{TlsError, certificates, ring_provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig};
use rustls::{Error, SignatureScheme};
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
    let any = Arc::new(AnyPeer(Arc::clone(&provider)));
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
    let any = Arc::new(AnyPeer(Arc::clone(&provider)));
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

/// Takes any certificate whose key the peer holds.
#[derive(Debug)]
struct AnyPeer(Arc<CryptoProvider>);

impl AnyPeer {
    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for AnyPeer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for AnyPeer {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No names: whoever issued it, it may be shown.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

#[cfg(test)]
mod tests;
