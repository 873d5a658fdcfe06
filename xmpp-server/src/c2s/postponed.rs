//! What a client said while something else of its was in hand, in order.

use crate::limits::Limits;
use std::collections::VecDeque;
use xmpp_stream::stream::Output;

/// Outputs of the machine that wait for their turn.
#[derive(Default)]
pub(super) struct Postponed {
    outputs: VecDeque<Output>,
    bytes: usize,
    stanzas: u32,
}

impl Postponed {
    /// Appends one.
    pub(super) fn push(&mut self, output: Output) {
        self.bytes += bytes(&output);
        self.stanzas += u32::from(is_stanza(&output));
        self.outputs.push_back(output);
    }

    /// The first one.
    pub(super) fn pop(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        self.bytes = self.bytes.saturating_sub(bytes(&output));
        self.stanzas -= u32::from(is_stanza(&output));
        Some(output)
    }

    /// Stanzas among them: they will count as handled one day.
    pub(super) fn stanzas(&self) -> u32 {
        self.stanzas
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// As much waits as may: nothing more is read.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.outputs.len() >= limits.stanzas_pending_max
            || self.bytes >= limits.stanza_bytes_pending_max
    }
}

fn is_stanza(output: &Output) -> bool {
    matches!(
        output,
        Output::Stanza(_) | Output::Refused(_) | Output::Handled(_)
    )
}

fn bytes(output: &Output) -> usize {
    match output {
        Output::Stanza(stanza) => stanza.wire_len(),
        _ => 0,
    }
}
