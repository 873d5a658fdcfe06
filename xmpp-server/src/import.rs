//! `user import`: accounts from a file, with passwords or with the SCRAM keys of another server.
//!
//! The rule: an import adds what is missing and never changes an account that exists. So the same
//! file again changes nothing, one that was interrupted goes on where it ended, and neither costs a
//! derivation of keys: nothing has to be kept that could serve to guess a password, and nobody who
//! has changed the own password gets the old one back. Keys are derived here, not in the server.

mod lines;

use crate::admin::{Admin, AdminError, Request};
use crate::auth::derive_all;
use crate::clock;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lines::Lines;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use xmpp_stream::features::scram::{ITERATIONS_MAX, ITERATIONS_MIN};
use xmpp_stream::stream::{Password, ScramHash, StoredKeys};

/// Rounds of PBKDF2 that a core does before the next part of the file is read: about a second.
const ROUNDS: u32 = 1_600_000;
/// How often progress is told where no terminal shows it.
const PROGRESS: Duration = Duration::from_secs(1);
/// Bytes of a salt at most: other servers use 8 to 64.
const SALT_BYTES_MAX: usize = 256;

/// An account on its way into the store.
#[derive(Clone, Deserialize, Serialize)]
pub struct ImportedAccount {
    /// Its name.
    pub jid: String,
    /// Keys, one set a hash.
    pub keys: Vec<KeyText>,
}

/// One set of keys as text.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct KeyText {
    /// `SCRAM-SHA-1`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub hash: String,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// Base64.
    pub salt: String,
    /// Base64.
    pub stored_key: String,
    /// Base64.
    pub server_key: String,
}

/// What became of an account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was made.
    Added,
    /// It was there, and is as it was.
    Unchanged,
    /// Neither, and why.
    Refused(String),
}

/// Why keys are of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KeyError {
    /// Not base64.
    Base64,
    /// The hash is none that SCRAM is used with here.
    Hash,
    /// Clients refuse fewer rounds, and more would be a burden.
    Iterations,
    /// A key is not as long as its hash.
    Length,
    /// No key at all.
    None,
    /// The salt is empty or too long.
    Salt,
    /// Two sets for one hash.
    Twice,
}

/// Why an import did not come to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// The server or the store.
    Admin(AdminError),
    /// The file.
    File(io::Error),
}

/// How an import went, or goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Accounts made.
    pub added: u64,
    /// Accounts that were there.
    pub unchanged: u64,
    /// Bad lines and refused accounts.
    pub failed: u64,
}

impl ImportedAccount {
    /// The keys as they are stored.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn keys(&self) -> Result<Vec<StoredKeys>, KeyError> {
        let keys = self.keys.iter().map(KeyText::parse);
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut hashes: Vec<_> = keys.iter().map(|keys| keys.hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        match keys.len() {
            0 => Err(KeyError::None),
            sets if sets > hashes.len() => Err(KeyError::Twice),
            _ => Ok(keys),
        }
    }
}

impl KeyText {
    /// Keys as text.
    #[must_use]
    pub fn of(keys: &StoredKeys) -> Self {
        Self {
            hash: hash_name(keys.hash).into(),
            iterations: keys.iterations,
            salt: STANDARD.encode(&keys.salt),
            stored_key: STANDARD.encode(&keys.stored_key),
            server_key: STANDARD.encode(&keys.server_key),
        }
    }

    fn parse(&self) -> Result<StoredKeys, KeyError> {
        let (hash, bytes) = match self.hash.trim().to_ascii_uppercase().as_str() {
            "SCRAM-SHA-1" => (ScramHash::Sha1, 20),
            "SCRAM-SHA-256" => (ScramHash::Sha256, 32),
            "SCRAM-SHA-512" => (ScramHash::Sha512, 64),
            _ => return Err(KeyError::Hash),
        };
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&self.iterations) {
            return Err(KeyError::Iterations);
        }
        let decode = |text: &str| {
            let decoded = STANDARD.decode(text.trim());
            decoded.map_err(|_| KeyError::Base64)
        };
        let salt = decode(&self.salt)?;
        if salt.is_empty() || salt.len() > SALT_BYTES_MAX {
            return Err(KeyError::Salt);
        }
        let (stored_key, server_key) = (decode(&self.stored_key)?, decode(&self.server_key)?);
        if stored_key.len() != bytes || server_key.len() != bytes {
            return Err(KeyError::Length);
        }
        Ok(StoredKeys {
            hash,
            iterations: self.iterations,
            salt: salt.into(),
            stored_key: stored_key.into(),
            server_key: server_key.into(),
        })
    }
}

fn hash_name(hash: ScramHash) -> &'static str {
    match hash {
        ScramHash::Sha1 => "SCRAM-SHA-1",
        ScramHash::Sha256 => "SCRAM-SHA-256",
        ScramHash::Sha512 => "SCRAM-SHA-512",
    }
}

/// An account as its lines give it.
struct Entry {
    /// Number of its first line.
    line: u64,
    jid: String,
    given: Given,
}

enum Given {
    Password(Password),
    Keys(Vec<KeyText>),
}

/// Where an import tells how it goes.
pub trait Telling {
    /// A line was bad, or its account was refused.
    fn bad(&mut self, line: u64, why: &dyn fmt::Display);
    /// So much is done; `percent` of the file was read.
    fn progress(&mut self, report: &Report, percent: u64);
}

/// Adds the accounts of a file. Keys of passwords are derived on all cores while the accounts before
/// them are written.
///
/// # Errors
/// See `ImportError`; what was written until then stays.
pub async fn import(
    file: &Path,
    admin: &mut Admin,
    iterations: u32,
    telling: &mut impl Telling,
) -> Result<Report, ImportError> {
    let file = File::open(file).map_err(ImportError::File)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut work = Work {
        lines: Lines::new(BufReader::new(file)),
        size,
        report: Report::default(),
        told: clock::now(),
        telling,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = (ROUNDS / iterations.max(1)).clamp(2, 64);
    let part = cores * usize::try_from(each).unwrap_or(2);
    let mut ready: Vec<(u64, ImportedAccount)> = Vec::new();
    loop {
        let entries = work.next_part(part)?;
        let is_last = entries.is_empty();
        let missing = work.missing(admin, entries).await?;
        let (derived, written) = tokio::join!(
            derive(missing, iterations, cores),
            work.write(admin, std::mem::take(&mut ready))
        );
        written?;
        ready = derived;
        work.tell();
        if is_last {
            return Ok(work.report);
        }
    }
}

struct Work<'a, R, T> {
    lines: Lines<R>,
    size: u64,
    report: Report,
    told: Instant,
    telling: &'a mut T,
}

impl<R: BufRead, T: Telling> Work<'_, R, T> {
    /// The next accounts of the file; none: its end.
    fn next_part(&mut self, most: usize) -> Result<Vec<Entry>, ImportError> {
        let mut entries = Vec::new();
        while entries.len() < most {
            match self.lines.next().map_err(ImportError::File)? {
                None => break,
                Some(Ok(entry)) => entries.push(entry),
                Some(Err((line, error))) => self.bad(line, &error),
            }
        }
        Ok(entries)
    }

    fn bad(&mut self, line: u64, why: &dyn fmt::Display) {
        self.report.failed += 1;
        self.telling.bad(line, why);
    }

    /// Leaves out accounts that exist.
    async fn missing(
        &mut self,
        admin: &mut Admin,
        entries: Vec<Entry>,
    ) -> Result<Vec<Entry>, ImportError> {
        let mut missing = Vec::with_capacity(entries.len());
        let mut rest = entries.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut some, mut room) = (Vec::new(), Room::of(admin));
            while let Some(entry) = rest.next_if(|entry| room.fits(entry.jid.len() + 8)) {
                some.push(entry);
            }
            let jids = some.iter().map(|entry| entry.jid.clone()).collect();
            let known = admin.ask::<String>(&Request::UserKnown { jids }).await;
            let known = known.map_err(ImportError::Admin)?;
            let mut known = known.iter().peekable();
            for entry in some {
                // The answer keeps to the order of the question.
                if known.next_if(|jid| **jid == entry.jid).is_some() {
                    self.report.unchanged += 1;
                } else {
                    missing.push(entry);
                }
            }
        }
        Ok(missing)
    }

    async fn write(
        &mut self,
        admin: &mut Admin,
        ready: Vec<(u64, ImportedAccount)>,
    ) -> Result<(), ImportError> {
        let mut rest = ready.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut lines, mut accounts, mut room) = (Vec::new(), Vec::new(), Room::of(admin));
            while let Some((line, account)) =
                rest.next_if(|(_, account)| room.fits(account.json_len()))
            {
                lines.push(line);
                accounts.push(account);
            }
            let request = Request::UserImport { accounts };
            let outcomes = admin.ask::<Outcome>(&request).await;
            let outcomes = outcomes.map_err(ImportError::Admin)?;
            for (line, outcome) in lines.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Added => self.report.added += 1,
                    Outcome::Unchanged => self.report.unchanged += 1,
                    Outcome::Refused(why) => self.bad(line, &why),
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        let now = clock::now();
        if now.saturating_duration_since(self.told) >= PROGRESS {
            self.told = now;
            let percent = self.lines.bytes().saturating_mul(100) / self.size.max(1);
            self.telling.progress(&self.report, percent.min(100));
        }
    }
}

impl ImportedAccount {
    /// Bytes of its JSON, or a little more.
    fn json_len(&self) -> usize {
        let keys = self.keys.iter().map(|keys| {
            120 + keys.hash.len() + keys.salt.len() + keys.stored_key.len() + keys.server_key.len()
        });
        40 + self.jid.len() + keys.sum::<usize>()
    }
}

/// What one request may hold beside its frame.
struct Room {
    bytes: usize,
    is_empty: bool,
}

impl Room {
    fn of(admin: &Admin) -> Self {
        Self {
            bytes: admin.line_bytes_max().saturating_sub(256),
            is_empty: true,
        }
    }

    /// Takes so many bytes of it. The first always fits, so that there is always progress.
    fn fits(&mut self, bytes: usize) -> bool {
        let fits = self.is_empty || bytes <= self.bytes;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_empty = false;
        fits
    }
}

/// Keys for each account, on all cores; those that came with keys keep them.
async fn derive(entries: Vec<Entry>, iterations: u32, cores: usize) -> Vec<(u64, ImportedAccount)> {
    let waiting = Arc::new(Mutex::new(entries.into_iter()));
    let workers: Vec<_> = (0..cores)
        .map(|_| {
            let waiting = Arc::clone(&waiting);
            tokio::task::spawn_blocking(move || {
                let mut done = Vec::new();
                loop {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .next();
                    match next {
                        Some(entry) => done.push(entry.account(iterations)),
                        None => return done,
                    }
                }
            })
        })
        .collect();
    let mut done = Vec::new();
    for worker in workers {
        // One that panicked has nothing to give: its accounts are missing at the next run.
        done.extend(worker.await.unwrap_or_default());
    }
    done.sort_unstable_by_key(|(line, _)| *line);
    done
}

impl Entry {
    fn account(self, iterations: u32) -> (u64, ImportedAccount) {
        let keys = match self.given {
            Given::Keys(keys) => keys,
            Given::Password(password) => {
                let keys = derive_all(&password.0, iterations);
                keys.iter().map(KeyText::of).collect()
            }
        };
        let jid = self.jid;
        (self.line, ImportedAccount { jid, keys })
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base64 => f.write_str("salt or key is not base64"),
            Self::Hash => {
                f.write_str("the hash is not SCRAM-SHA-1, SCRAM-SHA-256 or SCRAM-SHA-512")
            }
            Self::Iterations => {
                write!(f, "iterations are not {ITERATIONS_MIN} to {ITERATIONS_MAX}")
            }
            Self::Length => f.write_str("a key is not as long as its hash"),
            Self::None => f.write_str("there are no keys"),
            Self::Salt => write!(f, "the salt is not 1 to {SALT_BYTES_MAX} bytes"),
            Self::Twice => f.write_str("two lines give keys for one hash"),
        }
    }
}

impl std::error::Error for KeyError {}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(error) => error.fmt(f),
            Self::File(error) => write!(f, "cannot read the file: {error}"),
        }
    }
}

impl std::error::Error for ImportError {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} added, {} unchanged", self.added, self.unchanged)?;
        match self.failed {
            0 => Ok(()),
            failed => write!(f, ", {failed} failed"),
        }
    }
}

#[cfg(test)]
mod tests;
