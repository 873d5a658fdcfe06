//! HTTP File Upload (XEP-0363): a place to put a file. The PUT itself is the caller's.
//!
//! A slot tells us to send headers to an address: only https, only the three headers that the XEP
//! allows, and no line breaks in them (section 9.2).

use super::{RequestError, disco, expect, get};
use crate::client::XmppClient;
use crate::error::IqError;
use std::fmt;
use std::time::SystemTime;
use xmpp_stream::error::{StanzaCondition, StanzaError};
use xmpp_stream::jid::Jid;
use xmpp_stream::ns;
use xmpp_stream::payload::delay::parse_stamp;
use xmpp_stream::xml::Element;

/// An upload service.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// Its address.
    pub jid: Jid,
    /// The largest file that it takes, in bytes, where it says so.
    pub file_size_max: Option<u64>,
}

/// A file that wants a place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File<'a> {
    /// Its name, without folders.
    pub name: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub content_type: Option<&'a str>,
}

/// A place for one file.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct Slot {
    /// Where to PUT it.
    pub put: String,
    /// Headers to send with the PUT.
    pub headers: Vec<(Header, String)>,
    /// Where others GET it.
    pub get: String,
}

/// Headers that a service may want (section 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs, reason = "each is its own name on the wire")]
pub enum Header {
    Authorization,
    Cookie,
    Expires,
}

impl Header {
    /// The name of the header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "Authorization",
            Self::Cookie => "Cookie",
            Self::Expires => "Expires",
        }
    }

    fn of(name: &str) -> Option<Self> {
        let mut all = [Self::Authorization, Self::Cookie, Self::Expires].into_iter();
        all.find(|header| header.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Debug for Slot {
    /// Without the headers' values: they let whoever has them upload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<Header> = self.headers.iter().map(|(header, _)| *header).collect();
        f.debug_struct("Slot")
            .field("put", &self.put)
            .field("headers", &headers)
            .field("get", &self.get)
            .finish()
    }
}

/// Why there is no slot.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum UploadError {
    /// The file is too large; the largest that would do, where the service says so.
    TooLarge(Option<u64>),
    /// We have uploaded too much; when to try again, where the service says so.
    Quota(Option<SystemTime>),
    /// An address of the slot is not https.
    NotHttps,
    /// The request failed.
    Request(RequestError),
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(Some(max)) => write!(f, "files may have {max} bytes"),
            Self::TooLarge(None) => f.write_str("the file is too large"),
            Self::Quota(_) => f.write_str("too much was uploaded"),
            Self::NotHttps => f.write_str("the service gave an address that is not https"),
            Self::Request(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for UploadError {}

impl From<RequestError> for UploadError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

/// The server's upload services.
///
/// # Errors
/// The server does not say what it has.
pub async fn services(client: &XmppClient) -> Result<Vec<Service>, RequestError> {
    let found = disco::services(client, ns::HTTP_UPLOAD).await?;
    let services = found.into_iter().map(|(jid, info)| {
        let form = info.form(ns::HTTP_UPLOAD);
        let max = form.and_then(|form| form.value("max-file-size")?.parse().ok());
        Service {
            jid,
            file_size_max: max,
        }
    });
    Ok(services.collect())
}

/// Asks for a place for a file.
///
/// # Errors
/// `TooLarge` and `Quota` as the service says; `NotHttps` for an answer that would have us send
/// headers in clear; else the request failed.
pub async fn slot(
    client: &XmppClient,
    service: &Jid,
    file: &File<'_>,
) -> Result<Slot, UploadError> {
    let mut request = Element::new(ns::HTTP_UPLOAD, "request")
        .with_attr("filename", file.name)
        .with_attr("size", &file.size.to_string());
    if let Some(content_type) = file.content_type {
        request.set_attr("content-type", content_type);
    }
    let answer = get(client, Some(service), &request).await;
    let answer = answer.map_err(refusal)?;
    read_slot(&expect(answer, ns::HTTP_UPLOAD, "slot")?)
}

fn read_slot(slot: &Element) -> Result<Slot, UploadError> {
    let part = |name| slot.child(ns::HTTP_UPLOAD, name);
    let put = part("put").ok_or(RequestError::Malformed("a slot without put"))?;
    let got = part("get").ok_or(RequestError::Malformed("a slot without get"))?;
    let headers = put
        .children()
        .filter(|child| child.is(ns::HTTP_UPLOAD, "header"));
    let headers = headers.filter_map(|header| {
        let name = without_line_breaks(header.attr("name")?);
        Some((Header::of(&name)?, without_line_breaks(&header.text())))
    });
    Ok(Slot {
        put: https(put)?,
        headers: headers.collect(),
        get: https(got)?,
    })
}

fn https(place: &Element) -> Result<String, UploadError> {
    let url = place
        .attr("url")
        .ok_or(RequestError::Malformed("an address is missing"))?;
    let is_https = url
        .get(..8)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    let is_clean = !url.chars().any(|c| c.is_control() || c.is_whitespace());
    match is_https && is_clean {
        true => Ok(url.to_owned()),
        false => Err(UploadError::NotHttps),
    }
}

fn without_line_breaks(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}

/// Section 6.
fn refusal(error: IqError) -> UploadError {
    match &error {
        IqError::Stanza(stanza) => {
            refused(stanza).unwrap_or_else(|| UploadError::Request(error.into()))
        }
        _ => UploadError::Request(error.into()),
    }
}

fn refused(error: &StanzaError) -> Option<UploadError> {
    let app = error.app.as_deref();
    match (error.condition, app) {
        (StanzaCondition::NotAcceptable, Some(app))
            if app.is(ns::HTTP_UPLOAD, "file-too-large") =>
        {
            let max = app.child(ns::HTTP_UPLOAD, "max-file-size");
            Some(UploadError::TooLarge(
                max.and_then(|max| max.text().trim().parse().ok()),
            ))
        }
        (StanzaCondition::ResourceConstraint, app) => {
            let retry = app.filter(|app| app.is(ns::HTTP_UPLOAD, "retry"));
            Some(UploadError::Quota(
                retry.and_then(|retry| parse_stamp(retry.attr("stamp")?)),
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot_of(put: &str, headers: &str, get: &str) -> Result<Slot, UploadError> {
        let ns = ns::HTTP_UPLOAD;
        let xml =
            format!("<slot xmlns='{ns}'><put url='{put}'>{headers}</put><get url='{get}'/></slot>");
        read_slot(&Element::parse(xml.as_bytes(), "").unwrap())
    }

    #[test]
    fn ck_11_only_three_headers_are_taken_and_none_with_line_breaks() {
        let headers = "<header name='authorization'>Basic a\r\nX-Evil: 1</header>\
                       <header name='Coo&#10;kie'>b</header><header name='Expires'>c</header>\
                       <header name='Host'>evil</header><header name='Content-Length'>0</header>\
                       <header>d</header>";
        let slot = slot_of("https://u.test/1", headers, "https://d.test/1").unwrap();
        assert_eq!(
            slot.headers,
            [
                (Header::Authorization, "Basic aX-Evil: 1".to_owned()),
                (Header::Cookie, "b".to_owned()),
                (Header::Expires, "c".to_owned()),
            ]
        );
        assert!(!format!("{slot:?}").contains("Basic"));
    }

    #[test]
    fn ck_11_only_https_is_taken() {
        let good = "HTTPS://u.test/1";
        assert!(slot_of(good, "", good).is_ok());
        for bad in [
            "http://u.test/1",
            "ftp://u.test/1",
            "https:/u.test",
            "",
            "file:///etc/passwd",
            "https://u.test/1 HTTP/1.1",
            "https://u.test/&#10;X: 1",
        ] {
            assert_eq!(slot_of(bad, "", good), Err(UploadError::NotHttps), "{bad}");
            assert_eq!(slot_of(good, "", bad), Err(UploadError::NotHttps), "{bad}");
        }
        let ns = ns::HTTP_UPLOAD;
        let empty = Element::parse(format!("<slot xmlns='{ns}'/>").as_bytes(), "").unwrap();
        assert!(matches!(read_slot(&empty), Err(UploadError::Request(_))));
    }

    #[test]
    fn xep0363_refusals_say_what_would_do() {
        let app = |xml: &str| Element::parse(xml.as_bytes(), ns::HTTP_UPLOAD).unwrap();
        let large = StanzaError::not_acceptable().with_app(app(
            "<file-too-large xmlns='urn:xmpp:http:upload:0'><max-file-size>20000</max-file-size></file-too-large>",
        ));
        assert_eq!(
            refusal(IqError::Stanza(large)),
            UploadError::TooLarge(Some(20_000))
        );
        let quota = StanzaError::resource_constraint().with_app(app(
            "<retry xmlns='urn:xmpp:http:upload:0' stamp='1970-01-01T00:00:00Z'/>",
        ));
        assert_eq!(
            refusal(IqError::Stanza(quota)),
            UploadError::Quota(Some(SystemTime::UNIX_EPOCH))
        );
        let other = IqError::Stanza(StanzaError::forbidden());
        assert_eq!(
            refusal(other.clone()),
            UploadError::Request(RequestError::Iq(other))
        );
    }
}
