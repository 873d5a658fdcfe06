//! Stream management on the calling side (XEP-0198; rows ss-2 to ss-7), and what it does not let a
//! server do.

use super::pair::{Caller, HEADER, client_config};
use super::*;
use crate::error::StreamCondition;
use crate::jid::FullJid;
use crate::stanza::Ty;
use proptest::prelude::*;

const SM: &str = "xmlns='urn:xmpp:sm:3'";

/// A caller that has signed in by PLAIN; `features` are what it reads next.
fn signed_in(manage: Manage, features: &str) -> (Caller, String) {
    let config = InitiatorConfig {
        manage,
        ..client_config(TlsRule::Direct, "pencil")
    };
    let mut caller = Caller::with(config);
    caller.secure();
    let offer = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>PLAIN</mechanism></mechanisms>";
    caller.hear(&format!(
        "{HEADER}<stream:features>{offer}</stream:features>"
    ));
    caller.hear("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    let said = caller.hear(&format!(
        "{HEADER}<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
         {features}</stream:features>"
    ));
    (caller, said)
}

fn sm_feature() -> String {
    format!("<sm {SM}/><csi xmlns='urn:xmpp:csi:0'/>")
}

fn bind(caller: &mut Caller, request: &str) -> String {
    let id = request
        .split("id='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .unwrap();
    caller.hear(&format!(
        "<iq type='result' id='{id}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>alice@d.test/balcony</jid></bind></iq>"
    ))
}

/// A caller with stream management asked for.
fn enabling() -> Caller {
    let (mut caller, said) = signed_in(Manage::Enable, &sm_feature());
    let said = bind(&mut caller, &said);
    assert_eq!(said, format!("<enable {SM} resume='true'/>"));
    caller
}

fn enabled() -> Caller {
    let mut caller = enabling();
    caller.hear(&format!("<enabled {SM} id='one' resume='true'/>"));
    caller
}

fn resume() -> Manage {
    Manage::Resume {
        previd: "one".into(),
        h: 7,
        jid: FullJid::parse("alice@d.test/balcony").unwrap(),
    }
}

fn managed(caller: &Caller) -> Vec<&SmAnswer> {
    let told = caller.told.iter();
    told.filter_map(|output| match output {
        Output::Managed(answer) => Some(answer),
        _ => None,
    })
    .collect()
}

#[track_caller]
fn check_refused(mut caller: Caller, word: &str, condition: StreamCondition) {
    caller.hear(word);
    match caller.told.last() {
        Some(Output::Closed(CloseReason::Ours(error))) => {
            assert_eq!(error.condition, condition, "{word}");
        }
        other => panic!("{word}: {other:?}"),
    }
}

#[test]
fn ss_02_enabled_after_bind_and_only_where_it_is_wanted_and_offered() {
    assert!(enabling().machine.is_managed());
    for (manage, features) in [(Manage::Off, sm_feature()), (Manage::Enable, String::new())] {
        let (mut caller, said) = signed_in(manage, &features);
        assert_eq!(bind(&mut caller, &said), "");
        assert!(caller.machine.is_open() && !caller.machine.is_managed());
    }
}

#[test]
fn ss_02_inbound_is_counted_from_enabled_on() {
    let mut caller = enabling();
    caller.hear("<message from='bob@d.test'/>");
    caller.hear(&format!("<enabled {SM} id='one' resume='true'/>"));
    assert_eq!(caller.machine.handled(), 0);
    caller.hear("<message from='bob@d.test'/><presence from='bob@d.test'/> ");
    assert_eq!(caller.machine.handled(), 2);
}

#[test]
fn ss_03_requests_are_answered_with_the_count() {
    let mut caller = enabled();
    let said = caller.hear(&format!(
        "<message/><r {SM}/><iq type='get' id='1'/><r {SM}/>"
    ));
    assert_eq!(said, format!("<a {SM} h='1'/><a {SM} h='2'/>"));
}

#[test]
fn ss_03_the_last_count_goes_before_the_closing_tag() {
    let mut caller = enabled();
    caller.hear("<message/>");
    caller.machine.close(None, caller.now);
    let said = caller.hear(&format!("<a {SM} h='0'/>"));
    assert_eq!(said, format!("<a {SM} h='1'/></stream:stream>"));
    assert!(matches!(
        caller.told.last(),
        Some(Output::Sm(SmRequest::Ack(0)))
    ));
    let said = enabled().hear("</stream:stream>");
    assert_eq!(said, format!("<a {SM} h='0'/></stream:stream>"));
}

#[test]
fn ss_02_refused_is_without() {
    let mut caller = enabling();
    caller.hear(&format!("<failed {SM}/>"));
    assert!(caller.machine.is_open() && !caller.machine.is_managed());
    assert_eq!(managed(&caller), [&SmAnswer::Failed { h: None }]);
    check_refused(
        caller,
        &format!("<r {SM}/>"),
        StreamCondition::UnsupportedStanzaType,
    );
}

#[test]
fn ss_04_resumed_instead_of_bound() {
    let (mut caller, said) = signed_in(resume(), &sm_feature());
    assert_eq!(said, format!("<resume {SM} h='7' previd='one'/>"));
    caller.hear(&format!("<resumed {SM} previd='one' h='3'/><message/>"));
    assert_eq!(caller.jid(), Some("alice@d.test/balcony"));
    let resumed = SmAnswer::Resumed {
        previd: "one".into(),
        h: 3,
    };
    assert_eq!(managed(&caller), [&resumed]);
    assert_eq!(caller.machine.handled(), 8);
}

#[test]
fn ss_05_failed_is_bound_anew() {
    let (mut caller, _) = signed_in(resume(), &sm_feature());
    let said = caller.hear(&format!(
        "<failed {SM} h='3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    ));
    assert_eq!(managed(&caller), [&SmAnswer::Failed { h: Some(3) }]);
    let said = bind(&mut caller, &said);
    assert!(said.starts_with("<enable "), "{said}");
    assert_eq!(caller.machine.handled(), 0);
}

#[test]
fn ss_05_a_server_without_stream_management_is_bound_to() {
    let (mut caller, said) = signed_in(resume(), "");
    assert_eq!(managed(&caller), [&SmAnswer::Failed { h: None }]);
    bind(&mut caller, &said);
    assert!(caller.machine.is_open() && !caller.machine.is_managed());
}

#[test]
fn ss_04_another_stream_is_not_resumed() {
    let (mut caller, _) = signed_in(resume(), &sm_feature());
    caller.hear(&format!("<resumed {SM} previd='two' h='3'/>"));
    assert_eq!(caller.failure(), Some(&Failure::Unexpected));
    let (mut caller, _) = signed_in(resume(), &sm_feature());
    caller.hear(&format!("<enabled {SM} id='two'/>"));
    assert!(!caller.machine.is_open());
}

#[test]
fn what_makes_no_sense_ends_the_stream() {
    let unexpected = StreamCondition::UnsupportedStanzaType;
    for word in [
        "<resumed h='0' previd='one' {}/>",
        "<enabled {}/>",
        "<failed {}/>",
    ] {
        check_refused(enabled(), &word.replace("{}", SM), unexpected);
    }
    check_refused(enabling(), &format!("<r {SM}/>"), unexpected);
    check_refused(enabling(), &format!("<a {SM} h='0'/>"), unexpected);
    check_refused(
        enabled(),
        &format!("<a {SM} h='-1'/>"),
        StreamCondition::BadFormat,
    );
}

#[test]
fn co_12_a_silent_server_is_asked_soon_after_something_was_sent() {
    let mut caller = enabled();
    let soon = caller.now + Duration::from_secs(15);
    caller.machine.expect_by(soon);
    caller.machine.expect_by(soon + Duration::from_secs(1));
    assert_eq!(caller.machine.poll_timeout(), Some(soon));
    // What it says of other things does not answer.
    caller.hear("<message/>");
    caller.machine.handle_timeout(soon);
    assert_eq!(caller.said(), format!("<r {SM}/>"));
    let due = soon + Limits::default().silence_answer_max;
    assert_eq!(caller.machine.poll_timeout(), Some(due));
    caller.machine.handle_timeout(due);
    assert!(matches!(
        caller.told_last(),
        Some(Output::Closed(CloseReason::Ours(_)))
    ));
}

#[test]
fn co_12_without_stream_management_it_is_pinged() {
    let (mut caller, said) = signed_in(Manage::Off, "");
    bind(&mut caller, &said);
    let soon = caller.now + Duration::from_secs(15);
    caller.machine.expect_by(soon);
    caller.hear("<message/>");
    caller.machine.handle_timeout(soon);
    assert!(caller.said().contains("urn:xmpp:ping"));
    // Then any word is a sign of life.
    caller.hear("<message/>");
    let idle = caller.now + Limits::default().silence_max;
    assert_eq!(caller.machine.poll_timeout(), Some(idle));
}

#[test]
fn ss_07_client_state_is_told_where_the_server_has_it() {
    let mut caller = enabled();
    caller.machine.set_active(false);
    assert_eq!(caller.said(), "<inactive xmlns='urn:xmpp:csi:0'/>");
    let (mut caller, said) = signed_in(Manage::Off, "");
    bind(&mut caller, &said);
    caller.machine.set_active(false);
    assert_eq!(caller.said(), "");
}

#[test]
fn stanzas_of_the_caller_are_written_as_they_stand() {
    let mut caller = enabled();
    caller
        .machine
        .send_stanza(&Stanza::presence(Ty::None).with_id("1"));
    caller.machine.ask();
    assert_eq!(caller.said(), format!("<presence id='1'/><r {SM}/>"));
}

fn words() -> Vec<String> {
    let words = [
        "<r {}/>",
        "<a {} h='0'/>",
        "<a {} h='4294967295'/>",
        "<a {} h=''/>",
        "<enabled {} id='one' resume='true' max='9' location='x:1'/>",
        "<enabled {}/>",
        "<resumed {} previd='one' h='3'/>",
        "<resumed {} previd='' h='3'/>",
        "<failed {} h='7'/>",
        "<enable {}/>",
        "<message from='bob@d.test'><body>b</body></message>",
        "<iq type='result' id='x'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        " ",
        "</stream:stream>",
    ];
    words.map(|word| word.replace("{}", SM)).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn words_of_stream_management_in_any_order_are_taken_alike_at_every_split(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        state in 0..3,
        chunk in 1_usize..40,
    ) {
        let words = words();
        let text: String = order.iter().map(|index| index.get(&words).as_str()).collect();
        let play = |chunk| {
            let mut caller = match state {
                0 => enabling(),
                1 => enabled(),
                _ => signed_in(resume(), &sm_feature()).0,
            };
            let mut said = String::new();
            for part in text.as_bytes().chunks(chunk) {
                said.push_str(&caller.hear_bytes(part));
            }
            (said, format!("{:?}", caller.told), caller.machine.handled())
        };
        prop_assert_eq!(play(text.len().max(1)), play(chunk));
    }
}
