//! The real binary as a process: start, files, end, and the user commands (DESIGN 1).
//!
//! Nothing sleeps: every wait is for a line, the end of a process or an answer, with a bound. One
//! file a topic below `process/`; `kit` starts programs, `peer` is a client of a few lines.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong in a test is a panic"
)]

#[path = "process/certificates.rs"]
mod certificates;
#[path = "process/check.rs"]
mod check;
#[path = "process/configuration.rs"]
mod configuration;
#[path = "process/drain.rs"]
mod drain;
#[path = "process/end.rs"]
mod end;
#[path = "process/federation.rs"]
mod federation;
#[path = "process/files.rs"]
mod files;
#[path = "process/kill.rs"]
mod kill;
#[path = "process/kit.rs"]
mod kit;
#[path = "process/operator.rs"]
mod operator;
#[path = "process/peer.rs"]
mod peer;
#[path = "process/reload.rs"]
mod reload;
#[path = "process/start.rs"]
mod start;
#[path = "process/user.rs"]
mod user;
