//! The command xmpp-lab: a lab for clients and servers of any make, outside of a test.
//!
//! `up` serves domains until it is ended, `demo` plays a conversation and ends. What is printed are
//! the events of view.rs, as lines or as JSON; what is typed are the orders of orders.rs.

mod accounts;
mod arguments;
mod demo;
mod error;
mod folder;
mod names;
mod orders;
mod ports;
mod stanzas;
mod up;
mod view;

pub use error::Trouble;

use arguments::{Arguments, Word};
use clap::Parser;
use std::process::ExitCode;

/// Reads the process's arguments and does what they say. Exit code 1: it failed; 2: usage.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Trouble::Io("the runtime".into(), error)),
    };
    let done = runtime.block_on(async {
        match arguments.word {
            Word::Up(up) => up::run(up).await,
            Word::Demo(demo) => demo::run(demo).await,
        }
    });
    // The thread that reads the terminal may wait for a line for ever.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => failed(&trouble),
    }
}

fn failed(trouble: &Trouble) -> ExitCode {
    eprintln!("xmpp-lab: {trouble}");
    match trouble {
        Trouble::Usage(_) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}
