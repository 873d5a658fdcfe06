//! `[Server]`: a domain of a script's own. It calls the server under test when it connects, and takes
//! that server's calls at any time; what comes over these is received like the rest, unless the script
//! answers them by hand.
//!
//! RFC 6120 sections 5, 6 and 13.8.2, XEP-0220. Spoken by hand, without the machines under test; TLS
//! and the digest of dialback keys are shared with them.

use crate::lab::{Arrival, TestLab};
use crate::login::escaped;
use crate::script::login::{Login, Refused, refused, unexpected};
use crate::script::model::{Certificate, Character, OddKind, Proof};
use crate::script::peer::{Got, Peer};
use crate::script::stage::StageError;
use crate::tree::Tree;
use crate::trust::Trust;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use xmpp_certs::Odd;
use xmpp_stream::features::dialback::Secret;
use xmpp_stream::ns;
use xmpp_stream::tls::s2s;

/// How long a server that calls us may say nothing.
const IDLE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a `[Server]` is.
pub(crate) struct Speaker {
    domain: String,
    secret: Secret,
    accepting: Arc<rustls::ServerConfig>,
    calling: Arc<rustls::ClientConfig>,
    /// Streams that were called so far.
    streams: AtomicU32,
}

impl Speaker {
    /// Its certificate is of the lab's authority, or what the script says.
    pub(crate) fn new(lab: &TestLab, one: &Character) -> Result<Self, StageError> {
        let domain = one.jid.clone().unwrap_or_default();
        let now = lab.clock().system_now();
        let authority = lab.authority();
        let leaf = match &one.certificate {
            Certificate::Good | Certificate::None => authority.issue_for_domain(&domain, now),
            Certificate::For(names) => authority.issue(names, now),
            Certificate::Odd(kind, name) => {
                let name = name.as_deref().unwrap_or(&domain);
                authority.issue_odd(odd(*kind, name), now)
            }
            Certificate::Wrong(variant) => authority.issue_variant(&domain, *variant, now),
        };
        let leaf = leaf.map_err(|why| StageError(format!("{domain}: {why}")))?;
        let (chain, key) = (&leaf.chain_pem, &leaf.key_pem);
        let wrong = |why| StageError(format!("{domain}: {why}"));
        let (accepting, _) = s2s::server_config(chain, key, false).map_err(wrong)?;
        let calling = match one.certificate {
            Certificate::None => anonymous(lab, one.direct_tls),
            _ => s2s::client_config(chain, key, one.direct_tls).map_err(wrong)?,
        };
        Ok(Self {
            secret: Secret::new(domain.as_bytes()),
            domain,
            accepting,
            calling,
            streams: AtomicU32::new(0),
        })
    }

    /// Takes calls from now on; what comes is received from the answer.
    pub(crate) fn listen(
        self: Arc<Self>,
        mut arrivals: UnboundedReceiver<Arrival>,
    ) -> UnboundedReceiver<Got> {
        let (sender, received) = unbounded_channel();
        tokio::spawn(async move {
            let mut calls = JoinSet::new();
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    arrival = arrivals.recv() => {
                        let Some(arrival) = arrival else { return };
                        let (speaker, sender) = (Arc::clone(&self), sender.clone());
                        let peer = Peer::over(arrival.stream).speaking(ns::SERVER);
                        calls.spawn(async move { speaker.answer(peer, &sender).await });
                    }
                }
            }
        });
        received
    }

    /// The id of a stream that nobody else has here.
    fn new_stream(&self) -> String {
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.domain)
    }

    /// The key that proves our domain to another one, on the stream with this id.
    pub(crate) fn key(&self, to: &str, id: &str) -> String {
        self.secret.key(to, &self.domain, id)
    }

    /// A call that the script answers: their header, and ours.
    pub(crate) async fn greet(&self, peer: &mut Peer, patience: Duration) -> Result<(), Refused> {
        peer.restart();
        let theirs = match next(peer, "a stream header", patience).await? {
            Got::Header(header) => header,
            other => return Err(unexpected("a stream header", &other)),
        };
        let (id, to) = (self.new_stream(), theirs.attr("from").map(escaped));
        let header = opening(&self.domain, &to.unwrap_or_default(), Some(&id));
        peer.set_stream_id(id);
        say(peer, &header, patience).await
    }

    /// The same: their request for TLS, and the handshake.
    pub(crate) async fn secure(&self, peer: &mut Peer, patience: Duration) -> Result<(), Refused> {
        match next(peer, "<starttls/>", patience).await? {
            Got::Element(tree) if tree.is(ns::TLS, "starttls") => {}
            other => return Err(unexpected("<starttls/>", &other)),
        }
        say(peer, &format!("<proceed xmlns='{}'/>", ns::TLS), patience).await?;
        let done = peer.accept(Arc::clone(&self.accepting), patience).await;
        done.map_err(|error| refused("a TLS handshake", error.to_string()))
    }

    /// The TLS handshake of who calls.
    pub(crate) async fn handshake(
        &self,
        peer: &mut Peer,
        domain: &str,
        patience: Duration,
    ) -> Result<(), Refused> {
        let done = peer.handshake_by(Arc::clone(&self.calling), domain, patience);
        done.await
            .map_err(|error| refused("a TLS handshake", error.to_string()))
    }

    /// One call, from its first header to its end.
    async fn answer(&self, mut peer: Peer, received: &UnboundedSender<Got>) {
        let mut id = String::new();
        let mut is_proven = false;
        let mut handled: u32 = 0;
        while let Some(got) = peer.next(Instant::now() + IDLE_MAX).await {
            let answer = match got {
                Got::Header(header) => {
                    id = self.new_stream();
                    self.header(&header, &id, peer.is_tls(), is_proven)
                }
                Got::Element(tree) if tree.is(ns::TLS, "starttls") => {
                    let proceed = format!("<proceed xmlns='{}'/>", ns::TLS);
                    let _ = peer.send(proceed.as_bytes(), IDLE_MAX).await;
                    let accepting = Arc::clone(&self.accepting);
                    match peer.accept(accepting, IDLE_MAX).await {
                        Ok(()) => continue,
                        Err(_) => return,
                    }
                }
                Got::Element(tree) if tree.is(ns::SASL, "auth") => {
                    is_proven = true;
                    peer.restart();
                    format!("<success xmlns='{}'/>", ns::SASL)
                }
                Got::Element(tree) if tree.ns() == ns::DIALBACK => self.dialback(&tree, &id),
                // What has come is acknowledged: it is not to come again (XEP-0198).
                Got::Element(tree) if tree.ns() == ns::SM => match tree.name() {
                    "enable" => {
                        handled = 0;
                        format!("<enabled xmlns='{}'/>", ns::SM)
                    }
                    "r" => format!("<a xmlns='{}' h='{handled}'/>", ns::SM),
                    _ => continue,
                },
                Got::Element(tree) => {
                    let is_stanza = ["iq", "message", "presence"].contains(&tree.name());
                    handled += u32::from(is_stanza);
                    if received.send(Got::Element(tree)).is_err() {
                        return;
                    }
                    continue;
                }
                Got::Footer => "</stream:stream>".into(),
                Got::End | Got::Garbage(_) => return,
            };
            if peer.send(answer.as_bytes(), IDLE_MAX).await.is_err() {
                return;
            }
        }
    }

    fn header(&self, theirs: &Tree, id: &str, is_tls: bool, is_proven: bool) -> String {
        let features = match (is_tls, is_proven) {
            (false, _) => format!("<starttls xmlns='{}'><required/></starttls>", ns::TLS),
            (true, false) => format!(
                "<mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms>\
                 <dialback xmlns='{}'><errors/></dialback><sm xmlns='{}'/>",
                ns::SASL,
                ns::FEATURE_DIALBACK,
                ns::SM
            ),
            (true, true) => format!("<sm xmlns='{}'/>", ns::SM),
        };
        let to = theirs.attr("from").map(escaped).unwrap_or_default();
        format!(
            "{}<stream:features>{features}</stream:features>",
            opening(&self.domain, &to, Some(id))
        )
    }

    /// Everybody is who they say; whether a key is ours is looked at.
    fn dialback(&self, tree: &Tree, _: &str) -> String {
        let of = |name| tree.attr(name).unwrap_or_default();
        let (from, to, id) = (of("from"), of("to"), of("id"));
        let (name, id_attribute, is_right) = match tree.name() {
            "verify" => {
                let is_ours = self.secret.is_key(&tree.text(), from, to, id);
                ("verify", format!(" id='{}'", escaped(id)), is_ours)
            }
            _ => ("result", String::new(), true),
        };
        let verdict = if is_right { "valid" } else { "invalid" };
        format!(
            "<db:{name} from='{}' to='{}'{id_attribute} type='{verdict}'/>",
            escaped(to),
            escaped(from)
        )
    }
}

async fn next(peer: &mut Peer, wanted: &str, patience: Duration) -> Result<Got, Refused> {
    let got = peer.next(Instant::now() + patience).await;
    got.ok_or_else(|| refused(wanted, format!("nothing for {patience:?}")))
}

async fn say(peer: &mut Peer, text: &str, patience: Duration) -> Result<(), Refused> {
    let said = peer.send(text.as_bytes(), patience).await;
    said.map_err(|error| refused("an open connection", error.to_string()))
}

fn odd(kind: OddKind, name: &str) -> Odd<'_> {
    match kind {
        OddKind::Address => Odd::Address(name),
        OddKind::Authority => Odd::Authority(name),
        OddKind::Caller => Odd::Caller(name),
        OddKind::CommonName => Odd::CommonName(name),
        OddKind::Service => Odd::Service(name),
    }
}

/// Who calls and shows no certificate.
fn anonymous(lab: &TestLab, direct: bool) -> Arc<rustls::ClientConfig> {
    let trust = Trust::pem(lab.ca_pem());
    match direct {
        true => trust.with_alpn("xmpp-server").config(),
        false => trust.config(),
    }
}

/// A stream header between servers.
fn opening(from: &str, to: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!(" id='{id}'")).unwrap_or_default();
    format!(
        "<?xml version='1.0'?><stream:stream from='{from}' to='{to}'{id} version='1.0' xmlns='{}' \
         xmlns:db='{}' xmlns:stream='{}' xml:lang='en'>",
        ns::SERVER,
        ns::DIALBACK,
        ns::STREAMS
    )
}

/// A `[Server]` that calls.
pub(crate) struct Call<'a> {
    pub(crate) peer: &'a mut Peer,
    pub(crate) speaker: &'a Speaker,
    pub(crate) one: &'a Character,
    pub(crate) patience: Duration,
}

impl Call<'_> {
    /// Everything up to a proven pair.
    pub(crate) async fn connect(&mut self) -> Result<(), Refused> {
        if self.one.proof == Proof::None {
            return Ok(());
        }
        if !self.peer.is_tls() {
            self.open().await?;
            self.start_tls().await?;
        }
        self.open().await?;
        self.authenticate().await
    }

    /// Header, header, features.
    pub(crate) async fn open(&mut self) -> Result<Tree, Refused> {
        let header = opening(&self.speaker.domain, &escaped(&self.one.domain), None);
        self.login().open_with(&header).await
    }

    pub(crate) async fn start_tls(&mut self) -> Result<(), Refused> {
        self.login().ask_for_tls().await?;
        let (domain, patience) = (&self.one.domain, self.patience);
        self.speaker.handshake(self.peer, domain, patience).await
    }

    /// By certificate or by dialback, as the script says.
    pub(crate) async fn authenticate(&mut self) -> Result<(), Refused> {
        match self.one.proof {
            Proof::Certificate | Proof::None => self.external().await?,
            Proof::Dialback => self.dialback().await?,
        }
        self.peer.prove();
        Ok(())
    }

    async fn external(&mut self) -> Result<(), Refused> {
        let auth = format!("<auth xmlns='{}' mechanism='EXTERNAL'>=</auth>", ns::SASL);
        let got = self.login().ask(&auth, "success of SASL").await?;
        if !got.is(ns::SASL, "success") {
            return Err(unexpected("success of SASL", &Got::Element(got)));
        }
        self.open().await.map(drop)
    }

    async fn dialback(&mut self) -> Result<(), Refused> {
        let (ours, theirs) = (&self.speaker.domain, &self.one.domain);
        let id = self.peer.stream_id().unwrap_or_default().to_owned();
        let key = self.speaker.key(theirs, &id);
        let result = format!(
            "<db:result from='{}' to='{}'>{key}</db:result>",
            escaped(ours),
            escaped(theirs)
        );
        let got = self.login().ask(&result, "a valid result").await?;
        match got.is(ns::DIALBACK, "result") && got.attr("type") == Some("valid") {
            true => Ok(()),
            false => Err(unexpected("a valid result", &Got::Element(got))),
        }
    }

    fn login(&mut self) -> Login<'_> {
        Login {
            peer: self.peer,
            domain: &self.one.domain,
            trust: None,
            patience: self.patience,
            is_local: true,
        }
    }
}
