//! One page of a long list (XEP-0059).

use super::child_text;
use crate::ns;
use crate::xml::Element;

/// Which page is asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PageRequest {
    /// At most so many; 0: only how many there are (section 2.7).
    pub max: Option<u32>,
    /// From where in the list.
    pub from: Option<From>,
}

/// Where a page begins or ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum From {
    /// What follows this item (section 2.2).
    After(String),
    /// What stands before this item (section 2.3).
    Before(String),
    /// The last page (section 2.5).
    Last,
    /// From this place in the list on (section 2.6).
    Index(u32),
}

/// Which page came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// The first item of the page.
    pub first: Option<String>,
    /// Its place in the list, about.
    pub first_index: Option<u32>,
    /// The last item of the page.
    pub last: Option<String>,
    /// Items in the whole list, about.
    pub count: Option<u32>,
}

impl PageRequest {
    /// The first page, of at most so many.
    #[must_use]
    pub fn first(max: u32) -> Self {
        Self {
            max: Some(max),
            from: None,
        }
    }

    /// The page after an item.
    #[must_use]
    pub fn after(max: u32, item: &str) -> Self {
        Self {
            max: Some(max),
            from: Some(From::After(item.into())),
        }
    }

    /// The page before an item.
    #[must_use]
    pub fn before(max: u32, item: &str) -> Self {
        Self {
            max: Some(max),
            from: Some(From::Before(item.into())),
        }
    }

    /// The last page.
    #[must_use]
    pub fn last(max: u32) -> Self {
        Self {
            max: Some(max),
            from: Some(From::Last),
        }
    }

    /// Reads `<set/>`; `None`: it is another element, or asks for two things, or for no number.
    #[must_use]
    pub fn parse(element: &Element) -> Option<Self> {
        if !element.is(ns::RSM, "set") {
            return None;
        }
        let max = child_text(element, "max").map(|text| text.trim().parse().ok());
        let after = child_text(element, "after").map(From::After);
        let before = child_text(element, "before").map(|item| match item.is_empty() {
            true => From::Last,
            false => From::Before(item),
        });
        let index = child_text(element, "index").map(|text| text.trim().parse().ok());
        let index = match index {
            Some(index) => Some(From::Index(index?)),
            None => None,
        };
        let mut places = [after, before, index].into_iter().flatten();
        let from = places.next();
        places.next().is_none().then_some(())?;
        let max = match max {
            Some(max) => Some(max?),
            None => None,
        };
        Some(Self { max, from })
    }

    /// Writes `<set/>`.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut set = Element::new(ns::RSM, "set");
        if let Some(max) = self.max {
            set.push(text("max", &max.to_string()));
        }
        match &self.from {
            None => {}
            Some(From::After(item)) => set.push(text("after", item)),
            Some(From::Before(item)) => set.push(text("before", item)),
            Some(From::Last) => set.push(Element::new(ns::RSM, "before")),
            Some(From::Index(index)) => set.push(text("index", &index.to_string())),
        }
        set
    }
}

impl Page {
    /// Reads `<set/>`; numbers that are none are passed over.
    #[must_use]
    pub fn parse(element: &Element) -> Option<Self> {
        if !element.is(ns::RSM, "set") {
            return None;
        }
        let first = element.child(ns::RSM, "first");
        let number = |text: &str| text.trim().parse().ok();
        Some(Self {
            first: first.map(Element::text),
            first_index: first.and_then(|first| number(first.attr("index")?)),
            last: child_text(element, "last"),
            count: child_text(element, "count").and_then(|count| number(&count)),
        })
    }

    /// The page that stands in an answer.
    #[must_use]
    pub fn find(answer: &Element) -> Option<Self> {
        Self::parse(answer.child(ns::RSM, "set")?)
    }

    /// Writes `<set/>`.
    #[must_use]
    pub fn to_element(&self) -> Element {
        let mut set = Element::new(ns::RSM, "set");
        if let Some(first) = &self.first {
            let mut first = text("first", first);
            if let Some(index) = self.first_index {
                first.set_attr("index", &index.to_string());
            }
            set.push(first);
        }
        if let Some(last) = &self.last {
            set.push(text("last", last));
        }
        if let Some(count) = self.count {
            set.push(text("count", &count.to_string()));
        }
        set
    }
}

fn text(name: &str, text: &str) -> Element {
    Element::new(ns::RSM, name).with_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(content: &str) -> Element {
        let xml = format!("<set xmlns='http://jabber.org/protocol/rsm'>{content}</set>");
        Element::parse(xml.as_bytes(), "").unwrap()
    }

    #[test]
    fn requests_are_read_and_written() {
        #[track_caller]
        fn check(content: &str, expected: PageRequest) {
            assert_eq!(PageRequest::parse(&set(content)), Some(expected.clone()));
            assert_eq!(expected.to_element(), set(content));
        }
        check("", PageRequest::default());
        check("<max>0</max>", PageRequest::first(0));
        check("<max>2</max><after>a</after>", PageRequest::after(2, "a"));
        check(
            "<max>2</max><before>a</before>",
            PageRequest::before(2, "a"),
        );
        check("<max>2</max><before/>", PageRequest::last(2));
        let by_index = PageRequest {
            max: None,
            from: Some(From::Index(371)),
        };
        check("<index>371</index>", by_index);
    }

    #[test]
    fn bad_requests_are_none() {
        for content in [
            "<max>-1</max>",
            "<max>x</max>",
            "<max/>",
            "<max>99999999999</max>",
            "<index>-1</index>",
            "<after>a</after><before/>",
            "<after>a</after><index>1</index>",
        ] {
            assert_eq!(PageRequest::parse(&set(content)), None, "{content}");
        }
        assert_eq!(PageRequest::parse(&Element::new("", "set")), None);
    }

    #[test]
    fn pages_are_read_and_written() {
        let content = "<first index='10'>a</first><last>b</last><count>800</count>";
        let page = Page {
            first: Some("a".into()),
            first_index: Some(10),
            last: Some("b".into()),
            count: Some(800),
        };
        assert_eq!(Page::parse(&set(content)), Some(page.clone()));
        assert_eq!(page.to_element(), set(content));
        let answer = Element::new("urn:x", "fin").with_child(set("<count>-1</count>"));
        assert_eq!(Page::find(&answer), Some(Page::default()));
        assert_eq!(Page::find(&set("")), None);
    }
}
