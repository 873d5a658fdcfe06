//! Scripted stanza tests: conversations of clients and raw peers with a server, written as text.
//!
//! `parse` makes a `Script` of a file, `run` plays it, `suite` finds and plays many, `output` tells
//! what came of it. The language is scansion's, with additions; docs/SCRIPTS.md is its grammar.

pub mod diff;
pub mod matcher;
pub mod model;
pub mod output;
pub mod parse;
pub mod record;
pub mod report;
pub mod run;
pub mod stage;
pub mod suite;
pub mod template;

mod component;
mod lines;
mod login;
mod peer;
mod server;

pub use model::{Script, ScriptError};
pub use parse::{parse_file, parse_text};
pub use report::{Outcome, Report};
pub use suite::{Found, Options, find, play};
