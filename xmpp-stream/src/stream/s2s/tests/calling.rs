//! The calling side: TLS, the peer's certificate, EXTERNAL, dialback, keys to be verified, the end.

use super::*;
use crate::error::SaslCondition;

/// base64("a.test")
const AUTH: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>YS50ZXN0</auth>";

fn sasl(name: &str, inner: &str) -> String {
    format!("<{name} xmlns='{}'>{inner}</{name}>", ns::SASL)
}

/// Up to features after TLS; what is said then.
fn offered(config: CallerConfig, chunk: usize, inner: &str) -> (Talk<Caller>, String) {
    let mut talk = Talk::over_tls(config, chunk);
    assert!(talk.answer().starts_with("<?xml"));
    let said = talk.say(&format!("{ANSWER}{}", features(inner)));
    (talk, said)
}

fn plain() -> CallerConfig {
    caller_config(TlsRule::Direct)
}

fn key() -> String {
    secret().key("b.test", "a.test", "D60000229F")
}

#[test]
fn c6120_stream_attribute_initial_from_is_there() {
    let mut talk = Talk::calling(caller_config(TlsRule::Required), usize::MAX);
    let header = talk.answer();
    assert!(
        header.contains("<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback'")
    );
    assert!(
        header.contains(" from='a.test' to='b.test' version='1.0'"),
        "{header}"
    );
}

#[test]
fn ats_tu_01_tls_is_tried_also_when_its_offer_is_missing() {
    each_split(|chunk| {
        let mut talk = Talk::calling(caller_config(TlsRule::Required), chunk);
        talk.answer();
        let said = talk.say(&format!("{ANSWER}{}", features(&dialback_feature())));
        assert_eq!(said, starttls());
        talk.say(&format!("<failure xmlns='{}'/>", ns::TLS));
        assert_eq!(talk.failure(), Some(&Failure::NoTls));
    });
}

#[test]
fn c6120_tl_03_data_in_clear_behind_proceed_ends_it() {
    let proceed = format!("<proceed xmlns='{}'/>", ns::TLS);
    let mut talk = Talk::calling(caller_config(TlsRule::Required), usize::MAX);
    talk.say(&format!("{ANSWER}{}", features(&starttls())));
    talk.say(&format!("{proceed}{ANSWER}"));
    assert_eq!(talk.failure(), Some(&Failure::DataBeforeTls));
    let mut talk = Talk::calling(caller_config(TlsRule::Required), usize::MAX);
    talk.say(&format!("{ANSWER}{}", features(&starttls())));
    let header = talk.say(&proceed);
    assert!(header.starts_with("<?xml"), "{header}");
    assert_eq!(talk.checked, [("b.test".into(), "a.test".into())]);
}

#[test]
fn in_clear_only_where_that_is_accepted() {
    let config = |accepts_untrusted| CallerConfig {
        accepts_untrusted,
        dialback: Dialback::Always,
        ..caller_config(TlsRule::Optional)
    };
    let offer = format!("{ANSWER}{}", features(&dialback_feature()));
    let mut talk = Talk::calling(config(false), usize::MAX);
    talk.say(&offer);
    assert_eq!(talk.failure(), Some(&Failure::NoTls));
    let mut talk = Talk::calling(config(true), usize::MAX);
    talk.answer();
    assert_eq!(talk.say(&offer), result("a.test", "b.test", &key()));
    assert_eq!(talk.machine.distrust(), Some(&Distrust::NoCertificate));
    // Where TLS is offered it is used.
    let mut talk = Talk::calling(config(true), usize::MAX);
    talk.answer();
    assert_eq!(
        talk.say(&format!("{ANSWER}{}", features(&starttls()))),
        starttls()
    );
}

#[test]
fn ats_ce_07_a_certificate_that_is_not_good_is_told_with_its_cause() {
    let expired = Distrust::Expired { since: 951_782_400 };
    let config = |accepts_untrusted| CallerConfig {
        accepts_untrusted,
        bidi: true,
        ..plain()
    };
    let mut talk = Talk::calling(config(false), usize::MAX);
    talk.verdict = PeerVerdict::Untrusted(expired.clone());
    talk.machine.tls_established(tls_info(), talk.now);
    assert_eq!(talk.answer(), "");
    let failure = talk.failure().unwrap();
    assert_eq!(failure, &Failure::Untrusted(expired.clone()));
    assert_eq!(failure.to_string(), "certificate expired on 2000-02-29");
    // Where DNS is enough, dialback is, and nothing may come back.
    let mut talk = Talk::calling(config(true), usize::MAX);
    talk.verdict = PeerVerdict::Untrusted(expired.clone());
    talk.machine.tls_established(tls_info(), talk.now);
    let bidi = format!("<bidi xmlns='{}'/>", ns::FEATURE_BIDI);
    talk.answer();
    let inner = format!("{bidi}{}", dialback_feature());
    let said = talk.say(&format!("{ANSWER}{}", features(&inner)));
    assert_eq!(said, result("a.test", "b.test", &key()));
    assert_eq!(talk.machine.distrust(), Some(&expired));
    let mut talk = Talk::calling(plain(), usize::MAX);
    talk.verdict = PeerVerdict::Refused(StreamCondition::PolicyViolation.into());
    talk.machine.tls_established(tls_info(), talk.now);
    assert_eq!(talk.answer(), "");
    assert_eq!(talk.error(), Some(StreamCondition::PolicyViolation));
}

#[test]
fn ats_ce_12_external_names_the_domain() {
    each_split(|chunk| {
        let inner = format!("{}{}", external(), dialback_feature());
        let (mut talk, said) = offered(plain(), chunk, &inner);
        assert_eq!(said, AUTH);
        let header = talk.say(&sasl("success", ""));
        assert!(header.contains(" from='a.test' to='b.test'"), "{header}");
        assert!(!talk.machine.is_open());
        talk.say(&format!("{ANSWER}{}", features("")));
        let link = talk.link().unwrap();
        assert_eq!(
            (link.proof, link.is_bidi, link.is_managed),
            (Proof::External, false, false)
        );
        assert!(talk.machine.is_open());
    });
}

#[test]
fn c6120_sa_11_an_empty_challenge_is_answered() {
    let (mut talk, _) = offered(plain(), 1, &external());
    assert_eq!(
        talk.say(&sasl("challenge", "")),
        sasl("response", "YS50ZXN0")
    );
    assert!(talk.say(&sasl("success", "")).starts_with("<?xml"));
}

#[test]
fn external_needs_a_certificate_that_was_shown() {
    let mut talk = Talk::calling(plain(), usize::MAX);
    talk.machine.tls_established(
        TlsInfo {
            is_certified: false,
            ..tls_info()
        },
        talk.now,
    );
    talk.answer();
    let inner = format!("{}{}", external(), dialback_feature());
    let said = talk.say(&format!("{ANSWER}{}", features(&inner)));
    assert!(said.starts_with("<db:result"), "{said}");
}

#[test]
fn ats_db_01_dialback_where_external_is_not_offered_or_was_refused() {
    each_split(|chunk| {
        let (mut talk, said) = offered(plain(), chunk, &dialback_feature());
        assert_eq!(said, result("a.test", "b.test", &key()));
        // Nothing goes out before the answer.
        let stanza = Stanza::parse(&message("ann@a.test", "ben@b.test")).unwrap();
        let item = Item::<()>::One(Box::new(stanza));
        assert!(!talk.machine.send(&item));
        talk.say("<db:result from='b.test' to='a.test' type='valid'/>");
        assert_eq!(talk.link().map(|link| link.proof), Some(Proof::Dialback));
        assert!(talk.machine.send(&item));
        assert_eq!(
            talk.answer(),
            "<message to='ben@b.test' from='ann@a.test'><body>hi</body></message>"
        );

        let inner = format!("{}{}", external(), dialback_feature());
        let (mut talk, _) = offered(plain(), chunk, &inner);
        let said = talk.say(&sasl("failure", "<not-authorized/>"));
        assert_eq!(said, result("a.test", "b.test", &key()));
    });
}

#[test]
fn a_refused_login_is_told_where_there_is_no_other_way() {
    let (mut talk, _) = offered(plain(), 1, &external());
    talk.say(&sasl(
        "failure",
        "<not-authorized/><text>no such peer</text>",
    ));
    let failure = Failure::Login {
        condition: SaslCondition::NotAuthorized,
        text: Some("no such peer".into()),
    };
    assert_eq!(talk.failure(), Some(&failure));
    let config = CallerConfig {
        dialback: Dialback::Never,
        ..plain()
    };
    let (talk, _) = offered(config, 1, &dialback_feature());
    assert_eq!(talk.failure(), Some(&Failure::NoMechanism));
    let (talk, _) = offered(plain(), 1, "");
    assert_eq!(talk.failure(), Some(&Failure::NoMechanism));
}

#[test]
fn ats_db_03_what_dialback_comes_to_is_told() {
    let stanzas = ns::STANZAS;
    let error = format!(
        "<db:result from='b.test' to='a.test' type='error'><error type='cancel'>\
         <remote-server-not-found xmlns='{stanzas}'/><text xmlns='{stanzas}'>no DNS</text></error>\
         </db:result>"
    );
    for (answer, words) in [
        (
            "<db:result from='b.test' to='a.test' type='invalid'/>",
            "dialback refused: the key is not valid",
        ),
        (&*error, "dialback refused: remote-server-not-found: no DNS"),
        (
            "<db:result from='b.test' to='a.test' type='strange'/>",
            "dialback refused: undefined-condition",
        ),
    ] {
        let (mut talk, _) = offered(plain(), 7, &dialback_feature());
        talk.say(answer);
        assert_eq!(talk.failure().unwrap().to_string(), words);
    }
}

#[test]
fn ats_db_02_an_answer_counts_only_where_it_was_asked_for() {
    each_split(|chunk| {
        let (mut talk, _) = offered(plain(), chunk, &dialback_feature());
        for wrong in [
            "<db:result from='a.test' to='b.test' type='valid'/>",
            "<db:result from='c.test' to='a.test' type='valid'/>",
            "<db:result from='b.test' to='c.test' type='valid'/>",
            "<db:verify from='b.test' to='a.test' id='D60000229F' type='valid'/>",
        ] {
            talk.say(wrong);
            assert!(talk.link().is_none() && talk.closed().is_none(), "{wrong}");
            assert!(!talk.machine.is_open());
        }
        talk.say("<db:result from='B.TEST' to='a.test' type='valid'/>");
        assert!(talk.machine.is_open());
    });
}

#[test]
fn requests_of_the_called_belong_on_another_stream() {
    let (mut talk, _) = offered(plain(), 7, &dialback_feature());
    let answer = talk.say(&result("rooms.b.test", "a.test", "key"));
    assert!(answer.starts_with("<db:result from='a.test' to='rooms.b.test' type='error'>"));
    assert!(answer.contains("<resource-constraint"), "{answer}");
    let answer = talk.say(&verify("b.test", "a.test", "x", &key()));
    assert!(answer.starts_with("<db:verify from='a.test' to='b.test' id='x' type='error'>"));
    assert!(talk.closed().is_none());
    // Not for ever: each is answered.
    for _ in 0..limits().s2s.verify_max {
        talk.say(&result("rooms.b.test", "a.test", "key"));
    }
    assert_eq!(talk.error(), Some(StreamCondition::PolicyViolation));
}

#[test]
fn ats_db_04_keys_are_verified_without_signing_in() {
    let check = |from: &str, id: &str| KeyCheck {
        pair: Pair::new(from, "a.test").unwrap(),
        id: id.into(),
        key: "123".into(),
    };
    let config = || CallerConfig {
        purpose: Purpose::Verify,
        ..plain()
    };
    each_split(|chunk| {
        let mut talk = Talk::calling(config(), chunk);
        // An authoritative server is found by DNS: its certificate is no condition.
        talk.verdict = PeerVerdict::Untrusted(Distrust::UnknownIssuer);
        talk.machine.verify(check("b.test", "one"));
        talk.machine.tls_established(tls_info(), talk.now);
        talk.answer();
        let inner = format!("{}{}", external(), dialback_feature());
        let said = talk.say(&format!("{ANSWER}{}", features(&inner)));
        assert_eq!(said, verify("a.test", "b.test", "one", "123"));
        talk.machine.verify(check("rooms.b.test", "two"));
        assert_eq!(
            talk.answer(),
            verify("a.test", "rooms.b.test", "two", "123")
        );
        // Row db-05: from, to and id have to fit.
        for wrong in [
            "<db:verify from='b.test' to='a.test' id='two' type='valid'/>",
            "<db:verify from='b.test' to='c.test' id='one' type='valid'/>",
            "<db:verify from='a.test' to='b.test' id='one' type='valid'/>",
            "<db:verify from='b.test' to='a.test' type='valid'/>",
            "<db:result from='b.test' to='a.test' type='valid'/>",
        ] {
            talk.say(wrong);
            assert!(talk.events().is_empty(), "{wrong}");
        }
        talk.say("<db:verify from='b.test' to='a.test' id='one' type='valid'/>");
        let [Event::Verified(asked, Answer::Valid)] = talk.events()[..] else {
            panic!("{:?}", talk.told);
        };
        assert_eq!(asked, &check("b.test", "one"));
        // Once.
        talk.say("<db:verify from='b.test' to='a.test' id='one' type='valid'/>");
        assert_eq!(talk.events().len(), 1);
        let stanza = Stanza::parse(&message("ann@a.test", "ben@b.test")).unwrap();
        assert!(!talk.machine.send(&Item::<()>::One(Box::new(stanza))));
        assert!(!talk.machine.is_open());
    });
    // Row db-15: there is an end to waiting.
    let mut talk = Talk::over_tls(config(), 7);
    talk.say(&format!("{ANSWER}{}", features("")));
    talk.pass(limits().negotiation_max);
    assert_eq!(talk.failure(), Some(&Failure::Timeout));
}

#[test]
fn headers_of_the_called_are_judged() {
    let old = ANSWER.replace("to='a.test' version='1.0'", "to='a.test'");
    let cases = [
        (
            ANSWER.replace(" id='D60000229F'", ""),
            Some(Failure::Header),
        ),
        (
            ANSWER.replace("xmlns='jabber:server'", "xmlns='jabber:client'"),
            None,
        ),
        (format!("{old}{}", features("")), Some(Failure::Header)),
    ];
    for (header, expected) in cases {
        each_split(|chunk| {
            let mut talk = Talk::over_tls(plain(), chunk);
            talk.say(&header);
            assert!(talk.closed().is_some(), "{header}");
            assert_eq!(talk.failure(), expected.as_ref(), "{header}");
        });
    }
    let mut talk = Talk::over_tls(plain(), 7);
    let error = "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        </stream:error></stream:stream>";
    talk.say(&format!("{ANSWER}{error}"));
    assert!(matches!(talk.closed(), Some(CloseReason::Theirs(error))
        if error.condition == StreamCondition::HostUnknown));
}

#[test]
fn c6120_stream_limits_of_the_peer_are_told() {
    let of = |bytes, seconds| {
        format!(
            "<limits xmlns='{}'><max-bytes>{bytes}</max-bytes>\
             <idle-seconds>{seconds}</idle-seconds></limits>",
            ns::STREAM_LIMITS
        )
    };
    let (mut talk, _) = offered(plain(), 7, &format!("{}{}", of(10_000, 30), external()));
    talk.say(&sasl("success", ""));
    talk.say(&format!("{ANSWER}{}", features(&of(70_000, 60))));
    let said = PeerLimits {
        stanza_bytes_max: Some(70_000),
        idle_max: Some(Duration::from_secs(60)),
    };
    assert_eq!(talk.link().unwrap().limits, said);
    // It is told to be unused before the peer closes it.
    talk.told.clear();
    talk.pass(Duration::from_secs(29));
    assert!(talk.events().is_empty());
    talk.pass(Duration::from_secs(1));
    assert!(matches!(talk.events()[..], [Event::Idle]));
    // What is said before dialback is for strangers, and none of it is what a peer makes us hurry by.
    let (mut talk, _) = offered(
        plain(),
        7,
        &format!("{}{}", of(10_000, 0), dialback_feature()),
    );
    talk.say("<db:result from='b.test' to='a.test' type='valid'/>");
    assert_eq!(talk.link().unwrap().limits, PeerLimits::default());
    let (mut talk, _) = offered(plain(), 7, &external());
    talk.say(&sasl("success", ""));
    talk.say(&format!("{ANSWER}{}", features(&of(0, 0))));
    let said = talk.link().unwrap().limits;
    assert_eq!(said.stanza_bytes_max, None, "no bound at all");
    talk.told.clear();
    talk.pass(Duration::from_secs(9));
    assert!(talk.events().is_empty());
    talk.pass(Duration::from_secs(1));
    assert!(matches!(talk.events()[..], [Event::Idle]));
}

#[test]
fn x0478_our_own_patience_is_not_made_longer() {
    let mut config = plain();
    let mut limits = Limits::clone(&config.limits);
    limits.s2s.idle_max = Duration::from_secs(3);
    config.limits = limits.into();
    let (mut talk, _) = offered(config, 7, &external());
    talk.say(&sasl("success", ""));
    let most = format!(
        "<limits xmlns='{}'><max-bytes>{}</max-bytes><idle-seconds>{}</idle-seconds></limits>",
        ns::STREAM_LIMITS,
        u64::MAX,
        1
    );
    talk.say(&format!("{ANSWER}{}", features(&most)));
    talk.told.clear();
    talk.pass(Duration::from_secs(3));
    assert!(matches!(talk.events()[..], [Event::Idle]));
}

#[test]
fn ats_bi_03_what_comes_back_is_from_who_was_called_to_who_called() {
    let bidi = |ns: &str| format!("<bidi xmlns='{ns}'/>");
    let inner = format!("{}{}", bidi(ns::FEATURE_BIDI), dialback_feature());
    let valid = "<db:result from='b.test' to='a.test' type='valid'/>";
    let open = |chunk, is_wanted| {
        let config = CallerConfig {
            bidi: is_wanted,
            ..plain()
        };
        let (mut talk, said) = offered(config, chunk, &inner);
        // Row bi-02: before dialback.
        let limits = format!(
            "<bidi xmlns='{}'><limits xmlns='{}'><max-bytes>{}</max-bytes>",
            ns::BIDI,
            ns::STREAM_LIMITS,
            XmlLimits::s2s().stanza_bytes_max
        );
        // Row bi-07: with what we take ourselves.
        assert_eq!(said.starts_with(&limits), is_wanted);
        talk.say(valid);
        talk
    };
    each_split(|chunk| {
        let mut talk = open(chunk, true);
        assert!(talk.link().unwrap().is_bidi);
        talk.say(&message("ben@b.test", "ann@a.test"));
        assert_eq!((talk.stanzas().len(), talk.error()), (1, None));
        for (from, to) in [
            ("ben@c.test", "ann@a.test"),
            ("ben@b.test", "ann@c.test"),
            ("ann@a.test", "ann@a.test"),
        ] {
            let mut talk = open(chunk, true);
            talk.say(&message(from, to));
            assert_eq!(talk.error(), Some(StreamCondition::InvalidFrom), "{from}");
            assert!(talk.stanzas().is_empty());
        }
        let mut talk = open(chunk, false);
        talk.say(&message("ben@b.test", "ann@a.test"));
        assert_eq!(talk.error(), Some(StreamCondition::NotAuthorized));
        assert!(talk.stanzas().is_empty());
    });
}

#[test]
fn the_end_of_a_call_from_either_side() {
    let valid = "<db:result from='b.test' to='a.test' type='valid'/>";
    let open = || {
        let (mut talk, _) = offered(plain(), 7, &dialback_feature());
        talk.say(valid);
        talk
    };
    let mut talk = open();
    assert_eq!(talk.say("</stream:stream>"), "</stream:stream>");
    assert!(
        talk.told
            .iter()
            .any(|output| matches!(output, Output::PeerClosing))
    );
    assert!(matches!(talk.closed(), Some(CloseReason::Clean)));
    let mut talk = open();
    talk.machine.close(None, talk.now);
    assert_eq!(talk.answer(), "</stream:stream>");
    assert!(!talk.machine.is_open());
    talk.say("</stream:stream>");
    assert!(matches!(talk.closed(), Some(CloseReason::Clean)));
    let mut talk = open();
    talk.machine
        .close(Some(StreamCondition::SystemShutdown.into()), talk.now);
    assert!(talk.answer().contains("<system-shutdown"));
    let mut talk = open();
    talk.machine.handle_eof(talk.now);
    talk.drain();
    assert!(matches!(talk.closed(), Some(CloseReason::Eof)));
    // While the negotiation is on.
    let (mut talk, _) = offered(plain(), 7, &dialback_feature());
    talk.pass(limits().negotiation_max);
    assert_eq!(talk.failure(), Some(&Failure::Timeout));
    let mut talk = Talk::calling(plain(), 7);
    assert_eq!(talk.pass(limits().negotiation_max), "");
    assert!(matches!(talk.closed(), Some(CloseReason::TlsFailed)));
}

#[test]
fn a_call_that_is_used_is_not_idle() {
    let (mut talk, _) = offered(plain(), usize::MAX, &dialback_feature());
    talk.say("<db:result from='b.test' to='a.test' type='valid'/>");
    talk.told.clear();
    let stanza = Stanza::parse(&message("ann@a.test", "ben@b.test")).unwrap();
    talk.machine.send(&Item::<()>::One(Box::new(stanza)));
    talk.pass(limits().s2s.idle_max);
    assert!(talk.events().is_empty());
    talk.pass(limits().s2s.idle_max);
    assert!(matches!(talk.events()[..], [Event::Idle]));
}
