//! Conditions of streams and stanzas, and this crate's own error.
//!
//! RFC 6120 sections 4.9.3 and 8.3.3 as tables: variant, wire name, one sentence.

use crate::ns;
use crate::xml::{Element, XmlError};
use std::fmt;

macro_rules! conditions {
    ($(#[$meta:meta])* $ty:ident { $($(#[doc = $doc:literal])* $variant:ident = $wire:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $ty { $($(#[doc = $doc])* $variant,)* }

        impl $ty {
            /// All conditions, in alphabetical order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The element name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)* }
            }

            /// The condition of an element name; `None` when the RFC does not define it.
            #[must_use]
            pub fn from_wire(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

conditions! {
    /// Stream error conditions (RFC 6120 section 4.9.3).
    StreamCondition {
        /// The XML cannot be processed.
        BadFormat = "bad-format",
        /// A prefix is missing or not accepted.
        BadNamespacePrefix = "bad-namespace-prefix",
        /// This stream was replaced by another.
        Conflict = "conflict",
        /// The peer is held for lost.
        ConnectionTimeout = "connection-timeout",
        /// The domain is no longer served.
        HostGone = "host-gone",
        /// The domain is not served.
        HostUnknown = "host-unknown",
        /// A stanza between servers lacks an address.
        ImproperAddressing = "improper-addressing",
        /// Our own fault.
        InternalServerError = "internal-server-error",
        /// `from` is not what was proven.
        InvalidFrom = "invalid-from",
        /// Wrong stream or content namespace.
        InvalidNamespace = "invalid-namespace",
        /// Schema validation failed.
        InvalidXml = "invalid-xml",
        /// Data before authentication.
        NotAuthorized = "not-authorized",
        /// The XML is not well-formed.
        NotWellFormed = "not-well-formed",
        /// A local rule was broken.
        PolicyViolation = "policy-violation",
        /// An entity needed for authentication cannot be reached.
        RemoteConnectionFailed = "remote-connection-failed",
        /// Reconnect and negotiate anew.
        Reset = "reset",
        /// Out of resources.
        ResourceConstraint = "resource-constraint",
        /// Comment, processing instruction, DTD or entity reference.
        RestrictedXml = "restricted-xml",
        /// Redirect.
        SeeOtherHost = "see-other-host",
        /// The server goes down.
        SystemShutdown = "system-shutdown",
        /// Only with an application condition.
        UndefinedCondition = "undefined-condition",
        /// Not UTF-8.
        UnsupportedEncoding = "unsupported-encoding",
        /// A required feature is missing.
        UnsupportedFeature = "unsupported-feature",
        /// Unknown first-level element.
        UnsupportedStanzaType = "unsupported-stanza-type",
        /// Major version not supported.
        UnsupportedVersion = "unsupported-version",
    }
}

conditions! {
    /// Stanza error conditions (RFC 6120 section 8.3.3).
    StanzaCondition {
        /// Syntactically wrong.
        BadRequest = "bad-request",
        /// The name or address is taken.
        Conflict = "conflict",
        /// Namespace known, action not.
        FeatureNotImplemented = "feature-not-implemented",
        /// Lacks permission.
        Forbidden = "forbidden",
        /// Moved for good.
        Gone = "gone",
        /// Our own fault.
        InternalServerError = "internal-server-error",
        /// The addressed thing does not exist.
        ItemNotFound = "item-not-found",
        /// Bad address.
        JidMalformed = "jid-malformed",
        /// Does not meet criteria.
        NotAcceptable = "not-acceptable",
        /// Nobody may do this.
        NotAllowed = "not-allowed",
        /// Needs credentials.
        NotAuthorized = "not-authorized",
        /// A local rule was broken.
        PolicyViolation = "policy-violation",
        /// Absent for now.
        RecipientUnavailable = "recipient-unavailable",
        /// Temporarily elsewhere.
        Redirect = "redirect",
        /// Register first.
        RegistrationRequired = "registration-required",
        /// The remote domain does not resolve.
        RemoteServerNotFound = "remote-server-not-found",
        /// The remote domain does not answer.
        RemoteServerTimeout = "remote-server-timeout",
        /// Busy.
        ResourceConstraint = "resource-constraint",
        /// Not offered.
        ServiceUnavailable = "service-unavailable",
        /// Subscribe first.
        SubscriptionRequired = "subscription-required",
        /// Only with an application condition.
        UndefinedCondition = "undefined-condition",
        /// Out of order.
        UnexpectedRequest = "unexpected-request",
    }
}

conditions! {
    /// SASL failure conditions (RFC 6120 section 6.5).
    SaslCondition {
        /// The peer sent `<abort/>`.
        Aborted = "aborted",
        /// The account is disabled.
        AccountDisabled = "account-disabled",
        /// The credentials have expired.
        CredentialsExpired = "credentials-expired",
        /// The mechanism needs TLS.
        EncryptionRequired = "encryption-required",
        /// Bad base64.
        IncorrectEncoding = "incorrect-encoding",
        /// The authorization identity is malformed or not permitted.
        InvalidAuthzid = "invalid-authzid",
        /// Unknown mechanism.
        InvalidMechanism = "invalid-mechanism",
        /// Syntax error in mechanism data.
        MalformedRequest = "malformed-request",
        /// Policy asks for a stronger mechanism.
        MechanismTooWeak = "mechanism-too-weak",
        /// Wrong credentials, or unspecified.
        NotAuthorized = "not-authorized",
        /// Our side cannot check now.
        TemporaryAuthFailure = "temporary-auth-failure",
    }
}

/// `<stream:error/>`: the stream cannot go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamError {
    /// What is wrong.
    pub condition: StreamCondition,
    /// A sentence for people; never read by machines.
    pub text: Option<Box<str>>,
    /// Application condition.
    pub app: Option<Box<Element>>,
    /// With see-other-host: where to (section 4.9.3.19), as the peer wrote it.
    pub other_host: Option<Box<str>>,
}

/// Error types of a stanza error (RFC 6120 section 8.3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorType {
    /// Retry with credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// A warning.
    Continue,
    /// Change and retry.
    Modify,
    /// Retry later.
    Wait,
}

/// `<error/>` of a stanza: this stanza cannot be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StanzaError {
    /// What the sender may do about it.
    pub ty: ErrorType,
    /// What is wrong.
    pub condition: StanzaCondition,
    /// A sentence for people.
    pub text: Option<Box<str>>,
    /// Application condition.
    pub app: Option<Box<Element>>,
}

impl StreamError {
    /// An error of a condition alone.
    #[must_use]
    pub const fn new(condition: StreamCondition) -> Self {
        Self {
            condition,
            text: None,
            app: None,
            other_host: None,
        }
    }

    /// Builder: a sentence for people.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Builder: an application condition.
    #[must_use]
    pub fn with_app(mut self, app: Element) -> Self {
        self.app = Some(Box::new(app));
        self
    }

    /// As a tree in the streams namespace.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let error = Element::new(ns::STREAMS, "error");
        let app = self.app.as_deref();
        let mut condition = Element::new(ns::STREAM_ERRORS, self.condition.as_str());
        if let Some(place) = &self.other_host {
            condition.push_text(place);
        }
        add_condition(
            error,
            ns::STREAM_ERRORS,
            condition,
            self.text.as_deref(),
            app,
        )
    }

    /// The wire form `<stream:error>…</stream:error>`, for a stream that declared the prefix.
    #[must_use]
    pub fn to_xml(&self) -> String {
        // No prefix is in scope here, so each child declares its own namespace.
        let mut xml = "<stream:error>".to_owned();
        for child in self.to_element().children() {
            xml.push_str(&child.to_xml(ns::STREAMS));
        }
        xml.push_str("</stream:error>");
        xml
    }

    /// Reads a received error; an unknown condition is undefined-condition (section 4.9.2).
    #[must_use]
    pub fn from_element(element: &Element) -> Self {
        let (name, text, app) = read_condition(element, ns::STREAM_ERRORS);
        let condition = match name.as_deref() {
            Some("xml-not-well-formed") => Some(StreamCondition::NotWellFormed), // RFC 3920
            Some(name) => StreamCondition::from_wire(name),
            None => None,
        };
        let condition = condition.unwrap_or(StreamCondition::UndefinedCondition);
        let other_host = element.child(ns::STREAM_ERRORS, condition.as_str());
        let other_host = other_host.filter(|_| condition == StreamCondition::SeeOtherHost);
        Self {
            condition,
            text,
            app,
            other_host: other_host
                .map(Element::text)
                .filter(|place| !place.is_empty())
                .map(Into::into),
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_error(
            f,
            "stream error ",
            self.condition.as_str(),
            self.text.as_deref(),
        )
    }
}

impl std::error::Error for StreamError {}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> Self {
        Self::new(condition)
    }
}

impl From<&XmlError> for StreamError {
    fn from(error: &XmlError) -> Self {
        let plain = Self::new(error.condition());
        match error {
            XmlError::Limit(_) => plain.with_text(&error.to_string()),
            _ => plain,
        }
    }
}

impl ErrorType {
    /// The attribute value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }

    /// Reads the attribute value.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        match text {
            "auth" => Some(Self::Auth),
            "cancel" => Some(Self::Cancel),
            "continue" => Some(Self::Continue),
            "modify" => Some(Self::Modify),
            "wait" => Some(Self::Wait),
            _ => None,
        }
    }
}

impl StanzaCondition {
    /// The type that usually goes with it (RFC 6120 section 8.3.3).
    #[must_use]
    pub fn usual_type(self) -> ErrorType {
        match self {
            Self::Forbidden
            | Self::NotAuthorized
            | Self::RegistrationRequired
            | Self::SubscriptionRequired => ErrorType::Auth,
            Self::BadRequest
            | Self::JidMalformed
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::Redirect => ErrorType::Modify,
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorType::Wait,
            Self::Conflict
            | Self::FeatureNotImplemented
            | Self::Gone
            | Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable
            | Self::UndefinedCondition => ErrorType::Cancel,
        }
    }
}

macro_rules! short {
    ($($name:ident = $condition:ident;)*) => {
        /// The usual form of each condition, with the type of RFC 6120 section 8.3.3.
        impl StanzaError {
            $(
                #[doc = concat!("`", stringify!($condition), "` with its usual type.")]
                #[must_use]
                pub fn $name() -> Self {
                    Self::from(StanzaCondition::$condition)
                }
            )*
        }
    };
}

short! {
    bad_request = BadRequest;
    conflict = Conflict;
    feature_not_implemented = FeatureNotImplemented;
    forbidden = Forbidden;
    gone = Gone;
    internal_server_error = InternalServerError;
    item_not_found = ItemNotFound;
    jid_malformed = JidMalformed;
    not_acceptable = NotAcceptable;
    not_allowed = NotAllowed;
    not_authorized = NotAuthorized;
    policy_violation = PolicyViolation;
    recipient_unavailable = RecipientUnavailable;
    registration_required = RegistrationRequired;
    remote_server_not_found = RemoteServerNotFound;
    remote_server_timeout = RemoteServerTimeout;
    resource_constraint = ResourceConstraint;
    service_unavailable = ServiceUnavailable;
    subscription_required = SubscriptionRequired;
    undefined_condition = UndefinedCondition;
    unexpected_request = UnexpectedRequest;
}

impl StanzaError {
    /// An error of a type and a condition.
    #[must_use]
    pub const fn new(ty: ErrorType, condition: StanzaCondition) -> Self {
        Self {
            ty,
            condition,
            text: None,
            app: None,
        }
    }

    /// Builder: a sentence for people.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Builder: an application condition.
    #[must_use]
    pub fn with_app(mut self, app: Element) -> Self {
        self.app = Some(Box::new(app));
        self
    }

    /// The `<error/>` child of an error stanza.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let error = Element::new(ns::CLIENT, "error").with_attr("type", self.ty.as_str());
        let app = self.app.as_deref();
        add_condition(
            error,
            ns::STANZAS,
            Element::new(ns::STANZAS, self.condition.as_str()),
            self.text.as_deref(),
            app,
        )
    }

    /// Reads a received `<error/>`; an unknown condition is undefined-condition, an unknown type
    /// the condition's usual one.
    #[must_use]
    pub fn from_element(element: &Element) -> Self {
        let (name, text, app) = read_condition(element, ns::STANZAS);
        let condition = name.as_deref().and_then(StanzaCondition::from_wire);
        let condition = condition.unwrap_or(StanzaCondition::UndefinedCondition);
        let ty = element.attr("type").and_then(ErrorType::from_wire);
        Self {
            ty: ty.unwrap_or_else(|| condition.usual_type()),
            condition,
            text,
            app,
        }
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_error(f, "", self.condition.as_str(), self.text.as_deref())?;
        write!(f, " (type {})", self.ty.as_str())
    }
}

impl std::error::Error for StanzaError {}

impl From<StanzaCondition> for StanzaError {
    fn from(condition: StanzaCondition) -> Self {
        Self::new(condition.usual_type(), condition)
    }
}

fn add_condition(
    error: Element,
    ns: &str,
    condition: Element,
    text: Option<&str>,
    app: Option<&Element>,
) -> Element {
    let mut error = error.with_child(condition);
    if let Some(text) = text {
        let text = Element::new(ns, "text").with_text(text);
        error.push(text.with_attr_ns(ns::XML, "lang", "en"));
    }
    if let Some(app) = app {
        error.push(app.clone());
    }
    error
}

type ReadCondition = (Option<String>, Option<Box<str>>, Option<Box<Element>>);

/// Name of the condition, text, and the first child of a foreign namespace.
fn read_condition(error: &Element, ns: &str) -> ReadCondition {
    let is_condition = |child: &&Element| child.ns() == ns && child.name() != "text";
    let name = error
        .children()
        .find(is_condition)
        .map(|child| child.name().to_owned());
    let text = error.child(ns, "text").map(|text| text.text().into());
    let app = error
        .children()
        .find(|child| child.ns() != ns && child.ns() != error.ns());
    (name, text, app.map(|app| Box::new(app.clone())))
}

fn write_error(
    f: &mut fmt::Formatter<'_>,
    prefix: &str,
    condition: &str,
    text: Option<&str>,
) -> fmt::Result {
    write!(f, "{prefix}{condition}")?;
    match text {
        Some(text) => write!(f, ": {text}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
