//! Random bytes from the operating system: ids, resources, generated passwords (DESIGN 11).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use std::cell::RefCell;

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

/// 64 random bits for what there is one of for each message: drawn from the system many at a time.
#[must_use]
pub fn bits() -> u64 {
    const DRAWN: usize = 64;
    thread_local! {
        static POOL: RefCell<Vec<[u8; 8]>> = const { RefCell::new(Vec::new()) };
    }
    POOL.with_borrow_mut(|pool| {
        if pool.is_empty() {
            let mut bytes = [0; 8 * DRAWN];
            fill(&mut bytes);
            pool.extend(bytes.as_chunks().0);
        }
        u64::from_ne_bytes(pool.pop().unwrap_or_default())
    })
}

/// 96 random bits as 16 characters that need no escaping anywhere.
#[must_use]
pub fn token() -> String {
    let mut bytes = [0; 12];
    fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn bits_are_never_given_twice() {
        let given: HashSet<u64> = (0..1000).map(|_| bits()).collect();
        assert_eq!(given.len(), 1000);
    }
}
