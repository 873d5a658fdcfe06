//! Senders and their clients: what they send, hear, lose and send again.

use super::client::{State, loopback};
use super::{World, memory};
use crate::session::Session;
use crate::session::inbound::Inbound;
use std::future::{Future, poll_fn};
use std::task::Poll;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stanza::{Item, Stanza, Ty};

/// A sender and its client.
pub(super) struct Sender {
    pub(super) account: BareJid,
    name: &'static str,
    pub(super) here: Option<Box<Sending>>,
    /// Sent and not known to be handled: number, address and id.
    open: Vec<(String, String)>,
    sent: usize,
}

pub(super) struct Sending {
    pub(super) session: Session,
    inbound: Inbound,
    /// False: the client has lost its link and will want to resume or to bind anew.
    linked: bool,
    /// What `h` was when the client last heard.
    heard: u32,
}

impl Sender {
    pub(super) fn new(account: BareJid, name: &'static str) -> Self {
        Self {
            account,
            name,
            here: None,
            open: Vec::new(),
            sent: 0,
        }
    }

    pub(super) fn crash(&mut self) {
        self.here = None;
    }

    /// Ids of what is not known to be handled.
    pub(super) fn open(&self) -> impl Iterator<Item = &str> {
        self.open.iter().map(|(id, _)| id.as_str())
    }
}

impl World<'_> {
    pub(super) async fn send(&mut self) {
        let which = self.random.below(2);
        if !self.is_linked(which).await {
            return;
        }
        let to = match self.random.below(4) {
            0 => format!("{}/a", self.account),
            _ => self.account.to_string(),
        };
        let sender = &mut self.senders[which];
        sender.sent += 1;
        let id = format!("{}{}", sender.name, sender.sent);
        sender.open.push((id.clone(), to.clone()));
        let number = sender.sent;
        let message = self.messages.get(&id);
        message.from = (which, number);
        message.to.clone_from(&to);
        self.say(which, &id, &to).await;
    }

    /// The message reaches the server.
    async fn say(&mut self, which: usize, id: &str, to: &str) {
        let core = self.core;
        self.log.push(format!("{id} to {to}"));
        let Some(here) = &mut self.senders[which].here else {
            return;
        };
        let stanza = Stanza::chat(to, "hi").unwrap().with_id(id);
        if let Some(stanza) = core.message_now(&here.session, stanza) {
            core.from_session(&here.session, stanza).await;
        }
        core.finish_later(&here.session).await;
        here.inbound.push(here.session.take_owed(), 1);
        // Who got it at first; one that has just ended may have ended of it.
        for device in &self.devices {
            if let State::Here(device) = &device.state
                && (holds(&device.session, id) || device.session.outbox.is_closed())
            {
                self.messages.get(id).handed.insert(device.session.sid.0);
            }
        }
    }

    /// Binds when there is no session; true when the client can send.
    async fn is_linked(&mut self, which: usize) -> bool {
        if self.senders[which].here.is_none() {
            self.bind_sender(which).await;
        }
        let here = self.senders[which].here.as_ref();
        here.is_some_and(|here| here.linked)
    }

    /// A new stream: what is not known to be handled is sent again.
    async fn bind_sender(&mut self, which: usize) {
        let core = self.core;
        let account = self.senders[which].account.clone();
        let session = core.bind(&account, Some("x"), loopback()).await.unwrap();
        session
            .outbox
            .count(Box::from(*b"<enabled/>"), &core.limits);
        // What is queued is waited for.
        let mut prints = Box::pin(core.store.sent(&account, crate::store::RowId(0)));
        let known = poll_fn(|cx| Poll::Ready(prints.as_mut().poll(cx))).await;
        let prints = match known {
            Poll::Ready(prints) => prints.unwrap(),
            Poll::Pending => {
                memory(core).settle(usize::MAX, true);
                prints.await.unwrap()
            }
        };
        session.resend(prints.into_iter().map(|(print, _)| print).collect());
        let mut inbound = Inbound::default();
        inbound.manage();
        self.senders[which].here = Some(Box::new(Sending {
            session,
            inbound,
            linked: true,
            heard: 0,
        }));
        let open = self.senders[which].open.clone();
        self.log
            .push(format!("{}: binds", self.senders[which].name));
        for (id, to) in open {
            self.say(which, &id, &to).await;
        }
    }

    /// The link breaks with what the client had sent last; later it resumes or binds anew.
    pub(super) async fn break_sender(&mut self, which: usize) {
        let anew = self.random.once_in(3);
        let Some(here) = &mut self.senders[which].here else {
            return;
        };
        if here.linked {
            here.linked = false;
            let name = self.senders[which].name;
            self.note(&format!("{name}: link lost"));
        } else if anew {
            let Some(here) = self.senders[which].here.take() else {
                return;
            };
            let name = self.senders[which].name;
            self.note(&format!("{name}: session over"));
            self.core.session_over(&here.session).await;
        } else {
            self.mend_sender(which).await;
        }
    }

    /// The stream is resumed, once no ticket is waited for.
    pub(super) async fn mend_sender(&mut self, which: usize) {
        let core = self.core;
        if self.senders[which].here.is_none() && !self.senders[which].open.is_empty() {
            self.bind_sender(which).await;
        }
        let Some(here) = &mut self.senders[which].here else {
            return;
        };
        if here.linked {
            return;
        }
        let ready = poll_fn(|cx| {
            let (session, limits) = (&here.session, &core.limits);
            let all = here
                .inbound
                .poll_all(cx, &session.jid, &session.outbox, limits);
            Poll::Ready(all.is_ready())
        })
        .await;
        if !ready {
            return;
        }
        here.linked = true;
        here.session.outbox.rewind();
        let h = here.inbound.h();
        let name = self.senders[which].name;
        self.note(&format!("{name}: resumed, h {h}"));
        self.hear(which).await;
    }

    /// What the server has for a sender's client: errors, then what is handled.
    pub(super) async fn hear(&mut self, which: usize) {
        let core = self.core;
        let sender = &mut self.senders[which];
        let Some(here) = &mut sender.here else { return };
        if !here.linked {
            return;
        }
        let mut errors = Vec::new();
        loop {
            let mut any = false;
            here.session.outbox.send(&core.limits, |item| {
                any = true;
                if let Item::One(stanza) = item
                    && stanza.head.ty == Ty::Error
                {
                    errors.extend(stanza.head.id.as_deref().map(str::to_owned));
                }
                true
            });
            here.session.outbox.flushed();
            if !any {
                break;
            }
            // A client that acknowledges at once.
            let sent = here.session.outbox.acknowledged(u32::MAX / 2);
            let sent = sent.map_or_else(|too_high| too_high.sent, |_| 0);
            here.session.outbox.acknowledged(sent).unwrap();
        }
        let inbound = &mut here.inbound;
        poll_fn(|cx| {
            let (session, limits) = (&here.session, &core.limits);
            while inbound
                .poll_done(cx, &session.jid, &session.outbox, limits)
                .is_ready()
            {}
            Poll::Ready(())
        })
        .await;
        let handled = inbound.h().wrapping_sub(here.heard) as usize;
        here.heard = inbound.h();
        for id in errors {
            let message = self.messages.get(&id);
            message.excused = true;
            message.may_double = true;
            self.log.push(format!("error for {id}"));
        }
        let handled = handled.min(sender.open.len());
        for (id, _) in sender.open.drain(..handled) {
            self.messages.get(&id).acknowledged = true;
            self.log.push(format!("{id} is handled"));
        }
    }
}

/// The session has this message in its queue.
fn holds(session: &Session, id: &str) -> bool {
    session.outbox.ids().split(' ').any(|held| held == id)
}
