//! What the messaging logic tells the program, and how it gets there.

use super::message::Message;
use super::presence::Presence;
use super::roster::Contact;
use crate::error::NotAcked;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::stream::{CloseReason, Failure};

/// Something that happened in the account.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ImEvent {
    /// A stream is bound; `resumed`: it goes on where the last one was cut.
    Connected {
        /// The bound JID.
        jid: FullJid,
        /// Nothing was lost, and everybody still sees us.
        resumed: bool,
    },
    /// A message with something to read, also one of our own from another device.
    Message(Box<Message>),
    /// A message that we sent was not delivered.
    MessageFailed {
        /// Whom it was sent to, or who refused it.
        from: Option<Jid>,
        /// The id that `send_message` gave.
        id: Option<String>,
        /// Why.
        error: StanzaError,
    },
    /// A message that we sent has arrived at a device of its recipient.
    ReceiptReceived {
        /// The device.
        from: Jid,
        /// The id that `send_message` gave.
        id: String,
    },
    /// What somebody does in their chat with us.
    ChatState {
        /// Who.
        from: Jid,
        /// What.
        state: ChatState,
    },
    /// Somebody's availability has changed.
    Presence(Box<Presence>),
    /// A presence that we sent was refused, or that of this entity cannot be had.
    PresenceFailed {
        /// Whose.
        from: Option<Jid>,
        /// Why.
        error: StanzaError,
    },
    /// Somebody wants to see our presence: `approve` or `refuse`. Nothing is approved by itself.
    SubscriptionRequest {
        /// Who.
        from: BareJid,
        /// What they say to it.
        text: Option<String>,
    },
    /// Somebody lets us see their presence.
    Subscribed {
        /// Who.
        from: BareJid,
    },
    /// Somebody no longer wants to see our presence.
    Unsubscribed {
        /// Who.
        from: BareJid,
    },
    /// Somebody does not, or no longer, let us see their presence.
    SubscriptionRefused {
        /// Who.
        from: BareJid,
    },
    /// The roster has come, as a whole.
    RosterReceived,
    /// A contact was added or changed.
    RosterChanged(Contact),
    /// A contact was removed.
    RosterRemoved(BareJid),
    /// The list of blocked addresses has changed; see `XmppProtocol::blocked`.
    BlockedChanged,
    /// A stanza that was written may not have reached the server, and is not sent again.
    NotSent(Box<NotAcked>),
    /// The server has refused the login, or cannot be trusted; nothing is tried again.
    AuthFailed {
        /// Why.
        reason: Failure,
    },
    /// The stream is over. Unless `Reconnecting` follows, this is the last event.
    Disconnected {
        /// Why.
        reason: CloseReason,
    },
    /// Connects again after this delay.
    Reconnecting {
        /// How long from now.
        delay: Duration,
        /// How many times it was tried since the stream was lost.
        attempt: u32,
    },
}

/// What somebody does in a chat (XEP-0085 section 2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ChatState {
    /// Pays attention.
    Active,
    /// Writes.
    Composing,
    /// Has begun to write and stopped.
    Paused,
    /// Does something else.
    Inactive,
    /// Has left the chat.
    Gone,
}

impl ChatState {
    const ALL: [(Self, &str); 5] = [
        (Self::Active, "active"),
        (Self::Composing, "composing"),
        (Self::Paused, "paused"),
        (Self::Inactive, "inactive"),
        (Self::Gone, "gone"),
    ];

    pub(super) fn as_str(self) -> &'static str {
        let named = Self::ALL.iter().find(|(state, _)| *state == self);
        named.map_or("active", |(_, name)| name)
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        let named = Self::ALL.iter().find(|(_, other)| *other == name);
        named.map(|(state, _)| *state)
    }
}

/// Events that a receiver may be behind.
const EVENTS_MAX: usize = 1024;
/// Events kept while nobody receives them.
const EARLY_MAX: usize = 256;
/// How long a receiver that is behind is waited for (as by the listener).
const STALL_MAX: Duration = Duration::from_secs(60);

/// The events of an account in order, from when this was asked for. One that falls 1,024 events behind
/// holds up the others; after a minute of that it is dropped.
#[derive(Debug)]
pub struct ImEvents {
    receiver: mpsc::Receiver<ImEvent>,
}

impl ImEvents {
    /// The next event; `None` after the last one, or when this receiver was dropped.
    pub async fn next(&mut self) -> Option<ImEvent> {
        self.receiver.recv().await
    }

    /// The next message, other events passed over; `None` at the end.
    pub async fn next_message(&mut self) -> Option<Message> {
        loop {
            if let ImEvent::Message(message) = self.next().await? {
                return Some(*message);
            }
        }
    }
}

/// A registered callback. Dropping this value changes nothing; `remove` ends the calls.
#[derive(Debug)]
pub struct ImCallback {
    task: AbortHandle,
}

impl ImCallback {
    /// No more calls, but one that is running may still be.
    pub fn remove(self) {
        self.task.abort();
    }
}

/// All receivers of an account's events.
#[derive(Default)]
pub(super) struct Receivers {
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    senders: Vec<mpsc::Sender<ImEvent>>,
    early: VecDeque<ImEvent>,
    is_over: bool,
}

impl Receivers {
    /// A new receiver; the first one gets what came before.
    pub(super) fn receive(&self) -> ImEvents {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let mut shared = self.lock();
        for event in shared.early.drain(..) {
            // There is room: EARLY_MAX is less.
            let _ = sender.try_send(event);
        }
        if !shared.is_over {
            shared.senders.push(sender);
        }
        ImEvents { receiver }
    }

    /// Calls back for each event, in a task of its own.
    pub(super) fn call(&self, mut callback: impl FnMut(ImEvent) + Send + 'static) -> ImCallback {
        let mut events = self.receive();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                callback(event);
            }
        });
        ImCallback {
            task: task.abort_handle(),
        }
    }

    /// Hands an event to every receiver, and waits for those that are behind.
    pub(super) async fn push(&self, event: ImEvent) {
        let senders = {
            let mut shared = self.lock();
            shared.senders.retain(|sender| !sender.is_closed());
            if shared.senders.is_empty() {
                if shared.early.len() == EARLY_MAX {
                    shared.early.pop_front();
                }
                shared.early.push_back(event);
                return;
            }
            shared.senders.clone()
        };
        let mut dropped = Vec::new();
        for sender in &senders {
            let behind = sender.send_timeout(event.clone(), STALL_MAX).await;
            if let Err(mpsc::error::SendTimeoutError::Timeout(_)) = behind {
                tracing::warn!("a receiver does not keep up and gets no more events");
                dropped.push(sender);
            }
        }
        if !dropped.is_empty() {
            let is_kept = |sender: &mpsc::Sender<ImEvent>| {
                !dropped.iter().any(|other| other.same_channel(sender))
            };
            self.lock().senders.retain(is_kept);
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        let mut shared = self.lock();
        shared.senders.clear();
        shared.is_over = true;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Receivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receivers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str) -> ImEvent {
        ImEvent::RosterRemoved(BareJid::parse(name).unwrap())
    }

    async fn next(events: &mut ImEvents) -> Option<String> {
        match events.next().await? {
            ImEvent::RosterRemoved(jid) => Some(jid.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_first_receiver_gets_early_events_and_all_get_the_rest() {
        let receivers = Receivers::default();
        for number in 0..EARLY_MAX + 2 {
            receivers.push(event(&format!("{number}.test"))).await;
        }
        let (mut first, mut second) = (receivers.receive(), receivers.receive());
        receivers.push(event("last.test")).await;
        receivers.end();
        for number in 2..EARLY_MAX + 2 {
            assert_eq!(next(&mut first).await, Some(format!("{number}.test")));
        }
        assert_eq!(next(&mut first).await.as_deref(), Some("last.test"));
        assert_eq!(next(&mut first).await, None);
        assert_eq!(next(&mut second).await.as_deref(), Some("last.test"));
        assert_eq!(next(&mut receivers.receive()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_is_behind_is_dropped_after_a_minute() {
        let receivers = Receivers::default();
        let (mut slow, mut quick) = (receivers.receive(), receivers.receive());
        let begun = tokio::time::Instant::now();
        for _ in 0..=EVENTS_MAX {
            receivers.push(event("a.test")).await;
            assert!(next(&mut quick).await.is_some());
        }
        assert_eq!(begun.elapsed(), STALL_MAX);
        receivers.push(event("a.test")).await;
        assert_eq!(begun.elapsed(), STALL_MAX);
        for _ in 0..EVENTS_MAX {
            assert!(next(&mut slow).await.is_some());
        }
        assert_eq!(next(&mut slow).await, None);
    }
}
