//! Happy eyeballs: which of a host's addresses answers first (RFC 8305 section 5).
//!
//! The next address is tried when the last one has failed, or has said nothing for a quarter of a
//! second; the first connection wins and the others are dropped. How to connect is handed in.

use crate::driver::Transport;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// When which address is tried.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long one try goes on alone (RFC 8305 section 8 recommends 250 ms).
    pub stagger: Duration,
    /// One try; the system itself would wait for minutes.
    pub try_max: Duration,
    /// Tries at the same time: no more half-open connections than a person's browser makes.
    pub at_once_max: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            stagger: Duration::from_millis(250),
            try_max: Duration::from_secs(10),
            at_once_max: 4,
        }
    }
}

/// An address that was tried in vain.
#[derive(Debug)]
pub struct Missed {
    /// Where.
    pub address: SocketAddr,
    /// Why; `TimedOut` also when another address answered while this one had not.
    pub error: io::Error,
}

/// What came of it.
#[derive(Debug)]
pub struct Dialed<T> {
    /// The first connection and its address.
    pub connected: Option<(SocketAddr, T)>,
    /// Tries that failed before it, in the order in which they did.
    pub missed: Vec<Missed>,
}

/// Connects to the first of these addresses that answers; they are tried in this order.
pub async fn dial<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    pace: Pace,
    mut connect: impl FnMut(SocketAddr) -> F,
) -> Dialed<T> {
    let mut waiting = addresses.iter().copied();
    let mut tries = Tries {
        running: Vec::new(),
        next: None,
    };
    let mut missed = Vec::new();
    loop {
        let may_begin = tries.running.len() < pace.at_once_max.max(1);
        match may_begin.then(|| waiting.next()).flatten() {
            Some(address) => {
                let connecting = timeout(pace.try_max, connect(address));
                tries.running.push((address, Box::pin(connecting)));
                tries.next = Some(Box::pin(sleep_until(Instant::now() + pace.stagger)));
            }
            None => tries.next = None,
        }
        let ended = match poll_fn(|cx| tries.poll(cx)).await {
            Turn::Ended(address, result) => (address, result),
            Turn::Next => continue,
            Turn::Over => {
                let connected = None;
                return Dialed { connected, missed };
            }
        };
        match ended {
            (address, Ok(connection)) => {
                let connected = Some((address, connection));
                return Dialed { connected, missed };
            }
            (address, Err(error)) => missed.push(Missed { address, error }),
        }
    }
}

/// A TCP connection without Nagle's delay: stanzas are small, and somebody waits for each.
///
/// # Errors
/// As the system says.
pub async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection that is being made.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send>>;

type Open = dyn Fn(SocketAddr) -> Opening + Send + Sync;

/// How a connection to an address is made: by TCP, or by what a test puts in its place. Clones are
/// the same.
#[derive(Clone, Default)]
pub struct Dialer(Option<Arc<Open>>);

impl Dialer {
    /// One of the caller's, e.g. into pipes in memory.
    pub fn new(open: impl Fn(SocketAddr) -> Opening + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(open)))
    }

    /// Connects.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Transport>> {
        match &self.0 {
            Some(open) => open(address).await,
            None => Ok(Box::new(tcp(address).await?)),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Dialer(own)",
            None => "Dialer(tcp)",
        })
    }
}

type Connecting<F> = Pin<Box<tokio::time::Timeout<F>>>;

struct Tries<F> {
    running: Vec<(SocketAddr, Connecting<F>)>,
    /// When the next address has its turn; `None`: when one of these has failed.
    next: Option<Pin<Box<Sleep>>>,
}

enum Turn<T> {
    Ended(SocketAddr, io::Result<T>),
    Next,
    Over,
}

impl<T, F: Future<Output = io::Result<T>>> Tries<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn<T>> {
        for index in 0..self.running.len() {
            let Some((address, connecting)) = self.running.get_mut(index) else {
                continue;
            };
            if let Poll::Ready(ended) = connecting.as_mut().poll(cx) {
                let address = *address;
                drop(self.running.remove(index));
                let result = ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                return Poll::Ready(Turn::Ended(address, result));
            }
        }
        match &mut self.next {
            Some(next) => next.as_mut().poll(cx).map(|()| Turn::Next),
            None if self.running.is_empty() => Poll::Ready(Turn::Over),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What an address does: after so many milliseconds it answers, or fails.
    #[derive(Clone, Copy)]
    enum Peer {
        Answers(u64),
        Fails(u64),
        Silent,
    }
    use Peer::{Answers, Fails, Silent};

    /// Paused time goes on by this.
    async fn after(millis: u64) {
        let never = std::future::pending::<()>();
        let _ = timeout(Duration::from_millis(millis), never).await;
    }

    fn address(index: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], u16::try_from(index).unwrap()))
    }

    /// Who wins, who was missed, when each was begun and when all was over.
    async fn race(peers: &[Peer], pace: Pace) -> (Option<u16>, Vec<u16>, Vec<u128>, u128) {
        let start = Instant::now();
        let begun = RefCell::new(Vec::new());
        let addresses: Vec<SocketAddr> = (0..peers.len()).map(address).collect();
        let dialed = dial(&addresses, pace, |address| {
            begun.borrow_mut().push(start.elapsed().as_millis());
            let peer = peers[usize::from(address.port())];
            async move {
                match peer {
                    Answers(millis) => after(millis).await,
                    Fails(millis) => {
                        after(millis).await;
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    Silent => std::future::pending().await,
                }
                Ok(())
            }
        });
        let dialed = dialed.await;
        let winner = dialed.connected.map(|(address, ())| address.port());
        let missed = dialed.missed.iter().map(|missed| missed.address.port());
        let missed = missed.collect();
        (
            winner,
            missed,
            begun.into_inner(),
            start.elapsed().as_millis(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn co_01_addresses_are_tried_a_quarter_of_a_second_apart() {
        let race = |peers: &'static [Peer]| race(peers, Pace::default());
        let none: Vec<u16> = vec![];
        // The first one answers at once: no other is knocked at.
        assert_eq!(
            race(&[Answers(9), Answers(0)]).await,
            (Some(0), none.clone(), vec![0], 9)
        );
        // A black hole costs a quarter of a second.
        assert_eq!(
            race(&[Silent, Answers(20)]).await,
            (Some(1), none.clone(), vec![0, 250], 270)
        );
        // A slow one still wins when it is first.
        assert_eq!(
            race(&[Answers(260), Answers(20)]).await,
            (Some(0), none.clone(), vec![0, 250], 260)
        );
        // A failure gives the next its turn at once, which then has its own quarter.
        assert_eq!(
            race(&[Fails(10), Silent, Answers(5)]).await,
            (Some(2), vec![0], vec![0, 10, 260], 265)
        );
        assert_eq!(race(&[]).await, (None, none, vec![], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn all_in_vain_names_each() {
        let (winner, missed, begun, over) =
            race(&[Silent, Fails(1), Fails(600)], Pace::default()).await;
        assert_eq!((winner, missed), (None, vec![1, 2, 0]));
        assert_eq!((begun, over), (vec![0, 250, 251], 10_000));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_bound_are_tried_at_once() {
        let pace = Pace {
            at_once_max: 2,
            ..Pace::default()
        };
        let (winner, missed, begun, over) = race(&[Silent, Silent, Silent, Answers(1)], pace).await;
        assert_eq!((winner, missed), (Some(3), vec![0, 1]));
        assert_eq!((begun, over), (vec![0, 250, 10_000, 10_250], 10_251));
    }
}
