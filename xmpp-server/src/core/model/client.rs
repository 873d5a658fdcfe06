//! Devices and senders: their clients, their links, and the part of their tasks that is not under
//! test here.

use super::promises::Messages;
use super::{World, memory};
use crate::session::inbound::Inbound;
use crate::session::{Session, Sid};
use crate::sessions::Link;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stanza::{Item, Kind, Stanza, Ty};

/// A device of the recipient.
pub(super) struct Device {
    name: &'static str,
    state: State,
    /// What its user saw, in order, by session.
    pub(super) shown: Vec<(String, Sid)>,
}

enum State {
    Offline,
    Here(Box<Here>),
}

/// A session of a device, and its client.
struct Here {
    session: Arc<Session>,
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

/// A sender and its client.
pub(super) struct Sender {
    pub(super) account: BareJid,
    name: &'static str,
    here: Option<Box<Sending>>,
    /// Sent and not known to be handled: number, address and id.
    open: Vec<(String, String)>,
    sent: usize,
}

struct Sending {
    session: Session,
    inbound: Inbound,
    /// False: the client has lost its link and will want to resume or to bind anew.
    linked: bool,
    /// What `h` was when the client last heard.
    heard: u32,
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

fn loopback() -> Link {
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

// What senders do.
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
    async fn hear(&mut self, which: usize) {
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

/// The session has this message in its queue.
fn holds(session: &Session, id: &str) -> bool {
    session.outbox.ids().split(' ').any(|held| held == id)
}
