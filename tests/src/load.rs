//! Peers for figures: they sign in and chat with as little work of their own as possible.
//!
//! A `Wire` reads and compares every element; these look for a few bytes in what arrives, so that a
//! measurement shows the server and not its clients. `process` starts the other end of a
//! measurement in a process of its own and tells what that one has used.

pub mod process;
pub mod relay;
pub mod server;
pub mod sites;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use sasl::client::Mechanism;
use sasl::client::mechanisms::Scram;
use sasl::common::scram::{Sha1, Sha256};
use sasl::common::{ChannelBinding, Credentials};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use xmpp_stream::driver::Transport;
use xmpp_stream::ns;

use crate::trust::Trust;

/// Where peers connect to, by direct TLS.
#[derive(Clone)]
pub struct Target {
    /// The listener.
    pub address: SocketAddr,
    /// The domain, also the name in the certificate.
    pub domain: String,
    /// The CA of its certificate, as PEM.
    pub ca_pem: String,
    config: Arc<ClientConfig>,
}

/// How a peer signs in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// SCRAM-SHA-1.
    Sha1,
    /// SCRAM-SHA-256.
    Sha256,
}

impl Target {
    /// A target whose certificate comes from this CA. Handshakes are always full ones.
    #[must_use]
    pub fn new(address: SocketAddr, domain: &str, ca_pem: &str) -> Self {
        let mut config = ClientConfig::clone(&Trust::pem(ca_pem).config());
        config.resumption = Resumption::disabled();
        Self {
            address,
            domain: domain.to_owned(),
            ca_pem: ca_pem.to_owned(),
            config: Arc::new(config),
        }
    }

    /// The target that a child announced with `announce`.
    ///
    /// # Panics
    /// It said something else.
    #[must_use]
    pub fn announced(line: &str) -> Self {
        let (address, ca) = line.split_once(' ').expect("an address and a CA");
        let ca = STANDARD.decode(ca).expect("Base64");
        let ca = String::from_utf8(ca).expect("a PEM text");
        Self::new(address.parse().expect("an address"), server::DOMAIN, &ca)
    }

    /// Connects, from this address if one is given, and runs the TLS handshake.
    ///
    /// # Errors
    /// TCP or TLS failed.
    pub async fn connect(&self, from: Option<IpAddr>) -> io::Result<Peer> {
        let socket = TcpSocket::new_v4()?;
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.domain.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(name, stream).await?;
        Ok(Peer::over(stream, &self.domain))
    }
}

/// Tells the parent where this process listens: `ready`, the address, the CA.
pub fn announce(address: SocketAddr, ca_pem: &str) {
    println!("ready {address} {}", STANDARD.encode(ca_pem));
}

/// One TLS connection and what arrived on it.
pub struct Peer {
    stream: Box<dyn Transport>,
    domain: String,
    buffer: Vec<u8>,
    /// Stanzas counted since stream management was enabled.
    acked: Option<usize>,
    /// An acknowledgement that goes out in front of what is sent next.
    ack: String,
}

impl Peer {
    /// A peer over any stream.
    pub fn over(stream: impl Transport + 'static, domain: &str) -> Self {
        Self {
            stream: Box::new(stream),
            domain: domain.to_owned(),
            buffer: Vec::new(),
            acked: None,
            ack: String::new(),
        }
    }

    /// Signs in and binds; nothing is asked for behind that.
    ///
    /// # Errors
    /// The connection ended, or the server refused.
    pub async fn login(
        &mut self,
        (local, password, resource): (&str, &str, &str),
        scheme: Scheme,
    ) -> io::Result<()> {
        let credentials = Credentials::default()
            .with_username(local)
            .with_password(password)
            .with_channel_binding(ChannelBinding::None);
        match scheme {
            Scheme::Sha1 => self.scram::<Scram<Sha1>>(credentials).await?,
            Scheme::Sha256 => self.scram::<Scram<Sha256>>(credentials).await?,
        }
        self.header().await?;
        let bind = format!(
            "<iq type='set' id='b'><bind xmlns='{}'><resource>{resource}</resource></bind></iq>",
            ns::BIND
        );
        self.send(&bind).await?;
        let answer = self.until("</iq>").await?;
        match answer.contains("type='result'") {
            true => Ok(()),
            false => Err(io::Error::other(answer)),
        }
    }

    async fn header(&mut self) -> io::Result<()> {
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='{}' xmlns:stream='{}'>",
            self.domain,
            ns::CLIENT,
            ns::STREAMS
        );
        self.send(&header).await?;
        self.until("</stream:features>").await?;
        Ok(())
    }

    async fn scram<M: Mechanism>(&mut self, credentials: Credentials) -> io::Result<()> {
        let mut mechanism = M::from_credentials(credentials).map_err(io::Error::other)?;
        self.header().await?;
        let first = STANDARD.encode(mechanism.initial());
        let name = mechanism.name();
        let auth = format!(
            "<auth xmlns='{}' mechanism='{name}'>{first}</auth>",
            ns::SASL
        );
        self.send(&auth).await?;
        let challenge = self.until("</challenge>").await?;
        let response = mechanism.response(&data(&challenge)?);
        let response = STANDARD.encode(response.map_err(io::Error::other)?);
        self.send(&format!(
            "<response xmlns='{}'>{response}</response>",
            ns::SASL
        ))
        .await?;
        let success = self.until("</success>").await?;
        mechanism
            .success(&data(&success)?)
            .map_err(io::Error::other)
    }

    /// Asks for the roster and becomes available, as clients do; resolves with its own presence.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn come_online(&mut self) -> io::Result<()> {
        let roster = format!(
            "<iq type='get' id='r'><query xmlns='{}'/></iq><presence/>",
            ns::ROSTER
        );
        self.send(&roster).await?;
        self.barrier().await
    }

    /// Everything sent so far was handled. What arrives meanwhile is dropped.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn barrier(&mut self) -> io::Result<()> {
        let ping = format!(
            "<iq type='get' id='barrier' to='{}'><ping xmlns='{}'/></iq>",
            self.domain,
            ns::PING
        );
        self.send(&ping).await?;
        self.until("id='barrier'").await?;
        self.until(">").await.map(drop)
    }

    /// Asks for stream management; from now on `count` acknowledges what it counts.
    ///
    /// # Errors
    /// The connection ended, or the server refused.
    pub async fn enable_sm(&mut self) -> io::Result<()> {
        self.send(&format!("<enable xmlns='{SM}' resume='true'/>"))
            .await?;
        let answer = self.until(">").await?;
        if !answer.contains("<enabled") {
            return Err(io::Error::other(answer));
        }
        self.acked = Some(0);
        Ok(())
    }

    /// Sends text as it stands.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        if self.ack.is_empty() {
            self.stream.write_all(text.as_bytes()).await?;
        } else {
            let both = std::mem::take(&mut self.ack) + text;
            self.stream.write_all(both.as_bytes()).await?;
        }
        self.stream.flush().await
    }

    /// What arrives up to this text, with it.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn until(&mut self, text: &str) -> io::Result<String> {
        loop {
            let found = find(&self.buffer, text.as_bytes());
            if let Some(at) = found {
                let rest = self.buffer.split_off(at + text.len());
                let taken = std::mem::replace(&mut self.buffer, rest);
                return String::from_utf8(taken).map_err(io::Error::other);
            }
            self.read().await?;
        }
    }

    /// How many of these texts, ends of stanzas, stand in what arrived; waits for the first.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn count(&mut self, text: &str) -> io::Result<usize> {
        loop {
            let mut count = 0;
            let mut used = 0;
            while let Some(at) = find(&self.buffer[used..], text.as_bytes()) {
                used += at + text.len();
                count += 1;
            }
            if let Some(acked) = &mut self.acked {
                *acked += count;
                if let Some(at) = find(&self.buffer[used..], b"<r xmlns") {
                    // Away with its first byte: it is not found again.
                    used += at + 1;
                    self.ack = format!("<a xmlns='{SM}' h='{acked}'/>");
                    if count == 0 {
                        self.send("").await?;
                    }
                }
            }
            self.buffer.drain(..used);
            if count > 0 {
                return Ok(count);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// XEP-0198.
const SM: &str = "urn:xmpp:sm:3";

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    // By the first byte, which is fast; texts begin with `<` or are rare.
    let first = what.first()?;
    let mut from = 0;
    loop {
        let at = from + text[from..].iter().position(|byte| byte == first)?;
        if text[at..].starts_with(what) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// The Base64 text of a SASL element.
fn data(element: &str) -> io::Result<Vec<u8>> {
    let text = element
        .rsplit_once("</")
        .and_then(|(open, _)| open.rsplit_once('>'))
        .map(|(_, text)| text);
    STANDARD
        .decode(text.unwrap_or_default())
        .map_err(io::Error::other)
}
