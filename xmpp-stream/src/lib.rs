//! XMPP streams as values.
#[cfg(feature = "tokio")]
pub mod driver;
pub mod error;
pub mod features;
pub mod id;
pub mod jid;
pub mod limits;
pub mod ns;
pub mod stanza;
pub mod stream;
#[cfg(feature = "tokio")]
pub mod tls;
#[cfg(feature = "tokio")]
mod transport;
pub mod xml;
