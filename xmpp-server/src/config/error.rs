//! Why a configuration does not load: the file, the place in it, the key and what is allowed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A configuration that does not load; its text is one line.
#[derive(Debug)]
pub struct ConfigError {
    /// The file, when there is one.
    pub file: Option<PathBuf>,
    /// Where in it.
    pub at: Option<Position>,
    /// What is wrong there.
    pub problem: Problem,
}

/// A place in a text, counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// What is wrong with a configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// A key that must be there is missing.
    Missing {
        /// The whole key.
        key: Box<str>,
        /// Why it must be there.
        why: &'static str,
    },
    /// The file cannot be read.
    Read(io::Error),
    /// The file is not TOML.
    Syntax {
        /// What the parser says.
        message: Box<str>,
    },
    /// A domain is configured twice.
    Twice {
        /// Its prepared name.
        domain: Box<str>,
    },
    /// A key that nothing reads.
    UnknownKey {
        /// The whole key.
        key: Box<str>,
        /// The known key that looks most like it.
        nearest: Box<str>,
    },
    /// A module that does not exist.
    UnknownModule {
        /// Its name in the file.
        name: Box<str>,
        /// The known module that looks most like it.
        nearest: Box<str>,
    },
    /// A value of the wrong type or out of range.
    Value {
        /// The whole key.
        key: Box<str>,
        /// The value as written.
        found: Box<str>,
        /// What may stand there.
        allowed: Box<str>,
    },
}

impl Position {
    /// The place of a byte offset.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        }
    }
}

impl ConfigError {
    pub(crate) fn in_file(file: &Path, at: Option<Position>, problem: Problem) -> Self {
        Self {
            file: Some(file.to_owned()),
            at,
            problem,
        }
    }
}

impl ConfigError {
    /// The problem with its place, for lines that name the file themselves.
    pub(crate) fn without_file(&self) -> String {
        match self.at {
            Some(at) => format!("line {} column {}: {}", at.line, at.column, self.problem),
            None => self.problem.to_string(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(at) = self.at {
                write!(f, "{}:{}:", at.line, at.column)?;
            }
            f.write_str(" ")?;
        }
        self.problem.fmt(f)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { key, why } => write!(f, "`{key}` is missing: {why}"),
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::Syntax { message } => write!(f, "not valid TOML: {message}"),
            Self::Twice { domain } => write!(f, "the domain `{domain}` is configured twice"),
            Self::UnknownKey { key, nearest } => {
                write!(
                    f,
                    "unknown key `{key}`; the nearest known key is `{nearest}`"
                )
            }
            Self::UnknownModule { name, nearest } => {
                write!(
                    f,
                    "unknown module `{name}`; the nearest known module is `{nearest}`"
                )
            }
            Self::Value {
                key,
                found,
                allowed,
            } => {
                write!(f, "`{key}` is {found}; allowed: {allowed}")
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Read(error) => Some(error),
            _ => None,
        }
    }
}

/// The known name that looks most like `name`; "" when nothing is known.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> &'k str {
    known
        .into_iter()
        .min_by_key(|candidate| distance(name, candidate))
        .unwrap_or("")
}

/// Levenshtein distance; a transposition counts two.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, cb) in row.iter().skip(1).zip(&b) {
            left = (diagonal + usize::from(ca != *cb))
                .min(above + 1)
                .min(left + 1);
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let known = ["listen", "listen_tls", "require_tls", "conflict"];
        let check = |name: &str, want: &str| assert_eq!(nearest(name, known), want, "{name}");
        check("lisen", "listen");
        check("listen-tls", "listen_tls");
        check("requiretls", "require_tls");
        check("conflicts", "conflict");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(nearest("x", []), "");
    }

    #[test]
    fn positions_count_characters() {
        let text = "a = 1\n\u{e4}\u{e4} = 2\n";
        assert_eq!(Position::of(text, 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of(text, 6), Position { line: 2, column: 1 });
        assert_eq!(Position::of(text, 10), Position { line: 2, column: 3 });
        assert_eq!(Position::of(text, 999), Position { line: 3, column: 1 });
    }
}
