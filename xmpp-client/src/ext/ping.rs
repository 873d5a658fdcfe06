//! XMPP Ping (XEP-0199): is there somebody, and how far away?
//!
//! An error is an answer too: whoever says service-unavailable is there. What the outcome means for
//! being in a room is `muc::membership` (XEP-0410).

use super::request;
use crate::client::XmppClient;
use crate::error::IqError;
use std::time::Duration;
use tokio::time::Instant;
use xmpp_stream::error::{StanzaCondition, StanzaError};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::stanza::Ty;
use xmpp_stream::xml::Element;

/// What came of a ping.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Answered.
    Pong {
        /// How long it took.
        after: Duration,
    },
    /// Answered, by somebody who does not know pings or does not say who is there.
    Unsupported {
        /// How long it took.
        after: Duration,
        /// The answer.
        error: StanzaError,
    },
    /// The way there is broken, as the last server on it says.
    Unreachable(StanzaError),
    /// Another error: the answerer is there and refuses.
    Refused(StanzaError),
    /// No answer in time.
    NoAnswer,
}

/// Pings; without `to` the own account, which the server answers for.
///
/// # Errors
/// The stream is over.
pub async fn ping(client: &XmppClient, to: Option<&Jid>) -> Result<Outcome, IqError> {
    let begun = Instant::now();
    let iq = request(Ty::Get, to, &Element::new(ns::PING, "ping"));
    let answer = client.send_iq(iq).await;
    outcome(answer.map(|_| ()), begun.elapsed())
}

fn outcome(answer: Result<(), IqError>, after: Duration) -> Result<Outcome, IqError> {
    Ok(match answer {
        Ok(()) => Outcome::Pong { after },
        Err(IqError::Timeout) => Outcome::NoAnswer,
        Err(IqError::Stanza(error)) => match error.condition {
            StanzaCondition::ServiceUnavailable | StanzaCondition::FeatureNotImplemented => {
                Outcome::Unsupported { after, error }
            }
            StanzaCondition::RemoteServerNotFound
            | StanzaCondition::RemoteServerTimeout
            | StanzaCondition::RecipientUnavailable => Outcome::Unreachable(error),
            _ => Outcome::Refused(error),
        },
        Err(error) => return Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: StanzaError, expected: impl FnOnce(StanzaError) -> Outcome) {
        let got = outcome(Err(IqError::Stanza(error.clone())), Duration::ZERO);
        assert_eq!(got, Ok(expected(error)));
    }

    #[test]
    fn an_error_says_whether_somebody_is_there() {
        let unsupported = |error| Outcome::Unsupported {
            after: Duration::ZERO,
            error,
        };
        check(StanzaError::service_unavailable(), unsupported);
        check(StanzaError::feature_not_implemented(), unsupported);
        check(StanzaError::remote_server_not_found(), Outcome::Unreachable);
        check(StanzaError::remote_server_timeout(), Outcome::Unreachable);
        check(StanzaError::not_acceptable(), Outcome::Refused);
        assert_eq!(
            outcome(Err(IqError::Timeout), Duration::ZERO),
            Ok(Outcome::NoAnswer)
        );
        assert_eq!(
            outcome(Err(IqError::Closed), Duration::ZERO),
            Err(IqError::Closed)
        );
    }
}
