//! What both machines have in common below the protocol: input in frames, output in bytes.

use super::{CloseReason, Output, RandomSource};
use crate::error::StreamError;
use crate::id;
use crate::limits::XmlLimits;
use crate::ns;
use crate::stanza::Stanza;
use crate::xml::writer::{STREAM_END, StreamOpen};
use crate::xml::{Frame, Reader, XmlError};
use std::collections::VecDeque;

/// Reader, bytes to send, orders for the caller.
pub(super) struct Wire {
    reader: Reader,
    /// The content namespace of this stream.
    content_ns: &'static str,
    /// What the peer says stanzas are from is believed, or at least read.
    believes_from: bool,
    /// Input that came while the machine waited for its own side.
    pub(super) held: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) outputs: VecDeque<Output>,
    /// True once our opening tag of this stream is out.
    pub(super) opened: bool,
    random: RandomSource,
}

impl Wire {
    pub(super) fn new(limits: XmlLimits, random: RandomSource) -> Self {
        Self {
            reader: Reader::new(limits, ns::CLIENT),
            content_ns: ns::CLIENT,
            believes_from: false,
            held: Vec::new(),
            out: Vec::new(),
            outputs: VecDeque::new(),
            opened: false,
            random,
        }
    }

    /// The calling side's.
    pub(super) fn calling(limits: XmlLimits, random: RandomSource) -> Self {
        let mut wire = Self::new(limits, random);
        wire.believes_from = true;
        wire.reader.believe_from();
        wire
    }

    /// Of a stream on which another server, or a component, names both addresses.
    pub(super) fn between(
        content_ns: &'static str,
        limits: XmlLimits,
        random: RandomSource,
    ) -> Self {
        let mut wire = Self::new(limits, random);
        wire.content_ns = content_ns;
        wire.believes_from = true;
        wire.restart(limits);
        wire
    }

    /// Other limits for what follows on this stream.
    pub(super) fn set_limits(&mut self, limits: XmlLimits) {
        self.reader.set_limits(limits);
    }

    /// A new stream on the same connection (RFC 6120 section 4.3.3). Input behind the element that
    /// caused it belongs to the new stream.
    pub(super) fn restart(&mut self, limits: XmlLimits) {
        self.reader = Reader::new(limits, self.content_ns);
        if self.believes_from {
            self.reader.believe_from();
        }
        self.opened = false;
    }

    pub(super) fn next(&mut self, data: &mut &[u8]) -> Result<Option<Frame>, XmlError> {
        self.reader.next(data)
    }

    pub(super) fn set_default_lang(&mut self, lang: Option<&str>) {
        self.reader.set_default_lang(lang);
    }

    /// 128 unpredictable bits as text: stream ids, nonces, stanza ids.
    pub(super) fn token(&mut self) -> String {
        id::stream_id(&mut *self.random)
    }

    pub(super) fn open(&mut self, opening: &StreamOpen<'_>) {
        opening.write(&mut self.out);
        self.opened = true;
    }

    pub(super) fn stanza(&mut self, stanza: &Stanza) {
        stanza.write(&mut self.out);
    }

    pub(super) fn tell(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// The last order: input is dropped, and what is written so far is all that is ever sent.
    pub(super) fn over(&mut self, reason: CloseReason) {
        self.held = Vec::new();
        self.tell(Output::Closed(reason));
    }

    /// Error and closing tag (RFC 6120 section 4.9.1.1). The opening tag has to be out.
    pub(super) fn write_error(&mut self, error: &StreamError) {
        self.out.extend_from_slice(error.to_xml().as_bytes());
        self.footer();
    }

    pub(super) fn footer(&mut self) {
        self.out.extend_from_slice(STREAM_END.as_bytes());
    }

    pub(super) fn take_bytes(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() {
            std::mem::swap(out, &mut self.out);
        } else {
            out.append(&mut self.out);
        }
    }

    /// Frees what an idle stream does not need.
    pub(super) fn release(&mut self) {
        self.reader.release();
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        if self.outputs.is_empty() {
            self.outputs = VecDeque::new();
        }
    }
}
