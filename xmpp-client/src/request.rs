//! IQ requests that wait for their answers.
//!
//! An answer is matched by id AND sender AND type (RFC 6120 section 8.2.3): by id alone, anyone who
//! can guess an id could answer in another's name. Held by the listener; no lock, no clock.

use crate::error::IqError;
use std::collections::{HashMap, HashSet};
use tokio::sync::oneshot;
use xmpp_stream::jid::{FullJid, Jid};
use xmpp_stream::stanza::{Kind, Stanza, Ty};

/// Where the answer goes.
pub(crate) type Reply = oneshot::Sender<Result<Stanza, IqError>>;

/// Requests without an answer yet, by id.
pub(crate) struct Requests {
    own: FullJid,
    waiting: HashMap<Box<str>, (Option<Jid>, Reply)>,
    ids: u64,
}

impl Requests {
    pub(crate) fn new(own: FullJid) -> Self {
        Self {
            own,
            waiting: HashMap::new(),
            ids: 0,
        }
    }

    /// A new session began, under this JID. What the old one was asked is answered by nobody, but
    /// for the requests that are sent again.
    pub(crate) fn move_to(&mut self, own: FullJid, again: &HashSet<Box<str>>) {
        self.own = own;
        self.waiting.retain(|id, _| again.contains(id));
    }

    /// Somebody still waits for the answer to this.
    pub(crate) fn is_waiting(&self, iq: &Stanza) -> bool {
        let waiting = iq.head.id.as_ref().and_then(|id| self.waiting.get(id));
        waiting.is_some_and(|(_, reply)| !reply.is_closed())
    }

    /// Gives the request an id where it has none, and remembers who is asked. `None`: it is no
    /// request, or its id is in use; the reply has been told.
    pub(crate) fn begin(&mut self, mut iq: Stanza, reply: Reply, max: usize) -> Option<Stanza> {
        if reply.is_closed() {
            return None;
        }
        if self.waiting.len() >= max {
            self.forget_given_up();
        }
        if iq.kind != Kind::Iq || !matches!(iq.head.ty, Ty::Get | Ty::Set) {
            let _ = reply.send(Err(IqError::NotARequest));
            return None;
        }
        if self.waiting.len() >= max {
            let _ = reply.send(Err(IqError::TooMany));
            return None;
        }
        let id = match iq.head.id.take() {
            Some(id) => id,
            None => self.fresh_id(),
        };
        if self.waiting.contains_key(&id) {
            let _ = reply.send(Err(IqError::IdInUse));
            return None;
        }
        iq.head.id = Some(id.clone());
        self.waiting.insert(id, (iq.head.to.clone(), reply));
        Some(iq)
    }

    /// Hands an answer to who waits for it; whatever is no such answer changes nothing. True when
    /// somebody waited.
    pub(crate) fn answer(&mut self, stanza: &Stanza) -> bool {
        let is_answer = stanza.kind == Kind::Iq && matches!(stanza.head.ty, Ty::Result | Ty::Error);
        let (true, Some(id)) = (is_answer, stanza.head.id.as_deref()) else {
            return false;
        };
        let asked = self.waiting.get(id);
        if !asked.is_some_and(|(to, _)| self.may_answer(to.as_ref(), stanza.head.from.as_ref())) {
            return false;
        }
        let Some((_, reply)) = self.waiting.remove(id) else {
            return false;
        };
        let result = match stanza.error() {
            Some(error) => Err(IqError::Stanza(error)),
            None => Ok(stanza.clone()),
        };
        let _ = reply.send(result);
        true
    }

    /// Somebody waits for an answer.
    pub(crate) fn any(&mut self) -> bool {
        self.forget_given_up();
        !self.waiting.is_empty()
    }

    /// RFC 6120 section 10.3.3: what has no `to` is answered by the server for the own account.
    fn may_answer(&self, asked: Option<&Jid>, from: Option<&Jid>) -> bool {
        let own_bare = self.own.as_jid().to_bare();
        match (asked, from) {
            (Some(asked), _) if asked != own_bare.as_jid() => from == Some(asked),
            (_, None) => true,
            (_, Some(from)) => {
                from == own_bare.as_jid()
                    || from == self.own.as_jid()
                    || from.as_str() == self.own.domain()
            }
        }
    }

    fn fresh_id(&mut self) -> Box<str> {
        loop {
            self.ids += 1;
            let id = format!("q{}", self.ids).into_boxed_str();
            if !self.waiting.contains_key(&id) {
                return id;
            }
        }
    }

    /// Whoever waited may have stopped to: timeouts are the asker's.
    fn forget_given_up(&mut self) {
        self.waiting.retain(|_, (_, reply)| !reply.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::error::{StanzaCondition, StanzaError};

    const MAX: usize = 2;

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    fn ask(to: Option<&str>) -> (Requests, oneshot::Receiver<Result<Stanza, IqError>>) {
        let mut requests = Requests::new(FullJid::parse("ann@a.test/x").unwrap());
        let mut iq = Stanza::iq(Ty::Get, "1");
        iq.head.to = to.map(jid);
        let (reply, answer) = oneshot::channel();
        assert!(requests.begin(iq, reply, MAX).is_some());
        (requests, answer)
    }

    /// Who is asked, who answers: is the answer taken?
    #[track_caller]
    fn check(to: Option<&str>, from: Option<&str>, taken: bool) {
        let (mut requests, mut answer) = ask(to);
        let mut result = Stanza::iq(Ty::Result, "1");
        result.head.from = from.map(jid);
        requests.answer(&result);
        assert_eq!(
            answer.try_recv().is_ok(),
            taken,
            "{to:?} answered by {from:?}"
        );
    }

    #[test]
    fn answers_are_matched_by_sender() {
        check(Some("ben@b.test/y"), Some("ben@b.test/y"), true);
        check(Some("ben@b.test/y"), Some("ben@b.test"), false);
        check(Some("ben@b.test/y"), Some("eve@b.test/y"), false);
        check(Some("ben@b.test/y"), None, false);
        check(Some("a.test"), Some("a.test"), true);
        check(Some("a.test"), None, false);
        check(Some("a.test"), Some("eve@a.test"), false);
        for to in [None, Some("ann@a.test")] {
            check(to, None, true);
            check(to, Some("ann@a.test"), true);
            check(to, Some("ann@a.test/x"), true);
            check(to, Some("a.test"), true);
            check(to, Some("eve@a.test"), false);
            check(to, Some("ann@a.test/other"), false);
        }
    }

    #[test]
    fn answers_are_matched_by_id_and_type() {
        for wrong in [
            Stanza::iq(Ty::Result, "2"),
            Stanza::iq(Ty::Get, "1"),
            Stanza::iq(Ty::Set, "1"),
            Stanza::message(Ty::Error).with_id("1"),
            Stanza::new(Kind::Iq, Ty::Result),
        ] {
            let (mut requests, mut answer) = ask(None);
            requests.answer(&wrong);
            assert!(answer.try_recv().is_err(), "{wrong:?}");
            requests.answer(&Stanza::iq(Ty::Result, "1"));
            assert!(answer.try_recv().is_ok());
        }
    }

    #[test]
    fn an_error_is_an_answer() {
        let (mut requests, mut answer) = ask(Some("a.test"));
        let asked = Stanza::iq(Ty::Get, "1")
            .with_from(jid("ann@a.test/x"))
            .with_to(jid("a.test"));
        let error = StanzaError::from(StanzaCondition::ItemNotFound);
        requests.answer(&asked.error_reply(&error).unwrap());
        let Ok(Err(IqError::Stanza(error))) = answer.try_recv() else {
            panic!("no error")
        };
        assert_eq!(error.condition, StanzaCondition::ItemNotFound);
        assert!(!requests.any());
    }

    #[test]
    fn only_requests_with_a_free_id_are_sent() {
        let (mut requests, _answer) = ask(None);
        let refused = |requests: &mut Requests, iq: Stanza| {
            let (reply, mut answer) = oneshot::channel();
            assert!(requests.begin(iq, reply, MAX).is_none());
            answer.try_recv().unwrap().unwrap_err()
        };
        assert_eq!(
            refused(&mut requests, Stanza::iq(Ty::Get, "1")),
            IqError::IdInUse
        );
        assert_eq!(
            refused(&mut requests, Stanza::iq(Ty::Result, "2")),
            IqError::NotARequest
        );
        assert_eq!(
            refused(&mut requests, Stanza::message(Ty::None)),
            IqError::NotARequest
        );
    }

    #[test]
    fn a_bounded_number_waits() {
        let (mut requests, first) = ask(None);
        let more = |requests: &mut Requests| {
            let (reply, mut answer) = oneshot::channel();
            let begun = requests.begin(Stanza::new(Kind::Iq, Ty::Get), reply, MAX);
            (begun.is_some(), answer.try_recv().ok(), answer)
        };
        let (begun, _, _second) = more(&mut requests);
        assert!(begun);
        let (begun, refused, _) = more(&mut requests);
        assert!(!begun && matches!(refused, Some(Err(IqError::TooMany))));
        drop(first);
        assert!(more(&mut requests).0);
    }

    #[test]
    fn an_id_is_made_and_freed_when_nobody_waits() {
        let (mut requests, answer) = ask(None);
        drop(answer);
        assert!(!requests.any());
        let (reply, _answer) = oneshot::channel();
        let sent = requests
            .begin(Stanza::new(Kind::Iq, Ty::Set), reply, MAX)
            .unwrap();
        assert!(sent.head.id.is_some());
    }
}
