//! How a client is set up: nothing to set in the common case but JID and password.

use crate::client::{XmppClient, call};
use crate::connect;
use crate::error::ConnectError;
use crate::listener::{COMMANDS_MAX, Shared, XmppListener};
use crate::route::{Route, Secret, Wishes};
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
    pub(crate) secret: Secret,
    pub(crate) wishes: Wishes,
    resource: Option<String>,
    lang: Option<String>,
    iq_max: Duration,
    callbacks: Vec<StanzaCallback>,
}

/// What every connection of one client has in common, checked.
pub(crate) struct Settings {
    /// Names an account; with a resource where one is wanted.
    pub(crate) jid: Jid,
    pub(crate) password: Password,
    /// Language of texts for people.
    pub(crate) lang: Option<Box<str>>,
    pub(crate) route: Route,
}

impl Builder {
    pub(crate) fn new(jid: &str) -> Self {
        Self {
            jid: jid.into(),
            secret: Secret::default(),
            wishes: Wishes::default(),
            resource: None,
            lang: None,
            iq_max: Duration::from_secs(60),
            callbacks: Vec::new(),
        }
    }

    /// The resource to ask for, in place of that of the JID. The server has the last word.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// The language of texts for people, such as `de` (BCP 47).
    pub fn lang(mut self, lang: &str) -> Self {
        self.lang = Some(lang.into());
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
        let (settings, callbacks, iq_max) = self.checked().await?;
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

    async fn checked(self) -> Result<(Settings, Vec<StanzaCallback>, Duration), ConnectError> {
        let mut jid = Jid::parse(&self.jid).map_err(ConnectError::Jid)?;
        if let Some(resource) = self.resource {
            let full = jid.to_bare().with_resource(&resource);
            jid = full.map_err(ConnectError::Jid)?.into();
        }
        if jid.local().is_none() {
            return Err(ConnectError::NoLocalPart);
        }
        let route = self.wishes.checked(jid.domain())?;
        let settings = Settings {
            password: self.secret.tell(&jid).await?,
            lang: self.lang.map(Into::into),
            route,
            jid,
        };
        Ok((settings, self.callbacks, self.iq_max))
    }
}
