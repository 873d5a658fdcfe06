//! The commands at the terminal: where passwords come from, and what is printed.
//!
//! DESIGN 1. Results go to stdout, what goes wrong to stderr.

use crate::admin::{self, Admin, AdminError, Request};
use crate::cli::{S2sCommand, SessionCommand, UserCommand};
use crate::config::Config;
use crate::import::{self, ImportError, Report, Telling};
use crate::metrics::Sample;
use crate::random;
use crate::s2s::check::Checked;
use crate::s2s::list::Listed as Link;
use crate::sessions::Listed;
use crate::watch::Shown;
use serde_json::{Value, json};
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use xmpp_stream::jid::BareJid;

/// Where a password comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PasswordFrom {
    /// Made here and printed.
    Generated,
    /// Asked for at the terminal, twice.
    Prompt,
    /// One line of standard input.
    Stdin,
}

/// Why a user command failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The server or the store.
    Admin(AdminError),
    /// A domain cannot be reached; why, has been said.
    Check,
    /// The two passwords typed were not the same.
    Differ,
    /// The line on standard input has no password.
    EmptyPassword,
    /// The file of an import, or what answered it.
    Import(ImportError),
    /// Lines of an import were bad; which, has been said.
    ImportLines(u64),
    /// Standard input or output.
    Io(io::Error),
    /// The line on standard input does not end.
    LongPassword,
    /// There is no terminal to ask at.
    NoTerminal,
    /// The line on standard input is not UTF-8.
    NotUtf8,
}

/// A password longer than this is a file given by mistake.
const PASSWORD_BYTES_MAX: usize = 4096;

/// Does what a user command says.
///
/// # Errors
/// See `ConsoleError`.
pub async fn run(what: &UserCommand, json: bool, config: &Config) -> Result<(), ConsoleError> {
    let (account, from) = match what {
        UserCommand::Add(jid, from) | UserCommand::Password(jid, from) => (Some(jid), Some(*from)),
        UserCommand::Remove(jid) | UserCommand::Ban(jid, _) | UserCommand::Unban(jid) => {
            (Some(jid), None)
        }
        UserCommand::List(_) => (None, None),
        UserCommand::Import(file) => return import(file, json, config).await,
    };
    let password = match from {
        Some(PasswordFrom::Generated) => generate(),
        Some(PasswordFrom::Prompt) => prompt()?,
        Some(PasswordFrom::Stdin) => password_line(stdin().map_err(ConsoleError::Io)?)?,
        None => String::new(),
    };
    let request = what.request(password.clone(), json);
    let accounts = admin::request(config, request)
        .await
        .map_err(ConsoleError::Admin)?;
    let shown = (from == Some(PasswordFrom::Generated)).then_some(password.as_str());
    let text = match account {
        Some(jid) => show_account(jid, shown, json),
        None => show_list(&accounts, json),
    };
    print(&text)
}

fn print(text: &str) -> Result<(), ConsoleError> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written
        .and_then(|()| stdout.flush())
        .map_err(ConsoleError::Io)
}

/// Does what a session command says.
///
/// # Errors
/// See `ConsoleError`.
pub async fn session(
    what: &SessionCommand,
    json: bool,
    config: &Config,
) -> Result<(), ConsoleError> {
    match what {
        SessionCommand::List => {
            let listed = admin::request::<Listed>(config, Request::SessionList).await;
            let listed = listed.map_err(ConsoleError::Admin)?;
            let line = |session: &Listed| match json {
                true => format!("{}\n", json!(session)),
                false => format!("{}\n", session.text()),
            };
            print(&listed.iter().map(line).collect::<String>())
        }
        SessionCommand::Kick(jid) => {
            let jid = jid.to_string();
            let shown = json.then(|| format!("{}\n", json!({ "jid": jid })));
            let kicked = admin::request::<Value>(config, Request::SessionKick { jid }).await;
            kicked.map_err(ConsoleError::Admin)?;
            print(&shown.unwrap_or_default())
        }
        SessionCommand::Watch(jid) => {
            let jid = jid.to_string();
            let done = watch(Request::SessionWatch { jid }, json, config).await;
            match done {
                // The server ended, and with it what there was to see.
                Err(AdminError::Socket(error))
                    if error.kind() == io::ErrorKind::UnexpectedEof
                        || error.kind() == io::ErrorKind::BrokenPipe =>
                {
                    Ok(())
                }
                done => done.map_err(ConsoleError::Admin),
            }
        }
    }
}

/// Does what an `s2s` command says.
///
/// # Errors
/// See `ConsoleError`.
pub async fn s2s(what: &S2sCommand, json: bool, config: &Config) -> Result<(), ConsoleError> {
    match what {
        S2sCommand::List(domain) => {
            let domain = domain.clone();
            let listed = admin::request::<Link>(config, Request::S2sList { domain }).await;
            let line = |link: &Link| match json {
                true => format!("{}\n", json!(link)),
                false => format!("{}\n", link.text()),
            };
            let listed = listed.map_err(ConsoleError::Admin)?;
            print(&listed.iter().map(line).collect::<String>())
        }
        S2sCommand::Check(domain) => {
            let domain = domain.clone();
            let steps = admin::request::<Checked>(config, Request::S2sCheck { domain }).await;
            let steps = steps.map_err(ConsoleError::Admin)?;
            let line = |step: &Checked| match json {
                true => format!("{}\n", json!(step)),
                false => format!("{}\n", step.text()),
            };
            print(&steps.iter().map(line).collect::<String>())?;
            match steps.last().is_some_and(|last| last.ok) {
                true => Ok(()),
                false => Err(ConsoleError::Check),
            }
        }
    }
}

async fn watch(request: Request, json: bool, config: &Config) -> Result<(), AdminError> {
    let mut admin = Admin::open(config, &request).await?;
    let show = |shown: Shown| {
        let line = match json {
            true => format!("{}\n", json!(shown)),
            false => format!("{}\n", shown.text()),
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(line.as_bytes())?;
        stdout.flush()
    };
    admin.follow(&request, show).await
}

/// Prints the counters of the running server.
///
/// # Errors
/// See `ConsoleError`.
pub async fn stats(json: bool, config: &Config) -> Result<(), ConsoleError> {
    let samples = admin::request::<Sample>(config, Request::Stats).await;
    let samples = samples.map_err(ConsoleError::Admin)?;
    let show = |sample: &Sample| match json {
        true => sample.json(),
        false => sample.text(),
    };
    print(&samples.iter().map(show).collect::<String>())
}

async fn import(file: &Path, json: bool, config: &Config) -> Result<(), ConsoleError> {
    // Before anything is made where it does not exist.
    std::fs::metadata(file).map_err(|error| ConsoleError::Import(ImportError::File(error)))?;
    let opening = Request::UserImport {
        accounts: Vec::new(),
    };
    let admin = Admin::open(config, &opening).await;
    let mut admin = admin.map_err(ConsoleError::Admin)?;
    let mut telling = ToStderr {
        file,
        is_terminal: io::stderr().is_terminal(),
        shown: false,
    };
    let iterations = config.sasl.scram_iterations;
    let report = import::import(file, &mut admin, iterations, &mut telling).await;
    telling.clear();
    admin.close().await;
    let report = report.map_err(ConsoleError::Import)?;
    print(&match json {
        true => format!("{}\n", json!(report)),
        false => format!("{report}\n"),
    })?;
    match report.failed {
        0 => Ok(()),
        failed => Err(ConsoleError::ImportLines(failed)),
    }
}

/// Bad lines and progress: on one line that is written over at a terminal.
struct ToStderr<'a> {
    file: &'a Path,
    is_terminal: bool,
    shown: bool,
}

impl ToStderr<'_> {
    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Telling for ToStderr<'_> {
    fn bad(&mut self, line: u64, why: &dyn fmt::Display) {
        self.clear();
        let _ = writeln!(io::stderr(), "{}:{line}: {why}", self.file.display());
    }

    fn progress(&mut self, report: &Report, percent: u64) {
        self.clear();
        self.shown = self.is_terminal;
        let end = if self.is_terminal { "" } else { "\n" };
        let _ = write!(io::stderr(), "{percent} %: {report}{end}");
    }
}

/// Nothing on success but a generated password, as a program expects; with JSON always an object.
fn show_account(jid: &BareJid, password: Option<&str>, json: bool) -> String {
    match (password, json) {
        (Some(password), true) => {
            format!(
                "{}\n",
                serde_json::json!({ "jid": jid.as_str(), "password": password })
            )
        }
        (None, true) => format!("{}\n", serde_json::json!({ "jid": jid.as_str() })),
        (Some(password), false) => format!("{password}\n"),
        (None, false) => String::new(),
    }
}

fn show_list(accounts: &[Value], json: bool) -> String {
    let line = |account: &Value| match (json, account.get("jid").and_then(Value::as_str)) {
        (false, Some(jid)) => format!("{jid}\n"),
        _ => format!("{account}\n"),
    };
    accounts.iter().map(line).collect()
}

/// Standard input without the buffer of `io::stdin`, which would take more than the line.
fn stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// One line without its end; byte by byte, so that the rest stays for whoever reads next.
fn password_line(mut input: impl Read) -> Result<String, ConsoleError> {
    let mut line = Vec::new();
    let mut byte = [0];
    while input.read(&mut byte).map_err(ConsoleError::Io)? == 1 && byte != *b"\n" {
        if line.len() == PASSWORD_BYTES_MAX {
            return Err(ConsoleError::LongPassword);
        }
        line.extend_from_slice(&byte);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    let line = String::from_utf8(line).map_err(|_| ConsoleError::NotUtf8)?;
    if line.is_empty() {
        Err(ConsoleError::EmptyPassword)
    } else {
        Ok(line)
    }
}

fn prompt() -> Result<String, ConsoleError> {
    if !io::stdin().is_terminal() {
        return Err(ConsoleError::NoTerminal);
    }
    let password = rpassword::prompt_password("Password: ").map_err(ConsoleError::Io)?;
    let again = rpassword::prompt_password("Again: ").map_err(ConsoleError::Io)?;
    match password {
        password if password.is_empty() => Err(ConsoleError::EmptyPassword),
        password if password == again => Ok(password),
        _ => Err(ConsoleError::Differ),
    }
}

/// 120 random bits in characters that are not mistaken for one another.
fn generate() -> String {
    const LETTERS: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'm', 'n', 'p', 'q', 'r', 's', 't',
        'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    let mut bytes = [0; 24];
    random::fill(&mut bytes);
    bytes
        .iter()
        .filter_map(|byte| LETTERS.get(usize::from(byte % 32)))
        .collect()
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(error) => error.fmt(f),
            Self::Check => f.write_str("the domain cannot be reached"),
            Self::Differ => f.write_str("the two passwords differ"),
            Self::EmptyPassword => f.write_str("the password is empty"),
            Self::Import(error) => error.fmt(f),
            Self::ImportLines(1) => f.write_str("one line was not imported"),
            Self::ImportLines(lines) => write!(f, "{lines} lines were not imported"),
            Self::Io(error) => error.fmt(f),
            Self::LongPassword => {
                write!(f, "the password is longer than {PASSWORD_BYTES_MAX} bytes")
            }
            Self::NoTerminal => f.write_str(
                "there is no terminal to ask for the password; use --password-stdin or --generate",
            ),
            Self::NotUtf8 => f.write_str("the password is not UTF-8"),
        }
    }
}

impl std::error::Error for ConsoleError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_without_its_end_and_the_rest_unread() {
        let check = |input: &str, want: &str, rest: &str| {
            let mut left = input.as_bytes();
            assert_eq!(password_line(&mut left).unwrap(), want, "{input:?}");
            assert_eq!(left, rest.as_bytes(), "{input:?}");
        };
        check("secret\nnext\n", "secret", "next\n");
        check("secret\r\nnext", "secret", "next");
        check("secret", "secret", "");
        check(" two words \n", " two words ", "");
        check("a\rb\n", "a\rb", "");
    }

    #[test]
    fn lines_that_are_no_password() {
        let check = |input: &[u8]| password_line(input).unwrap_err();
        assert!(matches!(check(b""), ConsoleError::EmptyPassword));
        assert!(matches!(check(b"\nx"), ConsoleError::EmptyPassword));
        assert!(matches!(check(b"\r\n"), ConsoleError::EmptyPassword));
        assert!(matches!(check(b"\xff\n"), ConsoleError::NotUtf8));
        assert!(matches!(check(&[b'x'; 5000]), ConsoleError::LongPassword));
    }

    #[test]
    fn generated_passwords_are_long_and_differ() {
        let (one, two) = (generate(), generate());
        assert_eq!(one.chars().count(), 24);
        assert_ne!(one, two);
        assert!(one.chars().all(|c| c.is_ascii_alphanumeric()), "{one}");
    }

    #[test]
    fn what_is_printed() {
        let jid = crate::users::account_name("ann@a.test").unwrap();
        assert_eq!(show_account(&jid, None, false), "");
        assert_eq!(show_account(&jid, Some("pw"), false), "pw\n");
        assert_eq!(show_account(&jid, None, true), "{\"jid\":\"ann@a.test\"}\n");
        let both = "{\"jid\":\"ann@a.test\",\"password\":\"pw\"}\n";
        assert_eq!(show_account(&jid, Some("pw"), true), both);
        let list = ["ann@a.test", "ben@a.test"].map(|jid| json!({ "jid": jid }));
        assert_eq!(show_list(&list, false), "ann@a.test\nben@a.test\n");
        assert_eq!(
            show_list(&list, true),
            "{\"jid\":\"ann@a.test\"}\n{\"jid\":\"ben@a.test\"}\n"
        );
        assert_eq!(show_list(&[], false), "");
    }
}
