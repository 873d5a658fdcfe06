//! Devices: their clients, their links, and the part of their tasks that is not under test here.

use super::World;
use super::promises::Messages;
use crate::session::{Session, Sid};
use crate::sessions::Link;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use xmpp_stream::stanza::{Item, Kind, Stanza};

/// A device of the recipient.
pub(super) struct Device {
    name: &'static str,
    pub(super) state: State,
    /// What its user saw, in order, by session.
    pub(super) shown: Vec<(String, Sid)>,
}

pub(super) enum State {
    Offline,
    Here(Box<Here>),
}

/// A session of a device, and its client.
pub(super) struct Here {
    pub(super) session: Arc<Session>,
    managed: bool,
    /// `None`: the link is broken.
    link: Option<Wire>,
    /// Stanzas that the client has handled.
    h: u32,
    /// Of these, what the server does not know of.
    unacknowledged: Vec<String>,
    feed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What is on its way to the client: ids of messages, `None`: another stanza.
#[derive(Default)]
struct Wire {
    flying: Vec<Option<String>>,
}

impl Device {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            state: State::Offline,
            shown: Vec::new(),
        }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Here(here) => Some(&here.session),
            State::Offline => None,
        }
    }

    /// It is linked and wants messages.
    pub(super) fn wants(&self) -> bool {
        match &self.state {
            State::Here(here) => {
                let state = here.session.account.lock();
                let entry = state.session(here.session.sid);
                here.link.is_some() && entry.is_some_and(|entry| entry.wants_messages())
            }
            State::Offline => false,
        }
    }

    pub(super) fn crash(&mut self, messages: &mut Messages) {
        if let State::Here(here) = std::mem::replace(&mut self.state, State::Offline) {
            here.forget(messages);
        }
        // Seen before the crash, and its row perhaps not committed or not cleared.
        for (id, _) in &self.shown {
            messages.get(id).may_double = true;
        }
    }
}

impl Here {
    /// The session ends before the server heard what the client has.
    fn forget(&self, messages: &mut Messages) {
        for id in &self.unacknowledged {
            messages.get(id).may_double = true;
        }
        if !self.managed {
            // Written to a socket that died.
            for id in self
                .link
                .iter()
                .flat_map(|link| link.flying.iter().flatten())
            {
                messages.get(id).excused = true;
                messages.get(id).may_double = true;
            }
        }
    }
}

pub(super) fn loopback() -> Link {
    IpAddr::V4(Ipv4Addr::LOCALHOST).into()
}

/// The id of a message; `None` for other stanzas. `counts`: it is a stanza at all.
fn id_of(item: &crate::session::outbox::OutItem) -> (bool, Option<String>) {
    match item {
        Item::Shared(_, rendered, _) => {
            let stanza = rendered.stanza();
            let id = match stanza.kind {
                Kind::Message => stanza.head.id.as_deref().map(str::to_owned),
                _ => None,
            };
            (true, id)
        }
        Item::One(_) => (true, None),
        _ => (false, None),
    }
}

// What devices do.
impl World<'_> {
    /// A device binds, sends presence, changes it, loses its link, comes back, or leaves.
    pub(super) async fn move_device(&mut self, which: usize) {
        let random = self.random.below(12);
        let name = self.devices[which].name;
        match &mut self.devices[which].state {
            State::Offline => self.online(which).await,
            State::Here(here) if here.link.is_none() => match random {
                0..=2 => self.leave(which, "expires").await,
                3..=5 => {
                    self.leave(which, "is replaced").await;
                    self.online(which).await;
                }
                _ => self.resume(which),
            },
            State::Here(_) if random < 3 => {
                let priority = ["1", "0", "-1"][self.random.below(3)];
                self.note(&format!("{name}: priority {priority}"));
                let xml = format!("<presence><priority>{priority}</priority></presence>");
                self.says(which, &xml).await;
            }
            State::Here(_) if random == 3 => {
                self.note(&format!("{name}: unavailable"));
                self.says(which, "<presence type='unavailable'/>").await;
            }
            State::Here(_) if random < 6 => self.leave(which, "closes").await,
            State::Here(here) => {
                if here.managed {
                    here.link = None;
                    let session = &here.session;
                    if let Some(entry) = session.account.lock().session_mut(session.sid) {
                        entry.hibernating = true;
                    }
                    self.note(&format!("{name}: link lost"));
                } else {
                    self.leave(which, "link lost without stream management")
                        .await;
                }
            }
        }
    }

    pub(super) async fn online(&mut self, which: usize) {
        if let State::Here(_) = &self.devices[which].state {
            if self.devices[which].wants() {
                return;
            }
            self.leave(which, "leaves to come anew").await;
        }
        let name = self.devices[which].name;
        let core = self.core;
        let session = core
            .bind(&self.account, Some(name), loopback())
            .await
            .unwrap();
        let managed = !self.random.once_in(4);
        if managed {
            let mut state = session.account.lock();
            if let Some(entry) = state.session_mut(session.sid) {
                entry.token = Some(format!("{}", session.sid.0).into());
            }
            session
                .outbox
                .count(Box::from(*b"<enabled/>"), &core.limits);
        }
        self.note(&format!("{name}: online, managed {managed}"));
        self.devices[which].state = State::Here(Box::new(Here {
            session: Arc::new(session),
            managed,
            link: Some(Wire::default()),
            h: 0,
            unacknowledged: Vec::new(),
            feed: None,
        }));
        let priority = self.random.below(2);
        let xml = format!("<presence><priority>{priority}</priority></presence>");
        self.says(which, &xml).await;
    }

    /// What a client sends; while the server waits for it to read, it does.
    async fn says(&mut self, which: usize, xml: &str) {
        let State::Here(here) = &self.devices[which].state else {
            return;
        };
        let (core, session) = (self.core, Arc::clone(&here.session));
        let work = core.from_session(&session, Stanza::parse(xml).unwrap());
        let mut work = Box::pin(work);
        for turn in 0.. {
            if poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await {
                break;
            }
            if turn == 100 {
                self.show();
                panic!("{xml} never ends:\n{}", self.log.join("\n"));
            }
            self.write(which, true);
            self.read(which, usize::MAX);
            self.acknowledge(which);
        }
    }

    /// The session is over for the server.
    async fn leave(&mut self, which: usize, how: &str) {
        let device = &mut self.devices[which];
        let State::Here(here) = std::mem::replace(&mut device.state, State::Offline) else {
            return;
        };
        here.forget(&mut self.messages);
        self.log.push(format!("{}: {how}", device.name));
        self.core.session_over(&here.session).await;
    }

    fn resume(&mut self, which: usize) {
        let core = self.core;
        let name = self.devices[which].name;
        let State::Here(here) = &mut self.devices[which].state else {
            return;
        };
        let session = &here.session;
        if session.outbox.is_closed() {
            // It has ended meanwhile: the client is turned away.
            return;
        }
        let rows = session.outbox.acknowledged(here.h);
        core.took(&session.account, &rows.unwrap());
        here.unacknowledged.clear();
        session.outbox.rewind();
        if let Some(entry) = session.account.lock().session_mut(session.sid) {
            entry.hibernating = false;
        }
        here.link = Some(Wire::default());
        self.note(&format!("{name}: resumes"));
    }

    pub(super) async fn come_back(&mut self, which: usize) {
        let broken = match &self.devices[which].state {
            State::Here(here) => here.link.is_none(),
            State::Offline => false,
        };
        if broken {
            self.resume(which);
        }
    }

    /// The server copies items into the transport.
    pub(super) fn write(&mut self, which: usize, all: bool) {
        let count = if all {
            usize::MAX
        } else {
            self.random.below(3) + 1
        };
        let core = self.core;
        let State::Here(here) = &mut self.devices[which].state else {
            return;
        };
        let Some(link) = &mut here.link else { return };
        let (mut left, mut ids) = (count, Vec::new());
        here.session.outbox.send(&core.limits, |item| {
            let (counts, id) = id_of(item);
            if counts {
                ids.push(id);
            }
            left -= 1;
            left > 0
        });
        link.flying.extend(ids);
        let rows = here.session.outbox.flushed();
        core.took(&here.session.account, &rows);
    }

    /// The client reads.
    pub(super) fn read(&mut self, which: usize, count: usize) {
        let device = &mut self.devices[which];
        let State::Here(here) = &mut device.state else {
            return;
        };
        let Some(link) = &mut here.link else { return };
        let count = count.min(link.flying.len());
        for id in link.flying.drain(..count) {
            here.h = here.h.wrapping_add(1);
            let Some(id) = id else { continue };
            let sid = here.session.sid;
            device.shown.push((id.clone(), sid));
            self.log.push(format!("{}: sees {id}", device.name));
            self.messages.saw(&id, which, sid);
            if here.managed {
                here.unacknowledged.push(id);
            }
        }
    }

    /// The client says what it has handled.
    pub(super) fn acknowledge(&mut self, which: usize) {
        let core = self.core;
        let State::Here(here) = &mut self.devices[which].state else {
            return;
        };
        if here.managed && here.link.is_some() && !here.session.outbox.is_closed() {
            let rows = here.session.outbox.acknowledged(here.h);
            core.took(&here.session.account, &rows.unwrap());
            here.unacknowledged.clear();
        }
    }
}

// What happens beside that.
impl World<'_> {
    /// What happens by itself after each step.
    pub(super) async fn pump(&mut self) {
        for which in 0..2 {
            self.hear(which).await;
            self.draws(which);
            self.feed(which).await;
            self.look_after(which).await;
        }
    }

    /// What waits is this session's to draw: who gets it instead, gets it late.
    fn draws(&mut self, which: usize) {
        let State::Here(here) = &self.devices[which].state else {
            return;
        };
        let sid = here.session.sid;
        // Also what it was passed on by another session.
        for id in here.session.outbox.ids().split(' ') {
            if let Some(message) = self.messages.known.get_mut(id) {
                message.claimed.insert(sid.0);
            }
        }
        let state = here.session.account.lock();
        let feed = state.session(sid).and_then(|entry| entry.feed.as_ref());
        if feed.is_some_and(|feed| feed.rows.is_some()) {
            let unseen = self.messages.known.values_mut();
            for message in unseen.filter(|message| message.seen.is_empty()) {
                message.claimed.insert(sid.0);
            }
        }
    }

    async fn feed(&mut self, which: usize) {
        let core = self.core;
        let State::Here(here) = &mut self.devices[which].state else {
            return;
        };
        let session = &here.session;
        if session.outbox.feed_due() {
            let (host, account) = (Arc::clone(&session.host), Arc::clone(&session.account));
            here.feed = Some(Box::pin(Arc::clone(core).feed(host, account, session.sid)));
        }
        let Some(feed) = &mut here.feed else { return };
        // Once: what it waits for may never come.
        let done = poll_fn(|cx| Poll::Ready(feed.as_mut().poll(cx).is_ready())).await;
        if done {
            here.feed = None;
        }
    }

    /// The session's task finds that others cut or ended it.
    async fn look_after(&mut self, which: usize) {
        let State::Here(here) = &mut self.devices[which].state else {
            return;
        };
        if here.session.outbox.was_cut() {
            here.link = None;
            self.log.push("cut".into());
        }
        let State::Here(here) = &self.devices[which].state else {
            return;
        };
        if here.session.outbox.is_closed() {
            self.leave(which, "was ended").await;
        }
    }

    /// Every queue, and who has the claim, for whoever reads a log.
    pub(super) fn show(&mut self) {
        let mut line = String::from("      ");
        for device in &self.devices {
            if let State::Here(here) = &device.state {
                let state = here.session.account.lock();
                let claim = if state.claim == Some(here.session.sid) {
                    "!"
                } else {
                    ""
                };
                let wants = state
                    .session(here.session.sid)
                    .is_some_and(|entry| entry.wants_messages());
                let wants = if wants { "+" } else { "-" };
                let ids = here.session.outbox.ids();
                line += &format!(" {}{claim}{wants}[{ids}]", device.name);
            }
        }
        self.log.push(line);
    }

    /// Leaves nothing behind for the next play.
    pub(super) async fn clear(&mut self) {
        for which in 0..2 {
            self.leave(which, "end").await;
            if let Some(here) = self.senders[which].here.take() {
                self.core.session_over(&here.session).await;
            }
        }
        tokio::time::advance(Duration::from_millis(1)).await;
    }
}
