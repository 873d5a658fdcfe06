//! RFC 6120 sections 8 and 10 over the wire: attributes, errors, IQ rules, routing to local domains.
//!
//! Rows of the checklist: section 1 (stanza-*), 2 (st-13 to st-17, st-22), 7 (se-*), 9.

use xmpp_testkit::TestLab;
use xmpp_testkit::wire::Wire;

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

/// Two signed-in peers, both available, that have seen their own presence.
async fn pair(lab: &TestLab) -> (Wire, Wire) {
    let mut ann = lab.wire("ann@a.test/balcony").await;
    let mut ben = lab.wire("ben@a.test/orchard").await;
    ann.presence("").await;
    ben.presence("").await;
    (ann, ben)
}

#[tokio::test]
async fn c6120_stanza_attribute_from_stamp_overrides_what_the_client_says() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    ann.send(
        "<message to='ben@a.test/orchard' from='eve@a.test/x' id='1'><body>hi</body></message>",
    )
    .await;
    ben.expect("<message to='ben@a.test/orchard' from='ann@a.test/balcony' id='1' xml:lang='{any}'><body>hi</body></message>")
        .await;
    ann.send(
        "<message to='ben@a.test/orchard' from='no jid at all@@' id='2'><body>hi</body></message>",
    )
    .await;
    ben.expect("<message to='ben@a.test/orchard' from='ann@a.test/balcony' id='2' xml:lang='{any}'><body>hi</body></message>")
        .await;
}

#[tokio::test]
async fn c6120_stanza_attribute_to_is_not_rewritten() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    ann.send("<message to='ben@a.test' type='chat' id='b'><body>hi</body></message>")
        .await;
    let got = ben.next().await;
    assert_eq!(got.attr("to"), Some("ben@a.test"));
    assert_eq!(got.attr("id"), Some("b"));
}

#[tokio::test]
async fn c6120_stanza_attribute_xmllang_comes_from_the_header_where_absent() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    ann.send("<message to='ben@a.test/orchard' xml:lang='fr'><body>salut</body></message>")
        .await;
    ben.expect("<message to='ben@a.test/orchard' from='ann@a.test/balcony' xml:lang='fr'><body>salut</body></message>")
        .await;
}

#[tokio::test]
async fn c6120_stanza_extension_payloads_pass_untouched() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    let payload = "<x xmlns='urn:test:foo' a='1' xmlns:p='urn:p' p:b='&lt;&apos;&quot;'>t &amp; u\
                   <y xmlns=''><body xmlns='jabber:client'>in</body></y></x>";
    ann.send(format!(
        "<message to='ben@a.test/orchard' id='x'>{payload}</message>"
    ))
    .await;
    ben.expect(format!(
        "<message to='ben@a.test/orchard' from='ann@a.test/balcony' id='x' xml:lang='{{any}}'>{payload}</message>"
    ))
    .await;
}

#[tokio::test]
async fn c6120_stanza_iq_child_id_and_type_are_checked() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/balcony").await;
    let cases = [
        (
            "<iq type='get' id='n0' to='a.test'/>",
            "id='n0' from='a.test'",
        ),
        (
            "<iq type='get' id='n2' to='a.test'><ping xmlns='urn:xmpp:ping'/><b xmlns='u'/></iq>",
            "id='n2' from='a.test'",
        ),
        (
            "<iq type='get' to='a.test'><ping xmlns='urn:xmpp:ping'/></iq>",
            "from='a.test'",
        ),
        (
            "<iq type='subscribe' id='t' to='a.test'><a xmlns='u'/></iq>",
            "id='t' from='a.test'",
        ),
        (
            "<iq id='none' to='a.test'><a xmlns='u'/></iq>",
            "id='none' from='a.test'",
        ),
    ];
    for (sent, attrs) in cases {
        ann.send(sent).await;
        ann.expect(format!(
            "<iq type='error' to='ann@a.test/balcony' {attrs}><error type='modify'>\
             <bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        ))
        .await;
    }
}

#[tokio::test]
async fn c6120_stanza_iq_reply_every_request_is_answered_exactly_once() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    let targets = [
        "a.test",
        "ann@a.test",
        "ben@a.test",
        "nobody@a.test",
        "ben@a.test/gone",
        "b.test",
        "a.test/x",
    ];
    let mut sent = Vec::new();
    for round in 0..100 {
        let to = targets[round % targets.len()];
        let ty = if round % 2 == 0 { "get" } else { "set" };
        ann.send(format!(
            "<iq type='{ty}' id='q{round}' to='{to}'><q xmlns='urn:test:{round}'/></iq>"
        ))
        .await;
        sent.push(format!("q{round}"));
    }
    ann.send("<iq type='get' id='last' to='a.test'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    let mut answered = Vec::new();
    loop {
        let got = ann.next().await;
        let id = got.attr("id").unwrap_or_default().to_owned();
        if id == "last" {
            break;
        }
        assert_eq!(got.attr("type"), Some("error"), "{got}");
        answered.push(id);
    }
    answered.sort();
    sent.sort();
    assert_eq!(answered, sent);
    ben.barrier().await;
}

#[tokio::test]
async fn c6120_stanza_iq_to_a_full_jid_is_delivered_and_its_answer_too() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    ann.send(
        "<iq type='get' id='v' to='ben@a.test/orchard'><query xmlns='jabber:iq:version'/></iq>",
    )
    .await;
    let got = ben.next().await;
    assert_eq!(
        (got.attr("from"), got.attr("id")),
        (Some("ann@a.test/balcony"), Some("v"))
    );
    ben.send(
        "<iq type='result' id='v' to='ann@a.test/balcony'><query xmlns='jabber:iq:version'/></iq>",
    )
    .await;
    ann.expect("<iq type='result' id='v' from='ben@a.test/orchard' to='ann@a.test/balcony' xml:lang='{any}'><query xmlns='jabber:iq:version'/></iq>")
        .await;
}

#[tokio::test]
async fn c6120_stanza_error_reply_errors_are_never_answered() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/balcony").await;
    let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    for to in [
        "nobody@a.test",
        "nobody@a.test/x",
        "b.test",
        "a.test",
        "ann@a.test/gone",
    ] {
        for kind in ["message", "presence", "iq"] {
            ann.send(format!(
                "<{kind} type='error' id='e' to='{to}'>{error}</{kind}>"
            ))
            .await;
        }
        ann.send(format!("<iq type='result' id='r' to='{to}'/>"))
            .await;
    }
    ann.barrier().await;
}

#[tokio::test]
async fn c6120_se_06_unknown_account_answers_like_one_that_is_not_there() {
    let lab = lab().await;
    lab.account("ben@a.test").await;
    let mut ann = lab.wire("ann@a.test/balcony").await;
    for payload in [
        "<iq type='get' id='i' to='TO'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
        "<iq type='get' id='i' to='TO'><vCard xmlns='vcard-temp'/></iq>",
        "<iq type='get' id='i' to='TO'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='set' id='i' to='TO'><q xmlns='urn:test:x'/></iq>",
        "<message type='normal' id='i' to='TO/gone'><body>b</body></message>",
        "<message type='groupchat' id='i' to='TO'><body>b</body></message>",
    ] {
        ann.send(payload.replace("TO", "ben@a.test")).await;
        let known = ann.next().await.to_string().replace("ben@a.test", "TO");
        ann.send(payload.replace("TO", "zed@a.test")).await;
        let unknown = ann.next().await.to_string().replace("zed@a.test", "TO");
        assert_eq!(known, unknown, "for {payload}");
        assert!(known.contains("service-unavailable"), "{known}");
    }
}

#[tokio::test]
async fn c6120_9_remote_domain_is_not_found_without_federation() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/balcony").await;
    ann.send("<message to='x@elsewhere.test' id='m'><body>b</body></message>")
        .await;
    ann.expect("<message type='error' id='m' from='x@elsewhere.test' to='ann@a.test/balcony'><error type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>no link to elsewhere.test: links to other servers are switched off here</text></error></message>")
        .await;
}

#[tokio::test]
async fn c6120_9_message_without_to_goes_to_the_own_account() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/balcony").await;
    ann.presence("").await;
    ann.send("<message type='chat' id='self'><body>note</body></message>")
        .await;
    let got = ann.next().await;
    assert_eq!(
        (got.name(), got.attr("id")),
        ("message", Some("self")),
        "{got}"
    );
}

#[tokio::test]
async fn c6120_9_iq_without_to_is_for_the_own_account() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/balcony").await;
    ann.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    let got = ann.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("result"), Some("p")),
        "{got}"
    );
    ann.send("<iq type='set' id='u'><unknown xmlns='urn:test:none'/></iq>")
        .await;
    let got = ann.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("error"), Some("u")),
        "{got}"
    );
    ann.send("<iq type='result' id='stray'/>").await;
    ann.barrier().await;
}

#[tokio::test]
async fn c6120_st_14_unknown_first_level_element_is_unsupported() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/balcony").await;
    ann.send("<foo xmlns='urn:x'/>").await;
    ann.expect_stream_error("unsupported-stanza-type").await;
}

#[tokio::test]
async fn c6120_st_15_look_alikes_in_other_namespaces_are_not_routed() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    ann.send("<message xmlns='urn:x' to='ben@a.test/orchard'><body>no</body></message>")
        .await;
    ann.expect_stream_error("unsupported-stanza-type").await;
    ben.barrier().await;
}

#[tokio::test]
async fn c6120_st_16_prefixed_stanzas_are_corrected() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    ann.send("<c:message xmlns:c='jabber:client' to='ben@a.test/orchard' id='p'><c:body>hi</c:body></c:message>")
        .await;
    ben.expect("<message to='ben@a.test/orchard' from='ann@a.test/balcony' id='p' xml:lang='{any}'><body>hi</body></message>")
        .await;
}

#[tokio::test]
async fn c6120_st_22_a_cut_stanza_is_never_processed() {
    let lab = lab().await;
    let (mut ann, mut ben) = pair(&lab).await;
    ann.send("<message to='ben@a.test/orchard'><body>half")
        .await;
    drop(ann);
    // Ann's next session comes after the end of the first one was noticed or not: either way
    // nothing of the half stanza may arrive.
    let mut again = lab.wire("ann@a.test/second").await;
    again
        .send("<message to='ben@a.test/orchard' id='whole'><body>whole</body></message>")
        .await;
    let got = ben.next().await;
    assert_eq!(got.attr("id"), Some("whole"), "{got}");
}

#[tokio::test]
async fn c6120_bad_to_is_jid_malformed() {
    let lab = lab().await;
    let mut ann = lab.wire("ann@a.test/balcony").await;
    for (kind, ty) in [("message", ""), ("iq", "type='get'"), ("presence", "")] {
        ann.send(format!(
            "<{kind} {ty} id='j' to='a b@@c'><q xmlns='u'/></{kind}>"
        ))
        .await;
        let got = ann.next().await;
        assert_eq!(got.attr("id"), Some("j"), "{got}");
        assert!(got.to_string().contains("jid-malformed"), "{got}");
    }
    ann.barrier().await;
}

#[tokio::test]
async fn emoji_in_resource_and_nick_are_routed() {
    let lab = lab().await;
    let mut ann = lab
        .wire("ann@a.test/\u{1F469}\u{200D}\u{1F680} party \u{1FAE8}")
        .await;
    let mut ben = lab.wire("ben@a.test/orchard").await;
    ann.presence("").await;
    let jid = ann.jid().to_owned();
    ben.send(format!("<message to='{jid}' id='e'><body>\u{1F389}</body><nick xmlns='http://jabber.org/protocol/nick'>\u{1F468}\u{200D}\u{1F33E}</nick></message>"))
        .await;
    let got = ann.next().await;
    assert_eq!(got.attr("to"), Some(jid.as_str()));
    ann.send(format!(
        "<message to='ben@a.test/orchard' id='r'><body>from {jid}</body></message>"
    ))
    .await;
    let got = ben.next().await;
    assert_eq!(got.attr("from"), Some(jid.as_str()));
}
