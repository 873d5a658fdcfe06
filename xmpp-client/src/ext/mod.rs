//! Extensions: one file a XEP, plain asynchronous functions: client and plain values in, plain
//! values out. Nothing here keeps state or runs by itself.
//!
//! A function that asks takes the client first. What comes unasked (a carbon, a notification, a
//! room's presence) is read by a function that takes who we are, and the stanza: it gives a typed
//! value, nothing where the stanza is about something else, and an error where it is forged.

pub mod blocking;
pub mod bookmarks;
pub mod carbons;
pub mod disco;
pub mod mam;
pub mod muc;
pub mod pep;
pub mod ping;
pub mod pubsub;
pub mod upload;

use crate::client::XmppClient;
use crate::error::IqError;
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use xmpp_stream::jid::{FullJid, Jid};
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// Why a request of an extension has no result.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no answer, or it is an error.
    Iq(IqError),
    /// The answer is a result, but not one that the extension allows; what is wrong with it.
    Malformed(&'static str),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iq(error) => write!(f, "{error}"),
            Self::Malformed(what) => write!(f, "the answer cannot be used: {what}"),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<IqError> for RequestError {
    fn from(error: IqError) -> Self {
        Self::Iq(error)
    }
}

/// A stanza that says something only another may say; it is not acted on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forged {
    /// Who sent it.
    pub from: Option<Jid>,
}

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            Some(from) => write!(f, "{} may not say this", from.as_str()),
            None => f.write_str("whoever sent this may not say it"),
        }
    }
}

impl std::error::Error for Forged {}

/// Sends a get; gives the payload of the result.
pub(crate) async fn get(
    client: &XmppClient,
    to: Option<&Jid>,
    payload: &Element,
) -> Result<Option<Element>, IqError> {
    ask(client, Ty::Get, to, payload).await
}

/// Sends a set; gives the payload of the result.
pub(crate) async fn set(
    client: &XmppClient,
    to: Option<&Jid>,
    payload: &Element,
) -> Result<Option<Element>, IqError> {
    ask(client, Ty::Set, to, payload).await
}

async fn ask(
    client: &XmppClient,
    ty: Ty,
    to: Option<&Jid>,
    payload: &Element,
) -> Result<Option<Element>, IqError> {
    let result = client.send_iq(request(ty, to, payload)).await?;
    Ok(result.first_element())
}

/// An IQ without an id: `send_iq` makes one.
pub(crate) fn request(ty: Ty, to: Option<&Jid>, payload: &Element) -> Stanza {
    let mut iq = Stanza::new(Kind::Iq, ty).with_child(payload);
    iq.head.to = to.cloned();
    iq
}

/// The payload that the extension says a result has.
pub(crate) fn expect(
    payload: Option<Element>,
    ns: &str,
    name: &str,
) -> Result<Element, RequestError> {
    match payload {
        Some(payload) if payload.is(ns, name) => Ok(payload),
        Some(_) => Err(RequestError::Malformed("another payload was expected")),
        None => Err(RequestError::Malformed("it has no payload")),
    }
}

/// The sender speaks for the own account: its bare JID, or nobody named (RFC 6120 section 8.1.2.1).
pub(crate) fn is_from_own_account(own: &FullJid, stanza: &Stanza) -> bool {
    match &stanza.head.from {
        None => true,
        Some(from) => from == own.as_jid().to_bare().as_jid(),
    }
}

/// An id that nobody can guess, if the system gives random bytes; one not yet used in any case.
pub(crate) fn fresh_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0_u8; 12];
    // That there is a source was seen when connecting.
    let _ = SystemRandom::new().fill(&mut bytes);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = &mut |out: &mut [u8]| out.copy_from_slice(&bytes);
    format!("{}{count}", xmpp_stream::id::stanza_id(random))
}
