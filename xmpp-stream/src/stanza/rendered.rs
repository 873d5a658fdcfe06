//! One rendering for any number of recipients, and what stands in an outbox.

use super::{Kind, Stanza};
use crate::error::StreamError;
use crate::jid::{FullJid, Jid};
use crate::ns;
use crate::xml::writer::write_attr;
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

/// A stanza rendered once: `<` kind \[` to=`\] head payload extra end tag.
#[derive(Debug)]
pub struct Rendered {
    stanza: Arc<Stanza>,
    class: Class,
    /// All attributes but `to`, and the end of the start tag.
    head: Vec<u8>,
    extra: Bytes,
}

impl Rendered {
    /// Renders the head; the payload is shared.
    #[must_use]
    pub fn new(stanza: Arc<Stanza>, class: Class) -> Self {
        Self::with_extra(stanza, class, Bytes::new())
    }
    /// The same with server-made children appended (already canonical in the stanza's namespace).
    #[must_use]
    pub fn with_extra(stanza: Arc<Stanza>, class: Class, extra: Bytes) -> Self {
        let empty = stanza.payload.is_empty() && extra.is_empty();
        let mut head = Vec::with_capacity(128);
        write_attrs(&stanza, &mut head);
        head.extend_from_slice(if empty { b"/>" } else { b">" });
        Self {
            stanza,
            class,
            head,
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
    /// Bytes on the wire, about.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a stanza is never empty")]
    pub fn len(&self) -> usize {
        // The tags of the longest kind and a `to` of usual length.
        64 + self.head.len() + self.stanza.payload.len() + self.extra.len()
    }
    /// Appends the wire form. `recipient` fills `to` for `To::Bare` and `To::Full`.
    pub fn write(&self, out: &mut Vec<u8>, to: To, recipient: Option<&FullJid>) {
        let kind = self.stanza.kind.as_str();
        out.reserve(self.len());
        out.push(b'<');
        out.extend_from_slice(kind.as_bytes());
        write_attr(
            out,
            "to",
            match to {
                To::AsWritten => self.stanza.head.to.as_ref().map(Jid::as_str),
                To::Bare => recipient.map(|jid| jid.bare_str()),
                To::Full => recipient.map(|jid| jid.as_str()),
            },
        );
        out.extend_from_slice(&self.head);
        if self.stanza.payload.is_empty() && self.extra.is_empty() {
            return;
        }
        out.extend_from_slice(&self.stanza.payload);
        out.extend_from_slice(&self.extra);
        write_end(out, kind);
    }
}

/// Appends one stanza as it stands, with nothing shared; `xmlns` where it is not inherited.
pub(super) fn write_stanza(stanza: &Stanza, xmlns: Option<&str>, out: &mut Vec<u8>) {
    let kind = stanza.kind.as_str();
    out.reserve(stanza.wire_len());
    out.push(b'<');
    out.extend_from_slice(kind.as_bytes());
    write_attr(out, "xmlns", xmlns);
    write_attr(out, "to", stanza.head.to.as_ref().map(Jid::as_str));
    write_attrs(stanza, out);
    if stanza.payload.is_empty() {
        out.extend_from_slice(b"/>");
        return;
    }
    out.push(b'>');
    out.extend_from_slice(&stanza.payload);
    write_end(out, kind);
}

fn write_end(out: &mut Vec<u8>, kind: &str) {
    out.extend_from_slice(b"</");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'>');
}

/// All attributes but `to`, in a fixed order (X8).
fn write_attrs(stanza: &Stanza, out: &mut Vec<u8>) {
    let head = &stanza.head;
    write_attr(out, "from", head.from.as_ref().map(Jid::as_str));
    write_attr(out, "id", head.id.as_deref());
    write_attr(out, "type", head.ty.as_str());
    write_attr(out, "xml:lang", head.lang.as_deref());
    let extra = head.extra.iter().flat_map(|extra| &extra.0);
    for (index, (ns, name, value)) in extra.enumerate() {
        match &**ns {
            "" => write_attr(out, name, Some(value)),
            ns::XML => write_attr(out, &format!("xml:{name}"), Some(value)),
            // One prefix an attribute: eight at most, so none is worth sharing.
            _ => {
                write_attr(out, &format!("xmlns:n{index}"), Some(ns));
                write_attr(out, &format!("n{index}:{name}"), Some(value));
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
