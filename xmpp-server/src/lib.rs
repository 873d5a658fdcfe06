//! XMPP server: sessions, router, rosters and modules; also a library to embed.

pub mod admin;
pub mod auth;
pub mod c2s;
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
pub mod import;
pub mod iq;
pub mod limits;
pub mod listener;
pub mod login_delay;
pub mod metrics;
pub mod modules;
pub mod offers;
pub mod random;
pub mod registrations;
pub mod router;
pub mod server;
pub mod session;
pub mod sessions;
pub mod specs;
pub mod store;
pub mod users;
pub mod watch;

pub use server::{Handle, Running, Server, StartError};
