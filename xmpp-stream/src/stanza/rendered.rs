//! One rendering for any number of recipients, and what stands in an outbox (DESIGN 4).
//!
//! The content namespace of the stream is the default one, so a stanza carries no `xmlns`, and the
//! same bytes are right for every recipient; only `to` may differ.

use super::{Head, Kind, Stanza};
use crate::error::StreamError;
use crate::jid::{FullJid, Jid};
use crate::ns;
use crate::xml::canon::escape_value;
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

/// A stanza rendered once: `<` kind [` to=`] head payload extra end tag.
#[derive(Debug)]
pub struct Rendered {
    stanza: Arc<Stanza>,
    class: Class,
    /// ` from=… id=… type=… xml:lang=…` and unknown attributes.
    head: Bytes,
    /// Server-made children for these recipients, canonical in the stanza's namespace.
    extra: Bytes,
}

impl Rendered {
    /// Renders the head; the payload is shared.
    #[must_use]
    pub fn new(stanza: Arc<Stanza>, class: Class) -> Self {
        Self::with_extra(stanza, class, Bytes::new())
    }

    /// The same with server-made children appended (canonical in the stanza's namespace).
    #[must_use]
    pub fn with_extra(stanza: Arc<Stanza>, class: Class, extra: Bytes) -> Self {
        let mut head = Vec::with_capacity(192);
        write_head(&mut head, &stanza.head);
        Self {
            head: head.into(),
            stanza,
            class,
            extra,
        }
    }

    /// The stanza behind it.
    #[must_use]
    pub fn stanza(&self) -> &Arc<Stanza> {
        &self.stanza
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Kind of the stanza.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.stanza.kind
    }

    /// Bytes on the wire, about (`to` is counted as 64).
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a rendering is never empty")]
    pub fn len(&self) -> usize {
        self.head.len() + self.stanza.payload.len() + self.extra.len() + 84
    }

    /// Appends the wire form. `recipient` fills `to` for `To::Bare` and `To::Full`.
    pub fn write(&self, out: &mut Vec<u8>, to: To, recipient: Option<&FullJid>) {
        out.reserve(self.len());
        let kind = self.stanza.kind.as_str();
        out.push(b'<');
        out.extend_from_slice(kind.as_bytes());
        match (to, recipient) {
            (To::Bare, Some(jid)) => write_attr(out, "to", jid.bare_str()),
            (To::Full, Some(jid)) => write_attr(out, "to", jid.as_str()),
            _ => {
                if let Some(jid) = &self.stanza.head.to {
                    write_attr(out, "to", jid.as_str());
                }
            }
        }
        out.extend_from_slice(&self.head);
        if self.stanza.payload.is_empty() && self.extra.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        out.extend_from_slice(&self.stanza.payload);
        out.extend_from_slice(&self.extra);
        out.extend_from_slice(b"</");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'>');
    }
}

impl Stanza {
    /// Appends the wire form as it stands, for a stanza that has one recipient.
    pub fn write(&self, out: &mut Vec<u8>) {
        let kind = self.kind.as_str();
        out.reserve(self.wire_len());
        out.push(b'<');
        out.extend_from_slice(kind.as_bytes());
        if let Some(to) = &self.head.to {
            write_attr(out, "to", to.as_str());
        }
        write_head(out, &self.head);
        if self.payload.is_empty() {
            out.extend_from_slice(b"/>");
            return;
        }
        out.push(b'>');
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b"</");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'>');
    }
}

fn write_attr(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape_value(out, value);
    out.push(b'\'');
}

/// Everything but `to`.
fn write_head(out: &mut Vec<u8>, head: &Head) {
    let attrs = [
        ("from", head.from.as_ref().map(Jid::as_str)),
        ("id", head.id.as_deref()),
        ("type", head.ty.as_str()),
        ("xml:lang", head.lang.as_deref()),
    ];
    for (name, value) in attrs {
        if let Some(value) = value {
            write_attr(out, name, value);
        }
    }
    let extra = head.extra.iter().flat_map(|extra| &extra.0);
    for (index, (ns, name, value)) in extra.enumerate() {
        match &**ns {
            "" => write_attr(out, name, value),
            ns::XML => write_attr(out, &format!("xml:{name}"), value),
            ns => {
                // One prefix an attribute: the same namespace may be declared twice under two names.
                write_attr(out, &format!("xmlns:n{index}"), ns);
                write_attr(out, &format!("n{index}:{name}"), value);
            }
        }
    }
}

/// What stands in an outbox. `D` is the server's per-message delivery mark; `()` elsewhere.
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
