//! A script as a value: who takes part, and what they do, in order.

use crate::lab::Variant;
use crate::script::template::Template;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A place in a script.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct At {
    /// The file.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What is wrong with a script, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScriptError {
    /// Where.
    pub at: At,
    /// What.
    pub what: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

impl std::error::Error for ScriptError {}

/// A script that can be played.
#[derive(Clone, Debug)]
pub struct Script {
    /// The file.
    pub file: PathBuf,
    /// The first line of the comment it begins with.
    pub title: String,
    /// Tags: lines that begin with `##`.
    pub tags: Vec<String>,
    /// Configuration of the server in this process, as TOML.
    pub config: Option<(At, String)>,
    /// Who takes part.
    pub cast: Vec<Character>,
    /// What they do.
    pub steps: Vec<Step>,
    /// The table of cases: one run a row. Empty: one run.
    pub cases: Vec<Case>,
}

/// A row of a table of cases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Case {
    /// The row in words.
    pub name: String,
    /// Column name and value.
    pub values: Vec<(String, String)>,
}

impl Script {
    /// Why the script is expected to fail: its `## pending:` tag.
    #[must_use]
    pub fn pending(&self) -> Option<&str> {
        let reason = self
            .tags
            .iter()
            .find_map(|tag| tag.strip_prefix("pending"))?;
        Some(reason.trim_start_matches(':').trim())
    }

    /// True when elements must come in the order of the script and no others between them.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.tags.iter().any(|tag| tag == "in order")
    }

    /// True when it can only be played against a server in this process.
    #[must_use]
    pub fn is_in_process_only(&self) -> bool {
        let only_here = |step: &Step| {
            matches!(
                step.action,
                Action::Advance(_)
                    | Action::RestartServer { .. }
                    | Action::Ban(_)
                    | Action::Kick(_)
                    | Action::Link(..)
                    | Action::RemoveAccount(_)
                    | Action::Store(_)
                    | Action::Unban(_)
            )
        };
        let is_beside =
            |one: &Character| matches!(one.kind, CharacterKind::Component | CharacterKind::Server);
        self.steps.iter().any(only_here) || self.cast.iter().any(is_beside)
    }

    /// True when its clock stands still unless the script moves it.
    #[must_use]
    pub fn has_paused_clock(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.action, Action::Advance(_)))
    }
}

/// Somebody who takes part.
#[derive(Clone, Debug)]
pub struct Character {
    /// What it is.
    pub kind: CharacterKind,
    /// Its name in the script.
    pub name: String,
    /// Where it is defined.
    pub at: At,
    /// The address, bare or with a resource.
    pub jid: Option<String>,
    /// The domain it talks to.
    pub domain: String,
    /// The password.
    pub password: Option<String>,
    /// The resource to ask for.
    pub resource: Option<String>,
    /// Address and port to connect to, if not the usual ones.
    pub connect: (Option<String>, Option<u16>),
    /// True unless the script says `account: none`.
    pub has_account: bool,
    /// TLS from the first byte.
    pub direct_tls: bool,
    /// Of a `[Server]`: the certificate it shows.
    pub certificate: Certificate,
    /// Of a `[Server]`: how it proves its domain; a `[Component]` does it by its secret or not at all.
    pub proof: Proof,
    /// Of a `[Server]`: the script says what is answered to who calls it.
    pub is_called_by_hand: bool,
}

/// What a `[Server]` shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Certificate {
    /// One for its domain.
    #[default]
    Good,
    /// One for these names.
    For(Vec<String>),
    /// None, where it calls.
    None,
    /// One of a rare kind, for its domain or what the script names.
    Odd(OddKind, Option<String>),
    /// One that is to be refused.
    Wrong(Variant),
}

/// Rare kinds of certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OddKind {
    /// It names an XMPP address.
    Address,
    /// An authority's.
    Authority,
    /// For the calling side of TLS alone.
    Caller,
    /// The domain is its common name.
    CommonName,
    /// It names a service.
    Service,
}

/// How a `[Server]` proves its domain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Proof {
    /// SASL EXTERNAL.
    #[default]
    Certificate,
    /// XEP-0220.
    Dialback,
    /// Step by step, as the script says.
    None,
}

impl Character {
    /// It is no client: it has a domain of its own.
    pub(crate) fn is_beside(&self) -> bool {
        matches!(self.kind, CharacterKind::Component | CharacterKind::Server)
    }

    /// What it sends may be anything: nothing of the stream is done for it.
    pub(crate) fn is_by_hand(&self) -> bool {
        let is_by_hand = self.proof == Proof::None || self.is_called_by_hand;
        self.kind == CharacterKind::Raw || self.is_beside() && is_by_hand
    }

    /// Local part and password.
    pub(crate) fn credentials(&self) -> (&str, &str) {
        let jid = self.jid.as_deref().unwrap_or_default();
        let local = jid.split_once('@').map_or(jid, |(local, _)| local);
        (local, self.password.as_deref().unwrap_or_default())
    }
}

/// What a character is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CharacterKind {
    /// `[Client]`: signs in when it connects.
    Client,
    /// `[Component]`: an external component (XEP-0114).
    Component,
    /// `[Raw]`: a connection without a plan.
    Raw,
    /// `[Server]`: another server.
    Server,
}

impl fmt::Display for CharacterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "Client",
            Self::Component => "Component",
            Self::Raw => "Raw",
            Self::Server => "Server",
        })
    }
}

/// One thing that is done.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it stands.
    pub at: At,
    /// Its first line as written.
    pub text: String,
    /// Whose it is, by index; `None` for what is done to the server.
    pub who: Option<usize>,
    /// What.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// `advance TIME`: the clock goes on.
    Advance(Duration),
    /// `authenticates`: SASL with the character's password.
    Authenticates,
    /// `ban JID`: as an operator does.
    Ban(String),
    /// `binds`: the resource.
    Binds,
    /// `cannot connect: CONDITION`.
    CannotConnect(Option<String>),
    /// `connects`.
    Connects,
    /// `cuts at byte N`: the next send ends there, and the connection with it.
    CutAtByte(usize),
    /// `disconnects`.
    Disconnects,
    /// `drops link`: nothing gets through any more, and nobody is told.
    DropLink,
    /// `expects end`: the stream and the connection are closed.
    ExpectsEnd,
    /// `expects stream error CONDITION`.
    ExpectsStreamError(Template),
    /// `forgets`: what has been passed over so far is not asked for any more.
    Forgets,
    /// `is called`: takes the next connection to a `[Server]`.
    IsCalled(Option<Duration>),
    /// `kick JID`: as an operator does.
    Kick(Template),
    /// `cut link DOMAIN` and others: the server's link to a `[Server]`.
    Link(LinkFault, String),
    /// `never receives`, or `receives: nothing` without an element.
    NeverReceives(Option<Template>),
    /// `opens stream`: header, header, features.
    OpensStream,
    /// `receives`.
    Receives(Expectation),
    /// `remove account JID`: as an operator does.
    RemoveAccount(String),
    /// `restart server`, `kill server`.
    RestartServer {
        /// In order: streams are closed first.
        in_order: bool,
    },
    /// `sends`.
    Sends(Template),
    /// `sends bytes`.
    SendsBytes(Vec<u8>),
    /// `starts tls`.
    StartsTls,
    /// `store fails` and others.
    Store(StoreFault),
    /// `unban JID`: as an operator does.
    Unban(String),
    /// `waits`: a request to the server and its answer, so that what was sent is handled.
    Waits,
}

/// What happens to a link of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkFault {
    /// Its connections end as they stand.
    Cut,
    /// Nothing gets through, and nobody is told.
    Hold,
    /// All is well again.
    Mend,
    /// What waited goes on.
    Release,
    /// Cut, and nobody gets through until it is mended.
    Sever,
}

/// What happens to the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreFault {
    /// It goes down with the next write, which is kept or not.
    Crash {
        /// Kept, but nobody is told.
        kept: bool,
    },
    /// Each write takes this long.
    Delay(Duration),
    /// The next so many writes fail.
    Fail(usize),
    /// Writes wait.
    Hold,
    /// They go on.
    Release,
}

/// What is to be received.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// One element or more, as text.
    pub elements: Template,
    /// For how long to wait.
    pub within: Option<Duration>,
    /// What may come between and in which order.
    pub order: Order,
}

/// In which order elements are expected, and whether others may come between them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// `in any order`: these are the next to come, in whatever order.
    Any,
    /// Others may come before and between them, and stay there for later steps: scansion's way.
    Loose,
    /// `next`: exactly these, in this order. What scripts tagged `## in order` do unless they say
    /// otherwise.
    Next,
}
