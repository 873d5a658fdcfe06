//! What comes of stanzas, lies among them.

use super::*;

const ROSTER: &str = "<query xmlns='jabber:iq:roster'>\
    <item jid='ben@b.test' subscription='both'/>\
    <item jid='tom@b.test' subscription='to'/></query>";

fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

/// Ann, who has ben as a friend and watches tom.
fn ann() -> State {
    let own = FullJid::parse("ann@a.test/x").unwrap();
    let mut state = State::new(own, Options::default());
    state.roster.ask(false);
    let query = Element::parse(ROSTER.as_bytes(), "").unwrap();
    state
        .roster
        .answered(Some(&query), &Options::default().limits);
    state
}

fn receive(state: &mut State, xml: &str) -> Outcome {
    state.receive(&Stanza::parse(xml).unwrap())
}

/// Events in short.
fn told(state: &mut State, xml: &str) -> Vec<String> {
    let events = receive(state, xml).events;
    events.iter().map(short).collect()
}

fn short(event: &ImEvent) -> String {
    match event {
        ImEvent::Message(message) => {
            let corrects = message.corrects.as_deref().unwrap_or_default();
            let carbon = message
                .carbon
                .map_or_else(String::new, |carbon| format!(" {carbon:?}"));
            format!(
                "{}: {}{carbon}{corrects}",
                message.from,
                message.body().unwrap_or("-")
            )
        }
        ImEvent::ChatState { from, state } => format!("{from} {state:?}"),
        ImEvent::ReceiptReceived { from, id } => format!("{from} has {id}"),
        ImEvent::Presence(presence) => format!("{} {}", presence.from, presence.is_available),
        ImEvent::SubscriptionRequest { from, .. } => format!("{from} asks"),
        ImEvent::RosterChanged(contact) => format!("{} changed", contact.jid),
        ImEvent::RosterRemoved(jid) => format!("{jid} removed"),
        other => format!("{other:?}"),
    }
}

fn carbon(name: &str, wrapper_from: &str, inner: &str) -> String {
    format!(
        "<message{wrapper_from}><{name} xmlns='urn:xmpp:carbons:2'>\
         <forwarded xmlns='urn:xmpp:forward:0'>{}</forwarded></{name}></message>",
        inner.replace("<message", "<message xmlns='jabber:client'")
    )
}

const OWN: &str = " from='ann@a.test'";
const HI: &str = "<message from='ben@b.test/y' type='chat'><body>hi</body></message>";

#[test]
fn ck_02_copies_are_taken_from_the_own_account_alone() {
    assert_eq!(
        told(&mut ann(), &carbon("received", OWN, HI)),
        ["ben@b.test/y: hi Received"]
    );
    for from in [
        "eve@b.test",
        "ann@a.test/x",
        "ann@a.test/other",
        "a.test",
        "ben@b.test",
    ] {
        let forged = carbon("received", &format!(" from='{from}'"), HI);
        assert!(told(&mut ann(), &forged).is_empty(), "{from}");
        // Nor is what stands beside the copy.
        let forged = forged.replacen('>', "><body>x</body>", 1);
        assert!(told(&mut ann(), &forged).is_empty(), "{from}");
    }
}

#[test]
fn ck_02_what_we_are_said_to_have_sent_is_from_us() {
    let sent = |from: &str| {
        let inner =
            format!("<message from='{from}' to='ben@b.test' type='chat'><body>hi</body></message>");
        told(&mut ann(), &carbon("sent", OWN, &inner))
    };
    assert_eq!(sent("ann@a.test/other"), ["ann@a.test/other: hi Sent"]);
    assert!(sent("eve@b.test").is_empty());
}

#[test]
fn ck_06_what_is_forwarded_is_no_stanza_of_its_own() {
    for inner in [
        "<iq xmlns='jabber:client' type='set' id='1'><query xmlns='jabber:iq:roster'>\
         <item jid='eve@b.test'/></query></iq>",
        "<presence xmlns='jabber:client' from='ben@b.test/y'/>",
        &carbon("received", OWN, HI),
    ] {
        let outcome = receive(&mut ann(), &carbon("received", OWN, inner));
        assert!(
            outcome.events.is_empty() && outcome.send.is_empty(),
            "{inner}"
        );
    }
    // Without a wrapper that we know, nothing is taken out of it.
    let bare = "<message from='ben@b.test'><forwarded xmlns='urn:xmpp:forward:0'>\
                <message xmlns='jabber:client' from='tom@b.test'><body>x</body></message>\
                </forwarded></message>";
    assert!(told(&mut ann(), bare).is_empty());
}

#[test]
fn ck_10_corrections_are_taken_from_the_same_sender_alone() {
    let mut state = ann();
    let says = |from: &str, id: &str, corrects: &str| {
        let replace = match corrects {
            "" => String::new(),
            id => format!("<replace xmlns='urn:xmpp:message-correct:0' id='{id}'/>"),
        };
        format!("<message from='{from}' id='{id}' type='chat'><body>b</body>{replace}</message>")
    };
    told(&mut state, &says("ben@b.test/y", "1", ""));
    assert_eq!(
        told(&mut state, &says("ben@b.test/z", "2", "1")),
        ["ben@b.test/z: b1"]
    );
    // What ann said is not ben's to correct.
    let to = jid("ben@b.test");
    let (id, _) = state.send(&Outgoing::chat(&to, "mine").id("m"));
    assert_eq!(
        told(&mut state, &says("ben@b.test/y", "3", &id)),
        ["ben@b.test/y: b"]
    );
    // In a room each occupant speaks for themselves.
    let room = |nick: &str, id: &str, corrects: &str| {
        says(&format!("r@c.test/{nick}"), id, corrects).replace("'chat'", "'groupchat'")
    };
    told(&mut state, &room("ben", "r1", ""));
    assert_eq!(
        told(&mut state, &room("eve", "r2", "r1")),
        ["r@c.test/eve: b"]
    );
    assert_eq!(
        told(&mut state, &room("ben", "r3", "r1")),
        ["r@c.test/ben: br1"]
    );
    // And in private there.
    let aside = |nick: &str, id: &str, corrects: &str| {
        let x = "<x xmlns='http://jabber.org/protocol/muc#user'/></message>";
        says(&format!("r@c.test/{nick}"), id, corrects).replace("</message>", x)
    };
    told(&mut state, &aside("ben", "p1", ""));
    assert_eq!(
        told(&mut state, &aside("eve", "p2", "p1")),
        ["r@c.test/eve: b"]
    );
}

#[test]
fn receipts_are_given_by_the_rules() {
    let asks = |from: &str, more: &str, ty: &str| {
        format!(
            "<message from='{from}' id='7' type='{ty}'><body>b</body>\
             <request xmlns='urn:xmpp:receipts'/>{more}</message>"
        )
    };
    let answered = |xml: &str| receive(&mut ann(), xml).send;
    let receipts = answered(&asks("ben@b.test/y", "", "chat"));
    let [receipt] = &receipts[..] else {
        panic!("{receipts:?}")
    };
    assert_eq!(receipt.head.to, Some(jid("ben@b.test/y")));
    assert_eq!(receipt.head.ty, Ty::Chat);
    let children = receipt.elements();
    assert_eq!(children.len(), 1);
    assert!(children[0].is(ns::RECEIPTS, "received"));
    assert_eq!(children[0].attr("id"), Some("7"));
    assert_eq!(answered(&asks("ann@a.test/other", "", "")).len(), 1);
    for not in [
        asks("eve@b.test/y", "", "chat"),
        asks("tom@b.test/y", "", "chat"),
        asks("ben@b.test/y", "", "groupchat"),
        asks("ben@b.test/y", "", "error"),
        asks(
            "ben@b.test/y",
            "<received xmlns='urn:xmpp:receipts' id='1'/>",
            "chat",
        ),
        asks("ben@b.test/y", "", "chat").replace(" id='7'", ""),
        carbon("received", OWN, &asks("ben@b.test/y", "", "chat")),
    ] {
        assert!(answered(&not).is_empty(), "{not}");
    }
    let mut quiet = ann();
    quiet.options.receipts = false;
    let asked = asks("ben@b.test/y", "", "chat");
    assert!(receive(&mut quiet, &asked).send.is_empty());
    let mut shown = ann();
    shown.direct_presence(&jid("eve@b.test"));
    assert_eq!(
        receive(&mut shown, &asks("eve@b.test/y", "", "chat"))
            .send
            .len(),
        1
    );
}

#[test]
fn receipts_are_asked_for_and_believed_by_the_rules() {
    let mut state = ann();
    let asks = |state: &mut State, message: &Outgoing| {
        let (_, stanza) = state.send(message);
        stanza.has(ns::id::RECEIPTS, name::REQUEST)
    };
    let (ben, device) = (jid("ben@b.test"), jid("ben@b.test/y"));
    assert!(asks(&mut state, &Outgoing::chat(&ben, "b").id("1")));
    assert!(!asks(&mut state, &Outgoing::chat(&ben, "b").receipt(false)));
    assert!(!asks(&mut state, &Outgoing::groupchat(&ben, "b")));
    assert!(
        !asks(&mut state, &Outgoing::chat(&device, "b")),
        "not known to take them"
    );
    let receipt = |from: &str, id: &str| {
        format!("<message from='{from}'><received xmlns='urn:xmpp:receipts' id='{id}'/></message>")
    };
    assert_eq!(
        told(&mut state, &receipt("ben@b.test/y", "1")),
        ["ben@b.test/y has 1"]
    );
    assert!(told(&mut state, &receipt("eve@b.test/y", "1")).is_empty());
    assert!(told(&mut state, &receipt("ben@b.test/y", "2")).is_empty());
}

#[test]
fn chat_states_go_to_those_who_take_them() {
    let mut state = ann();
    let ben = jid("ben@b.test");
    let tells = |state: &mut State| state.send(&Outgoing::chat(&ben, "b")).1.kids.len() == 3;
    assert!(tells(&mut state), "who has not answered is asked that way");
    assert!(state.tell(&ben, ChatState::Composing).is_none());
    let writes =
        |children: &str| format!("<message from='ben@b.test/y' type='chat'>{children}</message>");
    let composing = writes("<composing xmlns='http://jabber.org/protocol/chatstates'/>");
    assert_eq!(told(&mut state, &composing), ["ben@b.test/y Composing"]);
    assert!(state.tell(&ben, ChatState::Composing).is_some());
    assert!(
        state.tell(&ben, ChatState::Composing).is_none(),
        "once in a row"
    );
    assert!(state.tell(&ben, ChatState::Paused).is_some());
    told(&mut state, &writes("<body>b</body>"));
    assert!(
        state.tell(&ben, ChatState::Composing).is_none(),
        "does not take them any more"
    );
    assert!(!tells(&mut state));
    let late = "<delay xmlns='urn:xmpp:delay' stamp='2000-01-01T00:00:00Z'/>\
                <composing xmlns='http://jabber.org/protocol/chatstates'/>";
    assert!(told(&mut state, &writes(late)).is_empty());
}

#[test]
fn c6121_ci_04_presence_is_told_and_kept() {
    let mut state = ann();
    let of = |state: &State| {
        state
            .presences
            .of(&BareJid::parse("ben@b.test").unwrap())
            .len()
    };
    assert_eq!(
        told(&mut state, "<presence from='ben@b.test/y'/>"),
        ["ben@b.test/y true"]
    );
    told(&mut state, "<presence from='ben@b.test/z'/>");
    assert_eq!(of(&state), 2);
    told(
        &mut state,
        "<presence from='ben@b.test' type='unavailable'/>",
    );
    assert_eq!(of(&state), 0);
    let in_room = "<presence from='r@c.test/ben'>\
                   <x xmlns='http://jabber.org/protocol/muc#user'/></presence>";
    assert!(told(&mut state, in_room).is_empty());
}

#[test]
fn li_02_nothing_is_approved_by_itself() {
    let outcome = receive(
        &mut ann(),
        "<presence from='eve@b.test' type='subscribe'><status>let me in</status></presence>",
    );
    assert!(outcome.send.is_empty());
    let [ImEvent::SubscriptionRequest { from, text }] = &outcome.events[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (from.as_str(), text.as_deref()),
        ("eve@b.test", Some("let me in"))
    );
}

#[test]
fn ck_01_roster_pushes_are_taken_from_the_own_account_alone() {
    let push = |from: &str, item: &str| {
        format!(
            "<iq type='set' id='1'{from}><query xmlns='jabber:iq:roster' ver='9'>{item}</query></iq>"
        )
    };
    let (added, removed) = (
        "<item jid='eve@b.test' subscription='both'/>",
        "<item jid='ben@b.test' subscription='remove'/>",
    );
    let mut state = ann();
    for from in ["eve@b.test", "ann@a.test/x", "a.test", "ann@b.test"] {
        let from = format!(" from='{from}'");
        for item in [added, removed] {
            assert!(told(&mut state, &push(&from, item)).is_empty(), "{from}");
        }
    }
    assert!(state.roster.contact("eve@b.test").is_none());
    assert!(state.roster.contact("ben@b.test").is_some());
    assert_eq!(told(&mut state, &push("", added)), ["eve@b.test changed"]);
    assert_eq!(
        told(&mut state, &push(" from='ann@a.test'", removed)),
        ["ben@b.test removed"]
    );
    assert!(state.roster.contact("ben@b.test").is_none());
}

#[test]
fn blocked_addresses_follow_pushes_of_the_own_account() {
    let mut state = ann();
    let push = |from: &str, name: &str| {
        format!(
            "<iq type='set' id='1'{from}><{name} xmlns='urn:xmpp:blocking'>\
             <item jid='eve@b.test'/></{name}></iq>"
        )
    };
    state.blocked = Some(BTreeSet::new());
    let blocks = |state: &State| state.blocked.as_ref().unwrap().len();
    assert!(
        receive(&mut state, &push(" from='eve@b.test'", "block"))
            .events
            .is_empty()
    );
    assert_eq!(blocks(&state), 0);
    receive(&mut state, &push("", "block"));
    assert_eq!(blocks(&state), 1);
    receive(&mut state, &push("", "unblock"));
    assert_eq!(blocks(&state), 0);
}

#[test]
fn ck_13_only_those_we_watch_are_asked_what_they_can_do() {
    let info = Info {
        features: vec![ns::RECEIPTS.into()],
        ..Info::default()
    };
    let info = info.to_element();
    let c = Caps::of(&info, "urn:x")
        .unwrap()
        .to_element()
        .to_xml("jabber:client");
    let mut state = ann();
    let mut asks = |from: &str| {
        receive(
            &mut state,
            &format!("<presence from='{from}'>{c}</presence>"),
        )
        .send
    };
    for stranger in ["eve@b.test/y", "ann@a.test/x"] {
        assert!(asks(stranger).is_empty(), "{stranger}");
    }
    let question = asks("tom@b.test/y").remove(0);
    let mut answer = question.result(Some(&info));
    answer.head.from = Some(jid("tom@b.test/y"));
    state.receive(&answer);
    assert!(
        state
            .info_of(&jid("tom@b.test/y"))
            .unwrap()
            .has(ns::RECEIPTS)
    );
    assert!(
        state.info_of(&jid("eve@b.test/y")).is_some(),
        "who names the same"
    );
    assert!(state.takes_receipts(&jid("tom@b.test/y")));
    assert_eq!(state.takes_states(&jid("tom@b.test/y")), Some(false));
}

#[test]
fn a_new_stream_forgets_what_the_last_one_told() {
    let mut state = ann();
    told(&mut state, "<presence from='ben@b.test/y'/>");
    state.blocked = Some(BTreeSet::new());
    state.begin(FullJid::parse("ann@a.test/z").unwrap());
    assert!(
        state
            .presences
            .of(&BareJid::parse("ben@b.test").unwrap())
            .is_empty()
    );
    assert!(!state.roster.is_loaded() && state.blocked.is_none());
    assert!(
        state.roster.contact("ben@b.test").is_some(),
        "until it is asked for anew"
    );
}
