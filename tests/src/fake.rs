//! A scripted server for one client after another: it says what the test tells it, true or not.
//!
//! Everything is text: the test sees what the client sent up to a word that it expects. Every wait
//! is bounded; what does not come is a panic that shows what came.

mod domain;
mod voucher;

pub use domain::FakeDomain;
pub use voucher::Voucher;

use rustls::ServerConfig;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use xmpp_certs::DevCa;
use xmpp_client::{Builder, XmppClient};
use xmpp_stream::driver::Transport;
use xmpp_stream::{ns, tls};

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where clients come.
pub struct FakeServer {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    ca: String,
    domain: String,
}

impl FakeServer {
    /// With a certificate for this domain.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn new(domain: &str) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "certificates are checked by the real clock"
        )]
        let now = SystemTime::now();
        let ca = DevCa::new(now).expect("a CA");
        let leaf = ca.issue(&[domain], now).expect("a certificate");
        let (tls, _) =
            tls::server_config(&leaf.chain_pem, &leaf.key_pem, true).expect("a usable certificate");
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            tls,
            ca: ca.pem().to_owned(),
            domain: domain.to_owned(),
        }
    }

    /// The CA to trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: the listener has an address.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// A client of this server by direct TLS, with a password that it does not know: "secret".
    pub fn builder(&self, jid: &str) -> Builder {
        self.builder_starttls(jid).direct_tls()
    }

    /// The same by STARTTLS.
    ///
    /// # Panics
    /// Never: the listener has an address.
    pub fn builder_starttls(&self, jid: &str) -> Builder {
        let address = self.listener.local_addr().expect("an address").to_string();
        XmppClient::builder(jid)
            .password("secret")
            .ca_pem(&self.ca)
            .connect_to(&address)
    }

    /// The next client, by TCP; nothing was said.
    ///
    /// # Panics
    /// None comes.
    pub async fn accept_plain(&self) -> FakeStream {
        let tcp = self.next().await;
        FakeStream::over(Box::new(tcp), &self.domain)
    }

    /// The next client, by TLS; nothing was said.
    ///
    /// # Panics
    /// None comes, or it does not speak TLS.
    pub async fn accept(&self) -> FakeStream {
        let acceptor = TlsAcceptor::from(self.tls.clone());
        let tls = acceptor.accept(self.next().await);
        let tls = timeout(PATIENCE, tls).await.expect("a handshake in time");
        FakeStream::over(Box::new(tls.expect("a handshake")), &self.domain)
    }

    async fn next(&self) -> TcpStream {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        accepted.expect("a client in time").expect("a client").0
    }

    /// The next client, signed in; it reads the features that follow next.
    ///
    /// # Panics
    /// It does something else.
    pub async fn signed_in(&self) -> FakeStream {
        let mut stream = self.accept().await;
        stream.sign_in().await;
        stream
    }

    /// The next client, signed in and bound to this JID, with stream management under this id.
    ///
    /// # Panics
    /// It does something else.
    pub async fn managed(&self, jid: &str, id: &str) -> FakeStream {
        let mut stream = self.signed_in().await;
        stream.features(&format!("<sm xmlns='{}'/>", ns::SM)).await;
        stream.bind(jid).await;
        stream.enable(id).await;
        stream
    }

    /// The next client, signed in and bound to this JID, without stream management.
    ///
    /// # Panics
    /// It does something else.
    pub async fn bound(&self, jid: &str) -> FakeStream {
        let mut stream = self.signed_in().await;
        stream.features("").await;
        stream.bind(jid).await;
        stream
    }
}

/// One connection. Dropped, it ends without a word.
pub struct FakeStream {
    transport: Box<dyn Transport>,
    domain: String,
    /// Namespace of stanzas.
    content: &'static str,
    unread: String,
    log: String,
}

impl FakeStream {
    fn over(transport: Box<dyn Transport>, domain: &str) -> Self {
        Self {
            transport,
            domain: domain.to_owned(),
            content: ns::CLIENT,
            unread: String::new(),
            log: String::new(),
        }
    }

    /// Says this.
    ///
    /// # Panics
    /// The client does not take it.
    pub async fn say(&mut self, text: &str) {
        assert!(self.try_say(text).await, "not taken; so far: {}", self.log);
    }

    /// Says this to a client that may be gone; false when it is.
    pub async fn try_say(&mut self, text: &str) -> bool {
        let writing = async {
            self.transport.write_all(text.as_bytes()).await?;
            self.transport.flush().await
        };
        matches!(timeout(PATIENCE, writing).await, Ok(Ok(())))
    }

    /// What the client says up to the end of this word.
    ///
    /// # Panics
    /// It does not come.
    pub async fn expect(&mut self, word: &str) -> String {
        loop {
            if let Some(at) = self.unread.find(word) {
                let rest = self.unread.split_off(at + word.len());
                return std::mem::replace(&mut self.unread, rest);
            }
            assert!(
                self.read().await,
                "the end instead of {word:?}; so far: {}",
                self.log
            );
        }
    }

    /// The whole stanza or element that ends with this word, which must come next.
    ///
    /// # Panics
    /// Something else comes first.
    pub async fn expect_next(&mut self, begin: &str, end: &str) -> String {
        let got = self.expect(end).await;
        assert!(got.starts_with(begin), "{begin:?} expected, got {got:?}");
        got
    }

    /// What the client says until it closes the connection.
    ///
    /// # Panics
    /// It does not.
    pub async fn until_closed(&mut self) -> String {
        while self.read().await {}
        std::mem::take(&mut self.unread)
    }

    /// What the peer says up to the end of this word; `None`: it ends, or says nothing for long.
    pub async fn next_up_to(&mut self, word: &str) -> Option<String> {
        loop {
            if let Some(at) = self.unread.find(word) {
                let rest = self.unread.split_off(at + word.len());
                return Some(std::mem::replace(&mut self.unread, rest));
            }
            if !self.try_read().await.unwrap_or(false) {
                return None;
            }
        }
    }

    async fn read(&mut self) -> bool {
        let read = self.try_read().await;
        read.unwrap_or_else(|| panic!("silence; so far: {}", self.log))
    }

    /// False at the end; `None`: nothing came in time.
    async fn try_read(&mut self) -> Option<bool> {
        let mut buffer = vec![0; 16 * 1024];
        let read = timeout(PATIENCE, self.transport.read(&mut buffer)).await;
        let got = &buffer[..read.ok()?.unwrap_or(0)];
        let text = String::from_utf8_lossy(got).into_owned();
        self.log.push_str(&text);
        self.unread.push_str(&text);
        Some(!got.is_empty())
    }

    /// Answers the client's header with ours.
    ///
    /// # Panics
    /// It has none.
    pub async fn header(&mut self) {
        self.expect("<stream:stream").await;
        self.expect(">").await;
        let (domain, content, streams) = (&self.domain, self.content, ns::STREAMS);
        let header = format!(
            "<?xml version='1.0'?><stream:stream from='{domain}' id='x' version='1.0' \
             xmlns='{content}' xmlns:stream='{streams}'>"
        );
        self.say(&header).await;
    }

    /// Header and an offer of these mechanisms.
    ///
    /// # Panics
    /// The client has no header.
    pub async fn offer(&mut self, mechanisms: &[&str]) {
        self.header().await;
        let names: String = mechanisms
            .iter()
            .map(|name| format!("<mechanism>{name}</mechanism>"))
            .collect();
        self.say(&format!(
            "<stream:features><mechanisms xmlns='{}'>{names}</mechanisms></stream:features>",
            ns::SASL
        ))
        .await;
    }

    /// Lets the client sign in by PLAIN, whatever its password.
    ///
    /// # Panics
    /// It does something else.
    pub async fn sign_in(&mut self) {
        self.offer(&["PLAIN"]).await;
        self.expect("</auth>").await;
        self.succeed("").await;
    }

    /// `<success/>` with these data.
    pub async fn succeed(&mut self, data: &str) {
        self.say(&format!("<success xmlns='{}'>{data}</success>", ns::SASL))
            .await;
    }

    /// The header after the login, and features: binding and these.
    ///
    /// # Panics
    /// The client has no header.
    pub async fn features(&mut self, features: &str) {
        self.header().await;
        self.say(&format!(
            "<stream:features><bind xmlns='{}'/>{features}</stream:features>",
            ns::BIND
        ))
        .await;
    }

    /// Binds the client to this JID.
    ///
    /// # Panics
    /// It does not ask for that.
    pub async fn bind(&mut self, jid: &str) {
        let asked = self.expect("</iq>").await;
        assert!(asked.contains(ns::BIND), "{asked}");
        let id = attr(&asked, "id");
        self.say(&format!(
            "<iq type='result' id='{id}'><bind xmlns='{}'><jid>{jid}</jid></bind></iq>",
            ns::BIND
        ))
        .await;
    }

    /// Grants stream management.
    ///
    /// # Panics
    /// The client does not ask for it.
    pub async fn enable(&mut self, id: &str) {
        self.expect_next("<enable ", "/>").await;
        self.say(&format!(
            "<enabled xmlns='{}' id='{id}' resume='true'/>",
            ns::SM
        ))
        .await;
    }

    /// What the client asks to resume: the stream's id and its count.
    ///
    /// # Panics
    /// It asks for something else.
    pub async fn expect_resume(&mut self) -> (String, u32) {
        let asked = self.expect_next("<resume ", "/>").await;
        let h = attr(&asked, "h").parse().expect("a number");
        (attr(&asked, "previd"), h)
    }

    /// The stream goes on.
    pub async fn resumed(&mut self, id: &str, h: u32) {
        self.say(&format!(
            "<resumed xmlns='{}' previd='{id}' h='{h}'/>",
            ns::SM
        ))
        .await;
    }

    /// Acknowledges so many.
    pub async fn ack(&mut self, h: u32) {
        self.say(&format!("<a xmlns='{}' h='{h}'/>", ns::SM)).await;
    }

    /// Shows that the client has handled what was said before, and gives what it said meanwhile.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn barrier(&mut self) -> String {
        self.say("<iq type='get' id='barrier' from='barrier.test'><x xmlns='urn:x:barrier'/></iq>")
            .await;
        let mut said = self.expect("id='barrier'").await;
        said.truncate(said.rfind("<iq").unwrap_or_default());
        self.expect("</iq>").await;
        said
    }
}

/// The value of the first attribute of this name.
///
/// # Panics
/// There is none.
#[must_use]
pub fn attr(text: &str, name: &str) -> String {
    let mark = format!(" {name}='");
    let (_, rest) = text
        .split_once(&mark)
        .unwrap_or_else(|| panic!("no {name} in {text:?}"));
    rest.split('\'').next().unwrap_or_default().to_owned()
}
