//! Availability: broadcast, directed presence, probes.
//!
//! RFC 6121 section 4 and, for delivery, 8.5. What a session sends is decided at `Route`; what an
//! account is sent, at `Select`. The end of a session arrives here as unavailable presence from it.
//! Subscription types pass by to `subscription`.

use super::{presence, rendered};
use crate::clock::Clock;
use crate::effect::{Effect, Which};
use crate::hooks::{AccountCx, Cx, Filter, Flow, Stage, Undelivered};
use crate::modules::{Coverage, Info, Module, Scope, Spec};
use crate::random;
use crate::session::account::{SessionEntry, current_presence};
use std::sync::Arc;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::stanza::{Edit, Kind, Stanza, To, Ty};
use xmpp_stream::xml::Element;

#[cfg(test)]
mod tests;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "presence",
            specs: &[Spec {
                id: "RFC 6121",
                version: "2011",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.hook(Stage::Route, Filter::kind(Kind::Presence), outgoing);
        scope.hook(Stage::Select, Filter::kind(Kind::Presence), incoming);
    }
}

fn outgoing(stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
    let (Some(account), Some(session)) = (cx.account, cx.session) else {
        return Flow::Continue;
    };
    if stanza.payload.len() > cx.limits.presence_bytes_max {
        return Flow::Refuse(StanzaError::policy_violation());
    }
    match (&stanza.head.ty, &stanza.head.to) {
        (Ty::Subscribe | Ty::Subscribed | Ty::Unsubscribe | Ty::Unsubscribed, _) => Flow::Continue,
        (Ty::None, None) => available(stanza, account, session, cx),
        (Ty::None, Some(to)) => direct(to, account, session, cx),
        (Ty::Unavailable, None) => unavailable(stanza, account, session, cx),
        (Ty::Unavailable, Some(to)) => {
            if session.directed.contains(to) {
                cx.effect(Effect::SetDirected(session.sid, to.clone(), false));
            }
            Flow::Continue
        }
        // Section 4.3: a client's probe is passed on, not punished.
        (Ty::Probe | Ty::Error, Some(_)) => Flow::Continue,
        (Ty::Probe | Ty::Error, None) => Flow::Stop,
        // Section 4.7.1: there is no `type='available'`.
        _ => Flow::Refuse(StanzaError::bad_request()),
    }
}

/// Broadcast presence: initial (section 4.2.2) or an update (section 4.4.2).
fn available(
    stanza: &Stanza,
    account: AccountCx<'_>,
    session: &SessionEntry,
    cx: &mut Cx<'_>,
) -> Flow {
    if !has_valid_priority(stanza) {
        return Flow::Refuse(StanzaError::bad_request());
    }
    let stanza = Arc::new(stanza.clone());
    let rendered = rendered(Arc::clone(&stanza));
    // First, so that the session is among those who get it.
    cx.effect(Effect::SetPresence(session.sid, Some(stanza)));
    let own = Effect::Local(Which::Available, To::Bare, Arc::clone(&rendered));
    cx.effect(own);
    cx.effects.extend(fan(account, rendered));
    if !session.is_available() {
        newcomer(account, session, cx);
    }
    Flow::Stop
}

/// Section 4.7.2.3 wants -128 to 127. Anything else is refused: to lower it to a bound, the client
/// would have to be shown another presence than it sent.
fn has_valid_priority(stanza: &Stanza) -> bool {
    let text = stanza.child_text(ns::name::PRIORITY);
    text.is_none_or(|text| text.trim().parse::<i8>().is_ok())
}

/// To every contact that sees the account.
fn fan(account: AccountCx<'_>, rendered: Arc<xmpp_stream::stanza::Rendered>) -> Option<Effect> {
    let rows = account.roster.rows();
    let contacts: Vec<Jid> = rows
        .filter(|row| account.roster.may_see_us(row.jid.as_str()))
        .map(|row| row.jid.as_jid().clone())
        .collect();
    (!contacts.is_empty()).then_some(Effect::Fan(rendered, contacts))
}

/// What a resource that has become available is to learn: its siblings and, by probes, its contacts.
/// Requests that wait for an answer it draws itself (`core::backlog`).
fn newcomer(account: AccountCx<'_>, session: &SessionEntry, cx: &mut Cx<'_>) {
    for sibling in account
        .sessions
        .iter()
        .filter(|other| other.sid != session.sid)
    {
        if let Some(presence) = &sibling.presence {
            let rendered = rendered(Arc::clone(presence));
            cx.effect(Effect::Local(Which::One(session.sid), To::Bare, rendered));
        }
    }
    for row in account.roster.rows() {
        let contact = row.jid.as_jid();
        if account.roster.may_see_them(contact.as_str()) {
            // From the full JID, so that the answer goes to the newcomer alone.
            let probe = presence(Ty::Probe, session.jid.clone(), contact.clone());
            cx.effect(Effect::route(probe));
        }
        if row.ask {
            // Section 3.1.2: repeated, in case the request was lost on its way.
            let request = presence(Ty::Subscribe, account.jid.clone(), contact.clone());
            cx.effect(Effect::route(request.with_id(&random::token())));
        }
    }
}

/// Section 4.5.2, for a client that says so and for a session that ended.
fn unavailable(
    stanza: &Stanza,
    account: AccountCx<'_>,
    session: &SessionEntry,
    cx: &mut Cx<'_>,
) -> Flow {
    let stanza = Arc::new(without_availability(stanza));
    let was_available = session.is_available();
    if was_available {
        let rendered = rendered(Arc::clone(&stanza));
        // Before it takes effect, so that the session itself gets it too.
        let own = Effect::Local(Which::Available, To::Bare, Arc::clone(&rendered));
        cx.effect(own);
        cx.effect(Effect::SetPresence(session.sid, None));
        cx.effects.extend(fan(account, rendered));
        let mut others = account.sessions.iter().filter(|o| o.sid != session.sid);
        if !others.any(SessionEntry::is_available) {
            cx.effect(Effect::Left);
        }
    }
    let mut targets: Vec<_> = session.directed.iter().collect();
    targets.sort_unstable();
    for to in targets {
        cx.effect(Effect::SetDirected(session.sid, to.clone(), false));
        if !(was_available && is_subscribed(account, to)) {
            cx.effect(Effect::route(Stanza::clone(&stanza).with_to(to.clone())));
        }
    }
    Flow::Stop
}

/// Section 4.5.1: who is not available has neither show nor priority.
fn without_availability(stanza: &Stanza) -> Stanza {
    let names = [ns::name::SHOW, ns::name::PRIORITY];
    let kids = stanza.kids.iter().enumerate();
    let cuts: Vec<_> = kids
        .filter(|(_, kid)| kid.ns == ns::id::CLIENT && names.contains(&kid.name))
        .map(|(at, _)| Edit::Cut(at))
        .collect();
    match cuts.is_empty() {
        true => stanza.clone(),
        false => stanza.splice(&cuts),
    }
}

/// Directed presence (section 4.6.3): whoever no broadcast reaches is remembered, to be told of the
/// end.
fn direct(to: &Jid, account: AccountCx<'_>, session: &SessionEntry, cx: &mut Cx<'_>) -> Flow {
    let covered = session.is_available() && is_subscribed(account, to);
    if covered || session.directed.contains(to) {
        return Flow::Continue;
    }
    if session.directed.len() >= cx.limits.directed_max {
        return Flow::Refuse(StanzaError::resource_constraint());
    }
    cx.effect(Effect::SetDirected(session.sid, to.clone(), true));
    Flow::Continue
}

/// Broadcasts reach this address. An account is subscribed to itself (section 4.2.2).
fn is_subscribed(account: AccountCx<'_>, jid: &Jid) -> bool {
    let bare = jid.bare_str();
    bare == account.jid.as_str() || account.roster.may_see_us(bare)
}

fn incoming(stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
    let Some(account) = cx.account else {
        return Flow::Continue;
    };
    match &stanza.head.ty {
        Ty::Subscribe | Ty::Subscribed | Ty::Unsubscribe | Ty::Unsubscribed => Flow::Continue,
        Ty::None | Ty::Unavailable | Ty::Error => deliver(stanza, account, cx),
        Ty::Probe => {
            cx.effects.extend(answer_probe(stanza, account));
            Flow::Stop
        }
        _ => Flow::Refuse(StanzaError::bad_request()),
    }
}

/// Sections 8.5.2.1.2, 8.5.2.2.2 and 8.5.3: to every available resource or the one addressed. An
/// error to the bare JID answers a subscription stanza (section 3.1.2): its sender is among them.
fn deliver(stanza: &Stanza, account: AccountCx<'_>, cx: &mut Cx<'_>) -> Flow {
    let resource = stanza.head.to.as_ref().and_then(Jid::resource);
    let which = match resource.map(|resource| find(account, resource)) {
        Some(session) => session.map(|session| Which::One(session.sid)),
        None => {
            let any = account.sessions.iter().any(SessionEntry::is_available);
            any.then_some(Which::Available)
        }
    };
    if let (Ty::Unavailable, Some(from)) = (&stanza.head.ty, &stanza.head.from) {
        forget_directed(from, resource, account, cx);
    }
    match which {
        Some(which) => {
            let rendered = rendered(Arc::new(stanza.clone()));
            cx.effect(Effect::Local(which, To::AsWritten, rendered));
        }
        None => cx.undelivered = Some(Undelivered::Silent),
    }
    Flow::Continue
}

fn find<'a>(account: AccountCx<'a>, resource: &str) -> Option<&'a SessionEntry> {
    let mut sessions = account.sessions.iter();
    sessions.find(|session| session.jid.resource_str() == resource)
}

/// Section 4.6.1: who says it is gone need not be told of our end.
fn forget_directed(from: &Jid, resource: Option<&str>, account: AccountCx<'_>, cx: &mut Cx<'_>) {
    for session in account.sessions {
        let meant = resource.is_none_or(|resource| session.jid.resource_str() == resource);
        if meant && session.directed.contains(from) {
            cx.effect(Effect::SetDirected(session.sid, from.clone(), false));
        }
    }
}

/// Sections 4.3.2 and 4.6.6, first match. Answers keep the id of the presence they repeat; all
/// others mirror the probe's (section 4.3.2.1).
fn answer_probe(probe: &Stanza, account: AccountCx<'_>) -> Vec<Effect> {
    let Some(prober) = &probe.head.from else {
        return Vec::new();
    };
    let answer = |ty: Ty, from: &Jid| {
        let mut answer = presence(ty, from.clone(), prober.clone());
        answer.head.id.clone_from(&probe.head.id);
        answer
    };
    let route = |answer| vec![Effect::route(answer)];
    let own = account.jid.as_jid();
    let resource = probe.head.to.as_ref().and_then(Jid::resource);
    if is_subscribed(account, prober) {
        let any = account.sessions.iter().any(SessionEntry::is_available);
        return match (resource, &probe.head.to) {
            (Some(resource), Some(full)) => {
                let session = find(account, resource).filter(|session| session.is_available());
                route(answer(session.map_or(Ty::Unavailable, |_| Ty::None), full))
            }
            _ if any => current_presence(account.sessions, prober).collect(),
            _ => route(since(answer(Ty::Unavailable, own), account.left)),
        };
    }
    // Who got directed presence may know that much of that resource, and nothing of others.
    let directed: Vec<_> = account
        .sessions
        .iter()
        .filter(|session| resource.is_none_or(|name| session.jid.resource_str() == name))
        .filter(|session| knows(session, prober))
        .map(|session| Effect::route(answer(Ty::None, session.jid.as_jid())))
        .collect();
    match directed.is_empty() {
        // From the bare JID: a full one would say that the resource exists.
        true => route(answer(Ty::Unsubscribed, own)),
        false => directed,
    }
}

/// With the time of the last unavailable presence, where that is known (section 4.3.2).
fn since(answer: Stanza, left: Option<u64>) -> Stanza {
    match left {
        Some(left) => answer.with_child(
            &Element::new(ns::DELAY, "delay").with_attr("stamp", &Clock::stamp_of(left)),
        ),
        None => answer,
    }
}

/// The session sent directed presence to this entity.
fn knows(session: &SessionEntry, entity: &Jid) -> bool {
    session.directed.contains(entity) || session.directed.contains(entity.to_bare().as_jid())
}
