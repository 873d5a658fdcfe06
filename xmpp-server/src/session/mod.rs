//! Sessions: a bound resource, its account, and the queue of what it is to receive.

pub mod account;
pub mod outbox;
pub mod registry;

/// A session's number: 128 random bits, so that nodes never agree on one by chance.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Sid(pub u128);
