//! `xmpp-server s2s check DOMAIN`: every step of the way to a domain, and which one fails.

use super::connect::{FLUSH, Outcome, Watcher, What, Wish, connect};
use super::link::Step;
use crate::core::Core;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use xmpp_stream::stream::s2s::{Manage, Pair};

/// What a step has brought.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Checked {
    /// "DNS", "connection", "stream", or "result".
    pub step: String,
    /// What came of it.
    pub text: String,
    /// It did not fail; of the last one: the domain can be reached.
    pub ok: bool,
}

impl Checked {
    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mark = if self.ok { "ok" } else { "failed" };
        format!("{}\t{mark}\t{}", self.step, self.text)
    }
}

/// Writes down what it sees.
struct Notes(Mutex<(Step, Vec<Checked>)>);

impl Notes {
    fn add(&self, text: &dyn fmt::Display, ok: bool) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (step, list) = &mut *notes;
        let step = match step {
            Step::Resolve => "DNS",
            Step::Dial => "connection",
            Step::Negotiate => "stream",
        };
        list.push(Checked {
            step: step.into(),
            text: text.to_string(),
            ok,
        });
    }
}

impl Watcher for Notes {
    fn step(&self, step: Step) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = step;
    }

    fn told(&self, line: &dyn fmt::Display) {
        self.add(line, true);
    }

    fn failed(&self, line: &dyn fmt::Display) {
        self.add(line, false);
    }
}

impl Core {
    /// Tries to reach a domain, as the first of ours, and closes again.
    pub async fn check_link(self: &Arc<Self>, domain: &str) -> Vec<Checked> {
        let notes = Notes(Mutex::new((Step::Resolve, Vec::new())));
        let settings = self.settings();
        let local = settings.config.domains.first();
        let local = local.map_or("", |domain| domain.name.as_str());
        let result = |text: String, ok| Checked {
            step: "result".into(),
            text,
            ok,
        };
        let Some(pair) = Pair::new(local, domain) else {
            return vec![result(format!("{domain} is no domain"), false)];
        };
        if settings.hosts.contains_key(&pair.to) {
            return vec![result(format!("{} is served here", pair.to), false)];
        }
        let wish = Wish {
            what: What::Stanzas(Manage::Off),
            bidi: false,
        };
        let made = connect(self, &pair, &wish, &notes).await;
        let last = match made {
            Ok(Outcome::Stream(connected)) => {
                let proof = connected.link.proof.as_str();
                let distrust = connected.driver.machine.distrust().cloned();
                let mut driver = connected.driver;
                driver.machine.close(None, self.clock.now());
                tokio::spawn(async move { driver.finish(FLUSH).await });
                let known = match distrust {
                    Some(cause) => format!("{domain} itself is known by DNS alone: {cause}"),
                    None => format!("{domain} is known by its certificate"),
                };
                result(format!("{local} is known there by {proof}; {known}"), true)
            }
            Ok(Outcome::Answer(_)) => result("no stream".into(), false),
            Err(cause) => result(cause.to_string(), false),
        };
        let (_, mut steps) = notes.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        steps.push(last);
        steps
    }
}
