//! Payload types that more than one package needs; a type moves here with its second user.
//!
//! Plain values with `parse`, from the element that a peer sent, and `to_element`. What lacks a part
//! that it cannot be without is no value; what a newer version of a specification adds is passed
//! over. Elements are bounded by the reader (`XmlLimits`), so these are too.

pub mod caps;
pub mod delay;
pub mod disco;
pub mod forms;
pub mod forward;
pub mod rsm;

use crate::xml::Element;

/// Text of a child in the namespace of its parent; `None` when there is no such child.
fn child_text(parent: &Element, name: &str) -> Option<String> {
    parent.child(parent.ns(), name).map(Element::text)
}
