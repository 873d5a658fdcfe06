//! `XmppProtocol`: the messaging logic, a receiver of the client's events.
//!
//! One task takes each stanza in order, changes what is known (`State`), sends what is owed (receipts,
//! questions about capabilities) and tells the program typed events. Requests of others are answered
//! by handlers. The task ends with the client, or when the last `XmppProtocol` is dropped.

use crate::client::XmppClient;
use crate::error::Closed;
use crate::event::{Event, Events};
use crate::handlers::IqHandler;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::payload::disco::Info;
use xmpp_stream::stanza::{Stanza, Ty};
use xmpp_stream::xml::Element;

mod answers;
mod caps;
mod chats;
mod commands;
mod contacts;
mod event;
mod message;
mod options;
mod presence;
mod private;
mod queries;
mod questions;
pub(crate) mod register;
mod roster;
mod search;
mod state;
mod vcard;

pub use commands::{Action, Command, CommandNote, CommandReply, CommandStatus};
pub use event::{ChatState, ImCallback, ImEvent, ImEvents};
pub use message::{Message, MessageKind, Outgoing, Text};
pub use options::{Options, ProtocolLimits};
pub use presence::{Availability, Presence, Show};
pub use queries::{EntityTime, Software};
pub use questions::Questions;
pub use register::{RegisterError, Registered};
pub use roster::{Contact, RosterCache, Subscription};
pub use search::Found;
pub use vcard::{Photo, VCard};

use event::Receivers;
use state::State;

/// Messages, presence and contacts of a connected client. A cheap clone; while one is held, what
/// comes in is taken in and others get their answers.
///
/// ```no_run
/// use xmpp_client::{ImEvent, Jid, XmppClient, XmppProtocol};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = XmppClient::builder("ann@localhost").password("secret").connect().await?;
/// let im = XmppProtocol::new(&client);
/// let mut events = im.events();
/// im.go_online().await?;
/// im.send_message(&Jid::parse("ben@localhost")?, "hello").await?;
/// while let Some(event) = events.next().await {
///     if let ImEvent::Message(message) = event {
///         println!("{}: {}", message.from, message.body().unwrap_or_default());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct XmppProtocol {
    inner: Arc<Inner>,
}

struct Inner {
    client: XmppClient,
    state: Mutex<State>,
    receivers: Receivers,
    handlers: Mutex<Vec<IqHandler>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let handlers = self.handlers.get_mut();
        for handler in handlers.unwrap_or_else(PoisonError::into_inner).drain(..) {
            handler.remove();
        }
    }
}

impl XmppProtocol {
    /// The messaging logic of a client. One a client.
    #[must_use]
    pub fn new(client: &XmppClient) -> Self {
        Self::with(client, Options::default())
    }

    /// The same with settings of your own.
    #[must_use]
    pub fn with(client: &XmppClient, options: Options) -> Self {
        // Events first: nothing that a request brings is missed.
        let events = client.events();
        let state = State::new(client.jid(), options);
        let answers = Arc::clone(&state.answers);
        let handlers = answers::HANDLED.iter().map(|namespace| {
            let (answers, own) = (Arc::clone(&answers), client.jid());
            client.handle_iq(namespace, move |request| {
                // Of us only the account counts, which stays.
                std::future::ready(answers.answer(&own, &request))
            })
        });
        let inner = Arc::new(Inner {
            client: client.clone(),
            state: Mutex::new(state),
            receivers: Receivers::default(),
            handlers: Mutex::new(handlers.collect()),
        });
        tokio::spawn(run(Arc::downgrade(&inner), events));
        Self { inner }
    }

    /// The client behind it, for whatever is not here.
    #[must_use]
    pub fn client(&self) -> &XmppClient {
        &self.inner.client
    }

    /// All events from now on; for the first receiver also up to 256 earlier ones.
    #[must_use]
    pub fn events(&self) -> ImEvents {
        self.inner.receivers.receive()
    }

    /// Calls this for each event from now on, in a task of its own. It must not block its thread.
    pub fn on_event(&self, callback: impl FnMut(ImEvent) + Send + 'static) -> ImCallback {
        self.inner.receivers.call(callback)
    }

    /// Calls this for each message from now on.
    pub fn on_message(&self, mut callback: impl FnMut(Message) + Send + 'static) -> ImCallback {
        self.on_event(move |event| {
            if let ImEvent::Message(message) = event {
                callback(*message);
            }
        })
    }

    /// Calls this for each change of somebody's availability from now on.
    pub fn on_presence(&self, mut callback: impl FnMut(Presence) + Send + 'static) -> ImCallback {
        self.on_event(move |event| {
            if let ImEvent::Presence(presence) = event {
                callback(*presence);
            }
        })
    }

    // Presence

    /// Becomes available, after getting the roster and asking for copies where that was not done.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn go_online(&self) -> Result<(), Closed> {
        self.set_presence(Availability::default()).await
    }

    /// Away for a short time.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn go_away(&self, status: &str) -> Result<(), Closed> {
        self.show(Show::Away, status).await
    }

    /// Away for a long time.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn go_xa(&self, status: &str) -> Result<(), Closed> {
        self.show(Show::Xa, status).await
    }

    /// Busy.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn go_dnd(&self, status: &str) -> Result<(), Closed> {
        self.show(Show::Dnd, status).await
    }

    async fn show(&self, show: Show, status: &str) -> Result<(), Closed> {
        let priority = self.presence().map_or(0, |own| own.priority);
        let availability = Availability {
            priority,
            ..Availability::new(show).with_status(status)
        };
        self.set_presence(availability).await
    }

    /// Becomes available in this way.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn set_presence(&self, availability: Availability) -> Result<(), Closed> {
        self.start_session().await;
        let presence = {
            let mut state = self.lock();
            state.available = Some(availability);
            state.own_presence()
        };
        match presence {
            Some(presence) => self.send(presence).await,
            None => Ok(()),
        }
    }

    /// What we told of ourselves; `None`: we are not available.
    #[must_use]
    pub fn presence(&self) -> Option<Availability> {
        self.lock().available.clone()
    }

    /// No longer available, but still connected.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn go_offline(&self, status: &str) -> Result<(), Closed> {
        self.lock().leave(None);
        let status = (!status.is_empty()).then_some(status);
        self.send(unavailable(status)).await
    }

    /// Tells one entity that we are available, whether it is a contact or not.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn show_presence_to(&self, to: &Jid) -> Result<(), Closed> {
        let presence = self.lock().direct_presence(to);
        self.send(presence).await
    }

    /// Tells one entity that we are not.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn hide_presence_from(&self, from: &Jid) -> Result<(), Closed> {
        self.lock().leave(Some(from));
        self.send(unavailable(None).with_to(from.clone())).await
    }

    /// The available devices of a contact, the one of the highest priority first.
    #[must_use]
    pub fn presence_of(&self, contact: &BareJid) -> Vec<Presence> {
        self.lock().presences.of(contact)
    }

    /// What the program on this device can do, as far as its presence told and was right.
    #[must_use]
    pub fn info_of(&self, device: &Jid) -> Option<Arc<Info>> {
        self.lock().info_of(device)
    }

    // Messages

    /// Sends a chat message; gives its id, which receipts and corrections name.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn send_message(&self, to: &Jid, body: &str) -> Result<String, Closed> {
        self.send_outgoing(&Outgoing::chat(to, body)).await
    }

    /// Sends a message of any kind; gives its id.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn send_outgoing(&self, message: &Outgoing) -> Result<String, Closed> {
        let (id, stanza) = self.lock().send(message);
        self.send(stanza).await?;
        Ok(id)
    }

    /// Replaces what the message of this id said.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn correct_message(&self, to: &Jid, id: &str, body: &str) -> Result<String, Closed> {
        self.send_outgoing(&Outgoing::chat(to, body).corrects(id))
            .await
    }

    /// Tells what we do in the chat with them, if they take such and were not told already; false:
    /// nothing was sent.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn send_chat_state(&self, to: &Jid, state: ChatState) -> Result<bool, Closed> {
        let Some(stanza) = self.lock().tell(to, state) else {
            return Ok(false);
        };
        self.send(stanza).await.map(|()| true)
    }

    async fn send(&self, stanza: Stanza) -> Result<(), Closed> {
        self.inner.client.send_stanza(stanza).await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock()
    }
}

impl fmt::Debug for XmppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XmppProtocol")
            .field("client", &self.inner.client)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(status: Option<&str>) -> Stanza {
    let stanza = Stanza::presence(Ty::Unavailable);
    match status {
        Some(status) => {
            let status = Element::new(xmpp_stream::ns::CLIENT, "status").with_text(status);
            stanza.with_child(&status)
        }
        None => stanza,
    }
}

/// Takes in what the client receives, until it is over or nobody holds the messaging logic.
async fn run(inner: Weak<Inner>, mut events: Events) {
    let (mut is_lost, mut is_choked) = (false, false);
    while let Some(event) = events.next().await {
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let told = match event {
            Event::Stanza(stanza) => {
                take(&inner, &stanza, &mut is_choked).await;
                continue;
            }
            Event::Connected { jid, resumed } => {
                if is_lost && !resumed {
                    begin(&inner, jid.clone());
                }
                is_lost = false;
                ImEvent::Connected { jid, resumed }
            }
            Event::Disconnected { reason } => {
                is_lost = true;
                ImEvent::Disconnected { reason }
            }
            Event::AuthFailed { reason } => ImEvent::AuthFailed { reason },
            Event::Reconnecting { delay, attempt } => ImEvent::Reconnecting { delay, attempt },
            Event::NotSent(stanza) => ImEvent::NotSent(stanza),
            _ => continue,
        };
        inner.receivers.push(told).await;
    }
    if let Some(inner) = inner.upgrade() {
        inner.receivers.end();
    }
}

/// Another stream in place of one that was lost: the client itself repeats presence and the wish for
/// copies; the roster is got again where it was got.
fn begin(inner: &Arc<Inner>, jid: FullJid) {
    let was_loaded = {
        let mut state = inner.lock();
        let was_loaded = state.roster.is_loaded();
        state.begin(jid);
        was_loaded
    };
    if was_loaded {
        let im = XmppProtocol {
            inner: Arc::clone(inner),
        };
        // In a task of its own: this one has to take in what comes meanwhile.
        tokio::spawn(async move {
            if let Err(error) = im.load_roster().await {
                tracing::debug!(%error, "no roster");
            }
        });
    }
}

/// What is owed waits so long for room behind what else is to be sent. Without a connection there may
/// be none for ever, and this task has to go on.
const ROOM_MAX: Duration = Duration::from_secs(1);

async fn take(inner: &Inner, stanza: &Stanza, is_choked: &mut bool) {
    let outcome = inner.lock().receive(stanza);
    for stanza in outcome.send {
        let patience = if *is_choked { Duration::ZERO } else { ROOM_MAX };
        let queued = tokio::time::timeout(patience, inner.client.queue(stanza)).await;
        if queued.is_err() {
            tracing::warn!("no room for a receipt or a question");
        }
        *is_choked = queued.is_err();
    }
    for event in outcome.events {
        inner.receivers.push(event).await;
    }
}
