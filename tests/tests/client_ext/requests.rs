//! Requests on the wire and the answers to them: blocking, publish-subscribe, upload, disco, ping.

use super::fake::Fake;
use std::future::Future;
use tokio::task::JoinHandle;
use xmpp_client::ext::blocking::{self, BlockError};
use xmpp_client::ext::bookmarks::{self, Bookmark};
use xmpp_client::ext::ping::{self, Outcome};
use xmpp_client::ext::pubsub::{self, PubsubCondition, PubsubError, Which};
use xmpp_client::ext::upload::{self, File, UploadError};
use xmpp_client::ext::{RequestError, disco, pep};
use xmpp_client::{BareJid, Element, Jid, XmppClient};

/// Asks in a task of its own.
fn ask<T, F>(client: &XmppClient, asking: impl FnOnce(XmppClient) -> F) -> JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    tokio::spawn(asking(client.clone()))
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).expect("a JID")
}

const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

#[tokio::test]
async fn xep0191_nobody_is_unblocked_by_an_empty_list() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    assert_eq!(
        blocking::unblock(&client, &[]).await,
        Err(BlockError::Nobody)
    );
    assert_eq!(blocking::block(&client, &[]).await, Err(BlockError::Nobody));
    let asking = ask(&client, |client| async move {
        blocking::block(&client, &[jid("eve@a.test"), jid("b.test")]).await
    });
    let asked = fake.next().await;
    Fake::check(
        &asked,
        "<iq type='set' id='{any}'><block xmlns='urn:xmpp:blocking'>\
         <item jid='eve@a.test'/><item jid='b.test'/></block></iq>",
    );
    fake.result(&asked, "");
    assert_eq!(asking.await.expect("a task"), Ok(()));

    let asking = ask(
        &client,
        |client| async move { blocking::list(&client).await },
    );
    let asked = fake.next().await;
    // ck-9: an answer from somebody else is none.
    let id = asked.head.id.as_deref().expect("an id");
    let list =
        |jid: &str| format!("<blocklist xmlns='urn:xmpp:blocking'><item jid='{jid}'/></blocklist>");
    fake.send(&format!(
        "<iq type='result' from='eve@a.test' id='{id}'>{}</iq>",
        list("ben@b.test")
    ));
    fake.result(&asked, &list("eve@a.test"));
    assert_eq!(asking.await.expect("a task"), Ok(vec![jid("eve@a.test")]));
}

#[tokio::test]
async fn xep0060_items_are_those_of_the_node() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let items = |node: &str| {
        format!(
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{node}'>\
             <item id='1'><a xmlns='urn:x'/></item></items></pubsub>"
        )
    };
    for (node, is_right) in [("n", true), ("other", false)] {
        let asking = ask(&client, |client| async move {
            pubsub::items(&client, Some(&jid("p.test")), "n", Which::Newest(1)).await
        });
        let asked = fake.next().await;
        Fake::check(
            &asked,
            "<iq type='get' to='p.test' id='{any}'>\
             <pubsub xmlns='http://jabber.org/protocol/pubsub'>\
             <items node='n' max_items='1'/></pubsub></iq>",
        );
        fake.result(&asked, &items(node));
        match asking.await.expect("a task") {
            Ok(found) if is_right => assert_eq!(found.items[0].id.as_deref(), Some("1")),
            Err(PubsubError::Request(RequestError::Malformed(_))) if !is_right => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn xep0402_a_node_that_others_may_read_is_closed_before_a_bookmark_goes_into_it() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let setting = ask(&client, |client| async move {
        let room = BareJid::parse("room@c.test").expect("a JID");
        bookmarks::set(&client, &Bookmark::new(room)).await
    });
    let publish = "<iq type='set' id='{any}'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
        <publish node='urn:xmpp:bookmarks:1'><item id='room@c.test'>\
        <conference xmlns='urn:xmpp:bookmarks:1'/></item></publish>\
        <publish-options><x xmlns='jabber:x:data' type='submit'>{more}\
        <field var='pubsub#access_model'><value>whitelist</value></field></x></publish-options>\
        </pubsub></iq>";
    let asked = fake.next().await;
    Fake::check(&asked, publish);
    let unmet = format!(
        "<conflict xmlns='{STANZAS}'/>\
         <precondition-not-met xmlns='http://jabber.org/protocol/pubsub#errors'/>"
    );
    fake.error(&asked, "cancel", &unmet);
    let asked = fake.next().await;
    Fake::check(
        &asked,
        "<iq type='set' id='{any}'><pubsub xmlns='http://jabber.org/protocol/pubsub#owner'>\
         <configure node='urn:xmpp:bookmarks:1'><x xmlns='jabber:x:data' type='submit'>{more}\
         <field var='pubsub#access_model'><value>whitelist</value></field></x></configure>\
         </pubsub></iq>",
    );
    fake.result(&asked, "");
    let asked = fake.next().await;
    Fake::check(&asked, publish);
    fake.error(&asked, "cancel", &unmet);
    // Once is enough.
    let refused = setting.await.expect("a task").expect_err("refused");
    assert_eq!(refused.why(), Some(PubsubCondition::PreconditionNotMet));
}

#[tokio::test]
async fn xep0402_options_that_a_service_does_not_take_with_an_item_configure_the_node() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let setting = ask(&client, |client| async move {
        let room = BareJid::parse("room@c.test").expect("a JID");
        bookmarks::set(&client, &Bookmark::new(room)).await
    });
    let asked = fake.next().await;
    fake.error(
        &asked,
        "wait",
        &format!("<resource-constraint xmlns='{STANZAS}'/>"),
    );
    let max = "<field var='pubsub#max_items'><value>max</value></field>";
    for (name, is_there) in [("create", true), ("configure", false)] {
        let asked = fake.next().await;
        assert!(asked.to_xml().contains(&format!("<{name} ")), "{name}");
        assert!(asked.to_xml().contains(max), "{name}");
        match is_there {
            true => fake.error(&asked, "cancel", &format!("<conflict xmlns='{STANZAS}'/>")),
            false => fake.result(&asked, ""),
        }
    }
    let asked = fake.next().await.to_xml();
    assert!(!asked.contains(max), "{asked}");
    assert!(asked.contains("<value>whitelist</value>"), "{asked}");
    drop(fake);
    assert!(setting.await.expect("a task").is_err());
}

#[tokio::test]
async fn xep0163_publishing_gives_the_id_that_the_service_made() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    for (answer, expected) in [
        (
            "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='n'><item id='7'/></publish></pubsub>",
            Some("7"),
        ),
        ("", None),
    ] {
        let publishing = ask(&client, |client| async move {
            pep::publish(&client, "n", None, Element::new("urn:x", "a"), None).await
        });
        let asked = fake.next().await;
        fake.result(&asked, answer);
        let id = publishing.await.expect("a task").expect("published");
        assert_eq!(id.as_deref(), expected);
    }
}

#[tokio::test]
async fn ck_11_a_slot_that_is_not_https_is_refused() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    for (url, is_good) in [("https://u.test/1", true), ("http://u.test/1", false)] {
        let asking = ask(&client, |client| async move {
            let file = File {
                name: "cat & dog.png",
                size: 10,
                content_type: Some("image/png"),
            };
            upload::slot(&client, &jid("u.test"), &file).await
        });
        let asked = fake.next().await;
        Fake::check(
            &asked,
            "<iq type='get' to='u.test' id='{any}'><request xmlns='urn:xmpp:http:upload:0' \
             filename='cat &amp; dog.png' size='10' content-type='image/png'/></iq>",
        );
        fake.result(
            &asked,
            &format!(
                "<slot xmlns='urn:xmpp:http:upload:0'><put url='{url}'>\
                 <header name='Host'>evil</header></put><get url='https://u.test/1'/></slot>"
            ),
        );
        match asking.await.expect("a task") {
            Ok(slot) if is_good => assert!(slot.headers.is_empty()),
            Err(UploadError::NotHttps) if !is_good => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn xep0363_services_are_found_among_the_components() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let finding = ask(
        &client,
        |client| async move { upload::services(&client).await },
    );
    let info = |inside: &str| {
        format!("<query xmlns='http://jabber.org/protocol/disco#info'>{inside}</query>")
    };
    let own = fake.next().await;
    fake.result(&own, &info("<feature var='urn:x'/>"));
    let items = fake.next().await;
    fake.result(
        &items,
        "<query xmlns='http://jabber.org/protocol/disco#items'><item jid='dead.a.test'/>\
         <item jid='u.a.test'/><item jid='u.a.test' node='n'/></query>",
    );
    let dead = fake.next().await;
    fake.error(&dead, "cancel", &format!("<gone xmlns='{STANZAS}'/>"));
    let alive = fake.next().await;
    fake.result(
        &alive,
        &info(
            "<feature var='urn:xmpp:http:upload:0'/><x xmlns='jabber:x:data' type='result'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:http:upload:0</value></field>\
             <field var='max-file-size'><value>5242880</value></field></x>",
        ),
    );
    let found = finding.await.expect("a task").expect("services");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].jid, jid("u.a.test"));
    assert_eq!(found[0].file_size_max, Some(5_242_880));
}

#[tokio::test]
async fn xep0199_a_refused_ping_is_an_answer() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let asking = ask(&client, |client| async move {
        ping::ping(&client, Some(&jid("b.test"))).await
    });
    let asked = fake.next().await;
    fake.error(
        &asked,
        "cancel",
        &format!("<remote-server-not-found xmlns='{STANZAS}'/>"),
    );
    assert!(matches!(
        asking.await.expect("a task"),
        Ok(Outcome::Unreachable(_))
    ));
    let asking = ask(&client, |client| async move {
        disco::info(&client, &jid("b.test"), None).await
    });
    let asked = fake.next().await;
    fake.result(
        &asked,
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
    );
    assert!(matches!(
        asking.await.expect("a task"),
        Err(RequestError::Malformed(_))
    ));
}
