//! From settings to a bound stream: address, TCP, then negotiate.rs.

use crate::config::{Ca, Settings};
use crate::error::{ConnectError, Step};
use crate::negotiate::{Bound, Resume, Target, negotiate};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use xmpp_stream::tls;

/// Where systems keep the CA certificates that they trust.
const SYSTEM_CA_FILES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Ports of client streams: STARTTLS (RFC 6120 section 14.7), direct TLS by custom.
const PORT: u16 = 5222;
const PORT_TLS: u16 = 5223;

/// Reaches the server and negotiates a stream with it, from the first step to the bound JID.
pub(crate) async fn connect(
    settings: &Settings,
    resume: Option<&Resume>,
) -> Result<Bound, ConnectError> {
    let roots = roots(&settings.ca)?;
    let tls = tls::client_config(roots, settings.direct_tls).map_err(|_| ConnectError::NoCa)?;
    let deadline = Instant::now() + settings.connect_max;
    let in_time = |step| move |_| ConnectError::Timeout(step);
    let addresses = timeout_at(deadline, addresses(settings));
    let addresses = addresses.await.map_err(in_time(Step::Resolve))??;
    let tcp = timeout_at(deadline, tcp(&addresses));
    let tcp = tcp.await.map_err(in_time(Step::Connect))??;
    let target = Target {
        direct_tls: settings.direct_tls,
        tls,
        deadline,
    };
    negotiate(Box::new(tcp), target, settings, resume).await
}

async fn addresses(settings: &Settings) -> Result<Vec<SocketAddr>, ConnectError> {
    let found: Vec<SocketAddr> = match &settings.connect_to {
        Some(address) => tokio::net::lookup_host(address)
            .await
            .map_err(ConnectError::Resolve)?
            .collect(),
        None => {
            let port = if settings.direct_tls { PORT_TLS } else { PORT };
            let name = tls::server_name(settings.jid.domain()).map_err(ConnectError::Resolve)?;
            let name = name.to_str().into_owned();
            let found = tokio::net::lookup_host((name, port)).await;
            found.map_err(ConnectError::Resolve)?.collect()
        }
    };
    if found.is_empty() {
        return Err(ConnectError::Resolve(std::io::ErrorKind::NotFound.into()));
    }
    Ok(found)
}

/// The first address that answers.
async fn tcp(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut last = std::io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(ConnectError::Connect)?;
                return Ok(stream);
            }
            Err(error) => {
                tracing::debug!(%address, %error, "not reached");
                last = error;
            }
        }
    }
    Err(ConnectError::Connect(last))
}

fn roots(ca: &Ca) -> Result<rustls::RootCertStore, ConnectError> {
    let pem = match ca {
        Ca::Pem(pem) => pem.clone(),
        Ca::File(path) => read(path)?,
        Ca::System => {
            let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
            let usual = || {
                SYSTEM_CA_FILES
                    .iter()
                    .map(PathBuf::from)
                    .find(|path| path.exists())
            };
            read(&named.or_else(usual).ok_or(ConnectError::NoCa)?)?
        }
    };
    tls::roots(&pem).map_err(|_| ConnectError::NoCa)
}

fn read(path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map_err(|error| ConnectError::CaFile(path.to_owned(), error))
}
