//! Personal eventing (XEP-0163): publish-subscribe at an account, ours or a contact's.
//!
//! Notifications come to who says `node+notify` in its capabilities. What is private to the account
//! counts from its own bare JID alone (XEP-0223 section 6).

use super::Forged;
use super::pubsub::{
    self, Items, Notification, Options, PubsubCondition, PubsubError, Which, notification,
};
use crate::client::XmppClient;
use xmpp_stream::error::StanzaCondition;
use xmpp_stream::jid::{BareJid, FullJid};
use xmpp_stream::stanza::Stanza;
use xmpp_stream::xml::Element;

/// Publishes at the own account. A node with other options than these is configured first: who
/// publishes what is private must not find it public. A service that takes fewer options with what
/// is published gets the others by configuring the node.
///
/// # Errors
/// As `pubsub::publish`.
pub async fn publish(
    client: &XmppClient,
    node: &str,
    id: Option<&str>,
    payload: Element,
    options: Option<&Options>,
) -> Result<Option<Box<str>>, PubsubError> {
    let again = payload.clone();
    let published = pubsub::publish(client, None, node, id, Some(payload), options).await;
    let (Err(error), Some(options)) = (&published, options) else {
        return published;
    };
    let few = options.few();
    let asked = match error {
        error if error.why() == Some(PubsubCondition::PreconditionNotMet) => options,
        error if does_not_know_all(error) && few != *options => {
            // Made first: publishing would make it with options of the service's own.
            let created = pubsub::create(client, None, node, Some(options)).await;
            tracing::debug!(?created, node, "options by configuration");
            &few
        }
        _ => return published,
    };
    pubsub::configure(client, None, node, options).await?;
    pubsub::publish(client, None, node, id, Some(again), Some(asked)).await
}

/// The service may have refused a field of the options that it does not know: ejabberd 23.01 says
/// resource-constraint.
fn does_not_know_all(error: &PubsubError) -> bool {
    let PubsubError::Refused { error, why } = error else {
        return false;
    };
    let is_about_fields = matches!(
        error.condition,
        StanzaCondition::BadRequest
            | StanzaCondition::FeatureNotImplemented
            | StanzaCondition::NotAcceptable
            | StanzaCondition::ResourceConstraint
    );
    is_about_fields && matches!(why, None | Some(PubsubCondition::InvalidOptions))
}

/// Items at an account; `None`: the own one.
///
/// # Errors
/// As `pubsub::items`.
pub async fn items(
    client: &XmppClient,
    account: Option<&BareJid>,
    node: &str,
    which: Which<'_>,
) -> Result<Items, PubsubError> {
    pubsub::items(client, account.map(BareJid::as_jid), node, which).await
}

/// Deletes an item at the own account; other resources are told.
///
/// # Errors
/// As `pubsub::retract`.
pub async fn retract(client: &XmppClient, node: &str, id: &str) -> Result<(), PubsubError> {
    pubsub::retract(client, None, node, id, true).await
}

/// Deletes a node of the own account with all its items.
///
/// # Errors
/// As `pubsub::delete_node`.
pub async fn delete_node(client: &XmppClient, node: &str) -> Result<(), PubsubError> {
    pubsub::delete_node(client, None, node).await
}

/// Reads a notification of somebody's account, ours or a contact's: whose, and what. It says
/// something about that account and no other.
#[must_use]
pub fn read(own: &FullJid, stanza: &Stanza) -> Option<(BareJid, Notification)> {
    let found = notification(stanza)?;
    match &stanza.head.from {
        None => Some((own.as_jid().to_bare(), found)),
        Some(from) if from.is_bare() && from.local().is_some() => Some((from.to_bare(), found)),
        Some(_) => None,
    }
}

/// Reads a notification about a private node of the own account; `None` where the stanza is none.
///
/// # Errors
/// Another account says something about a node of this name: nothing that concerns ours.
pub fn read_private(
    own: &FullJid,
    node: &str,
    stanza: &Stanza,
) -> Result<Option<Notification>, Forged> {
    let Some(found) = notification(stanza).filter(|found| found.node == node) else {
        return Ok(None);
    };
    match super::is_from_own_account(own, stanza) {
        true => Ok(Some(found)),
        false => Err(Forged {
            from: stanza.head.from.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::ns;

    fn stanza(from: &str) -> Stanza {
        let purge = format!(
            "<event xmlns='{}'><purge node='n'/></event>",
            ns::PUBSUB_EVENT
        );
        Stanza::parse(&format!("<message{from}>{purge}</message>")).unwrap()
    }

    #[test]
    fn ck_07_private_notifications_come_from_the_own_account_alone() {
        let own = FullJid::parse("ann@a.test/x").unwrap();
        let private = |from: &str| read_private(&own, "n", &stanza(from));
        assert!(private("").unwrap().is_some());
        assert!(private(" from='ann@a.test'").unwrap().is_some());
        for other in ["ann@a.test/x", "ann@a.test/y", "ben@a.test", "a.test"] {
            assert!(private(&format!(" from='{other}'")).is_err(), "{other}");
        }
        let other_node = read_private(&own, "m", &stanza(" from='ben@a.test'"));
        assert_eq!(other_node, Ok(None));
    }

    #[test]
    fn xep0163_a_notification_is_about_the_account_it_comes_from() {
        let own = FullJid::parse("ann@a.test/x").unwrap();
        let whose = |from| read(&own, &stanza(from)).map(|(whose, _)| whose.as_jid().to_string());
        assert_eq!(whose("").as_deref(), Some("ann@a.test"));
        assert_eq!(whose(" from='ben@b.test'").as_deref(), Some("ben@b.test"));
        assert_eq!(whose(" from='ben@b.test/y'"), None);
        assert_eq!(whose(" from='b.test'"), None);
    }
}
