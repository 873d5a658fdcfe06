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
use xmpp_stream::jid::FullJid;
use xmpp_stream::limits::{Limits, XmlLimits};
use xmpp_stream::stream::{
    CloseReason, Initiator, InitiatorConfig, Machine, Manage, Note, Output, Password, SmAnswer,
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
    /// Asked for before connecting: a server waits only so long.
    pub(crate) password: Option<Arc<Password>>,
    /// Our certificate names several accounts: which is meant is said.
    pub(crate) name_account: bool,
    /// When the whole way to the bound stream has taken too long.
    pub(crate) deadline: Instant,
}

/// An earlier stream to go on with (XEP-0198 section 5).
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    /// Its id.
    pub(crate) previd: Box<str>,
    /// Stanzas of the server that were handled on it.
    pub(crate) h: u32,
    /// The JID that was bound on it.
    pub(crate) jid: FullJid,
    /// Where the server would like it to be resumed: an address of XEP-0198 section 5.
    pub(crate) location: Option<Box<str>>,
}

/// A stream on which stanzas flow.
pub(crate) struct Bound {
    pub(crate) driver: Driver<Initiator>,
    pub(crate) jid: FullJid,
    pub(crate) resumption: Resumption,
}

/// Whether the stream goes on with an earlier one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Resumption {
    /// That was not asked for.
    None,
    /// It does; the server had handled so many stanzas of ours.
    Done { h: u32 },
    /// It does not; the count where the server still knows it.
    Refused { h: Option<u32> },
}

/// Secures the stream, signs in, and resumes or binds.
pub(crate) async fn negotiate(
    transport: Box<dyn Transport>,
    target: Target,
    settings: &Settings,
    resume: Option<&Resume>,
) -> Result<Bound, ConnectError> {
    let password = target.password.as_deref();
    let password = password.map(|password| Password(password.0.clone()));
    let machine = initiator(settings, &target, password, resume)?;
    let mut negotiation = Negotiation {
        driver: Driver::new(machine, transport),
        settings,
        step: Step::Stream,
        resumption: Resumption::None,
    };
    let done = timeout_at(target.deadline, negotiation.run(&target)).await;
    match done.unwrap_or(Err(ConnectError::Timeout(negotiation.step))) {
        Ok(jid) => Ok(Bound {
            driver: negotiation.driver,
            jid,
            resumption: negotiation.resumption,
        }),
        Err(error) => {
            negotiation.driver.finish(FINISH_MAX).await;
            Err(error)
        }
    }
}

fn initiator(
    settings: &Settings,
    target: &Target,
    password: Option<Password>,
    resume: Option<&Resume>,
) -> Result<Initiator, ConnectError> {
    SystemRandom::new()
        .fill(&mut [0; 32])
        .map_err(|_| ConnectError::NoRandom)?;
    let now = Instant::now();
    // A form may hold pictures: what a guest gets is no login but an answer.
    let before_auth = match settings.jid.local() {
        Some(_) => XmlLimits::before_auth(),
        None => XmlLimits::c2s(),
    };
    let limits = Limits {
        before_auth,
        after_auth: settings.limits.xml,
        negotiation_max: target.deadline - now,
        silence_max: settings.idle_max,
        // What was sent is looked after for a quarter of the time first.
        silence_answer_max: settings.answer_max / 4 * 3,
        close_max: settings.limits.close_max,
        ..Limits::default()
    };
    let manage = match (settings.manage, resume) {
        (false, _) => Manage::Off,
        (true, None) => Manage::Enable,
        (true, Some(resume)) => Manage::Resume {
            previd: resume.previd.clone(),
            h: resume.h,
            jid: resume.jid.clone(),
        },
    };
    let config = InitiatorConfig {
        account: settings.jid.to_bare(),
        password,
        name_account: target.name_account,
        resource: settings.jid.resource().map(Into::into),
        lang: settings.lang.clone(),
        tls: match target.direct_tls {
            true => TlsRule::Direct,
            false => TlsRule::Required,
        },
        plain: settings.plain,
        least: settings.pins.least(&settings.jid),
        manage,
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
struct Negotiation<'a> {
    driver: Driver<Initiator>,
    settings: &'a Settings,
    step: Step,
    resumption: Resumption,
}

impl Negotiation<'_> {
    async fn run(&mut self, target: &Target) -> Result<FullJid, ConnectError> {
        if target.direct_tls {
            self.secure(&target.tls).await?;
        }
        loop {
            while let Some(output) = self.driver.machine.poll_output() {
                match output {
                    Output::StartTls { .. } => self.secure(&target.tls).await?,
                    Output::Established(established) => return Ok(established.jid),
                    other => self.learn(other)?,
                }
            }
            if let Err(error) = self.driver.turn(true).await {
                return Err(ConnectError::Lost(self.step, error));
            }
        }
    }

    fn learn(&mut self, output: Output) -> Result<(), ConnectError> {
        match output {
            Output::Note(Note::LoggedIn { mechanism, .. }) => {
                self.settings.pins.remember(&self.settings.jid, mechanism);
                self.step = Step::Binding;
            }
            Output::Managed(SmAnswer::Resumed { h, .. }) => {
                self.resumption = Resumption::Done { h };
            }
            Output::Managed(SmAnswer::Failed { h }) => {
                self.resumption = Resumption::Refused { h };
            }
            Output::Closed(CloseReason::Failed(failure)) => {
                return Err(ConnectError::Negotiation(self.step, failure));
            }
            Output::Closed(reason) => return Err(ConnectError::Closed(self.step, reason)),
            other => tracing::debug!(?other, "nothing to do before the stream is bound"),
        }
        Ok(())
    }

    async fn secure(&mut self, tls: &Arc<ClientConfig>) -> Result<(), ConnectError> {
        self.step = Step::Tls;
        let name = tls::server_name(self.settings.jid.domain()).map_err(ConnectError::Tls)?;
        let secured = self.driver.connect_tls(Arc::clone(tls), name).await;
        secured.map_err(ConnectError::Tls)?;
        self.step = Step::Authentication;
        Ok(())
    }
}
