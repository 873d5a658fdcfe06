//! One self-contained page: the sum, every script with its outcome, failed ones first and open, and a
//! sequence diagram for each: a lane for each character, one for the server, an arrow for each stanza.

use crate::script::report::{Event, EventKind, Failure, Outcome, Report};
use crate::tree::escaped;
use std::fmt::Write;

const STYLE: &str = include_str!("html/style.css");

/// The page.
#[must_use]
pub fn html(reports: &[Report]) -> String {
    let failed = reports.iter().filter(|it| !it.outcome.is_good()).count();
    let verdict = if failed == 0 { "good" } else { "bad" };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width'>\
         <title>{failed} of {} scripts failed</title>\n<style>{STYLE}</style></head><body>\n\
         <header class='{verdict}'><h1>{}</h1><p>{}</p></header>\n",
        reports.len(),
        if failed == 0 {
            "As expected".into()
        } else {
            format!("{failed} not as expected")
        },
        safe(&super::summary(reports)),
    );
    let mut sorted: Vec<&Report> = reports.iter().collect();
    sorted.sort_by_key(|report| rank(report));
    for report in sorted {
        script(&mut out, report);
    }
    out.push_str("</body></html>\n");
    out
}

/// What needs a look comes first.
fn rank(report: &Report) -> u8 {
    match report.outcome.word() {
        "broken" => 0,
        "failed" => 1,
        "surprise" => 2,
        "pending" => 3,
        "skipped" => 4,
        _ => 5,
    }
}

fn script(out: &mut String, report: &Report) {
    let word = report.outcome.word();
    let open = if report.outcome.is_good() {
        ""
    } else {
        " open"
    };
    let _ = writeln!(
        out,
        "<details class='{word}'{open}><summary><b>{word}</b> <code>{}</code> <span>{}</span> \
         <i>{:.3} s</i></summary>",
        safe(&report.name),
        safe(&report.title),
        report.took.as_secs_f64()
    );
    match &report.outcome {
        Outcome::Failed(it) => failure(out, it),
        Outcome::Pending {
            reason,
            failure: it,
        } => {
            let _ = writeln!(out, "<p>pending: {}</p>", safe(reason));
            failure(out, it);
        }
        other => {
            if let Some(why) = other.why() {
                let _ = writeln!(out, "<pre class='why'>{}</pre>", safe(&why));
            }
        }
    }
    let failed_line = match &report.outcome {
        Outcome::Failed(it) | Outcome::Pending { failure: it, .. } => Some(it.at.line),
        _ => None,
    };
    diagram(out, report, failed_line);
    out.push_str("</details>\n");
}

/// Where it failed, and expected beside received.
fn failure(out: &mut String, failure: &Failure) {
    let _ = writeln!(
        out,
        "<div class='failure'><p><code>{}</code> <b>{}</b></p><pre class='why'>{}</pre>",
        safe(&failure.at.to_string()),
        safe(&failure.step),
        safe(&failure.what)
    );
    if !failure.rows.is_empty() {
        out.push_str("<table><tr><th>expected</th><th>received</th></tr>");
        for row in &failure.rows {
            let class = if row.differs { " class='differs'" } else { "" };
            let _ = write!(
                out,
                "<tr{class}><td>{}</td><td>{}</td></tr>",
                safe(&row.expected),
                safe(&row.received)
            );
        }
        out.push_str("</table>\n");
    } else if let Some(expected) = &failure.expected {
        let _ = writeln!(out, "<p>expected</p><pre>{}</pre>", safe(expected));
    }
    for candidate in &failure.candidates {
        let _ = writeln!(
            out,
            "<p>also near, and received</p><pre>{}</pre>",
            safe(candidate)
        );
    }
    out.push_str("</div>\n");
}

/// A grid: the server's lane first, then a column for each character.
fn diagram(out: &mut String, report: &Report, failed_line: Option<usize>) {
    if report.events.is_empty() {
        return;
    }
    let columns = report.lanes.len() + 1;
    let _ = write!(
        out,
        "<div class='diagram' style='grid-template-columns:4em repeat({columns},minmax(11em,1fr))'>\
         <div class='lane'>line</div><div class='lane server'>server</div>"
    );
    for lane in &report.lanes {
        let _ = write!(out, "<div class='lane'>{}</div>", safe(lane));
    }
    for (index, it) in report.events.iter().enumerate() {
        // rows of a grid are counted from 1, and the first has the names
        event(out, it, index + 2, failed_line);
    }
    if let Some(line) = failed_line {
        let row = report.events.len() + 2;
        let _ = write!(
            out,
            "<div class='here' style='grid-row:{row};grid-column:1/-1'>failed here: line {line}</div>"
        );
    }
    out.push_str("</div>\n");
}

fn event(out: &mut String, event: &Event, row: usize, failed_line: Option<usize>) {
    let failed = if failed_line == Some(event.line) {
        " failed"
    } else {
        ""
    };
    let _ = write!(
        out,
        "<div class='line{failed}' style='grid-row:{row};grid-column:1' title='{:.3} s'>{}</div>",
        event.at.as_secs_f64(),
        event.line
    );
    let (class, arrow) = match event.kind {
        EventKind::Sent => ("sent", "◀"),
        EventKind::Received => ("received", "▶"),
        EventKind::Unexpected => ("unexpected", "▶"),
        EventKind::Note => ("note", ""),
    };
    // from the server's lane to the character's: the arrow spans what lies between
    let (from, to) = match (event.lane, event.kind) {
        (None, _) => (2, 3),
        (Some(lane), EventKind::Note) => (lane + 3, lane + 4),
        (Some(lane), _) => (2, lane + 4),
    };
    let first = event.text.lines().next().unwrap_or_default();
    let rest = event.text.lines().count() > 1;
    let _ = write!(
        out,
        "<div class='event {class}{failed}' style='grid-row:{row};grid-column:{from}/{to}'>"
    );
    let _ = match (rest, event.kind) {
        (_, EventKind::Note) => write!(out, "{}", safe(&event.text)),
        (false, _) => write!(out, "<i>{arrow}</i><code>{}</code>", safe(first)),
        (true, _) => write!(
            out,
            "<i>{arrow}</i><details{}><summary><code>{}</code></summary><pre>{}</pre></details>",
            if class == "unexpected" { " open" } else { "" },
            safe(first),
            safe(&event.text)
        ),
    };
    out.push_str("</div>\n");
}

/// Text for HTML: no control characters, nothing that is markup.
fn safe(text: &str) -> String {
    let is_text = |c: &char| matches!(c, '\t' | '\n') || !c.is_control();
    let text: String = text.chars().filter(is_text).collect();
    escaped(&text)
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace("&apos;", "&#39;")
}
