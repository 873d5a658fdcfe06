//! A raw peer: sends bytes, expects elements in order, or the end of the stream.
//!
//! A scripted stanza test is a conversation of such peers with a server. Every wait is bounded; what
//! is not as expected is a panic that shows both trees and the whole conversation so far. That
//! nothing arrives is shown by `barrier`, never by waiting. Signing in is in login.rs.

use crate::managed::Managed;
use crate::tree::{Growing, Grown, Tree};
use crate::trust::Trust;
use rxml::Parse;
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use xmpp_stream::driver::Transport;
use xmpp_stream::ns;

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a domain is served, and whom to trust there.
#[derive(Clone, Debug)]
pub struct Place {
    /// The domain.
    pub domain: String,
    /// STARTTLS listener.
    pub address: SocketAddr,
    /// Direct-TLS listener.
    pub address_tls: Option<SocketAddr>,
    /// The CA of the test.
    pub trust: Trust,
}

/// One end of a stream, in the hands of a test.
pub struct Wire {
    /// Domain the stream is opened to.
    pub(crate) domain: String,
    /// Bound JID, once signed in.
    pub(crate) jid: Option<String>,
    trust: Option<Trust>,
    pipe: Pipe,
    parser: rxml::Parser,
    growing: Growing,
    unparsed: Vec<u8>,
    /// Elements that a helper has passed over; they come first.
    kept: VecDeque<Tree>,
    log: String,
    ids: u32,
    /// `<proceed/>` was received: what comes is TLS, until `secure` has taken over.
    awaits_tls: bool,
    /// Stream management is enabled.
    pub(crate) managed: Option<Managed>,
}

enum Pipe {
    Plain(Box<dyn Transport>),
    Tls(Box<TlsStream<Box<dyn Transport>>>),
    /// Between the two: the handshake failed.
    Gone,
}

/// What a peer receives.
#[derive(Debug)]
pub enum Received {
    /// The opening tag of a stream, as an element without content.
    Header(Tree),
    /// A first-level element.
    Element(Tree),
    /// The closing tag of the stream.
    Footer,
    /// The end of the connection; `true` when TLS or TCP was closed in order and between elements.
    Closed(bool),
}

impl Wire {
    /// Connects in clear to the STARTTLS listener; nothing is sent yet.
    pub async fn connect(place: &Place) -> Self {
        let mut wire = Self::over(tcp(place.address).await, &place.domain);
        wire.trust = Some(place.trust.clone());
        wire
    }

    /// Connects by direct TLS with ALPN `xmpp-client`; no header is sent yet.
    pub async fn connect_tls(place: &Place) -> Self {
        let address = place
            .address_tls
            .expect("the server listens for direct TLS");
        let mut wire = Self::over(tcp(address).await, &place.domain);
        let trust = place.trust.clone().with_alpn("xmpp-client");
        wire.handshake(&trust)
            .await
            .unwrap_or_else(|error| wire.fail("a TLS handshake", &error.to_string()));
        wire.trust = Some(trust);
        wire
    }

    /// True once a stream header has arrived.
    pub(crate) fn is_open(&self) -> bool {
        self.growing.is_open()
    }

    /// A peer over any stream, say one end of a `tokio::io::duplex`.
    pub fn over(stream: impl Transport + 'static, domain: &str) -> Self {
        Self {
            domain: domain.into(),
            jid: None,
            trust: None,
            pipe: Pipe::Plain(Box::new(stream)),
            parser: rxml::Parser::new(),
            growing: Growing::default(),
            unparsed: Vec::new(),
            kept: VecDeque::new(),
            log: String::new(),
            ids: 0,
            awaits_tls: false,
            managed: None,
        }
    }

    /// Whom to trust at STARTTLS.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// The bound JID.
    ///
    /// # Panics
    /// Before login.
    #[must_use]
    pub fn jid(&self) -> &str {
        self.jid.as_deref().expect("the peer has signed in")
    }

    /// The domain this peer talks to.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Opens its next streams to another domain than its handshake named.
    pub fn turn_to(&mut self, domain: &str) {
        domain.clone_into(&mut self.domain);
    }

    /// The bound JID without its resource.
    #[must_use]
    pub fn bare_jid(&self) -> &str {
        self.jid().split('/').next().unwrap_or_default()
    }

    /// An id not used before on this stream.
    pub fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("kit{}", self.ids)
    }

    /// Sends text as it stands.
    pub async fn send(&mut self, text: impl AsRef<str>) {
        self.send_bytes(text.as_ref().as_bytes()).await;
    }

    /// Sends bytes as they stand, in one write.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_send(bytes).await {
            self.fail("bytes to be taken", &error.to_string());
        }
    }

    /// Sends bytes to a peer that may be closing the connection at the same time.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let _ = writeln!(self.log, "> {}", shortened(&String::from_utf8_lossy(bytes)));
        let write = async {
            match &mut self.pipe {
                Pipe::Plain(stream) => {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                }
                Pipe::Tls(stream) => {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                }
                Pipe::Gone => Err(std::io::ErrorKind::NotConnected.into()),
            }
        };
        timeout(PATIENCE, write)
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    /// Sends a stream header for a client of the domain; a new stream begins in both directions.
    pub async fn send_header(&mut self) {
        self.restart();
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='{}' xmlns:stream='{}' \
             xml:lang='en'>",
            self.domain,
            ns::CLIENT,
            ns::STREAMS
        );
        self.send(header).await;
    }

    /// What follows belongs to a new stream: after STARTTLS and SASL.
    pub fn restart(&mut self) {
        self.parser = rxml::Parser::new();
        self.growing = Growing::default();
    }

    /// What follows is TLS. A byte of it behind `<proceed/>`, before ours, is an error.
    pub(crate) fn await_tls(&mut self) {
        if !self.unparsed.is_empty() {
            self.fail("TLS to begin", "bytes behind <proceed/>");
        }
        self.awaits_tls = true;
    }

    /// Runs the TLS handshake, after `<proceed/>`.
    pub async fn secure(&mut self) {
        let Some(trust) = self.trust.clone() else {
            self.fail("a trusted CA", "none was given")
        };
        self.awaits_tls = false;
        if let Err(error) = self.handshake(&trust).await {
            self.fail("a TLS handshake", &error.to_string());
        }
        self.restart();
    }

    /// Tries the TLS handshake with this trust; for tests of certificates and protocol versions.
    ///
    /// # Errors
    /// What TLS says; the connection is gone then.
    pub async fn handshake(&mut self, trust: &Trust) -> std::io::Result<()> {
        let Pipe::Plain(stream) = std::mem::replace(&mut self.pipe, Pipe::Gone) else {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        };
        let name = trust.server_name(&self.domain);
        let connecting = TlsConnector::from(trust.config()).connect(name, stream);
        let stream = timeout(PATIENCE, connecting)
            .await
            .map_err(|_| std::io::ErrorKind::TimedOut)??;
        let _ = writeln!(
            self.log,
            "= TLS {:?}",
            stream.get_ref().1.protocol_version()
        );
        self.pipe = Pipe::Tls(Box::new(stream));
        Ok(())
    }

    /// The TLS connection: version, ALPN, peer certificate; `None` in clear.
    #[must_use]
    pub fn tls(&self) -> Option<&rustls::ClientConnection> {
        match &self.pipe {
            Pipe::Tls(stream) => Some(stream.get_ref().1),
            _ => None,
        }
    }

    /// The next thing that arrives, whatever it is.
    pub async fn receive(&mut self) -> Received {
        match timeout(PATIENCE, self.receive_unbounded()).await {
            Ok(received) => received,
            Err(_) => self.fail("anything", &format!("nothing for {PATIENCE:?}")),
        }
    }

    /// The next element, whatever it is.
    pub async fn next(&mut self) -> Tree {
        self.next_for("an element").await
    }

    /// The next element, which must match this XML; returned so that the test can read more of it.
    pub async fn expect(&mut self, xml: impl AsRef<str>) -> Tree {
        let expected = Tree::parse(xml.as_ref());
        let got = self.next_for(&expected.to_string()).await;
        if let Some(difference) = got.mismatch(&expected) {
            self.fail(
                &expected.to_string(),
                &format!("{got}\n--- difference\n{difference}"),
            );
        }
        got
    }

    /// As many elements as there are texts, in any order; returned in the order of the texts.
    pub async fn expect_all(&mut self, texts: &[&str]) -> Vec<Tree> {
        let mut missing: Vec<_> = texts
            .iter()
            .map(|xml| Tree::parse(xml))
            .enumerate()
            .collect();
        let mut found = Vec::new();
        while !missing.is_empty() {
            let shown: Vec<String> = missing.iter().map(|(_, tree)| tree.to_string()).collect();
            let shown = shown.join("\n--- or\n");
            let got = self.next_for(&shown).await;
            match missing
                .iter()
                .position(|(_, expected)| got.mismatch(expected).is_none())
            {
                Some(index) => found.push((missing.remove(index).0, got)),
                None => self.fail(&shown, &got.to_string()),
            }
        }
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, tree)| tree).collect()
    }

    /// A stream header, as an element without content.
    pub async fn expect_header(&mut self) -> Tree {
        match self.receive().await {
            Received::Header(header) if header.is(ns::STREAMS, "stream") => header,
            other => self.fail("a stream header", &shown(&other)),
        }
    }

    /// `<stream:features/>` of any content.
    pub async fn expect_features(&mut self) -> Tree {
        let features = self.next_for("stream features").await;
        if !features.is(ns::STREAMS, "features") {
            self.fail("stream features", &features.to_string());
        }
        features
    }

    /// `<stream:error/>` with this condition, the closing tag, and the end of the connection.
    pub async fn expect_stream_error(&mut self, condition: &str) -> Tree {
        let error = self.next_for(&format!("stream error {condition}")).await;
        let is_error = error.is(ns::STREAMS, "error");
        if !is_error || error.child_ns(ns::STREAM_ERRORS, condition).is_none() {
            self.fail(&format!("stream error {condition}"), &error.to_string());
        }
        match self.receive().await {
            Received::Footer => {}
            other => self.fail("</stream:stream> behind the error", &shown(&other)),
        }
        self.expect_end().await;
        error
    }

    /// A stream header first (RFC 6120 section 4.9.1.2), then as `expect_stream_error`.
    pub async fn expect_header_and_error(&mut self, condition: &str) -> Tree {
        self.expect_header().await;
        self.expect_stream_error(condition).await
    }

    /// The closing tag and the end of the connection.
    pub async fn expect_closed(&mut self) {
        match self.receive().await {
            Received::Footer => {}
            other => self.fail("</stream:stream>", &shown(&other)),
        }
        self.expect_end().await;
    }

    /// The end of the connection, in order or not.
    pub async fn expect_end(&mut self) {
        match self.receive().await {
            Received::Closed(_) => {}
            other => self.fail("the end of the connection", &shown(&other)),
        }
    }

    /// Closes the stream from this side and expects the same from the other.
    pub async fn close(mut self) {
        self.send("</stream:stream>").await;
        self.expect_closed().await;
    }

    /// Fails the test, showing what was expected, what was there, and the conversation.
    pub fn fail(&self, expected: &str, got: &str) -> ! {
        let who = self.jid.as_deref().unwrap_or(&self.domain);
        panic!(
            "{who}: expected\n{expected}\n--- but there was\n{got}\n--- conversation (> sent, < received)\n{}",
            self.log
        );
    }

    async fn next_for(&mut self, expected: &str) -> Tree {
        match timeout(PATIENCE, self.receive_unbounded()).await {
            Ok(Received::Element(tree)) => tree,
            Ok(other) => self.fail(expected, &shown(&other)),
            Err(_) => self.fail(expected, &format!("nothing for {PATIENCE:?}")),
        }
    }

    /// Gives an element back: the next one to be received.
    pub(crate) fn keep(&mut self, passed_over: Vec<Tree>) {
        for tree in passed_over.into_iter().rev() {
            self.kept.push_front(tree);
        }
    }

    async fn receive_unbounded(&mut self) -> Received {
        loop {
            let asked = self.managed.as_ref().map(|managed| managed.asked);
            let received = self.receive_any().await;
            if self.managed.as_ref().map(|managed| managed.asked) == asked {
                return received;
            }
        }
    }

    /// The same with the server's `<r/>`, which are passed over elsewhere.
    pub(crate) async fn receive_even_asking(&mut self) -> Received {
        match timeout(PATIENCE, self.receive_any()).await {
            Ok(received) => received,
            Err(_) => self.fail("anything", &format!("nothing for {PATIENCE:?}")),
        }
    }

    async fn receive_any(&mut self) -> Received {
        if let Some(tree) = self.kept.pop_front() {
            return Received::Element(tree);
        }
        loop {
            if let Some(received) = self.parse() {
                let _ = writeln!(self.log, "< {}", shown(&received));
                if let (Received::Element(tree), Some(managed)) = (&received, &mut self.managed) {
                    managed.received += u32::from(tree.ns() == ns::CLIENT);
                    managed.asked += u32::from(tree.is(ns::SM, "r"));
                }
                return received;
            }
            let mut buffer = [0; 4096];
            let read = match &mut self.pipe {
                Pipe::Plain(stream) => stream.read(&mut buffer).await,
                Pipe::Tls(stream) => stream.read(&mut buffer).await,
                Pipe::Gone => Ok(0),
            };
            match read {
                Ok(0) => return self.ended(true),
                Ok(len) => self.unparsed.extend_from_slice(&buffer[..len]),
                Err(_) => return self.ended(false),
            }
        }
    }

    fn ended(&mut self, in_order: bool) -> Received {
        let received = Received::Closed(in_order && !self.growing.is_mid_element());
        let _ = writeln!(self.log, "< {}", shown(&received));
        received
    }

    /// The next thing in what was read, leaving what stands behind it: it may belong to a new stream.
    fn parse(&mut self) -> Option<Received> {
        if self.awaits_tls {
            // an alert, say: nothing for a parser of XML
            self.unparsed.clear();
        }
        loop {
            let mut rest = self.unparsed.as_slice();
            let result = self.parser.parse(&mut rest, false);
            let used = self.unparsed.len() - rest.len();
            self.unparsed.drain(..used);
            match result {
                Ok(Some(event)) => match self.growing.push(event) {
                    Some(Grown::Header(tree)) => return Some(Received::Header(tree)),
                    Some(Grown::Element(tree)) => return Some(Received::Element(tree)),
                    Some(Grown::Footer) => return Some(Received::Footer),
                    Some(Grown::Text(text)) if !text.trim().is_empty() => {
                        self.fail(
                            "well-formed stanzas",
                            &format!("text between them: {text:?}"),
                        );
                    }
                    Some(Grown::Text(_)) | None => {}
                },
                Ok(None) | Err(rxml::error::EndOrError::NeedMoreData) => return None,
                Err(rxml::error::EndOrError::Error(error)) => {
                    let rest = String::from_utf8_lossy(&self.unparsed);
                    self.fail("well-formed XML", &format!("{error}, before {rest:?}"));
                }
            }
        }
    }
}

async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
    let stream = stream
        .expect("a connection in time")
        .expect("the server listens");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

fn shown(received: &Received) -> String {
    match received {
        Received::Header(tree) => format!("stream header {tree}"),
        Received::Element(tree) => tree.to_string(),
        Received::Footer => "</stream:stream>".into(),
        Received::Closed(true) => "end of connection".into(),
        Received::Closed(false) => "end of connection, cut".into(),
    }
}

/// Long input is not shown whole.
fn shortened(text: &str) -> String {
    const MAX: usize = 2000;
    match text.char_indices().nth(MAX) {
        Some((at, _)) => format!("{}... ({} bytes)", &text[..at], text.len()),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests;
