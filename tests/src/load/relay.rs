//! The bare TLS relay that figures are compared with: it decrypts, copies, encrypts.
//!
//! Two peers that begin with the same line are joined. Nothing is parsed behind that line.

use super::server::DOMAIN;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use xmpp_certs::DevCa;

/// A relay that listens.
pub struct Relay {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ca_pem: String,
}

type Waiting = Arc<Mutex<HashMap<Vec<u8>, TlsStream<TcpStream>>>>;

impl Relay {
    /// Listens on a free port of the loopback interface, with the TLS settings of a server.
    ///
    /// # Panics
    /// There is no port, or no certificate.
    pub async fn start() -> Self {
        // The only place that asks: a certificate begins now.
        #[expect(clippy::disallowed_methods, reason = "a program, not a test of time")]
        let now = SystemTime::now();
        let ca = DevCa::new(now).expect("a CA");
        let leaf = ca.issue_for_domain(DOMAIN, now).expect("a certificate");
        let config = xmpp_stream::tls::server_config(&leaf.chain_pem, &leaf.key_pem, false);
        let (config, _) = config.expect("a certificate and its key");
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listener: TcpListener::bind(any_port).await.expect("a free port"),
            acceptor: TlsAcceptor::from(config),
            ca_pem: ca.pem().to_owned(),
        }
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Not there.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listener")
    }

    /// The CA of its certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Joins peers for ever.
    pub async fn run(self) {
        let waiting = Waiting::default();
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                continue;
            };
            let joined = join(stream, self.acceptor.clone(), Arc::clone(&waiting));
            tokio::spawn(joined);
        }
    }
}

async fn join(stream: TcpStream, acceptor: TlsAcceptor, waiting: Waiting) {
    let _ = stream.set_nodelay(true);
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => break,
            Ok(byte) => line.push(byte),
            Err(_) => return,
        }
    }
    let mut other = {
        let mut waiting = waiting.lock().expect("no panic under the lock");
        match waiting.remove(&line) {
            Some(other) => other,
            None => {
                waiting.insert(line, stream);
                return;
            }
        }
    };
    let _ = copy_bidirectional(&mut stream, &mut other).await;
}
