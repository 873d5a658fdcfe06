//! Headers, first-level elements and heads: RFC 6120 sections 4.7, 4.8 and 8.1, rules X3 to X8.

use super::*;

#[test]
fn header_is_read_as_received() {
    let header = header_of(
        "\n<?xml version='1.0'?>\n<stream:stream from='a@d' id='x' to='D' version='1.0' \
         xml:lang='de' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    assert_eq!(
        (header.root_ns.as_str(), header.root_name.as_str()),
        (ns::STREAMS, "stream")
    );
    assert!(header.root_prefixed);
    assert_eq!(header.content_ns.as_deref(), Some(ns::CLIENT));
    assert_eq!(header.from.as_deref(), Some("a@d"));
    assert_eq!(header.to.as_deref(), Some("D"));
    assert_eq!(header.id.as_deref(), Some("x"));
    assert_eq!(header.version.as_deref(), Some("1.0"));
    assert_eq!(header.lang.as_deref(), Some("de"));
}

#[test]
fn c6120_xml_namespace_streams_prefix() {
    let header = header_of(&format!("<stream xmlns='{}' to='d'>", ns::STREAMS));
    assert!(!header.root_prefixed);
    assert_eq!(header.root_ns, ns::STREAMS);
    assert_eq!(header.content_ns.as_deref(), Some(ns::STREAMS));
    let header = header_of(&format!("<s:stream xmlns:s='{}'>", ns::STREAMS));
    assert!(header.root_prefixed && header.content_ns.is_none());
    assert_eq!(header.root_ns, ns::STREAMS);
    // Both styles carry stanzas.
    let all = format!(
        "<stream xmlns='{}'><presence xmlns='jabber:client'/>",
        ns::STREAMS
    );
    assert_eq!(
        frames_of(all.as_bytes(), XmlLimits::c2s()),
        ["<presence/> []"]
    );
}

#[test]
fn c6120_xml_namespace_streams_declaration() {
    let header = header_of("<stream:stream xmlns='jabber:client' xmlns:stream='urn:wrong'>");
    assert_eq!(header.root_ns, "urn:wrong");
}

#[test]
fn c6120_xml_namespace_content_client() {
    let header = header_of("<s:s xmlns:s='urn:s' xmlns='jabber:&#102;oo' x='>' y=\"xmlns='no'\">");
    assert_eq!(header.content_ns.as_deref(), Some("jabber:foo"));
}

#[test]
fn c6120_xml_namespace_content_server() {
    let open = OPEN.replace("jabber:client", "jabber:server");
    let xml = format!("{open}<message><body>a</body></message><presence xmlns='jabber:client'/>");
    let mut reader = Reader::new(XmlLimits::s2s(), ns::SERVER);
    let got = run(&mut reader, &[xml.as_bytes()]);
    assert!(
        got[1].starts_with("<message><body>a</body></message> [Kid"),
        "{got:?}"
    );
    assert_eq!(got[2], "nonza <presence xmlns='jabber:client'/>");
    // A client stream's stanza in the server namespace is none.
    assert_eq!(
        frames("<message xmlns='jabber:server'/>"),
        ["nonza <message xmlns='jabber:server'/>"]
    );
}

#[test]
fn duplicate_default_namespace_last_wins() {
    let header = header_of("<s:s xmlns:s='urn:s' xmlns='urn:a' xmlns='jabber:client'>");
    assert_eq!(header.content_ns.as_deref(), Some(ns::CLIENT));
    check(
        "<message><x xmlns='urn:a' xmlns='urn:b'/></message>",
        "<message><x xmlns='urn:b'/></message>",
    );
}

#[test]
fn c6120_st_14_unknown_first_level_elements() {
    assert_eq!(
        frames("<foo xmlns='urn:x' a='1'>t<b/></foo><pubsub/>"),
        [
            "nonza <foo xmlns='urn:x' a='1'>t<b/></foo>",
            "nonza <pubsub xmlns='jabber:client'/>"
        ]
    );
}

#[test]
fn c6120_st_15_lookalikes_are_no_stanzas() {
    assert_eq!(
        frames("<message xmlns='urn:x' to='a@d'/><Message/>"),
        [
            "nonza <message xmlns='urn:x' to='a@d'/>",
            "nonza <Message xmlns='jabber:client'/>"
        ]
    );
}

#[test]
fn c6120_st_16_prefixed_content_is_corrected() {
    check(
        "<c:message xmlns:c='jabber:client' to='a@d'><c:body>x</c:body><body/></c:message>",
        "<message to='a@d'><body>x</body><body/></message>",
    );
}

#[test]
fn c6120_st_17_prefixes_of_the_header_resolve() {
    let open = OPEN.replace(" to=", " xmlns:foo='urn:x' to=");
    let all = format!("{open}<message><foo:a foo:b='1'><foo:c/></foo:a></message>");
    let got = frames_of(all.as_bytes(), XmlLimits::c2s());
    let want = "<message><a xmlns='urn:x' xmlns:n0='urn:x' n0:b='1'><c/></a></message> [";
    assert!(got[0].starts_with(want), "{got:?}");
}

#[test]
fn c6120_st_13_own_namespace_is_inherited() {
    for ns in ["jabber:client", "jabber:server", "jabber:component:accept"] {
        let body = format!("<message><body xmlns='{ns}'>x</body></message>");
        check(&body, "<message><body>x</body></message>");
        let error = format!("<message><error xmlns='{ns}'><text/></error></message>");
        check(&error, "<message><error><text/></error></message>");
        // Below a foreign element the namespace is kept and written out.
        let forwarded = format!(
            "<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='{ns}'><body/>\
             <x xmlns=''/></message></forwarded></message>"
        );
        check(&forwarded, &forwarded);
    }
    check(
        "<message><x xmlns=''/></message>",
        "<message><x xmlns=''/></message>",
    );
    check(
        "<message><x xmlns='urn:x'><y xmlns=''><z xmlns='urn:x'/></y><w/></x></message>",
        "<message><x xmlns='urn:x'><y xmlns=''><z xmlns='urn:x'/></y><w/></x></message>",
    );
}

#[test]
fn c6120_st_22_partial_stanzas_are_never_processed() {
    let whole = "<message to='a@d'><body>x</body></message>";
    for at in 1..whole.len() {
        let mut reader = reader();
        let mut got = run(&mut reader, &[OPEN.as_bytes(), &whole.as_bytes()[..at]]);
        assert!(
            got.remove(0).starts_with("header") && got.is_empty(),
            "{at}: {got:?}"
        );
        assert!(reader.is_mid_element(), "{at}");
    }
}

#[test]
fn footer_ends_the_stream() {
    assert_eq!(
        frames("<presence/></stream:stream>"),
        ["<presence/> []", "footer"]
    );
    assert_eq!(
        frames_of(b"<s xmlns='urn:x'/>", XmlLimits::c2s()),
        ["footer"]
    );
    // What stands behind it is not looked at.
    assert_eq!(frames("</stream:stream><presence/>"), ["footer"]);
}

#[test]
fn bytes_behind_a_frame_are_left() {
    let mut reader = reader();
    let all = format!("{OPEN}<presence/> <next>");
    let mut data = all.as_bytes();
    assert!(matches!(reader.next(&mut data), Ok(Some(Frame::Header(_)))));
    assert_eq!(data, b"<presence/> <next>");
    assert!(matches!(reader.next(&mut data), Ok(Some(Frame::Stanza(_)))));
    assert_eq!(data, b" <next>");
    assert!(!reader.is_mid_element());
}

#[test]
fn errors_stick() {
    let mut reader = reader();
    assert_eq!(reader.next(&mut &b"<a></b>"[..]).map(|_| ()), Ok(()));
    assert_eq!(
        reader.next(&mut &b"</b>"[..]).unwrap_err(),
        XmlError::NotWellFormed
    );
    assert_eq!(
        reader.next(&mut OPEN.as_bytes()).unwrap_err(),
        XmlError::NotWellFormed
    );
}

#[test]
fn ats_ja_09_bad_to_refuses_the_stanza_alone() {
    check_refused("<message to='@d' id='1'><body/></message>", JidMalformed);
    check_refused("<presence to='a b@d'/>", JidMalformed);
    check_refused(
        "<iq to='' type='get' id='x'><q xmlns='urn:x'/></iq>",
        JidMalformed,
    );
    // `from` is written by the server: one that is no address counts as absent.
    check("<message from='@' to='a@d'/>", "<message to='a@d'/>");
}

#[test]
fn ats_ja_09_bad_from_refuses_the_stanza_where_it_is_believed() {
    for stanza in [
        "<message from='@' to='a@d' id='1'><body/></message>",
        // Not for the scanner of plain elements.
        "<message from='@' to='a@d' id='1'><body>&#x20;</body><p:x xmlns:p='urn:x'/></message>",
        "<presence from=''/>",
        "<iq from='a b@d' type='set' id='x'><q xmlns='jabber:iq:roster'/></iq>",
    ] {
        let mut reader = Reader::new(XmlLimits::client(), ns::CLIENT);
        reader.believe_from();
        reader.next(&mut OPEN.as_bytes()).unwrap();
        let Ok(Some(Frame::Refused(refused))) = reader.next(&mut stanza.as_bytes()) else {
            panic!("taken: {stanza}")
        };
        assert_eq!(refused.condition, JidMalformed);
        assert!(refused.reply().is_none(), "answered: {stanza}");
    }
}

#[test]
fn odd_names_refuse_the_stanza_alone() {
    check_refused("<message \u{E9}='1'/>", BadRequest);
    check_refused("<message><\u{E9}/></message>", BadRequest);
    check_refused(
        "<message><x xmlns='urn:x' a\u{B7}='1'/></message>",
        BadRequest,
    );
    check_refused("<message><x xmlns='urn:\u{E9}'/></message>", BadRequest);
    check_refused("<message><x xmlns='a b'/></message>", BadRequest);
    check_refused(
        "<message><x xmlns='http://www.w3.org/2000/xmlns/'/></message>",
        BadRequest,
    );
    check_refused(
        "<message><a:x xmlns:a='http://www.w3.org/2000/xmlns/'/></message>",
        BadRequest,
    );
    check_refused("<message><xml:x/></message>", BadRequest);
    // Declared and not used, such a name vanishes.
    check("<message xmlns:a='urn:\u{E9}'/>", "<message/>");
    check_error("<\u{E9} xmlns='urn:x'/>", XmlError::Name);
}

#[test]
fn c6120_stanza_attribute_xmllang() {
    let open = OPEN.replace(" to=", " xml:lang='cs' to=");
    let all = format!("{open}<message/><message xml:lang='fr'/><message xml:lang=''/><iq/>");
    let got = frames_of(all.as_bytes(), XmlLimits::c2s());
    let want = [
        "<message xml:lang='cs'/> []",
        "<message xml:lang='fr'/> []",
        "<message xml:lang=''/> []",
        "<iq xml:lang='cs'/> []",
    ];
    assert_eq!(got, want);
    let long = OPEN.replace(" to=", &format!(" xml:lang='{}' to=", "a".repeat(65)));
    assert_eq!(
        frames_of(format!("{long}<iq/>").as_bytes(), XmlLimits::c2s()),
        ["<iq/> []"]
    );
    let mut reader = reader();
    run(&mut reader, &[OPEN.as_bytes()]);
    reader.set_default_lang(Some("en"));
    assert_eq!(
        run(&mut reader, &[b"<presence/>"]),
        ["<presence xml:lang='en'/> []"]
    );
}

#[test]
fn unknown_head_attributes_are_kept_up_to_eight() {
    let attrs: String = (0..12).map(|n| format!(" a{n:02}='{n}'")).collect();
    let kept: String = (0..8).map(|n| format!(" a{n:02}='{n}'")).collect();
    check(&format!("<message{attrs}/>"), &format!("<message{kept}/>"));
    check(
        "<message xml:space='preserve' xmlns:p='urn:p' p:q='&lt;' p:r='2'/>",
        "<message xml:space='preserve' xmlns:n1='urn:p' n1:q='&lt;' xmlns:n2='urn:p' n2:r='2'/>",
    );
}
