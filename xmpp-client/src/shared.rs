//! What the listener shares with handles and receivers: mailboxes, the outbox, the bound JID.

use crate::event::{Event, Events};
use crate::handlers::Handlers;
use crate::limits::Limits;
use crate::mailbox::{Early, Mailbox};
use crate::outbox::Outbox;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tracing::warn;
use xmpp_stream::jid::FullJid;
use xmpp_stream::stream::CloseReason;

/// One client's.
pub(crate) struct Shared {
    receivers: Mutex<Receivers>,
    /// A receiver has made room, or gone.
    pub(crate) room: Notify,
    pub(crate) outbox: Outbox,
    pub(crate) handlers: Handlers,
    pub(crate) limits: Limits,
    jid: Mutex<FullJid>,
    /// The roster has versions (RFC 6121 section 2.6.1).
    pub(crate) has_roster_versions: AtomicBool,
    /// Subscriptions can be approved before they are asked for (RFC 6121 section 3.4).
    pub(crate) has_pre_approval: AtomicBool,
}

#[derive(Default)]
struct Receivers {
    mailboxes: Vec<Mailbox>,
    early: Early<Event>,
    ended: bool,
}

impl Shared {
    pub(crate) fn new(jid: FullJid, limits: Limits) -> Self {
        Self {
            receivers: Mutex::default(),
            room: Notify::new(),
            outbox: Outbox::default(),
            handlers: Handlers::default(),
            limits,
            jid: Mutex::new(jid),
            has_roster_versions: AtomicBool::new(false),
            has_pre_approval: AtomicBool::new(false),
        }
    }

    /// The bound JID.
    pub(crate) fn jid(&self) -> FullJid {
        let jid = self.jid.lock().unwrap_or_else(PoisonError::into_inner);
        jid.clone()
    }

    pub(crate) fn set_jid(&self, jid: FullJid) {
        *self.jid.lock().unwrap_or_else(PoisonError::into_inner) = jid;
    }

    /// A new receiver; the first one gets what came before.
    pub(crate) fn receive(self: &Arc<Self>) -> Events {
        let mailbox = Mailbox::default();
        let mut receivers = self.lock();
        receivers.early.pour(&mailbox);
        if receivers.ended {
            mailbox.close();
        } else {
            receivers.mailboxes.push(mailbox.clone());
        }
        drop(receivers);
        Events {
            mailbox,
            shared: Arc::clone(self),
        }
    }

    /// A receiver for as long as one function takes: what came before, and all that comes while
    /// there is no other, is still kept for the first one that stays.
    pub(crate) fn receive_in_passing(self: &Arc<Self>) -> Events {
        let mailbox = Mailbox::new(true);
        let mut receivers = self.lock();
        match receivers.ended {
            true => mailbox.close(),
            false => receivers.mailboxes.push(mailbox.clone()),
        }
        drop(receivers);
        Events {
            mailbox,
            shared: Arc::clone(self),
        }
    }

    /// Tells every receiver; kept for the first one that stays where there is none.
    pub(crate) fn push(&self, event: Event) {
        let mut receivers = self.lock();
        receivers.mailboxes.retain(|mailbox| !mailbox.is_closed());
        if !receivers.mailboxes.is_empty() && !receivers.any_stays() {
            receivers.early.keep(event.clone(), &self.limits);
        }
        match receivers.mailboxes.split_last() {
            Some((last, others)) => {
                for mailbox in others {
                    mailbox.push(event.clone());
                }
                last.push(event);
            }
            None => receivers.early.keep(event, &self.limits),
        }
    }

    /// Somebody receives events, and goes on to.
    pub(crate) fn has_receivers(&self) -> bool {
        self.lock().any_stays()
    }

    /// No more events. The last one stays for a first receiver that comes later.
    pub(crate) fn end(&self, reason: Option<CloseReason>) {
        if let Some(reason) = reason {
            self.push(Event::Disconnected { reason });
        }
        let mut receivers = self.lock();
        for mailbox in receivers.mailboxes.drain(..) {
            mailbox.close();
        }
        receivers.ended = true;
    }

    /// Some receiver has this much unread.
    pub(crate) fn any(&self, is_behind: fn(&Mailbox, &Limits) -> bool) -> bool {
        let receivers = self.lock();
        let mut mailboxes = receivers.mailboxes.iter();
        mailboxes.any(|mailbox| !mailbox.is_closed() && is_behind(mailbox, &self.limits))
    }

    /// Gives up receivers that have this much unread, and tells the others.
    pub(crate) fn drop_behind(&self, is_behind: fn(&Mailbox, &Limits) -> bool) {
        let mut dropped = 0;
        self.lock().mailboxes.retain(|mailbox| {
            let keep = !is_behind(mailbox, &self.limits);
            if !keep {
                mailbox.close();
                dropped += 1;
            }
            keep
        });
        for _ in 0..dropped {
            warn!("a receiver does not keep up and gets no more events");
            self.push(Event::ReceiverDropped);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Receivers> {
        self.receivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receivers {
    fn any_stays(&self) -> bool {
        let mut mailboxes = self.mailboxes.iter();
        mailboxes.any(|mailbox| !mailbox.is_passing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::stanza::{Stanza, Ty};

    fn shared() -> Arc<Shared> {
        let jid = FullJid::parse("ann@a.test/x").unwrap();
        Arc::new(Shared::new(jid, Limits::default()))
    }

    fn event(number: usize) -> Event {
        Event::Stanza(Stanza::message(Ty::None).with_id(&number.to_string()))
    }

    async fn next_id(events: &mut Events) -> Option<String> {
        events.next_stanza().await?.head.id.map(Into::into)
    }

    #[tokio::test]
    async fn the_first_receiver_gets_the_newest_early_events() {
        let shared = shared();
        for number in 0..shared.limits.early_events_max + 2 {
            shared.push(event(number));
        }
        let mut first = shared.receive();
        let mut second = shared.receive();
        shared.push(event(999));
        shared.end(Some(CloseReason::Clean));
        assert_eq!(next_id(&mut first).await.as_deref(), Some("2"));
        assert_eq!(next_id(&mut second).await.as_deref(), Some("999"));
        assert_eq!(next_id(&mut second).await, None);
    }

    #[tokio::test]
    async fn a_receiver_in_passing_takes_nothing_from_the_first() {
        let shared = shared();
        shared.push(event(1));
        let mut passing = shared.receive_in_passing();
        assert!(!shared.has_receivers());
        shared.push(event(2));
        assert_eq!(next_id(&mut passing).await.as_deref(), Some("2"));
        drop(passing);
        shared.push(event(3));
        let mut first = shared.receive();
        let mut passing = shared.receive_in_passing();
        shared.push(event(4));
        shared.end(None);
        for id in ["1", "2", "3", "4"] {
            assert_eq!(next_id(&mut first).await.as_deref(), Some(id));
        }
        assert_eq!(next_id(&mut first).await, None);
        assert_eq!(next_id(&mut passing).await.as_deref(), Some("4"));
        assert_eq!(next_id(&mut passing).await, None);
    }

    #[tokio::test]
    async fn a_receiver_after_the_end_learns_of_the_end() {
        let shared = shared();
        shared.end(Some(CloseReason::Eof));
        let mut events = shared.receive();
        assert!(matches!(
            events.next().await,
            Some(Event::Disconnected {
                reason: CloseReason::Eof
            })
        ));
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn a_receiver_that_is_behind_is_dropped_and_the_others_are_told() {
        let shared = shared();
        let mut slow = shared.receive();
        let mut quick = shared.receive();
        for number in 0..shared.limits.events_max {
            assert!(!shared.any(Mailbox::is_full));
            shared.push(event(number));
            assert!(quick.next().await.is_some());
        }
        assert!(shared.any(Mailbox::is_full));
        shared.drop_behind(Mailbox::is_full);
        assert!(!shared.any(Mailbox::is_full));
        assert!(matches!(quick.next().await, Some(Event::ReceiverDropped)));
        shared.push(event(0));
        assert!(matches!(quick.next().await, Some(Event::Stanza(_))));
        for _ in 0..shared.limits.events_max {
            assert!(slow.next().await.is_some());
        }
        assert!(slow.next().await.is_none());
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_holds_up_nobody() {
        let shared = shared();
        let events = shared.receive();
        for number in 0..shared.limits.events_max {
            shared.push(event(number));
        }
        drop(events);
        assert!(!shared.any(Mailbox::is_full));
    }
}
