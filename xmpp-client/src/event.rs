//! What a client tells its receivers.

use crate::error::{ConnectError, NotAcked};
use crate::listener::Shared;
use crate::mailbox::Mailbox;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use xmpp_stream::jid::FullJid;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::{CloseReason, Failure};

/// Something that happened on the stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A stream is there: the first, or another after the connection was lost.
    Connected {
        /// The bound JID.
        jid: FullJid,
        /// The session goes on where it was (XEP-0198 section 5): nothing was lost, and presence,
        /// rooms and all else are as before. Otherwise it is a new one, in which the client has
        /// repeated its last presence, carbons and client state.
        resumed: bool,
    },
    /// A stanza was received.
    Stanza(Stanza),
    /// A stanza that was written may not have reached the server, and is not sent again.
    NotSent(Box<NotAcked>),
    /// A callback or a handler of requests panicked; it is called again for what comes next.
    CallbackPanicked,
    /// Another receiver did not keep up and gets no more events.
    ReceiverDropped,
    /// The server has refused the login, or cannot be trusted; nothing is tried again.
    AuthFailed {
        /// Why.
        reason: Failure,
    },
    /// The connection could not be made again; `Reconnecting` or the end follows.
    ConnectFailed {
        /// Why.
        reason: Arc<ConnectError>,
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

impl Event {
    /// Bytes it holds, about.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Stanza(stanza) => stanza.wire_len(),
            Self::NotSent(unsent) => unsent.stanza.wire_len(),
            _ => 64,
        }
    }
}

/// The events of a client in order, from when this was asked for. One that falls 1,024 events behind
/// stops the client from reading; after a minute of that it is dropped.
pub struct Events {
    pub(crate) mailbox: Mailbox,
    pub(crate) shared: Arc<Shared>,
}

impl Events {
    /// The next event; `None` after the last one, or when this receiver was dropped.
    pub async fn next(&mut self) -> Option<Event> {
        self.mailbox.next(&self.shared.room).await
    }

    /// The next stanza, other events passed over; `None` at the end.
    pub async fn next_stanza(&mut self) -> Option<Stanza> {
        loop {
            if let Event::Stanza(stanza) = self.next().await? {
                return Some(stanza);
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.mailbox.discard();
        self.shared.room.notify_one();
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// A registered callback. Dropping this value changes nothing; `remove` ends the calls.
pub struct Callback {
    pub(crate) mailbox: Mailbox,
    pub(crate) shared: Arc<Shared>,
}

impl Callback {
    /// No more calls, but one that is running may still be.
    pub fn remove(self) {
        self.mailbox.discard();
        self.shared.room.notify_one();
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").finish_non_exhaustive()
    }
}
