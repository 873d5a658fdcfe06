//! From an open transport to a bound stream: `Initiator` and driver until established.
//!
//! RFC 6120 section 4.3 as seen by the client. Where to connect, and in which order, is connect.rs.

use crate::config::Settings;
use crate::error::{ConnectError, Step};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use xmpp_stream::driver::{Driver, Transport};
use xmpp_stream::jid::{FullJid, Jid};
use xmpp_stream::limits::{Limits, XmlLimits};
use xmpp_stream::stream::{
    CloseReason, Initiator, InitiatorConfig, Machine, Manage, Note, Output, Password, Strength,
    TlsRule,
};
use xmpp_stream::tls;

/// How long to look for the last words of a server after the negotiation failed.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// How the transport is to be used.
pub(crate) struct Target {
    /// TLS from the first byte, else STARTTLS.
    pub(crate) direct_tls: bool,
    /// Trust, and ALPN where it is direct.
    pub(crate) tls: Arc<ClientConfig>,
    /// When the whole way to the bound stream has taken too long.
    pub(crate) deadline: Instant,
}

/// An earlier stream to go on with (XEP-0198 section 5).
#[derive(Clone, Debug)]
pub(crate) struct Resume {}

/// A stream on which stanzas flow.
pub(crate) struct Bound {
    pub(crate) driver: Driver<Initiator>,
    pub(crate) jid: FullJid,
}

/// Secures the stream, signs in, and resumes or binds.
pub(crate) async fn negotiate(
    transport: Box<dyn Transport>,
    target: Target,
    settings: &Settings,
    _resume: Option<&Resume>,
) -> Result<Bound, ConnectError> {
    let machine = initiator(settings, &target)?;
    let mut negotiation = Negotiation {
        driver: Driver::new(machine, transport),
        step: Step::Stream,
    };
    let done = timeout_at(target.deadline, negotiation.run(&settings.jid, &target)).await;
    match done.unwrap_or(Err(ConnectError::Timeout(negotiation.step))) {
        Ok(jid) => Ok(Bound {
            driver: negotiation.driver,
            jid,
        }),
        Err(error) => {
            negotiation.driver.finish(FINISH_MAX).await;
            Err(error)
        }
    }
}

fn initiator(settings: &Settings, target: &Target) -> Result<Initiator, ConnectError> {
    SystemRandom::new()
        .fill(&mut [0; 32])
        .map_err(|_| ConnectError::NoRandom)?;
    let now = Instant::now();
    let limits = Limits {
        after_auth: XmlLimits::client(),
        negotiation_max: target.deadline - now,
        ..Limits::default()
    };
    let config = InitiatorConfig {
        account: settings.jid.to_bare(),
        password: Password(settings.password.0.clone()),
        resource: settings.jid.resource().map(Into::into),
        lang: None,
        tls: match target.direct_tls {
            true => TlsRule::Direct,
            false => TlsRule::Required,
        },
        plain: true,
        least: Strength::Plain,
        manage: Manage::Enable,
        limits,
    };
    Ok(Initiator::new(config, Box::new(random), now.into_std()))
}

fn random(bytes: &mut [u8]) {
    // That there is a source was seen before connecting; one that fails later gives nonces which
    // only the server's own makes fresh.
    let _ = SystemRandom::new().fill(bytes);
}

/// The way from the first byte to the bound JID.
struct Negotiation {
    driver: Driver<Initiator>,
    step: Step,
}

impl Negotiation {
    async fn run(&mut self, jid: &Jid, target: &Target) -> Result<FullJid, ConnectError> {
        if target.direct_tls {
            self.secure(jid, &target.tls).await?;
        }
        loop {
            while let Some(output) = self.driver.machine.poll_output() {
                match output {
                    Output::StartTls { .. } => self.secure(jid, &target.tls).await?,
                    Output::Established(established) => return Ok(established.jid),
                    Output::Note(Note::LoggedIn { .. }) => self.step = Step::Binding,
                    Output::Closed(CloseReason::Failed(failure)) => {
                        return Err(ConnectError::Negotiation(self.step, failure));
                    }
                    Output::Closed(reason) => return Err(ConnectError::Closed(self.step, reason)),
                    other => tracing::debug!(?other, "nothing to do before the stream is bound"),
                }
            }
            if let Err(error) = self.driver.turn(true).await {
                return Err(ConnectError::Lost(self.step, error));
            }
        }
    }

    async fn secure(&mut self, jid: &Jid, tls: &Arc<ClientConfig>) -> Result<(), ConnectError> {
        self.step = Step::Tls;
        let name = tls::server_name(jid.domain()).map_err(ConnectError::Tls)?;
        let secured = self.driver.connect_tls(Arc::clone(tls), name).await;
        secured.map_err(ConnectError::Tls)?;
        self.step = Step::Authentication;
        Ok(())
    }
}
