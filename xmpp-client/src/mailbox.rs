//! The queue of one receiver of events: a callback, or a stream of events.
//!
//! Written by the listener, read by the receiver's own task; what happens at the bound is the
//! listener's decision (DESIGN 1). The lock is held for a push or a pop, never while a callback runs.

use crate::event::Event;
use crate::limits::Limits;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Slots kept of an empty queue.
const KEEP: usize = 4;

/// What a mailbox holds.
pub(crate) trait Weigh {
    /// Bytes it holds, about.
    fn weight(&self) -> usize;
}

/// What happened before anybody received; the newest are kept.
pub(crate) struct Early<T> {
    events: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Early<T> {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<T: Weigh> Early<T> {
    pub(crate) fn keep(&mut self, event: T, limits: &Limits) {
        self.bytes += event.weight();
        self.events.push_back(event);
        while self.events.len() > limits.early_events_max
            || self.events.len() > 1 && self.bytes > limits.early_bytes_max
        {
            let oldest = self.events.pop_front();
            self.bytes -= oldest.map_or(0, |event| event.weight());
        }
    }

    /// The first receiver gets them all.
    pub(crate) fn pour(&mut self, mailbox: &Mailbox<T>) {
        for event in std::mem::take(self).events {
            mailbox.push(event);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }
}

/// One receiver's queue, shared by who writes it and the receiver.
pub(crate) struct Mailbox<T = Event> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    changed: Notify,
    /// Read by a function that looks for something and is gone soon.
    is_passing: bool,
}

struct Queue<T> {
    events: VecDeque<T>,
    bytes: usize,
    closed: bool,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self::new(false)
    }
}

impl<T> Mailbox<T> {
    /// An empty one; `is_passing`: for a receiver that stands for no other.
    pub(crate) fn new(is_passing: bool) -> Self {
        let queue = Mutex::new(Queue {
            events: VecDeque::new(),
            bytes: 0,
            closed: false,
        });
        Self {
            shared: Arc::new(Shared {
                queue,
                changed: Notify::new(),
                is_passing,
            }),
        }
    }

    pub(crate) fn is_passing(&self) -> bool {
        self.shared.is_passing
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T: Weigh> Mailbox<T> {
    /// Appends an event; nothing happens once the mailbox is closed.
    pub(crate) fn push(&self, event: T) {
        let mut queue = self.lock();
        if !queue.closed {
            queue.bytes += event.weight();
            queue.events.push_back(event);
            drop(queue);
            self.shared.changed.notify_one();
        }
    }

    /// The next event; `None` when the mailbox is closed and empty. Cancel-safe.
    pub(crate) async fn next(&self, room: &Notify) -> Option<T> {
        loop {
            let changed = self.shared.changed.notified();
            {
                let mut queue = self.lock();
                if let Some(event) = queue.events.pop_front() {
                    queue.bytes -= event.weight();
                    if queue.events.is_empty() {
                        queue.events.shrink_to(KEEP);
                    }
                    drop(queue);
                    room.notify_one();
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Nothing more comes in; what is there can still be read.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.shared.changed.notify_one();
    }

    /// Nothing more comes in or goes out.
    pub(crate) fn discard(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.events.clear();
        queue.bytes = 0;
        drop(queue);
        self.shared.changed.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// At the bound of a receiver that may be waited for.
    pub(crate) fn is_full(&self, limits: &Limits) -> bool {
        let queue = self.lock();
        queue.events.len() >= limits.events_max || queue.bytes >= limits.events_bytes_max
    }

    /// At the bound that holds even while a request waits for its answer.
    pub(crate) fn is_overfull(&self, limits: &Limits) -> bool {
        self.lock().bytes >= limits.events_bytes_max
    }

    /// Twice as far behind as a receiver may be: nobody reads it.
    pub(crate) fn is_forgotten(&self, limits: &Limits) -> bool {
        self.lock().events.len() >= limits.events_max.saturating_mul(2)
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.shared
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::stanza::{Stanza, Ty};

    fn event(id: &str) -> Event {
        Event::Stanza(Stanza::message(Ty::None).with_id(id))
    }

    fn id(event: Option<Event>) -> Option<String> {
        match event? {
            Event::Stanza(stanza) => stanza.head.id.map(Into::into),
            _ => None,
        }
    }

    #[tokio::test]
    async fn mailbox_keeps_order_and_ends_when_closed() {
        let (mailbox, room) = (<Mailbox>::default(), Notify::new());
        mailbox.push(event("1"));
        mailbox.push(event("2"));
        mailbox.close();
        mailbox.push(event("3"));
        assert_eq!(id(mailbox.next(&room).await).as_deref(), Some("1"));
        assert_eq!(id(mailbox.next(&room).await).as_deref(), Some("2"));
        assert!(mailbox.next(&room).await.is_none());
    }

    #[tokio::test]
    async fn mailbox_wakes_its_reader_and_says_when_there_is_room() {
        let (mailbox, room) = (<Mailbox>::default(), Arc::new(Notify::new()));
        let reader = {
            let (mailbox, room) = (mailbox.clone(), room.clone());
            tokio::spawn(async move { id(mailbox.next(&room).await) })
        };
        mailbox.push(event("1"));
        room.notified().await;
        assert_eq!(reader.await.unwrap().as_deref(), Some("1"));
    }

    #[test]
    fn mailbox_is_full_at_its_bounds() {
        let (mailbox, limits) = (<Mailbox>::default(), Limits::default());
        for _ in 0..limits.events_max {
            assert!(!mailbox.is_full(&limits));
            mailbox.push(event("1"));
        }
        assert!(mailbox.is_full(&limits));
        assert!(!mailbox.is_overfull(&limits));
        let large = <Mailbox>::default();
        let long = "x".repeat(limits.events_bytes_max / 2);
        for _ in 0..2 {
            assert!(!large.is_full(&limits));
            large.push(Event::Stanza(Stanza::chat("a.test", &long).unwrap()));
        }
        assert!(large.is_full(&limits) && large.is_overfull(&limits));
    }
}
