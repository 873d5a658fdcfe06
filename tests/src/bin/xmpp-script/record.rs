//! `xmpp-script --record`: the command around `script::record`.

use crate::Arguments;
use std::future::pending;
use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::Password;
use xmpp_testkit::script::parse_text;
use xmpp_testkit::script::record::{Options, RecordError, Recorder};
use xmpp_testkit::script::stage::Elsewhere;

/// How long the server may take for an answer during the login, unless the caller says.
const PATIENCE: Duration = Duration::from_secs(5);
/// Without `--for`.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Longer lines are no passwords.
const PASSWORD_BYTES_MAX: usize = 1024;

/// Records into the file; true when there is a session in it.
pub(crate) fn record(
    arguments: &Arguments,
    file: &Path,
    elsewhere: Option<Elsewhere>,
) -> Result<bool, String> {
    let accounts = accounts(arguments, elsewhere.as_ref())?;
    let options = Options {
        listen: arguments.listen,
        elsewhere,
        accounts,
        certificate: certificate(arguments)?,
        patience: arguments.patience.unwrap_or(PATIENCE),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    runtime.block_on(all(arguments, file, options))
}

async fn all(arguments: &Arguments, file: &Path, options: Options) -> Result<bool, String> {
    let told = |error: RecordError| error.to_string();
    let names: Vec<String> = options
        .accounts
        .iter()
        .map(|(jid, _)| jid.to_string())
        .collect();
    let recorder = Recorder::listen(options).await.map_err(told)?;
    let address: SocketAddr = recorder.address().map_err(|why| why.to_string())?;
    match (recorder.ca_pem(), &arguments.ca_out) {
        (Some(pem), Some(file)) => {
            crate::write(file, pem)?;
            println!("clients must trust {}", file.display());
        }
        (Some(_), None) => {
            eprintln!("xmpp-script: no client can trust this recorder without --ca-out FILE");
        }
        (None, _) => {}
    }
    println!("listening on {address} for {}", names.join(", "));
    let stop = stopped(arguments.for_time).map_err(|why| why.to_string())?;
    let recorded = recorder.record(stop).await;
    for remark in &recorded.remarks {
        eprintln!("xmpp-script: {remark}");
    }
    crate::write(file, &recorded.script)?;
    println!("{}: {} sessions", file.display(), recorded.sessions);
    if let Err(why) = parse_text(&file.display().to_string(), &recorded.script) {
        return Err(format!("what was recorded cannot be played: {why}"));
    }
    Ok(recorded.sessions > 0)
}

/// An interrupt, a request to end, or the time.
fn stopped(time: Option<Duration>) -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        // a bound on what does not happen otherwise
        let time = timeout(time.unwrap_or(FOREVER), pending::<()>());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = time => {}
        }
    })
}

fn certificate(arguments: &Arguments) -> Result<Option<(String, String)>, String> {
    let read = |file: &Path| {
        std::fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))
    };
    match (&arguments.cert, &arguments.key) {
        (Some(cert), Some(key)) => Ok(Some((read(cert)?, read(key)?))),
        _ => Ok(None),
    }
}

/// Those of `--account`, with the passwords of `--accounts` or else of standard input.
fn accounts(
    arguments: &Arguments,
    elsewhere: Option<&Elsewhere>,
) -> Result<Vec<(BareJid, Password)>, String> {
    let known = elsewhere.and_then(|elsewhere| elsewhere.accounts.as_ref());
    let mut accounts = Vec::new();
    for jid in &arguments.account {
        let address = BareJid::parse(jid).map_err(|why| format!("--account {jid}: {why}"))?;
        let password = match known.and_then(|known| known.get(address.as_jid().as_str())) {
            Some(password) => password.clone(),
            None => password(jid)?,
        };
        accounts.push((address, Password(password)));
    }
    Ok(accounts)
}

/// Asks at a terminal, without showing what is typed; else a line of standard input.
fn password(jid: &str) -> Result<String, String> {
    if std::io::stdin().is_terminal() {
        let asked = rpassword::prompt_password(format!("Password of {jid}: "));
        return asked.map_err(|why| format!("the password of {jid}: {why}"));
    }
    let mut line = Vec::new();
    let mut byte = [0];
    let mut input = std::io::stdin().lock();
    while input.read(&mut byte).map_err(|why| why.to_string())? == 1 && byte != *b"\n" {
        line.push(byte[0]);
        if line.len() > PASSWORD_BYTES_MAX {
            return Err(format!("the password of {jid} is too long"));
        }
    }
    let line = String::from_utf8(line).map_err(|_| format!("the password of {jid} is no text"))?;
    match line.trim_end_matches('\r') {
        "" => Err(format!(
            "the password of {jid} is asked for on standard input"
        )),
        password => Ok(password.into()),
    }
}
