//! A domain of the test's own, for servers that call it: direct TLS with a certificate of the shared
//! authority, EXTERNAL, and from then on what the test says.

use super::{FakeStream, PATIENCE};
use crate::federated::Federated;
use rustls::ServerConfig;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use xmpp_certs::Leaf;
use xmpp_stream::ns;
use xmpp_stream::tls::s2s;

/// Where servers that look for the domain come.
pub struct FakeDomain {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    pub(super) name: String,
}

impl FakeDomain {
    /// From now on servers of these find the domain here.
    ///
    /// # Panics
    /// There is no server of the domain `beside`, or no free port.
    pub async fn join(all: &Federated, beside: &str, name: &str) -> Self {
        let now = all.handle(beside).core().clock.system_now();
        let leaf = all.ca.issue_for_domain(name, now).expect("a leaf");
        Self::with(all, name, &leaf).await
    }

    /// The same with any certificate.
    ///
    /// # Panics
    /// It is none, or there is no free port.
    pub async fn with(all: &Federated, name: &str, leaf: &Leaf) -> Self {
        let (tls, _) =
            s2s::server_config(&leaf.chain_pem, &leaf.key_pem, true).expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        all.names.set_direct(name, port);
        Self {
            listener,
            tls,
            name: name.to_owned(),
        }
    }

    /// The next call, signed in by EXTERNAL; these features are offered then, and what the caller says
    /// next comes next.
    ///
    /// # Panics
    /// None comes, or it does something else.
    pub async fn called(&self, features: &str) -> FakeStream {
        let mut stream = self.accepted().await;
        stream.offer(&["EXTERNAL"]).await;
        stream.expect("</auth>").await;
        stream.succeed("").await;
        stream.header().await;
        let features = format!("<stream:features>{features}</stream:features>");
        stream.say(&features).await;
        stream
    }

    /// The next call; nothing was said.
    ///
    /// # Panics
    /// None comes.
    pub async fn accepted(&self) -> FakeStream {
        let call = timeout(PATIENCE, self.next_call()).await;
        call.expect("a call in time").expect("a call")
    }

    /// The same, whenever it comes; `None`: nobody can call any more.
    pub(super) async fn next_call(&self) -> Option<FakeStream> {
        loop {
            let (tcp, _) = self.listener.accept().await.ok()?;
            let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
            let Ok(Ok(tls)) = timeout(PATIENCE, acceptor.accept(tcp)).await else {
                continue;
            };
            let mut stream = FakeStream::over(Box::new(tls), &self.name);
            stream.content = ns::SERVER;
            return Some(stream);
        }
    }
}
