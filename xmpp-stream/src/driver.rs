//! Runs a machine over a transport. With transport.rs and tls.rs the only file of this crate that awaits.

use crate::stream::{Machine, TlsInfo};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Any byte stream: TCP, or an in-memory pipe in tests.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// One machine, one transport, and the bytes between them.
pub struct Driver<M> {
    /// The machine.
    pub machine: M, /* private: transport (plain or TLS), write buffer, timer */
}

/// Why `turn` returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// Input or a deadline was handled: poll the machine's outputs.
    Handled,
    /// Everything written so far has left for the transport (told once per flush).
    Flushed,
}

/// Chooses certificate and protocol settings for an accepted TLS connection.
pub trait TlsSource: Send + Sync {
    /// `sni` wins over `to` (of the stream header; `None` on direct TLS). Returns the configuration and the DER of the leaf in it.
    fn choose(
        &self,
        sni: Option<&str>,
        to: Option<&str>,
        direct: bool,
    ) -> Option<(
        Arc<rustls::ServerConfig>,
        rustls::pki_types::CertificateDer<'static>,
    )>;
}

impl<M: Machine> Driver<M> {
    /// A driver over a fresh transport.
    pub fn new(_machine: M, _transport: Box<dyn Transport>) -> Self {
        todo!()
    }
    /// Waits for exactly one of: readable (only if the machine wants input and `read` is true), writable (if bytes are pending), deadline.
    /// Cancel-safe. At most 64 KiB are read a turn. `Err`: the transport failed (the machine was told eof).
    pub async fn turn(&mut self, _read: bool) -> io::Result<Turn> {
        todo!()
    }
    /// Bytes not yet accepted by the transport, the machine's included.
    pub fn pending(&self) -> usize {
        todo!()
    }
    /// Accepts TLS (after `Output::StartTls`, or first thing on a direct-TLS port); tells the machine. Bounded by the machine's deadline.
    pub async fn accept_tls(
        &mut self,
        _source: &dyn TlsSource,
        _to: Option<&str>,
        _direct: bool,
    ) -> io::Result<TlsInfo> {
        todo!()
    }
    /// Flushes what is pending and closes: TLS close_notify, then the transport. Bounded by `within`.
    pub async fn finish(self, _within: std::time::Duration) {
        todo!()
    }
}
