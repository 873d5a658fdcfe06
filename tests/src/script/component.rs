//! `[Component]`: an external component of the server under test (XEP-0114 section 3). It shows that
//! it knows the secret, and then speaks for its domain.

use crate::login::escaped;
use crate::script::login::{Refused, refused, unexpected};
use crate::script::model::{Action, Character, Proof};
use crate::script::peer::{Got, Peer};
use ring::digest;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;
use xmpp_stream::ns;

/// A component at its connection.
pub(crate) struct Attach<'a> {
    pub(crate) peer: &'a mut Peer,
    pub(crate) one: &'a Character,
    pub(crate) patience: Duration,
}

impl Attach<'_> {
    /// Everything, or the step that a script names.
    pub(crate) async fn step(&mut self, what: &Action) -> Result<(), Refused> {
        match what {
            Action::OpensStream => self.open().await,
            Action::Authenticates => self.handshake().await,
            Action::Connects if self.one.proof == Proof::None => Ok(()),
            Action::Connects => {
                self.open().await?;
                self.handshake().await
            }
            _ => Err(refused("a step of a component", "it has no such step")),
        }
    }

    async fn open(&mut self) -> Result<(), Refused> {
        self.peer.restart();
        let header = format!(
            "<?xml version='1.0'?><stream:stream to='{}' xmlns='{}' xmlns:stream='{}'>",
            escaped(self.one.jid.as_deref().unwrap_or_default()),
            ns::COMPONENT,
            ns::STREAMS
        );
        match self.ask(&header, "a stream header").await? {
            Got::Header(header) if header.is(ns::STREAMS, "stream") => Ok(()),
            other => Err(unexpected("a stream header", &other)),
        }
    }

    async fn handshake(&mut self) -> Result<(), Refused> {
        let secret = self.one.password.as_deref().unwrap_or_default();
        let text = format!("{}{secret}", self.peer.stream_id().unwrap_or_default());
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut digits = String::new();
        for byte in hash.as_ref() {
            // A string takes everything.
            let _ = write!(digits, "{byte:02x}");
        }
        let handshake = format!("<handshake>{digits}</handshake>");
        match self.ask(&handshake, "<handshake/>").await? {
            Got::Element(tree) if tree.is(ns::CLIENT, "handshake") => {
                self.peer.prove();
                Ok(())
            }
            other => Err(unexpected("<handshake/>", &other)),
        }
    }

    async fn ask(&mut self, text: &str, wanted: &str) -> Result<Got, Refused> {
        // Why a connection was closed may be there to read.
        let _ = self.peer.send(text.as_bytes(), self.patience).await;
        let next = self.peer.next(Instant::now() + self.patience).await;
        next.ok_or_else(|| refused(wanted, format!("nothing for {:?}", self.patience)))
    }
}
