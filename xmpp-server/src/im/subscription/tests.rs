//! A subscription stanza in, wishes out.

use super::{requests, wire};
use crate::effect::Effect;
use crate::hooks::{Flow, Undelivered};
use crate::im::testkit::{ANN, Bench, Outcome, request_row, row, stanza};
use std::sync::Arc;
use xmpp_stream::error::StanzaError;
use xmpp_stream::stanza::Rendered;

const BOB: &str = "bob@b.test";

/// What a client's stanza to bob looks like at `Route`.
fn out(ty: &str) -> String {
    format!("<presence from='{ANN}' to='{BOB}' type='{ty}' id='s1'/>")
}

/// What arrives from bob.
fn inn(ty: &str) -> String {
    format!("<presence from='{BOB}' to='{ANN}' type='{ty}' id='s1'/>")
}

fn bench(state: &str) -> Bench {
    Bench::new().with(row(BOB, state)).online("r", 0)
}

/// The same with a request approved in advance.
fn approved(state: &str) -> Bench {
    let mut row = row(BOB, state);
    row.approved = true;
    Bench::new().with(row).online("r", 0)
}

fn sent(ty: &str) -> String {
    format!("route <presence to='{BOB}' from='{ANN}' id='s1' type='{ty}'/>")
}

fn got(which: &str, ty: &str) -> String {
    format!("local {which} bare kept <presence to='{ANN}' from='{BOB}' id='s1' type='{ty}'/>")
}

fn push(subscription: &str) -> String {
    format!("push <item jid='{BOB}' subscription='{subscription}'/>")
}

fn push_ask(subscription: &str) -> String {
    format!("push <item ask='subscribe' jid='{BOB}' subscription='{subscription}'/>")
}

fn gone(resource: &str) -> String {
    format!("route <presence to='{BOB}' from='{ANN}/{resource}' type='unavailable'/>")
}

fn here(resource: &str) -> String {
    format!(
        "route <presence to='{BOB}' from='{ANN}/{resource}' id='p-{resource}'>\
         <show>away</show></presence>"
    )
}

fn stops(outcome: &Outcome, lines: &[&str]) {
    outcome.check(&Flow::Stop, &lines.join("\n"));
}

fn goes_on(outcome: &Outcome, lines: &[&str]) {
    outcome.check(&Flow::Continue, &lines.join("\n"));
}

/// Ignored: nothing is wished, nobody is told.
fn ignores(outcome: &Outcome) {
    assert_eq!(outcome.lines(), Vec::<String>::new());
    assert_eq!(outcome.undelivered, Some(Undelivered::Silent));
}

#[test]
fn c6121_su_01_outbound_has_the_bare_jid() {
    let xml = format!("<presence from='{ANN}/r' to='{BOB}' type='subscribe' id='s1'/>");
    let outcome = Bench::new().online("r", 0).sends("r", &xml);
    assert!(outcome.lines().contains(&sent("subscribe")));
}

#[test]
fn c6121_su_02_full_to_becomes_bare() {
    for ty in ["subscribe", "unsubscribe"] {
        let xml = format!("<presence from='{ANN}' to='{BOB}/x' type='{ty}' id='s1'/>");
        let outcome = Bench::new().online("r", 0).sends("r", &xml);
        assert!(outcome.lines().contains(&sent(ty)));
    }
    let xml = format!("<presence from='{BOB}' to='{ANN}/x' type='subscribe' id='s1'/>");
    let outcome = Bench::new().online("r", 0).gets(&xml);
    assert!(outcome.lines().contains(&got("available", "subscribe")));
}

#[test]
fn c6121_su_02_notices_to_a_resource_that_is_not_here_are_ignored() {
    let xml = |to: &str| format!("<presence from='{BOB}' to='{ANN}/{to}' type='subscribed'/>");
    ignores(&bench("N+PO").gets(&xml("x")));
    let lines = bench("N+PO").gets(&xml("r")).lines();
    assert_eq!(lines[0], format!("row {BOB} To"));
}

#[test]
fn c6121_su_04_subscribe_is_routed_then_pushed() {
    let outcome = Bench::new().online("r", 0).sends("r", &out("subscribe"));
    let row = format!("row {BOB} NoneOut");
    stops(&outcome, &[&row, &sent("subscribe"), &push_ask("none")]);
    // Asked again: routed again, nothing else changes.
    stops(
        &bench("N+PO").sends("r", &out("subscribe")),
        &[&sent("subscribe")],
    );
}

#[test]
fn c6121_su_04_subscribe_needs_a_contact() {
    let bench = Bench::new().online("r", 0);
    let refused = |to: &str, error| {
        let xml = format!("<presence from='{ANN}' {to} type='subscribe'/>");
        bench.sends("r", &xml).is_refused(error);
    };
    refused("", StanzaError::bad_request());
    refused(&format!("to='{ANN}'"), StanzaError::not_allowed());
    refused(&format!("to='{ANN}/x'"), StanzaError::not_allowed());
}

#[test]
fn c6121_su_04_a_full_roster_takes_no_more_contacts() {
    let mut full = Bench::new().with(row("cat@b.test", "N")).online("r", 0);
    full.limits.roster_items_max = 1;
    full.sends("r", &out("subscribe"))
        .is_refused(StanzaError::resource_constraint());
    // Requests of others take no place in it.
    let mut free = Bench::new().with(request_row("cat@b.test")).online("r", 0);
    free.limits.roster_items_max = 1;
    assert_eq!(free.sends("r", &out("subscribe")).lines().len(), 3);
}

#[test]
fn c6121_su_05_unanswered_requests_are_repeated_at_login() {
    let lines = Bench::new()
        .with(row(BOB, "N+PO"))
        .bound("r")
        .sends("r", &format!("<presence from='{ANN}/r'/>"))
        .lines();
    let request = lines.last().unwrap();
    let head = format!("route <presence to='{BOB}' from='{ANN}' id='");
    assert!(
        request.starts_with(&head) && request.ends_with("type='subscribe'/>"),
        "{request}"
    );
}

#[test]
fn c6121_su_06_nothing_is_approved_by_itself() {
    let lines = Bench::new().online("r", 0).gets(&inn("subscribe")).lines();
    assert!(!lines.iter().any(|line| line.contains("'subscribed'")));
}

#[test]
fn c6121_su_07_a_subscriber_is_answered_for_the_account() {
    for state in ["F", "F+PO", "B"] {
        let outcome = bench(state).gets(&inn("subscribe"));
        goes_on(&outcome, &[&sent("subscribed"), &here("r")]);
        assert_eq!(outcome.undelivered, Some(Undelivered::Silent));
    }
}

#[test]
fn c6121_su_08_requests_go_to_all_available_resources() {
    let outcome = Bench::new()
        .online("r", 0)
        .online("low", -5)
        .bound("c")
        .gets(&inn("subscribe"));
    let row = format!("row {BOB} NoneIn unlisted");
    goes_on(&outcome, &[&row, &got("available", "subscribe")]);
    assert_eq!(outcome.undelivered, None);
}

#[test]
fn c6121_su_09_requests_are_kept_whole() {
    let xml = format!(
        "<presence from='{BOB}' to='{ANN}/x' type='subscribe' id='s1' xml:lang='de'>\
         <status>hi &amp; ho</status><nick xmlns='http://jabber.org/protocol/nick'>B</nick>\
         </presence>"
    );
    let outcome = Bench::new().gets(&xml);
    let Effect::Roster(row) = &outcome.effects[0] else {
        panic!("{outcome:?}")
    };
    let login = Bench::new().with(row.clone());
    let (page, more) = requests(&login.jid, &login.roster, None, 50);
    let ([request], None) = (&page[..], more) else {
        panic!("one request")
    };
    let kept = format!(
        "<presence to='{ANN}' from='{BOB}' id='s1' type='subscribe' \
         xml:lang='de'><status>hi &amp; ho</status>\
         <nick xmlns='http://jabber.org/protocol/nick'>B</nick></presence>"
    );
    assert_eq!(request.stanza().to_xml(), kept);
}

#[test]
fn c6121_su_09_one_request_per_requester() {
    let bench = Bench::new().with(request_row(BOB));
    ignores(&bench.gets(&inn("subscribe")));
}

#[test]
fn c6121_su_09_requests_are_drawn_page_by_page() {
    let mut bench = Bench::new().with(row("friend@b.test", "B"));
    for number in 0..5 {
        bench = bench.with(request_row(&format!("u{number}@b.test")));
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let (page, last) = requests(&bench.jid, &bench.roster, after.as_ref(), 2);
        assert!(page.len() <= 2);
        let from = |request: &Arc<Rendered>| request.stanza().head.from.clone().unwrap();
        seen.extend(page.iter().map(|request| from(request).as_str().to_owned()));
        after = last;
        if after.is_none() {
            break;
        }
    }
    let want: Vec<_> = (0..5).map(|number| format!("u{number}@b.test")).collect();
    assert_eq!(seen, want);
}

#[test]
fn c6121_su_10_a_request_is_no_roster_item() {
    assert!(!request_row(BOB).is_listed());
    for state in ["N", "N+PO", "N+PI", "N+POI", "T", "T+PI", "F", "F+PO", "B"] {
        let mut row = row(BOB, state);
        assert!(row.is_listed(), "{state}");
        row.name = None;
        assert_eq!(row.is_listed(), state != "N+PI", "{state} without a name");
    }
    // An item that is there stays when its contact asks.
    let mut old = row(BOB, "N");
    old.name = None;
    let lines = Bench::new()
        .with(old)
        .online("r", 0)
        .gets(&inn("subscribe"))
        .lines();
    assert_eq!(lines[0], format!("row {BOB} NoneIn"));
}

#[test]
fn c6121_su_11_approval() {
    let outcome = Bench::new()
        .with(request_row(BOB))
        .online("r", 0)
        .bound("c")
        .online("s", -1)
        .sends("c", &out("subscribed"));
    let row = format!("row {BOB} From");
    stops(
        &outcome,
        &[
            &row,
            &sent("subscribed"),
            &push("from"),
            &here("r"),
            &here("s"),
        ],
    );
    let outcome = bench("T+PI").sends("r", &out("subscribed"));
    let row = format!("row {BOB} Both");
    stops(
        &outcome,
        &[&row, &sent("subscribed"), &push("both"), &here("r")],
    );
}

#[test]
fn c6121_su_19_approval_in_advance() {
    // The nine states: ignored, approved as usual, noted.
    for state in ["F", "F+PO", "B"] {
        stops(&bench(state).sends("r", &out("subscribed")), &[]);
    }
    for (state, next) in [("N+PI", "From"), ("N+POI", "FromOut"), ("T+PI", "Both")] {
        let lines = bench(state).sends("r", &out("subscribed")).lines();
        assert_eq!(
            lines[..2],
            [format!("row {BOB} {next}"), sent("subscribed")]
        );
    }
    let item = |attrs: &str| format!("push <item approved='true' {attrs}/>");
    let none = item(&format!("jid='{BOB}' subscription='none'"));
    let asked = item(&format!("ask='subscribe' jid='{BOB}' subscription='none'"));
    let to = item(&format!("jid='{BOB}' subscription='to'"));
    for (state, next, push) in [
        ("N", "None", &none),
        ("N+PO", "NoneOut", &asked),
        ("T", "To", &to),
    ] {
        let row = format!("row {BOB} {next} approved");
        stops(&bench(state).sends("r", &out("subscribed")), &[&row, push]);
        stops(&approved(state).sends("r", &out("subscribed")), &[]);
    }
    // Not in the roster: an item is made.
    let row = format!("row {BOB} None approved");
    let outcome = Bench::new().online("r", 0).sends("r", &out("subscribed"));
    stops(&outcome, &[&row, &none]);
}

#[test]
fn c6121_su_19_an_item_made_by_an_approval_counts() {
    let mut bench = Bench::new().with(row("eve@b.test", "N")).online("r", 0);
    bench.limits.roster_items_max = 1;
    let refused = StanzaError::resource_constraint();
    bench.sends("r", &out("subscribed")).is_refused(refused);
}

#[test]
fn c6121_su_20_a_request_that_is_approved_is_answered_and_not_shown() {
    for (state, next, push) in [
        ("N", "From", push("from")),
        ("N+PO", "FromOut", push_ask("from")),
        ("T", "Both", push("both")),
    ] {
        let outcome = approved(state).gets(&inn("subscribe"));
        let row = format!("row {BOB} {next}");
        let lines = [&*row, &push, &sent("subscribed"), &here("r")];
        goes_on(&outcome, &lines);
        assert_eq!(outcome.undelivered, Some(Undelivered::Silent));
    }
}

#[test]
fn c6121_su_20_an_approval_lasts_until_it_is_used() {
    // Our own request, its answers and its end leave it.
    let row = |state| format!("row {BOB} {state} approved");
    let check = |outcome: &Outcome, state| assert_eq!(outcome.lines()[0], row(state));
    check(&approved("N").sends("r", &out("subscribe")), "NoneOut");
    check(&approved("N+PO").gets(&inn("subscribed")), "To");
    check(&approved("N+PO").gets(&inn("unsubscribed")), "None");
    check(&approved("T").gets(&inn("unsubscribed")), "None");
    check(&approved("T").sends("r", &out("unsubscribe")), "None");
}

#[test]
fn c6121_su_21_taking_back_an_approval_is_not_routed() {
    for (state, next, push) in [
        ("N", "None", push("none")),
        ("N+PO", "NoneOut", push_ask("none")),
        ("T", "To", push("to")),
    ] {
        let row = format!("row {BOB} {next}");
        stops(
            &approved(state).sends("r", &out("unsubscribed")),
            &[&row, &push],
        );
    }
}

#[test]
fn c6121_su_12_inbound_subscribed_needs_a_request() {
    let row = format!("row {BOB} To");
    let lines = [&*row, &got("interested", "subscribed"), &push("to")];
    goes_on(&bench("N+PO").gets(&inn("subscribed")), &lines);
    let row = format!("row {BOB} Both");
    let lines = [&*row, &got("interested", "subscribed"), &push("both")];
    goes_on(&bench("F+PO").gets(&inn("subscribed")), &lines);
    for state in ["N", "N+PI", "T", "T+PI", "F", "B"] {
        ignores(&bench(state).gets(&inn("subscribed")));
    }
    ignores(&Bench::new().online("r", 0).gets(&inn("subscribed")));
}

#[test]
fn c6121_su_13_cancelling_says_unavailable_first() {
    let outcome = bench("B")
        .online("s", -1)
        .bound("c")
        .sends("c", &out("unsubscribed"));
    let row = format!("row {BOB} To");
    let lines = [
        &*row,
        &gone("r"),
        &gone("s"),
        &sent("unsubscribed"),
        &push("to"),
    ];
    stops(&outcome, &lines);
}

#[test]
fn c6121_su_13_denying_says_nothing_of_presence() {
    // Not in the roster: the record goes, and there is nothing to push.
    let bench_in = Bench::new().with(request_row(BOB)).online("r", 0);
    let remove = format!("remove {BOB}");
    stops(
        &bench_in.sends("r", &out("unsubscribed")),
        &[&remove, &sent("unsubscribed")],
    );
    // In the roster: it stays there.
    let row = format!("row {BOB} None");
    stops(
        &bench("N+PI").sends("r", &out("unsubscribed")),
        &[&row, &sent("unsubscribed")],
    );
    for state in ["N", "N+PO", "T"] {
        stops(&bench(state).sends("r", &out("unsubscribed")), &[]);
    }
}

#[test]
fn c6121_su_14_inbound_unsubscribed() {
    for (state, next, subscription) in [("T", "None", "none"), ("B", "From", "from")] {
        let row = format!("row {BOB} {next}");
        let lines = [
            &*row,
            &got("interested", "unsubscribed"),
            &push(subscription),
        ];
        goes_on(&bench(state).gets(&inn("unsubscribed")), &lines);
    }
    // A denied request is no longer asked for.
    let row = format!("row {BOB} None");
    let lines = [&*row, &got("interested", "unsubscribed"), &push("none")];
    goes_on(&bench("N+PO").gets(&inn("unsubscribed")), &lines);
    for state in ["N", "N+PI", "F"] {
        ignores(&bench(state).gets(&inn("unsubscribed")));
    }
}

#[test]
fn c6121_su_15_outbound_unsubscribe() {
    for (state, next, subscription) in [("T", "None", "none"), ("B", "From", "from")] {
        let row = format!("row {BOB} {next}");
        let lines = [&*row, &sent("unsubscribe"), &push(subscription)];
        stops(&bench(state).sends("r", &out("unsubscribe")), &lines);
    }
    stops(
        &bench("F").sends("r", &out("unsubscribe")),
        &[&sent("unsubscribe")],
    );
}

#[test]
fn c6121_su_16_inbound_unsubscribe() {
    for (state, next, subscription) in [("F", "None", "none"), ("B", "To", "to")] {
        let row = format!("row {BOB} {next}");
        let got = got("interested", "unsubscribe");
        let lines = [
            &*row,
            &got,
            &push(subscription),
            &gone("r"),
            &sent("unsubscribed"),
        ];
        goes_on(&bench(state).gets(&inn("unsubscribe")), &lines);
    }
    for state in ["N", "N+PO", "T"] {
        ignores(&bench(state).gets(&inn("unsubscribe")));
    }
}

#[test]
fn c6121_su_16_a_withdrawn_request_is_dropped() {
    let outcome = Bench::new()
        .with(request_row(BOB))
        .gets(&inn("unsubscribe"));
    let remove = format!("remove {BOB}");
    let lines = [
        &*remove,
        &got("interested", "unsubscribe"),
        &sent("unsubscribed"),
    ];
    goes_on(&outcome, &lines);
    let row = format!("row {BOB} To");
    let lines = [
        &*row,
        &got("interested", "unsubscribe"),
        &sent("unsubscribed"),
    ];
    goes_on(&bench("T+PI").gets(&inn("unsubscribe")), &lines);
}

#[test]
fn c6121_su_17_nobody_online_changes_state_all_the_same() {
    let lines = Bench::new()
        .with(row(BOB, "N+PO"))
        .gets(&inn("subscribed"))
        .lines();
    assert_eq!(lines[0], format!("row {BOB} To"));
}

#[test]
fn c6121_su_22_kept_requests_are_bounded_in_number() {
    let mut bench = Bench::new()
        .with(request_row("cat@b.test"))
        .with(row("dan@b.test", "T+PI"))
        .online("r", 0);
    bench.limits.pending_requests_max = 2;
    ignores(&bench.gets(&inn("subscribe")));
    bench.limits.pending_requests_max = 3;
    assert_eq!(bench.gets(&inn("subscribe")).lines().len(), 2);
}

#[test]
fn c6121_su_22_kept_requests_are_bounded_in_size() {
    let mut bench = Bench::new().online("r", 0);
    let size = wire(&stanza(&inn("subscribe"))).len();
    bench.limits.pending_request_bytes_max = size;
    assert_eq!(bench.gets(&inn("subscribe")).lines().len(), 2);
    assert_eq!(bench.sends("r", &out("subscribe")).lines().len(), 3);
    bench.limits.pending_request_bytes_max = size - 1;
    ignores(&bench.gets(&inn("subscribe")));
    bench
        .sends("r", &out("subscribe"))
        .is_refused(StanzaError::policy_violation());
}

#[test]
fn c6121_pr_14_losing_sight_clears_directed_presence() {
    let bench = bench("F").directed("bob@b.test/x").directed("cat@b.test");
    let lines = bench.sends("r", &out("unsubscribed")).lines();
    let told = "directed 1 bob@b.test/x off".to_owned();
    assert_eq!(lines[1..3], [gone("r"), told]);
    assert!(!lines.iter().any(|line| line.contains("cat@")));
}

#[test]
fn c6121_su_12_nothing_comes_from_oneself() {
    let xml = format!("<presence from='{ANN}' to='{ANN}' type='subscribe'/>");
    ignores(&Bench::new().online("r", 0).gets(&xml));
}
