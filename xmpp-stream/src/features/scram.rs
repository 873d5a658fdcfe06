//! SCRAM-SHA-1, -SHA-256 and -SHA-512, each with -PLUS: both roles, as values without I/O.
//!
//! RFC 5802, RFC 7677; downgrade protection by XEP-0474 and XEP-0515. The messages are kept as received, so
//! that whatever a peer signs over is signed over. The driver fetches keys between two messages.

mod client;
mod message;
mod server;
#[cfg(test)]
mod tests;

use super::sasl;
use crate::stream::{ScramHash, StoredKeys, TlsInfo};
pub(crate) use client::{Client, ClientFinal, Flag, ServerFault};
pub use client::{ITERATIONS_MAX, ITERATIONS_MIN};
use ring::{digest, hmac, pbkdf2};
pub(crate) use server::{ClientFirst, Server};
use std::fmt;
use std::num::NonZeroU32;

impl ScramHash {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::Sha512, Self::Sha256, Self::Sha1];

    /// Name of the mechanism, with or without channel binding.
    #[must_use]
    pub const fn mechanism(self, plus: bool) -> &'static str {
        match (self, plus) {
            (Self::Sha1, false) => "SCRAM-SHA-1",
            (Self::Sha1, true) => "SCRAM-SHA-1-PLUS",
            (Self::Sha256, false) => "SCRAM-SHA-256",
            (Self::Sha256, true) => "SCRAM-SHA-256-PLUS",
            (Self::Sha512, false) => "SCRAM-SHA-512",
            (Self::Sha512, true) => "SCRAM-SHA-512-PLUS",
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        self.hmac().digest_algorithm()
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn sign(self, key: &[u8], text: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac(), key), text)
    }
}

impl StoredKeys {
    /// Derives the keys of a password (RFC 5802 section 3). Costs `iterations` rounds of PBKDF2.
    #[must_use]
    pub fn derive(hash: ScramHash, password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(hash, password, salt, iterations);
        let client_key = hash.sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash.digest(), client_key.as_ref());
        let server_key = hash.sign(&salted, b"Server Key");
        Self {
            hash,
            iterations,
            salt: salt.into(),
            stored_key: stored_key.as_ref().into(),
            server_key: server_key.as_ref().into(),
        }
    }

    /// True for the password that the keys were derived from. Costs as much as `derive`.
    #[must_use]
    pub fn verify_password(&self, password: &str) -> bool {
        let keys = Self::derive(self.hash, password, &self.salt, self.iterations);
        equal(&keys.stored_key, &self.stored_key)
    }
}

impl fmt::Debug for StoredKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKeys")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// Base64 of the hash over what was announced (XEP-0474 section 6.1).
pub(crate) fn announcement_hash(
    hash: ScramHash,
    mechanisms: &[&str],
    bindings: Option<&[&str]>,
) -> String {
    let mut text = sorted(mechanisms).join("\u{1e}");
    if let Some(bindings) = bindings {
        text.push('\u{1f}');
        text.push_str(&sorted(bindings).join("\u{1e}"));
    }
    sasl::base64(digest::digest(hash.digest(), text.as_bytes()).as_ref())
}

/// The version of TLS as XEP-0515 section 4.1 writes it; nothing in clear.
pub(crate) fn tls_version(tls: Option<&TlsInfo>) -> Option<&'static str> {
    match tls?.version {
        "TLSv1.3" => Some("0304"),
        "TLSv1.2" => Some("0303"),
        _ => None,
    }
}

fn sorted<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

/// A password that SASLprep refuses is used as its UTF-8 bytes (DESIGN 3).
fn salted_password(hash: ScramHash, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
    let prepared = stringprep::saslprep(password);
    let password = prepared.as_deref().unwrap_or(password);
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let mut salted = vec![0; hash.digest().output_len()];
    pbkdf2::derive(
        hash.pbkdf2(),
        iterations,
        salt,
        password.as_bytes(),
        &mut salted,
    );
    salted
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// Compares by HMAC tags, in a time that does not tell where the two differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"comparison");
    hmac::verify(&key, a, hmac::sign(&key, b).as_ref()).is_ok()
}
