//! How accounts have signed in, so that somebody on the way cannot talk a client down to less (row
//! co-5).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xmpp_stream::jid::{BareJid, Jid};
use xmpp_stream::stream::Strength;

/// The mechanism each account has used last. Clones are the same value. As text, with `to_string`
/// and `parse`, it can be stored between runs: a line an account, the mechanism after the JID.
#[derive(Clone, Default)]
pub struct Pins {
    mechanisms: Arc<Mutex<BTreeMap<BareJid, Box<str>>>>,
}

impl Pins {
    /// Reads what `to_string` has written; lines that say nothing are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (jid, mechanism) = line.trim().rsplit_once(' ')?;
            Strength::of(mechanism)?;
            Some((BareJid::parse(jid.trim()).ok()?, mechanism.into()))
        };
        let mechanisms = text.lines().filter_map(line).collect();
        Self {
            mechanisms: Arc::new(Mutex::new(mechanisms)),
        }
    }

    /// The mechanism an account has used last.
    #[must_use]
    pub fn mechanism(&self, account: &BareJid) -> Option<Box<str>> {
        self.lock().get(account).cloned()
    }

    /// Lets an account sign in in any way again: its server is known to have changed.
    pub fn forget(&self, account: &BareJid) {
        self.lock().remove(account);
    }

    /// What an account must not sign in below.
    pub(crate) fn least(&self, jid: &Jid) -> Strength {
        let mechanism = self.mechanism(&jid.to_bare());
        mechanism
            .and_then(|name| Strength::of(&name))
            .unwrap_or_default()
    }

    /// The server has accepted this, and proven itself where it can. What a certificate asks for later
    /// is less than what binding does.
    pub(crate) fn remember(&self, jid: &Jid, mechanism: &str) {
        if Strength::of(mechanism).is_some_and(|strength| strength >= self.least(jid)) {
            self.lock().insert(jid.to_bare(), mechanism.into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BareJid, Box<str>>> {
        self.mechanisms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (account, mechanism) in &*self.lock() {
            writeln!(text, "{account} {mechanism}")?;
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn co_05_pins_survive_as_text() {
        let pins = Pins::default();
        let ann = Jid::parse("ann@a.test/x").unwrap();
        assert_eq!(pins.least(&ann), Strength::Plain);
        pins.remember(&ann, "SCRAM-SHA-256-PLUS");
        let stored = pins.to_string();
        assert_eq!(stored, "ann@a.test SCRAM-SHA-256-PLUS\n");
        let read = Pins::parse(&format!("nonsense\nben@a.test MADE-UP\n{stored}"));
        assert_eq!(read.least(&ann), Strength::Bound);
        assert_eq!(read.to_string(), stored);
        read.forget(&ann.to_bare());
        assert_eq!(read.least(&ann), Strength::Plain);
    }

    #[test]
    fn co_05_a_certificate_takes_no_pin_away() {
        let pins = Pins::default();
        let ann = Jid::parse("ann@a.test/x").unwrap();
        pins.remember(&ann, "EXTERNAL");
        assert_eq!(pins.least(&ann), Strength::Scram);
        pins.remember(&ann, "SCRAM-SHA-1-PLUS");
        assert_eq!(pins.least(&ann), Strength::Bound);
        pins.remember(&ann, "EXTERNAL");
        assert_eq!(pins.least(&ann), Strength::Bound);
    }

    #[test]
    fn co_05_clones_remember_together() {
        let pins = Pins::default();
        let ann = Jid::parse("ann@a.test/x").unwrap();
        pins.clone().remember(&ann, "SCRAM-SHA-1");
        assert_eq!(pins.least(&ann), Strength::Scram);
    }
}
