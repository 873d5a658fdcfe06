//! `Dns` by hickory-resolver: the system's name servers or others, over UDP and TCP, with a cache.
//!
//! Names are always asked for as they are: search domains are for people at a shell. The hosts file
//! is read for addresses. The one file that knows hickory.

use super::{Answer, Dns, DnsError, Srv};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Semantic, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// One try over UDP; the bound round the whole query is `ResolveLimits::query_max`.
const TRY_MAX: Duration = Duration::from_secs(2);
/// Where the system says which name servers it has.
const SYSTEM_FILE: &str = "/etc/resolv.conf";
/// Answers kept; a large server talks to some thousand others.
const CACHE_ANSWERS: u64 = 1024;

/// Name servers to ask. Nothing is read or opened before the first query.
pub struct NameServers {
    /// Empty: the system's.
    servers: Vec<SocketAddr>,
    built: Mutex<Option<Built>>,
}

/// A resolver, and when the file that it was made of was written.
#[derive(Clone)]
struct Built {
    resolver: Option<TokioResolver>,
    written: Option<SystemTime>,
}

impl NameServers {
    /// These; none stands for the system's (/etc/resolv.conf).
    #[must_use]
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self {
            servers: servers.to_vec(),
            built: Mutex::new(None),
        }
    }

    async fn ask<T>(
        &self,
        name: &str,
        ty: RecordType,
        take: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, DnsError> {
        let resolver = self.resolver().ok_or(DnsError::NoNameServers)?;
        let mut name = Name::from_str(name).map_err(|_| DnsError::Name)?;
        name.set_fqdn(true);
        match resolver.lookup(name, ty).await {
            Ok(lookup) => Ok(records(&lookup, take)),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(reason(&error)),
        }
    }

    /// The one at hand, unless the system's name servers have changed since: a machine that moves
    /// from one network to another finds others there.
    fn resolver(&self) -> Option<TokioResolver> {
        let written = match self.servers.is_empty() {
            true => std::fs::metadata(SYSTEM_FILE)
                .and_then(|file| file.modified())
                .ok(),
            false => None,
        };
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        match &*built {
            Some(built) if built.written == written => built.resolver.clone(),
            _ => {
                let resolver = self.build();
                *built = Some(Built {
                    resolver: resolver.clone(),
                    written,
                });
                resolver
            }
        }
    }

    fn build(&self) -> Option<TokioResolver> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder(provider.clone()).unwrap_or_else(|error| {
                tracing::warn!(%error, "the system names no name servers; only its hosts file is used");
                let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
                TokioResolver::builder_with_config(none, provider)
            })
        } else {
            TokioResolver::builder_with_config(config(&self.servers), provider)
        };
        bound(builder.options_mut());
        builder.build().ok()
    }
}

impl Dns for NameServers {
    fn srv<'a>(&'a self, name: &'a str) -> Answer<'a, Srv> {
        Box::pin(self.ask(name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: target(&srv.target),
            }),
            _ => None,
        }))
    }

    fn ipv4<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv4Addr> {
        Box::pin(self.ask(name, RecordType::A, |data| match data {
            RData::A(address) => Some(address.0),
            _ => None,
        }))
    }

    fn ipv6<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv6Addr> {
        Box::pin(self.ask(name, RecordType::AAAA, |data| match data {
            RData::AAAA(address) => Some(address.0),
            _ => None,
        }))
    }
}

impl fmt::Debug for NameServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NameServers").field(&self.servers).finish()
    }
}

fn config(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|address| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        for connection in &mut server.connections {
            connection.port = address.port();
        }
        server
    });
    ResolverConfig::from_parts(None, Vec::new(), servers.collect())
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = TRY_MAX;
    options.attempts = 1;
    options.cache_size = CACHE_ANSWERS;
    options.try_tcp_on_error = true;
}

fn records<T>(lookup: &Lookup, take: impl Fn(&RData) -> Option<T>) -> Vec<T> {
    let answers = lookup.answers().iter();
    answers.filter_map(|record| take(&record.data)).collect()
}

/// The name without its last dot; empty for the root.
fn target(name: &Name) -> Box<str> {
    let name = name.to_ascii();
    name.strip_suffix('.').unwrap_or(&name).into()
}

fn reason(error: &NetError) -> DnsError {
    match error {
        NetError::Timeout => DnsError::Timeout,
        NetError::NoConnections => DnsError::NoNameServers,
        NetError::Dns(Semantic::ResponseCode(code)) => DnsError::Code((*code).into()),
        NetError::Io(error) => DnsError::Io(error.kind()),
        _ => DnsError::Io(std::io::ErrorKind::Other),
    }
}
