//! Notes as a script that can be played again.
//!
//! What the characters sent stands as they sent it. In what they received, addresses become names of
//! the cast, values that the server makes become `{scansion:any}`, or captures where somebody has
//! sent them back, and what a server says of itself is not compared.

use super::notes::{Event, Notes};
use crate::tree::{Tree, escaped};
use std::collections::BTreeMap;
use std::fmt::Write;
use xmpp_stream::ns;

/// Answers in these namespaces are the server's own affair: features, versions, clocks.
const OF_ITSELF: [&str; 5] = [
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::LAST,
    ns::TIME,
    ns::VERSION,
];
/// What the accounts' passwords become: the real ones are not written down.
const PASSWORD: &str = "secret";
const ANY: &str = "{scansion:any}";

/// The whole script.
pub(super) fn script(notes: &Notes) -> String {
    let accounts: Vec<&str> = notes.accounts.iter().map(|(jid, _)| jid.as_str()).collect();
    let mut writer = Writer {
        notes,
        names: names(notes),
        jids: vec![None; notes.actors.len()],
        sent: sent(notes),
        captures: BTreeMap::new(),
        out: format!(
            "# A recorded session of {}\n# Written by xmpp-script --record; addresses of the cast, \
             ids, times and hashes of the server are names or {ANY}.\n\n",
            accounts.join(" and ")
        ),
    };
    writer.cast();
    let pings = keep_alive(notes);
    for (index, event) in notes.events.iter().enumerate() {
        if !pings.contains(&index) {
            writer.event(index, event);
        }
    }
    writer.out
}

/// When a value was sent first and last, by index of the event.
type Sent<'a> = BTreeMap<&'a str, (usize, usize)>;

fn sent(notes: &Notes) -> Sent<'_> {
    fn add<'a>(tree: &'a Tree, index: usize, sent: &mut Sent<'a>) {
        let texts = tree.nodes().filter_map(Result::err);
        let values = tree.attributes().map(|(_, _, value)| value).chain(texts);
        for value in values {
            let seen = sent.entry(value).or_insert((index, index));
            seen.1 = index;
        }
        for child in tree.children() {
            add(child, index, sent);
        }
    }
    let mut sent = Sent::new();
    for (index, event) in notes.events.iter().enumerate() {
        if let Event::Sends(_, tree) = event {
            add(tree, index, &mut sent);
        }
    }
    sent
}

/// Requests by which a server looks whether the client lives, and their answers: when they come
/// depends on the clock.
fn keep_alive(notes: &Notes) -> Vec<usize> {
    let mut asked: Vec<(usize, &str)> = Vec::new();
    let mut found = Vec::new();
    for (index, event) in notes.events.iter().enumerate() {
        match event {
            Event::Receives(who, tree) if is_ping_of_server(tree) => {
                asked.push((*who, tree.attr("id").unwrap_or_default()));
                found.push(index);
            }
            Event::Sends(who, tree) if matches!(tree.attr("type"), Some("result" | "error")) => {
                let id = tree.attr("id").unwrap_or_default();
                if asked.contains(&(*who, id)) {
                    found.push(index);
                }
            }
            _ => {}
        }
    }
    found
}

fn is_ping_of_server(tree: &Tree) -> bool {
    let is_server = tree.attr("from").is_none_or(|from| !from.contains('@'));
    tree.attr("type") == Some("get") && tree.child_ns(ns::PING, "ping").is_some() && is_server
}

/// A name for everybody: the local part with a capital letter, and a number for the next device.
fn names(notes: &Notes) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for actor in &notes.actors {
        let local = actor.account.split('@').next().unwrap_or_default();
        let plain: String = local.chars().filter(|c| c.is_alphanumeric()).collect();
        let mut letters = plain.chars();
        let name = match letters.next() {
            Some(first) => first.to_uppercase().chain(letters).collect(),
            None => "Somebody".to_owned(),
        };
        let numbered = (2..).map(|number| format!("{name} {number}"));
        let mut free = std::iter::once(name.clone()).chain(numbered);
        let name = free
            .find(|name| !names.contains(name))
            .unwrap_or_else(|| name.clone());
        names.push(name);
    }
    names
}

struct Writer<'a> {
    notes: &'a Notes,
    names: Vec<String>,
    /// Full addresses as they are at this point.
    jids: Vec<Option<&'a str>>,
    sent: Sent<'a>,
    /// By value.
    captures: BTreeMap<&'a str, String>,
    out: String,
}

/// Whose words an element is.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Said {
    ByClient,
    /// The event's index.
    ByServer(usize),
}

impl<'a> Writer<'a> {
    fn cast(&mut self) {
        for (actor, name) in self.notes.actors.iter().zip(&self.names) {
            let resource = actor.resource.as_deref();
            let resource = resource.map(|it| format!("/{it}")).unwrap_or_default();
            let account = &actor.account;
            let _ = write!(
                self.out,
                "[Client] {name}\n\tjid: {account}{resource}\n\tpassword: {PASSWORD}\n\n"
            );
        }
        self.out.push_str("-----\n");
    }

    fn event(&mut self, index: usize, event: &'a Event) {
        let (Event::Connects { who, .. }
        | Event::Disconnects(who)
        | Event::Ended(who)
        | Event::Lost(who)
        | Event::Receives(who, _)
        | Event::Sends(who, _)
        | Event::StreamError(who, _)) = event;
        let name = self.names.get(*who).cloned().unwrap_or_default();
        self.out.push('\n');
        match event {
            Event::Connects { who, jid } => {
                if let Some(slot) = self.jids.get_mut(*who) {
                    *slot = Some(jid);
                }
                self.line(&format!("{name} connects"));
            }
            Event::Sends(_, tree) => {
                self.line(&format!("{name} sends:"));
                self.element(tree, ns::CLIENT, 1, Said::ByClient);
            }
            Event::Receives(_, tree) => {
                self.line(&format!("{name} receives:"));
                self.element(tree, ns::CLIENT, 1, Said::ByServer(index));
            }
            Event::StreamError(_, condition) => {
                self.line(&format!("{name} expects stream error {condition}"));
            }
            Event::Ended(_) => self.line(&format!("{name} expects end")),
            Event::Disconnects(_) => self.line(&format!("{name} disconnects")),
            Event::Lost(_) => {
                self.line("# the connection ended without a word");
                self.line(&format!("{name} cuts at byte 0"));
                self.line(&format!("{name} sends:"));
                self.line("\t<presence/>");
            }
        }
    }

    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// Elements on lines of their own, unless there is text between them.
    fn element(&mut self, tree: &'a Tree, parent_ns: &str, depth: usize, said: Said) {
        let indent = "\t".repeat(depth);
        let is_blank = |text: &str| text.trim().is_empty();
        let has_children = tree.children().next().is_some();
        let is_of_itself = self.is_of_itself(tree, said);
        let is_laid_out = has_children && tree.nodes().filter_map(Result::err).all(is_blank);
        if !is_of_itself && !is_laid_out {
            let text = self.inline(tree, parent_ns, said);
            return self.line(&format!("{indent}{text}"));
        }
        // once only: a value is captured where it is written first
        let head = self.head(tree, parent_ns, said);
        if is_of_itself {
            return self.line(&format!("{indent}<{head} scansion:strict='false'/>"));
        }
        let mark = self.out.len();
        self.line(&format!("{indent}<{head}>"));
        let inside = self.out.len();
        for child in tree.children().filter(|it| !is_for_people(tree, it, said)) {
            self.element(child, tree.ns(), depth + 1, said);
        }
        if self.out.len() == inside {
            self.out.truncate(mark);
            self.line(&format!("{indent}<{head}/>"));
        } else {
            self.line(&format!("{indent}</{}>", tree.name()));
        }
    }

    fn inline(&mut self, tree: &'a Tree, parent_ns: &str, said: Said) -> String {
        let head = self.head(tree, parent_ns, said);
        let mut content = String::new();
        for node in tree.nodes() {
            content += &match node {
                Ok(child) => self.inline(child, tree.ns(), said),
                Err(text) => self.value(text, is_time(text), "text", said),
            };
        }
        match content.is_empty() {
            true => format!("<{head}/>"),
            false => format!("<{head}>{content}</{}>", tree.name()),
        }
    }

    /// Name, namespace and attributes.
    fn head(&mut self, tree: &'a Tree, parent_ns: &str, said: Said) -> String {
        let mut head = tree.name().to_owned();
        if tree.ns() != parent_ns {
            let _ = write!(head, " xmlns='{}'", escaped(tree.ns()));
        }
        for (index, (namespace, name, value)) in tree.attributes().enumerate() {
            let is_stanza = tree.ns() == ns::CLIENT && parent_ns == ns::CLIENT;
            let is_to_receiver = is_stanza && name == "to" && said != Said::ByClient;
            if is_to_receiver || is_left_out(tree, namespace, name, said) {
                // that it came says to whom; servers differ in whether they name the resource
                continue;
            }
            let is_made = is_made_by_server(tree, name) || is_time(value);
            let value = self.value(value, is_made, name, said);
            // names of the cast have an apostrophe in them
            let quote = if value.contains('\'') { '"' } else { '\'' };
            let _ = match namespace {
                "" => write!(head, " {name}={quote}{value}{quote}"),
                ns::XML => write!(head, " xml:{name}={quote}{value}{quote}"),
                namespace => write!(
                    head,
                    " xmlns:n{index}='{}' n{index}:{name}={quote}{value}{quote}",
                    escaped(namespace)
                ),
            };
        }
        head
    }

    /// A value as the script says it.
    fn value(&mut self, value: &'a str, is_made: bool, what: &str, said: Said) -> String {
        let cast = self.notes.actors.iter().zip(&self.names).zip(&self.jids);
        for ((actor, name), jid) in cast {
            if *jid == Some(value) {
                return format!("${{{name}'s full JID}}");
            }
            if actor.account == value {
                return format!("${{{name}'s JID}}");
            }
        }
        if let Some(name) = self.captures.get(value) {
            return format!("${{{name}}}");
        }
        match said {
            Said::ByClient => self.of_client(value),
            Said::ByServer(index) => {
                let (first, last) = self.sent.get(value).copied().unwrap_or((usize::MAX, 0));
                if !is_made || first < index {
                    literal(value)
                } else if last > index {
                    let name = format!("{what} {}", self.captures.len() + 1);
                    self.captures.insert(value, name.clone());
                    format!("{{scansion:capture:{name}}}")
                } else {
                    ANY.into()
                }
            }
        }
    }

    fn of_client(&self, value: &str) -> String {
        let whose = self
            .notes
            .accounts
            .iter()
            .find(|(_, password)| password == value);
        let actor = whose.and_then(|(account, _)| {
            let mut cast = self.notes.actors.iter().zip(&self.names);
            cast.find(|(actor, _)| actor.account == *account)
        });
        match actor {
            Some((_, name)) => format!("${{{name}'s password}}"),
            None => literal(value),
        }
    }

    /// The payload of an answer that says what the server is.
    fn is_of_itself(&self, tree: &Tree, said: Said) -> bool {
        matches!(said, Said::ByServer(_)) && OF_ITSELF.contains(&tree.ns()) && {
            // another client's answer was sent through us, and stays as it was
            let node = tree.attr("node").unwrap_or_default();
            !self.sent.contains_key(node) || node.is_empty()
        }
    }
}

/// Sentences beside an error are any server's own.
fn is_for_people(parent: &Tree, child: &Tree, said: Said) -> bool {
    said != Said::ByClient && parent.is(ns::CLIENT, "error") && child.name() == "text"
}

/// The language that the stream's header has said, and what RFC 6120 does not ask of an error.
fn is_left_out(tree: &Tree, namespace: &str, name: &str, said: Said) -> bool {
    let by_server = said != Said::ByClient;
    let is_error = tree.is(ns::CLIENT, "error") && matches!(name, "by" | "code");
    by_server && ((namespace, name) == (ns::XML, "lang") || is_error)
}

/// Ids, times, versions of rosters.
fn is_made_by_server(tree: &Tree, name: &str) -> bool {
    matches!(name, "id" | "stamp") || (name == "ver" && tree.ns() == ns::ROSTER)
}

/// A date and a time as XEP-0082 and XEP-0091 write them.
fn is_time(text: &str) -> bool {
    let shape: String = text
        .chars()
        .take(20)
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    shape.starts_with("0000-00-00T00:00:00") || shape.starts_with("00000000T00:00:00")
}

/// Text that stands for itself, on one line.
fn literal(text: &str) -> String {
    escaped(text)
        .replace("${", "&#36;{")
        .replace('\n', "&#10;")
        .replace('\r', "&#13;")
        .replace('\t', "&#9;")
}

#[cfg(test)]
mod tests;
