//! Messages as people see them: what is sent, and what a received stanza says.
//!
//! RFC 6121 section 5, XEP-0184, XEP-0203, XEP-0280, XEP-0308. A copy counts only from the own
//! account (XEP-0280 section 11), a correction only from whom the original is from.

use crate::ext::carbons::Direction;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns::{self, name};
use xmpp_stream::payload::delay::Delay;
use xmpp_stream::stanza::{Stanza, Ty};
use xmpp_stream::xml::Element;

/// What kind of message (RFC 6121 section 5.2.2); an unknown one is `Normal`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum MessageKind {
    /// Part of a conversation.
    #[default]
    Chat,
    /// Stands alone, like a mail.
    Normal,
    /// In a room.
    Groupchat,
    /// News, to which nobody answers.
    Headline,
}

impl MessageKind {
    fn of(ty: &Ty) -> Self {
        match ty {
            Ty::Chat => Self::Chat,
            Ty::Groupchat => Self::Groupchat,
            Ty::Headline => Self::Headline,
            _ => Self::Normal,
        }
    }

    fn to_ty(self) -> Ty {
        match self {
            Self::Chat => Ty::Chat,
            Self::Normal => Ty::None,
            Self::Groupchat => Ty::Groupchat,
            Self::Headline => Ty::Headline,
        }
    }
}

/// A text and its language.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text {
    /// `xml:lang`.
    pub lang: Option<String>,
    /// The text.
    pub text: String,
}

/// A message that was received, or sent by another device of ours.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who sent it.
    pub from: Jid,
    /// Whom it was sent to.
    pub to: Option<Jid>,
    /// Its id; chosen by the sender.
    pub id: Option<String>,
    /// What kind it is.
    pub kind: MessageKind,
    /// What it says; several are the same in different languages.
    pub bodies: Vec<Text>,
    /// What it is about, in several languages.
    pub subjects: Vec<Text>,
    /// Which thread of conversation it belongs to.
    pub thread: Option<String>,
    /// When it was sent, where it comes late.
    pub delay: Option<Delay>,
    /// The date is our own server's, or of the room it came through; another may be invented
    /// (XEP-0203 section 5).
    pub is_delay_trusted: bool,
    /// It replaces the message of this id (XEP-0308). Never one of somebody else's, as far as that
    /// is remembered.
    pub corrects: Option<String>,
    /// It is a copy of what another device of ours sent or received.
    pub carbon: Option<Direction>,
    /// All of it.
    pub stanza: Stanza,
}

impl Message {
    /// What it says: in no particular language where there is one such, else in the first.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        pick(&self.bodies)
    }

    /// What it says in this language, or in one that begins the same; else as `body`.
    #[must_use]
    pub fn body_in(&self, lang: &str) -> Option<&str> {
        let is_same = |text: &&Text| {
            let have = text.lang.as_deref().unwrap_or_default();
            have.eq_ignore_ascii_case(lang)
                || have
                    .split_once('-')
                    .is_some_and(|(have, _)| have.eq_ignore_ascii_case(lang))
        };
        let found = self.bodies.iter().find(is_same);
        found.map_or_else(|| self.body(), |text| Some(&text.text))
    }

    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        pick(&self.subjects)
    }

    /// Reads a message; `None`: it has no sender, or there is nothing in it to read.
    pub(super) fn read(stanza: &Stanza, own: &Jid) -> Option<Self> {
        // RFC 6120 section 8.1.2.1: what has no `from` is from the own account.
        let from = stanza
            .head
            .from
            .clone()
            .unwrap_or_else(|| own.to_bare().into_jid());
        let (bodies, subjects) = (texts(stanza, name::BODY), texts(stanza, name::SUBJECT));
        if bodies.is_empty() && subjects.is_empty() {
            return None;
        }
        let kind = MessageKind::of(&stanza.head.ty);
        let (delay, is_delay_trusted) = delay(stanza, kind, &from, own);
        Some(Self {
            from,
            to: stanza.head.to.clone(),
            id: stanza.head.id.as_deref().map(Into::into),
            kind,
            bodies,
            subjects,
            thread: stanza.child_text(name::THREAD),
            delay,
            is_delay_trusted,
            corrects: child_id(stanza, ns::id::CORRECT, "replace"),
            carbon: None,
            stanza: stanza.clone(),
        })
    }
}

fn pick(texts: &[Text]) -> Option<&str> {
    let plain = texts.iter().find(|text| text.lang.is_none());
    plain
        .or_else(|| texts.first())
        .map(|text| text.text.as_str())
}

fn texts(stanza: &Stanza, name: ns::NameId) -> Vec<Text> {
    let is_it = |kid: &&xmpp_stream::stanza::Kid| (kid.ns, kid.name) == (ns::id::CLIENT, name);
    let texts = stanza.kids.iter().filter(is_it).map(|kid| {
        let element = stanza.element(kid);
        let lang = element
            .attr_ns(ns::XML, "lang")
            .or(stanza.head.lang.as_deref());
        Text {
            lang: lang.map(Into::into),
            text: element.text(),
        }
    });
    texts.collect()
}

/// The date of whom we trust, else the first one.
fn delay(stanza: &Stanza, kind: MessageKind, from: &Jid, own: &Jid) -> (Option<Delay>, bool) {
    let is_trusted = |delay: &Delay| {
        delay.from.as_ref().is_some_and(|by| {
            let is_ours = by.as_str() == own.domain() || by.as_str() == own.bare_str();
            let is_room = kind == MessageKind::Groupchat && by.as_str() == from.bare_str();
            is_ours || is_room
        })
    };
    let kids = stanza.kids.iter().filter(|kid| kid.ns == ns::id::DELAY);
    let delays: Vec<_> = kids
        .filter_map(|kid| Delay::parse(&stanza.element(kid)))
        .collect();
    match delays.iter().find(|delay| is_trusted(delay)) {
        Some(delay) => (Some(delay.clone()), true),
        None => (delays.into_iter().next(), false),
    }
}

/// The id that a child of this namespace and name refers to.
pub(super) fn child_id(stanza: &Stanza, ns: ns::NsId, name: &str) -> Option<String> {
    let kids = stanza.kids.iter().filter(|kid| kid.ns == ns);
    let mut elements = kids.map(|kid| stanza.element(kid));
    let element = elements.find(|element| element.name() == name)?;
    element
        .attr("id")
        .filter(|id| !id.is_empty())
        .map(Into::into)
}

/// A message to be sent.
///
/// ```
/// use xmpp_client::{Jid, Outgoing};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let to = Jid::parse("ben@example.org")?;
/// let message = Outgoing::chat(&to, "hello").thread("t1");
/// # drop(message);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a message does nothing before it is sent"]
pub struct Outgoing {
    pub(super) to: Jid,
    pub(super) kind: MessageKind,
    body: Option<String>,
    subject: Option<String>,
    thread: Option<String>,
    lang: Option<String>,
    pub(super) id: Option<String>,
    corrects: Option<String>,
    pub(super) wants_receipt: bool,
    pub(super) wants_states: bool,
    extra: Vec<Element>,
}

impl Outgoing {
    fn new(kind: MessageKind, to: &Jid, body: Option<&str>) -> Self {
        Self {
            to: to.clone(),
            kind,
            body: body.map(Into::into),
            subject: None,
            thread: None,
            lang: None,
            id: None,
            corrects: None,
            wants_receipt: kind == MessageKind::Chat,
            wants_states: kind == MessageKind::Chat,
            extra: Vec::new(),
        }
    }

    /// Part of a conversation; asks for a receipt where that makes sense.
    pub fn chat(to: &Jid, body: &str) -> Self {
        Self::new(MessageKind::Chat, to, Some(body))
    }

    /// A message that stands alone.
    pub fn normal(to: &Jid, body: &str) -> Self {
        Self::new(MessageKind::Normal, to, Some(body))
    }

    /// To everybody in a room.
    pub fn groupchat(room: &Jid, body: &str) -> Self {
        Self::new(MessageKind::Groupchat, room, Some(body))
    }

    /// News.
    pub fn headline(to: &Jid, body: &str) -> Self {
        Self::new(MessageKind::Headline, to, Some(body))
    }

    /// Without a text: what it says stands in `extra`.
    pub fn bare(to: &Jid, kind: MessageKind) -> Self {
        Self {
            wants_receipt: false,
            wants_states: false,
            ..Self::new(kind, to, None)
        }
    }

    /// Builder: what it is about.
    pub fn subject(mut self, subject: &str) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Builder: which thread of conversation it belongs to.
    pub fn thread(mut self, thread: &str) -> Self {
        self.thread = Some(thread.into());
        self
    }

    /// Builder: its language.
    pub fn lang(mut self, lang: &str) -> Self {
        self.lang = Some(lang.into());
        self
    }

    /// Builder: an id of your own; it must be new.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Builder: it replaces the last message sent to them, which had this id (the first one of a
    /// row of corrections; XEP-0308 section 3).
    pub fn corrects(mut self, id: &str) -> Self {
        self.corrects = Some(id.into());
        self
    }

    /// Builder: asks for a receipt or not.
    pub fn receipt(mut self, is_wanted: bool) -> Self {
        self.wants_receipt = is_wanted;
        self
    }

    /// Builder: a further element.
    pub fn with(mut self, extra: Element) -> Self {
        self.extra.push(extra);
        self
    }

    pub(super) fn to_stanza(&self, id: &str, asks_receipt: bool, tells_state: bool) -> Stanza {
        let text = |name, text: &Option<String>| {
            let text = text.as_deref()?;
            Some(Element::new(ns::CLIENT, name).with_text(text))
        };
        let mut stanza = Stanza::message(self.kind.to_ty())
            .with_to(self.to.clone())
            .with_id(id);
        stanza.head.lang = self.lang.as_deref().map(Into::into);
        let correct = self.corrects.as_deref();
        let children = [
            text("subject", &self.subject),
            text("body", &self.body),
            text("thread", &self.thread),
            correct.map(|id| Element::new(ns::CORRECT, "replace").with_attr("id", id)),
            asks_receipt.then(|| Element::new(ns::RECEIPTS, "request")),
            tells_state.then(|| Element::new(ns::CHAT_STATES, "active")),
        ];
        for child in children.iter().flatten().chain(&self.extra) {
            stanza = stanza.with_child(child);
        }
        stanza
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Option<Message> {
        let own = Jid::parse("ann@a.test/x").unwrap();
        Message::read(&Stanza::parse(xml).unwrap(), &own)
    }

    #[test]
    fn c6121_message_body_several_languages() {
        let message = read(
            "<message from='ben@b.test' xml:lang='en'><body>hi</body>\
             <body xml:lang='de-AT'>servus</body><subject>s</subject><thread>t</thread></message>",
        )
        .unwrap();
        assert_eq!(message.body(), Some("hi"));
        assert_eq!(message.body_in("de"), Some("servus"));
        assert_eq!(message.body_in("EN"), Some("hi"));
        assert_eq!(message.body_in("fr"), Some("hi"));
        assert_eq!(message.subject(), Some("s"));
        assert_eq!(message.thread.as_deref(), Some("t"));
    }

    #[test]
    fn c6121_ci_06_li_03_unknown_types_are_normal() {
        let kind = |ty: &str| {
            read(&format!("<message{ty}><body/></message>"))
                .unwrap()
                .kind
        };
        assert_eq!(kind(""), MessageKind::Normal);
        assert_eq!(kind(" type='strange'"), MessageKind::Normal);
        assert_eq!(kind(" type='headline'"), MessageKind::Headline);
    }

    #[test]
    fn li_05_without_from_it_is_from_the_own_account() {
        let message = read("<message><body>x</body></message>").unwrap();
        assert_eq!(message.from.as_str(), "ann@a.test");
        assert!(read("<message from='ben@b.test'/>").is_none());
    }

    #[test]
    fn ck_08_dates_of_our_own_server_and_room_are_trusted() {
        let delayed = |from: &str, ty: &str, by: &str| {
            let other = "<delay xmlns='urn:xmpp:delay' stamp='2000-01-01T00:00:00Z'/>";
            let delay =
                format!("<delay xmlns='urn:xmpp:delay' from='{by}' stamp='2010-01-01T00:00:00Z'/>");
            let message =
                format!("<message from='{from}' type='{ty}'><body/>{other}{delay}</message>");
            let message = read(&message).unwrap();
            assert_eq!(
                message.delay.unwrap().from.is_some(),
                message.is_delay_trusted
            );
            message.is_delay_trusted
        };
        assert!(delayed("ben@b.test/x", "chat", "a.test"));
        assert!(delayed("ben@b.test/x", "chat", "ann@a.test"));
        assert!(!delayed("ben@b.test/x", "chat", "b.test"));
        assert!(!delayed("ben@b.test/x", "chat", "ben@b.test"));
        assert!(delayed("room@c.test/ben", "groupchat", "room@c.test"));
        assert!(!delayed("room@c.test/ben", "chat", "room@c.test"));
    }

    #[test]
    fn messages_are_written() {
        let to = Jid::parse("ben@b.test").unwrap();
        let message = Outgoing::chat(&to, "b")
            .subject("s")
            .thread("t")
            .lang("en")
            .corrects("c");
        let message = message.with(Element::new("urn:x", "y"));
        assert_eq!(
            message.to_stanza("1", true, true).to_xml(),
            "<message to='ben@b.test' id='1' type='chat' xml:lang='en'><subject>s</subject>\
             <body>b</body><thread>t</thread>\
             <replace xmlns='urn:xmpp:message-correct:0' id='c'/>\
             <request xmlns='urn:xmpp:receipts'/>\
             <active xmlns='http://jabber.org/protocol/chatstates'/><y xmlns='urn:x'/></message>"
        );
        let bare = Outgoing::bare(&to, MessageKind::Normal).to_stanza("1", false, false);
        assert_eq!(bare.to_xml(), "<message to='ben@b.test' id='1'/>");
    }
}
