//! The opening tag of a stream (RFC 6120 sections 4.7 and 4.8), judged.

use crate::error::StreamCondition;
use crate::jid::Jid;
use crate::ns;
use crate::xml::Header;

/// What a peer speaks, compared with our 1.0 (RFC 6120 section 4.7.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Version {
    /// None said, which means 0.9, or 0.x.
    Old,
    /// 1.x.
    One,
    /// A major version that we do not know.
    Newer,
}

impl Version {
    /// Major and minor are numbers: 1.10 is above 1.9, and 01.0 is 1.0.
    pub(super) fn of(version: Option<&str>) -> Self {
        let Some(version) = version else {
            return Self::Old;
        };
        let (major, minor) = version
            .trim()
            .split_once('.')
            .unwrap_or_else(|| (version.trim(), "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(major) || !is_number(minor) {
            return Self::Newer;
        }
        match major.trim_start_matches('0') {
            "" => Self::Old,
            "1" => Self::One,
            _ => Self::Newer,
        }
    }
}

/// Judges root element and namespaces (rows xml-namespace-*).
pub(super) fn check(header: &Header, content_ns: &str) -> Result<(), StreamCondition> {
    if header.root_ns != ns::STREAMS {
        return Err(StreamCondition::InvalidNamespace);
    }
    if header.root_name != "stream" {
        return Err(StreamCondition::BadFormat);
    }
    match header.content_ns.as_deref() {
        // Without a prefix on the root, its own namespace is the default one (section 4.8.1).
        Some(ns::STREAMS) if !header.root_prefixed => Ok(()),
        None => Ok(()),
        Some(declared) if declared == content_ns => Ok(()),
        Some(_) => Err(StreamCondition::InvalidNamespace),
    }
}

/// The language of our own texts: English is all we have (RFC 6120 section 4.7.4).
pub(super) const LANG: &str = "en";

/// The domain that a header's `to` names, prepared.
pub(super) fn domain(to: &str) -> Option<Jid> {
    Jid::parse(to)
        .ok()
        .filter(|jid| jid.local().is_none() && jid.is_bare())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6120_st_12_versions_are_numbers() {
        let cases = [
            (None, Version::Old),
            (Some("0.9"), Version::Old),
            (Some("00.1"), Version::Old),
            (Some("1.0"), Version::One),
            (Some("01.0"), Version::One),
            (Some("1.10"), Version::One),
            (Some("1"), Version::One),
            (Some("2.0"), Version::Newer),
            (Some("11.0"), Version::Newer),
            (Some("10.0"), Version::Newer),
            (Some("99999999999999999999.0"), Version::Newer),
            (Some("one"), Version::Newer),
            (Some("1."), Version::Newer),
            (Some(""), Version::Newer),
        ];
        for (text, version) in cases {
            assert_eq!(Version::of(text), version, "{text:?}");
        }
    }

    fn header(root_ns: &str, root_name: &str, prefixed: bool, content: Option<&str>) -> Header {
        Header {
            root_ns: root_ns.to_owned(),
            root_name: root_name.to_owned(),
            root_prefixed: prefixed,
            content_ns: content.map(str::to_owned),
            ..Header::default()
        }
    }

    #[test]
    fn c6120_xml_namespace_rules() {
        use StreamCondition::{BadFormat, InvalidNamespace};
        let cases = [
            (
                header(ns::STREAMS, "stream", true, Some(ns::CLIENT)),
                Ok(()),
            ),
            (header(ns::STREAMS, "stream", true, None), Ok(())),
            (
                header(ns::STREAMS, "stream", false, Some(ns::STREAMS)),
                Ok(()),
            ),
            (
                header(ns::STREAMS, "stream", true, Some(ns::SERVER)),
                Err(InvalidNamespace),
            ),
            (
                header(ns::STREAMS, "stream", true, Some("")),
                Err(InvalidNamespace),
            ),
            (
                header("urn:x", "stream", true, Some(ns::CLIENT)),
                Err(InvalidNamespace),
            ),
            (header("", "stream", false, None), Err(InvalidNamespace)),
            (
                header(ns::STREAMS, "flood", true, Some(ns::CLIENT)),
                Err(BadFormat),
            ),
        ];
        for (header, expected) in cases {
            assert_eq!(check(&header, ns::CLIENT), expected, "{header:?}");
        }
    }
}
