//! Expected and received element side by side, line by line, with the lines that differ marked.

use crate::script::matcher::{compare, is_strict, is_value, said_inside, score};
use crate::tree::{SCANSION, Tree, escaped};
use std::fmt::Write;
use xmpp_stream::ns;

/// Columns of the expected side at most; longer lines are not cut, only not aligned.
const LEFT_MAX: usize = 72;

/// One line of both sides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Expected; empty where nothing is.
    pub expected: String,
    /// Received; empty where nothing is.
    pub received: String,
    /// True when they do not go together.
    pub differs: bool,
}

/// Both trees as rows.
pub(crate) fn rows(expected: &Tree, got: &Tree) -> Vec<Row> {
    let mut rows = Vec::new();
    both(expected, got, None, ns::CLIENT, 0, &mut rows);
    rows
}

/// The rows as text, `!` before those that differ.
pub(crate) fn text(rows: &[Row]) -> String {
    let width = |row: &Row| row.expected.chars().count();
    let left = rows.iter().map(width).max().unwrap_or(0).clamp(8, LEFT_MAX);
    let mut out = format!("  {:left$} | received\n", "expected");
    for row in rows {
        let mark = if row.differs { '!' } else { ' ' };
        let _ = writeln!(out, "{mark} {:left$} | {}", row.expected, row.received);
    }
    out
}

fn both(
    expected: &Tree,
    got: &Tree,
    outside: Option<bool>,
    parent_ns: &str,
    depth: usize,
    rows: &mut Vec<Row>,
) {
    let strict = is_strict(expected, outside);
    heads(expected, got, strict, parent_ns, depth, rows);
    let (wanted, text) = (expected.text(), got.text());
    if !(wanted.trim().is_empty() && text.trim().is_empty()) {
        let differs = match wanted.trim() {
            "" => strict,
            _ => !is_value(&wanted, &text) && !is_value(wanted.trim(), text.trim()),
        };
        push(
            rows,
            depth + 1,
            &escaped(wanted.trim()),
            &escaped(text.trim()),
            differs,
        );
    }
    let inside = said_inside(expected, outside);
    let others: Vec<&Tree> = got.children().collect();
    let mut free: Vec<bool> = vec![true; others.len()];
    for (index, child) in expected.children().enumerate() {
        let partner = match strict {
            true => (index < others.len()).then_some(index),
            false => nearest(child, &others, &free),
        };
        match partner.and_then(|at| Some((at, others.get(at)?))) {
            Some((at, other)) if strict || other.name() == child.name() => {
                free[at] = false;
                both(child, other, inside, expected.ns(), depth + 1, rows);
            }
            _ => one(child, expected.ns(), depth + 1, true, true, rows),
        }
    }
    for (other, _) in others.iter().zip(&free).filter(|(_, free)| **free) {
        one(other, got.ns(), depth + 1, false, strict, rows);
    }
}

/// The one of the free ones that matches, or else is most alike.
fn nearest(child: &Tree, others: &[&Tree], free: &[bool]) -> Option<usize> {
    let free = (0..others.len()).filter(|at| free[*at]);
    let likeness = |at: &usize| {
        (
            compare(child, others[*at]).is_ok(),
            score(child, others[*at]),
        )
    };
    // of equals the first
    free.rev().max_by_key(likeness)
}

fn heads(
    expected: &Tree,
    got: &Tree,
    strict: bool,
    parent_ns: &str,
    depth: usize,
    rows: &mut Vec<Row>,
) {
    let differs = expected.name() != got.name() || expected.ns() != got.ns();
    let names = (head(expected, parent_ns), head(got, parent_ns));
    push(
        rows,
        depth,
        &format!("<{}>", names.0),
        &format!("<{}>", names.1),
        differs,
    );
    let wanted = expected.attributes().filter(|(ns, ..)| *ns != SCANSION);
    for (ns, name, value) in wanted {
        let other = got.attr_ns(ns, name);
        let shown = other
            .map(|other| attribute(ns, name, other))
            .unwrap_or_default();
        let differs = !other.is_some_and(|other| is_value(value, other));
        push(
            rows,
            depth + 1,
            &attribute(ns, name, value),
            &shown,
            differs,
        );
    }
    for (ns, name, value) in got.attributes() {
        if expected.attr_ns(ns, name).is_none() {
            push(rows, depth + 1, "", &attribute(ns, name, value), strict);
        }
    }
}

/// An element that has no partner.
fn one(
    tree: &Tree,
    parent_ns: &str,
    depth: usize,
    is_expected: bool,
    differs: bool,
    rows: &mut Vec<Row>,
) {
    let mut line = |depth: usize, text: String| match is_expected {
        true => push(rows, depth, &text, "", differs),
        false => push(rows, depth, "", &text, differs),
    };
    line(depth, format!("<{}>", head(tree, parent_ns)));
    for (ns, name, value) in tree.attributes().filter(|(ns, ..)| *ns != SCANSION) {
        line(depth + 1, attribute(ns, name, value));
    }
    if !tree.text().trim().is_empty() {
        line(depth + 1, escaped(tree.text().trim()));
    }
    for child in tree.children() {
        one(child, tree.ns(), depth + 1, is_expected, differs, rows);
    }
}

fn head(tree: &Tree, parent_ns: &str) -> String {
    match tree.ns() == parent_ns {
        true => tree.name().to_owned(),
        false => format!("{} xmlns='{}'", tree.name(), escaped(tree.ns())),
    }
}

fn attribute(namespace: &str, name: &str, value: &str) -> String {
    let prefix = match namespace {
        "" => String::new(),
        ns::XML => "xml:".into(),
        other => format!("{{{other}}}"),
    };
    format!("{prefix}{name}='{}'", escaped(value))
}

fn push(rows: &mut Vec<Row>, depth: usize, expected: &str, received: &str, differs: bool) {
    let indent = "  ".repeat(depth);
    let indented = |text: &str| match text.is_empty() {
        true => String::new(),
        false => format!("{indent}{}", text.replace('\n', " ")),
    };
    let (expected, received) = (indented(expected), indented(received));
    rows.push(Row {
        expected,
        received,
        differs,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_differ_are_marked() {
        let tree = |xml: &str| Tree::read_all(xml).expect("well-formed").remove(0);
        let expected = tree("<message to='a'><body>hi</body><x xmlns='y'/></message>");
        let got = tree("<message to='b' id='1'><q xmlns='z'/><body>ho</body></message>");
        let shown = text(&rows(&expected, &got));
        assert_eq!(
            shown.replace(" |\n", " | \n"),
            "  expected        | received\n\
             \u{20} <message>       | <message>\n\
             !   to='a'        |   to='b'\n\
             \u{20}                 |   id='1'\n\
             \u{20}   <body>        |   <body>\n\
             !     hi          |     ho\n\
             !   <x xmlns='y'> | \n\
             \u{20}                 |   <q xmlns='z'>\n"
        );
    }
}
