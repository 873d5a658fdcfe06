//! XMPP client: connect, send stanza, stanza received, disconnect.
//!
//! A bot that gives back what it hears:
//!
//! ```no_run
//! use xmpp_client::{Stanza, XmppClient};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = XmppClient::builder("bot@localhost")
//!     .password("secret")
//!     .ca_file("xmpp-data/ca/ca.pem")
//!     .connect()
//!     .await?;
//! client.send_stanza(Stanza::presence(xmpp_client::Ty::None)).await?;
//! while let Some(stanza) = client.next_stanza().await {
//!     if stanza.head.ty == xmpp_client::Ty::Error {
//!         continue; // an answer to an error would come back for ever
//!     }
//!     if let (Some(from), Some(body)) = (&stanza.head.from, stanza.body()) {
//!         client.send_stanza(Stanza::chat(from.as_str(), &body)?).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! That is the lower half: [`XmppClient`] takes stanzas and gives stanzas. [`XmppProtocol`] on top of
//! it knows messages, presence, contacts and accounts; [`ext`] has one file an extension. docs/CLIENT.md
//! is a short guide, docs/AGSXMPP.md one for those who come from there.
//!
//! One task, the listener, owns the stream and always reads; clients are cheap clones that reach it
//! over a queue. Each receiver of events has a bounded queue of its own. Passwords, SASL data and
//! bodies are never logged.
//!
//! A client stays when its connection is lost: it connects again, with growing delays, and resumes
//! the stream (XEP-0198), or begins a new session with the same presence. What the server has not
//! acknowledged is sent again or handed back; what is sent meanwhile waits. `Event` tells of it, and
//! `Reconnect`, `refuse_offline` and `send_acked` say it otherwise.

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod client;
mod config;
mod connect;
mod error;
mod event;
pub mod ext;
mod guest;
mod handlers;
mod identity;
mod limits;
mod listener;
mod mailbox;
mod negotiate;
mod outbox;
mod pins;
mod protocol;
mod reconnect;
mod request;
mod route;
mod session;
mod shared;
mod tried;
mod trust;
mod unacked;

pub use client::{WeakXmppClient, XmppClient};
pub use config::Builder;
pub use error::{Closed, ConnectError, IqError, NotAcked, NotAckedReason, Step};
pub use event::{Callback, Event, Events};
pub use guest::Guest;
pub use handlers::{IqAnswer, IqHandler};
pub use identity::OwnCertificateError;
pub use limits::Limits;
pub use pins::Pins;
pub use protocol::{
    Action, Availability, ChatState, Command, CommandNote, CommandReply, CommandStatus, Contact,
    EntityTime, Found, ImCallback, ImEvent, ImEvents, Message, MessageKind, Options, Outgoing,
    Photo, Presence, ProtocolLimits, Questions, RegisterError, Registered, RosterCache, Show,
    Software, Subscription, Text, VCard, XmppProtocol,
};
pub use reconnect::Reconnect;
pub use tried::{Attempt, Tried};
pub use trust::{CertificateFault, Pin, PinError};
pub use xmpp_stream::error::{StanzaCondition, StanzaError};
pub use xmpp_stream::jid::{BareJid, FullJid, Jid};
pub use xmpp_stream::payload;
pub use xmpp_stream::resolve::{Candidate, Dns, Host, Place, Resolver};
pub use xmpp_stream::stanza::{Kind, Stanza, Ty};
pub use xmpp_stream::stream::{CloseReason, Failure};
pub use xmpp_stream::xml::Element;

/// The snippets of the guides are tested with the code; those of the README by the test kit.
#[cfg(doctest)]
#[doc = include_str!("../../docs/CLIENT.md")]
mod guide {}
#[cfg(doctest)]
#[doc = include_str!("../../docs/AGSXMPP.md")]
mod agsxmpp {}
