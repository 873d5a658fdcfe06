//! An expected element against a received one, by scansion's rules.
//!
//! Not strict: what is expected must be there, in any order, and more may be. Strict: nothing more,
//! and in this order. Elements of the stream's namespace are matched in the first way, others in the
//! second; `scansion:strict` says otherwise for an element and what is in it. `{scansion:any}` is any
//! value, `{scansion:capture:NAME}` any value that is remembered, in attributes and
//! texts. What follows `{scansion:base64}` is compared with what the value encodes.

use crate::tree::{SCANSION, Tree};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use xmpp_stream::ns;

/// What was captured, by name.
pub type Captures = BTreeMap<String, String>;

const ANY: &str = "{scansion:any}";
const BASE64: &str = "{scansion:base64}";
const CAPTURE: &str = "{scansion:capture:";

/// Where two elements differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mismatch {
    /// How much of the expected element was found, for finding the nearest candidate.
    pub score: usize,
    /// The first difference in words.
    pub what: String,
}

/// Compares; what was captured is returned when they match.
///
/// # Errors
/// The first difference.
pub fn compare(expected: &Tree, got: &Tree) -> Result<Captures, Mismatch> {
    let mut captures = Captures::new();
    match differ(expected, got, None, &expected_path(expected), &mut captures) {
        None => Ok(captures),
        Some(what) => Err(Mismatch {
            score: score(expected, got),
            what,
        }),
    }
}

/// True when an element is to be matched strictly, given what was said outside of it.
pub(crate) fn is_strict(expected: &Tree, outside: Option<bool>) -> bool {
    match expected.attr_ns(SCANSION, "strict") {
        Some(value) => value == "true" || value == "1",
        None => outside.unwrap_or_else(|| expected.ns() != ns::CLIENT),
    }
}

/// What an element says for the elements in it.
pub(crate) fn said_inside(expected: &Tree, outside: Option<bool>) -> Option<bool> {
    match expected.attr_ns(SCANSION, "strict") {
        Some(value) => Some(value == "true" || value == "1"),
        None => outside,
    }
}

fn expected_path(tree: &Tree) -> String {
    tree.name().to_owned()
}

fn differ(
    expected: &Tree,
    got: &Tree,
    outside: Option<bool>,
    path: &str,
    captures: &mut Captures,
) -> Option<String> {
    if expected.name() != got.name() {
        return Some(format!(
            "{path}: expected <{}/>, got <{}/>",
            expected.name(),
            got.name()
        ));
    }
    if expected.ns() != got.ns() {
        return Some(format!(
            "{path}: expected namespace {:?}, got {:?}",
            expected.ns(),
            got.ns()
        ));
    }
    let strict = is_strict(expected, outside);
    if let Some(what) = attributes_differ(expected, got, strict, path, captures) {
        return Some(what);
    }
    let inside = said_inside(expected, outside);
    if let Some(what) = texts_differ(expected, got, strict, inside, path, captures) {
        return Some(what);
    }
    match strict {
        true => in_order(expected, got, inside, path, captures),
        false => in_any_order(expected, got, inside, path, captures),
    }
}

fn attributes_differ(
    expected: &Tree,
    got: &Tree,
    strict: bool,
    path: &str,
    captures: &mut Captures,
) -> Option<String> {
    for (ns, name, value) in expected.attributes().filter(|(ns, ..)| *ns != SCANSION) {
        match got.attr_ns(ns, name) {
            None => return Some(format!("{path}/@{name}: is missing")),
            Some(other) if !value_matches(value, other, captures) => {
                return Some(format!("{path}/@{name}: expected {value:?}, got {other:?}"));
            }
            Some(_) => {}
        }
    }
    if strict {
        let is_new = |(ns, name, _): &(&str, &str, &str)| expected.attr_ns(ns, name).is_none();
        if let Some((_, name, _)) = got.attributes().find(is_new) {
            return Some(format!("{path}/@{name}: was not expected"));
        }
    }
    None
}

fn texts_differ(
    expected: &Tree,
    got: &Tree,
    strict: bool,
    said: Option<bool>,
    path: &str,
    captures: &mut Captures,
) -> Option<String> {
    let (wanted, text) = (expected.text(), got.text());
    let blank = wanted.trim().is_empty();
    // white space beside elements is there for people, on both sides; an empty element asks for
    // no text only where the script says that it is strict
    let asks = strict && (said.is_some() || expected.children().next().is_some());
    if blank && (!asks || text.trim().is_empty()) {
        return None;
    }
    if value_matches(&wanted, &text, captures) {
        return None;
    }
    let laid_out = !strict || expected.children().next().is_some();
    if laid_out && value_matches(wanted.trim(), text.trim(), captures) {
        return None;
    }
    Some(format!("{path}: expected text {wanted:?}, got {text:?}"))
}

fn in_order(
    expected: &Tree,
    got: &Tree,
    inside: Option<bool>,
    path: &str,
    captures: &mut Captures,
) -> Option<String> {
    let mut others = got.children();
    for child in expected.children() {
        let path = format!("{path}/{}", child.name());
        let Some(other) = others.next() else {
            return Some(format!("{path}: is missing"));
        };
        if let Some(what) = differ(child, other, inside, &path, captures) {
            return Some(what);
        }
    }
    let other = others.next()?;
    Some(format!("{path}/{}: was not expected", other.name()))
}

fn in_any_order(
    expected: &Tree,
    got: &Tree,
    inside: Option<bool>,
    path: &str,
    captures: &mut Captures,
) -> Option<String> {
    let others: Vec<&Tree> = got.children().collect();
    let children: Vec<&Tree> = expected.children().collect();
    let fits: Vec<Vec<usize>> = children
        .iter()
        .map(|child| {
            let fits = |other: &&Tree| {
                differ(child, other, inside, child.name(), &mut Captures::new()).is_none()
            };
            (0..others.len())
                .filter(|at| others.get(*at).is_some_and(fits))
                .collect()
        })
        .collect();
    let found = assign(&fits, others.len());
    for (child, found) in children.iter().zip(found) {
        let Some(other) = found.and_then(|at| others.get(at)) else {
            return Some(missing(child, &others, inside, path));
        };
        differ(child, other, inside, child.name(), captures);
    }
    None
}

/// Says what is wrong with the child that is nearest to the expected one.
fn missing(child: &Tree, others: &[&Tree], inside: Option<bool>, path: &str) -> String {
    let path = format!("{path}/{}", child.name());
    let named = others.iter().filter(|other| other.name() == child.name());
    let near = named.max_by_key(|other| score(child, other));
    let what = near.and_then(|near| differ(child, near, inside, &path, &mut Captures::new()));
    what.unwrap_or_else(|| format!("{path}: is missing"))
}

/// Gives each expected child a received one of its own, as far as possible.
fn assign(fits: &[Vec<usize>], others: usize) -> Vec<Option<usize>> {
    let mut taken_by: Vec<Option<usize>> = vec![None; others];
    for child in 0..fits.len() {
        let mut tried = vec![false; others];
        place(child, fits, &mut taken_by, &mut tried);
    }
    let mut found = vec![None; fits.len()];
    for (other, child) in taken_by.iter().enumerate() {
        if let Some(slot) = child.and_then(|child| found.get_mut(child)) {
            *slot = Some(other);
        }
    }
    found
}

/// Moves others away where that makes room; the depth is bounded by the number of children.
fn place(
    child: usize,
    fits: &[Vec<usize>],
    taken_by: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for &other in fits.get(child).into_iter().flatten() {
        if tried.get(other).copied().unwrap_or(true) {
            continue;
        }
        tried[other] = true;
        let free = match taken_by[other] {
            None => true,
            Some(holder) => place(holder, fits, taken_by, tried),
        };
        if free {
            taken_by[other] = Some(child);
            return true;
        }
    }
    false
}

/// A value with `{scansion:…}` in it against what was received.
fn value_matches(pattern: &str, text: &str, captures: &mut Captures) -> bool {
    if let Some(pattern) = pattern.trim_start().strip_prefix(BASE64) {
        let decoded = STANDARD.decode(text.trim()).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        return decoded.is_some_and(|text| text_matches(pattern.trim_end(), &text, captures));
    }
    text_matches(pattern, text, captures)
}

fn text_matches(pattern: &str, text: &str, captures: &mut Captures) -> bool {
    let parts = parts(pattern);
    let mut found = Captures::new();
    let mut rest = text;
    let mut pending: Option<Option<&str>> = None;
    let last = parts.len().saturating_sub(1);
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Literal(literal) => {
                let at = match (pending, index == last) {
                    (None, _) => rest.starts_with(literal).then_some(0),
                    (Some(_), true) => rest.ends_with(literal).then(|| rest.len() - literal.len()),
                    (Some(_), false) => rest.find(literal),
                };
                let Some(at) = at else { return false };
                if let Some(Some(name)) = pending.take() {
                    found.insert(name.into(), rest[..at].into());
                }
                rest = &rest[at + literal.len()..];
            }
            Part::Any(name) => {
                if let Some(Some(name)) = pending.replace(*name) {
                    found.insert(name.into(), String::new());
                }
            }
        }
    }
    match pending {
        None if !rest.is_empty() => return false,
        Some(Some(name)) => {
            found.insert(name.into(), rest.into());
        }
        _ => {}
    }
    captures.extend(found);
    true
}

enum Part<'a> {
    Literal(&'a str),
    /// Anything, under this name.
    Any(Option<&'a str>),
}

fn parts(pattern: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(at) = rest.find("{scansion:") {
        let (before, marked) = rest.split_at(at);
        let (part, tail) = if let Some(tail) = marked.strip_prefix(ANY) {
            (Part::Any(None), tail)
        } else if let Some((name, tail)) = marked
            .strip_prefix(CAPTURE)
            .and_then(|tail| tail.split_once('}'))
        {
            (Part::Any(Some(name)), tail)
        } else {
            break;
        };
        if !before.is_empty() {
            parts.push(Part::Literal(before));
        }
        parts.push(part);
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    parts
}

/// True when a value as expected stands for this one; for showing both.
pub(crate) fn is_value(pattern: &str, text: &str) -> bool {
    value_matches(pattern, text, &mut Captures::new())
}

/// How near an element is: names weigh most, then the type, then the rest.
pub(crate) fn score(expected: &Tree, got: &Tree) -> usize {
    let mut score = 0;
    if expected.name() == got.name() {
        score += 8;
    }
    if expected.ns() == got.ns() {
        score += 4;
    }
    for (ns, name, value) in expected.attributes() {
        if got
            .attr_ns(ns, name)
            .is_some_and(|other| is_value(value, other))
        {
            score += if name == "type" { 6 } else { 2 };
        }
    }
    if expected.text().trim() == got.text().trim() {
        score += 1;
    }
    let best = |child: &Tree| got.children().map(|other| shallow(child, other)).max();
    score + expected.children().filter_map(best).sum::<usize>()
}

fn shallow(expected: &Tree, got: &Tree) -> usize {
    let same_name = usize::from(expected.name() == got.name());
    let same_text = usize::from(expected.text().trim() == got.text().trim());
    same_name * (2 + same_text)
}

#[cfg(test)]
mod tests;
