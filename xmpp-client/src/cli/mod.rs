//! The xmpp-client command: one short job for a script, or a session at a terminal (DESIGN 1).
//!
//! Results go to stdout, what goes wrong as one line to stderr; exit code 1 is failure, 2 usage.

mod args;
mod ask;
mod error;
mod examples;
mod history;
mod input;
mod live;
mod people;
mod room;
mod show;

use crate::client::XmppClient;
use crate::config::Builder;
use crate::reconnect::Reconnect;
use args::{Cli, Options, Word};
use clap::Parser;
use error::CliError;
use input::Input;
use show::Out;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Runs the command with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse().checked().unwrap_or_else(|error| error.exit());
    start_log(&cli.options);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(cli));
            // Not by dropping: a thread that waits for a line of standard input never ends.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(CliError::Io(error)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(CliError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let line = show::plain(&error.to_string());
            let _ = writeln!(io::stderr(), "xmpp-client: {line}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(options: &Options) {
    let filter = options.log.as_deref().unwrap_or("error");
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("error"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    let log = log
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // Only who embeds this can have set another one.
    let _ = log.try_init();
}

async fn run(cli: Cli) -> Result<(), CliError> {
    let Cli { options, word } = cli;
    let mut input = Input::new()?;
    let out = Out::new(options.json);
    match word {
        Word::Register(args) => return people::register(&options, &mut input, &out, &args).await,
        Word::Listen(args) => return live::listen(&options, &mut input, &out, &args).await,
        _ => {}
    }
    let client = connect(&options, &mut input, Reconnect::never()).await?;
    let done = obey(&client, word, &mut input, &out).await;
    let ended = client.disconnect().await;
    done?;
    // What was asked for is done; only a server that takes part in the end says that it has all.
    ended.map_err(CliError::Closed)
}

async fn obey(
    client: &XmppClient,
    word: Word,
    input: &mut Input,
    out: &Out,
) -> Result<(), CliError> {
    match word {
        Word::Send(args) => ask::send(client, &args, input, out).await,
        Word::Ping(args) => ask::ping(client, args.to.as_ref(), out).await,
        Word::Disco(args) => ask::disco(client, &args, out).await,
        Word::Roster(args) => people::roster(client, args, out).await,
        Word::Presence(args) => people::presence(client, &args, out).await,
        Word::Passwd => people::change_password(client, input, out).await,
        Word::History(args) => history::history(client, &args, out).await,
        Word::Muc(args) => room::muc(client, &args, input, out).await,
        Word::Raw(args) => live::raw(client, &args, input, out).await,
        Word::Register(_) | Word::Listen(_) => Ok(()),
    }
}

/// Signs in as the options say.
async fn connect(
    options: &Options,
    input: &mut Input,
    reconnect: Reconnect,
) -> Result<XmppClient, CliError> {
    let mut builder = builder(options).reconnect(reconnect);
    if options.cert.is_none() || options.password_stdin {
        builder = builder.password(&input.password(options)?);
    }
    builder.connect().await.map_err(CliError::Connect)
}

/// What the options say about the way to the server.
fn builder(options: &Options) -> Builder {
    let builder = XmppClient::builder(&options.jid());
    let mut builder = builder.connect_max(Duration::from_secs(options.timeout));
    if let Some(path) = &options.ca {
        builder = builder.ca_file(path);
    }
    if let Some(pin) = &options.pin {
        builder = builder.pin(pin);
    }
    if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
        builder = builder.certificate_files(cert, key);
    }
    if let Some(place) = &options.connect {
        builder = builder.connect_to(&place.to_string());
    }
    if options.direct_tls {
        builder = builder.direct_tls();
    }
    if let Some(server) = options.dns {
        builder = builder.name_servers(&[server]);
    }
    builder
}
