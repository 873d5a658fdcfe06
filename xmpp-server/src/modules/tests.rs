//! What the tests of all modules use; and requests through the dispatcher to a store and back.

use super::*;
use crate::clock::Clock;
use crate::config::{Config, DomainConfig, Registration};
use crate::core::Core;
use crate::effect::Effect;
use crate::host::Policy;
use crate::limits::Limits;
use crate::session::account::Account;
use crate::settings::Settings;
use crate::store::{RosterRow, Store, Subscription, WriteOp};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use xmpp_stream::error::{ErrorType, StanzaCondition};
use xmpp_stream::jid::BareJid;
use xmpp_stream::stanza::Stanza;

/// What one module registers.
#[derive(Default)]
pub(super) struct Registry {
    iqs: IqTable,
    pub(super) announced: Announced,
}

impl Registry {
    pub(super) fn of(module: &dyn Module) -> Self {
        let mut registry = Self::default();
        assert_eq!(registry.add(module), []);
        registry
    }

    /// The same module twice: its announcements are those of one.
    pub(super) fn twice(module: &dyn Module) -> Self {
        let mut registry = Self::of(module);
        assert_ne!(registry.add(module), []);
        registry
    }

    fn add(&mut self, module: &dyn Module) -> Vec<RegisterError> {
        let mut errors = Vec::new();
        module.register(&mut Scope {
            module: module.info().name,
            hooks: &mut Hooks::default(),
            iqs: &mut self.iqs,
            announced: &mut self.announced,
            errors: &mut errors,
        });
        errors
    }

    /// Checks for which addresses ("host", "own", "other", "guest") a request has a handler.
    pub(super) fn check(&self, kind: IqKind, ns: &str, name: &str, expected: &str) {
        let mut found = Vec::new();
        if let Some(handler) = self.iqs.get(kind, ns, name) {
            let all = [(At::Host, "host"), (At::Own, "own"), (At::Other, "other")];
            found.extend(
                all.iter()
                    .filter(|(at, _)| handler.at.has(*at))
                    .map(|(_, at)| *at),
            );
            found.extend(handler.guest.then_some("guest"));
        }
        assert_eq!(found.join(" "), expected, "{kind:?} {ns} {name}");
    }
}

/// What the modules of this package announce.
pub(super) fn announced() -> Announced {
    let mut registry = Registry::default();
    for module in ALL {
        registry.add(*module);
    }
    registry.announced
}

/// A domain with this policy.
pub(super) fn host(registration: Registration) -> Host {
    let domain = "localhost";
    Host::new(Policy::new(
        DomainConfig::new(domain, registration).unwrap(),
        Arc::new(ModuleSet::new(ALL).unwrap()),
    ))
    .unwrap()
}

/// An element from its text.
pub(super) fn element(xml: &str) -> Element {
    Element::parse(xml.as_bytes(), "").unwrap()
}

/// Checks that something was refused so.
#[track_caller]
pub(super) fn refused<T>(
    answer: Result<T, StanzaError>,
    ty: ErrorType,
    condition: StanzaCondition,
) {
    let error = answer.err().expect("must be refused");
    assert_eq!((error.ty, error.condition), (ty, condition));
}

#[test]
fn every_module_registers_and_claims_what_no_other_does() {
    let mut registry = Registry::default();
    for module in ALL {
        assert_eq!(registry.add(*module), []);
        assert!(!module.info().specs.is_empty(), "{}", module.info().name);
    }
    let names: Vec<&str> = ALL.iter().map(|module| module.info().name).collect();
    assert!(names.is_sorted(), "{names:?}");
}

/// Features that no request asks for: they say how other things are done.
const WITHOUT_REQUESTS: &[&str] = &[ns::CAPS, "msgoffline"];
/// Requests that are no feature: the roster is RFC 6121's and always there.
const UNANNOUNCED: &[&str] = &[ns::ROSTER];

#[test]
fn im_di_01_what_is_announced_is_answered_and_the_reverse() {
    let mut registry = Registry::default();
    for module in enabled(&[]) {
        assert_eq!(registry.add(module), []);
    }
    let Registry { iqs, announced } = &registry;
    let host = announced.features_of(&host(Registration::Open));
    let account = &announced.account_features;
    let answers = |ns: &str, at: At| iqs.queries().any(|(_, of, set)| of == ns && set.has(at));
    // The domain also announces what it does for accounts (XEP-0049 section 4).
    for feature in &host {
        let is_answered = answers(feature, At::Host) || answers(feature, At::Own);
        let is_answered = is_answered || WITHOUT_REQUESTS.contains(feature);
        assert!(is_answered, "{feature} is announced and not answered");
    }
    for feature in account {
        let is_answered = answers(feature, At::Own) || WITHOUT_REQUESTS.contains(feature);
        assert!(is_answered, "{feature} is announced and not answered");
    }
    for (kind, ns, at) in iqs.queries() {
        // Some clients ask the domain, some the account, for one and the same thing: either says so.
        let is_told = (at != AtSet::OTHER && host.contains(&ns))
            || (at != AtSet::HOST && account.contains(&ns));
        let is_told = is_told || UNANNOUNCED.contains(&ns);
        assert!(is_told, "{kind:?} {ns} is answered and not announced");
    }
    for ns in WITHOUT_REQUESTS {
        assert!(host.contains(ns) && !answers(ns, At::Host), "{ns}");
    }
    for ns in UNANNOUNCED {
        assert!(answers(ns, At::Own) && !account.contains(ns), "{ns}");
    }
}

#[test]
fn c6121_rv_01_stream_features_are_those_of_loaded_modules() {
    let of = |modules: &[&dyn Module]| -> Vec<String> {
        let mut registry = Registry::default();
        for module in modules {
            registry.add(*module);
        }
        let features = registry
            .announced
            .stream_features_of(&host(Registration::Open));
        features
            .iter()
            .map(|feature| feature.ns().to_owned())
            .collect()
    };
    let always = [ns::FEATURE_ROSTER_VERSION, ns::FEATURE_PRE_APPROVAL];
    assert_eq!(of(&enabled(&["caps".to_owned()])), always);
    assert_eq!(of(&enabled(&[])), [&always[..], &[ns::CAPS]].concat());
}

#[test]
fn switched_off_modules_are_not_loaded() {
    let names = |off: &[String]| -> Vec<&str> {
        enabled(off)
            .iter()
            .map(|module| module.info().name)
            .collect()
    };
    assert!(names(&[]).contains(&"ping"));
    assert!(!names(&["ping".to_owned()]).contains(&"ping"));
}

/// A server of localhost with two accounts, alice and bob; bob may see alice's presence.
struct Server {
    core: Arc<Core>,
    host: Arc<Host>,
}

impl Server {
    async fn start(registration: Registration) -> Self {
        let host = Arc::new(host(registration));
        let mut config = Config::default_zero();
        config.sasl.scram_iterations = 1;
        let hosts = [(host.domain.clone(), Arc::clone(&host))].into();
        let settings = Settings {
            stream_limits: Default::default(),
            config,
            hosts,
            sets: Default::default(),
            network: None,
            s2s_limits: Arc::default(),
            components: Default::default(),
        };
        let (store, clock) = (Store::memory(), Clock::start());
        let core = Core::new(settings, store, clock, ([0; 32], None));
        let server = Self {
            core: Arc::new(core),
            host,
        };
        for name in ["alice", "bob"] {
            server.write(WriteOp::AccountCreate {
                account: jid(name),
                keys: Vec::new(),
                created: 0,
            });
        }
        server.write(WriteOp::Roster {
            account: jid("alice"),
            item: RosterRow {
                jid: jid("bob"),
                ver: 1,
                name: None,
                groups: Vec::new(),
                subscription: Subscription::From,
                ask: false,
                pending_in: None,
                approved: false,
            },
            expect: None,
            ver: 1,
        });
        server
    }

    fn write(&self, op: WriteOp) {
        drop(self.core.store.submit([op].into_iter().collect()));
    }

    async fn account(&self, name: &str) -> Arc<Account> {
        let (core, jid) = (&self.core, jid(name));
        let now = core.clock.now();
        core.registry
            .load(&core.store, &jid, now)
            .await
            .unwrap()
            .unwrap()
    }

    /// What `from` is answered by the account `to`, or by the domain when that is empty.
    async fn ask(&self, from: &str, to: &str, ty: &str, payload: &str) -> String {
        let account = match to {
            "" => None,
            to => Some(self.account(to).await),
        };
        let iq = format!("<iq type='{ty}' id='i' from='{from}@localhost/r'>{payload}</iq>");
        let stanza = Stanza::parse(&iq).unwrap();
        let effects = self.core.iq_routed(&self.host, account, stanza).await;
        match effects.as_slice() {
            [Effect::Reply(answer) | Effect::Route(answer)] => content(answer),
            other => panic!("not answered exactly once: {other:?}"),
        }
    }

    /// What a guest at this address is answered.
    async fn ask_as_guest(&self, peer: Ipv4Addr, ty: &str, payload: &str) -> String {
        let iq = format!("<iq type='{ty}' id='i' to='localhost'>{payload}</iq>");
        let stanza = Stanza::parse(&iq).unwrap();
        let peer = IpAddr::V4(peer);
        let answer = self.core.iq_from_guest(&self.host, peer, stanza).await;
        content(&answer.unwrap())
    }
}

fn jid(name: &str) -> BareJid {
    BareJid::parse(&format!("{name}@localhost")).unwrap()
}

/// The child of a result, or the condition of an error.
fn content(answer: &Stanza) -> String {
    match answer.error() {
        Some(error) => error.condition.to_string(),
        None => answer
            .first_element()
            .map_or_else(String::new, |child| child.to_xml("")),
    }
}

fn same(answer: &str, expected: &str) {
    assert_eq!(element(answer), element(expected), "{answer}");
}

const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[tokio::test]
async fn im_vc_02_vcard_is_stored_and_shown_to_others() {
    let server = Server::start(Registration::Open).await;
    let get = "<vCard xmlns='vcard-temp'/>";
    let card = "<vCard xmlns='vcard-temp'><FN>Alice &amp; Co</FN></vCard>";
    same(&server.ask("alice", "alice", "get", get).await, get);
    assert_eq!(
        server.ask("bob", "alice", "get", get).await,
        "service-unavailable"
    );
    assert_eq!(server.ask("alice", "alice", "set", card).await, "");
    same(&server.ask("alice", "alice", "get", get).await, card);
    same(&server.ask("bob", "alice", "get", get).await, card);
    assert_eq!(server.ask("bob", "alice", "set", card).await, "forbidden");
    assert_eq!(
        server.ask("bob", "", "get", get).await,
        "service-unavailable"
    );
}

#[tokio::test]
async fn im_pv_01_private_elements_are_stored_for_their_owner() {
    let server = Server::start(Registration::Open).await;
    let query = |content: &str| format!("<query xmlns='jabber:iq:private'>{content}</query>");
    let get = query("<roster xmlns='roster:delimiter'/>");
    let set = query("<roster xmlns='roster:delimiter'>::</roster>");
    same(&server.ask("alice", "alice", "get", &get).await, &get);
    assert_eq!(server.ask("alice", "alice", "set", &set).await, "");
    same(&server.ask("alice", "alice", "get", &get).await, &set);
    for (ty, payload) in [("get", &get), ("set", &set)] {
        assert_eq!(
            server.ask("bob", "alice", ty, payload).await,
            "service-unavailable"
        );
    }
    same(&server.ask("bob", "bob", "get", &get).await, &get);
    for name in 1..server.core.limits.private_elements_max {
        let set = query(&format!("<n{name} xmlns='n'>1</n{name}>"));
        assert_eq!(server.ask("alice", "alice", "set", &set).await, "");
    }
    let more = query("<more xmlns='n'>1</more>");
    assert_eq!(
        server.ask("alice", "alice", "set", &more).await,
        "resource-constraint"
    );
    assert_eq!(
        server.ask("alice", "alice", "set", &get).await,
        "",
        "frees a row"
    );
    assert_eq!(server.ask("alice", "alice", "set", &more).await, "");
}

#[tokio::test]
async fn im_di_04_account_is_shown_to_who_may_see_it() {
    let server = Server::start(Registration::Open).await;
    let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
    for from in ["alice", "bob"] {
        let answer = server.ask(from, "alice", "get", info).await;
        assert!(answer.contains("registered"), "{answer}");
    }
    assert_eq!(
        server.ask("alice", "bob", "get", info).await,
        "service-unavailable"
    );
    same(&server.ask("alice", "bob", "get", items).await, items);
    let answer = server.ask("eve", "", "get", info).await;
    assert!(answer.contains("jabber:iq:register"), "{answer}");
}

#[tokio::test]
async fn im_ib_01_guest_registers() {
    let server = Server::start(Registration::Open).await;
    let query = |content: &str| format!("<query xmlns='jabber:iq:register'>{content}</query>");
    let form = server.ask_as_guest(PEER, "get", &query("")).await;
    assert!(form.contains("<password/>"), "{form}");
    let set = query("<username>Carol</username><password>secret</password>");
    assert_eq!(server.ask_as_guest(PEER, "set", &set).await, "");
    let made = server
        .core
        .store
        .account(&jid("carol"))
        .await
        .unwrap()
        .unwrap();
    assert!(!made.keys.is_empty());
    assert_eq!(server.ask_as_guest(PEER, "set", &set).await, "conflict");
    let others = "<ping xmlns='urn:xmpp:ping'/>";
    assert_eq!(
        server.ask_as_guest(PEER, "get", others).await,
        "service-unavailable"
    );
}

#[tokio::test]
async fn im_ib_01_guest_is_refused_by_policy() {
    let query = "<query xmlns='jabber:iq:register'/>";
    let check = async |registration, peer, is_allowed| {
        let server = Server::start(registration).await;
        let answer = server.ask_as_guest(peer, "get", query).await;
        assert_eq!(
            answer != "service-unavailable",
            is_allowed,
            "{registration:?} {peer}"
        );
    };
    check(Registration::Closed, Ipv4Addr::LOCALHOST, false).await;
    check(Registration::Loopback, Ipv4Addr::LOCALHOST, true).await;
    check(Registration::Loopback, PEER, false).await;
    check(Registration::Open, PEER, true).await;
}

#[tokio::test]
async fn im_ib_04_remote_address_is_no_owner() {
    // Without a session of ours an address proves nothing here.
    let server = Server::start(Registration::Open).await;
    let set = "<query xmlns='jabber:iq:register'>\
               <username>alice</username><password>x</password></query>";
    assert_eq!(
        server.ask("alice", "", "set", set).await,
        "service-unavailable"
    );
}

#[test]
fn operating_page_names_every_module_and_limit() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATING.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut limits = Limits::default();
    let limits = limits.slots().into_iter().map(|(key, _)| key);
    let modules = ALL.iter().map(|module| module.info().name);
    for name in limits.chain(modules) {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}
