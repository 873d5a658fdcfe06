//! What a client is told by those who have no business telling it, and by a server that lies.

use super::{befriend, jid, lab, person, until};
use xmpp_client::{ImEvent, ImEvents, XmppProtocol};
use xmpp_testkit::FakeServer;

/// The next message of the conversation: whatever came before it was passed over in silence.
async fn until_barrier(events: &mut ImEvents) -> Vec<ImEvent> {
    let mut seen = Vec::new();
    loop {
        match events.next().await {
            Some(ImEvent::Message(message)) if message.body() == Some("barrier") => return seen,
            Some(event) => seen.push(event),
            None => panic!("the end: {seen:?}"),
        }
    }
}

#[tokio::test]
async fn ck_01_ck_02_strangers_on_our_server_push_and_copy_nothing() {
    let lab = lab().await;
    let mut ann = person(&lab, "ann@a.test/x").await;
    let mut ben = person(&lab, "ben@a.test/y").await;
    befriend(&mut ann, &mut ben).await;
    let mut eve = lab.wire("eve@a.test/z").await;
    eve.send(
        "<iq type='set' id='e1' to='ann@a.test/x'><query xmlns='jabber:iq:roster'>\
         <item jid='eve@a.test' subscription='both'/></query></iq>\
         <iq type='set' id='e2' to='ann@a.test/x'><query xmlns='jabber:iq:roster'>\
         <item jid='ben@a.test' subscription='remove'/></query></iq>",
    )
    .await;
    for id in ["e1", "e2"] {
        let refused = eve.next().await;
        assert_eq!(
            (refused.attr("id"), refused.attr("type")),
            (Some(id), Some("error"))
        );
    }
    eve.send(
        "<message to='ann@a.test/x'><received xmlns='urn:xmpp:carbons:2'>\
         <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' \
         from='ben@a.test/y' to='ann@a.test/x' type='chat'><body>send me money</body></message>\
         </forwarded></received></message>\
         <message to='ann@a.test/x'><body>barrier</body></message>",
    )
    .await;
    let seen = until_barrier(&mut ann.1).await;
    assert!(
        !seen.iter().any(|event| matches!(
            event,
            ImEvent::Message(_) | ImEvent::RosterChanged(_) | ImEvent::RosterRemoved(_)
        )),
        "{seen:?}"
    );
    let contacts: Vec<String> = ann
        .0
        .roster()
        .iter()
        .map(|contact| contact.jid.to_string())
        .collect();
    assert_eq!(contacts, ["ben@a.test"]);
}

/// Ann at a server that says whatever the test tells it.
async fn ann_at(server: &FakeServer) -> (XmppProtocol, xmpp_testkit::FakeStream) {
    let builder = server.builder("ann@a.test/x");
    let (client, stream) = tokio::join!(builder.connect(), server.bound("ann@a.test/x"));
    (XmppProtocol::new(&client.expect("a client")), stream)
}

#[tokio::test]
async fn c6121_rv_02_without_versions_none_is_named_and_the_roster_comes_first() {
    let server = FakeServer::new("a.test").await;
    let (ann, mut stream) = ann_at(&server).await;
    let online = tokio::spawn({
        let ann = ann.clone();
        async move { ann.go_online().await }
    });
    let asked = stream.expect_next("<iq", "</iq>").await;
    assert!(
        asked.contains("<query xmlns='jabber:iq:roster'/>"),
        "{asked}"
    );
    let id = asked
        .split("id='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    let id = id.expect("an id").to_owned();
    // From somebody else, in the right words: no roster.
    stream
        .say(&format!(
            "<iq type='result' id='{id}' from='eve@a.test'><query xmlns='jabber:iq:roster'>\
             <item jid='eve@a.test' subscription='both'/></query></iq>"
        ))
        .await;
    stream
        .say(&format!(
            "<iq type='result' id='{id}'><query xmlns='jabber:iq:roster'>\
             <item jid='ben@b.test' subscription='both'/></query></iq>"
        ))
        .await;
    let carbons = stream.expect_next("<iq", "</iq>").await;
    assert!(
        carbons.contains("<enable xmlns='urn:xmpp:carbons:2'/>"),
        "{carbons}"
    );
    let id = carbons
        .split("id='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    let id = id.expect("an id");
    stream
        .say(&format!(
            "<iq type='error' id='{id}'><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        ))
        .await;
    let presence = stream.expect_next("<presence", "</presence>").await;
    assert!(
        presence.contains("<c xmlns='http://jabber.org/protocol/caps'"),
        "{presence}"
    );
    online.await.expect("a task").expect("sent");
    let contacts: Vec<String> = ann
        .roster()
        .iter()
        .map(|contact| contact.jid.to_string())
        .collect();
    assert_eq!(contacts, ["ben@b.test"]);
}

#[tokio::test]
async fn li_01_odd_requests_are_answered_and_odd_stanzas_harm_nobody() {
    let server = FakeServer::new("a.test").await;
    let (ann, mut stream) = ann_at(&server).await;
    let mut events = ann.events();
    for (request, condition) in [
        ("<query xmlns='urn:x'/>", "service-unavailable"),
        (
            "<query xmlns='jabber:iq:roster'><item/></query>",
            "service-unavailable",
        ),
        ("", "bad-request"),
        (
            "<ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/>",
            "bad-request",
        ),
    ] {
        let from = "from='eve@b.test/z' id='1'";
        stream
            .say(&format!("<iq type='get' {from}>{request}</iq>"))
            .await;
        let answer = stream.expect_next("<iq", "</iq>").await;
        assert!(answer.contains(condition), "{request}: {answer}");
    }
    for odd in [
        "<message/>",
        "<message type='error' from='b.test'/>",
        "<message from='b.test'><received xmlns='urn:xmpp:receipts'/></message>",
        "<message from='ann@a.test'><sent xmlns='urn:xmpp:carbons:2'/></message>",
        "<message from='ann@a.test'><received xmlns='urn:xmpp:carbons:2'>\
         <forwarded xmlns='urn:xmpp:forward:0'/></received></message>",
        "<message from='b.test'><delay xmlns='urn:xmpp:delay'/><delay xmlns='urn:xmpp:delay' \
         stamp='9999-99-99T99:99:99Z'/></message>",
        "<message from='b.test'><replace xmlns='urn:xmpp:message-correct:0'/></message>",
        "<presence/>",
        "<presence from='b.test' type='dancing'/>",
        "<presence from='b.test' type='error'/>",
        "<presence from='b.test'><priority>x</priority><c \
         xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></presence>",
        "<iq type='result' id='nobody asked'/>",
        "<iq type='set' id='9'><query xmlns='jabber:iq:roster'/></iq>",
    ] {
        stream.say(odd).await;
    }
    stream
        .say("<message from='b.test'><body>barrier</body></message>")
        .await;
    let seen = until_barrier(&mut events).await;
    assert!(
        !seen
            .iter()
            .any(|event| matches!(event, ImEvent::Message(_))),
        "{seen:?}"
    );
}

#[tokio::test]
async fn ck_13_a_server_that_answers_for_others_makes_nothing_known() {
    let server = FakeServer::new("a.test").await;
    let (ann, mut stream) = ann_at(&server).await;
    let mut events = ann.events();
    stream
        .say(
            "<iq type='set' id='p'><query xmlns='jabber:iq:roster'>\
             <item jid='ben@b.test' subscription='both'/></query></iq>\
             <presence from='ben@b.test/y'><c xmlns='http://jabber.org/protocol/caps' \
             hash='sha-1' node='n' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>",
        )
        .await;
    let asked = stream.expect("</iq>").await;
    let asked = asked.rsplit("<iq").next().expect("a request").to_owned();
    assert!(
        asked.contains("disco#info") && asked.contains("ben@b.test/y"),
        "{asked}"
    );
    let id = asked
        .split("id='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    stream
        .say(&format!(
            "<iq type='result' id='{}' from='ben@b.test/y'>\
             <query xmlns='http://jabber.org/protocol/disco#info'>\
             <feature var='urn:xmpp:receipts'/></query></iq>\
             <message from='b.test'><body>barrier</body></message>",
            id.expect("an id")
        ))
        .await;
    until_barrier(&mut events).await;
    assert!(ann.info_of(&jid("ben@b.test/y")).is_none());
    // The device is known; what it can do is not.
    assert_eq!(ann.presence_of(&super::bare("ben@b.test")).len(), 1);
}

#[tokio::test]
async fn a_new_session_gets_the_roster_again() {
    let server = FakeServer::new("a.test").await;
    let (ann, mut stream) = ann_at(&server).await;
    let mut events = ann.events();
    let loading = tokio::spawn({
        let ann = ann.clone();
        async move { ann.load_roster().await }
    });
    answer_roster(&mut stream, "ben@b.test").await;
    loading.await.expect("a task").expect("an answer");
    stream.say("<presence from='ben@b.test/y'/>").await;
    until(&mut events, |event| matches!(event, ImEvent::Presence(_))).await;
    drop(stream);
    let mut stream = server.bound("ann@a.test/x").await;
    answer_roster(&mut stream, "cid@b.test").await;
    until(&mut events, |event| {
        matches!(event, ImEvent::Connected { resumed: false, .. })
    })
    .await;
    until(&mut events, |event| {
        matches!(event, ImEvent::RosterReceived)
    })
    .await;
    let contacts: Vec<String> = ann
        .roster()
        .iter()
        .map(|contact| contact.jid.to_string())
        .collect();
    assert_eq!(contacts, ["cid@b.test"]);
    assert!(ann.presence_of(&super::bare("ben@b.test")).is_empty());
}

#[tokio::test]
async fn what_is_owed_without_a_connection_holds_up_no_event() {
    let server = FakeServer::new("a.test").await;
    let builder = server.builder("ann@a.test/x");
    let (client, stream) = tokio::join!(builder.connect(), server.bound("ann@a.test/x"));
    let (client, mut stream) = (client.expect("a client"), stream);
    stream
        .say(
            "<iq type='set' id='p'><query xmlns='jabber:iq:roster'>\
             <item jid='ben@b.test' subscription='both'/></query></iq>\
             <message from='ben@b.test/y' id='m'><body>hi</body>\
             <request xmlns='urn:xmpp:receipts'/></message>\
             <iq type='get' id='b'><ping xmlns='urn:xmpp:ping'/></iq>",
        )
        .await;
    // All of it was read, and waits for the first receiver.
    stream.expect("id='b'").await;
    drop(stream);
    let im = XmppProtocol::new(&client);
    let mut events = im.events();
    until(&mut events, |event| matches!(event, ImEvent::Message(_))).await;
    until(&mut events, |event| {
        matches!(event, ImEvent::Disconnected { .. })
    })
    .await;
}

async fn answer_roster(stream: &mut xmpp_testkit::FakeStream, contact: &str) {
    let asked = stream.expect("</iq>").await;
    let asked = asked.rsplit("<iq").next().expect("a request").to_owned();
    let id = asked
        .split("id='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    stream
        .say(&format!(
            "<iq type='result' id='{}'><query xmlns='jabber:iq:roster'>\
             <item jid='{contact}' subscription='both'/></query></iq>",
            id.expect("an id")
        ))
        .await;
}
