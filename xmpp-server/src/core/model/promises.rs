//! What must hold (DESIGN 10), and what is known of each message.

use super::World;
use crate::session::Sid;
use std::collections::{BTreeMap, BTreeSet};

/// A promise that was not kept.
#[derive(Debug)]
#[expect(dead_code, reason = "read by whoever looks at a failed seed")]
pub(super) enum Broken {
    /// Acknowledged to its sender and never seen.
    Lost(String),
    /// Seen twice, with nothing to excuse it.
    Doubled(String),
    /// Seen behind a newer one of the same sender to the same address.
    Overtaken(String, String),
    /// A queue over its bound.
    Bound(&'static str, usize),
}

/// Everything that was sent.
#[derive(Default)]
pub(super) struct Messages {
    pub(super) known: BTreeMap<String, Message>,
    pub(super) everybody_read: bool,
}

/// One message.
#[derive(Default)]
pub(super) struct Message {
    /// Its sender and its number there.
    pub(super) from: (usize, usize),
    pub(super) to: String,
    /// The sender was told that it is handled.
    pub(super) acknowledged: bool,
    /// The sender was told that it is not, or it is lost by design.
    pub(super) excused: bool,
    /// A second copy has an excuse.
    pub(super) may_double: bool,
    /// The sessions it was handed to at first.
    pub(super) handed: BTreeSet<u128>,
    /// Sessions that had it in hand at some time, or were drawing what waited when it did.
    pub(super) claimed: BTreeSet<u128>,
    /// Who has seen it: device and its session.
    pub(super) seen: Vec<(usize, u128)>,
}

impl Messages {
    pub(super) fn get(&mut self, id: &str) -> &mut Message {
        self.known.entry(id.to_owned()).or_default()
    }

    /// A device shows a message to its user.
    pub(super) fn saw(&mut self, id: &str, device: usize, session: Sid) {
        self.get(id).seen.push((device, session.0));
    }
}

impl World<'_> {
    pub(super) fn within_bounds(&self) -> Result<(), Broken> {
        let limits = &self.core.limits;
        for device in &self.devices {
            let Some(session) = device.session() else {
                continue;
            };
            let items = session.outbox.pushed();
            // One goes over the bound and cuts the socket; who comes back may have some more, and what
            // it draws itself from the store comes before what waits behind its gate.
            let drawn = limits.outbox_items_soft + 1;
            if items > limits.outbox_items_hard * 2 + 1 + drawn {
                return Err(Broken::Bound("items", items));
            }
            let unacknowledged = session.outbox.unacknowledged().unwrap_or(0);
            if unacknowledged > limits.sm_unacked_max {
                return Err(Broken::Bound("unacknowledged", unacknowledged));
            }
        }
        Ok(())
    }

    pub(super) fn promises_kept(&self) -> Result<(), Broken> {
        for (id, message) in &self.messages.known {
            if message.acknowledged && !message.excused && message.seen.is_empty() {
                return Err(Broken::Lost(id.clone()));
            }
            let mut seen = message.seen.clone();
            seen.sort_unstable();
            let doubled = seen.windows(2).any(|pair| pair[0].0 == pair[1].0);
            // Two devices may both have got it at once; one after the other only with an excuse.
            let late = message
                .seen
                .iter()
                .skip(1)
                .any(|(_, session)| !message.handed.contains(session));
            if (doubled || late) && !message.may_double {
                return Err(Broken::Doubled(id.clone()));
            }
        }
        self.in_order()
    }

    fn in_order(&self) -> Result<(), Broken> {
        for device in &self.devices {
            let mut newest: BTreeMap<(usize, &str, u128), (usize, &str)> = BTreeMap::new();
            for (id, session) in &device.shown {
                let Some(message) = self.messages.known.get(id) else {
                    continue;
                };
                let (sender, number) = message.from;
                let key = (sender, message.to.as_str(), session.0);
                // Sent to a resource that was not there, it waits for availability; a newer one goes to
                // the resource as soon as it is connected (RFC 6121 section 8.5.3.1).
                let waited = message.handed.is_empty() && message.to.contains('/');
                let excused = message.may_double
                    || waited
                    || message.excused
                    || message.handed.iter().any(|handed| *handed != session.0)
                    || message.claimed.iter().any(|claimed| *claimed != session.0);
                match newest.get(&key) {
                    Some((newer, other)) if *newer > number && !excused => {
                        return Err(Broken::Overtaken(id.clone(), (*other).to_owned()));
                    }
                    Some((newer, _)) if *newer > number => {}
                    _ => {
                        newest.insert(key, (number, id));
                    }
                }
            }
        }
        Ok(())
    }
}
