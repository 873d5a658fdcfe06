//! One connection of a character: bytes out, elements in. Every wait is bounded by its caller.
//!
//! Like `wire::Wire`, but what is not as expected is a value here and no panic: a script may be wrong
//! and a server may answer garbage.

use crate::managed::{Droppable, Link};
use crate::tree::{DEPTH_MAX, Growing, Grown, Tree};
use crate::trust::Trust;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use rxml::Parse;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use xmpp_stream::driver::Transport;
use xmpp_stream::ns;

/// One element may have so many bytes.
const ELEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What is shown of bytes that are no XML.
const SAMPLE_BYTES: usize = 200;

/// What arrives.
#[derive(Clone, Debug)]
pub(crate) enum Got {
    /// The opening tag, as an element without content.
    Header(Tree),
    Element(Tree),
    /// The closing tag.
    Footer,
    /// The connection has ended.
    End,
    /// What is no XML.
    Garbage(String),
}

/// A connection.
pub(crate) struct Peer {
    pipe: Pipe,
    link: Link,
    parser: rxml::Parser,
    growing: Growing,
    unparsed: Vec<u8>,
    /// Bytes read since the last thing was whole.
    incomplete: usize,
    /// The first of them, for telling what is no XML.
    sample: Vec<u8>,
    /// Received and not asked for yet.
    inbox: VecDeque<Got>,
    ended: bool,
    is_dead: bool,
    cut_at: Option<usize>,
    ids: u32,
    /// Namespace of stanzas here; they are given as a client's.
    content: &'static str,
    /// Of the last header received, or what it was answered with.
    stream_id: Option<String>,
    /// The other side has called.
    is_called: bool,
    /// The other side takes stanzas of ours, and answers them.
    is_proven: bool,
    /// What comes over other connections of the same peer.
    others: Option<UnboundedReceiver<Got>>,
}

enum Pipe {
    Plain(Box<dyn Transport>),
    Tls(Box<TlsStream<Box<dyn Transport>>>),
    Gone,
}

impl Peer {
    pub(crate) fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let link = Link::default();
        Self {
            pipe: Pipe::Plain(Box::new(Droppable::new(stream, &link))),
            link,
            parser: rxml::Parser::new(),
            growing: Growing::default(),
            unparsed: Vec::new(),
            incomplete: 0,
            sample: Vec::new(),
            inbox: VecDeque::new(),
            ended: false,
            is_dead: false,
            cut_at: None,
            ids: 0,
            content: ns::CLIENT,
            stream_id: None,
            is_called: false,
            is_proven: false,
            others: None,
        }
    }

    /// Not connected, but this is received.
    pub(crate) fn heard(calls: UnboundedReceiver<Got>) -> Self {
        Self::gone().speaking(ns::SERVER).with_others(Some(calls))
    }

    /// Not connected.
    pub(crate) fn gone() -> Self {
        let mut peer = Self::over(tokio::io::empty());
        peer.hang_up();
        peer
    }

    /// The same with stanzas of this namespace.
    pub(crate) fn speaking(mut self, content: &'static str) -> Self {
        self.content = content;
        self
    }

    /// The same, which receives this too.
    pub(crate) fn with_others(mut self, others: Option<UnboundedReceiver<Got>>) -> Self {
        self.hear(others);
        self
    }

    /// Receives this too from now on.
    pub(crate) fn hear(&mut self, others: Option<UnboundedReceiver<Got>>) {
        self.others = others;
    }

    /// Gives up what it receives over other connections.
    pub(crate) fn leave_others(&mut self) -> Option<UnboundedReceiver<Got>> {
        self.others.take()
    }

    /// Something may come over other connections.
    pub(crate) fn has_others(&self) -> bool {
        self.others.is_some()
    }

    /// The id that the other side gave the stream.
    pub(crate) fn stream_id(&self) -> Option<&str> {
        self.stream_id.as_deref()
    }

    /// The same, which was called.
    pub(crate) fn called(mut self) -> Self {
        self.is_called = true;
        self
    }

    pub(crate) fn is_called(&self) -> bool {
        self.is_called
    }

    /// We have given the stream this id.
    pub(crate) fn set_stream_id(&mut self, id: String) {
        self.stream_id = Some(id);
    }

    /// It may send stanzas from now on.
    pub(crate) fn prove(&mut self) {
        self.is_proven = true;
    }

    /// It may send stanzas, and hears what is answered.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven && !self.has_ended() && !self.is_dead
    }

    /// An id that no script writes.
    pub(crate) fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("script-{}", self.ids)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended || matches!(self.pipe, Pipe::Gone)
    }

    /// The link was dropped.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// It can be left for another one.
    pub(crate) fn is_gone(&self) -> bool {
        self.has_ended() || self.is_dead
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.pipe, Pipe::Tls(_))
    }

    /// From now on nothing gets through; the other side is not told.
    pub(crate) fn drop_link(&mut self) {
        self.is_dead = true;
        self.link.drop_everything();
    }

    /// The next send ends after so many bytes, and the connection with it.
    pub(crate) fn cut_at(&mut self, bytes: usize) {
        self.cut_at = Some(bytes);
    }

    /// Ends the connection without a word.
    pub(crate) fn hang_up(&mut self) {
        self.pipe = Pipe::Gone;
    }

    /// What follows belongs to a new stream.
    pub(crate) fn restart(&mut self) {
        self.parser = rxml::Parser::new();
        self.growing = Growing::default();
        self.incomplete = 0;
        self.sample.clear();
    }

    pub(crate) async fn send(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let cut = self.cut_at.take();
        let bytes = bytes.get(..cut.unwrap_or(bytes.len())).unwrap_or(bytes);
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
                Pipe::Gone => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        let sent = timeout(patience, write).await;
        if cut.is_some() {
            self.hang_up();
        }
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Runs the TLS handshake; without trust there is none.
    pub(crate) async fn handshake(
        &mut self,
        trust: &Trust,
        domain: &str,
        patience: Duration,
    ) -> io::Result<()> {
        self.handshake_by(trust.config(), domain, patience).await
    }

    /// The same with these settings.
    pub(crate) async fn handshake_by(
        &mut self,
        config: Arc<ClientConfig>,
        domain: &str,
        patience: Duration,
    ) -> io::Result<()> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        let connecting = TlsConnector::from(config).connect(name, self.plain()?);
        let stream = timeout(patience, connecting)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        self.secured(TlsStream::Client(stream));
        Ok(())
    }

    /// The handshake of the side that was called.
    pub(crate) async fn accept(
        &mut self,
        config: Arc<ServerConfig>,
        patience: Duration,
    ) -> io::Result<()> {
        let accepting = TlsAcceptor::from(config).accept(self.plain()?);
        let stream = timeout(patience, accepting)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        self.secured(TlsStream::Server(stream));
        Ok(())
    }

    fn plain(&mut self) -> io::Result<Box<dyn Transport>> {
        match std::mem::replace(&mut self.pipe, Pipe::Gone) {
            Pipe::Plain(stream) => Ok(stream),
            _ => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn secured(&mut self, stream: TlsStream<Box<dyn Transport>>) {
        self.pipe = Pipe::Tls(Box::new(stream));
        self.unparsed.clear();
        self.restart();
    }

    /// Puts something back: it is received next.
    pub(crate) fn keep(&mut self, passed_over: Vec<Got>) {
        for got in passed_over.into_iter().rev() {
            self.inbox.push_front(got);
        }
    }

    /// How many things were put back.
    pub(crate) fn kept(&self) -> usize {
        self.inbox.len()
    }

    /// Drops what was put back.
    pub(crate) fn forget(&mut self) {
        self.inbox.clear();
    }

    /// What comes next was put back.
    pub(crate) fn has_kept(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// What arrives next; `None` when nothing does until then.
    pub(crate) async fn next(&mut self, until: Instant) -> Option<Got> {
        if let Some(got) = self.inbox.pop_front() {
            return Some(got);
        }
        let mut others = self.others.take();
        let is_silent = self.has_ended();
        let next = timeout_at(until, async {
            let Some(others) = &mut others else {
                return self.read().await;
            };
            tokio::select! {
                Some(got) = others.recv() => got,
                got = self.read(), if !is_silent => got,
                else => Got::End,
            }
        });
        let next = next.await.ok();
        self.others = others;
        next
    }

    async fn read(&mut self) -> Got {
        loop {
            if let Some(got) = self.parse() {
                // what has arrived with it belongs to the next thing
                self.incomplete = self.unparsed.len();
                let rest = self.unparsed.iter().take(SAMPLE_BYTES);
                self.sample = rest.copied().collect();
                return got;
            }
            if self.has_ended() {
                // outside of elements the parser waits for `<`, whatever comes
                if !self.growing.is_mid_element() && !self.sample.trim_ascii().is_empty() {
                    let sample = String::from_utf8_lossy(&self.sample).into_owned();
                    self.sample.clear();
                    return Got::Garbage(format!("{sample:?}, and the end of the connection"));
                }
                return Got::End;
            }
            if self.incomplete > ELEMENT_BYTES_MAX {
                self.ended = true;
                return Got::Garbage(format!("an element of over {ELEMENT_BYTES_MAX} bytes"));
            }
            let mut buffer = [0; 4096];
            let read = match &mut self.pipe {
                Pipe::Plain(stream) => stream.read(&mut buffer).await,
                Pipe::Tls(stream) => stream.read(&mut buffer).await,
                Pipe::Gone => Ok(0),
            };
            match read {
                Ok(0) | Err(_) => self.ended = true,
                Ok(len) => {
                    self.incomplete += len;
                    let room = SAMPLE_BYTES.saturating_sub(self.sample.len());
                    self.sample.extend_from_slice(&buffer[..len.min(room)]);
                    self.unparsed.extend_from_slice(&buffer[..len]);
                }
            }
        }
    }

    fn parse(&mut self) -> Option<Got> {
        loop {
            let mut rest = self.unparsed.as_slice();
            let result = self.parser.parse(&mut rest, false);
            let used = self.unparsed.len() - rest.len();
            self.unparsed.drain(..used);
            match result {
                Ok(Some(event)) => {
                    let grown = self.growing.push(event);
                    if self.growing.depth() > DEPTH_MAX {
                        return Some(self.garbage("elements are nested too deeply".into()));
                    }
                    match grown {
                        Some(Grown::Header(tree)) => {
                            self.stream_id = tree.attr("id").map(str::to_owned);
                            return Some(Got::Header(tree));
                        }
                        Some(Grown::Element(mut tree)) => {
                            if self.content != ns::CLIENT {
                                tree.rename(self.content, ns::CLIENT);
                            }
                            if tree.is(ns::SASL, "success") {
                                self.restart();
                            }
                            return Some(Got::Element(tree));
                        }
                        Some(Grown::Footer) => return Some(Got::Footer),
                        Some(Grown::Text(text)) if !text.trim().is_empty() => {
                            return Some(self.garbage(format!("text between stanzas: {text:?}")));
                        }
                        Some(Grown::Text(_)) | None => {}
                    }
                }
                Ok(None) | Err(rxml::error::EndOrError::NeedMoreData) => return None,
                Err(rxml::error::EndOrError::Error(error)) => {
                    let rest = String::from_utf8_lossy(&self.unparsed);
                    let rest: String = rest.chars().take(200).collect();
                    return Some(self.garbage(format!("{error}, before {rest:?}")));
                }
            }
        }
    }

    fn garbage(&mut self, what: String) -> Got {
        self.ended = true;
        self.unparsed.clear();
        self.hang_up();
        Got::Garbage(what)
    }
}
