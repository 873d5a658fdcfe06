//! What is printed: lines for people, or one JSON object a line for programs.
//!
//! What others wrote is never printed raw for people: control characters and marks that turn the
//! direction of writing could make a line look like another, or command the terminal.

use serde_json::{Map, Value};
use std::io::{self, IsTerminal, Write};
use std::time::SystemTime;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::delay::{self, Delay};
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// Where results go.
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints one or the other.
    pub(crate) fn line(&self, value: &Value, text: &str) -> io::Result<()> {
        let line = match self.json {
            true => value.to_string(),
            false if text.is_empty() => return Ok(()),
            false => text.to_owned(),
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }

    /// A stanza that came.
    pub(crate) fn stanza(&self, stanza: &Stanza) -> io::Result<()> {
        let text = format!("{} {}", delay::stamp(stamp(stanza)), text(stanza));
        self.line(&value(stanza), &text)
    }

    /// How far long work is: on stderr, and only for people.
    pub(crate) fn progress(&self, text: &str) {
        let mut stderr = io::stderr();
        if stderr.is_terminal() {
            let _ = write!(stderr, "\r\x1b[K{text}");
        }
    }
}

/// The time of day, asked for here only: lines for people carry it.
#[expect(clippy::disallowed_methods, reason = "a command is run now")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// When it was sent, as far as it says so (XEP-0203), else now.
fn stamp(stanza: &Stanza) -> SystemTime {
    delayed(stanza).unwrap_or_else(now)
}

fn delayed(stanza: &Stanza) -> Option<SystemTime> {
    let delays = stanza.elements();
    let delay = delays.iter().find_map(Delay::parse)?;
    Some(delay.stamp)
}

/// For one line: control characters as escapes.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmless(c) {
            true => out.push(c),
            false => out.extend(c.escape_default()),
        }
    }
    out
}

/// For a text of several lines: those after the first are indented, so that none looks like ours.
pub(crate) fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n    ")
}

fn is_harmless(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_line = matches!(c, '\u{2028}' | '\u{2029}');
    !(c.is_control() || turns || ends_line)
}

fn child(stanza: &Stanza, name: &str) -> Option<String> {
    let children = stanza.elements();
    let child = children.iter().find(|child| child.is(ns::CLIENT, name));
    child.map(Element::text).filter(|text| !text.is_empty())
}

/// A stanza for people, without the time.
pub(crate) fn text(stanza: &Stanza) -> String {
    let from = stanza.head.from.as_ref().map(|from| plain(from.as_str()));
    let from = from.as_deref().unwrap_or("the server");
    if let Some(error) = stanza.error() {
        let error = plain(&error.to_string());
        return format!("{from}: {} refused: {error}", stanza_name(stanza));
    }
    match (stanza.kind, &stanza.head.ty) {
        (Kind::Message, _) => match (child(stanza, "subject"), stanza.body()) {
            (None, Some(body)) => format!("{from}: {}", indented(&body)),
            (Some(subject), None) => format!("{from}: [{}]", plain(&subject)),
            (Some(subject), Some(body)) => {
                format!("{from}: [{}] {}", plain(&subject), indented(&body))
            }
            (None, None) => format!("{from}: {}", plain(&stanza.to_xml())),
        },
        (Kind::Presence, ty) => {
            let what = match ty {
                Ty::None => "is available",
                Ty::Unavailable => "is gone",
                Ty::Subscribe => "asks to see your presence",
                Ty::Subscribed => "lets you see their presence",
                Ty::Unsubscribe => "no longer wants to see your presence",
                Ty::Unsubscribed => "does not let you see their presence",
                _ => return format!("{from}: {}", plain(&stanza.to_xml())),
            };
            let show = child(stanza, "show").map(|show| format!(" ({})", plain(&show)));
            let status = child(stanza, "status").map(|status| format!(": {}", indented(&status)));
            format!(
                "{from} {what}{}{}",
                show.unwrap_or_default(),
                status.unwrap_or_default()
            )
        }
        (Kind::Iq, _) => format!("{from}: {}", plain(&stanza.to_xml())),
    }
}

fn stanza_name(stanza: &Stanza) -> &'static str {
    match stanza.kind {
        Kind::Message => "message",
        Kind::Presence => "presence",
        Kind::Iq => "iq",
    }
}

/// A stanza for programs.
pub(crate) fn value(stanza: &Stanza) -> Value {
    Value::Object(fields(stanza))
}

/// The same, to be added to.
pub(crate) fn fields(stanza: &Stanza) -> Map<String, Value> {
    let head = &stanza.head;
    let ty = head.ty.as_str().unwrap_or(match stanza.kind {
        Kind::Presence => "available",
        _ => "normal",
    });
    let jid = |jid: &Option<Jid>| jid.as_ref().map(|jid| jid.as_str().to_owned());
    let mut fields = Map::new();
    let mut set = |key: &str, value: Value| drop(fields.insert(key.into(), value));
    set("kind", stanza_name(stanza).into());
    set("type", ty.into());
    set("from", jid(&head.from).into());
    set("to", jid(&head.to).into());
    set("id", head.id.as_deref().into());
    set("stamp", delay::stamp(stamp(stanza)).into());
    set("delayed", delayed(stanza).is_some().into());
    let texts = [
        ("body", stanza.body()),
        ("subject", child(stanza, "subject")),
        ("thread", child(stanza, "thread")),
        ("show", child(stanza, "show")),
        ("status", child(stanza, "status")),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            set(key, text.into());
        }
    }
    if let Some(error) = stanza.error() {
        set("error", error.condition.as_str().into());
    }
    set("xml", stanza.to_xml().into());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(xml: &str, expected: &str) {
        let stanza = Stanza::parse(xml).unwrap();
        assert_eq!(text(&stanza), expected, "{xml}");
    }

    #[test]
    fn stanzas_read_as_sentences() {
        check(
            "<message from='b@b.test/x'><body>hi</body></message>",
            "b@b.test/x: hi",
        );
        check(
            "<message from='b@b.test/x'><subject>s</subject><body>hi</body></message>",
            "b@b.test/x: [s] hi",
        );
        check("<presence from='b@b.test/x'/>", "b@b.test/x is available");
        check(
            "<presence from='b@b.test/x'><show>dnd</show><status>busy</status></presence>",
            "b@b.test/x is available (dnd): busy",
        );
        check(
            "<presence from='b@b.test' type='subscribe'/>",
            "b@b.test asks to see your presence",
        );
        check(
            "<message from='b@b.test' type='error'><body>hi</body><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
            "b@b.test: message refused: service-unavailable (type cancel)",
        );
    }

    #[test]
    fn others_cannot_command_the_terminal_or_fake_a_line() {
        check(
            "<message from='b@b.test/x'><body>one\n12:00 c@c.test: two&#x9;&#x85;</body></message>",
            "b@b.test/x: one\n    12:00 c@c.test: two\\t\\u{85}",
        );
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
    }

    #[test]
    fn programs_get_fields_and_the_xml() {
        let xml = "<message from='b@b.test/x' id='1' type='chat'><body>hi</body>\
                   <delay xmlns='urn:xmpp:delay' stamp='2026-01-02T03:04:05Z'/></message>";
        let value = value(&Stanza::parse(xml).unwrap());
        assert_eq!(value["kind"], "message");
        assert_eq!(value["type"], "chat");
        assert_eq!(value["from"], "b@b.test/x");
        assert_eq!(value["to"], Value::Null);
        assert_eq!(value["body"], "hi");
        assert_eq!(value["stamp"], "2026-01-02T03:04:05.000Z");
        assert_eq!(value["delayed"], true);
        assert!(value["xml"].as_str().unwrap().starts_with("<message"));
    }
}
