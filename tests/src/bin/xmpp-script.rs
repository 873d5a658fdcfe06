//! Plays stanza scripts, against a server in this process or any other, and records them.
//!
//! Exit code 0: all is as expected; 1: something is not; 2: the command line or a file of it is wrong.

#[path = "xmpp-script/record.rs"]
mod record;

use clap::Parser;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use xmpp_testkit::Trust;
use xmpp_testkit::script::parse::duration;
use xmpp_testkit::script::stage::{Elsewhere, read_accounts};
use xmpp_testkit::script::{Options, Report, find, output, play, suite};

/// How often `--watch` looks at the files.
const WATCH_EVERY: Duration = Duration::from_millis(300);

#[derive(Parser)]
#[command(
    name = "xmpp-script",
    about = "Plays stanza scripts, against a server in this process or any other, and records them",
    after_help = "Exit code: 0 all is as expected, 1 something is not, 2 usage"
)]
struct Arguments {
    /// Scripts, and folders of scripts (*.scs)
    #[arg(required_unless_present = "record", conflicts_with = "record")]
    paths: Vec<PathBuf>,
    /// Play against this server; may be given once for each domain
    #[arg(long, value_name = "DOMAIN=HOST:PORT")]
    server: Vec<String>,
    /// Where the same server begins with TLS, for characters of `tls: direct`
    #[arg(long, value_name = "DOMAIN=HOST:PORT", requires = "server")]
    server_tls: Vec<String>,
    /// The CA to trust there, as PEM; without it those of the system are trusted
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
    /// Give accounts names of their own in this run, and play scripts at the same time
    #[arg(long, requires = "server")]
    fresh: bool,
    /// Accounts that exist there, `address,password` a line; without it they are registered in band
    #[arg(long, value_name = "FILE", requires = "server")]
    accounts: Option<PathBuf>,
    /// A command that makes an account there; {local}, {domain} and {password} are replaced
    #[arg(
        long,
        value_name = "CMD",
        requires = "server",
        conflicts_with = "accounts"
    )]
    account_command: Option<String>,
    /// What names of --fresh are made from; printed by each run
    #[arg(long, value_parser = hexadecimal)]
    seed: Option<u64>,
    /// Scripts played at a time
    #[arg(long, value_name = "N", default_value_t = 0)]
    jobs: usize,
    /// How long to wait for what is expected, unless a script says, e.g. 500ms or 5s
    #[arg(long, value_name = "TIME", value_parser = duration)]
    patience: Option<Duration>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one self-contained page with a sequence diagram for each script
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Play again whenever a file of the paths changes, until interrupted
    #[arg(long)]
    watch: bool,
    /// Print only what is not as expected, and the sum
    #[arg(long, short)]
    quiet: bool,
    /// Write a script of the sessions that pass through here, to --server or to one in this process
    #[arg(long, value_name = "FILE", requires = "account")]
    record: Option<PathBuf>,
    /// Who may sign in to be recorded; once for each. Passwords: --accounts, or a line each on
    /// standard input
    #[arg(long, value_name = "JID", requires = "record")]
    account: Vec<String>,
    /// Where the recorder listens
    #[arg(long, value_name = "ADDRESS", requires = "record",
        default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 5222)))]
    listen: SocketAddr,
    /// The recorder's certificate chain, as PEM; without it one is made
    #[arg(long, value_name = "FILE", requires = "record", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of the certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Write the CA of the certificate that is made, for the client to trust
    #[arg(
        long,
        value_name = "FILE",
        requires = "record",
        conflicts_with = "cert"
    )]
    ca_out: Option<PathBuf>,
    /// Record for this long; else until every account has had its session, or an interrupt
    #[arg(long = "for", value_name = "TIME", requires = "record", value_parser = duration)]
    for_time: Option<Duration>,
}

fn hexadecimal(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(text, 16)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = options(&arguments).and_then(|options| match &arguments.record {
        Some(file) => record::record(&arguments, file, options.elsewhere),
        None => all(&arguments, &options),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("xmpp-script: {why}");
            ExitCode::from(2)
        }
    }
}

fn all(arguments: &Arguments, options: &Options) -> Result<bool, String> {
    let mut state = modified(arguments)?;
    loop {
        let good = once(arguments, options)?;
        if !arguments.watch {
            return Ok(good);
        }
        state = next_change(arguments, &state)?;
    }
}

/// Plays everything once.
fn once(arguments: &Arguments, options: &Options) -> Result<bool, String> {
    let found = find(&arguments.paths).map_err(|why| shown(&arguments.paths, &why))?;
    let parts = suite::parts(&found);
    let told = |report: &Report| {
        if !arguments.quiet || !report.outcome.is_good() {
            println!("{}", output::line(report));
        }
    };
    let reports = play(&parts, options, &told);
    println!("{}; seed {:x}", output::summary(&reports), options.seed);
    if let Some(file) = &arguments.junit {
        write(file, &output::junit(&reports))?;
    }
    if let Some(file) = &arguments.json {
        write(file, &format!("{:#}\n", output::json(&reports)))?;
    }
    if let Some(file) = &arguments.html {
        write(file, &output::html(&reports))?;
    }
    let broken = |report: &Report| report.outcome.word() == "broken";
    match reports.iter().any(broken) && !arguments.watch {
        true => Err("a script is broken".into()),
        false => Ok(reports.iter().all(|report| report.outcome.is_good())),
    }
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|why| format!("{}: {why}", file.display()))
}

fn shown(paths: &[PathBuf], why: &std::io::Error) -> String {
    let missing = paths.iter().find(|path| !path.exists());
    match missing {
        Some(path) => format!("{}: {why}", path.display()),
        None => why.to_string(),
    }
}

/// When each script was changed last.
fn modified(arguments: &Arguments) -> Result<BTreeMap<PathBuf, SystemTime>, String> {
    let found = find(&arguments.paths).map_err(|why| shown(&arguments.paths, &why))?;
    let time = |file: &Path| {
        std::fs::metadata(file)
            .and_then(|data| data.modified())
            .ok()
    };
    let times = found.into_iter().filter_map(|found| {
        let time = time(&found.file)?;
        Some((found.file, time))
    });
    Ok(times.collect())
}

/// Waits until a script is changed, added or removed.
fn next_change(
    arguments: &Arguments,
    state: &BTreeMap<PathBuf, SystemTime>,
) -> Result<BTreeMap<PathBuf, SystemTime>, String> {
    println!("waiting for a change");
    loop {
        // a pause and nothing to wait for: file systems do not tell
        std::thread::park_timeout(WATCH_EVERY);
        let now = modified(arguments)?;
        if now != *state {
            return Ok(now);
        }
    }
}

fn options(arguments: &Arguments) -> Result<Options, String> {
    let seed = arguments.seed.unwrap_or_else(new_seed);
    let mut options = Options {
        fresh: arguments.fresh,
        seed,
        at_a_time: arguments.jobs,
        patience: arguments.patience,
        elsewhere: None,
    };
    if arguments.server.is_empty() {
        return Ok(options);
    }
    let mut elsewhere = Elsewhere {
        servers: places("--server", &arguments.server)?,
        servers_tls: places("--server-tls", &arguments.server_tls)?,
        ..Elsewhere::default()
    };
    if let Some(file) = &arguments.ca {
        let pem =
            std::fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))?;
        let trust = Trust::try_pem(&pem).map_err(|why| format!("{}: {why}", file.display()))?;
        elsewhere.trust = Some(trust);
    } else {
        elsewhere.trust = Trust::system();
    }
    if let Some(file) = &arguments.accounts {
        elsewhere.accounts = Some(read_accounts(file).map_err(|why| why.to_string())?);
    }
    if let Some(command) = &arguments.account_command {
        elsewhere.command = Some(command.split_whitespace().map(str::to_owned).collect());
    }
    options.elsewhere = Some(elsewhere);
    Ok(options)
}

fn places(option: &str, given: &[String]) -> Result<BTreeMap<String, String>, String> {
    let place = |server: &String| {
        let (domain, address) = server
            .split_once('=')
            .filter(|(_, address)| address.rsplit_once(':').is_some())
            .ok_or_else(|| format!("{option} {server}: write DOMAIN=HOST:PORT"))?;
        Ok((domain.to_owned(), address.to_owned()))
    };
    given.iter().map(place).collect()
}

/// Different for each run.
fn new_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) & 0xffff_ffff
}
