//! Dialback in all three roles (XEP-0220): who may ask, who may answer, and what that proves.

use super::*;
use StreamCondition as C;

fn is_error(answer: &str, from: &str, to: &str, condition: &str) -> bool {
    answer.contains(&format!("<db:result from='{from}' to='{to}' type='error'>"))
        && answer.contains(&format!(
            "<{condition} xmlns='{}'/></error></db:result>",
            ns::STANZAS
        ))
}

#[test]
fn ats_db_04_a_key_is_asked_about_with_the_id_of_the_stream() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk, false);
        talk.say(OPEN);
        assert_eq!(talk.say(&result("a.test", "b.test", " 123abc\n")), "");
        let check = KeyCheck {
            pair: a_to_b(),
            id: talk.machine.stream_id().into(),
            key: "123abc".into(),
        };
        assert_eq!(talk.keys(), [&check]);
        assert!(!talk.machine.is_open() && talk.machine.wants_input());
        talk.machine.key_checked(&a_to_b(), Answer::Valid, talk.now);
        assert_eq!(
            talk.answer(),
            "<db:result from='b.test' to='a.test' type='valid'/>"
        );
        assert_eq!(talk.proven(), ["a.test to b.test by dialback"]);
        talk.say(&message("ann@a.test", "ben@b.test"));
        assert_eq!(talk.stanzas().len(), 1);
    });
}

#[test]
fn ats_db_12_proven_pairs_go_on_while_others_are_verified() {
    each_split(|chunk| {
        let mut talk = Talk::dialled_back(chunk);
        talk.say(&result("rooms.a.test", "b.test", "key"));
        talk.say(&message("ann@a.test", "ben@b.test"));
        assert_eq!(talk.stanzas().len(), 1);
        let rooms = Pair::new("rooms.a.test", "b.test").unwrap();
        talk.machine.key_checked(&rooms, Answer::Valid, talk.now);
        talk.say(&message("r@rooms.a.test/n", "ben@b.test"));
        assert_eq!((talk.stanzas().len(), talk.error()), (2, None));
        // Each pair for itself.
        talk.say(&message("r@rooms.a.test/n", "r@rooms.b.test"));
        assert_eq!(talk.error(), Some(C::InvalidFrom));
    });
}

#[test]
fn ats_db_06_an_unknown_target_is_an_error_and_the_stream_stays() {
    each_split(|chunk| {
        let mut talk = Talk::dialled_back(chunk);
        let answer = talk.say(&result("a.test", "c.test", "key"));
        assert!(
            is_error(&answer, "c.test", "a.test", "item-not-found"),
            "{answer}"
        );
        talk.say(&message("ann@a.test", "ben@b.test"));
        assert_eq!((talk.stanzas().len(), talk.error()), (1, None));
    });
}

#[test]
fn ats_db_07_an_invalid_key_ends_a_stream_without_other_pairs() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk, false);
        talk.say(OPEN);
        talk.say(&result("a.test", "b.test", "key"));
        talk.machine
            .key_checked(&a_to_b(), Answer::Invalid, talk.now);
        assert_eq!(
            talk.answer(),
            "<db:result from='b.test' to='a.test' type='invalid'/></stream:stream>"
        );
        assert_eq!(talk.failure(), Some(&Failure::Dialback(Answer::Invalid)));
        assert!(talk.proven().is_empty());

        let mut talk = Talk::dialled_back(chunk);
        talk.say(&result("c.test", "b.test", "key"));
        let other = Pair::new("c.test", "b.test").unwrap();
        talk.machine.key_checked(&other, Answer::Invalid, talk.now);
        let answer = talk.answer();
        assert!(
            is_error(&answer, "b.test", "c.test", "forbidden"),
            "{answer}"
        );
        assert!(talk.machine.is_open());
        talk.say(&message("ann@c.test", "ben@b.test"));
        assert_eq!(talk.error(), Some(C::InvalidFrom));
    });
}

#[test]
fn ats_db_10_what_cannot_be_found_out_is_an_error() {
    use DialbackCondition as D;
    for (condition, name) in [
        (D::RemoteConnectionFailed, "remote-connection-failed"),
        (D::RemoteServerNotFound, "remote-server-not-found"),
        (D::RemoteServerTimeout, "remote-server-timeout"),
    ] {
        let mut talk = Talk::secured(usize::MAX, false);
        talk.say(OPEN);
        talk.say(&result("a.test", "b.test", "key"));
        let answer = Answer::error(condition);
        talk.machine.key_checked(&a_to_b(), answer, talk.now);
        let answer = talk.answer();
        assert!(is_error(&answer, "b.test", "a.test", name), "{answer}");
        assert!(talk.closed().is_none() && talk.proven().is_empty());
        // It may try again.
        talk.say(&result("a.test", "b.test", "key"));
        assert_eq!(talk.keys().len(), 2);
    }
}

#[test]
fn ats_db_10_before_tls_and_without_a_certificate_there_are_errors() {
    each_split(|chunk| {
        let mut talk = Talk::called(callee_config(TlsRule::Required), chunk);
        talk.say(OPEN);
        let answer = talk.say(&result("a.test", "b.test", "key"));
        assert!(
            is_error(&answer, "b.test", "a.test", "policy-violation"),
            "{answer}"
        );
        assert!(talk.keys().is_empty() && talk.closed().is_none());

        let config = CalleeConfig {
            dialback: Dialback::Never,
            ..callee_config(TlsRule::Direct)
        };
        let mut talk = Talk::secured_with(config, chunk, true);
        assert!(!talk.say(OPEN).contains("<dialback"));
        let answer = talk.say(&result("a.test", "b.test", "key"));
        assert!(
            is_error(&answer, "b.test", "a.test", "not-authorized"),
            "{answer}"
        );
    });
    // In clear only where that is the rule.
    let config = |dialback| CalleeConfig {
        dialback,
        ..callee_config(TlsRule::Optional)
    };
    for (rule, is_asked) in [(Dialback::Tls, false), (Dialback::Always, true)] {
        let mut talk = Talk::called(config(rule), usize::MAX);
        talk.verdict = PeerVerdict::Untrusted(Distrust::NoCertificate);
        assert_eq!(talk.say(OPEN).contains("<dialback"), is_asked);
        talk.say(&result("a.test", "b.test", "key"));
        assert_eq!(!talk.keys().is_empty(), is_asked);
    }
}

#[test]
fn ats_db_02_answers_that_nobody_has_asked_for_prove_nothing() {
    let unasked = [
        "<db:result from='a.test' to='b.test' type='valid'/>",
        "<db:result from='b.test' to='a.test' type='valid'/>",
        "<db:verify from='a.test' to='b.test' id='x' type='valid'/>",
        "<db:result from='a.test' to='b.test' type=''>key</db:result>",
    ];
    for text in unasked {
        each_split(|chunk| {
            let mut talk = Talk::secured(chunk, false);
            talk.say(OPEN);
            talk.say(&result("a.test", "b.test", "key"));
            talk.say(text);
            assert_eq!(talk.error(), Some(C::InvalidFrom), "{text}");
            assert!(talk.proven().is_empty());
            // Row bi-06: also where stanzas go both ways.
            let mut talk = Talk::dialled_back(chunk);
            let proven = talk.proven();
            talk.say(text);
            assert_eq!(talk.error(), Some(C::InvalidFrom), "{text}");
            assert_eq!(talk.proven(), proven);
        });
    }
}

#[test]
fn ats_db_05_a_verdict_without_a_question_changes_nothing() {
    let mut talk = Talk::secured(usize::MAX, false);
    talk.say(OPEN);
    talk.machine.key_checked(&a_to_b(), Answer::Valid, talk.now);
    assert!(talk.answer().is_empty() && talk.proven().is_empty());
    talk.say(&result("a.test", "b.test", "key"));
    talk.machine
        .key_checked(&a_to_b().reversed(), Answer::Valid, talk.now);
    assert!(talk.answer().is_empty() && talk.proven().is_empty());
    // Each question has one answer.
    let again = Answer::error(DialbackCondition::RemoteServerTimeout);
    talk.machine.key_checked(&a_to_b(), again, talk.now);
    talk.machine.key_checked(&a_to_b(), Answer::Valid, talk.now);
    assert!(talk.proven().is_empty());
    // Nor after the end.
    talk.say(&result("a.test", "b.test", "key"));
    talk.say("</stream:stream>");
    talk.machine.key_checked(&a_to_b(), Answer::Valid, talk.now);
    assert!(talk.proven().is_empty());
}

#[test]
fn a_domain_of_ours_is_proven_by_nobody() {
    let mut talk = Talk::secured(usize::MAX, false);
    talk.say(OPEN);
    for from in ["b.test", "rooms.b.test"] {
        let answer = talk.say(&result(from, "b.test", "key"));
        assert!(
            is_error(&answer, "b.test", from, "not-acceptable"),
            "{answer}"
        );
    }
    assert!(talk.keys().is_empty());
}

#[test]
fn what_dialback_lacks_an_address_for_ends_the_stream() {
    for text in [
        "<db:result>key</db:result>",
        "<db:result from='a.test'>key</db:result>",
        "<db:result from='x@a.test' to='b.test'>key</db:result>",
        "<db:verify from='a.test' to='b.test'>key</db:verify>",
        "<db:other from='a.test' to='b.test'/>",
    ] {
        let mut talk = Talk::secured(usize::MAX, false);
        talk.say(OPEN);
        talk.say(text);
        assert_eq!(talk.error(), Some(C::ImproperAddressing), "{text}");
    }
}

#[test]
fn ats_db_16_a_good_certificate_needs_no_key() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk, true);
        talk.say(OPEN);
        let answer = talk.say(&result("a.test", "b.test", "whatever"));
        assert_eq!(
            answer,
            "<db:result from='b.test' to='a.test' type='valid'/>"
        );
        assert_eq!(
            talk.proven(),
            ["a.test to b.test by dialback with a certificate"]
        );
        assert!(talk.keys().is_empty());
        // It is good for one domain, whichever of ours is called.
        talk.say(&result("a.test", "rooms.b.test", "whatever"));
        assert_eq!(talk.proven().len(), 2);
        talk.say(&result("c.test", "b.test", "whatever"));
        assert_eq!((talk.proven().len(), talk.keys().len()), (2, 1));
        talk.say(&message("ann@a.test", "r@rooms.b.test"));
        assert_eq!((talk.stanzas().len(), talk.error()), (1, None));
    });
}

#[test]
fn who_signed_in_may_prove_more_pairs() {
    each_split(|chunk| {
        let mut talk = Talk::signed_in(chunk);
        talk.say(&result("a.test", "rooms.b.test", "key"));
        talk.say(&message("ann@a.test", "r@rooms.b.test"));
        assert_eq!((talk.stanzas().len(), talk.error()), (1, None));
    });
}

#[test]
fn a_pair_is_asked_about_once() {
    let mut talk = Talk::secured(usize::MAX, false);
    talk.say(OPEN);
    talk.say(&result("a.test", "b.test", "one"));
    assert_eq!(talk.say(&result("a.test", "b.test", "two")), "");
    assert_eq!(talk.keys().len(), 1);
    talk.machine.key_checked(&a_to_b(), Answer::Valid, talk.now);
    assert_eq!(talk.answer().matches("valid").count(), 1);
    // And again it is proven already.
    assert!(
        talk.say(&result("a.test", "b.test", "two"))
            .contains("type='valid'")
    );
    assert_eq!((talk.keys().len(), talk.proven().len()), (1, 1));
}

#[test]
fn keys_and_pairs_are_bounded() {
    let mut limits = *limits();
    limits.s2s.dialback_pending_max = 2;
    limits.s2s.pairs_max = 2;
    limits.s2s.refusals_max = 3;
    let config = || CalleeConfig {
        limits: Arc::new(limits),
        ..callee_config(TlsRule::Direct)
    };
    let mut talk = Talk::secured_with(config(), usize::MAX, false);
    talk.say(OPEN);
    for from in ["c.test", "d.test"] {
        assert_eq!(talk.say(&result(from, "b.test", "key")), "");
    }
    for from in ["e.test", "f.test"] {
        let answer = talk.say(&result(from, "b.test", "key"));
        assert!(
            is_error(&answer, "b.test", from, "resource-constraint"),
            "{answer}"
        );
    }
    talk.say(&result("g.test", "b.test", "key"));
    assert_eq!(talk.error(), Some(C::PolicyViolation));
    assert_eq!(talk.keys().len(), 2);

    // Proven pairs stay; more than so many go on another stream.
    let mut talk = Talk::secured_with(config(), usize::MAX, false);
    talk.say(OPEN);
    for from in ["c.test", "d.test"] {
        talk.say(&result(from, "b.test", "key"));
        let pair = Pair::new(from, "b.test").unwrap();
        talk.machine.key_checked(&pair, Answer::Valid, talk.now);
        talk.answer();
    }
    for _ in 0..10 {
        let answer = talk.say(&result("e.test", "b.test", "key"));
        assert!(
            is_error(&answer, "b.test", "e.test", "resource-constraint"),
            "{answer}"
        );
    }
    assert!(talk.machine.is_open());
}

#[test]
fn refused_keys_are_counted() {
    let mut talk = Talk::secured(usize::MAX, false);
    talk.say(OPEN);
    for _ in 0..limits().s2s.refusals_max {
        assert!(talk.closed().is_none());
        talk.say(&result("a.test", "b.test", "key"));
        let answer = Answer::error(DialbackCondition::RemoteServerNotFound);
        talk.machine.key_checked(&a_to_b(), answer, talk.now);
    }
    talk.drain();
    assert_eq!(talk.error(), Some(C::PolicyViolation));
}

#[test]
fn ats_db_13_whether_a_key_is_ours_is_told_to_whoever_asks() {
    // Here b.test is the authoritative server, and c.test was given the key.
    let key = secret().key("c.test", "b.test", "id7");
    let ask = |to: &str, id: &str, key: &str| verify("c.test", to, id, key);
    let open = OPEN.replace("a.test", "c.test");
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk, false);
        talk.say(&open);
        assert_eq!(
            talk.say(&ask("b.test", "id7", &key)),
            "<db:verify from='b.test' to='c.test' id='id7' type='valid'/>"
        );
        for (id, key) in [
            ("id8", &*key),
            ("id7", ""),
            ("id7", "00"),
            ("id7", &key[1..]),
        ] {
            let answer = talk.say(&ask("b.test", id, key));
            assert!(answer.ends_with(" type='invalid'/>"), "{answer}");
        }
        // A key for another domain of ours is another key.
        let answer = talk.say(&ask("rooms.b.test", "id7", &key));
        assert!(answer.contains("type='invalid'"), "{answer}");
        let answer = talk.say(&ask("d.test", "id7", &key));
        assert!(answer.contains("type='error'") && answer.contains("<item-not-found"));
        assert!(talk.proven().is_empty() && talk.closed().is_none());
        // It has what it came for, and is not told off for having stayed.
        assert_eq!(talk.pass(limits().negotiation_max), "</stream:stream>");
    });
}

#[test]
fn asking_about_keys_is_bounded_and_never_in_clear_where_tls_is_required() {
    let mut talk = Talk::called(callee_config(TlsRule::Required), usize::MAX);
    talk.say(OPEN);
    assert!(
        !talk
            .say(&verify("a.test", "b.test", "x", "key"))
            .contains("db:verify")
    );
    assert_eq!(talk.error(), Some(C::NotAuthorized));
    let mut talk = Talk::secured(usize::MAX, false);
    talk.say(OPEN);
    for _ in 0..limits().s2s.verify_max {
        talk.say(&verify("a.test", "b.test", "x", "key"));
    }
    assert!(talk.closed().is_none());
    talk.say(&verify("a.test", "b.test", "x", "key"));
    assert_eq!(talk.error(), Some(C::PolicyViolation));
}
