//! What characters receive, and what they must not.

use super::{EVENTS_MAX, Playing, fail};
use crate::script::diff;
use crate::script::login::{condition, shown};
use crate::script::matcher::{compare, score};
use crate::script::model::{Expectation, Step};
use crate::script::peer::Got;
use crate::script::report::{EventKind, Failure};
use crate::script::template::Template;
use crate::tree::Tree;
use std::time::Duration;
use tokio::time::Instant;
use xmpp_stream::ns;

/// How long a raw peer, which cannot ask the server, must receive nothing.
const SILENCE: Duration = Duration::from_millis(200);
/// Candidates shown beside the nearest.
const CANDIDATES_MAX: usize = 2;

impl Playing<'_> {
    /// `receives`, with all that may stand behind it.
    pub(super) async fn receive(
        &mut self,
        step: &Step,
        who: usize,
        expectation: &Expectation,
    ) -> Result<(), Failure> {
        let text = self.fill(&expectation.elements, step)?;
        let mut expected = trees(step, &expectation.elements, &text)?;
        let patience = expectation.within.unwrap_or(self.play.patience);
        let until = Instant::now() + patience;
        let mut passed_over: Vec<Tree> = Vec::new();
        while !expected.is_empty() {
            let got = self.peer(step, who)?.next(until).await;
            let tree = match got {
                Some(Got::Element(tree) | Got::Header(tree)) => tree,
                None => {
                    let what = format!("nothing more came in {patience:?}");
                    return Err(self.not_received(step, what, &expected, &passed_over));
                }
                Some(other) => {
                    self.note_received(who, &other, EventKind::Unexpected);
                    let what = format!("there was {} instead", shown(&other));
                    return Err(self.not_received(step, what, &expected, &passed_over));
                }
            };
            let eligible = if expectation.in_any_order {
                expected.len()
            } else {
                1
            };
            let mut found = None;
            for (at, wanted) in expected.iter().take(eligible).enumerate() {
                if let Ok(captures) = compare(wanted, &tree) {
                    found = Some((at, captures));
                    break;
                }
            }
            let is_found = found.is_some();
            if let Some((at, captures)) = found {
                expected.remove(at);
                self.captures.extend(captures);
            }
            let ok = is_found || expectation.among_others;
            let kind = if ok {
                EventKind::Received
            } else {
                EventKind::Unexpected
            };
            self.note_received(who, &Got::Element(tree.clone()), kind);
            if !ok {
                return Err(self.mismatch(step, &expected, eligible, &tree).await);
            }
            if !is_found {
                passed_over.push(tree);
                if passed_over.len() >= EVENTS_MAX {
                    return Err(fail(step, format!("over {EVENTS_MAX} others came")));
                }
            }
        }
        Ok(())
    }

    /// Nothing came, or the connection ended: the nearest of what was passed over is shown.
    fn not_received(
        &self,
        step: &Step,
        what: String,
        expected: &[Tree],
        passed_over: &[Tree],
    ) -> Failure {
        let mut failure = fail(step, what);
        let Some(wanted) = expected.first() else {
            return failure;
        };
        failure.expected = Some(joined(expected));
        let mut near: Vec<&Tree> = passed_over.iter().collect();
        near.sort_by_key(|tree| std::cmp::Reverse(score(wanted, tree)));
        let mut near = near.into_iter();
        if let Some(nearest) = near.next() {
            failure.rows = diff::rows(wanted, nearest);
            failure.candidates = near.take(CANDIDATES_MAX).map(Tree::to_string).collect();
        }
        failure
    }

    /// Something else came: it is compared with what it is nearest to; what comes behind it is
    /// looked at for a better one.
    async fn mismatch(
        &mut self,
        step: &Step,
        expected: &[Tree],
        eligible: usize,
        got: &Tree,
    ) -> Failure {
        let eligible = expected
            .get(..eligible.min(expected.len()))
            .unwrap_or(expected);
        let Some(wanted) = eligible.iter().max_by_key(|wanted| score(wanted, got)) else {
            return fail(step, "nothing was expected");
        };
        let what = match compare(wanted, got) {
            Err(mismatch) => mismatch.what,
            Ok(_) => "no difference".into(),
        };
        let mut failure = fail(step, what);
        failure.expected = Some(joined(eligible));
        failure.rows = diff::rows(wanted, got);
        let behind = self.behind(step).await;
        let better = behind
            .iter()
            .filter(|tree| score(wanted, tree) >= score(wanted, got));
        failure.candidates = better.take(CANDIDATES_MAX).map(Tree::to_string).collect();
        failure
    }

    /// What stands behind the element that did not match; it stays there.
    async fn behind(&mut self, step: &Step) -> Vec<Tree> {
        let mut seen = Vec::new();
        let Some(peer) = step.who.and_then(|who| self.peers.get_mut(who)?.as_mut()) else {
            return Vec::new();
        };
        let until = Instant::now() + super::AFTERWARDS;
        while seen.len() < 100 {
            match peer.next(until).await {
                None | Some(Got::End) => break,
                Some(got) => seen.push(got),
            }
        }
        let element = |got: &Got| match got {
            Got::Element(tree) => Some(tree.clone()),
            _ => None,
        };
        let trees = seen.iter().filter_map(element).collect();
        peer.keep(seen);
        trees
    }

    /// `never receives`: everybody's requests are answered first, then this one's, and nothing of the
    /// kind has come before the answer.
    pub(super) async fn never_receive(
        &mut self,
        step: &Step,
        who: usize,
        template: Option<&Template>,
    ) -> Result<(), Failure> {
        let unwanted = match template {
            Some(template) => {
                let text = self.fill(template, step)?;
                trees(step, template, &text)?.into_iter().next()
            }
            None => None,
        };
        for other in (0..self.peers.len()).filter(|other| *other != who) {
            let seen = self.seen_before_an_answer(step, other).await?;
            if let Some(peer) = self.peers.get_mut(other).and_then(Option::as_mut) {
                peer.keep(seen);
            }
        }
        let seen = self.seen_before_an_answer(step, who).await?;
        for got in &seen {
            let is_it = match (&unwanted, got) {
                (None, _) => true,
                (Some(unwanted), Got::Element(tree)) => compare(unwanted, tree).is_ok(),
                (Some(_), _) => false,
            };
            if is_it {
                self.note_received(who, got, EventKind::Unexpected);
                return Err(fail(step, format!("there was\n{}", shown(got))));
            }
        }
        self.peer(step, who)?.keep(seen);
        Ok(())
    }

    /// `waits`.
    pub(super) async fn wait(&mut self, step: &Step, who: usize) -> Result<(), Failure> {
        let seen = self.seen_before_an_answer(step, who).await?;
        self.peer(step, who)?.keep(seen);
        Ok(())
    }

    /// Sends a ping and takes what comes before its answer. Who is not online waits for a moment.
    async fn seen_before_an_answer(
        &mut self,
        step: &Step,
        who: usize,
    ) -> Result<Vec<Got>, Failure> {
        let patience = self.play.patience;
        let online = self.jids.get(who).is_some_and(Option::is_some);
        let domain = self.one(step, who)?.domain.clone();
        let Some(peer) = self.peers.get_mut(who).and_then(Option::as_mut) else {
            return Ok(Vec::new());
        };
        let id = peer.new_id();
        let online = online && !peer.has_ended() && !peer.is_dead();
        let until = Instant::now() + if online { patience } else { SILENCE };
        if online {
            let (domain, ping) = (crate::login::escaped(&domain), ns::PING);
            let ping =
                format!("<iq type='get' id='{id}' to='{domain}'><ping xmlns='{ping}'/></iq>");
            let _ = peer.send(ping.as_bytes(), patience).await;
        }
        let mut seen = Vec::new();
        while seen.len() < EVENTS_MAX {
            match peer.next(until).await {
                Some(Got::Element(tree)) if tree.name() == "iq" && tree.attr("id") == Some(&id) => {
                    break;
                }
                None if online => {
                    return Err(fail(
                        step,
                        format!("the server does not answer in {patience:?}"),
                    ));
                }
                None | Some(Got::End) => break,
                Some(got) => seen.push(got),
            }
        }
        Ok(seen)
    }

    /// `expects stream error`: the error, the closing tag, the end of the connection.
    pub(super) async fn stream_error(
        &mut self,
        step: &Step,
        who: usize,
        wanted: &str,
    ) -> Result<(), Failure> {
        let until = Instant::now() + self.play.patience;
        match self.took(step, who, until).await? {
            Some(Got::Element(tree))
                if tree.is(ns::STREAMS, "error") && condition(&tree).as_deref() == Some(wanted) => {
            }
            other => {
                return Err(instead(
                    step,
                    &format!("stream error {wanted}"),
                    other.as_ref(),
                ));
            }
        }
        match self.took(step, who, until).await? {
            Some(Got::Footer) => {}
            other => return Err(instead(step, "</stream:stream>", other.as_ref())),
        }
        self.closed(step, who, until).await
    }

    /// `expects end`: the closing tag or not, and the end of the connection.
    pub(super) async fn end(&mut self, step: &Step, who: usize) -> Result<(), Failure> {
        let until = Instant::now() + self.play.patience;
        match self.took(step, who, until).await? {
            Some(Got::End) => {}
            Some(Got::Footer) => return self.closed(step, who, until).await,
            other => return Err(instead(step, "the end of the stream", other.as_ref())),
        }
        self.gone(who);
        Ok(())
    }

    async fn closed(&mut self, step: &Step, who: usize, until: Instant) -> Result<(), Failure> {
        match self.took(step, who, until).await? {
            Some(Got::End) => {
                self.gone(who);
                Ok(())
            }
            other => Err(instead(step, "the end of the connection", other.as_ref())),
        }
    }

    fn gone(&mut self, who: usize) {
        if let Some(peer) = self.peers.get_mut(who) {
            *peer = None;
        }
    }

    async fn took(
        &mut self,
        step: &Step,
        who: usize,
        until: Instant,
    ) -> Result<Option<Got>, Failure> {
        let got = self.peer(step, who)?.next(until).await;
        if let Some(got) = &got {
            self.note_received(who, got, EventKind::Received);
        }
        Ok(got)
    }
}

fn instead(step: &Step, wanted: &str, got: Option<&Got>) -> Failure {
    let got = got.map_or_else(|| "nothing, in time".into(), shown);
    fail(step, format!("expected {wanted}, but there was\n{got}"))
}

fn trees(step: &Step, template: &Template, text: &str) -> Result<Vec<Tree>, Failure> {
    Tree::read_all(text).map_err(|(byte, what)| {
        let at = template.place(byte).unwrap_or_else(|| step.at.clone());
        Failure::new(&at, &step.text, what)
    })
}

fn joined(trees: &[Tree]) -> String {
    let shown: Vec<String> = trees.iter().map(Tree::to_string).collect();
    shown.join("\n")
}
