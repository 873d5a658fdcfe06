//! Searching a directory of users (XEP-0055), by plain fields or by a form.

use super::XmppProtocol;
use super::questions::Questions;
use crate::ext::{self, RequestError};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::forms::Form;
use xmpp_stream::xml::Element;

/// Somebody who was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Who.
    pub jid: Jid,
    /// What the directory says of them: names of fields, and values.
    pub fields: Vec<(String, String)>,
}

impl XmppProtocol {
    /// What a directory can be searched by.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn search_questions(&self, directory: &Jid) -> Result<Questions, RequestError> {
        let query = Element::new(ns::SEARCH, "query");
        let answer = ext::get(self.client(), Some(directory), &query).await?;
        let answer = ext::expect(answer, ns::SEARCH, "query")?;
        Questions::parse(ns::SEARCH, &answer).ok_or(RequestError::Malformed("it is no question"))
    }

    /// Searches by what was filled in.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn search(
        &self,
        directory: &Jid,
        asked: &Questions,
    ) -> Result<Vec<Found>, RequestError> {
        let answer = ext::set(self.client(), Some(directory), &asked.to_answer()).await?;
        // An empty result is an answer too.
        match answer {
            Some(answer) => Ok(found(&ext::expect(Some(answer), ns::SEARCH, "query")?)),
            None => Ok(Vec::new()),
        }
    }
}

/// Whoever has no address is passed over.
fn found(query: &Element) -> Vec<Found> {
    match Form::find(query) {
        Some(form) => {
            let rows = form.items.iter().map(|row| {
                let fields = row.iter().filter_map(|field| {
                    Some((
                        field.var.clone()?,
                        field.value().unwrap_or_default().to_owned(),
                    ))
                });
                fields.collect::<Vec<_>>()
            });
            rows.filter_map(|mut fields| {
                let at = fields.iter().position(|(var, _)| var == "jid")?;
                let (_, jid) = fields.remove(at);
                let jid = Jid::parse(&jid).ok()?;
                Some(Found { jid, fields })
            })
            .collect()
        }
        None => {
            let items = query.children().filter(|item| item.is(ns::SEARCH, "item"));
            let items = items.filter_map(|item| {
                let fields = item
                    .children()
                    .map(|field| (field.name().into(), field.text()));
                Some(Found {
                    jid: Jid::parse(item.attr("jid")?).ok()?,
                    fields: fields.collect(),
                })
            });
            items.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(content: &str) -> Vec<Found> {
        let xml = format!("<query xmlns='jabber:iq:search'>{content}</query>");
        found(&Element::parse(xml.as_bytes(), "").unwrap())
    }

    #[test]
    fn xep0055_results_of_both_kinds_are_read() {
        let expected = [Found {
            jid: Jid::parse("ann@a.test").unwrap(),
            fields: vec![("nick".into(), "Ann".into())],
        }];
        let plain = "<item jid='ann@a.test'><nick>Ann</nick></item><item/><item jid='@'/>";
        assert_eq!(search(plain), expected);
        let form = "<x xmlns='jabber:x:data' type='result'>\
            <reported><field var='jid'/><field var='nick'/></reported>\
            <item><field var='nick'><value>Ann</value></field>\
            <field var='jid'><value>ann@a.test</value></field></item>\
            <item><field var='nick'><value>Nobody</value></field></item></x>";
        assert_eq!(search(form), expected);
        assert!(search("").is_empty());
    }
}
