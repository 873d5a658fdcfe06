//! The xmpp-client command for tests here, which need a server in the same process beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    xmpp_client::cli::main()
}
