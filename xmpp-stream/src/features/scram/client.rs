//! The client's side of SCRAM: what it says, and what it refuses of a server (RFC 5802 section 5).

use super::message::{Attributes, escape};
use super::{salted_password, xor};
use crate::features::sasl::{self, Bindings};
use crate::stream::ScramHash;
use ring::{digest, hmac};

/// The fewest iterations a client accepts (RFC 5802 section 5.1, RFC 7677 section 4).
pub const ITERATIONS_MIN: u32 = 4096;
/// The most iterations a client accepts: about five seconds of CPU.
pub const ITERATIONS_MAX: u32 = 10_000_000;

/// Why a client ends the exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerFault {
    /// A message that is none.
    Malformed,
    /// The nonce does not begin with ours.
    Nonce,
    /// Fewer iterations than is safe, or absurdly many.
    Iterations,
    /// The announcement that we saw is not the one that was made (XEP-0474), or its TLS is not ours
    /// (XEP-0515).
    Downgrade,
    /// The server does not know the password.
    Signature,
}

/// The client's side.
pub(crate) struct Client {
    hash: ScramHash,
    gs2: String,
    binding: Vec<u8>,
    bare: String,
    nonce: String,
}

/// What is left to do for a client that has sent its proof.
#[derive(Debug)]
pub(crate) struct ClientFinal {
    server_key: hmac::Key,
    signed: String,
}

/// What a client says about channel binding (RFC 5802 section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flag {
    /// `n`: we cannot.
    Unable,
    /// `y`: we could, but saw no offer.
    NotOffered,
    /// `p=`: in use.
    Bound(&'static str),
}

impl Client {
    /// The exchange and its first message. `nonce` is fresh and printable.
    pub(crate) fn begin(
        hash: ScramHash,
        username: &str,
        nonce: &str,
        flag: Flag,
        bindings: &Bindings,
    ) -> (Self, String) {
        let (gs2, binding) = match flag {
            Flag::Unable => ("n,,".to_owned(), Vec::new()),
            Flag::NotOffered => ("y,,".to_owned(), Vec::new()),
            Flag::Bound(name) => (
                format!("p={name},,"),
                bindings.data(name).unwrap_or_default().to_vec(),
            ),
        };
        let bare = format!("n={},r={nonce}", escape(username));
        let message = format!("{gs2}{bare}");
        (
            Self {
                hash,
                gs2,
                binding,
                bare,
                nonce: nonce.to_owned(),
            },
            message,
        )
    }

    /// Answers the server's first message. `announced` is our own `h` of XEP-0474, `tls` our own `t` of
    /// XEP-0515.
    pub(crate) fn respond(
        &self,
        raw: &[u8],
        password: &str,
        announced: &str,
        tls: Option<&str>,
    ) -> Result<(ClientFinal, String), ServerFault> {
        let text = std::str::from_utf8(raw).map_err(|_| ServerFault::Malformed)?;
        let server = ServerFirst::parse(text).ok_or(ServerFault::Malformed)?;
        if !server.nonce.starts_with(&self.nonce) || server.nonce.len() == self.nonce.len() {
            return Err(ServerFault::Nonce);
        }
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&server.iterations) {
            return Err(ServerFault::Iterations);
        }
        if server.announced.is_some_and(|theirs| theirs != announced) {
            return Err(ServerFault::Downgrade);
        }
        if server.tls.is_some_and(|theirs| Some(theirs) != tls) {
            return Err(ServerFault::Downgrade);
        }
        let mut c = self.gs2.clone().into_bytes();
        c.extend_from_slice(&self.binding);
        let without_proof = format!("c={},r={}", sasl::base64(&c), server.nonce);
        let signed = format!("{},{text},{without_proof}", self.bare);
        let salted = salted_password(self.hash, password, &server.salt, server.iterations);
        let client_key = self.hash.sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.hash.digest(), client_key.as_ref());
        let signature = self.hash.sign(stored_key.as_ref(), signed.as_bytes());
        let proof = xor(client_key.as_ref(), signature.as_ref());
        let server_key = self.hash.sign(&salted, b"Server Key");
        let server_key = hmac::Key::new(self.hash.hmac(), server_key.as_ref());
        let message = format!("{without_proof},p={}", sasl::base64(&proof));
        Ok((ClientFinal { server_key, signed }, message))
    }
}

impl ClientFinal {
    /// True when the server has proven that it knows the password (row sc-11).
    pub(crate) fn verify(&self, raw: &[u8]) -> Result<(), ServerFault> {
        let text = std::str::from_utf8(raw).map_err(|_| ServerFault::Malformed)?;
        let first = text
            .split(',')
            .next()
            .and_then(|first| first.strip_prefix("v="));
        let signature = first
            .and_then(sasl::unbase64)
            .ok_or(ServerFault::Signature)?;
        hmac::verify(&self.server_key, self.signed.as_bytes(), &signature)
            .map_err(|_| ServerFault::Signature)
    }
}

struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
    announced: Option<&'a str>,
    tls: Option<&'a str>,
}

impl<'a> ServerFirst<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut attributes = Attributes::new(text);
        let nonce = attributes.expect('r').ok()?;
        let salt = sasl::unbase64(attributes.expect('s').ok()?)?;
        let iterations = attributes.expect('i').ok()?;
        if salt.is_empty() || !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // More digits than fit are absurdly many iterations.
        let iterations = iterations.parse().unwrap_or(u32::MAX);
        let (mut announced, mut tls) = (None, None);
        while let Some((name, value)) = attributes.next().ok()? {
            match name {
                'h' => announced = Some(value),
                't' => tls = Some(value),
                _ => {}
            }
        }
        Some(Self {
            nonce,
            salt,
            iterations,
            announced,
            tls,
        })
    }
}
