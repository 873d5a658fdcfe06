//! Scripts that parse, mistakes with their places, and that no text panics or takes long.

use super::*;
use crate::lab::Variant;
use crate::script::model::{Certificate, OddKind, Order};
use proptest::prelude::*;

const CAST: &str = "[Client] Romeo\n\tjid: romeo@a.test/x\n\tpassword: p\n\
                    [Client] Romeo's phone\n\tjid: romeo@a.test\n\tpassword: p\n\
                    [Raw] Eve\n\tdomain: a.test\n";

fn script(steps: &str) -> Script {
    parse_text("t.scs", &format!("{CAST}{steps}")).expect("a script")
}

#[track_caller]
fn wrong(text: &str, expected: &str) {
    let error = parse_text("t.scs", text).expect_err("a mistake");
    assert_eq!(error.to_string(), expected);
}

/// With the cast in front, whose eight lines are not counted.
#[track_caller]
fn wrong_step(text: &str, expected: &str) {
    let mut error = parse_text("t.scs", &format!("{CAST}{text}")).expect_err("a mistake");
    error.at.line -= 8;
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_script_has_title_tags_cast_and_steps() {
    let text = "# Title\n# More\n## slow\n## pending: not yet\n// comment\n[Client] Romeo\n\tjid: r@a.test/x\n\
                \tpassword: p w\n-----\nRomeo connects\n-- comment\nRomeo sends:\n\t<presence/>\n";
    let script = parse_text("t.scs", text).expect("a script");
    assert_eq!(script.title, "Title");
    assert_eq!(script.tags, ["slow", "pending: not yet"]);
    assert_eq!(script.pending(), Some("not yet"));
    let romeo = &script.cast[0];
    assert_eq!(romeo.jid.as_deref(), Some("r@a.test"));
    assert_eq!(romeo.resource.as_deref(), Some("x"));
    assert_eq!(romeo.password.as_deref(), Some("p w"));
    assert_eq!(script.steps.len(), 2);
    assert_eq!(script.steps[1].at.to_string(), "t.scs:12:1");
}

#[test]
fn the_longest_name_is_meant() {
    let script = script("Romeo's phone connects\nRomeo connects\n");
    let who: Vec<_> = script.steps.iter().map(|step| step.who).collect();
    assert_eq!(who, [Some(1), Some(0)]);
}

#[test]
fn verbs_have_their_forms() {
    let forms = [
        "Romeo sends\n\t<presence/>",
        "Romeo sends: <presence/>",
        "Romeo receives: nothing",
        "Romeo receives\n\t<presence/>",
        "Romeo receives within 2s in any order:\n\t<presence/>\n\t<message/>",
        "Romeo receives next: <presence/>",
        "Romeo never receives:\n\t<presence/>",
        "Romeo cannot connect",
        "Romeo cannot connect: not-authorized",
        "Romeo expects stream error conflict",
        "Romeo expects end",
        "Romeo receives end",
        "Romeo drop link",
        "Romeo cut at byte 12",
        "Eve opens stream",
        "Eve sends:\n\t<not <xml",
        "Eve sends bytes: \\x00\\n",
        "restart server",
        "kill server",
        "advance 5 minutes",
        "kick ${Romeo's full JID}",
        "ban romeo@a.test",
    ];
    for form in forms {
        assert_eq!(script(&format!("{form}\n")).steps.len(), 1, "{form}");
    }
    let action = |text: &str| script(text).steps.remove(0).action;
    let Action::Receives(it) = action("Romeo receives within 300ms in any order: <a/>\n") else {
        panic!("receives");
    };
    assert_eq!(it.within, Some(Duration::from_millis(300)));
    assert_eq!(it.order, Order::Any);
    let Action::Receives(it) = action("## in order\nRomeo receives: <a/>\n") else {
        panic!("receives");
    };
    assert_eq!(it.order, Order::Next);
    let Action::SendsBytes(bytes) = action("Eve sends bytes:\n\ta\\s\\x7F\n\t\\\\b\\n\n") else {
        panic!("bytes");
    };
    assert_eq!(bytes, b"a \x7f\\b\n");
}

#[test]
fn mistakes_name_their_place() {
    wrong(
        "[Client] Romeo\n\tjid: @\n",
        "t.scs:2:7: \"@\" is no address: the local part of the address is empty, too long or not allowed",
    );
    wrong(
        "[Client] Romeo\n\tpassword: p\n",
        "t.scs:1:1: Romeo needs `jid: local@domain`",
    );
    wrong(
        "[Client] Romeo\n\tjid: a@b\n",
        "t.scs:1:1: Romeo needs a password",
    );
    wrong(
        "[Robot] R\n",
        "t.scs:1:1: [robot] is unknown; there are Client, Raw, Server and Component",
    );
    wrong(
        "\t<a/>\n",
        "t.scs:1:1: an indented line that belongs to no statement",
    );
    wrong(
        "Romeo connects\n",
        "t.scs:1:1: \"Romeo connects\" begins with no character and is no statement; no character is defined yet",
    );
    wrong(
        "include more.inc\n",
        "t.scs:1:1: more.inc cannot be included: there are no files here",
    );
    wrong(
        "cases:\n\ta | b\n\t1\n",
        "t.scs:3:1: 1 values for 2 columns",
    );
    wrong(
        "advance soon\n",
        "t.scs:1:1: \"soon\" is no time; write 300ms, 2s, 5m or 1h",
    );
    wrong_step(
        "Romeo dances\n",
        "t.scs:1:7: \"dances\" is nothing that a character does",
    );
    wrong_step("Romeo sends:\n", "t.scs:1:1: an indented block is missing");
    wrong_step(
        "Romeo connects\n\t<a/>\n",
        "t.scs:2:1: this statement has no lines below it",
    );
    wrong_step(
        "Romeo cuts at byte x\n",
        "t.scs:1:7: \"x\" is no number of bytes",
    );
    wrong_step(
        "Romeo receives soon: <a/>\n",
        "t.scs:1:7: \"soon\" is not known behind `receives`; `within TIME`, `next`, `in any order` and `among others` are",
    );
    wrong_step("Eve sends bytes: \\q\n", "t.scs:1:1: \\q is no escape");
    wrong_step(
        "Romeo sends:\n\t<message to='${Tybalt's JID}'/>\n",
        "t.scs:2:15: ${Tybalt's JID} stands for nothing",
    );
    let place = |text: &str| {
        let error = parse_text("t.scs", &format!("{CAST}{text}")).expect_err("a mistake");
        (error.at.line - 8, error.at.column)
    };
    assert_eq!(place("Romeo sends:\n\t<a>\n\t\t<b></c>\n\t</a>\n").0, 3);
    assert_eq!(place("Romeo sends:\n\t<a>\n").0, 2);
    assert_eq!(place("Romeo sends: text\n"), (1, 18));
}

/// A server of a script, with these properties.
fn server(properties: &str, steps: &str) -> String {
    format!("[Server] Montague\n\tjid: b.test\n\tdomain: a.test\n{properties}{steps}")
}

#[test]
fn servers_have_what_others_have_not() {
    let by_hand = server("\tcalls: by hand\n", "Montague is called within 300ms\n");
    let by_hand = parse_text("t.scs", &by_hand).expect("a script");
    let Action::IsCalled(within) = by_hand.steps[0].action else {
        panic!("is called");
    };
    assert_eq!(within, Some(Duration::from_millis(300)));
    let shown = |value: &str| {
        let text = server(&format!("\tcertificate: {value}\n"), "");
        let script = parse_text("t.scs", &text).expect("a script");
        script.cast[0].certificate.clone()
    };
    assert_eq!(shown("good"), Certificate::Good);
    assert_eq!(shown("none"), Certificate::None);
    assert_eq!(shown("misnamed"), Certificate::Wrong(Variant::WrongName));
    let calling = Certificate::Odd(OddKind::Caller, None);
    assert_eq!(shown("calling"), calling);
    let service = Some("_xmpp-server.b.test".to_owned());
    assert_eq!(
        shown("service _xmpp-server.b.test"),
        Certificate::Odd(OddKind::Service, service)
    );
    let names = ["*.b.test".to_owned(), "c.test".to_owned()];
    assert_eq!(
        shown("for *.b.test, c.test"),
        Certificate::For(names.into())
    );
    // Who does it by hand may send what is no XML, and nobody else.
    let header = "Montague sends:\n\t<stream:stream to='${Montague's key}'>\n";
    for properties in ["\tcalls: by hand\n", "\tproof: none\n"] {
        let script = parse_text("t.scs", &server(properties, header));
        assert!(script.is_ok(), "{properties} {script:?}");
    }
    assert!(parse_text("t.scs", &server("", header)).is_err());
}

#[test]
fn mistakes_about_servers_name_their_place() {
    wrong(
        &server("\tcertificate: odd\n", ""),
        "t.scs:4:15: \"odd\": good, none, expired, untrusted, misnamed, authority, calling, \
         common name, for NAME, NAME, service NAME or address NAME",
    );
    wrong(
        &server("\tcalls: loudly\n", ""),
        "t.scs:4:9: \"loudly\" is not known here",
    );
    wrong(
        &server("\tcalled: by hand\n", ""),
        "t.scs:4:2: \"called\" is no property; there are jid, domain, password, resource, account, \
         tls, certificate, proof, calls, connect_host, connect_port",
    );
    wrong(
        &server("", "Montague is called\n"),
        "t.scs:4:10: its calls are answered for it; `calls: by hand` is missing",
    );
    wrong(
        &server("\tcalls: by hand\n", "Montague is called soon\n"),
        "t.scs:5:10: \"soon\" is not known behind `is called`; `within TIME` is",
    );
    wrong(
        &server("\tcalls: by hand\n", "Montague is called within 5\n"),
        "t.scs:5:10: \"5\" is no time; write 300ms, 2s, 5m or 1h",
    );
    wrong_step(
        "Romeo is called\n",
        "t.scs:1:7: \"is called\" is nothing that a character does",
    );
}

#[test]
fn definitions_and_cases_are_put_in() {
    let script = script(
        "cases:\n\tkind | what\n\tone | <x/>\n\tone | ${empty}\ndefine empty:\ndefine q: <q xmlns='y'>\n\t</q>\n\
         Romeo sends:\n\t<iq type='${kind}'>${q}${what}</iq>\n",
    );
    let names: Vec<_> = script.cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names, ["one", "one 2"]);
    let Action::Sends(template) = &script.steps[0].action else {
        panic!("sends");
    };
    assert_eq!(
        template.text(),
        "<iq type='${kind}'><q xmlns='y'>\n</q>${what}</iq>"
    );
}

#[test]
fn definitions_cannot_grow_without_bound() {
    let mut text = String::from("define a: xxxxxxxxxxxxxxxx\n");
    for letter in 'b'..='z' {
        let before = char::from_u32(u32::from(letter) - 1).expect("a letter");
        text.push_str(&format!("define {letter}: ${{{before}}}${{{before}}}\n"));
    }
    let error = parse_text("t.scs", &text).expect_err("too much");
    assert!(error.what.contains("bytes are defined"), "{error}");
}

#[test]
fn files_that_include_each_other_end() {
    let reader = |_: &Path| Ok("include again.inc\n".to_owned());
    let error = parse(Path::new("t.scs"), "include again.inc\n", &reader).expect_err("an end");
    assert!(error.what.contains("too deeply"), "{error}");
}

#[test]
fn depth_is_bounded() {
    let deep = "<a>".repeat(5000) + &"</a>".repeat(5000);
    let error = parse_text("t.scs", &format!("{CAST}Romeo sends: {deep}\n")).expect_err("deep");
    assert!(error.what.contains("nested"), "{error}");
}

#[test]
fn times_have_units() {
    assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
    assert_eq!(duration("5 m"), Ok(Duration::from_secs(300)));
    for wrong in [
        "",
        "s",
        "5",
        "-1s",
        "5 fortnights",
        "99999999999999999999s",
        "9999999h",
    ] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,400}") {
        let _ = parse_text("t.scs", &text);
    }

    #[test]
    fn no_script_of_script_words_panics(
        words in proptest::collection::vec(
            prop_oneof![
                Just("Romeo"), Just("Romeo's phone"), Just("Eve"), Just(" sends"), Just(" receives"),
                Just(" sends bytes"), Just(" within "), Just("2s"), Just(" in any order"), Just(":"),
                Just("\n"), Just("\n\t"), Just("<a>"), Just("</a>"), Just("<a b='"), Just("'/>"),
                Just("${"), Just("}"), Just("{scansion:capture:x}"), Just("${x}"), Just("define "),
                Just("x"), Just("cases:"), Just("|"), Just("[Client] "), Just("jid: "), Just("a@b"),
                Just("é\u{301}"), Just("\\x"), Just("include "), Just("advance "), Just("## pending: "),
            ],
            0..60,
        )
    ) {
        let _ = parse_text("t.scs", &format!("{CAST}{}", words.concat()));
    }
}
