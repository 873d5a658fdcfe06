//! What lies between two ends of a connection, and what may go wrong there: cut, cut after so many
//! bytes, held, delayed, bytes out of order, nothing at all.
//!
//! A relay carries any number of connections to one target, which may move. It reads bytes, not
//! stanzas: under TLS it knows no more than a cable does. proxy.rs puts a TCP port before one, the
//! lab's net a door in memory.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use xmpp_stream::dial::Dialer;

/// Read at once.
const PIECE_BYTES: usize = 16 * 1024;
/// Pieces on their way in one direction; a sender that is faster waits.
const PIECES_MAX: usize = 256;

/// A way to one target. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Relay {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: watch::Sender<State>,
    dialer: Dialer,
    accepted: AtomicUsize,
    bytes: AtomicU64,
    /// Bytes until the cut; `u64::MAX`: none is meant.
    left: AtomicU64,
    /// Pieces that change places with the one behind them.
    swaps: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct State {
    target: SocketAddr,
    /// Counts cuts: a connection ends with the number that it began under.
    cuts: u64,
    is_down: bool,
    is_held: bool,
    delay: Duration,
}

impl Relay {
    /// A way to this address.
    #[must_use]
    pub fn new(target: SocketAddr, dialer: Dialer) -> Self {
        let state = State {
            target,
            cuts: 0,
            is_down: false,
            is_held: false,
            delay: Duration::ZERO,
        };
        let shared = Shared {
            state: watch::Sender::new(state),
            dialer,
            accepted: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
            swaps: AtomicUsize::new(0),
        };
        let shared = Arc::new(shared);
        Self { shared }
    }

    /// Ends every connection as it stands, in the middle of whatever it carries. New ones are made.
    pub fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Cuts when so many more bytes have passed, both directions together.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Cuts, and lets nobody through until `mend`.
    pub fn sever(&self) {
        self.change(|state| {
            state.cuts += 1;
            state.is_down = true;
        });
    }

    /// Undoes `sever`, `hold` and `delay`.
    pub fn mend(&self) {
        self.change(|state| {
            state.is_down = false;
            state.is_held = false;
            state.delay = Duration::ZERO;
        });
    }

    /// From now on nothing gets through and neither side is told; what is sent waits for `release`.
    pub fn hold(&self) {
        self.change(|state| state.is_held = true);
    }

    /// What waited goes on, in its order.
    pub fn release(&self) {
        self.change(|state| state.is_held = false);
    }

    /// Every byte takes this long, each way.
    pub fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// Once, in whichever direction comes first, two pieces arrive in the wrong order. A stream never
    /// does that by itself; TLS notices, and the connection is lost.
    pub fn reorder(&self) {
        self.shared.swaps.fetch_add(1, Ordering::SeqCst);
    }

    /// Where the target is from now on.
    pub fn move_to(&self, target: SocketAddr) {
        self.change(|state| state.target = target);
    }

    /// Where the target is.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        self.shared.state.borrow().target
    }

    /// How many connections there were.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes have passed, both ways.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// What it does to what it carries, in words.
    #[must_use]
    pub fn condition(&self) -> String {
        let state = *self.shared.state.borrow();
        match state {
            State { is_down: true, .. } => "cut".into(),
            State { is_held: true, .. } => "held".into(),
            State { delay, .. } if !delay.is_zero() => format!("delayed by {delay:?}"),
            State { .. } => "up".into(),
        }
    }

    /// Carries one connection to the target until either side or a fault ends it.
    pub async fn carry(self, near: impl AsyncRead + AsyncWrite + Send + Unpin) {
        let mut watched = self.shared.state.subscribe();
        let state = *watched.borrow_and_update();
        if state.is_down {
            return;
        }
        self.shared.accepted.fetch_add(1, Ordering::SeqCst);
        let cut = async {
            let changed = watched.wait_for(|now| now.cuts != state.cuts).await;
            drop(changed);
        };
        let carried = async {
            let Ok(far) = self.shared.dialer.connect(state.target).await else {
                return;
            };
            let ((near_in, near_out), (far_in, far_out)) = (split(near), split(far));
            let (there, back) = (self.pump(near_in, far_out), self.pump(far_in, near_out));
            // One that fails ends both; one that ends in order lets the other finish.
            let _ = tokio::try_join!(there, back);
        };
        tokio::select! {
            () = cut => {}
            () = carried => {}
        }
    }

    async fn pump<R: AsyncRead, W: AsyncWrite>(
        &self,
        mut from: ReadHalf<R>,
        mut to: WriteHalf<W>,
    ) -> io::Result<()> {
        let mut watched = self.shared.state.subscribe();
        let mut pieces: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut buffer = vec![0; PIECE_BYTES];
        let mut is_over = false;
        loop {
            let first = pieces.front().map(|(due, _)| *due);
            // A piece that is to change places waits for the next.
            let swaps = self.shared.swaps.load(Ordering::SeqCst) > 0;
            let waits = pieces.is_empty() || (swaps && pieces.len() < 2 && !is_over);
            let ready = async {
                let released = watched.wait_for(|now| !now.is_held).await;
                drop(released);
                if let Some(due) = first {
                    // A link that is slow, not a test that waits.
                    let _ = timeout_at(due, std::future::pending::<()>()).await;
                }
            };
            tokio::select! {
                biased;
                read = from.read(&mut buffer), if !is_over && pieces.len() < PIECES_MAX => {
                    let len = read?;
                    is_over = len == 0;
                    if len > 0 {
                        let due = Instant::now() + self.shared.state.borrow().delay;
                        pieces.push_back((due, buffer.get(..len).unwrap_or_default().to_vec()));
                    }
                }
                () = ready, if !waits => {
                    if swaps && pieces.len() > 1 {
                        self.shared.swaps.fetch_sub(1, Ordering::SeqCst);
                        pieces.swap(0, 1);
                    }
                    if let Some((_, piece)) = pieces.pop_front() {
                        self.pass(&mut to, &piece).await?;
                    }
                }
                else => return to.shutdown().await,
            }
            if is_over && pieces.is_empty() {
                return to.shutdown().await;
            }
        }
    }

    async fn pass(&self, to: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> io::Result<()> {
        let left = self.shared.left.load(Ordering::SeqCst);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let piece = piece.get(..len).unwrap_or_default();
        to.write_all(piece).await?;
        to.flush().await?;
        self.shared.bytes.fetch_add(len as u64, Ordering::SeqCst);
        if left == u64::MAX {
            return Ok(());
        }
        let left = left - len as u64;
        self.shared.left.store(left, Ordering::SeqCst);
        if left == 0 {
            self.shared.left.store(u64::MAX, Ordering::SeqCst);
            self.cut();
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.shared.state.send_modify(change);
    }
}

/// Connections that end with their owner.
#[derive(Debug, Default)]
pub(crate) struct Carried(JoinSet<()>);

impl Carried {
    pub(crate) fn add(&mut self, carrying: impl Future<Output = ()> + Send + 'static) {
        while self.0.try_join_next().is_some() {}
        self.0.spawn(carrying);
    }
}

#[cfg(test)]
mod tests;
