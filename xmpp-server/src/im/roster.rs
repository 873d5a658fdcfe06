//! The roster: get, set, remove and pushes.
//!
//! RFC 6121 section 2. A set changes name and groups only; subscriptions are `subscription`'s.
//! Removing an item ends the subscriptions of both sides, also those only asked for (section 2.5).
//! Not here yet: versioning (section 2.6).

use super::presence;
use super::subscription::table::State;
use super::subscription::{is_listed, listed, new_row};
use crate::effect::{Effect, Which};
use crate::hooks::AccountCx;
use crate::limits::Limits;
use crate::modules::{Answer, At, AtSet, Coverage, Info, Iq, IqKind, Module, Scope, Spec};
use crate::random;
use crate::session::account::{Account, RosterView};
use crate::store::{RosterRow, Subscription};
use std::sync::Arc;
use xmpp_stream::error::StanzaError;
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Class, Stanza, To, Ty};
use xmpp_stream::xml::Element;

#[cfg(test)]
mod tests;

/// The module.
pub(super) struct Feature;

impl Module for Feature {
    fn info(&self) -> &'static Info {
        &Info {
            name: "roster",
            specs: &[Spec {
                id: "RFC 6121",
                version: "2011",
                coverage: Coverage::Partial,
            }],
        }
    }

    fn register(&self, scope: &mut Scope<'_>) {
        scope.iq_at(AtSet::ACCOUNTS, IqKind::Get, ns::ROSTER, "query", get);
        scope.iq_at(AtSet::ACCOUNTS, IqKind::Set, ns::ROSTER, "query", set);
    }
}

async fn get(iq: Iq) -> Result<Answer, StanzaError> {
    let account = owned(iq.at, iq.account.as_ref())?;
    let answer = Answer::with(read(&iq.payload, &account.roster())?);
    Ok(match &iq.asker {
        Some(asker) => answer.effect(Effect::SetInterested(asker.sid)),
        None => answer,
    })
}

async fn set(iq: Iq) -> Result<Answer, StanzaError> {
    let account = owned(iq.at, iq.account.as_ref())?;
    let roster = account.roster();
    let state = account.lock();
    let cx = AccountCx {
        jid: &account.jid,
        roster: &roster,
        sessions: &state.sessions,
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

/// The answer to a get (section 2.1.3).
fn read(query: &Element, roster: &RosterView) -> Result<Element, StanzaError> {
    if query.child(ns::ROSTER, "item").is_some() {
        return Err(StanzaError::bad_request());
    }
    let mut answer = Element::new(ns::ROSTER, "query");
    for row in roster.rows().filter(|row| is_listed(row)) {
        answer.push(item(row));
    }
    Ok(answer)
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
        let old = old.filter(|row| is_listed(row));
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
    if !old.is_some_and(is_listed) && listed(account.roster) >= limits.roster_items_max {
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
    let push = push(&row);
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
    effects.push(push_removed(&row.jid));
    effects
}

/// A push of an item as it is (section 2.1.6).
pub(super) fn push(row: &RosterRow) -> Effect {
    push_item(item(row))
}

fn push_removed(jid: &BareJid) -> Effect {
    let item = Element::new(ns::ROSTER, "item")
        .with_attr("jid", jid.as_str())
        .with_attr("subscription", "remove");
    push_item(item)
}

fn push_item(item: Element) -> Effect {
    let query = Element::new(ns::ROSTER, "query").with_child(item);
    let push = Stanza::iq(Ty::Set, &random::token()).with_child(&query);
    Effect::local(Which::Interested, To::Full, push, Class::Iq)
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
    if row.ask {
        item.set_attr("ask", "subscribe");
    }
    for group in &row.groups {
        item.push(Element::new(ns::ROSTER, "group").with_text(group));
    }
    item
}
