//! What we answer when others ask: what we are and can do, whether we are there, which software this
//! is, what time it is; and that a push has come.
//!
//! XEP-0030, XEP-0115, XEP-0199, XEP-0092, XEP-0202. Nothing is changed here: what a push says is taken in
//! by `State`, in the order of all that is received.

use super::options::Options;
use super::roster::Push;
use crate::ext::{blocking, is_from_own_account};
use crate::handlers::IqAnswer;
use std::time::SystemTime;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::FullJid;
use xmpp_stream::ns;
use xmpp_stream::payload::caps::Caps;
use xmpp_stream::payload::delay;
use xmpp_stream::payload::disco::{self, Identity, Info};
use xmpp_stream::stanza::{Stanza, Ty};
use xmpp_stream::xml::Element;

/// What we can do, whatever the options say.
const FEATURES: &[&str] = &[
    ns::CAPS,
    ns::CORRECT,
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::PING,
];

/// Namespaces of the requests that are answered here.
pub(super) const HANDLED: &[&str] = &[
    ns::BLOCKING,
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::PING,
    ns::ROSTER,
    ns::TIME,
    ns::VERSION,
];

/// What we say of ourselves.
#[derive(Debug)]
pub(super) struct Answers {
    info: Info,
    caps: Caps,
    software: Option<(String, String)>,
    tells_time: bool,
}

impl Answers {
    pub(super) fn new(options: &Options) -> Self {
        let conditional = [
            (ns::CHAT_STATES, options.chat_states),
            (ns::RECEIPTS, options.receipts),
            (ns::TIME, options.tell_time),
            (ns::VERSION, options.tell_version),
        ];
        let conditional = conditional
            .iter()
            .filter(|(_, is_on)| *is_on)
            .map(|(ns, _)| *ns);
        let ours = FEATURES
            .iter()
            .copied()
            .chain(conditional)
            .map(str::to_owned);
        let mut features: Vec<_> = ours.chain(options.features.iter().cloned()).collect();
        features.sort();
        features.dedup();
        let name = Some(options.software.clone()).filter(|name| !name.contains('<'));
        let identity = Identity {
            name,
            ..options.identity.clone()
        };
        let info = Info {
            identities: vec![identity],
            features,
            ..Info::default()
        };
        let node = &options.caps_node;
        let caps = Caps::of(&info.to_element(), node).unwrap_or_else(|| {
            // An identity or a feature that cannot be hashed: we say nothing in particular.
            let algorithm = xmpp_stream::payload::caps::Algorithm::Sha1;
            let (node, ver) = (node.clone(), String::new());
            Caps {
                algorithm,
                node,
                ver,
            }
        });
        let software = (options.software.clone(), options.version.clone());
        Self {
            info,
            caps,
            software: options.tell_version.then_some(software),
            tells_time: options.tell_time,
        }
    }

    /// What our presence says of us.
    pub(super) fn caps(&self) -> Element {
        self.caps.to_element()
    }

    /// Answers a request; `own` is who we are.
    pub(super) fn answer(&self, own: &FullJid, request: &Stanza) -> IqAnswer {
        let Some(payload) = request.first_element() else {
            return Err(StanzaError::bad_request());
        };
        match (&request.head.ty, payload.ns(), payload.name()) {
            (Ty::Get, ns::DISCO_INFO, "query") => self.info(&payload).map(Some),
            (Ty::Get, ns::DISCO_ITEMS, "query") => items(&payload).map(Some),
            (Ty::Get, ns::PING, "ping") => Ok(None),
            (Ty::Get, ns::VERSION, "query") => self.version().map(Some),
            (Ty::Get, ns::TIME, "time") if self.tells_time => Ok(Some(time(now()))),
            (Ty::Set, ns::ROSTER, "query") if is_from_own_account(own, request) => {
                let push = Push::read(&payload).map(|_| None);
                push.ok_or_else(StanzaError::bad_request)
            }
            (Ty::Set, ns::BLOCKING, _) => match blocking::read_push(own, request) {
                Ok(Some(_)) => Ok(None),
                Ok(None) => Err(StanzaError::bad_request()),
                Err(_) => Err(StanzaError::service_unavailable()),
            },
            _ => Err(StanzaError::service_unavailable()),
        }
    }

    fn info(&self, query: &Element) -> Result<Element, StanzaError> {
        let node = query.attr("node");
        let is_ours = node.is_none_or(|node| node.is_empty() || node == self.caps.info_node());
        match is_ours {
            true => Ok(Info {
                node: node.map(Into::into),
                ..self.info.clone()
            }
            .to_element()),
            false => Err(StanzaError::item_not_found()),
        }
    }

    fn version(&self) -> Result<Element, StanzaError> {
        let (name, version) = self
            .software
            .as_ref()
            .ok_or_else(StanzaError::service_unavailable)?;
        let text = |name, text: &str| Element::new(ns::VERSION, name).with_text(text);
        Ok(Element::new(ns::VERSION, "query")
            .with_child(text("name", name))
            .with_child(text("version", version)))
    }
}

/// We have no parts.
fn items(query: &Element) -> Result<Element, StanzaError> {
    match query.attr("node") {
        None | Some("") => Ok(disco::query(ns::DISCO_ITEMS, query.attr("node"))),
        Some(_) => Err(StanzaError::item_not_found()),
    }
}

/// In UTC: where we are is nobody's business.
fn time(now: SystemTime) -> Element {
    let text = |name, text: &str| Element::new(ns::TIME, name).with_text(text);
    Element::new(ns::TIME, "time")
        .with_child(text("tzo", "+00:00"))
        .with_child(text("utc", &delay::stamp(now)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "others ask what time it is on our wall"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::error::StanzaCondition;

    fn answer_with(options: &Options, ty: &str, from: &str, payload: &str) -> IqAnswer {
        let own = FullJid::parse("ann@a.test/x").unwrap();
        let iq = format!("<iq type='{ty}' id='1' from='{from}'>{payload}</iq>");
        Answers::new(options).answer(&own, &Stanza::parse(&iq).unwrap())
    }

    fn answer(ty: &str, from: &str, payload: &str) -> IqAnswer {
        answer_with(&Options::default(), ty, from, payload)
    }

    #[track_caller]
    fn refused(answer: IqAnswer, condition: StanzaCondition) {
        assert_eq!(answer.map_err(|error| error.condition), Err(condition));
    }

    const BEN: &str = "ben@b.test/y";
    const INFO: &str = "http://jabber.org/protocol/disco#info";

    #[test]
    fn li_06_disco_info_is_what_the_caps_say() {
        let answers = Answers::new(&Options::default());
        let node = format!("{}#{}", ns::CAPS_NODE, answers.caps.ver);
        for asked in [String::new(), format!(" node='{node}'")] {
            let query = format!("<query xmlns='{INFO}'{asked}/>");
            let info = answer("get", BEN, &query).unwrap().unwrap();
            assert_eq!(Caps::of(&info, ns::CAPS_NODE), Some(answers.caps.clone()));
            let info = Info::parse(&info).unwrap();
            assert!(info.is("client", "pc") && info.has(ns::RECEIPTS) && info.has(ns::PING));
        }
        let other = format!("<query xmlns='{INFO}' node='x'/>");
        refused(answer("get", BEN, &other), StanzaCondition::ItemNotFound);
        let items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
        assert_eq!(
            answer("get", BEN, items)
                .unwrap()
                .unwrap()
                .children()
                .count(),
            0
        );
    }

    #[test]
    fn li_07_ping_version_and_time_as_the_options_say() {
        let quiet = Options {
            tell_version: false,
            tell_time: false,
            ..Options::default()
        };
        assert_eq!(
            answer("get", BEN, "<ping xmlns='urn:xmpp:ping'/>"),
            Ok(None)
        );
        for (payload, child) in [
            ("<query xmlns='jabber:iq:version'/>", "version"),
            ("<time xmlns='urn:xmpp:time'/>", "utc"),
        ] {
            let told = answer("get", BEN, payload).unwrap().unwrap();
            assert!(told.children().any(|element| element.name() == child));
            let untold = answer_with(&quiet, "get", BEN, payload);
            refused(untold, StanzaCondition::ServiceUnavailable);
            refused(
                answer("set", BEN, payload),
                StanzaCondition::ServiceUnavailable,
            );
        }
        let shown = time(SystemTime::UNIX_EPOCH).to_xml("");
        assert!(
            shown.contains("<utc>1970-01-01T00:00:00.000Z</utc>"),
            "{shown}"
        );
    }

    #[test]
    fn li_01_whatever_else_is_asked_is_refused() {
        refused(answer("get", BEN, ""), StanzaCondition::BadRequest);
        for payload in [
            "<query xmlns='urn:x'/>",
            "<query xmlns='jabber:iq:roster'/>",
            "<query xmlns='jabber:iq:last'/>",
            "<pong xmlns='urn:xmpp:ping'/>",
        ] {
            refused(
                answer("get", BEN, payload),
                StanzaCondition::ServiceUnavailable,
            );
        }
    }

    #[test]
    fn ck_01_pushes_are_taken_from_the_own_account_alone() {
        for push in [
            "<query xmlns='jabber:iq:roster'><item jid='eve@b.test'/></query>",
            "<block xmlns='urn:xmpp:blocking'><item jid='eve@b.test'/></block>",
        ] {
            assert_eq!(answer("set", "ann@a.test", push), Ok(None));
            for from in [BEN, "ann@a.test/x", "a.test"] {
                refused(
                    answer("set", from, push),
                    StanzaCondition::ServiceUnavailable,
                );
            }
        }
        for bad in [
            "<query xmlns='jabber:iq:roster'/>",
            "<block xmlns='urn:xmpp:blocking'/>",
        ] {
            refused(
                answer("set", "ann@a.test", bad),
                StanzaCondition::BadRequest,
            );
        }
    }
}
