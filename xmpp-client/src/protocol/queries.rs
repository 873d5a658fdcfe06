//! What we ask others: what they are and can do, whether they are there, which software they run,
//! what time it is there (XEP-0030, XEP-0199, XEP-0092, XEP-0202).

use super::XmppProtocol;
use crate::error::IqError;
use crate::ext::{self, RequestError, disco, ping};
use std::time::SystemTime;
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::delay;
use xmpp_stream::payload::disco::{Info, Item};
use xmpp_stream::xml::Element;

/// Which software somebody runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Software {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// What it runs on.
    pub os: Option<String>,
}

/// What time it is somewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EntityTime {
    /// The moment.
    pub utc: SystemTime,
    /// How far local time is from it, such as `-06:00`.
    pub offset: String,
}

impl XmppProtocol {
    /// What an entity is and can do.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn disco_info(&self, of: &Jid, node: Option<&str>) -> Result<Info, RequestError> {
        disco::info(self.client(), of, node).await
    }

    /// What belongs to an entity.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn disco_items(
        &self,
        of: &Jid,
        node: Option<&str>,
    ) -> Result<Vec<Item>, RequestError> {
        disco::items(self.client(), of, node).await
    }

    /// Whether somebody is there; without an address the own server.
    ///
    /// # Errors
    /// The stream is over.
    pub async fn ping(&self, whom: Option<&Jid>) -> Result<ping::Outcome, IqError> {
        ping::ping(self.client(), whom).await
    }

    /// Which software somebody runs.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn version_of(&self, of: &Jid) -> Result<Software, RequestError> {
        let query = Element::new(ns::VERSION, "query");
        let answer = ext::get(self.client(), Some(of), &query).await?;
        software(&ext::expect(answer, ns::VERSION, "query")?)
            .ok_or(RequestError::Malformed("it has no name"))
    }

    /// What time it is there.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn time_of(&self, of: &Jid) -> Result<EntityTime, RequestError> {
        let answer = ext::get(self.client(), Some(of), &Element::new(ns::TIME, "time")).await?;
        entity_time(&ext::expect(answer, ns::TIME, "time")?)
            .ok_or(RequestError::Malformed("it has no time"))
    }
}

fn software(query: &Element) -> Option<Software> {
    let text = |name| query.child(ns::VERSION, name).map(Element::text);
    Some(Software {
        name: text("name")?,
        version: text("version"),
        os: text("os"),
    })
}

fn entity_time(time: &Element) -> Option<EntityTime> {
    let text = |name| time.child(ns::TIME, name).map(Element::text);
    Some(EntityTime {
        utc: delay::parse_stamp(&text("utc")?)?,
        offset: text("tzo").unwrap_or_else(|| "+00:00".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(xml: &str) -> Element {
        Element::parse(xml.as_bytes(), "").unwrap()
    }

    #[test]
    fn answers_are_read() {
        let told = software(&element(
            "<query xmlns='jabber:iq:version'><name>X</name><os>Y</os></query>",
        ));
        let told = told.unwrap();
        assert_eq!((told.name.as_str(), told.os.as_deref()), ("X", Some("Y")));
        assert_eq!(
            software(&element("<query xmlns='jabber:iq:version'/>")),
            None
        );
        let told = entity_time(&element(
            "<time xmlns='urn:xmpp:time'><tzo>-06:00</tzo><utc>1970-01-01T00:00:00Z</utc></time>",
        ));
        assert_eq!(
            told.as_ref().map(|time| time.utc),
            Some(SystemTime::UNIX_EPOCH)
        );
        assert_eq!(told.unwrap().offset, "-06:00");
        let odd = "<time xmlns='urn:xmpp:time'><utc>now</utc></time>";
        assert_eq!(entity_time(&element(odd)), None);
    }
}
