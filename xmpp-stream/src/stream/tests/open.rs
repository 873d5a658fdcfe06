//! The established stream: stanzas, silence, both ways to close, every error condition.

use super::*;
use crate::error::StreamCondition as Condition;
use crate::stanza::Ty;

fn established(chunk: usize) -> Talk {
    let mut talk = Talk::secured(chunk);
    talk.establish();
    talk
}

#[test]
fn c6120_stanzas_come_in_order_of_arrival() {
    each_split(|chunk| {
        let mut talk = established(chunk);
        let says: String = (0..100)
            .map(|n| format!("<message id='m{n}'><body>{n}</body></message> \n"))
            .collect();
        assert_eq!(talk.say(&says), "");
        let ids: Vec<_> = talk
            .stanzas()
            .iter()
            .map(|stanza| stanza.head.id.clone().unwrap())
            .collect();
        let expected: Vec<_> = (0..100).map(|n| format!("m{n}").into_boxed_str()).collect();
        assert_eq!(ids, expected);
    });
}

#[test]
fn c6120_xm_05_whitespace_between_stanzas_costs_nothing() {
    let mut talk = established(usize::MAX);
    let spaces = " \n\t\r".repeat(64 * 1024);
    for _ in 0..8 {
        assert_eq!(talk.say(&spaces), "");
    }
    talk.say("<presence/>");
    assert_eq!(talk.stanzas().len(), 1);
}

#[test]
fn c6120_stanza_attribute_xmllang_of_the_last_header() {
    let mut talk = Talk::secured(7);
    talk.open();
    talk.say(&auth("PLAIN", b"\0alice\0pencil"));
    talk.say(&OPEN.replace("to=", "xml:lang='cs' to="));
    talk.say(&bind("1", ""));
    let Some(Output::Established(established)) = talk.told.last() else {
        panic!()
    };
    assert_eq!(established.lang.as_deref(), Some("cs"));
    talk.say("<message><body>x</body></message><message xml:lang='fr'><body>x</body></message>");
    let langs: Vec<_> = talk
        .stanzas()
        .iter()
        .map(|it| it.head.lang.as_deref())
        .collect();
    assert_eq!(langs, [Some("cs"), Some("fr")]);
}

#[test]
fn c6120_st_14_15_unknown_first_level_elements() {
    let cases = [
        ("<foo xmlns='urn:x'/>", Condition::UnsupportedStanzaType),
        (
            "<pubsub xmlns='jabber:client'/>",
            Condition::UnsupportedStanzaType,
        ),
        (
            "<message xmlns='urn:x' to='bob@d.test'/>",
            Condition::UnsupportedStanzaType,
        ),
        (
            "<r xmlns='urn:xmpp:sm:3'/>",
            Condition::UnsupportedStanzaType,
        ),
        (
            "<message xmlns='jabber:server' to='bob@d.test'/>",
            Condition::InvalidNamespace,
        ),
    ];
    each_split(|chunk| {
        for (says, condition) in cases {
            let mut talk = established(chunk);
            talk.say(says);
            assert_eq!(talk.error(), Some(condition), "{says}");
            assert!(talk.stanzas().is_empty());
        }
    });
}

#[test]
fn a_stanza_that_is_refused_alone_is_told() {
    each_split(|chunk| {
        let mut talk = established(chunk);
        talk.say("<message to='@' id='bad'><body>x</body></message><presence/>");
        let told = &talk.told[..];
        assert!(
            matches!(told, [Output::Refused(_), Output::Stanza(_)]),
            "{told:?}"
        );
        assert_eq!(talk.error(), None);
    });
}

#[test]
fn c6120_st_22_half_a_stanza_is_none() {
    let mut talk = established(7);
    talk.say("<message to='bob@d.test'><body>half");
    talk.machine.handle_eof(talk.now);
    talk.drain();
    assert!(talk.stanzas().is_empty());
    assert!(matches!(talk.closed(), Some(CloseReason::Eof)));
}

#[test]
fn c6120_st_05_the_peer_closes() {
    each_split(|chunk| {
        let mut talk = established(chunk);
        let answer = talk.say("<message id='last'/></stream:stream>");
        assert_eq!(answer, "</stream:stream>");
        assert!(matches!(
            &talk.told[..],
            [Output::Stanza(_), Output::Closed(CloseReason::Clean)]
        ));
        assert!(!talk.machine.is_open() && !talk.machine.accepts_close());
    });
}

#[test]
fn c6120_st_05_what_is_still_owed_stands_before_our_closing_tag() {
    each_split(|chunk| {
        let mut talk = established(chunk);
        let answer = Stanza::iq(Ty::Result, "last");
        talk.owed = vec![Item::One(Box::new(answer))];
        let said = talk.say("<iq type='get' id='last'><q xmlns='urn:x'/></iq></stream:stream>");
        assert!(
            said.starts_with("<iq ") && said.contains("'last'"),
            "{said}"
        );
        assert!(said.ends_with("/></stream:stream>"), "{said}");
        assert!(matches!(talk.closed(), Some(CloseReason::Clean)));
        let late: Item = Item::One(Box::new(Stanza::presence(Ty::None)));
        talk.machine.send(&late);
        assert_eq!(talk.answer(), "");
    });
}

#[test]
fn c6120_st_05_who_has_closed_and_goes_without_an_answer_has_closed() {
    let mut talk = established(7);
    talk.machine.handle_bytes(b"</stream:stream>", talk.now);
    assert!(matches!(
        talk.machine.poll_output(),
        Some(Output::PeerClosing)
    ));
    talk.machine.handle_eof(talk.now);
    talk.drain();
    assert!(matches!(talk.closed(), Some(CloseReason::Clean)));
}

#[test]
fn c6120_st_05_we_close_and_still_listen() {
    each_split(|chunk| {
        let mut talk = established(chunk);
        talk.machine.close(None, talk.now);
        assert_eq!(talk.answer(), "</stream:stream>");
        assert!(!talk.machine.is_open() && !talk.machine.accepts_close());
        let item: Item = Item::One(Box::new(Stanza::presence(Ty::None)));
        talk.machine.send(&item);
        assert_eq!(talk.say("<message id='late'/>"), "", "nothing more is sent");
        assert_eq!(talk.stanzas().len(), 1, "but what is said is heard");
        assert_eq!(talk.say("</stream:stream>"), "");
        assert!(matches!(talk.closed(), Some(CloseReason::Clean)));

        let mut talk = established(chunk);
        talk.machine.close(None, talk.now);
        talk.answer();
        assert_eq!(
            talk.machine.poll_timeout(),
            Some(talk.now + Duration::from_secs(5))
        );
        assert_eq!(talk.pass(Duration::from_secs(5)), "");
        assert!(matches!(talk.closed(), Some(CloseReason::CloseTimeout)));
    });
}

#[test]
fn closing_before_anything_was_said_opens_first() {
    let mut talk = Talk::secured(usize::MAX);
    talk.machine
        .close(Some(StreamError::new(Condition::SystemShutdown)), talk.now);
    let answer = talk.answer();
    assert!(answer.starts_with("<?xml"), "{answer}");
    assert!(answer.ends_with("</stream:stream>"));
    assert_eq!(talk.error(), Some(Condition::SystemShutdown));
}

#[test]
fn c6120_stream_error_generate_every_condition() {
    for condition in Condition::ALL {
        let mut talk = established(usize::MAX);
        let error = StreamError::new(*condition).with_text("why & how");
        talk.machine.send::<()>(&Item::Close(Box::new(error)));
        let expected = format!(
            "<stream:error><{condition} xmlns='{0}'/>\
             <text xmlns='{0}' xml:lang='en'>why &amp; how</text></stream:error></stream:stream>",
            ns::STREAM_ERRORS
        );
        assert_eq!(talk.answer(), expected);
        assert_eq!(talk.error(), Some(*condition));
        assert_eq!(talk.say("<presence/>"), "", "row st-18: it is the end");
    }
}

#[test]
fn a_stream_error_of_the_peer_is_told_and_answered() {
    each_split(|chunk| {
        for (name, condition) in [
            ("system-shutdown", Condition::SystemShutdown),
            ("xml-not-well-formed", Condition::NotWellFormed),
            ("something-new", Condition::UndefinedCondition),
        ] {
            let mut talk = established(chunk);
            let says = format!(
                "<stream:error><{name} xmlns='{}'/></stream:error></stream:stream>",
                ns::STREAM_ERRORS
            );
            assert_eq!(talk.say(&says), "</stream:stream>");
            match talk.closed() {
                Some(CloseReason::Theirs(error)) => assert_eq!(error.condition, condition),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn c6120_st_08_a_silent_peer_is_asked_and_given_up() {
    let mut talk = established(usize::MAX);
    assert_eq!(talk.pass(Duration::from_secs(299)), "");
    let ping = talk.pass(Duration::from_secs(1));
    let Some(Frame::Stanza(asked)) = frames(&ping).into_iter().next() else {
        panic!("{ping}")
    };
    assert_eq!(
        asked.head.to.as_ref().map(|to| to.as_str()),
        Some("alice@d.test/r")
    );
    assert_eq!(
        asked.head.from.as_ref().map(|from| from.as_str()),
        Some("d.test")
    );
    assert!(ping.contains("<ping xmlns='urn:xmpp:ping'/>"));
    let id = asked.head.id.unwrap();
    // Its answer is ours; an answer with another id is the caller's.
    assert_eq!(
        talk.say(&format!(
            "<iq type='result' id='{id}'/><iq type='result' id='z'/>"
        )),
        ""
    );
    let ids: Vec<_> = talk
        .stanzas()
        .iter()
        .map(|stanza| stanza.head.id.as_deref())
        .collect();
    assert_eq!(ids, [Some("z")]);
    // Any byte is a sign of life.
    talk.pass(Duration::from_secs(299));
    talk.say(" ");
    assert_eq!(talk.pass(Duration::from_secs(299)), "");
    assert_ne!(talk.pass(Duration::from_secs(1)), "");
    assert_eq!(talk.pass(Duration::from_secs(59)), "");
    assert!(
        talk.pass(Duration::from_secs(1))
            .contains("<connection-timeout ")
    );
    assert_eq!(talk.error(), Some(Condition::ConnectionTimeout));
}

#[test]
fn a_late_answer_to_a_ping_is_still_ours() {
    let mut talk = established(usize::MAX);
    let ping = talk.pass(Duration::from_secs(300));
    let Some(Frame::Stanza(asked)) = frames(&ping).into_iter().next() else {
        panic!("{ping}")
    };
    talk.say(" ");
    talk.pass(Duration::from_secs(120));
    let answer = format!(
        "<iq type='error' id='{}'><error type='cancel'>\
        <service-unavailable xmlns='{}'/></error></iq>",
        asked.head.id.unwrap(),
        ns::STANZAS
    );
    talk.say(&answer);
    assert!(talk.stanzas().is_empty());
    assert_eq!(talk.error(), None);
}

#[test]
fn memory_is_given_back_between_elements_and_inside() {
    let mut talk = established(1);
    for byte in b"<message id='1'><body>abc</body></message>" {
        talk.machine.handle_bytes(&[*byte], talk.now);
        talk.machine.release();
    }
    talk.drain();
    assert_eq!(talk.stanzas().len(), 1);
}

#[test]
fn c6120_lm_03_a_client_gets_256_kib() {
    let body = "x".repeat(200_000);
    let mut talk = established(usize::MAX);
    talk.say(&format!("<message><body>{body}</body></message>"));
    assert_eq!(talk.stanzas().len(), 1);
    talk.say(&format!("<message><body>{body}{body}"));
    assert_eq!(talk.error(), Some(Condition::PolicyViolation));
}
