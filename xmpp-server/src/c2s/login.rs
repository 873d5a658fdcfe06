//! What a connection does around a login: the delay after wrong passwords, log and counters.
//!
//! DESIGN 9. A delay is waited before the attempt is looked at, whether or not the account exists.

use super::{Connection, down};
use crate::metrics;
use std::pin::pin;
use std::sync::Arc;
use tracing::{debug, info, warn};
use xmpp_stream::error::SaslCondition;
use xmpp_stream::jid::BareJid;
use xmpp_stream::stream::Note;

impl<F: FnOnce() + Send> Connection<F> {
    /// Waits until an attempt to sign in may be looked at (DESIGN 9: login delay), writing what is
    /// to be written; false when the connection or the server ends first.
    pub(super) async fn hold_login(&mut self, account: &BareJid) -> bool {
        let core = Arc::clone(&self.shared.core);
        self.trying = Some(account.clone());
        let admit = || {
            let now = core.clock.now();
            core.login_delays.admit(account, self.peer.ip(), now)
        };
        let Err(mut until) = admit() else {
            return true;
        };
        core.tap.metrics.logins_delayed.count();
        debug!("login delayed");
        let mut shutdown = self.shared.shutdown.clone();
        let mut over = pin!(tokio::time::sleep_until(until.into()));
        while self.driver.machine.accepts_close() {
            tokio::select! {
                biased;
                () = down(&mut shutdown) => return false,
                () = &mut over => {
                    let now = core.clock.now();
                    match core.login_delays.admit(account, self.peer.ip(), now) {
                        Ok(()) => return true,
                        Err(later) => until = later,
                    }
                    over.as_mut().reset(until.into());
                }
                turn = self.driver.turn(false) => if turn.is_err() {
                    return false;
                },
            }
        }
        false
    }

    /// A certificate has spoken for this account.
    pub(super) async fn check_account(&mut self, account: &BareJid) {
        if self.hold_login(account).await {
            let core = Arc::clone(&self.shared.core);
            let verdict = core.check_account(account).await;
            self.driver.machine.verdict(verdict, core.clock.now());
        }
    }

    pub(super) fn note(&mut self, note: &Note) {
        let loud = self.is_worth_a_warning(note);
        log(note, loud);
        let core = &self.shared.core;
        let (metrics, delays) = (&core.tap.metrics, &core.login_delays);
        match note {
            Note::LoginFailed {
                mechanism,
                condition,
                ..
            } => {
                let at = metrics::mechanism(mechanism);
                metrics.logins_failed.count_at(at);
                // Only what was compared with a password is a guess.
                if let (Some(account), SaslCondition::NotAuthorized) =
                    (self.trying.take(), condition)
                {
                    delays.failed(&account, self.peer.ip(), core.clock.now());
                }
            }
            Note::LoggedIn {
                mechanism, account, ..
            } => {
                metrics.logins.count_at(metrics::mechanism(mechanism));
                delays.succeeded(account, self.peer.ip());
                self.link.mechanism = mechanism;
            }
            _ => {}
        }
    }
}

impl<F> Connection<F> {
    /// A guess always is. Clients of today try what does not fit before what does, so that of
    /// refusals for the form only the first of a connection is one.
    fn is_worth_a_warning(&mut self, note: &Note) -> bool {
        let Note::LoginFailed { condition, .. } = note else {
            return false;
        };
        let password = matches!(
            condition,
            SaslCondition::NotAuthorized | SaslCondition::AccountDisabled
        );
        match password && self.trying.is_some() {
            true => true,
            false => !std::mem::replace(&mut self.form_refused, true),
        }
    }
}

fn log(note: &Note, loud: bool) {
    match note {
        Note::LoginFailed {
            mechanism,
            account,
            condition,
            reason,
        } => {
            let account = account.as_ref().map(tracing::field::display);
            match loud {
                true => warn!(%mechanism, account, %condition, reason, "login failed"),
                false => debug!(%mechanism, account, %condition, reason, "login failed"),
            }
        }
        Note::LoggedIn {
            mechanism,
            account,
            channel_binding,
        } => {
            info!(mechanism, %account, channel_binding, "logged in");
        }
        _ => {}
    }
}
