//! A query in, an answer or wishes out.

use super::{PUSHES_MAX, change, owned, read};
use crate::hooks::Flow;
use crate::im::testkit::{ANN, Bench, line, query, request_row, row};
use crate::iq::{IqKind, IqTable};
use crate::modules::{At, Module, Scope};
use crate::session::Sid;
use crate::session::account::{Account, RosterView};
use crate::store::{AccountRecord, RosterRow};
use std::sync::Arc;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

const BOB: &str = "bob@b.test";

/// The child of the answer to a get.
fn answered(bench: &Bench) -> Element {
    let answer = read(&query(""), &bench.roster, Some(Sid(1))).unwrap();
    assert!(answer.after.is_empty());
    assert_eq!(lines(&answer.effects), ["interested 1"]);
    answer.payload.unwrap()
}

fn lines(effects: &[crate::effect::Effect]) -> Vec<String> {
    effects.iter().map(line).collect()
}

/// The items that a get gives.
fn items(bench: &Bench) -> String {
    let answer = answered(bench);
    assert!(answer.is(ns::ROSTER, "query"));
    answer
        .children()
        .map(|item| item.to_xml(ns::ROSTER))
        .collect()
}

fn sets(bench: &Bench, items: &str) -> Vec<String> {
    let effects = change(&query(items), bench.cx(), &bench.limits);
    effects.unwrap().iter().map(line).collect()
}

/// The stored row of a set.
fn stored(bench: &Bench, items: &str) -> RosterRow {
    let effects = change(&query(items), bench.cx(), &bench.limits).unwrap();
    match effects.into_iter().next() {
        Some(crate::effect::Effect::Roster(row)) => row,
        other => panic!("no row: {other:?}"),
    }
}

fn refuses(bench: &Bench, items: &str, error: &StanzaError) {
    let refused = change(&query(items), bench.cx(), &bench.limits);
    assert_eq!(
        refused.map(|effects| effects.len()).as_ref(),
        Err(error),
        "{items}"
    );
}

fn named(contact: &str, state: &str, name: &str, groups: &[&str]) -> RosterRow {
    RosterRow {
        name: Some(name.into()),
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..row(contact, state)
    }
}

#[test]
fn c6121_ro_01_only_the_owner_reads_and_writes() {
    let record = AccountRecord {
        keys: Vec::new(),
        banned: None,
        created: 0,
    };
    let jid = BareJid::parse(ANN).unwrap();
    let account = Arc::new(Account::new(
        jid,
        Arc::new(record),
        RosterView::default(),
        Vec::new(),
    ));
    assert!(owned(At::Own, Some(&account)).is_ok());
    for account in [Some(&account), None] {
        let refused = owned(At::Other, account).map(|account| account.jid.clone());
        assert_eq!(refused, Err(StanzaError::forbidden()));
    }
}

#[test]
fn c6121_ro_01_others_are_answered_not_ignored() {
    let (mut hooks, mut iqs, mut announced) = Default::default();
    let mut errors = Vec::new();
    super::Feature.register(&mut Scope {
        module: "roster",
        hooks: &mut hooks,
        iqs: &mut iqs,
        announced: &mut announced,
        errors: &mut errors,
    });
    let iqs: IqTable = iqs;
    for kind in [IqKind::Get, IqKind::Set] {
        // The handler says forbidden to `Other`; the domain has no roster.
        let registered = iqs.get(kind, ns::ROSTER, "query").unwrap();
        assert!(registered.at.has(At::Own) && registered.at.has(At::Other));
        assert!(!registered.at.has(At::Host) && !registered.guest);
    }
}

#[test]
fn c6121_ro_02_an_item_needs_a_jid() {
    let bench = Bench::new();
    for item in [
        "<item/>",
        "<item jid=''/>",
        "<item jid='@b'/>",
        "<item name='x'/>",
    ] {
        refuses(&bench, item, &StanzaError::bad_request());
    }
    assert_eq!(
        stored(&bench, "<item jid='BOB@B.test/x'/>").jid.as_str(),
        BOB
    );
}

#[test]
fn c6121_ro_03_ask_and_approved_are_ignored() {
    let item = format!("<item jid='{BOB}' ask='subscribe' approved='true'/>");
    let row = stored(&Bench::new(), &item);
    assert!(!row.ask && !row.approved);
    let push = format!("push <item jid='{BOB}' subscription='none'/>");
    assert_eq!(sets(&Bench::new(), &item)[1], push);
}

#[test]
fn c6121_ro_04_only_remove_is_a_subscription_to_set() {
    for subscription in ["both", "to", "none", "junk"] {
        let item = format!("<item jid='{BOB}' subscription='{subscription}'/>");
        let push = format!("push <item jid='{BOB}' subscription='none'/>");
        assert_eq!(
            sets(&Bench::new(), &item),
            [format!("row {BOB} None"), push]
        );
    }
}

#[test]
fn c6121_ro_05_a_get_has_no_items() {
    let asked = read(&query("<item jid='a@b'/>"), &Bench::new().roster, None);
    assert_eq!(asked.err(), Some(StanzaError::bad_request()));
}

#[test]
fn c6121_ro_06_an_empty_roster_is_an_empty_query() {
    assert_eq!(
        answered(&Bench::new()).to_xml(ns::CLIENT),
        "<query xmlns='jabber:iq:roster' ver='0-0'/>"
    );
}

#[test]
fn c6121_ro_06_get_gives_everything_listed() {
    let bench = Bench::new()
        .with(named("a@b.test", "B", "A & co", &["x", "y"]))
        .with(row("b@b.test", "N+PO"))
        .with(row("c@b.test", "T+PI"))
        .with(request_row("d@b.test"));
    let expected = "<item jid='a@b.test' name='A &amp; co' subscription='both'>\
        <group>x</group><group>y</group></item>\
        <item jid='b@b.test' subscription='none' ask='subscribe'/>\
        <item jid='c@b.test' subscription='to'/>";
    assert_eq!(items(&bench), expected);
}

#[test]
fn c6121_ro_07_a_set_has_exactly_one_item() {
    let bench = Bench::new();
    let two = "<item jid='a@b.test'/><item jid='c@b.test'/>";
    for items in [
        "",
        two,
        "<group>x</group>",
        "<item xmlns='other' jid='a@b.test'/>",
    ] {
        refuses(&bench, items, &StanzaError::bad_request());
    }
    assert_eq!(sets(&bench, "<item jid='a@b.test'/>").len(), 2);
}

#[test]
fn c6121_ro_08_a_set_is_stored_and_pushed_to_interested_resources() {
    // `line` checks that a push goes to interested resources, each with its own address.
    let bench = Bench::new().online("r", 0).bound("s");
    let lines = sets(
        &bench,
        &format!("<item jid='{BOB}' name='B'><group>g</group></item>"),
    );
    let push =
        format!("push <item jid='{BOB}' name='B' subscription='none'><group>g</group></item>");
    assert_eq!(lines, [format!("row {BOB} None"), push]);
}

#[test]
fn c6121_ro_09_a_push_has_one_item_and_its_own_id() {
    let bench = Bench::new();
    let id = || {
        let effects = change(&query("<item jid='a@b.test'/>"), bench.cx(), &bench.limits);
        match &effects.unwrap()[1] {
            crate::effect::Effect::Local(_, _, rendered) => {
                let query = rendered.stanza().first_element().unwrap();
                assert_eq!(query.children().count(), 1);
                rendered.stanza().head.id.clone()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(id(), id());
}

#[test]
fn c6121_ro_12_names_and_groups_have_bounds() {
    let mut bench = Bench::new();
    bench.limits.roster_name_bytes_max = 3;
    bench.limits.roster_group_bytes_max = 2;
    bench.limits.roster_groups_max = 2;
    let refused = [
        (
            "",
            "<group>a</group><group>a</group>",
            StanzaError::bad_request(),
        ),
        ("name='abcd'", "", StanzaError::not_acceptable()),
        ("name='äö'", "", StanzaError::not_acceptable()),
        ("", "<group/>", StanzaError::not_acceptable()),
        ("", "<group>abc</group>", StanzaError::not_acceptable()),
        (
            "",
            "<group>a</group><group>b</group><group>c</group>",
            StanzaError::not_acceptable(),
        ),
    ];
    for (attr, groups, error) in refused {
        refuses(
            &bench,
            &format!("<item jid='{BOB}' {attr}>{groups}</item>"),
            &error,
        );
    }
    let item = format!("<item jid='{BOB}' name='abc'><group>a</group><group>ab</group></item>");
    assert_eq!(sets(&bench, &item).len(), 2);
}

#[test]
fn c6121_ro_12_items_have_a_bound() {
    let mut bench = Bench::new()
        .with(row(BOB, "N"))
        .with(request_row("cat@b.test"));
    bench.limits.roster_items_max = 1;
    let new = |jid: &str| format!("<item jid='{jid}'/>");
    refuses(
        &bench,
        &new("dan@b.test"),
        &StanzaError::resource_constraint(),
    );
    refuses(
        &bench,
        &new("cat@b.test"),
        &StanzaError::resource_constraint(),
    );
    assert_eq!(sets(&bench, &new(BOB)).len(), 2);
    bench.limits.roster_items_max = 2;
    assert_eq!(sets(&bench, &new("cat@b.test")).len(), 2);
}

#[test]
fn c6121_ro_13_a_set_replaces_name_and_groups_and_keeps_the_subscription() {
    for state in ["N", "N+PO", "N+PI", "N+POI", "T", "T+PI", "F", "F+PO", "B"] {
        let old = named(BOB, state, "Old", &["g"]);
        let bench = Bench::new().with(old.clone());
        let new = stored(&bench, &format!("<item jid='{BOB}' name='New'/>"));
        assert_eq!(new.name.as_deref(), Some("New"));
        assert!(new.groups.is_empty());
        let kept = RosterRow {
            name: old.name.clone(),
            groups: old.groups.clone(),
            ver: old.ver,
            ..new
        };
        assert_eq!(kept, old, "{state}");
    }
}

#[test]
fn c6121_ro_14_an_empty_name_is_no_name() {
    for name in ["", "name=''"] {
        let row = stored(&Bench::new(), &format!("<item jid='{BOB}' {name}/>"));
        let bench = Bench::new().with(row);
        assert_eq!(
            items(&bench),
            format!("<item jid='{BOB}' subscription='none'/>")
        );
    }
}

#[test]
fn c6121_ro_15_remove_ends_subscriptions() {
    let sent = |ty: &str| format!("route <presence to='{BOB}' from='{ANN}' type='{ty}'/>");
    let gone = format!("vanish {BOB}");
    let (leave, deny) = (sent("unsubscribe"), sent("unsubscribed"));
    let cases: [(&str, &[&String]); 9] = [
        ("N", &[]),
        ("N+PO", &[&leave]),
        ("N+PI", &[&deny]),
        ("N+POI", &[&leave, &deny]),
        ("T", &[&leave]),
        ("T+PI", &[&leave, &deny]),
        ("F", &[&gone, &deny]),
        ("F+PO", &[&leave, &gone, &deny]),
        ("B", &[&leave, &gone, &deny]),
    ];
    for (state, middle) in cases {
        let bench = Bench::new().with(row(BOB, state)).online("r", 0).bound("s");
        let lines = sets(
            &bench,
            &format!("<item jid='{BOB}' subscription='remove'/>"),
        );
        let push = format!("push <item jid='{BOB}' subscription='remove'/>");
        let mut expected = vec![format!("remove {BOB}")];
        expected.extend(middle.iter().map(|line| (*line).clone()));
        expected.push(push);
        assert_eq!(lines, expected, "{state}");
    }
}

#[test]
fn c6121_ro_16_remove_needs_an_item() {
    let item = format!("<item jid='{BOB}' subscription='remove'/>");
    refuses(&Bench::new(), &item, &StanzaError::item_not_found());
    // A request that waits is no item.
    let bench = Bench::new().with(request_row(BOB));
    refuses(&bench, &item, &StanzaError::item_not_found());
}

#[test]
fn c6121_ro_17_nobody_is_in_the_own_roster() {
    for jid in [ANN, "Ann@A.test/r"] {
        let item = format!("<item jid='{jid}'/>");
        refuses(&Bench::new(), &item, &StanzaError::not_allowed());
    }
}

#[test]
fn c6121_ro_19_set_and_subscribe_in_either_order() {
    let subscribe = format!("<presence from='{ANN}' to='{BOB}' type='subscribe'/>");
    let item = format!("<item jid='{BOB}' name='B'><group>g</group></item>");
    let row_of = |outcome: crate::im::testkit::Outcome| {
        assert_eq!(outcome.flow, Flow::Stop);
        match outcome.effects.into_iter().next() {
            Some(crate::effect::Effect::Roster(row)) => row,
            other => panic!("no row: {other:?}"),
        }
    };
    let set_first = Bench::new().with(stored(&Bench::new(), &item)).bound("r");
    let one = row_of(set_first.sends("r", &subscribe));
    let asked = row_of(Bench::new().bound("r").sends("r", &subscribe));
    let other = stored(&Bench::new().with(asked), &item);
    assert_eq!(one, other);
    assert!(one.ask);
}

/// What a client is told that comes with this version: whether the roster is whole, and pushes.
fn comes_with(bench: &Bench, ver: &str) -> (Option<String>, Vec<String>) {
    let mut query = query("");
    query.set_attr("ver", ver);
    let answer = read(&query, &bench.roster, Some(Sid(1))).unwrap();
    assert_eq!(lines(&answer.effects), ["interested 1"]);
    let vers = answer.after.iter().map(|effect| match effect {
        crate::effect::Effect::Local(_, _, rendered) => {
            let query = rendered.stanza().first_element().unwrap();
            query.attr("ver").unwrap().to_owned()
        }
        other => panic!("{other:?}"),
    });
    let pushes = vers.zip(lines(&answer.after));
    let pushes = pushes.map(|(ver, push)| format!("{ver} {push}"));
    let whole = answer
        .payload
        .map(|query| query.attr("ver").unwrap().to_owned());
    (whole, pushes.collect())
}

#[test]
fn c6121_rv_03_rv_04_rv_07_changes_since_a_version_are_pushed_behind_the_result() {
    let mut bench = Bench::new()
        .with(row("a@b.test", "N"))
        .with(row("b@b.test", "N"));
    assert_eq!(comes_with(&bench, "0-2"), (None, vec![]), "rv-03");
    bench.roster.put(row("c@b.test", "B"));
    bench.roster.remove(&BareJid::parse("a@b.test").unwrap(), 9);
    bench.roster.put(named("c@b.test", "B", "C", &["g"]));
    let pushes = vec![
        "0-4 push to 1 <item jid='a@b.test' subscription='remove'/>".to_owned(),
        "0-5 push to 1 <item jid='c@b.test' name='C' subscription='both'><group>g</group></item>"
            .to_owned(),
    ];
    assert_eq!(comes_with(&bench, "0-2"), (None, pushes));
}

#[test]
fn c6121_rv_02_rv_05_an_empty_or_unknown_version_gets_the_whole_roster() {
    let bench = Bench::new().with(row(BOB, "N"));
    for ver in ["", "junk", "0-2", "1-1"] {
        assert_eq!(comes_with(&bench, ver), (Some("0-1".to_owned()), vec![]));
    }
}

#[test]
fn c6121_rv_03_the_whole_roster_is_sent_where_it_takes_less() {
    let mut bench = Bench::new();
    for number in 0..PUSHES_MAX {
        bench.roster.put(row(&format!("c{number}@b.test"), "N"));
    }
    let (whole, pushes) = comes_with(&bench, "0-0");
    assert_eq!((whole, pushes.len()), (None, PUSHES_MAX));
    bench.roster.put(row(BOB, "N"));
    let (whole, pushes) = comes_with(&bench, "0-0");
    assert_eq!((whole.is_some(), pushes.len()), (true, 0));
}

#[test]
fn c6121_su_19_an_approval_in_advance_shows() {
    let approved = RosterRow {
        approved: true,
        ..row(BOB, "N+PO")
    };
    assert_eq!(
        items(&Bench::new().with(approved)),
        format!("<item jid='{BOB}' subscription='none' approved='true' ask='subscribe'/>")
    );
}
