//! SCRAM-SHA-1, -SHA-256 and -SHA-512, each with -PLUS: both roles, as values without I/O.
//!
//! RFC 5802, RFC 7677; downgrade protection by XEP-0474. The messages are kept as received, so
//! that whatever a peer signs over is signed over. The driver fetches keys between two messages.

use super::sasl::{self, Bindings, Offer, Refusal};
use crate::stream::responder::Credentials;
use crate::stream::{ScramHash, StoredKeys};
use ring::{digest, hmac, pbkdf2};
use std::fmt::{self, Write as _};
use std::num::NonZeroU32;
use std::sync::Arc;

/// The fewest iterations a client accepts (RFC 5802 section 5.1, RFC 7677 section 4).
pub const ITERATIONS_MIN: u32 = 4096;
/// The most iterations a client accepts: about five seconds of CPU.
pub const ITERATIONS_MAX: u32 = 10_000_000;

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

fn sorted<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names
}

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
    /// Answers a first message. `nonce` is fresh and printable; `announced` is the `h` of XEP-0474.
    pub(crate) fn begin(
        first: &ClientFirst,
        hash: ScramHash,
        credentials: Credentials,
        nonce: &str,
        announced: Option<&str>,
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
        if let Some(announced) = announced {
            // Writing to a String cannot fail.
            let _ = write!(message, ",h={announced}");
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

/// Why a client ends the exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerFault {
    /// A message that is none.
    Malformed,
    /// The nonce does not begin with ours.
    Nonce,
    /// Fewer iterations than is safe, or absurdly many.
    Iterations,
    /// The announcement that we saw is not the one that was made (XEP-0474).
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

    /// Answers the server's first message. `announced` is our own `h` of XEP-0474.
    pub(crate) fn respond(
        &self,
        raw: &[u8],
        password: &str,
        announced: &str,
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
        let mut announced = None;
        while let Some((name, value)) = attributes.next().ok()? {
            if name == 'h' {
                announced = Some(value);
            }
        }
        Some(Self {
            nonce,
            salt,
            iterations,
            announced,
        })
    }
}

/// `x=value` items between commas, in order.
struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    fn next(&mut self) -> Result<Option<(char, &'a str)>, Refusal> {
        let Some(rest) = self.rest else {
            return Ok(None);
        };
        let (item, rest) = match rest.split_once(',') {
            Some((item, rest)) => (item, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        let mut letters = item.chars();
        match (letters.next(), letters.next()) {
            // RFC 5802 section 5.1: `m` is a mandatory extension, and we know none.
            (Some('m'), Some('=')) => Err(Refusal::malformed("mandatory extension")),
            (Some(name), Some('=')) if name.is_ascii_alphabetic() => {
                Ok(Some((name, letters.as_str())))
            }
            _ => Err(Refusal::malformed("attribute")),
        }
    }

    fn expect(&mut self, name: char) -> Result<&'a str, Refusal> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(Refusal::malformed("attribute missing")),
        }
    }

    /// Optional extensions are ignored, but have to be attributes.
    fn ignore_rest(&mut self) -> Result<(), Refusal> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

fn utf8(raw: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(raw).map_err(|_| Refusal::malformed("not UTF-8"))
}

/// Printable ASCII but the comma (RFC 5802 section 7).
fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
}

fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn unescape(name: &str) -> Result<String, Refusal> {
    let mut parts = name.split('=');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(Refusal::malformed("escape in a name")),
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    if plain.is_empty() || plain.contains('\0') {
        return Err(Refusal::malformed("name"));
    }
    Ok(plain)
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

#[cfg(test)]
mod tests;
