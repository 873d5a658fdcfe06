//! What the messaging logic tells the program, and how it gets there.

use super::message::Message;
use super::presence::Presence;
use super::roster::Contact;
use crate::error::NotAcked;
use crate::limits::{Limits, after};
use crate::mailbox::{Early, Mailbox, Weigh};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
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

impl Weigh for ImEvent {
    fn weight(&self) -> usize {
        let held = match self {
            // Its texts stand in it, and in the stanza that it holds.
            Self::Message(message) => 2 * message.stanza.wire_len(),
            Self::NotSent(unsent) => unsent.stanza.wire_len(),
            Self::RosterChanged(contact) => contact.weight(),
            Self::Presence(presence) => presence.status.as_deref().map_or(0, str::len),
            Self::MessageFailed { id, error, .. } => {
                id.as_deref().map_or(0, str::len) + error.text.as_deref().map_or(0, str::len)
            }
            Self::PresenceFailed { error, .. } => error.text.as_deref().map_or(0, str::len),
            Self::SubscriptionRequest { text, .. } => text.as_deref().map_or(0, str::len),
            _ => 0,
        };
        64 + held
    }
}

/// The events of an account in order, from when this was asked for. One that falls 1,024 events, or
/// 16 MiB of them, behind holds up the others; after a minute of that it is dropped.
pub struct ImEvents {
    mailbox: Mailbox<ImEvent>,
    shared: Arc<Shared>,
}

impl ImEvents {
    /// The next event; `None` after the last one, or when this receiver was dropped.
    pub async fn next(&mut self) -> Option<ImEvent> {
        self.mailbox.next(&self.shared.room).await
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

impl Drop for ImEvents {
    fn drop(&mut self) {
        self.mailbox.discard();
        self.shared.room.notify_one();
    }
}

impl fmt::Debug for ImEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImEvents").finish_non_exhaustive()
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

/// All receivers of an account's events. Bounds are those of the client's own receivers.
pub(super) struct Receivers {
    shared: Arc<Shared>,
    limits: Limits,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A receiver has made room, or gone.
    room: Notify,
}

#[derive(Default)]
struct State {
    mailboxes: Vec<Mailbox<ImEvent>>,
    early: Early<ImEvent>,
    is_over: bool,
}

impl Receivers {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            shared: Arc::default(),
            limits: *limits,
        }
    }

    /// A new receiver; the first one gets what came before.
    pub(super) fn receive(&self) -> ImEvents {
        let mailbox = Mailbox::default();
        let mut state = self.lock();
        state.early.pour(&mailbox);
        match state.is_over {
            true => mailbox.close(),
            false => state.mailboxes.push(mailbox.clone()),
        }
        let shared = Arc::clone(&self.shared);
        ImEvents { mailbox, shared }
    }

    /// Calls back for each event, in a task of its own. A callback that panics is called again.
    pub(super) fn call(&self, mut callback: impl FnMut(ImEvent) + Send + 'static) -> ImCallback {
        let mut events = self.receive();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if catch_unwind(AssertUnwindSafe(|| callback(event))).is_err() {
                    tracing::warn!("a callback has panicked");
                }
            }
        });
        ImCallback {
            task: task.abort_handle(),
        }
    }

    /// Hands events to every receiver, and waits for those that are behind: for all of them together
    /// no longer than the listener waits for us.
    pub(super) async fn push_all(&self, events: impl IntoIterator<Item = ImEvent>) {
        let until = after(Instant::now(), self.limits.stall_max);
        for event in events {
            for mailbox in self.mailboxes() {
                if timeout_at(until, self.room_in(&mailbox)).await.is_err() {
                    tracing::warn!("a receiver does not keep up and gets no more events");
                    mailbox.close();
                    self.lock()
                        .mailboxes
                        .retain(|other| !other.is_same(&mailbox));
                }
            }
            self.push(event);
        }
    }

    /// Hands an event to every receiver at once: for events that the program itself causes, in the
    /// task that may have to read them.
    pub(super) fn push(&self, event: ImEvent) {
        let mut state = self.lock();
        state.mailboxes.retain(|mailbox| !mailbox.is_closed());
        if state.mailboxes.is_empty() {
            return state.early.keep(event, &self.limits);
        }
        for mailbox in &state.mailboxes {
            mailbox.push(event.clone());
        }
    }

    fn mailboxes(&self) -> Vec<Mailbox<ImEvent>> {
        self.lock().mailboxes.clone()
    }

    async fn room_in(&self, mailbox: &Mailbox<ImEvent>) {
        while mailbox.is_full(&self.limits) && !mailbox.is_closed() {
            self.shared.room.notified().await;
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        for mailbox in state.mailboxes.drain(..) {
            mailbox.close();
        }
        state.is_over = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = &self.shared.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever receives learns that nothing more comes.
impl Drop for Receivers {
    fn drop(&mut self) {
        self.end();
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
    use xmpp_stream::stanza::Stanza;

    fn event(name: &str) -> ImEvent {
        ImEvent::RosterRemoved(BareJid::parse(name).unwrap())
    }

    async fn next(events: &mut ImEvents) -> Option<String> {
        match events.next().await? {
            ImEvent::RosterRemoved(jid) => Some(jid.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn receivers() -> Receivers {
        Receivers::new(&Limits::default())
    }

    fn message(bytes: usize) -> ImEvent {
        let own = Jid::parse("ann@a.test/x").unwrap();
        let stanza = Stanza::chat("ann@a.test", &"x".repeat(bytes)).unwrap();
        ImEvent::Message(Box::new(Message::read(&stanza, &own).unwrap()))
    }

    #[tokio::test]
    async fn the_first_receiver_gets_early_events_and_all_get_the_rest() {
        let receivers = receivers();
        let early = Limits::default().early_events_max;
        for number in 0..early + 2 {
            receivers.push(event(&format!("{number}.test")));
        }
        let (mut first, mut second) = (receivers.receive(), receivers.receive());
        receivers.push_all([event("last.test")]).await;
        receivers.end();
        for number in 2..early + 2 {
            assert_eq!(next(&mut first).await, Some(format!("{number}.test")));
        }
        assert_eq!(next(&mut first).await.as_deref(), Some("last.test"));
        assert_eq!(next(&mut first).await, None);
        assert_eq!(next(&mut second).await.as_deref(), Some("last.test"));
        assert_eq!(next(&mut receivers.receive()).await, None);
    }

    #[tokio::test]
    async fn early_events_are_bounded_in_bytes() {
        let receivers = receivers();
        for _ in 0..8 {
            receivers.push(message(Limits::default().early_bytes_max / 4));
        }
        assert_eq!(receivers.lock().early.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn receivers_that_are_behind_are_dropped_after_a_minute() {
        let (receivers, limits) = (receivers(), Limits::default());
        let (mut slow, mut quick) = (receivers.receive(), receivers.receive());
        let _as_slow = receivers.receive();
        let begun = Instant::now();
        for _ in 0..=limits.events_max {
            receivers.push_all([event("a.test")]).await;
            assert!(next(&mut quick).await.is_some());
        }
        assert_eq!(begun.elapsed(), limits.stall_max);
        receivers.push_all([event("a.test")]).await;
        assert_eq!(begun.elapsed(), limits.stall_max);
        for _ in 0..limits.events_max {
            assert!(next(&mut slow).await.is_some());
        }
        assert_eq!(next(&mut slow).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_is_behind_in_bytes_too_and_waited_for() {
        let receivers = Arc::new(receivers());
        let mut slow = receivers.receive();
        let begun = Instant::now();
        let pushing = tokio::spawn({
            let receivers = Arc::clone(&receivers);
            async move {
                for _ in 0..3 {
                    receivers.push_all([message(8 * 1024 * 1024)]).await;
                }
            }
        });
        tokio::task::yield_now().await;
        assert!(!pushing.is_finished());
        for _ in 0..3 {
            assert!(slow.next().await.is_some());
        }
        pushing.await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_callback_that_panics_is_called_again() {
        let receivers = receivers();
        let (sender, mut called) = tokio::sync::mpsc::unbounded_channel();
        receivers.call(move |_| {
            sender.send(()).unwrap();
            panic!("as the test wants it");
        });
        for _ in 0..2 {
            receivers.push(event("a.test"));
            called.recv().await.unwrap();
        }
    }
}
