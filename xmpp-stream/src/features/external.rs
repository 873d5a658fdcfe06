//! SASL EXTERNAL between servers (XEP-0178 section 3): the certificate of TLS is the proof, and the
//! only words are a domain.

use super::sasl;
use crate::ns;
use crate::xml::Element;

/// The mechanism's name.
pub(crate) const NAME: &str = "EXTERNAL";

/// The feature.
pub(crate) fn write_feature(out: &mut Vec<u8>) {
    let mechanism = Element::new(ns::SASL, "mechanism").with_text(NAME);
    Element::new(ns::SASL, "mechanisms")
        .with_child(mechanism)
        .write(out, ns::STREAMS);
}

/// `<auth/>`. The domain is written, though the header has it: older peers ask for it (row ce-12).
pub(crate) fn write_auth(out: &mut Vec<u8>, domain: &str) {
    let auth = Element::new(ns::SASL, "auth").with_attr("mechanism", NAME);
    auth.with_text(&sasl::base64(domain.as_bytes()))
        .write(out, ns::SERVER);
}

/// `<response/>` to an empty challenge, of a peer that takes no initial response.
pub(crate) fn write_response(out: &mut Vec<u8>, domain: &str) {
    sasl::write_step(out, "response", domain.as_bytes());
}
