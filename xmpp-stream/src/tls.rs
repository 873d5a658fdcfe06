//! TLS for streams: configurations from PEM, and what a finished handshake tells the machine.
//!
//! TLS 1.3 and 1.2 only, by rustls with the ring provider. Channel binding: tls-exporter (RFC 9266,
//! TLS 1.3 only, as rustls does not tell whether TLS 1.2 used the extended master secret) and
//! tls-server-end-point (RFC 5929 section 4). ALPN (XEP-0368) on direct TLS only.

use crate::stream::TlsInfo;
use ring::digest;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, CommonState, ProtocolVersion, RootCertStore, ServerConfig,
};
use std::fmt;
use std::sync::Arc;

mod any_peer;
pub mod c2s;
pub mod s2s;
pub(crate) mod server;
pub mod trust;

/// ALPN name of client streams (XEP-0368 section 4).
pub const ALPN_CLIENT: &[u8] = b"xmpp-client";

/// Why certificates or keys cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate, or none that can be read, in the PEM text.
    Certificate,
    /// No private key, or none that can be read, in the PEM text.
    Key,
    /// The key does not belong to the certificate.
    Mismatch,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "no readable certificate in the PEM text",
            Self::Key => "no readable private key in the PEM text",
            Self::Mismatch => "the key does not belong to the certificate",
        })
    }
}

impl std::error::Error for TlsError {}

fn ring_provider() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or(TlsError::Certificate)
}

/// Settings of the accepting side from PEM texts; `direct` adds ALPN. Also gives the leaf.
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
    let builder = ServerConfig::builder_with_provider(ring_provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Key)?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|_| TlsError::Mismatch)?;
    // A client comes back with one connection, and gets a new ticket then.
    config.send_tls13_tickets = 1;
    if direct {
        config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    }
    Ok((Arc::new(config), leaf))
}

/// Trust anchors from a PEM text.
///
/// # Errors
/// `TlsError::Certificate` when there is none to be read.
pub fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|_| TlsError::Certificate)?;
    }
    Ok(store)
}

/// Settings of the calling side with these trust anchors; `direct` adds ALPN.
///
/// # Errors
/// `TlsError::Key` when the provider cannot do TLS 1.2 and 1.3; ours can.
pub fn client_config(
    roots: impl Into<Arc<RootCertStore>>,
    direct: bool,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(ring_provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsError::Key)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    if direct {
        config.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    }
    // A configuration serves one connection: room for tickets of others would only cost memory.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn server_info(
    connection: &CommonState,
    exporter: Option<[u8; 32]>,
    leaf: &CertificateDer<'_>,
    sni: Option<Box<str>>,
) -> TlsInfo {
    TlsInfo {
        exporter,
        server_end_point: server_end_point(leaf),
        sni,
        is_certified: true,
        ..common_info(connection)
    }
}

pub(crate) fn client_info(connection: &ClientConnection, is_certified: bool) -> TlsInfo {
    let version = connection.protocol_version();
    let exporter = (version == Some(ProtocolVersion::TLSv1_3)).then(|| {
        let label = b"EXPORTER-Channel-Binding";
        connection
            .export_keying_material([0_u8; 32], label, Some(b""))
            .ok()
    });
    let chain = connection.peer_certificates();
    TlsInfo {
        exporter: exporter.flatten(),
        server_end_point: chain
            .and_then(|chain| chain.first())
            .and_then(|leaf| server_end_point(leaf)),
        is_certified,
        ..common_info(connection)
    }
}

fn common_info(connection: &CommonState) -> TlsInfo {
    let suite = connection.negotiated_cipher_suite();
    let chain = connection.peer_certificates().unwrap_or_default();
    TlsInfo {
        version: name(connection.protocol_version()),
        cipher: suite
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or_default(),
        peer: chain.iter().map(|der| Box::from(&**der)).collect(),
        ..TlsInfo::default()
    }
}

fn name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    }
}

/// Hash of the leaf with the hash of its own signature; MD5 and SHA-1 count as SHA-256. Signatures
/// without a single hash (Ed25519, RSA-PSS) have none: implementers differ there.
fn server_end_point(leaf: &[u8]) -> Option<Box<[u8]>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let algorithm = match certificate
        .signature_algorithm
        .algorithm
        .to_id_string()
        .as_str()
    {
        // ecdsa-with-SHA1/224/256/384/512 and the PKCS#1 v1.5 ones with MD5, SHA-1, SHA-256…512.
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.10045.4.3.3" | "1.2.840.113549.1.1.12" => &digest::SHA384,
        "1.2.840.10045.4.3.4" | "1.2.840.113549.1.1.13" => &digest::SHA512,
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => {
            &digest::SHA256
        }
        _ => return None,
    };
    Some(digest::digest(algorithm, leaf).as_ref().into())
}

/// The name a certificate must be good for: a domain by its A-labels, or an address.
///
/// # Errors
/// `InvalidInput`: the domain of a JID that cannot stand in a certificate.
pub fn server_name(domain: &str) -> std::io::Result<ServerName<'static>> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let address = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ascii = match address {
        Some(address) => address.into(),
        None => idna::domain_to_ascii(domain).map_err(|_| invalid())?,
    };
    ServerName::try_from(ascii).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_a_labels_or_addresses() {
        #[track_caller]
        fn check(domain: &str, name: Option<&str>) {
            let found = server_name(domain)
                .ok()
                .map(|name| name.to_str().into_owned());
            assert_eq!(found.as_deref(), name);
        }
        check("a.test", Some("a.test"));
        check("müller.example", Some("xn--mller-kva.example"));
        check("127.0.0.1", Some("127.0.0.1"));
        check("[::1]", Some("::1"));
        check("", None);
        check("a b", None);
    }

    fn leaf(algorithm: &'static rcgen::SignatureAlgorithm) -> (Vec<u8>, String, String) {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let made = rcgen::CertificateParams::new(["d.test".to_owned()]).unwrap();
        let made = made.self_signed(&key).unwrap();
        (made.der().to_vec(), made.pem(), key.serialize_pem())
    }

    #[test]
    fn ats_sc_16_the_hash_is_that_of_the_signature() {
        let cases = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(&digest::SHA256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(&digest::SHA384)),
            (&rcgen::PKCS_ED25519, None),
        ];
        for (algorithm, hash) in cases {
            let (der, ..) = leaf(algorithm);
            let expected = hash.map(|hash| digest::digest(hash, &der).as_ref().into());
            assert_eq!(server_end_point(&der), expected, "{algorithm:?}");
        }
        assert_eq!(server_end_point(b"no certificate"), None);
    }

    #[test]
    fn what_is_wrong_with_a_pem_text_is_told() {
        let (_, chain, key) = leaf(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (_, _, other) = leaf(&rcgen::PKCS_ECDSA_P256_SHA256);
        let error = |chain: &str, key: &str| server_config(chain, key, true).err();
        assert_eq!(error(&chain, &key), None);
        assert_eq!(error("", &key), Some(TlsError::Certificate));
        assert_eq!(error(&key, &key), Some(TlsError::Certificate));
        assert_eq!(error(&chain, ""), Some(TlsError::Key));
        assert_eq!(error(&chain, &chain), Some(TlsError::Key));
        assert_eq!(error(&chain, &other), Some(TlsError::Mismatch));
        assert!(roots("").is_err());
    }

    #[test]
    fn ats_tu_08_alpn_is_for_direct_tls_only() {
        let (_, chain, key) = leaf(&rcgen::PKCS_ECDSA_P256_SHA256);
        for direct in [true, false] {
            let expected = if direct {
                vec![ALPN_CLIENT.to_vec()]
            } else {
                Vec::new()
            };
            let (server, _) = server_config(&chain, &key, direct).unwrap();
            assert_eq!(server.alpn_protocols, expected);
            let client = client_config(roots(&chain).unwrap(), direct).unwrap();
            assert_eq!(client.alpn_protocols, expected);
        }
    }
}
