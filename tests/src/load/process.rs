//! This program once more, as the other end of a measurement, and what that process has used.
//!
//! Figures come from /proc, so that the measured process does nothing for them.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

/// A child process with a conversation by lines. It is to end when its input ends.
pub struct Child {
    child: std::process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// Starts this program with these arguments and variables.
    ///
    /// # Panics
    /// The program does not start.
    #[must_use]
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let program = env::current_exe().expect("the path of this program");
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().copied());
        Self::of(command)
    }

    /// Starts another program.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn of(mut command: Command) -> Self {
        let mut child = command
            // A profiler around this process is not meant for the other one.
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = child.stdout.take().expect("a piped output");
        Self {
            input: child.stdin.take(),
            output: BufReader::new(output),
            child,
        }
    }

    /// The rest of the first line that begins with this word; others are passed over.
    ///
    /// # Panics
    /// The process ended without it.
    pub fn hear(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("a line");
            assert!(read > 0, "the process ended before it said {word}");
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Says a line.
    ///
    /// # Panics
    /// The process is gone.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is open");
        writeln!(input, "{line}").expect("the process listens");
    }

    /// Processor time of the threads that live.
    ///
    /// # Panics
    /// The process is gone.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        cpu(&self.child.id().to_string())
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// The process is gone.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("a VmRSS line")
            * 1024
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Processor time of this process, as `Child::cpu`.
#[must_use]
pub fn own_cpu() -> Duration {
    cpu("self")
}

fn cpu(process: &str) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let times = threads
        .expect("the process runs")
        .flatten()
        .filter_map(|thread| {
            let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            times.split_whitespace().next()?.parse::<u64>().ok()
        });
    Duration::from_nanos(times.sum())
}

/// Waits until the parent closes our input: the end of a child.
pub async fn parent_is_done() {
    let wait = tokio::task::spawn_blocking(|| {
        let mut lines = std::io::stdin().lock().lines();
        while lines.next().is_some_and(|line| line.is_ok()) {}
    });
    let _ = wait.await;
}
