//! What a stranger sees of a domain's keys: which SCRAM hashes it offers, and which iterations and
//! salts a name that does not exist seems to have.
//!
//! DESIGN 7. Offered is a hash for which all accounts hold keys: a password gives keys for every
//! hash, only imported accounts may lack some. Fakes are drawn from what the accounts have, so that
//! imported ones are no exception that proves itself. Both are learnt from the store at the start,
//! and followed while the server runs; what was narrowed widens with the next start.

use crate::store::{KeyShape, KeySurvey, Store, StoreError, hash_number};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use xmpp_stream::stream::{ScramHash, StoredKeys};

/// All hashes, in the order in which they are offered.
const HASHES: [ScramHash; 3] = [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512];
/// A set with all of them.
pub const ALL: u8 = 0b111;
/// Shapes of keys that are told apart in a domain: a server has one, an import brings a few.
const SHAPES_MAX: usize = 64;

/// What is known of the keys of each domain.
#[derive(Debug, Default)]
pub struct Offers(RwLock<HashMap<Box<str>, Known>>);

#[derive(Debug)]
struct Known {
    /// Hashes for which all accounts hold keys.
    held: u8,
    /// How many keys look like this.
    shapes: Vec<(KeyShape, u64)>,
}

impl Offers {
    /// Learns what the accounts in a store have, of domains that are not known yet.
    ///
    /// # Errors
    /// `StoreError` when the store does not answer.
    pub async fn learn<'a>(
        &self,
        store: &Store,
        domains: impl Iterator<Item = &'a str>,
    ) -> Result<(), StoreError> {
        for domain in domains {
            if self.read().contains_key(domain) {
                continue;
            }
            let known = Known::of(store.survey(domain).await?);
            if known.held != ALL {
                tracing::warn!(domain, "accounts lack keys: fewer mechanisms are offered");
            }
            self.write().entry(domain.into()).or_insert(known);
        }
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, Known>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Box<str>, Known>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes that the domain offers.
    #[must_use]
    pub fn hashes(&self, domain: &str) -> Vec<ScramHash> {
        let held = self.read().get(domain).map_or(ALL, |known| known.held);
        let hashes = HASHES.iter().filter(|hash| held & bit(**hash) != 0);
        hashes.copied().collect()
    }

    /// Accounts with these keys are about to be made; true when fewer hashes are offered for it.
    pub fn narrow(&self, domain: &str, keys: u8) -> bool {
        let mut all = self.write();
        let Some(known) = all.get_mut(domain) else {
            return false;
        };
        let before = known.held;
        known.held &= keys;
        known.held != before
    }

    /// Somebody has these keys now.
    pub fn count(&self, domain: &str, shapes: &[KeyShape]) {
        let mut all = self.write();
        let Some(known) = all.get_mut(domain) else {
            return;
        };
        for shape in shapes {
            match known
                .shapes
                .binary_search_by_key(shape, |(shape, _)| *shape)
            {
                Ok(at) => known
                    .shapes
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|(_, n)| *n += 1),
                Err(at) if known.shapes.len() < SHAPES_MAX => known.shapes.insert(at, (*shape, 1)),
                Err(_) => {}
            }
        }
    }

    /// What a key for this hash looks like that nobody has; `draw` chooses, each shape as often as
    /// accounts have it. `None`: no account has one.
    #[must_use]
    pub fn fake(&self, domain: &str, hash: ScramHash, draw: u64) -> Option<KeyShape> {
        let number = hash_number(hash);
        let all = self.read();
        let of_hash = all.get(domain)?.shapes.iter();
        let of_hash = of_hash.filter(|(shape, _)| shape.hash == number);
        let total: u64 = of_hash.clone().map(|(_, keys)| keys).sum();
        // The same part of the whole for each hash: an account's keys are made together.
        let mut left = ((u128::from(draw) * u128::from(total)) >> 64) as u64;
        for (shape, keys) in of_hash {
            match left.checked_sub(*keys) {
                Some(rest) => left = rest,
                None => return Some(*shape),
            }
        }
        None
    }
}

impl Known {
    fn of(mut survey: KeySurvey) -> Self {
        let has = |hash: &ScramHash| {
            let number = hash_number(*hash);
            let of_hash = survey.shapes.iter();
            let of_hash = of_hash.filter(|(shape, _)| shape.hash == number);
            of_hash.map(|(_, keys)| keys).sum::<u64>() >= survey.accounts
        };
        let held = HASHES.iter().filter(|hash| has(hash));
        let held = held.fold(0, |set, hash| set | bit(*hash));
        // The commonest, in their order.
        survey
            .shapes
            .sort_unstable_by_key(|(_, keys)| std::cmp::Reverse(*keys));
        survey.shapes.truncate(SHAPES_MAX);
        survey.shapes.sort_unstable();
        Self {
            held,
            shapes: survey.shapes,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::WriteOp;
    use smallvec::smallvec;
    use xmpp_stream::jid::BareJid;

    fn keys(hashes: u8, iterations: u32, salt_bytes: usize) -> Vec<StoredKeys> {
        let held = HASHES.iter().filter(|hash| hashes & bit(**hash) != 0);
        let keys = |hash: &ScramHash| StoredKeys {
            hash: *hash,
            iterations,
            salt: vec![7; salt_bytes].into(),
            stored_key: Box::default(),
            server_key: Box::default(),
        };
        held.map(keys).collect()
    }

    async fn learnt(store: &Store) -> Offers {
        let offers = Offers::default();
        let domains = ["a.test", "b.test"];
        offers.learn(store, domains.into_iter()).await.unwrap();
        offers
    }

    fn jid(local: &str) -> BareJid {
        BareJid::account(local, "a.test").unwrap()
    }

    async fn make(store: &Store, local: &str, keys: Vec<StoredKeys>) {
        let create = WriteOp::AccountCreate {
            account: jid(local),
            keys,
            created: 0,
        };
        store.submit(smallvec![create]).await.unwrap();
    }

    #[tokio::test]
    async fn a_domain_offers_what_all_accounts_hold() {
        let store = Store::memory();
        let offers = learnt(&store).await;
        assert_eq!(offers.hashes("a.test"), HASHES);
        for (local, hashes, offered, narrower) in [
            ("a", 0b111, &HASHES[..], false),
            ("b", 0b011, &[ScramHash::Sha1, ScramHash::Sha256], true),
            ("c", 0b110, &[ScramHash::Sha256], true),
            ("d", 0b111, &[ScramHash::Sha256], false),
        ] {
            assert_eq!(offers.narrow("a.test", hashes), narrower, "{local}");
            make(&store, local, keys(hashes, 4096, 16)).await;
            assert_eq!(offers.hashes("a.test"), offered, "{local}");
            assert_eq!(
                learnt(&store).await.hashes("a.test"),
                offered,
                "{local} again"
            );
        }
        assert_eq!(learnt(&store).await.hashes("b.test"), HASHES);
        // With a new password, and with the account, what was lacking is gone at the next start.
        let password = WriteOp::AccountKeys {
            account: jid("b"),
            keys: keys(ALL, 10_000, 16),
        };
        store.submit(smallvec![password]).await.unwrap();
        let offered = [ScramHash::Sha256, ScramHash::Sha512];
        assert_eq!(learnt(&store).await.hashes("a.test"), offered);
        let account = jid("c");
        let removal = WriteOp::AccountRemove { account };
        store.submit(smallvec![removal]).await.unwrap();
        assert_eq!(learnt(&store).await.hashes("a.test"), HASHES);
        assert_eq!(offers.hashes("a.test"), [ScramHash::Sha256], "until then");
    }

    #[tokio::test]
    async fn c6120_se_05_names_that_do_not_exist_look_like_those_that_do() {
        let store = Store::memory();
        assert_eq!(
            learnt(&store).await.fake("a.test", ScramHash::Sha1, 0),
            None
        );
        for n in 0..3 {
            make(&store, &format!("own{n}"), keys(ALL, 10_000, 16)).await;
        }
        make(&store, "brought", keys(ALL, 4096, 12)).await;
        let offers = learnt(&store).await;
        let step = u64::MAX / 400;
        for hash in HASHES {
            let drawn = (0..400).map(|n| offers.fake("a.test", hash, n * step).unwrap());
            let seen = drawn.map(|shape| (shape.iterations, shape.salt_bytes));
            let brought = seen.clone().filter(|seen| *seen == (4096, 12)).count();
            assert!((99..=101).contains(&brought), "{hash:?}: {brought}");
            assert_eq!(
                seen.filter(|seen| *seen == (10_000, 16)).count(),
                400 - brought
            );
        }
        // An account that is made later counts at once.
        let shapes: Vec<_> = keys(ALL, 5000, 8).iter().map(KeyShape::of).collect();
        for _ in 0..400 {
            offers.count("a.test", &shapes);
        }
        let middle = offers
            .fake("a.test", ScramHash::Sha256, u64::MAX / 2)
            .unwrap();
        assert_eq!((middle.iterations, middle.salt_bytes), (5000, 8));
    }

    #[test]
    fn shapes_are_bounded_in_number() {
        let shape = |iterations| KeyShape {
            hash: 1,
            iterations,
            salt_bytes: 16,
        };
        let counted = |count: u32| (0..count).map(|n| (shape(n), u64::from(n))).collect();
        for (count, kept) in [(63, 63), (64, 64), (65, 64), (1000, 64)] {
            let known = Known::of(KeySurvey {
                accounts: 1,
                shapes: counted(count),
            });
            assert_eq!(known.shapes.len(), kept);
            assert_eq!(
                known.shapes.last(),
                Some(&(shape(count - 1), u64::from(count - 1)))
            );
            let offers = Offers::default();
            offers.write().insert("a.test".into(), known);
            offers.count("a.test", &[shape(2000), shape(2001)]);
            assert_eq!(offers.read()["a.test"].shapes.len(), (kept + 2).min(64));
        }
    }
}
