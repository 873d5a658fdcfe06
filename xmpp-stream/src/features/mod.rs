//! Stream features: each file says how one is offered, recognised and answered, in both roles.
//!
//! The machines of `stream` decide when a feature is due; nothing here keeps state of a stream.

pub(crate) mod bidi;
pub(crate) mod bind;
pub(crate) mod csi;
pub mod dialback;
pub(crate) mod external;
pub mod handshake;
pub(crate) mod limits;
pub(crate) mod plain;
pub(crate) mod sasl;
pub mod scram;
pub mod sm;
pub(crate) mod starttls;
