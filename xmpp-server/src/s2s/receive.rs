//! A stanza from another domain, after its addresses were checked: what any sender without an
//! account here may do, and nothing more.
//!
//! RFC 6120 section 10.5, RFC 6121 section 8. The stages of the recipient's account run as for every
//! sender; those of the sender's account are its own server's business.

use crate::core::{Core, room_for};
use crate::effect::Effect;
use crate::router::{Target, target};
use crate::session::inbound::Owed;
use crate::session::registry::Lookup;
use crate::store::Sent;
use smallvec::SmallVec;
use std::sync::Arc;
use xmpp_stream::stanza::{Kind, Stanza, Ty};

/// Whose stanza it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// Another server's.
    Server,
    /// A component's: it may write to other domains too.
    Component,
}

/// What a stanza has brought about at its recipient.
#[derive(Default)]
pub(crate) struct Received {
    /// Submits that it waits for.
    pub(crate) owed: SmallVec<[Owed; 1]>,
    /// A queue is over its soft bound.
    pub(crate) soft: bool,
}

/// What came of a stanza without any wait.
pub(super) enum Now {
    /// All of it, and these effects are still to be applied.
    Done(Received, Vec<Effect>),
    /// Nothing: it needs a wait.
    Not(Box<(Stanza, Option<Box<Sent>>)>),
}

impl Core {
    /// The common case, which needs no wait: a message to a loaded account. Gives the stanza back when
    /// it is not that case.
    pub(super) fn remote_now(&self, mut stanza: Stanza, sent: Option<Box<Sent>>) -> Now {
        let to = stanza.head.to.as_ref().filter(|to| to.local().is_some());
        let Some(to) = to.filter(|_| stanza.kind == Kind::Message) else {
            return Now::Not(Box::new((stanza, sent)));
        };
        let Some(host) = self.host(to.domain()) else {
            return Now::Not(Box::new((stanza, sent)));
        };
        let Lookup::Here(account) = self.registry.get(to.bare_str(), self.clock.now()) else {
            return Now::Not(Box::new((stanza, sent)));
        };
        let Some(permit) = self.store.try_reserve(1, room_for(&stanza)) else {
            return Now::Not(Box::new((stanza, sent)));
        };
        self.strip(&host, &mut stanza);
        let effects = self.deliver(&host, &account, stanza, (Some(permit), sent));
        let (received, rest) = Received::of(effects);
        Now::Done(received, rest)
    }

    /// Takes a stanza of another domain to a domain of ours. Resolves when it has had its effects.
    /// `sent`: by what it is recognised when its server sends it again.
    pub(crate) async fn from_remote(
        self: &Arc<Self>,
        mut stanza: Stanza,
        sent: Option<Box<Sent>>,
        origin: Origin,
    ) -> Received {
        let Some(to) = stanza.head.to.clone() else {
            return Received::default();
        };
        if !is_well_formed(&stanza) {
            let error = xmpp_stream::error::StanzaError::bad_request();
            self.run(None, crate::core::refuse(&stanza, &error).into())
                .await;
            return Received::default();
        }
        let effects = match target(&self.settings().hosts, &to) {
            Target::Remote if origin == Origin::Component => {
                Box::pin(self.to_remote(None, stanza)).await
            }
            Target::Remote if self.is_component(Some(&to)) => self.to_component(stanza),
            // It was checked, and nothing is passed on: a reload took the domain away just now.
            Target::Remote => Vec::new(),
            Target::Host(host) => self.to_host(&host, stanza).await,
            Target::Account(host, jid) => {
                self.strip(&host, &mut stanza);
                self.to_account_again(&host, &jid, stanza, sent).await
            }
            Target::Full(host, jid) => {
                self.strip(&host, &mut stanza);
                let account = jid.to_bare();
                self.to_account_again(&host, &account, stanza, sent).await
            }
        };
        let (received, rest) = Received::of(effects);
        self.run(None, rest.into()).await;
        received
    }
}

impl Received {
    /// What the link has to know, and what is still to be done.
    fn of(effects: Vec<Effect>) -> (Self, Vec<Effect>) {
        let (mut received, mut rest) = (Self::default(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Owed(ticket, stanza) => received.owed.push(Owed { ticket, stanza }),
                Effect::Pause => received.soft = true,
                effect => rest.push(effect),
            }
        }
        (received, rest)
    }
}

/// RFC 6120 section 8.2.3.
fn is_well_formed(stanza: &Stanza) -> bool {
    if stanza.kind != Kind::Iq {
        return true;
    }
    let children = match stanza.head.ty {
        Ty::Get | Ty::Set => stanza.kids.len() == 1,
        Ty::Result => stanza.kids.len() <= 1,
        Ty::Error => true,
        _ => false,
    };
    children && stanza.head.id.is_some()
}
