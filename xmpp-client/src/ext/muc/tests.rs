//! What rooms say, and what only seems to come from them.

use super::*;
use xmpp_stream::payload::delay::parse_stamp;

fn own() -> FullJid {
    FullJid::parse("room@c.test/me").unwrap()
}

fn event(xml: &str) -> Option<RoomEvent> {
    read(&own(), &Stanza::parse(xml).unwrap())
}

fn presence_xml(from: &str, ty: &str, inside: &str) -> String {
    let ns = ns::MUC_USER;
    format!("<presence from='{from}'{ty}><x xmlns='{ns}'>{inside}</x></presence>")
}

fn gone(inside: &str) -> Departure {
    let xml = presence_xml("room@c.test/ben", " type='unavailable'", inside);
    match event(&xml) {
        Some(RoomEvent::Absent {
            why,
            is_self: false,
            ..
        }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn xep0045_presence_says_who_is_here() {
    let item = "<item affiliation='owner' role='moderator' jid='ben@b.test/x'/>";
    let xml = presence_xml("room@c.test/ben", "", item);
    let Some(RoomEvent::Present {
        occupant, is_self, ..
    }) = event(&xml)
    else {
        panic!("{xml}");
    };
    assert!(!is_self);
    assert_eq!(&*occupant.nick, "ben");
    assert_eq!(occupant.affiliation, Affiliation::Owner);
    assert_eq!(occupant.role, Role::Moderator);
    assert_eq!(occupant.jid.unwrap().as_str(), "ben@b.test/x");

    // A room that gives another nickname says so by 110 alone.
    let xml = presence_xml("room@c.test/you", "", "<status code='110'/>");
    assert!(matches!(
        event(&xml),
        Some(RoomEvent::Present { is_self: true, .. })
    ));
}

#[test]
fn xep0045_departures_have_their_reasons() {
    let by = |by: &str, reason: &str| Removal {
        by: Some(by.into()),
        reason: Some(reason.into()),
    };
    let item = "<item role='none'><actor nick='eve'/><reason>why</reason></item>";
    let with = |code| gone(&format!("{item}<status code='{code}'/>"));
    assert_eq!(with(307), Departure::Kicked(by("eve", "why")));
    assert_eq!(with(301), Departure::Banned(by("eve", "why")));
    assert_eq!(with(321), Departure::AffiliationLost(by("eve", "why")));
    assert_eq!(with(322), Departure::MembersOnly(by("eve", "why")));
    assert_eq!(with(332), Departure::Shutdown);
    assert_eq!(with(333), Departure::TechnicalError);
    assert_eq!(
        gone("<status code='301'/><status code='307'/>"),
        Departure::Banned(Removal::default())
    );
    assert_eq!(
        gone("<status code='307'/><status code='333'/>"),
        Departure::TechnicalError
    );
    assert_eq!(gone(""), Departure::Left);
    assert_eq!(
        gone("<item nick='new'/><status code='303'/>"),
        Departure::Renamed { nick: "new".into() }
    );
    assert_eq!(
        gone("<destroy jid='other@c.test'><reason>why</reason></destroy>"),
        Departure::Destroyed {
            instead: Some(Jid::parse("other@c.test").unwrap()),
            reason: Some("why".into()),
        }
    );
}

#[test]
fn ck_12_only_the_room_speaks_for_the_room() {
    let kicked = "<item role='none'/><status code='307'/><status code='110'/>";
    for from in ["room@d.test/me", "c.test/me", "eve@c.test/me", "me@room@c"] {
        let xml = presence_xml(from, " type='unavailable'", kicked);
        let Ok(stanza) = Stanza::parse(&xml) else {
            continue;
        };
        assert_eq!(read(&own(), &stanza), None, "{from}");
    }
    let nobody = format!(
        "<presence type='unavailable'><x xmlns='{}'>{kicked}</x></presence>",
        ns::MUC_USER
    );
    assert_eq!(event(&nobody), None);
    assert_eq!(
        event("<message from='eve@c.test/me' type='groupchat'><body>x</body></message>"),
        None
    );
}

#[test]
fn xep0045_messages_subjects_and_private_ones_are_told_apart() {
    let message = |inside: &str| {
        event(&format!(
            "<message from='room@c.test/ben' type='groupchat' id='7'>{inside}</message>"
        ))
    };
    let nick = Some("ben".into());
    assert_eq!(
        message("<subject>s</subject>"),
        Some(RoomEvent::Subject {
            nick: nick.clone(),
            subject: "s".into()
        })
    );
    let said = |stamp: Option<&str>| RoomEvent::Message {
        nick: nick.clone(),
        id: Some("7".into()),
        body: Some("b".into()),
        stamp: stamp.and_then(parse_stamp),
    };
    assert_eq!(
        message("<subject>s</subject><body>b</body>"),
        Some(said(None))
    );
    let old = "<body>b</body><delay xmlns='urn:xmpp:delay' stamp='2020-01-01T00:00:00Z'/>";
    assert_eq!(message(old), Some(said(Some("2020-01-01T00:00:00Z"))));
    assert_eq!(
        event("<message from='room@c.test/ben' type='chat'><body>b</body></message>"),
        Some(RoomEvent::Private {
            nick: "ben".into(),
            body: Some("b".into())
        })
    );
    let changed = "<message from='room@c.test' type='groupchat'><x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x></message>";
    assert_eq!(
        event(changed),
        Some(RoomEvent::Changed {
            statuses: vec![104]
        })
    );
}

#[test]
fn xep0045_refusals_of_joining_have_names() {
    #[track_caller]
    fn check(error: StanzaError, expected: JoinError) {
        assert_eq!(JoinError::from(error), expected);
    }
    check(StanzaError::not_authorized(), JoinError::Password);
    check(StanzaError::forbidden(), JoinError::Banned);
    check(StanzaError::item_not_found(), JoinError::NotFound);
    check(StanzaError::not_allowed(), JoinError::MayNotCreate);
    check(StanzaError::not_acceptable(), JoinError::NickReserved);
    check(StanzaError::registration_required(), JoinError::MembersOnly);
    check(StanzaError::conflict(), JoinError::NickInUse);
    check(StanzaError::service_unavailable(), JoinError::Full);
    let other = StanzaError::jid_malformed();
    check(other.clone(), JoinError::Refused(other));
}

#[test]
fn ck_12_an_invitation_through_a_room_comes_from_the_room() {
    let invitation = |from: &str| {
        let ns = ns::MUC_USER;
        let x = format!(
            "<x xmlns='{ns}'><invite from='ben@b.test'><reason>r</reason></invite><password>p</password></x>"
        );
        read_invitation(&Stanza::parse(&format!("<message from='{from}'>{x}</message>")).unwrap())
    };
    let expected = Invitation {
        room: BareJid::parse("room@c.test").unwrap(),
        by: Some(Jid::parse("ben@b.test").unwrap()),
        reason: Some("r".into()),
        password: Some("p".into()),
        is_direct: false,
    };
    assert_eq!(invitation("room@c.test"), Some(expected));
    assert_eq!(invitation("room@c.test/eve"), None);
}

#[test]
fn xep0249_a_direct_invitation_names_its_room() {
    let direct = |jid: &str| {
        let x = format!("<x xmlns='jabber:x:conference' jid='{jid}' reason='r'/>");
        let xml = format!("<message from='ben@b.test/x'>{x}</message>");
        read_invitation(&Stanza::parse(&xml).unwrap())
    };
    let found = direct("room@c.test").unwrap();
    assert!(found.is_direct);
    assert_eq!(found.by.unwrap().as_str(), "ben@b.test/x");
    assert_eq!(direct("room@c.test/nick"), None);
    assert_eq!(direct(""), None);
}
