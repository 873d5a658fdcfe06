//! An account's roster in memory: items, pending requests, and what versioning needs.
//!
//! RFC 6121 section 2.6. Each change gives the roster the next number and marks the item with it, so
//! that a client with an older version is told of the items that changed since, removed ones among
//! them. What a client knows as a version also names this very account (see `epoch_of`).

use crate::store::{AccountRecord, RosterRecord, RosterRow, Subscription};
use ring::digest::{Context, SHA256};
use std::collections::BTreeMap;
use std::sync::Arc;
use xmpp_stream::jid::BareJid;

/// A roster as last committed: visible items and pending inbound requests.
#[derive(Clone, Debug, Default)]
pub struct RosterView {
    /// Version: grows with each change.
    pub ver: u64,
    epoch: u64,
    /// In the order of their contacts; in one piece, as most rosters are read and hardly changed.
    items: Vec<Arc<RosterRow>>,
    /// Removed items that are remembered, by the version at which each went.
    removed: BTreeMap<u64, BareJid>,
    forgotten: u64,
}

/// An item that changed since some version: as it is now, or that it is gone.
#[derive(Clone, Debug)]
pub enum Changed {
    /// It is so now.
    Item(Arc<RosterRow>),
    /// It was removed.
    Removed(BareJid),
}

impl RosterView {
    /// A view of a stored roster.
    #[must_use]
    pub fn new(epoch: u64, record: RosterRecord) -> Self {
        let mut items: Vec<_> = record.items.into_iter().map(Arc::new).collect();
        items.sort_unstable_by(|one, other| one.jid.cmp(&other.jid));
        items.shrink_to_fit();
        Self {
            ver: record.ver,
            epoch,
            items,
            removed: record.removed.into_iter().collect(),
            forgotten: record.forgotten,
        }
    }

    /// Names the account among all that ever had its address, as far as its making can tell: time
    /// and the salts of its keys. After a change of password clients read the roster anew, once.
    #[must_use]
    pub fn epoch_of(record: &AccountRecord) -> u64 {
        let mut context = Context::new(&SHA256);
        context.update(&record.created.to_be_bytes());
        for keys in &record.keys {
            context.update(&keys.salt);
        }
        let digest = context.finish();
        let first = digest.as_ref().first_chunk().copied();
        u64::from_be_bytes(first.unwrap_or_default())
    }

    /// What `epoch_of` said when the account was loaded.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Removals up to this version may have been forgotten.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A version of this roster as clients see it.
    #[must_use]
    pub fn ver_text(&self, ver: u64) -> String {
        format!("{:x}-{ver}", self.epoch)
    }

    /// The version that the next change gives.
    #[must_use]
    pub fn next_ver(&self) -> String {
        self.ver_text(self.ver + 1)
    }

    /// What changed since the version a client names, in order, each with its version; `None`: this
    /// version is none of ours, or too old (section 2.6.3: then the whole roster is due).
    #[must_use]
    pub fn since(&self, text: &str) -> Option<Vec<(u64, Changed)>> {
        let (epoch, ver) = text.split_once('-')?;
        let ver: u64 = ver.parse().ok()?;
        let is_ours = epoch == format!("{:x}", self.epoch) && text == self.ver_text(ver);
        if !is_ours || ver > self.ver || ver < self.forgotten {
            return None;
        }
        let rows = self.items.iter();
        let rows = rows.filter(|row| row.is_listed() && row.ver > ver);
        let mut changed: Vec<_> = rows
            .map(|row| (row.ver, Changed::Item(Arc::clone(row))))
            .collect();
        let removed = self.removed.range(ver.saturating_add(1)..);
        changed.extend(removed.map(|(ver, jid)| (*ver, Changed::Removed(jid.clone()))));
        changed.sort_unstable_by_key(|(ver, _)| *ver);
        Some(changed)
    }

    /// The row of a contact, looked up by the text of its bare JID.
    #[must_use]
    pub fn get(&self, bare: &str) -> Option<&Arc<RosterRow>> {
        self.items.get(self.place(bare).ok()?)
    }

    /// Where a contact is, or would be.
    fn place(&self, bare: &str) -> Result<usize, usize> {
        self.items
            .binary_search_by(|row| row.jid.as_str().cmp(bare))
    }

    /// All rows, also those that are pending inbound requests only.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<RosterRow>> {
        self.items.iter()
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The contact may see the account's presence (subscription from or both).
    #[must_use]
    pub fn may_see_us(&self, bare: &str) -> bool {
        self.get(bare)
            .is_some_and(|row| matches!(row.subscription, Subscription::From | Subscription::Both))
    }

    /// The account may see the contact's presence (subscription to or both).
    #[must_use]
    pub fn may_see_them(&self, bare: &str) -> bool {
        self.get(bare)
            .is_some_and(|row| matches!(row.subscription, Subscription::To | Subscription::Both))
    }

    /// Sets one row and gives it back as it is to be stored. It keeps its version when nothing of
    /// it shows that did not show before.
    pub fn put(&mut self, mut row: RosterRow) -> RosterRow {
        self.ver += 1;
        let place = self.place(row.jid.as_str());
        let old = place.ok().and_then(|at| self.items.get(at));
        row.ver = match old.filter(|old| old.shows_as(&row)) {
            Some(old) => old.ver,
            None => self.ver,
        };
        self.removed.retain(|_, jid| *jid != row.jid);
        let item = Arc::new(row.clone());
        match place {
            Ok(at) => {
                if let Some(old) = self.items.get_mut(at) {
                    *old = item;
                }
            }
            Err(at) => {
                self.items.reserve_exact(1);
                self.items.insert(at, item);
            }
        }
        row
    }

    /// Removes one row; true when that is to be remembered, since it showed. Of more than
    /// `removed_max` removals the oldest are forgotten.
    pub fn remove(&mut self, jid: &BareJid, removed_max: usize) -> bool {
        self.ver += 1;
        let place = self.place(jid.as_str());
        let showed = place.is_ok_and(|at| self.items.remove(at).is_listed());
        if showed {
            self.removed.insert(self.ver, jid.clone());
        }
        while self.removed.len() > removed_max
            && let Some((ver, _)) = self.removed.pop_first()
        {
            self.forgotten = ver;
        }
        showed && self.forgotten < self.ver
    }

    /// Somebody waits for an answer to a subscription request.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        self.items.iter().any(|row| row.pending_in.is_some())
    }

    /// Rows behind a contact, in order.
    pub fn rows_after(&self, contact: Option<&BareJid>) -> impl Iterator<Item = &Arc<RosterRow>> {
        let from = match contact.map(|contact| self.place(contact.as_str())) {
            None => 0,
            Some(Ok(at)) => at + 1,
            Some(Err(at)) => at,
        };
        self.items.iter().skip(from)
    }

    /// The view after one row was set.
    #[must_use]
    pub fn with(&self, row: RosterRow) -> Self {
        let mut view = self.clone();
        view.put(row);
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::im::testkit::{request_row, row};

    fn jid(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    /// What changed since a version, as text.
    fn since(view: &RosterView, ver: u64) -> Option<String> {
        let changed = view.since(&view.ver_text(ver))?;
        let shown = changed.iter().map(|(ver, changed)| match changed {
            Changed::Item(row) => format!("{ver} {}", row.jid),
            Changed::Removed(jid) => format!("{ver} -{jid}"),
        });
        Some(shown.collect::<Vec<_>>().join(", "))
    }

    fn named(contact: &str, name: &str) -> RosterRow {
        RosterRow {
            name: Some(name.into()),
            ..row(contact, "N")
        }
    }

    #[test]
    fn c6121_rv_04_each_changed_item_once_in_order() {
        let mut view = RosterView::default();
        for contact in ["c@b", "a@b", "b@b"] {
            view.put(row(contact, "N"));
        }
        view.put(named("c@b", "C"));
        view.put(named("a@b", "A"));
        view.put(named("c@b", "C2"));
        assert_eq!(since(&view, 0).as_deref(), Some("3 b@b, 5 a@b, 6 c@b"));
        assert_eq!(since(&view, 4).as_deref(), Some("5 a@b, 6 c@b"));
        assert_eq!(since(&view, 6).as_deref(), Some(""));
        assert_eq!(since(&view, 7), None, "a version that is still to come");
    }

    #[test]
    fn c6121_rv_04_what_does_not_show_does_not_count() {
        let mut view = RosterView::default();
        view.put(row("a@b", "T"));
        view.put(row("a@b", "T+PI"));
        view.put(request_row("r@b"));
        view.put(row("a@b", "T"));
        assert_eq!((view.ver, since(&view, 1).as_deref()), (4, Some("")));
        assert!(!view.remove(&jid("r@b"), 9), "a request was no item");
        assert_eq!(since(&view, 1).as_deref(), Some(""));
        view.put(row("r@b", "F"));
        assert_eq!(since(&view, 1).as_deref(), Some("6 r@b"));
    }

    #[test]
    fn c6121_rv_05_foreign_versions_are_unknown() {
        let mut view = RosterView::default();
        view.put(row("a@b", "N"));
        let good = view.ver_text(1);
        assert!(view.since(&good).is_some());
        let other = format!("1-{}", view.ver);
        let padded = good.replace('-', "-0");
        let signed = good.replace('-', "-+");
        for text in ["", "junk", "1", "-", "0-", "-1", &other, &padded, &signed] {
            assert!(view.since(text).is_none(), "{text}");
        }
    }

    #[test]
    fn c6121_rv_07_removals_are_remembered_up_to_a_bound() {
        let mut view = RosterView::default();
        for contact in ["a@b", "b@b", "c@b"] {
            view.put(row(contact, "N"));
        }
        assert!(view.remove(&jid("a@b"), 2));
        assert!(view.remove(&jid("b@b"), 2));
        assert_eq!(since(&view, 3).as_deref(), Some("4 -a@b, 5 -b@b"));
        view.put(row("a@b", "N"));
        assert_eq!(since(&view, 3).as_deref(), Some("5 -b@b, 6 a@b"));
        assert!(view.remove(&jid("a@b"), 2));
        assert!(view.remove(&jid("c@b"), 2));
        assert_eq!(view.forgotten(), 5);
        assert_eq!(since(&view, 4), None, "a removal since is forgotten");
        assert_eq!(since(&view, 5).as_deref(), Some("7 -a@b, 8 -c@b"));
        view.put(row("d@b", "N"));
        assert!(!view.remove(&jid("d@b"), 0), "nothing is kept");
        assert_eq!(
            (since(&view, 9), since(&view, 10).as_deref()),
            (None, Some(""))
        );
    }

    #[test]
    fn c6121_rv_05_another_account_of_the_name_has_other_versions() {
        let record = |created, salt: &[u8]| AccountRecord {
            keys: vec![Arc::new(xmpp_stream::stream::StoredKeys::derive(
                xmpp_stream::stream::ScramHash::Sha1,
                "secret",
                salt,
                1,
            ))],
            banned: None,
            created,
        };
        let epoch = RosterView::epoch_of(&record(1, b"salt"));
        assert_eq!(epoch, RosterView::epoch_of(&record(1, b"salt")));
        assert_ne!(epoch, RosterView::epoch_of(&record(2, b"salt")));
        assert_ne!(epoch, RosterView::epoch_of(&record(1, b"tlas")));
    }
}
