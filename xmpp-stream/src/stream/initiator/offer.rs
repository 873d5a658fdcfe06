//! What a server offers for signing in, and what we take of it (RFC 6120 section 6.3.3).

use super::Failure;
use crate::features::sasl::{Bindings, Mechanism};
use crate::features::scram::{self, Flag};
use crate::ns;
use crate::stream::ScramHash;
use crate::xml::Element;

/// How well a way to sign in protects the password, weakest first. Remembered for an account, it
/// shows when somebody on the way takes the better ones out of the offer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Strength {
    /// The server is told the password.
    #[default]
    Plain,
    /// SCRAM: it is not, and the server proves that it knows it.
    Scram,
    /// Bound to the TLS connection, as SCRAM can be and a certificate is: nobody in between can pass it
    /// on.
    Bound,
}

impl Strength {
    /// What an account that has used this mechanism must not sign in below; `None`: not one of ours.
    /// Who has used a certificate may come back with a password, but shows it to nobody (XEP-0474
    /// section 7).
    #[must_use]
    pub fn of(mechanism: &str) -> Option<Self> {
        match Mechanism::of(mechanism)? {
            Mechanism::External => Some(Self::Scram),
            other => Some(other.into()),
        }
    }
}

impl From<Mechanism> for Strength {
    fn from(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::External | Mechanism::Scram { plus: true, .. } => Self::Bound,
            Mechanism::Scram { plus: false, .. } => Self::Scram,
            Mechanism::Plain => Self::Plain,
        }
    }
}

/// What we can sign in with.
pub(super) struct Means<'a> {
    /// TLS has shown one, if the server asked for it.
    pub(super) certificate: bool,
    pub(super) password: bool,
    /// The server may be told it.
    pub(super) plain: bool,
    pub(super) bindings: &'a Bindings,
}

/// What a server's features say about signing in.
pub(super) struct Announced {
    mechanisms: Vec<String>,
    tried: Option<Mechanism>,
    /// `None`: nothing is said about channel-binding types (XEP-0440).
    bindings: Option<Vec<String>>,
}

impl Announced {
    pub(super) fn read(features: &Element) -> Self {
        let mechanisms = features.child(ns::SASL, "mechanisms").into_iter();
        let mechanisms = mechanisms
            .flat_map(Element::children)
            .filter(|child| child.is(ns::SASL, "mechanism"))
            .map(Element::text);
        let bindings = features
            .child(ns::SASL_CB, "sasl-channel-binding")
            .map(|list| {
                let types = list
                    .children()
                    .filter(|child| child.is(ns::SASL_CB, "channel-binding"));
                types
                    .filter_map(|child| child.attr("type"))
                    .map(str::to_owned)
                    .collect()
            });
        Self {
            mechanisms: mechanisms.collect(),
            tried: None,
            bindings,
        }
    }

    fn offers(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.iter().any(|name| name == mechanism.name())
    }

    /// It has been tried in vain.
    pub(super) fn forget(&mut self, mechanism: Mechanism) {
        self.tried = Some(mechanism);
    }

    /// The strongest of what both have and that is not weaker than `least`. PLAIN only where no
    /// SCRAM is offered (row cl-04).
    pub(super) fn choose(
        &self,
        means: &Means<'_>,
        least: Strength,
    ) -> Result<(Mechanism, Flag), Failure> {
        let ours = means.bindings;
        let binding = self.binding(ours);
        let is_plus = |offered| matches!(offered, Mechanism::Scram { plus: true, .. });
        let has_plus = Mechanism::all().any(|offered| is_plus(offered) && self.offers(offered));
        let is_scram = |offered| matches!(offered, Mechanism::Scram { .. });
        let has_scram = Mechanism::all().any(|offered| is_scram(offered) && self.offers(offered));
        // RFC 5802 section 6: `y` says that we could bind, but saw no offer.
        let unbound = match !has_plus && !ours.is_empty() {
            true => Flag::NotOffered,
            false => Flag::Unable,
        };
        let usable = |mechanism| match (mechanism, binding) {
            (Mechanism::External, _) => means.certificate.then_some(Flag::Unable),
            _ if !means.password => None,
            (Mechanism::Scram { plus: true, .. }, Some(name)) => Some(Flag::Bound(name)),
            (Mechanism::Scram { plus: true, .. }, None) => None,
            (Mechanism::Scram { plus: false, .. }, _) => Some(unbound),
            (Mechanism::Plain, _) => (means.plain && !has_scram).then_some(Flag::Unable),
        };
        let (mechanism, flag) = Mechanism::all()
            .filter(|mechanism| self.offers(*mechanism) && self.tried != Some(*mechanism))
            .find_map(|mechanism| usable(mechanism).map(|flag| (mechanism, flag)))
            .ok_or(Failure::NoMechanism)?;
        if Strength::from(mechanism) < least {
            return Err(Failure::Weaker);
        }
        Ok((mechanism, flag))
    }

    /// The strongest common type. With a server that names none nothing is bound: which type it has
    /// could only be guessed, and those that name none mean tls-unique, even under TLS 1.3.
    fn binding(&self, ours: &Bindings) -> Option<&'static str> {
        let theirs = self.bindings.as_ref()?;
        let mut names = ours.names().into_iter();
        names.find(|name| theirs.iter().any(|their| their == name))
    }

    /// The `h` of XEP-0474 over what we saw.
    pub(super) fn hash(&self, hash: ScramHash) -> String {
        let mechanisms: Vec<&str> = self.mechanisms.iter().map(String::as_str).collect();
        let bindings = self.bindings.as_ref();
        let bindings: Option<Vec<&str>> =
            bindings.map(|names| names.iter().map(String::as_str).collect());
        scram::announcement_hash(hash, &mechanisms, bindings.as_deref())
    }
}
