//! Plays stanza scripts, against a server in this process or any other.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use xmpp_testkit::script::{Options, find, output, play, suite};

#[derive(Parser)]
#[command(about = "Plays stanza scripts, against a server in this process or any other")]
struct Arguments {
    /// Scripts, and folders of scripts (*.scs)
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let found = match find(&arguments.paths) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("xmpp-script: {error}");
            return ExitCode::from(2);
        }
    };
    let parts = suite::parts(&found);
    let reports = play(&parts, &Options::default(), &|report| {
        println!("{}", output::line(report))
    });
    println!("{}", output::summary(&reports));
    match reports.iter().all(|report| report.outcome.is_good()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    }
}
