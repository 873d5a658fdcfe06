//! SASL on the accepting side: offers, both forms of each exchange, failures, limits, peers.

use super::*;
use crate::error::SaslCondition as Condition;
use crate::error::StreamCondition;
use crate::features::sasl::{Bindings, base64};
use crate::features::scram::{Client, Flag};

const FIRST: &[u8] = b"n,,n=alice,r=abc";

fn abort() -> String {
    format!("<abort xmlns='{}'/>", ns::SASL)
}

fn failure(condition: Condition) -> String {
    format!("<failure xmlns='{}'><{condition}/></failure>", ns::SASL)
}

/// A talk over TLS whose stream is open.
fn opened(chunk: usize) -> Talk {
    let mut talk = Talk::secured(chunk);
    talk.open();
    talk
}

/// Plays SCRAM through the wire; the last answer.
fn scram(
    talk: &mut Talk,
    hash: ScramHash,
    user: &str,
    password: &str,
    flag: Flag,
    initial: bool,
) -> String {
    let plus = matches!(flag, Flag::Bound(_));
    let bindings = Bindings::of(Some(&talk.tls));
    let (client, first) = Client::begin(hash, user, "nonce", flag, &bindings);
    let name = hash.mechanism(plus);
    let answer = if initial {
        talk.say(&auth(name, first.as_bytes()))
    } else {
        let auth = format!("<auth xmlns='{}' mechanism='{name}'/>", ns::SASL);
        assert_eq!(
            talk.say(&auth),
            format!("<challenge xmlns='{}'/>", ns::SASL)
        );
        talk.say(&response(first.as_bytes()))
    };
    if answer.contains("<failure") {
        return answer;
    }
    let challenge = data_of("challenge", &answer);
    let announced = String::from_utf8(challenge.clone()).unwrap();
    let announced = announced.split_once(",h=").map_or("", |(_, h)| h);
    let announced = announced.split_once(',').map_or(announced, |(h, _)| h);
    let tls = talk.tls_version();
    let (last, message) = client
        .respond(&challenge, password, announced, tls)
        .unwrap();
    let answer = talk.say(&response(message.as_bytes()));
    if answer.contains("<success") {
        last.verify(&data_of("success", &answer)).unwrap();
    }
    answer
}

#[test]
fn c6120_security_mti_scram_and_plain_offers() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        let answer = talk.open();
        let all = [
            "SCRAM-SHA-512-PLUS",
            "SCRAM-SHA-256-PLUS",
            "SCRAM-SHA-1-PLUS",
            "SCRAM-SHA-512",
            "SCRAM-SHA-256",
            "SCRAM-SHA-1",
            "PLAIN",
        ];
        assert_eq!(mechanisms(&answer), all);
        let features = features(&answer);
        let bindings = features.child(ns::SASL_CB, "sasl-channel-binding").unwrap();
        let types: Vec<_> = bindings
            .children()
            .filter_map(|child| child.attr("type"))
            .collect();
        assert_eq!(types, ["tls-exporter", "tls-server-end-point"], "row cb-01");
        let limits = features.child(ns::STREAM_LIMITS, "limits").unwrap();
        assert_eq!(
            limits.child(ns::STREAM_LIMITS, "max-bytes").unwrap().text(),
            "16384"
        );
    });
}

#[test]
fn ats_cb_02_tls_12_has_only_the_end_point() {
    let mut talk = Talk::new(config(TlsRule::Direct), usize::MAX);
    let tls = TlsInfo {
        version: "TLSv1.2",
        exporter: None,
        ..tls_13()
    };
    talk.machine.tls_established(tls, talk.now);
    let features = features(&talk.open());
    let bindings = features.child(ns::SASL_CB, "sasl-channel-binding").unwrap();
    let types: Vec<_> = bindings
        .children()
        .filter_map(|child| child.attr("type"))
        .collect();
    assert_eq!(types, ["tls-server-end-point"]);
}

#[test]
fn c6120_sa_02_nothing_but_scram_in_clear() {
    let mut talk = Talk::new(config(TlsRule::Optional), usize::MAX);
    let answer = talk.open();
    assert_eq!(
        mechanisms(&answer),
        ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"]
    );
    assert!(features(&answer).child(ns::TLS, "starttls").is_some());
    assert!(
        features(&answer)
            .child(ns::SASL_CB, "sasl-channel-binding")
            .is_none()
    );
    let refused = talk.say(&auth("PLAIN", b"\0alice\0pencil"));
    assert_eq!(refused, failure(Condition::EncryptionRequired));
    assert!(talk.asked.is_empty(), "the password is not even looked at");
    let answer = scram(
        &mut talk,
        ScramHash::Sha1,
        "alice",
        "pencil",
        Flag::Unable,
        true,
    );
    assert!(answer.contains("<success"));
    // Where TLS is required no mechanism goes without it.
    let mut talk = Talk::new(config(TlsRule::Required), usize::MAX);
    talk.open();
    assert_eq!(
        talk.say(&auth("SCRAM-SHA-1", FIRST)),
        failure(Condition::EncryptionRequired)
    );
}

#[test]
fn c6120_sasl_support_scram_all_forms() {
    each_split(|chunk| {
        for hash in ScramHash::ALL {
            let flags = [
                Flag::Unable,
                Flag::Bound("tls-exporter"),
                Flag::Bound("tls-server-end-point"),
            ];
            for flag in flags {
                for initial in [true, false] {
                    let mut talk = opened(chunk);
                    let answer = scram(&mut talk, hash, "alice", "pencil", flag, initial);
                    assert!(answer.contains("<success"), "{hash:?} {flag:?} {answer}");
                    let Some(Output::Note(Note::LoggedIn {
                        mechanism,
                        account,
                        channel_binding,
                    })) = talk.told.last()
                    else {
                        panic!("{:?}", talk.told)
                    };
                    assert_eq!(*mechanism, hash.mechanism(flag != Flag::Unable));
                    assert_eq!(account.as_str(), "alice@d.test");
                    assert_eq!(channel_binding.is_some(), flag != Flag::Unable);
                }
            }
        }
    });
}

#[test]
fn c6120_sasl_restart_and_plain_both_forms() {
    each_split(|chunk| {
        let mut talk = opened(chunk);
        let success = talk.say(&auth("PLAIN", b"\0alice\0pencil"));
        assert_eq!(
            success,
            format!("<success xmlns='{}'/>", ns::SASL),
            "no closing tag"
        );
        assert!(talk.open().contains("<stream:features>"), "row st-01");
        let mut talk = opened(chunk);
        let challenge = talk.say(&format!("<auth xmlns='{}' mechanism='PLAIN'/>", ns::SASL));
        assert_eq!(challenge, format!("<challenge xmlns='{}'/>", ns::SASL));
        assert!(talk.say(&response(b"\0alice\0pencil")).contains("<success"));
    });
}

#[test]
fn ats_sc_07_a_y_flag_is_refused_where_plus_was_offered() {
    let mut talk = opened(usize::MAX);
    let answer = scram(
        &mut talk,
        ScramHash::Sha1,
        "alice",
        "pencil",
        Flag::NotOffered,
        true,
    );
    assert_eq!(answer, failure(Condition::NotAuthorized));
    let mut clear = Talk::new(config(TlsRule::Optional), usize::MAX);
    clear.open();
    let answer = scram(
        &mut clear,
        ScramHash::Sha1,
        "alice",
        "pencil",
        Flag::NotOffered,
        true,
    );
    assert!(answer.contains("<success"), "there it was not");
}

#[test]
fn c6120_sasl_errors_conditions() {
    let auth_text = |mechanism: &str, text: &str| {
        format!(
            "<auth xmlns='{}' mechanism='{mechanism}'>{text}</auth>",
            ns::SASL
        )
    };
    let plain = |text: &[u8]| auth("PLAIN", text);
    let cases = [
        (auth("DIGEST-MD5", b"x"), Condition::InvalidMechanism),
        (auth("scram-sha-1", FIRST), Condition::InvalidMechanism),
        (
            format!("<auth xmlns='{}'/>", ns::SASL),
            Condition::InvalidMechanism,
        ),
        (auth_text("PLAIN", "a=b"), Condition::IncorrectEncoding),
        (
            auth_text("PLAIN", "AGFsaWNlAHBlbmNpbB=="),
            Condition::IncorrectEncoding,
        ),
        (
            auth_text("PLAIN", "AGFsaWNl\nAHBlbmNpbA=="),
            Condition::IncorrectEncoding,
        ),
        (
            auth_text("PLAIN", " AGFsaWNlAHBlbmNpbA=="),
            Condition::IncorrectEncoding,
        ),
        (auth_text("PLAIN", "="), Condition::MalformedRequest),
        (plain(b"alice\0pencil"), Condition::MalformedRequest),
        (plain(b"\0alice\0pencil\0"), Condition::MalformedRequest),
        (plain(b"\0\0pencil"), Condition::MalformedRequest),
        (plain(b"\0alice\0\xff"), Condition::MalformedRequest),
        (
            plain(b"bob@d.test\0alice\0pencil"),
            Condition::InvalidAuthzid,
        ),
        (
            plain(b"alice@e.test\0alice\0pencil"),
            Condition::InvalidAuthzid,
        ),
        (
            plain(b"alice@d.test/r\0alice\0pencil"),
            Condition::InvalidAuthzid,
        ),
        (plain(b"@\0alice\0pencil"), Condition::InvalidAuthzid),
        (
            auth("SCRAM-SHA-1", b"n,a=bob@d.test,n=alice,r=abc"),
            Condition::InvalidAuthzid,
        ),
        (
            auth("SCRAM-SHA-1", b"x,,n=alice,r=abc"),
            Condition::MalformedRequest,
        ),
        (
            auth("SCRAM-SHA-1", b"p=tls-exporter,,n=alice,r=abc"),
            Condition::NotAuthorized,
        ),
        (
            auth("SCRAM-SHA-1-PLUS", b"p=tls-unique,,n=alice,r=abc"),
            Condition::NotAuthorized,
        ),
        (auth("SCRAM-SHA-1-PLUS", FIRST), Condition::NotAuthorized),
        (plain(b"\0alice\0pencils"), Condition::NotAuthorized),
        (plain(b"\0nobody\0pencil"), Condition::NotAuthorized),
        (plain(b"\0not a name\0pencil"), Condition::NotAuthorized),
        (plain(b"\0banned\0pencil"), Condition::AccountDisabled),
        (plain(b"\0banned\0pencils"), Condition::NotAuthorized),
        (plain(b"\0stuck\0pencil"), Condition::TemporaryAuthFailure),
        (
            auth("SCRAM-SHA-1", b"n,,n=stuck,r=abc"),
            Condition::TemporaryAuthFailure,
        ),
        (abort(), Condition::MalformedRequest),
        (response(b"x"), Condition::MalformedRequest),
    ];
    each_split(|chunk| {
        for (says, condition) in &cases {
            let mut talk = opened(chunk);
            assert_eq!(talk.say(says), failure(*condition), "{says}");
            assert_eq!(talk.failures(), [*condition]);
            // The stream is as before: the next try succeeds.
            assert!(
                talk.say(&auth("PLAIN", b"\0alice\0pencil"))
                    .contains("<success"),
                "{says}"
            );
        }
    });
}

#[test]
fn c6120_sa_06_the_own_bare_jid_is_a_fine_authzid() {
    for message in [
        &b"alice@d.test\0alice\0pencil"[..],
        b"Alice@D.test\0ALICE\0pencil",
    ] {
        assert!(opened(7).say(&auth("PLAIN", message)).contains("<success"));
    }
}

#[test]
fn c6120_sasl_correlate_with_the_protected_header() {
    let open = |from: &str| {
        format!(
            "<stream:stream to='d.test' from='{from}' version='1.0' xmlns='jabber:client' \
            xmlns:stream='{}'>",
            ns::STREAMS
        )
    };
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk);
        talk.say(&open("bob@d.test"));
        let refused = talk.say(&auth("PLAIN", b"\0alice\0pencil"));
        assert_eq!(refused, failure(Condition::NotAuthorized));
        assert!(talk.asked.is_empty());
        for from in ["alice@d.test", "Alice@D.TEST/x"] {
            let mut talk = Talk::secured(chunk);
            talk.say(&open(from));
            assert!(
                talk.say(&auth("PLAIN", b"\0alice\0pencil"))
                    .contains("<success")
            );
        }
        // After login the header is compared too.
        let mut talk = opened(chunk);
        talk.say(&auth("PLAIN", b"\0alice\0pencil"));
        talk.say(&open("bob@d.test"));
        assert_eq!(talk.error(), Some(StreamCondition::InvalidFrom));
        let mut talk = opened(chunk);
        talk.say(&auth("PLAIN", b"\0alice\0pencil"));
        talk.say(&OPEN.replace("d.test", "e.test"));
        assert_eq!(
            talk.error(),
            Some(StreamCondition::NotAuthorized),
            "another domain"
        );
    });
}

#[test]
fn c6120_sa_08_a_second_auth_starts_anew() {
    each_split(|chunk| {
        let mut talk = opened(chunk);
        assert!(talk.say(&auth("SCRAM-SHA-1", FIRST)).contains("<challenge"));
        let answer = scram(
            &mut talk,
            ScramHash::Sha256,
            "alice",
            "pencil",
            Flag::Unable,
            true,
        );
        assert!(answer.contains("<success"), "{answer}");
    });
}

#[test]
fn c6120_sa_09_abort() {
    each_split(|chunk| {
        let mut talk = opened(chunk);
        talk.say(&auth("SCRAM-SHA-1", FIRST));
        assert_eq!(talk.say(&abort()), failure(Condition::Aborted));
        assert!(
            talk.say(&auth("PLAIN", b"\0alice\0pencil"))
                .contains("<success")
        );
    });
}

#[test]
fn c6120_sa_04_whitespace_inside_sasl_is_never_misread() {
    each_split(|chunk| {
        let mut talk = opened(chunk);
        let spaced = format!("\n {} \t", auth("SCRAM-SHA-1", FIRST));
        assert!(talk.say(&spaced).contains("<challenge"));
        talk.say("\r\n");
        assert_eq!(talk.say(&abort()), failure(Condition::Aborted));
    });
}

#[test]
fn anything_else_during_an_exchange_ends_the_stream() {
    each_split(|chunk| {
        for says in [
            "<presence/>",
            "<x xmlns='urn:x'/>",
            "<iq type='get' id='1'/>",
        ] {
            let mut talk = opened(chunk);
            talk.say(&auth("SCRAM-SHA-1", FIRST));
            talk.say(says);
            assert_eq!(talk.error(), Some(StreamCondition::NotAuthorized), "{says}");
        }
        let mut talk = opened(chunk);
        talk.say(&auth("PLAIN", b"\0alice\0pencil"));
        talk.open();
        talk.say(&auth("PLAIN", b"\0alice\0pencil"));
        assert_eq!(
            talk.error(),
            Some(StreamCondition::NotAuthorized),
            "signed in already"
        );
    });
}

#[test]
fn c6120_sa_10_the_fifth_wrong_password_is_the_last() {
    each_split(|chunk| {
        let mut talk = opened(chunk);
        for user in ["alice", "nobody", "not a name", "banned"] {
            let answer = talk.say(&auth("PLAIN", format!("\0{user}\0wrong").as_bytes()));
            assert_eq!(answer, failure(Condition::NotAuthorized), "{user}");
            assert_eq!(talk.error(), None);
        }
        let answer = scram(
            &mut talk,
            ScramHash::Sha1,
            "alice",
            "wrong",
            Flag::Unable,
            true,
        );
        assert!(
            answer.starts_with(&failure(Condition::NotAuthorized)),
            "it is answered"
        );
        assert!(answer.contains("<policy-violation "));
        assert_eq!(talk.error(), Some(StreamCondition::PolicyViolation));
    });
}

#[test]
fn c6120_lm_07_ten_refusals_of_form() {
    each_split(|chunk| {
        let mut talk = opened(chunk);
        for _ in 0..9 {
            talk.say(&auth("X-NONE", b"x"));
        }
        assert_eq!(talk.error(), None);
        assert!(
            talk.say(&auth("X-NONE", b"x"))
                .starts_with(&failure(Condition::InvalidMechanism))
        );
        assert_eq!(talk.error(), Some(StreamCondition::PolicyViolation));
        // Exchanges that are begun again and again cost a look-up each, and count.
        let mut talk = opened(chunk);
        for _ in 0..30 {
            talk.say(&auth("SCRAM-SHA-1", FIRST));
        }
        assert_eq!(talk.error(), Some(StreamCondition::PolicyViolation));
        assert!(talk.asked.len() <= 11);
    });
}

#[test]
fn a_client_with_seven_tries_gets_in_with_the_last() {
    // Old slixmpp: three -PLUS by tls-unique, three SCRAM with flag `y`, then PLAIN.
    let mut talk = opened(usize::MAX);
    for hash in ScramHash::ALL {
        let first = b"p=tls-unique,,n=alice,r=abc";
        assert!(
            talk.say(&auth(hash.mechanism(true), first))
                .contains("<failure")
        );
    }
    for hash in ScramHash::ALL {
        let answer = talk.say(&auth(hash.mechanism(false), b"y,,n=alice,r=abc"));
        assert!(answer.contains("<failure"), "{answer}");
    }
    assert!(talk.asked.is_empty());
    assert!(
        talk.say(&auth("PLAIN", b"\0alice\0pencil"))
            .contains("<success")
    );
}

#[test]
fn ats_sc_18_names_that_cannot_be_accounts_are_unknown_ones() {
    let ask = |name: &str| {
        let mut talk = opened(usize::MAX);
        let answer = talk.say(&auth(
            "SCRAM-SHA-1",
            format!("n,,n={name},r=abc").as_bytes(),
        ));
        let challenge = String::from_utf8(data_of("challenge", &answer)).unwrap();
        (
            talk.asked.clone(),
            challenge.split_once(",s=").unwrap().1.to_owned(),
        )
    };
    let (asked, unknown) = ask("nobody");
    assert_eq!(asked, ["nobody@d.test"]);
    let (asked, invalid) = ask("no body");
    assert_eq!(asked, ask("no body").0, "the same stand-in for each try");
    assert_ne!(asked, ask("no  body").0);
    assert_eq!(unknown, invalid, "the caller's fake is used");
    let mut talk = opened(usize::MAX);
    let answer = scram(
        &mut talk,
        ScramHash::Sha1,
        "no body",
        "pencil",
        Flag::Unable,
        true,
    );
    assert_eq!(answer, failure(Condition::NotAuthorized));
}

#[test]
fn ats_sc_03_names_are_prepared_as_accounts() {
    for name in ["alice", "ALICE", "\u{ff21}lice"] {
        let mut talk = opened(usize::MAX);
        let answer = scram(
            &mut talk,
            ScramHash::Sha256,
            name,
            "pencil",
            Flag::Unable,
            true,
        );
        assert!(answer.contains("<success"), "{name}");
        assert_eq!(talk.asked, ["alice@d.test"]);
    }
}

#[test]
fn ats_dg_01_dg_05_the_server_tells_what_it_announced() {
    let hash_of = |mut talk: Talk| {
        talk.open();
        let answer = talk.say(&auth("SCRAM-SHA-1", FIRST));
        String::from_utf8(data_of("challenge", &answer)).unwrap()
    };
    let host = HostView {
        hashes: vec![ScramHash::Sha1],
        plain: false,
        ..host_view()
    };
    let mut config = config(TlsRule::Direct);
    config.hosts = Arc::new(TestHosts(host));
    let mut talk = Talk::new(config.clone(), usize::MAX);
    talk.machine.tls_established(tls_13(), talk.now);
    assert!(
        hash_of(talk).ends_with(",h=G6k/rBLDqgOhRRaCuuatSDFkJ08=,t=0304"),
        "the vectors of XEP-0474 and XEP-0515"
    );
    config.downgrade_protection = false;
    let mut talk = Talk::new(config, usize::MAX);
    talk.machine.tls_established(tls_13(), talk.now);
    let told = hash_of(talk);
    assert!(!told.contains(",h=") && !told.contains(",t="), "{told}");
}

/// What happens between an independent client and our server.
fn peer(talk: &mut Talk, mechanism: &mut dyn ::sasl::client::Mechanism) -> String {
    let name = mechanism.name().to_owned();
    let first = mechanism.initial();
    let mut answer = talk.say(&auth(&name, &first));
    if answer.contains("<challenge") {
        let message = mechanism.response(&data_of("challenge", &answer)).unwrap();
        answer = talk.say(&response(&message));
    }
    if answer.contains("<success") {
        mechanism.success(&data_of("success", &answer)).unwrap();
    }
    answer
}

#[test]
fn an_independent_client_signs_in() {
    use ::sasl::client::Mechanism as _;
    use ::sasl::client::mechanisms::{Plain, Scram};
    use ::sasl::common::scram::{Sha1, Sha256};
    use ::sasl::common::{ChannelBinding, Credentials};
    let credentials = |password: &str, binding: ChannelBinding| {
        let credentials = Credentials::default()
            .with_username("alice")
            .with_password(password);
        credentials.with_channel_binding(binding)
    };
    for (password, fine) in [("pencil", true), ("pencils", false)] {
        let exporter = || ChannelBinding::TlsExporter([0x13; 32].to_vec());
        let answers = [
            peer(
                &mut opened(7),
                &mut Plain::from_credentials(credentials(password, ChannelBinding::None)).unwrap(),
            ),
            peer(
                &mut opened(7),
                &mut Scram::<Sha1>::from_credentials(credentials(password, ChannelBinding::None))
                    .unwrap(),
            ),
            peer(
                &mut opened(7),
                &mut Scram::<Sha256>::from_credentials(credentials(password, ChannelBinding::None))
                    .unwrap(),
            ),
            peer(
                &mut opened(7),
                &mut Scram::<Sha256>::from_credentials(credentials(password, exporter())).unwrap(),
            ),
            peer(
                &mut opened(7),
                &mut Scram::<Sha1>::from_credentials(credentials(password, exporter())).unwrap(),
            ),
        ];
        for answer in answers {
            assert_eq!(answer.contains("<success"), fine, "{password}: {answer}");
        }
    }
    let other = ChannelBinding::TlsExporter([0x14; 32].to_vec());
    let mut client = Scram::<Sha256>::from_credentials(credentials("pencil", other)).unwrap();
    assert_eq!(
        peer(&mut opened(7), &mut client),
        failure(Condition::NotAuthorized)
    );
}

/// The client of rsasl, which in turn picks among what it is given.
fn rsasl_client(talk: &mut Talk, name: &str, password: &str) -> String {
    use rsasl::prelude::{Mechname, SASLClient, SASLConfig};
    let config =
        SASLConfig::with_credentials(None, "alice".to_owned(), password.to_owned()).unwrap();
    let offered = [Mechname::parse(name.as_bytes()).unwrap()];
    let mut session = SASLClient::new(config).start_suggested(&offered).unwrap();
    let mut message = Vec::new();
    session.step(None, &mut message).unwrap();
    let mut answer = talk.say(&auth(name, &message));
    if answer.contains("<challenge") {
        let mut message = Vec::new();
        session
            .step(Some(&data_of("challenge", &answer)), &mut message)
            .unwrap();
        answer = talk.say(&response(&message));
    }
    let data = data_of_success(&answer);
    if !data.is_empty() {
        session.step(Some(&data), &mut Vec::new()).unwrap();
    }
    answer
}

fn data_of_success(answer: &str) -> Vec<u8> {
    if answer.contains("<success") {
        data_of("success", answer)
    } else {
        Vec::new()
    }
}

#[test]
fn rsasl_as_a_client_signs_in() {
    // rsasl's rebuilt AuthMessage drops extensions, so XEP-0474 has to be off for it.
    let plain_config = ResponderConfig {
        downgrade_protection: false,
        manage: true,
        ..config(TlsRule::Direct)
    };
    for name in ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for (password, fine) in [("pencil", true), ("pencils", false)] {
            let mut talk = Talk::new(plain_config.clone(), usize::MAX);
            talk.machine.tls_established(tls_13(), talk.now);
            talk.open();
            let answer = rsasl_client(&mut talk, name, password);
            assert_eq!(
                answer.contains("<success"),
                fine,
                "{name} {password}: {answer}"
            );
        }
    }
}

/// A server by rsasl for the keys of "pencil".
struct RsaslKeys(ScramHash);

struct Name;

impl rsasl::validate::Validation for Name {
    type Value = String;
}

impl rsasl::callback::SessionCallback for RsaslKeys {
    fn callback(
        &self,
        _: &rsasl::callback::SessionData,
        _: &rsasl::callback::Context<'_>,
        request: &mut rsasl::callback::Request<'_>,
    ) -> Result<(), rsasl::prelude::SessionError> {
        use rsasl::mechanisms::scram::properties::ScramStoredPassword;
        let keys = keys(self.0);
        let stored = ScramStoredPassword::new(
            keys.iterations,
            &keys.salt,
            &keys.stored_key,
            &keys.server_key,
        );
        request.satisfy::<ScramStoredPassword<'static>>(&stored)?;
        Ok(())
    }

    fn validate(
        &self,
        _: &rsasl::callback::SessionData,
        context: &rsasl::callback::Context<'_>,
        validate: &mut rsasl::validate::Validate<'_>,
    ) -> Result<(), rsasl::validate::ValidationError> {
        let name = context
            .get_ref::<rsasl::property::AuthId>()
            .unwrap_or_default()
            .to_owned();
        validate.with::<Name, _>(|| Ok(name))?;
        Ok(())
    }
}

#[test]
fn our_client_signs_in_at_rsasl() {
    use rsasl::prelude::{Mechname, SASLConfig, SASLServer};
    for hash in ScramHash::ALL {
        for (password, fine) in [("pencil", true), ("pencils", false)] {
            let config = SASLConfig::builder()
                .with_defaults()
                .with_callback(RsaslKeys(hash))
                .unwrap();
            let name = Mechname::parse(hash.mechanism(false).as_bytes()).unwrap();
            let mut server = SASLServer::<Name>::new(config)
                .start_suggested(name)
                .unwrap();
            let (client, first) =
                Client::begin(hash, "alice", "nonce", Flag::Unable, &Bindings::default());
            let mut challenge = Vec::new();
            server.step(Some(first.as_bytes()), &mut challenge).unwrap();
            let (last, message) = client.respond(&challenge, password, "", None).unwrap();
            let mut end = Vec::new();
            server.step(Some(message.as_bytes()), &mut end).unwrap();
            assert_eq!(last.verify(&end).is_ok(), fine, "{hash:?} {password}");
            assert_eq!(server.validation().is_some(), fine);
        }
    }
}

#[test]
fn payloads_of_an_exchange_are_not_printed() {
    let mut talk = opened(usize::MAX);
    talk.say(&auth("PLAIN", b"\0alice\0secret-word"));
    let told = format!("{:?}", talk.told);
    assert!(
        !told.contains("secret-word") && !told.contains(&base64(b"secret-word")),
        "{told}"
    );
    assert_eq!(
        format!("{:?}", Password("secret-word".to_owned())),
        "Password(..)"
    );
}
