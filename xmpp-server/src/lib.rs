//! XMPP server: sessions, router, rosters and modules; also a library to embed.

pub mod clock;
pub mod store;
