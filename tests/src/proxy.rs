//! Between a client and its server: a TCP relay whose connections can be cut, and whose server can
//! move.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The relay. Dropped, it and its connections end.
pub struct Proxy {
    /// Where clients come.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    _accepting: JoinSet<()>,
}

struct State {
    target: SocketAddr,
    links: JoinSet<()>,
    accepted: usize,
}

impl Proxy {
    /// In front of this server.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State {
            target,
            links: JoinSet::new(),
            accepted: 0,
        }));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, state.clone()));
        Self {
            address,
            state,
            _accepting: accepting,
        }
    }

    /// Ends every connection as it stands, in the middle of whatever it carries.
    ///
    /// # Panics
    /// Another test thread has panicked.
    pub fn cut(&self) {
        self.state.lock().expect("the state").links.abort_all();
    }

    /// Where the server is from now on.
    ///
    /// # Panics
    /// Another test thread has panicked.
    pub fn move_to(&self, target: SocketAddr) {
        self.state.lock().expect("the state").target = target;
    }

    /// How many connections there were.
    ///
    /// # Panics
    /// Another test thread has panicked.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.state.lock().expect("the state").accepted
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut state = state.lock().expect("the state");
        state.accepted += 1;
        let target = state.target;
        state.links.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(target).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
