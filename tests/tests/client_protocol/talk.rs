//! Two people on our server: presence, messages with receipts and chat states, contacts.

use super::{bare, befriend, client, jid, lab, person, until};
use xmpp_client::{
    Availability, ChatState, ImEvent, Message, Options, RosterCache, Show, Subscription,
    XmppProtocol,
};
use xmpp_testkit::TestLab;

fn message(event: ImEvent) -> Message {
    match event {
        ImEvent::Message(message) => *message,
        other => panic!("{other:?}"),
    }
}

fn is_message(event: &ImEvent) -> bool {
    matches!(event, ImEvent::Message(_))
}

#[tokio::test]
async fn friends_see_each_other_and_talk() {
    let lab = lab().await;
    let mut ann = person(&lab, "ann@a.test/x").await;
    let mut ben = person(&lab, "ben@a.test/y").await;
    befriend(&mut ann, &mut ben).await;

    ben.0.go_away("at lunch").await.expect("sent");
    let away = until(
        &mut ann.1,
        |event| matches!(event, ImEvent::Presence(presence) if presence.show == Show::Away),
    );
    away.await;
    let of_ben = ann.0.presence_of(&bare("ben@a.test"));
    assert_eq!(of_ben.len(), 1);
    assert_eq!(of_ben[0].status.as_deref(), Some("at lunch"));

    let id = ann
        .0
        .send_message(&jid("ben@a.test"), "hi")
        .await
        .expect("sent");
    let heard = message(until(&mut ben.1, is_message).await);
    assert_eq!(
        (heard.body(), heard.id.as_deref()),
        (Some("hi"), Some(&*id))
    );
    let receipt = until(&mut ann.1, |event| {
        matches!(event, ImEvent::ReceiptReceived { .. })
    });
    match receipt.await {
        ImEvent::ReceiptReceived { from, id: of } => {
            assert_eq!((from.as_str(), of), ("ben@a.test/y", id.clone()));
        }
        other => panic!("{other:?}"),
    }

    // Ann said that she takes chat states, so ben tells his.
    let to = jid("ann@a.test");
    let told = ben.0.send_chat_state(&to, ChatState::Composing).await;
    assert!(told.expect("sent"));
    until(&mut ann.1, |event| {
        matches!(
            event,
            ImEvent::ChatState {
                state: ChatState::Composing,
                ..
            }
        )
    })
    .await;
    ann.0
        .correct_message(&jid("ben@a.test"), &id, "hello")
        .await
        .expect("sent");
    let corrected = message(until(&mut ben.1, is_message).await);
    assert_eq!(
        (corrected.body(), corrected.corrects.clone()),
        (Some("hello"), Some(id))
    );

    ben.0.go_offline("bye").await.expect("sent");
    until(&mut ann.1, |event| {
        matches!(event, ImEvent::Presence(presence) if !presence.is_available
            && presence.status.as_deref() == Some("bye"))
    })
    .await;
    assert!(ann.0.presence_of(&bare("ben@a.test")).is_empty());
}

#[tokio::test]
async fn capabilities_are_learnt_from_presence() {
    let lab = lab().await;
    let mut ann = person(&lab, "ann@a.test/x").await;
    let mut ben = person(&lab, "ben@a.test/y").await;
    befriend(&mut ann, &mut ben).await;
    // A presence, and a message that comes after the answer to the question that it caused.
    ben.0
        .set_presence(Availability::new(Show::Chat))
        .await
        .expect("sent");
    until(
        &mut ann.1,
        |event| matches!(event, ImEvent::Presence(presence) if presence.show == Show::Chat),
    )
    .await;
    let device = jid("ben@a.test/y");
    ann.0
        .disco_info(&device, None)
        .await
        .expect("an answer that comes after the first");
    ann.0
        .send_message(&jid("ann@a.test"), "barrier")
        .await
        .expect("sent");
    until(&mut ann.1, is_message).await;
    let info = ann.0.info_of(&device).expect("known by now");
    assert!(info.is("client", "pc"));
    assert!(
        info.features
            .iter()
            .any(|feature| feature == xmpp_stream::ns::RECEIPTS)
    );
}

#[tokio::test]
async fn messages_that_waited_tell_when_they_were_sent() {
    let lab = lab().await;
    lab.account("ben@a.test").await;
    let ann = person(&lab, "ann@a.test/x").await;
    ann.0
        .send_message(&jid("ben@a.test"), "for later")
        .await
        .expect("sent");
    ann.0.ping(None).await.expect("an answer");
    let mut ben = person(&lab, "ben@a.test/y").await;
    let waited = message(until(&mut ben.1, is_message).await);
    assert_eq!(waited.body(), Some("for later"));
    assert!(waited.delay.is_some() && waited.is_delay_trusted);
}

#[tokio::test]
async fn contacts_are_added_renamed_and_removed() {
    let lab = lab().await;
    let (ann, mut events) = person(&lab, "ann@a.test/x").await;
    let ben = bare("ben@a.test");
    ann.set_contact(&ben, Some("Ben"), &["Work", "Friends", "Work"])
        .await
        .expect("added");
    until(&mut events, |event| {
        matches!(event, ImEvent::RosterChanged(_))
    })
    .await;
    let kept = ann.contact(&ben).expect("in the roster");
    assert_eq!(kept.groups, ["Friends", "Work"]);
    ann.rename_contact(&ben, "Benjamin").await.expect("renamed");
    until(&mut events, |event| {
        matches!(event, ImEvent::RosterChanged(_))
    })
    .await;
    let kept = ann.contact(&ben).expect("in the roster");
    assert_eq!(
        (kept.name.as_deref(), kept.groups.len()),
        (Some("Benjamin"), 2)
    );
    assert_eq!(kept.subscription, Subscription::None);
    ann.remove_contact(&ben).await.expect("removed");
    until(&mut events, |event| {
        matches!(event, ImEvent::RosterRemoved(_))
    })
    .await;
    assert!(ann.roster().is_empty());
}

async fn again(lab: &TestLab, roster: RosterCache) -> XmppProtocol {
    let client = client(lab, "ann@a.test/x2").await;
    let options = Options {
        roster,
        ..Options::default()
    };
    let im = XmppProtocol::with(&client, options);
    im.load_roster().await.expect("an answer");
    im
}

#[tokio::test]
async fn c6121_rv_02_a_roster_that_was_kept_is_brought_up_to_date() {
    let lab = lab().await;
    let (ann, mut events) = person(&lab, "ann@a.test/x").await;
    for name in ["ben@a.test", "cid@a.test"] {
        ann.set_contact(&bare(name), None, &[])
            .await
            .expect("added");
        until(&mut events, |event| {
            matches!(event, ImEvent::RosterChanged(_))
        })
        .await;
    }
    let kept = ann.roster_cache().to_text();
    assert!(kept.contains(" ver='"), "{kept}");
    ann.remove_contact(&bare("ben@a.test"))
        .await
        .expect("removed");
    ann.client().disconnect().await.expect("an end in order");
    let cache = RosterCache::parse(&kept).expect("what was kept");
    let again = again(&lab, cache).await;
    let names: Vec<String> = again
        .roster()
        .iter()
        .map(|contact| contact.jid.to_string())
        .collect();
    assert_eq!(names, ["cid@a.test"]);
}

#[tokio::test]
async fn who_drops_the_messaging_logic_and_the_client_closes_the_stream() {
    let lab = lab().await;
    let mut ann = person(&lab, "ann@a.test/x").await;
    let mut ben = person(&lab, "ben@a.test/y").await;
    befriend(&mut ann, &mut ben).await;
    drop(ben);
    until(&mut ann.1, |event| {
        matches!(event, ImEvent::Presence(presence) if presence.from.as_str() == "ben@a.test/y"
            && !presence.is_available)
    })
    .await;
}
