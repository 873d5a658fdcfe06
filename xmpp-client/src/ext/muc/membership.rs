//! Are we still in the room? (XEP-0410)
//!
//! A ping to our own address in the room; what its answer means is a function without side effects.
//! Ask after a quarter of an hour of silence, and after the stream was lost and not resumed.

use super::super::request;
use crate::client::XmppClient;
use crate::error::IqError;
use xmpp_stream::error::StanzaCondition;
use xmpp_stream::jid::FullJid;
use xmpp_stream::ns;
use xmpp_stream::stanza::Ty;
use xmpp_stream::xml::Element;

/// What the answer to a self-ping means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Membership {
    /// We are in the room.
    Joined,
    /// We are in the room under another nickname.
    Renamed,
    /// We are not in the room: join again.
    NotJoined,
    /// The room cannot be reached; ask again later.
    Undecided,
}

/// Asks the room whether we are in it.
///
/// # Errors
/// The stream is over.
pub async fn check_membership(
    client: &XmppClient,
    occupant: &FullJid,
) -> Result<Membership, IqError> {
    let ping = Element::new(ns::PING, "ping");
    let answer = client
        .send_iq(request(Ty::Get, Some(occupant.as_jid()), &ping))
        .await;
    match answer {
        Err(error @ (IqError::Closed | IqError::IdInUse | IqError::NotARequest)) => Err(error),
        answer => Ok(membership(&answer.map(|_| ()))),
    }
}

/// XEP-0410 section 3.2.
#[must_use]
pub fn membership(answer: &Result<(), IqError>) -> Membership {
    match answer {
        Ok(()) => Membership::Joined,
        Err(IqError::Stanza(error)) => match error.condition {
            StanzaCondition::ServiceUnavailable | StanzaCondition::FeatureNotImplemented => {
                Membership::Joined
            }
            StanzaCondition::ItemNotFound => Membership::Renamed,
            StanzaCondition::RemoteServerNotFound | StanzaCondition::RemoteServerTimeout => {
                Membership::Undecided
            }
            _ => Membership::NotJoined,
        },
        Err(_) => Membership::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::error::StanzaError;

    #[test]
    fn xep0410_every_answer_has_its_meaning() {
        let check = |answer: Result<(), IqError>, expected| {
            assert_eq!(membership(&answer), expected, "{answer:?}");
        };
        check(Ok(()), Membership::Joined);
        check(Err(IqError::Timeout), Membership::Undecided);
        for condition in StanzaCondition::ALL {
            let expected = match condition.as_str() {
                "service-unavailable" | "feature-not-implemented" => Membership::Joined,
                "item-not-found" => Membership::Renamed,
                "remote-server-not-found" | "remote-server-timeout" => Membership::Undecided,
                _ => Membership::NotJoined,
            };
            let error = StanzaError::from(*condition);
            check(Err(IqError::Stanza(error)), expected);
        }
    }
}
