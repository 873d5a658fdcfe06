//! XMPP streams as values: XML, stanzas, negotiation, TLS and SASL; no accounts, no routing.
//!
//! A stream is an endless XML document in each direction, which begins anew after TLS and after
//! login (RFC 6120 section 4). The two machines that negotiate it, [`stream::Responder`] for who was
//! called and [`stream::Initiator`] for who called, hold no socket, clock or task: bytes and time go
//! in, bytes and decisions come out.
//!
//! ```text
//!                ┌───────────────────────┐
//!       bytes ──►│                       │──► Output::…  what the caller must do or learn
//!    verdicts ──►│ Responder / Initiator │──► bytes to send
//!         now ──►│                       │──► next deadline
//!                └───────────────────────┘
//! ```
//!
//! After each call poll the outputs until there are none. With the feature `tokio` (on by default)
//! `driver` does all this over a socket; without it the crate has no runtime.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Instant;
//! use xmpp_stream::limits::Limits;
//! use xmpp_stream::stream::{
//!     HostView, Hosts, Machine, Output, Responder, ResponderConfig, ScramHash, TlsRule,
//! };
//!
//! struct OneDomain;
//!
//! impl Hosts for OneDomain {
//!     fn host(&self, domain: &str) -> Option<HostView> {
//!         (domain == "example.org").then(|| HostView {
//!             domain: domain.into(),
//!             hashes: vec![ScramHash::Sha256],
//!             plain: false,
//!             guest_ns: Arc::new([]),
//!             features_before_auth: Default::default(),
//!             features_after_auth: Default::default(),
//!         })
//!     }
//!
//!     fn fallback(&self) -> Box<str> {
//!         "example.org".into()
//!     }
//! }
//!
//! # fn main() {
//! let config = ResponderConfig {
//!     hosts: Arc::new(OneDomain),
//!     limits: Arc::new(Limits::default()),
//!     tls: TlsRule::Required,
//!     downgrade_protection: true,
//!     manage: true,
//! };
//! # #[expect(clippy::disallowed_methods, reason = "the caller's clock")]
//! let now = Instant::now();
//! let random = Box::new(|bytes: &mut [u8]| bytes.fill(7)); // the system's, outside of examples
//! let mut machine = Responder::new(config, random, now);
//!
//! machine.handle_bytes(
//!     b"<stream:stream to='example.org' version='1.0' xmlns='jabber:client' \
//!       xmlns:stream='http://etherx.jabber.org/streams'>",
//!     now,
//! );
//! let mut out = Vec::new();
//! machine.take_bytes(&mut out);
//! assert!(String::from_utf8_lossy(&out).contains("<starttls"));
//!
//! machine.handle_bytes(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", now);
//! assert!(matches!(machine.poll_output(), Some(Output::StartTls { .. })));
//! assert!(!machine.wants_input()); // until `tls_established`
//! # }
//! ```

#[cfg(feature = "tokio")]
pub mod dial;
#[cfg(feature = "tokio")]
pub mod driver;
pub mod error;
pub mod features;
pub mod id;
pub mod jid;
pub mod limits;
pub mod ns;
pub mod payload;
#[cfg(feature = "tokio")]
pub mod resolve;
pub mod stanza;
pub mod stream;
#[cfg(feature = "tokio")]
pub mod tls;
#[cfg(feature = "tokio")]
mod transport;
pub mod xml;
