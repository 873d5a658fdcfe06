//! `XmppClient`: what a program holds. A cheap clone that talks to the listener over channels.

use crate::config::{Builder, StanzaCallback};
use crate::error::{Closed, IqError};
use crate::event::{Callback, Event, Events};
use crate::listener::{Command, Shared};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use xmpp_stream::jid::FullJid;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::CloseReason;

/// A connected client. When its last clone is gone the stream is closed in order.
#[derive(Clone)]
pub struct XmppClient {
    inner: Arc<Inner>,
}

struct Inner {
    jid: FullJid,
    iq_max: Duration,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    /// Made by the first `next_stanza`, so that who only uses callbacks need not read them.
    stanzas: Mutex<Option<Events>>,
}

impl XmppClient {
    /// Sets up a client. A JID without a resource lets the server choose one.
    pub fn builder(jid: &str) -> Builder {
        Builder::new(jid)
    }

    pub(crate) fn new(
        jid: FullJid,
        iq_max: Duration,
        commands: mpsc::Sender<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        let stanzas = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                jid,
                iq_max,
                commands,
                shared,
                stanzas,
            }),
        }
    }

    /// The bound JID.
    #[must_use]
    pub fn jid(&self) -> &FullJid {
        &self.inner.jid
    }

    /// Sends a stanza; resolves when it was written to the transport.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn send_stanza(&self, stanza: Stanza) -> Result<(), Closed> {
        let (written, is_written) = oneshot::channel();
        self.command(Command::Send(Box::new(stanza), written))
            .await?;
        is_written.await.map_err(|_| self.closed())
    }

    /// Sends an IQ get or set and waits for its result, matched by id AND sender AND type. An id is
    /// made where it has none. A stanza that answers is also shown to all receivers.
    ///
    /// # Errors
    /// `IqError::Stanza` with the error of the answer; `Timeout`, `Closed`; `NotARequest`, `IdInUse`
    /// for what cannot be sent.
    pub async fn send_iq(&self, iq: Stanza) -> Result<Stanza, IqError> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            let command = Command::Request(Box::new(iq), reply);
            self.command(command).await.map_err(|_| IqError::Closed)?;
            answer.await.unwrap_or(Err(IqError::Closed))
        };
        tokio::time::timeout(self.inner.iq_max, asking)
            .await
            .unwrap_or(Err(IqError::Timeout))
    }

    /// Calls this for each stanza received from now on, one after the other, in a task of its own: a
    /// slow callback holds up no other. One that falls 1,024 stanzas behind stops the client from
    /// reading; after a minute of that it is dropped. It must not block its thread.
    pub fn on_stanza(&self, callback: impl FnMut(&Stanza) + Send + 'static) -> Callback {
        call(&self.inner.shared, Box::new(callback))
    }

    /// All events from now on; for the first receiver also up to 256 earlier ones.
    #[must_use]
    pub fn events(&self) -> Events {
        self.inner.shared.receive()
    }

    /// The next stanza, for programs that want no more than that; `None` when the stream is over.
    /// Clones share one queue, which begins with the first call.
    pub async fn next_stanza(&self) -> Option<Stanza> {
        let mut stanzas = self.inner.stanzas.lock().await;
        stanzas
            .get_or_insert_with(|| self.inner.shared.receive())
            .next_stanza()
            .await
    }

    /// Closes the stream: closing tag, the server's closing tag, end of TLS and transport.
    ///
    /// # Errors
    /// The stream did not end in order, or was over already.
    pub async fn disconnect(&self) -> Result<(), Closed> {
        self.command(Command::Disconnect).await?;
        self.inner.commands.closed().await;
        match self.closed() {
            Closed {
                reason: CloseReason::Clean,
            } => Ok(()),
            closed => Err(closed),
        }
    }

    async fn command(&self, command: Command) -> Result<(), Closed> {
        self.inner
            .commands
            .send(command)
            .await
            .map_err(|_| self.closed())
    }

    fn closed(&self) -> Closed {
        Closed {
            reason: self.inner.shared.ended().unwrap_or(CloseReason::Eof),
        }
    }
}

impl fmt::Debug for XmppClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XmppClient")
            .field("jid", &self.inner.jid)
            .finish_non_exhaustive()
    }
}

/// Runs a callback in a task of its own; ends with its mailbox.
pub(crate) fn call(shared: &Arc<Shared>, mut callback: StanzaCallback) -> Callback {
    let mut events = shared.receive();
    let handle = Callback {
        mailbox: events.mailbox.clone(),
        shared: Arc::clone(shared),
    };
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::Stanza(stanza) = event {
                callback(&stanza);
            }
        }
    });
    handle
}
