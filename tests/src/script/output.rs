//! Reports as text, JUnit XML, JSON and one page of HTML.

mod html;

pub use html::html;

use crate::script::report::{EventKind, Outcome, Report};
use crate::tree::escaped;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// One line for a script, and what went wrong below it.
#[must_use]
pub fn line(report: &Report) -> String {
    let took = seconds(report.took);
    let mut out = format!("{:8} {} ({took} s)", report.outcome.word(), report.name);
    let why = match &report.outcome {
        Outcome::Pending { reason, failure } => {
            let first = failure.what.lines().next().unwrap_or_default();
            Some(format!("{reason} [{}: {first}]", failure.at))
        }
        other => other.why(),
    };
    for line in why.iter().flat_map(|why| why.lines()) {
        let _ = write!(out, "\n    {line}");
    }
    out
}

/// How many of each kind there are.
#[must_use]
pub fn summary(reports: &[Report]) -> String {
    let count = |word: &str| {
        reports
            .iter()
            .filter(|it| it.outcome.word() == word)
            .count()
    };
    let words = [
        "passed", "failed", "broken", "pending", "surprise", "skipped",
    ];
    let counts: Vec<String> = words
        .iter()
        .filter(|word| count(word) > 0)
        .map(|word| format!("{} {word}", count(word)))
        .collect();
    let took: Duration = reports.iter().map(|report| report.took).sum();
    match counts.is_empty() {
        true => "no scripts".into(),
        false => format!("{}; {} s of playing", counts.join(", "), seconds(took)),
    }
}

/// As JUnit reads it: one suite, one case a script.
#[must_use]
pub fn junit(reports: &[Report]) -> String {
    let is = |word: &'static str| move |it: &&Report| it.outcome.word() == word;
    let skipped = reports.iter().filter(is("skipped")).count();
    let pending = reports.iter().filter(is("pending")).count();
    let failed = reports.iter().filter(|it| !it.outcome.is_good()).count();
    let took: Duration = reports.iter().map(|report| report.took).sum();
    let mut out = String::from("<?xml version='1.0' encoding='UTF-8'?>\n");
    let _ = writeln!(
        out,
        "<testsuite name='xmpp-script' tests='{}' failures='{failed}' skipped='{}' time='{}'>",
        reports.len(),
        skipped + pending,
        seconds(took)
    );
    for report in reports {
        let (folder, name) = report.name.rsplit_once('/').unwrap_or(("", &report.name));
        let _ = write!(
            out,
            "  <testcase classname='{}' name='{}' time='{}'",
            attribute(folder),
            attribute(name),
            seconds(report.took)
        );
        let why = report.outcome.why().unwrap_or_default();
        let first = attribute(why.lines().next().unwrap_or_default());
        let _ = match &report.outcome {
            Outcome::Passed => writeln!(out, "/>"),
            Outcome::Pending { .. } | Outcome::Skipped(_) => {
                writeln!(out, "><skipped message='{first}'/></testcase>")
            }
            _ => writeln!(
                out,
                "><failure message='{first}'>{}</failure></testcase>",
                attribute(&why)
            ),
        };
    }
    out.push_str("</testsuite>\n");
    out
}

/// XML text without what XML cannot hold.
fn attribute(text: &str) -> String {
    let is_xml = |c: &char| matches!(c, '\t' | '\n' | '\r') || !c.is_control();
    escaped(&text.chars().filter(is_xml).collect::<String>()).replace('>', "&gt;")
}

/// Everything that a report holds.
#[must_use]
pub fn json(reports: &[Report]) -> Value {
    let scripts: Vec<Value> = reports.iter().map(script).collect();
    json!({ "passed": reports.iter().all(|it| it.outcome.is_good()), "scripts": scripts })
}

fn script(report: &Report) -> Value {
    let events: Vec<Value> = report
        .events
        .iter()
        .map(|event| {
            json!({
                "line": event.line,
                "who": event.lane.and_then(|lane| report.lanes.get(lane)),
                "what": kind(event.kind),
                "text": event.text,
                "at_ms": event.at.as_secs_f64() * 1000.0,
            })
        })
        .collect();
    let mut value = json!({
        "name": report.name,
        "file": report.file.display().to_string(),
        "title": report.title,
        "outcome": report.outcome.word(),
        "why": report.outcome.why(),
        "seconds": report.took.as_secs_f64(),
        "seed": format!("{:x}", report.seed),
        "events": events,
    });
    if let Outcome::Failed(failure) | Outcome::Pending { failure, .. } = &report.outcome
        && let Some(fields) = value.as_object_mut()
    {
        let rows = failure.rows.iter();
        let rows: Vec<Value> = rows
            .map(|row| json!([row.expected, row.received, row.differs]))
            .collect();
        fields.insert(
            "failure".into(),
            json!({
                "at": failure.at.to_string(),
                "step": failure.step,
                "what": failure.what,
                "rows": rows,
                "candidates": failure.candidates,
            }),
        );
    }
    value
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Note => "note",
        EventKind::Received => "received",
        EventKind::Sent => "sent",
        EventKind::Unexpected => "unexpected",
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}
