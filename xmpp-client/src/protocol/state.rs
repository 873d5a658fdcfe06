//! What the messaging logic knows, and what a received stanza makes of it.
//!
//! A value without tasks or clocks: stanzas go in; events for the program and stanzas to be sent come
//! out, in the order of what was received.

use super::answers::Answers;
use super::caps::{self, CapsCache};
use super::chats::Chats;
use super::event::{ChatState, ImEvent};
use super::message::{Message, MessageKind, Outgoing, child_id};
use super::options::Options;
use super::presence::{self, Availability, Presence, Presences};
use super::roster::{Push, Roster};
use crate::ext::blocking::{self, Change};
use crate::ext::carbons::{self, Direction};
use crate::ext::{fresh_id, is_from_own_account};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::ns::{self, name};
use xmpp_stream::payload::caps::Caps;
use xmpp_stream::payload::disco::Info;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// Everything that is known.
pub(super) struct State {
    pub(super) own: FullJid,
    pub(super) options: Options,
    pub(super) answers: Arc<Answers>,
    pub(super) roster: Roster,
    pub(super) presences: Presences,
    pub(super) blocked: Option<BTreeSet<Jid>>,
    /// Pushes about it that came.
    pub(super) blocked_changes: u64,
    /// What we told of ourselves; `None`: we are not available.
    pub(super) available: Option<Availability>,
    /// Those who were told by themselves that we are available.
    directed: HashSet<Jid>,
    chats: Chats,
    caps: CapsCache,
}

/// What comes of a stanza.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) events: Vec<ImEvent>,
    pub(super) send: Vec<Stanza>,
}

impl State {
    pub(super) fn new(own: FullJid, mut options: Options) -> Self {
        let answers = Arc::new(Answers::new(&options));
        let roster = Roster::new(std::mem::take(&mut options.roster));
        Self {
            own,
            options,
            answers,
            roster,
            presences: Presences::default(),
            blocked: None,
            blocked_changes: 0,
            available: None,
            directed: HashSet::new(),
            chats: Chats::default(),
            caps: CapsCache::default(),
        }
    }

    /// A stream was bound anew: nothing that the server told before holds.
    pub(super) fn begin(&mut self, own: FullJid) {
        self.own = own;
        self.roster.unload();
        self.presences.clear();
        self.blocked = None;
        self.directed.clear();
        self.caps.forget_asked();
    }

    /// A stanza was received.
    pub(super) fn receive(&mut self, stanza: &Stanza) -> Outcome {
        let mut out = Outcome::default();
        match (stanza.kind, &stanza.head.ty) {
            (Kind::Message, _) => self.message(stanza, &mut out),
            (Kind::Presence, _) => self.presence(stanza, &mut out),
            (Kind::Iq, Ty::Result | Ty::Error) => self.caps.answered(stanza, &self.options.limits),
            (Kind::Iq, _) => self.push(stanza, &mut out),
        }
        out
    }

    // Messages

    fn message(&mut self, stanza: &Stanza, out: &mut Outcome) {
        match carbons::read(&self.own, stanza) {
            Ok(None) => {}
            Ok(Some(carbon)) => return self.copy(carbon.direction, &carbon.message, out),
            // Row ck-02: a copy is what our own server says it is, or nothing.
            Err(forged) => return tracing::debug!(%forged, "not a copy"),
        }
        if let Some(error) = stanza.error() {
            out.events.push(ImEvent::MessageFailed {
                from: stanza.head.from.clone(),
                id: stanza.head.id.as_deref().map(Into::into),
                error,
            });
            return;
        }
        self.direct(stanza, None, out);
        self.acknowledge(stanza, out);
    }

    /// A copy of what another device of ours has sent or received.
    fn copy(&mut self, direction: Direction, message: &Stanza, out: &mut Outcome) {
        let from = message.head.from.as_ref();
        let is_ours = from.is_some_and(|from| from.bare_str() == self.own.bare_str());
        let is_error = message.head.ty == Ty::Error;
        let is_copy = message.kids.iter().any(|kid| kid.ns == ns::id::CARBONS);
        // What we are said to have sent is from us.
        if !is_error && !is_copy && (direction == Direction::Received || is_ours) {
            self.direct(message, Some(direction), out);
        }
    }

    fn direct(&mut self, stanza: &Stanza, carbon: Option<Direction>, out: &mut Outcome) {
        let own = self.own.as_jid().clone();
        let from = stanza
            .head
            .from
            .clone()
            .unwrap_or_else(|| own.to_bare().into_jid());
        let is_room = stanza.head.ty == Ty::Groupchat;
        let is_sent = carbon == Some(Direction::Sent);
        if !is_room && !is_sent {
            self.signs(stanza, &from, out);
        }
        let Some(mut message) = Message::read(stanza, &own) else {
            return;
        };
        message.carbon = carbon;
        // The other end of the conversation, and who of it speaks: in a room, each occupant.
        let other = if is_sent {
            message.to.as_ref()
        } else {
            Some(&from)
        };
        let with = other.unwrap_or(&from).to_bare();
        // Row ck-12: a private message in a room is an occupant's too, marked by the room.
        let is_private = stanza.kids.iter().any(|kid| kid.ns == ns::id::MUC_USER);
        let by = match message.kind {
            MessageKind::Groupchat => from,
            _ if is_private => from,
            _ => from.to_bare().into_jid(),
        };
        if let Some(id) = &message.corrects
            && !self.chats.may_correct(id, with.as_str(), &by)
        {
            tracing::debug!(%by, "a correction of what somebody else said");
            message.corrects = None;
        }
        if let Some(id) = &message.id {
            self.chats.sent(id, with, by, &self.options.limits);
        }
        out.events.push(ImEvent::Message(Box::new(message)));
    }

    /// Chat states and receipts.
    fn signs(&mut self, stanza: &Stanza, from: &Jid, out: &mut Outcome) {
        let state = stanza.kids.iter().find(|kid| kid.ns == ns::id::CHAT_STATES);
        let state = state.and_then(|kid| ChatState::of(&stanza.kid_name(kid).1));
        let has_body = stanza.has(ns::id::CLIENT, name::BODY);
        let is_late = stanza.has(ns::id::DELAY, name::DELAY);
        if self.options.chat_states && !is_late && (state.is_some() || has_body) {
            self.chats
                .heard(&from.to_bare(), state.is_some(), &self.options.limits);
        }
        if let Some(state) = state.filter(|_| !is_late) {
            let from = from.clone();
            out.events.push(ImEvent::ChatState { from, state });
        }
        if let Some(id) = child_id(stanza, ns::id::RECEIPTS, "received")
            && self.chats.is_awaited(&id, from)
        {
            let from = from.clone();
            out.events.push(ImEvent::ReceiptReceived { from, id });
        }
    }

    /// XEP-0184 section 5: what asks for a receipt gets one, if who asks may see us anyway.
    fn acknowledge(&self, stanza: &Stanza, out: &mut Outcome) {
        let is_asked = stanza.has(ns::id::RECEIPTS, name::REQUEST)
            && !stanza.has(ns::id::RECEIPTS, name::RECEIVED)
            && stanza.head.ty != Ty::Groupchat;
        let (Some(id), Some(from)) = (&stanza.head.id, &stanza.head.from) else {
            return;
        };
        if is_asked && self.options.receipts && self.may_see_us(from) {
            let received = Element::new(ns::RECEIPTS, "received").with_attr("id", id);
            let mut receipt = Stanza::message(stanza.head.ty.clone())
                .with_to(from.clone())
                .with_child(&received);
            receipt.head.id = Some(fresh_id().into());
            out.send.push(receipt);
        }
    }

    fn may_see_us(&self, who: &Jid) -> bool {
        let contact = self.roster.contact(who.bare_str());
        who.bare_str() == self.own.bare_str()
            || contact.is_some_and(|contact| contact.subscription.is_from())
            || self.directed.contains(who)
            || self.directed.contains(who.to_bare().as_jid())
    }

    /// A message goes out: with its id, and with what the recipient is asked for.
    pub(super) fn send(&mut self, message: &Outgoing) -> (String, Stanza) {
        let limits = self.options.limits;
        let id = message.id.clone().unwrap_or_else(fresh_id);
        let to = message.to.to_bare();
        let tells_state = message.wants_states
            && self.options.chat_states
            && self.takes_states(&message.to) != Some(false);
        if tells_state {
            self.chats.tell(&to, ChatState::Active, &limits);
        }
        let asks_receipt = message.wants_receipt && self.takes_receipts(&message.to);
        if asks_receipt {
            self.chats.await_receipt(&id, to.clone(), &limits);
        }
        let by = self.own.as_jid().to_bare().into_jid();
        self.chats.sent(&id, to, by, &limits);
        let stanza = message.to_stanza(&id, asks_receipt, tells_state);
        (id, stanza)
    }

    /// A chat state to tell; `None`: they do not take any, or were told it.
    pub(super) fn tell(&mut self, to: &Jid, state: ChatState) -> Option<Stanza> {
        let is_taken = self.options.chat_states && self.takes_states(to) == Some(true);
        let limits = self.options.limits;
        (is_taken && self.chats.tell(&to.to_bare(), state, &limits)).then(|| {
            let state = Element::new(ns::CHAT_STATES, state.as_str());
            Stanza::message(Ty::Chat)
                .with_to(to.clone())
                .with_child(&state)
        })
    }

    /// What they did last counts, else what their program can do.
    fn takes_states(&mut self, to: &Jid) -> Option<bool> {
        let known = self.chats.takes_states(to.bare_str());
        known.or_else(|| Some(self.info_of(to)?.has(ns::CHAT_STATES)))
    }

    /// XEP-0184 section 5: of a device, if it can; of an account, always.
    fn takes_receipts(&mut self, to: &Jid) -> bool {
        to.is_bare() || self.info_of(to).is_some_and(|info| info.has(ns::RECEIPTS))
    }

    // Presence

    fn presence(&mut self, stanza: &Stanza, out: &mut Outcome) {
        let Some(from) = &stanza.head.from else {
            return;
        };
        let contact = from.to_bare();
        let event = match &stanza.head.ty {
            // Occupants of rooms are the room's business.
            Ty::None | Ty::Unavailable if is_of_room(stanza) => return,
            Ty::None | Ty::Unavailable => return self.availability(stanza, out),
            Ty::Subscribe => ImEvent::SubscriptionRequest {
                from: contact,
                text: presence::status(stanza),
            },
            Ty::Subscribed => ImEvent::Subscribed { from: contact },
            Ty::Unsubscribe => ImEvent::Unsubscribed { from: contact },
            Ty::Unsubscribed => ImEvent::SubscriptionRefused { from: contact },
            Ty::Error => {
                self.presences.forget(&contact);
                let error = stanza.error();
                let from = Some(from.clone());
                match error {
                    Some(error) => ImEvent::PresenceFailed { from, error },
                    None => return,
                }
            }
            _ => return,
        };
        out.events.push(event);
    }

    fn availability(&mut self, stanza: &Stanza, out: &mut Outcome) {
        let Some(presence) = Presence::read(stanza) else {
            return;
        };
        let limits = self.options.limits;
        let caps = Caps::find(stanza);
        let key = caps.as_ref().map(caps::key);
        self.presences.told(&presence, key, &limits);
        if let Some(caps) = caps.filter(|_| presence.is_available && self.may_ask(&presence.from)) {
            let question = self.caps.ask(&presence.from, &caps, &fresh_id(), &limits);
            out.send.extend(question);
        }
        out.events.push(ImEvent::Presence(Box::new(presence)));
    }

    /// Whoever we watch; a stranger's presence makes us ask nothing.
    fn may_ask(&self, who: &Jid) -> bool {
        let contact = self.roster.contact(who.bare_str());
        let is_other_device = who.bare_str() == self.own.bare_str() && who != self.own.as_jid();
        is_other_device || contact.is_some_and(|contact| contact.subscription.is_to())
    }

    /// What the program of this device can do, as far as its presence told.
    pub(super) fn info_of(&mut self, device: &Jid) -> Option<Arc<Info>> {
        let key = self.presences.caps_of(device)?.clone();
        self.caps.info(&key)
    }

    /// Our presence for everybody who may see it.
    pub(super) fn own_presence(&self) -> Option<Stanza> {
        Some(self.available.as_ref()?.to_stanza(&self.answers.caps()))
    }

    /// Our presence for one entity, which is remembered.
    pub(super) fn direct_presence(&mut self, to: &Jid) -> Stanza {
        // Bounded by what this program itself does.
        self.directed.insert(to.clone());
        let available = self.available.clone().unwrap_or_default();
        available
            .to_stanza(&self.answers.caps())
            .with_to(to.clone())
    }

    /// We are no longer available, to this entity or to anybody.
    pub(super) fn leave(&mut self, to: Option<&Jid>) {
        match to {
            Some(to) => {
                self.directed.remove(to);
            }
            None => {
                self.available = None;
                self.directed.clear();
                self.presences.clear();
            }
        }
    }

    // Pushes

    /// Requests are answered elsewhere; what they say of roster and blocked addresses is taken in here.
    fn push(&mut self, iq: &Stanza, out: &mut Outcome) {
        // Row ck-01.
        if iq.head.ty != Ty::Set || !is_from_own_account(&self.own, iq) || iq.kids.len() != 1 {
            return;
        }
        let limits = self.options.limits;
        match iq.kids.first().map(|kid| kid.ns) {
            Some(ns::id::ROSTER) => {
                let push = iq.first_element().and_then(|query| Push::read(&query));
                let Some((push, ver)) = push else {
                    return;
                };
                self.roster.pushed(push.clone(), ver, &limits);
                out.events.push(match push {
                    Push::Changed(contact) => ImEvent::RosterChanged(contact),
                    Push::Removed(jid) => {
                        self.presences.forget(&jid);
                        ImEvent::RosterRemoved(jid)
                    }
                });
            }
            Some(ns::id::BLOCKING) => {
                if let Ok(Some(change)) = blocking::read_push(&self.own, iq) {
                    self.blocked_changes += 1;
                    self.change_blocked(change);
                    out.events.push(ImEvent::BlockedChanged);
                }
            }
            _ => {}
        }
    }

    /// Takes in what is blocked now; nothing before the list was asked for.
    pub(super) fn change_blocked(&mut self, change: Change) {
        let max = self.options.limits.blocked;
        let Some(blocked) = &mut self.blocked else {
            return;
        };
        match change {
            Change::Blocked(jids) => {
                let room = max.saturating_sub(blocked.len());
                blocked.extend(jids.into_iter().take(room));
            }
            Change::Unblocked(jids) => jids.iter().for_each(|jid| {
                blocked.remove(jid);
            }),
            Change::AllUnblocked => blocked.clear(),
        }
    }
}

fn is_of_room(presence: &Stanza) -> bool {
    presence.has(ns::id::MUC_USER, name::X)
}

/// The contact that a presence of subscription is sent to.
pub(super) fn subscription(ty: Ty, to: &BareJid, text: Option<&str>) -> Stanza {
    let stanza = Stanza::presence(ty).with_to(to.clone());
    match text {
        Some(text) => stanza.with_child(&Element::new(ns::CLIENT, "status").with_text(text)),
        None => stanza,
    }
}

#[cfg(test)]
mod tests;
