//! Reads TOML tables into typed places: each key has a `Slot`, every other key is an error.
//!
//! Spans are kept to the end, so that each message names file, line and column.

use super::error::{ConfigError, Position, Problem, nearest};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};
use xmpp_stream::jid::BareJid;

/// A value with its place in the file.
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// Where the value of a key goes, and thereby which values are allowed.
pub(crate) enum Slot<'c> {
    /// Socket addresses.
    Addresses(&'c mut Vec<SocketAddr>),
    /// A size: bytes, or text with KiB, MiB, GiB.
    Bytes(&'c mut usize),
    /// One word of a list.
    Choice(&'c mut dyn Choose),
    /// A number from 1 on.
    Count(&'c mut usize),
    /// A number in a range.
    Count32(&'c mut u32, RangeInclusive<u32>),
    /// true or false.
    Flag(&'c mut bool),
    /// Addresses of accounts.
    Jids(&'c mut Vec<BareJid>),
    /// Whatever the function makes of it; it gets the whole key.
    Other(&'c mut dyn FnMut(&str, &Value<'_>) -> Result<(), ConfigError>),
    /// A path, relative to the file.
    Path(&'c mut Option<PathBuf>),
    /// Paths, relative to the file.
    Paths(&'c mut Vec<PathBuf>),
    /// The largest stanza: RFC 6120 section 13.12 asks for 10,000 bytes at least.
    StanzaBytes(&'c mut usize),
    /// A duration: seconds, or text with ms, s, m, h, d.
    Time(&'c mut Duration),
}

/// An enum whose variants have names in the file.
pub(crate) trait Choose {
    /// The names, in the order to show them.
    fn names(&self) -> Vec<&'static str>;
    /// Takes the variant of this name; false when there is none.
    fn choose(&mut self, name: &str) -> bool;
}

/// One file being read.
pub(crate) struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    seen: RefCell<Vec<String>>,
}

/// The longest duration: a year, so that adding one to a point in time never overflows.
const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const SIZE_MAX: u64 = u32::MAX as u64;
const STANZA_BYTES_MIN: u64 = 10_000;

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Self {
        Self {
            file,
            text,
            seen: RefCell::default(),
        }
    }

    /// The whole keys that the file sets, in order of reading.
    pub(crate) fn into_seen(self) -> Vec<String> {
        self.seen.into_inner()
    }

    /// Reads a table that knows just these keys.
    pub(crate) fn table(
        &self,
        path: &str,
        table: &DeTable<'_>,
        slots: &mut [(&'static str, Slot<'_>)],
    ) -> Result<(), ConfigError> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name: &str = key.get_ref();
            let whole = join(path, name);
            let Some((_, slot)) = slots.iter_mut().find(|(known, _)| *known == name) else {
                let near = join(path, nearest(name, slots.iter().map(|(known, _)| *known)));
                let problem = Problem::UnknownKey {
                    key: whole.into(),
                    nearest: near.into(),
                };
                return Err(self.fail(key.span(), problem));
            };
            self.fill(&whole, value, slot)?;
            self.seen.borrow_mut().push(whole);
        }
        Ok(())
    }

    /// Reads a value that must be a table with just these keys.
    pub(crate) fn section(
        &self,
        path: &str,
        value: &Value<'_>,
        slots: &mut [(&'static str, Slot<'_>)],
    ) -> Result<(), ConfigError> {
        self.table(path, self.as_table(path, value)?, slots)
    }

    /// The value as a table.
    pub(crate) fn as_table<'v, 't>(
        &self,
        path: &str,
        value: &'v Value<'t>,
    ) -> Result<&'v DeTable<'t>, ConfigError> {
        let table = value.get_ref().as_table();
        table.ok_or_else(|| self.wrong(path, value, &format!("a table, [{path}]")))
    }

    /// Makes something of a value that must be text.
    pub(crate) fn text<T>(
        &self,
        key: &str,
        value: &Value<'_>,
        allowed: &str,
        make: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        value
            .get_ref()
            .as_str()
            .and_then(make)
            .ok_or_else(|| self.wrong(key, value, allowed))
    }

    /// Makes something of each text of a value that must be a list.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        value: &Value<'_>,
        allowed: &str,
        make: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let items = value.get_ref().as_array();
        let items = items.ok_or_else(|| self.wrong(key, value, &format!("a list of {allowed}")))?;
        items
            .iter()
            .map(|item| self.text(key, item, allowed, &make))
            .collect()
    }

    /// The error for a value that may not stand at this key.
    pub(crate) fn wrong(&self, key: &str, value: &Value<'_>, allowed: &str) -> ConfigError {
        let problem = Problem::Value {
            key: key.into(),
            found: excerpt(self.text, value.span()).into(),
            allowed: allowed.into(),
        };
        self.fail(value.span(), problem)
    }

    /// An error at a place of this file.
    pub(crate) fn fail(&self, at: Range<usize>, problem: Problem) -> ConfigError {
        ConfigError::in_file(self.file, Some(self.position(at)), problem)
    }

    /// Line and column of a span.
    pub(crate) fn position(&self, at: Range<usize>) -> Position {
        Position::of(self.text, at.start)
    }

    /// A path of the file as seen from the working directory.
    pub(crate) fn resolve(&self, path: &str) -> Option<PathBuf> {
        let base = self.file.parent();
        let joined = || base.map_or_else(|| path.into(), |base| base.join(path));
        (!path.is_empty()).then(joined)
    }

    fn fill(&self, key: &str, value: &Value<'_>, slot: &mut Slot<'_>) -> Result<(), ConfigError> {
        match slot {
            Slot::Addresses(to) => **to = self.list(key, value, ADDRESS, |s| s.parse().ok())?,
            Slot::Bytes(to) => **to = self.size(key, value, 1)?,
            Slot::Choice(to) => {
                let chosen = value.get_ref().as_str().is_some_and(|name| to.choose(name));
                if !chosen {
                    let names: Vec<_> = to.names().iter().map(|n| format!("\"{n}\"")).collect();
                    return Err(self.wrong(key, value, &names.join(", ")));
                }
            }
            Slot::Count(to) => **to = self.number(key, value, 1, SIZE_MAX)?,
            Slot::Count32(to, range) => {
                **to = self.number(key, value, (*range.start()).into(), (*range.end()).into())?;
            }
            Slot::Flag(to) => {
                let flag = value.get_ref().as_bool();
                **to = flag.ok_or_else(|| self.wrong(key, value, "true, false"))?;
            }
            Slot::Jids(to) => **to = self.list(key, value, JID, |s| BareJid::parse(s).ok())?,
            Slot::Other(read) => read(key, value)?,
            Slot::Path(to) => {
                **to = Some(self.text(key, value, "a path", |s| self.resolve(s))?);
            }
            Slot::Paths(to) => **to = self.list(key, value, "paths", |s| self.resolve(s))?,
            Slot::StanzaBytes(to) => **to = self.size(key, value, STANZA_BYTES_MIN)?,
            Slot::Time(to) => **to = self.time(key, value)?,
        }
        Ok(())
    }

    fn number<T: TryFrom<u64>>(
        &self,
        key: &str,
        value: &Value<'_>,
        min: u64,
        max: u64,
    ) -> Result<T, ConfigError> {
        let number = value.get_ref().as_integer().and_then(integer);
        let number = number.filter(|n| (min..=max).contains(n));
        number
            .and_then(|n| T::try_from(n).ok())
            .ok_or_else(|| self.wrong(key, value, &format!("a number from {min} to {max}")))
    }

    fn size(&self, key: &str, value: &Value<'_>, min: u64) -> Result<usize, ConfigError> {
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        let bytes = amount(value.get_ref(), 1, &units).filter(|n| (min..=SIZE_MAX).contains(n));
        bytes.and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
            let allowed =
                format!("bytes from {min} to {SIZE_MAX}, or such as \"64 KiB\", \"1 MiB\"");
            self.wrong(key, value, &allowed)
        })
    }

    fn time(&self, key: &str, value: &Value<'_>) -> Result<Duration, ConfigError> {
        let units = [
            ("ms", 1),
            ("s", 1000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
        ];
        let time = amount(value.get_ref(), 1000, &units).map(Duration::from_millis);
        time.filter(|time| !time.is_zero() && *time <= TIME_MAX).ok_or_else(|| {
            let allowed = "seconds from 1 to a year, or such as \"5 ms\", \"30 s\", \"10 m\", \"1 h\", \"2 d\"";
            self.wrong(key, value, allowed)
        })
    }
}

const ADDRESS: &str = "IP addresses with a port, such as \"127.0.0.1:5222\" or \"[::]:5222\"";
const JID: &str = "addresses of accounts, such as \"alice@example.org\"";

/// A bare number in the unit that counts `plain`, or text of a number and a unit.
fn amount(value: &DeValue<'_>, plain: u64, units: &[(&str, u64)]) -> Option<u64> {
    if let Some(number) = value.as_integer() {
        return integer(number)?.checked_mul(plain);
    }
    let text = value.as_str()?;
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(unit_at)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn integer(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The value as written, cut to what fits a line.
fn excerpt(text: &str, span: Range<usize>) -> String {
    let whole = text.get(span).unwrap_or("");
    let line = whole.lines().next().unwrap_or("");
    let short: String = line.chars().take(60).collect();
    if short.len() < whole.len() {
        format!("{short}...")
    } else {
        short
    }
}
