//! Headers, features, STARTTLS, binding; what is refused before the stream is established.

use super::*;
use crate::error::StreamCondition as Condition;

/// One conversation from the start over TLS that ends in a stream error.
fn refused(says: &str, condition: Condition) {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        let answer = talk.say(says);
        assert_eq!(talk.error(), Some(condition), "{says}");
        assert!(
            answer.starts_with("<?xml"),
            "the opening tag comes first: {answer}"
        );
        let error = format!("<{condition} xmlns='{}'/>", ns::STREAM_ERRORS);
        assert!(answer.contains(&error), "{answer}");
        assert!(
            answer.ends_with("</stream:error></stream:stream>"),
            "{answer}"
        );
        // Errors stick.
        assert_eq!(talk.say(OPEN), "");
        assert!(!talk.machine.wants_input());
        assert_eq!(talk.machine.poll_timeout(), None);
    });
}

fn open_with(attributes: &str) -> String {
    format!(
        "<stream:stream {attributes} xmlns='jabber:client' xmlns:stream='{}'>",
        ns::STREAMS
    )
}

#[test]
fn c6120_stream_attribute_response_from_to_id_lang() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        let answer = talk.say(&open_with("to='D.TEST' version='1.0'"));
        let plain = header(&answer);
        assert_eq!(plain.from.as_deref(), Some("d.test"));
        assert_eq!(plain.to, None, "no `from` was sent");
        assert!(plain.id.is_some_and(|id| id.len() >= 22));
        assert_eq!(plain.version.as_deref(), Some("1.0"));
        assert_eq!(plain.lang.as_deref(), Some("en"), "row st-11");

        let mut talk = Talk::secured(chunk);
        let from = "to='d.test' from='Alice@d.test/phone' version='1.0'";
        let named = header(&talk.say(&open_with(from)));
        assert_eq!(named.to.as_deref(), Some("alice@d.test"), "the bare JID");
    });
}

#[test]
fn c6120_stream_attribute_response_id_unique_at_each_restart() {
    let mut talk = Talk::new(config(TlsRule::Required), usize::MAX);
    let mut ids = HashSet::new();
    ids.insert(header(&talk.open()).id.unwrap());
    talk.say(&format!("<starttls xmlns='{}'/>", ns::TLS));
    ids.insert(header(&talk.open()).id.unwrap());
    talk.say(&auth("PLAIN", b"\0alice\0pencil"));
    ids.insert(header(&talk.open()).id.unwrap());
    assert_eq!(ids.len(), 3, "after TLS and after SASL");
}

#[test]
fn c6120_st_10_an_id_in_the_initial_header_is_ignored() {
    let mut talk = Talk::secured(usize::MAX);
    let answer = talk.say(&open_with("to='d.test' id='mine' version='1.0'"));
    assert_ne!(header(&answer).id.as_deref(), Some("mine"));
    assert_eq!(talk.error(), None);
}

#[test]
fn c6120_st_12_versions() {
    for version in ["1.0", "01.0", "1.10", "1.9"] {
        let mut talk = Talk::secured(usize::MAX);
        let answer = talk.say(&open_with(&format!("to='d.test' version='{version}'")));
        assert_eq!(header(&answer).version.as_deref(), Some("1.0"), "{version}");
        assert!(answer.contains("<stream:features>"));
    }
    refused(
        &open_with("to='d.test' version='11.0'"),
        Condition::UnsupportedVersion,
    );
    refused(&open_with("to='d.test'"), Condition::UnsupportedVersion);
    let mut talk = Talk::secured(usize::MAX);
    let answer = talk.say(&open_with("to='d.test'"));
    assert_eq!(
        header(&answer).version,
        None,
        "no version is answered with none"
    );
    assert!(!answer.contains("features"));
}

#[test]
fn c6120_st_09_19_unknown_hosts() {
    for attributes in [
        "to='other.test' version='1.0'",
        "version='1.0'",
        "to='' version='1.0'",
    ] {
        refused(&open_with(attributes), Condition::HostUnknown);
        let mut talk = Talk::secured(usize::MAX);
        let answer = talk.say(&open_with(attributes));
        assert_eq!(
            header(&answer).from.as_deref(),
            Some("d.test"),
            "one of ours"
        );
    }
    refused(
        &open_with("to='alice@d.test' version='1.0'"),
        Condition::HostUnknown,
    );
}

#[test]
fn ats_ja_09_an_address_that_is_none_in_from() {
    refused(
        &open_with("to='d.test' from='@d.test' version='1.0'"),
        Condition::ImproperAddressing,
    );
}

#[test]
fn c6120_xml_namespace_of_streams_and_content() {
    let streams = ns::STREAMS;
    let cases = [
        (
            "<stream:stream to='d.test' version='1.0' xmlns='jabber:client' xmlns:stream='urn:x'>",
            Condition::InvalidNamespace,
        ),
        (
            &format!(
                "<stream:stream to='d.test' version='1.0' xmlns='jabber:server' xmlns:stream='{streams}'>"
            ),
            Condition::InvalidNamespace,
        ),
        (
            &format!(
                "<stream:stream to='d.test' version='1.0' xmlns='jabber:foo' xmlns:stream='{streams}'>"
            ),
            Condition::InvalidNamespace,
        ),
        (
            &format!(
                "<stream:flood to='d.test' version='1.0' xmlns='jabber:client' xmlns:stream='{streams}'>"
            ),
            Condition::BadFormat,
        ),
    ];
    for (says, condition) in cases {
        refused(says, condition);
    }
}

#[test]
fn c6120_xml_namespace_streams_prefix_both_styles() {
    each_split(|chunk| {
        for open in [
            format!(
                "<s:stream to='d.test' version='1.0' xmlns='jabber:client' xmlns:s='{}'>",
                ns::STREAMS
            ),
            format!("<stream to='d.test' version='1.0' xmlns='{}'>", ns::STREAMS),
        ] {
            let mut talk = Talk::secured(chunk);
            assert!(talk.say(&open).contains("<stream:features>"), "{open}");
        }
    });
}

#[test]
fn c6120_xml_restrictions_and_wellformedness_reach_the_wire() {
    let cases = [
        ("<!-- c -->", Condition::RestrictedXml),
        ("<?x y?>", Condition::RestrictedXml),
        ("<a>&foo;</a>", Condition::RestrictedXml),
        ("<a><b></a>", Condition::NotWellFormed),
        ("<u:a/>", Condition::NotWellFormed),
    ];
    for (says, condition) in cases {
        refused(&format!("{OPEN}{says}"), condition);
    }
    refused("<!DOCTYPE x>", Condition::RestrictedXml);
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        talk.open();
        talk.say_bytes(b"<a>\xc0\x80</a>");
        assert_eq!(talk.error(), Some(Condition::UnsupportedEncoding));
    });
}

#[test]
fn c6120_lm_03_a_stranger_gets_16_kib() {
    refused(
        &format!("{OPEN}<a>{}", "x".repeat(16 * 1024)),
        Condition::PolicyViolation,
    );
}

#[test]
fn c6120_stream_negotiation_features_alone_before_tls() {
    each_split(|chunk| {
        let mut talk = Talk::new(config(TlsRule::Required), chunk);
        let features = features(&talk.open());
        let names: Vec<_> = features
            .children()
            .map(|child| (child.ns(), child.name()))
            .collect();
        assert_eq!(names, [(ns::TLS, "starttls")], "row tl-01");
        assert!(
            features
                .child(ns::TLS, "starttls")
                .unwrap()
                .child(ns::TLS, "required")
                .is_some()
        );
    });
}

#[test]
fn c6120_tls_support_restart_and_tl_07_08() {
    each_split(|chunk| {
        let mut talk = Talk::new(config(TlsRule::Required), chunk);
        talk.say(&open_with(
            "to='d.test' from='mallory@d.test' version='1.0'",
        ));
        let proceed = talk.say(&format!("<starttls xmlns='{}'/>", ns::TLS));
        assert_eq!(proceed, format!("<proceed xmlns='{}'/>", ns::TLS));
        assert!(matches!(&talk.told[..], [Output::StartTls { to }] if &**to == "d.test"));
        let answer = talk.say(&open_with("to='e.test' from='alice@e.test' version='1.0'"));
        assert_eq!(
            header(&answer).from.as_deref(),
            Some("e.test"),
            "the second header counts"
        );
        assert!(!answer.contains(ns::TLS), "no starttls after TLS");
        // The `from` of the clear header is forgotten: only the protected one is compared.
        assert!(
            talk.say(&auth("PLAIN", b"\0alice\0pencil"))
                .starts_with("<success")
        );
    });
}

#[test]
fn c6120_tl_02_starttls_refused() {
    each_split(|chunk| {
        let failure = format!("<failure xmlns='{}'/></stream:stream>", ns::TLS);
        let mut talk = Talk::secured(chunk);
        talk.open();
        assert_eq!(
            talk.say(&format!("<starttls xmlns='{}'/>", ns::TLS)),
            failure,
            "TLS is there"
        );
        assert!(matches!(talk.closed(), Some(CloseReason::TlsFailed)));
        let mut talk = Talk::new(config(TlsRule::Required), chunk);
        talk.open();
        assert_eq!(
            talk.say(&format!("<starttls xmlns='{}'><x/></starttls>", ns::TLS)),
            failure
        );
    });
}

#[test]
fn c6120_tl_03_bytes_behind_starttls_are_an_error() {
    for behind in ["<", " ", OPEN] {
        let mut talk = Talk::new(config(TlsRule::Required), usize::MAX);
        talk.open();
        let answer = talk.say(&format!("<starttls xmlns='{}'/>{behind}", ns::TLS));
        assert_eq!(talk.error(), Some(Condition::PolicyViolation));
        assert!(!answer.contains("proceed"));
        assert!(
            !talk
                .told
                .iter()
                .any(|output| matches!(output, Output::StartTls { .. }))
        );
    }
    // In a later read, while TLS is awaited: nothing more is written in clear.
    let now = start();
    let mut machine = Responder::new(config(TlsRule::Required), random(), now);
    machine.handle_bytes(
        format!("{OPEN}<starttls xmlns='{}'/>", ns::TLS).as_bytes(),
        now,
    );
    let mut sent = Vec::new();
    machine.take_bytes(&mut sent);
    assert!(!machine.wants_input());
    machine.handle_bytes(OPEN.as_bytes(), now);
    assert_eq!(machine.pending_bytes(), 0);
    assert!(matches!(
        machine.poll_output(),
        Some(Output::StartTls { .. })
    ));
    assert!(matches!(
        machine.poll_output(),
        Some(Output::Closed(CloseReason::TlsFailed))
    ));
    machine.tls_established(tls_13(), now);
    assert!(!machine.wants_input(), "errors stick");
}

#[test]
fn c6120_tl_06_no_closing_tag_when_tls_fails() {
    let now = start();
    let mut machine = Responder::new(config(TlsRule::Required), random(), now);
    machine.handle_bytes(
        format!("{OPEN}<starttls xmlns='{}'/>", ns::TLS).as_bytes(),
        now,
    );
    machine.take_bytes(&mut Vec::new());
    assert_eq!(machine.poll_timeout(), Some(now + Duration::from_secs(30)));
    machine.handle_timeout(now + Duration::from_secs(30));
    assert_eq!(machine.pending_bytes(), 0);
    machine.close(None, now);
    assert_eq!(machine.pending_bytes(), 0);
}

#[test]
fn ats_tu_09_no_starttls_on_direct_tls() {
    let mut talk = Talk::secured(usize::MAX);
    assert!(!talk.open().contains("starttls"));
    let machine = Responder::new(config(TlsRule::Direct), random(), start());
    assert!(!machine.wants_input(), "TLS comes before the first byte");
}

#[test]
fn c6120_bind_support_features_after_login() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        assert!(!talk.open().contains(ns::BIND), "not before authentication");
        let mut talk = Talk::secured(chunk);
        let features = features(&talk.login());
        assert!(features.child(ns::BIND, "bind").is_some());
        let session = features.child(ns::SESSION, "session").unwrap();
        assert!(session.child(ns::SESSION, "optional").is_some());
        assert!(features.child("urn:x:after", "ver").is_some());
        assert!(features.child(ns::SASL, "mechanisms").is_none());
        let limits = features.child(ns::STREAM_LIMITS, "limits").unwrap();
        assert_eq!(
            limits.child(ns::STREAM_LIMITS, "max-bytes").unwrap().text(),
            "262144"
        );
        assert_eq!(
            limits
                .child(ns::STREAM_LIMITS, "idle-seconds")
                .unwrap()
                .text(),
            "300"
        );
    });
}

#[test]
fn c6120_bind_gen_and_wanted_resources() {
    let cases = [
        ("", "alice@d.test/made"),
        ("<resource/>", "alice@d.test/made"),
        ("<resource>balcony</resource>", "alice@d.test/balcony"),
        ("<resource>a &amp; b</resource>", "alice@d.test/a &amp; b"),
    ];
    each_split(|chunk| {
        for (inner, jid) in cases {
            let mut talk = Talk::secured(chunk);
            talk.login();
            let answer = talk.say(&bind("x'1".replace('\'', "").as_str(), inner));
            let expected = format!(
                "<iq id='x1' type='result'><bind xmlns='{}'><jid>{jid}</jid></bind></iq>",
                ns::BIND
            );
            assert_eq!(answer, expected);
            assert!(matches!(talk.told.last(), Some(Output::Established(_))));
        }
    });
}

#[test]
fn c6120_bind_errors_keep_the_stream_up_to_the_limit() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        talk.login();
        let answer = talk.say(&bind("1", "<resource>taken</resource>"));
        assert!(
            answer.contains("type='error'") && answer.contains("<conflict "),
            "{answer}"
        );
        let answer = talk.say(&bind("2", "<resource>full</resource>"));
        assert!(answer.contains("<resource-constraint ") && answer.contains("type='wait'"));
        assert!(
            talk.say(&bind("3", "<resource>free</resource>"))
                .contains("/free<")
        );

        let mut talk = Talk::secured(chunk);
        talk.login();
        for id in ["1", "2", "3", "4"] {
            talk.say(&bind(id, "<resource>taken</resource>"));
            assert_eq!(talk.error(), None, "try {id}");
        }
        let last = talk.say(&bind("5", "<resource>taken</resource>"));
        assert!(last.contains("<conflict "), "the last one is answered too");
        assert_eq!(talk.error(), Some(Condition::PolicyViolation));
    });
}

#[test]
fn c6120_bind_mtn_nothing_to_others_before_binding() {
    let stanzas = [
        "<message to='bob@d.test'><body>x</body></message>",
        "<presence/>",
        "<iq type='get' id='1' to='bob@d.test'><query xmlns='jabber:iq:version'/></iq>",
        "<iq type='result' id='1'/>",
        "<message><body>x</body></message>",
    ];
    each_split(|chunk| {
        for stanza in stanzas {
            let mut talk = Talk::secured(chunk);
            talk.login();
            talk.say(stanza);
            assert_eq!(talk.error(), Some(Condition::NotAuthorized), "{stanza}");
            assert!(talk.stanzas().is_empty());
        }
        let mut talk = Talk::secured(chunk);
        talk.login();
        for to in ["", " to='d.test'", " to='alice@d.test'"] {
            let iq = format!("<iq type='get' id='1'{to}><query xmlns='jabber:iq:roster'/></iq>");
            assert!(talk.say(&iq).contains("<unexpected-request "));
        }
        assert_eq!(talk.error(), None);
    });
}

#[test]
fn c6120_bind_restart_no_new_header_after_binding() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        talk.establish();
        talk.say("<message to='bob@d.test'><body>x</body></message>");
        assert_eq!(talk.stanzas().len(), 1, "stanzas flow straight away");
        talk.say(OPEN);
        let error = talk.error().expect("a second header ends the stream");
        let allowed = [
            Condition::RestrictedXml,
            Condition::NotWellFormed,
            Condition::BadFormat,
        ];
        assert!(allowed.contains(&error), "{error}");
        let mut talk = Talk::secured(chunk);
        talk.establish();
        talk.say(&open_with("to='d.test' version='1.0'"));
        assert_eq!(
            talk.error(),
            Some(Condition::BadFormat),
            "also without a declaration"
        );
    });
}

#[test]
fn c6120_bind_twice_is_not_allowed() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        talk.establish();
        let answer = talk.say(&bind("b2", "<resource>other</resource>"));
        assert!(
            answer.contains("id='b2'") && answer.contains("<not-allowed "),
            "{answer}"
        );
        assert!(talk.told.is_empty());
        let session = format!(
            "<iq type='set' id='s'><session xmlns='{}'/></iq>",
            ns::SESSION
        );
        let answer = talk.say(&session);
        assert_eq!(
            answer, "<iq id='s' type='result'/>",
            "the legacy request is answered"
        );
    });
}

#[test]
fn c6120_sasl_mtn_no_stanzas_before_login() {
    let stanzas = [
        "<message to='bob@d.test'><body>x</body></message>",
        "<presence/>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
        "<iq type='get' id='1' to='bob@d.test'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='result' id='1'><query xmlns='jabber:iq:register'/></iq>",
    ];
    for stanza in stanzas {
        refused(&format!("{OPEN}{stanza}"), Condition::NotAuthorized);
    }
    refused(
        &format!("{OPEN}{}", bind("1", "")),
        Condition::NotAuthorized,
    );
    refused(
        &format!("{OPEN}<foo xmlns='urn:x'/>"),
        Condition::UnsupportedStanzaType,
    );
}

#[test]
fn guests_may_register_where_the_host_lets_them() {
    let form = "<iq type='get' id='r1'><query xmlns='jabber:iq:register'/></iq>";
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        assert!(
            features(&talk.open())
                .child(ns::FEATURE_REGISTER, "register")
                .is_some()
        );
        let until = talk.machine.poll_timeout();
        let answer = talk.say(form);
        assert!(
            answer.contains("id='r1'") && answer.contains("type='result'"),
            "{answer}"
        );
        let Some(Output::Guest(asked)) = talk.told.first() else {
            panic!("{:?}", talk.told)
        };
        assert_eq!(asked.head.to.as_ref().map(|to| to.as_str()), Some("d.test"));
        // A person fills the form in: more time, but only once.
        let longer = talk.machine.poll_timeout();
        assert_eq!(longer, Some(talk.now + Duration::from_secs(300)));
        assert!(longer > until);
        talk.pass(Duration::from_secs(200));
        talk.say(form);
        assert_eq!(talk.machine.poll_timeout(), longer);
        assert!(
            talk.say(&auth("PLAIN", b"\0alice\0pencil"))
                .starts_with("<success")
        );
    });
    // Not in clear where TLS is required.
    let mut talk = Talk::new(config(TlsRule::Required), usize::MAX);
    talk.open();
    talk.say(form);
    assert_eq!(talk.error(), Some(Condition::NotAuthorized));
}

#[test]
fn negotiation_has_a_deadline() {
    let mut talk = Talk::secured(usize::MAX);
    talk.open();
    assert_eq!(talk.pass(Duration::from_secs(29)), "");
    assert!(
        talk.pass(Duration::from_secs(1))
            .contains("<connection-timeout ")
    );
    let mut talk = Talk::secured(usize::MAX);
    talk.establish();
    assert_eq!(
        talk.pass(Duration::from_secs(31)),
        "",
        "it ends with the negotiation"
    );
}

#[test]
fn c6120_st_05_a_clean_end_during_negotiation() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        talk.open();
        assert_eq!(talk.say("</stream:stream>"), "</stream:stream>");
        assert!(matches!(talk.closed(), Some(CloseReason::Clean)));
    });
}

#[test]
fn input_waits_while_our_own_side_is_asked() {
    let now = start();
    let mut machine = Responder::new(config(TlsRule::Direct), random(), now);
    machine.tls_established(tls_13(), now);
    let login = auth("PLAIN", b"\0alice\0pencil");
    let all = format!("{OPEN}{login}{OPEN}{}<presence/>", bind("1", ""));
    machine.handle_bytes(all.as_bytes(), now);
    assert!(!machine.wants_input());
    let Some(Output::CheckPassword { .. }) = machine.poll_output() else {
        panic!()
    };
    assert!(machine.poll_output().is_none(), "the rest waits");
    machine.verdict(Verdict::Allow, now);
    let Some(Output::Note(Note::LoggedIn { .. })) = machine.poll_output() else {
        panic!()
    };
    let Some(Output::Bind { account, .. }) = machine.poll_output() else {
        panic!()
    };
    assert!(!machine.wants_input());
    machine.bound(Ok(account.with_resource("r").unwrap()), now);
    let Some(Output::Established(_)) = machine.poll_output() else {
        panic!()
    };
    let Some(Output::Stanza(_)) = machine.poll_output() else {
        panic!()
    };
    assert!(machine.wants_input());
    // Answers that nobody waits for change nothing.
    machine.verdict(Verdict::Deny, now);
    machine.credentials(Credentials::Unavailable, now);
    machine.bound(Err(crate::error::StanzaError::conflict()), now);
    machine.tls_established(tls_13(), now);
    assert!(machine.is_open());
}
