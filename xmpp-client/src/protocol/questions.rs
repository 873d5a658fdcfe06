//! What a service asks for before it registers or searches: plain fields, or a data form.
//!
//! XEP-0055 and XEP-0077: the form, where there is one, goes before the plain fields. Both are filled
//! in here by name.

use std::fmt;
use xmpp_stream::ns;
use xmpp_stream::payload::forms::Form;
use xmpp_stream::xml::Element;

/// What is asked for, to be filled in with `set`. Shows no values: passwords are among them.
#[derive(Clone, PartialEq)]
pub struct Questions {
    ns: &'static str,
    /// For people.
    pub instructions: Option<String>,
    /// We are registered there already; the fields show what is on file (XEP-0077 section 3.1).
    pub is_registered: bool,
    /// A page where it can be done too (XEP-0066).
    pub url: Option<String>,
    /// The form, where there is one: any fields that the service likes, with labels and choices.
    pub form: Option<Form>,
    fields: Vec<(String, String)>,
}

impl Questions {
    /// Reads what a service asks for; `ns` is that of its protocol.
    pub(crate) fn parse(ns: &'static str, query: &Element) -> Option<Self> {
        if !query.is(ns, "query") {
            return None;
        }
        let of_protocol = || query.children().filter(|child| child.ns() == ns);
        let text = |name| {
            of_protocol()
                .find(|child| child.name() == name)
                .map(Element::text)
        };
        let is_field = |child: &&Element| !matches!(child.name(), "instructions" | "registered");
        let fields = of_protocol().filter(is_field);
        let url = query
            .child(ns::OOB, "x")
            .and_then(|oob| oob.child(ns::OOB, "url"));
        Some(Self {
            ns,
            instructions: text("instructions"),
            is_registered: text("registered").is_some(),
            url: url.map(Element::text),
            form: Form::find(query),
            fields: fields
                .map(|field| (field.name().into(), field.text()))
                .collect(),
        })
    }

    /// Names of what may be filled in.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match &self.form {
            Some(form) => form
                .fields
                .iter()
                .filter_map(|field| field.var.as_deref())
                .collect(),
            None => self.fields.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }

    /// What stands in a field.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        match &self.form {
            Some(form) => form.value(name),
            None => {
                let mut fields = self.fields.iter();
                fields
                    .find(|(other, _)| other == name)
                    .map(|(_, value)| value.as_str())
            }
        }
    }

    /// Fills in a field; false: it is not asked for, and stays out.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        if let Some(form) = &mut self.form {
            let is_asked = form.field(name).is_some();
            if is_asked {
                form.set(name, value);
            }
            return is_asked;
        }
        match self.fields.iter_mut().find(|(other, _)| other == name) {
            Some((_, field)) => {
                *field = value.into();
                true
            }
            None => false,
        }
    }

    /// Names of what must be filled in and is not. Of plain fields all must be (XEP-0077 section
    /// 3.1), where it is about registration.
    #[must_use]
    pub fn missing(&self) -> Vec<&str> {
        match &self.form {
            Some(form) => form.missing().collect(),
            None if self.ns == ns::REGISTER => {
                // `key` is the service's own and goes back as it came.
                let empty = self
                    .fields
                    .iter()
                    .filter(|(name, value)| value.is_empty() && name != "key");
                empty.map(|(name, _)| name.as_str()).collect()
            }
            None => Vec::new(),
        }
    }

    /// The answer: a form as a form; of plain fields those that are filled in.
    pub(crate) fn to_answer(&self) -> Element {
        let mut query = Element::new(self.ns, "query");
        match &self.form {
            Some(form) => query.push(form.answer().to_element()),
            None => {
                let filled = self.fields.iter().filter(|(_, value)| !value.is_empty());
                for (name, value) in filled {
                    query.push(Element::new(self.ns, name).with_text(value));
                }
            }
        }
        query
    }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions")
            .field("names", &self.names())
            .field("is_registered", &self.is_registered)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(content: &str) -> Questions {
        let xml = format!("<query xmlns='jabber:iq:register'>{content}</query>");
        let query = Element::parse(xml.as_bytes(), "").unwrap();
        Questions::parse(ns::REGISTER, &query).unwrap()
    }

    #[test]
    fn xep0077_plain_fields_are_filled_in_by_name() {
        let mut asked = questions(
            "<registered/><instructions>Choose</instructions><username/><password/>\
             <key>k</key><x xmlns='jabber:x:oob'><url>urn:u</url></x>",
        );
        assert_eq!(asked.instructions.as_deref(), Some("Choose"));
        assert_eq!(asked.url.as_deref(), Some("urn:u"));
        assert!(asked.is_registered);
        assert_eq!(asked.names(), ["username", "password", "key"]);
        assert!(asked.set("username", "ann") && !asked.set("email", "a@b"));
        assert_eq!(asked.missing(), ["password"]);
        assert_eq!(asked.value("username"), Some("ann"));
        let answer =
            "<query xmlns='jabber:iq:register'><username>ann</username><key>k</key></query>";
        assert_eq!(asked.to_answer().to_xml(""), answer);
    }

    #[test]
    fn xep0077_a_form_goes_before_plain_fields() {
        let mut asked = questions(
            "<username/><x xmlns='jabber:x:data' type='form'>\
             <field var='FORM_TYPE' type='hidden'><value>jabber:iq:register</value></field>\
             <field var='username' type='text-single'><required/></field>\
             <field var='x-colour' type='list-single'><option><value>red</value></option></field></x>",
        );
        assert_eq!(asked.missing(), ["username"]);
        assert!(asked.set("username", "ann") && !asked.set("password", "p"));
        let answer = asked.to_answer();
        let form = Form::find(&answer).unwrap();
        assert_eq!(answer.children().count(), 1);
        assert_eq!(form.form_type(), Some(ns::REGISTER));
        assert_eq!(form.value("username"), Some("ann"));
    }

    #[test]
    fn values_are_not_shown() {
        let mut asked = questions("<username/><password/>");
        asked.set("password", "secret");
        assert!(!format!("{asked:?}").contains("secret"));
        let other = Element::new(ns::SEARCH, "query");
        assert!(Questions::parse(ns::REGISTER, &other).is_none());
    }
}
