//! Clients of a lab: the client library, signed in and online, over a link that can be cut.

use crate::lab::{LabError, TestLab};
use std::ops::Deref;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use xmpp_client::{Builder, Event, Kind, Reconnect, Stanza, Ty, XmppClient};
use xmpp_server::random;
use xmpp_stream::jid::Jid;

/// The longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that is online. It derefs to the library's client, for whatever is not here.
pub struct LabClient {
    client: XmppClient,
    messages: UnboundedReceiver<Stanza>,
    sent: AtomicUsize,
}

/// A message that a client has received.
#[derive(Clone, Debug)]
pub struct LabMessage {
    /// All of it.
    pub stanza: Stanza,
    body: Option<String>,
}

impl TestLab {
    /// A client that has signed in and is available: the account is made when there is none. It does
    /// not connect again by itself; `link` gives its link to the server.
    ///
    /// # Errors
    /// `LabError::Connect`, `LabError::Closed`.
    pub async fn client(&self, jid: &str) -> Result<LabClient, LabError> {
        let builder = self.client_builder(jid).await;
        self.connected(builder.reconnect(Reconnect::never())).await
    }

    /// The same, which connects again whenever the connection is lost.
    ///
    /// # Errors
    /// `LabError::Connect`, `LabError::Closed`.
    pub async fn staying_client(&self, jid: &str) -> Result<LabClient, LabError> {
        let builder = self.client_builder(jid).await;
        self.connected(builder).await
    }

    /// A client of the library's that has signed in and is available, and does not connect again.
    /// What it receives up to its own presence is passed over.
    ///
    /// # Errors
    /// `LabError::Connect`, `LabError::Closed`.
    pub async fn xmpp_client(&self, jid: &str) -> Result<XmppClient, LabError> {
        let builder = self.client_builder(jid).await;
        let connecting = builder.reconnect(Reconnect::never()).connect();
        let client = connecting.await.map_err(LabError::Connect)?;
        available(&client).await?;
        Ok(client)
    }

    /// A client as the library builds it, which knows account, CA and way: for further settings.
    ///
    /// # Panics
    /// There is no free port, or the server is down.
    pub async fn client_builder(&self, jid: &str) -> Builder {
        let password = self.account(jid).await;
        let jid = Jid::parse(jid).expect("a JID");
        let target = self.place(jid.domain()).address;
        let link = self.proxy(target).await.expect("a port");
        let address = link.address.to_string();
        let links = self.client_links.lock();
        let mut links = links.unwrap_or_else(PoisonError::into_inner);
        links.insert(jid.as_str().to_owned(), link);
        let builder = XmppClient::builder(jid.as_str())
            .password(&password)
            .ca_pem(self.ca_pem())
            .connect_to(&address);
        match self.is_in_memory {
            true => builder.dialer(self.net.dialer()),
            false => builder,
        }
    }

    async fn connected(&self, builder: Builder) -> Result<LabClient, LabError> {
        let (sender, messages) = unbounded_channel();
        let builder = builder.on_stanza(move |stanza| {
            if stanza.kind == Kind::Message {
                // Nobody may be left to read it.
                let _ = sender.send(stanza.clone());
            }
        });
        let client = builder.connect().await.map_err(LabError::Connect)?;
        available(&client).await?;
        Ok(LabClient {
            client,
            messages,
            sent: AtomicUsize::new(0),
        })
    }
}

async fn available(client: &XmppClient) -> Result<(), LabError> {
    let (mut events, own) = (client.events(), client.jid());
    let sent = client.send_stanza(Stanza::presence(Ty::None)).await;
    sent.map_err(|_| LabError::Closed)?;
    loop {
        match events.next().await {
            Some(Event::Stanza(stanza)) if stanza.head.from.as_ref() == Some(own.as_jid()) => {
                return Ok(());
            }
            Some(_) => {}
            None => return Err(LabError::Closed),
        }
    }
}

impl LabClient {
    /// Sends a chat message.
    ///
    /// # Errors
    /// `LabError::Closed`.
    ///
    /// # Panics
    /// `to` is no JID.
    pub async fn send_message(&self, to: &str, body: &str) -> Result<(), LabError> {
        let sent = self.client.send_stanza(self.message(to, body)).await;
        sent.map_err(|_| LabError::Closed)
    }

    /// The same, and waits until the client's server has acknowledged it.
    ///
    /// # Errors
    /// `LabError::Closed`, also where the server acknowledges nothing.
    ///
    /// # Panics
    /// `to` is no JID.
    pub async fn send_acked_message(&self, to: &str, body: &str) -> Result<(), LabError> {
        let sent = self.client.send_acked(self.message(to, body)).await;
        sent.map_err(|_| LabError::Closed)
    }

    /// With an id, by which servers know it again.
    fn message(&self, to: &str, body: &str) -> Stanza {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let mut stanza = Stanza::chat(to, body).expect("a JID");
        stanza.head.id = Some(format!("{:x}-{number}", random::bits()).into());
        stanza
    }

    /// The next message that has arrived or does so within ten seconds, errors among them.
    ///
    /// # Errors
    /// `LabError::Late`, `LabError::Closed`.
    pub async fn next_message(&mut self) -> Result<LabMessage, LabError> {
        let next = timeout(PATIENCE, self.messages.recv()).await;
        let stanza = next.map_err(|_| LabError::Late)?.ok_or(LabError::Closed)?;
        let body = stanza.body();
        Ok(LabMessage { stanza, body })
    }

    /// The client itself.
    #[must_use]
    pub fn client(&self) -> &XmppClient {
        &self.client
    }
}

impl Deref for LabClient {
    type Target = XmppClient;

    fn deref(&self) -> &XmppClient {
        &self.client
    }
}

impl std::fmt::Debug for LabClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LabClient")
            .field(&self.client.jid())
            .finish()
    }
}

impl LabMessage {
    /// What it says.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        self.body.as_deref()
    }

    /// Who sent it.
    #[must_use]
    pub fn from(&self) -> Option<&str> {
        self.stanza.head.from.as_ref().map(Jid::as_str)
    }

    /// It is the error that came back for a message of ours.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.stanza.head.ty == Ty::Error
    }
}
