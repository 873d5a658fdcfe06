//! `XmppListener`: the task that always reads; sole owner of the stream.
//!
//! It hands what is received to every receiver's mailbox, and writes what the client sends. A
//! receiver that does not keep up stops it from reading, for a minute at most (DESIGN 1).

use crate::error::IqError;
use crate::event::{Event, Events};
use crate::mailbox::Mailbox;
use crate::request::Requests;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};
use xmpp_stream::driver::{Driver, Turn};
use xmpp_stream::jid::FullJid;
use xmpp_stream::stanza::{Item, Stanza};
use xmpp_stream::stream::{CloseReason, Initiator, Machine, Output};
use xmpp_stream::xml::Refused;

/// What clients may have asked for that the listener has not begun.
pub(crate) const COMMANDS_MAX: usize = 64;
/// Bytes not yet taken by the transport, above which nothing more is sent.
const UNWRITTEN_MAX: usize = 64 * 1024;
/// Events kept while nobody receives them.
const EARLY_MAX: usize = 256;
/// How long a full mailbox stops the listener from reading.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long the last bytes and the end of TLS may take.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// What a client asks of the listener.
pub(crate) enum Command {
    /// Send, and say when it was written.
    Send(Box<Stanza>, oneshot::Sender<()>),
    /// Send, and hand over the answer.
    Request(Box<Stanza>, oneshot::Sender<Result<Stanza, IqError>>),
    /// Close the stream.
    Disconnect,
}

/// What the listener shares with clients and receivers.
#[derive(Default)]
pub(crate) struct Shared {
    receivers: Mutex<Receivers>,
    /// A receiver has made room, or gone.
    pub(crate) room: Notify,
}

#[derive(Default)]
struct Receivers {
    mailboxes: Vec<Mailbox>,
    early: VecDeque<Event>,
    ended: Option<CloseReason>,
}

impl Shared {
    /// A new receiver; the first one gets what came before.
    pub(crate) fn receive(self: &Arc<Self>) -> Events {
        let mailbox = Mailbox::default();
        let mut receivers = self.lock();
        for event in receivers.early.drain(..) {
            mailbox.push(event);
        }
        if let Some(reason) = receivers.ended.clone() {
            mailbox.push(Event::Disconnected { reason });
            mailbox.close();
        }
        receivers.mailboxes.push(mailbox.clone());
        Events {
            mailbox,
            shared: Arc::clone(self),
        }
    }

    /// Why the stream ended, if it did.
    pub(crate) fn ended(&self) -> Option<CloseReason> {
        self.lock().ended.clone()
    }

    fn push(&self, event: &Event) {
        let mut receivers = self.lock();
        receivers.mailboxes.retain(|mailbox| !mailbox.is_closed());
        for mailbox in &receivers.mailboxes {
            mailbox.push(event.clone());
        }
        if receivers.mailboxes.is_empty() {
            if receivers.early.len() == EARLY_MAX {
                receivers.early.pop_front();
            }
            receivers.early.push_back(event.clone());
        }
    }

    fn end(&self, reason: CloseReason) {
        let mut receivers = self.lock();
        for mailbox in receivers.mailboxes.drain(..) {
            mailbox.push(Event::Disconnected {
                reason: reason.clone(),
            });
            mailbox.close();
        }
        receivers.ended = Some(reason);
    }

    /// Some receiver has this much unread.
    fn any(&self, is_behind: fn(&Mailbox) -> bool) -> bool {
        self.lock()
            .mailboxes
            .iter()
            .any(|mailbox| !mailbox.is_closed() && is_behind(mailbox))
    }

    /// Gives up receivers that have this much unread, and tells the others.
    fn drop_behind(&self, is_behind: fn(&Mailbox) -> bool) {
        let mut dropped = 0;
        self.lock().mailboxes.retain(|mailbox| {
            let keep = !is_behind(mailbox);
            if !keep {
                mailbox.close();
                dropped += 1;
            }
            keep
        });
        for _ in 0..dropped {
            warn!("a receiver does not keep up and gets no more events");
            self.push(&Event::ReceiverDropped);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Receivers> {
        self.receivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner of a bound stream.
pub(crate) struct XmppListener {
    driver: Driver<Initiator>,
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    requests: Requests,
    unwritten: Vec<oneshot::Sender<()>>,
    is_closing: bool,
    stalled_since: Option<Instant>,
}

impl XmppListener {
    pub(crate) fn new(
        driver: Driver<Initiator>,
        jid: FullJid,
        commands: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            driver,
            commands,
            shared,
            requests: Requests::new(jid),
            unwritten: Vec::new(),
            is_closing: false,
            stalled_since: None,
        }
    }

    /// Reads and writes until the stream is over.
    pub(crate) async fn run(mut self) {
        let reason = self.listen().await;
        debug!(?reason, "stream over");
        self.driver.finish(FINISH_MAX).await;
        self.shared.end(reason);
        // `commands` is dropped last: whoever sees it closed finds the reason.
    }

    async fn listen(&mut self) -> CloseReason {
        loop {
            while let Some(output) = self.driver.machine.poll_output() {
                if let Some(reason) = self.act(output) {
                    return reason;
                }
            }
            let stalled_until = self.stalled_until();
            let may_send = !self.is_closing && self.driver.pending() < UNWRITTEN_MAX;
            tokio::select! {
                command = self.commands.recv(), if may_send => self.obey(command),
                turn = self.driver.turn(stalled_until.is_none()) => match turn {
                    Ok(Turn::Flushed) => self.written(),
                    Ok(Turn::Handled) => {}
                    Err(error) => {
                        debug!(%error, "connection lost");
                        return CloseReason::Eof;
                    }
                },
                () = self.shared.room.notified(), if stalled_until.is_some() => {}
                () = until(stalled_until) => self.shared.drop_behind(Mailbox::is_full),
            }
        }
    }

    fn act(&mut self, output: Output) -> Option<CloseReason> {
        match output {
            Output::Stanza(stanza) => {
                self.requests.answer(&stanza);
                self.shared.push(&Event::Stanza(stanza));
            }
            Output::Refused(refused) => self.refused(&refused),
            Output::Closed(reason) => return Some(reason),
            other => debug!(?other, "nothing to do"),
        }
        None
    }

    /// What the reader refuses is answered where an answer is due.
    fn refused(&mut self, refused: &Refused) {
        if let Some(reply) = refused.reply() {
            self.send(reply);
        }
    }

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Send(stanza, written)) => {
                self.send(*stanza);
                self.unwritten.push(written);
            }
            Some(Command::Request(iq, reply)) => {
                if let Some(iq) = self.requests.begin(*iq, reply) {
                    self.send(iq);
                }
            }
            Some(Command::Disconnect) | None => {
                self.is_closing = true;
                self.driver.machine.close(None, Instant::now().into_std());
            }
        }
    }

    fn send(&mut self, stanza: Stanza) {
        self.driver.machine.send(&Item::<()>::One(Box::new(stanza)));
    }

    fn written(&mut self) {
        for written in self.unwritten.drain(..) {
            let _ = written.send(());
        }
    }

    /// Until when reading waits for receivers; `None`: it does not. While a request waits for its
    /// answer, or the stream is closing, receivers are not waited for: they have room by bytes.
    fn stalled_until(&mut self) -> Option<Instant> {
        if self.is_closing || self.requests.any() {
            self.shared.drop_behind(Mailbox::is_overfull);
            self.stalled_since = None;
        } else if self.shared.any(Mailbox::is_full) {
            self.stalled_since.get_or_insert_with(Instant::now);
        } else {
            self.stalled_since = None;
        }
        self.stalled_since.map(|since| since + STALL_MAX)
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::EVENTS_MAX;
    use xmpp_stream::stanza::Ty;

    fn event(number: usize) -> Event {
        Event::Stanza(Stanza::message(Ty::None).with_id(&number.to_string()))
    }

    async fn next_id(events: &mut Events) -> Option<String> {
        events.next_stanza().await?.head.id.map(Into::into)
    }

    #[tokio::test]
    async fn the_first_receiver_gets_the_newest_early_events() {
        let shared = Arc::new(Shared::default());
        for number in 0..EARLY_MAX + 2 {
            shared.push(&event(number));
        }
        let mut first = shared.receive();
        let mut second = shared.receive();
        shared.push(&event(999));
        shared.end(CloseReason::Clean);
        assert_eq!(next_id(&mut first).await.as_deref(), Some("2"));
        assert_eq!(next_id(&mut second).await.as_deref(), Some("999"));
        assert_eq!(next_id(&mut second).await, None);
    }

    #[tokio::test]
    async fn a_receiver_after_the_end_learns_of_the_end() {
        let shared = Arc::new(Shared::default());
        shared.end(CloseReason::Eof);
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
        let shared = Arc::new(Shared::default());
        let mut slow = shared.receive();
        let mut quick = shared.receive();
        for number in 0..EVENTS_MAX {
            assert!(!shared.any(Mailbox::is_full));
            shared.push(&event(number));
            assert!(quick.next().await.is_some());
        }
        assert!(shared.any(Mailbox::is_full));
        shared.drop_behind(Mailbox::is_full);
        assert!(!shared.any(Mailbox::is_full));
        assert!(matches!(quick.next().await, Some(Event::ReceiverDropped)));
        shared.push(&event(0));
        assert!(matches!(quick.next().await, Some(Event::Stanza(_))));
        for _ in 0..EVENTS_MAX {
            assert!(slow.next().await.is_some());
        }
        assert!(slow.next().await.is_none());
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_holds_up_nobody() {
        let shared = Arc::new(Shared::default());
        let events = shared.receive();
        for number in 0..EVENTS_MAX {
            shared.push(&event(number));
        }
        drop(events);
        assert!(!shared.any(Mailbox::is_full));
    }
}
