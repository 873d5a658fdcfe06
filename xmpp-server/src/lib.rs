//! XMPP server: sessions, router, rosters and modules; also a library to embed.
pub mod clock;
pub mod config;
pub mod core;
pub mod effect;
pub mod hooks;
pub mod host;
pub mod im;
pub mod iq;
pub mod limits;
pub mod modules;
pub mod session;
pub mod store;
