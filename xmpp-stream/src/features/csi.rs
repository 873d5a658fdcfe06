//! Client state indication (XEP-0352): whether a person looks at the client.

use crate::ns;
use crate::xml::Element;

/// `<active/>` or `<inactive/>`.
pub(crate) fn write(out: &mut Vec<u8>, active: bool) {
    let name = if active { "active" } else { "inactive" };
    Element::new(ns::CSI, name).write(out, ns::CLIENT);
}
