//! One rendering for any number of recipients, and what stands in an outbox.

use super::{Kind, Stanza};
use crate::error::StreamError;
use crate::jid::FullJid;
use bytes::Bytes;
use std::sync::Arc;

/// What coalescing, CSI and the end of a session ask of an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Answers and requests.
    Iq,
    /// A message that can be passed on to another session (DESIGN 5 rule 8).
    Message,
    /// Anything of message kind that is dropped with its session (errors, headlines, copies).
    MessageVolatile,
    /// Availability: available or unavailable without `muc#user`; may be coalesced.
    Presence,
    /// Other presence (subscription, error, room).
    PresenceOther,
}

/// Which `to` the recipient sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum To {
    /// As the sender wrote it.
    AsWritten,
    /// The recipient's bare JID.
    Bare,
    /// The recipient's full JID.
    Full,
}

/// A stanza rendered once: `<` kind [` xmlns=`] [` to=`] head payload extra end tag.
#[derive(Debug)]
pub struct Rendered {/* stanza: Arc<Stanza>, class, head: Bytes, payload: Bytes, extra: Bytes */}

impl Rendered {
    /// Renders the head; the payload is shared.
    pub fn new(_stanza: Arc<Stanza>, _class: Class) -> Self {
        todo!()
    }
    /// The same with server-made children appended (already canonical in the stanza's namespace).
    pub fn with_extra(_stanza: Arc<Stanza>, _class: Class, _extra: Bytes) -> Self {
        todo!()
    }
    /// The stanza behind it.
    pub fn stanza(&self) -> &Arc<Stanza> {
        todo!()
    }
    /// Its class.
    pub fn class(&self) -> Class {
        todo!()
    }
    /// Kind of the stanza.
    pub fn kind(&self) -> Kind {
        todo!()
    }
    /// Bytes on the wire, about.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Appends the wire form. `recipient` fills `to` for `To::Bare` and `To::Full`.
    pub fn write(&self, _out: &mut Vec<u8>, _to: To, _recipient: Option<&FullJid>) {
        todo!()
    }
}

/// What stands in an outbox. `D` is the server's per-message delivery mark (DESIGN 4: `Delivery`); `()` elsewhere.
#[derive(Debug)]
pub enum Item<D = ()> {
    /// A rendering shared by several recipients.
    Shared(To, Arc<Rendered>, Option<Arc<D>>),
    /// A stanza for this recipient alone, written as it stands.
    One(Box<Stanza>),
    /// Bytes of an element that is no stanza.
    Nonza(Box<[u8]>),
    /// Close the stream with this error.
    Close(Box<StreamError>),
}
