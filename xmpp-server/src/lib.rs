//! XMPP server: sessions, router, rosters and modules; also a library to embed.

pub mod admin;
pub mod auth;
pub mod c2s;
mod certificates;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod core;
pub mod datadir;
pub mod effect;
pub mod guide;
pub mod hooks;
pub mod host;
pub mod im;
pub mod iq;
pub mod limits;
pub mod listener;
pub mod log;
pub mod modules;
pub mod random;
pub mod reload;
pub mod router;
pub mod server;
pub mod session;
pub mod settings;
pub mod store;
pub mod users;

pub use server::{Handle, Running, Server, StartError};
