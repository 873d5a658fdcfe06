//! The words behind `user`, `session`, `s2s` and `stats`, and what they ask of a server (DESIGN 1).

use crate::admin::Request;
use crate::console::PasswordFrom;
use crate::users::account_name;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use xmpp_stream::jid::{BareJid, Jid};

#[derive(Args, Clone, Debug)]
pub(super) struct SessionArgs {
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// As for the server, so that both can be called alike
    #[arg(long, global = true, hide = true, value_name = "NAME", value_parser = domain)]
    pub(super) domain: Vec<String>,
    #[command(subcommand)]
    pub(super) word: SessionWord,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum SessionWord {
    /// List sessions, one a line: address, client, since when, TLS, mechanism, presence, queue, SM
    List,
    /// End one session (a full JID) or all sessions of an account (a bare one)
    Kick {
        /// E.g. alice@example.org, or alice@example.org/phone
        #[arg(value_parser = session)]
        jid: Jid,
    },
    /// Show the stanzas of an account or of one session as they pass, until Ctrl-C or its end
    ///
    /// Bodies are shown too; the server's log says that somebody watched, and whom. What comes
    /// faster than it can be shown is left out, with a line that says how much.
    Watch {
        /// E.g. alice@example.org, or alice@example.org/phone
        #[arg(value_parser = session)]
        jid: Jid,
    },
}

#[derive(Args, Clone, Debug)]
pub(super) struct S2sArgs {
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// As for the server, so that both can be called alike
    #[arg(long, global = true, hide = true, value_name = "NAME", value_parser = domain)]
    pub(super) domain: Vec<String>,
    #[command(subcommand)]
    pub(super) word: S2sWord,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum S2sWord {
    /// List links, one a line: domains and direction, state, address, TLS, proof, certificate,
    /// what waits, the last error and the next try
    List {
        /// Only those with this domain
        #[arg(value_name = "DOMAIN", value_parser = domain)]
        with: Option<String>,
    },
    /// Try to reach a domain: DNS, addresses, TLS, certificate, proof; exit code 1 when a step fails
    ///
    /// The running server makes a connection of its own, as the first of its domains, and sends no
    /// stanza over it.
    Check {
        /// E.g. example.org
        #[arg(value_name = "DOMAIN", value_parser = domain)]
        with: String,
    },
}

#[derive(Args, Clone, Debug)]
pub(super) struct StatsArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// As for the server, so that both can be called alike
    #[arg(long, hide = true, value_name = "NAME", value_parser = domain)]
    pub(super) domain: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct UserArgs {
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// As for the server, so that both can be called alike
    #[arg(long, global = true, hide = true, value_name = "NAME", value_parser = domain)]
    pub(super) domain: Vec<String>,
    #[command(subcommand)]
    pub(super) word: UserWord,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum UserWord {
    /// Add an account; asks for its password unless told where it comes from
    Add(AccountArgs),
    /// Remove an account with its contacts and messages; its sessions end
    Remove {
        /// The account, e.g. alice@example.org
        #[arg(value_parser = account)]
        jid: BareJid,
    },
    /// Keep an account from signing in; its sessions end
    Ban {
        /// The account, e.g. alice@example.org
        #[arg(value_parser = account)]
        jid: BareJid,
        /// Why; shown by `list --json`
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a banned account sign in again
    Unban {
        /// The account, e.g. alice@example.org
        #[arg(value_parser = account)]
        jid: BareJid,
    },
    /// Add the accounts of a CSV file; those that exist stay as they are
    ///
    /// One account a line: jid,password. Or, with SCRAM keys instead of the password, a line for
    /// each hash, those of one account behind one another:
    /// jid,hash,iterations,salt,stored_key,server_key
    /// where hash is SCRAM-SHA-1, SCRAM-SHA-256 or SCRAM-SHA-512 and the last three are base64. A
    /// first line with these names is passed over; columns with commas stand in double quotes.
    ///
    /// Bad lines are reported with their numbers and stop nothing (exit code 1 at the end). An
    /// import that was interrupted is continued by the same command.
    #[command(verbatim_doc_comment)]
    Import {
        /// The file
        file: PathBuf,
    },
    /// Set another password; asks for it unless told where it comes from
    Password(AccountArgs),
    /// List accounts, one a line
    List {
        /// Only those of this domain
        #[arg(value_name = "DOMAIN", value_parser = domain)]
        of: Option<String>,
    },
}

#[derive(Args, Clone, Debug)]
pub(super) struct AccountArgs {
    /// The account, e.g. alice@example.org
    #[arg(value_parser = account)]
    pub(super) jid: BareJid,
    /// Read the password from standard input: one line; the rest stays unread
    #[arg(long, conflicts_with = "generate")]
    password_stdin: bool,
    /// Make a password and print it
    #[arg(long)]
    generate: bool,
}

/// A command about links to other servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum S2sCommand {
    /// List them, or those with one domain.
    List(Option<String>),
    /// Try to reach a domain.
    Check(String),
}

/// A session command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionCommand {
    /// End one, or all of an account.
    Kick(Jid),
    /// List all.
    List,
    /// Show stanzas as they pass.
    Watch(Jid),
}

/// A user command; the password of the first two is still to be had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UserCommand {
    /// Add an account.
    Add(BareJid, PasswordFrom),
    /// Set another password.
    Password(BareJid, PasswordFrom),
    /// Remove an account.
    Remove(BareJid),
    /// List accounts.
    List(Option<String>),
    /// Keep an account out, for this reason.
    Ban(BareJid, Option<String>),
    /// Let an account in again.
    Unban(BareJid),
    /// Add the accounts of a file.
    Import(PathBuf),
}

impl AccountArgs {
    pub(super) fn password(&self) -> PasswordFrom {
        match (self.password_stdin, self.generate) {
            (true, _) => PasswordFrom::Stdin,
            (false, true) => PasswordFrom::Generated,
            (false, false) => PasswordFrom::Prompt,
        }
    }
}

impl UserCommand {
    /// The request for the server, once the password is there; of an import, an empty first one.
    #[must_use]
    pub fn request(&self, password: String, json: bool) -> Request {
        match self {
            Self::Add(jid, _) => Request::UserAdd {
                jid: jid.to_string(),
                password,
            },
            Self::Password(jid, _) => Request::UserPassword {
                jid: jid.to_string(),
                password,
            },
            Self::Remove(jid) => Request::UserRemove {
                jid: jid.to_string(),
            },
            Self::List(domain) => Request::UserList {
                domain: domain.clone(),
                bans: json,
            },
            Self::Ban(jid, reason) => Request::UserBan {
                jid: jid.to_string(),
                reason: reason.clone(),
            },
            Self::Unban(jid) => Request::UserUnban {
                jid: jid.to_string(),
            },
            Self::Import(_) => Request::UserImport {
                accounts: Vec::new(),
            },
        }
    }
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let jid = Jid::domain_only(text).map_err(|_| "not a domain name such as example.org")?;
    Ok(jid.as_str().to_owned())
}

/// An account or one of its sessions; the local part is read as for accounts.
fn session(text: &str) -> Result<Jid, String> {
    let error = || "not an account such as alice@example.org, or a session of one".to_owned();
    let (bare, resource) = match text.split_once('/') {
        Some((bare, resource)) => (bare, Some(resource)),
        None => (text, None),
    };
    let account = account_name(bare).map_err(|_| error())?;
    match resource {
        None => Ok(account.into_jid()),
        Some(resource) => {
            let full = account.with_resource(resource).map_err(|_| error())?;
            Ok(full.into_jid())
        }
    }
}

fn account(text: &str) -> Result<BareJid, String> {
    account_name(text).map_err(|_| "not an account such as alice@example.org".into())
}
