//! Changes: committed first, then in force, then told.
//!
//! DESIGN 5 ("changes that alter how later stanzas are handled") and 10. The caller holds the
//! account's `changes` lock over decision and commit, so that changes of one account come one after
//! the other; `expect` guards them all the same.

use super::Core;
use super::backlog::Kept;
use crate::effect::Effect;
use crate::session::account::{Account, AccountState, RosterView};
use crate::session::outbox::Class;
use crate::store::{CommitError, KeyShape, Permit, Sent, WriteOp};
use smallvec::{SmallVec, smallvec};
use std::pin::Pin;
use std::sync::Arc;
use xmpp_stream::error::StreamCondition;
use xmpp_stream::jid::BareJid;

impl Core {
    /// Commits the writes among some effects, puts the new roster in force, then applies what
    /// concerns the account in hand; gives back the rest. `changes` of the account is held by the
    /// caller when roster writes are among them.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        account: &Arc<Account>,
        effects: Vec<Effect>,
        holds_changes: bool,
    ) -> Result<Vec<Effect>, CommitError> {
        if !effects.iter().any(Effect::is_write) {
            let mut state = account.lock();
            return Ok(self.apply_locked(account, &mut state, effects));
        }
        let mut view = (*account.roster()).clone();
        let mut roster_changed = false;
        let mut ops: SmallVec<[WriteOp; 4]> = SmallVec::new();
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                Effect::Roster(item) => {
                    debug_assert!(holds_changes);
                    let (expect, ver) = (Some(view.ver), view.ver + 1);
                    let item = view.put(item);
                    ops.push(WriteOp::Roster {
                        account: account.jid.clone(),
                        item,
                        expect,
                        ver,
                    });
                    roster_changed = true;
                }
                Effect::RosterRemove(jid) => {
                    let (expect, ver) = (Some(view.ver), view.ver + 1);
                    let remember = view.remove(&jid, self.limits.roster_removed_max);
                    let account = account.jid.clone();
                    ops.push(WriteOp::RosterRemove {
                        account,
                        jid,
                        expect,
                        ver,
                        remember,
                        forgotten: view.forgotten(),
                    });
                    roster_changed = true;
                }
                Effect::Write(op) => ops.push(op),
                other => rest.push(other),
            }
        }
        let committed = self.commit(ops).await;
        if roster_changed {
            match committed {
                Ok(()) => account.set_roster(view),
                // Somebody else wrote, or the write may still land: the store knows.
                Err(_) => self.reload_roster(account).await,
            }
        }
        committed?;
        let mut state = account.lock();
        Ok(self.apply_locked(account, &mut state, rest))
    }

    async fn reload_roster(&self, account: &Account) {
        match self.store.roster(&account.jid).await {
            Ok(roster) => {
                let epoch = account.roster().epoch();
                account.set_roster(RosterView::new(epoch, roster));
            }
            Err(error) => tracing::error!(%error, jid = %account.jid, "roster not read again"),
        }
    }

    /// Submits writes and waits; afterwards loaded accounts are as the store has them.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        ops: SmallVec<[WriteOp; 4]>,
    ) -> Result<(), CommitError> {
        let mut renewed: SmallVec<[BareJid; 1]> = SmallVec::new();
        for op in &ops {
            if let WriteOp::AccountCreate { account, .. }
            | WriteOp::AccountKeys { account, .. }
            | WriteOp::AccountRemove { account, .. }
            | WriteOp::AccountBan { account, .. }
            | WriteOp::AccountUnban { account, .. } = op
            {
                renewed.push(account.clone());
            }
            if let WriteOp::AccountCreate { account, keys, .. }
            | WriteOp::AccountKeys { account, keys } = op
            {
                let shapes: Vec<_> = keys.iter().map(KeyShape::of).collect();
                self.offers.count(account.domain(), &shapes);
            }
        }
        let committed = self.store.submit(ops).await;
        if committed == Err(CommitError::TimedOut) && !renewed.is_empty() {
            tokio::spawn(Arc::clone(self).renew_late(renewed));
            return committed;
        }
        committed?;
        for jid in renewed {
            self.renew(&jid).await;
        }
        Ok(())
    }

    /// Removes an account from the store; gives what is then to be done: its sessions end, and its
    /// contacts are told.
    pub(crate) async fn remove_account(
        self: &Arc<Self>,
        jid: &BareJid,
    ) -> Result<Vec<Effect>, CommitError> {
        let mut effects = vec![Effect::Gone(jid.clone())];
        effects.extend(self.farewells(jid).await);
        let account = jid.clone();
        let removed = self
            .store
            .submit(smallvec![WriteOp::AccountRemove { account }]);
        let removed = removed.await;
        if removed == Err(CommitError::TimedOut) {
            tokio::spawn(Arc::clone(self).renew_late(smallvec![jid.clone()]));
        }
        removed.map(|()| effects)
    }

    /// A write that took too long may still land: memory follows once it should have.
    fn renew_late(
        self: Arc<Self>,
        accounts: SmallVec<[BareJid; 1]>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            tokio::time::sleep(self.limits.ticket_max).await;
            for jid in accounts {
                self.renew(&jid).await;
            }
        })
    }

    /// The stored record of an account changed: memory follows, and sessions of a removed or banned
    /// account end.
    pub async fn renew(self: &Arc<Self>, jid: &BareJid) {
        // One after the other, so that an older record never replaces a newer one.
        let _one = self.renewals.lock().await;
        let loaded = self.registry.changed(jid);
        let record = match self.store.account(jid).await {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%error, %jid, "account not read again");
                return;
            }
        };
        let removed = record.is_none();
        let gone = record.as_ref().is_none_or(|record| record.banned.is_some());
        let account = match record {
            Some(record) => {
                if let Some(account) = &loaded {
                    account.set_record(record);
                }
                loaded
            }
            None => self.registry.removed(jid),
        };
        let Some(account) = account.filter(|_| gone) else {
            if removed {
                self.ended.forget_account(jid);
            }
            return;
        };
        let sessions = {
            let mut state = account.lock();
            state.removed = self.registry.peek(jid.as_str()).is_none();
            state.sessions.clone()
        };
        if removed {
            self.ended.forget_account(jid);
        }
        let mut effects = Vec::new();
        for entry in sessions {
            effects.extend(self.end_with(&account, &entry, StreamCondition::NotAuthorized));
        }
        self.run_boxed(effects).await;
    }

    /// `run`, boxed: what it applies may be a commit again.
    fn run_boxed(
        self: &Arc<Self>,
        effects: Vec<Effect>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.run(None, effects.into()))
    }

    /// Applies, under the account's lock, what concerns its sessions; ends those that a push marked
    /// (rule 7); gives back the rest.
    pub(super) fn apply_locked(
        &self,
        account: &Arc<Account>,
        state: &mut AccountState,
        effects: Vec<Effect>,
    ) -> Vec<Effect> {
        self.apply_with(account, state, effects, (None, None))
    }

    /// The same with room for a message's row, and by what it is recognised when it is sent again.
    pub(super) fn apply_with(
        &self,
        account: &Arc<Account>,
        state: &mut AccountState,
        effects: Vec<Effect>,
        room: (Option<Permit>, Option<Box<Sent>>),
    ) -> Vec<Effect> {
        let Some(host) = self.host(account.jid.domain()) else {
            return effects;
        };
        let mut rest = Vec::new();
        let mut room = Some(room);
        let live = effects.iter().any(is_message);
        for effect in effects {
            match effect {
                Effect::Show(contact) => rest.extend(state.current_presence(&contact)),
                Effect::Vanish(contact) => rest.extend(state.vanish(&contact)),
                Effect::SetPresence(sid, presence) => {
                    self.set_presence(&host, account, state, sid, presence, &mut rest);
                }
                Effect::Keep(stanza) => {
                    let room = room.take().unwrap_or_default();
                    match self.keep(account, state, stanza, room, live) {
                        Kept::Row(owed) => rest.push(owed),
                        Kept::Nothing(instead) => {
                            rest.extend(instead);
                            break;
                        }
                    }
                }
                Effect::Left if state.removed => {}
                Effect::Left => rest.push(account.leave(self.clock.unix_secs())),
                effect => rest.extend(state.apply(effect, &self.limits, self.clock.unix_secs())),
            }
        }
        state.in_hand = None;
        self.reap(&host, account, state, &mut rest);
        rest
    }
}

fn is_message(effect: &Effect) -> bool {
    matches!(effect, Effect::Local(_, _, rendered) if rendered.class() == Class::Message)
}
