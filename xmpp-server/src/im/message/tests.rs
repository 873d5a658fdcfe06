//! The delivery matrix of RFC 6121 section 8.5 as a table.

use super::class;
use crate::hooks::{Flow, Undelivered};
use crate::im::testkit::{ANN, Bench, Outcome, stanza};
use xmpp_stream::error::StanzaError;
use xmpp_stream::stanza::{Class, Ty};

const BOB: &str = "bob@b.test/x";

fn message(ty: &str, to: &str) -> String {
    let ty = if ty.is_empty() {
        String::new()
    } else {
        format!(" type='{ty}'")
    };
    format!("<message to='{to}' from='{BOB}'{ty}><body>hi</body></message>")
}

/// Who gets it: sids, `E` for an error to the sender, `S` for silence.
fn fate(outcome: &Outcome) -> String {
    assert_eq!(outcome.flow, Flow::Continue);
    let lines = outcome.lines();
    match &outcome.undelivered {
        None => {
            assert_eq!(lines.len(), 1);
            let words: Vec<_> = lines[0].split(' ').take(3).collect();
            // The recipient sees the address that the sender wrote.
            assert_eq!((words[0], words[2]), ("local", "aswritten"));
            words[1].to_owned()
        }
        Some(undelivered) => {
            assert_eq!(lines, Vec::<String>::new());
            match undelivered {
                Undelivered::Silent => "S".into(),
                Undelivered::Error(error) => {
                    assert_eq!(*error, StanzaError::service_unavailable());
                    "E".into()
                }
            }
        }
    }
}

/// One line of the matrix: fates of normal, chat, groupchat, headline, error.
#[track_caller]
fn check(bench: &Bench, resource: &str, expected: &str) {
    let to = match resource {
        "" => ANN.to_owned(),
        resource => format!("{ANN}/{resource}"),
    };
    let types = ["normal", "chat", "groupchat", "headline", "error"];
    let fates: Vec<_> = types.map(|ty| fate(&bench.gets(&message(ty, &to)))).into();
    assert_eq!(fates.join(" "), expected, "to '{resource}'");
}

#[test]
fn c6121_de_matrix_no_resources() {
    check(&Bench::new(), "", "E E E S S");
    check(&Bench::new(), "x", "E E E S S");
}

#[test]
fn c6121_de_01_negative_priority_gets_nothing_for_the_bare_jid() {
    let bench = Bench::new().online("a", -1).online("b", -128);
    check(&bench, "", "E E E S S");
    check(&bench, "b", "2 2 2 2 2");
    check(&bench, "x", "E E E S S");
}

#[test]
fn c6121_de_matrix_one_non_negative() {
    let bench = Bench::new().online("a", -1).online("b", 0);
    check(&bench, "", "2 2 E 2 S");
    check(&bench, "b", "2 2 2 2 2");
    check(&bench, "a", "1 1 1 1 1");
    check(&bench, "x", "E 2 E S S");
}

#[test]
fn c6121_de_matrix_several() {
    let bench = Bench::new()
        .online("a", 5)
        .online("b", 0)
        .online("c", 5)
        .online("d", -1);
    check(&bench, "", "1,3 1,3 E 1,2,3 S");
    check(&bench, "b", "2 2 2 2 2");
    check(&bench, "x", "E 1,3 E S S");
}

#[test]
fn c6121_de_02_to_is_not_rewritten() {
    let bench = Bench::new().online("a", 0);
    for to in [ANN.to_owned(), format!("{ANN}/a"), format!("{ANN}/gone")] {
        let lines = bench.gets(&message("chat", &to)).lines();
        assert!(
            lines[0].contains(&format!("<message to='{to}' from='{BOB}'")),
            "{lines:?}"
        );
    }
}

#[test]
fn c6121_de_03_groupchat_to_a_bare_jid_is_an_error() {
    for bench in [Bench::new(), Bench::new().online("a", 0)] {
        assert_eq!(fate(&bench.gets(&message("groupchat", ANN))), "E");
    }
}

#[test]
fn c6121_de_05_connected_only_gets_what_is_for_it() {
    let bench = Bench::new().bound("a");
    check(&bench, "", "E E E S S");
    check(&bench, "a", "1 1 1 1 1");
    let bench = bench.online("b", 0);
    assert_eq!(fate(&bench.gets(&message("chat", ANN))), "2");
}

#[test]
fn c6121_de_06_without_to_it_is_for_the_own_account() {
    let bench = Bench::new().online("a", 0).online("b", 1);
    let xml = format!("<message from='{ANN}/a' type='chat'><body>hi</body></message>");
    assert_eq!(fate(&bench.gets(&xml)), "2");
}

#[test]
fn c6121_ci_06_unknown_or_no_type_is_normal() {
    let bench = Bench::new().online("a", 0);
    for ty in ["", "foo"] {
        assert_eq!(fate(&bench.gets(&message(ty, ANN))), "1");
        assert_eq!(fate(&bench.gets(&message(ty, &format!("{ANN}/x")))), "E");
        assert_eq!(class(&stanza(&message(ty, ANN)).head.ty), Class::Message);
    }
}

#[test]
fn c6121_de_only_what_people_say_outlives_a_session() {
    let kept = |ty| class(&ty) == Class::Message;
    assert!(kept(Ty::Chat) && kept(Ty::Normal) && kept(Ty::None));
    assert!(!kept(Ty::Error) && !kept(Ty::Groupchat) && !kept(Ty::Headline));
}
