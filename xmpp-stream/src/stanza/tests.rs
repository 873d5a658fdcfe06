//! Builders, replies, splices and renderings.

use super::*;
use crate::error::{ErrorType, StanzaCondition};
use crate::jid::FullJid;
use bytes::Bytes;
use std::sync::Arc;

fn parse(xml: &str) -> Stanza {
    Stanza::parse(xml).unwrap()
}

#[track_caller]
fn check(stanza: &Stanza, want: &str) {
    assert_eq!(stanza.to_xml(), want);
    let again = parse(want);
    assert_eq!((again.kind, &again.head), (stanza.kind, &stanza.head));
    assert_eq!(
        (&again.payload, &again.kids),
        (&stanza.payload, &stanza.kids)
    );
    assert_eq!(again.to_element(), stanza.to_element());
    assert_eq!(
        Stanza::from_element(&stanza.to_element()).unwrap().to_xml(),
        want
    );
}

#[test]
fn builders_write_canonical_stanzas() {
    check(
        &Stanza::chat("b@d", "hi & <bye>\u{0}").unwrap().with_id("1"),
        "<message to='b@d' id='1' type='chat'><body>hi &amp; &lt;bye></body></message>",
    );
    check(
        &Stanza::presence(Ty::Unavailable),
        "<presence type='unavailable'/>",
    );
    let query = Element::new(ns::ROSTER, "query")
        .with_child(Element::new(ns::ROSTER, "item").with_attr("jid", "a'b@d"));
    check(
        &Stanza::iq(Ty::Set, "x").with_child(&query),
        "<iq id='x' type='set'><query xmlns='jabber:iq:roster'>\
         <item jid='a&apos;b@d'/></query></iq>",
    );
    // A child in any content namespace is the stanza's own (X6).
    let body = Element::new(ns::SERVER, "body").with_text("x");
    check(
        &Stanza::message(Ty::None).with_child(&body),
        "<message><body>x</body></message>",
    );
    assert!(Stanza::chat("@", "x").is_err());
}

#[test]
fn types_are_kept_as_received() {
    for text in [
        "chat",
        "error",
        "get",
        "groupchat",
        "headline",
        "normal",
        "probe",
        "result",
        "set",
        "subscribe",
        "subscribed",
        "unavailable",
        "unsubscribe",
        "unsubscribed",
        "odd",
    ] {
        assert_eq!(Ty::of(text).as_str(), Some(text));
        assert_eq!(matches!(Ty::of(text), Ty::Other(_)), text == "odd");
    }
    assert_eq!(Ty::None.as_str(), None);
}

#[test]
fn child_text_is_unescaped() {
    let xml = "<message><body xml:lang='a>b'>x&amp;y&lt;]]&gt;&#xD;</body><subject/>\
               <thread>a<x xmlns='urn:x'>no</x>b</thread></message>";
    let stanza = parse(xml);
    assert_eq!(stanza.body().as_deref(), Some("x&y<]]>\r"));
    assert_eq!(stanza.child_text(name::SUBJECT).as_deref(), Some(""));
    assert_eq!(stanza.child_text(name::THREAD).as_deref(), Some("ab"));
    assert_eq!(stanza.child_text(name::SHOW), None);
    let foreign = parse("<message><body xmlns='urn:x'>no</body></message>");
    assert_eq!(foreign.body(), None);
    assert_eq!(
        parse("<message><body>]]&gt;</body></message>")
            .to_element()
            .children()
            .count(),
        1
    );
}

#[test]
fn splice_cuts_and_appends() {
    let stanza = parse("<message>t<a xmlns='u'/><b xmlns='u'>x</b>w<body>y</body></message>");
    let cut = |edits: &[Edit]| stanza.splice(edits);
    check(&cut(&[]), &stanza.to_xml());
    check(
        &cut(&[Edit::Cut(1)]),
        "<message>t<a xmlns='u'/>w<body>y</body></message>",
    );
    check(
        &cut(&[
            Edit::Cut(0),
            Edit::Cut(2),
            Edit::Append(Element::new(ns::DELAY, "delay")),
        ]),
        "<message>t<b xmlns='u'>x</b>w<delay xmlns='urn:xmpp:delay'/></message>",
    );
    check(&cut(&[Edit::Cut(7)]), &stanza.to_xml());
    let spliced = cut(&[Edit::Cut(0)]);
    assert_eq!(spliced.body().as_deref(), Some("y"));
    assert_eq!(spliced.elements().len(), 2);
    assert_eq!(spliced.first_element().unwrap().text(), "x");
}

#[test]
fn splice_never_joins_texts_to_a_forbidden_one() {
    let stanza = parse("<message>]]<a xmlns='u'/>&gt;]<b xmlns='u'/><c xmlns='u'/>]&gt;</message>");
    for edits in [
        &[Edit::Cut(0)][..],
        &[Edit::Cut(1)],
        &[Edit::Cut(1), Edit::Cut(2)],
    ] {
        let spliced = stanza.splice(edits);
        assert_eq!(parse(&spliced.to_xml()).to_element(), spliced.to_element());
        assert!(!spliced.to_xml().contains("]]>"), "{}", spliced.to_xml());
    }
}

#[test]
fn c6120_se_07_result_swaps_addresses_and_keeps_the_id() {
    let ask = parse("<iq from='a@d/r' to='d' id='7' type='get' xml:lang='de'/>");
    check(
        &ask.result(None),
        "<iq to='a@d/r' from='d' id='7' type='result'/>",
    );
    let payload = Element::new(ns::VERSION, "query");
    check(
        &ask.result(Some(&payload)),
        "<iq to='a@d/r' from='d' id='7' type='result'><query xmlns='jabber:iq:version'/></iq>",
    );
}

#[test]
fn c6120_stanza_error_id() {
    let message =
        parse("<message from='a@d/r' to='b@d' id='7' type='chat'><body>x</body></message>");
    let reply = message
        .error_reply(&StanzaError::service_unavailable())
        .unwrap();
    check(
        &reply,
        "<message to='a@d/r' from='b@d' id='7' type='error'><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
    );
    assert_eq!(reply.error(), Some(StanzaError::service_unavailable()));
    // Without an id there is none (se-04).
    let reply = parse("<presence/>")
        .error_reply(&StanzaError::forbidden())
        .unwrap();
    assert_eq!(reply.head.id, None);
}

#[test]
fn c6120_se_02_never_an_error_to_an_error() {
    for xml in [
        "<message type='error'/>",
        "<presence type='error'/>",
        "<iq type='error' id='1'/>",
        "<iq type='result' id='1'/>",
    ] {
        assert!(
            parse(xml).error_reply(&StanzaError::forbidden()).is_none(),
            "{xml}"
        );
    }
    for xml in [
        "<iq type='get'/>",
        "<iq type='odd'/>",
        "<iq/>",
        "<message type='result'/>",
    ] {
        assert!(
            parse(xml).error_reply(&StanzaError::forbidden()).is_some(),
            "{xml}"
        );
    }
}

#[test]
fn c6120_stanza_error_is_read() {
    let xml = "<iq type='error' id='1'><query xmlns='jabber:iq:roster'/><error type='wait'>\
               <resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
    let want = StanzaError::new(ErrorType::Wait, StanzaCondition::ResourceConstraint);
    assert_eq!(parse(xml).error(), Some(want));
    assert_eq!(parse("<iq type='result' id='1'/>").error(), None);
    assert_eq!(
        parse("<iq type='error'/>").error(),
        Some(StanzaError::undefined_condition())
    );
}

#[test]
fn refused_stanzas_are_answered_where_allowed() {
    let refused = |ty: &str| Refused {
        kind: Kind::Iq,
        head: Head {
            id: Some("1".into()),
            ty: Ty::of(ty),
            ..Head::default()
        },
        condition: StanzaCondition::JidMalformed,
        is_from_bad: false,
    };
    let reply = refused("get").reply().unwrap();
    assert_eq!(reply.error(), Some(StanzaError::jid_malformed()));
    assert_eq!(reply.head.id.as_deref(), Some("1"));
    assert!(refused("result").reply().is_none() && refused("error").reply().is_none());
}

#[test]
fn parse_takes_one_stanza_alone() {
    for bad in [
        "",
        "<message>",
        "<x/>",
        "<message/><message/>",
        "x",
        "<message to='@'/>",
        "</a>",
    ] {
        assert!(Stanza::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(
        Stanza::parse(" <message/> ").unwrap().to_xml(),
        "<message/>"
    );
}

#[track_caller]
fn check_rendered(rendered: &Rendered, to: To, want: &str) {
    let recipient = FullJid::parse("me@d/it's").unwrap();
    let mut out = b"before".to_vec();
    rendered.write(&mut out, to, Some(&recipient));
    assert_eq!(String::from_utf8(out).unwrap(), format!("before{want}"));
    assert!(
        rendered.len() >= want.len(),
        "{} < {}",
        rendered.len(),
        want.len()
    );
}

#[test]
fn one_rendering_serves_all_recipients() {
    let xml = "<message to='r@d' from='a@d/x' id='1' type='groupchat' xml:lang='en' q='1'>\
               <body>hi</body></message>";
    let stanza = Arc::new(parse(xml));
    let rendered = Rendered::new(Arc::clone(&stanza), Class::Message);
    check_rendered(&rendered, To::AsWritten, xml);
    check_rendered(&rendered, To::Bare, &xml.replace("to='r@d'", "to='me@d'"));
    check_rendered(
        &rendered,
        To::Full,
        &xml.replace("to='r@d'", "to='me@d/it&apos;s'"),
    );
    let extra = Bytes::from_static(b"<delay xmlns='urn:xmpp:delay'/>");
    let delayed = Rendered::with_extra(stanza, Class::Message, extra);
    let want = xml.replace("</message>", "<delay xmlns='urn:xmpp:delay'/></message>");
    check_rendered(&delayed, To::AsWritten, &want);
    assert_eq!(
        (delayed.kind(), delayed.class()),
        (Kind::Message, Class::Message)
    );

    let empty = Arc::new(parse("<presence from='a@d/x'/>"));
    let rendered = Rendered::new(Arc::clone(&empty), Class::Presence);
    check_rendered(&rendered, To::AsWritten, "<presence from='a@d/x'/>");
    check_rendered(&rendered, To::Bare, "<presence to='me@d' from='a@d/x'/>");
    let extra = Rendered::with_extra(empty, Class::Presence, Bytes::from_static(b"<x/>"));
    check_rendered(
        &extra,
        To::AsWritten,
        "<presence from='a@d/x'><x/></presence>",
    );
}

#[test]
fn forwarded_form_declares_its_namespace() {
    let mut out = Vec::new();
    parse("<message to='a@d'><body>x</body></message>").write_forwarded(&mut out);
    let want = "<message xmlns='jabber:client' to='a@d'><body>x</body></message>";
    assert_eq!(String::from_utf8(out).unwrap(), want);
}
