//! Registration while logged in (XEP-0077): a new password, the end of the account, other services.

use super::XmppProtocol;
use super::questions::Questions;
use crate::error::IqError;
use crate::ext::{self, RequestError};
use std::fmt;
use xmpp_stream::error::{ErrorType, StanzaCondition, StanzaError};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::forms::Form;
use xmpp_stream::xml::Element;

/// Why there was no registration.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is taken.
    Conflict,
    /// Something is missing in what was filled in, or the service does not like it; its words.
    NotAcceptable(Option<String>),
    /// It is to be tried again later: too many registrations; its words.
    Later(Option<String>),
    /// Nobody, or not we, may do this here.
    NotAllowed(StanzaCondition),
    /// These must be filled in; nothing was sent.
    Missing(Vec<String>),
    /// The request failed in another way.
    Request(RequestError),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("the name is taken"),
            Self::NotAcceptable(None) => f.write_str("the service wants something else"),
            Self::NotAcceptable(Some(text)) => {
                write!(f, "the service wants something else: {text}")
            }
            Self::Later(None) => f.write_str("not now, but perhaps later"),
            Self::Later(Some(text)) => write!(f, "not now, but perhaps later: {text}"),
            Self::NotAllowed(condition) => write!(f, "not allowed here: {condition}"),
            Self::Missing(names) => write!(f, "not filled in: {}", names.join(", ")),
            Self::Request(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RegisterError {}

impl From<RequestError> for RegisterError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Iq(IqError::Stanza(error)) => Self::of(error),
            other => Self::Request(other),
        }
    }
}

impl From<IqError> for RegisterError {
    fn from(error: IqError) -> Self {
        RequestError::Iq(error).into()
    }
}

impl RegisterError {
    /// XEP-0077 sections 3.1 to 3.3.
    fn of(error: StanzaError) -> Self {
        let text = error.text.as_deref().map(Into::into);
        match error.condition {
            StanzaCondition::Conflict => Self::Conflict,
            StanzaCondition::ResourceConstraint => Self::Later(text),
            StanzaCondition::NotAcceptable if error.ty == ErrorType::Wait => Self::Later(text),
            StanzaCondition::NotAcceptable | StanzaCondition::BadRequest => {
                Self::NotAcceptable(text)
            }
            StanzaCondition::Forbidden
            | StanzaCondition::NotAllowed
            | StanzaCondition::NotAuthorized
            | StanzaCondition::RegistrationRequired
            | StanzaCondition::ServiceUnavailable
            | StanzaCondition::FeatureNotImplemented
            | StanzaCondition::UnexpectedRequest => Self::NotAllowed(error.condition),
            _ => Self::Request(RequestError::Iq(IqError::Stanza(error))),
        }
    }
}

/// What came of a registration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registered {
    /// The name of the account: the server's choice where it made one, else ours.
    pub username: Option<String>,
}

impl Registered {
    /// Section 3.1: an answer has no payload, unless the server says which name it gave.
    pub(crate) fn read(answer: Option<&Element>, asked: &Questions) -> Self {
        let given = answer
            .filter(|query| query.is(ns::REGISTER, "query"))
            .and_then(|query| {
                let plain = query.child(ns::REGISTER, "username").map(Element::text);
                plain.or_else(|| Form::find(query)?.value("username").map(Into::into))
            });
        let given = given.filter(|name| !name.is_empty());
        Self {
            username: given.or_else(|| asked.value("username").map(Into::into)),
        }
    }
}

impl XmppProtocol {
    /// What a service asks for, or has on file; the own server without an address.
    ///
    /// # Errors
    /// The request was refused or failed.
    pub async fn registration(&self, service: Option<&Jid>) -> Result<Questions, RegisterError> {
        let query = Element::new(ns::REGISTER, "query");
        let answer = ext::get(self.client(), service, &query).await?;
        read(answer).map_err(Into::into)
    }

    /// Registers with a service, such as a gateway, or changes what it has on file.
    ///
    /// # Errors
    /// It was refused, or something is missing.
    pub async fn register(
        &self,
        service: &Jid,
        asked: &Questions,
    ) -> Result<Registered, RegisterError> {
        complete(asked)?;
        let answer = ext::set(self.client(), Some(service), &asked.to_answer()).await?;
        Ok(Registered::read(answer.as_ref(), asked))
    }

    /// Changes the password of the own account. Sign in with the new one from now on.
    ///
    /// # Errors
    /// It was refused.
    pub async fn change_password(&self, password: &str) -> Result<(), RegisterError> {
        let own = self.client().jid();
        let local = own.local().unwrap_or_default();
        let text = |name, text: &str| Element::new(ns::REGISTER, name).with_text(text);
        let query = Element::new(ns::REGISTER, "query")
            .with_child(text("username", local))
            .with_child(text("password", password));
        ext::set(self.client(), None, &query).await?;
        Ok(())
    }

    /// Ends a registration with a service, or, without an address, the own account and everything in
    /// it. Its server ends the stream then.
    ///
    /// # Errors
    /// It was refused. That the stream is over before the answer came is no error: the account is
    /// gone.
    pub async fn unregister(&self, service: Option<&Jid>) -> Result<(), RegisterError> {
        let remove = Element::new(ns::REGISTER, "remove");
        let query = Element::new(ns::REGISTER, "query").with_child(remove);
        match ext::set(self.client(), service, &query).await {
            Ok(_) => Ok(()),
            // Section 3.2: a server may end all sessions of the account at once.
            Err(IqError::Closed) if service.is_none() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

pub(crate) fn read(answer: Option<Element>) -> Result<Questions, RequestError> {
    let answer = ext::expect(answer, ns::REGISTER, "query")?;
    Questions::parse(ns::REGISTER, &answer).ok_or(RequestError::Malformed("it is no question"))
}

pub(crate) fn complete(asked: &Questions) -> Result<(), RegisterError> {
    let missing: Vec<String> = asked.missing().into_iter().map(Into::into).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(RegisterError::Missing(missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(content: &str) -> Element {
        let xml = format!("<query xmlns='jabber:iq:register'>{content}</query>");
        Element::parse(xml.as_bytes(), "").unwrap()
    }

    #[test]
    fn xep0077_the_servers_name_goes_before_ours() {
        let mut asked = Questions::parse(ns::REGISTER, &query("<username/><password/>")).unwrap();
        asked.set("username", "ann");
        let name = |answer: Option<Element>| Registered::read(answer.as_ref(), &asked).username;
        assert_eq!(name(None).as_deref(), Some("ann"));
        assert_eq!(name(Some(query(""))).as_deref(), Some("ann"));
        assert_eq!(
            name(Some(query("<username>a1</username>"))).as_deref(),
            Some("a1")
        );
        let form = "<x xmlns='jabber:x:data' type='result'><field var='username'>\
                    <value>a2</value></field></x>";
        assert_eq!(name(Some(query(form))).as_deref(), Some("a2"));
        assert_eq!(
            complete(&asked),
            Err(RegisterError::Missing(vec!["password".into()]))
        );
    }

    #[test]
    fn xep0077_refusals_say_what_to_do() {
        #[track_caller]
        fn check(error: StanzaError, expected: RegisterError) {
            assert_eq!(RegisterError::from(IqError::Stanza(error)), expected);
        }
        let words = Some("words".to_owned());
        check(StanzaError::conflict(), RegisterError::Conflict);
        check(
            StanzaError::not_acceptable().with_text("words"),
            RegisterError::NotAcceptable(words.clone()),
        );
        let later = StanzaError::new(ErrorType::Wait, StanzaCondition::NotAcceptable);
        check(later.with_text("words"), RegisterError::Later(words));
        check(
            StanzaError::service_unavailable(),
            RegisterError::NotAllowed(StanzaCondition::ServiceUnavailable),
        );
        let other = RequestError::Iq(IqError::Timeout);
        assert_eq!(
            RegisterError::from(IqError::Timeout),
            RegisterError::Request(other)
        );
    }
}
