//! The file of an import, line by line: CSV of RFC 4180, one account or one set of keys a line.
//!
//! `jid,password`, or `jid,hash,iterations,salt,stored_key,server_key` with a line for each hash,
//! those of one account behind one another. A first line that begins with `jid` names the columns.

use super::{Entry, Given, KeyError, KeyText};
use crate::users::account_name;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufRead, Read};
use xmpp_stream::stream::Password;

/// A longer line is another kind of file.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Why a line is of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LineError {
    /// Neither two columns nor six.
    Columns(usize),
    /// The password is empty.
    EmptyPassword,
    /// The iterations are no number.
    Iterations,
    /// Keys that nobody could sign in with.
    Keys(KeyError),
    /// Too long.
    Long,
    /// No name of an account.
    Name,
    /// The account stood further up already.
    Repeated,
    /// A quoted column does not end, or goes on behind its end.
    Quote,
    /// Not UTF-8.
    Utf8,
}

/// Reads accounts.
pub(super) struct Lines<R> {
    read: R,
    bytes: u64,
    line: u64,
    /// An account whose next line may give further keys.
    open: Option<Entry>,
    seen: HashSet<Box<str>>,
}

/// One line: whose it is, and what it gives.
type Row = (String, Result<Given, LineError>);

impl<R: BufRead> Lines<R> {
    pub(super) fn new(read: R) -> Self {
        Self {
            read,
            bytes: 0,
            line: 0,
            open: None,
            seen: HashSet::new(),
        }
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next account, or the number of a bad line; `None` at the end.
    ///
    /// # Errors
    /// What reading the file gave.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Entry, (u64, LineError)>>> {
        loop {
            let (jid, given) = match self.row()? {
                None => return Ok(self.open.take().map(Ok)),
                Some(Err(error)) => return Ok(Some(Err((self.line, error)))),
                Some(Ok(row)) => row,
            };
            let given = match self.further(&jid, given) {
                None => continue,
                Some(Ok(given)) if self.seen.insert(jid.as_str().into()) => given,
                Some(given) => {
                    self.seen.insert(jid.into());
                    let error = given.err().unwrap_or(LineError::Repeated);
                    return Ok(Some(Err((self.line, error))));
                }
            };
            let line = self.line;
            let entry = Entry { line, jid, given };
            if let Some(done) = self.open.replace(entry) {
                return Ok(Some(Ok(done)));
            }
        }
    }

    /// Takes further keys of the account of the last line; `None`: that is what they were. With a
    /// bad set among them it is not added at all, since a later import would leave it as it is.
    fn further(
        &mut self,
        jid: &str,
        given: Result<Given, LineError>,
    ) -> Option<Result<Given, LineError>> {
        let Some(open) = self.open.as_mut().filter(|open| open.jid == jid) else {
            return Some(given);
        };
        let (Given::Keys(keys), Ok(Given::Keys(more))) = (&mut open.given, &given) else {
            if given.is_err() {
                self.open = None;
            }
            return Some(given);
        };
        if keys
            .iter()
            .any(|keys| more.iter().any(|more| keys.hash == more.hash))
        {
            self.open = None;
            return Some(Err(LineError::Keys(KeyError::Twice)));
        }
        keys.extend_from_slice(more);
        None
    }

    /// The next line that has something on it.
    fn row(&mut self) -> io::Result<Option<Result<Row, LineError>>> {
        loop {
            let Some(line) = self.read_line()? else {
                return Ok(None);
            };
            let line = match line {
                Ok(line) => line,
                Err(error) => return Ok(Some(Err(error))),
            };
            let is_header = self.line == 1
                && line
                    .split(',')
                    .next()
                    .is_some_and(|name| name.trim().eq_ignore_ascii_case("jid"));
            if !line.trim().is_empty() && !is_header {
                return Ok(Some(row(&line)));
            }
        }
    }

    fn read_line(&mut self) -> io::Result<Option<Result<String, LineError>>> {
        let mut line = Vec::new();
        let bound = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let mut read = (&mut self.read).take(bound).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        let is_long = read == LINE_BYTES_MAX && line.last() != Some(&b'\n');
        if is_long {
            read += self.read.skip_until(b'\n')?;
        }
        self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
        if is_long {
            return Ok(Some(Err(LineError::Long)));
        }
        let Ok(line) = String::from_utf8(line) else {
            return Ok(Some(Err(LineError::Utf8)));
        };
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mark = if self.line == 1 { "\u{feff}" } else { "" };
        Ok(Some(Ok(line.strip_prefix(mark).unwrap_or(line).to_owned())))
    }
}

fn row(line: &str) -> Result<Row, LineError> {
    let columns = columns(line)?;
    let (jid, given) = match columns.as_slice() {
        [jid, password] if password.is_empty() => (jid, Err(LineError::EmptyPassword)),
        [jid, password] => (jid, Ok(Given::Password(Password(password.clone())))),
        [jid, keys @ ..] if keys.len() == 5 => (jid, key_text(keys)),
        other => return Err(LineError::Columns(other.len())),
    };
    let account = account_name(jid.trim()).map_err(|_| LineError::Name)?;
    Ok((account.to_string(), given))
}

fn key_text(columns: &[String]) -> Result<Given, LineError> {
    let [hash, iterations, salt, stored_key, server_key] = columns else {
        return Err(LineError::Columns(columns.len() + 1));
    };
    let iterations = iterations.trim().parse();
    let keys = KeyText {
        hash: hash.trim().to_ascii_uppercase(),
        iterations: iterations.map_err(|_| LineError::Iterations)?,
        salt: salt.trim().to_owned(),
        stored_key: stored_key.trim().to_owned(),
        server_key: server_key.trim().to_owned(),
    };
    keys.parse().map_err(LineError::Keys)?;
    Ok(Given::Keys(vec![keys]))
}

/// RFC 4180 section 2: columns by commas; a quoted one may hold commas, and quotes doubled.
fn columns(line: &str) -> Result<Vec<String>, LineError> {
    let (mut columns, mut rest) = (Vec::new(), line);
    loop {
        let (column, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_column(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (column, behind) = rest.split_at(end);
                (column.to_owned(), behind)
            }
        };
        columns.push(column);
        if behind.is_empty() {
            return Ok(columns);
        }
        rest = behind.strip_prefix(',').ok_or(LineError::Quote)?;
    }
}

fn quoted_column(mut rest: &str) -> Result<(String, &str), LineError> {
    let mut column = String::new();
    loop {
        let (text, behind) = rest.split_once('"').ok_or(LineError::Quote)?;
        column.push_str(text);
        match behind.strip_prefix('"') {
            Some(behind) => {
                column.push('"');
                rest = behind;
            }
            None => return Ok((column, behind)),
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns(found) => write!(
                f,
                "{found} columns; expected jid,password or \
                 jid,hash,iterations,salt,stored_key,server_key"
            ),
            Self::EmptyPassword => f.write_str("the password is empty"),
            Self::Iterations => f.write_str("the iterations are no number"),
            Self::Keys(error) => error.fmt(f),
            Self::Long => write!(f, "longer than {LINE_BYTES_MAX} bytes"),
            Self::Name => f.write_str("not an account such as alice@example.org"),
            Self::Quote => f.write_str("a quote is not closed, or stands inside a column"),
            Self::Repeated => f.write_str("the account stands further up already"),
            Self::Utf8 => f.write_str("not UTF-8"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let mut lines = Lines::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(next) = lines.next().unwrap() {
            all.push(match next {
                Ok(entry) => match entry.given {
                    Given::Password(password) => {
                        format!("{} {} {}", entry.line, entry.jid, password.0)
                    }
                    Given::Keys(keys) => {
                        let hashes: Vec<_> = keys.iter().map(|keys| &*keys.hash).collect();
                        format!("{} {} {}", entry.line, entry.jid, hashes.join("+"))
                    }
                },
                Err((line, error)) => format!("{line}! {error}"),
            });
        }
        assert_eq!(lines.bytes(), text.len() as u64);
        all
    }

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        assert_eq!(read(text), want, "{text:?}");
    }

    #[test]
    fn passwords() {
        check("", &[]);
        check("jid,password\n", &[]);
        check("Ann@A.test,one", &["1 ann@a.test one"]);
        check(
            "\u{feff}jid,password\r\nann@a.test,one\r\n\r\nben@a.test,\" two,\"\"2\"\"\"\n",
            &["2 ann@a.test one", "4 ben@a.test  two,\"2\""],
        );
        check("jid@a.test,x\n", &["1 jid@a.test x"]);
    }

    fn keys(jid: &str, bits: usize) -> String {
        let (name, bytes) = match bits {
            1 => ("SCRAM-SHA-1", 20),
            256 => ("scram-sha-256", 32),
            _ => ("SCRAM-SHA-512", 64),
        };
        use base64::Engine;
        let key = base64::engine::general_purpose::STANDARD.encode(vec![7; bytes]);
        format!("{jid},{name},4096,c2FsdA==,{key},{key}\n")
    }

    #[test]
    fn keys_of_one_account_stand_behind_one_another() {
        let (ann, ben) = ("ann@a.test", "ben@a.test");
        let further = "the account stands further up already";
        let text = [
            keys(ann, 1),
            keys("ANN@a.test", 256),
            keys(ben, 1),
            keys(ann, 512),
            keys(ben, 256),
        ];
        let want = [
            "1 ann@a.test SCRAM-SHA-1+SCRAM-SHA-256",
            &*format!("4! {further}"),
            "3 ben@a.test SCRAM-SHA-1+SCRAM-SHA-256",
        ];
        check(&text.concat(), &want);
        let mixed = keys(ann, 1) + "ann@a.test,password\n";
        let want = [&*format!("2! {further}"), "1 ann@a.test SCRAM-SHA-1"];
        check(&mixed, &want);
    }

    #[test]
    fn an_account_with_a_bad_set_of_keys_is_left_out() {
        let (ann, ben) = ("ann@a.test", "ben@a.test");
        let few = keys(ann, 256).replace("4096", "4095");
        let text = [keys(ann, 1), few, keys(ann, 512), keys(ben, 1)].concat();
        let want = [
            "2! iterations are not 4096 to 10000000",
            "3! the account stands further up already",
            "4 ben@a.test SCRAM-SHA-1",
        ];
        check(&text, &want);
        let twice = [keys(ann, 1), keys(ann, 1)].concat();
        check(&twice, &["2! two lines give keys for one hash"]);
        for (from, to, error) in [
            (
                "SCRAM-SHA-1",
                "MD5",
                "the hash is not SCRAM-SHA-1, SCRAM-SHA-256 or SCRAM-SHA-512",
            ),
            ("c2FsdA==", "", "the salt is not 1 to 256 bytes"),
            ("c2FsdA==", "c2Fsd", "salt or key is not base64"),
            ("SHA-1", "SHA-256", "a key is not as long as its hash"),
        ] {
            check(&keys(ann, 1).replace(from, to), &[&format!("1! {error}")]);
        }
    }

    #[test]
    fn the_examples_of_the_page_for_operators_are_good() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATING.md");
        let page = std::fs::read_to_string(page).unwrap();
        let blocks: Vec<_> = page
            .split("```\n")
            .filter(|block| block.starts_with("jid,"))
            .collect();
        let [passwords, keys] = blocks[..] else {
            panic!("two examples");
        };
        check(passwords, &["2 alice@example.org secret"]);
        check(keys, &["2 bob@example.org SCRAM-SHA-1"]);
        let mut lines = Lines::new(keys.as_bytes());
        let Some(Ok(Entry {
            given: Given::Keys(keys),
            ..
        })) = lines.next().unwrap()
        else {
            panic!("keys");
        };
        assert!(
            keys[0].parse().unwrap().verify_password("pencil"),
            "RFC 5802 section 5"
        );
    }

    #[test]
    fn bad_lines_have_their_number_and_stop_nothing() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let text = format!(
            "ann@a.test\nann,x\nann@a.test,\n\"ann@a.test,x\n\"a\"nn@a.test,x\n{long}\n\
             ann@a.test,h,many,s,k,k\nben@a.test,x\n"
        );
        let columns = "columns; expected jid,password or \
                       jid,hash,iterations,salt,stored_key,server_key";
        let want = [
            &*format!("1! 1 {columns}"),
            "2! not an account such as alice@example.org",
            "3! the password is empty",
            "4! a quote is not closed, or stands inside a column",
            "5! a quote is not closed, or stands inside a column",
            "6! longer than 8192 bytes",
            "7! the iterations are no number",
            "8 ben@a.test x",
        ];
        check(&text, &want);
        let mut lines = Lines::new(b"\xff\n".as_slice());
        assert!(matches!(lines.next(), Ok(Some(Err((1, LineError::Utf8))))));
    }
}
