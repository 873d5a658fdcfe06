//! Bookmarks of rooms (XEP-0402), kept in a private node of the own account.
//!
//! A bookmark carries what other clients have put into it; whoever changes one writes that back
//! (section 3.1). Read with `list`, change, and `set`.

use super::Forged;
use super::pep;
use super::pubsub::{Change, Item, MaxItems, Options, PubsubError, SendLast, Which};
use crate::client::XmppClient;
use xmpp_stream::error::StanzaCondition;
use xmpp_stream::jid::{BareJid, FullJid};
use xmpp_stream::ns;
use xmpp_stream::stanza::Stanza;
use xmpp_stream::xml::Element;

/// A room to come back to.
#[derive(Clone, Debug, PartialEq)]
pub struct Bookmark {
    /// The room.
    pub room: BareJid,
    /// Its name, for people.
    pub name: Option<String>,
    /// Join it on coming online.
    pub autojoin: bool,
    /// Under this nickname.
    pub nick: Option<String>,
    /// With this password.
    pub password: Option<String>,
    /// What other clients have put into it, of which we know nothing.
    pub extensions: Vec<Element>,
}

/// What happened to the bookmarks.
#[derive(Clone, Debug, PartialEq)]
pub enum BookmarkChange {
    /// These are there, new or changed. One that is no bookmark is left out.
    Set(Vec<Bookmark>),
    /// These are gone.
    Removed(Vec<BareJid>),
    /// All are gone.
    AllRemoved,
}

impl Bookmark {
    /// A bookmark that says no more than the room.
    #[must_use]
    pub fn new(room: BareJid) -> Self {
        Self {
            room,
            name: None,
            autojoin: false,
            nick: None,
            password: None,
            extensions: Vec::new(),
        }
    }

    fn parse(item: &Item) -> Option<Self> {
        let conference = item.payload.as_ref()?;
        if !conference.is(ns::BOOKMARKS, "conference") {
            return None;
        }
        let text = |name| conference.child(ns::BOOKMARKS, name).map(Element::text);
        let extensions = conference.child(ns::BOOKMARKS, "extensions");
        Some(Self {
            room: BareJid::parse(item.id.as_deref()?).ok()?,
            name: conference.attr("name").map(ToOwned::to_owned),
            autojoin: matches!(conference.attr("autojoin"), Some("true" | "1")),
            nick: text("nick"),
            password: text("password"),
            extensions: extensions
                .into_iter()
                .flat_map(Element::children)
                .cloned()
                .collect(),
        })
    }

    fn to_element(&self) -> Element {
        let mut conference = Element::new(ns::BOOKMARKS, "conference");
        if let Some(name) = &self.name {
            conference.set_attr("name", name);
        }
        if self.autojoin {
            conference.set_attr("autojoin", "true");
        }
        for (name, text) in [("nick", &self.nick), ("password", &self.password)] {
            if let Some(text) = text {
                conference.push(Element::new(ns::BOOKMARKS, name).with_text(text));
            }
        }
        if !self.extensions.is_empty() {
            let extensions = Element::new(ns::BOOKMARKS, "extensions");
            let all = self.extensions.iter().cloned();
            conference.push(all.fold(extensions, Element::with_child));
        }
        conference
    }
}

/// All bookmarks. What is none is passed over.
///
/// # Errors
/// The request failed; an account without bookmarks is none of that.
pub async fn list(client: &XmppClient) -> Result<Vec<Bookmark>, PubsubError> {
    match pep::items(client, None, ns::BOOKMARKS, Which::All).await {
        Ok(items) => Ok(items.items.iter().filter_map(Bookmark::parse).collect()),
        Err(PubsubError::Refused { error, .. })
            if error.condition == StanzaCondition::ItemNotFound =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Adds a bookmark, or replaces that of the room, in a node that nobody else may read.
///
/// # Errors
/// The request failed.
pub async fn set(client: &XmppClient, bookmark: &Bookmark) -> Result<(), PubsubError> {
    let options = Options {
        max_items: Some(MaxItems::Max),
        send_last: Some(SendLast::Never),
        ..Options::private()
    };
    let id = Some(bookmark.room.as_jid().as_str());
    let payload = bookmark.to_element();
    pep::publish(client, ns::BOOKMARKS, id, payload, Some(&options)).await?;
    Ok(())
}

/// Removes the bookmark of a room.
///
/// # Errors
/// The request failed; that there was none is none of that.
pub async fn remove(client: &XmppClient, room: &BareJid) -> Result<(), PubsubError> {
    match pep::retract(client, ns::BOOKMARKS, room.as_jid().as_str()).await {
        Err(PubsubError::Refused { error, .. })
            if error.condition == StanzaCondition::ItemNotFound =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Reads a notification that another resource has changed the bookmarks; `None` where the stanza is
/// none.
///
/// # Errors
/// It is not from the own account.
pub fn read(own: &FullJid, stanza: &Stanza) -> Result<Option<BookmarkChange>, Forged> {
    let Some(found) = pep::read_private(own, ns::BOOKMARKS, stanza)? else {
        return Ok(None);
    };
    Ok(match found.change {
        Change::Published(items) => Some(BookmarkChange::Set(
            items.iter().filter_map(Bookmark::parse).collect(),
        )),
        Change::Retracted(ids) => Some(BookmarkChange::Removed(
            ids.iter()
                .filter_map(|id| BareJid::parse(id).ok())
                .collect(),
        )),
        Change::Purged | Change::Deleted => Some(BookmarkChange::AllRemoved),
        Change::Configured => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, xml: &str) -> Item {
        Item {
            id: Some(id.into()),
            publisher: None,
            payload: Some(Element::parse(xml.as_bytes(), ns::BOOKMARKS).unwrap()),
        }
    }

    #[test]
    fn xep0402_what_other_clients_wrote_is_kept() {
        let xml = "<conference name='n' autojoin='1'><nick>me</nick><password>p</password>\
                   <extensions><state xmlns='urn:x' minimized='true'>t</state></extensions>\
                   </conference>";
        let mut bookmark = Bookmark::parse(&item("room@c.test", xml)).unwrap();
        assert!(bookmark.autojoin);
        assert_eq!(bookmark.nick.as_deref(), Some("me"));
        bookmark.autojoin = false;
        bookmark.name = None;
        let expected = "<conference xmlns='urn:xmpp:bookmarks:1'><nick>me</nick>\
                        <password>p</password><extensions>\
                        <state xmlns='urn:x' minimized='true'>t</state></extensions></conference>";
        assert_eq!(bookmark.to_element().to_xml(""), expected);
    }

    #[test]
    fn xep0402_what_is_no_bookmark_is_passed_over() {
        assert_eq!(Bookmark::parse(&item("@", "<conference/>")), None);
        assert_eq!(
            Bookmark::parse(&item("room@c.test/me", "<conference/>")),
            None
        );
        assert_eq!(Bookmark::parse(&item("room@c.test", "<other/>")), None);
    }

    #[test]
    fn ck_07_bookmarks_change_by_the_own_account_alone() {
        let own = FullJid::parse("ann@a.test/x").unwrap();
        let change = |from: &str, inside: &str| {
            let node = ns::BOOKMARKS;
            let items = format!("<items node='{node}'>{inside}</items>");
            let event = format!("<event xmlns='{}'>{items}</event>", ns::PUBSUB_EVENT);
            let message = format!("<message from='{from}'>{event}</message>");
            read(&own, &Stanza::parse(&message).unwrap())
        };
        let set = format!(
            "<item id='room@c.test'><conference xmlns='{}'/></item>",
            ns::BOOKMARKS
        );
        let room = BareJid::parse("room@c.test").unwrap();
        assert_eq!(
            change("ann@a.test", &set),
            Ok(Some(BookmarkChange::Set(vec![Bookmark::new(room.clone())])))
        );
        assert_eq!(
            change("ann@a.test", "<retract id='room@c.test'/>"),
            Ok(Some(BookmarkChange::Removed(vec![room])))
        );
        for eve in ["eve@a.test", "ann@a.test/x", "room@c.test"] {
            assert!(change(eve, &set).is_err(), "{eve}");
        }
    }
}
