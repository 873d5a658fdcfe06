//! What stands for the network in a lab without sockets: addresses behind which somebody listens, and
//! pipes in memory instead of connections. It works on a paused clock.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use xmpp_stream::dial::Dialer;

/// Bytes in flight in a connection, each way.
pub(crate) const DUPLEX_BYTES: usize = 64 * 1024;

/// The network; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Net(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    doors: BTreeMap<SocketAddr, UnboundedSender<Arrival>>,
    /// Ports handed out so far.
    ports: u16,
}

/// A connection from the other side.
#[derive(Debug)]
pub struct Arrival {
    /// Its bytes.
    pub stream: DuplexStream,
    /// Who connects.
    pub peer: SocketAddr,
}

impl Net {
    /// Listens at this address from now on; whoever did so before hears no more.
    pub fn listen(&self, address: SocketAddr) -> UnboundedReceiver<Arrival> {
        let (door, arrivals) = unbounded_channel();
        self.lock().doors.insert(address, door);
        arrivals
    }

    /// Listens at an address that nobody has.
    pub fn listen_any(&self) -> (SocketAddr, UnboundedReceiver<Arrival>) {
        let address = self.lock().address();
        (address, self.listen(address))
    }

    /// Connects.
    ///
    /// # Errors
    /// `ConnectionRefused`: nobody listens there.
    pub fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let mut inner = self.lock();
        let peer = inner.address();
        let (stream, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        let arrival = Arrival {
            stream: theirs,
            peer,
        };
        let door = inner.doors.get(&address);
        match door.map(|door| door.send(arrival)) {
            Some(Ok(())) => Ok(stream),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Connects by this network and no other.
    #[must_use]
    pub fn dialer(&self) -> Dialer {
        let net = self.clone();
        Dialer::new(move |address| {
            let connected = net.connect(address);
            Box::pin(async move { Ok(Box::new(connected?) as _) })
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn address(&mut self) -> SocketAddr {
        self.ports = self.ports.wrapping_add(1);
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports))
    }
}
