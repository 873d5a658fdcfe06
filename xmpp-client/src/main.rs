//! The xmpp-client command; all of it is in `xmpp_client::cli`, so that tests can run it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    xmpp_client::cli::main()
}
