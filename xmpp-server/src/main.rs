//! The xmpp-server command: arguments, configuration, log, signals, exit code.
//!
//! DESIGN 1. stdout is for scripts and people who start it, stderr for the log.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use xmpp_server::cli::{Cli, Command};
use xmpp_server::config::{Config, Log, LogFormat};
use xmpp_server::server::Server;
use xmpp_server::{console, datadir, guide};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::from_process();
    let config = match cli.config() {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    start_log(&config.log);
    match cli.command_word() {
        Command::Run => run(config, cli.is_bare()).await,
        Command::User { what, json } => match console::run(&what, json, &config).await {
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

/// `bare`: nothing was configured, so a first start explains itself.
async fn run(config: Config, bare: bool) -> ExitCode {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(%error, "the limit of open files stays as it is");
    }
    // The first start makes the development CA.
    let first = bare && !datadir::ca_certificate(config.data_dir()).exists();
    datadir::wait_for_command(config.data_dir()).await;
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
            _ = hangup.recv() => info!("SIGHUP: reload is not available yet; nothing changed"),
        }
    }
    tokio::select! {
        // Not by returning: that would wait for work in other threads.
        () = running.shutdown() => std::process::exit(0),
        _ = terminate.recv() => std::process::exit(1),
        _ = interrupt.recv() => std::process::exit(1),
    }
}

fn start_log(log: &Log) {
    // The filter has been parsed once already, by the file's or the command line's reader.
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_default();
    let output = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match log.format {
        LogFormat::Text => output.init(),
        LogFormat::Json => output.json().init(),
    }
}

/// One line to stderr, exit code 1.
fn failed(error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "xmpp-server: {error}");
    ExitCode::FAILURE
}
