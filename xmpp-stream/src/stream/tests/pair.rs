//! The calling side: against our own accepting side, and against servers that misbehave.

use super::*;
use crate::error::{SaslCondition, StreamCondition};
use crate::jid::BareJid;
use crate::limits::XmlLimits;
use crate::stanza::Ty;

pub(super) fn client_config(tls: TlsRule, password: &str) -> InitiatorConfig {
    let limits = Limits {
        after_auth: XmlLimits::client(),
        ..Limits::default()
    };
    InitiatorConfig {
        account: BareJid::parse("alice@d.test").unwrap(),
        password: Some(Password(password.to_owned())),
        name_account: false,
        resource: Some("balcony".into()),
        lang: Some("cs".into()),
        tls,
        plain: true,
        least: Strength::Plain,
        manage: Manage::Off,
        limits,
    }
}

/// The calling side with what it was told.
pub(super) struct Caller {
    pub(super) machine: Initiator,
    pub(super) now: Instant,
    tls: TlsInfo,
    pub(super) told: Vec<Output>,
}

impl Caller {
    fn new(tls: TlsRule) -> Self {
        Self::with_password(tls, "pencil")
    }

    fn with_password(tls: TlsRule, password: &str) -> Self {
        Self::with(client_config(tls, password))
    }

    pub(super) fn with(config: InitiatorConfig) -> Self {
        Self {
            machine: Initiator::new(config, random(), start()),
            now: start(),
            tls: tls_13(),
            told: Vec::new(),
        }
    }

    /// TLS is up from the first byte.
    pub(super) fn secure(&mut self) -> String {
        self.machine.tls_established(tls_13(), self.now);
        self.said()
    }

    pub(super) fn told_last(&mut self) -> Option<&Output> {
        self.said();
        self.told.last()
    }

    pub(super) fn hear(&mut self, text: &str) -> String {
        self.hear_bytes(text.as_bytes())
    }

    pub(super) fn hear_bytes(&mut self, bytes: &[u8]) -> String {
        self.machine.handle_bytes(bytes, self.now);
        self.said()
    }

    pub(super) fn said(&mut self) -> String {
        while let Some(output) = self.machine.poll_output() {
            if matches!(output, Output::StartTls { .. }) {
                self.machine.tls_established(self.tls.clone(), self.now);
            }
            self.told.push(output);
        }
        let mut bytes = Vec::new();
        self.machine.take_bytes(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        self.told.iter().find_map(|output| match output {
            Output::Closed(CloseReason::Failed(failure)) => Some(failure),
            _ => None,
        })
    }

    pub(super) fn jid(&self) -> Option<&str> {
        self.told.iter().find_map(|output| match output {
            Output::Established(established) => Some(established.jid.as_jid().as_str()),
            _ => None,
        })
    }
}

/// Both sides against each other until both are silent; every word of the caller.
pub(super) fn converse(caller: &mut Caller, talk: &mut Talk) -> String {
    let mut all = String::new();
    loop {
        let said = caller.said();
        if said.is_empty() {
            return all;
        }
        all.push_str(&said);
        let answer = talk.say(&said);
        for part in answer.as_bytes().chunks(talk.chunk) {
            caller.machine.handle_bytes(part, caller.now);
            // What is said meanwhile waits for the next round.
            while let Some(output) = caller.machine.poll_output() {
                if matches!(output, Output::StartTls { .. }) {
                    caller
                        .machine
                        .tls_established(caller.tls.clone(), caller.now);
                }
                caller.told.push(output);
            }
        }
    }
}

#[test]
fn c6120_both_sides_establish_a_stream() {
    each_split(|chunk| {
        let mut caller = Caller::new(TlsRule::Required);
        let mut talk = Talk::new(config(TlsRule::Required), chunk);
        let said = converse(&mut caller, &mut talk);
        assert_eq!(
            caller.jid(),
            Some("alice@d.test/balcony"),
            "{:?}",
            caller.told
        );
        assert!(caller.machine.is_open() && talk.machine.is_open());
        assert!(
            said.contains("mechanism='SCRAM-SHA-512-PLUS'"),
            "the strongest"
        );
        let (clear, protected) = said.split_once("<starttls").unwrap();
        assert!(
            !clear.contains("from="),
            "row stream-attribute-initial-from: not in clear"
        );
        assert!(protected.contains("from='alice@d.test'"));
        assert!(clear.contains("to='d.test'") && clear.contains("xml:lang='cs'"));
        let note = talk.told.iter().find_map(|output| match output {
            Output::Note(Note::LoggedIn {
                channel_binding, ..
            }) => *channel_binding,
            _ => None,
        });
        assert_eq!(note, Some("tls-exporter"));
    });
}

#[test]
fn c6120_stanzas_flow_both_ways_and_the_end_is_clean() {
    let mut caller = Caller::new(TlsRule::Required);
    let mut talk = Talk::new(config(TlsRule::Required), 7);
    converse(&mut caller, &mut talk);
    let item: Item = Item::One(Box::new(Stanza::chat("bob@d.test", "hi").unwrap()));
    caller.machine.send(&item);
    converse(&mut caller, &mut talk);
    assert_eq!(
        talk.stanzas().first().and_then(|it| it.body()).as_deref(),
        Some("hi")
    );
    talk.machine.send(&item);
    let sent = talk.answer();
    caller.hear(&sent);
    assert!(matches!(caller.told.last(), Some(Output::Stanza(_))));
    // A ping of ours is answered by the caller's caller; theirs is consumed there.
    caller.machine.close(None, caller.now);
    assert_eq!(caller.said(), "</stream:stream>");
    let answer = talk.say("</stream:stream>");
    caller.hear(&answer);
    assert!(matches!(
        caller.told.last(),
        Some(Output::Closed(CloseReason::Clean))
    ));
    assert!(matches!(talk.closed(), Some(CloseReason::Clean)));
}

#[test]
fn the_client_chooses_by_what_is_there() {
    let choose = |tls: Option<TlsInfo>, host: HostView| {
        let rule = if tls.is_some() {
            TlsRule::Direct
        } else {
            TlsRule::Optional
        };
        let mut config = config(rule);
        config.hosts = Arc::new(TestHosts(host));
        let mut talk = Talk::new(config, usize::MAX);
        let mut caller = Caller::new(rule);
        if let Some(tls) = tls {
            talk.machine.tls_established(tls.clone(), talk.now);
            caller.machine.tls_established(tls, caller.now);
        } else {
            // No STARTTLS to be had at all.
            let hide = |text: String| text.replace("starttls", "nothing");
            let open = caller.said();
            let answer = hide(talk.say(&open));
            caller.hear_only(&answer);
        }
        let said = converse(&mut caller, &mut talk);
        let mechanism = said.split("mechanism='").nth(1).unwrap_or_default();
        let mechanism = mechanism.split('\'').next().unwrap_or_default().to_owned();
        (mechanism, caller.jid().is_some())
    };
    let no_plus = TlsInfo {
        version: "TLSv1.2",
        ..TlsInfo::default()
    };
    let only_end_point = TlsInfo {
        exporter: None,
        ..tls_13()
    };
    let plain_only = HostView {
        hashes: Vec::new(),
        ..host_view()
    };
    let sha_1 = HostView {
        hashes: vec![ScramHash::Sha1],
        ..host_view()
    };
    let cases = [
        (Some(tls_13()), host_view(), "SCRAM-SHA-512-PLUS"),
        (Some(tls_13()), sha_1, "SCRAM-SHA-1-PLUS"),
        (Some(only_end_point), host_view(), "SCRAM-SHA-512-PLUS"),
        (Some(no_plus), host_view(), "SCRAM-SHA-512"),
        (Some(tls_13()), plain_only, "PLAIN"),
        (None, host_view(), "SCRAM-SHA-512"),
    ];
    for (tls, host, mechanism) in cases {
        assert_eq!(choose(tls, host), (mechanism.to_owned(), true));
    }
}

impl Caller {
    /// Hears, but says nothing yet.
    fn hear_only(&mut self, text: &str) {
        self.machine.handle_bytes(text.as_bytes(), self.now);
    }
}

pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream from='d.test' id='x' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

pub(super) fn offer(mechanisms: &[&str], bindings: Option<&[&str]>) -> String {
    let mechanisms: String = mechanisms
        .iter()
        .map(|name| format!("<mechanism>{name}</mechanism>"))
        .collect();
    let bindings = bindings.map_or_else(String::new, |types| {
        let types: String = types
            .iter()
            .map(|name| format!("<channel-binding type='{name}'/>"))
            .collect();
        format!(
            "<sasl-channel-binding xmlns='{}'>{types}</sasl-channel-binding>",
            ns::SASL_CB
        )
    });
    format!(
        "{HEADER}<stream:features><mechanisms xmlns='{}'>{mechanisms}</mechanisms>{bindings}\
         </stream:features>",
        ns::SASL
    )
}

/// A caller over TLS that has said its header.
pub(super) fn secured() -> Caller {
    let mut caller = Caller::new(TlsRule::Direct);
    caller.secure();
    caller
}

fn first_message(said: &str) -> String {
    let text = said
        .split('>')
        .nth(1)
        .and_then(|rest| rest.split('<').next())
        .unwrap();
    String::from_utf8(crate::features::sasl::unbase64(text).unwrap()).unwrap()
}

#[test]
fn ats_sc_08_cb_03_flags_of_the_client() {
    type Case<'a> = (&'a [&'a str], Option<&'a [&'a str]>, &'a str, &'a str);
    let cases: [Case<'_>; 6] = [
        (&["SCRAM-SHA-1"], None, "SCRAM-SHA-1", "y,,"),
        (
            &["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"],
            Some(&["tls-exporter"]),
            "SCRAM-SHA-1-PLUS",
            "p=tls-exporter,,",
        ),
        (
            &["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"],
            Some(&["tls-server-end-point"]),
            "SCRAM-SHA-1-PLUS",
            "p=tls-server-end-point,,",
        ),
        (
            &["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"],
            None,
            "SCRAM-SHA-1",
            "n,,",
        ),
        (
            &["SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"],
            Some(&["tls-unique"]),
            "SCRAM-SHA-1",
            "n,,",
        ),
        (
            &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "X"],
            None,
            "SCRAM-SHA-256",
            "y,,",
        ),
    ];
    for (mechanisms, bindings, mechanism, flag) in cases {
        let said = secured().hear(&offer(mechanisms, bindings));
        assert!(said.contains(&format!("mechanism='{mechanism}'")), "{said}");
        assert!(
            first_message(&said).starts_with(flag),
            "{mechanisms:?} {bindings:?}: {said}"
        );
    }
}

#[test]
fn c6120_sa_01_cl_04_never_plain_in_clear_or_beside_scram() {
    let mut caller = secured();
    assert!(
        caller
            .hear(&offer(&["X-OTHER"], None))
            .contains("</stream:stream>")
    );
    assert_eq!(caller.failure(), Some(&Failure::NoMechanism));
    // SCRAM is offered, but only in a form that cannot be used: PLAIN stays out of question.
    let mut caller = secured();
    caller.hear(&offer(
        &["SCRAM-SHA-1-PLUS", "PLAIN"],
        Some(&["tls-unique"]),
    ));
    assert_eq!(caller.failure(), Some(&Failure::NoMechanism));
    let mut caller = Caller::new(TlsRule::Optional);
    caller.said();
    caller.hear(&offer(&["PLAIN"], None));
    assert_eq!(caller.failure(), Some(&Failure::NoMechanism));
}

#[test]
fn ats_tu_01_c6120_tls_mtn_the_client_insists_on_tls() {
    let mut caller = Caller::new(TlsRule::Required);
    caller.said();
    let said = caller.hear(&offer(&["SCRAM-SHA-1"], None));
    assert_eq!(
        said,
        format!("<starttls xmlns='{}'/>", ns::TLS),
        "the offer may have been cut out"
    );
    caller.hear(&format!("<failure xmlns='{}'/></stream:stream>", ns::TLS));
    assert_eq!(caller.failure(), Some(&Failure::NoTls));
}

#[test]
fn c6120_tl_03_the_client_takes_no_data_behind_proceed() {
    let mut caller = Caller::new(TlsRule::Required);
    caller.said();
    caller.hear(&offer(&[], None));
    caller.hear(&format!("<proceed xmlns='{}'/>{HEADER}", ns::TLS));
    assert_eq!(caller.failure(), Some(&Failure::DataBeforeTls));
}

#[test]
fn c6120_sasl_errors_reach_the_caller() {
    for (name, condition) in [
        ("not-authorized", SaslCondition::NotAuthorized),
        ("account-disabled", SaslCondition::AccountDisabled),
        ("brand-new", SaslCondition::NotAuthorized),
    ] {
        let mut caller = secured();
        caller.hear(&offer(&["SCRAM-SHA-1"], None));
        let sasl = ns::SASL;
        caller.hear(&format!(
            "<failure xmlns='{sasl}'><{name}/><text>no</text></failure>"
        ));
        let text = Some("no".into());
        assert_eq!(caller.failure(), Some(&Failure::Login { condition, text }));
    }
    let mut caller = Caller::with_password(TlsRule::Required, "wrong");
    let mut talk = Talk::new(config(TlsRule::Required), usize::MAX);
    converse(&mut caller, &mut talk);
    let condition = SaslCondition::NotAuthorized;
    assert_eq!(
        caller.failure(),
        Some(&Failure::Login {
            condition,
            text: None
        })
    );
}

#[test]
fn ats_sc_11_success_without_proof_is_none() {
    for success in ["", "=", "dj1BQUFB"] {
        let mut caller = secured();
        let said = caller.hear(&offer(&["SCRAM-SHA-1"], None));
        let first = first_message(&said);
        let nonce = first.split_once(",r=").unwrap().1;
        let challenge = format!("r={nonce}def,s=QSXCR+Q6sek8bf92,i=4096");
        let challenge = crate::features::sasl::base64(challenge.as_bytes());
        let sasl = ns::SASL;
        let said = caller.hear(&format!(
            "<challenge xmlns='{sasl}'>{challenge}</challenge>"
        ));
        assert!(said.starts_with("<response"));
        caller.hear(&format!("<success xmlns='{sasl}'>{success}</success>"));
        assert_eq!(
            caller.failure(),
            Some(&Failure::ServerNotProven),
            "{success:?}"
        );
    }
    // Success straight after the first message.
    let mut caller = secured();
    caller.hear(&offer(&["SCRAM-SHA-1"], None));
    caller.hear(&format!("<success xmlns='{}'/>", ns::SASL));
    assert_eq!(caller.failure(), Some(&Failure::Unexpected));
}

#[test]
fn ats_sc_05_10_dg_03_what_the_client_refuses() {
    let cases = [
        (
            "r=OTHER,s=QSXCR+Q6sek8bf92,i=4096",
            Failure::ServerNotProven,
        ),
        ("r=NONCEx,s=QSXCR+Q6sek8bf92,i=1", Failure::Iterations),
        (
            "r=NONCEx,s=QSXCR+Q6sek8bf92,i=4096,h=AAAA",
            Failure::Downgrade,
        ),
        ("nonsense", Failure::Unexpected),
    ];
    for (challenge, failure) in cases {
        let mut caller = secured();
        let said = caller.hear(&offer(&["SCRAM-SHA-1"], None));
        let first = first_message(&said);
        let challenge = challenge.replace("NONCE", first.split_once(",r=").unwrap().1);
        let challenge = crate::features::sasl::base64(challenge.as_bytes());
        let said = caller.hear(&format!(
            "<challenge xmlns='{}'>{challenge}</challenge>",
            ns::SASL
        ));
        assert_eq!(caller.failure(), Some(&failure));
        assert!(said.starts_with("<abort"), "{said}");
    }
}

#[test]
fn ats_dg_03_a_list_cut_on_the_way_is_noticed() {
    let mut caller = Caller::new(TlsRule::Direct);
    let mut talk = Talk::secured(usize::MAX);
    caller.machine.tls_established(tls_13(), caller.now);
    let answer = talk.say(&caller.said());
    let cut = answer.replace("<mechanism>SCRAM-SHA-512-PLUS</mechanism>", "");
    assert_ne!(answer, cut);
    caller.hear_only(&cut);
    converse(&mut caller, &mut talk);
    assert_eq!(caller.failure(), Some(&Failure::Downgrade));
}

/// A caller that has signed in by PLAIN and sent its header.
fn signed_in() -> Caller {
    let mut caller = secured();
    caller.hear(&offer(&["PLAIN"], None));
    let said = caller.hear(&format!("<success xmlns='{}'/>", ns::SASL));
    assert!(
        said.starts_with("<?xml") && !said.contains("</stream"),
        "row sasl-restart: {said}"
    );
    caller
}

fn bind_features(more: &str) -> String {
    format!(
        "{HEADER}<stream:features><bind xmlns='{}'/>{more}</stream:features>",
        ns::BIND
    )
}

fn id_of(said: &str) -> String {
    match frames(said).into_iter().next() {
        Some(Frame::Stanza(stanza)) => stanza.head.id.unwrap().into(),
        other => panic!("{other:?}"),
    }
}

fn bound(id: &str, jid: &str) -> String {
    format!(
        "<iq type='result' id='{id}'><bind xmlns='{}'><jid>{jid}</jid></bind></iq>",
        ns::BIND
    )
}

#[test]
fn c6120_st_04_the_client_is_who_the_server_says() {
    let mut caller = signed_in();
    let said = caller.hear(&bind_features(""));
    assert!(said.contains("<resource>balcony</resource>"));
    caller.hear(&bound(&id_of(&said), "alice@d.test/other"));
    assert_eq!(caller.jid(), Some("alice@d.test/other"));
}

#[test]
fn c6120_bind_mtn_the_client_reports_a_failed_bind() {
    let mut caller = signed_in();
    let said = caller.hear(&bind_features(""));
    let error = crate::error::StanzaError::conflict();
    let refusal = format!(
        "<iq type='error' id='{}'>{}</iq>",
        id_of(&said),
        error.to_element().to_xml(ns::CLIENT)
    );
    caller.hear(&refusal);
    assert!(matches!(caller.failure(), Some(Failure::Bind(bound)) if **bound == error));
    assert!(!caller.machine.is_open());
    for answer in [
        "<message/>",
        "<iq type='result' id='none'/>",
        "<x xmlns='urn:x'/>",
    ] {
        let mut caller = signed_in();
        caller.hear(&bind_features(""));
        caller.hear(answer);
        assert_eq!(caller.failure(), Some(&Failure::Unexpected), "{answer}");
    }
}

#[test]
fn c6120_stream_negotiation_complete_without_bind_it_is_not() {
    let mut caller = signed_in();
    caller.hear(&format!(
        "{HEADER}<stream:features><must xmlns='urn:x'/></stream:features>"
    ));
    assert_eq!(caller.failure(), Some(&Failure::NoBind));
    let item: Item = Item::One(Box::new(Stanza::presence(Ty::None)));
    caller.machine.send(&item);
    assert_eq!(caller.said(), "");
}

#[test]
fn a_session_request_is_made_where_it_is_not_optional() {
    let session = format!("<session xmlns='{}'/>", ns::SESSION);
    let mut caller = signed_in();
    let said = caller.hear(&bind_features(&session));
    let said = caller.hear(&bound(&id_of(&said), "alice@d.test/r"));
    assert!(said.contains(ns::SESSION));
    assert_eq!(caller.jid(), None);
    caller.hear(&format!("<iq type='result' id='{}'/>", id_of(&said)));
    assert_eq!(caller.jid(), Some("alice@d.test/r"));
    let optional = format!("<session xmlns='{}'><optional/></session>", ns::SESSION);
    let mut caller = signed_in();
    let said = caller.hear(&bind_features(&optional));
    assert_eq!(caller.hear(&bound(&id_of(&said), "alice@d.test/r")), "");
    assert_eq!(caller.jid(), Some("alice@d.test/r"));
}

#[test]
fn c6120_st_20_stream_errors_of_the_server() {
    for (name, condition) in [
        ("host-unknown", StreamCondition::HostUnknown),
        ("not-yet-invented", StreamCondition::UndefinedCondition),
    ] {
        let mut caller = secured();
        caller.hear(&format!(
            "{HEADER}<stream:error><{name} xmlns='{}'/></stream:error></stream:stream>",
            ns::STREAM_ERRORS
        ));
        match caller.told.last() {
            Some(Output::Closed(CloseReason::Theirs(error))) => {
                assert_eq!(error.condition, condition);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn headers_that_a_client_does_not_take() {
    let mut caller = secured();
    caller.hear(&HEADER.replace("jabber:client", "jabber:server"));
    assert!(matches!(
        caller.told.last(),
        Some(Output::Closed(CloseReason::Ours(error)))
            if error.condition == StreamCondition::InvalidNamespace
    ));
    let mut caller = secured();
    caller.hear(&HEADER.replace("id='x' ", ""));
    assert_eq!(caller.failure(), Some(&Failure::Header));
    let mut caller = secured();
    caller.hear(&HEADER.replace("version='1.0' xmlns", "xmlns"));
    assert_eq!(caller.failure(), None, "an error may follow");
    caller.hear("<stream:features/>");
    assert_eq!(caller.failure(), Some(&Failure::Header));
}

#[test]
fn the_client_gives_up_in_time() {
    let mut caller = secured();
    let due = caller.machine.poll_timeout().unwrap();
    caller.machine.handle_timeout(due);
    assert_eq!(caller.said(), "</stream:stream>");
    assert_eq!(caller.failure(), Some(&Failure::Timeout));
    let mut caller = secured();
    caller.machine.handle_eof(caller.now);
    caller.said();
    assert!(matches!(
        caller.told.last(),
        Some(Output::Closed(CloseReason::Eof))
    ));
}

#[test]
fn a_silent_server_is_asked() {
    let mut caller = Caller::new(TlsRule::Required);
    let mut talk = Talk::new(config(TlsRule::Required), usize::MAX);
    converse(&mut caller, &mut talk);
    let due = caller.machine.poll_timeout().unwrap();
    caller.machine.handle_timeout(due);
    let ping = caller.said();
    assert!(
        ping.contains("to='d.test'") && ping.contains("urn:xmpp:ping"),
        "{ping}"
    );
    caller.hear(&format!(
        "<iq type='result' id='{}' from='d.test'/>",
        id_of(&ping)
    ));
    assert!(
        !caller
            .told
            .iter()
            .any(|output| matches!(output, Output::Stanza(_)))
    );
}

#[test]
fn co_05_nothing_weaker_than_before() {
    let bound = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"];
    type Case<'a> = (Strength, &'a [&'a str], Option<Failure>);
    let cases: [Case<'_>; 6] = [
        (Strength::Bound, &bound, None),
        (Strength::Bound, &bound[1..], Some(Failure::Weaker)),
        (Strength::Scram, &bound[1..], None),
        (Strength::Scram, &["SCRAM-SHA-1"], None),
        (Strength::Scram, &["PLAIN"], Some(Failure::Weaker)),
        (Strength::Scram, &["X"], Some(Failure::NoMechanism)),
    ];
    for (least, mechanisms, failure) in cases {
        let config = InitiatorConfig {
            least,
            ..client_config(TlsRule::Direct, "pencil")
        };
        let mut caller = Caller::with(config);
        caller.secure();
        let said = caller.hear(&offer(mechanisms, Some(&["tls-exporter"])));
        assert_eq!(
            caller.failure(),
            failure.as_ref(),
            "{least:?} {mechanisms:?}"
        );
        assert_eq!(said.contains("<auth"), failure.is_none(), "{said}");
    }
}

#[test]
fn passwords_are_not_printed() {
    let config = InitiatorConfig {
        account: BareJid::parse("alice@d.test").unwrap(),
        password: Some(Password("secret-word".to_owned())),
        name_account: false,
        resource: None,
        lang: None,
        tls: TlsRule::Required,
        plain: false,
        least: Strength::Plain,
        manage: Manage::Off,
        limits: Limits::default(),
    };
    assert!(!format!("{config:?}").contains("secret-word"));
}
