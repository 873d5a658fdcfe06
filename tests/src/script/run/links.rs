//! What servers and components of a script do with their connections: calling, being called, and
//! proving who they are.

use super::{Playing, fail};
use crate::lab::Arrival;
use crate::script::component::Attach;
use crate::script::login::{Refused, refused};
use crate::script::model::{Action, Character, CharacterKind, Step};
use crate::script::peer::Peer;
use crate::script::report::Failure;
use crate::script::server::{Call, Speaker};
use crate::script::stage::Stage;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use xmpp_stream::ns;

impl Playing<'_> {
    pub(super) async fn dial(&self, step: &Step, one: &Character) -> Result<Peer, Box<Failure>> {
        let Some(stage) = &self.stage else {
            return Err(fail(step, "there is no server"));
        };
        let patience = self.play.patience;
        let mut peer = stage
            .connect(one, patience)
            .await
            .map_err(|why| fail(step, why.0))?;
        if let Some(speaker) = self.speaker(one).filter(|_| one.direct_tls) {
            let done = speaker.handshake(&mut peer, &one.domain, patience).await;
            done.map_err(|refused| fail(step, refused.to_string()))?;
        } else if one.direct_tls {
            let Some(trust) = stage.trust() else {
                return Err(fail(step, "no CA is given: use --ca FILE"));
            };
            let trust = trust.with_alpn("xmpp-client");
            let done = peer.handshake(&trust, &one.domain, patience).await;
            done.map_err(|why| fail(step, format!("the TLS handshake fails: {why}")))?;
        }
        Ok(peer)
    }

    /// What a server or a component does to prove its domain, all of it or a step.
    pub(super) async fn call(
        &self,
        peer: &mut Peer,
        one: &Character,
        what: &Action,
    ) -> Result<(), Refused> {
        let patience = self.play.patience;
        if one.kind == CharacterKind::Component {
            let mut attach = Attach {
                peer,
                one,
                patience,
            };
            return attach.step(what).await;
        }
        let Some(speaker) = self.speaker(one) else {
            return Err(refused(
                "a [Server]",
                "it is only with a server in this process",
            ));
        };
        if peer.is_called() {
            return match what {
                Action::OpensStream => speaker.greet(peer, patience).await,
                Action::StartsTls => speaker.secure(peer, patience).await,
                _ => Err(refused("a step of who is called", "it has no such step")),
            };
        }
        let mut call = Call {
            peer,
            speaker: &speaker,
            one,
            patience,
        };
        match what {
            Action::OpensStream => call.open().await.map(drop),
            Action::StartsTls => call.start_tls().await,
            Action::Authenticates => call.authenticate().await,
            _ => call.connect().await,
        }
    }

    /// `is called`: the next connection takes the place of what there was.
    pub(super) async fn is_called(
        &mut self,
        step: &Step,
        who: usize,
        within: Option<Duration>,
    ) -> Result<(), Box<Failure>> {
        let patience = within.unwrap_or(self.play.patience);
        let Some(door) = self.doors.get_mut(who).and_then(Option::as_mut) else {
            return Err(fail(
                step,
                "another character takes the calls of this domain",
            ));
        };
        let Ok(Some(Arrival { stream, .. })) = timeout(patience, door.recv()).await else {
            return Err(fail(step, format!("nobody has called in {patience:?}")));
        };
        let peer = Peer::over(stream).speaking(ns::SERVER).called();
        if let Some(slot) = self.peers.get_mut(who) {
            *slot = Some(peer);
        }
        self.note(Some(who), "is called".into());
        Ok(())
    }

    /// The id of the stream that a character is on.
    pub(super) fn stream_id(&self, who: usize) -> Option<&str> {
        self.peers.get(who)?.as_ref()?.stream_id()
    }

    /// What proves the domain of a `[Server]` by dialback, on the stream that it is on.
    pub(super) fn key(&self, who: usize, one: &Character) -> Option<String> {
        let id = self.stream_id(who)?;
        Some(self.speaker(one)?.key(&one.domain, id))
    }

    fn speaker(&self, one: &Character) -> Option<Arc<Speaker>> {
        match &self.stage {
            Some(Stage::Here(here)) => here.speaker(one),
            _ => None,
        }
    }

    /// Who asks whom, where somebody can ask the server: what was sent before is handled then.
    pub(super) fn asks(&self, who: usize) -> Option<(Option<String>, String)> {
        let one = self.script.cast.get(who)?;
        let peer = self.peers.get(who)?.as_ref()?;
        let is_online = self.jids.get(who).is_some_and(Option::is_some);
        match one.kind {
            CharacterKind::Client | CharacterKind::Raw => {
                let is_online = is_online && !peer.has_ended() && !peer.is_dead();
                is_online.then(|| (None, one.domain.clone()))
            }
            CharacterKind::Server => {
                // The answer comes over a call.
                let hears = peer.is_proven() && peer.has_others();
                hears.then(|| (one.jid.clone(), one.domain.clone()))
            }
            CharacterKind::Component => match &self.stage {
                Some(Stage::Here(here)) if peer.is_proven() => {
                    Some((one.jid.clone(), here.domain().to_owned()))
                }
                _ => None,
            },
        }
    }
}
