//! Streams of external components (XEP-0114) as values: `Acceptor` on the server's side,
//! `Component` on the other.
//!
//! There is no TLS and no SASL: a component belongs to the server, and is let in by a secret over a
//! connection that nobody else can read. Stanzas name both addresses, as between servers; their
//! namespace is the stream's (DESIGN X6).

mod acceptor;
mod caller;
#[cfg(test)]
mod tests;

pub use crate::features::handshake::Secret;
pub use acceptor::{Acceptor, AcceptorConfig, Allowed};
pub use caller::{Component, ComponentConfig};

/// What streams of components ask and tell, beside what all streams do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// `Acceptor`: the component of this domain knows the secret; may it begin? Answer with
    /// `admitted`.
    Authenticated {
        /// The domain, in prepared form.
        domain: Box<str>,
    },
    /// Both sides: stanzas may flow.
    Established,
}
