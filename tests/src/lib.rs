//! What tests of this workspace are written with.
//!
//! Five recipes, from small to large:
//!
//! * [`pair`]: two machines back to back, with a clock that the test moves.
//! * [`lab`]: servers in this process, with accounts on demand and links that fail; docs/TESTLAB.md.
//! * [`wire`]: raw peers talk to a server and say what they expect, element by element.
//! * [`fake`]: a server that says what the test tells it, for clients.
//! * [`script`]: conversations as text, played by `cargo test` and by the command xmpp-script; the
//!   language is on docs/SCRIPTS.md. A new script is a file under tests/scripts and nothing more.
//! * [`tree`]: expected XML is written as XML and compared as a tree.
//!
//! A failed expectation is a panic with both sides in it; nothing here sleeps, every wait is bounded,
//! every server has its own ports and accounts.

pub mod calling;
pub mod chat;
pub mod fake;
pub mod federated;
pub mod lab;
pub mod lab_cli;
pub mod laboratory;
pub mod load;
pub mod login;
pub mod managed;
pub mod pair;
pub mod proxy;
pub mod relay;
pub mod script;
pub mod talk;
pub mod tree;
pub mod trust;
pub mod wire;
pub mod zone;

pub use fake::{FakeServer, FakeStream};
pub use federated::Federated;
pub use lab::{LabClient, LabError, TestLab};
pub use managed::{Link, Lost, Over};
pub use proxy::Proxy;
pub use relay::Relay;
pub use tree::Tree;
pub use trust::Trust;
pub use wire::{Place, Received, Wire};
pub use zone::Zone;

/// The snippets of the README are tested with the code.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

/// So are those of the guide to labs.
#[cfg(doctest)]
#[doc = include_str!("../../docs/TESTLAB.md")]
mod testlab_guide {}
