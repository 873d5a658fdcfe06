//! Standard input: a password as one line, the rest as text or as lines. Nothing is read ahead of
//! need, so that whoever shares the input finds the rest of it.

use super::args::Options;
use super::error::CliError;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::AsFd;
use tokio::sync::mpsc;

/// A password longer than this is a file given by mistake.
const PASSWORD_BYTES_MAX: usize = 4096;
/// A text longer than this is too; servers take no stanza of that size.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;
/// Lines read that were not yet sent.
const LINES_MAX: usize = 16;

/// Standard input.
pub(crate) struct Input {
    file: File,
}

impl Input {
    pub(crate) fn new() -> Result<Self, CliError> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self { file: stdin.into() })
    }

    /// The password to sign in with.
    pub(crate) fn password(&mut self, options: &Options) -> Result<String, CliError> {
        match options.password_stdin {
            true => password_line(&self.file),
            false => prompt(&format!("Password of {}: ", options.jid())),
        }
    }

    /// The password of an account to be made.
    pub(crate) fn first_password(&mut self, options: &Options) -> Result<String, CliError> {
        match options.password_stdin {
            true => password_line(&self.file),
            false if io::stdin().is_terminal() => self.new_password(),
            false => Err(CliError::NoTerminal),
        }
    }

    /// A password to be set: asked for twice at a terminal, else the next line.
    pub(crate) fn new_password(&mut self) -> Result<String, CliError> {
        if !io::stdin().is_terminal() {
            return password_line(&self.file);
        }
        let password = prompt("New password: ")?;
        match prompt("Again: ")? == password {
            true => Ok(password),
            false => Err(CliError::Differ),
        }
    }

    /// All that is left, without the last line end.
    pub(crate) fn text(&mut self) -> Result<String, CliError> {
        let mut text = String::new();
        let mut rest = (&self.file).take(TEXT_BYTES_MAX + 1);
        match rest.read_to_string(&mut text) {
            // A part of a text is another text.
            _ if rest.limit() == 0 => Err(CliError::LongText),
            Ok(_) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(CliError::NotUtf8),
            Err(error) => Err(error.into()),
        }
    }

    /// The lines that are left, as they come; the end of them is that of the input, or an error.
    pub(crate) fn lines(&mut self) -> Result<mpsc::Receiver<Result<String, CliError>>, CliError> {
        let file = self.file.try_clone()?;
        let (lines, receiver) = mpsc::channel(LINES_MAX);
        // Reading blocks for as long as a person thinks.
        std::thread::spawn(move || {
            for line in BufReader::new(file).lines() {
                let line = line.map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidData => CliError::NotUtf8,
                    _ => CliError::Io(error),
                });
                let is_last = line.is_err();
                if lines.blocking_send(line).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

fn prompt(question: &str) -> Result<String, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::NoTerminal);
    }
    match rpassword::prompt_password(question)? {
        password if password.is_empty() => Err(CliError::NothingTyped),
        password => Ok(password),
    }
}

/// One line without its end; byte by byte, so that what follows stays unread.
fn password_line(mut input: impl Read) -> Result<String, CliError> {
    let mut line = Vec::new();
    let mut byte = [0];
    while input.read(&mut byte)? == 1 && byte != *b"\n" {
        if line.len() == PASSWORD_BYTES_MAX {
            return Err(CliError::LongPassword);
        }
        line.extend_from_slice(&byte);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    match String::from_utf8(line) {
        Ok(line) if line.is_empty() => Err(CliError::EmptyPassword),
        Ok(line) => Ok(line),
        Err(_) => Err(CliError::NotUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_and_the_rest_stays() {
        #[track_caller]
        fn check(input: &[u8], expected: Option<&str>, rest: &[u8]) {
            let mut left = input;
            assert_eq!(password_line(&mut left).ok().as_deref(), expected);
            assert_eq!(left, rest);
        }
        check(b"secret\nnext\n", Some("secret"), b"next\n");
        check(b"secret\r\n", Some("secret"), b"");
        check(b" two words ", Some(" two words "), b"");
        check(b"", None, b"");
        check(b"\nx", None, b"x");
        check(b"\xff\n", None, b"");
        check(&[b'x'; 4098], None, b"x");
    }
}
