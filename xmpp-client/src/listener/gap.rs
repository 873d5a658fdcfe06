//! From one stream to the next: when to connect, resuming, what is sent again (XEP-0198 section 5;
//! rows ss-4, ss-5, ss-7).

use super::{STEADY, XmppListener};
use crate::connect::connect;
use crate::error::{ConnectError, NotAckedReason};
use crate::event::Event;
use crate::mailbox::Mailbox;
use crate::negotiate::{Bound, Resume, Resumption};
use crate::outbox::{Outgoing, Wants};
use crate::reconnect::{after_attempt, after_end, auth_failure};
use crate::unacked::TooHigh;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, warn};
use xmpp_stream::features::sm;
use xmpp_stream::jid::FullJid;
use xmpp_stream::ns::{id, name};
use xmpp_stream::payload::delay::Delay;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::stream::CloseReason;

/// How long the old connection may take to end.
const PART_MAX: Duration = Duration::from_secs(1);

impl XmppListener {
    /// After the stream was lost: until there is another, or there is to be none.
    pub(super) async fn reconnect(&mut self, reason: CloseReason) -> Result<(), CloseReason> {
        let event = Event::Disconnected {
            reason: reason.clone(),
        };
        self.shared.push(event);
        if self.settings.refuse_offline {
            self.shared.outbox.refuse(Some(reason.clone()));
        }
        self.part(&reason).await;
        let flaps = match self.since.elapsed() > STEADY {
            true => 0,
            false => self.short_lived,
        };
        self.short_lived = flaps.saturating_add(1);
        let mut verdict = after_end(&reason);
        let mut attempts = 0;
        loop {
            let policy = self.settings.reconnect;
            let Some(delay) = policy.next(attempts, flaps, verdict, random()) else {
                return Err(reason);
            };
            attempts += 1;
            // Without a connection nothing else bounds what is told of it.
            self.shared.drop_behind(Mailbox::is_forgotten);
            self.shared.push(Event::Reconnecting {
                delay,
                attempt: attempts,
            });
            let error = match self.attempt(delay).await {
                None => return Err(CloseReason::Clean),
                Some(Ok(bound)) => {
                    self.take_up(bound);
                    return Ok(());
                }
                Some(Err(error)) => error,
            };
            debug!(%error, "not connected");
            verdict = after_attempt(&error);
            let failure = auth_failure(&error).cloned();
            self.shared.push(match failure.clone() {
                Some(reason) => Event::AuthFailed { reason },
                None => Event::ConnectFailed {
                    reason: Arc::new(error),
                },
            });
            if let Some(failure) = failure {
                return Err(CloseReason::Failed(failure));
            }
        }
    }

    /// The last words on the old connection, where there is one; it is not waited for long.
    async fn part(&mut self, reason: &CloseReason) {
        if !matches!(reason, CloseReason::Eof) {
            self.driver.finish(PART_MAX).await;
        }
        self.driver.abandon();
    }

    /// One attempt after a delay; `None`: the end is wanted.
    async fn attempt(&mut self, delay: Duration) -> Option<Result<Bound, ConnectError>> {
        let resume = self.resume();
        let (settings, outbox) = (&self.settings, &self.shared.outbox);
        let trying = async {
            tokio::time::sleep(delay).await;
            connect(settings, resume.as_ref()).await
        };
        let closing = async {
            while !outbox.is_closing() {
                outbox.wake.notified().await;
            }
        };
        tokio::select! {
            result = trying => Some(result),
            () = closing => None,
        }
    }

    fn resume(&self) -> Option<Resume> {
        let resumable = self.resumable.as_ref()?;
        Some(Resume {
            previd: resumable.id.clone(),
            h: self.driver.machine.handled(),
            jid: self.shared.jid(),
            location: resumable.location.clone(),
        })
    }

    fn take_up(&mut self, bound: Bound) {
        self.driver = bound.driver;
        self.since = Instant::now();
        self.stalled_since = None;
        self.full_since = None;
        self.asked_since = None;
        self.begin(bound.jid, bound.resumption);
        self.shared.outbox.refuse(None);
    }

    /// The first steps on a bound or resumed stream.
    pub(super) fn begin(&mut self, jid: FullJid, resumption: Resumption) {
        let resumed = matches!(resumption, Resumption::Done { .. });
        self.shared.set_jid(jid.clone());
        let versions = self.driver.machine.has_roster_versions();
        let known = &self.shared.has_roster_versions;
        known.store(versions, Ordering::Relaxed);
        let pre_approval = self.driver.machine.has_pre_approval();
        let known = &self.shared.has_pre_approval;
        known.store(pre_approval, Ordering::Relaxed);
        self.shared.push(Event::Connected {
            jid: jid.clone(),
            resumed,
        });
        match resumption {
            Resumption::Done { h } => self.go_on(h),
            Resumption::Refused { h } => {
                // A count that makes no sense here is as good as none.
                let _ = self.unacked.ack(h.unwrap_or_default());
                self.start_anew(jid);
            }
            Resumption::None => self.start_anew(jid),
        }
        if !self.session.active {
            self.driver.machine.set_active(false);
        }
    }

    /// The same session: what the server has not got is sent again as it was.
    fn go_on(&mut self, h: u32) {
        if let Err(TooHigh { sent }) = self.unacked.ack(h) {
            warn!(h, sent, "the server resumes with more than it was sent");
            self.resumable = None;
            return self.fail(sm::too_high(h, sent));
        }
        for outgoing in self.unacked.iter() {
            self.driver.machine.send_stanza(&outgoing.stanza);
        }
        if !self.unacked.is_empty() {
            self.ask();
        }
    }

    /// A new session, set to what the old one was; what the server may not have got is sent again
    /// where that makes sense.
    fn start_anew(&mut self, jid: FullJid) {
        self.resumable = None;
        let left = self.unacked.restart();
        let again: Vec<bool> = left
            .iter()
            .map(|it| self.is_sent_again(&it.stanza))
            .collect();
        let requests = left.iter().zip(&again).filter(|(_, again)| **again);
        let ids = requests.filter_map(|(it, _)| it.stanza.head.id.clone());
        self.requests.move_to(jid, &ids.collect());
        for stanza in self.session.restore("restored") {
            self.hand_over(Outgoing {
                stanza,
                wants: Wants::Written,
                ticket: 0,
                since: None,
            });
        }
        for (mut outgoing, again) in left.into_iter().zip(again) {
            if again {
                outgoing.stanza = delayed(outgoing.stanza, outgoing.since);
                self.hand_over(outgoing);
            } else {
                let tell = is_missed(&outgoing.stanza);
                self.hand_back(outgoing, NotAckedReason::NewSession, tell);
            }
        }
    }

    /// Messages to people mean the same in a new session, and so do requests that are waited for.
    fn is_sent_again(&self, stanza: &Stanza) -> bool {
        match stanza.kind {
            Kind::Message => stanza.head.ty != Ty::Groupchat,
            Kind::Iq => self.requests.is_waiting(stanza),
            Kind::Presence => false,
        }
    }
}

/// Its sender may want to know that it was not sent. The last presence for all is repeated, who sent
/// a request learns of it anyway, and an answer is no longer asked for.
pub(super) fn is_missed(stanza: &Stanza) -> bool {
    match stanza.kind {
        Kind::Message => true,
        Kind::Presence => stanza.head.to.is_some(),
        Kind::Iq => false,
    }
}

/// When a message was sent first (XEP-0198 section 5, XEP-0203).
fn delayed(stanza: Stanza, since: Option<Instant>) -> Stanza {
    let is_marked = stanza.has(id::DELAY, name::DELAY);
    match since {
        Some(since) if stanza.kind == Kind::Message && !is_marked => {
            #[expect(
                clippy::disallowed_methods,
                reason = "a stamp for people, not a deadline"
            )]
            let now = std::time::SystemTime::now();
            let stamp = now.checked_sub(since.elapsed()).unwrap_or(now);
            stanza.with_child(&Delay::new(None, stamp).to_element())
        }
        _ => stanza,
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness all clients come back at the same time, which is no reason not to.
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}
