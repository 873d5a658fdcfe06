//! DNS for tests: records in memory instead of name servers, which remember what was asked, or the
//! same records behind a real name server on loopback.

mod server;

pub use server::NameServer;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use xmpp_stream::resolve::{Answer, Dns, DnsError, Srv};

/// A zone. Names that are not in it do not exist.
#[derive(Debug, Default)]
pub struct Zone {
    srv: BTreeMap<String, Vec<Srv>>,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    failing: Vec<String>,
    asked: Mutex<Vec<String>>,
}

impl Zone {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an SRV record of weight 0; `target` "." says that there is no such service.
    #[must_use]
    pub fn srv(mut self, name: &str, priority: u16, target: &str, port: u16) -> Self {
        let target = target.trim_end_matches('.').into();
        let weight = 0;
        self.srv.entry(name.into()).or_default().push(Srv {
            priority,
            weight,
            port,
            target,
        });
        self
    }

    /// Adds an address of a host.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn host(mut self, name: &str, address: &str) -> Self {
        let address = address.parse().expect("an address");
        self.addresses.entry(name.into()).or_default().push(address);
        self
    }

    /// Makes every query for a name fail (SERVFAIL).
    #[must_use]
    pub fn failing(mut self, name: &str) -> Self {
        self.failing.push(name.into());
        self
    }

    /// Answers by UDP and TCP at this address, with the same port for both. Each of `origins` is a
    /// zone of its own, and names outside of them are refused.
    ///
    /// # Errors
    /// The address cannot be had, or a name cannot stand in DNS.
    pub async fn serve(&self, address: SocketAddr, origins: &[&str]) -> io::Result<NameServer> {
        NameServer::start(self, address, origins).await
    }

    /// As clients take it.
    #[must_use]
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// The names of all queries so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer<T: Send + 'static>(&self, name: &str, records: Vec<T>) -> Answer<'_, T> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(name.into());
        let fails = self.failing.iter().any(|failing| failing == name);
        let answer = match fails {
            true => Err(DnsError::Code(2)),
            false => Ok(records),
        };
        Box::pin(std::future::ready(answer))
    }

    fn of<T>(&self, name: &str, family: impl Fn(&IpAddr) -> Option<T>) -> Vec<T> {
        let found = self.addresses.get(name).into_iter().flatten();
        found.filter_map(family).collect()
    }
}

impl Dns for Zone {
    fn srv<'a>(&'a self, name: &'a str) -> Answer<'a, Srv> {
        self.answer(name, self.srv.get(name).cloned().unwrap_or_default())
    }

    fn ipv4<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv4Addr> {
        let of = self.of(name, |address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        self.answer(name, of)
    }

    fn ipv6<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv6Addr> {
        let of = self.of(name, |address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        self.answer(name, of)
    }
}
