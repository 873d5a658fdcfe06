//! What came of a script: its outcome, and everything that was sent and received.

use crate::script::diff::{self, Row};
use crate::script::model::{At, ScriptError};
use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// One played script, or one case of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Path of the script, with the case behind `#` where it has a table of them.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// Its title.
    pub title: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// What random names were made from.
    pub seed: u64,
    /// Names of those who take part, in the order of their lanes.
    pub lanes: Vec<String>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// What came of a script.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The script cannot be played.
    Broken(ScriptError),
    /// Something was not as expected.
    Failed(Box<Failure>),
    /// Everything was as expected.
    Passed,
    /// It failed, as its mark says it must.
    Pending {
        /// The reason of the mark.
        reason: String,
        /// How it failed.
        failure: Box<Failure>,
    },
    /// It could not be played here.
    Skipped(String),
    /// It passed although its mark says that it must fail.
    Surprise(String),
}

impl Outcome {
    /// True when the suite as a whole can still pass.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Passed | Self::Pending { .. } | Self::Skipped(_))
    }

    /// One word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::Failed(_) => "failed",
            Self::Passed => "passed",
            Self::Pending { .. } => "pending",
            Self::Skipped(_) => "skipped",
            Self::Surprise(_) => "surprise",
        }
    }

    /// Why, when it did not simply pass.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Broken(error) => Some(error.to_string()),
            Self::Failed(failure) => Some(failure.to_string()),
            Self::Passed => None,
            Self::Pending { reason, .. } => Some(format!("pending: {reason}")),
            Self::Skipped(reason) => Some(reason.clone()),
            Self::Surprise(reason) => Some(format!(
                "passes although it is marked `## pending: {reason}`: remove the mark"
            )),
        }
    }
}

/// Something sent, received or done.
#[derive(Clone, Debug)]
pub struct Event {
    /// The line of the script.
    pub line: usize,
    /// Whose, by lane; `None`: the server's.
    pub lane: Option<usize>,
    /// What kind.
    pub kind: EventKind,
    /// What, indented for people.
    pub text: String,
    /// When, from the start of the script.
    pub at: Duration,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// Something else that was done.
    Note,
    /// From the server.
    Received,
    /// From the server, and not as expected, or not asked for when the script failed.
    Unexpected,
    /// To the server.
    Sent,
}

/// Where a script failed, and how.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The step.
    pub at: At,
    /// The step as written.
    pub step: String,
    /// What is wrong, in a line or a few.
    pub what: String,
    /// What was expected, indented.
    pub expected: Option<String>,
    /// What was received next, beside it.
    pub rows: Vec<Row>,
    /// Other things received that are like it, best first.
    pub candidates: Vec<String>,
    /// Everything that the character has received so far.
    pub received: Vec<String>,
}

impl Failure {
    pub(crate) fn new(at: &At, step: &str, what: impl Into<String>) -> Self {
        Self {
            at: at.clone(),
            step: step.into(),
            what: what.into(),
            expected: None,
            rows: Vec::new(),
            candidates: Vec::new(),
            received: Vec::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = format!("{}: {}\n  in: {}\n", self.at, self.what, self.step);
        if !self.rows.is_empty() {
            out.push_str(&diff::text(&self.rows));
        } else if let Some(expected) = &self.expected {
            let _ = writeln!(out, "expected\n{}", indented(expected));
        }
        for candidate in &self.candidates {
            let _ = writeln!(out, "also near, and received:\n{}", indented(candidate));
        }
        match self.received.len() {
            0 => {}
            count => {
                let _ = writeln!(out, "received so far ({count}):");
            }
        }
        for received in &self.received {
            let _ = writeln!(out, "{}", indented(received));
        }
        f.write_str(out.trim_end())
    }
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}
