//! The `xmpp-certs` command: a development authority and certificates by it, as files.
//!
//! README.md says how to trust them in a client. The only place of this package that asks what
//! time it is.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use xmpp_certs::{CertError, DevCa};

/// Makes certificates for trying and testing XMPP servers. Never use them in production.
///
/// Writes ca.pem (trust it in your client), ca.key, and NAME.pem and NAME.key for every name: a
/// domain gets the certificate of a server, an account such as juliet@example.test that of a client
/// that signs in by it. What is there already and still good is kept.
#[derive(Parser)]
#[command(name = "xmpp-certs", version)]
struct Arguments {
    /// Folder to write to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// Domains and accounts to issue certificates for
    #[arg(value_name = "NAME", default_value = "localhost")]
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error
                .source()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            // Nobody is left to be told when stderr is closed.
            let _ = writeln!(io::stderr(), "xmpp-certs: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), CertError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a command starts from the clock on the wall"
    )]
    let now = SystemTime::now();
    let ca = DevCa::load_or_create(&arguments.out, now)?;
    let mut lines = format!("authority   {}\n", arguments.out.join("ca.pem").display());
    for name in &arguments.names {
        let files = match name.contains('@') {
            true => ca.ensure_client(&arguments.out, name, now)?,
            false => ca.ensure_domain(&arguments.out, name, now)?,
        };
        let state = if files.written { "issued" } else { "kept" };
        lines += &format!("{state:<11} {}\n", files.certificate.display());
    }
    // A reader that closed the pipe has its files all the same.
    let _ = io::stdout().write_all(lines.as_bytes());
    Ok(())
}
