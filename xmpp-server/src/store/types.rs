//! What the store keeps, what can be written to it, and what can go wrong (DESIGN 7 and 10).

use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;
use smallvec::SmallVec;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::{ScramHash, StoredKeys};

use super::row::{MessageRow, RowId, Sent};

/// The operations of one submit: committed together or not at all.
pub type Ops = SmallVec<[WriteOp; 4]>;

/// A local account.
#[derive(Clone)]
pub struct AccountRecord {
    /// SCRAM keys, at most one set for each hash; never a password.
    pub keys: Vec<Arc<StoredKeys>>,
    /// Set while the account may not sign in.
    pub banned: Option<Ban>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// What a stranger who asks for the salts of a domain's accounts would find.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySurvey {
    /// Accounts of the domain.
    pub accounts: u64,
    /// Their keys by what shows of them, in the order of the fields.
    pub shapes: Vec<(KeyShape, u64)>,
}

/// What shows of a key before anybody has proved anything.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyShape {
    /// 1, 256 or 512: which hash it is for.
    pub hash: u16,
    /// PBKDF2 iterations.
    pub iterations: u32,
    /// Length of its salt.
    pub salt_bytes: usize,
}

impl KeyShape {
    /// That of a key.
    #[must_use]
    pub fn of(keys: &StoredKeys) -> Self {
        Self {
            hash: hash_number(keys.hash),
            iterations: keys.iterations,
            salt_bytes: keys.salt.len(),
        }
    }
}

/// The number of a hash in the store.
pub(crate) fn hash_number(hash: ScramHash) -> u16 {
    match hash {
        ScramHash::Sha1 => 1,
        ScramHash::Sha256 => 256,
        ScramHash::Sha512 => 512,
    }
}

/// An operator's decision to keep an account out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ban {
    /// Shown to the operator.
    pub reason: Option<String>,
}

/// A value in a module's key space.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KvRecord {
    /// Rises with every write of any key, so that a value made anew is never taken for an old one.
    pub ver: u64,
    /// The value.
    pub val: Bytes,
}

/// All that a loaded account begins with.
#[derive(Clone)]
pub struct Loaded {
    /// The account itself, if there is one.
    pub record: Option<Arc<AccountRecord>>,
    /// Its roster.
    pub roster: RosterRecord,
    /// Messages that wait for it.
    pub due: Vec<RowId>,
    /// The value that was asked for beside them.
    pub value: Option<KvRecord>,
}

/// A whole roster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RosterRecord {
    /// Version of the last change; 0: never changed.
    pub ver: u64,
    /// Items in the order of their JIDs, also those that are only a pending request.
    pub items: Vec<RosterRow>,
    /// Removed items that are remembered, with the version at which each went, oldest first.
    pub removed: Vec<(u64, BareJid)>,
    /// Removals up to this version may have been forgotten.
    pub forgotten: u64,
}

/// One contact, with all that RFC 6121 section 3 and appendix A want remembered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RosterRow {
    /// The contact.
    pub jid: BareJid,
    /// Version of the roster when what shows of this item last changed.
    pub ver: u64,
    /// Handle given by the account.
    pub name: Option<Box<str>>,
    /// Groups, without repetition.
    pub groups: Vec<Box<str>>,
    /// Who sees whose presence.
    pub subscription: Subscription,
    /// An outbound request waits for its answer ("Pending Out").
    pub ask: bool,
    /// Canonical bytes of an inbound request that waits for its answer ("Pending In").
    pub pending_in: Option<Bytes>,
    /// A request by the contact is approved in advance (RFC 6121 section 3.4).
    pub approved: bool,
}

impl RosterRow {
    /// True when the row is a roster item, false when it only keeps a pending inbound request.
    /// Listed rows that keep a request too have a name, empty if the account gave none.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.pending_in.is_none()
            || self.name.is_some()
            || self.subscription != Subscription::None
            || self.ask
            || self.approved
            || !self.groups.is_empty()
    }

    /// Both look the same to a client (RFC 6121 section 2.6.3: what would bring a push).
    pub(crate) fn shows_as(&self, other: &Self) -> bool {
        let name = |row: &Self| row.name.as_deref().unwrap_or_default().to_owned();
        self.is_listed() == other.is_listed()
            && (self.subscription, self.ask, self.approved)
                == (other.subscription, other.ask, other.approved)
            && name(self) == name(other)
            && self.groups == other.groups
    }
}

/// The `subscription` attribute of a roster item (RFC 6121 section 2.1.2.5).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Subscription {
    /// Neither sees the other.
    #[default]
    None,
    /// The account sees the contact.
    To,
    /// The contact sees the account.
    From,
    /// Both see each other.
    Both,
}

/// One change.
#[derive(Clone)]
pub enum WriteOp {
    /// Makes an account, with nothing left of an earlier one of that name; `Expect` when it exists.
    AccountCreate {
        /// Its address.
        account: BareJid,
        /// Its keys.
        keys: Vec<StoredKeys>,
        /// Seconds since 1970.
        created: u64,
    },
    /// Replaces the keys of an account; `Expect` when there is none.
    AccountKeys {
        /// Its address.
        account: BareJid,
        /// The new keys.
        keys: Vec<StoredKeys>,
    },
    /// Removes an account and every row it owns.
    AccountRemove {
        /// Its address.
        account: BareJid,
    },
    /// Keeps an account from signing in; `Expect` when there is none.
    AccountBan {
        /// Its address.
        account: BareJid,
        /// Why.
        reason: Option<String>,
    },
    /// Lets an account sign in again; `Expect` when there is none.
    AccountUnban {
        /// Its address.
        account: BareJid,
    },
    /// Adds or replaces a roster item.
    Roster {
        /// Whose roster.
        account: BareJid,
        /// The item as it will be.
        item: RosterRow,
        /// The roster's version before, where it matters.
        expect: Option<u64>,
        /// The roster's version after.
        ver: u64,
    },
    /// Removes a roster item, if it is there.
    RosterRemove {
        /// Whose roster.
        account: BareJid,
        /// Which contact.
        jid: BareJid,
        /// The roster's version before, where it matters.
        expect: Option<u64>,
        /// The roster's version after.
        ver: u64,
        /// The removal is remembered for clients that have an older version.
        remember: bool,
        /// Removals up to this version are no longer remembered.
        forgotten: u64,
    },
    /// Keeps a message: its row is due from here on; `Expect` when there is no such account. A pair
    /// of domains (`is_link`) owns what is on its way from one to the other.
    Message {
        /// Whose message.
        account: BareJid,
        /// Number and content.
        row: MessageRow,
        /// Given when its sender may send it again (stream management).
        sent: Option<Box<Sent>>,
    },
    /// Writes or deletes a value in a module's key space.
    Kv {
        /// The key space; one module's own.
        space: &'static str,
        /// Whose value; it goes when this account goes.
        owner: BareJid,
        /// Which value.
        key: String,
        /// The new value; `None` deletes.
        val: Option<Bytes>,
        /// `Some(None)`: there must be no value; `Some(Some(ver))`: it must have this version.
        expect: Option<Option<u64>>,
    },
}

/// Why a submit was not committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CommitError {
    /// A compare-and-set found something else; read again and decide again.
    Expect,
    /// The store failed, is full of waiting writes, or is closed. Nothing was written.
    Failed,
    /// No answer within the time a ticket waits; the write may still take effect.
    TimedOut,
}

/// Why the store could not be opened or read.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The store is closed.
    Closed,
    /// A row holds something that no version of this program writes.
    Corrupt {
        /// Which table.
        table: &'static str,
    },
    /// The database failed; the details are in the log.
    Database {
        /// SQLite's extended result code; 0 where it gave none.
        code: i32,
    },
    /// The file cannot be made or opened.
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no random bytes.
    Random,
    /// The store did not get to it within the time a ticket waits.
    TimedOut,
    /// The store was written by a newer version of this program.
    TooNew {
        /// Schema number of the file.
        found: u32,
        /// The newest schema number known here.
        known: u32,
    },
}

/// First character of the owner of messages to another domain: no account's name may have it
/// (RFC 8265 section 3.3), so it is nobody's.
pub(crate) const LINK_MARK: char = '\u{2192}';

/// The owner stands for a pair of domains, not for an account: it need not be made first.
pub(crate) fn is_link(owner: &BareJid) -> bool {
    owner
        .local()
        .is_some_and(|local| local.starts_with(LINK_MARK))
}

impl WriteOp {
    /// Whose rows it touches.
    pub(crate) fn owner(&self) -> &BareJid {
        match self {
            Self::AccountCreate { account, .. }
            | Self::AccountKeys { account, .. }
            | Self::AccountRemove { account }
            | Self::AccountBan { account, .. }
            | Self::AccountUnban { account }
            | Self::Roster { account, .. }
            | Self::RosterRemove { account, .. }
            | Self::Message { account, .. } => account,
            Self::Kv { owner, .. } => owner,
        }
    }

    /// Roughly how many bytes it holds, for the bounds of the queue.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Self::AccountCreate { keys, .. } | Self::AccountKeys { keys, .. } => {
                keys.iter().map(key_bytes).sum()
            }
            Self::AccountRemove { .. }
            | Self::AccountUnban { .. }
            | Self::AccountBan { reason: None, .. }
            | Self::RosterRemove { .. } => 0,
            Self::AccountBan {
                reason: Some(reason),
                ..
            } => reason.len(),
            Self::Roster { item, .. } => row_bytes(item),
            Self::Message { row, sent, .. } => {
                row.stanza.len() + sent.as_ref().map_or(0, |_| size_of::<Sent>())
            }
            Self::Kv { key, val, .. } => key.len() + val.as_ref().map_or(0, Bytes::len),
        };
        size_of::<Self>() + content
    }
}

/// Names the operation and whose it is; keys and values stay out of every log.
impl fmt::Debug for WriteOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccountCreate { account, .. } => write!(f, "AccountCreate({account})"),
            Self::AccountKeys { account, .. } => write!(f, "AccountKeys({account})"),
            Self::AccountRemove { account } => write!(f, "AccountRemove({account})"),
            Self::AccountBan { account, .. } => write!(f, "AccountBan({account})"),
            Self::AccountUnban { account } => write!(f, "AccountUnban({account})"),
            Self::Roster {
                account,
                item,
                expect,
                ver,
            } => {
                write!(f, "Roster({account}, {item:?}, {expect:?} -> {ver})")
            }
            Self::RosterRemove {
                account,
                jid,
                expect,
                ver,
                ..
            } => {
                write!(f, "RosterRemove({account}, {jid}, {expect:?} -> {ver})")
            }
            Self::Message { account, row, .. } => {
                write!(
                    f,
                    "Message({account}, {}, {} bytes)",
                    row.id,
                    row.stanza.len()
                )
            }
            Self::Kv {
                space,
                owner,
                key,
                val,
                expect,
            } => {
                let bytes = val.as_ref().map(Bytes::len);
                write!(
                    f,
                    "Kv({space}, {owner}, {key:?}, {bytes:?} bytes, {expect:?})"
                )
            }
        }
    }
}

fn key_bytes(keys: &StoredKeys) -> usize {
    size_of::<StoredKeys>() + keys.salt.len() + keys.stored_key.len() + keys.server_key.len()
}

fn row_bytes(row: &RosterRow) -> usize {
    let groups: usize = row
        .groups
        .iter()
        .map(|group| size_of::<Box<str>>() + group.len())
        .sum();
    let name = row.name.as_ref().map_or(0, |name| name.len());
    groups + name + row.jid.as_str().len() + row.pending_in.as_ref().map_or(0, Bytes::len)
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expect => "the stored state has changed meanwhile",
            Self::Failed => "the store could not write",
            Self::TimedOut => "the store did not answer in time",
        })
    }
}

impl std::error::Error for CommitError {}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the store is closed"),
            Self::Corrupt { table } => write!(f, "a row of table {table} cannot be read"),
            Self::Database { code } => write!(f, "the database failed (SQLite code {code})"),
            Self::Io { path, .. } => write!(f, "cannot open {}", path.display()),
            Self::Random => f.write_str("the system gives no random bytes"),
            Self::TimedOut => f.write_str("the store did not answer in time"),
            Self::TooNew { found, known } => write!(
                f,
                "the store was written by a newer version of this program: it has schema {found}, \
                 the newest known here is {known}"
            ),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
