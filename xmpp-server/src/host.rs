//! One served domain: its policy and its address.

use crate::config::{DomainConfig, Registration};
use std::net::IpAddr;
use xmpp_stream::jid::Jid;

/// A domain this server answers for.
#[derive(Debug)]
pub struct Host {
    /// The domain in prepared form.
    pub domain: Box<str>,
    /// The domain as an address.
    pub jid: Jid,
    /// Its part of the configuration.
    pub config: DomainConfig,
}

impl Host {
    /// May a peer at this address register an account (XEP-0077)?
    #[must_use]
    pub fn may_register(&self, peer: IpAddr) -> bool {
        match self.config.registration {
            Registration::Closed => false,
            Registration::Loopback => peer.to_canonical().is_loopback(),
            Registration::Open => true,
        }
    }
}
