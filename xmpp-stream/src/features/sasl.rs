//! SASL as a stream feature (RFC 6120 section 6): what is offered, its elements, why it fails.
//!
//! The mechanisms stand in external.rs, scram.rs and plain.rs; channel-binding types are announced by
//! XEP-0440.

use super::{external, scram};
use crate::error::SaslCondition;
use crate::ns;
use crate::stream::{HostView, ScramHash, TlsInfo};
use crate::xml::Element;
use crate::xml::writer::{write_attr, write_child, write_element};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// tls-exporter (RFC 9266): bound to the connection.
pub(crate) const EXPORTER: &str = "tls-exporter";
/// tls-server-end-point (RFC 5929 section 4): bound to the certificate.
pub(crate) const END_POINT: &str = "tls-server-end-point";

/// A mechanism that we have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mechanism {
    /// The certificate of TLS is the proof.
    External,
    /// SCRAM; `plus`: with channel binding.
    Scram {
        hash: ScramHash,
        plus: bool,
    },
    Plain,
}

impl Mechanism {
    /// All of them, in the order in which they are preferred (RFC 6120 sections 6.3.4 and 13.8.3).
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let scram = |plus| ScramHash::ALL.map(move |hash| Self::Scram { hash, plus });
        [Self::External]
            .into_iter()
            .chain(scram(true))
            .chain(scram(false))
            .chain([Self::Plain])
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::External => external::NAME,
            Self::Scram { hash, plus } => hash.mechanism(plus),
            Self::Plain => "PLAIN",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::all().find(|mechanism| mechanism.name() == name)
    }
}

/// Channel-binding data of one TLS connection by type, strongest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings(Vec<(&'static str, Box<[u8]>)>);

impl Bindings {
    pub(crate) fn of(tls: Option<&TlsInfo>) -> Self {
        let exporter = tls.and_then(|tls| tls.exporter.map(|data| (EXPORTER, Box::from(data))));
        let end_point = tls.and_then(|tls| tls.server_end_point.clone());
        Self(
            exporter
                .into_iter()
                .chain(end_point.map(|data| (END_POINT, data)))
                .collect(),
        )
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }

    /// The type as our own constant, when we have data of it.
    pub(crate) fn known(&self, name: &str) -> Option<&'static str> {
        self.0
            .iter()
            .map(|(known, _)| *known)
            .find(|known| *known == name)
    }

    pub(crate) fn data(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, data)| &**data)
    }
}

/// What is offered on one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    pub(crate) mechanisms: Vec<Mechanism>,
    pub(crate) bindings: Bindings,
}

impl Offer {
    /// What a host offers; in clear SCRAM alone (row sa-02), and EXTERNAL where a usable certificate
    /// was shown (row sa-03).
    pub(crate) fn of(host: &HostView, tls: Option<&TlsInfo>, external: bool) -> Self {
        let bindings = Bindings::of(tls);
        let mechanisms = Mechanism::all().filter(|mechanism| match mechanism {
            Mechanism::External => external,
            Mechanism::Scram { hash, plus } => {
                host.hashes.contains(hash) && (!plus || !bindings.is_empty())
            }
            Mechanism::Plain => host.plain && tls.is_some(),
        });
        Self {
            mechanisms: mechanisms.collect(),
            bindings,
        }
    }

    pub(crate) fn has_plus(&self) -> bool {
        self.mechanisms
            .iter()
            .any(|offered| matches!(offered, Mechanism::Scram { plus: true, .. }))
    }

    /// The `h` of XEP-0474 for an exchange on this stream.
    pub(crate) fn announcement_hash(&self, hash: ScramHash) -> String {
        let mechanisms: Vec<_> = self
            .mechanisms
            .iter()
            .map(|offered| offered.name())
            .collect();
        let bindings = self.announces_bindings().then(|| self.bindings.names());
        scram::announcement_hash(hash, &mechanisms, bindings.as_deref())
    }

    /// The features `mechanisms` and, where there is something to bind to, `sasl-channel-binding`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if self.mechanisms.is_empty() {
            return;
        }
        write_element(out, ns::SASL, "mechanisms", |out| {
            for offered in &self.mechanisms {
                write_child(out, "mechanism", offered.name());
            }
        });
        if self.announces_bindings() {
            write_element(out, ns::SASL_CB, "sasl-channel-binding", |out| {
                for name in self.bindings.names() {
                    out.extend_from_slice(b"<channel-binding");
                    write_attr(out, "type", Some(name));
                    out.extend_from_slice(b"/>");
                }
            });
        }
    }

    fn announces_bindings(&self) -> bool {
        self.has_plus()
    }
}

/// Why a login attempt failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) condition: SaslCondition,
    /// For the log.
    pub(crate) reason: &'static str,
    /// Counts as a wrong password, not as a refusal of form.
    pub(crate) wrong_password: bool,
}

impl Refusal {
    /// Fails for its form, whatever the password is.
    pub(crate) const fn form(condition: SaslCondition, reason: &'static str) -> Self {
        Self {
            condition,
            reason,
            wrong_password: false,
        }
    }

    pub(crate) const fn malformed(reason: &'static str) -> Self {
        Self::form(SaslCondition::MalformedRequest, reason)
    }

    /// RFC 6120 has no condition for channel binding: "wrong credentials, or unspecified".
    pub(crate) const fn binding(reason: &'static str) -> Self {
        Self::form(SaslCondition::NotAuthorized, reason)
    }

    pub(crate) const fn unavailable(reason: &'static str) -> Self {
        Self::form(SaslCondition::TemporaryAuthFailure, reason)
    }

    /// The password was right, but the account may not sign in.
    pub(crate) const fn disabled() -> Self {
        Self {
            condition: SaslCondition::AccountDisabled,
            reason: "account disabled",
            wrong_password: true,
        }
    }

    /// One was shown, and it is not good, or names no address of the domain (row ce-11).
    pub(crate) const fn no_certificate() -> Self {
        Self::form(
            SaslCondition::NotAuthorized,
            "the certificate is of no use here",
        )
    }

    /// Who signs in has proven to be somebody, but nobody of ours.
    pub(crate) const fn no_account() -> Self {
        Self {
            condition: SaslCondition::NotAuthorized,
            reason: "the certificate's address is no account",
            wrong_password: true,
        }
    }

    pub(crate) const fn wrong_password() -> Self {
        Self {
            condition: SaslCondition::NotAuthorized,
            reason: "wrong password or unknown account",
            wrong_password: true,
        }
    }
}

/// Data of an element: `None` when there is none, `=` stands for empty data (RFC 6120 section 6.4.2).
pub(crate) fn decode(text: &str) -> Result<Option<Vec<u8>>, Refusal> {
    match text {
        "" => Ok(None),
        "=" => Ok(Some(Vec::new())),
        _ => match unbase64(text) {
            Some(data) => Ok(Some(data)),
            None => Err(Refusal::form(SaslCondition::IncorrectEncoding, "base64")),
        },
    }
}

pub(crate) fn base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

/// Strict: no foreign characters, canonical padding, no bits set in it (RFC 6120 section 13.9.1).
pub(crate) fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// `<auth/>` with an initial response.
pub(crate) fn write_auth(out: &mut Vec<u8>, mechanism: Mechanism, data: &[u8]) {
    let text = if data.is_empty() {
        "=".to_owned()
    } else {
        base64(data)
    };
    let auth = Element::new(ns::SASL, "auth").with_attr("mechanism", mechanism.name());
    auth.with_text(&text).write(out, ns::CLIENT);
}

/// `<challenge/>`, `<response/>` or `<success/>`; no data: an empty element.
pub(crate) fn write_step(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    write_element(out, ns::SASL, name, |out| {
        out.extend_from_slice(base64(data).as_bytes());
    });
}

/// `<failure/>`.
pub(crate) fn write_failure(out: &mut Vec<u8>, condition: SaslCondition) {
    let condition = Element::new(ns::SASL, condition.as_str());
    Element::new(ns::SASL, "failure")
        .with_child(condition)
        .write(out, ns::CLIENT);
}

/// The condition of a `<failure/>`; an unknown one means not-authorized (RFC 6120 section 6.5).
pub(crate) fn failure_condition(failure: &Element) -> SaslCondition {
    failure
        .children()
        .filter(|child| child.ns() == ns::SASL)
        .find_map(|child| SaslCondition::from_wire(child.name()))
        .unwrap_or(SaslCondition::NotAuthorized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6120_sa_05_base64_is_strict() {
        for text in [
            "a=b", "YQ", "YQ=", "YR==", "YQ== ", " YQ==", "Y\nQ==", "YQ===", "=YQ=", "==", "-_==",
        ] {
            let refused = decode(text).map_err(|refusal| refusal.condition);
            assert_eq!(refused, Err(SaslCondition::IncorrectEncoding), "{text:?}");
        }
        assert_eq!(decode("YQ=="), Ok(Some(b"a".to_vec())));
        assert_eq!(decode("YWI="), Ok(Some(b"ab".to_vec())));
    }

    #[test]
    fn c6120_sa_07_a_single_equals_sign_is_empty_data() {
        assert_eq!(decode("="), Ok(Some(Vec::new())));
        assert_eq!(decode(""), Ok(None));
    }

    #[test]
    fn mechanisms_are_ordered_and_named() {
        let names: Vec<_> = Mechanism::all().map(Mechanism::name).collect();
        assert_eq!(names.first(), Some(&"EXTERNAL"));
        assert_eq!(names.get(1), Some(&"SCRAM-SHA-512-PLUS"));
        assert_eq!(names.last(), Some(&"PLAIN"));
        assert!(names.iter().all(|name| Mechanism::of(name).is_some()));
        assert_eq!(Mechanism::of("scram-sha-1"), None);
        assert_eq!(Mechanism::of("DIGEST-MD5"), None);
    }
}
