//! Whom a raw peer trusts, and how it speaks TLS.

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;

/// A CA to trust, and settings of the handshake.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Trusts the certificates in this PEM text and no other; TLS 1.3 and 1.2, no ALPN.
    ///
    /// # Panics
    /// When the text holds no certificate.
    #[must_use]
    pub fn pem(pem: &str) -> Self {
        Self::try_pem(pem).unwrap_or_else(|why| panic!("{why}: {pem:?}"))
    }

    /// The same for a text that somebody else wrote.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn try_pem(pem: &str) -> Result<Self, &'static str> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| "this is no PEM")?;
            roots
                .add(certificate)
                .map_err(|_| "a certificate in it is not understood")?;
        }
        if roots.is_empty() {
            return Err("it holds no certificate");
        }
        Ok(Self::in_roots(roots))
    }

    /// Trusts what the system trusts, where SSL_CERT_FILE and SSL_CERT_DIR say nothing else; `None`
    /// when that is nobody.
    #[must_use]
    pub fn system() -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        (!roots.is_empty()).then(|| Self::in_roots(roots))
    }

    fn in_roots(roots: RootCertStore) -> Self {
        let roots = Arc::new(roots);
        let config = Arc::new(config(&roots, rustls::ALL_VERSIONS));
        Self { roots, config }
    }

    /// The same, offering this protocol by ALPN.
    #[must_use]
    pub fn with_alpn(mut self, protocol: &str) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = vec![protocol.into()];
        self
    }

    /// The same with these TLS versions only.
    #[must_use]
    pub fn with_versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut fresh = config(&self.roots, versions);
        fresh.alpn_protocols.clone_from(&self.config.alpn_protocols);
        self.config = Arc::new(fresh);
        self
    }

    /// The same without a server name in the handshake.
    #[must_use]
    pub fn without_sni(mut self) -> Self {
        Arc::make_mut(&mut self.config).enable_sni = false;
        self
    }

    /// The same, showing this certificate to a server that asks for one.
    ///
    /// # Panics
    /// The texts hold no certificate with its key.
    #[must_use]
    pub fn with_identity(mut self, chain_pem: &str, key_pem: &str) -> Self {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions that ring has");
        let config = builder
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(chain.expect("a chain"), key);
        self.config = Arc::new(config.expect("a certificate with its key"));
        self
    }

    /// As rustls wants it.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    pub(crate) fn server_name(&self, domain: &str) -> ServerName<'static> {
        ServerName::try_from(domain.to_owned()).expect("a domain that can stand in a certificate")
    }
}

fn config(
    roots: &Arc<RootCertStore>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    builder
        .expect("versions that ring has")
        .with_root_certificates(roots.clone())
        .with_no_client_auth()
}
