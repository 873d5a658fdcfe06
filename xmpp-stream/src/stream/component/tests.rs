//! Both sides of a component's stream, with each other and with what they must refuse.

use super::*;
use crate::error::StreamCondition as C;
use crate::jid::Jid;
use crate::limits::{Limits, XmlLimits};
use crate::ns;
use crate::stanza::{Item, Stanza};
use crate::stream::{CloseReason, Machine, Output, RandomSource};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct OnlyGateway;

impl Allowed for OnlyGateway {
    fn secret(&self, domain: &str) -> Option<Secret> {
        (domain == "gw.d.test").then(|| Secret::new("test"))
    }
}

fn random() -> RandomSource {
    let mut count = 0_u8;
    Box::new(move |bytes| {
        count += 1;
        bytes.fill(count);
    })
}

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn limits() -> Limits {
    Limits {
        after_auth: XmlLimits::s2s(),
        ..Limits::default()
    }
}

struct Talk {
    machine: Acceptor,
    now: Instant,
    chunk: usize,
    is_here: bool,
    told: Vec<Output>,
}

impl Talk {
    fn new(chunk: usize) -> Self {
        let now = start();
        let config = AcceptorConfig {
            allowed: Arc::new(OnlyGateway),
            local: Jid::parse("d.test").unwrap(),
            limits: Arc::new(limits()),
        };
        Self {
            machine: Acceptor::new(config, random(), now),
            now,
            chunk,
            is_here: false,
            told: Vec::new(),
        }
    }

    /// Up to the handshake.
    fn open(chunk: usize) -> Self {
        let mut talk = Self::new(chunk);
        let answer = talk.say(&header("gw.d.test"));
        let id = answer.split("id='").nth(1).unwrap().split('\'').next();
        let digest = Secret::new("test").digest(id.unwrap());
        let agreed = talk.say(&format!("<handshake>{digest}</handshake>"));
        assert_eq!(agreed, "<handshake/>");
        assert_eq!(talk.machine.domain(), Some("gw.d.test"));
        talk
    }

    fn say(&mut self, text: &str) -> String {
        for part in text.as_bytes().chunks(self.chunk) {
            self.machine.handle_bytes(part, self.now);
            self.drain();
        }
        self.answer()
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            if let Output::Component(Event::Authenticated { domain }) = &output {
                assert_eq!(&**domain, "gw.d.test");
                let result = match self.is_here {
                    true => Err(C::Conflict.into()),
                    false => Ok(()),
                };
                self.machine.admitted(result, self.now);
            } else {
                self.told.push(output);
            }
        }
    }

    fn answer(&mut self) -> String {
        self.drain();
        let mut bytes = Vec::new();
        self.machine.take_bytes(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    fn pass(&mut self, time: Duration) -> String {
        self.now += time;
        self.machine.handle_timeout(self.now);
        self.answer()
    }

    fn stanzas(&self) -> usize {
        let is_one = |output: &&Output| matches!(output, Output::Stanza(_));
        self.told.iter().filter(is_one).count()
    }

    fn error(&self) -> Option<C> {
        self.told.iter().find_map(|output| match output {
            Output::Closed(CloseReason::Ours(error)) => Some(error.condition),
            _ => None,
        })
    }
}

fn header(to: &str) -> String {
    format!(
        "<stream:stream xmlns='{}' xmlns:stream='{}' to='{to}'>",
        ns::COMPONENT,
        ns::STREAMS
    )
}

fn each_split(play: impl Fn(usize)) {
    for chunk in [usize::MAX, 7, 1] {
        play(chunk);
    }
}

fn message(from: &str, to: &str) -> String {
    format!("<message from='{from}' to='{to}'><body>hi</body></message>")
}

#[test]
fn im_cp_01_a_component_is_let_in_by_its_digest() {
    each_split(|chunk| {
        let mut talk = Talk::new(chunk);
        let answer = talk.say(&header("gw.d.test"));
        assert!(
            answer.contains(" xmlns='jabber:component:accept'"),
            "{answer}"
        );
        assert!(answer.contains(" from='gw.d.test' id='"), "{answer}");
        assert!(
            !answer.contains("features") && !answer.contains(":db"),
            "{answer}"
        );
        let answer = talk.say("<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>");
        assert!(answer.contains("<not-authorized"), "{answer}");
        assert_eq!(talk.error(), Some(C::NotAuthorized));
        let _ = Talk::open(chunk);
    });
}

#[test]
fn im_cp_02_names_namespaces_and_what_comes_too_early() {
    #[track_caller]
    fn check(said: &[&str], expected: C) {
        each_split(|chunk| {
            let mut talk = Talk::new(chunk);
            said.iter().for_each(|text| drop(talk.say(text)));
            assert_eq!(talk.error(), Some(expected), "{said:?}");
        });
    }
    check(&[&header("other.d.test")], C::HostUnknown);
    check(&[&header("d.test")], C::HostUnknown);
    check(&[&header("x@gw.d.test")], C::HostUnknown);
    let client = header("gw.d.test").replace(ns::COMPONENT, ns::CLIENT);
    check(&[&client], C::InvalidNamespace);
    let own = header("gw.d.test");
    check(
        &[&own, &message("gw.d.test", "ann@d.test")],
        C::NotAuthorized,
    );
    check(&[&own, "<presence/>"], C::NotAuthorized);
    check(&[&own, "<handshake/>"], C::NotAuthorized);
    check(
        &[&own, "<handshake xmlns='jabber:client'/>"],
        C::NotAuthorized,
    );
}

#[test]
fn im_cp_02_a_second_one_of_the_same_domain_is_a_conflict() {
    let mut talk = Talk::new(usize::MAX);
    talk.is_here = true;
    let answer = talk.say(&header("gw.d.test"));
    let id = answer.split("id='").nth(1).unwrap().split('\'').next();
    let digest = Secret::new("test").digest(id.unwrap());
    let answer = talk.say(&format!("<handshake>{digest}</handshake>"));
    assert!(
        answer.contains("<conflict") && !answer.contains("<handshake"),
        "{answer}"
    );
    assert_eq!(talk.error(), Some(C::Conflict));
}

#[test]
fn im_cp_02_stanzas_name_both_addresses_and_the_own_domain() {
    #[track_caller]
    fn check(stanza: &str, expected: Result<usize, C>) {
        each_split(|chunk| {
            let mut talk = Talk::open(chunk);
            talk.say(stanza);
            let found = talk.error().map_or_else(|| Ok(talk.stanzas()), Err);
            assert_eq!(found, expected, "{stanza}");
        });
    }
    check(&message("gw.d.test", "ann@d.test"), Ok(1));
    check(&message("anyone@GW.d.test/x", "ann@d.test"), Ok(1));
    check(&message("ann@d.test", "ann@d.test"), Err(C::InvalidFrom));
    check(
        &message("x@sub.gw.d.test", "ann@d.test"),
        Err(C::InvalidFrom),
    );
    check("<message to='ann@d.test'/>", Err(C::ImproperAddressing));
    check("<message from='gw.d.test'/>", Err(C::ImproperAddressing));
    check(&message("@gw.d.test", "ann@d.test"), Ok(0));
    check("<handshake/>", Err(C::UnsupportedStanzaType));
    check(
        "<message xmlns='jabber:client'/>",
        Err(C::UnsupportedStanzaType),
    );
    let wrong = "<message xmlns='jabber:server' from='gw.d.test' to='ann@d.test'/>";
    check(wrong, Err(C::InvalidNamespace));
    // What a client would ask its server is a stanza like any other.
    let bind = "<iq type='set' id='1' from='gw.d.test' to='ann@d.test'>\
        <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    check(bind, Ok(1));
}

#[test]
fn a_silent_component_is_asked_and_given_up() {
    let mut talk = Talk::open(usize::MAX);
    let ping = talk.pass(limits().silence_max);
    assert!(ping.contains(" to='gw.d.test' from='d.test'"), "{ping}");
    let id = ping
        .split("id='")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    talk.say(&format!(
        "<iq type='result' id='{id}' from='gw.d.test' to='d.test'/>"
    ));
    assert_eq!((talk.stanzas(), talk.error()), (0, None));
    assert!(talk.pass(limits().silence_max).contains("<ping"));
    talk.pass(limits().silence_answer_max);
    assert_eq!(talk.error(), Some(C::ConnectionTimeout));
    // Before the handshake there is less time.
    let mut talk = Talk::new(usize::MAX);
    talk.pass(limits().negotiation_max);
    assert_eq!(talk.error(), Some(C::ConnectionTimeout));
}

#[test]
fn both_sides_with_each_other() {
    each_split(|chunk| {
        let mut server = Talk::new(chunk);
        let config = ComponentConfig {
            domain: Jid::parse("gw.d.test").unwrap(),
            secret: Secret::new("test"),
            limits: limits(),
        };
        let mut component = Component::new(config, random(), server.now);
        let mut told = Vec::new();
        let mut carry = |server: &mut Talk, component: &mut Component| {
            loop {
                let mut there = Vec::new();
                component.take_bytes(&mut there);
                let back = server.say(std::str::from_utf8(&there).unwrap());
                component.handle_bytes(back.as_bytes(), server.now);
                while let Some(output) = component.poll_output() {
                    told.push(format!("{output:?}"));
                }
                if there.is_empty() && back.is_empty() {
                    return told.join(" ");
                }
            }
        };
        carry(&mut server, &mut component);
        assert!(component.is_open() && server.machine.is_open());
        let item = |from: &str, to: &str| {
            Item::<()>::One(Box::new(Stanza::parse(&message(from, to)).unwrap()))
        };
        assert!(component.send(&item("gw.d.test", "ann@d.test")));
        assert!(server.machine.send(&item("ann@d.test", "x@gw.d.test")));
        let told = carry(&mut server, &mut component);
        assert_eq!(server.stanzas(), 1);
        assert!(
            told.contains("Component(Established)") && told.contains("Stanza("),
            "{told}"
        );
        component.close(None, server.now);
        carry(&mut server, &mut component);
        assert!(!component.is_open() && !server.machine.is_open());
    });
}

proptest::proptest! {
    #[test]
    fn a_component_survives_everything(
        order in proptest::collection::vec(0_usize..9, 0..12),
        chunk in 1_usize..30,
        is_open in proptest::bool::ANY,
    ) {
        let pieces = [
            "<handshake/>", "<handshake>x</handshake>", "</stream:stream>", "<stream:error/>", "<",
            "<message/>", "<iq type='result' id='1' from='gw.d.test' to='d.test'/>",
            "<message from='gw.d.test' to='@'/>", "<r xmlns='urn:xmpp:sm:3'/>",
        ];
        let text: String = order.iter().map(|&at| pieces[at]).collect();
        let play = |chunk| {
            let mut talk = match is_open {
                true => Talk::open(chunk),
                false => Talk::new(chunk),
            };
            let answer = talk.say(&text);
            (answer, format!("{:?}", talk.told))
        };
        proptest::prop_assert_eq!(play(usize::MAX), play(chunk));
    }
}
