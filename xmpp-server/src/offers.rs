//! Which SCRAM hashes a domain offers: those for which all of its accounts hold keys (DESIGN 7).
//!
//! A password gives keys for every hash; only imported accounts may lack some. What they lack is
//! kept in the store before the account is made, so that a start need not look through all
//! accounts to know it.

use crate::store::{KvRecord, Store, StoreError, WriteOp};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::stream::{ScramHash, StoredKeys};

/// All hashes, in the order in which they are offered.
const HASHES: [ScramHash; 3] = [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512];
/// A set with all of them.
pub const ALL: u8 = 0b111;
/// Where a domain's value is: its owner is the domain.
const SPACE: &str = "accounts";
const KEY: &str = "hashes";

/// Hashes by domain, as sets.
#[derive(Debug, Default)]
pub struct Offers(HashMap<Box<str>, AtomicU8>);

impl Offers {
    /// What the accounts in a store allow.
    ///
    /// # Errors
    /// `StoreError` when the store does not answer.
    pub async fn load<'a>(
        store: &Store,
        domains: impl Iterator<Item = &'a str>,
    ) -> Result<Self, StoreError> {
        let mut offers = HashMap::new();
        for domain in domains {
            let held = held(store, domain).await?;
            offers.insert(domain.into(), AtomicU8::new(held));
        }
        Ok(Self(offers))
    }

    /// Hashes that the domain offers.
    #[must_use]
    pub fn hashes(&self, domain: &str) -> Vec<ScramHash> {
        let held = self.0.get(domain);
        let held = held.map_or(ALL, |held| held.load(Ordering::Relaxed));
        let hashes = HASHES.iter().filter(|hash| held & bit(**hash) != 0);
        hashes.copied().collect()
    }

    /// An account with these keys was made.
    pub fn narrow(&self, domain: &str, keys: u8) {
        if let Some(held) = self.0.get(domain) {
            held.fetch_and(keys, Ordering::Relaxed);
        }
    }
}

fn bit(hash: ScramHash) -> u8 {
    match hash {
        ScramHash::Sha1 => 1,
        ScramHash::Sha256 => 2,
        ScramHash::Sha512 => 4,
    }
}

/// The hashes for which there are keys, as a set.
#[must_use]
pub fn set_of(keys: &[StoredKeys]) -> u8 {
    keys.iter().fold(0, |set, keys| set | bit(keys.hash))
}

/// What the accounts of a domain hold according to the store; what cannot be read is all.
async fn held(store: &Store, domain: &str) -> Result<u8, StoreError> {
    let Ok(owner) = owner(domain) else {
        return Ok(ALL);
    };
    let kept = store.kv(SPACE, &owner, KEY).await?;
    Ok(kept.as_ref().and_then(set_in).unwrap_or(ALL))
}

fn set_in(record: &KvRecord) -> Option<u8> {
    record.val.first().map(|set| set & ALL)
}

fn owner(domain: &str) -> Result<BareJid, xmpp_stream::jid::JidError> {
    Jid::domain_only(domain).map(|jid| jid.to_bare())
}

/// The write that keeps an account with these keys in mind; `None`: nothing changes by it.
///
/// # Errors
/// `StoreError` when the store does not answer.
pub async fn narrowing(
    store: &Store,
    domain: &str,
    keys: u8,
) -> Result<Option<WriteOp>, StoreError> {
    let before = held(store, domain).await?;
    let (after, Ok(owner)) = (before & keys, owner(domain)) else {
        return Ok(None);
    };
    Ok((after != before).then(|| WriteOp::Kv {
        space: SPACE,
        owner,
        key: KEY.to_owned(),
        val: Some(Bytes::from(vec![after])),
        expect: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[tokio::test]
    async fn a_domain_offers_what_all_accounts_hold() {
        let store = Store::memory();
        let domains = ["a.test", "b.test"];
        let load = async || Offers::load(&store, domains.into_iter()).await.unwrap();
        let offers = load().await;
        assert_eq!(offers.hashes("a.test"), HASHES);
        for (keys, hashes) in [
            (0b111, &HASHES[..]),
            (0b011, &[ScramHash::Sha1, ScramHash::Sha256]),
            (0b110, &[ScramHash::Sha256]),
            (0b111, &[ScramHash::Sha256]),
        ] {
            if let Some(op) = narrowing(&store, "a.test", keys).await.unwrap() {
                store.submit(smallvec![op]).await.unwrap();
            }
            offers.narrow("a.test", keys);
            assert_eq!(offers.hashes("a.test"), hashes, "{keys:b}");
            assert_eq!(load().await.hashes("a.test"), hashes, "{keys:b} again");
        }
        assert_eq!(load().await.hashes("b.test"), HASHES);
    }
}
