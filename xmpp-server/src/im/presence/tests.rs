//! Presence in, wishes out.

use crate::hooks::{Flow, Undelivered};
use crate::im::testkit::{ANN, Bench, Outcome, row};
use xmpp_stream::error::StanzaError;

const BOB: &str = "bob@b.test";
const CAT: &str = "cat@b.test";

/// bob sees ann and ann sees bob; cat sees ann; dan is seen by ann; eve is nobody's.
fn bench() -> Bench {
    Bench::new()
        .with(row(BOB, "B"))
        .with(row(CAT, "F"))
        .with(row("dan@b.test", "T"))
        .with(row("eve@b.test", "N"))
}

fn stops(outcome: &Outcome, lines: &[&str]) {
    outcome.check(&Flow::Stop, &lines.join("\n"));
}

fn goes_on(outcome: &Outcome, lines: &[&str]) {
    outcome.check(&Flow::Continue, &lines.join("\n"));
}

fn sends(bench: &Bench, resource: &str, rest: &str) -> Outcome {
    bench.sends(
        resource,
        &format!("<presence from='{ANN}/{resource}' {rest}"),
    )
}

/// A directed presence, and where it goes on to.
fn directs(bench: &Bench, to: &str, ty: &str) -> Outcome {
    sends(bench, "r", &format!("to='{to}' {ty}/>"))
}

const FRIENDS: &str = "bob@b.test,cat@b.test";

#[test]
fn c6121_pr_01_pr_02_pr_03_initial_presence() {
    let bench = bench().bound("r").online("s", 0).bound("c");
    let sent = format!("<presence from='{ANN}/r' id='i'><show>xa</show></presence>");
    let outcome = sends(&bench, "r", "id='i'><show>xa</show></presence>");
    let sibling = format!("<presence from='{ANN}/s' id='p-s'><show>away</show></presence>");
    let probe = |to: &str| format!("route <presence to='{to}' from='{ANN}/r' type='probe'/>");
    let lines = [
        format!("online 1 {sent}"),
        format!("local available bare {sent}"),
        format!("fan {FRIENDS} {sent}"),
        format!("local 1 bare {sibling}"),
        probe(BOB),
        probe("dan@b.test"),
    ];
    outcome.check(&Flow::Stop, &lines.join("\n"));
}

#[test]
fn c6121_pr_01_nobody_to_tell() {
    let lines = sends(&Bench::new().bound("r"), "r", "/>").lines();
    let sent = format!("<presence from='{ANN}/r'/>");
    assert_eq!(
        lines,
        [
            format!("online 1 {sent}"),
            format!("local available bare {sent}")
        ]
    );
}

#[test]
fn c6121_pr_05_updates_are_broadcast_without_probes() {
    let bench = bench().online("r", 0).online("s", 0);
    let sent = format!("<presence from='{ANN}/r'><show>dnd</show><x xmlns='u'/></presence>");
    let outcome = sends(&bench, "r", "><show>dnd</show><x xmlns='u'/></presence>");
    let lines = [
        format!("online 1 {sent}"),
        format!("local available bare {sent}"),
        format!("fan {FRIENDS} {sent}"),
    ];
    outcome.check(&Flow::Stop, &lines.join("\n"));
}

#[test]
fn c6121_pr_06_a_lost_session_is_announced() {
    let bench = bench()
        .online("s", 0)
        .online("r", 0)
        .directed("room@m.test/n");
    let gone = |to: &str| format!("<presence {to}from='{ANN}/r' type='unavailable'/>");
    let lines = [
        format!("local available bare {}", gone("")),
        "offline 2".to_owned(),
        format!("fan {FRIENDS} {}", gone("")),
        "directed 2 room@m.test/n off".to_owned(),
        format!("route {}", gone("to='room@m.test/n' ")),
    ];
    bench.ended("r").check(&Flow::Stop, &lines.join("\n"));
}

#[test]
fn c6121_pr_06_a_session_that_was_never_available_ends_in_silence() {
    stops(&bench().bound("r").ended("r"), &[]);
    stops(
        &sends(&bench().bound("r"), "r", "type='unavailable'/>"),
        &[],
    );
}

#[test]
fn c6121_pr_07_the_clients_own_words_go_out() {
    let bench = bench().online("r", 0);
    let outcome = sends(
        &bench,
        "r",
        "type='unavailable' id='u'><status>bye</status></presence>",
    );
    let sent = format!(
        "<presence from='{ANN}/r' id='u' type='unavailable'><status>bye</status></presence>"
    );
    let own = format!("local available bare {sent}");
    // Before it takes effect: the session itself is to get it.
    stops(
        &outcome,
        &[&own, "offline 1", &format!("fan {FRIENDS} {sent}"), "left"],
    );
}

#[test]
fn c6121_pr_08_available_again_is_initial_presence() {
    // A session that went unavailable has no presence, as one just bound.
    let count = |bench: &Bench| {
        let lines = sends(bench, "r", "/>").lines();
        lines.iter().filter(|line| line.contains("'probe'")).count()
    };
    assert_eq!(count(&bench().bound("r")), 2);
    assert_eq!(count(&bench().online("r", 0)), 0);
}

#[test]
fn c6121_pr_09_unavailable_has_no_show_or_priority() {
    let inner = "<show>away</show><status>x</status><priority>300</priority>\
                 <show xmlns='u'>kept</show>";
    let rest = format!("type='unavailable'>{inner}</presence>");
    let lines = sends(&bench().online("r", 0), "r", &rest).lines();
    let expected = format!(
        "local available bare <presence from='{ANN}/r' type='unavailable'>\
         <status>x</status><show xmlns='u'>kept</show></presence>"
    );
    assert_eq!(lines[0], expected);
}

#[test]
fn c6121_pr_10_directed_to_a_subscriber_changes_no_list() {
    let bench = bench().online("r", 0);
    for to in [BOB, "cat@b.test/x", ANN, "ann@a.test/other"] {
        goes_on(&directs(&bench, to, ""), &[]);
        goes_on(&directs(&bench, to, "type='unavailable'"), &[]);
    }
}

#[test]
fn c6121_pr_11_directed_to_others_is_remembered() {
    let bench = bench().online("r", 0);
    for to in ["room@m.test/n", "dan@b.test", "eve@b.test/x", "m.test"] {
        goes_on(&directs(&bench, to, ""), &[&format!("directed 1 {to} on")]);
    }
    let bench = bench.directed("room@m.test/n");
    goes_on(&directs(&bench, "room@m.test/n", ""), &[]);
    // Never part of a broadcast of availability.
    let lines = sends(&bench, "r", "><show>xa</show></presence>").lines();
    assert!(
        !lines.iter().any(|line| line.contains("room@m.test")),
        "{lines:?}"
    );
}

#[test]
fn c6121_pr_11_the_list_has_a_bound() {
    let mut bench = bench().online("r", 0).directed("room@m.test/n");
    bench.limits.directed_max = 1;
    directs(&bench, "eve@b.test", "").is_refused(StanzaError::resource_constraint());
    goes_on(&directs(&bench, "room@m.test/n", ""), &[]);
    goes_on(&directs(&bench, BOB, ""), &[]);
}

#[test]
fn c6121_pr_12_directed_without_initial_presence() {
    let bench = bench().bound("r");
    for to in ["room@m.test/n", BOB] {
        goes_on(&directs(&bench, to, ""), &[&format!("directed 1 {to} on")]);
    }
    // No broadcast is owed, so subscribers on the list are told one by one.
    let bench = bench.directed("room@m.test/n").directed(BOB);
    let gone = |to: &str| format!("route <presence to='{to}' from='{ANN}/r' type='unavailable'/>");
    let lines = [
        format!("directed 1 {BOB} off"),
        gone(BOB),
        "directed 1 room@m.test/n off".to_owned(),
        gone("room@m.test/n"),
    ];
    bench.ended("r").check(&Flow::Stop, &lines.join("\n"));
}

#[test]
fn c6121_pr_13_directed_unavailable_clears_the_list() {
    let bench = bench().online("r", 0).directed("room@m.test/n");
    let off = ["directed 1 room@m.test/n off"];
    goes_on(
        &directs(&bench, "room@m.test/n", "type='unavailable'"),
        &off,
    );
    // So does unavailable presence of the other side: of that address, to that session or to all.
    let from = |from: &str, to: &str| {
        let xml = format!("<presence from='{from}' to='{to}' type='unavailable'/>");
        bench
            .gets(&xml)
            .lines()
            .first()
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(from("room@m.test/n", ANN), off[0]);
    assert_eq!(from("room@m.test/n", &format!("{ANN}/r")), off[0]);
    assert!(from("room@m.test/other", ANN).starts_with("local"));
    assert_eq!(from("room@m.test/n", &format!("{ANN}/x")), "");
}

#[test]
fn c6121_pr_14_subscribers_on_the_list_are_told_once() {
    let bench = bench().online("r", 0).directed("bob@b.test/x");
    let lines = bench.ended("r").lines();
    assert!(lines.contains(&"directed 1 bob@b.test/x off".to_owned()));
    assert!(
        !lines.iter().any(|line| line.starts_with("route")),
        "{lines:?}"
    );
}

#[test]
fn c6121_pr_15_any_show_passes() {
    for show in ["away", "junk", "", "<b/>"] {
        let rest = format!("><show>{show}</show><show/></presence>");
        let outcome = sends(&bench().online("r", 0), "r", &rest);
        assert_eq!(
            (outcome.flow, outcome.effects.len()),
            (Flow::Stop, 3),
            "{show}"
        );
    }
}

#[test]
fn c6121_pr_16_priority_is_a_signed_byte() {
    let send = |text: &str| {
        let rest = format!("><priority>{text}</priority></presence>");
        sends(&bench().bound("r"), "r", &rest)
    };
    for text in ["-128", "0", "127", " 5 ", "+5"] {
        assert_eq!(send(text).flow, Flow::Stop, "{text}");
    }
    for text in [
        "-129",
        "128",
        "200",
        "",
        "high",
        "1.5",
        "99999999999999999999",
    ] {
        send(text).is_refused(StanzaError::bad_request());
    }
}

#[test]
fn c6121_pr_17_unknown_types_are_refused() {
    let bench = bench().online("r", 0);
    for ty in ["available", "invisible", "get", "chat"] {
        for to in ["", "to='bob@b.test'"] {
            let outcome = sends(&bench, "r", &format!("{to} type='{ty}'/>"));
            outcome.is_refused(StanzaError::bad_request());
        }
        let xml = format!("<presence from='{BOB}' to='{ANN}' type='{ty}'/>");
        bench.gets(&xml).is_refused(StanzaError::bad_request());
    }
}

#[test]
fn c6121_pr_04_inbound_goes_to_all_available_resources() {
    let bench = bench().online("r", -1).online("s", 0).bound("c");
    for ty in ["", " type='unavailable'"] {
        let local = |which: &str, to: &str| {
            format!("local {which} aswritten <presence to='{to}' from='{BOB}/x'{ty}/>")
        };
        let gets = |to: &str| bench.gets(&format!("<presence from='{BOB}/x' to='{to}'{ty}/>"));
        goes_on(&gets(ANN), &[&local("available", ANN)]);
        let full = format!("{ANN}/c");
        goes_on(&gets(&full), &[&local("3", &full)]);
        let gone = gets(&format!("{ANN}/gone"));
        goes_on(&gone, &[]);
        assert_eq!(gone.undelivered, Some(Undelivered::Silent));
    }
}

#[test]
fn c6121_pr_18_nobody_online_drops_it() {
    let outcome = bench()
        .bound("c")
        .gets(&format!("<presence from='{BOB}/x' to='{ANN}'/>"));
    goes_on(&outcome, &[]);
    assert_eq!(outcome.undelivered, Some(Undelivered::Silent));
}

#[test]
fn c6121_su_03_an_error_to_a_subscription_request_arrives() {
    // The request was sent from the bare JID, so its error comes back to that.
    let xml = format!("<presence from='{BOB}' to='{ANN}' type='error'/>");
    let expected =
        format!("local available aswritten kept <presence to='{ANN}' from='{BOB}' type='error'/>");
    goes_on(&bench().online("r", 0).gets(&xml), &[&expected]);
}

#[test]
fn c6121_pr_errors_go_to_the_resource_they_are_for() {
    let bench = bench().online("r", 0).online("s", 0);
    let gets = |to: &str| bench.gets(&format!("<presence from='{BOB}' to='{to}' type='error'/>"));
    let full = format!("{ANN}/r");
    let expected =
        format!("local 1 aswritten kept <presence to='{full}' from='{BOB}' type='error'/>");
    goes_on(&gets(&full), &[&expected]);
    let outcome = gets("ann@a.test/gone");
    goes_on(&outcome, &[]);
    assert_eq!(outcome.undelivered, Some(Undelivered::Silent));
}

#[test]
fn c6121_pr_presence_of_rooms_is_not_coalesced() {
    let xml = format!(
        "<presence from='room@m.test/n' to='{ANN}/r'>\
         <x xmlns='http://jabber.org/protocol/muc#user'/></presence>"
    );
    let lines = bench().online("r", 0).gets(&xml).lines();
    assert!(lines[0].starts_with("local 1 aswritten kept "), "{lines:?}");
}

fn probe(bench: &Bench, from: &str, to: &str) -> Vec<String> {
    let outcome = bench.gets(&format!(
        "<presence from='{from}' to='{to}' type='probe' id='q'/>"
    ));
    // Whoever asks, no client sees the question.
    assert_eq!(outcome.flow, Flow::Stop);
    outcome.lines()
}

fn unsubscribed(to: &str) -> String {
    format!("route <presence to='{to}' from='{ANN}' id='q' type='unsubscribed'/>")
}

#[test]
fn c6121_pr_19_strangers_learn_nothing_from_probes() {
    let bench = bench().online("r", 0).directed("room@m.test/n");
    for stranger in [
        "x@b.test",
        "dan@b.test",
        "eve@b.test/y",
        "room@m.test/other",
    ] {
        for to in [ANN, "ann@a.test/r", "ann@a.test/none"] {
            assert_eq!(probe(&bench, stranger, to), [unsubscribed(stranger)]);
        }
        // The same as if nobody were here.
        assert_eq!(
            probe(&Bench::new(), stranger, ANN),
            [unsubscribed(stranger)]
        );
    }
}

#[test]
fn c6121_pr_probe_answers_with_every_presence() {
    let bench = bench().online("r", 0).bound("c").online("s", -1);
    for prober in [BOB, "bob@b.test/x", CAT, "ann@a.test/c"] {
        let has = |resource: &str| {
            format!(
                "route <presence to='{prober}' from='{ANN}/{resource}' id='p-{resource}'>\
                 <show>away</show></presence>"
            )
        };
        assert_eq!(probe(&bench, prober, ANN), [has("r"), has("s")]);
    }
}

#[test]
fn c6121_pr_probe_of_somebody_offline() {
    let gone = |from: &str| {
        format!("route <presence to='{BOB}' from='{from}' id='q' type='unavailable'/>")
    };
    assert_eq!(probe(&bench().bound("c"), BOB, ANN), [gone(ANN)]);
    for resource in ["ann@a.test/c", "ann@a.test/none"] {
        assert_eq!(probe(&bench().bound("c"), BOB, resource), [gone(resource)]);
    }
}

#[test]
fn c6121_pr_probe_of_somebody_offline_says_since_when() {
    let mut bench = bench().bound("c");
    bench.left = Some(1_000_000_000);
    let since = "<delay xmlns='urn:xmpp:delay' stamp='2001-09-09T01:46:40.000Z'/>";
    let gone = format!(
        "route <presence to='{BOB}' from='{ANN}' id='q' type='unavailable'>{since}</presence>"
    );
    assert_eq!(probe(&bench, BOB, ANN), [gone]);
    assert_eq!(
        probe(&bench, "eve@b.test", ANN),
        [unsubscribed("eve@b.test")]
    );
}

#[test]
fn im_la_01_only_the_end_of_the_last_available_resource_counts() {
    let bye = "type='unavailable'/>";
    let notes = |bench: &Bench| sends(bench, "r", bye).lines().contains(&"left".to_owned());
    assert!(notes(&bench().online("r", 0)));
    assert!(notes(&bench().online("r", 0).bound("c")));
    assert!(!notes(&bench().online("r", 0).online("s", -1)));
    assert!(!notes(&bench().bound("r").directed("room@m.test/n")));
    assert!(
        bench()
            .online("r", 0)
            .ended("r")
            .lines()
            .contains(&"left".to_owned())
    );
}

#[test]
fn c6121_pr_probe_of_a_full_jid_tells_of_that_resource_only() {
    let bench = bench().online("r", 0).online("s", 0);
    let here = format!("route <presence to='{BOB}' from='{ANN}/s' id='q'/>");
    assert_eq!(probe(&bench, BOB, "ann@a.test/s"), [here]);
}

#[test]
fn c6121_pr_probe_by_a_target_of_directed_presence() {
    let bench = bench()
        .online("s", 0)
        .online("r", 0)
        .directed("room@m.test/n")
        .directed("eve@b.test");
    let here = |to: &str| format!("route <presence to='{to}' from='{ANN}/r' id='q'/>");
    for prober in ["room@m.test/n", "eve@b.test", "eve@b.test/x"] {
        for to in [ANN, "ann@a.test/r"] {
            assert_eq!(probe(&bench, prober, to), [here(prober)]);
        }
        assert_eq!(
            probe(&bench, prober, "ann@a.test/s"),
            [unsubscribed(prober)]
        );
    }
}

#[test]
fn c6121_pr_03_a_clients_probe_is_passed_on() {
    let bench = bench().online("r", 0);
    goes_on(&directs(&bench, BOB, "type='probe'"), &[]);
    stops(&sends(&bench, "r", "type='probe'/>"), &[]);
    goes_on(&directs(&bench, BOB, "type='error'"), &[]);
    stops(&sends(&bench, "r", "type='error'/>"), &[]);
}
