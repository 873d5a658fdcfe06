//! Column Off of the table of messages, row by row.

use super::*;
use crate::im::testkit::stanza;

fn check(stores: bool, ty: &str, payload: &str) {
    let xml = format!("<message to='ann@a.test' from='ben@b.test/r' {ty}>{payload}</message>");
    assert_eq!(is_storable(&stanza(&xml)), stores, "{xml}");
}

const CHAT: &str = "type='chat'";
const BODY: &str = "<body>hi</body>";
const COMPOSING: &str = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
const RECEIPT: &str = "<received xmlns='urn:xmpp:receipts' id='1'/>";
const MARKER: &str = "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>";

#[test]
fn im_of_01_what_a_person_would_miss_is_stored() {
    check(true, CHAT, BODY);
    check(true, "", BODY);
    check(true, "type='normal'", "<subject>s</subject>");
    check(true, "type='strange'", BODY);
    check(true, CHAT, &format!("{BODY}{COMPOSING}"));
    let omemo = "<encrypted xmlns='eu.siacs.conversations.axolotl'><header sid='1'/></encrypted>";
    check(true, CHAT, omemo);
    let call = "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>";
    check(true, CHAT, call);
    let invite = "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='c@c.test'/></x>";
    check(true, "", invite);
}

#[test]
fn im_of_01_what_says_something_of_the_moment_is_not() {
    check(false, CHAT, "");
    check(false, CHAT, COMPOSING);
    check(false, CHAT, &format!("{COMPOSING}<thread>t</thread>"));
    check(false, CHAT, RECEIPT);
    check(false, CHAT, MARKER);
    check(false, "type='groupchat'", BODY);
    check(false, "type='headline'", BODY);
    check(false, "type='error'", BODY);
}

#[test]
fn im_of_06_hints_decide_where_they_may() {
    let hint = |name: &str| format!("<{name} xmlns='urn:xmpp:hints'/>");
    check(false, CHAT, &format!("{BODY}{}", hint("no-store")));
    check(true, CHAT, &format!("{BODY}{}", hint("no-permanent-store")));
    check(true, CHAT, &format!("{BODY}{}", hint("no-copy")));
    check(true, CHAT, &format!("{MARKER}{}", hint("store")));
    check(
        false,
        CHAT,
        &format!("{BODY}{}{}", hint("store"), hint("no-store")),
    );
    // XEP-0334 section 5: hints in errors are ignored.
    check(false, "type='error'", &format!("{BODY}{}", hint("store")));
}
