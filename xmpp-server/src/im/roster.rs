//! The roster: get, set, remove and pushes.
//!
//! RFC 6121 section 2. A set changes name and groups only; subscriptions are `subscription`'s.
//! Removing an item ends the subscriptions of both sides, also those only asked for (section 2.5).
//! Versions (section 2.6) are `RosterView`'s; a client that knows one gets what changed since.

use super::presence;
use super::subscription::table::State;
use super::subscription::{listed, new_row};
use crate::effect::{Effect, Which};
use crate::hooks::AccountCx;
use crate::limits::Limits;
use crate::modules::{Answer, At, AtSet, Coverage, Info, Iq, IqKind, Module, Scope, Spec};
use crate::random;
use crate::session::Sid;
use crate::session::account::{Account, RosterView};
use crate::session::roster::Changed;
use crate::store::{RosterRow, Subscription};
use std::sync::Arc;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Class, Stanza, To, Ty};
use xmpp_stream::xml::Element;

#[cfg(test)]
mod tests;

/// Changes that are sent one by one to a client that comes with an older version; where there are
/// more, the whole roster takes less (section 2.6.3).
const PUSHES_MAX: usize = 100;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "roster",
            specs: &[Spec {
                id: "RFC 6121",
                version: "2011",
                coverage: Coverage::Complete,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.stream_feature(Element::new(ns::FEATURE_ROSTER_VERSION, "ver"));
        scope.iq_at(AtSet::ACCOUNTS, IqKind::Get, ns::ROSTER, "query", get);
        scope.iq_at(AtSet::ACCOUNTS, IqKind::Set, ns::ROSTER, "query", set);
    }
}

async fn get(iq: Iq) -> Result<Answer, StanzaError> {
    let account = owned(iq.at, iq.account.as_ref())?;
    let asker = iq.asker.as_ref().map(|asker| asker.sid);
    read(&iq.payload, &account.roster(), asker)
}

async fn set(iq: Iq) -> Result<Answer, StanzaError> {
    let account = owned(iq.at, iq.account.as_ref())?;
    let roster = account.roster();
    let state = account.lock();
    let cx = AccountCx {
        jid: &account.jid,
        roster: &roster,
        sessions: &state.sessions,
        left: account.left(),
    };
    Ok(Answer {
        effects: change(&iq.payload, cx, iq.limits())?,
        ..Answer::default()
    })
}

/// Section 2.1: only the own resources; others are refused alike, whether the account exists or no.
fn owned(at: At, account: Option<&Arc<Account>>) -> Result<&Arc<Account>, StanzaError> {
    let account = account.filter(|_| at == At::Own);
    account.ok_or_else(StanzaError::forbidden)
}

/// The answer to a get (section 2.1.3): the roster, or nothing and then the changes since the
/// version that the client has (section 2.6.3).
fn read(query: &Element, roster: &RosterView, asker: Option<Sid>) -> Result<Answer, StanzaError> {
    if query.child(ns::ROSTER, "item").is_some() {
        return Err(StanzaError::bad_request());
    }
    let Some(sid) = asker else {
        return Ok(Answer::with(whole(roster)));
    };
    let known = query.attr("ver").and_then(|ver| roster.since(ver));
    let answer = match known.filter(|changes| changes.len() <= PUSHES_MAX) {
        Some(changes) => Answer {
            after: changes
                .iter()
                .map(|(ver, changed)| interim(sid, &roster.ver_text(*ver), changed))
                .collect(),
            ..Answer::empty()
        },
        None => Answer::with(whole(roster)),
    };
    Ok(answer.effect(Effect::SetInterested(sid)))
}

fn whole(roster: &RosterView) -> Element {
    let ver = roster.ver_text(roster.ver);
    let mut query = Element::new(ns::ROSTER, "query").with_attr("ver", &ver);
    for row in roster.rows().filter(|row| row.is_listed()) {
        query.push(item(row));
    }
    query
}

/// What a set does (sections 2.3 to 2.5).
fn change(
    query: &Element,
    account: AccountCx<'_>,
    limits: &Limits,
) -> Result<Vec<Effect>, StanzaError> {
    let mut items = query
        .children()
        .filter(|child| child.is(ns::ROSTER, "item"));
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(StanzaError::bad_request());
    };
    let jid = item.attr("jid").and_then(|jid| Jid::parse(jid).ok());
    let jid = jid.ok_or_else(StanzaError::bad_request)?.to_bare();
    let old = account.roster.get(jid.as_str()).map(AsRef::as_ref);
    // All other values are the server's to say (section 2.1.2.5).
    if item.attr("subscription") == Some("remove") {
        let old = old.filter(|row| row.is_listed());
        return old
            .map(|row| remove(row, account))
            .ok_or_else(StanzaError::item_not_found);
    }
    if jid == *account.jid {
        return Err(StanzaError::not_allowed());
    }
    let name = item.attr("name").unwrap_or_default();
    let groups = groups(item, limits)?;
    if name.len() > limits.roster_name_bytes_max {
        return Err(StanzaError::not_acceptable());
    }
    if !old.is_some_and(RosterRow::is_listed) && listed(account.roster) >= limits.roster_items_max {
        return Err(StanzaError::resource_constraint());
    }
    let others = account
        .roster
        .rows()
        .filter(|row| row.jid != jid)
        .map(|row| bytes(row))
        .sum::<usize>();
    let mut row = old.cloned().unwrap_or_else(|| new_row(jid));
    // Present, if empty: marks the row as a roster item (see `is_listed`).
    row.name = Some(name.into());
    row.groups = groups;
    if others + bytes(&row) > limits.roster_bytes_max {
        return Err(StanzaError::resource_constraint());
    }
    let push = push(account.roster, &row);
    Ok(vec![Effect::Roster(row), push])
}

/// What a row takes in a roster answer, about.
fn bytes(row: &RosterRow) -> usize {
    let groups = row
        .groups
        .iter()
        .map(|group| group.len() + 16)
        .sum::<usize>();
    row.jid.as_str().len() + row.name.as_deref().map_or(0, str::len) + groups + 64
}

/// The groups of an item: none empty, none too long, none twice (section 2.3.3).
fn groups(item: &Element, limits: &Limits) -> Result<Vec<Box<str>>, StanzaError> {
    let mut groups: Vec<Box<str>> = Vec::new();
    for child in item
        .children()
        .filter(|child| child.is(ns::ROSTER, "group"))
    {
        let group = child.text();
        let is_full = groups.len() >= limits.roster_groups_max;
        if group.is_empty() || group.len() > limits.roster_group_bytes_max || is_full {
            return Err(StanzaError::not_acceptable());
        }
        if groups.iter().any(|other| **other == *group) {
            return Err(StanzaError::bad_request());
        }
        groups.push(group.into());
    }
    Ok(groups)
}

/// Section 2.5.2. A request in either direction ends too: what is not in the roster is not pending.
fn remove(row: &RosterRow, account: AccountCx<'_>) -> Vec<Effect> {
    let state = State::of(Some(row));
    let contact = row.jid.as_jid();
    let notice = |ty| Effect::route(presence(ty, account.jid.clone(), contact.clone()));
    let mut effects = vec![Effect::RosterRemove(row.jid.clone())];
    if state.shows_them() || state.asks() {
        effects.push(notice(Ty::Unsubscribe));
    }
    if state.shows_us() {
        effects.push(Effect::Vanish(contact.clone()));
    }
    if state.shows_us() || state.is_asked() {
        effects.push(notice(Ty::Unsubscribed));
    }
    let ver = account.roster.next_ver();
    effects.push(push_item(Which::Interested, &ver, removed(&row.jid)));
    effects
}

/// A push of an item as it is to be after the next change of this roster (section 2.1.6).
pub(super) fn push(roster: &RosterView, row: &RosterRow) -> Effect {
    push_item(Which::Interested, &roster.next_ver(), item(row))
}

/// A push for who was away when something changed.
fn interim(sid: Sid, ver: &str, changed: &Changed) -> Effect {
    let item = match changed {
        Changed::Item(row) => item(row),
        Changed::Removed(jid) => removed(jid),
    };
    push_item(Which::One(sid), ver, item)
}

fn removed(jid: &BareJid) -> Element {
    Element::new(ns::ROSTER, "item")
        .with_attr("jid", jid.as_str())
        .with_attr("subscription", "remove")
}

fn push_item(which: Which, ver: &str, item: Element) -> Effect {
    let query = Element::new(ns::ROSTER, "query").with_attr("ver", ver);
    let push = Stanza::iq(Ty::Set, &random::token()).with_child(&query.with_child(item));
    Effect::local(which, To::Full, push, Class::Iq)
}

fn item(row: &RosterRow) -> Element {
    let subscription = match row.subscription {
        Subscription::None => "none",
        Subscription::To => "to",
        Subscription::From => "from",
        Subscription::Both => "both",
    };
    let mut item = Element::new(ns::ROSTER, "item").with_attr("jid", row.jid.as_str());
    // An empty name is no name (section 2.4.1).
    if let Some(name) = row.name.as_deref().filter(|name| !name.is_empty()) {
        item.set_attr("name", name);
    }
    item.set_attr("subscription", subscription);
    if row.approved {
        item.set_attr("approved", "true");
    }
    if row.ask {
        item.set_attr("ask", "subscribe");
    }
    for group in &row.groups {
        item.push(Element::new(ns::ROSTER, "group").with_text(group));
    }
    item
}
