//! What whoever embeds the server may hand in: what it would else make itself.

use crate::clock::Clock;
use std::sync::Arc;
use xmpp_certs::DevCa;
use xmpp_stream::dial::Dialer;
use xmpp_stream::resolve::Resolver;

/// What an embedding program may hand in; a file cannot.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Issues the certificates of domains that have none, in place of the data directory's; other
    /// servers' certificates of it are believed.
    pub authority: Option<Arc<DevCa>>,
    /// The clock, say one that several servers share.
    pub clock: Option<Clock>,
    /// How connections to other servers are made.
    pub dialer: Dialer,
    /// Who is asked where other domains are, in place of `dns.servers`.
    pub resolver: Option<Resolver>,
}
