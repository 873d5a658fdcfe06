//! Whether a server without stream management has what it was sent: one ping behind each batch of
//! messages, whose answer, result or error, says that all before it was read (XEP-0199, DESIGN 10).
//!
//! The answer comes over whatever stream that domain's stanzas come on. Here is only what one link
//! remembers of it; `carrier` asks, `link` takes the answer.

use crate::core::Core;
use std::time::{Duration, Instant};
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::stream::s2s::Pair;
use xmpp_stream::xml::Element;

/// So many streams in a row may end before a server that has never answered does: each of the next ones
/// would bring it the same messages again.
const UNANSWERED_MAX: u32 = 3;

/// One link's.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// What is sent over the stream in use stays until an answer covers it.
    on: bool,
    waiting: Option<Waiting>,
    /// Streams that have ended since the last answer while one was waited for.
    unanswered: u32,
    peer: Peer,
    /// An answer has come, and whoever carries the queue has not seen it.
    news: bool,
}

/// A ping that was sent. An answer counts also after the end of its stream, until the next begins.
#[derive(Debug)]
struct Waiting {
    id: Box<str>,
    /// Stanzas sent before it on its stream.
    upto: u32,
    since: Instant,
}

/// What is known of the other server.
#[derive(Debug, Default)]
enum Peer {
    /// It may answer.
    #[default]
    Unknown,
    /// It has answered.
    Answers,
    /// It did not, then.
    Silent(Instant),
}

/// What a ping without an answer means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Silence {
    /// Earlier ones were answered: the connection is lost.
    Lost,
    /// This server may answer none at all: it is not asked again for a while.
    Deaf,
}

impl Pings {
    /// A stream begins; `managed`: it has stream management. A server that has not answered is asked
    /// again after `again`. True when messages of this stream are asked about.
    pub(super) fn begin(&mut self, managed: bool, now: Instant, again: Duration) -> bool {
        if self.waiting.is_some() {
            self.unanswered += 1;
            if self.unanswered >= UNANSWERED_MAX && !matches!(self.peer, Peer::Answers) {
                (self.peer, self.unanswered) = (Peer::Silent(now), 0);
            }
        }
        let is_deaf = match self.peer {
            Peer::Silent(since) => now.saturating_duration_since(since) < again,
            Peer::Unknown | Peer::Answers => false,
        };
        (self.waiting, self.news) = (None, false);
        self.on = !managed && !is_deaf;
        self.on
    }

    /// Messages are asked about.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// The other server was asked, and did not answer.
    pub(super) fn is_deaf(&self) -> bool {
        matches!(self.peer, Peer::Silent(_))
    }

    /// One at a time.
    pub(super) fn may_ask(&self) -> bool {
        self.on && self.waiting.is_none()
    }

    /// A ping with this id was sent, behind so many stanzas.
    pub(super) fn asked(&mut self, id: &str, upto: u32, now: Instant) {
        self.waiting = Some(Waiting {
            id: id.into(),
            upto,
            since: now,
        });
    }

    /// An answer with this id: so many stanzas were read; `None`: it is none to what was asked.
    pub(super) fn answered(&mut self, id: &str) -> Option<u32> {
        let waiting = self.waiting.take_if(|waiting| *waiting.id == *id)?;
        (self.peer, self.unanswered) = (Peer::Answers, 0);
        self.news = true;
        Some(waiting.upto)
    }

    /// True once after an answer.
    pub(super) fn has_news(&self) -> bool {
        self.news
    }

    /// The same, and it is seen.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Since when an answer is waited for.
    pub(super) fn since(&self) -> Option<Instant> {
        let waiting = self.waiting.as_ref().filter(|_| self.on);
        waiting.map(|waiting| waiting.since)
    }

    /// No answer came in time; `None`: it came at the last moment.
    pub(super) fn silent(&mut self, now: Instant) -> Option<Silence> {
        self.since()?;
        Some(match self.peer {
            Peer::Answers => {
                (self.peer, self.unanswered) = (Peer::Unknown, 0);
                Silence::Lost
            }
            Peer::Unknown | Peer::Silent(_) => {
                self.peer = Peer::Silent(now);
                self.forget();
                Silence::Deaf
            }
        })
    }

    /// Nothing waits for an answer any more.
    pub(super) fn forget(&mut self) {
        (self.on, self.waiting) = (false, None);
    }
}

/// The ping itself, from domain to domain.
pub(super) fn ping(pair: &Pair, id: &str) -> Option<Stanza> {
    let domain = |name: &str| BareJid::parse(name).ok().map(Jid::from);
    let ping = Stanza::iq(Ty::Get, id).with_from(domain(&pair.from)?);
    Some(
        ping.with_to(domain(&pair.to)?)
            .with_child(&Element::new(ns::PING, "ping")),
    )
}

/// The id of what may be an answer to a ping, and which link it was sent on.
fn answer(stanza: &Stanza) -> Option<(&str, &str, &str)> {
    let is_answer = stanza.kind == Kind::Iq && matches!(stanza.head.ty, Ty::Result | Ty::Error);
    let from = stanza.head.from.as_ref().filter(|_| is_answer)?;
    // A user of that domain knows nothing of what its server has read.
    if from.local().is_some() || from.resource().is_some() {
        return None;
    }
    let to = stanza.head.to.as_ref()?;
    Some((stanza.head.id.as_deref()?, to.domain(), from.domain()))
}

impl Core {
    /// Takes what answers a ping of a link's; false: it is something else.
    pub(super) fn takes_answer(&self, stanza: &Stanza) -> bool {
        let Some((id, ours, theirs)) = answer(stanza) else {
            return false;
        };
        let link = self.s2s.known(ours, theirs);
        link.is_some_and(|link| link.answered(self, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Duration = Duration::from_secs(3600);

    #[test]
    fn x0199_only_the_answer_to_what_was_asked_counts() {
        let (mut pings, now) = (Pings::default(), crate::clock::now());
        assert!(!pings.begin(true, now, AGAIN), "stream management");
        assert!(!pings.may_ask());
        assert!(pings.begin(false, now, AGAIN));
        assert!(pings.may_ask());
        pings.asked("one", 7, now);
        assert!(!pings.may_ask(), "one at a time");
        assert_eq!(pings.answered("other"), None);
        assert!(!pings.has_news());
        assert_eq!(pings.answered("one"), Some(7));
        assert!(pings.take_news() && !pings.take_news());
        assert_eq!(pings.answered("one"), None, "once");
        assert!(pings.may_ask());
        pings.asked("two", 9, now);
        assert!(pings.begin(false, now, AGAIN));
        assert_eq!(pings.answered("two"), None, "the next stream has begun");
    }

    #[test]
    fn x0199_silence_is_a_lost_connection_once_and_then_a_server_that_does_not_answer() {
        let (mut pings, now) = (Pings::default(), crate::clock::now());
        pings.begin(false, now, AGAIN);
        pings.asked("one", 1, now);
        pings.answered("one");
        pings.asked("two", 2, now);
        assert_eq!(pings.since(), Some(now));
        assert_eq!(pings.silent(now), Some(Silence::Lost));
        assert!(pings.begin(false, now, AGAIN));
        pings.asked("three", 1, now);
        assert_eq!(pings.silent(now), Some(Silence::Deaf));
        assert!(pings.is_deaf() && !pings.is_on());
        assert_eq!(pings.since(), None);
        assert!(!pings.begin(false, now + AGAIN / 2, AGAIN), "for a while");
        assert!(pings.begin(false, now + AGAIN, AGAIN), "and then again");
        pings.asked("four", 1, now);
        assert_eq!(pings.answered("four"), Some(1));
        assert!(!pings.is_deaf());
    }

    #[test]
    fn x0199_an_answer_at_the_last_moment_is_one() {
        let (mut pings, now) = (Pings::default(), crate::clock::now());
        pings.begin(false, now, AGAIN);
        pings.asked("one", 1, now);
        assert_eq!(pings.answered("one"), Some(1));
        assert_eq!(pings.silent(now), None, "nothing is waited for");
        assert!(pings.is_on());
        pings.asked("two", 2, now);
        assert_eq!(pings.silent(now), Some(Silence::Lost));
    }

    /// A server that drops pings and closes its streams early would get the same messages for ever.
    #[test]
    fn x0199_streams_that_end_without_any_answer_are_not_repeated_for_ever() {
        let (mut pings, now) = (Pings::default(), crate::clock::now());
        for stream in 0..UNANSWERED_MAX {
            assert!(pings.begin(false, now, AGAIN), "stream {stream}");
            pings.asked("one", 1, now);
        }
        assert!(!pings.begin(false, now, AGAIN) && pings.is_deaf());
        assert!(pings.begin(false, now + AGAIN, AGAIN), "and then again");
        pings.asked("two", 1, now);
        assert_eq!(pings.answered("two"), Some(1));
        // Who has answered may lose any number of connections.
        for stream in 0..3 * UNANSWERED_MAX {
            pings.asked("three", 2, now);
            assert!(pings.begin(false, now, AGAIN), "stream {stream}");
        }
    }

    #[test]
    fn x0199_answers_are_the_domains_own() {
        #[track_caller]
        fn check(text: &str, want: Option<(&str, &str, &str)>) {
            let stanza = Stanza::parse(text).expect("a stanza");
            assert_eq!(answer(&stanza), want, "{text}");
        }
        let got = Some(("i", "a.test", "b.test"));
        check("<iq type='result' id='i' from='b.test' to='a.test'/>", got);
        let error = "<iq type='error' id='i' from='b.test' to='a.test'><error type='cancel'>\
                     <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
        check(error, got);
        check(
            "<iq type='result' id='i' from='u@b.test' to='a.test'/>",
            None,
        );
        check(
            "<iq type='result' id='i' from='b.test/r' to='a.test'/>",
            None,
        );
        let ping = ping(&Pair::new("a.test", "b.test").expect("a pair"), "i").expect("a ping");
        assert_eq!(answer(&ping), None, "a request");
        let want = "<iq to='b.test' from='a.test' id='i' type='get'>\
                    <ping xmlns='urn:xmpp:ping'/></iq>";
        assert_eq!(ping.to_xml(), want);
    }
}
