//! Every script under tests/scripts, each a test of its own: `cargo test --test scripts roster`.
//!
//! A script marked `## pending:` runs and must fail. Scripts have a runtime and a server of their own.

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xmpp_testkit::script::{Options, Outcome, find, output, suite};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let found = find(&[PathBuf::from(&folder)]).expect("the folder of scripts is there");
    let parts = suite::parts(&found);
    let trials = parts.into_iter().enumerate().map(|(number, part)| {
        let prefix = format!("{}/", folder.display());
        let name = part
            .name
            .strip_prefix(&prefix)
            .unwrap_or(&part.name)
            .to_owned();
        Trial::test(name, move || played(&part, number as u64))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    conclusion.exit_code()
}

fn played(part: &suite::Part, number: u64) -> Result<(), Failed> {
    let report = suite::play_part(part, &Options::default(), number);
    if let Outcome::Pending { .. } = &report.outcome {
        println!("{}", output::line(&report));
    }
    match report.outcome.is_good() {
        true => Ok(()),
        false => Err(output::line(&report).into()),
    }
}
