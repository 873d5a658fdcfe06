//! The contact list: as the server has it, kept between runs, changed by pushes.
//!
//! RFC 6121 section 2. Versions (2.6) save getting it anew. A push that comes while the list is being
//! got is applied once more on top of it, so that it does not matter which task sees which first.

use super::options::ProtocolLimits;
use std::collections::BTreeMap;
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// Who sees whose presence (section 2.1.2.5).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Subscription {
    /// Neither.
    #[default]
    None,
    /// We see theirs.
    To,
    /// They see ours.
    From,
    /// Both.
    Both,
}

impl Subscription {
    /// They may see our presence.
    #[must_use]
    pub fn is_from(self) -> bool {
        matches!(self, Self::From | Self::Both)
    }

    /// We may see theirs.
    #[must_use]
    pub fn is_to(self) -> bool {
        matches!(self, Self::To | Self::Both)
    }

    /// Values that are none of these are ignored (section 2.1.2.5).
    fn of(text: Option<&str>) -> Self {
        match text {
            Some("to") => Self::To,
            Some("from") => Self::From,
            Some("both") => Self::Both,
            _ => Self::None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }
}

/// An entry of the roster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contact {
    /// Whom it is about.
    pub jid: BareJid,
    /// What the user calls them.
    pub name: Option<String>,
    /// Who sees whose presence.
    pub subscription: Subscription,
    /// We asked to see their presence and were not answered.
    pub asked: bool,
    /// They may see our presence as soon as they ask.
    pub approved: bool,
    /// Which groups the user put them in.
    pub groups: Vec<String>,
}

impl Contact {
    /// A contact as the user enters it.
    #[must_use]
    pub fn new(jid: BareJid) -> Self {
        Self {
            jid,
            name: None,
            subscription: Subscription::None,
            asked: false,
            approved: false,
            groups: Vec::new(),
        }
    }

    fn read(item: &Element) -> Option<Self> {
        let groups = item
            .children()
            .filter(|child| child.is(ns::ROSTER, "group"));
        let mut groups: Vec<_> = groups
            .map(Element::text)
            .filter(|name| !name.is_empty())
            .collect();
        groups.sort();
        groups.dedup();
        Some(Self {
            jid: BareJid::parse(item.attr("jid")?).ok()?,
            name: item
                .attr("name")
                .filter(|name| !name.is_empty())
                .map(Into::into),
            subscription: Subscription::of(item.attr("subscription")),
            asked: item.attr("ask") == Some("subscribe"),
            approved: matches!(item.attr("approved"), Some("true" | "1")),
            groups,
        })
    }

    /// What the user may set (row ro-03: neither `ask` nor `approved`).
    pub(super) fn to_set(&self) -> Element {
        Element::new(ns::ROSTER, "query").with_child(self.set_item())
    }

    fn set_item(&self) -> Element {
        let mut item = Element::new(ns::ROSTER, "item").with_attr("jid", self.jid.as_str());
        if let Some(name) = &self.name {
            item.set_attr("name", name);
        }
        for group in &self.groups {
            item.push(Element::new(ns::ROSTER, "group").with_text(group));
        }
        item
    }

    fn to_item(&self) -> Element {
        let mut item = self.set_item();
        item.set_attr("subscription", self.subscription.as_str());
        if self.asked {
            item.set_attr("ask", "subscribe");
        }
        if self.approved {
            item.set_attr("approved", "true");
        }
        item
    }
}

/// The roster as a program may keep it from one run to the next.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RosterCache {
    ver: Option<String>,
    contacts: BTreeMap<BareJid, Contact>,
}

impl RosterCache {
    /// The contacts.
    pub fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values()
    }

    /// As text, to be written to a file; read by `parse`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut query = Element::new(ns::ROSTER, "query");
        if let Some(ver) = &self.ver {
            query.set_attr("ver", ver);
        }
        for contact in self.contacts.values() {
            query.push(contact.to_item());
        }
        query.to_xml("")
    }

    /// Reads what `to_text` has written; `None`: it is something else, and the roster will be got anew.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let query = Element::parse(text.as_bytes(), "").ok()?;
        query.is(ns::ROSTER, "query").then(|| {
            let contacts = query.children().filter_map(Contact::read);
            Self {
                ver: query.attr("ver").map(Into::into),
                contacts: contacts
                    .map(|contact| (contact.jid.clone(), contact))
                    .collect(),
            }
        })
    }
}

/// What a push says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Push {
    Changed(Contact),
    Removed(BareJid),
}

impl Push {
    /// Reads a push; `None`: it does not have one item (section 2.1.6), or one without an address.
    pub(super) fn read(query: &Element) -> Option<(Self, Option<String>)> {
        let mut items = query
            .children()
            .filter(|child| child.is(ns::ROSTER, "item"));
        let (item, None) = (items.next()?, items.next()) else {
            return None;
        };
        let contact = Contact::read(item)?;
        let push = match item.attr("subscription") {
            Some("remove") => Self::Removed(contact.jid),
            _ => Self::Changed(contact),
        };
        Some((push, query.attr("ver").map(Into::into)))
    }

    fn jid(&self) -> &BareJid {
        match self {
            Self::Changed(contact) => &contact.jid,
            Self::Removed(jid) => jid,
        }
    }
}

/// The roster of a running session.
#[derive(Debug, Default)]
pub(super) struct Roster {
    cache: RosterCache,
    /// What was pushed since the list was asked for, by contact; `None`: it was not.
    meanwhile: Option<(BTreeMap<BareJid, Push>, Option<String>)>,
    is_loaded: bool,
}

impl Roster {
    pub(super) fn new(cache: RosterCache) -> Self {
        Self {
            cache,
            ..Self::default()
        }
    }

    pub(super) fn cache(&self) -> &RosterCache {
        &self.cache
    }

    pub(super) fn contact(&self, bare: &str) -> Option<&Contact> {
        self.cache.contacts.get(bare)
    }

    /// True when the list of this session has come.
    pub(super) fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    /// A new session: what is known may be out of date.
    pub(super) fn unload(&mut self) {
        self.is_loaded = false;
        self.meanwhile = None;
    }

    /// The question; `versions`: the server has them (section 2.6.2).
    pub(super) fn ask(&mut self, versions: bool) -> Element {
        self.meanwhile = Some((BTreeMap::new(), None));
        let query = Element::new(ns::ROSTER, "query");
        match (versions, &self.cache.ver) {
            (true, Some(ver)) => query.with_attr("ver", ver),
            (true, None) => query.with_attr("ver", ""),
            (false, _) => query,
        }
    }

    /// The answer; `None`: nothing has changed since the version that was named.
    pub(super) fn answered(&mut self, query: Option<&Element>, limits: &ProtocolLimits) {
        if let Some(query) = query {
            let contacts = query
                .children()
                .filter(|child| child.is(ns::ROSTER, "item"));
            let contacts = contacts.filter_map(Contact::read).take(limits.contacts);
            self.cache = RosterCache {
                ver: query.attr("ver").map(Into::into),
                contacts: contacts
                    .map(|contact| (contact.jid.clone(), contact))
                    .collect(),
            };
        }
        let (pushed, ver) = self.meanwhile.take().unwrap_or_default();
        for push in pushed.into_values() {
            self.apply(push, None, limits);
        }
        if ver.is_some() {
            self.cache.ver = ver;
        }
        self.is_loaded = true;
    }

    /// Takes in a push from the own account.
    pub(super) fn pushed(&mut self, push: Push, ver: Option<String>, limits: &ProtocolLimits) {
        if let Some((pushed, last)) = &mut self.meanwhile
            && (pushed.len() < limits.contacts || pushed.contains_key(push.jid()))
        {
            pushed.insert(push.jid().clone(), push.clone());
            last.clone_from(&ver);
        }
        self.apply(push, ver, limits);
    }

    fn apply(&mut self, push: Push, ver: Option<String>, limits: &ProtocolLimits) {
        match push {
            Push::Removed(jid) => {
                self.cache.contacts.remove(&jid);
            }
            Push::Changed(contact) => {
                let has_room = self.cache.contacts.len() < limits.contacts;
                if has_room || self.cache.contacts.contains_key(&contact.jid) {
                    self.cache.contacts.insert(contact.jid.clone(), contact);
                }
            }
        }
        if ver.is_some() {
            self.cache.ver = ver;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(xml: &str) -> Element {
        Element::parse(
            xml.replace("<query", "<query xmlns='jabber:iq:roster'")
                .as_bytes(),
            "",
        )
        .unwrap()
    }

    fn push(xml: &str) -> (Push, Option<String>) {
        Push::read(&query(xml)).unwrap()
    }

    fn names(roster: &Roster) -> Vec<String> {
        roster
            .cache
            .contacts()
            .map(|contact| contact.jid.to_string())
            .collect()
    }

    const LIST: &str = "<query ver='7'>\
        <item jid='ann@a.test' name='Ann' subscription='both' approved='true'>\
        <group>Friends</group><group>Work</group></item>\
        <item jid='ben@a.test' ask='subscribe' subscription='none'/></query>";

    fn loaded() -> Roster {
        let mut roster = Roster::default();
        roster.ask(true);
        roster.answered(Some(&query(LIST)), &ProtocolLimits::default());
        roster
    }

    #[test]
    fn lists_are_read_kept_and_read_again() {
        let roster = loaded();
        let ann = roster.contact("ann@a.test").unwrap();
        assert_eq!(ann.name.as_deref(), Some("Ann"));
        assert_eq!(ann.groups, ["Friends", "Work"]);
        assert!(ann.subscription.is_from() && ann.subscription.is_to() && ann.approved);
        let ben = roster.contact("ben@a.test").unwrap();
        assert!(ben.asked && !ben.subscription.is_from());
        let text = roster.cache().to_text();
        assert_eq!(RosterCache::parse(&text).as_ref(), Some(roster.cache()));
        for other in ["", "<x/>", "<query/>"] {
            assert_eq!(RosterCache::parse(other), None, "{other}");
        }
    }

    #[test]
    fn c6121_rv_02_versions_are_asked_for_where_there_are_any() {
        assert_eq!(Roster::default().ask(true).attr("ver"), Some(""));
        assert_eq!(Roster::default().ask(false).attr("ver"), None);
        let mut kept = Roster::new(loaded().cache().clone());
        assert_eq!(kept.ask(true).attr("ver"), Some("7"));
        kept.answered(None, &ProtocolLimits::default());
        assert_eq!(names(&kept), ["ann@a.test", "ben@a.test"]);
        assert!(kept.is_loaded());
    }

    #[test]
    fn c6121_rv_08_the_version_of_the_last_push_is_kept() {
        let (mut roster, limits) = (loaded(), ProtocolLimits::default());
        let (removed, ver) =
            push("<query ver='8'><item jid='ann@a.test' subscription='remove'/></query>");
        roster.pushed(removed, ver, &limits);
        let (changed, ver) = push("<query ver='9'><item jid='eve@a.test'/></query>");
        roster.pushed(changed, ver, &limits);
        assert_eq!(names(&roster), ["ben@a.test", "eve@a.test"]);
        assert_eq!(roster.ask(true).attr("ver"), Some("9"));
    }

    #[test]
    fn pushes_that_come_before_the_list_is_taken_in_are_not_lost() {
        let limits = ProtocolLimits::default();
        let mut roster = Roster::default();
        roster.ask(true);
        let (changed, ver) = push("<query ver='8'><item jid='eve@a.test'/></query>");
        roster.pushed(changed, ver, &limits);
        let (removed, ver) =
            push("<query ver='9'><item jid='ben@a.test' subscription='remove'/></query>");
        roster.pushed(removed, ver, &limits);
        roster.answered(Some(&query(LIST)), &limits);
        assert_eq!(names(&roster), ["ann@a.test", "eve@a.test"]);
        assert_eq!(roster.ask(true).attr("ver"), Some("9"));
    }

    #[test]
    fn c6121_ci_02_odd_values_are_ignored_and_odd_pushes_refused() {
        let (odd, _) = push("<query><item jid='ann@a.test' subscription='strange'/></query>");
        let Push::Changed(contact) = odd else {
            panic!("{odd:?}")
        };
        assert_eq!(contact.subscription, Subscription::None);
        for bad in [
            "<query/>",
            "<query><item/></query>",
            "<query><item jid='@'/></query>",
            "<query><item jid='a@b/c'/></query>",
            "<query><item jid='a@b'/><item jid='c@d'/></query>",
        ] {
            assert_eq!(Push::read(&query(bad)), None, "{bad}");
        }
    }

    #[test]
    fn c6121_ro_03_sets_hold_what_users_may_set() {
        let roster = loaded();
        let set = roster.contact("ann@a.test").unwrap().to_set();
        let expected = query(
            "<query><item jid='ann@a.test' name='Ann'><group>Friends</group>\
             <group>Work</group></item></query>",
        );
        assert_eq!(set, expected);
    }

    #[test]
    fn contacts_are_bounded() {
        let limits = ProtocolLimits {
            contacts: 1,
            ..ProtocolLimits::default()
        };
        let mut roster = Roster::default();
        roster.ask(false);
        let (changed, ver) = push("<query><item jid='eve@a.test'/></query>");
        roster.answered(Some(&query(LIST)), &limits);
        roster.pushed(changed, ver, &limits);
        assert_eq!(names(&roster), ["ann@a.test"]);
    }
}
