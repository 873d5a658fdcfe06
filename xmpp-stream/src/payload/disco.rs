//! What an entity is and can do, and what belongs to it (XEP-0030; forms by XEP-0128).

use super::forms::Form;
use crate::jid::Jid;
use crate::ns;
use crate::xml::Element;

/// The answer to disco#info.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    /// The node that was asked for.
    pub node: Option<String>,
    /// What it is.
    pub identities: Vec<Identity>,
    /// What it can do: namespaces, mostly.
    pub features: Vec<String>,
    /// Facts about it (XEP-0128).
    pub forms: Vec<Form>,
}

/// What an entity is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// The kind, such as `client`.
    pub category: String,
    /// The kind within the kind, such as `pc`.
    pub ty: String,
    /// Its name, for people.
    pub name: Option<String>,
    /// The language of the name.
    pub lang: Option<String>,
}

/// The answer to disco#items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Items {
    /// The node that was asked for.
    pub node: Option<String>,
    /// What belongs to it.
    pub items: Vec<Item>,
}

/// Something that belongs to an entity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its address.
    pub jid: Jid,
    /// Its node there.
    pub node: Option<String>,
    /// Its name, for people.
    pub name: Option<String>,
}

impl Identity {
    /// An identity without a name.
    #[must_use]
    pub fn new(category: &str, ty: &str) -> Self {
        Self {
            category: category.into(),
            ty: ty.into(),
            ..Self::default()
        }
    }
}

impl Info {
    /// True when this feature is among its features.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|var| var == feature)
    }

    /// True when it is this.
    #[must_use]
    pub fn is(&self, category: &str, ty: &str) -> bool {
        let mut identities = self.identities.iter();
        identities.any(|identity| identity.category == category && identity.ty == ty)
    }

    /// The form of this type.
    #[must_use]
    pub fn form(&self, form_type: &str) -> Option<&Form> {
        let mut forms = self.forms.iter();
        forms.find(|form| form.form_type() == Some(form_type))
    }

    /// Reads an answer; parts without what they must have are passed over.
    #[must_use]
    pub fn parse(query: &Element) -> Option<Self> {
        if !query.is(ns::DISCO_INFO, "query") {
            return None;
        }
        let mut info = Self {
            node: query.attr("node").map(Into::into),
            ..Self::default()
        };
        for child in query.children() {
            match (child.ns(), child.name()) {
                (ns::DISCO_INFO, "identity") => info.identities.extend(identity(child)),
                (ns::DISCO_INFO, "feature") => {
                    info.features.extend(child.attr("var").map(Into::into));
                }
                (ns::DATA_FORMS, "x") => info.forms.extend(Form::parse(child)),
                _ => {}
            }
        }
        Some(info)
    }

    /// Writes an answer.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut query = query(ns::DISCO_INFO, self.node.as_deref());
        for identity in &self.identities {
            let mut element = Element::new(ns::DISCO_INFO, "identity")
                .with_attr("category", &identity.category)
                .with_attr("type", &identity.ty);
            if let Some(name) = &identity.name {
                element.set_attr("name", name);
            }
            if let Some(lang) = &identity.lang {
                element.set_attr_ns(ns::XML, "lang", lang);
            }
            query.push(element);
        }
        for feature in &self.features {
            query.push(Element::new(ns::DISCO_INFO, "feature").with_attr("var", feature));
        }
        for form in &self.forms {
            query.push(form.to_element());
        }
        query
    }
}

fn identity(element: &Element) -> Option<Identity> {
    Some(Identity {
        category: element.attr("category")?.into(),
        ty: element.attr("type")?.into(),
        name: element.attr("name").map(Into::into),
        lang: element.attr_ns(ns::XML, "lang").map(Into::into),
    })
}

impl Items {
    /// Reads an answer; items without an address are passed over.
    #[must_use]
    pub fn parse(query: &Element) -> Option<Self> {
        if !query.is(ns::DISCO_ITEMS, "query") {
            return None;
        }
        let items = query
            .children()
            .filter(|item| item.is(ns::DISCO_ITEMS, "item"));
        let items = items.filter_map(|item| {
            Some(Item {
                jid: Jid::parse(item.attr("jid")?).ok()?,
                node: item.attr("node").map(Into::into),
                name: item.attr("name").map(Into::into),
            })
        });
        Some(Self {
            node: query.attr("node").map(Into::into),
            items: items.collect(),
        })
    }

    /// Writes an answer.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut query = query(ns::DISCO_ITEMS, self.node.as_deref());
        for item in &self.items {
            let mut element =
                Element::new(ns::DISCO_ITEMS, "item").with_attr("jid", item.jid.as_str());
            if let Some(node) = &item.node {
                element.set_attr("node", node);
            }
            if let Some(name) = &item.name {
                element.set_attr("name", name);
            }
            query.push(element);
        }
        query
    }
}

/// A question, or the frame of an answer.
#[must_use]
pub fn query(ns: &str, node: Option<&str>) -> Element {
    let query = Element::new(ns, "query");
    match node {
        Some(node) => query.with_attr("node", node),
        None => query,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(xml: &str) -> Element {
        Element::parse(xml.as_bytes(), "").unwrap()
    }

    #[test]
    fn info_is_read_and_written() {
        let element = element(
            "<query xmlns='http://jabber.org/protocol/disco#info' node='n'>\
             <identity category='client' type='pc' name='X' xml:lang='en'/>\
             <feature var='urn:xmpp:ping'/>\
             <x xmlns='jabber:x:data' type='result'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:x</value></field>\
             <field var='a'><value>1</value></field></x></query>",
        );
        let info = Info::parse(&element).unwrap();
        assert!(info.has(ns::PING) && !info.has(ns::TIME));
        assert!(info.is("client", "pc") && !info.is("client", "web"));
        let form = info.form("urn:x").unwrap();
        assert_eq!(form.value("a"), Some("1"));
        assert!(info.form("urn:y").is_none());
        assert_eq!(info.to_element(), element);
    }

    #[test]
    fn parts_that_lack_something_are_passed_over() {
        let info = Info::parse(&element(
            "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client'/>\
             <feature/><feature xmlns='urn:x' var='a'/><x xmlns='jabber:x:data'/><y/></query>",
        ));
        assert_eq!(info, Some(Info::default()));
        let items = Items::parse(&element(
            "<query xmlns='http://jabber.org/protocol/disco#items'><item/><item jid='@'/></query>",
        ));
        assert_eq!(items, Some(Items::default()));
        assert!(Info::parse(&query(ns::DISCO_ITEMS, None)).is_none());
        assert!(Items::parse(&query(ns::DISCO_INFO, None)).is_none());
    }

    #[test]
    fn items_are_read_and_written() {
        let element = element(
            "<query xmlns='http://jabber.org/protocol/disco#items'>\
             <item jid='rooms.a.test' name='Rooms'/><item jid='a.test' node='n'/></query>",
        );
        let items = Items::parse(&element).unwrap();
        assert_eq!(items.items.len(), 2);
        assert_eq!(items.to_element(), element);
    }
}
