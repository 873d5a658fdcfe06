//! The log of the process (DESIGN 1): form, filter, and how the filter changes while it runs.

use crate::config::{Log, LogFormat};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// Sets another filter while the log runs.
pub type SetFilter = Arc<dyn Fn(&str) + Send + Sync>;

/// Starts the process's log, to stderr; what is given back changes its filter later.
#[must_use]
pub fn start(log: &Log) -> SetFilter {
    let output = tracing_subscriber::fmt()
        .with_env_filter(filter(&log.filter))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // Setting a filter fails only when there is no log any more.
    match log.format {
        LogFormat::Text => {
            let output = output.with_filter_reloading();
            let handle = output.reload_handle();
            output.init();
            Arc::new(move |text: &str| drop(handle.reload(filter(text))))
        }
        LogFormat::Json => {
            let output = output.json().with_filter_reloading();
            let handle = output.reload_handle();
            output.init();
            Arc::new(move |text: &str| drop(handle.reload(filter(text))))
        }
    }
}

/// It has been parsed once already, by the file's or the command line's reader.
fn filter(text: &str) -> EnvFilter {
    EnvFilter::try_new(text).unwrap_or_default()
}
