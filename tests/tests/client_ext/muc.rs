//! Rooms (XEP-0045): joining waits for the room's word, and only for the room's.

use super::fake::Fake;
use std::time::Duration;
use tokio::task::JoinHandle;
use xmpp_client::ext::muc::{
    self, Affiliation, Departure, Join, JoinError, Joined, Membership, Removal, RoomError,
    RoomEvent,
};
use xmpp_client::{BareJid, FullJid, Jid, Stanza, XmppClient};

const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

fn room() -> BareJid {
    BareJid::parse("room@c.test").expect("a JID")
}

fn me() -> FullJid {
    FullJid::parse("room@c.test/me").expect("a JID")
}

fn joining(client: &XmppClient, how: Join) -> JoinHandle<Result<Joined, JoinError>> {
    let client = client.clone();
    tokio::spawn(async move { muc::join(&client, &room(), "me", &how).await })
}

fn presence(from: &str, ty: &str, inside: &str) -> String {
    format!("<presence from='{from}'{ty}><x xmlns='{MUC_USER}'>{inside}</x></presence>")
}

fn item(affiliation: &str, role: &str) -> String {
    format!("<item affiliation='{affiliation}' role='{role}'/>")
}

fn refusal(from: &str, id: &str, condition: &str) -> String {
    format!(
        "<presence from='{from}' type='error' id='{id}'><error type='cancel'>\
         <{condition} xmlns='{STANZAS}'/></error></presence>"
    )
}

fn id(stanza: &Stanza) -> String {
    stanza.head.id.as_deref().expect("an id").to_owned()
}

#[tokio::test]
async fn xep0045_joining_waits_for_our_own_presence() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let how = Join {
        password: Some("open".into()),
        history: Some(0),
        ..Join::default()
    };
    let joined = joining(&client, how);
    let asked = "<presence to='room@c.test/me' id='{any}'>\
                 <x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/>\
                 <password>open</password></x></presence>";
    fake.expect(asked).await;
    // From elsewhere, and without status 110: not yet.
    let own = format!("{}<status code='110'/>", item("owner", "moderator"));
    fake.send(&presence("room@d.test/me", "", &own));
    fake.send(&presence("c.test/me", "", &own));
    let stale = format!("{}<status code='110'/>", item("member", "none"));
    fake.send(&presence("room@c.test/me", "", &stale));
    fake.send(&presence(
        "room@c.test/ben",
        "",
        &item("none", "participant"),
    ));
    fake.send(&presence("room@c.test/eve", "", &item("none", "visitor")));
    fake.send(&presence("room@c.test/eve", " type='unavailable'", ""));
    fake.send(&presence(
        "room@c.test/me",
        "",
        &format!("{own}<status code='201'/><status code='100'/>"),
    ));
    let joined = joined.await.expect("a task").expect("joined");
    assert_eq!(joined.occupant, me());
    assert_eq!(joined.me.affiliation, Affiliation::Owner);
    let others: Vec<&str> = joined.others.iter().map(|other| &*other.nick).collect();
    assert_eq!(others, ["ben"]);
    assert!(joined.is_new && joined.is_non_anonymous && !joined.is_logged);
}

#[tokio::test]
async fn xep0045_refusals_of_joining_are_told_apart() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    for (condition, expected) in [
        ("conflict", JoinError::NickInUse),
        ("not-authorized", JoinError::Password),
        ("forbidden", JoinError::Banned),
        ("registration-required", JoinError::MembersOnly),
        ("item-not-found", JoinError::NotFound),
        ("service-unavailable", JoinError::Full),
    ] {
        // Services answer as the occupant or as the room.
        for from in ["room@c.test/me", "room@c.test"] {
            let joined = joining(&client, Join::default());
            let id = id(&fake.next().await);
            // What is not about this presence changes nothing.
            fake.send(&refusal("room@c.test", "other", "jid-malformed"));
            fake.send(&refusal("room@d.test/me", &id, "jid-malformed"));
            fake.send(&refusal(from, &id, condition));
            let refused = joined.await.expect("a task").expect_err("refused");
            assert_eq!(refused, expected);
        }
    }
}

#[tokio::test]
async fn xep0045_a_room_that_says_nothing_is_left_again() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let how = Join {
        wait: Duration::from_millis(20),
        ..Join::default()
    };
    let joined = joining(&client, how);
    fake.next().await;
    assert_eq!(
        joined.await.expect("a task").expect_err("silence"),
        JoinError::Timeout
    );
    fake.expect("<presence to='room@c.test/me' type='unavailable'/>")
        .await;
    let bad = muc::join(&client, &room(), "", &Join::default()).await;
    assert!(matches!(bad, Err(JoinError::Nick(_))));
}

#[tokio::test]
async fn xep0045_kicked_before_in_and_the_end_of_the_stream() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let joined = joining(&client, Join::default());
    fake.next().await;
    let kicked = format!(
        "<item role='none'><reason>no</reason></item><status code='110'/><status code='{}'/>",
        307
    );
    fake.send(&presence("room@c.test/me", " type='unavailable'", &kicked));
    let why = Removal {
        by: None,
        reason: Some("no".into()),
    };
    assert_eq!(
        joined.await.expect("a task").expect_err("kicked"),
        JoinError::Removed(Departure::Kicked(why))
    );
    let joined = joining(&client, Join::default());
    fake.next().await;
    drop(fake);
    assert_eq!(
        joined.await.expect("a task").expect_err("the end"),
        JoinError::Closed
    );
}

#[tokio::test]
async fn xep0045_leaving_waits_for_the_room() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let leaving = tokio::spawn({
        let client = client.clone();
        async move { muc::leave(&client, &me(), Some("bye")).await }
    });
    fake.expect("<presence to='room@c.test/me' type='unavailable'><status>bye</status></presence>")
        .await;
    let gone = format!("{}<status code='110'/>", item("none", "none"));
    fake.send(&presence("room@d.test/me", " type='unavailable'", &gone));
    fake.send(&presence("room@c.test/ben", " type='unavailable'", ""));
    fake.send("<iq type='get' id='1' from='a.test'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert!(!leaving.is_finished());
    fake.send(&presence("room@c.test/me", " type='unavailable'", &gone));
    assert_eq!(leaving.await.expect("a task"), Ok(()));
}

#[tokio::test]
async fn xep0045_a_new_nickname_is_taken_or_refused() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let rename = || {
        let client = client.clone();
        tokio::spawn(async move { muc::change_nick(&client, &me(), "new").await })
    };
    let renaming = rename();
    let id = fake
        .next()
        .await
        .head
        .id
        .map(String::from)
        .unwrap_or_default();
    fake.send(&refusal("room@c.test/new", &id, "conflict"));
    assert!(matches!(
        renaming.await.expect("a task"),
        Err(RoomError::Refused(_))
    ));
    let renaming = rename();
    fake.expect("<presence to='room@c.test/new'/>").await;
    let old = "<item nick='new'/><status code='303'/><status code='110'/>";
    fake.send(&presence("room@c.test/me", " type='unavailable'", old));
    let new = format!("{}<status code='110'/>", item("none", "participant"));
    fake.send(&presence("room@c.test/new", "", &new));
    let occupant = renaming.await.expect("a task").expect("renamed");
    assert_eq!(occupant.as_jid().as_str(), "room@c.test/new");
}

#[tokio::test]
async fn ck_12_only_the_room_speaks_for_the_room() {
    let (fake, client) = Fake::start("ann@a.test/x").await;
    let mut events = client.events();
    let kicked = "<item role='none'/><status code='307'/><status code='110'/>";
    let forged = ["ben@a.test/me", "room@d.test/me", "c.test/me"];
    for from in forged {
        fake.send(&presence(from, " type='unavailable'", kicked));
    }
    fake.send(&presence("room@c.test/me", " type='unavailable'", kicked));
    for from in forged {
        let stanza = events.next_stanza().await.expect("a stanza");
        assert_eq!(muc::read(&me(), &stanza), None, "{from}");
    }
    let stanza = events.next_stanza().await.expect("a stanza");
    let Some(RoomEvent::Absent { is_self, why, .. }) = muc::read(&me(), &stanza) else {
        panic!("{}", stanza.to_xml());
    };
    assert!(is_self);
    assert_eq!(why, Departure::Kicked(Removal::default()));
}

#[tokio::test]
async fn xep0045_what_is_said_and_asked_on_the_wire() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let id = muc::send(&client, &room(), "hi").await.expect("open");
    let got = fake
        .expect("<message to='room@c.test' type='groupchat' id='{any}'><body>hi</body></message>")
        .await;
    assert_eq!(*got, *id);
    muc::set_subject(&client, &room(), "").await.expect("open");
    fake.expect("<message to='room@c.test' type='groupchat' id='{any}'><subject/></message>")
        .await;
    let ben = Jid::parse("ben@b.test").expect("a JID");
    muc::invite(&client, &room(), std::slice::from_ref(&ben), Some("r"))
        .await
        .expect("open");
    fake.expect(&format!(
        "<message to='room@c.test'><x xmlns='{MUC_USER}'><invite to='ben@b.test'>\
         <reason>r</reason></invite></x></message>"
    ))
    .await;
    muc::invite_directly(&client, &room(), &ben, None, Some("p"))
        .await
        .expect("open");
    fake.expect(
        "<message to='ben@b.test'>\
         <x xmlns='jabber:x:conference' jid='room@c.test' password='p'/></message>",
    )
    .await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { muc::affiliations(&client, &room(), Affiliation::Member).await }
    });
    let asked = fake.next().await;
    Fake::check(
        &asked,
        "<iq type='get' to='room@c.test' id='{any}'>\
         <query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member'/></query></iq>",
    );
    fake.result(
        &asked,
        "<query xmlns='http://jabber.org/protocol/muc#admin'>\
         <item affiliation='member' jid='ben@b.test'><reason>r</reason></item></query>",
    );
    let list = asking.await.expect("a task").expect("a list");
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].jid, ben);
    assert_eq!(list[0].reason.as_deref(), Some("r"));
}

#[tokio::test]
async fn xep0410_a_self_ping_says_whether_we_are_in() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    for (condition, expected) in [
        ("not-acceptable", Membership::NotJoined),
        ("item-not-found", Membership::Renamed),
        ("remote-server-timeout", Membership::Undecided),
        ("service-unavailable", Membership::Joined),
    ] {
        let asking = tokio::spawn({
            let client = client.clone();
            async move { muc::check_membership(&client, &me()).await }
        });
        let asked = fake.next().await;
        let ping =
            "<iq type='get' to='room@c.test/me' id='{any}'><ping xmlns='urn:xmpp:ping'/></iq>";
        Fake::check(&asked, ping);
        fake.error(
            &asked,
            "cancel",
            &format!("<{condition} xmlns='{STANZAS}'/>"),
        );
        assert_eq!(asking.await.expect("a task"), Ok(expected));
    }
}
