//! What the removal of an account writes to the rosters of its contacts, while nobody is there to be
//! told: what its unsubscribing and unsubscribed would have done (XEP-0077 section 3.2).
//!
//! Whoever takes the name later must not find anybody's trust. A running server tells contacts
//! instead (`Core::farewells`).

use crate::effect::Effect;
use crate::im::subscription;
use crate::im::subscription::table::{State, Verb};
use crate::session::roster::RosterView;
use crate::store::{Ops, Store, StoreError, WriteOp};
use xmpp_stream::jid::BareJid;

/// The changes to the rosters of an account's contacts that have an account in this store.
///
/// # Errors
/// What the store says when it is read.
pub(super) async fn ops(store: &Store, account: &BareJid) -> Result<Ops, StoreError> {
    let mut ops = Ops::new();
    for row in store.roster(account).await?.items {
        let state = State::of(Some(&row));
        let mut said = Vec::new();
        if state.shows_them() || state.asks() {
            said.push(Verb::Unsubscribe);
        }
        if state.shows_us() || state.is_asked() {
            said.push(Verb::Unsubscribed);
        }
        if said.is_empty() || store.account(&row.jid).await?.is_none() {
            continue;
        }
        let view = RosterView::new(0, store.roster(&row.jid).await?);
        ops.extend(hears(row.jid, view, account, &said));
    }
    Ok(ops)
}

/// The change to one contact's roster.
fn hears(
    contact: BareJid,
    mut view: RosterView,
    account: &BareJid,
    said: &[Verb],
) -> Option<WriteOp> {
    let expect = Some(view.ver);
    match subscription::heard(&view, account, said)? {
        Effect::Roster(row) => {
            let item = view.put(row);
            Some(WriteOp::Roster {
                account: contact,
                item,
                expect,
                ver: view.ver,
            })
        }
        Effect::RosterRemove(jid) => {
            let remember = view.remove(&jid, usize::MAX);
            Some(WriteOp::RosterRemove {
                account: contact,
                jid,
                expect,
                ver: view.ver,
                remember,
                forgotten: view.forgotten(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::im::testkit::{request_row, row};
    use crate::store::RosterRow;
    use smallvec::smallvec;

    fn jid(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    async fn account(store: &Store, text: &str, rows: impl IntoIterator<Item = RosterRow>) {
        let create = WriteOp::AccountCreate {
            account: jid(text),
            keys: Vec::new(),
            created: 0,
        };
        store.submit(smallvec![create]).await.unwrap();
        for (number, item) in (1..).zip(rows) {
            let put = WriteOp::Roster {
                account: jid(text),
                item,
                expect: None,
                ver: number,
            };
            store.submit(smallvec![put]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn im_ib_05_contacts_of_an_account_removed_offline_do_not_see_its_successor() {
        let store = Store::memory();
        // The account's side, the contact's, and the contact's afterwards.
        let cases = [
            ("both@a", "B", Some(row("ann@a", "B")), Some(State::None)),
            ("to@a", "T", Some(row("ann@a", "F")), Some(State::None)),
            ("from@a", "F", Some(row("ann@a", "T")), Some(State::None)),
            ("out@a", "N+PO", Some(request_row("ann@a")), None),
            (
                "in@a",
                "N+PI",
                Some(row("ann@a", "N+PO")),
                Some(State::None),
            ),
            ("none@a", "N", Some(row("ann@a", "N")), Some(State::None)),
            ("lost@a", "B", None, None),
        ];
        let own = cases.iter().map(|(contact, state, ..)| row(contact, state));
        let own: Vec<_> = own.chain([row("gone@a", "B"), row("far@b", "B")]).collect();
        account(&store, "ann@a", own).await;
        for (contact, _, theirs, _) in &cases {
            account(&store, contact, theirs.clone()).await;
        }
        let mut ops = ops(&store, &jid("ann@a")).await.unwrap();
        let account = jid("ann@a");
        ops.push(WriteOp::AccountRemove { account });
        store.submit(ops).await.unwrap();
        for (contact, _, theirs, after) in cases {
            let record = store.roster(&jid(contact)).await.unwrap();
            let found = record.items.iter().find(|row| row.jid == jid("ann@a"));
            assert_eq!(found.map(|row| State::of(Some(row))), after, "{contact}");
            let changed = theirs.is_some() && contact != "none@a";
            assert_eq!(record.ver, u64::from(theirs.is_some()) + u64::from(changed));
        }
        for nobody in ["gone@a", "far@b", "ann@a"] {
            let record = store.roster(&jid(nobody)).await.unwrap();
            assert_eq!(record, Default::default(), "{nobody}");
        }
    }
}
