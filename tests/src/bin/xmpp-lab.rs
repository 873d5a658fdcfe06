//! Federated domains in one process; `xmpp-lab demo` is the shortest way to see them talk.

use std::process::ExitCode;

fn main() -> ExitCode {
    xmpp_testkit::lab_cli::main()
}
