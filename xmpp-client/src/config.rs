//! How a client is set up: nothing to set in the common case but JID and password.

use crate::client::{XmppClient, call};
use crate::connect;
use crate::error::ConnectError;
use crate::guest::Guest;
use crate::handlers::{IqAnswer, IqCallback, boxed};
use crate::limits::Limits;
use crate::listener::{Shared, XmppListener};
use crate::negotiate::Bound;
use crate::pins::Pins;
use crate::reconnect::{Reconnect, Verdict, after_attempt};
use crate::route::{Route, Wishes};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::stream::Password;

pub(crate) type StanzaCallback = Box<dyn FnMut(&Stanza) + Send>;

/// Settings of a client that has not connected yet.
#[must_use = "a builder does nothing before `connect`"]
pub struct Builder {
    jid: String,
    credentials: Option<Credentials>,
    resource: Option<String>,
    pub(crate) wishes: Wishes,
    iq_max: Duration,
    tries: Tries,
    sign_in: SignIn,
    staying: Staying,
    lang: Option<Box<str>>,
    limits: Limits,
    callbacks: Vec<StanzaCallback>,
    handlers: Vec<(String, IqCallback)>,
}

/// How often the first connection is tried.
struct Tries {
    count: u32,
    delay: Duration,
}

struct SignIn {
    plain: bool,
    pins: Pins,
}

struct Staying {
    manage: bool,
    reconnect: Reconnect,
    refuse_offline: bool,
    answer_max: Duration,
    idle_max: Duration,
}

/// A guest has longer than any form takes; servers end the stream of one who takes longer.
const GUEST_IDLE_MAX: Duration = Duration::from_secs(3600);

/// What every connection of one client has in common, checked.
pub(crate) struct Settings {
    /// Names an account; with a resource where one is wanted.
    pub(crate) jid: Jid,
    /// `None`: a certificate signs in.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) route: Route,
    /// PLAIN may be used where no SCRAM is offered.
    pub(crate) plain: bool,
    pub(crate) pins: Pins,
    /// Stream management is used where the server has it.
    pub(crate) manage: bool,
    pub(crate) reconnect: Reconnect,
    /// Without a connection nothing is taken to be sent.
    pub(crate) refuse_offline: bool,
    /// After something was sent the server shows within this time that it lives.
    pub(crate) answer_max: Duration,
    /// The same when nothing was sent or received.
    pub(crate) idle_max: Duration,
    /// Language of texts for people.
    pub(crate) lang: Option<Box<str>>,
    pub(crate) limits: Limits,
}

/// A password, or whom to ask for it.
pub(crate) enum Credentials {
    Password(Password),
    Ask(Asked),
}

/// Whom to ask for a password, and what they said, until a server was told.
pub(crate) struct Asked {
    ask: Ask,
    kept: Mutex<Option<String>>,
}

impl Asked {
    fn kept(&self) -> MutexGuard<'_, Option<String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Asking = Pin<Box<dyn Future<Output = Option<String>> + Send>>;
type Ask = Box<dyn Fn() -> Asking + Send + Sync>;

impl Credentials {
    /// For one login, of however many attempts.
    pub(crate) async fn password(&self) -> Result<Password, ConnectError> {
        let asked = match self {
            Self::Password(password) => return Ok(Password(password.0.clone())),
            Self::Ask(asked) => asked,
        };
        if let Some(password) = &*asked.kept() {
            return Ok(Password(password.clone()));
        }
        let password = (asked.ask)().await.ok_or(ConnectError::NoPassword)?;
        *asked.kept() = Some(password.clone());
        Ok(Password(password))
    }

    /// A server has had its say on the password: the next login is another.
    pub(crate) fn used(&self) {
        if let Self::Ask(asked) = self {
            *asked.kept() = None;
        }
    }
}

impl Builder {
    pub(crate) fn new(jid: &str) -> Self {
        Self {
            jid: jid.into(),
            credentials: None,
            resource: None,
            wishes: Wishes::default(),
            iq_max: Duration::from_secs(60),
            tries: Tries {
                count: 1,
                delay: Duration::ZERO,
            },
            sign_in: SignIn {
                plain: true,
                pins: Pins::default(),
            },
            staying: Staying {
                manage: true,
                reconnect: Reconnect::default(),
                refuse_offline: false,
                answer_max: Duration::from_secs(60),
                idle_max: Duration::from_secs(300),
            },
            lang: None,
            limits: Limits::default(),
            handlers: Vec::new(),
            callbacks: Vec::new(),
        }
    }

    /// The account's password.
    pub fn password(mut self, password: &str) -> Self {
        self.credentials = Some(Credentials::Password(Password(password.into())));
        self
    }

    /// Asks for the password at each login, once for all attempts to reach the server; `None` gives
    /// up.
    pub fn password_from<A, F>(mut self, ask: A) -> Self
    where
        A: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Option<String>> + Send + 'static,
    {
        self.credentials = Some(Credentials::Ask(Asked {
            ask: Box::new(move || Box::pin(ask())),
            kept: Mutex::default(),
        }));
        self
    }

    /// Never tells the server the password, not even where it has no better way to sign in.
    pub fn refuse_plain(mut self) -> Self {
        self.sign_in.plain = false;
        self
    }

    /// Which ways to sign in accounts have used: nothing weaker is used any more. The value can be
    /// shared by clients, and stored.
    pub fn pins(mut self, pins: &Pins) -> Self {
        self.sign_in.pins = pins.clone();
        self
    }

    /// Tries so many times to connect, with this delay in between; once unless said otherwise. What
    /// cannot get better, such as a wrong password, is not tried again.
    pub fn connect_tries(mut self, count: u32, delay: Duration) -> Self {
        self.tries = Tries { count, delay };
        self
    }

    /// When to connect again after the connection was lost; for ever, with growing delays, unless
    /// said otherwise.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.staying.reconnect = reconnect;
        self
    }

    /// While there is no connection what is to be sent is refused, instead of waiting for the next.
    pub fn refuse_offline(mut self) -> Self {
        self.staying.refuse_offline = true;
        self
    }

    /// Without stream management (XEP-0198), also where the server has it.
    pub fn without_stream_management(mut self) -> Self {
        self.staying.manage = false;
        self
    }

    /// After something was sent the connection counts as lost when nothing is heard for this long; a
    /// minute unless said otherwise.
    pub fn answer_max(mut self, max: Duration) -> Self {
        self.staying.answer_max = max;
        self
    }

    /// An idle connection is checked after this long; five minutes unless said otherwise.
    pub fn idle_max(mut self, max: Duration) -> Self {
        self.staying.idle_max = max;
        self
    }

    /// The resource to ask for, in place of that of the JID. The server has the last word.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// The language of texts for people, such as `en`.
    pub fn lang(mut self, lang: &str) -> Self {
        self.lang = Some(lang.into());
        self
    }

    /// What the server and the program may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
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

    /// Registers a handler before the first request can arrive; see `XmppClient::handle_iq`.
    pub fn handle_iq<H, F>(mut self, namespace: &str, handler: H) -> Self
    where
        H: FnMut(Stanza) -> F + Send + 'static,
        F: Future<Output = IqAnswer> + Send + 'static,
    {
        self.handlers.push((namespace.into(), boxed(handler)));
        self
    }

    /// Connects, secures the stream, signs in and binds a resource.
    ///
    /// # Errors
    /// `ConnectError`, whose `step` names the step that failed.
    pub async fn connect(mut self) -> Result<XmppClient, ConnectError> {
        let callbacks = std::mem::take(&mut self.callbacks);
        let handlers = std::mem::take(&mut self.handlers);
        let (iq_max, tries) = (self.iq_max, Tries { ..self.tries });
        let settings = self.checked()?;
        // Boxed: it is large, and gone once there is a stream.
        let bound = Box::pin(connect(&settings, tries)).await?;
        let shared = Arc::new(Shared::new(bound.jid.clone(), settings.limits));
        // Callbacks are there before the listener reads.
        for callback in callbacks {
            call(&shared, callback);
        }
        for (namespace, handler) in handlers {
            shared.handlers.add(&namespace, handler);
        }
        let listener = XmppListener::new(settings, bound, Arc::clone(&shared));
        tokio::spawn(Box::new(listener).run());
        Ok(XmppClient::new(iq_max, shared))
    }

    /// Connects to the domain and secures the stream, but does not sign in: to register an account.
    /// Neither a password nor a local part of the JID is needed.
    ///
    /// # Errors
    /// `ConnectError`, whose `step` names the step that failed.
    pub async fn connect_guest(mut self) -> Result<Guest, ConnectError> {
        let domain = Jid::parse(&self.jid).map_err(ConnectError::Jid)?;
        let domain = Jid::domain_only(domain.domain()).map_err(ConnectError::Jid)?;
        self.credentials = None;
        self.resource = None;
        self.staying.manage = false;
        // A person fills in a form: the stream is not to be asked for life meanwhile.
        self.staying.idle_max = GUEST_IDLE_MAX;
        let (iq_max, tries) = (self.iq_max, Tries { ..self.tries });
        let settings = self.checked_for(domain.clone())?;
        let bound = Box::pin(connect(&settings, tries)).await?;
        Ok(Guest::new(bound.driver, domain, iq_max, &settings.limits))
    }

    fn checked(self) -> Result<Settings, ConnectError> {
        let mut jid = Jid::parse(&self.jid).map_err(ConnectError::Jid)?;
        if let Some(resource) = &self.resource {
            let full = jid.to_bare().with_resource(resource);
            jid = full.map_err(ConnectError::Jid)?.into();
        }
        if jid.local().is_none() {
            return Err(ConnectError::NoLocalPart);
        }
        if self.credentials.is_none() && self.wishes.identity.is_none() {
            return Err(ConnectError::NoPassword);
        }
        self.checked_for(jid)
    }

    fn checked_for(self, jid: Jid) -> Result<Settings, ConnectError> {
        Ok(Settings {
            credentials: self.credentials,
            route: self.wishes.checked(jid.domain())?,
            jid,
            plain: self.sign_in.plain,
            pins: self.sign_in.pins,
            manage: self.staying.manage,
            reconnect: self.staying.reconnect,
            refuse_offline: self.staying.refuse_offline,
            answer_max: self.staying.answer_max,
            idle_max: self.staying.idle_max,
            lang: self.lang,
            limits: self.limits,
        })
    }
}

/// The first connection; the last error where there is none.
async fn connect(settings: &Settings, tries: Tries) -> Result<Bound, ConnectError> {
    let mut left = tries.count.max(1);
    loop {
        left -= 1;
        match connect::connect(settings, None).await {
            Err(error) if left > 0 && after_attempt(&error) != Verdict::Stop => {
                tracing::debug!(%error, "not connected");
                tokio::time::sleep(tries.delay).await;
            }
            done => return done,
        }
    }
}
