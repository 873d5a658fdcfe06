//! From settings to a bound stream: where the server is, which of its places answers, negotiate.rs.
//!
//! Places are tried one after the other (RFC 6120 section 3.2, XEP-0368), a place's addresses side
//! by side (RFC 8305), until the server gives a verdict on the login: whatever fails before that
//! moves on to the next. A redirection (RFC 6120 section 4.9.3.19) is a place that comes next; the
//! certificate has to be good for the domain of the JID everywhere.

use crate::config::Settings;
use crate::error::{ConnectError, Step};
use crate::identity::Source;
use crate::limits::after;
use crate::negotiate::{Bound, Resume, Target, negotiate};
use crate::tried::{Attempt, Tried};
use crate::trust::{CertificateFault, Handshakes, is_not_tls};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};
use xmpp_stream::dial::{self, Dialed, Pace};
use xmpp_stream::driver::Transport;
use xmpp_stream::error::StreamCondition;
use xmpp_stream::resolve::{Candidate, Host, Place, Service, Way};
use xmpp_stream::stream::{CloseReason, Password};

/// Redirections followed (RFC 6120 section 4.9.3.19: at least 2, no more than 5).
const REDIRECTS_MAX: usize = 3;
/// Attempts in all: a domain of four servers with four addresses each, both ways.
const ATTEMPTS_MAX: usize = 32;

/// Reaches the server and negotiates a stream with it, from the first step to the bound JID.
pub(crate) async fn connect(
    settings: &Settings,
    resume: Option<&Resume>,
) -> Result<Bound, ConnectError> {
    let identity = settings.route.identity.as_ref();
    let identity = identity.map(Source::load).transpose()?;
    let handshakes = settings.route.trust.handshakes(identity.as_ref())?;
    let password = match &settings.credentials {
        Some(credentials) => Some(Arc::new(credentials.password().await?)),
        None => None,
    };
    let walk = Walk {
        settings,
        resume,
        handshakes,
        password,
        name_account: identity.is_some_and(|identity| identity.addresses().len() > 1),
        deadline: after(Instant::now(), settings.route.connect_max),
        ahead: VecDeque::new(),
        redirects: 0,
        tried: Tried {
            domain: settings.jid.domain().into(),
            attempts: Vec::new(),
            unanswered: Vec::new(),
            is_late: false,
        },
    };
    let done = walk.run().await;
    let is_told = match &done {
        Ok(_) => true,
        Err(error) => error.is_final() || error.step() == Step::Binding,
    };
    if is_told && let Some(credentials) = &settings.credentials {
        credentials.used();
    }
    done
}

/// The way through all places that may serve the domain.
struct Walk<'a> {
    settings: &'a Settings,
    resume: Option<&'a Resume>,
    handshakes: Handshakes,
    password: Option<Arc<Password>>,
    /// Our certificate names several accounts.
    name_account: bool,
    deadline: Instant,
    /// Places not tried yet, best first.
    ahead: VecDeque<Candidate>,
    redirects: usize,
    tried: Tried,
}

impl Walk<'_> {
    async fn run(mut self) -> Result<Bound, ConnectError> {
        self.find(self.settings.jid.domain()).await?;
        self.prefer_location();
        while let Some(candidate) = self.next() {
            match self.attempt(&candidate).await {
                Ok(Some(bound)) => return Ok(bound),
                Ok(None) => {}
                Err(verdict) => return Err(verdict),
            }
        }
        Err(ConnectError::Unreachable(Box::new(self.tried)))
    }

    /// The next place; none when the time is up or enough was tried.
    fn next(&mut self) -> Option<Candidate> {
        self.tried.is_late = Instant::now() >= self.deadline;
        let may_go_on = !self.tried.is_late && self.tried.attempts.len() < ATTEMPTS_MAX;
        may_go_on.then(|| self.ahead.pop_front()).flatten()
    }

    /// Where the server would like an earlier stream to go on (XEP-0198 section 5): tried first.
    fn prefer_location(&mut self) {
        let location = self.resume.and_then(|resume| resume.location.as_deref());
        if let Some(Ok(place)) = location.map(str::parse) {
            self.ahead
                .push_front(Self::candidate(place, self.settings.route.direct_tls));
        }
    }

    fn candidate(Place { host, port }: Place, direct_tls: bool) -> Candidate {
        Candidate {
            host,
            port: port.unwrap_or_else(|| Service::Client.port(direct_tls)),
            direct_tls,
        }
    }

    /// Puts the places of a domain before all others.
    async fn find(&mut self, domain: &str) -> Result<(), ConnectError> {
        let way = match self.settings.route.direct_tls {
            true => Way::DirectTls,
            false => Way::Any,
        };
        let mut random = |bytes: &mut [u8]| {
            // Weights without randomness are only unfair.
            let _ = SystemRandom::new().fill(bytes);
        };
        let resolver = &self.settings.route.resolver;
        let found = resolver.find(domain, Service::Client, way, &mut random);
        let found = timeout_at(self.deadline, found).await;
        let found = found
            .map_err(|_| ConnectError::Timeout(Step::Resolve))?
            .map_err(ConnectError::Resolve)?;
        self.tried.unanswered.extend(found.unanswered);
        for candidate in found.candidates.into_iter().rev() {
            self.ahead.push_front(candidate);
        }
        Ok(())
    }

    /// All addresses of a place; an error is a verdict that ends the walk.
    async fn attempt(&mut self, candidate: &Candidate) -> Result<Option<Bound>, ConnectError> {
        let addresses = self.settings.route.resolver.addresses(&candidate.host);
        let mut addresses: Vec<SocketAddr> = match timeout_at(self.deadline, addresses).await {
            Ok(Ok(found)) if found.is_empty() => {
                self.failed(candidate, None, ConnectError::NoAddress);
                return Ok(None);
            }
            Ok(Ok(found)) => found.into_iter().map(|ip| at(ip, candidate.port)).collect(),
            Ok(Err(error)) => {
                self.failed(candidate, None, ConnectError::Dns(error));
                return Ok(None);
            }
            Err(_) => {
                self.failed(candidate, None, ConnectError::Timeout(Step::Resolve));
                return Ok(None);
            }
        };
        while let Some((address, transport)) = self.dial(candidate, &mut addresses).await {
            tracing::debug!(%candidate, %address, "reached");
            match self.negotiate(candidate, transport).await {
                Ok(bound) => return Ok(Some(bound)),
                Err(error) if error.is_final() || error.step() == Step::Binding => {
                    tracing::debug!(%error, "no other place is tried");
                    return Err(error);
                }
                Err(error) => {
                    if let Some(to) = redirection(&error) {
                        self.redirected(candidate, address, error.step(), to).await;
                        return Ok(None);
                    }
                    self.failed(candidate, Some(address), error);
                }
            }
        }
        Ok(None)
    }

    /// The first of these addresses that answers; takes it and those that failed out of the list.
    async fn dial(
        &mut self,
        candidate: &Candidate,
        addresses: &mut Vec<SocketAddr>,
    ) -> Option<(SocketAddr, Box<dyn Transport>)> {
        let pace = Pace {
            try_max: self.settings.route.dial_max,
            ..Pace::default()
        };
        let dialer = &self.settings.route.dialer;
        let dialing = dial::dial(addresses, pace, |address| dialer.connect(address));
        let dialed = timeout_at(self.deadline, dialing).await;
        let Ok(Dialed { connected, missed }) = dialed else {
            let late = ConnectError::Timeout(Step::Connect);
            self.failed(candidate, addresses.first().copied(), late);
            return None;
        };
        for missed in missed {
            addresses.retain(|address| *address != missed.address);
            let error = ConnectError::Connect(missed.error);
            self.failed(candidate, Some(missed.address), error);
        }
        let (connected, transport) = connected?;
        addresses.retain(|address| *address != connected);
        Some((connected, transport))
    }

    async fn negotiate(
        &self,
        candidate: &Candidate,
        transport: Box<dyn Transport>,
    ) -> Result<Bound, ConnectError> {
        let tls = match candidate.direct_tls {
            true => &self.handshakes.direct_tls,
            false => &self.handshakes.starttls,
        };
        let alone = after(Instant::now(), self.settings.route.negotiation_max);
        let target = Target {
            direct_tls: candidate.direct_tls,
            tls: Arc::clone(tls),
            password: self.password.clone(),
            name_account: self.name_account,
            deadline: alone.min(self.deadline),
        };
        let bound = negotiate(transport, target, self.settings, self.resume).await;
        bound.map_err(|error| match error {
            ConnectError::Tls(error) => match CertificateFault::of(&error) {
                Some(fault) => ConnectError::Certificate(fault, error),
                None if candidate.direct_tls && is_not_tls(&error) => ConnectError::NotTls(error),
                None => ConnectError::Tls(error),
            },
            other => other,
        })
    }

    /// The server's own words lead to another place; it is tried next.
    async fn redirected(
        &mut self,
        candidate: &Candidate,
        address: SocketAddr,
        step: Step,
        to: Option<Place>,
    ) {
        if self.redirects == REDIRECTS_MAX {
            return self.failed(
                candidate,
                Some(address),
                ConnectError::TooManyRedirects(step),
            );
        }
        self.redirects += 1;
        self.failed(
            candidate,
            Some(address),
            ConnectError::Redirected(step, to.clone()),
        );
        match to {
            // A name alone stands for a domain (section 3.2), with a port for one of its hosts.
            Some(Place {
                host: Host::Name(name),
                port: None,
            }) => {
                if let Err(error) = self.find(&name).await {
                    self.failed(candidate, Some(address), error);
                }
            }
            Some(place) => {
                let next = Self::candidate(place, candidate.direct_tls);
                self.ahead.push_front(next);
            }
            None => {}
        }
    }

    fn failed(&mut self, candidate: &Candidate, address: Option<SocketAddr>, error: ConnectError) {
        tracing::debug!(%candidate, ?address, %error, "not connected");
        self.tried.attempts.push(Attempt {
            candidate: candidate.clone(),
            address,
            error,
        });
    }
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

/// Where see-other-host points to; `Some(None)`: to what is no place.
fn redirection(error: &ConnectError) -> Option<Option<Place>> {
    match error {
        ConnectError::Closed(_, CloseReason::Theirs(error))
            if error.condition == StreamCondition::SeeOtherHost =>
        {
            let place = error.other_host.as_deref();
            Some(place.and_then(|place| place.trim().parse().ok()))
        }
        _ => None,
    }
}
