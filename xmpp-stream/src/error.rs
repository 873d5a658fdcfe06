//! Conditions of streams and stanzas, and this crate's own error.
//!
//! RFC 6120 sections 4.9.3 and 8.3.3 as tables: variant, wire name, one sentence.

use crate::ns;
use crate::xml::Element;
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
    /// An error without a text.
    #[must_use]
    pub fn new(condition: StreamCondition) -> Self {
        Self {
            condition,
            text: None,
            app: None,
        }
    }

    /// Adds a sentence for people.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.text = Some(text.into());
        self
    }

    /// `<stream:error>…</stream:error>`, for a stream whose header declared the `stream` prefix.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let condition = Element::new(ns::STREAM_ERRORS, self.condition.as_str());
        let mut xml = format!("<stream:error>{}", condition.to_xml(ns::CLIENT));
        if let Some(text) = &self.text {
            xml.push_str(&text_element(ns::STREAM_ERRORS, text).to_xml(ns::CLIENT));
        }
        if let Some(app) = &self.app {
            xml.push_str(&app.to_xml(ns::CLIENT));
        }
        xml + "</stream:error>"
    }

    /// Reads a received error; an unknown condition is `undefined-condition` (RFC 6120 section 4.9.2).
    #[must_use]
    pub fn from_element(element: &Element) -> Self {
        let mut error = Self::new(StreamCondition::UndefinedCondition);
        for child in element.children() {
            match (child.ns(), child.name()) {
                (ns::STREAM_ERRORS, "text") => error.text = Some(child.text().into()),
                // The name that RFC 3920 used.
                (ns::STREAM_ERRORS, "xml-not-well-formed") => {
                    error.condition = StreamCondition::NotWellFormed;
                }
                (ns::STREAM_ERRORS, name) => {
                    if let Some(condition) = StreamCondition::from_wire(name) {
                        error.condition = condition;
                    }
                }
                _ => error.app = Some(Box::new(child.clone())),
            }
        }
        error
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{}: {text}", self.condition),
            None => self.condition.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}

fn text_element(ns: &str, text: &str) -> Element {
    Element::new(ns, "text")
        .with_attr_ns(ns::XML, "lang", "en")
        .with_text(text)
}

impl ErrorType {
    /// The attribute value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }

    fn of(text: &str) -> Self {
        match text {
            "auth" => Self::Auth,
            "continue" => Self::Continue,
            "modify" => Self::Modify,
            "wait" => Self::Wait,
            _ => Self::Cancel,
        }
    }
}

impl StanzaCondition {
    /// The type that usually goes with it (RFC 6120 section 8.3.3).
    #[must_use]
    pub const fn usual_type(self) -> ErrorType {
        match self {
            Self::BadRequest
            | Self::JidMalformed
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::Redirect => ErrorType::Modify,
            Self::Forbidden
            | Self::NotAuthorized
            | Self::RegistrationRequired
            | Self::SubscriptionRequired => ErrorType::Auth,
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorType::Wait,
            _ => ErrorType::Cancel,
        }
    }
}

macro_rules! shorthands {
    ($($name:ident = $condition:ident,)*) => {
        $(
            #[doc = concat!("`", stringify!($condition), "` with its usual type.")]
            #[must_use]
            pub fn $name() -> Self {
                Self::of(StanzaCondition::$condition)
            }
        )*
    };
}

impl StanzaError {
    /// An error without a text.
    #[must_use]
    pub fn new(ty: ErrorType, condition: StanzaCondition) -> Self {
        Self {
            ty,
            condition,
            text: None,
            app: None,
        }
    }

    /// A condition with its usual type.
    #[must_use]
    pub fn of(condition: StanzaCondition) -> Self {
        Self::new(condition.usual_type(), condition)
    }

    shorthands! {
        bad_request = BadRequest,
        conflict = Conflict,
        feature_not_implemented = FeatureNotImplemented,
        forbidden = Forbidden,
        internal_server_error = InternalServerError,
        item_not_found = ItemNotFound,
        jid_malformed = JidMalformed,
        not_acceptable = NotAcceptable,
        not_allowed = NotAllowed,
        not_authorized = NotAuthorized,
        policy_violation = PolicyViolation,
        recipient_unavailable = RecipientUnavailable,
        registration_required = RegistrationRequired,
        remote_server_not_found = RemoteServerNotFound,
        resource_constraint = ResourceConstraint,
        service_unavailable = ServiceUnavailable,
        unexpected_request = UnexpectedRequest,
    }

    /// Adds a sentence for people.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Adds an application condition.
    #[must_use]
    pub fn with_app(mut self, app: Element) -> Self {
        self.app = Some(Box::new(app));
        self
    }

    /// `<error type=…>` with the condition, the text and the application condition.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut error = Element::new(ns::CLIENT, "error").with_attr("type", self.ty.as_str());
        error.push(Element::new(ns::STANZAS, self.condition.as_str()));
        if let Some(text) = &self.text {
            error.push(text_element(ns::STANZAS, text));
        }
        if let Some(app) = &self.app {
            error.push((**app).clone());
        }
        error
    }

    /// Reads a received error; an unknown condition is `undefined-condition`.
    #[must_use]
    pub fn from_element(element: &Element) -> Self {
        let ty = ErrorType::of(element.attr("type").unwrap_or_default());
        let mut error = Self::new(ty, StanzaCondition::UndefinedCondition);
        for child in element.children() {
            match (child.ns(), child.name()) {
                (ns::STANZAS, "text") => error.text = Some(child.text().into()),
                (ns::STANZAS, name) => {
                    if let Some(condition) = StanzaCondition::from_wire(name) {
                        error.condition = condition;
                    }
                }
                _ => error.app = Some(Box::new(child.clone())),
            }
        }
        error
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{}: {text}", self.condition),
            None => self.condition.fmt(f),
        }
    }
}

impl std::error::Error for StanzaError {}
