//! The byte stream under a driver: TCP or an in-memory pipe, plain or in TLS.

use crate::tls::server::ServerTls;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client;

/// Any byte stream: TCP, or an in-memory pipe in tests.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// What a driver reads and writes.
pub(crate) enum Link {
    Plain(Box<dyn Transport>),
    Server(Box<ServerTls>),
    Client(Box<client::TlsStream<Box<dyn Transport>>>),
    /// Taken for a handshake that did not end well.
    Gone,
}

impl Link {
    fn io(&mut self) -> io::Result<Pin<&mut dyn Transport>> {
        match self {
            Self::Plain(io) => Ok(Pin::new(&mut **io)),
            Self::Server(io) => Ok(Pin::new(&mut **io)),
            Self::Client(io) => Ok(Pin::new(&mut **io)),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What was read into `buffer`; empty at the end.
    pub(crate) fn poll_read<'a>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &'a mut [u8],
    ) -> Poll<io::Result<&'a [u8]>> {
        let mut read = ReadBuf::new(buffer);
        ready!(self.io()?.poll_read(cx, &mut read))?;
        let len = read.filled().len();
        Poll::Ready(Ok(buffer.get(..len).unwrap_or_default()))
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write(cx, data)
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(cx)
    }
}
