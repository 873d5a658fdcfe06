//! What is remembered of conversations: chat states, receipts awaited, who sent which message.
//!
//! XEP-0085 section 5, XEP-0184 section 5, XEP-0308 section 5. All of it is bounded and forgets the
//! oldest.

use super::event::ChatState;
use super::options::ProtocolLimits;
use std::collections::{HashMap, VecDeque};
use xmpp_stream::jid::{BareJid, Jid};

/// Longer ids are not remembered.
const ID_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Chats {
    chats: HashMap<BareJid, Chat>,
    tick: u64,
    /// Ids of messages that asked for a receipt, and whom they were sent to.
    awaited: VecDeque<(Box<str>, BareJid)>,
    /// Ids of messages, in which conversation, and who sent them.
    senders: VecDeque<(Box<str>, BareJid, Jid)>,
}

#[derive(Debug, Default)]
struct Chat {
    /// `None`: not known yet.
    takes_states: Option<bool>,
    /// What we last said of ourselves.
    told: Option<ChatState>,
    tick: u64,
}

impl Chats {
    /// Whether they take chat states; `None`: they have not answered yet.
    pub(super) fn takes_states(&self, with: &str) -> Option<bool> {
        self.chats.get(with)?.takes_states
    }

    /// They wrote or said something of themselves: with a chat state or without.
    pub(super) fn heard(&mut self, with: &BareJid, has_state: bool, limits: &ProtocolLimits) {
        self.chat(with, limits).takes_states = Some(has_state);
    }

    /// Section 5.3: true when this state may be told, which is remembered.
    pub(super) fn tell(
        &mut self,
        with: &BareJid,
        state: ChatState,
        limits: &ProtocolLimits,
    ) -> bool {
        let chat = self.chat(with, limits);
        let is_new = chat.told != Some(state);
        chat.told = Some(state);
        is_new
    }

    fn chat(&mut self, with: &BareJid, limits: &ProtocolLimits) -> &mut Chat {
        self.tick += 1;
        if !self.chats.contains_key(with) && self.chats.len() >= limits.chats.max(1) {
            let oldest = self.chats.iter().min_by_key(|(_, chat)| chat.tick);
            if let Some(oldest) = oldest.map(|(jid, _)| jid.clone()) {
                self.chats.remove(&oldest);
            }
        }
        let chat = self.chats.entry(with.clone()).or_default();
        chat.tick = self.tick;
        chat
    }

    /// A message that asks for a receipt goes out.
    pub(super) fn await_receipt(&mut self, id: &str, to: BareJid, limits: &ProtocolLimits) {
        if id.len() > ID_MAX {
            return;
        }
        make_room(&mut self.awaited, limits.receipts);
        self.awaited.push_back((id.into(), to));
    }

    /// True when this receipt is from somebody whom that message was sent to. There may be several,
    /// from several devices.
    pub(super) fn is_awaited(&self, id: &str, from: &Jid) -> bool {
        let mut awaited = self.awaited.iter();
        awaited.any(|(other, to)| **other == *id && to.as_str() == from.bare_str())
    }

    /// Remembers who sent a message in the conversation with `with`.
    pub(super) fn sent(&mut self, id: &str, with: BareJid, by: Jid, limits: &ProtocolLimits) {
        if id.len() > ID_MAX {
            return;
        }
        make_room(&mut self.senders, limits.messages);
        self.senders.push_back((id.into(), with, by));
    }

    /// False when the message of this id in this conversation is from somebody else. An id that is
    /// not remembered may be anybody's who takes part in it.
    pub(super) fn may_correct(&self, id: &str, with: &str, by: &Jid) -> bool {
        let is_it =
            |(other, chat, _): &&(Box<str>, BareJid, Jid)| **other == *id && chat.as_str() == with;
        // Who chose an id twice corrects the last of both; somebody else's is never touched.
        let mut all = self.senders.iter().filter(is_it);
        all.all(|(_, _, sender)| sender == by)
    }
}

fn make_room<T>(queue: &mut VecDeque<T>, max: usize) {
    while queue.len() >= max.max(1) {
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    const SMALL: fn() -> ProtocolLimits = || ProtocolLimits {
        chats: 2,
        messages: 2,
        receipts: 2,
        ..ProtocolLimits::default()
    };

    #[test]
    fn a_state_is_told_once_in_a_row() {
        let (mut chats, ben, limits) = (Chats::default(), bare("ben@b.test"), SMALL());
        assert_eq!(chats.takes_states("ben@b.test"), None);
        assert!(chats.tell(&ben, ChatState::Composing, &limits));
        assert!(!chats.tell(&ben, ChatState::Composing, &limits));
        assert!(chats.tell(&ben, ChatState::Paused, &limits));
        chats.heard(&ben, true, &limits);
        assert_eq!(chats.takes_states("ben@b.test"), Some(true));
        for other in ["c.test", "d.test"] {
            chats.heard(&bare(other), false, &limits);
        }
        assert_eq!(chats.chats.len(), 2);
        assert_eq!(chats.takes_states("ben@b.test"), None);
    }

    #[test]
    fn receipts_count_from_whom_the_message_went_to() {
        let (mut chats, limits) = (Chats::default(), SMALL());
        chats.await_receipt("1", bare("ben@b.test"), &limits);
        assert!(chats.is_awaited("1", &jid("ben@b.test/x")));
        assert!(chats.is_awaited("1", &jid("ben@b.test/y")));
        assert!(!chats.is_awaited("1", &jid("eve@b.test/x")));
        assert!(!chats.is_awaited("2", &jid("ben@b.test/x")));
        for id in ["2", "3"] {
            chats.await_receipt(id, bare("ben@b.test"), &limits);
        }
        assert!(!chats.is_awaited("1", &jid("ben@b.test/x")), "forgotten");
        chats.await_receipt(&"x".repeat(ID_MAX + 1), bare("ben@b.test"), &limits);
        assert!(chats.is_awaited("3", &jid("ben@b.test/x")));
    }

    #[test]
    fn ck_10_nobody_corrects_what_others_said() {
        let (mut chats, limits) = (Chats::default(), SMALL());
        chats.sent("1", bare("ben@b.test"), jid("ben@b.test"), &limits);
        assert!(chats.may_correct("1", "ben@b.test", &jid("ben@b.test")));
        assert!(!chats.may_correct("1", "ben@b.test", &jid("ann@a.test")));
        chats.sent("1", bare("ben@b.test"), jid("ann@a.test"), &limits);
        assert!(!chats.may_correct("1", "ben@b.test", &jid("ben@b.test")));
        assert!(chats.may_correct("1", "eve@b.test", &jid("eve@b.test")));
        for id in ["2", "3"] {
            chats.sent(id, bare("ben@b.test"), jid("ann@a.test"), &limits);
        }
        assert_eq!(chats.senders.len(), 2);
    }
}
