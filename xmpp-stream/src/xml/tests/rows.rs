//! Restricted XML, well-formedness and encoding: RFC 6120 section 11.

use super::*;

#[test]
fn stanzas_are_written_canonically() {
    check("<presence/>", "<presence/>");
    check("<presence></presence>", "<presence/>");
    check(
        "<message to=\"b@d\" type='chat' id='1'><body>hi</body></message>",
        "<message to='b@d' id='1' type='chat'><body>hi</body></message>",
    );
    check(
        "<iq type='get' id='a&amp;&apos;b'><query xmlns='jabber:iq:roster' ver=''/></iq>",
        "<iq id='a&amp;&apos;b' type='get'><query xmlns='jabber:iq:roster' ver=''/></iq>",
    );
    // X5: CDATA, references, `]]>`, CR, line ends in attributes.
    check(
        "<message><body><![CDATA[a<b&c]]>]]&gt;&#13;&#x41;</body></message>",
        "<message><body>a&lt;b&amp;c]]&gt;&#xD;A</body></message>",
    );
    check(
        "<message><body>]&#62;]<![CDATA[>]]></body></message>",
        "<message><body>]&gt;]&gt;</body></message>",
    );
    check(
        "<message><x xmlns='urn:x' a='1&#10;2&#9;\"&lt;>'/></message>",
        "<message><x xmlns='urn:x' a='1&#xA;2&#x9;\"&lt;>'/></message>",
    );
    check(
        "<message xmlns:y='urn:y' y:a='1' z='2'>\
         <x xmlns='urn:x' y:b='3' y:c='4' xml:lang='de'/></message>",
        "<message z='2' xmlns:n1='urn:y' n1:a='1'>\
         <x xmlns='urn:x' xml:lang='de' xmlns:n0='urn:y' n0:b='3' n0:c='4'/></message>",
    );
}

#[test]
fn kids_index_the_payload() {
    let xml = "<message><body>a</body><active xmlns='http://jabber.org/protocol/chatstates'/>\
               <odd xmlns='urn:x'><body xmlns='jabber:client'/></odd></message>";
    let stanza = Stanza::parse(xml).unwrap();
    let kids: Vec<_> = stanza
        .kids
        .iter()
        .map(|kid| stanza.kid_bytes(kid).to_vec())
        .collect();
    assert_eq!(kids.concat(), stanza.payload);
    assert!(stanza.has(ns::id::CLIENT, ns::name::BODY));
    assert!(stanza.has(ns::id::CHAT_STATES, ns::name::ACTIVE));
    assert_eq!(stanza.kids[2].ns, NsId::OTHER);
    assert_eq!(
        stanza.kid_name(&stanza.kids[2]),
        ("urn:x".to_owned(), "odd".to_owned())
    );
    assert_eq!(
        stanza.kid_name(&stanza.kids[0]),
        (ns::CLIENT.to_owned(), "body".to_owned())
    );
    assert_eq!(stanza.to_xml(), xml);
}

#[test]
fn c6120_xml_restriction_comment() {
    check_error("<!-- x -->", XmlError::Restricted);
    check_error("<message><!-- x --></message>", XmlError::Restricted);
}

#[test]
fn c6120_xml_restriction_dtd() {
    let dtd = "<!DOCTYPE x [<!ENTITY a 'b'>]>";
    assert_eq!(
        frames_of(dtd.as_bytes(), XmlLimits::c2s()),
        ["error Restricted"]
    );
    let both = format!("<?xml version='1.0'?>{dtd}");
    assert_eq!(
        frames_of(both.as_bytes(), XmlLimits::c2s()),
        ["error Restricted"]
    );
    check_error(dtd, XmlError::Restricted);
}

#[test]
fn c6120_xml_restriction_pi() {
    check_error("<?x y?>", XmlError::Restricted);
    check_error("<message><?x y?></message>", XmlError::Restricted);
    check_error("<?xml version='1.0'?>", XmlError::Restricted);
}

#[test]
fn c6120_xml_restriction_ref() {
    check_error(
        "<message><body>&foo;</body></message>",
        XmlError::Restricted,
    );
    check_error(
        "<message><body>&lol9lol9lol9lol9;</body></message>",
        XmlError::Restricted,
    );
    check_error("<message a='&foo;'/>", XmlError::Restricted);
    check(
        "<message><body>&#x41;&lt;&gt;&amp;&apos;&quot;</body></message>",
        "<message><body>A&lt;>&amp;'\"</body></message>",
    );
}

#[test]
fn c6120_xm_01_restricted_xml_condition() {
    assert_eq!(
        XmlError::Restricted.condition(),
        StreamCondition::RestrictedXml
    );
    assert_eq!(
        XmlError::NotWellFormed.condition(),
        StreamCondition::NotWellFormed
    );
    assert_eq!(
        XmlError::Encoding.condition(),
        StreamCondition::UnsupportedEncoding
    );
    assert_eq!(
        XmlError::Limit("x").condition(),
        StreamCondition::PolicyViolation
    );
    assert_eq!(XmlError::TextAtTop.condition(), StreamCondition::BadFormat);
}

#[test]
fn c6120_xml_wellformed_xml() {
    for bad in [
        "<a><b></a>",
        "</a>",
        "<a b='1' b='2'/>",
        "<a b=1/>",
        "<a b='<'/>",
        "<message><body>]]></body></message>",
        "<message>< body/></message>",
        "<a b='1'c='2'/>",
    ] {
        check_error(bad, XmlError::NotWellFormed);
    }
}

#[test]
fn c6120_xm_02_characters() {
    for bad in [
        "<message><body>\u{0}</body></message>",
        "<message><body>\u{1}</body></message>",
        "<message><body>\u{FFFE}</body></message>",
        "<message><body>&#0;</body></message>",
        "<message><body>&#xD800;</body></message>",
        "<message><body>&#x1F;</body></message>",
        "<message><body>& </body></message>",
    ] {
        check_error(bad, XmlError::NotWellFormed);
    }
    // An emoji, and a byte order mark in the middle, are ordinary characters.
    check(
        "<message><body>\u{1F389}\u{FEFF}</body></message>",
        "<message><body>\u{1F389}\u{FEFF}</body></message>",
    );
}

#[test]
fn c6120_xml_wellformed_ns() {
    for bad in [
        "<foo:a/>",
        "<message foo:a='1'/>",
        "<message xmlns:xml='urn:x'/>",
        "<message xmlns:a=''/>",
        "<message xmlns:xmlns='urn:x'/>",
        "<x xmlns:a='u' xmlns:b='u' a:c='1' b:c='2'/>",
        "<a:b:c xmlns:a='u'/>",
    ] {
        check_error(bad, XmlError::NotWellFormed);
    }
}

#[test]
fn c6120_xm_03_standalone() {
    let open = OPEN.replace("'1.0'?>", "'1.0' encoding='UTF-8' standalone='no'?>");
    assert_eq!(
        frames_of(open.as_bytes(), XmlLimits::c2s()),
        ["error Restricted"]
    );
    let open = OPEN.replace("'1.0'?>", "'1.0' encoding='UTF-8' standalone='yes'?>");
    assert!(frames_of(open.as_bytes(), XmlLimits::c2s()).is_empty());
}

#[test]
fn c6120_xm_04_encoding() {
    for bad in [
        &b"\xC0\x80"[..],
        b"\xED\xA0\x80",
        b"\xE2\x82",
        b"\xFF",
        b"\xF4\x90\x80\x80",
    ] {
        let stanza = [
            OPEN.as_bytes(),
            b"<message><body>",
            bad,
            b"</body></message>",
        ]
        .concat();
        assert_eq!(
            frames_of(&stanza, XmlLimits::c2s()),
            ["error Encoding"],
            "{bad:?}"
        );
    }
    for bad in [
        &b"\xFF\xFE<\0?\0"[..],
        b"\xFE\xFF\0<\0?",
        b"<\0?\0x\0",
        b"\0<\0?",
    ] {
        assert_eq!(
            frames_of(bad, XmlLimits::c2s()),
            ["error Encoding"],
            "{bad:?}"
        );
    }
    let latin = OPEN.replace("'1.0'?>", "'1.0' encoding='ISO-8859-1'?>");
    assert_eq!(
        frames_of(latin.as_bytes(), XmlLimits::c2s()),
        ["error Encoding"]
    );
    let marked = format!("\u{FEFF}{OPEN}");
    assert_eq!(
        frames_of(marked.as_bytes(), XmlLimits::c2s()),
        ["error NotWellFormed"]
    );
    assert_eq!(
        frames_of(&[OPEN.as_bytes(), b"\xC0"].concat(), XmlLimits::c2s()),
        ["error Encoding"]
    );
}

#[test]
fn c6120_xm_05_whitespace_between_elements() {
    assert_eq!(
        frames(" \r\n\t<presence/> \n<presence/> "),
        ["<presence/> []", "<presence/> []"]
    );
    check_error("x", XmlError::TextAtTop);
    check_error("<![CDATA[x]]>", XmlError::TextAtTop);
    assert_eq!(frames("<![CDATA[ ]]><presence/>"), ["<presence/> []"]);
    assert_eq!(
        frames("<presence/>&#32;"),
        ["<presence/> []", "error TextAtTop"]
    );
}

#[test]
fn c6120_xm_05_whitespace_does_not_grow() {
    let mut reader = reader();
    run(&mut reader, &[OPEN.as_bytes()]);
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..4 {
        assert!(reader.next(&mut spaces.as_slice()).unwrap().is_none());
        assert!(!reader.is_mid_element() && reader.used == 0);
    }
    assert_eq!(run(&mut reader, &[b"<presence/>"]), ["<presence/> []"]);
    // Before the header it is bounded.
    let mut reader = Reader::new(XmlLimits::before_auth(), ns::CLIENT);
    assert_eq!(
        reader.next(&mut spaces.as_slice()).unwrap_err(),
        XmlError::Limit("bytes")
    );
}

#[test]
fn c6120_xm_06_only_xml_1_0() {
    let open = OPEN.replace("version='1.0'?>", "version='1.1'?>");
    assert_eq!(
        frames_of(open.as_bytes(), XmlLimits::c2s()),
        ["error Restricted"]
    );
}
