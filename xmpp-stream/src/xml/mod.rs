//! The XML that a stream accepts, and how it is written again.
pub mod element;
pub mod reader;
pub use element::Element;
pub use reader::{Frame, Header, Reader, Refused, XmlError};
