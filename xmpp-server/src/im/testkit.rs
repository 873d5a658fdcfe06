//! For the tests of these modules: an account as a value, a stanza in, its wishes out as text.

use crate::config::{DomainConfig, Registration};
use crate::effect::{Effect, Which};
use crate::hooks::{AccountCx, Cx, Flow, Stage, Undelivered};
use crate::host::{Host, Policy};
use crate::limits::Limits;
use crate::modules::ModuleSet;
use crate::session::Sid;
use crate::session::account::{AccountState, RosterView, SessionEntry};
use crate::store::{RosterRow, Subscription};
use std::sync::{Arc, OnceLock};
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Class, Kind, Stanza, To};
use xmpp_stream::xml::Element;

/// The account under test.
pub(crate) const ANN: &str = "ann@a.test";

/// An account, its sessions and bounds.
pub(crate) struct Bench {
    pub(crate) jid: BareJid,
    pub(crate) roster: RosterView,
    pub(crate) sessions: Vec<SessionEntry>,
    pub(crate) left: Option<u64>,
    pub(crate) limits: Limits,
}

/// What a run wished and decided.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) flow: Flow,
    pub(crate) effects: Vec<Effect>,
    pub(crate) undelivered: Option<Undelivered>,
}

pub(crate) fn stanza(xml: &str) -> Stanza {
    Stanza::parse(xml).unwrap_or_else(|error| panic!("{error:?}: {xml}"))
}

pub(crate) fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

/// A row of a contact in one of the states of appendix A: N, N+PO, …; a request has no payload.
pub(crate) fn row(contact: &str, state: &str) -> RosterRow {
    let (subscription, pending) = state.split_once('+').unwrap_or((state, ""));
    let request = format!("<presence to='{ANN}' from='{contact}' type='subscribe'/>");
    RosterRow {
        jid: BareJid::parse(contact).unwrap(),
        ver: 0,
        name: Some("".into()),
        groups: Vec::new(),
        subscription: match subscription {
            "N" => Subscription::None,
            "T" => Subscription::To,
            "F" => Subscription::From,
            "B" => Subscription::Both,
            other => panic!("no state {other}"),
        },
        ask: pending.contains('O'),
        pending_in: pending.contains('I').then(|| request.into()),
        approved: false,
    }
}

/// A row that is no roster item.
pub(crate) fn request_row(contact: &str) -> RosterRow {
    RosterRow {
        name: None,
        ..row(contact, "N+PI")
    }
}

impl Bench {
    /// ann@a.test with no contacts and no sessions.
    pub(crate) fn new() -> Self {
        Self {
            jid: BareJid::parse(ANN).unwrap(),
            roster: RosterView::default(),
            sessions: Vec::new(),
            left: None,
            limits: Limits::default(),
        }
    }

    /// Adds a contact.
    pub(crate) fn with(mut self, row: RosterRow) -> Self {
        self.roster = self.roster.with(row);
        self
    }

    /// Adds a bound session; sids count from 1.
    pub(crate) fn bound(mut self, resource: &str) -> Self {
        let sid = Sid(self.sessions.len() as u128 + 1);
        let jid = FullJid::parse(&format!("{ANN}/{resource}")).unwrap();
        self.sessions.push(SessionEntry::new(sid, jid));
        self
    }

    /// Adds an available session of this priority.
    pub(crate) fn online(self, resource: &str, priority: i8) -> Self {
        let mut bench = self.bound(resource);
        let entry = bench.sessions.last_mut().unwrap();
        let xml = format!(
            "<presence from='{}' id='p-{resource}'><show>away</show></presence>",
            entry.jid
        );
        entry.presence = Some(Arc::new(stanza(&xml)));
        entry.priority = priority;
        bench
    }

    /// The last session has sent directed presence there.
    pub(crate) fn directed(mut self, to: &str) -> Self {
        let entry = self.sessions.last_mut().unwrap();
        entry.directed.insert(jid(to));
        self
    }

    pub(crate) fn cx(&self) -> AccountCx<'_> {
        AccountCx {
            jid: &self.jid,
            roster: &self.roster,
            sessions: &self.sessions,
            left: self.left,
        }
    }

    /// What a hook of the sender's side gets.
    pub(crate) fn cx_of(&self, resource: &str) -> Cx<'_> {
        let mut sessions = self.sessions.iter();
        Cx {
            host: host(),
            limits: &self.limits,
            account: Some(self.cx()),
            session: sessions.find(|s| s.jid.resource_str() == resource),
            effects: Vec::new(),
            edits: Vec::new(),
            undelivered: None,
            keep: false,
        }
    }

    /// A stanza that a session sends: `Route`.
    pub(crate) fn sends(&self, resource: &str, xml: &str) -> Outcome {
        let entry = self
            .sessions
            .iter()
            .find(|s| s.jid.resource_str() == resource);
        self.run(Stage::Route, entry, &stanza(xml))
    }

    /// The same from a session that has ended.
    pub(crate) fn ended(mut self, resource: &str) -> Outcome {
        let at = self
            .sessions
            .iter()
            .position(|s| s.jid.resource_str() == resource);
        let entry = self.sessions.remove(at.unwrap());
        let xml = format!("<presence type='unavailable' from='{}'/>", entry.jid);
        self.run(Stage::Route, Some(&entry), &stanza(&xml))
    }

    /// A stanza that the account is sent: `Select`.
    pub(crate) fn gets(&self, xml: &str) -> Outcome {
        self.run(Stage::Select, None, &stanza(xml))
    }

    /// What the core makes of `Show` and `Vanish` when the change is in force.
    fn expanded(&self, effect: Effect) -> Vec<Effect> {
        let mut state = AccountState::default();
        state.sessions.clone_from(&self.sessions);
        match effect {
            Effect::Show(contact) => {
                let shown = state.current_presence(&contact);
                shown
                    .filter(|effect| !matches!(effect, Effect::Recheck(_)))
                    .collect()
            }
            Effect::Vanish(contact) => {
                let before = state.sessions.clone();
                let mut effects = state.vanish(&contact);
                for (old, new) in before.iter().zip(&state.sessions) {
                    for jid in old.directed.difference(&new.directed) {
                        effects.push(Effect::SetDirected(old.sid, jid.clone(), false));
                    }
                }
                effects
            }
            // Looked at again by the core; says nothing by itself.
            Effect::Recheck(_) => Vec::new(),
            other => vec![other],
        }
    }

    fn run(&self, stage: Stage, session: Option<&SessionEntry>, stanza: &Stanza) -> Outcome {
        let mut cx = Cx {
            host: host(),
            limits: &self.limits,
            account: Some(self.cx()),
            session,
            effects: Vec::new(),
            edits: Vec::new(),
            undelivered: None,
            keep: false,
        };
        let flow = host().modules().hooks.run(stage, stanza, &mut cx);
        assert!(cx.edits.is_empty());
        Outcome {
            flow,
            effects: cx
                .effects
                .into_iter()
                .flat_map(|effect| self.expanded(effect))
                .collect(),
            undelivered: cx.undelivered,
        }
    }
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        Host::new(Policy::new(
            DomainConfig::new("a.test", Registration::Closed).unwrap(),
            Arc::new(ModuleSet::new(super::ALL).unwrap()),
        ))
        .unwrap()
    })
}

impl Outcome {
    /// The wishes in order, one line each; see `line`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.effects.iter().map(line).collect()
    }

    /// Checks flow and wishes: `expected` has one wish a line.
    pub(crate) fn check(&self, flow: &Flow, expected: &str) {
        let expected: Vec<_> = expected
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(self.lines(), expected);
        assert_eq!(&self.flow, flow);
    }

    /// Checks that the stanza is refused with this and nothing else happens.
    pub(crate) fn is_refused(&self, error: StanzaError) {
        assert_eq!(self.flow, Flow::Refuse(error));
        assert_eq!(self.lines(), Vec::<String>::new());
    }
}

/// A wish as text: addresses and stanzas as XML. Roster pushes are shortened to their item; their
/// ids are random.
pub(crate) fn line(effect: &Effect) -> String {
    match effect {
        Effect::Local(which, to, rendered) if rendered.kind() == Kind::Iq => {
            let stanza = rendered.stanza();
            let prefix = match which {
                Which::Interested => "push".to_owned(),
                Which::One(Sid(number)) => format!("push to {number}"),
                other => panic!("no such push: {other:?}"),
            };
            assert_eq!(to, &To::Full);
            assert!(stanza.head.from.is_none());
            assert!(stanza.head.id.as_deref().is_some_and(|id| id.len() >= 8));
            let query = stanza.first_element().unwrap();
            assert!(query.is(ns::ROSTER, "query"));
            let items: Vec<_> = query
                .children()
                .map(|item| item.to_xml(ns::ROSTER))
                .collect();
            assert!(query.attr("ver").is_some(), "rv-06");
            format!("{prefix} {}", items.join(""))
        }
        Effect::Local(which, to, rendered) => {
            let which = match which {
                Which::One(Sid(number)) => format!("{number}"),
                Which::Sids(sids) => {
                    let numbers: Vec<_> = sids.iter().map(|sid| sid.0.to_string()).collect();
                    numbers.join(",")
                }
                other => format!("{other:?}").to_lowercase(),
            };
            let class = match rendered.class() {
                Class::Message | Class::Presence => "",
                Class::MessageVolatile => " volatile",
                Class::PresenceOther => " kept",
                Class::Iq => " iq",
            };
            let to = format!("{to:?}").to_lowercase();
            format!("local {which} {to}{class} {}", xml(rendered.stanza()))
        }
        Effect::SetPresence(Sid(sid), None) => format!("offline {sid}"),
        Effect::SetPresence(Sid(sid), Some(presence)) => format!("online {sid} {}", xml(presence)),
        Effect::Left => "left".to_owned(),
        Effect::SetInterested(Sid(sid)) => format!("interested {sid}"),
        Effect::SetDirected(Sid(sid), jid, on) => {
            format!("directed {sid} {jid} {}", if *on { "on" } else { "off" })
        }
        Effect::Roster(row) => {
            let state = super::subscription::table::State::of(Some(row));
            let listed = row.is_listed();
            format!(
                "row {} {state:?}{}{}",
                row.jid,
                if row.approved { " approved" } else { "" },
                if listed { "" } else { " unlisted" }
            )
        }
        Effect::RosterRemove(jid) => format!("remove {jid}"),
        Effect::Show(contact) => format!("show {contact}"),
        Effect::Vanish(contact) => format!("vanish {contact}"),
        Effect::Route(stanza) => format!("route {}", xml(stanza)),
        Effect::Fan(rendered, jids) => {
            let jids: Vec<_> = jids.iter().map(Jid::as_str).collect();
            format!("fan {} {}", jids.join(","), xml(rendered.stanza()))
        }
        other => panic!("no such wish here: {other:?}"),
    }
}

fn xml(stanza: &Stanza) -> String {
    let mut out = Vec::new();
    stanza.write(&mut out);
    String::from_utf8(out).unwrap()
}

/// A roster query with this inside.
pub(crate) fn query(inner: &str) -> Element {
    let xml = format!("<query xmlns='{}'>{inner}</query>", ns::ROSTER);
    Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
}
