//! Placeholder until the store lands.
#![allow(missing_docs, dead_code, clippy::todo)]
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::StoredKeys;
#[derive(Clone)]
pub enum Store {
    Memory(()),
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    Failed,
}
impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitError {
    Expect,
    Failed,
    TimedOut,
}
pub struct Ticket;
impl std::future::Future for Ticket {
    type Output = Result<(), CommitError>;
    fn poll(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        todo!()
    }
}
#[derive(Debug, Clone)]
pub struct Ban {
    pub reason: Option<String>,
}
pub struct AccountRecord {
    pub keys: Vec<Arc<StoredKeys>>,
    pub banned: Option<Ban>,
    pub created: u64,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription {
    None,
    To,
    From,
    Both,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterRow {
    pub jid: BareJid,
    pub name: Option<Box<str>>,
    pub groups: Vec<Box<str>>,
    pub subscription: Subscription,
    pub ask: bool,
    pub pending_in: Option<Bytes>,
    pub approved: bool,
}
pub struct RosterRecord {
    pub ver: u64,
    pub items: Vec<RosterRow>,
}
pub struct KvRecord {
    pub ver: u64,
    pub val: Bytes,
}
#[derive(Clone)]
pub enum WriteOp {
    AccountCreate {
        account: BareJid,
        keys: Vec<StoredKeys>,
        created: u64,
    },
    AccountKeys {
        account: BareJid,
        keys: Vec<StoredKeys>,
    },
    AccountRemove {
        account: BareJid,
    },
    Roster {
        account: BareJid,
        item: RosterRow,
        expect: Option<u64>,
        ver: u64,
    },
    RosterRemove {
        account: BareJid,
        jid: BareJid,
        expect: Option<u64>,
        ver: u64,
    },
    Kv {
        space: &'static str,
        owner: BareJid,
        key: String,
        val: Option<Bytes>,
        expect: Option<Option<u64>>,
    },
}
impl Store {
    pub async fn account(&self, _: &BareJid) -> Result<Option<Arc<AccountRecord>>, StoreError> {
        todo!()
    }
    pub async fn roster(&self, _: &BareJid) -> Result<RosterRecord, StoreError> {
        todo!()
    }
    pub async fn kv(&self, _: &str, _: &BareJid, _: &str) -> Result<Option<KvRecord>, StoreError> {
        todo!()
    }
    pub async fn secret(&self) -> Result<[u8; 32], StoreError> {
        todo!()
    }
    pub fn submit(&self, _: SmallVec<[WriteOp; 4]>) -> Ticket {
        todo!()
    }
    pub async fn close(&self) {
        todo!()
    }
}
impl std::fmt::Debug for WriteOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriteOp")
    }
}
