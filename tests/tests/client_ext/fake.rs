//! A server for one client that says what the test tells it, in anyone's name.
//!
//! It negotiates with the machine of xmpp-stream, by direct TLS with a certificate of its own CA, and
//! then hands every stanza to the test.

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use xmpp_certs::DevCa;
use xmpp_client::{Reconnect, XmppClient};
use xmpp_stream::driver::{Driver, TlsSource};
use xmpp_stream::jid::BareJid;
use xmpp_stream::limits::Limits;
use xmpp_stream::stanza::{Item, Stanza};
use xmpp_stream::stream::{
    Credentials, HostView, Hosts, Machine, Output, Responder, ResponderConfig, ScramHash,
    StoredKeys, TlsRule,
};
use xmpp_stream::tls;
use xmpp_testkit::Tree;

const PASSWORD: &str = "secret";

/// The test's side of the server. Dropped, the connection ends.
pub(crate) struct Fake {
    heard: mpsc::UnboundedReceiver<Stanza>,
    says: mpsc::UnboundedSender<Stanza>,
}

impl Fake {
    /// A client that has signed in as this full JID, and its server.
    pub(crate) async fn start(jid: &str) -> (Self, XmppClient) {
        let domain = BareJid::parse(jid.split('/').next().unwrap())
            .unwrap()
            .domain()
            .to_owned();
        #[expect(clippy::disallowed_methods, reason = "the caller's clock")]
        let now = SystemTime::now();
        let ca = DevCa::new(now).unwrap();
        let leaf = ca.issue(&[&domain], now).unwrap();
        let (config, leaf) = tls::server_config(&leaf.chain_pem, &leaf.key_pem, true).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (hears, heard) = mpsc::unbounded_channel();
        let (says, said) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut driver = Driver::new(responder(&domain), Box::new(tcp));
            let source = One(config, leaf);
            driver.accept_tls(&source, None, true).await.unwrap();
            serve(driver, hears, said).await;
        });
        let client = XmppClient::builder(jid)
            .password(PASSWORD)
            .ca_pem(ca.pem())
            .connect_to(&address)
            .direct_tls()
            .reconnect(Reconnect::never())
            .connect()
            .await
            .unwrap();
        (Self { heard, says }, client)
    }

    /// The next stanza of the client.
    pub(crate) async fn next(&mut self) -> Stanza {
        self.heard.recv().await.expect("a stanza")
    }

    /// The next stanza, which looks like this (`Tree`).
    #[track_caller]
    pub(crate) fn check(stanza: &Stanza, xml: &str) {
        let got = Tree::parse(&stanza.to_xml());
        if let Some(difference) = got.mismatch(&Tree::parse(xml)) {
            panic!("{difference}\nexpected {xml}\ngot {}", stanza.to_xml());
        }
    }

    /// The next stanza, which looks like this; gives its id.
    pub(crate) async fn expect(&mut self, xml: &str) -> String {
        let stanza = self.next().await;
        Self::check(&stanza, xml);
        stanza.head.id.map(Into::into).unwrap_or_default()
    }

    /// Sends a stanza.
    pub(crate) fn send(&self, xml: &str) {
        let stanza = Stanza::parse(xml).unwrap_or_else(|error| panic!("{error}: {xml}"));
        let _ = self.says.send(stanza);
    }

    /// Answers an IQ with a result.
    pub(crate) fn result(&self, iq: &Stanza, payload: &str) {
        let from = iq
            .head
            .to
            .as_ref()
            .map(|to| format!(" from='{}'", to.as_str()));
        let (from, id) = (from.unwrap_or_default(), iq.head.id.as_deref().unwrap());
        self.send(&format!("<iq type='result' id='{id}'{from}>{payload}</iq>"));
    }

    /// Answers an IQ with an error.
    pub(crate) fn error(&self, iq: &Stanza, ty: &str, conditions: &str) {
        let from = iq
            .head
            .to
            .as_ref()
            .map(|to| format!(" from='{}'", to.as_str()));
        let (from, id) = (from.unwrap_or_default(), iq.head.id.as_deref().unwrap());
        self.send(&format!(
            "<iq type='error' id='{id}'{from}><error type='{ty}'>{conditions}</error></iq>"
        ));
    }
}

async fn serve(
    mut driver: Driver<Responder>,
    hears: mpsc::UnboundedSender<Stanza>,
    mut said: mpsc::UnboundedReceiver<Stanza>,
) {
    loop {
        while let Some(output) = driver.machine.poll_output() {
            let now = tokio::time::Instant::now().into_std();
            match output {
                Output::NeedCredentials { hash, .. } => {
                    let keys = StoredKeys::derive(hash, PASSWORD, b"salt of sixteen.", 4096);
                    let keys = Credentials::Keys(Arc::new(keys));
                    driver.machine.credentials(keys, now);
                }
                Output::Bind { account, resource } => {
                    let resource = resource.as_deref().unwrap_or("made");
                    let jid = account.as_jid().with_resource(resource).unwrap();
                    driver.machine.bound(Ok(jid), now);
                }
                Output::Stanza(stanza) => drop(hears.send(stanza)),
                Output::Closed(_) => return,
                _ => {}
            }
        }
        let is_open = driver.machine.is_open();
        tokio::select! {
            stanza = said.recv(), if is_open => match stanza {
                Some(stanza) => driver.machine.send(&Item::<()>::One(Box::new(stanza))),
                None => return,
            },
            turn = driver.turn(true) => if turn.is_err() { return },
        }
    }
}

fn responder(domain: &str) -> Responder {
    let host = HostView {
        domain: domain.into(),
        hashes: vec![ScramHash::Sha256],
        plain: false,
        guest_ns: Arc::default(),
        features_before_auth: bytes::Bytes::new(),
        features_after_auth: bytes::Bytes::new(),
    };
    let config = ResponderConfig {
        hosts: Arc::new(OneHost(host)),
        limits: Arc::new(Limits::default()),
        tls: TlsRule::Direct,
        downgrade_protection: true,
        manage: false,
    };
    let mut count = 0_u8;
    let random = Box::new(move |bytes: &mut [u8]| {
        count += 1;
        bytes.fill(count);
    });
    Responder::new(config, random, tokio::time::Instant::now().into_std())
}

struct One(Arc<ServerConfig>, CertificateDer<'static>);

impl TlsSource for One {
    fn choose(
        &self,
        _: Option<&str>,
        _: Option<&str>,
        _: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        Some((self.0.clone(), self.1.clone()))
    }
}

struct OneHost(HostView);

impl Hosts for OneHost {
    fn host(&self, domain: &str) -> Option<HostView> {
        (*domain == *self.0.domain).then(|| self.0.clone())
    }

    fn fallback(&self) -> Box<str> {
        self.0.domain.clone()
    }
}
