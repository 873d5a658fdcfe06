//! Stream management between servers (XEP-0198): who may begin it, go on with it, and signs of life.

use super::*;
use crate::features::sm::{SmAnswer, SmRequest};
use crate::stream::NotResumed;
use StreamCondition as C;

fn sm(name: &str, attrs: &str) -> String {
    format!("<{name} xmlns='{}' {attrs}/>", ns::SM)
}

fn requests<M: Played>(talk: &Talk<M>) -> Vec<&SmRequest> {
    let told = talk.told.iter();
    told.filter_map(|output| match output {
        Output::Sm(request) => Some(request),
        _ => None,
    })
    .collect()
}

fn answers(talk: &Talk<Caller>) -> Vec<&SmAnswer> {
    let told = talk.told.iter();
    told.filter_map(|output| match output {
        Output::Managed(answer) => Some(answer),
        _ => None,
    })
    .collect()
}

#[test]
fn im_sm_01_the_feature_is_there_for_who_signs_in_and_for_who_dials_back() {
    let mut talk = Talk::secured(usize::MAX, true);
    talk.say(OPEN);
    talk.say(&auth("a.test"));
    assert!(talk.say(OPEN).contains("<sm xmlns='urn:xmpp:sm:3'/>"));
    // After dialback there are no more features.
    let mut talk = Talk::secured(usize::MAX, false);
    assert!(talk.say(OPEN).contains("<sm xmlns='urn:xmpp:sm:3'/>"));
    let config = CalleeConfig {
        manage: false,
        ..callee_config(TlsRule::Direct)
    };
    let mut talk = Talk::secured_with(config, usize::MAX, true);
    talk.say(OPEN);
    talk.say(&auth("a.test"));
    assert!(!talk.say(OPEN).contains("<sm"));
    assert!(
        talk.say(&sm("enable", ""))
            .contains("<feature-not-implemented")
    );
    assert!(talk.machine.is_open() && requests(&talk).is_empty());
}

#[test]
fn im_sm_02_nothing_of_it_before_a_pair_is_proven_and_once_after() {
    each_split(|chunk| {
        let mut talk = Talk::secured(chunk, false);
        talk.say(OPEN);
        for early in [sm("enable", ""), sm("resume", "previd='x' h='0'")] {
            assert!(talk.say(&early).contains("<unexpected-request"), "{early}");
        }
        assert!(requests(&talk).is_empty());
        for talk in [Talk::signed_in, Talk::dialled_back] {
            let mut talk = talk(chunk);
            talk.say(&sm("enable", "resume='true'"));
            assert!(matches!(
                requests(&talk)[..],
                [SmRequest::Enable { resume: true, .. }]
            ));
            talk.say(&format!("{}{}", sm("r", ""), sm("a", "h='3'")));
            assert!(matches!(
                requests(&talk)[1..],
                [SmRequest::Ask, SmRequest::Ack(3)]
            ));
            talk.say(&sm("enable", ""));
            assert_eq!(talk.error(), Some(C::PolicyViolation));
            let _ = talk;
        }
        for early in [sm("r", ""), sm("a", "h='0'")] {
            let mut talk = Talk::signed_in(chunk);
            talk.say(&early);
            assert_eq!(talk.error(), Some(C::UnsupportedStanzaType), "{early}");
        }
    });
}

#[test]
fn im_sm_08_an_earlier_stream_goes_on() {
    each_split(|chunk| {
        let mut talk = Talk::signed_in(chunk);
        let first = message("ann@a.test", "ben@b.test");
        talk.say(&format!("{}{first}", sm("resume", "previd='old' h='7'")));
        let events = talk.events();
        let Some(Event::Resume { pairs, previd, h }) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!(
            (pairs.as_slice(), &**previd, *h),
            (&[a_to_b()][..], "old", 7)
        );
        // What follows waits for our answer.
        assert!(talk.stanzas().is_empty() && !talk.machine.wants_input());
        talk.machine.resumed(Ok(5), talk.now);
        let answer = talk.answer();
        assert!(
            answer.starts_with("<resumed") && answer.contains("h='5'"),
            "{answer}"
        );
        assert!(answer.contains("previd='old'"), "{answer}");
        assert_eq!(talk.stanzas().len(), 1);
        talk.say(&sm("r", ""));
        assert!(matches!(requests(&talk)[..], [SmRequest::Ask]));
    });
}

#[test]
fn im_sm_09_what_cannot_be_resumed_is_not_found_and_may_begin_anew() {
    each_split(|chunk| {
        let mut talk = Talk::signed_in(chunk);
        talk.say(&sm("resume", "previd='old' h='7'"));
        talk.machine
            .resumed(Err(NotResumed { h: Some(4) }), talk.now);
        let answer = talk.answer();
        assert!(
            answer.contains("<item-not-found") && answer.contains("h='4'"),
            "{answer}"
        );
        talk.say(&sm("enable", ""));
        assert_eq!(requests(&talk).len(), 1);
        // Not in the middle of a session.
        let mut talk = Talk::signed_in(chunk);
        talk.say(&message("ann@a.test", "ben@b.test"));
        let answer = talk.say(&sm("resume", "previd='old' h='7'"));
        assert!(answer.contains("<unexpected-request"), "{answer}");
    });
}

#[test]
fn the_called_asks_a_silent_peer_for_a_sign_of_life() {
    let limits = limits();
    let mut talk = Talk::signed_in(usize::MAX);
    talk.say(&sm("enable", ""));
    assert_eq!(talk.pass(limits.silence_max), "<r xmlns='urn:xmpp:sm:3'/>");
    talk.say(&sm("a", "h='0'"));
    assert_eq!(talk.pass(limits.silence_max / 2), "");
    talk.pass(limits.silence_max);
    talk.pass(limits.silence_answer_max);
    assert_eq!(talk.error(), Some(C::ConnectionTimeout));
    // Without stream management nothing could answer.
    let mut talk = Talk::signed_in(usize::MAX);
    assert_eq!(talk.pass(limits.silence_max * 10), "");
    assert!(talk.machine.is_open());
}

fn offer() -> String {
    format!("{}<sm xmlns='{}'/>", dialback_feature(), ns::SM)
}

fn called(manage: Manage, chunk: usize) -> (Talk<Caller>, String) {
    let config = CallerConfig {
        manage,
        ..caller_config(TlsRule::Direct)
    };
    let mut talk = Talk::over_tls(config, chunk);
    talk.say(&format!("{ANSWER}{}", features(&offer())));
    talk.answer();
    let said = talk.say("<db:result from='b.test' to='a.test' type='valid'/>");
    (talk, said)
}

#[test]
fn im_sm_05_the_caller_enables_and_counts_from_there() {
    each_split(|chunk| {
        let (mut talk, said) = called(Manage::Enable, chunk);
        assert_eq!(said, "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let link = talk.link().unwrap();
        assert!(link.is_managed && link.resumed.is_none());
        talk.say(&sm("enabled", "id='new' resume='true' max='60'"));
        assert!(matches!(answers(&talk)[..],
            [SmAnswer::Enabled { id: Some(id), .. }] if &**id == "new"));
        talk.say(&format!("{}{}", sm("a", "h='2'"), sm("r", "")));
        assert!(matches!(
            requests(&talk)[..],
            [SmRequest::Ack(2), SmRequest::Ask]
        ));
        talk.machine.ask();
        assert_eq!(talk.answer(), "<r xmlns='urn:xmpp:sm:3'/>");
        // Refused: nothing is asked any more.
        let (mut talk, _) = called(Manage::Enable, chunk);
        talk.say(&sm("failed", ""));
        assert!(matches!(answers(&talk)[..], [SmAnswer::Failed { h: None }]));
        talk.machine.ask();
        assert_eq!(talk.answer(), "");
        // Not wanted.
        let (talk, said) = called(Manage::Off, chunk);
        assert!(said.is_empty() && !talk.link().unwrap().is_managed);
    });
}

#[test]
fn im_sm_08_the_caller_goes_on_with_an_earlier_stream_or_begins_anew() {
    let resume = || Manage::Resume {
        previd: "old".into(),
        h: 3,
    };
    each_split(|chunk| {
        let (mut talk, said) = called(resume(), chunk);
        assert!(
            said.starts_with("<resume ") && said.contains("previd='old'"),
            "{said}"
        );
        assert!(said.contains("h='3'"), "{said}");
        assert!(talk.link().is_none());
        talk.say(&sm("resumed", "previd='old' h='9'"));
        let link = talk.link().unwrap();
        assert_eq!((link.resumed, link.is_managed), (Some(9), true));
        assert!(talk.machine.is_open());

        let (mut talk, _) = called(resume(), chunk);
        let said = talk.say(&sm("failed", "h='4'"));
        assert!(said.starts_with("<enable "), "{said}");
        assert!(matches!(
            answers(&talk)[..],
            [SmAnswer::Failed { h: Some(4) }]
        ));
        assert_eq!(talk.link().unwrap().resumed, None);
        // Another stream than was asked for.
        let (mut talk, _) = called(resume(), chunk);
        talk.say(&sm("resumed", "previd='other' h='9'"));
        assert_eq!(talk.failure(), Some(&Failure::Unexpected));
    });
}

#[test]
fn im_sm_16_the_last_count_is_told_before_the_end() {
    let mut machine = Talk::signed_in(usize::MAX).machine;
    let now = start();
    machine.handle_bytes(sm("enable", "").as_bytes(), now);
    machine.handle_bytes(b"</stream:stream>", now);
    while machine.poll_output().is_some() {}
    machine.finish_close(Some(12));
    let mut bytes = Vec::new();
    machine.take_bytes(&mut bytes);
    assert_eq!(bytes, b"<a xmlns='urn:xmpp:sm:3' h='12'/></stream:stream>");
    // What the peer says behind our own closing tag still counts.
    let (mut talk, _) = called(Manage::Enable, 7);
    talk.machine.close(None, talk.now);
    talk.say(&format!("{}</stream:stream>", sm("a", "h='8'")));
    assert!(matches!(requests(&talk)[..], [SmRequest::Ack(8)]));
    assert!(matches!(talk.closed(), Some(CloseReason::Clean)));
}
