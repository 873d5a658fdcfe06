//! From a builder to a bound stream: address, TCP, then `Initiator` and driver until established.

use crate::client::{XmppClient, call};
use crate::config::{Builder, Ca};
use crate::error::{ConnectError, Step};
use crate::listener::{COMMANDS_MAX, Shared, XmppListener};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use xmpp_stream::driver::Driver;
use xmpp_stream::jid::{FullJid, Jid};
use xmpp_stream::limits::{Limits, XmlLimits};
use xmpp_stream::stream::{
    CloseReason, Initiator, InitiatorConfig, Machine, Note, Output, TlsRule,
};
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
/// How long to look for the last words of a server after the connection failed.
const FINISH_MAX: Duration = Duration::from_secs(1);

pub(crate) async fn connect(mut builder: Builder) -> Result<XmppClient, ConnectError> {
    let jid = Jid::parse(&builder.jid).map_err(ConnectError::Jid)?;
    let roots = roots(&builder.ca)?;
    let tls = tls::client_config(roots, builder.direct_tls).map_err(|_| ConnectError::NoCa)?;
    let deadline = Instant::now() + builder.connect_max;
    let machine = initiator(&mut builder, &jid, deadline)?;

    let in_time = |step| move |_| ConnectError::Timeout(step);
    let addresses = timeout_at(deadline, addresses(&builder, &jid));
    let addresses = addresses.await.map_err(in_time(Step::Resolve))??;
    let tcp = timeout_at(deadline, tcp(&addresses));
    let tcp = tcp.await.map_err(in_time(Step::Connect))??;

    let mut negotiation = Negotiation::new(Driver::new(machine, Box::new(tcp)));
    let done = timeout_at(deadline, negotiation.run(&jid, tls, builder.direct_tls)).await;
    match done.unwrap_or(Err(ConnectError::Timeout(negotiation.step))) {
        Ok(bound) => Ok(begin(builder, negotiation.driver, bound)),
        Err(error) => {
            negotiation.driver.finish(FINISH_MAX).await;
            Err(error)
        }
    }
}

/// Hands the bound stream to its listener. Callbacks are there before it reads.
fn begin(builder: Builder, driver: Driver<Initiator>, jid: FullJid) -> XmppClient {
    let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
    let shared = Arc::<Shared>::default();
    for callback in builder.callbacks {
        call(&shared, callback);
    }
    let listener = XmppListener::new(driver, jid.clone(), receiver, Arc::clone(&shared));
    tokio::spawn(listener.run());
    XmppClient::new(jid, builder.iq_max, commands, shared)
}

fn initiator(
    builder: &mut Builder,
    jid: &Jid,
    deadline: Instant,
) -> Result<Initiator, ConnectError> {
    let account = jid.to_bare();
    if account.local().is_none() {
        return Err(ConnectError::NoLocalPart);
    }
    SystemRandom::new()
        .fill(&mut [0; 32])
        .map_err(|_| ConnectError::NoRandom)?;
    let now = Instant::now();
    let limits = Limits {
        after_auth: XmlLimits::client(),
        negotiation_max: deadline - now,
        ..Limits::default()
    };
    let config = InitiatorConfig {
        account,
        password: builder.password.take().ok_or(ConnectError::NoPassword)?,
        resource: jid.resource().map(Into::into),
        lang: None,
        tls: if builder.direct_tls {
            TlsRule::Direct
        } else {
            TlsRule::Required
        },
        plain: true,
        limits,
    };
    Ok(Initiator::new(config, Box::new(random), now.into_std()))
}

fn random(bytes: &mut [u8]) {
    // That there is a source was seen before connecting; one that fails later gives nonces which
    // only the server's own makes fresh.
    let _ = SystemRandom::new().fill(bytes);
}

/// The way from the first byte to the bound JID.
struct Negotiation {
    driver: Driver<Initiator>,
    step: Step,
}

impl Negotiation {
    fn new(driver: Driver<Initiator>) -> Self {
        Self {
            driver,
            step: Step::Stream,
        }
    }

    async fn run(
        &mut self,
        jid: &Jid,
        tls: Arc<ClientConfig>,
        direct_tls: bool,
    ) -> Result<FullJid, ConnectError> {
        if direct_tls {
            self.secure(jid, &tls).await?;
        }
        loop {
            while let Some(output) = self.driver.machine.poll_output() {
                match output {
                    Output::StartTls { .. } => self.secure(jid, &tls).await?,
                    Output::Established(established) => return Ok(established.jid),
                    Output::Note(Note::LoggedIn { .. }) => self.step = Step::Binding,
                    Output::Closed(CloseReason::Failed(failure)) => {
                        return Err(ConnectError::Negotiation(self.step, failure));
                    }
                    Output::Closed(reason) => return Err(ConnectError::Closed(self.step, reason)),
                    other => tracing::debug!(?other, "nothing to do before the stream is bound"),
                }
            }
            if let Err(error) = self.driver.turn(true).await {
                return Err(ConnectError::Lost(self.step, error));
            }
        }
    }

    async fn secure(&mut self, jid: &Jid, tls: &Arc<ClientConfig>) -> Result<(), ConnectError> {
        self.step = Step::Tls;
        let name = tls::server_name(jid.domain()).map_err(ConnectError::Tls)?;
        let secured = self.driver.connect_tls(Arc::clone(tls), name).await;
        secured.map_err(ConnectError::Tls)?;
        self.step = Step::Authentication;
        Ok(())
    }
}

async fn addresses(builder: &Builder, jid: &Jid) -> Result<Vec<SocketAddr>, ConnectError> {
    let found: Vec<SocketAddr> = match &builder.connect_to {
        Some(address) => tokio::net::lookup_host(address)
            .await
            .map_err(ConnectError::Resolve)?
            .collect(),
        None => {
            let port = if builder.direct_tls { PORT_TLS } else { PORT };
            let name = tls::server_name(jid.domain()).map_err(ConnectError::Resolve)?;
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
