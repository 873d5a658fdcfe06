//! Random bytes from the operating system: ids, resources, generated passwords (DESIGN 11).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

/// Fills a buffer. A machine without a source of randomness must not serve: the process ends.
pub fn fill(buffer: &mut [u8]) {
    if SystemRandom::new().fill(buffer).is_err() {
        tracing::error!("no random bytes from the operating system");
        std::process::exit(1);
    }
}

/// 128 random bits.
#[must_use]
pub fn number() -> u128 {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    u128::from_ne_bytes(bytes)
}

/// 96 random bits as 16 characters that need no escaping anywhere.
#[must_use]
pub fn token() -> String {
    let mut bytes = [0; 12];
    fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
