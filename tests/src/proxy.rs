//! Between a client and its server: a TCP port whose connections can be cut, held and delayed, and
//! whose server can move.

use crate::lab::Net;
use crate::relay::{Carried, Relay};
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use xmpp_stream::dial::Dialer;

/// The port; what happens to its connections is said to the relay behind it. Dropped, it and its
/// connections end.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients come.
    pub address: SocketAddr,
    relay: Relay,
    _accepting: JoinSet<()>,
}

impl Proxy {
    /// In front of this server.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn new(target: SocketAddr) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::at(any, target).await.expect("a port")
    }

    /// The same at this address.
    ///
    /// # Errors
    /// As the system says.
    pub async fn at(address: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let relay = Relay::new(target, Dialer::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, relay.clone()));
        Ok(Self {
            address,
            relay,
            _accepting: accepting,
        })
    }

    /// The same in a lab's network without sockets.
    pub(crate) fn in_memory(net: &Net, target: SocketAddr) -> Self {
        let (address, mut arrivals) = net.listen_any();
        let relay = Relay::new(target, net.dialer());
        let (mut accepting, there) = (JoinSet::new(), relay.clone());
        accepting.spawn(async move {
            let mut carried = Carried::default();
            while let Some(arrival) = arrivals.recv().await {
                carried.add(there.clone().carry(arrival.stream));
            }
        });
        Self {
            address,
            relay,
            _accepting: accepting,
        }
    }

    /// The relay, for use beside the owner of this value.
    #[must_use]
    pub fn relay(&self) -> Relay {
        self.relay.clone()
    }
}

impl Deref for Proxy {
    type Target = Relay;

    fn deref(&self) -> &Relay {
        &self.relay
    }
}

async fn accept(listener: TcpListener, relay: Relay) {
    let mut carried = Carried::default();
    while let Ok((near, _)) = listener.accept().await {
        // Small pieces are passed on as they come.
        let _ = near.set_nodelay(true);
        carried.add(relay.clone().carry(near));
    }
}
