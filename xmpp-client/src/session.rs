//! What a session is set to, so that a new one can be set to the same (rows ss-1 and ss-7).
//!
//! Seen from what is sent: the last presence for all, carbons (XEP-0280), client state (XEP-0352).

use xmpp_stream::ns::{self, id};
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// The settings of the session.
pub(crate) struct Session {
    presence: Option<Stanza>,
    carbons: bool,
    /// Somebody looks at the client.
    pub(crate) active: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            presence: None,
            carbons: false,
            active: true,
        }
    }
}

impl Session {
    /// Learns from a stanza that is sent.
    pub(crate) fn observe(&mut self, stanza: &Stanza) {
        match stanza.kind {
            Kind::Presence if stanza.head.to.is_none() => match stanza.head.ty {
                Ty::None => self.presence = Some(stanza.clone()),
                Ty::Unavailable => self.presence = None,
                _ => {}
            },
            Kind::Iq if stanza.head.ty == Ty::Set => {
                if let Some(kid) = stanza.kids.first().filter(|kid| kid.ns == id::CARBONS) {
                    self.carbons = stanza.kid_name(kid).1 == "enable";
                }
            }
            _ => {}
        }
    }

    /// What sets a new session to the same.
    pub(crate) fn restore(&self, request_id: &str) -> Vec<Stanza> {
        let enable = || Element::new(ns::CARBONS, "enable");
        let carbons = self
            .carbons
            .then(|| Stanza::iq(Ty::Set, request_id).with_child(&enable()));
        carbons.into_iter().chain(self.presence.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::jid::Jid;

    fn carbons(name: &str) -> Stanza {
        Stanza::iq(Ty::Set, "1").with_child(&Element::new(ns::CARBONS, name))
    }

    #[track_caller]
    fn check(sent: &[Stanza], restored: &[&str]) {
        let mut session = Session::default();
        for stanza in sent {
            session.observe(stanza);
        }
        let found: Vec<_> = session.restore("r").iter().map(Stanza::to_xml).collect();
        assert_eq!(found, restored);
    }

    #[test]
    fn ss_01_presence_and_carbons_are_remembered() {
        let available = Stanza::presence(Ty::None);
        let directed = available
            .clone()
            .with_to(Jid::parse("room@b.test/x").unwrap());
        let enable = "<iq id='r' type='set'><enable xmlns='urn:xmpp:carbons:2'/></iq>";
        check(&[], &[]);
        check(std::slice::from_ref(&directed), &[]);
        check(
            &[available.clone(), directed, carbons("enable")],
            &[enable, "<presence/>"],
        );
        check(
            &[
                carbons("enable"),
                available,
                Stanza::presence(Ty::Unavailable),
                carbons("disable"),
            ],
            &[],
        );
    }
}
