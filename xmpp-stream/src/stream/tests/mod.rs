//! Transcripts and tables for both machines, named after the rows that they show.
//!
//! `Talk` plays the caller of a `Responder`; every conversation is played whole and byte by byte.

mod external;
mod hostile;
mod login;
mod managed;
mod negotiation;
mod open;
mod pair;

use super::*;
use crate::limits::Limits;
use crate::ns;
use crate::stanza::Item;
use crate::xml::{Element, Frame, Reader};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Iterations of the accounts in tests: the least that a client accepts.
const ITERATIONS: u32 = 4096;

/// How long certificates in tests are good: less than a silence.
const CERTIFIED: Duration = Duration::from_secs(100);

/// Some instant to count from; the machines never ask for one.
fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A source of "random" bytes that never repeats.
fn random() -> RandomSource {
    let mut count = 0_u64;
    Box::new(move |bytes| {
        count += 1;
        bytes
            .iter_mut()
            .zip(count.to_be_bytes().iter().rev().cycle())
            .for_each(|(b, c)| *b = *c);
    })
}

fn tls_13() -> TlsInfo {
    TlsInfo {
        version: "TLSv1.3",
        exporter: Some([0x13; 32]),
        server_end_point: Some([0xee; 32].into()),
        ..TlsInfo::default()
    }
}

/// Domain d.test, with the accounts alice (password "pencil") and banned (the same).
struct TestHosts(HostView);

impl Hosts for TestHosts {
    fn host(&self, domain: &str) -> Option<HostView> {
        (domain == "d.test" || domain == "e.test").then(|| HostView {
            domain: domain.into(),
            ..self.0.clone()
        })
    }

    fn fallback(&self) -> Box<str> {
        "d.test".into()
    }

    /// In place of a certificate its addresses, with spaces in between; e.test takes none.
    fn certificate(&self, domain: &str, chain: &[Box<[u8]>]) -> Option<ClientCertificate> {
        let addresses = String::from_utf8(chain.first()?.to_vec()).unwrap();
        let accounts = addresses.split(' ').filter_map(|it| it.split_once('@'));
        let accounts = accounts.filter(|(_, of)| *of == domain);
        (domain != "e.test").then(|| ClientCertificate {
            accounts: accounts
                .filter_map(|(local, domain)| BareJid::account(local, domain).ok())
                .collect(),
            good_until: start().checked_add(CERTIFIED),
        })
    }
}

fn host_view() -> HostView {
    HostView {
        domain: "d.test".into(),
        hashes: vec![ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512],
        plain: true,
        guest_ns: [ns::REGISTER].into(),
        features_before_auth: format!("<register xmlns='{}'/>", ns::FEATURE_REGISTER).into(),
        features_after_auth: "<ver xmlns='urn:x:after'/>".into(),
    }
}

fn config(tls: TlsRule) -> ResponderConfig {
    ResponderConfig {
        hosts: Arc::new(TestHosts(host_view())),
        limits: Arc::default(),
        tls,
        downgrade_protection: true,
        manage: true,
    }
}

/// Keys of "pencil", derived once.
fn keys(hash: ScramHash) -> Arc<StoredKeys> {
    static KEYS: std::sync::OnceLock<Vec<Arc<StoredKeys>>> = std::sync::OnceLock::new();
    let all = KEYS.get_or_init(|| {
        let derive = |hash| StoredKeys::derive(hash, "pencil", b"0123456789abcdef", ITERATIONS);
        ScramHash::ALL
            .into_iter()
            .map(derive)
            .map(Arc::new)
            .collect()
    });
    Arc::clone(all.iter().find(|keys| keys.hash == hash).unwrap())
}

/// A `Responder` with a caller that answers its orders.
struct Talk {
    machine: Responder,
    now: Instant,
    /// Bytes handed in at once.
    chunk: usize,
    tls: TlsInfo,
    /// What the caller was told, but orders that it has carried out.
    told: Vec<Output>,
    /// How often keys or a password check were asked for.
    asked: Vec<String>,
    /// What is still to be sent when the peer closes.
    owed: Vec<Item>,
}

impl Talk {
    fn new(config: ResponderConfig, chunk: usize) -> Self {
        let now = start();
        let machine = Responder::new(config, random(), now);
        Self {
            machine,
            now,
            chunk,
            tls: tls_13(),
            told: Vec::new(),
            asked: Vec::new(),
            owed: Vec::new(),
        }
    }

    /// What TLS has come up for already.
    fn secured(chunk: usize) -> Self {
        let mut talk = Self::new(config(TlsRule::Direct), chunk);
        talk.machine.tls_established(tls_13(), talk.now);
        talk
    }

    /// The `t` of XEP-0515 in force: a talk in clear has none.
    fn tls_version(&self) -> Option<&'static str> {
        let is_secured = self.machine.is_secured();
        crate::features::scram::tls_version(Some(&self.tls).filter(|_| is_secured))
    }

    /// Says something; gives what is answered.
    fn say(&mut self, text: &str) -> String {
        self.say_bytes(text.as_bytes())
    }

    fn say_bytes(&mut self, bytes: &[u8]) -> String {
        for part in bytes.chunks(self.chunk) {
            self.machine.handle_bytes(part, self.now);
            self.drain();
        }
        self.answer()
    }

    fn answer(&mut self) -> String {
        self.drain();
        let mut bytes = Vec::new();
        self.machine.take_bytes(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn pass(&mut self, time: Duration) -> String {
        self.now += time;
        while self
            .machine
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.machine.handle_timeout(self.now);
        }
        self.answer()
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.act(output);
        }
    }

    fn act(&mut self, output: Output) {
        let now = self.now;
        match output {
            Output::StartTls { .. } => {
                self.machine.tls_established(self.tls.clone(), now);
                self.told.push(output);
            }
            Output::NeedCredentials { account, hash } => {
                self.asked.push(account.to_string());
                let credentials = match account.local() {
                    Some("alice" | "\u{e4}") => Credentials::Keys(keys(hash)),
                    Some("banned") => Credentials::Disabled(keys(hash)),
                    Some("stuck") => Credentials::Unavailable,
                    _ => Credentials::Fake {
                        salt: [7; 16].into(),
                        iterations: ITERATIONS,
                    },
                };
                self.machine.credentials(credentials, now);
            }
            Output::CheckPassword { account, password } => {
                self.asked.push(account.to_string());
                let right = password.0 == "pencil";
                let verdict = match account.local() {
                    Some("alice") if right => Verdict::Allow,
                    Some("banned") if right => Verdict::Disabled,
                    Some("stuck") => Verdict::TryLater,
                    _ => Verdict::Deny,
                };
                self.machine.verdict(verdict, now);
            }
            Output::CheckAccount { account } => {
                self.asked.push(account.to_string());
                let verdict = match account.local() {
                    Some("alice" | "ann") => Verdict::Allow,
                    Some("banned") => Verdict::Disabled,
                    Some("stuck") => Verdict::TryLater,
                    _ => Verdict::Deny,
                };
                self.machine.verdict(verdict, now);
            }
            Output::Guest(stanza) => {
                let reply = stanza.result(None);
                self.told.push(Output::Guest(stanza));
                self.machine.guest_reply(reply, now);
            }
            Output::Bind { account, resource } => {
                let bound = match resource.as_deref() {
                    Some("taken") => Err(crate::error::StanzaError::conflict()),
                    Some("full") => Err(crate::error::StanzaError::resource_constraint()),
                    other => Ok(account.with_resource(other.unwrap_or("made")).unwrap()),
                };
                self.machine.bound(bound, now);
            }
            Output::PeerClosing => {
                self.owed
                    .drain(..)
                    .for_each(|item| self.machine.send(&item));
                self.machine.finish_close(None);
            }
            other => self.told.push(other),
        }
    }

    /// Opens a stream; gives header and features of the answer.
    fn open(&mut self) -> String {
        self.say(OPEN)
    }

    /// Signs in by PLAIN, opens the next stream.
    fn login(&mut self) -> String {
        assert!(self.open().contains("PLAIN"));
        let success = self.say(&auth("PLAIN", b"\0alice\0pencil"));
        assert!(success.starts_with("<success"), "{success}");
        self.open()
    }

    /// Everything up to a bound resource "r".
    fn establish(&mut self) {
        self.login();
        let bound = self.say(&bind("b1", "<resource>r</resource>"));
        assert!(bound.contains("alice@d.test/r</jid>"), "{bound}");
        assert!(self.machine.is_open());
        self.told.clear();
    }

    fn stanzas(&self) -> Vec<&Stanza> {
        let told = self.told.iter();
        told.filter_map(|output| match output {
            Output::Stanza(stanza) => Some(stanza),
            _ => None,
        })
        .collect()
    }

    fn closed(&self) -> Option<&CloseReason> {
        self.told.iter().find_map(|output| match output {
            Output::Closed(reason) => Some(reason),
            _ => None,
        })
    }

    /// The condition of the stream error that ended the stream.
    fn error(&self) -> Option<crate::error::StreamCondition> {
        match self.closed() {
            Some(CloseReason::Ours(error)) => Some(error.condition),
            _ => None,
        }
    }

    fn failures(&self) -> Vec<crate::error::SaslCondition> {
        let told = self.told.iter();
        told.filter_map(|output| match output {
            Output::Note(Note::LoginFailed { condition, .. }) => Some(*condition),
            _ => None,
        })
        .collect()
    }
}

const OPEN: &str = "<?xml version='1.0'?><stream:stream to='d.test' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// Plays a conversation whole, in odd pieces and byte by byte.
fn each_split(play: impl Fn(usize)) {
    for chunk in [usize::MAX, 7, 1] {
        play(chunk);
    }
}

fn auth(mechanism: &str, data: &[u8]) -> String {
    let data = match data {
        b"" => "=".to_owned(),
        data => crate::features::sasl::base64(data),
    };
    format!(
        "<auth xmlns='{}' mechanism='{mechanism}'>{data}</auth>",
        ns::SASL
    )
}

fn response(data: &[u8]) -> String {
    let data = crate::features::sasl::base64(data);
    format!("<response xmlns='{}'>{data}</response>", ns::SASL)
}

fn bind(id: &str, inner: &str) -> String {
    format!(
        "<iq type='set' id='{id}'><bind xmlns='{}'>{inner}</bind></iq>",
        ns::BIND
    )
}

/// What an answer consists of: the header, and each first-level element.
fn frames(answer: &str) -> Vec<Frame> {
    let mut reader = Reader::new(crate::limits::XmlLimits::client(), ns::CLIENT);
    // An answer in the middle of a stream is read as if behind a header.
    let header = if answer.starts_with("<?xml") {
        ""
    } else {
        OPEN
    };
    let text = format!("{header}{answer}");
    let mut data = text.as_bytes();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next(&mut data).unwrap() {
        frames.push(frame);
    }
    if !header.is_empty() {
        frames.remove(0);
    }
    frames
}

fn header(answer: &str) -> crate::xml::Header {
    match frames(answer).into_iter().next() {
        Some(Frame::Header(header)) => header,
        other => panic!("no header but {other:?}"),
    }
}

fn features(answer: &str) -> Element {
    let found = frames(answer).into_iter().find_map(|frame| match frame {
        Frame::Nonza(element) if element.is(ns::STREAMS, "features") => Some(element),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no features in {answer}"))
}

fn mechanisms(answer: &str) -> Vec<String> {
    let features = features(answer);
    let list = features.child(ns::SASL, "mechanisms");
    list.into_iter()
        .flat_map(Element::children)
        .map(Element::text)
        .collect()
}

/// The data of a `<challenge/>` or `<success/>`.
fn data_of(name: &str, answer: &str) -> Vec<u8> {
    let element = frames(answer).into_iter().find_map(|frame| match frame {
        Frame::Nonza(element) if element.is(ns::SASL, name) => Some(element),
        _ => None,
    });
    let text = element
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
        .text();
    crate::features::sasl::decode(&text)
        .unwrap()
        .unwrap_or_default()
}
