//! What both machines do while stanzas flow: signs of life, the idle timer, whose stanzas may pass.
//!
//! A stream in one direction has no ping: its answer would come on another one. With stream
//! management the peer is asked for an acknowledgement instead (RFC 6120 section 4.6, XEP-0198).

use super::{Event, Pair};
use crate::error::{StreamCondition, StreamError};
use crate::features::sm;
use crate::limits::Limits;
use crate::stanza::{Item, Stanza};
use crate::stream::Output;
use crate::stream::wire::Wire;
use crate::xml::Frame;
use std::time::{Duration, Instant};

/// What a peer says of its patience makes us look no more often.
const IDLE_LEAST: Duration = Duration::from_secs(10);

/// A stream on which stanzas flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// Last bytes of the peer.
    heard: Instant,
    /// Last stanza that came, or when the stream was last found in use.
    used: Instant,
    /// Something was sent since then.
    has_sent: bool,
    /// The peer was asked for an acknowledgement, due then.
    asked: Option<Instant>,
    /// Stream management is in use.
    managed: bool,
    /// A stanza has come.
    is_used: bool,
    silence_max: Duration,
    silence_answer_max: Duration,
    idle_max: Duration,
}

impl Flow {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            heard: now,
            used: now,
            has_sent: false,
            asked: None,
            managed: false,
            is_used: false,
            silence_max: limits.silence_max,
            silence_answer_max: limits.silence_answer_max,
            idle_max: limits.s2s.idle_max,
        }
    }

    pub(super) fn is_managed(&self) -> bool {
        self.managed
    }

    pub(super) fn set_managed(&mut self, managed: bool) {
        self.managed = managed;
    }

    /// Nothing of the session has happened yet: it may still be replaced by an earlier one.
    pub(super) fn is_fresh(&self) -> bool {
        !self.is_used && !self.managed
    }

    /// The peer closes when it has heard nothing for so long: an unused stream is told of before.
    pub(super) fn close_before(&mut self, idle: Duration) {
        // Whether anything was sent is found at every second look.
        self.idle_max = self.idle_max.min((idle / 2).max(IDLE_LEAST));
    }

    /// Bytes came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// A stanza came.
    pub(super) fn received(&mut self) {
        self.is_used = true;
        self.used = self.heard;
    }

    /// A stanza was sent.
    pub(super) fn sent(&mut self) {
        self.has_sent = true;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let silent = || self.heard.checked_add(self.silence_max);
        let sign = self.asked.or_else(|| self.managed.then(silent).flatten());
        let idle = self.used.checked_add(self.idle_max);
        sign.into_iter().chain(idle).min()
    }

    /// Asks a silent peer, gives up on one that does not answer, tells of a stream not used.
    pub(super) fn timeout(&mut self, wire: &mut Wire, now: Instant) -> Result<(), StreamError> {
        let is_over = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_over(self.asked) {
            return Err(StreamError::new(StreamCondition::ConnectionTimeout));
        }
        if self.managed && self.asked.is_none() && is_over(self.heard.checked_add(self.silence_max))
        {
            sm::write_ask(&mut wire.out);
            self.asked = now.checked_add(self.silence_answer_max);
        }
        if is_over(self.used.checked_add(self.idle_max)) {
            self.used = now;
            if !std::mem::take(&mut self.has_sent) {
                wire.tell(Output::Server(Event::Idle));
            }
        }
        Ok(())
    }
}

/// Appends an item; an error that ends the stream is given back instead.
pub(in crate::stream) fn write_item<D>(item: &Item<D>, out: &mut Vec<u8>) -> Option<StreamError> {
    match item {
        Item::Shared(to, rendered, _) => rendered.write(out, *to, None),
        Item::One(stanza) => stanza.write(out),
        Item::Nonza(bytes) => out.extend_from_slice(bytes),
        Item::Close(error) => return Some((**error).clone()),
    }
    None
}

/// The stanza of an item, if it is one.
pub(super) fn stanza_of<D>(item: &Item<D>) -> Option<&Stanza> {
    match item {
        Item::Shared(_, rendered, _) => Some(rendered.stanza()),
        Item::One(stanza) => Some(stanza),
        Item::Nonza(_) | Item::Close(_) => None,
    }
}

/// The domains of a stanza, or of what is left of one; without `to` where that is no address, which
/// is answered. `None`: its `from` is no address; it is dropped alone, as many share the stream.
pub(in crate::stream) fn domains(
    frame: &Frame,
) -> Result<Option<(&str, Option<&str>)>, StreamError> {
    let (head, is_whole) = match frame {
        Frame::Refused(refused) if refused.is_from_bad => return Ok(None),
        Frame::Refused(refused) => (&refused.head, false),
        Frame::Stanza(stanza) => (&stanza.head, true),
        _ => return Ok(None),
    };
    match (&head.from, &head.to) {
        (Some(from), Some(to)) => Ok(Some((from.domain(), Some(to.domain())))),
        (Some(from), None) if !is_whole => Ok(Some((from.domain(), None))),
        _ => Err(StreamError::new(StreamCondition::ImproperAddressing)),
    }
}

/// The pair of an item's addresses.
pub(super) fn pair_of(stanza: &Stanza) -> Option<Pair> {
    Some(Pair {
        from: stanza.head.from.as_ref()?.domain().into(),
        to: stanza.head.to.as_ref()?.domain().into(),
    })
}
