//! Messages that wait for their recipient: kept at receipt, drawn when somebody is there.
//!
//! DESIGN 5 rules 4 and 9 to 13; XEP-0160. What a session draws is a cursor (`Feed`): requests that
//! wait for an answer first, then due rows, a page at a time while its client keeps up.

use super::Core;
use super::recipient::refuse;
use crate::effect::{Effect, Which};
use crate::host::Host;
use crate::im;
use crate::session::Sid;
use crate::session::account::{Account, AccountState, priority};
use crate::session::feed::{Feed, PAGE, Rows};
use crate::session::outbox::{Class, Delivery, Outbox};
use crate::session::rules::{self, Rule};
use crate::store::{MessageRow, Permit, RowId, Sent, StoreError, Ticket, TicketView, WriteOp};
use smallvec::smallvec;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use xmpp_stream::error::StanzaError;
use xmpp_stream::stanza::{Item, Rendered, Stanza, To};

/// After a failed look into the store: first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// What became of a message that is to be kept.
pub(super) enum Kept {
    /// It is: sessions get it with this in hand.
    Row(Effect),
    /// It was kept before, or cannot be: nobody gets it.
    Nothing(Vec<Effect>),
}

impl Core {
    /// Submits a message as a due row (rule 4). `live`: sessions get it at once.
    pub(super) fn keep(
        &self,
        account: &Account,
        state: &mut AccountState,
        stanza: Arc<Stanza>,
        (permit, sent): (Option<Permit>, Option<Box<Sent>>),
        live: bool,
    ) -> Kept {
        if let Some(sent) = &sent
            && rules::hold(Rule::Resends)
            && let Some(earlier) = state.due.resent(sent.print, |stream| {
                stream != sent.stream && !self.ended.is_closed(stream)
            })
            // Other servers say which of theirs are late (`s2s::resent`).
            && self.host(sent.sender.domain()).is_some()
        {
            let owed = Effect::Owed(Ticket::of(earlier, self.limits.ticket_max), stanza);
            return Kept::Nothing(vec![owed]);
        }
        let away = self.limits.offline_messages_max;
        // What its queues can hold on top: a session that takes nothing, over and over, ends there.
        let here = away.saturating_add(self.limits.outbox_items_hard.saturating_mul(2));
        if state.due.is_full(if live { here } else { away }) {
            tracing::info!(jid = %account.jid, "message refused: too many wait");
            return Kept::Nothing(refuse(&stanza, &StanzaError::service_unavailable()));
        }
        let id = self.row_ids.next(self.clock.system_now());
        let mut bytes = Vec::with_capacity(stanza.wire_len());
        stanza.write(&mut bytes);
        let remembered = sent.as_ref().map(|sent| (sent.print, sent.stream));
        let row = MessageRow {
            id,
            stanza: bytes.into(),
        };
        let account = account.jid.clone();
        let ops = smallvec![WriteOp::Message { account, row, sent }];
        let ticket = match permit {
            _ if live && !rules::hold(Rule::DueAtReceipt) => {
                Ticket::of(TicketView::committed(), Duration::ZERO)
            }
            Some(permit) => self.store.submit_with(permit, ops),
            None => self.store.submit(ops),
        };
        if let Some((print, stream)) = remembered {
            state.due.remember(print, stream, ticket.view());
        }
        let delivery = Arc::new(Delivery::kept(id, ticket.view()));
        state.due.add(&delivery);
        state.in_hand = Some(delivery);
        Kept::Row(Effect::Owed(ticket, stanza))
    }

    /// A session's broadcast presence changed, and with it what it is to get.
    pub(super) fn set_presence(
        &self,
        host: &Host,
        account: &Arc<Account>,
        state: &mut AccountState,
        sid: Sid,
        presence: Option<Arc<Stanza>>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = state.session_mut(sid) else {
            return;
        };
        let (was_here, wanted) = (entry.is_available(), entry.wants_messages());
        entry.priority = presence.as_deref().map_or(0, priority);
        entry.presence = presence;
        let (is_here, wants) = (entry.is_available(), entry.wants_messages());
        if wants && !wanted && state.claim.is_none() {
            state.claim = Some(sid);
            self.begin_rows(state, sid);
        }
        if is_here && !was_here && account.roster().has_requests() {
            self.begin(state, sid, |feed| feed.requests = Some(None));
        }
        if wanted && !wants {
            // Rule 12: like an end for what it was not sent.
            let Some(entry) = state.session_mut(sid) else {
                return;
            };
            let own = entry.jid.clone();
            let feed = entry.feed.take();
            let items = entry.outbox.withdraw(own.as_str());
            let drawn = self.pass_claim(state, sid, feed.as_deref());
            self.leave_to_others(host, account, state, items, drawn, effects);
        }
        if !is_here && let Some(entry) = state.session_mut(sid) {
            entry.feed = None;
            entry.outbox.open_gate();
        }
    }

    fn begin_rows(&self, state: &mut AccountState, sid: Sid) {
        let Some(upto) = state.due.newest().filter(|_| state.due.has_free()) else {
            return;
        };
        let rows = Rows {
            after: None,
            upto,
            ticket: state.due.last_ticket(),
        };
        self.begin(state, sid, |feed| feed.rows = Some(rows));
    }

    /// Shuts a session's gate and has its task draw (rule 9).
    fn begin(&self, state: &mut AccountState, sid: Sid, what: impl FnOnce(&mut Feed)) {
        let gate_until = self.clock.now() + self.limits.ticket_max;
        let Some(entry) = state.session_mut(sid) else {
            return;
        };
        let feed = entry.feed.get_or_insert_with(|| {
            Box::new(Feed {
                requests: None,
                rows: None,
                gate_until,
            })
        });
        what(feed);
        entry.outbox.shut_gate();
        entry.outbox.begin_feed();
        let outbox = Arc::clone(&entry.outbox);
        state.wake_later(&outbox);
    }

    /// The claimant no longer wants messages: another session draws what it left undrawn (rule 12).
    /// Gives the row up to which it will be drawn.
    pub(super) fn pass_claim(
        &self,
        state: &mut AccountState,
        from: Sid,
        feed: Option<&Feed>,
    ) -> Option<RowId> {
        if state.claim != Some(from) {
            return None;
        }
        let mut sessions = state.sessions.iter();
        let next = sessions.find(|entry| entry.sid != from && entry.wants_messages());
        state.claim = next.map(|entry| entry.sid);
        let unfinished = feed.and_then(|feed| feed.rows.as_ref())?;
        if let Some(next) = state.claim.filter(|_| rules::hold(Rule::ClaimPasses)) {
            self.begin_rows(state, next);
        }
        Some(unfinished.upto)
    }

    /// Draws what a session is to get until nothing is left. The session's task runs this beside
    /// its own work: that is also what wakes it while the client is slow.
    pub(crate) async fn feed(self: Arc<Self>, host: Arc<Host>, account: Arc<Account>, sid: Sid) {
        let mut retry = RETRY.0;
        loop {
            let found = account.lock().session(sid).and_then(|entry| {
                let feed = entry.feed.clone()?;
                Some((feed, Arc::clone(&entry.outbox)))
            });
            let Some((feed, outbox)) = found else { return };
            self.may_draw(&outbox).await;
            if feed.requests.is_some() {
                self.draw_requests(&account, sid);
                continue;
            }
            let Some(rows) = &feed.rows else {
                if self.drawn(&account, sid, &feed) {
                    return;
                }
                continue;
            };
            let page = self.read_page(&account, sid, &feed, rows);
            match self.before_the_gate_opens(&feed, &outbox, page).await {
                Ok(Some((ids, found))) => {
                    retry = RETRY.0;
                    self.place_page(&host, &account, sid, rows, (&ids, found));
                }
                Ok(None) if self.drawn(&account, sid, &feed) => return,
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, jid = %account.jid, "waiting messages not read");
                    outbox.open_gate();
                    outbox.wake();
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn may_draw(&self, outbox: &Outbox) {
        poll_fn(
            |_| match outbox.may_draw(&self.limits) || outbox.is_closed() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            },
        )
        .await;
    }

    /// Rule 13: a stuck store holds up live items for so long and no longer.
    async fn before_the_gate_opens<T>(
        &self,
        feed: &Feed,
        outbox: &Outbox,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        if outbox.is_gated() {
            let until = feed.gate_until.into();
            if let Ok(done) = tokio::time::timeout_at(until, work.as_mut()).await {
                return done;
            }
            tracing::warn!("the store does not answer: waiting messages come later");
            outbox.open_gate();
            outbox.wake();
        }
        work.await
    }

    /// The numbers of the next page and the rows that were found; `None`: nothing is left.
    pub(super) async fn read_page(
        &self,
        account: &Account,
        sid: Sid,
        feed: &Feed,
        rows: &Rows,
    ) -> Result<Option<(Vec<RowId>, Vec<MessageRow>)>, StoreError> {
        debug_assert!(feed.requests.is_none());
        if let Some(ticket) = &rows.ticket
            && rules::hold(Rule::WaitForTicket)
        {
            // Whether it failed or not: it is in the store now or never will be.
            let _ = ticket.settled().await;
        }
        let ids: Vec<RowId> = {
            let state = account.lock();
            if state.session(sid).is_none() {
                return Ok(None);
            }
            state.due.free(rows.after, rows.upto).take(PAGE).collect()
        };
        if ids.is_empty() {
            return Ok(None);
        }
        let found = self.store.messages(&account.jid, ids.clone()).await?;
        Ok(Some((ids, found)))
    }

    /// Puts what was read into the queue, unless the session has begun anew meanwhile.
    pub(super) fn place_page(
        &self,
        host: &Host,
        account: &Arc<Account>,
        sid: Sid,
        rows: &Rows,
        (ids, found): (&[RowId], Vec<MessageRow>),
    ) {
        let mut state = account.lock();
        let Some(entry) = state.session(sid) else {
            return;
        };
        let now = entry.feed.as_ref().and_then(|feed| feed.rows.as_ref());
        if !now.is_some_and(|now| now.is_at(rows)) {
            return;
        }
        let outbox = Arc::clone(&entry.outbox);
        let mut found = found.into_iter().peekable();
        for id in ids {
            let Some(row) = found.next_if(|row| row.id == *id) else {
                state.due.missing(*id);
                continue;
            };
            let Some(rendered) = self.rendered(host, &row) else {
                tracing::error!(jid = %account.jid, row = %id, "kept message unreadable");
                state.due.remove(*id);
                continue;
            };
            // Whoever took it or got hold of it meanwhile has it.
            if let Some(delivery) = state.due.draw(*id) {
                outbox.place(Item::Shared(To::AsWritten, rendered, Some(delivery)));
            }
        }
        let entry = state.session_mut(sid);
        if let Some(rows) = entry.and_then(|entry| entry.feed.as_mut()?.rows.as_mut()) {
            rows.after = ids.last().copied();
            rows.ticket = None;
        }
        state.wake_later(&outbox);
    }

    fn rendered(&self, host: &Host, row: &MessageRow) -> Option<Arc<Rendered>> {
        let stanza = Stanza::parse(std::str::from_utf8(&row.stanza).ok()?).ok()?;
        let delayed = self.delayed(host, &stanza, row.id.received_secs());
        Some(Arc::new(Rendered::new(Arc::new(delayed), Class::Message)))
    }

    /// RFC 6121 section 3.1.3.4: requests are shown at each new resource until they are answered.
    fn draw_requests(&self, account: &Account, sid: Sid) {
        let roster = account.roster();
        let mut state = account.lock();
        let Some(entry) = state.session_mut(sid) else {
            return;
        };
        let Some(cursor) = entry.feed.as_mut().and_then(|feed| feed.requests.as_mut()) else {
            return;
        };
        let (page, last) = im::requests(&account.jid, &roster, cursor.as_ref(), PAGE);
        for rendered in page {
            entry.outbox.place(Item::Shared(To::Bare, rendered, None));
        }
        match last {
            Some(last) => *cursor = Some(last),
            None => {
                if let Some(feed) = &mut entry.feed {
                    feed.requests = None;
                }
            }
        }
        let outbox = Arc::clone(&entry.outbox);
        state.wake_later(&outbox);
    }

    /// Nothing is left to be drawn: what waited behind the gate follows. False when something has
    /// been added meanwhile.
    fn drawn(&self, account: &Account, sid: Sid, seen: &Feed) -> bool {
        let mut state = account.lock();
        let Some(entry) = state.session_mut(sid) else {
            return true;
        };
        if entry.feed.as_ref().is_some_and(|now| !now.is_at(seen)) {
            return false;
        }
        entry.feed = None;
        entry.outbox.open_gate();
        let outbox = Arc::clone(&entry.outbox);
        state.wake_later(&outbox);
        true
    }

    /// A session took these rows.
    pub fn took(&self, account: &Arc<Account>, rows: &[RowId]) {
        if rows.is_empty() {
            return;
        }
        account.lock().due.taken(rows);
        self.store.clear(Arc::clone(account) as _);
    }

    /// What a session did not take goes to others, or waits (rule 8). Rows up to `drawn` are drawn
    /// by another session.
    pub(super) fn leave_to_others(
        &self,
        host: &Host,
        account: &Account,
        state: &mut AccountState,
        items: Vec<crate::session::outbox::OutItem>,
        drawn: Option<RowId>,
        effects: &mut Vec<Effect>,
    ) {
        for item in items {
            let Item::Shared(_, rendered, delivery) = item else {
                continue;
            };
            match (rendered.class(), delivery) {
                (Class::Message, Some(delivery)) if rules::hold(Rule::PassOn) => {
                    self.leave_one(host, account, state, &rendered, delivery, drawn, effects);
                }
                (Class::Iq, _) if im::is_request(rendered.stanza()) => {
                    effects.extend(refuse(
                        rendered.stanza(),
                        &StanzaError::service_unavailable(),
                    ));
                }
                _ => {}
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of the loop above")]
    fn leave_one(
        &self,
        host: &Host,
        account: &Account,
        state: &mut AccountState,
        rendered: &Arc<Rendered>,
        delivery: Arc<Delivery>,
        drawn: Option<RowId>,
        effects: &mut Vec<Effect>,
    ) {
        // Held first: a session that takes it says so before it lets go.
        if (delivery.is_held() || delivery.is_taken()) && rules::hold(Rule::PassOnOnce) {
            return;
        }
        if let Some((id, submitted)) = &delivery.row {
            let failed = matches!(submitted.outcome(), Some(Err(_)));
            if failed || drawn.is_some_and(|drawn| *id <= drawn) {
                return;
            }
        }
        let stanza = rendered.stanza();
        match im::most_available(&state.sessions) {
            Some(sids) => {
                let delayed = self.delayed(host, stanza, delivery.received);
                let delayed = Arc::new(Rendered::new(Arc::new(delayed), Class::Message));
                let received = delivery.received;
                state.in_hand = Some(delivery);
                let wish = Effect::Local(Which::Sids(sids), To::AsWritten, delayed);
                effects.extend(state.apply(wish, &self.limits, received));
                state.in_hand = None;
            }
            // With a row it waits; nobody would ever get it without one, and is told so unless it
            // was of the moment only.
            None if delivery.row.is_none() && !im::is_fleeting(stanza) => {
                let error = im::expired_error(account, stanza);
                effects.extend(refuse(stanza, &error));
            }
            None => {}
        }
    }
}
