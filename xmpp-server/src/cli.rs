//! The command line of xmpp-server (DESIGN 1): what may stand there, and the configuration it gives.
//!
//! Options stand before or after the command word. Without `--config` no file is read.

mod words;

use crate::config::{Config, ConfigError};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;
use words::{S2sArgs, S2sWord, SessionArgs, SessionWord, StatsArgs, UserArgs, UserWord, domain};

pub use words::{S2sCommand, SessionCommand, UserCommand};

/// XMPP server
///
/// Without options it serves localhost on 127.0.0.1 and ::1, port 5222 with STARTTLS and port 5223
/// with direct TLS, with certificates of its own development CA and everything in ./xmpp-data.
#[derive(Clone, Debug, Parser)]
#[command(name = "xmpp-server", version, verbatim_doc_comment)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    serving: Serving,
    #[command(subcommand)]
    command: Option<CommandWord>,
}

#[derive(Args, Clone, Debug)]
struct Options {
    /// Configuration file (TOML): then domains and listeners come from it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory, made where it is missing [default: ./xmpp-data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What to log to stderr, e.g. "warn" or "info,xmpp_server=debug"
    #[arg(long, global = true, value_name = "FILTER", value_parser = filter)]
    log: Option<String>,
}

/// Not global, since clap would drop those before the command word when some stand behind it.
#[derive(Args, Clone, Debug)]
struct Serving {
    /// Serve this domain; may be given again [default: localhost]
    #[arg(long, value_name = "NAME", value_parser = domain)]
    domain: Vec<String>,
    /// Listen here with STARTTLS, and only there; may be given again
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    listen: Vec<SocketAddr>,
    /// Listen here with direct TLS; may be given again
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    listen_tls: Vec<SocketAddr>,
}

#[derive(Clone, Debug, Subcommand)]
enum CommandWord {
    /// Run the server (the default)
    Run(Serving),
    /// Look for what is wrong with configuration, certificates, DNS records and ports
    ///
    /// Changes nothing. Prints one finding a line; exit code 1 when one of them is an error. Ports
    /// that the running server of this data directory holds are no finding.
    #[command(verbatim_doc_comment)]
    Check(CheckArgs),
    /// Add, import, ban, remove and list accounts; works beside a running server and without one
    User(UserArgs),
    /// List the links of the running server to other domains, or try to reach one
    S2s(S2sArgs),
    /// List, end and watch the sessions of the running server
    Session(SessionArgs),
    /// Print the counters of the running server, in the text form that Prometheus reads
    Stats(StatsArgs),
}

#[derive(Args, Clone, Debug)]
struct CheckArgs {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serving: Serving,
}

/// What the command line asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Serve.
    Run,
    /// Say what is wrong with what a start needs.
    Check {
        /// Print JSON.
        json: bool,
    },
    /// Work on accounts.
    User {
        /// What is to be done.
        what: UserCommand,
        /// Print JSON.
        json: bool,
    },
    /// Look at links to other servers.
    S2s {
        /// What is to be done.
        what: S2sCommand,
        /// Print JSON.
        json: bool,
    },
    /// Look at sessions, or end them.
    Session {
        /// What is to be done.
        what: SessionCommand,
        /// Print JSON.
        json: bool,
    },
    /// Print counters.
    Stats {
        /// Print JSON.
        json: bool,
    },
}

impl Cli {
    /// Reads the process's arguments; ends the process for `--help`, `--version` and, with exit
    /// code 2, for usage errors.
    #[must_use]
    pub fn from_process() -> Self {
        Self::parse_checked(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn parse_checked<T: Into<std::ffi::OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        let mut cli = Self::try_parse_from(arguments)?;
        match &mut cli.command {
            Some(CommandWord::Run(after)) => cli.serving.append(after),
            Some(CommandWord::Check(after)) => cli.serving.append(&mut after.serving),
            Some(CommandWord::User(after)) => cli.serving.domain.append(&mut after.domain),
            Some(CommandWord::S2s(after)) => cli.serving.domain.append(&mut after.domain),
            Some(CommandWord::Session(after)) => cli.serving.domain.append(&mut after.domain),
            Some(CommandWord::Stats(after)) => cli.serving.domain.append(&mut after.domain),
            None => {}
        }
        let given = [
            ("--domain", !cli.serving.domain.is_empty()),
            ("--listen", !cli.serving.listen.is_empty()),
            ("--listen-tls", !cli.serving.listen_tls.is_empty()),
        ];
        for (option, _) in given.into_iter().filter(|(_, given)| *given) {
            let refused = match (&cli.options.config, &cli.command) {
                (Some(_), _) => "cannot be used with '--config': the file says it",
                (None, Some(word)) if option != "--domain" => match word {
                    CommandWord::Run(_) | CommandWord::Check(_) => continue,
                    CommandWord::User(_) => "cannot be used with 'user': it is for the server",
                    CommandWord::S2s(_) => "cannot be used with 's2s': it is for the server",
                    CommandWord::Session(_) => {
                        "cannot be used with 'session': it is for the server"
                    }
                    CommandWord::Stats(_) => "cannot be used with 'stats': it is for the server",
                },
                _ => continue,
            };
            let text = format!("the argument '{option}' {refused}");
            return Err(Self::command().error(ErrorKind::ArgumentConflict, text));
        }
        Ok(cli)
    }

    /// The configuration: of the file, or that of a server that was told nothing, with what the
    /// command line changes. Its data directory is always set, and user commands log warnings only.
    ///
    /// # Errors
    /// `ConfigError` of the file.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let o = &self.options;
        let mut config = match &o.config {
            Some(file) => Config::load(file)?,
            None => Config::default_zero(),
        };
        for name in &self.serving.domain {
            // The names have been parsed once: this cannot fail.
            config = config.clone().with_domain(name).unwrap_or(config);
        }
        if !self.serving.listen.is_empty() {
            config = config.listen(self.serving.listen.iter().copied());
        }
        if !self.serving.listen_tls.is_empty() {
            config = config.listen_tls(self.serving.listen_tls.iter().copied());
        }
        match (&o.log, &self.command) {
            (Some(filter), _) => config.log.filter = filter.as_str().into(),
            (None, None | Some(CommandWord::Run(_))) => {}
            (None, Some(_)) => config.log.filter = "warn".into(),
        }
        let data_dir = o
            .data
            .as_deref()
            .unwrap_or_else(|| config.data_dir())
            .to_owned();
        Ok(config.in_dir(data_dir))
    }

    /// True when neither file nor domain nor listener was named.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        let Serving {
            domain,
            listen,
            listen_tls,
        } = &self.serving;
        let named = !(domain.is_empty() && listen.is_empty() && listen_tls.is_empty());
        self.options.config.is_none() && !named
    }

    /// What is to be done.
    #[must_use]
    pub fn command_word(&self) -> Command {
        let user = match &self.command {
            None | Some(CommandWord::Run(_)) => return Command::Run,
            Some(CommandWord::Check(check)) => return Command::Check { json: check.json },
            Some(CommandWord::Stats(StatsArgs { json, .. })) => {
                return Command::Stats { json: *json };
            }
            Some(CommandWord::S2s(s2s)) => {
                let what = match s2s.word.clone() {
                    S2sWord::List { with } => S2sCommand::List(with),
                    S2sWord::Check { with } => S2sCommand::Check(with),
                };
                return Command::S2s {
                    what,
                    json: s2s.json,
                };
            }
            Some(CommandWord::Session(session)) => {
                let what = match session.word.clone() {
                    SessionWord::List => SessionCommand::List,
                    SessionWord::Kick { jid } => SessionCommand::Kick(jid),
                    SessionWord::Watch { jid } => SessionCommand::Watch(jid),
                };
                let json = session.json;
                return Command::Session { what, json };
            }
            Some(CommandWord::User(user)) => user,
        };
        let what = match user.word.clone() {
            UserWord::Add(args) => UserCommand::Add(args.jid.clone(), args.password()),
            UserWord::Password(args) => UserCommand::Password(args.jid.clone(), args.password()),
            UserWord::Remove { jid } => UserCommand::Remove(jid),
            UserWord::List { of } => UserCommand::List(of),
            UserWord::Ban { jid, reason } => UserCommand::Ban(jid, reason),
            UserWord::Unban { jid } => UserCommand::Unban(jid),
            UserWord::Import { file } => UserCommand::Import(file),
        };
        Command::User {
            what,
            json: user.json,
        }
    }
}

impl Serving {
    /// What stands behind the command word counts like what stands before it.
    fn append(&mut self, after: &mut Self) {
        self.domain.append(&mut after.domain);
        self.listen.append(&mut after.listen);
        self.listen_tls.append(&mut after.listen_tls);
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "not an IP address with a port, such as 127.0.0.1:5222 or [::1]:5222".to_owned()
    })
}

fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a filter such as \"warn\" or \"info,xmpp_server=debug\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::PasswordFrom;
    use crate::users::account_name;
    use xmpp_stream::jid::Jid;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::parse_checked(format!("xmpp-server {line}").split_whitespace())
    }

    #[track_caller]
    fn check_config(line: &str, want: impl FnOnce(&Config) -> bool) {
        let config = parse(line).unwrap().config().unwrap();
        assert!(want(&config), "{line}: {config:?}");
    }

    fn addresses(list: &[SocketAddr]) -> String {
        list.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_options_it_is_the_zero_configuration() {
        check_config("", |config| {
            addresses(&config.c2s.listen) == "127.0.0.1:5222 [::1]:5222"
                && addresses(&config.c2s.listen_tls) == "127.0.0.1:5223 [::1]:5223"
                && config.data_dir.as_deref() == Some("xmpp-data".as_ref())
                && config.file.is_none()
        });
        assert_eq!(parse("").unwrap().command_word(), Command::Run);
        assert!(parse("run").unwrap().is_bare());
        assert!(parse("--data x --log warn").unwrap().is_bare());
    }

    #[test]
    fn options_stand_before_or_after_the_command_word() {
        for line in [
            "--domain A.test --domain b.test --data d --listen 127.0.0.1:0 run",
            "run --domain A.test --domain b.test --data d --listen 127.0.0.1:0",
            "--domain A.test --domain b.test --data d --listen 127.0.0.1:0",
            "--data d --listen 127.0.0.1:0 run --domain A.test --domain b.test",
            "--domain A.test run --listen 127.0.0.1:0 --domain b.test --data d",
        ] {
            check_config(line, |config| {
                let names: Vec<_> = config.domains.iter().map(|d| d.name.as_str()).collect();
                names == ["a.test", "b.test"]
                    && addresses(&config.c2s.listen) == "127.0.0.1:0"
                    && config.c2s.listen_tls.is_empty()
                    && config.data_dir.as_deref() == Some("d".as_ref())
            });
            assert!(!parse(line).unwrap().is_bare());
        }
        check_config("user list --log debug --data d", |config| {
            &*config.log.filter == "debug" && config.data_dir() == "d"
        });
        check_config("user list", |config| &*config.log.filter == "warn");
        check_config("--listen 127.0.0.1:1 run --listen 127.0.0.1:2", |config| {
            addresses(&config.c2s.listen) == "127.0.0.1:1 127.0.0.1:2"
        });
    }

    #[test]
    fn direct_tls_listeners() {
        check_config("--listen 127.0.0.1:0 --listen-tls [::1]:0", |config| {
            addresses(&config.c2s.listen) == "127.0.0.1:0"
                && addresses(&config.c2s.listen_tls) == "[::1]:0"
        });
        check_config("--listen-tls 127.0.0.1:7000", |config| {
            addresses(&config.c2s.listen) == "127.0.0.1:5222 [::1]:5222"
                && addresses(&config.c2s.listen_tls) == "127.0.0.1:7000"
        });
    }

    #[test]
    fn checks() {
        let check = |line: &str, json: bool| {
            let word = parse(line).unwrap().command_word();
            assert_eq!(word, Command::Check { json }, "{line}");
        };
        check("check", false);
        check("--data x check --json --log info", true);
        check_config(
            "--domain a.test check --domain b.test --listen 127.0.0.1:7",
            |config| {
                let names: Vec<_> = config.domains.iter().map(|d| d.name.as_str()).collect();
                names == ["a.test", "b.test"] && addresses(&config.c2s.listen) == "127.0.0.1:7"
            },
        );
    }

    #[test]
    fn user_commands() {
        let check = |line: &str, what: UserCommand, json: bool| {
            let word = parse(line).unwrap().command_word();
            assert_eq!(word, Command::User { what, json }, "{line}");
        };
        let ann = account_name("ann@a.test").unwrap();
        check(
            "user add ann@a.test --password-stdin",
            UserCommand::Add(ann.clone(), PasswordFrom::Stdin),
            false,
        );
        check(
            "user --json add --generate Ann@A.test",
            UserCommand::Add(ann.clone(), PasswordFrom::Generated),
            true,
        );
        check(
            "user password ann@a.test",
            UserCommand::Password(ann.clone(), PasswordFrom::Prompt),
            false,
        );
        check(
            "user unban ann@a.test",
            UserCommand::Unban(ann.clone()),
            false,
        );
        check(
            "user ban Ann@A.test --reason spam --json",
            UserCommand::Ban(ann.clone(), Some("spam".into())),
            true,
        );
        check(
            "user import users.csv",
            UserCommand::Import("users.csv".into()),
            false,
        );
        check("user remove ann@a.test", UserCommand::Remove(ann), false);
        check("user list", UserCommand::List(None), false);
        check("user list --domain b.test", UserCommand::List(None), false);
        let b = Some("b.test".to_owned());
        check(
            "--domain a.test user list b.test",
            UserCommand::List(b),
            false,
        );
        check(
            "user list A.test --json",
            UserCommand::List(Some("a.test".into())),
            true,
        );
    }

    #[test]
    fn commands_for_the_running_server() {
        let check = |line: &str, what: SessionCommand, json: bool| {
            let word = parse(line).unwrap().command_word();
            assert_eq!(word, Command::Session { what, json }, "{line}");
        };
        let jid = |text| Jid::parse(text).unwrap();
        check("session list --json", SessionCommand::List, true);
        let ann = SessionCommand::Kick(jid("ann@a.test"));
        check("session kick Ann@A.test", ann, false);
        let phone = SessionCommand::Watch(jid("ann@a.test/My/phone"));
        check("session watch ann@a.test/My/phone", phone, false);
        let stats = |json| Command::Stats { json };
        assert_eq!(parse("stats").unwrap().command_word(), stats(false));
        assert_eq!(parse("stats --json").unwrap().command_word(), stats(true));
        check_config("session list", |config| &*config.log.filter == "warn");
    }

    #[test]
    fn usage_errors_are_named() {
        let check = |line: &str, want: &str| {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            let text = error.to_string();
            assert!(text.contains(want), "{line}: {text}");
        };
        check(
            "check --config f --domain a.test",
            "'--domain' cannot be used with '--config'",
        );
        check(
            "--config f --domain a.test",
            "'--domain' cannot be used with '--config'",
        );
        check(
            "--config f run --listen 127.0.0.1:1",
            "'--listen' cannot be used with '--config'",
        );
        check(
            "--listen-tls 127.0.0.1:1 --config f",
            "'--listen-tls' cannot be used with",
        );
        check(
            "--listen 127.0.0.1:1 user list",
            "'--listen' cannot be used with 'user'",
        );
        check(
            "user list --listen 127.0.0.1:1",
            "unexpected argument '--listen'",
        );
        check("--listen localhost:5222", "not an IP address with a port");
        check("--domain a..b", "not a domain name");
        check("--log =,=x=", "not a filter");
        check("user add ann", "not an account such as");
        check("user add ann@a.test/x", "not an account such as");
        check(
            "user add ann@a.test --generate --password-stdin",
            "cannot be used with",
        );
        check("session kick a.test", "not an account such as");
        check("session watch ann@a.test/", "or a session of one");
        check("--listen 127.0.0.1:1 stats", "cannot be used with 'stats'");
        check("user", "Usage:");
        check("serve", "unrecognized subcommand");
        check("--verbose", "unexpected argument");
    }

    #[test]
    fn help_and_version_are_no_failure() {
        for line in [
            "--help",
            "run --help",
            "check --help",
            "user --help",
            "user add --help",
            "--version",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line}");
        }
        let help = parse("--help").unwrap_err().to_string();
        for word in [
            "--config <FILE>",
            "--data <DIR>",
            "--listen-tls <ADDR:PORT>",
            "user",
            "run",
        ] {
            assert!(help.contains(word), "{word}: {help}");
        }
    }

    #[test]
    fn data_and_log_win_over_the_file() {
        let temp = crate::datadir::tests::TempDir::new();
        let file = temp.0.join("x.toml");
        std::fs::write(&file, "data_dir = \"data\"\n[log]\nfilter = \"error\"\n").unwrap();
        let file = file.display();
        check_config(&format!("--config {file}"), |config| {
            config.data_dir() == temp.0.join("data") && &*config.log.filter == "error"
        });
        check_config(
            &format!("--config {file} --data other --log warn"),
            |config| config.data_dir() == "other" && &*config.log.filter == "warn",
        );
    }
}
