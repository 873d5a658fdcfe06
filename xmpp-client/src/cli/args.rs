//! The command line of xmpp-client: what may stand there. Options stand before or after the command
//! word. Examples for each word are in examples.rs.

use super::examples;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::resolve::Place;

/// The port of name servers.
const DNS_PORT: u16 = 53;

const EXAMPLES: &str = "\
Examples:
  Say something; the password is asked for:
      xmpp-client --jid alice@example.org send bob@example.org 'Hello, Bob'

  The same in a script, with the password from a file and the text from a program:
      (cat password; uptime) | xmpp-client --jid alice@example.org --password-stdin send bob@example.org -

  Wait for messages and handle them one JSON object a line:
      xmpp-client --jid bot@example.org --password-stdin listen --json < password | jq .body

  Try a development server on this machine:
      xmpp-client --jid alice@localhost --ca xmpp-data/ca/ca.pem ping

  Find out why there is no connection:
      xmpp-client --jid alice@example.org --log debug ping

  Keep the whole archive:
      xmpp-client --jid alice@example.org history --export --json > archive.jsonl

Where the server is:
  Unless --connect says it, the SRV records _xmpps-client._tcp and _xmpp-client._tcp of the JID's
  domain are tried by priority and weight, each host with all its IPv6 and IPv4 addresses; a domain
  without such records is tried itself on port 5222. Nothing is ever sent without TLS, and the
  certificate has to be good for the domain of the JID.

What --json prints:
  One object a line. Of a stanza: kind (message, presence, iq), type, from, to, id, stamp, delayed,
  xml, and where they are there body, subject, thread, show, status, error. muc adds event, history
  adds archive_id. listen also tells of the connection: kind connected (jid, resumed), disconnected
  (reason), reconnecting (ms), not-connected (reason).

Exit status:
  0  done
  1  failed; one line on standard error says why
  2  wrong usage

Environment:
  SSL_CERT_FILE, SSL_CERT_DIR  CA certificates to trust in place of the system's";

/// XMPP client for the command line
///
/// Signs in, does one thing, and signs out; `listen`, `muc` and `raw` stay until Ctrl-C or the end of
/// standard input. The password is asked for at the terminal, or is the first line of standard input
/// (--password-stdin); it is never an argument, where everybody on the machine could read it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "xmpp-client",
    bin_name = "xmpp-client",
    version,
    verbatim_doc_comment,
    after_long_help = EXAMPLES,
    after_help = "--help shows examples.",
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) word: Word,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Who signs in, e.g. alice@example.org or alice@example.org/phone
    #[arg(long, global = true, value_name = "JID", value_parser = account)]
    jid: Option<Jid>,
    /// Read the password as the first line of standard input
    #[arg(long, global = true)]
    pub(crate) password_stdin: bool,
    /// Trust the CA certificates in this PEM file instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Trust the certificate, or the key, of this SHA-256 fingerprint and no other
    #[arg(long, global = true, value_name = "HEX", conflicts_with = "ca", value_parser = pin)]
    pub(crate) pin: Option<String>,
    /// Sign in by the certificate in this PEM file; no password is asked for then, but
    /// --password-stdin gives one for a server that does not take it
    #[arg(long, global = true, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The key of that certificate, a PEM file
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Connect here instead of asking DNS where the server is
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = place)]
    pub(crate) connect: Option<Place>,
    /// TLS from the first byte, and no STARTTLS
    #[arg(long, global = true)]
    pub(crate) direct_tls: bool,
    /// Ask this name server instead of the system's
    #[arg(long, global = true, value_name = "ADDR[:PORT]", value_parser = name_server)]
    pub(crate) dns: Option<SocketAddr>,
    /// Give up connecting after so many seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to log to stderr, e.g. "debug" or "warn,xmpp_stream=trace" [default: error]
    #[arg(long, global = true, value_name = "FILTER", value_parser = filter)]
    pub(crate) log: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Word {
    /// Send a message and wait until the server has handled it
    ///
    /// A message that comes back as undeliverable is a failure. For recipients on other servers
    /// that may be known only later.
    #[command(after_help = examples::SEND)]
    Send(SendArgs),
    /// Become available and print what comes, until Ctrl-C
    #[command(after_help = examples::LISTEN)]
    Listen(ListenArgs),
    /// Print the contacts, or add, change and remove one
    #[command(after_help = examples::ROSTER)]
    Roster(RosterArgs),
    /// Print which contacts are available, or ask, allow and refuse to see presence
    #[command(after_help = examples::PRESENCE)]
    Presence(PresenceArgs),
    /// Ask an entity, or the own server, whether it is there
    #[command(after_help = examples::PING)]
    Ping(PingArgs),
    /// Print what an entity is, what it can do, and what belongs to it
    #[command(after_help = examples::DISCO)]
    Disco(DiscoArgs),
    /// Print messages of the archive, the newest ones, or with --export all of them
    #[command(after_help = examples::HISTORY)]
    History(HistoryArgs),
    /// Join a room, print what is said, and say each line of standard input
    #[command(after_help = examples::MUC)]
    Muc(MucArgs),
    /// Make the account of --jid; the password is asked for twice at a terminal
    ///
    /// Where the server wants to know more, it is said what; --field answers.
    #[command(after_help = examples::REGISTER)]
    Register(RegisterArgs),
    /// Change the password; with --password-stdin the new one is the second line
    #[command(after_help = examples::PASSWD)]
    Passwd,
    /// Send stanzas as they are, and print all that comes
    ///
    /// Without arguments each line of standard input is one. After the last one it waits for the
    /// answers to those that were requests.
    #[command(after_help = examples::RAW)]
    Raw(RawArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SendArgs {
    /// The recipient
    #[arg(value_parser = jid)]
    pub(crate) to: Jid,
    /// The text; "-" reads it from standard input, behind the password if that is there too
    pub(crate) body: String,
    /// Kind of message
    #[arg(long = "type", value_name = "TYPE", default_value = "chat")]
    pub(crate) ty: MessageType,
    /// Its subject
    #[arg(long, value_name = "TEXT")]
    pub(crate) subject: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum MessageType {
    /// Part of a conversation
    Chat,
    /// A single message
    Normal,
    /// News that expect no answer
    Headline,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListenArgs {
    /// End after so many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Print messages alone
    #[arg(long)]
    pub(crate) messages: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RosterArgs {
    #[command(subcommand)]
    pub(crate) change: Option<RosterChange>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RosterChange {
    /// Add a contact, or give one another name or other groups
    ///
    /// What is not given stays as it is. To see the contact's presence is another wish: presence
    /// --subscribe.
    #[command(after_help = examples::ROSTER)]
    Add(RosterAddArgs),
    /// Remove a contact; neither sees the other's presence any more
    #[command(after_help = examples::ROSTER)]
    Remove {
        /// The contact
        #[arg(value_parser = bare)]
        contact: BareJid,
    },
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RosterAddArgs {
    /// The contact
    #[arg(value_parser = bare)]
    pub(crate) contact: BareJid,
    /// What you call them
    pub(crate) name: Option<String>,
    /// A group to put them into; may be given again, and replaces the groups they are in
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Vec<String>,
    /// Take them out of all groups
    #[arg(long, conflicts_with = "group")]
    pub(crate) no_groups: bool,
}

#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub(crate) struct PresenceArgs {
    /// Ask to see somebody's presence
    #[arg(long, value_name = "JID", value_parser = bare)]
    pub(crate) subscribe: Option<BareJid>,
    /// Allow somebody to see ours
    #[arg(long, value_name = "JID", value_parser = bare)]
    pub(crate) approve: Option<BareJid>,
    /// Do not, or no longer, allow it
    #[arg(long, value_name = "JID", value_parser = bare)]
    pub(crate) refuse: Option<BareJid>,
    /// No longer see somebody's presence
    #[arg(long, value_name = "JID", value_parser = bare)]
    pub(crate) unsubscribe: Option<BareJid>,
    /// How many seconds to wait for contacts on other servers
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) wait: u64,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PingArgs {
    /// Whom to ask [default: the own server]
    #[arg(value_parser = jid)]
    pub(crate) to: Option<Jid>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DiscoArgs {
    /// Whom to ask
    #[arg(value_parser = jid)]
    pub(crate) to: Jid,
    /// About this node
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct HistoryArgs {
    /// Only what was exchanged with this contact
    #[arg(long, value_name = "JID", value_parser = jid)]
    pub(crate) with: Option<Jid>,
    /// The archive of this room instead of the own one
    #[arg(long, value_name = "ROOM", value_parser = bare)]
    pub(crate) room: Option<BareJid>,
    /// How many messages, the newest ones
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        conflicts_with = "export"
    )]
    pub(crate) limit: usize,
    /// All messages, the oldest first; how far it is stands on stderr
    #[arg(long)]
    pub(crate) export: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct MucArgs {
    /// The room
    #[arg(value_parser = bare)]
    pub(crate) room: BareJid,
    /// The nickname [default: the local part of --jid]
    #[arg(long, value_name = "NAME")]
    pub(crate) nick: Option<String>,
    /// How many earlier messages to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) history: u32,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RegisterArgs {
    /// What else the server wants to know, e.g. email=alice@example.net; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = field)]
    pub(crate) field: Vec<(String, String)>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RawArgs {
    /// Stanzas such as `<presence/>`
    pub(crate) stanzas: Vec<String>,
    /// How many seconds to wait for answers
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u64,
}

impl Cli {
    /// What clap cannot say: an option that may stand on either side cannot be required.
    pub(crate) fn checked(self) -> Result<Self, clap::Error> {
        match self.options.jid {
            Some(_) => Ok(self),
            None => {
                let text = "the argument '--jid <JID>' is missing: who signs in?";
                Err(Self::command().error(ErrorKind::MissingRequiredArgument, text))
            }
        }
    }
}

impl Options {
    /// Who signs in.
    pub(crate) fn jid(&self) -> String {
        let jid = self.jid.as_ref().map(Jid::as_str);
        jid.unwrap_or_default().to_owned()
    }
}

fn account(text: &str) -> Result<Jid, String> {
    match jid(text)? {
        jid if jid.local().is_some() => Ok(jid),
        _ => Err("not the JID of an account, such as alice@example.org".into()),
    }
}

fn jid(text: &str) -> Result<Jid, String> {
    Jid::parse(text).map_err(|error| error.to_string())
}

fn bare(text: &str) -> Result<BareJid, String> {
    BareJid::parse(text).map_err(|error| error.to_string())
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

fn pin(text: &str) -> Result<String, String> {
    match text.parse::<crate::trust::Pin>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn place(text: &str) -> Result<Place, String> {
    text.parse()
        .map_err(|error: xmpp_stream::resolve::PlaceError| error.to_string())
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse();
    let without = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
    with_port
        .or_else(|_| without())
        .map_err(|_| "not an IP address with or without a port, such as 192.0.2.53".into())
}

fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a filter such as \"warn\" or \"info,xmpp_client=debug\"".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let words = format!("xmpp-client {line}");
        Cli::try_parse_from(words.split_whitespace()).and_then(Cli::checked)
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_word_is_explained_by_examples_that_are_usage() {
        let command = Cli::command();
        for word in command
            .get_subcommands()
            .filter(|word| word.get_name() != "help")
        {
            let help = word.get_after_help().expect("examples").to_string();
            let examples: Vec<_> = help.split("xmpp-client ").skip(1).collect();
            assert!(!examples.is_empty(), "{help}");
            for example in examples {
                // Without what the shell makes of it.
                let line = example.lines().next().unwrap();
                let line = line.split(['<', '>', '|', '(']).next().unwrap();
                let line = line
                    .replace("'Hello, Bob'", "Hello")
                    .replace("'Bob B.'", "Bob");
                let cli = parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                drop(cli);
                assert!(line.contains(word.get_name()), "{line}");
            }
        }
    }

    #[test]
    fn options_stand_before_or_after_the_command_word() {
        for line in [
            "--jid a@b.test --json --connect [::1]:5222 --dns 127.0.0.1 ping c.test",
            "ping c.test --jid a@b.test --json --connect [::1]:5222 --dns 127.0.0.1",
            "--jid a@b.test --dns 127.0.0.1 ping --json --connect [::1]:5222 c.test",
        ] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.options.jid(), "a@b.test");
            assert!(cli.options.json);
            let place = cli.options.connect.unwrap();
            assert_eq!(place.to_string(), "[::1]:5222");
            assert_eq!(cli.options.dns.unwrap().to_string(), "127.0.0.1:53");
            assert!(matches!(cli.word, Word::Ping(PingArgs { to: Some(_) })));
        }
    }

    #[test]
    fn what_is_no_usage() {
        #[track_caller]
        fn check(line: &str, words: &str) {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.contains(words), "{line}: {text}");
        }
        check("", "Usage");
        check("ping", "--jid");
        check("--jid a@b.test", "subcommand");
        check("--jid b.test ping", "not the JID of an account");
        check("--jid a@b.test send c@d.test", "<BODY>");
        check("--jid a@b.test --connect x:y ping", "HOST:PORT");
        check("--jid a@b.test --pin 12 ping", "64 hex digits");
        check("--jid a@b.test --dns x ping", "not an IP address");
        check("--jid a@b.test --cert a.pem ping", "--key");
        check("--jid a@b.test ping --key a.key", "--cert");
        check("--jid a@b.test --password secret ping", "--password");
        check("--jid a@b.test history --export --limit 5", "--limit");
        check(
            "--jid a@b.test presence --approve c@d --refuse c@d",
            "cannot be used",
        );
    }
}
