//! Private XML storage (XEP-0049): elements of our own, kept by the server.

use super::XmppProtocol;
use crate::error::IqError;
use crate::ext::{self, RequestError};
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

impl XmppProtocol {
    /// Gets the element that is kept under this namespace and name; an empty one where there is none.
    ///
    /// # Errors
    /// The request failed, or the answer is another.
    pub async fn private_xml(&self, ns: &str, name: &str) -> Result<Element, RequestError> {
        let query = Element::new(ns::PRIVATE, "query").with_child(Element::new(ns, name));
        let answer = ext::get(self.client(), None, &query).await?;
        let answer = ext::expect(answer, ns::PRIVATE, "query")?;
        let found = answer.child(ns, name).cloned();
        found.ok_or(RequestError::Malformed(
            "the element asked for is not in it",
        ))
    }

    /// Keeps an element, in place of what was kept under its namespace and name.
    ///
    /// # Errors
    /// The request failed.
    pub async fn set_private_xml(&self, element: Element) -> Result<(), IqError> {
        let query = Element::new(ns::PRIVATE, "query").with_child(element);
        ext::set(self.client(), None, &query).await?;
        Ok(())
    }
}
