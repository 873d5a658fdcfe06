//! Which messages of an account are due: submitted or stored, and not taken yet.
//!
//! DESIGN 5 rules 4, 6, 9, 21. There is no separate offline store: whatever is here when nobody is
//! available is what was sent while the account was away.

use super::outbox::Delivery;
use super::rules::{self, Rule};
use crate::store::{Cleared, Print, RowId, TicketView};
use std::collections::VecDeque;
use std::sync::Arc;
use xmpp_stream::jid::BareJid;

/// Messages remembered by what they are recognised, for the moment between a look into the store
/// and the lock.
const RECENT_MAX: usize = 64;

/// The due rows of an account, in the order in which they came.
#[derive(Debug, Default)]
pub struct DueRows {
    rows: VecDeque<DueRow>,
    /// The newest row that was ever here.
    newest: Option<RowId>,
    /// The store does not know yet what was taken.
    dirty: bool,
    /// By what the messages of `recent` are recognised, apart from it: every message is looked for.
    prints: VecDeque<Print>,
    recent: VecDeque<Recent>,
}

#[derive(Debug)]
struct DueRow {
    id: RowId,
    /// The mark that sessions share; `None`: loaded from the store, in no session's hands.
    delivery: Option<Arc<Delivery>>,
}

#[derive(Debug)]
struct Recent {
    stream: u128,
    submitted: TicketView,
}

impl DueRow {
    /// No session holds it, and none has taken it.
    fn is_free(&self) -> bool {
        self.delivery.as_ref().is_none_or(|delivery| {
            !delivery.is_taken() && (!delivery.is_held() || !rules::hold(Rule::HeldNotDrawn))
        })
    }

    /// What became of its submit; a loaded row is committed.
    fn submitted(&self) -> Option<&TicketView> {
        Some(&self.delivery.as_ref()?.row.as_ref()?.1)
    }

    fn has_failed(&self) -> bool {
        self.submitted()
            .is_some_and(|ticket| matches!(ticket.outcome(), Some(Err(_))))
    }
}

impl DueRows {
    /// What the store has, in order.
    #[must_use]
    pub fn loaded(ids: Vec<RowId>) -> Self {
        let newest = ids.last().copied();
        let rows = ids.into_iter().map(|id| DueRow { id, delivery: None });
        Self {
            rows: rows.collect(),
            newest,
            ..Self::default()
        }
    }

    /// A message that has just been submitted.
    pub fn add(&mut self, delivery: &Arc<Delivery>) {
        if let Some((id, _)) = delivery.row {
            let delivery = Some(Arc::clone(delivery));
            self.rows.push_back(DueRow { id, delivery });
            self.newest = self.newest.max(Some(id));
        }
    }

    /// These rows were taken by a session.
    pub fn taken(&mut self, ids: &[RowId]) {
        for id in ids {
            self.remove(*id);
            self.dirty = true;
        }
        if self.rows.is_empty() {
            self.rows.shrink_to(4);
        }
    }

    /// A row that is not in the store after all.
    pub fn remove(&mut self, id: RowId) {
        if let Ok(at) = self.rows.binary_search_by_key(&id, |row| row.id) {
            self.rows.remove(at);
        }
    }

    /// Rows that nobody holds or has taken, after one and up to another, in order.
    pub fn free(&self, after: Option<RowId>, upto: RowId) -> impl Iterator<Item = RowId> {
        let rows = self.rows.iter().filter(|row| row.is_free());
        rows.map(|row| row.id)
            .skip_while(move |id| after.is_some_and(|after| *id <= after))
            .take_while(move |id| *id <= upto)
    }

    /// True when there is one that nobody holds.
    #[must_use]
    pub fn has_free(&self) -> bool {
        self.rows.iter().any(DueRow::is_free)
    }

    /// The mark of a row that is still to be drawn, made when it has none.
    pub fn draw(&mut self, id: RowId) -> Option<Arc<Delivery>> {
        let at = self.rows.binary_search_by_key(&id, |row| row.id).ok()?;
        let row = self.rows.get_mut(at).filter(|row| row.is_free())?;
        let committed = || Arc::new(Delivery::kept(id, TicketView::committed()));
        Some(Arc::clone(row.delivery.get_or_insert_with(committed)))
    }

    /// A row that was read for and not found: forgotten unless its submit still waits.
    pub fn missing(&mut self, id: RowId) {
        let at = self.rows.binary_search_by_key(&id, |row| row.id);
        let waits = at.ok().and_then(|at| self.rows.get(at)).is_some_and(|row| {
            row.submitted()
                .is_some_and(|ticket| ticket.outcome().is_none())
        });
        if !waits {
            self.remove(id);
        }
    }

    /// The newest row that was ever here.
    #[must_use]
    pub fn newest(&self) -> Option<RowId> {
        self.newest
    }

    /// The last submit that still waits.
    #[must_use]
    pub fn last_ticket(&self) -> Option<TicketView> {
        let mut waiting = self.rows.iter().rev().filter_map(DueRow::submitted);
        waiting.find(|ticket| ticket.outcome().is_none()).cloned()
    }

    /// Number of rows, those left out whose submit has failed.
    pub fn count(&mut self) -> usize {
        self.rows.retain(|row| !row.has_failed());
        self.rows.len()
    }

    /// So many are here.
    pub fn is_full(&mut self, most: usize) -> bool {
        self.rows.len() >= most && self.count() >= most
    }

    /// Nothing here is unknown to the store.
    pub fn is_settled(&self) -> bool {
        !self.dirty && self.last_ticket().is_none()
    }

    /// Something was taken that the store does not know of.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// What the store may forget.
    pub fn cleared(&mut self, account: &BareJid) -> Option<Cleared> {
        let upto = self.newest.filter(|_| self.dirty)?;
        self.dirty = false;
        self.rows.retain(|row| !row.has_failed());
        Some(Cleared {
            account: account.clone(),
            upto,
            except: self.rows.iter().map(|row| row.id).collect(),
        })
    }

    /// The submit of the same message on one of these streams of its sender's, if it came lately.
    pub fn resent(&self, print: Print, on: impl Fn(u128) -> bool) -> Option<TicketView> {
        let alike = self
            .prints
            .iter()
            .enumerate()
            .filter(|(_, other)| **other == print);
        let mut alike = alike.filter_map(|(at, _)| self.recent.get(at));
        let found = alike.find(|recent| on(recent.stream));
        found.map(|recent| recent.submitted.clone())
    }

    /// A message that its sender may send again.
    pub fn remember(&mut self, print: Print, stream: u128, submitted: TicketView) {
        let settled = |recent: &Recent| recent.submitted.outcome().is_some();
        if self.recent.len() >= RECENT_MAX && self.recent.front().is_some_and(settled) {
            self.recent.pop_front();
            self.prints.pop_front();
        }
        self.prints.push_back(print);
        self.recent.push_back(Recent { stream, submitted });
    }
}
