//! Stream ids, stanza ids and resource names from a source of randomness that is handed in.
//!
//! Stream ids must be unpredictable (RFC 6120 section 4.7.3): the source has to be the operating
//! system's in production and may be anything in tests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Fills the slice with random bytes.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// A stream id: 128 bits, never repeated.
pub fn stream_id(random: Random<'_>) -> String {
    token::<16>(random)
}

/// A stanza id or a server-made resource: 96 bits, not to be guessed by third parties.
pub fn stanza_id(random: Random<'_>) -> String {
    token::<12>(random)
}

fn token<const N: usize>(random: Random<'_>) -> String {
    let mut bytes = [0; N];
    random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6120_stream_attribute_response_id_unique() {
        let mut count = 0u64;
        let mut random = |out: &mut [u8]| {
            count += 1;
            out.fill(0);
            out[..8].copy_from_slice(&count.to_le_bytes());
        };
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| stream_id(&mut random)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 22));
        assert_eq!(stanza_id(&mut random).len(), 16);
        // All of the source reaches the id: 128 bits set give 22 full characters.
        assert_eq!(
            stream_id(&mut |out| out.fill(0xFF)),
            "_____________________w"
        );
    }
}
