//! Message archives (XEP-0313), of the own account or of a room, page by page.
//!
//! A result counts only from the archive that was asked and with the id of the open query (section
//! 8.2). Archived messages are history: they get no receipts and ring no bells. Pages and their
//! total are bounded. Messages of the archive go to the client's other receivers too, as all do:
//! `is_result` tells them apart.

use super::{Forged, RequestError, disco, expect, fresh_id, get, request, set};
use crate::client::XmppClient;
use crate::error::IqError;
use crate::event::Events;
use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;
use xmpp_stream::error::StanzaCondition;
use xmpp_stream::jid::{BareJid, FullJid, Jid};
use xmpp_stream::ns;
use xmpp_stream::payload::delay::stamp;
use xmpp_stream::payload::forms::Form;
use xmpp_stream::payload::forward::Forwarded;
use xmpp_stream::payload::rsm::{self, PageRequest};
use xmpp_stream::stanza::{Kind, Stanza, Ty};
use xmpp_stream::xml::Element;

/// What an archive can do, as it says itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Support {
    /// There is an archive.
    pub archive: bool,
    /// Queries may name ids (section 4.1).
    pub by_id: bool,
    /// Its `stanza_id` in live messages may be believed (XEP-0359 section 6).
    pub stanza_ids: bool,
}

/// Which messages are wanted; all by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Query {
    /// To or from this contact; in a room: from this occupant, where the room allows it.
    pub with: Option<Jid>,
    /// Not before this.
    pub start: Option<SystemTime>,
    /// Not after this.
    pub end: Option<SystemTime>,
    /// After the message with this id. Only where `Support::by_id`.
    pub after_id: Option<String>,
    /// Before the message with this id. Only where `Support::by_id`.
    pub before_id: Option<String>,
    /// Which end comes first.
    pub order: Order,
}

/// Which pages come first; within a page older messages stand first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    /// The oldest page first.
    #[default]
    OldestFirst,
    /// The newest page first.
    NewestFirst,
}

/// Bytes of a page: two hundred messages as large as servers take them.
const PAGE_BYTES_MAX: usize = 50 * 1024 * 1024;
/// Messages of a page for which no number was asked: no archive gives more at a time.
const PAGE_MAX: usize = 10_000;

/// How much of an archive is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Messages in a page, at most.
    pub page: u32,
    /// Messages in all pages, at most.
    pub total: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            page: 50,
            total: 10_000,
        }
    }
}

/// A message of an archive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Archived {
    /// Its id in the archive.
    pub id: String,
    /// When the archive got it.
    pub stamp: Option<SystemTime>,
    /// The message.
    pub message: Stanza,
}

/// One page.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// Messages, older ones first.
    pub messages: Vec<Archived>,
    /// Nothing more comes in this direction.
    pub is_complete: bool,
    /// Messages in all pages, as far as the archive knows.
    pub count: Option<u32>,
    /// Which page it is.
    set: rsm::Page,
}

/// Why there is no page.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MamError {
    /// The archive does not take ids in queries.
    NotById,
    /// The archive does not know an id that the query names: it has forgotten. Ask again by time.
    UnknownId,
    /// The archive sent more than was asked for.
    TooMuch,
    /// The archive gave the same page again.
    NoProgress,
    /// The request failed.
    Request(RequestError),
}

impl fmt::Display for MamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotById => f.write_str("the archive does not take ids in queries"),
            Self::UnknownId => f.write_str("the archive does not know an id of the query"),
            Self::TooMuch => f.write_str("the archive sent more than was asked for"),
            Self::NoProgress => f.write_str("the archive gave the same page again"),
            Self::Request(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for MamError {}

impl From<IqError> for MamError {
    fn from(error: IqError) -> Self {
        match error {
            IqError::Stanza(error) if error.condition == StanzaCondition::ItemNotFound => {
                Self::UnknownId
            }
            error => Self::Request(error.into()),
        }
    }
}

impl From<RequestError> for MamError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

/// What the archive of the own account, or of a room, can do.
///
/// # Errors
/// It does not say what it can do.
pub async fn support(client: &XmppClient, room: Option<&BareJid>) -> Result<Support, RequestError> {
    let own = client.jid().as_jid().to_bare();
    let of = room.unwrap_or(&own);
    let info = disco::info(client, of.as_jid(), None).await?;
    Ok(Support {
        archive: info.has(ns::MAM),
        by_id: info.has(ns::MAM_EXTENDED),
        stanza_ids: info.has(ns::STANZA_ID),
    })
}

/// Pages of an archive, one after the other; `None` is the own account's.
#[derive(Debug)]
pub struct Pages {
    client: XmppClient,
    room: Option<BareJid>,
    query: Query,
    bounds: Bounds,
    from: Option<rsm::From>,
    seen: Seen,
    left: usize,
    is_over: bool,
}

/// What was read, as far as it has to be known: an archive may have more messages than there is
/// memory for their ids.
#[derive(Debug, Default)]
struct Seen {
    /// Pages may overlap where they meet.
    last_page: HashSet<String>,
    /// Where an earlier page began, kept for twice as many pages each time (Brent's way to find a
    /// circle), and for how many more it is kept.
    mark: Option<rsm::From>,
    left: u32,
    kept: u32,
}

impl Seen {
    /// Leaves out what the page before had, and what comes twice.
    fn take(&mut self, messages: &mut Vec<Archived>) {
        let mut page = HashSet::new();
        messages.retain(|message| {
            page.insert(message.id.clone()) && !self.last_page.contains(&message.id)
        });
        self.last_page = page;
    }

    /// The next page would begin where an earlier one did.
    fn is_round(&mut self, next: &Option<rsm::From>) -> bool {
        if self.mark == *next {
            return true;
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => {
                self.mark.clone_from(next);
                self.kept = self.kept.saturating_mul(2).max(1);
                self.left = self.kept;
            }
        }
        false
    }
}

/// Begins to read an archive. Where the query names ids, the archive is asked first whether it takes
/// them.
///
/// # Errors
/// `NotById`; or it does not say.
pub async fn pages(
    client: &XmppClient,
    room: Option<&BareJid>,
    query: Query,
    bounds: Bounds,
) -> Result<Pages, MamError> {
    let names_ids = query.after_id.is_some() || query.before_id.is_some();
    if names_ids && !support(client, room).await?.by_id {
        return Err(MamError::NotById);
    }
    let from = match query.order {
        Order::OldestFirst => None,
        Order::NewestFirst => Some(rsm::From::Last),
    };
    Ok(Pages {
        client: client.clone(),
        room: room.cloned(),
        query,
        bounds,
        from,
        seen: Seen::default(),
        left: bounds.total,
        is_over: false,
    })
}

impl Pages {
    /// The next page; `None` after the last one, or when the total is reached.
    ///
    /// # Errors
    /// As `MamError` says; nothing follows an error.
    pub async fn next(&mut self) -> Result<Option<Page>, MamError> {
        let max = usize::try_from(self.bounds.page).unwrap_or(usize::MAX);
        let max = max.min(self.left);
        if self.is_over || max == 0 {
            return Ok(None);
        }
        // Whatever happens below: who asks again after an error gets nothing.
        self.is_over = true;
        let asked = PageRequest {
            max: u32::try_from(max).ok(),
            from: self.from.clone(),
        };
        let mut page = page(&self.client, self.room.as_ref(), &self.query, &asked).await?;
        self.seen.take(&mut page.messages);
        self.left = self.left.saturating_sub(page.messages.len());
        let next = match self.query.order {
            Order::OldestFirst => page.set.last.clone().map(rsm::From::After),
            Order::NewestFirst => page.set.first.clone().map(rsm::From::Before),
        };
        if !page.is_complete {
            let is_stuck = || next == self.from || page.messages.is_empty();
            if next.is_some() && (is_stuck() || self.seen.is_round(&next)) {
                return Err(MamError::NoProgress);
            }
            self.is_over = next.is_none();
            self.from = next;
        }
        Ok(Some(page))
    }

    /// The pages ended at the total, not at the end of the archive.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.left == 0 && !self.is_over
    }
}

/// One page of an archive.
///
/// # Errors
/// `UnknownId`, `TooMuch`; else the request failed.
pub async fn page(
    client: &XmppClient,
    room: Option<&BareJid>,
    query: &Query,
    page: &PageRequest,
) -> Result<Page, MamError> {
    let query_id = fresh_id();
    let asked = to_element(query, &query_id, page);
    let mut results = Results {
        own: client.jid(),
        room: room.cloned(),
        query_id,
        max: page.max.map_or(PAGE_MAX, |max| max as usize),
        bytes: 0,
        messages: Vec::new(),
    };
    let mut events = client.events_in_passing();
    let iq = request(Ty::Set, room.map(BareJid::as_jid), &asked);
    let answer = {
        let mut asking = std::pin::pin!(client.send_iq(iq));
        loop {
            tokio::select! {
                biased;
                stanza = events.next_stanza() => match stanza {
                    Some(stanza) => results.take(&stanza)?,
                    None => break asking.await,
                },
                answer = &mut asking => break answer,
            }
        }
    };
    let names_ids = query.after_id.is_some()
        || query.before_id.is_some()
        || matches!(page.from, Some(rsm::From::After(_) | rsm::From::Before(_)));
    let answer = match answer {
        // It is not an id that was not found.
        Err(error) if !names_ids => return Err(MamError::Request(error.into())),
        answer => answer?,
    };
    let fin = expect(answer.first_element(), ns::MAM, "fin")?;
    // What stood before the answer in the stream is there by now.
    while let Some(stanza) = waiting(&mut events).await {
        results.take(&stanza)?;
    }
    let set = rsm::Page::find(&fin).unwrap_or_default();
    Ok(Page {
        messages: results.messages,
        is_complete: matches!(fin.attr("complete"), Some("true" | "1")),
        count: set.count,
        set,
    })
}

/// The message is a result of a query: not a live message, whoever sent it.
#[must_use]
pub fn is_result(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Message && stanza.kids.iter().any(|kid| kid.ns == ns::id::MAM)
}

/// The id by which an archive knows a live message: what `by` says, where `Support::stanza_ids`.
#[must_use]
pub fn stanza_id(stanza: &Stanza, by: &BareJid) -> Option<String> {
    let ids = stanza
        .kids
        .iter()
        .filter(|kid| kid.ns == ns::id::STANZA_ID && kid.name == ns::name::STANZA_ID);
    let ids: Vec<Element> = ids.map(|kid| stanza.element(kid)).collect();
    let is_by = |id: &&Element| {
        let by_whom = id.attr("by").and_then(|by| Jid::parse(by).ok());
        by_whom.as_ref() == Some(by.as_jid())
    };
    ids.iter().find(is_by)?.attr("id").map(ToOwned::to_owned)
}

/// What an open query takes.
struct Results {
    own: FullJid,
    room: Option<BareJid>,
    query_id: String,
    max: usize,
    bytes: usize,
    messages: Vec<Archived>,
}

impl Results {
    fn take(&mut self, stanza: &Stanza) -> Result<(), MamError> {
        match self.read(stanza) {
            Ok(None) => {}
            Ok(Some(_)) if self.messages.len() == self.max => return Err(MamError::TooMuch),
            Ok(Some(message)) => {
                self.bytes = self.bytes.saturating_add(message.message.wire_len());
                if self.bytes > PAGE_BYTES_MAX {
                    return Err(MamError::TooMuch);
                }
                self.messages.push(message);
            }
            Err(forged) => tracing::warn!(%forged, "a result of an archive"),
        }
        Ok(())
    }

    fn read(&self, stanza: &Stanza) -> Result<Option<Archived>, Forged> {
        if !is_result(stanza) {
            return Ok(None);
        }
        let results = stanza.kids.iter().filter(|kid| kid.ns == ns::id::MAM);
        let results: Vec<Element> = results.map(|kid| stanza.element(kid)).collect();
        let [result] = results.as_slice() else {
            return Ok(None);
        };
        let is_ours = result.attr("queryid") == Some(&*self.query_id);
        if !result.is(ns::MAM, "result") || !is_ours {
            return Ok(None);
        }
        if !self.is_archive(stanza.head.from.as_ref()) {
            let from = stanza.head.from.clone();
            return Err(Forged { from });
        }
        let found = result.attr("id").zip(Forwarded::find(result));
        Ok(found.map(|(id, forwarded)| Archived {
            id: id.to_owned(),
            stamp: forwarded.delay.map(|delay| delay.stamp),
            message: forwarded.message,
        }))
    }

    fn is_archive(&self, from: Option<&Jid>) -> bool {
        match &self.room {
            Some(room) => from == Some(room.as_jid()),
            None => from.is_none_or(|from| from == self.own.as_jid().to_bare().as_jid()),
        }
    }
}

/// A stanza that is there already.
async fn waiting(events: &mut Events) -> Option<Stanza> {
    tokio::select! {
        biased;
        stanza = events.next_stanza() => stanza,
        () = std::future::ready(()) => None,
    }
}

fn to_element(query: &Query, query_id: &str, page: &PageRequest) -> Element {
    let mut form = Form::submit(ns::MAM);
    let texts = [
        (
            "with",
            query.with.as_ref().map(|with| with.as_str().to_owned()),
        ),
        ("start", query.start.map(stamp)),
        ("end", query.end.map(stamp)),
        ("after-id", query.after_id.clone()),
        ("before-id", query.before_id.clone()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            form.set(name, &text);
        }
    }
    Element::new(ns::MAM, "query")
        .with_attr("queryid", query_id)
        .with_child(form.to_element())
        .with_child(page.to_element())
}

/// What the own account's archive keeps (section 7).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Preferences {
    /// Of whom neither list says anything.
    pub default: Keep,
    /// Always what these send and get.
    pub always: Vec<Jid>,
    /// Never what these send and get.
    pub never: Vec<Jid>,
}

/// What an archive keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// Everything.
    Always,
    /// Nothing.
    Never,
    /// What is exchanged with contacts.
    Roster,
}

/// Asks what is kept.
///
/// # Errors
/// The request failed, or the answer is another.
pub async fn preferences(client: &XmppClient) -> Result<Preferences, RequestError> {
    let asked = Element::new(ns::MAM, "prefs");
    read_preferences(get(client, None, &asked).await?)
}

/// Says what is to be kept; gives what the server makes of it.
///
/// # Errors
/// The request failed, or the answer is another.
pub async fn set_preferences(
    client: &XmppClient,
    preferences: &Preferences,
) -> Result<Preferences, RequestError> {
    let list = |name, jids: &[Jid]| {
        let jid = |jid: &Jid| Element::new(ns::MAM, "jid").with_text(jid.as_str());
        jids.iter()
            .map(jid)
            .fold(Element::new(ns::MAM, name), Element::with_child)
    };
    let default = match preferences.default {
        Keep::Always => "always",
        Keep::Never => "never",
        Keep::Roster => "roster",
    };
    let prefs = Element::new(ns::MAM, "prefs")
        .with_attr("default", default)
        .with_child(list("always", &preferences.always))
        .with_child(list("never", &preferences.never));
    read_preferences(set(client, None, &prefs).await?)
}

fn read_preferences(answer: Option<Element>) -> Result<Preferences, RequestError> {
    let prefs = expect(answer, ns::MAM, "prefs")?;
    let list = |name| {
        let jids = prefs.child(ns::MAM, name).into_iter();
        let jids = jids.flat_map(Element::children);
        jids.filter_map(|jid| Jid::parse(jid.text().trim()).ok())
            .collect()
    };
    Ok(Preferences {
        default: match prefs.attr("default") {
            Some("always") => Keep::Always,
            Some("never") => Keep::Never,
            Some("roster") => Keep::Roster,
            _ => return Err(RequestError::Malformed("it does not say what is kept")),
        },
        always: list("always"),
        never: list("never"),
    })
}

#[cfg(test)]
mod tests;
