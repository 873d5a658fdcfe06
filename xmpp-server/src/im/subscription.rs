//! Presence subscriptions: what requests, grants and their opposites do to rosters.
//!
//! RFC 6121 section 3; the tables of appendix A are in `table`. Outbound stanzas are decided at
//! `Route`, inbound ones at `Select`; changes are committed before anyone hears of them. A row that
//! exists for a pending inbound request only is no roster item (section 3.1.3). A pre-approval
//! (section 3.4) is used up by the request that it answers.

use super::roster::push;
use super::{presence, rendered};
use crate::effect::{Effect, Which};
use crate::hooks::{AccountCx, Cx, Filter, Flow, Stage, Undelivered};
use crate::modules::{Coverage, Info, Module, Scope, Spec};
use crate::session::account::RosterView;
use crate::store::{RosterRow, Subscription};
use bytes::Bytes;
use std::sync::Arc;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Kind, Rendered, Stanza, To};
use xmpp_stream::xml::Element;

pub mod table;
use table::{State, Verb};
#[cfg(test)]
mod tests;

/// The module.
pub struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "subscription",
            specs: &[Spec {
                id: "RFC 6121",
                version: "2011",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.stream_feature(Element::new(ns::FEATURE_PRE_APPROVAL, "sub"));
        scope.hook(Stage::Route, Filter::kind(Kind::Presence), outbound);
        scope.hook(Stage::Select, Filter::kind(Kind::Presence), inbound);
    }
}

/// Number of roster items.
pub(super) fn listed(roster: &RosterView) -> usize {
    roster.rows().filter(|row| row.is_listed()).count()
}

fn outbound(stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
    let (Some(verb), Some(account)) = (Verb::of(&stanza.head.ty), cx.account) else {
        return Flow::Continue;
    };
    let Some(to) = &stanza.head.to else {
        return Flow::Refuse(StanzaError::bad_request());
    };
    let contact = to.to_bare();
    if contact == *account.jid {
        return Flow::Refuse(StanzaError::not_allowed());
    }
    // Sections 3 and 3.1.2: the contact sees the bare JID; a full JID stands for its bare one.
    let stanza = stanza
        .clone()
        .with_from(account.jid.clone())
        .with_to(contact.clone());
    if verb == Verb::Subscribe && wire(&stanza).len() > cx.limits.pending_request_bytes_max {
        // Told here, so that the silence at the recipient tells nothing.
        return Flow::Refuse(StanzaError::policy_violation());
    }
    let row = account.roster.get(contact.as_str()).map(AsRef::as_ref);
    let state = State::of(row);
    let approved = row.is_some_and(|row| row.approved);
    let step = state.outbound(verb, approved);
    let next = (step.next, step.approved);
    let change = Change::new(account.roster, contact, next, None);
    if change.adds_item && listed(account.roster) >= cx.limits.roster_items_max {
        return Flow::Refuse(StanzaError::resource_constraint());
    }
    let contact = change.contact.as_jid().clone();
    let push = change.push;
    cx.effects.extend(change.write);
    if state.shows_us() && !step.next.shows_us() {
        cx.effect(Effect::Vanish(contact.clone()));
    }
    if step.route {
        cx.effect(Effect::route(stanza));
    }
    cx.effects.extend(push);
    if !state.shows_us() && step.next.shows_us() {
        cx.effect(Effect::Show(contact.clone()));
    }
    Flow::Stop
}

fn inbound(stanza: &Stanza, cx: &mut Cx<'_>) -> Flow {
    let (Some(verb), Some(account)) = (Verb::of(&stanza.head.ty), cx.account) else {
        return Flow::Continue;
    };
    cx.undelivered = Some(Undelivered::Silent);
    let Some(contact) = stanza.head.from.as_ref().map(Jid::to_bare) else {
        return Flow::Stop;
    };
    if contact == *account.jid || (verb != Verb::Subscribe && misses(stanza, account)) {
        return Flow::Stop;
    }
    let stanza = stanza.clone().with_to(account.jid.clone());
    let row = account.roster.get(contact.as_str()).map(AsRef::as_ref);
    let state = State::of(row);
    let approved = row.is_some_and(|row| row.approved);
    let step = state.inbound(verb, approved);
    let request = match step.next.is_asked() && !state.is_asked() {
        true => match request(&stanza, account.roster, cx) {
            Some(request) => Some(request),
            None => return Flow::Stop,
        },
        false => None,
    };
    let next = (step.next, step.approved);
    let change = Change::new(account.roster, contact, next, request);
    let contact = change.contact.as_jid().clone();
    cx.effects.extend(change.write);
    if step.deliver {
        // Requests go to available resources (section 3.1.3), notices to interested ones.
        let which = match verb {
            Verb::Subscribe => Which::Available,
            _ => Which::Interested,
        };
        let rendered = rendered(Arc::new(stanza.clone()));
        cx.effect(Effect::Local(which, To::Bare, rendered));
        cx.undelivered = None;
    }
    cx.effects.extend(change.push);
    if state.shows_us() && !step.next.shows_us() {
        cx.effect(Effect::Vanish(contact.clone()));
    }
    if let Some(reply) = step.reply {
        let mut answer = presence(reply.ty(), account.jid.clone(), contact.clone());
        answer.head.id.clone_from(&stanza.head.id);
        cx.effect(Effect::route(answer));
        if reply == Verb::Subscribed {
            // It was approved in advance, or the contact's side had forgotten: what it has not
            // seen follows.
            cx.effect(Effect::Show(contact.clone()));
        }
    }
    Flow::Continue
}

/// What hearing this from a contact, one after the other, makes of its row; `None`: nothing.
pub(crate) fn heard(roster: &RosterView, contact: &BareJid, said: &[Verb]) -> Option<Effect> {
    let row = roster.get(contact.as_str());
    let approved = row.is_some_and(|row| row.approved);
    let mut next = (State::of(row.map(AsRef::as_ref)), approved);
    for verb in said {
        let step = next.0.inbound(*verb, next.1);
        next = (step.next, step.approved);
    }
    Change::new(roster, contact.clone(), next, None).write
}

/// Section 8.5.3.2.2: notices to a full JID that is not here are ignored.
fn misses(stanza: &Stanza, account: AccountCx<'_>) -> bool {
    let resource = stanza.head.to.as_ref().and_then(Jid::resource);
    resource.is_some_and(|resource| {
        let mut sessions = account.sessions.iter();
        !sessions.any(|session| session.jid.resource_str() == resource)
    })
}

/// The bytes of a request to keep, payload included; `None`: over a bound (section 3.1.3, security
/// warning). The sender is not told: silence is what a contact that does not exist gives too.
fn request(stanza: &Stanza, roster: &RosterView, cx: &Cx<'_>) -> Option<Bytes> {
    let kept = roster.rows().filter(|row| row.pending_in.is_some()).count();
    let bytes = wire(stanza);
    let fits =
        kept < cx.limits.pending_requests_max && bytes.len() <= cx.limits.pending_request_bytes_max;
    if !fits {
        tracing::warn!(kept, bytes = bytes.len(), "subscription request dropped");
    }
    fits.then(|| bytes.into())
}

fn wire(stanza: &Stanza) -> Vec<u8> {
    let mut bytes = Vec::new();
    stanza.write(&mut bytes);
    bytes
}

/// A page of pending requests for a resource that has become available (section 3.1.3.4), and behind
/// which contact the next one begins, if there is one.
pub(crate) fn requests(
    account: &BareJid,
    roster: &RosterView,
    after: Option<&BareJid>,
    max: usize,
) -> (Vec<Arc<Rendered>>, Option<BareJid>) {
    let mut page = Vec::new();
    for row in roster.rows_after(after) {
        let Some(bytes) = &row.pending_in else {
            continue;
        };
        let request = std::str::from_utf8(bytes).ok().map(Stanza::parse);
        let Some(Ok(request)) = request else {
            tracing::error!(jid = %account, contact = %row.jid, "kept request unreadable");
            continue;
        };
        page.push(rendered(Arc::new(request)));
        if page.len() == max {
            return (page, Some(row.jid.clone()));
        }
    }
    (page, None)
}

/// A step of one contact's row.
struct Change {
    contact: BareJid,
    /// The row is to be stored or removed.
    write: Option<Effect>,
    /// Sent when something shows (appendix A.1): "Pending In" does not.
    push: Option<Effect>,
    /// The contact was not in the roster and is now.
    adds_item: bool,
}

impl Change {
    /// `next`: the state afterwards, and whether a request is then approved in advance.
    fn new(
        roster: &RosterView,
        contact: BareJid,
        (next, approved): (State, bool),
        request: Option<Bytes>,
    ) -> Self {
        let old = roster.get(contact.as_str()).map(AsRef::as_ref);
        let state = State::of(old);
        let was_approved = old.is_some_and(|row| row.approved);
        let was_listed = old.is_some_and(RosterRow::is_listed);
        if (next, approved) == (state, was_approved) {
            let (write, push) = (None, None);
            return Self {
                contact,
                write,
                push,
                adds_item: false,
            };
        }
        let mut row = old.cloned().unwrap_or_else(|| new_row(contact.clone()));
        row.subscription = next.subscription();
        row.ask = next.asks();
        row.approved = approved;
        row.pending_in = match next.is_asked() {
            true => request.or(row.pending_in),
            false => None,
        };
        let listed = was_listed || row.subscription != Subscription::None || row.ask || approved;
        if listed {
            row.name.get_or_insert_default();
        }
        let shown = |state: State, approved| (state.subscription(), state.asks(), approved);
        let shows = shown(next, approved) != shown(state, was_approved);
        let push = shows.then(|| push(roster, &row));
        let write = match listed || row.pending_in.is_some() {
            true => Effect::Roster(row),
            false => Effect::RosterRemove(row.jid),
        };
        Self {
            contact,
            write: Some(write),
            push,
            adds_item: listed && !was_listed,
        }
    }
}

/// A contact that nothing is known of.
pub(super) fn new_row(jid: BareJid) -> RosterRow {
    RosterRow {
        jid,
        ver: 0,
        name: None,
        groups: Vec::new(),
        subscription: Subscription::None,
        ask: false,
        pending_in: None,
        approved: false,
    }
}
