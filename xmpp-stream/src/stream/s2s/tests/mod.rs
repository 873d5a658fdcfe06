//! Transcripts and tables for the machines between servers, named after the rows that they show.
//!
//! `Talk` plays the driver of either machine; every conversation is played whole, in odd pieces and
//! byte by byte. a.test calls, b.test is called.

mod called;
mod calling;
mod dialback;
mod hostile;
mod managed;
mod pair;

use super::*;
use crate::error::StreamCondition;
use crate::limits::{Limits, XmlLimits};
use crate::ns;
use crate::stanza::{Item, Stanza};
use crate::stream::{CloseReason, Failure, Machine, Output, RandomSource, TlsInfo, TlsRule};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A source of "random" bytes that never repeats.
fn random() -> RandomSource {
    let mut count = 0_u64;
    Box::new(move |bytes| {
        count += 1;
        let from = count.to_be_bytes();
        let from = from.iter().rev().cycle();
        bytes.iter_mut().zip(from).for_each(|(b, c)| *b = *c);
    })
}

/// Serves b.test and rooms.b.test.
struct TestDomains;

impl Domains for TestDomains {
    fn is_served(&self, domain: &str) -> bool {
        matches!(domain, "b.test" | "rooms.b.test")
    }

    fn fallback(&self) -> Box<str> {
        "b.test".into()
    }
}

fn limits() -> Arc<Limits> {
    Arc::new(Limits {
        after_auth: XmlLimits::s2s(),
        ..Limits::default()
    })
}

fn secret() -> Secret {
    Secret::new(b"s3cr3tf0rd14lb4ck")
}

fn callee_config(tls: TlsRule) -> CalleeConfig {
    CalleeConfig {
        domains: Arc::new(TestDomains),
        tls,
        dialback: Dialback::Tls,
        secret: secret(),
        bidi: true,
        manage: true,
        limits: limits(),
    }
}

fn caller_config(tls: TlsRule) -> CallerConfig {
    CallerConfig {
        pair: a_to_b(),
        purpose: Purpose::Stanzas,
        tls,
        external: true,
        dialback: Dialback::Tls,
        accepts_untrusted: false,
        secret: secret(),
        bidi: false,
        manage: Manage::Off,
        limits: limits(),
    }
}

fn a_to_b() -> Pair {
    Pair::new("a.test", "b.test").unwrap()
}

fn tls_info() -> TlsInfo {
    TlsInfo {
        version: "TLSv1.3",
        peer: vec![Box::default()],
        is_certified: true,
        ..TlsInfo::default()
    }
}

/// What a driver does for a machine.
trait Played: Machine {
    fn checked(&mut self, verdict: PeerVerdict, now: Instant);
    fn ends(&mut self, h: Option<u32>);
}

impl Played for Callee {
    fn checked(&mut self, verdict: PeerVerdict, now: Instant) {
        self.peer_checked(verdict, now);
    }

    fn ends(&mut self, h: Option<u32>) {
        self.finish_close(h);
    }
}

impl Played for Caller {
    fn checked(&mut self, verdict: PeerVerdict, now: Instant) {
        self.peer_checked(verdict, now);
    }

    fn ends(&mut self, h: Option<u32>) {
        self.finish_close(h);
    }
}

/// A machine with a driver that carries out its orders.
struct Talk<M> {
    machine: M,
    now: Instant,
    /// Bytes handed in at once.
    chunk: usize,
    verdict: PeerVerdict,
    tls: TlsInfo,
    /// What the driver was told, but the questions that it has answered.
    told: Vec<Output>,
    /// Who was asked about.
    checked: Vec<(Box<str>, Box<str>)>,
}

impl<M: Played> Talk<M> {
    fn of(machine: M, chunk: usize, now: Instant) -> Self {
        Self {
            machine,
            now,
            chunk,
            verdict: PeerVerdict::Trusted,
            tls: tls_info(),
            told: Vec::new(),
            checked: Vec::new(),
        }
    }

    /// Says something; gives what is answered.
    fn say(&mut self, text: &str) -> String {
        for part in text.as_bytes().chunks(self.chunk) {
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
        let end = self.now + time;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
        }
        self.now = end;
        self.answer()
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.act(output);
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::StartTls { .. } => {
                self.told.push(output);
                self.machine.tls_established(self.tls.clone(), self.now);
            }
            Output::Server(Event::CheckPeer { peer, local }) => {
                self.checked.push((peer, local));
                self.machine.checked(self.verdict.clone(), self.now);
            }
            Output::PeerClosing => {
                self.told.push(output);
                self.machine.ends(None);
            }
            other => self.told.push(other),
        }
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

    /// The condition of our stream error that ended the stream.
    fn error(&self) -> Option<StreamCondition> {
        match self.closed() {
            Some(CloseReason::Ours(error)) => Some(error.condition),
            _ => None,
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match self.closed() {
            Some(CloseReason::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    fn events(&self) -> Vec<&Event> {
        let told = self.told.iter();
        told.filter_map(|output| match output {
            Output::Server(event) => Some(event),
            _ => None,
        })
        .collect()
    }

    fn proven(&self) -> Vec<String> {
        let events = self.events().into_iter();
        events
            .filter_map(|event| match event {
                Event::Proven(pair, proof) => Some(format!("{pair} by {}", proof.as_str())),
                _ => None,
            })
            .collect()
    }

    fn keys(&self) -> Vec<&KeyCheck> {
        let events = self.events().into_iter();
        events
            .filter_map(|event| match event {
                Event::CheckKey(check) => Some(check),
                _ => None,
            })
            .collect()
    }

    fn link(&self) -> Option<&Link> {
        self.events().into_iter().find_map(|event| match event {
            Event::Established(link) => Some(link),
            _ => None,
        })
    }
}

impl Talk<Callee> {
    fn called(config: CalleeConfig, chunk: usize) -> Self {
        let now = start();
        Self::of(Callee::new(config, random(), now), chunk, now)
    }

    /// TLS is up, with a certificate that is good for a.test or not.
    fn secured(chunk: usize, is_trusted: bool) -> Self {
        Self::secured_with(callee_config(TlsRule::Direct), chunk, is_trusted)
    }

    fn secured_with(config: CalleeConfig, chunk: usize, is_trusted: bool) -> Self {
        let mut talk = Self::called(config, chunk);
        if !is_trusted {
            talk.verdict = PeerVerdict::Untrusted(Distrust::UnknownIssuer);
        }
        talk.machine.tls_established(tls_info(), talk.now);
        talk
    }

    /// a.test has signed in by EXTERNAL.
    fn signed_in(chunk: usize) -> Self {
        let mut talk = Self::secured(chunk, true);
        talk.say(OPEN);
        let success = talk.say(&auth("a.test"));
        assert!(success.starts_with("<success"), "{success}");
        talk.say(OPEN);
        assert_eq!(talk.proven(), ["a.test to b.test by EXTERNAL"]);
        talk
    }

    /// a.test has proven by dialback who it is.
    fn dialled_back(chunk: usize) -> Self {
        let mut talk = Self::secured(chunk, false);
        talk.say(OPEN);
        talk.say(&result("a.test", "b.test", "key"));
        talk.machine.key_checked(&a_to_b(), Answer::Valid, talk.now);
        assert!(talk.answer().contains("type='valid'"));
        assert!(talk.machine.is_open());
        talk
    }
}

impl Talk<Caller> {
    fn calling(config: CallerConfig, chunk: usize) -> Self {
        let now = start();
        Self::of(Caller::new(config, random(), now), chunk, now)
    }

    /// TLS is up; the peer's certificate is good.
    fn over_tls(config: CallerConfig, chunk: usize) -> Self {
        let config = CallerConfig {
            tls: TlsRule::Direct,
            ..config
        };
        let mut talk = Self::calling(config, chunk);
        talk.machine.tls_established(tls_info(), talk.now);
        talk
    }
}

/// The caller's header.
const OPEN: &str = "<?xml version='1.0'?><stream:stream from='a.test' to='b.test' version='1.0' \
    xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
    xmlns:stream='http://etherx.jabber.org/streams' xml:lang='de'>";

/// The called side's.
const ANSWER: &str = "<?xml version='1.0'?><stream:stream from='b.test' to='a.test' version='1.0' \
    id='D60000229F' xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
    xmlns:stream='http://etherx.jabber.org/streams'>";

/// Plays a conversation whole, in odd pieces and byte by byte.
fn each_split(play: impl Fn(usize)) {
    for chunk in [usize::MAX, 7, 1] {
        play(chunk);
    }
}

fn auth(domain: &str) -> String {
    auth_data(&crate::features::sasl::base64(domain.as_bytes()))
}

fn auth_data(data: &str) -> String {
    format!(
        "<auth xmlns='{}' mechanism='EXTERNAL'>{data}</auth>",
        ns::SASL
    )
}

fn result(from: &str, to: &str, key: &str) -> String {
    format!("<db:result from='{from}' to='{to}'>{key}</db:result>")
}

fn verify(from: &str, to: &str, id: &str, key: &str) -> String {
    format!("<db:verify from='{from}' to='{to}' id='{id}'>{key}</db:verify>")
}

fn starttls() -> String {
    format!("<starttls xmlns='{}'/>", ns::TLS)
}

fn features(inner: &str) -> String {
    format!("<stream:features>{inner}</stream:features>")
}

fn external() -> String {
    format!(
        "<mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms>",
        ns::SASL
    )
}

fn dialback_feature() -> String {
    format!(
        "<dialback xmlns='{}'><errors/></dialback>",
        ns::FEATURE_DIALBACK
    )
}

fn message(from: &str, to: &str) -> String {
    format!("<message from='{from}' to='{to}'><body>hi</body></message>")
}
