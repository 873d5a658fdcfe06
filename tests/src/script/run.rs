//! Plays a script step by step. Every wait has a bound; what is not as expected is a `Failure`.

mod links;
mod receive;

use crate::lab::Arrival;
use crate::script::login::{Login, Refused, shown};
use crate::script::matcher::Captures;
use crate::script::model::{Action, Case, Character, CharacterKind, Script, Step};
use crate::script::peer::{Got, Peer};
use crate::script::report::{Event, EventKind, Failure, Outcome, Report};
use crate::script::stage::{Calls, Elsewhere, Stage, StageError};
use crate::script::template::{Template, Value};
use crate::tree::Tree;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

/// What is kept of what happened.
const EVENTS_MAX: usize = 10_000;
/// How long to look for what else has arrived once a script has failed.
const AFTERWARDS: Duration = Duration::from_millis(50);

/// What is known of a character.
pub(crate) const OF_SOMEBODY: [&str; 7] = [
    "'s full JID",
    "'s JID",
    "'s password",
    "'s domain",
    "'s username",
    "'s key",
    "'s stream id",
];

/// Turns that other tasks get before the clock is moved: far more than a stanza needs.
const SETTLE_TURNS: usize = 200;

/// How a script is played.
#[derive(Clone, Debug)]
pub struct Play {
    /// Servers that are running; `None`: one in this process.
    pub elsewhere: Option<Elsewhere>,
    /// Accounts get names of their own for this run.
    pub fresh: bool,
    /// What random names are made from.
    pub seed: u64,
    /// How long to wait for what is expected, unless the script says.
    pub patience: Duration,
}

/// Plays a script, or one case of it.
pub async fn run(script: &Script, case: Option<&Case>, play: &Play) -> Report {
    let started = Instant::now();
    let mut name = script.file.display().to_string();
    if let Some(case) = case {
        name = format!("{name}#{}", case.name);
    }
    let mut report = Report {
        name,
        file: script.file.clone(),
        title: script.title.clone(),
        outcome: Outcome::Passed,
        took: Duration::ZERO,
        seed: play.seed,
        lanes: script.cast.iter().map(|one| one.name.clone()).collect(),
        events: Vec::new(),
    };
    if play.elsewhere.is_some() && script.is_in_process_only() {
        report.outcome = Outcome::Skipped("only with a server in this process".into());
        return report;
    }
    let result = Stage::set(script, play).await;
    let failure = match result {
        Err(why) => {
            let at = script.cast.first().map(|one| one.at.clone());
            let at = at.or_else(|| script.steps.first().map(|step| step.at.clone()));
            at.map(|at| Box::new(Failure::new(&at, "setting up", why.to_string())))
        }
        Ok((stage, script)) => {
            let mut playing = Playing::new(&script, case, play, stage, started);
            let failure = playing.all().await;
            playing.strike().await;
            report.events = playing.events;
            failure
        }
    };
    report.took = started.elapsed();
    report.outcome = outcome(script, failure);
    report
}

fn outcome(script: &Script, failure: Option<Box<Failure>>) -> Outcome {
    match (script.pending(), failure) {
        (None, None) => Outcome::Passed,
        (None, Some(failure)) => Outcome::Failed(failure),
        (Some(reason), None) => Outcome::Surprise(reason.into()),
        (Some(reason), Some(failure)) => Outcome::Pending {
            reason: reason.into(),
            failure,
        },
    }
}

impl Stage {
    async fn set(script: &Script, play: &Play) -> Result<(Self, Script), StageError> {
        let mut script = script.clone();
        match &play.elsewhere {
            None => Ok((Self::here(&script).await?, script)),
            Some(elsewhere) => {
                if play.fresh {
                    for one in &mut script.cast {
                        one.jid = one.jid.take().map(|jid| fresh(&jid, play.seed));
                    }
                }
                elsewhere.prepare(&mut script.cast, play.patience).await?;
                Ok((Self::Elsewhere(elsewhere.clone()), script))
            }
        }
    }
}

/// The account's name for this run.
fn fresh(jid: &str, seed: u64) -> String {
    match jid.split_once('@') {
        Some((local, domain)) => format!("{local}-{seed:x}@{domain}"),
        None => jid.to_owned(),
    }
}

/// A script that is being played.
struct Playing<'a> {
    script: &'a Script,
    case: Option<&'a Case>,
    play: &'a Play,
    stage: Option<Stage>,
    /// One for each character; `None`: not connected.
    peers: Vec<Option<Peer>>,
    /// Who calls those that answer by hand.
    doors: Vec<Option<UnboundedReceiver<Arrival>>>,
    /// Full addresses, of the last login.
    jids: Vec<Option<String>>,
    /// What each has received, as shown.
    received: Vec<Vec<String>>,
    captures: Captures,
    events: Vec<Event>,
    started: Instant,
    line: usize,
}

impl<'a> Playing<'a> {
    fn new(
        script: &'a Script,
        case: Option<&'a Case>,
        play: &'a Play,
        stage: Stage,
        started: Instant,
    ) -> Self {
        let count = script.cast.len();
        Self {
            script,
            case,
            play,
            stage: Some(stage),
            peers: std::iter::repeat_with(|| None).take(count).collect(),
            doors: std::iter::repeat_with(|| None).take(count).collect(),
            jids: vec![None; count],
            received: vec![Vec::new(); count],
            captures: Captures::new(),
            events: Vec::new(),
            started,
            line: 0,
        }
    }

    /// Plays up to the first failure.
    async fn all(&mut self) -> Option<Box<Failure>> {
        // A server hears what comes to its domain before it calls anybody.
        if let Some(Stage::Here(here)) = &mut self.stage {
            let slots = self.peers.iter_mut().zip(&mut self.doors);
            for (one, (peer, door)) in self.script.cast.iter().zip(slots) {
                match here.calls(one) {
                    Some(Calls::Answered(calls)) => *peer = Some(Peer::heard(calls)),
                    Some(Calls::ByHand(arrivals)) => *door = Some(arrivals),
                    None => {}
                }
            }
        }
        for step in &self.script.steps {
            self.line = step.at.line;
            if let Err(mut failure) = Box::pin(self.step(step)).await {
                self.look_around().await;
                let who = step.who.and_then(|who| self.received.get(who));
                failure.received = who.cloned().unwrap_or_default();
                return Some(failure);
            }
        }
        None
    }

    /// What else has arrived for anybody, for the report.
    async fn look_around(&mut self) {
        let until = Instant::now() + AFTERWARDS;
        for who in 0..self.peers.len() {
            while let Some(peer) = self.peers.get_mut(who).and_then(Option::as_mut) {
                let is_told = peer.has_kept();
                match peer.next(until).await {
                    None | Some(Got::End) => break,
                    Some(_) if is_told => {}
                    Some(got) => self.note_received(who, &got, EventKind::Unexpected),
                }
                if self.events.len() >= EVENTS_MAX {
                    return;
                }
            }
        }
    }

    /// Closes what is open, in order as far as that is quick.
    async fn strike(&mut self) {
        for peer in self.peers.iter_mut().filter_map(Option::take) {
            let mut peer = peer;
            let _ = peer.send(b"</stream:stream>", AFTERWARDS).await;
        }
        if let Some(stage) = self.stage.take() {
            stage.end().await;
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), Box<Failure>> {
        match step.who {
            None => self.operation(step).await,
            Some(who) => {
                let kind = self.script.cast.get(who).map(|one| one.kind);
                match kind {
                    Some(_) => self.act(step, who).await,
                    None => Err(fail(step, "nobody does this")),
                }
            }
        }
    }

    async fn operation(&mut self, step: &Step) -> Result<(), Box<Failure>> {
        let told = |result: Result<(), StageError>| result.map_err(|why| fail(step, why.0));
        if let Action::Advance(time) = step.action {
            // what was sent is handled first; all of it is in this thread and in memory
            for _ in 0..SETTLE_TURNS {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(time).await;
            self.note(None, format!("{time:?} pass"));
            return Ok(());
        }
        let kicked = match &step.action {
            Action::Kick(jid) => Some(self.fill(jid, step)?),
            _ => None,
        };
        let Some(stage) = &mut self.stage else {
            return Err(fail(step, "there is no server"));
        };
        let operator = stage.operator().map_err(|why| fail(step, why.0))?;
        told(match &step.action {
            Action::Ban(jid) => operator.ban(jid).await,
            Action::Unban(jid) => operator.unban(jid).await,
            Action::RemoveAccount(jid) => operator.remove(jid).await,
            Action::Kick(_) => operator.kick(&kicked.unwrap_or_default()).await,
            Action::RestartServer { in_order } => operator.restart(*in_order).await,
            Action::Link(fault, domain) => operator.link(*fault, domain),
            Action::Store(fault) => operator.store(*fault),
            _ => Ok(()),
        })?;
        self.note(None, step.text.clone());
        Ok(())
    }

    async fn act(&mut self, step: &Step, who: usize) -> Result<(), Box<Failure>> {
        match &step.action {
            Action::Connects => self.connect(step, who).await,
            Action::CannotConnect(condition) => {
                self.cannot_connect(step, who, condition.as_deref()).await
            }
            Action::Disconnects => self.disconnect(step, who).await,
            Action::Sends(template) => {
                let text = self.fill(template, step)?;
                self.send(step, who, text.trim().as_bytes()).await
            }
            Action::SendsBytes(bytes) => self.send(step, who, bytes).await,
            Action::Receives(expectation) => self.receive(step, who, expectation).await,
            Action::NeverReceives(template) => {
                self.never_receive(step, who, template.as_ref()).await
            }
            Action::Waits => self.wait(step, who).await,
            Action::ExpectsStreamError(condition) => {
                let condition = self.fill(condition, step)?;
                self.stream_error(step, who, condition.trim()).await
            }
            Action::ExpectsEnd => self.end(step, who).await,
            Action::DropLink => {
                self.peer(step, who)?.drop_link();
                // both ends stay in place, so that neither is told
                self.note(Some(who), "the link is dead".into());
                Ok(())
            }
            Action::Forgets => {
                self.wait(step, who).await?;
                self.peer(step, who)?.forget();
                Ok(())
            }
            Action::CutAtByte(bytes) => {
                self.peer(step, who)?.cut_at(*bytes);
                Ok(())
            }
            Action::IsCalled(within) => self.is_called(step, who, *within).await,
            _ => self.negotiate(step, who).await,
        }
    }

    /// The steps of signing in, one by one.
    async fn negotiate(&mut self, step: &Step, who: usize) -> Result<(), Box<Failure>> {
        let one = self.one(step, who)?.clone();
        if one.is_beside() {
            self.peer(step, who)?.forget();
            let peer = self.peers.get_mut(who).and_then(Option::take);
            let mut peer = peer.unwrap_or_else(Peer::gone);
            let done = self.call(&mut peer, &one, &step.action).await;
            if let Some(slot) = self.peers.get_mut(who) {
                *slot = Some(peer);
            }
            self.note(Some(who), step.text.clone());
            return done.map_err(|refused| refusal(step, &refused));
        }
        let trust = self.stage.as_ref().and_then(Stage::trust);
        let is_local = self
            .stage
            .as_ref()
            .is_some_and(|stage| stage.is_local(&one.domain));
        let patience = self.play.patience;
        let peer = self.peer(step, who)?;
        // what was read for another step would be taken for the answer
        peer.forget();
        let trust = trust.as_ref();
        let mut login = Login {
            peer,
            domain: &one.domain,
            trust,
            patience,
            is_local,
        };
        let mut bound = None;
        let done = match &step.action {
            Action::OpensStream => login.open().await.map(|_| ()),
            Action::StartsTls => login.start_tls().await,
            Action::Authenticates => login.authenticate_as(&one).await,
            Action::Binds => login
                .bind(one.resource.as_deref())
                .await
                .map(|jid| bound = Some(jid)),
            _ => return Err(fail(step, "this cannot be played")),
        };
        done.map_err(|refused| refusal(step, &refused))?;
        if let (Some(jid), Some(slot)) = (bound, self.jids.get_mut(who)) {
            *slot = Some(jid);
        }
        self.note(Some(who), step.text.clone());
        Ok(())
    }

    async fn connect(&mut self, step: &Step, who: usize) -> Result<(), Box<Failure>> {
        let one = self.one(step, who)?.clone();
        let mut old = self.peers.get_mut(who).and_then(Option::take);
        let others = old.as_mut().and_then(Peer::leave_others);
        if one.kind == CharacterKind::Client && old.is_some_and(|old| !old.is_gone()) {
            return Err(fail(step, format!("{} is connected already", one.name)));
        }
        let mut peer = self.dial(step, &one).await?;
        if one.kind == CharacterKind::Client {
            let signed_in = self.sign_in(&mut peer, &one).await;
            let jid = signed_in.map_err(|refused| refusal(step, &refused))?;
            self.note(Some(who), format!("connects as {jid}"));
            if let Some(slot) = self.jids.get_mut(who) {
                *slot = Some(jid);
            }
        } else {
            if one.is_beside() {
                let called = self.call(&mut peer, &one, &Action::Connects).await;
                called.map_err(|refused| refusal(step, &refused))?;
            }
            self.note(Some(who), "connects".into());
        }
        let peer = peer.with_others(others);
        if let Some(slot) = self.peers.get_mut(who) {
            *slot = Some(peer);
        }
        Ok(())
    }

    async fn cannot_connect(
        &mut self,
        step: &Step,
        who: usize,
        condition: Option<&str>,
    ) -> Result<(), Box<Failure>> {
        let one = self.one(step, who)?.clone();
        let mut peer = self.dial(step, &one).await?;
        let signed_in = match one.kind {
            CharacterKind::Server | CharacterKind::Component => {
                let called = self.call(&mut peer, &one, &Action::Connects).await;
                called.map(|()| one.domain.clone())
            }
            _ => self.sign_in(&mut peer, &one).await,
        };
        match signed_in {
            Ok(jid) => Err(fail(step, format!("{} has connected as {jid}", one.name))),
            Err(refused) if condition.is_none_or(|it| refused.condition.as_deref() == Some(it)) => {
                self.note(Some(who), format!("cannot connect: {}", refused.got));
                Ok(())
            }
            Err(refused) => Err(refusal(step, &refused)),
        }
    }

    async fn sign_in(&self, peer: &mut Peer, one: &Character) -> Result<String, Refused> {
        let trust = self.stage.as_ref().and_then(Stage::trust);
        let is_local = self
            .stage
            .as_ref()
            .is_some_and(|stage| stage.is_local(&one.domain));
        let (domain, patience) = (one.domain.as_str(), self.play.patience);
        let mut login = Login {
            peer,
            domain,
            trust: trust.as_ref(),
            patience,
            is_local,
        };
        let (local, password) = one.credentials();
        login
            .sign_in(local, password, one.resource.as_deref())
            .await
    }

    async fn disconnect(&mut self, step: &Step, who: usize) -> Result<(), Box<Failure>> {
        let Some(mut peer) = self.peers.get_mut(who).and_then(Option::take) else {
            return Ok(());
        };
        if peer.has_ended() {
            return Ok(());
        }
        let patience = self.play.patience;
        let _ = peer.send(b"</stream:stream>", patience).await;
        let until = Instant::now() + patience;
        loop {
            match peer.next(until).await {
                None => {
                    return Err(fail(
                        step,
                        format!("the stream is not closed in {patience:?}"),
                    ));
                }
                Some(Got::Footer | Got::End | Got::Garbage(_)) => break,
                Some(got) => self.note_received(who, &got, EventKind::Received),
            }
        }
        self.note(Some(who), "disconnects".into());
        Ok(())
    }

    async fn send(&mut self, step: &Step, who: usize, bytes: &[u8]) -> Result<(), Box<Failure>> {
        let patience = self.play.patience;
        let text = String::from_utf8_lossy(bytes).into_owned();
        let sent = self.peer(step, who)?.send(bytes, patience).await;
        let text = match Tree::read_all(&text) {
            Ok(trees) => trees
                .iter()
                .map(Tree::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
            Err(_) => text,
        };
        self.push(Some(who), EventKind::Sent, text);
        match sent {
            // a peer that is being thrown out may still be talking: what it receives tells
            Ok(()) => Ok(()),
            Err(_) if self.script.cast.get(who).is_some_and(Character::is_by_hand) => Ok(()),
            Err(why) => Err(fail(
                step,
                format!("the connection does not take it: {why}"),
            )),
        }
    }

    fn one(&self, step: &Step, who: usize) -> Result<&'a Character, Box<Failure>> {
        self.script
            .cast
            .get(who)
            .ok_or_else(|| fail(step, "nobody does this"))
    }

    fn peer(&mut self, step: &Step, who: usize) -> Result<&mut Peer, Box<Failure>> {
        match self.peers.get_mut(who).and_then(Option::as_mut) {
            Some(peer) => Ok(peer),
            None => Err(fail(step, "is not connected")),
        }
    }

    /// The text with every name replaced.
    fn fill(&self, template: &Template, step: &Step) -> Result<String, Box<Failure>> {
        let filled = template.fill(|name| self.value(name));
        let text = filled.map_err(|(byte, what)| {
            let at = template.place(byte).unwrap_or_else(|| step.at.clone());
            Box::new(Failure::new(&at, &step.text, what))
        })?;
        Ok(match self.play.fresh && self.play.elsewhere.is_some() {
            true => self.renamed(text),
            false => text,
        })
    }

    fn value(&self, name: &str) -> Option<Value> {
        if let Some(case) = self.case
            && let Some((_, value)) = case.values.iter().find(|(column, _)| column == name)
        {
            return Some(Value::Xml(value.clone()));
        }
        if let Some(value) = self.captures.get(name) {
            return Some(Value::Plain(value.clone()));
        }
        let (who, property) = self.script.cast.iter().enumerate().find_map(|(who, one)| {
            let property = name.strip_prefix(one.name.as_str())?;
            property.starts_with("'s ").then_some((who, property))
        })?;
        // of `Juliet's phone's full JID` the longest name is meant
        let longer = |(_, one): &(usize, &Character)| {
            name.strip_prefix(one.name.as_str())
                .is_some_and(|rest| OF_SOMEBODY.contains(&rest))
        };
        let (who, property) = match self.script.cast.iter().enumerate().find(longer) {
            Some((who, one)) => (who, name.get(one.name.len()..)?),
            None => (who, property),
        };
        let one = self.script.cast.get(who)?;
        let value = match property {
            "'s full JID" => self.jids.get(who)?.clone()?,
            "'s JID" => one.jid.clone()?,
            "'s password" => one.password.clone()?,
            "'s domain" => one.domain.clone(),
            "'s username" => one.credentials().0.to_owned(),
            "'s stream id" => self.stream_id(who)?.to_owned(),
            "'s key" => self.key(who, one)?,
            _ => return None,
        };
        Some(Value::Plain(value))
    }

    /// With the names that accounts have in this run.
    fn renamed(&self, mut text: String) -> String {
        for one in &self.script.cast {
            let Some((local, domain)) = one.jid.as_deref().and_then(|jid| jid.split_once('@'))
            else {
                continue;
            };
            let suffix = format!("-{:x}", self.play.seed);
            let Some(written) = local.strip_suffix(&suffix) else {
                continue;
            };
            let (old, new) = (format!("{written}@{domain}"), format!("{local}@{domain}"));
            text = replace_words(&text, &old, &new);
        }
        text
    }

    fn note(&mut self, lane: Option<usize>, text: String) {
        self.push(lane, EventKind::Note, text);
    }

    fn note_received(&mut self, who: usize, got: &Got, kind: EventKind) {
        let text = shown(got);
        if let Some(received) = self.received.get_mut(who)
            && received.len() < EVENTS_MAX
        {
            received.push(text.clone());
        }
        self.push(Some(who), kind, text);
    }

    fn push(&mut self, lane: Option<usize>, kind: EventKind, text: String) {
        if self.events.len() < EVENTS_MAX {
            let at = self.started.elapsed();
            self.events.push(Event {
                line: self.line,
                lane,
                kind,
                text,
                at,
            });
        }
    }
}

/// Replaces what is not part of a longer name.
fn replace_words(text: &str, old: &str, new: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(old) {
        let (before, found) = rest.split_at(at);
        let tail = found.get(old.len()..).unwrap_or_default();
        let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        let whole = !before.ends_with(is_inside) && !tail.starts_with(is_inside);
        out.push_str(before);
        out.push_str(if whole { new } else { old });
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn fail(step: &Step, what: impl Into<String>) -> Box<Failure> {
    Box::new(Failure::new(&step.at, &step.text, what))
}

fn refusal(step: &Step, refused: &Refused) -> Box<Failure> {
    fail(step, refused.to_string())
}
