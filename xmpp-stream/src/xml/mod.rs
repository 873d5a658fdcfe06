//! The XML that a stream accepts, and how it is written again.
pub(crate) mod canon;
pub mod element;
pub mod reader;
pub use element::{Element, Node};
pub use reader::{Frame, Header, Reader, Refused, XmlError};
