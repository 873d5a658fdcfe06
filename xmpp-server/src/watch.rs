//! The tap: every stanza of a session passes here, is counted, and shown to whoever watches.
//!
//! DESIGN 11: `session watch` shows bodies to whoever may open the control socket. Where nobody
//! watches, a stanza costs one relaxed add and one relaxed load. A watcher has a queue of its own
//! with a bound: what does not fit is counted and told, and nobody ever waits for it.

use crate::clock::Clock;
use crate::limits::Limits;
use crate::metrics::{self, Metrics};
use crate::session::outbox::OutItem;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::Notify;
use xmpp_stream::jid::{FullJid, Jid};
use xmpp_stream::stanza::{Item, Stanza, Ty};

/// Counters, and whoever watches.
#[derive(Debug)]
pub struct Tap {
    /// Counters of the whole server.
    pub metrics: Metrics,
    clock: Clock,
    /// How many watch: nobody, nearly always.
    watching: AtomicUsize,
    watchers: RwLock<Vec<Arc<Watcher>>>,
}

/// Which way a stanza went, as seen from the server.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The client sent it.
    In,
    /// It was sent to the client.
    Out,
}

/// What a watcher is shown.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "shown", rename_all = "kebab-case")]
pub enum Shown {
    /// The session with exactly the watched address ended.
    Ended {
        /// Its address.
        jid: String,
    },
    /// So many stanzas did not fit into the watcher's queue.
    Missed {
        /// How many.
        stanzas: u64,
    },
    /// A stanza.
    Stanza {
        /// When (XEP-0082).
        at: String,
        /// Which way.
        way: Way,
        /// Of which session.
        jid: String,
        /// Its XML.
        xml: String,
    },
}

/// One who watches; the watch ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    tap: Arc<Tap>,
    watcher: Arc<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    /// An account, or one session.
    jid: Jid,
    items_max: usize,
    bytes_max: usize,
    queue: Mutex<Queue>,
    /// Something was shown, and nobody was woken yet.
    news: AtomicBool,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Shown>,
    bytes: usize,
    missed: u64,
    ended: bool,
}

impl Tap {
    /// A tap that nobody watches.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            metrics: Metrics::default(),
            clock,
            watching: AtomicUsize::new(0),
            watchers: RwLock::default(),
        }
    }

    /// A session's client sent a stanza.
    pub fn received(&self, jid: &FullJid, stanza: &Stanza) {
        self.metrics.received.count_at(metrics::kind(stanza.kind));
        self.show(jid, Way::In, |xml| stanza.write(xml));
        self.wake();
    }

    /// An item of a session's queue is written to its connection. Under the queue's lock: the caller
    /// wakes with `wake` when it is free.
    pub fn sent(&self, jid: &FullJid, item: &OutItem) {
        let stanza: &Stanza = match item {
            Item::Shared(_, rendered, _) => rendered.stanza(),
            Item::One(stanza) => stanza,
            Item::Nonza(_) | Item::Close(_) => return,
        };
        self.metrics.sent.count_at(metrics::kind(stanza.kind));
        if stanza.head.ty == Ty::Error
            && let Some(error) = stanza.error()
        {
            let at = error.condition as usize;
            self.metrics.stanza_errors.count_at(at);
        }
        self.show(jid, Way::Out, |xml| match item {
            Item::Shared(to, rendered, _) => rendered.write(xml, *to, Some(jid)),
            _ => stanza.write(xml),
        });
    }

    /// A session ended. Under its account's lock: the caller wakes with `wake` when it is free.
    pub fn ended(&self, jid: &FullJid) {
        if self.watching.load(Ordering::Relaxed) == 0 {
            return;
        }
        for watcher in self.lock_read().iter() {
            if watcher.jid == *jid.as_jid() {
                watcher.lock().ended = true;
                watcher.news.store(true, Ordering::Release);
            }
        }
    }

    /// Wakes whoever was shown something (DESIGN 5 rule 1: with no lock held).
    pub fn wake(&self) {
        if self.watching.load(Ordering::Relaxed) == 0 {
            return;
        }
        let watchers = self.lock_read();
        let told = watchers
            .iter()
            .filter(|watcher| watcher.news.swap(false, Ordering::AcqRel));
        let told: Vec<_> = told.map(Arc::clone).collect();
        drop(watchers);
        told.iter().for_each(|watcher| watcher.arrived.notify_one());
    }

    /// Begins to watch an account (a bare JID) or a session (a full one).
    #[must_use]
    pub fn watch(self: &Arc<Self>, jid: Jid, limits: &Limits) -> Watch {
        let watcher = Arc::new(Watcher {
            jid,
            items_max: limits.watch_stanzas_max,
            bytes_max: limits.watch_bytes_max,
            queue: Mutex::default(),
            news: AtomicBool::new(false),
            arrived: Notify::new(),
        });
        let mut watchers = self
            .watchers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        watchers.push(Arc::clone(&watcher));
        self.watching.store(watchers.len(), Ordering::Relaxed);
        let tap = Arc::clone(self);
        Watch { tap, watcher }
    }

    /// How many watch.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watching.load(Ordering::Relaxed)
    }

    fn lock_read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Watcher>>> {
        self.watchers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, jid: &FullJid, way: Way, write: impl Fn(&mut Vec<u8>)) {
        if self.watching.load(Ordering::Relaxed) == 0 {
            return;
        }
        let watchers = self.lock_read();
        let mut concerned = watchers
            .iter()
            .filter(|watcher| watcher.sees(jid))
            .peekable();
        if concerned.peek().is_none() {
            return;
        }
        let mut xml = Vec::new();
        write(&mut xml);
        let xml = String::from_utf8_lossy(&xml);
        for watcher in concerned {
            let shown = Shown::Stanza {
                at: self.clock.stamp(),
                way,
                jid: jid.to_string(),
                xml: xml.clone().into_owned(),
            };
            watcher.push(shown, xml.len(), &self.metrics);
        }
    }
}

impl Watcher {
    fn sees(&self, jid: &FullJid) -> bool {
        match self.jid.is_bare() {
            true => self.jid.as_str() == jid.bare_str(),
            false => self.jid == *jid.as_jid(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits and never grows past its bounds.
    fn push(&self, shown: Shown, bytes: usize, metrics: &Metrics) {
        let mut queue = self.lock();
        let is_full = queue.items.len() >= self.items_max || queue.bytes + bytes > self.bytes_max;
        if is_full || queue.missed > 0 {
            queue.missed += 1;
            metrics.watch_missed.count();
            return;
        }
        queue.bytes += bytes;
        queue.items.push_back(shown);
        self.news.store(true, Ordering::Release);
    }

    /// What waits, behind it how much was missed since, and whether it is over.
    fn take(&self) -> Vec<Shown> {
        let mut queue = self.lock();
        queue.bytes = 0;
        let mut items: Vec<_> = std::mem::take(&mut queue.items).into();
        let stanzas = std::mem::take(&mut queue.missed);
        if stanzas > 0 {
            items.push(Shown::Missed { stanzas });
        }
        if std::mem::take(&mut queue.ended) {
            let jid = self.jid.to_string();
            items.push(Shown::Ended { jid });
        }
        items
    }
}

impl Watch {
    /// Waits for something to show; never empty.
    pub async fn next(&self) -> Vec<Shown> {
        loop {
            let items = self.watcher.take();
            if !items.is_empty() {
                return items;
            }
            self.watcher.arrived.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let tap = &self.tap;
        let mut watchers = tap.watchers.write().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
        tap.watching.store(watchers.len(), Ordering::Relaxed);
    }
}

impl Shown {
    /// One line for people. Line ends and controls, which would steer the terminal, are shown as
    /// character references.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Ended { jid } => format!("{jid} ended"),
            Self::Missed { stanzas } => format!("{stanzas} stanzas not shown"),
            Self::Stanza { at, way, jid, xml } => {
                let way = match way {
                    Way::In => "in ",
                    Way::Out => "out",
                };
                format!("{at} {way} {} {}", harmless(jid), harmless(xml))
            }
        }
    }
}

fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for character in text.chars() {
        let steers = character.is_control()
            || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers {
            harmless.push_str(&format!("&#x{:X};", u32::from(character)));
        } else {
            harmless.push(character);
        }
    }
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> FullJid {
        FullJid::parse(text).unwrap()
    }

    fn tap() -> Arc<Tap> {
        Arc::new(Tap::new(Clock::start()))
    }

    fn chat(body: &str) -> Stanza {
        Stanza::chat("ben@a.test", body).unwrap()
    }

    fn watch(tap: &Arc<Tap>, jid: &str, stanzas: usize, bytes: usize) -> Watch {
        let limits = Limits {
            watch_stanzas_max: stanzas,
            watch_bytes_max: bytes,
            ..Limits::default()
        };
        tap.watch(Jid::parse(jid).unwrap(), &limits)
    }

    fn seen(watch: &Watch) -> Vec<String> {
        let short = |shown: Shown| match shown {
            Shown::Stanza { way, jid, xml, .. } => {
                assert!(xml.contains("<body>"), "{xml}");
                format!("{way:?} {jid}")
            }
            other => other.text(),
        };
        watch.watcher.take().into_iter().map(short).collect()
    }

    #[test]
    fn an_account_or_one_session_both_ways() {
        let tap = tap();
        let account = watch(&tap, "ann@a.test", 10, 10_000);
        let session = watch(&tap, "ann@a.test/x", 10, 10_000);
        for jid in ["ann@a.test/x", "ann@a.test/y", "ben@a.test/x"] {
            tap.received(&full(jid), &chat("hi"));
            tap.sent(&full(jid), &Item::One(Box::new(chat("ho"))));
        }
        let x = ["In ann@a.test/x", "Out ann@a.test/x"];
        assert_eq!(seen(&session), x);
        let y = ["In ann@a.test/y", "Out ann@a.test/y"];
        assert_eq!(seen(&account), [x, y].concat());
        for jid in ["ann@a.test/x", "ann@a.test/y"] {
            tap.ended(&full(jid));
        }
        assert_eq!(seen(&session), ["ann@a.test/x ended"]);
        assert_eq!(seen(&account), [""; 0]);
        drop((account, session));
        assert_eq!(tap.watching.load(Ordering::Relaxed), 0);
        assert_eq!(tap.metrics.received.sum(), 3);
        assert_eq!(tap.metrics.sent.sum(), 3);
    }

    #[test]
    fn a_slow_watcher_loses_stanzas_and_is_told() {
        let (tap, x) = (tap(), full("ann@a.test/x"));
        let few = watch(&tap, "ann@a.test/x", 2, 10_000);
        let small = watch(&tap, "ann@a.test/x", 100, 300);
        for _ in 0..2 {
            tap.received(&x, &chat("hi"));
        }
        assert_eq!(seen(&few).len(), 2);
        for _ in 0..5 {
            tap.received(&x, &chat("hi"));
        }
        tap.ended(&x);
        let in_x = "In ann@a.test/x";
        let want = [in_x, in_x, "3 stanzas not shown", "ann@a.test/x ended"];
        assert_eq!(seen(&few), want);
        tap.received(&x, &chat("hi"));
        assert_eq!(seen(&few), [in_x], "nothing is missed once it reads again");
        let small = seen(&small);
        let shown = small.iter().filter(|line| *line == in_x).count();
        assert!((1..=6).contains(&shown), "{small:?}");
        let missed = format!("{} stanzas not shown", 8 - shown);
        assert!(small.contains(&missed), "{small:?}");
    }

    #[tokio::test]
    async fn a_watcher_is_woken() {
        let tap = tap();
        let watch = watch(&tap, "ann@a.test", 2, 10_000);
        let waiting = tokio::spawn(async move { watch.next().await.len() });
        tokio::task::yield_now().await;
        tap.received(&full("ann@a.test/x"), &chat("hi"));
        assert_eq!(waiting.await.unwrap(), 1);
    }

    #[test]
    fn whoever_shows_under_a_lock_wakes_behind_it() {
        struct Woken(AtomicUsize);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (tap, x) = (tap(), full("ann@a.test/x"));
        let watch = watch(&tap, "ann@a.test/x", 2, 10_000);
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Arc::clone(&woken).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut check = |show: &dyn Fn()| {
            let mut next = std::pin::pin!(watch.next());
            let before = woken.0.load(Ordering::Relaxed);
            assert!(next.as_mut().poll(&mut context).is_pending());
            show();
            assert_eq!(woken.0.load(Ordering::Relaxed), before, "under the lock");
            tap.wake();
            assert_eq!(woken.0.load(Ordering::Relaxed), before + 1);
            assert!(next.as_mut().poll(&mut context).is_ready());
            tap.wake();
            assert_eq!(woken.0.load(Ordering::Relaxed), before + 1, "told already");
        };
        check(&|| tap.sent(&x, &Item::One(Box::new(chat("hi")))));
        check(&|| tap.ended(&x));
    }

    #[test]
    fn what_is_shown_cannot_steer_a_terminal() {
        let shown = Shown::Stanza {
            at: "now".into(),
            way: Way::In,
            jid: "ann@a.test/x".into(),
            xml: "<body>a\nb\u{9b}31m\u{202e}c</body>".into(),
        };
        let want = "now in  ann@a.test/x <body>a&#xA;b&#x9B;31m&#x202E;c</body>";
        assert_eq!(shown.text(), want);
    }
}
