//! Placeholder until the configuration lands.
#![allow(missing_docs)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Registration {
    Closed,
    Loopback,
    Open,
}
#[derive(Clone, Debug)]
pub struct DomainConfig {
    pub name: String,
    pub registration: Registration,
    pub strict_iq: bool,
}
impl DomainConfig {
    pub fn new(name: &str, registration: Registration) -> Result<Self, xmpp_stream::jid::JidError> {
        Ok(Self {
            name: name.to_owned(),
            registration,
            strict_iq: false,
        })
    }
}
