//! How a client is set up: nothing to set in the common case but JID and password.

use crate::client::{XmppClient, call};
use crate::connect;
use crate::error::ConnectError;
use crate::listener::{COMMANDS_MAX, Shared, XmppListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::Password;

pub(crate) type StanzaCallback = Box<dyn FnMut(&Stanza) + Send>;

/// Settings of a client that has not connected yet.
#[must_use = "a builder does nothing before `connect`"]
pub struct Builder {
    jid: String,
    password: Option<Password>,
    ca: Ca,
    connect_to: Option<String>,
    direct_tls: bool,
    connect_max: Duration,
    iq_max: Duration,
    callbacks: Vec<StanzaCallback>,
}

/// What every connection of one client has in common, checked.
pub(crate) struct Settings {
    /// Names an account; with a resource where one is wanted.
    pub(crate) jid: Jid,
    pub(crate) password: Password,
    pub(crate) ca: Ca,
    pub(crate) connect_to: Option<String>,
    pub(crate) direct_tls: bool,
    /// From the first step to the bound stream.
    pub(crate) connect_max: Duration,
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
        let (settings, callbacks, iq_max) = self.checked()?;
        let bound = connect::connect(&settings, None).await?;
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let shared = Arc::<Shared>::default();
        // Callbacks are there before the listener reads.
        for callback in callbacks {
            call(&shared, callback);
        }
        let listener = XmppListener::new(
            bound.driver,
            bound.jid.clone(),
            receiver,
            Arc::clone(&shared),
        );
        tokio::spawn(listener.run());
        Ok(XmppClient::new(bound.jid, iq_max, commands, shared))
    }

    fn checked(self) -> Result<(Settings, Vec<StanzaCallback>, Duration), ConnectError> {
        let jid = Jid::parse(&self.jid).map_err(ConnectError::Jid)?;
        if jid.local().is_none() {
            return Err(ConnectError::NoLocalPart);
        }
        let settings = Settings {
            jid,
            password: self.password.ok_or(ConnectError::NoPassword)?,
            ca: self.ca,
            connect_to: self.connect_to,
            direct_tls: self.direct_tls,
            connect_max: self.connect_max,
        };
        Ok((settings, self.callbacks, self.iq_max))
    }
}
