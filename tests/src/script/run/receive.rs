//! What characters receive, and what they must not.

use super::{EVENTS_MAX, Playing, fail};
use crate::login::escaped;
use crate::script::diff;
use crate::script::login::{condition, shown};
use crate::script::matcher::{compare, score};
use crate::script::model::{Expectation, Order, Step};
use crate::script::peer::{Got, Peer};
use crate::script::report::{EventKind, Failure};
use crate::script::template::Template;
use crate::tree::Tree;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use xmpp_stream::ns;

/// How long somebody who cannot ask the server must receive nothing.
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
    ) -> Result<(), Box<Failure>> {
        let text = self.fill(&expectation.elements, step)?;
        let mut expected = trees(step, &expectation.elements, &text)?;
        let patience = expectation.within.unwrap_or(self.play.patience);
        let until = Instant::now() + patience;
        let mut passed_over: Vec<Got> = Vec::new();
        while !expected.is_empty() {
            let eligible = match expectation.order {
                Order::Next => 1,
                Order::Any | Order::Loose => expected.len(),
            };
            let tree = match self.take(step, who, until).await? {
                Some(Got::Element(tree) | Got::Header(tree)) => tree,
                None => {
                    let what = format!("nothing more came in {patience:?}");
                    return Err(self.not_received(step, what, &expected, &passed_over));
                }
                Some(other) => {
                    self.mark_unexpected(who);
                    let what = format!("there was {} instead", shown(&other));
                    return Err(self.not_received(step, what, &expected, &passed_over));
                }
            };
            let found = expected.iter().take(eligible).enumerate();
            let found = found.map(|(at, wanted)| (at, compare(wanted, &tree)));
            let found = found
                .filter_map(|(at, result)| Some((at, result.ok()?)))
                .next();
            match (found, expectation.order) {
                (Some((at, captures)), _) => {
                    expected.remove(at);
                    self.captures.extend(captures);
                }
                (None, Order::Loose) if passed_over.len() < EVENTS_MAX => {
                    passed_over.push(Got::Element(tree));
                }
                (None, _) => {
                    self.mark_unexpected(who);
                    return Err(self.mismatch(step, &expected, eligible, &tree).await);
                }
            }
        }
        self.peer(step, who)?.keep(passed_over);
        Ok(())
    }

    /// What comes next, told once to those who read the report.
    async fn take(
        &mut self,
        step: &Step,
        who: usize,
        until: Instant,
    ) -> Result<Option<Got>, Box<Failure>> {
        let peer = self.peer(step, who)?;
        let is_told = peer.has_kept();
        let got = peer.next(until).await;
        if let Some(got) = &got
            && !is_told
        {
            self.note_received(who, got, EventKind::Received);
        }
        Ok(got)
    }

    /// This one, the nearest to what was expected, was not as expected.
    fn mark_nearest(&mut self, who: Option<usize>, tree: &Tree) {
        let text = tree.to_string();
        let mut events = self.events.iter_mut().rev();
        let found = events.find(|event| event.lane == who && event.text == text);
        if let Some(event) = found.filter(|event| event.kind == EventKind::Received) {
            event.kind = EventKind::Unexpected;
        }
    }

    /// What came last was not as expected.
    fn mark_unexpected(&mut self, who: usize) {
        let last = self
            .events
            .iter_mut()
            .rev()
            .find(|event| event.lane == Some(who));
        if let Some(event) = last {
            event.kind = EventKind::Unexpected;
        }
    }

    /// Nothing came, or the connection ended: the nearest of what was passed over is shown.
    fn not_received(
        &mut self,
        step: &Step,
        what: String,
        expected: &[Tree],
        passed_over: &[Got],
    ) -> Box<Failure> {
        let mut failure = fail(step, what);
        let Some(wanted) = expected.first() else {
            return failure;
        };
        failure.expected = Some(joined(expected));
        let mut near: Vec<&Tree> = passed_over.iter().filter_map(element).collect();
        near.sort_by_key(|tree| std::cmp::Reverse(score(wanted, tree)));
        let mut near = near.into_iter();
        if let Some(nearest) = near.next() {
            if let Err(mismatch) = compare(wanted, nearest) {
                failure.what = format!("{} (and {})", mismatch.what, failure.what);
            }
            failure.rows = diff::rows(wanted, nearest);
            self.mark_nearest(step.who, nearest);
            let near = near.filter(|tree| tree.name() == wanted.name());
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
    ) -> Box<Failure> {
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
        for got in &seen {
            if let Some(who) = step.who {
                self.note_received(who, got, EventKind::Unexpected);
            }
        }
        let trees = seen.iter().filter_map(element).cloned().collect();
        if let Some(peer) = step.who.and_then(|who| self.peers.get_mut(who)?.as_mut()) {
            peer.keep(seen);
        }
        trees
    }

    /// `never receives`: everybody's requests are answered first, then this one's, and nothing of the
    /// kind has come before the answer.
    pub(super) async fn never_receive(
        &mut self,
        step: &Step,
        who: usize,
        template: Option<&Template>,
    ) -> Result<(), Box<Failure>> {
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
        let mut offending = None;
        for got in &seen {
            let is_it = match (&unwanted, got) {
                (None, _) => true,
                (Some(unwanted), Got::Element(tree)) => compare(unwanted, tree).is_ok(),
                (Some(_), _) => false,
            };
            if is_it {
                offending = Some(shown(got));
                break;
            }
        }
        self.peer(step, who)?.keep(seen);
        match offending {
            Some(got) => Err(fail(step, format!("there was\n{got}"))),
            None => Ok(()),
        }
    }

    /// `waits`.
    pub(super) async fn wait(&mut self, step: &Step, who: usize) -> Result<(), Box<Failure>> {
        let seen = self.seen_before_an_answer(step, who).await?;
        self.peer(step, who)?.keep(seen);
        Ok(())
    }

    /// Sends a ping and takes what comes before its answer. Who is not online waits for a moment.
    async fn seen_before_an_answer(
        &mut self,
        step: &Step,
        who: usize,
    ) -> Result<Vec<Got>, Box<Failure>> {
        let patience = self.play.patience;
        let asks = self.asks(who);
        let Some(peer) = self.peers.get_mut(who).and_then(Option::as_mut) else {
            return Ok(Vec::new());
        };
        let id = peer.new_id();
        let online = asks.is_some();
        let until = Instant::now() + if online { patience } else { SILENCE };
        if let Some((from, to)) = asks {
            let from = from.map(|from| format!(" from='{}'", escaped(&from)));
            let (from, to) = (from.unwrap_or_default(), escaped(&to));
            let ping = format!(
                "<iq type='get' id='{id}'{from} to='{to}'><ping xmlns='{}'/></iq>",
                ns::PING
            );
            let _ = peer.send(ping.as_bytes(), patience).await;
        }
        let (mut seen, mut fresh) = (Vec::new(), Vec::new());
        let mut told = peer.kept();
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
                Some(got) => {
                    if told > 0 {
                        told -= 1;
                    } else {
                        fresh.push(got.clone());
                    }
                    seen.push(got);
                }
            }
        }
        for got in fresh {
            self.note_received(who, &got, EventKind::Received);
        }
        Ok(seen)
    }

    /// `expects stream error`: the error, the closing tag, the end of the connection.
    pub(super) async fn stream_error(
        &mut self,
        step: &Step,
        who: usize,
        wanted: &str,
    ) -> Result<(), Box<Failure>> {
        let others = self.leave_others(who);
        let ended = self.ends_in_error(step, who, wanted).await;
        self.gone(who, ended.is_ok(), others);
        ended
    }

    async fn ends_in_error(
        &mut self,
        step: &Step,
        who: usize,
        wanted: &str,
    ) -> Result<(), Box<Failure>> {
        let until = Instant::now() + self.play.patience;
        match self.take(step, who, until).await? {
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
        match self.take(step, who, until).await? {
            Some(Got::Footer) => {}
            other => return Err(instead(step, "</stream:stream>", other.as_ref())),
        }
        self.closed(step, who, until).await
    }

    /// `expects end`: the closing tag or not, and the end of the connection.
    pub(super) async fn end(&mut self, step: &Step, who: usize) -> Result<(), Box<Failure>> {
        let others = self.leave_others(who);
        let until = Instant::now() + self.play.patience;
        let ended = match self.take(step, who, until).await? {
            Some(Got::End) => Ok(()),
            Some(Got::Footer) => self.closed(step, who, until).await,
            other => Err(instead(step, "the end of the stream", other.as_ref())),
        };
        self.gone(who, ended.is_ok(), others);
        ended
    }

    async fn closed(
        &mut self,
        step: &Step,
        who: usize,
        until: Instant,
    ) -> Result<(), Box<Failure>> {
        match self.take(step, who, until).await? {
            Some(Got::End) => Ok(()),
            other => Err(instead(step, "the end of the connection", other.as_ref())),
        }
    }

    /// What comes over other connections of the same peer waits for a while.
    fn leave_others(&mut self, who: usize) -> Option<UnboundedReceiver<Got>> {
        self.peers.get_mut(who)?.as_mut()?.leave_others()
    }

    /// The connection has ended, or not; what comes over others does not end with it.
    fn gone(&mut self, who: usize, is_gone: bool, others: Option<UnboundedReceiver<Got>>) {
        let Some(slot) = self.peers.get_mut(who) else {
            return;
        };
        match slot {
            Some(peer) if !is_gone => peer.hear(others),
            _ => *slot = others.map(Peer::heard),
        }
    }
}

fn element(got: &Got) -> Option<&Tree> {
    match got {
        Got::Element(tree) => Some(tree),
        _ => None,
    }
}

fn instead(step: &Step, wanted: &str, got: Option<&Got>) -> Box<Failure> {
    let got = got.map_or_else(|| "nothing, in time".into(), shown);
    fail(step, format!("expected {wanted}, but there was\n{got}"))
}

fn trees(step: &Step, template: &Template, text: &str) -> Result<Vec<Tree>, Box<Failure>> {
    Tree::read_all(text).map_err(|(byte, what)| {
        let at = template.place(byte).unwrap_or_else(|| step.at.clone());
        Box::new(Failure::new(&at, &step.text, what))
    })
}

fn joined(trees: &[Tree]) -> String {
    let shown: Vec<String> = trees.iter().map(Tree::to_string).collect();
    shown.join("\n")
}
