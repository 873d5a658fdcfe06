//! What only the own account may say, said by others: none of it is acted on.

use super::fake::Fake;
use xmpp_client::ext::{blocking, bookmarks, carbons, pubsub};
use xmpp_client::{Events, Jid, Stanza};

async fn next(events: &mut Events) -> Stanza {
    events.next_stanza().await.expect("a stanza")
}

fn carbon(from: &str) -> String {
    format!(
        "<message{from} to='ann@a.test/x'><received xmlns='urn:xmpp:carbons:2'>\
         <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' \
         from='ben@b.test/y' to='ann@a.test/z'><body>pay eve</body></message>\
         </forwarded></received></message>"
    )
}

#[tokio::test]
async fn ck_02_carbons_come_from_the_own_account_alone() {
    let (fake, client) = Fake::start("ann@a.test/x").await;
    let mut events = client.events();
    for from in [
        "",
        " from='eve@a.test'",
        " from='eve@b.test/y'",
        " from='a.test'",
        " from='ann@a.test/z'",
    ] {
        fake.send(&carbon(from));
        let stanza = next(&mut events).await;
        assert!(carbons::read(&client.jid(), &stanza).is_err(), "{from}");
        assert_eq!(stanza.body(), None, "nothing of it looks like a message");
    }
    fake.send(&carbon(" from='ann@a.test'"));
    let stanza = next(&mut events).await;
    let carbon = carbons::read(&client.jid(), &stanza).expect("genuine");
    let message = carbon.expect("a carbon").message;
    assert_eq!(message.body().as_deref(), Some("pay eve"));
}

#[tokio::test]
async fn ck_07_bookmarks_and_blocking_change_by_the_own_account_alone() {
    let (fake, client) = Fake::start("ann@a.test/x").await;
    let mut events = client.events();
    for (from, is_own) in [("eve@a.test", false), ("ann@a.test", true)] {
        fake.send(&format!(
            "<message from='{from}'><event xmlns='http://jabber.org/protocol/pubsub#event'>\
             <items node='urn:xmpp:bookmarks:1'><item id='trap@c.test'>\
             <conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'/></item></items>\
             </event></message>"
        ));
        let stanza = next(&mut events).await;
        assert_eq!(bookmarks::read(&client.jid(), &stanza).is_ok(), is_own);
        let service = Jid::parse("ann@a.test").expect("a JID");
        assert_eq!(pubsub::read(&service, &stanza).is_some(), is_own);

        fake.send(&format!(
            "<iq from='{from}' type='set' id='1'><unblock xmlns='urn:xmpp:blocking'/></iq>"
        ));
        let stanza = next(&mut events).await;
        assert_eq!(blocking::read_push(&client.jid(), &stanza).is_ok(), is_own);
    }
}
