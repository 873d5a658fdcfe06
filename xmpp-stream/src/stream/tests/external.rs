//! Sign-in by certificate, both sides: offers, whom a certificate stands for, its end (XEP-0178 section
//! 2, RFC 6120 sections 6.3.4, 6.3.8, 13.7.2.2 and 13.7.2.3).

use super::pair::{Caller, client_config, converse, offer};
use super::*;
use crate::error::SaslCondition as Condition;
use crate::error::StreamCondition;

/// What a machine that runs the tests may lose between two lines.
const MARGIN: Duration = Duration::from_secs(30);

/// TLS that has shown a certificate with these addresses.
fn showing(addresses: &str) -> TlsInfo {
    TlsInfo {
        peer: vec![addresses.as_bytes().into()],
        ..tls_13()
    }
}

/// A talk over TLS that has shown such a certificate; nothing is said yet.
fn certified(addresses: &str, chunk: usize) -> Talk {
    let mut talk = Talk::new(config(TlsRule::Direct), chunk);
    let info = showing(addresses);
    talk.machine.tls_established(info, talk.now);
    talk
}

fn opening(from: &str) -> String {
    match from {
        "" => OPEN.to_owned(),
        from => OPEN.replace(" to='d.test'", &format!(" from='{from}' to='d.test'")),
    }
}

#[test]
fn c6120_sa_03_external_is_offered_first_and_only_for_a_usable_certificate() {
    #[track_caller]
    fn check(mut talk: Talk, expected: bool) {
        let offered = mechanisms(&talk.open());
        let first = offered.first().map(String::as_str);
        assert_eq!(first == Some("EXTERNAL"), expected, "{offered:?}");
        assert_eq!(offered.contains(&"EXTERNAL".to_owned()), expected);
        assert!(offered.contains(&"SCRAM-SHA-1".to_owned()), "{offered:?}");
    }
    check(certified("alice@d.test", 7), true);
    check(certified("alice@e.test alice@d.test", 7), true);
    // Nobody's, another domain's, and none at all.
    check(certified("", 7), false);
    check(certified("alice@e.test", 7), false);
    check(Talk::secured(7), false);
    // Over STARTTLS too, and never in clear.
    let mut talk = Talk::new(config(TlsRule::Optional), 7);
    talk.tls = showing("alice@d.test");
    assert!(!mechanisms(&talk.open()).contains(&"EXTERNAL".to_owned()));
    talk.say(&format!("<starttls xmlns='{}'/>", ns::TLS));
    check(talk, true);
}

#[test]
fn ats_ce_10_ce_11_whom_a_certificate_stands_for() {
    #[track_caller]
    fn check(shown: &str, from: &str, authzid: &[u8], expected: Result<&str, Condition>) {
        each_split(|chunk| {
            let mut talk = certified(shown, chunk);
            talk.say(&opening(from));
            let answer = talk.say(&auth("EXTERNAL", authzid));
            assert_eq!(answer.starts_with("<success"), expected.is_ok(), "{answer}");
            match expected {
                Ok(account) => assert_eq!(talk.asked, [account]),
                Err(condition) => assert_eq!(talk.failures(), [condition], "{shown} {from}"),
            }
        });
    }
    let (alice, ann) = (Ok("alice@d.test"), Ok("ann@d.test"));
    let (invalid, refused) = (
        Err(Condition::InvalidAuthzid),
        Err(Condition::NotAuthorized),
    );
    // One address: nothing has to be said; what is said has to be it.
    check("alice@d.test", "", b"", alice);
    check("alice@d.test", "", b"alice@d.test", alice);
    check("ALICE@d.test", "", b"Alice@d.test", alice);
    check("alice@d.test", "alice@d.test/x", b"", alice);
    check("alice@d.test", "", b"ann@d.test", invalid);
    check("alice@d.test", "", b"alice@d.test/x", invalid);
    check("alice@d.test", "", b"alice", invalid);
    check("alice@d.test", "", b"d.test", invalid);
    check(
        "alice@d.test",
        "",
        b"\xff",
        Err(Condition::MalformedRequest),
    );
    check(
        "alice@d.test",
        "",
        b"alice@d.test\0",
        Err(Condition::MalformedRequest),
    );
    // Several of the domain: who is said, or who the header said, else nobody.
    check("alice@d.test ann@d.test", "", b"", invalid);
    check("alice@d.test ann@d.test", "", b"ann@d.test", ann);
    check("alice@d.test ann@d.test", "ann@d.test", b"", ann);
    check("alice@d.test ann@d.test", "bob@d.test", b"", invalid);
    check("alice@d.test ann@d.test", "", b"bob@d.test", invalid);
    // One of the domain and others: that one; the others are nobody's here.
    check("alice@e.test ann@d.test", "", b"", ann);
    check("alice@e.test ann@d.test", "", b"alice@e.test", invalid);
    // The header of another: not who it said (row sasl-correlate).
    check("alice@d.test", "ann@d.test", b"", refused);
    // No account, a banned one, no answer.
    check("nobody@d.test", "", b"", refused);
    check("banned@d.test", "", b"", Err(Condition::AccountDisabled));
    check(
        "stuck@d.test",
        "",
        b"",
        Err(Condition::TemporaryAuthFailure),
    );
    // Shown, but of no use: not for want of the mechanism.
    check("alice@e.test", "", b"", refused);
    check("", "", b"", refused);
}

#[test]
fn ats_ce_11_without_a_certificate_there_is_no_such_mechanism() {
    #[track_caller]
    fn check(mut talk: Talk, open: &str, condition: Condition) {
        talk.say(open);
        talk.say(&auth("EXTERNAL", b""));
        assert_eq!(talk.failures(), [condition]);
        assert!(talk.asked.is_empty());
    }
    check(Talk::secured(7), OPEN, Condition::InvalidMechanism);
    let elsewhere = OPEN.replace("d.test", "e.test");
    check(
        certified("alice@e.test", 7),
        &elsewhere,
        Condition::InvalidMechanism,
    );
    let clear = Talk::new(config(TlsRule::Optional), 7);
    check(clear, OPEN, Condition::EncryptionRequired);
}

#[test]
fn c6120_sa_11_external_without_an_initial_response() {
    each_split(|chunk| {
        let mut talk = certified("alice@d.test ann@d.test", chunk);
        talk.open();
        let auth = format!("<auth xmlns='{}' mechanism='EXTERNAL'/>", ns::SASL);
        let challenge = format!("<challenge xmlns='{}'/>", ns::SASL);
        assert_eq!(talk.say(&auth), challenge);
        let answer = talk.say(&response(b"ann@d.test"));
        assert!(answer.starts_with("<success"), "{answer}");
    });
}

#[test]
fn c6120_sa_10_refusals_of_certificates_are_counted_too() {
    let mut talk = certified("nobody@d.test", 7);
    talk.open();
    for _ in 0..5 {
        assert_eq!(talk.error(), None);
        talk.say(&auth("EXTERNAL", b""));
    }
    assert_eq!(talk.error(), Some(StreamCondition::PolicyViolation));
    let mut talk = certified("alice@d.test ann@d.test", 7);
    talk.open();
    for _ in 0..10 {
        assert_eq!(talk.error(), None);
        talk.say(&auth("EXTERNAL", b""));
    }
    assert_eq!(talk.error(), Some(StreamCondition::PolicyViolation));
}

/// A bound session of alice's, signed in by her certificate or by password.
fn established(mechanism: &str) -> Talk {
    let mut talk = certified("alice@d.test", 7);
    talk.open();
    let data: &[u8] = match mechanism {
        "PLAIN" => b"\0alice\0pencil",
        _ => b"",
    };
    let answer = talk.say(&auth(mechanism, data));
    assert!(answer.starts_with("<success"), "{answer}");
    talk.open();
    talk.say(&bind("b1", ""));
    assert!(talk.machine.is_open());
    talk
}

#[test]
fn c6120_lm_08_the_stream_ends_with_the_certificate_that_signed_in() {
    let mut talk = established("EXTERNAL");
    talk.pass(CERTIFIED - MARGIN);
    assert_eq!(talk.error(), None);
    assert!(talk.machine.is_open());
    talk.pass(MARGIN * 2);
    assert_eq!(talk.error(), Some(StreamCondition::Reset));
    // Also while the caller does not read.
    let talk = established("EXTERNAL");
    let until = talk.machine.poll_timeout_unread().unwrap();
    assert!(until >= talk.now + CERTIFIED - MARGIN);
    assert!(until <= talk.now + CERTIFIED + MARGIN);
}

#[test]
fn c6120_lm_08_a_certificate_that_did_not_sign_in_does_not_matter() {
    let mut talk = established("PLAIN");
    assert_eq!(talk.machine.poll_timeout_unread(), None);
    talk.pass(CERTIFIED + MARGIN);
    assert_eq!(talk.error(), None);
    assert!(talk.machine.is_open());
}

// The calling side.

/// A caller with a certificate, over TLS.
fn caller(password: Option<&str>, name_account: bool, least: Strength) -> Caller {
    let config = InitiatorConfig {
        password: password.map(|password| Password(password.to_owned())),
        name_account,
        least,
        ..client_config(TlsRule::Direct, "")
    };
    let mut caller = Caller::with(config);
    let info = TlsInfo {
        is_certified: true,
        ..tls_13()
    };
    caller.machine.tls_established(info, caller.now);
    caller.said();
    caller
}

#[test]
fn c6120_cl_04_a_client_with_a_certificate_uses_external_first() {
    let all = ["PLAIN", "SCRAM-SHA-512-PLUS", "EXTERNAL"];
    let said = caller(Some("pencil"), false, Strength::Plain).hear(&offer(&all, None));
    assert!(said.ends_with("mechanism='EXTERNAL'>=</auth>"), "{said}");
    // One without does not.
    let mut plain = Caller::with(client_config(TlsRule::Direct, "pencil"));
    plain.secure();
    let said = plain.hear(&offer(&all, Some(&["tls-exporter"])));
    assert!(said.contains("mechanism='SCRAM-SHA-512-PLUS'"), "{said}");
}

#[test]
fn ats_ce_11_both_sides_by_certificate() {
    for name_account in [false, true] {
        let mut talk = certified("alice@d.test", 7);
        let config = InitiatorConfig {
            password: None,
            name_account,
            ..client_config(TlsRule::Direct, "")
        };
        let mut caller = Caller::with(config);
        let info = TlsInfo {
            is_certified: true,
            ..tls_13()
        };
        caller.machine.tls_established(info, caller.now);
        let said = converse(&mut caller, &mut talk);
        assert_eq!(caller.jid(), Some("alice@d.test/balcony"), "{said}");
        let named = said.contains(">YWxpY2VAZC50ZXN0</auth>");
        assert_eq!(named, name_account, "{said}");
        assert!(caller.told.iter().any(|told| matches!(
            told,
            Output::Note(Note::LoggedIn {
                mechanism: "EXTERNAL",
                ..
            })
        )));
    }
}

#[test]
fn a_certificate_that_is_refused_leaves_the_password() {
    let both = ["EXTERNAL", "SCRAM-SHA-1"];
    let failure = format!("<failure xmlns='{}'><not-authorized/></failure>", ns::SASL);
    let mut with = caller(Some("pencil"), false, Strength::Plain);
    assert!(with.hear(&offer(&both, None)).contains("'EXTERNAL'"));
    assert!(with.hear(&failure).contains("mechanism='SCRAM-SHA-1'"));
    let mut without = caller(None, false, Strength::Plain);
    assert!(without.hear(&offer(&both, None)).contains("'EXTERNAL'"));
    without.hear(&failure);
    let condition = Condition::NotAuthorized;
    let text = None;
    assert_eq!(without.failure(), Some(&Failure::Login { condition, text }));
    // Nothing else is offered.
    let mut alone = caller(Some("pencil"), false, Strength::Plain);
    alone.hear(&offer(&["EXTERNAL"], None));
    alone.hear(&failure);
    assert_eq!(alone.failure(), Some(&Failure::NoMechanism));
}

#[test]
fn c6120_sa_11_a_server_may_ask_for_the_response() {
    let mut caller = caller(None, true, Strength::Plain);
    caller.hear(&offer(&["EXTERNAL"], None));
    let said = caller.hear(&format!("<challenge xmlns='{}'/>", ns::SASL));
    assert_eq!(said, response(b"alice@d.test"));
}

#[test]
fn a_client_without_a_password_says_none() {
    for mechanisms in [&["SCRAM-SHA-1", "PLAIN"][..], &["PLAIN"], &[]] {
        let mut caller = caller(None, false, Strength::Plain);
        let said = caller.hear(&offer(mechanisms, None));
        assert!(!said.contains("<auth"), "{said}");
        assert_eq!(caller.failure(), Some(&Failure::NoMechanism));
    }
}

#[test]
fn ats_dg_04_external_is_no_downgrade_and_pins_no_binding() {
    let mut bound = caller(None, false, Strength::Bound);
    assert!(bound.hear(&offer(&["EXTERNAL"], None)).contains("<auth"));
    assert_eq!(Strength::of("EXTERNAL"), Some(Strength::Scram));
}
