//! How a client is set up: nothing to set in the common case but JID and password.

use crate::client::XmppClient;
use crate::connect;
use crate::error::ConnectError;
use std::path::PathBuf;
use std::time::Duration;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::Password;

pub(crate) type StanzaCallback = Box<dyn FnMut(&Stanza) + Send>;

/// Settings of a client that has not connected yet.
#[must_use = "a builder does nothing before `connect`"]
pub struct Builder {
    pub(crate) jid: String,
    pub(crate) password: Option<Password>,
    pub(crate) ca: Ca,
    pub(crate) connect_to: Option<String>,
    pub(crate) direct_tls: bool,
    pub(crate) connect_max: Duration,
    pub(crate) iq_max: Duration,
    pub(crate) callbacks: Vec<StanzaCallback>,
}

/// Whose certificates are trusted.
pub(crate) enum Ca {
    System,
    File(PathBuf),
    Pem(String),
}

impl Builder {
    pub(crate) fn new(jid: &str) -> Self {
        Self {
            jid: jid.into(),
            password: None,
            ca: Ca::System,
            connect_to: None,
            direct_tls: false,
            connect_max: Duration::from_secs(60),
            iq_max: Duration::from_secs(60),
            callbacks: Vec::new(),
        }
    }

    /// The account's password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(Password(password.into()));
        self
    }

    /// Trusts the CA certificates in this PEM file instead of the system's.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Ca::File(path.into());
        self
    }

    /// Trusts the CA certificates in this PEM text instead of the system's.
    pub fn ca_pem(mut self, pem: &str) -> Self {
        self.ca = Ca::Pem(pem.into());
        self
    }

    /// Connects to this `host:port` instead of the domain's own name and port 5222 (5223 by direct TLS).
    pub fn connect_to(mut self, address: &str) -> Self {
        self.connect_to = Some(address.into());
        self
    }

    /// TLS from the first byte instead of STARTTLS.
    pub fn direct_tls(mut self) -> Self {
        self.direct_tls = true;
        self
    }

    /// The longest time from the first step to a bound stream; a minute unless said otherwise.
    pub fn connect_max(mut self, max: Duration) -> Self {
        self.connect_max = max;
        self
    }

    /// How long `send_iq` waits for an answer; a minute unless said otherwise.
    pub fn iq_max(mut self, max: Duration) -> Self {
        self.iq_max = max;
        self
    }

    /// Registers a callback before the first stanza can arrive; see `XmppClient::on_stanza`.
    pub fn on_stanza(mut self, callback: impl FnMut(&Stanza) + Send + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Connects, secures the stream, signs in and binds a resource.
    ///
    /// # Errors
    /// `ConnectError`, whose `step` names the step that failed.
    pub async fn connect(self) -> Result<XmppClient, ConnectError> {
        connect::connect(self).await
    }
}
