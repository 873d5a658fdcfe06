//! Every field of a log line stands in the list of docs/OPERATING.md, and every one there is used.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// What stands between the parentheses of each macro that logs.
fn calls(text: &str) -> Vec<&str> {
    let mut calls = Vec::new();
    for name in ["error", "warn", "info", "debug", "trace", "info_span"] {
        let opening = format!("{name}!(");
        for (at, _) in text.match_indices(&opening) {
            let is_whole = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let inner = &text[at + opening.len()..];
            let mut depth = 1;
            let end = inner.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            if let (true, Some(end)) = (is_whole, end) {
                calls.push(&inner[..end]);
            }
        }
    }
    calls
}

/// The names of the fields of one call.
fn fields(call: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth, mut quoted) = (Vec::new(), String::new(), 0, false);
    for c in call.chars() {
        depth += i32::from(!quoted && "([{".contains(c)) - i32::from(!quoted && ")]}".contains(c));
        quoted ^= c == '"';
        if c == ',' && depth == 0 && !quoted {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim());
    let parts = parts.filter(|part| !part.is_empty() && !part.starts_with('"'));
    parts
        .map(|part| {
            let name = part.split('=').next().unwrap_or(part).trim();
            name.trim_start_matches(['%', '?']).to_owned()
        })
        .collect()
}

#[test]
fn the_page_for_operators_lists_the_fields_of_the_log() {
    let page = fs::read_to_string(root().join("docs/OPERATING.md")).expect("the page");
    let section = page
        .split("\n## Log\n")
        .nth(1)
        .expect("a section on the log");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = rows
        .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect();
    let mut files = Vec::new();
    sources(&root().join("xmpp-server/src"), &mut files);
    sources(&root().join("xmpp-stream/src"), &mut files);
    let mut used = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        used.extend(calls(&text).into_iter().flat_map(fields));
    }
    assert!(used.contains("condition"), "the lines are found: {used:?}");
    assert_eq!(used, listed);
}

#[test]
fn fields_are_found_in_every_form() {
    let text = "x(); tracing::warn!(%error, a = f(1, 2), ?b, c, \"a, phrase\");\n\
                info_span!(\"c2s\", id = %x(), jid = field::Empty,); no_info!(z)";
    let found: Vec<_> = calls(text).into_iter().flat_map(fields).collect();
    assert_eq!(found, ["error", "a", "b", "c", "id", "jid"]);
}
