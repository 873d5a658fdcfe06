//! Verifies what clients prove: SCRAM keys, passwords, and who may bind.
//!
//! RFC 6120 sections 6.4, 7; RFC 5802. Unknown, banned and known accounts take the same path, so
//! that neither answer nor time tells them apart (DESIGN 11).

use crate::config::Conflict;
use crate::core::Core;
use crate::effect::Effect;
use crate::random;
use crate::session::account::{Account, SessionEntry};
use crate::session::visit::Visit;
use crate::session::{Session, Sid};
use crate::sessions::Link;
use crate::store::{KeyShape, hash_number};
use ring::hmac;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use xmpp_stream::error::{StanzaError, StreamCondition, StreamError};
use xmpp_stream::jid::{BareJid, FullJid};
use xmpp_stream::stream::responder::Credentials;
use xmpp_stream::stream::{Password, ScramHash, StoredKeys, Verdict};

/// How long a look-up takes at least: longer than the store needs, shorter than a person notices.
const LOOKUP_FLOOR: Duration = Duration::from_millis(3);
/// How often the end of a session is asked for that a newcomer replaces.
const REPLACE_TRIES: usize = 3;
/// Bytes of a salt, real or fake.
const SALT_BYTES: usize = 16;

impl Core {
    /// Keys for a SCRAM exchange, or a fake that looks like them; after the same time whether the
    /// account is unknown, known or in memory.
    pub async fn credentials(&self, account: &BareJid, hash: ScramHash) -> Credentials {
        let floor = tokio::time::sleep(LOOKUP_FLOOR);
        tokio::join!(self.look_up(account, hash), floor).0
    }

    async fn look_up(&self, account: &BareJid, hash: ScramHash) -> Credentials {
        let loaded = self
            .registry
            .load(&self.store, account, self.clock.now())
            .await;
        let record = match loaded {
            Ok(Some(account)) => account.record(),
            Ok(None) => return self.fake(account, hash),
            Err(error) => {
                tracing::error!(%error, jid = %account, "credentials not loaded");
                return Credentials::Unavailable;
            }
        };
        let Some(keys) = record.keys.iter().find(|keys| keys.hash == hash).cloned() else {
            return self.fake(account, hash);
        };
        match record.banned {
            Some(_) => Credentials::Disabled(keys),
            None => Credentials::Keys(keys),
        }
    }

    fn fake(&self, account: &BareJid, hash: ScramHash) -> Credentials {
        let shape = self.fake_shape(account, hash);
        Credentials::Fake {
            salt: self.fake_salt(account, shape),
            iterations: shape.iterations,
        }
    }

    /// What the keys of a name seem to be that has none: what those of some account are.
    fn fake_shape(&self, account: &BareJid, hash: ScramHash) -> KeyShape {
        let text = format!("shape {account}");
        let draw = self.hmac(&text).into_iter().take(8);
        let draw = draw.fold(0, |draw, byte| draw << 8 | u64::from(byte));
        let usual = self.offers.fake(account.domain(), hash, draw);
        usual.unwrap_or_else(|| KeyShape {
            hash: hash_number(hash),
            iterations: self.settings().config.sasl.scram_iterations,
            salt_bytes: SALT_BYTES,
        })
    }

    /// The same for each try. With what accounts have it changes as if by a new password.
    fn fake_salt(&self, account: &BareJid, shape: KeyShape) -> Box<[u8]> {
        let block = |n: usize| self.hmac(&format!("{n} {shape:?} {account}"));
        let blocks = (0..shape.salt_bytes).flat_map(block);
        blocks.take(shape.salt_bytes).collect()
    }

    fn hmac(&self, text: &str) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    }

    /// Checks a password; an unknown account costs as much as a wrong password.
    pub async fn check_password(&self, account: &BareJid, password: Password) -> Verdict {
        let loaded = self
            .registry
            .load(&self.store, account, self.clock.now())
            .await;
        let record = match loaded {
            Ok(account) => account.map(|account| account.record()),
            Err(error) => {
                tracing::error!(%error, jid = %account, "credentials not loaded");
                return Verdict::TryLater;
            }
        };
        let keys = record.as_ref().map(|record| record.keys.iter());
        let keys = keys
            .and_then(|keys| strongest(keys, |keys| keys.hash))
            .cloned();
        let banned = record
            .as_ref()
            .is_some_and(|record| record.banned.is_some());
        let offered = self.offers.hashes(account.domain());
        let hash = strongest(offered.into_iter(), |hash| *hash).unwrap_or(ScramHash::Sha256);
        let shape = self.fake_shape(account, hash);
        let salt = self.fake_salt(account, shape);
        let Ok(_permit) = self.kdf.acquire().await else {
            return Verdict::TryLater;
        };
        let checked = tokio::task::spawn_blocking(move || match keys {
            Some(keys) => keys.verify_password(&password.0),
            None => {
                let iterations = shape.iterations;
                drop(StoredKeys::derive(hash, &password.0, &salt, iterations));
                false
            }
        });
        match (checked.await, banned) {
            (Ok(true), false) => Verdict::Allow,
            (Ok(true), true) => Verdict::Disabled,
            (Ok(false), _) => Verdict::Deny,
            (Err(_), _) => Verdict::TryLater,
        }
    }

    /// May this account sign in, for which a certificate has spoken? Who holds that learns nothing by
    /// the time it takes.
    pub async fn check_account(&self, account: &BareJid) -> Verdict {
        let now = self.clock.now();
        match self.registry.load(&self.store, account, now).await {
            Ok(Some(account)) if account.record().banned.is_some() => Verdict::Disabled,
            Ok(Some(_)) => Verdict::Allow,
            Ok(None) => Verdict::Deny,
            Err(error) => {
                tracing::error!(%error, jid = %account, "account not loaded");
                Verdict::TryLater
            }
        }
    }

    /// Salted keys of a password for every hash we offer, off the task and at most one per core.
    pub async fn derive_keys(&self, password: String) -> Vec<StoredKeys> {
        let iterations = self.settings().config.sasl.scram_iterations;
        let Ok(_permit) = self.kdf.acquire().await else {
            return Vec::new();
        };
        let derived = tokio::task::spawn_blocking(move || derive_all(&password, iterations));
        derived.await.unwrap_or_default()
    }

    /// Binds a resource (RFC 6120 section 7). A taken one is given to neither, or to the newcomer, as
    /// `c2s.conflict` says.
    ///
    /// # Errors
    /// `resource-constraint` at the bounds, `bad-request` never: what cannot be a resource is replaced.
    pub async fn bind(
        self: &Arc<Self>,
        jid: &BareJid,
        wanted: Option<&str>,
        link: Link,
    ) -> Result<Session, StanzaError> {
        let account = self
            .registry
            .load(&self.store, jid, self.clock.now())
            .await?
            .ok_or_else(StanzaError::not_authorized)?;
        let host = self
            .host(jid.domain())
            .filter(|host| !host.is_leaving())
            .ok_or_else(StanzaError::not_authorized)?;
        let full = wanted.and_then(|wanted| jid.with_resource(wanted).ok());
        let full = match full {
            Some(full) => self.settle_conflict(&account, full).await,
            None => None,
        };
        let sessions_max = self.settings().config.limits.sessions_max;
        if self.registry.sessions.fetch_add(1, Ordering::Relaxed) >= sessions_max {
            self.registry.sessions.fetch_sub(1, Ordering::Relaxed);
            return Err(StanzaError::resource_constraint());
        }
        let peer = link.peer.ip();
        let bound = self.add_session(&account, full, link);
        if bound.is_err() {
            self.registry.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        let entry = bound?;
        // Looked at again, now that whoever takes the domain away would find the session.
        if host.is_leaving() {
            let effects = self.end_with(&account, &entry, StreamCondition::HostGone);
            self.run(None, effects.into()).await;
            return Err(StanzaError::not_authorized());
        }
        Ok(Session {
            sid: entry.sid,
            jid: entry.jid,
            account,
            host,
            outbox: entry.outbox,
            peer,
            tap: Arc::clone(&self.tap),
            secure: false,
            later: Default::default(),
            pause: Default::default(),
            lost: Default::default(),
            farewell: Default::default(),
            owed: Default::default(),
            recipients: Default::default(),
            rates: Default::default(),
            resends: Default::default(),
        })
    }

    /// `None`: the wanted resource is taken and stays with its owner. One that only waits for its
    /// client makes room: that client is who asks.
    async fn settle_conflict(
        self: &Arc<Self>,
        account: &Arc<Account>,
        full: FullJid,
    ) -> Option<FullJid> {
        let by_name = || account.lock().resource(full.resource_str()).cloned();
        // A client that resumes at this moment is as good a visitor: then the end is asked for again.
        for _ in 0..REPLACE_TRIES {
            let Some(old) = by_name() else {
                return Some(full);
            };
            let conflict = self.settings().config.c2s.conflict;
            if conflict == Conflict::Generate && !old.hibernating {
                return None;
            }
            // Rule 17: the old session ends first, by its own task after the stanza in hand; then the
            // new one is bound: two critical sections.
            let (done, ended) = oneshot::channel();
            let conflict = StreamError::new(StreamCondition::Conflict);
            if let Some(other) = old.outbox.visit(Visit::End(Box::new(conflict), done)) {
                other.turn_away();
            }
            old.outbox.wake();
            let ended = tokio::time::timeout(self.limits.replace_max, ended).await;
            if ended.is_err() {
                tracing::warn!(jid = %full, "session replaced in the middle of a stanza");
                let mut effects = self.end_with(account, &old, StreamCondition::Conflict);
                effects.retain(|effect| !matches!(effect, Effect::Pause));
                self.run(None, effects.into()).await;
            }
        }
        by_name().is_none().then_some(full)
    }

    fn add_session(
        &self,
        account: &Account,
        full: Option<FullJid>,
        link: Link,
    ) -> Result<SessionEntry, StanzaError> {
        let resources_max = self.settings().config.limits.resources_per_account_max;
        let mut state = account.lock();
        if state.removed {
            return Err(StanzaError::not_authorized());
        }
        if state.sessions.len() >= resources_max {
            return Err(StanzaError::resource_constraint());
        }
        let free = full.filter(|full| state.resource(full.resource_str()).is_none());
        let full = match free {
            Some(full) => full,
            None => account
                .jid
                .with_resource(&random::token())
                .map_err(|_| StanzaError::internal_server_error())?,
        };
        let mut entry = SessionEntry::new(Sid(random::number()), full);
        entry.link = Arc::new(link);
        // Most accounts have one session, and a vector would make room for four.
        state.sessions.reserve_exact(1);
        state.sessions.push(entry.clone());
        Ok(entry)
    }
}

/// Keys of one password for every hash we offer.
#[must_use]
pub fn derive_all(password: &str, iterations: u32) -> Vec<StoredKeys> {
    [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512]
        .into_iter()
        .map(|hash| {
            let mut salt = [0; SALT_BYTES];
            random::fill(&mut salt);
            StoredKeys::derive(hash, password, &salt, iterations)
        })
        .collect()
}

/// What a password is checked with.
fn strongest<T>(all: impl Iterator<Item = T>, hash: impl Fn(&T) -> ScramHash) -> Option<T> {
    all.max_by_key(|one| hash(one) == ScramHash::Sha256)
}
