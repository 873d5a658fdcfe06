//! Events and the lines that they become.

use super::*;

fn tree(xml: &str) -> Tree {
    Tree::read_all(xml).expect("well-formed").remove(0)
}

fn notes() -> Notes {
    let account = ("o-neil@a".to_owned(), "pass & word".to_owned());
    Notes::new([account].into_iter())
}

/// What is written behind the cast for these events of one session.
#[track_caller]
fn check(events: impl FnOnce(usize) -> Vec<Event>, lines: &str) {
    let mut notes = notes();
    let who = notes.connects("o-neil@a", None, "o-neil@a/x1");
    for event in events(who) {
        notes.stanza(event, 1);
    }
    let script = script(&notes);
    let (_, steps) = script
        .split_once("-----\n\nOneil connects\n")
        .expect("the beginning");
    assert_eq!(steps, lines);
    crate::script::parse_text("recorded", &script).expect("it can be read");
}

#[test]
fn names_are_words_and_differ() {
    let mut notes = notes();
    for resource in [Some("a"), Some("b"), None] {
        notes.connects("o-neil@a", resource, "o-neil@a/x");
    }
    notes.connects("@@@", None, "x");
    assert_eq!(names(&notes), ["Oneil", "Oneil 2", "Oneil 3", "Somebody"]);
}

#[test]
fn a_device_that_comes_back_is_the_same() {
    let mut notes = notes();
    let first = notes.connects("o-neil@a", Some("a"), "o-neil@a/a");
    notes.ends(first, Event::Lost(first));
    assert!(notes.is_complete());
    assert_eq!(notes.connects("o-neil@a", Some("a"), "o-neil@a/a"), first);
    assert!(!notes.is_complete());
}

#[test]
fn addresses_passwords_and_markup_are_written_so_that_they_can_be_read() {
    check(
        |who| {
            let sent = "<iq id='1' to='o-neil@a'><q xmlns='q' at='${x}'>pass &amp; word</q></iq>";
            vec![Event::Sends(who, tree(sent))]
        },
        "\nOneil sends:\n\t<iq id='1' to=\"${Oneil's JID}\">\n\
         \t\t<q xmlns='q' at='&#36;{x}'>${Oneil's password}</q>\n\t</iq>\n",
    );
    // text beside elements stays as it is
    check(
        |who| {
            vec![Event::Sends(
                who,
                tree("<message><h xmlns='h'>a <b>c</b>\n</h></message>"),
            )]
        },
        "\nOneil sends:\n\t<message>\n\t\t<h xmlns='h'>a <b>c</b>&#10;</h>\n\t</message>\n",
    );
}

#[test]
fn values_of_the_server_are_any_or_captured() {
    check(
        |who| {
            vec![
                Event::Receives(who, tree("<iq id='p1' type='set' to='o-neil@a/x1'/>")),
                Event::Receives(who, tree("<iq id='p2' type='set' xml:lang='en'/>")),
                Event::Sends(who, tree("<iq id='p1' type='result'/>")),
                Event::Receives(
                    who,
                    tree("<message id='p1'><d xmlns='d' stamp='x'/></message>"),
                ),
                Event::Receives(who, tree("<iq><t xmlns='t'>2026-11-21T10:00:00Z</t></iq>")),
            ]
        },
        "\nOneil receives:\n\t<iq id='{scansion:capture:id 1}' type='set'/>\n\
         \nOneil receives:\n\t<iq id='{scansion:any}' type='set'/>\n\
         \nOneil sends:\n\t<iq id='${id 1}' type='result'/>\n\
         \nOneil receives:\n\t<message id='${id 1}'>\n\t\t<d xmlns='d' stamp='{scansion:any}'/>\n\t</message>\n\
         \nOneil receives:\n\t<iq>\n\t\t<t xmlns='t'>{scansion:any}</t>\n\t</iq>\n",
    );
}

#[test]
fn what_depends_on_the_clock_or_the_server_is_left_out() {
    let ping = "<iq type='get' from='a' id='k'><ping xmlns='urn:xmpp:ping'/></iq>";
    check(
        |who| {
            vec![
                Event::Receives(who, tree(ping)),
                Event::Sends(who, tree("<iq type='result' to='a' id='k'/>")),
            ]
        },
        "",
    );
    check(
        |who| {
            let error = "<iq type='error'><error type='cancel' by='a' code='5'><gone xmlns='g'/>\
                         <text xmlns='g'>why</text></error></iq>";
            vec![Event::Receives(who, tree(error))]
        },
        "\nOneil receives:\n\t<iq type='error'>\n\t\t<error type='cancel'>\n\t\t\t<gone xmlns='g'/>\n\
         \t\t</error>\n\t</iq>\n",
    );
}

#[test]
fn each_end_has_its_line() {
    for (event, lines) in [
        (Event::Disconnects(0), "\nOneil disconnects\n"),
        (Event::Ended(0), "\nOneil expects end\n"),
        (
            Event::StreamError(0, "conflict".into()),
            "\nOneil expects stream error conflict\n",
        ),
        (
            Event::Lost(0),
            "\n# the connection ended without a word\nOneil cuts at byte 0\nOneil sends:\n\t<presence/>\n",
        ),
    ] {
        check(|_| vec![event], lines);
    }
}
