//! The accepting side: header, TLS, EXTERNAL, whose stanzas pass, the end.

use super::*;
use StreamCondition as C;

/// Says these after TLS, from a peer with a good certificate; the stream error that follows.
#[track_caller]
fn refused(said: &[&str]) -> Option<C> {
    let mut found = Vec::new();
    for chunk in [usize::MAX, 7, 1] {
        let mut talk = Talk::secured(chunk, true);
        said.iter().for_each(|text| drop(talk.say(text)));
        found.push(talk.error());
    }
    assert!(found.windows(2).all(|two| two[0] == two[1]), "{found:?}");
    found[0]
}

fn header(attrs: &str) -> String {
    format!(
        "<stream:stream {attrs} xmlns='{}' xmlns:stream='{}'>",
        ns::SERVER,
        ns::STREAMS
    )
}

#[test]
fn c6120_xml_namespace_content_server() {
    let client = OPEN.replace(ns::SERVER, ns::CLIENT);
    assert_eq!(refused(&[&client]), Some(C::InvalidNamespace));
    let component = OPEN.replace("'jabber:server'", "'jabber:component:accept'");
    assert_eq!(refused(&[&component]), Some(C::InvalidNamespace));
    let streams = OPEN.replace(ns::STREAMS, "urn:x");
    assert_eq!(refused(&[&streams]), Some(C::InvalidNamespace));
    assert_eq!(refused(&[OPEN]), None);
}

#[test]
fn c6120_st_headers_are_judged() {
    let cases = [
        (
            "from='a.test' to='other.test' version='1.0'",
            Some(C::HostUnknown),
        ),
        ("from='a.test' version='1.0'", Some(C::HostUnknown)),
        (
            "from='a.test' to='x@b.test' version='1.0'",
            Some(C::HostUnknown),
        ),
        (
            "from='@' to='b.test' version='1.0'",
            Some(C::ImproperAddressing),
        ),
        (
            "from='x@a.test' to='b.test' version='1.0'",
            Some(C::ImproperAddressing),
        ),
        (
            "from='b.test' to='b.test' version='1.0'",
            Some(C::InvalidFrom),
        ),
        (
            "from='rooms.b.test' to='b.test' version='1.0'",
            Some(C::InvalidFrom),
        ),
        ("from='a.test' to='b.test'", Some(C::UnsupportedVersion)),
        (
            "from='a.test' to='b.test' version='2.0'",
            Some(C::UnsupportedVersion),
        ),
        ("from='A.Test' to='B.TEST' version='1.0'", None),
        ("to='b.test' version='1.0'", None),
    ];
    for (attrs, expected) in cases {
        assert_eq!(refused(&[&header(attrs)]), expected, "{attrs}");
    }
}

#[test]
fn c6120_stream_attribute_response_to_is_the_domain_that_calls() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk, true);
        let answer = talk.say(OPEN);
        assert!(answer.contains(" xmlns='jabber:server'"), "{answer}");
        assert!(
            answer.contains(" from='b.test' to='a.test' id='"),
            "{answer}"
        );
        // Row db-08.
        assert!(
            answer.contains(" xmlns:db='jabber:server:dialback'"),
            "{answer}"
        );
        assert!(answer.contains(talk.machine.stream_id()), "{answer}");
        let mut talk = Talk::secured(chunk, true);
        let answer = talk.say(&header("to='b.test' version='1.0'"));
        assert!(!answer.contains(" to='"), "{answer}");
    });
}

#[test]
fn c6120_tl_01_tls_comes_first_and_alone() {
    each_split(|chunk| {
        let mut talk = Talk::called(callee_config(TlsRule::Required), chunk);
        let answer = talk.say(OPEN);
        assert!(answer.contains("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/>"));
        for none in ["mechanisms", "<dialback", "<sm"] {
            assert!(!answer.contains(none), "{answer}");
        }
        // Row bi-01.
        assert!(answer.contains("<bidi xmlns='urn:xmpp:features:bidi'/>"));
        assert_eq!(
            talk.say(&starttls()),
            format!("<proceed xmlns='{}'/>", ns::TLS)
        );
        let answer = talk.say(OPEN);
        // Row tl-08.
        assert!(!answer.contains("starttls"), "{answer}");
        assert!(
            answer.contains("<mechanism>EXTERNAL</mechanism>"),
            "{answer}"
        );
        assert!(talk.say(&starttls()).starts_with("<failure"));
        assert!(matches!(talk.closed(), Some(CloseReason::TlsFailed)));
    });
}

#[test]
fn c6120_tl_03_nothing_in_clear_is_taken_for_what_came_over_tls() {
    let mut talk = Talk::called(callee_config(TlsRule::Required), usize::MAX);
    talk.say(OPEN);
    let answer = talk.say(&format!("{}{OPEN}", starttls()));
    assert!(!answer.contains("proceed"), "{answer}");
    assert_eq!(talk.error(), Some(C::PolicyViolation));
    // In a later read, while TLS is on its way.
    let mut machine = Callee::new(callee_config(TlsRule::Required), random(), start());
    machine.handle_bytes(OPEN.as_bytes(), start());
    machine.handle_bytes(starttls().as_bytes(), start());
    assert!(!machine.wants_input());
    machine.handle_bytes(OPEN.as_bytes(), start());
    machine.tls_established(tls_info(), start());
    assert!(machine.tls().is_none());
}

#[test]
fn c6120_tl_07_what_was_said_in_clear_is_forgotten() {
    each_split(|chunk| {
        let mut talk = Talk::called(callee_config(TlsRule::Required), chunk);
        talk.say(&OPEN.replace("a.test", "c.test"));
        // In clear nobody is asked about: a name proves nothing.
        assert!(talk.checked.is_empty());
        talk.say(&starttls());
        talk.say(OPEN);
        assert_eq!(talk.checked, [("a.test".into(), "b.test".into())]);
        talk.say(&auth("a.test"));
        talk.say(OPEN);
        assert_eq!(talk.proven(), ["a.test to b.test by EXTERNAL"]);
    });
}

#[test]
fn ats_tu_09_direct_tls_offers_no_starttls() {
    let mut talk = Talk::secured(usize::MAX, true);
    assert!(!talk.say(OPEN).contains("starttls"));
}

#[test]
fn c6120_sa_03_external_is_offered_for_a_good_certificate_alone() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk, false);
        let answer = talk.say(OPEN);
        assert!(!answer.contains("EXTERNAL"), "{answer}");
        assert!(answer.contains("<dialback xmlns='urn:xmpp:features:dialback'><errors/>"));
        assert_eq!(talk.machine.distrust(), Some(&Distrust::UnknownIssuer));
        let failure = talk.say(&auth("a.test"));
        assert!(failure.contains("<invalid-mechanism/>"), "{failure}");
        // A header without a name names nobody for whom a certificate could be good.
        let mut talk = Talk::secured(chunk, true);
        assert!(
            !talk
                .say(&header("to='b.test' version='1.0'"))
                .contains("EXTERNAL")
        );
        assert!(talk.checked.is_empty());
    });
}

#[test]
fn ats_ce_12_external_is_for_the_domain_of_the_header() {
    #[track_caller]
    fn check(data: &str, answer: &str) {
        each_split(|chunk| {
            let mut talk = Talk::secured(chunk, true);
            talk.say(OPEN);
            let said = talk.say(&auth_data(data));
            assert!(said.contains(answer), "{data}: {said}");
            let is_in = answer.contains("success");
            assert_eq!(talk.say(OPEN).contains("features"), is_in, "{data}");
            assert_eq!(talk.machine.is_open(), is_in);
        });
    }
    let base64 = |text: &str| crate::features::sasl::base64(text.as_bytes());
    // Row sa-07.
    check("=", "<success");
    check(&base64("a.test"), "<success");
    check(&base64("A.TEST"), "<success");
    check(&base64("c.test"), "<invalid-authzid/>");
    check(&base64("x@a.test"), "<invalid-authzid/>");
    check(&base64("b.test"), "<invalid-authzid/>");
    check("/w==", "<invalid-authzid/>");
    check("a=b", "<incorrect-encoding/>");
}

#[test]
fn c6120_sa_11_without_an_initial_response_there_is_a_challenge() {
    let response = |data: &str| format!("<response xmlns='{}'>{data}</response>", ns::SASL);
    for (data, answer) in [
        ("", "<success"),
        ("=", "<success"),
        ("YS50ZXN0", "<success"),
        ("Yy50ZXN0", "<invalid-authzid/>"),
        ("!", "<incorrect-encoding/>"),
    ] {
        each_split(|chunk| {
            let mut talk = Talk::secured(chunk, true);
            talk.say(OPEN);
            assert!(talk.say(&auth_data("")).starts_with("<challenge"));
            let said = talk.say(&response(data));
            assert!(said.contains(answer), "{data}: {said}");
        });
    }
    let mut talk = Talk::secured(usize::MAX, true);
    talk.say(OPEN);
    talk.say(&auth_data(""));
    // Rows sa-08, sa-09.
    assert!(talk.say(&auth_data("")).starts_with("<challenge"));
    let abort = format!("<abort xmlns='{}'/>", ns::SASL);
    assert!(talk.say(&abort).contains("<aborted/>"));
    assert!(talk.say(&response("")).contains("<malformed-request/>"));
    assert!(talk.say(&auth_data("=")).starts_with("<success"));
}

#[test]
fn c6120_sa_10_refused_proofs_are_counted() {
    let mut talk = Talk::secured(usize::MAX, true);
    talk.say(OPEN);
    for _ in 1..limits().s2s.refusals_max {
        talk.say(&auth("c.test"));
        assert!(talk.closed().is_none());
    }
    assert!(talk.say(&auth("c.test")).contains("<invalid-authzid/>"));
    assert_eq!(talk.error(), Some(C::PolicyViolation));
}

#[test]
fn c6120_sasl_correlate_the_header_after_login_names_the_same() {
    #[track_caller]
    fn check(attrs: &str, expected: Option<C>) {
        each_split(|chunk| {
            let mut talk = Talk::secured(chunk, true);
            talk.say(OPEN);
            talk.say(&auth("a.test"));
            talk.say(&header(attrs));
            assert_eq!(talk.error(), expected, "{attrs}");
        });
    }
    check("from='a.test' to='b.test' version='1.0'", None);
    check("to='b.test' version='1.0'", None);
    check(
        "from='c.test' to='b.test' version='1.0'",
        Some(C::InvalidFrom),
    );
    check(
        "from='a.test' to='rooms.b.test' version='1.0'",
        Some(C::InvalidFrom),
    );
}

#[test]
fn nobody_gets_in_where_dialback_is_off_and_the_certificate_bad_and_is_told_why() {
    each_split(|chunk| {
        let config = CalleeConfig {
            dialback: Dialback::Never,
            ..callee_config(TlsRule::Direct)
        };
        let mut talk = Talk::secured_with(config, chunk, false);
        let answer = talk.say(OPEN);
        assert!(!answer.contains("features"), "{answer}");
        assert_eq!(talk.error(), Some(C::NotAuthorized));
        assert!(
            answer.contains("certificate is from an unknown issuer"),
            "{answer}"
        );
    });
}

#[test]
fn a_domain_that_we_do_not_talk_to_is_told_so() {
    let mut talk = Talk::secured(usize::MAX, true);
    let error = StreamError::new(C::PolicyViolation);
    talk.verdict = PeerVerdict::Refused(error.with_text("not here"));
    let answer = talk.say(OPEN);
    assert_eq!(talk.error(), Some(C::PolicyViolation));
    assert!(answer.contains("not here") && answer.ends_with("</stream:stream>"));
}

#[test]
fn c6120_stanzas_before_anything_is_proven_end_the_stream() {
    let early = message("ann@a.test", "ben@b.test");
    assert_eq!(refused(&[OPEN, &early]), Some(C::NotAuthorized));
    let begun = auth_data("");
    assert_eq!(refused(&[OPEN, &begun, &early]), Some(C::NotAuthorized));
    let again = header("from='a.test' to='b.test' version='1.0'");
    assert_eq!(refused(&[OPEN, &again]), Some(C::BadFormat));
    let unknown = "<x xmlns='urn:x'/>";
    assert_eq!(refused(&[OPEN, unknown]), Some(C::UnsupportedStanzaType));
}

#[test]
fn c6120_stanza_attribute_from_validate() {
    #[track_caller]
    fn check(stanza: &str, expected: Result<usize, C>) {
        each_split(|chunk| {
            let mut talk = Talk::signed_in(chunk);
            talk.say(stanza);
            let found = match talk.error() {
                Some(condition) => Err(condition),
                None => Ok(talk.stanzas().len()),
            };
            assert_eq!(found, expected, "{stanza}");
        });
    }
    check(&message("ann@a.test", "ben@b.test"), Ok(1));
    check(&message("a.test", "b.test"), Ok(1));
    check(&message("ann@A.TEST/x", "ben@B.test"), Ok(1));
    check(&message("ann@c.test", "ben@b.test"), Err(C::InvalidFrom));
    check(
        &message("ann@rooms.a.test", "ben@b.test"),
        Err(C::InvalidFrom),
    );
    check(&message("ben@b.test", "ben@b.test"), Err(C::InvalidFrom));
    // Row stanza-attribute-to-validate.
    check("<message from='ann@a.test'/>", Err(C::ImproperAddressing));
    check("<message to='ben@b.test'/>", Err(C::ImproperAddressing));
    check("<message/>", Err(C::ImproperAddressing));
    // RFC 6120 section 8.1.1.2; a domain of ours for which nothing was proven.
    check(&message("ann@a.test", "ben@c.test"), Err(C::HostUnknown));
    check(
        &message("ann@a.test", "r@rooms.b.test"),
        Err(C::InvalidFrom),
    );
    // A sender that cannot be read is dropped alone: many users share the stream.
    check(&message("@a.test", "ben@b.test"), Ok(0));
    check("<message from='' to='ben@b.test'/>", Ok(0));
}

#[test]
fn ats_ja_09_a_bad_to_is_answered_alone_and_only_for_who_may_send() {
    let refused = |talk: &Talk<Callee>| {
        let told = talk.told.iter();
        told.filter(|output| matches!(output, Output::Refused(_)))
            .count()
    };
    each_split(|chunk| {
        let mut talk = Talk::signed_in(chunk);
        talk.say("<message from='ann@a.test' to='@b.test'/>");
        assert_eq!((refused(&talk), talk.error()), (1, None));
        talk.say("<message from='ann@c.test' to='@b.test'/>");
        assert_eq!((refused(&talk), talk.error()), (1, Some(C::InvalidFrom)));
    });
}

#[test]
fn an_oversize_stanza_is_skipped_and_refused_alone() {
    let mut talk = Talk::signed_in(usize::MAX);
    let big = "x".repeat(XmlLimits::s2s().stanza_bytes_max);
    talk.say(&format!(
        "<message from='ann@a.test' to='ben@b.test'><body>{big}</body></message>"
    ));
    assert!(
        talk.told
            .iter()
            .any(|output| matches!(output, Output::Refused(_)))
    );
    talk.say(&message("ann@a.test", "ben@b.test"));
    assert_eq!((talk.error(), talk.stanzas().len()), (None, 1));
}

#[test]
fn c6120_st_13_the_content_namespace_is_that_of_the_stream() {
    each_split(|chunk| {
        let mut talk = Talk::signed_in(chunk);
        let inner = "<message xmlns='jabber:client' from='x@y.test'><body>in</body></message>";
        talk.say(&format!(
            "<message from='ann@a.test' to='ben@b.test'><body>out</body>\
             <forwarded xmlns='{}'>{inner}</forwarded></message>",
            ns::FORWARD
        ));
        let stanzas = talk.stanzas();
        // As a client would be given it.
        assert_eq!(stanzas[0].body().as_deref(), Some("out"));
        let xml = stanzas[0].to_xml();
        assert!(xml.contains(inner) && !xml.contains(ns::SERVER), "{xml}");
        // DESIGN X8: the header's language is made explicit.
        assert_eq!(stanzas[0].head.lang.as_deref(), Some("de"));
        // Of a client's stream.
        talk.say("<message xmlns='jabber:client' from='ann@a.test' to='ben@b.test'/>");
        assert_eq!(talk.error(), Some(C::InvalidNamespace));
    });
}

#[test]
fn ats_bi_07_who_wants_both_directions_may_say_what_it_takes() {
    let mut talk = Talk::secured(7, true);
    talk.say(OPEN);
    talk.say(&format!(
        "<bidi xmlns='{}'><limits xmlns='{}'><max-bytes>10000</max-bytes></limits></bidi>",
        ns::BIDI,
        ns::STREAM_LIMITS
    ));
    talk.say(&auth("a.test"));
    let said = PeerLimits {
        stanza_bytes_max: Some(10_000),
        idle_max: None,
    };
    assert_eq!(talk.machine.peer_limits(), said);
}

#[test]
fn x0478_limits_are_those_of_who_is_known_where_no_features_follow() {
    let of = |bytes: usize| format!("<max-bytes>{bytes}</max-bytes>");
    let (before, after) = (
        of(XmlLimits::before_auth().stanza_bytes_max),
        of(XmlLimits::s2s().stanza_bytes_max),
    );
    let mut talk = Talk::called(callee_config(TlsRule::Required), 7);
    let clear = talk.say(OPEN);
    assert!(clear.contains(&before), "{clear}");
    let mut talk = Talk::secured(7, true);
    let features = talk.say(OPEN);
    assert!(
        features.contains(&after),
        "dialback may be next: {features}"
    );
    talk.say(&auth("a.test"));
    let features = talk.say(OPEN);
    assert!(features.contains(&after), "{features}");
}

#[test]
fn ats_bi_03_stanzas_go_back_only_where_that_was_asked_for_and_proven() {
    let back = |from: &str, to: &str| {
        let stanza = Stanza::parse(&message(from, to)).unwrap();
        Item::<()>::One(Box::new(stanza))
    };
    each_split(|chunk| {
        let bidi = format!("<bidi xmlns='{}'/>", ns::BIDI);
        let mut talk = Talk::signed_in(chunk);
        assert!(!talk.machine.send(&back("ben@b.test", "ann@a.test")));
        assert_eq!(talk.answer(), "");

        let mut talk = Talk::secured(chunk, true);
        assert!(
            talk.say(OPEN)
                .contains("<bidi xmlns='urn:xmpp:features:bidi'/>")
        );
        talk.say(&bidi);
        assert_eq!(talk.machine.peer_limits(), PeerLimits::default());
        assert!(!talk.machine.send(&back("ben@b.test", "ann@a.test")));
        talk.say(&auth("a.test"));
        assert!(!talk.say(OPEN).contains("bidi"));
        assert!(talk.machine.send(&back("ben@b.test", "ann@a.test")));
        assert_eq!(
            talk.answer(),
            "<message to='ann@a.test' from='ben@b.test'><body>hi</body></message>"
        );
        for (from, to) in [
            ("r@rooms.b.test", "ann@a.test"),
            ("ben@b.test", "ann@c.test"),
            ("ann@a.test", "ben@b.test"),
        ] {
            assert!(!talk.machine.send(&back(from, to)), "{from} {to}");
        }
        assert_eq!(talk.answer(), "");
        // Too late.
        talk.say(&bidi);
        assert_eq!(talk.error(), Some(C::UnsupportedStanzaType));
    });
}

#[test]
fn ats_bi_02_both_directions_only_where_they_were_offered_and_over_tls() {
    let bidi = format!("<bidi xmlns='{}'/>", ns::BIDI);
    let mut talk = Talk::called(callee_config(TlsRule::Required), usize::MAX);
    talk.say(OPEN);
    talk.say(&bidi);
    assert_eq!(talk.error(), Some(C::UnsupportedStanzaType));
    let config = CalleeConfig {
        bidi: false,
        ..callee_config(TlsRule::Direct)
    };
    let mut talk = Talk::secured_with(config, usize::MAX, true);
    assert!(!talk.say(OPEN).contains("bidi"));
    talk.say(&bidi);
    assert_eq!(talk.error(), Some(C::UnsupportedStanzaType));
}

#[test]
fn c6120_st_the_end_from_either_side() {
    each_split(|chunk| {
        let mut talk = Talk::signed_in(chunk);
        assert_eq!(talk.say("</stream:stream>"), "</stream:stream>");
        assert!(matches!(talk.closed(), Some(CloseReason::Clean)));

        let mut talk = Talk::signed_in(chunk);
        talk.machine.close(None, talk.now);
        assert_eq!(talk.answer(), "</stream:stream>");
        // What was under way is not heard any more: nobody could be told what became of it.
        talk.say(&message("ann@a.test", "ben@b.test"));
        assert!(talk.stanzas().is_empty());
        talk.say("</stream:stream>");
        assert!(matches!(talk.closed(), Some(CloseReason::Clean)));

        let mut talk = Talk::signed_in(chunk);
        talk.say(
            "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        );
        let Some(CloseReason::Theirs(error)) = talk.closed() else {
            panic!("{:?}", talk.told);
        };
        assert_eq!(error.condition, C::Reset);
    });
    let mut talk = Talk::signed_in(usize::MAX);
    talk.machine.close(None, talk.now);
    talk.pass(limits().close_max);
    assert!(matches!(talk.closed(), Some(CloseReason::CloseTimeout)));
    let mut talk = Talk::signed_in(usize::MAX);
    talk.machine.handle_eof(talk.now);
    talk.drain();
    assert!(matches!(talk.closed(), Some(CloseReason::Eof)));
}

#[test]
fn who_proves_nothing_in_time_has_to_go() {
    let mut talk = Talk::secured(usize::MAX, true);
    talk.say(OPEN);
    talk.pass(limits().negotiation_max);
    assert_eq!(talk.error(), Some(C::ConnectionTimeout));
    // Row tl-06.
    let mut talk = Talk::called(callee_config(TlsRule::Direct), usize::MAX);
    assert_eq!(talk.pass(limits().negotiation_max), "");
    assert!(matches!(talk.closed(), Some(CloseReason::TlsFailed)));
}

#[test]
fn an_unused_stream_is_told_of_and_stays() {
    let mut talk = Talk::signed_in(usize::MAX);
    talk.told.clear();
    talk.pass(limits().s2s.idle_max);
    assert!(matches!(talk.events()[..], [Event::Idle]));
    assert!(talk.machine.is_open());
    talk.told.clear();
    talk.pass(limits().s2s.idle_max / 2);
    talk.say(&message("ann@a.test", "ben@b.test"));
    talk.pass(limits().s2s.idle_max / 2);
    assert!(talk.events().is_empty());
}
