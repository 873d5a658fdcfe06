//! Runs a machine over a transport. With transport.rs the only file of this crate that awaits.
//!
//! One `turn` waits for exactly one of: written, readable (only if the machine wants input), the
//! machine's deadline. Everything else is the caller's select.

use crate::stream::{Machine, TlsInfo};
use crate::tls;
use crate::transport::Link;
pub use crate::transport::Transport;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;

/// One read: a TLS record. A turn reads once, so that one busy peer does not keep a thread.
const READ_BYTES: usize = 16 * 1024;
/// A write buffer that grew above this is given back when it is empty.
const KEEP_BYTES: usize = 1024;

/// A write without progress for this long: TCP has tried again several times by then.
const STALL_MAX: Duration = Duration::from_secs(60);

thread_local! {
    // Shared by all connections of a worker thread: an idle one owns no read buffer. Never borrowed
    // across an await, as `poll_turn` has none.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// One machine, one transport, and the bytes between them.
pub struct Driver<M> {
    /// The machine.
    pub machine: M,
    link: Link,
    out: Vec<u8>,
    written: usize,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the caller wants its turn, whatever the machine does; then whether it was.
    alarm: Option<Instant>,
    rang: bool,
    eof: bool,
    /// Since when the transport has taken nothing of what is pending.
    stalled: Option<Instant>,
    stall_max: Duration,
    /// Bytes read since the caller last gave way to others.
    taken: usize,
    rate: Option<Rate>,
}

/// How fast is read. What was read is paid for by waiting; a second may be owed.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes_per_second: usize,
    paid: Instant,
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
    /// `sni` wins over `to` (of the stream header; `None` on direct TLS). Gives the configuration
    /// and the leaf in it.
    fn choose(
        &self,
        sni: Option<&str>,
        to: Option<&str>,
        direct: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)>;
}

impl<M: Machine> Driver<M> {
    /// A driver over a fresh transport.
    pub fn new(machine: M, transport: Box<dyn Transport>) -> Self {
        let link = Link::Plain(transport);
        Self {
            machine,
            link,
            out: Vec::new(),
            written: 0,
            timer: None,
            alarm: None,
            rang: false,
            eof: false,
            stalled: None,
            stall_max: STALL_MAX,
            taken: 0,
            rate: None,
        }
    }

    /// Reads no faster than this on the average; a second's worth may come at once.
    pub fn set_read_rate(&mut self, bytes_per_second: usize) {
        let paid = now();
        self.rate = Some(Rate {
            bytes_per_second,
            paid,
        });
    }

    /// True when so many bytes were read since the task last waited, or since this was last true:
    /// others shall have their turn.
    pub fn had_its_turn(&mut self, bytes_max: usize) -> bool {
        let had = self.taken >= bytes_max;
        if had {
            self.taken = 0;
        }
        had
    }

    /// Has a turn end at this time, at the latest.
    pub fn set_alarm(&mut self, at: Option<Instant>) {
        self.alarm = at;
    }

    /// True once after the time of the alarm, which is over then.
    pub fn has_rung(&mut self) -> bool {
        std::mem::take(&mut self.rang)
    }

    /// Changes how long a write may make no progress until the transport counts as lost.
    pub fn set_stall_max(&mut self, stall_max: Duration) {
        self.stall_max = stall_max;
    }

    /// Waits for exactly one of: pending bytes written, readable (only if the machine wants input),
    /// deadline; with `read` false for the first alone. Cancel-safe.
    ///
    /// # Errors
    /// The transport failed; the machine was told.
    pub async fn turn(&mut self, read: bool) -> io::Result<Turn> {
        poll_fn(|cx| self.poll_turn(cx, read)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<io::Result<Turn>> {
        match self.poll_out(cx) {
            Poll::Ready(Ok(true)) => return Poll::Ready(Ok(Turn::Flushed)),
            Poll::Ready(Ok(false)) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.lost(error))),
            Poll::Pending => {
                self.stalled.get_or_insert_with(now);
            }
        }
        let wait = self.rate.and_then(Rate::wait);
        let read = read && wait.is_none();
        if read
            && self.machine.wants_input()
            && let Poll::Ready(got) = self.poll_in(cx)
        {
            return Poll::Ready(got.map(|()| Turn::Handled));
        }
        if self.poll_deadline(cx, read, wait).is_ready() {
            if self
                .stall_deadline()
                .is_some_and(|deadline| deadline <= now())
            {
                return Poll::Ready(Err(self.lost(io::ErrorKind::TimedOut.into())));
            }
            self.ring(now());
            self.machine.handle_timeout(now());
            return Poll::Ready(Ok(Turn::Handled));
        }
        self.machine.release();
        self.taken = 0;
        Poll::Pending
    }

    /// Writes until nothing is left; true when something was written.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut wrote = false;
        loop {
            if self.out.is_empty() {
                self.machine.take_bytes(&mut self.out);
            }
            if self.out.is_empty() {
                self.stalled = None;
                self.out.shrink_to(KEEP_BYTES);
                return Poll::Ready(Ok(wrote));
            }
            while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
                match ready!(self.link.poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => {
                        self.written += n;
                        self.stalled = None;
                    }
                }
            }
            ready!(self.link.poll_flush(cx))?;
            self.written = 0;
            self.out.clear();
            wrote = true;
        }
    }

    fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.eof {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        READ.with_borrow_mut(|buffer| match ready!(self.link.poll_read(cx, buffer)) {
            Ok([]) => {
                self.eof = true;
                self.machine.handle_eof(now());
                Poll::Ready(Ok(()))
            }
            Ok(data) => {
                self.taken = self.taken.saturating_add(data.len());
                if let Some(rate) = &mut self.rate {
                    rate.took(data.len());
                }
                let now = now();
                self.machine.handle_bytes(data, now);
                self.ring(now);
                Poll::Ready(Ok(()))
            }
            // Many peers close TLS without close_notify.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.eof = true;
                self.machine.handle_eof(now());
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.lost(error))),
        })
    }

    /// Also while bytes come: a peer that never pauses does not put off the alarm.
    fn ring(&mut self, now: Instant) {
        if self.alarm.is_some_and(|at| at <= now) {
            (self.alarm, self.rang) = (None, true);
        }
    }

    fn stall_deadline(&self) -> Option<Instant> {
        self.stalled.map(|since| since + self.stall_max)
    }

    /// `wait`: until when nothing is read.
    fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        read: bool,
        wait: Option<Instant>,
    ) -> Poll<()> {
        // While the caller does not read, silence is our own doing.
        let machine = match read {
            true => self.machine.poll_timeout(),
            false => self.machine.poll_timeout_unread(),
        };
        let earliest = machine.into_iter().chain(self.stall_deadline());
        let earliest = earliest.chain(wait).chain(self.alarm).min();
        let Some(deadline) = earliest else {
            return Poll::Pending;
        };
        let deadline = tokio::time::Instant::from_std(deadline);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }

    fn lost(&mut self, error: io::Error) -> io::Error {
        self.eof = true;
        self.machine.handle_eof(now());
        error
    }

    /// Bytes not yet accepted by the transport, the machine's included.
    pub fn pending(&self) -> usize {
        self.out.len() - self.written + self.machine.pending_bytes()
    }

    /// Accepts TLS (after `Output::StartTls`, or first thing on a direct-TLS port) and tells the
    /// machine. Bounded by the machine's deadline.
    ///
    /// # Errors
    /// The handshake failed or took too long, or no certificate fits.
    pub async fn accept_tls(
        &mut self,
        source: &dyn TlsSource,
        to: Option<&str>,
        direct: bool,
    ) -> io::Result<TlsInfo> {
        let deadline = self.machine.poll_timeout();
        within(deadline, self.flush()).await?;
        let transport = self.take_plain()?;
        let handshake = tls::server::accept(transport, source, to, direct);
        let (stream, info) = within(deadline, Box::pin(handshake)).await?;
        self.link = Link::Server(Box::new(stream));
        self.machine.tls_established(info.clone(), now());
        Ok(info)
    }

    /// Begins TLS as the calling side (after `Output::StartTls`, or first thing for direct TLS) and
    /// tells the machine. The certificate must be good for `name`.
    ///
    /// # Errors
    /// The handshake failed, or took longer than the machine's deadline.
    pub async fn connect_tls(
        &mut self,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<TlsInfo> {
        let deadline = self.machine.poll_timeout();
        within(deadline, self.flush()).await?;
        let transport = self.take_plain()?;
        let is_certified = config.client_auth_cert_resolver.has_certs();
        let handshake = TlsConnector::from(config).connect(name, transport);
        let stream = within(deadline, Box::pin(handshake)).await?;
        let info = tls::client_info(stream.get_ref().1, is_certified);
        self.link = Link::Client(Box::new(stream));
        self.machine.tls_established(info.clone(), now());
        Ok(info)
    }

    fn take_plain(&mut self) -> io::Result<Box<dyn Transport>> {
        match std::mem::replace(&mut self.link, Link::Gone) {
            Link::Plain(transport) => Ok(transport),
            other => {
                self.link = other;
                Err(io::Error::other("TLS inside TLS"))
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.pending() > 0 {
            poll_fn(|cx| self.poll_out(cx)).await?;
        }
        Ok(())
    }

    /// Writes what is pending, within `bound`; true when nothing is left.
    pub async fn flush_within(&mut self, bound: Duration) -> bool {
        matches!(tokio::time::timeout(bound, self.flush()).await, Ok(Ok(())))
    }

    /// Writes what is pending and closes: TLS close_notify, then our side of the transport, then
    /// waits for the peer's end (RFC 6120 section 4.4). All within `bound`.
    pub async fn finish(&mut self, bound: Duration) {
        let closing = async {
            self.flush().await?;
            poll_fn(|cx| self.link.poll_shutdown(cx)).await?;
            // Reading to the end keeps the last bytes from being lost in a reset.
            while !self.eof {
                self.eof = poll_fn(|cx| self.poll_discard(cx)).await?;
            }
            io::Result::Ok(())
        };
        if !matches!(tokio::time::timeout(bound, closing).await, Ok(Ok(()))) {
            tracing::debug!("transport not closed cleanly");
        }
    }

    /// Lets go of the transport as it is; the machine can still be asked.
    pub fn abandon(&mut self) {
        self.link = Link::Gone;
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        READ.with_borrow_mut(|buffer| {
            let data = ready!(self.link.poll_read(cx, buffer))?;
            Poll::Ready(Ok(data.is_empty()))
        })
    }
}

impl Rate {
    /// What may be owed.
    const AHEAD: Duration = Duration::from_secs(1);

    fn took(&mut self, bytes: usize) {
        let nanos = bytes as u64 * 1_000_000_000 / self.bytes_per_second.max(1) as u64;
        let now = now();
        self.paid = self.paid.max(now) + Duration::from_nanos(nanos);
    }

    /// Until when nothing is read; `None`: something may be.
    fn wait(self) -> Option<Instant> {
        let ahead = self.paid.saturating_duration_since(now());
        (ahead > Self::AHEAD).then(|| self.paid - Self::AHEAD)
    }
}

/// Time as tokio sees it, so that paused time in tests holds here too.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match deadline {
        None => work.await,
        Some(deadline) => match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(done) => done,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
    }
}

#[cfg(test)]
mod tests;
