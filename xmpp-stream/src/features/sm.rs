//! Stream management (XEP-0198): what the two sides say to each other beside stanzas.
//!
//! Only the words: who counts what, and what an `h` promises, is the business of whoever holds the
//! session (in the server, DESIGN 10).

use crate::error::{StreamCondition, StreamError};
use crate::ns;
use crate::xml::Element;
use crate::xml::writer::write_element;

/// What a client says of stream management.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SmRequest {
    /// `<enable/>` (section 3).
    Enable {
        /// The client would like to resume the stream later.
        resume: bool,
        /// For how many seconds at most, if it says so.
        max: Option<u32>,
    },
    /// `<resume/>` (section 5).
    Resume {
        /// The stream to go on with.
        previd: Box<str>,
        /// Stanzas of ours that it has handled.
        h: u32,
    },
    /// `<r/>` (section 4).
    Ask,
    /// `<a/>` (section 4): stanzas of ours that it has handled.
    Ack(u32),
}

impl SmRequest {
    /// Reads an element of this namespace.
    ///
    /// # Errors
    /// `unsupported-stanza-type` for an unknown name, `bad-format` where `h` or `previd` is missing
    /// or is no number.
    pub fn of(element: &Element) -> Result<Self, StreamError> {
        let bad_format = || StreamError::new(StreamCondition::BadFormat);
        let number = |name| element.attr(name)?.trim().parse::<u32>().ok();
        match element.name() {
            "enable" => Ok(Self::Enable {
                resume: matches!(element.attr("resume").map(str::trim), Some("true" | "1")),
                max: number("max"),
            }),
            "resume" => {
                let previd = element.attr("previd").ok_or_else(bad_format)?.into();
                let h = number("h").ok_or_else(bad_format)?;
                Ok(Self::Resume { previd, h })
            }
            "r" => Ok(Self::Ask),
            "a" => Ok(Self::Ack(number("h").ok_or_else(bad_format)?)),
            _ => Err(StreamError::new(StreamCondition::UnsupportedStanzaType)),
        }
    }
}

/// What a server says of stream management in answer to a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SmAnswer {
    /// `<enabled/>` (section 3).
    Enabled {
        /// Under which id the stream can be resumed, if it can.
        id: Option<Box<str>>,
        /// Within so many seconds, if it says so.
        max: Option<u32>,
        /// Where the server would like it to be resumed.
        location: Option<Box<str>>,
    },
    /// `<resumed/>` (section 5).
    Resumed {
        /// The stream that goes on.
        previd: Box<str>,
        /// Stanzas of ours that were handled.
        h: u32,
    },
    /// `<failed/>`.
    Failed {
        /// Stanzas of ours that were handled on the stream that is gone, if that is still known.
        h: Option<u32>,
    },
}

impl SmAnswer {
    /// Reads an element of this namespace.
    ///
    /// # Errors
    /// `unsupported-stanza-type` for an unknown name, `bad-format` where `h` or `previd` of
    /// `<resumed/>` is missing or is no number.
    pub fn of(element: &Element) -> Result<Self, StreamError> {
        let bad_format = || StreamError::new(StreamCondition::BadFormat);
        let number = |name| element.attr(name)?.trim().parse::<u32>().ok();
        let text = |name| element.attr(name).filter(|text| !text.is_empty());
        match element.name() {
            "enabled" => {
                let may_resume =
                    matches!(element.attr("resume").map(str::trim), Some("true" | "1"));
                Ok(Self::Enabled {
                    id: text("id").filter(|_| may_resume).map(Into::into),
                    max: number("max"),
                    location: text("location").map(Into::into),
                })
            }
            "resumed" => Ok(Self::Resumed {
                previd: text("previd").ok_or_else(bad_format)?.into(),
                h: number("h").ok_or_else(bad_format)?,
            }),
            "failed" => Ok(Self::Failed { h: number("h") }),
            _ => Err(StreamError::new(StreamCondition::UnsupportedStanzaType)),
        }
    }
}

/// The feature, after login.
pub(crate) fn write_feature(out: &mut Vec<u8>) {
    write_element(out, ns::SM, "sm", |_| {});
}

/// `<enabled/>`: with an id, the stream may be resumed within so many seconds.
#[must_use]
pub fn enabled(resumable: Option<(&str, u64)>) -> Box<[u8]> {
    let mut enabled = Element::new(ns::SM, "enabled");
    if let Some((id, seconds)) = resumable {
        enabled.set_attr("id", id);
        enabled.set_attr("resume", "true");
        enabled.set_attr("max", &seconds.to_string());
    }
    bytes(&enabled)
}

/// `<a/>`: so many stanzas of the peer have been handled.
#[must_use]
pub fn ack(h: u32) -> Box<[u8]> {
    let mut out = Vec::new();
    write_ack(&mut out, h);
    out.into()
}

pub(crate) fn write_ack(out: &mut Vec<u8>, h: u32) {
    write(out, format_args!("<a xmlns='{}' h='{h}'/>", ns::SM));
}

/// `<r/>`: how many of ours have you handled?
pub(crate) fn write_ask(out: &mut Vec<u8>) {
    // Once for each flush of a managed session: without the machinery of formatting.
    for part in ["<r xmlns='", ns::SM, "'/>"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// `<enable/>`, to be resumed later.
pub(crate) fn write_enable(out: &mut Vec<u8>) {
    write(
        out,
        format_args!("<enable xmlns='{}' resume='true'/>", ns::SM),
    );
}

/// `<resume/>`.
pub(crate) fn write_resume(out: &mut Vec<u8>, previd: &str, h: u32) {
    let resume = Element::new(ns::SM, "resume").with_attr("h", &h.to_string());
    resume.with_attr("previd", previd).write(out, ns::CLIENT);
}

/// These come with every message: nothing is allocated for them.
fn write(out: &mut Vec<u8>, words: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    // A vector takes everything.
    let _ = out.write_fmt(words);
}

/// `<resumed/>`.
pub(crate) fn resumed(previd: &str, h: u32) -> Box<[u8]> {
    let resumed = Element::new(ns::SM, "resumed").with_attr("h", &h.to_string());
    bytes(&resumed.with_attr("previd", previd))
}

/// `<failed/>` with a stanza error condition; `h` where the ended stream is still known.
pub(crate) fn failed(condition: &str, h: Option<u32>) -> Box<[u8]> {
    let mut failed =
        Element::new(ns::SM, "failed").with_child(Element::new(ns::STANZAS, condition));
    if let Some(h) = h {
        failed.set_attr("h", &h.to_string());
    }
    bytes(&failed)
}

/// The peer acknowledged more than was sent (section 6).
#[must_use]
pub fn too_high(h: u32, sent: u32) -> StreamError {
    let app = Element::new(ns::SM, "handled-count-too-high")
        .with_attr("h", &h.to_string())
        .with_attr("send-count", &sent.to_string());
    StreamError::new(StreamCondition::UndefinedCondition).with_app(app)
}

fn bytes(element: &Element) -> Box<[u8]> {
    let mut out = Vec::new();
    element.write(&mut out, ns::CLIENT);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, attrs: &[(&str, &str)]) -> Result<SmRequest, StreamCondition> {
        let mut element = Element::new(ns::SM, name);
        for (name, value) in attrs {
            element.set_attr(name, value);
        }
        SmRequest::of(&element).map_err(|error| error.condition)
    }

    #[test]
    fn im_sm_04_requests_are_read() {
        let enable = |resume, max| Ok(SmRequest::Enable { resume, max });
        assert_eq!(read("enable", &[]), enable(false, None));
        assert_eq!(read("enable", &[("resume", "true")]), enable(true, None));
        assert_eq!(
            read("enable", &[("resume", "1"), ("max", "60")]),
            enable(true, Some(60))
        );
        assert_eq!(
            read("enable", &[("resume", "yes"), ("max", "x")]),
            enable(false, None)
        );
        assert_eq!(read("r", &[]), Ok(SmRequest::Ask));
        assert_eq!(
            read("a", &[("h", "4294967295")]),
            Ok(SmRequest::Ack(u32::MAX))
        );
        let resume = SmRequest::Resume {
            previd: "x".into(),
            h: 7,
        };
        assert_eq!(read("resume", &[("previd", "x"), ("h", "7")]), Ok(resume));
    }

    #[test]
    fn im_sm_04_what_is_no_request_ends_the_stream() {
        let bad = Err(StreamCondition::BadFormat);
        for (name, attrs) in [
            ("a", &[][..]),
            ("a", &[("h", "-1")]),
            ("a", &[("h", "4294967296")]),
            ("resume", &[("h", "1")]),
            ("resume", &[("previd", "x")]),
        ] {
            assert_eq!(read(name, attrs), bad, "{name} {attrs:?}");
        }
        assert_eq!(read("q", &[]), Err(StreamCondition::UnsupportedStanzaType));
    }

    #[test]
    fn answers_are_written_as_the_specification_has_them() {
        let text = |bytes: Box<[u8]>| String::from_utf8(bytes.into()).unwrap();
        assert_eq!(text(ack(3)), "<a xmlns='urn:xmpp:sm:3' h='3'/>");
        let mut asked = Vec::new();
        write_ask(&mut asked);
        assert_eq!(text(asked.into()), "<r xmlns='urn:xmpp:sm:3'/>");
        assert_eq!(text(enabled(None)), "<enabled xmlns='urn:xmpp:sm:3'/>");
        let enabled = text(enabled(Some(("a b", 300))));
        assert!(
            enabled.contains("id='a b'") && enabled.contains("max='300'"),
            "{enabled}"
        );
        let failed = text(failed("item-not-found", Some(5)));
        assert!(failed.contains("h='5'") && failed.contains("<item-not-found xmlns='urn:ietf"));
        assert!(too_high(9, 4).to_xml().contains("send-count='4'"));
    }
}
