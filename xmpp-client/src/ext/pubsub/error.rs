//! What a service refuses, and why (XEP-0060 section 7.1.3 and others).

use crate::error::IqError;
use crate::ext::RequestError;
use std::fmt;
use xmpp_stream::error::StanzaError;
use xmpp_stream::ns;

/// Why a service did not do something.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PubsubError {
    /// It refused.
    Refused {
        /// The error.
        error: StanzaError,
        /// What exactly is wrong, where the service says it.
        why: Option<PubsubCondition>,
    },
    /// The request failed, or the answer cannot be used.
    Request(RequestError),
}

impl PubsubError {
    /// What exactly the service says is wrong.
    #[must_use]
    pub fn why(&self) -> Option<PubsubCondition> {
        match self {
            Self::Refused { why, .. } => *why,
            Self::Request(_) => None,
        }
    }
}

impl fmt::Display for PubsubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused {
                error,
                why: Some(why),
            } => write!(f, "refused: {error}, {}", why.as_str()),
            Self::Refused { error, why: None } => write!(f, "refused: {error}"),
            Self::Request(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for PubsubError {}

impl From<RequestError> for PubsubError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Iq(error) => error.into(),
            error => Self::Request(error),
        }
    }
}

impl From<IqError> for PubsubError {
    fn from(error: IqError) -> Self {
        match error {
            IqError::Stanza(error) => {
                let app = error.app.as_deref();
                let why = app.filter(|app| app.ns() == ns::PUBSUB_ERRORS);
                let why = why.and_then(|app| PubsubCondition::from_wire(app.name()));
                Self::Refused { error, why }
            }
            error => Self::Request(error.into()),
        }
    }
}

macro_rules! conditions {
    ($($variant:ident = $wire:literal, $doc:literal;)*) => {
        /// What exactly is wrong (XEP-0060, schema of the errors' namespace).
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[non_exhaustive]
        pub enum PubsubCondition { $(#[doc = $doc] $variant,)* }

        impl PubsubCondition {
            /// The element name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)* }
            }

            /// The condition of an element name.
            #[must_use]
            pub fn from_wire(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

conditions! {
    ClosedNode = "closed-node", "Only those on a list may subscribe.";
    ConfigurationRequired = "configuration-required", "Configure the subscription first.";
    InvalidJid = "invalid-jid", "Not our JID.";
    InvalidOptions = "invalid-options", "Options that there are not.";
    InvalidPayload = "invalid-payload", "Not what the node holds.";
    InvalidSubid = "invalid-subid", "No such subscription.";
    ItemForbidden = "item-forbidden", "The node holds no items.";
    ItemRequired = "item-required", "An item is missing.";
    JidRequired = "jid-required", "A JID is missing.";
    MaxItemsExceeded = "max-items-exceeded", "Too many items.";
    MaxNodesExceeded = "max-nodes-exceeded", "Too many nodes.";
    NodeFull = "node-full", "The node takes no more.";
    NodeidRequired = "nodeid-required", "A node is missing.";
    NotInRosterGroup = "not-in-roster-group", "Only for certain contacts.";
    NotSubscribed = "not-subscribed", "There is no subscription.";
    PayloadRequired = "payload-required", "A payload is missing.";
    PayloadTooBig = "payload-too-big", "The payload is too large.";
    PendingSubscription = "pending-subscription", "The subscription was not agreed to yet.";
    PreconditionNotMet = "precondition-not-met", "The node has other options.";
    PresenceSubscriptionRequired = "presence-subscription-required", "Only for contacts.";
    SubidRequired = "subid-required", "There are several subscriptions.";
    TooManySubscriptions = "too-many-subscriptions", "Too many subscriptions.";
    Unsupported = "unsupported", "The service cannot do this.";
    UnsupportedAccessModel = "unsupported-access-model", "No such access model here.";
}
