//! `XmppClient`: what a program holds. A cheap clone that reaches the listener over the outbox.

use crate::config::{Builder, StanzaCallback};
use crate::error::{Closed, IqError, NotAcked, NotAckedReason};
use crate::event::{Callback, Event, Events};
use crate::handlers::{IqAnswer, IqHandler, boxed};
use crate::limits::Limits;
use crate::listener::Shared;
use crate::outbox::Wants;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tracing::warn;
use xmpp_stream::jid::FullJid;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::CloseReason;

/// A connected client. It stays when the connection is lost and another is made. When its last clone
/// is gone the stream is closed in order.
#[derive(Clone)]
pub struct XmppClient {
    inner: Arc<Inner>,
}

/// A client that does not keep the stream: for callbacks and handlers, which would else keep it for
/// ever.
#[derive(Clone)]
pub struct WeakXmppClient {
    inner: Weak<Inner>,
}

struct Inner {
    iq_max: Duration,
    shared: Arc<Shared>,
    /// Made by the first `next_stanza`, so that who only uses callbacks need not read them.
    stanzas: Mutex<Option<Events>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.outbox.close();
    }
}

impl XmppClient {
    /// Sets up a client. A JID without a resource lets the server choose one.
    pub fn builder(jid: &str) -> Builder {
        Builder::new(jid)
    }

    pub(crate) fn new(iq_max: Duration, shared: Arc<Shared>) -> Self {
        let stanzas = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                iq_max,
                shared,
                stanzas,
            }),
        }
    }

    /// The bound JID; after the connection was lost and another session began it may be another.
    #[must_use]
    pub fn jid(&self) -> FullJid {
        self.inner.shared.jid()
    }

    /// Sends a stanza; resolves when it was written to the transport. While there is no connection it
    /// waits for the next one, unless the builder says otherwise. A stanza that is queued is sent
    /// also when this future is dropped.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn send_stanza(&self, stanza: Stanza) -> Result<(), Closed> {
        let ticket = self.push(stanza, Wants::Written).await;
        let ticket = ticket.map_err(|rejected| Closed { reason: rejected.2 })?;
        let written = self.inner.shared.outbox.written(ticket).await;
        written.map_err(|reason| Closed { reason })
    }

    /// Sends a stanza; resolves when the server has acknowledged it (XEP-0198), also when that is
    /// after the connection was lost and made again.
    ///
    /// # Errors
    /// Nobody knows whether the server has it: the stanza is handed back.
    pub async fn send_acked(&self, stanza: Stanza) -> Result<(), NotAcked> {
        let (sender, acked) = oneshot::channel();
        let pushed = self.push(stanza.clone(), Wants::Acked(sender)).await;
        let lost = |reason| {
            Err(NotAcked {
                stanza: Box::new(stanza),
                reason: NotAckedReason::Closed(reason),
            })
        };
        match pushed {
            Err(rejected) => lost(rejected.2),
            Ok(_) => match acked.await {
                Ok(result) => result,
                Err(_) => lost(CloseReason::Eof),
            },
        }
    }

    /// Sends an IQ get or set and waits for its result, matched by id AND sender AND type. An id is
    /// made where it has none.
    ///
    /// # Errors
    /// `IqError::Stanza` with the error of the answer; `Timeout`, `Closed`; `NotARequest`, `IdInUse`,
    /// `TooMany` for what cannot be sent.
    pub async fn send_iq(&self, iq: Stanza) -> Result<Stanza, IqError> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            let pushed = self.push(iq, Wants::Answer(reply)).await;
            pushed.map_err(|_| IqError::Closed)?;
            answer.await.unwrap_or(Err(IqError::Closed))
        };
        tokio::time::timeout(self.inner.iq_max, asking)
            .await
            .unwrap_or(Err(IqError::Timeout))
    }

    /// Answers the requests of others whose payload is of this namespace; another handler for the
    /// same is replaced. They come one after the other, in order. Requests that nobody handles are
    /// answered `service-unavailable`. A handler that needs the client holds a `downgrade`d one.
    ///
    /// The request is as received: a handler that trusts not everybody looks at its sender.
    pub fn handle_iq<H, F>(&self, namespace: &str, handler: H) -> IqHandler
    where
        H: FnMut(Stanza) -> F + Send + 'static,
        F: Future<Output = IqAnswer> + Send + 'static,
    {
        let handlers = &self.inner.shared.handlers;
        handlers.add(namespace, boxed(handler))
    }

    /// Says whether a person looks at the client (XEP-0352); the server may then hold back what can
    /// wait. Nothing happens where the server has no use for it. Repeated on each new connection.
    pub fn set_active(&self, active: bool) {
        self.inner.shared.outbox.set_active(active);
    }

    /// Calls this for each stanza received from now on, one after the other, in a task of its own: a
    /// slow callback holds up no other. One that falls 1,024 stanzas behind stops the client from
    /// reading; after a minute of that it is dropped. It must not block its thread. One that panics
    /// is called again for the next stanza, and all receivers get an event.
    pub fn on_stanza(&self, callback: impl FnMut(&Stanza) + Send + 'static) -> Callback {
        call(&self.inner.shared, Box::new(callback))
    }

    /// All events from now on; for the first receiver also up to 256 earlier ones.
    #[must_use]
    pub fn events(&self) -> Events {
        self.inner.shared.receive()
    }

    /// All events while one function looks for something among them: see `Shared`.
    pub(crate) fn events_in_passing(&self) -> Events {
        self.inner.shared.receive_in_passing()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.shared.limits
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

    /// Closes the stream: what was sent before, the last acknowledgement, closing tag, the server's
    /// closing tag, end of TLS and transport. All of it within bounds.
    ///
    /// # Errors
    /// The stream did not end in order, or was over already.
    pub async fn disconnect(&self) -> Result<(), Closed> {
        let outbox = &self.inner.shared.outbox;
        outbox.close();
        match outbox.ended().await {
            CloseReason::Clean => Ok(()),
            reason => Err(Closed { reason }),
        }
    }

    /// The same client, not keeping the stream.
    #[must_use]
    pub fn downgrade(&self) -> WeakXmppClient {
        WeakXmppClient {
            inner: Arc::downgrade(&self.inner),
        }
    }

    /// The server keeps versions of the roster.
    pub(crate) fn has_roster_versions(&self) -> bool {
        let known = &self.inner.shared.has_roster_versions;
        known.load(Ordering::Relaxed)
    }

    /// The server takes approvals of what nobody has asked for yet.
    pub(crate) fn has_pre_approval(&self) -> bool {
        let known = &self.inner.shared.has_pre_approval;
        known.load(Ordering::Relaxed)
    }

    /// Queues a stanza, and does not wait until it is written.
    pub(crate) async fn queue(&self, stanza: Stanza) -> Result<(), Closed> {
        let queued = self.push(stanza, Wants::Written).await;
        queued
            .map(|_| ())
            .map_err(|rejected| Closed { reason: rejected.2 })
    }

    async fn push(
        &self,
        stanza: Stanza,
        wants: Wants,
    ) -> Result<u64, Box<(Stanza, Wants, CloseReason)>> {
        let shared = &self.inner.shared;
        shared.outbox.push(stanza, wants, &shared.limits).await
    }
}

impl fmt::Debug for XmppClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XmppClient")
            .field("jid", &self.jid())
            .finish_non_exhaustive()
    }
}

impl WeakXmppClient {
    /// The client, unless its last handle is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<XmppClient> {
        let inner = self.inner.upgrade()?;
        Some(XmppClient { inner })
    }
}

impl fmt::Debug for WeakXmppClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakXmppClient").finish_non_exhaustive()
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
            let Event::Stanza(stanza) = event else {
                continue;
            };
            if catch_unwind(AssertUnwindSafe(|| callback(&stanza))).is_err() {
                warn!("a callback has panicked");
                events.shared.push(Event::CallbackPanicked);
            }
        }
    });
    handle
}
