//! The handshake of external components (XEP-0114 section 3): a digest of the stream's id and a secret
//! that both sides were given.

use crate::ns;
use crate::xml::Element;
use ring::digest;
use std::fmt::Write as _;

/// What a component and its server share: not printed, wiped by nobody.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// A secret as it stands in the configuration of both sides.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// The digest for a stream, in lower-case hexadecimal digits.
    pub(crate) fn digest(&self, stream_id: &str) -> String {
        // The algorithm is the specification's; the secret is not to be guessed from one digest.
        let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(stream_id.as_bytes());
        context.update(self.0.as_bytes());
        let mut text = String::with_capacity(40);
        for byte in context.finish().as_ref() {
            // A string takes everything.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// True for the right digest. Takes as long for each wrong one.
    pub(crate) fn is_digest(&self, said: &str, stream_id: &str) -> bool {
        let right = self.digest(stream_id);
        let pairs = right.bytes().zip(said.bytes());
        let wrong = pairs.fold(right.len() ^ said.len(), |wrong, (a, b)| {
            wrong | usize::from(a ^ b)
        });
        std::hint::black_box(wrong) == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is_digest(&other.digest(""), "")
    }
}

impl Eq for Secret {}

/// `<handshake/>`: with a digest it asks, without it agrees.
pub(crate) fn write(out: &mut Vec<u8>, digest: &str) {
    Element::new(ns::COMPONENT, "handshake")
        .with_text(digest)
        .write(out, ns::COMPONENT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn im_cp_01_the_digest_of_the_specification() {
        let digest = "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e";
        let secret = Secret::new("test");
        assert_eq!(secret.digest("3BF96D32"), digest);
        assert!(secret.is_digest(digest, "3BF96D32"));
        let upper = digest.to_uppercase();
        for wrong in ["", &digest[1..], &upper, &format!("{digest}0")] {
            assert!(!secret.is_digest(wrong, "3BF96D32"), "{wrong}");
        }
        assert!(!secret.is_digest(digest, "3BF96D33"));
        assert!(!Secret::new("tesT").is_digest(digest, "3BF96D32"));
        assert!(secret == Secret::new("test") && secret != Secret::new("text"));
    }
}
