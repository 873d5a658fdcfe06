//! The server's side of SCRAM: flag rules, exchange, proof (RFC 5802 sections 5 and 6).

use super::message::{Attributes, is_nonce, unescape, utf8};
use super::{equal, xor};
use crate::features::sasl::{self, Offer, Refusal};
use crate::stream::{Credentials, ScramHash, StoredKeys};
use ring::digest;
use std::fmt::Write as _;
use std::sync::Arc;

/// The first message of a client, parsed and judged by the flag rules (RFC 5802 section 6).
#[derive(Debug)]
pub(crate) struct ClientFirst {
    /// Who signs in, escapes resolved.
    pub(crate) username: String,
    /// As whom, when that was said.
    pub(crate) authzid: Option<String>,
    /// Type of the channel binding in use.
    pub(crate) binding: Option<&'static str>,
    bare: String,
    nonce: String,
    /// What `c=` of the final message has to be: the header as received, then the binding data.
    expected_c: Vec<u8>,
}

impl ClientFirst {
    /// Parses; `plus` tells which form of the mechanism was asked for, `offer` what was announced.
    pub(crate) fn parse(raw: &[u8], plus: bool, offer: &Offer) -> Result<Self, Refusal> {
        let text = utf8(raw)?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::malformed("gs2 header incomplete"));
        };
        let binding = judge_flag(flag, plus, offer)?;
        let authzid = match authzid.strip_prefix("a=") {
            Some(name) => Some(unescape(name)?),
            None if authzid.is_empty() => None,
            None => return Err(Refusal::malformed("gs2 header incomplete")),
        };
        let header_len = text.len().saturating_sub(bare.len());
        let mut expected_c: Vec<u8> = raw.iter().copied().take(header_len).collect();
        expected_c.extend(
            binding
                .and_then(|name| offer.bindings.data(name))
                .unwrap_or_default(),
        );
        let mut attributes = Attributes::new(bare);
        let username = unescape(attributes.expect('n')?)?;
        let nonce = attributes.expect('r')?;
        attributes.ignore_rest()?;
        if !is_nonce(nonce) {
            return Err(Refusal::malformed("nonce"));
        }
        Ok(Self {
            username,
            authzid,
            binding,
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
            expected_c,
        })
    }
}

/// The flag rules of RFC 5802 section 6. A `y` is refused only if -PLUS was offered on this stream.
fn judge_flag(flag: &str, plus: bool, offer: &Offer) -> Result<Option<&'static str>, Refusal> {
    match (flag.strip_prefix("p="), flag, plus) {
        (Some(name), _, true) => match offer.bindings.known(name) {
            Some(name) => Ok(Some(name)),
            None => Err(Refusal::binding("unsupported channel-binding type")),
        },
        (Some(_), _, false) => Err(Refusal::binding("channel binding without -PLUS")),
        (None, "n" | "y", true) => Err(Refusal::binding("-PLUS without channel binding")),
        (None, "y", false) if offer.has_plus() => Err(Refusal::binding(
            "the client did not see the offer of -PLUS",
        )),
        (None, "n" | "y", false) => Ok(None),
        _ => Err(Refusal::malformed("gs2 flag")),
    }
}

/// How an exchange ends although the proof may be right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Good,
    /// There are no keys: always not-authorized.
    Fake,
    /// Told only to who knows the password.
    Disabled,
}

/// The server's side, once keys are there.
#[derive(Debug)]
pub(crate) struct Server {
    keys: Arc<StoredKeys>,
    standing: Standing,
    /// client-first-bare, then server-first, as they went over the wire.
    signed: String,
    nonce: String,
    expected_c: Vec<u8>,
}

impl Server {
    /// Answers a first message. `nonce` is fresh and printable; `announced` is the `h` of XEP-0474,
    /// `tls` the `t` of XEP-0515.
    pub(crate) fn begin(
        first: &ClientFirst,
        hash: ScramHash,
        credentials: Credentials,
        nonce: &str,
        announced: Option<&str>,
        tls: Option<&str>,
    ) -> Result<(Self, String), Refusal> {
        let (keys, standing) = match credentials {
            Credentials::Keys(keys) => (keys, Standing::Good),
            Credentials::Disabled(keys) => (keys, Standing::Disabled),
            Credentials::Fake { salt, iterations } => {
                (fake(hash, salt, iterations), Standing::Fake)
            }
            Credentials::Unavailable => return Err(Refusal::unavailable("store")),
        };
        if keys.hash != hash {
            return Err(Refusal::unavailable("keys of another hash"));
        }
        let nonce = format!("{}{nonce}", first.nonce);
        let mut message = format!(
            "r={nonce},s={},i={}",
            sasl::base64(&keys.salt),
            keys.iterations
        );
        for (name, value) in [('h', announced), ('t', tls)] {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = write!(message, ",{name}={value}");
            }
        }
        let signed = format!("{},{message}", first.bare);
        let expected_c = first.expected_c.clone();
        Ok((
            Self {
                keys,
                standing,
                signed,
                nonce,
                expected_c,
            },
            message,
        ))
    }

    /// Judges the final message; the answer is the server's signature.
    pub(crate) fn finish(&self, raw: &[u8]) -> Result<String, Refusal> {
        let text = utf8(raw)?;
        let Some((without_proof, proof)) = text.rsplit_once(",p=") else {
            return Err(Refusal::malformed("no proof"));
        };
        let proof = sasl::unbase64(proof).ok_or(Refusal::malformed("proof"))?;
        let mut attributes = Attributes::new(without_proof);
        let binding = attributes.expect('c')?;
        let nonce = attributes.expect('r')?;
        attributes.ignore_rest()?;
        let binding = sasl::unbase64(binding).ok_or(Refusal::malformed("channel binding"))?;
        if nonce != self.nonce {
            return Err(Refusal::malformed("nonce"));
        }
        if binding != self.expected_c {
            return Err(Refusal::binding("channel bindings do not match"));
        }
        let signed = format!("{},{without_proof}", self.signed);
        let proven = self.proves(&proof, signed.as_bytes());
        let signature = self
            .keys
            .hash
            .sign(&self.keys.server_key, signed.as_bytes());
        match (proven, self.standing) {
            (true, Standing::Good) => Ok(format!("v={}", sasl::base64(signature.as_ref()))),
            (true, Standing::Disabled) => Err(Refusal::disabled()),
            _ => Err(Refusal::wrong_password()),
        }
    }

    fn proves(&self, proof: &[u8], signed: &[u8]) -> bool {
        let hash = self.keys.hash;
        let signature = hash.sign(&self.keys.stored_key, signed);
        if proof.len() != signature.as_ref().len() {
            return false;
        }
        let client_key = xor(proof, signature.as_ref());
        equal(
            digest::digest(hash.digest(), &client_key).as_ref(),
            &self.keys.stored_key,
        )
    }
}

/// Keys that nobody's password fits, shaped like real ones.
fn fake(hash: ScramHash, salt: Box<[u8]>, iterations: u32) -> Arc<StoredKeys> {
    let stored_key = digest::digest(hash.digest(), &salt).as_ref().into();
    let server_key = digest::digest(hash.digest(), b"").as_ref().into();
    Arc::new(StoredKeys {
        hash,
        iterations,
        salt,
        stored_key,
        server_key,
    })
}
