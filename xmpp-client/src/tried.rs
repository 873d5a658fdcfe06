//! What was tried on the way to a server, for people to read.

use crate::error::{ConnectError, Step};
use std::fmt;
use std::net::SocketAddr;
use xmpp_stream::resolve::{Candidate, Unanswered};

/// One place that was tried in vain.
#[derive(Debug)]
pub struct Attempt {
    /// The place.
    pub candidate: Candidate,
    /// The address that was dialled, when it came to that.
    pub address: Option<SocketAddr>,
    /// What went wrong.
    pub error: ConnectError,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate {
            host,
            port,
            direct_tls,
        } = &self.candidate;
        let way = match direct_tls {
            true => "direct TLS",
            false => "STARTTLS",
        };
        let place = format!("{host}:{port}");
        write!(f, "{place} (")?;
        match self.address.map(|address| address.to_string()) {
            Some(address) if address != place => write!(f, "{address}, ")?,
            _ => {}
        }
        write!(f, "{way}): {}", self.error)
    }
}

/// All that was tried, in order.
#[derive(Debug)]
pub struct Tried {
    /// The domain of the JID.
    pub domain: Box<str>,
    /// Places, in the order in which they failed.
    pub attempts: Vec<Attempt>,
    /// DNS queries for such places that had no answer.
    pub unanswered: Vec<Unanswered>,
    /// The time for all of it was up.
    pub is_late: bool,
}

impl Tried {
    /// The attempt that got furthest, the first of several.
    #[must_use]
    pub fn furthest(&self) -> Option<&Attempt> {
        let step = self.step();
        let mut attempts = self.attempts.iter();
        attempts.find(|attempt| attempt.error.step() == step)
    }

    pub(crate) fn step(&self) -> Step {
        let steps = self.attempts.iter().map(|attempt| attempt.error.step());
        steps.max().unwrap_or(Step::Resolve)
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection to {}", self.domain)?;
        let mut before = ": ";
        for attempt in &self.attempts {
            write!(f, "{before}{attempt}")?;
            before = "; ";
        }
        for Unanswered { name, error } in &self.unanswered {
            write!(f, "{before}{name}: {error}")?;
            before = "; ";
        }
        if self.is_late {
            write!(f, "{before}the time was up")?;
        }
        Ok(())
    }
}
