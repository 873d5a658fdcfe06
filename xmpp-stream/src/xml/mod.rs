//! The XML that a stream accepts, and how it is written again (RFC 6120 section 11, DESIGN 6).
//!
//! `reader` turns bytes into frames and is the only file that knows the XML parser; `canon` is the
//! only form in which received XML leaves; `frame` is what the reader yields; `element` is a small
//! tree for whoever needs one; `writer` makes stream headers and small elements of our own.

mod assemble;
pub(crate) mod canon;
pub mod element;
pub(crate) mod frame;
mod opening;
pub mod reader;
mod scan;
pub mod writer;
pub use element::{Element, Node};
pub use frame::{Frame, Header, Refused, XmlError};
pub use reader::Reader;
