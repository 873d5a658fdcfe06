//! SASL EXTERNAL (XEP-0178): the certificate of TLS is the proof. The only words are whom the peer wants
//! to be: a domain of a server, an account of a client, which may also say nothing.

use super::sasl::{self, Refusal};
use crate::ns;
use crate::xml::Element;

/// The mechanism's name.
pub(crate) const NAME: &str = "EXTERNAL";

/// The feature between servers.
pub(crate) fn write_feature(out: &mut Vec<u8>) {
    let mechanism = Element::new(ns::SASL, "mechanism").with_text(NAME);
    Element::new(ns::SASL, "mechanisms")
        .with_child(mechanism)
        .write(out, ns::STREAMS);
}

/// `<auth/>` between servers. The domain is written, though the header has it: older peers ask for it (row ce-12).
pub(crate) fn write_auth(out: &mut Vec<u8>, domain: &str) {
    let auth = Element::new(ns::SASL, "auth").with_attr("mechanism", NAME);
    auth.with_text(&sasl::base64(domain.as_bytes()))
        .write(out, ns::SERVER);
}

/// `<response/>` to an empty challenge, of a peer that takes no initial response.
pub(crate) fn write_response(out: &mut Vec<u8>, domain: &str) {
    sasl::write_step(out, "response", domain.as_bytes());
}

/// The account that a client names, if it names one.
pub(crate) fn parse(data: &[u8]) -> Result<Option<&str>, Refusal> {
    let text = std::str::from_utf8(data).map_err(|_| Refusal::malformed("not UTF-8"))?;
    match text.contains('\0') {
        true => Err(Refusal::malformed("a NUL in the authzid")),
        false => Ok(Some(text).filter(|text| !text.is_empty())),
    }
}
