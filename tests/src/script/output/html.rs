//! One self-contained page: a list of scripts, a sequence diagram for each, and where one failed.

use crate::script::report::Report;

/// The page.
#[must_use]
pub fn html(reports: &[Report]) -> String {
    format!("{}", reports.len())
}
