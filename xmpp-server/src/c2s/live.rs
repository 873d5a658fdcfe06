//! A bound session as its task holds it: with a transport, and without one until its client comes
//! back (XEP-0198).
//!
//! DESIGN 5 rules 14 to 20 and 22; "sessions outlive sockets".

use super::postponed::Postponed;
use super::writing::{acknowledged, fill, put_aside, send, work_on};
use super::{FLUSH, Next, Shared};
use crate::core::Core;
use crate::limits::Limits;
use crate::random;
use crate::session::Session;
use crate::session::inbound::Inbound;
use crate::session::outbox::{Look, TooHigh};
use crate::session::visit::{Handover, Visit};
use crate::store::RowId;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{info, warn};
use xmpp_stream::driver::Driver;
use xmpp_stream::error::{StreamCondition, StreamError};
use xmpp_stream::features::sm;
use xmpp_stream::stream::{Responder, Resumption, SmRequest};

/// How far back a client may send again what it was not told of (DESIGN 5 rule 21).
const RESEND_SPAN: Duration = Duration::from_secs(24 * 3600);

/// A session and what only its own task knows of it.
pub(super) struct Live {
    pub(super) session: Session,
    /// What has come and is not done.
    pub(super) inbound: Inbound,
    /// What came while a stanza was in hand.
    pub(super) postponed: Postponed,
    managed: Option<Box<Managed>>,
    /// What draws from the store for it.
    feed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Told by its end that the session has ended (rule 17).
    leaving: Option<oneshot::Sender<()>>,
    core: Arc<Core>,
    /// The end of the stream is among what came meanwhile.
    closing: bool,
    /// The client was told the last count over this transport.
    told: bool,
    over: bool,
}

/// Stream management's side of it.
pub(super) struct Managed {
    token: Option<Arc<str>>,
    /// Number in the outbox behind `<enabled/>`: nothing is acknowledged before it.
    pub(super) enabled: u64,
    /// How long the client may stay away.
    resume_within: Duration,
    /// The client has asked up to here and is answered then at the latest.
    pub(super) asked: Option<(u32, Instant)>,
    /// It was answered too early: one more follows when this is done.
    pub(super) owes: Option<u32>,
    /// Since when our own question waits.
    pub(super) asking: Option<Instant>,
}

/// Whether somebody wanted something of the session.
pub(super) enum Visited {
    Nobody,
    /// Somebody ended it (false), or asked it to end (true: it does so itself).
    Ended(bool),
    Next(Next),
}

/// Something that is no turn of the driver.
pub(super) enum Event {
    /// Our `<r/>` was not answered.
    Unanswered,
    /// Anything else: look at everything again.
    Other,
}

/// What the session keeps aside while a stanza is in hand.
pub(super) struct Aside<'a> {
    pub(super) postponed: &'a mut Postponed,
    pub(super) closing: &'a mut bool,
    pub(super) managed: Option<&'a mut Managed>,
    /// Stanzas handled, and what that will be after all that came before `postponed`.
    pub(super) h: u32,
    pub(super) received: u32,
}

impl Managed {
    /// The client asks for the count up to here. Asked again, the earlier question is answered by
    /// the same answer.
    pub(super) fn ask(&mut self, upto: u32, until: Instant) {
        let until = self.asked.map_or(until, |(_, until)| until);
        self.asked = Some((upto, until));
    }
}

impl Live {
    pub(super) fn new(session: Session, core: Arc<Core>) -> Self {
        Self {
            session,
            inbound: Inbound::default(),
            postponed: Postponed::default(),
            managed: None,
            feed: None,
            timer: None,
            leaving: None,
            core,
            closing: false,
            told: false,
            over: false,
        }
    }

    /// The session beside what is kept aside, with so many stanzas in hand.
    pub(super) fn apart(&mut self, in_hand: u32) -> (&Session, Aside<'_>) {
        let aside = Aside {
            h: self.inbound.h(),
            received: self.inbound.received().wrapping_add(in_hand),
            postponed: &mut self.postponed,
            closing: &mut self.closing,
            managed: self.managed.as_deref_mut(),
        };
        (&self.session, aside)
    }

    /// Its client counts and acknowledges.
    pub(super) fn is_managed(&self) -> bool {
        self.managed.is_some()
    }

    /// It may go on without a transport.
    pub(super) fn is_resumable(&self) -> bool {
        let token = self
            .managed
            .as_ref()
            .and_then(|managed| managed.token.as_ref());
        token.is_some() && self.leaving.is_none() && !self.session.outbox.is_closed()
    }

    /// Whether more may be read.
    pub(super) fn may_read(&self, limits: &Limits) -> bool {
        let look = self.session.outbox.look(limits);
        let room = match (self.holds_back(look), &self.managed) {
            // Acknowledgements are read all the same: without them nothing ever leaves.
            (true, Some(_)) => !self.postponed.is_full(limits),
            (true, None) => false,
            (false, _) => self.postponed.is_empty() && !look.congested,
        };
        room && !self.inbound.is_full(limits)
    }

    /// What its client says is not acted upon: something is to reach the client first. What it is to
    /// get at its login is on its way, which an answer never overtakes, or it takes too little.
    fn holds_back(&self, look: Look) -> bool {
        !self.closing && (look.gated || (look.congested && self.managed.is_some()))
    }

    fn is_held_back(&self, limits: &Limits) -> bool {
        self.holds_back(self.session.outbox.look(limits))
    }

    /// What came has its turn: neither is it held back, nor does somebody wait for the stanza in hand
    /// to be the last.
    pub(super) fn goes_on(&self, limits: &Limits) -> bool {
        let look = self.session.outbox.look(limits);
        !look.visited && !self.inbound.is_full(limits) && !self.holds_back(look)
    }

    /// While held back, acknowledgements are acted upon all the same. True when it no longer is: what
    /// was put aside has its turn.
    pub(super) fn look_ahead(&mut self, driver: &mut Driver<Responder>, core: &Core) -> bool {
        if !self.is_held_back(&core.limits) {
            return false;
        }
        let (session, mut aside) = self.apart(0);
        put_aside(driver, session, &mut aside, core);
        !self.is_held_back(&core.limits)
    }

    /// Looks whether somebody wants something.
    pub(super) fn visited(&mut self, driver: &mut Driver<Responder>, core: &Arc<Core>) -> Visited {
        let outbox = Arc::clone(&self.session.outbox);
        if outbox.is_closed() {
            // Somebody else ended the session: the peer is told why, then the stream closes.
            let error = outbox.farewell();
            let error =
                error.unwrap_or_else(|| StreamError::new(StreamCondition::ResourceConstraint));
            info!(condition = %error.condition, "session ended by the server");
            self.last_ack(driver);
            self.over = true;
            self.turn_away();
            self.remember(core);
            driver.machine.close(Some(error), core.clock.now());
            return Visited::Ended(false);
        }
        if outbox.was_cut() {
            return Visited::Next(Next::Lost);
        }
        match outbox.visitor() {
            Some(Visit::TakeOver(handover)) => return Visited::Next(Next::TakenOver(handover)),
            Some(Visit::End(error, done)) => {
                info!(condition = %error.condition, "session replaced");
                self.leaving = Some(done);
                self.last_ack(driver);
                driver.machine.close(Some(*error), core.clock.now());
                return Visited::Ended(true);
            }
            None => {}
        }
        // An earlier one draws for what the session was then.
        if self.session.outbox.feed_due() {
            self.feed = Some(Box::pin(Arc::clone(core).feed(
                Arc::clone(&self.session.host),
                Arc::clone(&self.session.account),
                self.session.sid,
            )));
        }
        Visited::Nobody
    }

    /// Copies items of the outbox into the machine, a record at most, when the last batch has left.
    pub(super) fn fill(&mut self, driver: &mut Driver<Responder>, limits: &Limits) {
        let managed = self.managed.as_deref_mut();
        fill(driver, &self.session, managed, limits);
    }

    /// Tells the client what was handled, when it has asked and that is due.
    pub(super) fn acknowledge(&mut self, driver: &mut Driver<Responder>, core: &Core) {
        let sent = self.session.outbox.sent_until();
        let managed = self.managed.as_mut();
        let Some(managed) = managed.filter(|managed| sent >= managed.enabled) else {
            return;
        };
        let h = self.inbound.h();
        let reached = |upto: u32| (upto.wrapping_sub(h) as i32) <= 0;
        let due = match managed.asked {
            Some((upto, _)) if reached(upto) => true,
            Some((upto, until)) if core.clock.now() >= until => {
                managed.owes = Some(upto);
                true
            }
            _ => managed.owes.is_some_and(reached),
        };
        if due {
            managed.asked = None;
            managed.owes = managed.owes.filter(|upto| !reached(*upto));
            send(driver, sm::ack(h));
        }
    }

    /// Before the stream is closed by us. What is not counted now the client sends again.
    pub(super) fn last_ack(&mut self, driver: &mut Driver<Responder>) {
        if self.managed.is_some() {
            send(driver, sm::ack(self.inbound.h()));
            self.told = true;
        }
    }

    /// Its client may still have something done.
    pub(super) fn takes_stanzas(&self) -> bool {
        !self.told && !self.session.outbox.is_closed()
    }

    /// The client wants its stream managed.
    pub(super) async fn manage(
        &mut self,
        driver: &mut Driver<Responder>,
        core: &Arc<Core>,
        (resume, max): (bool, Option<u32>),
    ) {
        let (session, mut aside) = self.apart(0);
        let since = RowId::first_at(core.clock.system_now() - RESEND_SPAN);
        let look = core.store.sent(&session.account.jid, since);
        let look = tokio::time::timeout(core.limits.sm_enable_max, look);
        let sent = work_on(driver, session, &mut aside, core, look).await;
        let sent = sent.ok().and_then(Result::ok);
        if sent.is_none() {
            warn!("the store does not answer: this stream cannot be resumed");
        }
        let resume = resume && sent.is_some();
        self.enable(core, resume, max, sent.unwrap_or_default());
    }

    /// What the client says of a managed stream, as often as stanzas come.
    pub(super) fn managed(
        &mut self,
        driver: &mut Driver<Responder>,
        core: &Core,
        request: &SmRequest,
    ) {
        match *request {
            SmRequest::Ask => {
                let until = core.clock.now() + core.limits.sm_ack_wait;
                let received = self.inbound.received();
                if let Some(managed) = &mut self.managed {
                    managed.ask(received, until);
                }
            }
            SmRequest::Ack(h) => {
                let managed = self.managed.as_deref_mut();
                if let Err(TooHigh { sent }) = acknowledged(&self.session, managed, core, h) {
                    warn!(h, sent, "the client acknowledges more than it was sent");
                    let error = sm::too_high(h, sent);
                    driver.machine.close(Some(error), core.clock.now());
                }
            }
            SmRequest::Enable { .. } | SmRequest::Resume { .. } => {}
        }
    }

    fn enable(
        &mut self,
        core: &Core,
        resume: bool,
        max: Option<u32>,
        sent: Vec<(crate::store::Print, u128)>,
    ) {
        let limits = &core.limits;
        let within = max.map_or(limits.sm_resume, |max| Duration::from_secs(max.into()));
        let within = match within.is_zero() {
            true => limits.sm_resume,
            false => within.min(limits.sm_resume_max),
        };
        // The first part is the node's: there is one.
        let token: Option<Arc<str>> =
            resume.then(|| format!("0-{}{}", random::token(), random::token()).into());
        {
            let mut state = self.session.account.lock();
            if let Some(entry) = state.session_mut(self.session.sid) {
                entry.token.clone_from(&token);
            }
            let resumable = token.as_deref().map(|token| (token, within.as_secs()));
            self.session.outbox.count(sm::enabled(resumable), limits);
        }
        self.inbound.manage();
        let own = self.session.sid.0;
        // Whoever was told that all was handled sends nothing again: an id that comes back there is
        // only a client's that counts from one.
        let open = |stream: u128| stream != own && !core.ended.is_closed(stream);
        let prints = sent.into_iter().filter(|(_, stream)| open(*stream));
        self.session
            .resend(prints.map(|(print, _)| print).collect());
        self.managed = Some(Box::new(Managed {
            token,
            enabled: self.session.outbox.end_number(),
            resume_within: within,
            asked: None,
            owes: None,
            asking: None,
        }));
    }

    /// Waits until everything that came is done, and no longer than a ticket lasts; gives `h`.
    pub(super) async fn finished(&mut self, core: &Core) -> u32 {
        let (session, inbound) = (&self.session, &mut self.inbound);
        let done = poll_fn(|cx| {
            while !inbound.is_done() {
                ready!(inbound.poll_done(cx, &session.jid, &session.outbox, &core.limits));
            }
            Poll::Ready(())
        });
        // As long as a ticket lasts: what then is not done was not handled.
        let _ = tokio::time::timeout(core.limits.ticket_max, done).await;
        self.inbound.h()
    }

    /// Without a transport: waits for the client to come back, or for the end.
    pub(super) async fn hibernate(
        mut self: Box<Self>,
        shared: &Shared,
    ) -> Option<(Box<Self>, Box<Handover>)> {
        let core = Arc::clone(&shared.core);
        let within = self
            .managed
            .as_ref()
            .map_or(Duration::ZERO, |m| m.resume_within);
        if let Some(entry) = self.session.account.lock().session_mut(self.session.sid) {
            entry.hibernating = true;
        }
        // Not read, so never handled: the client sends it again.
        self.postponed = Postponed::default();
        self.closing = false;
        self.timer = None;
        if let Some(managed) = &mut self.managed {
            (managed.asked, managed.owes, managed.asking) = (None, None, None);
        }
        info!("connection lost: the session waits for its client");
        let mut shutdown = shared.shutdown.clone();
        let expiry = tokio::time::sleep(within);
        let mut expiry = pin!(expiry);
        loop {
            if let Some(visit) = self.session.outbox.visitor() {
                match visit {
                    Visit::TakeOver(handover) => return Some((self, handover)),
                    Visit::End(_, done) => {
                        self.leaving = Some(done);
                        break;
                    }
                }
            }
            if self.session.outbox.is_closed() {
                break;
            }
            self.session.outbox.was_cut();
            // An earlier one draws for what the session was then.
            if self.session.outbox.feed_due() {
                self.feed = Some(Box::pin(Arc::clone(&core).feed(
                    Arc::clone(&self.session.host),
                    Arc::clone(&self.session.account),
                    self.session.sid,
                )));
            }
            let expired = tokio::select! {
                () = super::down(&mut shutdown) => true,
                () = expiry.as_mut() => true,
                _ = event(Some(&mut self), false, &core.limits) => false,
            };
            // One state change under the lock: a client that came just now is not turned away.
            if expired && core.end_unless_visited(&self.session).await {
                info!("session over: its client did not come back");
                break;
            }
        }
        self.end(&core).await;
        None
    }

    /// Goes on over another transport (rule 20).
    pub(super) async fn go_on(
        mut self: Box<Self>,
        core: &Arc<Core>,
        handover: Handover,
    ) -> Option<(Box<Self>, Box<Driver<Responder>>)> {
        let Handover {
            mut driver,
            link,
            h,
            back,
        } = handover;
        self.postponed = Postponed::default();
        (self.closing, self.told, self.timer) = (false, false, None);
        {
            let (session, inbound) = (&self.session, &mut self.inbound);
            let all =
                poll_fn(|cx| inbound.poll_all(cx, &session.jid, &session.outbox, &core.limits));
            // Tickets know their own time-out.
            let _ = tokio::time::timeout(core.limits.ticket_max * 2, all).await;
        }
        let managed = self.managed.as_deref_mut();
        let acknowledged = acknowledged(&self.session, managed, core, h);
        let ended = self.session.outbox.is_closed();
        if let (Ok(()), false) = (&acknowledged, ended) {
            self.session.outbox.rewind();
            self.session.lost.store(false, Ordering::Relaxed);
            self.session.farewell.store(false, Ordering::Relaxed);
            let known = {
                let mut state = self.session.account.lock();
                state.session_mut(self.session.sid).is_some_and(|entry| {
                    entry.hibernating = false;
                    // That meant the transport before this one.
                    entry.outbox.was_cut();
                    entry.link = Arc::new(link);
                    true
                })
            };
            if known {
                self.session.peer = link.peer.ip();
                let resumption = Resumption {
                    jid: self.session.jid.clone(),
                    h: self.inbound.h(),
                };
                driver.machine.resumed(Ok(resumption), core.clock.now());
                info!(peer = %link.peer, "session resumed");
                drop(back);
                return Some((self, driver));
            }
        }
        if let Err(TooHigh { sent }) = acknowledged {
            warn!(h, sent, "the client acknowledges more than it was sent");
            driver
                .machine
                .close(Some(sm::too_high(h, sent)), core.clock.now());
            tokio::spawn(async move { driver.finish(FLUSH).await });
        } else {
            let _ = back.send(driver);
        }
        self.end(core).await;
        None
    }

    /// The session is over: presence, what nobody took, what its client may still ask.
    pub(super) async fn end(mut self: Box<Self>, core: &Arc<Core>) {
        self.over = true;
        self.feed = None;
        core.session_over(&self.session).await;
        // Before anyone is turned away who would be told.
        self.remember(core);
        self.turn_away();
        drop(self.leaving.take());
        if self.managed.is_some() && !self.inbound.is_done() {
            self.finished(core).await;
            self.remember(core);
        }
        info!("session over");
    }

    /// What was handled may be asked for although the stream cannot be resumed any more.
    fn remember(&self, core: &Core) {
        let token = self.managed.as_ref();
        if let Some(token) = token.and_then(|managed| managed.token.as_ref()) {
            core.remember_ended(&self.session, token, self.inbound.h());
        }
    }

    /// Whoever wanted something of the session finds nobody.
    fn turn_away(&self) {
        if let Some(visit) = self.session.outbox.visitor() {
            visit.turn_away();
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, items: bool, limits: &Limits) -> Poll<Event> {
        let session = &self.session;
        if session.outbox.poll_ready(cx, items, limits).is_ready() {
            return Poll::Ready(Event::Other);
        }
        if !self.inbound.is_done() {
            let done = self
                .inbound
                .poll_done(cx, &session.jid, &session.outbox, limits);
            if done.is_ready() {
                return Poll::Ready(Event::Other);
            }
        }
        if let Some(feed) = &mut self.feed
            && feed.as_mut().poll(cx).is_ready()
        {
            self.feed = None;
            return Poll::Ready(Event::Other);
        }
        self.poll_timer(cx, limits)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<Event> {
        let Some(managed) = &self.managed else {
            return Poll::Pending;
        };
        let unanswered = managed
            .asking
            .map(|since| since + limits.stream.silence_answer_max);
        let ack = managed.asked.map(|(_, until)| until);
        let Some(deadline) = unanswered.into_iter().chain(ack).min() else {
            return Poll::Pending;
        };
        let at = tokio::time::Instant::from_std(deadline);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        ready!(timer.as_mut().poll(cx));
        match unanswered == Some(deadline) {
            true => Poll::Ready(Event::Unanswered),
            false => Poll::Ready(Event::Other),
        }
    }
}

/// A session whose task is dropped in the middle, by a panic or by whoever drives it, leaves no
/// ghost.
impl Drop for Live {
    fn drop(&mut self) {
        self.turn_away();
        if self.over {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let core = Arc::clone(&self.core);
            let (account, sid) = (Arc::clone(&self.session.account), self.session.sid);
            runtime.spawn(async move { core.session_dropped(&account, sid).await });
        }
    }
}

/// What happens beside the driver.
pub(super) async fn event(live: Option<&mut Live>, items: bool, limits: &Limits) -> Event {
    match live {
        Some(live) => poll_fn(|cx| live.poll_event(cx, items, limits)).await,
        None => std::future::pending().await,
    }
}
