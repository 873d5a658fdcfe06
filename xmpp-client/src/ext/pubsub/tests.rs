//! Notifications, options and refusals.

use super::*;
use crate::error::IqError;
use xmpp_stream::error::StanzaError;
use xmpp_stream::stanza::Stanza;

fn stanza(from: &str, inside: &str) -> Stanza {
    let event = format!("<event xmlns='{}'>{inside}</event>", ns::PUBSUB_EVENT);
    Stanza::parse(&format!("<message from='{from}'>{event}</message>")).unwrap()
}

#[test]
fn xep0060_notifications_say_what_happened() {
    #[track_caller]
    fn check(inside: &str, expected: Option<Change>) {
        let found = notification(&stanza("p.test", inside));
        assert_eq!(found.map(|found| found.change), expected, "{inside}");
    }
    let item = |id: Option<&str>, payload: Option<&str>| Item {
        id: id.map(Into::into),
        publisher: None,
        payload: payload.map(|name| Element::new("urn:x", name)),
    };
    check(
        "<items node='n'><item id='1'><a xmlns='urn:x'/></item><item/></items>",
        Some(Change::Published(vec![
            item(Some("1"), Some("a")),
            item(None, None),
        ])),
    );
    check(
        "<items node='n'><retract id='1'/></items>",
        Some(Change::Retracted(vec!["1".into()])),
    );
    check("<purge node='n'/>", Some(Change::Purged));
    check("<delete node='n'/>", Some(Change::Deleted));
    check("<configuration node='n'/>", Some(Change::Configured));
    check("<items node='n'/>", None);
    check("<items><item id='1'/></items>", None);
    check("<subscription node='n'/>", None);
    check("", None);
}

#[test]
fn ck_07_notifications_count_from_the_service_alone() {
    let service = Jid::parse("p.test").unwrap();
    let from = |from| read(&service, &stanza(from, "<purge node='n'/>")).is_some();
    assert!(from("p.test"));
    for other in ["eve@p.test", "p.test/eve", "eve.test"] {
        assert!(!from(other), "{other}");
    }
}

#[test]
fn xep0060_options_are_the_fields_that_were_set() {
    let options = Options {
        max_items: Some(MaxItems::Max),
        send_last: Some(SendLast::Never),
        others: vec![("pubsub#title".into(), "t".into())],
        ..Options::private()
    };
    let form = options.to_form(ns::PUBSUB_PUBLISH_OPTIONS);
    let fields: Vec<_> = form
        .fields
        .iter()
        .map(|field| (field.var.as_deref().unwrap(), field.value().unwrap()))
        .collect();
    assert_eq!(
        fields,
        [
            ("FORM_TYPE", ns::PUBSUB_PUBLISH_OPTIONS),
            ("pubsub#access_model", "whitelist"),
            ("pubsub#persist_items", "true"),
            ("pubsub#max_items", "max"),
            ("pubsub#send_last_published_item", "never"),
            ("pubsub#title", "t"),
        ]
    );
}

#[test]
fn xep0060_refusals_say_why() {
    let app = Element::new(ns::PUBSUB_ERRORS, "precondition-not-met");
    let error = StanzaError::conflict().with_app(app);
    let refused = PubsubError::from(IqError::Stanza(error));
    assert_eq!(refused.why(), Some(PubsubCondition::PreconditionNotMet));
    let elsewhere = Element::new("urn:x", "precondition-not-met");
    let error = StanzaError::conflict().with_app(elsewhere);
    assert_eq!(PubsubError::from(IqError::Stanza(error)).why(), None);
    let closed = PubsubError::from(RequestError::Iq(IqError::Closed));
    assert_eq!(closed, PubsubError::Request(IqError::Closed.into()));
}
