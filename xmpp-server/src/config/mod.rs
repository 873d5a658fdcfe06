//! What a server is told at start: typed, with the defaults of DESIGN 1.
//!
//! There are two sets of defaults: without a file (`default_zero`: localhost, loopback only) and
//! with one (`from_toml_str`, `load`). Code that embeds the server starts from either.

mod error;
mod file;
mod given;
mod links;
mod value;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, Position, Problem};
pub use given::Given;
pub use links::{AllowedComponent, Components, Dns, DnsOverride, S2s};
pub(crate) use value::Slot;

use crate::limits::Limits;
use crate::store::Store;
use error::nearest;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use value::Choose;
use xmpp_stream::jid::{BareJid, Jid, JidError};

/// Everything a server is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where database, keys and control socket lie; `data_dir()` has the default.
    pub data_dir: Option<PathBuf>,
    /// Served domains; never empty.
    pub domains: Vec<DomainConfig>,
    /// Client connections.
    pub c2s: C2s,
    /// Logins.
    pub sasl: Sasl,
    /// Links to other servers.
    pub s2s: S2s,
    /// External components.
    pub component: Components,
    /// Where accounts and messages are kept.
    pub storage: Storage,
    /// A store of the caller's instead, e.g. one that a server before left.
    pub store: Option<Store>,
    /// How other domains are found.
    pub dns: Dns,
    /// For whoever embeds the server: what it would else make itself.
    pub given: Given,
    /// Bounds.
    pub limits: Limits,
    /// Feature modules.
    pub modules: Modules,
    /// Log output.
    pub log: Log,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Whole keys that the file sets.
    seen: BTreeSet<String>,
    /// No domain was named: `domains` holds localhost.
    domain_implied: bool,
}

/// One served domain.
#[derive(Clone, Debug)]
pub struct DomainConfig {
    /// Prepared name (U-labels, lower case).
    pub name: String,
    /// Certificate chain and key; without: issued by the development CA.
    pub certificate: Option<CertificateFiles>,
    /// PEM files of who issues the certificates of its clients; empty: they are not asked for one.
    pub client_ca: Vec<PathBuf>,
    /// Who may register in-band.
    pub registration: Registration,
    /// Accounts that may administer the domain.
    pub admins: Vec<BareJid>,
    /// SASL ANONYMOUS is offered.
    pub anonymous: bool,
    /// IQs to a full JID only where presence is shared (RFC 6121 section 8.5.3.1).
    pub strict_iq: bool,
    /// Modules that are not loaded for this domain, beside those that are for none.
    pub modules_off: Vec<String>,
    /// Where the file names them.
    modules_at: BTreeMap<Box<str>, Position>,
    /// Whom to turn to (XEP-0157): kind of address, e.g. "abuse", and URIs.
    pub contact: Vec<(&'static str, Vec<String>)>,
}

/// The kinds of contact addresses (XEP-0157 section 3).
pub const CONTACTS: [&str; 7] = [
    "abuse", "admin", "feedback", "sales", "security", "status", "support",
];

/// PEM files of a domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Client connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct C2s {
    /// Listeners with STARTTLS.
    pub listen: Vec<SocketAddr>,
    /// Listeners with TLS from the first byte.
    pub listen_tls: Vec<SocketAddr>,
    /// Nothing but starttls is offered before TLS.
    pub require_tls: bool,
    /// What happens to a resource that is bound twice.
    pub conflict: Conflict,
}

/// Logins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sasl {
    /// PLAIN is offered (over TLS only).
    pub plain: bool,
    /// PBKDF2 iterations of new keys.
    pub scram_iterations: u32,
    /// XEP-0474.
    pub downgrade_protection: bool,
}

/// Feature modules.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// Names of modules that are not loaded.
    pub off: Vec<String>,
    /// The table of each module that has one.
    pub tables: BTreeMap<Box<str>, toml::Table>,
    /// Where the file names them.
    at: BTreeMap<Box<str>, Position>,
}

/// Log output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// Directives of tracing-subscriber's `EnvFilter`.
    pub filter: Box<str>,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

macro_rules! choices {
    ($($(#[doc = $doc:literal])+ $ty:ident { $($(#[doc = $vdoc:literal])+ $variant:ident = $name:literal,)+ })+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $ty { $($(#[doc = $vdoc])+ $variant,)+ }

        impl $ty {
            /// Its name in the file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl Choose for $ty {
            fn names(&self) -> Vec<&'static str> {
                vec![$($name),+]
            }
            fn choose(&mut self, name: &str) -> bool {
                match name {
                    $($name => *self = Self::$variant,)+
                    _ => return false,
                }
                true
            }
        }
    )+};
}

choices! {
    /// What happens when a resource is bound that a live session has.
    Conflict {
        /// The session keeps its name, the newcomer gets another.
        Generate = "generate",
        /// The session ends, the newcomer takes its place.
        KickOld = "kick-old",
    }
    /// When a domain may be proven by dialback (XEP-0220).
    Dialback {
        /// Certificates only.
        Never = "never",
        /// Over TLS.
        Tls = "tls",
        /// Also in clear.
        Always = "always",
    }
    /// Form of the log.
    LogFormat {
        /// Lines for people.
        Text = "text",
        /// One object a line.
        Json = "json",
    }
    /// Who may register in-band (XEP-0077). Behind a proxy every peer is loopback.
    Registration {
        /// Nobody.
        Closed = "closed",
        /// Peers on the loopback interface.
        Loopback = "loopback",
        /// Everybody.
        Open = "open",
    }
    /// Where accounts and messages are kept.
    Storage {
        /// One file in the data directory.
        Sqlite = "sqlite",
        /// In memory: all is gone at the end.
        Memory = "memory",
    }
}

/// The data directory when neither command line nor file names one.
const DATA_DIR: &str = "xmpp-data";
const C2S_PORT: u16 = 5222;
const C2S_TLS_PORT: u16 = 5223;
const S2S_PORT: u16 = 5269;
const S2S_TLS_PORT: u16 = 5270;

impl Config {
    /// The configuration of a server that was told nothing: localhost on the loopback addresses,
    /// registration open to loopback peers, no links to other servers.
    #[must_use]
    pub fn default_zero() -> Self {
        let mut config = Self::default_file();
        config.domains = vec![DomainConfig::localhost(Registration::Loopback)];
        config.c2s.listen = loopback(C2S_PORT);
        config.c2s.listen_tls = loopback(C2S_TLS_PORT);
        config.s2s.enabled = false;
        config.s2s.listen = Vec::new();
        config.s2s.listen_tls = Vec::new();
        config
    }

    /// The configuration of an empty file.
    #[must_use]
    pub fn default_file() -> Self {
        Self {
            data_dir: None,
            domains: vec![DomainConfig::localhost(Registration::Closed)],
            c2s: C2s {
                listen: everywhere(C2S_PORT),
                listen_tls: everywhere(C2S_TLS_PORT),
                require_tls: true,
                conflict: Conflict::Generate,
            },
            sasl: Sasl {
                plain: true,
                scram_iterations: 10_000,
                downgrade_protection: true,
            },
            s2s: S2s {
                enabled: true,
                listen: everywhere(S2S_PORT),
                listen_tls: everywhere(S2S_TLS_PORT),
                require_tls: true,
                dialback: Dialback::Tls,
                ca: Vec::new(),
                allow: Vec::new(),
                deny: Vec::new(),
            },
            component: Components::default(),
            storage: Storage::Sqlite,
            store: None,
            dns: Dns::default(),
            given: Given::default(),
            limits: Limits::default(),
            modules: Modules::default(),
            log: Log {
                filter: "info".into(),
                format: LogFormat::Text,
            },
            file: None,
            seen: BTreeSet::new(),
            domain_implied: true,
        }
    }

    /// Reads the text of a file; relative paths in it are relative to the folder of `path`.
    ///
    /// # Errors
    /// `ConfigError` with the place, for the first thing that is wrong.
    pub fn from_toml_str(text: &str, path: &Path) -> Result<Self, ConfigError> {
        file::read(text, path)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `Problem::Read` when it cannot be read, else as `from_toml_str`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::in_file(path, None, Problem::Read(error)))?;
        Self::from_toml_str(&text, path)
    }

    /// The data directory, `./xmpp-data` when none was named.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data_dir
            .as_deref()
            .unwrap_or_else(|| Path::new(DATA_DIR))
    }

    /// The settings of a served domain, by its prepared name.
    #[must_use]
    pub fn domain(&self, name: &str) -> Option<&DomainConfig> {
        self.domains.iter().find(|domain| domain.name == name)
    }

    /// Serves this domain too; the implied localhost goes. It gets the registration policy of the
    /// first domain.
    ///
    /// # Errors
    /// `JidError::Domain` when the name is none.
    pub fn with_domain(mut self, name: &str) -> Result<Self, JidError> {
        let registration = self
            .domains
            .first()
            .map_or(Registration::Closed, |d| d.registration);
        let domain = DomainConfig::new(name, registration)?;
        if self.domain_implied {
            self.domains.clear();
            self.domain_implied = false;
        }
        if self.domain(&domain.name).is_none() {
            self.domains.push(domain);
        }
        Ok(self)
    }

    /// Replaces the STARTTLS listeners; those with direct TLS go unless `listen_tls` names some.
    #[must_use]
    pub fn listen(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.c2s.listen = addresses.into_iter().collect();
        self.c2s.listen_tls = Vec::new();
        self
    }

    /// Replaces the listeners with direct TLS.
    #[must_use]
    pub fn listen_tls(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.c2s.listen_tls = addresses.into_iter().collect();
        self
    }

    /// Keeps everything in memory.
    #[must_use]
    pub fn memory(mut self) -> Self {
        self.storage = Storage::Memory;
        self
    }

    /// Keeps everything in a store of the caller's; there is no data directory unless one is set.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self.memory()
    }

    /// Sets the data directory.
    #[must_use]
    pub fn in_dir(mut self, data_dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(data_dir.into());
        self
    }

    /// Sets the registration policy of all domains.
    #[must_use]
    pub fn registration(mut self, registration: Registration) -> Self {
        for domain in &mut self.domains {
            domain.registration = registration;
        }
        self
    }

    /// Takes over from the configuration in force what only a start changes; gives the keys that
    /// differ there.
    pub(crate) fn keep_fixed(&mut self, in_force: &Self) -> Vec<String> {
        fn keep<T: Clone + PartialEq>(new: &mut T, old: &T) -> bool {
            let differs = new != old;
            new.clone_from(old);
            differs
        }
        let data_dir = self.data_dir() != in_force.data_dir();
        self.data_dir.clone_from(&in_force.data_dir);
        let (limits, limit_keys) = in_force.limits.reloaded(&self.limits);
        self.limits = limits;
        let fixed = [
            ("data_dir", data_dir),
            (
                "c2s.listen",
                keep(&mut self.c2s.listen, &in_force.c2s.listen),
            ),
            (
                "c2s.listen_tls",
                keep(&mut self.c2s.listen_tls, &in_force.c2s.listen_tls),
            ),
            (
                "s2s.enabled",
                keep(&mut self.s2s.enabled, &in_force.s2s.enabled),
            ),
            (
                "s2s.listen",
                keep(&mut self.s2s.listen, &in_force.s2s.listen),
            ),
            (
                "s2s.listen_tls",
                keep(&mut self.s2s.listen_tls, &in_force.s2s.listen_tls),
            ),
            (
                "component.listen",
                keep(&mut self.component.listen, &in_force.component.listen),
            ),
            ("storage.url", keep(&mut self.storage, &in_force.storage)),
            (
                "log.format",
                keep(&mut self.log.format, &in_force.log.format),
            ),
        ];
        let fixed = fixed.into_iter().filter(|(_, differs)| *differs);
        let fixed = fixed.map(|(key, _)| key.to_owned());
        let limits = limit_keys.into_iter().map(|key| format!("limits.{key}"));
        fixed.chain(limits).collect()
    }

    /// Checks the names under `[modules]`: `known` are the modules there are, beside those that
    /// are planned.
    ///
    /// # Errors
    /// `Problem::UnknownModule` for the first other one.
    pub fn check_modules(&self, known: &[&str]) -> Result<(), ConfigError> {
        let at_all = |name: &str| self.modules.at.get(name).copied();
        let off = self.modules.off.iter().map(String::as_str);
        let named = off.chain(self.modules.tables.keys().map(|name| &**name));
        let named = named.map(|name| (name, at_all(name)));
        let of_domains = self.domains.iter().flat_map(|domain| {
            let off = domain.modules_off.iter().map(String::as_str);
            off.map(|name| (name, domain.modules_at.get(name).copied()))
        });
        for (name, at) in named.chain(of_domains) {
            let mut all = known.iter().chain(MODULES_LATER).copied();
            if all.clone().any(|module| module == name) {
                continue;
            }
            let nearest = nearest(name, &mut all).into();
            return Err(ConfigError {
                file: self.file.clone(),
                at,
                problem: Problem::UnknownModule {
                    name: name.into(),
                    nearest,
                },
            });
        }
        Ok(())
    }
}

impl DomainConfig {
    /// A domain with the development certificate and no admins.
    ///
    /// # Errors
    /// `JidError::Domain` when the name is none.
    pub fn new(name: &str, registration: Registration) -> Result<Self, JidError> {
        let name = Jid::domain_only(name)?.as_str().into();
        Ok(Self {
            name,
            ..Self::localhost(registration)
        })
    }

    fn localhost(registration: Registration) -> Self {
        Self {
            name: "localhost".into(),
            certificate: None,
            client_ca: Vec::new(),
            registration,
            admins: Vec::new(),
            anonymous: false,
            strict_iq: false,
            modules_off: Vec::new(),
            modules_at: BTreeMap::new(),
            contact: Vec::new(),
        }
    }
}

/// What the file sets without effect, because its feature is not built yet; whole keys.
#[must_use]
pub fn without_effect(config: &Config) -> Vec<String> {
    let mut keys: Vec<String> = config
        .seen
        .iter()
        .filter(|key| is_later(key))
        .cloned()
        .collect();
    let tables = config
        .modules
        .tables
        .keys()
        .filter(|name| MODULES_LATER.contains(&&***name));
    keys.extend(tables.map(|name| format!("modules.{name}")));
    keys
}

/// Keys of features that are not built yet; a whole table ends in a dot.
const LATER: &[&str] = &["domain.admins", "domain.anonymous"];

/// Modules that are not built yet.
const MODULES_LATER: &[&str] = &[
    "blocking",
    "bookmarks",
    "carbons",
    "csi",
    "mam",
    "muc",
    "pep",
    "pubsub",
    "push",
    "upload",
];

fn is_later(key: &str) -> bool {
    let of_table = |later: &str| later.ends_with('.') && key.starts_with(later);
    let limit = key.strip_prefix("limits.");
    LATER.iter().any(|later| *later == key || of_table(later))
        || limit.is_some_and(|limit| crate::limits::LATER.contains(&limit))
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    let hosts: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    hosts
        .into_iter()
        .map(|host| SocketAddr::new(host, port))
        .collect()
}

fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)]
}
