//! The accepting side of TLS with no buffers of its own while nothing is on its way.
//!
//! A connection that waits holds keys and state, no bytes: what is read and what is encrypted goes
//! through buffers that belong to the thread; only a record that came in part, or was written in
//! part, is kept. By rustls's interface without buffers (DESIGN 2.7), which does not export keying
//! material, so the exporter of RFC 8446 section 7.5 is computed here from the exporter secret.

use super::server_info;
use crate::driver::{TlsSource, Transport};
use crate::stream::TlsInfo;
use rustls::crypto::tls13::OkmBlock;
use rustls::server::{Acceptor, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::UnbufferedStatus;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError};
use rustls::{ContentType, KeyLog, ProtocolVersion, ServerConfig};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Text of one record, and so of one write.
const TEXT_MAX: usize = 16 * 1024;
/// A record with header, tag and padding (RFC 8446 section 5.2, RFC 5246 section 6.2.3).
const RECORD_MAX: usize = 5 + TEXT_MAX + 2048;
/// Bytes of a handshake message that is not complete: a client's fits many times.
const UNREAD_MAX: usize = 64 * 1024;
/// What the peer's requests (new keys) may make us owe while it takes nothing.
const UNSENT_MAX: usize = 64 * 1024;

thread_local! {
    // Never borrowed across an await, as no `poll_` function has one.
    static RECORDS: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECORD_MAX].into());
}

/// An accepted TLS connection over a transport.
pub(crate) struct ServerTls {
    io: Box<dyn Transport>,
    connection: UnbufferedServerConnection,
    /// Records that have not come whole.
    unread: Vec<u8>,
    /// Text that the reader had no room for.
    text: Vec<u8>,
    /// Records that the transport has not taken.
    unsent: Vec<u8>,
    sent: usize,
    /// The unsent ones are session tickets: they may go with what is said next.
    can_wait: bool,
    /// The peer's close_notify was there.
    closed: bool,
    /// Ours was written.
    closing: bool,
    failed: Option<io::ErrorKind>,
}

/// Accepts TLS on a transport: reads the peer's greeting, lets `source` choose, ends the handshake.
///
/// # Errors
/// The transport or the handshake failed, or there is no certificate.
pub(crate) async fn accept(
    mut io: Box<dyn Transport>,
    source: &dyn TlsSource,
    to: Option<&str>,
    direct: bool,
) -> io::Result<(ServerTls, TlsInfo)> {
    let (greeting, sni) = greeting(&mut io).await?;
    let chosen = source.choose(sni.as_deref(), to, direct);
    let (config, leaf) = chosen.ok_or_else(|| io::Error::other("no certificate"))?;
    let secret = Arc::new(ExporterSecret::default());
    let mut config = ServerConfig::clone(&config);
    config.key_log = Arc::clone(&secret) as Arc<dyn KeyLog>;
    let connection = UnbufferedServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
    let mut tls = ServerTls {
        io,
        connection,
        unread: greeting,
        text: Vec::new(),
        unsent: Vec::new(),
        sent: 0,
        can_wait: false,
        closed: false,
        closing: false,
        failed: None,
    };
    tls.handshake().await?;
    let exporter = match tls.connection.negotiated_cipher_suite() {
        Some(SupportedCipherSuite::Tls13(suite)) => secret.export(suite),
        _ => None,
    };
    let info = server_info(&tls.connection, exporter, &leaf, sni);
    Ok((tls, info))
}

/// Reads until the ClientHello is whole; its bytes, and the name in it.
async fn greeting(io: &mut Box<dyn Transport>) -> io::Result<(Vec<u8>, Option<Box<str>>)> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        poll_fn(|cx| poll_append(io, cx, &mut bytes)).await?;
        let mut rest = bytes.get(start..).unwrap_or_default();
        while !rest.is_empty() {
            acceptor.read_tls(&mut rest)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let sni = accepted.client_hello().server_name().map(Into::into);
                    return Ok((bytes, sni));
                }
                Err((error, mut alert)) => {
                    let mut unsent = Vec::new();
                    alert.write_all(&mut unsent)?;
                    // The error is told whether or not the peer takes the alert.
                    let _ = poll_fn(|cx| Pin::new(&mut **io).poll_write(cx, &unsent)).await;
                    return Err(invalid(&error));
                }
            }
        }
    }
}

/// Reads once, and appends what came.
fn poll_append(
    io: &mut Box<dyn Transport>,
    cx: &mut Context<'_>,
    to: &mut Vec<u8>,
) -> Poll<io::Result<()>> {
    RECORDS.with_borrow_mut(|records| {
        let mut read = ReadBuf::new(records);
        ready!(Pin::new(&mut **io).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        to.extend_from_slice(read.filled());
        Poll::Ready(Ok(()))
    })
}

impl ServerTls {
    async fn handshake(&mut self) -> io::Result<()> {
        loop {
            let done = self.advance(&mut ReadBuf::new(&mut []));
            let is_over = done.is_ok() && !self.connection.is_handshaking();
            if is_over && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
                // Tickets alone; the peer may not read them before it has said something, and most
                // have said it with the end of their handshake.
                self.can_wait = true;
                return Ok(());
            }
            let unread = self.unread.len();
            // An alert is sent even where the handshake has failed.
            let sent = poll_fn(|cx| self.poll_exchange(cx)).await;
            done.and(sent)?;
            if is_over {
                return Ok(());
            }
            if self.unread.len() == unread {
                let (io, unread) = (&mut self.io, &mut self.unread);
                poll_fn(|cx| poll_append(io, cx, unread)).await?;
            }
        }
    }

    /// As `poll_drain`, but reads meanwhile: the peer may not read before it has written.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.poll_drain(cx)?.is_pending() {
            if self.unread.len() > UNREAD_MAX {
                return Poll::Pending;
            }
            ready!(poll_append(&mut self.io, cx, &mut self.unread))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes records from `unread`.
    fn advance(&mut self, text: &mut ReadBuf<'_>) -> io::Result<()> {
        let mut unread = std::mem::take(&mut self.unread);
        let used = self.take(&mut unread, text);
        unread.drain(..used.as_ref().map_or(0, |used| *used));
        if !unread.is_empty() {
            self.unread = unread;
        }
        used.map(drop)
    }

    /// Takes what is whole of these records, and tells how many bytes that was. What does not fit
    /// into `text` goes to `self.text`, answers to `unsent`.
    fn take(&mut self, records: &mut [u8], text: &mut ReadBuf<'_>) -> io::Result<usize> {
        let is_1_2 = self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        if is_1_2 && !self.connection.is_handshaking() && renegotiates(records) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "TLS renegotiation");
            return Err(self.fail(error));
        }
        let mut used = 0;
        loop {
            let rest = records.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let mut done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|error| invalid(&error))?;
                        discard += record.discard;
                        put(record.payload, text, &mut self.text);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.unsent),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.closed = true,
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                    done = true;
                }
                Ok(ConnectionState::Closed) => {
                    self.closed = true;
                    done = true;
                }
                // Early data is never allowed; there is no other state.
                Ok(_) => return Err(self.fail(io::ErrorKind::InvalidData.into())),
                Err(error) => {
                    self.last_words();
                    return Err(self.fail(invalid(&error)));
                }
            }
            used += discard;
            if done {
                break;
            }
        }
        if records.len().saturating_sub(used) > UNREAD_MAX || self.unsent.len() > UNSENT_MAX {
            return Err(self.fail(io::ErrorKind::InvalidData.into()));
        }
        Ok(used)
    }

    /// What was to be said before an error just found, and its alert.
    fn last_words(&mut self) {
        loop {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.unsent),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => return,
            }
        }
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.failed = Some(error.kind());
        error
    }

    /// Writes what is owed; ready when nothing is.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.unsent.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.sent += len,
            }
        }
        self.sent = 0;
        self.unsent = Vec::new();
        self.can_wait = false;
        Poll::Ready(Ok(()))
    }

    /// Reads until there is text or the end, which leaves `text` as it is.
    fn poll_text(&mut self, cx: &mut Context<'_>, text: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = text.filled().len();
        while text.filled().len() == before && !self.closed {
            if let Some(kind) = self.failed {
                return Poll::Ready(Err(kind.into()));
            }
            if self.unread.is_empty() {
                ready!(self.poll_records(cx, text))?;
            } else {
                ready!(poll_append(&mut self.io, cx, &mut self.unread))?;
                self.advance(text)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The same where nothing is unread, which is almost always: no byte is kept that need not be.
    fn poll_records(
        &mut self,
        cx: &mut Context<'_>,
        text: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        RECORDS.with_borrow_mut(|records| {
            let mut read = ReadBuf::new(records);
            ready!(Pin::new(&mut *self.io).poll_read(cx, &mut read))?;
            let filled = read.filled_mut();
            if filled.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let used = self.take(filled, text)?;
            if let Some(rest) = filled.get(used..).filter(|rest| !rest.is_empty()) {
                self.unread.extend_from_slice(rest);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Encrypts into the thread's buffer and writes from there; what is not taken is kept.
    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        encrypt: impl FnOnce(&mut Self, &mut [u8]) -> io::Result<usize>,
    ) -> Poll<io::Result<()>> {
        RECORDS.with_borrow_mut(|records| {
            let len = encrypt(self, records)?;
            let record = records.get(..len).unwrap_or_default();
            let sent = match self.unsent.is_empty() {
                true => Pin::new(&mut *self.io).poll_write(cx, record)?,
                false => Poll::Pending,
            };
            let sent = match sent {
                Poll::Ready(sent) => sent,
                Poll::Pending => 0,
            };
            self.unsent
                .extend_from_slice(record.get(sent..).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }

    /// One record of this text, or close_notify without.
    fn encrypt(&mut self, text: Option<&[u8]>, out: &mut [u8]) -> io::Result<usize> {
        // What is unread has to be shown again: part of a message of the handshake may be in it.
        self.advance(&mut ReadBuf::new(&mut []))?;
        match self.connection.process_tls_records(&mut self.unread).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let len = match text {
                    Some(text) => traffic.encrypt(text, out),
                    None => traffic.queue_close_notify(out),
                };
                len.map_err(|error| match error {
                    EncryptError::EncryptExhausted => io::ErrorKind::ConnectionAborted.into(),
                    EncryptError::InsufficientSize(_) => io::ErrorKind::InvalidInput.into(),
                })
            }
            Ok(_) => Err(io::ErrorKind::NotConnected.into()),
            Err(error) => Err(invalid(&error)),
        }
    }
}

/// Row tl-09: the connection ends without a word (RFC 6120 section 5.3.5), where rustls would refuse
/// once and go on. The kind of a record stands in clear in TLS 1.2, and behind a handshake one of that
/// kind can only begin another.
fn renegotiates(records: &[u8]) -> bool {
    let mut rest = records;
    while let [kind, _, _, high, low, records @ ..] = rest {
        if *kind == u8::from(ContentType::Handshake) {
            return true;
        }
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        rest = records.get(len..).unwrap_or_default();
    }
    false
}

/// As much as there is room for, the rest behind it.
fn put(payload: &[u8], text: &mut ReadBuf<'_>, rest: &mut Vec<u8>) {
    let room = match rest.is_empty() {
        true => text.remaining().min(payload.len()),
        false => 0,
    };
    let (now, later) = payload.split_at(room);
    text.put_slice(now);
    rest.extend_from_slice(later);
}

/// Appends a record of the handshake, or an alert.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let start = out.len();
    let len = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(need)) => {
            out.resize(start + need.required_size, 0);
            data.encode(out.get_mut(start..).unwrap_or_default())
        }
        other => other,
    };
    // With the room it asked for it does not fail.
    out.truncate(start + len.unwrap_or_default());
}

fn invalid(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

impl AsyncRead for ServerTls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.text.is_empty() {
            let len = this.text.len().min(buffer.remaining());
            buffer.put_slice(this.text.get(..len).unwrap_or_default());
            this.text.drain(..len);
            if this.text.is_empty() {
                this.text = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let outcome = this.poll_text(cx, buffer);
        let is_heard = matches!(outcome, Poll::Ready(Ok(())));
        let keeps = this.can_wait && is_heard;
        if !keeps && !this.unsent.is_empty() {
            // Answers to what was read. Whether they leave is for the next write to tell.
            let _ = this.poll_drain(cx);
        }
        outcome
    }
}

impl AsyncWrite for ServerTls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let goes_with = std::mem::take(&mut this.can_wait);
        if !goes_with {
            ready!(this.poll_drain(cx))?;
        }
        let text = data.get(..data.len().min(TEXT_MAX)).unwrap_or_default();
        ready!(this.poll_encrypt(cx, |this, out| this.encrypt(Some(text), out)))?;
        if goes_with && let Poll::Ready(drained) = this.poll_drain(cx) {
            drained?;
        }
        Poll::Ready(Ok(text.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_drain(cx))?;
        if !this.closing && this.failed.is_none() {
            this.closing = true;
            ready!(this.poll_encrypt(cx, |this, out| this.encrypt(None, out)))?;
            ready!(this.poll_drain(cx))?;
        }
        Pin::new(&mut *this.io).poll_shutdown(cx)
    }
}

/// Receives the exporter secret of one connection, and nothing else.
#[derive(Default)]
struct ExporterSecret(Mutex<Option<OkmBlock>>);

impl std::fmt::Debug for ExporterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExporterSecret")
    }
}

impl KeyLog for ExporterSecret {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if self.will_log(label) && secret.len() <= OkmBlock::MAX_LEN {
            let block = OkmBlock::new(secret);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(block);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == "EXPORTER_SECRET"
    }
}

impl ExporterSecret {
    /// Keying material for channel binding (RFC 9266 section 4.2) by RFC 8446 section 7.5; the secret
    /// is gone afterwards.
    fn export(&self, suite: &Tls13CipherSuite) -> Option<[u8; 32]> {
        let secret = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()?;
        let hash = suite.common.hash_provider.hash(b"");
        let mut derived = [0; OkmBlock::MAX_LEN];
        let derived = derived.get_mut(..hash.as_ref().len())?;
        let label = b"EXPORTER-Channel-Binding";
        expand(suite, &secret, label, hash.as_ref(), derived)?;
        let mut exported = [0; 32];
        let derived = OkmBlock::new(derived);
        expand(suite, &derived, b"exporter", hash.as_ref(), &mut exported)?;
        Some(exported)
    }
}

/// HKDF-Expand-Label of RFC 8446 section 7.1.
fn expand(
    suite: &Tls13CipherSuite,
    secret: &OkmBlock,
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) -> Option<()> {
    let prefix = b"tls13 ";
    let out_len = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_len = u8::try_from(prefix.len() + label.len()).ok()?;
    let context_len = u8::try_from(context.len()).ok()?;
    let info: [&[u8]; 6] = [
        &out_len,
        &[label_len],
        prefix,
        label,
        &[context_len],
        context,
    ];
    let expander = suite.hkdf_provider.expander_for_okm(secret);
    expander.expand_slice(&info, out).ok()
}

#[cfg(test)]
mod tests;
