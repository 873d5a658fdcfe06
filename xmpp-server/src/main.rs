//! The xmpp-server command: arguments, configuration, log, signals, exit code.
//!
//! DESIGN 1. stdout is for scripts and people who start it, stderr for the log.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use xmpp_server::check::{self, Finding};
use xmpp_server::cli::{Cli, Command};
use xmpp_server::config::Config;
use xmpp_server::log::{self, SetFilter};
use xmpp_server::server::{Handle, Server};
use xmpp_server::{console, datadir, guide};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::from_process();
    let config = match cli.config() {
        Ok(config) => config,
        Err(error) => match cli.command_word() {
            Command::Check { json } => return report(&[check::of_error(&error)], json),
            _ => return failed(&error),
        },
    };
    let log = log::start(&config.log);
    match cli.command_word() {
        Command::Run => run(cli, config, log).await,
        Command::Check { json } => report(&check::run(&config).await, json),
        Command::User { what, json } => match console::run(&what, json, &config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        Command::S2s { what, json } => match console::s2s(&what, json, &config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        Command::Session { what, json } => match console::session(&what, json, &config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        Command::Stats { json } => match console::stats(json, &config).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
    }
}

async fn run(cli: Cli, config: Config, log: SetFilter) -> ExitCode {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(%error, "the limit of open files stays as it is");
    }
    // The first start makes the development CA.
    let first = cli.is_bare() && !datadir::ca_certificate(config.data_dir()).exists();
    // Before the start, so that no signal between start and `ready` ends the process undrained.
    let signals = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = signals.map(signal) else {
        return failed(&"signals cannot be caught");
    };
    let running = match Server::start(config.clone()).await {
        Ok(running) => running,
        Err(error) => return failed(&error),
    };
    let guide = first.then(|| guide::first_start(&config, running.addresses()));
    let text = guide.unwrap_or_default() + &guide::ready(running.addresses());
    // A reader that went away is no reason to end.
    let _ = io::stdout().write_all(text.as_bytes());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Beside the loop: ending must not wait for it.
            _ = hangup.recv() => drop(tokio::spawn(reload(cli.clone(), running.handle(), log.clone()))),
        }
    }
    tokio::select! {
        // Not by returning: that would wait for work in other threads.
        () = running.shutdown() => std::process::exit(0),
        _ = terminate.recv() => std::process::exit(1),
        _ = interrupt.recv() => std::process::exit(1),
    }
}

/// SIGHUP: the file and the command line once more; what does not load changes nothing.
async fn reload(cli: Cli, server: Handle, set_filter: SetFilter) {
    let config = match cli.config() {
        Ok(config) => config,
        Err(error) => {
            return error!(%error, "configuration not reloaded; the old one stays in force");
        }
    };
    let filter = config.log.filter.clone();
    match server.reload(config).await {
        Ok(()) => {
            set_filter(&filter);
            info!("configuration reloaded");
        }
        Err(error) => error!(%error, "configuration not reloaded; the old one stays in force"),
    }
}

/// Findings to stdout; exit code 1 when one of them is an error.
fn report(findings: &[Finding], json: bool) -> ExitCode {
    let _ = io::stdout().write_all(check::lines(findings, json).as_bytes());
    match check::is_well(findings) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One line to stderr, exit code 1.
fn failed(error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "xmpp-server: {error}");
    ExitCode::FAILURE
}
