//! Folders, processes and bounded waits for the tests of the binary.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// For whatever has to happen; long, since machines that run tests are busy.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_xmpp-server");

/// A folder of its own that goes with the value.
pub(crate) struct Temp(PathBuf);

impl Temp {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("xmpp-process-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The data directory that most tests use; nothing is there yet.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Writes a file and says where.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self {
            child,
            stdout: lines(stdout),
            stderr: lines(stderr),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line on stdout.
    pub(crate) fn line(&mut self) -> String {
        match self.stdout.recv_timeout(BOUND) {
            Ok(line) => line,
            Err(error) => {
                let log: Vec<_> = self.stderr.try_iter().collect();
                panic!("no line on stdout: {error}; stderr: {}", log.join("\n"))
            }
        }
    }

    /// The next line on stderr that contains these words.
    pub(crate) fn log(&mut self, words: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(BOUND).expect(words);
            if line.contains(words) {
                return line;
            }
        }
    }

    /// What stands on stdout up to `ready`, without it.
    pub(crate) fn until_ready(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            match self.line() {
                line if line == "ready" => return all,
                line => all.push(line),
            }
        }
    }

    /// Sends a signal: `TERM`, `INT`, ...
    pub(crate) fn signal(&self, name: &str) {
        // Not waited for yet, so the number is still this child's.
        let pid = self.pid().to_string();
        let done = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
            .status();
        assert!(done.unwrap().success(), "kill -s {name} {pid}");
    }

    /// Ends it at once, without a chance to do anything about it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// True when it ends before `bound` is over.
    pub(crate) fn ends_within(&mut self, bound: Duration) -> bool {
        // A program that closes its output ends; one that ends closes it.
        matches!(
            self.stdout.recv_timeout(bound),
            Err(RecvTimeoutError::Disconnected)
        )
    }

    /// Waits for its end, of which it was told already.
    pub(crate) fn end(mut self) -> Ended {
        Ended {
            stdout: rest(&self.stdout),
            stderr: rest(&self.stderr),
            code: self.child.wait().unwrap().code(),
        }
    }

    /// Waits for its end and says how long that took.
    pub(crate) fn timed_end(self) -> (Ended, Duration) {
        let start = now();
        let ended = self.end();
        (ended, start.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "bounds of DESIGN 1 are measured from outside"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn rest(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    loop {
        match lines.recv_timeout(BOUND) {
            Ok(line) => text = text + &line + "\n",
            Err(RecvTimeoutError::Disconnected) => return text,
            Err(RecvTimeoutError::Timeout) => panic!("does not end; so far: {text}"),
        }
    }
}

/// The binary with a data directory.
pub(crate) fn binary(data: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--data").arg(data);
    command
}

/// A server on free loopback ports; `more` stands behind.
pub(crate) fn server(data: &Path, more: &[&str]) -> Process {
    let mut command = binary(data);
    command
        .args(["--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0"])
        .args(more);
    Process::spawn(&mut command)
}

/// A server with a file.
pub(crate) fn server_with_file(file: &Path) -> Process {
    Process::spawn(Command::new(BINARY).arg("--config").arg(file))
}

/// A server that is ready, with its addresses.
pub(crate) struct Ready {
    pub(crate) process: Process,
    pub(crate) starttls: Option<SocketAddr>,
    pub(crate) tls: Option<SocketAddr>,
}

impl Ready {
    pub(crate) fn new(mut process: Process) -> Self {
        let lines = process.until_ready();
        let address = |name: &str| {
            let prefix = format!("listening {name} ");
            let line = lines.iter().find_map(|line| line.strip_prefix(&prefix))?;
            Some(line.parse().unwrap())
        };
        let (starttls, tls) = (address("c2s-starttls"), address("c2s-tls"));
        Self {
            process,
            starttls,
            tls,
        }
    }

    pub(crate) fn starttls(&self) -> SocketAddr {
        self.starttls.expect("a listener with STARTTLS")
    }

    pub(crate) fn tls(&self) -> SocketAddr {
        self.tls.expect("a listener with direct TLS")
    }

    /// SIGTERM, then a clean end.
    pub(crate) fn stop(self) -> Ended {
        self.process.signal("TERM");
        let ended = self.process.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }
}

/// A server on free ports that is ready.
pub(crate) fn ready(data: &Path, more: &[&str]) -> Ready {
    Ready::new(server(data, more))
}

/// `user` commands beside or without a server.
pub(crate) fn user(data: &Path, arguments: &[&str]) -> Ended {
    run(binary(data).arg("user").args(arguments))
}

/// `user` with a text on standard input.
pub(crate) fn user_with(data: &Path, arguments: &[&str], input: &str) -> Ended {
    run_with(binary(data).arg("user").args(arguments), input)
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    Process::spawn(command).end()
}

/// Runs a program to its end with this input.
pub(crate) fn run_with(command: &mut Command, input: &str) -> Ended {
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that fails early does not read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    Process {
        child,
        stdout: lines(stdout),
        stderr: lines(stderr),
    }
    .end()
}

/// A failure as DESIGN 1 wants it: this code, nothing on stdout, one line with these words.
#[track_caller]
pub(crate) fn check_failed(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(ended.stderr.starts_with("xmpp-server: "), "{ended:?}");
    for words in words {
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
    }
}

/// Success with exactly this on stdout and a silent stderr.
#[track_caller]
pub(crate) fn check_done(ended: &Ended, stdout: &str) {
    let got = (ended.code, &*ended.stdout, &*ended.stderr);
    assert_eq!(got, (Some(0), stdout, ""), "{ended:?}");
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The names in a folder, in order.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let name = |name: &OsStr| name.to_str().unwrap().to_owned();
    let mut names: Vec<_> = entries
        .map(|entry| name(&entry.unwrap().file_name()))
        .collect();
    names.sort();
    names
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
