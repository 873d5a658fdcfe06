//! Which resources get a message: the delivery matrix of RFC 6121 section 8.5.
//!
//! Where the RFC leaves a choice: chat and normal to a bare JID go to every resource of the highest
//! priority; chat to a resource that has gone goes to the bare JID; what finds nobody comes back as
//! service-unavailable, headlines and errors do not. A later stage may keep a message instead.

use crate::effect::{Effect, Which};
use crate::hooks::{AccountCx, Cx, Filter, Flow, Stage, Undelivered};
use crate::modules::{Coverage, Info, Module, Scope, Spec};
use crate::session::account::SessionEntry;
use std::sync::Arc;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::{Class, Kind, Rendered, Stanza, To, Ty};

#[cfg(test)]
mod tests;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "message",
            specs: &[Spec {
                id: "RFC 6121",
                version: "2011",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.hook(Stage::Select, Filter::kind(Kind::Message), select);
    }
}

fn select(stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
    let Some(account) = cx.account else {
        return Flow::Continue;
    };
    match recipients(stanza, account) {
        Ok(which) => {
            let rendered = Rendered::new(Arc::new(stanza.clone()), class(&stanza.head.ty));
            cx.effect(Effect::Local(which, To::AsWritten, Arc::new(rendered)));
        }
        Err(undelivered) => cx.undelivered = Some(undelivered),
    }
    Flow::Continue
}

/// Only what is said to a person is passed on when its session ends before it took it.
fn class(ty: &Ty) -> Class {
    match ty {
        Ty::Error | Ty::Groupchat | Ty::Headline => Class::MessageVolatile,
        // Section 5.2.2: an unknown type is `normal`.
        _ => Class::Message,
    }
}

fn recipients(stanza: &Stanza, account: AccountCx<'_>) -> Result<Which, Undelivered> {
    let refused = || Undelivered::Error(StanzaError::service_unavailable());
    let resource = stanza.head.to.as_ref().and_then(Jid::resource);
    if let Some(resource) = resource {
        let mut sessions = account.sessions.iter();
        let session = sessions.find(|session| session.jid.resource_str() == resource);
        // A connected resource gets what is sent to it, available or not (section 8.5.3.1).
        if let Some(session) = session {
            return Ok(Which::One(session.sid));
        }
    }
    match (&stanza.head.ty, resource) {
        (Ty::Error, _) | (Ty::Headline, Some(_)) => Err(Undelivered::Silent),
        (Ty::Groupchat, _) => Err(refused()),
        (Ty::Headline, None) => every(account, |_| true).ok_or(Undelivered::Silent),
        (Ty::Chat, _) | (_, None) => top(account).ok_or_else(refused),
        (_, Some(_)) => Err(refused()),
    }
}

/// Available resources that want messages to the bare JID: priority zero or more (section 8.5.2.1).
fn every(account: AccountCx<'_>, wanted: impl Fn(&SessionEntry) -> bool) -> Option<Which> {
    let sessions = account.sessions.iter();
    let sids: smallvec::SmallVec<_> = sessions
        .filter(|session| session.is_available() && session.priority >= 0 && wanted(session))
        .map(|session| session.sid)
        .collect();
    (!sids.is_empty()).then_some(Which::Sids(sids))
}

/// Those of the highest priority.
fn top(account: AccountCx<'_>) -> Option<Which> {
    let available = account.sessions.iter().filter(|s| s.is_available());
    let top = available.map(|session| session.priority).max()?;
    every(account, |session| session.priority == top)
}
