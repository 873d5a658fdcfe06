//! The messaging logic of the client: people talking over our server, and a server that lies.

#[path = "client_protocol/account.rs"]
mod account;
#[path = "client_protocol/asked.rs"]
mod asked;
#[path = "client_protocol/lies.rs"]
mod lies;
#[path = "client_protocol/talk.rs"]
mod talk;

use std::time::Duration;
use xmpp_client::{BareJid, ImEvent, ImEvents, Jid, XmppClient, XmppProtocol};
use xmpp_testkit::TestLab;

/// The longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(10);

fn jid(text: &str) -> Jid {
    Jid::parse(text).expect("a JID")
}

fn bare(text: &str) -> BareJid {
    BareJid::parse(text).expect("a bare JID")
}

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// A client that has signed in and is not available.
async fn client(lab: &TestLab, jid: &str) -> XmppClient {
    let password = lab.account(jid).await;
    let address = lab.place("a.test").address.to_string();
    let builder = XmppClient::builder(jid)
        .password(&password)
        .ca_pem(lab.ca_pem());
    builder
        .connect_to(&address)
        .connect()
        .await
        .expect("a client")
}

/// Somebody online, and what they are told from then on.
async fn person(lab: &TestLab, jid: &str) -> (XmppProtocol, ImEvents) {
    let client = client(lab, jid).await;
    let im = XmppProtocol::new(&client);
    let mut events = im.events();
    im.go_online().await.expect("the stream is open");
    until(&mut events, |event| {
        matches!(event, ImEvent::RosterReceived)
    })
    .await;
    (im, events)
}

/// The first event that fits; others before it are passed over.
async fn until(events: &mut ImEvents, is_it: impl Fn(&ImEvent) -> bool) -> ImEvent {
    let mut passed = Vec::new();
    let waiting = async {
        loop {
            match events.next().await {
                Some(event) if is_it(&event) => return Some(event),
                Some(event) => passed.push(event),
                None => return None,
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, waiting).await;
    match found {
        Ok(Some(event)) => event,
        Ok(None) => panic!("the end; before it: {passed:?}"),
        Err(_) => panic!("nothing fits: {passed:?}"),
    }
}

/// Lets both see each other.
async fn befriend(ann: &mut (XmppProtocol, ImEvents), ben: &mut (XmppProtocol, ImEvents)) {
    let (first, second) = (
        ann.0.client().jid().to_bare(),
        ben.0.client().jid().to_bare(),
    );
    ann.0.subscribe(&second, Some("hello")).await.expect("sent");
    until(&mut ben.1, |event| {
        matches!(event, ImEvent::SubscriptionRequest { .. })
    })
    .await;
    ben.0.approve(&first).await.expect("sent");
    ben.0.subscribe(&first, None).await.expect("sent");
    until(&mut ann.1, |event| {
        matches!(event, ImEvent::SubscriptionRequest { .. })
    })
    .await;
    ann.0.approve(&second).await.expect("sent");
    until(&mut ben.1, |event| {
        matches!(event, ImEvent::Subscribed { .. })
    })
    .await;
    for side in [&mut *ann, ben] {
        until(&mut side.1, |event| {
            matches!(event, ImEvent::RosterChanged(contact)
                if contact.subscription == xmpp_client::Subscription::Both)
        })
        .await;
    }
}
